//! The engine: DataFusion, configured so that it does no more than a plan says, and the two runs of a query.
//!
//! ```text
//! ReleaseNode ── optimise ── verify ── plan ── verify ── execute ──▶ drawn batch
//! post plan   ── verify ── optimise ── plan ── execute ──▶ rows of the answer
//! ```
//!
//! What is executed runs on threads of its own, within a share of the memory.
//!
//! With a cluster, what is below a release's noise runs there ([`crate::cluster`]): the same plan, proven as it is here,
//! and only then split. What is above the releases runs here always.

mod memory;
#[cfg(test)]
mod tests;
mod text_lists;
mod threads;

use std::path::PathBuf;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use datafusion::common::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::SessionState;
use datafusion::execution::{SessionStateBuilder, disk_manager::DiskManagerBuilder, disk_manager::DiskManagerMode};
use datafusion::logical_expr::{Extension, LogicalPlan};
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use datafusion::prelude::SessionConfig;
use thiserror::Error;

use crate::catalog::SQL_CATALOG;
use crate::cluster::{Cluster, ClusterError, ClusterOptions};
use crate::release::{ReleaseNode, ReleasePlanner, verify};
use crate::stores::Stores;

use memory::SharedMemory;
use text_lists::TextLists;
use threads::Threads;

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
    /// The cluster failed.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
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
    /// How many releases are drawn at once: of several, each has a share of the memory.
    pub concurrent_queries: usize,
    /// The threads that they run on; the number of cores when absent.
    pub threads: Option<usize>,
    /// Partitions of a plan, two at least; the number of cores when absent.
    pub target_partitions: Option<usize>,
    /// Where to spill; a temporary folder of the system when absent.
    pub spill_dir: Option<PathBuf>,
    /// The cluster that reads and bounds the rows of releases; this process does when absent.
    pub cluster: Option<ClusterOptions>,
    /// How files and objects are reached. Nothing but files that were listed and versioned can be read.
    pub stores: Stores,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            memory_bytes: 2 << 30,
            concurrent_queries: 1,
            threads: None,
            target_partitions: None,
            spill_dir: None,
            cluster: None,
            stores: Stores::default(),
        }
    }
}

/// What is computed from releases, optimised and proven to read nothing else than released values and public tables.
#[derive(Debug, Clone)]
pub struct PostPlan(LogicalPlan);

/// DataFusion with our operators.
#[derive(Debug)]
pub struct Engine {
    state: SessionState,
    memory: Arc<SharedMemory>,
    /// In which runs what is computed beside releases.
    beside: Arc<TaskContext>,
    threads: Threads,
    cluster: Option<Arc<Cluster>>,
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

/// About how many bytes a row of a public table takes where it is held for a join.
const HELD_ROW: u64 = 128;

impl Engine {
    /// An engine with these bounds.
    ///
    /// # Errors
    /// When the spill folder cannot be used, or threads cannot be had.
    pub fn new(config: &EngineConfig) -> Result<Self, EngineError> {
        let held = config.memory_bytes as u64 / (4 * (config.concurrent_queries as u64 + 1));
        let mut session = SessionConfig::new()
            .with_default_catalog_and_schema(SQL_CATALOG, "public")
            .with_create_default_catalog_and_schema(false)
            .with_information_schema(false)
            // So that a refusal can say where its clause stands.
            .set_bool("datafusion.sql_parser.collect_spans", true)
            // A footer's figures are its owner's word, and exact: nothing is answered from them.
            .with_collect_statistics(false)
            // A join must do the same work whatever its other side holds.
            .set_bool("datafusion.optimizer.enable_dynamic_filter_pushdown", false)
            // How many rows there are is known of public tables and released relations alone. Where they fit well into the memory of
            // one query they are the side of a join that is held, and private rows pass by.
            .set_u64("datafusion.optimizer.hash_join_single_partition_threshold", held)
            .set_u64("datafusion.optimizer.hash_join_single_partition_threshold_rows", held / HELD_ROW);
        // With one partition the left side of a join is held, whatever is known of it.
        let partitions = config.target_partitions.unwrap_or_else(|| session.target_partitions());
        session = session.with_target_partitions(partitions.max(2));
        if let Some(options) = &config.cluster {
            session = Cluster::session(options, session);
        }
        let cluster = config.cluster.clone().map(|options| Arc::new(Cluster::new(options, &session)));
        let disk = match &config.spill_dir {
            Some(dir) => DiskManagerMode::Directories(vec![dir.clone()]),
            None => DiskManagerMode::OsTmpDirectory,
        };
        let memory = SharedMemory::new(config.memory_bytes, config.concurrent_queries);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(memory.beside())
            .with_object_store_registry(config.stores.registry())
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(disk))
            .build_arc()?;
        let mut builder =
            SessionStateBuilder::new().with_config(session).with_runtime_env(runtime).with_default_features();
        if let Some(functions) = builder.scalar_functions().as_mut() {
            functions.retain(|function| !REMOVED_FUNCTIONS.contains(&function.name()));
        }
        *builder.table_functions() = Some(std::collections::HashMap::new());
        let mut rules = PhysicalOptimizer::new().rules;
        // An executor has no such expression.
        if cluster.is_none() {
            rules.push(Arc::new(TextLists));
        }
        let threads = Threads::new(config.threads).map_err(DataFusionError::IoError)?;
        let state = builder.with_physical_optimizer_rules(rules).build();
        let beside = state.task_ctx();
        Ok(Self { state, memory, beside, threads, cluster })
    }

