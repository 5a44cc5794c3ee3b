//! The gateway: one use-case function per action, the same for every interface (DESIGN 5).
//!
//! ```text
//! Question ─▶ parse ─▶ authorise ─▶ plan ─▶ analyse ─▶ price ─┬─▶ dry run: Answer without rows
//!                                                              └─▶ charge (durable) ─▶ draw, keep ─▶ post ─▶ Answer
//! ```
//!
//! Authentication, policy, price and ledger sit here and nowhere else, so that no interface can forget one.

pub mod administration;
mod admission;
mod alerts;
mod analyses;
mod anchoring;
mod answer;
mod approval;
mod ask;
mod authorise;
mod budget;
mod charge;
mod computed;
mod consumers;
mod describe;
mod draw;
mod error;
mod evidence;
mod explain;
mod facts;
mod free;
mod grants;
mod in_flight;
mod kept;
mod log;
mod price;
mod question;
mod refusals;
mod registry;
pub mod reports;
mod retention;
mod served;
mod standing;
mod stewardship;
#[cfg(test)]
mod tests;
mod translate;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use uuid::Uuid;

use crate::catalog::Catalog;
use crate::cluster::{ClusterOptions, ClusterSecret};
use crate::config::Config;
use crate::engine::{Engine, EngineConfig};
use crate::ledger::{self, Actor, Store};
use crate::sql::Limits;

use admission::{Admission, AdmissionLimits};
use served::Served;

pub use crate::analysis::BoundsRequest;
pub use crate::ledger::CheckReport;
pub use crate::ledger::Forgotten;
pub use crate::ledger::Role;
pub use administration::{Administration, ConsumerRow, CopyReport, NewToken};
pub use answer::{
    Accuracy, Answer, BudgetLine, ChargeLine, ColumnDescription, DatasetDescription, Diagnostics, FreeAlternative,
    GroupFacts, PrivacyFacts, ReceiptFacts,
};
pub use error::{Code, GatewayError};
pub use grants::{BudgetRequestRow, GrantForm, PeriodForm};
pub use log::{LogPage, LogRow};
pub use question::{Question, TargetError};
pub use registry::{Admitted, InForce, Submission, admit};
pub use standing::{Standing, Stored, assemble, decide};
pub use stewardship::{ApprovalRow, PolicyInForce, PolicyVersionRow, QueryRow};

/// Who is calling, proven by a token.
#[derive(Debug, Clone)]
pub struct Caller {
    role: Role,
    consumer: Option<String>,
    agency: Option<String>,
    owner: Option<String>,
    token: Uuid,
}

impl Caller {
    /// The token's role.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// The consumer that an analyst asks for.
    #[must_use]
    pub fn consumer(&self) -> Option<&str> {
        self.consumer.as_deref()
    }

    /// The owner that a steward speaks for.
    #[must_use]
    pub fn owner(&self) -> Option<&str> {
        self.owner.as_deref()
    }

    /// The caller as the log names it.
    fn actor(&self) -> Actor {
        Actor::token(self.role, self.token)
    }

    /// That the caller administers budgets. The operator may do what an administrator may, at the command line as well.
    fn administrator(&self) -> Result<(), GatewayError> {
        self.is_one_of(
            &[Role::BudgetAdmin, Role::Operator],
            "administers no budgets",
            "use a budget administrator's token",
        )
    }

    /// The owner that the caller speaks for.
    fn steward(&self) -> Result<&str, GatewayError> {
        match (self.role, &self.owner) {
            (Role::Steward, Some(owner)) => Ok(owner),
            _ => Err(GatewayError::new(Code::NotAllowed, format!("a token of role {} speaks for no owner", self.role))
                .with_hint("use a steward's token")),
        }
    }

    fn is_one_of(&self, roles: &[Role], what: &str, hint: &str) -> Result<(), GatewayError> {
        if roles.contains(&self.role) {
            return Ok(());
        }
        Err(GatewayError::new(Code::NotAllowed, format!("a token of role {} {what}", self.role)).with_hint(hint))
    }

    fn analyst(&self) -> Result<&str, GatewayError> {
        match (self.role, &self.consumer) {
            (Role::Analyst, Some(consumer)) => Ok(consumer),
            _ => Err(GatewayError::new(
                Code::NotAllowed,
                format!("a token of role {} asks no questions and has no budget", self.role),
            )
            .with_hint("use an analyst's token")),
        }
    }
}

