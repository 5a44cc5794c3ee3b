//! What was spent, by consumer, agency, dataset, purpose and day.

use std::collections::{BTreeMap, HashMap};

use arrow::record_batch::RecordBatch;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::accounting::{Accounting, Delta};
use crate::ledger::{Dimension, SpendLine, SpendQuery};

use super::super::{Code, GatewayError, translate};
use super::Reporter;
use super::amounts::{delta_text, epsilon, loss_text, stated_at, word};
use super::span::Span;
use super::tabular::{Columns, Tabular};

/// The most lines of one report.
const MAX_LINES: usize = 20_000;

/// Which spending, and how it is summed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SpendForm {
    /// `consumer`, `agency`, `dataset`, `purpose` and `day` (UTC), those that are wanted, with commas between them. Without it
    /// there is one sum for each kind of accounting.
    #[param(example = "dataset,day")]
    pub by: Option<String>,
    /// From when on: a date (UTC) or a time (RFC 3339).
    #[param(example = "2026-11-01")]
    pub from: Option<String>,
    /// Until when: a date, which is included, or a time, which is not.
    #[param(example = "2026-11-30")]
    pub to: Option<String>,
    /// Of this consumer alone.
    pub consumer: Option<String>,
    /// Of this dataset alone.
    pub dataset: Option<String>,
}

/// What was spent.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct SpendReport {
    /// The dimensions of the lines.
    pub by: Vec<String>,
    /// From when on.
    pub from: Option<DateTime<Utc>>,
    /// Until when; this moment is not in it.
    pub until: Option<DateTime<Utc>>,
    /// The lines, by their dimensions.
    pub lines: Vec<SpendRow>,
}

/// One sum: what consumers paid, each charge on each dataset (and epoch) once.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct SpendRow {
    /// The value of each dimension that was asked for; null where there was none, such as a purpose that was not stated.
    pub group: BTreeMap<String, Option<String>>,
    /// What `loss` is: `zcdp` for ρ, `pure` for ε.
    pub accounting: &'static str,
    /// How many charges.
    pub charges: u64,
    /// How many queries.
    pub queries: u64,
    /// Σ of losses, an exact decimal.
    #[schema(example = "0.000675")]
    pub loss: String,
    /// Σ of the δ's of group selection, an exact decimal.
    pub delta: String,
    /// ε of the sum, rounded up, where the line is of one dataset.
    pub epsilon: Option<f64>,
    /// The δ at which that ε is stated: half of the dataset's `per_consumer` δ under zCDP. All in all the line is
    /// (`epsilon`, `epsilon_delta` + `delta`)-private.
    pub epsilon_delta: Option<String>,
    /// Whom that ε protects, in words.
    pub guarantee: Option<String>,
    /// How many answers were given again for nothing.
    pub reused: u64,
    /// The losses that these would have cost, an exact decimal.
    pub saved_loss: String,
    /// The δ's that these would have cost.
    pub saved_delta: String,
}

impl SpendForm {
    fn dimensions(&self) -> Result<Vec<Dimension>, GatewayError> {
        let mut by = Vec::new();
        for word in self.by.iter().flat_map(|by| by.split(',')).map(str::trim).filter(|word| !word.is_empty()) {
            let dimension = Dimension::ALL.into_iter().find(|dimension| dimension.as_str() == word);
            match dimension {
                Some(dimension) if !by.contains(&dimension) => by.push(dimension),
                Some(_) => {
                    return Err(GatewayError::new(Code::RequestInvalid, format!("`by` names {word} twice")));
                }
                None => {
                    return Err(GatewayError::new(
                        Code::RequestInvalid,
                        "`by` names something that nothing is summed by",
                    )
                    .with_hint("name some of consumer, agency, dataset, purpose, day, with commas between them"));
                }
            }
        }
        Ok(by)
    }
}

/// How the ε's of a dataset are stated.
#[derive(Clone)]
struct Stating {
    /// The δ of its `per_consumer`.
    delta: Delta,
    guarantee: String,
}

/// What a report of many lines needs again and again.
#[derive(Default)]
struct Known {
    /// By dataset; none where no policy is known.
    stating: HashMap<String, Option<Stating>>,
    /// Equal sums are turned into an ε once.
    epsilons: HashMap<(Accounting, u128, Delta), Option<f64>>,
}

impl Known {
    fn stating(&mut self, dataset: &str, read: impl FnOnce() -> Option<Stating>) -> Option<Stating> {
        if !self.stating.contains_key(dataset) {
            self.stating.insert(dataset.to_owned(), read());
        }
        self.stating.get(dataset).cloned().flatten()
    }

