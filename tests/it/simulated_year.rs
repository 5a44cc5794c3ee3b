//! A year of 20 agencies, 200 consumers and 50 datasets: every report adds up to the ledger, to the last step.
//!
//! A run is of 10,000 queries, or of as many as `TOLLGATE_YEAR_QUERIES` says; docs/reports.md has the command for 100,000 and
//! what it measured.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use futures::StreamExt;
use sqlx::{ConnectOptions, Executor};
use tollgate::accounting::{Accounting, Cost, Delta, Epsilon, Limit, Loss, Rho, event};
use tollgate::config::Config;
use tollgate::gateway::administration::Administration;
use tollgate::gateway::reports::{AccountsForm, SettlementForm, SpendForm, SpendReport, TopForm};
use tollgate::ledger::{
    self, Account, AccountCharge, Actor, Charge, ChargeOutcome, Decision, Entry, QueryRecord, ReleaseKey, Reuse, Scope,
    Store,
};
use uuid::Uuid;

use crate::fixture::over;

const AGENCIES: u64 = 20;
const CONSUMERS: u64 = 200;
const DATASETS: u64 = 50;
const QUERIES: &str = "TOLLGATE_YEAR_QUERIES";
/// How many charges wait for a commit together.
const AT_ONCE: usize = 512;

/// Every tenth dataset adds up pure losses.
const fn accounting(dataset: u64) -> Accounting {
    if dataset % 10 == 9 { Accounting::Pure } else { Accounting::Zcdp }
}

fn write_policies(dir: &Path) {
    for dataset in 0..DATASETS {
        let (kind, delta) = match accounting(dataset) {
            Accounting::Zcdp => ("zcdp", "1e-6"),
            Accounting::Pure => ("pure", "0.0"),
        };
        let owner = format!("company{}", dataset / 2);
        let text = format!(
            "[dataset]\nowner = \"{owner}\"\nname = \"d{dataset}\"\nlocation = \"../d{dataset}.parquet\"\n\n[privacy]\n\
             unit = \"person\"\nunit_domain = \"people\"\nmin_group_size = 1\nmax_groups_per_unit = 1\n\
             max_rows_per_unit_per_group = 1\naccounting = \"{kind}\"\n\n[budget]\n\
             per_consumer = {{ epsilon = 50.0, delta = {delta}, per = \"month\" }}\n\
             all_consumers = {{ epsilon = 500.0, delta = {delta}, per = \"lifetime\" }}\n\
             default_query = {{ epsilon = 0.1 }}\nmax_query = {{ epsilon = 1.0 }}\n\
             price_per_epsilon = {{ amount = \"12.50\", currency = \"EUR\" }}\n"
        );
        std::fs::write(dir.join(format!("{owner}.d{dataset}.toml")), text).expect("written");
    }
}

fn name(dataset: u64) -> String {
    format!("company{}.d{dataset}", dataset / 2)
}

/// Every twentieth consumer has no agency.
fn agency(consumer: u64) -> Option<String> {
    (consumer % 20 != 19).then(|| format!("agency-{}", consumer % AGENCIES))
}

/// The year ends today, so that its last window is the present one.
fn moment(query: u64, queries: u64, now: DateTime<Utc>) -> DateTime<Utc> {
    let minutes = 365 * 24 * 60 * (queries - query) / queries;
    now - TimeDelta::minutes(i64::try_from(minutes).expect("a year"))
}

