//! `tollgate executor`: asks the scheduler for tasks, runs them, and serves what they have written to the other executors
//! and, of the last stage, to the gateway.
//!
//! What a stage writes are rows of private data. It lies in a folder of this executor alone (0700), made when it starts.
//! A job's part is removed when the job ends; the folder, when the executor does. What a killed one has left is removed
//! by the next that starts in the same place.

use std::convert::Infallible;
use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_flight::flight_service_server::FlightServiceServer;
use ballista_core::JobId;
use ballista_core::config::TaskSchedulingPolicy;
use ballista_core::registry::BallistaFunctionRegistry;
use ballista_core::serde::protobuf::ExecutorStoppedParams;
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use ballista_core::serde::{BallistaCodec, BallistaLogicalExtensionCodec};
use ballista_core::utils::{GrpcClientConfig, create_grpc_client_endpoint};
use ballista_executor::execution_engine::{DefaultExecutionEngine, QueryStageExecutor};
use ballista_executor::execution_loop::poll_loop;
use ballista_executor::executor::Executor as BallistaExecutor;
use ballista_executor::executor_process::{ExecutorProcessConfig, structure_executor_metadata};
use ballista_executor::flight_service::BallistaFlightService;
use ballista_executor::health::ExecutorHealth;
use ballista_executor::metrics::ExecutorMetricsCollector;
use datafusion::common::DataFusionError;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use tempfile::TempDir;
use thiserror::Error;
use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic::transport::Channel;
use uuid::Uuid;

use crate::stores::Stores;

use super::codec::ClusterCodec;
use super::job::{MAX_MESSAGE_BYTES, session_producer};
use super::secret::ClusterSecret;
use super::stage::{CheckedEngine, Jobs};

/// How an executor is run.
#[derive(Debug, Clone)]
pub struct ExecutorOptions {
    /// `HOST:PORT` of the scheduler.
    pub scheduler: String,
    /// The host name or address by which the others reach this executor.
    pub host: String,
    /// How many tasks run at once.
    pub tasks: NonZeroUsize,
    /// Bytes that all its tasks together may hold.
    pub memory_bytes: usize,
    /// Where it makes its own folder.
    pub work_dir: PathBuf,
    /// How it reaches the files of a plan, which are pinned: no other store knows what that is.
    pub stores: Stores,
}

/// Why an executor does not run.
#[derive(Debug, Error)]
pub enum ExecutorError {
    /// The folder for what tasks write.
    #[error("the folder for what tasks write cannot be used: {0}")]
    WorkDir(io::Error),
    /// DataFusion did not start.
    #[error("the executor cannot be started: {0}")]
    Start(#[from] DataFusionError),
    /// The scheduler's address is none.
    #[error("`{0}` is not the address of a scheduler")]
    Scheduler(String),
    /// The port failed.
    #[error("the executor's port failed: {0}")]
    Io(#[from] io::Error),
    /// Ballista ended by itself.
    #[error("the executor ended: {0}")]
    Ended(ballista_core::error::BallistaError),
}

/// An executor that is ready to be served.
pub struct Executor {
    id: String,
    ballista: Arc<BallistaExecutor>,
    scheduler: SchedulerGrpcClient<Channel>,
    secret: ClusterSecret,
    work: WorkDir,
    jobs: Jobs,
}

impl Executor {
    /// An executor that serves what its tasks have written on `port`.
    ///
    /// # Errors
    /// When its folder cannot be made, or the scheduler's address is none.
    pub fn new(options: &ExecutorOptions, secret: &ClusterSecret, port: u16) -> Result<Self, ExecutorError> {
        let work = WorkDir::new(&options.work_dir).map_err(ExecutorError::WorkDir)?;
        let id = Uuid::new_v4().to_string();
        let process = Arc::new(ExecutorProcessConfig {
            executor_id: id.clone(),
            external_host: Some(options.host.clone()),
            port,
            // It has no port for tasks: it asks for them.
            grpc_port: 0,
            task_scheduling_policy: TaskSchedulingPolicy::PullStaged,
            ..ExecutorProcessConfig::default()
        });
        let runtime = runtime(options, &work)?;
        let (tasks, jobs) = (options.tasks.get(), Jobs::default());
        let executor = BallistaExecutor::new(
            structure_executor_metadata(&process, u32::try_from(tasks).unwrap_or(u32::MAX)),
            &work.path().to_string_lossy(),
            // One for all tasks: they share its memory.
            Arc::new(move |_| Ok(Arc::clone(&runtime))),
            session_producer(secret),
            Arc::new(BallistaFunctionRegistry::default()),
            Arc::new(NoMetrics),
            tasks,
            Arc::new(CheckedEngine::new(DefaultExecutionEngine::new(), jobs.clone())),
        );
        let no_scheduler = || ExecutorError::Scheduler(options.scheduler.clone());
        let endpoint = create_grpc_client_endpoint(
            format!("http://{}", options.scheduler),
            Some(&GrpcClientConfig { connect_timeout_seconds: 5, ..GrpcClientConfig::default() }),
        )
        .map_err(|_| no_scheduler())?
        .user_agent(secret.user_agent())
        .map_err(|_| no_scheduler())?;
        // Connected when the first task is asked for, and again whenever the scheduler has been away.
        let scheduler = SchedulerGrpcClient::new(endpoint.connect_lazy())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Ok(Self { id, ballista: Arc::new(executor), scheduler, secret: secret.clone(), work, jobs })
    }

    /// Works until `stop` ends, then leaves the cluster and removes what it has written.
    ///
    /// # Errors
    /// When the port fails.
    pub async fn serve(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), ExecutorError> {
        let Self { id, ballista, mut scheduler, secret, work, jobs } = self;
        let flight = FlightServiceServer::new(BallistaFlightService::new(work.path().to_string_lossy().into_owned()))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let routes = secret.guard(Routes::new(flight).into_axum_router());
        let codec: BallistaCodec<LogicalPlanNode, PhysicalPlanNode> =
            BallistaCodec::new(Arc::new(BallistaLogicalExtensionCodec::default()), Arc::new(ClusterCodec::default()));
        let health = ExecutorHealth::new();
        let polled = poll_loop(scheduler.clone(), ballista, codec, None, None, health.clone());
        let served = axum::serve(listener, routes.into_make_service_with_connect_info::<SocketAddr>());
        let ended = tokio::select! {
            ended = polled => ended.map_err(ExecutorError::Ended),
            served = served => served.map_err(ExecutorError::Io),
            never = look_after(jobs, health) => match never {},
            () = stop => Ok(()),
        };
        // So that nobody waits for it: its tasks are given to others at once.
        let leave = scheduler.executor_stopped(ExecutorStoppedParams { executor_id: id, reason: "stopped".to_owned() });
        if !matches!(tokio::time::timeout(Duration::from_secs(2), leave).await, Ok(Ok(_))) {
            tracing::warn!("the scheduler could not be told that this executor leaves");
        }
        drop(work);
        ended
    }
}

/// Removes what is over, and says when the scheduler comes and goes.
async fn look_after(jobs: Jobs, health: ExecutorHealth) -> Infallible {
    let mut reached = None;
    loop {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let ready = health.is_ready();
        if reached != Some(ready) {
            reached = Some(ready);
            if ready {
                tracing::info!("the scheduler gives this executor work");
            } else {
                tracing::warn!("the scheduler cannot be reached, or is of another version");
            }
        }
        let jobs = jobs.clone();
        // Whether it could be done is in the log.
        let _ = tokio::task::spawn_blocking(move || jobs.remove_what_is_over(Instant::now())).await;
    }
}

fn runtime(options: &ExecutorOptions, work: &WorkDir) -> Result<Arc<RuntimeEnv>, ExecutorError> {
    let disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Directories(vec![work.spill()]));
    Ok(RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(FairSpillPool::new(options.memory_bytes)))
        .with_disk_manager_builder(disk)
        .with_object_store_registry(options.stores.registry())
        .build_arc()?)
}

