//! Data in an object store: a real S3 server in a process of its own, and what happens when it fails.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tollgate::config::Config;

use crate::fixture::{Ran, Server, over, repository, tollgate};
use crate::object_store_server::{BUCKET, ObjectStoreServer};

const COUNT: &str = "SELECT count(*) AS n FROM united.flights";

fn flights() -> PathBuf {
    repository().join("tests/data/flights/UA.parquet")
}

/// The policy of `united.flights` over `location`.
fn policy(location: &str) -> String {
    let text = std::fs::read_to_string(repository().join("policies/airlines/united.flights.toml")).expect("a policy");
    let moved = text.replace("../../tests/data/flights/UA.parquet", location);
    assert_ne!(text, moved, "the policy names the file");
    moved
}

/// A gateway over `united.flights` at `location` in the store, with its storage in `dir`.
fn config(store: &ObjectStoreServer, dir: &Path, location: &str) -> Config {
    let policies = dir.join("policies");
    std::fs::create_dir_all(&policies).expect("a folder");
    std::fs::write(policies.join("united.flights.toml"), policy(location)).expect("written");
    let mut config = over(&policies, dir);
    config.stores.insert(BUCKET.to_owned(), store.settings(dir));
    config
}

fn question(sql: &str) -> Value {
    json!({ "sql": sql, "epsilon": 0.5 })
}

/// What the analyst has spent of `united.flights`.
fn spent(server: &Server) -> f64 {
    let budget = server.budget();
    let accounts = budget["budget"].as_array().or_else(|| budget["accounts"].as_array()).expect("accounts").clone();
    accounts.iter().filter_map(|account| account["fraction_spent"].as_f64()).sum()
}

#[test]
fn what_lies_in_a_store_is_answered_as_what_lies_in_files() {
    let (store, dir) = (ObjectStoreServer::start(), tempfile::tempdir().expect("a folder"));
    store.put("united/flights/UA.parquet", &flights());
    store.put("united/flights/notes.txt", Path::new(file!()).canonicalize().as_deref().unwrap_or(&flights()));
    store.put("public/UA.parquet", &flights());
    let mut config = config(&store, dir.path(), "s3://data/united/flights/");
    config.policies.locations.clear();
    for (name, location) in
        [("near", flights().display().to_string()), ("far", "s3://data/public/UA.parquet".to_owned())]
    {
        let policy =
            format!("[dataset]\nowner = \"w\"\nname = \"{name}\"\nkind = \"public\"\nlocation = {location:?}\n");
        std::fs::write(config.policies.dir.join(format!("w.{name}.toml")), policy).expect("written");
    }
    let server = Server::start(config);
    // Public tables are exact: the same rows, whether a row group is passed over or not.
    for sql in [
        "SELECT count(*), sum(dep_delay), count(distinct tailnum) FROM w.NAME",
        "SELECT origin, count(*), max(distance) FROM w.NAME WHERE month = 7 GROUP BY origin ORDER BY origin",
    ] {
        let rows = |name: &str| server.ask(&json!({ "sql": sql.replace("NAME", name) })).json()["rows"].clone();
        assert_eq!(rows("far"), rows("near"), "{sql}");
        assert!(rows("far").as_array().is_some_and(|rows| !rows.is_empty()));
    }
    let answer = server.ask(&question(COUNT)).json();
    assert_eq!(answer["privacy"]["cached"], json!(false));
    assert!(answer["rows"][0][0].as_i64().is_some_and(|n| n > 10_000), "{answer}");
    // The same objects are the same data version, and the same answer.
    let again = server.ask(&question(COUNT)).json();
    assert_eq!((&again["rows"], &again["privacy"]["cached"]), (&answer["rows"], &json!(true)));
    // Another object under the key is another version.
    store.put("united/flights/UA.parquet", &repository().join("tests/data/flights/B6.parquet"));
    let other = server.ask(&question(COUNT)).json();
    assert_eq!(other["privacy"]["cached"], json!(false));
    // One more object beside it is another, too.
    store.put("united/flights/more.parquet", &flights());
    assert_eq!(server.ask(&question(COUNT)).json()["privacy"]["cached"], json!(false));
}

