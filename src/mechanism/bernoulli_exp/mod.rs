//! A coin that lands heads with probability exactly e^(−x), for a rational x ≥ 0, and the geometric law made of it.
//!
//! Canonne, Kamath and Steinke (2020) toss it by a chain of rational coins. Here a uniform real is compared with
//! e^(−x) lazily: 63 binary digits and an integer approximation of certified error decide all but one toss in 2⁵¹; the
//! others go on to wide integers and as many digits as it takes. The law is the same, and exact. `proof.md` has the
//! argument.

pub(in crate::mechanism) mod exact;
mod table;
#[cfg(test)]
mod tests;

use num_bigint::BigUint;
use rand::CryptoRng;
use table::{COARSE, FINE, NEGLIGIBLE, ONE, WHOLE};

/// How far the approximation may be from the truth, in units of 2⁻⁶³. The proven error is below 40; the rest costs
/// nothing, and lets the proof be crude.
const MARGIN: u64 = 1 << 11;

/// How often [`geometric`] counts before it starts again; the law has no memory, so starting again changes nothing.
const COUNTED: usize = 32;

/// True with probability exactly e^(−x).
///
/// `approximate` is x in units of 2⁻⁶⁴, rounded down: no more than x, and less by at most 8 units and one part in 2⁶⁰.
/// `exact` gives x as numerator and denominator; it is called for about one toss in 2⁵¹.
#[inline]
pub(super) fn bernoulli_exp<R: CryptoRng + ?Sized>(
    rng: &mut R,
    approximate: u128,
    exact: impl FnOnce() -> (BigUint, BigUint),
) -> bool {
    let probability = exp_neg(approximate);
    let word = rng.next_u64();
    let digits = word >> 1;
    if digits + MARGIN < probability {
        return true;
    }
    if digits > probability + MARGIN {
        return false;
    }
    let (numerator, denominator) = exact();
    exact::uniform_is_below(word, 64, &numerator, &denominator, rng)
}

/// True with probability exactly e^(−x), with no approximation at hand: the slow path alone.
pub(super) fn bernoulli_exp_exact<R: CryptoRng + ?Sized>(
    rng: &mut R,
    numerator: &BigUint,
    denominator: &BigUint,
) -> bool {
    exact::uniform_is_below(rng.next_u64(), 64, numerator, denominator, rng)
}

/// A fair bit, and independently of it k = 0, 1, 2, … with probability (1 − e⁻¹)·e^(−k).
///
/// k is the number of successes of Bernoulli(e⁻¹) before the first failure, read off one uniform real: it is the
/// number of k ≥ 1 with uniform < e^(−k).
#[inline]
pub(super) fn geometric_and_bit<R: CryptoRng + ?Sized>(rng: &mut R) -> (u64, bool) {
    let word = rng.next_u64();
    (geometric_from(word >> 1, rng), word & 1 == 1)
}

fn geometric_from<R: CryptoRng + ?Sized>(mut digits: u64, rng: &mut R) -> u64 {
    let mut restarted = 0;
    loop {
        let mut k = 0;
        // The digits stand for a real in [digits, digits + 1)·2⁻⁶³, and WHOLE[k + 1] ≤ e^(−k−1)·2⁶³ < WHOLE[k + 1] + 1:
        // unless the two integers are equal, they decide.
        while k < COUNTED && digits < WHOLE[k + 1] {
            k += 1;
        }
        if k < COUNTED {
            if digits == WHOLE[k + 1] && geometric_tie(digits, k + 1, rng) {
                // The next power is less by a factor of e, far more than a unit, so the real is not below it.
                k += 1;
            }
            if k < COUNTED {
                return restarted + k as u64;
            }
        }
        restarted += COUNTED as u64;
        digits = rng.next_u64() >> 1;
    }
}

#[cold]
fn geometric_tie<R: CryptoRng + ?Sized>(digits: u64, power: usize, rng: &mut R) -> bool {
    exact::uniform_is_below(digits, 63, &BigUint::from(power), &BigUint::from(1u32), rng)
}

/// e^(−x) in units of 2⁻⁶³, within 20 units, for x in units of 2⁻⁶⁴.
#[inline]
fn exp_neg(x: u128) -> u64 {
    let whole = x >> 64;
    if whole >= NEGLIGIBLE as u128 {
        return 0;
    }
    let fraction = x as u64;
    let rest = fraction & ((1 << 48) - 1);
    // e^(−r) for r < 2⁻¹⁶ by four terms of its series; the fifth is below 2⁻⁶⁸.
    let square = multiply_high(rest, rest);
    let cube = multiply_high(square, rest);
    let mut power = ONE - (rest >> 1) + (square >> 2) - cube / 12;
    power = multiply(power, FINE[(fraction >> 48) as usize & 0xff]);
    power = multiply(power, COARSE[(fraction >> 56) as usize]);
    if whole > 0 { multiply(power, WHOLE[whole as usize]) } else { power }
}

/// ⌊x·y / 2⁶⁴⌋.
#[inline]
pub(super) const fn multiply_high(x: u64, y: u64) -> u64 {
    ((x as u128 * y as u128) >> 64) as u64
}

/// ⌊x·y / 2⁶³⌋ for x, y ≤ 2⁶³.
#[inline]
pub(super) const fn multiply(x: u64, y: u64) -> u64 {
    ((x as u128 * y as u128) >> 63) as u64
}
