//! Catalogs of what is recorded: who is served, what is read again, and what a steward's data may lie in.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::integers;
use crate::catalog::{Catalog, CatalogError, Entry, Freshness, Registered, Roots, Source, SourceError, Status};
use crate::policy::{DatasetName, PolicyFile, parse_text};
use crate::stores::StoreError;

/// The policy `owner.t` over `location`, relative to `base`.
fn policy(base: &Path, owner: &str, location: &str) -> PolicyFile {
    let text = format!(
        "[dataset]\nowner = \"{owner}\"\nname = \"t\"\nlocation = \"{location}\"\n\
         [privacy]\nunit = \"x\"\nunit_domain = \"d\"\nmax_groups_per_unit = 1\nmax_rows_per_unit_per_group = 1\n\
         [budget]\nper_consumer = {{ epsilon = 4, delta = 1e-6, per = \"month\" }}\n\
         all_consumers = {{ epsilon = 20, delta = 1e-5, per = \"lifetime\" }}\n\
         default_query = {{ epsilon = 0.2 }}\nmax_query = {{ epsilon = 1 }}\n"
    );
    parse_text(Path::new("policy"), base, &text).unwrap()
}

fn collection(members: &str) -> PolicyFile {
    let text = format!("[collection]\nname = \"all.t\"\nmembers = [{members}]\n");
    parse_text(Path::new("policy"), Path::new("/"), &text).unwrap()
}

fn active(policy: PolicyFile) -> Registered {
    Registered::new(policy, Status::Active, Vec::new())
}

fn name(text: &str) -> DatasetName {
    text.parse().unwrap()
}

fn source_of(catalog: &Catalog, of: &str) -> Arc<Source> {
    Arc::clone(catalog.entry(&name(of)).and_then(Entry::source).unwrap())
}

#[test]
fn what_is_not_served_is_listed_as_such_and_gives_no_table() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["a.parquet", "b.parquet", "c.parquet"] {
        integers(&dir.path().join(file), &[1]);
    }
    let suspended = Status::Suspended { reason: "under review".to_owned() };
    let catalog = Catalog::of(
        vec![
            active(policy(dir.path(), "a", "a.parquet")),
            Registered::new(policy(dir.path(), "b", "b.parquet"), suspended.clone(), Vec::new()),
            Registered::new(policy(dir.path(), "c", "c.parquet"), Status::Withdrawn, Vec::new()),
            active(collection("\"a.t\", \"b.t\"")),
        ],
        None,
    )
    .unwrap();
    let listed: Vec<_> = catalog.entries().map(|(name, _)| name.to_string()).collect();
    assert_eq!(listed, ["a.t", "all.t", "b.t"]);
    assert_eq!(catalog.unserved(&name("a.t")), None);
    assert_eq!(catalog.unserved(&name("b.t")), Some((&name("b.t"), &suspended)));
    assert_eq!(catalog.unserved(&name("all.t")), Some((&name("b.t"), &suspended)));
    assert_eq!(catalog.unserved(&name("c.t")), Some((&name("c.t"), &Status::Withdrawn)));
    assert_eq!((catalog.status(&name("all.t")), catalog.status(&name("no.t"))), (Some(&Status::Active), None));
    // The gateway refuses before it asks for tables; the catalog refuses all the same.
    for freshness in [Freshness::Now, Freshness::Known] {
        assert_eq!(catalog.tables([&name("a.t")], freshness).unwrap().iter().count(), 1);
        for unserved in ["b.t", "c.t", "all.t"] {
            let refused = catalog.tables([&name("a.t"), &name(unserved)], freshness);
            assert!(matches!(refused, Err(CatalogError::NotServed { .. })), "{unserved}");
        }
    }
    // A steward mends what is suspended, so it is still described and checked.
    assert!(catalog.schema(&name("b.t")).unwrap().is_some());
    assert_eq!(catalog.check().len(), 3);
}

