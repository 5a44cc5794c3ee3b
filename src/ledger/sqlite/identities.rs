//! Consumers and tokens in SQLite.

use chrono::Utc;
use rand::TryRng;
use rand::rngs::SysRng;
use sha2::{Digest, Sha256};
use sqlx::{SqliteConnection, SqliteExecutor, SqlitePool};
use uuid::Uuid;

use super::super::identity::check_name;
use super::super::{Consumer, LedgerError, NewToken, Token, TokenSecret};
use super::columns::time;
use super::{Verdict, storage};

/// Whether the consumer is frozen; an error if there is none of this name.
pub(super) async fn require(executor: impl SqliteExecutor<'_>, name: &str) -> Result<bool, LedgerError> {
    let frozen: Option<bool> = sqlx::query_scalar("SELECT frozen FROM consumers WHERE name = ?1")
        .bind(name)
        .fetch_optional(executor)
        .await
        .map_err(storage("reading a consumer"))?;
    frozen.ok_or_else(|| LedgerError::UnknownConsumer { name: name.to_owned() })
}

/// That there is a consumer of this name and it is not frozen.
pub(super) async fn require_active(executor: impl SqliteExecutor<'_>, name: &str) -> Result<(), LedgerError> {
    if require(executor, name).await? { Err(LedgerError::Frozen { name: name.to_owned() }) } else { Ok(()) }
}

/// A row of `consumers`: name, agency, frozen, created.
type ConsumerRow = (String, Option<String>, bool, i64);

fn consumer_of((name, agency, frozen, created_us): ConsumerRow) -> Result<Consumer, LedgerError> {
    Ok(Consumer { name, agency, frozen, created: time(created_us)? })
}

pub(super) async fn add_consumer(
    connection: &mut SqliteConnection,
    name: &str,
    agency: Option<&str>,
) -> Result<Verdict<()>, LedgerError> {
    check_name(name)?;
    agency.map_or(Ok(()), check_name)?;
    let added = sqlx::query(
        "INSERT INTO consumers (name, agency, created_us) VALUES (?1, ?2, ?3) ON CONFLICT (name) DO NOTHING",
    )
    .bind(name)
    .bind(agency)
    .bind(Utc::now().timestamp_micros())
    .execute(connection)
    .await
    .map_err(storage("adding a consumer"))?
    .rows_affected();
    if added == 1 { Ok(Verdict::Commit(())) } else { Err(LedgerError::ConsumerExists { name: name.to_owned() }) }
}

pub(super) async fn consumer(readers: &SqlitePool, name: &str) -> Result<Option<Consumer>, LedgerError> {
    let row: Option<ConsumerRow> =
        sqlx::query_as("SELECT name, agency, frozen, created_us FROM consumers WHERE name = ?1")
            .bind(name)
            .fetch_optional(readers)
            .await
            .map_err(storage("reading a consumer"))?;
    row.map(consumer_of).transpose()
}

pub(super) async fn consumers(readers: &SqlitePool) -> Result<Vec<Consumer>, LedgerError> {
    let rows: Vec<ConsumerRow> = sqlx::query_as("SELECT name, agency, frozen, created_us FROM consumers ORDER BY name")
        .fetch_all(readers)
        .await
        .map_err(storage("reading consumers"))?;
    rows.into_iter().map(consumer_of).collect()
}

pub(super) async fn set_frozen(
    connection: &mut SqliteConnection,
    name: &str,
    frozen: bool,
) -> Result<Verdict<()>, LedgerError> {
    let changed = sqlx::query("UPDATE consumers SET frozen = ?2 WHERE name = ?1")
        .bind(name)
        .bind(frozen)
        .execute(connection)
        .await
        .map_err(storage("freezing a consumer"))?
        .rows_affected();
    if changed == 1 { Ok(Verdict::Commit(())) } else { Err(LedgerError::UnknownConsumer { name: name.to_owned() }) }
}

/// What is stored of a secret. Our secrets are 256 random bits, so a plain hash cannot be searched and needs no salt.
fn hash_of(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

pub(super) async fn create_token(
    connection: &mut SqliteConnection,
    new: &NewToken,
) -> Result<Verdict<(Uuid, TokenSecret)>, LedgerError> {
    if let Some(consumer) = &new.consumer {
        require(&mut *connection, consumer).await?;
    }
    let mut random = [0_u8; 32];
    SysRng.try_fill_bytes(&mut random).map_err(LedgerError::NoRandomness)?;
    let secret = random.iter().fold("tg_".to_owned(), |text, byte| format!("{text}{byte:02x}"));
    let id = Uuid::now_v7();
    sqlx::query(
        "INSERT INTO tokens (id, secret_sha256, role, consumer, owner, created_us) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )
    .bind(id.to_string())
    .bind(&hash_of(&secret)[..])
    .bind(new.role.as_str())
    .bind(new.consumer.as_deref())
    .bind(new.owner.as_deref())
    .bind(Utc::now().timestamp_micros())
    .execute(connection)
    .await
    .map_err(storage("making a token"))?;
    Ok(Verdict::Commit((id, TokenSecret(secret))))
}

pub(super) async fn revoke_token(connection: &mut SqliteConnection, id: Uuid) -> Result<Verdict<()>, LedgerError> {
    let found = sqlx::query("UPDATE tokens SET revoked_us = coalesce(revoked_us, ?2) WHERE id = ?1")
        .bind(id.to_string())
        .bind(Utc::now().timestamp_micros())
        .execute(connection)
        .await
        .map_err(storage("revoking a token"))?
        .rows_affected();
    if found == 1 { Ok(Verdict::Commit(())) } else { Err(LedgerError::UnknownToken { id }) }
}

pub(super) async fn token_for(readers: &SqlitePool, secret: &str) -> Result<Option<Token>, LedgerError> {
    /// Identifier, role, consumer, owner, created.
    type Row = (String, String, Option<String>, Option<String>, i64);
    let row: Option<Row> = sqlx::query_as(
        "SELECT id, role, consumer, owner, created_us FROM tokens WHERE secret_sha256 = ?1 AND revoked_us IS NULL",
    )
    .bind(&hash_of(secret)[..])
    .fetch_optional(readers)
    .await
    .map_err(storage("reading a token"))?;
    row.map(|(id, role, consumer, owner, created_us)| {
        Ok(Token {
            id: id.parse().map_err(|_| LedgerError::Corrupt { what: "token identifier" })?,
            role: role.parse().map_err(|_| LedgerError::Corrupt { what: "role" })?,
            consumer,
            owner,
            created: time(created_us)?,
        })
    })
    .transpose()
}
