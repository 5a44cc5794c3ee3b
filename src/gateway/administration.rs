//! What an operator does on the storage, before any server runs or beside it.

use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::audit::anchor::Agreement;
use crate::audit::checkpoint::SignedCheckpoint;
use crate::audit::consistency::ConsistencyProof;
use crate::audit::merkle::{root_at, root_nodes};
use crate::audit::receipt::Receipt;
use crate::catalog::Catalog;
use crate::config::Config;
use crate::ledger::{self, Actor, CheckReport, Consumer, Forgotten, Role, Ruling, Store};

use super::anchoring::Evidence;
use super::charge::Payer;
use super::grants::{BudgetRequestRow, GrantForm, admissible, still_admissible, words};
use super::log::{Log, LogPage};
use super::served::{Served, import_files};
use super::{BudgetLine, Code, GatewayError, budget, retention, translate};

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

/// How a copy of the storage stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CopyReport {
    /// What was gone through.
    #[serde(flatten)]
    pub report: CheckReport,
    /// How many of the entries that were signed it lacks: what happened since it was made. Absent where no checkpoint is
    /// kept outside the storage.
    pub missing: Option<u64>,
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

    /// Opens the storage that `config` names, where there is one: to look at it, which must not make it.
    ///
    /// # Errors
    /// `not_found` where there is none; when it cannot be opened.
    pub async fn open_existing(config: &Config) -> Result<Self, GatewayError> {
        let store =
            ledger::open_existing(&config.storage.url).await.map_err(|error| translate::operator_ledger(&error))?;
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

    /// Every request for a larger budget, the newest first.
    ///
    /// # Errors
    /// When the storage fails.
    pub async fn budget_requests(&self) -> Result<Vec<BudgetRequestRow>, GatewayError> {
        let requests = self.store.budget_requests(None).await.map_err(|error| translate::operator_ledger(&error))?;
        Ok(requests.into_iter().map(BudgetRequestRow::from).collect())
    }

    /// Decides a request for a larger budget. A yes makes its grant, if the owner still allows it.
    ///
    /// # Errors
    /// When there is no such request, it was decided before, or it is more than the owner allows now.
    pub async fn decide_budget_request(
        &self,
        id: Uuid,
        yes: bool,
        answer: Option<&str>,
    ) -> Result<BudgetRequestRow, GatewayError> {
        answer.map_or(Ok(()), words)?;
        if yes {
            still_admissible(self.store.as_ref(), &*self.catalog().await?, id).await?;
        }
        let ruling = Ruling { yes, answer: answer.map(str::to_owned) };
        let decided = self.store.decide_budget_request(id, &ruling, &OPERATOR).await;
        decided.map(BudgetRequestRow::from).map_err(|error| translate::operator_ledger(&error))
    }

    /// Entries of the log from the place `from` on.
    ///
    /// # Errors
    /// When the storage fails.
    pub async fn log(&self, from: u64, limit: u64) -> Result<LogPage, GatewayError> {
        Log::new(self.store.as_ref(), &self.evidence().await?).page(from, limit, &[]).await
    }

    /// The signed checkpoint of the log as it stands.
    ///
    /// # Errors
    /// `ledger_frozen` when the log does not agree with what was signed before; when the storage fails.
    pub async fn checkpoint(&self) -> Result<SignedCheckpoint, GatewayError> {
        Log::new(self.store.as_ref(), &self.evidence().await?).checkpoint().await
    }

    /// The receipt of an entry of the log.
    ///
    /// # Errors
    /// `not_found` where there is none; as [`Self::checkpoint`].
    pub async fn proof(&self, index: u64) -> Result<Receipt, GatewayError> {
        Log::new(self.store.as_ref(), &self.evidence().await?).receipt(index, &[], |_| true).await
    }

    /// The proof that the log of `new` entries, or of now, continues that of `old`.
    ///
    /// # Errors
    /// `request_invalid` for sizes that the log does not have; as [`Self::checkpoint`].
    pub async fn consistency(&self, old: u64, new: Option<u64>) -> Result<ConsistencyProof, GatewayError> {
        Log::new(self.store.as_ref(), &self.evidence().await?).consistency(old, new).await
    }

    /// The log, or what it says of one dataset, as a file that is verified offline.
    ///
    /// # Errors
    /// `not_found` where there is no such dataset; as [`Self::checkpoint`].
    pub async fn export(&self, dataset: Option<&str>) -> Result<Vec<u8>, GatewayError> {
        if let Some(name) = dataset
            && !self.catalog().await?.names().any(|known| known.to_string() == name)
        {
            return Err(GatewayError::new(Code::NotFound, "there is no dataset of that name"));
        }
        Log::new(self.store.as_ref(), &self.evidence().await?).export(dataset).await
    }

    /// The public key that checkpoints are verified with.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn verifier_key(&self) -> Result<String, GatewayError> {
        Ok(self.evidence().await?.verifier().to_string())
    }

    async fn evidence(&self) -> Result<Evidence, GatewayError> {
        Evidence::open(self.store.as_ref(), &self.config).await
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
        self.evidence().await?.check()?;
        Ok(report)
    }

    /// Proves that a copy of the storage agrees with itself, that its log is the beginning of the log that was signed, and
    /// that of the log in the storage, where that has as many entries.
    ///
    /// # Errors
    /// `not_found` when there is no such file, else with everything that was found.
    pub async fn check_copy(&self, copy: &Path) -> Result<CopyReport, GatewayError> {
        if !copy.is_file() {
            return Err(GatewayError::new(Code::NotFound, format!("there is no file {}", copy.display())));
        }
        let copied = ledger::open(&format!("sqlite://{}", copy.display())).await;
        let copied = copied.map_err(|error| translate::operator_ledger(&error))?;
        let report = copied.check().await.map_err(|error| translate::operator_ledger(&error))?;
        let another = || {
            GatewayError::new(Code::Conflict, format!("{} is no copy of this ledger", copy.display())).with_hint(
                "its log is not the beginning of the log that was signed: it was changed, or is another gateway's",
            )
        };
        let missing = match Evidence::stands(copied.as_ref(), &self.config).await? {
            Agreement::Agrees => Some(0),
            Agreement::Behind { missing } => Some(missing),
            Agreement::Unanchored { .. } => None,
            Agreement::Forked { .. } | Agreement::Incomplete { .. } => return Err(another()),
        };
        let operator = |error| translate::operator_ledger(&error);
        let (old, new) = (copied.log_tree().await.map_err(operator)?, self.store.log_tree().await.map_err(operator)?);
        if old.size() <= new.size() {
            let nodes = self.store.log_nodes(&root_nodes(old.size())).await.map_err(operator)?;
            if root_at(old.size(), &|id| nodes.get(&id).copied()) != Some(old.root()) {
                return Err(another());
            }
        }
        Ok(CopyReport { report, missing })
    }

    /// How much of what may be forgotten is older than `[retention]` says; `None` where it keeps everything for ever.
    ///
    /// # Errors
    /// When the storage fails.
    pub async fn forgettable(&self) -> Result<Option<Forgotten>, GatewayError> {
        let expiry = retention::expiry(&self.config.retention, Utc::now());
        if expiry.keeps_all() {
            return Ok(None);
        }
        self.store.forgettable(&expiry).await.map(Some).map_err(|error| translate::operator_ledger(&error))
    }

    /// Forgets it, as a running gateway does once an hour, and says how much it was.
    ///
    /// # Errors
    /// `ledger_frozen` when the storage does not agree with the checkpoint outside it, and when it fails.
    pub async fn forget(&self) -> Result<Option<Forgotten>, GatewayError> {
        let expiry = retention::expiry(&self.config.retention, Utc::now());
        if expiry.keeps_all() {
            return Ok(None);
        }
        self.evidence().await?.check()?;
        let forgotten = retention::forget(self.store.as_ref(), &expiry, &OPERATOR).await;
        forgotten.map(Some).map_err(|error| translate::operator_ledger(&error))
    }

    /// Begins a new checkpoint outside the storage, where the old one is lost.
    ///
    /// # Errors
    /// When there is one, whether the storage agrees with it or not: nothing else may take its place.
    pub async fn adopt(&self, reason: &str) -> Result<(), GatewayError> {
        words(reason)?;
        Evidence::adopt(self.store.as_ref(), &self.config, reason).await
    }

    /// The storage.
    pub(super) fn store(&self) -> &dyn Store {
        self.store.as_ref()
    }

    /// The datasets as the storage has them, after the policy files that have changed.
    pub(super) async fn catalog(&self) -> Result<Arc<Catalog>, GatewayError> {
        // Before the first start the storage knows of no policies. After it, a file comes into force at the next start and no
        // sooner: to look at a report must not change what is served.
        if self.store.policy_changes().await.map_err(|error| translate::operator_ledger(&error))? == 0 {
            import_files(self.store.as_ref(), &self.config.policies.dir).await?;
        }
        Ok(Served::read(self.store.as_ref(), &self.config, None).await?.catalog)
    }
}