/// Ballista's own collector writes counts of rows to the log.
struct NoMetrics;

impl ExecutorMetricsCollector for NoMetrics {
    fn record_stage(&self, _job: &JobId, _stage: usize, _task: usize, _plan: Arc<dyn QueryStageExecutor>) {}
}

/// The folder of one executor, removed with it. An executor that runs holds the lock in its folder.
struct WorkDir {
    dir: TempDir,
    // Held as long as the folder.
    _lock: File,
}

const PREFIX: &str = "tollgate-executor-";
const LOCK: &str = "lock";
const JOBS: &str = "jobs";
const SPILL: &str = "spill";

impl WorkDir {
    fn new(parent: &Path) -> io::Result<Self> {
        fs::create_dir_all(parent)?;
        remove_left_behind(parent)?;
        // Nobody else may even list it, from the moment that it is there.
        let own = fs::Permissions::from_mode(0o700);
        let dir = tempfile::Builder::new().prefix(PREFIX).permissions(own).tempdir_in(parent)?;
        let lock = File::create(dir.path().join(LOCK))?;
        lock.lock()?;
        fs::create_dir(dir.path().join(JOBS))?;
        fs::create_dir(dir.path().join(SPILL))?;
        Ok(Self { dir, _lock: lock })
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join(JOBS)
    }

    fn spill(&self) -> PathBuf {
        self.dir.path().join(SPILL)
    }
}

/// Removes the folders of executors that are gone. One whose lock can be had has nobody who holds it; one without a lock is
/// being made.
fn remove_left_behind(parent: &Path) -> io::Result<()> {
    for entry in fs::read_dir(parent)? {
        let folder = entry?.path();
        let is_ours = folder.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(PREFIX));
        if !is_ours {
            continue;
        }
        // Another's folder cannot be opened, and is left alone.
        let Ok(lock) = File::open(folder.join(LOCK)) else { continue };
        if lock.try_lock().is_ok() {
            fs::remove_dir_all(&folder)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_executor_writes_is_its_own_and_goes_with_it() {
        let parent = tempfile::tempdir().unwrap();
        let work = WorkDir::new(parent.path()).unwrap();
        let folder = work.path().parent().unwrap().to_owned();
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        fs::write(work.path().join("shuffle"), "rows").unwrap();
        // Another that starts beside it leaves it alone.
        let other = WorkDir::new(parent.path()).unwrap();
        assert!(work.path().join("shuffle").exists());
        drop(other);
        drop(work);
        assert!(!folder.exists());
    }

    #[test]
    fn what_a_killed_executor_left_is_removed_by_the_next() {
        let parent = tempfile::tempdir().unwrap();
        let left = parent.path().join(format!("{PREFIX}killed"));
        fs::create_dir(&left).unwrap();
        File::create(left.join(LOCK)).unwrap();
        fs::write(left.join("shuffle"), "rows").unwrap();
        let another = parent.path().join("somebody-else");
        fs::create_dir(&another).unwrap();
        let _work = WorkDir::new(parent.path()).unwrap();
        assert!(!left.exists());
        assert!(another.exists());
    }
}
