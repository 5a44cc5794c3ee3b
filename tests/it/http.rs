//! The HTTP interface over the real gateway: forms, refusals, dry runs, and the description of it all.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::csv::ReaderBuilder;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use arrow::ipc::reader::StreamReader;
use arrow::record_batch::RecordBatch;
use arrow::util::display::array_value_to_string;
use serde_json::{Value, json};
use tollgate::ledger::Role;

use crate::fixture::{CONSUMER, Server, airlines, over, united_copied_to};

/// A question with group keys, a count and an average.
const BY_ORIGIN: &str =
    "SELECT origin, count(*) AS n, avg(dep_delay) AS delay FROM united.flights GROUP BY origin ORDER BY origin";

/// One cell of an Arrow batch as the JSON that the contract makes of it.
fn as_json(array: &ArrayRef, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).into(),
        DataType::Float64 => array.as_primitive::<Float64Type>().value(row).into(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            array_value_to_string(array, row).expect("text").into()
        }
        other => panic!("the test's question has no column of type {other}"),
    }
}

fn rows_of(batches: &[RecordBatch]) -> Value {
    let rows = batches.iter().flat_map(|batch| {
        (0..batch.num_rows()).map(|row| batch.columns().iter().map(|column| as_json(column, row)).collect::<Value>())
    });
    let rows: Value = rows.collect();
    // Once through text, as the answer's own numbers went: serde_json reads a double to within its last digit.
    serde_json::from_str(&rows.to_string()).expect("JSON")
}

#[test]
fn the_three_forms_of_an_answer_agree() {
    let server = Server::over_airlines();
    let question = json!({ "sql": BY_ORIGIN, "epsilon": 0.5 }).to_string();
    let ask = |accept: &str| server.send("POST", "/v1/query", &[("accept", accept)], question.as_str());

    let json = ask("application/json").json();
    assert_eq!(json["rows"].as_array().expect("rows").len(), 3, "{json}");
    let names: Vec<_> = json["columns"].as_array().expect("columns").iter().map(|column| &column["name"]).collect();
    assert_eq!(names, ["origin", "n", "delay"]);
    assert_eq!(json["privacy"]["cached"], false);
    assert_eq!(json["privacy"]["epsilon"], 0.5);
    assert_eq!(json["accuracy"].as_array().expect("accuracy").len(), 3);
    assert_eq!(json["accuracy"][0], Value::Null, "a key is exact");
    assert!(json["accuracy"][1]["half_width_95"].as_f64().is_some_and(|width| width > 0.0), "{json}");
    let spent = server.budget();

    let arrow = ask("application/vnd.apache.arrow.stream");
    assert_eq!((arrow.status, arrow.header("content-type")), (200, "application/vnd.apache.arrow.stream"));
    let reader = StreamReader::try_new(arrow.body.as_slice(), None).expect("a stream");
    let schema = reader.schema();
    let batches: Vec<RecordBatch> = reader.collect::<Result<_, _>>().expect("batches");
    assert_eq!(rows_of(&batches), json["rows"]);

    let csv = ask("text/csv");
    assert_eq!((csv.status, csv.header("content-type")), (200, "text/csv; charset=utf-8; header=present"));
    assert!(csv.text().starts_with("origin,n,delay\r\n"), "{}", csv.text());
    let reader = ReaderBuilder::new(schema).with_header(true).build(csv.body.as_slice()).expect("a reader");
    let batches: Vec<RecordBatch> = reader.collect::<Result<_, _>>().expect("batches");
    assert_eq!(rows_of(&batches), json["rows"]);

    // The same question is the same release: bought once, whatever its form.
    for seen in [&arrow, &csv] {
        assert_eq!(seen.header("tollgate-cached"), "true");
        assert_eq!(seen.header("tollgate-epsilon"), "0.5");
        assert!(!seen.header("tollgate-query-id").is_empty());
        assert_eq!(seen.header("cache-control"), "no-store");
    }
    assert_eq!(server.budget(), spent);
}

