//! Records as batches on disk.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeBinaryArray, Int64Array, UInt8Array, UInt32Array, UInt64Array};
use arrow::buffer::Buffer;
use arrow::datatypes::{Field, Int64Type, Schema, UInt8Type, UInt32Type, UInt64Type};
use arrow::record_batch::RecordBatch;
use datafusion::common::{Result, internal_datafusion_err};

use super::identity::Ids;
use super::records::{Records, Values};

/// The columns of records on disk: identity, group, rows; of each measure how many count and its values; candidates.
pub(super) fn schema(shape: &Records) -> Schema {
    use arrow::datatypes::DataType as T;
    let mut columns = Vec::new();
    let mut add = |kind| columns.push(Field::new(format!("c{}", columns.len()), kind, false));
    add(match shape.ids {
        Ids::Narrow(_) => T::UInt64,
        Ids::Wide(_) => T::FixedSizeBinary(16),
    });
    add(T::UInt32);
    add(T::UInt8);
    for gathered in &shape.measures {
        add(T::UInt8);
        match gathered.values {
            Values::None => {}
            Values::Steps(_) => add(T::Int64),
            Values::Hashes(_) => add(T::FixedSizeBinary(16)),
        }
    }
    shape.candidates.iter().for_each(|_| add(T::UInt32));
    Schema::new(columns)
}

pub(super) fn to_batch(records: Records) -> Result<RecordBatch> {
    let wide = |values: Vec<u128>| -> Result<ArrayRef> {
        let bytes: Vec<u8> = values.into_iter().flat_map(u128::to_le_bytes).collect();
        Ok(Arc::new(FixedSizeBinaryArray::try_new(16, Buffer::from_vec(bytes), None)?))
    };
    let schema = Arc::new(schema(&records));
    let mut columns: Vec<ArrayRef> = vec![match records.ids {
        Ids::Narrow(ids) => Arc::new(UInt64Array::from(ids)),
        Ids::Wide(ids) => wide(ids)?,
    }];
    let rows: ArrayRef = Arc::new(UInt8Array::from(records.rows.unwrap_or_else(|| vec![1; records.groups.len()])));
    columns.push(Arc::new(UInt32Array::from(records.groups)));
    columns.push(Arc::clone(&rows));
    for gathered in records.measures {
        columns.push(match gathered.counted {
            Some(counted) => Arc::new(UInt8Array::from(counted)),
            None => Arc::clone(&rows),
        });
        match gathered.values {
            Values::None => {}
            Values::Steps(steps) => columns.push(Arc::new(Int64Array::from(steps))),
            Values::Hashes(hashes) => columns.push(wide(hashes)?),
        }
    }
    for candidates in records.candidates {
        columns.push(Arc::new(UInt32Array::from(candidates)));
    }
    Ok(RecordBatch::try_new(schema, columns)?)
}

pub(super) fn from_batch(batch: &RecordBatch, shape: &Records) -> Result<Records> {
    fn wide(column: &ArrayRef) -> Vec<u128> {
        let bytes = column.as_fixed_size_binary();
        let whole = |value: &[u8]| value.try_into().map_or(0, u128::from_le_bytes);
        (0..bytes.len()).map(|at| whole(bytes.value(at))).collect()
    }
    let mut columns = batch.columns().iter();
    let mut next = || columns.next().ok_or_else(|| internal_datafusion_err!("spilled records lack a column"));
    let mut records = shape.like();
    let ids = next()?;
    records.ids = match shape.ids {
        Ids::Narrow(_) => Ids::Narrow(ids.as_primitive::<UInt64Type>().values().to_vec()),
        Ids::Wide(_) => Ids::Wide(wide(ids)),
    };
    records.groups = next()?.as_primitive::<UInt32Type>().values().to_vec();
    let rows = next()?.as_primitive::<UInt8Type>().values().to_vec();
    for gathered in &mut records.measures {
        let counted = next()?.as_primitive::<UInt8Type>().values().to_vec();
        gathered.counted = (counted != rows).then_some(counted);
        match &mut gathered.values {
            Values::None => {}
            Values::Steps(steps) => *steps = next()?.as_primitive::<Int64Type>().values().to_vec(),
            Values::Hashes(hashes) => *hashes = wide(next()?),
        }
    }
    for candidates in &mut records.candidates {
        *candidates = next()?.as_primitive::<UInt32Type>().values().to_vec();
    }
    records.rows = rows.iter().any(|rows| *rows != 1).then_some(rows);
    Ok(records)
}
