//! The slow and certain path: a uniform real, revealed word by word, against a weight to as many bits as it takes.

use num_bigint::BigUint;
use rand::CryptoRng;

use crate::mechanism::bernoulli_exp::exact::bounds;

/// The bits by which e^(−x) is known more finely than its multiple by a 64-bit number of candidates must be.
const GUARD_BITS: u64 = 128;

/// Whether a uniform real in [`offset`, `offset` + 1) is below `candidates`·e^(−`numerator`/`denominator`)·2^`bits`.
///
/// Digits behind the point are drawn only while the known ones do not decide. `denominator` is not zero.
#[cold]
pub(super) fn uniform_is_below<R: CryptoRng + ?Sized>(
    offset: u128,
    candidates: u64,
    numerator: &BigUint,
    denominator: &BigUint,
    bits: u32,
    rng: &mut R,
) -> bool {
    let mut digits = BigUint::from(offset);
    let mut count = u64::from(bits);
    loop {
        let (low, high) = bounds(numerator, denominator, count + GUARD_BITS);
        let low = (low * candidates) >> GUARD_BITS;
        if digits < low {
            return true;
        }
        // Rounded up, as the real is at least `digits`.
        let high = ((high * candidates + (BigUint::from(1u32) << GUARD_BITS)) - 1u32) >> GUARD_BITS;
        if digits >= high {
            return false;
        }
        digits = (digits << 64u32) + rng.next_u64();
        count += 64;
    }
}
