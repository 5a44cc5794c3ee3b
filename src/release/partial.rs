//! What is held of exact partial sums that come from another process: nothing in them goes past what the bounds allow.
//!
//! ```text
//! key   units   measure     L0, r and B in force            drawn from?
//!  X      120      3071      120 units · r · B ≥ 3071        yes
//!  Y        4     -1900      |-1900| > 4 · r · B             no: the whole release fails
//! ```
//!
//! Noise is made for what bounded units can do, so sums that no bounded units can make are drawn from by nobody. This
//! does not prove that a worker has bounded what it summed (only it has seen the rows); it holds each number to the
//! bounds one by one, and every size to what the merge can add up.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Decimal128Type, Int64Type, SchemaRef, UInt64Type};
use arrow::record_batch::RecordBatch;
use thiserror::Error;

use super::bound::partial_schema;
use super::quantile::WHOLE;
use super::spec::{Histogram, Measure, MeasureKind, ReleaseSpec};

/// The most units that one batch may count in a group. Sums of so many in as many partitions as there can be stay far
/// from the end of 64 and of 128 bits.
const MAX_UNITS: i64 = 1 << 48;
/// The largest sum, in size, that one batch may have of a group.
const MAX_SUM: u128 = 1 << 110;
/// How many bytes a distinct value's hash has.
const HASH_BYTES: usize = 16;
/// How many bytes a candidate and its weight have.
const PAIR_BYTES: usize = 12;

/// Why a batch is not of partial sums of a release. Names places, never values.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotPartial {
    /// Other columns than the release's.
    #[error("its columns are not those of the release's partial sums")]
    Columns,
    /// A NULL where a number belongs.
    #[error("column {0} has a NULL")]
    Null(String),
    /// More than the bounds allow.
    #[error("column {0} has more than the bounds allow")]
    PastBounds(String),
    /// Bytes that are no hashes, or no weights.
    #[error("column {0} has bytes that mean nothing")]
    Garbled(String),
    /// Several rows where there is one group, or a number of no grouping set.
    #[error("it has groups that the release has not")]
    Groups,
}

/// The columns that partial sums of `spec` have: keys, the number of units, measures, histograms.
#[must_use]
pub fn columns_of_partial_sums(spec: &ReleaseSpec) -> SchemaRef {
    partial_schema(spec)
}

/// Checks that `batch` can be partial sums of `spec`.
///
/// # Errors
/// When no bounded contributions sum up to it.
pub fn check_partial_sums(spec: &ReleaseSpec, batch: &RecordBatch) -> Result<(), NotPartial> {
    let (expected, found) = (partial_schema(spec), batch.schema());
    let alike = expected.fields().len() == found.fields().len()
        && expected
            .fields()
            .iter()
            .zip(found.fields())
            .all(|(expected, found)| expected.name() == found.name() && expected.data_type() == found.data_type());
    if !alike {
        return Err(NotPartial::Columns);
    }
    let keys = spec.keys.len();
    for (field, column) in found.fields().iter().zip(batch.columns()).skip(keys) {
        if column.null_count() > 0 {
            return Err(NotPartial::Null(field.name().clone()));
        }
    }
    if keys == 0 && batch.num_rows() > 1 {
        return Err(NotPartial::Groups);
    }
    if let Some(sets) = &spec.sets {
        let numbers =
            arrow::compute::cast(batch.column(sets.key), &DataType::UInt64).map_err(|_| NotPartial::Groups)?;
        let numbers = numbers.as_primitive::<UInt64Type>();
        let known =
            |number: Option<u64>| number.is_some_and(|number| sets.groups.iter().any(|(set, _)| *set == number));
        if !numbers.iter().all(known) {
            return Err(NotPartial::Groups);
        }
    }
    let units = batch.column(keys).as_primitive_opt::<Int64Type>().ok_or(NotPartial::Columns)?.values();
    if units.iter().any(|units| !(0..=MAX_UNITS).contains(units)) {
        return Err(NotPartial::PastBounds(found.field(keys).name().clone()));
    }
    for (at, measure) in spec.measures.iter().enumerate() {
        let place = keys + 1 + at;
        check_measure(spec, measure, units, batch.column(place), found.field(place).name())?;
    }
    for (at, histogram) in spec.histograms.iter().enumerate() {
        let place = keys + 1 + spec.measures.len() + at;
        check_weights(spec, histogram, units, batch.column(place), found.field(place).name())?;
    }
    Ok(())
}

