//! What is computed for each unit by itself, below a release: `GROUP BY unit`, windows `PARTITION BY unit`, `DISTINCT`.
//!
//! A value that is computed of several rows must not depend on the order in which the engine meets them: that order
//! changes when another unit's rows are removed, and with it this unit's contribution would (DESIGN 4.1: deterministic,
//! exact). So float sums are made of integers here, and ties of a window's order are broken by all columns.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Column, DFSchema, DFSchemaRef, ScalarValue};
use datafusion::functions::math::expr_fn::{isnan, sqrt};
use datafusion::functions_aggregate::expr_fn::{count, sum};
use datafusion::logical_expr::expr::{AggregateFunction, Case, NullTreatment, Sort, WindowFunction};
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, ExprSchemable, LogicalPlan, Projection, Window, WindowFrameBound, WindowFrameUnits,
    WindowFunctionDefinition, cast, lit, try_cast,
};

use crate::policy::Use;

use super::Analysis;
use super::calendar::{Calendar, kept_apart};
use super::expression::{Scope, allow};
use super::interval::Interval;
use super::operators::{Walked, unaliased};
use super::refusal::{Refusal, shown};
use super::relation::{Facts, PrivateRelation, Relation};

/// A float's range is cut into about this many steps before it is summed for a unit: 2^30, so that 2^32 rows fit 64 bits.
const STEPS_LOG2: i32 = 30;
/// And before its square is: 2^20, so that 2^22 rows do.
const SQUARED_STEPS_LOG2: i32 = 20;

