use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::routing::{get, post};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::accept::Format;
use super::policies::submission;
use super::problem::{MEDIA_TYPE, Problem};
use super::query::question;
use super::server::serve_routes;
use super::{Limits, guarded, openapi_document};
use crate::gateway::{Code, GatewayError};

/// What came back: the status, the headers and the body.
struct Seen {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Seen {
    /// The body as a problem document; its members must agree with the response.
    fn problem(&self) -> Value {
        assert_eq!(self.headers[header::CONTENT_TYPE], MEDIA_TYPE, "{}", self.body);
        let problem: Value = serde_json::from_str(&self.body).expect("a problem is JSON");
        assert_eq!(problem["status"], self.status);
        let code = problem["code"].as_str().expect("a code");
        assert_eq!(problem["type"], format!("urn:tollgate:error:{code}"));
        assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()));
        problem
    }
}

/// Routes served for one test, on a port of their own.
async fn serving(routes: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(serve_routes(routes, listener, std::future::pending(), Duration::from_secs(1)));
    format!("http://{address}")
}

/// One request.
async fn send(method: &'static str, url: String, body: Vec<u8>) -> Seen {
    let exchange = move || {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .allow_non_standard_methods(true)
            .build()
            .into();
        let request = ureq::http::Request::builder().method(method).uri(url).body(body).expect("a request");
        let mut response = agent.run(request).expect("a response");
        let body = response.body_mut().read_to_string().expect("text");
        Seen { status: response.status().as_u16(), headers: response.headers().clone(), body }
    };
    tokio::task::spawn_blocking(exchange).await.expect("an exchange")
}

fn fixture() -> Router {
    async fn echo(body: Result<Bytes, BytesRejection>) -> Result<Bytes, Problem> {
        Ok(body?)
    }
    async fn fall_over() {
        panic!("a value of the data: 42");
    }
    let routes = Router::new().route("/echo", post(echo)).route("/panic", get(fall_over));
    guarded(routes, Limits { max_body_bytes: 100 })
}

#[tokio::test]
async fn an_unknown_path_is_a_problem() {
    let url = serving(fixture()).await;
    let seen = send("GET", format!("{url}/nowhere"), vec![]).await;
    assert_eq!((seen.status, &seen.problem()["code"]), (404, &Value::from("not_found")));
}

#[tokio::test]
async fn a_wrong_method_is_a_problem_that_names_the_right_one() {
    let url = serving(fixture()).await;
    let seen = send("DELETE", format!("{url}/echo"), vec![]).await;
    assert_eq!((seen.status, &seen.problem()["code"]), (405, &Value::from("request_invalid")));
    assert_eq!(seen.headers[header::ALLOW], "POST");
}

#[tokio::test]
async fn a_body_may_be_as_long_as_the_limit_and_no_longer() {
    let url = serving(fixture()).await;
    assert_eq!(send("POST", format!("{url}/echo"), vec![b'a'; 100]).await.status, 200);
    let seen = send("POST", format!("{url}/echo"), vec![b'a'; 101]).await;
    assert_eq!((seen.status, &seen.problem()["code"]), (413, &Value::from("too_large")));
}

#[tokio::test]
async fn a_panic_is_a_problem_that_tells_nothing() {
    let url = serving(fixture()).await;
    let seen = send("GET", format!("{url}/panic"), vec![]).await;
    assert_eq!((seen.status, &seen.problem()["code"]), (500, &Value::from("internal")));
    assert!(!seen.body.contains("42"), "{}", seen.body);
}

#[tokio::test]
async fn nothing_is_kept_by_caches() {
    let url = serving(fixture()).await;
    for path in ["/echo", "/nowhere", "/panic"] {
        assert_eq!(send("GET", format!("{url}{path}"), vec![]).await.headers[header::CACHE_CONTROL], "no-store");
    }
}

#[tokio::test]
async fn a_server_ends_the_requests_under_way_and_then_itself() {
    async fn slow() -> &'static str {
        tokio::time::sleep(Duration::from_millis(300)).await;
        "done"
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/slow", listener.local_addr().expect("an address"));
    let (stop, stopped) = oneshot::channel::<()>();
    let routes = Router::new().route("/slow", get(slow));
    let server = tokio::spawn(serve_routes(
        routes,
        listener,
        async move {
            let _ = stopped.await;
        },
        Duration::from_secs(30),
    ));
    let request = tokio::spawn(send("GET", url, vec![]));
    tokio::time::sleep(Duration::from_millis(100)).await;
    stop.send(()).expect("the server waits for it");
    assert_eq!(request.await.expect("a request").body, "done");
    server.await.expect("a task").expect("a clean end");
}

