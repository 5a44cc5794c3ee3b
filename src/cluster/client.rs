//! The gateway's side of a cluster: whether there are workers, and one job from its plan to what it made.
//!
//! ```text
//! submit ─▶ poll … ─▶ succeeded: where each partition lies ─▶ fetch, check ─▶ clean the job's data
//!                 └─▶ failed, or given up: cancel, clean
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use ballista_core::client::BallistaClient;
use ballista_core::extension::{BallistaConfigGrpcEndpoint, SessionConfigHelperExt};
use ballista_core::serde::protobuf::execute_query_params::Query;
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use ballista_core::serde::protobuf::{
    CancelJobParams, CleanJobDataParams, ExecuteQueryParams, GetJobStatusParams, KeyValuePair, PartitionLocation,
    execute_query_result, job_status,
};
use ballista_core::utils::{GrpcClientConfig, create_grpc_client_endpoint};
use ballista_core::version;
use datafusion::common::Result as DataFusionResult;
use datafusion::physical_plan::{ExecutionPlan, replace_children_if_necessary};
use datafusion::prelude::SessionConfig;
use datafusion_proto::physical_plan::AsExecutionPlan;
use datafusion_proto::protobuf::PhysicalPlanNode;
use futures::TryStreamExt;
use thiserror::Error;
use tonic::transport::Channel;
use uuid::Uuid;

use crate::release::{NotPartial, ReleaseSpec, SelectionKey, check_partial_sums};

use super::codec::ClusterCodec;
use super::distribute::{Distributed, distribute};
use super::job::{self, MAX_MESSAGE_BYTES};
use super::remote_sums::RemoteSumsExec;
use super::row_failure::ROW_FAILED;
use super::secret::ClusterSecret;

/// How the gateway reaches a cluster, and how it splits the work.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// `HOST:PORT` of the scheduler.
    pub scheduler: String,
    /// What proves that it is of the cluster.
    pub secret: ClusterSecret,
    /// Into how many partitions rows are split by unit.
    pub partitions: usize,
    /// How long one task may run: no longer than the gateway waits for the query.
    pub task_timeout: Duration,
}

/// What goes wrong in a cluster. No text holds a value of the data: what workers say is logged by its kind alone.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// The scheduler does not answer.
    #[error("the cluster's scheduler cannot be reached")]
    NoScheduler,
    /// The scheduler answers, and no executor has asked for work lately.
    #[error("the cluster has no executor")]
    NoExecutor,
    /// The scheduler does not take the plan.
    #[error("the cluster's scheduler has refused the plan")]
    Refused,
    /// The scheduler is of another version.
    #[error("the cluster's scheduler is of another version of Ballista")]
    Version,
    /// The job failed.
    #[error("the job failed in the cluster: {0}")]
    Failed(&'static str),
    /// An expression failed on a row. The caller must not see that it did.
    #[error("a row failed in the cluster")]
    RowFailed,
    /// An executor is gone with what it has made.
    #[error("what an executor has made cannot be fetched")]
    Lost,
    /// A worker has sent what is no bounded sum.
    #[error("the cluster has sent what are no bounded partial sums: {0}")]
    NotPartial(#[from] NotPartial),
    /// A partition has come twice or not at all, or is none.
    #[error("the cluster has sent a partition twice or not at all, or one that there is not")]
    Partitions,
}

impl ClusterError {
    /// Whether trying once more can help: the sums are exact, and the same whoever makes them.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        matches!(self, Self::NoScheduler | Self::Failed(_) | Self::Lost)
    }
}

/// How often a job is submitted before its query fails.
const ATTEMPTS: usize = 2;
/// How long a single call to the scheduler may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// How long it is waited for word on workers, before anything is charged.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
/// How often the scheduler is asked how a job stands: soon at first, since most are short.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// A cluster, as the gateway sees it.
#[derive(Debug)]
pub struct Cluster {
    options: ClusterOptions,
    /// The name under which the scheduler keeps our settings; random, and the same for every query of whomever.
    session: String,
    settings: Vec<KeyValuePair>,
}

impl Cluster {
    /// A cluster whose jobs are planned as `session` says, the configuration that [`Self::session`] has made.
    #[must_use]
    pub fn new(options: ClusterOptions, session: &SessionConfig) -> Self {
        Self { settings: session.to_key_value_pairs(), session: Uuid::new_v4().to_string(), options }
    }

    /// `session` as the gateway has to plan with, so that what it plans can be split.
    #[must_use]
    pub fn session(options: &ClusterOptions, session: SessionConfig) -> SessionConfig {
        let timeout_ms = u64::try_from(options.task_timeout.as_millis()).unwrap_or(u64::MAX);
        job::settings(session)
            .with_target_partitions(options.partitions.max(2))
            .set_u64("tollgate.task_timeout_ms", timeout_ms)
    }

