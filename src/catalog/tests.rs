//! Sources: which files a location names, and what is wrong with them.
#![allow(clippy::unwrap_used)]

mod live;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use datafusion::datasource::provider_as_source;
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::WriterProperties;

use super::{Catalog, DatasetTable, Freshness, Snapshot, Source, SourceError};
use crate::stores::{DataFile, StoreError};

fn write(path: &Path, column: &str, values: ArrayRef) {
    let batch = RecordBatch::try_from_iter([(column, values)]).unwrap();
    let mut writer = ArrowWriter::try_new(fs::File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn integers(path: &Path, values: &[i64]) {
    write(path, "x", Arc::new(Int64Array::from(values.to_vec())));
}

fn places(snapshot: &Snapshot) -> Vec<PathBuf> {
    snapshot.files.iter().map(DataFile::as_place).collect()
}

fn source(location: &Path) -> Source {
    Source::new(&location.to_string_lossy())
}

#[test]
fn a_file_a_folder_and_a_glob_are_sources() {
    let dir = tempfile::tempdir().unwrap();
    integers(&dir.path().join("b.parquet"), &[1]);
    integers(&dir.path().join("a.parquet"), &[2]);
    fs::write(dir.path().join("notes.txt"), "not data").unwrap();
    let one = source(&dir.path().join("a.parquet")).snapshot().unwrap();
    assert_eq!(places(&one), [dir.path().join("a.parquet")]);
    let both = [dir.path().join("a.parquet"), dir.path().join("b.parquet")];
    assert_eq!(places(&source(dir.path()).snapshot().unwrap()), both);
    assert_eq!(places(&source(&dir.path().join("*.parquet")).snapshot().unwrap()), both);
}

#[test]
fn the_version_changes_with_the_data_and_not_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.parquet");
    integers(&file, &[1, 2, 3]);
    let source = source(&file);
    let before = source.snapshot().unwrap().version;
    assert_eq!(source.snapshot().unwrap().version, before);
    integers(&file, &[1, 2, 4, 5]);
    let after = source.snapshot().unwrap().version;
    assert_ne!(after, before);
    assert_eq!(source.known().unwrap().version, after);
}

#[test]
fn what_is_known_of_a_source_outlives_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.parquet");
    integers(&file, &[1]);
    let source = source(&file);
    let before = source.snapshot().unwrap().version;
    fs::remove_file(&file).unwrap();
    assert_eq!(source.known().unwrap().version, before);
    assert!(matches!(source.snapshot(), Err(SourceError::Store(StoreError::Missing(_)))));
}

#[test]
fn damaged_files_and_mixed_schemas_are_found_before_anything_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.parquet");
    integers(&file, &[1, 2, 3]);
    let whole = fs::read(&file).unwrap();
    for damaged in [&whole[..whole.len() - 5], &whole[..3], &[][..], &b"PAR1 and then not Parquet at all PAR1"[..]] {
        fs::write(&file, damaged).unwrap();
        assert!(
            matches!(source(&file).snapshot(), Err(SourceError::Store(StoreError::NotParquet(_)))),
            "{} bytes",
            damaged.len()
        );
    }
    integers(&file, &[1]);
    write(&dir.path().join("b.parquet"), "x", Arc::new(StringArray::from(vec!["1"])));
    assert!(matches!(source(dir.path()).snapshot(), Err(SourceError::SchemaDiffers { .. })));
}

/// Writes a file of two columns, of which each row group says that it is sorted by `columns`: index and whether descending.
fn sorted(path: &Path, columns: Option<&[(i32, bool)]>) {
    let values: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let batch = RecordBatch::try_from_iter([("x", Arc::clone(&values)), ("u", values)]).unwrap();
    let sorting =
        |&(column_idx, descending): &(i32, bool)| SortingColumn { column_idx, descending, nulls_first: false };
    let properties = WriterProperties::builder()
        .set_sorting_columns(columns.map(|columns| columns.iter().map(sorting).collect()))
        .set_max_row_group_row_count(Some(1))
        .build();
    let mut writer = ArrowWriter::try_new(fs::File::create(path).unwrap(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn strings_of_one_source_may_be_dictionaries_in_a_part_of_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let text: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
    let coded = |keys: DataType| cast(&text, &DataType::Dictionary(Box::new(keys), Box::new(DataType::Utf8))).unwrap();
    let read_as = |files: &[&ArrayRef]| {
        for (at, column) in files.iter().enumerate() {
            write(&dir.path().join(format!("{at}.parquet")), "x", Arc::clone(column));
        }
        source(dir.path()).snapshot().map(|snapshot| snapshot.schema.field(0).data_type().clone())
    };
    let (wide, small) = (coded(DataType::Int32), coded(DataType::Int8));
    assert_eq!(read_as(&[&wide, &wide]).unwrap(), *wide.data_type());
    for files in [[&wide, &text], [&text, &wide], [&wide, &small], [&small, &text]] {
        assert_eq!(read_as(&files).unwrap(), DataType::Utf8);
    }
    let number: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    assert!(matches!(read_as(&[&wide, &number]), Err(SourceError::SchemaDiffers { .. })));
}

#[test]
fn files_are_sorted_by_a_column_when_every_row_group_of_every_file_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a.parquet"), dir.path().join("b.parquet"));
    let sorted_by = || source(dir.path()).snapshot().unwrap().sorted_by;
    sorted(&a, Some(&[(1, false), (0, true)]));
    assert_eq!(sorted_by().as_deref(), Some("u"));
    sorted(&b, Some(&[(1, false)]));
    assert_eq!(sorted_by().as_deref(), Some("u"));
    for other in
        [Some(&[(0, false)][..]), Some(&[(1, true)]), Some(&[(0, false), (1, false)]), Some(&[(7, false)]), None]
    {
        sorted(&b, other);
        assert_eq!(sorted_by(), None, "{other:?}");
    }
}

#[test]
fn a_dataset_is_declared_sorted_by_its_unit_alone_or_by_its_policy() {
    let dir = tempfile::tempdir().unwrap();
    sorted(&dir.path().join("t.parquet"), Some(&[(1, false)]));
    for (unit, declared, expected) in [("u", "", true), ("x", "", false), ("x", "sorted_by_unit = true\n", true)] {
        let policy = format!(
            "[dataset]\nowner = \"w\"\nname = \"t\"\nlocation = \"t.parquet\"\n[privacy]\nunit = \"{unit}\"\n{declared}\
             unit_domain = \"d\"\nmax_groups_per_unit = 1\nmax_rows_per_unit_per_group = 1\n[budget]\n\
             per_consumer = {{ epsilon = 1.0, delta = 1e-6, per = \"month\" }}\n\
             all_consumers = {{ epsilon = 1.0, delta = 1e-6, per = \"lifetime\" }}\n\
             default_query = {{ epsilon = 0.1 }}\nmax_query = {{ epsilon = 1.0 }}\n"
        );
        fs::write(dir.path().join("w.t.toml"), policy).unwrap();
        let catalog = Catalog::load(dir.path()).unwrap();
        let name = "w.t".parse().unwrap();
        let tables = catalog.tables([&name], Freshness::Now).unwrap();
        let (_, provider) = tables.iter().next().unwrap();
        let table = DatasetTable::of(&provider_as_source(Arc::clone(provider))).unwrap();
        assert_eq!(table.is_declared_sorted(), expected, "{unit} {declared}");
    }
}
