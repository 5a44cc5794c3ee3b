//! The folders, and prefixes of object stores, that an owner's data may lie in, when its steward has named the place and not the operator.
//!
//! The gateway may read more of its machine than a steward may. What a steward names is therefore held to a list of the
//! operator's, with every link on the way resolved, when it is registered and again whenever its files are listed: a link
//! may be made in between.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::policy::ObjectAddress;

/// Folders, each absolute, and prefixes such as `s3://bucket/united/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots(Arc<[PathBuf]>);

impl Roots {
    /// The folders and prefixes `roots`; a folder that is not absolute admits nothing.
    #[must_use]
    pub fn new(roots: impl IntoIterator<Item = PathBuf>) -> Self {
        Self(roots.into_iter().filter(|root| root.is_absolute() || is_address(root)).collect())
    }

    /// The first of the folders, against which a relative location is resolved.
    #[must_use]
    pub fn first(&self) -> Option<&Path> {
        self.0.iter().map(PathBuf::as_path).find(|root| !is_address(root))
    }

    /// `path` with its links resolved, if it is in one of the folders and no link on the way leads out of them. Parts
    /// that do not exist, such as those of a glob, stay as they are written. A link that leads nowhere counts as one that
    /// leads out, so that nobody learns from here what is elsewhere on the machine. An address has one spelling and no links, and
    /// is held to the prefixes part by part. Blocking I/O.
    #[must_use]
    pub fn admit(&self, path: &Path) -> Option<PathBuf> {
        if is_address(path) {
            ObjectAddress::parse(path.to_str()?).ok()?;
            let within = |root: &&PathBuf| is_address(root) && path.starts_with(root);
            return self.0.iter().find(within).map(|_| path.to_path_buf());
        }
        if path.components().any(|part| matches!(part, Component::ParentDir | Component::CurDir)) {
            return None;
        }
        let folders = || self.0.iter().filter(|root| !is_address(root));
        let real_roots: Vec<PathBuf> = folders().filter_map(|root| fs::canonicalize(root).ok()).collect();
        let inside = |place: &Path| real_roots.iter().any(|root| place.starts_with(root));
        let (root, rest) = folders().find_map(|root| Some((root, path.strip_prefix(root).ok()?)))?;
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

fn is_address(place: &Path) -> bool {
    place.to_str().is_some_and(ObjectAddress::is_one)
}
