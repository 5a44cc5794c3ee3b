//! The walk over the plan, bottom up: each operator of DESIGN 4.1 maps the relations below it to the relation that it
//! makes, and rewrites itself so that the unit's id is never lost and no expression can fail.
//!
//! A plan node that is not named here is refused. The column of the unit may be projected away by the SQL; the
//! rewritten plan carries it on as a hidden last column.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Column, DFSchemaRef, JoinType, ScalarValue};
use datafusion::functions_aggregate::expr_fn::{count, max};
use datafusion::logical_expr::expr::BinaryExpr;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    Expr, Filter, Join, LogicalPlan, LogicalPlanBuilder, Operator, Projection, SubqueryAlias, TableScan, Union, col,
    lit,
};

use crate::catalog::{DatasetTable, Protection};
use crate::policy::{DatasetPolicy, Key, Use};

use super::Analysis;
use super::expression::Scope;
use super::interval::Interval;
use super::refusal::Refusal;
use super::relation::{Facts, PrivateRelation, Relation, ReleasedRelation, names};

/// The hidden column that carries the unit's id where the SQL does not. SQL cannot name it: it is not in any schema
/// that SQL is planned against.
pub(super) const UNIT_COLUMN: &str = "__tollgate_unit";

/// A rewritten plan, and what its relation is.
pub(super) type Walked = (LogicalPlan, Relation);

