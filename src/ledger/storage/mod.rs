//! The ledger in a database: SQLite in one file, or PostgreSQL shared by several gateways.
//!
//! ```text
//! charges, draws, decisions ──▶ queue ──▶ batch: read, decide in Rust, write ──▶ one COMMIT, one sync for all
//! rare writes (grants, tokens, …) ─────▶ the same writer, a transaction of their own
//! reads ──▶ a small pool, each on its own snapshot, never waiting for the writer
//! ```
//!
//! Every write begins by taking the one lock that all writers of the storage take (SQLite's write lock; the row of `state` in
//! PostgreSQL), so that what was read is still true when it is written, whichever process writes. A commit that returned
//! is on disk (SQLite: WAL with `synchronous = FULL`; PostgreSQL: `synchronous_commit = on`).

mod accounts;
mod approvals;
mod batch;
mod charging;
mod checking;
mod columns;
mod database;
mod decision;
mod identities;
mod lifetimes;
mod lists;
mod log;
mod opening;
mod policies;
mod releases;
mod replay;
mod reports;
mod requests;
mod restriction;
mod retention;
#[cfg(test)]
mod tests;
mod thresholds;
mod transaction;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::{
    Account, AccountSearch, AccountSum, Actor, Approval, ApprovalAsked, BudgetRequest, Charge, ChargeId, ChargeOutcome,
    CheckReport, Consumer, DatasetState, DaySpend, Entry, EventGroup, Expiry, Forgotten, Grant, HeldRelease,
    LedgerError, LifetimeSum, LogEntry, NewDraw, NewPolicy, NewToken, PaidDraw, PolicyVersion, QueryLine, QuerySearch,
    Receipt, ReleaseKey, Reuse, Ruling, Scope, SpendLine, SpendQuery, StatedPolicy, Store, Token, TokenSecret,
};
use crate::accounting::{Cost, Spent};
use crate::audit::merkle::{Hash, NodeId, Tree};

use batch::{Job, Reply};
use database::{Reader, Readers, Statement};
use opening::Target;
use transaction::{Transaction, Writer};

/// How long a call waits for its turn, in this process and among processes, before it gives up.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many jobs may wait for the writer; more wait to be put there.
const MAX_QUEUED: usize = 1024;

/// The most accounts of one query: twice as many, those of the batch that it joins, stay below what one statement holds.
const MAX_ACCOUNTS: usize = 10_000;

/// The ledger in a database.
pub(super) struct Storage {
    writer: Arc<Writer>,
    jobs: mpsc::Sender<Job>,
    readers: Readers,
}

impl Storage {
    /// Opens what `url` names, making it if there is none, and brings its schema up to date.
    pub(super) async fn open(url: &str) -> Result<Self, LedgerError> {
        Self::open_with(Target::of(url, PATIENCE)?, PATIENCE).await
    }

    /// That there is something at `url`. Of a PostgreSQL database nothing is said before it is connected to.
    pub(super) async fn require(url: &str) -> Result<(), LedgerError> {
        let target = Target::of(url, PATIENCE)?;
        match target.file() {
            Some(file) if !tokio::fs::metadata(file).await.is_ok_and(|found| found.is_file() && found.len() > 0) => {
                Err(LedgerError::NoLedger { path: target.place() })
            }
            _ => Ok(()),
        }
    }

    async fn open_with(target: Target, patience: Duration) -> Result<Self, LedgerError> {
        let connection = target.open(patience).await?;
        let readers = target.readers(patience);
        let writer = Arc::new(Writer::new(target, connection, patience));
        let (jobs, queue) = mpsc::channel(MAX_QUEUED);
        // Ends when the last sender is dropped, with this storage.
        tokio::spawn(batch::serve(Arc::clone(&writer), queue));
        Ok(Self { writer, jobs, readers })
    }

    /// A connection for statements that read much of the ledger.
    async fn reporter(&self) -> Result<Reader, LedgerError> {
        let mut reader = self.readers.get().await?;
        reader.take_time("making a report").await?;
        Ok(reader)
    }

