//! Tests of the release: sensitivities and prices.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Extension, LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::collect;
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use datafusion::prelude::{col, lit};
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::*;
use crate::accounting::{Accounting, Cost, Delta, Epsilon, Event, Loss, Rho, Spent};
use crate::engine::{Engine, EngineConfig};
use crate::mechanism::Noise;

fn spec(groups: u64, rows: u64, total_rows: Option<u64>, k: u64) -> ReleaseSpec {
    ReleaseSpec {
        unit_domain: "person".into(),
        keys: Vec::new(),
        arguments: 0,
        filters: 0,
        measures: Vec::new(),
        histograms: Vec::new(),
        quantiles: Vec::new(),
        outputs: Vec::new(),
        bounds: ContributionBounds { groups, rows, total_rows },
        min_group_size: k,
        groups: Groups::Private,
        sets: None,
        epochs: None,
    }
}

fn price(delta: f64) -> Price {
    let rho = Rho::floor_from(0.02).unwrap();
    Price { loss: Loss::Zcdp(rho), delta_selection: Delta::floor_from(delta).unwrap() }
}

#[test]
fn sensitivities_with_and_without_a_total_of_rows() {
    let lattice = Lattice::new(&DataType::Int64, 0.0, 3.0, false).unwrap();
    let three = Measure { kind: MeasureKind::Sum { argument: 0, lattice }, filter: None };
    assert_eq!(spec(8, 5, None, 1).squared_sensitivity(&three), Some(9 * 8 * 25));
    assert_eq!(spec(8, 5, None, 1).absolute_sensitivity(&three), Some(3 * 40));
    assert_eq!(spec(8, 5, Some(12), 1).squared_sensitivity(&three), Some(9 * (2 * 25 + 4)));
    assert_eq!(spec(8, 5, Some(12), 1).absolute_sensitivity(&three), Some(3 * 12));
    assert_eq!(spec(2, 5, Some(99), 1).squared_sensitivity(&rows_measure()), Some(50));
    // A unit is one unit, however many rows it has.
    let units = Measure { kind: MeasureKind::Units, filter: None };
    assert_eq!(spec(8, 5, Some(12), 1).squared_sensitivity(&units), Some(8));
    // R bounds rows, not the distinct values among them.
    let distinct = Measure { kind: MeasureKind::Distinct { argument: 0 }, filter: None };
    assert_eq!(spec(8, 5, Some(12), 1).squared_sensitivity(&distinct), Some(8 * 25));
}

#[test]
fn the_noise_of_a_selection_is_as_designed() {
    for (l0, variance, tau) in [(8, 200, 90), (1, 25, 31)] {
        let plan = NoisePlan::new(&spec(l0, 1, None, 10), price(1e-9)).unwrap();
        let Some(Noise::Gaussian(noise)) = plan.units() else { panic!("Gaussian noise") };
        let (numerator, denominator) = noise.variance();
        assert_eq!(numerator, variance * denominator);
        assert_eq!(plan.selection().unwrap().tau, tau);
        assert!(plan.cost().loss.steps() <= price(1e-9).loss.steps());
    }
    assert!(matches!(NoisePlan::new(&spec(8, 1, None, 10), price(0.0)), Err(PriceError::Selection(_))));
}

/// A release of `measures` over one integer key, with a float argument.
fn keyed(groups: u64, rows: u64, total_rows: Option<u64>, k: u64, measures: Vec<Measure>) -> Arc<ReleaseSpec> {
    Arc::new(ReleaseSpec {
        keys: vec![Arc::new(Field::new("g", DataType::Int64, true))],
        arguments: 1,
        measures,
        ..spec(groups, rows, total_rows, k)
    })
}

fn sum_of(lo: f64, hi: f64, centred: bool) -> Measure {
    let lattice = Lattice::new(&DataType::Float64, lo, hi, centred).unwrap();
    Measure { kind: MeasureKind::Sum { argument: 0, lattice }, filter: None }
}

fn rows_measure() -> Measure {
    Measure { kind: MeasureKind::Rows, filter: None }
}

type Row = (i64, i64, Option<f64>);

