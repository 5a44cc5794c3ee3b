//! Which values a group key may have, known without the data (DESIGN 4.2): then no threshold hides a group, or far fewer.
//!
//! ```text
//! policy's public_groups · a column of a public table · literals in WHERE · a range of integers or days in WHERE
//! CASE with literal branches · extract(month FROM d) · booleans
//! ```

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::{BinaryExpr, InList};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator};

use super::expression::Total;
use super::interval::Interval;
use super::refusal::Refusal;
use super::relation::{Keys, PrivateRelation};
use super::{Analysis, PublicRows};

/// The longest list that a range in WHERE makes of integers or days.
const MAX_RANGE: i64 = 1_000;

/// Learns from a condition that every row left meets: which values an expression still has, and within which bounds a
/// number lies.
pub(super) fn narrow(predicate: &Expr, schema: &DFSchema, private: &mut PrivateRelation) -> Result<(), Refusal> {
    let parts = split_conjunction(predicate);
    for part in &parts {
        if let Some((expr, values)) = listed(part) {
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
    // Integers and days that two comparisons hold in a short range; numbers that comparisons bound.
    let mut ranges: Vec<(&Expr, Option<i64>, Option<i64>)> = Vec::new();
    for part in &parts {
        for (expr, op, value) in comparisons(part) {
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

/// `x = 1`, `x IN (1, 2)`, `x = 1 OR x = 2`: an expression and the values that it has.
fn listed(part: &Expr) -> Option<(&Expr, Vec<ScalarValue>)> {
    match part {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => match (left.as_ref(), right.as_ref()) {
            (Expr::Literal(..), Expr::Literal(..)) => None,
            (expr, Expr::Literal(value, _)) | (Expr::Literal(value, _), expr) => {
                Some((narrower(expr), vec![value.clone()]))
            }
            _ => None,
        },
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let ((a, mut values), (b, more)) = (listed(left)?, listed(right)?);
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
            Some((narrower(expr), values))
        }
        _ => None,
    }
}

/// The expression under the widening with which the engine compares it to a literal of a wider type.
fn narrower(expr: &Expr) -> &Expr {
    match expr {
        Expr::Cast(cast) if matches!(cast.expr.as_ref(), Expr::Column(_) | Expr::ScalarFunction(_)) => &cast.expr,
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
    let kept = match facts.listed() {
        // What the owner lists, and the query asks for.
        Some(known) => known.iter().filter(|value| values.contains(value)).cloned().collect(),
        None => values,
    };
    facts.keys = Some(Keys::Listed(kept.into()));
}

/// `x >= 1`, `1 <= x`, `x BETWEEN 1 AND 2`: comparisons of an expression with a literal.
fn comparisons(part: &Expr) -> Vec<(&Expr, Operator, ScalarValue)> {
    match part {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match (left.as_ref(), right.as_ref()) {
            (Expr::Literal(..), Expr::Literal(..)) => Vec::new(),
            (expr, Expr::Literal(value, _)) => vec![(narrower(expr), *op, value.clone())],
            (Expr::Literal(value, _), expr) => {
                op.swap().map(|op| (narrower(expr), op, value.clone())).into_iter().collect()
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
                .filter_map(|(op, value)| Some((narrower(&between.expr), op, value?)))
                .collect()
        }
        _ => Vec::new(),
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
    facts.interval = Some(known.within(side));
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
                        let value = value.cast_to(fields[at].data_type())?;
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
        let mut rows = rows.as_ref().clone();
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