/// The query of that number. Some read two datasets, and some are another consumer's question once more.
fn charge(query: u64, queries: u64, now: DateTime<Utc>) -> Charge {
    let consumer = query * 7 % CONSUMERS;
    let (first, at) = (query * 31 % DATASETS, moment(query, queries, now));
    let second = (query % 10 == 3).then_some((first + 1 + query % 7) % DATASETS);
    let datasets: Vec<u64> = [first].into_iter().chain(second).collect();
    let pure = datasets.iter().any(|dataset| accounting(*dataset) == Accounting::Pure);
    let size = 1 + query % 1009;
    let cost = if pure {
        Cost { loss: Loss::Pure(Epsilon::from_steps(size * 100_000_000)), delta: Delta::ZERO }
    } else {
        Cost { loss: Loss::Zcdp(Rho::from_steps(size * 10_000_000)), delta: Delta::from_steps(query % 5 * 1_000) }
    };
    let mut key = [0; 32];
    key[..8].copy_from_slice(&query.to_le_bytes());
    let line = |scope: Scope, dataset: String, window: String, accounting: Accounting| AccountCharge {
        account: Account { scope, dataset, window, epoch: None },
        limit: Limit { loss: Loss::from_steps(accounting, u64::MAX), delta: Delta::MAX },
        cost,
    };
    let (own, month) = (format!("consumer-{consumer}"), format!("{:04}-{:02}", at.year(), at.month()));
    let mut accounts = Vec::new();
    for dataset in &datasets {
        let (dataset, accounting) = (name(*dataset), accounting(*dataset));
        accounts.push(line(Scope::Consumer(own.clone()), dataset.clone(), month.clone(), accounting));
        if query.is_multiple_of(4) {
            // A grant with a window of its own: a second account, which must not be counted twice.
            accounts.push(line(Scope::Consumer(own.clone()), dataset.clone(), "lifetime".into(), accounting));
        }
        if let Some(agency) = agency(consumer) {
            accounts.push(line(Scope::Agency(agency), dataset.clone(), "lifetime".into(), accounting));
        }
        accounts.push(line(Scope::AllConsumers, dataset, "lifetime".into(), accounting));
    }
    accounts.push(line(Scope::Domain(own.clone()), "people".into(), "lifetime".into(), Accounting::Zcdp));
    Charge {
        consumer: own,
        release: ReleaseKey(key),
        precision: cost.loss.steps(),
        accounts,
        idempotency: None,
        query: QueryRecord {
            query_id: Uuid::from_u128(query.into()),
            sql: format!("SELECT count(*) FROM {} WHERE month = {}", name(first), query % 12),
            purpose: (!query.is_multiple_of(3)).then(|| format!("purpose-{}", query % 3)),
            datasets: datasets.into_iter().map(name).collect(),
            events: event::to_json(&event::Event::of_cost(cost)),
            summable: None,
        },
        at,
        reservation: None,
    }
}

/// The same question by the next consumer: the same draw, which all consumers do not pay for again.
fn repeated(query: u64, queries: u64, now: DateTime<Utc>) -> Option<Charge> {
    if query % 50 != 7 {
        return None;
    }
    let by = charge(query + 1, queries, now);
    let mut again = charge(query, queries, now);
    let agency = agency((query + 1) * 7 % CONSUMERS);
    again.accounts.retain(|line| agency.is_some() || !matches!(line.account.scope, Scope::Agency(_)));
    for line in &mut again.accounts {
        match &mut line.account.scope {
            Scope::Consumer(name) | Scope::Domain(name) => name.clone_from(&by.consumer),
            Scope::Agency(name) => *name = agency.clone().expect("an agency"),
            _ => {}
        }
    }
    let has_agency = again.accounts.iter().any(|line| matches!(line.account.scope, Scope::Agency(_)));
    if agency.is_some() && !has_agency {
        return None;
    }
    again.consumer = by.consumer;
    again.query.query_id = Uuid::from_u128(u128::from(query) + (1 << 100));
    Some(again)
}

async fn live_through(store: &Arc<dyn Store>, queries: u64, now: DateTime<Utc>) {
    for consumer in 0..CONSUMERS {
        let agency = agency(consumer);
        store.add_consumer(&format!("consumer-{consumer}"), agency.as_deref(), &Actor::command_line()).await.unwrap();
    }
    let started = Instant::now();
    let run = |charges: Vec<Charge>| {
        let store = Arc::clone(store);
        async move {
            for outcome in store.charge_all(&charges).await.unwrap() {
                assert!(matches!(outcome, ChargeOutcome::Charged { .. }), "{outcome:?}");
            }
        }
    };
    futures::stream::iter(0..queries)
        .map(|query| run(vec![charge(query, queries, now)]))
        .buffer_unordered(AT_ONCE)
        .collect::<()>()
        .await;
    futures::stream::iter((0..queries).filter_map(|query| repeated(query, queries, now)))
        .map(|charge| run(vec![charge]))
        .buffer_unordered(AT_ONCE)
        .collect::<()>()
        .await;
    let again = |query: u64| {
        let (store, charge) = (Arc::clone(store), charge(query, queries, now));
        async move {
            let (dataset, cost) = (charge.query.datasets[0].clone(), charge.accounts[0].cost);
            let reuse = Reuse {
                dataset: dataset.clone(),
                consumer: charge.consumer.clone(),
                agency: agency(query * 7 % CONSUMERS),
                purpose: charge.query.purpose.clone(),
                cost,
            };
            let decision = Decision::Answer {
                query_id: Uuid::now_v7(),
                consumer: charge.consumer,
                sql: charge.query.sql,
                purpose: charge.query.purpose,
                datasets: vec![dataset],
                charges: Vec::new(),
                cached: true,
                answer_sha256: String::new(),
            };
            store.record(Entry { at: charge.at, by: None, decision }, vec![reuse]).await.unwrap();
        }
    };
    futures::stream::iter((0..queries).step_by(20)).map(again).buffer_unordered(AT_ONCE).collect::<()>().await;
    println!("{queries} queries were written in {:.1?}", started.elapsed());
}

