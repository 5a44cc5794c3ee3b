//! `tollgate consumer`.

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::{self, Place, part};
use super::failure::{Failure, say};
use super::listing::{self, ListFormat};

/// The consumers, in the storage that the configuration names or, with --url, of a gateway.
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
        place: Place,
    },
    /// List the consumers.
    #[command(after_help = "Example:\n  tollgate consumer list")]
    List {
        /// How the list is written.
        #[arg(long, value_enum, default_value_t)]
        format: ListFormat,
        #[command(flatten)]
        place: Place,
    },
    /// Refuse a consumer's questions from now on.
    #[command(after_help = "Example:\n  tollgate consumer freeze road-office")]
    Freeze {
        /// Its name.
        name: String,
        #[command(flatten)]
        place: Place,
    },
    /// Let a frozen consumer ask again.
    #[command(after_help = "Example:\n  tollgate consumer unfreeze road-office")]
    Unfreeze {
        /// Its name.
        name: String,
        #[command(flatten)]
        place: Place,
    },
}

impl Consumer {
    /// Does it.
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Add { name, agency, place } => {
                match place.server()? {
                    Some(client) => {
                        let body = client::json(&json!({ "name": name, "agency": agency }))?;
                        client.send("POST", "/v1/consumers", body)?;
                    }
                    None => place.administration().await?.add_consumer(&name, agency.as_deref()).await?,
                }
                say(&format!("added {name}; `tollgate token create --role analyst --consumer {name}` makes its token"));
                Ok(())
            }
            Self::List { format, place } => list(format, &place).await,
            Self::Freeze { name, place } => {
                set_frozen(&name, true, &place).await?;
                say(&format!("{name} is frozen"));
                Ok(())
            }
            Self::Unfreeze { name, place } => {
                set_frozen(&name, false, &place).await?;
                say(&format!("{name} may ask again"));
                Ok(())
            }
        }
    }
}

async fn set_frozen(name: &str, frozen: bool, place: &Place) -> Result<(), Failure> {
    match place.server()? {
        Some(client) => {
            let verb = if frozen { "freeze" } else { "unfreeze" };
            client.send("POST", &format!("/v1/consumers/{}/{verb}", part(name)), None)?;
        }
        None => place.administration().await?.set_frozen(name, frozen).await?,
    }
    Ok(())
}

async fn list(format: ListFormat, place: &Place) -> Result<(), Failure> {
    let mut document: Value = match place.server()? {
        Some(client) => client.get("/v1/consumers")?,
        None => json!({ "consumers": place.administration().await?.consumers().await? }),
    };
    if format == ListFormat::Table {
        for consumer in document["consumers"].as_array_mut().into_iter().flatten() {
            consumer["state"] = if consumer["frozen"] == true { "frozen" } else { "active" }.into();
            // To the second, as people read times.
            let created = consumer["created_at"].as_str().unwrap_or_default().chars().take(19).collect::<String>();
            consumer["created"] = format!("{created}Z").into();
        }
    }
    let columns = [("consumer", "name"), ("agency", "agency"), ("state", "state"), ("created", "created")];
    listing::print(format, &document, "consumers", &columns)
}
