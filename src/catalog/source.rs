//! A source: the Parquet files that a location names, with their identity and their one schema.
//!
//! The identity of the files (path, size, time of change, footer) is the *data version*. It counts as public
//! (DESIGN 4.3), and it is read before anything is charged, so that a missing or damaged file costs nobody anything.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use arrow::datatypes::{Field, Schema, SchemaRef};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::file::metadata::ParquetMetaData;
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::Roots;

/// Why the files of a source cannot be used. Names paths: for the owner and the operator, never for an analyst.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The location names an object store.
    #[error("{0}: object stores are not read yet; give a file, a folder or a glob on this machine")]
    ObjectStore(String),
    /// No file is there.
    #[error("{0}: no Parquet file is there; check `location`, and that the gateway may read it")]
    Missing(String),
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not Parquet, or is damaged.
    #[error("{0}: is not a readable Parquet file; write it anew")]
    NotParquet(String),
    /// A link, or the location itself, leads out of the folders that the operator has named for the owner.
    #[error("{0}: is in no folder that the operator has named for its owner, or a link leads out of it")]
    Outside(String),
    /// A file whose name would be read as a pattern of names.
    #[error("{0}: a name with `*`, `?` or `[` would be read as a pattern: rename the file or folder")]
    PatternName(String),
    /// Two files of one source differ.
    #[error("{path}: its columns differ from those of {first}; every file of a dataset has the same columns and types")]
    SchemaDiffers {
        /// The file that differs.
        path: String,
        /// The file that it differs from.
        first: String,
    },
}

/// The files of a source at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The files, in the order of their names.
    pub files: Vec<PathBuf>,
    /// The schema that they share, without metadata.
    pub schema: SchemaRef,
    /// A hash of every file's identity.
    pub version: [u8; 32],
    /// The column by which the rows are sorted, ascending, if every row group of every file says so of one column.
    pub sorted_by: Option<String>,
}

#[derive(Debug, Clone)]
struct Footer {
    size: u64,
    modified_ns: u128,
    hash: [u8; 32],
    schema: SchemaRef,
    sorted_by: Option<String>,
}

/// A location, and the footers that were read from it.
#[derive(Debug)]
pub struct Source {
    location: String,
    roots: Option<Roots>,
    footers: Mutex<HashMap<PathBuf, Footer>>,
    known: Mutex<Option<Snapshot>>,
}

/// The last bytes of a Parquet file: the footer's length and the magic.
const TRAILER_BYTES: u64 = 8;

impl Source {
    /// A source at `location`, a path as the policy's loader resolved it.
    #[must_use]
    pub fn new(location: &str) -> Self {
        Self { location: location.to_owned(), roots: None, footers: Mutex::default(), known: Mutex::default() }
    }

    /// The same, of which no file outside `roots` is read.
    #[must_use]
    pub fn within(location: &str, roots: Roots) -> Self {
        Self { roots: Some(roots), ..Self::new(location) }
    }

    /// The folders that it is held to, if its steward has named the place.
    #[must_use]
    pub fn roots(&self) -> Option<&Roots> {
        self.roots.as_ref()
    }

    /// Where the files are.
    #[must_use]
    pub fn location(&self) -> &str {
        &self.location
    }

