//! What a cluster sums is what one process sums, whatever is asked.
//!
//! Both draw with one seed, so that equal sums give equal answers, bit by bit: the test mechanism.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow::record_batch::{RecordBatch, RecordBatchReader};
use chrono::NaiveDate;
use datafusion::common::ScalarValue;
use datafusion::physical_plan::collect;
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use parquet::arrow::ArrowWriter;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tollgate::accounting::{Delta, Loss, Rho};
use tollgate::analysis::{AnalysedRelease, BoundsRequest, Options, Outcome, PublicRows, analyse, with_values};
use tollgate::catalog::{Catalog, Freshness};
use tollgate::cluster::RemoteSumsExec;
use tollgate::engine::{Engine, EngineConfig};
use tollgate::release::{DrawExec, Merge, NoisePlan, Price, ReleaseNode, draw};
use tollgate::sql::{self, Limits};
use tpchgen::generators::{CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator};
use tpchgen_arrow::{CustomerArrow, LineItemArrow, NationArrow, OrderArrow};

use super::processes::Cluster;
use crate::fixture::repository;
use crate::object_store_server::KEYS;

const TODAY: NaiveDate = NaiveDate::from_ymd_opt(2013, 12, 31).unwrap();
const SEED: u64 = 6;

/// Everything that a statement draws, in order; `Err` where it is refused, which is no matter of who sums.
pub(super) async fn drawn(
    engine: &Engine,
    catalog: &Catalog,
    sql: &str,
    bounds: &BoundsRequest,
) -> Result<Vec<RecordBatch>, String> {
    let parsed = sql::parse(sql, Limits::default()).map_err(|error| error.to_string())?;
    let tables = catalog.tables(parsed.tables(), Freshness::Now).map_err(|error| error.to_string())?;
    let planned = sql::plan(parsed, &tables, engine.state()).await.map_err(|error| error.to_string())?;
    let options = Options {
        bounds: bounds.clone(),
        with_error_columns: false,
        max_cells: 100_000,
        diagnostics: false,
        today: TODAY,
    };
    let mut public = PublicRows::none();
    let analysed = loop {
        match analyse(&planned, &options, &public).map_err(|refusal| refusal.to_string())? {
            Outcome::Done(analysed) => break analysed,
            Outcome::Wants(plans) => {
                for plan in plans {
                    let rows = engine.run_post(&plan, Vec::new(), Vec::new()).await.expect("public rows");
                    public.insert(&plan, values(&rows));
                }
            }
        }
    };
    let mut drawn: Vec<RecordBatch> = Vec::new();
    let mut known: Vec<Vec<RecordBatch>> = vec![Vec::new(); analysed.known().len()];
    let mut computed = 0;
    for release in analysed.releases() {
        while let Some(next) = analysed.known().get(computed).filter(|known| known.after <= drawn.len()) {
            let rows = engine.run_post(&next.plan, drawn.clone(), known.clone()).await;
            known[computed] = rows.map_err(|error| error.to_string())?;
            computed += 1;
        }
        drawn.push(draw_of(engine, release, &known).await);
    }
    Ok(drawn)
}

async fn draw_of(engine: &Engine, release: &AnalysedRelease, known: &[Vec<RecordBatch>]) -> RecordBatch {
    let loss = Loss::Zcdp(Rho::floor_from(0.1).expect("a rho"));
    let price = Price { loss, delta_selection: Delta::floor_from(1e-6).expect("a delta") };
    let noise = Arc::new(NoisePlan::new(&release.spec, price).expect("noise"));
    let value = |index: usize| {
        let batch = known.get(index)?.iter().find(|batch| batch.num_rows() > 0)?;
        ScalarValue::try_from_array(batch.column(0), 0).ok()
    };
    let input = with_values(&release.input, value).expect("an input");
    let node = ReleaseNode::new(input, Arc::clone(&release.spec), Arc::clone(&noise), [7; 16]).expect("a node");
    let plan = engine.plan_release(node, known.to_vec()).await.expect("a plan");
    let any: &dyn std::any::Any = plan.as_ref();
    let sums = Arc::clone(any.downcast_ref::<DrawExec>().expect("a draw on top").input());
    let any: &dyn std::any::Any = sums.as_ref();
    if let Some(remote) = any.downcast_ref::<RemoteSumsExec>() {
        let sent = String::from_utf8_lossy(remote.sent());
        assert!(KEYS.iter().all(|key| !sent.contains(key)), "a key of a store is sent");
    }
    let mut merge = Merge::new(Arc::clone(&release.spec)).expect("a merge");
    for batch in collect(sums, engine.state().task_ctx()).await.expect("sums") {
        merge.add(&batch).expect("partial sums");
    }
    let mut rng = StdRng::seed_from_u64(SEED);
    draw(&release.spec, &noise, merge.finish().expect("sums"), &mut rng).expect("a draw")
}