    fn epsilon(&mut self, accounting: Accounting, loss_steps: u128, delta: Delta) -> Option<f64> {
        *self.epsilons.entry((accounting, loss_steps, delta)).or_insert_with(|| epsilon(accounting, loss_steps, delta))
    }
}

impl Reporter<'_> {
    fn stating(&self, dataset: &str) -> Option<Stating> {
        let delta = self.policy(dataset)?.budget.per_consumer.delta;
        Some(Stating { delta, guarantee: self.promised(dataset)? })
    }

    pub(super) async fn spend(&self, form: &SpendForm) -> Result<SpendReport, GatewayError> {
        let span = Span::read(form.from.as_deref(), form.to.as_deref())?;
        let query = SpendQuery {
            by: form.dimensions()?,
            from: span.from,
            until: span.until,
            consumer: self.sees.consumer(form.consumer.as_deref())?,
            datasets: self.sees.datasets(form.dataset.as_deref())?,
        };
        let lines = self.store.spend(&query).await.map_err(translate::ledger)?;
        if lines.len() > MAX_LINES {
            let (found, most) = (lines.len(), MAX_LINES);
            return Err(GatewayError::new(
                Code::TooLarge,
                format!("the report would have {found} lines, and at most {most} are made"),
            )
            .with_hint("sum by fewer dimensions, or narrow it with from, to, consumer or dataset"));
        }
        let mut known = Known::default();
        let rows = lines.into_iter().map(|line| self.row(line, &query, &mut known)).collect();
        Ok(SpendReport {
            by: query.by.iter().map(|dimension| dimension.as_str().to_owned()).collect(),
            from: span.from,
            until: span.until,
            lines: rows,
        })
    }

    /// A line with the ε of its sum, where it is of one dataset.
    fn row(&self, line: SpendLine, query: &SpendQuery, known: &mut Known) -> SpendRow {
        let of_line = query.by.iter().position(|dimension| *dimension == Dimension::Dataset);
        let dataset = match (of_line, query.datasets.as_slice()) {
            (Some(at), _) => line.values.get(at).and_then(Option::as_deref),
            (None, [one]) => Some(one.as_str()),
            (None, _) => None,
        };
        let stating = dataset.and_then(|name| known.stating(name, || self.stating(name)));
        let budget_delta = stating.as_ref().map(|stating| stating.delta);
        let of_sum = budget_delta.and_then(|delta| known.epsilon(line.accounting, line.loss_steps, delta));
        let stated = budget_delta.and_then(|delta| stated_at(line.accounting, delta));
        let names = query.by.iter().map(|dimension| dimension.as_str().to_owned());
        SpendRow {
            group: names.zip(line.values).collect(),
            accounting: word(line.accounting),
            charges: line.charges,
            queries: line.queries,
            loss: loss_text(line.loss_steps),
            delta: delta_text(line.delta_steps),
            epsilon: of_sum,
            epsilon_delta: stated.map(|delta| delta_text(delta.steps().into())),
            guarantee: stating.map(|stating| stating.guarantee),
            reused: line.reused,
            saved_loss: loss_text(line.saved_steps),
            saved_delta: delta_text(line.saved_delta_steps),
        }
    }
}

impl Tabular for SpendReport {
    fn batch(&self) -> Result<RecordBatch, GatewayError> {
        let rows = || self.lines.iter();
        let dimensions = self.by.iter().fold(Columns::default(), |columns, name| {
            columns.text(name, rows().map(|row| row.group.get(name).cloned().flatten()))
        });
        dimensions
            .text("accounting", rows().map(|row| Some(row.accounting.to_owned())))
            .count("charges", rows().map(|row| Some(row.charges)))
            .count("queries", rows().map(|row| Some(row.queries)))
            .text("loss", rows().map(|row| Some(row.loss.clone())))
            .text("delta", rows().map(|row| Some(row.delta.clone())))
            .number("epsilon", rows().map(|row| row.epsilon))
            .text("epsilon_delta", rows().map(|row| row.epsilon_delta.clone()))
            .count("reused", rows().map(|row| Some(row.reused)))
            .text("saved_loss", rows().map(|row| Some(row.saved_loss.clone())))
            .text("saved_delta", rows().map(|row| Some(row.saved_delta.clone())))
            .text("guarantee", rows().map(|row| row.guarantee.clone()))
            .batch()
    }
}
