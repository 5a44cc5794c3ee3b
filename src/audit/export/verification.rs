//! Verifying an export as it is read. Memory holds one line, and one hash for each checkpoint to compare with.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, Read};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::seal::Seal;
use super::{EntryLine, FORMAT, Header, MAX_LINE_BYTES, Scope, SealLine, VERSION};
use crate::audit::checkpoint::{Checkpoint, SignedCheckpoint};
use crate::audit::encoding::{HashText, hashes};
use crate::audit::finding::{Finding, Findings, NotVerified};
use crate::audit::history::History;
use crate::audit::key::VerifierKey;
use crate::audit::merkle::{Hash, Tree, leaf_hash, verify_inclusion};
use crate::audit::verify::{Report, Subject};

/// Over how many gaps a file is read on. One with more was not damaged by accident, and has been found wrong.
const MAX_GAPS: usize = 64;

/// The line of an entry, or the last.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Entry(EntryLine),
    Seal(SealLine),
}

/// Verifies an export, and that its log continues the checkpoints of `history`: by the roots that it has on the way, if it
/// is of the whole log, and otherwise by the proofs that `history` holds.
///
/// # Errors
/// All that is wrong with it, or why it could not be read.
pub fn verify_export(mut export: impl BufRead, key: &VerifierKey, history: &History) -> Result<Report, NotVerified> {
    let mut lines = Lines { number: 0, line: Vec::new() };
    if !lines.next(&mut export)? {
        return Err(Finding::Truncated { entries: 0 }.into());
    }
    let (header, checkpoint) = header(&lines.line, key)?;
    let mut verification = Verification::new(header.of, checkpoint, history);
    if header.origin != verification.checkpoint.origin {
        verification.findings.push(Finding::Origin);
    }
    verification.digest.update(&lines.line);
    loop {
        match lines.next(&mut export) {
            Ok(true) => {}
            Ok(false) => {
                verification.findings.push(Finding::Truncated { entries: verification.entries });
                return verification.end(history);
            }
            Err(NotVerified::Findings(findings)) => {
                findings.first().iter().for_each(|finding| verification.findings.push(finding.clone()));
                return verification.end(history);
            }
            Err(error @ NotVerified::Io(_)) => return Err(error),
        }
        match serde_json::from_slice(&lines.line) {
            Ok(Line::Entry(entry)) => {
                verification.digest.update(&lines.line);
                if !verification.entry(entry, lines.number) {
                    return verification.end(history);
                }
            }
            Ok(Line::Seal(SealLine { seal })) => {
                verification.close(&seal, key);
                if lines.next(&mut export)? {
                    verification.findings.push(Finding::Trailing { line: lines.number });
                }
                return verification.end(history);
            }
            // The line is skipped: it shows as a missing entry too, which says which one it was.
            Err(_) => {
                verification.digest.update(&lines.line);
                let reason = "it is neither an entry nor the seal of an export".to_owned();
                verification.findings.push(Finding::Malformed { line: lines.number, reason });
            }
        }
    }
}

/// The first line, and the checkpoint that it holds.
fn header(line: &[u8], key: &VerifierKey) -> Result<(Header, Checkpoint), Finding> {
    let header: Header = serde_json::from_slice(line).map_err(|error| Finding::Malformed {
        line: 1,
        reason: format!("it is not the first line of an export (column {})", error.column()),
    })?;
    if header.format != FORMAT {
        return Err(Finding::NotEvidence("it is not an export"));
    }
    if header.version != VERSION {
        return Err(Finding::NewerFormat(header.version));
    }
    let checkpoint = SignedCheckpoint::verify(&header.checkpoint, key).map_err(Finding::Checkpoint)?;
    let checkpoint = checkpoint.checkpoint().clone();
    Ok((header, checkpoint))
}

/// Reads lines of a bounded length.
struct Lines {
    /// The number of `line`, from 1.
    number: u64,
    /// The line that was read last, with its line break.
    line: Vec<u8>,
}

impl Lines {
    /// Whether there is another line. One that does not end is no line: the file was cut there.
    fn next(&mut self, reader: &mut impl BufRead) -> Result<bool, NotVerified> {
        self.line.clear();
        reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut self.line)?;
        self.number += 1;
        if self.line.last() == Some(&b'\n') {
            return Ok(true);
        }
        if self.line.len() as u64 == MAX_LINE_BYTES {
            let reason = format!("it has more than {MAX_LINE_BYTES} bytes");
            return Err(Finding::Malformed { line: self.number, reason }.into());
        }
        Ok(false)
    }
}

/// What is known of an export so far.
struct Verification {
    of: Scope,
    checkpoint: Checkpoint,
    digest: Sha256,
    findings: Findings,
    /// How many entries were read.
    entries: u64,
    /// One more than the highest index so far.
    next: u64,
    /// Entries of a whole log that were passed over, as first and one after the last.
    gaps: Vec<(u64, u64)>,
    /// The tree over the entries of a whole log, as long as none is missing.
    tree: Tree,
    /// The sizes of earlier checkpoints, and what the root was at each.
    wanted: BTreeSet<u64>,
    roots: BTreeMap<u64, Hash>,
}

