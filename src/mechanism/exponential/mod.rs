//! The exponential mechanism over a finite set of candidates, P(candidate) ∝ e^(ε_m·score/(2Δ)), sampled exactly.
//!
//! McSherry and Talwar (2007). The candidates come as runs of one score, so that a large lattice costs no more than the
//! data has distinct values. Runs are proposed by integers just above their weights, and kept by a lazy comparison
//! with the weight itself: no float decides, and all but about one draw in 2⁴⁰ take one proposal. `proof.md` has the
//! argument.

mod exact;
#[cfg(test)]
mod tests;
mod weight;

use num_bigint::BigUint;
use rand::CryptoRng;
use serde::{Serialize, Serializer};

use self::weight::Rate;
use super::uniform::UniformBelow;
use super::{CalibrationError, Dyadic, ceil_steps};
use crate::accounting::{Epsilon, Rho};

/// Consecutive candidates of one score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// How many candidates; may be zero.
    pub candidates: u64,
    /// The largest score less the score of these candidates, in the score's units. Only differences between the runs
    /// matter: the least deficit need not be zero.
    pub deficit: u128,
}

/// A sampler of P(candidate) ∝ e^(−ε_m·deficit/(2Δ)).
///
/// One draw is ε_m-private, and ε_m²/8-zCDP, where one unit changes no candidate's score by more than the sensitivity
/// Δ, and the candidates themselves do not depend on the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Exponential {
    epsilon: Dyadic,
    sensitivity: u128,
    /// How often the weight halves per unit of deficit: ε_m/(2Δ·ln 2).
    rate: Rate,
}

impl Exponential {
    /// ε_m is the price's exact bound where that is short in binary; otherwise it has more than this many bits, as far
    /// as [`Dyadic::MAX_SHIFT`] allows, and is below the bound by less than one part in 2³².
    const PRECISION_BITS: u64 = 32;

    /// The law of the given ε_m, for scores that one unit changes by at most `sensitivity`, in the score's units.
    ///
    /// # Errors
    /// When `sensitivity` is zero.
    pub fn with_epsilon(epsilon: Dyadic, sensitivity: u128) -> Result<Self, CalibrationError> {
        if sensitivity == 0 {
            return Err(CalibrationError::NoSensitivity);
        }
        let (numerator, denominator) = coefficient(epsilon, sensitivity);
        Ok(Self { epsilon, sensitivity, rate: Rate::at_most(&numerator, &denominator) })
    }

    /// The most accurate law with which `groups` draws, each over scores of sensitivity `sensitivity` (in the score's
    /// units), are `rho`-zCDP together: ε_m = √(8·`rho`/`groups`), rounded down. `groups` is how many of the groups
    /// one unit can be in; each group has its own draw.
    ///
    /// # Errors
    /// When `groups`, `sensitivity` or `rho` is zero.
    pub fn calibrated_zcdp(groups: u64, sensitivity: u128, rho: Rho) -> Result<Self, CalibrationError> {
        if rho == Rho::ZERO {
            return Err(CalibrationError::NoLoss);
        }
        Self::calibrated(BigUint::from(rho.steps()) * 8u32, Rho::STEPS_PER_UNIT, groups, sensitivity, 2)
    }

    /// The most accurate law with which `groups` draws, each over scores of sensitivity `sensitivity` (in the score's
    /// units), are `epsilon`-private together: ε_m = `epsilon`/`groups`, rounded down.
    ///
    /// # Errors
    /// When `groups`, `sensitivity` or `epsilon` is zero, or ε_m would be less than 2⁻¹⁰⁰.
    pub fn calibrated_pure(groups: u64, sensitivity: u128, epsilon: Epsilon) -> Result<Self, CalibrationError> {
        if epsilon == Epsilon::ZERO {
            return Err(CalibrationError::NoLoss);
        }
        Self::calibrated(BigUint::from(epsilon.steps()), Epsilon::STEPS_PER_UNIT, groups, sensitivity, 1)
    }

    /// ε_m is the largest practical with ε_m^`degree` ≤ `steps`/(`steps_per_unit`·`groups`).
    fn calibrated(
        steps: BigUint,
        steps_per_unit: u64,
        groups: u64,
        sensitivity: u128,
        degree: u32,
    ) -> Result<Self, CalibrationError> {
        if groups == 0 {
            return Err(CalibrationError::NoSensitivity);
        }
        let epsilon = root_at_most(&steps, &(BigUint::from(groups) * steps_per_unit), degree)
            .ok_or(CalibrationError::TooMuchNoise)?;
        Self::with_epsilon(epsilon, sensitivity)
    }

    /// The zCDP loss of one draw in each of `groups` groups: `groups`·ε_m²/8, rounded up to a step.
    ///
    /// Never above the ρ that the law was calibrated with, for as many groups. A loss that the ledger cannot hold is
    /// [`Rho::MAX`], which no budget admits.
    #[must_use]
    pub fn cost_zcdp(&self, groups: u64) -> Rho {
        Self::loss_zcdp(self.epsilon, groups)
    }

    /// [`Self::cost_zcdp`] from the facts alone: for records of draws that were made long ago.
    #[must_use]
    pub fn loss_zcdp(epsilon: Dyadic, groups: u64) -> Rho {
        let square = BigUint::from(epsilon.numerator()).pow(2);
        let steps = square * groups * Rho::STEPS_PER_UNIT;
        Rho::from_steps(ceil_steps(&steps, &(BigUint::from(8u32) << (2 * epsilon.shift()))))
    }

