//! Why data was not rewritten. Whatever it is, the original is whole and where it was.

use std::path::PathBuf;

use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use parquet::errors::ParquetError;
use thiserror::Error;

use crate::stores::StoreError;

/// What went wrong. Told to a company's own operator, about its own files.
#[derive(Debug, Error)]
pub enum LayoutError {
    /// The source cannot be read, or the store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Two files of the source differ.
    #[error("{path}: its columns differ from those of {first}; every file of a dataset has the same columns and types")]
    SchemaDiffers {
        /// The file that differs.
        path: String,
        /// The file that it differs from.
        first: String,
    },
    /// The column to sort by is not there.
    #[error("the data has no column `{0}`")]
    NoColumn(String),
    /// A column whose values cannot be held against those that were written.
    #[error("column `{column}` is of type {data_type}, whose values cannot be compared; it is not rewritten")]
    Incomparable {
        /// The column.
        column: String,
        /// Its type.
        data_type: DataType,
    },
    /// Something is where the output would go.
    #[error("{0}: is there already; name another place, or remove it")]
    Exists(String),
    /// The output would lie among the input, and be read as data once more.
    #[error("{0}: lies within the source, and would be read as data once more; name another place")]
    Within(String),
    /// The source cannot be replaced where it is.
    #[error("{place}: cannot be replaced where it is: {why}; name another place with --output")]
    NotReplaceable {
        /// The source.
        place: String,
        /// Why not.
        why: &'static str,
    },
    /// Another run works on the same source.
    #[error("{}: another run is at work there", .0.display())]
    Running(PathBuf),
    /// There is no original that was kept.
    #[error("{}: there is no original that was kept", .0.display())]
    NothingKept(PathBuf),
    /// What stands in the place of the original is not what was made of it.
    #[error("{0}: is not sorted by the unit, so that the original is kept: nothing was removed")]
    NotOptimized(String),
    /// What was read back is not what was there.
    #[error(
        "what was written is not what was read ({what} differ): it was removed, and the original is as it was; the source may have changed meanwhile"
    )]
    NotTheSame {
        /// What differs.
        what: &'static str,
    },
    /// The sort gave rows out of order.
    #[error("the rows did not come sorted; nothing was kept of them")]
    Unsorted,
    /// Sorting or reading failed.
    #[error("the rows could not be read or sorted: {0}")]
    Run(#[from] DataFusionError),
    /// Writing failed.
    #[error("the rows could not be written: {0}")]
    Parquet(#[from] ParquetError),
    /// A conversion failed.
    #[error("the rows could not be converted: {0}")]
    Arrow(#[from] ArrowError),
    /// A store did not take an object.
    #[error("{place}: could not be written: the store refused or failed")]
    Upload {
        /// The address.
        place: String,
    },
    /// A file or folder failed.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
}

impl LayoutError {
    /// Of an operation on `path`.
    pub(super) fn io(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::Io { path, source }
    }
}