impl Verification {
    fn new(of: Scope, checkpoint: Checkpoint, history: &History) -> Self {
        let mut verification = Self {
            of,
            checkpoint,
            digest: Sha256::new(),
            findings: Findings::default(),
            entries: 0,
            next: 0,
            gaps: Vec::new(),
            tree: Tree::empty(),
            wanted: history.sizes().collect(),
            roots: BTreeMap::new(),
        };
        verification.note_root();
        verification
    }

    fn note_root(&mut self) {
        if self.of == Scope::Log && self.wanted.contains(&self.tree.size()) {
            self.roots.insert(self.tree.size(), self.tree.root());
        }
    }

    /// Takes an entry. `false` if the file is too far out of order to read on.
    fn entry(&mut self, line: EntryLine, number: u64) -> bool {
        let EntryLine { index, leaf: HashText(leaf), entry, proof } = line;
        self.entries += 1;
        let Checkpoint { size, root, .. } = self.checkpoint;
        if leaf_hash(entry.as_bytes()) != leaf {
            self.findings.push(Finding::Changed { index });
        }
        if index >= size {
            self.findings.push(Finding::Beyond { index, size });
            return true;
        }
        match proof.as_deref().map(hashes) {
            Some(proof) if verify_inclusion(&leaf, index, size, &proof, &root) => {}
            Some(_) => self.findings.push(Finding::NotIncluded { index }),
            None if self.of == Scope::Log => {}
            None => self.findings.push(Finding::NoProof { index }),
        }
        self.place(index, number);
        if self.of == Scope::Log && self.tree.size() == index {
            // The hash beside the text, so that a changed text does not make the others seem changed too.
            self.tree.append(leaf);
            self.note_root();
        }
        self.gaps.len() <= MAX_GAPS
    }

    /// Holds the place of entry `index` against those before it.
    fn place(&mut self, index: u64, line: u64) {
        if index >= self.next {
            if self.of == Scope::Log && index > self.next {
                self.gaps.push((self.next, index));
            }
            self.next = index + 1;
            return;
        }
        let after = self.next - 1;
        let gap = self.gaps.iter().position(|(from, to)| (*from..*to).contains(&index));
        // An excerpt has gaps by its nature, so that an entry that was moved is told from one that is doubled only here.
        match gap {
            Some(gap) => {
                let (from, to) = self.gaps.remove(gap);
                self.gaps.extend([(from, index), (index + 1, to)].into_iter().filter(|(from, to)| from < to));
                self.findings.push(Finding::Moved { index, after, line });
            }
            None if self.of == Scope::Log || index == after => self.findings.push(Finding::Repeated { index, line }),
            None => self.findings.push(Finding::Moved { index, after, line }),
        }
    }

    /// Takes the last line.
    fn close(&mut self, seal: &str, key: &VerifierKey) {
        let sealed = Seal {
            origin: &self.checkpoint.origin,
            of: &self.of,
            size: self.checkpoint.size,
            entries: self.entries,
            digest: self.digest.clone().finalize().into(),
        };
        if let Some(finding) = sealed.check(seal, key) {
            self.findings.push(finding);
        }
        // Only a file that has its last line is known to lack entries at its end, and not to have been cut.
        if self.of == Scope::Log && self.next < self.checkpoint.size {
            self.gaps.push((self.next, self.checkpoint.size));
        }
    }

    fn end(mut self, history: &History) -> Result<Report, NotVerified> {
        let gaps = std::mem::take(&mut self.gaps);
        for (from, to) in gaps {
            self.findings.push(Finding::Missing { from, to });
        }
        let Checkpoint { size, root, .. } = self.checkpoint;
        if self.of == Scope::Log && self.tree.size() == size && self.tree.root() != root {
            // What agrees with an earlier checkpoint is as it was signed then.
            let agrees = |earlier: &Checkpoint| self.roots.get(&earlier.size) == Some(&earlier.root);
            let earlier =
                history.checkpoints.iter().map(SignedCheckpoint::checkpoint).filter(|earlier| agrees(earlier));
            let from = earlier.map(|earlier| earlier.size).max().unwrap_or_default();
            self.findings.push(Finding::Root { from, to: size });
        }
        // Whether the log was forked or rolled back can be said where the export is the log that was signed.
        let complete = self.of != Scope::Log || self.findings.is_empty();
        let history_findings = history.check(&self.checkpoint, |size| self.roots.get(&size).copied());
        for finding in history_findings {
            if complete || matches!(finding, Finding::Shorter { .. }) {
                self.findings.push(finding);
            }
        }
        if !self.findings.is_empty() {
            return Err(NotVerified::Findings(self.findings));
        }
        let subject = Subject::Export { of: self.of, entries: self.entries };
        Ok(Report { subject, checkpoint: self.checkpoint, earlier: history.sizes().collect() })
    }
}
