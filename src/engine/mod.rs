//! The engine: DataFusion, configured so that it does no more than a plan says, and the two runs of a query.
//!
//! ```text
//! ReleaseNode ── optimise ── verify ── plan ── verify ── execute ──▶ drawn batch
//! post plan   ── verify ── optimise ── plan ── execute ──▶ rows of the answer
//! ```

use std::path::PathBuf;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use datafusion::common::DataFusionError;
use datafusion::common::runtime::SpawnedTask;
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::SessionState;
use datafusion::execution::{SessionStateBuilder, disk_manager::DiskManagerBuilder, disk_manager::DiskManagerMode};
use datafusion::logical_expr::{Extension, LogicalPlan};
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use datafusion::prelude::SessionConfig;
use thiserror::Error;

use crate::catalog::SQL_CATALOG;
use crate::release::{ReleaseNode, ReleasePlanner, verify};
use crate::stores::Stores;

/// What goes wrong in a run. The texts may quote data: they are for the operator's log, never for a caller.
#[derive(Debug, Error)]
pub enum EngineError {
    /// DataFusion failed.
    #[error(transparent)]
    DataFusion(#[from] DataFusionError),
    /// The verifier could not prove a plan.
    #[error(transparent)]
    Unproven(#[from] verify::Unproven),
    /// The run made something else than one batch.
    #[error("a release made {0} batches")]
    NotOneBatch(usize),
}

impl EngineError {
    /// Whether it came before any private row was read, so that it cannot depend on one.
    #[must_use]
    pub const fn is_before_data(&self) -> bool {
        matches!(self, Self::Unproven(_))
    }
}

/// How the engine is bounded.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Bytes that all queries together may hold.
    pub memory_bytes: usize,
    /// Partitions of a plan; the number of cores when absent.
    pub target_partitions: Option<usize>,
    /// Where to spill; a temporary folder of the system when absent.
    pub spill_dir: Option<PathBuf>,
    /// How files and objects are reached. Nothing but files that were listed and versioned can be read.
    pub stores: Stores,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self { memory_bytes: 2 << 30, target_partitions: None, spill_dir: None, stores: Stores::default() }
    }
}

/// DataFusion with our operators.
#[derive(Debug)]
pub struct Engine {
    state: SessionState,
}

/// Functions that no query has: they can exhaust memory or end the process on one row, released or not.
const REMOVED_FUNCTIONS: [&str; 18] = [
    "lpad",
    "rpad",
    "repeat",
    "replace",
    "concat",
    "concat_ws",
    "regexp_replace",
    "overlay",
    "array_repeat",
    "array_resize",
    "array_concat",
    "array_to_string",
    "make_array",
    "range",
    "generate_series",
    "version",
    "arrow_cast",
    "to_char",
];

