//! One charge in SQLite: read, decide in Rust, write; inside a transaction that already holds the write lock.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use sqlx::{SqliteConnection, SqliteExecutor};

use super::super::{
    AccountCharge, Charge, ChargeId, ChargeOutcome, ConflictReason, Idempotency, LedgerError, Scope, Shortfall,
};
use super::columns::{column, delta, kind, loss, steps};
use super::{Verdict, accounts, identities, storage};
use crate::accounting::{Cost, Spent, fits};

/// One account's part of a charge that every account can pay.
struct Payment<'a> {
    line: &'a AccountCharge,
    /// What it pays, in the account's own measure.
    paid: Cost,
    /// What it will then have spent.
    sum: Spent,
}

/// A charge that was made before.
struct Earlier {
    id: ChargeId,
    precision: u64,
    /// Whether its draw is stored.
    held: bool,
}

/// Makes all of `charges`, each seeing those before it, or none.
pub(super) async fn charge_all(
    connection: &mut SqliteConnection,
    charges: &[Charge],
) -> Result<Verdict<Vec<ChargeOutcome>>, LedgerError> {
    let mut outcomes = Vec::with_capacity(charges.len());
    let mut written = false;
    for one in charges {
        let (outcome, wrote) = match charge(connection, one).await? {
            Verdict::Commit(outcome) => (outcome, true),
            Verdict::Leave(outcome) => (outcome, false),
        };
        if let ChargeOutcome::Refused { .. } = outcome {
            return Ok(Verdict::Leave(vec![outcome]));
        }
        written |= wrote;
        outcomes.push(outcome);
    }
    Ok(if written { Verdict::Commit(outcomes) } else { Verdict::Leave(outcomes) })
}

async fn charge(connection: &mut SqliteConnection, charge: &Charge) -> Result<Verdict<ChargeOutcome>, LedgerError> {
    identities::require_active(&mut *connection, &charge.consumer).await?;

    if let Some(idempotency) = &charge.idempotency
        && let Some(earlier) = replayed(connection, charge, idempotency).await?
    {
        return Ok(Verdict::Leave(ChargeOutcome::AlreadyPaid { charge_id: earlier.id, precision: earlier.precision }));
    }

    for earlier in own_charges(connection, charge).await? {
        if covers(connection, &earlier, charge).await? {
            let outcome = ChargeOutcome::AlreadyPaid { charge_id: earlier.id, precision: earlier.precision };
            return remember(connection, charge, earlier.id, outcome).await;
        }
    }

    let price = price_of(charge);
    let shared = drawn_for_another(connection, charge, &price).await?;
    let payers = charge.accounts.iter().filter(|line| !(shared && line.account.scope == Scope::AllConsumers));
    let payments = match decide(connection, payers.collect()).await? {
        Ok(payments) => payments,
        Err(short) => return Ok(Verdict::Leave(ChargeOutcome::Refused { short })),
    };

    let charge_id = write(connection, charge, &price, shared, &payments).await?;
    let charged = payments.iter().map(|payment| (payment.line.account.clone(), payment.paid)).collect();
    remember(connection, charge, charge_id, ChargeOutcome::Charged { charge_id, charged, shared }).await
}

/// The charge that this idempotency key was first used for, if it was.
async fn replayed(
    connection: &mut SqliteConnection,
    charge: &Charge,
    idempotency: &Idempotency,
) -> Result<Option<Earlier>, LedgerError> {
    /// Request hash, release key, charge, precision, held.
    type Row = (Vec<u8>, Vec<u8>, i64, i64, bool);
    let row: Option<Row> = sqlx::query_as(
        "SELECT k.request_hash, c.release_key, c.id, c.precision, EXISTS ( \
             SELECT 1 FROM held_releases h WHERE h.release_key = c.release_key AND h.precision = c.precision \
             AND h.price = c.price) \
         FROM idempotency_keys k JOIN charges c ON c.id = k.charge WHERE k.consumer = ?1 AND k.key = ?2",
    )
    .bind(charge.consumer.as_str())
    .bind(idempotency.key.as_str())
    .fetch_optional(&mut *connection)
    .await
    .map_err(storage("reading an idempotency key"))?;
    let Some((request_hash, release_key, id, precision, held)) = row else { return Ok(None) };
    if request_hash != idempotency.request_hash {
        return Err(LedgerError::IdempotencyConflict { reason: ConflictReason::DifferentRequest });
    }
    let earlier = Earlier { id: ChargeId(id), precision: steps(precision)?, held };
    // The same request may have become dearer (a grant changed what δ it is priced at): nothing drawn, nothing covered.
    if release_key != charge.release.0 || !covers(connection, &earlier, charge).await? {
        return Err(LedgerError::IdempotencyConflict { reason: ConflictReason::DataOrPolicyChanged });
    }
    Ok(Some(earlier))
}