/// How many bounded contributions `units` can make to a group: one each, and with epochs one each and epoch.
fn contributions(spec: &ReleaseSpec, units: i64) -> u128 {
    let epochs = spec.epochs.as_ref().map_or(1, |epochs| {
        let numbers: std::collections::BTreeSet<_> = epochs.by_dataset.values().flatten().collect();
        numbers.len().max(1)
    });
    // Units are not negative: the caller has looked.
    u128::from(units.unsigned_abs()) * epochs as u128
}

fn check_measure(
    spec: &ReleaseSpec,
    measure: &Measure,
    units: &[i64],
    column: &ArrayRef,
    name: &str,
) -> Result<(), NotPartial> {
    let past = || NotPartial::PastBounds(name.to_owned());
    let (rows, _) = measure.rows(&spec.bounds);
    // Of a unit that is counted, r rows of B each; a unit is counted once, whatever its epochs.
    let most = |units: i64| {
        let contributions = match measure.kind {
            MeasureKind::Units => u128::from(units.unsigned_abs()),
            _ => contributions(spec, units),
        };
        contributions.saturating_mul(u128::from(rows)).saturating_mul(measure.bound())
    };
    match &measure.kind {
        MeasureKind::Distinct { .. } => {
            let values = column.as_binary_opt::<i64>().ok_or(NotPartial::Columns)?;
            for (units, bytes) in units.iter().zip(values.iter()) {
                let bytes = bytes.unwrap_or_default();
                if bytes.len() % HASH_BYTES != 0 {
                    return Err(NotPartial::Garbled(name.to_owned()));
                }
                if (bytes.len() / HASH_BYTES) as u128 > most(*units) {
                    return Err(past());
                }
            }
        }
        MeasureKind::Sum { .. } => {
            let sums = column.as_primitive_opt::<Decimal128Type>().ok_or(NotPartial::Columns)?;
            for (units, sum) in units.iter().zip(sums.values()) {
                if sum.unsigned_abs() > most(*units).min(MAX_SUM) {
                    return Err(past());
                }
            }
        }
        MeasureKind::Rows | MeasureKind::Values { .. } | MeasureKind::Units => {
            let counts = column.as_primitive_opt::<Decimal128Type>().ok_or(NotPartial::Columns)?;
            for (units, count) in units.iter().zip(counts.values()) {
                if *count < 0 || count.unsigned_abs() > most(*units).min(MAX_SUM) {
                    return Err(past());
                }
            }
        }
    }
    Ok(())
}

fn check_weights(
    spec: &ReleaseSpec,
    histogram: &Histogram,
    units: &[i64],
    column: &ArrayRef,
    name: &str,
) -> Result<(), NotPartial> {
    let groups = column.as_binary_opt::<i64>().ok_or(NotPartial::Columns)?;
    for (units, bytes) in units.iter().zip(groups.iter()) {
        let (pairs, rest) = bytes.unwrap_or_default().as_chunks::<PAIR_BYTES>();
        if !rest.is_empty() {
            return Err(NotPartial::Garbled(name.to_owned()));
        }
        let mut total = 0u128;
        for [a, b, c, d, weight @ ..] in pairs {
            if u32::from_le_bytes([*a, *b, *c, *d]) >= histogram.candidates.count {
                return Err(NotPartial::Garbled(name.to_owned()));
            }
            total += u128::from(u64::from_le_bytes(*weight));
        }
        let most =
            contributions(spec, *units).saturating_mul(u128::from(spec.bounds.rows)).saturating_mul(u128::from(WHOLE));
        if total > most {
            return Err(NotPartial::PastBounds(name.to_owned()));
        }
    }
    Ok(())
}
