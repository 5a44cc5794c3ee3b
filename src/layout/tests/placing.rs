//! Where the new files go, and what is left after a crash.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::super::staging::Staging;
use super::super::{discard_original, usual_goal};
use super::*;

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_original_is_replaced_kept_and_only_then_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    let before = rows(2000, 6);
    write(&path, &before);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let (original, bytes) = (inode(&path), fs::read(&path).unwrap());
    let kept = dir.path().join("t.parquet.before-optimize");
    assert!(matches!(
        discard_original(&Stores::default(), &origin(&path), &small_groups()),
        Err(LayoutError::NothingKept(_))
    ));
    let done = run(&path, Goal::Replace, small_groups()).await.unwrap();
    assert_eq!((done.location, done.kept), (path.display().to_string(), Some(kept.clone())));
    assert_eq!((inode(&kept), fs::read(&kept).unwrap()), (original, bytes));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(texts(&[read(&path)]), texts(&[before]));
    // Not over an original that is kept already.
    assert!(matches!(run(&path, Goal::Replace, small_groups()).await, Err(LayoutError::Exists(_))));
    assert_eq!(inode(&kept), original);
    // Not while what stands there is not what was made.
    let new = fs::read(&path).unwrap();
    write(&path, &rows(2000, 6));
    assert!(matches!(
        discard_original(&Stores::default(), &origin(&path), &small_groups()),
        Err(LayoutError::NotOptimized(_))
    ));
    fs::write(&path, new).unwrap();
    assert_eq!(discard_original(&Stores::default(), &origin(&path), &small_groups()).unwrap(), kept);
    assert!(!kept.exists());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_replaced_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("data");
    fs::create_dir(&source).unwrap();
    fs::set_permissions(&source, fs::Permissions::from_mode(0o750)).unwrap();
    write(&source.join("x.parquet"), &rows(700, 7));
    write(&source.join("y.parquet"), &rows(700, 8));
    fs::write(source.join("README"), "theirs").unwrap();
    let refused = run(&source, Goal::Replace, small_groups()).await.unwrap_err();
    assert!(matches!(refused, LayoutError::NotReplaceable { .. }), "{refused}");
    fs::remove_file(source.join("README")).unwrap();
    run(&source, Goal::Replace, small_groups()).await.unwrap();
    let names = |path: &Path| {
        let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&source), ["part-00000.parquet"]);
    assert_eq!(fs::metadata(&source).unwrap().permissions().mode() & 0o777, 0o750);
    assert_eq!(names(dir.path()), ["data", "data.before-optimize"]);
    assert_eq!(names(&dir.path().join("data.before-optimize")), ["x.parquet", "y.parquet"]);
    let pattern = dir.path().join("data/*.parquet");
    assert!(matches!(run(&pattern, Goal::Replace, small_groups()).await, Err(LayoutError::NotReplaceable { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_goal_is_free_and_not_among_the_source() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("data");
    fs::create_dir(&source).unwrap();
    write(&source.join("x.parquet"), &rows(100, 9));
    let refused = |goal: PathBuf| async { run(&source, Goal::New(goal), small_groups()).await.unwrap_err() };
    fs::write(dir.path().join("taken"), "theirs").unwrap();
    assert!(matches!(refused(dir.path().join("taken")).await, LayoutError::Exists(_)));
    assert!(matches!(refused(source.join("new")).await, LayoutError::Within(_)));
    assert_eq!(fs::read(dir.path().join("taken")).unwrap(), b"theirs");
    assert_eq!(fs::read_dir(&source).unwrap().count(), 1);

    assert_eq!(usual_goal(&origin(&source)), Some(dir.path().join("data.optimized")));
    assert_eq!(usual_goal(&origin(&source.join("x.parquet"))), Some(source.join("x.optimized.parquet")));
    assert_eq!(usual_goal(&origin(&source.join("*.parquet"))), Some(dir.path().join("data.optimized")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_changes_meanwhile_is_found_and_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let (path, to) = (dir.path().join("t.parquet"), dir.path().join("new.parquet"));
    write(&path, &rows(500, 10));
    let seen = origin(&path);
    write(&path, &rows(500, 11));
    let refused =
        optimize(&Stores::default(), seen, Goal::New(to.clone()), small_groups(), Arc::new(|_, _, _| {})).await;
    assert!(refused.is_err());
    // After the first stage has begun, too.
    let (seen, again) = (origin(&path), rows(500, 12));
    let place = path.clone();
    let progress = Arc::new(move |stage, _, _| {
        if stage == Stage::Writing {
            write(&place, &again);
        }
    });
    let done = optimize(&Stores::default(), seen, Goal::New(to.clone()), small_groups(), progress).await;
    // The sort had read all rows by then, and what it wrote is what was read.
    assert_eq!(done.unwrap().rows_written, 500);
    assert_eq!(texts(&[read(&to)]), texts(&[rows(500, 11)]));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn one_run_at_a_time_works_beside_a_source() {
    let dir = tempfile::tempdir().unwrap();
    let goal = dir.path().join("t.parquet");
    let first = Staging::open(&goal).unwrap();
    assert!(matches!(Staging::open(&goal), Err(LayoutError::Running(_))));
    first.clear().unwrap();
    Staging::open(&goal).unwrap().clear().unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// Prepares a crash in a folder whose original says "old", and says what is expected under the name and what is kept.
type Crash = (fn(&Path), &'static str, Option<&'static str>);

/// What a crashed run has left, by the moment at which it crashed.
#[test]
fn what_a_crash_leaves_is_the_original_or_the_new_and_the_next_run_ends_it() {
    let kept = |dir: &Path| dir.join("t.before-optimize");
    let staged = |dir: &Path| dir.join(".t.optimizing");
    let crashes: [Crash; 4] = [
        // While the new file was written.
        (|dir| fs::write(dir.join(".t.optimizing/new"), "half").unwrap(), "old", None),
        // After the intention was noted, before the swap.
        (
            |dir| {
                fs::write(dir.join(".t.optimizing/new"), "new").unwrap();
                note(dir);
            },
            "old",
            None,
        ),
        // After the swap, before the original got its name.
        (
            |dir| {
                fs::write(dir.join(".t.optimizing/new"), "new").unwrap();
                note(dir);
                swap(dir);
            },
            "new",
            Some("old"),
        ),
        // After the original got its name, before the note was taken away.
        (
            |dir| {
                fs::write(dir.join(".t.optimizing/new"), "new").unwrap();
                note(dir);
                swap(dir);
                fs::rename(dir.join(".t.optimizing/new"), dir.join("t.before-optimize")).unwrap();
            },
            "new",
            Some("old"),
        ),
    ];
    for (at, (crash, under_the_name, original)) in crashes.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("t"), "old").unwrap();
        fs::create_dir(staged(dir.path())).unwrap();
        crash(dir.path());
        assert_eq!(fs::read_to_string(dir.path().join("t")).unwrap(), under_the_name, "{at}");
        Staging::open(&dir.path().join("t")).unwrap().clear().unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("t")).unwrap(), under_the_name, "{at}");
        assert_eq!(fs::read_to_string(kept(dir.path())).ok().as_deref(), original, "{at}");
        assert!(!staged(dir.path()).exists());
    }
}

/// As the run notes which file the original is.
fn note(dir: &Path) {
    let facts = fs::metadata(dir.join("t")).unwrap();
    fs::write(dir.join(".t.optimizing/swapping"), format!("{:x}-{:x}", facts.dev(), facts.ino())).unwrap();
}

fn swap(dir: &Path) {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, dir.join(".t.optimizing/new"), CWD, dir.join("t"), RenameFlags::EXCHANGE).unwrap();
}
