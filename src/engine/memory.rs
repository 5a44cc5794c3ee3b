//! Memory among the queries that run: each has a pool of its own, so that one of them never leaves the others without.
//!
//! ```text
//!  |<------------------------------- limit ------------------------------->|
//!  [ own ][ own ][ own ]…   half: a part for each that may run, always its own
//!                         [          half: whoever needs more           ]   each at most its share of those that run now
//! ```
//!
//! Within a query the pool is DataFusion's fair one: operators that can spill have equal parts of what the others leave.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::common::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};

/// What all queries together may hold.
#[derive(Debug)]
pub(super) struct SharedMemory {
    /// Bytes that each query has for its own.
    own: usize,
    /// Bytes that are for whoever needs more.
    common: usize,
    taken: Mutex<Taken>,
}

/// What is taken now.
#[derive(Debug, Default)]
struct Taken {
    /// The queries that run.
    running: usize,
    /// What they hold beyond their own, in bytes.
    beyond: usize,
}

impl SharedMemory {
    /// `limit` bytes for `queries` that may run at once, and for what is computed beside them.
    pub(super) fn new(limit: usize, queries: usize) -> Arc<Self> {
        let (own, common) = if queries <= 1 { (limit, 0) } else { (limit / 2 / (queries + 1), limit - limit / 2) };
        Arc::new(Self { own, common, taken: Mutex::default() })
    }

    /// The pool of a query that begins.
    pub(super) fn query(self: &Arc<Self>) -> Arc<QueryMemory> {
        self.taken().running += 1;
        Arc::new(QueryMemory { shared: Arc::clone(self), counted: true, held: Mutex::default() })
    }

    /// The pool of all that is computed beside queries: from released values and public tables.
    pub(super) fn beside(self: &Arc<Self>) -> Arc<QueryMemory> {
        Arc::new(QueryMemory { shared: Arc::clone(self), counted: false, held: Mutex::default() })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The most that one may hold, while `running` queries run.
    fn share(&self, running: usize) -> usize {
        self.own + self.common / running.max(1)
    }
}

/// The memory of one query.
#[derive(Debug)]
pub(super) struct QueryMemory {
    shared: Arc<SharedMemory>,
    /// Whether it is one of the queries that share.
    counted: bool,
    held: Mutex<Held>,
}

/// What one query holds, in bytes.
#[derive(Debug, Default)]
struct Held {
    /// How many of its operators can spill.
    spillers: usize,
    spillable: usize,
    unspillable: usize,
}

impl Held {
    const fn all(&self) -> usize {
        self.spillable.saturating_add(self.unspillable)
    }

    fn of(&mut self, can_spill: bool) -> &mut usize {
        if can_spill { &mut self.spillable } else { &mut self.unspillable }
    }
}

impl QueryMemory {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds `more` bytes, whether or not they are within the share.
    fn take(&self, held: &mut Held, taken: &mut Taken, can_spill: bool, more: usize) {
        let before = held.all().saturating_sub(self.shared.own);
        let of_kind = held.of(can_spill);
        *of_kind = of_kind.saturating_add(more);
        taken.beyond = taken.beyond.saturating_add(held.all().saturating_sub(self.shared.own) - before);
    }
}

impl Drop for QueryMemory {
    fn drop(&mut self) {
        let beyond = self.held().all().saturating_sub(self.shared.own);
        let mut taken = self.shared.taken();
        taken.beyond = taken.beyond.saturating_sub(beyond);
        if self.counted {
            taken.running = taken.running.saturating_sub(1);
        }
    }
}

impl fmt::Display for QueryMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl MemoryPool for QueryMemory {
    fn name(&self) -> &'static str {
        "query"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        if consumer.can_spill() {
            self.held().spillers += 1;
        }
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        if consumer.can_spill() {
            let mut held = self.held();
            held.spillers = held.spillers.saturating_sub(1);
        }
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        let mut held = self.held();
        self.take(&mut held, &mut self.shared.taken(), reservation.consumer().can_spill(), additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        let mut held = self.held();
        let before = held.all().saturating_sub(self.shared.own);
        let of_kind = held.of(reservation.consumer().can_spill());
        *of_kind = of_kind.saturating_sub(shrink);
        let less = before - held.all().saturating_sub(self.shared.own);
        let mut taken = self.shared.taken();
        taken.beyond = taken.beyond.saturating_sub(less);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let can_spill = reservation.consumer().can_spill();
        let mut held = self.held();
        let mut taken = self.shared.taken();
        let share = self.shared.share(taken.running);
        let (has, may) = if can_spill {
            // As in DataFusion's `FairSpillPool`: no spiller has more than its part of what others leave.
            (reservation.size(), share.saturating_sub(held.unspillable) / held.spillers.max(1))
        } else {
            (held.all(), share)
        };
        let beyond = |all: usize| all.saturating_sub(self.shared.own);
        let more_beyond = beyond(held.all().saturating_add(additional)) - beyond(held.all());
        if has.saturating_add(additional) > may || taken.beyond.saturating_add(more_beyond) > self.shared.common {
            return Err(DataFusionError::ResourcesExhausted(
                "the query holds all the memory that is for it now".to_owned(),
            ));
        }
        self.take(&mut held, &mut taken, can_spill, additional);
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.held().all()
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.shared.share(self.shared.taken().running))
    }
}

#[cfg(test)]
mod tests;
