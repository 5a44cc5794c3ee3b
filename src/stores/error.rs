//! What goes wrong with files and objects, told without a secret and without a value of the data.

use std::error::Error;
use std::path::PathBuf;

use thiserror::Error as ThisError;

use crate::policy::Fault;

/// Why files cannot be used. Names paths and addresses: for owners and operators, never for an analyst.
#[derive(Debug, ThisError)]
pub enum StoreError {
    /// No file is there.
    #[error("{0}: no Parquet file is there; check `location`, and that the gateway may read it")]
    Missing(String),
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not Parquet, or is damaged.
    #[error("{0}: is not a readable Parquet file; write it anew")]
    NotParquet(String),
    /// The address is none.
    #[error("{address}: {fault}")]
    Address {
        /// The address, unless it may hold a secret.
        address: String,
        /// What is wrong with it.
        fault: Fault,
    },
    /// A pattern that makes no sense.
    #[error("{0}: is not a pattern of names")]
    Pattern(String),
    /// A file whose name would be read as a pattern of names.
    #[error("{0}: a name with `*`, `?` or `[` would be read as a pattern: rename the file or folder")]
    PatternName(String),
    /// More objects than are read as one dataset.
    #[error("{place}: holds more than {most} files; a dataset has fewer and larger ones")]
    TooMany {
        /// The address.
        place: String,
        /// The most that there may be.
        most: usize,
    },
    /// The store knows no keys of ours, or they do not allow it.
    #[error(
        "{0}: the store refuses it: check the keys (AWS_*, or `credentials_file` in [stores.NAME]) and that they may list and read there"
    )]
    Denied(String),
    /// There are no keys.
    #[error(
        "{0}: there are no keys for the store: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or `credentials_file` in [stores.NAME] of tollgate.toml"
    )]
    NoCredentials(String),
    /// The file of keys cannot be used. Says nothing of what is in it.
    #[error("the credentials file {}: {what}", .path.display())]
    Credentials {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// The settings of a store cannot be used.
    #[error("[stores.{name}]: {what}")]
    Settings {
        /// The section.
        name: String,
        /// What is wrong.
        what: &'static str,
    },
    /// The store does not answer, or not as a store does.
    #[error(
        "{place}: the store cannot be reached or does not answer as one ({why}); check `endpoint` and `region` in [stores.NAME]"
    )]
    Unreachable {
        /// The address.
        place: String,
        /// The kind of failure.
        why: &'static str,
    },
    /// A file that is no longer what it was when it was listed.
    #[error("{0}: changed while it was read; try again when it is at rest")]
    Changed(String),
    /// The store does not say which version of an object it has.
    #[error("{0}: the store gives no ETag, by which a changed object is known; such a store is not read")]
    NoTag(String),
    /// Our own thread for requests is gone.
    #[error("the thread that asks object stores is gone; start the gateway anew")]
    Bridge,
}

impl StoreError {
    /// What `error` of a request about `place` comes to. The texts of the store are left out: they quote requests.
    pub(super) fn of(place: &str, error: &object_store::Error) -> Self {
        use object_store::Error as E;
        let place = place.to_owned();
        match error {
            E::NotFound { .. } => Self::Missing(place),
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => Self::Denied(place),
            E::Precondition { .. } | E::NotModified { .. } => Self::Changed(place),
            other => {
                let text = told(other);
                // A listing's status stands in its text alone.
                if text.contains("status code: 404") {
                    Self::Missing(place)
                } else if text.contains("status code: 403") || text.contains("status code: 401") {
                    Self::Denied(place)
                } else {
                    Self::Unreachable { place, why: kind(&text) }
                }
            }
        }
    }
}

/// All that `error` and its causes say. Looked at, never shown.
fn told(error: &dyn Error) -> String {
    let mut text = error.to_string().to_lowercase();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push('\n');
        text.push_str(&error.to_string().to_lowercase());
        cause = error.source();
    }
    text
}

/// A word for what failed.
fn kind(text: &str) -> &'static str {
    const KINDS: [(&str, &str); 8] = [
        ("connection refused", "connection refused"),
        ("dns error", "no such host"),
        ("certificate", "its certificate is not trusted"),
        ("url scheme is not allowed", "plain HTTP is not allowed by `allow_http`"),
        ("builder error", "plain HTTP is not allowed by `allow_http`"),
        ("timed out", "timed out"),
        ("timeout", "timed out"),
        ("status code: 5", "it failed"),
    ];
    KINDS.iter().find(|(word, _)| text.contains(word)).map_or("no usable answer", |(_, kind)| kind)
}
