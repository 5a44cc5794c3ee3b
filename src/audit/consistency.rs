//! The proof that one checkpoint continues another, as a JSON document:
//! `{"format":"tollgate-audit-consistency","version":1,"old_size":4,"new_size":7,"proof":["…"]}`.

use serde::{Deserialize, Serialize};

use super::checkpoint::Checkpoint;
use super::encoding::{HashText, hashes, texts};
use super::finding::Finding;
use super::merkle::{Hash, verify_consistency};

/// What the document calls itself.
pub const FORMAT: &str = "tollgate-audit-consistency";

/// The version that is written, and the newest that is read.
pub const VERSION: u64 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: String,
    version: u64,
    old_size: u64,
    new_size: u64,
    proof: Vec<HashText>,
}

/// A consistency proof (RFC 6962, 2.1.2) between the trees of the first `old_size` and `new_size` leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsistencyProof {
    /// How many entries the older tree has.
    pub old_size: u64,
    /// How many the newer has.
    pub new_size: u64,
    /// The hashes, in RFC 6962's order.
    pub proof: Vec<Hash>,
}

impl ConsistencyProof {
    /// The document.
    ///
    /// # Errors
    /// Never in practice: numbers and strings have a JSON form.
    pub fn to_json(&self) -> serde_json::Result<String> {
        let (format, version) = (FORMAT.to_owned(), VERSION);
        let Self { old_size, new_size, ref proof } = *self;
        serde_json::to_string(&Document { format, version, old_size, new_size, proof: texts(proof) })
    }

    /// Reads a document.
    ///
    /// # Errors
    /// When it is none, or newer than this program.
    pub fn from_json(text: &str) -> Result<Self, Finding> {
        let Document { format, version, old_size, new_size, proof } = serde_json::from_str(text)
            .map_err(|_| Finding::NotEvidence("it does not have the members of a consistency proof"))?;
        if format != FORMAT {
            return Err(Finding::NotEvidence("it is not a consistency proof"));
        }
        if version != VERSION {
            return Err(Finding::NewerFormat(version));
        }
        Ok(Self { old_size, new_size, proof: hashes(&proof) })
    }

    /// Whether it shows that `new` continues `old`.
    #[must_use]
    pub fn shows(&self, old: &Checkpoint, new: &Checkpoint) -> bool {
        self.old_size == old.size
            && self.new_size == new.size
            && verify_consistency(old.size, &old.root, new.size, &new.root, &self.proof)
    }
}
