//! Strings that a file hands out as dictionaries of 32-bit keys, as `source optimize` writes them, are answered as plain ones.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use arrow::util::display::array_value_to_string;
use parquet::arrow::ArrowWriter;

use super::exact::Exact;

fn coded(column: &ArrayRef) -> ArrayRef {
    cast(column, &DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))).unwrap()
}

fn write(path: &Path, columns: &[(&str, ArrayRef)]) {
    let columns = columns.iter().map(|(name, column)| (*name, Arc::clone(column), true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// `w.plain` and `w.coded` of the same rows, `w.listed_plain` and `w.listed_coded` whose groups are public, and public tables of
/// cities, `w.cities_plain` and `w.cities_coded`.
fn world(dir: &Path) -> Exact {
    let rows = 600;
    let cities = [Some("Ulm"), Some("Köln"), None, Some(""), Some("Bonn"), Some("bonn")];
    let kinds = ["a_1", "b%2", "c"];
    let city: ArrayRef = Arc::new((0..rows).map(|row| cities[(row * 7 + row / 11) % 6]).collect::<StringArray>());
    let kind: ArrayRef = Arc::new((0..rows).map(|row| Some(kinds[row % 3])).collect::<StringArray>());
    let unit: ArrayRef = Arc::new((0..rows as i64).map(|row| Some(row % 150)).collect::<Int64Array>());
    let x: ArrayRef = Arc::new((0..rows as i64).map(|row| Some(row % 17)).collect::<Int64Array>());
    let names: ArrayRef = Arc::new(StringArray::from(vec!["Ulm", "Köln", "Bonn", "Kiel"]));
    let land: ArrayRef = Arc::new(StringArray::from(vec!["south", "west", "west", "north"]));
    for (form, make) in [("plain", Arc::clone as fn(&ArrayRef) -> ArrayRef), ("coded", coded)] {
        for name in ["", "listed_"] {
            let columns =
                [("u", Arc::clone(&unit)), ("city", make(&city)), ("kind", make(&kind)), ("x", Arc::clone(&x))];
            write(&dir.join(format!("{name}{form}.parquet")), &columns);
            let groups =
                if name.is_empty() { "" } else { "[columns.city]\npublic_groups = [\"Ulm\", \"Bonn\", \"Kiel\"]\n" };
            let policy = format!(
                "[dataset]\nowner = \"w\"\nname = \"{name}{form}\"\nlocation = \"{name}{form}.parquet\"\n\
                 [privacy]\nunit = \"u\"\nunit_domain = \"person\"\nmax_groups_per_unit = 20\nmax_rows_per_unit_per_group = 9\n\
                 [budget]\nper_consumer = {{ epsilon = 4.0, delta = 1e-6, per = \"month\" }}\n\
                 all_consumers = {{ epsilon = 20.0, delta = 1e-5, per = \"lifetime\" }}\n\
                 default_query = {{ epsilon = 0.2 }}\nmax_query = {{ epsilon = 1.0 }}\n[columns.x]\nbounds = [0, 20]\n{groups}"
            );
            fs::write(dir.join(format!("w.{name}{form}.toml")), policy).unwrap();
        }
        write(&dir.join(format!("cities_{form}.parquet")), &[("name", make(&names)), ("land", make(&land))]);
        let policy = format!(
            "[dataset]\nowner = \"w\"\nname = \"cities_{form}\"\nkind = \"public\"\nlocation = \"cities_{form}.parquet\"\n"
        );
        fs::write(dir.join(format!("w.cities_{form}.toml")), policy).unwrap();
    }
    let collection = "[collection]\nname = \"all.both\"\nmembers = [\"w.plain\", \"w.coded\"]\n";
    fs::write(dir.join("all.both.toml"), collection).unwrap();
    Exact::over(dir)
}

#[tokio::test]
async fn a_collection_may_have_members_with_dictionaries_and_without() {
    let dir = tempfile::tempdir().unwrap();
    let exact = world(dir.path());
    let answer = async |sql: &str| {
        let analysed = exact.analyse(sql).await.unwrap().unwrap_or_else(|refusal| panic!("{sql}: {refusal:?}"));
        let mut rows = texts(&exact.answer(&analysed).await.unwrap_or_else(|error| panic!("{sql}: {error}")));
        rows.sort();
        rows
    };
    let twice = "SELECT city, kind, count(*), sum(x) FROM (SELECT * FROM w.plain UNION ALL SELECT * FROM w.plain) q \
                 WHERE city <> 'Ulm' GROUP BY city, kind";
    let both = "SELECT city, kind, count(*), sum(x) FROM all.both WHERE city <> 'Ulm' GROUP BY city, kind";
    assert_eq!(answer(both).await, answer(twice).await);
    let plain = DataType::Utf8;
    let schema = exact.schema("all.both");
    assert_eq!(schema.field_with_name("city").unwrap().data_type(), &plain);
}

#[tokio::test]
async fn dictionaries_of_32_bit_keys_are_answered_as_plain_strings() {
    let dir = tempfile::tempdir().unwrap();
    let exact = world(dir.path());
    let (mut wrong, mut answered) = (Vec::new(), 0);
    for sql in [
        "SELECT city, count(*), sum(x) FROM w.T GROUP BY city",
        "SELECT city, kind, count(*) FROM w.T GROUP BY city, kind",
        "SELECT city, count(*) FROM w.listed_T GROUP BY city",
        "SELECT city, kind, count(*), avg(x) FROM w.listed_T WHERE kind <> 'c' GROUP BY city, kind",
        "SELECT count(*) FROM w.T WHERE city = 'Ulm'",
        "SELECT count(*) FROM w.T WHERE 'Ulm' < city AND kind >= 'b'",
        "SELECT count(*) FROM w.T WHERE city IN ('Ulm', 'Bonn', 'nowhere')",
        "SELECT count(*) FROM w.T WHERE city NOT IN ('Ulm', '')",
        "SELECT count(*) FROM w.T WHERE city LIKE 'B%' OR kind LIKE '%\\_1' OR city ILIKE 'bonn'",
        "SELECT count(*) FROM w.T WHERE city NOT LIKE '%n'",
        "SELECT count(*) FROM w.T WHERE city IS NULL OR city IS DISTINCT FROM kind",
        "SELECT count(*) FROM w.T WHERE city BETWEEN 'A' AND 'L'",
        "SELECT count(city), count(DISTINCT city), count(DISTINCT kind) FROM w.T",
        "SELECT count(*) FILTER (WHERE city = 'Ulm'), sum(x) FILTER (WHERE kind = 'c') FROM w.T",
        "SELECT CASE WHEN city = 'Ulm' THEN 'here' WHEN city IS NULL THEN kind ELSE city END AS c, count(*) FROM w.T GROUP BY c",
        "SELECT CASE city WHEN 'Ulm' THEN 1 ELSE 0 END AS c, count(*) FROM w.T GROUP BY c",
        "SELECT coalesce(city, 'none') AS c, count(*) FROM w.T GROUP BY c",
        "SELECT nullif(city, '') AS c, count(*) FROM w.T GROUP BY c",
        "SELECT upper(city) AS c, count(*) FROM w.T GROUP BY c",
        "SELECT substr(city, 1, 1) AS c, count(*), sum(least(greatest(length(kind) + x, 0), 30)) FROM w.T GROUP BY c",
        "SELECT city || '/' || kind AS c, count(*) FROM w.T GROUP BY c",
        "SELECT lower(trim(city)) AS c, length(kind) AS l, count(*) FROM w.T GROUP BY c, l",
        "SELECT count(*) FROM w.T WHERE TRY_CAST(city AS BIGINT) IS NULL AND md5(city) <> 'x'",
        "SELECT starts_with(city, 'B') AS c, count(*) FROM w.T GROUP BY c",
        "SELECT CAST(city AS VARCHAR) AS c, count(*) FROM w.T GROUP BY c",
        "SELECT c.land, count(*) FROM w.T t JOIN w.cities_T c ON t.city = c.name GROUP BY c.land",
        "SELECT c.land, count(*) FROM w.T t JOIN w.cities_plain c ON t.city = c.name GROUP BY c.land",
        "SELECT c.land, count(*) FROM w.plain t JOIN w.cities_T c ON t.city = c.name GROUP BY c.land",
        "SELECT c.name, count(t.u) FROM w.cities_T c LEFT JOIN w.T t ON t.city = c.name GROUP BY c.name",
        "SELECT count(*) FROM w.T WHERE city IN (SELECT name FROM w.cities_T WHERE land = 'west')",
        "SELECT a.city, count(*) FROM w.T a JOIN w.listed_T b ON a.u = b.u AND a.city = b.city GROUP BY a.city",
        "SELECT city, count(*) FROM (SELECT u, city FROM w.T UNION ALL SELECT u, city FROM w.plain) q GROUP BY city",
        "SELECT city, kind, count(*) FROM w.T GROUP BY ROLLUP (city, kind)",
        "SELECT cities, count(*) FROM (SELECT u, count(DISTINCT city) AS cities FROM w.T GROUP BY u) q GROUP BY cities",
        "SELECT c, count(*) FROM (SELECT u, max(city) AS c FROM w.T GROUP BY u) q GROUP BY c",
        "SELECT city, count(*) AS n FROM w.T GROUP BY city HAVING city LIKE '%n' ORDER BY city DESC LIMIT 2",
        "SELECT DISTINCT kind FROM w.T",
        "SELECT c, count(*) FROM (SELECT u, row_number() OVER (PARTITION BY u ORDER BY city, kind) AS r, kind AS c FROM w.T) q \
         WHERE r = 1 GROUP BY c",
    ] {
        let mut answers = Vec::new();
        for form in ["plain", "coded"] {
            // Only the whole word: `w.T`, `w.listed_T`, `w.cities_T`.
            let sql = sql.replace("w.T", &format!("w.{form}")).replace("_T", &format!("_{form}"));
            let answer = match exact.analyse(&sql).await {
                Err(error) => Err(format!("no SQL: {error}")),
                Ok(Err(refusal)) => Err(format!("refused: {}", refusal.detail.replace("coded", "plain"))),
                Ok(Ok(analysed)) => exact.answer(&analysed).await.map(|rows| {
                    let mut rows = texts(&rows);
                    if !sql.contains("ORDER BY city DESC") {
                        rows.sort();
                    }
                    rows
                }),
            };
            answers.push(answer);
        }
        answered += usize::from(matches!(&answers[0], Ok(rows) if !rows.is_empty()));
        if answers[0] != answers[1] {
            wrong.push(format!("{sql}\n  plain: {:?}\n  coded: {:?}", answers[0], answers[1]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // What a plain string is refused for is not what is tested here.
    assert!(answered >= 33, "{answered}");
}

/// Every row as text, whatever encodes its strings.
fn texts(batches: &[RecordBatch]) -> Vec<String> {
    let text = |batch: &RecordBatch, row: usize| {
        let values = batch.columns().iter().map(|column| {
            if column.is_null(row) {
                "NULL".to_owned()
            } else {
                format!("{:?}", array_value_to_string(column, row).unwrap())
            }
        });
        values.collect::<Vec<_>>().join(" ")
    };
    batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| text(batch, row))).collect()
}