/// The exact sums of rows (unit, group, value), gathered in batches of `batch` rows.
fn exact(spec: &Arc<ReleaseSpec>, rows: &[Row], batch: usize) -> GroupSums {
    let schema = Arc::new(Schema::new(vec![
        Field::new("unit", DataType::Int64, true),
        Field::new("key0", DataType::Int64, true),
        Field::new("argument0", DataType::Float64, true),
    ]));
    let mut contributions = Contributions::new(Arc::clone(spec), [7; 16], &schema).unwrap();
    for rows in rows.chunks(batch) {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(rows.iter().map(|row| Some(row.0)).collect::<Int64Array>()),
            Arc::new(rows.iter().map(|row| Some(row.1)).collect::<Int64Array>()),
            Arc::new(rows.iter().map(|row| row.2).collect::<Float64Array>()),
        ];
        contributions.add(&RecordBatch::try_new(Arc::clone(&schema), columns).unwrap()).unwrap();
    }
    contributions.finish().unwrap()
}

/// What a group has of a measure: its sum, or how many distinct values.
fn of_group(sums: &Sums, at: usize) -> i128 {
    match sums {
        Sums::Whole(sums) => sums[at],
        Sums::Values(groups) => groups[at].len() as i128,
    }
}

/// The sums by group, so that the order of groups does not matter.
fn by_group(sums: &GroupSums) -> BTreeMap<i64, (i64, Vec<i128>)> {
    let keys = sums.keys[0].as_primitive::<Int64Type>();
    (0..keys.len())
        .map(|at| (keys.value(at), (sums.units[at], sums.measures.iter().map(|sums| of_group(sums, at)).collect())))
        .collect()
}

#[test]
fn a_unit_in_a_thousand_groups_lifts_at_most_l0_of_them_to_k() {
    const K: i64 = 5;
    let spec = keyed(8, 1, None, K as u64, vec![rows_measure()]);
    // k − 1 units of their own in each group, and one that is everywhere.
    let mut rows: Vec<Row> = Vec::new();
    for group in 0..1_000 {
        rows.extend((1..K).map(|unit| (group * K + unit, group, None)));
        rows.push((-1, group, None));
    }
    let in_order = by_group(&exact(&spec, &rows, 1_000));
    assert_eq!(in_order.values().filter(|(units, _)| *units == K).count(), 8);
    assert!(in_order.values().all(|(units, _)| *units == K || *units == K - 1));
    // Neither the order of rows nor the size of batches decides which.
    rows.shuffle(&mut StdRng::seed_from_u64(1));
    assert_eq!(by_group(&exact(&spec, &rows, 77)), in_order);
    rows.reverse();
    assert_eq!(by_group(&exact(&spec, &rows, 4_000)), in_order);
}

#[test]
fn a_heavy_unit_is_scaled_down_and_rounded_towards_zero() {
    let spec = keyed(8, 3, None, 1, vec![rows_measure(), sum_of(-1.0, 1.0, false)]);
    let rows: Vec<Row> = (0..10).map(|_| (1, 1, Some(-1.0))).chain([(2, 1, Some(0.5)), (2, 2, None)]).collect();
    let sums = by_group(&exact(&spec, &rows, 4));
    let bound = sum_of(-1.0, 1.0, false).bound() as i128;
    // Ten rows count as three, and their sum as three tenths of itself; a NULL is a row without a value.
    assert_eq!(sums[&1], (2, vec![4, -3 * bound + bound / 2]));
    assert_eq!(sums[&2], (1, vec![1, 0]));
    // NaN is no value; infinities are clamped.
    let rows = [(1, 1, Some(f64::NAN)), (1, 1, Some(f64::INFINITY)), (1, 1, Some(0.1))];
    let tenth = (0.1 / sum_step()).trunc() as i128;
    assert_eq!(by_group(&exact(&spec, &rows, 4))[&1], (1, vec![3, bound + tenth]));
}

fn sum_step() -> f64 {
    let MeasureKind::Sum { lattice, .. } = sum_of(-1.0, 1.0, false).kind else { panic!("a sum") };
    lattice.describe().step
}

