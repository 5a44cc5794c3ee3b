//! `tollgate report`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IsTerminal};

use arrow::array::Array;
use arrow::ipc::reader::StreamReader;
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use super::client::{Form, Server};
use super::failure::{Failure, output, say};
use super::storage::ConfigFile;
use super::table::{figure, printable, table};
use crate::gateway::reports::{AccountsForm, SettlementForm, SpendForm, Tabular, TopForm};
use crate::interface::http::encoding::{rows_to_arrow_stream, rows_to_csv};

/// Reports over the ledger: of a running gateway with `--url`, else in the storage that the configuration names.
#[derive(Debug, Subcommand)]
pub(super) enum Report {
    /// What was spent, summed.
    #[command(after_help = "Examples:
  tollgate report spend --by dataset,day --from 2026-11-01 --to 2026-11-30
  tollgate report spend --by consumer --format csv --url http://127.0.0.1:8080")]
    Spend {
        /// By which of consumer, agency, dataset, purpose and day, with commas between them.
        #[arg(long, value_name = "WHAT")]
        by: Option<String>,
        #[command(flatten)]
        span: Span,
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        place: Place,
    },
    /// Each account: its window beside its lifetime, its limit, and when it will be used up.
    #[command(after_help = "Example:\n  tollgate report accounts --dataset united.flights")]
    Accounts {
        #[command(flatten)]
        of: Of,
        /// Earlier windows too.
        #[arg(long)]
        past: bool,
        /// Without days, forecast and restated ε, so that more can be listed.
        #[arg(long)]
        brief: bool,
        /// How many, from the one nearest to its limit.
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
        #[command(flatten)]
        place: Place,
    },
    /// The queries that cost most.
    #[command(after_help = "Example:\n  tollgate report top --from 2026-11-01 --limit 10")]
    Top {
        #[command(flatten)]
        span: Span,
        #[command(flatten)]
        of: Of,
        /// How many.
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
        #[command(flatten)]
        place: Place,
    },
    /// What each agency owes each company.
    #[command(after_help = "Example:\n  tollgate report settlement --from 2026-10-01 --to 2026-12-31 --format json")]
    Settlement {
        #[command(flatten)]
        span: Span,
        #[command(flatten)]
        place: Place,
    },
}

/// Which stretch of time.
#[derive(Debug, Clone, Args)]
pub(super) struct Span {
    /// From when on: a date (UTC) or a time (RFC 3339).
    #[arg(long, value_name = "WHEN")]
    from: Option<String>,
    /// Until when: a date, which is included, or a time, which is not.
    #[arg(long, value_name = "WHEN")]
    to: Option<String>,
}

/// Of whom, and of what.
#[derive(Debug, Clone, Args)]
pub(super) struct Of {
    /// Of this consumer alone.
    #[arg(long, value_name = "NAME")]
    consumer: Option<String>,
    /// Of this dataset alone.
    #[arg(long, value_name = "OWNER.NAME")]
    dataset: Option<String>,
}

/// Where the figures come from, and how they are written.
#[derive(Debug, Clone, Args)]
pub(super) struct Place {
    /// How the report is written. A table rounds; the others are exact.
    #[arg(long, value_enum, default_value_t = OutputFormat::Table)]
    format: OutputFormat,
    /// The gateway's address; without it the report is made in the storage.
    #[arg(long, env = "TOLLGATE_URL", value_name = "URL")]
    url: Option<String>,
    /// The caller's token, with `--url`. Other users of this machine can read a command line: prefer the environment.
    #[arg(long, env = "TOLLGATE_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
    #[command(flatten)]
    config: ConfigFile,
}

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    /// For eyes.
    Table,
    /// A header row, NULL as an empty field.
    Csv,
    /// The whole report.
    Json,
    /// An Arrow IPC stream.
    Arrow,
}

