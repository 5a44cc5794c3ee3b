//! What goes wrong, as a caller is told it: a stable code, a sentence, and what to do next. Never a data value.

use serde::Serialize;
use utoipa::ToSchema;

/// The stable code of a refusal or a failure; each interface maps it once (STYLE 19).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The SQL could not be read, or names something that does not exist.
    SqlInvalid,
    /// A parameter of the request is out of range (ε of 0, an unknown column in `bounds`, ...).
    RequestInvalid,
    /// No token, or one that is not known.
    Unauthenticated,
    /// The caller's role, or the policy, does not allow it.
    NotAllowed,
    /// The dataset's policy does not list the purpose.
    PurposeNotAllowed,
    /// The dataset is suspended, withdrawn or past its `valid_until`.
    DatasetSuspended,
    /// An account on the query's path cannot bear the charge.
    BudgetExceeded,
    /// No such thing.
    NotFound,
    /// The idempotency key was used for another request.
    IdempotencyConflict,
    /// The statement, the key domain or the answer is past a limit.
    TooLarge,
    /// The query has no private answer as it is written.
    QueryNotPrivate,
    /// A policy that cannot be served as it is written.
    PolicyInvalid,
    /// The name is taken, or what is there does not allow it.
    Conflict,
    /// The query waits for a steward's yes.
    ApprovalPending,
    /// The ledger does not agree with the checkpoint that is kept outside it.
    LedgerFrozen,
    /// Too many requests.
    RateLimited,
    /// The gateway has no room now.
    Overloaded,
    /// The query took too long; it was charged.
    TimedOut,
    /// A source cannot be read; its owner or the operator has to act.
    SourceUnavailable,
    /// A fault of the gateway itself; logged for the operator.
    Internal,
}

impl Code {
    /// The code as it is written in messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SqlInvalid => "sql_invalid",
            Self::RequestInvalid => "request_invalid",
            Self::Unauthenticated => "unauthenticated",
            Self::NotAllowed => "not_allowed",
            Self::PurposeNotAllowed => "purpose_not_allowed",
            Self::DatasetSuspended => "dataset_suspended",
            Self::BudgetExceeded => "budget_exceeded",
            Self::NotFound => "not_found",
            Self::IdempotencyConflict => "idempotency_conflict",
            Self::TooLarge => "too_large",
            Self::QueryNotPrivate => "query_not_private",
            Self::PolicyInvalid => "policy_invalid",
            Self::Conflict => "conflict",
            Self::ApprovalPending => "approval_pending",
            Self::LedgerFrozen => "ledger_frozen",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::TimedOut => "timed_out",
            Self::SourceUnavailable => "source_unavailable",
            Self::Internal => "internal",
        }
    }

    /// Its HTTP status (DESIGN 3.3).
    #[must_use]
    pub const fn http_status(self) -> u16 {
        match self {
            Self::SqlInvalid | Self::RequestInvalid | Self::PolicyInvalid => 400,
            Self::Unauthenticated => 401,
            Self::BudgetExceeded => 402,
            Self::NotAllowed | Self::PurposeNotAllowed | Self::DatasetSuspended | Self::ApprovalPending => 403,
            Self::NotFound => 404,
            Self::IdempotencyConflict | Self::Conflict => 409,
            Self::TooLarge => 413,
            Self::QueryNotPrivate => 422,
            Self::RateLimited => 429,
            Self::Internal => 500,
            Self::Overloaded | Self::SourceUnavailable | Self::LedgerFrozen => 503,
            Self::TimedOut => 504,
        }
    }
}

/// A refusal or a failure that a caller may read. Made only from policy, SQL and public facts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct GatewayError {
    /// The stable code.
    pub code: Code,
    /// What happened and where, in a sentence.
    pub detail: String,
    /// What to do next.
    pub hint: Option<String>,
}

impl GatewayError {
    /// An error without a hint.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), hint: None }
    }

    /// The same with what to do next.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
