//! The past restated: what the events of many charges cost together, by whichever sound accountant says least.
//!
//! For *reports*, never for a filter. The figure is the ε of this sequence of mechanisms, had it been fixed beforehand
//! (answers may still be chosen in the light of earlier ones, prices may not). Where prices were chosen in that light, the
//! guarantee is the filter's limit, and nothing else ([`super::filter`]).

use std::collections::BTreeMap;

use serde::Serialize;

use super::rdp::Curve;
use super::{Accounting, Delta, Epsilon, Event, Rho, epsilon_of, pld};

/// Whose figure a report shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Accountant {
    /// The sum of ρ's, turned into an ε: what the filter goes by.
    Zcdp,
    /// The sum of pure ε's.
    Pure,
    /// Rényi divergences, order by order.
    Renyi,
    /// Privacy loss distributions.
    LossDistribution,
}

/// What events cost together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Restated {
    /// ε at the δ that was asked for, rounded up. Infinite when that δ does not even pay for the selections.
    pub epsilon: f64,
    /// Who says so.
    pub accountant: Accountant,
}

/// The events of many charges, equal ones together.
#[must_use]
pub fn counted(events: impl IntoIterator<Item = Event>) -> Vec<(Event, u64)> {
    let mut counts = BTreeMap::new();
    for event in events {
        let count: &mut u64 = counts.entry(event).or_insert(0);
        *count = count.saturating_add(1);
    }
    counts.into_iter().collect()
}

/// The ε at which `events`, each run as often as it says, are private together with probability of failure `delta`, their
/// selections included: for reports, rounded up.
///
/// Never more than [`epsilon_of`] says of the sum of the ρ's at what the selections leave of `delta`, nor than the sum
/// of the ε's where all are pure.
#[must_use]
pub fn epsilon_of_events(events: &[(Event, u64)], delta: Delta) -> f64 {
    restate(events, delta).epsilon
}

/// [`epsilon_of_events`], and whose figure it is.
#[must_use]
pub fn restate(events: &[(Event, u64)], delta: Delta) -> Restated {
    let selections = events.iter().fold(0_u128, |sum, (event, count)| match event {
        Event::Selection { delta } => sum.saturating_add(u128::from(delta.steps()).saturating_mul((*count).into())),
        _ => sum,
    });
    let sum_pure = sum_of(events, Accounting::Pure);
    let Some(left) = u128::from(delta.steps()).checked_sub(selections) else {
        return Restated { epsilon: f64::INFINITY, accountant: Accountant::Pure };
    };
    // No more than `delta`, so it fits.
    let left = Delta::from_steps(u64::try_from(left).unwrap_or(0));
    // An integer below 2⁶³ is off by 2⁻⁵³ of itself as a float: the quotient is rounded up by more than that.
    let up = |steps: u64, per_unit: u64| steps as f64 / per_unit as f64 * (1.0 + 4.0 * f64::EPSILON);

    let (of_curve, _) = Curve::of(events).epsilon(down(left));
    let candidates = [
        sum_pure.map(|steps| (up(steps, Epsilon::STEPS_PER_UNIT), Accountant::Pure)),
        sum_of(events, Accounting::Zcdp).map(|steps| (epsilon_of(Rho::from_steps(steps), left), Accountant::Zcdp)),
        Some((of_curve, Accountant::Renyi)),
        sum_pure.and(pld::epsilon(events, down(left))).map(|epsilon| (epsilon, Accountant::LossDistribution)),
    ];
    let nothing = Restated { epsilon: f64::INFINITY, accountant: Accountant::Zcdp };
    candidates.into_iter().flatten().fold(nothing, |best, (epsilon, accountant)| {
        if epsilon < best.epsilon { Restated { epsilon, accountant } } else { best }
    })
}

/// A δ as a float that is not above it.
fn down(delta: Delta) -> f64 {
    delta.to_f64() * (1.0 - 4.0 * f64::EPSILON)
}

/// The sum of the losses in that measure, in whole steps; `None` when one has none in it, or the ledger could not hold
/// the sum.
fn sum_of(events: &[(Event, u64)], accounting: Accounting) -> Option<u64> {
    events.iter().try_fold(0_u64, |sum, (event, count)| {
        let each = event.cost(accounting)?.loss.steps();
        sum.checked_add(each.checked_mul(*count)?).filter(|sum| *sum < Rho::MAX.steps())
    })
}