/// Sums by measure: of losses and of δ's, in steps.
type Sums = BTreeMap<&'static str, (u128, u128)>;

fn add(sums: &mut Sums, accounting: Accounting, spent: (u128, u128)) {
    let word = if accounting == Accounting::Zcdp { "zcdp" } else { "pure" };
    let sum = sums.entry(word).or_default();
    *sum = (sum.0 + spent.0, sum.1 + spent.1);
}

/// An exact decimal in steps of 10^-`places`.
fn steps(text: &str, places: usize) -> u128 {
    let (units, rest) = text.split_once('.').unwrap_or((text, ""));
    format!("{units}{rest:0<places$}").parse().expect("digits")
}

fn of_report(report: &SpendReport, only: impl Fn(&BTreeMap<String, Option<String>>) -> bool) -> Sums {
    let mut sums = Sums::new();
    for line in report.lines.iter().filter(|line| only(&line.group)) {
        let accounting = if line.accounting == "zcdp" { Accounting::Zcdp } else { Accounting::Pure };
        add(&mut sums, accounting, (steps(&line.loss, 12), steps(&line.delta, 18)));
    }
    sums.retain(|_, sum| *sum != (0, 0));
    sums
}

async fn timed<T>(what: &str, work: impl Future<Output = T>) -> T {
    let started = Instant::now();
    let done = work.await;
    println!("{what}: {:.0?}", started.elapsed());
    done
}

