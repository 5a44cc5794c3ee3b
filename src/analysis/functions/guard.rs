//! Calls whose arguments become NULL where the function would fail.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::functions::core::expr_fn::{coalesce, greatest, least, nullif};
use datafusion::logical_expr::expr::{Cast, ScalarFunction, TryCast};
use datafusion::logical_expr::{Expr, ExprSchemable, ScalarUDF, lit};

use super::{fits_int64, integer, is_float, number, range};

const DAY: i64 = 86_400;

/// The first day that is kept by functions that count nanoseconds, which begin in September 1677: 1678-01-01.
const FIRST_DAY: i64 = -106_650;

/// The day after the last that is kept by functions that count nanoseconds, which end in April 2262: 2262-01-01.
const LAST_DAY: i64 = 106_651;

/// 0001-01-01.
const FIRST_CALENDAR_DAY: i64 = -719_162;

/// 9999-12-31.
const LAST_CALENDAR_DAY: i64 = 2_932_896;

/// The call with the arguments that it needs to be total.
pub(super) fn guarded(function: &Arc<ScalarUDF>, mut args: Vec<Expr>, types: &[DataType], schema: &DFSchema) -> Expr {
    match function.name() {
        "abs" => return absolute(function, args, types),
        // The same function; but this one takes every type.
        "nvl" => return coalesce(args),
        "acos" | "acosh" | "asin" | "asinh" | "atan" | "atan2" | "atanh" | "cbrt" | "ceil" | "cos" | "cosh" | "cot"
        | "degrees" | "exp" | "floor" | "ln" | "log" | "log10" | "log2" | "nanvl" | "radians" | "signum" | "sin"
        | "sinh" | "tan" | "tanh" => args = floats(args, types),
        "sqrt" => {
            args = floats(args, types);
            // The largest negative float: -0 stays.
            let below = match types.first() {
                Some(DataType::Float32) => ScalarValue::Float32(Some(-f32::from_bits(1))),
                _ => ScalarValue::Float64(Some(-f64::from_bits(1))),
            };
            args = args.into_iter().map(|arg| above(arg, below.clone())).collect();
        }
        "power" => args = power(args, types),
        "round" => args = with_places(args, |places| ScalarValue::Int32(i32::try_from(places).ok())),
        "trunc" => args = with_places(args, |places| ScalarValue::Int64(Some(places))),
        "left" | "right" => args = int64s(args, types),
        "substr" => {
            args = int64s(args, types);
            if let Some(start) = args.get_mut(1).filter(|start| integer(start).is_none()) {
                *start = nullif(start.clone(), lit(i64::MIN));
            }
            if let Some(length) = args.get_mut(2).filter(|length| integer(length).is_none()) {
                *length = above(length.clone(), ScalarValue::Int64(Some(-1)));
            }
        }
        "date_part" => {
            let kind = types.get(1);
            if let (Some(part), [name, moment]) = (args.first().and_then(range::part), args.as_mut_slice()) {
                *name = lit(part);
                // A moment out of the calendar has parts that are NULL, and that may not be where the column has none.
                if let Some(kind) = kind.filter(|_| !moment.nullable(schema).unwrap_or(false)) {
                    *moment = within_calendar(moment.clone(), kind);
                }
            }
        }
        "date_trunc" => {
            if let (Some(unit), Some(kind), [name, moment]) =
                (args.first().and_then(range::unit), types.get(1), args.as_mut_slice())
            {
                *name = lit(unit);
                *moment = within_nanoseconds(moment.clone(), kind);
            }
        }
        "from_unixtime" => {
            args = int64s(args, types)
                .into_iter()
                .map(|arg| within(arg, lit_int64(FIRST_DAY * DAY), lit_int64(LAST_DAY * DAY)))
                .collect();
        }
        _ => {}
    }
    call(function, args)
}

fn call(function: &Arc<ScalarUDF>, args: Vec<Expr>) -> Expr {
    Expr::ScalarFunction(ScalarFunction { func: Arc::clone(function), args })
}

const fn lit_int64(value: i64) -> ScalarValue {
    ScalarValue::Int64(Some(value))
}

/// The least integer has no absolute value, and a decimal of more digits has it: it becomes NULL on the way back.
fn absolute(function: &Arc<ScalarUDF>, mut args: Vec<Expr>, types: &[DataType]) -> Expr {
    match (args.pop(), types.first()) {
        (Some(arg), Some(kind)) if kind.is_signed_integer() => {
            let wide = Expr::Cast(Cast::new(Box::new(arg), DataType::Decimal128(20, 0)));
            Expr::TryCast(TryCast::new(Box::new(call(function, vec![wide])), kind.clone()))
        }
        (arg, _) => call(function, arg.into_iter().collect()),
    }
}