proptest! {
    /// The true sensitivity of every integer before noise stays within the planned bound, for any data and any unit.
    #[test]
    fn one_unit_moves_no_measure_further_than_planned(
        rows in prop::collection::vec((0..6i64, 0..8i64, prop::option::of(-5.0..5.0f64)), 0..120),
        groups in 1..5u64,
        per_group in 1..6u64,
        total in prop::option::of(1..20u64),
        removed in 0..6i64,
    ) {
        let total = total.map(|total| total.max(per_group));
        let measures = vec![
            rows_measure(),
            Measure { kind: MeasureKind::Values { argument: 0 }, filter: None },
            sum_of(-1.0, 3.0, false),
            sum_of(-1.0, 3.0, true),
            Measure { kind: MeasureKind::Units, filter: None },
            Measure { kind: MeasureKind::Distinct { argument: 0 }, filter: None },
        ];
        let spec = keyed(groups, per_group, total, 1, measures);
        let without: Vec<Row> = rows.iter().copied().filter(|row| row.0 != removed).collect();
        let (with, without) = (by_group(&exact(&spec, &rows, 50)), by_group(&exact(&spec, &without, 31)));
        let nothing = (0, vec![0; spec.measures.len()]);
        let pairs: Vec<_> = with.iter().map(|(group, with)| (with, without.get(group).unwrap_or(&nothing))).collect();
        let moved: Vec<i64> = pairs.iter().map(|(with, without)| with.0 - without.0).collect();
        prop_assert!(moved.iter().all(|moved| (0..=1).contains(moved)));
        prop_assert!(moved.iter().sum::<i64>() as u64 <= groups);
        for (at, measure) in spec.measures.iter().enumerate() {
            let moved = || pairs.iter().map(|(with, without)| (with.1[at] - without.1[at]).unsigned_abs());
            prop_assert!(moved().map(|moved| moved * moved).sum::<u128>() <= spec.squared_sensitivity(measure).unwrap());
            prop_assert!(moved().sum::<u128>() <= spec.absolute_sensitivity(measure).unwrap());
        }
    }

    /// Without a unit's rows no candidate's score in any group moves by more than Δ, nor in more than L0 groups.
    #[test]
    fn a_unit_moves_scores_of_quantiles_within_their_sensitivity(
        rows in prop::collection::vec((0..6i64, 0..7i64, prop::option::of(-2.0..6.0f64)), 0..200),
        groups in 1..5u64,
        per_group in 1..6u64,
        total in prop::option::of(1..20u64),
        removed in 0..6i64,
        millionths in 0..=1_000_000u32,
    ) {
        let candidates = Candidates { lo: -1.0, step: 0.25, count: 17 };
        let quantile = Quantile { histogram: 0, millionths };
        let mut spec = keyed(groups, per_group, total.map(|total| total.max(per_group)), 1, Vec::new()).as_ref().clone();
        spec.histograms = vec![Histogram { argument: 0, filter: None, candidates }];
        spec.quantiles = vec![quantile];
        let spec = Arc::new(spec);
        let without: Vec<Row> = rows.iter().copied().filter(|row| row.0 != removed).collect();
        // The score of every candidate, signed, in every group.
        let scores = |sums: &GroupSums| -> BTreeMap<i64, Vec<i128>> {
            let keys = sums.keys[0].as_primitive::<Int64Type>();
            (0..keys.len()).map(|at| {
                let weights = &sums.histograms[0][at];
                let side = |keep: &dyn Fn(u32) -> bool| -> i128 {
                    weights.iter().filter(|(of, _)| keep(*of)).map(|(_, weight)| i128::from(*weight)).sum()
                };
                let p = i128::from(millionths);
                let score = |v: u32| {
                    let (below, at, above) = (side(&|of| of < v), side(&|of| of == v), side(&|of| of > v));
                    let (low, high) = ((1_000_000 - p) * below - p * (at + above), p * above - (1_000_000 - p) * (below + at));
                    -low.max(high).max(0)
                };
                (keys.value(at), (0..candidates.count).map(score).collect())
            }).collect()
        };
        let (with, without) = (scores(&exact(&spec, &rows, 50)), scores(&exact(&spec, &without, 31)));
        let nothing = vec![0; candidates.count as usize];
        let bound = quantile.sensitivity(&spec.bounds);
        let mut moved = 0;
        for (group, with) in &with {
            let without = without.get(group).unwrap_or(&nothing);
            moved += u64::from(with != without);
            prop_assert!(with.iter().zip(without).all(|(a, b)| a.abs_diff(*b) <= bound));
        }
        prop_assert!(moved <= groups);
    }

    /// No value gives an integer past the bound.
    #[test]
    fn a_lattice_keeps_its_bound(a in -1e9..1e9f64, width in 1e-6..1e9f64, centred: bool, value: f64, whole: i64) {
        let lattice = Lattice::new(&DataType::Float64, a, a + width, centred).unwrap();
        let (mut steps, edges) = (Vec::new(), [value, a, a + width, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 5e-324]);
        let values: ArrayRef = Arc::new(Float64Array::from(edges.to_vec()));
        lattice.steps(&values, &mut steps).unwrap();
        prop_assert!(steps.iter().all(|step| u128::from(step.unsigned_abs()) <= lattice.bound()));
        let lattice = Lattice::new(&DataType::Int64, a.floor(), (a + width).ceil(), centred).unwrap();
        let values: ArrayRef = Arc::new(Int64Array::from(vec![whole, i64::MIN, i64::MAX, 0]));
        lattice.steps(&values, &mut steps).unwrap();
        prop_assert!(steps.iter().all(|step| u128::from(step.unsigned_abs()) <= lattice.bound()));
    }

    /// Whole values are rounded towards zero, whatever their sign and however wide the step.
    #[test]
    fn steps_of_whole_values_are_cut_off(reach in 1i64..1 << 52, values in prop::collection::vec(any::<i64>(), 1..20)) {
        let lattice = Lattice::new(&DataType::Int64, -(reach as f64), reach as f64, false).unwrap();
        let unit = lattice.describe().step as i64;
        let mut steps = Vec::new();
        let array: ArrayRef = Arc::new(Int64Array::from(values.clone()));
        lattice.steps(&array, &mut steps).unwrap();
        let expected: Vec<i64> = values.iter().map(|value| (*value).clamp(-reach, reach) / unit).collect();
        prop_assert_eq!(steps, expected);
    }
}

