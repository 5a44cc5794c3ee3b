//! Where the rows of a unit meet, from the statement to the plan that runs: and the answer is the same wherever they do.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, Int64Array, StringArray};
use arrow::record_batch::RecordBatch;
use datafusion::physical_plan::displayable;
use parquet::arrow::ArrowWriter;

use super::exact::{Exact, values};

/// Units 0 to 99, of unit u u % 7 rows, in this order.
fn write(path: &Path, order: impl Iterator<Item = i64>) {
    let units: Vec<i64> = order.collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("u", Arc::new(Int64Array::from(units.clone()))),
        ("x", Arc::new(units.iter().map(|unit| unit % 5).collect::<Int64Array>())),
        ("g", Arc::new(units.iter().map(|unit| Some(["a", "b", "c"][*unit as usize % 3])).collect::<StringArray>())),
        ("d", Arc::new(Date32Array::from_iter_values(units.iter().map(|unit| 15_706 + (unit % 60) as i32)))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn world(dir: &Path) -> Exact {
    let rows = || (0..100i64).flat_map(|unit| std::iter::repeat_n(unit, unit as usize % 7));
    write(&dir.join("sorted.parquet"), rows());
    let mut mixed: Vec<i64> = rows().collect();
    mixed.sort_by_key(|unit| (unit * 37 % 101, *unit));
    mixed.rotate_left(50);
    write(&dir.join("mixed.parquet"), mixed.into_iter());
    for (name, file, privacy) in [
        ("sorted", "sorted", "sorted_by_unit = true"),
        ("mixed", "mixed", ""),
        ("wrong", "mixed", "sorted_by_unit = true"),
        ("monthly", "sorted", "epoch = \"month\"\nepoch_column = \"d\"\nepoch_from = 2013-01-01"),
    ] {
        let file = if name == "wrong" {
            fs::copy(dir.join("mixed.parquet"), dir.join("wrong.parquet")).unwrap();
            "wrong"
        } else if name == "monthly" {
            fs::copy(dir.join("sorted.parquet"), dir.join("monthly.parquet")).unwrap();
            "monthly"
        } else {
            file
        };
        let policy = format!(
            "[dataset]\nowner = \"w\"\nname = \"{name}\"\nlocation = \"{file}.parquet\"\n\
             [privacy]\nunit = \"u\"\nunit_domain = \"person\"\nmax_groups_per_unit = 4\n\
             max_rows_per_unit_per_group = 9\n{privacy}\n\
             [budget]\nper_consumer = {{ epsilon = 4.0, delta = 1e-6, per = \"month\" }}\n\
             all_consumers = {{ epsilon = 20.0, delta = 1e-5, per = \"lifetime\" }}\n\
             default_query = {{ epsilon = 0.2 }}\nmax_query = {{ epsilon = 1.0 }}\n\
             [columns.x]\nbounds = [0, 9]\n"
        );
        fs::write(dir.join(format!("w.{name}.toml")), policy).unwrap();
    }
    Exact::over(dir)
}

async fn plan(exact: &Exact, sql: &str) -> String {
    let analysed = exact.analyse(sql).await.unwrap().unwrap_or_else(|refusal| panic!("{sql}: {refusal:?}"));
    let [release] = analysed.releases() else { panic!("one release: {sql}") };
    let (_, plan) = exact.below_the_noise(release, &[]).await.unwrap();
    displayable(plan.as_ref()).indent(false).to_string()
}

#[tokio::test]
async fn rows_of_a_unit_meet_where_the_plan_proves_that_they_do() {
    let dir = tempfile::tempdir().unwrap();
    let exact = world(dir.path());
    for (sql, meeting) in [
        ("SELECT g, count(*) FROM w.mixed GROUP BY g", "Inside"),
        ("SELECT g, count(*) FROM w.sorted GROUP BY g", "InOrder"),
        ("SELECT count(*) FROM (SELECT u, x + 1 AS y FROM w.sorted WHERE x > 2) WHERE y < 5", "InOrder"),
        // One row a unit, and only where nothing but the unit names it.
        ("SELECT count(*) FROM (SELECT u, count(*) AS n FROM w.mixed GROUP BY u) WHERE n > 2", "Alone"),
        ("SELECT n, count(*) FROM (SELECT u, count(*) AS n FROM w.sorted GROUP BY u) GROUP BY n", "Alone"),
        ("SELECT count(*) FROM (SELECT u, g, count(*) AS n FROM w.mixed GROUP BY u, g)", "Inside"),
        (
            "SELECT count(*) FROM w.mixed JOIN (SELECT u, count(*) AS n FROM w.mixed GROUP BY u) p ON mixed.u = p.u",
            "Inside",
        ),
        // A unit is counted once for all its epochs.
        (
            "SELECT count(*) FROM (SELECT u, count(*) AS n FROM w.monthly WHERE d < DATE '2013-02-01' GROUP BY u)",
            "Inside",
        ),
        (
            "SELECT count(*) FROM (SELECT u, 1 AS n FROM w.mixed GROUP BY u UNION ALL SELECT u, 2 AS n FROM w.sorted GROUP BY u)",
            "Inside",
        ),
    ] {
        let plan = plan(&exact, sql).await;
        let bound = plan.lines().find(|line| line.contains("BoundExec")).unwrap_or_default();
        assert!(bound.ends_with(&format!("units meet {meeting}")), "{sql}\n{plan}");
        // No row travels from one partition to another for the bounds' sake.
        assert!(!plan.contains("partitioning=Hash") || sql.contains("GROUP BY u"), "{sql}\n{plan}");
    }
}

#[tokio::test]
async fn an_answer_is_the_same_wherever_rows_meet() {
    let dir = tempfile::tempdir().unwrap();
    let exact = world(dir.path());
    let answer = async |sql: &str| {
        let analysed = exact.analyse(sql).await.unwrap().unwrap_or_else(|refusal| panic!("{sql}: {refusal:?}"));
        values(&exact.answer(&analysed).await.unwrap())
    };
    for sql in [
        "SELECT g, count(*), sum(x), count(DISTINCT u) FROM w.{} GROUP BY g ORDER BY g",
        "SELECT median(x), avg(x) FROM w.{} WHERE x > 0",
        "SELECT x, count(*) FROM w.{} GROUP BY x ORDER BY x",
    ] {
        let [sorted, mixed, wrong] = ["sorted", "mixed", "wrong"].map(|name| sql.replace("{}", name));
        let expected = answer(&mixed).await;
        assert_eq!(answer(&sorted).await, expected, "{sorted}");
        // Declared to be in order, and not: found out, and read again.
        assert_eq!(answer(&wrong).await, expected, "{wrong}");
    }
}
