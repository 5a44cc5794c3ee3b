//! Types whose values end before those of their calculations do: no row of them makes a statement fail.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal64Array, DictionaryArray, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::Int8Type;
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;

use super::exact::{Exact, values};

fn write(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// A private table of extreme values, and a public one.
fn world(dir: &Path) -> Exact {
    let money =
        Decimal64Array::from(vec![999_999_999_999_999_999i64, 100, -5]).with_precision_and_scale(18, 2).unwrap();
    let code: DictionaryArray<Int8Type> = ["a", "b", "a"].into_iter().collect();
    write(
        &dir.join("t.parquet"),
        vec![
            ("u", Arc::new(StringArray::from(vec!["u1", "u2", "u3"])) as ArrayRef),
            ("x", Arc::new(Int64Array::from(vec![i64::MIN, 0, i64::MAX]))),
            ("money", Arc::new(money)),
            ("at", Arc::new(TimestampMicrosecondArray::from(vec![i64::MAX, 0, i64::MIN]))),
            ("code", Arc::new(code)),
        ],
    );
    let public: Vec<(&str, ArrayRef)> =
        vec![("z", Arc::new(Int64Array::from(vec![0, 1]))), ("k", Arc::new(StringArray::from(vec!["one", "two"])))];
    write(&dir.join("p.parquet"), public);
    let policy = "[dataset]\nowner = \"w\"\nname = \"t\"\nlocation = \"t.parquet\"\n\
         [privacy]\nunit = \"u\"\nunit_domain = \"person\"\nmax_groups_per_unit = 4\nmax_rows_per_unit_per_group = 3\n\
         [budget]\nper_consumer = { epsilon = 4.0, delta = 1e-6, per = \"month\" }\n\
         all_consumers = { epsilon = 20.0, delta = 1e-5, per = \"lifetime\" }\n\
         default_query = { epsilon = 0.2 }\nmax_query = { epsilon = 1.0 }\n";
    fs::write(dir.join("w.t.toml"), policy).unwrap();
    let policy = "[dataset]\nowner = \"w\"\nname = \"p\"\nkind = \"public\"\nlocation = \"p.parquet\"\n";
    fs::write(dir.join("w.p.toml"), policy).unwrap();
    Exact::over(dir)
}

#[tokio::test]
async fn no_value_of_a_row_makes_a_statement_fail() {
    let dir = tempfile::tempdir().unwrap();
    let exact = world(dir.path());
    for (sql, expected) in [
        // What has no value is NULL, and is not counted.
        ("SELECT count(money * money) FROM w.t", 2),
        ("SELECT count(money + money + money) FROM w.t", 2),
        ("SELECT count(1 / x) FROM w.t", 2),
        ("SELECT count(x % 0) FROM w.t", 0),
        ("SELECT count(CAST(at AS DATE)) FROM w.t", 1),
        ("SELECT count(TRY_CAST(at AS DATE)) FROM w.t WHERE at IS NOT NULL", 1),
        ("SELECT count(date_trunc('month', at)) FROM w.t", 1),
        ("SELECT count(extract(year FROM at)) FROM w.t WHERE x = 0", 1),
    ] {
        let analysed = exact.analyse(sql).await.unwrap().unwrap_or_else(|refusal| panic!("{sql}: {refusal:?}"));
        let answer = values(&exact.answer(&analysed).await.unwrap_or_else(|error| panic!("{sql}: {error}")));
        assert_eq!(answer[0][0].to_string(), expected.to_string(), "{sql}");
    }
    let doubled = (0..6).fold("SELECT z, CASE WHEN z >= 0 THEN k END AS t FROM w.p".to_owned(), |inner, _| {
        format!("SELECT z, t || t AS t FROM ({inner}) q")
    });
    for (sql, why) in [
        ("SELECT code, count(*) FROM w.t GROUP BY code".to_owned(), "dictionary of few keys"),
        ("SELECT count(*) FROM w.t WHERE code = 'a'".to_owned(), "dictionary of few keys"),
    ] {
        let refusal = exact.analyse(&sql).await.unwrap().unwrap_err();
        assert!(refusal.detail.contains(why), "{sql}: {refusal:?}");
    }
    // A text that doubles is not read in place beside private rows: it is computed before, or refused.
    let sql = format!("SELECT count(DISTINCT p.t) FROM w.t f JOIN ({doubled}) p ON p.z = f.x");
    if let Ok(analysed) = exact.analyse(&sql).await.unwrap() {
        assert!(!analysed.known().is_empty(), "{sql}");
    }
}