/// What this consumer has paid for at this precision or better: the held first, then the most precise.
async fn own_charges(connection: &mut SqliteConnection, charge: &Charge) -> Result<Vec<Earlier>, LedgerError> {
    let rows: Vec<(i64, i64, bool)> = sqlx::query_as(
        "SELECT c.id, c.precision, EXISTS ( \
             SELECT 1 FROM held_releases h WHERE h.release_key = c.release_key AND h.precision = c.precision \
             AND h.price = c.price) AS held \
         FROM charges c WHERE c.release_key = ?1 AND c.precision >= ?2 AND c.consumer = ?3 \
         ORDER BY held DESC, c.precision DESC, c.id",
    )
    .bind(&charge.release.0[..])
    .bind(column(charge.precision))
    .bind(charge.consumer.as_str())
    .fetch_all(connection)
    .await
    .map_err(storage("reading charges"))?;
    rows.into_iter()
        .map(|(id, precision, held)| Ok(Earlier { id: ChargeId(id), precision: steps(precision)?, held }))
        .collect()
}

/// Whether an earlier charge of the same consumer and release pays for what is asked now.
///
/// A stored draw can be shown again for nothing. Where none is stored, one must still be drawn, and it may be drawn at
/// the cost that is asked for now: so that must not be more than was paid, on any dataset.
async fn covers(connection: &mut SqliteConnection, earlier: &Earlier, charge: &Charge) -> Result<bool, LedgerError> {
    if earlier.precision < charge.precision {
        return Ok(false);
    }
    if earlier.held {
        return Ok(true);
    }
    let paid = costs_of(connection, earlier.id).await?;
    Ok(charge.accounts.iter().all(|line| {
        paid.get(&line.account.dataset).is_some_and(|paid| {
            paid.loss.accounting() == line.cost.loss.accounting()
                && paid.loss.steps() >= line.cost.loss.steps()
                && paid.delta >= line.cost.delta
        })
    }))
}

/// The losses at which a charge lets its release be drawn, by dataset. Empty if there is no such charge.
pub(super) async fn costs_of(
    executor: impl SqliteExecutor<'_>,
    charge: ChargeId,
) -> Result<BTreeMap<String, Cost>, LedgerError> {
    let rows: Vec<(String, String, i64, i64)> = sqlx::query_as(
        "SELECT a.dataset, l.drawn_kind, l.drawn_steps, l.delta_steps FROM charge_lines l \
         JOIN accounts a ON a.id = l.account WHERE l.charge = ?1 AND a.scope = 'consumer'",
    )
    .bind(charge.0)
    .fetch_all(executor)
    .await
    .map_err(storage("reading charge lines"))?;
    rows.into_iter()
        .map(|(dataset, kind, loss_steps, delta_steps)| {
            Ok((dataset, Cost { loss: loss(&kind, loss_steps)?, delta: delta(delta_steps)? }))
        })
        .collect()
}

/// A hash over what each scope pays on each dataset, whoever asks and in whichever window: charges of one release and
/// precision with one price pay for one draw.
fn price_of(charge: &Charge) -> [u8; 32] {
    let mut terms: Vec<_> = charge
        .accounts
        .iter()
        .map(|AccountCharge { account, cost, .. }| {
            let measure = kind(cost.loss.accounting());
            (account.dataset.as_str(), account.scope.kind(), measure, cost.loss.steps(), cost.delta.steps())
        })
        .collect();
    terms.sort_unstable();
    terms.dedup();
    let mut hash = Sha256::new_with_prefix(b"tollgate price 1");
    for (dataset, scope, measure, loss_steps, delta_steps) in terms {
        for text in [dataset, scope, measure] {
            hash.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_le_bytes());
            hash.update(text);
        }
        hash.update(loss_steps.to_le_bytes());
        hash.update(delta_steps.to_le_bytes());
    }
    hash.finalize().into()
}

/// Whether somebody has paid for this very draw. This consumer has not: [`covers`] would have found it.
async fn drawn_for_another(
    connection: &mut SqliteConnection,
    charge: &Charge,
    price: &[u8; 32],
) -> Result<bool, LedgerError> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM charges WHERE release_key = ?1 AND precision = ?2 AND price = ?3 AND consumer <> ?4)",
    )
    .bind(&charge.release.0[..])
    .bind(column(charge.precision))
    .bind(&price[..])
    .bind(charge.consumer.as_str())
    .fetch_one(connection)
    .await
    .map_err(storage("reading charges"))
}

