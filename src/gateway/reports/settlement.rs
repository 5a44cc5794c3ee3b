//! What each agency owes each company for a period.
//!
//! ε's do not add, so a period's charges are not priced one by one: their losses are summed, the sum is turned into one ε,
//! and that ε is paid for.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::accounting::{Accounting, Delta, Epsilon};
use crate::ledger::{Dimension, SpendQuery};
use crate::policy::{self, PolicyFile, Price};

use super::super::facts::guarantee;
use super::super::{Code, GatewayError, translate};
use super::amounts::{decimal, delta_text, epsilon, loss_text, stated_at, word};
use super::span::Span;
use super::tabular::{Columns, Tabular};
use super::{Reporter, Sees};

/// How many decimal places an amount of money has.
const MONEY_PLACES: usize = 6;

/// The rule, as every statement says it.
const RULE: &str = "For each agency (a consumer without one stands for itself) and each dataset whose policy has a \
     price_per_epsilon: the losses of all charges that were made in the period are summed in whole steps; the \
     sum is stated as one epsilon, under zCDP at half of the delta of the policy's per_consumer, and rounded up to a step of 1e-12; \
     the amount is that epsilon times the price, rounded once, half up, to 0.000001 of the currency. Policy and price are \
     those in force at the end of the period, or now if it has not ended. Epsilons of datasets, and of periods, do not \
     add up to the epsilon of them together; amounts are summed for each agency, company and currency.";

/// Which period.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SettlementForm {
    /// From when on: a date (UTC) or a time (RFC 3339).
    pub from: Option<String>,
    /// Until when: a date, which is included, or a time, which is not.
    pub to: Option<String>,
}

/// What is owed for a period.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct SettlementReport {
    /// How the amounts come about.
    pub rule: &'static str,
    /// From when on.
    pub from: Option<DateTime<Utc>>,
    /// Until when; this moment is not in it.
    pub until: Option<DateTime<Utc>>,
    /// What is owed for each dataset.
    pub lines: Vec<SettlementLine>,
    /// The sums for each agency, company and currency.
    pub totals: Vec<SettlementTotal>,
}

/// What one agency owes for one dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct SettlementLine {
    /// `agency`, or `consumer` for one that has none.
    pub kind: &'static str,
    /// Who owes.
    pub payer: String,
    /// To which company: the dataset's owner.
    pub owner: String,
    /// For what.
    pub dataset: String,
    /// What `loss` is: `zcdp` for ρ, `pure` for ε.
    pub accounting: &'static str,
    /// How many charges.
    pub charges: u64,
    /// Σ of losses, an exact decimal.
    pub loss: String,
    /// ε of the sum, rounded up to a step, an exact decimal.
    pub epsilon: String,
    /// The δ at which that ε is stated; null for pure losses.
    pub epsilon_delta: Option<String>,
    /// The price of an ε of 1, an exact decimal.
    pub price_per_epsilon: String,
    /// The currency (ISO 4217).
    pub currency: &'static str,
    /// What is owed, an exact decimal.
    pub amount: String,
    /// Whom that ε protects, in words.
    pub guarantee: String,
}

/// What one agency owes one company.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct SettlementTotal {
    /// `agency`, or `consumer`.
    pub kind: &'static str,
    /// Who owes.
    pub payer: String,
    /// To which company.
    pub owner: String,
    /// The currency.
    pub currency: &'static str,
    /// The sum of the lines' amounts.
    pub amount: String,
}

