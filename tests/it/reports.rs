//! Reports: roles, exact sums, windows, savings, settlement, forms that agree, alerts.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use arrow::csv::ReaderBuilder;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::ipc::reader::StreamReader;
use arrow::record_batch::RecordBatch;
use arrow::util::display::array_value_to_string;
use chrono::{DateTime, Datelike, Days, Months, NaiveDate, Utc};
use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate::accounting::{Accounting, Cost, Delta, Epsilon, Limit, Loss, Rho, epsilon_of, event, rho_for};
use tollgate::config::{Alerts, Config};
use tollgate::gateway::administration::Administration;
use tollgate::gateway::reports::{AccountsForm, SettlementForm, SpendForm, TopForm};
use tollgate::gateway::{Gateway, Question};
use tollgate::ledger::{
    self, Account, AccountCharge, Actor, Charge, ChargeOutcome, QueryRecord, ReleaseKey, Role, Scope, Store,
};
use uuid::Uuid;

use crate::fixture::{CONSUMER, Ran, Seen, Server, over, tollgate, united_copied_to};

const COUNT: &str = "SELECT count(*) AS n FROM united.flights";
const OF_DELTA: &str = "SELECT count(*) AS n FROM delta.flights";

/// A policy over data that nobody will open.
fn policy(dir: &Path, owner: &str, accounting: &str, budget: &str) {
    let text = format!(
        "[dataset]\nowner = \"{owner}\"\nname = \"data\"\nlocation = \"../{owner}.parquet\"\n\n[privacy]\nunit = \"person\"\n\
         unit_domain = \"people\"\nmin_group_size = 1\nmax_groups_per_unit = 1\nmax_rows_per_unit_per_group = 1\n\
         accounting = \"{accounting}\"\n\n[budget]\ndefault_query = {{ epsilon = 0.1 }}\nmax_query = {{ epsilon = 1.0 }}\n{budget}"
    );
    std::fs::write(dir.join(format!("{owner}.data.toml")), text).expect("written");
}

const PER_MONTH: &str = "per_consumer = { epsilon = 4.0, delta = 1e-6, per = \"month\" }\n\
     all_consumers = { epsilon = 20.0, delta = 1e-5, per = \"lifetime\" }\n\
     price_per_epsilon = { amount = \"12.50\", currency = \"EUR\" }\n";

/// A ledger under policies that are written by `write`, without a gateway.
struct Books {
    dir: TempDir,
    config: Config,
}

impl Books {
    fn new(write: impl FnOnce(&Path)) -> Self {
        let shm = Path::new("/dev/shm");
        let dir = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.expect("a directory");
        let policies = dir.path().join("policies");
        std::fs::create_dir(&policies).expect("a folder");
        write(&policies);
        let config = over(&policies, dir.path());
        Self { dir, config }
    }

    async fn store(&self) -> Arc<dyn Store> {
        ledger::open(&self.config.storage.url).await.expect("the storage")
    }

    async fn administration(&self) -> Administration {
        Administration::open(&self.config).await.expect("the storage")
    }
}

/// Nothing is refused: who may spend what is not what these tests are about.
fn unlimited(accounting: Accounting) -> Limit {
    Limit { loss: Loss::from_steps(accounting, u64::MAX), delta: Delta::MAX }
}

/// A charge on the accounts that a gateway would charge: of each dataset the consumer's of the month, its agency's and
/// that of all; and the consumer's in the unit domain.
fn charge_of(
    consumer: &str,
    agency: Option<&str>,
    datasets: &[(&str, Accounting)],
    release: u64,
    cost: Cost,
    at: DateTime<Utc>,
) -> Charge {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&release.to_le_bytes());
    let month = format!("{:04}-{:02}", at.year(), at.month());
    let line = |scope: Scope, dataset: &str, window: &str, accounting: Accounting| AccountCharge {
        account: Account { scope, dataset: dataset.into(), window: window.into(), epoch: None },
        limit: unlimited(accounting),
        cost,
    };
    let mut accounts = Vec::new();
    for (dataset, accounting) in datasets {
        accounts.push(line(Scope::Consumer(consumer.into()), dataset, &month, *accounting));
        if let Some(agency) = agency {
            accounts.push(line(Scope::Agency(agency.into()), dataset, "lifetime", *accounting));
        }
        accounts.push(line(Scope::AllConsumers, dataset, "lifetime", *accounting));
    }
    accounts.push(line(Scope::Domain(consumer.into()), "people", "lifetime", Accounting::Zcdp));
    Charge {
        consumer: consumer.into(),
        release: ReleaseKey(key),
        precision: cost.loss.steps(),
        accounts,
        idempotency: None,
        query: QueryRecord {
            query_id: Uuid::now_v7(),
            sql: format!("SELECT count(*) FROM {}", datasets[0].0),
            purpose: (!release.is_multiple_of(3)).then(|| format!("purpose-{}", release % 3)),
            datasets: datasets.iter().map(|(name, _)| (*name).to_owned()).collect(),
            events: event::to_json(&event::Event::of_cost(cost)),
            summable: None,
        },
        at,
        reservation: None,
    }
}

