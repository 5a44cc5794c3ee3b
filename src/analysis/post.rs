//! What stands above a release: any SQL at all, since it sees released values only.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DFSchemaRef};
use datafusion::logical_expr::{Expr, LogicalPlan, Projection};

use crate::release::{half_width_column, is_half_width_column};

use super::Analysis;
use super::operators::Walked;
use super::refusal::Refusal;
use super::relation::{Origin, Relation, ReleasedRelation};

impl Analysis<'_> {
    /// Which output of which release each column of `plan` passes on unchanged.
    pub(super) fn origins(plan: &LogicalPlan, inputs: &[Walked]) -> Vec<Option<Origin>> {
        let width = plan.schema().fields().len();
        let [(input, Relation::Released(below))] = inputs else { return vec![None; width] };
        match plan {
            LogicalPlan::Filter(_) | LogicalPlan::Sort(_) | LogicalPlan::Limit(_) => below.origins.clone(),
            LogicalPlan::Projection(projection) => projection
                .expr
                .iter()
                .map(|expr| {
                    let column = unaliased(expr).try_as_col()?;
                    let index = input.schema().index_of_column(column).ok()?;
                    *below.origins.get(index)?
                })
                .collect(),
            _ => vec![None; width],
        }
    }

    /// Rebuilds `plan` over its rewritten inputs. A projection passes the hidden half-width columns on.
    pub(super) fn with_errors(
        &self,
        plan: &LogicalPlan,
        inputs: Vec<LogicalPlan>,
        relation: Relation,
    ) -> Result<Walked, Refusal> {
        let mut exprs = plan.expressions();
        let mut relation = relation;
        if self.with_error_columns
            && let (LogicalPlan::Projection(_), [input], Relation::Released(released)) =
                (plan, &inputs[..], &mut relation)
        {
            for column in hidden(input.schema()) {
                exprs.push(Expr::Column(column));
                released.origins.push(None);
            }
        }
        Ok((plan.with_new_exprs(exprs, inputs)?, relation))
    }

    /// The finished plan has the columns that the SQL names, then, if they were asked for, the half-widths.
    pub(super) fn finish(
        &self,
        plan: LogicalPlan,
        relation: Relation,
        asked: &DFSchemaRef,
    ) -> Result<(LogicalPlan, Vec<Option<Origin>>), Refusal> {
        let origins = match relation {
            Relation::Private(private) => {
                return Err(Refusal::not_private(
                    format!("the query would return rows of {}", super::relation::names(&private.datasets)),
                    "aggregate them: SELECT key, count(*) ... GROUP BY key",
                ));
            }
            Relation::Public(columns) => return Ok((plan, vec![None; columns.len()])),
            Relation::Released(ReleasedRelation { origins }) => origins,
        };
        let width = asked.fields().len();
        if !self.with_error_columns {
            return Ok((plan, origins));
        }
        let schema = plan.schema();
        let mut exprs: Vec<Expr> =
            (0..width).map(|at| Expr::Column(Column::from(schema.qualified_field(at)))).collect();
        let mut kept: Vec<Option<Origin>> = origins[..width].to_vec();
        for (at, origin) in origins.iter().enumerate().take(width) {
            let Some(origin) = origin else { continue };
            let hidden = Column::new_unqualified(half_width_column(origin.release, origin.output));
            if schema.index_of_column(&hidden).is_ok() {
                exprs.push(Expr::Column(hidden).alias(format!("{}_half_width_95", schema.field(at).name())));
                kept.push(None);
            }
        }
        let plan = LogicalPlan::Projection(Projection::try_new(exprs, plan.into())?);
        Ok((plan, kept))
    }

    /// Refuses a subquery over private rows in an expression above a release; public ones are free.
    pub(super) fn no_private_subquery(&mut self, expr: &Expr) -> Result<(), Refusal> {
        let mut subqueries = Vec::new();
        expr.apply(|part| {
            match part {
                Expr::ScalarSubquery(subquery) => subqueries.push(subquery.subquery.clone()),
                Expr::InSubquery(part) => subqueries.push(part.subquery.subquery.clone()),
                Expr::Exists(part) => subqueries.push(part.subquery.subquery.clone()),
                Expr::SetComparison(part) => subqueries.push(part.subquery.subquery.clone()),
                _ => {}
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        for subquery in subqueries {
            // The subquery stays in the expression as it is, so it must not need the rewrites of private relations.
            if !matches!(self.walk(&subquery)?.1, Relation::Public(_)) {
                return Err(Refusal::not_private(
                    "a subquery over private data beside another release is not answered",
                    "ask for its value first, and write it into the query",
                ));
            }
        }
        Ok(())
    }
}

fn hidden(schema: &DFSchema) -> Vec<Column> {
    schema
        .iter()
        .filter(|(_, field)| is_half_width_column(field.name()))
        .map(|(relation, field)| Column::new(relation.cloned(), field.name()))
        .collect()
}

fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}
