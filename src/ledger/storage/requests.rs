//! Requests for a larger budget in the storage.

use uuid::Uuid;

use super::super::{Actor, BudgetRequest, Decision, Entry, Grant, LedgerError, RequestState, Ruling};
use super::accounts::{grant_of, set_grant};
use super::columns::{column, now, time};
use super::database::{On, Row, Statement};
use super::identities;
use super::transaction::{Transaction, Verdict};

const WHAT: &str = "budget request";
const COLUMNS: &str = "SELECT id, consumer, dataset, epsilon_steps, delta_steps, per, reason, made_us, state, decided_by, \
     decided_us, answer FROM budget_requests";

pub(super) fn uuid(text: &str) -> Result<Uuid, LedgerError> {
    text.parse().map_err(|_| LedgerError::Corrupt { what: "identifier" })
}

fn request(row: &Row) -> Result<BudgetRequest, LedgerError> {
    Ok(BudgetRequest {
        id: uuid(&row.text(0)?)?,
        consumer: row.text(1)?,
        dataset: row.text(2)?,
        grant: grant_of(row, 3)?,
        reason: row.text(6)?,
        made: time(row.int(7)?)?,
        state: RequestState::read(&row.text(8)?)?,
        decided_by: row.maybe_text(9)?,
        decided: row.maybe_int(10)?.map(time).transpose()?,
        answer: row.maybe_text(11)?,
    })
}

pub(super) async fn ask(
    transaction: &mut Transaction<'_>,
    consumer: &str,
    dataset: &str,
    grant: &Grant,
    reason: &str,
    by: &Actor,
) -> Result<Verdict<Uuid>, LedgerError> {
    identities::require_active(transaction.on(), consumer).await?;
    let (id, at, doing) = (Uuid::now_v7(), now(), transaction.doing());
    Statement::new(
        "INSERT INTO budget_requests (id, consumer, dataset, epsilon_steps, delta_steps, per, reason, made_us) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(id.to_string())
    .bind(consumer)
    .bind(dataset)
    .bind(column(grant.epsilon.steps()))
    .bind(column(grant.delta.steps()))
    .bind(grant.per.as_str())
    .bind(reason)
    .bind(at.timestamp_micros())
    .execute(transaction.on(), doing)
    .await?;
    transaction.append(&Entry {
        at,
        by: Some(by.clone()),
        decision: Decision::BudgetRequest {
            request: id,
            consumer: consumer.to_owned(),
            dataset: dataset.to_owned(),
            epsilon_steps: grant.epsilon.steps(),
            delta_steps: grant.delta.steps(),
            per: grant.per.clone(),
            reason: reason.to_owned(),
        },
    })?;
    Ok(Verdict::Commit(id))
}

/// Decides a request; a yes makes its grant, in the same transaction.
pub(super) async fn decide(
    transaction: &mut Transaction<'_>,
    id: Uuid,
    ruling: &Ruling,
    by: &Actor,
) -> Result<Verdict<BudgetRequest>, LedgerError> {
    let mut decided = one(transaction.on(), id).await?.ok_or(LedgerError::UnknownRequest { what: WHAT, id })?;
    if decided.state != RequestState::Open {
        return Err(LedgerError::DecidedBefore { what: WHAT, id });
    }
    let (at, doing) = (now(), transaction.doing());
    (decided.state, decided.decided_by, decided.decided) = (ruling.state(), Some(by.to_string()), Some(at));
    decided.answer.clone_from(&ruling.answer);
    Statement::new(
        "UPDATE budget_requests SET state = $2, decided_by = $3, decided_us = $4, answer = $5 WHERE id = $1",
    )
    .bind(id.to_string())
    .bind(decided.state.as_str())
    .bind(by.to_string())
    .bind(at.timestamp_micros())
    .bind(ruling.answer.as_deref())
    .execute(transaction.on(), doing)
    .await?;
    transaction.append(&Entry {
        at,
        by: Some(by.clone()),
        decision: Decision::BudgetDecision {
            request: id,
            dataset: decided.dataset.clone(),
            decision: decided.state.as_str().to_owned(),
            answer: ruling.answer.clone(),
        },
    })?;
    if ruling.yes {
        set_grant(transaction, &decided.consumer, &decided.dataset, &decided.grant, by).await?;
    }
    Ok(Verdict::Commit(decided))
}

pub(super) async fn one(on: On<'_>, id: Uuid) -> Result<Option<BudgetRequest>, LedgerError> {
    let select = Statement::within(format!("{COLUMNS} WHERE id"), [id.to_string().into()], "");
    select.fetch_optional(on, "reading a budget request").await?.as_ref().map(request).transpose()
}

/// All requests from the newest, or those of one consumer.
pub(super) async fn all(on: On<'_>, consumer: Option<&str>) -> Result<Vec<BudgetRequest>, LedgerError> {
    let select = match consumer {
        None => Statement::new(
            "SELECT id, consumer, dataset, epsilon_steps, delta_steps, per, reason, made_us, state, decided_by, \
             decided_us, answer FROM budget_requests ORDER BY made_us DESC, id DESC LIMIT 1000",
        ),
        Some(name) => {
            let before = format!("{COLUMNS} WHERE consumer");
            Statement::within(before, [name.into()], "ORDER BY made_us DESC, id DESC LIMIT 1000")
        }
    };
    select.fetch_all(on, "reading budget requests").await?.iter().map(request).collect()
}
