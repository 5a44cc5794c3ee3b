//! Rényi differential privacy: what a fixed sequence of mechanisms costs, for *reports*, never for a filter.
//!
//! A curve bounds the Rényi divergence of every order α between the answers of neighbours; curves of composed mechanisms
//! add (Mironov 2017, proposition 1). Each order alone gives a sound ε (Canonne, Kamath, Steinke 2020, proposition 12),
//! so that an imperfect search for the best one can only overstate a loss. `proof.md` has each curve's argument.
//!
//! Floats compute the bounds, with margins above their error; everything is rounded towards more loss.

use std::collections::BTreeMap;

use super::{Accounting, Event, Loss, Rho};

/// More than the relative error of a sum of a few elementary functions of numbers that were rounded a few times, in
/// parts of the sizes of what is added and taken off: each is within four units in the last place, 2⁻⁵².
const TERM_MARGIN: f64 = 64.0 * f64::EPSILON;
/// More than the relative error of a sum of up to a million curves, times their counts, added one by one.
const SUM_MARGIN: f64 = 1e-9;
/// More than the flat error of the conversion to ε, whose terms are below 10³ where it is not also relative.
const FLAT_MARGIN: f64 = 1e-12;

/// A bound of the Rényi divergences of composed mechanisms, order by order.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// Of what is bounded by α·ρ: the sum of the ρ.
    rho: f64,
    /// All else, with how often it was run.
    terms: Vec<(Term, f64)>,
}

/// A curve that is not a line.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Term {
    /// Any ε-private mechanism: that of randomised response.
    Response { epsilon: f64 },
    /// Discrete Laplace noise of that scale, all of whose movement D₁ is ε times the scale.
    Laplace { epsilon: f64, scale: f64 },
    /// Any mechanism whose privacy loss has a range of at most ε.
    Range { epsilon: f64 },
}

impl Curve {
    /// The curve of `events`, each run as often as it says. Selection has no curve: its δ is added apart.
    #[must_use]
    pub fn of(events: &[(Event, u64)]) -> Self {
        let mut rho = 0_u128;
        let mut terms: BTreeMap<(u8, u64, u64), (Term, f64)> = BTreeMap::new();
        for (event, count) in events {
            let count = *count;
            let mut add = |kind: u8, epsilon: f64, scale: f64, term: Term, count: f64| {
                // Positive floats are ordered as their bits are.
                terms.entry((kind, epsilon.to_bits(), scale.to_bits())).or_insert((term, 0.0)).1 += count;
            };
            match *event {
                Event::DiscreteGaussian { .. } | Event::Zcdp { .. } => {
                    if let Some(Loss::Zcdp(each)) = event.cost(Accounting::Zcdp).map(|cost| cost.loss) {
                        rho = rho.saturating_add(u128::from(each.steps()).saturating_mul(count.into()));
                    }
                }
                Event::DiscreteLaplace { sensitivity, scale } => {
                    let scale = scale.to_f64();
                    let epsilon = sensitivity as f64 / scale * (1.0 + 4.0 * f64::EPSILON);
                    add(0, epsilon, scale, Term::Laplace { epsilon, scale }, count as f64);
                }
                Event::Pure { epsilon } => {
                    let epsilon = epsilon.to_f64() * (1.0 + f64::EPSILON);
                    add(1, epsilon, 0.0, Term::Response { epsilon }, count as f64);
                }
                Event::Exponential { epsilon, draws } => {
                    let epsilon = epsilon.to_f64() * (1.0 + f64::EPSILON);
                    add(2, epsilon, 0.0, Term::Range { epsilon }, count as f64 * draws as f64);
                }
                Event::Selection { .. } => {}
            }
        }
        let rho = rho as f64 / Rho::STEPS_PER_UNIT as f64 * (1.0 + 4.0 * f64::EPSILON);
        let terms = terms.into_values().filter(|(term, count)| *count > 0.0 && !term.is_nothing()).collect();
        Self { rho, terms }
    }

    /// An upper bound of the divergence of order α = 1 + `a`, for `a` > 0.
    #[must_use]
    pub fn at(&self, a: f64) -> f64 {
        let sum: f64 = self.terms.iter().map(|(term, count)| term.at(a) * count).sum();
        (a + 1.0).mul_add(self.rho, sum) * (1.0 + SUM_MARGIN)
    }

