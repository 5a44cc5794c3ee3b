//! The folders that an owner's data may lie in, when its steward has named the place and not the operator.
//!
//! The gateway may read more of its machine than a steward may. What a steward names is therefore held to a list of the
//! operator's, with every link on the way resolved, when it is registered and again whenever its files are listed: a link
//! may be made in between.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// Folders, each absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots(Arc<[PathBuf]>);

impl Roots {
    /// The folders `roots`; one that is not absolute admits nothing.
    #[must_use]
    pub fn new(roots: impl IntoIterator<Item = PathBuf>) -> Self {
        Self(roots.into_iter().filter(|root| root.is_absolute()).collect())
    }

    /// The first of them, against which a relative location is resolved.
    #[must_use]
    pub fn first(&self) -> Option<&Path> {
        self.0.first().map(PathBuf::as_path)
    }

    /// `path` with its links resolved, if it is in one of the folders and no link on the way leads out of them. Parts
    /// that do not exist, such as those of a glob, stay as they are written. A link that leads nowhere counts as one that
    /// leads out, so that nobody learns from here what is elsewhere on the machine. Blocking I/O.
    #[must_use]
    pub fn admit(&self, path: &Path) -> Option<PathBuf> {
        if path.components().any(|part| matches!(part, Component::ParentDir | Component::CurDir)) {
            return None;
        }
        let real_roots: Vec<PathBuf> = self.0.iter().filter_map(|root| fs::canonicalize(root).ok()).collect();
        let inside = |place: &Path| real_roots.iter().any(|root| place.starts_with(root));
        let (root, rest) = self.0.iter().find_map(|root| Some((root, path.strip_prefix(root).ok()?)))?;
        // The way to the folder is the operator's own, links and all.
        let mut place = fs::canonicalize(root).ok()?;
        for part in rest.components() {
            place.push(part);
            let is_link = fs::symlink_metadata(&place).is_ok_and(|facts| facts.is_symlink());
            if is_link {
                place = fs::canonicalize(&place).ok().filter(|real| inside(real))?;
            }
        }
        Some(place)
    }
}
