//! Lists, as tables for people and as documents for programs.

use clap::ValueEnum;
use serde_json::Value;

use super::failure::{Failure, output};
use super::table::{figure, table};

/// How a list is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum ListFormat {
    /// For eyes.
    #[default]
    Table,
    /// The whole document, as the server sends it.
    Json,
}

/// A column: its heading, and the member of each row that it shows.
pub(super) type Column = (&'static str, &'static str);

/// Writes `document`, whose member `rows` is the list.
pub(super) fn print(format: ListFormat, document: &Value, rows: &str, columns: &[Column]) -> Result<(), Failure> {
    match format {
        ListFormat::Table => output(as_table(document, rows, columns).as_bytes()),
        ListFormat::Json => output_json(document),
    }
}

/// Writes `document` for programs.
pub(super) fn output_json(document: &Value) -> Result<(), Failure> {
    output(format!("{document:#}\n").as_bytes())
}

pub(super) fn as_table(document: &Value, rows: &str, columns: &[Column]) -> String {
    let list = document.get(rows).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let headers: Vec<String> = columns.iter().map(|(heading, _)| (*heading).to_owned()).collect();
    let numeric: Vec<bool> = columns
        .iter()
        .map(|(_, member)| list.iter().any(|row| row.get(member).is_some_and(Value::is_number)))
        .collect();
    let cells = list.iter().map(|row| columns.iter().map(|(_, member)| cell(row.get(member))).collect());
    table(&headers, cells.collect(), &numeric)
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.split_whitespace().collect::<Vec<_>>().join(" "),
        Some(Value::Bool(yes)) => if *yes { "yes" } else { "no" }.to_owned(),
        Some(Value::Number(number)) if number.is_f64() => number.as_f64().map(figure).unwrap_or_default(),
        Some(other) => other.to_string(),
    }
}
