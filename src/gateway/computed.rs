//! What was computed from kept draws: the rows of an answer follow from the analysis, the draws and the public rows beside them,
//! and from nothing else, so that the same answer again needs no engine. They are remembered with the analysis, which is one
//! consumer's ([`super::analyses`]).
//!
//! Whether they may be given is not looked at here: the draws are those that the ledger has just given out for this consumer.

use arrow::array::Array;
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};

/// The most bytes of rows, and of draws and public rows, that are remembered of one answer.
const MOST_BYTES: usize = 64 << 10;

/// The rows of an answer, with what they were computed from.
#[derive(Debug)]
pub(super) struct Computed {
    drawn: Vec<RecordBatch>,
    known: Vec<Vec<RecordBatch>>,
    rows: Vec<RecordBatch>,
}

impl Computed {
    /// What is remembered of an answer; `None` where it is large.
    pub(super) fn new(drawn: &[RecordBatch], known: &[Vec<RecordBatch>], rows: &[RecordBatch]) -> Option<Self> {
        let all = drawn.iter().chain(known.iter().flatten()).chain(rows);
        let bytes: usize = all.flat_map(RecordBatch::columns).map(Array::get_array_memory_size).sum();
        let computed = || Self { drawn: drawn.to_vec(), known: known.to_vec(), rows: rows.to_vec() };
        (bytes <= MOST_BYTES).then(computed)
    }

    /// The rows, if they were computed from the same.
    pub(super) fn of(&self, drawn: &[RecordBatch], known: &[Vec<RecordBatch>]) -> Option<Vec<RecordBatch>> {
        (self.drawn == drawn && self.known == known).then(|| self.rows.clone())
    }
}

/// Whether a plan's rows follow from its inputs, whenever it runs.
pub(super) fn is_fixed(plan: &LogicalPlan) -> bool {
    let mut fixed = true;
    let mut look = |expr: &Expr| {
        let volatility = match expr {
            Expr::ScalarFunction(call) => call.func.signature().volatility,
            Expr::AggregateFunction(call) => call.func.signature().volatility,
            Expr::WindowFunction(call) => call.fun.signature().volatility,
            _ => Volatility::Immutable,
        };
        fixed &= volatility == Volatility::Immutable;
        Ok(if fixed { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    };
    let looked = plan.apply_with_subqueries(|node| node.apply_expressions(|expr| expr.apply(&mut look)));
    looked.is_ok() && fixed
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;

    use super::is_fixed;

    #[tokio::test]
    async fn what_depends_on_the_time_or_on_chance_is_not_fixed() {
        let context = SessionContext::new();
        for (sql, fixed) in [
            ("SELECT abs(x) FROM (VALUES (1), (2)) AS t(x) ORDER BY x LIMIT 1", true),
            ("SELECT x + random() FROM (VALUES (1), (2)) AS t(x)", false),
            ("SELECT x FROM (VALUES (1), (2)) AS t(x) WHERE now() > '2026-01-01'::timestamp", false),
            (
                "SELECT x FROM (VALUES (1), (2)) AS t(x) WHERE x > (SELECT max(y * random()) FROM (VALUES (1)) AS u(y))",
                false,
            ),
        ] {
            let plan = context.sql(sql).await.unwrap().into_unoptimized_plan();
            assert_eq!(is_fixed(&plan), fixed, "{sql}");
        }
    }
}
