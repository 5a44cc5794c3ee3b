//! Charges in the storage: what bears on a batch of them is read at once, and what was decided is written at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::super::{Charge, ChargeId, Decision, Entry, LedgerError, LoggedLine, ReleaseKey, Scope};
use super::accounts;
use super::columns::{column, delta, kind, loss, steps, time};
use super::database::{On, Row, Statement, Value};
use super::decision::{Earlier, Known, KnownConsumer, NewCharge, Reserved, Writes};
use super::transaction::{Transaction, index};
use crate::accounting::Cost;

const READING: &str = "reading charges";

/// A charge and whether its draw is stored, in the order in which [`earlier`] reads them.
macro_rules! earlier {
    ($rest:literal) => {
        concat!(
            "SELECT c.id, c.consumer, c.release_key, c.precision, c.price, CAST(CASE WHEN EXISTS ( \
             SELECT 1 FROM held_releases h WHERE h.release_key = c.release_key AND h.precision = c.precision \
             AND h.price = c.price) THEN 1 ELSE 0 END AS BIGINT)",
            $rest
        )
    };
}

fn earlier(row: &Row) -> Result<Earlier, LedgerError> {
    Ok(Earlier {
        id: ChargeId(row.int(0)?),
        consumer: row.text(1)?,
        release: ReleaseKey(row.hash(2)?),
        precision: steps(row.int(3)?)?,
        price: row.hash(4)?,
        held: row.int(5)? != 0,
        costs: BTreeMap::new(),
    })
}

/// Reads all that bears on `charges`.
pub(super) async fn load(transaction: &mut Transaction<'_>, charges: &[&Charge]) -> Result<Known, LedgerError> {
    let mut known = Known {
        next_charge: transaction.state.next_charge,
        next_account: transaction.state.next_account,
        ..Known::default()
    };
    let names: BTreeSet<&str> = charges.iter().map(|charge| charge.consumer.as_str()).collect();
    let releases: BTreeSet<[u8; 32]> = charges.iter().map(|charge| charge.release.0).collect();
    let keys: BTreeSet<String> =
        charges.iter().flat_map(|charge| &charge.accounts).map(|line| line.account.storage_key()).collect();
    let select = [
        Statement::within(
            "SELECT name, agency, frozen FROM consumers WHERE name",
            names.into_iter().map(Value::from),
            "",
        ),
        Statement::within(earlier!(" FROM charges c WHERE c.release_key"), releases.into_iter().map(Value::from), ""),
        accounts::of_keys(keys.iter().map(String::as_str)),
        Statement::within(
            "SELECT account_key, id, loss_kind, loss_steps, delta_steps, expires_us FROM reservations \
             WHERE state = 'held' AND account_key",
            keys.iter().map(|key| Value::from(key.as_str())),
            "",
        ),
    ];
    let [consumers, charges_before, accounts, reserved] =
        Statement::fetch_each(select, transaction.on(), READING).await?;
    for row in consumers {
        let consumer = KnownConsumer { agency: row.maybe_text(1)?, frozen: row.int(2)? != 0 };
        known.consumers.insert(row.text(0)?, consumer);
    }
    for row in charges_before {
        let earlier = earlier(&row)?;
        known.charges.entry(earlier.release).or_default().push(earlier);
    }
    known.accounts = accounts.iter().map(accounts::known).collect::<Result<_, _>>()?;
    for row in reserved {
        let reserved = Reserved {
            id: row.text(1)?.parse().map_err(|_| LedgerError::Corrupt { what: "reservation's identifier" })?,
            cost: Cost { loss: loss(&row.text(2)?, row.int(3)?)?, delta: delta(row.int(4)?)? },
            expires: time(row.int(5)?)?,
        };
        known.reserved.entry(row.text(0)?).or_default().push(reserved);
    }
    load_keys(transaction.on(), charges, &mut known).await?;
    load_costs(transaction.on(), &mut known).await?;
    Ok(known)
}

/// The charges that the idempotency keys of `charges` were first used for.
async fn load_keys(on: On<'_>, charges: &[&Charge], known: &mut Known) -> Result<(), LedgerError> {
    let keys: BTreeSet<&str> =
        charges.iter().filter_map(|charge| Some(charge.idempotency.as_ref()?.key.as_str())).collect();
    if keys.is_empty() {
        return Ok(());
    }
    let before = earlier!(
        ", k.consumer, k.key, k.request_hash FROM idempotency_keys k JOIN charges c ON c.id = k.charge WHERE k.key"
    );
    let select = Statement::within(before, keys.into_iter().map(Value::from), "");
    for row in select.fetch_all(on, "reading an idempotency key").await? {
        known.keys.insert((row.text(6)?, row.text(7)?), (row.hash(8)?, earlier(&row)?));
    }
    Ok(())
}

