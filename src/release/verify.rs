//! The independent verifier: walks the *finished* plans, after every optimizer rule, and refuses what it cannot prove.
//!
//! The analysis put the bounds in; this does not ask it how. It proves on its own, first on the optimised logical plan
//! and again on the physical one, that
//!
//! 1. every private row that reaches a release carries the unit's id of its own dataset, untouched, in the release's
//!    unit column, and was dropped if that was NULL;
//! 2. nothing between the scan and the release can see several rows at once (no limit, sort, aggregate, window);
//! 3. all rows of one unit meet in one partition before they are bounded, and all sums in one before noise is drawn;
//! 4. what is computed after a release reads released values and public tables alone;
//! 5. the noise in the plan is at least what its stated cost says, for the sensitivity that the specification says.

use std::sync::Arc;

use datafusion::common::Column;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::{FileScanConfig, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::logical_expr::{Expr, JoinType, LogicalPlan, Volatility};
use datafusion::physical_expr::Partitioning;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::expressions::Column as PhysicalColumn;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use thiserror::Error;

use crate::accounting::Loss;
use crate::catalog::{DatasetTable, Protection};
use crate::mechanism::Noise;

use super::bound_exec::BoundExec;
use super::draw_exec::DrawExec;
use super::node::{ReleaseNode, ReleasedNode};
use super::price::NoisePlan;
use super::spec::ReleaseSpec;

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
                Rows::Public => Rows::Public,
            })
        }
        LogicalPlan::Projection(projection) => Ok(match rows(&projection.input)? {
            Rows::Public => Rows::Public,
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
                let Rows::Private { unit, has_unit } = input else { return unproven("a union with public rows") };
                united = Some(match united {
                    None => (unit, has_unit),
                    Some((so_far, all)) => {
                        (so_far.into_iter().filter(|at| unit.contains(at)).collect(), all && has_unit)
                    }
                });
            }
            united
                .map_or_else(|| unproven("a union of nothing"), |(unit, has_unit)| Ok(Rows::Private { unit, has_unit }))
        }
        LogicalPlan::Join(join) => {
            let width = join.left.schema().fields().len();
            match (rows(&join.left)?, rows(&join.right)?, join.join_type) {
                (Rows::Public, Rows::Public, _) => Ok(Rows::Public),
                (private @ Rows::Private { .. }, Rows::Public, JoinType::Inner | JoinType::Left) => Ok(private),
                (Rows::Public, Rows::Private { unit, has_unit }, JoinType::Inner | JoinType::Right) => {
                    Ok(Rows::Private { unit: unit.into_iter().map(|at| at + width).collect(), has_unit })
                }
                (_, _, kind) => unproven(format!("a {kind} join of these relations")),
            }
        }
        LogicalPlan::EmptyRelation(empty) if !empty.produce_one_row => {
            // The optimizer proved that a part of the plan has no rows, from the SQL alone: no unit is in it.
            Ok(Rows::Private { unit: (0..empty.schema.fields().len()).collect(), has_unit: true })
        }
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
    let groups = u128::from(spec.bounds.groups);
    let units = plan.units().map(|noise| (noise, Some(groups), Some(groups)));
    let measures = spec.measures.iter().zip(plan.measures()).map(|(measure, noise)| {
        (noise, spec.squared_sensitivity(measure.bound()), spec.absolute_sensitivity(measure.bound()))
    });
    let mut paid = Loss::nothing(plan.cost().loss.accounting());
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
        "FilterExec"
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
        // Public relations may be aggregated or sorted before they are joined: the logical proof says which they are.
        "AggregateExec"
        | "SortExec"
        | "SortPreservingMergeExec"
        | "GlobalLimitExec"
        | "LocalLimitExec"
        | "WindowAggExec"
        | "BoundedWindowAggExec" => unproven(format!("{} below a release", plan.name())),
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
