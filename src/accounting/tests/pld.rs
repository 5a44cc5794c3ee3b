//! The privacy loss distributions against exact sums, and against mechanisms that they must not be below.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::accounting::pld::epsilon as pld_epsilon;

fn pure(value: f64) -> Event {
    Event::Pure { epsilon: epsilon(value) }
}

/// δ(ε) of a law of privacy losses (loss, mass under P).
fn delta_at(law: &[(f64, f64)], epsilon: f64) -> f64 {
    law.iter().filter(|(loss, _)| *loss > epsilon).map(|(loss, mass)| -(epsilon - loss).exp_m1() * mass).sum()
}

/// The least ε with δ(ε) ≤ `delta`.
fn epsilon_at(law: &[(f64, f64)], delta: f64) -> f64 {
    let (mut low, mut high) = (0.0, law.iter().map(|(loss, _)| *loss).fold(0.0, f64::max));
    if delta_at(law, 0.0) <= delta {
        return 0.0;
    }
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if delta_at(law, middle) <= delta {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

/// The loss of `runs` randomised responses: the binomial law, by its logarithms.
fn responses(value: f64, runs: u32) -> Vec<(f64, f64)> {
    let (truth, lie) = (-(-value).exp().ln_1p(), -value.exp().ln_1p());
    let mut log_choices = 0.0;
    (0..=runs)
        .map(|k| {
            let mass = f64::from(k).mul_add(truth, f64::from(runs - k).mul_add(lie, log_choices)).exp();
            log_choices += (f64::from(runs - k) / f64::from(k + 1)).ln();
            ((2.0 * f64::from(k) - f64::from(runs)) * value, mass)
        })
        .collect()
}

/// The loss of both.
fn both(a: &[(f64, f64)], b: &[(f64, f64)]) -> Vec<(f64, f64)> {
    a.iter().flat_map(|a| b.iter().map(|b| (a.0 + b.0, a.1 * b.1))).collect()
}

#[track_caller]
fn assert_just_above(found: f64, exact: f64, part: f64, what: &str) {
    assert!(found >= exact * (1.0 - 1e-12), "{what}: {found} is below {exact}");
    assert!(found <= exact * (1.0 + part), "{what}: {found} is far above {exact}");
}

#[test]
fn repeated_responses_are_the_binomial_law() {
    for (value, runs) in [(0.01, 10_000), (0.1, 1), (0.1, 37), (0.2, 438), (0.5, 12), (1.0, 100), (3.0, 25), (8.0, 3)] {
        for d in [1e-3, 1e-6, 1e-9, 1e-15] {
            let exact = epsilon_at(&responses(value, runs), d);
            let found = pld_epsilon(&[(pure(value), runs.into())], d).unwrap();
            assert_just_above(found, exact, 0.002, &format!("{runs} of {value} at {d}"));
        }
    }
}

#[test]
fn responses_of_several_kinds() {
    for (kinds, d) in [
        (vec![(0.1, 40), (0.07, 33)], 1e-6),
        (vec![(0.3, 9), (0.11, 20), (0.013, 60)], 1e-9),
        (vec![(1.0, 2), (0.01, 300)], 1e-5),
        (vec![(0.5, 5), (0.25, 5), (0.125, 5), (2.0, 1)], 1e-12),
    ] {
        let exact = kinds.iter().fold(vec![(0.0, 1.0)], |law, (value, runs)| both(&law, &responses(*value, *runs)));
        let events: Vec<_> = kinds.iter().map(|(value, runs)| (pure(*value), u64::from(*runs))).collect();
        let found = pld_epsilon(&events, d).unwrap();
        assert_just_above(found, epsilon_at(&exact, d), 0.002, &format!("{kinds:?} at {d}"));
    }
}

#[test]
fn one_draw_of_bounded_range_has_its_closed_form() {
    for (text, value) in [("1/16", 0.0625_f64), ("1/2", 0.5), ("2", 2.0), ("8", 8.0)] {
        let event = Event::Exponential { epsilon: dyadic(text), draws: 1 };
        for d in [1e-2_f64, 1e-4, 1e-6, 1e-9] {
            // δ(s) = (e^(ε/2) − e^(s/2))²/(e^ε − 1).
            let s = 2.0 * ((0.5 * value).exp() - (d * value.exp_m1()).sqrt()).max(1.0).ln();
            let found = pld_epsilon(&[(event, 1)], d).unwrap();
            assert!(found >= s * (1.0 - 1e-12) - 1e-15, "{text} at {d}: {found} is below {s}");
            assert!(found <= s + value * 0.002, "{text} at {d}: {found} is far above {s}");
        }
    }
}

#[test]
fn exponential_mechanisms_stay_below_composed_bounds() {
    let mut rng = StdRng::seed_from_u64(52);
    for case in 0..300 {
        let mut laws = vec![vec![(0.0, 1.0)]];
        let mut events = Vec::new();
        for _ in 0..rng.random_range(1..=3) {
            let sixteenths = rng.random_range(1..=32);
            let value = f64::from(sixteenths) / 16.0;
            // A loss of range ε: two points at random, which is the worst for one threshold or another.
            let t = value * rng.random_range(0.01..0.99);
            let p = (value - t).exp_m1() / value.exp_m1();
            laws.push(vec![(t, p * t.exp()), (t - value, (1.0 - p) * (t - value).exp())]);
            events.push((Event::Exponential { epsilon: dyadic(&format!("{sixteenths}/16")), draws: 1 }, 1));
        }
        let value = rng.random_range(0.05..1.0);
        laws.push(responses(value, 2));
        events.push((pure(value), 2));
        let law = laws.iter().fold(vec![(0.0, 1.0)], |sum, law| both(&sum, law));
        for d in [1e-2, 1e-4, 1e-7] {
            let found = pld_epsilon(&events, d).unwrap();
            assert!(delta_at(&law, found) <= d * (1.0 + 1e-9), "case {case} at {d}");
        }
    }
}

#[test]
fn thousands_of_unlike_events_are_one_report() {
    let mut rng = StdRng::seed_from_u64(53);
    let mut values: Vec<f64> = (0..5_000).map(|_| rng.random_range(0.001..0.2)).collect();
    let events: Vec<_> = values.iter().map(|value| (pure(*value), 1)).collect();
    let begun = std::time::Instant::now();
    let found = pld_epsilon(&events, 1e-9).unwrap();
    assert!(begun.elapsed().as_secs_f64() < 5.0, "{:?}", begun.elapsed());
    // More and less: every ε raised, or lowered, to one of 200, and so into 200 binomial laws.
    values.sort_by(f64::total_cmp);
    let rounded =
        |up: usize| values.chunks(25).map(|chunk| (pure(chunk[up * (chunk.len() - 1)]), 25_u64)).collect::<Vec<_>>();
    let (less, more) = (pld_epsilon(&rounded(0), 1e-9).unwrap(), pld_epsilon(&rounded(1), 1e-9).unwrap());
    // The bounds are near ones, and each figure is itself within two parts in a thousand.
    assert!(found > less * 0.998 && found < more * 1.002, "{less} {found} {more}");
    assert!(more < less * 1.02, "{less} {more}");
}

#[test]
fn what_it_does_not_know_it_does_not_say() {
    assert_eq!(pld_epsilon(&[], 1e-9), Some(0.0));
    assert_eq!(pld_epsilon(&[(pure(0.1), 0)], 1e-9), Some(0.0));
    assert_eq!(pld_epsilon(&[(Event::Selection { delta: delta(1e-9) }, 4)], 1e-9), Some(0.0));
    let gaussian = Event::DiscreteGaussian { squared_sensitivity: 1, variance: dyadic("50") };
    assert_eq!(pld_epsilon(&[(pure(0.1), 1), (gaussian, 1)], 1e-9), None);
    assert_eq!(pld_epsilon(&[(Event::Zcdp { rho: rho(0.1) }, 1)], 1e-9), None);
    assert_eq!(pld_epsilon(&[(pure(0.1), 1)], 0.0), None);
    assert_eq!(pld_epsilon(&[(pure(0.1), 1)], f64::NAN), None);
    assert_eq!(pld_epsilon(&[(pure(1_000.0), 1)], 1e-9), None);
    assert_eq!(pld_epsilon(&[(pure(0.1), u64::MAX)], 1e-9), None);
    // The smallest δ that the ledger holds, and the most repetitions.
    assert!(pld_epsilon(&[(pure(0.001), 1_000_000)], 1e-18).is_some_and(|found| found > 8.0 && found < 12.0));
}
