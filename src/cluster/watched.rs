//! Physical operator of an executor: stands on top of what a stage computes, below what writes it.
//!
//! ```text
//! shuffle writer
//!   WatchedExec     rows pass; errors pass by their kind; the stage ends when its job or its time has
//!     scan, filter, join, bounds
//! ```
//!
//! Ballista ends a task by no longer waiting for it, while what it has started goes on. Here it ends from within: an
//! error, never a stream that stops early, since rows that are missing would be summed as if there were none.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ballista_core::error::BallistaError;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::{StreamExt, stream};

use super::row_failure::told;

/// How often it is looked whether a job still runs, while no rows come.
const TICK: Duration = Duration::from_millis(200);

/// Until when a stage may compute: its job's folder is there as long as the job, and time is limited.
#[derive(Debug, Clone)]
pub(super) struct Watch {
    folder: Arc<Path>,
    deadline: Instant,
}

impl Watch {
    /// Of a job whose rows lie in `folder`, which is there, until `deadline`.
    pub(super) fn new(folder: PathBuf, deadline: Instant) -> Self {
        Self { folder: folder.into(), deadline }
    }

    /// # Errors
    /// When nobody waits for the stage any more.
    fn check(&self) -> Result<()> {
        let why = if Instant::now() >= self.deadline {
            "tollgate: a task took too long"
        } else if self.folder.exists() {
            return Ok(());
        } else {
            "tollgate: the job is over"
        };
        Err(BallistaError::General(why.to_owned()).into_datafusion())
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct WatchedExec {
    input: Arc<dyn ExecutionPlan>,
    watch: Watch,
}

impl WatchedExec {
    pub(super) const fn new(input: Arc<dyn ExecutionPlan>, watch: Watch) -> Self {
        Self { input, watch }
    }
}

impl DisplayAs for WatchedExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WatchedExec")
    }
}

impl ExecutionPlan for WatchedExec {
    fn name(&self) -> &'static str {
        "WatchedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self::new(input, self.watch.clone()))),
            _ => internal_err!("WatchedExec has one child"),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows = self.input.execute(partition, context).map_err(|error| told(&error))?;
        let schema = rows.schema();
        let watched = stream::try_unfold((rows, self.watch.clone()), async |(mut rows, watch)| {
            loop {
                watch.check()?;
                match tokio::time::timeout(TICK, rows.next()).await {
                    Ok(Some(batch)) => return Ok(Some((batch.map_err(|error| told(&error))?, (rows, watch)))),
                    Ok(None) => return Ok(None),
                    Err(_) => {}
                }
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, watched)))
    }
}
