//! The scalar functions that may stand below a release: total, deterministic, of linear time and bounded output.
//!
//! A function that is not in the table is refused by name. A function belongs here only when no value of any row can
//! make it fail, since an error on a row would tell of that row (DESIGN 4.4).

use datafusion::arrow::datatypes::DataType;
use datafusion::logical_expr::Expr;

use super::interval::Interval;

/// How a function may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Totality {
    /// Total on any arguments.
    Always,
    /// Total on floats; on integers and decimals it may overflow.
    OnFloats,
    /// Total when every argument but the first is a literal.
    WithLiterals,
    /// Total when the first argument, which names a part of a date, is a literal.
    WithLiteralPart,
}

/// The table.
#[must_use]
pub fn totality(name: &str) -> Option<Totality> {
    Some(match name {
        "coalesce" | "nullif" | "greatest" | "least" | "lower" | "upper" | "btrim" | "ltrim" | "rtrim"
        | "character_length" | "octet_length" | "starts_with" | "ends_with" | "contains" | "strpos" | "isnan"
        | "iszero" => Totality::Always,
        "abs" | "ceil" | "floor" | "round" | "trunc" | "sqrt" | "exp" | "ln" | "log2" | "log10" | "power"
        | "signum" | "sin" | "cos" | "tan" | "asin" | "acos" | "atan" | "atan2" | "radians" | "degrees" => {
            Totality::OnFloats
        }
        "left" | "right" => Totality::WithLiterals,
        "date_part" => Totality::WithLiteralPart,
        _ => return None,
    })
}

impl Totality {
    /// Whether a call with these arguments of these types is total.
    #[must_use]
    pub fn holds(self, args: &[Expr], types: &[DataType]) -> bool {
        match self {
            Self::Always => true,
            Self::OnFloats => types.iter().enumerate().all(|(at, data_type)| {
                // The number of places of `round(x, 2)` and `trunc(x, 2)` is an integer literal.
                data_type.is_floating() || (at > 0 && matches!(args[at], Expr::Literal(..)))
            }),
            Self::WithLiterals => args.iter().skip(1).all(|arg| matches!(arg, Expr::Literal(..))),
            Self::WithLiteralPart => {
                let date =
                    types.get(1).is_some_and(|kind| matches!(kind, DataType::Date32 | DataType::Timestamp(_, None)));
                date && args.first().and_then(part_of).is_some()
            }
        }
    }
}

/// Where the values of a call lie, given where its arguments' do.
#[must_use]
pub fn interval(name: &str, args: &[Expr], intervals: &[Option<Interval>]) -> Option<Interval> {
    let known = || intervals.iter().copied().collect::<Option<Vec<_>>>();
    match name {
        "least" => known()?.into_iter().reduce(Interval::least),
        "greatest" => known()?.into_iter().reduce(Interval::greatest),
        "coalesce" => known()?.into_iter().reduce(Interval::hull),
        "nullif" => *intervals.first()?,
        "abs" => Some((*intervals.first()?)?.absolute()),
        "floor" => Some((*intervals.first()?)?.rising(f64::floor)),
        "ceil" => Some((*intervals.first()?)?.rising(f64::ceil)),
        "trunc" if intervals.len() == 1 => Some((*intervals.first()?)?.rising(f64::trunc)),
        "round" if intervals.len() == 1 => Some((*intervals.first()?)?.rising(f64::round)),
        "sqrt" => Some((*intervals.first()?)?.within(Interval::new(0.0, f64::INFINITY)).rising(f64::sqrt)),
        "signum" | "sin" | "cos" => Some(Interval::new(-1.0, 1.0)),
        "date_part" => date_part(args.first()?),
        _ => None,
    }
}

/// The parts of a date that are known here. The engine finds an unknown one only when it meets a row.
fn part_of(part: &Expr) -> Option<String> {
    let Expr::Literal(value, _) = part else { return None };
    let part = value.try_as_str()??.to_ascii_lowercase();
    let known = matches!(
        part.as_str(),
        "year" | "quarter" | "month" | "week" | "day" | "doy" | "dow" | "isodow" | "hour" | "minute" | "second"
    );
    known.then_some(part)
}

/// The parts of a date or time that have a range by the calendar.
fn date_part(part: &Expr) -> Option<Interval> {
    let (lo, hi) = match part_of(part)?.as_str() {
        "quarter" => (1.0, 4.0),
        "month" => (1.0, 12.0),
        "week" => (1.0, 53.0),
        "day" => (1.0, 31.0),
        "doy" => (1.0, 366.0),
        "dow" | "isodow" => (0.0, 7.0),
        "hour" => (0.0, 23.0),
        "minute" => (0.0, 59.0),
        "second" => (0.0, 60.0),
        _ => return None,
    };
    Some(Interval::new(lo, hi))
}
