//! The answer as CSV (RFC 4180): a header row, CRLF, and NULL as an empty field; an empty string is `""`.

use arrow::datatypes::Schema;
use arrow::record_batch::RecordBatch;

use super::EncodingError;
use super::cell::{Cell, Rows};
use crate::gateway::Answer;

/// `answer` as CSV; a dry run has a header row alone.
///
/// # Errors
/// When Arrow cannot cast a column to the type that it is written in.
pub(in super::super) fn to_csv(answer: &Answer) -> Result<Vec<u8>, EncodingError> {
    rows_to_csv(&answer.schema, answer.rows.as_deref().unwrap_or_default())
}

/// Rows under `schema` as CSV.
///
/// # Errors
/// When Arrow cannot cast a column to the type that it is written in.
pub(in crate::interface) fn rows_to_csv(schema: &Schema, rows: &[RecordBatch]) -> Result<Vec<u8>, EncodingError> {
    let mut text = String::new();
    push_record(&mut text, schema.fields().iter().map(|field| quoted(field.name())));
    for row in Rows::read(rows)?.iter() {
        let fields = row.cells().map(field).collect::<Result<Vec<_>, _>>()?;
        push_record(&mut text, fields.into_iter());
    }
    Ok(text.into_bytes())
}

fn push_record(text: &mut String, fields: impl Iterator<Item = String>) {
    for (index, field) in fields.enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(&field);
    }
    text.push_str("\r\n");
}

/// One field. Numbers have the digits that JSON gives them; lists and structs are JSON.
fn field(cell: &Cell) -> Result<String, EncodingError> {
    Ok(match cell {
        Cell::Null => String::new(),
        Cell::Text(text) => quoted(text),
        other => quoted(&serde_json::to_string(other)?),
    })
}

/// `text` in quotes where RFC 4180 wants them, and where nothing would be left to tell it from NULL.
fn quoted(text: &str) -> String {
    let plain = !text.is_empty() && !text.contains([',', '"', '\r', '\n']) && text.trim().len() == text.len();
    if plain { text.to_owned() } else { format!("\"{}\"", text.replace('"', "\"\"")) }
}
