//! Bounded sums by group, and the batch in which they travel from where they are made to where noise is drawn.

use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, Int64Array, LargeBinaryArray, new_empty_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::Result;
use datafusion::logical_expr::EmitTo;
use datafusion::physical_plan::aggregates::group_values::GroupValues;

use super::super::quantile::Weights;
use super::super::spec::{Measure, MeasureKind, ReleaseSpec};

/// The bounded sums of one group.
#[derive(Debug)]
pub struct GroupSums {
    /// By key column, the key of each group; empty without GROUP BY.
    pub keys: Vec<ArrayRef>,
    /// How many units each group has, after L0 bounding.
    pub units: Vec<i64>,
    /// By measure, what each group has of it.
    pub measures: Vec<Sums>,
    /// By histogram, the weights of each group.
    pub histograms: Vec<Vec<Weights>>,
}

/// One measure of every group.
#[derive(Debug, Clone)]
pub enum Sums {
    /// Sums.
    Whole(Vec<i128>),
    /// Keyed hashes of distinct values, each perhaps several times before the groups are merged. Two values of one hash
    /// would count once, which bounds what one unit adds all the same.
    Values(Vec<Vec<u128>>),
}

impl Sums {
    /// Nothing of `measure` in each of `groups`.
    #[must_use]
    pub fn nothing(measure: &Measure, groups: usize) -> Self {
        match measure.kind {
            MeasureKind::Distinct { .. } => Self::Values(vec![Vec::new(); groups]),
            _ => Self::Whole(vec![0; groups]),
        }
    }

    /// Makes room for `groups`.
    pub fn resize(&mut self, groups: usize) {
        match self {
            Self::Whole(sums) => sums.resize(groups, 0),
            Self::Values(values) => values.resize(groups, Vec::new()),
        }
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Whole(sums) => sums.capacity() * 16,
            Self::Values(values) => values.iter().map(|values| 24 + values.capacity() * 16).sum(),
        }
    }
}

/// Sorts, and leaves out what is there already.
pub(in crate::release) fn distinct(values: &mut Vec<u128>) {
    values.sort_unstable();
    values.dedup();
}

/// The schema of the group keys.
pub(in crate::release) fn key_schema(spec: &ReleaseSpec) -> SchemaRef {
    Arc::new(Schema::new(spec.keys.iter().map(Arc::clone).collect::<Vec<_>>()))
}

/// The keys of groups, in the order in which they were met. Of no groups there are no keys: for some types the engine fails
/// there, which would tell that no row is.
///
/// # Errors
/// When keys cannot be emitted.
pub(in crate::release) fn emitted(groups: &mut dyn GroupValues, spec: &ReleaseSpec) -> Result<Vec<ArrayRef>> {
    if groups.is_empty() {
        return Ok(spec.keys.iter().map(|key| new_empty_array(key.data_type())).collect());
    }
    groups.emit(EmitTo::All)
}

/// The schema of exact partial sums.
pub(in crate::release) fn partial_schema(spec: &ReleaseSpec) -> SchemaRef {
    let keys =
        spec.keys.iter().enumerate().map(|(at, key)| Field::new(format!("key{at}"), key.data_type().clone(), true));
    let units = std::iter::once(Field::new("units", DataType::Int64, false));
    let measures = spec.measures.iter().enumerate().map(|(at, measure)| {
        let kind = match measure.kind {
            MeasureKind::Distinct { .. } => DataType::LargeBinary,
            _ => SUM_TYPE,
        };
        Field::new(format!("measure{at}"), kind, false)
    });
    let histograms =
        (0..spec.histograms.len()).map(|at| Field::new(format!("histogram{at}"), DataType::LargeBinary, false));
    Arc::new(Schema::new(keys.chain(units).chain(measures).chain(histograms).collect::<Vec<_>>()))
}

/// A sum is an i128, which Arrow holds as a decimal without digits after the point.
const SUM_TYPE: DataType = DataType::Decimal128(38, 0);

/// Partial sums as a batch.
///
/// # Errors
/// When the sums are not of the schema's specification.
pub(in crate::release) fn partial_batch(schema: SchemaRef, sums: GroupSums) -> Result<RecordBatch> {
    let mut columns: Vec<ArrayRef> = sums.keys;
    columns.push(Arc::new(Int64Array::from(sums.units)));
    for measure in sums.measures {
        columns.push(match measure {
            Sums::Whole(sums) => Arc::new(Decimal128Array::from(sums).with_data_type(SUM_TYPE)),
            Sums::Values(groups) => {
                let bytes = |values: Vec<u128>| values.into_iter().flat_map(u128::to_le_bytes).collect::<Vec<_>>();
                Arc::new(LargeBinaryArray::from_iter_values(groups.into_iter().map(bytes)))
            }
        });
    }
    for histogram in sums.histograms {
        let bytes = |weights: Weights| {
            let pair = |(candidate, weight): (u32, u64)| {
                let mut bytes = [0; 12];
                bytes[..4].copy_from_slice(&candidate.to_le_bytes());
                bytes[4..].copy_from_slice(&weight.to_le_bytes());
                bytes
            };
            weights.into_iter().flat_map(pair).collect::<Vec<_>>()
        };
        columns.push(Arc::new(LargeBinaryArray::from_iter_values(histogram.into_iter().map(bytes))));
    }
    Ok(RecordBatch::try_new(schema, columns)?)
}
