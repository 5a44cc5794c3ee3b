//! A thread of our own for requests to object stores that are waited for by code that is not asynchronous.

use std::sync::mpsc;

use tokio::runtime::{Builder, Runtime};

use super::error::StoreError;

/// A runtime of one thread.
#[derive(Debug)]
pub(super) struct Bridge(Option<Runtime>);

impl Bridge {
    pub(super) fn new() -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("stores").enable_all().build();
        Self(runtime.ok())
    }

    /// Runs `work` there and waits for it. Blocks: for threads that may.
    pub(super) fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let runtime = self.0.as_ref().ok_or(StoreError::Bridge)?;
        let (tell, told) = mpsc::sync_channel(1);
        runtime.spawn(async move {
            // Whoever waited may be gone, which is no concern of the work's.
            let _ = tell.send(work.await);
        });
        told.recv().map_err(|_| StoreError::Bridge)?
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        // A runtime that is dropped waits for its threads, which an asynchronous caller must not.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
