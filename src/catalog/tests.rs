//! Sources: which files a location names, and what is wrong with them.
#![allow(clippy::unwrap_used)]

mod live;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;

use super::{Source, SourceError};

fn write(path: &Path, column: &str, values: ArrayRef) {
    let batch = RecordBatch::try_from_iter([(column, values)]).unwrap();
    let mut writer = ArrowWriter::try_new(fs::File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn integers(path: &Path, values: &[i64]) {
    write(path, "x", Arc::new(Int64Array::from(values.to_vec())));
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
    assert_eq!(one.files, [dir.path().join("a.parquet")]);
    let both = [dir.path().join("a.parquet"), dir.path().join("b.parquet")];
    assert_eq!(source(dir.path()).snapshot().unwrap().files, both);
    assert_eq!(source(&dir.path().join("*.parquet")).snapshot().unwrap().files, both);
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
    assert!(matches!(source.snapshot(), Err(SourceError::Missing(_))));
}

#[test]
fn damaged_files_and_mixed_schemas_are_found_before_anything_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.parquet");
    integers(&file, &[1, 2, 3]);
    let whole = fs::read(&file).unwrap();
    for damaged in [&whole[..whole.len() - 5], &whole[..3], &[][..], &b"PAR1 and then not Parquet at all PAR1"[..]] {
        fs::write(&file, damaged).unwrap();
        assert!(matches!(source(&file).snapshot(), Err(SourceError::NotParquet(_))), "{} bytes", damaged.len());
    }
    integers(&file, &[1]);
    write(&dir.path().join("b.parquet"), "x", Arc::new(StringArray::from(vec!["1"])));
    assert!(matches!(source(dir.path()).snapshot(), Err(SourceError::SchemaDiffers { .. })));
    assert!(matches!(source(Path::new("s3://bucket/prefix/")).snapshot(), Err(SourceError::ObjectStore(_))));
}
