//! Tests of the noise as a whole, and what the tests of the single samplers share.
//!
//! Draws that are judged by their distribution come from a *seeded* generator: such a test passes or fails for good,
//! and cannot fail by chance from one run to the next. The thresholds (p > 10⁻⁴ of χ²) were met by the first seed tried.

use std::collections::VecDeque;
use std::convert::Infallible;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng, TryCryptoRng, TryRng};
use statrs::distribution::{ChiSquared, ContinuousCDF};

use super::*;
use crate::accounting::{Epsilon, Rho};

/// How many draws a law is judged by.
pub(super) const DRAWS: usize = 100_000;

pub(super) fn seeded(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

/// A generator that plays back given words, and panics when it is asked for more.
pub(super) struct Script(VecDeque<u64>);

impl Script {
    pub(super) fn new(words: impl IntoIterator<Item = u64>) -> Self {
        Self(words.into_iter().collect())
    }

    pub(super) fn left(&self) -> usize {
        self.0.len()
    }
}

impl TryRng for Script {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        panic!("the samplers draw whole words");
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.pop_front().expect("the script has run out of words"))
    }

    fn try_fill_bytes(&mut self, _: &mut [u8]) -> Result<(), Infallible> {
        panic!("the samplers draw whole words");
    }
}

impl TryCryptoRng for Script {}

/// The p-value of Pearson's χ² test of [`DRAWS`] draws against the law with P[X ≥ t] = `upper_tail(t)`.
///
/// The cells are cut where the law's quantiles are: up to 64 of them, each of 1/64 or more where the law is not too
/// coarse. `spread` is a scale within which a few hundred candidates for the cuts are taken.
pub(super) fn chi_square_p(draw: impl FnMut() -> i128, upper_tail: impl Fn(i128) -> f64, spread: f64) -> f64 {
    let step = (spread / 64.0).ceil().max(1.0) as i128;
    let mut cuts = Vec::new();
    let mut above = 1.0;
    for cut in (-2_000..=2_000).map(|i| i * step) {
        let tail = upper_tail(cut);
        if above - tail >= 1.0 / 64.0 && tail >= 1e-3 {
            cuts.push(cut);
            above = tail;
        }
    }
    assert!(cuts.len() >= 2, "the law must be cut into at least three cells");
    let mut counts = vec![0_u64; cuts.len() + 1];
    std::iter::repeat_with(draw).take(DRAWS).for_each(|x| counts[cuts.partition_point(|cut| *cut <= x)] += 1);
    let tails: Vec<f64> = std::iter::once(1.0).chain(cuts.iter().map(|cut| upper_tail(*cut))).chain([0.0]).collect();
    let statistic: f64 = counts
        .iter()
        .zip(tails.windows(2))
        .map(|(count, pair)| {
            let expected = (pair[0] - pair[1]) * DRAWS as f64;
            assert!(expected >= 10.0, "a cell is too small for the test");
            (*count as f64 - expected).powi(2) / expected
        })
        .sum();
    ChiSquared::new(cuts.len() as f64).unwrap().sf(statistic)
}

/// P[X ≥ t] of the law with P(x) ∝ `weight`(|x|), summed over |x| ≤ `reach`.
pub(super) fn summed_upper_tail(weight: impl Fn(f64) -> f64, reach: i128) -> impl Fn(i128) -> f64 {
    let weights: Vec<f64> = (-reach..=reach).map(|x| weight(x.abs() as f64)).collect();
    let total: f64 = weights.iter().sum();
    move |t| {
        let skipped = (t + reach).clamp(0, 2 * reach + 1) as usize;
        weights[skipped..].iter().rev().sum::<f64>() / total
    }
}

#[test]
fn chi_square_tells_a_wrong_law() {
    // 2 % more scale than stated is found out: the threshold is not so lax that anything passes.
    let law = DiscreteLaplace::with_scale(Dyadic::new(102, 0).unwrap()).unwrap();
    let mut rng = seeded(1);
    let stated = summed_upper_tail(|x| (-x / 100.0).exp(), 10_000);
    assert!(chi_square_p(|| law.sample(&mut rng), stated, 100.0) < 1e-4);
}

#[test]
fn noise_sources_are_keyed_afresh() {
    let mut first = NoiseSource::from_system().unwrap();
    let mut second = NoiseSource::from_system().unwrap();
    // Equal by chance with probability 2⁻¹²⁸.
    assert_ne!([first.next_u64(), first.next_u64()], [second.next_u64(), second.next_u64()]);
    assert_eq!(format!("{first:?}"), "NoiseSource(..)");
}

