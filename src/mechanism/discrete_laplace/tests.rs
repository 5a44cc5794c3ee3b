use num_bigint::BigUint;
use rand::Rng;

use super::*;
use crate::mechanism::tests::{DRAWS, Script, chi_square_p, seeded, summed_upper_tail};

fn law(numerator: u128, shift: u32) -> DiscreteLaplace {
    DiscreteLaplace::with_scale(Dyadic::new(numerator, shift).unwrap()).unwrap()
}

fn epsilon(value: f64) -> Epsilon {
    Epsilon::floor_from(value).unwrap()
}

#[test]
fn draws_follow_the_law() {
    // 4096 goes through no fraction, 3/8 and 5/2 through the division by a power of two.
    for (numerator, shift) in [(3, 3), (1, 0), (5, 1), (5, 0), (1_000, 0), (4_096, 0), (10_000_019, 10)] {
        let law = law(numerator, shift);
        let scale = law.scale().to_f64();
        let mut rng = seeded(7);
        let tail = summed_upper_tail(|x| (-x / scale).exp(), (scale * 45.0) as i128 + 50);
        let p = chi_square_p(|| law.sample(&mut rng), tail, scale);
        assert!(p > 1e-4, "scale {scale}: p = {p}");
    }
}

#[test]
fn wide_draws_follow_the_law() {
    // Where steps are too many to sum, the closed form: P[X ≥ t] = q^t/(1 + q).
    for numerator in [1 << 40, (1 << 40) + 7, (1 << 63) + 1, 3 << 70, 1 << 100] {
        let law = law(numerator, 0);
        let scale = numerator as f64;
        let mut rng = seeded(8);
        let tail = |t: i128| {
            if t >= 1 { 0.5 * (-(t as f64 - 0.5) / scale).exp() } else { 1.0 - 0.5 * ((t as f64 - 0.5) / scale).exp() }
        };
        let p = chi_square_p(|| law.sample(&mut rng), tail, scale);
        assert!(p > 1e-4, "scale {scale}: p = {p}");
    }
}

#[test]
fn wide_draws_have_the_stated_moments_and_fill_the_low_digits() {
    let law = law(1 << 50, 0);
    let mut rng = seeded(9);
    let draws: Vec<f64> = (0..DRAWS).map(|_| law.sample(&mut rng) as f64 / law.std_dev()).collect();
    let count = DRAWS as f64;
    let mean = draws.iter().sum::<f64>() / count;
    let variance = draws.iter().map(|x| x * x).sum::<f64>() / count;
    assert!(mean.abs() < 4.0 / count.sqrt(), "{mean}");
    // The fourth moment of the Laplace law is 6, so the square's variance is 5.
    assert!((variance - 1.0).abs() < 4.0 * (5.0 / count).sqrt(), "{variance}");
    // No float rounded a draw: its lowest bit is fair.
    let odd = (0..DRAWS).filter(|_| law.sample(&mut rng) & 1 == 1).count() as f64;
    assert!((odd - count / 2.0).abs() < 4.0 * (count / 4.0).sqrt(), "{odd}");
}

#[test]
fn the_approximate_exponent_is_a_close_lower_bound() {
    let mut rng = seeded(10);
    for numerator in [
        1,
        2,
        3,
        1_000_003,
        u128::from(u64::MAX),
        1 << 64,
        (1 << 64) + 1,
        (1 << 65) - 1,
        3 << 80,
        (1 << 100) - 1,
        1 << 100,
    ] {
        let law = law(numerator, 0);
        let random = (0..500).map(|_| (u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64())) % numerator);
        for candidate in [0, 1, numerator / 2, numerator - 1].into_iter().chain(random.collect::<Vec<_>>()) {
            let truth = (BigUint::from(candidate) << 64u32) / numerator;
            let error = truth - BigUint::from(law.approximate_exponent(candidate));
            assert!(error <= BigUint::from(8u32), "{candidate} of {numerator}: {error}");
        }
    }
}

#[test]
fn zero_is_not_drawn_twice_as_often() {
    let law = law(1, 0);
    // With scale 1 a try takes one word for U (which is 0) and one for the magnitude and the sign: large even words
    // are +0, large odd words −0, which is refused.
    let mut rng = Script::new([0, u64::MAX, 0, u64::MAX - 1]);
    assert_eq!(law.sample(&mut rng), 0);
    assert_eq!(rng.left(), 0);
    assert_eq!(law.sample(&mut Script::new([0, (1 << 62) | 1])), -1);
    assert_eq!(law.sample(&mut Script::new([0, 1 << 62])), 1);
}

#[test]
fn remainders_in_the_sliver_are_decided_exactly() {
    // Scale 3, U = 1: e^(−1/3)·2¹²⁸ in two words.
    let (first, second) = (0xb76e_9891_7975_2689, 0xc598_4c9c_50eb_e4c9);
    let one_of_three = 1 << 63;
    // What follows a refusal: U = 0, which needs no toss. Then +0 for the quotient and the sign.
    for (words, drawn) in [
        (vec![one_of_three, first - 1, u64::MAX - 1], 1),
        (vec![one_of_three, first + 1, 1, u64::MAX - 1], 0),
        (vec![one_of_three, first, second - 1, u64::MAX - 1], 1),
        (vec![one_of_three, first, second + 1, 1, u64::MAX - 1], 0),
    ] {
        let mut rng = Script::new(words.clone());
        assert_eq!(law(3, 0).sample(&mut rng), drawn, "{words:x?}");
        assert_eq!(rng.left(), 0);
    }
}

