use num_bigint::BigUint;
use rand::Rng;

use super::exact::bounds;
use super::*;
use crate::mechanism::tests::{Script, seeded, summed_upper_tail};

fn integer(value: u128) -> BigUint {
    BigUint::from(value)
}

/// ⌊e^(−numerator/denominator)·2^bits⌋, certified.
fn floor(numerator: u128, denominator: u128, bits: u64) -> BigUint {
    let (low, high) = bounds(&integer(numerator), &integer(denominator), bits);
    assert_eq!(&low + 1u32, high, "the interval holds an integer, so it certifies no floor");
    low
}

/// The toss with x given exactly and approximated at its best.
fn toss(rng: &mut Script, numerator: u128, denominator: u128) -> bool {
    let approximate = (integer(numerator) << 64u32) / integer(denominator);
    bernoulli_exp(rng, u128::try_from(approximate).unwrap(), || (integer(numerator), integer(denominator)))
}

#[test]
fn every_table_entry_is_the_exact_floor() {
    for (k, entry) in WHOLE.iter().enumerate().skip(1) {
        assert_eq!(BigUint::from(*entry), floor(k as u128, 1, 63), "e^-{k}");
    }
    assert_eq!(floor(NEGLIGIBLE as u128, 1, 63), BigUint::ZERO);
    assert_ne!(floor(NEGLIGIBLE as u128 - 1, 1, 63), BigUint::ZERO);
    for a in 1..256 {
        assert_eq!(BigUint::from(COARSE[a]), floor(a as u128, 1 << 8, 63), "e^-{a}/256");
        assert_eq!(BigUint::from(FINE[a]), floor(a as u128, 1 << 16, 63), "e^-{a}/65536");
    }
    assert_eq!([WHOLE[0], COARSE[0], FINE[0]], [ONE; 3]);
}

#[test]
fn bounds_hold_the_truth_and_tighten() {
    for (numerator, denominator) in [(1, 3), (1, 1), (7, 2), (88, 3), (200, 1), (1, 1 << 100), (1 << 100, 3)] {
        let x = numerator as f64 / denominator as f64;
        let (numerator, denominator) = (integer(numerator), integer(denominator));
        let (low, high) = bounds(&numerator, &denominator, 64);
        let truth = (-x).exp() * 2f64.powi(64);
        let as_float = |n: &BigUint| u128::try_from(n).unwrap() as f64;
        assert!(as_float(&low) <= truth * (1.0 + 1e-13) && truth <= as_float(&high) * (1.0 + 1e-13), "{x}");
        let (finer_low, finer_high) = bounds(&numerator, &denominator, 256);
        assert!(finer_low < finer_high && &finer_high - &finer_low <= integer(1), "{x}");
        assert!(low <= (&finer_low >> 192u32) && (&finer_high >> 192u32) <= high, "{x}");
    }
    // e^(−1) in hexadecimal: 0.5E2D58D8B3BCDF1ABADEC7829054F90D.
    assert_eq!(floor(1, 1, 128), integer(0x5E2D_58D8_B3BC_DF1A_BADE_C782_9054_F90D));
}

#[test]
fn the_approximation_is_within_its_certified_error() {
    let mut rng = seeded(4);
    let edges = [
        0,
        1,
        (1 << 48) - 1,
        1 << 48,
        (1 << 56) - 1,
        1 << 56,
        (1 << 64) - 1,
        1 << 64,
        43 << 64,
        (44 << 64) - 1,
        44 << 64,
        u128::MAX,
    ];
    let random = (0..3_000).map(|_| (u128::from(rng.next_u64() % 46) << 64) | u128::from(rng.next_u64()));
    let mut worst = 0;
    for x in edges.into_iter().chain(random.collect::<Vec<_>>()) {
        let (low, high) = bounds(&integer(x), &integer(1 << 64), 63);
        let (low, high) = (u64::try_from(low).unwrap(), u64::try_from(high).unwrap());
        let approximation = exp_neg(x);
        worst = worst.max(approximation.abs_diff(low)).max(approximation.abs_diff(high));
    }
    assert!(worst <= 20, "off by {worst} units");
    // The proof's other error terms are below 20 more; the margin must hold all of it.
    const { assert!(MARGIN >= 40) };
}

#[test]
fn clear_words_decide_at_once() {
    let probability = u64::try_from(floor(1, 3, 63)).unwrap();
    let far = MARGIN + 50;
    assert!(toss(&mut Script::new([(probability - far) << 1]), 1, 3));
    assert!(!toss(&mut Script::new([(probability + far) << 1]), 1, 3));
    // And without asking for the exact exponent.
    let approximate = (1_u128 << 64) / 3;
    assert!(bernoulli_exp(&mut Script::new([0]), approximate, || panic!("not needed")));
    assert!(!bernoulli_exp(&mut Script::new([u64::MAX]), approximate, || panic!("not needed")));
}

