//! What must hold between policies, wherever they came from: names, places and members.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::address::ObjectAddress;
use super::epoch::EpochKind;
use super::error::{Fault, PolicyErrors, Problem};
use super::model::{Collection, DatasetPolicy, PolicyFile};
use super::name::DatasetName;
use super::nearest::nearest;

/// Checks what must hold between `files`: no two declare one name or lie over the same data, links followed, and the
/// members of each collection are private datasets of one unit. Messages name both files, for an operator who may see all
/// of them. Blocking I/O.
///
/// # Errors
/// All that is wrong between them.
pub fn check_between(files: &[&PolicyFile]) -> Result<(), PolicyErrors> {
    refused(problems_between(files, true, real_place))
}

/// The same of policies that were checked when they were recorded: places are compared as they are written, so that the
/// outcome depends on the policies alone, and not on links that somebody has made since.
///
/// # Errors
/// As [`check_between`].
pub fn check_recorded(files: &[&PolicyFile]) -> Result<(), PolicyErrors> {
    refused(problems_between(files, true, written_place))
}

/// Checks that the members of `collection` are among `datasets`, private, and of one unit.
///
/// # Errors
/// All that is wrong with its members.
pub fn check_collection(collection: &PolicyFile, datasets: &[&PolicyFile]) -> Result<(), PolicyErrors> {
    let files: Vec<_> = datasets.iter().copied().chain([collection]).collect();
    let mut problems = Vec::new();
    check_members(&files, true, &mut problems);
    refused(problems)
}

fn refused(problems: Vec<Problem>) -> Result<(), PolicyErrors> {
    if problems.is_empty() { Ok(()) } else { Err(PolicyErrors::new(problems)) }
}

/// `complete` says whether `files` are all there are. `place_of` brings a location into one spelling.
pub(super) fn problems_between(files: &[&PolicyFile], complete: bool, place_of: fn(&str) -> PathBuf) -> Vec<Problem> {
    let mut problems = Vec::new();
    check_names(files, &mut problems);
    check_locations(files, place_of, &mut problems);
    check_members(files, complete, &mut problems);
    problems
}

/// Whether one of two places, each in one spelling, is the other or lies within it.
#[must_use]
pub fn overlap(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// A problem of `key` in `file`.
pub(super) fn problem(file: &PolicyFile, key: &str, fault: Fault) -> Problem {
    let source = file.source();
    Problem { file: source.path().to_owned(), position: source.position(key), key: key.to_owned(), fault }
}

/// The key that declares a file's name.
pub(super) fn name_key(file: &PolicyFile) -> &'static str {
    match file {
        PolicyFile::Private(_) | PolicyFile::Public(_) => "dataset.name",
        PolicyFile::Collection(_) => "collection.name",
    }
}

fn check_names(files: &[&PolicyFile], problems: &mut Vec<Problem>) {
    let mut seen: BTreeMap<&DatasetName, &PolicyFile> = BTreeMap::new();
    for &file in files {
        if let Some(first) = seen.get(file.name()) {
            let (name, other) = (file.name().to_string(), first.source().path().to_owned());
            problems.push(problem(file, name_key(file), Fault::DuplicateName { name, other }));
        } else {
            seen.insert(file.name(), file);
        }
    }
}

/// Data under two policies would have two budgets (DESIGN 4.3), and under a public one none at all. Globs are compared
/// as they are written; whether two of them match one file is seen when one is registered.
fn check_locations(files: &[&PolicyFile], place_of: fn(&str) -> PathBuf, problems: &mut Vec<Problem>) {
    let placed: Vec<_> = files.iter().filter_map(|file| Some((*file, place_of(file.location()?)))).collect();
    for (at, (file, place)) in placed.iter().enumerate() {
        for (other, other_place) in &placed[..at] {
            let (inner, fault) = if place == other_place {
                (file, Fault::SameLocation { other: other.name().to_string() })
            } else if place.starts_with(other_place) {
                (file, Fault::NestedLocation { other: other.name().to_string() })
            } else if other_place.starts_with(place) {
                (other, Fault::NestedLocation { other: file.name().to_string() })
            } else {
                continue;
            };
            problems.push(problem(inner, "dataset.location", fault));
        }
    }
}

