//! Policies as the storage keeps them: every version, and each dataset's state.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::LedgerError;

/// Whether a dataset is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DatasetState {
    /// It is.
    Active,
    /// Not until its steward resumes it.
    Suspended,
    /// Never again.
    Withdrawn,
}

impl DatasetState {
    /// The word for it in storage and in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Withdrawn => "withdrawn",
        }
    }

    pub(super) fn read(word: &str) -> Result<Self, LedgerError> {
        [Self::Active, Self::Suspended, Self::Withdrawn]
            .into_iter()
            .find(|state| state.as_str() == word)
            .ok_or(LedgerError::Corrupt { what: "state of a dataset" })
    }
}

impl fmt::Display for DatasetState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a version of a policy came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyOrigin {
    /// A file of the policies' folder.
    File,
    /// A steward, through the server.
    Steward,
    /// The operator, at the command line.
    Operator,
}

impl PolicyOrigin {
    /// The word for it in storage and in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Steward => "steward",
            Self::Operator => "operator",
        }
    }

    pub(super) fn read(word: &str) -> Result<Self, LedgerError> {
        [Self::File, Self::Steward, Self::Operator]
            .into_iter()
            .find(|origin| origin.as_str() == word)
            .ok_or(LedgerError::Corrupt { what: "origin of a policy" })
    }
}

/// A version of a policy that is to come into force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPolicy {
    /// The dataset, public table or collection.
    pub dataset: String,
    /// SHA-256 of the canonical text, in hex.
    pub version: String,
    /// The TOML text.
    pub text: String,
    /// The folder that a relative location in the text is relative to.
    pub base: String,
    /// Whether its steward named the place of the data, so that it is held to the owner's folders.
    pub held_to_roots: bool,
    /// What the location resolved to; a collection has none.
    pub location: Option<String>,
    /// Where it came from.
    pub origin: PolicyOrigin,
    /// Why, in the steward's words.
    pub reason: Option<String>,
    /// What changed, as JSON.
    pub changes: String,
    /// The number of changes of the catalog that it was held against; it comes into force only while that is the storage's.
    pub at_changes: Option<i64>,
}

/// A version of a policy that came into force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyVersion {
    /// Its place in the order of all versions of all policies.
    pub number: i64,
    /// The dataset.
    pub dataset: String,
    /// SHA-256 of the canonical text, in hex.
    pub version: String,
    /// The TOML text.
    pub text: String,
    /// The folder that a relative location in the text is relative to.
    #[serde(skip)]
    pub base: String,
    /// Whether its steward named the place of the data.
    #[serde(skip)]
    pub held_to_roots: bool,
    /// What the location resolved to.
    #[serde(skip)]
    pub location: Option<String>,
    /// Where it came from.
    pub origin: PolicyOrigin,
    /// Who put it in force.
    pub actor: String,
    /// Why.
    pub reason: Option<String>,
    /// What changed, as JSON.
    #[serde(skip)]
    pub changes: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// A dataset as it stands: its newest policy and its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatedPolicy {
    /// The newest version.
    pub policy: PolicyVersion,
    /// Whether it is answered.
    pub state: DatasetState,
    /// Why it is not.
    pub reason: Option<String>,
    /// The places of the data of its earlier versions, which stay taken.
    pub former_locations: Vec<String>,
}
