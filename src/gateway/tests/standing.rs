//! From what is stored to what is served, and back and forth between statuses.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::catalog::{Catalog, CatalogError, Entry, Status};
use crate::gateway::{Code, Standing, Stored, assemble, decide};
use crate::policy::DatasetName;
use crate::stores::Stores;

fn stored(owner: &str, held_to_roots: bool, status: Status) -> Stored {
    let text = format!(
        "[dataset]\nowner = \"{owner}\"\nname = \"t\"\nlocation = \"{owner}/x.parquet\"\n\
         [privacy]\nunit = \"x\"\nunit_domain = \"d\"\nmax_groups_per_unit = 1\nmax_rows_per_unit_per_group = 1\n\
         [budget]\nper_consumer = {{ epsilon = 4, delta = 1e-6, per = \"month\" }}\n\
         all_consumers = {{ epsilon = 20, delta = 1e-5, per = \"lifetime\" }}\n\
         default_query = {{ epsilon = 0.2 }}\nmax_query = {{ epsilon = 1 }}\n"
    );
    Stored {
        name: format!("{owner}.t"),
        text,
        base: PathBuf::from("/srv"),
        held_to_roots,
        status,
        former_locations: Vec::new(),
    }
}

fn name(text: &str) -> DatasetName {
    text.parse().unwrap()
}

fn catalog() -> Catalog {
    let suspended = Status::Suspended { reason: "why".to_owned() };
    let all =
        vec![stored("a", true, Status::Active), stored("b", false, suspended), stored("c", true, Status::Withdrawn)];
    assemble(Stores::default(), all, &BTreeMap::from([("a".to_owned(), vec![PathBuf::from("/srv/a")])]), None).unwrap()
}

#[test]
fn what_is_stored_is_served_under_its_owners_folders() {
    let catalog = catalog();
    let roots = |of: &str| {
        let source = catalog.entry(&name(of)).and_then(Entry::source).unwrap();
        source.roots().map(|roots| roots.first().map(std::path::Path::to_owned))
    };
    assert_eq!(roots("a.t"), Some(Some(PathBuf::from("/srv/a"))));
    assert_eq!(roots("b.t"), None);
    // An owner whose folders the operator has taken away reads nothing, rather than everything.
    assert_eq!(roots("c.t"), Some(None));
    let broken = Stored { text: "[dataset".to_owned(), ..stored("a", false, Status::Active) };
    let refused = assemble(Stores::default(), vec![broken], &BTreeMap::new(), None);
    assert!(
        matches!(refused, Err(CatalogError::Policy(errors)) if errors.to_string().starts_with("a.t:1:9: not TOML"))
    );
    let twice = vec![stored("a", false, Status::Active), stored("a", false, Status::Withdrawn)];
    assert!(assemble(Stores::default(), twice, &BTreeMap::new(), None).is_err());
}

#[test]
fn which_status_may_follow_which() {
    let catalog = catalog();
    let suspend = |reason: &str| Standing::Suspend { reason: reason.to_owned() };
    let next = |owner: &str, of: &str, standing| decide(&catalog, owner, &name(of), standing);
    let suspended = |reason: &str| Ok(Some(Status::Suspended { reason: reason.to_owned() }));
    assert_eq!(next("a", "a.t", suspend("later")), suspended("later"));
    assert_eq!(next("a", "a.t", Standing::Resume), Ok(None));
    assert_eq!(next("a", "a.t", Standing::Withdraw), Ok(Some(Status::Withdrawn)));
    assert_eq!(next("b", "b.t", Standing::Resume), Ok(Some(Status::Active)));
    assert_eq!(next("b", "b.t", suspend("why")), Ok(None));
    assert_eq!(next("b", "b.t", suspend("another reason")), suspended("another reason"));
    assert_eq!(next("c", "c.t", Standing::Withdraw), Ok(None));
    for standing in [Standing::Resume, suspend("")] {
        assert_eq!(next("c", "c.t", standing).unwrap_err().code, Code::Conflict);
    }
    // Another owner's dataset is refused alike, whether it is there or not.
    assert_eq!(next("a", "b.t", Standing::Resume), next("a", "b.none", Standing::Resume));
    assert_eq!(next("a", "b.t", Standing::Resume).unwrap_err().code, Code::NotAllowed);
    assert_eq!(next("a", "a.none", Standing::Resume).unwrap_err().code, Code::NotFound);
    for reason in ["two\nlines".to_owned(), "x".repeat(501)] {
        assert_eq!(next("a", "a.t", suspend(&reason)).unwrap_err().code, Code::RequestInvalid);
    }
    assert!(next("a", "a.t", suspend(&"x".repeat(500))).is_ok());
}