#[test]
fn noise_draws_from_its_law() {
    let mut rng = seeded(2);
    let gaussian = Noise::Gaussian(DiscreteGaussian::with_variance(Dyadic::new(200, 0).unwrap()).unwrap());
    let laplace = Noise::Laplace(DiscreteLaplace::with_scale(Dyadic::new(10, 0).unwrap()).unwrap());
    let normal = summed_upper_tail(|x| (-x * x / 400.0).exp(), 400);
    let exponential = summed_upper_tail(|x| (-x / 10.0).exp(), 1_000);
    assert!(chi_square_p(|| gaussian.sample(&mut rng), normal, 14.1) > 1e-4);
    assert!(chi_square_p(|| laplace.sample(&mut rng), exponential, 10.0) > 1e-4);
}

#[test]
fn half_widths_are_the_least_that_hold_95_percent() {
    let half_width = |noise: Noise| noise.half_width_95();
    let gaussian = |variance, shift| {
        Noise::Gaussian(DiscreteGaussian::with_variance(Dyadic::new(variance, shift).unwrap()).unwrap())
    };
    let laplace =
        |scale, shift| Noise::Laplace(DiscreteLaplace::with_scale(Dyadic::new(scale, shift).unwrap()).unwrap());
    for (noise, weight) in [
        (gaussian(200, 0), Box::new(|x: f64| (-x * x / 400.0).exp()) as Box<dyn Fn(f64) -> f64>),
        (gaussian(1, 2), Box::new(|x: f64| (-x * x * 2.0).exp())),
        (laplace(10, 0), Box::new(|x: f64| (-x / 10.0).exp())),
        (laplace(1, 3), Box::new(|x: f64| (-x * 8.0).exp())),
    ] {
        let tail = summed_upper_tail(weight, 2_000);
        let least = (0..2_000i128).find(|h| 2.0 * tail(h + 1) <= 0.05).unwrap();
        assert_eq!(half_width(noise), least as f64, "{noise:?}");
    }
    // DESIGN 3.3: σ = 2357 gives 4620.
    assert_eq!(half_width(gaussian(2357 * 2357, 0)), 4620.0);
}

#[test]
fn noise_is_reported_with_its_exact_parameter() {
    let gaussian = Noise::Gaussian(DiscreteGaussian::calibrated(8, Rho::ceil_from(0.02).unwrap()).unwrap());
    let laplace = Noise::Laplace(DiscreteLaplace::calibrated(1, Epsilon::floor_from(8.0).unwrap()).unwrap());
    assert_eq!(serde_json::to_string(&gaussian).unwrap(), r#"{"mechanism":"discrete_gaussian","variance":"200"}"#);
    assert_eq!(serde_json::to_string(&laplace).unwrap(), r#"{"mechanism":"discrete_laplace","scale":"1/8"}"#);
    assert_eq!((gaussian.mechanism(), laplace.mechanism()), ("discrete_gaussian", "discrete_laplace"));
}

#[test]
fn dyadics_are_in_lowest_terms_and_in_order() {
    assert_eq!(Dyadic::new(12, 3), Dyadic::new(3, 1));
    assert_eq!(Dyadic::new(12, 3).unwrap().to_f64(), 1.5);
    assert_eq!(Dyadic::new(0, 0), None);
    assert_eq!(Dyadic::new(1, Dyadic::MAX_SHIFT + 1), None);
    let ordered = [(1, 100), (1, 1), (3, 2), (1, 0), (u128::MAX, 1), (u128::MAX, 0)].map(|(n, s)| Dyadic::new(n, s));
    assert!(ordered.is_sorted());
}

#[test]
fn dyadics_round_up_by_less_than_a_millionth() {
    let at_least = |n: u128, d: u128| Dyadic::at_least(&BigUint::from(n), &BigUint::from(d));
    // Integers and short binary fractions are themselves.
    assert_eq!(at_least(600, 3), Dyadic::new(200, 0));
    assert_eq!(at_least(3, 8), Dyadic::new(3, 3));
    assert_eq!(at_least(u128::MAX, 1), Dyadic::new(u128::MAX, 0));
    assert_eq!(at_least(0, 1), None);
    assert_eq!(at_least(1, 0), None);
    assert_eq!(Dyadic::at_least(&(BigUint::from(1u32) << 128u32), &BigUint::from(1u32)), None);
    for (n, d) in [(1, 3), (1, 100), (2, 3), (1_000_003, 3), (10_u128.pow(30) + 1, 3), (1, 9_000_000_000_000), (7, 3)] {
        let rounded = at_least(n, d).unwrap();
        // rounded ≥ n/d, and rounded − n/d < 10⁻⁶·n/d, in integers.
        let scaled = BigUint::from(rounded.numerator()) * d;
        let wanted = BigUint::from(n) << rounded.shift();
        assert!(scaled >= wanted, "{n}/{d}");
        assert!((scaled - &wanted) * 1_000_000u32 < wanted, "{n}/{d}");
    }
}

#[test]
fn steps_round_up() {
    let ceil = |n: u128, d: u128| ceil_steps(&BigUint::from(n), &BigUint::from(d));
    assert_eq!([ceil(0, 5), ceil(1, 5), ceil(5, 5), ceil(6, 5), ceil(u128::MAX, 1)], [0, 1, 1, 2, u64::MAX]);
}
