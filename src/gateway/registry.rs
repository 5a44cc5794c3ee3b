//! May this policy be served? Decided when a steward registers a dataset or changes its policy, before anything is stored.
//!
//! ```text
//! text ─▶ parse ─▶ whose? ─▶ name ─▶ same accounts? ─▶ location ─▶ files' schema ─▶ Admitted
//! ```
//!
//! What is told is about the steward's own text, names and files. Another owner's datasets, policies and places are never
//! named, nor is anything said of a file outside the folders that the operator has named for this owner.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::catalog::{Catalog, Entry, Roots, Source, Status};
use crate::policy::{self, Change, DatasetName, Fault, PolicyErrors, PolicyFile, Warning};

use super::{Code, GatewayError};

/// What stands for the file's name in messages.
const PLACE: &str = "policy";

/// A policy as it is sent.
#[derive(Debug, Clone, Copy)]
pub enum Submission<'t> {
    /// The text of a policy file.
    Toml(&'t str),
    /// A JSON object of the same shape.
    Json(&'t str),
}

/// The version in force of a dataset whose policy is to change.
#[derive(Debug, Clone, Copy)]
pub struct InForce<'t> {
    /// Which dataset.
    pub name: &'t DatasetName,
    /// Its TOML text, as it is stored.
    pub text: &'t str,
    /// The folder that its relative location is relative to.
    pub base: &'t Path,
}

/// A policy that may be served, with what its steward and an auditor should know of it. It was held against one catalog,
/// so it may be stored only while the storage's counter is still that catalog's.
#[derive(Debug, Clone)]
pub struct Admitted {
    policy: PolicyFile,
    text: String,
    base: PathBuf,
    held_to_roots: bool,
    diff: String,
    changes: Vec<Change>,
    warnings: Vec<Warning>,
}

impl Admitted {
    /// The policy. Its version is the digest of its canonical text.
    #[must_use]
    pub const fn policy(&self) -> &PolicyFile {
        &self.policy
    }

    /// Its TOML text, to be stored: as it was sent, or what the JSON was made into.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The folder that a relative location in the text is relative to, to be stored beside it.
    #[must_use]
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// Whether its steward has named the place, so that it must be served with
    /// [`crate::catalog::Registered::within`] the owner's folders. To be stored beside the text.
    #[must_use]
    pub const fn held_to_roots(&self) -> bool {
        self.held_to_roots
    }

    /// A unified diff of the canonical texts, against nothing for a new dataset; empty when nothing that it says differs.
    #[must_use]
    pub fn diff(&self) -> &str {
        &self.diff
    }

