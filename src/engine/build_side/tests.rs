//! Of a relation with a known number of rows and one without, the first is held, whatever the join; the rows are the same.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::{collect, displayable};
use datafusion::prelude::{SessionConfig, SessionContext};
use tempfile::TempDir;

use super::BuildSide;
use crate::stores::{DataFile, FilesTable, Stores};

fn context(folder: &TempDir, with_rule: bool) -> SessionContext {
    let mut rules = PhysicalOptimizer::new().rules;
    if with_rule {
        rules.insert(0, Arc::new(BuildSide));
    }
    let config = SessionConfig::new()
        .with_target_partitions(3)
        .with_collect_statistics(false)
        .set_bool("datafusion.optimizer.enable_dynamic_filter_pushdown", false);
    let runtime = RuntimeEnvBuilder::new().with_object_store_registry(Stores::default().registry());
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime.build_arc().unwrap())
        .with_default_features();
    let context = SessionContext::new_with_state(state.with_physical_optimizer_rules(rules).build());
    for (name, keys) in [("many", 0..1_000), ("few", 900..1_100)] {
        let path = folder.path().join(format!("{name}.parquet"));
        let key: ArrayRef = Arc::new(Int64Array::from_iter(keys.clone().map(|key| (key % 50 != 0).then_some(key))));
        let value: ArrayRef = Arc::new(Int64Array::from_iter_values(keys));
        let batch = RecordBatch::try_from_iter_with_nullable([("key", key, true), (name, value, false)]).unwrap();
        let file = std::fs::File::create(&path).unwrap();
        let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let table = FilesTable::new(vec![DataFile::local(path).unwrap()], batch.schema());
        let table = if name == "few" { table.of_about(200) } else { table };
        context.register_table(name, Arc::new(table)).unwrap();
    }
    context
}

#[tokio::test]
async fn the_counted_side_is_held_and_the_rows_are_the_same() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (with, without) = (context(&folder, true), context(&other, false));
    let mut moved = 0;
    for join in ["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "LEFT SEMI JOIN", "LEFT ANTI JOIN"] {
        for (left, right) in [("many", "few"), ("few", "many")] {
            let columns =
                if join.contains("SEMI") || join.contains("ANTI") { left.to_owned() } else { "many, few".into() };
            let order =
                columns.split(", ").map(|column| format!("{column} NULLS FIRST")).collect::<Vec<_>>().join(", ");
            let sql =
                format!("SELECT {columns} FROM {left} {join} {right} ON {left}.key = {right}.key ORDER BY {order}");
            let plan = with.sql(&sql).await.unwrap().create_physical_plan().await.unwrap();
            let text = displayable(plan.as_ref()).indent(false).to_string();
            assert!(text.contains("mode=CollectLeft"), "{text}");
            // What is held is the first input of the join.
            let held = text.split("HashJoinExec").nth(1).unwrap();
            assert!(held.find("few.parquet") < held.find("many.parquet"), "{text}");
            let expected = without.sql(&sql).await.unwrap().create_physical_plan().await.unwrap();
            moved += usize::from(displayable(expected.as_ref()).indent(false).to_string().contains("mode=Partitioned"));
            let rows = collect(plan, with.task_ctx()).await.unwrap();
            assert_eq!(rows, collect(expected, without.task_ctx()).await.unwrap(), "{sql}");
            assert!(rows.iter().map(RecordBatch::num_rows).sum::<usize>() > 0);
        }
    }
    assert_eq!(moved, 12);
}
