//! Upper bounds of P[Z ≥ t] for the discrete Laplace law, by its closed form q^t/(1 + q).

use super::DiscreteLaplace;

/// More than the relative error of the few float operations below, whose exponent is at most about 750.
const FLOAT_MARGIN: f64 = 1e-12;

impl DiscreteLaplace {
    /// An upper bound of P[Z ≥ `t`], above it by less than one part in 10⁸.
    #[must_use]
    pub fn tail(&self, t: u64) -> f64 {
        self.tail_at(t as f64)
    }

    fn tail_at(&self, t: f64) -> f64 {
        let scale = self.scale().to_f64();
        let exponent = t / scale;
        // q is rounded down, which rounds the tail up; below the smallest float a bound must still not be zero.
        let ratio = (-1.0 / scale).exp() * (1.0 - FLOAT_MARGIN);
        let bound = (-exponent).exp() / (1.0 + ratio) * (1.0 + FLOAT_MARGIN * (1.0 + exponent));
        bound.clamp(f64::MIN_POSITIVE, 1.0)
    }

    /// The least whole t ≥ 0 with P[Z ≥ t] ≤ `probability`, as far as floats can tell: never less than the least, and
    /// more by less than one part in 10¹¹. `probability` is positive.
    pub(in crate::mechanism) fn tail_quantile(&self, probability: f64) -> f64 {
        let scale = self.scale().to_f64();
        let log = -probability.ln() - (-1.0 / scale).exp().ln_1p();
        let mut t = (scale * log * (1.0 + 4.0 * FLOAT_MARGIN)).ceil().max(0.0) + 1.0;
        // The closed form is off by at most a few steps where a step matters; for scales so large that floats cannot
        // tell neighbours apart, one more or less is nothing.
        for _ in 0..4 {
            if t >= 1.0 && self.tail_at(t - 1.0) <= probability {
                t -= 1.0;
            }
        }
        t
    }
}
