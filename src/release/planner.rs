//! From our logical nodes to our physical operators.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::{Result, plan_err};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{LogicalPlan, UserDefinedLogicalNode};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};

use super::bound_exec::BoundExec;
use super::draw_exec::DrawExec;
use super::node::{ReleaseNode, ReleasedNode};

/// Plans [`ReleaseNode`] and [`ReleasedNode`], given the releases that are drawn already.
#[derive(Debug, Default)]
pub struct ReleasePlanner {
    drawn: Vec<RecordBatch>,
}

impl ReleasePlanner {
    /// A planner that finds the values of release i in `drawn[i]`.
    #[must_use]
    pub const fn new(drawn: Vec<RecordBatch>) -> Self {
        Self { drawn }
    }
}

#[async_trait]
impl ExtensionPlanner for ReleasePlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        _session: &dyn Session,
        _context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        if let Some(release) = node.as_any().downcast_ref::<ReleaseNode>() {
            let [input] = physical_inputs else { return plan_err!("a release has one input") };
            let bound = BoundExec::new(Arc::clone(input), Arc::clone(release.spec()), release.selection_key());
            let draw = DrawExec::new(Arc::new(bound), Arc::clone(release.spec()), Arc::clone(release.noise()));
            return Ok(Some(Arc::new(draw)));
        }
        if let Some(released) = node.as_any().downcast_ref::<ReleasedNode>() {
            let Some(batch) = self.drawn.get(released.index()) else {
                return plan_err!("release {} is not drawn", released.index());
            };
            let schema = Arc::new(node.schema().as_arrow().clone());
            let width = schema.fields().len();
            if width > batch.num_columns() {
                return plan_err!("release {} has {} columns, not {width}", released.index(), batch.num_columns());
            }
            let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            let keys_and_outputs = kept_columns(batch, width);
            let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), keys_and_outputs, &options)?;
            return Ok(Some(MemorySourceConfig::try_new_exec(&[vec![batch]], schema, None)?));
        }
        Ok(None)
    }
}

/// The first `width` columns: keys and outputs, and the half-widths if they are asked for.
fn kept_columns(batch: &RecordBatch, width: usize) -> Vec<arrow::array::ArrayRef> {
    batch.columns()[..width].to_vec()
}
