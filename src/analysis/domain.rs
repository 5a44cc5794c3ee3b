//! Which values a group key may have, known without the data (DESIGN 4.2): then no threshold hides a group, or far fewer.
//!
//! ```text
//! policy's public_groups · a column of a public table · literals in WHERE · a range of integers or days in WHERE
//! CASE with literal branches · extract(month FROM d) · booleans
//! ```

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, JoinType, ScalarValue};
use datafusion::logical_expr::expr::{BinaryExpr, InList};
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{Expr, ExprSchemable, Filter, Join, LogicalPlan, LogicalPlanBuilder, Operator};

use super::expression::{Total, folded};
use super::interval::Interval;
use super::refusal::Refusal;
use super::relation::{Facts, Keys, PrivateRelation};
use super::{Analysis, PublicRows};

/// The longest list of values of which each is tried on a condition.
const MAX_EVALUATED: usize = 1_000;
/// The longest list that a range in WHERE makes of integers or days.
const MAX_RANGE: i64 = 1_000;

/// Learns from a condition that every row left meets: which values an expression still has, and within which bounds a
/// number lies.
pub(super) fn narrow(predicate: &Expr, schema: &DFSchema, private: &mut PrivateRelation) -> Result<(), Refusal> {
    let parts = split_conjunction(predicate);
    for part in &parts {
        if let Some((expr, values)) = listed(part, schema) {
            let kind = expr.get_type(schema)?;
            // Values that the type cannot hold equal none of the expression's.
            let cast: Option<Vec<ScalarValue>> = values
                .iter()
                .map(|value| {
                    let cast = value.cast_to(&kind).ok()?;
                    (cast.cast_to(&value.data_type()).ok()? == *value).then_some(cast)
                })
                .collect();
            if let Some(values) = cast {
                restrict(expr, values, schema, private);
            }
        }
    }
    for part in &parts {
        if let Some(at) = never_null(part, schema).and_then(|column| schema.index_of_column(column).ok()) {
            private.columns[at].not_null = true;
        }
        keep_true(part, schema, private)?;
    }
    // Integers and days that two comparisons hold in a short range; numbers that comparisons bound.
    let mut ranges: Vec<(&Expr, Option<i64>, Option<i64>)> = Vec::new();
    for part in &parts {
        for (expr, op, value) in comparisons(part, schema) {
            bound(expr, op, &value, schema, private);
            let Some(value) = whole(&value, &expr.get_type(schema)?) else { continue };
            let at = ranges.iter().position(|(known, ..)| *known == expr).unwrap_or_else(|| {
                ranges.push((expr, None, None));
                ranges.len() - 1
            });
            let (_, from, to) = &mut ranges[at];
            match op {
                Operator::GtEq => *from = Some(from.map_or(value, |known| known.max(value))),
                Operator::Gt => *from = Some(from.map_or(value + 1, |known| known.max(value + 1))),
                Operator::LtEq => *to = Some(to.map_or(value, |known| known.min(value))),
                Operator::Lt => *to = Some(to.map_or(value - 1, |known| known.min(value - 1))),
                _ => {}
            }
        }
    }
    for (expr, from, to) in ranges {
        let (Some(from), Some(to)) = (from, to) else { continue };
        if !(0..MAX_RANGE).contains(&to.saturating_sub(from)) {
            continue;
        }
        let kind = expr.get_type(schema)?;
        let values: Option<Vec<ScalarValue>> = (from..=to).map(|value| of_whole(value, &kind)).collect();
        if let Some(values) = values {
            restrict(expr, values, schema, private);
        }
    }
    Ok(())
}

