//! Whether a dataset is served, and all that is recorded of one.

use std::path::PathBuf;

use crate::policy::PolicyFile;

use super::Roots;

/// Whether a dataset is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// It is.
    Active,
    /// Not now.
    Suspended {
        /// Why, in its steward's words, which every caller may read. May be empty.
        reason: String,
    },
    /// Never again. Its accounts live on, so that neither its name nor its places are free.
    Withdrawn,
}

impl Status {
    /// The word for it.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended { .. } => "suspended",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// A policy in force, or the last of a dataset that was withdrawn.
#[derive(Debug, Clone)]
pub struct Registered {
    pub(super) policy: PolicyFile,
    pub(super) status: Status,
    pub(super) former: Vec<String>,
    pub(super) roots: Option<Roots>,
}

impl Registered {
    /// `policy`, which the operator has placed. `former_locations` are those of all its earlier versions, which stay taken:
    /// what was asked of the data there is on the accounts of this dataset.
    #[must_use]
    pub fn new(policy: PolicyFile, status: Status, former_locations: Vec<String>) -> Self {
        Self { policy, status, former: former_locations, roots: None }
    }

    /// The same where its steward has named the place: no file outside `roots` is ever read for it.
    #[must_use]
    pub fn within(mut self, roots: impl IntoIterator<Item = PathBuf>) -> Self {
        self.roots = Some(Roots::new(roots));
        self
    }
}
