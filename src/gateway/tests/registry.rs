//! What a steward may have served, and that it learns nothing of others from a refusal.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use tempfile::TempDir;

use crate::catalog::{Catalog, Registered, Roots, Status};
use crate::gateway::{Admitted, Code, GatewayError, InForce, Submission, admit};
use crate::policy::{DatasetName, Effect, PolicyFile, parse_text};

fn write(path: &Path) {
    let values: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let batch = RecordBatch::try_from_iter([("x", Arc::clone(&values)), ("n", values)]).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn text(owner: &str, name: &str, location: &str) -> String {
    format!(
        "[dataset]\nowner = \"{owner}\"\nname = \"{name}\"\nlocation = \"{location}\"\n\
         [privacy]\nunit = \"x\"\nunit_domain = \"d\"\nmax_groups_per_unit = 1\nmax_rows_per_unit_per_group = 1\n\
         [budget]\nper_consumer = {{ epsilon = 4, delta = 1e-6, per = \"month\" }}\n\
         all_consumers = {{ epsilon = 20, delta = 1e-5, per = \"lifetime\" }}\n\
         default_query = {{ epsilon = 0.2 }}\nmax_query = {{ epsilon = 1 }}\n"
    )
}

/// Two owners with folders of their own. `united.flights` was registered by its steward, `united.routes` was withdrawn, and
/// `united.secret` and `delta.flights` were placed by the operator.
struct World {
    dir: TempDir,
    catalog: Catalog,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for file in
            ["united/flights", "united/routes", "united/fresh", "united/sub/more", "delta/flights", "operator/secret"]
        {
            let path = dir.path().join(file).with_extension("parquet");
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            write(&path);
        }
        let policy = |owner: &str, name: &str, location: &str| {
            parse_text(Path::new("policy"), dir.path(), &text(owner, name, location)).unwrap()
        };
        let roots = || [dir.path().join("united")];
        let public =
            "[dataset]\nowner = \"delta\"\nname = \"lookup\"\nkind = \"public\"\nlocation = \"nowhere.parquet\"\n";
        let former = dir.path().join("united/former.parquet").display().to_string();
        let catalog = Catalog::of(
            vec![
                Registered::new(policy("united", "flights", "united/flights.parquet"), Status::Active, vec![former])
                    .within(roots()),
                Registered::new(policy("united", "routes", "united/routes.parquet"), Status::Withdrawn, Vec::new())
                    .within(roots()),
                Registered::new(policy("united", "secret", "operator/secret.parquet"), Status::Active, Vec::new()),
                Registered::new(policy("delta", "flights", "delta/flights.parquet"), Status::Active, Vec::new()),
                Registered::new(
                    parse_text(Path::new("policy"), dir.path(), public).unwrap(),
                    Status::Active,
                    Vec::new(),
                ),
            ],
            None,
        )
        .unwrap();
        Self { dir, catalog }
    }

    fn path(&self, of: &str) -> String {
        self.dir.path().join(of).display().to_string()
    }

    fn roots(&self) -> Roots {
        Roots::new([self.dir.path().join("united")])
    }

    /// United's steward registers `text`.
    fn post(&self, text: &str) -> Result<Admitted, GatewayError> {
        admit(&self.catalog, &self.roots(), "united", Submission::Toml(text), None)
    }

    /// United's steward puts `text` in place of `old`, the text in force of `name`.
    fn put(&self, name: &str, old: &str, text: &str) -> Result<Admitted, GatewayError> {
        let name: DatasetName = name.parse().unwrap();
        let in_force = InForce { name: &name, text: old, base: self.dir.path() };
        admit(&self.catalog, &self.roots(), "united", Submission::Toml(text), Some(in_force))
    }
}

#[test]
fn a_new_dataset_is_admitted_from_its_owners_folder() {
    let world = World::new();
    let (relative, absolute) = ("fresh.parquet".to_owned(), world.path("united/fresh.parquet"));
    for location in [relative, absolute] {
        let admitted = world.post(&text("united", "fresh", &location)).unwrap();
        assert_eq!(admitted.policy().name().to_string(), "united.fresh");
        assert_eq!(admitted.policy().location(), Some(world.path("united/fresh.parquet").as_str()));
        assert_eq!(admitted.base(), world.dir.path().join("united"));
        assert!(admitted.held_to_roots() && admitted.changes().is_empty());
        assert!(admitted.diff().contains("+unit = \"x\"\n"), "{}", admitted.diff());
        assert_eq!(admitted.text(), text("united", "fresh", &location));
        let warnings: Vec<_> = admitted.warnings().iter().map(ToString::to_string).collect();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].starts_with("policy: columns.n.bounds: has no bounds"), "{warnings:?}");
    }
    let json = format!(
        r#"{{"dataset": {{"owner": "united", "name": "fresh", "location": {:?}, "kind": "public"}}}}"#,
        world.path("united/sub")
    );
    let admitted = admit(&world.catalog, &world.roots(), "united", Submission::Json(&json), None).unwrap();
    assert!(matches!(admitted.policy(), PolicyFile::Public(_)));
    // What is stored is TOML that says the same.
    let again = parse_text(Path::new("policy"), admitted.base(), admitted.text()).unwrap();
    assert_eq!(again.version(), admitted.policy().version());
}

