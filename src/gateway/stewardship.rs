//! A steward's rights over its owner's datasets: register, change, suspend, resume, withdraw; see who asked; say yes or no.

use std::path::Path;

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::accounting::Loss;
use crate::catalog::{Catalog, Roots, Status};
use crate::ledger::{
    Approval, ChargeId, DatasetState, NewPolicy, PolicyOrigin, PolicyVersion, QueryOrder, QuerySearch, Role, Ruling,
};
use crate::policy::{Change, DatasetName};

use super::registry::{Admitted, InForce, Submission, admit};
use super::served::{FILE_GONE, Served};
use super::standing::{Standing, decide};
use super::{Caller, Code, Gateway, GatewayError, run_blocking, translate};

/// The most queries of one answer.
const MAX_QUERIES: u64 = 1000;

/// A policy that came into force.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PolicyInForce {
    /// The dataset.
    pub dataset: String,
    /// The version: SHA-256 of its canonical text, in hex.
    pub version: String,
    /// Whether it was in force already, word for word.
    pub unchanged: bool,
    /// A unified diff of the canonical texts.
    pub diff: String,
    /// What changed, in words, what loosens first.
    pub changes: Vec<String>,
    /// What its steward may not have meant.
    pub warnings: Vec<String>,
}

/// A version of a policy.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PolicyVersionRow {
    /// SHA-256 of its canonical text, in hex.
    pub version: String,
    /// When it came into force.
    pub at: DateTime<Utc>,
    /// By whom.
    pub by: String,
    /// `file`, `steward` or `operator`.
    pub origin: &'static str,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The TOML text.
    pub text: String,
    /// A unified diff of the canonical texts, against the version before.
    pub diff: String,
    /// What changed, in words, what loosens first.
    pub changes: Vec<String>,
}

/// One charge on a dataset, as its steward reads it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct QueryRow {
    /// The charge.
    pub charge: i64,
    /// The query, of which it may be one of several releases.
    pub query_id: Uuid,
    /// When.
    pub at: DateTime<Utc>,
    /// The dataset.
    pub dataset: String,
    /// Who asked.
    pub consumer: String,
    /// Its agency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agency: Option<String>,
    /// For what.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// The SQL text.
    pub sql: String,
    /// What the consumer's account paid, where it adds up ρ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rho: Option<f64>,
    /// What the consumer's account paid, where it adds up ε.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epsilon: Option<f64>,
    /// The δ of group selection.
    pub delta: f64,
    /// Whether the very same answer had been paid for by another consumer, so that `all_consumers` did not pay again.
    pub shared: bool,
    /// Its entry in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_index: Option<u64>,
}

/// A query that waits for a steward, or was decided.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ApprovalRow {
    /// Its identifier.
    pub id: Uuid,
    /// The dataset that the decision is about.
    pub dataset: String,
    /// Who asks.
    pub consumer: String,
    /// For what.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// The SQL text.
    pub sql: String,
    /// Its dry run: price, expected error, groups.
    pub dry_run: serde_json::Value,
    /// When it was asked.
    pub made: DateTime<Utc>,
    /// Until when its price is reserved.
    pub expires: DateTime<Utc>,
    /// `open`, `approved` or `denied`.
    pub state: &'static str,
    /// Who decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
}

impl From<Approval> for ApprovalRow {
    fn from(approval: Approval) -> Self {
        Self {
            id: approval.id,
            dataset: approval.dataset,
            consumer: approval.consumer,
            purpose: approval.purpose,
            sql: approval.sql,
            dry_run: serde_json::from_str(&approval.dry_run).unwrap_or_default(),
            made: approval.made,
            expires: approval.expires,
            state: approval.state.as_str(),
            decided_by: approval.decided_by,
            answer: approval.answer,
        }
    }
}

impl Gateway {
    /// Registers a dataset, a public table or a collection of the caller's owner. It is visible at once.
    ///
    /// # Errors
    /// `not_allowed`, `policy_invalid` with every fault, `conflict` when the name or the place is taken.
    pub async fn register(
        &self,
        caller: &Caller,
        submission: Submission<'_>,
        reason: Option<&str>,
    ) -> Result<PolicyInForce, GatewayError> {
        let owner = caller.steward()?;
        self.put_in_force(caller, owner, submission, None, reason).await
    }

    /// Puts a new version of a policy in force, for every query that begins after this.
    ///
    /// # Errors
    /// As [`Self::register`]; `not_found` when there is no such dataset.
    pub async fn change_policy(
        &self,
        caller: &Caller,
        name: &str,
        submission: Submission<'_>,
        reason: Option<&str>,
    ) -> Result<PolicyInForce, GatewayError> {
        let owner = caller.steward()?;
        let name = own(owner, name)?;
        let history = self.store.policy_history(&name.to_string()).await.map_err(translate::ledger)?;
        let last = history.last().ok_or_else(|| no_dataset(&name))?;
        self.put_in_force(caller, owner, submission, Some((&name, last)), reason).await
    }

