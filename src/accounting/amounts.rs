//! Amounts of privacy loss as the ledger holds them: integers, in fixed steps.
//!
//! No float is ever stored or compared (DESIGN 4.3), so that neither a subnormal charge nor a rounding can spend for
//! nothing. A loss is rounded *up* to its step, a budget *down*; the constructors say which they do.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// Why a number is not an amount of privacy loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AmountError {
    /// NaN, an infinity, or a negative number.
    #[error("must be a finite number that is not negative")]
    NotFinite,
    /// More than the ledger can hold.
    #[error("is larger than the largest amount that the ledger can hold")]
    TooLarge,
}

macro_rules! amount {
    ($(#[$doc:meta])* $name:ident, $per_unit:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(u64);

        impl $name {
            /// How many steps make 1.
            pub const STEPS_PER_UNIT: u64 = $per_unit;
            /// The largest amount: what a signed 64-bit column of a database holds.
            pub const MAX: Self = Self(i64::MAX as u64);
            /// Nothing.
            pub const ZERO: Self = Self(0);

            /// The amount of `steps` steps, capped at [`Self::MAX`].
            #[must_use]
            pub const fn from_steps(steps: u64) -> Self {
                if steps > Self::MAX.0 { Self::MAX } else { Self(steps) }
            }

            /// The number of steps.
            #[must_use]
            pub const fn steps(self) -> u64 {
                self.0
            }

            /// The largest amount that is no more than `value`: for budgets and prices.
            ///
            /// # Errors
            /// When `value` is negative, not finite, or too large to hold.
            pub fn floor_from(value: f64) -> Result<Self, AmountError> {
                // A decimal that a person wrote (0.2, 1e-9) is the step that it names: its product with a power of ten
                // is off by the float's rounding alone.
                let scaled = value * Self::STEPS_PER_UNIT as f64;
                let nearest = scaled.round();
                let written = (scaled - nearest).abs() <= scaled * 4.0 * f64::EPSILON;
                Self::from_scaled(if written { nearest } else { scaled.floor() })
            }

            /// The least amount that is no less than `value`: for losses.
            ///
            /// # Errors
            /// When `value` is negative, not finite, or too large to hold.
            pub fn ceil_from(value: f64) -> Result<Self, AmountError> {
                // A negative number above minus one step would be rounded up to nothing.
                if value < 0.0 {
                    return Err(AmountError::NotFinite);
                }
                Self::from_scaled((value * Self::STEPS_PER_UNIT as f64).ceil())
            }

            fn from_scaled(steps: f64) -> Result<Self, AmountError> {
                if steps.is_nan() || steps < 0.0 {
                    return Err(AmountError::NotFinite);
                }
                if steps > Self::MAX.0 as f64 / 2.0 {
                    return Err(AmountError::TooLarge);
                }
                Ok(Self(steps as u64))
            }

            /// The sum, or `None` when the ledger could not hold it.
            #[must_use]
            pub const fn checked_add(self, other: Self) -> Option<Self> {
                match self.0.checked_add(other.0) {
                    Some(sum) if sum <= Self::MAX.0 => Some(Self(sum)),
                    _ => None,
                }
            }

            /// What is left of `self` after `other`, at least nothing.
            #[must_use]
            pub const fn saturating_sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }

            /// The amount as a float, for reports and for formulas that round afterwards; never for comparing.
            #[must_use]
            pub fn to_f64(self) -> f64 {
                self.0 as f64 / Self::STEPS_PER_UNIT as f64
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.to_f64())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_f64(self.to_f64())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            /// Reads a decimal as a budget is read: rounded down to a step.
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let value = f64::deserialize(deserializer)?;
                Self::floor_from(value).map_err(serde::de::Error::custom)
            }
        }
    };
}

amount!(
    /// Zero-concentrated privacy loss ρ, in steps of 10⁻¹².
    Rho, 1_000_000_000_000
);
amount!(
    /// Pure privacy loss ε, in steps of 10⁻¹². Also the price of a query, as an analyst states it.
    Epsilon, 1_000_000_000_000
);
amount!(
    /// A probability of failure δ, in steps of 10⁻¹⁸.
    Delta, 1_000_000_000_000_000_000
);
