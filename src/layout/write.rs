//! Sorted rows into files: row groups of whole units, statistics, and what the footer says of the order.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::expressions::Column;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::{SessionContext, ident};
use futures::TryStreamExt;
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter};
use parquet::basic::{Compression, Encoding, Type as PhysicalType, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;

use super::error::LayoutError;
use super::groups::{Group, Groups};
use super::input::{Input, in_order};
use super::place::PlaceExec;
use super::survey::with_dictionaries;
use super::{Codec, Form, Progress, Stage};

/// A page stays compressed where that leaves at most so much of it: else it takes longer to read than it saves.
const MOST_OF_PAGE: f64 = 0.6;

/// The largest dictionary of numbers, in bytes. A larger one holds most values once, and its codes come on top.
const DICTIONARY_OF_NUMBERS: usize = 128 << 10;

/// How the writer makes what it writes.
#[derive(Debug)]
pub(super) struct Shape {
    /// The schema of the files: that of the input, with dictionaries.
    pub(super) schema: SchemaRef,
    properties: WriterProperties,
}

impl Shape {
    /// Of `input`, of which the columns that `few_values` names are written with a dictionary.
    pub(super) fn new(input: &Input, few_values: &[bool], codec: Codec) -> Result<Self, LayoutError> {
        let fields = input.schema.fields().iter().zip(few_values).map(|(field, few)| {
            let dictionary = || DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
            let data_type = if *few { dictionary() } else { field.data_type().clone() };
            Field::new(field.name(), data_type, field.is_nullable())
        });
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let leaves = ArrowSchemaConverter::new().convert(&schema)?;
        let sorting = |column: usize| {
            let name = schema.field(column).name();
            let leaf = leaves.columns().iter().position(|leaf| leaf.path().parts() == [name.clone()]);
            // A column of parts, such as a list, has no order that a footer can say.
            leaf.and_then(|leaf| i32::try_from(leaf).ok()).map(|column_idx| SortingColumn {
                column_idx,
                descending: false,
                nulls_first: false,
            })
        };
        let sorted = [Some(input.unit), input.then_by].into_iter().flatten().map_while(sorting).collect();
        let unit = ColumnPath::new(vec![input.unit_name().to_owned()]);
        let numbers = leaves.columns().iter().filter(|leaf| {
            !matches!(leaf.physical_type(), PhysicalType::BYTE_ARRAY | PhysicalType::FIXED_LEN_BYTE_ARRAY)
        });
        let properties = WriterProperties::builder()
            // Of the second version are pages that may stay as they are where compressing them saves little.
            .set_writer_version(WriterVersion::PARQUET_2_0)
            .set_encoding(Encoding::PLAIN)
            .set_data_page_v2_compression_ratio_threshold(MOST_OF_PAGE)
            .set_compression(match codec {
                Codec::Zstd => Compression::ZSTD(ZstdLevel::try_new(1)?),
                Codec::Snappy => Compression::SNAPPY,
                Codec::None => Compression::UNCOMPRESSED,
            })
            // Groups end where units do.
            .set_max_row_group_row_count(None)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_column_statistics_enabled(unit, EnabledStatistics::Page)
            .set_sorting_columns(Some(sorted));
        let properties = numbers.fold(properties, |properties, leaf| {
            properties.set_column_dictionary_page_size_limit(leaf.path().clone(), DICTIONARY_OF_NUMBERS)
        });
        Ok(Self { schema, properties: properties.build() })
    }
}

/// Sorts `input` and writes it: into the file `to`, or into files of the folder `to`. Gives the files in the order of their
/// units, each written through to the disk.
pub(super) async fn write(
    context: &SessionContext,
    input: &Input,
    shape: &Shape,
    form: &Form,
    to: &Target,
    progress: &Progress,
) -> Result<Vec<PathBuf>, LayoutError> {
    let mut rows = input.rows_of(&in_order(context))?;
    if form.drop_rows_without_unit {
        rows = rows.filter(ident(input.unit_name()).is_not_null())?;
    }
    let task = Arc::new(rows.task_ctx());
    let mut sorted = execute_stream(sorted(rows.create_physical_plan().await?, input)?, task)?;
    let data_type = input.schema.field(input.unit).data_type();
    let mut groups = Groups::new(form.row_group_rows, input.unit, data_type)?;
    let mut files = Files { to, shape, most_bytes: form.file_bytes, written: Vec::new(), open: None };
    let (mut done, all) = (0, input.rows());
    let columns: Vec<usize> = (0..input.schema.fields().len()).collect();
    while let Some(batch) = sorted.try_next().await? {
        done += batch.num_rows() as u64;
        let batch = batch.project(&columns)?;
        for group in groups.push(batch)? {
            files.take(&group)?;
        }
        progress(Stage::Writing, done, all);
    }
    if let Some(group) = groups.finish() {
        files.take(&group)?;
    }
    files.finish()
}

/// Sorts the rows of `input`, each with its place at the end: by unit, and where two rows do not differ in what is sorted by, in the
/// order in which they came.
fn sorted(rows: Arc<dyn ExecutionPlan>, input: &Input) -> Result<Arc<dyn ExecutionPlan>, LayoutError> {
    let rows: Arc<dyn ExecutionPlan> = Arc::new(CoalescePartitionsExec::new(Arc::new(PlaceExec::new(rows))));
    let schema = rows.schema();
    let place = schema.fields().len() - 1;
    let by = [Some(input.unit), input.then_by, Some(place)].into_iter().flatten().map(|at| {
        let column = Arc::new(Column::new(schema.field(at).name(), at));
        PhysicalSortExpr::new(column, SortOptions { descending: false, nulls_first: false })
    });
    let Some(by) = LexOrdering::new(by) else {
        return Err(LayoutError::Unsorted);
    };
    Ok(Arc::new(SortExec::new(by, rows)))
}

/// Where files go.
#[derive(Debug)]
pub(super) enum Target {
    /// One file.
    File(PathBuf),
    /// As many as it takes, in a folder.
    Folder(PathBuf),
}

struct Files<'t> {
    to: &'t Target,
    shape: &'t Shape,
    most_bytes: u64,
    written: Vec<PathBuf>,
    open: Option<ArrowWriter<File>>,
}

