//! The aggregates of a release become measures, each noised once, and outputs that are read off them (DESIGN 4.1, 4.2).
//!
//! ```text
//! count(x)  avg(x)  sum(x)  stddev(x)       n = values of x, Σ(x − c), Σ((x − c)² − c₂)        three mechanisms
//! ```
//!
//! Equal parts are shared, and paid for once.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::{AggregateFunction, Case};
use datafusion::logical_expr::{Aggregate, Expr, ExprSchemable, cast, lit};

use crate::policy::Use;
use crate::release::{
    Candidates, ContributionBounds, Histogram, Lattice, Measure, MeasureKind, Output, Quantile, Statistic,
};

use super::expression::{Scope, Total, allow};
use super::interval::Interval;
use super::operators::unaliased;
use super::refusal::{Refusal, shown};

/// What a release is made of, as its expressions are met.
pub(super) struct Draft<'a> {
    scope: Scope<'a>,
    pub(super) arguments: Vec<Expr>,
    pub(super) filters: Vec<Expr>,
    pub(super) measures: Vec<Measure>,
    pub(super) histograms: Vec<Histogram>,
    pub(super) quantiles: Vec<Quantile>,
    /// The bounds of the numbers, in words.
    pub(super) notes: Vec<String>,
    /// Arguments, with their filters, whose sum about the centre is needed in any case: `sum` is then read off it.
    centred: Vec<(Expr, Option<Expr>)>,
}

/// A number that is summed: its expression, which cannot fail, and its bounds.
struct Number {
    expr: Expr,
    lo: f64,
    hi: f64,
}

impl<'a> Draft<'a> {
    pub(super) const fn new(scope: Scope<'a>) -> Self {
        Self {
            scope,
            arguments: Vec::new(),
            filters: Vec::new(),
            measures: Vec::new(),
            histograms: Vec::new(),
            quantiles: Vec::new(),
            notes: Vec::new(),
            centred: Vec::new(),
        }
    }

    pub(super) fn key(&self, expr: &Expr) -> Result<Total, Refusal> {
        let total = self.scope.used(expr, Use::Group)?;
        if total.facts.is_unit {
            return Err(Refusal::not_private(
                format!("GROUP BY `{}` makes one group of each privacy unit, which is never released", shown(expr)),
                "leave it out of GROUP BY",
            ));
        }
        if total.expr.get_type(self.scope.schema)?.is_nested() {
            return Err(Refusal::not_private(format!("`{}` is no plain value", shown(expr)), "group by plain columns"));
        }
        Ok(total)
    }

    /// Finds the arguments whose sum about the centre some aggregate needs.
    pub(super) fn find_centred(&mut self, aggregate: &Aggregate) {
        for expr in &aggregate.aggr_expr {
            let Expr::AggregateFunction(call) = unaliased(expr) else { continue };
            if !matches!(call.func.name(), "avg") || call.params.distinct {
                continue;
            }
            let Some(Ok(total)) = call.params.args.first().map(|argument| self.scope.total(argument)) else { continue };
            let filter = call.params.filter.as_deref().cloned();
            self.centred.push((uncast(total.expr, self.scope.schema), filter));
        }
    }

