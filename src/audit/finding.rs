//! What a verification finds wrong, in plain words. Findings name entries by index and quote nothing that a file says.

use std::fmt;
use std::io;

use thiserror::Error;

use super::checkpoint::CheckpointError;
use super::note::NoteError;

/// How many findings are kept; of the rest there is a number. A file that was put together badly has one for each line.
const MAX_FINDINGS: usize = 20;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Finding {
    /// The file is no evidence of ours.
    #[error("this is not an export, a receipt or a signed checkpoint of Tollgate's: {0}")]
    NotEvidence(&'static str),
    /// The file is of a format that came after this program.
    #[error("this file has version {0} of its format, which this program does not know; use a newer one")]
    NewerFormat(u64),
    /// A line does not read.
    #[error("line {line} cannot be read: {reason}")]
    Malformed {
        /// Which line, from 1.
        line: u64,
        /// Why not.
        reason: String,
    },
    /// The file ends before its last line.
    #[error("the file is truncated: it ends after {entries} entries, without the line that closes an export")]
    Truncated {
        /// How many entries there are.
        entries: u64,
    },
    /// The file goes on after its last line.
    #[error("the file goes on after the line that closes it, from line {line}")]
    Trailing {
        /// Which line, from 1.
        line: u64,
    },
    /// The checkpoint in the file is not believed.
    #[error("the checkpoint in the file is not believed: {0}")]
    Checkpoint(CheckpointError),
    /// An earlier checkpoint, or a proof, that was given beside the file, is not believed.
    #[error("{name}, which was given to compare with, is not believed: {source}")]
    Earlier {
        /// Its file.
        name: String,
        /// Why not.
        source: CheckpointError,
    },
    /// The file's origin is not its checkpoint's.
    #[error("the file says that it is of another log than its checkpoint")]
    Origin,
    /// Entries are not there.
    #[error("{} dropped from the file", were(*from, *to))]
    Missing {
        /// The first.
        from: u64,
        /// The one after the last.
        to: u64,
    },
    /// An entry is there twice.
    #[error("entry {index} is in the file twice, or its index was changed (line {line})")]
    Repeated {
        /// Which.
        index: u64,
        /// Where the second stands.
        line: u64,
    },
    /// An entry stands after one that it comes before.
    #[error("entry {index} is out of its place: it stands after entry {after} (line {line})")]
    Moved {
        /// Which.
        index: u64,
        /// The highest before it.
        after: u64,
        /// Where it stands.
        line: u64,
    },
    /// An entry is not in the tree that was signed.
    #[error("entry {index} is beyond the checkpoint of {size} entries")]
    Beyond {
        /// Which.
        index: u64,
        /// The checkpoint's size.
        size: u64,
    },
    /// An entry's text is not the one that its hash was made of.
    #[error("entry {index} was changed: its text does not have the hash that stands beside it")]
    Changed {
        /// Which.
        index: u64,
    },
    /// An entry's proof does not lead to the root.
    #[error("entry {index} is not in the signed log as it stands here: the entry, its index or its proof was changed")]
    NotIncluded {
        /// Which.
        index: u64,
    },
    /// An entry of an excerpt comes without its proof.
    #[error("entry {index} has no proof, and an excerpt of a log proves each entry by itself")]
    NoProof {
        /// Which.
        index: u64,
    },
    /// The entries do not have the root that was signed.
    #[error(
        "the entries are not the ones that were signed: between entry {from} and entry {}, at least one was changed, or put \
         in another's place, together with its hash", to.saturating_sub(1)
    )]
    Root {
        /// The first that may be wrong: all before it agree with an earlier checkpoint.
        from: u64,
        /// The one after the last.
        to: u64,
    },
    /// The seal on the export is not believed.
    #[error("the seal that closes the export is not believed: {0}")]
    SealNote(NoteError),
    /// The export does not have as many entries as were sealed.
    #[error("the export was sealed with {sealed} entries and has {found}")]
    Count {
        /// How many were sealed.
        sealed: u64,
        /// How many there are.
        found: u64,
    },
    /// The export is not what was sealed.
    #[error("the export is not the one that the gateway sealed: a line was changed, added or taken away")]
    Seal,
    /// The log has fewer entries than were signed before.
    #[error(
        "the log is shorter than it was: this is signed for {size} entries, and an earlier checkpoint for {earlier}. The log \
         was rolled back, or this file is older than that checkpoint"
    )]
    Shorter {
        /// How many it has.
        size: u64,
        /// How many it had.
        earlier: u64,
    },
    /// The log does not have the entries that were signed before.
    #[error(
        "the log was forked: its first {earlier} entries are not those that an earlier checkpoint, signed by the same key, \
         is for. Keep both: together they prove it"
    )]
    Forked {
        /// The earlier checkpoint's size.
        earlier: u64,
    },
    /// The proof that was given does not show that the log continues an earlier checkpoint.
    #[error(
        "the log is not shown to continue the checkpoint of {earlier} entries: the proof is wrong, or the log was forked. \
         Ask for the proof again; if it stays wrong, there is none"
    )]
    Inconsistent {
        /// The earlier checkpoint's size.
        earlier: u64,
    },
    /// There is no proof that the log continues an earlier checkpoint.
    #[error(
        "nothing shows that the log continues the checkpoint of {earlier} entries: give the consistency proof from {earlier} \
         to {size}, or verify an export of the whole log"
    )]
    NoConsistency {
        /// The earlier checkpoint's size.
        earlier: u64,
        /// The size now.
        size: u64,
    },
}

/// `entry 3 was`, `entries 3 to 7 were`.
fn were(from: u64, to: u64) -> String {
    let last = to.saturating_sub(1);
    if from >= last { format!("entry {last} was") } else { format!("entries {from} to {last} were") }
}

/// All that was found, in the order in which it was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    first: Vec<Finding>,
    more: u64,
}

impl Findings {
    /// Keeps `finding`, or counts it.
    pub fn push(&mut self, finding: Finding) {
        if self.first.len() < MAX_FINDINGS {
            self.first.push(finding);
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// The first of them.
    #[must_use]
    pub fn first(&self) -> &[Finding] {
        &self.first
    }

    /// How many there are besides.
    #[must_use]
    pub const fn more(&self) -> u64 {
        self.more
    }
}

impl From<Finding> for Findings {
    fn from(finding: Finding) -> Self {
        Self { first: vec![finding], more: 0 }
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, finding) in self.first.iter().enumerate() {
            write!(f, "{}{finding}", if at == 0 { "" } else { "\n" })?;
        }
        if self.more > 0 {
            write!(f, "\nand {} more", self.more)?;
        }
        Ok(())
    }
}

/// Why evidence was not verified.
#[derive(Debug, Error)]
pub enum NotVerified {
    /// It is wrong.
    #[error("{0}")]
    Findings(Findings),
    /// It could not be read.
    #[error("cannot read it: {0}")]
    Io(#[from] io::Error),
}

impl From<Finding> for NotVerified {
    fn from(finding: Finding) -> Self {
        Self::Findings(finding.into())
    }
}
