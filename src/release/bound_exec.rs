//! Physical operator: bounds the contributions of each unit and sums them by group, partition by partition.
//!
//! ```text
//! BoundExec        keys | units | one sum a measure     (exact, never shown: DrawExec is always above)
//!   input, hash-partitioned by unit
//! ```

use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, Int64Array, LargeBinaryArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::expressions::Column;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use futures::{StreamExt, stream};

use super::contributions::{Contributions, GroupSums, SelectionKey, Sums};
use super::quantile::Weights;
use super::spec::{MeasureKind, ReleaseSpec};

/// See the module.
#[derive(Debug)]
pub struct BoundExec {
    input: Arc<dyn ExecutionPlan>,
    spec: Arc<ReleaseSpec>,
    selection_key: SelectionKey,
    properties: Arc<PlanProperties>,
}

impl BoundExec {
    /// Bounds `input`, whose columns are as `spec` says.
    #[must_use]
    pub fn new(input: Arc<dyn ExecutionPlan>, spec: Arc<ReleaseSpec>, selection_key: SelectionKey) -> Self {
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(partial_schema(&spec)),
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

    /// The specification.
    #[must_use]
    pub const fn spec(&self) -> &Arc<ReleaseSpec> {
        &self.spec
    }
}

/// The schema of exact partial sums.
pub(super) fn partial_schema(spec: &ReleaseSpec) -> SchemaRef {
    let keys =
        spec.keys.iter().enumerate().map(|(at, key)| Field::new(format!("key{at}"), key.data_type().clone(), true));
    let units = std::iter::once(Field::new("units", DataType::Int64, false));
    let measures = spec.measures.iter().enumerate().map(|(at, measure)| {
        let kind = match measure.kind {
            MeasureKind::Distinct { .. } => DataType::LargeBinary,
            _ => SUM_TYPE,
        };
        Field::new(format!("measure{at}"), kind, false)
    });
    let histograms =
        (0..spec.histograms.len()).map(|at| Field::new(format!("histogram{at}"), DataType::LargeBinary, false));
    Arc::new(Schema::new(keys.chain(units).chain(measures).chain(histograms).collect::<Vec<_>>()))
}

/// A sum is an i128, which Arrow holds as a decimal without digits after the point.
const SUM_TYPE: DataType = DataType::Decimal128(38, 0);

fn partial_batch(schema: SchemaRef, sums: GroupSums) -> Result<RecordBatch> {
    let mut columns: Vec<ArrayRef> = sums.keys;
    columns.push(Arc::new(Int64Array::from(sums.units)));
    for measure in sums.measures {
        columns.push(match measure {
            Sums::Whole(sums) => Arc::new(Decimal128Array::from(sums).with_data_type(SUM_TYPE)),
            Sums::Values(groups) => {
                let bytes = |values: Vec<u128>| values.into_iter().flat_map(u128::to_le_bytes).collect::<Vec<_>>();
                Arc::new(LargeBinaryArray::from_iter_values(groups.into_iter().map(bytes)))
            }
        });
    }
    for histogram in sums.histograms {
        let bytes = |weights: Weights| {
            let pair = |(candidate, weight): (u32, u64)| {
                let mut bytes = [0; 12];
                bytes[..4].copy_from_slice(&candidate.to_le_bytes());
                bytes[4..].copy_from_slice(&weight.to_le_bytes());
                bytes
            };
            weights.into_iter().flat_map(pair).collect::<Vec<_>>()
        };
        columns.push(Arc::new(LargeBinaryArray::from_iter_values(histogram.into_iter().map(bytes))));
    }
    Ok(RecordBatch::try_new(schema, columns)?)
}

impl DisplayAs for BoundExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BoundExec: L0={}, r={}", self.spec.bounds.groups, self.spec.bounds.rows)
    }
}

impl ExecutionPlan for BoundExec {
    fn name(&self) -> &'static str {
        "BoundExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    /// All rows of a unit in one partition: what makes the bound hold.
    fn required_input_distribution(&self) -> Vec<Distribution> {
        let field = self.input.schema();
        let unit: Arc<dyn PhysicalExpr> =
            Arc::new(Column::new(field.field(ReleaseSpec::UNIT).name(), ReleaseSpec::UNIT));
        vec![Distribution::KeyPartitioned(vec![unit])]
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
            _ => internal_err!("BoundExec has one child"),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let mut input = self.input.execute(partition, Arc::clone(&context))?;
        let schema = self.schema();
        let mut contributions = Contributions::new(Arc::clone(&self.spec), self.selection_key, &self.input.schema())?;
        let reservation = MemoryConsumer::new("BoundExec").register(context.memory_pool());
        let output = Arc::clone(&schema);
        let bounded = async move {
            while let Some(batch) = input.next().await {
                contributions.add(&batch?)?;
                reservation.try_resize(contributions.size())?;
            }
            partial_batch(output, contributions.finish()?)
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream::once(bounded))))
    }
}