    /// Whether somebody is there to work.
    ///
    /// # Errors
    /// When the scheduler does not answer, or knows of no executor that has asked for work lately.
    pub async fn check_workers(&self) -> Result<(), ClusterError> {
        let url = format!("http://{}{}", self.options.scheduler, super::scheduler::WORKERS_PATH);
        let agent = self.options.secret.user_agent();
        let probe = tokio::task::spawn_blocking(move || {
            let client: ureq::Agent = ureq::Agent::config_builder()
                .http_status_as_error(false)
                .proxy(None)
                .timeout_global(Some(PROBE_TIMEOUT))
                .build()
                .into();
            client.get(&url).header("user-agent", agent).call().map(|answer| answer.status().as_u16())
        });
        match probe.await {
            Ok(Ok(200)) => Ok(()),
            Ok(Ok(503)) => Err(ClusterError::NoExecutor),
            Ok(Ok(_)) | Ok(Err(_)) | Err(_) => Err(ClusterError::NoScheduler),
        }
    }

    /// The plan of a release with everything below its noise in the cluster. Nothing is sent yet.
    ///
    /// # Errors
    /// When `plan` is not a proven release's, or holds what cannot be sent.
    pub fn plan(
        self: &Arc<Self>,
        plan: Arc<dyn ExecutionPlan>,
        selection_key: SelectionKey,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let Distributed { plan: sent, spec, partitions } =
            distribute(&plan, selection_key, self.options.partitions.max(2))?;
        let bytes = encoded(sent)?;
        let sums = Arc::new(RemoteSumsExec::new(Arc::clone(self), bytes.into(), spec, partitions));
        replace_children_if_necessary(plan, vec![sums])
    }

    /// Runs an encoded plan, and returns the partial sums of all partitions once all are there and each is checked.
    ///
    /// # Errors
    /// When the cluster fails, more than once, or sends what is not of `spec`.
    pub(super) async fn sums(
        &self,
        plan: &[u8],
        spec: &ReleaseSpec,
        partitions: usize,
    ) -> Result<Vec<RecordBatch>, ClusterError> {
        let mut attempt = 1;
        loop {
            match self.sums_once(plan, spec, partitions).await {
                Err(error) if error.may_pass() && attempt < ATTEMPTS => {
                    tracing::warn!(%error, attempt, "a job of the cluster is run once more");
                    attempt += 1;
                }
                done => return done,
            }
        }
    }

    async fn sums_once(
        &self,
        plan: &[u8],
        spec: &ReleaseSpec,
        partitions: usize,
    ) -> Result<Vec<RecordBatch>, ClusterError> {
        let mut scheduler = self.connect().await?;
        let job = self.submit(&mut scheduler, plan).await?;
        // From here on, whatever ends this ends the job, and its rows leave the executors' disks.
        let mut guard = Job { id: job.clone(), scheduler: scheduler.clone(), runs: true };
        let places = finished(&mut scheduler, &job).await;
        guard.runs = !matches!(places, Ok(_) | Err(ClusterError::RowFailed | ClusterError::Failed(_)));
        let places = places?;
        let mut seen = BTreeSet::new();
        let mut sums = Vec::new();
        for place in places {
            let partition = place.partition_id.as_ref().ok_or(ClusterError::Partitions)?.partition_id as usize;
            if partition >= partitions || !seen.insert(partition) {
                return Err(ClusterError::Partitions);
            }
            for batch in self.fetch(place).await? {
                check_partial_sums(spec, &batch)?;
                sums.push(batch);
            }
        }
        if seen.len() != partitions {
            return Err(ClusterError::Partitions);
        }
        Ok(sums)
    }

