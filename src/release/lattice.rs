//! Values become integers before they are summed (DESIGN 4.2): no floating-point sum is ever noised.
//!
//! A value is clamped to `[lo, hi]`, its distance from the centre c is taken, and that is counted in steps of a power
//! of two chosen from the bounds alone, rounded towards zero. So the integer of one row is at most
//! `B = ⌊max(hi − c, c − lo) / step⌋` in size, exactly:
//!
//! * floats: a float subtraction rounds monotonically, so `fl(x − c) ≤ fl(hi − c)` for `x ≤ hi`, and likewise below;
//!   dividing by a power of two is exact (no step is so small that it underflows); truncation is monotone.
//! * integers and decimals: plain integer arithmetic.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type, UInt64Type};
use datafusion::common::{Result, internal_err};

/// A float's range is cut into about this many steps: 2^30. Rounding is towards zero, and so moves means by up to a step:
/// for variances, which are small differences of large means, 2^24 would be too coarse.
const FLOAT_STEPS_LOG2: i32 = 30;
/// Integers keep a step of one up to this range: 2^32.
const INTEGER_STEPS_LOG2: u32 = 32;
/// Past this, bounds are refused: f64 no longer names every integer.
const MAX_MAGNITUDE: f64 = 9_007_199_254_740_992.0;

/// Where values lie and how they become integers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Lattice {
    /// For `Float64` arguments.
    Float {
        /// Lower bound.
        lo: f64,
        /// Upper bound.
        hi: f64,
        /// What distances are measured from.
        centre: f64,
        /// The step, a power of two.
        step: f64,
    },
    /// For `Int64`, `UInt64` and `Decimal128` arguments, in units of 10^-scale.
    Integer {
        /// Lower bound.
        lo: i128,
        /// Upper bound.
        hi: i128,
        /// What distances are measured from.
        centre: i128,
        /// The step is 2^shift units.
        shift: u32,
        /// Decimal digits after the point.
        scale: i8,
    },
}

impl Lattice {
    /// The lattice of a sum (`centred` false: distances from 0) or of an average (from the middle of the bounds), for
    /// arguments of `kind` clamped to `[lo, hi]`. `None` when the type has no lattice or the bounds are too large.
    #[must_use]
    pub fn new(kind: &DataType, lo: f64, hi: f64, centred: bool) -> Option<Self> {
        if !(lo.is_finite() && hi.is_finite() && lo <= hi) {
            return None;
        }
        match kind {
            DataType::Float64 => {
                let centre = if centred { lo / 2.0 + hi / 2.0 } else { 0.0 };
                let reach = (hi - centre).max(centre - lo);
                // The range sets the step; a constant has none, so its own size does.
                let range = if hi > lo { hi - lo } else { reach };
                let exponent = if range > 0.0 { exponent(range.max(reach)) - FLOAT_STEPS_LOG2 } else { 0 };
                if !(-900..=900).contains(&exponent) {
                    return None;
                }
                Some(Self::Float { lo, hi, centre, step: 2f64.powi(exponent) })
            }
            DataType::Int64 | DataType::UInt64 => Self::integer(lo, hi, centred, 0),
            DataType::Decimal128(_, scale) if (0..=15).contains(scale) => {
                let unit = 10f64.powi(i32::from(*scale));
                Self::integer(lo * unit, hi * unit, centred, *scale)
            }
            _ => None,
        }
    }

    fn integer(lo: f64, hi: f64, centred: bool, scale: i8) -> Option<Self> {
        // Bounds that fall between two units are widened to units, so that no allowed value is clamped.
        let (lo, hi) = (lo.floor(), hi.ceil());
        if lo.abs() > MAX_MAGNITUDE || hi.abs() > MAX_MAGNITUDE {
            return None;
        }
        let (lo, hi) = (lo as i128, hi as i128);
        let centre = if centred { lo.midpoint(hi) } else { 0 };
        let reach = (hi - centre).max(centre - lo).unsigned_abs();
        let bits = u128::BITS - reach.leading_zeros();
        Some(Self::Integer { lo, hi, centre, shift: bits.saturating_sub(INTEGER_STEPS_LOG2), scale })
    }

