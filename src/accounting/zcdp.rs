//! Zero-concentrated differential privacy, and what it means in (ε, δ).
//!
//! A ρ-zCDP mechanism is (ε, δ)-private for δ = inf over α > 1 of
//! e^((α−1)(αρ−ε))/(α−1)·(1−1/α)^α (Canonne, Kamath, Steinke 2020, corollary 13). Every α gives a sound δ, so that an
//! imperfect minimiser can only overstate a loss. Floats compute the bound, with a margin above their error; what comes
//! out is rounded to whole steps towards more loss.
//!
//! Each figure is the end of a bisection, whose steps are fixed. Where Newton's method has found a narrow bracket that is
//! seen to hold the root, the steps outside it are taken without computing the bound there: the figure is the same.

use std::cell::Cell;

use super::search::Bracket;
use super::{Delta, Epsilon, Rho};

/// The most steps of Newton's method. It doubles the correct digits at each, and starts with some.
const MOST_STEPS: u32 = 16;

/// More than the relative error of a term of [`log_delta_at`]: four operations, each within a unit or two in the last
/// place, on inputs that are themselves rounded once.
const TERM_MARGIN: f64 = 1e-14;
/// More than the error of the exponential and of the comparison, beside that of its argument.
const FLAT_MARGIN: f64 = 1e-12;

/// The δ at which a `rho`-zCDP mechanism is `epsilon`-private: an upper bound, above the infimum by about 10⁻¹² of it.
///
/// Never zero unless `rho` is, even where the bound is smaller than any float.
#[must_use]
pub fn delta_of(rho: f64, epsilon: f64) -> f64 {
    if rho <= 0.0 {
        return 0.0;
    }
    log_delta_at(minimiser(rho, epsilon), rho, epsilon).exp().clamp(f64::MIN_POSITIVE, 1.0)
}

/// Where α − 1 for the best order is looked for. At the upper end, (2a + 1)ρ ≥ ε + 2·ln 2 + … exceeds the logarithm in
/// [`slope`]; the lower end is close enough to zero.
fn ends(rho: f64, epsilon: f64) -> (f64, f64) {
    (1e-18, 1.0_f64.max(epsilon / rho).max(1.0 / rho))
}

/// The derivative of the logarithm of the bound at α = 1 + `a`, in which it is convex: (2a + 1)ρ − ε − ln(1 + 1/a).
fn slope(a: f64, rho: f64, epsilon: f64) -> f64 {
    (2.0 * a + 1.0).mul_add(rho, -epsilon) - (1.0 / a).ln_1p()
}

/// About α − 1 for the best order: Newton's method in ln a, from the root of 2aρ = ε + 1/a.
fn near_minimiser(rho: f64, epsilon: f64) -> f64 {
    let (low, high) = ends(rho, epsilon);
    let mut root = (epsilon + (epsilon * epsilon + 8.0 * rho).sqrt()) / (4.0 * rho);
    for _ in 0..MOST_STEPS {
        let step = slope(root, rho, epsilon) / (2.0 * root).mul_add(rho, 1.0 / (root + 1.0));
        root = (root * (-step).exp()).clamp(low, high);
        if step.abs() < 1e-6 {
            break;
        }
    }
    root
}

