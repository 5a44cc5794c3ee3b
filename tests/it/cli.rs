//! The program as its users run it: exit statuses, what goes to which stream, and the whole way from an empty
//! directory to an answer.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use arrow::ipc::reader::StreamReader;
use serde_json::Value;
use tempfile::TempDir;
use tollgate::ledger::Role;

use crate::fixture::{Ran, Server, repository, tollgate};

/// A question that the airlines' policies answer.
const BY_ORIGIN: &str = "SELECT origin, count(*) AS n FROM united.flights GROUP BY origin ORDER BY origin";

/// A directory with a configuration over the airlines.
fn configured() -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let policies = repository().join("policies/airlines");
    let config = format!(
        "[server]\nhttp = \"127.0.0.1:0\"\n\n[policies]\ndir = {:?}\n\n[engine]\nresponse_quantum_ms = 0\n",
        policies.display().to_string()
    );
    fs::write(dir.path().join("tollgate.toml"), config).expect("written");
    dir
}

/// Runs the program in `dir`.
fn run(dir: &Path, arguments: &[&str]) -> Ran {
    Ran::of(tollgate(dir).args(arguments))
}

/// A consumer and its token.
fn analyst(dir: &Path) -> String {
    run(dir, &["consumer", "add", "road-office", "--agency", "transport"]).done();
    let token = run(dir, &["token", "create", "--role", "analyst", "--consumer", "road-office"]).done();
    let secret = token.strip_suffix('\n').expect("a line");
    assert!(!secret.is_empty() && !secret.contains(char::is_whitespace), "the secret and nothing else: {secret}");
    secret.to_owned()
}

/// A server in a process of its own. It is killed with the value, if it has not ended.
struct Process {
    child: Child,
    stderr: BufReader<ChildStderr>,
    url: String,
}

impl Process {
    /// Starts `command` and waits until it says where it listens.
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program");
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let mut process = Self { child, stderr, url: String::new() };
        let mut said = String::new();
        while process.url.is_empty() {
            let mut line = String::new();
            assert_ne!(process.stderr.read_line(&mut line).expect("text"), 0, "it ended without listening: {said}");
            line.trim().strip_prefix("listening on ").unwrap_or_default().clone_into(&mut process.url);
            said.push_str(&line);
        }
        process
    }

    /// Asks it to stop, and returns how it ended and what it said.
    fn stop(mut self, signal: &str) -> (Option<i32>, String) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().expect("kill");
        assert!(sent.success());
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).expect("text");
        (self.child.wait().expect("an end").code(), said)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended already where the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_operator_works_on_the_storage_before_any_server_runs() {
    let dir = configured();
    let dir = dir.path();
    analyst(dir);
    let list = run(dir, &["consumer", "list"]).done();
    assert!(list.contains("road-office") && list.contains("transport") && list.contains("active"), "{list}");

    run(dir, &["consumer", "freeze", "road-office"]).done();
    assert!(run(dir, &["consumer", "list"]).done().contains("frozen"));
    run(dir, &["consumer", "unfreeze", "road-office"]).done();
    assert!(run(dir, &["consumer", "list"]).done().contains("active"));

    let grant = ["--epsilon", "2", "--delta", "1e-7", "--per", "lifetime"];
    run(dir, &[&["budget", "set", "road-office", "united.flights"][..], &grant].concat()).done();
    let budget = run(dir, &["budget", "show", "--consumer", "road-office"]).done();
    // The owner's cap counts by the month, the grant for a lifetime: two accounts, each with a line.
    let mut lines = budget.lines().filter(|line| line.contains("united.flights"));
    assert!(lines.clone().any(|line| line.contains("month") && line.contains(" 4 ")), "{budget}");
    let granted = lines.find(|line| line.contains("lifetime")).expect("a line");
    assert!(granted.contains(" 2 ") && granted.contains("1e-7"), "{granted}");

    let steward = run(dir, &["token", "create", "--role", "steward", "--owner", "united"]);
    let said = &steward.stderr;
    let id = said.split_whitespace().nth(1).expect("an id").to_owned();
    assert!(!said.contains(steward.text().trim()), "the secret is on standard output alone");
    run(dir, &["token", "revoke", &id]).done();
}