/// Of an expression whose values are listed, and that is all that a condition is about, those remain for which it is true:
/// `month < 4`, `extract(month FROM d) <> 7`, `origin LIKE '%K'`.
fn keep_true(part: &Expr, schema: &DFSchema, private: &mut PrivateRelation) -> Result<(), Refusal> {
    let mut candidates: Vec<Expr> = Vec::new();
    part.apply(|inner| {
        if matches!(inner, Expr::Column(_) | Expr::ScalarFunction(_)) && !candidates.contains(inner) {
            candidates.push(inner.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    for expr in candidates {
        let Ok(total) = private.scope(schema).total(&expr) else { continue };
        let Some(listed) = total.facts.listed().filter(|listed| listed.len() <= MAX_EVALUATED) else { continue };
        let holds = |value: &ScalarValue| -> Option<bool> {
            let replaced = part.clone().transform_down(|inner| {
                Ok(if inner == expr {
                    Transformed::new(Expr::Literal(value.clone(), None), true, TreeNodeRecursion::Jump)
                } else {
                    Transformed::no(inner)
                })
            });
            let replaced = replaced.ok()?.data;
            if !replaced.column_refs().is_empty() {
                return None;
            }
            Some(folded(&replaced)? == ScalarValue::Boolean(Some(true)))
        };
        let kept: Option<Vec<ScalarValue>> = listed
            .iter()
            .map(|value| Some((value.clone(), holds(value)?)))
            .collect::<Option<Vec<_>>>()
            .map(|all| all.into_iter().filter(|(_, holds)| *holds).map(|(value, _)| value).collect());
        let Some(kept) = kept else { continue };
        match expr.try_as_col().and_then(|column| schema.index_of_column(column).ok()) {
            Some(at) => private.columns[at].keys = Some(Keys::Listed(kept.into())),
            None => private.narrowed.push((expr, kept.into())),
        }
    }
    Ok(())
}

/// `x = 1`, `x IN (1, 2)`, `x = 1 OR x = 2`: an expression and the values that it has.
fn listed<'a>(part: &'a Expr, schema: &DFSchema) -> Option<(&'a Expr, Vec<ScalarValue>)> {
    match part {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => match (left.as_ref(), right.as_ref()) {
            (Expr::Literal(..), Expr::Literal(..)) => None,
            (expr, Expr::Literal(value, _)) | (Expr::Literal(value, _), expr) => {
                Some((narrower(expr, schema), vec![value.clone()]))
            }
            _ => None,
        },
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let ((a, mut values), (b, more)) = (listed(left, schema)?, listed(right, schema)?);
            values.extend(more);
            (a == b).then_some((a, values))
        }
        Expr::InList(InList { expr, list, negated: false }) => {
            let values = list
                .iter()
                .map(|item| match item {
                    Expr::Literal(value, _) => Some(value.clone()),
                    _ => None,
                })
                .collect::<Option<Vec<_>>>()?;
            Some((narrower(expr, schema), values))
        }
        _ => None,
    }
}

/// The expression under the widening with which the engine compares it to a literal of a wider type. Where a condition over
/// an integer that becomes a wider integer or decimal holds, the integer fits, and the two are one number.
fn narrower<'a>(expr: &'a Expr, schema: &DFSchema) -> &'a Expr {
    let integer = |inner: &Expr| inner.get_type(schema).is_ok_and(|kind| kind.is_integer());
    match expr {
        Expr::Cast(cast) if matches!(cast.expr.as_ref(), Expr::Column(_) | Expr::ScalarFunction(_)) => &cast.expr,
        Expr::TryCast(cast)
            if matches!(cast.expr.as_ref(), Expr::Column(_))
                && integer(&cast.expr)
                && matches!(cast.field.data_type(), DataType::Int64 | DataType::Decimal128(_, 0)) =>
        {
            &cast.expr
        }
        other => other,
    }
}

fn restrict(expr: &Expr, values: Vec<ScalarValue>, schema: &DFSchema, private: &mut PrivateRelation) {
    let mut seen = HashSet::new();
    let values: Vec<ScalarValue> =
        values.into_iter().filter(|value| !value.is_null() && seen.insert(value.clone())).collect();
    let column = expr.try_as_col().and_then(|column| schema.index_of_column(column).ok());
    let Some(at) = column else {
        private.narrowed.push((expr.clone(), values.into()));
        return;
    };
    let facts = &mut private.columns[at];
    if of_table(facts).is_some() {
        // A condition on a public relation: fewer of its rows are left, see `narrow_tables`.
        return;
    }
    let kept = match facts.listed() {
        // What the owner lists, and the query asks for.
        Some(known) => known.iter().filter(|value| values.contains(value)).cloned().collect(),
        None => values,
    };
    facts.keys = Some(Keys::Listed(kept.into()));
}

