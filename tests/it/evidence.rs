//! `tollgate audit verify`, as an auditor runs it: on files, offline, with the public key.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;
use tollgate::audit::checkpoint::{Checkpoint, SignedCheckpoint};
use tollgate::audit::consistency::ConsistencyProof;
use tollgate::audit::export::{ExportWriter, Scope};
use tollgate::audit::key::SigningKey;
use tollgate::audit::merkle::{Hash, NodeId, Tree, consistency_proof, inclusion_proof, leaf_hash, root_at};
use tollgate::audit::receipt::Receipt;

use crate::fixture::{Ran, tollgate};

const ORIGIN: &str = "gateway.example/log";

/// An auditor's folder: exports, receipts, checkpoints, and the public key.
struct Auditor {
    dir: TempDir,
    key: SigningKey,
}

/// A log, as a gateway's database keeps it.
struct Log {
    entries: Vec<String>,
    tree: Tree,
    nodes: BTreeMap<NodeId, Hash>,
}

impl Log {
    fn of(entries: Vec<String>) -> Self {
        let (mut tree, mut nodes) = (Tree::empty(), BTreeMap::new());
        for entry in &entries {
            nodes.extend(tree.append(leaf_hash(entry.as_bytes())).into_iter().map(|node| (node.id, node.hash)));
        }
        Self { entries, tree, nodes }
    }

    fn numbered(size: usize) -> Self {
        Self::of((0..size).map(|n| format!("{{\"kind\":\"answered\",\"n\":{n},\"sql\":\"SELECT 1\"}}")).collect())
    }

    fn node(&self) -> impl Fn(NodeId) -> Option<Hash> {
        |id| self.nodes.get(&id).copied()
    }
}

impl Auditor {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let key = SigningKey::load_or_create(&dir.path().join("audit.key"), ORIGIN).expect("a key");
        Self { dir, key }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn checkpoint(&self, log: &Log, size: u64) -> SignedCheckpoint {
        let root = root_at(size, &log.node()).expect("a root");
        Checkpoint { origin: ORIGIN.to_owned(), size, root }.sign(&self.key).expect("signed")
    }

    fn write_checkpoint(&self, name: &str, log: &Log, size: u64) {
        fs::write(self.path(name), self.checkpoint(log, size).text()).expect("written");
    }

    fn write_proof(&self, name: &str, log: &Log, old_size: u64) {
        let new_size = log.tree.size();
        let proof = consistency_proof(old_size, new_size, &log.node()).expect("a proof");
        let json = ConsistencyProof { old_size, new_size, proof }.to_json().expect("JSON");
        fs::write(self.path(name), json).expect("written");
    }

    /// The export of the whole log, or of the entries that `indices` are.
    fn export(&self, log: &Log, indices: Option<&[u64]>) -> Vec<u8> {
        let of = indices.map_or(Scope::Log, |_| Scope::Dataset("united.flights".to_owned()));
        let checkpoint = self.checkpoint(log, log.tree.size());
        let mut writer = ExportWriter::new(Vec::new(), of, &checkpoint).expect("written");
        let all: Vec<u64> = (0..log.tree.size()).collect();
        for &index in indices.unwrap_or(&all) {
            let proof = indices.map(|_| inclusion_proof(index, log.tree.size(), &log.node()).expect("a proof"));
            writer.entry(index, &log.entries[index as usize], proof.as_deref()).expect("written");
        }
        writer.finish(&self.key).expect("written")
    }

    fn write_receipt(&self, name: &str, log: &Log, index: u64) {
        let entry = log.entries[index as usize].clone();
        let receipt = Receipt {
            index,
            leaf: leaf_hash(entry.as_bytes()),
            entry: Some(entry),
            proof: inclusion_proof(index, log.tree.size(), &log.node()).expect("a proof"),
            checkpoint: self.checkpoint(log, log.tree.size()).text().to_owned(),
        };
        fs::write(self.path(name), receipt.to_json().expect("JSON")).expect("written");
    }

