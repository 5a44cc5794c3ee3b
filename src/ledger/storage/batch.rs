//! Group commit: jobs that wait for the writer are done together, and share one sync.
//!
//! ```text
//! charge ─┐
//! charge ─┼─▶ queue ─▶ one transaction: charges, then draws, then decisions ─▶ COMMIT ─▶ an answer to each
//! draw   ─┘             (while it commits, the next batch gathers)
//! ```
//!
//! A caller that goes away leaves its job in the batch: it is done, or it is not, and never half. No answer is given
//! before the commit has returned; if it fails, each job is told so.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use tokio::sync::{mpsc, oneshot};

use super::super::{Charge, ChargeOutcome, Entry, LedgerError, Receipt, Reuse};
use super::decision::Writes;
use super::releases::{self, Keeping, Kept};
use super::transaction::{Transaction, Verdict, Writer};
use super::{charging, log};

/// The most jobs of one batch: what they are read and written with stays far below what one statement may hold.
const MAX_BATCH: usize = 256;

/// How many accounts a batch may charge before no other job joins it: epochs may make one query charge thousands.
const MAX_ACCOUNTS: usize = 10_000;

/// Where the outcome of a job goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, LedgerError>>;

/// Something to write, soon.
#[derive(Debug)]
pub(super) enum Job {
    /// The charges of one query.
    Charge(Vec<Charge>, Reply<Vec<ChargeOutcome>>),
    /// A drawn release, and the decision that is recorded if it is kept, with what it saved.
    Keep(Box<Keeping>, Reply<Kept>),
    /// A decision that charges nothing, and what it saved.
    Record(Box<Entry>, Vec<Reuse>, Reply<Receipt>),
}

impl Job {
    /// How many accounts it charges.
    fn accounts(&self) -> usize {
        match self {
            Self::Charge(charges, _) => charges.iter().map(|charge| charge.accounts.len()).sum(),
            Self::Keep(..) | Self::Record(..) => 0,
        }
    }

    fn fail(self, error: LedgerError) {
        // A caller that has gone away needs no answer.
        let _ = match self {
            Self::Charge(_, reply) => reply.send(Err(error)).is_err(),
            Self::Keep(_, reply) => reply.send(Err(error)).is_err(),
            Self::Record(_, _, reply) => reply.send(Err(error)).is_err(),
        };
    }
}

/// An outcome that may be told once the commit has returned.
enum Outcome {
    Charged(Reply<Vec<ChargeOutcome>>, Result<Vec<ChargeOutcome>, LedgerError>),
    Kept(Reply<Kept>, Result<Kept, LedgerError>),
    Recorded(Reply<Receipt>, Result<Receipt, LedgerError>),
}

impl Outcome {
    fn tell(self, failed: Option<&LedgerError>) {
        fn told<T>(outcome: Result<T, LedgerError>, failed: Option<&LedgerError>) -> Result<T, LedgerError> {
            failed.map_or(outcome, |error| Err(error.clone()))
        }
        let _ = match self {
            Self::Charged(reply, outcome) => reply.send(told(outcome, failed)).is_err(),
            Self::Kept(reply, outcome) => reply.send(told(outcome, failed)).is_err(),
            Self::Recorded(reply, outcome) => reply.send(told(outcome, failed)).is_err(),
        };
    }
}

/// Serves jobs until all who could send one are gone.
pub(super) async fn serve(writer: Arc<Writer>, mut jobs: mpsc::Receiver<Job>) {
    while let Some(first) = jobs.recv().await {
        let transaction = writer.write("charging").await;
        // Whatever has come while the lock was waited for goes along.
        let mut batch = vec![first];
        let mut accounts = batch.iter().map(Job::accounts).sum::<usize>();
        while batch.len() < MAX_BATCH
            && accounts < MAX_ACCOUNTS
            && let Ok(job) = jobs.try_recv()
        {
            accounts += job.accounts();
            batch.push(job);
        }
        match transaction {
            // A panic takes its batch down, whose callers are told that nobody knows; the next batch begins anew.
            Ok(transaction) => {
                if AssertUnwindSafe(run(transaction, batch)).catch_unwind().await.is_err() {
                    tracing::error!("a batch of the ledger's writer ended in a panic");
                }
            }
            Err(error) => batch.into_iter().for_each(|job| job.fail(error.clone())),
        }
    }
}