/// `x >= 1`, `1 <= x`, `x BETWEEN 1 AND 2`: comparisons of an expression with a literal.
fn comparisons<'a>(part: &'a Expr, schema: &DFSchema) -> Vec<(&'a Expr, Operator, ScalarValue)> {
    match part {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match (left.as_ref(), right.as_ref()) {
            (Expr::Literal(..), Expr::Literal(..)) => Vec::new(),
            (expr, Expr::Literal(value, _)) => vec![(narrower(expr, schema), *op, value.clone())],
            (Expr::Literal(value, _), expr) => {
                op.swap().map(|op| (narrower(expr, schema), op, value.clone())).into_iter().collect()
            }
            _ => Vec::new(),
        },
        Expr::Between(between) if !between.negated => {
            let literal = |expr: &Expr| match expr {
                Expr::Literal(value, _) => Some(value.clone()),
                _ => None,
            };
            [(Operator::GtEq, literal(&between.low)), (Operator::LtEq, literal(&between.high))]
                .into_iter()
                .filter_map(|(op, value)| Some((narrower(&between.expr, schema), op, value?)))
                .collect()
        }
        _ => Vec::new(),
    }
}

/// The column that is NULL in no row for which a condition holds.
fn never_null<'a>(part: &'a Expr, schema: &DFSchema) -> Option<&'a Column> {
    let column = |expr: &'_ Expr| -> bool { narrower(expr, schema).try_as_col().is_some() };
    match part {
        Expr::IsNotNull(inner) => inner.try_as_col(),
        Expr::Between(between) if !between.negated => narrower(&between.expr, schema).try_as_col(),
        Expr::InList(list) if !list.negated => narrower(&list.expr, schema).try_as_col(),
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::Eq | Operator::NotEq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq,
            right,
        }) => {
            let side = if column(left) { left } else { right };
            narrower(side, schema).try_as_col()
        }
        _ => None,
    }
}

fn bound(expr: &Expr, op: Operator, value: &ScalarValue, schema: &DFSchema, private: &mut PrivateRelation) {
    let Some(at) = expr.try_as_col().and_then(|column| schema.index_of_column(column).ok()) else { return };
    let facts = &mut private.columns[at];
    let (Some(known), Ok(ScalarValue::Float64(Some(value)))) = (facts.interval, value.cast_to(&DataType::Float64))
    else {
        return;
    };
    if !value.is_finite() {
        return;
    }
    let side = match op {
        Operator::Lt | Operator::LtEq => Interval::new(f64::NEG_INFINITY, value),
        Operator::Gt | Operator::GtEq => Interval::new(value, f64::INFINITY),
        Operator::Eq => Interval::point(value),
        _ => return,
    };
    let within = known.within(side);
    facts.interval = Some(within);
    if facts.numbers_rows
        && let Some((_, most)) = within.finite()
    {
        // Rows of one unit that are numbered from 1.
        let most = (most.floor().max(1.0)) as u64;
        private.rows = Some(private.rows.map_or(most, |rows| rows.min(most)));
    }
}

/// An integer, or a date as its day; `None` for other types.
fn whole(value: &ScalarValue, kind: &DataType) -> Option<i64> {
    if !(kind.is_integer() || *kind == DataType::Date32) {
        return None;
    }
    // A fraction between two integers is none, and a time of day is no day.
    let exact = value.cast_to(kind).ok()?;
    if exact.cast_to(&value.data_type()).ok()? != *value {
        return None;
    }
    let value = match exact {
        ScalarValue::Date32(days) => i64::from(days?),
        other => match other.cast_to(&DataType::Int64).ok()? {
            ScalarValue::Int64(value) => value?,
            _ => return None,
        },
    };
    // Far from the ends, so that a step past it is a number too.
    (-(1 << 60)..1 << 60).contains(&value).then_some(value)
}

