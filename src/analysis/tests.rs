//! What is answered and what is refused, over the airlines' policies. Refusals are held to their exact first words.

mod canonical;
mod coarser;

use std::path::{Path, PathBuf};

use datafusion::common::ScalarValue;

use super::{Analysed, BoundsRequest, Options, Outcome, PublicRows, Refusal, RefusalKind, analyse};
use crate::catalog::{Catalog, Freshness};
use crate::engine::{Engine, EngineConfig};
use crate::release::Groups;
use crate::sql::{self, Limits};

const TODAY: chrono::NaiveDate = chrono::NaiveDate::from_ymd_opt(2013, 12, 31).unwrap();

fn airlines() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/airlines")
}

async fn analysed_with(sql: &str, bounds: BoundsRequest) -> Result<Analysed, Refusal> {
    analysed_over(&airlines(), sql, bounds).await
}

/// The analysis of a statement over the policies in a folder.
async fn analysed_over(policies: &Path, sql: &str, bounds: BoundsRequest) -> Result<Analysed, Refusal> {
    let catalog = Catalog::load(policies).unwrap();
    let engine = Engine::new(&EngineConfig::default()).unwrap();
    let parsed = sql::parse(sql, Limits::default()).unwrap();
    let tables = catalog.tables(parsed.tables(), Freshness::Now).unwrap();
    let planned = sql::plan(parsed, &tables, engine.state()).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let options = Options { bounds, with_error_columns: false, max_cells: 1_000, diagnostics: false, today: TODAY };
    let mut public = PublicRows::none();
    loop {
        match analyse(&planned, &options, &public)? {
            Outcome::Done(analysed) => return Ok(*analysed),
            Outcome::Wants(plans) => {
                for plan in plans {
                    let mut rows = Vec::new();
                    for batch in engine.run_post(&plan, Vec::new(), Vec::new()).await.unwrap() {
                        for row in 0..batch.num_rows() {
                            let of = |column: &datafusion::arrow::array::ArrayRef| {
                                ScalarValue::try_from_array(column, row).unwrap()
                            };
                            rows.push(batch.columns().iter().map(of).collect());
                        }
                    }
                    public.insert(&plan, rows);
                }
            }
        }
    }
}

async fn analysed(sql: &str) -> Result<Analysed, Refusal> {
    analysed_with(sql, BoundsRequest::default()).await
}

/// What is wrong, unless `sql` is refused in words that contain `detail`, with something to do next.
async fn not_refused(sql: &str, kind: RefusalKind, detail: &str) -> Option<String> {
    match analysed(sql).await {
        Ok(_) => Some(format!("answered: {sql}")),
        Err(refusal) => {
            let fine = refusal.kind == kind
                && refusal.detail.contains(detail)
                && refusal.hint.as_ref().is_some_and(|hint| !hint.is_empty());
            (!fine).then(|| format!("{sql}: {refusal:?}"))
        }
    }
}

