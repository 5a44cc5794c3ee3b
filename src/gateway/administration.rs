//! What an operator does on the storage, before any server runs or beside it.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::accounting::{Delta, Epsilon};
use crate::catalog::{Catalog, Entry};
use crate::config::Config;
use crate::ledger::{self, Actor, Consumer, Role, Store};
use crate::policy::{DatasetName, DatasetPolicy, Period};

use super::charge::Payer;
use super::{BudgetLine, Code, GatewayError, budget, run_blocking, translate};

/// Who works on the storage from here.
const OPERATOR: Actor = Actor::command_line();

/// A consumer, as an operator lists it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ConsumerRow {
    /// Its name.
    pub name: String,
    /// The agency that it belongs to.
    pub agency: Option<String>,
    /// Whether it is frozen: it can then neither pay nor be answered.
    pub frozen: bool,
    /// When it was added.
    pub created_at: DateTime<Utc>,
}

impl From<Consumer> for ConsumerRow {
    fn from(consumer: Consumer) -> Self {
        let Consumer { name, agency, frozen, created } = consumer;
        Self { name, agency, frozen, created_at: created }
    }
}

/// A new token. The secret is shown once.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// What it is revoked by.
    pub id: String,
    /// What its holder sends.
    pub secret: String,
}

/// The storage, in an operator's hands.
pub struct Administration {
    store: Arc<dyn Store>,
    config: Config,
}

impl Administration {
    /// Opens the storage that `config` names.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub async fn open(config: &Config) -> Result<Self, GatewayError> {
        let store = ledger::open(&config.storage.url).await.map_err(|error| translate::operator_ledger(&error))?;
        Ok(Self { store, config: config.clone() })
    }

    /// Adds a consumer.
    ///
    /// # Errors
    /// When the name is taken or is no name.
    pub async fn add_consumer(&self, name: &str, agency: Option<&str>) -> Result<(), GatewayError> {
        self.store.add_consumer(name, agency, &OPERATOR).await.map_err(|error| translate::operator_ledger(&error))
    }

    /// All consumers.
    ///
    /// # Errors
    /// When the storage fails.
    pub async fn consumers(&self) -> Result<Vec<ConsumerRow>, GatewayError> {
        let consumers = self.store.consumers().await.map_err(|error| translate::operator_ledger(&error))?;
        Ok(consumers.into_iter().map(ConsumerRow::from).collect())
    }

    /// Freezes a consumer, or thaws it.
    ///
    /// # Errors
    /// When there is none of that name.
    pub async fn set_frozen(&self, name: &str, frozen: bool) -> Result<(), GatewayError> {
        self.store.set_frozen(name, frozen, &OPERATOR).await.map_err(|error| translate::operator_ledger(&error))
    }

    /// Makes a token.
    ///
    /// # Errors
    /// When the role needs a consumer or an owner that is not given, or is not known.
    pub async fn create_token(
        &self,
        role: Role,
        consumer: Option<&str>,
        owner: Option<&str>,
    ) -> Result<NewToken, GatewayError> {
        let new = ledger::NewToken { role, consumer: consumer.map(Into::into), owner: owner.map(Into::into) };
        let (id, secret) = self.store.create_token(&new, &OPERATOR).await.map_err(|error| translate::operator_ledger(&error))?;
        Ok(NewToken { id: id.to_string(), secret: secret.expose().to_owned() })
    }

    /// Revokes a token.
    ///
    /// # Errors
    /// When there is none.
    pub async fn revoke_token(&self, id: &str) -> Result<(), GatewayError> {
        let id: Uuid = id.parse().map_err(|_| {
            GatewayError::new(Code::NotFound, "a token's identifier is the one printed when it was made")
        })?;
        self.store.revoke_token(id, &OPERATOR).await.map_err(|error| translate::operator_ledger(&error))
    }

    /// Grants a consumer a budget on a dataset, within the owner's cap.
    ///
    /// # Errors
    /// When an amount, the period, the dataset or the consumer is none.
    pub async fn set_budget(
        &self,
        consumer: &str,
        dataset: &str,
        epsilon: f64,
        delta: f64,
        per: &str,
    ) -> Result<(), GatewayError> {
        let invalid = |what: String| GatewayError::new(Code::RequestInvalid, what);
        if !epsilon.is_finite() || epsilon <= 0.0 {
            return Err(invalid("epsilon must be a finite number above 0".into()));
        }
        let grant = Grant {
            epsilon: Epsilon::floor_from(epsilon).map_err(|error| invalid(format!("epsilon {error}")))?,
            delta: Delta::floor_from(delta).map_err(|error| invalid(format!("delta {error}")))?,
            per: Period::ALL
                .into_iter()
                .find(|known| known.as_str() == per)
                .ok_or_else(|| invalid("the period is month, quarter, year or lifetime".into()))?
                .as_str()
                .to_owned(),
        };
        let datasets = self.datasets().await?;
        let policy =
            dataset.parse().ok().and_then(|name: DatasetName| datasets.get(&name).cloned()).ok_or_else(|| {
                GatewayError::new(Code::NotFound, format!("there is no private dataset {dataset}"))
                    .with_hint("grants are made on datasets, each member of a collection by itself")
            })?;
        let cap = &policy.budget.per_consumer;
        if grant.epsilon > cap.epsilon || grant.delta > cap.delta {
            return Err(invalid(format!(
                "the owner of {dataset} allows a consumer at most epsilon {} and delta {}",
                cap.epsilon, cap.delta
            )));
        }
        self.store.set_grant(consumer, dataset, &grant, &OPERATOR).await.map_err(|error| translate::operator_ledger(&error))
    }

    /// A consumer's accounts on every dataset.
    ///
    /// # Errors
    /// When there is no such consumer.
    pub async fn budget_of(&self, consumer: &str) -> Result<Vec<BudgetLine>, GatewayError> {
        let known = self.store.consumer(consumer).await.map_err(|error| translate::operator_ledger(&error))?;
        let known = known.ok_or_else(|| {
            GatewayError::new(Code::NotFound, "there is no consumer of that name")
                .with_hint("`tollgate consumer list` shows them")
        })?;
        let payer = Payer { consumer, agency: known.agency.as_deref(), now: Utc::now() };
        budget::lines(self.store.as_ref(), &self.datasets().await?, payer).await
    }

    async fn datasets(&self) -> Result<BTreeMap<DatasetName, Arc<DatasetPolicy>>, GatewayError> {
        let dir = self.config.policies.dir.clone();
        let catalog = run_blocking(move || Catalog::load(&dir)).await?.map_err(translate::operator_catalog)?;
        Ok(catalog
            .entries()
            .filter_map(|(name, entry)| match entry {
                Entry::Private(policy, _) => Some((name.clone(), Arc::clone(policy))),
                _ => None,
            })
            .collect())
    }
}