#[tokio::test]
async fn a_server_does_not_wait_for_ever() {
    async fn never() {
        std::future::pending::<()>().await;
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let mut stream = std::net::TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
    std::io::Write::write_all(&mut stream, b"GET /never HTTP/1.1\r\nhost: x\r\n\r\n").expect("sent");
    let began = Instant::now();
    let shutdown = tokio::time::sleep(Duration::from_millis(100));
    let routes = Router::new().route("/never", get(never));
    serve_routes(routes, listener, shutdown, Duration::from_millis(100)).await.expect("an end");
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn an_address_that_is_taken_is_said_so() {
    let first = super::bind("127.0.0.1:0").await.expect("a port");
    let address = first.local_addr().expect("an address").to_string();
    let error = super::bind(&address).await.expect_err("taken").to_string();
    assert!(error.contains(&address) && error.contains("another process is listening"), "{error}");
}

#[test]
fn the_accept_header_is_negotiated() {
    use Format::{ArrowStream, Csv, Json};
    for (accept, expected) in [
        ("", Some(Json)),
        ("*/*", Some(Json)),
        ("application/*", Some(Json)),
        ("text/*", Some(Csv)),
        ("text/csv", Some(Csv)),
        ("Text/CSV; charset=utf-8", Some(Csv)),
        ("application/vnd.apache.arrow.stream", Some(ArrowStream)),
        ("application/vnd.apache.arrow.stream, */*", Some(ArrowStream)),
        ("text/csv;q=0.5, application/json;q=0.4", Some(Csv)),
        ("text/csv;q=0.5, application/json", Some(Json)),
        ("application/json;q=0, */*", Some(Csv)),
        ("text/html, application/xhtml+xml, */*;q=0.8", Some(Json)),
        ("text/html", None),
        ("text/csv;q=0", None),
        ("*/*;q=0", None),
        ("text/csv;q=2", None),
        ("csv", None),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        let found = Format::negotiate(&headers).ok();
        assert_eq!(found, expected, "{accept}");
    }
    assert_eq!(Format::negotiate(&HeaderMap::new()).ok(), Some(Json));
    let mut twice = HeaderMap::new();
    twice.append(header::ACCEPT, HeaderValue::from_static("text/html"));
    twice.append(header::ACCEPT, HeaderValue::from_static("text/csv"));
    assert_eq!(Format::negotiate(&twice).ok(), Some(Csv), "two headers are one list");
}

/// What a problem says, without a server.
fn json_of(problem: &Problem) -> Value {
    serde_json::to_value(problem).expect("JSON")
}

#[test]
fn a_malformed_body_is_told_by_its_place_and_never_quoted() {
    for (body, place) in [
        (r#"{"sql": "sesame"#, "line 1, column 15"),
        ("{\"sql\":\n \"sesame\", sesame}", "line 2, column 12"),
        (r#"{"sql": "x", "sesame": 1}"#, "line 1, column 21"),
        (r#"{"sql": "x", "epsilon": "sesame"}"#, "line 1, column 32"),
        (r#"{"sql": "x", "epsilon": NaN}"#, "line 1, column 25"),
        (r#"{"sql": "x", "epsilon": 1, "epsilon": 2}"#, "line 1, column 36"),
        (r#"{"epsilon": 1}"#, "line 1, column 14"),
        ("", "empty"),
    ] {
        let problem = json_of(&question(&HeaderMap::new(), body.as_bytes()).expect_err("malformed"));
        assert_eq!(
            (&problem["status"], &problem["code"]),
            (&Value::from(400), &Value::from("request_invalid")),
            "{body}"
        );
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(detail.contains(place), "{body}: {detail}");
        assert!(!problem.to_string().contains("sesame"), "{problem}");
    }
}

#[test]
fn the_idempotency_key_may_come_in_a_header() {
    let keyed = |values: &[&'static str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("idempotency-key", HeaderValue::from_static(value));
        }
        headers
    };
    let key =
        |headers: &HeaderMap, body: &str| question(headers, body.as_bytes()).map(|question| question.idempotency_key);
    let (bare, own) = (r#"{"sql": "x"}"#, r#"{"sql": "x", "idempotency_key": "a"}"#);
    assert_eq!(key(&keyed(&["a"]), bare).expect("a key"), Some("a".to_owned()));
    assert_eq!(key(&keyed(&["\"a\""]), bare).expect("a key"), Some("a".to_owned()), "the IETF draft quotes it");
    assert_eq!(key(&keyed(&["a"]), own).expect("the same"), Some("a".to_owned()));
    assert_eq!(key(&keyed(&[]), own).expect("the body's"), Some("a".to_owned()));
    assert!(key(&keyed(&["b"]), own).is_err(), "they differ");
    assert!(key(&keyed(&["a", "a"]), bare).is_err(), "two headers");
    assert!(key(&keyed(&[""]), bare).is_err(), "an empty key");
}

#[test]
fn a_problem_carries_the_gateways_words() {
    let error = GatewayError::new(Code::BudgetExceeded, "no").with_hint("ask less");
    let problem = json_of(&Problem::from(error));
    assert_eq!(problem["status"], 402);
    assert_eq!(problem["type"], "urn:tollgate:error:budget_exceeded");
    assert_eq!((&problem["detail"], &problem["hint"]), (&Value::from("no"), &Value::from("ask less")));
}

#[test]
fn openapi_describes_every_route_with_its_problems() {
    let document = serde_json::to_value(openapi_document()).expect("JSON");
    let paths = document["paths"].as_object().expect("paths");
    let expected = [
        "/healthz",
        "/openapi.json",
        "/readyz",
        "/v1/approvals",
        "/v1/approvals/{id}/{name}",
        "/v1/audit",
        "/v1/audit/checkpoint",
        "/v1/audit/consistency",
        "/v1/audit/export",
        "/v1/audit/key",
        "/v1/audit/proof/{index}",
        "/v1/budget",
        "/v1/budget/requests",
        "/v1/budget/requests/{id}",
        "/v1/budgets/{consumer}/{dataset}",
        "/v1/consumers",
        "/v1/consumers/{id}/budget",
        "/v1/consumers/{id}/freeze",
        "/v1/consumers/{id}/tokens",
        "/v1/consumers/{id}/unfreeze",
        "/v1/datasets",
        "/v1/datasets/{name}",
        "/v1/datasets/{name}/queries",
        "/v1/datasets/{name}/resume",
        "/v1/datasets/{name}/suspend",
        "/v1/datasets/{name}/versions",
        "/v1/query",
        "/v1/reports/accounts",
        "/v1/reports/settlement",
        "/v1/reports/spend",
        "/v1/reports/top",
        "/v1/tokens/{id}",
    ];
    assert_eq!(paths.keys().map(String::as_str).collect::<BTreeSet<_>>(), BTreeSet::from(expected));

    let query = &document["paths"]["/v1/query"]["post"];
    for status in ["400", "401", "402", "403", "404", "406", "409", "413", "422", "429", "500", "503", "504"] {
        let schema = &query["responses"][status]["content"][MEDIA_TYPE]["schema"]["$ref"];
        assert_eq!(schema, "#/components/schemas/Problem", "{status}");
    }
    let forms = query["responses"]["200"]["content"].as_object().expect("forms");
    assert_eq!(forms.len(), 3, "{forms:?}");

    for (path, methods) in paths.iter().filter(|(path, _)| path.starts_with("/v1/")) {
        for method in methods.as_object().expect("methods").values() {
            assert!(method["security"].is_array(), "{path} needs a token");
            assert!(method["responses"]["401"].is_object(), "{path} says so");
            assert!(method["responses"]["503"].is_object(), "{path} says when nothing is answered");
        }
    }
}

#[test]
fn a_policy_is_read_in_the_form_that_its_header_says() {
    use crate::gateway::Submission;
    let typed = |kind: Option<&'static str>| {
        let mut headers = HeaderMap::new();
        if let Some(kind) = kind {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        headers
    };
    for kind in ["application/toml", "text/plain", "Text/Plain; charset=utf-8"] {
        assert!(matches!(submission(&typed(Some(kind)), b"x"), Ok(Submission::Toml("x"))), "{kind}");
    }
    assert!(matches!(submission(&typed(Some("application/json")), b"{}"), Ok(Submission::Json("{}"))));
    for kind in [None, Some("application/x-www-form-urlencoded"), Some("")] {
        let problem = json_of(&submission(&typed(kind), b"x").expect_err("no form"));
        assert_eq!((&problem["status"], &problem["code"]), (&Value::from(415), &Value::from("request_invalid")));
    }
    assert_eq!(json_of(&submission(&typed(Some("text/plain")), b"\xff").expect_err("no text"))["status"], 400);
}

/// Every `$ref` of the document must lead somewhere.
#[test]
fn openapi_has_no_dangling_references() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
                members.values().for_each(|member| references(member, found));
            }
            Value::Array(members) => members.iter().for_each(|member| references(member, found)),
            _ => {}
        }
    }
    let document = serde_json::to_value(openapi_document()).expect("JSON");
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 10, "{found:?}");
    for reference in found {
        let pointer = reference.strip_prefix('#').expect("a local reference");
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}
