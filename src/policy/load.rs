//! A folder of policy files, and what must hold between them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use super::epoch::EpochKind;
use super::error::{Fault, PolicyErrors, Problem};
use super::model::{Collection, DatasetPolicy, PolicyFile};
use super::name::DatasetName;
use super::nearest::nearest;
use super::parse::parse;

/// The largest policy file: room for every public key that one may list, and no more than memory spares.
const MAX_FILE_BYTES: u64 = 8 * 1024 * 1024;

/// Reads one policy file. Its name is not looked at, so that a draft may be checked under any name.
///
/// # Errors
/// When it cannot be read, or all that is wrong with it.
pub fn load_file(path: &Path) -> Result<PolicyFile, PolicyErrors> {
    let unreadable = |error: &io::Error| PolicyErrors::one(path, Fault::Unreadable { kind: error.kind() });
    let file = fs::File::open(path).map_err(|error| unreadable(&error))?;
    let mut bytes = Vec::new();
    // One byte more than is allowed tells a file that is too large, without trusting what its metadata says.
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(PolicyErrors::one(path, Fault::TooLarge { max: MAX_FILE_BYTES }));
    }
    let text = String::from_utf8(bytes).map_err(|_| PolicyErrors::one(path, Fault::NotUtf8))?;
    parse(path, &text)
}

/// Reads every `*.toml` of a folder, not of its subfolders, in the order of their names. Hidden files, whose names
/// begin with a dot, are passed over, since editors leave such behind.
///
/// # Errors
/// When the folder cannot be read, and all that is wrong with its files, alone and together: a file that is not named
/// after what it declares, two that declare one name or lie over the same data, and collections whose members are not
/// private datasets of one unit. What holds between files is looked at even where some are wrong.
pub fn load_dir(dir: &Path) -> Result<Vec<PolicyFile>, PolicyErrors> {
    let paths = policy_paths(dir).map_err(|error| PolicyErrors::one(dir, Fault::Unreadable { kind: error.kind() }))?;
    let mut files = Vec::with_capacity(paths.len());
    let mut problems = Vec::new();
    let mut complete = true;
    for path in paths {
        match load_file(&path) {
            Ok(file) => files.push(file),
            Err(errors) => {
                complete = false;
                problems.extend(errors.into_problems());
            }
        }
    }
    check_file_names(&files, &mut problems);
    check_names(&files, &mut problems);
    check_locations(&files, &mut problems);
    check_members(&files, complete, &mut problems);
    if problems.is_empty() { Ok(files) } else { Err(PolicyErrors::new(problems)) }
}

fn policy_paths(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|extension| extension == "toml") && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// A problem of `key` in `file`.
fn problem(file: &PolicyFile, key: &str, fault: Fault) -> Problem {
    let source = file.source();
    Problem { file: source.path().to_owned(), position: source.position(key), key: key.to_owned(), fault }
}

/// A file is named after what it declares, so that a name is found without opening every file.
fn check_file_names(files: &[PolicyFile], problems: &mut Vec<Problem>) {
    for file in files {
        let expected = format!("{}.toml", file.name());
        if file.source().path().file_name().is_none_or(|name| name != expected.as_str()) {
            problems.push(problem(file, name_key(file), Fault::FileName { expected }));
        }
    }
}

fn name_key(file: &PolicyFile) -> &'static str {
    match file {
        PolicyFile::Private(_) | PolicyFile::Public(_) => "dataset.name",
        PolicyFile::Collection(_) => "collection.name",
    }
}

fn check_names(files: &[PolicyFile], problems: &mut Vec<Problem>) {
    let mut seen: BTreeMap<&DatasetName, &PolicyFile> = BTreeMap::new();
    for file in files {
        if let Some(first) = seen.get(file.name()) {
            let (name, other) = (file.name().to_string(), first.source().path().to_owned());
            problems.push(problem(file, name_key(file), Fault::DuplicateName { name, other }));
        } else {
            seen.insert(file.name(), file);
        }
    }
}

/// Data under two policies would have two budgets (DESIGN 4.3), and under a public one none at all. Globs are compared
/// as they are written; the catalogue, which sees the files that they match, compares those.
fn check_locations(files: &[PolicyFile], problems: &mut Vec<Problem>) {
    let placed: Vec<_> = files.iter().filter_map(|file| Some((file, real_place(file.location()?)))).collect();
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
fn real_place(location: &str) -> PathBuf {
    if location.starts_with("s3://") {
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

/// `complete` says whether every file could be read: a member that is missing may else be in one that could not.
fn check_members(files: &[PolicyFile], complete: bool, problems: &mut Vec<Problem>) {
    let by_name: BTreeMap<&DatasetName, &PolicyFile> = files.iter().map(|file| (file.name(), file)).collect();
    for file in files {
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
