//! The ledger in one SQLite file, in WAL mode with `synchronous = FULL`: a commit that returned has been fsynced.
//!
//! ```text
//! writes ──▶ one connection, one at a time, BEGIN IMMEDIATE … COMMIT
//! reads  ──▶ a small pool, each on its own snapshot, never waiting for the writer
//! ```
//!
//! Another process (the operator's command line) may hold the same file open: SQLite's own lock orders the two, and a
//! writer waits for up to [`PATIENCE`].

mod accounts;
mod charging;
mod checking;
mod columns;
mod identities;
mod releases;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use sqlx::error::DatabaseError;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqlitePool};
use tokio::sync::{Mutex, MutexGuard};
use uuid::Uuid;

use super::{
    Account, Charge, ChargeId, ChargeOutcome, CheckReport, Consumer, Grant, HeldRelease, LedgerError, NewToken,
    ReleaseKey, Store, Token, TokenSecret,
};
use crate::accounting::{Cost, Spent};

/// How long a call waits for its turn, in this process and among processes, before it gives up.
const PATIENCE: Duration = Duration::from_secs(5);

/// Readers: enough for look-ups on every request, few enough to bound open files.
const MAX_READERS: u32 = 4;

static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("src/ledger/migrations");

/// The file that a storage URL names.
pub(super) fn path_of(url: &str) -> Result<PathBuf, LedgerError> {
    let unsupported = || LedgerError::UnsupportedUrl { scheme: url.split(':').next().unwrap_or_default().to_owned() };
    let path = url.strip_prefix("sqlite://").ok_or_else(unsupported)?;
    // SQLite reads `file:` and `?` as a URI of its own, which could name a database in memory.
    if path.is_empty() || path.starts_with(':') || path.starts_with("file:") || path.contains('?') {
        return Err(unsupported());
    }
    Ok(PathBuf::from(path))
}

/// The ledger in a SQLite file.
pub(super) struct SqliteStore {
    options: SqliteConnectOptions,
    /// The connection that writes. It is taken out for the length of a write and put back only after a clean end, so
    /// that no later write can find itself inside the transaction of one that failed or was cancelled.
    writer: Mutex<Option<SqliteConnection>>,
    readers: SqlitePool,
    /// How long a writer waits for its turn.
    patience: Duration,
}

impl SqliteStore {
    /// Opens the file, making it if there is none, and brings its schema up to date.
    pub(super) async fn open(path: &Path) -> Result<Self, LedgerError> {
        Self::open_with(path, PATIENCE).await
    }

    async fn open_with(path: &Path, patience: Duration) -> Result<Self, LedgerError> {
        make_private(path).await?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("fullfsync", "ON")
            .pragma("trusted_schema", "OFF")
            .foreign_keys(true)
            .busy_timeout(patience)
            .disable_statement_logging();
        let mut writer = connect_first(&options, patience).await?;
        migrate(&mut writer, path).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(MAX_READERS)
            .acquire_timeout(patience)
            .test_before_acquire(false)
            .connect_lazy_with(options.clone().pragma("query_only", "ON"));
        Ok(Self { options, writer: Mutex::new(Some(writer)), readers, patience })
    }

    /// Waits for the turn to write, and starts a transaction that already holds SQLite's write lock.
    async fn write(&self, doing: &'static str) -> Result<Writing<'_>, LedgerError> {
        let mut slot = tokio::time::timeout(self.patience, self.writer.lock()).await.map_err(|_| LedgerError::Busy)?;
        let mut connection = match slot.take() {
            Some(connection) => connection,
            None => self.options.connect().await.map_err(storage("opening the file"))?,
        };
        sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await.map_err(storage(doing))?;
        Ok(Writing { slot, connection, doing })
    }
}

/// What a write came to.
enum Verdict<T> {
    /// Something was written: commit it.
    Commit(T),
    /// Nothing was, or must be.
    Leave(T),
}

/// A write transaction. Dropping it, by an error or because the caller was cancelled, closes its connection, upon which
/// SQLite rolls back.
struct Writing<'a> {
    slot: MutexGuard<'a, Option<SqliteConnection>>,
    connection: SqliteConnection,
    doing: &'static str,
}

