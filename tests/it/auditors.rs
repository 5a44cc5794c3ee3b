//! What an auditor, and anybody with a receipt, checks without trusting the server: through the program itself.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tollgate::config::Config;
use tollgate::ledger::Role;

use crate::fixture::{CONSUMER, Ran, Server, tollgate, united_with_room};

const COUNT: &str = "SELECT count(*) AS n FROM united.flights";

/// Runs the program in `dir`.
fn run(dir: &Path, arguments: &[&str]) -> Ran {
    Ran::of(tollgate(dir).args(arguments))
}

/// Runs the program in `dir`, as a client of `server`.
fn run_at(server: &Server, token: &str, dir: &Path, arguments: &[&str]) -> Ran {
    Ran::of(tollgate(dir).args(arguments).env("TOLLGATE_URL", &server.url).env("TOLLGATE_TOKEN", token))
}

/// Writes the configuration of a fixture where the program finds it.
fn configure(dir: &Path, config: &Config) {
    let policies = json!({ "dir": config.policies.dir, "locations": config.policies.locations });
    let audit = json!({ "key": config.audit.key, "anchor": config.audit.anchor });
    let document = json!({ "storage": { "url": config.storage.url }, "policies": policies, "audit": audit });
    let text = toml::to_string(&document).expect("TOML");
    fs::write(dir.join("tollgate.toml"), text).expect("written");
}

fn month(month: u32) -> Value {
    json!({ "sql": format!("SELECT count(*) AS n FROM united.flights WHERE month = {month}"), "epsilon": 0.1 })
}

