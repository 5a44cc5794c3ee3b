use std::io::{self, BufReader, Read};

use proptest::prelude::*;

use super::super::checkpoint::CheckpointError;
use super::super::export::{ExportError, ExportWriter, Scope};
use super::super::finding::{Finding, NotVerified};
use super::super::history::History;
use super::super::key::SigningKey;
use super::super::note::NoteError;
use super::super::verify::{Report, Subject, verify};
use super::{Log, key};

fn check(export: &str, history: &History) -> Result<Report, NotVerified> {
    verify(export.as_bytes(), key().verifier(), history)
}

fn found(result: Result<Report, NotVerified>) -> Vec<Finding> {
    match result {
        Err(NotVerified::Findings(findings)) => findings.first().to_vec(),
        other => panic!("{other:?}"),
    }
}

/// What is wrong with the export, besides that it is not what was sealed: that is so of each that was tampered with.
fn tampered(export: &str) -> Vec<Finding> {
    let mut findings = found(check(export, &History::default()));
    let before = findings.len();
    findings.retain(|finding| !matches!(finding, Finding::Seal));
    assert!(before == findings.len() + 1, "the seal is broken: {findings:?}");
    findings
}

/// Takes the lines of an export, does something with them, and puts them together again. Line 0 is the header.
fn edited(export: &str, edit: impl FnOnce(&mut Vec<String>)) -> String {
    let mut lines: Vec<_> = export.lines().map(str::to_owned).collect();
    edit(&mut lines);
    lines.join("\n") + "\n"
}

/// The export that somebody with the key makes of tampered lines: the same, sealed anew.
fn resealed(export: &str) -> String {
    use super::super::encoding::encode;
    use sha2::{Digest, Sha256};
    let body_end = export.rfind("{\"seal\"").expect("a seal");
    let body = &export[..body_end];
    let header: serde_json::Value = serde_json::from_str(body.lines().next().expect("a header")).expect("JSON");
    let of = header["of"]["dataset"].as_str().map_or("log".to_owned(), |dataset| format!("dataset {dataset}"));
    let checkpoint = header["checkpoint"].as_str().expect("a checkpoint");
    let size = checkpoint.lines().nth(1).expect("a size");
    let origin = header["origin"].as_str().expect("an origin");
    let entries = body.lines().count() - 1;
    let digest = encode(&Sha256::digest(body));
    let text = format!("tollgate-audit-export/1\n{origin}\n{of}\n{size}\n{entries}\n{digest}\n");
    let seal = super::super::note::sign(&text, &key());
    format!("{body}{}\n", serde_json::json!({ "seal": seal }))
}

#[test]
fn a_good_export_is_verified() {
    for size in [0, 1, 2, 7, 64, 100] {
        let log = Log::of(size);
        let export = log.export();
        assert_eq!(resealed(&export), export, "sealed as the documentation says");
        let report = check(&export, &History::default()).expect("verified");
        assert_eq!(report.subject, Subject::Export { of: Scope::Log, entries: size });
        assert_eq!(&report.checkpoint, log.checkpoint().checkpoint());
        let every = History { checkpoints: (0..=size).map(|size| log.checkpoint_at(size)).collect(), proofs: vec![] };
        assert_eq!(check(&export, &every).expect("verified").earlier.len() as u64, size + 1);
    }
    let log = Log::of(100);
    for indices in [&[][..], &[0], &[99], &[3, 4, 5, 50], &(0..100).collect::<Vec<_>>()] {
        let excerpt = log.excerpt(indices);
        assert_eq!(resealed(&excerpt), excerpt);
        let history = History { checkpoints: vec![log.checkpoint_at(40)], proofs: vec![log.consistency(40)] };
        let report = check(&excerpt, &history).expect("verified");
        let of = Scope::Dataset("united.flights".to_owned());
        assert_eq!(report.subject, Subject::Export { of, entries: indices.len() as u64 });
    }
    // An export of the whole log may hold proofs, too.
    let mut writer = ExportWriter::new(Vec::new(), Scope::Log, &log.checkpoint()).expect("written");
    for (index, entry) in (0..).zip(&log.entries) {
        writer.entry(index, entry, Some(&log.inclusion(index))).expect("written");
    }
    let bytes = writer.finish(&key()).expect("written");
    verify(&bytes[..], key().verifier(), &History::default()).expect("verified");
}

