//! Advice on a policy that is valid: what its owner may not have meant.

use std::fmt;
use std::path::PathBuf;

use super::column::Use;
use super::error::write_place;
use super::model::{Accounting, DatasetPolicy};
use super::source::{Position, key_path};
use crate::accounting::{Delta, Epsilon};

/// One piece of advice, with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Warning {
    /// The file, as it was named to us.
    pub file: PathBuf,
    /// Where in the file: the key, or the section that it would stand in.
    pub position: Option<Position>,
    /// The key, such as `columns.fare.bounds`.
    pub key: String,
    /// What may not have been meant.
    pub advice: Advice,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_place(f, &self.file, self.position, &self.key)?;
        write!(f, "{}", self.advice)
    }
}

impl Warning {
    pub(super) fn new(policy: &DatasetPolicy, key: String, advice: Advice) -> Self {
        let position = policy.source.position(&key);
        Self { file: policy.source.path().to_owned(), position, key, advice }
    }
}

/// What an owner may not have meant.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "each field is named in its variant's message, which is the documentation")]
pub enum Advice {
    /// An ε beyond what promises much.
    #[error("{epsilon} is a large epsilon: above {LARGE_EPSILON} the promise to each unit is weak")]
    LargeEpsilon { epsilon: Epsilon },
    /// A δ that may let a unit slip through.
    #[error("{delta:e} is a large delta: choose one far below 1 divided by the number of units")]
    LargeDelta { delta: f64 },
    /// Pure accounting without δ, and a hard minimum.
    #[error(
        "every query will be refused: a min_group_size above 1 costs delta, and per_consumer has none; set min_group_size = 1 or give a delta"
    )]
    NothingAnswered,
    /// Pure accounting without δ, and no public groups.
    #[error(
        "queries with groups will be refused: without a delta only public groups are answered, and no column has any"
    )]
    NoGroupsAnswered,
    /// A cap that the others imply.
    #[error(
        "{rows} has no effect: max_groups_per_unit times max_rows_per_unit_per_group is {product}, which is no more"
    )]
    RowCapUnused { rows: u64, product: u64 },
    /// Bounds on what may not be aggregated.
    #[error("these bounds are not used: `access` does not let the column be aggregated")]
    BoundsUnused,
    /// A number without bounds.
    #[error("has no bounds: it can be counted, but not summed or averaged unless a query clamps it")]
    NoBounds,
    /// Bounds beyond what the column's type holds.
    #[error("reaches beyond what {found} can hold, and the noise follows the bounds: narrow them")]
    BoundsBeyondType { found: String },
}

/// The ε above which a cap is remarked on.
const LARGE_EPSILON: f64 = 10.0;

/// The δ above which a cap is remarked on.
const LARGE_DELTA: f64 = 1e-4;

/// Advice on a policy alone, without its data's schema.
#[must_use]
pub fn advise(policy: &DatasetPolicy) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let mut warn = |key: String, advice| warnings.push(Warning::new(policy, key, advice));
    advise_budget(policy, &mut warn);
    advise_privacy(policy, &mut warn);
    for (name, column) in &policy.columns {
        if column.bounds.is_some() && !column.uses.allows(Use::Aggregate) {
            warn(format!("{}.bounds", key_path("columns", name)), Advice::BoundsUnused);
        }
    }
    warnings
}

fn advise_budget(policy: &DatasetPolicy, warn: &mut impl FnMut(String, Advice)) {
    let budget = &policy.budget;
    // A lifetime's total over all consumers is expected to be large; what one consumer may learn is not.
    let cap = budget.per_consumer;
    if cap.epsilon.to_f64() > LARGE_EPSILON {
        warn("budget.per_consumer.epsilon".to_owned(), Advice::LargeEpsilon { epsilon: cap.epsilon });
    }
    for (name, delta) in [("per_consumer", cap.delta), ("all_consumers", budget.all_consumers.delta)] {
        if delta.to_f64() > LARGE_DELTA {
            warn(format!("budget.{name}.delta"), Advice::LargeDelta { delta: delta.to_f64() });
        }
    }
}

fn advise_privacy(policy: &DatasetPolicy, warn: &mut impl FnMut(String, Advice)) {
    let privacy = &policy.privacy;
    if privacy.accounting == Accounting::Pure && policy.budget.per_consumer.delta == Delta::ZERO {
        if privacy.min_group_size > 1 {
            warn("privacy.min_group_size".to_owned(), Advice::NothingAnswered);
        } else if policy.columns.values().all(|column| column.public_groups.is_none()) {
            warn("privacy.accounting".to_owned(), Advice::NoGroupsAnswered);
        }
    }
    let product = u64::from(privacy.max_groups_per_unit) * u64::from(privacy.max_rows_per_unit_per_group);
    if let Some(rows) = privacy.max_rows_per_unit
        && rows >= product
    {
        warn("privacy.max_rows_per_unit".to_owned(), Advice::RowCapUnused { rows, product });
    }
}
