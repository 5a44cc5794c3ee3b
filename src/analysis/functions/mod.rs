//! The scalar functions that may stand below a release: total, deterministic, of linear time and bounded output.
//!
//! An error on a row would tell of that row (DESIGN 4.4), so a call stands below a release only if no value of any row
//! makes it fail. Some functions are total on any arguments of the right types, some when certain arguments are
//! literals, and some once what they fail on has become NULL ([`total`] does that). The engine casts arguments to the
//! types that a function takes, and such a cast may fail too: every class therefore says which types it takes.

mod guard;
mod range;
mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::functions::regex::compile_regex;
use datafusion::logical_expr::{Expr, ScalarUDF};

use crate::analysis::expression::decoded;

pub(super) use range::part;
pub use range::{calendar, interval};

/// The longest pattern of a regular expression, as of LIKE.
const MAX_PATTERN_BYTES: usize = 128;

/// How often the parts of a pattern may be repeated by counts such as `{2,4}`: a counted part is compiled as often, and
/// the time that a text takes grows with that. No more parts fit into the longest pattern without counts.
const MAX_PATTERN_REPEATS: u64 = 32;

/// What is known of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It may stand below a release, on the arguments that [`Totality::holds`] tells of.
    Total(Totality),
    /// It may not.
    Refused(Why),
}

/// Why a function is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The table does not have it.
    Unknown,
    /// Some values make it fail.
    Fails,
    /// Some values end the process.
    Unsafe,
    /// It gives another value at each call.
    Volatile,
    /// Its value depends on when and where it runs.
    Session,
    /// Its output may outgrow its input, again at each call of a nested one.
    Grows,
    /// Its time may grow faster than its input.
    NotLinear,
    /// It makes or takes lists, structs or maps.
    Nested,
    /// It tells of types and files, not of values.
    Metadata,
    /// It is total on other arguments than these.
    Arguments(Totality),
}

impl Why {
    /// What is said of a call, after the words that name it.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Unknown => "is not known to be safe",
            Self::Fails | Self::Unsafe => "fails on some values, which would tell of a row",
            Self::Volatile => "gives another value at each call",
            Self::Session => "depends on when and where the query runs",
            Self::Grows => "may make a text or list that outgrows memory",
            Self::NotLinear => "may take far longer on one row than on others",
            Self::Nested => "is about lists, structs or maps",
            Self::Metadata => "tells of types and files, not of values",
            Self::Arguments(_) => "may fail on a row with these arguments",
        }
    }

    /// What to do instead.
    #[must_use]
    pub const fn hint(self) -> &'static str {
        match self {
            Self::Session => "write the moment itself, such as DATE '2025-01-31'",
            Self::Volatile => "leave it out: the noise is drawn by the gateway",
            Self::Nested | Self::Metadata => "use columns of plain types",
            Self::Arguments(totality) => totality.needs(),
            Self::Unknown | Self::Fails | Self::Unsafe | Self::Grows | Self::NotLinear => {
                "apply it to the result instead, above the aggregates, or write it with CASE and arithmetic"
            }
        }
    }
}

/// The arguments on which a function is total, once [`total`] has guarded them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Totality {
    /// Any.
    Always,
    /// Values of one kind, so that none is parsed or cut to become the type of another.
    Alike,
    /// Numbers, which become floats where the function takes floats.
    OnNumbers,
    /// Floats, and integers, which become floats. Decimals overflow.
    OnFloats,
    /// Integers.
    OnIntegers,
    /// A number, and a literal number of places. Integers and decimals overflow when rounded before the point.
    Rounding,
    /// Numbers of which one is a literal: a 0 to a negative power fails.
    Power,
    /// Texts.
    OnText,
    /// Texts or bytes.
    OnTextOrBytes,
    /// A text or bytes, and a literal that names a digest.
    Digest,
    /// A text, and literal texts.
    WithTextLiterals,
    /// A text and an integer.
    Ends,
    /// A text and one or two integers; a start that is the least integer and a negative length fail.
    Substring,
    /// A text, a literal delimiter and a literal position, which is not 0.
    Split,
    /// A text and a literal pattern of limited size.
    Pattern,
    /// A literal part that is known, and a date or timestamp.
    DatePart,
    /// A literal unit that is known, and a date or timestamp.
    DateTrunc,
    /// An integer.
    UnixTime,
}

/// The class of a function, by any of its names.
#[must_use]
pub fn class(name: &str) -> Class {
    table::class(name).unwrap_or(Class::Refused(Why::Unknown))
}

/// A call that no row makes fail.
///
/// Arguments that a call would fail on become NULL, by expressions that name each argument once: to name it twice, in
/// a CASE, would double nested calls again and again.
///
/// # Errors
/// When the function is refused, or is not total on these arguments, which are total themselves.
pub fn total(function: &Arc<ScalarUDF>, args: Vec<Expr>, types: &[DataType], schema: &DFSchema) -> Result<Expr, Why> {
    match class(function.name()) {
        Class::Refused(why) => Err(why),
        Class::Total(totality) if !totality.holds(&args, types) => Err(Why::Arguments(totality)),
        Class::Total(_) => Ok(guard::guarded(function, args, types, schema)),
    }
}

