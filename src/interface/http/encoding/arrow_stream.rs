//! The answer as an Arrow IPC stream.

use arrow::ipc::writer::StreamWriter;

use super::EncodingError;
use crate::gateway::Answer;

/// `answer` as an Arrow IPC stream; a dry run has a schema alone.
///
/// # Errors
/// When Arrow cannot write a batch.
pub(in super::super) fn to_arrow_stream(answer: &Answer) -> Result<Vec<u8>, EncodingError> {
    let mut writer = StreamWriter::try_new(Vec::new(), &answer.schema)?;
    for batch in answer.rows.iter().flatten() {
        writer.write(batch)?;
    }
    Ok(writer.into_inner()?)
}
