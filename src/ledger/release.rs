//! Releases that were drawn, and the key that names one.

use std::fmt;

use super::ChargeId;
use crate::accounting::Delta;

/// What names a release: a hash over its canonical plan, bounds, data versions and policy versions, but *not* its price.
///
/// Two requests of one key, precision and cost are the same question, and get the same answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReleaseKey(pub [u8; 32]);

impl fmt::Display for ReleaseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ReleaseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReleaseKey({self})")
    }
}

/// The one drawn answer of a paid release.
#[derive(Clone, PartialEq, Eq)]
pub struct HeldRelease {
    /// What it was drawn at, in the steps in which it was paid for: the ρ or ε of the whole release. Larger is more exact.
    pub precision: u64,
    /// The charge whose run drew it.
    pub charge_id: ChargeId,
    /// The answer, as the gateway encoded it.
    pub payload: Vec<u8>,
    /// Public facts about the draw, as JSON.
    pub facts: String,
}

/// A drawn release that is to be kept.
#[derive(Clone, PartialEq, Eq)]
pub struct NewDraw {
    /// Its key.
    pub key: ReleaseKey,
    /// What it was drawn at: what `charge` paid for.
    pub precision: u64,
    /// The charge that paid for it.
    pub charge: ChargeId,
    /// The answer, as the gateway encoded it.
    pub payload: Vec<u8>,
    /// Public facts about the draw, as JSON.
    pub facts: String,
}

impl fmt::Debug for NewDraw {
    /// Without the payload, which has no place in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, precision, charge, payload, facts } = self;
        f.debug_struct("NewDraw")
            .field("key", key)
            .field("precision", precision)
            .field("charge", charge)
            .field("payload_bytes", &payload.len())
            .field("facts", facts)
            .finish()
    }
}

/// A held release that a consumer has paid for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaidDraw {
    /// The consumer's own charge for it, which need not be the one whose run drew it.
    pub charge: ChargeId,
    /// The δ that the charge paid with it.
    pub delta: Delta,
    /// What was drawn.
    pub held: HeldRelease,
}

impl fmt::Debug for HeldRelease {
    /// Without the payload, which has no place in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldRelease")
            .field("precision", &self.precision)
            .field("charge_id", &self.charge_id)
            .field("payload_bytes", &self.payload.len())
            .field("facts", &self.facts)
            .finish()
    }
}
