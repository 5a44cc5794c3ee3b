//! One way to speak SQL to either database, so that the ledger's rules and its statements are written once.
//!
//! ```text
//! Statement("… $1 … $2", values) ──▶ On ──▶ SQLite or PostgreSQL ──▶ Row: int, text, bytes
//! ```
//!
//! Both databases read `$1` as a parameter. Values are whole numbers, texts and bytes: no float can be bound or read,
//! and there is no truth value, which SQLite does not have.

use std::borrow::Cow;

use sqlx::postgres::{PgConnection, PgPool, PgRow, Postgres};
use sqlx::sqlite::{Sqlite, SqliteConnection, SqlitePool, SqliteRow};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

use super::super::LedgerError;
use super::storage;

/// A connection that writes.
#[derive(Debug)]
pub(super) enum Connection {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Connection {
    /// The connection as statements take it.
    pub(super) fn on(&mut self) -> On<'_> {
        match self {
            Self::Sqlite(connection) => On::Sqlite(connection),
            Self::Postgres(connection) => On::Postgres(connection),
        }
    }

    /// Commits. Whatever goes wrong, what was written may be there or not.
    pub(super) async fn commit(&mut self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(connection) => sqlx::query("COMMIT").execute(connection).await.map(|_| ()),
            Self::Postgres(connection) => sqlx::query("COMMIT").execute(connection).await.map(|_| ()),
        }
    }

    /// Closes it without waiting for an answer; the database rolls back what it had begun.
    pub(super) async fn close_hard(self) {
        // It is given up because it failed: that closing it fails too tells nothing new.
        let _ = match self {
            Self::Sqlite(connection) => connection.close_hard().await,
            Self::Postgres(connection) => connection.close_hard().await,
        };
    }
}

/// Connections that only read.
#[derive(Debug, Clone)]
pub(super) enum Readers {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Readers {
    /// A connection to read on.
    pub(super) async fn get(&self) -> Result<Reader, LedgerError> {
        Ok(match self {
            Self::Sqlite(pool) => Reader::Sqlite(pool.acquire().await.map_err(storage("opening a reader"))?),
            Self::Postgres(pool) => Reader::Postgres(pool.acquire().await.map_err(storage("opening a reader"))?),
        })
    }
}

/// A connection of the readers, given back when it is dropped.
pub(super) enum Reader {
    Sqlite(sqlx::pool::PoolConnection<Sqlite>),
    Postgres(sqlx::pool::PoolConnection<Postgres>),
}

impl Reader {
    /// The connection as statements take it.
    pub(super) fn on(&mut self) -> On<'_> {
        match self {
            Self::Sqlite(connection) => On::Sqlite(connection),
            Self::Postgres(connection) => On::Postgres(connection),
        }
    }

    /// Begins one view of the storage for all that is read until [`Self::end`], whatever is written meanwhile.
    pub(super) async fn begin_snapshot(&mut self, doing: &'static str) -> Result<(), LedgerError> {
        let begin = match self {
            Self::Sqlite(_) => "BEGIN",
            Self::Postgres(_) => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        };
        // Whoever goes away in the middle would leave the view to the next who reads: the connection is not used again.
        match self {
            Self::Sqlite(connection) => connection.close_on_drop(),
            Self::Postgres(connection) => connection.close_on_drop(),
        }
        Statement::new(begin).execute(self.on(), doing).await.map(|_| ())
    }

    /// Lets each statement run as long as reading all of a large ledger takes: for reports and checks. Only PostgreSQL ends
    /// statements by itself. The connection is not used again, since the next who reads is not to wait so long.
    pub(super) async fn take_time(&mut self, doing: &'static str) -> Result<(), LedgerError> {
        match self {
            Self::Sqlite(_) => return Ok(()),
            Self::Postgres(connection) => connection.close_on_drop(),
        }
        Statement::new("SET statement_timeout = '30min'").execute(self.on(), doing).await.map(|_| ())
    }

    /// Ends the view.
    pub(super) async fn end(&mut self, doing: &'static str) -> Result<(), LedgerError> {
        Statement::new("ROLLBACK").execute(self.on(), doing).await.map(|_| ())
    }

    /// Whether it is SQLite's.
    pub(super) const fn is_sqlite(&self) -> bool {
        matches!(self, Self::Sqlite(_))
    }
}

