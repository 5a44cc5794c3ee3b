//! Every path against the reference: a plain computation that was there first, kept for this.

mod dense;
mod reference;
mod reference_units;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int32Array, Int64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::execution::TaskContext;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::physical_plan::aggregates::group_values::new_group_values;
use datafusion::physical_plan::aggregates::order::GroupOrdering;
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::SessionConfig;
use proptest::prelude::*;

use super::sorted::are_apart;
use super::{BoundExec, Contributions, GroupSums, Meeting, Sums};
use crate::policy::EpochKind;
use crate::release::draw::Merge;
use crate::release::{
    Candidates, ContributionBounds, EpochsRead, GroupingSets, Groups, Histogram, Lattice, Measure, MeasureKind,
    ReleaseSpec,
};

/// A row: unit, epoch, two keys, a value, a filter.
#[derive(Debug, Clone)]
struct Row {
    unit: i64,
    epoch: i32,
    key: Option<u8>,
    other: i64,
    value: Option<f64>,
    passes: Option<bool>,
}

fn row() -> impl Strategy<Value = Row> {
    let value = prop_oneof![
        6 => (-5.0..5.0f64).prop_map(Some),
        2 => (-2..3i8).prop_map(|whole| Some(f64::from(whole))),
        1 => Just(None),
        1 => Just(Some(f64::NAN)),
    ];
    (0..7i64, 0..3i32, prop::option::weighted(0.9, 0..5u8), 0..3i64, value, prop::option::weighted(0.9, any::<bool>()))
        .prop_map(|(unit, epoch, key, other, value, passes)| Row { unit, epoch, key, other, value, passes })
}

/// Rows of which some come many times, one after the other, with other values: more than one record holds, too.
fn rows() -> impl Strategy<Value = Vec<Row>> {
    let times = prop_oneof![12 => Just(1usize), 12 => 2..6usize, 1 => 250..520usize];
    prop::collection::vec((row(), times), 0..150).prop_map(|rows| {
        let again = |(row, times): &(Row, usize)| {
            let row = row.clone();
            (0..*times).map(move |at| {
                let value = row.value.map(|value| if at % 7 == 3 { f64::NAN } else { value - 0.3 * (at % 5) as f64 });
                Row { value, passes: row.passes.map(|passes| passes ^ (at % 3 == 1)), ..row.clone() }
            })
        };
        rows.iter().flat_map(again).collect()
    })
}

/// How the input is laid out.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools, reason = "each is drawn by itself")]
struct Layout {
    text_units: bool,
    dictionaries: bool,
    epochs: bool,
    /// Whether something is of single rows, so that no runs are made.
    single_rows: bool,
}

fn layout() -> impl Strategy<Value = Layout> {
    any::<(bool, bool, bool, bool)>().prop_map(|(text_units, dictionaries, epochs, single_rows)| Layout {
        text_units,
        dictionaries,
        epochs,
        single_rows,
    })
}

fn spec(layout: Layout, bounds: ContributionBounds, sets: bool) -> ReleaseSpec {
    let text = key_type(layout);
    let lattice = |centred| Lattice::new(&DataType::Float64, -1.0, 3.0, centred).unwrap();
    let sum = |centred, filter| Measure { kind: MeasureKind::Sum { argument: 0, lattice: lattice(centred) }, filter };
    let candidates = Candidates { lo: -1.0, step: 0.25, count: 17 };
    let mut keys = vec![Arc::new(Field::new("key", text, true)), Arc::new(Field::new("other", DataType::Int64, true))];
    if sets {
        keys.push(Arc::new(Field::new("set", DataType::Int32, true)));
    }
    let mut measures = vec![
        Measure { kind: MeasureKind::Rows, filter: None },
        Measure { kind: MeasureKind::Rows, filter: Some(0) },
        Measure { kind: MeasureKind::Values { argument: 0 }, filter: None },
        sum(false, None),
        sum(true, Some(0)),
        Measure { kind: MeasureKind::Units, filter: Some(0) },
    ];
    let mut histograms = Vec::new();
    if layout.single_rows {
        measures.push(Measure { kind: MeasureKind::Distinct { argument: 0 }, filter: None });
        histograms.push(Histogram { argument: 0, filter: None, candidates });
        histograms.push(Histogram { argument: 0, filter: Some(0), candidates });
    }
    ReleaseSpec {
        unit_domain: "person".into(),
        keys,
        arguments: 1,
        filters: 1,
        measures,
        histograms,
        quantiles: Vec::new(),
        outputs: Vec::new(),
        bounds,
        min_group_size: 1,
        groups: Groups::Private,
        sets: sets.then(|| GroupingSets { key: 2, groups: vec![(0, bounds.groups - 1), (1, 1)] }),
        epochs: layout.epochs.then(|| EpochsRead { kind: EpochKind::Month, by_dataset: BTreeMap::new() }),
    }
}