impl Writing<'_> {
    /// Ends the transaction as `verdict` says.
    async fn end<T>(mut self, verdict: Result<Verdict<T>, LedgerError>) -> Result<T, LedgerError> {
        let doing = self.doing;
        let result = match verdict {
            Ok(Verdict::Commit(value)) => {
                let committed = sqlx::query("COMMIT").execute(&mut self.connection).await;
                // Once a commit was sent, only its success says what is on disk.
                committed.map_err(|source| LedgerError::CommitUnknown { doing, source })?;
                Ok(value)
            }
            Ok(Verdict::Leave(value)) => {
                sqlx::query("ROLLBACK").execute(&mut self.connection).await.map_err(storage(doing))?;
                Ok(value)
            }
            // The connection itself may be what failed, so it goes back only if it can roll back.
            Err(error) => match sqlx::query("ROLLBACK").execute(&mut self.connection).await {
                Ok(_) => Err(error),
                Err(_) => return Err(error),
            },
        };
        *self.slot = Some(self.connection);
        result
    }
}

/// Makes the file, if there is none, readable by this user alone: it holds SQL texts and hashes of secrets. SQLite gives
/// its companion files (`-wal`, `-shm`) the same mode.
async fn make_private(path: &Path) -> Result<(), LedgerError> {
    let mut options = tokio::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    options.mode(0o600);
    match options.open(path).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(LedgerError::Open { path: path.display().to_string(), source }),
    }
}

/// Makes the first connection to the file.
///
/// Turning a new file's journal to WAL needs the file alone, and SQLite's busy time-out does not wait for that. So when
/// several open a new ledger at once, the waiting is done here.
async fn connect_first(options: &SqliteConnectOptions, patience: Duration) -> Result<SqliteConnection, LedgerError> {
    const PAUSE: Duration = Duration::from_millis(5);
    let deadline = Instant::now() + patience;
    loop {
        match options.connect().await.map_err(storage("opening the file")) {
            Err(LedgerError::Busy) if Instant::now() < deadline => tokio::time::sleep(PAUSE).await,
            result => return result,
        }
    }
}

/// Applies what is missing of the schema, all of it or nothing, under the write lock, so that two processes that open a
/// new ledger at once do not both make its tables.
async fn migrate(writer: &mut SqliteConnection, path: &Path) -> Result<(), LedgerError> {
    const DOING: &str = "bringing the schema up to date";
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await.map_err(storage(DOING))?;
    let known = MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or_default();
    // `run` takes a generic `Acquire`, of which the compiler cannot see that its future may move between threads.
    MIGRATOR.run_direct(None, &mut *transaction, false).await.map_err(|source| {
        let path = path.display().to_string();
        match source {
            sqlx::migrate::MigrateError::VersionMissing(found) if found > known => {
                LedgerError::SchemaTooNew { path, found, known }
            }
            source => LedgerError::Migration { path, source },
        }
    })?;
    transaction.commit().await.map_err(|source| LedgerError::CommitUnknown { doing: DOING, source })
}

