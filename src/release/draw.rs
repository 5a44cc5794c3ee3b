//! Noise, selection and outputs: from exact sums of bounded contributions to what may be shown (DESIGN 4.2).
//!
//! ```text
//! key units measures        + noise                      n ≥ k and n + Z ≥ k + τ?          outputs
//!  X   120   3071    ──▶    Z_units, Z_measure  ──▶      yes: the row is shown     ──▶     X  3068.0
//!  Y     4     19                                        no: no row (or NULLs)
//! ```

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Float64Array, Int64Array, UInt32Array, UInt64Array,
};
use arrow::compute::{SortColumn, cast, filter, lexsort_to_indices, take};
use arrow::datatypes::{DataType, Decimal128Type, Int64Type};
use arrow::record_batch::RecordBatch;
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;
use rand::CryptoRng;

use crate::mechanism::{Exponential, Noise};

use super::accuracy::HALF_WIDTH_95;
use super::bound::{GroupSums, Sums, distinct, emitted, key_schema};
use super::moments::Moments;
use super::node::output_schema;
use super::price::NoisePlan;
use super::quantile::{Candidates, Weights, add, compact};
use super::spec::{Groups, Measure, MeasureKind, Output, Quantile, ReleaseSpec, Statistic};

/// Adds up the partitions' sums by group.
pub struct Merge {
    spec: Arc<ReleaseSpec>,
    groups: Option<Box<dyn GroupValues>>,
    /// How many groups are listed: those interned from the public cells, which come first.
    listed: usize,
    sums: GroupSums,
    codes: Vec<usize>,
}

impl Merge {
    /// No sums yet. With public keys every cell is there from the start, in its order, with nothing in it.
    ///
    /// # Errors
    /// When the keys cannot be grouped.
    pub fn new(spec: Arc<ReleaseSpec>) -> Result<Self> {
        let mut groups =
            if spec.keys.is_empty() { None } else { Some(new_group_values(key_schema(&spec), &GroupOrdering::None)?) };
        let mut codes = Vec::new();
        let mut cells = usize::from(spec.keys.is_empty());
        if let (Groups::Public { keys, .. }, Some(groups)) = (&spec.groups, &mut groups) {
            let columns = keys
                .iter()
                .map(|column| ScalarValue::iter_to_array(column.iter().cloned()))
                .collect::<Result<Vec<_>>>()?;
            groups.intern(&columns, &mut codes)?;
            cells = groups.len();
        }
        let measures = spec.measures.iter().map(|measure| Sums::nothing(measure, cells)).collect();
        let histograms = vec![vec![Weights::new(); cells]; spec.histograms.len()];
        let sums = GroupSums { keys: Vec::new(), units: vec![0; cells], measures, histograms };
        Ok(Self { spec, groups, listed: cells, sums, codes })
    }

    /// How many groups are listed as public cells.
    #[must_use]
    pub const fn listed(&self) -> usize {
        self.listed
    }