    /// The least ε over orders at which the mechanisms together are (ε, `delta`)-private, rounded up, and α − 1 for the
    /// order α that gives it (zero where no order matters).
    ///
    /// Infinite when `delta` is not positive and there is any loss.
    #[must_use]
    pub fn epsilon(&self, delta: f64) -> (f64, f64) {
        if self.rho <= 0.0 && self.terms.is_empty() {
            return (0.0, 0.0);
        }
        if delta.is_nan() || delta <= 0.0 {
            return (f64::INFINITY, 0.0);
        }
        let of = |log: f64| epsilon_at(log.exp(), self.at(log.exp()), delta);
        // The bound of each ε is convex in the order on a logarithmic scale of δ, so that the ε of one δ has one valley.
        // Gaussian noise of as much divergence has its bottom at a = √(ln(1/δ)/ρ): from there it is walked down to the bottom
        // in whole steps, and between them the bottom is searched. Where floats say otherwise, a bound is still one.
        let start = 0.5 * (-delta.ln() / (0.5 * self.at(1.0))).ln();
        // No number where δ is 1 or more, and any order will do.
        let mut log = if start.is_nan() { 0.0 } else { start.round().clamp(LEAST_LOG_A, MOST_LOG_A) };
        let mut epsilon = of(log);
        for direction in [1.0, -1.0] {
            while (LEAST_LOG_A..=MOST_LOG_A).contains(&(log + direction)) {
                let next = of(log + direction);
                if next.is_nan() || next >= epsilon {
                    break;
                }
                (log, epsilon) = (log + direction, next);
            }
        }
        let bottom = valley(log - 1.0, log + 1.0, (log, epsilon), of);
        (bottom.1, bottom.0.exp())
    }
}

/// The logarithms of α − 1 that are tried: from α = 1 + 10⁻⁶ to 10¹⁵.
const LEAST_LOG_A: f64 = -14.0;
const MOST_LOG_A: f64 = 34.0;

/// Where `of` is least between `low` and `high`, and how much it is there, if it has one valley: Brent, *Algorithms for
/// Minimization without Derivatives*, 1973, chapter 5. Parabolas through the three best points, and golden sections where they do
/// not help. `best` is a point within, and its value.
fn valley(mut low: f64, mut high: f64, mut best: (f64, f64), of: impl Fn(f64) -> f64) -> (f64, f64) {
    /// What is left of the place's error moves the value by the square of it.
    const WIDTH: f64 = 1e-7;
    const MOST_ROUNDS: u32 = 48;
    let golden = 0.5 * (3.0 - 5.0_f64.sqrt());
    let (mut second, mut third) = (None::<(f64, f64)>, None::<(f64, f64)>);
    let (mut step, mut before) = (0.0_f64, 0.0_f64);
    for _ in 0..MOST_ROUNDS {
        let middle = 0.5 * (low + high);
        if (best.0 - middle).abs() <= 2.0 * WIDTH - 0.5 * (high - low) {
            break;
        }
        let vertex = second.zip(third).map(|(second, third)| {
            let (to_second, to_third) = (best.0 - second.0, best.0 - third.0);
            let (r, q) = (to_second * (best.1 - third.1), to_third * (best.1 - second.1));
            to_second.mul_add(r, -(to_third * q)) / (2.0 * (q - r))
        });
        // A parabola that leads further than half of the step before the last is not yet one of this valley.
        let inside = |step: &f64| *step > low - best.0 && *step < high - best.0 && step.abs() < 0.5 * before.abs();
        if let Some(vertex) = vertex.filter(inside) {
            (before, step) = (step, vertex);
            let place = best.0 + step;
            if place - low < 2.0 * WIDTH || high - place < 2.0 * WIDTH {
                step = WIDTH.copysign(middle - best.0);
            }
        } else {
            before = if best.0 < middle { high - best.0 } else { low - best.0 };
            step = golden * before;
        }
        let place = best.0 + if step.abs() < WIDTH { WIDTH.copysign(step) } else { step };
        let new = (place, of(place));
        let (worse, other) = if new.1 <= best.1 { (best, new) } else { (new, best) };
        if worse.0 < other.0 {
            low = worse.0;
        } else {
            high = worse.0;
        }
        if new.1 <= best.1 {
            (third, second, best) = (second, Some(best), new);
        } else if second.is_none_or(|second| new.1 <= second.1) {
            (third, second) = (second, Some(new));
        } else if third.is_none_or(|third| new.1 <= third.1) {
            third = Some(new);
        }
    }
    best
}

