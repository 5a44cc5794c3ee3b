//! `EXPLAIN PRIVACY`: what a query would release, at which price and how exactly, as a person reads it. Policy, SQL and
//! public tables alone; no private data is touched.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;

use crate::accounting::Loss;
use crate::analysis::{Analysed, AnalysedRelease, relations};
use crate::release::{Groups, Measure, MeasureKind, Output, ReleaseSpec, Statistic};

use super::facts::guarantee;
use super::price::{Priced, PricedRelease, cheapest};
use super::{ChargeLine, GatewayError, translate};

/// At how many units a group's relative error is stated.
const STATED_GROUP: f64 = 1_000.0;
/// The relative error whose price is stated.
const STATED_ERROR: f64 = 0.1;

/// The one column of the explanation.
pub(super) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("plan", DataType::Utf8, false)]))
}

/// The explanation, a line a row.
pub(super) fn rows(lines: Vec<String>) -> Result<RecordBatch, GatewayError> {
    let lines: ArrayRef = Arc::new(StringArray::from(lines));
    RecordBatch::try_new(schema(), vec![lines]).map_err(|_| translate::internal("an explanation is no table"))
}

/// The lines.
pub(super) fn lines(analysed: &Analysed, priced: &Priced, charges: &[ChargeLine]) -> Vec<String> {
    let mut lines = Vec::new();
    if analysed.releases().is_empty() {
        lines.push("the query reads public tables alone: it is free".to_owned());
        return lines;
    }
    let count = analysed.releases().len();
    for (at, (release, noise)) in analysed.releases().iter().zip(&priced.releases).enumerate() {
        lines.push(format!("release {} of {count}", at + 1));
        lines.extend(of_release(release, noise).into_iter().map(|line| format!("  {line}")));
    }
    lines.push(format!("promised: {}", guarantee(analysed.datasets().values())));
    lines.push(format!("price: epsilon {} at delta {}", priced.epsilon, priced.query_delta));
    for charge in charges {
        let loss = match (charge.rho, charge.epsilon) {
            (Some(rho), _) => format!("rho {rho}"),
            (None, Some(epsilon)) => format!("epsilon {epsilon}"),
            (None, None) => String::new(),
        };
        lines.push(format!("  {} pays {loss} and delta {}", charge.account, charge.delta));
    }
    lines.push(match cheapest(analysed, STATED_ERROR, STATED_GROUP) {
        Ok(epsilon) => format!(
            "for an error of {} % in groups of {STATED_GROUP} units, epsilon {epsilon} is enough",
            STATED_ERROR * 100.0
        ),
        Err(_) => format!(
            "no price that one query may cost gives an error of {} % in groups of {STATED_GROUP} units",
            STATED_ERROR * 100.0
        ),
    });
    lines
}

fn of_release(release: &AnalysedRelease, noise: &PricedRelease) -> Vec<String> {
    let spec = &release.spec;
    let mut lines = vec![match noise.cost().loss {
        Loss::Zcdp(rho) => format!("pays rho {rho} and delta {}", noise.cost().delta),
        Loss::Pure(epsilon) => format!("pays epsilon {epsilon} and delta {}", noise.cost().delta),
    }];
    lines.push(match &spec.epochs {
        None => format!("one {} counts in", spec.unit_domain),
        Some(epochs) => format!("one {} in one {} counts in", spec.unit_domain, epochs.kind),
    });
    lines.extend(release.reasons.iter().map(|reason| format!("  {reason}")));
    lines.extend(release.notes.iter().cloned());
    lines.push(groups(spec, noise));
    if let Some(units) = noise.noise.units() {
        lines.push(format!("noise on the number of units: {}, std_dev {:.4}", units.mechanism(), units.std_dev()));
    }
    for (measure, law) in spec.measures.iter().zip(noise.noise.measures()) {
        let step = match &measure.kind {
            MeasureKind::Sum { lattice, .. } => lattice.describe().step,
            _ => 1.0,
        };
        lines.push(format!("noise on {}: {}, std_dev {:.4}", named(measure), law.mechanism(), law.std_dev() * step));
    }
    for (quantile, law) in spec.quantiles.iter().zip(noise.noise.quantiles()) {
        lines.push(format!(
            "quantile {}: exponential, epsilon {:.4} a draw",
            f64::from(quantile.millionths) / 1e6,
            law.epsilon()
        ));
    }
    for (field, output) in &spec.outputs {
        let error = noise.noise.relative_error(spec, output, STATED_GROUP).unwrap_or(f64::INFINITY);
        lines.push(format!(
            "{} is {}: within {:.2} % in groups of {STATED_GROUP} units, with 95 %",
            field.name().replace("count(Int64(1))", "count(*)"),
            read_off(output),
            error * 100.0
        ));
    }
    for (name, epochs) in &release.epochs {
        lines.push(format!("reads, and charges by itself, each of these of {name}: {}", epochs.join(", ")));
    }
    lines.push("rows:".to_owned());
    lines.extend(relations(&release.input).into_iter().map(|line| format!("  {line}")));
    lines
}

fn groups(spec: &ReleaseSpec, noise: &PricedRelease) -> String {
    let which = match &spec.groups {
        Groups::Public { cells: 1, .. } if spec.keys.is_empty() => "one group, always shown".to_owned(),
        Groups::Public { cells, .. } => format!("{cells} groups, known without the data"),
        Groups::Private => "groups are selected, since which there are is private".to_owned(),
    };
    match noise.noise.selection() {
        None => which,
        Some(selection) => format!(
            "{which}: shown with at least {} units and a noised number of at least {}; with {} units a group appears with 95 %",
            spec.min_group_size,
            spec.min_group_size + selection.tau,
            selection.units_to_appear_95
        ),
    }
}

fn named(measure: &Measure) -> String {
    let what = match &measure.kind {
        MeasureKind::Rows => "the number of rows".to_owned(),
        MeasureKind::Values { .. } => "the number of values".to_owned(),
        MeasureKind::Units => "the number of units that have a row".to_owned(),
        MeasureKind::Distinct { .. } => "the number of distinct values".to_owned(),
        MeasureKind::Sum { lattice, .. } => {
            let lattice = lattice.describe();
            format!("a sum of values in [{}, {}] about {}", lattice.lo, lattice.hi, lattice.centre)
        }
    };
    if measure.filter.is_some() { format!("{what} that pass a FILTER") } else { what }
}

const fn read_off(output: &Output) -> &'static str {
    match output {
        Output::Units => "the number of units",
        Output::Count { .. } => "a number",
        Output::Sum { .. } => "a sum",
        Output::Quantile { .. } => "a quantile (its rank)",
        Output::Computed { statistic, .. } => match statistic {
            Statistic::Total => "a sum, of the average and the number",
            Statistic::Mean => "an average",
            Statistic::Variance { root: false, .. } => "a variance",
            Statistic::Variance { root: true, .. } => "a standard deviation",
            Statistic::Covariance { .. } => "a covariance",
            Statistic::Correlation => "a correlation",
            Statistic::Slope => "a slope",
            Statistic::Intercept => "an intercept",
        },
    }
}
