//! What a budget administrator does over HTTP: consumers, tokens, grants, requests; and whose accounts pay for what.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tollgate::accounting::Loss;
use tollgate::ledger::{self, Role};

use crate::fixture::{CONSUMER, Server};

const COUNT: &str = "SELECT count(*) AS n FROM united.flights";

/// Σρ of each account of `united.flights`, in the ledger's own steps, by scope and subject.
fn sums(server: &Server) -> BTreeMap<(String, String), String> {
    let url = server.config().storage.url.clone();
    server.administer(async move |_| {
        let store = ledger::open(&url).await.expect("the storage");
        let sums = store.account_sums(&["united.flights".to_owned()]).await.expect("sums");
        sums.into_iter()
            .map(|sum| {
                let Loss::Zcdp(rho) = sum.spent.loss else { panic!("a zCDP account") };
                ((sum.account.scope.kind().to_owned(), sum.account.scope.subject().to_owned()), format!("{rho:?}"))
            })
            .collect()
    })
}

#[test]
fn the_same_question_of_another_consumer_is_the_same_answer_and_pays_its_own_accounts() {
    let server = Server::over_airlines();
    let other = server.consumer("rail-office", Some("railways"));
    let question = json!({ "sql": COUNT, "epsilon": 0.5 });
    let first = server.ask(&question).json();
    let before = sums(&server);
    let of = |scope: &str, subject: &str| (scope.to_owned(), subject.to_owned());
    let all = &before[&of("all_consumers", "")];
    assert_eq!(&before[&of("consumer", CONSUMER)], all);
    assert_eq!(before.get(&of("consumer", "rail-office")), None);

    let second = server.ask_as(&other, &question).json();
    assert_eq!(second["rows"], first["rows"]);
    assert_eq!(second["privacy"]["cached"], false, "it has paid");
    assert_ne!(second["query_id"], first["query_id"]);
    let after = sums(&server);
    assert_eq!(&after[&of("all_consumers", "")], all, "all consumers together know nothing new");
    assert_eq!(&after[&of("consumer", "rail-office")], all);
    assert_eq!(&after[&of("agency", "railways")], all);
    for mine in [of("consumer", CONSUMER), of("agency", "transport")] {
        assert_eq!(after[&mine], before[&mine]);
    }
    assert_eq!(server.ask_as(&other, &question).json()["privacy"]["cached"], true);
    assert_eq!(sums(&server), after);

    let steward = server.steward("united");
    let queries = server.send_as(&steward, "GET", "/v1/datasets/united.flights/queries", "").json();
    let shared: Vec<_> = queries["queries"].as_array().expect("queries").iter().map(|query| &query["shared"]).collect();
    assert_eq!(shared, [&json!(true), &json!(false)]);
}