fn values(batches: &[RecordBatch]) -> Vec<Vec<ScalarValue>> {
    let of_row = |batch: &RecordBatch, row: usize| {
        batch.columns().iter().map(|column| ScalarValue::try_from_array(column, row).expect("a value")).collect()
    };
    batches.iter().flat_map(|batch| (0..batch.num_rows()).map(|row| of_row(batch, row)).collect::<Vec<_>>()).collect()
}

/// What differs over these statements, and how many have drawn something.
async fn differences(
    cluster: &Cluster,
    policies: &Path,
    statements: &[(String, BoundsRequest)],
) -> (Vec<String>, usize) {
    let local =
        Engine::new(&EngineConfig { target_partitions: Some(3), ..EngineConfig::default() }).expect("an engine");
    let spread =
        Engine::new(&EngineConfig { cluster: Some(cluster.options()), ..EngineConfig::default() }).expect("an engine");
    let catalog = Catalog::load(policies).expect("a catalog");
    let (mut wrong, mut drew) = (Vec::new(), 0);
    for (sql, bounds) in statements {
        let here = drawn(&local, &catalog, sql, bounds).await;
        let there = drawn(&spread, &catalog, sql, bounds).await;
        drew += usize::from(here.as_ref().is_ok_and(|drawn| !drawn.is_empty()));
        if here != there {
            wrong.push(format!("{sql}\n  here {here:?}\n  there {there:?}"));
        }
    }
    (wrong, drew)
}

/// The statements of `tests/slt/answered`: joins, epochs, distinct values, quantiles, grouping sets, collections. Every
/// tenth of each file, or all with `TOLLGATE_CLUSTER_ALL=1`.
#[test]
fn a_cluster_sums_as_one_process_does() {
    let step = if std::env::var_os("TOLLGATE_CLUSTER_ALL").is_some() { 1 } else { 10 };
    let mut statements = Vec::new();
    let mut files: Vec<_> = fs::read_dir(repository().join("tests/slt/answered"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    for file in files {
        let text = fs::read_to_string(&file).expect("statements");
        let of_file = text.split("\n\n").filter_map(|block| {
            let mut lines = block.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
            lines.next().filter(|head| *head == "answered")?;
            Some((lines.take_while(|line| *line != "----").collect::<Vec<_>>().join("\n"), BoundsRequest::default()))
        });
        statements.extend(of_file.step_by(step));
    }
    // The forms of statements that a cluster has once answered otherwise, whichever tenth they are in.
    let filtered = |aggregate: &str| {
        let sql = format!(
            "SELECT count(*) FROM (SELECT tailnum, {aggregate} FILTER (WHERE dep_delay > 60) OVER (PARTITION BY tailnum) AS l \
             FROM united.flights) t WHERE l > 5"
        );
        (sql, BoundsRequest::default())
    };
    statements.extend(["count(*)", "count(distance)", "sum(distance)", "max(distance)"].map(filtered));
    // What is NOT IN another public table, NULLs in either, below a join with private rows.
    let low = |of: &str| {
        let sql = format!(
            "SELECT origin, count(*) FROM united.flights WHERE dest IN (SELECT faa FROM public.airports WHERE {of} NOT IN \
             (SELECT {of} FROM public.airports WHERE alt > 1000)) GROUP BY origin"
        );
        (sql, BoundsRequest::default())
    };
    statements.extend(["faa", "tzone"].map(low));
    assert!(statements.len() >= 80, "{} statements", statements.len());
    let cluster = Cluster::of(3);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let policies = repository().join("tests/slt/policies");
    let (wrong, drew) = runtime.block_on(differences(&cluster, &policies, &statements));
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), statements.len(), wrong.join("\n"));
    assert!(drew * 10 > statements.len() * 8, "{drew} of {} draw something", statements.len());
}

