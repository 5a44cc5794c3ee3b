//! Opening a storage: its file or its address, its connections, its schema.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection as _};

use super::super::LedgerError;
use super::database::{Connection, Readers};
use super::storage;

/// Readers: enough for look-ups on every request, few enough to bound open files.
const MAX_READERS: u32 = 8;

/// How many statements a connection keeps prepared: the storage's own texts, and those of lists by their lengths.
const KEPT_STATEMENTS: usize = 256;

/// How many rows SQLite's thread may find ahead of who reads them.
const ROWS_AHEAD: usize = 512;

/// The pages that a reader of SQLite keeps: 8 MiB.
const READER_CACHE: &str = "-8192";

const MIGRATING: &str = "bringing the schema up to date";

static SQLITE: Migrator = sqlx::migrate!("src/ledger/migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("src/ledger/migrations/postgres");

/// Where a storage is, and how to connect to it.
#[derive(Debug, Clone)]
pub(super) enum Target {
    Sqlite { options: SqliteConnectOptions, path: PathBuf },
    Postgres { options: PgConnectOptions, place: String },
}

impl Target {
    /// What a storage URL names.
    pub(super) fn of(url: &str, patience: Duration) -> Result<Self, LedgerError> {
        let scheme = url.split(':').next().unwrap_or_default();
        if ["postgres", "postgresql"].contains(&scheme) {
            return Self::postgres(url, patience);
        }
        Ok(Self::sqlite(&path_of(url)?, patience))
    }

    pub(super) fn sqlite(path: &Path, patience: Duration) -> Self {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("fullfsync", "ON")
            .pragma("trusted_schema", "OFF")
            // 64 MiB: at SQLite's own 4 MiB every second batch would wait for pages to be written back.
            .pragma("wal_autocheckpoint", "16000")
            // 64 MiB of pages: at SQLite's own 2 MiB every batch would read the ends of its indices anew.
            .pragma("cache_size", "-65536")
            .statement_cache_capacity(KEPT_STATEMENTS)
            .row_buffer_size(ROWS_AHEAD)
            .foreign_keys(true)
            .busy_timeout(patience)
            .disable_statement_logging();
        Self::Sqlite { options, path: path.to_owned() }
    }

    fn postgres(url: &str, patience: Duration) -> Result<Self, LedgerError> {
        // The error may quote the URL, and with it a password: only that it is wrong is told.
        let options = PgConnectOptions::from_str(url).map_err(|_| LedgerError::BadPostgresUrl)?;
        let place = format!("postgres://{}:{}/{}", options.get_host(), options.get_port(), {
            options.get_database().unwrap_or_default()
        });
        let wait_ms = patience.as_millis().to_string();
        let options = options
            // Whatever the server's default is: a commit that returned is on its disk.
            .options([
                ("synchronous_commit", "on"),
                ("lock_timeout", wait_ms.as_str()),
                // A gateway that stops in the middle of a write must not stop the others.
                ("idle_in_transaction_session_timeout", "30s"),
                ("statement_timeout", "60s"),
                ("tcp_user_timeout", "30s"),
                // A statement that is kept prepared keeps its plan. One that was made while the tables were small reads
                // them whole, and still does so when they are large, until the server happens to analyse them: charges
                // took four times as long after a hundred thousand.
                ("enable_seqscan", "off"),
                // Where there is nothing but to read a table whole, its cost would now be thought worth compiling for.
                ("jit", "off"),
            ])
            .application_name("tollgate")
            .statement_cache_capacity(KEPT_STATEMENTS)
            .disable_statement_logging();
        Ok(Self::Postgres { options, place })
    }

    /// Where it is, for the operator. Holds no password.
    pub(super) fn place(&self) -> String {
        match self {
            Self::Sqlite { path, .. } => path.display().to_string(),
            Self::Postgres { place, .. } => place.clone(),
        }
    }

    /// The storage file, where there is one.
    pub(super) fn file(&self) -> Option<&Path> {
        match self {
            Self::Sqlite { path, .. } => Some(path),
            Self::Postgres { .. } => None,
        }
    }

    /// A connection that writes.
    pub(super) async fn connect(&self) -> Result<Connection, LedgerError> {
        Ok(match self {
            Self::Sqlite { options, .. } => {
                Connection::Sqlite(options.connect().await.map_err(storage("opening the file"))?)
            }
            Self::Postgres { options, .. } => {
                Connection::Postgres(options.connect().await.map_err(storage("connecting to the database"))?)
            }
        })
    }

    /// The first connection: makes the storage if there is none, and brings its schema up to date.
    pub(super) async fn open(&self, patience: Duration) -> Result<Connection, LedgerError> {
        match self {
            Self::Sqlite { options, path } => {
                make_private(path).await?;
                let mut connection = connect_first(options, patience).await?;
                migrate_sqlite(&mut connection, &self.place()).await?;
                Ok(Connection::Sqlite(connection))
            }
            Self::Postgres { options, .. } => {
                let mut connection = options.connect().await.map_err(storage("connecting to the database"))?;
                migrate_postgres(&mut connection, &self.place()).await?;
                Ok(Connection::Postgres(connection))
            }
        }
    }

    /// The connections that only read.
    pub(super) fn readers(&self, patience: Duration) -> Readers {
        match self {
            Self::Sqlite { options, .. } => Readers::Sqlite(
                SqlitePoolOptions::new()
                    .max_connections(MAX_READERS)
                    .acquire_timeout(patience)
                    .test_before_acquire(false)
                    .connect_lazy_with(options.clone().pragma("query_only", "ON").pragma("cache_size", READER_CACHE)),
            ),
            Self::Postgres { options, .. } => Readers::Postgres(
                PgPoolOptions::new()
                    .max_connections(MAX_READERS)
                    .acquire_timeout(patience)
                    .connect_lazy_with(options.clone().options([("default_transaction_read_only", "on")])),
            ),
        }
    }
}

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
        Err(source) => Err(LedgerError::Open { path: path.display().to_string(), source: Arc::new(source) }),
    }
}

