//! From what the storage keeps to the catalog that is served, and which status may follow which.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::catalog::{Catalog, CatalogError, Registered, Status};
use crate::policy::{self, DatasetName};
use crate::stores::Stores;

use super::{Code, GatewayError};

/// The longest reason of a suspension, in bytes: every caller reads it.
const MAX_REASON_BYTES: usize = 500;

/// What the storage keeps of a dataset: the version in force, and what holds beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// `owner.name`, which stands in the log where the text cannot be read.
    pub name: String,
    /// The TOML text of the version in force.
    pub text: String,
    /// The folder that its relative location is relative to; absolute.
    pub base: PathBuf,
    /// Whether its steward has named the place: [`super::Admitted::held_to_roots`].
    pub held_to_roots: bool,
    /// Whether it is served.
    pub status: Status,
    /// The resolved locations of its earlier versions, [`crate::policy::PolicyFile::location`], which stay taken.
    pub former_locations: Vec<String>,
}

/// The catalog of what is stored, whose objects are reached by `stores`. `locations` are the folders of each owner (`[policies.locations]`); data that is held to
/// the folders of an owner who no longer has any cannot be read. No file is opened.
///
/// # Errors
/// When a stored text is no policy, or the policies do not go together: see [`Catalog::of`]. Whoever gets an error here
/// must serve nothing.
pub fn assemble(
    stores: Stores,
    stored: Vec<Stored>,
    locations: &BTreeMap<String, Vec<PathBuf>>,
    previous: Option<&Catalog>,
) -> Result<Catalog, CatalogError> {
    let mut registered = Vec::with_capacity(stored.len());
    for Stored { name, text, base, held_to_roots, status, former_locations } in stored {
        let policy = policy::parse_text(Path::new(&name), &base, &text)?;
        let roots = held_to_roots.then(|| locations.get(policy.name().owner()).cloned().unwrap_or_default());
        let one = Registered::new(policy, status, former_locations);
        registered.push(match roots {
            Some(roots) => one.within(roots),
            None => one,
        });
    }
    Catalog::over(stores, registered, previous)
}

/// What a steward does to a dataset besides changing its policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// No query is answered until it is resumed.
    Suspend {
        /// Why; every caller may read it. May be empty.
        reason: String,
    },
    /// Queries are answered again.
    Resume,
    /// No query is answered again, ever.
    Withdraw,
}

/// The status that `name` gets when the steward of `owner` asks for `standing`; `None` when it has it already.
///
/// # Errors
/// * `not_allowed`: the dataset is another owner's.
/// * `not_found`: there is none of that name.
/// * `conflict`: it was withdrawn, which is for good.
/// * `request_invalid`: the reason is too long, or not one line of text.
pub fn decide(
    catalog: &Catalog,
    owner: &str,
    name: &DatasetName,
    standing: Standing,
) -> Result<Option<Status>, GatewayError> {
    if name.owner() != owner {
        return Err(GatewayError::new(Code::NotAllowed, format!("this token speaks for the owner {owner} alone"))
            .with_hint("use a token of the dataset's owner"));
    }
    let Some(present) = catalog.status(name) else {
        return Err(GatewayError::new(Code::NotFound, format!("there is no dataset {name}"))
            .with_hint("GET /v1/datasets lists the datasets"));
    };
    let next = match standing {
        Standing::Suspend { reason } => Status::Suspended { reason: checked(reason)? },
        Standing::Resume => Status::Active,
        Standing::Withdraw => Status::Withdrawn,
    };
    match (present, next) {
        (present, next) if *present == next => Ok(None),
        (Status::Withdrawn, _) => {
            Err(GatewayError::new(Code::Conflict, format!("{name} was withdrawn, which is for good"))
                .with_hint("register other data under another name"))
        }
        (Status::Active | Status::Suspended { .. }, next) => Ok(Some(next)),
    }
}

fn checked(reason: String) -> Result<String, GatewayError> {
    if reason.len() > MAX_REASON_BYTES || reason.chars().any(char::is_control) {
        let what = format!("a reason is one line of at most {MAX_REASON_BYTES} bytes");
        return Err(GatewayError::new(Code::RequestInvalid, what).with_hint("every caller reads it: keep it short"));
    }
    Ok(reason)
}