impl Analysis<'_> {
    /// An aggregate over private rows: for each unit by itself where it groups by the unit, a release where it does not.
    pub(super) fn aggregate(
        &mut self,
        aggregate: &Aggregate,
        input: LogicalPlan,
        private: PrivateRelation,
    ) -> Result<Walked, Refusal> {
        let mut with_scalars = aggregate.clone();
        for expr in with_scalars.group_expr.iter_mut().chain(&mut with_scalars.aggr_expr) {
            *expr = self.with_scalars(expr)?;
        }
        let aggregate = &with_scalars;
        let is_unit = |expr: &Expr| {
            unaliased(expr)
                .try_as_col()
                .and_then(|column| input.schema().index_of_column(column).ok())
                .is_some_and(|at| private.columns[at].is_unit)
        };
        if aggregate.group_expr.iter().any(is_unit) {
            return self.aggregate_per_unit(aggregate, input, private, false);
        }
        // A key of which each value names one unit, says the owner: with the unit beside it that holds in any case.
        let is_key = |expr: &Expr| {
            unaliased(expr)
                .try_as_col()
                .and_then(|column| input.schema().index_of_column(column).ok())
                .is_some_and(|at| private.columns[at].unit_key.is_some())
        };
        if aggregate.group_expr.iter().any(is_key) {
            return self.aggregate_per_unit(aggregate, input, private, true);
        }
        self.release(aggregate, input, &private)
    }

    fn aggregate_per_unit(
        &mut self,
        aggregate: &Aggregate,
        input: LogicalPlan,
        private: PrivateRelation,
        by_key: bool,
    ) -> Result<Walked, Refusal> {
        refuse_preserved(&private)?;
        let hidden = by_key.then(|| self.hidden_unit(input.schema(), private.unit));
        let hidden_epoch = private.epoch.as_ref().map(|epoch| self.hidden_epoch(input.schema(), epoch.column));
        let mut draft = PerUnit { scope: private.scope(input.schema()), aggregates: Vec::new() };
        let mut keys = Vec::with_capacity(aggregate.group_expr.len());
        let mut columns = Vec::with_capacity(aggregate.schema.fields().len());
        let mut outputs = Vec::with_capacity(aggregate.schema.fields().len());
        let named = |at: usize, expr: Expr| {
            let (relation, field) = aggregate.schema.qualified_field(at);
            expr.alias_qualified(relation.cloned(), field.name())
        };
        for (at, key) in aggregate.group_expr.iter().enumerate() {
            let total = draft.scope.used(unaliased(key), Use::Group)?;
            let name = format!("__tollgate_key_{at}");
            keys.push(total.expr.alias(&name));
            outputs.push(named(at, Expr::Column(Column::new_unqualified(name))));
            columns.push(total.facts);
        }
        kept_apart(
            &private,
            columns.iter().filter_map(|facts| facts.calendar),
            "what is grouped by the unit",
            "GROUP BY",
        )?;
        let only_unit = columns.iter().all(is_one_value) && !by_key;
        let rows = if only_unit { Some(1) } else { private.rows };
        for (at, expr) in aggregate.aggr_expr.iter().enumerate() {
            let at = keys.len() + at;
            let kind = aggregate.schema.field(at).data_type();
            let (value, facts) = draft.value(expr, kind, private.rows)?;
            outputs.push(named(at, value));
            columns.push(Facts { per_unit: only_unit, ..facts });
        }
        if let Some(Expr::Alias(hidden)) = hidden {
            outputs.push(Expr::Column(Column::new_unqualified(&hidden.name)));
            keys.push(Expr::Alias(hidden));
            columns.push(private.columns[private.unit].clone());
        }
        let epoch = hidden_epoch.zip(private.epoch.as_ref()).map(|(hidden, epoch)| {
            if let Expr::Alias(hidden) = &hidden {
                outputs.push(Expr::Column(Column::new_unqualified(&hidden.name)));
            }
            keys.push(hidden);
            columns.push(private.columns[epoch.column].clone());
            columns.len() - 1
        });
        let aggregates =
            draft.aggregates.into_iter().enumerate().map(|(at, expr)| expr.alias(value_name(at))).collect();
        let unique: BTreeSet<usize> = (0..aggregate.group_expr.len()).filter(|at| !columns[*at].is_unit).collect();
        let unit = columns.iter().position(|facts| facts.is_unit).unwrap_or_default();
        let plan = LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(input), keys, aggregates)?);
        let plan = LogicalPlan::Projection(Projection::try_new(outputs, Arc::new(plan))?);
        let relation = PrivateRelation { rows, unique: Some(unique), ..private.with_columns(unit, epoch, columns) };
        Ok((plan, Relation::Private(relation)))
    }

    /// `SELECT DISTINCT`: each unit's own rows where the unit is among the columns, else a release of groups.
    pub(super) fn distinct(
        &mut self,
        schema: &DFSchemaRef,
        input: LogicalPlan,
        private: PrivateRelation,
    ) -> Result<Walked, Refusal> {
        let width = schema.fields().len();
        if private.columns.iter().take(width).any(|facts| facts.is_unit) {
            refuse_preserved(&private)?;
            for (at, facts) in private.columns.iter().enumerate().take(width) {
                allow(facts, Use::Group, &Expr::Column(Column::from(input.schema().qualified_field(at))))?;
            }
            let said = private.columns.iter().take(width).filter_map(|facts| facts.calendar);
            kept_apart(&private, said, "DISTINCT", "the columns")?;
            let is_epoch = |at: usize| private.epoch.as_ref().is_some_and(|epoch| epoch.column == at);
            let unique =
                (0..private.columns.len()).filter(|at| !private.columns[*at].is_unit && !is_epoch(*at)).collect();
            let plan = LogicalPlan::Distinct(Distinct::All(Arc::new(input)));
            return Ok((plan, Relation::Private(PrivateRelation { unique: Some(unique), ..private })));
        }
        let keys = (0..width).map(|at| Expr::Column(Column::from(schema.qualified_field(at)))).collect();
        let aggregate = Aggregate::try_new(Arc::new(input.clone()), keys, Vec::new())?;
        self.release(&aggregate, input, &private)
    }

    /// Windows over the rows of one unit.
    pub(super) fn window(
        &mut self,
        window: &Window,
        input: LogicalPlan,
        private: PrivateRelation,
    ) -> Result<Walked, Refusal> {
        refuse_preserved(&private)?;
        // A column that nobody may read breaks no tie: rows that differ in it alone are alike to whatever follows.
        let readable = |at: &usize| {
            let facts = &private.columns[*at];
            !facts.is_unit && !facts.sources.values().any(|uses| uses.is_none())
        };
        let ties: Vec<Expr> = (0..private.columns.len())
            .filter(|at| readable(at) && can_sort(input.schema().field(*at).data_type()))
            .map(|at| Expr::Column(Column::from(input.schema().qualified_field(at))))
            .collect();
        let complete = ties.len() == (0..private.columns.len()).filter(readable).count();
        let mut exprs = Vec::with_capacity(window.window_expr.len());
        let mut columns = private.columns.clone();
        for expr in &window.window_expr {
            let name = expr.schema_name().to_string();
            let expr = &self.with_scalars(expr)?;
            let Expr::WindowFunction(call) = unaliased(expr) else {
                return Err(Refusal::not_private(
                    format!("`{}` is no window function that is answered", shown(expr)),
                    WINDOWS,
                ));
            };
            let (call, facts) = per_unit_window(&private, input.schema(), call, &ties, complete)?;
            exprs.push(Expr::from(call).alias(name));
            columns.push(facts);
        }
        let plan = LogicalPlan::Window(Window::try_new(exprs, Arc::new(input))?);
        // The hidden columns of the rewritten input come before those of the windows, and the SQL names columns: a
        // projection is above every window, so places do not matter.
        let (rows, unique, unit) = (private.rows, private.unique.clone(), private.unit);
        let epoch = private.epoch.as_ref().map(|epoch| epoch.column);
        let relation = PrivateRelation { rows, unique, ..private.with_columns(unit, epoch, columns) };
        Ok((plan, Relation::Private(relation)))
    }
}

