//! A parsed SELECT over the catalog's tables becomes a logical plan.

use std::sync::Arc;

use datafusion::common::DataFusionError;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::OptimizerContext;
use datafusion::optimizer::decorrelate_predicate_subquery::DecorrelatePredicateSubquery;
use datafusion::optimizer::eliminate_cross_join::EliminateCrossJoin;
use datafusion::optimizer::optimizer::Optimizer;
use datafusion::optimizer::scalar_subquery_to_join::ScalarSubqueryToJoin;
use datafusion::sql::planner::SqlToRel;
use thiserror::Error;

use crate::catalog::Tables;

use super::Parsed;
use super::names::Names;

/// Why a SELECT has no plan: an unknown name, types that do not fit. Depends on the text and on schemas alone.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct PlanError(String);

impl From<DataFusionError> for PlanError {
    fn from(error: DataFusionError) -> Self {
        // The contexts around it name the engine's own steps; the root names what is wrong with the SQL.
        Self(error.find_root().strip_backtrace().lines().next().unwrap_or_default().to_owned())
    }
}

/// DataFusion's unoptimised plan, its types coerced, so that every cast that will run is there to be seen.
#[derive(Debug)]
pub struct Planned(LogicalPlan);

impl Planned {
    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &LogicalPlan {
        &self.0
    }
}

/// Plans `parsed` over `tables`.
///
/// # Errors
/// When a name is unknown or the types do not fit.
#[allow(clippy::unused_async, reason = "whoever plans waits for it: names may come to be looked up elsewhere")]
pub async fn plan(parsed: Parsed, tables: &Tables, state: &SessionState) -> Result<Planned, PlanError> {
    let names = Names::new(tables, state);
    let planner = SqlToRel::new_with_options(&names, names.parser_options());
    let plan = planner.statement_to_plan(parsed.into_statement())?;
    let plan = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {})?;
    // Subqueries in conditions become joins, and a list of tables with equalities becomes joins on them: the analysis knows
    // joins. Nothing else is rewritten.
    let joins = Optimizer::with_rules(vec![
        Arc::new(EliminateCrossJoin::new()),
        Arc::new(DecorrelatePredicateSubquery::new()),
        Arc::new(ScalarSubqueryToJoin::new()),
    ]);
    // With names of its own for what it makes, so that a statement's plan does not depend on those before it.
    let context = OptimizerContext::new_with_config_options(Arc::clone(state.config_options()));
    let plan = joins.optimize(plan, &context, |_, _| {})?;
    Ok(Planned(plan))
}