/// Draws a release whose cells have these unit counts, and says which cells are shown.
fn shown(spec: &Arc<ReleaseSpec>, noise: &NoisePlan, units: &[i64], rng: &mut StdRng) -> Vec<i64> {
    let sums = GroupSums {
        keys: vec![Arc::new((0..units.len() as i64).map(Some).collect::<Int64Array>())],
        units: units.to_vec(),
        measures: Vec::new(),
        histograms: Vec::new(),
    };
    let batch = draw(spec, noise, sums, rng).unwrap();
    batch.column(0).as_primitive::<Int64Type>().values().to_vec()
}

/// The generator is seeded, so that this test cannot fail by chance; the margin is six standard errors.
#[test]
fn a_group_is_released_as_often_as_the_formula_says_and_never_below_k() {
    const K: u64 = 20;
    const DRAWS: usize = 20_000;
    let spec = keyed(1, 1, None, K, Vec::new());
    let noise = NoisePlan::new(&spec, price(1e-3)).unwrap();
    let selection = noise.selection().unwrap();
    let Some(law) = noise.units() else { panic!("units are counted") };
    assert!(law.tail(selection.tau) <= 1e-3, "at n = k a group is shown with probability at most delta");
    let units: Vec<i64> = (0..=2 * K as i64).collect();
    let mut rng = StdRng::seed_from_u64(2013);
    let mut times = vec![0usize; units.len()];
    for _ in 0..DRAWS {
        for group in shown(&spec, &noise, &units, &mut rng) {
            times[group as usize] += 1;
        }
    }
    for (units, times) in units.iter().zip(times) {
        if *units < K as i64 {
            assert_eq!(times, 0, "{units} units are below the minimum");
            continue;
        }
        // P[n + Z ≥ k + τ]; the law is symmetric about 0.
        let short = i64::try_from(K + selection.tau).unwrap() - units;
        let expected = if short > 0 { law.tail(short as u64) } else { 1.0 - law.tail((1 - short) as u64) };
        let error = 6.0 * (expected * (1.0 - expected) / DRAWS as f64).sqrt() + 1e-3;
        let rate = times as f64 / DRAWS as f64;
        assert!((rate - expected).abs() <= error, "{units} units: {rate} against {expected}");
    }
}

