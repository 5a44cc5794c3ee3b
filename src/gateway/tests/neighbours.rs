//! Random statements over random data, with all rows of one unit and without them, or of one unit in one epoch where there
//! are epochs: plans, errors and public groups agree, and
//! no number moves further than its noise is made for.
//!
//! `TOLLGATE_CASES` sets how many statements are tried; 2,000 by default, 20,000 in CI. The seed is fixed.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, Float64Array, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use arrow::util::display::array_value_to_string;
use parquet::arrow::ArrowWriter;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::exact::Exact;
use crate::release::{GroupSums, Groups, ReleaseSpec, Sums};

/// Statements over one pair of neighbours before new data is made.
const A_PAIR: usize = 250;

type Row = (i64, Option<i64>, Option<f64>, &'static str, Option<String>, i32);

fn random_rows(rng: &mut StdRng, units: i64, most: usize) -> Vec<Row> {
    let mut rows = Vec::new();
    for unit in 0..units {
        // Unit 0 is the heavy one.
        let count = if unit == 0 { rng.random_range(0..60) } else { rng.random_range(0..most) };
        for _ in 0..count {
            let x = (rng.random_range(0..10) > 0).then(|| rng.random_range(-50..150));
            let y = match rng.random_range(0..12) {
                0 => None,
                1 => Some(f64::NAN),
                2 => Some(f64::INFINITY),
                3 => Some(-0.0),
                _ => Some(rng.random_range(-3.0..3.0)),
            };
            let listed = ["a", "b", "c", "unlisted"][rng.random_range(0..4)];
            let free = (rng.random_range(0..8) > 0).then(|| format!("k{}", rng.random_range(0..12)));
            rows.push((unit, x, y, listed, free, rng.random_range(15_700..15_800)));
        }
    }
    rows
}

fn write(path: &Path, rows: &[Row]) {
    let schema = Arc::new(Schema::new(vec![
        Field::new("u", DataType::Int64, true),
        Field::new("x", DataType::Int64, true),
        Field::new("y", DataType::Float64, true),
        Field::new("g", DataType::Utf8, false),
        Field::new("h", DataType::Utf8, true),
        Field::new("d", DataType::Date32, false),
    ]));
    let columns: Vec<ArrayRef> = vec![
        // A unit of NULL is nobody's.
        Arc::new(rows.iter().map(|row| (row.0 != 1).then_some(row.0)).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.1).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.2).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|row| Some(row.3)).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| row.4.clone()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| Some(row.5)).collect::<Date32Array>()),
    ];
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), Arc::clone(&schema), None).unwrap();
    writer.write(&RecordBatch::try_new(schema, columns).unwrap()).unwrap();
    writer.close().unwrap();
}

/// The rows' days are from 2012-12-26 to 2013-04-04: those of December are never read.
const EPOCHS: &str = "epoch = \"month\"\nepoch_column = \"d\"\nepoch_from = 2013-01-01";

/// Two private tables of one domain and a public one, in a folder of their own.
fn world(dir: &Path, t: &[Row], s: &[Row], epochs: bool) -> Exact {
    fs::create_dir_all(dir).unwrap();
    for (name, rows, k) in [("t", t, 3), ("s", s, 2)] {
        write(&dir.join(format!("{name}.parquet")), rows);
        let policy = format!(
            "[dataset]\nowner = \"w\"\nname = \"{name}\"\nlocation = \"{name}.parquet\"\n\
             [privacy]\nunit = \"u\"\nunit_domain = \"person\"\nmin_group_size = {k}\nmax_groups_per_unit = 4\n\
             max_rows_per_unit_per_group = 3\n{}\n\
             [budget]\nper_consumer = {{ epsilon = 4.0, delta = 1e-6, per = \"month\" }}\n\
             all_consumers = {{ epsilon = 20.0, delta = 1e-5, per = \"lifetime\" }}\n\
             default_query = {{ epsilon = 0.2 }}\nmax_query = {{ epsilon = 1.0 }}\n\
             [columns.x]\nbounds = [-20, 100]\n[columns.y]\nbounds = [-2, 2]\n[columns.g]\npublic_groups = [\"a\", \"b\", \"c\"]\n",
            if epochs { EPOCHS } else { "" }
        );
        fs::write(dir.join(format!("w.{name}.toml")), policy).unwrap();
    }
    let public: Vec<Row> = (0..10).map(|at| (at, Some(at * 7), None, "a", Some(format!("k{at}")), 15_700)).collect();
    write(&dir.join("p.parquet"), &public);
    let policy = "[dataset]\nowner = \"w\"\nname = \"p\"\nkind = \"public\"\nlocation = \"p.parquet\"\n";
    fs::write(dir.join("w.p.toml"), policy).unwrap();
    Exact::over(dir)
}

