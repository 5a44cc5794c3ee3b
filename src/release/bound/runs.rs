//! Runs: rows beside each other of one unit in one group, which become one record.
//!
//! ```text
//! unit  7 7 7 7 9 9      starts   0  2  4        lengths  2  2  2
//! date  a a b b b b
//! steps 3 1 5 5 2 0      sums     4  10 2
//! ```
//!
//! Data often comes order by order, or sorted by unit. What a unit adds is made of sums over its rows in a group, so that it is the
//! same however these are put together. Units and keys are looked up once for a run.

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::compute::{partition, take};
use arrow::datatypes::DataType;
use datafusion::common::Result;

/// The most rows of a run: as many as a record holds.
const LONGEST: usize = u8::MAX as usize;

/// How many rows are looked at for runs before all are.
const LOOK: usize = 512;

/// The runs of a batch.
pub(super) struct Runs {
    /// By run, its first row.
    starts: Vec<u32>,
    rows: usize,
}

impl Runs {
    /// The runs of rows that are alike in all `columns`, if there are at most half as many as `rows`. Values that are one but are
    /// written in two ways (texts of two dictionary codes, the two zeros) may part a run, which changes no sum.
    ///
    /// # Errors
    /// When columns cannot be compared.
    pub(super) fn of(columns: &[ArrayRef], rows: usize) -> Result<Option<Self>> {
        // Of one dictionary equal codes are equal values.
        let columns: Vec<ArrayRef> = columns
            .iter()
            .map(|column| match column.data_type() {
                DataType::Dictionary(..) => {
                    let keys = column.as_any_dictionary().keys();
                    keys.slice(0, keys.len())
                }
                _ => ArrayRef::clone(column),
            })
            .collect();
        if rows == 0 {
            return Ok(None);
        }
        // A look at the first of them tells most batches without runs.
        let look = rows.min(LOOK);
        let first: Vec<ArrayRef> = columns.iter().map(|column| column.slice(0, look)).collect();
        if partition(&first)?.len() * 4 > look * 3 {
            return Ok(None);
        }
        let runs = partition(&columns)?.ranges();
        if runs.len() * 2 > rows {
            return Ok(None);
        }
        let mut starts = Vec::with_capacity(runs.len() + rows / LONGEST);
        for run in runs {
            starts.extend(run.step_by(LONGEST).map(|start| start as u32));
        }
        Ok(Some(Self { starts, rows }))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    /// The first row of each.
    ///
    /// # Errors
    /// When a column has fewer rows.
    pub(super) fn firsts(&self, columns: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
        let starts = UInt32Array::from(self.starts.clone());
        columns.iter().map(|column| Ok(take(column, &starts, None)?)).collect()
    }

    /// How many rows each has.
    pub(super) fn lengths(&self) -> Vec<u8> {
        self.each().map(|(start, end)| (end - start) as u8).collect()
    }

    /// The sum of the values of each.
    pub(super) fn sums<T: Copy + Default + std::ops::AddAssign>(&self, values: &[T]) -> Vec<T> {
        let sum = |(start, end): (usize, usize)| {
            let mut sum = T::default();
            for value in &values[start..end] {
                sum += *value;
            }
            sum
        };
        self.each().map(sum).collect()
    }

    fn each(&self) -> impl Iterator<Item = (usize, usize)> {
        let ends = self.starts.iter().skip(1).map(|start| *start as usize).chain(std::iter::once(self.rows));
        self.starts.iter().map(|start| *start as usize).zip(ends)
    }
}