/// Names what was being done when storage failed; a lock that was not to be had is its own error.
fn storage(doing: &'static str) -> impl FnOnce(sqlx::Error) -> LedgerError {
    /// SQLite's `SQLITE_BUSY`; its extended codes carry it in the low byte.
    const SQLITE_BUSY: i64 = 5;
    move |source| {
        let code = source.as_database_error().and_then(DatabaseError::code).and_then(|code| code.parse::<i64>().ok());
        if code.is_some_and(|code| code & 0xff == SQLITE_BUSY) || matches!(source, sqlx::Error::PoolTimedOut) {
            LedgerError::Busy
        } else {
            LedgerError::Storage { doing, source }
        }
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn charge_all(&self, charges: &[Charge]) -> Result<Vec<ChargeOutcome>, LedgerError> {
        charges.iter().try_for_each(Charge::validate)?;
        let mut writing = self.write("charging").await?;
        let verdict = charging::charge_all(&mut writing.connection, charges).await;
        writing.end(verdict).await
    }

    async fn costs_of(&self, charge: ChargeId) -> Result<Vec<(String, Cost)>, LedgerError> {
        let costs = charging::costs_of(&self.readers, charge).await?;
        if costs.is_empty() { Err(LedgerError::UnknownCharge { charge }) } else { Ok(costs.into_iter().collect()) }
    }

    async fn keep_release(
        &self,
        key: ReleaseKey,
        precision: u64,
        charge: ChargeId,
        payload: &[u8],
        facts: &str,
    ) -> Result<HeldRelease, LedgerError> {
        let mut writing = self.write("keeping a release").await?;
        let verdict = releases::keep(&mut writing.connection, key, precision, charge, payload, facts).await;
        writing.end(verdict).await
    }

    async fn held_release(&self, key: ReleaseKey, min_precision: u64) -> Result<Option<HeldRelease>, LedgerError> {
        releases::held(&self.readers, key, min_precision).await
    }

    async fn held_for(
        &self,
        consumer: &str,
        key: ReleaseKey,
        min_precision: u64,
    ) -> Result<Option<HeldRelease>, LedgerError> {
        releases::held_for(&self.readers, consumer, key, min_precision).await
    }

    async fn has_paid(&self, consumer: &str, key: ReleaseKey, min_precision: u64) -> Result<Option<u64>, LedgerError> {
        releases::has_paid(&self.readers, consumer, key, min_precision).await
    }

    async fn spent(&self, accounts: &[Account]) -> Result<Vec<Option<Spent>>, LedgerError> {
        let spent = accounts::load(&self.readers, accounts.iter()).await?;
        Ok(accounts.iter().map(|account| spent.get(&account.storage_key()).copied()).collect())
    }

    async fn set_grant(&self, consumer: &str, dataset: &str, grant: &Grant) -> Result<(), LedgerError> {
        let mut writing = self.write("setting a grant").await?;
        let verdict = accounts::set_grant(&mut writing.connection, consumer, dataset, grant).await;
        writing.end(verdict).await
    }

    async fn grant(&self, consumer: &str, dataset: &str) -> Result<Option<Grant>, LedgerError> {
        accounts::grant(&self.readers, consumer, dataset).await
    }

    async fn add_consumer(&self, name: &str, agency: Option<&str>) -> Result<(), LedgerError> {
        let mut writing = self.write("adding a consumer").await?;
        let verdict = identities::add_consumer(&mut writing.connection, name, agency).await;
        writing.end(verdict).await
    }

    async fn consumer(&self, name: &str) -> Result<Option<Consumer>, LedgerError> {
        identities::consumer(&self.readers, name).await
    }

    async fn consumers(&self) -> Result<Vec<Consumer>, LedgerError> {
        identities::consumers(&self.readers).await
    }

    async fn set_frozen(&self, name: &str, frozen: bool) -> Result<(), LedgerError> {
        let mut writing = self.write("freezing a consumer").await?;
        let verdict = identities::set_frozen(&mut writing.connection, name, frozen).await;
        writing.end(verdict).await
    }

    async fn create_token(&self, new: &NewToken) -> Result<(Uuid, TokenSecret), LedgerError> {
        new.validate()?;
        let mut writing = self.write("making a token").await?;
        let verdict = identities::create_token(&mut writing.connection, new).await;
        writing.end(verdict).await
    }

    async fn revoke_token(&self, id: Uuid) -> Result<(), LedgerError> {
        let mut writing = self.write("revoking a token").await?;
        let verdict = identities::revoke_token(&mut writing.connection, id).await;
        writing.end(verdict).await
    }

    async fn token_for(&self, secret: &str) -> Result<Option<Token>, LedgerError> {
        identities::token_for(&self.readers, secret).await
    }

    async fn check(&self) -> Result<CheckReport, LedgerError> {
        checking::check(&self.readers).await
    }
}
