//! Zero-concentrated differential privacy, and what it means in (ε, δ).
//!
//! A ρ-zCDP mechanism is (ε, δ)-private for δ = inf over α > 1 of
//! e^((α−1)(αρ−ε))/(α−1)·(1−1/α)^α (Canonne, Kamath, Steinke 2020, corollary 13). Every α gives a sound δ, so that an
//! imperfect minimiser can only overstate a loss. Floats compute the bound, with a margin above their error; what comes
//! out is rounded to whole steps towards more loss.

use super::{Delta, Epsilon, Rho};

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
    // `a` is α − 1. The logarithm of the bound is convex in a; its derivative is (2a + 1)ρ − ε − ln(1 + 1/a).
    // At the upper end, (2a + 1)ρ ≥ ε + 2·ln 2 + … exceeds the logarithm; the lower end is close enough to zero.
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
/// Rounded down. Zero when `epsilon` or `delta` is too small for one step.
#[must_use]
pub fn rho_for(epsilon: Epsilon, delta: Delta) -> Rho {
    let (epsilon, delta) = (epsilon.to_f64(), delta.to_f64());
    let within = |steps: u64| delta_of(Rho::from_steps(steps).to_f64(), epsilon) <= delta;
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