/// The columns that a table for eyes shows of the accounts, which have more than a terminal is wide.
const OF_ACCOUNTS: &[&str] = &[
    "scope",
    "subject",
    "dataset",
    "epoch",
    "window",
    "epsilon",
    "epsilon_limit",
    "fraction_spent",
    "lifetime_epsilon",
    "restated_epsilon",
    "exhausted",
    "renews",
];

impl Report {
    /// Does it.
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Spend { by, span: Span { from, to }, of: Of { consumer, dataset }, place } => {
                let form = SpendForm { by, from, to, consumer, dataset };
                let SpendForm { by, from, to, consumer, dataset } = form.clone();
                let parameters = [("by", by), ("from", from), ("to", to), ("consumer", consumer), ("dataset", dataset)];
                place.report("spend", parameters, &[], async |storage| storage.spend_report(&form).await).await
            }
            Self::Accounts { of: Of { consumer, dataset }, past, brief, limit, place } => {
                let form = AccountsForm { dataset, consumer, past, brief, limit };
                let parameters = [
                    ("dataset", form.dataset.clone()),
                    ("consumer", form.consumer.clone()),
                    ("past", past.then(|| "true".to_owned())),
                    ("brief", brief.then(|| "true".to_owned())),
                    ("limit", limit.map(|limit| limit.to_string())),
                ];
                place
                    .report("accounts", parameters, OF_ACCOUNTS, async |storage| storage.accounts_report(&form).await)
                    .await
            }
            Self::Top { span: Span { from, to }, of: Of { consumer, dataset }, limit, place } => {
                let form = TopForm { from, to, consumer, dataset, limit };
                let parameters = [
                    ("from", form.from.clone()),
                    ("to", form.to.clone()),
                    ("consumer", form.consumer.clone()),
                    ("dataset", form.dataset.clone()),
                    ("limit", limit.map(|limit| limit.to_string())),
                ];
                let columns = &["at", "consumer", "dataset", "loss", "epsilon", "sql"];
                place.report("top", parameters, columns, async |storage| storage.top_report(&form).await).await
            }
            Self::Settlement { span: Span { from, to }, place } => {
                let form = SettlementForm { from, to };
                let parameters = [("from", form.from.clone()), ("to", form.to.clone())];
                place
                    .report("settlement", parameters, &[], async |storage| {
                        let report = storage.settlement_report(&form).await?;
                        say(report.rule);
                        Ok(report)
                    })
                    .await
            }
        }
    }
}