    async fn write(&self, doing: &'static str) -> Result<Transaction<'_>, LedgerError> {
        self.writer.write(doing).await
    }

    /// Puts a job into the next batch, and waits for its outcome.
    async fn job<T>(&self, doing: &'static str, job: impl FnOnce(Reply<T>) -> Job) -> Result<T, LedgerError> {
        let (reply, outcome) = oneshot::channel();
        self.jobs.send(job(reply)).await.map_err(|_| LedgerError::WriterGone { doing })?;
        outcome.await.map_err(|_| LedgerError::WriterGone { doing })?
    }
}

/// Names what was being done when storage failed; a lock that was not to be had is its own error.
fn storage(doing: &'static str) -> impl FnOnce(sqlx::Error) -> LedgerError {
    /// SQLite's `SQLITE_BUSY`; its extended codes carry it in the low byte.
    const SQLITE_BUSY: i64 = 5;
    /// PostgreSQL: the lock was not to be had in time; the transaction was chosen to end a deadlock, or came in the way of
    /// another.
    const POSTGRES_BUSY: [&str; 3] = ["55P03", "40P01", "40001"];
    move |source| {
        let busy = source.as_database_error().is_some_and(|error| {
            let code = error.code().unwrap_or_default();
            if error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_some() {
                POSTGRES_BUSY.contains(&code.as_ref())
            } else {
                code.parse::<i64>().is_ok_and(|code| code & 0xff == SQLITE_BUSY)
            }
        });
        if busy || matches!(source, sqlx::Error::PoolTimedOut) {
            LedgerError::Busy
        } else {
            LedgerError::Storage { doing, source: Arc::new(source) }
        }
    }
}

/// A write in a transaction of its own: `write!(self, "doing", transaction => what it does)`.
macro_rules! write_one {
    ($self:ident, $doing:literal, $transaction:ident => $work:expr) => {{
        let mut writing = $self.write($doing).await?;
        let verdict = {
            let $transaction = &mut writing;
            $work.await
        };
        writing.end(verdict).await
    }};
}

#[async_trait]
impl Store for Storage {
    async fn charge_all(&self, charges: &[Charge]) -> Result<Vec<ChargeOutcome>, LedgerError> {
        charges.iter().try_for_each(Charge::validate)?;
        let accounts: usize = charges.iter().map(|charge| charge.accounts.len()).sum();
        if accounts > MAX_ACCOUNTS {
            return Err(super::BadCharge::TooManyAccounts { most: MAX_ACCOUNTS }.into());
        }
        let charges = charges.to_vec();
        self.job("charging", |reply| Job::Charge(charges, reply)).await
    }

    async fn costs_of(&self, charge: ChargeId) -> Result<Vec<(String, Cost)>, LedgerError> {
        let mut costs = charging::costs_of(self.readers.get().await?.on(), [charge.0]).await?;
        let costs = costs.remove(&charge.0).ok_or(LedgerError::UnknownCharge { charge })?;
        Ok(costs.into_iter().collect())
    }

    async fn keep_release(
        &self,
        key: ReleaseKey,
        precision: u64,
        charge: ChargeId,
        payload: &[u8],
        facts: &str,
    ) -> Result<HeldRelease, LedgerError> {
        let draw = NewDraw { key, precision, charge, payload: payload.to_vec(), facts: facts.to_owned() };
        let kept = self.job("keeping a release", |reply| Job::Keep(Box::new((draw, None)), reply)).await?;
        Ok(kept.0)
    }

    async fn keep_and_record(
        &self,
        draw: NewDraw,
        entry: Entry,
        reuses: Vec<Reuse>,
    ) -> Result<(HeldRelease, Option<Receipt>), LedgerError> {
        let keeping = Box::new((draw, Some((entry, reuses))));
        self.job("keeping a release", |reply| Job::Keep(keeping, reply)).await
    }

    async fn held_release(&self, key: ReleaseKey, min_precision: u64) -> Result<Option<HeldRelease>, LedgerError> {
        releases::held(self.readers.get().await?.on(), key, min_precision).await
    }

    async fn held_for(
        &self,
        consumer: &str,
        key: ReleaseKey,
        min_precision: u64,
    ) -> Result<Option<HeldRelease>, LedgerError> {
        releases::held_for(&mut self.readers.get().await?, consumer, key, min_precision).await
    }

    async fn paid_draw(
        &self,
        consumer: &str,
        key: ReleaseKey,
        min_precision: u64,
    ) -> Result<Option<PaidDraw>, LedgerError> {
        releases::paid_draw(&mut self.readers.get().await?, consumer, key, min_precision).await
    }

    async fn has_paid(&self, consumer: &str, key: ReleaseKey, min_precision: u64) -> Result<Option<u64>, LedgerError> {
        releases::has_paid(self.readers.get().await?.on(), consumer, key, min_precision).await
    }

    async fn summable(&self, consumer: &str, base: [u8; 32]) -> Result<Vec<(String, String)>, LedgerError> {
        charging::summable(self.readers.get().await?.on(), consumer, base).await
    }

