//! What bounding takes away, as a release of its own: noised, and paid for with the rest of the query.
//!
//! ```text
//! rows of a release ── by unit and group: n, clamped ──▶ by unit: groups, rows, kept ──▶ a row a unit ──▶ shares of all units
//! ```

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::Column;
use datafusion::functions_aggregate::expr_fn::{count, max, sum};
use datafusion::logical_expr::{Aggregate, Expr, ExprFunctionExt, LogicalPlan, Projection, case, cast, lit};

use crate::release::{ContributionBounds, Groups, Lattice, Measure, MeasureKind, Output, ReleaseSpec};

use super::AnalysedRelease;
use super::refusal::{Refusal, RefusalKind};

/// What a release of diagnostics has, in its order.
pub const DIAGNOSTICS: [&str; 6] = [
    "units",
    "units_in_more_groups",
    "units_with_more_rows",
    "units_with_clamped_values",
    "share_of_rows_left_out",
    "share_of_rows_clamped",
];

/// The diagnostics of `release`: its input, by unit, and what to release of it. The canonical text is left to the caller.
pub(super) fn of(release: &AnalysedRelease) -> Result<(LogicalPlan, ReleaseSpec), Refusal> {
    let spec = &release.spec;
    let column = |plan: &LogicalPlan, at: usize| Expr::Column(Column::from(plan.schema().qualified_field(at)));
    let named = |name: &str| Expr::Column(Column::new_unqualified(name));
    let input = release.input.clone();

    // By unit and group.
    let keys = (0..spec.unit_width() + spec.keys.len()).map(|at| column(&input, at)).collect::<Vec<_>>();
    let outside = spec.measures.iter().filter_map(|measure| match &measure.kind {
        MeasureKind::Sum { argument, lattice } => {
            let lattice = lattice.describe();
            let value = cast(column(&input, spec.argument_column(*argument)), DataType::Float64);
            Some(value.clone().lt(lit(lattice.lo)).or(value.gt(lit(lattice.hi))))
        }
        _ => None,
    });
    let clamped = match outside.reduce(Expr::or) {
        Some(outside) => count(lit(1i64)).filter(outside).build()?,
        None => count(lit(datafusion::common::ScalarValue::Int64(None))),
    };
    let values = vec![count(lit(1i64)).alias("n"), clamped.alias("clamped")];
    let groups = LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(input), keys, values)?);

    // By unit.
    let most = lit(i64::try_from(spec.bounds.rows).unwrap_or(i64::MAX));
    let kept = case(named("n").gt(most.clone())).when(lit(true), most.clone()).otherwise(named("n"))?;
    // The unit, and its epoch: what is said of a unit is then said of a unit in an epoch.
    let names = ["unit", "epoch"];
    let unit = &names[..spec.unit_width()];
    let mut counted: Vec<Expr> = unit.iter().enumerate().map(|(at, name)| column(&groups, at).alias(*name)).collect();
    counted.extend([named("n"), named("clamped"), kept.alias("kept")]);
    let groups = LogicalPlan::Projection(Projection::try_new(counted, Arc::new(groups))?);
    let values = vec![
        count(lit(1i64)).alias("groups"),
        max(named("n")).alias("largest"),
        sum(named("n")).alias("rows"),
        sum(named("kept")).alias("kept"),
        sum(named("clamped")).alias("clamped"),
    ];
    let units = LogicalPlan::Aggregate(Aggregate::try_new(
        Arc::new(groups),
        unit.iter().map(|name| named(name)).collect(),
        values,
    )?);

    let float = |name: &str| cast(named(name), DataType::Float64);
    let mut columns: Vec<Expr> = unit.iter().map(|name| named(name)).collect();
    columns.extend([
        ((float("rows") - float("kept")) / float("rows")).alias("argument0"),
        (float("clamped") / float("rows")).alias("argument1"),
        named("groups").gt(lit(i64::try_from(spec.bounds.groups).unwrap_or(i64::MAX))).alias("filter0"),
        named("largest").gt(most).alias("filter1"),
        named("clamped").gt(lit(0i64)).alias("filter2"),
    ]);
    let input = LogicalPlan::Projection(Projection::try_new(columns, Arc::new(units))?);

    let share = Lattice::new(&DataType::Float64, 0.0, 1.0, false).ok_or_else(|| Refusal {
        kind: RefusalKind::Internal,
        detail: "a share has no lattice".into(),
        hint: None,
        position: None,
    })?;
    let of_filter = |filter: usize| Measure { kind: MeasureKind::Rows, filter: Some(filter) };
    let of_share = |argument: usize| Measure { kind: MeasureKind::Sum { argument, lattice: share }, filter: None };
    let mut measures = vec![of_filter(0), of_filter(1), of_filter(2), of_share(0), of_share(1)];
    // Shares are of rows: with epochs a unit has one in each, and is counted once.
    let rows = match spec.epochs {
        None => Output::Units,
        Some(_) => {
            measures.push(Measure { kind: MeasureKind::Rows, filter: None });
            Output::Count { measure: measures.len() - 1 }
        }
    };
    let outputs = [
        (DataType::Int64, rows),
        (DataType::Int64, Output::Count { measure: 0 }),
        (DataType::Int64, Output::Count { measure: 1 }),
        (DataType::Int64, Output::Count { measure: 2 }),
        (DataType::Float64, Output::Sum { measure: 3 }),
        (DataType::Float64, Output::Sum { measure: 4 }),
    ];
    let diagnosed = ReleaseSpec {
        unit_domain: spec.unit_domain.clone(),
        keys: Vec::new(),
        arguments: 2,
        filters: 3,
        measures,
        histograms: Vec::new(),
        quantiles: Vec::new(),
        outputs: DIAGNOSTICS
            .iter()
            .zip(outputs)
            .map(|(name, (kind, output))| (Arc::new(Field::new(*name, kind, true)), output))
            .collect(),
        // A row a unit, and one group.
        bounds: ContributionBounds { groups: 1, rows: 1, total_rows: None },
        min_group_size: spec.min_group_size,
        groups: Groups::Public { keys: Vec::new(), cells: 1 },
        sets: None,
        epochs: spec.epochs.clone(),
    };
    Ok((input, diagnosed))
}