    async fn connect(&self) -> Result<SchedulerGrpcClient<Channel>, ClusterError> {
        let config = GrpcClientConfig { connect_timeout_seconds: 5, ..GrpcClientConfig::default() };
        let unreachable = |_| ClusterError::NoScheduler;
        let endpoint = create_grpc_client_endpoint(format!("http://{}", self.options.scheduler), Some(&config))
            .map_err(|_| ClusterError::NoScheduler)?
            .user_agent(self.options.secret.user_agent())
            .map_err(|_| ClusterError::NoScheduler)?;
        let channel = endpoint.connect().await.map_err(unreachable)?;
        Ok(SchedulerGrpcClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES))
    }

    async fn submit(&self, scheduler: &mut SchedulerGrpcClient<Channel>, plan: &[u8]) -> Result<String, ClusterError> {
        let mut request = tonic::Request::new(ExecuteQueryParams {
            session_id: self.session.clone(),
            settings: self.settings.clone(),
            operation_id: Uuid::new_v4().to_string(),
            query: Some(Query::PhysicalPlan(plan.to_vec())),
        });
        version::insert_version_header(request.metadata_mut());
        let answer = within(scheduler.execute_query(request)).await?;
        let theirs = version::version_from_metadata(answer.metadata());
        version::check_compatibility(Some(ballista_core::BALLISTA_VERSION), theirs)
            .map_err(|_| ClusterError::Version)?;
        match answer.into_inner().result {
            Some(execute_query_result::Result::Success(taken)) => Ok(taken.job_id),
            Some(execute_query_result::Result::Failure(_)) | None => Err(ClusterError::Refused),
        }
    }

    async fn fetch(&self, place: PartitionLocation) -> Result<Vec<RecordBatch>, ClusterError> {
        let layout = place.layout();
        let file = place.file_id;
        let (Some(executor), Some(partition)) = (place.executor_meta, place.partition_id) else {
            return Err(ClusterError::Partitions);
        };
        let endpoint = BallistaConfigGrpcEndpoint::new(self.options.secret.endpoint());
        let port = u16::try_from(executor.port).map_err(|_| ClusterError::Lost)?;
        let mut client = BallistaClient::try_new(
            &executor.host,
            port,
            MAX_MESSAGE_BYTES,
            false,
            Some(Arc::new(endpoint)),
            1,
            0,
            0,
            0,
        )
        .await
        .map_err(|_| ClusterError::Lost)?;
        // Decoded from Flight's own messages, which validates what it decodes: the bytes are another process's.
        let batches = client
            .fetch_partition(&executor.id, &partition.into(), file, layout, true)
            .await
            .map_err(|_| ClusterError::Lost)?;
        batches.try_collect().await.map_err(|_| ClusterError::Lost)
    }
}

/// What is sent of a plan.
///
/// # Errors
/// When it holds an operator or a function that has no form to be sent in.
pub(super) fn encoded(plan: Arc<dyn ExecutionPlan>) -> DataFusionResult<Vec<u8>> {
    let mut bytes = Vec::new();
    PhysicalPlanNode::try_from_physical_plan(plan, &ClusterCodec::default())?.try_encode(&mut bytes)?;
    Ok(bytes)
}

/// Waits for a job's end. What it made lies where it says.
async fn finished(
    scheduler: &mut SchedulerGrpcClient<Channel>,
    job: &str,
) -> Result<Vec<PartitionLocation>, ClusterError> {
    let mut pause = FIRST_PAUSE;
    loop {
        let answer = within(scheduler.get_job_status(GetJobStatusParams { job_id: job.to_owned() })).await?;
        match answer.into_inner().status.and_then(|status| status.status) {
            Some(job_status::Status::Successful(done)) => return Ok(done.partition_location),
            Some(job_status::Status::Failed(failed)) if failed.error.contains(ROW_FAILED) => {
                return Err(ClusterError::RowFailed);
            }
            Some(job_status::Status::Failed(failed)) => return Err(ClusterError::Failed(kind_of(&failed.error))),
            Some(job_status::Status::Queued(_) | job_status::Status::Running(_)) | None => {}
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// What a failed job says, as one of the things that ours say: its own words may be anybody's.
fn kind_of(text: &str) -> &'static str {
    const KINDS: [&str; 10] = [
        "a store cannot be used",
        "resources exhausted",
        "a file cannot be read as Parquet",
        "a file cannot be read",
        "a shuffle is lost",
        "a shuffle cannot be written",
        "a task panicked",
        "a task took too long",
        "the job is over",
        "a task failed",
    ];
    KINDS.into_iter().find(|kind| text.contains(&format!("tollgate: {kind}"))).unwrap_or("Ballista gave it up")
}

async fn within<T>(call: impl Future<Output = Result<T, tonic::Status>>) -> Result<T, ClusterError> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(status)) if status.code() == tonic::Code::InvalidArgument => Err(ClusterError::Refused),
        Ok(Err(_)) | Err(_) => Err(ClusterError::NoScheduler),
    }
}

/// A job that has been taken. When it goes away the scheduler is told to end the job, if it runs, and to have its data
/// removed.
struct Job {
    id: String,
    scheduler: SchedulerGrpcClient<Channel>,
    /// Whether its end has not been seen.
    runs: bool,
}

impl Drop for Job {
    fn drop(&mut self) {
        let (id, mut scheduler, runs) = (std::mem::take(&mut self.id), self.scheduler.clone(), self.runs);
        // Without a runtime the process is ending; the scheduler cleans up by itself after a while.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let ended = if runs {
                within(scheduler.cancel_job(CancelJobParams { job_id: id.clone() })).await.map(|_| ())
            } else {
                Ok(())
            };
            let clean = CleanJobDataParams { job_id: id, remove_stage_ids: Vec::new() };
            let cleaned = within(scheduler.clean_job_data(clean)).await.map(|_| ());
            if let Err(error) = ended.and(cleaned) {
                tracing::warn!(%error, "a job's data is left to the scheduler to be removed");
            }
        });
    }
}
