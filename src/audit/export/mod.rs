//! Exports: a log, or what it says of one dataset, as a file of JSON lines that is verified offline.
//!
//! ```text
//!  {"format":"tollgate-audit-export","version":1,"origin":"…","of":"log","checkpoint":"…"}     what it is an export of
//!  {"index":0,"leaf":"…","entry":"…"}                        the entry's exact bytes, as a string
//!  {"index":1,"leaf":"…","entry":"…","proof":["…"]}          with its proof, in an export of one dataset
//!  {"seal":"…"}                                              a signed note over all lines before
//! ```
//!
//! The checkpoint comes first, so that every entry is held against it as it is read. Of a whole log the root is computed
//! anew; an excerpt proves each entry by itself. The seal closes the file: without it, nobody could tell an excerpt from one
//! that was cut short, and the gateway could not be held to having said that this was all.

mod seal;
mod verification;

use std::io::{self, Write};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::checkpoint::SignedCheckpoint;
use super::encoding::{HashText, texts};
use super::key::SigningKey;
use super::merkle::{Hash, leaf_hash};
use seal::Seal;

pub use verification::verify_export;

/// What the file calls itself.
pub const FORMAT: &str = "tollgate-audit-export";

/// The version that is written, and the newest that is read.
pub const VERSION: u64 = 1;

/// The longest line that is written or read, in bytes.
pub const MAX_LINE_BYTES: u64 = 32 * 1024 * 1024;

/// Of what a file is an export: `"log"`, or `{"dataset":"united.flights"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The whole log, up to the checkpoint.
    Log,
    /// The entries that concern one dataset.
    Dataset(String),
}

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: String,
    version: u64,
    origin: String,
    of: Scope,
    checkpoint: String,
}

/// A line of an entry.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryLine {
    index: u64,
    leaf: HashText,
    entry: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proof: Option<Vec<HashText>>,
}

/// The last line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SealLine {
    seal: String,
}

/// Why an export was not written. All but `Io` are mistakes of the caller: an export that would not verify is not made.
#[derive(Debug, Error)]
pub enum ExportError {
    /// The key is not that of the checkpoint.
    #[error("the checkpoint is of the log of another key")]
    AnotherKey,
    /// A dataset's name would break the seal's lines.
    #[error("a dataset's name is not empty and holds no control characters")]
    Dataset,
    /// An entry does not follow the one before.
    #[error("entry {index} does not come next in the export")]
    Order {
        /// Which.
        index: u64,
    },
    /// An entry is not under the checkpoint.
    #[error("entry {index} is beyond the checkpoint of {size} entries")]
    Beyond {
        /// Which.
        index: u64,
        /// The checkpoint's size.
        size: u64,
    },
    /// An entry of an excerpt needs its proof.
    #[error("entry {index} needs its proof")]
    NoProof {
        /// Which.
        index: u64,
    },
    /// An entry is too long to be read again.
    #[error("entry {index} makes a line of more than {MAX_LINE_BYTES} bytes")]
    TooLong {
        /// Which.
        index: u64,
    },
    /// Entries of the whole log are missing.
    #[error("the export ends after {entries} of {size} entries")]
    Short {
        /// How many there are.
        entries: u64,
        /// How many there should be.
        size: u64,
    },
    /// The file could not be written.
    #[error("the export cannot be written: {0}")]
    Io(#[from] io::Error),
}

/// Writes an export, line by line. What was written is no export until [`finish`](Self::finish) has closed it.
#[derive(Debug)]
pub struct ExportWriter<W> {
    out: W,
    digest: Sha256,
    of: Scope,
    origin: String,
    size: u64,
    /// The least index that the next entry may have.
    next: u64,
    entries: u64,
}

impl<W: Write> ExportWriter<W> {
    /// Begins an export `of` the log at `checkpoint`.
    ///
    /// # Errors
    /// When `of` is no name, or when `out` cannot be written.
    pub fn new(out: W, of: Scope, checkpoint: &SignedCheckpoint) -> Result<Self, ExportError> {
        if let Scope::Dataset(dataset) = &of
            && (dataset.is_empty() || dataset.chars().any(char::is_control))
        {
            return Err(ExportError::Dataset);
        }
        let origin = checkpoint.checkpoint().origin.clone();
        let size = checkpoint.checkpoint().size;
        let header = Header {
            format: FORMAT.to_owned(),
            version: VERSION,
            origin: origin.clone(),
            of: of.clone(),
            checkpoint: checkpoint.text().to_owned(),
        };
        let mut writer = Self { out, digest: Sha256::new(), of, origin, size, next: 0, entries: 0 };
        writer.line(line(&header)?)?;
        Ok(writer)
    }

    /// Writes entry `index`, whose exact bytes are `entry`. In an export of one dataset it needs the `proof` that it is in
    /// the tree of the checkpoint; in one of the whole log it may have it.
    ///
    /// # Errors
    /// When it does not come next, is not under the checkpoint, lacks a proof or is too long, or when it cannot be written.
    pub fn entry(&mut self, index: u64, entry: &str, proof: Option<&[Hash]>) -> Result<(), ExportError> {
        let comes_next = if self.of == Scope::Log { index == self.next } else { index >= self.next };
        if !comes_next {
            return Err(ExportError::Order { index });
        }
        if index >= self.size {
            return Err(ExportError::Beyond { index, size: self.size });
        }
        if proof.is_none() && self.of != Scope::Log {
            return Err(ExportError::NoProof { index });
        }
        let leaf = HashText(leaf_hash(entry.as_bytes()));
        let line = line(&EntryLine { index, leaf, entry: entry.to_owned(), proof: proof.map(texts) })?;
        if line.len() as u64 > MAX_LINE_BYTES {
            return Err(ExportError::TooLong { index });
        }
        self.next = index + 1;
        self.entries += 1;
        self.line(line)
    }

    /// Closes the export with a seal by `key`, and gives the output back. Nothing was flushed.
    ///
    /// # Errors
    /// When `key` is of another log, when entries of the whole log are missing, or when the seal cannot be written.
    pub fn finish(mut self, key: &SigningKey) -> Result<W, ExportError> {
        if key.name() != self.origin {
            return Err(ExportError::AnotherKey);
        }
        if self.of == Scope::Log && self.entries != self.size {
            return Err(ExportError::Short { entries: self.entries, size: self.size });
        }
        let seal = Seal {
            origin: &self.origin,
            of: &self.of,
            size: self.size,
            entries: self.entries,
            digest: self.digest.clone().finalize().into(),
        };
        let last = line(&SealLine { seal: seal.sign(key) })?;
        self.line(last)?;
        Ok(self.out)
    }

    fn line(&mut self, line: Vec<u8>) -> Result<(), ExportError> {
        self.digest.update(&line);
        self.out.write_all(&line)?;
        Ok(())
    }
}

fn line(content: &impl Serialize) -> Result<Vec<u8>, ExportError> {
    let mut line = serde_json::to_vec(content).map_err(io::Error::from)?;
    line.push(b'\n');
    Ok(line)
}
