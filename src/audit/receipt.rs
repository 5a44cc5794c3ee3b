//! Receipts: one entry, its place in the log, the proof that it is there, and the checkpoint that the proof leads to. One
//! JSON document that an analyst or a steward keeps, and checks when they like:
//! `{"format":"tollgate-audit-receipt","version":1,"log_index":17,"leaf_hash":"…","entry":"…","proof":["…"],"checkpoint":"…"}`.
//!
//! `entry` may be left out: then the receipt proves that an entry with this hash is in the log, to whoever has the entry.

use serde::{Deserialize, Serialize};

use super::checkpoint::SignedCheckpoint;
use super::encoding::{HashText, hashes, texts};
use super::finding::{Finding, Findings};
use super::history::History;
use super::key::VerifierKey;
use super::merkle::{Hash, leaf_hash, verify_inclusion};
use super::verify::{Report, Subject};

/// What the document calls itself.
pub const FORMAT: &str = "tollgate-audit-receipt";

/// The version that is written, and the newest that is read.
pub const VERSION: u64 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: String,
    version: u64,
    log_index: u64,
    leaf_hash: HashText,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    entry: Option<String>,
    proof: Vec<HashText>,
    checkpoint: String,
}

/// A receipt, not yet verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The entry's place in the log, from 0.
    pub index: u64,
    /// The hash of the entry's leaf.
    pub leaf: Hash,
    /// The entry itself, if it is told.
    pub entry: Option<String>,
    /// The inclusion proof to the checkpoint's root, in RFC 6962's order.
    pub proof: Vec<Hash>,
    /// The text of the signed checkpoint.
    pub checkpoint: String,
}

impl Receipt {
    /// The document.
    ///
    /// # Errors
    /// Never in practice: numbers and strings have a JSON form.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(&Document {
            format: FORMAT.to_owned(),
            version: VERSION,
            log_index: self.index,
            leaf_hash: HashText(self.leaf),
            entry: self.entry.clone(),
            proof: texts(&self.proof),
            checkpoint: self.checkpoint.clone(),
        })
    }

    /// Reads a document.
    ///
    /// # Errors
    /// When it is none, or newer than this program.
    pub fn from_json(text: &str) -> Result<Self, Finding> {
        let document: Document = serde_json::from_str(text).map_err(|_| {
            Finding::NotEvidence("it does not have the members of a receipt, or one is of another form")
        })?;
        if document.format != FORMAT {
            return Err(Finding::NotEvidence("it is not a receipt"));
        }
        if document.version != VERSION {
            return Err(Finding::NewerFormat(document.version));
        }
        Ok(Self {
            index: document.log_index,
            leaf: document.leaf_hash.0,
            entry: document.entry,
            proof: hashes(&document.proof),
            checkpoint: document.checkpoint,
        })
    }

    /// Verifies it, and that its checkpoint continues those of `history`.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn verify(&self, key: &VerifierKey, history: &History) -> Result<Report, Findings> {
        let signed = SignedCheckpoint::verify(&self.checkpoint, key).map_err(Finding::Checkpoint)?;
        let checkpoint = signed.checkpoint().clone();
        let mut findings = Findings::default();
        if self.entry.as_ref().is_some_and(|entry| leaf_hash(entry.as_bytes()) != self.leaf) {
            findings.push(Finding::Changed { index: self.index });
        }
        if self.index >= checkpoint.size {
            findings.push(Finding::Beyond { index: self.index, size: checkpoint.size });
        } else if !verify_inclusion(&self.leaf, self.index, checkpoint.size, &self.proof, &checkpoint.root) {
            findings.push(Finding::NotIncluded { index: self.index });
        }
        history.check(&checkpoint, |_| None).into_iter().for_each(|finding| findings.push(finding));
        if !findings.is_empty() {
            return Err(findings);
        }
        let subject = Subject::Receipt { index: self.index, leaf: self.leaf, has_entry: self.entry.is_some() };
        Ok(Report { subject, checkpoint, earlier: history.sizes().collect() })
    }
}
