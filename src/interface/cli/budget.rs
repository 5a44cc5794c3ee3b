//! `tollgate budget`.

use clap::Subcommand;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::client::{self, BudgetView, Place, Server, part};
use super::failure::{Failure, output, say};
use super::listing::{self, ListFormat};
use super::table::{self, printable};
use crate::gateway::{GrantForm, PeriodForm};

/// What may be spent, what is spent, and who asks for more.
#[derive(Debug, Subcommand)]
pub(super) enum Budget {
    /// Show the accounts of the token's bearer, or those of any consumer.
    #[command(after_help = "Examples:
  tollgate budget show
  tollgate budget show --consumer road-office --config tollgate.toml")]
    Show {
        /// The consumer: looked up in the storage or, with --url, by a budget administrator's token. Without it the server
        /// is asked for the bearer's own accounts.
        #[arg(long, value_name = "NAME")]
        consumer: Option<String>,
        /// How the list is written.
        #[arg(long, value_enum, default_value_t)]
        format: ListFormat,
        #[command(flatten)]
        place: Place,
    },
    /// Grant a consumer a budget on a dataset. The owner's own cap stays in force beside it.
    #[command(
        after_help = "Example:\n  tollgate budget set road-office united.flights --epsilon 4 --delta 1e-6 --per lifetime"
    )]
    Set {
        /// The consumer.
        consumer: String,
        /// The dataset, `owner.name`, or a unit domain, `domain:NAME`.
        dataset: String,
        #[command(flatten)]
        amount: Amount,
        #[command(flatten)]
        place: Place,
    },
    /// Ask the budget administrator for a larger budget, with an analyst's token.
    #[command(
        after_help = "Example:\n  tollgate budget request united.flights --epsilon 4 --delta 1e-6 --per month --reason 'the winter report'"
    )]
    Request {
        /// The dataset, `owner.name`, or a unit domain, `domain:NAME`.
        dataset: String,
        #[command(flatten)]
        amount: Amount,
        /// Why, in one line.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        server: Server,
    },
    /// List the requests for larger budgets: all of them, or, with an analyst's token, its consumer's own.
    #[command(after_help = "Example:\n  tollgate budget requests")]
    Requests {
        /// How the list is written.
        #[arg(long, value_enum, default_value_t)]
        format: ListFormat,
        #[command(flatten)]
        place: Place,
    },
    /// Grant what was asked for, if the owner still allows it.
    #[command(
        after_help = "Example:\n  tollgate budget approve 0198c0de-0000-7000-8000-000000000000 --answer 'until March'"
    )]
    Approve {
        #[command(flatten)]
        decision: Decision,
    },
    /// Refuse what was asked for.
    #[command(
        after_help = "Example:\n  tollgate budget deny 0198c0de-0000-7000-8000-000000000000 --answer 'ask for less'"
    )]
    Deny {
        #[command(flatten)]
        decision: Decision,
    },
}

/// How much, and for how long.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct Amount {
    /// ε for each window.
    #[arg(long, value_name = "E", allow_negative_numbers = true)]
    epsilon: f64,
    /// δ for each window.
    #[arg(long, value_name = "D", allow_negative_numbers = true)]
    delta: f64,
    /// How long a window is.
    #[arg(long, value_name = "PER", value_enum)]
    per: Per,
}

impl From<Amount> for GrantForm {
    fn from(Amount { epsilon, delta, per }: Amount) -> Self {
        Self { epsilon, delta, per: per.into() }
    }
}

/// What is decided.
#[derive(Debug, clap::Args)]
pub(super) struct Decision {
    /// The request, as the list has it.
    id: Uuid,
    /// Why, in one line; whoever asks reads it.
    #[arg(long, value_name = "TEXT")]
    answer: Option<String>,
    #[command(flatten)]
    place: Place,
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
            Self::Show { consumer, format, place } => show(consumer.as_deref(), format, &place).await,
            Self::Set { consumer, dataset, amount, place } => {
                let form = GrantForm::from(amount);
                match place.server()? {
                    Some(client) => {
                        let path = format!("/v1/budgets/{}/{}", part(&consumer), part(&dataset));
                        client.send("PUT", &path, client::json(&form)?)?;
                    }
                    None => place.administration().await?.set_budget(&consumer, &dataset, form).await?,
                }
                let GrantForm { epsilon, delta, per } = form;
                say(&format!("{consumer} is granted ε {epsilon} and δ {delta} per {} on {dataset}", per.as_str()));
                Ok(())
            }
            Self::Request { dataset, amount, reason, server } => {
                let GrantForm { epsilon, delta, per } = amount.into();
                let body = client::json(&json!({
                    "dataset": dataset, "epsilon": epsilon, "delta": delta, "per": per, "reason": reason,
                }))?;
                let made: Value = server.client()?.call("POST", "/v1/budget/requests", body)?;
                output(format!("{}\n", printable(made["id"].as_str().unwrap_or_default())).as_bytes())?;
                say("asked; `tollgate budget requests` shows what became of it");
                Ok(())
            }
            Self::Requests { format, place } => {
                let document = match place.server()? {
                    Some(client) => client.get("/v1/budget/requests")?,
                    None => json!({ "requests": place.administration().await?.budget_requests().await? }),
                };
                let columns = [
                    ("request", "id"),
                    ("state", "state"),
                    ("consumer", "consumer"),
                    ("dataset", "dataset"),
                    ("ε", "epsilon"),
                    ("δ", "delta"),
                    ("per", "per"),
                    ("reason", "reason"),
                    ("answer", "answer"),
                ];
                listing::print(format, &document, "requests", &columns)
            }
            Self::Approve { decision } => decide(decision, true).await,
            Self::Deny { decision } => decide(decision, false).await,
        }
    }
}

async fn show(consumer: Option<&str>, format: ListFormat, place: &Place) -> Result<(), Failure> {
    let document: Value = match (consumer, place.server()?) {
        (Some(consumer), None) => json!({ "budget": place.administration().await?.budget_of(consumer).await? }),
        (Some(consumer), Some(client)) => client.get(&format!("/v1/consumers/{}/budget", part(consumer)))?,
        (None, _) => place.usual_server()?.get("/v1/budget")?,
    };
    if format == ListFormat::Json {
        return listing::output_json(&document);
    }
    let document: BudgetDocument =
        serde_json::from_value(document).map_err(|_| Failure::NotAGateway { url: place.address() })?;
    output(table::budget(&document.budget).as_bytes())
}

async fn decide(Decision { id, answer, place }: Decision, approve: bool) -> Result<(), Failure> {
    match place.server()? {
        Some(client) => {
            let body = client::json(&json!({ "approve": approve, "answer": answer }))?;
            client.send("POST", &format!("/v1/budget/requests/{id}"), body)?;
        }
        None => {
            place.administration().await?.decide_budget_request(id, approve, answer.as_deref()).await?;
        }
    }
    say(&format!("request {id} is {}", if approve { "approved" } else { "denied" }));
    Ok(())
}