    async fn put_in_force(
        &self,
        caller: &Caller,
        owner: &str,
        submission: Submission<'_>,
        last: Option<(&DatasetName, &PolicyVersion)>,
        reason: Option<&str>,
    ) -> Result<PolicyInForce, GatewayError> {
        self.evidence.check()?;
        reason.map_or(Ok(()), super::grants::words)?;
        self.current_catalog().await?;
        // One reading of the storage: what the policy is held against, and the number under which it may come into force.
        let (at_changes, stated) = self.store.policies().await.map_err(translate::ledger)?;
        let catalog = Served::of(at_changes, stated.clone(), &self.config, Some(self.catalog())).await?.catalog;
        let roots = Roots::new(self.config.policies.locations.get(owner).cloned().unwrap_or_default());
        let admitted = admitted(&catalog, roots, owner, submission, last).await?;
        let policy = admitted.policy();
        let (dataset, version) = (policy.name().to_string(), policy.version().to_owned());
        let unchanged = last.is_some_and(|(_, last)| last.version == version);
        if !unchanged {
            let changes = serde_json::to_string(admitted.changes())
                .map_err(|_| translate::internal("changes have no JSON form"))?;
            let new = NewPolicy {
                dataset: dataset.clone(),
                version: version.clone(),
                text: admitted.text().to_owned(),
                base: admitted.base().display().to_string(),
                held_to_roots: admitted.held_to_roots(),
                location: policy.location().map(str::to_owned),
                origin: PolicyOrigin::Steward,
                reason: reason.map(str::to_owned),
                changes,
                at_changes: Some(at_changes),
            };
            // A policy that does not go together with the others would stop all of them.
            Served::with(stated, &new, &self.config).await.map_err(|_| {
                GatewayError::new(Code::PolicyInvalid, "the policy does not go together with those that are registered")
                    .with_hint("place the data where no other policy's data lies or has lain, written without links")
            })?;
            self.store.put_policy(&new, &caller.actor()).await.map_err(translate::ledger)?;
            self.current_catalog().await?;
        }
        Ok(PolicyInForce {
            dataset,
            version,
            unchanged,
            diff: admitted.diff().to_owned(),
            changes: admitted.changes().iter().map(Change::to_string).collect(),
            warnings: admitted.warnings().iter().map(ToString::to_string).collect(),
        })
    }

    /// Suspends, resumes or withdraws a dataset: in force before the next query starts.
    ///
    /// # Errors
    /// `not_allowed`, `not_found`, `conflict` when it was withdrawn, `request_invalid` for a reason that is too long.
    pub async fn set_standing(
        &self,
        caller: &Caller,
        name: &str,
        standing: Standing,
        reason: Option<&str>,
    ) -> Result<(), GatewayError> {
        let owner = caller.steward()?;
        self.evidence.check()?;
        let catalog = self.current_catalog().await?;
        let name = own(owner, name)?;
        reason.map_or(Ok(()), super::grants::words)?;
        if matches!(&standing, Standing::Suspend { reason } if reason == FILE_GONE) {
            return Err(GatewayError::new(Code::RequestInvalid, "that reason is the gateway's own")
                .with_hint("say it in other words"));
        }
        let Some(status) = decide(&catalog, owner, &name, standing)? else { return Ok(()) };
        let (state, reason) = match &status {
            Status::Active => (DatasetState::Active, reason),
            Status::Suspended { reason } => (DatasetState::Suspended, Some(reason.as_str())),
            Status::Withdrawn => (DatasetState::Withdrawn, reason),
        };
        let set = self.store.set_dataset_state(&name.to_string(), state, reason, &caller.actor()).await;
        set.map_err(translate::ledger)?;
        self.current_catalog().await.map(|_| ())
    }

    /// Every version of a dataset's policy, the newest first, each with what it changed.
    ///
    /// # Errors
    /// `not_allowed` for callers who are neither its steward nor an auditor; `not_found`.
    pub async fn policy_versions(&self, caller: &Caller, name: &str) -> Result<Vec<PolicyVersionRow>, GatewayError> {
        let name = match (caller.role(), caller.owner()) {
            (Role::Auditor | Role::Operator, _) => name.parse().map_err(|_| no_name())?,
            _ => own(caller.steward()?, name)?,
        };
        let history = self.store.policy_history(&name.to_string()).await.map_err(translate::ledger)?;
        if history.is_empty() {
            return Err(no_dataset(&name));
        }
        let mut before = String::new();
        let mut rows: Vec<PolicyVersionRow> = Vec::with_capacity(history.len());
        for version in history {
            let changes: Vec<serde_json::Value> = serde_json::from_str(&version.changes).unwrap_or_default();
            let diff = crate::policy::diff(&before, &version.text);
            before.clone_from(&version.text);
            rows.push(PolicyVersionRow {
                version: version.version,
                at: version.at,
                by: version.actor,
                origin: version.origin.as_str(),
                reason: version.reason,
                text: version.text,
                diff,
                changes: changes.iter().map(in_words).collect(),
            });
        }
        rows.reverse();
        Ok(rows)
    }

