//! Epochs: the calendar periods into which a dataset with a time column is cut, each with a budget of its own.
//!
//! ```text
//! epoch = "month"   epoch_from = 2013-01-01          today
//!   dropped        | 2013-01 | 2013-02 | ... | 2026-11 |   dropped
//! ```
//!
//! An epoch has a number, so that epochs of one kind are one space of identifiers over all datasets: the months since the
//! beginning of the year 0, divided by the months of the kind. Days are those of UTC.

#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::OnceLock;

use chrono::{Datelike, NaiveDate};
use serde::Serialize;

/// The days from the beginning of the year 1 (its first day is 1) to that of 1970.
const UNIX_DAY: i32 = 719_163;

/// How long an epoch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EpochKind {
    /// A calendar month.
    Month,
    /// A quarter of a calendar year.
    Quarter,
    /// A calendar year.
    Year,
}

/// The days of 1900 to 2099, counted from 1970-01-01.
pub const KNOWN_DAYS: std::ops::Range<i64> = -25_567..47_482;

impl EpochKind {
    /// Every kind, from the shortest.
    pub const ALL: [Self; 3] = [Self::Month, Self::Quarter, Self::Year];

    /// The word for it in a policy file, and in the words of a guarantee.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Month => "month",
            Self::Quarter => "quarter",
            Self::Year => "year",
        }
    }

    const fn months(self) -> i32 {
        match self {
            Self::Month => 1,
            Self::Quarter => 3,
            Self::Year => 12,
        }
    }

    /// The number of the epoch that holds `date`.
    #[must_use]
    pub fn of_date(self, date: NaiveDate) -> i32 {
        // A month is from 0 to 11, and chrono's years are below 2^19.
        (date.year() * 12 + date.month0() as i32).div_euclid(self.months())
    }

    /// The number of the epoch that holds a day, counted from 1970-01-01; `None` for a day out of the calendar.
    #[must_use]
    pub fn of_day(self, days: i64) -> Option<i32> {
        let days = i32::try_from(days).ok()?.checked_add(UNIX_DAY)?;
        NaiveDate::from_num_days_from_ce_opt(days).map(|date| self.of_date(date))
    }

    /// The numbers of the epochs that hold the days of [`KNOWN_DAYS`], one after the other.
    #[must_use]
    pub fn of_known_days(self) -> &'static [i32] {
        static NUMBERS: [OnceLock<Vec<i32>>; 3] = [const { OnceLock::new() }; 3];
        NUMBERS[self as usize].get_or_init(|| KNOWN_DAYS.filter_map(|day| self.of_day(day)).collect())
    }

    /// The first day of the epoch `number`; `None` for one out of the calendar.
    #[must_use]
    pub fn first_day(self, number: i32) -> Option<NaiveDate> {
        let months = number.checked_mul(self.months())?;
        let month = u32::try_from(months.rem_euclid(12)).ok()?;
        NaiveDate::from_ymd_opt(months.div_euclid(12), month + 1, 1)
    }

    /// The name of the epoch `number`: `2013-01`, `2013-Q1` or `2013`.
    #[must_use]
    pub fn label(self, number: i32) -> String {
        let months = number.saturating_mul(self.months());
        let (year, month) = (months.div_euclid(12), months.rem_euclid(12));
        match self {
            Self::Month => format!("{year:04}-{:02}", month + 1),
            Self::Quarter => format!("{year:04}-Q{}", month / 3 + 1),
            Self::Year => format!("{year:04}"),
        }
    }
}

impl fmt::Display for EpochKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a policy says of a dataset's epochs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Epochs {
    /// How long they are.
    pub kind: EpochKind,
    /// The column that says when a row happened: a date, or a timestamp in UTC.
    pub column: String,
    /// The first day of the first epoch. Rows before it are never read.
    pub from: NaiveDate,
}

impl Epochs {
    /// The numbers of all epochs that there are on `today` (UTC): the last is the one that holds it. Empty before `from`.
    #[must_use]
    pub fn until(&self, today: NaiveDate) -> RangeInclusive<i32> {
        self.kind.of_date(self.from)..=self.kind.of_date(today)
    }
}
