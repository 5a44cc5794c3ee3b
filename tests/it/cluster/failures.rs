//! Nobody there, somebody killed, somebody without the secret: what is charged, and what is answered.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::processes::{Cluster, get};
use crate::fixture::{Server, airlines};

/// A question that keeps executors busy for a while: a join of every flight with every other of its aircraft.
const SLOW: &str = "SELECT a.origin, count(*) FROM united.flights a JOIN united.flights b ON a.tailnum = b.tailnum \
                    WHERE a.dep_delay + b.dep_delay > 10 GROUP BY a.origin";

fn question(sql: &str) -> Value {
    json!({ "sql": sql, "epsilon": 0.5, "purpose": "statistics" })
}

/// What the accounts of the analyst have spent, as one text.
fn spent(server: &Server) -> String {
    server.budget().to_string()
}

#[test]
fn a_question_is_answered_by_a_cluster_charged_once_and_kept() {
    let mut cluster = Cluster::of(2);
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::start(cluster.reads(airlines(dir.path())));
    let sql = "SELECT origin, count(*) AS n, avg(dep_delay) FROM united.flights GROUP BY origin";
    let answer = server.ask(&question(sql)).json();
    assert_eq!(answer["rows"].as_array().expect("rows").len(), 3);
    assert_eq!(answer["privacy"]["cached"], false);
    let once = spent(&server);
    let again = server.ask(&question(sql)).json();
    assert_eq!((&again["rows"], &again["privacy"]["cached"]), (&answer["rows"], &json!(true)));
    assert_eq!(spent(&server), once);
    // Nothing of a job stays on an executor's disk.
    nothing_is_left(&cluster);
    // And nothing at all once they have stopped.
    let work = cluster.work();
    cluster.executors.drain(..).for_each(super::processes::Running::stop);
    assert_eq!(std::fs::read_dir(&work).expect("the folder").count(), 0);
}

#[test]
fn with_nobody_there_a_question_is_refused_and_not_charged() {
    let mut cluster = Cluster::of(0);
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::start(cluster.reads(airlines(dir.path())));
    let before = spent(&server);
    let sql = "SELECT count(*) FROM united.flights";
    let detail = server.ask(&question(sql)).refused(503, "overloaded");
    assert!(detail.contains("nothing was charged"), "{detail}");
    assert_eq!(spent(&server), before);
    // A dry run needs nobody.
    let mut dry = question(sql);
    dry["dry_run"] = json!(true);
    server.ask(&dry).json();
    // With somebody there the same question is answered; what was drawn is shown without them.
    cluster.add_executor();
    cluster.wait_for(1);
    let answer = server.ask(&question(sql)).json();
    let after = spent(&server);
    assert_ne!(after, before);
    cluster.executors.pop().expect("an executor").stop();
    cluster.wait_for(0);
    assert_eq!(server.ask(&question(sql)).json()["rows"], answer["rows"]);
    server.ask(&question("SELECT count(*) FROM delta.flights")).refused(503, "overloaded");
    // Nor with nobody to ask for them.
    let Cluster { scheduler, .. } = cluster;
    scheduler.kill();
    server.ask(&question("SELECT count(*) FROM delta.flights")).refused(503, "overloaded");
    assert_eq!(spent(&server), after);
}

#[test]
fn an_executor_that_is_killed_while_it_works_costs_nobody_a_second_charge() {
    let mut cluster = Cluster::of(3);
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::start(cluster.reads(airlines(dir.path())));
    let answered = std::thread::scope(|scope| {
        let asking = scope.spawn(|| server.ask(&question(SLOW)));
        // Killed while the job has rows on its disk.
        let patience = Instant::now() + Duration::from_mins(1);
        while cluster.written().is_empty() && !asking.is_finished() {
            assert!(Instant::now() < patience, "the job does not start");
            std::thread::sleep(Duration::from_millis(1));
        }
        cluster.executors.pop().expect("an executor").kill();
        asking.join().expect("an answer")
    });
    // It is survived, or fails cleanly; either way it is charged, once.
    eprintln!("killed while it worked: {}", answered.status);
    let once = spent(&server);
    if answered.status != 200 {
        answered.refused(500, "internal");
    }
    let again = server.ask(&question(SLOW)).json();
    if answered.status == 200 {
        assert_eq!(again["rows"], answered.json()["rows"]);
    }
    assert_eq!(again["privacy"]["cached"], true);
    assert_eq!(spent(&server), once);
}

#[test]
fn a_question_that_takes_too_long_is_charged_once_and_leaves_nothing_behind() {
    let cluster = Cluster::of(2);
    let dir = tempfile::tempdir().expect("a folder");
    let mut config = cluster.reads(airlines(dir.path()));
    config.engine.timeout_ms = 150;
    let server = Server::start(config);
    server.ask(&question(SLOW)).refused(504, "timed_out");
    let once = spent(&server);
    server.ask(&question(SLOW)).refused(504, "timed_out");
    assert_eq!(spent(&server), once);
    nothing_is_left(&cluster);
}

/// Waits until no job's data is on an executor's disk.
fn nothing_is_left(cluster: &Cluster) {
    let patience = Instant::now() + Duration::from_mins(1);
    while !cluster.written().is_empty() {
        assert!(Instant::now() < patience, "left behind: {:?}", cluster.written());
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn who_has_not_the_secret_is_told_nothing() {
    let cluster = Cluster::of(1);
    let (status, body) = cluster.workers(None);
    assert_eq!((status, body.as_str()), (401, ""));
    let other = tempfile::tempdir().expect("a folder");
    let path = other.path().join("secret");
    tollgate::cluster::ClusterSecret::load_or_create(&path).expect("another secret");
    assert_eq!(cluster.workers(Some(&path)), (401, String::new()));
    assert_eq!(cluster.workers(Some(&cluster.secret())), (200, "1".to_owned()));
    // Nor by an executor, which holds rows.
    for path in ["/", "/arrow.flight.protocol.FlightService/DoGet"] {
        let url = format!("http://{}{path}", cluster.executors[0].address);
        assert_eq!(get(&url, "").0, 401, "{path}");
        assert_ne!(get(&url, &super::processes::agent_of(&cluster.secret())).0, 401, "{path}");
    }
}