    /// Adds a partition's sums.
    ///
    /// # Errors
    /// When the batch has not the columns of partial sums.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let keys = self.spec.keys.len();
        self.codes.clear();
        match &mut self.groups {
            None => self.codes.resize(batch.num_rows(), 0),
            Some(groups) => {
                groups.intern(&batch.columns()[..keys], &mut self.codes)?;
                let len = groups.len();
                self.sums.units.resize(len, 0);
                self.sums.measures.iter_mut().for_each(|sums| sums.resize(len));
                self.sums.histograms.iter_mut().for_each(|groups| groups.resize(len, Weights::new()));
            }
        }
        let Some(units) = batch.column(keys).as_primitive_opt::<Int64Type>() else {
            return exec_err!("partial sums have no unit count");
        };
        for (group, units) in self.codes.iter().zip(units.values()) {
            self.sums.units[*group] += units;
        }
        for (at, sums) in self.sums.measures.iter_mut().enumerate() {
            let column = batch.column(keys + 1 + at);
            match sums {
                Sums::Whole(sums) => {
                    let Some(partial) = column.as_primitive_opt::<Decimal128Type>() else {
                        return exec_err!("partial sums lack a measure");
                    };
                    for (group, partial) in self.codes.iter().zip(partial.values()) {
                        sums[*group] += partial;
                    }
                }
                Sums::Values(groups) => {
                    let Some(partial) = column.as_binary_opt::<i64>() else {
                        return exec_err!("partial sums lack distinct values");
                    };
                    for (at, group) in self.codes.iter().enumerate() {
                        let (values, _) = partial.value(at).as_chunks::<16>();
                        groups[*group].extend(values.iter().map(|bytes| u128::from_le_bytes(*bytes)));
                    }
                }
            }
        }
        let first = keys + 1 + self.spec.measures.len();
        for (at, (groups, histogram)) in self.sums.histograms.iter_mut().zip(&self.spec.histograms).enumerate() {
            let Some(partial) = batch.column(first + at).as_binary_opt::<i64>() else {
                return exec_err!("partial sums lack a histogram");
            };
            for (at, group) in self.codes.iter().enumerate() {
                let (pairs, _) = partial.value(at).as_chunks::<12>();
                let pair = |bytes: &[u8; 12]| {
                    let [a, b, c, d, weight @ ..] = *bytes;
                    (u32::from_le_bytes([a, b, c, d]), u64::from_le_bytes(weight))
                };
                add(&mut groups[*group], pairs.iter().map(pair), &histogram.candidates);
            }
        }
        Ok(())
    }

    /// The sums of all groups: public ones in the order of their cells, private ones in the order of their keys, so
    /// that the order of the answer's rows tells nothing of the order of the data's.
    ///
    /// # Errors
    /// When keys cannot be emitted or sorted.
    pub fn finish(mut self) -> Result<GroupSums> {
        for measure in &mut self.sums.measures {
            if let Sums::Values(groups) = measure {
                groups.iter_mut().for_each(distinct);
            }
        }
        self.sums.histograms.iter_mut().flatten().for_each(compact);
        let Some(groups) = &mut self.groups else { return Ok(self.sums) };
        let keys = emitted(groups.as_mut(), &self.spec)?;
        let order = match &self.spec.groups {
            // Rows with unlisted keys were dropped below; a group past the listed ones would be one, and is left out. Two
            // cells that are one group (as 0.0 and -0.0 are) are listed once.
            Groups::Public { .. } => UInt32Array::from_iter_values(0..self.listed as u32),
            Groups::Private => {
                let columns: Vec<SortColumn> =
                    keys.iter().map(|key| SortColumn { values: Arc::clone(key), options: None }).collect();
                lexsort_to_indices(&columns, None)?
            }
        };
        let ordered = |sums: &Sums| match sums {
            Sums::Whole(sums) => Sums::Whole(order.values().iter().map(|at| sums[*at as usize]).collect()),
            Sums::Values(groups) => {
                Sums::Values(order.values().iter().map(|at| groups[*at as usize].clone()).collect())
            }
        };
        Ok(GroupSums {
            keys: keys.iter().map(|key| Ok(take(key, &order, None)?)).collect::<Result<_>>()?,
            units: order.values().iter().map(|at| self.sums.units[*at as usize]).collect(),
            measures: self.sums.measures.iter().map(ordered).collect(),
            histograms: self
                .sums
                .histograms
                .iter()
                .map(|groups| order.values().iter().map(|at| groups[*at as usize].clone()).collect())
                .collect(),
        })
    }
}

/// Draws the release: the one place where noise is added.
///
/// # Errors
/// When the outputs cannot be built.
pub fn draw<R: CryptoRng + ?Sized>(
    spec: &ReleaseSpec,
    noise: &NoisePlan,
    sums: GroupSums,
    rng: &mut R,
) -> Result<RecordBatch> {
    let tau = noise.selection().map(|selection| selection.tau);
    read_off(spec, noise, sums, tau, Drawing::Noised(rng))
}

/// What a draw would be without noise and threshold: for tests against the plain query, and in no other build.
///
/// # Errors
/// When the outputs cannot be built.
#[cfg(test)]
pub fn draw_exactly(spec: &ReleaseSpec, noise: &NoisePlan, sums: GroupSums) -> Result<RecordBatch> {
    read_off::<rand::rngs::StdRng>(spec, noise, sums, noise.selection().map(|_| 0), Drawing::Exact)
}

/// Where noise comes from.
enum Drawing<'a, R: CryptoRng + ?Sized> {
    /// From the laws of the plan.
    Noised(&'a mut R),
    /// From nowhere.
    #[cfg(test)]
    Exact,
}

impl<R: CryptoRng + ?Sized> Drawing<'_, R> {
    fn noise(&mut self, law: &Noise) -> i128 {
        match self {
            Self::Noised(rng) => law.sample(*rng),
            #[cfg(test)]
            Self::Exact => 0,
        }
    }

    fn quantile(
        &mut self,
        quantile: &Quantile,
        candidates: &Candidates,
        weights: &[(u32, u64)],
        law: &Exponential,
    ) -> Result<f64> {
        match self {
            Self::Noised(rng) => quantile.draw(candidates, weights, law, *rng),
            #[cfg(test)]
            Self::Exact => Ok(quantile.exact(candidates, weights)),
        }
    }
}