impl Analysis<'_> {
    /// Walks `plan`.
    pub(super) fn walk(&mut self, plan: &LogicalPlan) -> Result<Walked, Refusal> {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::SubqueryAlias(alias) => {
                let (input, relation) = self.walk(&alias.input)?;
                let plan = LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(input), alias.alias.clone())?);
                Ok((plan, relation))
            }
            LogicalPlan::Projection(projection) => self.projection(projection),
            LogicalPlan::Filter(filter) => self.filter(filter),
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Union(union) => self.union(union),
            LogicalPlan::Aggregate(aggregate) => {
                let (input, relation) = self.walk(&aggregate.input)?;
                match relation {
                    Relation::Private(private) => self.release(aggregate, input, &private),
                    Relation::Public(_) | Relation::Released(_) => self.after(plan, vec![(input, relation)]),
                }
            }
            LogicalPlan::Sort(_)
            | LogicalPlan::Limit(_)
            | LogicalPlan::Window(_)
            | LogicalPlan::Distinct(_)
            | LogicalPlan::Repartition(_) => {
                let inputs = plan.inputs().into_iter().map(|input| self.walk(input)).collect::<Result<Vec<_>, _>>()?;
                self.after(plan, inputs)
            }
            LogicalPlan::Values(_) | LogicalPlan::EmptyRelation(_) => {
                for expr in plan.expressions() {
                    self.no_private_subquery(&expr)?;
                }
                Ok((plan.clone(), Relation::Public(vec![Facts::default(); plan.schema().fields().len()])))
            }
            LogicalPlan::Subquery(_) => {
                Err(Refusal::not_private("a correlated subquery in FROM is not answered", "join on the column instead"))
            }
            LogicalPlan::Unnest(_) => Err(Refusal::not_private("UNNEST is not answered", "use columns of plain types")),
            LogicalPlan::RecursiveQuery(_) => {
                Err(Refusal::not_private("a recursive query is not answered", "write the steps out"))
            }
            LogicalPlan::Statement(_)
            | LogicalPlan::Explain(_)
            | LogicalPlan::Analyze(_)
            | LogicalPlan::Extension(_)
            | LogicalPlan::Dml(_)
            | LogicalPlan::Ddl(_)
            | LogicalPlan::Copy(_)
            | LogicalPlan::DescribeTable(_) => Err(Refusal::not_private(
                "only SELECT is answered",
                "ask GET /v1/datasets for schemas, and use a dry run to see a price",
            )),
        }
    }

    fn scan(&mut self, scan: &TableScan) -> Result<Walked, Refusal> {
        let plan = LogicalPlan::TableScan(scan.clone());
        let Some(table) = DatasetTable::of(&scan.source) else {
            return Err(Refusal::not_private(
                format!("`{}` is not a dataset", scan.table_name),
                "use datasets that GET /v1/datasets lists",
            ));
        };
        if scan.fetch.is_some() || scan.projection.is_some() || !scan.filters.is_empty() {
            return Err(Refusal::not_private("a scan with pushed-down parts is not analysed", "send plain SQL"));
        }
        self.read(&table);
        let fields = scan.projected_schema.fields();
        let policy = match table.protection() {
            Protection::Public => {
                let columns =
                    fields.iter().map(|field| Facts::default().with_interval(number(field.data_type()))).collect();
                return Ok((plan, Relation::Public(columns)));
            }
            Protection::Private(policy) => policy,
        };
        let unit = fields
            .iter()
            .position(|field| *field.name() == policy.privacy.unit)
            .ok_or_else(|| Refusal::not_private("the dataset's unit column is missing", "tell its owner"))?;
        let columns = fields
            .iter()
            .enumerate()
            .map(|(index, field)| {
                let facts = self.column_facts(policy, field.name(), field.data_type())?;
                Ok(Facts { is_unit: index == unit, ..facts })
            })
            .collect::<Result<_, Refusal>>()?;
        // Rows without a unit belong to nobody whom the guarantee could protect: they go before anything else.
        let (relation, field) = scan.projected_schema.qualified_field(unit);
        let has_unit = Expr::IsNotNull(Box::new(Expr::Column(Column::from((relation, field)))));
        let plan = LogicalPlan::Filter(Filter::try_new(has_unit, Arc::new(plan))?);
        let private = PrivateRelation {
            unit,
            unit_domain: policy.privacy.unit_domain.clone(),
            columns,
            datasets: BTreeMap::from([(table.name().clone(), Arc::clone(policy))]),
        };
        Ok((plan, Relation::Private(private)))
    }

    fn column_facts(&self, policy: &DatasetPolicy, name: &str, kind: &DataType) -> Result<Facts, Refusal> {
        let column = policy.column(name);
        let asked = self.request.columns.get(name).map(|[lo, hi]| Interval::new(*lo, *hi));
        let interval = number(kind).map(|unbounded| {
            let owners =
                column.bounds.map_or(unbounded, |bounds| Interval::new(bounds.lo().to_f64(), bounds.hi().to_f64()));
            asked.map_or(owners, |asked| owners.within(asked))
        });
        if let (Some(owners), Some([lo, hi])) = (column.bounds, self.request.columns.get(name))
            && (*lo < owners.lo().to_f64() || *hi > owners.hi().to_f64())
        {
            return Err(Refusal::request(
                format!("`bounds.columns.{name}` reaches outside the owner's [{}, {}]", owners.lo(), owners.hi()),
                "ask for bounds within the owner's",
            ));
        }
        let keys = column
            .public_groups
            .as_ref()
            .and_then(|groups| groups.keys().map(|key| scalar(&key, kind)).collect::<Option<Vec<_>>>().map(Into::into));
        let sources = BTreeMap::from([(format!("{}.{name}", policy.name), column.uses)]);
        Ok(Facts { sources, interval, keys, is_unit: false })
    }

    fn projection(&mut self, projection: &Projection) -> Result<Walked, Refusal> {
        let (input, relation) = self.walk(&projection.input)?;
        let Relation::Private(private) = relation else {
            let plan = LogicalPlan::Projection(projection.clone());
            return self.after(&plan, vec![(input, relation)]);
        };
        let scope = Scope { schema: input.schema(), columns: &private.columns };
        let names = NamePreserver::new_for_projection();
        let mut exprs = Vec::with_capacity(projection.expr.len() + 1);
        let mut columns = Vec::with_capacity(projection.expr.len() + 1);
        for expr in &projection.expr {
            let name = names.save(expr);
            let total = scope.total(expr)?;
            exprs.push(name.restore(total.expr));
            columns.push(total.facts);
        }
        let unit = match columns.iter().position(|facts| facts.is_unit) {
            Some(unit) => unit,
            None => {
                let (relation, field) = input.schema().qualified_field(private.unit);
                exprs.push(Expr::Column(Column::from((relation, field))).alias(UNIT_COLUMN));
                columns.push(private.columns[private.unit].clone());
                columns.len() - 1
            }
        };
        let plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input))?);
        Ok((plan, Relation::Private(PrivateRelation { unit, columns, ..private })))
    }

    fn filter(&mut self, filter: &Filter) -> Result<Walked, Refusal> {
        let (input, relation) = self.walk(&filter.input)?;
        let Relation::Private(private) = relation else {
            return self.after(&LogicalPlan::Filter(filter.clone()), vec![(input, relation)]);
        };
        let scope = Scope { schema: input.schema(), columns: &private.columns };
        let predicate = scope.used(&filter.predicate, Use::Filter)?.expr;
        let plan = LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(input))?);
        Ok((plan, Relation::Private(private)))
    }

    fn join(&mut self, join: &Join) -> Result<Walked, Refusal> {
        let (left, left_relation) = self.walk(&join.left)?;
        let (right, right_relation) = self.walk(&join.right)?;
        let private = match (left_relation, right_relation) {
            (Relation::Private(_), Relation::Private(_)) => {
                return Err(Refusal::not_private(
                    "a join of private datasets with each other is not answered",
                    "join private datasets to public tables; ask of each private dataset in its own query",
                ));
            }
            (Relation::Private(_), Relation::Released(_)) | (Relation::Released(_), Relation::Private(_)) => {
                return Err(Refusal::not_private(
                    "a join of private rows with released values is not answered",
                    "ask for the released values first, and write them into the query",
                ));
            }
            (left_relation @ (Relation::Public(_) | Relation::Released(_)), right_relation)
                if !matches!(right_relation, Relation::Private(_)) =>
            {
                let plan = LogicalPlan::Join(join.clone());
                return self.after(&plan, vec![(left, left_relation), (right, right_relation)]);
            }
            (Relation::Private(private), public) => joined(private, public.columns(), true),
            (public, Relation::Private(private)) => joined(private, public.columns(), false),
            (Relation::Public(_) | Relation::Released(_), _) => {
                return Err(Refusal::not_private("this join is not answered", "join private rows to public tables"));
            }
        };
        let keeps_private = match join.join_type {
            JoinType::Inner => true,
            JoinType::Left => private.unit < left.schema().fields().len(),
            JoinType::Right => private.unit >= left.schema().fields().len(),
            JoinType::Full
            | JoinType::LeftSemi
            | JoinType::RightSemi
            | JoinType::LeftAnti
            | JoinType::RightAnti
            | JoinType::LeftMark
            | JoinType::RightMark => false,
        };
        if !keeps_private {
            return Err(Refusal::not_private(
                format!("a {} join that does not keep the private side whole is not answered", join.join_type),
                format!("use JOIN, or put {} on the side that the outer join keeps", names(&private.datasets)),
            ));
        }
        if !has_equality(join) {
            return Err(Refusal::not_private(
                "a join to a public table without an equality is not answered",
                "add an equality of columns to ON",
            ));
        }
        let (left, right) = if private.unit < left.schema().fields().len() {
            (left, total_public(&right)?)
        } else {
            (total_public(&left)?, right)
        };
        let public = if private.unit < left.schema().fields().len() { &right } else { &left };
        self.fan_outs.push(fan_out(public, join)?);
        let schema: DFSchemaRef =
            Arc::new(datafusion::logical_expr::build_join_schema(left.schema(), right.schema(), &join.join_type)?);
        let scope = Scope { schema: &schema, columns: &private.columns };
        let used = |expr: &Expr| scope.used(expr, Use::Filter).map(|total| total.expr);
        let on =
            join.on.iter().map(|(left, right)| Ok((used(left)?, used(right)?))).collect::<Result<Vec<_>, Refusal>>()?;
        let filter = join.filter.as_ref().map(used).transpose()?;
        let plan = LogicalPlan::Join(Join::try_new(
            Arc::new(left),
            Arc::new(right),
            on,
            filter,
            join.join_type,
            join.join_constraint,
            join.null_equality,
            join.null_aware,
        )?);
        Ok((plan, Relation::Private(private)))
    }

    /// `UNION ALL`. The unit is aligned by position: as the last, hidden column of every input.
    fn union(&mut self, union: &Union) -> Result<Walked, Refusal> {
        let mut inputs = Vec::with_capacity(union.inputs.len());
        let mut privates: Vec<PrivateRelation> = Vec::new();
        for input in &union.inputs {
            let (plan, relation) = self.walk(input)?;
            if let Relation::Private(private) = &relation {
                privates.push(private.clone());
            }
            inputs.push((plan, relation));
        }
        if privates.is_empty() {
            return self.after(&LogicalPlan::Union(union.clone()), inputs);
        }
        if privates.len() != inputs.len() {
            return Err(Refusal::not_private(
                "UNION ALL of private rows with public or released ones is not answered",
                "unite private datasets of one unit domain only",
            ));
        }
        let width = union.schema.fields().len();
        let mut plans = Vec::with_capacity(inputs.len());
        for ((plan, _), private) in inputs.into_iter().zip(&privates) {
            if private.unit_domain != privates[0].unit_domain {
                return Err(Refusal::not_private(
                    format!(
                        "UNION ALL of units of two domains ({} and {}) is not answered",
                        privates[0].unit_domain, private.unit_domain
                    ),
                    "unite datasets whose units are of one domain",
                ));
            }
            let mut exprs: Vec<Expr> =
                (0..width).map(|at| Expr::Column(Column::from(plan.schema().qualified_field(at)))).collect();
            exprs.push(Expr::Column(Column::from(plan.schema().qualified_field(private.unit))).alias(UNIT_COLUMN));
            plans.push(Arc::new(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan))?)));
        }
        let unit_type = |plan: &LogicalPlan| plan.schema().field(width).data_type().clone();
        if let Some(other) = plans.iter().find(|plan| unit_type(plan) != unit_type(&plans[0])) {
            return Err(Refusal::not_private(
                format!("units of two types ({} and {}) cannot be told apart", unit_type(&plans[0]), unit_type(other)),
                "ask the owners to store the unit's id as one type",
            ));
        }
        let mut columns: Vec<Facts> =
            (0..width).map(|at| united(privates.iter().map(|private| &private.columns[at]))).collect();
        columns.push(Facts { is_unit: true, ..united(privates.iter().map(|private| &private.columns[private.unit])) });
        let datasets = privates.iter().flat_map(|private| private.datasets.clone()).collect();
        let unit_domain = privates[0].unit_domain.clone();
        let plan = LogicalPlan::Union(Union::try_new(plans)?);
        let private = PrivateRelation { unit: width, unit_domain, columns, datasets };
        Ok((plan, Relation::Private(private)))
    }

    /// Anything at all above released and public relations; a refusal above private ones.
    fn after(&mut self, plan: &LogicalPlan, inputs: Vec<Walked>) -> Result<Walked, Refusal> {
        if inputs.iter().any(|(_, relation)| matches!(relation, Relation::Private(_))) {
            return Err(match plan {
                LogicalPlan::Limit(_) | LogicalPlan::Sort(_) => Refusal::not_private(
                    "ORDER BY or LIMIT over private rows would show them",
                    "aggregate first: SELECT key, count(*) ... GROUP BY key ORDER BY ... LIMIT ...",
                ),
                LogicalPlan::Distinct(_) => Refusal::not_private(
                    "SELECT DISTINCT over private rows would show them",
                    "write SELECT key, count(*) ... GROUP BY key",
                ),
                _ => Refusal::not_private(
                    "a window function over private rows is not answered",
                    "aggregate first; windows work on the result",
                ),
            });
        }
        for expr in plan.expressions() {
            self.no_private_subquery(&expr)?;
        }
        let released = inputs.iter().any(|(_, relation)| matches!(relation, Relation::Released(_)));
        let relation = if released {
            Relation::Released(ReleasedRelation { origins: Self::origins(plan, &inputs) })
        } else {
            Relation::Public(vec![Facts::default(); plan.schema().fields().len()])
        };
        let (plan, relation) = self.with_errors(plan, inputs.into_iter().map(|(plan, _)| plan).collect(), relation)?;
        Ok((plan, relation))
    }
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