fn pick<'a>(rng: &mut StdRng, of: &[&'a str]) -> &'a str {
    of[rng.random_range(0..of.len())]
}

/// A relation with the columns u, x, y, g, h, d, named r.
fn source(rng: &mut StdRng) -> &'static str {
    pick(
        rng,
        &[
            "w.t r",
            "(SELECT * FROM w.t WHERE x > 10) r",
            "(SELECT * FROM w.t UNION ALL SELECT * FROM w.s) r",
            "(SELECT DISTINCT u, x, y, g, h, d FROM w.t) r",
            "(SELECT t.u, t.x, s.y, t.g, s.h, t.d FROM w.t t JOIN w.s s ON t.u = s.u) r",
            "(SELECT t.u, t.x, s.y, t.g, s.h, t.d FROM w.t t JOIN w.s s ON t.u = s.u AND t.g = s.g) r",
            "(SELECT t.u, t.x, s.y, t.g, s.h, t.d FROM w.t t LEFT JOIN w.s s ON t.u = s.u AND t.x > s.x) r",
            "(SELECT coalesce(t.x, s.x) AS x, t.u AS u, s.y, t.g, s.h, t.d FROM w.t t FULL JOIN w.s s ON t.u = s.u) r",
            "(SELECT * FROM w.t t WHERE EXISTS (SELECT 1 FROM w.s s WHERE s.u = t.u AND s.x > t.x)) r",
            "(SELECT * FROM w.t t WHERE NOT EXISTS (SELECT 1 FROM w.s s WHERE s.u = t.u AND s.g = t.g)) r",
            "(SELECT * FROM w.t WHERE u NOT IN (SELECT u FROM w.s WHERE x > 50)) r",
            "(SELECT * FROM w.t WHERE h IN (SELECT h FROM w.p WHERE x > 20)) r",
            "(SELECT t.u, p.x, t.y, t.g, p.h, t.d FROM w.t t JOIN w.p p ON t.h = p.h) r",
            "(SELECT t.u, t.x, t.y, t.g, p.h, t.d FROM w.t t LEFT JOIN w.p p ON t.h = p.h) r",
            "(SELECT u, sum(x) AS x, avg(y) AS y, min(g) AS g, max(h) AS h, min(d) AS d FROM w.t GROUP BY u) r",
            "(SELECT u, max(x) AS x, stddev_pop(y) AS y, min(g) AS g, max(h) AS h, min(d) AS d FROM w.t GROUP BY u) r",
            "(SELECT u, median(x) AS x, var_samp(x) AS y, g, max(h) AS h, min(d) AS d FROM w.t GROUP BY u, g) r",
            "(SELECT u, count(*) AS x, sum(y) AS y, g, max(h) AS h, min(d) AS d FROM w.t GROUP BY u, g) r",
            "(SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY u ORDER BY x) AS i FROM w.t) q WHERE i <= 2) r",
            "(SELECT u, x - lag(x) OVER (PARTITION BY u ORDER BY d, x) AS x, y, g, h, d FROM w.t) r",
            "(SELECT * FROM w.t t WHERE x > (SELECT avg(x) FROM w.s)) r",
        ],
    )
}

