//! `tollgate audit`.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::failure::{Failure, output, say};
use super::table::printable;
use crate::audit::checkpoint::{CheckpointError, SignedCheckpoint};
use crate::audit::consistency::ConsistencyProof;
use crate::audit::finding::{Finding, Findings, NotVerified};
use crate::audit::history::History;
use crate::audit::key::{KeyError, VerifierKey};
use crate::audit::note::NoteError;
use crate::audit::verify::verify;

/// The longest key, checkpoint or proof that is read, in bytes.
const MAX_SMALL_FILE_BYTES: u64 = 1024 * 1024;

/// The log of decisions.
#[derive(Debug, Subcommand)]
pub(super) enum Audit {
    /// Verify an export, a receipt or a signed checkpoint, offline: with the public key, and no server.
    ///
    /// With --checkpoint, the log must also continue that earlier checkpoint: none of its entries was changed or taken
    /// away since. An export of the whole log shows this by itself. A receipt, a checkpoint and an export of one dataset
    /// need the consistency proof between the two sizes, with --proof.
    #[command(after_help = "Examples:
  tollgate audit verify log.jsonl --key audit.key.pub
  tollgate audit verify log.jsonl --key audit.key.pub --checkpoint january.checkpoint
  tollgate audit verify receipt.json --key gateway.example/log+b6f8ad43+AYEK…
  tollgate audit verify new.checkpoint --key audit.key.pub --checkpoint old.checkpoint --proof old-new.json

Exit status: 0 verified, 1 not verified (each fault is told), 2 wrong usage.")]
    Verify {
        /// The export, the receipt or the signed checkpoint.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The log's public key (NAME+ID+BASE64), or a file that holds it. Have it from the gateway's operator, not from
        /// whoever gave you the file.
        #[arg(long, value_name = "KEY_OR_FILE")]
        key: String,
        /// A signed checkpoint that you kept from earlier. May be given several times.
        #[arg(long = "checkpoint", value_name = "OLD")]
        checkpoints: Vec<PathBuf>,
        /// A consistency proof from an earlier checkpoint to that of the file. May be given several times.
        #[arg(long = "proof", value_name = "FILE", requires = "checkpoints")]
        proofs: Vec<PathBuf>,
    },
}

impl Audit {
    /// Does it.
    pub(super) fn run(self) -> Result<(), Failure> {
        match self {
            Self::Verify { file, key, checkpoints, proofs } => run_verify(&file, &key, &checkpoints, &proofs),
        }
    }
}

fn run_verify(path: &Path, key: &str, checkpoints: &[PathBuf], proofs: &[PathBuf]) -> Result<(), Failure> {
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
