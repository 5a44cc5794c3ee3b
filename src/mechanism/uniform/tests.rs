use super::UniformBelow;
use crate::mechanism::tests::{Script, chi_square_p, seeded};

#[test]
fn every_value_is_as_likely() {
    for bound in [3, 10, 100, 1_000_003, (1 << 64) + (1 << 63), 3 << 100] {
        let law = UniformBelow::new(bound);
        let mut rng = seeded(3);
        let tail = |t: i128| 1.0 - (t as f64 / bound as f64).clamp(0.0, 1.0);
        let p = chi_square_p(|| law.sample(&mut rng) as i128, tail, bound as f64);
        assert!(p > 1e-4, "bound {bound}: p = {p}");
    }
}

#[test]
fn the_words_that_would_bias_are_refused() {
    // 2⁶⁴ = 3·6148914691236517205 + 1: one word too many for a fair third, and it is the word 0.
    let law = UniformBelow::new(3);
    let mut rng = Script::new([0, 1 << 63]);
    assert_eq!(law.sample(&mut rng), 1);
    assert_eq!(rng.left(), 0);
    // The words just below and above a third of the range.
    let third = u64::MAX / 3;
    assert_eq!(law.sample(&mut Script::new([third])), 0);
    assert_eq!(law.sample(&mut Script::new([third + 1])), 1);
    assert_eq!(law.sample(&mut Script::new([u64::MAX])), 2);
}

#[test]
fn wide_bounds_take_two_words_and_refuse_what_is_beyond() {
    let law = UniformBelow::new((1 << 64) + 1);
    // 65 bits are kept: the first candidate is 2⁶⁵ − 1, the second 2⁶⁴.
    let mut rng = Script::new([u64::MAX, u64::MAX, 1 << 63, 0]);
    assert_eq!(law.sample(&mut rng), 1 << 64);
    assert_eq!(rng.left(), 0);
    // A whole word's range is exact in either path.
    assert_eq!(UniformBelow::new(1 << 64).sample(&mut Script::new([7, 0])), 7);
    assert_eq!(UniformBelow::new(u128::from(u64::MAX)).sample(&mut Script::new([u64::MAX])), u128::from(u64::MAX) - 1);
}

#[test]
fn a_bound_of_one_or_zero_leaves_no_choice() {
    for bound in [0, 1] {
        assert_eq!(UniformBelow::new(bound).sample(&mut Script::new([u64::MAX])), 0);
    }
}
