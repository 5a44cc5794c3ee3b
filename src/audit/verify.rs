//! Verifying evidence offline: with the public key and what was kept from earlier, and nothing else.

use std::fmt;
use std::io::{BufRead, Read};

use serde::Deserialize;

use super::checkpoint::{Checkpoint, SignedCheckpoint};
use super::consistency;
use super::encoding::encode;
use super::export::{self, Scope, verify_export};
use super::finding::{Finding, Findings, NotVerified};
use super::history::History;
use super::key::VerifierKey;
use super::merkle::Hash;
use super::note::{self, NoteError};
use super::receipt::{self, Receipt};

/// The longest document but an export that is read, in bytes.
const MAX_DOCUMENT_BYTES: u64 = 32 * 1024 * 1024;

/// What was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// An export, of so many entries.
    Export {
        /// Of what.
        of: Scope,
        /// How many entries it has.
        entries: u64,
    },
    /// A receipt.
    Receipt {
        /// The entry's place in the log.
        index: u64,
        /// The hash of its leaf.
        leaf: Hash,
        /// Whether the entry itself is told, and has this hash.
        has_entry: bool,
    },
    /// A checkpoint alone.
    Checkpoint,
}

/// What was verified, and against what. There is none of evidence that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What was verified.
    pub subject: Subject,
    /// The signed state of the log that it belongs to.
    pub checkpoint: Checkpoint,
    /// The sizes of the earlier checkpoints that the log continues.
    pub earlier: Vec<u64>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Checkpoint { origin, size, root } = &self.checkpoint;
        match &self.subject {
            Subject::Export { of: Scope::Log, entries } => {
                writeln!(
                    f,
                    "This is the whole log of {origin}: all {entries} entries are those that were signed, in order."
                )?;
            }
            Subject::Export { of: Scope::Dataset(dataset), entries } => {
                writeln!(
                    f,
                    "This is what the log of {origin} has on {dataset}: each of {entries} entries is in the signed log. \
                     That there are no others is the gateway's word, which it has signed."
                )?;
            }
            Subject::Receipt { index, leaf, has_entry } => {
                let what = if *has_entry { "The entry in the receipt" } else { "An entry with the receipt's hash" };
                writeln!(f, "{what} is number {index} of the log of {origin}. Its leaf hash is {}.", encode(leaf))?;
            }
            Subject::Checkpoint => writeln!(f, "This is a checkpoint of the log of {origin}.")?,
        }
        writeln!(f, "The checkpoint is signed: {size} entries, root {}.", encode(root))?;
        for earlier in &self.earlier {
            writeln!(f, "The log continues the earlier checkpoint of {earlier} entries.")?;
        }
        Ok(())
    }
}

/// What every JSON document of ours begins by saying.
#[derive(Deserialize)]
struct Kind {
    format: String,
}

/// Verifies an export, a receipt or a signed checkpoint, whichever `evidence` is, and that it continues the checkpoints of
/// `history`. An export is streamed: it may be larger than memory.
///
/// # Errors
/// All that is wrong with it, or why it could not be read.
pub fn verify(mut evidence: impl BufRead, key: &VerifierKey, history: &History) -> Result<Report, NotVerified> {
    if evidence.fill_buf()?.first() != Some(&b'{') {
        let mut text = String::new();
        match evidence.take(note::MAX_BYTES as u64 + 1).read_to_string(&mut text) {
            Ok(_) => return verify_checkpoint(&text, key, history).map_err(NotVerified::Findings),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                return Err(Finding::NotEvidence("it is not text").into());
            }
            Err(error) => return Err(error.into()),
        }
    }
    let mut first = Vec::new();
    evidence.by_ref().take(MAX_DOCUMENT_BYTES).read_until(b'\n', &mut first)?;
    if serde_json::from_slice::<Kind>(&first).is_ok_and(|kind| kind.format == export::FORMAT) {
        return verify_export(first.as_slice().chain(evidence), key, history);
    }
    let room = MAX_DOCUMENT_BYTES.saturating_sub(first.len() as u64);
    evidence.take(room).read_to_end(&mut first)?;
    let text = String::from_utf8(first).map_err(|_| Finding::NotEvidence("it is not text"))?;
    match serde_json::from_str::<Kind>(&text).map(|kind| kind.format).as_deref() {
        Ok(receipt::FORMAT) => Receipt::from_json(&text)?.verify(key, history).map_err(NotVerified::Findings),
        Ok(consistency::FORMAT) => Err(Finding::NotEvidence(
            "it is a consistency proof; give it with --proof, and the newer checkpoint as the file",
        )
        .into()),
        Ok(_) => Err(Finding::NotEvidence("its `format` is not known").into()),
        Err(_) => Err(Finding::NotEvidence("it is not JSON that names its `format`").into()),
    }
}

/// Verifies a signed checkpoint, and that it continues those of `history`.
///
/// # Errors
/// All that is wrong with it.
pub fn verify_checkpoint(text: &str, key: &VerifierKey, history: &History) -> Result<Report, Findings> {
    let checkpoint = match SignedCheckpoint::verify(text, key) {
        Ok(signed) => signed.checkpoint().clone(),
        Err(super::checkpoint::CheckpointError::Note(NoteError::Malformed(reason))) => {
            return Err(Finding::NotEvidence(reason).into());
        }
        Err(error) => return Err(Finding::Checkpoint(error).into()),
    };
    let mut findings = Findings::default();
    history.check(&checkpoint, |_| None).into_iter().for_each(|finding| findings.push(finding));
    if !findings.is_empty() {
        return Err(findings);
    }
    Ok(Report { subject: Subject::Checkpoint, checkpoint, earlier: history.sizes().collect() })
}