fn zcdp(rho_steps: u64, delta_steps: u64) -> Cost {
    Cost { loss: Loss::Zcdp(Rho::from_steps(rho_steps)), delta: Delta::from_steps(delta_steps) }
}

fn pure(epsilon_steps: u64) -> Cost {
    Cost { loss: Loss::Pure(Epsilon::from_steps(epsilon_steps)), delta: Delta::ZERO }
}

async fn charged(store: &dyn Store, charge: &Charge) {
    let outcome = store.charge(charge).await.expect("a charge");
    assert!(matches!(outcome, ChargeOutcome::Charged { .. }), "{outcome:?}");
}

async fn consumer(store: &dyn Store, name: &str, agency: Option<&str>) {
    store.add_consumer(name, agency, &Actor::command_line()).await.expect("a consumer");
}

/// An exact decimal in steps of 10^-`places`.
fn steps(text: &str, places: usize) -> u128 {
    let (units, rest) = text.split_once('.').unwrap_or((text, ""));
    assert!(rest.len() <= places, "{text}");
    format!("{units}{rest:0<places$}").parse().expect("digits")
}

#[tokio::test]
async fn a_new_window_keeps_the_old_one_and_the_lifetime_is_their_sum() {
    let books = Books::new(|dir| policy(dir, "clinic", "zcdp", PER_MONTH));
    let store = books.store().await;
    consumer(&*store, "dot", Some("health")).await;
    let now = Utc::now();
    let first = NaiveDate::from_ymd_opt(now.year(), now.month(), 1).expect("a day");
    let last_month =
        first.checked_sub_months(Months::new(1)).expect("a month").and_hms_opt(12, 0, 0).expect("noon").and_utc();
    let on = [("clinic.data", Accounting::Zcdp)];
    charged(&*store, &charge_of("dot", Some("health"), &on, 1, zcdp(30_000_000_000, 5), last_month)).await;
    charged(&*store, &charge_of("dot", Some("health"), &on, 2, zcdp(10_000_000_000, 7), now)).await;
    let reports = books.administration().await;
    let of_dot = AccountsForm { consumer: Some("dot".into()), past: true, ..AccountsForm::default() };
    let report = reports.accounts_report(&of_dot).await.expect("a report");
    let on_clinic: Vec<_> = report.accounts.iter().filter(|row| row.scope == "consumer").collect();
    let [present, past] = on_clinic[..] else { panic!("{report:?}") };
    assert_eq!((present.loss.as_str(), present.delta.as_str()), ("0.01", "0.000000000000000007"));
    assert_eq!(present.window, now.format("%Y-%m").to_string());
    assert_eq!(present.renews, first.checked_add_months(Months::new(1)));
    assert_eq!((past.loss.as_str(), past.per, past.fraction_spent), ("0.03", None, None));
    assert_eq!(past.window, last_month.format("%Y-%m").to_string());
    let half = Delta::floor_from(5e-7).expect("a delta");
    let limit = rho_for(Epsilon::floor_from(4.0).expect("an epsilon"), half);
    let fraction = present.fraction_spent.expect("a limit");
    assert!((fraction - 0.01 / limit.to_f64()).abs() < 1e-9, "{fraction}");
    for row in [present, past] {
        assert_eq!((row.lifetime_loss.as_str(), row.lifetime_delta.as_str()), ("0.04", "0.000000000000000012"));
        assert_eq!(row.lifetime_epsilon, Some(epsilon_of(Rho::from_steps(40_000_000_000), half)));
        assert_eq!(row.epsilon_delta.as_deref(), Some("0.0000005"));
        let restated = row.restated_epsilon.expect("restated");
        assert!(restated > 0.0 && restated <= row.lifetime_epsilon.expect("an epsilon"), "{restated}");
        assert_eq!(row.restated_delta.as_deref(), Some("0.000000500000000012"));
    }
    assert_eq!(present.epsilon, Some(epsilon_of(Rho::from_steps(10_000_000_000), half)));
    // Today's charge alone is in this window: a rate of one day.
    assert_eq!(present.rate_days, Some(1));
    let lasts = (u128::from(limit.steps()) - 10_000_000_000) / 10_000_000_000;
    let exhausted = now.date_naive().checked_add_days(Days::new(u64::try_from(lasts).expect("few")));
    assert_eq!(present.exhausted, exhausted.filter(|day| *day < present.renews.expect("a renewal")));
    assert_eq!(present.days.len(), 1);
    assert_eq!((present.days[0].charges, present.days[0].loss.as_str()), (1, "0.01"));
    let left = steps(present.days[0].loss_left.as_deref().expect("a limit"), 12);
    assert_eq!(left, u128::from(limit.steps()) - 10_000_000_000);
    // The accounts that it shares: its agency's and everybody's are lifetimes.
    let all = reports.accounts_report(&AccountsForm::default()).await.expect("a report");
    let shared: Vec<_> = all.accounts.iter().filter(|row| ["agency", "all_consumers"].contains(&row.scope)).collect();
    assert_eq!(shared.len(), 2);
    assert!(shared.iter().all(|row| row.loss == "0.04" && row.lifetime_loss == "0.04"), "{shared:?}");
    let domain = all.accounts.iter().find(|row| row.scope == "domain").expect("the unit domain");
    assert_eq!((domain.dataset.as_str(), domain.loss.as_str(), domain.epsilon_limit), ("people", "0.04", None));
}