fn key_type(layout: Layout) -> DataType {
    if layout.dictionaries {
        DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
    } else {
        DataType::Utf8View
    }
}

fn input(layout: Layout, spec: &ReleaseSpec) -> SchemaRef {
    let unit = if layout.text_units { DataType::Utf8View } else { DataType::Int64 };
    let mut fields = vec![Field::new("unit", unit, false)];
    if layout.epochs {
        fields.push(Field::new("epoch", DataType::Int32, false));
    }
    fields.extend(spec.keys.iter().map(|key| key.as_ref().clone()));
    fields.push(Field::new("argument0", DataType::Float64, true));
    fields.push(Field::new("filter0", DataType::Boolean, true));
    Arc::new(Schema::new(fields))
}

/// Names of units in the order of their numbers, some of them too long for a view to hold.
fn named(unit: i64) -> String {
    match unit % 4 {
        0 => format!("u{unit}"),
        1 => format!("u {unit} of eighteen"),
        2 => format!("u {unit} of the twenty-four"),
        _ => format!("u{unit} with a long name of its own"),
    }
}

fn batch(layout: Layout, schema: &SchemaRef, sets: bool, rows: &[Row]) -> RecordBatch {
    let text = |key: &Option<u8>| {
        key.map(|key| match key {
            // Of one length, and alike at their beginning.
            3 => "a key that no view holds whole".into(),
            4 => "a key that no view holds, whole".into(),
            _ => format!("k{key}"),
        })
    };
    let key: ArrayRef = Arc::new(rows.iter().map(|row| text(&row.key)).collect::<StringArray>());
    let unit: ArrayRef = if layout.text_units {
        Arc::new(rows.iter().map(|row| Some(named(row.unit))).collect::<StringArray>())
    } else {
        Arc::new(rows.iter().map(|row| row.unit - 3).collect::<Int64Array>())
    };
    let mut columns = vec![cast(&unit, schema.field(0).data_type()).unwrap()];
    if layout.epochs {
        columns.push(Arc::new(rows.iter().map(|row| row.epoch - 1).collect::<Int32Array>()));
    }
    columns.push(cast(&key, &key_type(layout)).unwrap());
    columns.push(Arc::new(rows.iter().map(|row| row.other).collect::<Int64Array>()));
    if sets {
        columns.push(Arc::new(rows.iter().map(|row| i32::from(row.other == 2)).collect::<Int32Array>()));
    }
    columns.push(Arc::new(rows.iter().map(|row| row.value).collect::<Float64Array>()));
    columns.push(Arc::new(rows.iter().map(|row| row.passes).collect::<BooleanArray>()));
    RecordBatch::try_new(Arc::clone(schema), columns).unwrap()
}

type Group = (i64, Vec<Vec<i128>>, Vec<Vec<(u32, u64)>>);