#[test]
fn a_changed_entry_is_named() {
    let log = Log::of(30);
    for export in [log.export(), log.excerpt(&(0..30).collect::<Vec<_>>())] {
        let is_excerpt = export.contains("proof");
        for index in [0, 11, 29] {
            let text = edited(&export, |lines| lines[index + 1] = lines[index + 1].replace("SELECT", "SELECD"));
            assert_eq!(tampered(&text), [Finding::Changed { index: index as u64 }]);
        }
        // With the hash of the changed text beside it: the proof says which, and the root that one is.
        let text = edited(&export, |lines| {
            let mut line: serde_json::Value = serde_json::from_str(&lines[12]).expect("JSON");
            line["entry"] = "another".into();
            line["leaf"] = super::super::encoding::encode(&super::leaf_hash(b"another")).into();
            lines[12] = line.to_string();
        });
        let expected = if is_excerpt { Finding::NotIncluded { index: 11 } } else { Finding::Root { from: 0, to: 30 } };
        assert_eq!(tampered(&text), std::slice::from_ref(&expected));
        // Even the key's holder does not get it through.
        assert_eq!(found(check(&resealed(&text), &History::default())), [expected]);
        if !is_excerpt {
            // Earlier checkpoints narrow it down.
            let history =
                History { checkpoints: [8, 11, 12].map(|size| log.checkpoint_at(size)).to_vec(), proofs: vec![] };
            assert_eq!(found(check(&resealed(&text), &history)), [Finding::Root { from: 11, to: 30 }]);
        }
    }
}

#[test]
fn dropped_doubled_and_moved_entries_are_named() {
    let log = Log::of(30);
    let export = log.export();
    let without =
        |range: std::ops::Range<usize>| edited(&export, |lines| drop(lines.drain(range.start + 1..=range.end)));
    let count = |found| Finding::Count { sealed: 30, found };
    let of = |text: &str| found(check(text, &History::default()));
    assert_eq!(of(&without(0..1)), [count(29), Finding::Missing { from: 0, to: 1 }]);
    assert_eq!(of(&without(10..13)), [count(27), Finding::Missing { from: 10, to: 13 }]);
    assert_eq!(of(&without(29..30)), [count(29), Finding::Missing { from: 29, to: 30 }]);
    assert_eq!(of(&resealed(&without(29..30))), [Finding::Missing { from: 29, to: 30 }]);
    assert_eq!(of(&without(0..30)), [count(0), Finding::Missing { from: 0, to: 30 }]);
    let doubled = edited(&export, |lines| lines.insert(8, lines[7].clone()));
    assert_eq!(of(&doubled), [Finding::Repeated { index: 6, line: 9 }, count(31)]);
    let doubled = edited(&export, |lines| lines.insert(20, lines[7].clone()));
    assert_eq!(of(&doubled), [Finding::Repeated { index: 6, line: 21 }, count(31)]);
    let swapped = edited(&export, |lines| lines.swap(7, 8));
    assert_eq!(tampered(&swapped), [Finding::Moved { index: 6, after: 7, line: 9 }]);
    let moved = edited(&export, |lines| {
        let line = lines.remove(7);
        lines.insert(20, line);
    });
    assert_eq!(tampered(&moved), [Finding::Moved { index: 6, after: 19, line: 21 }]);
    // Swapped with their indices set right: the order is part of what was signed.
    let renumbered = edited(&export, |lines| {
        lines.swap(7, 8);
        lines[7] = lines[7].replacen("\"index\":7", "\"index\":6", 1);
        lines[8] = lines[8].replacen("\"index\":6", "\"index\":7", 1);
    });
    assert_eq!(tampered(&renumbered), [Finding::Root { from: 0, to: 30 }]);
    // One that is not in the log at all.
    let added = edited(&export, |lines| {
        let line = lines[30].replacen("\"index\":29", "\"index\":30", 1);
        lines.insert(31, line);
    });
    assert_eq!(of(&added), [Finding::Beyond { index: 30, size: 30 }, count(31)]);
}

