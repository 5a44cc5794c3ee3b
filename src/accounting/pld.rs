//! Privacy loss distributions: what a fixed sequence of pure mechanisms costs, for *reports*, never for a filter.
//!
//! The privacy loss of a mechanism is bounded by that of a *dominating pair* of laws (P, Q): one whose hockey-stick
//! divergences are nowhere below the mechanism's. The losses ln P/Q of composed pairs add as independent numbers do (Zhu,
//! Dong, Wang 2022, theorem 10), and δ(ε) = E[(1 − e^(ε − loss))₊]. Pairs are known here of ε-private mechanisms
//! (randomised response) and of those whose loss has a bounded range; Gaussian noise on several coordinates has none
//! that is proven, so that events with it are left to [`super::rdp`].
//!
//! A loss between two points of the grid is *split* onto both, so that its mass under P and under Q stays what it was:
//! the pair that results tells no less, since forgetting which point it was gives the old one back. What leaves the grid
//! upwards counts as infinite, downwards it is moved up to the lowest point. All sums are of positive numbers, so that
//! floats err by parts of the result. `proof.md` has the arguments.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::Event;
use crate::mechanism::DiscreteLaplace;

/// More than the relative error of a mass: 2⁻⁵³ times a few steps for each of up to 10⁶ terms of a binomial law, and for
/// each of up to 10⁴ summands in each of up to 60 convolutions in a row.
const FLOAT_MARGIN: f64 = 1e-8;
/// More than all that underflows: fewer than 2⁶⁰ products, each below 2⁻¹⁰²².
const UNDERFLOW: f64 = 1e-200;
/// The part of δ that truncation may cost.
const TRUNCATED_PART: f64 = 1e-5;
/// How many points of the grid the sum of all losses takes.
const POINTS: f64 = 4096.0;
/// No law takes more points than this; more makes no report better.
const MOST_POINTS: usize = 1 << 17;
/// More mechanisms of different ε than this are made fewer, by raising some ε to the next.
const MOST_GROUPS: usize = 256;
/// The largest ε of one mechanism: e^ε is far from overflow. A larger one is no privacy, and has no need of a better
/// account.
const MOST_EPSILON: f64 = 300.0;
/// The most runs of one mechanism: the root of their number is how many terms a binomial law takes.
const MOST_RUNS: f64 = 1e9;

/// The ε at which `events`, each run as often as it says, are (ε, `delta`)-private together, rounded up. Selection is
/// left out: its δ is added apart.
///
/// `None` where this accountant has nothing to say: of Gaussian noise and whatever is known by its ρ alone, of a
/// `delta` that is not positive, and of losses too large to matter.
#[must_use]
pub fn epsilon(events: &[(Event, u64)], delta: f64) -> Option<f64> {
    if delta.is_nan() || delta <= 0.0 {
        return None;
    }
    let groups = merged(groups(events)?);
    if groups.is_empty() {
        return Some(0.0);
    }
    let grid = Grid::of(&groups);
    let runs: f64 = groups.iter().map(|group| group.runs).sum();
    let budget = delta * TRUNCATED_PART / runs / 64.0;
    let mut laws = groups.iter().map(|group| group.law(&grid, budget)).collect::<Option<Vec<_>>>()?;
    // The two shortest first, as Huffman's codes are made: no long law is convolved more often than need be.
    let mut shortest: BinaryHeap<_> = laws.iter().enumerate().map(|(at, law)| Reverse((law.mass.len(), at))).collect();
    while let Some(Reverse((_, a))) = shortest.pop() {
        let Some(Reverse((_, b))) = shortest.pop() else { return laws[a].epsilon(&grid, delta) };
        let mut sum = laws[a].and(&laws[b])?;
        sum.truncate(budget * sum.runs);
        shortest.push(Reverse((sum.mass.len(), a)));
        laws[a] = sum;
        laws[b] = Law::NOTHING;
    }
    None
}

/// How the loss of a mechanism is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Shape {
    /// Any ε-private mechanism.
    Response,
    /// Any mechanism whose privacy loss has a range of at most ε.
    Range,
}