#[test]
fn a_steward_speaks_for_its_owner_alone() {
    let world = World::new();
    let refused = world.post(&text("delta", "fresh", &world.path("united/fresh.parquet"))).unwrap_err();
    assert_eq!(
        (refused.code, refused.detail.as_str()),
        (Code::NotAllowed, "this token speaks for the owner united alone")
    );
    // Whether another owner's name is taken is not told.
    assert_eq!(world.post(&text("delta", "flights", "x")).unwrap_err(), refused);
    // Without a folder, none.
    let none = admit(&world.catalog, &Roots::new([]), "united", Submission::Toml(&text("united", "fresh", "/x")), None);
    let detail = none.unwrap_err().detail;
    assert!(
        detail.starts_with("policy:4:1: dataset.location: is in no folder from which this owner's data"),
        "{detail}"
    );
}

#[test]
fn names_are_free_once() {
    let world = World::new();
    let location = world.path("united/fresh.parquet");
    let taken = world.post(&text("united", "flights", &location)).unwrap_err();
    assert_eq!((taken.code, taken.detail.as_str()), (Code::Conflict, "united.flights is registered already"));
    let gone = world.post(&text("united", "routes", &location)).unwrap_err();
    assert_eq!(gone.code, Code::Conflict);
    assert_eq!(gone.detail, "united.routes was withdrawn; its accounts live on, so its name is not free");
    let old = text("united", "routes", "united/routes.parquet");
    assert_eq!(world.put("united.routes", &old, &old).unwrap_err().code, Code::Conflict);
    let old = text("united", "flights", "united/flights.parquet");
    assert_eq!(world.put("united.none", &old, &text("united", "none", "x")).unwrap_err().code, Code::NotFound);
    let renamed = world.put("united.flights", &old, &text("united", "planes", "united/flights.parquet")).unwrap_err();
    assert_eq!(renamed.code, Code::RequestInvalid);
}

#[test]
fn no_other_place_can_be_reached_nor_be_asked_about() {
    let world = World::new();
    let united = world.dir.path().join("united");
    symlink(world.dir.path().join("delta/flights.parquet"), united.join("out.parquet")).unwrap();
    symlink(world.dir.path().join("delta/none.parquet"), united.join("dangling.parquet")).unwrap();
    symlink(world.dir.path().join("delta"), united.join("out")).unwrap();
    let outside: Vec<PathBuf> = vec![
        world.path("delta/flights.parquet").into(),
        world.path("delta/none.parquet").into(),
        world.path("operator/secret.parquet").into(),
        world.path("").into(),
        "/etc/passwd".into(),
        "/no/such/file".into(),
        "s3://united/x/".into(),
        united.join("../delta/flights.parquet"),
        "../delta/flights.parquet".into(),
        united.join("out.parquet"),
        united.join("dangling.parquet"),
        united.join("out/flights.parquet"),
        united.join("out/none.parquet"),
        united.join("out/*.parquet"),
    ];
    let told: std::collections::BTreeSet<String> = outside
        .iter()
        .map(|location| world.post(&text("united", "fresh", &location.display().to_string())).unwrap_err())
        .map(|refused| {
            assert_eq!(refused.code, Code::PolicyInvalid);
            refused.detail
        })
        .collect();
    // One message for all of them, which names nothing.
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told.iter().all(|told| !told.contains("delta") && !told.contains(world.dir.path().to_str().unwrap())));
    // A file that is not there, in the owner's own folder, may be told.
    let missing = world.post(&text("united", "fresh", "none.parquet")).unwrap_err().detail;
    assert!(missing.contains("none.parquet: no Parquet file is there"), "{missing}");
}