    fn verify(&self, arguments: &[&str]) -> Ran {
        run(self.dir.path(), &[&["audit", "verify", "--key", "audit.key.pub"], arguments].concat())
    }

    /// Verifies a file of this content.
    fn verify_bytes(&self, content: &[u8], arguments: &[&str]) -> Ran {
        fs::write(self.path("evidence"), content).expect("written");
        self.verify(&[&["evidence"], arguments].concat())
    }
}

fn run(dir: &Path, arguments: &[&str]) -> Ran {
    Ran::of(tollgate(dir).args(arguments))
}

/// A run that found the evidence wrong, and said so in these words.
fn refused(ran: &Ran, words: &str) {
    assert_eq!(ran.status, 1, "{}{}", ran.text(), ran.stderr);
    assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
    assert!(ran.stderr.contains("error[not_verified]"), "{}", ran.stderr);
    assert_eq!(ran.text(), "", "what is wrong is not said to be verified");
}

/// The lines of an export, edited.
fn edited(export: &[u8], edit: impl FnOnce(&mut Vec<String>)) -> Vec<u8> {
    let mut lines: Vec<_> = std::str::from_utf8(export).expect("text").lines().map(str::to_owned).collect();
    edit(&mut lines);
    (lines.join("\n") + "\n").into_bytes()
}

#[test]
fn good_evidence_is_verified_and_said_to_be_what_it_is() {
    let auditor = Auditor::new();
    let log = Log::numbered(60);
    let whole = auditor.verify_bytes(&auditor.export(&log, None), &[]).done();
    assert!(whole.contains("the whole log of gateway.example/log: all 60 entries"), "{whole}");
    auditor.write_checkpoint("old.checkpoint", &log, 20);
    let whole = auditor.verify_bytes(&auditor.export(&log, None), &["--checkpoint", "old.checkpoint"]).done();
    assert!(whole.contains("continues the earlier checkpoint of 20 entries"), "{whole}");
    let excerpt = auditor.verify_bytes(&auditor.export(&log, Some(&[3, 17, 40])), &[]).done();
    assert!(excerpt.contains("on united.flights: each of 3 entries"), "{excerpt}");
    auditor.write_receipt("receipt.json", &log, 17);
    let receipt = auditor.verify(&["receipt.json"]).done();
    assert!(receipt.contains("number 17 of the log"), "{receipt}");
    auditor.write_checkpoint("new.checkpoint", &log, 60);
    assert!(auditor.verify(&["new.checkpoint"]).done().contains("60 entries"));
    auditor.write_proof("proof.json", &log, 20);
    for file in ["new.checkpoint", "receipt.json"] {
        let said = auditor.verify(&[file, "--checkpoint", "old.checkpoint", "--proof", "proof.json"]).done();
        assert!(said.contains("continues the earlier checkpoint of 20 entries"), "{said}");
    }
    // The key itself serves as well as its file.
    let key = auditor.key.verifier().to_string();
    run(auditor.dir.path(), &["audit", "verify", "receipt.json", "--key", &key]).done();
}

#[test]
fn a_flipped_bit_anywhere_in_an_export_is_found() {
    // The places are random, and the same in each run.
    let mut places = StdRng::seed_from_u64(5);
    let auditor = Auditor::new();
    let log = Log::numbered(20);
    for export in [auditor.export(&log, None), auditor.export(&log, Some(&[2, 5, 11]))] {
        for _ in 0..40 {
            let mut tampered = export.clone();
            let (at, bit) = (places.random_range(0..export.len()), places.random_range(0..8));
            tampered[at] ^= 1 << bit;
            let ran = auditor.verify_bytes(&tampered, &[]);
            refused(&ran, "wrong: ");
        }
    }
}

