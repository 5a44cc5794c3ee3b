//! Joins of private rows with rows that are known without them: public tables, and what is computed from releases drawn
//! earlier (DESIGN 4.1).

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DFSchemaRef, JoinType};
use datafusion::functions_aggregate::expr_fn::{count, max};
use datafusion::logical_expr::expr::BinaryExpr;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    Expr, Filter, Join, LogicalPlan, LogicalPlanBuilder, Operator, Projection, SubqueryAlias, build_join_schema, col,
    lit,
};

use crate::policy::Use;

use super::Analysis;
use super::expression::Scope;
use super::join::{equalities, mark};
use super::known::{Known, known_of};
use super::operators::{Walked, number};
use super::refusal::Refusal;
use super::relation::{Facts, Keys, PrivateRelation, Relation, names};

impl Analysis<'_> {
    /// The side of a join that is known without the rows of the other: a public table, perhaps filtered and projected by
    /// total expressions, is read in place. Anything else is computed beforehand: the engine may leave this side unread
    /// when the private side is empty, so whatever could fail or take long in it would tell whether it was.
    pub(super) fn known_side(
        &mut self,
        plan: LogicalPlan,
        relation: &Relation,
    ) -> Result<(LogicalPlan, Vec<Facts>), Refusal> {
        if let Relation::Public(_) = relation
            && let Ok(total) = total_public(&plan)
        {
            return Ok(total);
        }
        if matches!(relation, Relation::Released(_)) && is_correlated(&plan) {
            return Err(Refusal::not_private(
                "a subquery over private rows that is correlated on anything but the unit is not answered",
                "join a derived table instead: JOIN (SELECT key, avg(x) ... GROUP BY key) d ON d.key = t.key",
            ));
        }
        if let LogicalPlan::SubqueryAlias(alias) = &plan {
            let (leaf, columns) = self.known_leaf(alias.input.as_ref().clone());
            let plan = LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(leaf), alias.alias.clone())?);
            return Ok((plan, columns));
        }
        Ok(self.known_leaf(plan))
    }

    pub(super) fn join_known(
        &mut self,
        join: &Join,
        (private_plan, private): (LogicalPlan, PrivateRelation),
        (known, known_columns): (LogicalPlan, Vec<Facts>),
        private_first: bool,
    ) -> Result<Walked, Refusal> {
        use JoinType::{Inner, Left, LeftAnti, LeftMark, LeftSemi, Right, RightAnti, RightSemi};
        let keeps_known = matches!((join.join_type, private_first), (Left, false) | (Right, true));
        let fine = matches!(
            (join.join_type, private_first),
            (Inner, _) | (Left | LeftSemi | LeftAnti | LeftMark, true) | (Right | RightSemi | RightAnti, false)
        );
        if !fine && !keeps_known {
            return Err(match join.join_type {
                JoinType::Full => Refusal::not_private(
                    "a FULL join of private rows with public ones is not answered",
                    format!("use JOIN, or put {} on the side that the outer join keeps", names(&private.datasets)),
                ),
                _ => Refusal::not_private(
                    format!(
                        "which public rows have one in {} is private, and no unit's: public rows filtered by private ones are \
                         not answered",
                        names(&private.datasets)
                    ),
                    "group the private rows instead: SELECT t.key, count(p.key) FROM public t LEFT JOIN private p ON ... GROUP BY t.key",
                ),
            });
        }
        if !private.preserved.is_empty() && !matches!(join.join_type, Inner) {
            return Err(Refusal::not_private(
                "an outer join above another that keeps public rows is not answered",
                "put the first one last",
            ));
        }
        if !has_equality(join) {
            return Err(Refusal::not_private(
                "a join to a public table without an equality is not answered",
                "add an equality of columns to ON",
            ));
        }
        // Where more than equalities is compared, each row is compared with every known one of its key.
        let shows_known = matches!(join.join_type, Inner | Left | Right);
        if shows_known || compares_more(join) {
            self.fan_outs.push(fan_out(&known, join)?);
        }
        let table = self.known_table(&known);
        let mut known_columns: Vec<Facts> = known_columns
            .into_iter()
            .enumerate()
            .map(|(column, facts)| Facts {
                keys: table.map(|table| Keys::Table { table, column, or_null: false }),
                ..facts
            })
            .collect();
        let kind = if keeps_known { Inner } else { join.join_type };
        let known_width = known_columns.len();
        let (left, right) = if private_first { (private_plan, known) } else { (known, private_plan) };
        let width = left.schema().fields().len();
        let offset = if private_first { 0 } else { known_width };
        // Conditions see the columns of both sides, also where the result has those of one.
        let schema: DFSchemaRef = Arc::new(build_join_schema(left.schema(), right.schema(), &Inner)?);
        let both: Vec<Facts> = if private_first {
            private.columns.iter().chain(&known_columns).cloned().collect()
        } else {
            known_columns.iter().chain(&private.columns).cloned().collect()
        };
        let scope = Scope { schema: &schema, columns: &both, narrowed: &[] };
        let on = join
            .on
            .iter()
            .map(|(a, b)| Ok((scope.used(a, Use::Filter)?.expr, scope.used(b, Use::Filter)?.expr)))
            .collect::<Result<Vec<_>, Refusal>>()?;
        let filter = match &join.filter {
            Some(filter) => Some(self.with_scalars(filter)?),
            None => None,
        };
        let filter = filter.map(|filter| scope.used(&filter, Use::Filter).map(|total| total.expr)).transpose()?;
        // A private column that must equal a known one has its values alone.
        let mut private_columns = private.columns.clone();
        if matches!(kind, Inner | LeftSemi | RightSemi) {
            for (a, b) in equalities(join) {
                let place = |expr: &Expr| schema.index_of_column(expr.try_as_col()?).ok();
                let (Some(a), Some(b)) = (place(&a), place(&b)) else { continue };
                let is_private = |at: usize| (at < width) == private_first;
                let (own, other) = match (is_private(a), is_private(b)) {
                    (true, false) => (a, b),
                    (false, true) => (b, a),
                    _ => continue,
                };
                let own = &mut private_columns[own - offset];
                if own.keys.is_none() {
                    own.keys.clone_from(&both[other].keys);
                }
            }
        }
        let plan = LogicalPlan::Join(Join::try_new(
            Arc::new(left),
            Arc::new(right),
            on,
            filter,
            kind,
            join.join_constraint,
            join.null_equality,
            join.null_aware,
        )?);
        let mut relation = private.clone();
        relation.narrowed = Vec::new();
        relation.columns = private_columns;
        if let Some(known) = table.filter(|_| kind == Inner) {
            let mut known_place = (known, 0);
            for (of, on) in joins_of_tables(join, &schema, &both, width, private_first, known) {
                if known_place == (known, 0)
                    && let Some(place) = self.joined_tables(&mut relation, of, known, &on)
                {
                    known_place = place;
                }
            }
            let (joined, by) = known_place;
            if joined != known {
                let moved = |facts: &mut Facts| {
                    if let Some(Keys::Table { table, column, .. }) = &mut facts.keys
                        && *table == known
                    {
                        (*table, *column) = (joined, *column + by);
                    }
                };
                known_columns.iter_mut().for_each(moved);
                relation.columns.iter_mut().for_each(moved);
            }
        }
        if keeps_known {
            let Some(table) = table else {
                return Err(Refusal::not_private(
                    "an outer join that keeps the rows of a released table is not answered",
                    "join it to the result instead: released LEFT JOIN (SELECT key, count(*) ... GROUP BY key)",
                ));
            };
            relation.preserved.insert(table);
        }
        match kind {
            LeftSemi | RightSemi | LeftAnti | RightAnti => {}
            LeftMark => {
                relation.columns.push(mark(join, &schema, &both));
            }
            _ => {
                let known_columns =
                    if kind == Inner { known_columns } else { known_columns.into_iter().map(Facts::or_null).collect() };
                // One private row may meet several known ones.
                relation.columns.iter_mut().for_each(|facts| facts.numbers_rows = false);
                relation.rows = None;
                relation.unique = None;
                if private_first {
                    relation.columns.extend(known_columns);
                } else {
                    relation.unit += known_width;
                    if let Some(epoch) = &mut relation.epoch {
                        epoch.column += known_width;
                    }
                    relation.columns = known_columns.into_iter().chain(relation.columns).collect();
                }
            }
        }
        Ok((plan, Relation::Private(relation)))
    }

    /// Registers a public relation whose columns' values may be group keys. Those of a released one are not known when the
    /// release that reads it is priced.
    fn known_table(&mut self, plan: &LogicalPlan) -> Option<usize> {
        if known_of(plan).iter().any(|known| self.known[*known].after > 0) {
            return None;
        }
        // A public relation that is computed beforehand has the columns of what it is computed from.
        let plan = &public_of(plan, &self.known);
        Some(self.table(plan.clone()))
    }
}

