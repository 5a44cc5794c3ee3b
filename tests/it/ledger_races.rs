//! The ledger under many tasks at once, and under `kill -9` at any moment.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use rand::RngExt;
use tollgate::accounting::{Cost, Delta, Limit, Loss, Rho};
use tollgate::ledger::{
    Account, AccountCharge, Actor, Charge, ChargeId, ChargeOutcome, Idempotency, QueryRecord, ReleaseKey, Scope, Store,
    open,
};
use uuid::Uuid;

use crate::postgres::schema;

const DATASET: &str = "united.flights";
pub const COST: u64 = 3;
pub const UNLIMITED: u64 = u64::MAX;

pub fn url(folder: &Path) -> String {
    format!("sqlite://{}", folder.join("ledger.db").display())
}

fn account(scope: Scope) -> Account {
    Account { scope, dataset: DATASET.into(), window: "lifetime".into(), epoch: None }
}

/// A charge of [`COST`] by `consumer` for release number `release`, where the consumer may spend `own_limit` and all may
/// spend `all_limit`.
pub fn charge(consumer: &str, release: u64, own_limit: u64, all_limit: u64) -> Charge {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&release.to_le_bytes());
    let line = |scope, limit| AccountCharge {
        account: account(scope),
        limit: Limit { loss: Loss::Zcdp(Rho::from_steps(limit)), delta: Delta::from_steps(limit) },
        cost: Cost { loss: Loss::Zcdp(Rho::from_steps(COST)), delta: Delta::from_steps(1) },
    };
    Charge {
        consumer: consumer.into(),
        release: ReleaseKey(key),
        precision: COST,
        accounts: vec![line(Scope::Consumer(consumer.into()), own_limit), line(Scope::AllConsumers, all_limit)],
        idempotency: None,
        query: QueryRecord {
            query_id: Uuid::new_v4(),
            sql: "SELECT count(*) FROM united.flights".into(),
            purpose: None,
            datasets: vec![DATASET.into()],
            events: "[]".into(),
            summable: None,
        },
        at: Utc::now(),
        reservation: None,
    }
}

pub async fn all_spent(store: &dyn Store) -> u64 {
    store.spent(&[account(Scope::AllConsumers)]).await.unwrap()[0].map_or(0, |spent| spent.loss.steps())
}

/// Runs the charges all at once, each in a task of its own.
async fn at_once(store: &Arc<dyn Store>, charges: impl Iterator<Item = Charge>) -> Vec<ChargeOutcome> {
    let tasks: Vec<_> = charges
        .map(|charge| {
            let store = Arc::clone(store);
            tokio::spawn(async move { store.charge(&charge).await.unwrap() })
        })
        .collect();
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await.unwrap());
    }
    outcomes
}

fn count(outcomes: &[ChargeOutcome], which: impl Fn(&ChargeOutcome) -> bool) -> usize {
    outcomes.iter().filter(|outcome| which(outcome)).count()
}

const fn is_charged(outcome: &ChargeOutcome) -> bool {
    matches!(outcome, ChargeOutcome::Charged { .. })
}

const fn is_refused(outcome: &ChargeOutcome) -> bool {
    matches!(outcome, ChargeOutcome::Refused { .. })
}

/// 64 charges race for a budget of ten: on one consumer's account, and on the account of all. The tasks go through two
/// stores on one file, as a server and an operator's command would.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_64_charges_at_once_exactly_those_that_fit_are_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let stores = [open(&url(folder.path())).await.unwrap(), open(&url(folder.path())).await.unwrap()];
    // A budget of ten charges, and not quite eleven.
    let ten = 10 * COST + COST - 1;
    for repeat in 0..50_u64 {
        let before = all_spent(&*stores[0]).await;
        // Either one consumer races itself, or eight race each other.
        let (racers, own_limit, all_limit) =
            if repeat % 2 == 0 { (1, ten, UNLIMITED) } else { (8, UNLIMITED, before + ten) };
        for n in 0..racers {
            stores[0].add_consumer(&format!("c{repeat}-{n}"), None, &Actor::command_line()).await.unwrap();
        }
        let racing = |from: u64| {
            (from..from + 32)
                .map(move |n| charge(&format!("c{repeat}-{}", n % racers), repeat * 64 + n, own_limit, all_limit))
        };
        let (here, there) = tokio::join!(at_once(&stores[0], racing(0)), at_once(&stores[1], racing(32)));
        let outcomes = [here, there].concat();
        assert_eq!((count(&outcomes, is_charged), count(&outcomes, is_refused)), (10, 54), "repeat {repeat}");
        assert_eq!(all_spent(&*stores[1]).await, before + 10 * COST);
    }
    let report = stores[0].check().await.unwrap();
    assert_eq!((report.charges, report.lines), (500, 1000));
}