/// Mechanisms of one shape and one ε.
#[derive(Debug, Clone, Copy)]
struct Group {
    shape: Shape,
    epsilon: f64,
    runs: f64,
}

/// The events by shape and ε, in ascending order; `None` when one of them has no dominating pair here.
fn groups(events: &[(Event, u64)]) -> Option<Vec<Group>> {
    let mut found: BTreeMap<(Shape, u64), f64> = BTreeMap::new();
    for (event, count) in events {
        let (shape, epsilon, runs) = match *event {
            // The ε in whole steps, which is not below the true one.
            Event::DiscreteLaplace { sensitivity, scale } => {
                (Shape::Response, DiscreteLaplace::loss(sensitivity, scale).to_f64(), *count as f64)
            }
            Event::Pure { epsilon } => (Shape::Response, epsilon.to_f64(), *count as f64),
            Event::Exponential { epsilon, draws } => (Shape::Range, epsilon.to_f64(), *count as f64 * draws as f64),
            Event::Selection { .. } => continue,
            Event::DiscreteGaussian { .. } | Event::Zcdp { .. } => return None,
        };
        let epsilon = epsilon * (1.0 + 2.0 * f64::EPSILON);
        if epsilon > MOST_EPSILON {
            return None;
        }
        if epsilon > 0.0 && runs > 0.0 {
            // Positive floats are ordered as their bits are.
            *found.entry((shape, epsilon.to_bits())).or_insert(0.0) += runs;
        }
    }
    let groups = found.into_iter().map(|((shape, bits), runs)| Group { shape, epsilon: f64::from_bits(bits), runs });
    groups.map(|group| (group.runs <= MOST_RUNS).then_some(group)).collect()
}

/// At most about [`MOST_GROUPS`] groups that cost no less: neighbours share the largest ε among them.
fn merged(groups: Vec<Group>) -> Vec<Group> {
    let runs: f64 = groups.iter().map(|group| group.runs).sum();
    let squares: f64 = groups.iter().map(|group| group.runs * group.epsilon * group.epsilon).sum();
    let mut part = 1e-4;
    let mut merged = groups.clone();
    while merged.len() > MOST_GROUPS {
        // Raising each ε² by no more than this raises their sum by no more than `part` of it.
        let width = squares / runs * part;
        merged.clear();
        for group in groups.iter().rev() {
            match merged.last_mut() {
                Some(last)
                    if last.shape == group.shape
                        && last.epsilon * last.epsilon - group.epsilon * group.epsilon <= width
                        && last.runs + group.runs <= MOST_RUNS =>
                {
                    last.runs += group.runs;
                }
                _ => merged.push(*group),
            }
        }
        part *= 2.0;
    }
    merged
}

/// The grid of losses: the multiples of one step.
struct Grid {
    step: f64,
}

impl Grid {
    /// A grid on which what all `groups` lose together has about [`POINTS`] points.
    fn of(groups: &[Group]) -> Self {
        let of = |f: &dyn Fn(&Group) -> f64| groups.iter().map(|group| group.runs * f(group)).sum::<f64>();
        let variance = of(&|group| match group.shape {
            Shape::Response => (group.epsilon / (0.5 * group.epsilon).cosh()).powi(2),
            Shape::Range => group.epsilon * group.epsilon / 3.0,
        });
        let most = 2.0 * of(&|group| group.epsilon);
        let largest = groups.iter().map(|group| group.epsilon).fold(0.0, f64::max);
        // About ten standard deviations to both sides, and room for what is not normal.
        let reach = most.min(22.0 * variance.sqrt() + 4.0 * largest);
        let step = (reach / POINTS).max(f64::MIN_POSITIVE);
        // The losses of the weightiest group fall on points of the grid.
        let weight = |group: &Group| group.runs * group.epsilon * group.epsilon;
        let weightiest =
            groups.iter().max_by(|a, b| weight(a).total_cmp(&weight(b))).map_or(step, |group| group.epsilon);
        Self { step: if weightiest < step { step } else { weightiest / (weightiest / step).ceil() } }
    }
}

