//! The gateway itself, without an interface: answers, prices, the ledger's word, and what is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, RecordBatch, StringArray};
use arrow::compute::{cast, filter_record_batch, is_not_null};
use arrow::datatypes::{DataType, Field, Int32Type, Schema};
use arrow::util::display::array_value_to_string;
use parquet::arrow::ArrowWriter;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rand::RngExt;
use serde_json::json;
use tempfile::TempDir;
use tollgate::accounting::{Delta, Epsilon, Loss, rho_for};
use tollgate::config::Config;
use tollgate::gateway::{Administration, Answer, Caller, Code, Gateway, GatewayError, Question};
use tollgate::ledger::{Account, Role, Scope, open};
use tollgate::mechanism::NoiseSource;
use tollgate::release::{
    ContributionBounds, Contributions, GroupSums, Groups, NoisePlan, Output, Price, ReleaseSpec, draw,
};

use crate::fixture::{CONSUMER, airlines, over, repository, tollgate};

const AIRLINES: [&str; 5] = ["UA", "DL", "AA", "B6", "WN"];

/// A gateway with one consumer, over policies that a test wrote.
struct Opened {
    gateway: Arc<Gateway>,
    caller: Caller,
    config: Config,
    dir: TempDir,
}

impl Opened {
    async fn over(policies: impl FnOnce(&Path) -> PathBuf) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = over(&policies(dir.path()), dir.path());
        let gateway = Gateway::open(&config).await.unwrap();
        let caller = new_caller(&gateway, &config, CONSUMER).await;
        Self { gateway, caller, config, dir }
    }

    async fn over_airlines() -> Self {
        Self::over(|dir| airlines(dir).policies.dir).await
    }

    async fn over_planes(policies: &[Planes]) -> Self {
        Self::over(|dir| {
            for one in policies {
                one.write(dir);
            }
            dir.join("policies")
        })
        .await
    }

    async fn ask(&self, sql: &str, epsilon: f64) -> Result<Answer, GatewayError> {
        self.gateway.ask(&self.caller, question(sql, epsilon)).await
    }

    async fn administration(&self) -> Administration {
        Administration::open(&self.config).await.unwrap()
    }

    async fn another(&self, name: &str) -> Caller {
        new_caller(&self.gateway, &self.config, name).await
    }

    /// All charges in the ledger, which must agree with itself.
    async fn charges(&self) -> u64 {
        open(&self.config.storage.url).await.unwrap().check().await.unwrap().charges
    }

    async fn budget(&self) -> String {
        format!("{:?}", self.gateway.budget(&self.caller).await.unwrap())
    }
}

async fn new_caller(gateway: &Gateway, config: &Config, name: &str) -> Caller {
    let administration = Administration::open(config).await.unwrap();
    administration.add_consumer(name, Some("transport")).await.unwrap();
    let token = administration.create_token(Role::Analyst, Some(name), None).await.unwrap();
    gateway.authenticate(&token.secret).await.unwrap()
}

fn question(sql: &str, epsilon: f64) -> Question {
    Question { sql: sql.to_owned(), epsilon: Some(epsilon), ..Question::default() }
}

/// The register of planes as a private table: small, one row a unit.
#[derive(Clone)]
struct Planes {
    owner: &'static str,
    k: u64,
    accounting: &'static str,
    dataset: String,
    columns: String,
    per_consumer: (f64, f64),
}

impl Planes {
    fn new(owner: &'static str) -> Self {
        Self {
            owner,
            k: 1,
            accounting: "zcdp",
            dataset: String::new(),
            columns: String::new(),
            per_consumer: (4.0, 1e-6),
        }
    }

    fn pure(owner: &'static str) -> Self {
        Self { accounting: "pure", per_consumer: (4.0, 0.0), ..Self::new(owner) }
    }