/// The same where the two have epochs: nothing is computed over several months of a unit.
fn source_in_epochs(rng: &mut StdRng) -> &'static str {
    pick(
        rng,
        &[
            "w.t r",
            "(SELECT * FROM w.t WHERE d >= '2013-01-10' AND d < '2013-03-05') r",
            "(SELECT * FROM w.t WHERE extract(month FROM d) IN (2, 4) AND x > 10) r",
            "(SELECT * FROM w.t UNION ALL SELECT * FROM w.s) r",
            "(SELECT * FROM w.t WHERE d > '2013-02-20' UNION ALL SELECT * FROM w.s WHERE d < '2013-02-10') r",
            "(SELECT DISTINCT u, x, y, g, h, d FROM w.t) r",
            "(SELECT t.u, t.x, s.y, t.g, s.h, t.d FROM w.t t JOIN w.s s ON t.u = s.u AND t.d = s.d) r",
            "(SELECT t.u, t.x, s.y, t.g, s.h, t.d FROM w.t t JOIN w.s s ON t.u = s.u              AND date_trunc('month', t.d) = date_trunc('month', s.d) WHERE t.d > '2013-01-20') r",
            "(SELECT t.u, t.x, s.y, t.g, s.h, t.d FROM w.t t LEFT JOIN w.s s ON t.u = s.u AND t.x > s.x              AND extract(month FROM t.d) = extract(month FROM s.d)) r",
            "(SELECT coalesce(t.x, s.x) AS x, t.u AS u, s.y, t.g, s.h, t.d FROM w.t t FULL JOIN w.s s ON t.u = s.u              AND date_trunc('month', t.d) = date_trunc('month', s.d)) r",
            "(SELECT * FROM w.t t WHERE EXISTS (SELECT 1 FROM w.s s WHERE s.u = t.u AND s.x > t.x              AND date_trunc('month', s.d) = date_trunc('month', t.d))) r",
            "(SELECT * FROM w.t t WHERE NOT EXISTS (SELECT 1 FROM w.s s WHERE s.u = t.u              AND extract(month FROM s.d) = extract(month FROM t.d))) r",
            "(SELECT * FROM w.t WHERE extract(month FROM d) = 2 AND u NOT IN (SELECT u FROM w.s WHERE x > 50              AND d BETWEEN '2013-02-01' AND '2013-02-28')) r",
            "(SELECT * FROM w.t WHERE h IN (SELECT h FROM w.p WHERE x > 20)) r",
            "(SELECT t.u, p.x, t.y, t.g, p.h, t.d FROM w.t t JOIN w.p p ON t.h = p.h) r",
            "(SELECT t.u, t.x, t.y, t.g, p.h, t.d FROM w.t t LEFT JOIN w.p p ON t.h = p.h) r",
            "(SELECT u, sum(x) AS x, avg(y) AS y, min(g) AS g, max(h) AS h, min(d) AS d FROM w.t              GROUP BY u, date_trunc('month', d)) r",
            "(SELECT u, median(x) AS x, var_samp(x) AS y, g, max(h) AS h, min(d) AS d FROM w.t              GROUP BY u, g, extract(month FROM d)) r",
            "(SELECT u, count(*) AS x, sum(y) AS y, min(g) AS g, max(h) AS h, min(d) AS d FROM w.t              WHERE d >= '2013-03-01' AND d < '2013-04-01' GROUP BY u) r",
            "(SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY u, date_trunc('month', d) ORDER BY x) AS i FROM w.t) q              WHERE i <= 2) r",
            "(SELECT u, x - lag(x) OVER (PARTITION BY u, extract(month FROM d) ORDER BY d, x) AS x, y, g, h, d FROM w.t) r",
            "(SELECT * FROM w.t t WHERE x > (SELECT avg(x) FROM w.s)) r",
        ],
    )
}

