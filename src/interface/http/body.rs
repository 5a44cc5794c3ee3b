//! What callers send besides questions: JSON objects, and the parameters after the `?`.

use axum::body::Bytes;
use axum::extract::Query;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use utoipa::ToSchema;
use uuid::Uuid;

use super::problem::Problem;
use crate::gateway::Code;

/// A decision about what somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Verdict {
    /// Yes, or no.
    pub(super) approve: bool,
    /// Why, in one line; whoever asked reads it.
    #[serde(default)]
    pub(super) answer: Option<String>,
}

/// Reads an object out of a body. `fields` says in words which it has.
///
/// # Errors
/// `request_invalid` with the place that is wrong: the parser's own words may quote the body.
pub(super) fn object<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>, fields: &str) -> Result<T, Problem> {
    serde_json::from_slice(&body?)
        .map_err(|error| malformed(&error, "what this path takes", &format!("send an object with {fields}")))
}

/// What is wrong with a body that is not `what`, by its place: the parser's own words may quote the body.
pub(super) fn malformed(error: &serde_json::Error, what: &str, hint: &str) -> Problem {
    let (line, column) = (error.line(), error.column());
    let detail = match error.classify() {
        Category::Eof if line <= 1 && column == 0 => "the body is empty".to_owned(),
        Category::Eof => format!("the body ends too early, at line {line}, column {column}"),
        Category::Syntax => format!("the body is not JSON at line {line}, column {column}"),
        Category::Data | Category::Io => format!(
            "the body is JSON, but not {what}, at line {line}, column {column}: a field is missing, \
                 unknown, given twice or of the wrong type"
        ),
    };
    Problem::new(Code::RequestInvalid, detail).with_hint(hint)
}

/// The parameters after the `?`. `which` says in words what there is.
///
/// # Errors
/// `request_invalid` when one is not known or not of its type.
pub(super) fn parameters<T>(found: Result<Query<T>, QueryRejection>, which: &str) -> Result<T, Problem> {
    found.map(|Query(found)| found).map_err(|_| {
        Problem::new(Code::RequestInvalid, "a parameter after the `?` is missing, unknown or of the wrong type")
            .with_hint(format!("this path takes {which}"))
    })
}

/// The identifier in a path. What is none names nothing.
///
/// # Errors
/// `not_found`.
pub(super) fn identifier(text: &str, what: &str) -> Result<Uuid, Problem> {
    text.parse().map_err(|_| {
        Problem::new(Code::NotFound, format!("there is no {what} of that identifier"))
            .with_hint("the list of them has their identifiers, which are UUIDs")
    })
}
