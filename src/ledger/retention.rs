//! What may be forgotten, and how old it must be. docs/decisions/0014-retention.md says why these and nothing else.

use chrono::{DateTime, Utc};
use serde::Serialize;

/// Before when each kind of what may be forgotten goes. What has no time is kept for ever.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Expiry {
    /// Idempotency keys that were given before this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_keys: Option<DateTime<Utc>>,
    /// Requests that were over before this: budget requests that were decided; queries that waited for a steward and were
    /// not allowed; amounts that were reserved for such queries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settled_requests: Option<DateTime<Utc>>,
    /// Alerts that were given before this, of accounts whose window is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub past_alerts: Option<DateTime<Utc>>,
    /// Tokens that were revoked before this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_tokens: Option<DateTime<Utc>>,
    /// The windows of budgets that are now. An alert of an account in one of them stays, however old it is: it would be given
    /// again. Where none is named, no alert goes.
    #[serde(skip)]
    pub present_windows: Vec<String>,
}

impl Expiry {
    /// Whether everything is kept for ever.
    #[must_use]
    pub const fn keeps_all(&self) -> bool {
        self.idempotency_keys.is_none()
            && self.settled_requests.is_none()
            && self.past_alerts.is_none()
            && self.revoked_tokens.is_none()
    }
}

/// How much was forgotten, or may be: rows of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Forgotten {
    /// Idempotency keys.
    pub idempotency_keys: u64,
    /// Budget requests.
    pub budget_requests: u64,
    /// Queries that waited for a steward, one for each dataset.
    pub approvals: u64,
    /// Reserved amounts, one for each account.
    pub reservations: u64,
    /// Alerts.
    pub alerts: u64,
    /// Revoked tokens.
    pub tokens: u64,
}

impl Forgotten {
    /// Whether there is nothing of any kind.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Both together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            idempotency_keys: self.idempotency_keys.saturating_add(other.idempotency_keys),
            budget_requests: self.budget_requests.saturating_add(other.budget_requests),
            approvals: self.approvals.saturating_add(other.approvals),
            reservations: self.reservations.saturating_add(other.reservations),
            alerts: self.alerts.saturating_add(other.alerts),
            tokens: self.tokens.saturating_add(other.tokens),
        }
    }
}