/// Where a statement runs.
#[derive(Debug)]
pub(super) enum On<'c> {
    Sqlite(&'c mut SqliteConnection),
    Postgres(&'c mut PgConnection),
}

impl On<'_> {
    /// The same for one more statement.
    pub(super) fn again(&mut self) -> On<'_> {
        match self {
            Self::Sqlite(connection) => On::Sqlite(connection),
            Self::Postgres(connection) => On::Postgres(connection),
        }
    }
}

/// A value of a parameter.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Int(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(Some(value))
    }
}

impl From<Option<i64>> for Value {
    fn from(value: Option<i64>) -> Self {
        Self::Int(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(Some(value.to_owned()))
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(Some(value))
    }
}

impl From<Option<&str>> for Value {
    fn from(value: Option<&str>) -> Self {
        Self::Text(value.map(str::to_owned))
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Self::Bytes(Some(value.to_owned()))
    }
}

impl From<[u8; 32]> for Value {
    fn from(value: [u8; 32]) -> Self {
        Self::Bytes(Some(value.to_vec()))
    }
}

impl From<Option<&[u8]>> for Value {
    fn from(value: Option<&[u8]>) -> Self {
        Self::Bytes(value.map(<[u8]>::to_vec))
    }
}

/// A row of a result.
pub(super) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

macro_rules! read {
    ($name:ident, $kind:ty, $what:literal) => {
        #[doc = concat!("The ", $what, " of column `at`, from 0.")]
        pub(super) fn $name(&self, at: usize) -> Result<$kind, LedgerError> {
            let value = match self {
                Self::Sqlite(row) => row.try_get(at),
                Self::Postgres(row) => row.try_get(at),
            };
            value.map_err(|_| LedgerError::Corrupt { what: $what })
        }
    };
}

impl Row {
    read!(int, i64, "whole number");
    read!(maybe_int, Option<i64>, "whole number or nothing");
    read!(text, String, "text");
    read!(maybe_text, Option<String>, "text or nothing");
    read!(bytes, Vec<u8>, "bytes");

    /// The 32 bytes of column `at`.
    pub(super) fn hash(&self, at: usize) -> Result<[u8; 32], LedgerError> {
        self.bytes(at)?.try_into().map_err(|_| LedgerError::Corrupt { what: "hash" })
    }
}

/// A statement of the one or the other database, with its values bound.
macro_rules! prepared {
    ($database:ty, $sql:expr, $values:expr, $keep:expr) => {
        $values
            .into_iter()
            .fold(sqlx::query::<$database>($sql), |query, value| match value {
                Value::Int(value) => query.bind(value),
                Value::Text(value) => query.bind(value),
                Value::Bytes(value) => query.bind(value),
            })
            .persistent($keep)
    };
}

/// A statement with its values.
#[derive(Debug, Clone)]
pub(super) struct Statement {
    sql: Cow<'static, str>,
    values: Vec<Value>,
}

impl Statement {
    /// A statement whose parameters are `$1`, `$2`, …
    pub(super) fn new(sql: &'static str) -> Self {
        Self { sql: Cow::Borrowed(sql), values: Vec::new() }
    }

    /// The next parameter's value.
    pub(super) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// A text that is put together from pieces of this program, with the values of its parameters.
    pub(super) fn composed(sql: String, values: Vec<Value>) -> Self {
        Self { sql: Cow::Owned(sql), values }
    }

    /// `before ($1, $2, …) after` with one parameter for each of `values`. An empty list is matched by nothing.
    pub(super) fn within(before: &str, values: impl IntoIterator<Item = Value>, after: &str) -> Self {
        let values: Vec<Value> = values.into_iter().collect();
        let mut sql = String::with_capacity(before.len() + after.len() + values.len() * 6);
        sql.push_str(before);
        sql.push_str(" (");
        if values.is_empty() {
            sql.push_str("NULL");
        }
        push_parameters(&mut sql, 1, values.len());
        sql.push_str(") ");
        sql.push_str(after);
        Self { sql: Cow::Owned(sql), values }
    }