impl Engine {
    /// An engine with these bounds.
    ///
    /// # Errors
    /// When the spill folder cannot be used.
    pub fn new(config: &EngineConfig) -> Result<Self, EngineError> {
        let mut session = SessionConfig::new()
            .with_default_catalog_and_schema(SQL_CATALOG, "public")
            .with_create_default_catalog_and_schema(false)
            .with_information_schema(false)
            // So that a refusal can say where its clause stands.
            .set_bool("datafusion.sql_parser.collect_spans", true)
            // A footer's figures are its owner's word, and exact: nothing is answered from them.
            .with_collect_statistics(false)
            // A join must do the same work whatever its other side holds.
            .set_bool("datafusion.optimizer.enable_dynamic_filter_pushdown", false);
        if let Some(partitions) = config.target_partitions {
            session = session.with_target_partitions(partitions);
        }
        let disk = match &config.spill_dir {
            Some(dir) => DiskManagerMode::Directories(vec![dir.clone()]),
            None => DiskManagerMode::OsTmpDirectory,
        };
        let top = std::num::NonZeroUsize::MIN;
        let pool = Arc::new(TrackConsumersPool::new(FairSpillPool::new(config.memory_bytes), top));
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(pool)
            .with_object_store_registry(config.stores.registry())
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(disk))
            .build_arc()?;
        let mut builder =
            SessionStateBuilder::new().with_config(session).with_runtime_env(runtime).with_default_features();
        if let Some(functions) = builder.scalar_functions().as_mut() {
            functions.retain(|function| !REMOVED_FUNCTIONS.contains(&function.name()));
        }
        *builder.table_functions() = Some(std::collections::HashMap::new());
        Ok(Self { state: builder.build() })
    }

    /// The state that SQL is planned with.
    #[must_use]
    pub const fn state(&self) -> &SessionState {
        &self.state
    }

    /// The physical plan of a release, proven on the way, with nothing read yet.
    ///
    /// # Errors
    /// When a plan cannot be made or proven.
    pub async fn plan_release(
        &self,
        release: ReleaseNode,
        known: Vec<Vec<RecordBatch>>,
    ) -> Result<Arc<dyn ExecutionPlan>, EngineError> {
        let plan = LogicalPlan::Extension(Extension { node: Arc::new(release) });
        let plan = self.state.optimize(&plan)?;
        verify::release_plan(&plan)?;
        let plan = self.physical(&plan, ReleasePlanner::new(Vec::new(), known)).await?;
        verify::release_execution(&plan)?;
        Ok(plan)
    }

    /// Runs a planned release: reads the data, draws the noise, once.
    ///
    /// # Errors
    /// When the data cannot be read, or memory runs out.
    pub async fn run_release(&self, plan: Arc<dyn ExecutionPlan>) -> Result<RecordBatch, EngineError> {
        let mut batches = self.collect(plan).await?;
        match (batches.pop(), batches.len()) {
            (Some(batch), 0) => Ok(batch),
            (_, more) => Err(EngineError::NotOneBatch(more + 1)),
        }
    }

    /// Computes the answer from the drawn releases.
    ///
    /// # Errors
    /// When the plan reads anything but released values and public tables, or cannot be run.
    pub async fn run_post(
        &self,
        plan: &LogicalPlan,
        drawn: Vec<RecordBatch>,
        known: Vec<Vec<RecordBatch>>,
    ) -> Result<Vec<RecordBatch>, EngineError> {
        verify::post_plan(plan)?;
        let plan = self.state.optimize(plan)?;
        verify::post_plan(&plan)?;
        let plan = self.physical(&plan, ReleasePlanner::new(drawn, known)).await?;
        self.collect(plan).await
    }

    /// Plans what is computed from the releases, with nothing drawn: whatever is wrong with it shows before anything is paid.
    ///
    /// # Errors
    /// As [`Self::run_post`], but for what fails on values.
    pub async fn plan_post(
        &self,
        plan: &LogicalPlan,
        empty: Vec<RecordBatch>,
        known: Vec<Vec<RecordBatch>>,
    ) -> Result<(), EngineError> {
        verify::post_plan(plan)?;
        let plan = self.state.optimize(plan)?;
        verify::post_plan(&plan)?;
        self.physical(&plan, ReleasePlanner::new(empty, known)).await?;
        Ok(())
    }

    async fn physical(
        &self,
        plan: &LogicalPlan,
        planner: ReleasePlanner,
    ) -> Result<Arc<dyn ExecutionPlan>, EngineError> {
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(planner)]);
        Ok(planner.create_physical_plan(plan, &self.state).await?)
    }

    /// Runs on a task of its own, which is aborted when the caller goes away.
    async fn collect(&self, plan: Arc<dyn ExecutionPlan>) -> Result<Vec<RecordBatch>, EngineError> {
        let context = self.state.task_ctx();
        let run = SpawnedTask::spawn(collect(plan, context));
        Ok(run.join().await.map_err(|error| DataFusionError::External(Box::new(error)))??)
    }
}