/// Every report over a year in the storage of `config`.
async fn adds_up(config: &Config) {
    let queries = std::env::var(QUERIES).map_or(10_000, |count| count.parse().expect("a number of queries"));
    let store = ledger::open(&config.storage.url).await.expect("the storage");
    let now = Utc::now();
    live_through(&store, queries, now).await;
    let books = Administration::open(config).await.expect("the storage");
    // The policies are brought in at the first report.
    books.top_report(&TopForm::default()).await.expect("a report");

    // What the ledger says: what was charged, each charge counted on the accounts that it is on once.
    let mut paid = Sums::new();
    let (mut of_agencies, mut of_datasets) = (BTreeMap::<String, Sums>::new(), BTreeMap::<String, Sums>::new());
    for sum in store.account_sums(&[]).await.expect("accounts") {
        let spent = (u128::from(sum.spent.loss.steps()), u128::from(sum.spent.delta.steps()));
        let accounting = sum.spent.loss.accounting();
        match &sum.account.scope {
            // The windows of the cap alone: those of grants hold what is in these too.
            Scope::Consumer(_) if sum.account.window != "lifetime" => {
                add(&mut paid, accounting, spent);
                add(of_datasets.entry(sum.account.dataset.clone()).or_default(), accounting, spent);
            }
            Scope::Agency(agency) => add(of_agencies.entry(agency.clone()).or_default(), accounting, spent),
            _ => {}
        }
    }
    let charges = store.check().await.expect("a sound ledger").charges;
    assert!(charges > queries, "some questions were asked twice");

    for by in [
        "",
        "consumer",
        "agency",
        "dataset",
        "purpose",
        "day",
        "consumer,agency",
        "agency,dataset",
        "dataset,day",
        "consumer,dataset",
    ] {
        let form = SpendForm { by: Some(by.to_owned()), ..SpendForm::default() };
        let report = timed(&format!("spend by {by}"), books.spend_report(&form)).await.expect("a report");
        assert_eq!(of_report(&report, |_| true), paid, "by {by}");
        if by == "agency" {
            for (agency, sums) in &of_agencies {
                assert_eq!(of_report(&report, |group| group["agency"].as_ref() == Some(agency)), *sums, "{agency}");
            }
        }
        if by == "dataset" {
            assert_eq!(report.lines.len() as u64, DATASETS);
            for (dataset, sums) in &of_datasets {
                assert_eq!(of_report(&report, |group| group["dataset"].as_ref() == Some(dataset)), *sums, "{dataset}");
            }
            assert_eq!(report.lines.iter().map(|line| line.reused).sum::<u64>(), queries.div_ceil(20));
            assert!(report.lines.iter().all(|line| line.epsilon.is_some_and(|epsilon| epsilon > 0.0)));
        }
        if ["consumer", "agency", "purpose", "day"].contains(&by) {
            // A query is of one consumer, purpose and day; one that reads both kinds of datasets is a line of each.
            assert!(report.lines.iter().map(|line| line.charges).sum::<u64>() >= charges, "by {by}");
        }
    }
    let quarter = SpendForm {
        by: Some("dataset".into()),
        from: Some((now - TimeDelta::days(90)).date_naive().to_string()),
        ..SpendForm::default()
    };
    let before = SpendForm {
        by: Some("dataset".into()),
        to: Some((now - TimeDelta::days(91)).date_naive().to_string()),
        ..SpendForm::default()
    };
    let (mut halves, rest) = (
        of_report(&timed("spend of 90 days", books.spend_report(&quarter)).await.expect("a report"), |_| true),
        of_report(&timed("spend before", books.spend_report(&before)).await.expect("a report"), |_| true),
    );
    for (word, sum) in rest {
        let half = halves.entry(word).or_default();
        *half = (half.0 + sum.0, half.1 + sum.1);
    }
    assert_eq!(halves, paid, "a year is its last 90 days and what was before");

    let report =
        timed("accounts, the first 20", books.accounts_report(&AccountsForm::default())).await.expect("a report");
    assert_eq!(report.accounts.len(), 20);
    for row in &report.accounts {
        let of_days =
            row.days.iter().fold((0, 0), |sum, day| (sum.0 + steps(&day.loss, 12), sum.1 + steps(&day.delta, 18)));
        assert_eq!(of_days, (steps(&row.loss, 12), steps(&row.delta, 18)), "{row:?}");
        assert!(row.restated_epsilon <= row.lifetime_epsilon || row.accounting == "pure", "{row:?}");
    }
    let every = AccountsForm { brief: true, limit: Some(20_000), ..AccountsForm::default() };
    let report = timed("accounts, all of them in brief", books.accounts_report(&every)).await.expect("a report");
    assert_eq!(report.found, report.accounts.len() as u64);
    // The lifetimes of consumers on datasets are all that was paid, and so are those of agencies with what they are of.
    let mut lifetimes = Sums::new();
    let mut agencies = BTreeMap::<String, Sums>::new();
    for row in &report.accounts {
        let accounting = if row.accounting == "zcdp" { Accounting::Zcdp } else { Accounting::Pure };
        let spent = (steps(&row.lifetime_loss, 12), steps(&row.lifetime_delta, 18));
        match (row.scope, &row.subject) {
            ("consumer", _) => add(&mut lifetimes, accounting, spent),
            ("agency", Some(agency)) => add(agencies.entry(agency.clone()).or_default(), accounting, spent),
            _ => {}
        }
    }
    assert_eq!(lifetimes, paid);
    assert_eq!(agencies, of_agencies);

    let top = timed("top", books.top_report(&TopForm::default())).await.expect("a report");
    assert_eq!(top.queries.len(), 40, "20 of each kind of accounting");
    let statement =
        timed("settlement", books.settlement_report(&SettlementForm::default())).await.expect("a statement");
    let owed: u128 = statement.lines.iter().map(|line| steps(&line.amount, 6)).sum();
    assert_eq!(owed, statement.totals.iter().map(|total| steps(&total.amount, 6)).sum::<u128>());
    let mut stated = Sums::new();
    for line in &statement.lines {
        let accounting = if line.accounting == "zcdp" { Accounting::Zcdp } else { Accounting::Pure };
        add(&mut stated, accounting, (steps(&line.loss, 12), 0));
    }
    let losses = |sums: &Sums| sums.iter().map(|(word, sum)| (*word, sum.0)).collect::<Vec<_>>();
    assert_eq!(losses(&stated), losses(&paid), "what is owed for is all that was spent");
}

fn books(dir: &Path) -> Config {
    let policies = dir.join("policies");
    std::fs::create_dir(&policies).expect("a folder");
    write_policies(&policies);
    over(&policies, dir)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_report_of_a_year_adds_up_on_sqlite() {
    let shm = Path::new("/dev/shm");
    let dir = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.expect("a directory");
    adds_up(&books(dir.path())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_report_of_a_year_adds_up_on_postgres() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = books(dir.path());
    let server = std::env::var("TOLLGATE_TEST_POSTGRES").expect("a PostgreSQL that `./test` starts");
    let schema = format!("year_{}", std::process::id());
    let options: sqlx::postgres::PgConnectOptions = server.parse().expect("an address");
    let mut connection = options.connect().await.expect("a connection");
    let fresh = format!("DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema}");
    connection.execute(sqlx::AssertSqlSafe(fresh)).await.expect("a schema");
    let joint = if server.contains('?') { '&' } else { '?' };
    config.storage.url = format!("{server}{joint}options=-c%20search_path%3D{schema}");
    adds_up(&config).await;
    let gone = format!("DROP SCHEMA {schema} CASCADE");
    connection.execute(sqlx::AssertSqlSafe(gone)).await.expect("it is gone");
}
