//! What was computed from kept draws: the rows of an answer follow from the analysis, the draws and the public rows beside them,
//! and from nothing else, so that the same answer again needs no engine.
//!
//! An analysis is one consumer's ([`super::analyses`]), so that how fast an answer is tells nobody what another has asked. Whether it
//! may be given is not looked at here: the draws are those that the ledger has just given out for this consumer.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::Array;
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};

use crate::analysis::Analysed;

/// How many answers are remembered: those that were computed last.
const MOST: usize = 256;
/// The most bytes of rows, and of draws and public rows, of one that is remembered.
const MOST_BYTES: usize = 64 << 10;

/// The answers that were computed last.
#[derive(Debug, Default)]
pub(super) struct Computed(Mutex<VecDeque<Arc<Remembered>>>);

#[derive(Debug)]
struct Remembered {
    /// Held, so that no other comes to lie at its address.
    analysed: Arc<Analysed>,
    drawn: Vec<RecordBatch>,
    known: Vec<Vec<RecordBatch>>,
    rows: Vec<RecordBatch>,
}

impl Computed {
    /// The rows that were computed from the same.
    pub(super) fn earlier(
        &self,
        analysed: &Arc<Analysed>,
        drawn: &[RecordBatch],
        known: &[Vec<RecordBatch>],
    ) -> Option<Vec<RecordBatch>> {
        let of_analysis = {
            let remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            remembered.iter().find(|earlier| Arc::ptr_eq(&earlier.analysed, analysed)).cloned()
        };
        of_analysis
            .filter(|earlier| earlier.drawn == drawn && earlier.known == known)
            .map(|earlier| earlier.rows.clone())
    }

    /// Remembers rows, unless there are many, or they would be others at another time.
    pub(super) fn remember(
        &self,
        analysed: &Arc<Analysed>,
        drawn: &[RecordBatch],
        known: &[Vec<RecordBatch>],
        rows: &[RecordBatch],
    ) {
        let all = drawn.iter().chain(known.iter().flatten()).chain(rows);
        let bytes: usize = all.flat_map(RecordBatch::columns).map(Array::get_array_memory_size).sum();
        if bytes > MOST_BYTES || !is_fixed(analysed.post()) {
            return;
        }
        let (analysed, drawn) = (Arc::clone(analysed), drawn.to_vec());
        let computed = Arc::new(Remembered { analysed, drawn, known: known.to_vec(), rows: rows.to_vec() });
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.retain(|earlier| !Arc::ptr_eq(&earlier.analysed, &computed.analysed));
        remembered.push_back(computed);
        while remembered.len() > MOST {
            remembered.pop_front();
        }
    }
}

/// Whether a plan's rows follow from its inputs, whenever it runs.
fn is_fixed(plan: &LogicalPlan) -> bool {
    let mut fixed = true;
    let mut look = |expr: &Expr| {
        fixed &=
            !matches!(expr, Expr::ScalarFunction(call) if call.func.signature().volatility != Volatility::Immutable);
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
