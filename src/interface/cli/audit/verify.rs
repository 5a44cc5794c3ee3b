//! `tollgate audit verify`.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use super::super::failure::{Failure, output, say};
use super::super::table::printable;
use crate::audit::checkpoint::{CheckpointError, SignedCheckpoint};
use crate::audit::consistency::ConsistencyProof;
use crate::audit::finding::{Finding, Findings, NotVerified};
use crate::audit::history::History;
use crate::audit::key::{KeyError, VerifierKey};
use crate::audit::note::NoteError;
use crate::audit::verify::verify;

/// The longest key, checkpoint or proof that is read, in bytes.
const MAX_SMALL_FILE_BYTES: u64 = 1024 * 1024;

/// Verifies the file, and tells what it is or each fault.
pub(super) fn run(path: &Path, key: &str, checkpoints: &[PathBuf], proofs: &[PathBuf]) -> Result<(), Failure> {
    let key = read_key(key)?;
    let wrong = |findings: &Findings| {
        findings.first().iter().for_each(|finding| say(&format!("wrong: {}", printable(&finding.to_string()))));
        if findings.more() > 0 {
            say(&format!("and {} more", findings.more()));
        }
        Failure::NotVerified { path: path.to_owned() }
    };
    let history = History {
        checkpoints: read_all(checkpoints, |name, text| {
            SignedCheckpoint::verify(&text, &key).map_err(|source| Finding::Earlier { name, source })
        })
        .map_err(|failed| failed.into_failure(wrong))?,
        proofs: read_all(proofs, |_, text| ConsistencyProof::from_json(&text))
            .map_err(|failed| failed.into_failure(wrong))?,
    };
    let file = File::open(path).map_err(|source| unreadable(path, source))?;
    match verify(BufReader::new(file), &key, &history) {
        Ok(report) => {
            let said = format!("{}: verified\n{report}", path.display());
            let lines: Vec<_> = said.lines().map(printable).collect();
            output(format!("{}\n", lines.join("\n")).as_bytes())
        }
        Err(NotVerified::Findings(findings)) => Err(wrong(&findings)),
        Err(NotVerified::Io(source)) => Err(unreadable(path, source)),
    }
}

/// Why a file beside the evidence does not serve.
enum Beside {
    Unreadable(Failure),
    Wrong(Finding),
}

impl Beside {
    fn into_failure(self, wrong: impl FnOnce(&Findings) -> Failure) -> Failure {
        match self {
            Self::Unreadable(failure) => failure,
            Self::Wrong(finding) => wrong(&finding.into()),
        }
    }
}

fn read_all<T>(paths: &[PathBuf], read: impl Fn(String, String) -> Result<T, Finding>) -> Result<Vec<T>, Beside> {
    let one = |path: &PathBuf| {
        let name = path.display().to_string();
        match small_file(path) {
            Ok(Some(text)) => read(name, text).map_err(Beside::Wrong),
            Ok(None) => {
                let source = CheckpointError::Note(NoteError::Malformed("it is not text, or too long"));
                Err(Beside::Wrong(Finding::Earlier { name, source }))
            }
            Err(failure) => Err(Beside::Unreadable(failure)),
        }
    };
    paths.iter().map(one).collect()
}

/// The public key that `given` is, or that the file of that name holds.
fn read_key(given: &str) -> Result<VerifierKey, Failure> {
    let path = Path::new(given);
    // A name with two `+` and no file of that name is meant to be a key.
    if !path.exists() && given.matches('+').count() >= 2 {
        return given.parse().map_err(|source| Failure::BadKey { source });
    }
    let text = small_file(path)?.ok_or(Failure::BadKey { source: KeyError::Verifier("the file is not text") })?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    line.parse().map_err(|source| Failure::BadKey { source })
}

/// The text of a file of no more than [`MAX_SMALL_FILE_BYTES`]; `None` where it is none.
fn small_file(path: &Path) -> Result<Option<String>, Failure> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_SMALL_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|source| unreadable(path, source))?;
    Ok(if bytes.len() as u64 > MAX_SMALL_FILE_BYTES { None } else { String::from_utf8(bytes).ok() })
}

fn unreadable(path: &Path, source: std::io::Error) -> Failure {
    Failure::Io { what: format!("cannot read {}", path.display()), source }
}
