//! The walk over the plan, bottom up: each operator of DESIGN 4.1 maps the relations below it to the relation that it
//! makes, and rewrites itself so that the unit's id is never lost and no expression can fail.
//!
//! A plan node that is not named here is refused. The column of the unit may be projected away by the SQL; the
//! rewritten plan carries it on as a hidden last column. Joins are in `join.rs`, what is computed for each unit by
//! itself in `per_unit.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Distinct, Expr, Filter, LogicalPlan, Projection, SubqueryAlias, TableScan, Union};

use crate::catalog::{DatasetTable, Protection};
use crate::policy::{DatasetName, DatasetPolicy, Epochs, Key, Use};
use crate::release::EpochOf;

use super::Analysis;
use super::calendar::{Calendar, same_epochs};
use super::epochs;
use super::interval::Interval;
use super::refusal::{Refusal, shown};
use super::relation::{EpochColumn, Facts, Keys, PrivateRelation, Relation, ReleasedRelation};

/// The hidden columns that carry the unit's id where the SQL does not, numbered so that two of them may meet in a join.
/// SQL cannot name them: they are in no schema that SQL is planned against.
pub(super) const UNIT_COLUMN: &str = "__tollgate_unit_";

/// And those that carry the row's epoch, where the dataset has epochs.
pub(super) const EPOCH_COLUMN: &str = "__tollgate_epoch_";

/// A rewritten plan, and what its relation is.
pub(super) type Walked = (LogicalPlan, Relation);

