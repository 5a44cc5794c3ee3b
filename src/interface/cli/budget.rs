//! `tollgate budget`.

use clap::Subcommand;
use serde::Deserialize;

use super::client::{BudgetView, Server};
use super::failure::{Failure, output, say};
use super::storage::ConfigFile;
use super::table;
use crate::gateway::{GrantForm, PeriodForm};

/// What may be spent, and what is spent.
#[derive(Debug, Subcommand)]
pub(super) enum Budget {
    /// Show the accounts of the token's bearer, or, in the storage, of any consumer.
    #[command(after_help = "Examples:
  tollgate budget show
  tollgate budget show --consumer road-office --config tollgate.toml")]
    Show {
        /// The consumer, looked up in the storage that the configuration names; without it the server is asked.
        #[arg(long, value_name = "NAME")]
        consumer: Option<String>,
        #[command(flatten)]
        config: ConfigFile,
        #[command(flatten)]
        server: Server,
    },
    /// Grant a consumer a budget on a dataset. The owner's own cap stays in force beside it.
    #[command(
        after_help = "Example:\n  tollgate budget set road-office united.flights --epsilon 4 --delta 1e-6 --per lifetime"
    )]
    Set {
        /// The consumer.
        consumer: String,
        /// The dataset, `owner.name`.
        dataset: String,
        /// ε for each window.
        #[arg(long, value_name = "E", allow_negative_numbers = true)]
        epsilon: f64,
        /// δ for each window.
        #[arg(long, value_name = "D", allow_negative_numbers = true)]
        delta: f64,
        /// How long a window is.
        #[arg(long, value_name = "PER", value_enum)]
        per: Per,
        #[command(flatten)]
        config: ConfigFile,
    },
}

/// The length of a window.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(super) enum Per {
    /// A calendar month.
    Month,
    /// A quarter of a calendar year.
    Quarter,
    /// A calendar year.
    Year,
    /// For ever.
    Lifetime,
}

impl From<Per> for PeriodForm {
    fn from(per: Per) -> Self {
        match per {
            Per::Month => Self::Month,
            Per::Quarter => Self::Quarter,
            Per::Year => Self::Year,
            Per::Lifetime => Self::Lifetime,
        }
    }
}

/// What `GET /v1/budget` sends.
#[derive(Debug, Deserialize)]
struct BudgetDocument {
    budget: Vec<BudgetView>,
}

impl Budget {
    /// Does it.
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Show { consumer: Some(consumer), config, .. } => {
                let lines = config.administration().await?.budget_of(&consumer).await?;
                output(table::budget(&lines.into_iter().map(BudgetView::from).collect::<Vec<_>>()).as_bytes())
            }
            Self::Show { consumer: None, server, .. } => {
                let document: BudgetDocument = server.client()?.get("/v1/budget")?;
                output(table::budget(&document.budget).as_bytes())
            }
            Self::Set { consumer, dataset, epsilon, delta, per, config } => {
                let form = GrantForm { epsilon, delta, per: per.into() };
                config.administration().await?.set_budget(&consumer, &dataset, form).await?;
                say(&format!(
                    "{consumer} is granted ε {epsilon} and δ {delta} per {} on {dataset}",
                    PeriodForm::from(per).as_str()
                ));
                Ok(())
            }
        }
    }
}

impl From<crate::gateway::BudgetLine> for BudgetView {
    fn from(line: crate::gateway::BudgetLine) -> Self {
        Self {
            dataset: line.dataset,
            accounting: line.accounting.to_owned(),
            per: line.per.to_owned(),
            window: line.window,
            epsilon_limit: line.epsilon_limit,
            delta_limit: line.delta_limit,
            epsilon_spent: line.epsilon_spent,
            fraction_spent: line.fraction_spent,
        }
    }
}
