//! Who may run now: a queue in which consumers take turns, so that nobody's many questions keep another's one waiting.
//!
//! ```text
//!  asked ──▶ a's line  [a2 a3 a4]  ─┐
//!            b's line  [b1]         ─┼─▶ in turns, one of each line ─▶ room (at most so many, and so many of one consumer)
//!            c's line  [c2 c3]      ─┘                                        │
//!              full, or too long ─▶ refused, nothing charged                  └─ given back: the next of the next line
//! ```
//!
//! It holds for what scans: releases and what reads public tables. Prices and kept answers run beside it. Nothing here
//! depends on data: who waits and who is refused follows from how many ask.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

/// How many may run and wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct AdmissionLimits {
    /// How many run at once.
    pub(super) running: usize,
    /// How many of one consumer run at once.
    pub(super) running_of_one: usize,
    /// How many wait.
    pub(super) waiting: usize,
    /// How many of one consumer wait.
    pub(super) waiting_of_one: usize,
    /// How long one waits.
    pub(super) patience: Duration,
}

/// Why there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoRoom {
    /// As many wait as may.
    Full,
    /// As many of this consumer wait as may.
    FullOfOne,
    /// It waited as long as it may.
    TimedOut,
}

/// The queue. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Admission(Arc<Queue>);

#[derive(Debug)]
struct Queue {
    limits: AdmissionLimits,
    lines: Mutex<Lines>,
}

/// Who runs and who waits.
#[derive(Debug, Default)]
struct Lines {
    running: usize,
    waiting: usize,
    /// Names those who wait.
    next: u64,
    /// By consumer, those that run or wait.
    of: HashMap<Arc<str>, Line>,
    /// The consumers with someone waiting, in the order of their turns.
    turns: VecDeque<Arc<str>>,
}

#[derive(Debug, Default)]
struct Line {
    running: usize,
    waiting: VecDeque<(u64, oneshot::Sender<Room>)>,
}

/// Room to run, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Room {
    queue: Arc<Queue>,
    consumer: Arc<str>,
}

impl Drop for Room {
    fn drop(&mut self) {
        let granted = {
            let mut lines = self.queue.lines();
            lines.running -= 1;
            if let Some(line) = lines.of.get_mut(&self.consumer) {
                line.running -= 1;
            }
            lines.tidy(&self.consumer);
            lines.grant(&self.queue)
        };
        hand_over(granted);
    }
}

/// Whoever is granted room is told, without the lock: one that went away meanwhile drops its room here, which takes it.
fn hand_over(granted: Vec<(oneshot::Sender<Room>, Room)>) {
    for (waiting, room) in granted {
        drop(waiting.send(room));
    }
}

/// A place in a line, left when it is dropped.
struct Place {
    queue: Arc<Queue>,
    consumer: Arc<str>,
    id: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut lines = self.queue.lines();
        let Some(line) = lines.of.get_mut(&self.consumer) else { return };
        let before = line.waiting.len();
        line.waiting.retain(|(id, _)| *id != self.id);
        let left = before - line.waiting.len();
        lines.waiting -= left;
        lines.tidy(&self.consumer);
    }
}

impl Admission {
    pub(super) fn new(limits: AdmissionLimits) -> Self {
        Self(Arc::new(Queue { limits, lines: Mutex::default() }))
    }

    /// Waits for room to run a question of `consumer`.
    ///
    /// # Errors
    /// When too many wait already, or it waited too long. A caller that goes away leaves its place.
    pub(super) async fn room(&self, consumer: &str) -> Result<Room, NoRoom> {
        let limits = &self.0.limits;
        let (place, mut told) = {
            let mut lines = self.0.lines();
            let consumer: Arc<str> = Arc::from(consumer);
            let line = lines.of.get(&consumer);
            let (running_of_one, waiting_of_one) = line.map_or((0, 0), |line| (line.running, line.waiting.len()));
            if lines.running < limits.running && running_of_one < limits.running_of_one && waiting_of_one == 0 {
                // Whoever waits now waits for its own limit, and not for this room.
                return Ok(lines.begin(&self.0, &consumer));
            }
            if lines.waiting >= limits.waiting {
                return Err(NoRoom::Full);
            }
            if waiting_of_one >= limits.waiting_of_one {
                return Err(NoRoom::FullOfOne);
            }
            lines.wait(&self.0, consumer)
        };
        match tokio::time::timeout(limits.patience, &mut told).await {
            Ok(Ok(room)) => Ok(room),
            // It is granted or it is waiting: a sender is not dropped otherwise.
            Ok(Err(_)) => Err(NoRoom::TimedOut),
            Err(_) => {
                // No room is granted to a place that is left; one that was granted at the last moment is taken.
                drop(place);
                told.try_recv().map_err(|_| NoRoom::TimedOut)
            }
        }
    }

    /// How many run and how many wait now.
    #[cfg(test)]
    pub(super) fn load(&self) -> (usize, usize) {
        let lines = self.0.lines();
        (lines.running, lines.waiting)
    }
}

impl Queue {
    fn lines(&self) -> std::sync::MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    /// Begins a run of `consumer`.
    fn begin(&mut self, queue: &Arc<Queue>, consumer: &Arc<str>) -> Room {
        self.running += 1;
        self.of.entry(Arc::clone(consumer)).or_default().running += 1;
        Room { queue: Arc::clone(queue), consumer: Arc::clone(consumer) }
    }

    /// Takes a place at the end of the line of `consumer`.
    fn wait(&mut self, queue: &Arc<Queue>, consumer: Arc<str>) -> (Place, oneshot::Receiver<Room>) {
        let (tell, told) = oneshot::channel();
        let id = self.next;
        self.next += 1;
        self.waiting += 1;
        let line = self.of.entry(Arc::clone(&consumer)).or_default();
        line.waiting.push_back((id, tell));
        if line.waiting.len() == 1 {
            self.turns.push_back(Arc::clone(&consumer));
        }
        (Place { queue: Arc::clone(queue), consumer, id }, told)
    }

    /// Grants room to the first of each line, in turns, as long as there is any.
    fn grant(&mut self, queue: &Arc<Queue>) -> Vec<(oneshot::Sender<Room>, Room)> {
        let mut granted = Vec::new();
        while self.running < queue.limits.running {
            let may = |consumer: &Arc<str>| {
                self.of.get(consumer).is_some_and(|line| line.running < queue.limits.running_of_one)
            };
            // Who is at its own limit keeps its turn, and others go before it.
            let Some(consumer) = self.turns.iter().position(may).and_then(|at| self.turns.remove(at)) else { break };
            let Some(line) = self.of.get_mut(&consumer) else { continue };
            let first = line.waiting.pop_front();
            if !line.waiting.is_empty() {
                self.turns.push_back(Arc::clone(&consumer));
            }
            if let Some((_, tell)) = first {
                self.waiting -= 1;
                granted.push((tell, self.begin(queue, &consumer)));
            }
        }
        granted
    }

    /// Forgets a consumer of whom nobody waits, and nobody runs.
    fn tidy(&mut self, consumer: &Arc<str>) {
        let Some(line) = self.of.get(consumer) else { return };
        let (idle, nobody_waits) = (line.running == 0, line.waiting.is_empty());
        if nobody_waits {
            self.turns.retain(|other| other != consumer);
            if idle {
                self.of.remove(consumer);
            }
        }
    }
}
