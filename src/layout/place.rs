//! Physical operator: each row's place in its source, as one more column at the end.
//!
//! ```text
//! partition 1    unit  price          unit  price  place
//!                 7     3      ──▶     7     3      1·2^44
//!                 7     9              7     9      1·2^44 + 1
//! ```
//!
//! A sort by the unit and then the place leaves a unit's rows in the order in which they came. Data that comes order by order has
//! its runs of one value there, which are small in the file, and are bounded as one (`crate::release`).

use std::sync::Arc;

use arrow::array::{ArrayRef, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties};
use futures::StreamExt;

/// The rows of a partition at most, so that places of two partitions differ.
const ROWS: u64 = 1 << 44;

/// See the module.
#[derive(Debug)]
pub(super) struct PlaceExec {
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl PlaceExec {
    /// Adds the places of the rows of `input`: of its partitions, one after the other.
    pub(super) fn new(input: Arc<dyn ExecutionPlan>) -> Self {
        let place = Arc::new(Field::new("place", DataType::UInt64, false));
        let fields = input.schema().fields().iter().cloned().chain([place]).collect::<Vec<_>>();
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(Arc::new(Schema::new(fields))),
            input.output_partitioning().clone(),
            EmissionType::Incremental,
            Boundedness::Bounded,
        ));
        Self { input, properties }
    }
}

impl DisplayAs for PlaceExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PlaceExec")
    }
}

impl ExecutionPlan for PlaceExec {
    fn name(&self) -> &'static str {
        "PlaceExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
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
            (Some(input), true) => Ok(Arc::new(Self::new(input))),
            _ => internal_err!("PlaceExec has one child"),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let schema: SchemaRef = self.schema();
        let output = Arc::clone(&schema);
        let mut next = partition as u64 * ROWS;
        let placed = self.input.execute(partition, context)?.map(move |batch| {
            let batch = batch?;
            let places = next..next + batch.num_rows() as u64;
            next = places.end;
            let mut columns = batch.columns().to_vec();
            columns.push(Arc::new(UInt64Array::from_iter_values(places)) as ArrayRef);
            Ok(RecordBatch::try_new(Arc::clone(&output), columns)?)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, placed)))
    }
}
