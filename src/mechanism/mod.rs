//! Noise: exact samplers of the discrete Gaussian and the discrete Laplace law, on machine integers.
//!
//! Every sampler's law is *exactly* the one stated, given uniform random bits. No float decides a sample, and no real
//! number is rounded before it is compared: a comparison that the first 63 bits leave open goes on with wide integers
//! (`bernoulli_exp`). The parameters are exact rationals ([`Dyadic`]), calibrated so that the loss is never more than
//! was paid. Floats appear in what is *reported* of a law (its standard deviation) and, rounded upwards, in bounds of
//! its tail.
//!
//! After Canonne, Kamath and Steinke, *The Discrete Gaussian for Differential Privacy* (2020)
//! (<https://arxiv.org/abs/2004.00010>). A proof lies beside each sampler.
//!
//! What is here knows nothing of queries, accounts or data.

mod bernoulli_exp;
pub mod discrete_gaussian;
pub mod discrete_laplace;
mod dyadic;
pub mod exponential;
mod source;
#[cfg(test)]
mod tests;
mod uniform;

use num_bigint::BigUint;
use rand::CryptoRng;
use serde::Serialize;
use thiserror::Error;

pub use discrete_gaussian::DiscreteGaussian;
pub use discrete_laplace::DiscreteLaplace;
pub use dyadic::{Dyadic, DyadicError};
pub use exponential::{Exponential, Run};
pub use source::{NoiseSource, NoiseSourceError};

/// Why no noise fits a price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CalibrationError {
    /// The sensitivity is zero: the measure is a constant, and needs no noise.
    #[error("the measure does not depend on the data, so there is nothing to hide with noise")]
    NoSensitivity,
    /// The privacy loss is zero, less than a step of the ledger.
    #[error("the price is too small to buy an answer")]
    NoLoss,
    /// The noise would be larger than a sum can hold.
    #[error("the noise that this price buys would be larger than any answer")]
    TooMuchNoise,
}

/// The noise of one released number, as a plan carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Serialize)]
#[serde(tag = "mechanism", rename_all = "snake_case")]
pub enum Noise {
    /// For zCDP accounts.
    #[serde(rename = "discrete_gaussian")]
    Gaussian(DiscreteGaussian),
    /// For pure accounts.
    #[serde(rename = "discrete_laplace")]
    Laplace(DiscreteLaplace),
}

impl Noise {
    /// The name of the law in reports: `discrete_gaussian` or `discrete_laplace`.
    #[must_use]
    pub const fn mechanism(&self) -> &'static str {
        match self {
            Self::Gaussian(_) => "discrete_gaussian",
            Self::Laplace(_) => "discrete_laplace",
        }
    }

    /// One draw, in lattice steps.
    #[inline]
    pub fn sample<R: CryptoRng + ?Sized>(&self, rng: &mut R) -> i128 {
        match self {
            Self::Gaussian(law) => law.sample(rng),
            Self::Laplace(law) => law.sample(rng),
        }
    }

    /// The standard deviation, in lattice steps.
    #[must_use]
    pub fn std_dev(&self) -> f64 {
        match self {
            Self::Gaussian(law) => law.std_dev(),
            Self::Laplace(law) => law.std_dev(),
        }
    }

    /// The least whole h with P[|Z| ≤ h] ≥ 95 %, in lattice steps (for σ above 2¹⁰: ⌈1.96σ⌉).
    #[must_use]
    pub fn half_width_95(&self) -> f64 {
        // Both laws are symmetric: P[|Z| > h] = 2·P[Z ≥ h + 1].
        (self.tail_quantile(0.025) - 1.0).max(0.0)
    }

    /// An upper bound of P[Z ≥ `t`].
    #[must_use]
    pub fn tail(&self, t: u64) -> f64 {
        match self {
            Self::Gaussian(law) => law.tail(t),
            Self::Laplace(law) => law.tail(t),
        }
    }

    /// A whole t ≥ 0 with P[Z ≥ t] ≤ `probability`, and the least one as far as floats can tell.
    ///
    /// `probability` must be positive and normal; the callers are in `accounting::threshold`.
    pub(crate) fn tail_quantile(&self, probability: f64) -> f64 {
        match self {
            Self::Gaussian(law) => law.tail_quantile(probability),
            Self::Laplace(law) => law.tail_quantile(probability),
        }
    }
}

/// ⌈`numerator` / `denominator`⌉, or the largest 64-bit number where that is less. `denominator` is not zero.
fn ceil_steps(numerator: &BigUint, denominator: &BigUint) -> u64 {
    let rounded_up = (numerator + denominator - 1u32) / denominator;
    u64::try_from(rounded_up).unwrap_or(u64::MAX)
}
