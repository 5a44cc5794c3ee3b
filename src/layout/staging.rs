//! Where a new layout is made, and how it takes its place.
//!
//! ```text
//! .NAME.optimizing/lock      held while a run is at work
//!                 /new       the new file or folder, until it is whole and checked
//!                 /spill     what the sort does not hold in memory
//!                 /swapping  which file or folder the original is, written before the swap
//! ```
//!
//! The folder stands beside its goal, on the same file system. What is in it is never read as data: its name begins with a
//! dot and does not end in `.parquet`. With `--replace` the new and the original exchange their names in one step of the file
//! system, so that a crash at any moment leaves the one or the other under the name, whole; what a crashed run has left is
//! cleared away, or brought to its end, by the next.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::error::LayoutError;

/// A folder to work in.
#[derive(Debug)]
pub(super) struct Staging {
    folder: PathBuf,
    goal: PathBuf,
    /// Locked; the system lets go of it when the process ends, however it ends.
    _lock: File,
}

impl Staging {
    /// Makes the folder beside `goal`, after bringing to an end what a crashed run has left of it.
    pub(super) fn open(goal: &Path) -> Result<Self, LayoutError> {
        let folder = beside(goal, ".", ".optimizing");
        // What is made here is private data, and no one's to read until it has the modes of the original.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(LayoutError::io(&folder))?;
        let path = folder.join("lock");
        let lock = File::create(&path).map_err(LayoutError::io(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(LayoutError::Running(folder)),
            Err(fs::TryLockError::Error(source)) => return Err(LayoutError::io(&path)(source)),
        }
        let staging = Self { folder, goal: goal.to_owned(), _lock: lock };
        staging.recover()?;
        remove(&staging.new_place())?;
        remove(&staging.spill())?;
        fs::create_dir(staging.spill()).map_err(LayoutError::io(&staging.folder))?;
        Ok(staging)
    }

    /// Where the new file or folder is made.
    pub(super) fn new_place(&self) -> PathBuf {
        self.folder.join("new")
    }

    /// Where the sort spills.
    pub(super) fn spill(&self) -> PathBuf {
        self.folder.join("spill")
    }

    fn swapping(&self) -> PathBuf {
        self.folder.join("swapping")
    }

    /// A run that crashed between the swap and the naming of the original left the original here.
    fn recover(&self) -> Result<(), LayoutError> {
        let Ok(said) = fs::read_to_string(self.swapping()) else { return Ok(()) };
        if self.new_place().exists() && number(&self.new_place()).is_some_and(|found| found == said) {
            self.keep_original()?;
        }
        remove(&self.swapping())
    }

    /// Puts the new file or folder where nothing is.
    pub(super) fn place(&self) -> Result<(), LayoutError> {
        sync_tree(&self.new_place())?;
        let placed = renameat_with(CWD, self.new_place(), CWD, &self.goal, RenameFlags::NOREPLACE);
        placed.map_err(|error| match std::io::Error::from(error) {
            taken if taken.kind() == std::io::ErrorKind::AlreadyExists => {
                LayoutError::Exists(self.goal.display().to_string())
            }
            error => LayoutError::io(&self.goal)(error),
        })?;
        sync_parent(&self.goal)
    }

    /// Exchanges the new file or folder with the original, which is kept under another name.
    pub(super) fn replace(&self) -> Result<PathBuf, LayoutError> {
        let kept = kept(&self.goal);
        if kept.exists() {
            return Err(LayoutError::Exists(kept.display().to_string()));
        }
        sync_tree(&self.new_place())?;
        let original = number(&self.goal).ok_or_else(|| LayoutError::NothingKept(self.goal.clone()))?;
        let path = self.swapping();
        let mut swapping = File::create(&path).map_err(LayoutError::io(&path))?;
        swapping.write_all(original.as_bytes()).and_then(|()| swapping.sync_all()).map_err(LayoutError::io(&path))?;
        sync_folder(&self.folder)?;
        renameat_with(CWD, self.new_place(), CWD, &self.goal, RenameFlags::EXCHANGE).map_err(|_| {
            let place = self.goal.display().to_string();
            LayoutError::NotReplaceable { place, why: "this file system does not exchange two names in one step" }
        })?;
        sync_parent(&self.goal)?;
        sync_folder(&self.folder)?;
        self.keep_original()?;
        Ok(kept)
    }

    /// Gives the original, which lies here since the swap, the name under which it is kept.
    fn keep_original(&self) -> Result<(), LayoutError> {
        let kept = kept(&self.goal);
        fs::rename(self.new_place(), &kept).map_err(LayoutError::io(&kept))?;
        sync_parent(&kept)
    }

    /// Takes the folder away, and all that is in it, but for an original that a failed run has left there.
    pub(super) fn clear(self) -> Result<(), LayoutError> {
        self.recover()?;
        fs::remove_dir_all(&self.folder).map_err(LayoutError::io(&self.folder))
    }
}

/// The name under which the original of `goal` is kept.
pub(super) fn kept(goal: &Path) -> PathBuf {
    beside(goal, "", ".before-optimize")
}

/// `goal` with its name between `before` and `after`.
fn beside(goal: &Path, before: &str, after: &str) -> PathBuf {
    let mut name = std::ffi::OsString::from(before);
    name.push(goal.file_name().unwrap_or_default());
    name.push(after);
    goal.with_file_name(name)
}

/// What tells a file or folder from every other of its file system, whatever its name.
fn number(path: &Path) -> Option<String> {
    fs::metadata(path).ok().map(|facts| format!("{:x}-{:x}", facts.dev(), facts.ino()))
}

/// Removes a file or a folder with all that is in it, if it is there.
pub(super) fn remove(path: &Path) -> Result<(), LayoutError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(facts) if facts.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    };
    removed.map_err(LayoutError::io(path))
}

/// Writes the names in a new folder through to the disk; its files were as they were closed.
fn sync_tree(path: &Path) -> Result<(), LayoutError> {
    if path.is_dir() { sync_folder(path) } else { Ok(()) }
}

fn sync_parent(path: &Path) -> Result<(), LayoutError> {
    path.parent().map_or(Ok(()), sync_folder)
}

fn sync_folder(path: &Path) -> Result<(), LayoutError> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    File::open(path).and_then(|folder| folder.sync_all()).map_err(LayoutError::io(path))
}
