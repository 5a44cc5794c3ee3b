//! Identical questions at the same time run once: the second waits for the first, and then finds its answer kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::ledger::ReleaseKey;

/// The releases that are being drawn now.
#[derive(Debug, Default)]
pub(super) struct InFlight(Mutex<HashMap<ReleaseKey, Weak<AsyncMutex<()>>>>);

impl InFlight {
    /// Waits until nobody else draws `key`. The turn ends when the guard is dropped.
    pub(super) async fn turn(&self, key: ReleaseKey) -> OwnedMutexGuard<()> {
        let lock = {
            let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            running.retain(|_, lock| lock.strong_count() > 0);
            running.get(&key).and_then(Weak::upgrade).unwrap_or_else(|| {
                let lock = Arc::new(AsyncMutex::new(()));
                running.insert(key, Arc::downgrade(&lock));
                lock
            })
        };
        lock.lock_owned().await
    }
}
