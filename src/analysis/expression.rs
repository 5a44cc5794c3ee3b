//! Expressions below a release: allowed by kind, rewritten to total ones, and described.
//!
//! A row on which an expression failed would show in the answer's status, so whatever could fail gives NULL instead
//! (DESIGN 4.4). What is not known here is refused by name.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::expr::{Between, BinaryExpr, Case, Cast, InList, Like, ScalarFunction, TryCast};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{ColumnarValue, Expr, ExprSchemable, Operator, lit};
use datafusion::physical_expr::create_physical_expr;

use crate::policy::Use;

use super::calendar::Calendar;
use super::functions;
use super::interval::Interval;
use super::known::is_scalar_value;
use super::refusal::{Refusal, shown};
use super::relation::{Facts, Keys};

/// How many columns' values one text may be made of.
const MAX_JOINED_TEXTS: u32 = 4;
/// A literal of so many bytes counts as one of them.
const LONG_LITERAL_BYTES: usize = 128;
/// The longest pattern of LIKE.
const MAX_PATTERN_BYTES: usize = 128;

/// The columns that expressions may name.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The rewritten plan's schema.
    pub schema: &'a DFSchema,
    /// By column of that schema.
    pub columns: &'a [Facts],
    /// Expressions that conditions have narrowed to a list of values.
    pub narrowed: &'a [(Expr, Arc<[ScalarValue]>)],
}

/// An expression that cannot fail on any row, with what is known of its values.
#[derive(Debug, Clone)]
pub struct Total {
    /// The rewritten expression.
    pub expr: Expr,
    /// What is known of it.
    pub facts: Facts,
}

