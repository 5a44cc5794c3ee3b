//! What an expression over a dataset's time says of the epoch: so that nothing is computed over several epochs of a unit
//! unless the SQL itself keeps them apart.
//!
//! ```text
//! epoch = "month"                    determines           one value in each epoch
//! d, date_trunc('day', d)            year and month       no
//! date_trunc('month', d)             year and month       yes
//! extract(month FROM d)              month                yes
//! date_trunc('quarter', d)           year and quarter     yes
//! date_trunc('week', d)              nothing              no      a week may lie in two months
//! ```

use std::collections::{BTreeSet, HashSet};

use chrono::Datelike;
use datafusion::arrow::datatypes::DataType;

use crate::policy::EpochKind;

use super::refusal::Refusal;
use super::relation::{EpochColumn, PrivateRelation, names};

/// What the value of an expression says of its row's epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, known or not")]
pub struct Calendar {
    kind: EpochKind,
    year: bool,
    quarter: bool,
    month: bool,
    constant: bool,
}

impl Calendar {
    /// The dataset's time itself.
    #[must_use]
    pub const fn moment(kind: EpochKind) -> Self {
        Self { kind, year: true, quarter: true, month: true, constant: false }
    }

    /// Whether it has one value in all rows of an epoch.
    #[must_use]
    pub const fn is_constant(self) -> bool {
        self.constant
    }

    /// What `name(part, x)` says, where `self` is what x says and the names are the engine's own.
    #[must_use]
    pub fn called(self, name: &str, part: &str) -> Option<Self> {
        if !(self.year && self.month) {
            return None;
        }
        let said = |year, quarter, month, constant| Some(Self { kind: self.kind, year, quarter, month, constant });
        match (name, part) {
            ("date_trunc", "year") | ("date_part", "year") => said(true, false, false, true),
            ("date_trunc", "quarter") => said(true, true, false, self.kind != EpochKind::Year),
            ("date_part", "quarter") => said(false, true, false, self.kind != EpochKind::Year),
            ("date_trunc", "month") => said(true, true, true, self.kind == EpochKind::Month),
            ("date_part", "month") => said(false, true, true, self.kind == EpochKind::Month),
            ("date_trunc", "day" | "hour" | "minute" | "second" | "millisecond" | "microsecond") => Some(self),
            _ => None,
        }
    }

    /// What a cast to `to` says: a time stays one, and keeps its day.
    #[must_use]
    pub fn cast(self, to: &DataType) -> Option<Self> {
        let keeps = matches!(to, DataType::Date32 | DataType::Date64)
            || matches!(to, DataType::Timestamp(_, zone) if zone.as_deref().is_none_or(|zone| zone == "UTC"));
        keeps.then_some(self)
    }
}

/// Whether rows of two of `epochs` differ in one of the values that `said` is of: then these keep the epochs apart.
pub(super) fn apart(said: impl IntoIterator<Item = Calendar>, kind: EpochKind, epochs: &BTreeSet<i32>) -> bool {
    let (mut year, mut quarter, mut month) = (false, false, false);
    for calendar in said {
        year |= calendar.year;
        quarter |= calendar.quarter;
        month |= calendar.month;
    }
    let mut seen = HashSet::new();
    epochs.iter().all(|epoch| {
        let Some(day) = kind.first_day(*epoch) else { return false };
        let known = |is_known: bool, value: i32| is_known.then_some(value);
        let month0 = day.month0() as i32;
        seen.insert((known(year, day.year()), known(quarter, month0 / 3), known(month, month0)))
    })
}

/// How a message asks for the epoch: an expression that has one value in it.
pub(super) fn written(kind: EpochKind, column: &str) -> String {
    format!("date_trunc('{kind}', {column})")
}

/// Refuses what would be computed over the rows of a unit in several epochs: `said` keeps them apart, or there is one alone.
pub(super) fn kept_apart(
    private: &PrivateRelation,
    said: impl IntoIterator<Item = Calendar>,
    what: &str,
    clause: &str,
) -> Result<(), Refusal> {
    let Some(epoch) = &private.epoch else { return Ok(()) };
    if apart(said, epoch.kind, &epoch.numbers()) {
        return Ok(());
    }
    let kind = epoch.kind;
    Err(Refusal::not_private(
        format!("{what} is over several {kind}s of a unit, and each {kind} is protected by itself"),
        format!("add {} to {clause}; or ask of one {kind} alone", written(kind, &time_of(private))),
    ))
}

/// The epochs that the rows of both relations have, if they have epochs; refused where they differ in kind.
pub(super) fn same_epochs(
    a: &PrivateRelation,
    b: &PrivateRelation,
    what: &str,
) -> Result<Option<EpochColumn>, Refusal> {
    match (&a.epoch, &b.epoch) {
        (None, None) => Ok(None),
        (Some(x), Some(y)) if x.kind == y.kind => Ok(Some(x.clone().with(y))),
        // What holds of a unit over all of its time says nothing of one month of it, and the other way round.
        (x, y) => {
            let cut = |epoch: &Option<EpochColumn>, of: &PrivateRelation| match epoch {
                Some(epoch) => format!("{} is cut into {}s", names(&of.datasets), epoch.kind),
                None => format!("{} has no epochs", names(&of.datasets)),
            };
            Err(Refusal::not_private(
                format!("{what} of datasets with different epochs is not answered: {}, and {}", cut(x, a), cut(y, b)),
                "ask of each in a query of its own; or ask their owners to declare the same epochs",
            ))
        }
    }
}

/// The column that cuts the epochs, as a message names it.
pub(super) fn time_of(private: &PrivateRelation) -> String {
    let mut columns = private.datasets.values().filter_map(|policy| policy.privacy.epochs.as_ref());
    columns.next().map_or_else(String::new, |epochs| epochs.column.clone())
}