    /// B: the largest integer, in size, that one row can give.
    #[must_use]
    pub fn bound(&self) -> u128 {
        let bound = match *self {
            Self::Float { lo, hi, centre, step } => (((hi - centre).max(centre - lo)) / step).trunc() as u128,
            Self::Integer { lo, hi, centre, shift, .. } => (hi - centre).max(centre - lo).unsigned_abs() >> shift,
        };
        // A column that is one constant still has noise of one step: a bound of 0 would mean none.
        bound.max(1)
    }

    /// The bounds, the centre and the step in the argument's own unit.
    #[must_use]
    pub fn describe(&self) -> Described {
        match *self {
            Self::Float { lo, hi, centre, step } => Described { lo, hi, centre, step },
            Self::Integer { lo, hi, centre, shift, scale } => {
                let unit = 10f64.powi(-i32::from(scale));
                Described {
                    lo: lo as f64 * unit,
                    hi: hi as f64 * unit,
                    centre: centre as f64 * unit,
                    step: (1u64 << shift) as f64 * unit,
                }
            }
        }
    }

    /// The integer of each value of `values`, whose validity is the array's; NaN counts as NULL and gives `None` in
    /// the mask that is returned, which is there only if some value is NaN.
    ///
    /// # Errors
    /// When the array is of another type than the lattice was made for.
    pub fn steps(&self, values: &ArrayRef, out: &mut Vec<i64>) -> Result<()> {
        out.clear();
        match (self, values.data_type()) {
            (&Self::Float { lo, hi, centre, step }, DataType::Float64) => {
                let inverse = 1.0 / step;
                let values = values.as_primitive::<Float64Type>();
                // NaN becomes 0 here; the caller leaves such rows out.
                out.extend(values.values().iter().map(|value| ((value.clamp(lo, hi) - centre) * inverse) as i64));
            }
            (&Self::Integer { lo, hi, centre, shift, .. }, DataType::Int64) => {
                let values = values.as_primitive::<Int64Type>();
                let (lo, hi, centre) = (lo as i64, hi as i64, centre as i64);
                out.extend(values.values().iter().map(|value| halved((*value).clamp(lo, hi) - centre, shift)));
            }
            (&Self::Integer { lo, hi, centre, shift, .. }, DataType::UInt64) => {
                let values = values.as_primitive::<UInt64Type>();
                out.extend(
                    values
                        .values()
                        .iter()
                        .map(|value| halved((i128::from(*value).clamp(lo, hi) - centre) as i64, shift)),
                );
            }
            (&Self::Integer { lo, hi, centre, shift, scale }, DataType::Decimal128(_, other)) if scale == *other => {
                let values = values.as_primitive::<Decimal128Type>();
                out.extend(values.values().iter().map(|value| halved(((*value).clamp(lo, hi) - centre) as i64, shift)));
            }
            (_, other) => return internal_err!("a lattice was made for another type than {other}"),
        }
        Ok(())
    }
}

/// A lattice in its argument's own unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Described {
    /// Lower bound.
    pub lo: f64,
    /// Upper bound.
    pub hi: f64,
    /// What distances are measured from.
    pub centre: f64,
    /// One step.
    pub step: f64,
}

/// `value / 2^shift`, towards zero.
const fn halved(value: i64, shift: u32) -> i64 {
    // A shift rounds down: what is below zero is lifted first, by less than a step.
    (value + ((value >> 63) & ((1 << shift) - 1))) >> shift
}

/// The exponent e with 2^e ≤ x < 2^(e+1), for a positive x.
fn exponent(x: f64) -> i32 {
    x.log2().floor() as i32
}