impl Analysis<'_> {
    /// Walks `plan`.
    pub(super) fn walk(&mut self, plan: &LogicalPlan) -> Result<Walked, Refusal> {
        // Taken by each operator, and handed on by those through which a condition on the result is one on the input.
        let conditions = std::mem::take(&mut self.conditions);
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan, &conditions),
            LogicalPlan::SubqueryAlias(alias) => {
                self.conditions = epochs::through_names(&conditions, &alias.schema, alias.input.schema());
                let (input, relation) = self.walk(&alias.input)?;
                let plan = LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(input), alias.alias.clone())?);
                Ok((plan, relation))
            }
            LogicalPlan::Projection(projection) => {
                self.conditions = epochs::through_projection(&conditions, projection);
                self.projection(projection)
            }
            LogicalPlan::Filter(filter) => {
                self.conditions = conditions;
                self.conditions.extend(split_conjunction(&filter.predicate).into_iter().cloned());
                self.filter(filter)
            }
            LogicalPlan::Join(join) => self.join(join, &conditions),
            LogicalPlan::Union(union) => self.union(union, &conditions),
            LogicalPlan::Aggregate(aggregate) => {
                let (input, relation) = self.walk(&aggregate.input)?;
                match relation {
                    Relation::Private(private) => self.aggregate(aggregate, input, private),
                    Relation::Public(_) | Relation::Released(_) => self.after(plan, vec![(input, relation)]),
                }
            }
            LogicalPlan::Window(window) => {
                let (input, relation) = self.walk(&window.input)?;
                match relation {
                    Relation::Private(private) => self.window(window, input, private),
                    Relation::Public(_) | Relation::Released(_) => self.after(plan, vec![(input, relation)]),
                }
            }
            LogicalPlan::Distinct(Distinct::All(below)) => {
                let (input, relation) = self.walk(below)?;
                match relation {
                    Relation::Private(private) => self.distinct(plan.schema(), input, private),
                    Relation::Public(_) | Relation::Released(_) => self.after(plan, vec![(input, relation)]),
                }
            }
            LogicalPlan::Sort(_)
            | LogicalPlan::Limit(_)
            | LogicalPlan::Distinct(Distinct::On(_))
            | LogicalPlan::Repartition(_) => {
                let inputs = plan.inputs().into_iter().map(|input| self.walk(input)).collect::<Result<Vec<_>, _>>()?;
                self.after(plan, inputs)
            }
            LogicalPlan::Values(_) | LogicalPlan::EmptyRelation(_) => self.after(plan, Vec::new()),
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

    fn scan(&mut self, scan: &TableScan, conditions: &[Expr]) -> Result<Walked, Refusal> {
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
                let columns = fields
                    .iter()
                    .map(|field| Facts { texts: 1, ..Facts::default() }.with_interval(number(field.data_type())))
                    .collect();
                return Ok((plan, Relation::Public(columns)));
            }
            Protection::Private(policy) => policy,
        };
        if fields.iter().any(|field| {
            *field.name() == policy.privacy.unit && super::expression::has_small_dictionary(field.data_type())
        }) {
            return Err(Refusal::not_private(
                format!("the units of {} are stored with a dictionary of few keys", table.name()),
                "ask the owner to store them as plain text, or with 32-bit keys",
            ));
        }
        let unit = fields
            .iter()
            .position(|field| *field.name() == policy.privacy.unit)
            .ok_or_else(|| Refusal::not_private("the dataset's unit column is missing", "tell its owner"))?;
        let columns = fields
            .iter()
            .enumerate()
            .map(|(index, field)| {
                let facts = self.column_facts(policy, field.name(), field.data_type())?;
                let is_unit = index == unit;
                let mut epochs = policy.privacy.epochs.iter().filter(|epochs| epochs.column == *field.name());
                let calendar = epochs.next().map(|epochs| Calendar::moment(epochs.kind));
                Ok(Facts { is_unit, per_unit: is_unit || facts.per_unit, calendar, ..facts })
            })
            .collect::<Result<Vec<_>, Refusal>>()?;
        // Rows without a unit belong to nobody whom the guarantee could protect: they go before anything else.
        let (relation, field) = scan.projected_schema.qualified_field(unit);
        let has_unit = Expr::IsNotNull(Box::new(Expr::Column(Column::from((relation, field)))));
        let plan = LogicalPlan::Filter(Filter::try_new(has_unit, Arc::new(plan))?);
        let (plan, columns, epoch) = match &policy.privacy.epochs {
            None => (plan, columns, None),
            Some(epochs) => self.cut(plan, columns, table.name(), epochs, conditions)?,
        };
        let private = PrivateRelation {
            unit,
            unit_domain: policy.privacy.unit_domain.clone(),
            epoch,
            columns,
            datasets: BTreeMap::from([(table.name().clone(), Arc::clone(policy))]),
            rows: None,
            unique: None,
            narrowed: Vec::new(),
            preserved: BTreeSet::new(),
        };
        Ok((plan, Relation::Private(private)))
    }

    /// The rows of a dataset with epochs: those of the epochs that the SQL reads, each with its epoch in a hidden last column.
    /// All others are dropped here, whatever the conditions above say.
    fn cut(
        &mut self,
        plan: LogicalPlan,
        mut columns: Vec<Facts>,
        name: &DatasetName,
        epochs: &Epochs,
        conditions: &[Expr],
    ) -> Result<(LogicalPlan, Vec<Facts>, Option<EpochColumn>), Refusal> {
        let kind = epochs.kind;
        let read = epochs::read(epochs, self.today, conditions, plan.schema());
        if read.is_empty() {
            return Err(Refusal::not_private(
                format!(
                    "no {kind} of {name} is read: there are those from {} to that of today",
                    kind.label(kind.of_date(epochs.from))
                ),
                format!("ask of {kind}s that there are"),
            ));
        }
        let schema = plan.schema();
        let moment = (0..schema.fields().len())
            .find(|at| *schema.field(*at).name() == epochs.column)
            .ok_or_else(|| Refusal::not_private("the dataset's time column is missing", "tell its owner"))?;
        let column = |at: usize| Expr::Column(Column::from(schema.qualified_field(at)));
        let mut exprs: Vec<Expr> = (0..schema.fields().len()).map(column).collect();
        let name_of_column = self.hidden_epoch_name();
        exprs.push(EpochOf::new(kind, &read).call(column(moment)).alias(&name_of_column));
        columns.push(Facts { per_unit: true, not_null: true, ..Facts::default() });
        let plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan))?);
        let has_epoch = Expr::IsNotNull(Box::new(Expr::Column(Column::new_unqualified(name_of_column))));
        let plan = LogicalPlan::Filter(Filter::try_new(has_epoch, Arc::new(plan))?);
        let (column, read) = (columns.len() - 1, BTreeMap::from([(name.clone(), read)]));
        Ok((plan, columns, Some(EpochColumn { column, kind, read })))
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
            .and_then(|groups| groups.keys().map(|key| scalar(&key, kind)).collect::<Option<Vec<_>>>())
            .map(|keys| Keys::Listed(keys.into()));
        let sources = BTreeMap::from([(format!("{}.{name}", policy.name), column.uses)]);
        let (per_unit, unit_key) = (column.per_unit_constant, column.unit_key.clone());
        Ok(Facts { sources, interval, keys, per_unit, unit_key, texts: 1, ..Facts::default() })
    }

    fn projection(&mut self, projection: &Projection) -> Result<Walked, Refusal> {
        let (input, relation) = self.walk(&projection.input)?;
        let Relation::Private(private) = relation else {
            let plan = LogicalPlan::Projection(projection.clone());
            return self.after(&plan, vec![(input, relation)]);
        };
        let names = NamePreserver::new_for_projection();
        let mut exprs = Vec::with_capacity(projection.expr.len() + 1);
        let mut columns = Vec::with_capacity(projection.expr.len() + 1);
        for expr in &projection.expr {
            let name = names.save(expr);
            let expr = self.with_scalars(expr)?;
            let total = private.scope(input.schema()).total(&expr)?;
            exprs.push(name.restore(total.expr));
            columns.push(total.facts);
        }
        let unit = match columns.iter().position(|facts| facts.is_unit) {
            Some(unit) => unit,
            None => {
                exprs.push(self.hidden_unit(input.schema(), private.unit));
                columns.push(private.columns[private.unit].clone());
                columns.len() - 1
            }
        };
        let epoch = private.epoch.as_ref().map(|epoch| {
            exprs.push(self.hidden_epoch(input.schema(), epoch.column));
            columns.push(private.columns[epoch.column].clone());
            columns.len() - 1
        });
        // Which column each old one is now, if it is passed on.
        let places: BTreeMap<usize, usize> = exprs
            .iter()
            .enumerate()
            .filter_map(|(at, expr)| Some((input.schema().index_of_column(unaliased(expr).try_as_col()?).ok()?, at)))
            .collect();
        let unique =
            private.unique.as_ref().and_then(|unique| unique.iter().map(|at| places.get(at).copied()).collect());
        let plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input))?);
        Ok((plan, Relation::Private(PrivateRelation { unique, ..private.with_columns(unit, epoch, columns) })))
    }

    /// The unit's id under a name that nothing else has.
    pub(super) fn hidden_unit(&mut self, schema: &DFSchema, unit: usize) -> Expr {
        self.hidden_units += 1;
        Expr::Column(Column::from(schema.qualified_field(unit))).alias(format!("{UNIT_COLUMN}{}", self.hidden_units))
    }

    /// The row's epoch under a name that nothing else has.
    pub(super) fn hidden_epoch(&mut self, schema: &DFSchema, epoch: usize) -> Expr {
        let name = self.hidden_epoch_name();
        Expr::Column(Column::from(schema.qualified_field(epoch))).alias(name)
    }

    fn hidden_epoch_name(&mut self) -> String {
        self.hidden_units += 1;
        format!("{EPOCH_COLUMN}{}", self.hidden_units)
    }

    fn filter(&mut self, filter: &Filter) -> Result<Walked, Refusal> {
        let (input, relation) = self.walk(&filter.input)?;
        let Relation::Private(private) = relation else {
            return self.after(&LogicalPlan::Filter(filter.clone()), vec![(input, relation)]);
        };
        let mut private = private;
        let predicate = self.with_scalars(&filter.predicate)?;
        if !private.preserved.is_empty() && !super::join_known::rejects_nulls(&predicate, input.schema(), &private) {
            return Err(Refusal::not_private(
                format!(
                    "`{}` may keep public rows that no private row meets, and which they are is private",
                    shown(&predicate)
                ),
                "put the condition on the private table into a derived table below the outer join",
            ));
        }
        let predicate = private.scope(input.schema()).used(&predicate, Use::Filter)?.expr;
        super::domain::narrow(&predicate, input.schema(), &mut private)?;
        self.narrow_tables(&predicate, input.schema(), &mut private)?;
        let plan = LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(input))?);
        Ok((plan, Relation::Private(private)))
    }

    /// `UNION ALL`. The unit is aligned by position: as the last, hidden column of every input.
    fn union(&mut self, union: &Union, conditions: &[Expr]) -> Result<Walked, Refusal> {
        let mut inputs = Vec::with_capacity(union.inputs.len());
        let mut privates: Vec<PrivateRelation> = Vec::new();
        for input in &union.inputs {
            self.conditions = epochs::through_names(conditions, &union.schema, input.schema());
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
        if privates.iter().any(|private| !private.preserved.is_empty()) {
            return Err(Refusal::not_private(
                "UNION ALL over an outer join that keeps public rows is not answered",
                "aggregate each part first, and unite the results",
            ));
        }
        let mut all = privates[0].clone();
        for private in &privates[1..] {
            all.epoch = same_epochs(&all, private, "UNION ALL")?;
            all.datasets.extend(private.datasets.clone());
        }
        let epoch = all.epoch;
        self.hidden_units += 1;
        let hidden = format!("{UNIT_COLUMN}{}", self.hidden_units);
        let hidden_epoch = self.hidden_epoch_name();
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
            exprs.push(unit_of(&plan, private.unit).alias(&hidden));
            if let Some(epoch) = &private.epoch {
                exprs.push(unit_of(&plan, epoch.column).alias(&hidden_epoch));
            }
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
        let epoch = epoch.map(|epoch| {
            columns.push(Facts { per_unit: true, not_null: true, ..Facts::default() });
            EpochColumn { column: columns.len() - 1, ..epoch }
        });
        let unit_domain = privates[0].unit_domain.clone();
        let rows = privates.iter().map(|private| private.rows).sum();
        let plan = LogicalPlan::Union(Union::try_new(plans)?);
        let private = PrivateRelation {
            unit: width,
            unit_domain,
            epoch,
            columns,
            datasets: all.datasets,
            rows,
            unique: None,
            narrowed: Vec::new(),
            preserved: BTreeSet::new(),
        };
        Ok((plan, Relation::Private(private)))
    }

    /// Anything at all above released and public relations; a refusal above private ones.
    pub(super) fn after(&mut self, plan: &LogicalPlan, inputs: Vec<Walked>) -> Result<Walked, Refusal> {
        if inputs.iter().any(|(_, relation)| matches!(relation, Relation::Private(_))) {
            return Err(match plan {
                LogicalPlan::Limit(_) | LogicalPlan::Sort(_) => Refusal::not_private(
                    "ORDER BY or LIMIT over private rows would show them",
                    "aggregate first: SELECT key, count(*) ... GROUP BY key ORDER BY ... LIMIT ...",
                ),
                LogicalPlan::Distinct(_) => Refusal::not_private(
                    "SELECT DISTINCT ON over private rows would show them",
                    "write SELECT key, count(*) ... GROUP BY key",
                ),
                _ => Refusal::not_private("this operator over private rows is not answered", "aggregate first"),
            });
        }
        let (exprs, from_release) = self.with_subqueries(plan.expressions())?;
        let released = from_release || inputs.iter().any(|(_, relation)| matches!(relation, Relation::Released(_)));
        let relation = if released {
            Relation::Released(ReleasedRelation { origins: Self::origins(plan, &inputs) })
        } else {
            Relation::Public(vec![Facts { texts: 1, ..Facts::default() }; plan.schema().fields().len()])
        };
        self.with_errors(plan, exprs, inputs.into_iter().map(|(plan, _)| plan).collect(), relation)
    }
}

