//! `tollgate dataset`.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::{self, Client, Server, part};
use super::failure::{Failure, output, say};
use super::listing::{self, ListFormat};
use super::table::printable;

/// The datasets of a running gateway.
#[derive(Debug, Subcommand)]
pub(super) enum Dataset {
    /// List the datasets that may be asked about.
    #[command(after_help = "Example:\n  tollgate dataset list --url http://127.0.0.1:8080")]
    List {
        /// How the list is written.
        #[arg(long, value_enum, default_value_t)]
        format: ListFormat,
        #[command(flatten)]
        server: Server,
    },
    /// Register a dataset: a policy over Parquet in a folder that the operator has named for its owner.
    #[command(after_help = "Example:\n  tollgate dataset register united.hotels.toml --reason 'the new contract'")]
    Register {
        #[command(flatten)]
        sent: Sent,
    },
    /// Put a new version of a dataset's policy in force, for every query that begins after it.
    #[command(after_help = "Example:\n  tollgate dataset change united.flights.toml --reason 'larger groups'")]
    Change {
        #[command(flatten)]
        sent: Sent,
    },
    /// Answer no query from a dataset until it is resumed.
    #[command(
        after_help = "Example:\n  tollgate dataset suspend united.flights --reason 'the contract is being renewed'"
    )]
    Suspend {
        #[command(flatten)]
        named: Named,
    },
    /// Answer queries from a dataset again.
    #[command(after_help = "Example:\n  tollgate dataset resume united.flights")]
    Resume {
        #[command(flatten)]
        named: Named,
    },
    /// Answer no query from a dataset again, for good. Its accounts and the log stay.
    #[command(after_help = "Example:\n  tollgate dataset withdraw united.flights --reason 'the contract has ended'")]
    Withdraw {
        #[command(flatten)]
        named: Named,
    },
    /// List the versions of a dataset's policy, each with what it changed.
    #[command(after_help = "Example:\n  tollgate dataset versions united.flights")]
    Versions {
        /// The dataset, `owner.name`.
        name: String,
        /// How the list is written; only JSON has each version's text and diff.
        #[arg(long, value_enum, default_value_t)]
        format: ListFormat,
        #[command(flatten)]
        server: Server,
    },
    /// List who asked what of a dataset, when, for which purpose and at what cost; the newest first.
    #[command(after_help = "Examples:
  tollgate dataset queries united.flights
  tollgate dataset queries united.flights --before 118 --limit 1000 --format json")]
    Queries {
        /// The dataset, `owner.name`.
        name: String,
        /// Those before this charge alone: the last one of the page before.
        #[arg(long, value_name = "CHARGE")]
        before: Option<i64>,
        /// How many at most.
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: u64,
        /// How the list is written.
        #[arg(long, value_enum, default_value_t)]
        format: ListFormat,
        #[command(flatten)]
        server: Server,
    },
}

/// A policy that is sent.
#[derive(Debug, clap::Args)]
pub(super) struct Sent {
    /// The policy: TOML, or JSON of the same shape in a file that ends in `.json`.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Why, in one line; kept with the version and in the log.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// How what came into force is told.
    #[arg(long, value_enum, default_value_t)]
    format: ListFormat,
    #[command(flatten)]
    server: Server,
}

/// A dataset whose standing changes.
#[derive(Debug, clap::Args)]
pub(super) struct Named {
    /// The dataset, `owner.name`.
    name: String,
    /// Why, in one line. That of a suspension is told to every caller.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    server: Server,
}

impl Dataset {
    /// Does it.
    pub(super) fn run(self) -> Result<(), Failure> {
        match self {
            Self::List { format, server } => list(format, &server.client()?),
            Self::Register { sent } => send(&sent, "POST"),
            Self::Change { sent } => send(&sent, "PUT"),
            Self::Suspend { named: Named { name, reason, server } } => {
                let body = client::json(&json!({ "reason": reason.unwrap_or_default() }))?;
                server.client()?.send("POST", &format!("/v1/datasets/{}/suspend", part(&name)), body)?;
                say(&format!("{name} is suspended"));
                Ok(())
            }
            Self::Resume { named: Named { name, reason, server } } => {
                let path = format!("/v1/datasets/{}/resume{}", part(&name), why(reason.as_deref()));
                server.client()?.send("POST", &path, None)?;
                say(&format!("{name} is served again"));
                Ok(())
            }
            Self::Withdraw { named: Named { name, reason, server } } => {
                let path = format!("/v1/datasets/{}{}", part(&name), why(reason.as_deref()));
                server.client()?.send("DELETE", &path, None)?;
                say(&format!("{name} is withdrawn for good"));
                Ok(())
            }
            Self::Versions { name, format, server } => {
                let document = server.client()?.get(&format!("/v1/datasets/{}/versions", part(&name)))?;
                versions(format, &document)
            }
            Self::Queries { name, before, limit, format, server } => {
                let before = before.map(|before| format!("&before={before}")).unwrap_or_default();
                let path = format!("/v1/datasets/{}/queries?limit={limit}{before}", part(&name));
                let columns = [
                    ("charge", "charge"),
                    ("when", "at"),
                    ("consumer", "consumer"),
                    ("agency", "agency"),
                    ("purpose", "purpose"),
                    ("ρ", "rho"),
                    ("ε", "epsilon"),
                    ("δ", "delta"),
                    ("shared", "shared"),
                    ("log", "log_index"),
                    ("SQL", "sql"),
                ];
                listing::print(format, &server.client()?.get(&path)?, "queries", &columns)
            }
        }
    }
}

