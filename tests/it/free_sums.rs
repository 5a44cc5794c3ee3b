//! A coarser question is offered for nothing in the dry run, where the caller has bought a finer answer that it is a sum of: the
//! offer is true, it costs nothing, and nobody is offered what another has bought.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tollgate::config::Config;

use crate::fixture::{Server, over, united_copied_to};

const FINE: &str =
    "SELECT origin, month, count(*) AS n, sum(distance) AS miles FROM united.flights GROUP BY origin, month";
const BY_ORIGIN: &str = "SELECT origin AS airport, count(*) AS flights FROM united.flights GROUP BY origin";
const WHOLE: &str = "SELECT sum(distance) AS miles, count(*) AS n FROM united.flights";

/// A server over United's flights, whose groups may be of any size: then listed groups need not be selected.
fn server() -> (tempfile::TempDir, Server) {
    let dir = tempfile::tempdir().expect("a directory");
    let config = united_of_any_size(dir.path());
    (dir, Server::start(config))
}

fn united_of_any_size(dir: &std::path::Path) -> Config {
    let (policies, _) = united_copied_to(dir);
    let path = policies.join("united.flights.toml");
    let text = std::fs::read_to_string(&path).expect("a policy");
    let any = text.replace("min_group_size = 10", "min_group_size = 1");
    assert_ne!(any, text);
    std::fs::write(&path, any).expect("written");
    over(&policies, dir)
}

fn bought(server: &Server, sql: &str) -> Value {
    let answer = server.ask(&json!({ "sql": sql, "epsilon": 0.5, "purpose": "statistics" })).json();
    assert_eq!(answer["privacy"]["cached"], false, "{answer}");
    answer
}

/// What the dry run of a question offers for nothing.
fn offered(server: &Server, token: &str, question: &Value) -> Option<Value> {
    let mut question = question.clone();
    question["dry_run"] = json!(true);
    question["purpose"] = json!("statistics");
    server.ask_as(token, &question).json().get("free").cloned()
}

