//! The anchor: the newest signed checkpoint, in a file outside the storage. A storage that was rolled back or put together
//! anew cannot take the anchor with it, so a start that compares the two sees it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::atomic_file;
use super::checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint};
use super::key::VerifierKey;
use super::merkle::{Hash, Tree};
use super::note;

/// Why there is no anchor, or why it was not moved. The messages are the operator's: they name the file.
#[derive(Debug, Error)]
pub enum AnchorError {
    /// What is in the file is not a checkpoint of this log.
    #[error(
        "the anchor {} cannot be believed: {source}. If the signing key was replaced, put the old one back; if the file was \
         damaged, compare the log with a checkpoint that an auditor or a steward holds, and put that checkpoint here",
        .path.display()
    )]
    Untrusted {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: CheckpointError,
    },
    /// The checkpoint is older than the anchor.
    #[error(
        "the anchor {} holds a checkpoint of {anchored} entries, and is not set back to {offered}: the log has lost entries, \
         or another gateway has moved the anchor on", .path.display()
    )]
    Backwards {
        /// The file.
        path: PathBuf,
        /// The size in the file.
        anchored: u64,
        /// The size that was offered.
        offered: u64,
    },
    /// The checkpoint is of the anchor's size, and of another tree.
    #[error("the anchor {} holds another tree of {size} entries: the log has been forked", .path.display())]
    Forked {
        /// The file.
        path: PathBuf,
        /// The size of both.
        size: u64,
    },
    /// The file could not be read or written.
    #[error("cannot read or write the anchor {}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// How sure a written anchor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// It survives the process. A power cut may leave an older one, which is still true of the log.
    Process,
    /// It survives a power cut.
    Disk,
}

/// The file that holds the newest checkpoint.
#[derive(Debug)]
pub struct Anchor {
    path: PathBuf,
    key: VerifierKey,
    newest: Option<SignedCheckpoint>,
}

impl Anchor {
    /// The anchor at `path`, which need not be there yet, of the log that `key` checks.
    ///
    /// # Errors
    /// When the file cannot be read, or holds anything but a checkpoint that `key` has signed.
    pub fn open(path: &Path, key: VerifierKey) -> Result<Self, AnchorError> {
        let newest = read(path, &key)?;
        Ok(Self { path: path.to_owned(), key, newest })
    }

    /// The newest checkpoint, as it was read or written last; `None` if there was no file.
    #[must_use]
    pub const fn newest(&self) -> Option<&SignedCheckpoint> {
        self.newest.as_ref()
    }

    /// Puts `signed` into the file, whole or not at all. The caller has made sure that it continues the anchor's tree, as
    /// one that appends to the tree of [`Agreement::Agrees`] does.
    ///
    /// Gateways that share a ledger may share the file: it is read again, under a lock (a file beside it, with `.lock`
    /// appended), before it is written.
    ///
    /// # Errors
    /// When it is older than the one in the file, of the same size and another root, or not of this log; when what is in
    /// the file cannot be believed; or when the file cannot be written. The file is as it was then.
    pub fn write(&mut self, signed: &SignedCheckpoint, durability: Durability) -> Result<(), AnchorError> {
        SignedCheckpoint::verify(signed.text(), &self.key)
            .map_err(|source| AnchorError::Untrusted { path: self.path.clone(), source })?;
        let io = |source| AnchorError::Io { path: self.path.clone(), source };
        let lock = lock_file(&self.path).map_err(io)?;
        lock.lock().map_err(io)?;
        self.newest = read(&self.path, &self.key)?;
        let offered = signed.checkpoint();
        if let Some(anchored) = self.newest.as_ref().map(SignedCheckpoint::checkpoint) {
            let (path, size) = (self.path.clone(), anchored.size);
            if offered.size < size {
                return Err(AnchorError::Backwards { path, anchored: size, offered: offered.size });
            }
            if offered.size == size {
                // The same again changes nothing.
                return if offered.root == anchored.root { Ok(()) } else { Err(AnchorError::Forked { path, size }) };
            }
        }
        atomic_file::replace(&self.path, signed.text().as_bytes(), durability == Durability::Disk).map_err(io)?;
        self.newest = Some(signed.clone());
        Ok(())
    }
}

/// The file whose lock is held while the anchor is replaced. The anchor's own would go with the old file.
fn lock_file(path: &Path) -> io::Result<File> {
    let mut lock = path.as_os_str().to_owned();
    lock.push(".lock");
    OpenOptions::new().create(true).truncate(false).write(true).open(lock)
}

fn read(path: &Path, key: &VerifierKey) -> Result<Option<SignedCheckpoint>, AnchorError> {
    let io = |source| AnchorError::Io { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    let mut bytes = Vec::new();
    // One byte more than a note may have, so that a longer file is seen to be too long.
    file.take(note::MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(io)?;
    let text = String::from_utf8(bytes).map_err(|_| CheckpointError::Note(note::NoteError::Malformed("it is no text")));
    text.and_then(|text| SignedCheckpoint::verify(&text, key))
        .map(Some)
        .map_err(|source| AnchorError::Untrusted { path: path.to_owned(), source })
}

/// How a storage stands to the anchor outside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Agreement {
    /// The storage holds the anchor's tree as its beginning.
    Agrees,
    /// There is no anchor. Right for a new log, of size 0; for any other the anchor was lost or taken away, and nothing is
    /// known.
    Unanchored {
        /// How many entries the storage holds.
        size: u64,
    },
    /// The storage holds fewer entries than were signed: it was rolled back.
    Behind {
        /// How many are missing at its end.
        missing: u64,
    },
    /// The storage holds other entries than those that were signed.
    Forked {
        /// How many entries the anchor's tree has.
        size: u64,
    },
    /// The storage says that it has enough entries, and lacks what would show that they are the ones.
    Incomplete {
        /// How many entries the anchor's tree has.
        size: u64,
    },
}

/// How the storage, with its `tree`, stands to the `anchor`. `root_at` gives the root of the storage's first so many
/// leaves, from stored nodes ([`merkle::root_at`](super::merkle::root_at)); `None` if nodes are missing.
pub fn compare(anchor: Option<&Checkpoint>, tree: &Tree, root_at: impl FnOnce(u64) -> Option<Hash>) -> Agreement {
    let Some(anchor) = anchor else { return Agreement::Unanchored { size: tree.size() } };
    let size = anchor.size;
    if tree.size() < size {
        return Agreement::Behind { missing: size - tree.size() };
    }
    // Where the sizes are equal, the tree that will be appended to must itself be the anchor's.
    let root = if tree.size() == size { Some(tree.root()) } else { root_at(size) };
    match root {
        None => Agreement::Incomplete { size },
        Some(root) if root == anchor.root => Agreement::Agrees,
        Some(_) => Agreement::Forked { size },
    }
}