/// What each charge whose draw is not stored lets its release be drawn at.
async fn load_costs(on: On<'_>, known: &mut Known) -> Result<(), LedgerError> {
    let all = |known: &Known| -> BTreeSet<i64> {
        let keyed = known.keys.values().map(|(_, earlier)| earlier);
        known
            .charges
            .values()
            .flatten()
            .chain(keyed)
            .filter(|earlier| !earlier.held)
            .map(|earlier| earlier.id.0)
            .collect()
    };
    let ids = all(known);
    if ids.is_empty() {
        return Ok(());
    }
    let costs = costs_of(on, ids).await?;
    let keyed = known.keys.values_mut().map(|(_, earlier)| earlier);
    for earlier in known.charges.values_mut().flatten().chain(keyed) {
        if let Some(costs) = costs.get(&earlier.id.0) {
            earlier.costs.clone_from(costs);
        }
    }
    Ok(())
}

/// The losses at which charges let their releases be drawn, by charge and dataset.
pub(super) async fn costs_of(
    on: On<'_>,
    charges: impl IntoIterator<Item = i64>,
) -> Result<HashMap<i64, BTreeMap<String, Cost>>, LedgerError> {
    let select = Statement::within(
        "SELECT l.charge, a.dataset, l.drawn_kind, l.drawn_steps, l.delta_steps FROM charge_lines l \
         JOIN accounts a ON a.id = l.account WHERE a.scope = 'consumer' AND l.charge",
        charges.into_iter().map(Value::from),
        "",
    );
    let mut costs: HashMap<i64, BTreeMap<String, Cost>> = HashMap::new();
    for row in select.fetch_all(on, "reading charge lines").await? {
        let cost = Cost { loss: loss(&row.text(2)?, row.int(3)?)?, delta: delta(row.int(4)?)? };
        costs.entry(row.int(0)?).or_default().insert(row.text(1)?, cost);
    }
    Ok(costs)
}

/// Has what was decided written at the end: charges, lines, the accounts' new sums, keys, and the entries of the log.
pub(super) fn write(transaction: &mut Transaction<'_>, known: &Known, writes: &Writes<'_>) -> Result<(), LedgerError> {
    let mut charges = Vec::with_capacity(writes.charges.len());
    let (mut lines, mut costs) = (Vec::new(), Vec::new());
    let mut sums: BTreeMap<i64, Vec<Value>> = BTreeMap::new();
    for new in &writes.charges {
        let receipt = transaction.append(&logged(new))?;
        charges.push(charge_row(new, index(receipt.log_index)));
        costs.extend(cost_rows(new));
        for payment in &new.payments {
            let (drawn, paid) = (payment.line.cost.loss, payment.paid);
            lines.push(vec![
                new.id.0.into(),
                payment.account.into(),
                kind(paid.loss.accounting()).into(),
                column(paid.loss.steps()).into(),
                column(paid.delta.steps()).into(),
                kind(drawn.accounting()).into(),
                column(drawn.steps()).into(),
            ]);
            let key = payment.line.account.storage_key();
            if let Some(account) = known.accounts.get(&key) {
                sums.insert(account.id, accounts::row(account, key, &payment.line.account));
            }
        }
    }
    let keys = writes.keys.iter().filter_map(|new| {
        let idempotency = new.charge.idempotency.as_ref()?;
        Some(vec![
            new.charge.consumer.as_str().into(),
            idempotency.key.as_str().into(),
            idempotency.request_hash.into(),
            new.id.0.into(),
            new.charge.at.timestamp_micros().into(),
        ])
    });
    transaction.at_end(Statement::insert(
        "INSERT INTO charges (id, consumer, agency, release_key, precision, price, outcome, at_us, query_id, sql, purpose, \
         datasets, events, log_index, reservation, sum_base, sum_parts)",
        17,
        charges,
        "",
    ));
    transaction.at_end(accounts::upsert(sums.into_values()));
    transaction.at_end(Statement::insert(
        "INSERT INTO charge_lines (charge, account, loss_kind, loss_steps, delta_steps, drawn_kind, drawn_steps)",
        7,
        lines,
        "",
    ));
    transaction.at_end(Statement::insert(
        "INSERT INTO charge_costs (charge, dataset, epoch, query_id, at_us, consumer, agency, purpose, loss_kind, loss_steps, \
         delta_steps)",
        11,
        costs,
        "",
    ));
    transaction.at_end(Statement::insert(
        "INSERT INTO idempotency_keys (consumer, key, request_hash, charge, used_us)",
        5,
        keys,
        "",
    ));
    let posted = writes.charges.iter().filter_map(|new| new.charge.reservation);
    let posted: BTreeSet<String> = posted.map(|id| id.to_string()).collect();
    if !posted.is_empty() {
        transaction.at_end(Statement::within(
            "UPDATE reservations SET state = 'posted' WHERE state = 'held' AND id",
            posted.into_iter().map(Value::from),
            "",
        ));
    }
    (transaction.state.next_charge, transaction.state.next_account) = (known.next_charge, known.next_account);
    Ok(())
}