#[test]
fn data_lies_under_one_policy() {
    let world = World::new();
    let united = world.dir.path().join("united");
    symlink(united.join("flights.parquet"), united.join("sub/again.parquet")).unwrap();
    for taken in [
        // A live dataset, a withdrawn one, a former place, folders and patterns that hold one, and a link to one.
        "flights.parquet",
        "routes.parquet",
        "former.parquet",
        "*.parquet",
        "fl*.parquet",
        "sub/again.parquet",
        "sub",
        "*/*.parquet",
    ] {
        let refused = world.post(&text("united", "fresh", taken)).unwrap_err();
        assert_eq!(
            refused.detail,
            "policy:4:1: dataset.location: this place is not free: data lies, or has lain, under another policy there, and its budget would be two",
            "{taken}"
        );
    }
    assert!(world.post(&text("united", "fresh", "sub/more.parquet")).is_ok());
    // Nor does a policy move to where another one is, but it may go back to where it was.
    let old = text("united", "flights", "united/flights.parquet");
    assert!(
        world.put("united.flights", &old, &text("united", "flights", &world.path("united/routes.parquet"))).is_err()
    );
    write(&united.join("former.parquet"));
    let back = text("united", "flights", &world.path("united/former.parquet"));
    assert!(world.put("united.flights", &old, &back).is_ok());
}

#[test]
fn a_change_is_told_and_keeps_its_accounts() {
    let world = World::new();
    let old = text("united", "flights", "united/flights.parquet");
    let new = old
        .replace("epsilon = 4", "epsilon = 6")
        .replace("max_groups_per_unit = 1", "max_groups_per_unit = 1\nmin_group_size = 5");
    let admitted = world.put("united.flights", &old, &new).unwrap();
    let told: Vec<_> = admitted.changes().iter().map(|change| (change.effect, change.key.as_str())).collect();
    assert_eq!(told, [(Effect::Loosens, "budget.per_consumer.epsilon"), (Effect::Tightens, "privacy.min_group_size")]);
    assert!(admitted.diff().contains("-epsilon = 4\n+epsilon = 6\n"), "{}", admitted.diff());
    assert!(admitted.held_to_roots());
    let same = world.put("united.flights", &old, &format!("# a comment\n{old}")).unwrap();
    assert!(same.diff().is_empty() && same.changes().is_empty());
    for (was, becomes) in [
        ("unit = \"x\"", "unit = \"n\""),
        ("\"d\"", "\"e\""),
        ("[privacy]", "[privacy]\naccounting = \"pure\""),
        ("\"month\"", "\"lifetime\""),
    ] {
        let refused = world.put("united.flights", &old, &old.replacen(was, becomes, 1)).unwrap_err();
        assert_eq!(refused.code, Code::PolicyInvalid);
        assert!(refused.detail.contains("so it cannot change"), "{}", refused.detail);
    }
    let misfit = world.put("united.flights", &old, &format!("{old}[columns.nn]\nbounds = [0, 1]\n")).unwrap_err();
    assert!(misfit.detail.contains("columns.nn: the data has no column `nn`; did you mean `n`?"), "{}", misfit.detail);
}

#[test]
fn what_the_operator_placed_stays_where_it_is() {
    let world = World::new();
    let old = text("united", "secret", "operator/secret.parquet");
    let changed = world.put("united.secret", &old, &old.replace("epsilon = 4", "epsilon = 3")).unwrap();
    assert!(!changed.held_to_roots());
    let moved =
        world.put("united.secret", &old, &text("united", "secret", &world.path("united/fresh.parquet"))).unwrap();
    assert!(moved.held_to_roots());
    let sideways = old.replace("operator/secret", "operator/other");
    assert_eq!(world.put("united.secret", &old, &sideways).unwrap_err().code, Code::PolicyInvalid);
}

#[test]
fn a_steward_brings_its_own_datasets_together() {
    let world = World::new();
    let collection = |members: &str| format!("[collection]\nname = \"united.all\"\nmembers = [{members}]\n");
    let admitted = world.post(&collection("\"united.flights\", \"united.secret\"")).unwrap();
    assert!(!admitted.held_to_roots());
    for (members, expected) in [
        ("\"united.flights\", \"delta.flights\"", "policy:3:1: collection.members: `delta.flights` is another owner's"),
        // Whether it is there or not.
        ("\"united.flights\", \"delta.none\"", "policy:3:1: collection.members: `delta.none` is another owner's"),
        ("\"united.routes\"", "policy:3:1: collection.members: no policy here declares `united.routes`"),
        ("\"united.secre\"", "no policy here declares `united.secre`; did you mean `united.secret`?"),
    ] {
        let refused = world.post(&collection(members)).unwrap_err();
        assert!(refused.detail.contains(expected), "{}", refused.detail);
    }
}
