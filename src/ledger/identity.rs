//! Who may ask: consumers, and the tokens that prove a role.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

use super::{BadToken, LedgerError};

/// The longest name of a consumer, agency or owner, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// Whether `name` can name a consumer, agency or owner: letters, digits and `._@-`, starting with a letter or digit.
pub(super) fn check_name(name: &str) -> Result<(), LedgerError> {
    let ok = name.len() <= MAX_NAME_BYTES
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '@' | '-'));
    if ok { Ok(()) } else { Err(LedgerError::InvalidName { max_bytes: MAX_NAME_BYTES }) }
}

/// A government office or project that asks, and pays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Consumer {
    /// Its name.
    pub name: String,
    /// The agency that it belongs to.
    pub agency: Option<String>,
    /// Whether an administrator has stopped it.
    pub frozen: bool,
    /// When it was added.
    pub created: DateTime<Utc>,
}

/// What the bearer of a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Asks, for one consumer.
    Analyst,
    /// Speaks for one owner's data.
    Steward,
    /// Grants budgets and freezes consumers.
    BudgetAdmin,
    /// Reads the audit log.
    Auditor,
    /// Runs the process.
    Operator,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] = [Self::Analyst, Self::Steward, Self::BudgetAdmin, Self::Auditor, Self::Operator];

    /// The role's name, as it is written on the command line, in JSON and in storage.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Analyst => "analyst",
            Self::Steward => "steward",
            Self::BudgetAdmin => "budget-admin",
            Self::Auditor => "auditor",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that names no role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("is not a role: write analyst, steward, budget-admin, auditor or operator")]
pub struct UnknownRole;

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(s: &str) -> Result<Self, UnknownRole> {
        Self::ALL.into_iter().find(|role| role.as_str() == s).ok_or(UnknownRole)
    }
}

/// What a token is to be made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// The role that it proves.
    pub role: Role,
    /// The consumer that it asks for: an analyst's, and nobody else's.
    pub consumer: Option<String>,
    /// The owner that it speaks for: a steward's, and nobody else's.
    pub owner: Option<String>,
}

impl NewToken {
    /// Whether the role has what it needs and nothing that it must not have.
    pub(super) fn validate(&self) -> Result<(), LedgerError> {
        match (self.role, &self.consumer, &self.owner) {
            (Role::Analyst, None, _) => return Err(BadToken::AnalystNeedsConsumer.into()),
            (Role::Steward, _, None) => return Err(BadToken::StewardNeedsOwner.into()),
            (Role::Analyst, Some(_), None)
            | (Role::Steward, None, Some(_))
            | (Role::BudgetAdmin | Role::Auditor | Role::Operator, None, None) => {}
            (role, Some(_), _) if role != Role::Analyst => return Err(BadToken::NoConsumerFor { role }.into()),
            (role, _, _) => return Err(BadToken::NoOwnerFor { role }.into()),
        }
        self.consumer.iter().chain(&self.owner).try_for_each(|name| check_name(name))
    }
}

/// What a token proves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Token {
    /// The name by which it is revoked. Not a secret.
    pub id: Uuid,
    /// The role.
    pub role: Role,
    /// The consumer that it asks for.
    pub consumer: Option<String>,
    /// The owner that it speaks for.
    pub owner: Option<String>,
    /// When it was made.
    pub created: DateTime<Utc>,
}

/// A token's secret, which is shown once.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenSecret(pub(super) String);

impl TokenSecret {
    /// The secret itself: `tg_` and 64 hexadecimal digits. For showing to its owner, never for a log.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret(…)")
    }
}
