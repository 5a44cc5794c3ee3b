//! How the gateway, the scheduler and the executors have to plan and run a job: the same settings, sent with each.

use std::sync::Arc;

use ballista_core::config::{BALLISTA_BROADCAST_JOIN_THRESHOLD_BYTES, BallistaConfig};
use ballista_core::extension::SessionConfigExt;
use datafusion::common::config::ConfigExtension;
use datafusion::common::extensions_options;
use datafusion::prelude::SessionConfig;

use super::secret::ClusterSecret;

extensions_options! {
    /// What a job of ours says beside what DataFusion and Ballista know.
    pub struct JobOptions {
        /// How long one task may run, in milliseconds: past that nobody waits for it.
        pub task_timeout_ms: u64, default = 60_000
    }
}

impl ConfigExtension for JobOptions {
    const PREFIX: &'static str = "tollgate";
}

/// The largest message between two processes, in bytes. A plan may hold the rows of public tables.
pub(super) const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// `session` with the settings that a job needs, whoever plans a part of it.
pub(super) fn settings(session: SessionConfig) -> SessionConfig {
    session
        .with_option_extension(BallistaConfig::default())
        .with_option_extension(JobOptions::default())
        .with_ballista_grpc_client_max_message_size(MAX_MESSAGE_BYTES)
        // No footer's figures, and the same work whatever a join's other side holds: as in the gateway's own engine.
        .with_collect_statistics(false)
        .set_bool("datafusion.optimizer.enable_dynamic_filter_pushdown", false)
        // Ballista drops an exchange that only spreads rows.
        .with_round_robin_repartition(false)
        // A join's side is never chosen for a broadcast by its size: that changes by what rows are partitioned. One byte
        // is the least that Ballista takes, since with none it refuses the joins that cannot do without.
        .set_u64("datafusion.optimizer.hash_join_single_partition_threshold", 0)
        .set_u64("datafusion.optimizer.hash_join_single_partition_threshold_rows", 0)
        .set_str(BALLISTA_BROADCAST_JOIN_THRESHOLD_BYTES, "1")
}

/// What a process of the cluster starts every session with: its own settings, and its way to reach the others.
pub(super) fn session_of(secret: &ClusterSecret) -> SessionConfig {
    settings(SessionConfig::new()).with_ballista_override_create_grpc_client_endpoint(secret.endpoint())
}

/// The time that a task of `session` may take.
pub(super) fn task_timeout(session: &SessionConfig) -> std::time::Duration {
    let options = session.options().extensions.get::<JobOptions>();
    std::time::Duration::from_millis(
        options.map_or_else(|| JobOptions::default().task_timeout_ms, |of| of.task_timeout_ms),
    )
}

/// Shared by scheduler and executors, which make a session for each job and task.
pub(super) fn session_producer(secret: &ClusterSecret) -> ballista_core::ConfigProducer {
    let session = session_of(secret);
    Arc::new(move || session.clone())
}
