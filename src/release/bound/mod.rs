//! The bounding of contributions (DESIGN 4.2): from rows to exact sums of which each unit moves little.
//!
//! ```text
//! batch ── Recorder ──▶ Records ─┬▶ Shards ─┬▶ Bounder ──▶ GroupSums        rows in any order
//!    runs, codes, ids             ├▶ Dense ──┤                              the same, of integers close together in few groups
//!                                 └▶ Sorted ─┘                              rows that come unit after unit
//! ```
//!
//! Every path ends in the one `Bounder`, which sees the records of one unit at a time.

mod bounder;
mod codes;
mod contributions;
mod dense;
mod exec;
mod identity;
mod on_disk;
mod records;
mod runs;
mod shards;
mod sorted;
mod sums;
#[cfg(test)]
mod tests;

pub use contributions::Contributions;
pub use exec::{BoundExec, Meeting};
pub use sums::{GroupSums, Sums};
pub(super) use sums::{distinct, emitted, key_schema, partial_schema};

/// The key of the hash that chooses which groups of a unit are kept when it touches more than L0.
pub type SelectionKey = [u8; 16];
