//! Powers of e⁻¹ as 63-bit fixed point, computed by the compiler in integers.
//!
//! Every entry is ⌊e^(−x)·2⁶³⌋ exactly; `tests.rs` checks each against arbitrary-precision intervals.

/// 1 in 63-bit fixed point.
pub(super) const ONE: u64 = 1 << 63;

/// The first whole number k for which e^(−k)·2⁶³ < 1.
pub(super) const NEGLIGIBLE: usize = 44;

/// e^(−k), k = 0 … 43.
pub(super) static WHOLE: [u64; NEGLIGIBLE] = whole_powers();
/// e^(−a/2⁸), a = 0 … 255.
pub(super) static COARSE: [u64; 256] = fractional_powers(8);
/// e^(−b/2¹⁶), b = 0 … 255.
pub(super) static FINE: [u64; 256] = fractional_powers(16);

/// Working precision: 112 bits, so that a product of one with a small integer stays within 128.
const WORKING_BITS: u32 = 112;

/// e^(−a/2^shift) to within 2⁻¹⁰⁵, by its power series; a ≤ 2^shift, a ≤ 256.
const fn series(a: u128, shift: u32) -> u128 {
    let (mut positive, mut negative) = (0u128, 0u128);
    let mut term = 1u128 << WORKING_BITS;
    let mut n = 0u128;
    while term != 0 {
        if n.is_multiple_of(2) {
            positive += term;
        } else {
            negative += term;
        }
        n += 1;
        term = ((term * a) >> shift) / n;
    }
    positive - negative
}

const fn fractional_powers(shift: u32) -> [u64; 256] {
    let mut table = [0; 256];
    let mut a = 0;
    while a < 256 {
        table[a] = (series(a as u128, shift) >> (WORKING_BITS - 63)) as u64;
        a += 1;
    }
    table
}

const fn whole_powers() -> [u64; NEGLIGIBLE] {
    let inverse_e = series(1, 0);
    let mut table = [0; NEGLIGIBLE];
    let mut power = 1u128 << WORKING_BITS;
    let mut k = 0;
    while k < NEGLIGIBLE {
        table[k] = (power >> (WORKING_BITS - 63)) as u64;
        power = multiply(power, inverse_e);
        k += 1;
    }
    table
}

/// ⌊x·y / 2¹¹²⌋ for x, y ≤ 2¹¹², less at most one unit.
const fn multiply(x: u128, y: u128) -> u128 {
    const HALF: u32 = WORKING_BITS / 2;
    const LOW: u128 = (1 << HALF) - 1;
    let (x_high, x_low, y_high, y_low) = (x >> HALF, x & LOW, y >> HALF, y & LOW);
    x_high * y_high + ((x_high * y_low + x_low * y_high + ((x_low * y_low) >> HALF)) >> HALF)
}
