//! The Parquet files that a policy's location names, and their schemas. Only footers are read.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use arrow::datatypes::SchemaRef;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};

use super::failure::Failure;

/// The schema of the Parquet file at `path`.
pub(super) fn schema(path: &Path) -> Result<SchemaRef, Failure> {
    let file =
        File::open(path).map_err(|source| Failure::Io { what: format!("cannot read {}", path.display()), source })?;
    let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::default())
        .map_err(|source| Failure::Parquet { path: path.to_owned(), source })?;
    Ok(metadata.schema().clone())
}

/// The files of `location`: one file, a folder's `*.parquet` at any depth, or what a glob matches; in order.
pub(super) fn of_location(location: &str) -> Result<Vec<PathBuf>, Failure> {
    let path = Path::new(location);
    let mut files = Vec::new();
    if path.is_dir() {
        collect(path, &mut files)?;
    } else if location.contains(['*', '?', '[']) && !path.exists() {
        let matches =
            glob::glob(location).map_err(|source| Failure::BadGlob { location: location.to_owned(), source })?;
        for found in matches {
            let found = found.map_err(|error| {
                let what = format!("cannot read {}", error.path().display());
                Failure::Io { what, source: error.into() }
            })?;
            if found.is_file() {
                files.push(found);
            }
        }
    } else {
        files.push(path.to_owned());
    }
    files.sort();
    Ok(files)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let unreadable = |source| Failure::Io { what: format!("cannot read {}", folder.display()), source };
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(unreadable)?);
        // Links to folders are not followed, so that no loop can be walked into.
        if kind.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "parquet") && path.is_file() {
            files.push(path);
        }
    }
    Ok(())
}
