//! Why a query has no private answer, and how to write one that has.

use std::fmt;

/// What kind of refusal it is; the gateway maps it to a code that callers see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// As it is written, the query cannot be answered privately.
    NotPrivate,
    /// A policy forbids what the query does with a column.
    NotAllowed,
    /// More groups than are answered at once.
    TooLarge,
    /// A parameter beside the SQL is out of range.
    Request,
    /// The plan did not have the shape that was expected of it: a fault of the analysis, never an answer.
    Internal,
}

/// A refusal: made of the query's own text and of policies, never of data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Its kind.
    pub kind: RefusalKind,
    /// Which clause, and why.
    pub detail: String,
    /// A rewrite that works, or what else to do.
    pub hint: Option<String>,
}

impl Refusal {
    pub(crate) fn not_private(detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { kind: RefusalKind::NotPrivate, detail: detail.into(), hint: Some(hint.into()) }
    }

    pub(crate) fn not_allowed(detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { kind: RefusalKind::NotAllowed, detail: detail.into(), hint: Some(hint.into()) }
    }

    pub(crate) fn too_large(detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { kind: RefusalKind::TooLarge, detail: detail.into(), hint: Some(hint.into()) }
    }

    pub(crate) fn request(detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { kind: RefusalKind::Request, detail: detail.into(), hint: Some(hint.into()) }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Refusal {}

impl From<datafusion::common::DataFusionError> for Refusal {
    /// Rebuilding a plan that DataFusion itself made should not fail. The error names columns of the plan, no data.
    fn from(error: datafusion::common::DataFusionError) -> Self {
        Self { kind: RefusalKind::Internal, detail: error.strip_backtrace(), hint: None }
    }
}
