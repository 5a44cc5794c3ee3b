//! How exact the release is: median relative errors of six workloads on TPC-H's lineitem with its customer as the unit.
//!
//! `TOLLGATE_BENCH_SF` times six million rows (1 by default), made once into `target/tpch`; ε = 1, δ = 1e-7. Each release is
//! bounded once and drawn `RUNS` times; an error is |drawn − true| / |true| of one number of one group, where the true value
//! is what plain DataFusion gives, so that bounding counts as error too. Medians over all numbers, groups and draws.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use arrow::record_batch::{RecordBatch, RecordBatchReader};
use arrow::util::display::array_value_to_string;
use datafusion::physical_plan::collect;
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use parquet::arrow::ArrowWriter;
use tollgate::accounting::{Delta, Epsilon, Loss, rho_for};
use tollgate::analysis::{BoundsRequest, Options, Outcome, PublicRows, analyse};
use tollgate::catalog::{Catalog, Freshness};
use tollgate::engine::{Engine, EngineConfig};
use tollgate::mechanism::NoiseSource;
use tollgate::release::{DrawExec, GroupSums, Merge, NoisePlan, Price, ReleaseNode, ReleaseSpec, draw};
use tollgate::sql::{self, Limits};
use tpchgen::generators::{CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator};
use tpchgen_arrow::{CustomerArrow, LineItemArrow, NationArrow, OrderArrow};

const TODAY: chrono::NaiveDate = chrono::NaiveDate::from_ymd_opt(2026, 1, 1).unwrap();

const RUNS: usize = 25;

struct Workload {
    name: &'static str,
    sql: &'static str,
    keys: usize,
    /// Groups, rows in each, and rows in all.
    bounds: &'static [(u32, u32, Option<u64>)],
}

const WORKLOADS: [Workload; 6] = [
    Workload {
        name: "W1 count, sum(quantity), avg(price) by returnflag, linestatus",
        sql: "SELECT l_returnflag, l_linestatus, count(*), sum(l_quantity), avg(l_extendedprice) FROM tpch.flat \
              GROUP BY l_returnflag, l_linestatus",
        keys: 2,
        bounds: &[(4, 64, None), (4, 96, Some(192))],
    },
    Workload {
        name: "W2 count(distinct customer) by nation",
        sql: "SELECT n_name, count(DISTINCT o_custkey) FROM tpch.flat GROUP BY n_name",
        keys: 1,
        bounds: &[(1, 1, None)],
    },
    Workload {
        name: "W3 count by orderpriority, shipmode",
        sql: "SELECT o_orderpriority, l_shipmode, count(*) FROM tpch.flat GROUP BY o_orderpriority, l_shipmode",
        keys: 2,
        bounds: &[(35, 8, None), (35, 16, Some(192)), (24, 8, None), (16, 8, None)],
    },
    Workload {
        name: "W4 sum(price*(1-discount)) by nation, year",
        sql: "SELECT n_name, date_part('year', o_orderdate), sum(least(l_extendedprice, 100000.0) * (1.0-l_discount)) \
              FROM tpch.flat WHERE date_part('year', o_orderdate) BETWEEN 1992 AND 1998 \
              GROUP BY n_name, date_part('year', o_orderdate)",
        keys: 2,
        bounds: &[
            (7, 32, None),
            (7, 48, Some(160)),
            (7, 48, Some(128)),
            (7, 40, Some(112)),
            (6, 32, None),
            (5, 32, None),
        ],
    },
    Workload {
        name: "W5 median(price)",
        sql: "SELECT median(l_extendedprice) FROM tpch.flat",
        keys: 0,
        bounds: &[(1, 128, None)],
    },
    Workload {
        name: "W6 count by orderdate, groups selected",
        sql: "SELECT o_orderdate, count(*) FROM tpch.flat GROUP BY o_orderdate",
        keys: 1,
        bounds: &[(32, 8, None), (32, 8, Some(160)), (24, 8, None), (16, 8, None)],
    },
];

fn main() {
    let factor: f64 = std::env::var("TOLLGATE_BENCH_SF").ok().and_then(|text| text.parse().ok()).unwrap_or(1.0);
    tokio::runtime::Runtime::new().unwrap().block_on(run(factor));
}