#[test]
fn calibration_is_exact_where_it_can_be() {
    let scale = |d1, e| DiscreteLaplace::calibrated(d1, epsilon(e)).unwrap().scale();
    assert_eq!(Some(scale(1, 0.5)), Dyadic::new(2, 0));
    assert_eq!(Some(scale(8, 0.1)), Dyadic::new(80, 0));
    assert_eq!(Some(scale(1, 4.0)), Dyadic::new(1, 2));
    assert_eq!(Some(scale(1 << 56, 1e-12)), Dyadic::new((1 << 56) * 10_u128.pow(12), 0));
}

#[test]
fn the_cost_is_never_above_what_was_paid() {
    for d1 in [1, 3, 7, 1_000_003, (1 << 56) - 1] {
        for e in [1e-12, 1e-6, 0.1, 0.3, 1.0 / 3.0, 1.0, std::f64::consts::E, 20.0] {
            let paid = epsilon(e);
            let law = DiscreteLaplace::calibrated(d1, paid).unwrap();
            let cost = law.cost(d1);
            assert!(cost <= paid, "{d1}, {e}");
            assert!(cost.to_f64() >= paid.to_f64() * (1.0 - 1.1e-6) - 1e-12, "{d1}, {e}: {cost}");
            // Twice the sensitivity costs twice as much, rounded up.
            assert!(law.cost(2 * d1).steps() >= 2 * cost.steps() - 1);
        }
    }
    assert_eq!(law(3, 0).cost(1).steps(), 333_333_333_334);
    assert_eq!(law(1, 0).cost(u128::MAX), Epsilon::MAX);
}

#[test]
fn what_cannot_be_calibrated_is_refused() {
    assert_eq!(DiscreteLaplace::calibrated(0, epsilon(1.0)), Err(CalibrationError::NoSensitivity));
    assert_eq!(DiscreteLaplace::calibrated(1, Epsilon::ZERO), Err(CalibrationError::NoLoss));
    assert_eq!(DiscreteLaplace::calibrated(1 << 100, epsilon(0.5)), Err(CalibrationError::TooMuchNoise));
    assert_eq!(DiscreteLaplace::calibrated(u128::MAX, epsilon(1e-12)), Err(CalibrationError::TooMuchNoise));
    assert!(DiscreteLaplace::calibrated(1 << 99, epsilon(0.5)).is_ok());
}

#[test]
fn the_standard_deviation_is_that_of_the_discrete_law() {
    for (numerator, shift) in [(1, 4), (3, 3), (1, 0), (10, 0), (100, 0)] {
        let law = law(numerator, shift);
        let scale = law.scale().to_f64();
        let weights: Vec<f64> = (0..10_000).map(|x| f64::from(x).mul_add(-1.0 / scale, 0.0).exp()).collect();
        let mass = 2.0 * weights.iter().sum::<f64>() - 1.0;
        let moment = 2.0 * weights.iter().enumerate().map(|(x, w)| (x * x) as f64 * w).sum::<f64>();
        assert!(((moment / mass).sqrt() / law.std_dev() - 1.0).abs() < 1e-12, "scale {scale}");
    }
    assert!((law(1 << 90, 0).std_dev() / 2f64.powi(90) / std::f64::consts::SQRT_2 - 1.0).abs() < 1e-12);
}

#[test]
fn the_tail_is_a_tight_upper_bound() {
    for (numerator, shift) in [(1, 3), (1, 0), (10, 0), (200, 0)] {
        let law = law(numerator, shift);
        let scale = law.scale().to_f64();
        let truth = summed_upper_tail(|x| (-x / scale).exp(), 12_000);
        for t in [0, 1, 2, 10, 100, 1_000, 5_000] {
            let (bound, exact) = (law.tail(t), truth(i128::from(t)));
            assert!(bound >= exact * (1.0 - 1e-14), "scale {scale}, t {t}");
            assert!(
                bound <= exact * (1.0 + 1e-8) || bound == f64::MIN_POSITIVE,
                "scale {scale}, t {t}: {bound} {exact}"
            );
        }
    }
}

#[test]
fn the_quantile_is_the_least() {
    for (numerator, shift) in [(1, 3), (1, 0), (5, 1), (10, 0), (12_345, 0), (1 << 30, 0)] {
        let law = law(numerator, shift);
        for probability in [0.9, 0.4, 0.05, 0.025, 1e-3, 1e-9, 1e-18, 1e-24] {
            let t = law.tail_quantile(probability);
            assert_eq!(t, t.trunc());
            assert!(law.tail(t as u64) <= probability);
            assert!(t == 0.0 || law.tail(t as u64 - 1) > probability, "{numerator}/2^{shift} at {probability}");
        }
    }
    let wide = law(1 << 90, 0);
    let t = wide.tail_quantile(1e-9);
    assert!((t / 2f64.powi(90) / 5e8_f64.ln() - 1.0).abs() < 1e-10);
}