impl Scope<'_> {
    /// Rewrites `expr` to a total one and describes it.
    ///
    /// # Errors
    /// When a kind of expression or a function is not allowed below a release.
    pub fn total(&self, expr: &Expr) -> Result<Total, Refusal> {
        let mut total = self.rewritten(expr)?;
        if let Some((_, values)) = self.narrowed.iter().rev().find(|(known, _)| *known == total.expr) {
            total.facts.keys = Some(Keys::Listed(Arc::clone(values)));
        }
        Ok(total)
    }

    fn rewritten(&self, expr: &Expr) -> Result<Total, Refusal> {
        match expr {
            Expr::Alias(alias) => {
                let inner = self.total(&alias.expr)?;
                Ok(Total { expr: inner.expr.alias_qualified(alias.relation.clone(), &alias.name), ..inner })
            }
            Expr::Column(column) => {
                let index = self.schema.index_of_column(column)?;
                if has_small_dictionary(self.schema.field(index).data_type()) {
                    // Where batches are put together, one value more than its keys can number is an error.
                    return Err(Refusal::not_private(
                        format!(
                            "`{}` is stored with a dictionary of few keys, which one row may overflow",
                            shown(expr)
                        ),
                        "ask its owner to store it as plain text, or with 32-bit keys",
                    ));
                }
                let facts = self.columns.get(index).cloned().unwrap_or_default();
                Ok(Total { expr: expr.clone(), facts })
            }
            Expr::Literal(value, _) => {
                // A literal's own metadata could be anything; only the value counts.
                let keys = Some(Keys::Listed(vec![value.clone()].into()));
                // A long literal is as long as a column's value may be.
                let texts = value.try_as_str().flatten().map_or(0, |text| text.len() / LONG_LITERAL_BYTES);
                let texts = u32::try_from(texts).unwrap_or(u32::MAX);
                let facts = Facts { interval: point(value), keys, per_unit: true, texts, ..Facts::default() };
                Ok(Total { expr: Expr::Literal(value.clone(), None), facts })
            }
            Expr::BinaryExpr(binary) => self.binary(binary),
            Expr::Like(like) => self.like(like),
            Expr::Not(inner) => self.truth(inner, |inner| Expr::Not(Box::new(inner))),
            Expr::IsNotNull(inner) => self.truth(inner, |inner| Expr::IsNotNull(Box::new(inner))),
            Expr::IsNull(inner) => self.truth(inner, |inner| Expr::IsNull(Box::new(inner))),
            Expr::IsTrue(inner) => self.truth(inner, |inner| Expr::IsTrue(Box::new(inner))),
            Expr::IsFalse(inner) => self.truth(inner, |inner| Expr::IsFalse(Box::new(inner))),
            Expr::IsUnknown(inner) => self.truth(inner, |inner| Expr::IsUnknown(Box::new(inner))),
            Expr::IsNotTrue(inner) => self.truth(inner, |inner| Expr::IsNotTrue(Box::new(inner))),
            Expr::IsNotFalse(inner) => self.truth(inner, |inner| Expr::IsNotFalse(Box::new(inner))),
            Expr::IsNotUnknown(inner) => self.truth(inner, |inner| Expr::IsNotUnknown(Box::new(inner))),
            Expr::Negative(inner) => self.negative(inner),
            Expr::Between(between) => self.between(between),
            Expr::InList(list) => self.in_list(list),
            Expr::Case(case) => self.case(case),
            Expr::Cast(Cast { expr: inner, field }) | Expr::TryCast(TryCast { expr: inner, field }) => {
                self.cast(inner, field.data_type())
            }
            Expr::ScalarFunction(call) => self.call(call),
            // The value of a subquery that is drawn before this expression runs.
            Expr::Placeholder(value) if is_scalar_value(value) => {
                let number = expr.get_type(self.schema)?.is_numeric();
                let facts = Facts { per_unit: true, ..Facts::default() };
                Ok(Total { expr: expr.clone(), facts: facts.with_interval(number.then_some(Interval::UNBOUNDED)) })
            }
            Expr::Exists(_)
            | Expr::InSubquery(_)
            | Expr::SetComparison(_)
            | Expr::ScalarSubquery(_)
            | Expr::OuterReferenceColumn(..) => Err(Refusal::not_private(
                format!("the subquery in `{}` cannot be turned into a join over private rows", shown(expr)),
                "join instead: on the unit for private tables, on an equality for public ones",
            )),
            Expr::SimilarTo(_) => Err(unknown("SIMILAR TO", "use LIKE with a literal pattern")),
            Expr::AggregateFunction(_) => Err(unknown("an aggregate here", "aggregate once, at the top of the query")),
            Expr::WindowFunction(_) => {
                Err(unknown("a window function over private rows", "aggregate first; windows work on the result"))
            }
            #[expect(deprecated, reason = "named so that no kind of expression is let through unseen")]
            Expr::Wildcard { .. } => Err(unknown("`*` here", "name the columns")),
            Expr::ScalarVariable(..) | Expr::Placeholder(_) => {
                Err(unknown("a variable or parameter", "write the value itself"))
            }
            Expr::GroupingSet(_) => Err(unknown("GROUPING SETS, ROLLUP or CUBE", "ask one query for each grouping")),
            Expr::Unnest(_) | Expr::HigherOrderFunction(_) | Expr::Lambda(_) | Expr::LambdaVariable(_) => {
                Err(unknown("an expression over lists", "use columns of plain types"))
            }
        }
    }

    /// The same for an expression that is put to one use, which the policy of every column in it must allow.
    ///
    /// # Errors
    /// As [`Self::total`], and when a policy forbids the use.
    pub fn used(&self, expr: &Expr, purpose: Use) -> Result<Total, Refusal> {
        let total = self.total(expr)?;
        allow(&total.facts, purpose, expr)?;
        Ok(total)
    }

    fn truth(&self, inner: &Expr, wrap: impl Fn(Expr) -> Expr) -> Result<Total, Refusal> {
        let inner = self.total(inner)?;
        self.truth_of(wrap(inner.expr), &[inner.facts])
    }

    /// A truth value: its keys are known without the data.
    fn truth_of(&self, expr: Expr, parts: &[Facts]) -> Result<Total, Refusal> {
        let mut keys = vec![ScalarValue::Boolean(Some(false)), ScalarValue::Boolean(Some(true))];
        if expr.nullable(self.schema)? {
            keys.push(ScalarValue::Boolean(None));
        }
        Ok(Total { expr, facts: Facts { keys: Some(Keys::Listed(keys.into())), ..Facts::computed_from(parts) } })
    }

    fn binary(&self, binary: &BinaryExpr) -> Result<Total, Refusal> {
        let left = self.total(&binary.left)?;
        let right = self.total(&binary.right)?;
        let rebuilt = |left: Expr, right: Expr| {
            Expr::BinaryExpr(BinaryExpr { left: Box::new(left), op: binary.op, right: Box::new(right) })
        };
        match binary.op {
            Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom
            | Operator::And
            | Operator::Or => self.truth_of(rebuilt(left.expr, right.expr), &[left.facts, right.facts]),
            Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Divide | Operator::Modulo => {
                self.arithmetic(binary, left, right, rebuilt)
            }
            Operator::StringConcat => {
                // Text that is joined to itself, again and again, would outgrow memory, and only where a row has some.
                let facts = Facts::computed_from([&left.facts, &right.facts]);
                if facts.texts > MAX_JOINED_TEXTS {
                    return Err(unknown(
                        &format!("`||` of more than {MAX_JOINED_TEXTS} columns"),
                        "group by the columns, and join their texts in the answer",
                    ));
                }
                Ok(Total { expr: rebuilt(left.expr, right.expr), facts })
            }
            other => Err(unknown(&format!("the operator `{other}`"), "use comparisons, arithmetic, LIKE and CASE")),
        }
    }

    fn arithmetic(
        &self,
        binary: &BinaryExpr,
        left: Total,
        right: Total,
        rebuilt: impl Fn(Expr, Expr) -> Expr,
    ) -> Result<Total, Refusal> {
        let kind = |expr: &Expr| expr.get_type(self.schema);
        let (left_type, right_type) = (kind(&left.expr)?, kind(&right.expr)?);
        let written = Expr::BinaryExpr(binary.clone());
        if let (Expr::Literal(..), Expr::Literal(..)) = (&left.expr, &right.expr) {
            // Done now, where a failure depends on the text alone.
            let value = folded(&rebuilt(left.expr, right.expr)).ok_or_else(|| {
                Refusal::not_private(format!("`{}` has no value", shown(&written)), "write the value itself")
            })?;
            return self.total(&Expr::Literal(value, None));
        }
        if !left_type.is_numeric() || !right_type.is_numeric() {
            return Err(Refusal::not_private(
                format!("`{}`: arithmetic on {left_type} and {right_type} may fail on a row", shown(&written)),
                "compare dates and times with literals, or use extract(... FROM ...)",
            ));
        }
        let division = matches!(binary.op, Operator::Divide | Operator::Modulo);
        let floats = left_type.is_floating() && right_type.is_floating();
        let planned = Expr::get_type(&rebuilt(left.expr.clone(), right.expr.clone()), self.schema)?;
        // What may overflow on a row, or divide by 0, is computed in floats, and becomes NULL where it has no value.
        let overflows = !floats
            && if division {
                !(divisor_is_safe(&right.expr) && left_type.is_integer() && right_type.is_integer())
            } else {
                !decimals_fit(binary.op, &left_type, &right_type)
            };
        let interval = match (left.facts.interval, right.facts.interval) {
            (Some(x), Some(y)) => Some(match binary.op {
                Operator::Plus => x.plus(y),
                Operator::Minus => x.minus(y),
                Operator::Multiply => x.times(y),
                Operator::Divide => x.divided_by(y),
                _ => Interval::UNBOUNDED,
            }),
            _ => Some(Interval::UNBOUNDED),
        };
        let facts = Facts::computed_from([&left.facts, &right.facts]).with_interval(interval);
        let expr = if overflows {
            let float = |expr: Expr| Expr::Cast(Cast::new(Box::new(expr), DataType::Float64));
            Expr::TryCast(TryCast::new(Box::new(rebuilt(float(left.expr), float(right.expr))), planned))
        } else {
            rebuilt(left.expr, right.expr)
        };
        Ok(Total { expr, facts })
    }

    fn negative(&self, inner: &Expr) -> Result<Total, Refusal> {
        let total = self.total(inner)?;
        if !total.expr.get_type(self.schema)?.is_floating() {
            // -x of the least integer fails; 0 - x does not.
            let zero = ScalarValue::new_zero(&total.expr.get_type(self.schema)?)?;
            return self.total(&Expr::BinaryExpr(BinaryExpr {
                left: Box::new(lit(zero)),
                op: Operator::Minus,
                right: Box::new(inner.clone()),
            }));
        }
        let facts = Facts::computed_from([&total.facts]).with_interval(total.facts.interval.map(Interval::negated));
        Ok(Total { expr: Expr::Negative(Box::new(total.expr)), facts })
    }

    fn like(&self, like: &Like) -> Result<Total, Refusal> {
        let value = self.total(&like.expr)?;
        // A pattern may become a regular expression, which past some size cannot be built: a failure that would show
        // only where a row is left to match.
        let pattern = self.total(&like.pattern)?.expr;
        let short = matches!(&pattern, Expr::Literal(value, _)
            if value.try_as_str().flatten().is_some_and(|pattern| pattern.len() <= MAX_PATTERN_BYTES));
        if !short {
            return Err(unknown(
                &format!("LIKE with a pattern that is not a literal of at most {MAX_PATTERN_BYTES} bytes"),
                "write the pattern itself, and keep it short",
            ));
        }
        let expr = Expr::Like(Like { expr: Box::new(value.expr), pattern: Box::new(pattern), ..like.clone() });
        self.truth_of(expr, &[value.facts])
    }

    fn between(&self, between: &Between) -> Result<Total, Refusal> {
        let (value, low, high) = (self.total(&between.expr)?, self.total(&between.low)?, self.total(&between.high)?);
        let expr = Expr::Between(Between {
            expr: Box::new(value.expr),
            negated: between.negated,
            low: Box::new(low.expr),
            high: Box::new(high.expr),
        });
        self.truth_of(expr, &[value.facts, low.facts, high.facts])
    }

    fn in_list(&self, list: &InList) -> Result<Total, Refusal> {
        let value = self.total(&list.expr)?;
        let mut parts = vec![value.facts];
        let mut items = Vec::with_capacity(list.list.len());
        for item in &list.list {
            let item = self.total(item)?;
            parts.push(item.facts);
            items.push(item.expr);
        }
        let expr = Expr::InList(InList { expr: Box::new(value.expr), list: items, negated: list.negated });
        self.truth_of(expr, &parts)
    }

    fn case(&self, case: &Case) -> Result<Total, Refusal> {
        let mut parts = Vec::new();
        let mut values = Vec::new();
        let mut total = |expr: &Expr, is_value: bool| -> Result<Box<Expr>, Refusal> {
            let total = self.total(expr)?;
            if is_value {
                values.push(total.facts.clone());
            }
            parts.push(total.facts);
            Ok(Box::new(total.expr))
        };
        let base = case.expr.as_deref().map(|expr| total(expr, false)).transpose()?;
        let mut branches = Vec::with_capacity(case.when_then_expr.len());
        for (when, then) in &case.when_then_expr {
            branches.push((total(when, false)?, total(then, true)?));
        }
        let otherwise = case.else_expr.as_deref().map(|expr| total(expr, true)).transpose()?;
        let numbers: Option<Vec<Interval>> = values
            .iter()
            // A branch that is the literal NULL adds no number.
            .filter(|facts| !facts.listed().is_some_and(|keys| keys.iter().all(ScalarValue::is_null)))
            .map(|facts| facts.interval)
            .collect();
        let interval = numbers.and_then(|numbers| numbers.into_iter().reduce(Interval::hull));
        let mut facts = Facts::computed_from(&parts).with_interval(interval);
        facts.keys = literal_branches(&values, otherwise.is_none()).map(Keys::Listed);
        Ok(Total { expr: Expr::Case(Case { expr: base, when_then_expr: branches, else_expr: otherwise }), facts })
    }

    fn cast(&self, inner: &Expr, to: &DataType) -> Result<Total, Refusal> {
        let total = self.total(inner)?;
        let from = total.expr.get_type(self.schema)?;
        if from == *to {
            return Ok(total);
        }
        if let Expr::Literal(value, _) = &total.expr {
            // Done now, where a failure depends on the text alone.
            let value = value.cast_to(to).map_err(|_| {
                Refusal::not_private(
                    format!("`{}` is no {to}", shown(inner)),
                    "write the literal in the form of that type",
                )
            })?;
            return self.total(&Expr::Literal(value, None));
        }
        if let (DataType::Timestamp(_, None), DataType::Date32) = (&from, to) {
            // A moment out of the calendar has no date: cut to its day first, which gives NULL there.
            let day = datafusion::functions::datetime::date_trunc();
            let types = [DataType::Utf8, from.clone()];
            let cut = functions::total(&day, vec![lit("day"), total.expr], &types, self.schema).map_err(|why| {
                Refusal::not_private(format!("a cast from {from} to {to} {}", why.reason()), why.hint())
            })?;
            let expr = Expr::TryCast(TryCast::new(Box::new(cut), to.clone()));
            let calendar = total.facts.calendar.and_then(|calendar| calendar.cast(to));
            return Ok(Total { expr, facts: Facts { calendar, ..Facts::computed_from([&total.facts]) } });
        }
        if !is_lossless(&from, to) && !tries_to_null(&from, to) {
            return Err(unknown(
                &format!("a cast from {from} to {to}, which may fail on a row,"),
                "cast numbers to numbers, and compare dates with literals such as DATE '2025-01-31'",
            ));
        }
        let number = to.is_numeric() && from.is_numeric();
        let interval = if number { total.facts.interval } else { to.is_numeric().then_some(Interval::UNBOUNDED) };
        let mut facts = Facts::computed_from([&total.facts]).with_interval(interval);
        facts.calendar = total.facts.calendar.and_then(|calendar| calendar.cast(to));
        // A key stays the same key under a cast that loses nothing.
        if is_lossless(&from, to) {
            facts.keys = match &total.facts.keys {
                Some(Keys::Listed(keys)) => keys
                    .iter()
                    .map(|key| key.cast_to(to).ok())
                    .collect::<Option<Vec<_>>>()
                    .map(|keys| Keys::Listed(keys.into())),
                table => table.clone(),
            };
        }
        let expr = if is_lossless(&from, to) {
            Expr::Cast(Cast::new(Box::new(total.expr), to.clone()))
        } else {
            Expr::TryCast(TryCast::new(Box::new(total.expr), to.clone()))
        };
        Ok(Total { expr, facts })
    }

    fn call(&self, call: &ScalarFunction) -> Result<Total, Refusal> {
        let name = call.func.name();
        let args = call.args.iter().map(|arg| self.total(arg)).collect::<Result<Vec<_>, _>>()?;
        let types = args.iter().map(|arg| arg.expr.get_type(self.schema)).collect::<Result<Vec<_>, _>>()?;
        let exprs: Vec<Expr> = args.iter().map(|arg| arg.expr.clone()).collect();
        let intervals: Vec<_> = args.iter().map(|arg| arg.facts.interval).collect();
        let interval = functions::interval(name, &exprs, &intervals);
        let parts = functions::calendar(name, &exprs);
        let expr = functions::total(&call.func, exprs, &types, self.schema).map_err(|why| {
            Refusal::not_private(format!("`{name}` {} (over private rows)", why.reason()), why.hint())
        })?;
        let kind = expr.get_type(self.schema)?;
        let interval = interval.or(kind.is_numeric().then_some(Interval::UNBOUNDED));
        let mut facts = Facts::computed_from(args.iter().map(|arg| &arg.facts)).with_interval(interval);
        if let [part, moment] = &args[..] {
            let said = moment.facts.calendar.zip(functions::part(&part.expr));
            facts.calendar = said.and_then(|(calendar, part)| calendar.called(name, part));
            // One value in an epoch is one value of a unit in an epoch.
            facts.per_unit |= facts.calendar.is_some_and(Calendar::is_constant);
        }
        if let Some(parts) = parts {
            // A part of a date that has a range by the calendar, as in `extract(month FROM d)`.
            let part = |part| ScalarValue::Int64(Some(part)).cast_to(&kind);
            let mut keys = parts.map(part).collect::<Result<Vec<_>, _>>()?;
            let has_value = args.get(1).is_some_and(|moment| moment.facts.not_null);
            if expr.nullable(self.schema)? && !has_value {
                keys.push(ScalarValue::try_from(&kind)?);
            }
            facts.keys = Some(Keys::Listed(keys.into()));
        }
        Ok(Total { expr, facts })
    }
}

