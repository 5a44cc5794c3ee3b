//! Physical operator: bounds the contributions of each unit and sums them by group.
//!
//! ```text
//! BoundExec        keys | units | one sum a measure     (exact, never shown: DrawExec is always above)
//!   input, its rows in any partition and order
//! ```
//!
//! The rows of a unit have to meet. Where they do is [`Meeting`]: in this operator, whose partitions each record their rows as
//! a few integers and put them in shards by unit, or add them up in a dense table; or, where rows come unit after unit, at once; or below it.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use datafusion::common::runtime::JoinSet;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, reset_plan_states};
use datafusion::physical_plan::expressions::Column;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use futures::{StreamExt, TryStreamExt, stream};

use super::super::spec::ReleaseSpec;
use super::SelectionKey;
use super::bounder::Bounder;
use super::contributions::{Common, Contributions, Gathered, keys_from};
use super::records::Recorder;
use super::shards::{self, Units};
use super::sorted::{Passed, Sorted, are_apart};
use super::sums::{GroupSums, partial_batch, partial_schema};

/// Where the rows of one unit meet, before they are bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meeting {
    /// In the operator, which reads all partitions of its input and has one itself.
    Inside,
    /// The same, and rows come unit after unit, as was declared. It is verified; where it does not hold, rows are read
    /// again and meet inside.
    InOrder,
    /// Below it: its input is partitioned by unit. Each partition is bounded by itself.
    Below,
    /// Each row is all of a unit: it was proven that there is one row a unit, and there are no epochs.
    Alone,
}

/// See the module.
#[derive(Debug)]
pub struct BoundExec {
    input: Arc<dyn ExecutionPlan>,
    spec: Arc<ReleaseSpec>,
    selection_key: SelectionKey,
    meeting: Meeting,
    properties: Arc<PlanProperties>,
}

impl BoundExec {
    /// Bounds `input`, whose columns are as `spec` says.
    #[must_use]
    pub fn new(
        input: Arc<dyn ExecutionPlan>,
        spec: Arc<ReleaseSpec>,
        selection_key: SelectionKey,
        meeting: Meeting,
    ) -> Self {
        let partitions = match meeting {
            Meeting::Inside | Meeting::InOrder => 1,
            Meeting::Below | Meeting::Alone => input.output_partitioning().partition_count(),
        };
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(partial_schema(&spec)),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Final,
            Boundedness::Bounded,
        ));
        Self { input, spec, selection_key, meeting, properties }
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

    /// The key of the choice of groups.
    #[must_use]
    pub const fn selection_key(&self) -> SelectionKey {
        self.selection_key
    }

    /// Where the rows of a unit meet.
    #[must_use]
    pub const fn meeting(&self) -> Meeting {
        self.meeting
    }

    fn work(&self, context: &Arc<TaskContext>) -> Work {
        Work {
            input: Arc::clone(&self.input),
            spec: Arc::clone(&self.spec),
            key: self.selection_key,
            context: Arc::clone(context),
        }
    }
}

impl DisplayAs for BoundExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bounds = &self.spec.bounds;
        write!(f, "BoundExec: L0={}, r={}, units meet {:?}", bounds.groups, bounds.rows, self.meeting)
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

    /// Where rows meet below, all rows of a unit in one partition: what makes the bound hold.
    fn required_input_distribution(&self) -> Vec<Distribution> {
        if self.meeting != Meeting::Below {
            return vec![Distribution::UnspecifiedDistribution];
        }
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
            (Some(input), true) => {
                Ok(Arc::new(Self::new(input, Arc::clone(&self.spec), self.selection_key, self.meeting)))
            }
            _ => internal_err!("BoundExec has one child"),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition >= self.properties.output_partitioning().partition_count() {
            return internal_err!("BoundExec has no partition {partition}");
        }
        let work = self.work(&context);
        let meeting = match self.meeting {
            Meeting::InOrder if !work.recorder()?.has_order() || !keeps_order(&self.input) => Meeting::Inside,
            meeting => meeting,
        };
        let schema = self.schema();
        let output = Arc::clone(&schema);
        let bounded = async move {
            let all = 0..work.input.output_partitioning().partition_count();
            let sums = match meeting {
                Meeting::Inside => work.inside(all).await?,
                Meeting::InOrder => match work.in_order().await? {
                    Some(sums) => sums,
                    None => {
                        tracing::warn!(
                            "rows that were declared sorted by unit are not, or are more of one unit than memory holds; they are read again"
                        );
                        work.again()?.inside(all).await?
                    }
                },
                Meeting::Below => work.inside(partition..partition + 1).await?,
                Meeting::Alone => vec![work.alone(partition).await?],
            };
            let batches: Vec<Result<RecordBatch>> =
                sums.into_iter().map(|sums| partial_batch(Arc::clone(&output), sums)).collect();
            Ok::<_, DataFusionError>(stream::iter(batches))
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream::once(bounded).try_flatten())))
    }
}

/// Whether a plan hands rows on in the order of its scan.
fn keeps_order(plan: &Arc<dyn ExecutionPlan>) -> bool {
    match plan.name() {
        "DataSourceExec" => true,
        "FilterExec" | "ProjectionExec" | "CoalesceBatchesExec" | "CooperativeExec" => {
            plan.children().into_iter().all(keeps_order)
        }
        _ => false,
    }
}

/// What the partitions of one execution share.
#[derive(Clone)]
struct Work {
    input: Arc<dyn ExecutionPlan>,
    spec: Arc<ReleaseSpec>,
    key: SelectionKey,
    context: Arc<TaskContext>,
}