/// What each group has, so that the order of groups does not matter; groups in which nothing counts are left out.
fn by_group(sums: &GroupSums) -> BTreeMap<String, Group> {
    let key = |at: usize| {
        let text = |column: &ArrayRef| {
            let column = cast(column, &DataType::Utf8).unwrap();
            let column = column.as_string::<i32>();
            if column.is_null(at) { "NULL".to_owned() } else { column.value(at).to_owned() }
        };
        sums.keys.iter().map(text).collect::<Vec<_>>().join("|")
    };
    let measure = |sums: &Sums, at: usize| match sums {
        Sums::Whole(sums) => vec![sums[at]],
        Sums::Values(groups) => groups[at].iter().map(|value| value.cast_signed()).collect(),
    };
    (0..sums.units.len())
        .filter(|at| sums.units[*at] > 0)
        .map(|at| {
            let measures = sums.measures.iter().map(|sums| measure(sums, at)).collect();
            let histograms = sums.histograms.iter().map(|groups| groups[at].clone()).collect();
            (key(at), (sums.units[at], measures, histograms))
        })
        .collect()
}

const KEY: [u8; 16] = [7; 16];

/// By the operator itself, over partitions of batches.
fn by_operator(
    spec: &Arc<ReleaseSpec>,
    schema: &SchemaRef,
    partitions: &[Vec<RecordBatch>],
    meeting: Meeting,
    memory: usize,
) -> BTreeMap<String, Group> {
    try_operator(spec, schema, partitions, meeting, memory, true).unwrap()
}

/// The same, where there may be no disk to write to, or not room enough.
fn try_operator(
    spec: &Arc<ReleaseSpec>,
    schema: &SchemaRef,
    partitions: &[Vec<RecordBatch>],
    meeting: Meeting,
    memory: usize,
    has_disk: bool,
) -> datafusion::common::Result<BTreeMap<String, Group>> {
    let source = MemorySourceConfig::try_new_exec(partitions, Arc::clone(schema), None).unwrap();
    let exec: Arc<dyn ExecutionPlan> = Arc::new(BoundExec::new(source, Arc::clone(spec), KEY, meeting));
    let disk = if has_disk { DiskManagerMode::OsTmpDirectory } else { DiskManagerMode::Disabled };
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_limit(memory, 1.0)
        .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(disk))
        .build_arc()
        .unwrap();
    let context = TaskContext::default().with_session_config(SessionConfig::new()).with_runtime(runtime);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let batches = runtime.block_on(async {
        let exec = if exec.properties().output_partitioning().partition_count() == 1 {
            exec
        } else {
            Arc::new(datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec::new(exec))
        };
        collect(exec, Arc::new(context)).await
    })?;
    let mut merge = Merge::new(Arc::clone(spec)).unwrap();
    for batch in &batches {
        merge.add(batch).unwrap();
    }
    Ok(by_group(&merge.finish().unwrap()))
}

/// The reference hashes rows of keys as they are encoded, the operator as their type allows: the two agree on what is kept
/// where nothing has to be chosen, and in how much is kept where it has.
fn is_chosen(spec: &ReleaseSpec, rows: &[Row]) -> bool {
    type Group = (Option<u8>, i64);
    let mut groups: BTreeMap<(i64, i32), BTreeSet<Group>> = BTreeMap::new();
    let mut values: BTreeMap<(i64, i32, Group), BTreeSet<u64>> = BTreeMap::new();
    for row in rows {
        let epoch = if spec.epochs.is_some() { row.epoch } else { 0 };
        groups.entry((row.unit, epoch)).or_default().insert((row.key, row.other));
        if let Some(value) = row.value.filter(|value| !value.is_nan()) {
            values.entry((row.unit, epoch, (row.key, row.other))).or_default().insert((value + 0.0).to_bits());
        }
    }
    let least = spec
        .sets
        .as_ref()
        .map_or(spec.bounds.groups, |sets| sets.groups.iter().map(|(_, groups)| *groups).min().unwrap_or_default());
    groups.values().any(|groups| groups.len() as u64 > least)
        || (!spec.histograms.is_empty() && values.values().any(|values| values.len() as u64 > spec.bounds.rows))
}