    /// The snapshot that was seen last, or one of now if none was.
    ///
    /// # Errors
    /// As [`Self::snapshot`].
    pub fn known(&self) -> Result<Snapshot, SourceError> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        known.map_or_else(|| self.snapshot(), Ok)
    }

    /// Lists the files and reads the footers that are new or changed. Blocking I/O.
    ///
    /// # Errors
    /// When there is no file, or one cannot be read, is not Parquet, or has other columns than the first.
    pub fn snapshot(&self) -> Result<Snapshot, SourceError> {
        let files = self.files()?;
        let mut hasher = Sha256::new();
        let mut first: Option<(PathBuf, SchemaRef)> = None;
        let mut sorted_by: Option<Option<String>> = None;
        for path in &files {
            let footer = self.footer(path)?;
            hasher.update(path.to_string_lossy().as_bytes());
            hasher.update([0]);
            hasher.update(footer.size.to_le_bytes());
            hasher.update(footer.modified_ns.to_le_bytes());
            hasher.update(footer.hash);
            sorted_by = match sorted_by {
                None => Some(footer.sorted_by),
                Some(so_far) => Some(so_far.filter(|column| footer.sorted_by.as_ref() == Some(column))),
            };
            match &first {
                None => first = Some((path.clone(), footer.schema)),
                Some((_, schema)) if *schema == footer.schema => {}
                Some((other, _)) => {
                    return Err(SourceError::SchemaDiffers {
                        path: path.display().to_string(),
                        first: other.display().to_string(),
                    });
                }
            }
        }
        let Some((_, schema)) = first else { return Err(SourceError::Missing(self.location.clone())) };
        let sorted_by = sorted_by.flatten();
        let snapshot = Snapshot { files, schema, version: hasher.finalize().into(), sorted_by };
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(snapshot.clone());
        Ok(snapshot)
    }

    /// The files that are there now, in the order of their names. Blocking I/O.
    ///
    /// # Errors
    /// As [`Self::snapshot`], of which this is the first half.
    pub fn files(&self) -> Result<Vec<PathBuf>, SourceError> {
        if self.location.contains("://") {
            return Err(SourceError::ObjectStore(self.location.clone()));
        }
        let path = Path::new(&self.location);
        // Before anything is opened, and again for every file below: a folder may hold links.
        self.admitted(path.to_path_buf())?;
        let mut files = if path.is_dir() {
            let io = |source| SourceError::Io { path: self.location.clone(), source };
            let mut files = Vec::new();
            for entry in fs::read_dir(path).map_err(io)? {
                let file = entry.map_err(io)?.path();
                if file.extension().is_some_and(|extension| extension == "parquet") {
                    let file = self.admitted(file)?;
                    if file.is_file() {
                        files.push(file);
                    }
                }
            }
            files
        } else if self.location.contains(['*', '?', '[']) {
            glob::glob(&self.location)
                .map_err(|_| SourceError::Missing(self.location.clone()))?
                .filter_map(Result::ok)
                .map(|file| self.admitted(file))
                .filter(|file| file.as_ref().map_or(true, |file| file.is_file()))
                .collect::<Result<Vec<_>, _>>()?
        } else {
            vec![self.admitted(path.to_path_buf())?]
        };
        // What reads the files takes such a name for a pattern, and would read others beside or instead of it.
        if let Some(file) = files.iter().find(|file| file.to_string_lossy().contains(['*', '?', '['])) {
            return Err(SourceError::PatternName(file.display().to_string()));
        }
        files.sort();
        files.dedup();
        if files.is_empty() { Err(SourceError::Missing(self.location.clone())) } else { Ok(files) }
    }

    /// The file as it is read: where the source is held to folders, with its links resolved, so that what is checked is
    /// what is read.
    fn admitted(&self, file: PathBuf) -> Result<PathBuf, SourceError> {
        match &self.roots {
            None => Ok(file),
            Some(roots) => roots.admit(&file).ok_or_else(|| SourceError::Outside(file.display().to_string())),
        }
    }

    fn footer(&self, path: &Path) -> Result<Footer, SourceError> {
        let io = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::NotFound => SourceError::Missing(path.display().to_string()),
            _ => SourceError::Io { path: path.display().to_string(), source },
        };
        let damaged = || SourceError::NotParquet(path.display().to_string());
        let facts = fs::metadata(path).map_err(io)?;
        let modified = facts.modified().map_err(io)?;
        let modified_ns = modified.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        let mut footers = self.footers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = footers.get(path)
            && known.size == facts.len()
            && known.modified_ns == modified_ns
        {
            return Ok(known.clone());
        }
        let mut file = File::open(path).map_err(io)?;
        if facts.len() < TRAILER_BYTES {
            return Err(damaged());
        }
        let mut trailer = [0; TRAILER_BYTES as usize];
        file.seek(SeekFrom::Start(facts.len() - TRAILER_BYTES)).map_err(io)?;
        file.read_exact(&mut trailer).map_err(io)?;
        let length = u64::from(u32::from_le_bytes([trailer[0], trailer[1], trailer[2], trailer[3]]));
        if &trailer[4..] != b"PAR1" || length + TRAILER_BYTES > facts.len() {
            return Err(damaged());
        }
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| damaged())?];
        file.seek(SeekFrom::Start(facts.len() - TRAILER_BYTES - length)).map_err(io)?;
        file.read_exact(&mut bytes).map_err(io)?;
        let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).map_err(|_| damaged())?;
        let footer = Footer {
            size: facts.len(),
            modified_ns,
            hash: Sha256::digest(&bytes).into(),
            schema: without_metadata(metadata.schema()),
            sorted_by: sorted_by(metadata.metadata()),
        };
        footers.insert(path.to_path_buf(), footer.clone());
        Ok(footer)
    }
}

/// The top-level column that every row group of a file names as the first by which it is sorted, ascending. Its owner's word:
/// nothing may depend on it but how fast rows are read.
fn sorted_by(metadata: &ParquetMetaData) -> Option<String> {
    let mut columns = metadata.row_groups().iter().map(|group| {
        let first = group.sorting_columns()?.first().filter(|first| !first.descending)?;
        let leaf = usize::try_from(first.column_idx).ok()?;
        let path = group.columns().get(leaf)?.column_path().parts();
        if let [name] = path { Some(name) } else { None }
    });
    let first = columns.next()??;
    columns.all(|column| column == Some(first)).then(|| first.clone())
}

/// Field metadata is free text of whoever wrote the file; none of it may reach a plan or an answer.
fn without_metadata(schema: &Schema) -> SchemaRef {
    let fields: Vec<Field> =
        schema.fields().iter().map(|field| field.as_ref().clone().with_metadata(HashMap::new())).collect();
    Arc::new(Schema::new(fields))
}
