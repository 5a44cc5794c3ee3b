//! When many ask: who is answered though all room is taken, who waits, and who is refused. Rooms are held by hand.

use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::accounting::{Delta, Epsilon};
use crate::config::{self, Config};
use crate::gateway::price::price;
use crate::gateway::{Answer, Caller, Code, Gateway, GatewayError, Question};
use crate::ledger::{Actor, Grant, Role};

const SQL: &str = "SELECT origin, count(*) AS n FROM united.flights GROUP BY origin";

/// Over the flights of one airline, for statistics alone.
pub(super) async fn gateway(engine: config::Engine) -> (Arc<Gateway>, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let policy = std::fs::read_to_string(repository.join("policies/airlines/united.flights.toml")).unwrap();
    let data = repository.join("tests/data/flights/UA.parquet");
    let policy = policy
        .replace("../../tests/data/flights/UA.parquet", &data.display().to_string())
        .replace("purposes = []", "purposes = [\"statistics\"]");
    let policies = dir.path().join("policies");
    std::fs::create_dir(&policies).unwrap();
    std::fs::write(policies.join("united.flights.toml"), policy).unwrap();
    let config = Config {
        storage: config::Storage { url: format!("sqlite://{}", dir.path().join("tollgate.db").display()) },
        policies: config::Policies { dir: policies, ..config::Policies::default() },
        engine: config::Engine { response_quantum_ms: 0, max_concurrent_queries: 2, ..engine },
        audit: config::Audit {
            key: dir.path().join("audit.key"),
            anchor: dir.path().join("audit.checkpoint"),
            ..config::Audit::default()
        },
        ..Config::default()
    };
    let gateway = Gateway::open(&config).await.unwrap();
    for name in ["a", "b"] {
        gateway.store.add_consumer(name, None, &Actor::command_line()).await.unwrap();
    }
    (gateway, dir)
}

fn analyst(consumer: &str) -> Caller {
    let consumer = Some(consumer.to_owned());
    Caller { role: Role::Analyst, consumer, agency: None, owner: None, token: Uuid::nil() }
}

pub(super) async fn ask(gateway: &Gateway, consumer: &str, sql: &str, dry_run: bool) -> Result<Answer, GatewayError> {
    let purpose = Some("statistics".to_owned());
    let question = Question { sql: sql.to_owned(), purpose, dry_run, ..Question::default() };
    gateway.ask(&analyst(consumer), question).await
}

