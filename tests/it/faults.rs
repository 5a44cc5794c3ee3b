//! The ledger over a disk that fails: at every write and every sync, one after the other, with an I/O error, with a full disk,
//! and with a write that is torn in the middle as by a power cut.
//!
//! A layer in C (`tests/faults/faults.c`) stands between a charging process and the system. Whatever it does, what the
//! process was told is charged is there afterwards, and the ledger agrees with itself or says that it does not.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use tollgate::ledger::{Actor, ChargeId, ChargeOutcome, LedgerError, open};

use crate::fixture::repository;
use crate::ledger_races::{COST, UNLIMITED, all_spent, charge, say, url};

/// The folder of the ledger that [`charger`] charges in, if this process is one.
const FOLDER: &str = "TOLLGATE_LEDGER_FAULT_FOLDER";

/// How many charges a process makes: enough for each of the calls of a charge, and for a checkpoint of the WAL.
const CHARGES: u64 = 12;

/// Not a test of its own: the process whose writes fail. It says what it was told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn charger() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let store = match open(&url(Path::new(&folder))).await {
        Ok(store) => store,
        Err(error) => return say(&format!("not opened: {error}")),
    };
    for name in ["a", "b"] {
        match store.add_consumer(name, None, &Actor::command_line()).await {
            Ok(()) | Err(LedgerError::ConsumerExists { .. }) => {}
            Err(error) => say(&format!("failed: {error}")),
        }
    }
    for n in 0..CHARGES {
        let charge = charge(if n % 2 == 0 { "a" } else { "b" }, n, UNLIMITED, UNLIMITED);
        match store.charge(&charge).await {
            Ok(ChargeOutcome::Charged { charge_id, .. } | ChargeOutcome::AlreadyPaid { charge_id, .. }) => {
                say(&format!("charged {charge_id} {n}"));
                // Long enough to be written over several pages.
                let payload = vec![n as u8; 9000];
                match store.keep_release(charge.release, COST, charge_id, &payload, "{}").await {
                    Ok(_) => say(&format!("kept {charge_id} {n}")),
                    Err(error) => say(&format!("failed: {error}")),
                }
            }
            Ok(ChargeOutcome::Refused { .. }) => panic!("nothing is limited"),
            Err(error) => say(&format!("failed: {error}")),
        }
    }
    // The WAL is written back as the last connection closes.
    drop(store);
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    say("done");
}

/// The layer, compiled.
fn layer() -> &'static Path {
    static LAYER: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = LAYER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("faults.so");
        let source = repository().join("tests/faults/faults.c");
        let compiled =
            Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&path).arg(source).arg("-ldl").status();
        assert!(compiled.unwrap().success());
        (folder, path)
    });
    path
}

/// Runs the charging process with its `at`-th write or sync failing as `mode` says. Whether it was told of any fault, or ended
/// by it.
async fn one(mode: &str, at: u64) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let charger = format!("{}::charger", module_path!().split_once("::").map_or("", |(_, module)| module));
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", charger.trim_start_matches("::"), "--nocapture"])
        .env(FOLDER, folder.path())
        .env("LD_PRELOAD", layer())
        .env("FAULT_PATH", "ledger.db")
        .env("FAULT_AT", at.to_string())
        .env("FAULT_MODE", mode)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let died = output.status.code() == Some(137);
    assert!(died || output.status.success(), "{mode} {at}: {said}{}", String::from_utf8_lossy(&output.stderr));

    // The disk is well again.
    let store = match open(&url(folder.path())).await {
        Ok(store) => store,
        Err(error) => panic!("{mode} {at}: the ledger does not open again: {error}"),
    };
    let mut charged = 0;
    for line in said.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let ["charged" | "kept", charge_id, n] = words[..] else { continue };
        let (Ok(charge_id), Ok(n)) = (charge_id.parse(), n.parse::<u64>()) else { continue };
        let costs = store.costs_of(ChargeId(charge_id)).await;
        assert_eq!(costs.expect("what was told is there")[0].1.loss.steps(), COST, "{mode} {at}: {line}");
        if words[0] == "kept" {
            let key = charge("a", n, 0, 0).release;
            let held = store.held_release(key, COST).await.unwrap().expect("what was kept is there");
            assert_eq!(held.payload, vec![n as u8; 9000], "{mode} {at}: {line}");
        } else {
            charged += 1;
        }
    }
    let report = store.check().await.unwrap_or_else(|error| panic!("{mode} {at}: {error}\n{said}"));
    assert!(report.charges >= charged, "{mode} {at}: {report:?}\n{said}");
    assert_eq!(all_spent(&*store).await, report.charges * COST, "{mode} {at}");
    died || said.contains("failed: ") || said.contains("not opened: ")
}

/// Every write and sync fails once, up to the first number that no call has any more.
async fn at_every_call(mode: &str) {
    let (mut at, mut met, mut quiet) = (1, 0, 0);
    // A fault while the WAL is written back at the end is told to nobody: the end is where many in turn are quiet.
    while quiet < 12 {
        if one(mode, at).await {
            met += 1;
            quiet = 0;
        } else {
            quiet += 1;
        }
        at += 1;
    }
    assert!(met > 60, "{mode}: only {met} of {at} faults were met");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_io_error_at_every_write_loses_nothing_that_was_told() {
    at_every_call("eio").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fills_up_at_every_write_loses_nothing_that_was_told() {
    at_every_call("enospc").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_write_at_every_call_loses_nothing_that_was_told() {
    at_every_call("torn").await;
}