#[test]
fn what_fails_says_why_and_exits_with_1() {
    let dir = configured();
    let dir = dir.path();
    analyst(dir);
    for (arguments, code) in [
        (&["consumer", "add", "road-office"][..], None),
        (&["consumer", "freeze", "nobody"], Some("not_found")),
        (&["token", "create", "--role", "analyst", "--consumer", "nobody"], Some("not_found")),
        (&["token", "revoke", "00000000-0000-0000-0000-000000000000"], Some("not_found")),
        (
            &["budget", "set", "road-office", "united.flights", "--epsilon", "-1", "--delta", "1e-6", "--per", "month"],
            Some("request_invalid"),
        ),
        (&["budget", "show", "--consumer", "nobody"], Some("not_found")),
        (&["serve", "--config", "nowhere.toml"], Some("config_invalid")),
        (&["query", "SELECT 1", "--url", "http://127.0.0.1:1", "--token", "t"], Some("unreachable")),
    ] {
        let ran = run(dir, arguments);
        assert_eq!(ran.status, 1, "{arguments:?}: {}{}", ran.text(), ran.stderr);
        let expected = code.map_or("error[".to_owned(), |code| format!("error[{code}]: "));
        assert!(ran.stderr.starts_with(&expected), "{arguments:?}: {}", ran.stderr);
        assert_eq!(ran.text(), "", "{arguments:?}: standard output is for what was asked for");
    }
}

#[test]
fn wrong_usage_exits_with_2() {
    let dir = tempfile::tempdir().expect("a directory");
    for arguments in [
        &[][..],
        &["sesame"],
        &["query"],
        &["query", "SELECT 1"],
        &["query", "SELECT 1", "--token", "t", "--url", "ftp://x"],
        &["query", "SELECT 1", "--epsilon", "much"],
        &["token", "create", "--role", "king"],
        &["token", "create", "--role", "analyst"],
        &["policy", "check"],
    ] {
        let ran = run(dir.path(), arguments);
        assert_eq!(ran.status, 2, "{arguments:?}: {}", ran.stderr);
    }
    assert!(fs::read_dir(dir.path()).expect("a directory").next().is_none(), "and nothing is left behind");
}

#[test]
fn a_question_is_answered_in_every_form() {
    let dir = configured();
    let dir = dir.path();
    let token = analyst(dir);
    let server = Process::start(tollgate(dir).arg("serve"));
    let query = |arguments: &[&str]| {
        let mut command = tollgate(dir);
        command.env("TOLLGATE_URL", &server.url).env("TOLLGATE_TOKEN", &token).arg("query").args(arguments);
        Ran::of(&mut command)
    };

    let dry = query(&[BY_ORIGIN, "--epsilon", "0.5", "--dry-run"]);
    assert!(dry.done().contains("discrete_gaussian") && dry.stderr.contains("would be charged"), "{}", dry.stderr);

    let table = query(&[BY_ORIGIN, "--epsilon", "0.5"]);
    for key in ["EWR", "JFK", "LGA"] {
        assert!(table.done().contains(key), "{}", table.text());
    }
    assert!(table.stderr.contains("ε 0.5") && table.stderr.contains("charged to"), "{}", table.stderr);

    let json: Value =
        serde_json::from_str(&query(&[BY_ORIGIN, "--epsilon", "0.5", "--format", "json"]).done()).expect("JSON");
    assert_eq!(json["privacy"]["cached"], true, "the table had been paid for: {json}");
    let rows = json["rows"].as_array().expect("rows");

    let csv = query(&[BY_ORIGIN, "--epsilon", "0.5", "--format", "csv"]).done();
    // A public group that was not selected has NULL values, which CSV writes as nothing.
    let cell = |value: &Value| if value.is_null() { String::new() } else { value.to_string() };
    let expected = rows.iter().map(|row| format!("{},{}", row[0].as_str().unwrap_or_default(), cell(&row[1])));
    assert_eq!(
        csv.lines().collect::<Vec<_>>(),
        std::iter::once("origin,n".to_owned()).chain(expected).collect::<Vec<_>>()
    );

    let arrow = query(&[BY_ORIGIN, "--epsilon", "0.5", "--format", "arrow"]);
    assert_eq!(arrow.status, 0, "{}", arrow.stderr);
    let reader = StreamReader::try_new(arrow.stdout.as_slice(), None).expect("a stream");
    assert_eq!(reader.map(|batch| batch.expect("a batch").num_rows()).sum::<usize>(), rows.len());

    let refused = query(&["SELECT tailnum FROM united.flights"]);
    assert_eq!((refused.status, refused.text().as_str()), (1, ""));
    assert!(
        refused.stderr.starts_with("error[query_not_private]: ") && refused.stderr.contains("\nhint: "),
        "{}",
        refused.stderr
    );
    assert_eq!(query(&[BY_ORIGIN, "--epsilon", "-1"]).status, 1);

    let as_analyst = |arguments: &[&str]| {
        Ran::of(tollgate(dir).env("TOLLGATE_URL", &server.url).env("TOLLGATE_TOKEN", &token).args(arguments)).done()
    };
    assert!(as_analyst(&["dataset", "list"]).contains("united.flights"));
    assert!(as_analyst(&["budget", "show"]).contains("united.flights"));

    let (status, said) = server.stop("-TERM");
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("/v1/query"), "requests are logged: {said}");
    assert!(!said.contains("SELECT") && !said.contains(&token), "without statements and secrets: {said}");
}