fn split(batches: Vec<RecordBatch>, partitions: usize) -> Vec<Vec<RecordBatch>> {
    let mut split = vec![Vec::new(); partitions];
    for (at, batch) in batches.into_iter().enumerate() {
        split[at % partitions].push(batch);
    }
    split
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Whatever the layout, the split and the order of rows: all paths give the same sums, and where nothing is chosen these
    /// are the reference's.
    #[test]
    fn every_path_bounds_alike(
        rows in rows(),
        layout in layout(),
        sets in any::<bool>(),
        groups in 2..9u64,
        per_group in 1..6u64,
        total in prop::option::of(1..20u64),
        batch_rows in prop_oneof![3 => 1..60usize, 1 => Just(1_000)],
        partitions in 1..4usize,
    ) {
        let bounds = ContributionBounds { groups, rows: per_group, total_rows: total.map(|total| total.max(per_group)) };
        let spec = Arc::new(spec(layout, bounds, sets));
        let schema = input(layout, &spec);
        let batches = |rows: &[Row]| -> Vec<RecordBatch> {
            rows.chunks(batch_rows).map(|rows| batch(layout, &schema, sets, rows)).collect()
        };
        let unsorted = by_operator(&spec, &schema, &split(batches(&rows), partitions), Meeting::Inside, 1 << 30);

        let disk = Arc::new(DiskManagerBuilder::default().build().unwrap());
        let mut spilled = Contributions::new(Arc::clone(&spec), KEY, &schema).unwrap();
        for (at, batch) in batches(&rows).iter().enumerate() {
            spilled.add(batch).unwrap();
            if at % 3 == 1 {
                spilled.spill(&disk).unwrap();
            }
        }
        prop_assert_eq!(&unsorted, &by_group(&spilled.finish().unwrap()), "by way of the disk");

        let mut sorted = rows.clone();
        sorted.sort_by_key(|row| row.unit);
        let one = by_operator(&spec, &schema, &[batches(&sorted)], Meeting::Inside, 1 << 30);
        prop_assert_eq!(&unsorted, &one, "in another order");
        // Partitions that follow each other, and one that does not.
        let all = batches(&sorted);
        let cut = all.len() / 2;
        let following = [all[..cut].to_vec(), all[cut..].to_vec()];
        let in_order = by_operator(&spec, &schema, &following, Meeting::InOrder, 1 << 30);
        prop_assert_eq!(&unsorted, &in_order, "in order");
        let disordered = by_operator(&spec, &schema, &split(batches(&rows), partitions), Meeting::InOrder, 1 << 30);
        prop_assert_eq!(&unsorted, &disordered, "declared in order, and not");

        if !layout.epochs {
            sorted.dedup_by_key(|row| row.unit);
            let single = split(batches(&sorted), partitions);
            let alone = by_operator(&spec, &schema, &single, Meeting::Alone, 1 << 30);
            let met = by_operator(&spec, &schema, &single, Meeting::Inside, 1 << 30);
            prop_assert_eq!(&alone, &met, "one row a unit");
        }

        let mut reference = reference::Contributions::new(Arc::clone(&spec), KEY, &schema).unwrap();
        for batch in batches(&rows) {
            reference.add(&batch).unwrap();
        }
        let reference = by_group(&reference.finish().unwrap());
        if is_chosen(&spec, &rows) {
            let units = |groups: &BTreeMap<String, Group>| groups.values().map(|group| group.0).sum::<i64>();
            prop_assert!(layout.epochs || units(&unsorted) == units(&reference));
        } else {
            prop_assert_eq!(&unsorted, &reference, "by the reference");
        }
    }
}

