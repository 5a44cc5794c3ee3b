//! Which side of a join is held: that with a known number of rows, whatever the join; the rows are the same.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use datafusion::physical_plan::{collect, displayable};
use datafusion::prelude::SessionContext;

use super::{Engine, EngineConfig};
use crate::stores::{DataFile, FilesTable};

/// Tables of a catalog that has the schema `public`.
fn tables(context: &SessionContext, folder: &Path, public_rows: Option<usize>) {
    let schema = datafusion::catalog::MemorySchemaProvider::new();
    for (name, keys) in [("many", 0..1_000), ("few", 900..1_100)] {
        let path = folder.join(format!("{name}.parquet"));
        let key: ArrayRef = Arc::new(keys.clone().map(|key| (key % 50 != 0).then_some(key)).collect::<Int64Array>());
        let value: ArrayRef = Arc::new(Int64Array::from_iter_values(keys));
        let batch = RecordBatch::try_from_iter_with_nullable([("key", key, true), (name, value, false)]).unwrap();
        if !path.exists() {
            let file = std::fs::File::create(&path).unwrap();
            let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
            writer.write(&batch).unwrap();
            writer.close().unwrap();
        }
        let table = FilesTable::new(vec![DataFile::local(path).unwrap()], batch.schema());
        let table = match public_rows {
            Some(rows) if name == "few" => table.of_about(rows),
            _ => table,
        };
        datafusion::catalog::SchemaProvider::register_table(&schema, name.to_owned(), Arc::new(table)).unwrap();
    }
    let catalog = datafusion::catalog::MemoryCatalogProvider::new();
    datafusion::catalog::CatalogProvider::register_schema(&catalog, "public", Arc::new(schema)).unwrap();
    context.register_catalog(crate::catalog::SQL_CATALOG, Arc::new(catalog));
}

/// A context of an engine with so much memory.
fn context(memory_bytes: usize, partitions: usize) -> SessionContext {
    let config = EngineConfig { target_partitions: Some(partitions), memory_bytes, ..EngineConfig::default() };
    SessionContext::new_with_state(Engine::new(&config).unwrap().state().clone())
}

#[tokio::test]
async fn a_public_table_that_is_larger_than_a_query_may_hold_is_dealt_out() {
    let folder = tempfile::tempdir().unwrap();
    let (small, large) = (context(64 << 20, 3), context(EngineConfig::default().memory_bytes, 3));
    tables(&small, folder.path(), Some(1 << 20));
    tables(&large, folder.path(), Some(1 << 20));
    let sql = "SELECT many, few FROM many JOIN few ON many.key = few.key ORDER BY many";
    let mut rows = Vec::new();
    for (context, mode) in [(&small, "mode=Partitioned"), (&large, "mode=CollectLeft")] {
        let plan = context.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
        let text = displayable(plan.as_ref()).indent(false).to_string();
        assert!(text.contains(mode), "{text}");
        rows.push(collect(plan, context.task_ctx()).await.unwrap());
    }
    assert!(rows[0].iter().map(RecordBatch::num_rows).sum::<usize>() > 0);
    assert_eq!(rows[0], rows[1]);
}

#[tokio::test]
async fn of_a_join_the_side_with_a_known_number_of_rows_is_held() {
    let folder = tempfile::tempdir().unwrap();
    let memory_bytes = EngineConfig::default().memory_bytes;
    let (with, without, narrow) = (context(memory_bytes, 3), context(memory_bytes, 3), context(memory_bytes, 1));
    // More than the engine would hold by itself.
    tables(&with, folder.path(), Some(1 << 20));
    tables(&narrow, folder.path(), Some(1 << 20));
    tables(&without, folder.path(), None);
    for join in ["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "LEFT SEMI JOIN", "LEFT ANTI JOIN"] {
        for (left, right) in [("many", "few"), ("few", "many")] {
            let columns = if join.contains("SEMI") || join.contains("ANTI") { left } else { "many, few" };
            let order =
                columns.split(", ").map(|column| format!("{column} NULLS FIRST")).collect::<Vec<_>>().join(", ");
            let sql =
                format!("SELECT {columns} FROM {left} {join} {right} ON {left}.key = {right}.key ORDER BY {order}");
            let mut plans = Vec::new();
            for context in [&narrow, &with] {
                let plan = context.sql(&sql).await.unwrap().create_physical_plan().await.unwrap();
                let text = displayable(plan.as_ref()).indent(false).to_string();
                // What is held is the first input of the join.
                let inputs = text.split("HashJoinExec: mode=CollectLeft").nth(1).unwrap_or_else(|| panic!("{text}"));
                assert!(inputs.find("few.parquet") < inputs.find("many.parquet"), "{text}");
                plans.push(plan);
            }
            let other = without.sql(&sql).await.unwrap().create_physical_plan().await.unwrap();
            let text = displayable(other.as_ref()).indent(false).to_string();
            assert!(text.contains("mode=Partitioned"), "{text}");
            let rows = collect(other, without.task_ctx()).await.unwrap();
            for (plan, context) in plans.into_iter().zip([&narrow, &with]) {
                assert_eq!(collect(plan, context.task_ctx()).await.unwrap(), rows, "{sql}");
            }
            assert!(rows.iter().map(RecordBatch::num_rows).sum::<usize>() > 0);
        }
    }
}