#[test]
fn a_port_in_use_is_said_so() {
    let dir = configured();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let ran = Ran::of(tollgate(dir.path()).arg("serve").env("TOLLGATE_SERVER__HTTP", &address));
    assert_eq!(ran.status, 1);
    assert!(ran.stderr.contains(&format!("cannot listen on {address}: another process")), "{}", ran.stderr);
}

#[test]
fn the_demo_answers_its_first_question() {
    let dir = tempfile::tempdir().expect("a directory");
    let demo = || run(dir.path(), &["demo", "--once", "--dir", "demo", "--rows", "40000"]);
    let first = demo();
    let table = first.done();
    for words in ["payment", "trips", "trips_half_width_95", "card", "cash", "wallet"] {
        assert!(table.contains(words), "{words}: {table}");
    }
    assert!(first.stderr.contains("made 5 tables") && first.stderr.contains("charged to"), "{}", first.stderr);

    // The same directory, a new token: the consumer has paid for this answer, and sees it again.
    let again = demo();
    assert_eq!(again.done(), table);
    assert!(again.stderr.contains("kept 5 tables") && again.stderr.contains("so free"), "{}", again.stderr);
    let consumers = run(dir.path(), &["consumer", "list", "--config", "demo/tollgate.toml"]).done();
    assert_eq!(consumers.matches("planning-office").count(), 1, "{consumers}");
}

#[test]
fn the_demo_stays_and_its_queries_can_be_pasted() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut server = Process::start(tollgate(dir.path()).args(["demo", "--rows", "40000", "--http", "127.0.0.1:0"]));
    let mut stdout = BufReader::new(server.child.stdout.take().expect("piped"));
    let mut text = String::new();
    while !text.contains("Ctrl-C") {
        assert_ne!(stdout.read_line(&mut text).expect("text"), 0, "{text}");
    }
    let exports: Vec<&str> = text.lines().map(str::trim).filter(|line| line.starts_with("export ")).collect();
    let queries: Vec<&str> = text.lines().map(str::trim).filter(|line| line.contains(" query --epsilon ")).collect();
    assert_eq!((exports.len(), queries.len()), (2, 5), "{text}");
    assert_eq!(text.lines().filter(|line| line.trim().starts_with("curl ")).count(), 5, "{text}");
    for query in queries {
        let pasted = format!("{}\n{query} --dry-run", exports.join("\n"));
        let ran = Ran::of(Command::new("sh").arg("-c").arg(&pasted).current_dir(dir.path()));
        assert_eq!(ran.status, 0, "{query}: {}", ran.stderr);
    }
    // What the steward, the administrator and the auditor are told to try works as it stands, in that order.
    let others = ["STEWARD=", "ADMINISTRATOR=", "AUDITOR=", "TOLLGATE_TOKEN=$", "cp ", "sed "];
    let told = |line: &&str| others.iter().any(|begin| line.starts_with(begin)) || line.contains(" audit verify ");
    let others: Vec<&str> = text.lines().map(str::trim).filter(told).collect();
    assert_eq!(others.len(), 16, "{others:?}");
    let pasted = format!("set -e\n{}\n{}", exports.join("\n"), others.join("\n"));
    let ran = Ran::of(Command::new("sh").arg("-c").arg(&pasted).current_dir(dir.path()));
    let said = ran.done();
    assert!(said.contains("velo.rides: version") && said.contains("log.jsonl: verified"), "{said}");
    assert_eq!(server.stop("-INT").0, Some(0));
}

