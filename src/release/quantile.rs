//! Quantiles by the exponential mechanism over a finite lattice of candidates (DESIGN 4.2).
//!
//! ```text
//! rows of a unit ── candidate of each value ──▶ bounded weights ──▶ histogram of a group ──▶ runs of one score ──▶ draw
//! ```
//!
//! With n rows in a group each row of a unit weighs w = min(1, r/n), in steps of 2⁻²⁰ rounded down, so that one unit
//! weighs at most r in all. The score of candidate v is −max(0, W(x < v) − p·W, W(x > v) − (1 − p)·W), counted in millionths
//! of a step: 0 where v is a p-quantile, also when many rows share it. One unit moves it by at most Δ = r·max(p, 1 − p),
//! wherever its rows lie. `proof.md` has the argument.

use datafusion::common::Result;
use rand::CryptoRng;

use crate::mechanism::{Exponential, Run};

use super::spec::{ContributionBounds, Quantile};

/// The most candidates of a lattice.
const MAX_CANDIDATES: f64 = 65_536.0;
/// A weight of one row, in steps.
pub(super) const WHOLE: u64 = 1 << 20;
/// Of what p is counted in.
pub(super) const MILLION: u64 = 1_000_000;

/// The values that a quantile may have: `lo + i·step` for i below `count`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidates {
    /// The least.
    pub lo: f64,
    /// From one to the next.
    pub step: f64,
    /// How many there are.
    pub count: u32,
}

impl Candidates {
    /// The candidates in `[lo, hi]`, at the column's own step of `native` (1 for integers, 0.01 for decimals of two places)
    /// where that gives few enough, else at a power of two. `None` when the bounds are no interval of ordinary numbers.
    #[must_use]
    pub fn new(lo: f64, hi: f64, native: Option<f64>) -> Option<Self> {
        let range = hi - lo;
        if !(range.is_finite() && range >= 0.0 && lo.abs() < 1e300) {
            return None;
        }
        let step = match native.filter(|native| range / native < MAX_CANDIDATES) {
            Some(native) => native,
            None if range > 0.0 => 2f64.powi((range / MAX_CANDIDATES).log2().ceil() as i32),
            None => 1.0,
        };
        let count = ((range / step).floor() + 1.0).min(MAX_CANDIDATES + 1.0);
        Some(Self { lo, step, count: count as u32 })
    }

    /// The candidate at or below a value; the first or last for values outside. NaN is none.
    #[inline]
    pub(super) fn of(&self, value: f64) -> u32 {
        // A saturating cast: below the first is the first.
        (((value - self.lo) / self.step + 1e-9) as u32).min(self.count - 1)
    }

    /// The value of a candidate.
    #[must_use]
    pub fn value(&self, candidate: u32) -> f64 {
        self.lo + f64::from(candidate) * self.step
    }
}

/// The weights of a group's candidates that have any, in their order.
pub type Weights = Vec<(u32, u64)>;

/// Sums the weights of equal candidates.
pub(super) fn compact(weights: &mut Weights) {
    weights.sort_unstable_by_key(|(candidate, _)| *candidate);
    weights.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 = kept.1.saturating_add(next.1);
        }
        same
    });
}

/// Adds weights, and compacts when twice as many are there as there are candidates.
pub(super) fn add(weights: &mut Weights, more: impl IntoIterator<Item = (u32, u64)>, candidates: &Candidates) {
    for one in more {
        weights.push(one);
        if weights.len() > 2 * candidates.count as usize + 1_024 {
            compact(weights);
        }
    }
}

impl Quantile {
    /// Δ: how far one unit can move a score, in millionths of a weight step.
    #[must_use]
    pub fn sensitivity(&self, bounds: &ContributionBounds) -> u128 {
        let p = u64::from(self.millionths);
        u128::from(bounds.rows) * u128::from(WHOLE) * u128::from(p.max(MILLION - p))
    }

    /// Draws the quantile of compacted weights.
    ///
    /// # Errors
    /// When there is no candidate, which no lattice allows.
    pub(super) fn draw<R: CryptoRng + ?Sized>(
        &self,
        candidates: &Candidates,
        weights: &[(u32, u64)],
        law: &Exponential,
        rng: &mut R,
    ) -> Result<f64> {
        let runs = self.runs(candidates, weights);
        let drawn = law.sample(&runs.iter().map(|(_, run)| *run).collect::<Vec<_>>(), rng);
        match drawn {
            Some((run, within)) => Ok(candidates.value(runs[run].0 + within as u32)),
            None => datafusion::common::internal_err!("a quantile has no candidate"),
        }
    }

    /// The candidate of the best score, the first of several: the quantile without noise.
    #[cfg(test)]
    pub(super) fn exact(&self, candidates: &Candidates, weights: &[(u32, u64)]) -> f64 {
        let runs = self.runs(candidates, weights);
        let best = runs.iter().filter(|(_, run)| run.candidates > 0).min_by_key(|(_, run)| run.deficit);
        best.map_or(f64::NAN, |(first, _)| candidates.value(*first))
    }

    /// Runs of candidates of one score, each with its first candidate.
    fn runs(&self, candidates: &Candidates, weights: &[(u32, u64)]) -> Vec<(u32, Run)> {
        let total: u128 = weights.iter().map(|(_, weight)| u128::from(*weight)).sum();
        let p = u128::from(self.millionths);
        let q = u128::from(MILLION) - p;
        // max(0, (1 − p)·below − p·(at + above), p·above − (1 − p)·(below + at))
        let deficit = |below: u128, at: u128| {
            let above = total - below - at;
            let low = q.saturating_mul(below).saturating_sub(p.saturating_mul(at + above));
            let high = p.saturating_mul(above).saturating_sub(q.saturating_mul(below + at));
            low.max(high)
        };
        let mut runs = Vec::with_capacity(2 * weights.len() + 1);
        let (mut next, mut below) = (0u32, 0u128);
        for (candidate, weight) in weights {
            let gap = u64::from(candidate.saturating_sub(next));
            runs.push((next, Run { candidates: gap, deficit: deficit(below, 0) }));
            let weight = u128::from(*weight);
            runs.push((*candidate, Run { candidates: 1, deficit: deficit(below, weight) }));
            below += weight;
            next = candidate + 1;
        }
        let gap = u64::from(candidates.count.saturating_sub(next));
        runs.push((next, Run { candidates: gap, deficit: deficit(below, 0) }));
        runs
    }
}
