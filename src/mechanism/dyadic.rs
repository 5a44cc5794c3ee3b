//! Positive rationals over a power of two: the parameters of the noise, held exactly.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use num_bigint::BigUint;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// A positive rational whose denominator is a power of two, in lowest terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Dyadic {
    numerator: u128,
    /// The denominator is 2^`shift`; at most [`Self::MAX_SHIFT`].
    shift: u32,
}

impl Dyadic {
    /// The finest denominator is 2¹⁰⁰.
    pub const MAX_SHIFT: u32 = 100;

    /// A rational that is no integer is rounded up to a numerator of more than this many bits, so that it exceeds the
    /// wanted one by less than one part in 2²⁰, about 10⁻⁶.
    const PRECISION_BITS: u64 = 20;

    /// `numerator` / 2^`shift`, or `None` when that is zero or finer than [`Self::MAX_SHIFT`].
    #[must_use]
    pub const fn new(numerator: u128, shift: u32) -> Option<Self> {
        if numerator == 0 || shift > Self::MAX_SHIFT {
            return None;
        }
        let zeros = numerator.trailing_zeros();
        let common = if zeros < shift { zeros } else { shift };
        Some(Self { numerator: numerator >> common, shift: shift - common })
    }

    /// The least practical dyadic that is no less than `numerator / denominator`: that very number when it is an
    /// integer or has a short binary expansion, otherwise one that is larger by less than 10⁻⁶ of it.
    ///
    /// `None` when either is zero or the quotient does not fit.
    pub(crate) fn at_least(numerator: &BigUint, denominator: &BigUint) -> Option<Self> {
        let zero = BigUint::ZERO;
        if *numerator == zero || *denominator == zero {
            return None;
        }
        let mut shift = 0;
        loop {
            let shifted = numerator << shift;
            let quotient: BigUint = &shifted / denominator;
            let exact = &quotient * denominator == shifted;
            if exact || quotient.bits() > Self::PRECISION_BITS || shift == Self::MAX_SHIFT {
                let rounded_up = if exact { quotient } else { quotient + 1u32 };
                return u128::try_from(rounded_up).ok().and_then(|numerator| Self::new(numerator, shift));
            }
            shift += 1;
        }
    }

    /// The numerator, in lowest terms.
    #[must_use]
    pub const fn numerator(self) -> u128 {
        self.numerator
    }

    /// The denominator, a power of two.
    #[must_use]
    pub const fn denominator(self) -> u128 {
        1 << self.shift
    }

    /// The base-two logarithm of the denominator.
    #[must_use]
    pub const fn shift(self) -> u32 {
        self.shift
    }

    /// The nearest float (for reports and tail bounds; it never decides a sample).
    #[must_use]
    pub fn to_f64(self) -> f64 {
        // A power of two divides a float exactly: the only rounding is that of the numerator.
        self.numerator as f64 / self.denominator() as f64
    }
}

impl Ord for Dyadic {
    fn cmp(&self, other: &Self) -> Ordering {
        let left = BigUint::from(self.numerator) << other.shift;
        let right = BigUint::from(other.numerator) << self.shift;
        left.cmp(&right)
    }
}

impl PartialOrd for Dyadic {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Dyadic {
    /// `200`, or `13107/65536`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.shift == 0 {
            write!(f, "{}", self.numerator)
        } else {
            write!(f, "{}/{}", self.numerator, self.denominator())
        }
    }
}

impl Serialize for Dyadic {
    /// A string, since JSON's numbers do not hold 128 bits.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Why a text is no [`Dyadic`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("must be a positive whole number of at most 128 bits, or one over a power of two of at most 2^100")]
pub struct DyadicError;

impl FromStr for Dyadic {
    type Err = DyadicError;

    /// Reads what [`Display`](fmt::Display) writes.
    fn from_str(text: &str) -> Result<Self, DyadicError> {
        let (numerator, denominator) = text.split_once('/').unwrap_or((text, "1"));
        let number = |digits: &str| digits.parse::<u128>().map_err(|_| DyadicError);
        let (numerator, denominator) = (number(numerator)?, number(denominator)?);
        if !denominator.is_power_of_two() {
            return Err(DyadicError);
        }
        Self::new(numerator, denominator.trailing_zeros()).ok_or(DyadicError)
    }
}

impl<'de> Deserialize<'de> for Dyadic {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