#[test]
fn rows_go_to_disk_when_memory_is_short() {
    let layout = Layout { text_units: true, dictionaries: false, epochs: false, single_rows: true };
    let bounds = ContributionBounds { groups: 3, rows: 2, total_rows: None };
    let spec = Arc::new(spec(layout, bounds, false));
    let schema = input(layout, &spec);
    let row = |at: i64| {
        let value = (at % 11 > 0).then_some((at % 37) as f64 / 7.0 - 2.0);
        Row {
            unit: at * 7919 % 5003,
            epoch: 0,
            key: Some((at % 5) as u8),
            other: at % 3,
            value,
            passes: Some(at % 2 == 0),
        }
    };
    let rows: Vec<Row> = (0..60_000).map(row).collect();
    let batches: Vec<_> = rows.chunks(1_000).map(|rows| batch(layout, &schema, false, rows)).collect();
    let partitions = split(batches, 2);
    let expected = by_operator(&spec, &schema, &partitions, Meeting::Inside, 1 << 30);
    let little = 3 << 20;
    assert_eq!(by_operator(&spec, &schema, &partitions, Meeting::Inside, little), expected);
    // It was too little: without a disk there is no answer.
    assert!(try_operator(&spec, &schema, &partitions, Meeting::Inside, little, false).is_err());
}

#[test]
fn segments_that_share_more_than_a_border_are_no_order() {
    let sorted_in = |partitions: &[&[i64]]| {
        let layout = Layout { text_units: false, dictionaries: false, epochs: false, single_rows: true };
        let bounds = ContributionBounds { groups: 3, rows: 2, total_rows: None };
        let spec = Arc::new(spec(layout, bounds, false));
        let schema = input(layout, &spec);
        let row = |unit: &i64| Row { unit: *unit, epoch: 0, key: None, other: 0, value: None, passes: None };
        let mut segments = Vec::new();
        for units in partitions {
            let recorder = super::records::Recorder::new(Arc::clone(&spec), KEY, &schema).unwrap();
            let mut sorted = super::sorted::Sorted::new(recorder, super::bounder::Bounder::new(&spec, KEY));
            let rows: Vec<Row> = units.iter().map(row).collect();
            for rows in rows.chunks(2) {
                assert!(sorted.add(&batch(layout, &schema, false, rows)).unwrap());
            }
            segments.extend(sorted.finish().unwrap().segments);
        }
        are_apart(segments)
    };
    assert!(sorted_in(&[&[1, 1, 2, 3, 3], &[3, 4, 5]]));
    assert!(sorted_in(&[&[4, 5, 5], &[1, 2, 4]]));
    assert!(sorted_in(&[&[3, 4, 1, 2, 3], &[]]));
    assert!(!sorted_in(&[&[1, 2, 3], &[2, 4]]));
    assert!(!sorted_in(&[&[1, 2, 5], &[3, 3]]));
    assert!(!sorted_in(&[&[1, 3, 2, 4]]));
}

