use num_bigint::BigUint;
use rand::Rng;
use statrs::distribution::{ContinuousCDF, Normal};

use super::*;
use crate::mechanism::tests::{DRAWS, Script, chi_square_p, seeded, summed_upper_tail};

fn law(numerator: u128, shift: u32) -> DiscreteGaussian {
    DiscreteGaussian::with_variance(Dyadic::new(numerator, shift).unwrap()).unwrap()
}

fn rho(value: f64) -> Rho {
    Rho::floor_from(value).unwrap()
}

#[test]
fn draws_follow_the_law() {
    for (numerator, shift) in
        [(1, 1), (3, 2), (1, 0), (5, 1), (25, 0), (200, 0), (1_234_567, 10), (10_000, 0), (1 << 20, 0)]
    {
        let law = law(numerator, shift);
        let variance = law.variance.to_f64();
        let mut rng = seeded(11);
        let tail = summed_upper_tail(|x| (-x * x / (2.0 * variance)).exp(), (variance.sqrt() * 40.0) as i128 + 10);
        let p = chi_square_p(|| law.sample(&mut rng), tail, variance.sqrt());
        assert!(p > 1e-4, "variance {variance}: p = {p}");
    }
}

#[test]
fn narrow_draws_are_as_rare_as_stated() {
    // σ² = 1/8: P[X ≠ 0] = 2e⁻⁴/(1 + 2e⁻⁴ + …), too coarse for χ² with three cells of ten.
    let law = law(1, 3);
    let mut rng = seeded(12);
    let off = (0..DRAWS).filter(|_| law.sample(&mut rng) != 0).count() as f64;
    let weight = 2.0 * ((-4.0_f64).exp() + (-16.0_f64).exp());
    let p = weight / (1.0 + weight);
    let count = DRAWS as f64;
    assert!((off - count * p).abs() < 4.0 * (count * p * (1.0 - p)).sqrt(), "{off}");
    // And at σ² = 2⁻²⁰ everything is 0: the rest has probability 2·e^(−2¹⁹).
    let law = self::law(1, 20);
    assert!((0..1_000).all(|_| law.sample(&mut rng) == 0));
}

#[test]
fn wide_draws_follow_the_law() {
    // σ = 2²⁰ to 2⁶⁰, squares and not; the continuous law from t − 1/2 is within one part in σ² of the discrete one.
    for variance in [1 << 40, (1 << 41) + 3, (1 << 80) - 1, 1 << 80, 7 << 90, (1 << 120) - 1, 1 << 120] {
        let law = law(variance, 0);
        let sigma = (variance as f64).sqrt();
        let normal = Normal::new(0.0, sigma).unwrap();
        let mut rng = seeded(13);
        let p = chi_square_p(|| law.sample(&mut rng), |t| normal.sf(t as f64 - 0.5), sigma);
        assert!(p > 1e-4, "sigma {sigma}: p = {p}");
    }
}

#[test]
fn wide_draws_have_the_stated_moments_and_fill_the_low_digits() {
    let law = law(1 << 100, 0);
    let mut rng = seeded(14);
    let draws: Vec<f64> = (0..DRAWS).map(|_| law.sample(&mut rng) as f64 / 2f64.powi(50)).collect();
    let count = DRAWS as f64;
    let mean = draws.iter().sum::<f64>() / count;
    let variance = draws.iter().map(|x| x * x).sum::<f64>() / count;
    let kurtosis = draws.iter().map(|x| x.powi(4)).sum::<f64>() / count;
    assert!(mean.abs() < 4.0 / count.sqrt(), "{mean}");
    assert!((variance - 1.0).abs() < 4.0 * (2.0 / count).sqrt(), "{variance}");
    assert!((kurtosis - 3.0).abs() < 4.0 * (96.0 / count).sqrt(), "{kurtosis}");
    // No float rounded a draw: its lowest bit is fair.
    let odd = (0..DRAWS).filter(|_| law.sample(&mut rng) & 1 == 1).count() as f64;
    assert!((odd - count / 2.0).abs() < 4.0 * (count / 4.0).sqrt(), "{odd}");
}

