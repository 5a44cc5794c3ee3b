//! A sum over rows that does not depend on their order, nor on how their strings are encoded.

use std::hash::Hasher;

use arrow::array::BooleanArray;
use arrow::compute::is_null;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use siphasher::sip128::{Hasher128, SipHasher13};

/// How many rows there are, and the sum of their hashes (SipHash-1-3 of 128 bits, modulo 2¹²⁸). Two sets of rows that differ
/// have one sum with a chance of about 2⁻¹²⁸; it guards against faults, not against whoever writes the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum {
    /// The rows.
    pub rows: u64,
    hashes: u128,
}

impl Sum {
    fn add(&mut self, row: &[u8]) {
        let mut hasher = SipHasher13::new();
        hasher.write(row);
        self.rows += 1;
        self.hashes = self.hashes.wrapping_add(hasher.finish128().as_u128());
    }

    /// The sum of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self { rows: self.rows + other.rows, hashes: self.hashes.wrapping_add(other.hashes) }
    }
}

/// The rows that belong to a unit, and those that belong to none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sums {
    /// Rows with a unit.
    pub of_units: Sum,
    /// Rows whose unit is NULL, which no query reads.
    pub of_none: Sum,
}

impl Sums {
    /// The sums of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self { of_units: self.of_units.and(other.of_units), of_none: self.of_none.and(other.of_none) }
    }
}

/// Adds up batches of one schema.
#[derive(Debug)]
pub(super) struct Checksum {
    converter: RowConverter,
    unit: usize,
    sums: Sums,
}

impl Checksum {
    /// Over rows of `schema`, whose unit is the column `unit`.
    pub(super) fn new(schema: &Schema, unit: usize) -> Result<Self, ArrowError> {
        let converter = RowConverter::new(fields(schema))?;
        Ok(Self { converter, unit, sums: Sums::default() })
    }

    pub(super) fn add(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        let rows = self.converter.convert_columns(batch.columns())?;
        let without_unit: BooleanArray = is_null(batch.column(self.unit))?;
        debug_assert_eq!(without_unit.len(), batch.num_rows());
        for (row, without_unit) in rows.iter().zip(without_unit.values()) {
            let sum = if without_unit { &mut self.sums.of_none } else { &mut self.sums.of_units };
            sum.add(row.as_ref());
        }
        Ok(())
    }

    pub(super) const fn sums(&self) -> Sums {
        self.sums
    }
}

fn fields(schema: &Schema) -> Vec<SortField> {
    schema.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect()
}

/// The first column of `schema` whose values have no form in which they could be compared.
pub(super) fn incomparable(schema: &Schema) -> Option<&arrow::datatypes::Field> {
    let comparable = |field: &&arrow::datatypes::FieldRef| {
        RowConverter::supports_fields(&[SortField::new(field.data_type().clone())])
    };
    schema.fields().iter().find(|field| !comparable(field)).map(AsRef::as_ref)
}