/// Refuses a use that the policy of some column in the expression does not allow.
pub fn allow(facts: &Facts, purpose: Use, expr: &Expr) -> Result<(), Refusal> {
    match facts.sources.iter().find(|(_, uses)| !uses.allows(purpose)) {
        None => Ok(()),
        Some((column, uses)) if uses.is_none() => Err(Refusal::not_allowed(
            format!("`{}` reads {column}, which its owner does not let anyone read", shown(expr)),
            "leave the column out",
        )),
        Some((column, uses)) => Err(Refusal::not_allowed(
            format!("`{}` uses {column} for {}, which its owner does not allow", shown(expr), spoken(purpose)),
            format!("it may be used for: {}", uses.iter().map(spoken).collect::<Vec<_>>().join(", ")),
        )),
    }
}

const fn spoken(purpose: Use) -> &'static str {
    match purpose {
        Use::Aggregate => "an aggregate",
        Use::Group => "a group key",
        Use::Filter => "a condition",
    }
}

fn unknown(what: &str, hint: &str) -> Refusal {
    Refusal::not_private(format!("{what} is not answered over private rows"), hint)
}

fn point(value: &ScalarValue) -> Option<Interval> {
    if !value.data_type().is_numeric() {
        return None;
    }
    match value.cast_to(&DataType::Float64) {
        Ok(ScalarValue::Float64(Some(number))) if number.is_finite() => Some(Interval::point(number)),
        _ => Some(Interval::UNBOUNDED),
    }
}