/// The public side of a join with private rows: a table, perhaps filtered and projected by total expressions.
///
/// The engine may leave this side unread when the private side is empty, so whatever could fail or take long in it
/// would tell whether it was.
fn total_public(plan: &LogicalPlan) -> Result<LogicalPlan, Refusal> {
    let over = |input: &LogicalPlan| -> Result<(LogicalPlan, Vec<Facts>), Refusal> {
        let input = total_public(input)?;
        let columns = vec![Facts::default(); input.schema().fields().len()];
        Ok((input, columns))
    };
    match plan {
        LogicalPlan::TableScan(_) => Ok(plan.clone()),
        LogicalPlan::SubqueryAlias(alias) => {
            let (input, _) = over(&alias.input)?;
            Ok(LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(input), alias.alias.clone())?))
        }
        LogicalPlan::Filter(filter) => {
            let (input, columns) = over(&filter.input)?;
            let predicate = Scope { schema: input.schema(), columns: &columns }.total(&filter.predicate)?.expr;
            Ok(LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(input))?))
        }
        LogicalPlan::Projection(projection) => {
            let (input, columns) = over(&projection.input)?;
            let scope = Scope { schema: input.schema(), columns: &columns };
            let names = NamePreserver::new_for_projection();
            let exprs = projection
                .expr
                .iter()
                .map(|expr| {
                    let name = names.save(expr);
                    Ok(name.restore(scope.total(expr)?.expr))
                })
                .collect::<Result<Vec<_>, Refusal>>()?;
            Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input))?))
        }
        _ => Err(Refusal::not_private(
            "private rows are joined to public tables only, not to anything computed from several public rows",
            "join the table itself; filter and project it if need be",
        )),
    }
}

