//! What an operator does on the storage, before any server runs or beside it.

use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::catalog::Catalog;
use crate::config::Config;
use crate::ledger::{self, Actor, CheckReport, Consumer, Role, Store};

use super::anchoring::Evidence;
use super::charge::Payer;
use super::grants::{GrantForm, admissible};
use super::served::{Served, import_files};
use super::{BudgetLine, Code, GatewayError, budget, translate};

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
        let (id, secret) =
            self.store.create_token(&new, &OPERATOR).await.map_err(|error| translate::operator_ledger(&error))?;
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
    pub async fn set_budget(&self, consumer: &str, dataset: &str, form: GrantForm) -> Result<(), GatewayError> {
        let grant = admissible(&*self.catalog().await?, dataset, form)?;
        self.store
            .set_grant(consumer, dataset, &grant, &OPERATOR)
            .await
            .map_err(|error| translate::operator_ledger(&error))
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
        let catalog = self.catalog().await?;
        let payer = Payer { consumer, agency: known.agency.as_deref(), now: Utc::now(), catalog: &catalog };
        budget::lines(self.store.as_ref(), &budget::datasets_of(payer), payer).await
    }

    /// Makes a consistent copy of the storage, while it is used.
    ///
    /// # Errors
    /// When the storage fails, the place is taken, or the storage is PostgreSQL's, which has its own tools.
    pub async fn backup(&self, to: &Path) -> Result<(), GatewayError> {
        self.store.backup(to).await.map_err(|error| translate::operator_ledger(&error))
    }

    /// Proves that the ledger agrees with itself, and with the checkpoint that is kept outside it.
    ///
    /// # Errors
    /// With everything that was found.
    pub async fn check(&self) -> Result<CheckReport, GatewayError> {
        let report = self.store.check().await.map_err(|error| translate::operator_ledger(&error))?;
        Evidence::open(self.store.as_ref(), &self.config).await?.check()?;
        Ok(report)
    }

    /// Begins a new checkpoint outside the storage, where the old one is lost.
    ///
    /// # Errors
    /// When there is one, whether the storage agrees with it or not: nothing else may take its place.
    pub async fn adopt(&self, reason: &str) -> Result<(), GatewayError> {
        super::grants::words(reason)?;
        Evidence::adopt(self.store.as_ref(), &self.config, reason).await
    }

    /// The storage.
    pub(super) fn store(&self) -> &dyn Store {
        self.store.as_ref()
    }

    /// The datasets as the storage has them, after the policy files that have changed.
    pub(super) async fn catalog(&self) -> Result<Arc<Catalog>, GatewayError> {
        import_files(self.store.as_ref(), &self.config.policies.dir).await?;
        Ok(Served::read(self.store.as_ref(), &self.config, None).await?.catalog)
    }
}
