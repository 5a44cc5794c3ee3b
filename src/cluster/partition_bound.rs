//! Physical operator: bounds one partition of a cluster's shuffle by itself, since all rows of a unit are in it.
//!
//! ```text
//! PartitionBoundExec      keys | units | one sum a measure    of the units of this partition
//!   shuffle, hashed by unit into N partitions
//! ```
//!
//! It is [`BoundExec`] in a form that can be sent: it knows what bounding needs (and not what the query calls it), and
//! makes the bounding operator where it runs. This is the one place of the cluster in which it is made.

use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::expressions::Column;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};

use crate::release::{BoundExec, Meeting, ReleaseSpec, SelectionKey, columns_of_partial_sums};

/// See the module.
pub struct PartitionBoundExec {
    input: Arc<dyn ExecutionPlan>,
    spec: Arc<ReleaseSpec>,
    selection_key: SelectionKey,
    properties: Arc<PlanProperties>,
}

impl std::fmt::Debug for PartitionBoundExec {
    /// Without the key, which is a secret of the query.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PartitionBoundExec")
            .field("input", &self.input)
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}

impl PartitionBoundExec {
    /// Bounds each partition of `input`, whose columns are as `spec` says.
    #[must_use]
    pub fn new(input: Arc<dyn ExecutionPlan>, spec: Arc<ReleaseSpec>, selection_key: SelectionKey) -> Self {
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(columns_of_partial_sums(&spec)),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            EmissionType::Final,
            Boundedness::Bounded,
        ));
        Self { input, spec, selection_key, properties }
    }

    /// What is bounded.
    #[must_use]
    pub const fn input(&self) -> &Arc<dyn ExecutionPlan> {
        &self.input
    }

    /// What bounding needs to know of the release.
    #[must_use]
    pub const fn spec(&self) -> &Arc<ReleaseSpec> {
        &self.spec
    }

    /// The key of the hash that chooses groups.
    pub(super) const fn selection_key(&self) -> SelectionKey {
        self.selection_key
    }

    /// The column that the rows have to be partitioned by.
    pub(super) fn unit(input: &Arc<dyn ExecutionPlan>) -> Arc<dyn PhysicalExpr> {
        Arc::new(Column::new(input.schema().field(ReleaseSpec::UNIT).name(), ReleaseSpec::UNIT))
    }
}

impl DisplayAs for PartitionBoundExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PartitionBoundExec: L0={}, r={}", self.spec.bounds.groups, self.spec.bounds.rows)
    }
}

impl ExecutionPlan for PartitionBoundExec {
    fn name(&self) -> &'static str {
        "PartitionBoundExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![Distribution::KeyPartitioned(vec![Self::unit(&self.input)])]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self::new(input, Arc::clone(&self.spec), self.selection_key))),
            _ => internal_err!("PartitionBoundExec has one child"),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let (input, spec) = (Arc::clone(&self.input), Arc::clone(&self.spec));
        BoundExec::new(input, spec, self.selection_key, Meeting::Below).execute(partition, context)
    }
}
