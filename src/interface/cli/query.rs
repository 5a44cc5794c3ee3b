//! `tollgate query`.

use std::io::{self, IsTerminal, Read};

use clap::{Args, ValueEnum};

use super::client::{AnswerView, Form, HeaderFacts, Server};
use super::failure::{Failure, output, say};
use super::table::{self, figure, percent, printable};
use crate::gateway::{BoundsRequest, Question, TargetError};

/// Asks one SELECT statement; the answer goes to standard output, its price to standard error.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tollgate query \"SELECT origin, count(*) AS n FROM united.flights GROUP BY origin\" --epsilon 0.2
  tollgate query --dry-run \"SELECT avg(dep_delay) FROM airlines.flights\"
  tollgate query --format csv - < question.sql > answer.csv")]
pub(super) struct Query {
    /// One SELECT statement; `-` reads it from standard input.
    #[arg(allow_hyphen_values = true)]
    sql: String,
    /// The price of the whole query; the policy's default when absent.
    #[arg(long, value_name = "E", allow_negative_numbers = true)]
    epsilon: Option<f64>,
    /// The smallest price at which every column is as exact as this in groups of `--group-size` units: 0.1 is 10 %.
    #[arg(long, value_name = "SHARE", conflicts_with = "epsilon")]
    target_error: Option<f64>,
    /// The number of units, of one row each, that `--target-error` is about.
    #[arg(long, value_name = "UNITS", default_value_t = 1_000)]
    group_size: u64,
    /// How many groups one unit counts in, where the policy allows more: less noise, and some rows left out.
    #[arg(long, value_name = "N")]
    max_groups: Option<u32>,
    /// How many rows of one unit count in a group, where the policy allows more.
    #[arg(long, value_name = "N")]
    max_rows: Option<u32>,
    /// Say what share of units and rows was bounded or clamped (JSON only): noised, out of the same price.
    #[arg(long)]
    diagnostics: bool,
    /// What the answer is for, where a policy asks.
    #[arg(long, value_name = "PURPOSE")]
    purpose: Option<String>,
    /// Price and expected error only: reads no data, costs nothing.
    #[arg(long)]
    dry_run: bool,
    /// Add `NAME_half_width_95` beside each released column.
    #[arg(long)]
    with_error_columns: bool,
    /// A retry under the same key is never charged twice.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// How the answer is written. Tables round numbers to what their error leaves meaning to; the others are exact.
    #[arg(long, value_enum, default_value_t = OutputFormat::Table)]
    format: OutputFormat,
    #[command(flatten)]
    server: Server,
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    /// For eyes.
    Table,
    /// A header row, NULL as an empty field.
    Csv,
    /// The whole answer, with its accuracy, price and accounts.
    Json,
    /// An Arrow IPC stream.
    Arrow,
}

impl Query {
    /// Asks and prints.
    pub(super) fn run(self) -> Result<(), Failure> {
        if self.format == OutputFormat::Arrow && io::stdout().is_terminal() {
            return Err(Failure::ArrowToTerminal);
        }
        let client = self.server.client()?;
        let question = Question {
            sql: statement(self.sql)?,
            epsilon: self.epsilon,
            target_error: self.target_error.map(|relative| TargetError { relative, group_size: self.group_size }),
            bounds: (self.max_groups.is_some() || self.max_rows.is_some()).then(|| BoundsRequest {
                max_groups_per_unit: self.max_groups,
                max_rows_per_unit_per_group: self.max_rows,
                ..BoundsRequest::default()
            }),
            diagnostics: self.diagnostics,
            purpose: self.purpose,
            dry_run: self.dry_run,
            with_error_columns: self.with_error_columns,
            idempotency_key: self.idempotency_key,
        };
        let form = match self.format {
            OutputFormat::Table | OutputFormat::Json => Form::Json,
            OutputFormat::Csv => Form::Csv,
            OutputFormat::Arrow => Form::Arrow,
        };
        let mut reply = client.ask(&question, form)?;
        match self.format {
            OutputFormat::Table => {
                let answer: AnswerView = serde_json::from_slice(&reply.body)
                    .map_err(|_| Failure::NotAGateway { url: self.server.url.clone() })?;
                print(&answer)
            }
            OutputFormat::Json => {
                reply.body.push(b'\n');
                output(&reply.body)
            }
            OutputFormat::Csv | OutputFormat::Arrow => {
                output(&reply.body)?;
                say(&price(&reply.facts));
                Ok(())
            }
        }
    }
}

