//! Exactly these files as a table: what is scanned is what was listed, and nothing is listed again.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{DataFusionError, Result, Statistics};
use datafusion::datasource::TableType;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;

use super::file::DataFile;

/// A table over files of one store and one schema.
#[derive(Debug)]
pub struct FilesTable {
    schema: SchemaRef,
    files: Vec<DataFile>,
    rows: Option<usize>,
}

impl FilesTable {
    /// `files`, each at the version in which it was listed, read as `schema`. They lie in one store.
    #[must_use]
    pub fn new(files: Vec<DataFile>, schema: SchemaRef) -> Self {
        Self { schema, files, rows: None }
    }

    /// The same, of which the planner may know that there are about `rows` rows. Of private rows it must not.
    #[must_use]
    pub fn of_about(self, rows: usize) -> Self {
        Self { rows: Some(rows), ..self }
    }
}

#[async_trait]
impl TableProvider for FilesTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(first) = self.files.first() else {
            return Ok(Arc::new(EmptyExec::new(datafusion::common::project_schema(&self.schema, projection)?)));
        };
        let store = first.store_url()?;
        let pinned = |file: &DataFile| {
            file.pinned()
                .map(PartitionedFile::new_from_meta)
                .map_err(|error| DataFusionError::ObjectStore(Box::new(error)))
        };
        let files = self.files.iter().map(pinned).collect::<Result<Vec<_>>>()?;
        let groups = FileGroup::new(files).split_files(state.config().target_partitions().max(1));
        let format = ParquetFormat::default();
        let source = format.file_source(TableSchema::from(Arc::clone(&self.schema)));
        let mut statistics = Statistics::new_unknown(&self.schema);
        // A planner that holds no side of a join, as one for a cluster, has no use for it.
        let is_asked = state.config_options().optimizer.hash_join_single_partition_threshold_rows > 0;
        if let Some(rows) = self.rows.filter(|_| is_asked) {
            // Nothing is answered from what is not exact.
            statistics.num_rows = Precision::Inexact(rows);
        }
        let config = FileScanConfigBuilder::new(store, source)
            .with_file_groups(groups)
            .with_statistics(statistics)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        format.create_physical_plan(state, config).await
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        // Row groups and pages may be passed over by them; the rows that are left are filtered again.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }
}
