//! The privacy filter: whether one more charge fits an account. Integers in, a yes or no out.
//!
//! For zCDP this is the approximate-zCDP filter of Whitehouse, Ramdas, Rogers and Wu, *Fully-Adaptive Composition in
//! Differential Privacy*, ICML 2023: mechanisms *and their prices* may be chosen in the light of all earlier answers, as
//! long as the sums of the prices stay within limits that do not depend on answers. A charge that does not fit is refused,
//! and later ones that fit are not. For pure accounts it is the sum of ε's and of δ's (Rogers, Roth, Ullman, Vadhan 2016).
//!
//! `proof.md` says why these hold here: for charges that overlap, for refused ones, and for limits that are raised.

use serde::Serialize;

use super::{Accounting, Delta, Epsilon, Rho, pure_as_zcdp, rho_for};

/// A privacy loss in one of the two measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Loss {
    /// ρ.
    Zcdp(Rho),
    /// ε.
    Pure(Epsilon),
}

impl Loss {
    /// No loss.
    #[must_use]
    pub const fn nothing(accounting: Accounting) -> Self {
        match accounting {
            Accounting::Zcdp => Self::Zcdp(Rho::ZERO),
            Accounting::Pure => Self::Pure(Epsilon::ZERO),
        }
    }

    /// The loss of `steps` ledger steps.
    #[must_use]
    pub const fn from_steps(accounting: Accounting, steps: u64) -> Self {
        match accounting {
            Accounting::Zcdp => Self::Zcdp(Rho::from_steps(steps)),
            Accounting::Pure => Self::Pure(Epsilon::from_steps(steps)),
        }
    }

    /// The measure.
    #[must_use]
    pub const fn accounting(self) -> Accounting {
        match self {
            Self::Zcdp(_) => Accounting::Zcdp,
            Self::Pure(_) => Accounting::Pure,
        }
    }

    /// The number of ledger steps.
    #[must_use]
    pub const fn steps(self) -> u64 {
        match self {
            Self::Zcdp(rho) => rho.steps(),
            Self::Pure(epsilon) => epsilon.steps(),
        }
    }

    /// What this loss costs an account of the given measure: ε-privacy is ε²/2-zCDP. The other way there is none
    /// (no ρ gives a pure ε), so `None`.
    #[must_use]
    pub fn charged_to(self, accounting: Accounting) -> Option<Self> {
        match (self, accounting) {
            (Self::Zcdp(_), Accounting::Zcdp) | (Self::Pure(_), Accounting::Pure) => Some(self),
            (Self::Pure(epsilon), Accounting::Zcdp) => Some(Self::Zcdp(pure_as_zcdp(epsilon))),
            (Self::Zcdp(_), Accounting::Pure) => None,
        }
    }

    /// The sum of two losses of one measure, or `None` when the measures differ or the ledger could not hold it.
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Zcdp(a), Self::Zcdp(b)) => match a.checked_add(b) {
                Some(sum) => Some(Self::Zcdp(sum)),
                None => None,
            },
            (Self::Pure(a), Self::Pure(b)) => match a.checked_add(b) {
                Some(sum) => Some(Self::Pure(sum)),
                None => None,
            },
            _ => None,
        }
    }
}

/// What one release costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Cost {
    /// The loss of its noise.
    pub loss: Loss,
    /// The δ of its group selection.
    pub delta: Delta,
}

/// What an account has spent: the sums of its charges, in its own measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Spent {
    /// The sum of the losses.
    pub loss: Loss,
    /// The sum of the δ's.
    pub delta: Delta,
}

impl Spent {
    /// Nothing yet.
    #[must_use]
    pub const fn nothing(accounting: Accounting) -> Self {
        Self { loss: Loss::nothing(accounting), delta: Delta::ZERO }
    }

    /// What is spent once `cost` is charged, or `None` when this account cannot be charged in that measure, or could
    /// not hold the sum.
    #[must_use]
    pub fn after(self, cost: Cost) -> Option<Self> {
        let loss = self.loss.checked_add(cost.loss.charged_to(self.loss.accounting())?)?;
        let delta = self.delta.checked_add(cost.delta)?;
        Some(Self { loss, delta })
    }
}

/// What an account may spend: the filter's limits. They are not to depend on answers; one that is raised promises no more
/// than the largest that the owner's policy lets it become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Limit {
    /// The most that the losses may add up to.
    pub loss: Loss,
    /// The most that the δ's of group selection may add up to.
    pub delta: Delta,
}

impl Limit {
    /// The limits that keep all that is ever charged (`epsilon`, `delta`)-private.
    ///
    /// In zCDP one half of `delta` pays for turning ρ into ε, the other for the δ's of the charges.
    #[must_use]
    pub fn from_budget(accounting: Accounting, epsilon: Epsilon, delta: Delta) -> Self {
        match accounting {
            Accounting::Zcdp => {
                let half = Delta::from_steps(delta.steps() / 2);
                Self { loss: Loss::Zcdp(rho_for(epsilon, half)), delta: half }
            }
            Accounting::Pure => Self { loss: Loss::Pure(epsilon), delta },
        }
    }

    /// The measure.
    #[must_use]
    pub const fn accounting(&self) -> Accounting {
        self.loss.accounting()
    }
}

/// Whether `cost` may be charged to an account with that limit that has spent that much.
///
/// False also when the account cannot be charged in the cost's measure, and when `spent` is not in the limit's.
#[must_use]
pub fn fits(limit: &Limit, spent: &Spent, cost: &Cost) -> bool {
    spent.loss.accounting() == limit.accounting()
        && spent
            .after(*cost)
            .is_some_and(|after| after.loss.steps() <= limit.loss.steps() && after.delta <= limit.delta)
}

/// What may still be spent, at least nothing; nothing at all when `spent` is not in the limit's measure.
#[must_use]
pub const fn left(limit: &Limit, spent: &Spent) -> Cost {
    let delta = limit.delta.saturating_sub(spent.delta);
    let loss = match (limit.loss, spent.loss) {
        (Loss::Zcdp(limit), Loss::Zcdp(spent)) => Loss::Zcdp(limit.saturating_sub(spent)),
        (Loss::Pure(limit), Loss::Pure(spent)) => Loss::Pure(limit.saturating_sub(spent)),
        (Loss::Zcdp(_), Loss::Pure(_)) => return Cost { loss: Loss::Zcdp(Rho::ZERO), delta: Delta::ZERO },
        (Loss::Pure(_), Loss::Zcdp(_)) => return Cost { loss: Loss::Pure(Epsilon::ZERO), delta: Delta::ZERO },
    };
    Cost { loss, delta }
}

/// The larger of the fractions of the two limits that are spent: for reports, never for deciding.
///
/// 1 when the limit of the losses is zero. A limit of zero on δ counts only once something is spent of it.
#[must_use]
pub fn fraction_spent(limit: &Limit, spent: &Spent) -> f64 {
    let of_delta = match (spent.delta.steps(), limit.delta.steps()) {
        (0, _) => 0.0,
        (_, 0) => 1.0,
        (part, whole) => part as f64 / whole as f64,
    };
    let of_loss = match (spent.loss.steps(), limit.loss.steps()) {
        (_, 0) => 1.0,
        (part, whole) => part as f64 / whole as f64,
    };
    of_loss.max(of_delta)
}