#[test]
fn an_average_between_290_and_310_is_centred() {
    // 400 units, one row each, all about 300: what is left of the noise of a centred sum, and of one that is not.
    let rows: Vec<Row> = (0..400).map(|unit| (unit, 0, Some(299.0 + (unit % 3) as f64))).collect();
    let measures = |centred| {
        vec![sum_of(290.0, 310.0, centred), Measure { kind: MeasureKind::Values { argument: 0 }, filter: None }]
    };
    let half_width = |centred: bool| -> f64 {
        let mut spec = keyed(1, 1, None, 1, measures(centred)).as_ref().clone();
        let (sum, count) = (0, 1);
        spec.outputs = vec![(
            Arc::new(Field::new("a", DataType::Float64, true)),
            Output::Computed { statistic: Statistic::Mean, measures: vec![count, sum] },
        )];
        spec.groups = Groups::Public { keys: vec![vec![ScalarValue::Int64(Some(0))]], cells: 1 };
        let spec = Arc::new(spec);
        let noise = NoisePlan::new(
            &spec,
            Price { loss: Loss::Zcdp(Rho::floor_from(1.0).unwrap()), delta_selection: Delta::ZERO },
        )
        .unwrap();
        let batch = draw(&spec, &noise, exact(&spec, &rows, 100), &mut StdRng::seed_from_u64(3)).unwrap();
        let average = batch.column(1).as_primitive::<Float64Type>().value(0);
        assert!((average - 300.0).abs() < 10.0, "{average}");
        batch.column(2).as_primitive::<Float64Type>().value(0)
    };
    let ratio = half_width(false) / half_width(true);
    assert!((38.0..48.0).contains(&ratio), "{ratio}");
}

#[test]
fn a_median_lies_near_the_middle_and_costs_what_it_says() {
    // 2,001 units of one row, values 0, 0.01 .. 20.
    let rows: Vec<Row> = (0..=2_000).map(|unit| (unit, 0, Some(unit as f64 / 100.0))).collect();
    let mut spec = keyed(1, 1, None, 1, Vec::new()).as_ref().clone();
    let candidates = Candidates::new(0.0, 20.0, Some(0.01)).unwrap();
    assert_eq!((candidates.count, candidates.value(1_000)), (2_001, 10.0));
    spec.histograms = vec![Histogram { argument: 0, filter: None, candidates }];
    spec.quantiles =
        vec![Quantile { histogram: 0, millionths: 500_000 }, Quantile { histogram: 0, millionths: 990_000 }];
    let field = |name: &str| Arc::new(Field::new(name, DataType::Float64, true));
    spec.outputs =
        vec![(field("median"), Output::Quantile { quantile: 0 }), (field("max"), Output::Quantile { quantile: 1 })];
    spec.groups = Groups::Public { keys: vec![vec![ScalarValue::Int64(Some(0))]], cells: 1 };
    let spec = Arc::new(spec);
    let price = Price { loss: Loss::Zcdp(Rho::floor_from(0.5).unwrap()), delta_selection: Delta::ZERO };
    let noise = NoisePlan::new(&spec, price).unwrap();
    assert!(
        noise.cost().loss.steps() <= price.loss.steps() && noise.cost().loss.steps() > price.loss.steps() * 99 / 100
    );
    let mut rng = StdRng::seed_from_u64(7);
    for _ in 0..100 {
        let batch = draw(&spec, &noise, exact(&spec, &rows, 100), &mut rng).unwrap();
        let drawn = |column: usize| batch.column(column).as_primitive::<Float64Type>().value(0);
        // ε_m = √2: a rank that is off by 40 is e^(-0.25·√2·40·2) as likely as the best one.
        assert!((drawn(1) - 10.0).abs() < 0.8, "{}", drawn(1));
        assert!((drawn(2) - 19.8).abs() < 0.8, "{}", drawn(2));
    }
    // Without noise they are the quantiles themselves.
    let batch = draw_exactly(&spec, &noise, exact(&spec, &rows, 100)).unwrap();
    assert_eq!(batch.column(1).as_primitive::<Float64Type>().value(0), 10.0);
    assert_eq!(batch.column(2).as_primitive::<Float64Type>().value(0), 19.8);
}