async fn run(factor: f64) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("target/tpch/flat{factor}"));
    let file = flat(&dir, factor).await;
    fs::write(dir.join("tpch.flat.toml"), policy(&file)).unwrap();
    let engine = Engine::new(&EngineConfig::default()).unwrap();
    let catalog = Catalog::load(&dir).unwrap();
    let plain = SessionContext::new();
    plain.sql("CREATE SCHEMA tpch").await.unwrap();
    plain.register_parquet("tpch.flat", file.to_string_lossy(), ParquetReadOptions::default()).await.unwrap();
    for workload in &WORKLOADS {
        let truth = plain.sql(workload.sql).await.unwrap().collect().await.unwrap();
        let truth = numbers(&truth, workload.keys);
        println!("{} ({} groups)", workload.name, truth.len());
        for (groups, rows, total) in workload.bounds {
            let (spec, sums) = sums(&engine, &catalog, workload.sql, *groups, *rows, *total).await;
            for pure in [true, false] {
                let (error, found) = error(&spec, &sums, pure, workload.keys, &truth);
                let kind = if pure { "pure" } else { "zcdp" };
                let total = total.map_or(String::new(), |total| format!(", R {total}"));
                println!("  L0 {groups}, r {rows}{total}, {kind}: {error:.5} ({found:.0} groups found)");
            }
        }
    }
}

/// By the keys as text, the numbers of each group.
fn numbers(batches: &[RecordBatch], keys: usize) -> HashMap<String, Vec<f64>> {
    let mut found = HashMap::new();
    for batch in batches {
        let columns: Vec<ArrayRef> =
            batch.columns()[keys..].iter().map(|column| cast(column, &DataType::Float64).unwrap()).collect();
        for row in 0..batch.num_rows() {
            let key: Vec<String> =
                batch.columns()[..keys].iter().map(|key| array_value_to_string(key, row).unwrap()).collect();
            let of_row = |column: &ArrayRef| {
                let column: &Float64Array = column.as_primitive::<Float64Type>();
                if column.is_null(row) { f64::NAN } else { column.value(row) }
            };
            found.insert(key.join("|"), columns.iter().map(of_row).collect());
        }
    }
    found
}

async fn sums(
    engine: &Engine,
    catalog: &Catalog,
    sql: &str,
    groups: u32,
    rows: u32,
    total: Option<u64>,
) -> (Arc<ReleaseSpec>, GroupSums) {
    let parsed = sql::parse(sql, Limits::default()).unwrap();
    let tables = catalog.tables(parsed.tables(), Freshness::Now).unwrap();
    let planned = sql::plan(parsed, &tables, engine.state()).await.unwrap();
    let bounds = BoundsRequest {
        max_groups_per_unit: Some(groups),
        max_rows_per_unit_per_group: Some(rows),
        ..BoundsRequest::default()
    };
    let options = Options { bounds, with_error_columns: false, max_cells: 1_000, diagnostics: false, today: TODAY };
    let Outcome::Done(analysed) = analyse(&planned, &options, &PublicRows::none()).unwrap() else {
        panic!("no public keys are wanted")
    };
    let release = &analysed.releases()[0];
    let mut spec = release.spec.as_ref().clone();
    spec.bounds.total_rows = total;
    let spec = Arc::new(spec);
    let noise = Arc::new(NoisePlan::new(&spec, price(false)).unwrap());
    let node = ReleaseNode::new(release.input.clone(), Arc::clone(&spec), noise, [1; 16]).unwrap();
    let plan = engine.plan_release(node, Vec::new()).await.unwrap();
    let any: &dyn std::any::Any = plan.as_ref();
    let exact = Arc::clone(any.downcast_ref::<DrawExec>().unwrap().input());
    let mut merge = Merge::new(Arc::clone(&spec)).unwrap();
    for batch in collect(exact, engine.state().task_ctx()).await.unwrap() {
        merge.add(&batch).unwrap();
    }
    (spec, merge.finish().unwrap())
}

/// ε = 1 in all; δ = 1e-7 in all, half of it for group selection where the loss is zCDP.
fn price(pure: bool) -> Price {
    let epsilon = Epsilon::floor_from(1.0).unwrap();
    let (half, whole) = (Delta::floor_from(5e-8).unwrap(), Delta::floor_from(1e-7).unwrap());
    if pure {
        Price { loss: Loss::Pure(epsilon), delta_selection: whole }
    } else {
        Price { loss: Loss::Zcdp(rho_for(epsilon, half)), delta_selection: half }
    }
}

