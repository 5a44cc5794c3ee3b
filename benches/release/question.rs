//! One question put to one system: plain DataFusion, the bounds by hand in SQL, or Tollgate's release.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use arrow::record_batch::RecordBatch;
use arrow::util::display::array_value_to_string;
use clap::ValueEnum;
use datafusion::common::ScalarValue;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use tollgate::accounting::{Delta, Epsilon, Loss, rho_for};
use tollgate::analysis::{BoundsRequest, Options, Outcome, PublicRows, analyse};
use tollgate::catalog::{Catalog, Freshness};
use tollgate::engine::{Engine, EngineConfig};
use tollgate::release::{NoisePlan, Price, ReleaseNode};
use tollgate::sql::{self, Limits};

use super::layout::{Layout, nations};
use super::workload::Workload;

const TODAY: chrono::NaiveDate = chrono::NaiveDate::from_ymd_opt(2026, 1, 1).unwrap();

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum System {
    /// DataFusion, without any privacy.
    Plain,
    /// DataFusion, with bounds written in SQL and without noise.
    ByHand,
    /// The release, with its noise and selection.
    Tollgate,
}

impl System {
    /// Its name, as the arguments have it.
    pub fn name(self) -> String {
        self.to_possible_value().unwrap().get_name().to_owned()
    }
}

/// An answer: the numbers of each group by its keys as text. NULL is NaN.
pub type Numbers = HashMap<String, Vec<f64>>;

/// A system that has opened one layout of the data and waits for the question.
pub struct Question {
    workload: Workload,
    layout: Layout,
    asked: Asked,
}

enum Asked {
    Sql(SessionContext, String),
    Release(Box<(Engine, Catalog)>),
}

impl Question {
    /// Opens the data, which is made first if it is not there; `memory` bounds the engine, in bytes.
    pub async fn open(
        system: System,
        workload: Workload,
        layout: Layout,
        dir: &Path,
        factor: f64,
        memory: usize,
    ) -> Result<Self, String> {
        let file = layout.file(dir, factor).await;
        let nations = nations(dir);
        let asked = match system {
            System::Plain | System::ByHand => {
                let pool = Arc::new(FairSpillPool::new(memory));
                let runtime = RuntimeEnvBuilder::new().with_memory_pool(pool).build_arc().map_err(text)?;
                let context = SessionContext::new_with_config_rt(SessionConfig::new(), runtime);
                context.sql("CREATE SCHEMA tpch").await.map_err(text)?;
                for (name, file) in [("tpch.flat", &file), ("tpch.nations", &nations)] {
                    let options = ParquetReadOptions::default();
                    context.register_parquet(name, file.to_string_lossy(), options).await.map_err(text)?;
                }
                let by_hand = system == System::ByHand;
                Asked::Sql(context, if by_hand { workload.by_hand(layout) } else { workload.sql(layout) })
            }
            System::Tollgate => {
                let policies = tempfile::tempdir().map_err(text)?;
                fs::write(policies.path().join("tpch.flat.toml"), layout.policy(&file)).map_err(text)?;
                let public = format!(
                    "[dataset]\nowner = \"tpch\"\nname = \"nations\"\nkind = \"public\"\nlocation = {:?}\n",
                    nations.display().to_string()
                );
                fs::write(policies.path().join("tpch.nations.toml"), public).map_err(text)?;
                let config = EngineConfig { memory_bytes: memory, ..EngineConfig::default() };
                let engine = Engine::new(&config).map_err(text)?;
                Asked::Release(Box::new((engine, Catalog::load(policies.path()).map_err(text)?)))
            }
        };
        Ok(Self { workload, layout, asked })
    }

    /// Asks once, from the text of the SQL to the rows of the answer.
    pub async fn ask(&self) -> Result<Vec<RecordBatch>, String> {
        match &self.asked {
            Asked::Sql(context, sql) => context.sql(sql).await.map_err(text)?.collect().await.map_err(text),
            Asked::Release(opened) => self.release(&opened.0, &opened.1).await.map(|batch| vec![batch]),
        }
    }