/// The public relations that private rows are joined to already and whose columns must equal columns of `known`, with the
/// pairs of columns.
fn joins_of_tables(
    join: &Join,
    schema: &DFSchema,
    both: &[Facts],
    width: usize,
    private_first: bool,
    known: usize,
) -> BTreeMap<usize, Vec<(usize, usize)>> {
    let mut joins: BTreeMap<usize, Vec<(usize, usize)>> = BTreeMap::new();
    for (a, b) in equalities(join) {
        let place = |expr: &Expr| schema.index_of_column(expr.try_as_col()?).ok();
        let (Some(a), Some(b)) = (place(&a), place(&b)) else { continue };
        let is_private = |at: usize| (at < width) == private_first;
        let (own, other) = match (is_private(a), is_private(b)) {
            (true, false) => (a, b),
            (false, true) => (b, a),
            _ => continue,
        };
        if let (
            Some(Keys::Table { table, column, or_null: false }),
            Some(Keys::Table { table: of_known, column: known_column, .. }),
        ) = (&both[own].keys, &both[other].keys)
            && *of_known == known
            && *table != known
        {
            joins.entry(*table).or_default().push((*column, *known_column));
        }
    }
    joins
}

fn public_of(plan: &LogicalPlan, known: &[Known]) -> LogicalPlan {
    let inner = match plan {
        LogicalPlan::SubqueryAlias(alias) => alias.input.as_ref(),
        other => other,
    };
    match known_of(inner).first() {
        Some(index) => known[*index].plan.clone(),
        None => plan.clone(),
    }
}

