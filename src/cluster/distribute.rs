//! From the proven plan of a release to what the cluster runs of it.
//!
//! ```text
//! DrawExec                                     DrawExec                       the gateway
//!   CoalescePartitionsExec                       RemoteSumsExec ─ ─ ─ ─ ─┐
//!     BoundExec                       ──▶       PartitionBoundExec  ◀─ ─ ┘    the cluster
//!       rows, somehow partitioned                RepartitionExec: hash(unit)
//!                                                  rows
//! ```
//!
//! Ballista cuts a plan at its exchanges and plans the pieces anew, and it may exchange a join's sides otherwise than the
//! plan did. So the one thing that privacy rests on is never left to what an operator below happens to guarantee: the
//! exchange by unit stands directly below the bounds, always, and a worker refuses bounds over anything else
//! ([`super::stage`]).

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{JoinType, Result, internal_err};
use datafusion::physical_expr::Partitioning;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::joins::NestedLoopJoinExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, replace_children_if_necessary};

use crate::release::{BoundExec, DrawExec, ReleaseSpec, SelectionKey};

use super::partition_bound::PartitionBoundExec;
use super::wire::bounding_of;

/// The part of a release that a cluster runs.
#[derive(Debug)]
pub struct Distributed {
    /// What is sent: bounds over an exchange by unit.
    pub plan: Arc<PartitionBoundExec>,
    /// The release, as the gateway knows it.
    pub spec: Arc<ReleaseSpec>,
    /// Into how many partitions the units are split.
    pub partitions: usize,
}

/// What of `plan`, a release's physical plan that is proven, runs in a cluster, in `partitions` parts.
///
/// # Errors
/// When it is not the plan of a release.
pub fn distribute(
    plan: &Arc<dyn ExecutionPlan>,
    selection_key: SelectionKey,
    partitions: usize,
) -> Result<Distributed> {
    let Some(draw) = downcast::<DrawExec>(plan) else { return internal_err!("what draws no noise is not distributed") };
    let bound = match downcast::<CoalescePartitionsExec>(draw.input()) {
        Some(coalesce) if coalesce.fetch().is_none() => coalesce.input(),
        Some(_) => return internal_err!("sums with a limit are not distributed"),
        None => draw.input(),
    };
    let Some(bound) = downcast::<BoundExec>(bound) else { return internal_err!("unbounded sums are not distributed") };
    let rows = Arc::clone(bound.input()).transform_up(alone_where_it_must).map(|rows| rows.data)?;
    // An exchange that is there already is replaced, so that rows travel once.
    let rows = match downcast::<RepartitionExec>(&rows) {
        Some(exchange) if exchange.fetch().is_none() => Arc::clone(exchange.input()),
        _ => rows,
    };
    let unit = PartitionBoundExec::unit(&rows);
    let exchange = RepartitionExec::try_new(rows, Partitioning::Hash(vec![unit], partitions.max(1)))?;
    let sent = Arc::new(bounding_of(bound.spec()));
    Ok(Distributed {
        plan: Arc::new(PartitionBoundExec::new(Arc::new(exchange), sent, selection_key)),
        spec: Arc::clone(bound.spec()),
        partitions: partitions.max(1),
    })
}

/// A join that tells at its end which rows of its left side met none has to see its whole right side: in one process its
/// partitions share what they have seen, in several they would each tell of the same rows. Its right side becomes one
/// partition, and so one task. Hash joins are minded by Ballista itself.
fn alone_where_it_must(plan: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let Some(join) = downcast::<NestedLoopJoinExec>(&plan) else { return Ok(Transformed::no(plan)) };
    let tells_of_the_left = match join.join_type() {
        JoinType::Left | JoinType::Full | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => true,
        JoinType::Inner | JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => false,
    };
    if !tells_of_the_left || join.right().output_partitioning().partition_count() == 1 {
        return Ok(Transformed::no(plan));
    }
    let right = Arc::new(CoalescePartitionsExec::new(Arc::clone(join.right())));
    let left = Arc::clone(join.left());
    Ok(Transformed::yes(replace_children_if_necessary(plan, vec![left, right])?))
}

fn downcast<T: ExecutionPlan>(plan: &Arc<dyn ExecutionPlan>) -> Option<&T> {
    let any: &dyn std::any::Any = plan.as_ref();
    any.downcast_ref::<T>()
}
