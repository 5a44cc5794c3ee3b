//! A release's exact sums, computed by several machines (DESIGN 5): Apache Ballista runs what is below the noise.
//!
//! ```text
//!          gateway                            scheduler                     executors
//!  DrawExec      noise, selection
//!     │
//!  RemoteSumsExec ── encoded plan ──▶ two or more stages ── tasks ──▶ scan, filter, join ─┐
//!     ▲                                                                                   │ shuffle by unit
//!     └────────── bounded partial sums, each checked ◀──────────────── PartitionBoundExec ┘
//! ```
//!
//! Scheduler and executors are told files, plans, bounds and the key by which a unit's groups are chosen. They are
//! never told a token, a consumer, a budget, a noise law, or the names that a query gives its columns: none of them is
//! in what is sent (`codec` has the list). Noise is drawn by the gateway alone, once, of what has come back whole and
//! has been held against the bounds. `docs/cluster.md` says whom one has to trust with what.

mod client;
mod codec;
mod distribute;
mod executor;
mod job;
mod partition_bound;
mod remote_sums;
mod row_failure;
mod scheduler;
mod secret;
mod stage;
#[cfg(test)]
mod tests;
mod watched;
mod wire;

pub use client::{Cluster, ClusterError, ClusterOptions};
pub use codec::ClusterCodec;
pub use distribute::{Distributed, distribute};
pub use executor::{Executor, ExecutorError, ExecutorOptions};
pub use partition_bound::PartitionBoundExec;
pub use remote_sums::RemoteSumsExec;
pub use scheduler::{Scheduler, SchedulerError, SchedulerOptions};
pub use secret::{ClusterSecret, SecretError};