    pub(super) fn output(
        &mut self,
        expr: &Expr,
        bounds: ContributionBounds,
        has_epochs: bool,
    ) -> Result<Output, Refusal> {
        let Expr::AggregateFunction(call) = unaliased(expr) else {
            return Err(Refusal::not_private(
                format!("`{}` is not an aggregate that is answered", shown(expr)),
                ANSWERED,
            ));
        };
        let params = &call.params;
        let name = call.func.name();
        let by_order = matches!(name, "percentile_cont" | "approx_percentile_cont");
        if (!params.order_by.is_empty() && !by_order) || params.null_treatment.is_some() {
            return Err(Refusal::not_private(
                format!("`{}`: an aggregate with ORDER BY or IGNORE NULLS is not answered", shown(expr)),
                ANSWERED,
            ));
        }
        let filter = match &params.filter {
            None => None,
            Some(filter) => {
                let total = self.scope.used(filter, Use::Filter)?;
                Some(place(&mut self.filters, total.expr))
            }
        };
        match (name, &params.args[..], params.distinct) {
            ("count", [Expr::Literal(value, _)], false) if !value.is_null() => {
                // With one row a unit and group, rows are units (DESIGN 4.2). In several epochs a unit may have several.
                if bounds.rows == 1 && !has_epochs && filter.is_none() && bounds.total_rows.is_none() {
                    return Ok(Output::Units);
                }
                Ok(Output::Count { measure: self.measure(MeasureKind::Rows, filter) })
            }
            ("count", [argument], false) => {
                let total = self.scope.used(argument, Use::Aggregate)?;
                Ok(Output::Count { measure: self.values(&total.expr, filter)? })
            }
            ("count", [argument], true) => self.count_distinct(argument, filter),
            ("sum", [argument], false) => {
                let number = self.number(call, argument)?;
                let shared = (uncast(number.expr.clone(), self.scope.schema), params.filter.as_deref().cloned());
                if self.centred.contains(&shared) {
                    let average = self.averaged(&number.expr)?;
                    return Ok(Output::Computed {
                        statistic: Statistic::Total,
                        measures: vec![
                            self.values(&number.expr, filter)?,
                            self.sum(call, argument, average, number.lo, number.hi, true, filter)?,
                        ],
                    });
                }
                let measure = self.sum(call, argument, number.expr, number.lo, number.hi, false, filter)?;
                Ok(Output::Sum { measure })
            }
            ("avg", [argument], false) => {
                let number = self.number(call, argument)?;
                let count = self.values(&number.expr, filter)?;
                let expr = self.averaged(&number.expr)?;
                let sum = self.sum(call, argument, expr, number.lo, number.hi, true, filter)?;
                Ok(Output::Computed { statistic: Statistic::Mean, measures: vec![count, sum] })
            }
            ("var" | "var_pop" | "stddev" | "stddev_pop", [argument], false) => {
                let sample = !name.ends_with("_pop");
                let root = name.starts_with("stddev");
                let x = self.float(call, argument)?;
                let count = self.values(&x.expr, filter)?;
                let sum = self.sum(call, argument, x.expr.clone(), x.lo, x.hi, true, filter)?;
                let squares = self.product(call, argument, &x, &x, filter)?;
                let statistic = Statistic::Variance { sample, root };
                Ok(Output::Computed { statistic, measures: vec![count, sum, squares] })
            }
            ("median" | "approx_median", [argument], false) => self.quantile(call, argument, 500_000, filter),
            ("min", [argument], _) => self.quantile(call, argument, EXTREME, filter),
            ("max", [argument], _) => self.quantile(call, argument, 1_000_000 - EXTREME, filter),
            ("percentile_cont" | "approx_percentile_cont", [argument, p], false) => {
                let p = match p {
                    Expr::Literal(p, _) => p.cast_to(&DataType::Float64).ok(),
                    _ => None,
                };
                let Some(ScalarValue::Float64(Some(p))) = p else {
                    return Err(Refusal::not_private(
                        format!("`{}`: which percentile is not a literal", shown(expr)),
                        "write it as a number from 0 to 1, such as 0.9",
                    ));
                };
                if !(0.0..=1.0).contains(&p) {
                    return Err(Refusal::not_private(
                        format!("`{}`: {p} is no percentile", shown(expr)),
                        "write a number from 0 to 1, such as 0.9",
                    ));
                }
                let descends = params.order_by.first().is_some_and(|sort| !sort.asc);
                let p = if descends { 1.0 - p } else { p };
                self.quantile(call, argument, (p * 1e6).round() as u32, filter)
            }
            ("covar_samp" | "covar_pop" | "corr" | "regr_slope" | "regr_intercept", [first, second], false) => {
                self.two(call, first, second, filter)
            }
            ("sum" | "avg", _, true) => Err(Refusal::not_private(
                format!("`{}`: DISTINCT inside {name} is not answered", shown(expr)),
                "leave DISTINCT out; or take DISTINCT unit, x in a derived table, and aggregate that",
            )),
            _ => Err(Refusal::not_private(
                format!("the aggregate `{name}` in `{}` is not answered", shown(expr)),
                ANSWERED,
            )),
        }
    }

    /// Aggregates of two numbers. `regr_*(y, x)` name the dependent one first.
    fn two(
        &mut self,
        call: &AggregateFunction,
        first: &Expr,
        second: &Expr,
        filter: Option<usize>,
    ) -> Result<Output, Refusal> {
        let name = call.func.name();
        let (first_number, second_number) = (self.float(call, first)?, self.float(call, second)?);
        let ((x, x_written), (y, y_written)) = if name.starts_with("regr") {
            ((second_number, second), (first_number, first))
        } else {
            ((first_number, first), (second_number, second))
        };
        // A row counts where both are values.
        let both = |own: &Number, other: &Number| Number {
            expr: Expr::Case(Case {
                expr: None,
                when_then_expr: vec![(Box::new(is_number(&other.expr)), Box::new(own.expr.clone()))],
                else_expr: Some(Box::new(lit(ScalarValue::Float64(None)))),
            }),
            ..*own
        };
        let (x, y) = (both(&x, &y), both(&y, &x));
        let count = self.values(&x.expr, filter)?;
        let sum_x = self.sum(call, x_written, x.expr.clone(), x.lo, x.hi, true, filter)?;
        let sum_y = self.sum(call, y_written, y.expr.clone(), y.lo, y.hi, true, filter)?;
        let xy = self.product(call, x_written, &x, &y, filter)?;
        let (statistic, measures) = match name {
            "covar_samp" => (Statistic::Covariance { sample: true }, vec![count, sum_x, sum_y, xy]),
            "covar_pop" => (Statistic::Covariance { sample: false }, vec![count, sum_x, sum_y, xy]),
            "corr" => {
                let xx = self.product(call, x_written, &x, &x, filter)?;
                let yy = self.product(call, y_written, &y, &y, filter)?;
                (Statistic::Correlation, vec![count, sum_x, sum_y, xx, yy, xy])
            }
            _ => {
                let xx = self.product(call, x_written, &x, &x, filter)?;
                let statistic = if name == "regr_slope" { Statistic::Slope } else { Statistic::Intercept };
                (statistic, vec![count, sum_x, sum_y, xx, xy])
            }
        };
        Ok(Output::Computed { statistic, measures })
    }

