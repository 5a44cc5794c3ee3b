//! Tables for a terminal.

use std::borrow::Cow;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use serde_json::Value;

use super::client::{AnswerView, BudgetView};

/// How many significant digits of its half-width a number is written to: more would be digits of noise.
const ERROR_DIGITS: i32 = 2;
/// How many decimals a number has whose error is not known.
const PLAIN_DECIMALS: usize = 4;

/// `text` without what a terminal would obey. Names and keys are other people's words.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        Cow::Owned(text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect())
    } else {
        Cow::Borrowed(text)
    }
}

/// A table with `headers`; the columns of `numeric` are set to the right.
pub(super) fn table(headers: &[String], rows: Vec<Vec<String>>, numeric: &[bool]) -> String {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_header(headers.iter().map(|header| lines(header)));
    for row in rows {
        table.add_row(row.iter().map(|cell| printable(cell).into_owned()));
    }
    for (column, numeric) in table.column_iter_mut().zip(numeric) {
        if *numeric {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = table.to_string();
    text.push('\n');
    text
}

/// A header may have a second line, which is ours.
fn lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

/// The rows of an answer, or, for a dry run, what each column will be.
pub(super) fn answer(answer: &AnswerView) -> String {
    match &answer.rows {
        Some(rows) => answer_rows(answer, rows),
        None => answer_forecast(answer),
    }
}

fn half_width(answer: &AnswerView, column: usize) -> Option<f64> {
    answer.accuracy.get(column)?.as_ref()?.half_width_95
}

fn by_row(answer: &AnswerView, column: usize) -> bool {
    answer.accuracy.get(column).and_then(Option::as_ref).is_some_and(|accuracy| accuracy.per_row)
}

fn answer_rows(answer: &AnswerView, rows: &[Vec<Value>]) -> String {
    let names: Vec<&str> = answer.columns.iter().map(|column| column.name.as_str()).collect();
    let headers: Vec<String> = (0..names.len())
        .map(|column| match half_width(answer, column) {
            // Where the errors have columns of their own, saying them twice would only widen the table.
            Some(width) if !names.contains(&format!("{}_half_width_95", names[column]).as_str()) => {
                format!("{}\n± {} (95 %)", printable(names[column]), figure(width))
            }
            // A ratio's error is not one number; a figure without any would look exact.
            None if by_row(answer, column) && !names.contains(&format!("{}_half_width_95", names[column]).as_str()) => {
                format!("{}\n± by row", printable(names[column]))
            }
            _ => printable(names[column]).into_owned(),
        })
        .collect();
    let numeric: Vec<bool> =
        (0..names.len()).map(|column| rows.iter().any(|row| row.get(column).is_some_and(Value::is_number))).collect();
    let cells =
        rows.iter().map(|row| row.iter().enumerate().map(|(at, value)| cell(value, half_width(answer, at))).collect());
    table(&headers, cells.collect(), &numeric)
}

fn answer_forecast(answer: &AnswerView) -> String {
    let headers = ["column", "type", "± (95 %)", "mechanism"].map(str::to_owned);
    let rows = answer.columns.iter().enumerate().map(|(at, column)| {
        let accuracy = answer.accuracy.get(at).and_then(Option::as_ref);
        let error = match accuracy {
            Some(accuracy) if accuracy.per_row => "by row".to_owned(),
            Some(accuracy) => accuracy.half_width_95.map(figure).unwrap_or_default(),
            None => String::new(),
        };
        let mechanism = accuracy.map(|accuracy| accuracy.mechanism.clone()).unwrap_or_default();
        vec![column.name.clone(), column.data_type.clone(), error, mechanism]
    });
    table(&headers, rows.collect(), &[false, false, true, false])
}

/// One value. Numbers with a fraction are written to the digits that their error leaves meaning to.
fn cell(value: &Value, half_width: Option<f64>) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => {
            number.as_f64().map_or_else(String::new, |number| match half_width {
                Some(width) if width > 0.0 => format!("{number:.0$}", decimals(width)),
                _ => trimmed(format!("{number:.PLAIN_DECIMALS$}")),
            })
        }
        other => other.to_string(),
    }
}

/// How many decimals show [`ERROR_DIGITS`] digits of an error of `width`.
fn decimals(width: f64) -> usize {
    usize::try_from(ERROR_DIGITS - whole_digits(width).max(-12)).unwrap_or(0)
}

/// How many digits `size` has before its point; zero or less where it begins after it.
#[allow(clippy::cast_possible_truncation, reason = "the logarithm of a double is a small number")]
fn whole_digits(size: f64) -> i32 {
    size.log10().floor() as i32 + 1
}

/// A figure in four significant digits at most: `0.2`, `1e-9`, `4620`.
pub(super) fn figure(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 {
        "0".to_owned()
    } else if !(1e-4..1e6).contains(&size) {
        let text = format!("{value:.3e}");
        match text.split_once('e') {
            Some((digits, exponent)) => format!("{}e{exponent}", trimmed(digits.to_owned())),
            None => text,
        }
    } else {
        trimmed(format!("{value:.0$}", usize::try_from(4 - whole_digits(size)).unwrap_or(0)))
    }
}

/// Without the zeros after a point that say nothing.
fn trimmed(text: String) -> String {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Accounts, one a row.
pub(super) fn budget(lines: &[BudgetView]) -> String {
    let headers = ["dataset", "accounting", "window", "ε limit", "ε spent", "δ limit", "spent"].map(str::to_owned);
    let rows = lines.iter().map(|line| {
        let window = if line.window == line.per { line.per.clone() } else { format!("{} {}", line.per, line.window) };
        vec![
            line.dataset.clone(),
            line.accounting.clone(),
            window,
            figure(line.epsilon_limit),
            figure(line.epsilon_spent),
            figure(line.delta_limit),
            percent(line.fraction_spent),
        ]
    });
    table(&headers, rows.collect(), &[false, false, false, true, true, true, true])
}

/// A fraction in per cent.
pub(super) fn percent(fraction: f64) -> String {
    format!("{} %", figure(fraction * 100.0))
}
