//! From our logical nodes to our physical operators.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::{Result, plan_err};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{LogicalPlan, UserDefinedLogicalNode};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};

use crate::catalog::DatasetTable;

use super::bound::{BoundExec, Meeting};
use super::cap::{CapExec, CapNode};
use super::draw_exec::DrawExec;
use super::node::{Leaf, ReleaseNode, ReleasedNode};

/// Plans [`ReleaseNode`] and [`ReleasedNode`], given the releases that are drawn already.
#[derive(Debug, Default, Clone)]
pub struct ReleasePlanner {
    drawn: Vec<RecordBatch>,
    known: Vec<Vec<RecordBatch>>,
    alone: bool,
}

impl ReleasePlanner {
    /// A planner that finds the values of release i in `drawn[i]`, and the rows of known relation i in `known[i]`. A known
    /// relation that is not there yet has no rows: a plan over it can be made and proven, and not run.
    #[must_use]
    pub const fn new(drawn: Vec<RecordBatch>, known: Vec<Vec<RecordBatch>>) -> Self {
        Self { drawn, known, alone: false }
    }

    /// The same for a release of whose input it was proven whether each unit has one row.
    #[must_use]
    pub fn with_units_alone(self, alone: bool) -> Self {
        Self { alone, ..self }
    }

    fn meeting(&self, release: &ReleaseNode, input: &LogicalPlan) -> Meeting {
        // With epochs, the pairs of one unit have to meet: it is counted once for all of them.
        match (self.alone && release.spec().epochs.is_none(), is_declared_sorted(input)) {
            (true, _) => Meeting::Alone,
            (false, true) => Meeting::InOrder,
            (false, false) => Meeting::Inside,
        }
    }
}

#[async_trait]
impl ExtensionPlanner for ReleasePlanner {
    async fn plan_extension(
        &self,
        planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
        context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        if let Some(release) = node.as_any().downcast_ref::<ReleaseNode>() {
            let ([input], [logical]) = (physical_inputs, logical_inputs) else {
                return plan_err!("a release has one input");
            };
            let bound = BoundExec::new(
                Arc::clone(input),
                Arc::clone(release.spec()),
                release.selection_key(),
                self.meeting(release, logical),
            );
            let draw = DrawExec::new(Arc::new(bound), Arc::clone(release.spec()), Arc::clone(release.noise()));
            return Ok(Some(Arc::new(draw)));
        }
        if let Some(cap) = node.as_any().downcast_ref::<CapNode>() {
            let ([input], [logical]) = (physical_inputs, logical_inputs) else {
                return plan_err!("a cap has one input");
            };
            let keys = cap
                .keys()
                .iter()
                .map(|key| planner.create_physical_expr(key, logical.schema(), session, context))
                .collect::<Result<_>>()?;
            return Ok(Some(Arc::new(CapExec::new(Arc::clone(input), keys, cap.most()))));
        }
        if let Some(released) = node.as_any().downcast_ref::<ReleasedNode>() {
            let schema = Arc::new(node.schema().as_arrow().clone());
            let rows = match released.leaf() {
                Leaf::Release(index) => {
                    let Some(batch) = self.drawn.get(index) else { return plan_err!("release {index} is not drawn") };
                    vec![under(&schema, batch)?]
                }
                Leaf::Known(index) => {
                    let rows = self.known.get(index).map(Vec::as_slice).unwrap_or_default();
                    rows.iter().map(|batch| under(&schema, batch)).collect::<Result<_>>()?
                }
            };
            return Ok(Some(MemorySourceConfig::try_new_exec(&[rows], schema, None)?));
        }
        Ok(None)
    }
}

/// Whether a relation's rows come in the order of one dataset that is declared to be sorted by unit. A hint: the order is
/// verified while the rows are read.
fn is_declared_sorted(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Filter(filter) => is_declared_sorted(&filter.input),
        LogicalPlan::Projection(projection) => is_declared_sorted(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => is_declared_sorted(&alias.input),
        LogicalPlan::TableScan(scan) => DatasetTable::of(&scan.source).is_some_and(|table| table.is_declared_sorted()),
        _ => false,
    }
}

/// The first columns of a batch under the names of `schema`: keys and outputs, and the half-widths if they are asked for.
fn under(schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch> {
    let width = schema.fields().len();
    if width > batch.num_columns() {
        return plan_err!("released rows have {} columns, not {width}", batch.num_columns());
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), batch.columns()[..width].to_vec(), &options)?)
}
