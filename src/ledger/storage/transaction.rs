//! One write: the lock that all writers of the storage take, what is written, and the entries of the log that it appends.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};

use super::super::{Entry, LedgerError, Receipt};
use super::database::{Connection, On, Statement, Value};
use super::opening::Target;
use crate::audit::merkle::{Node, Tree, leaf_hash};

/// The connection that writes. It is taken out for the length of a write and put back only after a clean end, so that no
/// later write can find itself inside the transaction of one that failed or was cancelled.
#[derive(Debug)]
pub(super) struct Writer {
    target: Target,
    pub(super) slot: Mutex<Option<Connection>>,
    /// How long a writer waits for its turn.
    patience: Duration,
    /// How many entries the log had when it was last seen: a storage with fewer was rolled back, or failed over to a copy
    /// that does not know all that was spent.
    seen: AtomicU64,
}

impl Writer {
    pub(super) fn new(target: Target, connection: Connection, patience: Duration) -> Self {
        Self { target, slot: Mutex::new(Some(connection)), patience, seen: AtomicU64::new(0) }
    }

    pub(super) const fn target(&self) -> &Target {
        &self.target
    }

    /// Waits for the turn to write, and starts a transaction that already holds the storage's write lock.
    pub(super) async fn write(&self, doing: &'static str) -> Result<Transaction<'_>, LedgerError> {
        let mut slot = tokio::time::timeout(self.patience, self.slot.lock()).await.map_err(|_| LedgerError::Busy)?;
        let (connection, state) = match slot.take() {
            Some(mut connection) => match begin(&mut connection, doing).await {
                Ok(state) => (connection, state),
                // A busy file is busy for a new connection too. Anything else may be the old connection's fault, such as
                // a server that was restarted: nothing was sent yet, so a new one may try.
                Err(LedgerError::Busy) => return Err(LedgerError::Busy),
                Err(_) => {
                    connection.close_hard().await;
                    self.begin_anew(doing).await?
                }
            },
            None => self.begin_anew(doing).await?,
        };
        let size = state.tree.size();
        if self.seen.fetch_max(size, Ordering::SeqCst) > size {
            connection.close_hard().await;
            return Err(LedgerError::RolledBack);
        }
        Ok(Transaction { slot, connection, doing, state, entries: Vec::new(), nodes: Vec::new(), deferred: Vec::new() })
    }

    async fn begin_anew(&self, doing: &'static str) -> Result<(Connection, State), LedgerError> {
        let mut connection = self.target.connect().await?;
        let state = begin(&mut connection, doing).await?;
        Ok((connection, state))
    }
}

/// The storage's one row of counters, as it is when a write begins.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) tree: Tree,
    pub(super) next_charge: i64,
    pub(super) next_account: i64,
    /// How often policies or states of datasets have changed.
    pub(super) policies: i64,
}

/// The columns of [`State`], as [`read_state`] reads them.
pub(super) const STATE: &str = "SELECT log_size, log_edge, next_charge, next_account, policies FROM state WHERE id = 1";

/// Begins a transaction under the lock, and reads the state.
async fn begin(connection: &mut Connection, doing: &'static str) -> Result<State, LedgerError> {
    let lock = match connection {
        // `IMMEDIATE` takes the lock before the first read.
        Connection::Sqlite(_) => {
            "BEGIN IMMEDIATE; SELECT log_size, log_edge, next_charge, next_account, policies FROM state WHERE id = 1"
        }
        Connection::Postgres(_) => {
            Statement::new("BEGIN ISOLATION LEVEL READ COMMITTED").execute(connection.on(), doing).await?;
            "SELECT log_size, log_edge, next_charge, next_account, policies FROM state WHERE id = 1 FOR UPDATE"
        }
    };
    read_state(Statement::new(lock), connection.on(), doing).await
}

/// The state, by one of the two statements that select it.
pub(super) async fn read_state(select: Statement, on: On<'_>, doing: &'static str) -> Result<State, LedgerError> {
    let row = select.fetch_one(on, doing).await?;
    let corrupt = || LedgerError::Corrupt { what: "edge of the log" };
    let size = u64::try_from(row.int(0)?).map_err(|_| corrupt())?;
    let edge = row.bytes(1)?;
    let (hashes, rest) = edge.as_chunks::<32>();
    if !rest.is_empty() {
        return Err(corrupt());
    }
    Ok(State {
        tree: Tree::from_edge(size, hashes.to_vec()).ok_or_else(corrupt)?,
        next_charge: row.int(2)?,
        next_account: row.int(3)?,
        policies: row.int(4)?,
    })
}

/// What a write came to.
#[derive(Debug)]
pub(super) enum Verdict<T> {
    /// Something was written: commit it.
    Commit(T),
    /// Nothing was, or must be.
    Leave(T),
}