fn statement(rng: &mut StdRng, epochs: bool) -> String {
    let source = if epochs { source_in_epochs(rng) } else { source(rng) };
    let keys: Vec<&str> = (0..rng.random_range(0..3))
        .map(|_| {
            pick(
                rng,
                &[
                    "r.g",
                    "r.h",
                    "r.x > 10",
                    "CASE WHEN r.x > 50 THEN 'high' ELSE 'low' END",
                    "extract(month FROM r.d)",
                    "least(greatest(r.x, 0), 5)",
                ],
            )
        })
        .collect();
    let clamped_x = "least(greatest(r.x, -20), 100)";
    let clamped_y = "least(greatest(r.y, -2.0), 2.0)";
    let mut aggregates = Vec::new();
    for _ in 0..rng.random_range(1..4) {
        let mut aggregate = match rng.random_range(0..13) {
            0 => "count(*)".to_owned(),
            1 => "count(r.x)".to_owned(),
            2 => "count(DISTINCT r.h)".to_owned(),
            3 => "count(DISTINCT r.x)".to_owned(),
            4 => format!("sum({clamped_x})"),
            5 => format!("sum({clamped_y})"),
            6 => format!("avg({clamped_x})"),
            7 => format!("avg({clamped_y})"),
            8 => format!("stddev({clamped_y})"),
            9 => format!("corr({clamped_x}, {clamped_y})"),
            10 => format!("regr_slope({clamped_y}, {clamped_x})"),
            11 => format!("median({clamped_x})"),
            _ => format!("sum({clamped_x} * {clamped_y})"),
        };
        if rng.random_range(0..5) == 0 {
            let _ =
                write!(aggregate, " FILTER (WHERE {})", pick(rng, &["r.x > 0", "r.g = 'a'", "r.y < 1", "r.h IS NULL"]));
        }
        aggregates.push(aggregate);
    }
    let condition = pick(
        rng,
        &[
            "",
            " WHERE r.x > 0",
            " WHERE r.g IN ('a', 'b')",
            " WHERE r.y IS NOT NULL",
            " WHERE r.h LIKE 'k1%' OR r.x < 5",
        ],
    );
    let names: Vec<String> = keys
        .iter()
        .chain(aggregates.iter().map(String::as_str).collect::<Vec<_>>().iter())
        .map(|s| (*s).to_owned())
        .collect();
    let mut sql = format!("SELECT {} FROM {source}{condition}", names.join(", "));
    if !keys.is_empty() {
        let distinct = keys.len() < 2 || keys[0] != keys[1];
        let _ = match rng.random_range(0..4) {
            0 if distinct => write!(sql, " GROUP BY ROLLUP ({})", keys.join(", ")),
            1 if distinct => write!(sql, " GROUP BY CUBE ({})", keys.join(", ")),
            _ => write!(sql, " GROUP BY {}", keys.join(", ")),
        };
    }
    sql
}

/// By the keys as text, the units and the measures of each group.
fn by_group(sums: &GroupSums, measures: usize) -> BTreeMap<String, (i64, Vec<i128>)> {
    let mut found = BTreeMap::new();
    for at in 0..sums.units.len() {
        let key: Vec<String> = sums.keys.iter().map(|key| array_value_to_string(key, at).unwrap()).collect();
        let values = sums.measures.iter().map(|sums| match sums {
            Sums::Whole(sums) => sums[at],
            Sums::Values(values) => values[at].len() as i128,
        });
        let values: Vec<i128> = values.collect();
        assert_eq!(values.len(), measures);
        found.insert(key.join("|"), (sums.units[at], values));
    }
    found
}

/// What is wrong between two neighbours' sums, if anything.
fn check(spec: &ReleaseSpec, with: &GroupSums, without: &GroupSums) -> Result<(), String> {
    let (with, without) = (by_group(with, spec.measures.len()), by_group(without, spec.measures.len()));
    let public = matches!(spec.groups, Groups::Public { .. });
    if public && !with.keys().eq(without.keys()) {
        return Err("public groups differ".to_owned());
    }
    let nothing = (0, vec![0; spec.measures.len()]);
    let all: std::collections::BTreeSet<&String> = with.keys().chain(without.keys()).collect();
    let pairs: Vec<_> =
        all.iter().map(|key| (with.get(*key).unwrap_or(&nothing), without.get(*key).unwrap_or(&nothing))).collect();
    let moved_units: Vec<i64> = pairs.iter().map(|(a, b)| a.0 - b.0).collect();
    if moved_units.iter().any(|moved| !(0..=1).contains(moved)) {
        return Err(format!("units moved by {moved_units:?}"));
    }
    if moved_units.iter().sum::<i64>() as u64 > spec.bounds.groups {
        return Err(format!("a unit is in {} groups", moved_units.iter().sum::<i64>()));
    }
    // Which groups have k units changes in at most L0 of them.
    let k = i64::try_from(spec.min_group_size).unwrap();
    let crossed = pairs.iter().filter(|(a, b)| (a.0 >= k) != (b.0 >= k)).count();
    if crossed as u64 > spec.bounds.groups {
        return Err(format!("{crossed} groups cross k"));
    }
    for (at, measure) in spec.measures.iter().enumerate() {
        let moved: Vec<u128> = pairs.iter().map(|(a, b)| a.1[at].abs_diff(b.1[at])).collect();
        let squared: u128 = moved.iter().map(|moved| moved * moved).sum();
        if squared > spec.squared_sensitivity(measure).unwrap() {
            return Err(format!("{measure:?} moved by {moved:?}, squared more than planned"));
        }
        if moved.iter().sum::<u128>() > spec.absolute_sensitivity(measure).unwrap() {
            return Err(format!("{measure:?} moved by {moved:?}, more than planned"));
        }
    }
    Ok(())
}