    /// Writes the policy and a copy of the table: two policies may not name one location.
    fn write(&self, dir: &Path) {
        let Self { owner, k, accounting, dataset, columns, per_consumer: (epsilon, delta) } = self;
        fs::create_dir_all(dir.join("policies")).unwrap();
        fs::copy(repository().join("tests/data/planes.parquet"), dir.join(format!("{owner}.parquet"))).unwrap();
        let query_delta = if *accounting == "zcdp" { "query_delta = 1e-9\n" } else { "" };
        let most = epsilon.min(1.0);
        let default = epsilon.min(0.1);
        let policy = format!(
            "[dataset]\nowner = \"{owner}\"\nname = \"planes\"\nlocation = \"../{owner}.parquet\"\n{dataset}\n\
             [privacy]\nunit = \"tailnum\"\nunit_domain = \"aircraft\"\nmin_group_size = {k}\n\
             max_groups_per_unit = 1\nmax_rows_per_unit_per_group = 1\naccounting = \"{accounting}\"\n\
             [budget]\nper_consumer = {{ epsilon = {epsilon:?}, delta = {delta:?}, per = \"lifetime\" }}\n\
             all_consumers = {{ epsilon = 10000.0, delta = {:?}, per = \"lifetime\" }}\n\
             default_query = {{ epsilon = {default:?} }}\nmax_query = {{ epsilon = {most:?} }}\n{query_delta}{columns}",
            delta * 100.0,
        );
        fs::write(dir.join("policies").join(format!("{owner}.planes.toml")), policy).unwrap();
    }
}

/// The answer's cells as text, without the names of its columns.
fn cells(answer: &Answer) -> Vec<Vec<String>> {
    let batches = answer.rows.as_ref().unwrap();
    let mut rows: Vec<Vec<String>> = batches
        .iter()
        .flat_map(|batch| {
            (0..batch.num_rows())
                .map(|row| batch.columns().iter().map(|one| array_value_to_string(one, row).unwrap()).collect())
        })
        .collect();
    rows.sort();
    rows
}

/// The columns `names` of a Parquet file, without the rows whose unit is NULL.
fn columns_of(path: &Path, names: &[&str]) -> Vec<RecordBatch> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(path).unwrap()).unwrap();
    let mask = ProjectionMask::columns(builder.parquet_schema(), names.iter().copied());
    let batches = builder.with_projection(mask).build().unwrap().map(Result::unwrap);
    batches
        .map(|batch| {
            let columns: Vec<(&str, ArrayRef)> = names
                .iter()
                .map(|name| {
                    let column = batch.column_by_name(name).unwrap();
                    let kind = if *column.data_type() == DataType::Int32 { DataType::Int32 } else { DataType::Utf8 };
                    (*name, cast(column, &kind).unwrap())
                })
                .collect();
            let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true)));
            let batch = batch.unwrap();
            filter_record_batch(&batch, &is_not_null(batch.column_by_name("tailnum").unwrap()).unwrap()).unwrap()
        })
        .collect()
}

fn flights(airline: &str) -> PathBuf {
    repository().join(format!("tests/data/flights/{airline}.parquet"))
}

