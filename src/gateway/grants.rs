//! What budget administrators grant, and what consumers ask for.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::accounting::{Delta, Epsilon};
use crate::catalog::{Catalog, Entry};
use crate::ledger::{BudgetRequest, Grant, Ruling, Store};
use crate::policy::{DatasetName, Period};

use super::charge::{Payer, domain_key};
use super::{BudgetLine, Caller, Code, Gateway, GatewayError, budget, translate};

/// The longest reason, in bytes.
const MAX_REASON_BYTES: usize = 2000;

/// A budget as it is asked for or granted: ε and δ of each window.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantForm {
    /// ε of each window.
    #[schema(example = 2.0)]
    pub epsilon: f64,
    /// δ of each window.
    #[schema(example = 1e-6)]
    pub delta: f64,
    /// The window's length.
    pub per: PeriodForm,
}

/// The length of a window: of the calendar, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PeriodForm {
    /// A calendar month.
    Month,
    /// A quarter of a calendar year.
    Quarter,
    /// A calendar year.
    Year,
    /// For ever.
    Lifetime,
}

impl PeriodForm {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Period::from(self).as_str()
    }
}

impl From<PeriodForm> for Period {
    fn from(form: PeriodForm) -> Self {
        match form {
            PeriodForm::Month => Self::Month,
            PeriodForm::Quarter => Self::Quarter,
            PeriodForm::Year => Self::Year,
            PeriodForm::Lifetime => Self::Lifetime,
        }
    }
}

/// A request for a larger budget, as callers read it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct BudgetRequestRow {
    /// Its identifier.
    pub id: Uuid,
    /// Who asks.
    pub consumer: String,
    /// The dataset.
    pub dataset: String,
    /// ε of each window.
    pub epsilon: f64,
    /// δ of each window.
    pub delta: f64,
    /// The window's length.
    pub per: String,
    /// Why.
    pub reason: String,
    /// When.
    pub made: DateTime<Utc>,
    /// `open`, `approved` or `denied`.
    pub state: &'static str,
    /// Who decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<String>,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided: Option<DateTime<Utc>>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
}

impl From<BudgetRequest> for BudgetRequestRow {
    fn from(request: BudgetRequest) -> Self {
        Self {
            id: request.id,
            consumer: request.consumer,
            dataset: request.dataset,
            epsilon: request.grant.epsilon.to_f64(),
            delta: request.grant.delta.to_f64(),
            per: request.grant.per,
            reason: request.reason,
            made: request.made,
            state: request.state.as_str(),
            decided_by: request.decided_by,
            decided: request.decided,
            answer: request.answer,
        }
    }
}

/// The grant that `form` is on `dataset` (or `domain:NAME`), if the owner allows it.
///
/// # Errors
/// `request_invalid` when an amount is none or is more than the owner's cap; `not_found` when there is no such dataset.
pub(super) fn admissible(catalog: &Catalog, dataset: &str, form: GrantForm) -> Result<Grant, GatewayError> {
    let invalid = |what: String| GatewayError::new(Code::RequestInvalid, what);
    if !form.epsilon.is_finite() || form.epsilon <= 0.0 {
        return Err(invalid("epsilon must be a finite number above 0".into()));
    }
    let grant = Grant {
        epsilon: Epsilon::floor_from(form.epsilon).map_err(|error| invalid(format!("epsilon {error}")))?,
        delta: Delta::floor_from(form.delta).map_err(|error| invalid(format!("delta {error}")))?,
        per: Period::from(form.per).as_str().to_owned(),
    };
    if grant.epsilon == Epsilon::ZERO {
        return Err(invalid("epsilon is too small to be counted".into()));
    }
    let mut policies = catalog.entries().filter_map(|(_, entry)| match entry {
        Entry::Private(policy, _) => Some(policy),
        Entry::Public(..) | Entry::Collection(_) => None,
    });
    if let Some(domain) = dataset.strip_prefix("domain:") {
        // The owners' caps hold beside it, each on its own dataset: here nothing is too much.
        return if policies.any(|policy| domain_key(&policy.privacy.unit_domain) == dataset) {
            Ok(grant)
        } else {
            Err(GatewayError::new(Code::NotFound, format!("no dataset is of the unit domain {domain}"))
                .with_hint("GET /v1/datasets shows each dataset's unit_domain"))
        };
    }
    let name: Option<DatasetName> = dataset.parse().ok();
    let policy = policies.find(|policy| name.as_ref() == Some(&policy.name)).ok_or_else(|| {
        GatewayError::new(Code::NotFound, format!("there is no private dataset {dataset}"))
            .with_hint("grants are made on datasets, each member of a collection by itself, and on `domain:NAME`")
    })?;
    let cap = &policy.budget.per_consumer;
    if grant.epsilon > cap.epsilon || grant.delta > cap.delta {
        return Err(invalid(format!(
            "the owner of {dataset} allows a consumer at most epsilon {} and delta {} per {}",
            cap.epsilon, cap.delta, cap.per
        ))
        .with_hint("grant no more than that, or ask the owner to change the policy"));
    }
    Ok(grant)
}