/// What is known of a column that comes from several relations: what holds in all of them.
fn united<'a>(parts: impl Iterator<Item = &'a Facts> + Clone) -> Facts {
    let interval = parts
        .clone()
        .map(|facts| facts.interval)
        .collect::<Option<Vec<_>>>()
        .and_then(|intervals| intervals.into_iter().reduce(Interval::hull));
    let keys = parts.clone().map(Facts::listed).collect::<Option<Vec<_>>>().map(|all| {
        let mut keys: Vec<ScalarValue> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for key in all.into_iter().flat_map(|listed| listed.iter()) {
            if seen.insert(key.clone()) {
                keys.push(key.clone());
            }
        }
        Keys::Listed(keys.into())
    });
    let is_unit = parts.clone().all(|facts| facts.is_unit);
    let calendar = parts.clone().next().and_then(|first| first.calendar);
    let calendar = calendar.filter(|calendar| parts.clone().all(|facts| facts.calendar == Some(*calendar)));
    // Two members may hold two values of one unit, whatever each of them says of its own. What is made of the epoch alone
    // is one value in all of them.
    let per_unit = is_unit || calendar.is_some_and(Calendar::is_constant);
    let unit_key = parts.clone().next().and_then(|first| first.unit_key.clone());
    let unit_key = unit_key.filter(|space| parts.clone().all(|facts| facts.unit_key.as_ref() == Some(space)));
    Facts { interval, keys, is_unit, per_unit, unit_key, calendar, ..Facts::computed_from(parts) }
}

/// The column that holds the unit's id.
pub(super) fn unit_of(plan: &LogicalPlan, unit: usize) -> Expr {
    Expr::Column(Column::from(plan.schema().qualified_field(unit)))
}

pub(super) fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}

pub(super) fn number(kind: &DataType) -> Option<Interval> {
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
