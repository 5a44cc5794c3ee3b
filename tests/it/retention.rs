//! `[retention]`: what is old goes, by the server or by the command; what was spent, and the log, agree as before.

use std::fs;
use std::path::Path;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};
use tollgate::accounting::{Cost, Delta, Limit, Loss, Rho};
use tollgate::config::Config;
use tollgate::gateway::{Administration, Forgotten, Gateway};
use tollgate::ledger::{
    self, Account, AccountCharge, Actor, Charge, ChargeOutcome, Idempotency, QueryRecord, ReleaseKey, Scope,
};
use uuid::Uuid;

use crate::fixture::{CONSUMER, Ran, over, tollgate, united_copied_to};

/// A charge of forty days ago, under an idempotency key.
fn old_charge(number: u8) -> Charge {
    let line = |scope: Scope| AccountCharge {
        account: Account { scope, dataset: "united.flights".into(), window: "lifetime".into(), epoch: None },
        limit: Limit { loss: Loss::Zcdp(Rho::MAX), delta: Delta::MAX },
        cost: Cost { loss: Loss::Zcdp(Rho::from_steps(1_000)), delta: Delta::ZERO },
    };
    Charge {
        consumer: CONSUMER.into(),
        release: ReleaseKey([number; 32]),
        precision: 1_000,
        accounts: vec![line(Scope::Consumer(CONSUMER.into())), line(Scope::AllConsumers)],
        idempotency: Some(Idempotency { key: format!("key-{number}"), request_hash: [number; 32] }),
        query: QueryRecord {
            query_id: Uuid::from_u128(number.into()),
            sql: "SELECT count(*) FROM united.flights".into(),
            purpose: None,
            datasets: vec!["united.flights".into()],
            events: "[]".into(),
            summable: None,
        },
        at: Utc::now() - TimeDelta::days(40),
        reservation: None,
    }
}

async fn pay(config: &Config, number: u8) {
    let store = ledger::open(&config.storage.url).await.expect("the storage");
    if store.consumer(CONSUMER).await.expect("the storage").is_none() {
        store.add_consumer(CONSUMER, None, &Actor::command_line()).await.expect("a consumer");
    }
    let paid = store.charge(&old_charge(number)).await.expect("a charge");
    assert!(matches!(paid, ChargeOutcome::Charged { .. }), "{paid:?}");
}

/// Runs the program over the storage in `dir`, under a retention of so many days.
fn run(dir: &Path, days: Option<u32>, arguments: &[&str]) -> String {
    let mut command = tollgate(dir);
    if let Some(days) = days {
        command.env("TOLLGATE_RETENTION__IDEMPOTENCY_KEYS_DAYS", days.to_string());
    }
    Ran::of(command.args(arguments)).done()
}

/// The kinds of the log's entries from the place `from` on, with who they are by.
fn entries(dir: &Path, from: usize) -> Vec<(Value, Value)> {
    let export = run(dir, None, &["audit", "export"]);
    fs::write(dir.join("log.jsonl"), &export).expect("written");
    assert!(run(dir, None, &["audit", "verify", "log.jsonl", "--key", "audit.key.pub"]).contains("verified"));
    let listed: Value =
        serde_json::from_str(&run(dir, None, &["audit", "list", "--format", "json"])).expect("a document");
    let entry = |row: &Value| {
        let entry: Value = serde_json::from_str(row["entry"].as_str().expect("an entry")).expect("JSON");
        (entry["kind"].clone(), entry["by"].clone())
    };
    listed["entries"].as_array().expect("entries").iter().skip(from).map(entry).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_old_goes_by_the_server_and_by_the_command() {
    let dir = tempfile::tempdir().expect("a directory");
    let (policies, _) = united_copied_to(dir.path());
    let config = over(&policies, dir.path());
    pay(&config, 1).await;
    // A ledger that is not there is not made by looking for it.
    for arguments in [&["ledger", "check"][..], &["ledger", "forget"], &["report", "spend"]] {
        let mut command = tollgate(dir.path());
        command.env("TOLLGATE_STORAGE__URL", "sqlite://tolgate.db").args(arguments);
        let ran = Ran::of(&mut command);
        assert_eq!(ran.status, 1, "{}", ran.text());
        assert!(ran.stderr.contains("there is no ledger at"), "{}", ran.stderr);
    }
    assert!(!dir.path().join("tolgate.db").exists());
    let (path, size) = (dir.path(), entries(dir.path(), 0).len());

    // Nothing is set, or it is not old enough: nothing goes.
    assert!(run(path, None, &["ledger", "forget", "--yes"]).starts_with("everything is kept for ever"));
    assert_eq!(run(path, Some(41), &["ledger", "forget", "--yes"]), "nothing is old enough to be forgotten\n");
    // Without --yes it is only told.
    let told = "would be forgotten, with --yes: 1 idempotency keys\n";
    assert_eq!(run(path, Some(30), &["ledger", "forget"]), told);
    let document = run(path, Some(30), &["ledger", "forget", "--format", "json"]);
    let document: Value = serde_json::from_str(&document).expect("a document");
    assert_eq!(document["done"], json!(false));
    assert_eq!(document["forgotten"], json!(Forgotten { idempotency_keys: 1, ..Forgotten::default() }));
    assert_eq!(run(path, Some(30), &["ledger", "forget"]), told);
    assert_eq!(entries(path, size), []);

    // The command does it, and says so in the log.
    assert_eq!(run(path, Some(30), &["ledger", "forget", "--yes"]), "forgotten: 1 idempotency keys\n");
    assert_eq!(run(path, Some(30), &["ledger", "forget", "--yes"]), "nothing is old enough to be forgotten\n");
    assert_eq!(entries(path, size), [(json!("retention"), json!("operator"))]);
    assert!(run(path, None, &["ledger", "check"]).contains("1 charges"));

    // So does a gateway, by itself.
    pay(&config, 2).await;
    let mut config = config;
    config.retention.idempotency_keys_days = Some(30);
    let gateway = Gateway::open(&config).await.expect("a gateway");
    let administration = Administration::open(&config).await.expect("the storage");
    let left = async || administration.forgettable().await.expect("the storage").expect("a retention");
    for _ in 0..600 {
        if left().await.is_nothing() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(left().await.is_nothing());
    gateway.anchor().await.expect("a checkpoint");
    drop(gateway);
    let by_itself = (json!("retention"), json!("operator/settings"));
    assert!(entries(path, size).contains(&by_itself), "{:?}", entries(path, size));
    assert!(run(path, None, &["ledger", "check"]).contains("2 charges"));
}
