//! A statement answered by the gateway's own stages, but without noise, and the same statement run plainly.

use std::path::Path;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use chrono::NaiveDate;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, lit};
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::SessionContext;

use crate::accounting::{Delta, Loss, Rho};
use crate::analysis::{
    Analysed, AnalysedRelease, BoundsRequest, Options, Outcome, PublicRows, Refusal, analyse, with_values,
};
use crate::catalog::{Catalog, DatasetTable, Freshness, Protection};
use crate::engine::{Engine, EngineConfig};
use crate::release::{DrawExec, GroupSums, Merge, NoisePlan, Price, ReleaseNode, draw_exactly};
use crate::sql::{self, Limits, Planned};

/// The day of every question of these tests.
pub const TODAY: NaiveDate = NaiveDate::from_ymd_opt(2013, 12, 31).unwrap();

/// The stages of the gateway over a folder of policies, without a ledger.
pub struct Exact {
    catalog: Catalog,
    engine: Engine,
}

impl Exact {
    pub fn over(policies: &Path) -> Self {
        let config = EngineConfig { target_partitions: Some(3), ..EngineConfig::default() };
        Self { catalog: Catalog::load(policies).unwrap(), engine: Engine::new(&config).unwrap() }
    }

    /// The columns of a dataset.
    pub fn schema(&self, name: &str) -> arrow::datatypes::SchemaRef {
        self.catalog.schema(&name.parse().unwrap()).unwrap().unwrap()
    }

    async fn planned(&self, sql: &str) -> Result<Planned, String> {
        let parsed = sql::parse(sql, Limits::default()).map_err(|error| error.to_string())?;
        let tables = self.catalog.tables(parsed.tables(), Freshness::Now).map_err(|error| error.to_string())?;
        sql::plan(parsed, &tables, self.engine.state()).await.map_err(|error| error.to_string())
    }

    /// The analysis, or the refusal; a statement that is no SQL is an `Err` of its own.
    pub async fn analyse(&self, sql: &str) -> Result<Result<Analysed, Refusal>, String> {
        self.analyse_within(sql, BoundsRequest::default()).await
    }

    /// The same with smaller bounds.
    pub async fn analyse_within(&self, sql: &str, bounds: BoundsRequest) -> Result<Result<Analysed, Refusal>, String> {
        let planned = self.planned(sql).await?;
        let options =
            Options { bounds, with_error_columns: false, max_cells: 100_000, diagnostics: false, today: TODAY };
        let mut public = PublicRows::none();
        loop {
            match analyse(&planned, &options, &public) {
                Err(refusal) => return Ok(Err(refusal)),
                Ok(Outcome::Done(analysed)) => return Ok(Ok(*analysed)),
                Ok(Outcome::Wants(plans)) => {
                    for plan in plans {
                        let rows = self.engine.run_post(&plan, Vec::new(), Vec::new()).await.unwrap();
                        public.insert(&plan, values(&rows));
                    }
                }
            }
        }
    }

    /// The answer without noise and thresholds.
    pub async fn answer(&self, analysed: &Analysed) -> Result<Vec<RecordBatch>, String> {
        let told = |error: crate::engine::EngineError| error.to_string();
        let mut drawn: Vec<RecordBatch> = Vec::new();
        let mut known: Vec<Vec<RecordBatch>> = vec![Vec::new(); analysed.known().len()];
        let mut computed = 0;
        for release in analysed.releases() {
            while let Some(next) = analysed.known().get(computed).filter(|known| known.after <= drawn.len()) {
                known[computed] = self.engine.run_post(&next.plan, drawn.clone(), known.clone()).await.map_err(told)?;
                computed += 1;
            }
            drawn.push(self.release(release, &known).await?);
        }
        while let Some(next) = analysed.known().get(computed) {
            known[computed] = self.engine.run_post(&next.plan, drawn.clone(), known.clone()).await.map_err(told)?;
            computed += 1;
        }
        self.engine.run_post(analysed.post(), drawn, known).await.map_err(told)
    }

    async fn release(&self, release: &AnalysedRelease, known: &[Vec<RecordBatch>]) -> Result<RecordBatch, String> {
        let (noise, sums) = self.sums(release, known).await?;
        draw_exactly(&release.spec, &noise, sums).map_err(|error| error.to_string())
    }

