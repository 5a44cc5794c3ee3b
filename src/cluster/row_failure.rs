//! A failure that comes of a row, told apart from one of a disk, a network or memory, and both without their words.
//!
//! ```text
//! what an operator of a stage says                what the scheduler hears
//!  "Cast error: cannot parse 'Smith' as Int64"     "tollgate: a row failed"    ▶ the gateway draws from nothing
//!  "Resources exhausted: 412 MB for BoundExec"     "tollgate: resources exhausted"
//!  a shuffle file that a dead executor had         as it is: Ballista makes it anew
//! ```
//!
//! No expression below a release can fail on a row (DESIGN 4.4); should one, the failure itself would tell of the row, and
//! the gateway answers with noise alone (`docs/decisions/0006`). For that it has to know, and the text of an error may
//! quote a value, which is nothing for the logs of a scheduler.

use arrow::error::ArrowError;
use ballista_core::error::BallistaError;
use datafusion::common::DataFusionError;

/// The words by which the gateway knows that a row failed.
pub(super) const ROW_FAILED: &str = "tollgate: a row failed";

/// An error by its kind. What Ballista acts on, a lost shuffle and an end from outside, stays what it is.
pub(super) fn told(error: &DataFusionError) -> DataFusionError {
    if let Some(ballista) = ballista_cause(error) {
        let kept = match ballista {
            BallistaError::FetchFailed(executor, stage, partition, _) => BallistaError::FetchFailed(
                executor.clone(),
                *stage,
                *partition,
                "tollgate: a shuffle is lost".to_owned(),
            ),
            BallistaError::Cancelled => BallistaError::Cancelled,
            BallistaError::IoError(io) => BallistaError::IoError(io.kind().into()),
            BallistaError::DataFusionError(inner) => return told(inner),
            BallistaError::ArrowError(inner) if is_of_a_value(inner) => BallistaError::General(ROW_FAILED.to_owned()),
            _ => BallistaError::General("tollgate: the cluster failed".to_owned()),
        };
        return kept.into_datafusion();
    }
    let kind = match error.find_root() {
        DataFusionError::Execution(_) => ROW_FAILED,
        DataFusionError::ArrowError(inner, _) if is_of_a_value(inner) => ROW_FAILED,
        DataFusionError::IoError(io) => return BallistaError::IoError(io.kind().into()).into_datafusion(),
        DataFusionError::ResourcesExhausted(_) => "tollgate: resources exhausted",
        DataFusionError::ParquetError(_) => "tollgate: a file cannot be read as Parquet",
        DataFusionError::ObjectStore(_) => "tollgate: a file cannot be read",
        _ => "tollgate: a task failed",
    };
    BallistaError::General(kind.to_owned()).into_datafusion()
}

fn ballista_cause(error: &DataFusionError) -> Option<&BallistaError> {
    match error.find_root() {
        DataFusionError::External(inner) => inner.downcast_ref::<BallistaError>(),
        DataFusionError::ArrowError(inner, _) => match inner.as_ref() {
            ArrowError::ExternalError(inner) => inner.downcast_ref::<BallistaError>(),
            _ => None,
        },
        _ => None,
    }
}

/// Whether Arrow failed on a value, as opposed to a file or memory.
const fn is_of_a_value(error: &ArrowError) -> bool {
    !matches!(
        error,
        ArrowError::ExternalError(_)
            | ArrowError::IoError(..)
            | ArrowError::ParquetError(_)
            | ArrowError::IpcError(_)
            | ArrowError::MemoryError(_)
    )
}
