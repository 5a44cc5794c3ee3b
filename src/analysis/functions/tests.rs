//! The table is held against the engine's registry, and every call that it allows against hostile values.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array,
    Int16Array, Int32Array, Int64Array, LargeStringArray, StringArray, StringViewArray, TimestampMicrosecondArray,
    TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt8Array, UInt16Array, UInt32Array,
    UInt64Array,
};
use arrow::compute::{cast, concat, take};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::datasource::MemTable;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, ExprSchemable, ScalarUDF, col, lit};
use datafusion::prelude::SessionContext;
use futures::FutureExt;

use super::{Class, Totality, Why, alike, calendar, class, interval, is_small_pattern, table, total};
use crate::analysis::interval::Interval;
use crate::engine::{Engine, EngineConfig};

fn registry() -> SessionState {
    SessionStateBuilder::new().with_default_features().build()
}

#[test]
fn the_table_has_every_function_of_the_engine_and_no_other() {
    let state = registry();
    let registered: BTreeSet<&str> = state.scalar_functions().keys().map(String::as_str).collect();
    let names: Vec<&str> = table::TABLE.iter().flat_map(|(names, _)| names.iter().copied()).collect();
    let tabled: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(names.len(), tabled.len(), "a name twice");
    assert_eq!(registered.difference(&tabled).collect::<Vec<_>>(), Vec::<&&str>::new(), "not in the table");
    assert_eq!(tabled.difference(&registered).collect::<Vec<_>>(), Vec::<&&str>::new(), "not in the engine");
    for (names, _) in table::TABLE {
        let function = &state.scalar_functions()[names[0]];
        assert_eq!(function.name(), names[0], "the engine's own name comes first");
        assert!(names[1..].iter().all(|name| function.aliases().iter().any(|alias| alias == name)), "{names:?}");
    }
    let engine = Engine::new(&EngineConfig::default()).unwrap();
    let ours: BTreeSet<&str> = engine.state().scalar_functions().keys().map(String::as_str).collect();
    assert!(ours.is_subset(&tabled), "{:?}", ours.difference(&tabled).collect::<Vec<_>>());
}

#[test]
fn what_is_not_immutable_is_refused() {
    use datafusion::logical_expr::Volatility;
    for function in registry().scalar_functions().values() {
        if function.signature().volatility != Volatility::Immutable {
            assert!(matches!(class(function.name()), Class::Refused(_)), "{}", function.name());
        }
    }
}