#[test]
fn what_cannot_be_read_is_told_before_anything_is_charged() {
    let (store, dir) = (ObjectStoreServer::start(), tempfile::tempdir().expect("a folder"));
    store.put("united/UA.parquet", &flights());
    let mut config = config(&store, dir.path(), "s3://data/united/");
    let server = Server::start(config.clone());
    let refused = |server: &Server| {
        let detail = server.ask(&question(COUNT)).refused(503, "source_unavailable");
        assert_eq!(detail, "united.flights cannot be read now; nothing was charged");
        assert_eq!(spent(server), 0.0);
    };
    server.ask(&json!({ "sql": COUNT, "epsilon": 0.5, "dry_run": true })).json();
    store.deny();
    refused(&server);
    drop(server);
    // No keys at all, a bucket that is not there, and a store that is not.
    let keys = config.stores[BUCKET].credentials_file.clone().expect("a file");
    std::fs::remove_file(keys).expect("removed");
    refused(&Server::start(config.clone()));
    std::fs::write(config.policies.dir.join("united.flights.toml"), policy("s3://nowhere/united/")).expect("written");
    let settings = store.settings(dir.path());
    config.stores.insert("nowhere".to_owned(), settings.clone());
    refused(&Server::start(config.clone()));
    let gone = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
    let endpoint = Some(format!("http://{gone}"));
    config
        .stores
        .insert("nowhere".to_owned(), tollgate::stores::StoreSettings { endpoint, max_retries: 1, ..settings });
    refused(&Server::start(config));
}

#[test]
fn a_steward_registers_under_the_prefixes_of_its_owner_alone() {
    let (store, dir) = (ObjectStoreServer::start(), tempfile::tempdir().expect("a folder"));
    for key in ["united/flights/UA.parquet", "united/hotels/a.parquet", "unitedx/a.parquet", "delta/a.parquet"] {
        store.put(key, &flights());
    }
    let mut config = config(&store, dir.path(), "s3://data/united/flights/");
    config.policies.locations.insert("united".to_owned(), vec!["s3://data/united/".into()]);
    let server = Server::start(config);
    let steward = server.steward("united");
    let hotels = |location: &str| policy(location).replace("name = \"flights\"", "name = \"hotels\"");
    let mut details = Vec::new();
    for location in ["s3://data/delta/", "s3://data/unitedx/", "s3://data/", "s3://other/united/", "s3://data/united"] {
        // The prefix itself holds what is another dataset's.
        details.push(
            server.send_policy(&steward, "POST", "/v1/datasets", &hotels(location)).refused(400, "policy_invalid"),
        );
    }
    assert!(
        details[..4].iter().all(|detail| detail.contains("is in no folder from which this owner's data")),
        "{details:?}"
    );
    assert!(details[4].contains("this place is not free"), "{details:?}");
    for location in ["s3://data/united/../delta/", "s3://data/united//x/", "s3://key:hush-hush@data/united/hotels/"] {
        let detail =
            server.send_policy(&steward, "POST", "/v1/datasets", &hotels(location)).refused(400, "policy_invalid");
        assert!(detail.contains("dataset.location: an address ") && !detail.contains("hush"), "{detail}");
    }
    server.send_policy(&steward, "POST", "/v1/datasets", &hotels("s3://data/united/hotels/")).made();
    let answer = server.ask(&question("SELECT count(*) AS n FROM united.hotels")).json();
    assert!(answer["rows"][0][0].as_i64().is_some_and(|n| n > 10_000), "{answer}");
}

#[test]
fn an_object_that_is_replaced_before_it_is_read_is_never_answered_from() {
    let (store, dir) = (ObjectStoreServer::start(), tempfile::tempdir().expect("a folder"));
    store.put("united/UA.parquet", &flights());
    let server = Server::start(config(&store, dir.path(), "s3://data/united/"));
    // The footer is known after this, so that the next request for the object is the scan's.
    server.ask(&json!({ "sql": COUNT, "epsilon": 0.5, "dry_run": true })).json();
    let other = std::fs::read(repository().join("tests/data/flights/B6.parquet")).expect("a file");
    store.relay().on_request("GET /data/united/UA.parquet", store.putting("united/UA.parquet", other));
    let seen = server.ask(&question(COUNT));
    assert!(store.relay().is_done());
    let detail = seen.refused(500, "internal");
    assert!(!detail.contains("united/") && !detail.contains("s3"), "{detail}");
    // The price is that of an answer, since a failure after the charge may depend on what is there.
    let once = spent(&server);
    assert!(once > 0.0);
    // What is there now is another version, and priced as one.
    assert_eq!(server.ask(&question(COUNT)).json()["privacy"]["cached"], json!(false));
    assert!(spent(&server) > once);
}

