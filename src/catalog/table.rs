//! A dataset as DataFusion sees it: a table that knows under which policy it is read.

use std::any::Any;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableSource, TableType};
use datafusion::physical_plan::ExecutionPlan;

use crate::policy::{DatasetName, DatasetPolicy};

use super::source::Snapshot;
use crate::stores::FilesTable;

/// Whose the rows are.
#[derive(Debug, Clone)]
pub enum Protection {
    /// Every row belongs to one privacy unit.
    Private(Arc<DatasetPolicy>),
    /// Anyone may read it.
    Public,
}

/// One dataset's files at one data version.
#[derive(Debug)]
pub struct DatasetTable {
    name: DatasetName,
    protection: Protection,
    version: [u8; 32],
    declared_sorted: bool,
    files: FilesTable,
}

impl DatasetTable {
    /// A table over exactly the files of `snapshot`.
    pub(super) fn new(name: DatasetName, protection: Protection, snapshot: &Snapshot) -> Self {
        let declared_sorted = match &protection {
            Protection::Private(policy) => {
                policy.privacy.sorted_by_unit || snapshot.sorted_by.as_ref() == Some(&policy.privacy.unit)
            }
            Protection::Public => false,
        };
        let files = FilesTable::new(snapshot.files.clone(), Arc::clone(&snapshot.schema));
        let files = match &protection {
            Protection::Private(_) => files,
            Protection::Public => files.of_about(snapshot.rows),
        };
        Self { name, protection, version: snapshot.version, declared_sorted, files }
    }

    /// `owner.name`.
    #[must_use]
    pub fn name(&self) -> &DatasetName {
        &self.name
    }

    /// Whose the rows are.
    #[must_use]
    pub fn protection(&self) -> &Protection {
        &self.protection
    }

    /// The data version.
    #[must_use]
    pub fn version(&self) -> &[u8; 32] {
        &self.version
    }

    /// Whether its owner declares that its rows are sorted by the privacy unit, ascending: by `sorted_by_unit` of the policy, or
    /// by the `sorting_columns` of every row group. A hint and no more: whoever reads by it must verify the order on the way,
    /// since neither the policy nor a footer is held against the rows.
    #[must_use]
    pub const fn is_declared_sorted(&self) -> bool {
        self.declared_sorted
    }

    /// The dataset behind a table of a plan; `None` for anything that the catalog did not make.
    pub fn of(source: &Arc<dyn TableSource>) -> Option<Arc<Self>> {
        let provider: Arc<dyn Any + Send + Sync> = source_as_provider(source).ok()?;
        provider.downcast::<Self>().ok()
    }
}

#[async_trait]
impl TableProvider for DatasetTable {
    fn schema(&self) -> SchemaRef {
        self.files.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.files.scan(state, projection, filters, limit).await
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        self.files.supports_filters_pushdown(filters)
    }
}
