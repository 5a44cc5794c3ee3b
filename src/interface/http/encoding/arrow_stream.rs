//! The answer as an Arrow IPC stream.

use arrow::datatypes::Schema;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;

use super::EncodingError;
use crate::gateway::Answer;

/// `answer` as an Arrow IPC stream; a dry run has a schema alone.
///
/// # Errors
/// When Arrow cannot write a batch.
pub(in super::super) fn to_arrow_stream(answer: &Answer) -> Result<Vec<u8>, EncodingError> {
    rows_to_arrow_stream(&answer.schema, answer.rows.as_deref().unwrap_or_default())
}

/// Rows under `schema` as an Arrow IPC stream.
///
/// # Errors
/// When Arrow cannot write a batch.
pub(in crate::interface) fn rows_to_arrow_stream(
    schema: &Schema,
    rows: &[RecordBatch],
) -> Result<Vec<u8>, EncodingError> {
    let mut writer = StreamWriter::try_new(Vec::new(), schema)?;
    for batch in rows {
        writer.write(batch)?;
    }
    Ok(writer.into_inner()?)
}
