//! A source: the Parquet files that a location names, with their identity and their one schema.
//!
//! The identity of the files (path, size, time of change, ETag of objects, footer) is the *data version*. It counts as public
//! (DESIGN 4.3), and it is read before anything is charged, so that a missing or damaged file costs nobody anything.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::{Field, Schema, SchemaRef};
use parquet::file::metadata::ParquetMetaData;
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::Roots;
use crate::policy::ObjectAddress;
use crate::stores::{DataFile, Footer, StoreError, Stores, joined, local_files};

/// Why the files of a source cannot be used. Names paths: for the owner and the operator, never for an analyst.
#[derive(Debug, Error)]
pub enum SourceError {
    /// They cannot be found or read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A link, or the location itself, leads out of the folders that the operator has named for the owner.
    #[error("{0}: is in no folder that the operator has named for its owner, or a link leads out of it")]
    Outside(String),
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
    pub files: Vec<DataFile>,
    /// The schema that they share, without metadata.
    pub schema: SchemaRef,
    /// A hash of every file's identity.
    pub version: [u8; 32],
    /// The column by which the rows are sorted, ascending, if every row group of every file says so of one column.
    pub sorted_by: Option<String>,
    /// How many rows there are, as the footers say.
    pub rows: usize,
}

/// What is kept of a footer.
#[derive(Debug, Clone)]
struct Facts {
    hash: [u8; 32],
    schema: SchemaRef,
    sorted_by: Option<String>,
    rows: usize,
}

/// A location, and the footers that were read from it.
#[derive(Debug)]
pub struct Source {
    location: String,
    stores: Stores,
    roots: Option<Roots>,
    /// By name, with the tag of the version that was read.
    footers: Mutex<HashMap<String, (String, Facts)>>,
    known: Mutex<Option<Snapshot>>,
}

impl Source {
    /// A source at `location`, a path or an address as the policy's loader resolved it. Objects are reached as the
    /// environment says: see [`Self::reached_by`].
    #[must_use]
    pub fn new(location: &str) -> Self {
        Self {
            location: location.to_owned(),
            stores: Stores::default(),
            roots: None,
            footers: Mutex::default(),
            known: Mutex::default(),
        }
    }

    /// The same, of which no file outside `roots` is read.
    #[must_use]
    pub fn within(location: &str, roots: Roots) -> Self {
        Self { roots: Some(roots), ..Self::new(location) }
    }

    /// The same, of which objects are reached by `stores`.
    #[must_use]
    pub fn reached_by(self, stores: Stores) -> Self {
        Self { stores, ..self }
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
        let facts = self.facts(&files)?;
        let mut hasher = Sha256::new();
        let mut first: Option<(&DataFile, SchemaRef)> = None;
        let mut sorted_by: Option<Option<String>> = None;
        let mut rows = 0usize;
        for (file, facts) in files.iter().zip(facts) {
            hasher.update(file.name().as_bytes());
            hasher.update([0]);
            hasher.update(file.size().to_le_bytes());
            hasher.update(file.modified_ns().to_le_bytes());
            if let Some(tag) = file.e_tag() {
                hasher.update(tag.as_bytes());
                hasher.update([0]);
            }
            hasher.update(facts.hash);
            rows = rows.saturating_add(facts.rows);
            sorted_by = match sorted_by {
                None => Some(facts.sorted_by),
                Some(so_far) => Some(so_far.filter(|column| facts.sorted_by.as_ref() == Some(column))),
            };
            first = Some(match first {
                None => (file, facts.schema),
                Some((first, schema)) => match joined(&schema, &facts.schema) {
                    Some(schema) => (first, schema),
                    None => return Err(SourceError::SchemaDiffers { path: file.name(), first: first.name() }),
                },
            });
        }
        let Some((_, schema)) = first else { return Err(StoreError::Missing(self.location.clone()).into()) };
        let sorted_by = sorted_by.flatten();
        let snapshot = Snapshot { files, schema, version: hasher.finalize().into(), sorted_by, rows };
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(snapshot.clone());
        Ok(snapshot)
    }

    /// What the footers of `files` say, of which those are read that are not known at these versions.
    fn facts(&self, files: &[DataFile]) -> Result<Vec<Facts>, SourceError> {
        let known = |file: &DataFile| {
            let footers = self.footers.lock().unwrap_or_else(PoisonError::into_inner);
            footers.get(&file.name()).filter(|(tag, _)| tag == file.tag()).map(|(_, facts)| facts.clone())
        };
        let mut facts: Vec<Option<Facts>> = files.iter().map(known).collect();
        let new: Vec<usize> = (0..files.len()).filter(|at| facts[*at].is_none()).collect();
        let read = self.stores.footers(&new.iter().map(|at| files[*at].clone()).collect::<Vec<_>>())?;
        let mut footers = self.footers.lock().unwrap_or_else(PoisonError::into_inner);
        for (at, footer) in new.into_iter().zip(read) {
            let read = Facts::of(&footer);
            footers.insert(files[at].name(), (files[at].tag().to_owned(), read.clone()));
            facts[at] = Some(read);
        }
        Ok(facts.into_iter().flatten().collect())
    }

    /// The files that are there now, in the order of their names. Blocking I/O.
    ///
    /// # Errors
    /// As [`Self::snapshot`], of which this is the first half.
    pub fn files(&self) -> Result<Vec<DataFile>, SourceError> {
        if ObjectAddress::is_one(&self.location) {
            // Before anything is asked, and again of every object, as with files.
            self.admitted(PathBuf::from(&self.location))?;
            let files = self.stores.list(&self.location)?;
            for file in &files {
                self.admitted(file.as_place())?;
            }
            return Ok(files);
        }
        let files = local_files(&self.location, |file| self.admitted(file))?;
        let files = files.into_iter().map(DataFile::local).collect::<Result<Vec<_>, _>>()?;
        // What was admitted has no links left in it; one that is there now was made since.
        match files.iter().find(|file| self.roots.is_some() && !file.is_where_named()) {
            Some(moved) => Err(SourceError::Outside(moved.name())),
            None => Ok(files),
        }
    }

    /// The file as it is read: where the source is held to folders, with its links resolved, so that what is checked is
    /// what is read.
    fn admitted(&self, file: PathBuf) -> Result<PathBuf, SourceError> {
        match &self.roots {
            None => Ok(file),
            Some(roots) => roots.admit(&file).ok_or_else(|| SourceError::Outside(file.display().to_string())),
        }
    }
}

impl Facts {
    fn of(footer: &Footer) -> Self {
        Self {
            hash: footer.hash,
            schema: without_metadata(footer.metadata.schema()),
            sorted_by: sorted_by(footer.metadata.metadata()),
            rows: usize::try_from(footer.metadata.metadata().file_metadata().num_rows()).unwrap_or(0),
        }
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
