//! Sums in words: exact decimals of whole steps, and the ε that a sum comes to.

use crate::accounting::{Accounting, Delta, Epsilon, Rho, epsilon_of};

/// How many decimal places of a loss are whole steps: both measures have steps of 10⁻¹².
const LOSS_PLACES: usize = 12;
/// The same of a δ.
const DELTA_PLACES: usize = 18;

/// A loss, exactly.
pub(super) fn loss_text(steps: u128) -> String {
    decimal(steps, LOSS_PLACES)
}

/// A δ, exactly.
pub(super) fn delta_text(steps: u128) -> String {
    decimal(steps, DELTA_PLACES)
}

/// `steps` of 10^-`places` as a decimal, without zeros that say nothing.
pub(super) fn decimal(steps: u128, places: usize) -> String {
    let digits = format!("{steps:0width$}", width = places + 1);
    let (units, rest) = digits.split_at(digits.len() - places);
    match rest.trim_end_matches('0') {
        "" => units.to_owned(),
        rest => format!("{units}.{rest}"),
    }
}

/// The δ at which the ε of a sum is stated, where `delta` is the budget's: half of it under zCDP, since the other half is
/// for the δ's of the charges. Pure losses are their own ε.
pub(super) const fn stated_at(accounting: Accounting, delta: Delta) -> Option<Delta> {
    match accounting {
        Accounting::Zcdp => Some(Delta::from_steps(delta.steps() / 2)),
        Accounting::Pure => None,
    }
}

/// The ε of a sum of losses, rounded up; none where it is beyond what the ledger counts, or is infinite.
pub(super) fn epsilon(accounting: Accounting, loss_steps: u128, budget_delta: Delta) -> Option<f64> {
    let steps = u64::try_from(loss_steps).ok().filter(|steps| *steps <= Rho::MAX.steps())?;
    let epsilon = match stated_at(accounting, budget_delta) {
        Some(_) if steps == 0 => 0.0,
        Some(half) => epsilon_of(Rho::from_steps(steps), half),
        None => Epsilon::from_steps(steps).to_f64(),
    };
    epsilon.is_finite().then_some(epsilon)
}

/// The word for a measure.
pub(super) const fn word(accounting: Accounting) -> &'static str {
    match accounting {
        Accounting::Zcdp => "zcdp",
        Accounting::Pure => "pure",
    }
}