#[test]
fn words_in_the_sliver_are_decided_exactly() {
    for (numerator, denominator) in [(1, 3), (1, 1), (5, 2), (1, 1 << 70), (43, 1)] {
        let boundary = u64::try_from(floor(numerator, denominator, 64)).unwrap();
        // One word short of the boundary, and one beyond it: 64 digits are enough.
        assert!(boundary == 0 || toss(&mut Script::new([boundary - 1]), numerator, denominator));
        if boundary < u64::MAX {
            assert!(!toss(&mut Script::new([boundary + 1]), numerator, denominator));
        }
        // The boundary word itself: 64 more digits are drawn, and decide.
        let next = u64::try_from(floor(numerator, denominator, 128) & integer(u128::from(u64::MAX))).unwrap();
        let mut below = Script::new([boundary, next - 1]);
        assert!(toss(&mut below, numerator, denominator));
        assert_eq!(below.left(), 0, "both words were needed");
        let mut above = Script::new([boundary, next + 1]);
        assert!(!toss(&mut above, numerator, denominator));
        assert_eq!(above.left(), 0, "both words were needed");
        // The boundary to 128 digits: the third word decides.
        let third = u64::try_from(floor(numerator, denominator, 192) & integer(u128::from(u64::MAX))).unwrap();
        assert!(toss(&mut Script::new([boundary, next, third - 1]), numerator, denominator));
        assert!(!toss(&mut Script::new([boundary, next, third + 1]), numerator, denominator));
    }
}

#[test]
fn a_certain_toss_is_certain_whatever_the_digits() {
    assert!(toss(&mut Script::new([u64::MAX]), 0, 1));
    assert!(toss(&mut Script::new([0]), 0, 1));
}

#[test]
fn hopeless_tosses_take_as_many_zeros_as_their_probability_has() {
    // e^(−100) is about 2^(−144.3): two words of zeros leave it open, the third decides at its 17th digit.
    let boundary = u64::try_from(floor(100, 1, 192)).unwrap();
    assert!(toss(&mut Script::new([0, 0, boundary - 1]), 100, 1));
    assert!(!toss(&mut Script::new([0, 0, boundary + 1]), 100, 1));
    assert!(!toss(&mut Script::new([0, 1]), 100, 1));
    assert!(!toss(&mut Script::new([MARGIN]), 100, 1), "a word in the sliver is decided at 64 digits");
    // An exponent beyond all measure costs no more.
    let huge = integer(u128::MAX);
    assert!(!bernoulli_exp_exact(&mut Script::new([0, 0, 1]), &huge, &integer(1)));
}

#[test]
fn frequencies_are_those_stated() {
    let mut rng = seeded(5);
    for (numerator, denominator) in [(1_u128, 1000_u128), (1, 3), (1, 1), (3, 2), (6, 1)] {
        let approximate = (numerator << 64) / denominator;
        let tosses = 1_000_000;
        let heads = (0..tosses)
            .filter(|_| bernoulli_exp(&mut rng, approximate, || (integer(numerator), integer(denominator))))
            .count();
        let p = (-(numerator as f64) / denominator as f64).exp();
        let z = (heads as f64 - p * f64::from(tosses)) / (f64::from(tosses) * p * (1.0 - p)).sqrt();
        assert!(z.abs() < 4.0, "e^-{numerator}/{denominator}: z = {z}");
    }
    // The slow path alone has the same law.
    let heads = (0..20_000).filter(|_| bernoulli_exp_exact(&mut rng, &integer(1), &integer(2))).count();
    let p = (-0.5_f64).exp();
    assert!((heads as f64 - 20_000.0 * p).abs() < 4.0 * (20_000.0 * p * (1.0 - p)).sqrt());
}

#[test]
fn the_geometric_law_counts_powers_of_e() {
    for k in 0..COUNTED as u64 {
        let (above, below) = (WHOLE[k as usize], WHOLE[k as usize + 1]);
        // Uniforms in (e^(−k−1), e^(−k)), just inside both ends, with either bit.
        assert_eq!(geometric_and_bit(&mut Script::new([(below + 1) << 1])), (k, false));
        assert_eq!(geometric_and_bit(&mut Script::new([((above - 1) << 1) | 1])), (k, true));
    }
    // Below e^(−32) the count goes on with a fresh word.
    assert_eq!(geometric_and_bit(&mut Script::new([0, 0, u64::MAX])), (64, false));
    assert_eq!(geometric_and_bit(&mut Script::new([1, (WHOLE[2] - 1) << 1])), (34, true));
}

#[test]
fn ties_of_the_geometric_law_are_decided_exactly() {
    for (k, entry) in WHOLE.iter().enumerate().take(COUNTED + 1).skip(1) {
        let next = u64::try_from(floor(k as u128, 1, 127) & integer(u128::from(u64::MAX))).unwrap();
        let tie = entry << 1;
        let fresh = if k == COUNTED { Some(u64::MAX) } else { None };
        let below = geometric_and_bit(&mut Script::new([tie, next - 1].into_iter().chain(fresh)));
        assert_eq!(below, (k as u64, false));
        assert_eq!(geometric_and_bit(&mut Script::new([tie, next + 1])), (k as u64 - 1, false));
    }
}

#[test]
fn the_geometric_law_and_its_bit_are_independent() {
    let mut rng = seeded(6);
    let tail = summed_upper_tail(|x| (-x).exp(), 60);
    let one_sided = |t: i128| if t <= 0 { 1.0 } else { tail(t) / tail(0) };
    for wanted in [false, true] {
        let draw = || loop {
            let (k, bit) = geometric_and_bit(&mut rng);
            if bit == wanted {
                return i128::from(k);
            }
        };
        assert!(crate::mechanism::tests::chi_square_p(draw, one_sided, 1.0) > 1e-4);
    }
    let bits = (0..100_000).filter(|_| geometric_and_bit(&mut rng).1).count();
    assert!((bits as f64 - 50_000.0).abs() < 4.0 * 158.2);
}