/// The statement, read from standard input where it is `-`.
fn statement(sql: String) -> Result<String, Failure> {
    if sql != "-" {
        return Ok(sql);
    }
    let mut text = String::new();
    io::stdin()
        .read_to_string(&mut text)
        .map_err(|source| Failure::Io { what: "cannot read the statement from standard input".to_owned(), source })?;
    Ok(text)
}

/// Prints `answer` as a table, and its price on standard error.
pub(super) fn print(answer: &AnswerView) -> Result<(), Failure> {
    output(table::answer(answer).as_bytes())?;
    say(&facts(answer));
    Ok(())
}

fn price(facts: &HeaderFacts) -> String {
    let number =
        |text: &Option<String>| text.as_deref().and_then(|text| text.parse().ok()).map_or("?".to_owned(), figure);
    let paid = if facts.cached { "; paid for before, so free" } else { "" };
    format!("ε {} at δ {}{paid}", number(&facts.epsilon), number(&facts.delta))
}

/// What an answer cost, what is left, and which groups it shows: a line each.
pub(super) fn facts(answer: &AnswerView) -> String {
    let accounts = answer.budget.iter().map(|line| {
        let spent = percent(line.fraction_spent);
        format!("{}: {spent} of the budget spent ({})", printable(&line.dataset), printable(&line.window))
    });
    let groups = &answer.groups;
    let selection = (groups.min_size > 1 || !groups.public).then(|| {
        let (least, likely) = (groups.min_size, groups.units_to_appear_95);
        format!("groups: none of fewer than {least} units appears; one of {likely} does with 95 %")
    });
    // Said where it is less than one may think of first: per unit and epoch.
    let epochs = answer.privacy.epochs.iter().map(|(dataset, read)| {
        let read: Vec<_> = read.iter().map(|epoch| printable(epoch)).collect();
        format!("{}: read {}", printable(dataset), read.join(", "))
    });
    let promised = (!answer.privacy.epochs.is_empty()).then(|| printable(&answer.privacy.guarantee).into_owned());
    std::iter::once(cost(answer))
        .chain(accounts)
        .chain(epochs)
        .chain(promised)
        .chain(selection)
        .collect::<Vec<_>>()
        .join("\n")
}

/// What an answer cost, and whom.
fn cost(answer: &AnswerView) -> String {
    let privacy = &answer.privacy;
    let price = format!("ε {} at δ {}", figure(privacy.epsilon), figure(privacy.delta));
    let rho = privacy.rho.map(|rho| format!(" (ρ {})", figure(rho))).unwrap_or_default();
    let selection = match privacy.delta_selection {
        delta if delta > 0.0 => format!(", δ {} for choosing groups", figure(delta)),
        _ => String::new(),
    };
    let payers = if privacy.cached {
        "; paid for before, so free".to_owned()
    } else if privacy.charges.is_empty() {
        String::new()
    } else {
        let accounts: Vec<_> = privacy.charges.iter().map(|charge| printable(&charge.account)).collect();
        // An explanation has rows and costs nothing.
        let explains =
            matches!(&answer.columns[..], [column] if column.name == "plan") && matches!(answer.accuracy[..], [None]);
        let verb = if answer.rows.is_some() && !explains { "charged to" } else { "would be charged to" };
        format!("; {verb} {}", accounts.join(", "))
    };
    price + &rho + &selection + &payers
}
