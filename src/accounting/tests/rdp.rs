//! The curves against the laws that they bound, summed one outcome at a time.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::accounting::rdp::Curve;

/// D_α(P ‖ Q), by its definition.
fn divergence(p: &[f64], q: &[f64], alpha: f64) -> f64 {
    let logs: Vec<f64> = p.iter().zip(q).map(|(p, q)| alpha * (p / q).ln()).collect();
    let largest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let log = if largest < 1.0 {
        logs.iter().zip(q).map(|(log, q)| q * log.exp_m1()).sum::<f64>().ln_1p()
    } else {
        largest + logs.iter().zip(q).map(|(log, q)| q * (log - largest).exp()).sum::<f64>().ln()
    };
    log / (alpha - 1.0)
}

fn pure(value: f64) -> Event {
    Event::Pure { epsilon: epsilon(value) }
}

fn exponential(epsilon: &str, draws: u64) -> Event {
    Event::Exponential { epsilon: dyadic(epsilon), draws }
}

/// The discrete Laplace law of that scale around `centre`, on [−400, 400].
fn laplace_law(scale: f64, centre: i32) -> Vec<f64> {
    let law: Vec<f64> = (-400..=400).map(|x: i32| (-f64::from((x - centre).abs()) / scale).exp()).collect();
    let total: f64 = law.iter().sum();
    law.into_iter().map(|weight| weight / total).collect()
}

const ORDERS: [f64; 9] = [1.001, 1.1, 1.5, 2.0, 3.0, 7.5, 20.0, 60.0, 200.0];

#[track_caller]
fn assert_just_above(bound: f64, exact: f64, alpha: f64, what: &str) {
    // What the sums above lose to rounding before they are divided by α − 1.
    let lost = 1e-14 / (alpha - 1.0);
    assert!(bound >= exact * (1.0 - 1e-12) - lost, "{what}: {bound} is below {exact}");
    assert!(bound <= exact * (1.0 + 1e-8) + lost, "{what}: {bound} is far above {exact}");
}

#[test]
fn pure_mechanisms_have_the_curve_of_randomised_response() {
    for value in [1e-3, 0.05, 0.5, 1.0, 3.0] {
        let lie = 1.0 / (1.0 + f64::exp(value));
        let (p, q) = ([1.0 - lie, lie], [lie, 1.0 - lie]);
        for alpha in ORDERS {
            let curve = Curve::of(&[(pure(value), 1)]);
            let exact = divergence(&p, &q, alpha);
            assert_just_above(curve.at(alpha - 1.0), exact, alpha, &format!("{value}, {alpha}"));
        }
    }
}

#[test]
fn laplace_noise_has_its_own_curve() {
    for (d1, scale) in [(1_u32, "1"), (1, "5"), (3, "4"), (8, "5/2"), (20, "10"), (5, "9/2")] {
        let law = dyadic(scale).to_f64();
        let (p, q) = (laplace_law(law, 0), laplace_law(law, i32::try_from(d1).unwrap()));
        let curve = Curve::of(&[(Event::DiscreteLaplace { sensitivity: d1.into(), scale: dyadic(scale) }, 1)]);
        for alpha in ORDERS {
            let exact = divergence(&p, &q, alpha);
            assert_just_above(curve.at(alpha - 1.0), exact, alpha, &format!("{d1} of {scale}, {alpha}"));
        }
    }
}

#[test]
fn a_shift_spread_over_coordinates_loses_no_more_than_one_of_a_single_one() {
    for (parts, scale) in [(vec![1, 1], "1"), (vec![2, 6], "5/2"), (vec![3, 3, 4], "10"), (vec![1; 12], "4")] {
        let law = dyadic(scale).to_f64();
        let sensitivity = u128::try_from(parts.iter().sum::<i32>()).unwrap();
        let curve = Curve::of(&[(Event::DiscreteLaplace { sensitivity, scale: dyadic(scale) }, 1)]);
        for alpha in ORDERS {
            let p = laplace_law(law, 0);
            let exact: f64 = parts.iter().map(|part| divergence(&p, &laplace_law(law, *part), alpha)).sum();
            assert!(curve.at(alpha - 1.0) >= exact - 1e-14 / (alpha - 1.0), "{parts:?} of {scale}, {alpha}");
        }
    }
}