/// The keys of a CASE whose branches are all literals; without ELSE, NULL is one of them.
fn literal_branches(values: &[Facts], without_else: bool) -> Option<std::sync::Arc<[ScalarValue]>> {
    let mut keys: Vec<ScalarValue> = Vec::new();
    for facts in values {
        for key in facts.listed()?.iter() {
            if !keys.contains(key) {
                keys.push(key.clone());
            }
        }
    }
    if without_else {
        let null = keys.first()?.data_type();
        let null = ScalarValue::try_from(&null).ok()?;
        if !keys.contains(&null) {
            keys.push(null);
        }
    }
    Some(keys.into())
}

/// The value of an expression of literals; `None` where it has none.
pub(super) fn folded(expr: &Expr) -> Option<ScalarValue> {
    let schema = DFSchema::empty();
    let physical =
        create_physical_expr(expr, &schema, &ExecutionProps::new(), &PhysicalPlanningContext::default()).ok()?;
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let row = RecordBatch::try_new_with_options(Arc::clone(schema.inner()), Vec::new(), &options).ok()?;
    match physical.evaluate(&row).ok()? {
        ColumnarValue::Scalar(value) => Some(value),
        ColumnarValue::Array(array) => ScalarValue::try_from_array(&array, 0).ok(),
    }
}

