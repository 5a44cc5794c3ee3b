use std::fs;

use super::super::anchor::{Agreement, Anchor, AnchorError, Durability, compare};
use super::super::checkpoint::Checkpoint;
use super::super::key::SigningKey;
use super::super::merkle::{Tree, root_at};
use super::{Log, key};

#[test]
fn the_newest_checkpoint_is_kept_and_read_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("anchor");
    let mut anchor = Anchor::open(&path, key().verifier().clone()).expect("no file yet");
    assert_eq!(anchor.newest(), None);
    let log = Log::of(20);
    for (size, durability) in
        [(0, Durability::Process), (3, Durability::Disk), (3, Durability::Disk), (20, Durability::Process)]
    {
        let signed = log.checkpoint_at(size);
        anchor.write(&signed, durability).expect("written");
        assert_eq!(anchor.newest(), Some(&signed));
        assert_eq!(fs::read_to_string(&path).expect("text"), signed.text());
        let again = Anchor::open(&path, key().verifier().clone()).expect("read");
        assert_eq!(again.newest(), Some(&signed));
    }
    let mut names: Vec<_> =
        fs::read_dir(dir.path()).expect("a folder").map(|entry| entry.expect("an entry").file_name()).collect();
    names.sort();
    assert_eq!(names, ["anchor", "anchor.lock"], "nothing else is left there");
}

#[test]
fn it_never_goes_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("anchor");
    let log = Log::of(20);
    let mut anchor = Anchor::open(&path, key().verifier().clone()).expect("no file yet");
    anchor.write(&log.checkpoint_at(10), Durability::Disk).expect("written");
    let before = fs::read(&path).expect("bytes");
    let error = anchor.write(&log.checkpoint_at(9), Durability::Disk).expect_err("older");
    assert!(matches!(error, AnchorError::Backwards { anchored: 10, offered: 9, .. }), "{error}");
    let forked = Log::with(vec!["x".to_owned(); 10]).checkpoint();
    let error = anchor.write(&forked, Durability::Disk).expect_err("forked");
    assert!(matches!(error, AnchorError::Forked { size: 10, .. }), "{error}");
    let other = SigningKey::from_seed(&[9; 32], key().name()).expect("a key");
    let foreign = log.checkpoint().checkpoint().sign(&other).expect("signed");
    let error = anchor.write(&foreign, Durability::Disk).expect_err("another key");
    assert!(matches!(error, AnchorError::Untrusted { .. }), "{error}");
    assert_eq!(fs::read(&path).expect("bytes"), before);
    // Another gateway has moved it on in the meantime.
    let mut second = Anchor::open(&path, key().verifier().clone()).expect("read");
    second.write(&log.checkpoint_at(15), Durability::Process).expect("written");
    let error = anchor.write(&log.checkpoint_at(12), Durability::Process).expect_err("older");
    assert!(matches!(error, AnchorError::Backwards { anchored: 15, offered: 12, .. }), "{error}");
    assert_eq!(
        anchor.newest().map(|newest| newest.checkpoint().size),
        Some(15),
        "what the file holds is what it knows"
    );
}

#[test]
fn what_cannot_be_believed_is_neither_read_nor_replaced() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("anchor");
    let log = Log::of(5);
    let good = log.checkpoint();
    let mut anchor = Anchor::open(&path, key().verifier().clone()).expect("no file yet");
    for wrong in [
        &b""[..],
        b"\xff",
        &good.text().as_bytes()[..40],
        &vec![b'x'; 200_000],
        good.text().replace('5', "6").as_bytes(),
    ] {
        fs::write(&path, wrong).expect("written");
        let error = Anchor::open(&path, key().verifier().clone()).expect_err("damaged");
        assert!(matches!(error, AnchorError::Untrusted { .. }), "{error}");
        assert!(anchor.write(&good, Durability::Disk).is_err());
        assert_eq!(fs::read(&path).expect("bytes"), wrong);
    }
    fs::write(&path, good.text()).expect("written");
    let other = SigningKey::from_seed(&[9; 32], key().name()).expect("a key");
    assert!(matches!(Anchor::open(&path, other.verifier().clone()), Err(AnchorError::Untrusted { .. })));
    let mut nowhere = Anchor::open(&dir.path().join("no/such"), key().verifier().clone()).expect("no file yet");
    assert!(matches!(nowhere.write(&good, Durability::Process), Err(AnchorError::Io { .. })));
}

#[test]
fn of_many_writers_the_newest_wins() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("anchor");
    let log = Log::of(64);
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let (log, path) = (&log, &path);
            scope.spawn(move || {
                let mut anchor = Anchor::open(path, key().verifier().clone()).expect("opened");
                for step in 0..8 {
                    match anchor.write(&log.checkpoint_at(1 + step * 8 + worker), Durability::Process) {
                        Ok(()) | Err(AnchorError::Backwards { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    let anchor = Anchor::open(&path, key().verifier().clone()).expect("read");
    assert_eq!(anchor.newest(), Some(&log.checkpoint()));
}

/// How a storage that holds `log` stands to a checkpoint.
fn stand(anchor: Option<&Checkpoint>, log: &Log) -> Agreement {
    compare(anchor, &log.tree, |size| root_at(size, &log.node()))
}

#[test]
fn a_storage_is_held_against_the_anchor() {
    let log = Log::of(40);
    let at = |log: &Log, size| log.checkpoint_at(size).checkpoint().clone();
    for size in 0..=40 {
        assert_eq!(stand(Some(&at(&log, size)), &log), Agreement::Agrees, "{size}");
    }
    assert_eq!(stand(None, &log), Agreement::Unanchored { size: 40 });
    assert_eq!(stand(None, &Log::of(0)), Agreement::Unanchored { size: 0 });
    // Rolled back.
    assert_eq!(stand(Some(&at(&log, 40)), &Log::of(37)), Agreement::Behind { missing: 3 });
    assert_eq!(stand(Some(&at(&log, 1)), &Log::of(0)), Agreement::Behind { missing: 1 });
    // Forked at each entry: what was signed before agrees, and what was signed after does not.
    for changed in 0..40 {
        let mut entries = log.entries.clone();
        entries[changed as usize].push('x');
        let forked = Log::with(entries);
        for size in [1, 2, 7, 8, 31, 32, 33, 39, 40] {
            let expected = if size > changed { Agreement::Forked { size } } else { Agreement::Agrees };
            assert_eq!(stand(Some(&at(&log, size)), &forked), expected, "{changed} {size}");
        }
    }
    let anchor = at(&log, 33);
    assert_eq!(compare(Some(&anchor), &log.tree, |_| None), Agreement::Incomplete { size: 33 });
    // At the anchor's own size, the tree that will be appended to decides, and not what is stored beside it.
    let edge = vec![[0; 32]; 40u64.count_ones() as usize];
    let wrong = Tree::from_edge(40, edge).expect("a tree");
    let stored = |size| root_at(size, &log.node());
    assert_eq!(compare(Some(&at(&log, 40)), &wrong, stored), Agreement::Forked { size: 40 });
}