fn of_whole(value: i64, kind: &DataType) -> Option<ScalarValue> {
    match kind {
        DataType::Date32 => Some(ScalarValue::Date32(Some(i32::try_from(value).ok()?))),
        kind => ScalarValue::Int64(Some(value)).cast_to(kind).ok().filter(|value| !value.is_null()),
    }
}

/// A float key with one form of zero and one of NaN, as groups have them.
fn one_form(value: ScalarValue) -> ScalarValue {
    match value {
        ScalarValue::Float64(Some(value)) if value.is_nan() => ScalarValue::Float64(Some(f64::NAN)),
        ScalarValue::Float64(Some(value)) => ScalarValue::Float64(Some(value + 0.0)),
        ScalarValue::Float32(Some(value)) if value.is_nan() => ScalarValue::Float32(Some(f32::NAN)),
        ScalarValue::Float32(Some(value)) => ScalarValue::Float32(Some(value + 0.0)),
        other => other,
    }
}

/// A column whose values are those of a column of a public relation: which relation, and which column.
fn of_table(facts: &Facts) -> Option<(usize, usize)> {
    match facts.keys {
        Some(Keys::Table { table, column, or_null: false }) => Some((table, column)),
        _ => None,
    }
}

impl Analysis<'_> {
    /// Registers one instance of a public relation, of which columns' values may be group keys. Two instances of one table
    /// are two: their rows are paired in every way.
    pub(super) fn table(&mut self, plan: LogicalPlan) -> usize {
        self.tables.push(plan);
        self.tables.len() - 1
    }

    /// Conditions on the columns of one public relation leave fewer of its rows: of these the group keys are then.
    pub(super) fn narrow_tables(
        &mut self,
        predicate: &Expr,
        schema: &DFSchema,
        private: &mut PrivateRelation,
    ) -> Result<(), Refusal> {
        let mut conditions: BTreeMap<usize, Vec<Expr>> = BTreeMap::new();
        for part in split_conjunction(predicate) {
            let mut table = None;
            let mut of_one = true;
            let moved = part.clone().transform_up(|inner| {
                let Expr::Column(column) = &inner else {
                    of_one &= !matches!(inner, Expr::Placeholder(_));
                    return Ok(Transformed::no(inner));
                };
                let place = of_table(&private.columns[schema.index_of_column(column)?]);
                let Some((of, at)) = place.filter(|(of, _)| table.is_none_or(|table| table == *of)) else {
                    of_one = false;
                    return Ok(Transformed::no(inner));
                };
                table = Some(of);
                let moved = Column::from(self.tables[of].schema().qualified_field(at));
                Ok(Transformed::yes(Expr::Column(moved)))
            })?;
            if let Some(table) = table.filter(|_| of_one) {
                conditions.entry(table).or_default().push(moved.data);
            }
        }
        for (table, parts) in conditions {
            let Some(condition) = conjunction(parts) else { continue };
            let filtered = LogicalPlan::Filter(Filter::try_new(condition, Arc::new(self.tables[table].clone()))?);
            let filtered = self.table(filtered);
            moved_keys(private, table, filtered, 0);
        }
        Ok(())
    }

    /// An inner join of a public relation, `known`, to one that is joined already, on the pairs of their columns: the group
    /// keys are those of the two together. The columns of `known` are then those from the place that is returned.
    pub(super) fn joined_tables(
        &mut self,
        private: &mut PrivateRelation,
        table: usize,
        known: usize,
        on: &[(usize, usize)],
    ) -> Option<(usize, usize)> {
        let (left, right) = (self.tables[table].clone(), self.tables[known].clone());
        let column = |plan: &LogicalPlan, at: usize| Expr::Column(Column::from(plan.schema().qualified_field(at)));
        let on = on.iter().map(|(a, b)| (column(&left, *a), column(&right, *b))).collect();
        let width = left.schema().fields().len();
        let constraint = datafusion::common::JoinConstraint::On;
        let equality = datafusion::common::NullEquality::NullEqualsNothing;
        let (left, right) = (Arc::new(left), Arc::new(right));
        // Two relations with columns of one name stay apart: their keys are then all combinations.
        let join = Join::try_new(left, right, on, None, JoinType::Inner, constraint, equality, false).ok()?;
        let joined = self.table(LogicalPlan::Join(join));
        moved_keys(private, table, joined, 0);
        Some((joined, width))
    }

    /// Bounds of numbers of public relations, which everyone may read: the least and the largest that there are.
    pub(super) fn bound_public(
        &mut self,
        exprs: &[Expr],
        schema: &DFSchema,
        private: &mut PrivateRelation,
    ) -> Result<(), Refusal> {
        let columns = exprs.iter().flat_map(Expr::column_refs).filter_map(|column| schema.index_of_column(column).ok());
        for at in columns.collect::<BTreeSet<_>>() {
            let facts = &private.columns[at];
            let unbounded = facts.interval.is_some_and(|interval| interval.finite().is_none());
            let Some((table, column)) = table_column(facts).filter(|_| unbounded && facts.sources.is_empty()) else {
                continue;
            };
            let plan = self.tables[table].clone();
            let number = datafusion::logical_expr::cast(
                Expr::Column(Column::from(plan.schema().qualified_field(column))),
                DataType::Float64,
            );
            let wanted = LogicalPlanBuilder::from(plan)
                .aggregate(
                    Vec::<Expr>::new(),
                    [
                        datafusion::functions_aggregate::expr_fn::min(number.clone()),
                        datafusion::functions_aggregate::expr_fn::max(number),
                    ],
                )?
                .build()?;
            match self.public.rows(&wanted).map(|rows| rows.first().cloned()) {
                None => self.wanted.push(wanted),
                Some(Some(row)) => {
                    if let [ScalarValue::Float64(Some(lo)), ScalarValue::Float64(Some(hi))] = row[..] {
                        private.columns[at].interval = Some(Interval::new(lo, hi));
                    }
                }
                Some(None) => {}
            }
        }
        Ok(())
    }
}