/// A literal that neither is 0 nor makes the least integer overflow. Casts of literals are folded before this is asked,
/// so that the value that is judged is the value that runs.
fn divisor_is_safe(divisor: &Expr) -> bool {
    let Expr::Literal(value, _) = divisor else { return false };
    matches!(value.cast_to(&DataType::Float64), Ok(ScalarValue::Float64(Some(number)))
        if number.is_finite() && !(-1.0..=0.0).contains(&number))
}

/// Whether a decimal result has all the digits that it may need. Integers wrap, which fails on no row.
fn decimals_fit(op: Operator, left: &DataType, right: &DataType) -> bool {
    let parts = |kind: &DataType| match kind {
        DataType::Decimal128(p, s) => Some((i32::from(*p), i32::from(*s))),
        _ => None,
    };
    let (Some((p1, s1)), Some((p2, s2))) = (parts(left), parts(right)) else {
        // Decimals of other widths have fewer digits to spare, or are met by integers.
        return !left.is_decimal() && !right.is_decimal();
    };
    match op {
        Operator::Plus | Operator::Minus => (p1 - s1).max(p2 - s2) + s1.max(s2) < 38,
        // A product has at most as many digits as both together, and 38 nines fit.
        Operator::Multiply => p1 + p2 <= 38,
        _ => false,
    }
}

