//! Checkpoints: what a gateway signs to say "this is my log" (C2SP `tlog-checkpoint`).
//!
//! ```text
//!  gateway.example/log⏎                             the origin, which is the key's name
//!  20852163⏎                                        how many entries
//!  CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=⏎    the Merkle root over them, in base64
//!  ⏎
//!  — gateway.example/log Az3grlgt…⏎                 the signature, as in any signed note
//! ```

use std::fmt;

use thiserror::Error;

use super::encoding::{decode_hash, encode};
use super::key::{SigningKey, VerifierKey};
use super::merkle::Hash;
use super::note::{self, NoteError};

/// Why a text is not believed to be a checkpoint. No message holds anything that the text says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CheckpointError {
    /// It is no note that the key signed.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The note is no checkpoint.
    #[error("it is a signed note, and not a checkpoint: {0}")]
    Malformed(&'static str),
    /// The checkpoint is of a log that is not this key's.
    #[error("it is the checkpoint of another log: its origin is not the key's name")]
    AnotherOrigin,
}

/// The state of a log at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Whose log: the name of the key.
    pub origin: String,
    /// How many entries it has.
    pub size: u64,
    /// The Merkle root over them.
    pub root: Hash,
}

impl Checkpoint {
    /// Signs it. A log must never sign two checkpoints of which one is not the beginning of the other.
    ///
    /// # Errors
    /// [`CheckpointError::AnotherOrigin`] when the origin is not the name of `key`.
    pub fn sign(&self, key: &SigningKey) -> Result<SignedCheckpoint, CheckpointError> {
        if self.origin != key.name() {
            return Err(CheckpointError::AnotherOrigin);
        }
        Ok(SignedCheckpoint { text: note::sign(&self.to_text(), key), checkpoint: self.clone() })
    }

    /// What is signed.
    fn to_text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, encode(&self.root))
    }

    /// Reads a note's text. Extension lines, which the specification allows and advises against, are refused: our logs
    /// write none, and nobody could check what they say.
    pub(super) fn from_text(text: &str) -> Result<Self, CheckpointError> {
        let lines: Vec<_> = text.split_terminator('\n').collect();
        let [origin, size, root] = lines[..] else {
            return Err(CheckpointError::Malformed("it does not have three lines"));
        };
        if origin.is_empty() {
            return Err(CheckpointError::Malformed("its origin is empty"));
        }
        let digits = !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_digit());
        let size = (digits && (size == "0" || !size.starts_with('0')))
            .then(|| size.parse().ok())
            .flatten()
            .ok_or(CheckpointError::Malformed("its second line is not a size"))?;
        let root = decode_hash(root).ok_or(CheckpointError::Malformed("its third line is not the base64 of a hash"))?;
        Ok(Self { origin: origin.to_owned(), size, root })
    }
}

/// A checkpoint with its signature: there is none whose signature was not made or checked here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    text: String,
    checkpoint: Checkpoint,
}

impl SignedCheckpoint {
    /// Believes `text`, if `key` has signed it.
    ///
    /// # Errors
    /// When it is no signed note, not signed by `key`, or no checkpoint of the log that has the key's name.
    pub fn verify(text: &str, key: &VerifierKey) -> Result<Self, CheckpointError> {
        let checkpoint = Checkpoint::from_text(note::open(text, key)?)?;
        if checkpoint.origin != key.name() {
            return Err(CheckpointError::AnotherOrigin);
        }
        Ok(Self { text: text.to_owned(), checkpoint })
    }

    /// The signed note, byte for byte.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What was signed.
    #[must_use]
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }
}

impl fmt::Display for SignedCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The checkpoint in `text`, if `key` has signed it.
///
/// # Errors
/// As [`SignedCheckpoint::verify`].
pub fn verify(text: &str, key: &VerifierKey) -> Result<Checkpoint, CheckpointError> {
    SignedCheckpoint::verify(text, key).map(|signed| signed.checkpoint)
}
