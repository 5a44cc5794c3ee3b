//! What stands above a release: any SQL at all, since it sees released values only.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DFSchemaRef};
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison};
use datafusion::logical_expr::{Distinct, DistinctOn, Expr, LogicalPlan, Projection, Subquery, Union};

use crate::release::{half_width_column, is_half_width_column};

use super::Analysis;
use super::operators::{Walked, unaliased};
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

    /// Rebuilds `plan` over its rewritten inputs. A projection passes the hidden half-width columns on; what counts its
    /// columns or compares whole rows does not get them.
    pub(super) fn with_errors(
        &self,
        plan: &LogicalPlan,
        exprs: Vec<Expr>,
        inputs: Vec<LogicalPlan>,
        relation: Relation,
    ) -> Result<Walked, Refusal> {
        let (mut exprs, mut inputs, mut relation) = (exprs, inputs, relation);
        if self.with_error_columns {
            match (plan, &mut relation) {
                (LogicalPlan::Projection(_), Relation::Released(released)) => {
                    for column in inputs.iter().flat_map(|input| hidden(input.schema())) {
                        exprs.push(Expr::Column(column));
                        released.origins.push(None);
                    }
                }
                (LogicalPlan::Union(_) | LogicalPlan::Distinct(Distinct::All(_)), _) => {
                    inputs = inputs.into_iter().map(without_hidden).collect::<Result<_, _>>()?;
                }
                // Two sides may hold half-widths of one name.
                (LogicalPlan::Join(_), _) if inputs.iter().all(|input| !hidden(input.schema()).is_empty()) => {
                    inputs = inputs.into_iter().map(without_hidden).collect::<Result<_, _>>()?;
                }
                _ => {}
            }
        }
        if let (LogicalPlan::Distinct(Distinct::On(on)), [input]) = (plan, &inputs[..]) {
            let on = DistinctOn { input: Arc::new(input.clone()), ..on.clone() };
            return Ok((LogicalPlan::Distinct(Distinct::On(on)), relation));
        }
        if let LogicalPlan::Union(union) = plan {
            let inputs = inputs.into_iter().map(Arc::new).collect();
            return Ok((LogicalPlan::Union(Union { inputs, schema: Arc::clone(&union.schema) }), relation));
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
            Relation::Private(private) if private.unique.is_some() => {
                return Err(Refusal::not_private(
                    format!(
                        "the query would return one row of each privacy unit of {}, which is never released",
                        super::relation::names(&private.datasets)
                    ),
                    "aggregate it once more: SELECT avg(least(n, 100)) FROM (SELECT unit, count(*) AS n ... GROUP BY unit) t",
                ));
            }
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

    /// The expressions of a plan above all releases, with the subqueries in them analysed like any other part of the
    /// query; and whether one of these reads a release.
    pub(super) fn with_subqueries(&mut self, exprs: Vec<Expr>) -> Result<(Vec<Expr>, bool), Refusal> {
        let mut from_release = false;
        let mut refusal = None;
        let exprs = exprs
            .into_iter()
            .map(|expr| {
                expr.transform_down(|part| {
                    let Some(subquery) = subquery_of(&part) else { return Ok(Transformed::no(part)) };
                    match self.subquery(&subquery.subquery) {
                        Ok((plan, released)) => {
                            from_release |= released;
                            let subquery = subquery.with_plan(Arc::new(plan));
                            Ok(Transformed::new(with_subquery(part, subquery), true, TreeNodeRecursion::Continue))
                        }
                        Err(refused) => {
                            refusal.get_or_insert(refused);
                            Ok(Transformed::new(part, false, TreeNodeRecursion::Stop))
                        }
                    }
                })
                .map(|transformed| transformed.data)
            })
            .collect::<Result<Vec<_>, _>>()?;
        refusal.map_or(Ok((exprs, from_release)), Err)
    }

    fn subquery(&mut self, subquery: &LogicalPlan) -> Result<(LogicalPlan, bool), Refusal> {
        let (plan, relation) = self.walk(subquery)?;
        match relation {
            Relation::Private(private) => Err(Refusal::not_private(
                format!("a subquery would read rows of {}", super::relation::names(&private.datasets)),
                "aggregate in the subquery; or start from the private table and join the public one to it",
            )),
            Relation::Public(_) => Ok((plan, false)),
            // One column is one column: the half-widths stay behind.
            Relation::Released(_) => Ok((without_hidden(plan)?, true)),
        }
    }
}

fn subquery_of(expr: &Expr) -> Option<Subquery> {
    match expr {
        Expr::ScalarSubquery(subquery) => Some(subquery.clone()),
        Expr::InSubquery(part) => Some(part.subquery.clone()),
        Expr::Exists(part) => Some(part.subquery.clone()),
        Expr::SetComparison(part) => Some(part.subquery.clone()),
        _ => None,
    }
}

fn with_subquery(expr: Expr, subquery: Subquery) -> Expr {
    match expr {
        Expr::ScalarSubquery(_) => Expr::ScalarSubquery(subquery),
        Expr::InSubquery(part) => Expr::InSubquery(InSubquery { subquery, ..part }),
        Expr::Exists(part) => Expr::Exists(Exists { subquery, ..part }),
        Expr::SetComparison(part) => Expr::SetComparison(SetComparison { subquery, ..part }),
        other => other,
    }
}

fn without_hidden(plan: LogicalPlan) -> Result<LogicalPlan, Refusal> {
    let schema = plan.schema();
    if !schema.fields().iter().any(|field| is_half_width_column(field.name())) {
        return Ok(plan);
    }
    let kept = (0..schema.fields().len())
        .filter(|at| !is_half_width_column(schema.field(*at).name()))
        .map(|at| Expr::Column(Column::from(schema.qualified_field(at))))
        .collect();
    Ok(LogicalPlan::Projection(Projection::try_new(kept, Arc::new(plan))?))
}

fn hidden(schema: &DFSchema) -> Vec<Column> {
    schema
        .iter()
        .filter(|(_, field)| is_half_width_column(field.name()))
        .map(|(relation, field)| Column::new(relation.cloned(), field.name()))
        .collect()
}
