//! From the text of a ten-line query to its analysis: parse, plan, analyse. No file is opened within the measurement.
#![allow(clippy::unwrap_used)]

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use tollgate::analysis::{BoundsRequest, Options, PublicRows, analyse};
use tollgate::catalog::{Catalog, Freshness};
use tollgate::engine::{Engine, EngineConfig};
use tollgate::sql::{self, Limits};

const TODAY: chrono::NaiveDate = chrono::NaiveDate::from_ymd_opt(2026, 1, 1).unwrap();

const SQL: &str = "\
SELECT a.tzone,
       count(*) AS flights,
       count(DISTINCT f.tailnum) AS aircraft,
       avg(f.dep_delay) AS delay,
       sum(f.distance) FILTER (WHERE f.month <= 6) AS first_half
FROM airlines.flights f
JOIN public.airports a ON f.dest = a.faa
WHERE f.origin = 'EWR' AND f.hour BETWEEN 6 AND 22
GROUP BY a.tzone HAVING count(*) > 100
ORDER BY flights DESC LIMIT 10";

fn analysis(c: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let catalog = Catalog::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/airlines")).unwrap();
    let engine = Engine::new(&EngineConfig::default()).unwrap();
    let options = Options {
        bounds: BoundsRequest::default(),
        with_error_columns: false,
        max_cells: 100_000,
        diagnostics: false,
        today: TODAY,
    };
    c.bench_function("analysis of a ten-line query over five datasets", |b| {
        b.to_async(&runtime).iter(|| async {
            let parsed = sql::parse(SQL, Limits::default()).unwrap();
            let tables = catalog.tables(parsed.tables(), Freshness::Known).unwrap();
            let planned = sql::plan(parsed, &tables, engine.state()).await.unwrap();
            black_box(analyse(&planned, &options, &PublicRows::none()).unwrap())
        });
    });
}

criterion_group!(benches, analysis);
criterion_main!(benches);
