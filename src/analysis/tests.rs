//! What is answered and what is refused, over the airlines' policies. Refusals are held to their exact first words.

use std::path::Path;

use super::{Analysed, BoundsRequest, Options, Refusal, RefusalKind, analyse};
use crate::catalog::{Catalog, Freshness};
use crate::engine::{Engine, EngineConfig};
use crate::release::Groups;
use crate::sql::{self, Limits};

async fn analysed_with(sql: &str, bounds: BoundsRequest) -> Result<Analysed, Refusal> {
    let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/airlines");
    let catalog = Catalog::load(&policies).unwrap();
    let engine = Engine::new(&EngineConfig::default()).unwrap();
    let parsed = sql::parse(sql, Limits::default()).unwrap();
    let tables = catalog.tables(parsed.tables(), Freshness::Now).unwrap();
    let planned = sql::plan(parsed, &tables, engine.state()).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    analyse(&planned, &Options { bounds, with_error_columns: false, max_cells: 1_000 })
}

async fn analysed(sql: &str) -> Result<Analysed, Refusal> {
    analysed_with(sql, BoundsRequest::default()).await
}

/// Holds that `sql` is refused in words that contain `detail`, with something to do next.
async fn refused(sql: &str, kind: RefusalKind, detail: &str) {
    match analysed(sql).await {
        Ok(_) => panic!("answered: {sql}"),
        Err(refusal) => {
            assert_eq!(refusal.kind, kind, "{sql}: {refusal:?}");
            assert!(refusal.detail.contains(detail), "{sql}: {refusal:?}");
            assert!(refusal.hint.is_some_and(|hint| !hint.is_empty()), "{sql}");
        }
    }
}

#[tokio::test]
async fn what_is_not_private_is_refused_by_name() {
    use RefusalKind::{NotAllowed, NotPrivate, TooLarge};
    let f = "united.flights";
    for (sql, kind, detail) in [
        (format!("SELECT * FROM {f}"), NotPrivate, "would return rows of united.flights"),
        (format!("SELECT tailnum FROM {f} WHERE month = 1"), NotPrivate, "would return rows"),
        (format!("SELECT DISTINCT dest FROM {f}"), NotPrivate, "DISTINCT over private rows"),
        (format!("SELECT dest FROM {f} ORDER BY dest"), NotPrivate, "ORDER BY or LIMIT over private rows"),
        (format!("SELECT count(*) FROM (SELECT dest FROM {f} LIMIT 5) x"), NotPrivate, "ORDER BY or LIMIT"),
        (
            format!("SELECT count(*) FROM (SELECT rank() OVER (ORDER BY hour) r FROM {f}) x"),
            NotPrivate,
            "window function",
        ),
        (format!("SELECT tailnum, count(*) FROM {f} GROUP BY tailnum"), NotPrivate, "one group of each privacy unit"),
        (
            format!("SELECT count(*) FROM {f} a JOIN delta.flights b ON a.tailnum = b.tailnum"),
            NotPrivate,
            "join of private datasets with each other",
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
            "does not keep the private side",
        ),
        (
            format!("SELECT count(*) FROM {f} WHERE dest IN (SELECT faa FROM public.airports)"),
            NotPrivate,
            "a subquery inside a condition",
        ),
        (
            format!("SELECT count(*) FROM {f} WHERE dep_delay > (SELECT avg(dep_delay) FROM {f})"),
            NotPrivate,
            "a subquery inside a condition",
        ),
        (
            format!("SELECT faa FROM public.airports WHERE faa IN (SELECT dest FROM {f})"),
            NotPrivate,
            "a subquery over private data",
        ),
        (
            format!("SELECT * FROM (VALUES ((SELECT count(*) FROM {f}))) t(x)"),
            NotPrivate,
            "a subquery over private data",
        ),
        (format!("SELECT origin, count(*) FROM {f} GROUP BY ROLLUP (origin)"), NotPrivate, "ROLLUP"),
        (format!("SELECT max(dep_delay) FROM {f}"), NotPrivate, "the aggregate `max`"),
        (format!("SELECT median(dep_delay) FROM {f}"), NotPrivate, "the aggregate `median`"),
        (format!("SELECT count(DISTINCT dest) FROM {f}"), NotPrivate, "only the privacy units themselves"),
        (format!("SELECT sum(DISTINCT distance) FROM {f}"), NotPrivate, "DISTINCT inside sum"),
        (format!("SELECT sum(day) FROM {f}"), NotPrivate, "has no bounds"),
        (format!("SELECT sum(dep_delay / distance) FROM {f}"), NotPrivate, "a division by 0"),
        (format!("SELECT count(*) FROM {f} WHERE distance % CAST(0.5 AS BIGINT) > 1"), NotPrivate, "a division by 0"),
        (format!("SELECT count(*) FROM {f} WHERE distance / CAST(-1.5 AS BIGINT) > 1"), NotPrivate, "a division by 0"),
        (
            format!("SELECT count(*) FROM {f} WHERE date_part('foo', time_hour) > 1"),
            NotPrivate,
            "`date_part` on these arguments",
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
        (format!("SELECT count(*) FROM {f} WHERE dest || origin = 'x'"), NotPrivate, "`||` of two columns"),
        (format!("SELECT count(*) FROM {f} WHERE regexp_like(dest, '^A')"), NotPrivate, "the function `regexp_like`"),
        (format!("SELECT count(*) FROM {f} WHERE random() < 0.5"), NotPrivate, "the function `random`"),
        (format!("SELECT count(*) FROM {f} WHERE flight_date < now()"), NotPrivate, "the function `now`"),
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
            format!("SELECT count(*) FROM {f} f JOIN (VALUES ('ORD')) v(d) ON f.dest = v.d"),
            NotPrivate,
            "joined to public tables only",
        ),
        (
            format!(
                "SELECT count(*) FROM {f} f JOIN (SELECT faa FROM public.airports WHERE 10 / alt > 1) a ON f.dest = a.faa"
            ),
            NotPrivate,
            "a division by 0",
        ),
        (
            format!("SELECT count(*) FROM (SELECT dest FROM {f} UNION ALL SELECT faa FROM public.airports) x"),
            NotPrivate,
            "UNION ALL of private rows",
        ),
        (
            format!("SELECT * FROM (SELECT count(*) FROM {f}) a CROSS JOIN (SELECT count(*) FROM delta.flights) b"),
            NotPrivate,
            "several private aggregations",
        ),
        (
            format!(
                "SELECT origin, month, dep_delay > 0, dep_delay > 1, dep_delay > 2, dep_delay > 3, count(*) FROM {f} GROUP BY 1, 2, 3, 4, 5, 6"
            ),
            TooLarge,
            "more than 1000 groups",
        ),
    ] {
        refused(&sql, kind, detail).await;
    }
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
            None,
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
        columns: [("distance".to_owned(), [0.0, 1_000.0])].into(),
    };
    let analysed = ask(smaller.clone()).await.unwrap();
    let spec = &analysed.releases()[0].spec;
    assert_eq!((spec.bounds.groups, spec.bounds.rows, spec.measures[0].bound()), (2, 7, 1_000));
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
