//! Several releases in one query, over HTTP: one price, one draw of each, and no draw that others have paid for.

use serde_json::{Value, json};
use tollgate::ledger::Role;

use crate::fixture::Server;

fn ask(server: &Server, sql: &str, epsilon: f64) -> Value {
    server.ask(&json!({ "sql": sql, "epsilon": epsilon })).json()
}

fn rho(answer: &Value) -> f64 {
    answer["privacy"]["rho"].as_f64().expect("rho")
}

#[test]
fn one_release_that_is_named_twice_is_drawn_and_paid_for_once() {
    let server = Server::over_airlines();
    let sql = "WITH q AS (SELECT month, count(*) AS n FROM united.flights GROUP BY month) \
               SELECT a.n - b.n AS d FROM q a JOIN q b USING (month)";
    let answer = ask(&server, sql, 1.0);
    let rows = answer["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 12);
    assert!(rows.iter().all(|row| row[0].is_null() || row[0] == 0), "{rows:?}");
    assert_eq!(answer["privacy"]["charges"].as_array().expect("charges").len(), 2, "the consumer's and its agency's");
    // It is the release of the CTE alone: asked for by itself it is free now.
    let alone = ask(&server, "SELECT month, count(*) FROM united.flights GROUP BY month", 1.0);
    assert_eq!(alone["privacy"]["cached"], true);
    assert!((rho(&alone) - rho(&answer)).abs() < 1e-12);
}

#[test]
fn a_released_value_below_a_release_is_drawn_first_and_both_share_the_price() {
    let server = Server::over_airlines();
    let sql = "SELECT count(*) FROM united.flights WHERE dep_delay > (SELECT avg(dep_delay) FROM united.flights)";
    let dry = server.ask(&json!({ "sql": sql, "epsilon": 1.0, "dry_run": true })).json();
    let answer = ask(&server, sql, 1.0);
    // What ε buys in all, but for what rounding to steps leaves.
    let whole = rho(&ask(&server, "SELECT count(*) FROM delta.flights", 1.0));
    assert!((rho(&answer) - whole).abs() < 1e-4 * whole, "{answer}");
    assert_eq!(dry["privacy"]["charges"], answer["privacy"]["charges"]);
    let again = ask(&server, sql, 1.0);
    assert_eq!((&again["rows"], &again["privacy"]["cached"]), (&answer["rows"], &json!(true)));
}

#[test]
fn nobody_is_shown_what_was_made_of_a_finer_draw_than_they_paid_for() {
    let server = Server::over_airlines();
    let inner = "SELECT avg(dep_delay) FROM united.flights";
    let outer = format!("SELECT count(*) FROM united.flights WHERE dep_delay > ({inner})");
    ask(&server, inner, 1.0);
    // The first analyst's outer answer is made of the fine inner draw.
    ask(&server, &outer, 0.05);
    let token = server.administer(async |administration| {
        administration.add_consumer("another-office", None).await.expect("a consumer");
        administration.create_token(Role::Analyst, Some("another-office"), None).await.expect("a token").secret
    });
    let bearer = format!("Bearer {token}");
    let other = |body: Value| server.send_bare("POST", "/v1/query", &[("authorization", &bearer)], body.to_string());
    let answer = other(json!({ "sql": outer, "epsilon": 0.05 })).json();
    // The second pays for both, and again finds its own.
    assert_eq!(answer["privacy"]["cached"], false);
    let again = other(json!({ "sql": outer, "epsilon": 0.05 })).json();
    assert_eq!((&again["rows"], &again["privacy"]["cached"]), (&answer["rows"], &json!(true)));
    let held = server.administer(async |administration| administration.budget_of("another-office").await.is_ok());
    assert!(held);
}

#[test]
fn every_airport_is_a_group_where_an_outer_join_keeps_them() {
    let server = Server::over_airlines();
    let sql = "SELECT a.faa, count(f.dest) AS n FROM public.airports a LEFT JOIN united.flights f ON a.faa = f.dest \
               WHERE a.alt > 5000 GROUP BY a.faa";
    let airports = ask(&server, "SELECT count(*) FROM public.airports WHERE alt > 5000", 1.0)["rows"][0][0].clone();
    let answer = ask(&server, sql, 1.0);
    assert_eq!(json!(answer["rows"].as_array().expect("rows").len()), airports);
    assert_eq!(answer["groups"]["public"], true);
}

#[test]
fn an_explanation_and_a_price_for_an_error_cost_nothing() {
    let server = Server::over_airlines();
    let before = server.budget();
    let explained = ask(&server, "EXPLAIN PRIVACY SELECT origin, avg(dep_delay) FROM united.flights GROUP BY 1", 0.5);
    let lines: Vec<&str> =
        explained["rows"].as_array().expect("rows").iter().map(|row| row[0].as_str().expect("text")).collect();
    for expected in ["3 groups, known without the data", "at most 200 rows in each", "consumer/united.flights pays rho"]
    {
        assert!(lines.iter().any(|line| line.contains(expected)), "{expected}: {lines:?}");
    }
    let target = |relative: f64| {
        let bounds = json!({ "max_rows_per_unit_per_group": 5 });
        let target = json!({ "relative": relative, "group_size": 3_000 });
        let sql = "SELECT origin, count(*) FROM united.flights GROUP BY origin";
        server.ask(&json!({ "sql": sql, "target_error": target, "bounds": bounds, "dry_run": true }))
    };
    let (loose, tight) = (target(0.5).json(), target(0.25).json());
    let epsilon = |answer: &Value| answer["privacy"]["epsilon"].as_f64().expect("epsilon");
    assert!(epsilon(&loose) < epsilon(&tight), "{loose} {tight}");
    // It is enough, and a little less is not.
    let half_width = tight["accuracy"][1]["half_width_95"].as_f64().expect("a half-width");
    assert!(half_width <= 750.0 && half_width > 700.0, "{half_width}");
    assert_eq!(target(1e-6).problem()["code"], "request_invalid");
    assert_eq!(server.budget(), before);
}

#[test]
fn what_fails_above_a_release_is_told_and_what_cannot_be_planned_is_not_charged() {
    let server = Server::over_airlines();
    let before = server.budget();
    let failing = server.ask(&json!({ "sql": "SELECT 1 / (count(*) - count(*)) FROM united.flights", "epsilon": 0.5 }));
    let problem = failing.problem();
    assert_eq!(problem["code"], "sql_invalid");
    assert!(problem["detail"].as_str().expect("text").contains("were drawn and charged"), "{problem}");
    assert_ne!(server.budget(), before);
    // The release is free now, whatever is computed from it.
    assert_eq!(ask(&server, "SELECT count(*) FROM united.flights", 0.5)["privacy"]["cached"], true);
}