/// Whether it has one value in all rows of a unit, or of a unit in an epoch, whatever the owner says.
fn is_one_value(facts: &Facts) -> bool {
    facts.is_unit || facts.calendar.is_some_and(Calendar::is_constant)
}

/// The furthest that a window's frame reaches, in rows, and the offset of `lag` and `lead`.
const MAX_FRAME: u64 = 100_000;

const WINDOWS: &str = "over private rows a window is one unit's: use row_number, rank, dense_rank, lag, lead, first_value, \
                       last_value, count, sum, min or max, with PARTITION BY the unit";

/// Above an outer join that keeps public rows, which rows there are is decided by the release alone.
fn refuse_preserved(private: &PrivateRelation) -> Result<(), Refusal> {
    if private.preserved.is_empty() {
        return Ok(());
    }
    Err(Refusal::not_private(
        "what is computed for each unit cannot stand above an outer join that keeps public rows",
        "compute it first, in a derived table, and join the public table to it",
    ))
}

fn value_name(at: usize) -> String {
    format!("__tollgate_value_{at}")
}

fn value(at: usize) -> Expr {
    Expr::Column(Column::new_unqualified(value_name(at)))
}

/// The aggregates of one unit's rows, as they are met.
struct PerUnit<'a> {
    scope: Scope<'a>,
    aggregates: Vec<Expr>,
}

