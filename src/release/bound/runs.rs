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

use std::num::Wrapping;
use std::ops::{Add, Sub};

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array, downcast_primitive_array};
use arrow::compute::{partition, take};
use arrow::datatypes::DataType;
use datafusion::common::Result;

use super::identity::{as_views, follows_its_like, is_bytes};

/// The most rows of a run: as many as a record holds.
const LONGEST: usize = u8::MAX as usize;

/// How many rows are looked at for runs before all are.
const LOOK: usize = 512;

/// The runs of a batch.
pub(super) struct Runs {
    /// By run, its first row; and at the end how many rows there are.
    starts: Vec<u32>,
}

impl Runs {
    /// The runs of rows that are alike in all `columns`, if there are at most half as many as `rows`. Values that are one but are
    /// written in two ways (texts of two dictionary codes, two NaNs) may part a run, which changes no sum.
    ///
    /// # Errors
    /// When columns cannot be compared.
    pub(super) fn of(columns: &[ArrayRef], rows: usize) -> Result<Option<Self>> {
        // A look at the first of them tells most batches without runs.
        let look = rows.min(LOOK);
        let first: Vec<ArrayRef> = columns.iter().map(|column| column.slice(0, look)).collect();
        let count: usize = starts(&first, look)?.into_iter().map(usize::from).sum();
        if count * 2 > look {
            return Ok(None);
        }
        let is_start = starts(columns, rows)?;
        // A row is put where the next start would be, and counts if it is one, so that nothing is guessed.
        let mut starts = vec![0; rows + 1];
        let mut count = 0;
        for (row, is_start) in is_start.iter().enumerate() {
            starts[count] = row as u32;
            count += usize::from(*is_start);
        }
        starts.truncate(count);
        starts.push(rows as u32);
        Ok((count * 2 <= rows).then_some(Self { starts }))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// The first row of each.
    ///
    /// # Errors
    /// When a column has fewer rows.
    pub(super) fn firsts(&self, columns: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
        let starts = UInt32Array::from(self.starts[..self.len()].to_vec());
        columns.iter().map(|column| Ok(take(column, &starts, None)?)).collect()
    }

    /// How many rows each has.
    pub(super) fn lengths(&self) -> Vec<u8> {
        self.starts.windows(2).map(|ends| (ends[1] - ends[0]) as u8).collect()
    }

    /// The sum of the values of each, which must fit: sums over all rows so far may run over, and their differences do not.
    pub(super) fn sums<T: Copy + Default>(&self, values: &[T]) -> Vec<T>
    where
        Wrapping<T>: Add<Output = Wrapping<T>> + Sub<Output = Wrapping<T>>,
    {
        let mut sum = Wrapping(T::default());
        let mut so_far = vec![T::default(); values.len() + 1];
        for (so_far, value) in so_far[1..].iter_mut().zip(values) {
            sum = sum + Wrapping(*value);
            *so_far = sum.0;
        }
        let between = |ends: &[u32]| (Wrapping(so_far[ends[1] as usize]) - Wrapping(so_far[ends[0] as usize])).0;
        self.starts.windows(2).map(between).collect()
    }
}

/// By row, 1 where a run begins, else 0.
fn starts(columns: &[ArrayRef], rows: usize) -> Result<Vec<u8>> {
    let mut is_start = vec![0; rows];
    is_start.iter_mut().step_by(LONGEST).for_each(|is_start| *is_start = 1);
    let (bytes, others): (Vec<_>, Vec<_>) = columns.iter().partition(|column| is_bytes(column.data_type()));
    for column in others.into_iter().chain(bytes) {
        part(column, &mut is_start)?;
    }
    Ok(is_start)
}

/// Marks the rows that are not as the row before.
fn part(column: &ArrayRef, is_start: &mut [u8]) -> Result<()> {
    fn part_by<T: PartialEq>(values: &[T], is_start: &mut [u8]) {
        if let ([_, following @ ..], [_, is_start @ ..]) = (values, is_start) {
            for ((before, value), is_start) in values.iter().zip(following).zip(is_start) {
                *is_start |= u8::from(before != value);
            }
        }
    }
    if let DataType::Dictionary(..) = column.data_type() {
        // Of one dictionary equal codes are equal values.
        let keys = column.as_any_dictionary().keys();
        return part(&keys.slice(0, keys.len()), is_start);
    }
    if is_bytes(column.data_type()) {
        let values = as_views(column)?;
        let nulls = values.nulls();
        for (row, is_start) in is_start.iter_mut().enumerate().skip(1) {
            // Where another column parts the rows there is nothing to compare.
            if *is_start == 0 {
                let is_alike = match nulls.map(|nulls| (nulls.is_valid(row - 1), nulls.is_valid(row))) {
                    None | Some((true, true)) => follows_its_like(&values, row),
                    Some((before, valid)) => before == valid,
                };
                *is_start = u8::from(!is_alike);
            }
        }
        return Ok(());
    }
    if let Some(nulls) = column.nulls().filter(|nulls| nulls.null_count() > 0) {
        let is_valid: Vec<bool> = nulls.iter().collect();
        part_by(&is_valid, is_start);
    }
    let column = column.as_ref();
    downcast_primitive_array!(
        column => part_by(column.values(), is_start),
        _ => {
            let column = column.slice(0, column.len());
            match partition(&[column]) {
                Ok(runs) => runs.ranges().into_iter().for_each(|run| is_start[run.start] = 1),
                // What cannot be compared is not known to be alike.
                Err(_) => is_start.fill(1),
            }
        }
    );
    Ok(())
}
