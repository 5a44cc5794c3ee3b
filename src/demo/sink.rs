//! Writing a file whole or not at all.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding};
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use super::error::DemoError;

/// Rows in a batch of the generator.
pub(super) const BATCH_ROWS: usize = 65_536;
/// Rows in a Parquet row group: a few groups in each file, so that a scan can be split over cores.
const ROW_GROUP_ROWS: usize = 2 * BATCH_ROWS;

/// A file under a temporary name in the target's own folder. Dropped before [`Partial::publish`], it is removed.
struct Partial<'a> {
    target: &'a Path,
    temporary: PathBuf,
    published: bool,
}

impl<'a> Partial<'a> {
    /// Creates the file, and the folder that it stands in.
    fn create(target: &'a Path) -> Result<(Self, File), DemoError> {
        let folder = target.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(DemoError::io(folder))?;
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        // A leading dot and an ending of its own keep a half-written file out of every glob over *.parquet or *.toml.
        let temporary = folder.join(format!(".{name}.{}.partial", std::process::id()));
        let file = File::create(&temporary).map_err(DemoError::io(&temporary))?;
        Ok((Self { target, temporary, published: false }, file))
    }

    /// Makes the contents durable and puts the file in its place.
    fn publish(mut self, file: &File) -> Result<(), DemoError> {
        file.sync_all().map_err(DemoError::io(&self.temporary))?;
        fs::rename(&self.temporary, self.target).map_err(DemoError::io(self.target))?;
        self.published = true;
        Ok(())
    }
}

impl Drop for Partial<'_> {
    fn drop(&mut self) {
        if !self.published {
            // There is nothing better to do with a failure here: the error that led to it is on its way already.
            drop(fs::remove_file(&self.temporary));
        }
    }
}

/// Writes `contents` to `target`, whole or not at all.
///
/// # Errors
/// When the file system refuses.
pub(super) fn write_file(target: &Path, contents: &[u8]) -> Result<(), DemoError> {
    let (partial, mut file) = Partial::create(target)?;
    file.write_all(contents).map_err(DemoError::io(target))?;
    partial.publish(&file)
}

/// Writes `batches` to the Parquet file `target`, whole or not at all, and gives its length in bytes. `written` is
/// told after each batch how many rows there are so far, and stops the writing with an error of its own.
///
/// # Errors
/// When a batch is an error, `written` gives one, or the file system or the Parquet writer refuses.
pub(super) fn write_parquet(
    target: &Path,
    schema: SchemaRef,
    batches: impl Iterator<Item = Result<RecordBatch, DemoError>>,
    mut written: impl FnMut(u64) -> Result<(), DemoError>,
) -> Result<u64, DemoError> {
    let (partial, file) = Partial::create(target)?;
    let properties = properties(&schema);
    let mut writer = ArrowWriter::try_new(file, schema, Some(properties)).map_err(DemoError::parquet(target))?;
    let mut rows = 0;
    for batch in batches {
        let batch = batch?;
        writer.write(&batch).map_err(DemoError::parquet(target))?;
        rows += batch.num_rows() as u64;
        written(rows)?;
    }
    let file = writer.into_inner().map_err(DemoError::parquet(target))?;
    let bytes = file.metadata().map_err(DemoError::io(target))?.len();
    partial.publish(&file)?;
    Ok(bytes)
}

/// Snappy, which is quick enough for a demo that starts while somebody watches. Columns that ascend (row numbers and
/// times) are stored as differences: a dictionary of values that never repeat is work for nothing.
fn properties(schema: &SchemaRef) -> WriterProperties {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS));
    for (place, field) in schema.fields().iter().enumerate() {
        if place == 0 || matches!(field.data_type(), DataType::Timestamp(..)) {
            let column = ColumnPath::from(field.name().as_str());
            properties = properties
                .set_column_dictionary_enabled(column.clone(), false)
                .set_column_encoding(column, Encoding::DELTA_BINARY_PACKED);
        }
    }
    properties.build()
}
