//! What is sent and comes out the same, what workers refuse, and what the gateway refuses of workers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Decimal128Array, Int64Array, LargeBinaryArray, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use ballista_core::error::BallistaError;
use ballista_core::execution_plans::ShuffleReaderExec;
use datafusion::common::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::ScalarUDF;
use datafusion::physical_expr::{Partitioning, PhysicalExpr};
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::expressions::Column;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, collect};
use datafusion_proto::physical_plan::{AsExecutionPlan, PhysicalExtensionCodec};
use datafusion_proto::protobuf::PhysicalPlanNode;

use super::client::encoded;
use super::codec::ClusterCodec;
use super::partition_bound::PartitionBoundExec;
use super::row_failure::{ROW_FAILED, told};
use super::stage::{Jobs, bounds_see_whole_units};
use super::watched::{Watch, WatchedExec};
use super::wire::{Bounding, bounding_of};
use crate::policy::EpochKind;
use crate::release::{
    Candidates, CapExec, ContributionBounds, EpochOf, EpochsRead, GroupingSets, Groups, Histogram, Lattice, Measure,
    MeasureKind, NotPartial, Output, ReleaseSpec, check_partial_sums, columns_of_partial_sums,
};

/// Two keys, one of everything that is measured, names that nobody else may learn.
fn spec() -> ReleaseSpec {
    let lattice = Lattice::new(&DataType::Float64, -60.0, 600.0, true).unwrap();
    let whole = Lattice::new(&DataType::Int64, 0.0, 1e9, false).unwrap();
    let measure = |kind, filter| Measure { kind, filter };
    ReleaseSpec {
        unit_domain: "the_domain".to_owned(),
        keys: vec![
            Arc::new(Field::new("the_first_key", DataType::Utf8, true)),
            Arc::new(Field::new("the_set", DataType::UInt64, false)),
        ],
        arguments: 2,
        filters: 1,
        measures: vec![
            measure(MeasureKind::Rows, None),
            measure(MeasureKind::Values { argument: 0 }, Some(0)),
            measure(MeasureKind::Sum { argument: 0, lattice }, None),
            measure(MeasureKind::Sum { argument: 1, lattice: whole }, Some(0)),
            measure(MeasureKind::Units, Some(0)),
            measure(MeasureKind::Distinct { argument: 1 }, None),
        ],
        histograms: vec![Histogram {
            argument: 0,
            filter: None,
            candidates: Candidates::new(-60.0, 600.0, Some(1.0)).unwrap(),
        }],
        quantiles: Vec::new(),
        outputs: vec![(Arc::new(Field::new("the_output", DataType::Int64, true)), Output::Count { measure: 0 })],
        bounds: ContributionBounds { groups: 5, rows: 3, total_rows: Some(9) },
        min_group_size: 7,
        groups: Groups::Private,
        sets: Some(GroupingSets { key: 1, groups: vec![(0, 4), (1, 1)] }),
        epochs: None,
    }
}

fn input(spec: &ReleaseSpec) -> Arc<dyn ExecutionPlan> {
    let mut fields = vec![Field::new("unit", DataType::Int64, true)];
    fields.extend(spec.keys.iter().map(|key| key.as_ref().clone()));
    fields.push(Field::new("x", DataType::Float64, true));
    fields.push(Field::new("y", DataType::Int64, true));
    fields.push(Field::new("filter", DataType::Boolean, true));
    Arc::new(EmptyExec::new(Arc::new(Schema::new(fields))))
}

fn column(name: &str, index: usize) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new(name, index))
}

fn hashed(input: Arc<dyn ExecutionPlan>, by: Arc<dyn PhysicalExpr>) -> Arc<dyn ExecutionPlan> {
    Arc::new(RepartitionExec::try_new(input, Partitioning::Hash(vec![by], 4)).unwrap())
}

#[test]
fn what_bounding_needs_comes_out_as_it_went_in_and_names_stay_here() {
    let mut with_epochs = spec();
    let by_dataset = BTreeMap::from([("united.flights".parse().unwrap(), BTreeSet::from([516]))]);
    with_epochs.epochs = Some(EpochsRead { kind: EpochKind::Month, by_dataset });
    for spec in [spec(), with_epochs] {
        let sent = serde_json::to_vec(&Bounding::new(&spec).unwrap()).unwrap();
        let text = String::from_utf8(sent.clone()).unwrap();
        for name in ["the_domain", "the_first_key", "the_set", "the_output", "united"] {
            assert!(!text.contains(name), "{text}");
        }
        let read: Bounding = serde_json::from_slice(&sent).unwrap();
        assert_eq!(read.spec().unwrap(), bounding_of(&spec));
    }
}

