//! An answer as bytes, in each of the forms that it can take.

mod arrow_stream;
mod cell;
mod csv;
mod json;
#[cfg(test)]
mod tests;

use arrow::error::ArrowError;
use thiserror::Error;

pub(in crate::interface) use arrow_stream::rows_to_arrow_stream;
pub(super) use arrow_stream::to_arrow_stream;
pub(in crate::interface) use csv::rows_to_csv;
pub(super) use csv::to_csv;
pub(super) use json::{AnswerDocument, to_json};

/// Why an answer could not be written. A fault of the gateway: an answer's types are all known to Arrow.
#[derive(Debug, Error)]
pub(in crate::interface) enum EncodingError {
    /// Arrow could not cast or write a column.
    #[error("an answer's column could not be written: {0}")]
    Arrow(#[from] ArrowError),
    /// The JSON could not be written.
    #[error("an answer could not be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}