/// What each payer's account pays, or all those that cannot pay.
async fn decide<'a>(
    connection: &mut SqliteConnection,
    payers: Vec<&'a AccountCharge>,
) -> Result<Result<Vec<Payment<'a>>, Vec<Shortfall>>, LedgerError> {
    let known = accounts::load(connection, payers.iter().map(|line| &line.account)).await?;
    let mut payments = Vec::with_capacity(payers.len());
    let mut short = Vec::new();
    for line in payers {
        let AccountCharge { account, limit, cost } = line;
        let asked = limit.accounting();
        let spent = known.get(&account.storage_key()).copied().unwrap_or_else(|| Spent::nothing(asked));
        if spent.loss.accounting() != asked {
            let (recorded, asked) = (kind(spent.loss.accounting()), kind(asked));
            return Err(LedgerError::AccountingChanged { account: account.clone(), recorded, asked });
        }
        let paid = cost.loss.charged_to(asked).map(|loss| Cost { loss, ..*cost });
        match (paid, spent.after(*cost)) {
            (Some(paid), Some(sum)) if fits(limit, &spent, cost) => payments.push(Payment { line, paid, sum }),
            _ => short.push(Shortfall { account: account.clone(), limit: *limit, spent, cost: *cost }),
        }
    }
    Ok(if short.is_empty() { Ok(payments) } else { Err(short) })
}

/// Writes the charge, its lines and the accounts' new sums.
async fn write(
    connection: &mut SqliteConnection,
    charge: &Charge,
    price: &[u8; 32],
    shared: bool,
    payments: &[Payment<'_>],
) -> Result<ChargeId, LedgerError> {
    let charge_id: i64 = sqlx::query_scalar(
        "INSERT INTO charges (consumer, release_key, precision, price, outcome, at_us, query_id, sql, purpose, datasets) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) RETURNING id",
    )
    .bind(charge.consumer.as_str())
    .bind(&charge.release.0[..])
    .bind(column(charge.precision))
    .bind(&price[..])
    .bind(if shared { "shared" } else { "charged" })
    .bind(charge.at.timestamp_micros())
    .bind(charge.query.query_id.to_string())
    .bind(charge.query.sql.as_str())
    .bind(charge.query.purpose.as_deref())
    .bind(serde_json::Value::from(charge.query.datasets.as_slice()).to_string())
    .fetch_one(&mut *connection)
    .await
    .map_err(storage("writing a charge"))?;
    for Payment { line, paid, sum } in payments {
        let account_id = accounts::store(&mut *connection, &line.account, sum).await?;
        sqlx::query(
            "INSERT INTO charge_lines (charge, account, loss_kind, loss_steps, delta_steps, drawn_kind, drawn_steps) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )
        .bind(charge_id)
        .bind(account_id)
        .bind(kind(paid.loss.accounting()))
        .bind(column(paid.loss.steps()))
        .bind(column(paid.delta.steps()))
        .bind(kind(line.cost.loss.accounting()))
        .bind(column(line.cost.loss.steps()))
        .execute(&mut *connection)
        .await
        .map_err(storage("writing a charge line"))?;
    }
    Ok(ChargeId(charge_id))
}

/// Writes down which charge the client's idempotency key stands for, and says whether there is anything to commit.
async fn remember(
    connection: &mut SqliteConnection,
    charge: &Charge,
    charge_id: ChargeId,
    outcome: ChargeOutcome,
) -> Result<Verdict<ChargeOutcome>, LedgerError> {
    let Some(idempotency) = &charge.idempotency else {
        return Ok(match outcome {
            ChargeOutcome::Charged { .. } => Verdict::Commit(outcome),
            ChargeOutcome::AlreadyPaid { .. } | ChargeOutcome::Refused { .. } => Verdict::Leave(outcome),
        });
    };
    sqlx::query("INSERT INTO idempotency_keys (consumer, key, request_hash, charge) VALUES (?1, ?2, ?3, ?4)")
        .bind(charge.consumer.as_str())
        .bind(idempotency.key.as_str())
        .bind(&idempotency.request_hash[..])
        .bind(charge_id.0)
        .execute(connection)
        .await
        .map_err(storage("writing an idempotency key"))?;
    Ok(Verdict::Commit(outcome))
}
