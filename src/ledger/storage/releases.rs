//! Held releases in the storage.
//!
//! A consumer is given a draw only if it paid for *that* draw: same key, same precision, same price. A consumer that
//! paid for a finer draw is not given a coarser one on top, since the two together tell more than it paid for.

use std::collections::{BTreeSet, HashMap};

use sha2::{Digest, Sha256};

use super::super::{
    ChargeId, Decision, Entry, HeldRelease, LedgerError, NewDraw, PaidDraw, Receipt, ReleaseKey, Reuse,
};
use super::columns::{column, delta, now, steps};
use super::database::{On, Row, Statement, Value};
use super::transaction::Transaction;
use super::{identities, log};

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

/// A draw that is to be kept, and the decision that is recorded if it is, with what it saved.
pub(super) type Keeping = (NewDraw, Option<(Entry, Vec<Reuse>)>);

/// What became of it: the draw that is kept, and the receipt of what was recorded, if it is this one.
pub(super) type Kept = (HeldRelease, Option<Receipt>);

/// Keeps each of `keeping`, in order, unless one is kept already; and whether any was new. A draw that was not paid for is
/// an error of its own, and the others are kept.
pub(super) async fn keep(
    transaction: &mut Transaction<'_>,
    keeping: &[Keeping],
) -> Result<(Vec<Result<Kept, LedgerError>>, bool), LedgerError> {
    const DOING: &str = "keeping a release";
    if keeping.is_empty() {
        return Ok((Vec::new(), false));
    }
    let charges = keeping.iter().map(|(draw, _)| draw.charge.0).collect::<BTreeSet<_>>();
    let charges = Statement::within(
        "SELECT id, release_key, precision, price, datasets FROM charges WHERE id",
        charges.into_iter().map(Value::from),
        "",
    );
    let keys = keeping.iter().map(|(draw, _)| draw.key).collect::<BTreeSet<_>>();
    let draws = Statement::within(
        "SELECT precision, charge, payload, facts, release_key, price FROM held_releases WHERE release_key",
        keys.into_iter().map(|key| Value::from(key.0)),
        "",
    );
    let [charges, draws] = Statement::fetch_each([charges, draws], transaction.on(), DOING).await?;
    let mut paid = HashMap::new();
    for row in charges {
        paid.insert(row.int(0)?, (ReleaseKey(row.hash(1)?), steps(row.int(2)?)?, row.hash(3)?, row.text(4)?));
    }
    let mut held: HashMap<(ReleaseKey, u64, [u8; 32]), HeldRelease> = HashMap::new();
    for row in draws {
        let release = held_release(&row)?;
        held.insert((ReleaseKey(row.hash(4)?), release.precision, row.hash(5)?), release);
    }
    let at = now();
    let (mut kept, mut rows) = (Vec::with_capacity(keeping.len()), Vec::new());
    for (draw, recorded) in keeping {
        let NewDraw { key, precision, charge, payload, facts } = draw;
        let Some((_, _, price, datasets)) = paid.get(&charge.0).filter(|(of, at, ..)| of == key && at == precision)
        else {
            kept.push(Err(LedgerError::NotPaidFor { charge: *charge }));
            continue;
        };
        let draw_of = (*key, *precision, *price);
        if let Some(first) = held.get(&draw_of) {
            kept.push(Ok((first.clone(), None)));
            continue;
        }
        let nonce = [uuid::Uuid::new_v4().into_bytes(), uuid::Uuid::new_v4().into_bytes()].concat();
        rows.push(vec![
            key.0.into(),
            column(*precision).into(),
            (*price).into(),
            charge.0.into(),
            payload.as_slice().into(),
            facts.as_str().into(),
            at.timestamp_micros().into(),
            nonce.as_slice().into(),
        ]);
        transaction.append(&Entry {
            at,
            by: None,
            decision: Decision::Draw {
                charge: *charge,
                release: key.to_string(),
                precision: *precision,
                payload_sha256: payload_hash(&nonce, payload),
                datasets: serde_json::from_str(datasets).unwrap_or_default(),
            },
        })?;
        let receipt = match recorded {
            Some((entry, reuses)) => Some(log::record(transaction, entry, reuses)?),
            None => None,
        };
        let release =
            HeldRelease { precision: *precision, charge_id: *charge, payload: payload.clone(), facts: facts.clone() };
        held.insert(draw_of, release.clone());
        kept.push(Ok((release, receipt)));
    }
    let new = !rows.is_empty();
    transaction.at_end(Statement::insert(
        "INSERT INTO held_releases (release_key, precision, price, charge, payload, facts, kept_us, nonce)",
        8,
        rows,
        "",
    ));
    Ok((kept, new))
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

pub(super) async fn paid_draw(
    reader: &mut super::database::Reader,
    consumer: &str,
    key: ReleaseKey,
    min_precision: u64,
) -> Result<Option<PaidDraw>, LedgerError> {
    identities::require_active(reader.on(), consumer).await?;
    // All lines of the consumer's own charge have one δ for each dataset, and the least of them is that of the draw.
    let row = Statement::new(
        "SELECT h.precision, h.charge, h.payload, h.facts, c.id, ( \
             SELECT min(l.delta_steps) FROM charge_lines l JOIN accounts a ON a.id = l.account \
             WHERE l.charge = c.id AND a.scope = 'consumer') \
         FROM held_releases h JOIN charges c ON c.release_key = h.release_key AND c.precision = h.precision \
             AND c.price = h.price \
         WHERE h.release_key = $1 AND h.precision >= $2 AND c.consumer = $3 \
         ORDER BY h.precision DESC, h.charge, c.id LIMIT 1",
    )
    .bind(key.0)
    .bind(column(min_precision))
    .bind(consumer)
    .fetch_optional(reader.on(), "reading a held release")
    .await?;
    let paid = |row: &Row| {
        let (held, charge) = (held_release(row)?, ChargeId(row.int(4)?));
        Ok(PaidDraw { charge, delta: delta(row.int(5)?)?, held })
    };
    row.as_ref().map(paid).transpose()
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
