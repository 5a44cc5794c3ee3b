//! Our reports against Google's dp-accounting, an independent implementation of the same papers, over thousands of random
//! sequences of events.
//!
//! `tests/oracle/python` makes the virtual environment that it runs in, once. `./test` does so beforehand; a bare run of
//! this test does it itself. Nothing is skipped: without the oracle the test fails.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
use tollgate::accounting::rdp::Curve;
use tollgate::accounting::{Delta, Epsilon, Event, Rho, epsilon_of_events, pld};
use tollgate::mechanism::Dyadic;

use crate::fixture::repository;

/// The grid on which the reference's losses lie exactly: no rounding of its own stands between the two.
const STEP: f64 = 1.0 / 1024.0;

/// An event, as both sides name it.
#[derive(Debug, Clone, Copy)]
struct Kind {
    ours: Event,
    name: &'static str,
    /// ρ or ε.
    size: f64,
}

#[derive(Debug, Serialize)]
struct Sequence {
    events: Vec<(&'static str, f64, u64)>,
    delta: f64,
    /// The order at which we found the least ε.
    order: f64,
    #[serde(skip)]
    ours: Vec<(Event, u64)>,
    #[serde(skip)]
    epsilon: f64,
}

#[derive(Serialize)]
struct Asked<'a> {
    step: f64,
    renyi: &'a [Sequence],
    losses: &'a [Sequence],
}

#[derive(Deserialize)]
struct Answered {
    /// The reference's ε over its own orders, and at ours.
    renyi: Vec<(f64, f64)>,
    /// The reference's ε from below and from above.
    losses: Vec<(f64, f64)>,
}

