//! Between columns and amounts: SQLite's integers are signed, and an amount never is.

use chrono::{DateTime, Utc};

use super::super::LedgerError;
use crate::accounting::{Accounting, Delta, Loss};

/// An amount's column. Amounts and precisions are at most `i64::MAX`, so nothing is lost; a bound above it that a caller
/// asks for is met by nothing either way but the largest.
pub(super) fn column(steps: u64) -> i64 {
    i64::try_from(steps).unwrap_or(i64::MAX)
}

/// The steps that a column holds.
pub(super) fn steps(column: i64) -> Result<u64, LedgerError> {
    u64::try_from(column).map_err(|_| LedgerError::Corrupt { what: "negative amount" })
}

/// The loss that two columns hold.
pub(super) fn loss(kind: &str, loss_steps: i64) -> Result<Loss, LedgerError> {
    let accounting = match kind {
        "zcdp" => Accounting::Zcdp,
        "pure" => Accounting::Pure,
        _ => return Err(LedgerError::Corrupt { what: "kind of accounting" }),
    };
    Ok(Loss::from_steps(accounting, steps(loss_steps)?))
}

/// The column of a kind of accounting.
pub(super) const fn kind(accounting: Accounting) -> &'static str {
    match accounting {
        Accounting::Zcdp => "zcdp",
        Accounting::Pure => "pure",
    }
}

/// The δ that a column holds.
pub(super) fn delta(delta_steps: i64) -> Result<Delta, LedgerError> {
    Ok(Delta::from_steps(steps(delta_steps)?))
}

/// The time that a column of microseconds holds.
pub(super) fn time(us: i64) -> Result<DateTime<Utc>, LedgerError> {
    DateTime::from_timestamp_micros(us).ok_or(LedgerError::Corrupt { what: "time" })
}

/// Now, in the microseconds that a column holds, so that a time reads back as it was written.
pub(super) fn now() -> DateTime<Utc> {
    let now = Utc::now();
    DateTime::from_timestamp_micros(now.timestamp_micros()).unwrap_or(now)
}