/// The six workloads of the benchmarks, over TPC-H at a hundredth of its size.
#[test]
fn a_cluster_answers_the_six_workloads_as_one_process_does() {
    let dir = tempfile::tempdir().expect("a folder");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(flat_table(dir.path()));
    fs::write(dir.path().join("tpch.lines.toml"), POLICY).expect("a policy");
    let bounds = |groups, rows| BoundsRequest {
        max_groups_per_unit: Some(groups),
        max_rows_per_unit_per_group: Some(rows),
        ..BoundsRequest::default()
    };
    let statements: Vec<(String, BoundsRequest)> = [
        (
            "SELECT l_returnflag, l_linestatus, count(*), sum(l_quantity), avg(l_extendedprice) FROM tpch.lines \
             GROUP BY l_returnflag, l_linestatus",
            bounds(4, 64),
        ),
        ("SELECT n_name, count(DISTINCT o_custkey) FROM tpch.lines GROUP BY n_name", bounds(1, 1)),
        (
            "SELECT o_orderpriority, l_shipmode, count(*) FROM tpch.lines GROUP BY o_orderpriority, l_shipmode",
            bounds(35, 8),
        ),
        (
            "SELECT n_name, extract(year FROM o_orderdate), sum(l_extendedprice * (1 - l_discount)) FROM tpch.lines \
             GROUP BY n_name, extract(year FROM o_orderdate)",
            bounds(7, 32),
        ),
        ("SELECT median(l_extendedprice) FROM tpch.lines", bounds(1, 128)),
        ("SELECT o_orderdate, count(*) FROM tpch.lines GROUP BY o_orderdate", bounds(32, 8)),
    ]
    .map(|(sql, bounds)| (sql.to_owned(), bounds))
    .into();
    let cluster = Cluster::of(2);
    let (wrong, drew) = runtime.block_on(differences(&cluster, dir.path(), &statements));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(drew, statements.len());
}

const POLICY: &str = r#"
[dataset]
owner = "tpch"
name = "lines"
location = "lines.parquet"
[privacy]
unit = "o_custkey"
unit_domain = "customer"
max_groups_per_unit = 64
max_rows_per_unit_per_group = 128
accounting = "zcdp"
[budget]
per_consumer = { epsilon = 100.0, delta = 1e-5, per = "month" }
all_consumers = { epsilon = 1000.0, delta = 1e-4, per = "lifetime" }
default_query = { epsilon = 1.0 }
max_query = { epsilon = 10.0 }
query_delta = 1e-7
[columns.l_quantity]
bounds = [0, 50]
[columns.l_extendedprice]
bounds = [0, 110000]
[columns.l_discount]
bounds = [0, 0.1]
"#;

