//! What policies need to know of Arrow types.

use arrow::datatypes::DataType;

use super::column::KeyKind;

/// The type of the values: that of a dictionary or a run-end array is what it encodes.
#[must_use]
pub fn value_type(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, values) => value_type(values),
        DataType::RunEndEncoded(_, values) => value_type(values.data_type()),
        other => other,
    }
}

/// Whether a column of this type may be a privacy unit: equality must be exact.
pub(super) fn is_unit(data_type: &DataType) -> bool {
    let data_type = value_type(data_type);
    data_type.is_integer()
        || matches!(
            data_type,
            DataType::Utf8
                | DataType::LargeUtf8
                | DataType::Utf8View
                | DataType::Binary
                | DataType::LargeBinary
                | DataType::BinaryView
                | DataType::FixedSizeBinary(_)
        )
}

/// Whether values of this type say when a row happened, in UTC.
pub(super) fn is_moment(data_type: &DataType) -> bool {
    match data_type {
        DataType::Date32 | DataType::Date64 => true,
        // Another zone's months are not those of UTC, and SQL over the column speaks of the zone's.
        DataType::Timestamp(_, zone) => zone.as_deref().is_none_or(|zone| zone == "UTC"),
        _ => false,
    }
}

/// Whether values of this type can be summed.
pub(super) fn is_number(data_type: &DataType) -> bool {
    value_type(data_type).is_numeric()
}

/// The kind of public keys that a column of this type may have.
pub(super) fn key_kind(data_type: &DataType) -> Option<KeyKind> {
    match value_type(data_type) {
        integer if integer.is_integer() => Some(KeyKind::Int),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some(KeyKind::Text),
        DataType::Boolean => Some(KeyKind::Bool),
        DataType::Date32 => Some(KeyKind::Date),
        _ => None,
    }
}

/// The least and the largest value of an integer type.
pub(super) fn integer_range(data_type: &DataType) -> Option<(i128, i128)> {
    Some(match value_type(data_type) {
        DataType::Int8 => (i8::MIN.into(), i8::MAX.into()),
        DataType::Int16 => (i16::MIN.into(), i16::MAX.into()),
        DataType::Int32 => (i32::MIN.into(), i32::MAX.into()),
        DataType::Int64 => (i64::MIN.into(), i64::MAX.into()),
        DataType::UInt8 => (0, u8::MAX.into()),
        DataType::UInt16 => (0, u16::MAX.into()),
        DataType::UInt32 => (0, u32::MAX.into()),
        DataType::UInt64 => (0, u64::MAX.into()),
        _ => return None,
    })
}
