//! Group selection: how far above the minimum a noised count must be for its group to be shown (DESIGN 4.2).
//!
//! A group of n units is shown iff n ≥ k and n + Z ≥ k + τ. `proof.md` says why that costs `δ_sel` beside the noise's own
//! loss, for τ with P[Z ≥ τ] ≤ `δ_sel`/L0.

use thiserror::Error;

use super::Delta;
use crate::mechanism::Noise;

/// Why there is no threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ThresholdError {
    /// With no δ to spend, no threshold is high enough.
    #[error("choosing which groups may appear needs a delta above zero")]
    NoDelta,
    /// The threshold is higher than any count.
    #[error("the price is too small for any group to appear")]
    TooHigh,
}

/// More than the relative error of a quotient of two rounded numbers.
const FLOAT_MARGIN: f64 = 1e-12;

/// The least τ with P[Z ≥ τ] ≤ `delta_sel`/`l0`, where `noise` is that of the unit counts and one unit is in at most
/// `l0` groups (0 counts as 1).
///
/// Sound: floats are rounded so that τ can only be larger. For σ above 2¹⁰ it is the closed form
/// 1 + ⌈σ·Φ⁻¹(1 − δ/L0)⌉.
///
/// # Errors
/// When `delta_sel` is zero, or τ is above 2⁶³.
pub fn tau(noise: &Noise, delta_sel: Delta, l0: u64) -> Result<u64, ThresholdError> {
    if delta_sel == Delta::ZERO {
        return Err(ThresholdError::NoDelta);
    }
    let probability = delta_sel.to_f64() / l0.max(1) as f64 * (1.0 - FLOAT_MARGIN);
    to_count(noise.tail_quantile(probability))
}

/// An upper bound of P[Z ≥ `t`].
#[must_use]
pub fn tail(noise: &Noise, t: u64) -> f64 {
    noise.tail(t)
}

/// A number of units with which a group appears with probability at least 95 %, where `k` is the minimum group size and
/// `tau` the threshold: k + τ + ⌈1.645·σ⌉ for the discrete Gaussian, the least such number for the discrete Laplace.
///
/// # Errors
/// When that number is above 2⁶³.
pub fn units_to_appear_95(k: u64, tau: u64, noise: &Noise) -> Result<u64, ThresholdError> {
    // n + Z ≥ k + τ fails when −Z ≥ n − k − τ + 1, and −Z has the law of Z. For the Gaussian, P[Z ≥ m + 1] is at most
    // the continuous tail from m.
    let margin = match noise {
        Noise::Gaussian(law) => (1.645 * law.std_dev()).ceil(),
        Noise::Laplace(_) => (noise.tail_quantile(0.05) - 1.0).max(0.0),
    };
    let margin = to_count(margin)?;
    k.checked_add(tau).and_then(|sum| sum.checked_add(margin)).ok_or(ThresholdError::TooHigh)
}

fn to_count(value: f64) -> Result<u64, ThresholdError> {
    // 2⁶³, which a float holds exactly.
    if value <= i64::MAX as f64 { Ok(value as u64) } else { Err(ThresholdError::TooHigh) }
}
