//! Identical questions at the same time run once: the second waits for the first, and then finds its answer kept.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::ledger::ReleaseKey;

/// The releases that are being drawn now.
#[derive(Debug, Default)]
pub(super) struct InFlight(Mutex<HashMap<ReleaseKey, Weak<AsyncMutex<()>>>>);

/// The turns to draw some releases. They end when it is dropped.
#[derive(Debug)]
pub(super) struct Turns {
    _turns: Vec<OwnedMutexGuard<()>>,
}

impl InFlight {
    /// Whether somebody draws one of `keys` now.
    pub(super) fn is_busy(&self, keys: &BTreeSet<ReleaseKey>) -> bool {
        let running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.iter().any(|key| running.get(key).and_then(Weak::upgrade).is_some_and(|lock| lock.try_lock().is_err()))
    }

    /// Waits until those are done that draw one of `keys` now. Whether there were any.
    pub(super) async fn settled(&self, keys: &BTreeSet<ReleaseKey>) -> bool {
        let mut waited = false;
        for key in keys {
            let lock = {
                let running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                running.get(key).and_then(Weak::upgrade)
            };
            if let Some(lock) = lock
                && lock.try_lock().is_err()
            {
                waited = true;
                drop(lock.lock().await);
            }
        }
        waited
    }

    /// The turns to draw `keys`, if nobody else draws one of them.
    pub(super) fn try_turns(&self, keys: &BTreeSet<ReleaseKey>) -> Option<Turns> {
        // In the order of their keys; one that is not free gives back those before it.
        keys.iter()
            .map(|key| self.lock(*key).try_lock_owned().ok())
            .collect::<Option<_>>()
            .map(|turns| Turns { _turns: turns })
    }

    /// Waits until nobody else draws one of `keys`.
    pub(super) async fn turns(&self, keys: &BTreeSet<ReleaseKey>) -> Turns {
        let mut turns = Vec::with_capacity(keys.len());
        // In the order of their keys, so that two queries never wait for each other.
        for key in keys {
            turns.push(self.lock(*key).lock_owned().await);
        }
        Turns { _turns: turns }
    }

    fn lock(&self, key: ReleaseKey) -> Arc<AsyncMutex<()>> {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|_, lock| lock.strong_count() > 0);
        running.get(&key).and_then(Weak::upgrade).unwrap_or_else(|| {
            let lock = Arc::new(AsyncMutex::new(()));
            running.insert(key, Arc::downgrade(&lock));
            lock
        })
    }
}
