//! What waits for somebody's yes: requests for a larger budget, and queries of a new shape.

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::{AccountCharge, Grant, LedgerError};

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RequestState {
    /// Nobody has decided yet.
    Open,
    /// Yes.
    Approved,
    /// No.
    Denied,
}

impl RequestState {
    /// The word for it in storage and in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Approved => "approved",
            Self::Denied => "denied",
        }
    }

    pub(super) fn read(word: &str) -> Result<Self, LedgerError> {
        [Self::Open, Self::Approved, Self::Denied]
            .into_iter()
            .find(|state| state.as_str() == word)
            .ok_or(LedgerError::Corrupt { what: "state of a request" })
    }
}

/// A yes or a no, with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruling {
    /// Yes or no.
    pub yes: bool,
    /// Why.
    pub answer: Option<String>,
}

impl Ruling {
    /// What it makes of a request.
    #[must_use]
    pub const fn state(&self) -> RequestState {
        if self.yes { RequestState::Approved } else { RequestState::Denied }
    }
}

/// A consumer's request for a larger budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BudgetRequest {
    /// Its identifier.
    pub id: Uuid,
    /// Who asks.
    pub consumer: String,
    /// The dataset.
    pub dataset: String,
    /// What is asked for.
    pub grant: Grant,
    /// Why.
    pub reason: String,
    /// When.
    pub made: DateTime<Utc>,
    /// What became of it.
    pub state: RequestState,
    /// Who decided.
    pub decided_by: Option<String>,
    /// When.
    pub decided: Option<DateTime<Utc>>,
    /// Why.
    pub answer: Option<String>,
}

/// A query that is put before the stewards of `datasets`.
#[derive(Debug, Clone, PartialEq)]
pub struct ApprovalAsked {
    /// Who asks.
    pub consumer: String,
    /// The datasets whose stewards must agree.
    pub datasets: Vec<String>,
    /// What is asked, whatever the versions of data and policies.
    pub shape: [u8; 32],
    /// The SQL text.
    pub sql: String,
    /// The stated purpose.
    pub purpose: Option<String>,
    /// The answer of its dry run, as JSON.
    pub dry_run: String,
    /// When it was asked.
    pub made: DateTime<Utc>,
    /// Until when its price is reserved, and the yes holds.
    pub expires: DateTime<Utc>,
    /// What its releases would pay. What the asker's own accounts would pay is reserved until then; others' are not, since a
    /// question that nobody has agreed to must not stand in anybody else's way.
    pub lines: Vec<AccountCharge>,
    /// How exact it is: ρ or ε steps of the whole query. A yes covers no more.
    pub precision: u64,
}

/// A query that waits for one dataset's steward, or has been decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Approval {
    /// Its identifier, one for all datasets of the query.
    pub id: Uuid,
    /// The dataset.
    pub dataset: String,
    /// Who asks.
    pub consumer: String,
    /// The SQL text.
    pub sql: String,
    /// The stated purpose.
    pub purpose: Option<String>,
    /// The answer of its dry run, as JSON.
    #[serde(skip)]
    pub dry_run: String,
    /// When it was asked.
    pub made: DateTime<Utc>,
    /// Until when its price is reserved, and the yes holds.
    pub expires: DateTime<Utc>,
    /// What became of it.
    pub state: RequestState,
    /// Who decided.
    pub decided_by: Option<String>,
    /// When.
    pub decided: Option<DateTime<Utc>>,
    /// Why.
    pub answer: Option<String>,
}
