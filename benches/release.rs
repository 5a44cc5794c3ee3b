//! The release against the same query without privacy, in one process and in turn: a ratio, since machines differ.
//!
//! TPC-H's lineitem with its customer (the unit), `TOLLGATE_BENCH_SF` times six million rows (1 by default), made once into
//! `target/tpch`. Each query is asked privately (bounds, noise and selection included) and as plain DataFusion.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::record_batch::RecordBatchReader;
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use parquet::arrow::ArrowWriter;
use tollgate::accounting::{Delta, Epsilon, Loss, rho_for};
use tollgate::analysis::{BoundsRequest, Options, Outcome, PublicRows, analyse};
use tollgate::catalog::{Catalog, Freshness};
use tollgate::engine::{Engine, EngineConfig};
use tollgate::release::{NoisePlan, Price, ReleaseNode};
use tollgate::sql::{self, Limits};
use tpchgen::generators::{LineItemGenerator, OrderGenerator};
use tpchgen_arrow::{LineItemArrow, OrderArrow};

const TODAY: chrono::NaiveDate = chrono::NaiveDate::from_ymd_opt(2026, 1, 1).unwrap();

const RUNS: usize = 7;

const QUERIES: [(&str, &str, Bounds); 2] = [
    (
        "W1 count, sum, avg by returnflag, linestatus",
        "SELECT l_returnflag, l_linestatus, count(*), sum(l_quantity), avg(l_extendedprice) FROM tpch.lines \
         GROUP BY l_returnflag, l_linestatus",
        Bounds { groups: 4, rows: 64 },
    ),
    (
        "W3 count by orderpriority, shipmode",
        "SELECT o_orderpriority, l_shipmode, count(*) FROM tpch.lines GROUP BY o_orderpriority, l_shipmode",
        Bounds { groups: 35, rows: 8 },
    ),
];

struct Bounds {
    groups: u32,
    rows: u32,
}

fn main() {
    let factor: f64 = std::env::var("TOLLGATE_BENCH_SF").ok().and_then(|text| text.parse().ok()).unwrap_or(1.0);
    tokio::runtime::Runtime::new().unwrap().block_on(run(factor));
}

async fn run(factor: f64) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("target/tpch/sf{factor}"));
    let file = lines(&dir, factor).await;
    fs::write(dir.join("tpch.lines.toml"), policy(&file)).unwrap();
    let engine = Engine::new(&EngineConfig::default()).unwrap();
    let catalog = Catalog::load(&dir).unwrap();
    let plain = SessionContext::new();
    plain.sql("CREATE SCHEMA tpch").await.unwrap();
    plain.register_parquet("tpch.lines", file.to_string_lossy(), ParquetReadOptions::default()).await.unwrap();
    let rows = plain.sql("SELECT 1 FROM tpch.lines").await.unwrap().count().await.unwrap();
    println!("{rows} rows; medians of {RUNS} runs, in turn");
    for (name, sql, bounds) in QUERIES {
        let (mut private, mut without) = (Vec::new(), Vec::new());
        for run in 0..=RUNS {
            let start = Instant::now();
            release(&engine, &catalog, sql, &bounds).await;
            let took = start.elapsed();
            let start = Instant::now();
            plain.sql(sql).await.unwrap().collect().await.unwrap();
            // The first run of each warms the file's pages.
            if run > 0 {
                private.push(took);
                without.push(start.elapsed());
            }
        }
        let (private, without) = (median(private), median(without));
        let ratio = private.as_secs_f64() / without.as_secs_f64();
        println!("{name}: private {private:?}, plain {without:?}, ratio {ratio:.2}");
    }
}

async fn release(engine: &Engine, catalog: &Catalog, sql: &str, bounds: &Bounds) {
    let parsed = sql::parse(sql, Limits::default()).unwrap();
    let tables = catalog.tables(parsed.tables(), Freshness::Now).unwrap();
    let planned = sql::plan(parsed, &tables, engine.state()).await.unwrap();
    let bounds = BoundsRequest {
        max_groups_per_unit: Some(bounds.groups),
        max_rows_per_unit_per_group: Some(bounds.rows),
        ..BoundsRequest::default()
    };
    let options = Options { bounds, with_error_columns: false, max_cells: 1_000, diagnostics: false, today: TODAY };
    let Outcome::Done(analysed) = analyse(&planned, &options, &PublicRows::none()).unwrap() else {
        panic!("no public keys are wanted")
    };
    let release = &analysed.releases()[0];
    let delta = Delta::floor_from(1e-7).unwrap();
    let loss = Loss::Zcdp(rho_for(Epsilon::floor_from(1.0).unwrap(), delta));
    let noise = NoisePlan::new(&release.spec, Price { loss, delta_selection: delta }).unwrap();
    let node = ReleaseNode::new(release.input.clone(), Arc::clone(&release.spec), Arc::new(noise), [1; 16]).unwrap();
    let plan = engine.plan_release(node, Vec::new()).await.unwrap();
    engine.run_release(plan).await.unwrap();
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// The flat table: every line with its order's customer.
async fn lines(dir: &Path, factor: f64) -> PathBuf {
    let file = dir.join("lines.parquet");
    if file.exists() {
        return file;
    }
    fs::create_dir_all(dir).unwrap();
    let (items, orders) = (dir.join("lineitem.parquet"), dir.join("orders.parquet"));
    write(&items, LineItemArrow::new(LineItemGenerator::new(factor, 1, 1)));
    write(&orders, OrderArrow::new(OrderGenerator::new(factor, 1, 1)));
    let context = SessionContext::new();
    context.register_parquet("lineitem", items.to_string_lossy(), ParquetReadOptions::default()).await.unwrap();
    context.register_parquet("orders", orders.to_string_lossy(), ParquetReadOptions::default()).await.unwrap();
    let flat = format!(
        "COPY (SELECT o_custkey, l_returnflag, l_linestatus, l_shipmode, o_orderpriority, \
         CAST(l_quantity AS DOUBLE) AS l_quantity, CAST(l_extendedprice AS DOUBLE) AS l_extendedprice \
         FROM lineitem JOIN orders ON l_orderkey = o_orderkey) TO '{}' STORED AS PARQUET",
        file.display()
    );
    context.sql(&flat).await.unwrap().collect().await.unwrap();
    file
}

fn write(path: &Path, batches: impl RecordBatchReader) {
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batches.schema(), None).unwrap();
    for batch in batches {
        writer.write(&batch.unwrap()).unwrap();
    }
    writer.close().unwrap();
}

fn policy(file: &Path) -> String {
    format!(
        "[dataset]\nowner = \"tpch\"\nname = \"lines\"\nlocation = {:?}\n\
         [privacy]\nunit = \"o_custkey\"\nunit_domain = \"customer\"\nmin_group_size = 10\n\
         max_groups_per_unit = 64\nmax_rows_per_unit_per_group = 128\naccounting = \"zcdp\"\n\
         [budget]\nper_consumer = {{ epsilon = 100.0, delta = 1e-5, per = \"month\" }}\n\
         all_consumers = {{ epsilon = 1000.0, delta = 1e-4, per = \"lifetime\" }}\n\
         default_query = {{ epsilon = 1.0 }}\nmax_query = {{ epsilon = 10.0 }}\nquery_delta = 1e-7\n\
         [columns.l_quantity]\nbounds = [0, 50]\n[columns.l_extendedprice]\nbounds = [0, 110000]\n",
        file.display().to_string()
    )
}
