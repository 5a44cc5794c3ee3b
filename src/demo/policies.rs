//! The demo's policies: the files of `policies/demo/`, embedded, and written beside the data.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::error::DemoError;
use super::sink;

/// One policy as it is embedded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyText {
    /// The file's name, `OWNER.NAME.toml`.
    pub file_name: &'static str,
    /// The TOML.
    pub text: &'static str,
}

macro_rules! policy {
    ($name:literal) => {
        PolicyText { file_name: $name, text: include_str!(concat!("../../policies/demo/", $name)) }
    };
}

/// The policies of all the demo's datasets, and of the collection `rides.trips`.
pub const POLICIES: [PolicyText; 6] = [
    policy!("velo.trips.toml"),
    policy!("hopin.trips.toml"),
    policy!("metrocab.trips.toml"),
    policy!("rides.trips.toml"),
    policy!("bazaar.orders.toml"),
    policy!("city.districts.toml"),
];

/// What became of one policy file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyState {
    /// It was not there, and was written.
    Written,
    /// It was there, as this program would write it.
    Unchanged,
    /// It was there and differs: somebody's change, which was kept.
    KeptChanged,
}

/// One policy file of a demo's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyFile {
    /// Where it is.
    pub path: PathBuf,
    /// What became of it.
    pub state: PolicyState,
}

/// Writes the demo's policies to `dir/policies`, beside the `dir/data` that they point to. A file that is there
/// already is never written over; the state of each says what was found.
///
/// # Errors
/// When a file cannot be read or written.
pub fn write_policies(dir: &Path) -> Result<Vec<PolicyFile>, DemoError> {
    let folder = dir.join("policies");
    POLICIES
        .iter()
        .map(|policy| {
            let path = folder.join(policy.file_name);
            let state = match fs::read(&path) {
                Ok(found) if found == policy.text.as_bytes() => PolicyState::Unchanged,
                Ok(_) => PolicyState::KeptChanged,
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    sink::write_file(&path, policy.text.as_bytes())?;
                    PolicyState::Written
                }
                Err(error) => return Err(DemoError::io(&path)(error)),
            };
            Ok(PolicyFile { path, state })
        })
        .collect()
}