#[test]
fn an_excerpt_is_whole_and_in_order() {
    let log = Log::of(30);
    let excerpt = log.excerpt(&[2, 3, 11, 20]);
    let of = |text: &str| found(check(text, &History::default()));
    let dropped = edited(&excerpt, |lines| drop(lines.remove(3)));
    assert_eq!(of(&dropped), [Finding::Count { sealed: 4, found: 3 }]);
    let doubled = edited(&excerpt, |lines| lines.insert(3, lines[2].clone()));
    assert_eq!(of(&doubled), [Finding::Repeated { index: 3, line: 4 }, Finding::Count { sealed: 4, found: 5 }]);
    let swapped = edited(&excerpt, |lines| lines.swap(2, 3));
    assert_eq!(tampered(&swapped), [Finding::Moved { index: 3, after: 11, line: 4 }]);
    let unproved = edited(&excerpt, |lines| {
        let mut line: serde_json::Value = serde_json::from_str(&lines[2]).expect("JSON");
        line.as_object_mut().expect("an object").remove("proof");
        lines[2] = line.to_string();
    });
    assert_eq!(tampered(&unproved), [Finding::NoProof { index: 3 }]);
    let renumbered = edited(&excerpt, |lines| lines[2] = lines[2].replacen("\"index\":3", "\"index\":4", 1));
    assert_eq!(tampered(&renumbered), [Finding::NotIncluded { index: 4 }]);
    // An excerpt says of which dataset it is, and a whole log that it is one.
    let renamed = excerpt.replacen("united.flights", "delta.flights", 1);
    assert_eq!(of(&renamed), [Finding::Seal]);
    let passed_off = excerpt.replacen("{\"dataset\":\"united.flights\"}", "\"log\"", 1);
    assert!(!of(&passed_off).is_empty());
}

#[test]
fn a_file_that_was_cut_is_told_from_one_that_was_edited() {
    let log = Log::of(12);
    for export in [log.export(), log.excerpt(&[1, 5, 6])] {
        let header = export.find('\n').expect("a line") + 1;
        for end in 0..export.len() {
            if !export.is_char_boundary(end) {
                continue;
            }
            let findings = found(check(&export[..end], &History::default()));
            let entries = export[..end].lines().count() as u64;
            let entries =
                if export[..end].ends_with('\n') { entries.saturating_sub(1) } else { entries.saturating_sub(2) };
            if end >= header {
                assert_eq!(findings, [Finding::Truncated { entries }], "{end}");
            }
        }
        let longer = format!("{export}{export}");
        let lines = export.lines().count() as u64;
        assert_eq!(found(check(&longer, &History::default())), [Finding::Trailing { line: lines + 1 }]);
    }
}

#[test]
fn the_seal_and_the_checkpoint_are_the_keys() {
    let log = Log::of(12);
    let export = log.export();
    let other = SigningKey::from_seed(&[9; 32], key().name()).expect("a key");
    assert_eq!(
        found(verify(export.as_bytes(), other.verifier(), &History::default())),
        [Finding::Checkpoint(CheckpointError::Note(NoteError::AnotherKey))]
    );
    // The seal of another export, rightly signed.
    let seal = Log::of(11).export().lines().last().expect("a seal").to_owned();
    let text = edited(&export, |lines| *lines.last_mut().expect("a seal") = seal);
    assert_eq!(found(check(&text, &History::default())), [Finding::Count { sealed: 11, found: 12 }]);
    // A checkpoint is no seal.
    let seal = serde_json::json!({ "seal": log.checkpoint().text() }).to_string();
    let text = edited(&export, |lines| *lines.last_mut().expect("a seal") = seal);
    assert_eq!(found(check(&text, &History::default())), [Finding::Seal]);
    let size = export.replacen("\\n12\\n", "\\n13\\n", 1);
    assert_eq!(
        found(check(&size, &History::default())),
        [Finding::Checkpoint(CheckpointError::Note(NoteError::BadSignature))]
    );
    let origin = export.replacen("\"origin\":\"gateway", "\"origin\":\"another", 1);
    assert_eq!(tampered(&origin), [Finding::Origin]);
    let version = export.replacen("\"version\":1", "\"version\":2", 1);
    assert_eq!(found(check(&version, &History::default())), [Finding::NewerFormat(2)]);
}

