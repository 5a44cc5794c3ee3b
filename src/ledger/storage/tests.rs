//! What only one storage can be asked: how PostgreSQL reads; of SQLite faults, damage, other processes' locks, and what is in the file.

use std::time::{Duration, Instant};

use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection, Executor};
use tempfile::TempDir;

use super::super::tests::{OPERATOR, all_consumers_account, charge_on, consumer_account};
use super::super::*;
use super::database::{Connection as Writing, Statement, Value, positional};
use super::lists;
use super::opening::{Target, path_of};
use super::{PATIENCE, Storage};

const FLIGHTS: &str = "united.flights";

/// A ledger of its own with the consumer `dot`.
async fn ledger(patience: Duration) -> (TempDir, Storage) {
    let folder = tempfile::tempdir().unwrap();
    let target = Target::sqlite(&folder.path().join("ledger.db"), patience);
    let store = Storage::open_with(target, patience).await.unwrap();
    store.add_consumer("dot", None, &OPERATOR).await.unwrap();
    (folder, store)
}

/// The connection that writes.
fn sqlite(slot: &mut Option<Writing>) -> &mut SqliteConnection {
    match slot.as_mut() {
        Some(Writing::Sqlite(connection)) => connection,
        _ => panic!("no connection"),
    }
}

/// A connection of somebody else's to the same file.
async fn stranger(folder: &TempDir) -> SqliteConnection {
    SqliteConnection::connect(&format!("sqlite://{}", folder.path().join("ledger.db").display())).await.unwrap()
}

fn charge(release: u8, rho: u64) -> Charge {
    charge_on(FLIGHTS, "dot", release, rho)
}

#[tokio::test]
async fn a_busy_ledger_charges_nothing() {
    let (folder, store) = ledger(Duration::from_millis(50)).await;
    let mut other = stranger(&folder).await;
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    let error = store.charge(&charge(1, 1)).await.unwrap_err();
    assert!(matches!(error, LedgerError::Busy), "{error:?}");
    // Readers do not wait for a writer.
    let started = Instant::now();
    assert_eq!(store.spent(&[consumer_account("dot", FLIGHTS)]).await.unwrap(), [None]);
    assert!(started.elapsed() < PATIENCE);
    other.execute("ROLLBACK").await.unwrap();
    assert!(matches!(store.charge(&charge(1, 1)).await.unwrap(), ChargeOutcome::Charged { .. }));
    store.check().await.unwrap();
}

#[tokio::test]
async fn a_turn_that_never_comes_is_given_up() {
    let (_folder, store) = ledger(Duration::from_millis(50)).await;
    let turn = store.write("waiting").await.unwrap();
    let error = store.charge(&charge(1, 1)).await.unwrap_err();
    assert!(matches!(error, LedgerError::Busy), "{error:?}");
    drop(turn);
    // The dropped turn's transaction is rolled back with its connection; its lock may take a moment to go.
    let mut outcome = store.charge(&charge(1, 1)).await;
    while matches!(outcome, Err(LedgerError::Busy)) {
        outcome = store.charge(&charge(1, 1)).await;
    }
    assert!(matches!(outcome.unwrap(), ChargeOutcome::Charged { .. }));
}