/// Who owes.
type Payer = (&'static str, String);

/// The sums of one payer on one dataset.
#[derive(Default)]
struct Owed {
    charges: u64,
    loss_steps: u128,
}

/// What a policy says of money.
#[derive(Clone)]
struct Terms {
    price: Price,
    /// The δ of `per_consumer`.
    delta: Delta,
    /// Whom its ε's protect.
    guarantee: String,
}

impl Reporter<'_> {
    pub(super) async fn settlement(
        &self,
        form: &SettlementForm,
        now: DateTime<Utc>,
    ) -> Result<SettlementReport, GatewayError> {
        if matches!(self.sees, Sees::Consumer(_)) {
            return Err(GatewayError::new(
                Code::NotAllowed,
                "a statement is of a whole agency, and not an analyst's to read",
            )
            .with_hint("GET /v1/reports/spend shows what your consumer has spent"));
        }
        let span = Span::read(form.from.as_deref(), form.to.as_deref())?;
        let query = SpendQuery {
            by: vec![Dimension::Dataset, Dimension::Agency, Dimension::Consumer],
            from: span.from,
            until: span.until,
            consumer: None,
            datasets: self.sees.datasets(None)?,
        };
        let mut owed: BTreeMap<(String, Payer, Accounting), Owed> = BTreeMap::new();
        for line in self.store.spend(&query).await.map_err(translate::ledger)? {
            // Answers given again for nothing alone make a line too: they are owed nothing.
            let ([Some(dataset), agency, Some(consumer)], true) = (line.values.as_slice(), line.charges > 0) else {
                continue;
            };
            let payer = agency.clone().map_or_else(|| ("consumer", consumer.clone()), |agency| ("agency", agency));
            let sum = owed.entry((dataset.clone(), payer, line.accounting)).or_default();
            sum.charges = sum.charges.saturating_add(line.charges);
            sum.loss_steps = sum.loss_steps.saturating_add(line.loss_steps);
        }
        let end = span.until.map_or(now, |until| until.min(now));
        let (mut terms, mut lines) = (BTreeMap::new(), Vec::new());
        let mut totals: BTreeMap<(Payer, String, &'static str), u128> = BTreeMap::new();
        for ((dataset, payer, accounting), sum) in owed {
            if !terms.contains_key(&dataset) {
                terms.insert(dataset.clone(), self.terms(&dataset, end).await?);
            }
            let Some(terms) = terms.get(&dataset).cloned().flatten() else { continue };
            let owner = dataset.split_once('.').map_or(dataset.as_str(), |(owner, _)| owner).to_owned();
            let epsilon = epsilon_steps(accounting, sum.loss_steps, terms.delta)?;
            let amount = amount_micros(epsilon, terms.price);
            let total = totals.entry((payer.clone(), owner.clone(), terms.price.currency())).or_default();
            *total = total.saturating_add(amount);
            lines.push(SettlementLine {
                kind: payer.0,
                payer: payer.1,
                owner,
                dataset,
                accounting: word(accounting),
                charges: sum.charges,
                loss: loss_text(sum.loss_steps),
                epsilon: loss_text(epsilon.steps().into()),
                epsilon_delta: stated_at(accounting, terms.delta).map(|delta| delta_text(delta.steps().into())),
                price_per_epsilon: decimal(terms.price.micros_per_epsilon().into(), MONEY_PLACES),
                currency: terms.price.currency(),
                amount: decimal(amount, MONEY_PLACES),
                guarantee: terms.guarantee,
            });
        }
        lines.sort_by(|a, b| (a.kind, &a.payer, &a.dataset).cmp(&(b.kind, &b.payer, &b.dataset)));
        let totals = totals
            .into_iter()
            .map(|(((kind, payer), owner, currency), amount)| SettlementTotal {
                kind,
                payer,
                owner,
                currency,
                amount: decimal(amount, MONEY_PLACES),
            })
            .collect();
        Ok(SettlementReport { rule: RULE, from: span.from, until: span.until, lines, totals })
    }

    /// What the version of a dataset's policy that was in force at `end` says of money; the first one where none was.
    async fn terms(&self, dataset: &str, end: DateTime<Utc>) -> Result<Option<Terms>, GatewayError> {
        let history = self.store.policy_history(dataset).await.map_err(translate::ledger)?;
        let Some(version) = history.iter().rfind(|version| version.at < end).or_else(|| history.first()) else {
            return Ok(None);
        };
        let read = policy::parse_text(Path::new(dataset), Path::new(&version.base), &version.text)
            .map_err(|_| translate::internal("a version of a policy cannot be read"))?;
        Ok(match read {
            PolicyFile::Private(policy) => policy.budget.price_per_epsilon.map(|price| Terms {
                price,
                delta: policy.budget.per_consumer.delta,
                guarantee: guarantee([&Arc::new(policy)].into_iter()),
            }),
            PolicyFile::Public(_) | PolicyFile::Collection(_) => None,
        })
    }
}

/// The ε of a sum of losses, rounded up to a step.
pub(super) fn epsilon_steps(accounting: Accounting, loss_steps: u128, delta: Delta) -> Result<Epsilon, GatewayError> {
    let beyond = || translate::internal("what was spent is beyond what the ledger counts");
    match accounting {
        // Its own ε already, in whole steps.
        Accounting::Pure => u64::try_from(loss_steps)
            .ok()
            .filter(|steps| *steps <= Epsilon::MAX.steps())
            .map(Epsilon::from_steps)
            .ok_or_else(beyond),
        Accounting::Zcdp => {
            let epsilon = epsilon(accounting, loss_steps, delta).ok_or_else(beyond)?;
            Epsilon::ceil_from(epsilon).map_err(|_| beyond())
        }
    }
}

/// What an ε costs, in 10⁻⁶ units of the currency, rounded half up. Both are below 2⁶³, so their product fits.
pub(super) fn amount_micros(epsilon: Epsilon, price: Price) -> u128 {
    let whole = u128::from(Epsilon::STEPS_PER_UNIT);
    (u128::from(epsilon.steps()) * u128::from(price.micros_per_epsilon()) + whole / 2) / whole
}

impl Tabular for SettlementReport {
    /// The lines alone; the rule and the totals are in the JSON form.
    fn batch(&self) -> Result<RecordBatch, GatewayError> {
        let rows = || self.lines.iter();
        Columns::default()
            .text("kind", rows().map(|row| Some(row.kind.to_owned())))
            .text("payer", rows().map(|row| Some(row.payer.clone())))
            .text("owner", rows().map(|row| Some(row.owner.clone())))
            .text("dataset", rows().map(|row| Some(row.dataset.clone())))
            .text("accounting", rows().map(|row| Some(row.accounting.to_owned())))
            .count("charges", rows().map(|row| Some(row.charges)))
            .text("loss", rows().map(|row| Some(row.loss.clone())))
            .text("epsilon", rows().map(|row| Some(row.epsilon.clone())))
            .text("epsilon_delta", rows().map(|row| row.epsilon_delta.clone()))
            .text("price_per_epsilon", rows().map(|row| Some(row.price_per_epsilon.clone())))
            .text("currency", rows().map(|row| Some(row.currency.to_owned())))
            .text("amount", rows().map(|row| Some(row.amount.clone())))
            .text("guarantee", rows().map(|row| Some(row.guarantee.clone())))
            .batch()
    }
}
