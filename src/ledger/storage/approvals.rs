//! Queries that wait for a steward's yes, and the amounts that are reserved for them, in the storage.

use uuid::Uuid;

use super::super::{
    AccountCharge, Actor, Approval, ApprovalAsked, Decision, Entry, LedgerError, RequestState, Ruling, Scope,
};
use super::columns::{column, kind, now, time};
use super::database::{On, Row, Statement};
use super::identities;
use super::requests::uuid;
use super::transaction::{Transaction, Verdict};

const WHAT: &str = "approval";

/// The most queries of one consumer that wait at once.
const MAX_OPEN: i64 = 20;
const COLUMNS: &str = "SELECT id, dataset, consumer, sql, purpose, dry_run, made_us, expires_us, state, decided_by, \
     decided_us, answer FROM approvals";

fn approval(row: &Row) -> Result<Approval, LedgerError> {
    Ok(Approval {
        id: uuid(&row.text(0)?)?,
        dataset: row.text(1)?,
        consumer: row.text(2)?,
        sql: row.text(3)?,
        purpose: row.maybe_text(4)?,
        dry_run: row.text(5)?,
        made: time(row.int(6)?)?,
        expires: time(row.int(7)?)?,
        state: RequestState::read(&row.text(8)?)?,
        decided_by: row.maybe_text(9)?,
        decided: row.maybe_int(10)?.map(time).transpose()?,
        answer: row.maybe_text(11)?,
    })
}

/// Puts a query before the stewards of its datasets, and reserves its price, unless that was done and has not expired. Returns
/// how it stands, one for each dataset.
pub(super) async fn ask(
    transaction: &mut Transaction<'_>,
    asked: &ApprovalAsked,
    by: &Actor,
) -> Result<Verdict<Vec<Approval>>, LedgerError> {
    identities::require_active(transaction.on(), &asked.consumer).await?;
    let standing = of_shape(transaction.on(), asked).await?;
    if asked.datasets.iter().all(|dataset| standing.iter().any(|known| known.dataset == *dataset)) {
        return Ok(Verdict::Leave(standing));
    }
    let open = Statement::new(
        "SELECT count(DISTINCT id) FROM approvals WHERE consumer = $1 AND state = 'open' AND expires_us > $2",
    )
    .bind(asked.consumer.as_str())
    .bind(asked.made.timestamp_micros())
    .fetch_one(transaction.on(), "reading approvals")
    .await?;
    if open.int(0)? >= MAX_OPEN {
        return Err(LedgerError::TooManyOpen { most: MAX_OPEN });
    }
    let (id, doing) = (Uuid::now_v7(), transaction.doing());
    let rows = asked.datasets.iter().map(|dataset| {
        vec![
            id.to_string().into(),
            dataset.as_str().into(),
            asked.consumer.as_str().into(),
            asked.shape.into(),
            asked.sql.as_str().into(),
            asked.purpose.as_deref().into(),
            asked.dry_run.as_str().into(),
            asked.made.timestamp_micros().into(),
            asked.expires.timestamp_micros().into(),
            column(asked.precision).into(),
        ]
    });
    let approvals = Statement::insert(
        "INSERT INTO approvals (id, dataset, consumer, shape, sql, purpose, dry_run, made_us, expires_us, precision)",
        10,
        rows,
        "",
    );
    // Two releases of one query may be charged to one account: what is reserved there is their sum.
    let mut sums = std::collections::BTreeMap::new();
    let own = |line: &&AccountCharge| matches!(line.account.scope, Scope::Consumer(_) | Scope::Domain(_));
    for line in asked.lines.iter().filter(own) {
        let Some(loss) = line.cost.loss.charged_to(line.limit.accounting()) else { continue };
        let sum = sums.entry(line.account.storage_key()).or_insert((loss.accounting(), 0_u64, 0_u64));
        sum.1 = sum.1.saturating_add(loss.steps());
        sum.2 = sum.2.saturating_add(line.cost.delta.steps());
    }
    let rows = sums.into_iter().map(|(key, (accounting, loss_steps, delta_steps))| {
        vec![
            id.to_string().into(),
            key.into(),
            kind(accounting).into(),
            column(loss_steps).into(),
            column(delta_steps).into(),
            asked.expires.timestamp_micros().into(),
        ]
    });
    let reservations = Statement::insert(
        "INSERT INTO reservations (id, account_key, loss_kind, loss_steps, delta_steps, expires_us)",
        6,
        rows,
        "",
    );
    for statement in [approvals, reservations] {
        statement.execute(transaction.on(), doing).await?;
    }
    transaction.append(&Entry {
        at: asked.made,
        by: Some(by.clone()),
        decision: Decision::ApprovalRequest {
            approval: id,
            consumer: asked.consumer.clone(),
            datasets: asked.datasets.clone(),
            sql: asked.sql.clone(),
            purpose: asked.purpose.clone(),
        },
    })?;
    Ok(Verdict::Commit(of_shape(transaction.on(), asked).await?))
}