/// One question, asked by 32 consumers at once: all pay, and the account of all pays once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_same_question_at_once_is_charged_to_all_consumers_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&url(folder.path())).await.unwrap();
    for n in 0..32 {
        store.add_consumer(&format!("c{n}"), None, &Actor::command_line()).await.unwrap();
    }
    for release in 0..5 {
        let asked = (0..32).map(|n| charge(&format!("c{n}"), release, UNLIMITED, UNLIMITED));
        let outcomes = at_once(&store, asked).await;
        assert_eq!(count(&outcomes, |outcome| matches!(outcome, ChargeOutcome::Charged { shared: false, .. })), 1);
        assert_eq!(count(&outcomes, |outcome| matches!(outcome, ChargeOutcome::Charged { shared: true, .. })), 31);
        assert_eq!(all_spent(&*store).await, (release + 1) * COST);
    }
    store.check().await.unwrap();
}

/// One request, sent 32 times at once: paid once, whether or not it has an idempotency key.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_same_request_at_once_is_paid_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&url(folder.path())).await.unwrap();
    store.add_consumer("dot", None, &Actor::command_line()).await.unwrap();
    for release in 0..10 {
        let request = (0..32).map(|_| {
            let mut charge = charge("dot", release, UNLIMITED, UNLIMITED);
            if release % 2 == 0 {
                charge.idempotency = Some(Idempotency { key: format!("k{release}"), request_hash: [7; 32] });
            }
            charge
        });
        let outcomes = at_once(&store, request).await;
        assert_eq!(count(&outcomes, is_charged), 1);
        assert_eq!(count(&outcomes, is_refused), 0);
        assert_eq!(all_spent(&*store).await, (release + 1) * COST);
    }
    assert_eq!(store.check().await.unwrap().charges, 10);
}

/// 32 runs of one paid release have each drawn: one draw is shown.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_32_draws_one_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&url(folder.path())).await.unwrap();
    store.add_consumer("dot", None, &Actor::command_line()).await.unwrap();
    for release in 0..10 {
        let charge = charge("dot", release, UNLIMITED, UNLIMITED);
        let ChargeOutcome::Charged { charge_id, .. } = store.charge(&charge).await.unwrap() else { panic!() };
        let runs: Vec<_> = (0..32_u8)
            .map(|draw| {
                let (store, key) = (Arc::clone(&store), charge.release);
                tokio::spawn(async move { store.keep_release(key, COST, charge_id, &[draw], "{}").await.unwrap() })
            })
            .collect();
        let mut shown = BTreeSet::new();
        for run in runs {
            shown.insert(run.await.unwrap().payload);
        }
        assert_eq!(shown.len(), 1);
        let held = store.held_for("dot", charge.release, COST).await.unwrap().unwrap();
        assert!(shown.contains(&held.payload));
    }
    store.check().await.unwrap();
}

/// Three gateways on one PostgreSQL, 64 clients at each: a budget of a hundred charges is spent to its last step and no
/// further, whoever's batch comes first, and the log that they write together is one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn three_gateways_on_one_postgres_never_overspend() {
    let url = schema("three gateways").await;
    let mut gateways = Vec::new();
    for _ in 0..3 {
        gateways.push(open(&url).await.unwrap());
    }
    gateways[0].add_consumer("dot", None, &Actor::command_line()).await.unwrap();
    let hundred = 100 * COST + COST - 1;
    let clients = gateways.iter().enumerate().flat_map(|(gateway, store)| {
        (0..64).map(move |client| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                let (mut charged, mut refused) = (0, 0);
                for turn in 0..3 {
                    let release = (gateway * 64 + client) as u64 * 3 + turn;
                    match store.charge(&charge("dot", release, hundred, UNLIMITED)).await.unwrap() {
                        ChargeOutcome::Charged { .. } => charged += 1,
                        ChargeOutcome::Refused { .. } => refused += 1,
                        ChargeOutcome::AlreadyPaid { .. } => panic!("every release is new"),
                    }
                }
                (charged, refused)
            })
        })
    });
    let (mut charged, mut refused) = (0, 0);
    for client in clients.collect::<Vec<_>>() {
        let (of_client, not) = client.await.unwrap();
        charged += of_client;
        refused += not;
    }
    assert_eq!((charged, refused), (100, 3 * 64 * 3 - 100));
    assert_eq!(all_spent(&*gateways[1]).await, 100 * COST);
    let report = gateways[2].check().await.unwrap();
    assert_eq!((report.charges, report.log_entries), (100, 101));
}

