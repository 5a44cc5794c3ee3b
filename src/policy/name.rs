//! Names of datasets: `owner.name`, as SQL sees them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// The longest owner or name, in bytes: what a `PostgreSQL` client keeps of an identifier.
pub const MAX_PART_BYTES: usize = 63;

/// Schemas that every SQL client expects to find, and ours; no owner may stand in their place.
const RESERVED_OWNERS: [&str; 3] = ["information_schema", "pg_catalog", "tollgate"];

/// Why a text names no dataset.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// Not of the form `owner.name`.
    #[error("`{0}` is not a dataset's name: write `owner.name`, such as `united.flights`")]
    NotTwoParts(String),
    /// A part that is no lower-case SQL identifier.
    #[error(
        "`{0}` is not a name: use lower-case letters, digits and `_`, and begin with a letter or `_`, such as `united`"
    )]
    NotAnIdentifier(String),
    /// A part of more than [`MAX_PART_BYTES`] bytes.
    #[error("`{0}` is too long: an owner or a name has at most {MAX_PART_BYTES} characters")]
    TooLong(String),
    /// An owner that SQL or Tollgate uses itself.
    #[error("`{0}` is reserved: SQL clients expect their own catalogue under that name, so choose another owner")]
    Reserved(String),
}

/// The name of a dataset, a public table or a collection: a schema (its owner) and a table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DatasetName {
    owner: String,
    name: String,
}

impl DatasetName {
    /// The dataset `name` of `owner`.
    ///
    /// # Errors
    /// When either is no lower-case SQL identifier (`[a-z_][a-z0-9_]*`, at most [`MAX_PART_BYTES`] long), or when the
    /// owner is a schema that SQL clients look for (`information_schema`, `pg_catalog`) or our own (`tollgate`).
    pub fn new(owner: &str, name: &str) -> Result<Self, NameError> {
        check_owner(owner)?;
        check_part(name)?;
        Ok(Self { owner: owner.to_owned(), name: name.to_owned() })
    }

    /// The owner, which is the schema in SQL.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The name under its owner, which is the table in SQL.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Checks one part of a name.
pub(super) fn check_part(part: &str) -> Result<(), NameError> {
    let mut bytes = part.bytes();
    let begins_well = bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_');
    if !begins_well || !bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
        return Err(NameError::NotAnIdentifier(part.to_owned()));
    }
    if part.len() > MAX_PART_BYTES {
        return Err(NameError::TooLong(part.to_owned()));
    }
    Ok(())
}

/// Checks an owner, who may not stand in for a schema that clients look for.
pub(super) fn check_owner(owner: &str) -> Result<(), NameError> {
    check_part(owner)?;
    if RESERVED_OWNERS.contains(&owner) {
        return Err(NameError::Reserved(owner.to_owned()));
    }
    Ok(())
}

impl fmt::Display for DatasetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.owner, self.name)
    }
}

impl FromStr for DatasetName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.split_once('.') {
            Some((owner, name)) if !name.contains('.') => Self::new(owner, name),
            _ => Err(NameError::NotTwoParts(text.to_owned())),
        }
    }
}

impl Serialize for DatasetName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DatasetName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