    /// What it says otherwise than the version in force, what loosens first. Empty for a new dataset.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// What its steward may not have meant.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

/// Whether the steward of `owner` may have `submission` served: as a new dataset, or in place of `in_force`. `roots` are the
/// folders that the operator has named for this owner. Blocking I/O: footers are read, and no more of any file.
///
/// # Errors
/// * `policy_invalid`: what is wrong with the policy, one fault a line.
/// * `not_allowed`: the policy is another owner's.
/// * `conflict`: the name is taken, or the dataset was withdrawn.
/// * `not_found`: there is nothing in force under that name.
pub fn admit(
    catalog: &Catalog,
    roots: &Roots,
    owner: &str,
    submission: Submission<'_>,
    in_force: Option<InForce<'_>>,
) -> Result<Admitted, GatewayError> {
    let base = match (in_force, roots.first()) {
        (Some(in_force), _) => in_force.base,
        (None, Some(root)) => root,
        // No location is admitted then, whatever it is relative to.
        (None, None) => Path::new("/"),
    };
    let place = Path::new(PLACE);
    let (new, text) = match submission {
        Submission::Toml(text) => policy::parse_text(place, base, text).map(|new| (new, text.to_owned())),
        Submission::Json(text) => policy::parse_json(place, base, text),
    }
    .map_err(invalid)?;
    if new.name().owner() != owner {
        return Err(GatewayError::new(Code::NotAllowed, format!("this token speaks for the owner {owner} alone"))
            .with_hint(format!("write `owner = \"{owner}\"`, or use a token of the policy's owner")));
    }
    let (diff, changes) = match in_force {
        None => {
            if catalog.entry(new.name()).is_some() {
                return Err(name_taken(catalog, new.name()));
            }
            (policy::diff("", &text), Vec::new())
        }
        Some(in_force) => {
            let old = follows(catalog, &in_force, &new)?;
            (policy::diff(in_force.text, &text), policy::changes(&old, &new))
        }
    };
    let (held_to_roots, warnings) = match &new {
        PolicyFile::Collection(_) => {
            check_members(catalog, owner, &new)?;
            (false, Vec::new())
        }
        PolicyFile::Private(_) | PolicyFile::Public(_) => check_files(catalog, roots, &new, in_force.is_some())?,
    };
    Ok(Admitted { policy: new, text, base: base.to_owned(), held_to_roots, diff, changes, warnings })
}

fn invalid(errors: PolicyErrors) -> GatewayError {
    GatewayError::new(Code::PolicyInvalid, errors.to_string())
        .with_hint("mend what is named; docs/policies.md has every key, and `tollgate policy check FILE` checks a file")
}

fn name_taken(catalog: &Catalog, name: &DatasetName) -> GatewayError {
    match catalog.status(name) {
        Some(Status::Withdrawn) => GatewayError::new(
            Code::Conflict,
            format!("{name} was withdrawn; its accounts live on, so its name is not free"),
        )
        .with_hint("choose another name"),
        _ => GatewayError::new(Code::Conflict, format!("{name} is registered already"))
            .with_hint(format!("PUT /v1/datasets/{name} changes its policy")),
    }
}

/// Checks that `new` may come after the version in force, which is given back.
fn follows(catalog: &Catalog, in_force: &InForce<'_>, new: &PolicyFile) -> Result<PolicyFile, GatewayError> {
    let name = in_force.name;
    if new.name() != name {
        let detail = format!("the policy is that of {}, and {name} was to be changed", new.name());
        return Err(GatewayError::new(Code::RequestInvalid, detail)
            .with_hint("a dataset keeps its name; POST /v1/datasets registers another"));
    }
    match catalog.status(name) {
        None => {
            return Err(GatewayError::new(Code::NotFound, format!("there is no dataset {name}"))
                .with_hint("POST /v1/datasets registers it"));
        }
        Some(Status::Withdrawn) => {
            return Err(GatewayError::new(Code::Conflict, format!("{name} was withdrawn, which is for good")));
        }
        Some(Status::Active | Status::Suspended { .. }) => {}
    }
    // What was stored was once parsed; its lines are not those of the text that was sent, and are not told.
    let old = policy::parse_text(Path::new(PLACE), in_force.base, in_force.text).map_err(|error| {
        tracing::error!(%error, "a stored policy cannot be read");
        super::translate::internal("a stored policy cannot be read")
    })?;
    policy::check_successor(&old, new).map_err(invalid)?;
    Ok(old)
}

/// A collection over several owners' datasets is the operator's to declare: a steward brings its own together.
fn check_members(catalog: &Catalog, owner: &str, new: &PolicyFile) -> Result<(), GatewayError> {
    let PolicyFile::Collection(collection) = new else { return Ok(()) };
    if let Some(member) = collection.members.iter().find(|member| member.owner() != owner) {
        let fault = Fault::MemberOfAnother { member: member.to_string() };
        return Err(invalid(PolicyErrors::of_key(new, "collection.members", fault)));
    }
    let own: Vec<PolicyFile> = catalog
        .entries()
        .filter(|(name, _)| name.owner() == owner)
        .filter_map(|(_, entry)| match entry {
            Entry::Private(policy, _) => Some(PolicyFile::Private(policy.as_ref().clone())),
            Entry::Public(table, _) => Some(PolicyFile::Public(table.as_ref().clone())),
            Entry::Collection(_) => None,
        })
        .collect();
    policy::check_collection(new, &own.iter().collect::<Vec<_>>()).map_err(invalid)
}

/// Checks where the data lies and that it fits the policy: whether it is held to the owner's folders, and advice.
fn check_files(
    catalog: &Catalog,
    roots: &Roots,
    new: &PolicyFile,
    replaces: bool,
) -> Result<(bool, Vec<Warning>), GatewayError> {
    let Some(location) = new.location() else { return Ok((false, Vec::new())) };
    let refuse = |fault| invalid(PolicyErrors::of_key(new, "dataset.location", fault));
    let known = catalog.entry(new.name()).and_then(Entry::source).filter(|_| replaces);
    // A place that does not change stays as it was admitted, be it by the operator.
    let source = match known.filter(|known| known.location() == location) {
        Some(known) => Arc::clone(known),
        None => {
            let place = roots.admit(Path::new(location)).ok_or_else(|| refuse(Fault::LocationNotAllowed))?;
            let source = Source::within(location, roots.clone()).reached_by(catalog.stores().clone());
            if taken(catalog, new.name(), &place) {
                return Err(refuse(Fault::LocationTaken));
            }
            Arc::new(source)
        }
    };
    let snapshot = source.snapshot().map_err(|error| {
        GatewayError::new(Code::PolicyInvalid, format!("{PLACE}: dataset.location: {error}"))
            .with_hint("put the data there, readable for the gateway, or mend the location")
    })?;
    if source.roots().is_some() && snapshot.files.iter().any(|file| taken(catalog, new.name(), &file.as_place())) {
        // Through a link, or by a pattern.
        return Err(refuse(Fault::LocationTaken));
    }
    let warnings = match new {
        PolicyFile::Private(policy) => policy::check_against_schema(policy, &snapshot.schema).map_err(invalid)?,
        PolicyFile::Public(_) | PolicyFile::Collection(_) => Vec::new(),
    };
    Ok((source.roots().is_some(), warnings))
}

/// Whether `place` is, holds or lies in a place of another dataset, of those that are withdrawn and of earlier versions
/// too. A pattern takes the whole folder in which it begins, since what it will match is not known.
fn taken(catalog: &Catalog, name: &DatasetName, place: &Path) -> bool {
    let place = fixed_part(place);
    let others = catalog.places().filter(|(other, _)| *other != name);
    others.into_iter().any(|(_, other)| policy::overlap(&place, &fixed_part(&policy::real_place(other))))
}

/// The parts of a path before the first that is a pattern.
fn fixed_part(place: &Path) -> PathBuf {
    let is_pattern = |part: &Component<'_>| part.as_os_str().to_string_lossy().contains(['*', '?', '[']);
    place.components().take_while(|part| !is_pattern(part)).collect()
}