    /// `before VALUES (…), (…), … after`: statements enough to insert all of `rows`, of `columns` values each.
    pub(super) fn insert(
        before: &'static str,
        columns: usize,
        rows: impl IntoIterator<Item = Vec<Value>>,
        after: &'static str,
    ) -> Vec<Self> {
        let mut statements = Vec::new();
        let mut values: Vec<Value> = Vec::new();
        let finish = |values: &mut Vec<Value>| {
            let mut sql = String::with_capacity(before.len() + after.len() + values.len() * 6);
            sql.push_str(before);
            sql.push_str(" VALUES ");
            for row in 0..values.len() / columns {
                sql.push_str(if row == 0 { "(" } else { ", (" });
                push_parameters(&mut sql, row * columns + 1, columns);
                sql.push(')');
            }
            sql.push(' ');
            sql.push_str(after);
            Self { sql: Cow::Owned(sql), values: std::mem::take(values) }
        };
        for row in rows {
            if values.len() + columns > MAX_PARAMETERS {
                statements.push(finish(&mut values));
            }
            values.extend(row);
        }
        if !values.is_empty() {
            statements.push(finish(&mut values));
        }
        statements
    }

    /// Runs it; how many rows it changed.
    pub(super) async fn execute(self, on: On<'_>, doing: &'static str) -> Result<u64, LedgerError> {
        let (sql, values, keep) = self.parts();
        let done = match on {
            On::Sqlite(connection) => prepared!(Sqlite, AssertSqlSafe(positional(sql.0)), values, keep)
                .execute(connection)
                .await
                .map(|done| done.rows_affected()),
            On::Postgres(connection) => {
                prepared!(Postgres, sql, values, keep).execute(connection).await.map(|done| done.rows_affected())
            }
        };
        done.map_err(storage(doing))
    }

    /// Runs it and gives all of its rows.
    pub(super) async fn fetch_all(self, on: On<'_>, doing: &'static str) -> Result<Vec<Row>, LedgerError> {
        let (sql, values, keep) = self.parts();
        let rows = match on {
            On::Sqlite(connection) => {
                let rows =
                    prepared!(Sqlite, AssertSqlSafe(positional(sql.0)), values, keep).fetch_all(connection).await;
                rows.map(|rows| rows.into_iter().map(Row::Sqlite).collect())
            }
            On::Postgres(connection) => {
                let rows = prepared!(Postgres, sql, values, keep).fetch_all(connection).await;
                rows.map(|rows| rows.into_iter().map(Row::Postgres).collect())
            }
        };
        rows.map_err(storage(doing))
    }

    /// Runs it and gives its first row, if there is one.
    pub(super) async fn fetch_optional(self, on: On<'_>, doing: &'static str) -> Result<Option<Row>, LedgerError> {
        Ok(self.fetch_all(on, doing).await?.into_iter().next())
    }

    /// Runs it and gives its one row.
    pub(super) async fn fetch_one(self, on: On<'_>, doing: &'static str) -> Result<Row, LedgerError> {
        self.fetch_optional(on, doing).await?.ok_or(LedgerError::Corrupt { what: "row that is missing" })
    }

    /// A text of ours alone is the same every time, and kept prepared; one that was made for its values is not.
    fn parts(self) -> (AssertSqlSafe<Cow<'static, str>>, Vec<Value>, bool) {
        let keep = matches!(self.sql, Cow::Borrowed(_));
        // Every piece of the text is a literal of this program; values are bound, never written into it.
        (AssertSqlSafe(self.sql), self.values, keep)
    }
}

/// A long text for SQLite: with `?` for `$1, $2, …` where they come one after another, each once.
///
/// SQLite takes `$1` for a name, and looks through all names at each of them: a statement of ten thousand parameters would
/// cost fifty million comparisons to read, and as many to bind. What is written for its values alone is such a statement.
pub(super) fn positional(sql: Cow<'static, str>) -> Cow<'static, str> {
    let Cow::Owned(named) = sql else { return sql };
    let mut text = String::with_capacity(named.len());
    let mut pieces = named.split('$');
    text.push_str(pieces.next().unwrap_or_default());
    for (at, piece) in pieces.enumerate() {
        let digits = piece.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = piece.split_at(digits);
        if number.parse() != Ok(at + 1) {
            return Cow::Owned(named);
        }
        text.push('?');
        text.push_str(rest);
    }
    Cow::Owned(text)
}

/// What both databases allow in one statement, with room to spare (SQLite 32,766, PostgreSQL 65,535).
const MAX_PARAMETERS: usize = 30_000;

/// `$first, $first+1, …`, `count` of them.
fn push_parameters(sql: &mut String, first: usize, count: usize) {
    use std::fmt::Write;
    for at in 0..count {
        // Writing to a String cannot fail.
        let _ = write!(sql, "{}${}", if at == 0 { "" } else { ", " }, first + at);
    }
}
