//! Accounts and grants in SQLite.

use std::collections::HashMap;

use chrono::Utc;
use sqlx::{SqliteConnection, SqliteExecutor, SqlitePool};

use super::super::{Account, Grant, LedgerError};
use super::columns::{column, delta, kind, loss, steps};
use super::{Verdict, identities, storage};
use crate::accounting::{Epsilon, Spent};

/// What those of `accounts` that were ever charged have spent, by storage key: one look-up for all.
pub(super) async fn load<'a>(
    executor: impl SqliteExecutor<'_>,
    accounts: impl Iterator<Item = &'a Account>,
) -> Result<HashMap<String, Spent>, LedgerError> {
    let keys = accounts.map(Account::storage_key).collect::<serde_json::Value>().to_string();
    let rows: Vec<(String, String, i64, i64)> = sqlx::query_as(
        "SELECT storage_key, loss_kind, loss_steps, delta_steps FROM accounts \
         WHERE storage_key IN (SELECT value FROM json_each(?1))",
    )
    .bind(keys)
    .fetch_all(executor)
    .await
    .map_err(storage("reading accounts"))?;
    rows.into_iter()
        .map(|(key, kind, loss_steps, delta_steps)| {
            Ok((key, Spent { loss: loss(&kind, loss_steps)?, delta: delta(delta_steps)? }))
        })
        .collect()
}

/// Writes an account's new sums, opening it if this is its first charge. Returns its row.
pub(super) async fn store(
    connection: &mut SqliteConnection,
    account: &Account,
    spent: &Spent,
) -> Result<i64, LedgerError> {
    sqlx::query_scalar(
        "INSERT INTO accounts (storage_key, scope, subject, dataset, budget_window, loss_kind, loss_steps, delta_steps) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) \
         ON CONFLICT (storage_key) DO UPDATE SET loss_steps = excluded.loss_steps, delta_steps = excluded.delta_steps \
         RETURNING id",
    )
    .bind(account.storage_key())
    .bind(account.scope.kind())
    .bind(account.scope.subject())
    .bind(account.dataset.as_str())
    .bind(account.window.as_str())
    .bind(kind(spent.loss.accounting()))
    .bind(column(spent.loss.steps()))
    .bind(column(spent.delta.steps()))
    .fetch_one(connection)
    .await
    .map_err(storage("charging an account"))
}

pub(super) async fn set_grant(
    connection: &mut SqliteConnection,
    consumer: &str,
    dataset: &str,
    grant: &Grant,
) -> Result<Verdict<()>, LedgerError> {
    identities::require(&mut *connection, consumer).await?;
    sqlx::query(
        "INSERT INTO grants (consumer, dataset, epsilon_steps, delta_steps, per, set_us) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
         ON CONFLICT (consumer, dataset) DO UPDATE SET epsilon_steps = excluded.epsilon_steps, \
         delta_steps = excluded.delta_steps, per = excluded.per, set_us = excluded.set_us",
    )
    .bind(consumer)
    .bind(dataset)
    .bind(column(grant.epsilon.steps()))
    .bind(column(grant.delta.steps()))
    .bind(grant.per.as_str())
    .bind(Utc::now().timestamp_micros())
    .execute(connection)
    .await
    .map_err(storage("setting a grant"))?;
    Ok(Verdict::Commit(()))
}

pub(super) async fn grant(readers: &SqlitePool, consumer: &str, dataset: &str) -> Result<Option<Grant>, LedgerError> {
    let row: Option<(i64, i64, String)> =
        sqlx::query_as("SELECT epsilon_steps, delta_steps, per FROM grants WHERE consumer = ?1 AND dataset = ?2")
            .bind(consumer)
            .bind(dataset)
            .fetch_optional(readers)
            .await
            .map_err(storage("reading a grant"))?;
    row.map(|(epsilon_steps, delta_steps, per)| {
        Ok(Grant { epsilon: Epsilon::from_steps(steps(epsilon_steps)?), delta: delta(delta_steps)?, per })
    })
    .transpose()
}