/// Comes back once so many run and so many wait.
async fn until(gateway: &Gateway, load: (usize, usize)) {
    while gateway.admission.load() != load {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_one_consumer_keeps_anothers_question_waiting_for_one_that_ends() {
    let limits =
        config::Engine { max_queries_per_consumer: Some(2), max_queued_per_consumer: 48, ..config::Engine::default() };
    let (gateway, _dir) = gateway(limits).await;
    let kept = ask(&gateway, "b", SQL, false).await.unwrap();
    let (first, second) = (gateway.room("a").await.unwrap(), gateway.room("a").await.unwrap());
    // 48 more of `a`, each of which would run until it is told to end.
    let ends: Vec<oneshot::Sender<()>> = (0..48)
        .map(|_| {
            let (end, ended) = oneshot::channel::<()>();
            let gateway = Arc::clone(&gateway);
            tokio::spawn(async move {
                let room = gateway.room("a").await;
                let _ = ended.await;
                drop(room);
            });
            end
        })
        .collect();
    until(&gateway, (2, 48)).await;
    assert_eq!(gateway.room("a").await.unwrap_err().code, Code::Overloaded);
    // What is kept and what is only priced does not wait.
    let again = ask(&gateway, "b", SQL, false).await.unwrap();
    assert!(again.privacy.cached);
    assert_eq!(again.rows, kept.rows);
    assert_eq!(ask(&gateway, "b", "SELECT count(*) AS n FROM united.flights", true).await.unwrap().rows, None);
    let of_b = {
        let gateway = Arc::clone(&gateway);
        tokio::spawn(async move { ask(&gateway, "b", "SELECT count(*) AS n FROM united.flights", false).await })
    };
    until(&gateway, (2, 49)).await;
    // The turn is `a`'s, and then `b`'s.
    drop(first);
    until(&gateway, (2, 48)).await;
    assert!(!of_b.is_finished());
    drop(second);
    let answer = of_b.await.unwrap().unwrap();
    assert!(answer.rows.is_some() && !answer.privacy.cached);
    // `b` is done, and of the flood two run and 46 wait.
    until(&gateway, (2, 46)).await;
    drop(ends);
    until(&gateway, (0, 0)).await;
}

/// The same question waits for one that runs, and not for one that waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_waits_is_not_in_the_way_of_the_same_question() {
    let limits = config::Engine { max_queries_per_consumer: Some(1), ..config::Engine::default() };
    let (gateway, _dir) = gateway(limits).await;
    let of_a = gateway.room("a").await.unwrap();
    let waiting = {
        let gateway = Arc::clone(&gateway);
        tokio::spawn(async move { ask(&gateway, "a", SQL, false).await })
    };
    until(&gateway, (1, 1)).await;
    let of_b = ask(&gateway, "b", SQL, false).await.unwrap();
    assert!(!waiting.is_finished());
    drop(of_a);
    let of_a = waiting.await.unwrap().unwrap();
    assert_eq!(of_a.rows, of_b.rows);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_finds_no_room_is_refused_before_it_is_charged() {
    for limits in [
        config::Engine { max_queued_queries: 0, ..config::Engine::default() },
        config::Engine { max_queued_per_consumer: 0, ..config::Engine::default() },
        config::Engine { queue_timeout_ms: 0, ..config::Engine::default() },
    ] {
        let (gateway, _dir) = gateway(limits).await;
        let rooms = (gateway.room("a").await.unwrap(), gateway.room("b").await.unwrap());
        let refused = ask(&gateway, "b", SQL, false).await.unwrap_err();
        assert_eq!(refused.code, Code::Overloaded);
        assert!(refused.detail.ends_with("; nothing was charged"), "{refused}");
        let spent = gateway.budget(&analyst("b")).await.unwrap();
        assert!(spent.iter().all(|line| line.fraction_spent == 0.0));
        drop(rooms);
        let answer = ask(&gateway, "b", SQL, false).await.unwrap();
        assert!(!answer.privacy.cached);
    }
}

/// An analysis that is remembered was made for another purpose and another caller, each of which is looked at anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_remembered_is_no_permission() {
    let (gateway, _dir) = gateway(config::Engine::default()).await;
    let asked = |purpose: Option<&str>| {
        let purpose = purpose.map(str::to_owned);
        let gateway = Arc::clone(&gateway);
        async move {
            let question = Question { sql: SQL.to_owned(), purpose, dry_run: true, ..Question::default() };
            gateway.ask(&analyst("a"), question).await.map(|answer| answer.schema)
        }
    };
    let first = asked(Some("statistics")).await.unwrap();
    assert_eq!(asked(Some("statistics")).await.unwrap(), first);
    for purpose in [Some("marketing"), None] {
        assert_eq!(asked(purpose).await.unwrap_err().code, Code::PurposeNotAllowed);
    }
    let steward = Caller { role: Role::Steward, consumer: None, owner: Some("united".to_owned()), ..analyst("a") };
    let suspend = crate::gateway::Standing::Suspend { reason: String::new() };
    gateway.set_standing(&steward, "united.flights", suspend, None).await.unwrap();
    assert_eq!(asked(Some("statistics")).await.unwrap_err().code, Code::DatasetSuspended);
}

/// Whoever cannot pay is told so at once, whether or not another's draw of the same is under way: else it would learn for
/// nothing that somebody asks the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_cannot_pay_waits_for_nobodys_draw() {
    let (gateway, _dir) = gateway(config::Engine::default()).await;
    let little = Grant {
        epsilon: Epsilon::floor_from(1e-6).unwrap(),
        delta: Delta::floor_from(1e-9).unwrap(),
        per: "lifetime".to_owned(),
    };
    gateway.store.set_grant("b", "united.flights", &little, &Actor::command_line()).await.unwrap();
    let alone = ask(&gateway, "b", SQL, false).await.unwrap_err();
    assert_eq!(alone.code, Code::BudgetExceeded, "{alone}");
    // Another draws the same, and does not end.
    let question = Question { sql: SQL.to_owned(), purpose: Some("statistics".to_owned()), ..Question::default() };
    let catalog = gateway.current_catalog().await.unwrap();
    let (analysed, _) = gateway.analyse(&analyst("a"), &question, &catalog, chrono::Utc::now()).await.unwrap();
    let keys = price(&analysed, None).unwrap().releases.iter().map(|release| release.key).collect();
    let turns = gateway.in_flight.turns(&keys).await;
    assert_eq!(ask(&gateway, "b", SQL, false).await.unwrap_err(), alone);
    // Who can pay waits, and is answered when it is done.
    let of_a = {
        let gateway = Arc::clone(&gateway);
        tokio::spawn(async move { ask(&gateway, "a", SQL, false).await })
    };
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert!(!of_a.is_finished());
    drop(turns);
    assert!(of_a.await.unwrap().unwrap().rows.is_some());
}