/// The folder of the ledger that [`victim`] charges in, if this process is one.
const VICTIM_FOLDER: &str = "TOLLGATE_LEDGER_VICTIM_FOLDER";

/// Not a test of its own: the process that `whatever_was_accepted_survives_kill_9` starts and kills. It charges and keeps
/// releases until it dies, and says what it was told only once it was told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn victim() {
    let Some(folder) = std::env::var_os(VICTIM_FOLDER) else { return };
    say("ready");
    let store = open(&url(Path::new(&folder))).await.unwrap();
    for n in 0..4 {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            loop {
                let release = rand::rng().random();
                let charge = charge(&format!("c{n}"), release, UNLIMITED, UNLIMITED);
                let ChargeOutcome::Charged { charge_id, .. } = store.charge(&charge).await.unwrap() else { continue };
                say(&format!("charged {charge_id} {release}"));
                let payload = release.to_le_bytes();
                store.keep_release(charge.release, COST, charge_id, &payload, "{}").await.unwrap();
                say(&format!("kept {charge_id} {release}"));
            }
        });
    }
    std::future::pending::<()>().await;
}

/// Writes one line to the real standard output in one piece, past the test harness, which would capture it.
pub fn say(line: &str) {
    use std::io::Write;
    std::io::stdout().write_all(format!("\n{line}\n").as_bytes()).unwrap();
    std::io::stdout().flush().unwrap();
}

/// Kills a charging process at a hundred random moments, or as many as `TOLLGATE_KILLS` says. What it said was charged or kept is there afterwards, and the
/// ledger agrees with itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_was_accepted_survives_kill_9() {
    // The path of `victim` in the test binary, wherever this module stands in it.
    let victim = format!("{}::victim", module_path!().split_once("::").map_or("", |(_, module)| module));
    let victim = victim.trim_start_matches("::");
    let (mut all_charged, mut all_kept) = (0_u64, 0_u64);
    // `TOLLGATE_KILLS` asks for a longer campaign: fifty kills on one ledger, then on another, since all of it is read each time.
    let kills: usize = std::env::var("TOLLGATE_KILLS").map_or(100, |kills| kills.parse().unwrap());
    let mut folder = tempfile::tempdir().unwrap();
    let (mut charged, mut kept) = (0_u64, 0_u64);
    for kill in 0..kills {
        if kill % 50 == 0 {
            folder = tempfile::tempdir().unwrap();
            let store = open(&url(folder.path())).await.unwrap();
            for n in 0..4 {
                store.add_consumer(&format!("c{n}"), None, &Actor::command_line()).await.unwrap();
            }
            (all_charged, all_kept) = (all_charged + charged, all_kept + kept);
            (charged, kept) = (0, 0);
        }
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", victim, "--nocapture"])
            .env(VICTIM_FOLDER, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        assert!(output.any(|line| line == "ready"));
        let reader = std::thread::spawn(move || output.collect::<Vec<_>>());
        // From before the file is opened to some dozens of charges later.
        std::thread::sleep(Duration::from_micros(rand::rng().random_range(0..120_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        let said = reader.join().unwrap();

        let store = open(&url(folder.path())).await.unwrap();
        for line in &said {
            let words: Vec<&str> = line.split(' ').collect();
            let ["charged" | "kept", charge_id, release] = words[..] else { continue };
            let (Ok(charge_id), Ok(release)) = (charge_id.parse(), release.parse::<u64>()) else { continue };
            let costs = store.costs_of(ChargeId(charge_id)).await.unwrap();
            assert_eq!(costs[0].1.loss.steps(), COST);
            if words[0] == "charged" {
                charged += 1;
            } else {
                kept += 1;
                let key = charge("c0", release, 0, 0).release;
                let held = store.held_release(key, COST).await.unwrap().unwrap();
                assert_eq!((held.charge_id, held.payload), (ChargeId(charge_id), release.to_le_bytes().to_vec()));
            }
        }
        let report = store.check().await.unwrap();
        assert!(report.charges >= charged && report.held_releases >= kept, "{report:?} {charged} {kept}");
        assert_eq!(all_spent(&*store).await, report.charges * COST);
    }
    // The victims did live long enough for their deaths to tell anything.
    (all_charged, all_kept) = (all_charged + charged, all_kept + kept);
    println!("{kills} kills: {all_charged} charged, {all_kept} kept");
    assert!(all_charged > 200 && all_kept > 200, "{all_charged} charged, {all_kept} kept");
}