    /// The pure loss of one draw in each of `groups` groups: `groups`·ε_m, rounded up to a step.
    ///
    /// Never above the ε that the law was calibrated with, for as many groups. A loss that the ledger cannot hold is
    /// [`Epsilon::MAX`], which no budget admits.
    #[must_use]
    pub fn cost_pure(&self, groups: u64) -> Epsilon {
        Self::loss_pure(self.epsilon, groups)
    }

    /// [`Self::cost_pure`] from the facts alone: for records of draws that were made long ago.
    #[must_use]
    pub fn loss_pure(epsilon: Dyadic, groups: u64) -> Epsilon {
        let steps = BigUint::from(epsilon.numerator()) * groups * Epsilon::STEPS_PER_UNIT;
        Epsilon::from_steps(ceil_steps(&steps, &BigUint::from(epsilon.denominator())))
    }

    /// ε_m, exactly.
    #[must_use]
    pub const fn exact_epsilon(&self) -> Dyadic {
        self.epsilon
    }

    /// Δ: by how much one unit can change a score, in the score's units.
    #[must_use]
    pub const fn sensitivity(&self) -> u128 {
        self.sensitivity
    }

    /// ε_m, the nearest float: for reports.
    #[must_use]
    pub fn epsilon(&self) -> f64 {
        self.epsilon.to_f64()
    }

    /// 2Δ/ε_m, in the score's units: a deficit of so much makes a candidate e times less likely. For reports.
    #[must_use]
    pub fn scale(&self) -> f64 {
        2.0 * self.sensitivity as f64 / self.epsilon.to_f64()
    }

    /// One draw: the index of the run, and that of the candidate within it. `None` when no run has a candidate.
    ///
    /// The time depends on the number of runs, and hardly on what they hold. Takes 16 bytes of memory a run.
    pub fn sample<R: CryptoRng + ?Sized>(&self, runs: &[Run], rng: &mut R) -> Option<(usize, u64)> {
        let least = runs.iter().filter(|run| run.candidates > 0).map(|run| run.deficit).min()?;
        let candidates: u128 = runs.iter().map(|run| u128::from(run.candidates)).sum();
        // As fine as lets the sum of all weights stay below 2¹²⁷: a weight is at most its run's number of candidates.
        let bits = weight::MAX_BITS.min(candidates.leading_zeros().saturating_sub(2));
        // Runs without candidates may have a lower deficit than any that has some; their weight is zero all the same.
        let bounds = |run: &Run| self.rate.bounds(run.deficit.saturating_sub(least), run.candidates, bits);

        let mut total = 0;
        let mut sums: Vec<u128> = Vec::with_capacity(runs.len());
        sums.extend(runs.iter().map(|run| {
            total += bounds(run).upper;
            total
        }));
        let proposal = UniformBelow::new(total);
        loop {
            let point = proposal.sample(rng);
            // Runs of weight zero have the same sum as the one before, and are passed over.
            let index = sums.partition_point(|sum| *sum <= point);
            let run = &runs[index];
            let bounds = bounds(run);
            let offset = point - (sums[index] - bounds.upper);
            if offset < bounds.lower || self.is_below(offset, run, run.deficit - least, bits, rng) {
                let candidate = UniformBelow::new(u128::from(run.candidates)).sample(rng);
                return Some((index, candidate as u64));
            }
        }
    }

    /// Whether a uniform real in [`offset`, `offset` + 1) is below the run's weight, in units of 2^(−`bits`).
    #[cold]
    fn is_below<R: CryptoRng + ?Sized>(&self, offset: u128, run: &Run, deficit: u128, bits: u32, rng: &mut R) -> bool {
        let (numerator, denominator) = coefficient(self.epsilon, self.sensitivity);
        exact::uniform_is_below(offset, run.candidates, &(numerator * deficit), &denominator, bits, rng)
    }
}

/// ε_m/(2Δ) as numerator and denominator.
fn coefficient(epsilon: Dyadic, sensitivity: u128) -> (BigUint, BigUint) {
    (BigUint::from(epsilon.numerator()), BigUint::from(sensitivity) << (epsilon.shift() + 1))
}

/// The largest practical dyadic whose power of `degree` is at most `numerator`/`denominator`: the very root when it is
/// short in binary, otherwise less by less than 2⁻³² of it, or than 2⁻¹⁰⁰. `None` when it is zero or does not fit.
fn root_at_most(numerator: &BigUint, denominator: &BigUint, degree: u32) -> Option<Dyadic> {
    let mut shift = 0;
    loop {
        let shifted = numerator << (shift * degree);
        // The floor of a root is that of the root of the floor.
        let root = (&shifted / denominator).nth_root(degree);
        let exact = root.pow(degree) * denominator == shifted;
        if exact || root.bits() > Exponential::PRECISION_BITS || shift == Dyadic::MAX_SHIFT {
            return u128::try_from(root).ok().and_then(|root| Dyadic::new(root, shift));
        }
        shift += 1;
    }
}

impl Serialize for Exponential {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Parameters {
            epsilon: Dyadic,
            // A string, as the ε_m is: JSON's numbers do not hold 128 bits.
            sensitivity: String,
        }
        Parameters { epsilon: self.epsilon, sensitivity: self.sensitivity.to_string() }.serialize(serializer)
    }
}