#[tokio::test]
async fn what_is_not_private_is_refused_by_name() {
    use RefusalKind::{NotAllowed, NotPrivate, TooLarge};
    let f = "united.flights";
    let mut faults = Vec::new();
    for (sql, kind, detail) in [
        (format!("SELECT * FROM {f}"), NotPrivate, "would return rows of united.flights"),
        (format!("SELECT tailnum FROM {f} WHERE month = 1"), NotPrivate, "would return rows"),
        (format!("SELECT DISTINCT ON (dest) dest, origin FROM {f}"), NotPrivate, "DISTINCT ON over private rows"),
        (format!("SELECT dest FROM {f} ORDER BY dest"), NotPrivate, "ORDER BY or LIMIT over private rows"),
        (format!("SELECT count(*) FROM (SELECT dest FROM {f} LIMIT 5) x"), NotPrivate, "ORDER BY or LIMIT"),
        (
            format!("SELECT count(*) FROM (SELECT rank() OVER (ORDER BY hour) r FROM {f}) x"),
            NotPrivate,
            "spans the rows of several units",
        ),
        (format!("SELECT tailnum, count(*) FROM {f} GROUP BY tailnum"), NotPrivate, "one row of each privacy unit"),
        (
            format!("SELECT count(*) FROM {f} a JOIN delta.flights b ON a.dest = b.dest"),
            NotPrivate,
            "are joined without comparing their units",
        ),
        (
            format!("SELECT count(*) FROM {f} a JOIN {f} b ON a.dest = b.dest"),
            NotPrivate,
            "is joined to itself without comparing its units",
        ),
        (
            format!("SELECT count(*) FROM {f} a JOIN {f} b ON CAST(a.tailnum AS VARCHAR) || '' = b.tailnum || ''"),
            NotPrivate,
            "is joined to itself without comparing its units",
        ),
        (format!("SELECT count(*) FROM {f} CROSS JOIN public.airports"), NotPrivate, "without an equality"),
        (
            format!("SELECT count(*) FROM {f} f JOIN public.airports a ON f.month * 0 = a.tz * 0"),
            NotPrivate,
            "without an equality",
        ),
        (
            format!("SELECT count(*) FROM public.airports a LEFT JOIN {f} f ON a.faa = f.dest"),
            NotPrivate,
            "has a row for each of them only when they are the groups",
        ),
        (
            format!(
                "SELECT a.faa, count(*) FROM public.airports a LEFT JOIN {f} f ON a.faa = f.dest WHERE f.dest IS NULL GROUP BY 1"
            ),
            NotPrivate,
            "may keep public rows that no private row meets",
        ),
        (
            format!(
                "SELECT count(*) FROM {f} f WHERE dep_delay > (SELECT avg(dep_delay) FROM {f} g WHERE g.dest = f.dest)"
            ),
            NotPrivate,
            "correlated on anything but the unit",
        ),
        (
            format!("SELECT faa FROM public.airports WHERE faa IN (SELECT dest FROM {f})"),
            NotPrivate,
            "public rows filtered by private ones",
        ),
        (
            format!("SELECT faa FROM public.airports a WHERE NOT EXISTS (SELECT 1 FROM {f} f WHERE f.dest = a.faa)"),
            NotPrivate,
            "public rows filtered by private ones",
        ),
        (format!("SELECT (SELECT dest FROM {f} LIMIT 1)"), NotPrivate, "ORDER BY or LIMIT"),
        (
            format!("SELECT count(*) FROM {f} WHERE dest = (SELECT max(dest) FROM delta.flights)"),
            NotPrivate,
            "numbers only",
        ),
        (
            format!("SELECT count(*) FROM {f} WHERE hour > (SELECT avg(dep_delay) FROM {f} GROUP BY origin)"),
            NotPrivate,
            "may have several rows",
        ),
        (format!("SELECT max(dest) FROM {f}"), NotPrivate, "answered for numbers only"),
        (format!("SELECT median(day) FROM {f}"), NotPrivate, "has no bounds"),
        (format!("SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY day) FROM {f}"), NotPrivate, "has no bounds"),
        (format!("SELECT array_agg(dep_delay) FROM {f}"), NotPrivate, "the aggregate `array_agg`"),
        (format!("SELECT sum(DISTINCT distance) FROM {f}"), NotPrivate, "DISTINCT inside sum"),
        (format!("SELECT sum(day) FROM {f}"), NotPrivate, "has no bounds"),
        (format!("SELECT sum(dep_delay / distance) FROM {f}"), NotPrivate, "has no bounds"),
        (
            format!("SELECT count(*) FROM {f} WHERE date_part('foo', time_hour) > 1"),
            NotPrivate,
            "`date_part` may fail on a row with these arguments",
        ),
        (
            format!("SELECT count(*) FROM {f} WHERE CAST(distance AS DATE) > DATE '2013-01-01'"),
            NotPrivate,
            "a cast from Int32 to Date32",
        ),
        (
            format!("SELECT count(*) FROM {f} WHERE CAST(flight_date AS VARCHAR) = 'x'"),
            NotPrivate,
            "a cast from Date32",
        ),
        (format!("SELECT count(*) FROM {f} WHERE dest LIKE '{}'", "%_".repeat(100)), NotPrivate, "LIKE with a pattern"),
        (format!("SELECT count(*) FROM {f} WHERE dest LIKE origin"), NotPrivate, "LIKE with a pattern"),
        (
            format!("SELECT count(*) FROM (SELECT dest || origin AS a FROM {f}) t WHERE a || a || a = 'x'"),
            NotPrivate,
            "`||` of more than 4 columns",
        ),
        (format!("SELECT count(*) FROM {f} WHERE regexp_like(dest, origin)"), NotPrivate, "`regexp_like` may fail"),
        (
            format!("SELECT count(*) FROM {f} WHERE random() < 0.5"),
            NotPrivate,
            "`random` gives another value at each call",
        ),
        (format!("SELECT count(*) FROM {f} WHERE flight_date < now()"), NotPrivate, "`now` depends on when"),
        (
            format!("SELECT count(*) FROM {f} WHERE flight_date + INTERVAL '1 day' > DATE '2013-01-01'"),
            NotPrivate,
            "may fail on a row",
        ),
        (format!("SELECT count(*) FROM {f} WHERE flight > 100"), NotAllowed, "does not let anyone read"),
        (format!("SELECT flight, count(*) FROM {f} GROUP BY flight"), NotAllowed, "does not let anyone read"),
        (
            format!("SELECT count(*) FROM (SELECT flight + 1 AS x FROM {f}) t WHERE x > 1"),
            NotAllowed,
            "does not let anyone read",
        ),
        (
            format!("SELECT count(*) FROM (SELECT dest FROM {f} UNION ALL SELECT faa FROM public.airports) x"),
            NotPrivate,
            "UNION ALL of private rows",
        ),
        (
            format!(
                "SELECT origin, month, dep_delay > 0, dep_delay > 1, dep_delay > 2, dep_delay > 3, count(*) FROM {f} GROUP BY 1, 2, 3, 4, 5, 6"
            ),
            TooLarge,
            "more than 1000 groups",
        ),
    ] {
        faults.extend(not_refused(&sql, kind, detail).await);
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// (SQL, public cells or `None` for private keys, L0 in force, measures)
#[tokio::test]
async fn what_is_answered_is_bounded_as_the_policies_say() {
    let f = "united.flights";
    for (sql, cells, l0, measures) in [
        (format!("SELECT count(*) FROM {f}"), Some(1), 1, 1),
        (format!("SELECT origin, count(*) FROM {f} GROUP BY origin"), Some(3), 3, 1),
        (format!("SELECT dest, count(*) FROM {f} GROUP BY dest"), None, 8, 1),
        (format!("SELECT origin, month, count(*) FROM {f} GROUP BY 1, 2"), Some(36), 8, 1),
        (format!("SELECT origin, dest, count(*) FROM {f} GROUP BY 1, 2"), None, 8, 1),
        (format!("SELECT count(DISTINCT tailnum) FROM {f}"), Some(1), 1, 0),
        (format!("SELECT avg(dep_delay), count(dep_delay), count(*) FROM {f}"), Some(1), 1, 3),
        (format!("SELECT avg(dep_delay), avg(dep_delay) + 1 FROM {f}"), Some(1), 1, 2),
        (format!("SELECT sum(distance) FILTER (WHERE month = 1) AS a, sum(distance) FROM {f}"), Some(1), 1, 2),
        (format!("SELECT dep_delay > 15 AS late, count(*) FROM {f} GROUP BY 1"), Some(3), 3, 1),
        (
            format!("SELECT CASE WHEN hour < 12 THEN 'am' ELSE 'pm' END AS half, count(*) FROM {f} GROUP BY 1"),
            Some(2),
            2,
            1,
        ),
        (format!("SELECT sum(least(greatest(day, 1), 31)) FROM {f}"), Some(1), 1, 1),
        (format!("SELECT sum(distance * 2 - 5) FROM {f}"), Some(1), 1, 1),
        (
            format!(
                "WITH q AS (SELECT dest, distance FROM {f} WHERE month < 3) SELECT dest, sum(distance) FROM q GROUP BY dest HAVING count(*) > 5 ORDER BY 2 DESC LIMIT 3"
            ),
            None,
            8,
            2,
        ),
        (format!("SELECT origin, rank() OVER (ORDER BY count(*) DESC) FROM {f} GROUP BY origin"), Some(3), 3, 1),
        ("SELECT owner, count(*) FROM airlines.flights GROUP BY owner".to_owned(), Some(5), 5, 1),
        (
            format!("SELECT count(*) FROM (SELECT dest FROM {f} UNION ALL SELECT dest FROM delta.flights) x"),
            Some(1),
            1,
            1,
        ),
        (
            format!("SELECT a.tzone, count(*) FROM {f} f JOIN public.airports a ON f.dest = a.faa GROUP BY 1"),
            Some(10),
            8,
            1,
        ),
        (
            format!("SELECT count(*) FROM {f} f LEFT JOIN public.airports a ON f.dest = a.faa WHERE a.alt > 100"),
            Some(1),
            1,
            1,
        ),
    ] {
        let analysed = analysed(&sql).await.unwrap_or_else(|refusal| panic!("{sql}: {refusal:?}"));
        let [release] = analysed.releases() else { panic!("{sql}: one release") };
        let found = match release.spec.groups {
            Groups::Public { cells, .. } => Some(cells),
            Groups::Private => None,
        };
        assert_eq!((found, release.spec.bounds.groups, release.spec.measures.len()), (cells, l0, measures), "{sql}");
        assert_eq!((release.spec.bounds.rows, release.spec.min_group_size), (200, 10), "{sql}");
    }
}

#[tokio::test]
async fn names_do_not_make_another_question_and_literals_do() {
    let canonical = |sql: &'static str| async move { analysed(sql).await.unwrap().releases()[0].canonical.clone() };
    let one =
        canonical("SELECT dest AS d, count(*) AS n FROM united.flights f WHERE f.origin = 'EWR' GROUP BY dest").await;
    let same = canonical(
        "select x.dest, COUNT(*) from united.flights as x where x.origin='EWR' group by x.dest order by 1 limit 3",
    )
    .await;
    assert_eq!(one, same);
    for other in [
        "SELECT dest, count(*) FROM united.flights WHERE origin = 'JFK' GROUP BY dest",
        "SELECT dest, count(*) FROM delta.flights WHERE origin = 'EWR' GROUP BY dest",
        "SELECT dest, count(arr_delay) FROM united.flights WHERE origin = 'EWR' GROUP BY dest",
    ] {
        assert_ne!(one, canonical(other).await, "{other}");
    }
    // A literal cannot pass for a part of the text.
    let quoted = canonical("SELECT count(*) FROM united.flights WHERE origin = 'A\") OR #1 = Utf8(\"B'").await;
    let plain = canonical("SELECT count(*) FROM united.flights WHERE origin = 'A' OR origin = 'B'").await;
    assert_ne!(quoted, plain);
}

#[tokio::test]
async fn an_analyst_may_ask_for_smaller_bounds_only() {
    let sql = "SELECT dest, sum(distance) FROM united.flights GROUP BY dest";
    let ask = |bounds: BoundsRequest| analysed_with(sql, bounds);
    let smaller = BoundsRequest {
        max_groups_per_unit: Some(2),
        max_rows_per_unit_per_group: Some(7),
        max_rows_per_unit: Some(10),
        columns: [("distance".to_owned(), [0.0, 1_000.0])].into(),
    };
    let analysed = ask(smaller.clone()).await.unwrap();
    let spec = &analysed.releases()[0].spec;
    assert_eq!((spec.bounds.groups, spec.bounds.rows, spec.bounds.total_rows), (2, 7, Some(10)));
    assert_eq!(spec.measures[0].bound(), 1_000);
    for larger in [
        BoundsRequest { max_groups_per_unit: Some(9), ..smaller.clone() },
        BoundsRequest { max_groups_per_unit: Some(0), ..smaller.clone() },
        BoundsRequest { max_rows_per_unit_per_group: Some(201), ..smaller.clone() },
        BoundsRequest { columns: [("distance".to_owned(), [0.0, 6_000.0])].into(), ..smaller.clone() },
        BoundsRequest { columns: [("distance".to_owned(), [5.0, 1.0])].into(), ..smaller.clone() },
        BoundsRequest { columns: [("nowhere".to_owned(), [0.0, 1.0])].into(), ..smaller },
    ] {
        let refusal = ask(larger.clone()).await.unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Request, "{larger:?}: {refusal:?}");
    }
}

/// One line a release: cells (`-` for private keys), L0, r, measures, units counted.
fn shape(analysed: &Analysed) -> String {
    let of = |release: &super::AnalysedRelease| {
        let spec = &release.spec;
        let cells = match &spec.groups {
            Groups::Public { cells, .. } => cells.to_string(),
            Groups::Private => "-".to_owned(),
        };
        format!("{cells} L0={} r={} m={}", spec.bounds.groups, spec.bounds.rows, spec.measures.len())
    };
    analysed.releases().iter().map(of).collect::<Vec<_>>().join("; ")
}

#[tokio::test]
async fn analysts_sql_is_answered() {
    let f = "united.flights";
    let mut faults = Vec::new();
    for (sql, expected) in [
        // Private with private, on the unit.
        (
            format!(
                "SELECT p.manufacturer, count(*) FROM {f} f JOIN public.planes p ON f.tailnum = p.tailnum GROUP BY 1"
            ),
            "35 L0=8 r=200 m=1",
        ),
        (
            format!(
                "SELECT count(*) FROM {f} a JOIN {f} b USING (tailnum) WHERE a.origin = 'JFK' AND b.origin = 'EWR'"
            ),
            "1 L0=1 r=200 m=1",
        ),
        (format!("SELECT count(*) FROM {f} a, delta.flights b WHERE a.tailnum = b.tailnum"), "1 L0=1 r=200 m=1"),
        (format!("SELECT count(*) FROM {f} a LEFT JOIN delta.flights b ON a.tailnum = b.tailnum"), "1 L0=1 r=200 m=1"),
        (format!("SELECT count(*) FROM {f} a FULL JOIN delta.flights b ON a.tailnum = b.tailnum"), "1 L0=1 r=200 m=1"),
        (format!("SELECT count(*) FROM {f} WHERE tailnum IN (SELECT tailnum FROM delta.flights)"), "1 L0=1 r=200 m=1"),
        (
            format!("SELECT count(*) FROM {f} WHERE tailnum NOT IN (SELECT tailnum FROM delta.flights)"),
            "1 L0=1 r=200 m=1",
        ),
        (
            format!(
                "SELECT count(*) FROM {f} f WHERE EXISTS (SELECT 1 FROM delta.flights d WHERE d.tailnum = f.tailnum AND d.origin = 'JFK')"
            ),
            "1 L0=1 r=200 m=1",
        ),
        (
            format!(
                "SELECT count(*) FROM {f} f WHERE NOT EXISTS (SELECT 1 FROM delta.flights d WHERE d.tailnum = f.tailnum)"
            ),
            "1 L0=1 r=200 m=1",
        ),
        (
            format!(
                "SELECT count(*) FROM {f} f WHERE origin = 'JFK' OR EXISTS (SELECT 1 FROM delta.flights d WHERE d.tailnum = f.tailnum)"
            ),
            "1 L0=1 r=200 m=1",
        ),
        // With public tables.
        (
            format!("SELECT count(*) FROM {f} WHERE dest IN (SELECT faa FROM public.airports WHERE alt > 1000)"),
            "1 L0=1 r=200 m=1",
        ),
        (
            format!("SELECT count(*) FROM {f} WHERE dest NOT IN (SELECT faa FROM public.airports WHERE alt > 1000)"),
            "1 L0=1 r=200 m=1",
        ),
        (
            format!(
                "SELECT count(*) FROM {f} f WHERE NOT EXISTS (SELECT 1 FROM public.airports a WHERE a.faa = f.dest)"
            ),
            "1 L0=1 r=200 m=1",
        ),
        (
            format!(
                "SELECT a.tzone, count(f.dest) FROM public.airports a LEFT JOIN {f} f ON a.faa = f.dest GROUP BY 1"
            ),
            "10 L0=8 r=200 m=1",
        ),
        (
            format!(
                "SELECT dest, count(*) FROM {f} WHERE dest IN (SELECT faa FROM public.airports WHERE alt > 5000) GROUP BY 1"
            ),
            "67 L0=8 r=200 m=1",
        ),
        (
            format!(
                "SELECT count(*) FROM {f} f JOIN (SELECT tzone, min(faa) AS faa FROM public.airports GROUP BY 1) a ON f.dest = a.faa"
            ),
            "1 L0=1 r=200 m=1",
        ),
        (
            format!("SELECT count(*) FROM {f} WHERE distance > (SELECT avg(alt) FROM public.airports)"),
            "1 L0=1 r=200 m=1",
        ),
        // For each unit.
        (
            format!("SELECT avg(least(n, 300)) FROM (SELECT tailnum, count(*) AS n FROM {f} GROUP BY tailnum) t"),
            "1 L0=1 r=1 m=2",
        ),
        (
            format!(
                "SELECT o, avg(d) FROM (SELECT tailnum, origin AS o, avg(dep_delay) AS d FROM {f} GROUP BY 1, 2) t GROUP BY o"
            ),
            "3 L0=3 r=1 m=2",
        ),
        (
            format!(
                "SELECT least(n, 10), count(*) FROM (SELECT tailnum, count(DISTINCT dest) AS n FROM {f} GROUP BY tailnum) t GROUP BY 1"
            ),
            "- L0=1 r=1 m=0",
        ),
        (
            format!("SELECT dest, count(*) FROM (SELECT DISTINCT tailnum, dest FROM {f}) t GROUP BY dest"),
            "- L0=8 r=1 m=0",
        ),
        (format!("SELECT DISTINCT dest FROM {f}"), "- L0=8 r=200 m=0"),
        (
            format!(
                "SELECT dest, count(*) FROM (SELECT tailnum, dest, row_number() OVER (PARTITION BY tailnum ORDER BY flight_date) AS i FROM {f}) t WHERE CAST(i AS VARCHAR) <= '2' GROUP BY dest"
            ),
            "- L0=8 r=200 m=1",
        ),
        (
            format!(
                "SELECT dest, count(*) FROM (SELECT tailnum, dest, row_number() OVER (PARTITION BY tailnum ORDER BY flight_date) AS i FROM {f}) t WHERE i <= '2' GROUP BY dest"
            ),
            "- L0=2 r=2 m=1",
        ),
        (
            format!(
                "SELECT dest, count(*) FROM (SELECT tailnum, dest, row_number() OVER (PARTITION BY tailnum ORDER BY flight_date) AS i FROM {f}) t WHERE CAST(i AS SMALLINT) <= 2 GROUP BY dest"
            ),
            "- L0=8 r=200 m=1",
        ),
        (
            format!(
                "SELECT dest, count(*) FROM (SELECT tailnum, dest, row_number() OVER (PARTITION BY tailnum ORDER BY flight_date) AS i FROM {f}) t WHERE i::text < '3' GROUP BY dest"
            ),
            "- L0=8 r=200 m=1",
        ),
        (
            format!(
                "SELECT dest, count(*) FROM (SELECT tailnum, dest, row_number() OVER (PARTITION BY tailnum ORDER BY flight_date) AS i FROM {f}) t WHERE i = 1 GROUP BY dest"
            ),
            "- L0=1 r=1 m=0",
        ),
        (
            format!(
                "SELECT count(*) FROM (SELECT tailnum, distance - lag(distance) OVER (PARTITION BY tailnum ORDER BY time_hour) AS d FROM {f}) t WHERE d > 0"
            ),
            "1 L0=1 r=200 m=1",
        ),
        // Grouping sets.
        (format!("SELECT origin, dest, count(*) FROM {f} GROUP BY ROLLUP (origin, dest)"), "- L0=12 r=200 m=1"),
        (
            format!("SELECT origin, month, count(*), grouping(origin) FROM {f} GROUP BY CUBE (origin, month)"),
            "52 L0=20 r=200 m=1",
        ),
        (
            format!("SELECT origin, month, avg(dep_delay) FROM {f} GROUP BY GROUPING SETS ((origin), (month), ())"),
            "16 L0=12 r=200 m=2",
        ),
        // Several releases.
        (
            format!(
                "SELECT a.n - b.n FROM (SELECT count(*) n FROM {f}) a CROSS JOIN (SELECT count(*) n FROM delta.flights) b"
            ),
            "1 L0=1 r=200 m=1; 1 L0=1 r=200 m=1",
        ),
        (
            format!("SELECT origin, count(*) * 1.0 / (SELECT count(*) FROM {f}) FROM {f} GROUP BY origin"),
            "3 L0=3 r=200 m=1; 1 L0=1 r=200 m=1",
        ),
        (
            format!("SELECT count(*) FROM {f} WHERE dep_delay > (SELECT avg(dep_delay) FROM {f})"),
            "1 L0=1 r=200 m=2; 1 L0=1 r=200 m=1",
        ),
        (
            format!(
                "WITH q AS (SELECT origin, count(*) n FROM {f} GROUP BY origin) SELECT a.n - b.n FROM q a JOIN q b USING (origin)"
            ),
            "3 L0=3 r=200 m=1",
        ),
        (
            format!(
                "SELECT origin, count(*) FROM {f} GROUP BY origin UNION ALL SELECT origin, count(*) FROM delta.flights GROUP BY origin"
            ),
            "3 L0=3 r=200 m=1; 3 L0=3 r=200 m=1",
        ),
        (
            format!(
                "SELECT count(*) FROM {f} f JOIN (SELECT origin, avg(dep_delay) AS d FROM {f} GROUP BY origin) m ON m.origin = f.origin WHERE f.dep_delay > m.d"
            ),
            "3 L0=3 r=200 m=2; 1 L0=1 r=200 m=1",
        ),
        (
            format!(
                "SELECT a.faa, (SELECT count(*) FROM {f} f WHERE f.dest = a.faa) AS n FROM public.airports a WHERE a.alt > 7000"
            ),
            "- L0=8 r=200 m=1",
        ),
        (format!("SELECT * FROM (VALUES ((SELECT count(*) FROM {f}))) t(x)"), "1 L0=1 r=200 m=1"),
        // Aggregates.
        (
            format!("SELECT count(DISTINCT dest), count(DISTINCT tailnum) FILTER (WHERE origin = 'JFK') FROM {f}"),
            "1 L0=1 r=200 m=2",
        ),
        (format!("SELECT count(dep_delay), avg(dep_delay), sum(dep_delay) FROM {f}"), "1 L0=1 r=200 m=2"),
        (
            format!(
                "SELECT var_samp(dep_delay), var_pop(dep_delay), stddev(dep_delay), stddev_pop(dep_delay), avg(dep_delay) FROM {f}"
            ),
            "1 L0=1 r=200 m=3",
        ),
        (
            format!(
                "SELECT covar_samp(dep_delay, arr_delay), covar_pop(dep_delay, arr_delay), corr(dep_delay, arr_delay), regr_slope(arr_delay, dep_delay), regr_intercept(arr_delay, dep_delay) FROM {f}"
            ),
            "1 L0=1 r=200 m=6",
        ),
        (
            format!(
                "SELECT median(dep_delay), approx_percentile_cont(0.9) WITHIN GROUP (ORDER BY dep_delay), max(distance), min(dep_delay) FILTER (WHERE origin = 'JFK') FROM {f}"
            ),
            "1 L0=1 r=200 m=0",
        ),
        // Keys known without the data.
        (format!("SELECT dest, count(*) FROM {f} WHERE dest IN ('ORD', 'LAX') GROUP BY dest"), "2 L0=2 r=200 m=1"),
        (
            format!(
                "SELECT flight_date, count(*) FROM {f} WHERE flight_date BETWEEN DATE '2013-01-01' AND DATE '2013-01-31' GROUP BY 1"
            ),
            "31 L0=8 r=200 m=1",
        ),
        (format!("SELECT extract(month FROM flight_date), count(*) FROM {f} GROUP BY 1"), "13 L0=8 r=200 m=1"),
        (format!("SELECT hour, count(*) FROM {f} WHERE hour >= 6 AND hour < 10 GROUP BY hour"), "4 L0=4 r=200 m=1"),
    ] {
        let found = match analysed(&sql).await {
            Ok(analysed) => shape(&analysed),
            Err(refusal) => format!("refused: {}", refusal.detail),
        };
        if found != expected {
            faults.push(format!("{sql}\n    {found}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[tokio::test]
async fn a_refusal_says_where_its_clause_stands() {
    let refusal = analysed("SELECT origin,\n  sum(day) AS days FROM united.flights GROUP BY origin").await.unwrap_err();
    assert_eq!(refusal.position, Some((2, 7)), "{refusal:?}");
    let refusal = analysed("SELECT count(*) FROM united.flights WHERE flight > 100").await.unwrap_err();
    assert_eq!(refusal.position, Some((1, 43)), "{refusal:?}");
}
