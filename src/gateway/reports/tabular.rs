//! A report as a table, so that every form of it says the same.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, StringArray, UInt64Array};
use arrow::datatypes::{Field, Schema};
use arrow::record_batch::RecordBatch;

use super::super::{GatewayError, translate};

/// What has the form of a table.
pub trait Tabular {
    /// Its rows, a column each. Exact decimals are texts; an ε, which was rounded up, is a number.
    ///
    /// # Errors
    /// `internal`, when Arrow cannot hold it.
    fn batch(&self) -> Result<RecordBatch, GatewayError>;
}

/// Columns as they are gathered.
#[derive(Default)]
pub(super) struct Columns {
    fields: Vec<Field>,
    arrays: Vec<ArrayRef>,
}

impl Columns {
    fn add(mut self, name: &str, array: ArrayRef) -> Self {
        self.fields.push(Field::new(name, array.data_type().clone(), true));
        self.arrays.push(array);
        self
    }

    /// A column of texts.
    pub(super) fn text(self, name: &str, values: impl Iterator<Item = Option<String>>) -> Self {
        self.add(name, Arc::new(values.collect::<StringArray>()))
    }

    /// A column of counts.
    pub(super) fn count(self, name: &str, values: impl Iterator<Item = Option<u64>>) -> Self {
        self.add(name, Arc::new(values.collect::<UInt64Array>()))
    }

    /// A column of numbers.
    pub(super) fn number(self, name: &str, values: impl Iterator<Item = Option<f64>>) -> Self {
        self.add(name, Arc::new(values.collect::<Float64Array>()))
    }

    pub(super) fn batch(self) -> Result<RecordBatch, GatewayError> {
        RecordBatch::try_new(Arc::new(Schema::new(self.fields)), self.arrays)
            .map_err(|_| translate::internal("a report has no form as a table"))
    }
}