    /// A quantile of a number with bounds, `millionths` of whose weight lies below it.
    fn quantile(
        &mut self,
        call: &AggregateFunction,
        argument: &Expr,
        millionths: u32,
        filter: Option<usize>,
    ) -> Result<Output, Refusal> {
        if !self.scope.used(argument, Use::Aggregate)?.expr.get_type(self.scope.schema)?.is_numeric() {
            return Err(Refusal::not_private(
                format!("{} of `{}` is answered for numbers only", call.func.name(), shown(argument)),
                "group by it, and sort the answer; or take a number of it, such as extract(year FROM d), with bounds",
            ));
        }
        let number = self.number(call, argument)?;
        let inner = uncast(number.expr.clone(), self.scope.schema);
        let native = match inner.get_type(self.scope.schema)? {
            kind if kind.is_integer() => Some(1.0),
            DataType::Decimal128(_, scale) => Some(10f64.powi(-i32::from(scale))),
            _ => None,
        };
        let candidates = Candidates::new(number.lo, number.hi, native).ok_or_else(|| {
            Refusal::not_private(
                format!("{} of `{}` has too wide bounds", call.func.name(), shown(argument)),
                "clamp it more tightly: least(greatest(x, LO), HI)",
            )
        })?;
        let expr = if number.expr.get_type(self.scope.schema)? == DataType::Float64 {
            number.expr
        } else {
            cast(inner, DataType::Float64)
        };
        let argument = place(&mut self.arguments, expr);
        let histogram = place(&mut self.histograms, Histogram { argument, filter, candidates });
        let quantile = place(&mut self.quantiles, Quantile { histogram, millionths });
        Ok(Output::Quantile { quantile })
    }

    fn measure(&mut self, kind: MeasureKind, filter: Option<usize>) -> usize {
        place(&mut self.measures, Measure { kind, filter })
    }

    fn count_distinct(&mut self, argument: &Expr, filter: Option<usize>) -> Result<Output, Refusal> {
        let total = self.scope.used(argument, Use::Aggregate)?;
        if total.facts.is_unit {
            return Ok(match filter {
                None => Output::Units,
                Some(_) => Output::Count { measure: self.measure(MeasureKind::Units, filter) },
            });
        }
        if total.expr.get_type(self.scope.schema)?.is_nested() {
            return Err(Refusal::not_private(
                format!("`{}` is no plain value", shown(argument)),
                "count plain columns",
            ));
        }
        let argument = place(&mut self.arguments, total.expr);
        Ok(Output::Count { measure: self.measure(MeasureKind::Distinct { argument }, filter) })
    }

    /// The measure that counts the rows in which `argument` is a value. A column that cannot be NULL has one in every row.
    fn values(&mut self, argument: &Expr, filter: Option<usize>) -> Result<usize, Refusal> {
        // The engine casts integers to floats for avg; what is counted is the same.
        let argument = uncast(argument.clone(), self.scope.schema);
        let always = !argument.nullable(self.scope.schema)? && !argument.get_type(self.scope.schema)?.is_floating();
        let kind = if always {
            MeasureKind::Rows
        } else {
            MeasureKind::Values { argument: place(&mut self.arguments, argument) }
        };
        Ok(self.measure(kind, filter))
    }