fn list(format: ListFormat, client: &Client) -> Result<(), Failure> {
    let mut document: Value = client.get("/v1/datasets")?;
    if format == ListFormat::Table {
        // A table has the facts of the policy beside those of the dataset.
        for dataset in document["datasets"].as_array_mut().into_iter().flatten() {
            for fact in ["unit", "min_group_size"] {
                dataset[fact] = dataset["privacy"][fact].clone();
            }
        }
    }
    let columns = [
        ("dataset", "name"),
        ("kind", "kind"),
        ("protects", "unit"),
        ("smallest group", "min_group_size"),
        ("description", "description"),
        ("not served", "suspended"),
    ];
    listing::print(format, &document, "datasets", &columns)
}

/// The parameter that says why.
fn why(reason: Option<&str>) -> String {
    reason.map(|reason| format!("?reason={}", part(reason))).unwrap_or_default()
}

fn send(sent: &Sent, method: &str) -> Result<(), Failure> {
    let Sent { file, reason, format, server } = sent;
    let text = std::fs::read_to_string(file)
        .map_err(|source| Failure::Io { what: format!("cannot read {}", file.display()), source })?;
    let is_json = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let name = match method {
        "PUT" => format!("/{}", part(&dataset_of(file, &text, is_json)?)),
        _ => String::new(),
    };
    let kind = if is_json { "application/json" } else { "application/toml" };
    let path = format!("/v1/datasets{name}{}", why(reason.as_deref()));
    let made: Value = server.client()?.call(method, &path, Some((kind, text.into_bytes())))?;
    for warning in texts(&made["warnings"]) {
        say(&format!("warning: {}", printable(warning)));
    }
    if *format == ListFormat::Json {
        return listing::output_json(&made);
    }
    let text = |member: &str| made[member].as_str().unwrap_or_default();
    let verb = if made["unchanged"] == true { "was in force already" } else { "is in force" };
    let mut said = format!("{}: version {} {verb}\n", printable(text("dataset")), printable(text("version")));
    for change in texts(&made["changes"]) {
        said.extend(["  ", &printable(change), "\n"]);
    }
    output(said.as_bytes())
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// Which dataset a policy is of, as far as its address needs it: the server reads the policy itself.
fn dataset_of(file: &Path, text: &str, is_json: bool) -> Result<String, Failure> {
    let policy: Option<Value> = if is_json { serde_json::from_str(text).ok() } else { toml::from_str(text).ok() };
    let policy = policy.unwrap_or_default();
    let of = |table: &str, key: &str| policy[table][key].as_str().map(str::to_owned);
    let dataset = of("dataset", "owner").zip(of("dataset", "name")).map(|(owner, name)| format!("{owner}.{name}"));
    dataset.or_else(|| of("collection", "name")).ok_or_else(|| Failure::NoName { path: file.to_owned() })
}

fn versions(format: ListFormat, document: &Value) -> Result<(), Failure> {
    let mut document = document.clone();
    if format == ListFormat::Table {
        for version in document["versions"].as_array_mut().into_iter().flatten() {
            version["told"] = texts(&version["changes"]).collect::<Vec<_>>().join("; ").into();
            version["short"] =
                version["version"].as_str().map(|digest| digest.chars().take(12).collect::<String>()).into();
        }
    }
    let columns = [
        ("version", "short"),
        ("since", "at"),
        ("by", "by"),
        ("from", "origin"),
        ("reason", "reason"),
        ("changes", "told"),
    ];
    listing::print(format, &document, "versions", &columns)
}