impl Totality {
    /// Whether a call with these arguments of these types is total, once it is guarded.
    #[must_use]
    pub fn holds(self, args: &[Expr], types: &[DataType]) -> bool {
        let each = |test: fn(&DataType) -> bool| !types.is_empty() && types.iter().all(test);
        let first = |test: fn(&DataType) -> bool| types.first().is_some_and(test);
        let literals = || args.iter().skip(1).all(|arg| text(arg).is_some());
        match self {
            Self::Always => true,
            Self::Alike => alike(types),
            Self::OnNumbers => each(is_number),
            Self::OnFloats => each(|kind| is_float(kind) || kind.is_integer()),
            Self::OnIntegers => each(DataType::is_integer),
            Self::Rounding => first(is_number) && args.get(1).is_none_or(|places| is_places(places, &types[0])),
            Self::Power => each(is_number) && power_is_total(args),
            Self::OnText => each(is_text),
            Self::OnTextOrBytes => each(|kind| is_text(kind) || is_bytes(kind)),
            Self::Digest => {
                first(|kind| is_text(kind) || is_bytes(kind)) && args.get(1).and_then(text).is_some_and(is_digest)
            }
            Self::WithTextLiterals => first(is_text) && literals(),
            Self::Ends => first(is_text) && types.iter().skip(1).all(fits_int64),
            Self::Substring => {
                first(is_text)
                    && types.iter().skip(1).all(fits_int64)
                    && args.get(1).is_some_and(|start| integer(start) != Some(i64::MIN))
                    && args.get(2).and_then(integer).is_none_or(|length| length >= 0)
            }
            Self::Split => {
                first(is_text)
                    && args.get(1).and_then(text).is_some()
                    && args.get(2).and_then(integer).is_some_and(|at| at != 0)
            }
            Self::Pattern => {
                let flags = args.get(2).map_or(Some(""), text);
                first(is_text)
                    && flags.is_some_and(|flags| matches!(flags, "" | "i"))
                    && args.get(1).and_then(text).is_some_and(|pattern| is_small_pattern(pattern, flags))
            }
            Self::DatePart => types.get(1).is_some_and(is_moment) && args.first().and_then(range::part).is_some(),
            Self::DateTrunc => types.get(1).is_some_and(is_moment) && args.first().and_then(range::unit).is_some(),
            Self::UnixTime => types.len() == 1 && first(fits_int64),
        }
    }

    /// What the arguments have to be.
    const fn needs(self) -> &'static str {
        match self {
            Self::Always => "see its documentation",
            Self::Alike => "give it arguments of one type: cast numbers to DOUBLE, write DATE '2025-01-31'",
            Self::OnNumbers => "give it numbers: cast texts to DOUBLE",
            Self::OnFloats => "cast its argument to DOUBLE",
            Self::OnIntegers => "give it an integer",
            Self::Rounding => "cast its first argument to DOUBLE, and write the places as a literal",
            Self::Power => "give it numbers, and write the exponent as a literal",
            Self::OnText | Self::OnTextOrBytes => "give it texts",
            Self::Digest => "give it a text and the name of a digest, such as 'sha256'",
            Self::WithTextLiterals => "give it a text, and write the other arguments as literals",
            Self::Ends => "give it a text and an integer",
            Self::Substring => "give it a text, a start and a length that is not negative",
            Self::Split => "give it a text, and write the delimiter and the position, which is not 0, as literals",
            Self::Pattern => "write the pattern itself, at most 128 bytes with short counts, and no flag but 'i'",
            Self::DatePart => {
                "use year, quarter, month, week, day, doy, dow, isodow, hour, minute, second or epoch, of a date or of \
                 a timestamp without time zone"
            }
            Self::DateTrunc => {
                "use year, quarter, month, week, day, hour, minute or second, of a date or of a timestamp without \
                 time zone"
            }
            Self::UnixTime => "give it one integer, the seconds",
        }
    }
}

/// Whether the engine can bring values of these types to one type without a cast that fails on some value.
///
/// It casts a text to a number or a date when it meets either, a float to a decimal, and a date or a timestamp to
/// nanoseconds, which end in 2262. The same casts come with comparisons, IN, BETWEEN and the branches of CASE.
#[must_use]
pub fn alike(types: &[DataType]) -> bool {
    // A literal NULL becomes a NULL of any type.
    let types: Vec<&DataType> = types.iter().filter(|kind| !kind.is_null()).collect();
    let all = |test: fn(&DataType) -> bool| types.iter().all(|kind| test(kind));
    (types.iter().all(|kind| *kind == types[0]) && all(is_plain))
        || all(is_text)
        || (all(|kind| is_float(kind) || kind.is_integer()) && types.iter().any(|kind| is_float(kind)))
        || decimals_fit(&types)
}