#[test]
fn a_forked_and_a_rolled_back_log_are_told() {
    let log = Log::of(30);
    let history = |log: &Log, size| History { checkpoints: vec![log.checkpoint_at(size)], proofs: vec![] };
    let mut entries = log.entries.clone();
    entries[12] = "another".to_owned();
    // Another history, whole and well signed by the same key.
    let forked = Log::with(entries);
    check(&forked.export(), &History::default()).expect("nothing is wrong with it alone");
    check(&forked.export(), &history(&log, 12)).expect("up to there they are one");
    for size in [13, 16, 29, 30] {
        assert_eq!(found(check(&forked.export(), &history(&log, size))), [Finding::Forked { earlier: size }]);
    }
    let back = Log::of(25);
    check(&back.export(), &history(&log, 25)).expect("it was so once");
    assert_eq!(found(check(&back.export(), &history(&log, 26))), [Finding::Shorter { size: 25, earlier: 26 }]);
    let excerpt = back.excerpt(&[3]);
    assert_eq!(found(check(&excerpt, &history(&log, 26))), [Finding::Shorter { size: 25, earlier: 26 }]);
    assert_eq!(found(check(&excerpt, &history(&log, 20))), [Finding::NoConsistency { earlier: 20, size: 25 }]);
}

/// A line that never ends.
struct Endless;
impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        buffer.fill(b'x');
        Ok(buffer.len())
    }
}

#[test]
fn a_file_that_is_wrong_throughout_is_bounded() {
    let log = Log::of(500);
    let every_other = edited(&log.export(), |lines| {
        let mut at = 0;
        lines.retain(|_| {
            at += 1;
            at % 2 == 1
        });
    });
    let Err(NotVerified::Findings(findings)) = check(&every_other, &History::default()) else { panic!("verified") };
    assert_eq!(findings.first().len(), 20);
    assert!(findings.more() > 0 && findings.to_string().ends_with(&format!("and {} more", findings.more())));
    // A line without an end is not read into memory.
    let header = log.export().lines().next().expect("a header").to_owned() + "\n";
    let endless = BufReader::with_capacity(1 << 20, io::Cursor::new(header).chain(Endless));
    let findings = found(verify(endless, key().verifier(), &History::default()));
    assert!(matches!(findings[..], [Finding::Malformed { line: 2, .. }]), "{findings:?}");
}

#[test]
fn an_export_that_would_not_verify_is_not_written() {
    let log = Log::of(5);
    let checkpoint = log.checkpoint();
    let new = |of| ExportWriter::new(Vec::new(), of, &checkpoint);
    for name in ["", "a\nb"] {
        assert!(matches!(new(Scope::Dataset(name.to_owned())), Err(ExportError::Dataset)));
    }
    let mut whole = new(Scope::Log).expect("written");
    assert!(matches!(whole.entry(1, "x", None), Err(ExportError::Order { index: 1 })));
    whole.entry(0, "x", None).expect("written");
    assert!(matches!(whole.entry(0, "x", None), Err(ExportError::Order { index: 0 })));
    assert!(matches!(whole.finish(&key()), Err(ExportError::Short { entries: 1, size: 5 })));
    let mut excerpt = new(Scope::Dataset("a.b".to_owned())).expect("written");
    assert!(matches!(excerpt.entry(2, "x", None), Err(ExportError::NoProof { index: 2 })));
    excerpt.entry(2, "x", Some(&[])).expect("written");
    assert!(matches!(excerpt.entry(2, "x", Some(&[])), Err(ExportError::Order { index: 2 })));
    assert!(matches!(excerpt.entry(5, "x", Some(&[])), Err(ExportError::Beyond { index: 5, size: 5 })));
    let other = SigningKey::from_seed(&[9; 32], "another.example").expect("a key");
    assert!(matches!(excerpt.finish(&other), Err(ExportError::AnotherKey)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_changed_byte_goes_unnoticed(at in any::<prop::sample::Index>(), bit in 0u8..8, excerpt in any::<bool>()) {
        let log = Log::of(9);
        let mut bytes = if excerpt { log.excerpt(&[1, 4, 8]) } else { log.export() }.into_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(verify(&bytes[..], key().verifier(), &History::default()).is_err());
    }
}