    /// Who asked what of a dataset, from the newest.
    ///
    /// # Errors
    /// `not_allowed` for callers who are not its steward; `not_found`.
    pub async fn queries_of(
        &self,
        caller: &Caller,
        name: &str,
        before: Option<i64>,
        limit: u64,
    ) -> Result<Vec<QueryRow>, GatewayError> {
        let name = own(caller.steward()?, name)?;
        if !self.current_catalog().await?.names().any(|known| *known == name) {
            return Err(no_dataset(&name));
        }
        let search = QuerySearch {
            datasets: vec![name.to_string()],
            before: before.map(ChargeId),
            order: QueryOrder::Newest,
            limit: limit.clamp(1, MAX_QUERIES),
            ..QuerySearch::default()
        };
        let lines = self.store.queries(&search).await.map_err(translate::ledger)?;
        Ok(lines.into_iter().map(QueryRow::from).collect())
    }

    /// The queries that wait for the caller's yes, and those that it has decided, from the newest.
    ///
    /// # Errors
    /// `not_allowed` for callers who are no stewards.
    pub async fn approvals(&self, caller: &Caller) -> Result<Vec<ApprovalRow>, GatewayError> {
        let owner = caller.steward()?;
        let datasets = self.datasets_of_owner(owner).await?;
        let approvals = self.store.approvals(&datasets).await.map_err(translate::ledger)?;
        Ok(approvals.into_iter().map(ApprovalRow::from).collect())
    }

    /// A steward's decision about a query on one of its datasets.
    ///
    /// # Errors
    /// `not_allowed`, `not_found`, or `conflict` when it was decided before.
    pub async fn decide_approval(
        &self,
        caller: &Caller,
        id: Uuid,
        name: &str,
        yes: bool,
        answer: Option<&str>,
    ) -> Result<ApprovalRow, GatewayError> {
        let name = own(caller.steward()?, name)?;
        self.evidence.check()?;
        answer.map_or(Ok(()), super::grants::words)?;
        let ruling = Ruling { yes, answer: answer.map(str::to_owned) };
        let decided = self.store.decide_approval(id, &name.to_string(), &ruling, &caller.actor()).await;
        decided.map(ApprovalRow::from).map_err(translate::ledger)
    }
}

async fn admitted(
    catalog: &std::sync::Arc<Catalog>,
    roots: Roots,
    owner: &str,
    submission: Submission<'_>,
    last: Option<(&DatasetName, &PolicyVersion)>,
) -> Result<Admitted, GatewayError> {
    /// The same with texts of its own, for a thread that may read files.
    enum Sent {
        Toml(String),
        Json(String),
    }
    let sent = match submission {
        Submission::Toml(text) => Sent::Toml(text.to_owned()),
        Submission::Json(text) => Sent::Json(text.to_owned()),
    };
    let (catalog, owner) = (std::sync::Arc::clone(catalog), owner.to_owned());
    let last = last.map(|(name, last)| (name.clone(), last.text.clone(), last.base.clone()));
    run_blocking(move || {
        let submission = match &sent {
            Sent::Toml(text) => Submission::Toml(text),
            Sent::Json(text) => Submission::Json(text),
        };
        let in_force = last.as_ref().map(|(name, text, base)| InForce { name, text, base: Path::new(base) });
        admit(&catalog, &roots, &owner, submission, in_force)
    })
    .await?
}

/// A dataset of this owner's.
fn own(owner: &str, name: &str) -> Result<DatasetName, GatewayError> {
    let name: DatasetName = name.parse().map_err(|_| no_name())?;
    if name.owner() == owner {
        return Ok(name);
    }
    Err(GatewayError::new(Code::NotAllowed, format!("this token speaks for the owner {owner} alone"))
        .with_hint("use a token of the dataset's owner"))
}

fn no_name() -> GatewayError {
    GatewayError::new(Code::NotFound, "there is no dataset of that name")
        .with_hint("GET /v1/datasets lists the datasets")
}

fn no_dataset(name: &DatasetName) -> GatewayError {
    GatewayError::new(Code::NotFound, format!("there is no dataset {name}"))
        .with_hint("GET /v1/datasets lists the datasets")
}

/// A stored change as it is told.
fn in_words(change: &serde_json::Value) -> String {
    let text = |key: &str| change[key].as_str().unwrap_or_default();
    format!("{}: {}: {} becomes {}: {}", text("effect"), text("key"), text("was"), text("becomes"), text("meaning"))
}

impl From<crate::ledger::QueryLine> for QueryRow {
    fn from(line: crate::ledger::QueryLine) -> Self {
        let (rho, epsilon) = match line.cost.loss {
            Loss::Zcdp(rho) => (Some(rho.to_f64()), None),
            Loss::Pure(epsilon) => (None, Some(epsilon.to_f64())),
        };
        Self {
            charge: line.charge.0,
            query_id: line.query_id,
            at: line.at,
            dataset: line.dataset,
            consumer: line.consumer,
            agency: line.agency,
            purpose: line.purpose,
            sql: line.sql,
            rho,
            epsilon,
            delta: line.cost.delta.to_f64(),
            shared: line.shared,
            log_index: line.log_index,
        }
    }
}
