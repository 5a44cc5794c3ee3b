use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float32Array, Float64Array,
    Int8Array, Int64Array, ListArray, StringArray, StringViewArray, StructArray, Time64MicrosecondArray,
    TimestampMicrosecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Int32Type, Schema};
use arrow::ipc::reader::StreamReader;
use arrow::record_batch::RecordBatch;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{to_arrow_stream, to_csv, to_json};
use crate::gateway::{Accuracy, Answer, GroupFacts, PrivacyFacts};

/// An answer of one batch a group of columns.
fn answer(columns: Vec<(&str, ArrayRef)>) -> Answer {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .expect("columns of one length");
    Answer {
        query_id: Uuid::nil(),
        schema: batch.schema(),
        accuracy: vec![None; batch.num_columns()],
        rows: Some(vec![batch]),
        privacy: PrivacyFacts {
            guarantee: "per person".to_owned(),
            epochs: std::collections::BTreeMap::new(),
            epsilon: 0.2,
            delta: 1e-9,
            rho: Some(0.000_675),
            delta_selection: 0.0,
            cached: false,
            charges: vec![],
        },
        budget: vec![],
        groups: GroupFacts { public: true, min_size: 1, units_to_appear_95: 1 },
        diagnostics: Vec::new(),
        receipt: None,
        free: None,
    }
}

/// The only column of `array`, as JSON has it.
fn json_of(array: impl arrow::array::Array + 'static) -> Value {
    let answer = answer(vec![("x", Arc::new(array))]);
    let document: Value = serde_json::from_slice(&to_json(&answer).expect("JSON")).expect("well-formed");
    document["rows"].as_array().expect("rows").iter().map(|row| row[0].clone()).collect()
}

#[test]
fn numbers_are_json_numbers_and_whole() {
    assert_eq!(
        json_of(Int64Array::from(vec![Some(i64::MIN), Some(i64::MAX), None])),
        json!([i64::MIN, i64::MAX, null])
    );
    assert_eq!(json_of(UInt64Array::from(vec![u64::MAX])), json!([u64::MAX]));
    assert_eq!(json_of(Int8Array::from(vec![-128])), json!([-128]));
    assert_eq!(json_of(BooleanArray::from(vec![Some(true), None])), json!([true, null]));
}

#[test]
fn what_is_no_number_in_json_is_null() {
    let values = vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.1, 1e300];
    assert_eq!(json_of(Float64Array::from(values)), json!([null, null, null, -0.1, 1e300]));
}

#[test]
fn single_precision_keeps_its_own_digits() {
    let text = to_json(&answer(vec![("x", Arc::new(Float32Array::from(vec![0.1])))])).expect("JSON");
    assert!(String::from_utf8_lossy(&text).contains("[[0.1]]"), "{}", String::from_utf8_lossy(&text));
}

#[test]
fn decimals_are_strings_at_their_scale() {
    let decimals = Decimal128Array::from(vec![Some(-12_345), Some(0), None]).with_precision_and_scale(38, 2);
    assert_eq!(json_of(decimals.expect("a decimal")), json!(["-123.45", "0.00", null]));
}

#[test]
fn times_are_iso_8601() {
    assert_eq!(json_of(Date32Array::from(vec![15_706])), json!(["2013-01-01"]));
    assert_eq!(json_of(TimestampSecondArray::from(vec![1_357_016_400])), json!(["2013-01-01T05:00:00"]));
    assert_eq!(
        json_of(TimestampMicrosecondArray::from(vec![1_357_016_400_250_000])),
        json!(["2013-01-01T05:00:00.250"])
    );
    for zone in ["UTC", "+02:00", "America/New_York", "no zone at all"] {
        let zoned = TimestampNanosecondArray::from(vec![1_357_016_400_000_000_000]).with_timezone(zone);
        assert_eq!(json_of(zoned), json!(["2013-01-01T05:00:00Z"]), "{zone}");
    }
    assert_eq!(json_of(Time64MicrosecondArray::from(vec![18_000_000_000])), json!(["05:00:00"]));
    // Beyond the calendar there is no text, and an error's text must not stand in for it.
    assert_eq!(json_of(TimestampSecondArray::from(vec![i64::MAX])), json!([null]));
}

