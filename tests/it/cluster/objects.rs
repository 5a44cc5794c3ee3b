//! A cluster over an object store: executors read objects with keys of their own, at the version that was charged.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tollgate::analysis::BoundsRequest;
use tollgate::catalog::{Catalog, Registered, Status};
use tollgate::config::Config;
use tollgate::engine::{Engine, EngineConfig};
use tollgate::policy::load_dir;
use tollgate::stores::Stores;

use super::processes::Cluster;
use super::sums::drawn;
use crate::fixture::{Server, over, repository};
use crate::object_store_server::{BUCKET, KEYS, ObjectStoreServer};

const COUNT: &str = "SELECT count(*) AS n FROM united.flights";

fn flights(airline: &str) -> PathBuf {
    repository().join(format!("tests/data/flights/{airline}.parquet"))
}

/// The policy of `united.flights` over `location`, alone in a folder in `dir`.
fn policies(dir: &Path, location: &str) -> PathBuf {
    let text = std::fs::read_to_string(repository().join("policies/airlines/united.flights.toml")).expect("a policy");
    let moved = text.replace("../../tests/data/flights/UA.parquet", location);
    assert_ne!(text, moved, "the policy names the file");
    let folder = dir.join("policies");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("united.flights.toml"), moved).expect("written");
    folder
}

/// The gateway of `cluster` over all that lies in the store under `united/`, with its storage in `dir`.
fn config(cluster: &Cluster, store: &ObjectStoreServer, dir: &Path) -> Config {
    let mut config = cluster.reads(over(&policies(dir, "s3://data/united/"), dir));
    config.stores.insert(BUCKET.to_owned(), store.settings(dir));
    config
}

/// A cluster of one executor, which finds its keys in the file that its configuration names.
fn cluster(store: &ObjectStoreServer, dir: &Path) -> Cluster {
    let mut cluster = Cluster::of(0);
    let file = dir.join("executor.toml");
    std::fs::write(&file, store.section(dir)).expect("written");
    cluster.add_executor_with(&["--config", &file.to_string_lossy()], &[]);
    cluster.wait_for(1);
    cluster
}

fn question(sql: &str) -> Value {
    json!({ "sql": sql, "epsilon": 0.5, "purpose": "statistics" })
}

#[test]
fn objects_are_summed_by_a_cluster_as_files_are_by_one_process_and_charged_once() {
    let (store, dir) = (ObjectStoreServer::start(), tempfile::tempdir().expect("a folder"));
    store.put("united/UA.parquet", &flights("UA"));
    store.put("united/B6.parquet", &flights("B6"));
    let mut cluster = cluster(&store, dir.path());
    let near = dir.path().join("near");
    std::fs::create_dir(&near).expect("a folder");
    for airline in ["UA", "B6"] {
        std::fs::copy(flights(airline), near.join(format!("{airline}.parquet"))).expect("copied");
    }
    let here = policies(&near, &near.display().to_string());
    let config = config(&cluster, &store, dir.path());
    let there = load_dir(&config.policies.dir).expect("a policy").into_iter();
    let there = there.map(|policy| Registered::new(policy, Status::Active, Vec::new())).collect();
    let stores = Stores::new(config.stores.clone());
    let here = Catalog::load(&here).expect("a catalog");
    let there = Catalog::over(stores.clone(), there, None).expect("a catalog");
    let local = Engine::new(&EngineConfig::default()).expect("an engine");
    let options = Some(cluster.options());
    let spread = Engine::new(&EngineConfig { cluster: options, stores, ..EngineConfig::default() }).expect("an engine");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let same = |sql: &str| {
        let bounds = BoundsRequest::default();
        let here = runtime.block_on(drawn(&local, &here, sql, &bounds)).expect("a draw");
        let there = runtime.block_on(drawn(&spread, &there, sql, &bounds)).expect("a draw");
        assert!(!here.is_empty());
        assert_eq!(here, there, "{sql}");
    };
    same("SELECT origin, count(*), sum(dep_delay), count(distinct tailnum) FROM united.flights GROUP BY origin");
    // Whole row groups and pages are passed over by the filter.
    same("SELECT avg(distance) FROM united.flights WHERE month = 7");

    let server = Server::start(config);
    let answer = server.ask(&question(COUNT)).json();
    assert_eq!(answer["privacy"]["cached"], json!(false));
    let once = server.budget();
    let again = server.ask(&question(COUNT)).json();
    assert_eq!((&again["rows"], &again["privacy"]["cached"]), (&answer["rows"], &json!(true)));
    assert_eq!(server.budget(), once);

    // An executor whose own environment holds the keys.
    cluster.executors.pop().expect("an executor").stop();
    let endpoint = format!("http://{}", store.relay().address);
    let [id, secret] = KEYS;
    let variables = [
        ("AWS_ACCESS_KEY_ID", id),
        ("AWS_SECRET_ACCESS_KEY", secret),
        ("AWS_ENDPOINT_URL", &endpoint),
        ("AWS_ALLOW_HTTP", "true"),
    ];
    cluster.add_executor_with(&[], &variables);
    cluster.wait_for(1);
    same("SELECT month, count(*) FROM united.flights WHERE origin = 'EWR' GROUP BY month");
}

#[test]
fn an_object_that_is_replaced_before_an_executor_reads_it_is_never_answered_from() {
    let (store, dir) = (ObjectStoreServer::start(), tempfile::tempdir().expect("a folder"));
    store.put("united/UA.parquet", &flights("UA"));
    let cluster = cluster(&store, dir.path());
    let server = Server::start(config(&cluster, &store, dir.path()));
    // The gateway knows the footer after this, so that the next request for the object is the executor's.
    server.ask(&json!({ "sql": COUNT, "epsilon": 0.5, "dry_run": true })).json();
    let before = server.budget();
    let other = std::fs::read(flights("B6")).expect("a file");
    store.relay().on_request("GET /data/united/UA.parquet", store.putting("united/UA.parquet", other));
    let detail = server.ask(&question(COUNT)).refused(500, "internal");
    assert!(store.relay().is_done());
    assert!(!detail.contains("united/") && !detail.contains("s3"), "{detail}");
    let once = server.budget();
    assert_ne!(once, before);
    // What is there now is another version, and is answered.
    assert_eq!(server.ask(&question(COUNT)).json()["privacy"]["cached"], json!(false));
    assert_ne!(server.budget(), once);
}

#[test]
fn an_executor_without_keys_fails_the_question_at_once_and_it_is_charged_once() {
    let (store, dir) = (ObjectStoreServer::start(), tempfile::tempdir().expect("a folder"));
    store.put("united/UA.parquet", &flights("UA"));
    let mut cluster = Cluster::of(0);
    let file = dir.path().join("executor.toml");
    std::fs::write(&file, "[stores.data]\ncredentials_file = \"nowhere\"\n").expect("written");
    cluster.add_executor_with(&["--config", &file.to_string_lossy()], &[]);
    cluster.wait_for(1);
    let server = Server::start(config(&cluster, &store, dir.path()));
    // Not 504: it is told that it failed.
    let detail = server.ask(&question(COUNT)).refused(500, "internal");
    assert!(!detail.contains("nowhere") && !detail.contains("data"), "{detail}");
    let once = server.budget();
    // With one that has keys the same question is answered, and costs no more.
    cluster.executors.pop().expect("an executor").stop();
    std::fs::write(&file, store.section(dir.path())).expect("written");
    cluster.add_executor_with(&["--config", &file.to_string_lossy()], &[]);
    cluster.wait_for(1);
    server.ask(&question(COUNT)).json();
    assert_eq!(server.budget(), once);
}