#[tokio::test]
async fn every_epsilon_says_whom_it_protects() {
    let books = Books::new(|dir| {
        policy(dir, "clinic", "zcdp", PER_MONTH);
        policy(dir, "bank", "zcdp", PER_MONTH);
        let path = dir.join("bank.data.toml");
        let epochs = "[privacy]\nepoch = \"month\"\nepoch_column = \"day\"\nepoch_from = 2025-01-01\n";
        let text = std::fs::read_to_string(&path).expect("a policy").replace("[privacy]\n", epochs);
        std::fs::write(&path, text).expect("written");
    });
    let store = books.store().await;
    consumer(&*store, "dot", Some("health")).await;
    let now = Utc::now();
    for (release, dataset) in [(1, "clinic.data"), (2, "bank.data")] {
        let on = [(dataset, Accounting::Zcdp)];
        charged(&*store, &charge_of("dot", Some("health"), &on, release, zcdp(10_000_000_000, 0), now)).await;
    }
    let whole = "user-level differential privacy, per people: all rows of one people together are protected";
    let by_month = "user-level differential privacy, per people and month: all rows of one people in one month together \
                    are protected; over several months of one people the promise is weaker";
    let words = |dataset: &str| if dataset == "bank.data" { by_month } else { whole };
    let reports = books.administration().await;
    let spend = async |by: &str, dataset: Option<&str>| {
        let (by, dataset) = (Some(by.to_owned()), dataset.map(str::to_owned));
        reports.spend_report(&SpendForm { by, dataset, ..SpendForm::default() }).await.expect("a report").lines
    };
    let lines = spend("dataset", None).await;
    assert_eq!(lines.len(), 2);
    for line in &lines {
        let dataset = line.group["dataset"].as_deref().expect("a dataset");
        assert!(line.epsilon.is_some());
        assert_eq!(line.guarantee.as_deref(), Some(words(dataset)));
    }
    // One dataset, whatever it is summed by; and no promise where there is no ε.
    assert_eq!(spend("consumer", Some("bank.data")).await[0].guarantee.as_deref(), Some(by_month));
    let of_both = &spend("consumer", None).await[0];
    assert_eq!((of_both.epsilon, &of_both.guarantee), (None, &None));

    let accounts = reports.accounts_report(&AccountsForm::default()).await.expect("a report").accounts;
    let mut scopes = Vec::new();
    for row in &accounts {
        let of_both = format!("{by_month}; and {whole}");
        let expected = if row.scope == "domain" { &of_both } else { words(&row.dataset) };
        assert_eq!(row.guarantee.as_deref(), Some(expected), "{row:?}");
        scopes.push(row.scope);
    }
    scopes.sort_unstable();
    scopes.dedup();
    assert_eq!(scopes, ["agency", "all_consumers", "consumer", "domain"]);

    let top = reports.top_report(&TopForm::default()).await.expect("a report").queries;
    assert_eq!(top.len(), 2);
    for row in &top {
        assert_eq!((row.epsilon.is_some(), row.guarantee.as_deref()), (true, Some(words(&row.dataset))));
    }
    let statement = reports.settlement_report(&SettlementForm::default()).await.expect("a statement");
    assert_eq!(statement.lines.len(), 2);
    for line in &statement.lines {
        assert_eq!(line.guarantee, words(&line.dataset));
    }
    // A table for eyes names the datasets where there are several promises.
    let table = Ran::of(tollgate(books.dir.path()).args(["report", "spend", "--by", "dataset"])).done();
    for said in [format!("promised of clinic.data: {whole}\n"), format!("promised of bank.data: {by_month}\n")] {
        assert!(table.contains(&said), "{table}");
    }
}