/// A write transaction. Dropping it, by an error or because the caller was cancelled, closes its connection, upon which
/// the database rolls back.
pub(super) struct Transaction<'a> {
    slot: MutexGuard<'a, Option<Connection>>,
    connection: Connection,
    doing: &'static str,
    pub(super) state: State,
    /// Entries that are appended and not written yet.
    entries: Vec<Appended>,
    /// Finished inner nodes that are not written yet.
    nodes: Vec<Node>,
    /// What is written after the entries.
    deferred: Vec<Statement>,
}

/// An entry of the log as rows.
struct Appended {
    /// Of `log_entries`: index, time, kind, text, leaf hash.
    row: Vec<Value>,
    /// Of `log_datasets`.
    datasets: Vec<Vec<Value>>,
}

impl Transaction<'_> {
    /// The connection as statements take it.
    pub(super) fn on(&mut self) -> On<'_> {
        self.connection.on()
    }

    /// What it is doing, for errors.
    pub(super) const fn doing(&self) -> &'static str {
        self.doing
    }

    /// Appends a decision to the log. It is written when the transaction ends, and is there if the transaction is.
    pub(super) fn append(&mut self, entry: &Entry) -> Result<Receipt, LedgerError> {
        let text = entry.text().map_err(|_| LedgerError::Corrupt { what: "entry of the log" })?;
        let leaf_hash = leaf_hash(text.as_bytes());
        let log_index = self.state.tree.size();
        self.nodes.extend(self.state.tree.append(leaf_hash).into_iter().filter(|node| node.id.level > 0));
        let place = index(log_index);
        let row = vec![
            place.into(),
            entry.at.timestamp_micros().into(),
            entry.decision.kind().into(),
            text.into(),
            leaf_hash.into(),
        ];
        let datasets: BTreeSet<&str> = entry.decision.datasets().into_iter().collect();
        let datasets = datasets.into_iter().map(|name| vec![name.into(), place.into()]).collect();
        self.entries.push(Appended { row, datasets });
        Ok(Receipt { log_index, leaf_hash })
    }

    /// Runs `statement` when the transaction ends, after the entries that were appended are written. What reads what it writes
    /// must not come before.
    pub(super) fn at_end(&mut self, statement: Statement) {
        self.deferred.push(statement);
    }

    /// Writes the appended entries and the state.
    async fn flush(&mut self) -> Result<(), LedgerError> {
        let doing = self.doing;
        let (mut entries, mut datasets) = (Vec::with_capacity(self.entries.len()), Vec::new());
        for appended in std::mem::take(&mut self.entries) {
            entries.push(appended.row);
            datasets.extend(appended.datasets);
        }
        let nodes = std::mem::take(&mut self.nodes).into_iter().map(|node| -> Vec<Value> {
            vec![i64::from(node.id.level).into(), index(node.id.index).into(), node.hash.into()]
        });
        let mut statements = vec![
            Statement::insert("INSERT INTO log_entries (idx, at_us, kind, entry, leaf_hash)", 5, entries, ""),
            Statement::insert("INSERT INTO log_datasets (dataset, idx)", 2, datasets, ""),
            Statement::insert("INSERT INTO log_nodes (level, idx, hash)", 3, nodes, ""),
        ];
        statements.append(&mut self.deferred);
        let state = &self.state;
        statements.push(
            Statement::new(
                "UPDATE state SET log_size = $1, log_edge = $2, next_charge = $3, next_account = $4, policies = $5 \
                 WHERE id = 1",
            )
            .bind(index(state.tree.size()))
            .bind(state.tree.edge().concat().as_slice())
            .bind(state.next_charge)
            .bind(state.next_account)
            .bind(state.policies),
        );
        Statement::execute_all(statements, self.connection.on(), doing).await
    }

    /// Ends the transaction as `verdict` says. The log's new state comes back with the value where it was committed.
    pub(super) async fn end<T>(mut self, verdict: Result<Verdict<T>, LedgerError>) -> Result<T, LedgerError> {
        let doing = self.doing;
        let verdict = match verdict {
            Ok(Verdict::Commit(value)) => self.flush().await.map(|()| Verdict::Commit(value)),
            other => other,
        };
        let result = match verdict {
            Ok(Verdict::Commit(value)) => {
                // Once a commit was sent, only its success says what is on disk.
                let committed = self.connection.commit().await;
                committed.map_err(|source| LedgerError::CommitUnknown { doing, source: Arc::new(source) })?;
                Ok(value)
            }
            Ok(Verdict::Leave(value)) => {
                Statement::new("ROLLBACK").execute(self.connection.on(), doing).await?;
                Ok(value)
            }
            // The connection itself may be what failed, so it goes back only if it can roll back.
            Err(error) => match Statement::new("ROLLBACK").execute(self.connection.on(), doing).await {
                Ok(_) => Err(error),
                Err(_) => return Err(error),
            },
        };
        *self.slot = Some(self.connection);
        result
    }
}

/// A place in the log as a column. The tree counts no further than a column does.
pub(super) fn index(place: u64) -> i64 {
    i64::try_from(place).unwrap_or(i64::MAX)
}