/// The same, also where an outer join may have made the column NULL.
fn table_column(facts: &Facts) -> Option<(usize, usize)> {
    match facts.keys {
        Some(Keys::Table { table, column, .. }) => Some((table, column)),
        _ => None,
    }
}

/// Columns of relation `from` are columns of relation `to`, `by` places on.
fn moved_keys(private: &mut PrivateRelation, from: usize, to: usize, by: usize) {
    for facts in &mut private.columns {
        if let Some(Keys::Table { table, column, or_null: false }) = &mut facts.keys
            && *table == from
        {
            (*table, *column) = (to, *column + by);
        }
    }
    if private.preserved.remove(&from) {
        private.preserved.insert(to);
    }
}

/// Rows of key values, a vector a row.
type Tuples = Vec<Vec<ScalarValue>>;

impl Analysis<'_> {
    /// Every combination of values that the keys may have, the last key changing fastest; `None` where some key's values
    /// are private. Columns of one public table come in the combinations that it has.
    pub(super) fn cells(&mut self, keys: &[Total], fields: &[FieldRef]) -> Result<Option<Tuples>, Refusal> {
        let mut parts: Vec<(Vec<usize>, Tuples)> = Vec::new();
        let mut of_table: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let mut order: Vec<Result<usize, usize>> = Vec::new();
        for (at, key) in keys.iter().enumerate() {
            match &key.facts.keys {
                None => return Ok(None),
                Some(Keys::Listed(listed)) => {
                    let mut seen = HashSet::new();
                    let mut values = Vec::with_capacity(listed.len());
                    for value in listed.iter() {
                        let value = one_form(value.cast_to(fields[at].data_type())?);
                        if seen.insert(value.clone()) {
                            values.push(vec![value]);
                        }
                    }
                    order.push(Ok(parts.len()));
                    parts.push((vec![at], values));
                }
                Some(Keys::Table { table, .. }) => {
                    let columns = of_table.entry(*table).or_default();
                    if columns.is_empty() {
                        order.push(Err(*table));
                    }
                    columns.push(at);
                }
            }
        }
        let mut product: Tuples = vec![Vec::new()];
        let mut places: Vec<usize> = Vec::new();
        let mut listed_only = true;
        for part in order {
            let (at, values) = match part {
                Ok(part) => (parts[part].0.clone(), std::mem::take(&mut parts[part].1)),
                Err(table) => {
                    listed_only = false;
                    let at = of_table.remove(&table).unwrap_or_default();
                    let Some(values) = self.table_cells(table, &at, keys, fields)? else { return Ok(None) };
                    (at, values)
                }
            };
            if product.len().checked_mul(values.len()).is_none_or(|cells| cells > self.max_cells) {
                if listed_only {
                    return Err(Refusal::too_large(
                        format!("the public group keys span more than {} groups", self.max_cells),
                        "group by fewer columns",
                    ));
                }
                // A large public table: its keys are selected like private ones.
                return Ok(None);
            }
            if values.is_empty() && listed_only {
                return Err(Refusal::not_private("a group key has no possible value", "leave it out"));
            }
            product = product
                .iter()
                .flat_map(|cell| values.iter().map(move |value| cell.iter().chain(value).cloned().collect()))
                .collect();
            places.extend(at);
        }
        // Back into the order of the keys.
        let mut inverse = vec![0; places.len()];
        for (position, place) in places.iter().enumerate() {
            inverse[*place] = position;
        }
        Ok(Some(product.iter().map(|cell| inverse.iter().map(|at| cell[*at].clone()).collect()).collect()))
    }

    fn table_cells(
        &mut self,
        table: usize,
        at: &[usize],
        keys: &[Total],
        fields: &[FieldRef],
    ) -> Result<Option<Tuples>, Refusal> {
        let plan = self.tables[table].clone();
        let mut columns = Vec::with_capacity(at.len());
        let mut or_null = false;
        for (position, at) in at.iter().enumerate() {
            let Some(Keys::Table { column, or_null: null, .. }) = &keys[*at].facts.keys else { return Ok(None) };
            or_null |= null;
            let column = datafusion::common::Column::from(plan.schema().qualified_field(*column));
            let to = fields[*at].data_type();
            let name = format!("key{position}");
            let column = Expr::Column(column);
            columns.push(match column.get_type(plan.schema())? {
                kind if kind == *to => column.alias(name),
                _ => datafusion::logical_expr::try_cast(column, to.clone()).alias(name),
            });
        }
        let wanted = LogicalPlanBuilder::from(plan)
            .project(columns)?
            .distinct()?
            .sort((0..at.len()).map(|position| datafusion::prelude::col(format!("key{position}")).sort(true, true)))?
            .limit(0, Some(self.max_cells + 1))?
            .build()?;
        let Some(rows) = self.public.rows(&wanted) else {
            self.wanted.push(wanted);
            return Ok(None);
        };
        let mut seen = HashSet::new();
        let rows = rows.iter().map(|row| row.iter().cloned().map(one_form).collect::<Vec<_>>());
        let mut rows: Tuples = rows.filter(|row| seen.insert(row.clone())).collect();
        if rows.len() > self.max_cells {
            return Ok(None);
        }
        let nulls = |fields: &[FieldRef]| -> Result<Vec<ScalarValue>, Refusal> {
            at.iter().map(|at| Ok(ScalarValue::try_from(fields[*at].data_type())?)).collect()
        };
        let null = nulls(fields)?;
        if or_null && !rows.contains(&null) {
            rows.push(null);
        }
        Ok(Some(rows))
    }
}

impl PublicRows {
    /// No rows known yet.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds what a plan over public tables gave.
    pub fn insert(&mut self, plan: &LogicalPlan, rows: Vec<Vec<ScalarValue>>) {
        self.rows.insert(*super::known::digest(plan).as_bytes(), Arc::new(rows));
    }

    fn rows(&self, plan: &LogicalPlan) -> Option<&Arc<Vec<Vec<ScalarValue>>>> {
        self.rows.get(super::known::digest(plan).as_bytes())
    }
}