#[test]
fn a_release_that_names_what_is_not_there_is_not_read() {
    let mut wrong = spec();
    wrong.arguments = 1;
    assert!(Bounding::new(&wrong).unwrap().spec().is_err());
    let mut wrong = spec();
    wrong.filters = 0;
    assert!(Bounding::new(&wrong).unwrap().spec().is_err());
}

#[test]
fn our_operators_and_functions_come_out_as_they_went_in() {
    let spec = spec();
    let keys = vec![column("unit", 0), column("the_set", 2)];
    let rows: Arc<dyn ExecutionPlan> = Arc::new(CapExec::new(input(&spec), keys, 17));
    let plan: Arc<dyn ExecutionPlan> =
        Arc::new(PartitionBoundExec::new(hashed(rows, column("unit", 0)), Arc::new(bounding_of(&spec)), [9; 16]));
    let bytes = encoded(Arc::clone(&plan)).unwrap();
    let codec = ClusterCodec::default();
    let read =
        PhysicalPlanNode::try_decode(&bytes).unwrap().try_into_physical_plan(&TaskContext::default(), &codec).unwrap();
    // The same bytes again: nothing was lost on the way, the key of the selection neither.
    assert_eq!(encoded(Arc::clone(&read)).unwrap(), bytes);
    let any: &dyn std::any::Any = read.as_ref();
    let bound = any.downcast_ref::<PartitionBoundExec>().unwrap();
    assert_eq!((bound.selection_key(), bound.spec().as_ref()), ([9; 16], &bounding_of(&spec)));
    assert_eq!(read.schema(), plan.schema());
    // Its text, which goes to logs, does not show the key.
    assert!(!format!("{bound:?}").contains("9, 9, 9"));

    let epoch = ScalarUDF::new_from_impl(EpochOf::new(EpochKind::Quarter, &BTreeSet::from([171, 172])));
    let mut bytes = Vec::new();
    codec.try_encode_udf(&epoch, &mut bytes).unwrap();
    assert_eq!(*codec.try_decode_udf(epoch.name(), &bytes).unwrap(), epoch);
    assert!(codec.try_decode_udf("other", b"tollgate\x01{}").is_err());
}

#[test]
fn bounds_over_anything_but_a_shuffle_by_unit_are_refused() {
    let spec = spec();
    let bound = |input: Arc<dyn ExecutionPlan>| -> Arc<dyn ExecutionPlan> {
        Arc::new(PartitionBoundExec::new(input, Arc::new(bounding_of(&spec)), [9; 16]))
    };
    let shuffle = |partitioning: Partitioning| -> Arc<dyn ExecutionPlan> {
        let places = vec![Vec::new(); partitioning.partition_count()];
        Arc::new(ShuffleReaderExec::try_new(1, places, input(&spec).schema(), partitioning).unwrap())
    };
    let by = |columns: Vec<Arc<dyn PhysicalExpr>>| shuffle(Partitioning::Hash(columns, 2));
    let whole = by(vec![column("unit", 0)]);
    assert_eq!(whole.output_partitioning().partition_count(), 2);
    bounds_see_whole_units(&bound(Arc::clone(&whole))).unwrap();
    // A stage without bounds is any stage.
    bounds_see_whole_units(&input(&spec)).unwrap();
    let broadcast = ShuffleReaderExec::try_new_broadcast(1, Vec::new(), input(&spec).schema(), 1).unwrap();
    for split in [
        by(vec![column("x", 3)]),
        by(vec![column("unit", 0), column("x", 3)]),
        shuffle(Partitioning::UnknownPartitioning(2)),
        shuffle(Partitioning::RoundRobinBatch(2)),
        hashed(input(&spec), column("unit", 0)),
        input(&spec),
        Arc::new(CapExec::new(whole, vec![column("unit", 0)], 3)),
        Arc::new(broadcast),
    ] {
        bounds_see_whole_units(&bound(split)).unwrap_err();
    }
}

