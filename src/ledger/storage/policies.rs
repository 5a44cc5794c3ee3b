//! Policies and states of datasets in the storage.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use super::super::{
    Actor, DatasetState, Decision, Entry, LedgerError, NewPolicy, PolicyOrigin, PolicyVersion, StatedPolicy,
};
use super::columns::{now, time};
use super::database::{On, Reader, Row, Statement};
use super::transaction::{Transaction, Verdict};

const READING: &str = "reading policies";

const COLUMNS: &str = "SELECT number, dataset, version, text, base, held, location, origin, actor, reason, changes, at_us FROM policy_versions";

fn version(row: &Row) -> Result<PolicyVersion, LedgerError> {
    Ok(PolicyVersion {
        number: row.int(0)?,
        dataset: row.text(1)?,
        version: row.text(2)?,
        text: row.text(3)?,
        base: row.text(4)?,
        held_to_roots: row.int(5)? != 0,
        location: row.maybe_text(6)?,
        origin: PolicyOrigin::read(&row.text(7)?)?,
        actor: row.text(8)?,
        reason: row.maybe_text(9)?,
        changes: row.text(10)?,
        at: time(row.int(11)?)?,
    })
}

/// Puts a version in force, unless it is in force already.
pub(super) async fn put(
    transaction: &mut Transaction<'_>,
    new: &NewPolicy,
    by: &Actor,
) -> Result<Verdict<()>, LedgerError> {
    let doing = transaction.doing();
    if matches!(state_of(transaction.on(), &new.dataset).await?, Some((DatasetState::Withdrawn, _))) {
        return Err(LedgerError::Withdrawn { dataset: new.dataset.clone() });
    }
    if new.at_changes.is_some_and(|changes| changes != transaction.state.policies) {
        return Err(LedgerError::PoliciesChanged);
    }
    let in_force =
        Statement::new("SELECT version, base FROM policy_versions WHERE dataset = $1 ORDER BY number DESC LIMIT 1")
            .bind(new.dataset.as_str())
            .fetch_optional(transaction.on(), READING)
            .await?;
    if let Some(row) = in_force
        && row.text(0)? == new.version
        && row.text(1)? == new.base
    {
        return Ok(Verdict::Leave(()));
    }
    let at = now();
    transaction.state.policies += 1;
    Statement::new(
        "INSERT INTO policy_versions (number, dataset, version, text, base, held, location, origin, actor, reason, changes, at_us) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(transaction.state.policies)
    .bind(new.dataset.as_str())
    .bind(new.version.as_str())
    .bind(new.text.as_str())
    .bind(new.base.as_str())
    .bind(i64::from(new.held_to_roots))
    .bind(new.location.as_deref())
    .bind(new.origin.as_str())
    .bind(by.to_string())
    .bind(new.reason.as_deref())
    .bind(new.changes.as_str())
    .bind(at.timestamp_micros())
    .execute(transaction.on(), doing)
    .await?;
    Statement::new(
        "INSERT INTO dataset_states (dataset, state, reason, actor, at_us) VALUES ($1, 'active', NULL, $2, $3) \
         ON CONFLICT (dataset) DO NOTHING",
    )
    .bind(new.dataset.as_str())
    .bind(by.to_string())
    .bind(at.timestamp_micros())
    .execute(transaction.on(), doing)
    .await?;
    transaction.append(&Entry {
        at,
        by: Some(by.clone()),
        decision: Decision::Policy {
            dataset: new.dataset.clone(),
            version: new.version.clone(),
            text_sha256: hash_of(&new.text),
            origin: new.origin.as_str().to_owned(),
            changes: serde_json::from_str(&new.changes).unwrap_or(serde_json::Value::Null),
            reason: new.reason.clone(),
        },
    })?;
    Ok(Verdict::Commit(()))
}

/// SHA-256 of a text, in hex.
fn hash_of(text: &str) -> String {
    Sha256::digest(text).iter().fold(String::with_capacity(64), |hex, byte| format!("{hex}{byte:02x}"))
}

/// A dataset's state, and why.
async fn state_of(on: On<'_>, dataset: &str) -> Result<Option<(DatasetState, Option<String>)>, LedgerError> {
    let row = Statement::new("SELECT state, reason FROM dataset_states WHERE dataset = $1")
        .bind(dataset)
        .fetch_optional(on, READING)
        .await?;
    row.map(|row| Ok((DatasetState::read(&row.text(0)?)?, row.maybe_text(1)?))).transpose()
}

/// Suspends, resumes or withdraws a dataset.
pub(super) async fn set_state(
    transaction: &mut Transaction<'_>,
    dataset: &str,
    state: DatasetState,
    reason: Option<&str>,
    by: &Actor,
) -> Result<Verdict<()>, LedgerError> {
    match state_of(transaction.on(), dataset).await? {
        None => return Err(LedgerError::UnknownDataset { dataset: dataset.to_owned() }),
        Some((DatasetState::Withdrawn, _)) if state != DatasetState::Withdrawn => {
            return Err(LedgerError::Withdrawn { dataset: dataset.to_owned() });
        }
        // Another reason is another decision.
        Some((now, why)) if now == state && why.as_deref() == reason => return Ok(Verdict::Leave(())),
        Some((DatasetState::Active, _)) if state == DatasetState::Active => return Ok(Verdict::Leave(())),
        Some(_) => {}
    }
    let (at, doing) = (now(), transaction.doing());
    transaction.state.policies += 1;
    Statement::new("UPDATE dataset_states SET state = $2, reason = $3, actor = $4, at_us = $5 WHERE dataset = $1")
        .bind(dataset)
        .bind(state.as_str())
        .bind(reason)
        .bind(by.to_string())
        .bind(at.timestamp_micros())
        .execute(transaction.on(), doing)
        .await?;
    transaction.append(&Entry {
        at,
        by: Some(by.clone()),
        decision: Decision::Dataset {
            dataset: dataset.to_owned(),
            state: state.as_str().to_owned(),
            reason: reason.map(str::to_owned),
        },
    })?;
    Ok(Verdict::Commit(()))
}

/// Every dataset as it stands, and the number of changes that led there: both of one moment.
pub(super) async fn all(reader: &mut Reader) -> Result<(i64, Vec<StatedPolicy>), LedgerError> {
    reader.begin_snapshot(READING).await?;
    let changes = super::log::state(reader.on()).await?.policies;
    let states =
        Statement::new("SELECT dataset, state, reason FROM dataset_states").fetch_all(reader.on(), READING).await?;
    let mut states: HashMap<String, (DatasetState, Option<String>)> = states
        .iter()
        .map(|row| Ok((row.text(0)?, (DatasetState::read(&row.text(1)?)?, row.maybe_text(2)?))))
        .collect::<Result<_, LedgerError>>()?;
    let select = Statement::new(
        "SELECT number, dataset, version, text, base, held, location, origin, actor, reason, changes, at_us FROM policy_versions v \
         WHERE number = (SELECT max(number) FROM policy_versions w WHERE w.dataset = v.dataset) ORDER BY number",
    );
    let mut places: HashMap<String, Vec<String>> = HashMap::new();
    let taken = Statement::new("SELECT DISTINCT dataset, location FROM policy_versions WHERE location IS NOT NULL");
    for row in taken.fetch_all(reader.on(), READING).await? {
        places.entry(row.text(0)?).or_default().push(row.text(1)?);
    }
    let mut policies = Vec::new();
    for row in select.fetch_all(reader.on(), READING).await? {
        let policy = version(&row)?;
        let (state, reason) =
            states.remove(&policy.dataset).ok_or(LedgerError::Corrupt { what: "policy without a state" })?;
        let mut former_locations = places.remove(&policy.dataset).unwrap_or_default();
        former_locations.retain(|place| policy.location.as_ref() != Some(place));
        policies.push(StatedPolicy { policy, state, reason, former_locations });
    }
    reader.end(READING).await?;
    Ok((changes, policies))
}

/// Every version of a dataset's policy, from the first.
pub(super) async fn history(on: On<'_>, dataset: &str) -> Result<Vec<PolicyVersion>, LedgerError> {
    let select = Statement::within(format!("{COLUMNS} WHERE dataset"), [dataset.into()], "ORDER BY number");
    select.fetch_all(on, READING).await?.iter().map(version).collect()
}

/// The newest version of each policy that came from a file: what the files of the folder are compared with.
pub(super) async fn from_files(on: On<'_>) -> Result<Vec<PolicyVersion>, LedgerError> {
    let select = Statement::new(
        "SELECT number, dataset, version, text, base, held, location, origin, actor, reason, changes, at_us FROM policy_versions v \
         WHERE number = (SELECT max(number) FROM policy_versions w WHERE w.dataset = v.dataset AND w.origin = 'file') \
         ORDER BY number",
    );
    select.fetch_all(on, READING).await?.iter().map(version).collect()
}

/// That the newest state and version of each dataset are those of the log's newest entries about it.
pub(super) async fn check(reader: &mut Reader, findings: &mut Vec<String>) -> Result<(), LedgerError> {
    let rows = Statement::new("SELECT entry FROM log_entries WHERE kind IN ('policy', 'dataset') ORDER BY idx")
        .fetch_all(reader.on(), READING)
        .await?;
    let (mut versions, mut states) = (HashMap::new(), HashMap::new());
    for row in rows {
        let entry: serde_json::Value =
            serde_json::from_str(&row.text(0)?).map_err(|_| LedgerError::Corrupt { what: "entry of the log" })?;
        let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        if entry["kind"] == "policy" {
            versions.insert(text("dataset"), (text("version"), text("text_sha256")));
        } else {
            states.insert(text("dataset"), text("state"));
        }
    }
    let select = Statement::new(
        "SELECT s.dataset, s.state, v.version, v.text FROM dataset_states s JOIN policy_versions v ON v.dataset = s.dataset \
         WHERE v.number = (SELECT max(number) FROM policy_versions w WHERE w.dataset = s.dataset)",
    );
    for row in select.fetch_all(reader.on(), READING).await? {
        let dataset = row.text(0)?;
        let state = states.remove(&dataset).unwrap_or_else(|| DatasetState::Active.as_str().to_owned());
        let version = versions.remove(&dataset).unwrap_or_default();
        if state != row.text(1)? || version != (row.text(2)?, hash_of(&row.text(3)?)) {
            findings.push(format!("the policy or the state of {dataset} is not what the log says of it"));
        }
    }
    findings
        .extend(versions.into_keys().map(|dataset| format!("the policy of {dataset} is in the log and not in force")));
    Ok(())
}