/// Whether a join has a condition that is no equality of an expression of one side with one of the other: the engine then
/// compares each row with all those of its key.
fn compares_more(join: &Join) -> bool {
    let of = |expr: &Expr, schema: &DFSchemaRef| {
        let columns = expr.column_refs();
        !columns.is_empty() && columns.iter().all(|column| schema.index_of_column(column).is_ok())
    };
    let (left, right) = (join.left.schema(), join.right.schema());
    join.filter.as_ref().map(split_conjunction).unwrap_or_default().into_iter().any(|part| {
        !matches!(part, Expr::BinaryExpr(BinaryExpr { left: a, op: Operator::Eq, right: b })
            if (of(a, left) && of(b, right)) || (of(a, right) && of(b, left)))
    })
}

/// Whether DataFusion made this relation of a correlated scalar subquery.
fn is_correlated(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::SubqueryAlias(alias) if alias.alias.table().starts_with("__scalar_sq"))
}

/// Whether a condition above an outer join that keeps public rows drops every row that the join filled up with NULLs: it
/// must then be over private columns in a form that is not true of NULLs, or over public columns alone.
pub(super) fn rejects_nulls(predicate: &Expr, schema: &DFSchema, private: &PrivateRelation) -> bool {
    let is_private = |part: &Expr| {
        part.try_as_col()
            .and_then(|column| schema.index_of_column(column).ok())
            .is_some_and(|at| !private.columns[at].sources.is_empty())
    };
    let mut rejects = true;
    for part in split_conjunction(predicate) {
        let mut reads_private = false;
        let mut plain = true;
        let _ = part.apply(|inner| {
            reads_private |= is_private(inner);
            plain &= matches!(
                inner,
                Expr::Column(_)
                    | Expr::Literal(..)
                    | Expr::Cast(_)
                    | Expr::TryCast(_)
                    | Expr::Between(_)
                    | Expr::InList(_)
                    | Expr::Like(_)
                    | Expr::Negative(_)
            ) || matches!(inner, Expr::BinaryExpr(BinaryExpr { op, .. })
                if op.is_numerical_operators() || matches!(
                    op, Operator::Eq | Operator::NotEq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq));
            Ok(TreeNodeRecursion::Continue)
        });
        rejects &= !reads_private || plain;
    }
    rejects
}