#[test]
fn a_failure_is_told_by_its_kind_and_a_rows_failure_as_one() {
    let value = "Smith";
    let execution = || DataFusionError::Execution(format!("cannot parse {value}"));
    let arrow = |error| DataFusionError::ArrowError(Box::new(error), None);
    let rows = [
        execution(),
        DataFusionError::Context("while joining".to_owned(), Box::new(execution())),
        DataFusionError::Shared(Arc::new(execution())),
        arrow(ArrowError::CastError(value.to_owned())),
        arrow(ArrowError::ComputeError(value.to_owned())),
        BallistaError::DataFusionError(Box::new(execution())).into_datafusion(),
        BallistaError::ArrowError(Box::new(ArrowError::ParseError(value.to_owned()))).into_datafusion(),
    ];
    for error in rows {
        let told = told(&error).to_string();
        assert!(told.contains(ROW_FAILED) && !told.contains(value), "{told}");
    }
    let others = [
        DataFusionError::ResourcesExhausted(value.to_owned()),
        DataFusionError::Internal(value.to_owned()),
        DataFusionError::IoError(std::io::Error::other(value)),
        arrow(ArrowError::ParquetError(value.to_owned())),
        arrow(ArrowError::MemoryError(value.to_owned())),
        BallistaError::General(value.to_owned()).into_datafusion(),
        BallistaError::IoError(std::io::Error::other(value)).into_datafusion(),
    ];
    for error in others {
        let told = told(&error).to_string();
        assert!(!told.contains(ROW_FAILED) && !told.contains(value), "{told}");
    }
    // What Ballista heals by itself it must still know for what it is.
    let lost = BallistaError::FetchFailed("executor".to_owned(), 2, 3, value.to_owned()).into_datafusion();
    let DataFusionError::External(kept) = told(&lost) else { panic!("another kind") };
    let kept = kept.downcast_ref::<BallistaError>().unwrap();
    assert!(
        matches!(kept, BallistaError::FetchFailed(executor, 2, 3, text) if executor == "executor" && !text.contains(value))
    );
}

#[tokio::test]
async fn a_stage_ends_with_its_job_and_its_time_and_never_as_if_it_had_no_more_rows() {
    let dir = tempfile::tempdir().unwrap();
    let (soon, later) = (Instant::now(), Instant::now() + Duration::from_mins(10));
    let run = async |folder: &str, deadline| {
        let watch = Watch::new(dir.path().join(folder), deadline);
        let plan: Arc<dyn ExecutionPlan> = Arc::new(WatchedExec::new(input(&spec()), watch));
        collect(plan, Arc::new(TaskContext::default())).await.map_err(|error| error.to_string())
    };
    std::fs::create_dir(dir.path().join("job")).unwrap();
    assert!(run("job", later).await.unwrap().is_empty());
    assert!(run("job", soon).await.unwrap_err().contains("took too long"));
    assert!(run("other", later).await.unwrap_err().contains("the job is over"));
}

#[test]
fn what_a_job_has_left_is_removed_once_nobody_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let folder = |name: &str| dir.path().join(name);
    let start = Instant::now();
    let jobs = Jobs::default();
    for (name, seconds) in [("short", 10), ("long", 1_000), ("short", 5)] {
        let _ = std::fs::create_dir(folder(name));
        std::fs::write(folder(name).join("shuffle"), "rows").unwrap();
        jobs.works_until(folder(name), start + Duration::from_secs(seconds));
    }
    std::fs::create_dir(folder("unknown")).unwrap();
    jobs.remove_what_is_over(start + Duration::from_secs(10));
    assert!(folder("short").exists());
    jobs.remove_what_is_over(start + Duration::from_secs(100));
    assert!(!folder("short").exists() && folder("long").exists() && folder("unknown").exists());
    // A task that had stood still writes once more.
    std::fs::create_dir(folder("short")).unwrap();
    jobs.remove_what_is_over(start + Duration::from_secs(102));
    assert!(!folder("short").exists());
    jobs.remove_what_is_over(start + Duration::from_secs(10_000));
    assert!(!folder("long").exists());
}

/// Two groups: three units and one.
struct Partial {
    sets: Vec<u64>,
    units: Vec<i64>,
    sums: [Vec<i128>; 5],
    distinct: Vec<Vec<u8>>,
    weights: Vec<Vec<u8>>,
}

impl Partial {
    /// As much as three units and one can do, of everything.
    fn most() -> Self {
        let bound = |at: usize| spec().measures[at].bound() as i128;
        let (float, whole) = (bound(2), bound(3));
        let pair = |candidate: u32, weight: u64| [&candidate.to_le_bytes()[..], &weight.to_le_bytes()].concat();
        Self {
            sets: vec![0, 1],
            units: vec![3, 1],
            sums: [vec![9, 3], vec![9, 0], vec![9 * float, -3 * float], vec![9 * whole, 3 * whole], vec![3, 1]],
            distinct: vec![vec![1; 16 * 9], vec![2; 16 * 3]],
            weights: vec![pair(660, 9 << 20), [pair(0, 2 << 20), pair(1, 1 << 20)].concat()],
        }
    }