fn charge_row(new: &NewCharge<'_>, log_index: i64) -> Vec<Value> {
    let charge = new.charge;
    vec![
        new.id.0.into(),
        charge.consumer.as_str().into(),
        new.agency.as_deref().into(),
        charge.release.0.into(),
        column(charge.precision).into(),
        new.price.into(),
        if new.shared { "shared" } else { "charged" }.into(),
        charge.at.timestamp_micros().into(),
        charge.query.query_id.to_string().into(),
        charge.query.sql.as_str().into(),
        charge.query.purpose.as_deref().into(),
        serde_json::Value::from(charge.query.datasets.as_slice()).to_string().into(),
        charge.query.events.as_str().into(),
        log_index.into(),
        charge.reservation.map(|id| id.to_string()).as_deref().into(),
        charge.query.summable.as_ref().map(|(base, _)| &base[..]).into(),
        charge.query.summable.as_ref().map(|(_, parts)| parts.as_str()).into(),
    ]
}

/// What the consumer pays for each dataset and epoch: its accounts there (a cap and a grant of different windows) all pay the
/// same, and one of them is counted.
fn cost_rows(new: &NewCharge<'_>) -> Vec<Vec<Value>> {
    let mut paid = BTreeMap::new();
    for payment in &new.payments {
        let account = &payment.line.account;
        if let Scope::Consumer(_) = account.scope {
            paid.entry((account.dataset.as_str(), account.epoch.as_deref().unwrap_or_default()))
                .or_insert(payment.paid);
        }
    }
    let charge = new.charge;
    let row = |((dataset, epoch), cost): ((&str, &str), Cost)| {
        vec![
            new.id.0.into(),
            dataset.into(),
            epoch.into(),
            charge.query.query_id.to_string().into(),
            charge.at.timestamp_micros().into(),
            charge.consumer.as_str().into(),
            new.agency.as_deref().into(),
            charge.query.purpose.as_deref().into(),
            kind(cost.loss.accounting()).into(),
            column(cost.loss.steps()).into(),
            column(cost.delta.steps()).into(),
        ]
    };
    paid.into_iter().map(row).collect()
}

fn logged(new: &NewCharge<'_>) -> Entry {
    let charge = new.charge;
    let line =
        |payment: &super::decision::Payment<'_>| LoggedLine::new(payment.line.account.storage_key(), &payment.paid);
    Entry {
        at: charge.at,
        by: None,
        decision: Decision::Charge {
            charge: new.id,
            query_id: charge.query.query_id,
            consumer: charge.consumer.clone(),
            agency: new.agency.clone(),
            sql: charge.query.sql.clone(),
            purpose: charge.query.purpose.clone(),
            datasets: charge.query.datasets.clone(),
            release: charge.release.to_string(),
            precision: charge.precision,
            shared: new.shared,
            lines: new.payments.iter().map(line).collect(),
            events: serde_json::from_str(&charge.query.events).unwrap_or(serde_json::Value::Null),
        },
    }
}

/// The statements, and the keys and sums, of what `consumer` was answered about `base`: the newest twenty.
pub(super) async fn summable(on: On<'_>, consumer: &str, base: [u8; 32]) -> Result<Vec<(String, String)>, LedgerError> {
    let rows = Statement::new(
        "SELECT c.sql, c.sum_parts FROM charges c WHERE c.sum_base = $1 AND c.consumer = $2 AND EXISTS ( \
             SELECT 1 FROM held_releases h WHERE h.release_key = c.release_key AND h.precision = c.precision \
             AND h.price = c.price) \
         ORDER BY c.id DESC LIMIT 20",
    )
    .bind(base)
    .bind(consumer)
    .fetch_all(on, READING)
    .await?;
    rows.iter().map(|row| Ok((row.text(0)?, row.text(1)?))).collect()
}
