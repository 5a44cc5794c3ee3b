//! Privacy accounting: pure functions over integer amounts, beside the papers that they come from. No I/O.
//!
//! `proof.md` states what each function promises, and why it holds.

pub mod amounts;
pub mod event;
pub mod filter;
pub mod kind;
pub mod pld;
pub mod pure;
pub mod rdp;
pub mod restate;
mod search;
#[cfg(test)]
mod tests;
pub mod threshold;
pub mod zcdp;

pub use amounts::{AmountError, Delta, Epsilon, Rho};
pub use event::{Event, EventsError};
pub use filter::{Cost, Limit, Loss, Spent, fits, fraction_spent, left};
pub use kind::Accounting;
pub use pure::pure_as_zcdp;
pub use restate::epsilon_of_events;
pub use threshold::{ThresholdError, tail, tau, units_to_appear_95};
pub use zcdp::{delta_of, epsilon_of, rho_for};
