//! The discrete Gaussian law, P(x) ∝ e^(−x²/(2σ²)) on the integers, sampled exactly.
//!
//! Canonne, Kamath and Steinke (2020), algorithm 3, on machine integers. `proof.md` has the argument.

mod tail;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;

use num_bigint::BigUint;
use rand::CryptoRng;
use serde::{Serialize, Serializer};

use super::bernoulli_exp::{bernoulli_exp, bernoulli_exp_exact};
use super::discrete_laplace::DiscreteLaplace;
use super::{CalibrationError, Dyadic, ceil_steps};
use crate::accounting::Rho;

/// A sampler of the discrete Gaussian law of one variance parameter σ².
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DiscreteGaussian {
    /// σ² = N/2^j.
    variance: Dyadic,
    /// The law that proposals are drawn from: discrete Laplace of the whole scale t = ⌊σ⌋ + 1.
    proposal: DiscreteLaplace,
    /// t·2^j.
    step: u128,
    /// 1/(2·N·t²·2^j) = `weight`·2^(−`weight_exponent`), rounded down; `weight` has its top bit set.
    weight: u64,
    weight_exponent: u32,
}

impl DiscreteGaussian {
    /// σ² is at most 2¹²⁰, and so is its numerator.
    pub const MAX_VARIANCE_BITS: u32 = 120;

    /// The law of the given variance parameter.
    ///
    /// # Errors
    /// When the numerator of the variance is above 2¹²⁰.
    pub fn with_variance(variance: Dyadic) -> Result<Self, CalibrationError> {
        if variance.numerator() > 1 << Self::MAX_VARIANCE_BITS {
            return Err(CalibrationError::TooMuchNoise);
        }
        let t = (variance.numerator() >> variance.shift()).isqrt() + 1;
        let proposal = Dyadic::new(t, 0).ok_or(CalibrationError::TooMuchNoise).and_then(DiscreteLaplace::with_scale)?;
        let divisor = acceptance_divisor(variance, t);
        let bits = divisor.bits();
        let weight = ((BigUint::from(1u32) << (bits + 63)) - 1u32) / divisor;
        let weight = u64::try_from(weight).map_err(|_| CalibrationError::TooMuchNoise)?;
        let weight_exponent = u32::try_from(bits + 63).map_err(|_| CalibrationError::TooMuchNoise)?;
        Ok(Self { variance, proposal, step: t << variance.shift(), weight, weight_exponent })
    }

    /// The least practical noise that makes a query of squared L2 sensitivity `d_squared` (in squared lattice steps)
    /// `rho`-zCDP: σ² = `d_squared`/(2·`rho`), exactly when that is an integer, otherwise less than 10⁻⁶ of itself
    /// above.
    ///
    /// # Errors
    /// When `d_squared` or `rho` is zero, or the variance would pass 2¹²⁰.
    pub fn calibrated(d_squared: u128, rho: Rho) -> Result<Self, CalibrationError> {
        if d_squared == 0 {
            return Err(CalibrationError::NoSensitivity);
        }
        if rho == Rho::ZERO {
            return Err(CalibrationError::NoLoss);
        }
        let numerator = BigUint::from(d_squared) * Rho::STEPS_PER_UNIT;
        let variance =
            Dyadic::at_least(&numerator, &(BigUint::from(rho.steps()) * 2u32)).ok_or(CalibrationError::TooMuchNoise)?;
        Self::with_variance(variance)
    }

    /// The zCDP loss of this noise on a query of squared L2 sensitivity `d_squared`: `d_squared`/(2σ²), rounded up to
    /// a step.
    ///
    /// Never above the ρ that the noise was calibrated with. A loss that the ledger cannot hold is [`Rho::MAX`], which
    /// no budget admits.
    #[must_use]
    pub fn cost(&self, d_squared: u128) -> Rho {
        Self::loss(d_squared, self.variance)
    }

    /// [`Self::cost`] from the facts alone: for records of noise that was drawn long ago.
    #[must_use]
    pub fn loss(d_squared: u128, variance: Dyadic) -> Rho {
        let numerator = (BigUint::from(d_squared) * Rho::STEPS_PER_UNIT) << variance.shift();
        Rho::from_steps(ceil_steps(&numerator, &(BigUint::from(variance.numerator()) * 2u32)))
    }