/// α − 1 for an order α that gives the least bound.
fn minimiser(rho: f64, epsilon: f64) -> f64 {
    let rises = |a: f64| slope(a, rho, epsilon) >= 0.0;
    let (mut low, mut high) = ends(rho, epsilon);
    let bracket = Bracket::around(near_minimiser(rho, epsilon), 1e-9, rises);
    while high - low > high * 1e-9 {
        let middle = (low * high).sqrt();
        if middle <= low || middle >= high {
            break;
        }
        if bracket.is_past(middle, rises) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

/// An upper bound of the logarithm of e^((α−1)(αρ−ε))/(α−1)·(1−1/α)^α at α = 1 + `a`.
fn log_delta_at(a: f64, rho: f64, epsilon: f64) -> f64 {
    // −ln a + (1 + a)·ln(a/(1 + a)) = −ln(1 + a) − a·ln(1 + 1/a), which loses nothing to cancellation.
    let terms = [a * (a + 1.0) * rho, -(a * epsilon), -a.ln_1p(), -(a * (1.0 / a).ln_1p())];
    let sum: f64 = terms.iter().sum();
    let size: f64 = terms.iter().map(|term| term.abs()).sum();
    sum + size * TERM_MARGIN + FLAT_MARGIN
}

/// The largest ρ, in whole steps, that is (`epsilon`, `delta`)-private: what a price buys, and what a budget holds.
///
/// Rounded down. Zero when `epsilon` or `delta` is too small for one step. Every query asks for the limits of the same few budgets:
/// what a thread was asked last it knows.
#[must_use]
pub fn rho_for(epsilon: Epsilon, delta: Delta) -> Rho {
    type Known = (Epsilon, Delta, Rho);
    thread_local! {
        static LAST: [Cell<Option<Known>>; LAST_ASKED] = const { [const { Cell::new(None) }; LAST_ASKED] };
    }
    let place = (epsilon.steps() ^ delta.steps().rotate_left(32)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 58;
    LAST.with(|last| {
        let known = &last[place as usize];
        match known.get() {
            Some((of, at, rho)) if of == epsilon && at == delta => rho,
            _ => {
                let rho = search_rho(epsilon, delta);
                known.set(Some((epsilon, delta, rho)));
                rho
            }
        }
    })
}

/// How many answers of [`rho_for`] a thread keeps.
const LAST_ASKED: usize = 64;

fn search_rho(epsilon: Epsilon, delta: Delta) -> Rho {
    let (epsilon, delta) = (epsilon.to_f64(), delta.to_f64());
    let beyond = |rho: f64| delta_of(rho, epsilon) > delta;
    let (mut low, mut high) = (0, Rho::MAX.steps());
    if !beyond(Rho::MAX.to_f64()) {
        return Rho::MAX;
    }
    // The logarithm of the bound is a minimum of lines in ρ, of the slopes a(a + 1), and so concave: from a ρ that is within,
    // each step leads to one that is within. ρ + 2·√(ρ·ln(1/δ)) = ε is within (Bun and Steinke 2016, proposition 1.3).
    let log_delta = delta.ln();
    let mut root = ((epsilon - log_delta).sqrt() - (-log_delta).sqrt()).powi(2);
    for _ in 0..MOST_STEPS {
        let a = near_minimiser(root, epsilon);
        let step = (log_delta - log_delta_at(a, root, epsilon)) / (a * (a + 1.0));
        root += step;
        if step.abs() < root * 1e-7 {
            break;
        }
    }
    // Amounts are compared as the floats that the bound is computed of; the least of them are a step apart.
    let bracket = Bracket::around(root, 1e-11 + 2e-12 / root, beyond);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if bracket.is_past(Rho::from_steps(middle).to_f64(), beyond) {
            high = middle;
        } else {
            low = middle;
        }
    }
    Rho::from_steps(low)
}

/// The ε at which a ρ-zCDP mechanism is private with probability of failure `delta`: for reports, rounded up.
///
/// Infinite when `delta` is zero and `rho` is not.
#[must_use]
pub fn epsilon_of(rho: Rho, delta: Delta) -> f64 {
    let (rho, delta) = (rho.to_f64(), delta.to_f64());
    let within = |epsilon: f64| delta_of(rho, epsilon) <= delta;
    if within(0.0) {
        return 0.0;
    }
    if delta <= 0.0 {
        return f64::INFINITY;
    }
    // ε = ρ + 2·√(ρ·ln(1/δ)) always does (Bun and Steinke 2016, proposition 1.3); the factor keeps the end above it.
    let (mut low, mut high) = (0.0, 1.001 * (rho + 2.0 * (rho * (1.0 / delta).ln().max(0.0)).sqrt()) + f64::EPSILON);
    // The logarithm of the bound is a minimum of lines in ε, of the slopes −a, and so concave: from the end that does, each step
    // leads to an ε that does.
    let (log_delta, mut root) = (delta.ln(), high);
    for _ in 0..MOST_STEPS {
        let a = near_minimiser(rho, root);
        let step = (log_delta_at(a, rho, root) - log_delta) / a;
        root += step;
        if step.abs() < root * 1e-7 {
            break;
        }
    }
    let bracket = Bracket::around(root, 4e-12, within);
    while high - low > high * 1e-12 {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            break;
        }
        if bracket.is_past(middle, within) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}