#[test]
fn public_groups_are_all_there_and_a_release_without_keys_has_one_row() {
    let mut spec = keyed(2, 1, None, 1_000, vec![rows_measure()]).as_ref().clone();
    spec.outputs = vec![(Arc::new(Field::new("n", DataType::Int64, true)), Output::Count { measure: 0 })];
    let keys = [5, 1, 3].map(|key| ScalarValue::Int64(Some(key))).to_vec();
    spec.groups = Groups::Public { keys: vec![keys], cells: 3 };
    let spec = Arc::new(spec);
    let noise = NoisePlan::new(&spec, price(1e-9)).unwrap();
    let merge = Merge::new(Arc::clone(&spec)).unwrap();
    let batch = draw(&spec, &noise, merge.finish().unwrap(), &mut StdRng::seed_from_u64(4)).unwrap();
    assert_eq!(batch.column(0).as_primitive::<Int64Type>().values(), &[5, 1, 3]);
    assert_eq!(batch.column(1).null_count(), 3, "no key has a thousand units");

    let spec = Arc::new(ReleaseSpec {
        keys: Vec::new(),
        groups: Groups::Public { keys: Vec::new(), cells: 1 },
        min_group_size: 1,
        ..spec.as_ref().clone()
    });
    let noise = NoisePlan::new(&spec, price(0.0)).unwrap();
    let sums = Merge::new(Arc::clone(&spec)).unwrap().finish().unwrap();
    assert_eq!(draw(&spec, &noise, sums, &mut StdRng::seed_from_u64(5)).unwrap().num_rows(), 1);
}

/// An expression that fails on a row must not show in the status: the answer is drawn from nothing instead.
#[tokio::test]
async fn a_row_that_fails_does_not_show_in_the_status() {
    let spec = keyed(8, 1, None, 1, vec![rows_measure()]);
    let run = |divisor: i64| {
        let spec = Arc::clone(&spec);
        async move {
            let engine = Engine::new(&EngineConfig::default()).unwrap();
            let row = vec![lit(1i64), lit(divisor)];
            let input = LogicalPlanBuilder::values(vec![row])
                .unwrap()
                .project([
                    col("column1").alias("unit"),
                    (lit(10i64) / col("column2")).alias("key0"),
                    lit(1.0).alias("argument0"),
                ])
                .unwrap()
                .build()
                .unwrap();
            let planner = DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(ReleasePlanner::default())]);
            let alone = planner.create_physical_plan(&input, engine.state()).await.unwrap();
            let alone = collect(alone, engine.state().task_ctx()).await.is_ok();
            let noise = Arc::new(NoisePlan::new(&spec, price(1e-9)).unwrap());
            let node = ReleaseNode::new(input, spec, noise, [1; 16]).unwrap();
            let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
            let plan = planner.create_physical_plan(&plan, engine.state()).await.unwrap();
            let released = collect(plan, engine.state().task_ctx()).await.map(|batches| batches[0].num_rows());
            (alone, released.ok())
        }
    };
    // One unit is below the threshold: no row in either case.
    assert_eq!(run(5).await, (true, Some(0)));
    assert_eq!(run(0).await, (false, Some(0)));
}