impl Work {
    fn recorder(&self) -> Result<Recorder> {
        Recorder::new(Arc::clone(&self.spec), self.key, &self.input.schema())
    }

    fn rows(&self, partition: usize) -> Result<SendableRecordBatchStream> {
        self.input.execute(partition, Arc::clone(&self.context))
    }

    fn reservation(&self, can_spill: bool) -> MemoryReservation {
        MemoryConsumer::new("BoundExec").with_can_spill(can_spill).register(self.context.memory_pool())
    }

    /// The same from the beginning.
    fn again(&self) -> Result<Self> {
        Ok(Self { input: reset_plan_states(Arc::clone(&self.input))?, ..self.clone() })
    }

    /// Reads the partitions beside each other, then bounds shards beside each other. Dropping the future ends the tasks.
    async fn inside(&self, partitions: std::ops::Range<usize>) -> Result<Vec<GroupSums>> {
        let mut tasks = JoinSet::new();
        let workers = partitions.len();
        for partition in partitions {
            tasks.spawn(self.clone().gather(partition, workers));
        }
        let (mut places, mut held) = (Vec::new(), Vec::new());
        for (place, reservation) in all(tasks).await? {
            places.push(place);
            held.push(reservation);
        }
        let gathered = Arc::new(Gathered::new(&self.spec, self.key, places)?);
        let mut tasks = JoinSet::new();
        for _ in 0..workers {
            let (gathered, reservation) = (Arc::clone(&gathered), self.reservation(false));
            tasks.spawn(async move {
                let mut bounder = gathered.bounder();
                reservation.try_resize(bounder.size())?;
                while gathered.bound_next(&mut bounder, |bytes| reservation.try_resize(bytes))? {
                    // So that a query that was given up ends here.
                    tokio::task::yield_now().await;
                }
                Ok(bounder.finish(gathered.keys.clone()))
            });
        }
        all(tasks).await
    }

    async fn gather(self, partition: usize, workers: usize) -> Result<(Contributions, MemoryReservation)> {
        let mut rows = self.rows(partition)?;
        let reservation = self.reservation(true);
        let disk = Arc::clone(&self.context.runtime_env().disk_manager);
        let mut contributions = Contributions::new(Arc::clone(&self.spec), self.key, &self.input.schema())?;
        while let Some(batch) = rows.next().await {
            contributions.gather(&batch?, workers, &reservation, &disk)?;
        }
        reservation.try_resize(contributions.size())?;
        Ok((contributions, reservation))
    }

    /// `None` when the rows are in no order.
    async fn in_order(&self) -> Result<Option<Vec<GroupSums>>> {
        let mut tasks = JoinSet::new();
        for partition in 0..self.input.output_partitioning().partition_count() {
            tasks.spawn(self.clone().pass(partition));
        }
        let passed = all(tasks).await?;
        let (mut sums, mut segments, mut borders, mut keys) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for passed in passed {
            let Some(Passed { sums: of_partition, borders: held, keys: of_groups, segments: runs }) = passed else {
                return Ok(None);
            };
            sums.push(of_partition);
            segments.extend(runs);
            borders.push(held);
            keys.push(of_groups);
        }
        if !are_apart(segments) {
            return Ok(None);
        }
        let Common { keys, groups, names } = Common::of(&self.spec, keys)?;
        let mut bounder = Bounder::new(&self.spec, self.key);
        bounder.grow(groups);
        let pieces: Vec<_> = borders.iter().zip(&names).map(|(records, names)| (records, names.as_deref())).collect();
        shards::bound(&pieces, Units::Any, false, &mut bounder, &|from| Ok(keys_from(&keys, from)))?;
        sums.push(bounder.finish(keys));
        Ok(Some(sums))
    }

    async fn pass(self, partition: usize) -> Result<Option<Passed>> {
        let mut rows = self.rows(partition)?;
        let reservation = self.reservation(false);
        let mut sorted = Sorted::new(self.recorder()?, Bounder::new(&self.spec, self.key));
        while let Some(batch) = rows.next().await {
            if !sorted.add(&batch?)? {
                return Ok(None);
            }
            if reservation.try_resize(sorted.size()).is_err() {
                // The unit at hand alone may be larger than the memory; read the other way, its rows go to disk.
                return Ok(None);
            }
        }
        Ok(Some(sorted.finish()?))
    }

    /// Each row is all of a unit.
    async fn alone(&self, partition: usize) -> Result<GroupSums> {
        let mut rows = self.rows(partition)?;
        let reservation = self.reservation(false);
        let mut recorder = self.recorder()?;
        let mut bounder = Bounder::new(&self.spec, self.key);
        while let Some(batch) = rows.next().await {
            let (records, _) = recorder.records(&batch?)?;
            bounder.grow(recorder.codes.len());
            let codes = &recorder.codes;
            for at in 0..records.len() {
                bounder.add(records.ids.get(at), &records, at..at + 1, &|from| codes.keys(from))?;
            }
            reservation.try_resize(recorder.codes.size() + bounder.size())?;
        }
        bounder.grow(recorder.codes.len());
        Ok(bounder.finish(recorder.codes.keys(0)?))
    }
}

/// The results of all tasks, in the order of their ends.
async fn all<T: Send + 'static>(mut tasks: JoinSet<Result<T>>) -> Result<Vec<T>> {
    let mut results = Vec::with_capacity(tasks.len());
    while let Some(result) = tasks.join_next().await {
        results.push(result.map_err(|error| DataFusionError::External(Box::new(error)))??);
    }
    Ok(results)
}
