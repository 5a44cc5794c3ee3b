//! The log of decisions in the storage (DESIGN 4.5): entries, and the complete subtrees over them.

use std::collections::HashMap;

use super::super::{Entry, LedgerError, LogEntry, Receipt, Reuse};
use super::columns::{column, kind, time};
use super::database::{On, Row, Statement, Value};
use super::restriction::Restriction;
use super::transaction::{STATE, State, Transaction, Verdict, index, read_state};
use crate::audit::merkle::{Hash, NodeId};

const READING: &str = "reading the log";

/// Appends a decision that charges nothing, and keeps what it saved for reports.
pub(super) fn record(
    transaction: &mut Transaction<'_>,
    entry: &Entry,
    reuses: &[Reuse],
) -> Result<Receipt, LedgerError> {
    let receipt = transaction.append(entry)?;
    let rows = reuses.iter().map(|reuse| -> Vec<Value> {
        vec![
            index(receipt.log_index).into(),
            reuse.dataset.as_str().into(),
            entry.at.timestamp_micros().into(),
            reuse.consumer.as_str().into(),
            reuse.agency.as_deref().into(),
            reuse.purpose.as_deref().into(),
            kind(reuse.cost.loss.accounting()).into(),
            column(reuse.cost.loss.steps()).into(),
            column(reuse.cost.delta.steps()).into(),
        ]
    });
    transaction.at_end(Statement::insert(
        "INSERT INTO reuses (log_index, dataset, at_us, consumer, agency, purpose, loss_kind, loss_steps, delta_steps)",
        9,
        rows,
        "",
    ));
    Ok(receipt)
}

/// The state as it stands.
pub(super) async fn state(on: On<'_>) -> Result<State, LedgerError> {
    read_state(Statement::new(STATE), on, READING).await
}

/// Whether a checkpoint was ever kept outside.
pub(super) async fn anchored(on: On<'_>) -> Result<bool, LedgerError> {
    Ok(Statement::new("SELECT anchored FROM state WHERE id = 1").fetch_one(on, READING).await?.int(0)? != 0)
}

/// Writes down that a checkpoint is kept outside.
pub(super) async fn set_anchored(transaction: &mut Transaction<'_>) -> Result<Verdict<()>, LedgerError> {
    let doing = transaction.doing();
    Statement::new("UPDATE state SET anchored = 1 WHERE id = 1").execute(transaction.on(), doing).await?;
    Ok(Verdict::Commit(()))
}

fn entry(row: &Row) -> Result<LogEntry, LedgerError> {
    Ok(LogEntry { index: place(row.int(0)?)?, at: time(row.int(1)?)?, entry: row.text(2)?, leaf_hash: row.hash(3)? })
}

fn place(column: i64) -> Result<u64, LedgerError> {
    u64::try_from(column).map_err(|_| LedgerError::Corrupt { what: "place in the log" })
}

/// At most `limit` entries from `from` on, those about one of `datasets` where it names any.
pub(super) async fn entries(
    on: On<'_>,
    from: u64,
    limit: u64,
    datasets: &[String],
) -> Result<Vec<LogEntry>, LedgerError> {
    const COLUMNS: &str = "SELECT e.idx, e.at_us, e.entry, e.leaf_hash FROM log_entries e";
    let (from, limit) = (index(from), index(limit));
    let select = if datasets.is_empty() {
        Statement::new(
            "SELECT e.idx, e.at_us, e.entry, e.leaf_hash FROM log_entries e WHERE e.idx >= $1 ORDER BY e.idx LIMIT $2",
        )
        .bind(from)
        .bind(limit)
    } else {
        let mut only = Restriction::default();
        only.and("e.idx >= ?", from);
        only.exists("SELECT 1 FROM log_datasets d WHERE d.idx = e.idx AND d.dataset", datasets);
        let (restricted, mut values) = only.parts();
        values.push(limit.into());
        Statement::composed(format!("{COLUMNS}{restricted} ORDER BY e.idx LIMIT ${}", values.len()), values)
    };
    select.fetch_all(on, READING).await?.iter().map(entry).collect()
}

/// The hashes of complete subtrees, those that are there.
pub(super) async fn nodes(on: On<'_>, ids: &[NodeId]) -> Result<HashMap<NodeId, Hash>, LedgerError> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    // By index alone, and sorted out by level here: an index is in few levels.
    let leaves = ids.iter().filter(|id| id.level == 0).map(|id| Value::from(index(id.index)));
    let inner = ids.iter().filter(|id| id.level > 0).map(|id| Value::from(index(id.index)));
    let leaves = Statement::within("SELECT CAST(0 AS BIGINT), idx, leaf_hash FROM log_entries WHERE idx", leaves, "");
    let inner = Statement::within("SELECT level, idx, hash FROM log_nodes WHERE idx", inner, "");
    let mut found = HashMap::new();
    let mut on = on;
    for select in [leaves, inner] {
        for row in select.fetch_all(on.again(), READING).await? {
            let level = u8::try_from(row.int(0)?).map_err(|_| LedgerError::Corrupt { what: "level of the log" })?;
            found.insert(NodeId { level, index: place(row.int(1)?)? }, row.hash(2)?);
        }
    }
    Ok(found)
}
