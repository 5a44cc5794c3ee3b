//! The weight of a run, candidates·e^(−x), between two integers: machine integers only, and certified.
//!
//! e^(−x) is written 2^(−y), so that the whole part of y is a shift, and only its fraction needs tables.

use num_bigint::BigUint;

use crate::mechanism::bernoulli_exp::{multiply, multiply_high};

/// Weights are counted in units of 2^(−63), or of less fine ones.
pub(super) const MAX_BITS: u32 = 63;

/// 1 in units of 2⁻⁶³.
const ONE: u64 = 1 << 63;

/// How far the approximate power of two may be from the truth, in units of 2⁻⁶³. The proven error is below 250; the
/// rest costs nothing, and lets the proof be crude.
pub(super) const MARGIN: u64 = 1 << 10;

/// ⌊ln 2·2¹²⁸⌋.
pub(super) const LN_2: u128 = 0xB172_17F7_D1CF_79AB_C9E3_B398_03F2_F6AF;

/// 2^(−a/2⁸) in units of 2⁻⁶³, within 24 of them.
pub(super) static COARSE: [u64; 256] = powers(1);
/// 2^(−a/2¹⁶) in units of 2⁻⁶³, within 24 of them.
pub(super) static FINE: [u64; 256] = powers(9);

/// Integers with `lower` ≤ weight ≤ `upper`.
pub(super) struct Bounds {
    pub(super) lower: u128,
    pub(super) upper: u128,
}

/// How often a weight halves per unit of deficit, rounded down to 64 bits: `mantissa`·2^(−`exponent`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Rate {
    /// Has its top bit set.
    mantissa: u64,
    exponent: i32,
}

impl Rate {
    /// The rate at which e^(−deficit·`numerator`/`denominator`) halves, or less, by less than one part in 2⁶² of it.
    /// Neither is zero.
    pub(super) fn at_most(numerator: &BigUint, denominator: &BigUint) -> Self {
        let numerator = numerator << 128u32;
        let denominator = denominator * (BigUint::from(LN_2) + 1u32);
        // Both have a few hundred bits. The quotient below has 64 or 65.
        let exponent = 64 + denominator.bits() as i32 - numerator.bits() as i32;
        let quotient = if exponent >= 0 {
            (numerator << exponent.unsigned_abs()) / denominator
        } else {
            numerator / (denominator << exponent.unsigned_abs())
        };
        let excess = quotient.bits().saturating_sub(64) as u32;
        let mantissa = quotient >> excess;
        Self { mantissa: mantissa.iter_u64_digits().next().unwrap_or(0), exponent: exponent - excess as i32 }
    }

    /// The weight of `candidates` candidates of the given deficit, in units of 2^(−`bits`). `bits` is at most
    /// [`MAX_BITS`].
    ///
    /// `upper` is at least one where there is a candidate, and zero where there is none. A weight too small to count
    /// takes about as long as any other, so that the time of a draw hardly tells how many there are.
    #[inline]
    pub(super) fn bounds(self, deficit: u128, candidates: u64, bits: u32) -> Bounds {
        let halvings = self.halvings(deficit);
        let power = power_of_half(halvings as u64);
        // A weight that should be shifted by more than 127 is below one unit: 127 leaves 0 below it, and 1 or 2 above.
        let shift = u32::try_from(halvings >> 64).unwrap_or(u32::MAX).saturating_add(MAX_BITS - bits).min(127);
        let low = u128::from(candidates) * u128::from(power - MARGIN);
        let high = u128::from(candidates) * u128::from(power + MARGIN);
        let cut = high & ((1 << shift) - 1);
        Bounds { lower: low >> shift, upper: (high >> shift) + u128::from(cut != 0) }
    }

    /// y = rate·`deficit` in units of 2⁻⁶⁴, rounded down; or the largest number, where y is 2⁶³ or more.
    #[inline]
    pub(super) fn halvings(self, deficit: u128) -> u128 {
        let zeros = deficit.leading_zeros();
        // deficit ≈ leading·2^(64 − zeros), so y·2⁶⁴ ≈ product·2^(128 − zeros − exponent).
        let leading = deficit.unbounded_shl(zeros) >> 64;
        let product = leading * u128::from(self.mantissa);
        match u32::try_from(self.exponent + zeros as i32 - 128) {
            Ok(shift) => product.unbounded_shr(shift),
            Err(_) if deficit == 0 => 0,
            Err(_) => u128::MAX,
        }
    }
}

/// 2^(−f) in units of 2⁻⁶³, within 60 units, for f in units of 2⁻⁶⁴.
#[inline]
pub(super) fn power_of_half(f: u64) -> u64 {
    // 2^(−r) = e^(−r·ln 2) for r < 2⁻¹⁶ by four terms of its series; the fifth is below 2⁻⁷⁰.
    let rest = multiply_high(f & ((1 << 48) - 1), (LN_2 >> 64) as u64);
    let square = multiply_high(rest, rest);
    let cube = multiply_high(square, rest);
    let power = ONE - (rest >> 1) + (square >> 2) - cube / 12;
    multiply(multiply(power, FINE[(f >> 48) as usize & 0xff]), COARSE[(f >> 56) as usize])
}

/// 2^(−a·2^(−`first` − 7)) for each a < 256, in units of 2⁻⁶³, from the repeated square root of a half.
const fn powers(first: u32) -> [u64; 256] {
    // 2^(−2^(−first)), which belongs to the highest bit of a.
    let mut root = ONE / 2;
    let mut depth = 0;
    while depth < first {
        root = ((root as u128) << 63).isqrt() as u64;
        depth += 1;
    }
    let mut table = [ONE; 256];
    let mut bit = 128;
    while bit > 0 {
        let mut a = bit;
        while a < 256 {
            if a & bit != 0 {
                table[a] = multiply(table[a], root);
            }
            a += 1;
        }
        root = ((root as u128) << 63).isqrt() as u64;
        bit /= 2;
    }
    table
}