#[test]
fn a_flipped_bit_in_an_entry_is_found_and_the_entry_named() {
    let mut places = StdRng::seed_from_u64(6);
    let auditor = Auditor::new();
    let log = Log::numbered(20);
    for (export, indices) in [
        (auditor.export(&log, None), (0..20).collect::<Vec<u64>>()),
        (auditor.export(&log, Some(&[2, 5, 11])), vec![2, 5, 11]),
    ] {
        for _ in 0..30 {
            let row = places.random_range(0..indices.len());
            let tampered = edited(&export, |lines| {
                // Letters become other letters, so that the line stays JSON and only the entry is another.
                let line = &mut lines[row + 1];
                let start = line.find("SELECT").expect("the entry");
                let at = start + places.random_range(0..6);
                let other = char::from(line.as_bytes()[at] ^ 0x20).to_string();
                line.replace_range(at..=at, &other);
            });
            refused(&auditor.verify_bytes(&tampered, &[]), &format!("entry {} was changed", indices[row]));
        }
    }
}

#[test]
fn each_way_to_tamper_with_rows_is_named() {
    let auditor = Auditor::new();
    let log = Log::numbered(20);
    let export = auditor.export(&log, None);
    let verify = |content: &[u8]| auditor.verify_bytes(content, &[]);
    refused(&verify(&edited(&export, |lines| drop(lines.remove(8)))), "entry 7 was dropped");
    refused(&verify(&edited(&export, |lines| drop(lines.drain(8..12)))), "entries 7 to 10 were dropped");
    refused(&verify(&edited(&export, |lines| lines.swap(8, 9))), "entry 7 is out of its place");
    refused(&verify(&edited(&export, |lines| lines.insert(9, lines[8].clone()))), "entry 7 is in the file twice");
    refused(&verify(&edited(&export, |lines| drop(lines.pop()))), "truncated");
    refused(&verify(&export[..export.len() - 1]), "truncated");
    refused(&verify(&export[..export.len() / 2]), "truncated");
    refused(&verify(&[&export[..], b"{}\n"].concat()), "goes on after the line that closes it");
    let excerpt = auditor.export(&log, Some(&[2, 5, 11]));
    refused(&verify(&edited(&excerpt, |lines| drop(lines.remove(2)))), "sealed with 3 entries and has 2");
    refused(&verify(&edited(&excerpt, |lines| lines.swap(2, 3))), "entry 5 is out of its place");
    refused(&verify(b""), "wrong: ");
    refused(&verify(b"a picture\n"), "not an export, a receipt or a signed checkpoint");
}

#[test]
fn a_forked_log_is_found_by_an_old_checkpoint() {
    let auditor = Auditor::new();
    let log = Log::numbered(40);
    let mut entries = log.entries.clone();
    entries[10] = "{\"kind\":\"refused\"}".to_owned();
    let forked = Log::of(entries);
    let export = auditor.export(&forked, None);
    auditor.verify_bytes(&export, &[]).done();
    auditor.write_checkpoint("before", &log, 10);
    auditor.verify_bytes(&export, &["--checkpoint", "before"]).done();
    auditor.write_checkpoint("after", &log, 25);
    refused(&auditor.verify_bytes(&export, &["--checkpoint", "before", "--checkpoint", "after"]), "the log was forked");
    // A receipt, an excerpt and a checkpoint alone need a proof, and of a fork there is none.
    auditor.write_receipt("receipt.json", &forked, 30);
    refused(&auditor.verify(&["receipt.json", "--checkpoint", "after"]), "give the consistency proof from 25 to 40");
    auditor.write_proof("proof.json", &forked, 25);
    let with = ["--checkpoint", "after", "--proof", "proof.json"];
    refused(&auditor.verify(&[&["receipt.json"][..], &with].concat()), "not shown to continue");
    auditor.write_checkpoint("new", &forked, 40);
    refused(&auditor.verify(&[&["new"][..], &with].concat()), "not shown to continue");
    refused(&auditor.verify_bytes(&auditor.export(&forked, Some(&[11])), &with), "not shown to continue");
}