/// Two zeros, or two NaNs, that group together would leave the group's bytes, and so other units' choice of groups, to
/// the row that came first.
#[test]
fn float_keys_have_one_zero_and_one_nan() {
    let mut spec = keyed(1, 1, None, 1, vec![rows_measure()]).as_ref().clone();
    spec.keys = vec![Arc::new(Field::new("g", DataType::Float64, true))];
    let spec = Arc::new(spec);
    let schema = Arc::new(Schema::new(vec![
        Field::new("unit", DataType::Int64, true),
        Field::new("key0", DataType::Float64, true),
        Field::new("argument0", DataType::Float64, true),
    ]));
    let other_nan = f64::from_bits(f64::NAN.to_bits() ^ 1);
    let mut contributions = Contributions::new(Arc::clone(&spec), [7; 16], &schema).unwrap();
    let keys = [-0.0, 0.0, f64::NAN, other_nan];
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![1, 2, 3, 4])),
        Arc::new(Float64Array::from(keys.to_vec())),
        Arc::new(Float64Array::from(vec![None::<f64>; 4])),
    ];
    contributions.add(&RecordBatch::try_new(schema, columns).unwrap()).unwrap();
    let sums = contributions.finish().unwrap();
    let bits: Vec<u64> = sums.keys[0].as_primitive::<Float64Type>().values().iter().map(|key| key.to_bits()).collect();
    assert_eq!(bits, [0.0f64.to_bits(), f64::NAN.to_bits()]);
    assert_eq!(sums.units, [2, 2]);
}

proptest! {
    /// The ledger keeps what the release runs: every mechanism, at the very cost that the plan was charged for.
    #[test]
    fn the_events_of_a_plan_are_all_of_its_cost(
        (groups, rows, total_rows) in (1_u64..40, 1_u64..40, prop::option::of(1_u64..400)),
        (k, public) in (1_u64..20, any::<bool>()),
        kinds in prop::collection::vec(0_u8..4, 0..6),
        quantiles in prop::collection::vec(1_u32..1_000_000, 0..3),
        pure in any::<bool>(),
        steps in 1_000_000_u64..3_000_000_000_000,
    ) {
        let measures = kinds.iter().map(|kind| match kind {
            0 => rows_measure(),
            1 => sum_of(-60.0, 600.0, false),
            2 => sum_of(0.0, 1e-3, true),
            _ => Measure { kind: MeasureKind::Units, filter: None },
        });
        let mut spec = ReleaseSpec {
            measures: measures.collect(),
            quantiles: quantiles.into_iter().map(|millionths| Quantile { histogram: 0, millionths }).collect(),
            ..spec(groups, rows, total_rows, k)
        };
        if public {
            spec.groups = Groups::Public { keys: Vec::new(), cells: 1 };
        }
        let loss = if pure { Loss::Pure(Epsilon::from_steps(steps)) } else { Loss::Zcdp(Rho::from_steps(steps)) };
        let accounting = loss.accounting();
        let price = Price { loss, delta_selection: Delta::from_steps(1_000_000_000) };
        // The least prices buy no noise that can be drawn.
        let Ok(plan) = NoisePlan::new(&spec, price) else { return Ok(()) };
        let events = plan.events();

        // Nothing is missing, and nothing is there twice.
        let selects = !public || k > 1;
        prop_assert_eq!(events.len(), spec.measures.len() + spec.quantiles.len() + 2 * usize::from(selects));
        let count = |is: fn(&Event) -> bool| events.iter().filter(|event| is(event)).count();
        prop_assert_eq!(count(|event| matches!(event, Event::Exponential { .. })), spec.quantiles.len());
        prop_assert_eq!(count(|event| matches!(event, Event::Selection { .. })), usize::from(selects));
        let noise = spec.measures.len() + usize::from(selects);
        prop_assert_eq!(count(|event| matches!(event, Event::DiscreteGaussian { .. })), if pure { 0 } else { noise });
        prop_assert_eq!(count(|event| matches!(event, Event::DiscreteLaplace { .. })), if pure { noise } else { 0 });

        // The sum of the events' costs is the plan's, to the step.
        let sum = |accounting| {
            events.iter().try_fold(Spent::nothing(accounting), |sum, event| sum.after(event.cost(accounting)?))
        };
        let same = sum(accounting).map(|Spent { loss, delta }| Cost { loss, delta });
        prop_assert_eq!(same, Some(plan.cost()));
        // A zCDP account is charged no less for the whole of a pure release than its parts cost.
        let Some(in_zcdp) = sum(Accounting::Zcdp) else { return Err(TestCaseError::fail("every event has a rho")) };
        let charged = plan.cost().loss.charged_to(Accounting::Zcdp).map(Loss::steps);
        // Each part is rounded up to a step by itself.
        prop_assert!(charged.is_some_and(|charged| in_zcdp.loss.steps() <= charged + events.len() as u64));
    }
}