    async fn spent(&self, accounts: &[Account]) -> Result<Vec<Option<Spent>>, LedgerError> {
        let keys: Vec<String> = accounts.iter().map(Account::storage_key).collect();
        let known = accounts::load(self.readers.get().await?.on(), keys.iter().map(String::as_str)).await?;
        Ok(keys.iter().map(|key| known.get(key).map(|known| known.spent)).collect())
    }

    async fn account_sums(&self, datasets: &[String]) -> Result<Vec<AccountSum>, LedgerError> {
        accounts::sums(self.readers.get().await?.on(), datasets).await
    }

    async fn accounts(&self, search: &AccountSearch) -> Result<Vec<AccountSum>, LedgerError> {
        accounts::search(self.readers.get().await?.on(), search).await
    }

    async fn lifetimes(&self, search: &AccountSearch) -> Result<Vec<LifetimeSum>, LedgerError> {
        lifetimes::sums(self.reporter().await?.on(), search).await
    }

    async fn days(&self, account: &Account) -> Result<Vec<DaySpend>, LedgerError> {
        lifetimes::days(self.readers.get().await?.on(), account).await
    }

    async fn events(&self, scope: &Scope, dataset: &str, epoch: Option<&str>) -> Result<Vec<EventGroup>, LedgerError> {
        lifetimes::events(self.readers.get().await?.on(), scope, dataset, epoch).await
    }

    async fn note_thresholds(&self, passed: &[(Account, u64)]) -> Result<Vec<(Account, u64)>, LedgerError> {
        write_one!(self, "noting thresholds", transaction => thresholds::note(transaction, passed))
    }

    async fn set_grant(&self, consumer: &str, dataset: &str, grant: &Grant, by: &Actor) -> Result<(), LedgerError> {
        write_one!(self, "setting a grant", transaction => accounts::set_grant(transaction, consumer, dataset, grant, by))
    }

    async fn grant(&self, consumer: &str, dataset: &str) -> Result<Option<Grant>, LedgerError> {
        accounts::grant(self.readers.get().await?.on(), consumer, dataset).await
    }

    async fn grants(&self) -> Result<Vec<(String, String, Grant)>, LedgerError> {
        accounts::grants(self.readers.get().await?.on()).await
    }

    async fn add_consumer(&self, name: &str, agency: Option<&str>, by: &Actor) -> Result<(), LedgerError> {
        write_one!(self, "adding a consumer", transaction => identities::add_consumer(transaction, name, agency, by))
    }

    async fn consumer(&self, name: &str) -> Result<Option<Consumer>, LedgerError> {
        identities::consumer(self.readers.get().await?.on(), name).await
    }

    async fn consumers(&self) -> Result<Vec<Consumer>, LedgerError> {
        identities::consumers(self.readers.get().await?.on()).await
    }

    async fn set_frozen(&self, name: &str, frozen: bool, by: &Actor) -> Result<(), LedgerError> {
        write_one!(self, "freezing a consumer", transaction => identities::set_frozen(transaction, name, frozen, by))
    }

    async fn create_token(&self, new: &NewToken, by: &Actor) -> Result<(Uuid, TokenSecret), LedgerError> {
        new.validate()?;
        write_one!(self, "making a token", transaction => identities::create_token(transaction, new, by))
    }

    async fn revoke_token(&self, id: Uuid, by: &Actor) -> Result<(), LedgerError> {
        write_one!(self, "revoking a token", transaction => identities::revoke_token(transaction, id, by))
    }

    async fn token_for(&self, secret: &str) -> Result<Option<Token>, LedgerError> {
        identities::token_for(self.readers.get().await?.on(), secret).await
    }

    async fn token(&self, id: Uuid) -> Result<Option<Token>, LedgerError> {
        identities::token(self.readers.get().await?.on(), id).await
    }

    async fn record(&self, entry: Entry, reuses: Vec<Reuse>) -> Result<Receipt, LedgerError> {
        self.job("recording a decision", |reply| Job::Record(Box::new(entry), reuses, reply)).await
    }

    async fn log_tree(&self) -> Result<Tree, LedgerError> {
        Ok(log::state(self.readers.get().await?.on()).await?.tree)
    }

    async fn log_entries(&self, from: u64, limit: u64, datasets: &[String]) -> Result<Vec<LogEntry>, LedgerError> {
        log::entries(self.readers.get().await?.on(), from, limit, datasets).await
    }

    async fn log_nodes(&self, ids: &[NodeId]) -> Result<std::collections::HashMap<NodeId, Hash>, LedgerError> {
        log::nodes(self.readers.get().await?.on(), ids).await
    }

    async fn anchored(&self) -> Result<bool, LedgerError> {
        log::anchored(self.readers.get().await?.on()).await
    }

