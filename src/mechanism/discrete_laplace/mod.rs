//! The discrete Laplace law, P(x) ∝ e^(−|x|/scale) on the integers, sampled exactly.
//!
//! Canonne, Kamath and Steinke (2020), algorithm 2, on machine integers. `proof.md` has the argument.

mod tail;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;

use num_bigint::BigUint;
use rand::CryptoRng;
use serde::{Serialize, Serializer};

use super::bernoulli_exp::{bernoulli_exp, geometric_and_bit};
use super::uniform::UniformBelow;
use super::{CalibrationError, Dyadic, ceil_steps};
use crate::accounting::Epsilon;

/// A sampler of the discrete Laplace law of one scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DiscreteLaplace {
    scale: Dyadic,
    /// The law of U in the algorithm, below the scale's numerator.
    remainder: UniformBelow,
    /// U is read without its lowest `narrowing` bits where it is wider than a word.
    narrowing: u32,
    /// A lower bound of 2¹²⁸ over the (narrowed) numerator.
    reciprocal: u128,
}

impl DiscreteLaplace {
    /// The numerator of a scale is at most 2¹⁰⁰. A draw passes the range of an `i128` with probability below
    /// e^(−2²⁶), and stays at its end then.
    pub const MAX_SCALE_BITS: u32 = 100;

    /// The law of the given scale.
    ///
    /// # Errors
    /// When the scale's numerator is above 2¹⁰⁰.
    pub fn with_scale(scale: Dyadic) -> Result<Self, CalibrationError> {
        let numerator = scale.numerator();
        if numerator > 1 << Self::MAX_SCALE_BITS {
            return Err(CalibrationError::TooMuchNoise);
        }
        let narrowing = (128 - numerator.leading_zeros()).saturating_sub(64);
        let divisor = if narrowing == 0 { numerator } else { (numerator >> narrowing) + 1 };
        Ok(Self { scale, remainder: UniformBelow::new(numerator), narrowing, reciprocal: u128::MAX / divisor })
    }

    /// The least practical noise that makes a query of L1 sensitivity `d1` (in lattice steps) `epsilon`-private: scale
    /// `d1`/`epsilon`, exactly when that is an integer, otherwise less than 10⁻⁶ of itself above.
    ///
    /// # Errors
    /// When `d1` or `epsilon` is zero, or the scale would pass 2¹⁰⁰.
    pub fn calibrated(d1: u128, epsilon: Epsilon) -> Result<Self, CalibrationError> {
        if d1 == 0 {
            return Err(CalibrationError::NoSensitivity);
        }
        if epsilon == Epsilon::ZERO {
            return Err(CalibrationError::NoLoss);
        }
        let numerator = BigUint::from(d1) * Epsilon::STEPS_PER_UNIT;
        let scale =
            Dyadic::at_least(&numerator, &BigUint::from(epsilon.steps())).ok_or(CalibrationError::TooMuchNoise)?;
        Self::with_scale(scale)
    }

    /// The pure privacy loss of this noise on a query of L1 sensitivity `d1`: `d1`/scale, rounded up to a step.
    ///
    /// Never above the ε that the noise was calibrated with. A loss that the ledger cannot hold is [`Epsilon::MAX`],
    /// which no budget admits.
    #[must_use]
    pub fn cost(&self, d1: u128) -> Epsilon {
        Self::loss(d1, self.scale)
    }

    /// [`Self::cost`] from the facts alone: for records of noise that was drawn long ago.
    #[must_use]
    pub fn loss(d1: u128, scale: Dyadic) -> Epsilon {
        let numerator = (BigUint::from(d1) * Epsilon::STEPS_PER_UNIT) << scale.shift();
        Epsilon::from_steps(ceil_steps(&numerator, &BigUint::from(scale.numerator())))
    }

    /// The scale.
    #[must_use]
    pub const fn scale(&self) -> Dyadic {
        self.scale
    }

    /// The standard deviation of the discrete law, √(2q)/(1 − q) with q = e^(−1/scale).
    #[must_use]
    pub fn std_dev(&self) -> f64 {
        let inverse = 1.0 / self.scale.to_f64();
        (2.0 * (-inverse).exp()).sqrt() / -(-inverse).exp_m1()
    }

    /// One draw.
    #[inline]
    pub fn sample<R: CryptoRng + ?Sized>(&self, rng: &mut R) -> i128 {
        loop {
            let (magnitude, negative) = self.sample_parts(rng);
            // Zero would otherwise be drawn twice as often, once with each sign.
            if !(negative && magnitude == 0) {
                let magnitude = i128::try_from(magnitude).unwrap_or(i128::MAX);
                return if negative { -magnitude } else { magnitude };
            }
        }
    }

    /// `candidate` over the scale's numerator, in units of 2⁻⁶⁴, rounded down by at most 8 of them.
    #[inline]
    fn approximate_exponent(&self, candidate: u128) -> u128 {
        // The candidate is below the divisor of the reciprocal, so the product fits.
        ((candidate >> self.narrowing) * self.reciprocal) >> 64
    }

    /// A magnitude of the one-sided geometric law with ratio e^(−1/scale), and an independent sign.
    #[inline]
    fn sample_parts<R: CryptoRng + ?Sized>(&self, rng: &mut R) -> (u128, bool) {
        let bound = self.remainder.bound();
        let remainder = loop {
            let candidate = self.remainder.sample(rng);
            if candidate == 0 {
                break candidate;
            }
            if bernoulli_exp(rng, self.approximate_exponent(candidate), || {
                (BigUint::from(candidate), BigUint::from(bound))
            }) {
                break candidate;
            }
        };
        let (quotient, negative) = geometric_and_bit(rng);
        let fine = bound.saturating_mul(u128::from(quotient)).saturating_add(remainder);
        (fine >> self.scale.shift(), negative)
    }
}

impl PartialOrd for DiscreteLaplace {
    /// By scale.
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.scale.partial_cmp(&other.scale)
    }
}

impl Serialize for DiscreteLaplace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Parameters {
            scale: Dyadic,
        }
        Parameters { scale: self.scale }.serialize(serializer)
    }
}
