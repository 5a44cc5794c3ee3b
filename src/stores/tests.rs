//! Pinned files: what is read is what was listed, and nothing else is done.
#![allow(clippy::unwrap_used, clippy::single_range_in_vec_init)]

use std::fs;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arrow::array::{ArrayRef, Int64Array};
use arrow::record_batch::RecordBatch;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutPayload};
use parquet::arrow::ArrowWriter;

use super::file::{pin, unpin};
use super::{DataFile, FilesTable, StoreError, StoreSettings, Stores};

fn write(path: &std::path::Path, values: &[i64]) {
    let column: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
    let batch = RecordBatch::try_from_iter([("x", column)]).unwrap();
    let mut writer = ArrowWriter::try_new(fs::File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// The error in one line, without what is beneath it.
fn failed<T: std::fmt::Debug>(result: object_store::Result<T>) -> Error {
    result.unwrap_err()
}

#[test]
fn a_pinned_path_gives_back_the_key_and_the_tag() {
    for (key, tag) in [("a/b.parquet", "\"8a3f/§-2\""), ("x", ""), ("d e/f%20g", "W/\"1\"")] {
        let key = Path::from(key);
        assert_eq!(unpin(&pin(&key, tag)), Some((key, tag.to_owned())));
    }
    for path in ["a/b.parquet", "a/pinned-8", "a/pinned-zz", "a/pinned-é0", "pinned-61/b", "a/pinned-ff"] {
        assert_eq!(unpin(&Path::from(path)), None, "{path}");
    }
}

fn local(stores: &Stores) -> Arc<dyn ObjectStore> {
    stores.registry().get_store(&url::Url::parse("file:///").unwrap()).unwrap()
}

#[tokio::test]
async fn only_the_version_that_was_listed_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a b#c.parquet");
    fs::write(&path, b"0123456789").unwrap();
    let file = DataFile::local(path.clone()).unwrap();
    let pinned = file.pinned().unwrap().location;
    let store = local(&Stores::default());
    assert_eq!(store.get(&pinned).await.unwrap().bytes().await.unwrap(), "0123456789");
    assert_eq!(store.get_range(&pinned, 2..5).await.unwrap(), "234");
    assert_eq!(store.get_ranges(&pinned, &[0..1, 8..10]).await.unwrap(), ["0", "89"]);
    assert_eq!(store.head(&pinned).await.unwrap().size, 10);
    assert!(matches!(failed(store.get_ranges(&pinned, &[8..11]).await), Error::Generic { .. }));

    // Written to in place, with its size and its time as they were before; and with another time.
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let again = dir.path().join("again");
    fs::write(&again, b"9876543210").unwrap();
    let set = |path: &std::path::Path, to: SystemTime| {
        fs::File::options().write(true).open(path).unwrap().set_modified(to).unwrap();
    };
    set(&again, modified);
    fs::rename(&again, &path).unwrap();
    assert!(matches!(failed(store.get_range(&pinned, 2..5).await), Error::Precondition { .. }));
    assert!(matches!(failed(store.get_ranges(&pinned, &[2..5]).await), Error::Precondition { .. }));
    assert!(matches!(failed(store.head(&pinned).await), Error::Precondition { .. }));
    let file = DataFile::local(path.clone()).unwrap();
    set(&path, modified + Duration::from_secs(1));
    assert!(matches!(failed(store.get(&file.pinned().unwrap().location).await), Error::Precondition { .. }));
    fs::remove_file(&path).unwrap();
    assert!(matches!(failed(store.get_ranges(&pinned, &[2..5]).await), Error::NotFound { .. }));
}

#[tokio::test]
async fn an_engines_store_does_nothing_but_read_what_is_pinned() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    fs::write(&path, b"0123456789").unwrap();
    let store = local(&Stores::default());
    let plain = Path::from_absolute_path(&path).unwrap();
    let to = Path::from_absolute_path(dir.path()).unwrap().join("b");
    let refused = |error: Error| assert!(matches!(error, Error::NotImplemented { .. }), "{error}");
    refused(failed(store.get(&plain).await));
    refused(failed(store.get_ranges(&plain, &[0..1]).await));
    refused(failed(store.head(&plain).await));
    refused(failed(store.put(&to, PutPayload::from_static(b"x")).await));
    refused(store.put_multipart(&to).await.err().unwrap());
    refused(failed(store.copy(&plain, &to).await));
    refused(failed(store.rename(&plain, &to).await));
    refused(failed(store.delete(&plain).await));
    refused(failed(store.list_with_delimiter(None).await));
    assert_eq!(fs::read(&path).unwrap(), b"0123456789");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    // Nothing else is behind an address, whatever is registered.
    let registry = Stores::default().registry();
    let memory = url::Url::parse("memory:///").unwrap();
    registry.register_store(&memory, Arc::new(object_store::memory::InMemory::new()));
    for address in ["memory:///", "http://localhost/", "file://host/"] {
        assert!(registry.get_store(&url::Url::parse(address).unwrap()).is_err(), "{address}");
    }
}

#[tokio::test]
async fn a_table_of_files_that_changed_is_an_error_and_never_other_rows() {
    let dir = tempfile::tempdir().unwrap();
    let paths = [dir.path().join("a.parquet"), dir.path().join("b.parquet")];
    write(&paths[0], &[1, 2]);
    write(&paths[1], &[30]);
    let stores = Stores::default();
    let files = stores.list(&dir.path().display().to_string()).unwrap();
    let schema = Arc::clone(stores.footers(&files).unwrap()[0].metadata.schema());
    let runtime = RuntimeEnvBuilder::new().with_object_store_registry(stores.registry()).build_arc().unwrap();
    let context = SessionContext::new_with_config_rt(SessionConfig::new().with_target_partitions(2), runtime);
    context.register_table("t", Arc::new(FilesTable::new(files.clone(), schema))).unwrap();
    let sum = async || {
        let rows = context.sql("SELECT sum(x) FROM t").await.unwrap().collect().await?;
        Ok::<_, datafusion::error::DataFusionError>(arrow::util::display::array_value_to_string(rows[0].column(0), 0)?)
    };
    assert_eq!(sum().await.unwrap(), "33");
    write(&paths[1], &[31]);
    assert!(sum().await.is_err());
    assert!(matches!(stores.footers(&files), Err(StoreError::Changed(_))));
}

#[test]
fn a_bucket_is_reached_as_its_section_says() {
    let section = |text: &str| toml::from_str::<StoreSettings>(text).unwrap();
    let missing = "credentials_file = \"/nowhere/keys\"";
    let stores = Stores::new([("north".to_owned(), section(missing))].into());
    let error = stores.list("s3://north/x/").unwrap_err().to_string();
    assert_eq!(error, "the credentials file /nowhere/keys: cannot be read");
    let stores = Stores::new([("any".to_owned(), section(&format!("buckets = [\"a\", \"b\"]\n{missing}")))].into());
    assert!(matches!(stores.list("s3://b/x/"), Err(StoreError::Credentials { .. })));
    // Of an address that may hold a secret, nothing is repeated.
    let error = stores.list("s3://key:secret@b/x/").unwrap_err().to_string();
    assert!(!error.contains("secret") && !error.contains("key:"), "{error}");
}