    /// The state that SQL is planned with.
    #[must_use]
    pub const fn state(&self) -> &SessionState {
        &self.state
    }

    /// Whether somebody is there to read and bound rows. To be asked before anything is charged: afterwards the cluster may
    /// fail for what it has read.
    ///
    /// # Errors
    /// When there is a cluster, and it has nobody.
    pub async fn check_workers(&self) -> Result<(), EngineError> {
        match &self.cluster {
            None => Ok(()),
            Some(cluster) => Ok(cluster.check_workers().await?),
        }
    }

    /// The physical plan of a release, proven on the way, with nothing read yet.
    ///
    /// # Errors
    /// When a plan cannot be made or proven, or holds what a cluster cannot be sent.
    pub async fn plan_release(
        &self,
        release: ReleaseNode,
        known: Vec<Vec<RecordBatch>>,
    ) -> Result<Arc<dyn ExecutionPlan>, EngineError> {
        let selection_key = release.selection_key();
        let plan = LogicalPlan::Extension(Extension { node: Arc::new(release) });
        let plan = self.state.optimize(&plan)?;
        let alone = verify::release_plan(&plan)?;
        let planner = ReleasePlanner::new(Vec::new(), known).with_units_alone(alone);
        let plan = self.physical(&plan, planner).await?;
        verify::release_execution(&plan, alone)?;
        match &self.cluster {
            None => Ok(plan),
            Some(cluster) => Ok(cluster.plan(plan, selection_key)?),
        }
    }

    /// Runs a planned release: reads the data, draws the noise, once.
    ///
    /// # Errors
    /// When the data cannot be read, or memory runs out.
    pub async fn run_release(&self, plan: Arc<dyn ExecutionPlan>) -> Result<RecordBatch, EngineError> {
        let runtime = RuntimeEnvBuilder::from_runtime_env(self.state.runtime_env());
        let runtime = runtime.with_memory_pool(self.memory.query()).build_arc()?;
        let context = TaskContext::from(&self.state).with_runtime(runtime);
        let mut batches = self.collect(plan, Arc::new(context)).await?;
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
        self.run_prepared(&self.prepare_post(plan)?, drawn, known).await
    }

    /// Optimises and proves what is computed from the releases.
    ///
    /// # Errors
    /// When it reads anything but released values and public tables, or cannot be optimised.
    pub fn prepare_post(&self, plan: &LogicalPlan) -> Result<PostPlan, EngineError> {
        verify::post_plan(plan)?;
        let plan = self.state.optimize(plan)?;
        verify::post_plan(&plan)?;
        Ok(PostPlan(plan))
    }

    /// Plans it with nothing drawn: whatever is wrong with it shows before anything is paid.
    ///
    /// # Errors
    /// As [`Self::run_post`], but for what fails on values.
    pub async fn check_post(
        &self,
        plan: &PostPlan,
        empty: Vec<RecordBatch>,
        known: Vec<Vec<RecordBatch>>,
    ) -> Result<(), EngineError> {
        self.physical(&plan.0, ReleasePlanner::new(empty, known)).await.map(|_| ())
    }

    /// Computes what was prepared.
    ///
    /// # Errors
    /// When it cannot be planned or run.
    pub async fn run_prepared(
        &self,
        plan: &PostPlan,
        drawn: Vec<RecordBatch>,
        known: Vec<Vec<RecordBatch>>,
    ) -> Result<Vec<RecordBatch>, EngineError> {
        let plan = self.physical(&plan.0, ReleasePlanner::new(drawn, known)).await?;
        self.collect(plan, Arc::clone(&self.beside)).await
    }

    async fn physical(
        &self,
        plan: &LogicalPlan,
        planner: ReleasePlanner,
    ) -> Result<Arc<dyn ExecutionPlan>, EngineError> {
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(planner)]);
        Ok(planner.create_physical_plan(plan, &self.state).await?)
    }

    /// Runs on the engine's threads, and is ended there when the caller goes away.
    async fn collect(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        context: Arc<TaskContext>,
    ) -> Result<Vec<RecordBatch>, EngineError> {
        self.threads.run(collect(plan, context)).await.map_err(|error| match error {
            DataFusionError::External(inner) => match inner.downcast::<ClusterError>() {
                Ok(cluster) => EngineError::Cluster(*cluster),
                Err(inner) => EngineError::DataFusion(DataFusionError::External(inner)),
            },
            other => EngineError::DataFusion(other),
        })
    }
}