#[test]
fn every_refusal_is_a_problem_and_is_free() {
    let server = Server::over_airlines();
    let before = server.budget();
    let question = json!({ "sql": BY_ORIGIN });
    let with = |key: &str, value: Value| {
        let mut question = question.clone();
        question[key] = value;
        question.to_string()
    };
    let long = json!({ "sql": format!("SELECT count(*) FROM united.flights --{}", "x".repeat(200_000)) }).to_string();
    let sql = |sql: &str| json!({ "sql": sql }).to_string();

    let post = |body: String| server.send("POST", "/v1/query", &[], body);
    for (what, seen, status, code) in [
        ("malformed", post("{\"sql\": \"sesame".to_owned()), 400, "request_invalid"),
        ("empty", post(String::new()), 400, "request_invalid"),
        ("not an object", post("[]".to_owned()), 400, "request_invalid"),
        ("unknown field", post(with("sesame", json!(1))), 400, "request_invalid"),
        ("wrong type", post(with("epsilon", json!("sesame"))), 400, "request_invalid"),
        ("epsilon 0", post(with("epsilon", json!(0))), 400, "request_invalid"),
        ("epsilon -1", post(with("epsilon", json!(-1))), 400, "request_invalid"),
        ("epsilon 1e308", post(with("epsilon", json!(1e308))), 400, "request_invalid"),
        ("epsilon 1e999", post(r#"{"sql": "SELECT 1", "epsilon": 1e999}"#.to_owned()), 400, "request_invalid"),
        ("epsilon NaN", post(r#"{"sql": "SELECT 1", "epsilon": NaN}"#.to_owned()), 400, "request_invalid"),
        ("not SQL", post(sql("SELEKT 1")), 400, "sql_invalid"),
        ("no such table", post(sql("SELECT count(*) FROM united.sesame")), 400, "sql_invalid"),
        ("rows", post(sql("SELECT tailnum, dep_delay FROM united.flights")), 422, "query_not_private"),
        ("too long", post(long), 413, "too_large"),
        ("no such path", server.send("GET", "/v1/sesame", &[], ""), 404, "not_found"),
        ("no such dataset", server.send("GET", "/v1/datasets/united.sesame", &[], ""), 404, "not_found"),
        ("wrong method", server.send("DELETE", "/v1/query", &[], ""), 405, "request_invalid"),
        (
            "wrong form",
            server.send("POST", "/v1/query", &[("accept", "text/html")], question.to_string()),
            406,
            "request_invalid",
        ),
        ("no token", server.send_bare("POST", "/v1/query", &[], question.to_string()), 401, "unauthenticated"),
        ("no token", server.send_bare("GET", "/v1/datasets", &[], ""), 401, "unauthenticated"),
        ("no token", server.send_bare("GET", "/v1/budget", &[], ""), 401, "unauthenticated"),
        (
            "bad token",
            server.send_bare("GET", "/v1/budget", &[("authorization", "Bearer tg_sesame")], ""),
            401,
            "unauthenticated",
        ),
        (
            "another scheme",
            server.send_bare("GET", "/v1/budget", &[("authorization", "Basic c2VzYW1l")], ""),
            401,
            "unauthenticated",
        ),
    ] {
        let problem = seen.problem();
        assert_eq!((seen.status, problem["code"].as_str()), (status, Some(code)), "{what}: {problem}");
        if status == 401 {
            assert!(seen.header("www-authenticate").starts_with("Bearer "), "{what}");
        }
        if status == 405 {
            assert_eq!(seen.header("allow"), "POST");
        }
        if code == "request_invalid" || status == 401 {
            assert!(!problem.to_string().contains("sesame"), "{what} quotes what was sent: {problem}");
        }
    }
    assert_eq!(server.budget(), before, "a refusal is never charged");
}

#[test]
fn a_statement_has_a_limit_of_its_own() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = airlines(dir.path());
    config.engine.max_sql_bytes = 200;
    let server = Server::start(config);
    let padded = |length: usize| {
        let sql = "SELECT count(*) AS n FROM united.flights";
        json!({ "sql": format!("{sql}{}", " ".repeat(length - sql.len())), "dry_run": true })
    };
    assert_eq!(server.ask(&padded(200)).status, 200);
    let seen = server.ask(&padded(201));
    assert_eq!((seen.status, &seen.problem()["code"]), (413, &json!("too_large")));
}

#[test]
fn a_dry_run_tells_the_price_and_charges_nothing() {
    let server = Server::over_airlines();
    let before = server.budget();
    let mut question = json!({ "sql": BY_ORIGIN, "epsilon": 0.5, "dry_run": true });
    let dry = server.ask(&question).json();
    assert_eq!(server.budget(), before);
    assert!(dry.get("rows").is_none(), "{dry}");
    assert!(!dry["privacy"]["charges"].as_array().expect("charges").is_empty(), "{dry}");

    let csv = server.send("POST", "/v1/query", &[("accept", "text/csv")], question.to_string());
    assert_eq!(csv.text(), "origin,n,delay\r\n");
    assert_eq!(server.budget(), before);

    question["dry_run"] = false.into();
    let real = server.ask(&question).json();
    assert_ne!(server.budget(), before, "the answer itself is charged");
    for part in ["columns", "accuracy", "groups"] {
        assert_eq!(dry[part], real[part], "the forecast of {part} holds");
    }
    for part in ["epsilon", "delta", "rho", "delta_selection", "charges"] {
        assert_eq!(dry["privacy"][part], real["privacy"][part], "the forecast of the {part} holds");
    }
}

#[test]
fn a_dry_run_reads_no_data() {
    let dir = tempfile::tempdir().expect("a directory");
    let (policies, data) = united_copied_to(dir.path());
    let server = Server::start(over(&policies, dir.path()));
    std::fs::remove_file(data).expect("removed");
    let mut question = json!({ "sql": BY_ORIGIN, "dry_run": true });
    assert_eq!(server.ask(&question).status, 200);
    question["dry_run"] = false.into();
    let seen = server.ask(&question);
    assert_eq!((seen.status, &seen.problem()["code"]), (503, &json!("source_unavailable")));
}

#[test]
fn a_retry_under_one_key_is_charged_once() {
    let server = Server::over_airlines();
    let question = json!({ "sql": BY_ORIGIN, "epsilon": 0.1 });
    let ask =
        |question: &Value| server.send("POST", "/v1/query", &[("idempotency-key", "a-key")], question.to_string());
    let first = ask(&question).json();
    let spent = server.budget();
    let again = ask(&question).json();
    assert_eq!(first["rows"], again["rows"]);
    assert_eq!(server.budget(), spent);

    let seen = ask(&json!({ "sql": BY_ORIGIN, "epsilon": 0.2 }));
    assert_eq!((seen.status, &seen.problem()["code"]), (409, &json!("idempotency_conflict")));
    assert_eq!(server.budget(), spent);
}

#[test]
fn error_columns_stand_beside_what_they_are_of() {
    let server = Server::over_airlines();
    let answer = server.ask(&json!({ "sql": BY_ORIGIN, "epsilon": 0.5, "with_error_columns": true })).json();
    let columns: Vec<_> = answer["columns"].as_array().expect("columns").iter().map(|column| &column["name"]).collect();
    assert!(
        columns.contains(&&json!("n_half_width_95")) && columns.contains(&&json!("delay_half_width_95")),
        "{answer}"
    );
    for row in answer["rows"].as_array().expect("rows") {
        assert_eq!(row.as_array().map(Vec::len), Some(columns.len()));
    }
    assert_eq!(answer["accuracy"].as_array().map(Vec::len), Some(columns.len()));
}

#[test]
fn roles_reach_what_is_theirs() {
    let server = Server::over_airlines();
    let steward = server
        .administer(async |administration| administration.create_token(Role::Steward, None, Some("united")).await)
        .expect("a token");
    let bearer = format!("Bearer {}", steward.secret);
    let headers = [("authorization", bearer.as_str())];
    let question = json!({ "sql": BY_ORIGIN }).to_string();
    let seen = server.send_bare("POST", "/v1/query", &headers, question);
    assert_eq!((seen.status, &seen.problem()["code"]), (403, &json!("not_allowed")));
    assert_eq!(server.send_bare("GET", "/v1/datasets", &headers, "").status, 200);

    server.administer(async |administration| administration.revoke_token(&steward.id).await).expect("revoked");
    assert_eq!(server.send_bare("GET", "/v1/datasets", &headers, "").status, 401);
}

#[test]
fn a_frozen_consumer_is_refused_until_it_is_thawed() {
    let server = Server::over_airlines();
    let question = json!({ "sql": BY_ORIGIN, "epsilon": 0.1 });
    let freeze = |frozen| {
        server.administer(async |administration| administration.set_frozen(CONSUMER, frozen).await).expect("done");
    };
    freeze(true);
    let seen = server.ask(&question);
    assert_eq!((seen.status, &seen.problem()["code"]), (403, &json!("not_allowed")));
    freeze(false);
    assert_eq!(server.ask(&question).status, 200);
}

#[test]
fn datasets_are_described_and_never_counted() {
    let server = Server::over_airlines();
    let list = server.send("GET", "/v1/datasets", &[], "").json();
    let datasets = list["datasets"].as_array().expect("datasets");
    let of =
        |name: &str| datasets.iter().find(|dataset| dataset["name"] == name).unwrap_or_else(|| panic!("no {name}"));
    assert_eq!(of("airlines.flights")["kind"], "collection");
    assert_eq!(of("airlines.flights")["members"].as_array().map(Vec::len), Some(5));
    assert_eq!(of("public.planes")["kind"], "public");

    let united = server.send("GET", "/v1/datasets/united.flights", &[], "").json();
    assert_eq!(&united, of("united.flights"));
    assert_eq!((&united["kind"], &united["privacy"]["min_group_size"]), (&json!("private"), &json!(10)));
    let column = |name: &str| {
        let columns = united["columns"].as_array().expect("columns");
        columns.iter().find(|column| column["name"] == name).unwrap_or_else(|| panic!("no {name}"))
    };
    assert_eq!(column("flight")["uses"], json!([]), "denied");
    assert_eq!(column("tailnum")["privacy_unit"], true);
    assert_eq!(column("dep_delay")["bounds"], json!([-30.0, 180.0]));
    assert!(!united.to_string().contains(".parquet"), "where the data lies is the owner's affair");
}

#[test]
fn the_budget_is_the_callers_own() {
    let server = Server::over_airlines();
    let line = |budget: &Value| {
        let lines = budget["budget"].as_array().expect("lines");
        lines.iter().find(|line| line["dataset"] == "united.flights").expect("united.flights").clone()
    };
    let before = line(&server.budget());
    assert_eq!((&before["epsilon_limit"], &before["fraction_spent"]), (&json!(4.0), &json!(0.0)));
    let answer = server.ask(&json!({ "sql": BY_ORIGIN, "epsilon": 0.5 })).json();
    let after = line(&server.budget());
    assert!(after["epsilon_spent"].as_f64() > before["epsilon_spent"].as_f64(), "{after}");
    assert_eq!(line(&answer), after, "the answer tells what is left after it");
}

#[test]
fn the_description_lists_what_there_is() {
    let server = Server::over_airlines();
    let document = server.send_bare("GET", "/openapi.json", &[], "").json();
    let paths = document["paths"].as_object().expect("paths");
    assert_eq!(paths.len(), 32, "{:?}", paths.keys());
    for (path, methods) in paths {
        // Any word will do for a name: nobody gets past the token.
        let address =
            path.split('{').map(|part| part.rsplit('}').next().unwrap_or(part)).collect::<Vec<_>>().join("any");
        for method in methods.as_object().expect("methods").keys() {
            let seen = server.send_bare(&method.to_uppercase(), &address, &[], "");
            let expected = if path.starts_with("/v1/") { 401 } else { 200 };
            assert_eq!(seen.status, expected, "{method} {path}");
        }
    }
}
