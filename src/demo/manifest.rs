//! The note beside the demo's data that says what it is, so that a second start need not make it again.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::data::Rows;
use super::error::DemoError;
use super::sink;

/// The version of the generator. It goes up whenever a seed comes to mean other data.
const GENERATOR_VERSION: u32 = 1;
/// The manifest's name in the folder `data`.
const FILE_NAME: &str = "demo.json";

/// What the demo's data is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of the generator that made the data.
    pub generator_version: u32,
    /// The seed that the data is a function of.
    pub seed: u64,
    /// How many rows each company was asked for.
    pub rows: Rows,
    /// How many citizens the companies' customers are drawn from.
    pub citizens: u64,
    /// Whether every file was written; false while the data is being made, and after a crash.
    pub complete: bool,
    /// The files, when complete.
    pub files: Vec<TableFile>,
    /// Whether the data was there already and was kept. Not part of the file.
    #[serde(skip)]
    pub kept: bool,
}

/// One table of the demo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableFile {
    /// The dataset's name in SQL, `owner.name`.
    pub dataset: String,
    /// The file, relative to the demo's directory.
    pub path: PathBuf,
    /// How many rows it has.
    pub rows: u64,
    /// Its length in bytes.
    pub bytes: u64,
}

impl Manifest {
    /// The manifest of data that is yet to be made.
    pub(super) fn planned(seed: u64, rows: Rows) -> Self {
        Self {
            generator_version: GENERATOR_VERSION,
            seed,
            rows,
            citizens: rows.citizens(),
            complete: false,
            files: Vec::new(),
            kept: false,
        }
    }

    /// The manifest of the demo in `dir`, if there is one.
    ///
    /// # Errors
    /// When the manifest cannot be read, or is not one.
    pub fn read(dir: &Path) -> Result<Option<Self>, DemoError> {
        let path = Self::path(dir);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(DemoError::io(&path)(error)),
        };
        serde_json::from_slice(&text).map(Some).map_err(|source| DemoError::Manifest { path, source })
    }

    /// Writes the manifest of the demo in `dir`.
    pub(super) fn write(&self, dir: &Path) -> Result<(), DemoError> {
        let path = Self::path(dir);
        let mut text =
            serde_json::to_vec_pretty(self).map_err(|source| DemoError::Manifest { path: path.clone(), source })?;
        text.push(b'\n');
        sink::write_file(&path, &text)
    }

    /// Whether the data in `dir` is, whole, what `planned` asks for.
    pub(super) fn fulfils(&self, planned: &Self, dir: &Path) -> bool {
        self.complete
            && self.generator_version == planned.generator_version
            && self.seed == planned.seed
            && self.rows == planned.rows
            && self.files.iter().all(|file| {
                fs::metadata(dir.join(&file.path)).is_ok_and(|found| found.is_file() && found.len() == file.bytes)
            })
    }

    fn path(dir: &Path) -> PathBuf {
        dir.join("data").join(FILE_NAME)
    }
}