#[test]
fn the_bounded_range_has_the_worst_of_two_points() {
    for (text, value) in [("1/128", 1.0_f64 / 128.0), ("1/4", 0.25), ("1", 1.0), ("4", 4.0)] {
        let curve = Curve::of(&[(exponential(text, 1), 1)]);
        for alpha in ORDERS {
            // Loss t with probability p, else t − ε, where all losses that a law can have are tried.
            let worst = (1..20_000).map(|i| value * f64::from(i) / 20_000.0).map(|t| {
                let p = (value - t).exp_m1() / value.exp_m1();
                divergence(&[p * t.exp(), (1.0 - p) * (t - value).exp()], &[p, 1.0 - p], alpha)
            });
            let worst = worst.fold(0.0, f64::max);
            let bound = curve.at(alpha - 1.0);
            let lost = 1e-14 / (alpha - 1.0);
            assert!(bound >= worst * (1.0 - 1e-10) - lost, "{text}, {alpha}: {bound} {worst}");
            // The tries are a 20,000th of ε apart.
            assert!(bound <= worst * (1.0 + 1e-6) + lost, "{text}, {alpha}: {bound} {worst}");
        }
    }
}

#[test]
fn exponential_mechanisms_stay_below_their_curve() {
    let mut rng = StdRng::seed_from_u64(51);
    for case in 0..2_000 {
        let value = f64::from(rng.random_range(1..=48)) / 16.0;
        let candidates = rng.random_range(2..=6);
        let scores: Vec<f64> = (0..candidates).map(|_| rng.random_range(-3.0..3.0)).collect();
        // Sensitivity 1: the exponent is ε·s/2.
        let law = |scores: &[f64]| {
            let weights: Vec<f64> = scores.iter().map(|score| (0.5 * value * score).exp()).collect();
            let total: f64 = weights.iter().sum();
            weights.into_iter().map(|weight| weight / total).collect::<Vec<_>>()
        };
        let moved: Vec<f64> = scores
            .iter()
            .map(|score| {
                score
                    + if rng.random_bool(0.7) { rng.random_range(-1..=1).into() } else { rng.random_range(-1.0..=1.0) }
            })
            .collect();
        let (p, q) = (law(&scores), law(&moved));
        let curve = Curve::of(&[(exponential(&format!("{}/16", (value * 16.0).round()), 1), 1)]);
        for alpha in ORDERS {
            let bound = curve.at(alpha - 1.0);
            assert!(bound >= divergence(&p, &q, alpha) * (1.0 - 1e-9) - 1e-12, "case {case}, {alpha}");
        }
    }
}

#[test]
fn curves_add_and_grow_with_the_order_and_stay_below_zcdp() {
    let events = [
        (Event::DiscreteGaussian { squared_sensitivity: 8, variance: dyadic("2000") }, 3),
        (Event::DiscreteLaplace { sensitivity: 1 << 30, scale: dyadic("8589934592") }, 2),
        (Event::DiscreteLaplace { sensitivity: 1, scale: dyadic("1267650600228229401496703205376") }, 9),
        (pure(0.3), 5),
        (exponential("1/8", 4), 7),
        (Event::Selection { delta: delta(1e-9) }, 7),
    ];
    let zcdp: f64 = events.iter().map(|(event, count)| event_rho(event) * *count as f64).sum();
    let whole = Curve::of(&events);
    let mut last = 0.0;
    // Below, margins over α − 1 are seen.
    for exponent in -35..=100 {
        let a = 1.4_f64.powi(exponent);
        let parts: f64 = events.iter().map(|(event, count)| Curve::of(&[(*event, 1)]).at(a) * *count as f64).sum();
        let bound = whole.at(a);
        assert!((bound - parts).abs() <= parts * 1e-8, "{a}");
        assert!(bound >= last * (1.0 - 1e-6), "{a}: {bound} after {last}");
        assert!(bound <= (a + 1.0) * zcdp * (1.0 + 1e-8), "{a}");
        last = bound;
    }
}

fn event_rho(event: &Event) -> f64 {
    match event.cost(Accounting::Zcdp).unwrap().loss {
        Loss::Zcdp(rho) => rho.to_f64(),
        Loss::Pure(_) => panic!("asked for zCDP"),
    }
}

