//! The queries that cost most.

use arrow::record_batch::RecordBatch;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::accounting::{Accounting, Loss, epsilon_of};
use crate::ledger::{QueryLine, QueryOrder, QuerySearch};

use super::super::{GatewayError, translate};
use super::Reporter;
use super::amounts::{delta_text, loss_text, word};
use super::span::Span;
use super::tabular::{Columns, Tabular};

/// How many queries of each accounting are listed where the form does not say, and at most.
const USUAL: u64 = 20;
const MAX: u64 = 1000;

/// Which queries.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TopForm {
    /// From when on: a date (UTC) or a time (RFC 3339).
    pub from: Option<String>,
    /// Until when: a date, which is included, or a time, which is not.
    pub to: Option<String>,
    /// Of this consumer alone.
    pub consumer: Option<String>,
    /// On this dataset alone.
    pub dataset: Option<String>,
    /// How many, of each kind of accounting; 20 where it is not said, and at most 1000.
    pub limit: Option<u64>,
}

/// The dearest queries: those on zCDP datasets from the largest ρ, then those on pure datasets from the largest ε, since the
/// two cannot be compared.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct TopReport {
    /// The queries, a line for each charge on each dataset.
    pub queries: Vec<TopRow>,
}

/// One charge on one dataset.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct TopRow {
    /// The charge's number.
    pub charge: i64,
    /// The query.
    pub query_id: Uuid,
    /// When.
    pub at: DateTime<Utc>,
    /// Who asked.
    pub consumer: String,
    /// Its agency.
    pub agency: Option<String>,
    /// The dataset.
    pub dataset: String,
    /// The stated purpose.
    pub purpose: Option<String>,
    /// What `loss` is: `zcdp` for ρ, `pure` for ε.
    pub accounting: &'static str,
    /// The loss, an exact decimal, over all epochs that the charge is for.
    pub loss: String,
    /// The δ of group selection, an exact decimal.
    pub delta: String,
    /// ε of the charge at the dataset's `query_delta`, rounded up.
    pub epsilon: Option<f64>,
    /// The SQL text.
    pub sql: String,
    /// Whom that ε protects, in words.
    pub guarantee: Option<String>,
}

impl Reporter<'_> {
    pub(super) async fn top(&self, form: &TopForm) -> Result<TopReport, GatewayError> {
        let span = Span::read(form.from.as_deref(), form.to.as_deref())?;
        let mut queries = Vec::new();
        for accounting in [Accounting::Zcdp, Accounting::Pure] {
            let search = QuerySearch {
                datasets: self.sees.datasets(form.dataset.as_deref())?,
                consumer: self.sees.consumer(form.consumer.as_deref())?,
                accounting: Some(accounting),
                before: None,
                from: span.from,
                until: span.until,
                order: QueryOrder::Dearest,
                limit: form.limit.unwrap_or(USUAL).clamp(1, MAX),
            };
            let lines = self.store.queries(&search).await.map_err(translate::ledger)?;
            queries.extend(lines.into_iter().map(|line| self.top_row(line)));
        }
        Ok(TopReport { queries })
    }

    fn top_row(&self, line: QueryLine) -> TopRow {
        let epsilon = match line.cost.loss {
            Loss::Zcdp(rho) => self.policy(&line.dataset).map(|policy| epsilon_of(rho, policy.budget.query_delta)),
            Loss::Pure(epsilon) => Some(epsilon.to_f64()),
        };
        TopRow {
            guarantee: self.promised(&line.dataset),
            charge: line.charge.0,
            query_id: line.query_id,
            at: line.at,
            consumer: line.consumer,
            agency: line.agency,
            dataset: line.dataset,
            purpose: line.purpose,
            accounting: word(line.cost.loss.accounting()),
            loss: loss_text(line.cost.loss.steps().into()),
            delta: delta_text(line.cost.delta.steps().into()),
            epsilon: epsilon.filter(|epsilon| epsilon.is_finite()),
            sql: line.sql,
        }
    }
}

impl Tabular for TopReport {
    fn batch(&self) -> Result<RecordBatch, GatewayError> {
        let rows = || self.queries.iter();
        Columns::default()
            .count("charge", rows().map(|row| u64::try_from(row.charge).ok()))
            .text("query_id", rows().map(|row| Some(row.query_id.to_string())))
            .text("at", rows().map(|row| Some(row.at.to_rfc3339_opts(SecondsFormat::AutoSi, true))))
            .text("consumer", rows().map(|row| Some(row.consumer.clone())))
            .text("agency", rows().map(|row| row.agency.clone()))
            .text("dataset", rows().map(|row| Some(row.dataset.clone())))
            .text("purpose", rows().map(|row| row.purpose.clone()))
            .text("accounting", rows().map(|row| Some(row.accounting.to_owned())))
            .text("loss", rows().map(|row| Some(row.loss.clone())))
            .text("delta", rows().map(|row| Some(row.delta.clone())))
            .number("epsilon", rows().map(|row| row.epsilon))
            .text("sql", rows().map(|row| Some(row.sql.clone())))
            .text("guarantee", rows().map(|row| row.guarantee.clone()))
            .batch()
    }
}
