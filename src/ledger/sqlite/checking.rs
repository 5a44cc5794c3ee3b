//! Whether the ledger agrees with itself.

use sqlx::{SqliteConnection, SqlitePool};

use super::super::{CheckReport, LedgerError};
use super::columns::steps;
use super::storage;

const DOING: &str = "checking the ledger";

/// Each query names the rows that break one rule, at most twenty; a sound ledger answers all of them with none.
const RULES: [(&str, &str); 7] = [
    (
        "the sums of an account are not those of its lines",
        "SELECT a.storage_key FROM accounts a LEFT JOIN ( \
             SELECT account, sum(loss_steps) AS loss, sum(delta_steps) AS delta FROM charge_lines GROUP BY account \
         ) l ON l.account = a.id \
         WHERE a.loss_steps <> coalesce(l.loss, 0) OR a.delta_steps <> coalesce(l.delta, 0) LIMIT 20",
    ),
    (
        "a charge line is in another measure than its account",
        "SELECT l.charge || ' on ' || a.storage_key FROM charge_lines l JOIN accounts a ON a.id = l.account \
         WHERE l.loss_kind <> a.loss_kind LIMIT 20",
    ),
    (
        "a charge has no line of its consumer",
        "SELECT CAST(c.id AS TEXT) FROM charges c WHERE NOT EXISTS ( \
             SELECT 1 FROM charge_lines l JOIN accounts a ON a.id = l.account \
             WHERE l.charge = c.id AND a.scope = 'consumer' AND a.subject = c.consumer) LIMIT 20",
    ),
    (
        "a charge that is shared comes before any that paid in full",
        "SELECT CAST(c.id AS TEXT) FROM charges c WHERE c.outcome = 'shared' AND NOT EXISTS ( \
             SELECT 1 FROM charges f WHERE f.release_key = c.release_key AND f.precision = c.precision \
             AND f.price = c.price AND f.outcome = 'charged' AND f.id < c.id) LIMIT 20",
    ),
    (
        "a held release is not what its charge paid for",
        "SELECT CAST(h.charge AS TEXT) FROM held_releases h LEFT JOIN charges c ON c.id = h.charge \
         WHERE c.id IS NULL OR c.release_key <> h.release_key OR c.precision <> h.precision OR c.price <> h.price \
         LIMIT 20",
    ),
    (
        "a row refers to one that is not there",
        "SELECT \"table\" || coalesce(' ' || rowid, '') FROM pragma_foreign_key_check LIMIT 20",
    ),
    (
        "the file is damaged",
        "SELECT integrity_check FROM pragma_integrity_check WHERE integrity_check <> 'ok' LIMIT 20",
    ),
];

pub(super) async fn check(readers: &SqlitePool) -> Result<CheckReport, LedgerError> {
    // One read transaction: one snapshot for all rules, whatever is written meanwhile.
    let mut snapshot = readers.begin().await.map_err(storage(DOING))?;
    let mut findings = Vec::new();
    for (rule, query) in RULES {
        let rows: Vec<String> = sqlx::query_scalar(query).fetch_all(&mut *snapshot).await.map_err(storage(DOING))?;
        findings.extend(rows.into_iter().map(|row| format!("{rule}: {row}")));
    }
    let report = CheckReport {
        accounts: count(&mut snapshot, "SELECT count(*) FROM accounts").await?,
        charges: count(&mut snapshot, "SELECT count(*) FROM charges").await?,
        lines: count(&mut snapshot, "SELECT count(*) FROM charge_lines").await?,
        held_releases: count(&mut snapshot, "SELECT count(*) FROM held_releases").await?,
    };
    snapshot.rollback().await.map_err(storage(DOING))?;
    if findings.is_empty() { Ok(report) } else { Err(LedgerError::Inconsistent { findings }) }
}

async fn count(connection: &mut SqliteConnection, query: &'static str) -> Result<u64, LedgerError> {
    let rows: i64 = sqlx::query_scalar(query).fetch_one(connection).await.map_err(storage(DOING))?;
    steps(rows)
}
