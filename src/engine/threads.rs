//! The threads that queries' work runs on: others than those that answer requests and write the ledger, so that a heavy scan
//! keeps neither a kept answer nor a charge waiting.

use std::future::Future;
use std::io;

use datafusion::common::DataFusionError;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

/// A runtime of its own. It is left to end by itself when it is dropped, which may be on a thread of another.
#[derive(Debug)]
pub(super) struct Threads(Option<Runtime>);

impl Threads {
    /// So many threads; one for each core when it is not said.
    pub(super) fn new(count: Option<usize>) -> io::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        if let Some(count) = count {
            builder.worker_threads(count);
        }
        builder.thread_name("tollgate-engine").enable_all().build().map(|runtime| Self(Some(runtime)))
    }

    /// Runs `work` there, and waits for it. It is ended when the caller goes away.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, DataFusionError>> + Send + 'static,
    ) -> Result<T, DataFusionError> {
        let Some(runtime) = &self.0 else {
            return Err(DataFusionError::Internal("the engine has no threads".to_owned()));
        };
        // A set ends its tasks when it is dropped.
        let mut running = JoinSet::new();
        running.spawn_on(work, runtime.handle());
        match running.join_next().await {
            Some(Ok(done)) => done,
            Some(Err(error)) => Err(DataFusionError::External(Box::new(error))),
            None => Err(DataFusionError::Internal("a task that was begun is not there".to_owned())),
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests;