/// The ε at which mechanisms with the divergence `divergence` of order 1 + `a` are (ε, `delta`)-private, rounded up.
fn epsilon_at(a: f64, divergence: f64, delta: f64) -> f64 {
    // Divergences grow with the order, so this one bounds the Kullback–Leibler divergence, and by Pinsker's inequality
    // the distance in total variation, which is the δ at ε = 0.
    if divergence * (1.0 + FLAT_MARGIN) <= 2.0 * delta * delta {
        return 0.0;
    }
    let terms = [divergence, -(1.0 / a).ln_1p(), -delta.ln() / a, -a.ln_1p() / a];
    let size: f64 = terms.iter().map(|term| term.abs()).sum();
    let epsilon = terms.iter().sum::<f64>() + size * TERM_MARGIN + f64::MIN_POSITIVE;
    if epsilon.is_nan() { f64::INFINITY } else { epsilon.max(0.0) * (1.0 + FLAT_MARGIN) }
}

impl Term {
    const fn is_nothing(self) -> bool {
        let (Self::Response { epsilon } | Self::Laplace { epsilon, .. } | Self::Range { epsilon }) = self;
        epsilon <= 0.0
    }

    /// An upper bound of the divergence of order 1 + `a`.
    fn at(self, a: f64) -> f64 {
        let alpha = a + 1.0;
        let (value, size, zcdp, epsilon) = match self {
            // ln(cosh((α − ½)ε)/cosh(ε/2)).
            Self::Response { epsilon } => {
                let (far, near) = (log_cosh((a + 0.5) * epsilon), log_cosh(0.5 * epsilon));
                (far - near, far + near, 0.5 * epsilon * epsilon, epsilon)
            }
            // ln(c·e^((α−1)ε) + (1 − c)·e^(−αε)).
            Self::Laplace { epsilon, scale } => {
                let order = 2.0_f64.mul_add(a, 1.0);
                let ratio = (-1.0 / scale).exp_m1() / (-order / scale).exp_m1();
                let whole = 1.0 + (-1.0 / scale).exp();
                let up = ratio.mul_add((-order / scale).exp(), 1.0) / whole;
                let down = (1.0 - ratio) / whole;
                let grown = a * epsilon;
                let (value, size) = if grown < 30.0 {
                    let parts = (up * grown.exp_m1(), (-alpha * epsilon).exp_m1());
                    let rise = down.mul_add(parts.1, parts.0).max(0.0);
                    // An error of the rise is one of the logarithm by its part of the whole.
                    (rise.ln_1p(), (parts.0 - parts.1) / (1.0 + rise) + rise.ln_1p())
                } else {
                    (grown + down.mul_add((-order * epsilon).exp(), up).ln(), grown + 1.0)
                };
                (value, size, 0.5 * epsilon * epsilon, epsilon)
            }
            // α·h(αε) − (α − 1)·h((α − 1)ε) − h(ε).
            Self::Range { epsilon } => {
                let parts =
                    [alpha * log_sinh_ratio(alpha * epsilon), a * log_sinh_ratio(a * epsilon), log_sinh_ratio(epsilon)];
                (parts[0] - parts[1] - parts[2], parts.iter().sum(), 0.125 * epsilon * epsilon, epsilon)
            }
        };
        // Both caps hold of themselves; they are the better ones where the formula's margin is large.
        let value = size.mul_add(TERM_MARGIN, value) / a * (1.0 + TERM_MARGIN);
        let value = if value.is_nan() { f64::INFINITY } else { value };
        value.min(alpha * zcdp * (1.0 + TERM_MARGIN)).min(epsilon)
    }
}

/// ln cosh y, for y ≥ 0.
fn log_cosh(y: f64) -> f64 {
    if y < 1.0 {
        let half = (0.5 * y).sinh();
        (2.0 * half * half).ln_1p()
    } else {
        y + (-2.0 * y).exp().ln_1p() - std::f64::consts::LN_2
    }
}

/// ln(sinh(y/2)/(y/2)), for y ≥ 0.
fn log_sinh_ratio(y: f64) -> f64 {
    if y < 1.0 {
        // The series of sinh(x)/x − 1 in x², whose eighth term is below 10⁻¹⁵ of the first.
        let square = 0.25 * y * y;
        let series = [156.0, 110.0, 72.0, 42.0, 20.0].iter().fold(1.0, |sum, divisor| 1.0 + square / divisor * sum);
        (square / 6.0 * series).ln_1p()
    } else {
        0.5 * y + (-(-y).exp_m1() / y).ln()
    }
}