#[test]
fn a_rolled_back_log_is_found_by_a_newer_checkpoint() {
    let auditor = Auditor::new();
    let log = Log::numbered(40);
    auditor.write_checkpoint("newer", &log, 40);
    let back = Log::numbered(33);
    let said = "signed for 33 entries, and an earlier checkpoint for 40";
    refused(&auditor.verify_bytes(&auditor.export(&back, None), &["--checkpoint", "newer"]), said);
    refused(&auditor.verify_bytes(&auditor.export(&back, Some(&[3])), &["--checkpoint", "newer"]), said);
    auditor.write_receipt("receipt.json", &back, 3);
    refused(&auditor.verify(&["receipt.json", "--checkpoint", "newer"]), said);
    auditor.write_checkpoint("older", &back, 33);
    refused(&auditor.verify(&["older", "--checkpoint", "newer"]), said);
}

#[test]
fn what_another_key_signed_is_not_believed() {
    let (ours, theirs) = (Auditor::new(), Auditor::new());
    let log = Log::numbered(20);
    let said = "this key has not signed it";
    refused(&ours.verify_bytes(&theirs.export(&log, None), &[]), said);
    refused(&ours.verify_bytes(&theirs.export(&log, Some(&[3])), &[]), said);
    refused(&ours.verify_bytes(theirs.checkpoint(&log, 20).text().as_bytes(), &[]), said);
    theirs.write_receipt("receipt.json", &log, 3);
    let receipt = fs::read(theirs.path("receipt.json")).expect("bytes");
    refused(&ours.verify_bytes(&receipt, &[]), said);
    // Nor is it as something to compare with.
    fs::write(ours.path("old"), theirs.checkpoint(&log, 5).text()).expect("written");
    refused(
        &ours.verify_bytes(&ours.export(&log, None), &["--checkpoint", "old"]),
        "old, which was given to compare with",
    );
    // A signature that was put under another text.
    let (five, six) = (ours.checkpoint(&log, 5).text().to_owned(), ours.checkpoint(&log, 6).text().to_owned());
    let mixed =
        format!("{}\n\n{}", six.split_once("\n\n").expect("a note").0, five.split_once("\n\n").expect("a note").1);
    refused(&ours.verify_bytes(mixed.as_bytes(), &[]), "the signature is wrong");
}

#[test]
fn wrong_usage_is_not_taken_for_wrong_evidence() {
    let auditor = Auditor::new();
    auditor.write_checkpoint("checkpoint", &Log::numbered(5), 5);
    let dir = auditor.dir.path();
    let status = |arguments: &[&str]| run(dir, &[&["audit", "verify"], arguments].concat()).status;
    assert_eq!(status(&["checkpoint", "--key", "audit.key.pub"]), 0);
    assert_eq!(status(&["checkpoint"]), 2);
    assert_eq!(status(&["checkpoint", "--key", "a+b+c"]), 2);
    // The private key is not the public one.
    let ran = run(dir, &["audit", "verify", "checkpoint", "--key", "audit.key"]);
    assert_eq!(ran.status, 2, "{}", ran.stderr);
    let secret = fs::read_to_string(auditor.path("audit.key")).expect("text");
    assert!(!ran.stderr.contains(secret.lines().nth(1).expect("base64")), "{}", ran.stderr);
    // What cannot be read is a failure, and not evidence of anything.
    let ran = auditor.verify(&["no-such-file"]);
    assert_eq!(ran.status, 1);
    assert!(ran.stderr.contains("error[io]") && !ran.stderr.contains("wrong:"), "{}", ran.stderr);
    let help = run(dir, &["audit", "verify", "--help"]).done();
    assert!(help.contains("Examples:") && help.contains("--checkpoint"), "{help}");
}