fn joined(private: PrivateRelation, public: &[Facts], private_first: bool) -> PrivateRelation {
    let mut columns = private.columns;
    if private_first {
        columns.extend(public.iter().cloned());
        return PrivateRelation { columns, ..private };
    }
    let unit = private.unit + public.len();
    let columns = public.iter().cloned().chain(columns).collect();
    PrivateRelation { unit, columns, ..private }
}

/// What is known of a column that comes from several relations: what holds in all of them.
fn united<'a>(parts: impl Iterator<Item = &'a Facts> + Clone) -> Facts {
    let interval = parts
        .clone()
        .map(|facts| facts.interval)
        .collect::<Option<Vec<_>>>()
        .and_then(|intervals| intervals.into_iter().reduce(Interval::hull));
    let keys = parts.clone().map(|facts| facts.keys.as_deref()).collect::<Option<Vec<_>>>().map(|all| {
        let mut keys: Vec<ScalarValue> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for key in all.into_iter().flatten() {
            if seen.insert(key.clone()) {
                keys.push(key.clone());
            }
        }
        keys.into()
    });
    let is_unit = parts.clone().all(|facts| facts.is_unit);
    Facts { interval, keys, is_unit, ..Facts::computed_from(parts) }
}

fn number(kind: &DataType) -> Option<Interval> {
    kind.is_numeric().then_some(Interval::UNBOUNDED)
}

/// A policy's key as a value of the column's type; `None` if it is none.
fn scalar(key: &Key, kind: &DataType) -> Option<ScalarValue> {
    let value = match key {
        Key::Int(value) => ScalarValue::Int64(Some(*value)),
        Key::Text(value) => ScalarValue::Utf8(Some(value.clone())),
        Key::Bool(value) => ScalarValue::Boolean(Some(*value)),
        Key::Date(value) => {
            let days = value.signed_duration_since(chrono::DateTime::UNIX_EPOCH.date_naive()).num_days();
            ScalarValue::Date32(Some(i32::try_from(days).ok()?))
        }
    };
    value.cast_to(kind).ok().filter(|value| !value.is_null())
}
