//! `tollgate consumer`.

use clap::Subcommand;

use super::failure::{Failure, output, say};
use super::storage::ConfigFile;
use super::table::table;

/// The consumers in the storage that the configuration names.
#[derive(Debug, Subcommand)]
pub(super) enum Consumer {
    /// Add a consumer.
    #[command(after_help = "Example:\n  tollgate consumer add road-office --agency transport")]
    Add {
        /// Its name.
        name: String,
        /// The agency that it belongs to.
        #[arg(long, value_name = "AGENCY")]
        agency: Option<String>,
        #[command(flatten)]
        config: ConfigFile,
    },
    /// List the consumers.
    #[command(after_help = "Example:\n  tollgate consumer list")]
    List {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Refuse a consumer's questions from now on.
    #[command(after_help = "Example:\n  tollgate consumer freeze road-office")]
    Freeze {
        /// Its name.
        name: String,
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Let a frozen consumer ask again.
    #[command(after_help = "Example:\n  tollgate consumer unfreeze road-office")]
    Unfreeze {
        /// Its name.
        name: String,
        #[command(flatten)]
        config: ConfigFile,
    },
}

impl Consumer {
    /// Does it.
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Add { name, agency, config } => {
                config.administration().await?.add_consumer(&name, agency.as_deref()).await?;
                say(&format!("added {name}; `tollgate token create --role analyst --consumer {name}` makes its token"));
            }
            Self::List { config } => output(list(&config).await?.as_bytes())?,
            Self::Freeze { name, config } => {
                config.administration().await?.set_frozen(&name, true).await?;
                say(&format!("{name} is frozen"));
            }
            Self::Unfreeze { name, config } => {
                config.administration().await?.set_frozen(&name, false).await?;
                say(&format!("{name} may ask again"));
            }
        }
        Ok(())
    }
}

async fn list(config: &ConfigFile) -> Result<String, Failure> {
    let consumers = config.administration().await?.consumers().await?;
    let rows = consumers.into_iter().map(|consumer| {
        let state = if consumer.frozen { "frozen" } else { "active" };
        let created = consumer.created_at.format("%Y-%m-%dT%H:%M:%SZ").to_string();
        vec![consumer.name, consumer.agency.unwrap_or_default(), state.to_owned(), created]
    });
    Ok(table(&["consumer", "agency", "state", "created"].map(str::to_owned), rows.collect(), &[]))
}
