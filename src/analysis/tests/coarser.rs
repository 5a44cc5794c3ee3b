//! Which questions are sums over another's answer. None of them is by guess: what is not seen to add up is not offered.

use super::super::Summable;
use super::*;

/// The airlines' policies, but that United's groups may be of any size: then listed groups need not be selected.
fn unselected() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(airlines()).unwrap() {
        let file = file.unwrap();
        let data = airlines().join("../../tests/data").canonicalize().unwrap();
        let text = std::fs::read_to_string(file.path()).unwrap().replace("../../tests/data", data.to_str().unwrap());
        let text = match file.file_name().to_str() {
            Some("united.flights.toml") => text.replace("min_group_size = 10", "min_group_size = 1"),
            _ => text,
        };
        std::fs::write(folder.path().join(file.file_name()), text).unwrap();
    }
    folder
}

async fn summable_over(policies: &Path, sql: &str) -> Option<Summable> {
    let analysed = analysed_over(policies, sql, BoundsRequest::default()).await;
    Summable::of(&analysed.unwrap_or_else(|refusal| panic!("{sql}: {refusal:?}")))
}

async fn summable(sql: &str) -> Option<Summable> {
    summable_over(unselected().path(), sql).await
}

const FINE: &str = "SELECT origin, month, count(*) AS n, count(dep_delay) AS known, sum(distance) AS miles, \
                    count(*) FILTER (WHERE dep_delay > 5) AS late FROM united.flights GROUP BY origin, month";

#[tokio::test]
async fn sums_over_fewer_of_the_keys_are_answered() {
    let finer = summable(FINE).await.unwrap();
    for coarse in [
        "SELECT origin, count(*) FROM united.flights GROUP BY origin",
        "SELECT month AS m, sum(distance) AS d, count(*) AS c FROM united.flights GROUP BY 1",
        "SELECT count(dep_delay) FROM united.flights",
        "SELECT count(*) FILTER (WHERE dep_delay > 5) AS l FROM united.flights",
        "SELECT o, n FROM (SELECT origin AS o, sum(distance) AS n FROM united.flights f GROUP BY f.origin) q",
    ] {
        let asked = summable(coarse).await.unwrap();
        assert!(asked.is_answered_by(&finer), "{coarse}");
        // And never the other way round.
        assert!(!finer.is_answered_by(&asked), "{coarse}");
    }
}

#[tokio::test]
async fn what_is_not_a_sum_of_it_is_not() {
    let finer = summable(FINE).await.unwrap();
    for other in [
        // The same question is no coarser one.
        FINE,
        "SELECT month, origin, count(*) FROM united.flights GROUP BY 1, 2",
        // A key, a sum or a condition that the finer answer does not have.
        "SELECT carrier, count(*) FROM united.flights GROUP BY carrier",
        "SELECT origin, carrier, count(*) FROM united.flights GROUP BY 1, 2",
        "SELECT origin, sum(dep_delay) FROM united.flights GROUP BY origin",
        "SELECT origin, count(arr_delay) FROM united.flights GROUP BY origin",
        "SELECT origin, sum(distance) FILTER (WHERE dep_delay > 5) FROM united.flights GROUP BY origin",
        "SELECT origin, count(*) FILTER (WHERE dep_delay > 6) FROM united.flights GROUP BY origin",
        "SELECT origin, count(*) FROM united.flights WHERE dep_delay > 5 GROUP BY origin",
        "SELECT count(*) FROM united.flights WHERE month = 1",
        "SELECT count(*) FROM united.flights a WHERE tailnum IN (SELECT tailnum FROM delta.flights)",
        // Other data.
        "SELECT count(*) FROM delta.flights",
        "SELECT count(*) FROM united.flights a JOIN united.flights b ON a.tailnum = b.tailnum",
    ] {
        // Where it is no sum at all, it has no form in which it could be asked for.
        let asked = summable(other).await;
        assert!(asked.is_none_or(|asked| !asked.is_answered_by(&finer)), "{other}");
    }
}

