//! What the ledger keeps of a charge beside its price: which mechanisms were run, by facts that no accountant changes.
//!
//! A price is one accountant's opinion of a mechanism. The facts (the noise's parameter, how far one unit moves what is
//! noised) outlive it, so that a better accountant can restate the past in *reports* ([`super::restate`]). They follow
//! from policy, SQL and price alone, never from data.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use super::{Accounting, Cost, Delta, Epsilon, Loss, Rho, pure_as_zcdp};
use crate::mechanism::{DiscreteGaussian, DiscreteLaplace, Dyadic, Exponential};

/// One mechanism that was run, as the ledger keeps it.
///
/// Sensitivities and parameters of noise are in the same lattice steps, so that only their ratio counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "mechanism", rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    /// Discrete Gaussian noise on each coordinate of an integer vector.
    DiscreteGaussian {
        /// D²: how far one unit moves the vector, squared Euclidean.
        #[serde(with = "text")]
        squared_sensitivity: u128,
        /// The parameter σ².
        variance: Dyadic,
    },
    /// Discrete Laplace noise on each coordinate of an integer vector.
    DiscreteLaplace {
        /// D₁: how far one unit moves the vector, in absolute distance.
        #[serde(with = "text")]
        sensitivity: u128,
        /// The scale.
        scale: Dyadic,
    },
    /// Draws of the exponential mechanism, one a group, as many as one unit can take part in.
    Exponential {
        /// ε_m: each draw is ε_m-private, and its privacy loss has a range of at most ε_m.
        epsilon: Dyadic,
        /// L0: how many groups one unit can be in.
        draws: u64,
    },
    /// Group selection: an event of at most this probability, outside which nothing but the noise tells.
    Selection {
        /// The probability.
        #[serde(with = "steps")]
        delta: Delta,
    },
    /// Mechanisms of which only the zCDP loss is known: charges from before events were kept.
    Zcdp {
        /// The loss.
        #[serde(with = "steps")]
        rho: Rho,
    },
    /// Mechanisms of which only the pure loss is known: charges from before events were kept.
    Pure {
        /// The loss.
        #[serde(with = "steps")]
        epsilon: Epsilon,
    },
}

impl Event {
    /// The events of a charge of which only the cost is known.
    #[must_use]
    pub fn of_cost(cost: Cost) -> Vec<Self> {
        let loss = match cost.loss {
            Loss::Zcdp(rho) => Self::Zcdp { rho },
            Loss::Pure(epsilon) => Self::Pure { epsilon },
        };
        let selection = (cost.delta > Delta::ZERO).then_some(Self::Selection { delta: cost.delta });
        std::iter::once(loss).chain(selection).collect()
    }

    /// What the event costs by itself, in whole steps, rounded up; `None` for Gaussian noise in pure accounting, which
    /// has no ε.
    ///
    /// Selection costs no loss, and only selection costs a δ.
    #[must_use]
    pub fn cost(&self, accounting: Accounting) -> Option<Cost> {
        let loss = match (*self, accounting) {
            (Self::DiscreteGaussian { squared_sensitivity, variance }, Accounting::Zcdp) => {
                Loss::Zcdp(DiscreteGaussian::loss(squared_sensitivity, variance))
            }
            (Self::Exponential { epsilon, draws }, Accounting::Zcdp) => {
                Loss::Zcdp(Exponential::loss_zcdp(epsilon, draws))
            }
            (Self::Zcdp { rho }, Accounting::Zcdp) => Loss::Zcdp(rho),
            (Self::DiscreteGaussian { .. } | Self::Zcdp { .. }, Accounting::Pure) => return None,
            (Self::Exponential { epsilon, draws }, Accounting::Pure) => {
                Loss::Pure(Exponential::loss_pure(epsilon, draws))
            }
            (Self::DiscreteLaplace { sensitivity, scale }, _) => {
                of_pure(DiscreteLaplace::loss(sensitivity, scale), accounting)
            }
            (Self::Pure { epsilon }, _) => of_pure(epsilon, accounting),
            (Self::Selection { delta }, _) => return Some(Cost { loss: Loss::nothing(accounting), delta }),
        };
        Some(Cost { loss, delta: Delta::ZERO })
    }
}

fn of_pure(epsilon: Epsilon, accounting: Accounting) -> Loss {
    match accounting {
        Accounting::Zcdp => Loss::Zcdp(pure_as_zcdp(epsilon)),
        Accounting::Pure => Loss::Pure(epsilon),
    }
}

/// Why a record of events cannot be read.
#[derive(Debug, Error)]
pub enum EventsError {
    /// Written by a later release.
    #[error("the events have form {0}, which is later than this release knows: use the release that wrote them")]
    Version(u64),
    /// Not what any release writes.
    #[error("the record of events is damaged: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// The form that [`to_json`] writes. The forms below it stay readable.
const VERSION: u64 = 1;

/// The record of `events`, as the ledger stores it: one line of JSON, the same for the same events.
///
/// Amounts are whole steps; what may pass 64 bits is a decimal text.
#[must_use]
pub fn to_json(events: &[Event]) -> String {
    #[derive(Serialize)]
    struct Record<'a> {
        version: u64,
        events: &'a [Event],
    }
    // The writer has no error to give: a string takes every byte, and no key of these types is not a text.
    serde_json::to_string(&Record { version: VERSION, events }).unwrap_or_default()
}

/// Reads what [`to_json`] of this release or an earlier one wrote.
///
/// # Errors
/// When the record is of a later form, or no such record.
pub fn from_json(record: &str) -> Result<Vec<Event>, EventsError> {
    #[derive(Deserialize)]
    struct Head {
        version: u64,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct First {
        #[serde(rename = "version")]
        _version: u64,
        events: Vec<Event>,
    }
    match serde_json::from_str::<Head>(record)?.version {
        0 => Err(serde_json::Error::custom("there is no form 0").into()),
        1 => Ok(serde_json::from_str::<First>(record)?.events),
        later => Err(EventsError::Version(later)),
    }
}

/// 128-bit numbers as decimal texts, since JSON's numbers do not hold them.
mod text {
    use super::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Amounts as whole steps.
mod steps {
    use super::{Delta, Deserialize, Deserializer, Epsilon, Rho, Serializer, fmt};

    /// An amount of the ledger.
    pub trait Amount: Copy + fmt::Debug {
        fn steps(self) -> u64;
        fn from_steps(steps: u64) -> Self;
    }

    macro_rules! amount {
        ($($name:ty),*) => {
            $(impl Amount for $name {
                fn steps(self) -> u64 {
                    Self::steps(self)
                }

                fn from_steps(steps: u64) -> Self {
                    Self::from_steps(steps)
                }
            })*
        };
    }
    amount!(Rho, Epsilon, Delta);

    pub fn serialize<A: Amount, S: Serializer>(value: &A, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(value.steps())
    }

    pub fn deserialize<'de, A: Amount, D: Deserializer<'de>>(deserializer: D) -> Result<A, D::Error> {
        Ok(A::from_steps(u64::deserialize(deserializer)?))
    }
}
