//! A gateway over the airlines of `policies/airlines`, on a port and a storage of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tollgate::config::{self, Config};
use tollgate::gateway::Gateway;
use tollgate::gateway::administration::Administration;
use tollgate::interface::http::{self, Limits};
use tollgate::ledger::Role;
use ureq::http::HeaderMap;

/// The consumer that the fixture's analyst asks for.
pub const CONSUMER: &str = "road-office";

/// The repository's folder.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A configuration over the airlines' policies, with its storage in `dir`. Answers leave as soon as they are there:
/// response slots are tested where they belong.
pub fn airlines(dir: &Path) -> Config {
    over(&repository().join("policies/airlines"), dir)
}

/// A configuration over the policies in `policies`, with its storage in `dir`.
pub fn over(policies: &Path, dir: &Path) -> Config {
    Config {
        server: config::Server { http: "127.0.0.1:0".to_owned() },
        storage: config::Storage { url: format!("sqlite://{}", dir.join("tollgate.db").display()) },
        policies: config::Policies { dir: policies.to_owned(), ..config::Policies::default() },
        engine: config::Engine { response_quantum_ms: 0, ..config::Engine::default() },
        audit: config::Audit {
            key: dir.join("audit.key"),
            anchor: dir.join("audit.checkpoint"),
            ..config::Audit::default()
        },
        alerts: config::Alerts::default(),
        retention: config::Retention::default(),
        stores: std::collections::BTreeMap::new(),
    }
}

/// A server for one test. It ends with the value.
pub struct Server {
    /// Its address.
    pub url: String,
    /// A token of an analyst of [`CONSUMER`].
    pub analyst: String,
    config: Config,
    runtime: Runtime,
    stop: Option<oneshot::Sender<()>>,
    served: Option<JoinHandle<()>>,
    dir: Option<TempDir>,
}

/// Whether this process has the file open.
fn is_open(file: &Path) -> bool {
    let file = file.canonicalize().expect("the storage");
    let open = fs::read_dir("/proc/self/fd").expect("open files").flatten();
    open.into_iter().any(|open| fs::read_link(open.path()).is_ok_and(|open| open == file))
}

/// The last connection to be closed takes the journal away, but where two are closed at the same moment neither is the last.
fn take_journal_away(url: &str) {
    use sqlx::Connection;
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut connection = sqlx::SqliteConnection::connect(url).await.expect("the storage");
        // One that reads nothing does not look at the journal.
        sqlx::query("SELECT count(*) FROM sqlite_schema").execute(&mut connection).await.expect("read");
        connection.close().await.expect("closed");
    });
}

