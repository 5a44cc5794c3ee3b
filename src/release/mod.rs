//! The release: the step at which private rows become values that may be shown (DESIGN 4.2).
//!
//! ```text
//! ReleaseSpec ── NoisePlan::new(price) ──▶ ReleaseNode ── planner ──▶ BoundExec ──▶ DrawExec ──▶ drawn batch
//!   what          noise and exact cost      logical node              exact sums    noise, selection
//! ```
//!
//! `verify` walks the finished logical and physical plans again, on its own, before anything runs. This stage knows
//! neither SQL nor accounts. `proof.md` has the argument that what leaves `DrawExec` is private.

mod accuracy;
mod at_hand;
mod bound;
mod cap;
mod draw;
mod draw_exec;
mod epoch;
mod lattice;
mod moments;
mod node;
mod partial;
mod planner;
mod price;
mod quantile;
mod spec;
#[cfg(test)]
mod tests;
pub mod verify;

pub(crate) use at_hand::AtHand;
pub use bound::{BoundExec, Contributions, GroupSums, Meeting, SelectionKey, Sums};
pub use cap::{CapExec, CapNode};
#[cfg(test)]
pub use draw::draw_exactly;
pub use draw::{Merge, draw};
pub use draw_exec::DrawExec;
pub use epoch::EpochOf;
pub use lattice::{Described, Lattice};
pub use node::{Leaf, ReleaseNode, ReleasedNode, output_schema};
pub use partial::{NotPartial, check_partial_sums, columns_of_partial_sums};
pub use planner::ReleasePlanner;
pub use price::{NoisePlan, Price, PriceError, Selection, noise_for};
pub use quantile::{Candidates, Weights};
pub use spec::{
    ContributionBounds, EpochsRead, GroupingSets, Groups, HALF_WIDTH_TYPE, Histogram, Measure, MeasureKind, Output,
    Quantile, ReleaseSpec, Statistic, half_width_column, is_half_width_column,
};
