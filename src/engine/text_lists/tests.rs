//! The same outcome as the engine's own, over texts short and long, NULLs and slices.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, StringViewArray};
use datafusion::physical_plan::{collect, displayable};
use datafusion::prelude::{SessionConfig, SessionContext};

use super::TextLists;

const TEXTS: [&str; 6] = ["", "a", "ab", "twelve bytes", "thirteen byte", "thirteen bytf and much longer than a view"];

/// With NULLs, or without.
fn batch(rows: usize, seed: usize, nulls: bool) -> RecordBatch {
    let text = |row: usize| {
        let at = (row * 7 + seed) % 11;
        TEXTS.get(at).copied().or((at > 8 || !nulls).then_some("other"))
    };
    let views: ArrayRef = Arc::new((0..rows).map(text).collect::<StringViewArray>());
    let plain: ArrayRef = Arc::new((0..rows).map(|row| text(row + 1)).collect::<StringArray>());
    // A slice: its buffers begin before its rows.
    RecordBatch::try_from_iter_with_nullable([("key", views, true), ("plain", plain, true)]).unwrap().slice(3, rows - 3)
}

#[tokio::test]
async fn lists_of_texts_are_what_the_engine_makes_of_them() {
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
    let batches = vec![batch(300, 0, true), batch(9_000, 4, true), batch(1_000, 2, false), batch(40, 9, true)];
    let table = datafusion::datasource::MemTable::try_new(batches[0].schema(), vec![batches]).unwrap();
    context.register_table("t", Arc::new(table)).unwrap();
    let listed = "key IN ('', 'ab', 'thirteen byte', 'thirteen bytf and much longer than a view', 'not there')";
    for (condition, changes) in [
        (listed.to_owned(), true),
        (format!("({listed}) IS NULL"), true),
        (format!("NOT ({listed})"), false),
        (format!("({listed}) IS NOT TRUE AND plain = 'ab'"), true),
        ("key = 'a' OR 'twelve bytes' = key".to_owned(), true),
        ("key = 'a' OR plain = 'a'".to_owned(), false),
        ("key = 'a' OR key IS NULL".to_owned(), false),
        ("plain IN ('a', 'ab', 'twelve bytes', '')".to_owned(), false),
        ("key NOT IN ('a', 'ab', 'twelve bytes', '')".to_owned(), false),
        ("key IN ('a', 'ab', 'twelve bytes', NULL)".to_owned(), false),
    ] {
        let sql = format!("SELECT key, plain FROM t WHERE {condition}");
        let plan = context.sql(&sql).await.unwrap().create_physical_plan().await.unwrap();
        let ours = datafusion::physical_optimizer::PhysicalOptimizerRule::optimize(
            &TextLists,
            Arc::clone(&plan),
            &datafusion::common::config::ConfigOptions::new(),
        )
        .unwrap();
        assert_eq!(displayable(ours.as_ref()).indent(false).to_string().contains("texts)"), changes, "{condition}");
        let expected = collect(plan, context.task_ctx()).await.unwrap();
        assert_eq!(collect(ours, context.task_ctx()).await.unwrap(), expected, "{condition}");
        assert!(expected.iter().any(|batch| batch.num_rows() > 0), "{condition}");
    }
}
