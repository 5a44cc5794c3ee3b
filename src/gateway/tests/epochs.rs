//! Epochs, end to end: which are read, what is refused, what one unit in one epoch moves, and what the verifier asks for.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::exact::Exact;
use crate::release::{EpochsRead, ReleaseSpec, Sums};

fn clinic() -> Exact {
    Exact::over(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slt/policies"))
}

/// The epochs of the only release of a statement, dataset by dataset.
async fn epochs(exact: &Exact, sql: &str) -> String {
    let analysed = exact.analyse(sql).await.unwrap().unwrap_or_else(|refusal| panic!("{sql}: {refusal:?}"));
    let [release] = analysed.releases() else { panic!("one release: {sql}") };
    let of = |(name, epochs): (&crate::policy::DatasetName, &Vec<String>)| format!("{name}: {}", epochs.join(" "));
    release.epochs.iter().map(of).collect::<Vec<_>>().join("; ")
}

#[tokio::test]
async fn the_epochs_that_are_read_follow_from_the_conditions() {
    let exact = clinic();
    let all = "2013-01 2013-02 2013-03 2013-04 2013-05 2013-06 2013-07 2013-08 2013-09 2013-10 2013-11 2013-12";
    let mut faults = Vec::new();
    for (condition, expected) in [
        // Comparisons, either way round, on a date and on a timestamp.
        ("day >= DATE '2013-11-15'", "2013-11 2013-12"),
        ("day > DATE '2013-11-30'", "2013-12"),
        ("DATE '2013-02-01' > day", "2013-01"),
        ("day <= '2013-02-01'", "2013-01 2013-02"),
        ("day < '2013-02-01'", "2013-01"),
        ("day = DATE '2013-07-04'", "2013-07"),
        ("day BETWEEN '2013-02-28' AND '2013-03-01'", "2013-02 2013-03"),
        ("day IN ('2013-01-01', '2013-12-31')", "2013-01 2013-12"),
        ("at >= '2013-11-30T23:59:59.999999'", all),
        ("day = DATE '2013-02-01' OR day > DATE '2013-12-30'", "2013-02 2013-12"),
        ("day >= '2013-03-01' AND day < '2013-05-01' AND cost > 3", "2013-03 2013-04"),
        ("CAST(day AS TIMESTAMP) < TIMESTAMP '2013-02-01T00:00:00'", "2013-01"),
        // Parts of the calendar.
        ("extract(month FROM day) = 4", "2013-04"),
        ("extract(month FROM day) IN (1, 3)", "2013-01 2013-03"),
        ("extract(month FROM day) % 6 = 0", "2013-06 2013-12"),
        ("extract(quarter FROM day) = 2 AND extract(month FROM day) <> 5", "2013-04 2013-06"),
        ("NOT (extract(month FROM day) > 2)", "2013-01 2013-02"),
        ("extract(year FROM day) = 2013", all),
        ("date_trunc('month', day) = '2013-09-01'", "2013-09"),
        ("date_trunc('quarter', day) = '2013-10-01'", "2013-10 2013-11 2013-12"),
        ("date_trunc('week', day) = '2013-01-28'", "2013-01 2013-02"),
        ("date_trunc('day', day) < '2013-01-31'", "2013-01"),
        ("CASE WHEN extract(month FROM day) = 3 THEN 'in' ELSE 'out' END = 'in'", "2013-03"),
        // What says nothing of the epoch, or nothing that is known.
        ("ward = 'a'", all),
        ("day <> '2013-02-01'", all),
        ("ward = 'a' OR day < '2013-02-01'", all),
        ("extract(day FROM day) = 31", all),
        ("extract(month FROM date_trunc('week', day)) = 3", all),
        ("NOT (day > '2013-02-01')", all),
    ] {
        let found = epochs(&exact, &format!("SELECT count(*) FROM clinic.visits WHERE {condition}")).await;
        if found != format!("clinic.visits: {expected}") {
            faults.push(format!("{condition}: {found}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[tokio::test]
async fn conditions_reach_a_scan_through_what_keeps_its_rows() {
    let exact = clinic();
    for (sql, expected) in [
        (
            "SELECT count(*) FROM (SELECT day AS d, ward FROM clinic.visits) q WHERE d < '2013-02-01'",
            "clinic.visits: 2013-01",
        ),
        (
            "SELECT count(*) FROM (SELECT * FROM clinic.visits UNION ALL SELECT * FROM clinic.visits WHERE day > '2013-12-01') q \
             WHERE q.day < '2013-02-01' OR q.day >= '2013-12-01'",
            "clinic.visits: 2013-01 2013-12",
        ),
        (
            "SELECT count(*) FROM clinic.visits v JOIN clinic.stays s ON v.person = s.person \
             AND date_trunc('month', v.day) = date_trunc('month', s.began) \
             WHERE v.day < '2013-03-01' AND s.began < '2013-02-01'",
            "clinic.stays: 2013-01; clinic.visits: 2013-01 2013-02",
        ),
        (
            "SELECT count(*) FROM clinic.visits v WHERE extract(month FROM day) = 5 AND EXISTS (SELECT 1 FROM clinic.stays s \
             WHERE s.person = v.person AND extract(month FROM began) = 5)",
            "clinic.stays: 2013-05; clinic.visits: 2013-05",
        ),
        // One side of an outer join is filled up: a condition on it is not one on its rows.
        (
            "SELECT count(*) FROM clinic.visits v LEFT JOIN clinic.stays s ON v.person = s.person \
             AND date_trunc('month', v.day) = date_trunc('month', s.began) AND s.began < '2013-02-01' WHERE v.day < '2013-02-01'",
            "clinic.stays: 2013-01; clinic.visits: 2013-01",
        ),
        (
            "SELECT count(*) FROM clinic.visits v JOIN public.airports a ON v.ward = a.faa WHERE v.day < '2013-02-01'",
            "clinic.visits: 2013-01",
        ),
        // Of several releases each has its own; here the one that the other reads.
        (
            "SELECT ward, count(*) FROM clinic.visits WHERE day > '2013-12-24' GROUP BY ward HAVING count(*) > 5",
            "clinic.visits: 2013-12",
        ),
    ] {
        assert_eq!(epochs(&exact, sql).await, expected, "{sql}");
    }
}

#[tokio::test]
async fn the_same_question_of_other_epochs_is_another_release() {
    let exact = clinic();
    let canonical = async |condition: &str| {
        let sql = format!("SELECT count(*) FROM clinic.visits WHERE {condition}");
        exact.analyse(&sql).await.unwrap().unwrap().releases()[0].canonical.clone()
    };
    let february = canonical("day >= '2013-02-01' AND day < '2013-03-01'").await;
    assert!(february.contains("epochs clinic.visits 2013-02\n"), "{february}");
    assert_eq!(february, canonical("day >= '2013-02-01' AND day < '2013-03-01'").await);
    assert_ne!(february, canonical("day >= '2013-02-01' AND day < '2013-03-02'").await);
}

/// Issue 5, through all stages: a unit with 1,000 January rows of +1 and 50 February rows of -1, r = 50.
#[tokio::test]
async fn without_its_january_a_unit_moves_a_sum_by_at_most_fifty() {
    let root = tempfile::tempdir().unwrap();
    let january = vec![(15_706, 1); 1_000];
    let february = vec![(15_737, -1); 50];
    let world = |name: &str, rows: &[(i32, i64)], epochs: bool| {
        let dir = root.path().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("u", Arc::new(Int64Array::from(vec![7; rows.len()]))),
            ("d", Arc::new(Date32Array::from_iter_values(rows.iter().map(|row| row.0)))),
            ("x", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1)))),
        ];
        write(&dir.join("t.parquet"), &RecordBatch::try_from_iter(columns).unwrap());
        let epochs = if epochs { "epoch = \"month\"\nepoch_column = \"d\"\nepoch_from = 2013-01-01" } else { "" };
        let policy = format!(
            "[dataset]\nowner = \"w\"\nname = \"t\"\nlocation = \"t.parquet\"\n[privacy]\nunit = \"u\"\nunit_domain = \"person\"\n\
             max_groups_per_unit = 1\nmax_rows_per_unit_per_group = 50\n{epochs}\n\
             [budget]\nper_consumer = {{ epsilon = 4.0, delta = 1e-6, per = \"month\" }}\n\
             all_consumers = {{ epsilon = 20.0, delta = 1e-5, per = \"lifetime\" }}\n\
             default_query = {{ epsilon = 0.2 }}\nmax_query = {{ epsilon = 1.0 }}\n[columns.x]\nbounds = [-1, 1]\n"
        );
        std::fs::write(dir.join("w.t.toml"), policy).unwrap();
        Exact::over(&dir)
    };
    let sum = async |exact: &Exact| {
        let analysed = exact.analyse("SELECT sum(x) FROM w.t").await.unwrap().unwrap();
        let (_, sums) = exact.sums(&analysed.releases()[0], &[]).await.unwrap();
        let Sums::Whole(sum) = &sums.measures[0] else { panic!("a sum") };
        sum[0]
    };
    let both: Vec<_> = january.iter().chain(&february).copied().collect();
    let moved = async |epochs: bool| {
        let name = format!("{epochs}");
        let with = sum(&world(&format!("{name}-with"), &both, epochs)).await;
        with - sum(&world(&format!("{name}-without"), &february, epochs)).await
    };
    assert_eq!(moved(true).await, 50);
    assert_eq!(moved(false).await, 95, "what one bounding over all months would let January move");
}

/// The verifier does not ask the analysis: of a plan that was changed behind its back each part is missed.
#[tokio::test]
async fn the_verifier_asks_for_the_epoch_beside_the_unit() {
    let exact = clinic();
    let sql = "SELECT ward, count(*) FROM clinic.visits WHERE day < '2013-03-01' GROUP BY ward";
    let analysed = exact.analyse(sql).await.unwrap().unwrap();
    let release = &analysed.releases()[0];
    assert!(exact.sums(release, &[]).await.is_ok());
    let read = release.spec.epochs.clone().unwrap();
    let changed = async |epochs: Option<EpochsRead>| {
        let mut changed = release.clone();
        changed.spec = Arc::new(ReleaseSpec { epochs, ..release.spec.as_ref().clone() });
        exact.sums(&changed, &[]).await.err().unwrap_or_else(|| "proven".to_owned())
    };
    // Fewer epochs are charged than the plan reads.
    let mut fewer = read.clone();
    fewer.by_dataset.values_mut().for_each(|epochs| *epochs = epochs.iter().copied().take(1).collect::<BTreeSet<_>>());
    assert!(changed(Some(fewer)).await.contains("the epoch column of the release is not the datasets' epoch"));
    // None of this dataset is.
    let mut none = read.clone();
    none.by_dataset.clear();
    assert!(changed(Some(none)).await.contains("a dataset of which no epoch is charged"));
    // They are cut in another way.
    let other = EpochsRead { kind: crate::policy::EpochKind::Year, ..read.clone() };
    assert!(changed(Some(other)).await.contains("a dataset with other epochs than the release's"));
    // More is charged than is read: nothing to object to.
    let mut more = read;
    more.by_dataset.values_mut().for_each(|epochs| epochs.extend([1, 2]));
    assert_eq!(changed(Some(more)).await, "proven");
}

fn write(path: &Path, batch: &RecordBatch) {
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

/// Makes the data of `tests/data/clinic`, the same each time: `cargo test -- --ignored makes_the_clinic`.
#[test]
#[ignore = "writes files of the repository"]
fn makes_the_clinic() {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/clinic");
    let mut rng = StdRng::seed_from_u64(2013);
    // From 2012-12-18 to 2014-01-14: epochs are those of 2013, and rows outside are dropped.
    for (name, rows, day_column) in [("visits", 4_000, "day"), ("stays", 1_500, "began"), ("bills", 1_500, "day")] {
        let mut days: Vec<Option<i32>> = (0..rows).map(|_| Some(rng.random_range(15_692..16_085))).collect();
        days.iter_mut().step_by(97).for_each(|day| *day = None);
        let moment = |day: &Option<i32>, at: usize| {
            day.map(|day| (i64::from(day) * 86_400 + (at as i64 * 7_919) % 86_400) * 1_000_000)
        };
        let persons = (0..rows).map(|_| (rng.random_range(0..60) > 0).then(|| rng.random_range(0..150i64)));
        let persons: Int64Array = persons.collect();
        let wards: StringArray = (0..rows).map(|_| Some(["a", "b", "c", "d"][rng.random_range(0..4)])).collect();
        let costs = (0..rows).map(|_| (rng.random_range(0..20) > 0).then(|| f64::from(rng.random_range(0..400)) / 2.0));
        let costs: Float64Array = costs.collect();
        let minutes: Int64Array = (0..rows).map(|_| Some(rng.random_range(5..300))).collect();
        let at: TimestampMicrosecondArray = days.iter().enumerate().map(|(at, day)| moment(day, at)).collect();
        let columns: Vec<(&str, ArrayRef, bool)> = vec![
            ("person", Arc::new(persons), true),
            (day_column, Arc::new(Date32Array::from(days)), true),
            ("at", Arc::new(at), true),
            ("ward", Arc::new(wards), false),
            ("cost", Arc::new(costs), true),
            ("minutes", Arc::new(minutes), false),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        write(&folder.join(format!("{name}.parquet")), &batch);
    }
}
