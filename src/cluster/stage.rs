//! What an executor does before it runs a stage, and around it.
//!
//! * Bounds stand over an exchange by unit, or the stage is refused: what Ballista has made of the plan is looked at once
//!   more, where it runs.
//! * An error is told by its kind alone ([`super::row_failure`]), and so is a panic.
//! * A task ends when nobody waits for it any more ([`super::watched`]), and what it has written goes.
//! * No figure of the rows leaves with the status of a task, but for the sizes of what it wrote.

use std::collections::HashMap;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ballista_core::JobId;
use ballista_core::error::BallistaError;
use ballista_core::execution_plans::ShuffleReaderExec;
use ballista_core::serde::protobuf::ShuffleWritePartition;
use ballista_executor::execution_engine::{ExecutionEngine, QueryStageExecutor};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::Partitioning;
use datafusion::physical_plan::expressions::Column;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::{ExecutionPlan, replace_children_if_necessary};
use datafusion::prelude::SessionConfig;
use futures::FutureExt;

use crate::release::ReleaseSpec;

use super::job::task_timeout;
use super::partition_bound::PartitionBoundExec;
use super::row_failure::{ROW_FAILED, told};
use super::watched::{Watch, WatchedExec};

/// How long after the last task of a job could have ended what it has written is removed, if the scheduler has not had it
/// removed: a task that was under way then may have written after that.
const GRACE: Duration = Duration::from_secs(10);

/// How long after that it is removed again, should a task that had stood still on a busy machine write once more.
const LATE: Duration = Duration::from_mins(5);

/// The jobs that this executor has worked for, and when nobody waits for any task of theirs.
#[derive(Debug, Clone, Default)]
pub(super) struct Jobs(Arc<Mutex<HashMap<PathBuf, Instant>>>);

impl Jobs {
    /// A task of the job whose rows lie in `folder` may run until `deadline`.
    pub(super) fn works_until(&self, folder: PathBuf, deadline: Instant) {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let until = jobs.entry(folder).or_insert(deadline);
        *until = deadline.max(*until);
    }

    /// Removes what jobs have left that are over at `now`.
    pub(super) fn remove_what_is_over(&self, now: Instant) {
        let mut over = Vec::new();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|folder, deadline| {
            if now >= *deadline + GRACE {
                over.push(folder.clone());
            }
            now < *deadline + GRACE + LATE
        });
        for folder in over {
            match std::fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::error!(%error, "what a job has written cannot be removed");
                }
                _ => {}
            }
        }
    }
}

/// Ballista's engine behind the checks of the module.
pub(super) struct CheckedEngine<E> {
    engine: E,
    jobs: Jobs,
}

impl<E> CheckedEngine<E> {
    pub(super) const fn new(engine: E, jobs: Jobs) -> Self {
        Self { engine, jobs }
    }
}

impl<E: ExecutionEngine> ExecutionEngine for CheckedEngine<E> {
    fn create_query_stage_exec(
        &self,
        job_id: JobId,
        stage_id: usize,
        task_id: usize,
        global_output_partition_ids: Vec<usize>,
        plan: Arc<dyn ExecutionPlan>,
        work_dir: &str,
        config: &SessionConfig,
    ) -> Result<Arc<dyn QueryStageExecutor>> {
        bounds_see_whole_units(&plan)?;
        let folder = Path::new(work_dir).join(job_id.as_str());
        std::fs::create_dir_all(&folder)?;
        let deadline = Instant::now() + task_timeout(config);
        self.jobs.works_until(folder.clone(), deadline);
        let plan = watched(plan, Watch::new(folder, deadline))?;
        let stage = self.engine.create_query_stage_exec(
            job_id,
            stage_id,
            task_id,
            global_output_partition_ids,
            plan,
            work_dir,
            config,
        )?;
        Ok(Arc::new(CheckedStage { stage }))
    }
}

/// That below every bound there is a shuffle by unit, and nothing else.
pub(super) fn bounds_see_whole_units(plan: &Arc<dyn ExecutionPlan>) -> Result<()> {
    plan.apply(|node| {
        let any: &dyn std::any::Any = node.as_ref();
        let Some(bound) = any.downcast_ref::<PartitionBoundExec>() else { return Ok(TreeNodeRecursion::Continue) };
        let any: &dyn std::any::Any = bound.input().as_ref();
        let by_unit = any.downcast_ref::<ShuffleReaderExec>().is_some_and(|shuffle| {
            !shuffle.broadcast && shuffle.coalesce.is_none() && is_by_unit(shuffle.properties().output_partitioning())
        });
        if by_unit { Ok(TreeNodeRecursion::Jump) } else { internal_err!("bounds that are not over a shuffle by unit") }
    })
    .map(|_| ())
}

fn is_by_unit(partitioning: &Partitioning) -> bool {
    let Partitioning::Hash(keys, _) = partitioning else { return false };
    let [key] = &keys[..] else { return false };
    let any: &dyn std::any::Any = key.as_ref();
    any.downcast_ref::<Column>().is_some_and(|column| column.index() == ReleaseSpec::UNIT)
}

/// `plan`, a shuffle's writer, with what watches its rows directly below it.
fn watched(plan: Arc<dyn ExecutionPlan>, watch: Watch) -> Result<Arc<dyn ExecutionPlan>> {
    match &plan.children()[..] {
        [rows] => {
            let rows: Arc<dyn ExecutionPlan> = Arc::new(WatchedExec::new(Arc::clone(rows), watch));
            replace_children_if_necessary(Arc::clone(&plan), vec![rows])
        }
        _ => internal_err!("a stage that writes no shuffle"),
    }
}

#[derive(Debug)]
struct CheckedStage {
    stage: Arc<dyn QueryStageExecutor>,
}

impl fmt::Display for CheckedStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CheckedStage")
    }
}

#[async_trait::async_trait]
impl QueryStageExecutor for CheckedStage {
    async fn execute_query_stage(
        &self,
        task_id: usize,
        context: Arc<TaskContext>,
    ) -> Result<Vec<ShuffleWritePartition>> {
        match AssertUnwindSafe(self.stage.execute_query_stage(task_id, context)).catch_unwind().await {
            Ok(written) => written.map_err(|error| written_or_told(&error)),
            Err(_) => Err(BallistaError::General("tollgate: a task panicked".to_owned()).into_datafusion()),
        }
    }

    /// None: rows that passed an operator are counts of the data.
    fn collect_plan_metrics(&self) -> Vec<MetricsSet> {
        Vec::new()
    }
}

/// What the writer itself says is no row's doing, unless it passes on what was told below it.
fn written_or_told(error: &DataFusionError) -> DataFusionError {
    use DataFusionError as E;
    match error.find_root() {
        E::External(_) | E::IoError(_) | E::ArrowError(..) => told_below(error),
        E::Execution(text) if text.contains(ROW_FAILED) => {
            BallistaError::General(ROW_FAILED.to_owned()).into_datafusion()
        }
        _ => BallistaError::General("tollgate: a shuffle cannot be written".to_owned()).into_datafusion(),
    }
}

/// An error that has been told already keeps its words; any other gets a kind.
fn told_below(error: &DataFusionError) -> DataFusionError {
    if let DataFusionError::External(inner) = error.find_root()
        && let Some(BallistaError::General(text)) = inner.downcast_ref::<BallistaError>()
        && text.starts_with("tollgate: ")
    {
        return BallistaError::General(text.clone()).into_datafusion();
    }
    told(error)
}