/// Hostile values of each type, in columns of one name that may be NULL and of another that may not.
fn columns() -> Vec<(&'static str, ArrayRef)> {
    let long = "x".repeat(5_000);
    let wide = "ß\u{130}日本𝄞e\u{301}".repeat(300);
    let texts: Vec<&str> = vec![
        "",
        " ",
        "a",
        "abc",
        "a,b,,c",
        "1",
        "-1e400",
        "NaN",
        "true",
        "2025-01-31",
        "ÀÉ",
        "ŉΐß",
        "日本語テキスト",
        "𝄞𝄞",
        "e\u{301}",
        "\0",
        "%_\\",
        "(((",
        "twelve bytes",
        "thirteen byte",
        "ééééééé",
        &long,
        &wide,
        "\u{10FFFF}",
    ];
    let i64s = vec![
        i64::MIN,
        i64::MIN + 1,
        i64::MAX,
        i64::MAX - 1,
        0,
        1,
        -1,
        2,
        38,
        39,
        1_000,
        -86_400,
        253_402_300_800,
        -62_135_596_801,
        8_210_266_876_800,
        -9_223_372_037,
        9_223_372_037,
        9_223_372_036_855,
        -9_223_372_036_856,
        1_735_689_600,
        1_735_689_600_000,
        1_735_689_600_000_000,
        1_735_689_600_000_000_000,
        -9_223_286_400_000_000_001,
    ];
    let i32s = vec![i32::MIN, i32::MIN + 1, i32::MAX, 0, 1, -1, 106_751, -106_752, 95_026_237, -96_465_293, 20_000, 59];
    let f64s = vec![
        f64::NAN,
        -f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        -0.5,
        2.5,
        f64::MAX,
        f64::MIN,
        f64::MIN_POSITIVE,
        -f64::from_bits(1),
        f64::from_bits(1),
        1e308,
        -1e15,
        710.0,
        std::f64::consts::FRAC_PI_2,
    ];
    let digits = |count: u32| 10_i128.pow(count) - 1;
    let decimals = |count: u32| vec![digits(count), -digits(count), 0, 1, -1, 5, 50, 99, digits(count) / 2, 950];
    let decimal = |precision: u8, scale: i8| -> ArrayRef {
        let values = Decimal128Array::from(decimals(precision.into()));
        Arc::new(values.with_precision_and_scale(precision, scale).unwrap())
    };
    vec![
        ("b", Arc::new(BooleanArray::from(vec![true, false]))),
        ("i8", Arc::new(Int8Array::from(vec![i8::MIN, i8::MAX, 0, 1, -1, 7]))),
        ("i16", Arc::new(Int16Array::from(vec![i16::MIN, i16::MAX, 0, 1, -1]))),
        ("i32", Arc::new(Int32Array::from(i32s.clone()))),
        ("i64", Arc::new(Int64Array::from(i64s.clone()))),
        ("u8", Arc::new(UInt8Array::from(vec![0, 1, u8::MAX]))),
        ("u16", Arc::new(UInt16Array::from(vec![0, 1, u16::MAX]))),
        ("u32", Arc::new(UInt32Array::from(vec![0, 1, u32::MAX]))),
        ("u64", Arc::new(UInt64Array::from(vec![0, 1, u64::MAX, 1 << 63]))),
        (
            "f32",
            Arc::new(f64s.iter().map(|x| Some(*x as f32)).chain([Some(-f32::from_bits(1))]).collect::<Float32Array>()),
        ),
        ("f64", Arc::new(Float64Array::from(f64s))),
        ("d15", decimal(15, 2)),
        ("d38", decimal(38, 0)),
        ("d38s", decimal(38, 38)),
        ("d20", decimal(20, 10)),
        ("t", Arc::new(StringArray::from(texts.clone()))),
        ("tl", Arc::new(LargeStringArray::from(texts.clone()))),
        ("tv", Arc::new(StringViewArray::from(texts.clone()))),
        ("bin", Arc::new(BinaryArray::from(vec![&b""[..], &[0xff, 0xfe], &[0; 100]]))),
        ("d", Arc::new(Date32Array::from(i32s))),
        ("s", Arc::new(TimestampSecondArray::from(i64s.clone()))),
        ("ms", Arc::new(TimestampMillisecondArray::from(i64s.clone()))),
        ("us", Arc::new(TimestampMicrosecondArray::from(i64s.clone()))),
        ("ns", Arc::new(TimestampNanosecondArray::from(i64s))),
    ]
}

