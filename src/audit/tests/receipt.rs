use super::super::checkpoint::CheckpointError;
use super::super::finding::{Finding, NotVerified};
use super::super::history::History;
use super::super::note::NoteError;
use super::super::receipt::Receipt;
use super::super::verify::{Report, Subject, verify};
use super::super::{consistency::ConsistencyProof, key::SigningKey};
use super::{Log, key};

fn found(result: Result<Report, NotVerified>) -> Vec<Finding> {
    match result {
        Err(NotVerified::Findings(findings)) => findings.first().to_vec(),
        other => panic!("{other:?}"),
    }
}

fn check(receipt: &Receipt, history: &History) -> Result<Report, NotVerified> {
    verify(receipt.to_json().expect("JSON").as_bytes(), key().verifier(), history)
}

#[test]
fn a_receipt_is_verified() {
    let log = Log::of(21);
    for index in 0..21 {
        let receipt = log.receipt(index);
        assert_eq!(Receipt::from_json(&receipt.to_json().expect("JSON")).expect("read"), receipt);
        let report = check(&receipt, &History::default()).expect("verified");
        assert_eq!(report.subject, Subject::Receipt { index, leaf: receipt.leaf, has_entry: true });
        let hash_only = Receipt { entry: None, ..receipt };
        let report = check(&hash_only, &History::default()).expect("verified");
        assert_eq!(report.subject, Subject::Receipt { index, leaf: hash_only.leaf, has_entry: false });
    }
    // However it is laid out.
    let value: serde_json::Value = serde_json::from_str(&log.receipt(3).to_json().expect("JSON")).expect("JSON");
    let laid_out = serde_json::to_string_pretty(&value).expect("JSON");
    verify(laid_out.as_bytes(), key().verifier(), &History::default()).expect("verified");
}

#[test]
fn what_is_wrong_with_a_receipt_is_said() {
    let log = Log::of(21);
    let good = log.receipt(9);
    let none = History::default();
    let entry = Some("another".to_owned());
    assert_eq!(found(check(&Receipt { entry: entry.clone(), ..good.clone() }, &none)), [Finding::Changed { index: 9 }]);
    let leaf = super::leaf_hash(b"another");
    assert_eq!(found(check(&Receipt { leaf, entry, ..good.clone() }, &none)), [Finding::NotIncluded { index: 9 }]);
    assert_eq!(found(check(&Receipt { index: 8, ..good.clone() }, &none)), [Finding::NotIncluded { index: 8 }]);
    assert_eq!(found(check(&Receipt { index: 21, ..good.clone() }, &none)), [Finding::Beyond { index: 21, size: 21 }]);
    let shorter = good.proof[1..].to_vec();
    assert_eq!(found(check(&Receipt { proof: shorter, ..good.clone() }, &none)), [Finding::NotIncluded { index: 9 }]);
    let checkpoint = good.checkpoint.replacen("21", "22", 1);
    assert_eq!(
        found(check(&Receipt { checkpoint, ..good.clone() }, &none)),
        [Finding::Checkpoint(CheckpointError::Note(NoteError::BadSignature))]
    );
    let other = SigningKey::from_seed(&[9; 32], key().name()).expect("a key");
    assert_eq!(
        found(verify(good.to_json().expect("JSON").as_bytes(), other.verifier(), &none)),
        [Finding::Checkpoint(CheckpointError::Note(NoteError::AnotherKey))]
    );
    let json = good.to_json().expect("JSON");
    let version = json.replace("\"version\":1", "\"version\":2");
    assert_eq!(found(verify(version.as_bytes(), key().verifier(), &none)), [Finding::NewerFormat(2)]);
    for wrong in [
        json.replace("\"proof\"", "\"prof\""),
        json.replace("\"version\":1", "\"version\":1,\"version\":1"),
        json.replace("\"version\":1", "\"version\":1,\"more\":1"),
        json.replace("\"log_index\":9", "\"log_index\":-9"),
        json.replace("tollgate-audit-receipt", "receipt"),
        json[..json.len() - 1].to_owned(),
        format!("{json}x"),
        "{".to_owned(),
        "{}".to_owned(),
        "[]".to_owned(),
        String::new(),
    ] {
        let findings = found(verify(wrong.as_bytes(), key().verifier(), &none));
        assert!(matches!(findings[..], [Finding::NotEvidence(_)]), "{wrong}: {findings:?}");
    }
    let findings = found(verify(&b"\xff\xfe"[..], key().verifier(), &none));
    assert!(matches!(findings[..], [Finding::NotEvidence(_)]), "{findings:?}");
}

#[test]
fn a_checkpoint_continues_earlier_ones_by_proof() {
    let (log, key) = (Log::of(21), key());
    let now = log.checkpoint();
    let history = History {
        checkpoints: [0, 4, 13, 21].map(|size| log.checkpoint_at(size)).to_vec(),
        proofs: [0, 4, 13].map(|size| log.consistency(size)).to_vec(),
    };
    let report = verify(now.text().as_bytes(), key.verifier(), &history).expect("verified");
    assert_eq!((report.subject, report.earlier), (Subject::Checkpoint, vec![0, 4, 13, 21]));
    check(&log.receipt(2), &history).expect("verified");

    let with = |checkpoint, proofs| {
        let history = History { checkpoints: vec![checkpoint], proofs };
        found(verify(now.text().as_bytes(), key.verifier(), &history))
    };
    assert_eq!(with(log.checkpoint_at(4), vec![]), [Finding::NoConsistency { earlier: 4, size: 21 }]);
    assert_eq!(
        with(log.checkpoint_at(4), vec![log.consistency(13)]),
        [Finding::NoConsistency { earlier: 4, size: 21 }]
    );
    let mut wrong = log.consistency(4);
    wrong.proof[0][0] ^= 1;
    assert_eq!(with(log.checkpoint_at(4), vec![wrong]), [Finding::Inconsistent { earlier: 4 }]);
    // A second history under the same key: neither an honest proof nor one of its own joins the two.
    let mut entries = log.entries.clone();
    entries[2].push('x');
    let forked = Log::with(entries);
    let proofs = vec![log.consistency(4), forked.consistency(4)];
    assert_eq!(with(forked.checkpoint_at(4), proofs), [Finding::Inconsistent { earlier: 4 }]);
    assert_eq!(with(forked.checkpoint_at(21), vec![]), [Finding::Forked { earlier: 21 }]);
    assert_eq!(with(Log::of(22).checkpoint(), vec![]), [Finding::Shorter { size: 21, earlier: 22 }]);
}

#[test]
fn a_consistency_proof_is_read_as_it_was_written() {
    let proof = Log::of(21).consistency(6);
    let json = proof.to_json().expect("JSON");
    assert_eq!(ConsistencyProof::from_json(&json), Ok(proof));
    assert_eq!(ConsistencyProof::from_json(&json.replace(":1,", ":2,")), Err(Finding::NewerFormat(2)));
    for wrong in [json.replace("consistency", "receipt"), json.replace("proof", "prof"), String::new()] {
        assert!(matches!(ConsistencyProof::from_json(&wrong), Err(Finding::NotEvidence(_))), "{wrong}");
    }
    let findings = found(verify(json.as_bytes(), key().verifier(), &History::default()));
    assert!(matches!(findings[..], [Finding::NotEvidence(hint)] if hint.contains("--proof")), "{findings:?}");
}