/// lineitem ⋈ orders ⋈ customer ⋈ nation in one file of several row groups.
async fn flat_table(dir: &Path) {
    const SCALE: f64 = 0.01;
    let context = SessionContext::new();
    write(&dir.join("lineitem.parquet"), LineItemArrow::new(LineItemGenerator::new(SCALE, 1, 1)));
    write(&dir.join("orders.parquet"), OrderArrow::new(OrderGenerator::new(SCALE, 1, 1)));
    write(&dir.join("customer.parquet"), CustomerArrow::new(CustomerGenerator::new(SCALE, 1, 1)));
    write(&dir.join("nation.parquet"), NationArrow::new(NationGenerator::default()));
    for table in ["lineitem", "orders", "customer", "nation"] {
        let file = dir.join(format!("{table}.parquet"));
        context.register_parquet(table, file.to_string_lossy(), ParquetReadOptions::default()).await.expect("a table");
    }
    let flat = format!(
        "COPY (SELECT o_custkey, n_name, o_orderdate, o_orderpriority, l_shipmode, l_returnflag, l_linestatus, \
         CAST(l_quantity AS DOUBLE) AS l_quantity, CAST(l_extendedprice AS DOUBLE) AS l_extendedprice, \
         CAST(l_discount AS DOUBLE) AS l_discount FROM lineitem JOIN orders ON l_orderkey = o_orderkey \
         JOIN customer ON o_custkey = c_custkey JOIN nation ON c_nationkey = n_nationkey) \
         TO '{}' STORED AS PARQUET OPTIONS ('format.max_row_group_size' '8192')",
        dir.join("lines.parquet").display()
    );
    context.sql(&flat).await.expect("a copy").collect().await.expect("copied");
}

fn write(path: &Path, batches: impl RecordBatchReader) {
    let mut writer =
        ArrowWriter::try_new(File::create(path).expect("a file"), batches.schema(), None).expect("a writer");
    for batch in batches {
        writer.write(&batch.expect("rows")).expect("written");
    }
    writer.close().expect("closed");
}

/// A plan that goes to a cluster holds a remote leaf and nothing of the rows' operators.
#[test]
fn above_the_noise_nothing_is_sent_and_below_it_nothing_runs_here() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let dir = tempfile::tempdir().expect("a folder");
    let secret = dir.path().join("secret");
    let secret = tollgate::cluster::ClusterSecret::load_or_create(&secret).expect("a secret");
    // Nobody listens there: planning sends nothing.
    let options = tollgate::cluster::ClusterOptions {
        scheduler: "127.0.0.1:1".to_owned(),
        secret,
        partitions: 4,
        task_timeout: std::time::Duration::from_secs(1),
    };
    let engine = Engine::new(&EngineConfig { cluster: Some(options), ..EngineConfig::default() }).expect("an engine");
    let catalog = Catalog::load(&repository().join("policies/airlines")).expect("a catalog");
    let sql = "SELECT origin AS a_name_of_mine, count(*) AS another FROM united.flights GROUP BY origin";
    runtime.block_on(async {
        let parsed = sql::parse(sql, Limits::default()).expect("SQL");
        let tables = catalog.tables(parsed.tables(), Freshness::Now).expect("tables");
        let planned = sql::plan(parsed, &tables, engine.state()).await.expect("a plan");
        let options = Options {
            bounds: BoundsRequest::default(),
            with_error_columns: false,
            max_cells: 1_000,
            diagnostics: false,
            today: TODAY,
        };
        let Outcome::Done(analysed) = analyse(&planned, &options, &PublicRows::none()).expect("an analysis") else {
            panic!("no public keys are wanted")
        };
        let release = &analysed.releases()[0];
        let loss = Loss::Zcdp(Rho::floor_from(0.1).expect("a rho"));
        let price = Price { loss, delta_selection: Delta::floor_from(1e-6).expect("a delta") };
        let noise = Arc::new(NoisePlan::new(&release.spec, price).expect("noise"));
        let node = ReleaseNode::new(release.input.clone(), Arc::clone(&release.spec), noise, [7; 16]).expect("a node");
        let plan = engine.plan_release(node, Vec::new()).await.expect("a plan");
        let any: &dyn std::any::Any = plan.as_ref();
        let below = any.downcast_ref::<DrawExec>().expect("a draw on top").input();
        let any: &dyn std::any::Any = below.as_ref();
        let remote = any.downcast_ref::<RemoteSumsExec>().expect("what runs elsewhere");
        let sent = String::from_utf8_lossy(remote.sent()).into_owned();
        assert!(sent.contains("UA.parquet") && sent.contains("tailnum"), "the file and its unit are sent");
        for word in ["a_name_of_mine", "another", "SELECT", "united", "aircraft", "road-office"] {
            assert!(!sent.contains(word), "{word} is sent");
        }
    });
}