/// How a query stands: the newest of each dataset of this consumer, shape and at least this price that has not expired. A
/// yes does not expire; what was reserved for it does.
async fn of_shape(on: On<'_>, asked: &ApprovalAsked) -> Result<Vec<Approval>, LedgerError> {
    let rows = Statement::new(
        "SELECT id, dataset, consumer, sql, purpose, dry_run, made_us, expires_us, state, decided_by, decided_us, answer \
         FROM approvals WHERE shape = $1 AND consumer = $2 \
         AND (expires_us > $3 OR state = 'approved') AND precision >= $4 ORDER BY made_us DESC, id DESC",
    )
    .bind(asked.shape)
    .bind(asked.consumer.as_str())
    .bind(asked.made.timestamp_micros())
    .bind(column(asked.precision))
    .fetch_all(on, "reading approvals")
    .await?;
    let mut newest: Vec<Approval> = Vec::new();
    for row in &rows {
        let approval = approval(row)?;
        if !newest.iter().any(|known| known.dataset == approval.dataset) {
            newest.push(approval);
        }
    }
    Ok(newest)
}

/// Decides about a query for one dataset. A no gives back what was reserved for it on every account.
///
/// A yes that is taken back takes every yes of that dataset to the consumer's query with it, whatever the price: else an
/// earlier, cheaper one would go on letting the same question through.
pub(super) async fn decide(
    transaction: &mut Transaction<'_>,
    id: Uuid,
    dataset: &str,
    ruling: &Ruling,
    by: &Actor,
) -> Result<Verdict<Approval>, LedgerError> {
    let select = Statement::new(
        "SELECT id, dataset, consumer, sql, purpose, dry_run, made_us, expires_us, state, decided_by, decided_us, answer \
         FROM approvals WHERE id = $1 AND dataset = $2",
    );
    let row = select
        .bind(id.to_string())
        .bind(dataset)
        .fetch_optional(transaction.on(), "reading an approval")
        .await?
        .ok_or(LedgerError::UnknownRequest { what: WHAT, id })?;
    let mut decided = approval(&row)?;
    // A yes may be taken back, for what is asked from then on; a no stands.
    if decided.state == RequestState::Denied || (decided.state == RequestState::Approved && ruling.yes) {
        return Err(LedgerError::DecidedBefore { what: WHAT, id });
    }
    let others = if decided.state == RequestState::Approved {
        other_yeses(transaction.on(), id, dataset).await?
    } else {
        Vec::new()
    };
    let (at, doing) = (now(), transaction.doing());
    (decided.state, decided.decided_by, decided.decided) = (ruling.state(), Some(by.to_string()), Some(at));
    decided.answer.clone_from(&ruling.answer);
    for id in [id].into_iter().chain(others) {
        Statement::new(
            "UPDATE approvals SET state = $3, decided_by = $4, decided_us = $5, answer = $6 WHERE id = $1 AND dataset = $2",
        )
        .bind(id.to_string())
        .bind(dataset)
        .bind(decided.state.as_str())
        .bind(by.to_string())
        .bind(at.timestamp_micros())
        .bind(ruling.answer.as_deref())
        .execute(transaction.on(), doing)
        .await?;
        if !ruling.yes {
            Statement::new("UPDATE reservations SET state = 'void' WHERE id = $1 AND state = 'held'")
                .bind(id.to_string())
                .execute(transaction.on(), doing)
                .await?;
        }
        transaction.append(&Entry {
            at,
            by: Some(by.clone()),
            decision: Decision::ApprovalDecision {
                approval: id,
                dataset: dataset.to_owned(),
                decision: decided.state.as_str().to_owned(),
                answer: ruling.answer.clone(),
            },
        })?;
    }
    Ok(Verdict::Commit(decided))
}

/// The other approvals by which `dataset` says yes to the same consumer's query of the same shape.
async fn other_yeses(on: On<'_>, id: Uuid, dataset: &str) -> Result<Vec<Uuid>, LedgerError> {
    let rows = Statement::new(
        "SELECT other.id FROM approvals one JOIN approvals other ON other.shape = one.shape \
         AND other.consumer = one.consumer AND other.dataset = one.dataset AND other.id <> one.id \
         WHERE one.id = $1 AND one.dataset = $2 AND other.state = 'approved' ORDER BY other.id",
    )
    .bind(id.to_string())
    .bind(dataset)
    .fetch_all(on, "reading approvals")
    .await?;
    rows.iter().map(|row| uuid(&row.text(0)?)).collect()
}

/// The queries that were put before the steward of one of `datasets`, from the newest.
pub(super) async fn all(on: On<'_>, datasets: &[String]) -> Result<Vec<Approval>, LedgerError> {
    let names = datasets.iter().map(|name| name.as_str().into());
    let select =
        Statement::within(format!("{COLUMNS} WHERE dataset"), names, "ORDER BY made_us DESC, id DESC LIMIT 1000");
    select.fetch_all(on, "reading approvals").await?.iter().map(approval).collect()
}
