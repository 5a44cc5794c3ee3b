//! Addresses of object stores: `s3://bucket/prefix/`, `s3://bucket/object.parquet`, `s3://bucket/prefix/*.parquet`.

use super::error::Fault;

/// How an address of an object store begins.
pub const OBJECT_SCHEME: &str = "s3://";

/// The longest key of an object, in bytes, as S3 has it.
const MAX_KEY_BYTES: usize = 1024;

/// Where objects lie: a bucket, and what follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectAddress {
    bucket: String,
    key: String,
}

impl ObjectAddress {
    /// Whether `location` is an address of an object store, be it a good one or not.
    #[must_use]
    pub fn is_one(location: &str) -> bool {
        location.starts_with(OBJECT_SCHEME)
    }

    /// Reads `s3://bucket/key`. An address has one spelling, so that two that name one place are seen to: no `//`, `.` or `..`.
    /// It holds no user, password or parameters, which are where secrets would stand: no message says what was found of them.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(location: &str) -> Result<Self, Fault> {
        let rest = location.strip_prefix(OBJECT_SCHEME).ok_or(Fault::NoBucket)?;
        if rest.contains(['@', '?', '#']) || rest.split('/').next().is_some_and(|bucket| bucket.contains([':', '%'])) {
            return Err(Fault::AddressSecret);
        }
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ['-', '.', '_'].contains(&c);
        if bucket.is_empty() {
            return Err(Fault::NoBucket);
        }
        if !bucket.chars().all(plain) || bucket.starts_with(['-', '.']) || bucket.contains("..") {
            return Err(Fault::BucketName);
        }
        let parts: Vec<&str> = key.strip_suffix('/').unwrap_or(key).split('/').collect();
        let odd = |part: &&str| part.is_empty() || [".", ".."].contains(part) || part.contains(['\\', '%']);
        if (!key.is_empty() && parts.iter().any(odd)) || key.chars().any(char::is_control) || key.len() > MAX_KEY_BYTES
        {
            return Err(Fault::AddressParts);
        }
        Ok(Self { bucket: bucket.to_owned(), key: key.to_owned() })
    }

    /// The bucket.
    #[must_use]
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Whether it names whatever is under a prefix, and not an object or a pattern.
    #[must_use]
    pub fn is_prefix(&self) -> bool {
        self.key.is_empty() || self.key.ends_with('/')
    }

    /// What follows the bucket: a prefix if it is empty or ends with `/`, an object or a pattern of objects otherwise.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }
}