fn read_off<R: CryptoRng + ?Sized>(
    spec: &ReleaseSpec,
    noise: &NoisePlan,
    sums: GroupSums,
    tau: Option<u64>,
    mut drawing: Drawing<'_, R>,
) -> Result<RecordBatch> {
    let cells = sums.units.len();
    let noisy_units: Option<Vec<i128>> =
        noise.units().map(|noise| sums.units.iter().map(|units| i128::from(*units) + drawing.noise(noise)).collect());
    let noisy: Vec<Vec<i128>> = sums
        .measures
        .iter()
        .zip(noise.measures())
        .map(|(sums, noise)| match sums {
            Sums::Whole(sums) => sums.iter().map(|sum| sum.saturating_add(drawing.noise(noise))).collect(),
            Sums::Values(groups) => groups.iter().map(|values| values.len() as i128 + drawing.noise(noise)).collect(),
        })
        .collect();
    if noisy.len() != spec.measures.len()
        || noise.quantiles().len() != spec.quantiles.len()
        || (spec.counts_units() && noisy_units.is_none())
    {
        return exec_err!("a measure has no noise");
    }
    let shown = match (spec.selects_groups(), tau, &noisy_units) {
        (false, None, _) => vec![true; cells],
        (true, Some(tau), Some(noisy)) => {
            let (k, threshold) = (spec.min_group_size, i128::from(spec.min_group_size) + i128::from(tau));
            sums.units
                .iter()
                .zip(noisy)
                .map(|(units, noisy)| u64::try_from(*units).is_ok_and(|units| units >= k) && *noisy >= threshold)
                .collect()
        }
        _ => return exec_err!("groups are to be selected without a threshold"),
    };
    let mut quantiles = Vec::with_capacity(spec.quantiles.len());
    for (quantile, law) in spec.quantiles.iter().zip(noise.quantiles()) {
        let candidates = &spec.histograms[quantile.histogram].candidates;
        let of_group = sums.histograms[quantile.histogram].iter().zip(&shown);
        let drawn = of_group
            .map(|(weights, shown)| shown.then(|| drawing.quantile(quantile, candidates, weights, law)).transpose())
            .collect::<Result<Vec<_>>>()?;
        quantiles.push(drawn);
    }
    let units = noisy_units.as_deref().unwrap_or_default();
    let values = Values { spec, noise, units, measures: &noisy, quantiles: &quantiles, shown: &shown };
    let mut columns = sums.keys;
    let mut half_widths: Vec<ArrayRef> = Vec::with_capacity(spec.outputs.len());
    for (field, output) in &spec.outputs {
        let (column, half_width) = values.output(field.data_type(), output)?;
        columns.push(column);
        half_widths.push(half_width);
    }
    columns.extend(half_widths);
    if matches!(spec.groups, Groups::Private) {
        // A group that was not selected leaves no row; a public one stays, its values NULL.
        let shown = BooleanArray::from(shown.clone());
        columns = columns.iter().map(|column| Ok(filter(column, &shown)?)).collect::<Result<_>>()?;
    }
    let rows = columns.first().map_or(cells, Array::len);
    let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(output_schema(spec), columns, &options)?)
}

/// Noised values of every group, by measure.
struct Values<'a> {
    spec: &'a ReleaseSpec,
    noise: &'a NoisePlan,
    units: &'a [i128],
    measures: &'a [Vec<i128>],
    quantiles: &'a [Vec<Option<f64>>],
    shown: &'a [bool],
}