/// Asks what was offered, at the price that was said with it.
fn taken(server: &Server, token: &str, offer: &Value) -> Value {
    let question = json!({ "sql": offer["sql"], "epsilon": offer["epsilon"], "purpose": "statistics" });
    server.ask_as(token, &question).json()
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

fn number(value: &Value) -> i64 {
    value.as_i64().or_else(|| value.as_str()?.parse().ok()).unwrap_or_else(|| panic!("no whole number: {value}"))
}

#[test]
fn what_is_offered_is_free_and_sums_what_was_bought() {
    let (_dir, server) = server();
    let analyst = server.analyst.clone();
    // Nothing was bought, so nothing is offered.
    assert_eq!(offered(&server, &analyst, &json!({ "sql": BY_ORIGIN })), None);
    let fine = bought(&server, FINE);
    let (mut flights, mut miles) = (BTreeMap::<String, i64>::new(), 0);
    for row in fine["rows"].as_array().expect("rows") {
        *flights.entry(text(&row[0])).or_default() += number(&row[2]);
        miles += number(&row[3]);
    }
    assert_eq!(flights.len(), 3);
    let before = server.budget();

    let offer = offered(&server, &analyst, &json!({ "sql": BY_ORIGIN })).expect("an offer");
    assert_eq!(offer["epsilon"], 0.5);
    assert!(offer["note"].as_str().is_some_and(|note| note.contains("noise of the groups that are summed adds up")));
    let summed = taken(&server, &analyst, &offer);
    assert_eq!((&summed["privacy"]["cached"], &summed["privacy"]["charges"]), (&json!(true), &json!([])));
    let names: Vec<&Value> = summed["columns"].as_array().expect("columns").iter().map(|one| &one["name"]).collect();
    assert_eq!(names[1], "flights");
    let of_sums: BTreeMap<String, i64> =
        summed["rows"].as_array().expect("rows").iter().map(|row| (text(&row[0]), number(&row[1]))).collect();
    assert_eq!(of_sums, flights, "sums of the very draw that was bought");

    // The whole, without a key; and whatever it is asked at, the price is that at which the finer one was bought.
    let offer = offered(&server, &analyst, &json!({ "sql": WHOLE, "epsilon": 0.9 })).expect("an offer");
    assert_eq!(offer["epsilon"], 0.5);
    let summed = taken(&server, &analyst, &offer);
    assert_eq!(summed["privacy"]["cached"], true);
    assert_eq!(number(&summed["rows"][0][0]), miles);
    assert_eq!(number(&summed["rows"][0][1]), flights.values().sum::<i64>());
    // Nothing was charged for any of it.
    assert_eq!(server.budget(), before);
    // An answer that is no dry run offers nothing.
    assert_eq!(fine.get("free"), None);
}

#[test]
fn nothing_is_offered_that_is_not_bought_or_not_the_same() {
    let (_dir, server) = server();
    let analyst = server.analyst.clone();
    bought(&server, FINE);
    let other = server.consumer("rail-office", None);
    let never = |token: &str, question: Value| assert_eq!(offered(&server, token, &question), None, "{question}");
    for sql in [BY_ORIGIN, WHOLE] {
        assert!(offered(&server, &analyst, &json!({ "sql": sql })).is_some(), "{sql}");
        // Another consumer has not bought it, although the draw is there.
        never(&other, json!({ "sql": sql }));
        // Bounds of its own make it another question, and so do diagnostics and columns of errors.
        never(&analyst, json!({ "sql": sql, "bounds": { "max_rows_per_unit_per_group": 5 } }));
        never(&analyst, json!({ "sql": sql, "diagnostics": true }));
    }
    for sql in [
        FINE,
        "SELECT carrier, count(*) FROM united.flights GROUP BY carrier",
        "SELECT origin, sum(dep_delay) FROM united.flights GROUP BY origin",
        "SELECT origin, avg(distance) FROM united.flights GROUP BY origin",
        "SELECT origin, count(*) FROM united.flights WHERE month < 12 GROUP BY origin",
        "SELECT origin, count(DISTINCT tailnum) FROM united.flights GROUP BY origin",
        "SELECT dest, count(*) FROM united.flights GROUP BY dest",
    ] {
        never(&analyst, json!({ "sql": sql }));
    }
    // Once the other has bought it too, at its own price, it is offered at that.
    let question = json!({ "sql": FINE, "epsilon": 0.25, "purpose": "statistics" });
    assert_eq!(server.ask_as(&other, &question).json()["privacy"]["cached"], false);
    let offer = offered(&server, &other, &json!({ "sql": BY_ORIGIN })).expect("an offer");
    assert_eq!(offer["epsilon"], 0.25);
    assert_eq!(taken(&server, &other, &offer)["privacy"]["cached"], true);
    // Of several that were bought, whichever is offered is free.
    assert_eq!(server.ask(&json!({ "sql": FINE, "epsilon": 0.9, "purpose": "statistics" })).status, 200);
    let before = server.budget();
    let offer = offered(&server, &analyst, &json!({ "sql": BY_ORIGIN })).expect("an offer");
    assert_eq!(taken(&server, &analyst, &offer)["privacy"]["cached"], true);
    assert_eq!(server.budget(), before);
}

#[test]
fn what_was_bought_under_a_minimum_size_is_not_summed() {
    // Ten aircraft at least: listed groups too may be missing from the answer.
    let server = Server::over_united();
    bought(&server, FINE);
    for sql in [BY_ORIGIN, WHOLE] {
        assert_eq!(offered(&server, &server.analyst, &json!({ "sql": sql })), None, "{sql}");
    }
}

#[test]
fn a_statement_with_something_behind_it_is_summed_all_the_same() {
    for end in [";", " ; -- done", "\n-- by month; really", " /* one\ntwo */;\n"] {
        let (_dir, server) = server();
        bought(&server, &format!("{FINE}{end}"));
        let offer = offered(&server, &server.analyst, &json!({ "sql": BY_ORIGIN })).expect("an offer");
        assert_eq!(taken(&server, &server.analyst, &offer)["privacy"]["cached"], true, "{end:?}");
    }
    // CTEs, and a result that is not shown whole.
    let (_dir, server) = server();
    let with = format!("WITH q AS ({FINE}) SELECT month AS m, n AS \"how many\", origin FROM q");
    bought(&server, &with);
    assert_eq!(offered(&server, &server.analyst, &json!({ "sql": BY_ORIGIN })), None, "the miles are not shown");
}

#[test]
fn what_is_no_longer_answered_is_no_longer_offered() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = united_of_any_size(dir.path());
    let path = config.policies.dir.join("united.flights.toml");
    let server = Server::start(config);
    bought(&server, FINE);
    assert!(offered(&server, &server.analyst, &json!({ "sql": BY_ORIGIN })).is_some());
    // The owner lets fewer rows of an aircraft count: the finer answer would be drawn, and paid for, anew.
    let text = std::fs::read_to_string(path).expect("a policy");
    let fewer = text.replace("max_rows_per_unit_per_group = 200", "max_rows_per_unit_per_group = 100");
    assert_ne!(fewer, text);
    let steward = server.steward("united");
    let changed = server.send_policy(&steward, "PUT", "/v1/datasets/united.flights", &fewer);
    assert_eq!(changed.status, 200, "{}", changed.text());
    assert_eq!(offered(&server, &server.analyst, &json!({ "sql": BY_ORIGIN })), None);
}
