//! What is known of a relation of the plan: the lattice of DESIGN 4.1.
//!
//! ```text
//! Public    anyone may read it          Private   each row belongs to exactly one unit, whose id is tracked
//! Released  made of released values     (a relation that is none of these is refused, never guessed)
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::common::ScalarValue;

use crate::policy::{DatasetName, DatasetPolicy, Uses};

use super::interval::Interval;

/// What is known of one column of a relation, or of one expression over it.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The policies' columns that it is made of, each with what it may be used for.
    pub sources: BTreeMap<String, Uses>,
    /// Where its values lie, if it is a number.
    pub interval: Option<Interval>,
    /// Its values as group keys, where they are known without the data.
    pub keys: Option<Arc<[ScalarValue]>>,
    /// It is the privacy unit's id itself, not something computed from it.
    pub is_unit: bool,
}

impl Facts {
    /// What is known of something computed from all of `parts`: whence it comes.
    pub fn computed_from<'a>(parts: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut sources = BTreeMap::new();
        for part in parts {
            sources.extend(part.sources.iter().map(|(name, uses)| (name.clone(), *uses)));
        }
        Self { sources, ..Self::default() }
    }

    /// The same with where its values lie.
    #[must_use]
    pub fn with_interval(self, interval: Option<Interval>) -> Self {
        Self { interval, ..self }
    }
}

/// A relation in which each row belongs to exactly one unit.
#[derive(Debug, Clone)]
pub struct PrivateRelation {
    /// Which column of the rewritten plan holds the unit's id.
    pub unit: usize,
    /// The identifier space of the unit.
    pub unit_domain: String,
    /// By column of the rewritten plan.
    pub columns: Vec<Facts>,
    /// The datasets that it reads, empty scans included.
    pub datasets: BTreeMap<DatasetName, Arc<DatasetPolicy>>,
}

/// A relation made of released values, and perhaps of public ones: post-processing.
#[derive(Debug, Clone)]
pub struct ReleasedRelation {
    /// By column: which output of which release it passes on unchanged.
    pub origins: Vec<Option<Origin>>,
}

/// One output of one release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// Index of the release in the query.
    pub release: usize,
    /// Index of the output among its aggregates.
    pub output: usize,
}

/// What a relation of the plan is.
#[derive(Debug, Clone)]
pub enum Relation {
    /// Anyone may read it. By column, what is known of its values.
    Public(Vec<Facts>),
    /// Each row belongs to one unit.
    Private(PrivateRelation),
    /// Post-processing.
    Released(ReleasedRelation),
}

impl Relation {
    /// By column, what is known of its values; nothing for a released relation.
    #[must_use]
    pub fn columns(&self) -> &[Facts] {
        match self {
            Self::Public(columns) => columns,
            Self::Private(private) => &private.columns,
            Self::Released(_) => &[],
        }
    }
}

/// The names of `datasets`, for a message.
#[must_use]
pub fn names(datasets: &BTreeMap<DatasetName, Arc<DatasetPolicy>>) -> String {
    datasets.keys().map(ToString::to_string).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ")
}
