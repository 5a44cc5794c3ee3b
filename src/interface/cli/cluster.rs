//! `tollgate scheduler` and `tollgate executor`: the processes of a cluster.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

use super::failure::{Failure, say};
use super::logging::{self, LogFormat};
use super::serve::bind;
use crate::cluster::{ClusterSecret, Executor, ExecutorOptions, Scheduler, SchedulerOptions};
use crate::config::Config;
use crate::interface::http;
use crate::stores::Stores;

/// Run the scheduler of a cluster: it hands the work of a gateway in the mode `ballista` to executors.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  tollgate scheduler --bind 10.0.0.5:50050 --secret cluster.secret

The secret's file is made if it is not there. Copy it to the executors and to the gateway, for whose tollgate.toml:
  [engine]
  mode = \"ballista\"
  scheduler = \"10.0.0.5:50050\"
  cluster_secret = \"cluster.secret\"")]
pub(super) struct SchedulerCommand {
    /// The address to listen on, of a network that only the cluster and the gateway are in.
    #[arg(long, default_value = "127.0.0.1:50050")]
    bind: SocketAddr,
    /// The file with the secret that the cluster shares, which its owner alone can read.
    #[arg(long, default_value = "cluster.secret")]
    secret: PathBuf,
    /// After how many seconds without a word an executor is taken for lost, and its work given to others.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(8..=3600))]
    executor_timeout: u64,
    /// How the log is written.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

impl SchedulerCommand {
    /// Schedules until it is told to stop.
    pub(super) async fn run(self) -> Result<(), Failure> {
        logging::start(self.log_format, false);
        let secret = ClusterSecret::load_or_create(&self.secret)?;
        let options = SchedulerOptions { executor_timeout_seconds: self.executor_timeout };
        let scheduler = Scheduler::new(&options, &secret).await?;
        let listener = bind(&self.bind.to_string()).await?;
        listening(&listener)?;
        Ok(scheduler.serve(listener, http::shutdown_signal()).await?)
    }
}

/// Run an executor of a cluster: it reads files, joins and bounds rows, and never sees a token, a budget or noise.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  tollgate executor --scheduler 10.0.0.5:50050 --bind 10.0.0.6:50051 --secret cluster.secret

It reads the files of the datasets at the same paths as the gateway, and objects (s3://) with keys of its own: of its
environment (AWS_*), or as the [stores] of --config say.")]
pub(super) struct ExecutorCommand {
    /// `HOST:PORT` of the scheduler.
    #[arg(long)]
    scheduler: String,
    /// The address on which it serves what it has made to the other executors and the gateway; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    bind: SocketAddr,
    /// The host name or address by which they reach it, if it is another than that of `--bind`.
    #[arg(long)]
    advertise: Option<String>,
    /// The file with the secret that the cluster shares, which its owner alone can read.
    #[arg(long, default_value = "cluster.secret")]
    secret: PathBuf,
    /// How many tasks run at once; as many as there are cores if it is not said.
    #[arg(long)]
    tasks: Option<NonZeroUsize>,
    /// The memory that all its tasks together may hold, in mebibytes.
    #[arg(long, default_value_t = 2048)]
    memory_limit_mb: usize,
    /// A configuration whose `[stores]` say how objects are reached; without one the environment does (`AWS_*`).
    #[arg(long)]
    config: Option<PathBuf>,
    /// Where it makes the folder for what it writes: rows of private data, readable by it alone, gone when it ends.
    #[arg(long)]
    work_dir: Option<PathBuf>,
    /// How the log is written.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

impl ExecutorCommand {
    /// Works until it is told to stop.
    pub(super) async fn run(self) -> Result<(), Failure> {
        logging::start(self.log_format, false);
        let secret = ClusterSecret::load(&self.secret)?;
        let listener = bind(&self.bind.to_string()).await?;
        let address = listening(&listener)?;
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let options = ExecutorOptions {
            scheduler: self.scheduler,
            host: self.advertise.unwrap_or_else(|| address.ip().to_string()),
            tasks: self.tasks.unwrap_or(cores),
            memory_bytes: self.memory_limit_mb.saturating_mul(1 << 20),
            stores: match &self.config {
                Some(file) => Stores::new(Config::load(Some(file))?.stores),
                None => Stores::default(),
            },
            work_dir: self.work_dir.unwrap_or_else(std::env::temp_dir),
        };
        let executor = Executor::new(&options, &secret, address.port())?;
        Ok(executor.serve(listener, http::shutdown_signal()).await?)
    }
}

fn listening(listener: &tokio::net::TcpListener) -> Result<SocketAddr, Failure> {
    let address = listener
        .local_addr()
        .map_err(|source| Failure::Io { what: "cannot tell the address that is listened on".to_owned(), source })?;
    say(&format!("listening on {address}"));
    Ok(address)
}
