//! A folder of policy files.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::between::{name_key, problem, problems_between, real_place};
use super::error::{Fault, PolicyErrors, Problem};
use super::model::PolicyFile;
use super::parse::parse;

/// The largest policy file: room for every public key that one may list, and no more than memory spares.
pub(super) const MAX_FILE_BYTES: u64 = 8 * 1024 * 1024;

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
    problems.extend(problems_between(&files.iter().collect::<Vec<_>>(), complete, real_place));
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

/// A file is named after what it declares, so that a name is found without opening every file.
fn check_file_names(files: &[PolicyFile], problems: &mut Vec<Problem>) {
    for file in files {
        let expected = format!("{}.toml", file.name());
        if file.source().path().file_name().is_none_or(|name| name != expected.as_str()) {
            problems.push(problem(file, name_key(file), Fault::FileName { expected }));
        }
    }
}