impl Values<'_> {
    /// An aggregate's column and its half-widths, NULL where the group is not shown.
    fn output(&self, kind: &DataType, output: &Output) -> Result<(ArrayRef, ArrayRef)> {
        Ok(match output {
            Output::Units => {
                let half_width = self.noise.units().map_or(0.0, Noise::half_width_95);
                (self.whole(kind, self.units, 1, 0)?, self.constant(half_width))
            }
            Output::Count { measure } => {
                (self.whole(kind, &self.measures[*measure], 1, 0)?, self.constant(self.half_width(*measure)))
            }
            Output::Sum { measure } => (self.sum(kind, *measure)?, self.constant(self.half_width(*measure))),
            Output::Quantile { quantile } => {
                let values: ArrayRef = Arc::new(Float64Array::from(self.quantiles[*quantile].clone()));
                // How far it may lie from the true one depends on how dense the data is there, which is not known.
                (cast(&values, kind)?, Arc::new(Float64Array::new_null(values.len())))
            }
            Output::Computed { statistic, measures } => self.computed(kind, *statistic, measures)?,
        })
    }

    fn half_width(&self, measure: usize) -> f64 {
        self.noise.measures()[measure].half_width_95() * step(&self.spec.measures[measure])
    }

    fn constant(&self, half_width: f64) -> ArrayRef {
        Arc::new(self.shown.iter().map(|shown| shown.then_some(half_width)).collect::<Float64Array>())
    }

    fn sum(&self, kind: &DataType, measure: usize) -> Result<ArrayRef> {
        let MeasureKind::Sum { lattice, .. } = &self.spec.measures[measure].kind else {
            return exec_err!("a sum is of a measure that is none");
        };
        match lattice {
            super::Lattice::Float { step, .. } => self.float(kind, &self.measures[measure], *step),
            super::Lattice::Integer { shift, scale, .. } => {
                self.whole(kind, &self.measures[measure], 1i128 << shift, *scale)
            }
        }
    }

    fn float(&self, kind: &DataType, values: &[i128], step: f64) -> Result<ArrayRef> {
        match kind {
            DataType::Float64 => Ok(Arc::new(
                values
                    .iter()
                    .zip(self.shown)
                    .map(|(value, shown)| shown.then_some(*value as f64 * step))
                    .collect::<Float64Array>(),
            )),
            other => exec_err!("a sum of floats is {other}"),
        }
    }

    /// Whole numbers of `unit`s of 10^-scale, held within the type.
    fn whole(&self, kind: &DataType, values: &[i128], unit: i128, scale: i8) -> Result<ArrayRef> {
        let scaled = values.iter().zip(self.shown).map(|(value, shown)| shown.then_some(value.saturating_mul(unit)));
        Ok(match kind {
            DataType::Int64 => Arc::new(
                scaled
                    .map(|value| value.map(|value| value.clamp(i64::MIN.into(), i64::MAX.into()) as i64))
                    .collect::<Int64Array>(),
            ),
            DataType::UInt64 => Arc::new(
                scaled.map(|value| value.map(|value| value.clamp(0, u64::MAX.into()) as u64)).collect::<UInt64Array>(),
            ),
            DataType::Decimal128(precision, to) if *to == scale => {
                let most = 10i128.pow(u32::from(*precision).min(38)) - 1;
                Arc::new(
                    scaled
                        .map(|value| value.map(|value| value.clamp(-most, most)))
                        .collect::<Decimal128Array>()
                        .with_precision_and_scale(*precision, *to)?,
                )
            }
            other => return exec_err!("a whole sum is {other}"),
        })
    }

    /// A function of several measures in each cell, NULL where it has no value; and 1.96 standard deviations of it, by the
    /// delta method on the noised values.
    fn computed(&self, kind: &DataType, statistic: Statistic, measures: &[usize]) -> Result<(ArrayRef, ArrayRef)> {
        let moments = Moments::new(self.spec, statistic, measures)?;
        let deviations: Vec<f64> =
            measures.iter().map(|at| self.noise.measures()[*at].std_dev() * step(&self.spec.measures[*at])).collect();
        let mut values = Vec::with_capacity(self.shown.len());
        let mut half_widths = Vec::with_capacity(self.shown.len());
        let mut noised = vec![0.0; measures.len()];
        for (cell, shown) in self.shown.iter().enumerate() {
            for (place, at) in noised.iter_mut().zip(measures) {
                *place = self.measures[*at][cell] as f64 * step(&self.spec.measures[*at]);
            }
            let value = if *shown { moments.value(&noised) } else { None };
            let half_width =
                value.map(|_| (HALF_WIDTH_95 * moments.deviation(&noised, &deviations)).min(moments.span()));
            half_widths.push(half_width.filter(|half_width| half_width.is_finite()));
            values.push(value);
        }
        let values: ArrayRef = match kind {
            DataType::Float64 => Arc::new(Float64Array::from(values)),
            DataType::Int64 => {
                Arc::new(values.iter().map(|value| value.map(|value| value.round() as i64)).collect::<Int64Array>())
            }
            DataType::UInt64 => {
                Arc::new(values.iter().map(|value| value.map(|value| value.round() as u64)).collect::<UInt64Array>())
            }
            DataType::Decimal128(precision, scale) => {
                let unit = 10f64.powi(i32::from(*scale));
                let most = 10i128.pow(u32::from(*precision).min(38)) - 1;
                Arc::new(
                    values
                        .iter()
                        .map(|value| value.map(|value| ((value * unit).round() as i128).clamp(-most, most)))
                        .collect::<Decimal128Array>()
                        .with_precision_and_scale(*precision, *scale)?,
                )
            }
            other => return exec_err!("a computed aggregate is {other}"),
        };
        Ok((values, Arc::new(Float64Array::from(half_widths))))
    }
}

/// One step of a measure in its output's unit.
pub(super) fn step(measure: &Measure) -> f64 {
    match &measure.kind {
        MeasureKind::Rows | MeasureKind::Values { .. } | MeasureKind::Units | MeasureKind::Distinct { .. } => 1.0,
        MeasureKind::Sum { lattice, .. } => lattice.describe().step,
    }
}