impl Place {
    /// Makes the report where it is to be made, and prints it. `columns` are those of a table for eyes; none for all.
    async fn report<R: Tabular + Serialize>(
        &self,
        name: &str,
        parameters: impl IntoIterator<Item = (&'static str, Option<String>)>,
        columns: &[&str],
        of_storage: impl AsyncFnOnce(&crate::gateway::Administration) -> Result<R, crate::gateway::GatewayError>,
    ) -> Result<(), Failure> {
        if self.format == OutputFormat::Arrow && io::stdout().is_terminal() {
            return Err(Failure::ArrowToTerminal);
        }
        let Some(url) = &self.url else {
            let report = of_storage(&self.config.existing().await?).await?;
            return self.print_made(&report, columns);
        };
        let parameters: Vec<(&str, String)> =
            parameters.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        let form = match self.format {
            OutputFormat::Table | OutputFormat::Arrow => Form::Arrow,
            OutputFormat::Csv => Form::Csv,
            OutputFormat::Json => Form::Json,
        };
        let client = Server { url: url.clone(), token: self.token.clone() }.client()?;
        let mut body = client.read(&format!("/v1/reports/{name}"), &parameters, form)?;
        match self.format {
            OutputFormat::Table => {
                let read =
                    StreamReader::try_new(body.as_slice(), None).and_then(Iterator::collect::<Result<Vec<_>, _>>);
                let rows = read.map_err(|_| Failure::NotAGateway { url: url.clone() })?;
                output(for_eyes(&rows, columns)?.as_bytes())
            }
            OutputFormat::Json => {
                body.push(b'\n');
                output(&body)
            }
            OutputFormat::Csv | OutputFormat::Arrow => output(&body),
        }
    }

    /// Prints a report that was made in this process.
    fn print_made<R: Tabular + Serialize>(&self, report: &R, columns: &[&str]) -> Result<(), Failure> {
        let rows = report.batch()?;
        match self.format {
            OutputFormat::Table => output(for_eyes(&[rows], columns)?.as_bytes()),
            OutputFormat::Json => {
                let mut body = serde_json::to_vec(report).map_err(|_| Failure::Report)?;
                body.push(b'\n');
                output(&body)
            }
            OutputFormat::Csv => output(&rows_to_csv(&rows.schema(), &[rows]).map_err(|_| Failure::Report)?),
            OutputFormat::Arrow => output(&rows_to_arrow_stream(&rows.schema(), &[rows]).map_err(|_| Failure::Report)?),
        }
    }
}

/// The column that says whom the ε's of a row protect. It is too long for a table: it is said beneath, once.
const GUARANTEE: &str = "guarantee";

/// A table of the named columns, or of all, numbers rounded, with whom its ε's protect beneath.
fn for_eyes(batches: &[RecordBatch], columns: &[&str]) -> Result<String, Failure> {
    let Some(first) = batches.first() else { return Ok(String::new()) };
    let schema = first.schema();
    let shown: Vec<usize> = (0..schema.fields().len())
        .filter(|at| match schema.field(*at).name().as_str() {
            GUARANTEE => false,
            name => columns.is_empty() || columns.contains(&name),
        })
        .collect();
    let headers: Vec<String> = shown.iter().map(|at| schema.field(*at).name().replace('_', " ")).collect();
    let numeric: Vec<bool> = shown.iter().map(|at| schema.field(*at).data_type().is_numeric()).collect();
    let options = FormatOptions::default();
    let mut rows = Vec::new();
    for batch in batches {
        let mut written = Vec::with_capacity(shown.len());
        for at in &shown {
            let column = batch.column(*at);
            let formatter = ArrayFormatter::try_new(column.as_ref(), &options).map_err(|_| Failure::Report)?;
            let cell = |row: usize| {
                let text = if column.is_null(row) { String::new() } else { formatter.value(row).to_string() };
                match text.parse::<f64>() {
                    Ok(number) if column.data_type().is_floating() => figure(number),
                    _ => text,
                }
            };
            written.push((0..batch.num_rows()).map(cell).collect::<Vec<String>>());
        }
        rows.extend((0..batch.num_rows()).map(|row| written.iter().map(|column| column[row].clone()).collect()));
    }
    Ok(table(&headers, rows, &numeric) + &promised(batches)?)
}

/// Whom the ε's of a table protect, a line for each promise; with the datasets (or unit domains) that it is made of, where
/// there are several promises.
fn promised(batches: &[RecordBatch]) -> Result<String, Failure> {
    let options = FormatOptions::default();
    let mut promises: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for batch in batches {
        let Some(promise) = batch.column_by_name(GUARANTEE) else { continue };
        let words = ArrayFormatter::try_new(promise.as_ref(), &options).map_err(|_| Failure::Report)?;
        let names = batch.column_by_name("dataset").map(|names| ArrayFormatter::try_new(names.as_ref(), &options));
        let names = names.transpose().map_err(|_| Failure::Report)?;
        for row in (0..batch.num_rows()).filter(|row| !promise.is_null(*row)) {
            let of = promises.entry(words.value(row).to_string()).or_default();
            of.extend(names.as_ref().map(|names| names.value(row).to_string()));
        }
    }
    let several = promises.len() > 1;
    let line = |(words, of): (&String, &BTreeSet<String>)| {
        let of: Vec<&str> = of.iter().map(String::as_str).collect();
        let of = if several && !of.is_empty() { format!(" of {}", of.join(", ")) } else { String::new() };
        format!("promised{}: {}\n", printable(&of), printable(words))
    };
    Ok(promises.iter().map(line).collect())
}