#[test]
fn footers_that_were_read_are_kept_where_the_place_is_the_same() {
    let dir = tempfile::tempdir().unwrap();
    integers(&dir.path().join("a.parquet"), &[1]);
    integers(&dir.path().join("b.parquet"), &[1]);
    let first = Catalog::of(vec![active(policy(dir.path(), "a", "a.parquet"))], None).unwrap();
    let seen = source_of(&first, "a.t").snapshot().unwrap().version;
    let suspended = Status::Suspended { reason: String::new() };
    let again = vec![
        Registered::new(policy(dir.path(), "a", "a.parquet"), suspended, Vec::new()),
        active(policy(dir.path(), "b", "b.parquet")),
    ];
    let second = Catalog::of(again, Some(&first)).unwrap();
    assert!(Arc::ptr_eq(&source_of(&first, "a.t"), &source_of(&second, "a.t")));
    fs::remove_file(dir.path().join("a.parquet")).unwrap();
    assert_eq!(source_of(&second, "a.t").known().unwrap().version, seen);
    // Another place, and the same one held to folders, are other sources.
    let moved = Catalog::of(vec![active(policy(dir.path(), "a", "b.parquet"))], Some(&first)).unwrap();
    assert!(!Arc::ptr_eq(&source_of(&first, "a.t"), &source_of(&moved, "a.t")));
    let held = active(policy(dir.path(), "a", "a.parquet")).within([dir.path().to_owned()]);
    let held = Catalog::of(vec![held], Some(&first)).unwrap();
    assert!(!Arc::ptr_eq(&source_of(&first, "a.t"), &source_of(&held, "a.t")));
}

#[test]
fn a_place_is_never_free_again() {
    let base = Path::new("/base");
    let withdrawn =
        || Registered::new(policy(base, "a", "a/"), Status::Withdrawn, vec!["/base/old/a.parquet".to_owned()]);
    let refused = |location: &str| Catalog::of(vec![withdrawn(), active(policy(base, "b", location))], None).err();
    for taken in ["a/", "a/x.parquet", "b/../a", "."] {
        assert!(matches!(refused(taken), Some(CatalogError::Policy(_))), "{taken}");
    }
    for former in ["old/a.parquet", "old", "old/b/../a.parquet"] {
        assert!(matches!(refused(former), Some(CatalogError::LocationTaken { .. })), "{former}");
    }
    assert!(refused("old/b.parquet").is_none());
    // Its own former place is its own.
    let back = Registered::new(policy(base, "a", "a/"), Status::Active, vec!["/base/a/".to_owned()]);
    assert!(Catalog::of(vec![back], None).is_ok());
    assert!(matches!(Catalog::of(vec![withdrawn(), withdrawn()], None), Err(CatalogError::Policy(_))));
    assert!(matches!(Catalog::of(vec![active(collection("\"a.t\""))], None), Err(CatalogError::Policy(_))));
}

/// A folder `mine` with data, and one beside it, `theirs`, that nothing of may be read.
fn two_owners() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let (mine, theirs) = (dir.path().join("mine"), dir.path().join("theirs"));
    for folder in [&mine, &theirs] {
        fs::create_dir_all(folder.join("sub")).unwrap();
        integers(&folder.join("x.parquet"), &[1, 2, 3]);
        integers(&folder.join("sub/y.parquet"), &[4]);
    }
    (dir, mine, theirs)
}

fn held(location: &Path, root: &Path) -> Source {
    Source::within(&location.to_string_lossy(), Roots::new([root.to_owned()]))
}