#[test]
fn policies_are_checked_against_their_data() {
    let dir = tempfile::tempdir().expect("a directory");
    let checked = run(dir.path(), &["policy", "check", &repository().join("policies/airlines").display().to_string()]);
    assert!(checked.done().contains("united.flights: fine"), "{}", checked.text());

    let good = fs::read_to_string(repository().join("policies/airlines/united.flights.toml")).expect("a policy");
    let here = good.replace("../../tests/data", &repository().join("tests/data").display().to_string());
    let broken = here.replace("unit = \"tailnum\"", "unit = \"tailnumber\"");
    assert!(here != good && broken != here);
    fs::write(dir.path().join("broken.toml"), broken).expect("written");
    let ran = run(dir.path(), &["policy", "check", "broken.toml"]);
    assert_eq!((ran.status, ran.text().as_str()), (1, ""), "{}", ran.stderr);
    let line = here.lines().position(|line| line.starts_with("unit = ")).expect("the line") + 1;
    assert!(ran.stderr.contains(&format!("broken.toml:{line}:")) && ran.stderr.contains("tailnum"), "{}", ran.stderr);

    let lost = here.replace("UA.parquet", "nowhere.parquet");
    fs::write(dir.path().join("lost.toml"), lost).expect("written");
    assert_eq!(run(dir.path(), &["policy", "check", "lost.toml"]).status, 1);
}

#[test]
fn a_draft_is_a_policy_that_holds() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = repository().join("tests/data/flights/UA.parquet").display().to_string();
    let draft = run(dir.path(), &["policy", "init", &data, "--owner", "united", "--name", "flights"]).done();
    fs::write(dir.path().join("united.flights.toml"), draft).expect("written");
    let checked = run(dir.path(), &["policy", "check", "united.flights.toml"]);
    assert!(checked.done().contains("united.flights: fine"), "{}", checked.stderr);
}

