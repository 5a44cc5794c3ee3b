//! Pure differential privacy: ε's that add, and what they cost an account in zCDP.

use super::{Epsilon, Rho};

/// The zCDP loss of an ε-private release: ε²/2, rounded up to a step.
///
/// Bun and Steinke (2016), proposition 1.4: an ε-private mechanism is ε²/2-zCDP. A loss that the ledger cannot hold is
/// [`Rho::MAX`], which no budget admits.
#[must_use]
pub fn pure_as_zcdp(epsilon: Epsilon) -> Rho {
    // Both count in steps of 1/S, so ρ = ε²/2 is steps²/(2·S) steps: at most 2¹²⁶, exact in 128 bits.
    let square = u128::from(epsilon.steps()) * u128::from(epsilon.steps());
    let steps = square.div_ceil(2 * u128::from(Epsilon::STEPS_PER_UNIT));
    Rho::from_steps(u64::try_from(steps).unwrap_or(u64::MAX))
}

// The computation above needs the two to count in the same steps.
const _: () = assert!(Epsilon::STEPS_PER_UNIT == Rho::STEPS_PER_UNIT);