impl Server {
    /// Over the airlines, in a new storage.
    pub fn over_airlines() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let config = airlines(dir.path());
        Self::start_in(config, Some(dir))
    }

    /// Over a copy of `united.flights` that a test may do as it likes with, and an empty folder from which the stewards of
    /// `united` may register more.
    pub fn over_united() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let config = united_with_room(dir.path());
        Self::start_in(config, Some(dir))
    }

    /// As `config` says, with one consumer and one analyst.
    pub fn start(config: Config) -> Self {
        Self::start_in(config, None)
    }

    /// Over a storage that a server used before, whose analyst had the token `analyst`.
    pub fn start_again(config: Config, analyst: &str) -> Self {
        Self::serve(config, analyst.to_owned(), Runtime::new().expect("a runtime"), None)
    }

    /// The same, keeping `dir` as long as the server.
    fn start_in(config: Config, dir: Option<TempDir>) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let analyst = runtime.block_on(async {
            let administration = Administration::open(&config).await.expect("the storage");
            // A server that is started once more has its consumer.
            if administration.consumers().await.expect("consumers").is_empty() {
                administration.add_consumer(CONSUMER, Some("transport")).await.expect("a consumer");
            }
            administration.create_token(Role::Analyst, Some(CONSUMER), None).await.expect("a token").secret
        });
        Self::serve(config, analyst, runtime, dir)
    }

    fn serve(config: Config, analyst: String, runtime: Runtime, dir: Option<TempDir>) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let (url, served) = runtime.block_on(async {
            let gateway: Arc<Gateway> = Gateway::open(&config).await.expect("a gateway");
            let listener = http::bind("127.0.0.1:0").await.expect("a port");
            let url = format!("http://{}", listener.local_addr().expect("an address"));
            let limits = Limits::for_sql(config.engine.max_sql_bytes);
            let served = tokio::spawn(async move {
                let stopped = async move {
                    // Sent or dropped, it means the same.
                    let _ = stopped.await;
                };
                http::serve(Arc::clone(&gateway), listener, limits, stopped).await.expect("served");
                gateway.anchor().await.expect("anchored");
            });
            (url, served)
        });
        Self { url, analyst, config, runtime, stop: Some(stop), served: Some(served), dir }
    }

    /// Stops it as a signal does: what is under way ends, and the outside checkpoint is brought up to date. Returns once
    /// the storage's files are closed, so that a test may copy and replace them.
    pub fn stop(mut self) {
        drop(self.stop.take());
        if let Some(served) = self.served.take() {
            self.runtime.block_on(served).expect("a clean end");
        }
        let Self { runtime, config, .. } = self;
        drop(runtime);
        let file = PathBuf::from(config.storage.url.strip_prefix("sqlite://").expect("a file"));
        let patience = Instant::now() + Duration::from_secs(30);
        while is_open(&file) {
            assert!(Instant::now() < patience, "the storage is still open");
            std::thread::sleep(Duration::from_millis(10));
        }
        take_journal_away(&config.storage.url);
        assert!(!Path::new(&format!("{}-wal", file.display())).exists(), "the journal is still there");
    }

    /// The folder of its own, where it has one.
    pub fn dir(&self) -> &Path {
        self.dir.as_ref().expect("a folder").path()
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A new token: of an analyst for `consumer`, of a steward for `owner`, or of another role.
    pub fn token(&self, role: Role, consumer: Option<&str>, owner: Option<&str>) -> String {
        self.administer(async |administration| {
            administration.create_token(role, consumer, owner).await.expect("a token").secret
        })
    }

    /// A new token of a steward of `owner`.
    pub fn steward(&self, owner: &str) -> String {
        self.token(Role::Steward, None, Some(owner))
    }

    /// A new consumer, and a token of its analyst.
    pub fn consumer(&self, name: &str, agency: Option<&str>) -> String {
        self.administer(async |administration| {
            administration.add_consumer(name, agency).await.expect("a consumer");
        });
        self.token(Role::Analyst, Some(name), None)
    }

    /// A request with `token`. A body is JSON.
    pub fn send_as(&self, token: &str, method: &str, path: &str, body: impl Into<Vec<u8>>) -> Seen {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        self.send_bare(method, path, &headers, body)
    }

    /// A policy, sent as TOML with `token`.
    pub fn send_policy(&self, token: &str, method: &str, path: &str, policy: &str) -> Seen {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/toml")];
        self.send_bare(method, path, &headers, policy)
    }

    /// Asks `question` with `token`, for JSON.
    pub fn ask_as(&self, token: &str, question: &Value) -> Seen {
        self.send_as(token, "POST", "/v1/query", question.to_string())
    }

    /// What an operator does on the storage beside the running server.
    pub fn administer<T>(&self, work: impl AsyncFnOnce(Administration) -> T) -> T {
        self.runtime.block_on(async { work(Administration::open(&self.config).await.expect("the storage")).await })
    }

    /// A request with the analyst's token.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Seen {
        let bearer = format!("Bearer {}", self.analyst);
        let mut all = vec![("authorization", bearer.as_str())];
        all.extend(headers);
        self.send_bare(method, path, &all, body)
    }

    /// A request with these headers and no others.
    pub fn send_bare(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Seen {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .allow_non_standard_methods(true)
            .build()
            .into();
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = agent.run(request.body(body.into()).expect("a request")).expect("a response");
        let body = response.body_mut().read_to_vec().expect("a body");
        Seen { status: response.status().as_u16(), headers: response.headers().clone(), body }
    }

    /// Asks `question` as the analyst, for JSON.
    pub fn ask(&self, question: &Value) -> Seen {
        self.send("POST", "/v1/query", &[], question.to_string())
    }

    /// The analyst's accounts.
    pub fn budget(&self) -> Value {
        self.send("GET", "/v1/budget", &[], "").json()
    }
}