/// Whether integers and decimals have a common one that holds all their digits. That of integers alone is an integer
/// or, if they are signed and unsigned and of 64 bits, a decimal.
fn decimals_fit(types: &[&DataType]) -> bool {
    let digits: Option<Vec<(i32, i32)>> = types
        .iter()
        .map(|kind| match kind {
            DataType::Decimal128(p, s) if *s >= 0 => Some((i32::from(*p) - i32::from(*s), i32::from(*s))),
            DataType::Int8 | DataType::UInt8 => Some((3, 0)),
            DataType::Int16 | DataType::UInt16 => Some((5, 0)),
            DataType::Int32 | DataType::UInt32 => Some((10, 0)),
            DataType::Int64 | DataType::UInt64 => Some((20, 0)),
            _ => None,
        })
        .collect();
    let (before, after) = digits
        .iter()
        .flatten()
        .fold((0, 0), |(before, after), (more_before, more_after)| (before.max(*more_before), after.max(*more_after)));
    digits.is_some() && before + after <= 38
}

/// Whether a pattern compiles, here and so on every row, to something of limited size.
#[must_use]
pub fn is_small_pattern(pattern: &str, flags: Option<&str>) -> bool {
    pattern.len() <= MAX_PATTERN_BYTES
        && repeats(pattern) <= MAX_PATTERN_REPEATS
        && compile_regex(pattern, flags.filter(|flags| !flags.is_empty())).is_ok()
}

/// How many parts a pattern has at most once its counts are spelled out: the counts of single parts add up, and those
/// of groups, which may be within each other, multiply. Braces that hold no count, as in `\p{Greek}`, count once.
fn repeats(pattern: &str) -> u64 {
    let (mut single, mut grouped) = (0_u64, 1_u64);
    let pieces: Vec<&str> = pattern.split('{').collect();
    for pair in pieces.windows(2) {
        let counts = pair[1].split('}').next().unwrap_or_default();
        let count = counts.split(',').filter_map(|count| count.trim().parse().ok()).max().unwrap_or(1);
        if pair[0].ends_with(')') {
            grouped = grouped.saturating_mul(count.max(1));
        } else {
            single = single.saturating_add(count);
        }
    }
    single.max(1).saturating_mul(grouped)
}

/// A power is total when its base is not 0 or its exponent not negative; where only the exponent is known, and is
/// negative, the base is guarded.
fn power_is_total(args: &[Expr]) -> bool {
    let base_is_safe = args.first().and_then(number).is_some_and(|base| base != 0.0);
    base_is_safe || args.get(1).and_then(number).is_some()
}

/// A literal number of places. A float takes any, the others only places after the point.
fn is_places(places: &Expr, kind: &DataType) -> bool {
    integer(places).is_some_and(|places| i32::try_from(places).is_ok() && (is_float(kind) || places >= 0))
}

fn is_digest(name: &str) -> bool {
    matches!(name, "md5" | "sha224" | "sha256" | "sha384" | "sha512" | "blake2s" | "blake2b" | "blake3")
}

const fn is_float(kind: &DataType) -> bool {
    matches!(kind, DataType::Float32 | DataType::Float64)
}

fn is_number(kind: &DataType) -> bool {
    // The scale says by which power of ten a value is divided.
    is_float(kind) || kind.is_integer() || matches!(kind, DataType::Decimal128(_, scale) if *scale >= 0)
}

const fn fits_int64(kind: &DataType) -> bool {
    use DataType::{Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32};
    matches!(kind, Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32)
}

fn is_text(kind: &DataType) -> bool {
    matches!(decoded(kind), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

const fn is_bytes(kind: &DataType) -> bool {
    matches!(kind, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}

const fn is_moment(kind: &DataType) -> bool {
    matches!(kind, DataType::Date32 | DataType::Timestamp(_, None))
}

fn is_plain(kind: &DataType) -> bool {
    is_number(kind) || is_text(kind) || is_moment(kind) || *kind == DataType::Boolean
}

/// The value of a literal text.
fn text(expr: &Expr) -> Option<&str> {
    let Expr::Literal(value, _) = expr else { return None };
    value.try_as_str()?
}

/// The value of a literal integer.
fn integer(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Literal(value, _) if value.data_type().is_integer() => match value.cast_to(&DataType::Int64) {
            Ok(ScalarValue::Int64(integer)) => integer,
            _ => None,
        },
        _ => None,
    }
}

/// The value of a literal number.
fn number(expr: &Expr) -> Option<f64> {
    match expr {
        Expr::Literal(value, _) if is_number(&value.data_type()) => match value.cast_to(&DataType::Float64) {
            Ok(ScalarValue::Float64(number)) => number,
            _ => None,
        },
        _ => None,
    }
}