/// What a running gateway is made of.
pub struct Gateway {
    /// What is served. A request takes it once, so that one query sees one catalog.
    served: ArcSwap<Served>,
    config: Config,
    engine: Engine,
    store: Arc<dyn Store>,
    evidence: anchoring::Evidence,
    alerts: alerts::Alerts,
    analyses: analyses::Analyses,
    refusals: refusals::Refusals,
    in_flight: in_flight::InFlight,
    admission: Admission,
    limits: GatewayLimits,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// How a gateway bounds a query.
#[derive(Debug, Clone, Copy)]
struct GatewayLimits {
    sql: Limits,
    max_cells: usize,
    timeout: Duration,
    response_quantum: Duration,
}

/// Into how many partitions a cluster splits rows where the configuration does not say: as many as Ballista itself takes.
const CLUSTER_PARTITIONS: usize = 16;

impl Gateway {
    /// Opens the storage, reads the policies, and holds them against their files.
    ///
    /// # Errors
    /// When the configuration, the storage or a policy file is wrong. A dataset whose files cannot be read is served
    /// all the same: it is refused when it is asked for.
    pub async fn open(config: &Config) -> Result<Arc<Self>, GatewayError> {
        let store = ledger::open(&config.storage.url).await.map_err(|error| translate::operator_ledger(&error))?;
        let evidence = anchoring::Evidence::open(store.as_ref(), config).await?;
        if evidence.frozen().is_none() {
            served::import_files(store.as_ref(), &config.policies.dir).await?;
        }
        let served = Served::read(store.as_ref(), config, None).await?;
        let checked = Arc::clone(&served.catalog);
        for (name, found) in run_blocking(move || checked.check()).await? {
            if let Err(error) = found {
                tracing::warn!(dataset = %name, %error, "the dataset cannot be served as it is");
            }
        }
        let timeout = Duration::from_millis(config.engine.timeout_ms);
        let cluster = match config.engine.cluster() {
            None => None,
            Some((scheduler, secret)) => Some(ClusterOptions {
                scheduler: scheduler.to_owned(),
                secret: ClusterSecret::load(secret).map_err(|error| translate::cluster_secret(&error))?,
                partitions: config.engine.target_partitions.unwrap_or(CLUSTER_PARTITIONS),
                task_timeout: timeout,
            }),
        };
        let engine = Engine::new(&EngineConfig {
            memory_bytes: usize::try_from(config.engine.memory_limit_mb.saturating_mul(1 << 20)).unwrap_or(usize::MAX),
            concurrent_queries: config.engine.max_concurrent_queries,
            threads: config.engine.threads,
            target_partitions: config.engine.target_partitions,
            spill_dir: None,
            cluster,
            stores: served.catalog.stores().clone(),
        })
        .map_err(translate::engine)?;
        let gateway = Arc::new(Self {
            served: ArcSwap::from_pointee(served),
            config: config.clone(),
            evidence,
            refusals: refusals::Refusals::default(),
            alerts: alerts::Alerts::new(&config.alerts, Arc::clone(&store)),
            engine,
            store,
            analyses: analyses::Analyses::default(),
            in_flight: in_flight::InFlight::default(),
            admission: Admission::new(AdmissionLimits {
                running: config.engine.max_concurrent_queries,
                running_of_one: config.engine.queries_per_consumer(),
                waiting: config.engine.max_queued_queries,
                waiting_of_one: config.engine.max_queued_per_consumer,
                patience: Duration::from_millis(config.engine.queue_timeout_ms),
            }),
            limits: GatewayLimits {
                sql: Limits { max_bytes: config.engine.max_sql_bytes, ..Limits::default() },
                max_cells: usize::try_from(config.engine.max_cells).unwrap_or(usize::MAX),
                timeout,
                response_quantum: Duration::from_millis(config.engine.response_quantum_ms),
            },
        });
        anchoring::keep_anchored(&gateway).await?;
        retention::keep_forgetting(&gateway);
        Ok(gateway)
    }

    /// The catalog that was served last. [`Self::current_catalog`] is the one that a question is held against.
    fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.served.load().catalog)
    }

    /// Who holds the token `secret`.
    ///
    /// # Errors
    /// `unauthenticated` when nobody does, or it was revoked.
    pub async fn authenticate(&self, secret: &str) -> Result<Caller, GatewayError> {
        let unknown = || {
            GatewayError::new(Code::Unauthenticated, "the token is not known, or was revoked")
                .with_hint("ask the operator for one: `tollgate token create`")
        };
        let token = self.store.token_for(secret).await.map_err(translate::ledger)?.ok_or_else(unknown)?;
        let agency = match &token.consumer {
            None => None,
            Some(name) => self.store.consumer(name).await.map_err(translate::ledger)?.and_then(|known| known.agency),
        };
        Ok(Caller { role: token.role, consumer: token.consumer, agency, owner: token.owner, token: token.id })
    }

    /// Whether questions can be answered now.
    ///
    /// # Errors
    /// When the ledger cannot be read, or is frozen.
    pub async fn ready(&self) -> Result<(), GatewayError> {
        self.evidence.check()?;
        self.store.policy_changes().await.map(|_| ()).map_err(translate::ledger)
    }
}

/// Runs file I/O off the threads that serve.
async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, GatewayError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| translate::internal("a background task ended early"))
}
