//! Which sums over which keys a question asks for, so that a coarser question is seen to be answered by a finer one that was
//! answered before: sums over released values are free.

use datafusion::logical_expr::{Expr, LogicalPlan, Projection};
use serde::{Deserialize, Serialize};

use crate::release::{Groups, MeasureKind, Output, ReleaseSpec, ReleasedNode};

use super::{Analysed, AnalysedRelease, canonical};

/// A key or a sum: what it is, and under which name the result has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// What it is, whatever it is called.
    pub text: String,
    /// The result's column.
    pub name: String,
}

/// A question whose result is counts and sums by listed keys, as they were released.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summable {
    /// A hash over what is counted: tables in their versions, conditions, unit domain and minimum group size.
    pub base: [u8; 32],
    /// By what.
    pub keys: Vec<Part>,
    /// The counts and sums.
    pub sums: Vec<Part>,
}

impl Summable {
    /// Of a query that is one release of counts and sums by listed keys, and shows it as it is. `None` for any other: what
    /// is not seen to be summable is not offered.
    #[must_use]
    pub fn of(analysed: &Analysed) -> Option<Self> {
        let [release] = analysed.releases() else { return None };
        let spec = &release.spec;
        // Where groups may be missing, their sum is not the whole.
        if !matches!(spec.groups, Groups::Public { .. }) || spec.selects_groups() || spec.sets.is_some() {
            return None;
        }
        let shown = shown(analysed.post())?;
        let name = |at: usize| shown.iter().find(|(_, column)| *column == at).map(|(name, _)| name.clone());
        let projection = projection(&release.input)?;
        let text = |column: usize| canonical::expression(projection.expr.get(column)?, projection.input.schema());
        let keys = (0..spec.keys.len())
            .map(|at| Some(Part { text: text(spec.key_column(at))?, name: name(at)? }))
            .collect::<Option<Vec<_>>>()?;
        let sums = (0..spec.outputs.len())
            .map(|at| Some(Part { text: sum(release, at, &text)?, name: name(spec.keys.len() + at)? }))
            .collect::<Option<Vec<_>>>()?;
        let base = canonical::base(release, &projection.input)?;
        Some(Self { base, keys, sums })
    }

    /// Whether sums of `finer` answer this question: it has all of its keys and more, and all of its sums.
    #[must_use]
    pub fn is_answered_by(&self, finer: &Self) -> bool {
        let has = |parts: &[Part], part: &Part| parts.iter().any(|other| other.text == part.text);
        self.base == finer.base
            && finer.keys.len() > self.keys.len()
            && self.keys.iter().all(|key| has(&finer.keys, key))
            && self.sums.iter().all(|sum| has(&finer.sums, sum))
    }

    /// SQL that computes this question from the result of `finer`, whose statement is `sql`, without what may follow a
    /// statement.
    #[must_use]
    pub fn from_finer(&self, finer: &Self, sql: &str) -> String {
        let named = |parts: &[Part], part: &Part| {
            let found = parts.iter().find(|other| other.text == part.text);
            found.map_or_else(|| part.name.clone(), |found| found.name.clone())
        };
        let keys: Vec<String> = self.keys.iter().map(|key| quoted(&named(&finer.keys, key))).collect();
        let sums = self
            .sums
            .iter()
            .map(|sum| format!("sum(finer.{}) AS {}", quoted(&named(&finer.sums, sum)), quoted(&sum.name)));
        let selected: Vec<String> = keys.iter().map(|key| format!("finer.{key}")).chain(sums).collect();
        let grouped = if keys.is_empty() {
            String::new()
        } else {
            format!(" GROUP BY {}", keys.iter().map(|key| format!("finer.{key}")).collect::<Vec<_>>().join(", "))
        };
        format!("SELECT {} FROM (\n{sql}\n) AS finer{grouped}", selected.join(", "))
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The columns that a plan shows of one release, by name and place, if it shows them as they are.
fn shown(plan: &LogicalPlan) -> Option<Vec<(String, usize)>> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => shown(&alias.input),
        LogicalPlan::Projection(projection) => {
            let inner = shown(&projection.input)?;
            // `count(*) AS n` is an alias of an alias: the engine's own name for what it counts is one too.
            let column = |expr: &Expr| {
                let (name, mut inner) = match expr {
                    Expr::Alias(alias) => (&alias.name, alias.expr.as_ref()),
                    Expr::Column(column) => (&column.name, expr),
                    _ => return None,
                };
                while let Expr::Alias(alias) = inner {
                    inner = &alias.expr;
                }
                match inner {
                    Expr::Column(column) => Some((name.clone(), column.clone())),
                    _ => None,
                }
            };
            projection
                .expr
                .iter()
                .map(|expr| {
                    let (name, column) = column(expr)?;
                    let place = projection.input.schema().index_of_column(&column).ok()?;
                    Some((name, inner.get(place)?.1))
                })
                .collect()
        }
        LogicalPlan::Extension(extension) if extension.node.as_any().is::<ReleasedNode>() => {
            let fields = extension.node.schema().fields();
            Some(fields.iter().enumerate().map(|(at, field)| (field.name().clone(), at)).collect())
        }
        _ => None,
    }
}

/// The projection of a release's input, below the filters that keep the listed keys.
fn projection(plan: &LogicalPlan) -> Option<&Projection> {
    match plan {
        LogicalPlan::Projection(projection) => Some(projection),
        LogicalPlan::Filter(filter) => projection(&filter.input),
        _ => None,
    }
}

/// What output `at` sums, as text; `None` for what does not add up over groups.
fn sum(release: &AnalysedRelease, at: usize, text: &impl Fn(usize) -> Option<String>) -> Option<String> {
    let spec: &ReleaseSpec = &release.spec;
    let (field, output) = spec.outputs.get(at)?;
    let (Output::Count { measure } | Output::Sum { measure }) = output else { return None };
    let measure = spec.measures.get(*measure)?;
    let what = match &measure.kind {
        MeasureKind::Rows => "rows".to_owned(),
        MeasureKind::Values { argument } => format!("values of {}", text(spec.argument_column(*argument))?),
        MeasureKind::Sum { argument, lattice } => {
            format!("sum of {} in {lattice:?}", text(spec.argument_column(*argument))?)
        }
        // A unit, or a value, may be in several groups.
        MeasureKind::Units | MeasureKind::Distinct { .. } => return None,
    };
    let filter = match measure.filter {
        None => String::new(),
        Some(filter) => format!(" where {}", text(spec.filter_column(filter))?),
    };
    Some(format!("{what}{filter} as {}", field.data_type()))
}
