//! Physical operator: the exact partial sums of a release, from a cluster.
//!
//! ```text
//! DrawExec
//!   RemoteSumsExec      submits the plan, waits, fetches every partition, checks each, and only then hands any on
//! ```
//!
//! Nothing is handed on before all is there: a job that is run once more must not have half of its first run's sums drawn
//! from.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures::{TryStreamExt, stream};

use crate::release::{ReleaseSpec, columns_of_partial_sums};

use super::client::{Cluster, ClusterError};

/// See the module.
pub struct RemoteSumsExec {
    cluster: Arc<Cluster>,
    plan: Arc<[u8]>,
    spec: Arc<ReleaseSpec>,
    partitions: usize,
    properties: Arc<PlanProperties>,
}

impl std::fmt::Debug for RemoteSumsExec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteSumsExec").field("partitions", &self.partitions).finish_non_exhaustive()
    }
}

impl RemoteSumsExec {
    /// The sums of `spec` that the encoded `plan` makes in `partitions` partitions.
    pub(super) fn new(cluster: Arc<Cluster>, plan: Arc<[u8]>, spec: Arc<ReleaseSpec>, partitions: usize) -> Self {
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(columns_of_partial_sums(&spec)),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        ));
        Self { cluster, plan, spec, partitions, properties }
    }

    /// What is sent to the cluster.
    #[must_use]
    pub fn sent(&self) -> &[u8] {
        &self.plan
    }
}

impl DisplayAs for RemoteSumsExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RemoteSumsExec: partitions={}", self.partitions)
    }
}

impl ExecutionPlan for RemoteSumsExec {
    fn name(&self) -> &'static str {
        "RemoteSumsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { internal_err!("RemoteSumsExec is a leaf") }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("RemoteSumsExec has one partition");
        }
        let (cluster, plan) = (Arc::clone(&self.cluster), Arc::clone(&self.plan));
        let (spec, partitions) = (Arc::clone(&self.spec), self.partitions);
        let reservation = MemoryConsumer::new("RemoteSumsExec").register(context.memory_pool());
        let sums = async move {
            let sums = cluster.sums(&plan, &spec, partitions).await.map_err(to_datafusion)?;
            reservation.try_resize(sums.iter().map(RecordBatch::get_array_memory_size).sum())?;
            Ok::<_, DataFusionError>(stream::iter(sums.into_iter().map(move |batch| {
                let _held = &reservation;
                Ok(batch)
            })))
        };
        let schema = columns_of_partial_sums(&self.spec);
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream::once(sums).try_flatten())))
    }
}

/// A row's failure is one here too, as [`DrawExec`](crate::release::DrawExec) knows it; everything else is the cluster's.
fn to_datafusion(error: ClusterError) -> DataFusionError {
    match error {
        ClusterError::RowFailed => DataFusionError::Execution("a row failed in the cluster".to_owned()),
        other => DataFusionError::External(Box::new(other)),
    }
}
