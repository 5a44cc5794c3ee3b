//! Which side of a join is held in memory: the public or released one.
//!
//! Of private relations no number of rows is known to the planner (`collect_statistics` is off, and a scan states none), so the engine
//! would hold whichever stands on the left, and deal the rows of both out by the keys. With the public side held whole, private rows
//! pass by as they are read, and what the join does before the first of them depends on none.

#[cfg(test)]
mod tests;

use std::any::Any;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode};
use datafusion::physical_plan::{ExecutionPlan, StatisticsArgs, StatisticsContext};

/// Holds the side whose number of rows is known, where that of the other is not.
#[derive(Debug)]
pub(super) struct BuildSide;

impl PhysicalOptimizerRule for BuildSide {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|plan| {
            let any: &dyn Any = plan.as_ref();
            let Some(join) = any.downcast_ref::<HashJoinExec>() else { return Ok(Transformed::no(plan)) };
            if *join.partition_mode() == PartitionMode::CollectLeft || join.null_aware {
                return Ok(Transformed::no(plan));
            }
            Ok(match (is_counted(join.left())?, is_counted(join.right())?) {
                (false, true) if join.join_type().supports_swap() => {
                    Transformed::yes(join.swap_inputs(PartitionMode::CollectLeft)?)
                }
                (true, false) => {
                    Transformed::yes(Arc::new(join.builder().with_partition_mode(PartitionMode::CollectLeft).build()?))
                }
                _ => Transformed::no(plan),
            })
        })
        .data()
    }

    fn name(&self) -> &'static str {
        "build_side"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Whether the planner knows about how many rows a plan has.
fn is_counted(plan: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    let statistics = StatisticsContext::new().compute(plan.as_ref(), &StatisticsArgs::new())?;
    Ok(statistics.num_rows.get_value().is_some())
}