#[test]
fn the_approximate_exponent_is_a_close_lower_bound() {
    let mut rng = seeded(15);
    let variances = [
        (1, 20),
        (1, 0),
        (3, 1),
        (25, 0),
        (200, 0),
        (1 << 20, 30),
        (1 << 40, 0),
        ((1 << 120) - 1, 0),
        (1 << 120, 0),
        ((1 << 120) - 1, 90),
    ];
    for (numerator, shift) in variances {
        let law = law(numerator, shift);
        let t = law.proposal.scale().numerator();
        let random = (0..500).map(|_| {
            let word = u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64());
            word % (t * 12)
        });
        for magnitude in [0, 1, t - 1, t, t + 1, 2 * t, 44 * t, 300 * t].into_iter().chain(random.collect::<Vec<_>>()) {
            let Some(scaled) = magnitude.checked_mul(law.step) else { continue };
            let distance = scaled.abs_diff(law.variance.numerator());
            let (exact_numerator, exact_denominator) = law.exact_exponent(magnitude);
            assert_eq!(exact_numerator, BigUint::from(distance) * distance);
            let truth = (exact_numerator << 64u32) / exact_denominator;
            if distance == 0 {
                continue;
            }
            let approximate = law.approximate_exponent(distance);
            if approximate == u128::MAX {
                assert!(truth >= BigUint::from(1u32) << 71u32, "{magnitude} at {:?}", law.variance());
                continue;
            }
            let approximate = BigUint::from(approximate);
            assert!(approximate <= truth, "{magnitude} at {:?}", law.variance());
            let error = &truth - approximate;
            assert!(error <= (truth >> 60u32) + 8u32, "{magnitude} at {:?}: {error}", law.variance());
        }
    }
}

#[test]
fn the_exponent_is_that_of_the_paper() {
    // x = (|Y| − σ²/t)²/(2σ²), here with σ² = 5/2 and t = 2: |Y| = 3 gives (3 − 5/4)²/5 = 49/80.
    let law = law(5, 1);
    assert_eq!(law.proposal.scale(), Dyadic::new(2, 0).unwrap());
    let (numerator, denominator) = law.exact_exponent(3);
    assert_eq!(numerator * 80u32, denominator * 49u32);
}

#[test]
fn proposals_in_the_sliver_are_decided_exactly() {
    // σ² = 1, t = 2, |Y| = 0: x = (0 − 1/2)²/2 = 1/8, and e^(−1/8)·2¹²⁸ in two words:
    let (first, second) = (0xe1eb_5127_6c11_0c3c, 0x3eb1_269f_2f5d_4afa);
    let law = law(1, 0);
    for (words, accepted) in [
        (vec![first - 1], true),
        (vec![first + 1], false),
        (vec![first, second - 1], true),
        (vec![first, second + 1], false),
    ] {
        let mut rng = Script::new(words.clone());
        assert_eq!(law.accepts(0, &mut rng), accepted, "{words:x?}");
        assert_eq!(rng.left(), 0);
    }
}

#[test]
fn a_proposal_beyond_128_bits_is_weighed_in_wide_integers() {
    let law = law((1 << 120) - 1, 90);
    let magnitude = u128::MAX;
    assert_eq!(magnitude.checked_mul(law.step), None);
    // e^(−x) is below any 192 digits here, so that the third word, being no zero, refuses it.
    assert!(!law.accepts(magnitude, &mut Script::new([0, 0, 1])));
    assert!(!law.accepts(magnitude, &mut Script::new([1])));
}

#[test]
fn calibration_is_exact_where_it_can_be() {
    let variance = |d_squared, r| DiscreteGaussian::calibrated(d_squared, rho(r)).unwrap().variance();
    assert_eq!(variance(8, 0.02), (200, 1));
    assert_eq!(variance(1, 0.02), (25, 1));
    assert_eq!(variance(1, 2.0), (1, 4));
    assert_eq!(variance(1, 0.4), (5, 4));
    assert_eq!(variance(1 << 80, 0.5), (1 << 80, 1));
    // 10⁻¹² is the least price: σ² = 10¹²/2·D².
    assert_eq!(variance(2, 1e-12), (1_000_000_000_000, 1));
}

#[test]
fn small_variances_are_fine_grained() {
    for r in [50.0, 49.999, 13.7, 3.0, 0.7, 0.3] {
        let (numerator, denominator) = DiscreteGaussian::calibrated(1, rho(r)).unwrap().variance();
        let excess = numerator as f64 / denominator as f64 * 2.0 * r - 1.0;
        assert!((-1e-15..1e-6).contains(&excess), "rho {r}: {excess}");
    }
}

#[test]
fn the_cost_is_never_above_what_was_paid() {
    for d_squared in [1, 3, 8, 1_000_003, (1 << 79) - 1] {
        for r in [1e-12, 1e-9, 0.000_675, 0.02, 1.0 / 3.0, 1.0, std::f64::consts::PI, 50.0] {
            let paid = rho(r);
            let law = DiscreteGaussian::calibrated(d_squared, paid).unwrap();
            let cost = law.cost(d_squared);
            assert!(cost <= paid, "{d_squared}, {r}");
            assert!(cost.to_f64() >= paid.to_f64() * (1.0 - 1.1e-6) - 1e-12, "{d_squared}, {r}: {cost}");
            // Where noise is exact, so is its cost.
            let (numerator, denominator) = law.variance();
            if BigUint::from(numerator) * 2u32 * paid.steps()
                == BigUint::from(d_squared) * Rho::STEPS_PER_UNIT * denominator
            {
                assert_eq!(cost, paid);
            }
        }
    }
    assert_eq!(law(3, 0).cost(1).steps(), 166_666_666_667);
    assert_eq!(law(1, 0).cost(u128::MAX), Rho::MAX);
}