#[test]
fn what_a_steward_names_stays_in_its_folders() {
    let (dir, mine, theirs) = two_owners();
    let files = |location: PathBuf| held(&location, &mine).snapshot().map(|snapshot| snapshot.files.len());
    assert_eq!(files(mine.join("x.parquet")).unwrap(), 1);
    assert_eq!(files(mine.clone()).unwrap(), 1);
    assert_eq!(files(mine.join("*/*.parquet")).unwrap(), 1);
    let outside = |location: PathBuf| {
        let found = files(location.clone());
        assert!(matches!(found, Err(SourceError::Outside(_))), "{location:?}: {found:?}");
    };
    outside(theirs.join("x.parquet"));
    outside(dir.path().to_owned());
    outside(mine.join("../theirs/x.parquet"));
    outside(PathBuf::from("x.parquet"));
    outside(PathBuf::from("/etc/passwd"));

    // Links that lead out, to something and to nothing, are told alike, and no others are.
    symlink(theirs.join("x.parquet"), mine.join("file.parquet")).unwrap();
    symlink(theirs.join("sub"), mine.join("folder")).unwrap();
    symlink(theirs.join("nothing"), mine.join("dangling.parquet")).unwrap();
    symlink("../theirs/x.parquet", mine.join("relative.parquet")).unwrap();
    for link in
        ["file.parquet", "folder", "folder/y.parquet", "folder/none.parquet", "dangling.parquet", "relative.parquet"]
    {
        outside(mine.join(link));
    }
    outside(mine.clone());
    outside(mine.join("*.parquet"));
    outside(mine.join("*/y.parquet"));
    symlink(mine.join("sub/y.parquet"), mine.join("sub/within.parquet")).unwrap();
    assert_eq!(files(mine.join("sub")).unwrap(), 1, "one file, under two names");
    // The way to the operator's folder may hold links.
    symlink(&mine, dir.path().join("alias")).unwrap();
    let alias = dir.path().join("alias");
    let found = held(&alias.join("x.parquet"), &alias).snapshot().unwrap().files;
    assert_eq!(found[0].as_place(), fs::canonicalize(mine.join("x.parquet")).unwrap());
    assert_eq!(found.len(), 1);
}

#[test]
fn a_link_that_is_made_later_is_found_when_the_files_are_next_listed() {
    let (_dir, mine, theirs) = two_owners();
    let source = held(&mine.join("x.parquet"), &mine);
    assert!(source.snapshot().is_ok());
    fs::remove_file(mine.join("x.parquet")).unwrap();
    symlink(theirs.join("x.parquet"), mine.join("x.parquet")).unwrap();
    assert!(matches!(source.snapshot(), Err(SourceError::Outside(_))));
}

#[test]
fn a_name_that_is_a_pattern_is_refused() {
    // What reads the files would expand it, and read a neighbour.
    let (_dir, mine, _) = two_owners();
    for name in ["[x].parquet", "a*.parquet", "a?.parquet"] {
        let file = mine.join("sub").join(name);
        fs::copy(mine.join("x.parquet"), &file).unwrap();
        for source in [Source::new(&mine.join("sub").to_string_lossy()), held(&mine.join("sub"), &mine)] {
            assert!(matches!(source.snapshot(), Err(SourceError::Store(StoreError::PatternName(_)))), "{name}");
        }
        fs::remove_file(file).unwrap();
    }
}

#[test]
fn addresses_are_held_to_an_owners_prefixes_part_by_part() {
    let dir = tempfile::tempdir().unwrap();
    let roots = Roots::new(["s3://b/mine/".into(), dir.path().to_owned(), "relative".into()]);
    assert_eq!(roots.first(), Some(dir.path()));
    for within in ["s3://b/mine/", "s3://b/mine", "s3://b/mine/x/y.parquet", "s3://b/mine/x/*.parquet"] {
        assert_eq!(roots.admit(Path::new(within)), Some(within.into()), "{within}");
    }
    for outside in [
        "s3://b/",
        "s3://b/mine2/x",
        "s3://b/other/mine/x",
        "s3://c/mine/x",
        "s3://b/mine/../x",
        "s3://b/mine//x",
        "s3://k:s@b/mine/x",
        "s3://b/m*/x",
        "s3://b/mine/./x",
        "s3:/b/mine/x",
    ] {
        assert_eq!(roots.admit(Path::new(outside)), None, "{outside}");
    }
    // A source outside them is refused before any store is asked: there is none to be asked.
    let source = Source::within("s3://b/other/", roots);
    assert!(matches!(source.snapshot(), Err(SourceError::Outside(_))));
}