    /// The parameter σ², exactly.
    #[must_use]
    pub const fn exact_variance(&self) -> Dyadic {
        self.variance
    }

    /// The parameter σ² as numerator and denominator, a power of two. The variance of the discrete law is no more.
    #[must_use]
    pub const fn variance(&self) -> (u128, u128) {
        (self.variance.numerator(), self.variance.denominator())
    }

    /// The standard deviation of the discrete law.
    #[must_use]
    pub fn std_dev(&self) -> f64 {
        let variance = self.variance.to_f64();
        // From here on the two differ by less than a float can show (by e^(−2π²σ²)).
        if variance >= 4.0 {
            return variance.sqrt();
        }
        let (mut mass, mut moment) = (1.0, 0.0);
        for x in 1..=100 {
            let square = f64::from(x * x);
            let weight = 2.0 * (-square / (2.0 * variance)).exp();
            mass += weight;
            moment += square * weight;
        }
        (moment / mass).sqrt()
    }

    /// One draw.
    #[inline]
    pub fn sample<R: CryptoRng + ?Sized>(&self, rng: &mut R) -> i128 {
        loop {
            let candidate = self.proposal.sample(rng);
            if self.accepts(candidate.unsigned_abs(), rng) {
                return candidate;
            }
        }
    }

    /// True with probability exactly e^(−x), x = (|Y| − σ²/t)²/(2σ²) = (|Y|·t·2^j − N)²/(2·N·t²·2^j).
    #[inline]
    fn accepts<R: CryptoRng + ?Sized>(&self, magnitude: u128, rng: &mut R) -> bool {
        let Some(scaled) = magnitude.checked_mul(self.step) else {
            return self.accepts_far(magnitude, rng);
        };
        let distance = scaled.abs_diff(self.variance.numerator());
        if distance == 0 {
            return true;
        }
        bernoulli_exp(rng, self.approximate_exponent(distance), || self.exact_exponent(magnitude))
    }

    /// x in units of 2⁻⁶⁴, rounded down, from the leading 64 bits of the distance and of the weight.
    #[inline]
    fn approximate_exponent(&self, distance: u128) -> u128 {
        let zeros = distance.leading_zeros();
        let leading = (distance << zeros) >> 64;
        // distance² ≈ square·2^(192 − 2·zeros), with square in [2⁶², 2⁶⁴).
        let square = (leading * leading) >> 64;
        let product = square * u128::from(self.weight);
        // x·2⁶⁴ ≈ product·2^(256 − 2·zeros − weight_exponent), with product at least 2¹²⁵.
        match (self.weight_exponent + 2 * zeros).checked_sub(256) {
            Some(shift) if shift >= 55 => product.checked_shr(shift).unwrap_or(0),
            // x is at least 2⁷, where e^(−x) is less than any 63 digits show.
            _ => u128::MAX,
        }
    }

    fn exact_exponent(&self, magnitude: u128) -> (BigUint, BigUint) {
        let scaled = BigUint::from(magnitude) * self.step;
        let centre = BigUint::from(self.variance.numerator());
        let distance = if scaled >= centre { scaled - centre } else { centre - scaled };
        (&distance * &distance, acceptance_divisor(self.variance, self.proposal.scale().numerator()))
    }

    /// A proposal so far out that its distance takes more than 128 bits, which happens with probability below e⁻⁶⁴.
    #[cold]
    fn accepts_far<R: CryptoRng + ?Sized>(&self, magnitude: u128, rng: &mut R) -> bool {
        let (numerator, denominator) = self.exact_exponent(magnitude);
        bernoulli_exp_exact(rng, &numerator, &denominator)
    }
}

/// 2·N·t²·2^j, where σ² = N/2^j.
fn acceptance_divisor(variance: Dyadic, t: u128) -> BigUint {
    (BigUint::from(variance.numerator()) * t * t) << (variance.shift() + 1)
}

impl PartialOrd for DiscreteGaussian {
    /// By variance.
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.variance.partial_cmp(&other.variance)
    }
}

impl Serialize for DiscreteGaussian {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Parameters {
            variance: Dyadic,
        }
        Parameters { variance: self.variance }.serialize(serializer)
    }
}