/// The columns as one table, of `rows` rows, each column turned by another count, so that values meet in many pairs.
fn hostile(rows: usize) -> RecordBatch {
    let mut fields = Vec::new();
    let mut arrays = Vec::new();
    for (at, (name, values)) in columns().into_iter().enumerate() {
        let null = arrow::array::new_null_array(values.data_type(), 1);
        let with_null = concat(&[values.as_ref(), null.as_ref()]).unwrap();
        for (suffix, values) in [("", with_null), ("_required", values)] {
            let turned = (0..rows).map(|row| ((row * (at + 1) + row / 24 + at) % values.len()) as u64);
            arrays.push(take(&values, &UInt64Array::from_iter_values(turned), None).unwrap());
            fields.push(Field::new(format!("{name}{suffix}"), values.data_type().clone(), suffix.is_empty()));
        }
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

fn context(batch: &RecordBatch) -> (SessionContext, DFSchema) {
    let context = SessionContext::new_with_state(registry());
    let table = MemTable::try_new(batch.schema(), vec![vec![batch.clone()]]).unwrap();
    context.register_table("t", Arc::new(table)).unwrap();
    let schema = DFSchema::try_from_qualified_schema("t", &batch.schema()).unwrap();
    (context, schema)
}

/// Literals of every kind that an argument can be: most are only right for few functions.
fn literals() -> Vec<Expr> {
    let texts = ["", ",", "a", "abc", "é𝄞", "sha256", "blake3", "md5", "i", "^[a-z]{2,5}(b|é)*$", "(unclosed", "%"];
    let parts = [
        "year",
        "isoyear",
        "quarter",
        "month",
        "week",
        "day",
        "doy",
        "dow",
        "isodow",
        "hour",
        "MINUTE",
        "second",
        "millisecond",
        "microsecond",
        "nanosecond",
        "epoch",
        "century",
    ];
    let mut literals: Vec<Expr> = texts.into_iter().chain(parts).map(lit).collect();
    literals.extend([i64::MIN, i64::MIN + 1, -400, -38, -1, 0, 1, 2, 15, 40, 400, i64::MAX].map(lit));
    literals.extend([f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -2.0, -0.5, -0.0, 0.0, 0.5, 3.0].map(lit));
    literals.push(lit(ScalarValue::Null));
    literals.push(lit(ScalarValue::Date32(Some(20_000))));
    literals
}

fn call(function: &Arc<ScalarUDF>, args: &[Expr], schema: &DFSchema) -> Result<Expr, Why> {
    let types: Vec<DataType> = args.iter().map(|arg| arg.get_type(schema).unwrap()).collect();
    total(function, args.to_vec(), &types, schema)
}

/// Runs expressions over the table, together, and one by one if together they fail.
async fn run(context: &SessionContext, exprs: &[Expr]) -> Result<RecordBatch, String> {
    let named: Vec<Expr> = exprs.iter().enumerate().map(|(at, expr)| expr.clone().alias(format!("x{at}"))).collect();
    let run = async {
        let batches = context.table("t").await?.select(named)?.collect().await?;
        Ok::<_, datafusion::error::DataFusionError>(arrow::compute::concat_batches(&batches[0].schema(), &batches)?)
    };
    match AssertUnwindSafe(run).catch_unwind().await {
        Ok(Ok(batch)) => Ok(batch),
        Ok(Err(error)) => Err(error.strip_backtrace()),
        Err(_) => Err("a panic".to_owned()),
    }
}

/// Every call of a function on columns and literals that is allowed and that SQL could have planned.
fn allowed(function: &Arc<ScalarUDF>, totality: Totality, schema: &DFSchema) -> Vec<Expr> {
    let columns: Vec<Expr> = schema.fields().iter().map(|field| col(field.name())).collect();
    let nullable: Vec<Expr> = columns.iter().step_by(2).cloned().collect();
    let literals = literals();
    let any: Vec<Expr> = columns.iter().chain(&literals).cloned().collect();
    let seconds: Vec<Expr> = nullable.iter().chain(&literals).cloned().collect();
    let mut calls: Vec<Vec<Expr>> = vec![vec![]];
    calls.extend(any.iter().map(|first| vec![first.clone()]));
    for first in &any {
        calls.extend(seconds.iter().map(|second| vec![first.clone(), second.clone()]));
    }
    // The functions of three arguments take literals for most of them, or values of one kind.
    for first in &columns {
        match totality {
            Totality::Alike => {
                for second in &nullable {
                    calls.extend([0, 5, 11, 15].map(|at| vec![first.clone(), second.clone(), nullable[at].clone()]));
                }
            }
            Totality::Substring => {
                for second in &seconds {
                    calls.extend(seconds.iter().map(|third| vec![first.clone(), second.clone(), third.clone()]));
                }
            }
            Totality::Split | Totality::Pattern | Totality::WithTextLiterals => {
                for second in &literals {
                    calls.extend(literals.iter().map(|third| vec![first.clone(), second.clone(), third.clone()]));
                }
            }
            _ => {}
        }
    }
    // What SQL cannot plan fails before any row is read.
    let planned = |args: &[Expr]| {
        let written = ScalarFunction { func: Arc::clone(function), args: args.to_vec() };
        Expr::ScalarFunction(written).get_type(schema).is_ok()
    };
    calls.into_iter().filter_map(|args| call(function, &args, schema).ok().filter(|_| planned(&args))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_value_makes_an_allowed_call_fail() {
    let (context, schema) = context(&hostile(192));
    let state = registry();
    let mut failures = Vec::new();
    for (names, class) in table::TABLE {
        let Class::Total(totality) = class else { continue };
        let exprs = allowed(&state.scalar_functions()[names[0]], *totality, &schema);
        assert!(!exprs.is_empty(), "{names:?} is allowed on nothing");
        for some in exprs.chunks(64) {
            let Err(together) = run(&context, some).await else { continue };
            let before = failures.len();
            for expr in some {
                if let Err(error) = run(&context, std::slice::from_ref(expr)).await {
                    failures.push(format!("{expr}: {error}"));
                }
            }
            if before == failures.len() {
                failures.push(format!("{names:?} together: {together}"));
            }
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures[..failures.len().min(40)].join("\n"));
}

/// The calls of an SQL expression, guarded from the inside out as the analysis does.
fn guarded(expr: Expr, schema: &DFSchema) -> Result<Expr, Why> {
    use datafusion::common::tree_node::{Transformed, TreeNode};
    let mut refused = None;
    let guarded = expr
        .transform_up(|expr| {
            let Expr::ScalarFunction(function) = &expr else { return Ok(Transformed::no(expr)) };
            match call(&function.func, &function.args, schema) {
                Ok(guarded) => Ok(Transformed::yes(guarded)),
                Err(why) => {
                    refused = Some(why);
                    Ok(Transformed::no(expr))
                }
            }
        })
        .unwrap();
    refused.map_or(Ok(guarded.data), Err)
}

#[tokio::test]
async fn what_analysts_write_is_allowed() {
    let (context, schema) = context(&hostile(48));
    for sql in [
        "date_trunc('month', us)",
        "date_trunc('week', d_required)",
        "extract(month FROM d)",
        "extract(hour FROM us_required)",
        "extract(epoch FROM s)",
        "date_part('dow', ns)",
        "substr(t, 1, 3)",
        "substring(tv, 2)",
        "substring(t FROM 2 FOR 3)",
        "substr(t, strpos(t, ',') + 1)",
        "left(t, 2)",
        "right(tv, 2)",
        "left(t, length(t) - 1)",
        "split_part(t, ',', 2)",
        "split_part(t, ',', -1)",
        "lower(trim(t))",
        "trim(BOTH 'x' FROM tv)",
        "upper(ltrim(tl, ' '))",
        "length(t)",
        "position(',' IN t)",
        "starts_with(t, 'a')",
        "regexp_like(t, '^[0-9]{5}(-[0-9]{4})?$')",
        "regexp_like(tv, 'abc', 'i')",
        "translate(t, 'àé', 'ae')",
        "initcap(reverse(t))",
        "round(f64, 2)",
        "round(d15, 1)",
        "round(i64)",
        "trunc(f32)",
        "floor(i64)",
        "ceil(f64 / 10.0)",
        "abs(i64)",
        "abs(d38)",
        "sqrt(f64)",
        "sqrt(i32_required)",
        "power(f64, 2)",
        "power(i64, -1)",
        "power(2, f64)",
        "log(f64)",
        "log(2, d15)",
        "ln(u64)",
        "log10(f32)",
        "least(greatest(f64, 0), 100)",
        "least(greatest(i32, 0), 100)",
        "coalesce(d15, 0)",
        "coalesce(t, 'none')",
        "coalesce(tv, tl, 'none')",
        "nullif(i64, -1)",
        "nvl(d, DATE '2025-01-31')",
        "ifnull(f64, 0)",
        "nvl2(f64, 1.0, 0.0)",
        "nanvl(f64, 0)",
        "md5(t)",
        "sha256(bin)",
        "digest(t, 'blake3')",
        "to_hex(i64)",
        "from_unixtime(i64)",
        "date_trunc('day', from_unixtime(i64))",
        "extract(year FROM date_trunc('quarter', ms_required))",
        "atan2(f64, f32) * pi()",
    ] {
        let planned = context.table("t").await.unwrap().parse_sql_expr(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
        let expr = guarded(planned, &schema).unwrap_or_else(|why| panic!("{sql}: {why:?}"));
        let batch = run(&context, std::slice::from_ref(&expr)).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        // The optimizer turns some calls that are compared with a literal into something else.
        for row in 0..batch.num_rows() {
            let value = ScalarValue::try_from_array(batch.column(0), row).unwrap();
            for condition in [expr.clone().eq(lit(value.clone())), expr.clone().lt(lit(value))] {
                let filtered = context.table("t").await.unwrap().filter(condition).unwrap().collect().await;
                assert!(filtered.is_ok(), "{sql}: {filtered:?}");
            }
        }
    }
}

#[tokio::test]
async fn what_may_fail_is_refused() {
    let (context, schema) = context(&hostile(1));
    for (sql, why) in [
        ("coalesce(t, 0)", Why::Arguments(Totality::Alike)),
        ("nullif(t, 5)", Why::Arguments(Totality::Alike)),
        ("greatest(d, '2025-01-31')", Why::Arguments(Totality::Alike)),
        ("greatest(d15, f64)", Why::Arguments(Totality::Alike)),
        ("greatest(us, d)", Why::Arguments(Totality::Alike)),
        ("coalesce(d38, d38s)", Why::Arguments(Totality::Alike)),
        ("ceil(d15)", Why::Arguments(Totality::OnFloats)),
        ("round(i64, -2)", Why::Arguments(Totality::Rounding)),
        ("round(f64, i64)", Why::Arguments(Totality::Rounding)),
        ("power(f64, f64)", Why::Arguments(Totality::Power)),
        ("power(0, f64)", Why::Arguments(Totality::Power)),
        ("substr(t, 1, -1)", Why::Arguments(Totality::Substring)),
        ("split_part(t, ',', 0)", Why::Arguments(Totality::Split)),
        ("split_part(t, ',', i64)", Why::Arguments(Totality::Split)),
        ("strpos(t, tv)", Why::Arguments(Totality::WithTextLiterals)),
        ("regexp_like(t, tv)", Why::Arguments(Totality::Pattern)),
        ("regexp_like(t, '(')", Why::Arguments(Totality::Pattern)),
        ("regexp_like(t, '(a{100}){100}')", Why::Arguments(Totality::Pattern)),
        ("regexp_like(t, 'a', 'x')", Why::Arguments(Totality::Pattern)),
        ("date_trunc('century', us)", Why::Arguments(Totality::DateTrunc)),
        ("date_part('month', t)", Why::Arguments(Totality::DatePart)),
        ("length(i64)", Why::Arguments(Totality::OnText)),
        ("gcd(i64, i64)", Why::Fails),
        ("to_timestamp(t)", Why::Fails),
        ("now()", Why::Session),
        ("random()", Why::Volatile),
        ("repeat(t, 9)", Why::Grows),
        ("levenshtein(t, tv)", Why::NotLinear),
        ("regexp_match(t, 'a')", Why::Nested),
        ("arrow_typeof(t)", Why::Metadata),
        ("to_char(d, '%Y')", Why::Unsafe),
    ] {
        let planned = context.table("t").await.unwrap().parse_sql_expr(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
        assert_eq!(guarded(planned, &schema), Err(why), "{sql}");
        assert!(!why.reason().is_empty() && !why.hint().is_empty());
    }
    assert_eq!(class("no_such_function"), Class::Refused(Why::Unknown));
}

async fn float(context: &SessionContext, expr: &Expr) -> Vec<Option<f64>> {
    let batch = run(context, std::slice::from_ref(expr)).await.unwrap();
    let floats = cast(batch.column(0), &DataType::Float64).unwrap();
    floats.as_primitive::<Float64Type>().iter().collect()
}

#[tokio::test]
async fn guards_change_only_what_would_fail() {
    let numbers = [Some(-4.0), Some(-0.0), Some(0.0), Some(4.0), Some(f64::INFINITY), None];
    let ints = [Some(i64::MIN), Some(-3), Some(0), Some(3), Some(i64::MAX), None];
    let texts = ["héllo"; 6];
    let batch = RecordBatch::try_from_iter([
        ("f", Arc::new(Float64Array::from(numbers.to_vec())) as ArrayRef),
        ("i", Arc::new(Int64Array::from(ints.to_vec()))),
        ("t", Arc::new(StringArray::from(texts.to_vec()))),
    ])
    .unwrap();
    let (context, schema) = context(&batch);
    for (sql, wanted) in [
        ("sqrt(f)", [None, Some(-0.0), Some(0.0), Some(2.0), Some(f64::INFINITY), None]),
        ("power(f, -1)", [Some(-0.25), None, None, Some(0.25), Some(0.0), None]),
        ("power(f, 2)", [Some(16.0), Some(0.0), Some(0.0), Some(16.0), Some(f64::INFINITY), None]),
        ("abs(i)", [None, Some(3.0), Some(0.0), Some(3.0), Some(i64::MAX as f64), None]),
        ("length(substr(t, i))", [None, Some(5.0), Some(5.0), Some(3.0), Some(0.0), None]),
        ("length(substr(t, 1, i))", [None, None, Some(0.0), Some(3.0), Some(5.0), None]),
        ("extract(epoch FROM from_unixtime(i))", [None, Some(-3.0), Some(0.0), Some(3.0), None, None]),
    ] {
        let planned = context.table("t").await.unwrap().parse_sql_expr(sql).unwrap();
        let expr = guarded(planned, &schema).unwrap();
        assert_eq!(float(&context, &expr).await, wanted, "{sql}");
    }
}

#[tokio::test]
async fn parts_of_dates_lie_in_the_calendar() {
    let days = Int32Array::from_iter_values((-800_000..=800_000).step_by(997).chain(19_000..20_500));
    let seconds = days.iter().map(|day| day.map(|day| i64::from(day) * 86_400 + i64::from(day % 86_400).abs()));
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("d", cast(&days, &DataType::Date32).unwrap(), true),
        ("s", Arc::new(seconds.collect::<TimestampSecondArray>()) as ArrayRef, false),
    ])
    .unwrap();
    let (context, schema) = context(&batch);
    let state = registry();
    let function = &state.scalar_functions()["date_part"];
    for part in ["quarter", "month", "week", "day", "doy", "dow", "isodow", "hour", "minute", "second"] {
        let keys = calendar("date_part", &[lit(part)]).unwrap();
        for moment in ["d", "s"] {
            let args = [lit(part), col(moment)];
            let expr = call(function, &args, &schema).unwrap();
            assert_eq!(expr.get_type(&schema).unwrap(), DataType::Int32);
            assert_eq!(expr.nullable(&schema).unwrap(), moment == "d", "a column that is never NULL keeps its keys");
            let batch = run(&context, &[expr]).await.unwrap();
            let found = cast(batch.column(0), &DataType::Int64).unwrap();
            let found: BTreeSet<i64> = found.as_primitive::<Int64Type>().iter().flatten().collect();
            assert!(found.iter().all(|key| keys.contains(key)), "{part} of {moment}: {found:?}");
            let of_day = !matches!(part, "hour" | "minute" | "second");
            assert!(!of_day || found.len() == keys.clone().count(), "{part} of {moment}: {found:?}");
        }
    }
    assert_eq!(calendar("date_part", &[lit("year")]), None);
    assert_eq!(calendar("date_part", &[lit("microsecond")]), None);
    assert_eq!(calendar("date_trunc", &[lit("month")]), None);
}

#[tokio::test]
async fn values_lie_in_their_intervals() {
    let grid = |lo: f64, hi: f64| (0..=200).map(move |step| lo + (hi - lo) * f64::from(step) / 200.0);
    let one = |name: &'static str| (name, vec![col("x")]);
    let mut calls: Vec<(&str, Vec<Expr>)> = [
        "abs", "acos", "acosh", "asin", "asinh", "atan", "cbrt", "ceil", "cos", "cosh", "degrees", "exp", "floor",
        "ln", "log", "log10", "log2", "radians", "round", "signum", "sin", "sinh", "sqrt", "tanh", "trunc",
    ]
    .map(one)
    .to_vec();
    for exponent in [-2.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0] {
        calls.push(("power", vec![col("x"), lit(exponent)]));
    }
    for places in [-1_i64, 0, 1, 3] {
        calls.push(("round", vec![col("x"), lit(places)]));
        calls.push(("trunc", vec![col("x"), lit(places)]));
    }
    calls.push(("log", vec![lit(2.0), col("x")]));
    let state = registry();
    let mut proven = BTreeSet::new();
    for (lo, hi) in [(-3.0, -0.5), (-2.0, 5.0), (0.0, 1.0), (0.25, 7.5), (3.0, 3.0)] {
        let values = Float64Array::from_iter_values(grid(lo, hi));
        let batch = RecordBatch::try_from_iter([("x", Arc::new(values) as ArrayRef)]).unwrap();
        let (context, schema) = context(&batch);
        for (name, args) in &calls {
            let intervals: Vec<_> = args
                .iter()
                .map(|arg| Some(super::number(arg).map_or(Interval::new(lo, hi), Interval::point)))
                .collect();
            let Some(interval) = interval(name, args, &intervals) else { continue };
            proven.insert(*name);
            let expr = call(&state.scalar_functions()[*name], args, &schema).unwrap();
            for value in float(&context, &expr).await.into_iter().flatten().filter(|value| !value.is_nan()) {
                let hull = interval.hull(Interval::point(value));
                // The functions need not round alike.
                let far = |(a, b): (f64, f64), (c, d): (f64, f64)| (a - c).abs() > 1e-9 || (b - d).abs() > 1e-9;
                let outside = match (hull.finite(), interval.finite()) {
                    (Some(hull), Some(interval)) => far(hull, interval),
                    _ => hull != interval,
                };
                assert!(!outside, "{name} of {args:?} on {lo}..{hi}: {value} is not in {interval:?}");
            }
        }
    }
    assert_eq!(proven.len(), 26, "{proven:?}");
}

#[test]
fn types_are_alike_when_no_cast_between_them_fails() {
    use DataType::{
        Boolean, Date32, Decimal128, Float16, Float64, Int8, Int64, Null, Timestamp, UInt64, Utf8, Utf8View,
    };
    use arrow::datatypes::TimeUnit::{Microsecond, Nanosecond};
    for types in [
        vec![Int8, Int64, Null],
        vec![Int64, Float64],
        vec![UInt64, Float64],
        vec![UInt64, Int64],
        vec![Utf8, Utf8View],
        vec![Date32, Null],
        vec![Boolean, Boolean],
        vec![Decimal128(38, 4), Decimal128(38, 4)],
        vec![Decimal128(15, 2), Decimal128(30, 10)],
        vec![Decimal128(15, 2), Int64],
    ] {
        assert!(alike(&types), "{types:?}");
    }
    for types in [
        vec![Utf8, Int64],
        vec![Utf8, Date32],
        vec![Date32, Int64],
        vec![Date32, Timestamp(Microsecond, None)],
        vec![Timestamp(Microsecond, None), Timestamp(Nanosecond, None)],
        vec![Decimal128(15, 2), Float64],
        vec![Decimal128(38, 20), Int64],
        vec![Decimal128(15, 2), Decimal128(38, 0)],
        vec![Float16, Float64],
        vec![Float16, Float16],
    ] {
        assert!(!alike(&types), "{types:?}");
    }
}

#[test]
fn patterns_are_small() {
    for pattern in [
        "",
        "^a",
        r"\d{4}-\d{2}-\d{2}",
        r"^\p{Greek}+$",
        "[A-Z]{2}[0-9]{2}",
        "a{3,}",
        r"^\d{5}(-\d{4})?$",
        "(ab{2}){9}",
    ] {
        assert!(is_small_pattern(pattern, None), "{pattern}");
    }
    let long = "a".repeat(129);
    for pattern in ["(", "a{1000}", "(a{20}){20}", "((a{9}){9}){9}", "a{,", r"(?<x>", &long, "a{99999999999}"] {
        assert!(!is_small_pattern(pattern, None), "{pattern}");
    }
}