/// The law of a privacy loss on the grid, under P, with what it bounds counted as `runs` mechanisms.
#[derive(Debug, Clone)]
struct Law {
    /// The lowest point of the grid.
    low: i64,
    /// The mass at each point from there.
    mass: Vec<f64>,
    /// The mass of infinite loss.
    infinite: f64,
    runs: f64,
}

impl Group {
    /// The law of the group's loss; `None` when it takes too many points.
    fn law(&self, grid: &Grid, budget: f64) -> Option<Law> {
        match self.shape {
            Shape::Response => self.responses(grid, budget),
            Shape::Range => self.ranges(grid, budget),
        }
    }

    /// `runs` randomised responses: the loss is (2k − runs)·ε, where k is binomial with P = e^ε/(1 + e^ε).
    fn responses(&self, grid: &Grid, budget: f64) -> Option<Law> {
        /// Terms smaller than this, by the largest, are not looked at one by one.
        const LEAST: f64 = 1e-45;
        let (runs, odds) = (self.runs, self.epsilon.exp());
        let mode = ((runs + 1.0) * odds / (1.0 + odds)).floor().min(runs);
        let mut weights = vec![(mode, 1.0)];
        let (mut total, mut rest) = (1.0, 0.0);
        for up in [true, false] {
            let (mut k, mut weight) = (mode, 1.0_f64);
            loop {
                let ratio = if up { (runs - k) / (k + 1.0) * odds } else { k / (runs - k + 1.0) / odds };
                weight *= ratio;
                if weight <= 0.0 {
                    break;
                }
                if weight < LEAST {
                    // The ratios are below one and only fall from here on.
                    rest += weight / (1.0 - ratio);
                    break;
                }
                k += if up { 1.0 } else { -1.0 };
                total += weight;
                weights.push((k, weight));
            }
        }
        // Divided by less than the sum of all terms, so that no mass is too small.
        let atoms = weights.into_iter().map(|(k, weight)| (2.0_f64.mul_add(k, -runs) * self.epsilon, weight / total));
        let mut law = Law::split(grid, atoms, runs)?;
        law.infinite += rest / total;
        law.truncate(budget * runs);
        Some(law)
    }

    /// `runs` mechanisms of bounded range: the loss of one has the density e^(s/2)/(4·sinh(ε/2)) on [−ε, ε].
    fn ranges(&self, grid: &Grid, budget: f64) -> Option<Law> {
        let (epsilon, step) = (self.epsilon, grid.step);
        let end = (epsilon / step).ceil();
        if 2.0 * end > MOST_POINTS as f64 {
            return None;
        }
        let end = end as i32;
        // Under P and under Q, a cell weighs what an atom at its middle does; cells end at the points of the grid.
        let cells = (-end..end).map(|cell| {
            let (from, to) = ((f64::from(cell) * step).max(-epsilon), (f64::from(cell + 1) * step).min(epsilon));
            let middle = 0.5 * (from + to);
            (middle, (0.5 * middle).exp() * (0.25 * (to - from).max(0.0)).sinh() / (0.5 * epsilon).sinh())
        });
        Law::split(grid, cells, 1.0)?.times(self.runs, budget)
    }
}

impl Law {
    const NOTHING: Self = Self { low: 0, mass: Vec::new(), infinite: 0.0, runs: 0.0 };

