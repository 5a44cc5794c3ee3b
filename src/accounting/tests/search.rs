//! What is found by a bracket is what plain bisection finds, to the last bit: amounts, and what is owed for them, are the same.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::accounting::search::Bracket;

/// The bound of a δ at α = 1 + a, as `zcdp.rs` has it.
fn log_delta_at(a: f64, rho: f64, epsilon: f64) -> f64 {
    let terms = [a * (a + 1.0) * rho, -(a * epsilon), -a.ln_1p(), -(a * (1.0 / a).ln_1p())];
    let sum: f64 = terms.iter().sum();
    let size: f64 = terms.iter().map(|term| term.abs()).sum();
    sum + size * 1e-14 + 1e-12
}

/// [`delta_of`] by bisection alone.
fn plain_delta_of(rho: f64, epsilon: f64) -> f64 {
    if rho <= 0.0 {
        return 0.0;
    }
    let slope = |a: f64| (2.0 * a + 1.0).mul_add(rho, -epsilon) - (1.0 / a).ln_1p();
    let (mut low, mut high) = (1e-18_f64, 1.0_f64.max(epsilon / rho).max(1.0 / rho));
    while high - low > high * 1e-9 {
        let middle = (low * high).sqrt();
        if middle <= low || middle >= high {
            break;
        }
        if slope(middle) < 0.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    log_delta_at(high, rho, epsilon).exp().clamp(f64::MIN_POSITIVE, 1.0)
}

/// [`epsilon_of`] by bisection alone.
fn plain_epsilon_of(rho: Rho, delta: Delta) -> f64 {
    let (rho, delta) = (rho.to_f64(), delta.to_f64());
    let within = |epsilon: f64| plain_delta_of(rho, epsilon) <= delta;
    if within(0.0) {
        return 0.0;
    }
    if delta <= 0.0 {
        return f64::INFINITY;
    }
    let (mut low, mut high) = (0.0, 1.001 * (rho + 2.0 * (rho * (1.0 / delta).ln().max(0.0)).sqrt()) + f64::EPSILON);
    while high - low > high * 1e-12 {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            break;
        }
        if within(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

/// [`rho_for`] by bisection alone.
fn plain_rho_for(epsilon: Epsilon, delta: Delta) -> Rho {
    let (epsilon, delta) = (epsilon.to_f64(), delta.to_f64());
    let within = |steps: u64| plain_delta_of(Rho::from_steps(steps).to_f64(), epsilon) <= delta;
    let (mut low, mut high) = (0, Rho::MAX.steps());
    if within(high) {
        return Rho::MAX;
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if within(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    Rho::from_steps(low)
}

#[test]
fn every_amount_is_the_one_that_plain_bisection_finds() {
    let mut rng = StdRng::seed_from_u64(5);
    let mut between = |lo: f64, hi: f64| (lo.ln() + (hi / lo).ln() * rng.random::<f64>()).exp();
    for n in 0..10_000 {
        let (rho, epsilon) = (between(1e-12, 1e6), if n % 17 == 0 { 0.0 } else { between(1e-12, 1e5) });
        let (found, plain) = (delta_of(rho, epsilon), plain_delta_of(rho, epsilon));
        assert_eq!(found.to_bits(), plain.to_bits(), "delta_of({rho}, {epsilon}): {found} {plain}");
    }
    for n in 0..1_000 {
        // From one step to all that the ledger holds, and mostly what is used.
        let (most, least) = if n % 4 == 0 { (9e18, 1.0) } else { (1e14, 1e6) };
        let rho = Rho::from_steps(between(least, most) as u64);
        let epsilon = Epsilon::from_steps(between(least, most) as u64);
        let delta = Delta::from_steps(if n % 5 == 0 { between(1.0, 9e18) } else { between(1e8, 1e14) } as u64);
        let (found, plain) = (epsilon_of(rho, delta), plain_epsilon_of(rho, delta));
        assert_eq!(found.to_bits(), plain.to_bits(), "epsilon_of({rho}, {delta}): {found} {plain}");
        assert_eq!(rho_for(epsilon, delta), plain_rho_for(epsilon, delta), "rho_for({epsilon}, {delta})");
    }
    for (epsilon, delta) in [(Epsilon::ZERO, Delta::ZERO), (epsilon(1.0), Delta::ZERO), (Epsilon::ZERO, delta(1e-9))] {
        assert_eq!(rho_for(epsilon, delta), plain_rho_for(epsilon, delta));
    }
    assert_eq!(epsilon_of(rho(1.0), Delta::ZERO), f64::INFINITY);
    assert_eq!(epsilon_of(Rho::ZERO, Delta::ZERO), 0.0);
}

#[test]
fn a_bracket_that_does_not_hold_the_root_is_none() {
    let asked = std::cell::Cell::new(0);
    let past = |at: f64| {
        asked.set(asked.get() + 1);
        at >= 3.0
    };
    let bracket = Bracket::around(3.0, 1e-3, past);
    assert_eq!(asked.replace(0), 2);
    assert!(!bracket.is_past(2.9, past) && bracket.is_past(3.1, past));
    assert_eq!(asked.replace(0), 0, "far from the root nothing is asked");
    assert!(!bracket.is_past(2.9999, past) && bracket.is_past(3.0, past));
    assert_eq!(asked.replace(0), 2);
    // Where the root is elsewhere, or there is none, everything is asked.
    for root in [2.9, 3.1, 0.0, -3.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let bracket = Bracket::around(root, 1e-3, past);
        asked.set(0);
        assert!(!bracket.is_past(0.1, past) && bracket.is_past(1e300, past), "{root}");
        assert_eq!(asked.get(), 2, "{root}");
    }
}
