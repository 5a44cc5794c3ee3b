//! The physical proof: rows of one unit meet before they are bounded, all sums before noise is drawn, and nothing takes some
//! rows only.

use std::sync::Arc;

use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::{FileScanConfig, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_expr::Partitioning;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::expressions::Column as PhysicalColumn;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

use super::super::bound::{BoundExec, Meeting};
use super::super::draw_exec::DrawExec;
use super::super::spec::ReleaseSpec;
use super::{Unproven, noise, unproven};

/// Proves the physical plan of a release, of whose logical plan it was proven whether units have one row each (`alone`).
///
/// # Errors
/// When a property of the module's list cannot be proven.
pub fn release_execution(plan: &Arc<dyn ExecutionPlan>, alone: bool) -> Result<(), Unproven> {
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
    match bound.meeting() {
        // It reads all partitions.
        Meeting::Inside | Meeting::InOrder => {}
        Meeting::Below
            if input.output_partitioning().partition_count() == 1
                || partitioned_by_unit(input.output_partitioning()) => {}
        // Pairs of one unit are several rows, and it is counted once for all of them.
        Meeting::Alone if alone && bound.spec().epochs.is_none() => {}
        Meeting::Below | Meeting::Alone => return unproven("a unit's rows are in several partitions"),
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
