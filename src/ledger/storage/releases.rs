//! Held releases in the storage.
//!
//! A consumer is given a draw only if it paid for *that* draw: same key, same precision, same price. A consumer that
//! paid for a finer draw is not given a coarser one on top, since the two together tell more than it paid for.

use sha2::{Digest, Sha256};

use super::super::{ChargeId, Decision, Entry, HeldRelease, LedgerError, ReleaseKey};
use super::columns::{column, now, steps};
use super::database::{On, Row, Statement};
use super::identities;
use super::transaction::Transaction;

/// A drawn release that is to be kept.
#[derive(Debug, Clone)]
pub(super) struct Draw {
    pub(super) key: ReleaseKey,
    pub(super) precision: u64,
    pub(super) charge: ChargeId,
    pub(super) payload: Vec<u8>,
    pub(super) facts: String,
}

fn held_release(row: &Row) -> Result<HeldRelease, LedgerError> {
    Ok(HeldRelease {
        precision: steps(row.int(0)?)?,
        charge_id: ChargeId(row.int(1)?),
        payload: row.bytes(2)?,
        facts: row.text(3)?,
    })
}

/// SHA-256 of a nonce and a kept payload, in hex, as its entry of the log has it. Without the nonce, which stays in the
/// storage, whoever reads the log could try values until one has the hash.
pub(super) fn payload_hash(nonce: &[u8], payload: &[u8]) -> String {
    Sha256::new_with_prefix(nonce)
        .chain_update(payload)
        .finalize()
        .iter()
        .fold(String::with_capacity(64), |text, byte| format!("{text}{byte:02x}"))
}

/// Keeps a draw unless one is kept already; whether it did, and the one that is kept.
pub(super) async fn keep(transaction: &mut Transaction<'_>, draw: &Draw) -> Result<(bool, HeldRelease), LedgerError> {
    const DOING: &str = "keeping a release";
    let Draw { key, precision, charge, payload, facts } = draw;
    let row =
        Statement::new("SELECT price, datasets FROM charges WHERE id = $1 AND release_key = $2 AND precision = $3")
            .bind(charge.0)
            .bind(key.0)
            .bind(column(*precision))
            .fetch_optional(transaction.on(), DOING)
            .await?
            .ok_or(LedgerError::NotPaidFor { charge: *charge })?;
    let price = row.hash(0)?;
    let select = Statement::new(
        "SELECT precision, charge, payload, facts FROM held_releases \
         WHERE release_key = $1 AND precision = $2 AND price = $3",
    )
    .bind(key.0)
    .bind(column(*precision))
    .bind(price);
    if let Some(kept) = select.fetch_optional(transaction.on(), DOING).await? {
        return Ok((false, held_release(&kept)?));
    }
    let at = now();
    let nonce = [uuid::Uuid::new_v4().into_bytes(), uuid::Uuid::new_v4().into_bytes()].concat();
    Statement::new(
        "INSERT INTO held_releases (release_key, precision, price, charge, payload, facts, kept_us, nonce) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(key.0)
    .bind(column(*precision))
    .bind(price)
    .bind(charge.0)
    .bind(payload.as_slice())
    .bind(facts.as_str())
    .bind(at.timestamp_micros())
    .bind(&nonce[..])
    .execute(transaction.on(), DOING)
    .await?;
    transaction.append(&Entry {
        at,
        by: None,
        decision: Decision::Draw {
            charge: *charge,
            release: key.to_string(),
            precision: *precision,
            payload_sha256: payload_hash(&nonce, payload),
            datasets: serde_json::from_str(&row.text(1)?).unwrap_or_default(),
        },
    })?;
    let Draw { precision, charge: charge_id, payload, facts, .. } = draw.clone();
    Ok((true, HeldRelease { precision, charge_id, payload, facts }))
}

pub(super) async fn held(on: On<'_>, key: ReleaseKey, min_precision: u64) -> Result<Option<HeldRelease>, LedgerError> {
    let row = Statement::new(
        "SELECT precision, charge, payload, facts FROM held_releases WHERE release_key = $1 AND precision >= $2 \
         ORDER BY precision DESC, charge LIMIT 1",
    )
    .bind(key.0)
    .bind(column(min_precision))
    .fetch_optional(on, "reading a held release")
    .await?;
    row.as_ref().map(held_release).transpose()
}

pub(super) async fn held_for(
    reader: &mut super::database::Reader,
    consumer: &str,
    key: ReleaseKey,
    min_precision: u64,
) -> Result<Option<HeldRelease>, LedgerError> {
    identities::require_active(reader.on(), consumer).await?;
    let row = Statement::new(
        "SELECT h.precision, h.charge, h.payload, h.facts FROM held_releases h \
         WHERE h.release_key = $1 AND h.precision >= $2 AND EXISTS ( \
             SELECT 1 FROM charges c WHERE c.release_key = h.release_key AND c.precision = h.precision \
             AND c.price = h.price AND c.consumer = $3) \
         ORDER BY h.precision DESC, h.charge LIMIT 1",
    )
    .bind(key.0)
    .bind(column(min_precision))
    .bind(consumer)
    .fetch_optional(reader.on(), "reading a held release")
    .await?;
    row.as_ref().map(held_release).transpose()
}

pub(super) async fn has_paid(
    on: On<'_>,
    consumer: &str,
    key: ReleaseKey,
    min_precision: u64,
) -> Result<Option<u64>, LedgerError> {
    let row = Statement::new(
        "SELECT max(precision) FROM charges WHERE release_key = $1 AND precision >= $2 AND consumer = $3",
    )
    .bind(key.0)
    .bind(column(min_precision))
    .bind(consumer)
    .fetch_one(on, "reading charges")
    .await?;
    row.maybe_int(0)?.map(steps).transpose()
}
