//! Lists in a statement: of values that a column is one of, and of rows that are inserted.
//!
//! A batch of charges has another number of rows each time. A text for each number would have to be read and planned each
//! time, which cost more than running it; so lists of every length share a few texts, which stay prepared:
//!
//! ```text
//! SQLite       … WHERE name IN (?, ?, ?, ?)                                    filled up with the last value
//!              INSERT … SELECT * FROM (VALUES (?, ?), (?, ?), …) WHERE …        filled up with rows of NULL, which are left out
//! PostgreSQL   … WHERE name = ANY ($1)          INSERT … SELECT * FROM unnest ($1, $2, …)       one array for each column
//! ```

use super::super::LedgerError;
use super::database::Value;

/// The lengths of lists that have a text: a list has the next larger one. Longer lists of values are not kept prepared;
/// longer lists of rows are inserted in several statements.
const LENGTHS: [usize; 5] = [1, 4, 16, 64, 256];

/// The most parameters of a text that is kept prepared: SQLite holds memory for each.
const MAX_KEPT_PARAMETERS: usize = 4096;

/// What must not be: a list of rows in which a value has another type than those above it, or a row begins with NULL.
const UNEVEN: LedgerError = LedgerError::Corrupt { what: "list of rows" };

/// The least length that has a text and holds `count`, if there is one.
fn length_for(count: usize) -> Option<usize> {
    LENGTHS.into_iter().find(|length| *length >= count)
}

/// `before IN (…) after` for SQLite, with the values that it is to be given, and whether it is one of few texts.
pub(super) fn sqlite_within(before: &str, mut values: Vec<Value>, after: &str) -> (String, Vec<Value>, bool) {
    let length = length_for(values.len()).filter(|_| !values.is_empty());
    if let (Some(length), Some(last)) = (length, values.last().cloned()) {
        // Once more in a list changes nothing.
        values.resize(length, last);
    }
    let mut text = String::with_capacity(before.len() + after.len() + values.len() * 2 + 16);
    text.push_str(before);
    text.push_str(" IN (");
    if values.is_empty() {
        text.push_str("NULL");
    }
    push_places(&mut text, values.len());
    text.push_str(") ");
    text.push_str(after);
    (text, values, length.is_some())
}

/// `?, ?, …`, `count` of them.
fn push_places(text: &mut String, count: usize) {
    for at in 0..count {
        text.push_str(if at == 0 { "?" } else { ", ?" });
    }
}

/// `before` and rows of `columns` values each `after` for SQLite: statements enough for all, each with its values.
///
/// # Errors
/// When a row begins with NULL: those are what lists are filled up with, and left out.
pub(super) fn sqlite_rows(
    before: &str,
    columns: usize,
    values: Vec<Value>,
    after: &str,
) -> Result<Vec<(String, Vec<Value>)>, LedgerError> {
    if values.chunks(columns).any(|row| row.len() != columns || row.first().is_none_or(Value::is_null)) {
        return Err(UNEVEN);
    }
    let most = LENGTHS.into_iter().rev().find(|length| length * columns <= MAX_KEPT_PARAMETERS).unwrap_or(1);
    let mut statements = Vec::with_capacity(values.len() / (most * columns) + 1);
    let mut left = values.len() / columns;
    let mut values = values.into_iter();
    while left > 0 {
        let taken = left.min(most);
        left -= taken;
        let length = length_for(taken).unwrap_or(most);
        let mut rows = Vec::with_capacity(length * columns);
        rows.extend(values.by_ref().take(taken * columns));
        rows.resize(length * columns, Value::Int(None));
        let mut text = String::with_capacity(before.len() + after.len() + length * (columns * 3 + 4) + 64);
        text.push_str(before);
        text.push_str(" SELECT * FROM (VALUES ");
        for row in 0..length {
            text.push_str(if row == 0 { "(" } else { ", (" });
            push_places(&mut text, columns);
            text.push(')');
        }
        text.push_str(") WHERE column1 IS NOT NULL ");
        text.push_str(after);
        statements.push((text, rows));
    }
    Ok(statements)
}

/// One column of values, as PostgreSQL takes it: an array of its type.
#[derive(Debug)]
pub(super) enum Array {
    Int(Vec<Option<i64>>),
    Text(Vec<Option<String>>),
    Bytes(Vec<Option<Vec<u8>>>),
}

impl Array {
    fn beginning_with(value: Value, rows: usize) -> Self {
        fn with<T>(value: T, rows: usize) -> Vec<T> {
            let mut column = Vec::with_capacity(rows);
            column.push(value);
            column
        }
        match value {
            Value::Int(value) => Self::Int(with(value, rows)),
            Value::Text(value) => Self::Text(with(value, rows)),
            Value::Bytes(value) => Self::Bytes(with(value, rows)),
        }
    }

    fn push(&mut self, value: Value) -> Result<(), LedgerError> {
        match (self, value) {
            (Self::Int(column), Value::Int(value)) => column.push(value),
            (Self::Text(column), Value::Text(value)) => column.push(value),
            (Self::Bytes(column), Value::Bytes(value)) => column.push(value),
            (Self::Int(_) | Self::Text(_) | Self::Bytes(_), _) => return Err(UNEVEN),
        }
        Ok(())
    }

    const fn sql_type(&self) -> &'static str {
        match self {
            Self::Int(_) => "bigint[]",
            Self::Text(_) => "text[]",
            Self::Bytes(_) => "bytea[]",
        }
    }
}

/// The columns of rows of `columns` values each.
///
/// # Errors
/// When a value has another type than the first of its column.
fn arrays(values: Vec<Value>, columns: usize) -> Result<Vec<Array>, LedgerError> {
    let rows = values.len() / columns;
    if rows * columns != values.len() {
        return Err(UNEVEN);
    }
    let mut arrays: Vec<Array> = Vec::with_capacity(columns);
    for (at, value) in values.into_iter().enumerate() {
        match arrays.get_mut(at % columns) {
            Some(array) => array.push(value)?,
            None => arrays.push(Array::beginning_with(value, rows)),
        }
    }
    Ok(arrays)
}

/// `before = ANY (…) after` for PostgreSQL, with the array that it is to be given.
///
/// # Errors
/// When the values are of several types.
pub(super) fn postgres_within(
    before: &str,
    values: Vec<Value>,
    after: &str,
) -> Result<(String, Vec<Array>), LedgerError> {
    let arrays = arrays(values, 1)?;
    let text = match arrays.first() {
        Some(array) => format!("{before} = ANY ($1::{}) {after}", array.sql_type()),
        None => format!("{before} IN (NULL) {after}"),
    };
    Ok((text, arrays))
}

/// `before` and rows of `columns` values each `after` for PostgreSQL, with one array for each column.
///
/// # Errors
/// When a value has another type than the first of its column.
pub(super) fn postgres_rows(
    before: &str,
    columns: usize,
    values: Vec<Value>,
    after: &str,
) -> Result<(String, Vec<Array>), LedgerError> {
    let arrays = arrays(values, columns)?;
    let places: Vec<String> =
        arrays.iter().enumerate().map(|(at, array)| format!("${}::{}", at + 1, array.sql_type())).collect();
    Ok((format!("{before} SELECT * FROM unnest({}) {after}", places.join(", ")), arrays))
}