/// By origin, the bounded count and the bounded average of `dep_delay`, computed here from the files.
fn bounded_by_origin() -> BTreeMap<String, (f64, f64)> {
    const ROWS: f64 = 200.0;
    let (lo, hi) = (-30.0_f64, 180.0);
    // By (origin, aircraft): rows, values, and the sum of clamped values from the middle of the bounds.
    let mut units: BTreeMap<(String, String), (f64, f64, f64)> = BTreeMap::new();
    for airline in AIRLINES {
        for batch in columns_of(&flights(airline), &["origin", "tailnum", "dep_delay"]) {
            let text = |at: usize| batch.column(at).as_string::<i32>();
            let delays = batch.column(2).as_primitive::<Int32Type>();
            for row in 0..batch.num_rows() {
                let unit = units.entry((text(0).value(row).to_owned(), text(1).value(row).to_owned())).or_default();
                unit.0 += 1.0;
                if delays.is_valid(row) {
                    unit.1 += 1.0;
                    unit.2 += f64::from(delays.value(row)).clamp(lo, hi) - f64::midpoint(lo, hi);
                }
            }
        }
    }
    let mut origins: BTreeMap<String, (f64, f64, f64)> = BTreeMap::new();
    for ((origin, _), (rows, values, sum)) in units {
        let of = origins.entry(origin).or_default();
        of.0 += rows.min(ROWS);
        of.1 += values.min(ROWS);
        of.2 += sum * (ROWS / values.max(ROWS));
    }
    origins.into_iter().map(|(origin, (n, count, sum))| (origin, (n, f64::midpoint(lo, hi) + sum / count))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn airlines_are_answered_near_the_bounded_statistic_and_once() {
    let opened = Opened::over_airlines().await;
    let sql = "SELECT origin, count(*) AS n, avg(dep_delay) AS d FROM airlines.flights GROUP BY origin";
    let with_errors = |sql: &str| Question { with_error_columns: true, ..question(sql, 1.0) };
    let answer = opened.gateway.ask(&opened.caller, with_errors(sql)).await.unwrap();
    assert!(!answer.privacy.cached);
    let charged: BTreeSet<&str> = answer.privacy.charges.iter().map(|line| line.account.as_str()).collect();
    assert_eq!((charged.len(), answer.privacy.charges.len()), (10, 10), "{charged:?}");
    for owner in ["united", "delta", "american", "jetblue", "southwest"] {
        for scope in ["consumer", "agency"] {
            assert!(charged.contains(format!("{scope}/{owner}.flights").as_str()), "{charged:?}");
        }
    }
    let names: Vec<_> = answer.schema.fields().iter().map(|field| field.name().as_str()).collect();
    let at = |name: &str| names.iter().position(|one| *one == name).unwrap_or_else(|| panic!("{name}: {names:?}"));
    let rows = cells(&answer);
    let expected = bounded_by_origin();
    assert_eq!(rows.iter().map(|row| &row[0]).collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for row in &rows {
        let (n, d) = expected[&row[0]];
        let number = |name: &str| row[at(name)].parse::<f64>().unwrap();
        // Three half-widths are nearly six standard deviations: six values are looked at in every run.
        assert!((number("n") - n).abs() <= 3.0 * number("n_half_width_95"), "{row:?}: n is {n}");
        assert!((number("d") - d).abs() <= 3.0 * number("d_half_width_95"), "{row:?}: d is {d}");
    }

    let before = (opened.budget().await, opened.charges().await);
    let same =
        "select  F.origin as o,\n count( * ), avg(F.dep_delay) as x from airlines.flights as F group by F.origin";
    let reopened = Gateway::open(&opened.config).await.unwrap();
    for gateway in [&opened.gateway, &reopened] {
        for sql in [sql, same] {
            let again = gateway.ask(&opened.caller, with_errors(sql)).await.unwrap();
            assert!(again.privacy.cached && again.privacy.charges.is_empty(), "{sql}");
            // Half-widths stand beside their columns under either name.
            assert_eq!(cells(&again), rows, "{sql}");
        }
    }
    assert_eq!((opened.budget().await, opened.charges().await), before);
}

fn copy(sums: &GroupSums) -> GroupSums {
    GroupSums {
        keys: sums.keys.clone(),
        units: sums.units.clone(),
        measures: sums.measures.clone(),
        histograms: sums.histograms.clone(),
    }
}

#[test]
fn no_draw_shows_a_destination_of_few_aircraft() {
    const K: u64 = 10;
    let key = Arc::new(Field::new("dest", DataType::Utf8, true));
    let spec = Arc::new(ReleaseSpec {
        unit_domain: "aircraft".to_owned(),
        keys: vec![key],
        arguments: 0,
        filters: 0,
        measures: Vec::new(),
        histograms: Vec::new(),
        quantiles: Vec::new(),
        outputs: vec![(Arc::new(Field::new("n", DataType::Int64, true)), Output::Units)],
        bounds: ContributionBounds { groups: 8, rows: 200, total_rows: None },
        min_group_size: K,
        groups: Groups::Private,
        sets: None,
        epochs: None,
    });
    let batches = columns_of(&flights("UA"), &["tailnum", "dest"]);
    let mut contributions = Contributions::new(Arc::clone(&spec), [7; 16], &batches[0].schema()).unwrap();
    let mut aircraft: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for batch in &batches {
        contributions.add(batch).unwrap();
        let (units, groups) = (batch.column(0).as_string::<i32>(), batch.column(1).as_string::<i32>());
        for (unit, group) in units.iter().zip(groups) {
            aircraft.entry(group.unwrap().to_owned()).or_default().insert(unit.unwrap().to_owned());
        }
    }
    let sums = contributions.finish().unwrap();
    let few: BTreeSet<&str> =
        aircraft.iter().filter(|(_, units)| (units.len() as u64) < K).map(|(dest, _)| dest.as_str()).collect();
    assert!(!few.is_empty(), "the data has destinations to hide");
    let shown = |noise: &NoisePlan| -> BTreeSet<String> {
        let mut source = NoiseSource::from_system().unwrap();
        let batch = draw(&spec, noise, copy(&sums), &mut source).unwrap();
        cast(batch.column(0), &DataType::Utf8).unwrap().as_string::<i32>().iter().map(|k| k.unwrap().into()).collect()
    };
    let plan = |epsilon: f64| {
        let loss = Loss::Zcdp(rho_for(Epsilon::floor_from(epsilon).unwrap(), Delta::floor_from(1e-9).unwrap()));
        NoisePlan::new(&spec, Price { loss, delta_selection: Delta::floor_from(1e-8).unwrap() }).unwrap()
    };
    let usual = plan(1.0);
    let mut seen = BTreeSet::new();
    for _ in 0..1_000 {
        let dests = shown(&usual);
        assert!(dests.iter().all(|dest| !few.contains(dest.as_str())), "{dests:?}");
        seen.extend(dests);
    }
    assert!(!seen.is_empty(), "something is shown");

    // With next to no noise, every group at or past the threshold is shown, and nothing below k.
    let exact = plan(1_000.0);
    let noise = exact.units().unwrap().std_dev();
    let threshold = (K + exact.selection().unwrap().tau) as f64 + 8.0 * noise;
    let keys = cast(&sums.keys[0], &DataType::Utf8).unwrap();
    let must: BTreeSet<String> = keys
        .as_string::<i32>()
        .iter()
        .zip(&sums.units)
        .filter(|(_, units)| **units as f64 >= threshold)
        .map(|(dest, _)| dest.unwrap().to_owned())
        .collect();
    assert!(!must.is_empty());
    for _ in 0..20 {
        assert!(shown(&exact).is_superset(&must));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_price_of_the_design_buys_438_answers() {
    let opened = Opened::over_planes(&[Planes::new("acme")]).await;
    let sql = |i: usize| format!("SELECT count(*) FROM acme.planes WHERE seats > {i}");
    let dry = Question { dry_run: true, ..question(&sql(0), 0.2) };
    for _ in 0..3 {
        let dry = opened.gateway.ask(&opened.caller, dry.clone()).await.unwrap();
        assert!(dry.rows.is_none() && (dry.privacy.rho.unwrap() - 0.000_675).abs() < 5e-7);
    }
    assert_eq!(opened.charges().await, 0);
    for i in 0..438 {
        let answer = opened.ask(&sql(i), 0.2).await.unwrap_or_else(|error| panic!("answer {i}: {error}"));
        assert!((answer.privacy.rho.unwrap() - 0.000_675).abs() < 5e-7, "{:?}", answer.privacy);
        assert!(answer.groups.public && answer.privacy.delta_selection == 0.0);
    }
    let before = opened.budget().await;
    let refused = opened.ask(&sql(438), 0.2).await.unwrap_err();
    assert_eq!((refused.code, refused.code.http_status()), (Code::BudgetExceeded, 402));
    assert_eq!((opened.charges().await, opened.budget().await), (438, before));
    assert!(opened.ask(&sql(3), 0.2).await.unwrap().privacy.cached, "what was bought stays free");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pure_accounts_pay_epsilon() {
    let strict = Opened::over_planes(&[Planes { k: 10, ..Planes::pure("acme") }]).await;
    let refused = strict.ask("SELECT count(*) FROM acme.planes", 0.5).await.unwrap_err();
    assert_eq!((refused.code, strict.charges().await), (Code::QueryNotPrivate, 0));

    let mixed = Opened::over_planes(&[Planes::pure("acme"), Planes::new("bolt")]).await;
    let sql = "SELECT count(*) FROM (SELECT * FROM acme.planes UNION ALL SELECT * FROM bolt.planes) AS t";
    let answer = mixed.ask(sql, 0.5).await.unwrap();
    assert_eq!(answer.accuracy[0].as_ref().unwrap().mechanism, "discrete_laplace");
    for line in &answer.privacy.charges {
        let (paid, expected) = match (line.epsilon, line.rho) {
            (Some(epsilon), None) if line.account.contains("acme.planes") => (epsilon, 0.5),
            (None, Some(rho)) if line.account.contains("bolt.planes") => (rho, 0.125),
            _ => panic!("{line:?}"),
        };
        assert!((paid - expected).abs() < 1e-6, "{line:?}");
    }
    // The consumer's and its agency's account of each.
    assert_eq!(answer.privacy.charges.len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_64_clients_with_budget_for_ten_exactly_ten_are_answered() {
    let opened = Opened::over_planes(&[Planes { per_consumer: (1.05, 0.0), ..Planes::pure("acme") }]).await;
    for repeat in 0..50 {
        let caller = opened.another(&format!("c{repeat}")).await;
        let clients: Vec<_> = (0..64)
            .map(|client| {
                let (gateway, caller) = (Arc::clone(&opened.gateway), caller.clone());
                let sql = format!("SELECT count(*) FROM acme.planes WHERE seats > {}", repeat * 64 + client);
                tokio::spawn(async move { gateway.ask(&caller, question(&sql, 0.1)).await })
            })
            .collect();
        let mut answered = 0;
        for client in clients {
            match client.await.unwrap() {
                Ok(_) => answered += 1,
                Err(error) => assert_eq!(error.code, Code::BudgetExceeded, "{error}"),
            }
        }
        assert_eq!(answered, 10, "repeat {repeat}");
    }
    assert_eq!(opened.charges().await, 500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_names_no_data_and_is_free() {
    let opened = Opened::over_planes(&[Planes::new("acme"), Planes::new("lost"), Planes::new("torn")]).await;
    let path = opened.dir.path();
    fs::remove_file(path.join("lost.parquet")).unwrap();
    let torn = fs::read(path.join("torn.parquet")).unwrap();
    fs::write(path.join("torn.parquet"), &torn[..torn.len() / 2]).unwrap();
    let count = "SELECT count(*) FROM acme.planes";
    let mut or = format!("{count} WHERE seats = 0");
    for i in 0..20_000 {
        write!(or, " OR seats = {i}").unwrap();
    }
    let sql_or_allowed = &[Code::SqlInvalid, Code::NotAllowed, Code::QueryNotPrivate][..];
    let cases: Vec<(String, f64, &[Code])> = vec![
        ("SELECT count(*) FROM acme.sesame".into(), 0.2, &[Code::SqlInvalid]),
        ("SELECT count(*) FROM lost.planes".into(), 0.2, &[Code::SourceUnavailable]),
        ("SELECT count(*) FROM torn.planes".into(), 0.2, &[Code::SourceUnavailable]),
        (count.into(), 0.0, &[Code::RequestInvalid]),
        (count.into(), -1.0, &[Code::RequestInvalid]),
        (count.into(), f64::NAN, &[Code::RequestInvalid]),
        (count.into(), 1e308, &[Code::RequestInvalid]),
        (format!("{count} --{}", "x".repeat(100_000)), 0.2, &[Code::TooLarge]),
        (or, 0.2, &[Code::TooLarge]),
        (format!("EXPLAIN {count}"), 0.2, &[Code::NotAllowed]),
        (format!("EXPLAIN ANALYZE {count}"), 0.2, &[Code::NotAllowed]),
        ("SHOW TABLES".into(), 0.2, &[Code::NotAllowed]),
        ("DESCRIBE acme.planes".into(), 0.2, &[Code::NotAllowed]),
        ("SET datafusion.execution.batch_size = 1".into(), 0.2, &[Code::NotAllowed]),
        ("COPY acme.planes TO '/tmp/x.parquet'".into(), 0.2, sql_or_allowed),
        ("CREATE TABLE t AS SELECT * FROM acme.planes".into(), 0.2, &[Code::NotAllowed]),
        ("INSERT INTO acme.planes VALUES (1)".into(), 0.2, &[Code::NotAllowed]),
        ("SELECT * FROM information_schema.tables".into(), 0.2, sql_or_allowed),
        ("SELECT * FROM pg_catalog.pg_class".into(), 0.2, sql_or_allowed),
        ("SELECT tailnum FROM acme.planes".into(), 0.2, &[Code::QueryNotPrivate]),
    ];
    for (sql, epsilon, codes) in cases {
        let shown: String = sql.chars().take(60).collect();
        let refused = opened.ask(&sql, epsilon).await.expect_err(&shown);
        assert!(codes.contains(&refused.code), "{shown}: {refused:?}");
        let text = format!("{} {}", refused.detail, refused.hint.unwrap_or_default());
        for secret in [".parquet", &path.display().to_string(), "N10156", "EMBRAER"] {
            // What the caller wrote may be said back to it.
            assert!(!text.contains(secret) || sql.contains(secret), "{shown}: {text}");
        }
    }
    assert_eq!(opened.charges().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_consumer_sees_the_same_answer_and_pays_for_itself() {
    let opened = Opened::over_planes(&[Planes::new("acme")]).await;
    let sql = "SELECT count(*) FROM acme.planes";
    let mine = opened.ask(sql, 0.2).await.unwrap();
    let other = opened.another("rail-office").await;
    let theirs = opened.gateway.ask(&other, question(sql, 0.2)).await.unwrap();
    assert_eq!(cells(&mine), cells(&theirs));
    let paid = |answer: &Answer| -> Vec<String> {
        answer.privacy.charges.iter().map(|line| line.account.split('/').next().unwrap().to_owned()).collect()
    };
    // Neither sees the account of all consumers, which would tell whether the other had asked.
    let both = ["consumer".to_owned(), "agency".to_owned()];
    assert_eq!((&paid(&mine)[..], &paid(&theirs)[..]), (&both[..], &both[..]));
    assert!(!theirs.privacy.cached);
    let store = open(&opened.config.storage.url).await.unwrap();
    let all = Account {
        scope: Scope::AllConsumers,
        dataset: "acme.planes".to_owned(),
        window: "lifetime".to_owned(),
        epoch: None,
    };
    let spent = store.spent(&[all]).await.unwrap()[0].unwrap();
    let steps = |rho: Option<f64>| (rho.unwrap() * 1e12).round() as u64;
    assert_eq!(spent.loss.steps(), steps(mine.privacy.charges[0].rho));

    let keyed = |sql: &str| Question { idempotency_key: Some("once".to_owned()), ..question(sql, 0.2) };
    let second = "SELECT count(*) FROM acme.planes WHERE seats > 100";
    let first = opened.gateway.ask(&opened.caller, keyed(second)).await.unwrap();
    let charges = opened.charges().await;
    let again = opened.gateway.ask(&opened.caller, keyed(second)).await.unwrap();
    assert_eq!((cells(&first), opened.charges().await), (cells(&again), charges));
    let conflict = opened.gateway.ask(&opened.caller, keyed(sql)).await.unwrap_err();
    assert_eq!((conflict.code, opened.charges().await), (Code::IdempotencyConflict, charges));

    let administration = opened.administration().await;
    administration.set_frozen(CONSUMER, true).await.unwrap();
    for sql in [sql, "SELECT count(*) FROM acme.planes WHERE seats > 7"] {
        assert_eq!(opened.ask(sql, 0.2).await.unwrap_err().code, Code::NotAllowed, "{sql}");
    }
    administration.set_frozen(CONSUMER, false).await.unwrap();
    assert!(opened.ask(sql, 0.2).await.unwrap().privacy.cached);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owners_conditions_hold() {
    let policies = [
        Planes { dataset: "purposes = [\"statistics\"]".into(), ..Planes::new("asked") },
        Planes { dataset: "valid_until = 2020-01-01".into(), ..Planes::new("ended") },
        Planes { dataset: "consumers = [\"rail-office\"]".into(), ..Planes::new("rail") },
        Planes { columns: "[columns.model]\naccess = \"deny\"\n".into(), ..Planes::new("quiet") },
    ];
    let opened = Opened::over_planes(&policies).await;
    let count = |owner: &str| question(&format!("SELECT count(*) FROM {owner}.planes"), 0.2);
    let purpose = |purpose: &str| Question { purpose: Some(purpose.to_owned()), ..count("asked") };
    let model = question("SELECT count(*) FROM quiet.planes WHERE model = 'A320'", 0.2);
    for (asked, code) in [
        (count("asked"), Code::PurposeNotAllowed),
        (purpose("curiosity"), Code::PurposeNotAllowed),
        (count("ended"), Code::DatasetSuspended),
        (count("rail"), Code::NotAllowed),
        (model, Code::NotAllowed),
    ] {
        let refused = opened.gateway.ask(&opened.caller, asked.clone()).await.unwrap_err();
        assert_eq!(refused.code, code, "{asked:?}: {refused:?}");
    }
    assert_eq!(opened.charges().await, 0);
    opened.gateway.ask(&opened.caller, purpose("statistics")).await.unwrap();
    opened.gateway.ask(&opened.another("rail-office").await, count("rail")).await.unwrap();
}

/// A table of `units` with a value each, and a policy over it.
fn values_policy(dir: &Path, units: i32) -> PathBuf {
    let schema = Arc::new(Schema::new(vec![
        Field::new("tailnum", DataType::Utf8, false),
        Field::new("seats", DataType::Int32, false),
    ]));
    let names: StringArray = (0..units).map(|unit| Some(format!("N{unit}"))).collect();
    let seats: Int32Array = (0..units).map(|unit| Some(unit * 37 % 400)).collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(names), Arc::new(seats)]).unwrap();
    let planes = Planes { columns: "[columns.seats]\nbounds = [0, 400]\n".into(), ..Planes::new("acme") };
    planes.write(dir);
    let mut writer = ArrowWriter::try_new(fs::File::create(dir.join("acme.parquet")).unwrap(), schema, None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    dir.join("policies")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neighbours_have_the_same_support_charges_and_errors() {
    let with = Opened::over(|dir| values_policy(dir, 100)).await;
    let without = Opened::over(|dir| values_policy(dir, 99)).await;
    // A half of a seat makes the sum one of floats, whose lattice has a step of its own.
    for (sql, step, answered) in [
        ("SELECT sum(seats) FROM acme.planes", 1.0, true),
        ("SELECT sum(CAST(seats AS DOUBLE) / 2) FROM acme.planes", 2f64.powi(-23), true),
        ("SELECT sum(seats * 9999999999) FROM acme.planes", 1.0, true),
        ("SELECT sum(tailnum) FROM acme.planes", 1.0, false),
    ] {
        match (with.ask(sql, 0.5).await, without.ask(sql, 0.5).await) {
            (Ok(one), Ok(other)) if answered => {
                for answer in [&one, &other] {
                    let value: f64 = cells(answer)[0][0].parse().unwrap();
                    assert!((value / step).fract() == 0.0, "{sql}: {value} is off the lattice of {step}");
                }
                assert_eq!(format!("{:?}", one.privacy), format!("{:?}", other.privacy), "{sql}");
                assert_eq!(one.accuracy, other.accuracy, "{sql}");
            }
            (Err(one), Err(other)) if !answered => assert_eq!(one, other, "{sql}"),
            (one, other) => panic!("{sql}: {one:?} {other:?}"),
        }
    }
    assert_eq!(with.budget().await, without.budget().await);
}

/// Kills the real server at a hundred random moments while clients ask. Every answer that arrived was charged.
#[test]
fn what_was_answered_over_http_is_charged_whatever_kills_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let planes = Planes { per_consumer: (10_000.0, 0.0), ..Planes::pure("acme") };
    planes.write(dir.path());
    let config = over(&dir.path().join("policies"), dir.path());
    let text = format!(
        "[server]\nhttp = \"127.0.0.1:0\"\n[storage]\nurl = {:?}\n[policies]\ndir = {:?}\n[engine]\nresponse_quantum_ms = 0\n",
        config.storage.url,
        config.policies.dir.display().to_string(),
    );
    fs::write(dir.path().join("tollgate.toml"), text).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let token = runtime.block_on(async {
        let administration = Administration::open(&config).await.unwrap();
        administration.add_consumer(CONSUMER, None).await.unwrap();
        administration.create_token(Role::Analyst, Some(CONSUMER), None).await.unwrap().secret
    });
    let (asked, answered) = (AtomicU64::new(0), AtomicU64::new(0));
    for _ in 0..100 {
        let mut child = tollgate(dir.path()).arg("serve").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let url = lines.find_map(|line| line.trim().strip_prefix("listening on ").map(str::to_owned)).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || lines.for_each(drop));
            for _ in 0..2 {
                scope.spawn(|| {
                    let agent = ureq::Agent::new_with_defaults();
                    loop {
                        let sql = format!(
                            "SELECT count(*) FROM acme.planes WHERE seats > {}",
                            asked.fetch_add(1, Ordering::Relaxed)
                        );
                        let body = json!({ "sql": sql, "epsilon": 0.1 }).to_string();
                        let request = agent
                            .post(format!("{url}/v1/query"))
                            .header("authorization", format!("Bearer {token}"))
                            .header("content-type", "application/json");
                        match request.send(body).and_then(|mut seen| seen.body_mut().read_to_string()) {
                            Ok(_) => answered.fetch_add(1, Ordering::Relaxed),
                            Err(ureq::Error::StatusCode(status)) => panic!("status {status}"),
                            Err(_) => break,
                        };
                    }
                });
            }
            std::thread::sleep(Duration::from_micros(rand::rng().random_range(0..150_000)));
            child.kill().unwrap();
            child.wait().unwrap();
        });
        let report = runtime.block_on(async { open(&config.storage.url).await.unwrap().check().await.unwrap() });
        let answered = answered.load(Ordering::Relaxed);
        assert!(report.charges >= answered, "{answered} answers, {report:?}");
    }
    let answered = answered.into_inner();
    assert!(answered > 50, "{answered} answers tell little");
}

/// The work of a join must not tell whether a private row is there: it is bounded before anything is charged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_row_meets_few_public_rows() {
    let opened = Opened::over_airlines().await;
    let from = "SELECT count(*) FROM united.flights f JOIN public.airports a ON f.dest = a.faa";
    let refused = opened.ask(&format!("{from} JOIN public.airports b ON a.tzone = b.tzone"), 0.2).await.unwrap_err();
    assert_eq!(refused.code, Code::QueryNotPrivate, "{refused:?}");
    let constant = "SELECT count(*) FROM (SELECT month * 0 AS z FROM united.flights) f \
                    JOIN (SELECT tz * 0 AS z FROM public.airports) a ON f.z = a.z";
    let unique = format!("{constant} AND a.faa = a.faa").replace("tz * 0 AS z", "tz * 0 AS z, faa");
    let merged = "SELECT count(*) FROM (SELECT CAST(month AS BIGINT) AS z FROM united.flights) f \
                  JOIN public.airports a ON f.z = CAST(a.lat AS BIGINT)";
    let mixed = format!("{constant} AND a.faa = coalesce(a.faa, 'x')").replace("tz * 0 AS z", "tz * 0 AS z, faa");
    for sql in [constant, &unique, &mixed, merged] {
        assert_eq!(opened.ask(sql, 0.2).await.unwrap_err().code, Code::QueryNotPrivate, "{sql}");
    }
    assert_eq!(opened.charges().await, 0);
    opened.ask(from, 0.2).await.unwrap();
    assert_eq!(opened.charges().await, 1);
}

/// United's flights of 2013, with a budget for each month.
fn monthly(dir: &Path) -> PathBuf {
    let policies = dir.join("policies");
    fs::create_dir_all(&policies).unwrap();
    let airlines = fs::read_to_string(repository().join("policies/airlines/united.flights.toml")).unwrap();
    let data = repository().join("tests/data/flights/UA.parquet");
    let text: String = airlines
        .lines()
        .map(|line| match line {
            line if line.starts_with("location") => format!("location = {:?}\n", data.display().to_string()),
            line if line.starts_with("unit_domain") => {
                format!("{line}\nepoch = \"month\"\nepoch_column = \"flight_date\"\nepoch_from = 2013-01-01\n")
            }
            line => format!("{line}\n"),
        })
        .collect();
    fs::write(policies.join("united.flights.toml"), text).unwrap();
    policies
}

#[tokio::test]
async fn a_query_of_two_months_reads_exactly_these_and_says_what_is_promised() {
    let opened = Opened::over(monthly).await;
    let sql = "SELECT origin, count(*) AS n FROM united.flights \
               WHERE flight_date >= '2013-01-15' AND flight_date < '2013-03-01' GROUP BY origin";
    let promised = "user-level differential privacy, per aircraft and month: all rows of one aircraft in one month together \
                    are protected; over several months of one aircraft the promise is weaker";
    let explained = opened.ask(&format!("EXPLAIN PRIVACY {sql}"), 0.5).await.unwrap();
    let lines = lines_of(&explained);
    for line in [
        format!("promised: {promised}"),
        "  one aircraft in one month counts in".to_owned(),
        "  reads, and charges by itself, each of these of united.flights: 2013-01, 2013-02".to_owned(),
    ] {
        assert!(lines.contains(&line), "{line}\n{}", lines.join("\n"));
    }
    assert!(
        lines.iter().any(|line| line.contains("only the months 2013-01, 2013-02 by flights.flight_date")),
        "{lines:?}"
    );
    assert_eq!(opened.charges().await, 0);
    let answer = opened.ask(sql, 0.5).await.unwrap();
    let months = vec!["2013-01".to_owned(), "2013-02".to_owned()];
    assert_eq!(answer.privacy.epochs, BTreeMap::from([("united.flights".to_owned(), months)]));
    assert_eq!(answer.privacy.guarantee, promised);
    assert!(answer.rows.unwrap().iter().map(RecordBatch::num_rows).sum::<usize>() > 0);
    let described = opened.gateway.dataset(&opened.caller, "united.flights").await.unwrap();
    assert_eq!(described.guarantee.as_deref(), Some(promised));
    let facts = described.privacy.unwrap();
    assert_eq!((&facts["epoch"], &facts["epoch_column"]), (&json!("month"), &json!("flight_date")));
    assert_eq!(facts["epoch_from"], json!("2013-01-01"));
}

#[tokio::test]
async fn diagnostics_of_a_dataset_with_epochs_are_of_units_in_epochs() {
    let opened = Opened::over(monthly).await;
    let sql = "SELECT dest, avg(dep_delay) FROM united.flights WHERE flight_date < '2013-03-01' GROUP BY dest";
    let asked = Question { diagnostics: true, ..question(sql, 1.0) };
    let answer = opened.gateway.ask(&opened.caller, asked).await.unwrap();
    let [diagnostics] = &answer.diagnostics[..] else { panic!("one release") };
    assert!(diagnostics.units_in_more_groups.is_some_and(|share| (0.0..=1.0).contains(&share)), "{diagnostics:?}");
}

fn lines_of(answer: &Answer) -> Vec<String> {
    let batches = answer.rows.as_ref().unwrap();
    let of = |batch: &RecordBatch| {
        let column = batch.column(0).as_string::<i32>().clone();
        (0..column.len()).map(move |at| column.value(at).to_owned()).collect::<Vec<_>>()
    };
    batches.iter().flat_map(of).collect()
}