/// Does a batch, and answers each of its jobs.
async fn run(mut transaction: Transaction<'_>, batch: Vec<Job>) {
    let mut outcomes = Vec::with_capacity(batch.len());
    let verdict = write(&mut transaction, batch, &mut outcomes).await;
    let failed = transaction.end(verdict).await.err();
    for outcome in outcomes {
        outcome.tell(failed.as_ref());
    }
}

/// Reads, decides and writes. On an error of the storage all jobs have an outcome to be overruled by it.
async fn write(
    transaction: &mut Transaction<'_>,
    batch: Vec<Job>,
    outcomes: &mut Vec<Outcome>,
) -> Result<Verdict<()>, LedgerError> {
    let (mut queries, mut of_queries) = (Vec::new(), Vec::new());
    let (mut keeping, mut of_keeping) = (Vec::new(), Vec::new());
    let mut recording = Vec::new();
    for job in batch {
        match job {
            Job::Charge(charges, reply) => {
                queries.push(charges);
                of_queries.push(reply);
            }
            Job::Keep(one, reply) => {
                keeping.push(*one);
                of_keeping.push(reply);
            }
            Job::Record(entry, reuses, reply) => recording.push((entry, reuses, reply)),
        }
    }
    let charged = match charge(transaction, &queries).await {
        Ok((decided, written)) => {
            outcomes
                .extend(of_queries.into_iter().zip(decided).map(|(reply, outcome)| Outcome::Charged(reply, outcome)));
            Ok(written)
        }
        Err(error) => {
            outcomes.extend(of_queries.into_iter().map(|reply| Outcome::Charged(reply, Err(error.clone()))));
            Err(error)
        }
    };
    let kept = match charged {
        Ok(written) => releases::keep(transaction, &keeping).await.map(|(kept, new)| (kept, written || new)),
        Err(error) => Err(error),
    };
    let recorded = match kept {
        Ok((kept, written)) => {
            outcomes.extend(of_keeping.into_iter().zip(kept).map(|(reply, kept)| Outcome::Kept(reply, kept)));
            Ok(written)
        }
        Err(error) => {
            outcomes.extend(of_keeping.into_iter().map(|reply| Outcome::Kept(reply, Err(error.clone()))));
            Err(error)
        }
    };
    // After an error nothing more is done, and all that is left is told of it.
    let mut so_far = recorded;
    for (entry, reuses, reply) in recording {
        let receipt = match &so_far {
            Ok(_) => log::record(transaction, &entry, &reuses),
            Err(error) => Err(error.clone()),
        };
        so_far = receipt.as_ref().map(|_| true).map_err(LedgerError::clone);
        outcomes.push(Outcome::Recorded(reply, receipt));
    }
    Ok(if so_far? { Verdict::Commit(()) } else { Verdict::Leave(()) })
}

/// Decides the charges of all queries, each on its own, and writes what was decided.
async fn charge(
    transaction: &mut Transaction<'_>,
    queries: &[Vec<Charge>],
) -> Result<(Vec<Result<Vec<ChargeOutcome>, LedgerError>>, bool), LedgerError> {
    if queries.is_empty() {
        return Ok((Vec::new(), false));
    }
    let all: Vec<&Charge> = queries.iter().flatten().collect();
    let mut known = charging::load(transaction, &all).await?;
    let mut writes = Writes::default();
    let decided = queries.iter().map(|charges| known.decide(charges, &mut writes)).collect();
    let written = !(writes.charges.is_empty() && writes.keys.is_empty());
    if written {
        charging::write(transaction, &known, &writes)?;
    }
    Ok((decided, written))
}