/// A location in one spelling: links and `..` resolved, as far as what it names exists. A glob, or data that is not
/// there yet, keeps its last parts as they are written.
#[must_use]
pub fn real_place(location: &str) -> PathBuf {
    if ObjectAddress::is_one(location) {
        return PathBuf::from(location);
    }
    let absolute = std::path::absolute(location).unwrap_or_else(|_| PathBuf::from(location));
    let mut place = PathBuf::new();
    for part in absolute.components() {
        if part == Component::ParentDir {
            place.pop();
            continue;
        }
        place.push(part);
        if let Ok(real) = fs::canonicalize(&place) {
            place = real;
        }
    }
    place
}

/// A location in one spelling without looking at any disk: made absolute, `.` and `..` resolved, links not.
#[must_use]
pub fn written_place(location: &str) -> PathBuf {
    if ObjectAddress::is_one(location) {
        return PathBuf::from(location);
    }
    let absolute = std::path::absolute(location).unwrap_or_else(|_| PathBuf::from(location));
    let mut place = PathBuf::new();
    for part in absolute.components() {
        match part {
            Component::ParentDir => drop(place.pop()),
            Component::CurDir => {}
            other => place.push(other),
        }
    }
    place
}

/// `complete` says whether every file could be read: a member that is missing may else be in one that could not.
fn check_members(files: &[&PolicyFile], complete: bool, problems: &mut Vec<Problem>) {
    let by_name: BTreeMap<&DatasetName, &PolicyFile> = files.iter().map(|file| (file.name(), *file)).collect();
    for &file in files {
        let PolicyFile::Collection(collection) = file else { continue };
        let mut refuse = |fault| problems.push(problem(file, "collection.members", fault));
        let members = private_members(collection, &by_name, complete, &mut refuse);
        let Some((first, rest)) = members.split_first() else { continue };
        for member in rest {
            if (&member.privacy.unit, &member.privacy.unit_domain) != (&first.privacy.unit, &first.privacy.unit_domain)
            {
                refuse(Fault::MemberUnit {
                    member: member.name.to_string(),
                    unit: member.privacy.unit.clone(),
                    domain: member.privacy.unit_domain.clone(),
                    first: first.name.to_string(),
                    first_unit: first.privacy.unit.clone(),
                    first_domain: first.privacy.unit_domain.clone(),
                });
            }
            let kind = |policy: &DatasetPolicy| policy.privacy.epochs.as_ref().map(|epochs| epochs.kind);
            if kind(member) != kind(first) {
                let word = |policy| kind(policy).map_or("none", EpochKind::as_str);
                refuse(Fault::MemberEpoch {
                    member: member.name.to_string(),
                    found: word(member),
                    first: first.name.to_string(),
                    first_found: word(first),
                });
            }
        }
    }
}

fn private_members<'f>(
    collection: &Collection,
    by_name: &BTreeMap<&DatasetName, &'f PolicyFile>,
    complete: bool,
    refuse: &mut impl FnMut(Fault),
) -> Vec<&'f DatasetPolicy> {
    let mut members = Vec::new();
    for member in &collection.members {
        match by_name.get(member) {
            Some(PolicyFile::Private(policy)) => members.push(policy),
            Some(PolicyFile::Public(_) | PolicyFile::Collection(_)) => {
                refuse(Fault::MemberNotPrivate { member: member.to_string() });
            }
            None if complete => {
                let names: Vec<_> = by_name
                    .iter()
                    .filter(|(_, file)| matches!(file, PolicyFile::Private(_)))
                    .map(|(name, _)| name.to_string())
                    .collect();
                let member = member.to_string();
                let nearest = nearest(&member, names.iter().map(String::as_str)).map(str::to_owned);
                refuse(Fault::UnknownMember { member, nearest });
            }
            None => {}
        }
    }
    members
}