#[test]
fn what_cannot_be_calibrated_is_refused() {
    assert_eq!(DiscreteGaussian::calibrated(0, rho(1.0)), Err(CalibrationError::NoSensitivity));
    assert_eq!(DiscreteGaussian::calibrated(1, Rho::ZERO), Err(CalibrationError::NoLoss));
    assert!(DiscreteGaussian::calibrated(1 << 120, rho(0.5)).is_ok());
    assert_eq!(DiscreteGaussian::calibrated((1 << 120) + 1, rho(0.5)), Err(CalibrationError::TooMuchNoise));
    assert_eq!(DiscreteGaussian::calibrated(1 << 112, rho(1e-12)), Err(CalibrationError::TooMuchNoise));
    assert_eq!(DiscreteGaussian::calibrated(u128::MAX, rho(1e-12)), Err(CalibrationError::TooMuchNoise));
    assert!(DiscreteGaussian::with_variance(Dyadic::new((1 << 120) + 1, 10).unwrap()).is_err());
}

#[test]
fn the_standard_deviation_is_that_of_the_discrete_law() {
    for (numerator, shift) in [(1, 10), (1, 3), (1, 2), (1, 0), (31, 3), (4, 0), (200, 0)] {
        let law = law(numerator, shift);
        let variance = law.variance.to_f64();
        let weights: Vec<f64> = (0..2_000).map(|x| (-f64::from(x * x) / (2.0 * variance)).exp()).collect();
        let mass = 2.0 * weights.iter().sum::<f64>() - 1.0;
        let moment = 2.0 * weights.iter().enumerate().map(|(x, w)| (x * x) as f64 * w).sum::<f64>();
        assert!(((moment / mass).sqrt() - law.std_dev()).abs() <= 1e-12 * law.std_dev(), "variance {variance}");
    }
    assert_eq!(law(1 << 120, 0).std_dev(), 2f64.powi(60));
}

#[test]
fn the_tail_is_a_tight_upper_bound() {
    for (numerator, shift) in [(1, 4), (1, 1), (1, 0), (25, 0), (200, 0), (1 << 14, 0)] {
        let law = law(numerator, shift);
        let variance = law.variance.to_f64();
        let truth = summed_upper_tail(|x| (-x * x / (2.0 * variance)).exp(), 6_000);
        for t in [0, 1, 2, 5, 10, 50, 90, 100, 1_000] {
            let (bound, exact) = (law.tail(t), truth(i128::from(t)));
            assert!(bound >= exact * (1.0 - 1e-13), "variance {variance}, t {t}: {bound} {exact}");
            assert!(bound <= exact * (1.0 + 1e-8) + f64::MIN_POSITIVE, "variance {variance}, t {t}: {bound} {exact}");
        }
    }
}

#[test]
fn the_wide_tail_is_above_the_sum() {
    // Where both ways are affordable they must agree, the closed form from above and within a step.
    let law = law(1 << 20, 0);
    for t in [1.0, 100.0, 1_000.0, 5_000.0, 8_000.0] {
        let (summed, continuous) = (law.summed_tail(t), law.continuous_tail(t));
        assert!(summed <= continuous * (1.0 + 1e-8), "t {t}");
        assert!(continuous <= law.summed_tail(t - 1.0) * (1.0 + 1e-8), "t {t}");
    }
    assert_eq!(law.continuous_tail(0.0), 1.0);
}

#[test]
fn the_quantile_is_the_least() {
    for (numerator, shift) in [(1, 4), (1, 0), (25, 0), (200, 0), (12_345, 0), (1 << 20, 0)] {
        let law = law(numerator, shift);
        for probability in [0.9, 0.4, 0.05, 0.025, 1e-3, 1e-9, 1e-18, 1e-24] {
            let t = law.tail_quantile(probability);
            assert_eq!(t, t.trunc());
            assert!(law.tail(t as u64) <= probability * (1.0 + 1e-8));
            assert!(t == 0.0 || law.tail(t as u64 - 1) > probability, "{numerator}/2^{shift} at {probability}");
        }
    }
    for sigma in [2_000.0, 1e6, 1e9, 1e18_f64] {
        let law = self::law((sigma as u128).pow(2), 0);
        let normal = Normal::new(0.0, 1.0).unwrap();
        for probability in [0.05, 1e-9, 1.25e-10] {
            let closed = 1.0 + (sigma * -normal.inverse_cdf(probability)).ceil();
            let t = law.tail_quantile(probability);
            assert!((t - closed).abs() <= 1.0 + 1e-8 * closed, "sigma {sigma}: {t} {closed}");
            assert!(normal.sf((t - 1.0) / sigma) <= probability);
        }
    }
}
