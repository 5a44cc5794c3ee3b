//! One way to speak SQL to either database, so that the ledger's rules and its statements are written once.
//!
//! ```text
//! Statement("… $1 … $2", values) ──▶ On ──▶ SQLite or PostgreSQL ──▶ Row: int, text, bytes
//! ```
//!
//! Both databases read `$1` as a parameter. Values are whole numbers, texts and bytes: no float can be bound or read,
//! and there is no truth value, which SQLite does not have.

use std::borrow::Cow;

use futures::TryStreamExt;
use sqlx::postgres::{PgConnection, PgPool, PgRow, Postgres};
use sqlx::sqlite::{Sqlite, SqliteConnection, SqlitePool, SqliteRow};
use sqlx::{AssertSqlSafe, Connection as _, Either, Executor as _, Row as _};

use super::super::LedgerError;
use super::lists::{self, Array};
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

    /// Lets each statement run as long as reading all of a large ledger takes, and read it in the order in which it lies: for
    /// reports and checks. Only PostgreSQL ends statements by itself. The connection is not used again, since the next who
    /// reads is not to wait so long.
    pub(super) async fn take_time(&mut self, doing: &'static str) -> Result<(), LedgerError> {
        match self {
            Self::Sqlite(_) => return Ok(()),
            Self::Postgres(connection) => connection.close_on_drop(),
        }
        Statement::new("SET statement_timeout = '30min'").execute(self.on(), doing).await?;
        Statement::new("SET enable_seqscan = on").execute(self.on(), doing).await.map(|_| ())
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

impl Value {
    /// Whether it is NULL.
    pub(super) const fn is_null(&self) -> bool {
        matches!(self, Self::Int(None) | Self::Text(None) | Self::Bytes(None))
    }
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
macro_rules! bound {
    ($database:ty, $sql:expr, $values:expr, $keep:expr, $($kind:path),+) => {
        $values
            .into_iter()
            .fold(sqlx::query::<$database>($sql), |query, value| match value {
                $($kind(value) => query.bind(value),)+
            })
            .persistent($keep)
    };
}

/// The same, whose values are [`Value`]s.
macro_rules! of_values {
    ($database:ty, $sql:expr, $values:expr, $keep:expr) => {
        bound!($database, $sql, $values, $keep, Value::Int, Value::Text, Value::Bytes)
    };
}

/// The same, whose values are [`Array`]s.
macro_rules! of_arrays {
    ($sql:expr, $arrays:expr, $keep:expr) => {
        bound!(Postgres, $sql, $arrays, $keep, Array::Int, Array::Text, Array::Bytes)
    };
}

/// A statement with its values. Every piece of its text is a literal of this program; values are bound, never written into
/// it.
#[derive(Debug, Clone)]
pub(super) struct Statement {
    text: Text,
    values: Vec<Value>,
}

/// What a statement says. A piece that is the same every time is kept prepared; one that was put together is not.
#[derive(Debug, Clone)]
enum Text {
    /// All of it, with its parameters in their places.
    Whole(Cow<'static, str>),
    /// What stands before and after the list of values that something is one of.
    Within(Cow<'static, str>, &'static str),
    /// What stands before and after the rows, and how many values each has.
    Rows(&'static str, usize, &'static str),
}

/// A text, its values, and whether it is kept prepared.
type Prepared = (Cow<'static, str>, Vec<Value>, bool);

/// The most values of statements that SQLite is given together. Lists have few lengths, and statements of few short lists few
/// texts; those of long lists would have many.
const MOST_TOGETHER: usize = 1024;

impl Statement {
    /// A statement whose parameters are `$1`, `$2`, …
    pub(super) fn new(sql: &'static str) -> Self {
        Self { text: Text::Whole(Cow::Borrowed(sql)), values: Vec::new() }
    }

    /// The next parameter's value.
    pub(super) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// A text that is put together from pieces of this program, with the values of its parameters.
    pub(super) fn composed(sql: String, values: Vec<Value>) -> Self {
        Self { text: Text::Whole(Cow::Owned(sql)), values }
    }

    /// `before` (such as `… WHERE name`) is one of `values`, and `after`. An empty list is matched by nothing.
    pub(super) fn within(
        before: impl Into<Cow<'static, str>>,
        values: impl IntoIterator<Item = Value>,
        after: &'static str,
    ) -> Self {
        Self { text: Text::Within(before.into(), after), values: values.into_iter().collect() }
    }

    /// `before` (such as `INSERT INTO … (…)`), all of `rows`, of `columns` values each, and `after`. The first value of a row
    /// is never NULL, and the values of a column have one type. Nothing is done where there are no rows.
    pub(super) fn insert(
        before: &'static str,
        columns: usize,
        rows: impl IntoIterator<Item = Vec<Value>>,
        after: &'static str,
    ) -> Self {
        let rows = rows.into_iter();
        let mut values = Vec::with_capacity(rows.size_hint().0 * columns);
        values.extend(rows.flatten());
        Self { text: Text::Rows(before, columns, after), values }
    }

    /// Runs it; how many rows it changed.
    pub(super) async fn execute(self, on: On<'_>, doing: &'static str) -> Result<u64, LedgerError> {
        let failed = storage(doing);
        match on {
            On::Sqlite(connection) => {
                let mut changed = 0;
                for (sql, values, keep) in self.for_sqlite()? {
                    let query = of_values!(Sqlite, AssertSqlSafe(sql), values, keep);
                    changed += query.execute(&mut *connection).await.map_err(storage(doing))?.rows_affected();
                }
                Ok(changed)
            }
            On::Postgres(connection) => {
                let done = match self.for_postgres()? {
                    ForPostgres::Nothing => return Ok(0),
                    ForPostgres::Values(sql, values, keep) => {
                        of_values!(Postgres, AssertSqlSafe(sql), values, keep).execute(connection).await
                    }
                    ForPostgres::Arrays(sql, arrays, keep) => {
                        of_arrays!(AssertSqlSafe(sql), arrays, keep).execute(connection).await
                    }
                };
                done.map(|done| done.rows_affected()).map_err(failed)
            }
        }
    }

    /// Runs all of `statements`, one after the other.
    pub(super) async fn execute_all(
        statements: Vec<Self>,
        mut on: On<'_>,
        doing: &'static str,
    ) -> Result<(), LedgerError> {
        match on {
            On::Sqlite(connection) => {
                for (sql, values, keep) in together(statements)? {
                    let query = of_values!(Sqlite, AssertSqlSafe(sql), values, keep);
                    query.execute(&mut *connection).await.map_err(storage(doing))?;
                }
            }
            On::Postgres(_) => {
                for statement in statements {
                    statement.execute(on.again(), doing).await?;
                }
            }
        }
        Ok(())
    }

    /// Runs `statements`, one after the other, and gives the rows of each.
    pub(super) async fn fetch_each<const N: usize>(
        statements: [Self; N],
        mut on: On<'_>,
        doing: &'static str,
    ) -> Result<[Vec<Row>; N], LedgerError> {
        const UNLIKE: LedgerError = LedgerError::Corrupt { what: "number of results" };
        let mut results = [const { Vec::new() }; N];
        match on {
            On::Sqlite(connection) => {
                let mut at = 0;
                for (sql, values, keep) in together(statements)? {
                    let query = of_values!(Sqlite, AssertSqlSafe(sql), values, keep);
                    let mut found = (&mut *connection).fetch_many(query);
                    while let Some(next) = found.try_next().await.map_err(storage(doing))? {
                        match next {
                            Either::Left(_end) => at += 1,
                            Either::Right(row) => results.get_mut(at).ok_or(UNLIKE)?.push(Row::Sqlite(row)),
                        }
                    }
                }
                if at != N {
                    return Err(UNLIKE);
                }
            }
            On::Postgres(_) => {
                for (statement, rows) in statements.into_iter().zip(&mut results) {
                    *rows = statement.fetch_all(on.again(), doing).await?;
                }
            }
        }
        Ok(results)
    }

    /// Runs it and gives all of its rows.
    pub(super) async fn fetch_all(self, on: On<'_>, doing: &'static str) -> Result<Vec<Row>, LedgerError> {
        let failed = storage(doing);
        match on {
            On::Sqlite(connection) => {
                let mut rows = Vec::new();
                for (sql, values, keep) in self.for_sqlite()? {
                    let query = of_values!(Sqlite, AssertSqlSafe(sql), values, keep);
                    let found = query.fetch_all(&mut *connection).await.map_err(storage(doing))?;
                    rows.extend(found.into_iter().map(Row::Sqlite));
                }
                Ok(rows)
            }
            On::Postgres(connection) => {
                let rows = match self.for_postgres()? {
                    ForPostgres::Nothing => return Ok(Vec::new()),
                    ForPostgres::Values(sql, values, keep) => {
                        of_values!(Postgres, AssertSqlSafe(sql), values, keep).fetch_all(connection).await
                    }
                    ForPostgres::Arrays(sql, arrays, keep) => {
                        of_arrays!(AssertSqlSafe(sql), arrays, keep).fetch_all(connection).await
                    }
                };
                rows.map(|rows| rows.into_iter().map(Row::Postgres).collect()).map_err(failed)
            }
        }
    }

    /// Runs it and gives its first row, if there is one.
    pub(super) async fn fetch_optional(self, on: On<'_>, doing: &'static str) -> Result<Option<Row>, LedgerError> {
        Ok(self.fetch_all(on, doing).await?.into_iter().next())
    }

    /// Runs it and gives its one row.
    pub(super) async fn fetch_one(self, on: On<'_>, doing: &'static str) -> Result<Row, LedgerError> {
        self.fetch_optional(on, doing).await?.ok_or(LedgerError::Corrupt { what: "row that is missing" })
    }

    /// The texts that SQLite is given, each with its values and whether it is kept prepared.
    fn for_sqlite(self) -> Result<Vec<Prepared>, LedgerError> {
        Ok(match self.text {
            Text::Whole(text) => {
                let keep = matches!(text, Cow::Borrowed(_));
                vec![(positional(text), self.values, keep)]
            }
            Text::Within(before, after) => {
                let (text, values, one_of_few) = lists::sqlite_within(&before, self.values, after);
                vec![(Cow::Owned(text), values, one_of_few && matches!(before, Cow::Borrowed(_)))]
            }
            Text::Rows(before, columns, after) => lists::sqlite_rows(before, columns, self.values, after)?
                .into_iter()
                .map(|(text, values)| (Cow::Owned(text), values, true))
                .collect(),
        })
    }

    /// The text that PostgreSQL is given, with its values and whether it is kept prepared.
    fn for_postgres(self) -> Result<ForPostgres, LedgerError> {
        Ok(match self.text {
            Text::Whole(text) => {
                let keep = matches!(text, Cow::Borrowed(_));
                ForPostgres::Values(text, self.values, keep)
            }
            Text::Within(before, after) => {
                let (text, arrays) = lists::postgres_within(&before, self.values, after)?;
                ForPostgres::Arrays(text, arrays, matches!(before, Cow::Borrowed(_)))
            }
            Text::Rows(..) if self.values.is_empty() => ForPostgres::Nothing,
            Text::Rows(before, columns, after) => {
                let (text, arrays) = lists::postgres_rows(before, columns, self.values, after)?;
                ForPostgres::Arrays(text, arrays, true)
            }
        })
    }
}

/// The texts that SQLite is given for `statements`, short ones together in one text with the values of all: its thread is woken
/// once for these, which for a few rows is most of what a statement takes.
fn together(statements: impl IntoIterator<Item = Statement>) -> Result<Vec<Prepared>, LedgerError> {
    let mut texts: Vec<Prepared> = Vec::new();
    for statement in statements {
        for (text, mut values, keep) in statement.for_sqlite()? {
            let text = positional(Cow::Owned(text.into_owned()));
            match texts.last_mut() {
                // Parameters that have numbers are those of one statement.
                Some((before, of_before, true))
                    if keep
                        && of_before.len() + values.len() <= MOST_TOGETHER
                        && !before.contains('$')
                        && !text.contains('$') =>
                {
                    before.to_mut().push_str("; ");
                    before.to_mut().push_str(&text);
                    of_before.append(&mut values);
                }
                _ => texts.push((text, values, keep)),
            }
        }
    }
    Ok(texts)
}

/// What PostgreSQL is given for a statement.
enum ForPostgres {
    /// There is nothing to do.
    Nothing,
    Values(Cow<'static, str>, Vec<Value>, bool),
    Arrays(String, Vec<Array>, bool),
}

/// A long text for SQLite: with `?` for `$1, $2, …` where they come one after another, each once.
///
/// SQLite takes `$1` for a name, and looks through all names at each of them: a statement of ten thousand parameters would
/// cost fifty million comparisons to read, and as many to bind. What is put together for its values is such a statement.
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
