//! The independent verifier: walks the *finished* plans, after every optimizer rule, and refuses what it cannot prove.
//!
//! The analysis put the bounds in; this does not ask it how. It proves on its own, first on the optimised logical plan
//! and again on the physical one, that
//!
//! 1. every private row that reaches a release carries the unit's id of its own dataset, untouched, in the release's
//!    unit column, and was dropped if that was NULL;
//! 2. what between the scan and the release sees several private rows at once sees those of one unit: an aggregate that
//!    groups by the unit, a window that is partitioned by it, a join on it; and nothing takes some rows only (a limit);
//! 3. all rows of one unit meet in one partition before they are bounded, and all sums in one before noise is drawn;
//! 4. what is computed after a release reads released values and public tables alone;
//! 5. the noise in the plan is at least what its stated cost says, for the sensitivity that the specification says.

use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::{FileScanConfig, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::logical_expr::expr::BinaryExpr;
use datafusion::logical_expr::{Distinct, Expr, ExprSchemable, Join, JoinType, LogicalPlan, Operator, Volatility};
use datafusion::physical_expr::Partitioning;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::expressions::Column as PhysicalColumn;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use thiserror::Error;

use crate::accounting::Loss;
use crate::catalog::{DatasetTable, Protection};
use crate::mechanism::Noise;

use super::bound_exec::BoundExec;
use super::cap::CapNode;
use super::draw::Merge;
use super::draw_exec::DrawExec;
use super::node::{ReleaseNode, ReleasedNode};
use super::price::NoisePlan;
use super::spec::{Groups, ReleaseSpec};

/// What could not be proven. For the log; a caller is told only that the query cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the finished plan is not proven private: {0}")]
pub struct Unproven(String);

fn unproven<T>(why: impl Into<String>) -> Result<T, Unproven> {
    Err(Unproven(why.into()))
}

/// What the verifier knows of a logical relation.
#[derive(Debug, Clone)]
enum Rows {
    /// No private row is in it.
    Public,
    /// No row is in it, as the SQL alone proves.
    Nothing,
    /// Private rows; these columns hold the unit's id. Without one the unit is lost.
    Private { unit: Vec<usize>, has_unit: bool },
}

/// Proves the optimised plan of a release.
///
/// # Errors
/// When a property of the module's list cannot be proven.
pub fn release_plan(plan: &LogicalPlan) -> Result<(), Unproven> {
    let LogicalPlan::Extension(extension) = plan else { return unproven("its top is no release") };
    let Some(release) = extension.node.as_any().downcast_ref::<ReleaseNode>() else {
        return unproven("its top is no release");
    };
    noise(release.spec(), release.noise())?;
    match rows(release.input())? {
        Rows::Public => unproven("a release of public rows"),
        Rows::Nothing => Ok(()),
        Rows::Private { unit, has_unit } => {
            if !unit.contains(&ReleaseSpec::UNIT) {
                return unproven("the unit column of the release is not the datasets' unit");
            }
            if !has_unit {
                return unproven("rows without a unit are not dropped");
            }
            Ok(())
        }
    }
}

fn rows(plan: &LogicalPlan) -> Result<Rows, Unproven> {
    for expr in plan.expressions() {
        total(&expr)?;
    }
    match plan {
        LogicalPlan::TableScan(scan) => {
            let Some(table) = DatasetTable::of(&scan.source) else { return unproven("a scan of an unknown table") };
            if scan.fetch.is_some() {
                return unproven("a scan with a limit");
            }
            let Protection::Private(policy) = table.protection() else { return Ok(Rows::Public) };
            let schema = &scan.projected_schema;
            let unit: Vec<usize> =
                (0..schema.fields().len()).filter(|at| *schema.field(*at).name() == policy.privacy.unit).collect();
            let nullable = unit.first().is_none_or(|at| schema.field(*at).is_nullable());
            Ok(Rows::Private { unit, has_unit: !nullable })
        }
        LogicalPlan::Filter(filter) => {
            let below = rows(&filter.input)?;
            Ok(match below {
                Rows::Private { unit, has_unit } => {
                    let has_unit = has_unit
                        || conjuncts(&filter.predicate).into_iter().any(|part| {
                            matches!(part, Expr::IsNotNull(inner)
                                if place(inner, plan_of(filter)).is_some_and(|at| unit.contains(&at)))
                        });
                    Rows::Private { unit, has_unit }
                }
                other => other,
            })
        }
        LogicalPlan::Projection(projection) => Ok(match rows(&projection.input)? {
            Rows::Public => Rows::Public,
            Rows::Nothing => Rows::Nothing,
            Rows::Private { unit: below, has_unit } => {
                let unit = projection
                    .expr
                    .iter()
                    .enumerate()
                    .filter(|(_, expr)| place(expr, &projection.input).is_some_and(|at| below.contains(&at)))
                    .map(|(at, _)| at)
                    .collect();
                Rows::Private { unit, has_unit }
            }
        }),
        LogicalPlan::SubqueryAlias(alias) => rows(&alias.input),
        LogicalPlan::Union(union) => {
            let inputs = union.inputs.iter().map(|input| rows(input)).collect::<Result<Vec<_>, _>>()?;
            let mut united: Option<(Vec<usize>, bool)> = None;
            for input in inputs {
                let (unit, has_unit) = match input {
                    Rows::Private { unit, has_unit } => (unit, has_unit),
                    Rows::Nothing => continue,
                    Rows::Public => return unproven("a union with public rows"),
                };
                united = Some(match united {
                    None => (unit, has_unit),
                    Some((so_far, all)) => {
                        (so_far.into_iter().filter(|at| unit.contains(at)).collect(), all && has_unit)
                    }
                });
            }
            Ok(united.map_or(Rows::Nothing, |(unit, has_unit)| Rows::Private { unit, has_unit }))
        }
        LogicalPlan::Join(join) => joined(join),
        LogicalPlan::Aggregate(aggregate) if !is_public(plan) => match rows(&aggregate.input)? {
            Rows::Private { unit: below, has_unit } => {
                let is_unit = |expr: &Expr| place(expr, &aggregate.input).is_some_and(|at| below.contains(&at));
                let unit: Vec<usize> =
                    (0..aggregate.group_expr.len()).filter(|at| is_unit(&aggregate.group_expr[*at])).collect();
                if unit.is_empty() {
                    return unproven("an aggregate over several units");
                }
                aggregate.aggr_expr.iter().try_for_each(|expr| order_free(expr, aggregate.input.schema()))?;
                Ok(Rows::Private { unit, has_unit })
            }
            other => Ok(other),
        },
        LogicalPlan::Distinct(Distinct::All(input)) if !is_public(plan) => match rows(input)? {
            Rows::Private { unit, .. } if unit.is_empty() => unproven("DISTINCT over several units"),
            other => Ok(other),
        },
        LogicalPlan::Window(window) if !is_public(plan) => match rows(&window.input)? {
            Rows::Private { unit, has_unit } => {
                for expr in &window.window_expr {
                    let Expr::WindowFunction(call) = unaliased(expr) else { return unproven("an unknown window") };
                    let of_unit = |expr: &Expr| place(expr, &window.input).is_some_and(|at| unit.contains(&at));
                    if !call.params.partition_by.iter().any(of_unit) {
                        return unproven("a window over several units");
                    }
                }
                Ok(Rows::Private { unit, has_unit })
            }
            other => Ok(other),
        },
        // The optimizer proved that a part of the plan has no rows, from the SQL alone: no unit is in it.
        LogicalPlan::EmptyRelation(empty) if !empty.produce_one_row => Ok(Rows::Nothing),
        LogicalPlan::Extension(extension) if extension.node.as_any().is::<ReleasedNode>() => Ok(Rows::Public),
        LogicalPlan::Extension(extension) => match extension.node.as_any().downcast_ref::<CapNode>() {
            Some(cap) => {
                let below = rows(cap.input())?;
                let by_unit = |unit: &[usize]| {
                    cap.keys().iter().any(|key| place(key, cap.input()).is_some_and(|at| unit.contains(&at)))
                };
                match &below {
                    Rows::Private { unit, .. } if !by_unit(unit) => unproven("a cap over several units"),
                    _ => Ok(below),
                }
            }
            None => unproven(format!("the node {} below a release", plan.display())),
        },
        public @ (LogicalPlan::Values(_)
        | LogicalPlan::EmptyRelation(_)
        | LogicalPlan::Aggregate(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::Distinct(_)
        | LogicalPlan::Window(_)) => {
            only_public(public)?;
            Ok(Rows::Public)
        }
        other => unproven(format!("the node {} below a release", other.display())),
    }
}

fn joined(join: &Join) -> Result<Rows, Unproven> {
    use JoinType::{Inner, Left, LeftAnti, LeftMark, LeftSemi, Right, RightAnti, RightMark, RightSemi};
    let width = join.left.schema().fields().len();
    let shifted = |unit: &[usize]| unit.iter().map(|at| at + width).collect::<Vec<_>>();
    let (left, right) = (rows(&join.left)?, rows(&join.right)?);
    match (left, right, join.join_type) {
        (Rows::Private { unit: l, has_unit: left_has }, Rows::Private { unit: r, has_unit: right_has }, kind) => {
            if join.null_aware || !on_units(join, &l, &r) {
                return unproven("a join of private rows that does not compare their units");
            }
            let has_unit = left_has && right_has;
            Ok(match kind {
                Inner => Rows::Private { unit: l.iter().copied().chain(shifted(&r)).collect(), has_unit },
                Left | LeftSemi | LeftAnti | LeftMark => Rows::Private { unit: l, has_unit: left_has },
                Right => Rows::Private { unit: shifted(&r), has_unit: right_has },
                RightSemi | RightAnti | RightMark => Rows::Private { unit: r, has_unit: right_has },
                JoinType::Full => return unproven("a full join of private rows"),
            })
        }
        (Rows::Nothing, _, Inner | Left | LeftSemi | LeftAnti | LeftMark | RightSemi)
        | (_, Rows::Nothing, Inner | Right | RightSemi | RightAnti | RightMark | LeftSemi) => Ok(Rows::Nothing),
        (private @ Rows::Private { .. }, _, Inner | Left | LeftSemi | LeftAnti | LeftMark) => Ok(private),
        (_, Rows::Private { unit, has_unit }, Inner | Right) => Ok(Rows::Private { unit: shifted(&unit), has_unit }),
        (_, private @ Rows::Private { .. }, RightSemi | RightAnti | RightMark) => Ok(private),
        (Rows::Public | Rows::Nothing, Rows::Public | Rows::Nothing, _) => Ok(Rows::Public),
        (_, _, kind) => unproven(format!("a {kind} join of these relations")),
    }
}

/// Whether every pair of joined rows is of one unit: an equality, without casts, of the two sides' unit columns.
fn on_units(join: &Join, left: &[usize], right: &[usize]) -> bool {
    let of_left = |expr: &Expr| place(expr, &join.left).is_some_and(|at| left.contains(&at));
    let of_right = |expr: &Expr| place(expr, &join.right).is_some_and(|at| right.contains(&at));
    join.on.iter().any(|(a, b)| of_left(a) && of_right(b))
        || join.filter.as_ref().map(conjuncts).unwrap_or_default().into_iter().any(|part| {
            matches!(part, Expr::BinaryExpr(BinaryExpr { left: a, op: Operator::Eq, right: b })
                if (of_left(a) && of_right(b)) || (of_right(a) && of_left(b)))
        })
}

/// Whether a plan reads no private table.
fn is_public(plan: &LogicalPlan) -> bool {
    only_public(plan).is_ok()
}

/// An aggregate whose value does not depend on the order of rows.
fn order_free(expr: &Expr, schema: &DFSchema) -> Result<(), Unproven> {
    let Expr::AggregateFunction(call) = unaliased(expr) else { return unproven("an unknown aggregate") };
    let floats = |expr: &Expr| expr.get_type(schema).is_ok_and(|kind| kind.is_floating());
    match call.func.name() {
        "count" | "min" | "max" | "median" | "bool_and" | "bool_or" => Ok(()),
        "sum" if !call.params.args.iter().any(floats) => Ok(()),
        other => unproven(format!("the aggregate {other} for each unit")),
    }
}

fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}

fn plan_of(filter: &datafusion::logical_expr::Filter) -> &LogicalPlan {
    &filter.input
}

/// Proves that a plan reads no private table.
fn only_public(plan: &LogicalPlan) -> Result<(), Unproven> {
    let mut proven = Ok(());
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let public =
                DatasetTable::of(&scan.source).is_some_and(|table| matches!(table.protection(), Protection::Public));
            if !public {
                proven = unproven("a private table where only public ones may be");
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .map_err(|error| Unproven(error.strip_backtrace()))?;
    proven
}

/// Proves what is computed after the releases: its leaves are released values, public tables and literals.
///
/// # Errors
/// When it reads anything else.
pub fn post_plan(plan: &LogicalPlan) -> Result<(), Unproven> {
    let mut proven = Ok(());
    plan.apply_with_subqueries(|node| {
        let fine = match node {
            LogicalPlan::TableScan(scan) => {
                DatasetTable::of(&scan.source).is_some_and(|table| matches!(table.protection(), Protection::Public))
            }
            LogicalPlan::Extension(extension) => extension.node.as_any().is::<ReleasedNode>(),
            LogicalPlan::Values(_) | LogicalPlan::EmptyRelation(_) => true,
            LogicalPlan::Dml(_)
            | LogicalPlan::Ddl(_)
            | LogicalPlan::Copy(_)
            | LogicalPlan::Statement(_)
            | LogicalPlan::Explain(_)
            | LogicalPlan::Analyze(_)
            | LogicalPlan::DescribeTable(_) => false,
            other => !other.inputs().is_empty(),
        };
        if fine {
            return Ok(TreeNodeRecursion::Continue);
        }
        proven = unproven(format!("the node {} above a release", node.display()));
        Ok(TreeNodeRecursion::Stop)
    })
    .map_err(|error| Unproven(error.strip_backtrace()))?;
    proven
}

/// A column of a plan that an expression passes on untouched.
fn place(expr: &Expr, input: &LogicalPlan) -> Option<usize> {
    match expr {
        Expr::Alias(alias) => place(&alias.expr, input),
        Expr::Column(column) => index(column, input),
        _ => None,
    }
}

fn index(column: &Column, input: &LogicalPlan) -> Option<usize> {
    input.schema().index_of_column(column).ok()
}

fn conjuncts(expr: &Expr) -> Vec<&Expr> {
    datafusion::logical_expr::utils::split_conjunction(expr)
}

/// No subquery, no volatile function, no plain cast that could fail, below a release.
fn total(expr: &Expr) -> Result<(), Unproven> {
    let mut proven = Ok(());
    expr.apply(|part| {
        let fine = match part {
            Expr::Exists(_)
            | Expr::InSubquery(_)
            | Expr::SetComparison(_)
            | Expr::ScalarSubquery(_)
            | Expr::OuterReferenceColumn(..)
            | Expr::Placeholder(_)
            | Expr::Unnest(_) => false,
            Expr::ScalarFunction(call) => call.func.signature().volatility != Volatility::Volatile,
            _ => true,
        };
        if fine {
            return Ok(TreeNodeRecursion::Continue);
        }
        proven = unproven(format!("the expression `{part}`"));
        Ok(TreeNodeRecursion::Stop)
    })
    .map_err(|error| Unproven(error.strip_backtrace()))?;
    proven
}

/// The noise is there for every measure, and is as large as its cost says.
fn noise(spec: &ReleaseSpec, plan: &NoisePlan) -> Result<(), Unproven> {
    if plan.measures().len() != spec.measures.len() {
        return unproven("a measure has no noise");
    }
    if spec.counts_units() != plan.units().is_some() || spec.selects_groups() != plan.selection().is_some() {
        return unproven("units are counted, or groups selected, without noise");
    }
    if let Groups::Public { cells, .. } = &spec.groups {
        // Two cells that are one group would leave room for a group that is not listed.
        let listed = Merge::new(Arc::new(spec.clone())).map(|merge| merge.listed());
        if listed.ok() != Some(*cells) {
            return unproven("public groups that are listed twice");
        }
    }
    let groups = u128::from(spec.bounds.groups);
    let units = plan.units().map(|noise| (noise, Some(groups), Some(groups)));
    let measures = spec
        .measures
        .iter()
        .zip(plan.measures())
        .map(|(measure, noise)| (noise, spec.squared_sensitivity(measure), spec.absolute_sensitivity(measure)));
    let mut paid = Loss::nothing(plan.cost().loss.accounting());
    if plan.quantiles().len() != spec.quantiles.len() {
        return unproven("a quantile has no law");
    }
    for (quantile, law) in spec.quantiles.iter().zip(plan.quantiles()) {
        if law.sensitivity() < quantile.sensitivity(&spec.bounds) {
            return unproven("a quantile's law is for a smaller sensitivity");
        }
        let loss = match paid {
            Loss::Zcdp(_) => Loss::Zcdp(law.cost_zcdp(spec.bounds.groups)),
            Loss::Pure(_) => Loss::Pure(law.cost_pure(spec.bounds.groups)),
        };
        let Some(sum) = paid.checked_add(loss) else { return unproven("noise of two kinds in one release") };
        paid = sum;
    }
    for (noise, squared, absolute) in units.into_iter().chain(measures) {
        let loss = match (noise, squared, absolute) {
            (Noise::Gaussian(noise), Some(squared), _) => Loss::Zcdp(noise.cost(squared)),
            (Noise::Laplace(noise), _, Some(absolute)) => Loss::Pure(noise.cost(absolute)),
            _ => return unproven("a sensitivity that does not fit 128 bits"),
        };
        let Some(sum) = paid.checked_add(loss) else { return unproven("noise of two kinds in one release") };
        paid = sum;
    }
    if paid.steps() > plan.cost().loss.steps() { unproven("noise too small for its price") } else { Ok(()) }
}

/// Proves the physical plan of a release.
///
/// # Errors
/// When a property of the module's list cannot be proven.
pub fn release_execution(plan: &Arc<dyn ExecutionPlan>) -> Result<(), Unproven> {
    let Some(draw) = downcast::<DrawExec>(plan) else { return unproven("its top draws no noise") };
    noise(draw.spec(), draw.noise())?;
    if draw.input().output_partitioning().partition_count() != 1 {
        return unproven("noise is drawn in several partitions");
    }
    let bound = match downcast::<CoalescePartitionsExec>(draw.input()) {
        Some(coalesce) if coalesce.fetch().is_none() => coalesce.input(),
        Some(_) => return unproven("sums with a limit"),
        None => draw.input(),
    };
    let Some(bound) = downcast::<BoundExec>(bound) else { return unproven("noise is drawn over unbounded sums") };
    if !Arc::ptr_eq(bound.spec(), draw.spec()) {
        return unproven("bounds and noise are of two specifications");
    }
    let input = bound.input();
    if input.output_partitioning().partition_count() != 1 && !partitioned_by_unit(input.output_partitioning()) {
        return unproven("a unit's rows are in several partitions");
    }
    row_by_row(input)
}

fn partitioned_by_unit(partitioning: &Partitioning) -> bool {
    matches!(partitioning, Partitioning::Hash(exprs, _)
        if matches!(&exprs[..], [expr] if (expr.as_ref() as &dyn std::any::Any)
            .downcast_ref::<PhysicalColumn>()
            .is_some_and(|column| column.index() == ReleaseSpec::UNIT)))
}

/// Below the bounds there are scans, and operators that pass each row on, change it, drop it, or join it to public rows.
fn row_by_row(plan: &Arc<dyn ExecutionPlan>) -> Result<(), Unproven> {
    if plan.fetch().is_some() {
        return unproven(format!("{} has a limit", plan.name()));
    }
    match plan.name() {
        "DataSourceExec" => {
            let Some(scan) = downcast::<DataSourceExec>(plan) else { return unproven("an unknown scan") };
            let source: &dyn std::any::Any = scan.data_source().as_ref();
            if source.is::<MemorySourceConfig>() {
                return Ok(());
            }
            let Some(files) = source.downcast_ref::<FileScanConfig>() else { return unproven("an unknown scan") };
            let file_source: &dyn std::any::Any = files.file_source().as_ref();
            if files.limit.is_some() || !file_source.is::<ParquetSource>() {
                return unproven("a scan with a limit, or not of Parquet");
            }
            Ok(())
        }
        "RepartitionExec" => match downcast::<RepartitionExec>(plan) {
            Some(_) => children(plan),
            None => unproven("an unknown repartition"),
        },
        // The logical proof says that these see the rows of one unit, or public ones.
        "AggregateExec" => match downcast::<AggregateExec>(plan) {
            Some(aggregate) if aggregate.limit_options().is_none() => children(plan),
            _ => unproven("an aggregate with a limit"),
        },
        "SortExec"
        | "PartialSortExec"
        | "SortPreservingMergeExec"
        | "WindowAggExec"
        | "BoundedWindowAggExec"
        | "CapExec"
        | "FilterExec"
        | "ProjectionExec"
        | "UnionExec"
        | "InterleaveExec"
        | "CoalesceBatchesExec"
        | "CoalescePartitionsExec"
        | "CooperativeExec"
        | "HashJoinExec"
        | "EmptyExec"
        | "PlaceholderRowExec"
        | "NestedLoopJoinExec"
        | "SortMergeJoinExec"
        | "CrossJoinExec" => children(plan),
        other => unproven(format!("the operator {other} below a release")),
    }
}

fn children(plan: &Arc<dyn ExecutionPlan>) -> Result<(), Unproven> {
    plan.children().into_iter().try_for_each(row_by_row)
}

fn downcast<T: ExecutionPlan>(plan: &Arc<dyn ExecutionPlan>) -> Option<&T> {
    let any: &dyn std::any::Any = plan.as_ref();
    any.downcast_ref::<T>()
}