    async fn set_anchored(&self) -> Result<(), LedgerError> {
        if self.anchored().await? {
            return Ok(());
        }
        write_one!(self, "noting the outside checkpoint", transaction => log::set_anchored(transaction))
    }

    async fn put_policy(&self, new: &NewPolicy, by: &Actor) -> Result<(), LedgerError> {
        write_one!(self, "putting a policy in force", transaction => policies::put(transaction, new, by))
    }

    async fn set_dataset_state(
        &self,
        dataset: &str,
        state: DatasetState,
        reason: Option<&str>,
        by: &Actor,
    ) -> Result<(), LedgerError> {
        write_one!(self, "changing a dataset's state", transaction => {
            policies::set_state(transaction, dataset, state, reason, by)
        })
    }

    async fn policy_changes(&self) -> Result<i64, LedgerError> {
        Ok(log::state(self.readers.get().await?.on()).await?.policies)
    }

    async fn policies(&self) -> Result<(i64, Vec<StatedPolicy>), LedgerError> {
        policies::all(&mut self.readers.get().await?).await
    }

    async fn policies_from_files(&self) -> Result<Vec<PolicyVersion>, LedgerError> {
        policies::from_files(self.readers.get().await?.on()).await
    }

    async fn policy_history(&self, dataset: &str) -> Result<Vec<PolicyVersion>, LedgerError> {
        policies::history(self.readers.get().await?.on(), dataset).await
    }

    async fn request_budget(
        &self,
        consumer: &str,
        dataset: &str,
        grant: &Grant,
        reason: &str,
        by: &Actor,
    ) -> Result<Uuid, LedgerError> {
        write_one!(self, "asking for a budget", transaction => {
            requests::ask(transaction, consumer, dataset, grant, reason, by)
        })
    }

    async fn budget_request(&self, id: Uuid) -> Result<Option<BudgetRequest>, LedgerError> {
        requests::one(self.readers.get().await?.on(), id).await
    }

    async fn budget_requests(&self, consumer: Option<&str>) -> Result<Vec<BudgetRequest>, LedgerError> {
        requests::all(self.readers.get().await?.on(), consumer).await
    }

    async fn decide_budget_request(&self, id: Uuid, ruling: &Ruling, by: &Actor) -> Result<BudgetRequest, LedgerError> {
        write_one!(self, "deciding a budget request", transaction => requests::decide(transaction, id, ruling, by))
    }

    async fn ask_approval(&self, asked: &ApprovalAsked, by: &Actor) -> Result<Vec<Approval>, LedgerError> {
        write_one!(self, "asking for approval", transaction => approvals::ask(transaction, asked, by))
    }

    async fn approvals(&self, datasets: &[String]) -> Result<Vec<Approval>, LedgerError> {
        approvals::all(self.readers.get().await?.on(), datasets).await
    }

    async fn decide_approval(
        &self,
        id: Uuid,
        dataset: &str,
        ruling: &Ruling,
        by: &Actor,
    ) -> Result<Approval, LedgerError> {
        write_one!(self, "deciding about a query", transaction => approvals::decide(transaction, id, dataset, ruling, by))
    }

    async fn spend(&self, query: &SpendQuery) -> Result<Vec<SpendLine>, LedgerError> {
        reports::spend(self.reporter().await?.on(), query).await
    }

    async fn queries(&self, search: &QuerySearch) -> Result<Vec<QueryLine>, LedgerError> {
        reports::queries(self.reporter().await?.on(), search).await
    }

    async fn forgettable(&self, expiry: &Expiry) -> Result<Forgotten, LedgerError> {
        retention::forgettable(self.readers.get().await?.on(), expiry).await
    }

    async fn forget(&self, expiry: &Expiry, by: &Actor) -> Result<Forgotten, LedgerError> {
        write_one!(self, "forgetting", transaction => retention::forget(transaction, expiry, by))
    }

    async fn backup(&self, to: &std::path::Path) -> Result<(), LedgerError> {
        const DOING: &str = "backing up";
        if self.writer.target().file().is_none() {
            return Err(LedgerError::BackupElsewhere);
        }
        let path = to.display().to_string();
        opening::make_new(to).await?;
        // Of one snapshot; writers go on meanwhile. The file that is there and empty is filled.
        let mut connection = self.writer.target().connect().await?;
        Statement::new("VACUUM INTO $1").bind(path.as_str()).execute(connection.on(), DOING).await?;
        opening::sync(to).await
    }

    async fn check(&self) -> Result<CheckReport, LedgerError> {
        checking::check(&mut self.readers.get().await?).await
    }
}