/// Makes an empty file that is readable by this user alone, where there is none.
pub(super) async fn make_new(path: &Path) -> Result<(), LedgerError> {
    if tokio::fs::try_exists(path).await.unwrap_or(true) {
        return Err(LedgerError::BackupExists { path: path.display().to_string() });
    }
    make_private(path).await
}

/// Waits until a file is on the disk.
pub(super) async fn sync(path: &Path) -> Result<(), LedgerError> {
    let open = |source| LedgerError::Open { path: path.display().to_string(), source: Arc::new(source) };
    tokio::fs::File::open(path).await.map_err(open)?.sync_all().await.map_err(open)
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
async fn migrate_sqlite(writer: &mut SqliteConnection, place: &str) -> Result<(), LedgerError> {
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await.map_err(storage(MIGRATING))?;
    // `run` takes a generic `Acquire`, of which the compiler cannot see that its future may move between threads.
    SQLITE.run_direct(None, &mut *transaction, false).await.map_err(migration(&SQLITE, place))?;
    transaction
        .commit()
        .await
        .map_err(|source| LedgerError::CommitUnknown { doing: MIGRATING, source: Arc::new(source) })
}

/// The same in PostgreSQL, where the migrator itself takes a lock on the database.
async fn migrate_postgres(writer: &mut PgConnection, place: &str) -> Result<(), LedgerError> {
    POSTGRES.run_direct(None, writer, false).await.map_err(migration(&POSTGRES, place))
}

fn migration<'a>(migrator: &'static Migrator, place: &'a str) -> impl FnOnce(MigrateError) -> LedgerError + use<'a> {
    let known = migrator.iter().map(|migration| migration.version).max().unwrap_or_default();
    move |source| {
        let path = place.to_owned();
        match source {
            MigrateError::VersionMissing(found) if found > known => LedgerError::SchemaTooNew { path, found, known },
            source => LedgerError::Migration { path, source: Arc::new(source) },
        }
    }
}
