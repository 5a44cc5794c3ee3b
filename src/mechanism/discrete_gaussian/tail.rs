//! Upper bounds of P[Z ≥ t] for the discrete Gaussian law: by summing it where it is narrow, by the continuous law
//! where it is wide.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use super::DiscreteGaussian;

/// More than the relative error of the float operations below: sums of some ten thousand positive terms, each with an
/// exponent of at most about 700.
const FLOAT_MARGIN: f64 = 1e-9;

/// The law is summed up to this σ². The continuous bound costs one step more than the sum: nothing beside a larger σ.
const SUMMED_VARIANCE: f64 = 1_048_576.0;

impl DiscreteGaussian {
    /// An upper bound of P[Z ≥ `t`]: above it by less than one part in 10⁸ for σ ≤ 2¹⁰, and otherwise the continuous
    /// tail from `t` − 1, which is no less.
    #[must_use]
    pub fn tail(&self, t: u64) -> f64 {
        let t = t as f64;
        let bound = if self.parameter() <= SUMMED_VARIANCE { self.summed_tail(t) } else { self.continuous_tail(t) };
        // Below the smallest float, a bound must still not be zero.
        bound.clamp(f64::MIN_POSITIVE, 1.0)
    }

    /// A whole t ≥ 0 with P[Z ≥ t] ≤ `probability`: the least such for σ ≤ 2¹⁰ (unless one part in 10⁸ of the
    /// probability decides), and otherwise 1 + ⌈σ·Φ⁻¹(1 − `probability`)⌉. `probability` is positive.
    pub(in crate::mechanism) fn tail_quantile(&self, probability: f64) -> f64 {
        let mut t = (self.parameter().sqrt() * normal_upper_quantile(probability)).ceil() + 1.0;
        if self.parameter() > SUMMED_VARIANCE {
            return t;
        }
        // The continuous bound is sound, so the least t is at or below it: walk down, adding a term at a time.
        let mut tail = self.summed_tail(t);
        while t >= 1.0 {
            tail += self.mass(t - 1.0);
            if tail > probability {
                break;
            }
            t -= 1.0;
        }
        t
    }

    /// σ², to the float's precision. A quantile that uses it has a margin far above that.
    fn parameter(&self) -> f64 {
        self.variance.to_f64()
    }

    /// An upper bound of P[Z = `x`].
    fn mass(&self, x: f64) -> f64 {
        let variance = self.parameter();
        // By Poisson's summation formula Σ e^(−x²/2σ²) ≥ √(2πσ²), from σ² = 4 on with less than a float's rounding
        // between them. Below that a partial sum is as good a lower bound.
        let normaliser = if variance >= 4.0 {
            (2.0 * PI * variance).sqrt()
        } else {
            (1..=20).map(|x| 2.0 * (-f64::from(x * x) / (2.0 * variance)).exp()).sum::<f64>() + 1.0
        };
        (-x * x / (2.0 * variance)).exp() / normaliser * (1.0 + FLOAT_MARGIN)
    }

    /// An upper bound of P[Z ≥ `t`], `t` ≥ 0: the terms one by one, then a geometric series for the rest.
    pub(super) fn summed_tail(&self, t: f64) -> f64 {
        let variance = self.parameter();
        let mut sum = 0.0;
        let mut x = t;
        loop {
            let mass = self.mass(x);
            // Beyond x each term is less than `ratio` times the one before.
            let ratio = (-(2.0 * x + 1.0) / (2.0 * variance)).exp();
            let rest = mass * ratio / (1.0 - ratio);
            sum += mass;
            if rest <= sum * FLOAT_MARGIN {
                return sum + rest;
            }
            x += 1.0;
        }
    }

    /// P[N(0, σ²) ≥ `t` − 1], which is no less than P[Z ≥ `t`] for a whole `t` ≥ 1.
    pub(super) fn continuous_tail(&self, t: f64) -> f64 {
        if t < 1.0 {
            return 1.0;
        }
        let z = (t - 1.0) / self.parameter().sqrt();
        // A relative error of z is multiplied by about z² in the tail.
        normal_tail(z) * (1.0 + FLOAT_MARGIN)
    }
}

/// P[N(0, 1) ≥ z].
fn normal_tail(z: f64) -> f64 {
    0.5 * libm::erfc(z * FRAC_1_SQRT_2)
}

/// The least z ≥ 0 with P[N(0, 1) ≥ z] ≤ `probability`, rounded up.
fn normal_upper_quantile(probability: f64) -> f64 {
    let wanted = probability * (1.0 - FLOAT_MARGIN);
    // The tail at 40 is below the smallest float, so that the bracket holds every positive probability.
    let (mut low, mut high) = (0.0, 40.0);
    if normal_tail(low) <= wanted {
        return low;
    }
    for _ in 0..64 {
        let middle = 0.5 * (low + high);
        if normal_tail(middle) <= wanted {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}