    /// The exact sums of a release's bounded contributions, which are never shown, and some noise for them.
    pub async fn sums(
        &self,
        release: &AnalysedRelease,
        known: &[Vec<RecordBatch>],
    ) -> Result<(Arc<NoisePlan>, GroupSums), String> {
        let (noise, sums) = self.below_the_noise(release, known).await?;
        let mut merge = Merge::new(Arc::clone(&release.spec)).unwrap();
        for batch in collect(sums, self.engine.state().task_ctx()).await.map_err(|error| error.to_string())? {
            merge.add(&batch).unwrap();
        }
        Ok((noise, merge.finish().unwrap()))
    }

    /// The plan of a release below its noise, and some noise.
    pub async fn below_the_noise(
        &self,
        release: &AnalysedRelease,
        known: &[Vec<RecordBatch>],
    ) -> Result<(Arc<NoisePlan>, Arc<dyn ExecutionPlan>), String> {
        let loss = Loss::Zcdp(Rho::floor_from(0.1).unwrap());
        let price = Price { loss, delta_selection: Delta::floor_from(1e-6).unwrap() };
        let noise = Arc::new(NoisePlan::new(&release.spec, price).map_err(|error| error.to_string())?);
        let value = |index: usize| {
            let batch = known.get(index)?.iter().find(|batch| batch.num_rows() > 0)?;
            ScalarValue::try_from_array(batch.column(0), 0).ok()
        };
        let input = with_values(&release.input, value).map_err(|error| error.to_string())?;
        let node = ReleaseNode::new(input, Arc::clone(&release.spec), Arc::clone(&noise), [7; 16])
            .map_err(|error| error.to_string())?;
        let plan = self.engine.plan_release(node, known.to_vec()).await.map_err(|error| error.to_string())?;
        let any: &dyn std::any::Any = plan.as_ref();
        let draw = any.downcast_ref::<DrawExec>().expect("a draw on top");
        Ok((noise, Arc::clone(draw.input())))
    }

    /// The statement run plainly over the same tables.
    pub async fn plain(&self, sql: &str) -> Result<Vec<RecordBatch>, String> {
        let planned = self.planned(sql).await?;
        let context = SessionContext::new_with_state(self.engine.state().clone());
        // Rows without a unit are nobody's, and are never read.
        let plan =
            planned.plan().clone().transform_up_with_subqueries(with_units).map_err(|error| error.to_string())?;
        let frame = context.execute_logical_plan(plan.data).await.map_err(|error| error.to_string())?;
        frame.collect().await.map_err(|error| error.to_string())
    }
}

fn with_units(node: LogicalPlan) -> datafusion::common::Result<Transformed<LogicalPlan>> {
    let LogicalPlan::TableScan(scan) = &node else { return Ok(Transformed::no(node)) };
    let Some(table) = DatasetTable::of(&scan.source) else { return Ok(Transformed::no(node)) };
    let Protection::Private(policy) = table.protection() else { return Ok(Transformed::no(node)) };
    let unit = Expr::Column(Column::new(Some(scan.table_name.clone()), &policy.privacy.unit));
    let mut plan = LogicalPlanBuilder::from(node.clone()).filter(unit.is_not_null())?;
    if let Some(epochs) = &policy.privacy.epochs {
        // Neither are rows before the first epoch, or after the last.
        let moment = Expr::Column(Column::new(Some(scan.table_name.clone()), &epochs.column));
        let day = |date: NaiveDate| cast(lit(date.to_string()), DataType::Date32);
        let next = epochs.kind.first_day(epochs.kind.of_date(TODAY) + 1).unwrap();
        let as_day = cast(moment, DataType::Date32);
        plan = plan.filter(as_day.clone().gt_eq(day(epochs.from)).and(as_day.lt(day(next))))?;
    }
    Ok(Transformed::yes(plan.build()?))
}

/// Rows of batches as values.
pub fn values(batches: &[RecordBatch]) -> Vec<Vec<ScalarValue>> {
    let mut rows = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            rows.push(batch.columns().iter().map(|column| ScalarValue::try_from_array(column, row).unwrap()).collect());
        }
    }
    rows
}
