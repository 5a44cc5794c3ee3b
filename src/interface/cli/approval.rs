//! `tollgate approval`.

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::{self, Server, part};
use super::failure::{Failure, say};
use super::listing::{self, ListFormat};

/// Queries that wait for a steward's yes (`approval = "manual"` in a policy).
#[derive(Debug, Subcommand)]
pub(super) enum Approval {
    /// List the queries that wait, and those that were decided.
    #[command(after_help = "Examples:
  tollgate approval list
  tollgate approval list --format json      # with each query's dry run")]
    List {
        /// How the list is written; only JSON has the dry runs.
        #[arg(long, value_enum, default_value_t)]
        format: ListFormat,
        #[command(flatten)]
        server: Server,
    },
    /// Let a query of this shape be answered, now and later.
    #[command(after_help = "Example:\n  tollgate approval approve 0198c0de-0000-7000-8000-000000000000 united.flights")]
    Approve {
        #[command(flatten)]
        decision: Decision,
    },
    /// Refuse a query of this shape. What was reserved for it is given back.
    #[command(
        after_help = "Example:\n  tollgate approval deny 0198c0de-0000-7000-8000-000000000000 united.flights --answer 'too fine'"
    )]
    Deny {
        #[command(flatten)]
        decision: Decision,
    },
}

/// What is decided.
#[derive(Debug, clap::Args)]
pub(super) struct Decision {
    /// The approval, as the list has it.
    id: String,
    /// The dataset that the decision is about, `owner.name`.
    dataset: String,
    /// Why, in one line; whoever asks reads it.
    #[arg(long, value_name = "TEXT")]
    answer: Option<String>,
    #[command(flatten)]
    server: Server,
}

impl Approval {
    /// Does it.
    pub(super) fn run(self) -> Result<(), Failure> {
        match self {
            Self::List { format, server } => {
                let columns = [
                    ("approval", "id"),
                    ("dataset", "dataset"),
                    ("state", "state"),
                    ("consumer", "consumer"),
                    ("purpose", "purpose"),
                    ("asked", "made"),
                    ("reserved until", "expires"),
                    ("SQL", "sql"),
                ];
                listing::print(format, &server.client()?.get("/v1/approvals")?, "approvals", &columns)
            }
            Self::Approve { decision } => decide(&decision, true),
            Self::Deny { decision } => decide(&decision, false),
        }
    }
}

fn decide(decision: &Decision, approve: bool) -> Result<(), Failure> {
    let Decision { id, dataset, answer, server } = decision;
    let body = client::json(&json!({ "approve": approve, "answer": answer }))?;
    let path = format!("/v1/approvals/{}/{}", part(id), part(dataset));
    let decided: Value = server.client()?.call("POST", &path, body)?;
    say(&format!("the query is {} for {dataset}", decided["state"].as_str().unwrap_or("decided")));
    Ok(())
}
