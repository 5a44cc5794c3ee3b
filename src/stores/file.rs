//! One file or object as it was when it was listed, and the name under which exactly that one is read.
//!
//! ```text
//! data/trips.parquet        what is there, whatever it is by now
//! data/trips.parquet/pinned-8a3f…    that file as it was listed, or an error
//! ```
//!
//! An answer must be of the data version that was charged, so that every read names the version. The name is all that
//! travels with a plan (to other machines too, where a plan is sent as bytes that keep no ETag): it stands in the path.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path as FilePath, PathBuf};
use std::time::UNIX_EPOCH;

use chrono::{DateTime, Utc};
use datafusion::execution::object_store::ObjectStoreUrl;
use object_store::ObjectMeta;
use object_store::path::Path;

use super::error::StoreError;
use crate::policy::OBJECT_SCHEME;

/// How the last part of a pinned path begins; the tag follows in hexadecimal digits.
const PIN: &str = "pinned-";

/// Where a file lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// On this machine.
    Local {
        /// As it was named.
        path: PathBuf,
        /// With its links resolved.
        real: PathBuf,
    },
    /// In a bucket.
    Object {
        /// The bucket.
        bucket: String,
        /// The object's key.
        key: Path,
    },
}

/// One Parquet file or object, as it was when it was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFile {
    pub(super) place: Place,
    pub(super) size: u64,
    pub(super) modified_ns: u128,
    /// What tells it from every other version of it: an ETag, or the identity of a local file.
    pub(super) tag: String,
}

impl DataFile {
    /// The local file `path` as it is now. Blocking I/O.
    ///
    /// # Errors
    /// When it is not there or cannot be looked at.
    pub fn local(path: PathBuf) -> Result<Self, StoreError> {
        let real = fs::canonicalize(&path).map_err(|source| io(&path, source))?;
        // Not through a link that was made a moment ago: then the file that is opened is another than this.
        let facts = fs::symlink_metadata(&real).map_err(|source| io(&path, source))?;
        let modified = facts.modified().map_err(|source| io(&path, source))?;
        let modified_ns = modified.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        Ok(Self { size: facts.len(), modified_ns, tag: identity(&facts), place: Place::Local { path, real } })
    }

    /// The object that a store has told of.
    pub(super) fn object(bucket: &str, meta: ObjectMeta) -> Result<Self, StoreError> {
        let modified_ns = meta.last_modified.timestamp_nanos_opt().and_then(|ns| u128::try_from(ns).ok()).unwrap_or(0);
        let place = Place::Object { bucket: bucket.to_owned(), key: meta.location };
        let name = name_of(&place);
        let tag = meta.e_tag.ok_or(StoreError::NoTag(name))?;
        Ok(Self { place, size: meta.size, modified_ns, tag })
    }

    /// Whether no link leads from its name to it.
    #[must_use]
    pub fn is_where_named(&self) -> bool {
        match &self.place {
            Place::Local { path, real } => path == real,
            Place::Object { .. } => true,
        }
    }

    /// Its path or address, for owners and operators.
    #[must_use]
    pub fn name(&self) -> String {
        name_of(&self.place)
    }

    /// Its name as a place that can be compared with others: see [`crate::policy::overlap`].
    #[must_use]
    pub fn as_place(&self) -> PathBuf {
        match &self.place {
            Place::Local { path, .. } => path.clone(),
            Place::Object { .. } => PathBuf::from(self.name()),
        }
    }

    /// Its size in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// When it was last changed, in nanoseconds since 1970.
    #[must_use]
    pub const fn modified_ns(&self) -> u128 {
        self.modified_ns
    }

    /// Its ETag, if it is an object.
    #[must_use]
    pub fn e_tag(&self) -> Option<&str> {
        match &self.place {
            Place::Local { .. } => None,
            Place::Object { .. } => Some(&self.tag),
        }
    }

    /// What tells it from every other version of it.
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The store that has it.
    pub(super) fn store_url(&self) -> datafusion::common::Result<ObjectStoreUrl> {
        match &self.place {
            Place::Local { .. } => Ok(ObjectStoreUrl::local_filesystem()),
            Place::Object { bucket, .. } => ObjectStoreUrl::parse(format!("{OBJECT_SCHEME}{bucket}")),
        }
    }

    /// What a plan reads it by.
    pub(super) fn pinned(&self) -> object_store::Result<ObjectMeta> {
        let key = match &self.place {
            Place::Local { real, .. } => Path::from_absolute_path(real)?,
            Place::Object { key, .. } => key.clone(),
        };
        let modified_ns = i64::try_from(self.modified_ns).unwrap_or(0);
        let last_modified: DateTime<Utc> = DateTime::from_timestamp_nanos(modified_ns);
        let (location, size) = (pin(&key, &self.tag), self.size);
        Ok(ObjectMeta { location, last_modified, size, e_tag: Some(self.tag.clone()), version: None })
    }
}

fn name_of(place: &Place) -> String {
    match place {
        Place::Local { path, .. } => path.display().to_string(),
        Place::Object { bucket, key } => format!("{OBJECT_SCHEME}{bucket}/{key}"),
    }
}

pub(super) fn io(path: &FilePath, source: std::io::Error) -> StoreError {
    match source.kind() {
        std::io::ErrorKind::NotFound => StoreError::Missing(path.display().to_string()),
        _ => StoreError::Io { path: path.display().to_string(), source },
    }
}

/// What tells a local file from every other, and from itself once it has been written to: its device, its number there, its
/// size and the time of its last change.
pub(super) fn identity(facts: &fs::Metadata) -> String {
    let (seconds, nanoseconds) = (facts.mtime(), facts.mtime_nsec());
    format!("{:x}-{:x}-{:x}-{seconds:x}-{nanoseconds:x}", facts.dev(), facts.ino(), facts.len())
}

/// `key` at the version `tag`.
pub(super) fn pin(key: &Path, tag: &str) -> Path {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or_default();
    let digits: String = tag.bytes().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect();
    key.clone().join(format!("{PIN}{digits}"))
}

/// The key and the version of a pinned path; `None` for any other path.
pub(super) fn unpin(path: &Path) -> Option<(Path, String)> {
    let digits = path.filename()?.strip_prefix(PIN)?;
    if digits.len() % 2 != 0 || !digits.is_ascii() {
        return None;
    }
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).ok();
    let bytes = (0..digits.len()).step_by(2).map(byte).collect::<Option<Vec<u8>>>()?;
    Some((path.parent()?, String::from_utf8(bytes).ok()?))
}
