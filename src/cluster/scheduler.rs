//! `tollgate scheduler`: hands the stages of the gateway's jobs to executors, which ask for them.
//!
//! Executors pull: they have no port on which anybody could give them work. The scheduler listens on one, and answers
//! nothing there without the cluster's secret. It reads no file and no object, and has no keys of a store.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use ballista_core::config::TaskSchedulingPolicy;
use ballista_core::error::BallistaError;
use ballista_core::serde::protobuf::scheduler_grpc_server::SchedulerGrpcServer;
use ballista_core::utils::default_session_builder;
use ballista_scheduler::cluster::BallistaCluster;
use ballista_scheduler::config::SchedulerConfig;
use ballista_scheduler::scheduler_process::create_scheduler;
use ballista_scheduler::scheduler_server::SchedulerServer;
use datafusion::common::Result as DataFusionResult;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use thiserror::Error;
use tokio::net::TcpListener;
use tonic::service::Routes;
use url::Url;

use super::codec::ClusterCodec;
use super::job::{MAX_MESSAGE_BYTES, session_producer};
use super::secret::ClusterSecret;

/// Where the gateway asks whether there are workers.
pub(super) const WORKERS_PATH: &str = "/workers";

/// An executor asks for work at least every five seconds, however busy it is.
const FRESH: Duration = Duration::from_secs(12);

/// How long a finished job's plan, and data that nobody has had removed, are kept.
const KEPT_SECONDS: u64 = 60;

/// How a scheduler is run.
#[derive(Debug, Clone)]
pub struct SchedulerOptions {
    /// After how many seconds of silence an executor is taken for lost, and its work given to others.
    pub executor_timeout_seconds: u64,
}

impl Default for SchedulerOptions {
    fn default() -> Self {
        Self { executor_timeout_seconds: 15 }
    }
}

/// Why a scheduler does not run.
#[derive(Debug, Error)]
pub enum SchedulerError {
    /// Ballista did not start.
    #[error("the scheduler cannot be started: {0}")]
    Start(#[from] BallistaError),
    /// The port failed.
    #[error("the scheduler's port failed: {0}")]
    Io(#[from] io::Error),
}

type Server = SchedulerServer<LogicalPlanNode, PhysicalPlanNode>;

/// A scheduler that is ready to be served.
pub struct Scheduler {
    routes: Router,
}

impl Scheduler {
    /// A scheduler for processes that know `secret`.
    ///
    /// # Errors
    /// When Ballista does not start.
    pub async fn new(options: &SchedulerOptions, secret: &ClusterSecret) -> Result<Self, SchedulerError> {
        let max_bytes = u32::try_from(MAX_MESSAGE_BYTES).unwrap_or(u32::MAX);
        let runtime = RuntimeEnvBuilder::new().with_object_store_registry(Arc::new(NoStores::default())).build_arc();
        let runtime = runtime.map_err(BallistaError::from)?;
        let config = Arc::new(SchedulerConfig {
            scheduling_policy: TaskSchedulingPolicy::PullStaged,
            executor_timeout_seconds: options.executor_timeout_seconds,
            no_executors_grace_period_seconds: options.executor_timeout_seconds,
            expire_dead_executor_interval_seconds: 1,
            finished_job_data_clean_up_interval_seconds: KEPT_SECONDS,
            finished_job_state_clean_up_interval_seconds: KEPT_SECONDS,
            grpc_server_max_decoding_message_size: max_bytes,
            grpc_server_max_encoding_message_size: max_bytes,
            grpc_client_max_message_size: max_bytes,
            override_config_producer: Some(session_producer(secret)),
            override_session_builder: Some(Arc::new(move |config| {
                let session = SessionStateBuilder::new_from_existing(default_session_builder(config)?);
                Ok(session.with_runtime_env(Arc::clone(&runtime)).build())
            })),
            override_physical_codec: Some(Arc::new(ClusterCodec::default())),
            ..SchedulerConfig::default()
        });
        let cluster = BallistaCluster::new_from_config(&config).await?;
        let server: Server = create_scheduler(cluster, config).await?;
        let grpc = SchedulerGrpcServer::new(server.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let workers = Router::new().route(WORKERS_PATH, get(workers)).with_state(server);
        let routes = Routes::new(grpc).into_axum_router().merge(workers);
        Ok(Self { routes: secret.guard(routes) })
    }

    /// Serves until `stop` ends.
    ///
    /// # Errors
    /// When the port fails.
    pub async fn serve(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), SchedulerError> {
        // Connections of executors are kept open; they are not waited for.
        let serve = axum::serve(listener, self.routes.into_make_service_with_connect_info::<SocketAddr>());
        tokio::select! {
            served = serve => Ok(served?),
            () = stop => Ok(()),
        }
    }
}

/// Behind every address a store with nothing in it. A plan with a scan is only decoded where its store is known, and the
/// scheduler neither reads one nor has the keys to.
#[derive(Debug, Default)]
struct NoStores(Arc<InMemory>);

impl ObjectStoreRegistry for NoStores {
    fn register_store(&self, _: &Url, _: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        None
    }

    fn get_store(&self, _: &Url) -> DataFusionResult<Arc<dyn ObjectStore>> {
        Ok(Arc::<InMemory>::clone(&self.0))
    }
}

/// How many executors have asked for work lately. With none the answer is 503.
async fn workers(State(scheduler): State<Server>) -> (StatusCode, String) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let known = scheduler.state.executor_manager.get_executors_state().await.unwrap_or_default();
    let fresh = known.iter().filter(|(_, seen, _)| seen.is_some_and(|seen| now.saturating_sub(seen) < FRESH)).count();
    let status = if fresh == 0 { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (status, fresh.to_string())
}
