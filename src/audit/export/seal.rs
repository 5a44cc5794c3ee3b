//! The seal that closes an export: a signed note by which the gateway says that these lines are all there is.
//!
//! ```text
//!  tollgate-audit-export/1⏎
//!  gateway.example/log⏎            the origin
//!  log⏎                            or: dataset united.flights
//!  20852163⏎                       the size of the checkpoint
//!  17⏎                             how many entries the export has
//!  base64(SHA-256)⏎                over all lines before the seal, with their line breaks
//! ```
//!
//! A checkpoint has three lines, so that neither can be taken for the other, though one key signs both.

use super::{FORMAT, Scope, VERSION};
use crate::audit::encoding::encode;
use crate::audit::finding::Finding;
use crate::audit::key::{SigningKey, VerifierKey};
use crate::audit::merkle::Hash;
use crate::audit::note;

/// What a seal says of an export.
pub(super) struct Seal<'export> {
    /// Whose log.
    pub(super) origin: &'export str,
    /// Of what it is an export.
    pub(super) of: &'export Scope,
    /// The checkpoint's size.
    pub(super) size: u64,
    /// How many entries it has.
    pub(super) entries: u64,
    /// The hash of its lines.
    pub(super) digest: Hash,
}

impl Seal<'_> {
    fn to_text(&self) -> String {
        let Self { origin, of, size, entries, digest } = self;
        let of = match of {
            Scope::Log => "log".to_owned(),
            Scope::Dataset(dataset) => format!("dataset {dataset}"),
        };
        format!("{FORMAT}/{VERSION}\n{origin}\n{of}\n{size}\n{entries}\n{}\n", encode(digest))
    }

    /// The signed note.
    pub(super) fn sign(&self, key: &SigningKey) -> String {
        note::sign(&self.to_text(), key)
    }

    /// What is wrong with `note`, which should be the seal of the export that this describes.
    pub(super) fn check(&self, note: &str, key: &VerifierKey) -> Option<Finding> {
        let sealed = match note::open(note, key) {
            Ok(sealed) => sealed,
            Err(error) => return Some(Finding::SealNote(error)),
        };
        if sealed == self.to_text() {
            return None;
        }
        // The number of entries is told apart from all else, since it says what was done to the file.
        match sealed.lines().nth(4).and_then(|entries| entries.parse().ok()) {
            Some(sealed) if sealed != self.entries => Some(Finding::Count { sealed, found: self.entries }),
            _ => Some(Finding::Seal),
        }
    }
}
