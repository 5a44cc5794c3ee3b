//! How far a released number may lie from the bounded statistic, as far as policy, SQL and price can tell.

use super::moments::Moments;
use super::price::NoisePlan;
use super::quantile::{MILLION, WHOLE};
use super::spec::{MeasureKind, Output, ReleaseSpec};

/// Φ⁻¹(0.975).
pub(super) const HALF_WIDTH_95: f64 = 1.959_963_984_540_054;
/// A rank that is off by ln 20 scales is 1/20 as likely as the best.
const RANK_95: f64 = 2.995_732_273_553_991;

impl NoisePlan {
    /// The half-width of an output's 95 % interval in a group of `units` units of one row each, relative to its size: to the
    /// number of units for counts, to as many rows at the largest bound for sums, to the width of the bounds for averages
    /// and other ratios, to the number of rows for the rank of a quantile.
    ///
    /// `None` when the output is none of the specification's.
    #[must_use]
    pub fn relative_error(&self, spec: &ReleaseSpec, output: &Output, units: f64) -> Option<f64> {
        let half_width = |measure: usize| Some(self.measures().get(measure)?.half_width_95());
        match output {
            Output::Units => Some(self.units()?.half_width_95() / units),
            Output::Count { measure } => Some(half_width(*measure)? / units),
            Output::Sum { measure } => {
                let bound = spec.measures.get(*measure)?.bound() as f64;
                Some(half_width(*measure)? / (units * bound))
            }
            Output::Quantile { quantile } => {
                let rows = self.quantiles().get(*quantile)?.scale() / (WHOLE as f64 * MILLION as f64);
                Some(RANK_95 * rows / units)
            }
            Output::Computed { statistic, measures } => {
                let moments = Moments::new(spec, *statistic, measures).ok()?;
                let deviations: Vec<f64> = measures
                    .iter()
                    .map(|at| Some(self.measures().get(*at)?.std_dev() * super::draw::step(spec.measures.get(*at)?)))
                    .collect::<Option<_>>()?;
                // Values spread evenly over their bounds: sums about the centre are 0, and squares a third of the largest.
                let mut typical = vec![0.0; measures.len()];
                typical[0] = units;
                for (place, at) in typical.iter_mut().zip(measures).skip(1) {
                    if let MeasureKind::Sum { lattice, .. } = &spec.measures.get(*at)?.kind {
                        let lattice = lattice.describe();
                        if lattice.lo == 0.0 && lattice.centre > 0.0 {
                            *place = units * (lattice.hi / 3.0 - lattice.centre);
                        }
                    }
                }
                let span = moments.typical_span(units);
                Some(HALF_WIDTH_95 * moments.deviation(&typical, &deviations) / span)
            }
        }
    }

    /// The largest relative error of all outputs.
    #[must_use]
    pub fn largest_relative_error(&self, spec: &ReleaseSpec, units: f64) -> f64 {
        spec.outputs.iter().filter_map(|(_, output)| self.relative_error(spec, output, units)).fold(0.0, f64::max)
    }
}