#[test]
fn a_consumer_is_added_gets_a_token_and_is_frozen() {
    let server = Server::over_airlines();
    let administrator = server.token(Role::BudgetAdmin, None, None);
    let send = |method: &str, path: &str, body: &str| server.send_as(&administrator, method, path, body);
    let new = r#"{"name": "rail-office", "agency": "railways"}"#;
    assert_eq!(send("POST", "/v1/consumers", new).made(), serde_json::from_str::<Value>(new).expect("JSON"));
    assert_eq!(send("POST", "/v1/consumers", new).problem()["code"], "conflict");
    let told = send("POST", "/v1/consumers", r#"{"name": "a", "sesame": 1}"#).problem();
    assert_eq!(told["code"], "request_invalid");
    assert!(!told.to_string().contains("sesame"), "{told}");

    let issued = send("POST", "/v1/consumers/rail-office/tokens", "").made();
    let token = issued["secret"].as_str().expect("a secret").to_owned();
    assert_eq!(send("POST", "/v1/consumers/nobody/tokens", "").problem()["code"], "not_found");
    let ask = || server.ask_as(&token, &json!({ "sql": COUNT }));
    let first = ask().json();
    let list = send("GET", "/v1/consumers", "").json();
    let row = list["consumers"].as_array().expect("rows").iter().find(|row| row["name"] == "rail-office").expect("it");
    assert_eq!((&row["agency"], &row["frozen"]), (&json!("railways"), &json!(false)));

    // Frozen: not even what it has paid for. A word to the analyst says who can help.
    send("POST", "/v1/consumers/rail-office/freeze", "").done();
    let refused = ask();
    assert_eq!((refused.status, &refused.problem()["code"]), (403, &json!("not_allowed")));
    assert!(refused.problem()["detail"].as_str().is_some_and(|detail| detail.contains("administrator")));
    assert_eq!(server.ask(&json!({ "sql": COUNT })).status, 200, "others go on");
    send("POST", "/v1/consumers/rail-office/unfreeze", "").done();
    assert_eq!(ask().json()["rows"], first["rows"]);
    assert_eq!(send("POST", "/v1/consumers/nobody/freeze", "").problem()["code"], "not_found");

    let id = issued["id"].as_str().expect("an id");
    send("DELETE", &format!("/v1/tokens/{id}"), "").done();
    assert_eq!(ask().problem()["code"], "unauthenticated");
    send("DELETE", "/v1/tokens/sesame", "").refused(404, "not_found");
}

#[test]
fn an_administrator_cannot_shut_out_stewards_and_auditors() {
    let server = Server::over_airlines();
    let administrator = server.token(Role::BudgetAdmin, None, None);
    let (id, secret) = server.administer(async |administration| {
        let token = administration.create_token(Role::Auditor, None, None).await.expect("a token");
        (token.id, token.secret)
    });
    server.send_as(&administrator, "DELETE", &format!("/v1/tokens/{id}"), "").refused(403, "not_allowed");
    assert_eq!(server.send_as(&secret, "GET", "/v1/audit", "").status, 200);
}

#[test]
fn grants_are_made_within_the_owners_cap() {
    let server = Server::over_airlines();
    let administrator = server.token(Role::BudgetAdmin, None, None);
    let path = format!("/v1/budgets/{CONSUMER}/united.flights");
    let grant = |path: &str, epsilon: f64| {
        let body = json!({ "epsilon": epsilon, "delta": 1e-7, "per": "lifetime" }).to_string();
        server.send_as(&administrator, "PUT", path, body)
    };
    grant(&path, 2.0).done();
    let budget = server.send_as(&administrator, "GET", &format!("/v1/consumers/{CONSUMER}/budget"), "").json();
    let limits: Vec<f64> = budget["budget"]
        .as_array()
        .expect("lines")
        .iter()
        .filter(|line| line["dataset"] == "united.flights" && line["per"] == "lifetime")
        .map(|line| line["epsilon_limit"].as_f64().expect("a limit"))
        .collect();
    assert_eq!(limits, [2.0]);
    assert_eq!(server.budget(), budget, "the analyst sees the same");
    assert!(grant(&path, 5.0).refused(400, "request_invalid").contains("at most epsilon 4"));
    assert_eq!(grant(&path, -1.0).problem()["code"], "request_invalid");
    assert_eq!(grant("/v1/budgets/nobody/united.flights", 1.0).problem()["code"], "not_found");
    grant(&format!("/v1/budgets/{CONSUMER}/united.sesame"), 1.0).refused(404, "not_found");
    grant(&format!("/v1/budgets/{CONSUMER}/domain:aircraft"), 3.0).done();
    grant(&format!("/v1/budgets/{CONSUMER}/domain:sesame"), 3.0).refused(404, "not_found");
}

#[test]
fn a_request_that_is_approved_makes_its_grant() {
    let server = Server::over_airlines();
    let administrator = server.token(Role::BudgetAdmin, None, None);
    let other = server.consumer("rail-office", None);
    let ask = |epsilon: f64| {
        let body = json!({
            "dataset": "united.flights", "epsilon": epsilon, "delta": 1e-7, "per": "lifetime", "reason": "the winter report",
        });
        server.send("POST", "/v1/budget/requests", &[("content-type", "application/json")], body.to_string())
    };
    assert!(ask(50.0).refused(400, "request_invalid").contains("at most epsilon 4"));
    let id = ask(1.5).made()["id"].as_str().expect("an id").to_owned();
    let denied = ask(3.0).made()["id"].as_str().expect("an id").to_owned();
    let requests = |token: &str| server.send_as(token, "GET", "/v1/budget/requests", "").json()["requests"].clone();
    assert_eq!(requests(&administrator).as_array().expect("requests").len(), 2);
    assert_eq!(requests(&server.analyst), requests(&administrator));
    assert_eq!(requests(&other), json!([]), "others' requests are their own");

    let decide = |id: &str, approve: bool| {
        let body = json!({ "approve": approve, "answer": "until March" }).to_string();
        server.send_as(&administrator, "POST", &format!("/v1/budget/requests/{id}"), body)
    };
    let granted = || {
        let budget = server.budget();
        let lines = budget["budget"].as_array().expect("lines").clone();
        lines
            .into_iter()
            .find(|line| line["dataset"] == "united.flights" && line["per"] == "lifetime")
            .map(|line| line["epsilon_limit"].as_f64().expect("a limit"))
    };
    assert_eq!(granted(), None);
    let decided = decide(&id, true).json();
    assert_eq!((&decided["state"], &decided["answer"]), (&json!("approved"), &json!("until March")));
    assert_eq!(granted(), Some(1.5));
    assert_eq!(decide(&denied, false).json()["state"], "denied");
    assert_eq!(granted(), Some(1.5));
    let twice = decide(&id, true).problem();
    assert_eq!(twice["code"], "conflict");
    assert!(twice["detail"].as_str().is_some_and(|detail| detail.contains("decided before")), "{twice}");
    assert_eq!(decide("0198c0de-0000-7000-8000-000000000000", true).problem()["code"], "not_found");
    decide("sesame", true).refused(404, "not_found");
}