    fn batch(&self) -> RecordBatch {
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![Some("a"), None])),
            Arc::new(arrow::array::UInt64Array::from(self.sets.clone())),
            Arc::new(Int64Array::from(self.units.clone())),
        ];
        for sums in &self.sums {
            let sums = Decimal128Array::from(sums.clone()).with_precision_and_scale(38, 0).unwrap();
            columns.push(Arc::new(sums));
        }
        for bytes in [&self.distinct, &self.weights] {
            columns.push(Arc::new(LargeBinaryArray::from_iter_values(bytes)));
        }
        RecordBatch::try_new(columns_of_partial_sums(&spec()), columns).unwrap()
    }

    fn refused(change: impl Fn(&mut Self)) -> NotPartial {
        let mut partial = Self::most();
        change(&mut partial);
        check_partial_sums(&spec(), &partial.batch()).unwrap_err()
    }
}

#[test]
fn sums_that_bounded_units_can_make_are_taken() {
    check_partial_sums(&spec(), &Partial::most().batch()).unwrap();
    check_partial_sums(&spec(), &RecordBatch::new_empty(columns_of_partial_sums(&spec()))).unwrap();
    // With epochs a unit is bounded in each.
    let mut epochs = spec();
    let by_dataset = BTreeMap::from([("united.flights".parse().unwrap(), BTreeSet::from([516, 517]))]);
    epochs.epochs = Some(EpochsRead { kind: EpochKind::Month, by_dataset });
    let mut twice = Partial::most();
    twice.sums[0] = vec![18, 6];
    check_partial_sums(&spec(), &twice.batch()).unwrap_err();
    check_partial_sums(&epochs, &twice.batch()).unwrap();
    twice.sums[4] = vec![4, 1];
    check_partial_sums(&epochs, &twice.batch()).unwrap_err();
}

#[test]
fn sums_that_no_bounded_units_can_make_are_refused() {
    let past = |name: &str| NotPartial::PastBounds(name.to_owned());
    let garbled = |name: &str| NotPartial::Garbled(name.to_owned());
    assert_eq!(Partial::refused(|of| of.units[1] = -1), past("units"));
    assert_eq!(Partial::refused(|of| of.units[1] = i64::MAX), past("units"));
    assert_eq!(Partial::refused(|of| of.sets[1] = 2), NotPartial::Groups);
    for measure in 0..5 {
        let name = format!("measure{measure}");
        assert_eq!(Partial::refused(|of| of.sums[measure][0] += 1), past(&name));
        assert_eq!(Partial::refused(|of| of.sums[measure][1] = -i128::from(i64::MAX)), past(&name));
        assert_eq!(Partial::refused(|of| of.sums[measure][0] = 10i128.pow(38) - 1), past(&name));
    }
    assert_eq!(Partial::refused(|of| of.sums[0][1] = -1), past("measure0"));
    assert_eq!(Partial::refused(|of| of.distinct[1] = vec![0; 16 * 4]), past("measure5"));
    assert_eq!(Partial::refused(|of| of.distinct[1] = vec![0; 17]), garbled("measure5"));
    assert_eq!(Partial::refused(|of| of.weights[1] = vec![0; 11]), garbled("histogram0"));
    assert_eq!(Partial::refused(|of| of.weights[1][3] = 1), garbled("histogram0"));
    assert_eq!(Partial::refused(|of| of.weights[1][4] = 1), past("histogram0"));
    // Nothing of a group that nobody is in.
    assert_eq!(Partial::refused(|of| of.units[1] = 0), past("measure0"));
}

#[test]
fn other_columns_are_refused() {
    let batch = Partial::most().batch();
    let fewer = batch.project(&(0..batch.num_columns() - 1).collect::<Vec<_>>()).unwrap();
    assert_eq!(check_partial_sums(&spec(), &fewer).unwrap_err(), NotPartial::Columns);
    let mut order: Vec<usize> = (0..batch.num_columns()).collect();
    order.swap(3, 4);
    assert_eq!(check_partial_sums(&spec(), &batch.project(&order).unwrap()).unwrap_err(), NotPartial::Columns);
    // Rows of the data are no partial sums.
    let rows = RecordBatch::new_empty(input(&spec()).schema());
    assert_eq!(check_partial_sums(&spec(), &rows).unwrap_err(), NotPartial::Columns);
    // Without GROUP BY there is one group.
    let mut alone = spec();
    (alone.keys, alone.sets) = (Vec::new(), None);
    alone.measures.truncate(1);
    alone.histograms.clear();
    let of = |units: Vec<i64>, rows: Vec<i128>| {
        let rows = Decimal128Array::from(rows).with_precision_and_scale(38, 0).unwrap();
        RecordBatch::try_new(
            columns_of_partial_sums(&alone),
            vec![Arc::new(Int64Array::from(units)) as ArrayRef, Arc::new(rows)],
        )
        .unwrap()
    };
    check_partial_sums(&alone, &of(vec![2], vec![6])).unwrap();
    assert_eq!(check_partial_sums(&alone, &of(vec![2, 2], vec![6, 6])).unwrap_err(), NotPartial::Groups);
}