    /// An argument with its bounds; refused where none follow from the policy or the expression.
    fn number(&mut self, call: &AggregateFunction, argument: &Expr) -> Result<Number, Refusal> {
        let total = self.scope.used(argument, Use::Aggregate)?;
        allow(&total.facts, Use::Aggregate, argument)?;
        let name = call.func.name();
        let Some((lo, hi)) = total.facts.interval.and_then(Interval::finite) else {
            return Err(Refusal::not_private(
                format!("{name} of `{}` has no bounds, so one unit could move it without limit", shown(argument)),
                format!("clamp it: {name}(least(greatest({}, LO), HI)) with numbers for LO and HI", shown(argument)),
            ));
        };
        let sources: Vec<&str> = total.facts.sources.keys().map(String::as_str).collect();
        let whence = if sources.is_empty() {
            "the expression".to_owned()
        } else {
            format!("the bounds and the expression over {}", sources.join(", "))
        };
        place(&mut self.notes, format!("`{}` lies in [{lo}, {hi}], from {whence}", shown(argument)));
        Ok(Number { expr: total.expr, lo, hi })
    }

    /// The same as a float.
    fn float(&mut self, call: &AggregateFunction, argument: &Expr) -> Result<Number, Refusal> {
        let number = self.number(call, argument)?;
        if number.expr.get_type(self.scope.schema)? == DataType::Float64 {
            return Ok(number);
        }
        Ok(Number { expr: cast(number.expr, DataType::Float64), ..number })
    }

    /// An integer as the float that averages are made of, so that they and the sums beside them share it.
    fn averaged(&self, expr: &Expr) -> Result<Expr, Refusal> {
        Ok(match expr.get_type(self.scope.schema)? {
            kind if kind.is_integer() => cast(uncast(expr.clone(), self.scope.schema), DataType::Float64),
            _ => expr.clone(),
        })
    }

    fn sum(
        &mut self,
        call: &AggregateFunction,
        written: &Expr,
        expr: Expr,
        lo: f64,
        hi: f64,
        centred: bool,
        filter: Option<usize>,
    ) -> Result<usize, Refusal> {
        let name = call.func.name();
        let kind = expr.get_type(self.scope.schema)?;
        let lattice = Lattice::new(&kind, lo, hi, centred).ok_or_else(|| {
            Refusal::not_private(
                format!("{name} of `{}` ({kind}, in [{lo}, {hi}]) cannot be summed exactly", shown(written)),
                format!("cast it: {name}(CAST({} AS DOUBLE)), or clamp it more tightly", shown(written)),
            )
        })?;
        let argument = place(&mut self.arguments, expr);
        Ok(self.measure(MeasureKind::Sum { argument, lattice }, filter))
    }

    /// The sum of (x − cx)·(y − cy): a number of its own, with its own bounds and its own lattice.
    fn product(
        &mut self,
        call: &AggregateFunction,
        written: &Expr,
        x: &Number,
        y: &Number,
        filter: Option<usize>,
    ) -> Result<usize, Refusal> {
        let centred = |number: &Number| {
            let centre = number.lo / 2.0 + number.hi / 2.0;
            // Clamped first, so that the product is of the values that the sums are of.
            let clamped = Expr::Case(Case {
                expr: None,
                when_then_expr: vec![
                    (Box::new(number.expr.clone().lt(lit(number.lo))), Box::new(lit(number.lo))),
                    (Box::new(number.expr.clone().gt(lit(number.hi))), Box::new(lit(number.hi))),
                ],
                else_expr: Some(Box::new(number.expr.clone())),
            });
            clamped - lit(centre)
        };
        let half = |number: &Number| number.hi / 2.0 - number.lo / 2.0;
        let most = half(x) * half(y);
        let lo = if x.expr == y.expr { 0.0 } else { -most };
        self.sum(call, written, centred(x) * centred(y), lo, most, true, filter)
    }
}

/// `min` and `max` are this quantile and its mirror image, in millionths: the very least value is one unit's.
const EXTREME: u32 = 10_000;

const ANSWERED: &str = "use count, count(DISTINCT x), sum, avg, var, stddev, covar, corr, regr_slope, regr_intercept, \
                        median, percentile_cont, min or max, each with FILTER if need be";

/// The index of `item` in `items`, where it is put if it is not there yet: equal parts are shared, and paid for once.
fn place<T: PartialEq>(items: &mut Vec<T>, item: T) -> usize {
    items.iter().position(|known| *known == item).unwrap_or_else(|| {
        items.push(item);
        items.len() - 1
    })
}

/// True where a float is neither NULL nor NaN: NaN is greater than every number here.
fn is_number(expr: &Expr) -> Expr {
    expr.clone().lt_eq(lit(f64::INFINITY))
}

/// The expression under a widening that keeps NULLs and NaNs as they are.
fn uncast(expr: Expr, schema: &DFSchema) -> Expr {
    match &expr {
        Expr::Cast(cast) if cast.expr.get_type(schema).is_ok_and(|kind| kind.is_numeric()) => {
            uncast(cast.expr.as_ref().clone(), schema)
        }
        _ => expr,
    }
}