/// How many rows of the public side one private row may meet: the most that share the columns that are compared. A plan
/// over public rows alone, to be run before anything is charged.
fn fan_out(public: &LogicalPlan, join: &Join) -> Result<LogicalPlan, Refusal> {
    let schema = public.schema();
    let is_public = |expr: &Expr| {
        let columns = expr.column_refs();
        !columns.is_empty() && columns.iter().all(|column| schema.index_of_column(column).is_ok())
    };
    let mut keys: Vec<Expr> = Vec::new();
    // Compared with the other side as it stands, a cast included, since a cast may make several values one. Two columns of
    // this side that are compared with each other say nothing of how many rows the other side meets.
    let is_other = |expr: &Expr| {
        let columns = expr.column_refs();
        !columns.is_empty() && columns.iter().all(|column| schema.index_of_column(column).is_err())
    };
    let mut compared = |left: &Expr, right: &Expr| {
        if is_public(left) && is_other(right) {
            keys.push(left.clone());
        } else if is_other(left) && is_public(right) {
            keys.push(right.clone());
        }
    };
    for (left, right) in &join.on {
        compared(left, right);
    }
    for part in join.filter.as_ref().map(split_conjunction).unwrap_or_default() {
        if let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = part {
            compared(left, right);
        }
    }
    let keys: Vec<Expr> = keys.into_iter().enumerate().map(|(at, key)| key.alias(format!("key{at}"))).collect();
    let rows = count(lit(1i64)).alias("rows");
    Ok(LogicalPlanBuilder::from(public.clone())
        .aggregate(keys, [rows])?
        .aggregate(Vec::<Expr>::new(), [max(col("rows"))])?
        .build()?)
}

/// Whether an equality of the two sides' columns bounds how many public rows a private row meets. Before the optimizer
/// has run, `ON a = b` stands in the filter.
fn has_equality(join: &Join) -> bool {
    // A bare column: an expression such as `month * 0` would meet every public row.
    let of = |expr: &Expr, schema: &DFSchemaRef| match expr {
        Expr::Cast(cast) => cast.expr.try_as_col().is_some_and(|column| schema.index_of_column(column).is_ok()),
        other => other.try_as_col().is_some_and(|column| schema.index_of_column(column).is_ok()),
    };
    let (left, right) = (join.left.schema(), join.right.schema());
    let in_filter = join.filter.as_ref().is_some_and(|filter| {
        split_conjunction(filter).into_iter().any(|part| {
            matches!(part, Expr::BinaryExpr(BinaryExpr { left: a, op: Operator::Eq, right: b })
                if (of(a, left) && of(b, right)) || (of(a, right) && of(b, left)))
        })
    });
    in_filter || join.on.iter().any(|(a, b)| (of(a, left) && of(b, right)) || (of(a, right) && of(b, left)))
}

/// A public table, perhaps filtered and projected by total expressions, with what is known of its columns; refused if it is
/// anything else.
fn total_public(plan: &LogicalPlan) -> Result<(LogicalPlan, Vec<Facts>), Refusal> {
    match plan {
        LogicalPlan::TableScan(scan) => {
            let fields = scan.projected_schema.fields();
            let facts = |kind: &DataType| Facts { texts: 1, ..Facts::default() }.with_interval(number(kind));
            Ok((plan.clone(), fields.iter().map(|field| facts(field.data_type())).collect()))
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let (input, columns) = total_public(&alias.input)?;
            Ok((LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(input), alias.alias.clone())?), columns))
        }
        LogicalPlan::Filter(filter) => {
            let (input, columns) = total_public(&filter.input)?;
            let scope = Scope { schema: input.schema(), columns: &columns, narrowed: &[] };
            let predicate = scope.total(&filter.predicate)?.expr;
            Ok((LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(input))?), columns))
        }
        LogicalPlan::Projection(projection) => {
            let (input, columns) = total_public(&projection.input)?;
            let scope = Scope { schema: input.schema(), columns: &columns, narrowed: &[] };
            let names = NamePreserver::new_for_projection();
            let (mut exprs, mut facts) = (Vec::new(), Vec::new());
            for expr in &projection.expr {
                let name = names.save(expr);
                let total = scope.total(expr)?;
                exprs.push(name.restore(total.expr));
                facts.push(total.facts);
            }
            Ok((LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input))?), facts))
        }
        _ => Err(Refusal::not_private("a public relation that is computed from several rows", "join the table itself")),
    }
}
