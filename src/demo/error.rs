//! Why the demo's data could not be made.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why the demo's data or policies could not be written.
#[derive(Debug, Error)]
pub enum DemoError {
    /// A file or folder could not be read, written or renamed.
    #[error("cannot write the demo's data at {}: {source}", path.display())]
    Io {
        /// The file or folder in question.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The Parquet writer refused a table.
    #[error("cannot write Parquet at {}: {source}", path.display())]
    Parquet {
        /// The file that was being written.
        path: PathBuf,
        /// What the writer said.
        source: parquet::errors::ParquetError,
    },
    /// Columns did not make up a record batch.
    #[error("cannot assemble the columns of a demo table: {0}")]
    Columns(#[from] arrow::error::ArrowError),
    /// The manifest is not one that this program wrote.
    #[error("{} is not a manifest of the demo's data ({source}); remove it to make the data again", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// Where it stops making sense.
        source: serde_json::Error,
    },
    /// A file is where the demo would write, and the demo did not put it there.
    #[error("{} exists and was not made by the demo; choose another directory, or move the file away", path.display())]
    Occupied {
        /// The file in the way.
        path: PathBuf,
    },
    /// The parameters of a log-normal law are out of its domain.
    #[error("a log-normal law of the demo has impossible parameters: {0}")]
    LogNormal(#[from] rand_distr::NormalError),
    /// The parameters of a Zipf law are out of its domain.
    #[error("a Zipf law of the demo has impossible parameters: {0}")]
    Zipf(#[from] rand_distr::ZipfError),
    /// The weights of a discrete law are negative or all nothing.
    #[error("a discrete law of the demo has impossible weights: {0}")]
    Weights(#[from] rand_distr::weighted::Error),
    /// This table was given up because another one failed; the other's error is the one reported.
    #[error("making {0} was given up, because another table failed")]
    Stopped(&'static str),
    /// A thread ended without a result.
    #[error("the thread that made {0} ended unexpectedly")]
    ThreadLost(&'static str),
}

impl DemoError {
    /// An [`DemoError::Io`] at `path`, for `map_err`.
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }

    /// A [`DemoError::Parquet`] at `path`, for `map_err`.
    pub(super) fn parquet(path: &Path) -> impl FnOnce(parquet::errors::ParquetError) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Parquet { path, source }
    }
}
