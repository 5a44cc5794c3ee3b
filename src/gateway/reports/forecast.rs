//! When an account's budget will be used up, if it is spent on as of late.
//!
//! The method is linear: the mean daily rate since the account's first charge of the window, or over the last 30 days,
//! whichever is the shorter time; today counts as a day. Whole steps and whole days, no float.

use chrono::{Datelike, Days, Months, NaiveDate};

use crate::ledger::DaySpend;
use crate::policy::Period;

/// The longest time that the rate is taken over, in days.
const MOST_DAYS: u64 = 30;

/// What was spent of late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rate {
    /// Over how many days, today among them.
    pub(super) days: u64,
    pub(super) loss_steps: u128,
    pub(super) delta_steps: u128,
}

impl Rate {
    /// The rate of an account's days; none where nothing was spent in the time that it is taken over.
    pub(super) fn of(spent: &[DaySpend], today: NaiveDate) -> Option<Self> {
        let first = spent.iter().map(|day| day.day).min()?;
        let since_first = u64::try_from((today - first).num_days()).ok()?.saturating_add(1);
        let days = since_first.min(MOST_DAYS);
        let after = today.checked_sub_days(Days::new(days))?;
        let recent = || spent.iter().filter(|day| day.day > after);
        let rate = Self {
            days,
            loss_steps: recent().map(|day| day.loss_steps).sum(),
            delta_steps: recent().map(|day| day.delta_steps).sum(),
        };
        (rate.loss_steps > 0 || rate.delta_steps > 0).then_some(rate)
    }

    /// The day on which the first of the two is used up at this rate, where so much is left of each.
    pub(super) fn exhausts(&self, loss_left: u128, delta_left: u128, today: NaiveDate) -> Option<NaiveDate> {
        let days = |left: u128, spent: u128| (spent > 0).then(|| left.saturating_mul(self.days.into()) / spent);
        let of_both = [days(loss_left, self.loss_steps), days(delta_left, self.delta_steps)];
        let days = of_both.into_iter().flatten().min()?;
        today.checked_add_days(Days::new(u64::try_from(days).ok()?))
    }
}

/// The first day of the window after the one that holds `today`; none of a lifetime.
pub(super) fn renews(per: Period, today: NaiveDate) -> Option<NaiveDate> {
    let (first, months) = match per {
        Period::Month => (today.with_day(1)?, 1),
        Period::Quarter => (NaiveDate::from_ymd_opt(today.year(), today.month0() / 3 * 3 + 1, 1)?, 3),
        Period::Year => (NaiveDate::from_ymd_opt(today.year(), 1, 1)?, 12),
        Period::Lifetime => return None,
    };
    first.checked_add_months(Months::new(months))
}