#[tokio::test]
async fn a_full_disk_charges_nothing() {
    let (_folder, store) = ledger(PATIENCE).await;
    // Long texts, so that every statement of the charge needs pages of its own.
    let mut long = charge_on(&"d".repeat(9000), "dot", 2, 1);
    long.query.sql = "x".repeat(20_000);
    let accounts: Vec<Account> = long.accounts.iter().map(|line| line.account.clone()).collect();
    let mut failures = 0;
    loop {
        // A write that changes nothing, so that there is a connection; a new one has no limit.
        store.set_frozen("dot", false, &OPERATOR).await.unwrap();
        let mut slot = store.writer.slot.lock().await;
        let writer = sqlite(&mut slot);
        let pages: i64 = sqlx::query_scalar("PRAGMA page_count").fetch_one(&mut *writer).await.unwrap();
        // One page more of room each time: the failure comes at one statement after another, until there is none.
        let limit = sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {}", pages + failures));
        writer.execute(limit).await.unwrap();
        drop(slot);
        match store.charge(&long).await {
            Ok(outcome) => {
                assert!(matches!(outcome, ChargeOutcome::Charged { .. }), "{outcome:?}");
                break;
            }
            Err(error) => assert!(matches!(error, LedgerError::Storage { .. }), "{error:?}"),
        }
        failures += 1;
        assert_eq!(store.spent(&accounts).await.unwrap(), [None, None]);
        assert_eq!(store.has_paid("dot", long.release, 1).await.unwrap(), None);
        assert_eq!(store.check().await.unwrap().charges, 0);
    }
    assert!(failures > 10, "{failures}");
    assert_eq!(store.check().await.unwrap().charges, 1);
}

