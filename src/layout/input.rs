//! What is to be rewritten: the files, the schema that they share, and the columns to sort by.

use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};

use super::checksum::incomparable;
use super::error::LayoutError;
use crate::stores::{DataFile, FilesTable, Footer, Stores, joined};

/// Files of one schema at one moment. What is read of them later is that moment's, or an error.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) files: Vec<DataFile>,
    pub(super) footers: Vec<Footer>,
    /// Without metadata, which is free text of whoever wrote the files.
    pub(super) schema: SchemaRef,
    /// The unit's column.
    pub(super) unit: usize,
    /// The column by which a unit's rows are sorted.
    pub(super) then_by: Option<usize>,
}

impl Input {
    /// Looks at `files`. Blocking I/O: footers are read.
    pub(super) fn open(
        stores: &Stores,
        files: Vec<DataFile>,
        unit: &str,
        then_by: Option<&str>,
    ) -> Result<Self, LayoutError> {
        let footers = stores.footers(&files)?;
        let plain = |footer: &Footer| {
            let fields = footer.metadata.schema().fields().iter();
            Schema::new(
                fields
                    .map(|field| field.as_ref().clone().with_metadata(std::collections::HashMap::new()))
                    .collect::<Vec<Field>>(),
            )
        };
        let mut schema: Option<SchemaRef> = None;
        for (file, footer) in files.iter().zip(&footers) {
            let found = Arc::new(plain(footer));
            schema = Some(match schema {
                None => found,
                Some(so_far) => joined(&so_far, &found).ok_or_else(|| {
                    let first = files.first().map(DataFile::name).unwrap_or_default();
                    LayoutError::SchemaDiffers { path: file.name(), first }
                })?,
            });
        }
        let first = schema.unwrap_or_else(|| Arc::new(Schema::empty()));
        let column = |name: &str| first.index_of(name).map_err(|_| LayoutError::NoColumn(name.to_owned()));
        let (unit, then_by) = (column(unit)?, then_by.map(column).transpose()?);
        if let Some(field) = incomparable(&first) {
            let (column, data_type) = (field.name().clone(), field.data_type().clone());
            return Err(LayoutError::Incomparable { column, data_type });
        }
        Ok(Self { files, footers, schema: first, unit, then_by })
    }

    /// The rows that the footers promise.
    pub(super) fn rows(&self) -> u64 {
        let rows = self.footers.iter().map(|footer| footer.metadata.metadata().file_metadata().num_rows());
        rows.map(|rows| u64::try_from(rows).unwrap_or(0)).sum()
    }

    /// The bytes of the files.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(DataFile::size).sum()
    }

    /// The name of the column that the unit is in.
    pub(super) fn unit_name(&self) -> &str {
        self.schema.field(self.unit).name()
    }

    /// Its rows.
    pub(super) fn rows_of(&self, context: &SessionContext) -> Result<DataFrame, LayoutError> {
        let table = FilesTable::new(self.files.clone(), Arc::clone(&self.schema));
        Ok(context.read_table(Arc::new(table))?)
    }
}

/// The same, which reads rows in the order in which they lie: in one partition, since several share out their files as they go.
pub(super) fn in_order(context: &SessionContext) -> SessionContext {
    let mut state = context.state();
    state.config_mut().options_mut().execution.target_partitions = 1;
    SessionContext::new_with_state(state)
}

/// DataFusion within `memory_bytes`, which spills into `spill`.
pub(super) fn context(stores: &Stores, memory_bytes: usize, spill: &Path) -> Result<SessionContext, LayoutError> {
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(FairSpillPool::new(memory_bytes)))
        .with_object_store_registry(stores.registry())
        .with_disk_manager_builder(
            DiskManagerBuilder::default().with_mode(DiskManagerMode::Directories(vec![spill.to_owned()])),
        )
        .build_arc()?;
    // A sort keeps back memory for the merge of what it has spilled; a small limit cannot spare the usual 10 MiB.
    let reserve = (memory_bytes / 16).min(10 << 20);
    let config = SessionConfig::new()
        .with_collect_statistics(false)
        .with_sort_spill_reservation_bytes(reserve)
        // One sort has all the memory, and spills; a merge above several could not, and would fail where they leave it none.
        .set_bool("datafusion.optimizer.repartition_sorts", false);
    let state =
        SessionStateBuilder::new().with_config(config).with_runtime_env(runtime).with_default_features().build();
    Ok(SessionContext::new_with_state(state))
}