impl PerUnit<'_> {
    fn place(&mut self, expr: Expr) -> Expr {
        let at = self.aggregates.iter().position(|known| *known == expr).unwrap_or_else(|| {
            self.aggregates.push(expr);
            self.aggregates.len() - 1
        });
        value(at)
    }

    /// The value of one aggregate of the SQL, over the exact ones that are placed.
    fn value(&mut self, expr: &Expr, kind: &DataType, rows: Option<u64>) -> Result<(Expr, Facts), Refusal> {
        let Expr::AggregateFunction(call) = unaliased(expr) else {
            return Err(Refusal::not_private(
                format!("`{}` is not an aggregate that is answered", shown(expr)),
                AGGREGATES,
            ));
        };
        let params = &call.params;
        if !params.order_by.is_empty() || params.null_treatment.is_some() {
            return Err(Refusal::not_private(
                format!("`{}`: an aggregate with ORDER BY or IGNORE NULLS is not answered", shown(expr)),
                AGGREGATES,
            ));
        }
        let filter = params.filter.as_ref().map(|filter| self.scope.used(filter, Use::Filter)).transpose()?;
        let args = params.args.iter().map(|arg| self.scope.total(arg)).collect::<Result<Vec<_>, _>>()?;
        let parts: Vec<Facts> = args.iter().chain(&filter).map(|total| total.facts.clone()).collect();
        let facts = Facts::computed_from(&parts);
        allow(&facts, Use::Aggregate, expr)?;
        let filter = filter.map(|total| Box::new(total.expr));
        let with_filter = |mut expr: Expr| {
            if let Expr::AggregateFunction(call) = &mut expr {
                call.params.filter.clone_from(&filter);
            }
            expr
        };
        let (name, distinct) = (call.func.name(), params.distinct);
        let [argument] = &args[..] else {
            return Err(Refusal::not_private(format!("`{}` is not answered for each unit", shown(expr)), AGGREGATES));
        };
        let argument_type = argument.expr.get_type(self.scope.schema)?;
        let whole = |argument: &Expr| {
            let args = vec![argument.clone()];
            let call = AggregateFunction::new_udf(Arc::clone(&call.func), args, distinct, None, Vec::new(), None);
            with_filter(Expr::AggregateFunction(call))
        };
        let interval = argument.facts.interval;
        match (name, distinct) {
            ("count", _) => {
                let facts =
                    facts.with_interval(Some(Interval::new(0.0, rows.map_or(f64::INFINITY, |rows| rows as f64))));
                Ok((self.place(whole(&argument.expr)), facts))
            }
            ("min" | "max", _) if !argument_type.is_nested() => {
                let argument = one_form(&argument.expr, &argument_type);
                Ok((self.place(whole(&argument)), facts.with_interval(interval)))
            }
            // The middle of the sorted values, whatever order they come in.
            ("median", false) if argument_type.is_floating() => {
                let argument = one_form(&argument.expr, &argument_type);
                Ok((self.place(whole(&argument)), facts.with_interval(interval)))
            }
            ("var" | "var_pop" | "stddev" | "stddev_pop", false) => {
                let (steps, step) = Self::steps(expr, argument, SQUARED_STEPS_LOG2)?;
                let values = cast(self.place(with_filter(count(steps.clone()))), DataType::Float64);
                let total = cast(self.place(with_filter(sum(steps.clone()))), DataType::Float64);
                let squares = cast(self.place(with_filter(sum(steps.clone() * steps))), DataType::Float64);
                let sample = if name.ends_with("_pop") { 0.0 } else { 1.0 };
                let spread = (squares - total.clone() * total / values.clone()) / (values.clone() - lit(sample));
                // What rounding leaves below 0 is 0; one value has no sample variance.
                let variance = Expr::Case(Case {
                    expr: None,
                    when_then_expr: vec![
                        (Box::new(values.lt_eq(lit(sample))), Box::new(lit(ScalarValue::Float64(None)))),
                        (Box::new(spread.clone().lt(lit(0.0))), Box::new(lit(0.0))),
                    ],
                    else_expr: Some(Box::new(spread * lit(step * step))),
                });
                let range = interval.and_then(Interval::finite).map_or(f64::INFINITY, |(lo, hi)| hi - lo);
                // Of a sample of two, twice the variance of all.
                let most = range * range / 2.0;
                if !name.starts_with("stddev") {
                    return Ok((variance, facts.with_interval(Some(Interval::new(0.0, most)))));
                }
                Ok((sqrt(variance), facts.with_interval(Some(Interval::new(0.0, most.sqrt())))))
            }
            ("bool_and" | "bool_or", false) => {
                let mut facts = facts;
                facts.keys = Some(super::relation::Keys::Listed(
                    [Some(false), Some(true), None].map(ScalarValue::Boolean).to_vec().into(),
                ));
                Ok((self.place(whole(&argument.expr)), facts))
            }
            ("sum", false) => {
                let interval = match (interval.and_then(Interval::finite), rows) {
                    (Some((lo, hi)), Some(rows)) => {
                        let rows = rows as f64;
                        Interval::new((lo * rows).min(0.0), (hi * rows).max(0.0))
                    }
                    (Some((lo, _)), None) if lo >= 0.0 => Interval::new(0.0, f64::INFINITY),
                    _ => Interval::UNBOUNDED,
                };
                let facts = facts.with_interval(Some(interval));
                if !argument_type.is_floating() {
                    return Ok((self.place(whole(&argument.expr)), facts));
                }
                let (steps, step) = Self::steps(expr, argument, STEPS_LOG2)?;
                let total = self.place(with_filter(sum(steps)));
                Ok((cast(total, DataType::Float64) * lit(step), facts))
            }
            ("avg", false) => {
                let facts = facts.with_interval(interval);
                let inner = uncast(&argument.expr);
                let inner_type = inner.get_type(self.scope.schema)?;
                let values = self.place(with_filter(count(argument.expr.clone())));
                let values = cast(values, DataType::Float64);
                let average = if inner_type.is_integer() {
                    let total = self.place(with_filter(sum(try_cast(inner.clone(), DataType::Int64))));
                    cast(total, DataType::Float64) / values
                } else if argument_type.is_floating() {
                    let (steps, step) = Self::steps(expr, argument, STEPS_LOG2)?;
                    let total = self.place(with_filter(sum(steps)));
                    cast(total, DataType::Float64) * lit(step) / values
                } else {
                    let total = self.place(with_filter(sum(argument.expr.clone())));
                    try_cast(try_cast(total, DataType::Float64) / values, kind.clone())
                };
                Ok((average, facts))
            }
            _ => Err(Refusal::not_private(format!("`{}` is not answered for each unit", shown(expr)), AGGREGATES)),
        }
    }

    /// A float as whole steps of a power of two that is fixed by its bounds. NaN, infinities and what is far out of the
    /// bounds become NULL.
    fn steps(expr: &Expr, argument: &super::expression::Total, steps_log2: i32) -> Result<(Expr, f64), Refusal> {
        let Some((lo, hi)) = argument.facts.interval.and_then(Interval::finite) else {
            return Err(Refusal::not_private(
                format!("`{}` adds up a float that has no bounds, so that it has no exact sum", shown(expr)),
                "clamp it: least(greatest(x, LO), HI) with numbers for LO and HI; or cast it to a decimal",
            ));
        };
        let reach = lo.abs().max(hi.abs()).max(f64::MIN_POSITIVE);
        let step = 2f64.powi((reach.log2().ceil() as i32 - steps_log2).clamp(-900, 900));
        let float = cast(argument.expr.clone(), DataType::Float64);
        Ok((try_cast(float * lit(1.0 / step), DataType::Int64), step))
    }
}