#[test]
fn gaussian_noise_alone_is_what_zcdp_says() {
    for (steps, d) in
        [(1, 1e-6), (1_000, 1e-9), (675_000_000, 1e-9), (296_130_000_000, 5e-7), (20_000_000_000_000, 1e-6)]
    {
        let rho = Rho::from_steps(steps);
        let (found, _) = Curve::of(&[(Event::Zcdp { rho }, 1)]).epsilon(d);
        let zcdp = epsilon_of(rho, delta(d));
        // Only where ρ is far below δ² is there a difference: there is nothing at all to see.
        if rho.to_f64() > d * d {
            assert!((found - zcdp).abs() <= zcdp * 1e-7, "{steps}, {d}: {found} {zcdp}");
        } else {
            assert!(found <= zcdp, "{steps}, {d}: {found} {zcdp}");
        }
    }
}

#[test]
fn epsilon_at_the_ends() {
    let some = Curve::of(&[(pure(0.1), 1)]);
    assert_eq!(Curve::of(&[]).epsilon(0.0).0, 0.0);
    assert_eq!(Curve::of(&[(Event::Selection { delta: delta(1e-9) }, 1)]).epsilon(1e-9).0, 0.0);
    assert_eq!(some.epsilon(0.0).0, f64::INFINITY);
    assert_eq!(some.epsilon(f64::NAN).0, f64::INFINITY);
    assert_eq!(some.epsilon(0.5).0, 0.0);
    // At the smallest δ a pure mechanism's ε is its own, by the largest orders.
    let (smallest, _) = some.epsilon(1e-18);
    assert!((0.1 * (1.0 - 1e-9)..=0.1 * (1.0 + 1e-6)).contains(&smallest), "{smallest}");
    let huge = [(Event::Pure { epsilon: Epsilon::MAX }, u64::MAX), (exponential("1024", u64::MAX), u64::MAX)];
    let (largest, _) = Curve::of(&huge).epsilon(1e-6);
    assert!(largest > 1e20, "{largest}");
}

/// The least ε over orders by looking everywhere: 49 orders, and golden sections around the best of them.
fn looked_for_everywhere(curve: &Curve, delta: f64) -> f64 {
    let of = |log: f64| {
        let a: f64 = log.exp();
        let divergence = curve.at(a);
        let epsilon = divergence - (1.0 / a).ln_1p() - delta.ln() / a - a.ln_1p() / a;
        if divergence <= 2.0 * delta * delta { 0.0 } else { epsilon.max(0.0) }
    };
    let grid = (-14..=34).map(f64::from).min_by(|a, b| of(*a).total_cmp(&of(*b))).unwrap();
    let (mut low, mut high, mut best) = (grid - 1.0, grid + 1.0, of(grid));
    let golden = 0.5 * (5.0_f64.sqrt() - 1.0);
    for _ in 0..44 {
        let inner = [high - golden * (high - low), low + golden * (high - low)];
        let values = inner.map(of);
        best = best.min(values[0]).min(values[1]);
        if values[0] <= values[1] {
            high = inner[1];
        } else {
            low = inner[0];
        }
    }
    best
}

#[test]
fn the_best_order_is_found_wherever_it_is() {
    let mut rng = StdRng::seed_from_u64(8);
    for case in 0..400 {
        let mut log = |lo: f64, hi: f64| (lo.ln() + (hi / lo).ln() * rng.random::<f64>()).exp();
        let mut events = Vec::new();
        for part in 0..=case % 4 {
            let count = log(1.0, 1e4) as u64;
            let event = match (case / 4 + part) % 4 {
                0 => Event::Zcdp { rho: Rho::from_steps(log(1e3, 1e13) as u64) },
                1 => Event::Pure { epsilon: Epsilon::from_steps(log(1e6, 3e13) as u64) },
                2 => Event::DiscreteLaplace { sensitivity: log(1.0, 50.0) as u128, scale: dyadic("7") },
                _ => exponential(&format!("{}/64", log(1.0, 300.0) as u64), 3),
            };
            events.push((event, count));
        }
        let delta = log(1e-18, 0.1);
        let curve = Curve::of(&events);
        let (found, everywhere) = (curve.epsilon(delta).0, looked_for_everywhere(&curve, delta));
        // Up to the margins that are added to a bound.
        assert!(found <= everywhere * (1.0 + 1e-9) + 1e-11, "{case}: {events:?} at {delta}: {found} {everywhere}");
        assert!(found >= everywhere * (1.0 - 1e-9) - 1e-11, "{case}: {events:?} at {delta}: {found} {everywhere}");
    }
}
