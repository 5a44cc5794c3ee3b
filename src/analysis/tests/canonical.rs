//! Which statements ask the same question, and which only look like it. A pair that is taken for one where it is not would show
//! an answer to a question that was not asked, and a pair that is not taken for one is paid for twice.

use std::collections::BTreeMap;

use super::*;

/// The texts of a statement's releases.
async fn texts(sql: &str) -> Vec<String> {
    let analysed = analysed(sql).await.unwrap_or_else(|refusal| panic!("{sql}: {refusal:?}"));
    analysed.releases().iter().map(|release| release.canonical.clone()).collect()
}

/// Conditions on United's flights that are one condition.
async fn one(conditions: &[&str]) {
    let statements: Vec<String> = conditions.iter().map(|condition| counted(condition)).collect();
    one_question(&statements.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

async fn one_question(statements: &[&str]) {
    let first = texts(statements[0]).await;
    for statement in &statements[1..] {
        assert_eq!(texts(statement).await, first, "{} and {statement}", statements[0]);
    }
}

/// Conditions of which no two are one.
async fn all_different(conditions: &[&str]) {
    let statements: Vec<String> = conditions.iter().map(|condition| counted(condition)).collect();
    different_questions(&statements.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

async fn different_questions(statements: &[&str]) {
    let mut seen = BTreeMap::new();
    for statement in statements {
        if let Some(other) = seen.insert(texts(statement).await, *statement) {
            panic!("taken for one: {other} and {statement}");
        }
    }
}

fn counted(condition: &str) -> String {
    format!("SELECT count(*) FROM united.flights WHERE {condition}")
}

#[tokio::test]
async fn the_order_and_nesting_of_conditions_do_not_matter() {
    let (a, b, c) = ("month = 1", "dep_delay > 5", "origin <> 'EWR'");
    one(&[
        &format!("{a} AND {b} AND {c}"),
        &format!("{c} AND {b} AND {a}"),
        &format!("{b} AND ({a} AND {c})"),
        &format!("(({c}) AND (({a}) AND ({b})))"),
        &format!("{a} AND {a} AND {b} AND {c}"),
        &format!("1 = month AND 'EWR' <> origin AND {b}"),
    ])
    .await;
    one(&[
        &format!("{a} OR {b} OR {c}"),
        &format!("{c} OR ({b} OR {a})"),
        &format!("({b} OR {c}) OR {a}"),
        &format!("('EWR' <> origin OR {b}) OR 1 = month"),
    ])
    .await;
    // Each within the other, and within what is neither.
    one(&[
        &format!("({a} AND {b}) OR ({b} AND {c})"),
        &format!("({c} AND {b}) OR ({b} AND {a})"),
        &format!("({b} AND {c}) OR ({a} AND {b})"),
    ])
    .await;
    one(&[&format!("NOT ({a} AND ({b} OR {c}))"), &format!("NOT (({c} OR {b}) AND {a})")]).await;
    one(&[
        &format!("CASE WHEN {a} AND {b} THEN dep_delay = arr_delay ELSE {c} OR {b} END"),
        &format!("CASE WHEN {b} AND {a} THEN arr_delay = dep_delay ELSE {b} OR {c} END"),
    ])
    .await;
}

#[tokio::test]
async fn where_a_condition_stands_and_what_things_are_called_do_not_matter() {
    one_question(&[
        "SELECT count(*) FROM united.flights WHERE month = 1 AND dep_delay > 5",
        "SELECT count(*) AS n FROM (SELECT * FROM united.flights WHERE dep_delay > 5) AS late WHERE late.month = 1",
        "SELECT count(*) FROM (SELECT * FROM united.flights WHERE 1 = month) q WHERE dep_delay > 5",
        "with q as (select * from united.flights) select COUNT(*) from q where (dep_delay > 5) and (month = 1)",
    ])
    .await;
    // `SELECT *` is nothing; columns in another order, or fewer of them, are other columns in their places, and still counted.
    different_questions(&[
        "SELECT sum(a) FROM (SELECT dep_delay AS a, arr_delay AS b, tailnum FROM united.flights) q",
        "SELECT sum(b) FROM (SELECT dep_delay AS a, arr_delay AS b, tailnum FROM united.flights) q",
        "SELECT sum(a) FROM (SELECT dep_delay AS b, arr_delay AS a, tailnum FROM united.flights) q WHERE b > 5",
        "SELECT sum(a) FROM (SELECT arr_delay AS b, dep_delay AS a, tailnum FROM united.flights) q WHERE b > 5",
    ])
    .await;
    one_question(&[
        "SELECT origin, count(*) FILTER (WHERE month = 1 AND dep_delay > 5) FROM united.flights GROUP BY origin",
        "SELECT o, n FROM (SELECT origin AS o, count(*) FILTER (WHERE dep_delay > 5 AND 1 = month) AS n \
         FROM united.flights GROUP BY 1) q ORDER BY n DESC LIMIT 2",
    ])
    .await;
    // Two instances of one table, whichever is called what.
    one_question(&[
        "SELECT count(*) FROM united.flights a JOIN united.flights b ON a.tailnum = b.tailnum \
         WHERE a.dep_delay > 5 AND b.month = 1",
        "SELECT count(*) FROM united.flights b JOIN united.flights a ON a.tailnum = b.tailnum \
         WHERE a.month = 1 AND b.dep_delay > 5",
    ])
    .await;
}

#[tokio::test]
async fn what_has_an_order_keeps_it() {
    all_different(&[
        "dep_delay < arr_delay",
        "arr_delay < dep_delay",
        "dep_delay <= arr_delay",
        "dep_delay > arr_delay",
        "NOT (dep_delay < arr_delay)",
        "dep_delay = arr_delay",
        "dep_delay <> arr_delay",
        "dep_delay IS NOT DISTINCT FROM arr_delay",
        "dep_delay - arr_delay > 0",
        "arr_delay - dep_delay > 0",
        "dep_delay + arr_delay > 0",
        "dep_delay BETWEEN 1 AND arr_delay",
        "arr_delay BETWEEN 1 AND dep_delay",
        "origin LIKE 'E%'",
        "origin NOT LIKE 'E%'",
        "dest LIKE 'E%'",
    ])
    .await;
    all_different(&[
        "CASE WHEN month = 1 THEN dep_delay WHEN origin = 'EWR' THEN arr_delay END > 5",
        "CASE WHEN origin = 'EWR' THEN arr_delay WHEN month = 1 THEN dep_delay END > 5",
        "CASE WHEN month = 1 THEN arr_delay WHEN origin = 'EWR' THEN dep_delay END > 5",
        "CASE WHEN month = 1 THEN dep_delay ELSE arr_delay END > 5",
        "CASE WHEN month = 1 THEN arr_delay ELSE dep_delay END > 5",
        "CASE month WHEN 1 THEN dep_delay ELSE arr_delay END > 5",
        "coalesce(dep_delay, arr_delay) > 5",
        "coalesce(arr_delay, dep_delay) > 5",
    ])
    .await;
}

#[tokio::test]
async fn near_misses_are_other_questions() {
    let (a, b, c) = ("month = 1", "dep_delay > 5", "origin = 'EWR'");
    all_different(&[
        &format!("{a} AND {b} AND {c}"),
        &format!("{a} OR {b} OR {c}"),
        &format!("({a} AND {b}) OR {c}"),
        &format!("{a} AND ({b} OR {c})"),
        &format!("({a} OR {b}) AND {c}"),
        &format!("({a} OR {c}) AND {b}"),
        &format!("NOT ({a} AND {b} AND {c})"),
        &format!("NOT {a} AND {b} AND {c}"),
        &format!("{a} AND NOT {b} AND {c}"),
        &format!("NOT ({a} OR {b} OR {c})"),
        &format!("{a} AND {b}"),
        &format!("{a} AND {c}"),
        &format!("({a}) = ({b})"),
        &format!("({a}) <> ({b})"),
        &format!("({a}) = ({c})"),
    ])
    .await;
    // Literals: another value, another type, another column, and texts that look like another part of the text.
    all_different(&[
        "month = 1",
        "month = 2",
        "month = -1",
        "month = 1.0",
        "day = 1",
        "origin = '1'",
        "origin = ' 1'",
        "origin = ''",
        "origin IS NULL",
        "origin = 'ewr'",
        "origin = 'EWR'",
        "dest = 'EWR'",
        "origin = 'dest'",
        "origin = dest",
        "origin = '#3'",
        "origin = 'EWR' AND dest = 'ORD'",
        "origin = 'EWR\")) AND dest = Utf8(\"ORD'",
        "origin = 'EWR\\\"'",
        "origin = 'EWR\"'",
        "origin IN ('EWR', 'JFK')",
        "origin IN ('EWR', 'LGA')",
        "origin IN ('EWR, JFK')",
        "origin IN ('EWR\", \"JFK')",
        "month IN (1, 12)",
        "month IN (11, 2)",
    ])
    .await;
}

#[tokio::test]
async fn which_instance_of_a_table_is_meant_matters() {
    let joined = |condition: &str| {
        format!(
            "SELECT count(*) FROM united.flights a JOIN united.flights b ON a.tailnum = b.tailnum WHERE {condition}"
        )
    };
    let conditions = [
        "a.dep_delay > 5",
        "b.dep_delay > 5",
        "a.dep_delay > 5 AND b.dep_delay > 5",
        "a.dep_delay < b.dep_delay",
        "b.dep_delay < a.dep_delay",
        "a.month = b.day",
        "b.month = a.day",
        "a.month = b.month",
        "a.month = 1 AND b.day = 2",
        "b.month = 1 AND a.day = 2",
    ];
    let statements: Vec<String> = conditions.iter().map(|condition| joined(condition)).collect();
    different_questions(&statements.iter().map(String::as_str).collect::<Vec<_>>()).await;
    different_questions(&[
        "SELECT count(*) FROM united.flights a JOIN delta.flights b ON a.tailnum = b.tailnum WHERE a.month = 1",
        "SELECT count(*) FROM united.flights a JOIN delta.flights b ON a.tailnum = b.tailnum WHERE b.month = 1",
        "SELECT count(*) FROM delta.flights a JOIN united.flights b ON a.tailnum = b.tailnum WHERE a.month = 1",
        "SELECT count(*) FROM united.flights a LEFT JOIN delta.flights b ON a.tailnum = b.tailnum WHERE a.month = 1",
        "SELECT count(*) FROM united.flights a JOIN delta.flights b ON a.tailnum = b.tailnum AND a.month = b.month",
        "SELECT count(*) FROM united.flights a JOIN delta.flights b ON a.tailnum = b.tailnum AND a.month < b.month",
        "SELECT count(*) FROM united.flights a JOIN delta.flights b ON a.tailnum = b.tailnum AND b.month < a.month",
    ])
    .await;
}

#[tokio::test]
async fn what_a_subquery_asks_is_part_of_the_question() {
    let among = |subquery: &str| format!("tailnum IN (SELECT tailnum FROM {subquery})");
    let not_among = |subquery: &str| format!("tailnum NOT IN (SELECT tailnum FROM {subquery})");
    all_different(&[
        &among("delta.flights WHERE month = 1"),
        &among("delta.flights WHERE month = 2"),
        &among("delta.flights"),
        &among("united.flights WHERE month = 1"),
        &not_among("delta.flights WHERE month = 1"),
        &among("delta.flights GROUP BY tailnum HAVING count(*) > 5"),
        &among("delta.flights GROUP BY tailnum HAVING count(*) > 6"),
    ])
    .await;
    one(&[
        &among("delta.flights WHERE month = 1 AND day = 2"),
        &among("delta.flights d WHERE d.day = 2 AND 1 = d.month"),
    ])
    .await;
    // Values that are released before: what is compared with them is another question, and so is which they are.
    let above = |column: &str, value: &str| counted(&format!("{column} > (SELECT {value} FROM united.flights)"));
    let statements = [
        above("dep_delay", "avg(dep_delay)"),
        above("arr_delay", "avg(dep_delay)"),
        above("dep_delay", "avg(arr_delay)"),
        above("dep_delay", "avg(dep_delay) + 1"),
        above("dep_delay", "avg(dep_delay) + 2"),
    ];
    let mut outer = Vec::new();
    for statement in &statements {
        outer.push(texts(statement).await.last().unwrap().clone());
    }
    let mut distinct = outer.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), outer.len(), "{outer:#?}");
}

/// Past as many operands as are put in order, two orders are two questions, and still no two questions are one.
#[tokio::test]
async fn a_long_chain_is_never_taken_for_another() {
    let chain = |days: &mut dyn Iterator<Item = u32>| {
        days.map(|day| format!("(day = {day} AND month = {day})")).collect::<Vec<_>>().join(" OR ")
    };
    let up = chain(&mut (0..60));
    let down = chain(&mut (0..60).rev());
    one(&[&up, &down]).await;
    let (longer, other) = (chain(&mut (0..80)), chain(&mut (0..79).chain([81])));
    all_different(&[&longer, &other, &up]).await;
}