    async fn release(&self, engine: &Engine, catalog: &Catalog) -> Result<RecordBatch, String> {
        let parsed = sql::parse(&self.workload.sql(self.layout), Limits::default()).map_err(text)?;
        let tables = catalog.tables(parsed.tables(), Freshness::Now).map_err(text)?;
        let planned = sql::plan(parsed, &tables, engine.state()).await.map_err(text)?;
        let columns = self.workload.columns.iter().map(|(name, bounds)| ((*name).to_owned(), *bounds));
        let bounds = BoundsRequest {
            max_groups_per_unit: Some(self.workload.groups),
            max_rows_per_unit_per_group: Some(self.workload.rows),
            max_rows_per_unit: None,
            columns: columns.collect(),
        };
        let options = Options { bounds, with_error_columns: false, max_cells: 1_000, diagnostics: false, today: TODAY };
        let mut public = PublicRows::none();
        let analysed = loop {
            match analyse(&planned, &options, &public).map_err(text)? {
                Outcome::Done(analysed) => break analysed,
                Outcome::Wants(plans) => {
                    for plan in plans {
                        let rows = engine.run_post(&plan, Vec::new(), Vec::new()).await.map_err(text)?;
                        public.insert(&plan, scalars(&rows)?);
                    }
                }
            }
        };
        let release = &analysed.releases()[0];
        // ε = 1 and δ = 1e-7 in all, half of δ for the conversion and half for the selection of groups.
        let half = Delta::floor_from(5e-8).map_err(text)?;
        let loss = Loss::Zcdp(rho_for(Epsilon::floor_from(1.0).map_err(text)?, half));
        let noise = NoisePlan::new(&release.spec, Price { loss, delta_selection: half }).map_err(text)?;
        let node = ReleaseNode::new(release.input.clone(), Arc::clone(&release.spec), Arc::new(noise), [1; 16]);
        let plan = engine.plan_release(node.map_err(text)?, Vec::new()).await.map_err(text)?;
        let width = self.workload.keys + release.spec.outputs.len();
        let drawn = engine.run_release(plan).await.map_err(text)?;
        drawn.project(&(0..width).collect::<Vec<_>>()).map_err(text)
    }

    /// The numbers of an answer.
    pub fn numbers(&self, batches: &[RecordBatch]) -> Numbers {
        let keys = self.workload.keys;
        let mut found = HashMap::new();
        for batch in batches {
            let columns: Vec<ArrayRef> =
                batch.columns()[keys..].iter().map(|column| cast(column, &DataType::Float64).unwrap()).collect();
            for row in 0..batch.num_rows() {
                let key: Vec<String> =
                    batch.columns()[..keys].iter().map(|key| array_value_to_string(key, row).unwrap()).collect();
                let of_row = |column: &ArrayRef| {
                    let column: &Float64Array = column.as_primitive::<Float64Type>();
                    if column.is_null(row) { f64::NAN } else { column.value(row) }
                };
                found.insert(key.join("|"), columns.iter().map(of_row).collect());
            }
        }
        found
    }
}

/// How far an answer is from another, over the numbers of all groups that both have: the median and the largest relative
/// difference.
pub fn differences(answer: &Numbers, other: &Numbers) -> Option<(f64, f64)> {
    let mut found: Vec<f64> = Vec::new();
    for (key, numbers) in answer {
        let Some(others) = other.get(key) else { continue };
        found.extend(numbers.iter().zip(others).map(|(number, other)| (number - other).abs() / other.abs()));
    }
    found.retain(|difference| !difference.is_nan());
    found.sort_by(f64::total_cmp);
    Some((*found.get(found.len() / 2)?, *found.last()?))
}

fn scalars(batches: &[RecordBatch]) -> Result<Vec<Vec<ScalarValue>>, String> {
    let rows = batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| (batch, row)));
    let of = |(batch, row): (&RecordBatch, usize)| {
        batch.columns().iter().map(|column| ScalarValue::try_from_array(column, row)).collect::<Result<_, _>>()
    };
    rows.map(of).collect::<Result<_, _>>().map_err(text)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
