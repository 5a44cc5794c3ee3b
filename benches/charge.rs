//! One durable charge: a consumer's account and that of all consumers, fsynced.
//!
//! The time is that of the disk's fsync and a dozen statements; the folder is the system's temporary one, so set `TMPDIR`
//! to the disk that matters (a folder in memory makes the fsync free).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use chrono::Utc;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tollgate::accounting::{Cost, Delta, Limit, Loss, Rho};
use tollgate::ledger::{
    Account, AccountCharge, Actor, Charge, ChargeOutcome, QueryRecord, ReleaseKey, Scope, Store, open,
};
use uuid::Uuid;

fn charge() -> Charge {
    let line = |scope| AccountCharge {
        account: Account { scope, dataset: "united.flights".into(), window: "lifetime".into(), epoch: None },
        limit: Limit { loss: Loss::Zcdp(Rho::MAX), delta: Delta::MAX },
        cost: Cost { loss: Loss::Zcdp(Rho::from_steps(675_000_000)), delta: Delta::from_steps(1) },
    };
    let mut release = [0; 32];
    release[..16].copy_from_slice(Uuid::new_v4().as_bytes());
    Charge {
        consumer: "dot".into(),
        release: ReleaseKey(release),
        precision: 675_000_000,
        accounts: vec![line(Scope::Consumer("dot".into())), line(Scope::AllConsumers)],
        idempotency: None,
        query: QueryRecord {
            query_id: Uuid::new_v4(),
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

async fn pay(store: Arc<dyn Store>, charge: Charge) {
    let outcome = store.charge(&charge).await;
    assert!(matches!(outcome, Ok(ChargeOutcome::Charged { .. })), "{outcome:?}");
}

fn charges(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let (Ok(runtime), Ok(folder)) = (runtime, tempfile::tempdir()) else { return };
    let store = runtime.block_on(async {
        let store = open(&format!("sqlite://{}", folder.path().join("ledger.db").display())).await;
        let store = store.unwrap_or_else(|error| panic!("{error}"));
        store.add_consumer("dot", None, &Actor::command_line()).await.unwrap_or_else(|error| panic!("{error}"));
        store
    });
    let mut group = criterion.benchmark_group("ledger");
    group.throughput(Throughput::Elements(1));
    group.bench_function("charge", |bencher| {
        bencher.to_async(&runtime).iter_batched(
            charge,
            |charge| pay(Arc::clone(&store), charge),
            criterion::BatchSize::SmallInput,
        );
    });
    let paid = charge();
    runtime.block_on(pay(Arc::clone(&store), paid.clone()));
    group.bench_function("charge that was paid before", |bencher| {
        bencher.to_async(&runtime).iter(|| {
            let (store, paid) = (Arc::clone(&store), paid.clone());
            async move {
                let outcome = store.charge(&paid).await;
                assert!(matches!(outcome, Ok(ChargeOutcome::AlreadyPaid { .. })), "{outcome:?}");
            }
        });
    });
    group.finish();
}

criterion_group!(benches, charges);
criterion_main!(benches);
