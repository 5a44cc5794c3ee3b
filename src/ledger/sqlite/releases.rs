//! Held releases in SQLite.
//!
//! A consumer is given a draw only if it paid for *that* draw: same key, same precision, same price. A consumer that
//! paid for a finer draw is not given a coarser one on top, since the two together tell more than it paid for.

use chrono::Utc;
use sqlx::{SqliteConnection, SqlitePool};

use super::super::{ChargeId, HeldRelease, LedgerError, ReleaseKey};
use super::columns::{column, steps};
use super::{Verdict, identities, storage};

/// A row of `held_releases`: precision, charge, payload, facts.
type HeldRow = (i64, i64, Vec<u8>, String);

fn held_release((precision, charge, payload, facts): HeldRow) -> Result<HeldRelease, LedgerError> {
    Ok(HeldRelease { precision: steps(precision)?, charge_id: ChargeId(charge), payload, facts })
}

pub(super) async fn keep(
    connection: &mut SqliteConnection,
    key: ReleaseKey,
    precision: u64,
    charge: ChargeId,
    payload: &[u8],
    facts: &str,
) -> Result<Verdict<HeldRelease>, LedgerError> {
    const DOING: &str = "keeping a release";
    let price: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT price FROM charges WHERE id = ?1 AND release_key = ?2 AND precision = ?3")
            .bind(charge.0)
            .bind(&key.0[..])
            .bind(column(precision))
            .fetch_optional(&mut *connection)
            .await
            .map_err(storage(DOING))?;
    let price = price.ok_or(LedgerError::NotPaidFor { charge })?;
    let inserted = sqlx::query(
        "INSERT INTO held_releases (release_key, precision, price, charge, payload, facts, kept_us) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (release_key, precision, price) DO NOTHING",
    )
    .bind(&key.0[..])
    .bind(column(precision))
    .bind(price.as_slice())
    .bind(charge.0)
    .bind(payload)
    .bind(facts)
    .bind(Utc::now().timestamp_micros())
    .execute(&mut *connection)
    .await
    .map_err(storage(DOING))?
    .rows_affected();
    let stored: HeldRow = sqlx::query_as(
        "SELECT precision, charge, payload, facts FROM held_releases \
         WHERE release_key = ?1 AND precision = ?2 AND price = ?3",
    )
    .bind(&key.0[..])
    .bind(column(precision))
    .bind(price.as_slice())
    .fetch_one(connection)
    .await
    .map_err(storage(DOING))?;
    let stored = held_release(stored)?;
    Ok(if inserted == 0 { Verdict::Leave(stored) } else { Verdict::Commit(stored) })
}

pub(super) async fn held(
    readers: &SqlitePool,
    key: ReleaseKey,
    min_precision: u64,
) -> Result<Option<HeldRelease>, LedgerError> {
    let row: Option<HeldRow> = sqlx::query_as(
        "SELECT precision, charge, payload, facts FROM held_releases WHERE release_key = ?1 AND precision >= ?2 \
         ORDER BY precision DESC, charge LIMIT 1",
    )
    .bind(&key.0[..])
    .bind(column(min_precision))
    .fetch_optional(readers)
    .await
    .map_err(storage("reading a held release"))?;
    row.map(held_release).transpose()
}

pub(super) async fn held_for(
    readers: &SqlitePool,
    consumer: &str,
    key: ReleaseKey,
    min_precision: u64,
) -> Result<Option<HeldRelease>, LedgerError> {
    identities::require_active(readers, consumer).await?;
    let row: Option<HeldRow> = sqlx::query_as(
        "SELECT h.precision, h.charge, h.payload, h.facts FROM held_releases h \
         WHERE h.release_key = ?1 AND h.precision >= ?2 AND EXISTS ( \
             SELECT 1 FROM charges c WHERE c.release_key = h.release_key AND c.precision = h.precision \
             AND c.price = h.price AND c.consumer = ?3) \
         ORDER BY h.precision DESC, h.charge LIMIT 1",
    )
    .bind(&key.0[..])
    .bind(column(min_precision))
    .bind(consumer)
    .fetch_optional(readers)
    .await
    .map_err(storage("reading a held release"))?;
    row.map(held_release).transpose()
}

pub(super) async fn has_paid(
    readers: &SqlitePool,
    consumer: &str,
    key: ReleaseKey,
    min_precision: u64,
) -> Result<Option<u64>, LedgerError> {
    let best: Option<i64> = sqlx::query_scalar(
        "SELECT max(precision) FROM charges WHERE release_key = ?1 AND precision >= ?2 AND consumer = ?3",
    )
    .bind(&key.0[..])
    .bind(column(min_precision))
    .bind(consumer)
    .fetch_one(readers)
    .await
    .map_err(storage("reading charges"))?;
    best.map(steps).transpose()
}
