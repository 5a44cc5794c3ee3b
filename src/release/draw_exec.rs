//! Physical operator: merges the partitions' exact sums, draws the noise, and lets only the result out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::error::ArrowError;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, Partitioning, PlanProperties,
};
use futures::{StreamExt, stream};

use crate::mechanism::NoiseSource;

use super::draw::{Merge, draw};
use super::node::output_schema;
use super::price::NoisePlan;
use super::spec::ReleaseSpec;

/// See the module. It can be executed once: a release is drawn once.
#[derive(Debug)]
pub struct DrawExec {
    input: Arc<dyn ExecutionPlan>,
    spec: Arc<ReleaseSpec>,
    noise: Arc<NoisePlan>,
    drawn: Arc<AtomicBool>,
    properties: Arc<PlanProperties>,
}

impl DrawExec {
    /// Draws what `input`, a [`BoundExec`](super::BoundExec), has summed.
    #[must_use]
    pub fn new(input: Arc<dyn ExecutionPlan>, spec: Arc<ReleaseSpec>, noise: Arc<NoisePlan>) -> Self {
        Self::sharing(input, spec, noise, Arc::default())
    }

    fn sharing(
        input: Arc<dyn ExecutionPlan>,
        spec: Arc<ReleaseSpec>,
        noise: Arc<NoisePlan>,
        drawn: Arc<AtomicBool>,
    ) -> Self {
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(output_schema(&spec)),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        ));
        Self { input, spec, noise, drawn, properties }
    }

    /// What is drawn.
    #[must_use]
    pub const fn input(&self) -> &Arc<dyn ExecutionPlan> {
        &self.input
    }

    /// The specification.
    #[must_use]
    pub const fn spec(&self) -> &Arc<ReleaseSpec> {
        &self.spec
    }

    /// The noise.
    #[must_use]
    pub const fn noise(&self) -> &Arc<NoisePlan> {
        &self.noise
    }
}

/// Whether an error came of evaluating an expression on some row, as opposed to reading a file or running out of room.
fn is_of_a_row(error: &DataFusionError) -> bool {
    match error.find_root() {
        DataFusionError::Execution(_) => true,
        DataFusionError::ArrowError(error, _) => !matches!(
            error.as_ref(),
            ArrowError::ExternalError(_)
                | ArrowError::IoError(..)
                | ArrowError::ParquetError(_)
                | ArrowError::IpcError(_)
                | ArrowError::MemoryError(_)
        ),
        _ => false,
    }
}

impl DisplayAs for DrawExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DrawExec: k={}, mechanisms={}", self.spec.min_group_size, self.noise.measures().len())
    }
}

impl ExecutionPlan for DrawExec {
    fn name(&self) -> &'static str {
        "DrawExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![Distribution::SinglePartition]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self::sharing(
                input,
                Arc::clone(&self.spec),
                Arc::clone(&self.noise),
                Arc::clone(&self.drawn),
            ))),
            _ => internal_err!("DrawExec has one child"),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 || self.drawn.swap(true, Ordering::SeqCst) {
            return internal_err!("a release is drawn once");
        }
        let mut input = self.input.execute(0, context)?;
        let mut merge = Merge::new(Arc::clone(&self.spec))?;
        let (spec, noise) = (Arc::clone(&self.spec), Arc::clone(&self.noise));
        let drawn = async move {
            while let Some(batch) = input.next().await {
                match batch {
                    Ok(batch) => merge.add(&batch)?,
                    Err(error) if is_of_a_row(&error) => {
                        // No expression below a release can fail on a row. Should one, its failure would tell of that
                        // row: the answer is drawn from nothing instead, and the operator is told.
                        tracing::error!("an expression failed on a row below a release; the answer holds noise alone");
                        merge = Merge::new(Arc::clone(&spec))?;
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
            let mut source = NoiseSource::from_system().map_err(|error| DataFusionError::External(Box::new(error)))?;
            draw(&spec, &noise, merge.finish()?, &mut source)
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), stream::once(drawn))))
    }
}