#[tokio::test]
async fn a_commit_that_fails_is_an_error_and_never_a_no() {
    let (_folder, store) = ledger(PATIENCE).await;
    let mut writer = store.writer.slot.lock().await;
    sqlite(&mut writer).lock_handle().await.unwrap().set_commit_hook(|| false);
    drop(writer);
    let error = store.charge(&charge(1, 1)).await.unwrap_err();
    assert!(matches!(error, LedgerError::CommitUnknown { .. }), "{error:?}");
    // That connection is not used again.
    assert!(store.writer.slot.lock().await.is_none());
    assert!(matches!(store.charge(&charge(1, 1)).await.unwrap(), ChargeOutcome::Charged { .. }));
    assert_eq!(store.check().await.unwrap().charges, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_charge_is_whole_or_not_there() {
    let (_folder, store) = ledger(PATIENCE).await;
    let store = Arc::new(store);
    for attempt in 0..150_u64 {
        let store = Arc::clone(&store);
        let task = tokio::spawn(async move {
            let mut charge = charge(u8::try_from(attempt).unwrap(), 1);
            charge.accounts.iter_mut().for_each(|line| {
                line.limit = crate::accounting::Limit::from_budget(
                    crate::accounting::Accounting::Zcdp,
                    crate::accounting::Epsilon::floor_from(1.0).unwrap(),
                    crate::accounting::Delta::floor_from(1e-6).unwrap(),
                );
            });
            store.charge(&charge).await
        });
        tokio::time::sleep(Duration::from_micros(attempt * 10)).await;
        task.abort();
        let _ = task.await;
    }
    // The store still works; and what was waiting when its task was cancelled is done before a charge that waits behind it.
    store.charge(&charge(200, 1)).await.unwrap();
    let report = store.check().await.unwrap();
    assert_eq!(report.lines, 2 * report.charges);
    // Its sums are those of the charges that are there.
    let spent = store.spent(&[all_consumers_account(FLIGHTS)]).await.unwrap()[0].map_or(0, |spent| spent.loss.steps());
    assert_eq!(spent, report.charges);
}

#[tokio::test]
async fn what_was_spent_cannot_be_taken_back() {
    let (folder, store) = ledger(PATIENCE).await;
    let ChargeOutcome::Charged { charge_id, .. } = store.charge(&charge(1, 5)).await.unwrap() else { panic!() };
    store.keep_release(ReleaseKey([1; 32]), 5, charge_id, b"answer", "{}").await.unwrap();
    let mut other = stranger(&folder).await;
    for theft in [
        "UPDATE accounts SET loss_steps = loss_steps - 1",
        "UPDATE accounts SET delta_steps = 0",
        "UPDATE accounts SET storage_key = 'elsewhere' WHERE id = 1",
        "DELETE FROM accounts",
        "UPDATE charges SET precision = 9",
        "DELETE FROM charges",
        "UPDATE charge_lines SET loss_steps = 1",
        "DELETE FROM charge_lines",
        "UPDATE held_releases SET payload = x'00'",
        "DELETE FROM held_releases",
        "INSERT INTO charge_lines VALUES (99, 1, 'zcdp', 1, 0, 'zcdp', 1)",
        "INSERT INTO accounts VALUES (NULL, 'k', 'consumer', 'dot', 'd', 'w', 'zcdp', -1, 0, NULL)",
        "INSERT INTO accounts VALUES (NULL, 'k', 'consumer', 'dot', 'd', 'w', 'zcdp', 0.5, 0, NULL)",
        "UPDATE log_entries SET entry = '{}'",
        "DELETE FROM log_entries",
        "DELETE FROM log_nodes",
        "DELETE FROM log_datasets",
        "UPDATE state SET log_size = log_size - 1",
        "DELETE FROM state",
    ] {
        assert!(other.execute(theft).await.is_err(), "{theft}");
    }
    store.check().await.unwrap();
}

#[tokio::test]
async fn a_check_finds_what_does_not_agree() {
    for (damage, finding) in [
        ("UPDATE accounts SET loss_steps = loss_steps + 1 WHERE id = 1", "sums of an account"),
        ("UPDATE accounts SET delta_steps = delta_steps + 1 WHERE id = 2", "sums of an account"),
        ("DROP TRIGGER charge_lines_remain; DELETE FROM charge_lines WHERE account = 1", "no line of its consumer"),
        ("DROP TRIGGER charges_stay; UPDATE charges SET outcome = 'shared'", "shared comes before"),
        ("DROP TRIGGER charges_stay; UPDATE charges SET precision = 6", "held release"),
        ("DROP TRIGGER charge_lines_stay; UPDATE charge_lines SET loss_kind = 'pure'", "another measure"),
        ("PRAGMA foreign_keys = OFF; DROP TRIGGER charges_remain; DELETE FROM charges", "not there"),
        ("DROP TRIGGER charges_stay; UPDATE charges SET sql = 'SELECT 1'", "charge 1 is not what the log says"),
        ("DROP TRIGGER held_releases_stay; UPDATE held_releases SET payload = x'00'", "not the one that was drawn"),
        (
            "DROP TRIGGER log_entries_stay; UPDATE log_entries SET entry = replace(entry, 'dot', 'fed')",
            "entry 0 of the log was changed",
        ),
        (
            "PRAGMA foreign_keys = OFF; DROP TRIGGER log_entries_remain; DELETE FROM log_entries WHERE idx = 1",
            "the log has no entry 1",
        ),
        (
            "PRAGMA foreign_keys = OFF; DROP TRIGGER log_entries_remain; DELETE FROM log_entries WHERE idx = 2",
            "entries were dropped",
        ),
        ("DROP TRIGGER log_nodes_stay; UPDATE log_nodes SET hash = zeroblob(32)", "of the log is wrong"),
        ("INSERT INTO log_nodes VALUES (9, 9, zeroblob(32))", "nodes of no entries"),
        ("UPDATE consumers SET frozen = 1", "consumer dot is not what the log says"),
        ("UPDATE consumers SET agency = 'health'", "consumer dot is not what the log says"),
        (
            "INSERT INTO tokens (id, secret_sha256, role, created_us) VALUES ('t', zeroblob(32), 'operator', 9000000000000000)",
            "token t is not what the log says",
        ),
        (
            "INSERT INTO grants VALUES ('dot', 'united.flights', 5, 5, 'month', 9000000000000000)",
            "the grant of dot on united.flights is not what the log says",
        ),
        (
            "DROP TRIGGER log_datasets_remain; DELETE FROM log_datasets WHERE idx = 1",
            "entry 1 of the log is not filed under its datasets",
        ),
        ("INSERT INTO log_datasets VALUES ('delta.flights', 1)", "filed under a dataset that it is not about"),
        (
            "DROP TRIGGER log_entries_stay; UPDATE log_entries SET kind = 'token' WHERE idx = 1",
            "filed under another kind",
        ),
        ("DROP TRIGGER charges_stay; UPDATE charges SET agency = 'health'", "charge 1 is not what the log says"),
        ("DROP TRIGGER charges_stay; UPDATE charges SET events = '[1]'", "charge 1 is not what the log says"),
        ("DROP TRIGGER charges_stay; UPDATE charges SET log_index = NULL", "charge 1 is not what the log says"),
    ] {
        let (folder, store) = ledger(PATIENCE).await;
        let ChargeOutcome::Charged { charge_id, .. } = store.charge(&charge(1, 5)).await.unwrap() else { panic!() };
        store.keep_release(ReleaseKey([1; 32]), 5, charge_id, b"answer", "{}").await.unwrap();
        store.check().await.unwrap();
        stranger(&folder).await.execute(damage).await.unwrap();
        match store.check().await {
            Err(LedgerError::Inconsistent { findings }) => {
                assert!(findings.iter().any(|found| found.contains(finding)), "{damage}: {findings:?}");
            }
            other => panic!("{damage}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_alone() {
    let (folder, store) = ledger(PATIENCE).await;
    drop(store);
    let insert = "INSERT INTO _sqlx_migrations VALUES (9999, 'from the future', CURRENT_TIMESTAMP, TRUE, x'00', 1)";
    stranger(&folder).await.execute(insert).await.unwrap();
    let error = open(&format!("sqlite://{}", folder.path().join("ledger.db").display())).await.err().unwrap();
    assert!(matches!(error, LedgerError::SchemaTooNew { found: 9999, known: 4, .. }), "{error:?}");
    assert!(error.to_string().contains("run the newer Tollgate"), "{error}");
}

#[tokio::test]
async fn a_schema_that_was_tampered_with_is_refused() {
    let (folder, store) = ledger(PATIENCE).await;
    drop(store);
    stranger(&folder).await.execute("UPDATE _sqlx_migrations SET checksum = x'00'").await.unwrap();
    let error = open(&format!("sqlite://{}", folder.path().join("ledger.db").display())).await.err().unwrap();
    assert!(matches!(error, LedgerError::Migration { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_new_ledger_may_be_opened_by_many_at_once() {
    for _ in 0..5 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        let opened = (0..8).map(|n| {
            let path = path.clone();
            tokio::spawn(async move {
                let store = open(&format!("sqlite://{}", path.display())).await.unwrap();
                store.add_consumer(&format!("c{n}"), None, &OPERATOR).await.unwrap();
            })
        });
        for task in opened.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        assert_eq!(open(&format!("sqlite://{}", path.display())).await.unwrap().consumers().await.unwrap().len(), 8);
    }
}

#[tokio::test]
async fn the_file_holds_no_secret_and_is_its_users_alone() {
    let (folder, store) = ledger(PATIENCE).await;
    let new = NewToken { role: Role::Analyst, consumer: Some("dot".into()), owner: None };
    let (id, secret) = store.create_token(&new, &OPERATOR).await.unwrap();
    let mut seen_id = false;
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let holds = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
        assert!(!holds(&secret.expose().as_bytes()[3..]), "{path:?}");
        let raw: Vec<u8> =
            (3..67).step_by(2).map(|at| u8::from_str_radix(&secret.expose()[at..at + 2], 16).unwrap()).collect();
        assert!(!holds(&raw), "{path:?}");
        seen_id |= holds(id.to_string().as_bytes());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{path:?}");
        }
    }
    // The look into the files would have found the secret, had it been there.
    assert!(seen_id);
}

#[tokio::test]
async fn every_connection_is_durable() {
    let (_folder, store) = ledger(PATIENCE).await;
    let pragma = async |writer: &mut SqliteConnection, query: &'static str| -> String {
        sqlx::query_scalar(query).fetch_one(writer).await.unwrap()
    };
    // The first connection that writes, and the one that takes its place.
    for _ in 0..2 {
        store.set_frozen("dot", false, &OPERATOR).await.unwrap();
        let mut slot = store.writer.slot.lock().await;
        let writer = sqlite(&mut slot);
        assert_eq!(pragma(writer, "SELECT journal_mode FROM pragma_journal_mode").await, "wal");
        assert_eq!(pragma(writer, "SELECT CAST(synchronous AS TEXT) FROM pragma_synchronous").await, "2");
        assert_eq!(pragma(writer, "SELECT CAST(foreign_keys AS TEXT) FROM pragma_foreign_keys").await, "1");
        *slot = None;
    }
    // Readers cannot write.
    let mut reader = store.readers.get().await.unwrap();
    assert!(Statement::new("DELETE FROM grants").execute(reader.on(), "testing").await.is_err());
}

#[tokio::test]
async fn urls_that_are_not_files_are_refused() {
    for url in [
        "sqlite::memory:",
        "sqlite://:memory:",
        "sqlite://",
        "sqlite://file:x?mode=memory",
        "sqlite://x?mode=memory",
        "mysql://user:hunter2@host/db",
        "ledger.db",
        "",
    ] {
        let error = open(url).await.err().unwrap();
        assert!(matches!(error, LedgerError::UnsupportedUrl { .. }), "{url}: {error:?}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    assert_eq!(path_of("sqlite://a b/tollgate.db").unwrap().to_str(), Some("a b/tollgate.db"));
    assert_eq!(path_of("sqlite:///var/lib/tollgate.db").unwrap().to_str(), Some("/var/lib/tollgate.db"));
    let error = open("sqlite:///no/such/folder/tollgate.db").await.err().unwrap();
    assert!(matches!(error, LedgerError::Open { .. }), "{error:?}");
}

#[test]
fn parameters_in_order_need_no_names() {
    let said = |sql: &str| positional(sql.to_owned().into()).into_owned();
    assert_eq!(said("INSERT INTO t VALUES ($1, $2), ($3, $4) "), "INSERT INTO t VALUES (?, ?), (?, ?) ");
    assert_eq!(said("SELECT 1"), "SELECT 1");
    // Twice, or out of order: only names say which is which.
    for named in ["SELECT $1, $1", "SELECT $2, $1", "SELECT $2", "SELECT '$' || $1"] {
        assert_eq!(said(named), named);
    }
}

/// Rows and values in lists of every length round the lengths that have a text: all arrive, each once.
#[tokio::test]
async fn lists_of_any_length_are_written_and_found() {
    let (_folder, store) = ledger(PATIENCE).await;
    let mut slot = store.writer.slot.lock().await;
    let connection = slot.as_mut().unwrap();
    let row = |at: i64| vec![format!("a{at}").into(), at.into(), Value::Int(Some(7))];
    let insert = |rows: Vec<Vec<Value>>| {
        Statement::insert("INSERT INTO alerts (account_key, threshold_percent, at_us)", 3, rows, "")
    };
    let mut next = 0;
    for count in [0, 1, 2, 4, 5, 16, 17, 64, 65, 255, 256, 257, 600, 3000] {
        let rows = (next..next + count).map(row).collect();
        assert_eq!(insert(rows).execute(connection.on(), "testing").await.unwrap(), u64::try_from(count).unwrap());
        let keys = (next..next + count).map(|at| Value::from(format!("a{at}")));
        let found =
            Statement::within("SELECT threshold_percent, at_us FROM alerts WHERE account_key", keys, "ORDER BY 1");
        let found = found.fetch_all(connection.on(), "testing").await.unwrap();
        let found: Vec<i64> = found.iter().map(|row| row.int(0).unwrap()).collect();
        assert_eq!(found, (next..next + count).collect::<Vec<_>>());
        next += count;
    }
    // What a list is filled up with is left out, so that nothing else may look like it; and nothing of such a list is written.
    let rows = vec![row(next), vec![Value::Text(None), 1.into(), 7.into()]];
    let error = insert(rows).execute(connection.on(), "testing").await.unwrap_err();
    assert!(matches!(error, LedgerError::Corrupt { .. }), "{error:?}");
    let all = Statement::new("SELECT count(*), sum(threshold_percent) FROM alerts");
    let all = all.fetch_one(connection.on(), "testing").await.unwrap();
    assert_eq!((all.int(0).unwrap(), all.int(1).unwrap()), (next, (0..next).sum()));
}

#[test]
fn a_list_of_any_length_has_one_of_few_texts() {
    let values = |count: usize| vec![Value::from(1); count];
    let mut texts = std::collections::BTreeSet::new();
    for count in 1..=256 {
        let (text, given, kept) = lists::sqlite_within("x", values(count), "");
        assert!(kept && given.len() >= count, "{count}");
        texts.insert(text);
        for (text, given) in lists::sqlite_rows("INSERT INTO t (a, b)", 2, values(2 * count), "").unwrap() {
            assert_eq!(text.matches('?').count(), given.len());
            texts.insert(text);
        }
        texts.insert(lists::postgres_within("x", values(count), "").unwrap().0);
        texts.insert(lists::postgres_rows("INSERT INTO t (a, b)", 2, values(2 * count), "").unwrap().0);
    }
    assert_eq!(texts.len(), 5 + 5 + 1 + 1, "{texts:?}");
    let (text, given, kept) = lists::sqlite_within("x", values(257), "");
    assert_eq!((text.matches('?').count(), given.len(), kept), (257, 257, false));
    assert_eq!(lists::sqlite_within("x", Vec::new(), "y").0, "x IN (NULL) y");
    // A column of two types is no array.
    let uneven = vec![Value::from(1), Value::from("a"), Value::from(2), Value::from(3)];
    assert!(lists::postgres_rows("INSERT INTO t (a, b)", 2, uneven, "").is_err());
    assert!(lists::sqlite_rows("INSERT INTO t (a, b)", 2, values(3), "").is_err());
}

#[tokio::test]
async fn to_look_at_a_ledger_makes_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let url = format!("sqlite://{}", path.display());
    let none = open_existing(&url).await.err();
    assert!(
        matches!(&none, Some(LedgerError::NoLedger { path: named }) if *named == path.display().to_string()),
        "{none:?}"
    );
    assert!(!path.exists());
    // A folder and an empty file are none either.
    std::fs::write(&path, "").unwrap();
    assert!(matches!(open_existing(&url).await.err(), Some(LedgerError::NoLedger { .. })));
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
    let folder_itself = open_existing(&format!("sqlite://{}", folder.path().display())).await.err();
    assert!(matches!(folder_itself, Some(LedgerError::NoLedger { .. })));
    // One that was made is looked at.
    drop(open(&url).await.unwrap());
    open_existing(&url).await.unwrap().check().await.unwrap();
}

/// How often the server read `charges` whole, and by an index, in all sessions that have ended.
async fn scans(server: &str) -> (i64, i64) {
    let mut connection = sqlx::PgConnection::connect(server).await.unwrap();
    let counted = "SELECT seq_scan, coalesce(idx_scan, 0) FROM pg_stat_user_tables \
                   WHERE relname = 'charges' AND schemaname = current_schema()";
    let row: (i64, i64) = sqlx::query_as(counted).fetch_one(&mut connection).await.unwrap();
    row
}

#[tokio::test]
async fn postgres_finds_charges_by_index_however_few_there_were_when_it_planned() {
    let server = super::super::tests::postgres("charges by index").await;
    let store = Storage::open(&server).await.unwrap();
    store.add_consumer("dot", None, &OPERATOR).await.unwrap();
    drop(store);
    // What making the schema read is counted soon after its connection is gone.
    let mut before = scans(&server).await;
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = scans(&server).await;
        if now == before {
            break;
        }
        before = now;
    }
    let store = Storage::open(&server).await.unwrap();
    // As many at once as a batch of a busy gateway has: the more, the sooner the server would read a small table whole.
    for batch in 0..4 {
        let charges: Vec<Charge> = (0..60).map(|at| charge(60 * batch + at, 1)).collect();
        store.charge_all(&charges).await.unwrap();
    }
    drop(store);
    let mut after = scans(&server).await;
    for _ in 0..100 {
        if after.1 > before.1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        after = scans(&server).await;
    }
    assert!(after.1 > before.1, "nothing was counted: {before:?}, {after:?}");
    assert_eq!(after.0, before.0, "the charges were read whole");
}