#[tokio::test]
async fn what_is_owed_is_the_epsilon_of_the_sum_times_the_price() {
    let pure_budget = "per_consumer = { epsilon = 10.0, delta = 0.0, per = \"lifetime\" }\n\
         all_consumers = { epsilon = 100.0, delta = 0.0, per = \"lifetime\" }\n\
         price_per_epsilon = { amount = \"0.333333\", currency = \"USD\" }\n";
    let books = Books::new(|dir| {
        policy(dir, "clinic", "zcdp", PER_MONTH);
        policy(dir, "bank", "pure", pure_budget);
        let free = PER_MONTH.lines().filter(|line| !line.starts_with("price")).collect::<Vec<_>>().join("\n");
        policy(dir, "free", "zcdp", &free);
    });
    let store = books.store().await;
    for (name, agency) in [("dot", Some("health")), ("tim", Some("health")), ("solo", None)] {
        consumer(&*store, name, agency).await;
    }
    let at = |text: &str| text.parse::<DateTime<Utc>>().expect("a time");
    let (clinic, bank) = ([("clinic.data", Accounting::Zcdp)], [("bank.data", Accounting::Pure)]);
    // Two halves of what an ε of 4 at 5e-7 holds, by two consumers of one agency.
    let whole =
        rho_for(Epsilon::floor_from(4.0).expect("an epsilon"), Delta::floor_from(5e-7).expect("a delta")).steps();
    let march = at("2026-03-10T10:00:00Z");
    charged(&*store, &charge_of("dot", Some("health"), &clinic, 1, zcdp(whole / 2, 0), march)).await;
    charged(&*store, &charge_of("tim", Some("health"), &clinic, 2, zcdp(whole - whole / 2, 0), march)).await;
    // 0.1 + 0.2 in March; what is of April is not owed for March.
    charged(&*store, &charge_of("dot", Some("health"), &bank, 3, pure(100_000_000_000), march)).await;
    charged(&*store, &charge_of("tim", Some("health"), &bank, 4, pure(200_000_000_000), at("2026-03-31T23:59:59Z")))
        .await;
    charged(&*store, &charge_of("tim", Some("health"), &bank, 5, pure(400_000_000_000), at("2026-04-01T00:00:00Z")))
        .await;
    charged(&*store, &charge_of("solo", None, &bank, 6, pure(1_000_000_000_000), march)).await;
    charged(&*store, &charge_of("solo", None, &[("free.data", Accounting::Zcdp)], 7, zcdp(1_000, 0), march)).await;
    let reports = books.administration().await;
    let of_march = SettlementForm { from: Some("2026-03-01".into()), to: Some("2026-03-31".into()) };
    let statement = reports.settlement_report(&of_march).await.expect("a statement");
    let lines: Vec<_> = statement
        .lines
        .iter()
        .map(|line| {
            (
                line.kind,
                line.payer.as_str(),
                line.owner.as_str(),
                line.charges,
                line.epsilon.as_str(),
                line.amount.as_str(),
            )
        })
        .collect();
    // The sum of the two halves is an ε of 4, rounded within 10⁻⁵ of it, and not of the two halves' ε's.
    let of_clinic = statement.lines.iter().find(|line| line.owner == "clinic").expect("a line");
    let epsilon = steps(&of_clinic.epsilon, 12);
    assert!((3_999_990_000_000..=4_000_000_000_000).contains(&epsilon), "{epsilon}");
    let amount = (epsilon * 12_500_000 + 500_000_000_000) / 1_000_000_000_000;
    assert_eq!(steps(&of_clinic.amount, 6), amount);
    assert!((49_999_000..=50_000_000).contains(&amount), "{amount}");
    assert_eq!(
        lines,
        [
            // 0.3 · 0.333333 = 0.0999999, which is half up 0.1.
            ("agency", "health", "bank", 2, "0.3", "0.1"),
            ("agency", "health", "clinic", 2, of_clinic.epsilon.as_str(), of_clinic.amount.as_str()),
            ("consumer", "solo", "bank", 1, "1", "0.333333"),
        ]
    );
    let totals: Vec<_> =
        statement.totals.iter().map(|total| (total.payer.as_str(), total.owner.as_str(), total.currency)).collect();
    assert_eq!(totals, [("health", "bank", "USD"), ("health", "clinic", "EUR"), ("solo", "bank", "USD")]);
    assert!(statement.rule.contains("half up"), "{}", statement.rule);
    let of_april = SettlementForm { from: Some("2026-04-01".into()), to: None };
    let statement = reports.settlement_report(&of_april).await.expect("a statement");
    assert_eq!(statement.lines.len(), 1);
    assert_eq!((statement.lines[0].epsilon.as_str(), statement.lines[0].amount.as_str()), ("0.4", "0.133333"));
}