#[test]
fn a_store_that_dies_while_it_is_read_fails_the_query_cleanly() {
    let (store, dir) = (ObjectStoreServer::start(), tempfile::tempdir().expect("a folder"));
    store.put("united/UA.parquet", &flights());
    let mut config = config(&store, dir.path(), "s3://data/united/");
    if let Some(settings) = config.stores.get_mut(BUCKET) {
        settings.max_retries = 1;
    }
    let server = Server::start(config);
    server.ask(&json!({ "sql": COUNT, "epsilon": 0.5, "dry_run": true })).json();
    store.relay().on_request("GET /data/united/UA.parquet", store.relay().dying());
    server.ask(&question(COUNT)).refused(500, "internal");
    assert!(store.relay().is_done());
    let once = spent(&server);
    assert!(once > 0.0);
    // While it is gone, nothing is charged.
    server.ask(&question("SELECT sum(dep_delay) AS s FROM united.flights")).refused(503, "source_unavailable");
    assert_eq!(spent(&server), once);
    // When it is back, the question that was paid for is answered, and costs no more.
    store.relay().drop_next(0);
    server.ask(&question(COUNT)).json();
    assert_eq!(spent(&server), once);
}

#[test]
fn a_request_that_fails_for_a_moment_is_sent_again() {
    let (store, dir) = (ObjectStoreServer::start(), tempfile::tempdir().expect("a folder"));
    store.put("united/UA.parquet", &flights());
    let mut config = config(&store, dir.path(), "s3://data/united/UA.parquet");
    let server = Server::start(config.clone());
    drop(server);
    store.relay().drop_next(2);
    let server = Server::start(config.clone());
    assert_eq!(store.relay().dropped(), 2);
    server.ask(&question(COUNT)).json();
    drop(server);
    // Without retries the first that is dropped is the end of it.
    if let Some(settings) = config.stores.get_mut(BUCKET) {
        settings.max_retries = 0;
    }
    store.relay().drop_next(usize::MAX);
    Server::start(config)
        .ask(&question("SELECT sum(dep_delay) AS s FROM united.flights"))
        .refused(503, "source_unavailable");
}

#[test]
fn commands_read_and_write_a_store() {
    let (store, dir) = (ObjectStoreServer::start(), tempfile::tempdir().expect("a folder"));
    store.put("united/UA.parquet", &flights());
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("written");
    write("tollgate.toml", &store.section(dir.path()));
    write("p.toml", &policy("s3://data/united/*.parquet"));
    let run = |arguments: &[&str]| Ran::of(tollgate(dir.path()).args(arguments));
    assert_eq!(run(&["policy", "check", "p.toml"]).done(), "united.flights: fine\n");
    let draft = run(&["policy", "init", "s3://data/united/", "--owner", "united", "--name", "t"]).done();
    assert!(draft.contains("location = \"s3://data/united/\"") && draft.contains("tailnum"), "{draft}");

    let said = run(&["source", "optimize", "p.toml", "--output", "s3://data/sorted/"]);
    assert_eq!(said.done(), "location = \"s3://data/sorted/\"\n");
    assert_eq!(store.keys(), ["sorted/part-00000.parquet", "united/UA.parquet"]);
    // Not where something is, nor among the source; and a source in a store has no usual goal.
    for (goal, status) in [(Some("s3://data/sorted/"), 1), (Some("s3://data/united/new/"), 1), (None, 2)] {
        let mut arguments = vec!["source", "optimize", "p.toml"];
        arguments.extend(goal.map(|goal| ["--output", goal]).into_iter().flatten());
        let refused = run(&arguments);
        assert_eq!(refused.status, status, "{}", refused.stderr);
    }
    assert_eq!(store.keys().len(), 2);
    write("p.toml", &policy("s3://data/sorted/"));
    assert!(run(&["source", "optimize", "p.toml", "--check"]).done().ends_with("in the layout\n"));
    // And back to this machine.
    let to = dir.path().join("near");
    run(&["source", "optimize", "p.toml", "--output", &to.display().to_string()]).done();
    assert!(to.join("part-00000.parquet").is_file());
    // What the store refuses is told without the keys.
    store.deny();
    let refused = run(&["policy", "check", "p.toml"]);
    assert_eq!(refused.status, 1);
    assert!(refused.stderr.contains("the store refuses it") && !refused.stderr.contains("hush"), "{}", refused.stderr);
}