const AGGREGATES: &str = "for each unit use count, sum, avg, min, max, median, var, stddev, bool_and or bool_or, each with FILTER if need be";

fn uncast(expr: &Expr) -> &Expr {
    match expr {
        Expr::Cast(cast) => &cast.expr,
        other => other,
    }
}

/// A float without NaN and with one zero, so that the least of several does not depend on their order.
fn one_form(expr: &Expr, kind: &DataType) -> Expr {
    if !kind.is_floating() {
        return expr.clone();
    }
    let (Ok(zero), Ok(null)) = (ScalarValue::new_zero(kind), ScalarValue::try_from(kind)) else { return expr.clone() };
    Expr::Case(Case {
        expr: None,
        when_then_expr: vec![(Box::new(isnan(expr.clone())), Box::new(lit(null)))],
        else_expr: Some(Box::new(expr.clone() + lit(zero))),
    })
}

fn can_sort(kind: &DataType) -> bool {
    !kind.is_nested()
}

fn is_unbounded(bound: &WindowFrameBound) -> bool {
    match bound {
        WindowFrameBound::CurrentRow => false,
        WindowFrameBound::Preceding(value) | WindowFrameBound::Following(value) => value.is_null(),
    }
}

/// `lag(x)`, `lag(x, 1)`, `lag(x, 1, 0)`: the engine evaluates the others once, and a default of another type may fail.
fn has_literal_offset(scope: &Scope<'_>, args: &[Expr]) -> bool {
    let near = |offset: &ScalarValue| matches!(offset.cast_to(&DataType::UInt64), Ok(ScalarValue::UInt64(Some(rows))) if rows <= MAX_FRAME);
    match args {
        [_] => true,
        [_, Expr::Literal(offset, _)] => near(offset),
        [value, Expr::Literal(offset, _), Expr::Literal(default, _)] => {
            near(offset) && value.get_type(scope.schema).is_ok_and(|kind| kind == default.data_type())
        }
        _ => false,
    }
}