#[test]
fn an_analyst_verifies_the_receipt_of_an_answer_offline() {
    let server = Server::over_united();
    let dir = server.dir();
    let answer = server.ask(&json!({ "sql": COUNT })).json();
    let index = answer["receipt"]["log_index"].as_u64().expect("an index");
    let receipt = server.send("GET", &format!("/v1/audit/proof/{index}"), &[], "");
    assert_eq!(receipt.json()["leaf_hash"].as_str().map(str::is_empty), Some(false));
    fs::write(dir.join("receipt.json"), &receipt.body).expect("written");
    let key = server.send("GET", "/v1/audit/key", &[], "");
    assert_eq!(key.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(key.text(), fs::read_to_string(dir.join("audit.key.pub")).expect("the key"));
    let verify = |file: &str| run(dir, &["audit", "verify", file, "--key", "audit.key.pub"]);
    assert!(verify("receipt.json").done().contains("verified"));
    let entry: Value = serde_json::from_str(receipt.json()["entry"].as_str().expect("an entry")).expect("JSON");
    assert_eq!((&entry["sql"], &entry["consumer"]), (&json!(COUNT), &json!(CONSUMER)));
    assert!(!receipt.text().contains(&format!("[[{}]]", answer["rows"][0][0])), "the answer is not in the log");

    // One letter of what was asked is another entry.
    let forged = receipt.text().replace("united.flights", "united.flightz");
    assert_ne!(forged, receipt.text());
    fs::write(dir.join("forged.json"), forged).expect("written");
    let ran = verify("forged.json");
    assert_eq!(ran.status, 1);
    assert!(ran.stderr.contains("wrong:"), "{}", ran.stderr);

    // The command writes the same kind of document, and another analyst has no receipt of it.
    let written = run_at(&server, &server.analyst, dir, &["audit", "proof", &index.to_string()]);
    fs::write(dir.join("again.json"), written.done()).expect("written");
    assert!(verify("again.json").done().contains("verified"));
    let other = server.consumer("rail-office", None);
    server.send_as(&other, "GET", &format!("/v1/audit/proof/{index}"), "").refused(404, "not_found");
    server.send("GET", "/v1/audit/proof/999999", &[], "").refused(404, "not_found");
    server.send("GET", "/v1/audit/proof/first", &[], "").refused(400, "request_invalid");
}

#[test]
fn exports_are_verified_against_an_old_checkpoint() {
    let server = Server::over_united();
    let dir = server.dir();
    let (auditor, steward) = (server.token(Role::Auditor, None, None), server.steward("united"));
    assert_eq!(server.ask(&month(1)).status, 200);
    let keep = |name: &str, ran: Ran| fs::write(dir.join(name), ran.done()).expect("written");
    keep("old.checkpoint", run_at(&server, &auditor, dir, &["audit", "checkpoint"]));
    let old = fs::read_to_string(dir.join("old.checkpoint")).expect("a note");
    let size = old.lines().nth(1).expect("a size").to_owned();
    for asked in 2..=4 {
        assert_eq!(server.ask(&month(asked)).status, 200);
    }
    keep("log.jsonl", run_at(&server, &auditor, dir, &["audit", "export"]));
    let verify =
        |arguments: &[&str]| run(dir, &[&["audit", "verify"], arguments, &["--key", "audit.key.pub"]].concat());
    assert!(verify(&["log.jsonl", "--checkpoint", "old.checkpoint"]).done().contains("verified"));

    let steward_export = ["audit", "export", "--dataset", "united.flights"];
    keep("flights.jsonl", run_at(&server, &steward, dir, &steward_export));
    assert!(verify(&["flights.jsonl"]).done().contains("verified"));
    assert!(fs::read_to_string(dir.join("flights.jsonl")).expect("text").contains("month = 4"));
    // An excerpt needs the proof that its checkpoint continues the old one; so does the newer checkpoint itself.
    let new = fs::read_to_string(dir.join("flights.jsonl")).expect("text");
    let header: Value = serde_json::from_str(new.lines().next().expect("a header")).expect("JSON");
    let newer = header["checkpoint"].as_str().expect("a note").lines().nth(1).expect("a size").to_owned();
    keep("proof.json", run_at(&server, &auditor, dir, &["audit", "consistency", "--old", &size, "--new", &newer]));
    let proven = ["flights.jsonl", "--checkpoint", "old.checkpoint", "--proof", "proof.json"];
    assert!(verify(&proven).done().contains("verified"));
    assert_eq!(verify(&["flights.jsonl", "--checkpoint", "old.checkpoint"]).status, 1);

    // What is taken out of either is missed.
    for (file, lines) in [("log.jsonl", 3), ("flights.jsonl", 2)] {
        let text = fs::read_to_string(dir.join(file)).expect("text");
        let cut: Vec<&str> = text.lines().enumerate().filter(|(at, _)| *at != lines).map(|(_, line)| line).collect();
        fs::write(dir.join("cut.jsonl"), cut.join("\n") + "\n").expect("written");
        assert_eq!(verify(&["cut.jsonl"]).status, 1, "{file}");
    }
    let wrong = |path: &str| server.send_as(&auditor, "GET", path, "");
    wrong("/v1/audit/consistency?old=5&new=4").refused(400, "request_invalid");
    wrong("/v1/audit/consistency?old=1&new=999999").refused(400, "request_invalid");
    wrong("/v1/audit/consistency").refused(400, "request_invalid");
    wrong("/v1/audit/export?dataset=united.sesame").refused(404, "not_found");
}

#[test]
fn the_operator_reads_the_same_log_from_the_storage() {
    let server = Server::over_united();
    let dir = server.dir();
    configure(dir, server.config());
    assert_eq!(server.ask(&month(1)).status, 200);
    let auditor = server.token(Role::Auditor, None, None);
    let at_storage: Value =
        serde_json::from_str(&run(dir, &["audit", "list", "--format", "json"]).done()).expect("JSON");
    let at_server: Value =
        serde_json::from_str(&run_at(&server, &auditor, dir, &["audit", "list", "--format", "json"]).done())
            .expect("JSON");
    assert_eq!(at_storage, at_server);
    assert!(at_storage["size"].as_u64().is_some_and(|size| size > 3), "{at_storage}");
    let table = run(dir, &["audit", "list", "--from", "1", "--limit", "2"]).done();
    assert!(table.contains("kind"), "{table}");
    fs::write(dir.join("log.jsonl"), run(dir, &["audit", "export"]).done()).expect("written");
    fs::write(dir.join("key"), run(dir, &["audit", "key"]).done()).expect("written");
    assert!(run(dir, &["audit", "verify", "log.jsonl", "--key", "key"]).done().contains("verified"));
    let checked = run(dir, &["ledger", "check"]).done();
    assert!(checked.contains("agrees with the checkpoint"), "{checked}");
}

#[test]
fn an_older_copy_opens_frozen_and_the_newest_is_served_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = united_with_room(dir.path());
    let database = dir.path().join("tollgate.db");
    configure(dir.path(), &config);
    let copy = |to: &str| {
        // With its journal: what is copied is a stopped ledger.
        let to = dir.path().join(to);
        fs::create_dir(&to).expect("a folder");
        for file in fs::read_dir(dir.path()).expect("a folder").map(|file| file.expect("a file").path()) {
            let name = file.file_name().expect("a name").to_string_lossy().into_owned();
            if name.starts_with("tollgate.db") {
                fs::copy(&file, to.join(name)).expect("a copy");
            }
        }
    };
    let restore = |from: &str| {
        for suffix in ["", "-wal", "-shm"] {
            let name = format!("tollgate.db{suffix}");
            let _ = fs::remove_file(dir.path().join(&name));
            let kept = dir.path().join(from).join(&name);
            if kept.exists() {
                fs::copy(kept, dir.path().join(name)).expect("restored");
            }
        }
        assert!(database.exists());
    };
    let first = Server::start(config.clone());
    let january = first.ask(&month(1)).json();
    first.stop();
    copy("older");
    let second = Server::start(config.clone());
    let auditor = second.token(Role::Auditor, None, None);
    assert_eq!(second.ask(&month(2)).status, 200);
    let analyst = second.analyst.clone();
    second.stop();
    copy("newest");

    restore("older");
    let frozen = Server::start_again(config.clone(), &analyst);
    // The old copy does not know this token, which is younger; the operator makes another.
    assert_eq!(frozen.ask(&month(1)).problem()["code"], "unauthenticated");
    let analyst_of_old = frozen.token(Role::Analyst, Some(CONSUMER), None);
    let refused = frozen.ask_as(&analyst_of_old, &month(1));
    let detail = refused.refused(503, "ledger_frozen");
    assert!(detail.contains("older copy") && detail.contains("nothing is answered"), "{detail}");
    let told = refused.problem()["hint"].as_str().expect("a hint").to_owned();
    assert!(told.contains("restores the newest copy"), "{told}");
    assert_eq!(frozen.send_bare("GET", "/readyz", &[], "").problem()["code"], "ledger_frozen");
    assert_eq!(frozen.send_bare("GET", "/healthz", &[], "").status, 200);
    // Nothing is changed and nothing is signed: no second history.
    let administrator = frozen.token(Role::BudgetAdmin, None, None);
    frozen
        .send_as(&administrator, "POST", &format!("/v1/consumers/{CONSUMER}/freeze"), "")
        .refused(503, "ledger_frozen");
    let watching = frozen.token(Role::Auditor, None, None);
    frozen.send_as(&watching, "GET", "/v1/audit/checkpoint", "").refused(503, "ledger_frozen");
    let checked = run(dir.path(), &["ledger", "check"]);
    assert_eq!(checked.status, 1);
    assert!(checked.stderr.contains("ledger_frozen"), "{}", checked.stderr);
    frozen.stop();

    restore("newest");
    let served = Server::start_again(config, &analyst);
    let again = served.ask(&month(1)).json();
    assert_eq!((&again["rows"], &again["privacy"]["cached"]), (&january["rows"], &json!(true)));
    assert_eq!(served.ask(&month(3)).status, 200);
    assert_eq!(served.send_as(&auditor, "GET", "/v1/audit", "").status, 200);
}

