//! What is known of a relation of the plan: the lattice of DESIGN 4.1.
//!
//! ```text
//! Public    anyone may read it          Private   each row belongs to exactly one unit, whose id is tracked
//! Released  made of released values     (a relation that is none of these is refused, never guessed)
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::Expr;

use crate::policy::{DatasetName, DatasetPolicy, EpochKind, Uses};

use super::calendar::Calendar;
use super::expression::Scope;
use super::interval::Interval;

/// The values that a group key may have, known without the data.
#[derive(Debug, Clone, PartialEq)]
pub enum Keys {
    /// These.
    Listed(Arc<[ScalarValue]>),
    /// Those of a column of a public relation.
    Table {
        /// Index of the relation in the analysis.
        table: usize,
        /// Which of its columns.
        column: usize,
        /// NULL is one of them beside those: an outer join may find no row.
        or_null: bool,
    },
}

/// What is known of one column of a relation, or of one expression over it.
#[derive(Debug, Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, known or not")]
pub struct Facts {
    /// The policies' columns that it is made of, each with what it may be used for.
    pub sources: BTreeMap<String, Uses>,
    /// Where its values lie, if it is a number.
    pub interval: Option<Interval>,
    /// Its values as group keys, where they are known without the data.
    pub keys: Option<Keys>,
    /// It is the privacy unit's id itself, not something computed from it.
    pub is_unit: bool,
    /// A unit has one value of it in all of its rows, says the owner; enforced where it is used.
    pub per_unit: bool,
    /// The identifier space in which its value names one unit, says the owner; enforced where it is used.
    pub unit_key: Option<String>,
    /// Of how many columns' values it may be as long, if it is a text.
    pub texts: u32,
    /// A condition that every row meets leaves no NULL in it.
    pub not_null: bool,
    /// It numbers the rows of each unit from 1.
    pub numbers_rows: bool,
    /// What it says of the row's epoch, if it is made of the time of a dataset with epochs.
    pub calendar: Option<Calendar>,
}

impl Facts {
    /// What is known of something computed from all of `parts`: whence it comes.
    pub fn computed_from<'a>(parts: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut sources = BTreeMap::new();
        let (mut per_unit, mut texts) = (true, 0u32);
        for part in parts {
            texts = texts.saturating_add(part.texts);
            sources.extend(part.sources.iter().map(|(name, uses)| (name.clone(), *uses)));
            per_unit &= part.per_unit;
        }
        Self { sources, per_unit, texts, ..Self::default() }
    }

    /// Its values as group keys, where they are listed.
    #[must_use]
    pub fn listed(&self) -> Option<&Arc<[ScalarValue]>> {
        match &self.keys {
            Some(Keys::Listed(listed)) => Some(listed),
            _ => None,
        }
    }

    /// The same with where its values lie.
    #[must_use]
    pub fn with_interval(self, interval: Option<Interval>) -> Self {
        Self { interval, ..self }
    }

    /// The same column in rows of which some are filled up with NULL by an outer join.
    #[must_use]
    pub fn or_null(self) -> Self {
        let keys = match self.keys {
            Some(Keys::Table { table, column, .. }) => Some(Keys::Table { table, column, or_null: true }),
            Some(Keys::Listed(listed)) => with_null(&listed).map(Keys::Listed),
            None => None,
        };
        // The filled-up column is NULL for a unit whose other rows have a value.
        Self {
            keys,
            is_unit: false,
            per_unit: false,
            unit_key: None,
            not_null: false,
            numbers_rows: false,
            calendar: None,
            ..self
        }
    }
}

fn with_null(listed: &Arc<[ScalarValue]>) -> Option<Arc<[ScalarValue]>> {
    if listed.iter().any(ScalarValue::is_null) {
        return Some(Arc::clone(listed));
    }
    let null = ScalarValue::try_from(&listed.first()?.data_type()).ok()?;
    Some(listed.iter().cloned().chain([null]).collect())
}

/// The epochs of a relation's rows.
#[derive(Debug, Clone)]
pub struct EpochColumn {
    /// Which column of the rewritten plan holds the epoch's number.
    pub column: usize,
    /// How long the epochs are.
    pub kind: EpochKind,
    /// By dataset, the numbers of the epochs that are read, each of which is charged.
    pub read: BTreeMap<DatasetName, BTreeSet<i32>>,
}

impl EpochColumn {
    /// The epochs that are read of some dataset.
    #[must_use]
    pub fn numbers(&self) -> BTreeSet<i32> {
        self.read.values().flatten().copied().collect()
    }

    /// The same with what another relation reads.
    #[must_use]
    pub fn with(mut self, other: &Self) -> Self {
        for (name, epochs) in &other.read {
            self.read.entry(name.clone()).or_default().extend(epochs);
        }
        self
    }
}

/// A relation in which each row belongs to exactly one unit; with epochs, to exactly one pair of a unit and an epoch, and all
/// that is said of a unit below is then said of a pair.
#[derive(Debug, Clone)]
pub struct PrivateRelation {
    /// Which column of the rewritten plan holds the unit's id.
    pub unit: usize,
    /// The identifier space of the unit.
    pub unit_domain: String,
    /// Where its datasets have epochs.
    pub epoch: Option<EpochColumn>,
    /// By column of the rewritten plan.
    pub columns: Vec<Facts>,
    /// The datasets that it reads, empty scans included.
    pub datasets: BTreeMap<DatasetName, Arc<DatasetPolicy>>,
    /// How many rows one unit has at most, where the plan proves it.
    pub rows: Option<u64>,
    /// Columns of which each unit has every combination of values at most once, where the plan proves it.
    pub unique: Option<BTreeSet<usize>>,
    /// Expressions that conditions have narrowed to a list of values.
    pub narrowed: Vec<(Expr, Arc<[ScalarValue]>)>,
    /// Public relations of which every row is to be a group, since an outer join keeps them: release by their columns.
    pub preserved: BTreeSet<usize>,
}

impl PrivateRelation {
    /// The columns, as expressions may name them.
    #[must_use]
    pub fn scope<'a>(&'a self, schema: &'a DFSchema) -> Scope<'a> {
        Scope { schema, columns: &self.columns, narrowed: &self.narrowed }
    }

    /// The same rows seen through other columns: what was known of combinations of the old ones is forgotten.
    #[must_use]
    pub fn with_columns(self, unit: usize, epoch: Option<usize>, columns: Vec<Facts>) -> Self {
        let epoch = self.epoch.zip(epoch).map(|(known, column)| EpochColumn { column, ..known });
        Self { unit, epoch, columns, unique: None, narrowed: Vec::new(), ..self }
    }
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

/// The names of `datasets`, for a message.
#[must_use]
pub fn names(datasets: &BTreeMap<DatasetName, Arc<DatasetPolicy>>) -> String {
    datasets.keys().map(ToString::to_string).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ")
}