#[tokio::test]
async fn what_does_not_add_up_is_neither_asked_for_nor_summed() {
    for sql in [
        // Not sums: a unit, or a value, may be in several groups.
        "SELECT origin, count(DISTINCT tailnum) FROM united.flights GROUP BY origin",
        "SELECT origin, avg(distance) FROM united.flights GROUP BY origin",
        "SELECT origin, median(distance) FROM united.flights GROUP BY origin",
        "SELECT origin, count(*), stddev(distance) FROM united.flights GROUP BY origin",
        // Groups that are chosen, so that some may be missing.
        "SELECT dest, count(*) FROM united.flights GROUP BY dest",
        "SELECT origin, dest, count(*) FROM united.flights GROUP BY 1, 2",
        // Several sets of groups: a row counts in each.
        "SELECT origin, month, count(*) FROM united.flights GROUP BY ROLLUP (origin, month)",
        // Not shown as it was released.
        "SELECT origin, count(*) + 1 FROM united.flights GROUP BY origin",
        "SELECT origin, count(*) FROM united.flights GROUP BY origin HAVING count(*) > 5",
        "SELECT origin, count(*) FROM united.flights GROUP BY origin ORDER BY 2 LIMIT 2",
        "SELECT count(*) FROM united.flights GROUP BY origin",
        "SELECT sum(n) FROM (SELECT origin, count(*) AS n FROM united.flights GROUP BY origin) q",
        // Several releases.
        "SELECT a.n - b.n FROM (SELECT count(*) AS n FROM united.flights) a, \
         (SELECT count(*) AS n FROM united.flights WHERE month = 1) b",
        "SELECT count(*) FROM united.flights WHERE dep_delay > (SELECT avg(dep_delay) FROM united.flights)",
    ] {
        assert_eq!(summable(sql).await, None, "{sql}");
    }
    // With a minimum size, listed groups too may be missing: nothing is summed.
    let counts = "SELECT origin, count(*) FROM united.flights GROUP BY origin";
    assert!(summable(counts).await.is_some());
    assert_eq!(summable_over(&airlines(), counts).await, None);
}

#[tokio::test]
async fn another_version_of_the_policy_is_another_question() {
    let folder = unselected();
    let file = folder.path().join("united.flights.toml");
    let counts = "SELECT count(*) FROM united.flights";
    let finer = summable_over(folder.path(), FINE).await.unwrap();
    let asked = summable_over(folder.path(), counts).await.unwrap();
    assert!(asked.is_answered_by(&finer));
    let text = std::fs::read_to_string(&file).unwrap();
    let fewer = text.replace("max_rows_per_unit_per_group = 200", "max_rows_per_unit_per_group = 100");
    assert_ne!(fewer, text);
    std::fs::write(&file, fewer).unwrap();
    assert!(!summable_over(folder.path(), counts).await.unwrap().is_answered_by(&finer));
}

#[tokio::test]
async fn the_sql_that_is_offered_names_what_the_finer_answer_shows() {
    let fine = "SELECT origin AS \"from \"\"here\"\"\", month, count(*) AS \"Flights\", sum(distance) \
                FROM united.flights GROUP BY 1, 2";
    let finer = summable(fine).await.unwrap();
    let asked = summable("SELECT origin, sum(distance) AS miles, count(*) AS n FROM united.flights GROUP BY 1").await;
    let offered = asked.unwrap().from_finer(&finer, fine);
    let expected = format!(
        "SELECT finer.\"from \"\"here\"\"\", sum(finer.\"sum(united.flights.distance)\") AS \"miles\", \
         sum(finer.\"Flights\") AS \"n\" FROM (\n{fine}\n) AS finer GROUP BY finer.\"from \"\"here\"\"\""
    );
    assert_eq!(offered, expected);
    // It is read, and asks for the finer release and for nothing else.
    let folder = unselected();
    let canonical = async |sql: &str| {
        let analysed = analysed_over(folder.path(), sql, BoundsRequest::default()).await.unwrap();
        analysed.releases().iter().map(|release| release.canonical.clone()).collect::<Vec<_>>()
    };
    assert_eq!(canonical(&offered).await, canonical(fine).await);
}