/// The arguments as floats of one kind. The engine would cast decimals itself, but not for every function.
fn floats(args: Vec<Expr>, types: &[DataType]) -> Vec<Expr> {
    let same = types.first().is_some_and(is_float) && types.iter().all(|kind| *kind == types[0]);
    let cast = |(arg, kind): (Expr, &DataType)| {
        if same || *kind == DataType::Float64 { arg } else { Expr::Cast(Cast::new(Box::new(arg), DataType::Float64)) }
    };
    args.into_iter().zip(types).map(cast).collect()
}

/// 0 to a negative power fails, and so does -0.
fn power(args: Vec<Expr>, types: &[DataType]) -> Vec<Expr> {
    let negative = args.get(1).and_then(number).is_some_and(|exponent| exponent < 0.0);
    let unknown = args.first().and_then(number).is_none_or(|base| base == 0.0);
    let mut args: Vec<Expr> = args
        .into_iter()
        .zip(types)
        .map(|(arg, kind)| match kind {
            DataType::Float64 => arg,
            _ => Expr::Cast(Cast::new(Box::new(arg), DataType::Float64)),
        })
        .collect();
    if let Some(base) = args.first_mut().filter(|_| negative && unknown) {
        *base = nullif(nullif(base.clone(), lit(0.0_f64)), lit(-0.0_f64));
    }
    args
}

/// The literal number of places in the type that the function takes, so that its own type is known from the start.
fn with_places(mut args: Vec<Expr>, places: fn(i64) -> ScalarValue) -> Vec<Expr> {
    if let Some(arg) = args.get_mut(1)
        && let Some(value) = integer(arg)
    {
        *arg = lit(places(value));
    }
    args
}

/// The integers among the arguments in 64 bits.
fn int64s(args: Vec<Expr>, types: &[DataType]) -> Vec<Expr> {
    let cast = |(arg, kind): (Expr, &DataType)| match integer(&arg) {
        Some(value) => lit(value),
        None if fits_int64(kind) && *kind != DataType::Int64 => Expr::Cast(Cast::new(Box::new(arg), DataType::Int64)),
        None => arg,
    };
    args.into_iter().zip(types).map(cast).collect()
}

/// NULL where a value is not above `floor`. `greatest` takes NULL for the least of all, which then becomes NULL again.
fn above(value: Expr, floor: ScalarValue) -> Expr {
    nullif(greatest(vec![value, lit(floor.clone())]), lit(floor))
}

/// NULL where a value is not below `ceiling`.
fn below(value: Expr, ceiling: ScalarValue) -> Expr {
    nullif(least(vec![value, lit(ceiling.clone())]), lit(ceiling))
}

/// NULL where a value is not between the two.
fn within(value: Expr, floor: ScalarValue, ceiling: ScalarValue) -> Expr {
    above(below(value, ceiling), floor)
}

/// NULL where a moment is not safely one in nanoseconds, nor is the begin of its year.
fn within_nanoseconds(moment: Expr, kind: &DataType) -> Expr {
    match (midnight(FIRST_DAY, kind), midnight(LAST_DAY, kind)) {
        (Some(first), Some(last)) => within(moment, first, last),
        _ => moment,
    }
}

/// A moment that is never NULL, moved into the calendar.
fn within_calendar(moment: Expr, kind: &DataType) -> Expr {
    match (midnight(FIRST_CALENDAR_DAY, kind), midnight(LAST_CALENDAR_DAY, kind)) {
        (Some(first), Some(last)) => {
            let moved = least(vec![greatest(vec![moment, lit(first.clone())]), lit(last)]);
            // The engine does not see that it is never NULL otherwise.
            coalesce(vec![moved, lit(first)])
        }
        _ => moment,
    }
}

/// The begin of a day, counted from 1970, if the type has it.
fn midnight(day: i64, kind: &DataType) -> Option<ScalarValue> {
    let ticks = |in_second: i64| (day * DAY).checked_mul(in_second).map(Some);
    Some(match kind {
        DataType::Date32 => ScalarValue::Date32(Some(i32::try_from(day).ok()?)),
        DataType::Timestamp(TimeUnit::Second, None) => ScalarValue::TimestampSecond(ticks(1)?, None),
        DataType::Timestamp(TimeUnit::Millisecond, None) => ScalarValue::TimestampMillisecond(ticks(1_000)?, None),
        DataType::Timestamp(TimeUnit::Microsecond, None) => ScalarValue::TimestampMicrosecond(ticks(1_000_000)?, None),
        DataType::Timestamp(TimeUnit::Nanosecond, None) => {
            ScalarValue::TimestampNanosecond(ticks(1_000_000_000)?, None)
        }
        _ => return None,
    })
}
