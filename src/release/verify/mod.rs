//! The independent verifier: walks the *finished* plans, after every optimizer rule, and refuses what it cannot prove.
//!
//! The analysis put the bounds in; this does not ask it how. It proves on its own, first on the optimised logical plan
//! and again on the physical one, that
//!
//! 1. every private row that reaches a release carries the unit's id of its own dataset, untouched, in the release's
//!    unit column, and was dropped if that was NULL;
//! 2. what between the scan and the release sees several private rows at once sees those of one unit: an aggregate that
//!    groups by the unit, a window that is partitioned by it, a join on it; and nothing takes some rows only (a limit);
//! 3. all rows of one unit meet before they are bounded, in the operator that bounds them or in one partition below it, unless
//!    there is one row a unit; and all sums meet before noise is drawn;
//! 4. what is computed after a release reads released values and public tables alone;
//! 5. where the datasets have epochs, all of that holds of a unit in one epoch (the release's epoch column is the epoch of the
//!    dataset's time column, and every operator of 2 sees one of them), and rows of epochs that are not charged were dropped;
//! 6. the noise in the plan is at least what its stated cost says, for the sensitivity that the specification says.

mod logical;
mod physical;

use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::LogicalPlan;
use thiserror::Error;

use crate::accounting::Loss;
use crate::catalog::{DatasetTable, Protection};
use crate::mechanism::Noise;

use super::draw::Merge;
use super::node::{ReleaseNode, ReleasedNode};
use super::price::NoisePlan;
use super::spec::{Groups, ReleaseSpec};

pub use physical::release_execution;

/// What could not be proven. For the log; a caller is told only that the query cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the finished plan is not proven private: {0}")]
pub struct Unproven(String);

fn unproven<T>(why: impl Into<String>) -> Result<T, Unproven> {
    Err(Unproven(why.into()))
}

/// Proves the optimised plan of a release. True where it proves, too, that each unit has at most one row when it is bounded.
///
/// # Errors
/// When a property of the module's list cannot be proven.
pub fn release_plan(plan: &LogicalPlan) -> Result<bool, Unproven> {
    let LogicalPlan::Extension(extension) = plan else { return unproven("its top is no release") };
    let Some(release) = extension.node.as_any().downcast_ref::<ReleaseNode>() else {
        return unproven("its top is no release");
    };
    noise(release.spec(), release.noise())?;
    logical::release_input(release.input(), release.spec())
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