/// That the owner allows what was asked for, as the policies are now.
///
/// # Errors
/// `not_found`, or `request_invalid` when it is more than the owner allows.
pub(super) async fn still_admissible(store: &dyn Store, catalog: &Catalog, id: Uuid) -> Result<(), GatewayError> {
    let request = store.budget_request(id).await.map_err(translate::ledger)?;
    let request = request.ok_or_else(|| GatewayError::new(Code::NotFound, "there is no such request"))?;
    let name: Option<DatasetName> = request.dataset.parse().ok();
    if let Some(Entry::Private(policy, _)) = name.and_then(|name| catalog.entry(&name)) {
        let cap = &policy.budget.per_consumer;
        if request.grant.epsilon > cap.epsilon || request.grant.delta > cap.delta {
            return Err(GatewayError::new(
                Code::RequestInvalid,
                format!("the owner of {} now allows less than was asked for", request.dataset),
            )
            .with_hint("deny it, or grant less with PUT /v1/budgets (`tollgate budget set`)"));
        }
    }
    Ok(())
}

/// A reason or an answer in words: one that a log can hold.
pub(super) fn words(text: &str) -> Result<(), GatewayError> {
    if text.len() > MAX_REASON_BYTES || text.chars().any(char::is_control) {
        return Err(GatewayError::new(
            Code::RequestInvalid,
            format!("a reason is one line of at most {MAX_REASON_BYTES} bytes"),
        ));
    }
    Ok(())
}

impl Gateway {
    /// Grants a consumer a budget on a dataset, within the owner's cap, or on a whole unit domain (`domain:NAME`).
    ///
    /// # Errors
    /// `not_allowed`, `not_found`, or `request_invalid` when it is more than the owner allows.
    pub async fn set_budget(
        &self,
        caller: &Caller,
        consumer: &str,
        dataset: &str,
        form: GrantForm,
    ) -> Result<(), GatewayError> {
        caller.administrator()?;
        self.evidence.check()?;
        let grant = admissible(&*self.current_catalog().await?, dataset, form)?;
        self.store.set_grant(consumer, dataset, &grant, &caller.actor()).await.map_err(translate::ledger)
    }

    /// A consumer's accounts on every dataset.
    ///
    /// # Errors
    /// `not_allowed`, or `not_found`.
    pub async fn budget_of(&self, caller: &Caller, consumer: &str) -> Result<Vec<BudgetLine>, GatewayError> {
        caller.administrator()?;
        let known = self.store.consumer(consumer).await.map_err(translate::ledger)?;
        let known = known.ok_or_else(|| GatewayError::new(Code::NotFound, "there is no consumer of that name"))?;
        let catalog = self.current_catalog().await?;
        let payer = Payer { consumer, agency: known.agency.as_deref(), now: Utc::now(), catalog: &catalog };
        let datasets = budget::datasets_of(payer);
        budget::lines(self.store.as_ref(), &datasets, payer).await
    }

    /// Asks the budget administrator for a larger budget, within the owner's cap.
    ///
    /// # Errors
    /// `not_allowed` for callers who ask no questions; as [`Self::set_budget`] for what cannot be granted.
    pub async fn request_budget(
        &self,
        caller: &Caller,
        dataset: &str,
        form: GrantForm,
        reason: &str,
    ) -> Result<Uuid, GatewayError> {
        let consumer = caller.analyst()?;
        self.evidence.check()?;
        words(reason)?;
        let grant = admissible(&*self.current_catalog().await?, dataset, form)?;
        let asked = self.store.request_budget(consumer, dataset, &grant, reason, &caller.actor()).await;
        asked.map_err(translate::ledger)
    }

    /// The requests for larger budgets: all of them for an administrator, an analyst's own.
    ///
    /// # Errors
    /// `not_allowed` for other callers.
    pub async fn budget_requests(&self, caller: &Caller) -> Result<Vec<BudgetRequestRow>, GatewayError> {
        let own = match caller.administrator() {
            Ok(()) => None,
            Err(_) => Some(caller.analyst()?),
        };
        let requests = self.store.budget_requests(own).await.map_err(translate::ledger)?;
        Ok(requests.into_iter().map(BudgetRequestRow::from).collect())
    }

    /// Decides a request for a larger budget. A yes makes its grant, if the owner still allows it.
    ///
    /// # Errors
    /// `not_allowed`, `not_found`, `conflict` when it was decided before, or `request_invalid` when it is more than the owner
    /// allows now.
    pub async fn decide_budget_request(
        &self,
        caller: &Caller,
        id: Uuid,
        yes: bool,
        answer: Option<&str>,
    ) -> Result<BudgetRequestRow, GatewayError> {
        caller.administrator()?;
        self.evidence.check()?;
        answer.map_or(Ok(()), words)?;
        if yes {
            still_admissible(self.store.as_ref(), &*self.current_catalog().await?, id).await?;
        }
        let ruling = Ruling { yes, answer: answer.map(str::to_owned) };
        let decided = self.store.decide_budget_request(id, &ruling, &caller.actor()).await;
        decided.map(BudgetRequestRow::from).map_err(translate::ledger)
    }
}