impl Files<'_> {
    fn take(&mut self, group: &Group) -> Result<(), LayoutError> {
        // A file ends where a unit does, so that the files' units are disjoint.
        let is_full = self.open.as_ref().is_some_and(|open| open.bytes_written() as u64 >= self.most_bytes);
        if is_full && group.begins_unit && matches!(self.to, Target::Folder(_)) {
            self.close()?;
        }
        let writer = match &mut self.open {
            Some(writer) => writer,
            None => {
                let opened = self.create()?;
                self.open.insert(opened)
            }
        };
        for batch in &group.batches {
            writer.write(&with_dictionaries(batch, &self.shape.schema)?)?;
        }
        writer.flush()?;
        Ok(())
    }

    fn create(&mut self) -> Result<ArrowWriter<File>, LayoutError> {
        let path = match self.to {
            Target::File(path) => path.clone(),
            Target::Folder(folder) => folder.join(format!("part-{:05}.parquet", self.written.len())),
        };
        let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(LayoutError::io(&path))?;
        self.written.push(path);
        Ok(ArrowWriter::try_new(file, Arc::clone(&self.shape.schema), Some(self.shape.properties.clone()))?)
    }

    fn close(&mut self) -> Result<(), LayoutError> {
        let Some(writer) = self.open.take() else { return Ok(()) };
        let file = writer.into_inner()?;
        let path = self.written.last().map_or(Path::new(""), PathBuf::as_path);
        file.sync_all().map_err(LayoutError::io(path))
    }

    fn finish(mut self) -> Result<Vec<PathBuf>, LayoutError> {
        // Data without a row has a file all the same, which has its columns.
        if self.written.is_empty() {
            self.open = Some(self.create()?);
        }
        self.close()?;
        if self.written.is_empty() {
            Err(ParquetError::General("no file was written".to_owned()).into())
        } else {
            Ok(self.written)
        }
    }
}