/// No two pairs of keys have one code, on either side of where pairs have places of their own.
#[test]
fn groups_of_many_keys_are_told_apart() {
    let keys = [DataType::Int64, DataType::Int64, DataType::Utf8View];
    let keys: Vec<_> = keys.into_iter().map(|kind| Arc::new(Field::new("key", kind, true))).collect();
    let mut codes = super::codes::Codes::new(&keys).unwrap();
    let at = [0i64, 1, 2, 254, 255, 256, 257, 300, 511, 512, 65_535, 65_536, 70_000, -5_000, i64::MIN, i64::MAX];
    // So many of each key first that codes pass 256 and 65,536.
    let mut rows: Vec<(i64, i64, i64)> = (0..70_001).map(|key| (key, key, key % 3)).collect();
    for a in at {
        for b in at {
            rows.extend([(a, b, 0), (b, a, 1), (a, b, 2), (a, b, 0)]);
        }
    }
    let mut expected = BTreeMap::new();
    let mut met = Vec::new();
    for rows in rows.chunks(8_192) {
        let text: ArrayRef = Arc::new(rows.iter().map(|row| Some(format!("key {}", row.2))).collect::<StringArray>());
        let columns: Vec<ArrayRef> = vec![
            Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>()),
            Arc::new(rows.iter().map(|row| row.1).collect::<Int64Array>()),
            cast(&text, &DataType::Utf8View).unwrap(),
        ];
        for (row, code) in rows.iter().zip(codes.of(&columns, rows.len()).unwrap()) {
            let known = *expected.entry(*row).or_insert(code);
            assert_eq!(code, known, "{row:?}");
            if code as usize == met.len() {
                met.push(*row);
            }
        }
    }
    assert_eq!((expected.len(), codes.len()), (met.len(), met.len()));
    let keys = codes.keys(0).unwrap();
    let number = |column: &ArrayRef, at: usize| column.as_primitive::<arrow::datatypes::Int64Type>().value(at);
    for (at, row) in met.iter().enumerate() {
        let found = (number(&keys[0], at), number(&keys[1], at), keys[2].as_string_view().value(at));
        assert_eq!(found, (row.0, row.1, format!("key {}", row.2).as_str()));
    }
}

/// Groups while bounding are exactly those of the merge: were they finer, one unit would count twice in a group of the answer.
#[test]
fn groups_are_those_that_the_merge_makes() {
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![
        Some(0.0),
        Some(-0.0),
        Some(f64::NAN),
        Some(-f64::NAN),
        None,
        Some(1.5),
        Some(-1.5),
        Some(1.5),
    ]));
    let whole: ArrayRef =
        Arc::new(Int64Array::from(vec![Some(0), Some(0), None, Some(-1), Some(1), None, Some(1), Some(2)]));
    let text: ArrayRef =
        Arc::new(StringArray::from(vec![Some(""), None, Some("a"), Some("a"), None, Some(""), Some("b"), Some("B")]));
    let coded = |kind| DataType::Dictionary(Box::new(DataType::Int32), Box::new(kind));
    let mut columns = Vec::new();
    for kind in [DataType::Float16, DataType::Float32, DataType::Float64] {
        columns.push(cast(&floats, &kind).unwrap());
    }
    for kind in [DataType::Int8, DataType::Int32, DataType::Date32, DataType::Decimal128(10, 2), DataType::Boolean] {
        let from = if kind == DataType::Date32 { cast(&whole, &DataType::Int32).unwrap() } else { Arc::clone(&whole) };
        columns.push(cast(&from, &kind).unwrap());
    }
    for kind in [DataType::Utf8, DataType::LargeUtf8, DataType::Utf8View, DataType::Binary, coded(DataType::Utf8)] {
        columns.push(cast(&text, &kind).unwrap());
    }
    for key in columns {
        let kind = key.data_type().clone();
        let field = Arc::new(Field::new("key", kind.clone(), true));
        let mut codes = super::codes::Codes::new(std::slice::from_ref(&field)).unwrap();
        let found = codes.of(std::slice::from_ref(&key), key.len()).unwrap();
        let schema = Arc::new(Schema::new(vec![field]));
        let mut merged = new_group_values(schema, &GroupOrdering::None).unwrap();
        let mut expected = Vec::new();
        let one_form = super::codes::one_form_of_floats(&key);
        merged.intern(&[one_form], &mut expected).unwrap();
        for (a, b) in (0..found.len()).flat_map(|a| (0..a).map(move |b| (a, b))) {
            assert_eq!(found[a] == found[b], expected[a] == expected[b], "{kind}: rows {a} and {b}");
        }
        // And what is handed on as the keys of these groups is as many groups again.
        let mut again = Vec::new();
        merged.intern(&codes.keys(0).unwrap(), &mut again).unwrap();
        again.sort_unstable();
        assert_eq!((again, merged.len()), ((0..codes.len()).collect::<Vec<_>>(), codes.len()), "{kind}");
    }
}