/// What came back.
pub struct Seen {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Seen {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("UTF-8")
    }

    /// The body of an answer.
    pub fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        assert_eq!(self.header("content-type"), "application/json");
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// The body of what was made: as [`Self::json`], under 201.
    pub fn made(&self) -> Value {
        assert_eq!(self.status, 201, "{}", self.text());
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// That it was done, and nothing is to be said.
    pub fn done(&self) {
        assert_eq!((self.status, self.text().as_str()), (204, ""));
    }

    /// That it was refused, with `status` and `code`, and what to do next is said. Returns the detail.
    pub fn refused(&self, status: u16, code: &str) -> String {
        let problem = self.problem();
        assert_eq!((self.status, &problem["code"]), (status, &Value::from(code)), "{problem}");
        assert!(problem["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "no hint: {problem}");
        problem["detail"].as_str().expect("a detail").to_owned()
    }

    /// A header's text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no header {name}")).to_str().expect("ASCII")
    }

    /// The body of a refusal, whose members must agree with the response.
    pub fn problem(&self) -> Value {
        let text = self.text();
        assert!(self.status >= 400, "{text}");
        assert_eq!(self.header("content-type"), "application/problem+json", "{text}");
        let problem: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(problem["status"], self.status, "{text}");
        let code = problem["code"].as_str().expect("a code");
        assert_eq!(problem["type"], format!("urn:tollgate:error:{code}"), "{text}");
        for member in ["title", "detail"] {
            assert!(problem[member].as_str().is_some_and(|words| !words.is_empty()), "{text}");
        }
        problem
    }
}

/// The program itself, in `dir`, without the environment's configuration.
pub fn tollgate(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.current_dir(dir);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TOLLGATE_") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command
}

/// What a run of the program said, and how it ended.
pub struct Ran {
    pub status: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code().unwrap_or(-1),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ran {
    /// Runs `command` to its end.
    pub fn of(command: &mut Command) -> Self {
        command.output().expect("the program").into()
    }

    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).expect("UTF-8")
    }

    /// The same, of a run that did what it was asked.
    pub fn done(&self) -> String {
        assert_eq!(self.status, 0, "{}{}", self.text(), self.stderr);
        self.text()
    }
}

/// A configuration over [`united_copied_to`], and a folder `more` from which the stewards of `united` may register data:
/// it holds `hotels.parquet`, which is that data once more.
pub fn united_with_room(dir: &Path) -> Config {
    let (policies, data) = united_copied_to(dir);
    let more = dir.join("more");
    std::fs::create_dir(&more).expect("a folder");
    std::fs::copy(data, more.join("hotels.parquet")).expect("a copy");
    let mut config = over(&policies, dir);
    config.policies.locations.insert("united".to_owned(), vec![more]);
    config
}

/// A policy folder in `dir` with `united.flights` alone, over a copy of its data that a test may do as it likes with.
/// Returns the folder and the copy.
pub fn united_copied_to(dir: &Path) -> (PathBuf, PathBuf) {
    let (policies, data) = (dir.join("policies"), dir.join("UA.parquet"));
    std::fs::create_dir(&policies).expect("a folder");
    std::fs::copy(repository().join("tests/data/flights/UA.parquet"), &data).expect("a copy");
    let policy = std::fs::read_to_string(repository().join("policies/airlines/united.flights.toml")).expect("a policy");
    let moved = policy.replace("../../tests/data/flights/UA.parquet", "../UA.parquet");
    assert_ne!(policy, moved, "the policy names the file");
    std::fs::write(policies.join("united.flights.toml"), moved).expect("written");
    (policies, data)
}
