//! What is read as a question, and what is not.
#![allow(clippy::unwrap_used)]

use super::{Limits, ParseError, body, parse};

fn refused(sql: &str) -> ParseError {
    parse(sql, Limits::default()).unwrap_err()
}

#[test]
fn one_select_is_read_with_the_datasets_that_it_names() {
    let parsed = parse(
        "WITH a AS (SELECT x FROM velo.trips) SELECT count(*) FROM a JOIN city.districts d ON a.x = d.district",
        Limits::default(),
    )
    .unwrap();
    let names: Vec<String> = parsed.tables().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["city.districts", "velo.trips"]);
}

#[test]
fn anything_but_a_select_is_refused_by_name() {
    for sql in [
        "EXPLAIN SELECT 1",
        "EXPLAIN ANALYZE SELECT count(*) FROM velo.trips",
        "SHOW TABLES",
        "DESCRIBE velo.trips",
        "SET datafusion.execution.batch_size = 1",
        "COPY velo.trips TO 'x.csv'",
        "COPY (SELECT * FROM velo.trips) TO 'x.parquet'",
        "CREATE TABLE t AS SELECT 1",
        "CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION 'x'",
        "INSERT INTO velo.trips VALUES (1)",
        "DELETE FROM velo.trips",
        "DROP TABLE velo.trips",
        "PREPARE p AS SELECT 1",
    ] {
        let error = refused(sql);
        assert!(matches!(error, ParseError::NotSelect(_) | ParseError::Syntax(_)), "{sql}: {error:?}");
    }
}

#[test]
fn there_is_exactly_one_statement() {
    assert_eq!(refused(""), ParseError::NotOne { found: 0 });
    assert_eq!(refused("SELECT 1; SELECT 2"), ParseError::NotOne { found: 2 });
    assert!(parse("SELECT 1;", Limits::default()).is_ok());
}

#[test]
fn a_table_is_named_by_owner_and_name() {
    for sql in ["SELECT 1 FROM trips", "SELECT 1 FROM a.b.c", "SELECT 1 FROM information_schema.tables"] {
        assert!(matches!(refused(sql), ParseError::TableName(_)), "{sql}");
    }
}

#[test]
fn what_would_overflow_the_stack_is_refused_before_it_is_parsed() {
    let or = |terms: usize| format!("SELECT 1 WHERE {}", vec!["a=1"; terms].join(" OR "));
    assert_eq!(refused(&or(20_000)), ParseError::TooLong { bytes: or(20_000).len(), max: 65_536 });
    assert_eq!(refused(&or(2_000)), ParseError::TooComplex { max: 1_000 });
    let deep = format!("SELECT {}1{}", "(".repeat(500), ")".repeat(500));
    assert!(matches!(refused(&deep), ParseError::Syntax(_)));
    let list: Vec<String> = (0..8_000).map(|at| at.to_string()).collect();
    assert!(parse(&format!("SELECT 1 WHERE a IN ({})", list.join(",")), Limits::default()).is_ok());
}

#[test]
fn what_would_be_copied_or_doubled_without_end_is_refused() {
    // The engine copies a CTE into each place that names it: each of these would double the plan.
    let chain = |levels: usize| {
        let ctes: Vec<String> = (1..=levels)
            .map(|at| format!("t{at} AS (SELECT x FROM t{} UNION ALL SELECT x FROM t{})", at - 1, at - 1))
            .collect();
        format!("WITH t0 AS (SELECT 1 x), {} SELECT x FROM t{levels}", ctes.join(", "))
    };
    assert!(parse(&chain(5), Limits::default()).is_ok());
    assert_eq!(refused(&chain(12)), ParseError::CteCopies { max: 6 });
    let joined = |times: usize| format!("SELECT {}", vec!["'a'"; times + 1].join(" || "));
    assert!(parse(&joined(8), Limits::default()).is_ok());
    assert_eq!(refused(&joined(9)), ParseError::Concatenations { max: 8 });
}

#[test]
fn a_statement_ends_before_what_may_follow_it() {
    for (text, expected) in [
        ("SELECT 1", Some("SELECT 1")),
        ("SELECT 1;", Some("SELECT 1")),
        ("SELECT 1 ; \n ;\n", Some("SELECT 1")),
        ("SELECT 1; -- done", Some("SELECT 1")),
        ("SELECT 1 -- done; really\n", Some("SELECT 1")),
        ("SELECT 1 /* a\nb */ ; -- c", Some("SELECT 1")),
        // What looks like an end within it is none; nor are comments before the end lost.
        ("SELECT ';' -- é\n AS \"-- x\"\n;", Some("SELECT ';' -- é\n AS \"-- x\"")),
        ("-- é\r\nSELECT 'ü;'", Some("-- é\r\nSELECT 'ü;'")),
        ("-- nothing", None),
        (";", None),
        ("", None),
        ("SELECT 'open", None),
    ] {
        assert_eq!(body(text), expected, "{text}");
    }
}
