//! Consumers and tokens in the storage.

use std::sync::Arc;

use rand::TryRng;
use rand::rngs::SysRng;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::super::identity::check_name;
use super::super::{Actor, Consumer, Decision, Entry, LedgerError, NewToken, Token, TokenSecret};
use super::columns::{now, time};
use super::database::{On, Row, Statement};
use super::transaction::{Transaction, Verdict};

/// Whether the consumer is frozen; an error if there is none of this name.
pub(super) async fn require(on: On<'_>, name: &str) -> Result<bool, LedgerError> {
    let row = Statement::new("SELECT frozen FROM consumers WHERE name = $1")
        .bind(name)
        .fetch_optional(on, "reading a consumer")
        .await?;
    row.map_or_else(|| Err(LedgerError::UnknownConsumer { name: name.to_owned() }), |row| Ok(row.int(0)? != 0))
}

/// That there is a consumer of this name and it is not frozen.
pub(super) async fn require_active(on: On<'_>, name: &str) -> Result<(), LedgerError> {
    if require(on, name).await? { Err(LedgerError::Frozen { name: name.to_owned() }) } else { Ok(()) }
}

fn consumer_of(row: &Row) -> Result<Consumer, LedgerError> {
    Ok(Consumer {
        name: row.text(0)?,
        agency: row.maybe_text(1)?,
        frozen: row.int(2)? != 0,
        created: time(row.int(3)?)?,
    })
}

pub(super) async fn add_consumer(
    transaction: &mut Transaction<'_>,
    name: &str,
    agency: Option<&str>,
    by: &Actor,
) -> Result<Verdict<()>, LedgerError> {
    check_name(name)?;
    agency.map_or(Ok(()), check_name)?;
    let at = now();
    let added = Statement::new(
        "INSERT INTO consumers (name, agency, created_us) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING",
    )
    .bind(name)
    .bind(agency)
    .bind(at.timestamp_micros())
    .execute(transaction.on(), "adding a consumer")
    .await?;
    if added != 1 {
        return Err(LedgerError::ConsumerExists { name: name.to_owned() });
    }
    transaction.append(&Entry {
        at,
        by: Some(by.clone()),
        decision: Decision::Consumer {
            consumer: name.to_owned(),
            agency: agency.map(str::to_owned),
            change: "added".to_owned(),
        },
    })?;
    Ok(Verdict::Commit(()))
}

pub(super) async fn consumer(on: On<'_>, name: &str) -> Result<Option<Consumer>, LedgerError> {
    let row = Statement::new("SELECT name, agency, frozen, created_us FROM consumers WHERE name = $1")
        .bind(name)
        .fetch_optional(on, "reading a consumer")
        .await?;
    row.as_ref().map(consumer_of).transpose()
}

pub(super) async fn consumers(on: On<'_>) -> Result<Vec<Consumer>, LedgerError> {
    let rows = Statement::new("SELECT name, agency, frozen, created_us FROM consumers")
        .fetch_all(on, "reading consumers")
        .await?;
    let mut consumers = rows.iter().map(consumer_of).collect::<Result<Vec<_>, _>>()?;
    // Here, since the two databases do not sort texts alike.
    consumers.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(consumers)
}

pub(super) async fn set_frozen(
    transaction: &mut Transaction<'_>,
    name: &str,
    frozen: bool,
    by: &Actor,
) -> Result<Verdict<()>, LedgerError> {
    if require(transaction.on(), name).await? == frozen {
        return Ok(Verdict::Leave(()));
    }
    Statement::new("UPDATE consumers SET frozen = $2 WHERE name = $1")
        .bind(name)
        .bind(i64::from(frozen))
        .execute(transaction.on(), "freezing a consumer")
        .await?;
    transaction.append(&Entry {
        at: now(),
        by: Some(by.clone()),
        decision: Decision::Consumer {
            consumer: name.to_owned(),
            agency: None,
            change: if frozen { "frozen" } else { "unfrozen" }.to_owned(),
        },
    })?;
    Ok(Verdict::Commit(()))
}

/// What is stored of a secret. Our secrets are 256 random bits, so a plain hash cannot be searched and needs no salt.
fn hash_of(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

pub(super) async fn create_token(
    transaction: &mut Transaction<'_>,
    new: &NewToken,
    by: &Actor,
) -> Result<Verdict<(Uuid, TokenSecret)>, LedgerError> {
    if let Some(consumer) = &new.consumer {
        require(transaction.on(), consumer).await?;
    }
    let mut random = [0_u8; 32];
    SysRng.try_fill_bytes(&mut random).map_err(|error| LedgerError::NoRandomness(Arc::new(error)))?;
    let secret = random.iter().fold("tg_".to_owned(), |text, byte| format!("{text}{byte:02x}"));
    let (id, at) = (Uuid::now_v7(), now());
    Statement::new(
        "INSERT INTO tokens (id, secret_sha256, role, consumer, owner, created_us) VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(id.to_string())
    .bind(hash_of(&secret))
    .bind(new.role.as_str())
    .bind(new.consumer.as_deref())
    .bind(new.owner.as_deref())
    .bind(at.timestamp_micros())
    .execute(transaction.on(), "making a token")
    .await?;
    transaction.append(&Entry {
        at,
        by: Some(by.clone()),
        decision: Decision::Token {
            token: id,
            change: "created".to_owned(),
            role: Some(new.role),
            consumer: new.consumer.clone(),
            owner: new.owner.clone(),
        },
    })?;
    Ok(Verdict::Commit((id, TokenSecret(secret))))
}

pub(super) async fn revoke_token(
    transaction: &mut Transaction<'_>,
    id: Uuid,
    by: &Actor,
) -> Result<Verdict<()>, LedgerError> {
    let row = Statement::new("SELECT revoked_us FROM tokens WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(transaction.on(), "reading a token")
        .await?
        .ok_or(LedgerError::UnknownToken { id })?;
    if row.maybe_int(0)?.is_some() {
        return Ok(Verdict::Leave(()));
    }
    let at = now();
    Statement::new("UPDATE tokens SET revoked_us = $2 WHERE id = $1")
        .bind(id.to_string())
        .bind(at.timestamp_micros())
        .execute(transaction.on(), "revoking a token")
        .await?;
    transaction.append(&Entry {
        at,
        by: Some(by.clone()),
        decision: Decision::Token { token: id, change: "revoked".to_owned(), role: None, consumer: None, owner: None },
    })?;
    Ok(Verdict::Commit(()))
}

pub(super) async fn token_for(on: On<'_>, secret: &str) -> Result<Option<Token>, LedgerError> {
    let row = Statement::new(
        "SELECT id, role, consumer, owner, created_us FROM tokens WHERE secret_sha256 = $1 AND revoked_us IS NULL",
    )
    .bind(hash_of(secret))
    .fetch_optional(on, "reading a token")
    .await?;
    row.map(token_of).transpose()
}

/// The token of this identifier, revoked or not.
pub(super) async fn token(on: On<'_>, id: Uuid) -> Result<Option<Token>, LedgerError> {
    let row = Statement::new("SELECT id, role, consumer, owner, created_us FROM tokens WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(on, "reading a token")
        .await?;
    row.map(token_of).transpose()
}

fn token_of(row: Row) -> Result<Token, LedgerError> {
    Ok(Token {
        id: row.text(0)?.parse().map_err(|_| LedgerError::Corrupt { what: "token identifier" })?,
        role: row.text(1)?.parse().map_err(|_| LedgerError::Corrupt { what: "role" })?,
        consumer: row.maybe_text(2)?,
        owner: row.maybe_text(3)?,
        created: time(row.int(4)?)?,
    })
}