/// What dp-accounting says.
fn ask(asked: &Asked) -> Answered {
    let python = std::env::var("TOLLGATE_ORACLE_PYTHON").unwrap_or_else(|_| {
        let made = Command::new(repository().join("tests/oracle/python")).output().expect("bash runs");
        let errors = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "no oracle to compare with (./test makes one, with python3 and pip): {errors}");
        String::from_utf8(made.stdout).expect("a path").trim().to_owned()
    });
    let mut oracle = Command::new(&python)
        .arg(repository().join("tests/oracle/accounting.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("the oracle's Python, {python}, does not run ({error}); ./test makes one"));
    let mut input = oracle.stdin.take().expect("piped");
    input.write_all(&serde_json::to_vec(asked).expect("plain data")).expect("the oracle reads");
    drop(input);
    let output = oracle.wait_with_output().expect("the oracle ends");
    assert!(output.status.success(), "the oracle failed: {}", output.status);
    serde_json::from_slice(&output.stdout).expect("the oracle's answer")
}

/// Spread evenly over orders of magnitude.
fn log_uniform(rng: &mut StdRng, from: f64, to: f64) -> f64 {
    rng.random_range(from.ln()..to.ln()).exp()
}

fn laplace(sensitivity: u128, scale: u128) -> Event {
    Event::DiscreteLaplace { sensitivity, scale: Dyadic::new(scale, 0).expect("positive") }
}

fn exponential(thousand_twenty_fourths: u128, draws: u64) -> Event {
    Event::Exponential { epsilon: Dyadic::new(thousand_twenty_fourths, 10).expect("positive"), draws }
}

/// Events of all kinds for the Rényi accountants.
fn kinds(rng: &mut StdRng) -> Vec<Kind> {
    let mut kinds = Vec::new();
    for _ in 0..40 {
        let rho = Rho::floor_from(log_uniform(rng, 1e-6, 0.3)).expect("an amount");
        kinds.push(Kind { ours: Event::Zcdp { rho }, name: "gaussian", size: rho.to_f64() });
        let epsilon = Epsilon::floor_from(log_uniform(rng, 1e-3, 3.0)).expect("an amount");
        kinds.push(Kind { ours: Event::Pure { epsilon }, name: "pure", size: epsilon.to_f64() });
        // A count: one step of the lattice, which makes discrete Laplace noise the same as randomised response.
        let scale = rng.random_range(1..1_000);
        kinds.push(Kind { ours: laplace(1, scale), name: "pure", size: 1.0 / scale as f64 });
        // A sum: so many steps that the discrete law is the continuous one.
        let (steps, scale) = (1 << 40, log_uniform(rng, 2_f64.powi(39), 2_f64.powi(50)) as u128);
        kinds.push(Kind { ours: laplace(steps, scale), name: "laplace", size: steps as f64 / scale as f64 });
        let parts = log_uniform(rng, 2.0, 3_000.0) as u128;
        kinds.push(Kind { ours: exponential(parts, 1), name: "range", size: parts as f64 / 1024.0 });
        // D²/(2σ²) is a multiple of 2⁻¹², and no multiple of a step: the ledger's ρ is a little more.
        let variance = rng.random_range(20..4_000_u128);
        let ours =
            Event::DiscreteGaussian { squared_sensitivity: 8, variance: Dyadic::new(variance, 0).expect("positive") };
        kinds.push(Kind { ours, name: "gaussian", size: 4.0 / variance as f64 });
    }
    kinds
}

fn sequence(rng: &mut StdRng, kinds: &[Kind], most: usize, counts: f64, least_delta: f64) -> Sequence {
    let chosen: Vec<(Kind, u64)> = (0..rng.random_range(1..=most))
        .map(|_| (kinds[rng.random_range(0..kinds.len())], log_uniform(rng, 1.0, counts) as u64))
        .collect();
    Sequence {
        events: chosen.iter().map(|(kind, count)| (kind.name, kind.size, *count)).collect(),
        delta: Delta::floor_from(log_uniform(rng, least_delta, 1e-4)).expect("an amount").to_f64(),
        order: 0.0,
        ours: chosen.into_iter().map(|(kind, count)| (kind.ours, count)).collect(),
        epsilon: 0.0,
    }
}

#[test]
fn restated_losses_are_those_of_dp_accounting() {
    let mut rng = StdRng::seed_from_u64(61);
    let kinds = kinds(&mut rng);
    let renyi: Vec<Sequence> = (0..2_500)
        .map(|_| {
            let mut sequence = sequence(&mut rng, &kinds, 8, 200.0, 1e-12);
            let (epsilon, a) = Curve::of(&sequence.ours).epsilon(sequence.delta);
            (sequence.epsilon, sequence.order) = (epsilon, a + 1.0);
            sequence
        })
        .collect();
    // Losses on the reference's grid, and none so large that it has too many points.
    let pure: Vec<Kind> = (0..60)
        .map(|_| {
            let parts = log_uniform(&mut rng, 4.0, 900.0) as u64;
            let epsilon = Epsilon::from_steps(parts * (Epsilon::STEPS_PER_UNIT / 1024));
            Kind { ours: Event::Pure { epsilon }, name: "pure", size: parts as f64 * STEP }
        })
        .collect();
    let mut ranged = pure.clone();
    ranged.extend((0..30).map(|_| {
        let parts = log_uniform(&mut rng, 64.0, 2_048.0) as u128;
        Kind { ours: exponential(parts, 1), name: "range", size: parts as f64 * STEP }
    }));
    let begun = Instant::now();
    let losses: Vec<Sequence> = (0..450)
        .map(|at| {
            let mut sequence = match at % 3 {
                0 => sequence(&mut rng, &ranged, 4, 12.0, 1e-9),
                1 => sequence(&mut rng, &pure, 5, 300.0, 1e-9),
                _ => sequence(&mut rng, &pure, 2, 2_000.0, 1e-9),
            };
            sequence.epsilon = pld::epsilon(&sequence.ours, sequence.delta).expect("pure events");
            sequence
        })
        .collect();
    println!("our loss distributions: {:?}", begun.elapsed());

    let begun = Instant::now();
    let answered = ask(&Asked { step: STEP, renyi: &renyi, losses: &losses });
    println!("the oracle: {:?}", begun.elapsed());
    assert_eq!((answered.renyi.len(), answered.losses.len()), (renyi.len(), losses.len()));

    let mut most = 0.0_f64;
    for (sequence, (at_its_orders, at_ours)) in renyi.iter().zip(&answered.renyi) {
        // Every order's ε is sound, so the reference's bound is the least one that it has seen. We look between its orders;
        // at the order that we found, its ε and ours are one formula, and ours is not below it.
        let reference = at_its_orders.min(*at_ours);
        let ours = sequence.epsilon;
        assert!(ours >= at_ours * (1.0 - 1e-7), "{ours} is below {at_ours} at its order: {sequence:?}");
        assert!(ours >= reference * (1.0 - 1e-7), "{ours} is below {reference}: {sequence:?}");
        assert!(ours <= reference * 1.01, "{ours} is far above {reference}: {sequence:?}");
        assert!(*at_ours <= at_its_orders * (1.0 + 1e-7), "another order is better: {at_its_orders}, {sequence:?}");
        most = most.max(ours / reference - 1.0);
        // What is reported is no more than this.
        let delta = Delta::ceil_from(sequence.delta).expect("an amount");
        assert!(epsilon_of_events(&sequence.ours, delta) <= ours * (1.0 + 1e-9), "{sequence:?}");
    }
    println!("Rényi: above the reference by at most {most:e} of it");
    let (mut most, mut least) = (0.0_f64, f64::INFINITY);
    for (sequence, (below, above)) in losses.iter().zip(&answered.losses) {
        let ours = sequence.epsilon;
        assert!(ours >= *below, "{ours} is below {below}: {sequence:?}");
        assert!(ours <= above * 1.01, "{ours} is far above {above}: {sequence:?}");
        most = most.max(ours / above - 1.0);
        least = least.min(ours / above - 1.0);
    }
    println!("loss distributions: above the reference by {least:e} to {most:e} of it");
}