#[test]
fn strings_are_strings_however_they_are_stored() {
    let plain = vec![Some("EWR"), None, Some("")];
    let expected = json!(["EWR", null, ""]);
    assert_eq!(json_of(StringArray::from(plain.clone())), expected);
    assert_eq!(json_of(StringViewArray::from(plain.clone())), expected);
    assert_eq!(json_of(plain.into_iter().collect::<DictionaryArray<Int32Type>>()), expected);
    assert_eq!(json_of(BinaryArray::from(vec![&[0_u8, 255][..]])), json!(["00ff"]));
}

#[test]
fn nested_values_are_arrays_and_objects() {
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![])]);
    assert_eq!(json_of(lists), json!([[1, null], null, []]));
    let field = Arc::new(Field::new("a", DataType::Int64, true));
    let records = StructArray::from(vec![(field, Arc::new(Int64Array::from(vec![7])) as ArrayRef)]);
    assert_eq!(json_of(records), json!([{ "a": 7 }]));
}

#[test]
fn json_has_the_shape_of_the_contract() {
    let mut answer = answer(vec![
        ("origin", Arc::new(StringArray::from(vec!["EWR"]))),
        ("n", Arc::new(Int64Array::from(vec![20_315]))),
    ]);
    let noise = Accuracy {
        mechanism: "discrete_gaussian",
        std_dev: Some(2357.0),
        half_width_95: Some(4620.0),
        per_row: false,
        quantile: None,
    };
    answer.accuracy = vec![None, Some(noise)];
    let expected = json!({
        "query_id": "00000000-0000-0000-0000-000000000000",
        "columns": [{"name": "origin", "type": "Utf8"}, {"name": "n", "type": "Int64"}],
        "rows": [["EWR", 20_315]],
        "accuracy": [null, {"mechanism": "discrete_gaussian", "std_dev": 2357.0, "half_width_95": 4620.0}],
        "privacy": {"guarantee": "per person", "epsilon": 0.2, "delta": 1e-9, "rho": 0.000_675, "delta_selection": 0.0, "cached": false, "charges": []},
        "budget": [],
        "groups": {"public": true, "min_size": 1, "units_to_appear_95": 1},
    });
    let found: Value = serde_json::from_slice(&to_json(&answer).expect("JSON")).expect("well-formed");
    assert_eq!(found, expected);

    answer.rows = None;
    let found: Value = serde_json::from_slice(&to_json(&answer).expect("JSON")).expect("well-formed");
    assert!(found.get("rows").is_none(), "a dry run has no rows at all");
}

#[test]
fn csv_follows_rfc_4180() {
    let answer = answer(vec![
        ("key, quoted", Arc::new(StringArray::from(vec![Some("a\"b"), Some("c,d"), Some("e\r\nf"), Some(""), None]))),
        ("x", Arc::new(Float64Array::from(vec![Some(1.5), Some(f64::NAN), None, Some(1e300), Some(-2.0)]))),
    ]);
    let text = String::from_utf8(to_csv(&answer).expect("CSV")).expect("UTF-8");
    let expected = "\"key, quoted\",x\r\n\"a\"\"b\",1.5\r\n\"c,d\",\r\n\"e\r\nf\",\r\n\"\",1e+300\r\n,-2.0\r\n";
    assert_eq!(text, expected);
}

#[test]
fn an_arrow_stream_reads_back_as_it_was() {
    let mut answer = answer(vec![
        ("k", Arc::new(StringArray::from(vec![Some("a"), None]))),
        ("x", Arc::new(Float64Array::from(vec![f64::NAN, 1.0]))),
    ]);
    let sent = answer.rows.clone().expect("rows");
    let bytes = to_arrow_stream(&answer).expect("a stream");
    let reader = StreamReader::try_new(bytes.as_slice(), None).expect("a schema");
    assert_eq!(reader.schema(), answer.schema);
    let read: Vec<RecordBatch> = reader.collect::<Result<_, _>>().expect("batches");
    assert_eq!(format!("{read:?}"), format!("{sent:?}"), "compared as text, since NaN is not equal to itself");

    answer.rows = None;
    let bytes = to_arrow_stream(&answer).expect("a stream");
    let reader = StreamReader::try_new(bytes.as_slice(), None).expect("a schema");
    assert_eq!(*reader.schema(), Schema::clone(&answer.schema));
    assert_eq!(reader.count(), 0, "a dry run has a schema alone");
}