/// Tokens of each role over the airlines, after a few questions.
struct Airlines {
    server: Server,
    admin: String,
    auditor: String,
    united: String,
    delta: String,
    other: String,
}

impl Airlines {
    fn new() -> Self {
        let server = Server::over_airlines();
        let token = |role: Role, consumer: Option<&'static str>, owner: Option<&'static str>| {
            server
                .administer(async |storage| storage.create_token(role, consumer, owner).await.expect("a token").secret)
        };
        server.administer(async |storage| storage.add_consumer("rail-office", None).await.expect("a consumer"));
        let (admin, auditor) = (token(Role::BudgetAdmin, None, None), token(Role::Auditor, None, None));
        let (united, delta) = (token(Role::Steward, None, Some("united")), token(Role::Steward, None, Some("delta")));
        let other = token(Role::Analyst, Some("rail-office"), None);
        let asked = Self { server, admin, auditor, united, delta, other };
        for sql in [COUNT, OF_DELTA, COUNT] {
            assert_eq!(asked.server.ask(&json!({ "sql": sql, "epsilon": 0.5 })).status, 200);
        }
        asked
    }

    fn get(&self, token: &str, path: &str, accept: &str) -> Seen {
        let bearer = format!("Bearer {token}");
        self.server.send_bare("GET", path, &[("authorization", &bearer), ("accept", accept)], "")
    }

    fn json(&self, token: &str, path: &str) -> Value {
        self.get(token, path, "application/json").json()
    }
}

/// The datasets of a report's lines.
fn datasets(report: &Value) -> Vec<&str> {
    report["lines"].as_array().expect("lines").iter().filter_map(|line| line["group"]["dataset"].as_str()).collect()
}

