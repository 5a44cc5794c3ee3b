//! One reading of all rows: their sum, and which strings have few values.

use std::collections::HashSet;
use std::hash::Hasher;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::runtime::SpawnedTask;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::execute_stream_partitioned;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use siphasher::sip::SipHasher13;

use super::checksum::{Checksum, Sums};
use super::error::LayoutError;
use super::input::Input;
use super::{Progress, Stage};

/// The most values of a string column that is written with a dictionary of them. Beyond, a reader would hold more in
/// dictionaries than it saves.
const MOST_VALUES: usize = 10_000;

/// What was found.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) sums: Sums,
    /// Of each column whether it is a string of few values, and not the unit.
    pub(super) few_values: Vec<bool>,
}

/// The values of one column, by their hashes; `None` once they are many, or where they are no strings.
type Values = Option<HashSet<u64>>;

/// Reads all of `input`, and tells the rows that were read.
pub(super) async fn survey(
    context: &SessionContext,
    input: &Input,
    stage: Stage,
    progress: &Progress,
) -> Result<Survey, LayoutError> {
    let plan = input.rows_of(context)?.create_physical_plan().await?;
    let streams = execute_stream_partitioned(plan, context.task_ctx())?;
    let all = input.rows();
    let read = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let mut tasks = Vec::with_capacity(streams.len());
    for stream in streams {
        let (schema, unit) = (Arc::clone(&input.schema), input.unit);
        let (progress, read) = (Arc::clone(progress), Arc::clone(&read));
        let told = move |rows: usize| {
            let rows = rows as u64;
            progress(stage, read.fetch_add(rows, std::sync::atomic::Ordering::Relaxed) + rows, all);
        };
        tasks.push(SpawnedTask::spawn(read_partition(stream, schema, unit, told)));
    }
    let mut sums = Sums::default();
    let mut values: Vec<Values> = first_values(&input.schema, input.unit);
    for task in tasks {
        let (part, of_part) = task.join().await.map_err(|error| DataFusionError::External(Box::new(error)))??;
        sums = sums.and(part);
        for (all, part) in values.iter_mut().zip(of_part) {
            *all = match (all.take(), part) {
                (Some(mut all), Some(part)) => {
                    all.extend(part);
                    (all.len() <= MOST_VALUES).then_some(all)
                }
                _ => None,
            };
        }
    }
    let rows = sums.of_units.rows + sums.of_none.rows;
    // Where hardly a value stands twice there is nothing to number.
    let few = |values: &Values| values.as_ref().is_some_and(|values| 2 * values.len() as u64 <= rows);
    Ok(Survey { sums, few_values: values.iter().map(few).collect() })
}

fn first_values(schema: &SchemaRef, unit: usize) -> Vec<Values> {
    let columns = schema.fields().iter().enumerate();
    columns.map(|(at, field)| (at != unit && is_text(field.data_type())).then(HashSet::new)).collect()
}

/// Whether values of this type are strings, be it by a dictionary.
fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

async fn read_partition(
    mut stream: SendableRecordBatchStream,
    schema: SchemaRef,
    unit: usize,
    told: impl Fn(usize),
) -> Result<(Sums, Vec<Values>), LayoutError> {
    let mut checksum = Checksum::new(&schema, unit)?;
    let mut values = first_values(&schema, unit);
    while let Some(batch) = stream.try_next().await? {
        checksum.add(&batch)?;
        for (values, column) in values.iter_mut().zip(batch.columns()) {
            note(values, column)?;
        }
        told(batch.num_rows());
    }
    Ok((checksum.sums(), values))
}

fn note(values: &mut Values, column: &arrow::array::ArrayRef) -> Result<(), LayoutError> {
    let Some(known) = values else { return Ok(()) };
    let text = cast(column, &DataType::Utf8View)?;
    for value in text.as_string_view().iter().flatten() {
        let mut hasher = SipHasher13::new();
        hasher.write(value.as_bytes());
        known.insert(hasher.finish());
    }
    if known.len() > MOST_VALUES {
        *values = None;
    }
    Ok(())
}

/// The batch as it is written: strings of few values by a dictionary of 32-bit keys. Smaller keys overflow when batches are
/// joined together, and are refused by the analysis.
pub(super) fn with_dictionaries(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, LayoutError> {
    let columns = batch.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| cast(column, field.data_type())).collect::<Result<Vec<_>, _>>()?;
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}