#[test]
fn stewards_and_administrators_work_through_a_gateway() {
    let server = Server::over_united();
    let dir = server.dir();
    let run_as = |token: &str, arguments: &[&str]| {
        Ran::of(tollgate(dir).args(arguments).env("TOLLGATE_URL", &server.url).env("TOLLGATE_TOKEN", token))
    };
    let (steward, administrator) = (server.steward("united"), server.token(Role::BudgetAdmin, None, None));
    let steward = |arguments: &[&str]| run_as(&steward, arguments);
    let administrator = |arguments: &[&str]| run_as(&administrator, arguments);

    let flights = fs::read_to_string(dir.join("policies/united.flights.toml")).expect("a policy");
    let hotels = flights.replace("\"flights\"", "\"hotels\"").replace("../UA.parquet", "hotels.parquet");
    fs::write(dir.join("hotels.toml"), &hotels).expect("written");
    fs::write(dir.join("stricter.toml"), hotels.replace("min_group_size = 10", "min_group_size = 30"))
        .expect("written");
    fs::write(dir.join("nameless.toml"), "[privacy]\nunit = \"x\"\n").expect("written");
    let registered = steward(&["dataset", "register", "hotels.toml", "--reason", "a contract, with ä"]).done();
    assert!(registered.starts_with("united.hotels: version ") && registered.contains(" is in force"), "{registered}");
    let changed = steward(&["dataset", "change", "stricter.toml"]).done();
    assert!(changed.contains("min_group_size"), "{changed}");
    assert!(steward(&["dataset", "change", "stricter.toml"]).done().contains("in force already"));
    let document: Value =
        serde_json::from_str(&steward(&["dataset", "change", "stricter.toml", "--format", "json"]).done())
            .expect("JSON");
    assert_eq!(document["unchanged"], true);
    let nameless = steward(&["dataset", "change", "nameless.toml"]);
    assert_eq!(nameless.status, 1);
    assert!(nameless.stderr.contains("does not say which dataset"), "{}", nameless.stderr);
    let versions = steward(&["dataset", "versions", "united.hotels"]).done();
    assert!(versions.contains("a contract, with ä") && versions.contains("steward"), "{versions}");

    let question = ["query", "SELECT count(*) FROM united.hotels", "--epsilon", "0.5"];
    let analyst = server.analyst.clone();
    run_as(&analyst, &question).done();
    let queries = steward(&["dataset", "queries", "united.hotels"]).done();
    assert!(queries.contains("road-office") && queries.contains("transport"), "{queries}");
    steward(&["dataset", "suspend", "united.hotels", "--reason", "a pause"]).done();
    assert!(steward(&["dataset", "list"]).done().contains("a pause"));
    let refused = run_as(&analyst, &question);
    assert!(refused.status == 1 && refused.stderr.contains("dataset_suspended"), "{}", refused.stderr);
    steward(&["dataset", "resume", "united.hotels"]).done();
    run_as(&analyst, &question).done();
    steward(&["approval", "list"]).done();
    steward(&["dataset", "withdraw", "united.hotels", "--reason", "it has ended"]).done();
    let late = steward(&["dataset", "change", "hotels.toml"]);
    assert!(late.status == 1 && late.stderr.contains("error[conflict]"), "{}", late.stderr);

    administrator(&["consumer", "add", "rail-office", "--agency", "railways"]).done();
    assert!(administrator(&["consumer", "list"]).done().contains("railways"));
    let made = administrator(&["token", "create", "--role", "analyst", "--consumer", "rail-office"]);
    let rail = made.done().trim().to_owned();
    let another = administrator(&["token", "create", "--role", "steward", "--owner", "united"]);
    assert_eq!(another.status, 2, "{}", another.stderr);
    let grant = ["--epsilon", "2", "--delta", "1e-7", "--per", "lifetime"];
    administrator(&[&["budget", "set", "rail-office", "united.flights"][..], &grant].concat()).done();
    let budget = administrator(&["budget", "show", "--consumer", "rail-office"]).done();
    assert_eq!(run_as(&rail, &["budget", "show"]).done(), budget);
    assert!(budget.contains("lifetime"), "{budget}");

    let more = ["--epsilon", "3", "--delta", "1e-7", "--per", "lifetime", "--reason", "the winter report"];
    let asked = run_as(&rail, &[&["budget", "request", "united.flights"][..], &more].concat()).done();
    let id = asked.trim();
    assert!(administrator(&["budget", "requests"]).done().contains(id));
    administrator(&["budget", "approve", id, "--answer", "until March"]).done();
    assert!(run_as(&rail, &["budget", "requests"]).done().contains("approved"));
    assert!(run_as(&rail, &["budget", "show"]).done().contains(" 3 "));
    let twice = administrator(&["budget", "deny", id]);
    assert!(twice.status == 1 && twice.stderr.contains("decided before"), "{}", twice.stderr);

    let ask = ["query", "SELECT count(*) FROM united.flights", "--epsilon", "0.1"];
    run_as(&rail, &ask).done();
    administrator(&["consumer", "freeze", "rail-office"]).done();
    assert_eq!(run_as(&rail, &ask).status, 1);
    administrator(&["consumer", "unfreeze", "rail-office"]).done();
    run_as(&rail, &ask).done();
    let token = made.stderr.split_whitespace().nth(1).expect("an id").to_owned();
    administrator(&["token", "revoke", &token]).done();
    assert!(run_as(&rail, &ask).stderr.contains("error[unauthenticated]"));
}

#[test]
fn a_server_that_stops_leaves_its_last_entry_in_the_checkpoint_outside() {
    let dir = configured();
    let dir = dir.path();
    let token = analyst(dir);
    let server = Process::start(tollgate(dir).arg("serve").env("TOLLGATE_SERVER__HTTP", "127.0.0.1:0"));
    let url = server.url.clone();
    let question = ["query", "SELECT count(*) FROM united.flights", "--epsilon", "0.1"];
    Ran::of(tollgate(dir).args(question).env("TOLLGATE_URL", &url).env("TOLLGATE_TOKEN", &token)).done();
    assert_eq!(server.stop("-TERM").0, Some(0));
    let log: Value = serde_json::from_str(&run(dir, &["audit", "list", "--format", "json"]).done()).expect("JSON");
    let anchor = fs::read_to_string(dir.join("audit.checkpoint")).expect("a checkpoint");
    assert_eq!(anchor.lines().nth(1), Some(log["size"].to_string().as_str()), "{log}");
    run(dir, &["ledger", "check"]).done();
}