#[test]
fn everybody_sees_their_own_figures_and_no_others() {
    let asked = Airlines::new();
    let by_dataset = "/v1/reports/spend?by=dataset";
    for token in [&asked.admin, &asked.auditor, &asked.server.analyst] {
        assert_eq!(datasets(&asked.json(token, by_dataset)), ["delta.flights", "united.flights"]);
    }
    assert_eq!(datasets(&asked.json(&asked.united, by_dataset)), ["united.flights"]);
    assert_eq!(datasets(&asked.json(&asked.delta, by_dataset)), ["delta.flights"]);
    assert_eq!(datasets(&asked.json(&asked.other, by_dataset)), Vec::<&str>::new());
    let refused = |token: &str, path: &str, code: &str| {
        let problem = asked.get(token, path, "application/json").problem();
        assert_eq!(problem["code"], code, "{path}");
    };
    refused(&asked.delta, "/v1/reports/spend?dataset=united.flights", "not_allowed");
    refused(&asked.delta, "/v1/reports/accounts?dataset=united.flights", "not_allowed");
    refused(&asked.delta, "/v1/reports/top?dataset=united.flights", "not_allowed");
    refused(&asked.other, &format!("/v1/reports/spend?consumer={CONSUMER}"), "not_allowed");
    refused(&asked.other, &format!("/v1/reports/accounts?consumer={CONSUMER}"), "not_allowed");
    refused(&asked.other, &format!("/v1/reports/top?consumer={CONSUMER}"), "not_allowed");
    refused(&asked.other, "/v1/reports/settlement", "not_allowed");
    refused("nobody", by_dataset, "unauthenticated");
    for path in
        ["spend?by=row", "spend?by=day,day", "spend?from=soon", "spend?buy=day", "accounts?limit=9999", "top?limit=x"]
    {
        refused(&asked.admin, &format!("/v1/reports/{path}"), "request_invalid");
    }
    // The dearest queries: an analyst's own, a steward's datasets' alone.
    let top = |token: &str| asked.json(token, "/v1/reports/top")["queries"].as_array().expect("queries").len();
    assert_eq!((top(&asked.admin), top(&asked.server.analyst), top(&asked.united), top(&asked.other)), (2, 2, 1, 0));
    assert_eq!(asked.json(&asked.united, "/v1/reports/top")["queries"][0]["sql"], COUNT);
    // Accounts that are shared with others are not an analyst's to see; the unit domain is not a steward's.
    let scopes = |token: &str| {
        let report = asked.json(token, "/v1/reports/accounts");
        let rows = report["accounts"].as_array().expect("accounts").clone();
        let mut scopes: Vec<String> =
            rows.iter().map(|row| row["scope"].as_str().expect("a scope").to_owned()).collect();
        scopes.sort();
        scopes.dedup();
        scopes
    };
    assert_eq!(scopes(&asked.server.analyst), ["consumer", "domain"]);
    assert_eq!(scopes(&asked.united), ["agency", "all_consumers", "consumer"]);
    assert_eq!(scopes(&asked.admin), ["agency", "all_consumers", "consumer", "domain"]);
    assert_eq!(scopes(&asked.other), Vec::<String>::new());
    assert_eq!(asked.json(&asked.united, "/v1/reports/settlement")["lines"], json!([]), "nobody has a price");
}

#[test]
fn an_answer_that_is_given_again_saves_what_it_would_have_cost() {
    let asked = Airlines::new();
    let report = asked.json(&asked.admin, "/v1/reports/spend?by=dataset,consumer,agency");
    let line = |dataset: &str| {
        let lines = report["lines"].as_array().expect("lines");
        lines.iter().find(|line| line["group"]["dataset"] == dataset).expect("a line").clone()
    };
    let (united, delta) = (line("united.flights"), line("delta.flights"));
    assert_eq!((&united["charges"], &united["queries"], &united["reused"]), (&json!(1), &json!(1), &json!(1)));
    assert_eq!(united["saved_loss"], united["loss"]);
    assert_eq!(united["group"]["agency"], "transport");
    assert_eq!((&delta["reused"], &delta["saved_loss"]), (&json!(0), &json!("0")));
    // What the report says is what the answer said.
    let loss: f64 = united["loss"].as_str().expect("a decimal").parse().expect("a number");
    let answer = asked.server.ask(&json!({ "sql": COUNT, "epsilon": 0.5 })).json();
    assert_eq!(answer["privacy"]["rho"].as_f64(), Some(loss));
    assert_eq!(answer["privacy"]["guarantee"], united["guarantee"]);
    assert!(united["guarantee"].as_str().is_some_and(|words| words.contains("per aircraft")), "{united}");
    let budget = asked.server.budget();
    let own = budget["budget"].as_array().expect("accounts").iter().find(|line| line["dataset"] == "united.flights");
    assert_eq!(own.expect("an account")["epsilon_spent"], united["epsilon"]);
}

