//! Statistics as functions of noised moments: post-processing, tidied to what the statistic can be (DESIGN 4.2, Results).

use datafusion::common::{Result, exec_err};

use super::lattice::Described;
use super::spec::{MeasureKind, ReleaseSpec, Statistic};

/// One statistic over the lattices of its measures.
pub(super) struct Moments {
    statistic: Statistic,
    /// The lattices of the sums, in the statistic's own order, without the count.
    sums: Vec<Described>,
}

impl Moments {
    /// The statistic over these measures of `spec`.
    ///
    /// # Errors
    /// When the measures are not the ones that the statistic is of.
    pub(super) fn new(spec: &ReleaseSpec, statistic: Statistic, measures: &[usize]) -> Result<Self> {
        let expected = match statistic {
            Statistic::Total | Statistic::Mean => 2,
            Statistic::Variance { .. } => 3,
            Statistic::Covariance { .. } => 4,
            Statistic::Slope | Statistic::Intercept => 5,
            Statistic::Correlation => 6,
        };
        if measures.len() != expected {
            return exec_err!("{statistic:?} is of {expected} measures, not {}", measures.len());
        }
        let mut sums = Vec::with_capacity(expected - 1);
        for at in &measures[1..] {
            let MeasureKind::Sum { lattice, .. } = &spec.measures[*at].kind else {
                return exec_err!("a moment is a sum");
            };
            sums.push(lattice.describe());
        }
        Ok(Self { statistic, sums })
    }

    /// The tidied statistic of noised values: the count, then sums of distances from the lattices' centres. `None` where
    /// there is none, as where the noised count is not positive.
    pub(super) fn value(&self, noised: &[f64]) -> Option<f64> {
        let (n, value) = (noised[0], self.raw(noised)?);
        let reach = |at: usize| (self.sums[at].hi - self.sums[at].lo) / 2.0;
        let value = match self.statistic {
            Statistic::Total | Statistic::Slope | Statistic::Intercept => value,
            Statistic::Mean => value.clamp(self.sums[0].lo, self.sums[0].hi),
            Statistic::Variance { sample, root } => {
                let most = reach(0) * reach(0) * if sample { n / (n - 1.0) } else { 1.0 };
                let variance = value.clamp(0.0, most);
                if root { variance.sqrt() } else { variance }
            }
            Statistic::Covariance { .. } => value.clamp(-2.0 * reach(0) * reach(1), 2.0 * reach(0) * reach(1)),
            Statistic::Correlation => value.clamp(-1.0, 1.0),
        };
        value.is_finite().then_some(value)
    }

    /// The statistic before it is tidied. A standard deviation is still a variance here.
    fn raw(&self, noised: &[f64]) -> Option<f64> {
        let n = noised[0];
        if let Statistic::Total = self.statistic {
            return Some(self.sums[0].centre * n + noised[1]);
        }
        if n <= 0.0 {
            return None;
        }
        // The mean distance from the centre of the bounds; products are means about the centres too.
        let mean = |at: usize| noised[1 + at] / n;
        let moment = |at: usize| noised[1 + at] / n + self.sums[at].centre;
        let unbiased = |value: f64, sample: bool| match sample {
            true if n <= 1.0 => None,
            true => Some(value * n / (n - 1.0)),
            false => Some(value),
        };
        match self.statistic {
            Statistic::Total => None,
            Statistic::Mean => Some(self.sums[0].centre + mean(0)),
            Statistic::Variance { sample, .. } => unbiased(moment(1) - mean(0) * mean(0), sample),
            Statistic::Covariance { sample } => unbiased(moment(2) - mean(0) * mean(1), sample),
            Statistic::Correlation => {
                let x = moment(2) - mean(0) * mean(0);
                let y = moment(3) - mean(1) * mean(1);
                let xy = moment(4) - mean(0) * mean(1);
                (x > 0.0 && y > 0.0).then(|| xy / (x * y).sqrt())
            }
            Statistic::Slope | Statistic::Intercept => {
                let x = moment(2) - mean(0) * mean(0);
                let xy = moment(3) - mean(0) * mean(1);
                let slope = (x > 0.0).then(|| xy / x)?;
                match self.statistic {
                    Statistic::Slope => Some(slope),
                    _ => Some(self.sums[1].centre + mean(1) - slope * (self.sums[0].centre + mean(0))),
                }
            }
        }
    }

    /// The standard deviation of the statistic, by the delta method: each measure is moved by its own standard deviation.
    pub(super) fn deviation(&self, noised: &[f64], deviations: &[f64]) -> f64 {
        let mut moved = noised.to_vec();
        let mut squares = 0.0;
        let Some(here) = self.raw(noised) else { return f64::INFINITY };
        for (at, deviation) in deviations.iter().enumerate() {
            // A step small enough that the function is a line along it, and large enough for floats to tell.
            let step = deviation * 1e-3;
            moved[at] = noised[at] + step;
            let above = self.raw(&moved);
            moved[at] = noised[at] - step;
            let below = self.raw(&moved);
            moved[at] = noised[at];
            let slope = match (above, below) {
                (Some(above), Some(below)) => (above - below) / (2.0 * step),
                (Some(one), None) | (None, Some(one)) => (one - here) / step,
                (None, None) => return f64::INFINITY,
            };
            squares += slope * slope * deviation * deviation;
        }
        let deviation = squares.sqrt();
        match self.statistic {
            // d√v = dv / 2√v; where the variance is no more than its own error, the root of that error.
            Statistic::Variance { root: true, .. } if here > deviation => deviation / (2.0 * here.sqrt()),
            Statistic::Variance { root: true, .. } => deviation.sqrt(),
            _ => deviation,
        }
    }

    /// What an error is relative to, for a group of `units` rows: the width of what the statistic can be.
    pub(super) fn typical_span(&self, units: f64) -> f64 {
        let range = |at: usize| self.sums[at].hi - self.sums[at].lo;
        match self.statistic {
            Statistic::Total => units * self.sums[0].lo.abs().max(self.sums[0].hi.abs()),
            Statistic::Slope => range(1) / range(0),
            Statistic::Intercept => range(1),
            _ => self.span(),
        }
    }

    /// How far two values of the statistic can be apart.
    pub(super) fn span(&self) -> f64 {
        let range = |at: usize| self.sums[at].hi - self.sums[at].lo;
        match self.statistic {
            Statistic::Total | Statistic::Slope | Statistic::Intercept => f64::INFINITY,
            Statistic::Mean => range(0),
            // Of a sample of two, twice the variance of all.
            Statistic::Variance { root: false, .. } => range(0) * range(0) / 2.0,
            Statistic::Variance { root: true, .. } => range(0),
            Statistic::Covariance { .. } => range(0) * range(1),
            Statistic::Correlation => 2.0,
        }
    }
}
