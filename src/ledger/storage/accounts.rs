//! Accounts and grants in the storage.

use std::collections::HashMap;

use super::super::{Account, AccountSearch, AccountSum, Actor, Decision, Entry, Grant, LedgerError, Scope};
use super::columns::{column, delta, kind, loss, now, steps};
use super::database::{On, Row, Statement, Value};
use super::decision::KnownAccount;
use super::identities;
use super::restriction::Restriction;
use super::transaction::{Transaction, Verdict};
use crate::accounting::{Epsilon, Spent};

/// Those of the accounts with these storage keys that were ever charged.
pub(super) async fn load<'a>(
    on: On<'_>,
    keys: impl IntoIterator<Item = &'a str>,
) -> Result<HashMap<String, KnownAccount>, LedgerError> {
    of_keys(keys).fetch_all(on, "reading accounts").await?.iter().map(known).collect()
}

/// What selects the accounts that [`known`] reads.
pub(super) fn of_keys<'a>(keys: impl IntoIterator<Item = &'a str>) -> Statement {
    Statement::within(
        "SELECT storage_key, id, loss_kind, loss_steps, delta_steps FROM accounts WHERE storage_key",
        keys.into_iter().map(Value::from),
        "",
    )
}

/// An account and its storage key.
pub(super) fn known(row: &Row) -> Result<(String, KnownAccount), LedgerError> {
    let spent = Spent { loss: loss(&row.text(2)?, row.int(3)?)?, delta: delta(row.int(4)?)? };
    Ok((row.text(0)?, KnownAccount { id: row.int(1)?, spent }))
}

/// An account's row.
pub(super) fn row(known: &KnownAccount, storage_key: String, account: &Account) -> Vec<Value> {
    vec![
        known.id.into(),
        storage_key.into(),
        account.scope.kind().into(),
        account.scope.subject().into(),
        account.dataset.as_str().into(),
        account.window.as_str().into(),
        account.epoch.as_deref().into(),
        kind(known.spent.loss.accounting()).into(),
        column(known.spent.loss.steps()).into(),
        column(known.spent.delta.steps()).into(),
    ]
}

/// Writes accounts' new sums, opening those whose first charge it is.
pub(super) fn upsert(rows: impl IntoIterator<Item = Vec<Value>>) -> Statement {
    Statement::insert(
        "INSERT INTO accounts (id, storage_key, scope, subject, dataset, budget_window, epoch, loss_kind, loss_steps, \
         delta_steps)",
        10,
        rows,
        "ON CONFLICT (storage_key) DO UPDATE SET loss_steps = excluded.loss_steps, delta_steps = excluded.delta_steps",
    )
}

/// Every account that was ever charged, of these datasets or of all.
pub(super) async fn sums(on: On<'_>, datasets: &[String]) -> Result<Vec<AccountSum>, LedgerError> {
    search(on, &AccountSearch { datasets: datasets.to_vec(), ..AccountSearch::default() }).await
}

/// Those of the accounts that were ever charged which `search` names.
pub(super) async fn search(on: On<'_>, search: &AccountSearch) -> Result<Vec<AccountSum>, LedgerError> {
    let mut only = Restriction::default();
    only.one_of("dataset", &search.datasets);
    only.one_of("budget_window", &search.windows);
    if let Some(consumer) = &search.consumer {
        only.and("scope IN ('consumer', 'domain') AND subject = ?", consumer.as_str());
    }
    let (restricted, values) = only.parts();
    let select = format!(
        "SELECT scope, subject, dataset, budget_window, epoch, loss_kind, loss_steps, delta_steps FROM accounts{restricted} \
         ORDER BY id"
    );
    Statement::composed(select, values).fetch_all(on, "reading accounts").await?.iter().map(sum).collect()
}

/// The scope in two columns.
pub(super) fn scope_of(kind: &str, subject: String) -> Result<Scope, LedgerError> {
    Ok(match kind {
        "consumer" => Scope::Consumer(subject),
        "agency" => Scope::Agency(subject),
        "all_consumers" => Scope::AllConsumers,
        "domain" => Scope::Domain(subject),
        _ => return Err(LedgerError::Corrupt { what: "scope of an account" }),
    })
}

fn sum(row: &Row) -> Result<AccountSum, LedgerError> {
    let scope = scope_of(&row.text(0)?, row.text(1)?)?;
    Ok(AccountSum {
        account: Account { scope, dataset: row.text(2)?, window: row.text(3)?, epoch: row.maybe_text(4)? },
        spent: Spent { loss: loss(&row.text(5)?, row.int(6)?)?, delta: delta(row.int(7)?)? },
    })
}

pub(super) async fn set_grant(
    transaction: &mut Transaction<'_>,
    consumer: &str,
    dataset: &str,
    grant: &Grant,
    by: &Actor,
) -> Result<Verdict<()>, LedgerError> {
    identities::require(transaction.on(), consumer).await?;
    let at = now();
    Statement::new(
        "INSERT INTO grants (consumer, dataset, epsilon_steps, delta_steps, per, set_us) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (consumer, dataset) DO UPDATE SET epsilon_steps = excluded.epsilon_steps, \
         delta_steps = excluded.delta_steps, per = excluded.per, set_us = excluded.set_us",
    )
    .bind(consumer)
    .bind(dataset)
    .bind(column(grant.epsilon.steps()))
    .bind(column(grant.delta.steps()))
    .bind(grant.per.as_str())
    .bind(at.timestamp_micros())
    .execute(transaction.on(), "setting a grant")
    .await?;
    transaction.append(&Entry {
        at,
        by: Some(by.clone()),
        decision: Decision::Grant {
            consumer: consumer.to_owned(),
            dataset: dataset.to_owned(),
            epsilon_steps: grant.epsilon.steps(),
            delta_steps: grant.delta.steps(),
            per: grant.per.clone(),
        },
    })?;
    Ok(Verdict::Commit(()))
}

pub(super) async fn grant(on: On<'_>, consumer: &str, dataset: &str) -> Result<Option<Grant>, LedgerError> {
    let row = Statement::new("SELECT epsilon_steps, delta_steps, per FROM grants WHERE consumer = $1 AND dataset = $2")
        .bind(consumer)
        .bind(dataset)
        .fetch_optional(on, "reading a grant")
        .await?;
    row.map(|row| grant_of(&row, 0)).transpose()
}

/// Every grant.
pub(super) async fn grants(on: On<'_>) -> Result<Vec<(String, String, Grant)>, LedgerError> {
    Statement::new("SELECT consumer, dataset, epsilon_steps, delta_steps, per FROM grants")
        .fetch_all(on, "reading grants")
        .await?
        .iter()
        .map(|row| Ok((row.text(0)?, row.text(1)?, grant_of(row, 2)?)))
        .collect()
}

/// The grant in three columns from `at` on.
pub(super) fn grant_of(row: &Row, at: usize) -> Result<Grant, LedgerError> {
    Ok(Grant {
        epsilon: Epsilon::from_steps(steps(row.int(at)?)?),
        delta: delta(row.int(at + 1)?)?,
        per: row.text(at + 2)?,
    })
}