#[test]
fn a_backup_is_made_while_clients_charge() {
    let server = Server::over_united();
    let dir = server.dir();
    configure(dir, server.config());
    let backup = std::thread::scope(|scope| {
        let server = &server;
        let charge = move |client: u32| {
            for asked in 0..20 {
                let sql =
                    format!("SELECT count(*) AS n FROM united.flights WHERE dep_delay > {}", client * 100 + asked);
                let seen = server.ask(&json!({ "sql": sql, "epsilon": 0.05 }));
                assert_eq!(seen.status, 200, "{}", seen.text());
            }
        };
        let clients: Vec<_> = (0..3).map(|client| scope.spawn(move || charge(client))).collect();
        let backup = run(dir, &["ledger", "backup", "copy.db"]);
        for client in clients {
            client.join().expect("a client");
        }
        backup
    });
    backup.done();
    assert!(run(dir, &["ledger", "check"]).done().contains("agrees with itself"));
    let check = |copy: &str| run(dir, &["ledger", "check", "--copy", copy, "--format", "json"]);
    let report: Value = serde_json::from_str(&check("copy.db").done()).expect("JSON");
    let (entries, missing) = (report["log_entries"].as_u64(), report["missing"].as_u64());
    let now: Value = serde_json::from_str(&run(dir, &["audit", "list", "--format", "json"]).done()).expect("JSON");
    assert!(
        entries.zip(missing).is_some_and(|(entries, missing)| entries + missing <= now["size"].as_u64().unwrap_or(0))
    );
    assert!(missing.is_some_and(|missing| missing > 0), "clients went on after the copy: {report}");

    // Nothing is written over, and another gateway's ledger is no copy of this one.
    assert_eq!(run(dir, &["ledger", "backup", "copy.db"]).status, 1);
    let other = Server::over_united();
    assert_eq!(other.ask(&month(1)).status, 200);
    configure(other.dir(), other.config());
    let strange = dir.join("strange.db");
    run(other.dir(), &["ledger", "backup", &strange.display().to_string()]).done();
    let ran = check("strange.db");
    assert_eq!(ran.status, 1);
    assert!(ran.stderr.contains("is no copy of this ledger"), "{}", ran.stderr);
    assert_eq!(check("nothing.db").status, 1);
    assert!(!dir.join("nothing.db").exists(), "a check makes no file");
    // There is a checkpoint outside: nothing may take its place.
    let ran = run(dir, &["ledger", "adopt", "--reason", "I would like to"]);
    assert_eq!(ran.status, 1);
    assert!(ran.stderr.contains("there is a checkpoint outside"), "{}", ran.stderr);
}

#[test]
fn a_lost_checkpoint_is_adopted_by_the_operator_and_never_by_itself() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = united_with_room(dir.path());
    configure(dir.path(), &config);
    let server = Server::start(config.clone());
    assert_eq!(server.ask(&month(1)).status, 200);
    let analyst = server.analyst.clone();
    server.stop();
    fs::remove_file(&config.audit.anchor).expect("it was there");

    let frozen = Server::start_again(config.clone(), &analyst);
    let detail = frozen.ask(&month(1)).refused(503, "ledger_frozen");
    assert!(detail.contains("tollgate ledger adopt"), "{detail}");
    frozen.stop();
    assert!(!config.audit.anchor.exists(), "a frozen gateway writes none");

    run(dir.path(), &["ledger", "adopt", "--reason", "the disk has failed"]).done();
    let served = Server::start_again(config, &analyst);
    assert_eq!(served.ask(&month(1)).json()["privacy"]["cached"], true);
    let log = run(dir.path(), &["audit", "list", "--limit", "1000"]).done();
    assert!(log.contains("the disk has failed"), "it is in the log: {log}");
}