    /// Atoms (loss, mass) that bound `runs` mechanisms, each split between the two points of the grid around it; `None`
    /// when they take too many points.
    fn split(grid: &Grid, atoms: impl Iterator<Item = (f64, f64)> + Clone, runs: f64) -> Option<Self> {
        let step = grid.step;
        let (least, most) = atoms
            .clone()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), (loss, _)| (least.min(loss), most.max(loss)));
        let low = (least / step).floor();
        let points = (most / step).floor() + 2.0 - low;
        if !(points > 0.0 && points <= MOST_POINTS as f64 && low.abs() < 2_f64.powi(52)) {
            return None;
        }
        let mut mass = vec![0.0; points as usize];
        for (loss, weight) in atoms {
            let lower = (loss / step).floor();
            // (1 − f)·e^(−lower) + f·e^(−upper) = e^(−loss), so that the mass under Q is the same. More than the float's
            // error is added to f: a higher loss at the same mass is never less.
            let part = (-lower.mul_add(-step, loss)).exp_m1() / (-step).exp_m1();
            let margin = 8.0 * f64::EPSILON * (loss.abs() / step + 1.0);
            let part = (part + margin).clamp(0.0, 1.0);
            let at = (lower - low) as usize;
            mass[at] += weight * (1.0 - part);
            mass[at + 1] += weight * part;
        }
        Some(Self { low: low as i64, mass, infinite: UNDERFLOW, runs })
    }

    /// The law of the sum of two independent losses; `None` when it takes too many points.
    fn and(&self, other: &Self) -> Option<Self> {
        if self.mass.is_empty() || other.mass.is_empty() {
            return Some(if self.mass.is_empty() { other.clone() } else { self.clone() });
        }
        let (short, long) = if self.mass.len() < other.mass.len() { (self, other) } else { (other, self) };
        let points = short.mass.len() + long.mass.len() - 1;
        if points > MOST_POINTS {
            return None;
        }
        let mut mass = vec![0.0; points];
        for (at, weight) in short.mass.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
            for (sum, other) in mass[at..].iter_mut().zip(&long.mass) {
                *sum += weight * other;
            }
        }
        Some(Self {
            low: self.low + other.low,
            mass,
            infinite: self.infinite + other.infinite,
            runs: self.runs + other.runs,
        })
    }

    /// The law of the sum of `runs` such losses, by squaring.
    fn times(self, runs: f64, budget: f64) -> Option<Self> {
        let (mut left, mut power, mut product) = (runs as u64, self, Self::NOTHING);
        loop {
            if left & 1 == 1 {
                product = product.and(&power)?;
                product.truncate(budget * product.runs);
            }
            left >>= 1;
            if left == 0 {
                return Some(product);
            }
            power = power.and(&power)?;
            power.truncate(budget * power.runs);
        }
    }

    /// Cuts off both tails, as far as each weighs no more than `budget`: the upper counts as infinite from now on, the
    /// lower is moved up to the lowest point that is left.
    fn truncate(&mut self, budget: f64) {
        let mut cut = 0.0;
        while self.mass.len() > 1
            && let Some(last) = self.mass.last()
            && cut + last <= budget
        {
            cut += last;
            self.mass.pop();
        }
        self.infinite += cut;
        let (mut moved, mut points) = (0.0, 0);
        while points + 1 < self.mass.len() && moved + self.mass[points] <= budget {
            moved += self.mass[points];
            points += 1;
        }
        self.mass.drain(..points);
        self.low += points as i64;
        if let Some(first) = self.mass.first_mut() {
            *first += moved;
        }
    }

    /// The least ε with δ(ε) ≤ `delta`, rounded up; `None` when there is none.
    fn epsilon(&self, grid: &Grid, delta: f64) -> Option<f64> {
        let loss = |at: usize| (self.low + at as i64) as f64 * grid.step;
        let within = |epsilon: f64| {
            let finite: f64 = self
                .mass
                .iter()
                .enumerate()
                .rev()
                .map(|(at, mass)| (loss(at), mass))
                .take_while(|(loss, _)| *loss > epsilon)
                .map(|(loss, mass)| -(epsilon - loss).exp_m1() * mass)
                .sum();
            (self.infinite + finite) * (1.0 + FLOAT_MARGIN) <= delta
        };
        if within(0.0) {
            return Some(0.0);
        }
        let (mut low, mut high) = (0.0, loss(self.mass.len()));
        if high <= 0.0 || !within(high) {
            return None;
        }
        while high - low > high * 1e-10 {
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
        Some(high * (1.0 + 1e-12))
    }
}
