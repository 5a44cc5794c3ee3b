//! Where the values of a call lie, and the parts of dates that there are.

use std::f64::consts::{FRAC_PI_2, PI};
use std::ops::RangeInclusive;

use datafusion::logical_expr::Expr;

use super::{integer, number, text};
use crate::analysis::interval::Interval;

/// Where the values of a call lie, given where its arguments' do.
#[must_use]
pub fn interval(name: &str, args: &[Expr], intervals: &[Option<Interval>]) -> Option<Interval> {
    let known = || intervals.iter().copied().collect::<Option<Vec<_>>>();
    let first = || intervals.first().copied().flatten();
    // An argument out of the domain gives NaN, which is no value.
    let positive = || first().map(|interval| interval.within(Interval::new(0.0, f64::INFINITY)));
    match name {
        "least" => known()?.into_iter().reduce(Interval::least),
        "greatest" => known()?.into_iter().reduce(Interval::greatest),
        "coalesce" | "nvl" | "ifnull" | "nanvl" => known()?.into_iter().reduce(Interval::hull),
        "nvl2" => Some((*intervals.get(1)?)?.hull((*intervals.get(2)?)?)),
        "nullif" => first(),
        "abs" => Some(first()?.absolute()),
        "floor" => Some(first()?.rising(f64::floor)),
        "ceil" => Some(first()?.rising(f64::ceil)),
        "trunc" => rounded(first()?, args, f64::trunc),
        "round" => rounded(first()?, args, f64::round),
        "sqrt" => Some(positive()?.rising(f64::sqrt)),
        "cbrt" => Some(first()?.rising(f64::cbrt)),
        "exp" => Some(first()?.rising(f64::exp)),
        "ln" => Some(positive()?.rising(f64::ln)),
        "log2" => Some(positive()?.rising(f64::log2)),
        "log10" => Some(positive()?.rising(f64::log10)),
        "log" if args.len() == 1 => Some(positive()?.rising(f64::log10)),
        "log" => logarithm(number(args.first()?)?, (*intervals.get(1)?)?),
        "power" | "pow" => power(first()?, number(args.get(1)?)?),
        "degrees" => Some(first()?.rising(f64::to_degrees)),
        "radians" => Some(first()?.rising(f64::to_radians)),
        "atan" => Some(first().unwrap_or(Interval::UNBOUNDED).rising(f64::atan)),
        "tanh" => Some(first().unwrap_or(Interval::UNBOUNDED).rising(f64::tanh)),
        "sinh" => Some(first()?.rising(f64::sinh)),
        "asinh" => Some(first()?.rising(f64::asinh)),
        "asin" => Some(Interval::new(-FRAC_PI_2, FRAC_PI_2)),
        "acos" => Some(Interval::new(0.0, PI)),
        "atan2" => Some(Interval::new(-PI, PI)),
        "signum" | "sin" | "cos" => Some(Interval::new(-1.0, 1.0)),
        "pi" => Some(Interval::point(PI)),
        "cosh" => Some(Interval::new(1.0, f64::INFINITY)),
        "acosh" | "character_length" | "octet_length" | "ascii" | "strpos" | "find_in_set" => {
            Some(Interval::new(0.0, f64::INFINITY))
        }
        "date_part" => {
            let parts = part_range(part(args.first()?)?)?;
            Some(Interval::new(*parts.start() as f64, *parts.end() as f64))
        }
        _ => None,
    }
}

/// All values of a call of `date_part` for a part of the calendar or of the day, besides NULL: the call is NULL where
/// its date is, or is out of the calendar, and the caller adds NULL if the call may be NULL by its type.
///
/// The values are of the type Int32, as is every part here.
#[must_use]
pub fn calendar(name: &str, args: &[Expr]) -> Option<RangeInclusive<i64>> {
    let keys = matches!(name, "date_part" | "datepart").then(|| args.first())??;
    // A list of a thousand keys is a range of numbers.
    part_range(part(keys)?).filter(|parts| *parts.end() <= 366)
}

/// The parts of a date or timestamp that are known here. The engine finds an unknown one only when it meets a row.
pub(in crate::analysis) fn part(part: &Expr) -> Option<&'static str> {
    Some(match text(part)?.to_ascii_lowercase().as_str() {
        "year" => "year",
        "isoyear" => "isoyear",
        "quarter" | "qtr" => "quarter",
        "month" => "month",
        "week" => "week",
        "day" => "day",
        "doy" => "doy",
        "dow" => "dow",
        "isodow" => "isodow",
        "hour" => "hour",
        "minute" => "minute",
        "second" => "second",
        "millisecond" => "millisecond",
        "microsecond" => "microsecond",
        "nanosecond" => "nanosecond",
        "epoch" => "epoch",
        _ => return None,
    })
}

/// The units that a timestamp is cut to.
pub(super) fn unit(unit: &Expr) -> Option<&'static str> {
    part(unit).filter(|unit| !matches!(*unit, "isoyear" | "doy" | "dow" | "isodow" | "nanosecond" | "epoch"))
}

/// The parts that have a range by the calendar or the clock. No timestamp has a leap second.
fn part_range(part: &str) -> Option<RangeInclusive<i64>> {
    Some(match part {
        "quarter" => 1..=4,
        "month" => 1..=12,
        "week" => 1..=53,
        "day" => 1..=31,
        "doy" => 1..=366,
        "dow" => 0..=6,
        "isodow" => 1..=7,
        "hour" => 0..=23,
        "minute" | "second" => 0..=59,
        "millisecond" => 0..=59_999,
        "microsecond" => 0..=59_999_999,
        "nanosecond" => 0..=59_999_999_999,
        _ => return None,
    })
}

/// Values rounded to a literal number of places, which never falls where the value rises.
fn rounded(interval: Interval, args: &[Expr], function: fn(f64) -> f64) -> Option<Interval> {
    let Some(places) = args.get(1) else { return Some(interval.rising(function)) };
    let factor = 10_f64.powi(i32::try_from(integer(places)?).ok()?);
    let (lo, hi) = interval.finite()?;
    Some(Interval::new(function(lo * factor) / factor, function(hi * factor) / factor))
}

/// The logarithm to a literal base above 1, which rises.
fn logarithm(base: f64, interval: Interval) -> Option<Interval> {
    let (lo, hi) = interval.finite().filter(|(lo, _)| *lo > 0.0 && base > 1.0)?;
    Some(Interval::new(lo.log(base), hi.log(base)))
}

/// A literal power. On numbers that are not negative it rises, or falls when the exponent is negative; on the others
/// an odd one rises, an even one is that of the absolute value, and one that is no integer gives NaN.
fn power(interval: Interval, exponent: f64) -> Option<Interval> {
    let (lo, hi) = interval.finite().filter(|_| exponent.is_finite())?;
    let rising = |lo: f64, hi: f64| Interval::new(lo.powf(exponent), hi.powf(exponent));
    if exponent < 0.0 {
        return (lo > 0.0).then(|| rising(hi, lo));
    }
    let is_integer = exponent.fract() == 0.0;
    if is_integer && exponent % 2.0 != 0.0 {
        return Some(rising(lo, hi));
    }
    let (lo, hi) = if is_integer { interval.absolute().finite()? } else { (lo.max(0.0), hi.max(0.0)) };
    Some(rising(lo, hi))
}