fn error(
    spec: &ReleaseSpec,
    sums: &GroupSums,
    pure: bool,
    keys: usize,
    truth: &HashMap<String, Vec<f64>>,
) -> (f64, f64) {
    let noise = NoisePlan::new(spec, price(pure)).unwrap();
    let mut source = NoiseSource::from_system().unwrap();
    let mut errors = Vec::new();
    let mut found = 0;
    for _ in 0..RUNS {
        let copy = GroupSums {
            keys: sums.keys.clone(),
            units: sums.units.clone(),
            measures: sums.measures.clone(),
            histograms: sums.histograms.clone(),
        };
        let batch = draw(spec, &noise, copy, &mut source).unwrap();
        let width = keys + spec.outputs.len();
        let batch = batch.project(&(0..width).collect::<Vec<_>>()).unwrap();
        for (key, drawn) in numbers(&[batch], keys) {
            let Some(truth) = truth.get(&key) else { continue };
            found += 1;
            errors.extend(drawn.iter().zip(truth).map(|(drawn, truth)| (drawn - truth).abs() / truth.abs()));
        }
    }
    errors.retain(|error| !error.is_nan());
    errors.sort_by(f64::total_cmp);
    // No group may have been found at all.
    (errors.get(errors.len() / 2).copied().unwrap_or(f64::NAN), f64::from(found) / RUNS as f64)
}

/// The flat table: lineitem ⋈ orders ⋈ customer ⋈ nation.
async fn flat(dir: &Path, factor: f64) -> PathBuf {
    let file = dir.join("flat.parquet");
    if file.exists() {
        return file;
    }
    fs::create_dir_all(dir).unwrap();
    let table = |name: &str| dir.join(format!("{name}.table"));
    write(&table("lineitem"), LineItemArrow::new(LineItemGenerator::new(factor, 1, 1)));
    write(&table("orders"), OrderArrow::new(OrderGenerator::new(factor, 1, 1)));
    write(&table("customer"), CustomerArrow::new(CustomerGenerator::new(factor, 1, 1)));
    write(&table("nation"), NationArrow::new(NationGenerator::default()));
    let context = SessionContext::new();
    for name in ["lineitem", "orders", "customer", "nation"] {
        let options = ParquetReadOptions::default().file_extension("table");
        context.register_parquet(name, table(name).to_string_lossy(), options).await.unwrap();
    }
    let flat = format!(
        "COPY (SELECT o_custkey, l_returnflag, l_linestatus, l_shipmode, o_orderpriority, n_name, o_orderdate, \
         CAST(l_quantity AS DOUBLE) AS l_quantity, CAST(l_extendedprice AS DOUBLE) AS l_extendedprice, \
         CAST(l_discount AS DOUBLE) AS l_discount \
         FROM lineitem JOIN orders ON l_orderkey = o_orderkey JOIN customer ON o_custkey = c_custkey \
         JOIN nation ON c_nationkey = n_nationkey) TO '{}' STORED AS PARQUET",
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
        "[dataset]\nowner = \"tpch\"\nname = \"flat\"\nlocation = {:?}\n\
         [privacy]\nunit = \"o_custkey\"\nunit_domain = \"customer\"\nmin_group_size = 1\n\
         max_groups_per_unit = 64\nmax_rows_per_unit_per_group = 128\naccounting = \"zcdp\"\n\
         [budget]\nper_consumer = {{ epsilon = 100.0, delta = 1e-5, per = \"month\" }}\n\
         all_consumers = {{ epsilon = 1000.0, delta = 1e-4, per = \"lifetime\" }}\n\
         default_query = {{ epsilon = 1.0 }}\nmax_query = {{ epsilon = 10.0 }}\nquery_delta = 1e-7\n\
         [columns.l_quantity]\nbounds = [0, 50]\n[columns.l_extendedprice]\nbounds = [0, 110000]\n\
         [columns.l_discount]\nbounds = [0, 0.1]\n\
         [columns.l_returnflag]\npublic_groups = [\"A\", \"N\", \"R\"]\n[columns.l_linestatus]\npublic_groups = [\"F\", \"O\"]\n\
         [columns.l_shipmode]\npublic_groups = [\"AIR\", \"FOB\", \"MAIL\", \"RAIL\", \"REG AIR\", \"SHIP\", \"TRUCK\"]\n\
         [columns.o_orderpriority]\npublic_groups = [\"1-URGENT\", \"2-HIGH\", \"3-MEDIUM\", \"4-NOT SPECIFIED\", \"5-LOW\"]\n\
         [columns.n_name]\npublic_groups = [\"ALGERIA\", \"ARGENTINA\", \"BRAZIL\", \"CANADA\", \"CHINA\", \"EGYPT\", \"ETHIOPIA\", \
         \"FRANCE\", \"GERMANY\", \"INDIA\", \"INDONESIA\", \"IRAN\", \"IRAQ\", \"JAPAN\", \"JORDAN\", \"KENYA\", \"MOROCCO\", \
         \"MOZAMBIQUE\", \"PERU\", \"ROMANIA\", \"RUSSIA\", \"SAUDI ARABIA\", \"UNITED KINGDOM\", \"UNITED STATES\", \"VIETNAM\"]\n",
        file.display().to_string()
    )
}
