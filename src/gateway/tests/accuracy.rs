//! Whether intervals hold what they say, and what zCDP is worth to a session of many questions.

use std::path::Path;

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::exact::Exact;
use crate::accounting::{Delta, Epsilon, Loss, Rho, rho_for};
use crate::analysis::BoundsRequest;
use crate::release::{GroupSums, NoisePlan, Price, draw, draw_exactly};

fn exact_over(folder: &str) -> Exact {
    Exact::over(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder))
}

fn copy(sums: &GroupSums) -> GroupSums {
    GroupSums {
        keys: sums.keys.clone(),
        units: sums.units.clone(),
        measures: sums.measures.clone(),
        histograms: sums.histograms.clone(),
    }
}

/// The share of draws whose interval holds the bounded statistic, by aggregate, over three shapes of data: delays (skewed,
/// with NULLs), distances (several heaps) and ratings (ten values). The generator is seeded, so that the test cannot fail by
/// chance.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn intervals_hold_the_bounded_statistic_95_times_in_100() {
    const REPEATS: usize = 1_000;
    let exact = exact_over("tests/slt/policies");
    let mut rng = StdRng::seed_from_u64(20_131_224);
    let mut faults = Vec::new();
    for (x, y, table, columns) in [
        (
            "dep_delay",
            "arr_delay",
            "united.flights",
            vec![("dep_delay", [-30.0, 180.0]), ("arr_delay", [-60.0, 180.0])],
        ),
        ("distance", "air_time", "delta.flights", vec![("distance", [0.0, 3_000.0]), ("air_time", [0.0, 500.0])]),
        ("rating", "rating * rating", "movielens.ratings", vec![("rating", [0.5, 5.0])]),
    ] {
        let sql = format!(
            "SELECT count(*), count({x}), count(DISTINCT {x}), sum({x}), avg({x}), var_samp({x}), var_pop({x}), \
             stddev({x}), stddev_pop({x}), covar_samp({x}, {y}), covar_pop({x}, {y}), corr({x}, {y}), \
             regr_slope({y}, {x}), regr_intercept({y}, {x}), count(*) FILTER (WHERE {x} > 10) FROM {table}"
        );
        let bounds = BoundsRequest {
            max_rows_per_unit_per_group: Some(20),
            columns: columns.into_iter().map(|(name, bounds)| (name.to_owned(), bounds)).collect(),
            ..BoundsRequest::default()
        };
        let analysed = exact.analyse_within(&sql, bounds).await.unwrap().unwrap();
        let release = &analysed.releases()[0];
        let (_, sums) = exact.sums(release, &[]).await.unwrap();
        let loss = Loss::Zcdp(Rho::floor_from(40.0).unwrap());
        let noise = NoisePlan::new(&release.spec, Price { loss, delta_selection: Delta::ZERO }).unwrap();
        let truth = draw_exactly(&release.spec, &noise, copy(&sums)).unwrap();
        let outputs = release.spec.outputs.len();
        let mut held = vec![0usize; outputs];
        for _ in 0..REPEATS {
            let drawn = draw(&release.spec, &noise, copy(&sums), &mut rng).unwrap();
            for (output, held) in held.iter_mut().enumerate() {
                let number = |batch: &arrow::record_batch::RecordBatch, column: usize| {
                    let column = cast(batch.column(column), &DataType::Float64).unwrap();
                    let column = column.as_primitive::<Float64Type>().clone();
                    (!column.is_null(0)).then(|| column.value(0))
                };
                let (Some(true_value), Some(value)) = (number(&truth, output), number(&drawn, output)) else {
                    continue;
                };
                let half_width = number(&drawn, outputs + output).unwrap_or(f64::INFINITY);
                *held += usize::from((value - true_value).abs() <= half_width);
            }
        }
        for (held, (field, _)) in held.iter().zip(&release.spec.outputs) {
            let share = *held as f64 / REPEATS as f64;
            if !(0.93..=0.97).contains(&share) {
                faults.push(format!("{table}: {} holds {share}", field.name()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// A session of 100 mixed questions under ε = 4, δ = 1e-6 in all: the noise of zCDP accounting against that of Laplace noise
/// with ε split evenly. Medians over all noised numbers; the noise alone, which is known without a draw.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_of_a_hundred_questions_has_a_third_of_the_error() {
    const QUESTIONS: usize = 100;
    let exact = exact_over("policies/airlines");
    let f = "united.flights";
    let shapes = [
        format!("SELECT count(*) FROM {f}"),
        format!("SELECT origin, count(*) FROM {f} GROUP BY origin"),
        format!("SELECT month, count(*) FROM {f} GROUP BY month"),
        format!("SELECT origin, month, count(*) FROM {f} GROUP BY origin, month"),
        format!("SELECT origin, avg(dep_delay) FROM {f} GROUP BY origin"),
        format!("SELECT month, avg(dep_delay), avg(arr_delay) FROM {f} GROUP BY month"),
        format!("SELECT count(*), avg(distance), stddev(air_time) FROM {f}"),
        format!("SELECT dest, count(*) FROM {f} GROUP BY dest"),
        format!("SELECT dest, avg(arr_delay) FROM {f} GROUP BY dest"),
        format!("SELECT origin, month, sum(distance) FROM {f} GROUP BY ROLLUP (origin, month)"),
    ];
    let whole = rho_for(Epsilon::floor_from(4.0).unwrap(), Delta::floor_from(5e-7).unwrap());
    let zcdp = Loss::Zcdp(Rho::from_steps(whole.steps() / QUESTIONS as u64));
    let pure = Loss::Pure(Epsilon::floor_from(4.0 / QUESTIONS as f64).unwrap());
    let delta_selection = Delta::floor_from(5e-7 / QUESTIONS as f64).unwrap();
    let mut errors = [Vec::new(), Vec::new()];
    for sql in &shapes {
        let analysed = exact.analyse(sql).await.unwrap().unwrap();
        for release in analysed.releases() {
            for (loss, errors) in [zcdp, pure].into_iter().zip(&mut errors) {
                let noise = NoisePlan::new(&release.spec, Price { loss, delta_selection }).unwrap();
                let units = noise.units().into_iter().map(|law| (law, 1.0));
                let measures = noise.measures().iter().zip(&release.spec.measures);
                let measures = measures.map(|(law, measure)| (law, measure.bound() as f64));
                // The median of |Z|, in units of what one row can add.
                errors.extend(units.chain(measures).map(|(law, bound)| median_of(law) / bound));
            }
        }
    }
    let [zcdp, pure] = errors.map(|mut errors: Vec<f64>| {
        errors.sort_by(f64::total_cmp);
        errors[errors.len() / 2]
    });
    assert!(zcdp * 3.0 <= pure, "{zcdp} against {pure}");
}

/// The median of |Z|: 0.6745 standard deviations of a Gaussian, ln 2 scales (ln 2/√2 standard deviations) of a Laplace law.
fn median_of(law: &crate::mechanism::Noise) -> f64 {
    match law {
        crate::mechanism::Noise::Gaussian(_) => 0.674_489_75 * law.std_dev(),
        crate::mechanism::Noise::Laplace(_) => std::f64::consts::LN_2 / std::f64::consts::SQRT_2 * law.std_dev(),
    }
}