fn per_unit_window(
    private: &PrivateRelation,
    schema: &DFSchema,
    call: &WindowFunction,
    ties: &[Expr],
    complete: bool,
) -> Result<(WindowFunction, Facts), Refusal> {
    let scope = &private.scope(schema);
    let mut call = call.clone();
    let params = &mut call.params;
    let mut parts = Vec::new();
    // Of what is written: what it becomes below says less of itself.
    let partition =
        params.partition_by.iter().map(|expr| Ok(scope.total(expr)?.facts)).collect::<Result<Vec<_>, Refusal>>()?;
    let has_unit = partition.iter().any(|facts| facts.is_unit);
    let mut total = |expr: &Expr| -> Result<Expr, Refusal> {
        let total = scope.total(expr)?;
        allow(&total.facts, Use::Aggregate, expr)?;
        parts.push(total.facts);
        Ok(total.expr)
    };
    for expr in &mut params.partition_by {
        *expr = total(expr)?;
    }
    for expr in &mut params.args {
        *expr = total(expr)?;
    }
    for sort in &mut params.order_by {
        sort.expr = total(&sort.expr)?;
    }
    if let Some(filter) = &mut params.filter {
        **filter = total(filter)?;
    }
    let name = call.fun.name().to_owned();
    if !has_unit {
        return Err(Refusal::not_private(
            format!("the window of `{name}` spans the rows of several units"),
            "add the unit's column to PARTITION BY; or aggregate first, and apply the window to the result",
        ));
    }
    kept_apart(
        private,
        partition.iter().filter_map(|facts| facts.calendar),
        &format!("the window of `{name}`"),
        "PARTITION BY",
    )?;
    // A unit's rows are numbered over all of them only where nothing else parts them.
    let only_unit = partition.iter().all(is_one_value);
    if let Some(epoch) = &private.epoch {
        params.partition_by.push(Expr::Column(Column::from(schema.qualified_field(epoch.column))));
    }
    let frame = &params.window_frame;
    if frame.units == WindowFrameUnits::Range
        && [&frame.start_bound, &frame.end_bound].into_iter().any(|bound| match bound {
            WindowFrameBound::CurrentRow => false,
            WindowFrameBound::Preceding(value) | WindowFrameBound::Following(value) => !value.is_null(),
        })
    {
        return Err(Refusal::not_private(
            format!("the frame of `{name}`: a RANGE between values may overflow on a row"),
            "use ROWS, or RANGE between UNBOUNDED PRECEDING and CURRENT ROW",
        ));
    }
    let too_far = |bound: &WindowFrameBound| match bound {
        WindowFrameBound::CurrentRow => false,
        WindowFrameBound::Preceding(value) | WindowFrameBound::Following(value) => {
            !value.is_null()
                && !matches!(value.cast_to(&DataType::UInt64), Ok(ScalarValue::UInt64(Some(rows))) if rows <= MAX_FRAME)
        }
    };
    if too_far(&frame.start_bound) || too_far(&frame.end_bound) {
        return Err(Refusal::not_private(
            format!("the frame of `{name}` reaches further than {MAX_FRAME} rows"),
            "use UNBOUNDED PRECEDING or FOLLOWING",
        ));
    }
    let by_rows = frame.units == WindowFrameUnits::Rows;
    let facts = Facts { per_unit: false, ..Facts::computed_from(&parts) };
    let argument = params.args.first().map(|arg| scope.total(arg)).transpose()?;
    let interval = argument.as_ref().and_then(|argument| argument.facts.interval);
    let (ordered, interval) = match (&call.fun, name.as_str()) {
        // These number rows or look at neighbours: ties are broken, up to rows that are alike in all.
        (WindowFunctionDefinition::WindowUDF(_), "row_number") => (true, Some(Interval::new(1.0, f64::INFINITY))),
        (WindowFunctionDefinition::WindowUDF(_), "lag" | "lead") if has_literal_offset(scope, &params.args) => {
            (true, interval)
        }
        // Ties are broken, so that a frame by rows alone, or one that reaches the end, is what it was.
        (WindowFunctionDefinition::WindowUDF(_), "first_value") if by_rows || is_unbounded(&frame.start_bound) => {
            (true, interval)
        }
        (WindowFunctionDefinition::WindowUDF(_), "last_value") if by_rows || is_unbounded(&frame.end_bound) => {
            (true, interval)
        }
        (WindowFunctionDefinition::WindowUDF(_), "first_value" | "last_value") => {
            return Err(Refusal::not_private(
                format!("which row is the one of `{name}` depends on how ties of its order stand in the data"),
                "write the frame by rows: ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW (or UNBOUNDED FOLLOWING)",
            ));
        }
        // These give ties one value.
        (WindowFunctionDefinition::WindowUDF(_), "rank" | "dense_rank") => {
            (false, Some(Interval::new(1.0, f64::INFINITY)))
        }
        (WindowFunctionDefinition::WindowUDF(_), "percent_rank" | "cume_dist") => {
            (false, Some(Interval::new(0.0, 1.0)))
        }
        (WindowFunctionDefinition::AggregateUDF(_), "count") => (by_rows, Some(Interval::new(0.0, f64::INFINITY))),
        (WindowFunctionDefinition::AggregateUDF(_), "min" | "max") => {
            if let (Some(argument), Some(arg)) = (&argument, params.args.first_mut()) {
                *arg = one_form(&argument.expr, &argument.expr.get_type(scope.schema)?);
            }
            (by_rows, interval)
        }
        (WindowFunctionDefinition::AggregateUDF(_), "sum")
            if argument
                .as_ref()
                .is_some_and(|argument| argument.expr.get_type(scope.schema).is_ok_and(|kind| !kind.is_floating())) =>
        {
            (by_rows, Some(Interval::UNBOUNDED))
        }
        (WindowFunctionDefinition::AggregateUDF(_), "sum" | "avg") => {
            return Err(Refusal::not_private(
                format!("`{name}` of these numbers in a window has no exact sum"),
                "use sum of a BIGINT or a decimal; an average is the ratio of such a sum and of count",
            ));
        }
        _ => {
            return Err(Refusal::not_private(format!("the window function `{name}` over private rows"), WINDOWS));
        }
    };
    if params.distinct || params.null_treatment == Some(NullTreatment::IgnoreNulls) && !ordered {
        return Err(Refusal::not_private(format!("DISTINCT in the window of `{name}` is not answered"), WINDOWS));
    }
    if ordered {
        if !complete {
            return Err(Refusal::not_private(
                format!("the rows that `{name}` numbers have a column that cannot be sorted by"),
                "leave columns of lists and structs out, in a derived table",
            ));
        }
        params.order_by.extend(ties.iter().map(|tie| Sort::new(tie.clone(), true, true)));
    }
    // Aggregates that are answered here pass over NULL. A plan that is sent to another machine has no place for a window's
    // filter, and would lose it without a word.
    if let (WindowFunctionDefinition::AggregateUDF(_), Some(value)) = (&call.fun, params.args.first_mut())
        && let Some(filter) = params.filter.take()
    {
        *value =
            Expr::Case(Case { expr: None, when_then_expr: vec![(filter, Box::new(value.clone()))], else_expr: None });
    }
    let numbers_rows = name == "row_number" && only_unit;
    Ok((call, Facts { numbers_rows, ..facts }.with_interval(interval)))
}
