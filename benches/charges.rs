//! How many durable charges a second the ledger makes for 64 clients, and how long each waits: with group commit, and with
//! one sync for each charge, in turns in one run.
//!
//! `cargo bench --bench charges`. SQLite's file lies in the system's temporary folder (`TMPDIR`), on the disk that
//! matters. `TOLLGATE_BENCH_POSTGRES` names a PostgreSQL (with `fsync` on) to measure beside it; a schema is made in it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use sqlx::{ConnectOptions, Executor};
use tokio::sync::Mutex;
use tollgate::accounting::{Cost, Delta, Limit, Loss, Rho};
use tollgate::ledger::{
    Account, AccountCharge, Actor, Charge, ChargeOutcome, QueryRecord, ReleaseKey, Scope, Store, open,
};
use uuid::Uuid;

/// That of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CLIENTS: usize = 64;
const ROUNDS: usize = 5;
const LASTS: Duration = Duration::from_secs(4);

/// A charge as a query of one dataset makes it: the consumer's account, its agency's, all consumers' and the unit domain's.
fn charge(client: usize) -> Charge {
    let (consumer, agency) = (format!("c{client}"), format!("a{}", client % 8));
    let line = |scope, dataset: &str| AccountCharge {
        account: Account { scope, dataset: dataset.into(), window: "2026-11".into(), epoch: None },
        limit: Limit { loss: Loss::Zcdp(Rho::MAX), delta: Delta::MAX },
        cost: Cost { loss: Loss::Zcdp(Rho::from_steps(675_000_000)), delta: Delta::from_steps(1) },
    };
    let mut release = [0; 32];
    release[..16].copy_from_slice(Uuid::new_v4().as_bytes());
    Charge {
        accounts: vec![
            line(Scope::Consumer(consumer.clone()), "united.flights"),
            line(Scope::Agency(agency), "united.flights"),
            line(Scope::AllConsumers, "united.flights"),
            line(Scope::Domain(consumer.clone()), "aircraft"),
        ],
        consumer,
        release: ReleaseKey(release),
        precision: 675_000_000,
        idempotency: None,
        query: QueryRecord {
            query_id: Uuid::now_v7(),
            sql: "SELECT origin, avg(dep_delay) FROM united.flights GROUP BY origin".into(),
            purpose: Some("statistics".into()),
            datasets: vec!["united.flights".into()],
            events: "[]".into(),
            summable: None,
        },
        at: Utc::now(),
        reservation: None,
    }
}

/// All clients charge for a while, each as soon as its last charge is durable. With `alone` one at a time: what a ledger
/// does that syncs for each. Returns charges a second, and the waiting times in order.
async fn run(store: &Arc<dyn Store>, alone: bool) -> (f64, Vec<Duration>) {
    let (turn, begin) = (Arc::new(Mutex::new(())), Instant::now());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (store, turn) = (Arc::clone(store), Arc::clone(&turn));
            tokio::spawn(async move {
                let mut waited = Vec::new();
                while begin.elapsed() < LASTS {
                    let (charge, asked) = (charge(client), Instant::now());
                    let guard = if alone { Some(turn.lock().await) } else { None };
                    let outcome = store.charge(&charge).await.unwrap();
                    drop(guard);
                    assert!(matches!(outcome, ChargeOutcome::Charged { .. }), "{outcome:?}");
                    waited.push(asked.elapsed());
                }
                waited
            })
        })
        .collect();
    let mut waited = Vec::new();
    for client in clients {
        waited.extend(client.await.unwrap());
    }
    let rate = waited.len() as f64 / begin.elapsed().as_secs_f64();
    waited.sort_unstable();
    (rate, waited)
}

async fn measure(name: &str, url: &str) {
    let store = open(url).await.unwrap();
    for client in 0..CLIENTS {
        let agency = format!("a{}", client % 8);
        store.add_consumer(&format!("c{client}"), Some(&agency), &Actor::command_line()).await.unwrap();
    }
    let mut rounds: [Vec<(f64, Vec<Duration>)>; 2] = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        rounds[0].push(run(&store, true).await);
        rounds[1].push(run(&store, false).await);
    }
    let mut medians = Vec::new();
    for (how, rounds) in ["one sync for each", "group commit"].iter().zip(&mut rounds) {
        rounds.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let (rate, waited) = &rounds[ROUNDS / 2];
        let at = |share: f64| waited[((waited.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
        println!("{name:10} {how:18} {rate:8.0} charges/s   p50 {:7.2} ms   p99 {:7.2} ms", at(0.5), at(0.99));
        medians.push(*rate);
    }
    println!("{name:10} ratio {:.1}", medians[1] / medians[0]);
    let report = store.check().await.unwrap();
    println!("{name:10} {} charges, and the ledger agrees with itself", report.charges);
}

/// A schema of its own in the PostgreSQL at `server`.
async fn schema(server: &str) -> String {
    let options: sqlx::postgres::PgConnectOptions = server.parse().unwrap();
    let mut connection = options.connect().await.unwrap();
    let fresh = "DROP SCHEMA IF EXISTS charges_bench CASCADE; CREATE SCHEMA charges_bench";
    connection.execute(fresh).await.unwrap();
    let joint = if server.contains('?') { '&' } else { '?' };
    format!("{server}{joint}options=-c%20search_path%3Dcharges_bench")
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    runtime.block_on(async {
        measure("SQLite", &format!("sqlite://{}", folder.path().join("ledger.db").display())).await;
        if let Ok(server) = std::env::var("TOLLGATE_BENCH_POSTGRES") {
            measure("PostgreSQL", &schema(&server).await).await;
        }
    });
}