/// A cast that gives NULL for every value that it cannot keep: what arrow's safe casts between these kinds do. Casts
/// of dates to text fail on dates out of the calendar, and casts of integers make such dates, so neither is here.
fn tries_to_null(from: &DataType, to: &DataType) -> bool {
    let plain = |kind: &DataType| kind.is_integer() || matches!(kind, DataType::Float32 | DataType::Float64);
    let number = |kind: &DataType| plain(kind) || matches!(kind, DataType::Decimal128(..));
    let text = |kind: &DataType| matches!(decoded(kind), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let truth = |kind: &DataType| *kind == DataType::Boolean;
    (number(from) && number(to))
        || (text(from) && plain(to))
        || ((plain(from) || truth(from)) && text(to))
        || (truth(from) && plain(to))
        || (plain(from) && truth(to))
        || matches!((from, to), (DataType::Date32, DataType::Timestamp(_, None)))
        || matches!((from, to), (DataType::Timestamp(_, None), DataType::Timestamp(_, None)))
}

/// A dictionary whose keys have 8 or 16 bits; or runs, whose ends may have as few.
pub(super) fn has_small_dictionary(kind: &DataType) -> bool {
    match kind {
        DataType::Dictionary(key, _) => {
            matches!(**key, DataType::Int8 | DataType::UInt8 | DataType::Int16 | DataType::UInt16)
        }
        DataType::RunEndEncoded(..) => true,
        _ => false,
    }
}

/// The type of the strings of a dictionary whose keys cannot run out within a batch, as a file may hand out any column; any
/// other type itself.
pub(super) fn decoded(kind: &DataType) -> &DataType {
    match kind {
        DataType::Dictionary(_, values) if !has_small_dictionary(kind) => match values.as_ref() {
            text @ (DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) => text,
            // What a function of texts makes of a dictionary of texts: their lengths, say.
            whole if whole.is_integer() => whole,
            _ => kind,
        },
        _ => kind,
    }
}

/// A cast that keeps every value and every difference between values, and fails on none.
fn is_lossless(from: &DataType, to: &DataType) -> bool {
    use DataType::{
        Date32, Decimal128, Float32, Float64, Int8, Int16, Int32, Int64, LargeUtf8, UInt8, UInt16, UInt32, Utf8,
        Utf8View,
    };
    match (decoded(from), decoded(to)) {
        (Int8, Int16 | Int32 | Int64 | Float32 | Float64)
        | (Int16, Int32 | Int64 | Float32 | Float64)
        | (Int32, Int64 | Float64)
        | (UInt8, UInt16 | UInt32 | Int16 | Int32 | Int64 | Float32 | Float64)
        | (UInt16, UInt32 | Int32 | Int64 | Float32 | Float64)
        | (UInt32, Int64 | Float64)
        | (Float32, Float64)
        | (Utf8 | LargeUtf8 | Utf8View, Utf8 | LargeUtf8 | Utf8View)
        | (Date32, DataType::Date64)
        // Every integer has a nearest float: nothing fails, and values near 2^53 merge as they do in any engine.
        | (Int64 | DataType::UInt64, Float64) => true,
        (Decimal128(p1, s1), Decimal128(p2, s2)) => {
            s2 >= s1 && i32::from(*p2) - i32::from(*s2) >= i32::from(*p1) - i32::from(*s1)
        }
        (Int8 | Int16 | Int32 | Int64, Decimal128(p, s)) => {
            let digits = match from {
                Int8 => 3,
                Int16 => 5,
                Int32 => 10,
                _ => 19,
            };
            i32::from(*p) - i32::from(*s) >= digits
        }
        _ => false,
    }
}