fn cells(batch: &RecordBatch) -> Vec<Vec<String>> {
    let text = |column: usize, row: usize| {
        let array = batch.column(column);
        if array.is_null(row) { String::new() } else { array_value_to_string(array, row).expect("a text") }
    };
    (0..batch.num_rows()).map(|row| (0..batch.num_columns()).map(|column| text(column, row)).collect()).collect()
}

/// The rows of a CSV with these columns, every cell as text.
fn cells_of_csv(csv: &[u8], names: &[String]) -> Vec<Vec<String>> {
    let schema = Schema::new(names.iter().map(|name| Field::new(name, DataType::Utf8, true)).collect::<Vec<_>>());
    let reader = ReaderBuilder::new(Arc::new(schema)).with_header(true).build(csv).expect("a reader");
    reader.flat_map(|batch| cells(&batch.expect("a batch"))).collect()
}

#[test]
fn the_three_forms_of_a_report_say_the_same() {
    let asked = Airlines::new();
    for (path, rows_of, list) in [
        ("/v1/reports/spend?by=day,purpose,dataset", "lines", 2),
        ("/v1/reports/accounts", "accounts", 7),
        ("/v1/reports/top", "queries", 2),
    ] {
        let whole = asked.json(&asked.admin, path);
        let rows = whole[rows_of].as_array().expect("rows");
        assert_eq!(rows.len(), list, "{whole}");
        let arrow = asked.get(&asked.admin, path, "application/vnd.apache.arrow.stream");
        let batches: Vec<RecordBatch> = StreamReader::try_new(arrow.body.as_slice(), None)
            .expect("a stream")
            .map(|batch| batch.expect("a batch"))
            .collect();
        let [batch] = &batches[..] else { panic!("one batch") };
        let names: Vec<String> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
        let of_json: Vec<Vec<String>> = rows
            .iter()
            .map(|row| {
                let cell = |name: &String| match row.get(name).or_else(|| row["group"].get(name)).expect("a member") {
                    Value::Null => String::new(),
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                names.iter().map(cell).collect()
            })
            .collect();
        // Numbers as Arrow's formatter and as JSON write them may differ in their form; exact decimals and texts may not.
        let same = |a: &str, b: &str| a == b || a.parse::<f64>().is_ok_and(|a| b.parse::<f64>().is_ok_and(|b| a == b));
        let of_arrow = cells(batch);
        let csv = asked.get(&asked.admin, path, "text/csv");
        assert_eq!(csv.text().lines().next(), Some(names.join(",").as_str()));
        let of_csv = cells_of_csv(&csv.body, &names);
        assert_eq!((of_arrow.len(), of_csv.len()), (of_json.len(), of_json.len()));
        for ((arrow, json), csv) in of_arrow.iter().zip(&of_json).zip(&of_csv) {
            for ((arrow, json), csv) in arrow.iter().zip(json).zip(csv) {
                assert!(same(arrow, json), "{path}: {arrow} {json}");
                assert!(same(csv, json), "{path}: {csv} {json}");
            }
        }
    }
}

#[test]
fn the_command_line_reports_on_the_storage_and_through_a_server() {
    let dir = tempfile::tempdir().expect("a directory");
    let (policies, _) = united_copied_to(dir.path());
    let server = Server::start(over(&policies, dir.path()));
    assert_eq!(server.ask(&json!({ "sql": COUNT, "epsilon": 0.5, "purpose": "statistics" })).status, 200);
    let admin = server
        .administer(async |storage| storage.create_token(Role::BudgetAdmin, None, None).await.expect("a token").secret);
    let run = |arguments: &[&str], through: bool| {
        let mut command = tollgate(dir.path());
        command.args(["report"]).args(arguments);
        if through {
            command.args(["--url", &server.url, "--token", &admin]);
        }
        Ran::of(&mut command).done()
    };
    for arguments in [
        &["spend", "--by", "dataset,purpose", "--format", "csv"][..],
        &["spend", "--by", "consumer", "--from", "2020-01-01", "--format", "json"],
        &["spend", "--format", "table"],
        &["accounts", "--format", "csv"],
        &["accounts", "--brief", "--past", "--format", "table"],
        &["top", "--limit", "5", "--format", "json"],
        &["settlement", "--from", "2020-01-01", "--to", "2099-12-31", "--format", "json"],
    ] {
        let of_storage = run(arguments, false);
        assert_eq!(of_storage, run(arguments, true), "{arguments:?}");
        assert!(!of_storage.trim().is_empty(), "{arguments:?}");
    }
    // A table says whom its ε's protect beneath, where the others have a column of it.
    let said =
        "promised: user-level differential privacy, per aircraft: all rows of one aircraft together are protected\n";
    for (table, epsilons) in [
        (&["spend", "--by", "dataset"][..], true),
        (&["accounts"][..], true),
        (&["top"][..], true),
        (&["spend", "--by", "consumer"][..], false),
    ] {
        let table = run(table, false);
        assert_eq!((table.ends_with(said), table.contains("guarantee")), (epsilons, false), "{table}");
    }
    let spend = run(&["spend", "--by", "dataset,purpose", "--format", "csv"], false);
    assert!(spend.contains("united.flights,statistics,zcdp,1,1,"), "{spend}");
    let failed = Ran::of(tollgate(dir.path()).args(["report", "spend", "--by", "row"]));
    assert_eq!(failed.status, 1);
    assert!(failed.stderr.contains("request_invalid"), "{}", failed.stderr);
}

/// A server that takes what is posted to it. It refuses the first request, which is then sent again.
fn webhook() -> (String, mpsc::Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}/alerts", listener.local_addr().expect("an address"));
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        for (at, stream) in listener.incoming().enumerate() {
            let mut stream = BufReader::new(stream.expect("a connection"));
            let (mut length, mut line) = (0, String::new());
            while stream.read_line(&mut line).expect("a line") > 0 && line.trim_end() != "" {
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().expect("a length");
                }
                line.clear();
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).expect("a body");
            let status = if at == 0 { "503 Service Unavailable" } else { "204 No Content" };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.get_mut().write_all(answer.as_bytes()).expect("an answer");
            if at > 0 {
                send.send(serde_json::from_slice(&body).expect("JSON")).expect("somebody listens");
            }
        }
    });
    (address, receive)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_threshold_is_told_of_once_across_restarts() {
    let (address, alerts) = webhook();
    let dir = tempfile::tempdir().expect("a directory");
    let (policies, _) = united_copied_to(dir.path());
    // An ε of 1 at 1e-9 is about 5 % of the ρ of 4 at 5e-7, which one consumer has, and less than 1 % of everybody's.
    let config = Config {
        alerts: Alerts { thresholds_percent: vec![4, 2, 9, 2], webhook: Some(address) },
        ..over(&policies, dir.path())
    };
    let storage = Administration::open(&config).await.expect("the storage");
    storage.add_consumer(CONSUMER, None).await.expect("a consumer");
    let token = storage.create_token(Role::Analyst, Some(CONSUMER), None).await.expect("a token").secret;
    let ask = async |gateway: &Gateway, sql: &str| {
        let caller = gateway.authenticate(&token).await.expect("a caller");
        let question = Question {
            sql: sql.to_owned(),
            epsilon: Some(1.0),
            purpose: Some("statistics".to_owned()),
            ..Question::default()
        };
        gateway.ask(&caller, question).await.expect("an answer")
    };
    let next = || {
        let alert = alerts.recv_timeout(Duration::from_mins(1)).expect("an alert");
        assert_eq!((&alert["kind"], &alert["scope"]), (&json!("budget_threshold"), &json!("consumer")), "{alert}");
        assert_eq!((&alert["subject"], &alert["dataset"]), (&json!(CONSUMER), &json!("united.flights")), "{alert}");
        assert_eq!(alert["window"], Utc::now().format("%Y-%m").to_string(), "{alert}");
        alert["threshold_percent"].as_u64().expect("a number")
    };
    let gateway = Gateway::open(&config).await.expect("a gateway");
    ask(&gateway, COUNT).await;
    assert_eq!([next(), next()], [2, 4]);
    drop(gateway);
    // The next gateway on the storage knows what was told of: had it told again, that would come first.
    let gateway = Gateway::open(&config).await.expect("a gateway");
    ask(&gateway, "SELECT avg(dep_delay) AS delay FROM united.flights").await;
    assert_eq!(next(), 9);
    ask(&gateway, "SELECT avg(arr_delay) AS delay FROM united.flights").await;
    ask(&gateway, COUNT).await;
    assert!(alerts.recv_timeout(Duration::from_secs(2)).is_err(), "nothing more was passed");
}
