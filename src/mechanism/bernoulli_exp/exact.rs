//! The slow and certain path: a uniform real, revealed word by word, against e^(−x) to as many bits as it takes.

use num_bigint::BigUint;
use rand::CryptoRng;

/// Whether the uniform real in [0, 1) whose first `bits` binary digits are `prefix` is below e^(−`numerator`/`denominator`).
///
/// Further digits are drawn only while the known ones do not decide. `denominator` is not zero.
#[cold]
pub(super) fn uniform_is_below<R: CryptoRng + ?Sized>(
    prefix: u64,
    bits: u32,
    numerator: &BigUint,
    denominator: &BigUint,
    rng: &mut R,
) -> bool {
    let mut digits = BigUint::from(prefix);
    let mut count = u64::from(bits);
    loop {
        let (low, high) = bounds(numerator, denominator, count);
        if digits < low {
            return true;
        }
        if digits >= high {
            return false;
        }
        digits = (digits << 64u32) + rng.next_u64();
        count += 64;
    }
}

/// Integers `low` ≤ e^(−`numerator`/`denominator`)·2^`bits` ≤ `high`, at most one apart unless that number lies within
/// 2⁻⁴⁰ of an integer.
pub(in crate::mechanism) fn bounds(numerator: &BigUint, denominator: &BigUint, bits: u64) -> (BigUint, BigUint) {
    let one = BigUint::from(1u32);
    if *numerator == BigUint::ZERO {
        return (&one << bits, &one << bits);
    }
    let whole = match u64::try_from(numerator / denominator) {
        Ok(whole) if whole < bits => whole,
        // e^(−x) < 2^(−x) ≤ 2^(−bits).
        _ => return (BigUint::ZERO, one),
    };

    // e^x by its power series, whose terms are all positive, in fixed point. Each term is rounded down by less than one
    // unit, and each of those errors, carried through the later terms, grows to less than e^x units. Once a term is
    // zero so are all later ones: what the cut leaves out is among those errors.
    let precision = bits + 4 * whole + 128;
    let unit = &one << precision;
    let (mut term, mut sum, mut terms) = (unit.clone(), unit, 1u64);
    loop {
        term = term * numerator / (denominator * terms);
        sum += &term;
        terms += 1;
        if term == BigUint::ZERO {
            break;
        }
    }
    // e^x < 4^(whole + 1), so this is more than terms·e^x units.
    let error = BigUint::from(terms) << (2 * whole + 2);
    let scaled_one = one << (bits + precision);
    let low = &scaled_one / (&sum + error);
    let high = scaled_one / sum + 1u32;
    (low, high)
}