async fn neighbours(seed: u64, cases: usize, epochs: bool) {
    let mut rng = StdRng::seed_from_u64(seed);
    let root = tempfile::tempdir().unwrap();
    let mut faults = Vec::new();
    let mut refused = String::new();
    let (mut answered, mut tried) = (0, 0);
    while tried < cases {
        let (t, s) = (random_rows(&mut rng, 25, 8), random_rows(&mut rng, 25, 5));
        let removed = if rng.random_range(0..3) == 0 { rng.random_range(2..25) } else { 0 };
        let months = [(15_706, 15_736), (15_737, 15_764), (15_765, 15_795), (15_796, 15_825)];
        let (first, last) = if epochs { months[rng.random_range(0..4)] } else { (i32::MIN, i32::MAX) };
        let is_removed = |row: &Row| row.0 == removed && (first..=last).contains(&row.5);
        let rest = |rows: &[Row]| rows.iter().filter(|row| !is_removed(row)).cloned().collect::<Vec<_>>();
        let with = world(&root.path().join(format!("{tried}/with")), &t, &s, epochs);
        let without = world(&root.path().join(format!("{tried}/without")), &rest(&t), &rest(&s), epochs);
        for _ in 0..A_PAIR.min(cases - tried) {
            tried += 1;
            let sql = statement(&mut rng, epochs);
            match (with.analyse(&sql).await, without.analyse(&sql).await) {
                (Ok(Ok(a)), Ok(Ok(b))) => {
                    answered += 1;
                    let last = |analysed: &crate::analysis::Analysed| analysed.releases().len() - 1;
                    assert_eq!(last(&a), last(&b), "{sql}");
                    // The last release: with an inner value that is the same for both, as a drawn one is.
                    let inner = vec![vec![
                        RecordBatch::try_from_iter([("value", Arc::new(Float64Array::from(vec![12.5])) as ArrayRef)])
                            .unwrap(),
                    ]];
                    let known = if a.known().is_empty() { Vec::new() } else { inner };
                    let (a, b) = (&a.releases()[last(&a)], &b.releases()[last(&b)]);
                    assert_eq!(format!("{:?}", a.spec), format!("{:?}", b.spec), "{sql}");
                    match (with.sums(a, &known).await, without.sums(b, &known).await) {
                        (Ok((_, with)), Ok((_, without))) => {
                            if let Err(fault) = check(&a.spec, &with, &without) {
                                faults.push(format!("{sql}\n    {fault}"));
                            }
                        }
                        // What the verifier does not prove would be an answer that nobody gets: a fault of the analysis.
                        (Err(a), Err(_)) => assert!(!a.contains("not proven private"), "{sql}\n    {a}"),
                        (a, b) => faults.push(format!("{sql}\n    {:?} and {:?}", a.err(), b.err())),
                    }
                }
                (Ok(Err(a)), Ok(Err(b))) => {
                    assert_eq!(a, b, "{sql}");
                    let _ = writeln!(refused, "{sql}\n    {a}");
                }
                (Err(a), Err(b)) => assert_eq!(a, b, "{sql}"),
                (a, b) => faults.push(format!("{sql}\n    {:?} and {:?}", a.is_ok(), b.is_ok())),
            }
        }
    }
    assert!(faults.is_empty(), "{} of {tried}:\n{}", faults.len(), faults[..faults.len().min(20)].join("\n"));
    assert!(answered * 10 > tried * 8, "only {answered} of {tried} were answered:\n{refused}");
}

fn cases() -> usize {
    std::env::var("TOLLGATE_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(2_000)
}

// Four tests, so that they run beside each other.

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn no_number_moves_further_than_planned_1() {
    neighbours(1, cases() / 4, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn no_number_moves_further_than_planned_2() {
    neighbours(2, cases() / 4, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn no_number_moves_further_than_planned_3() {
    neighbours(3, cases() / 4, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn no_number_moves_further_than_planned_4() {
    neighbours(4, cases() / 4, false).await;
}

// And with epochs, where the neighbour lacks the rows of one unit in one month.

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn no_number_moves_further_than_planned_in_an_epoch_1() {
    neighbours(5, cases() / 4, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn no_number_moves_further_than_planned_in_an_epoch_2() {
    neighbours(6, cases() / 4, true).await;
}
