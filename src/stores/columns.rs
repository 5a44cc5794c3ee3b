//! When files, or the members of a collection, have the same columns.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

/// The one schema that rows of `one` and of `other` are read as; `None` when they differ. A string that one of them hands out as
/// a dictionary and the other does not, as where a part of the data has been through `source optimize`, is read as a string.
#[must_use]
pub fn joined(one: &SchemaRef, other: &SchemaRef) -> Option<SchemaRef> {
    if one == other {
        return Some(Arc::clone(one));
    }
    if one.fields().len() != other.fields().len() {
        return None;
    }
    let both = one.fields().iter().zip(other.fields());
    let field = |(one, other): (&Arc<Field>, &Arc<Field>)| {
        if one == other {
            return Some(one.as_ref().clone());
        }
        let data_type = text(one.data_type()).filter(|data_type| text(other.data_type()) == Some(*data_type))?;
        let same = one.name() == other.name() && one.is_nullable() == other.is_nullable();
        same.then(|| Field::new(one.name(), data_type.clone(), one.is_nullable()))
    };
    Some(Arc::new(Schema::new(both.map(field).collect::<Option<Vec<_>>>()?)))
}

/// The type of the strings that a column holds, be it by a dictionary.
fn text(data_type: &DataType) -> Option<&DataType> {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some(data_type),
        DataType::Dictionary(_, values) => text(values),
        _ => None,
    }
}
