//! Cuts sorted rows into row groups that begin where a unit begins.
//!
//! ```text
//! units   1 1 2 2 2 3 | 4 4 5 5 | 6 6 6 6 6 6 | 6 6 7 | NULL NULL
//! at most 6 rows        (4 5 6… would not fit)   (6 alone is longer than a group)
//! ```
//!
//! A reader that takes whole row groups then has all rows of a unit in one partition, and a unit's rows are in two groups
//! only where it alone is longer than one. Rows without a unit, which sort last, are in groups of their own.

use std::cmp::Ordering;
use std::collections::VecDeque;

use arrow::array::Array;
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use arrow::row::{OwnedRow, RowConverter, SortField};

use super::error::LayoutError;

/// The rows of one row group.
#[derive(Debug)]
pub(super) struct Group {
    /// In order.
    pub(super) batches: Vec<RecordBatch>,
    /// Whether its first row is the first of its unit.
    pub(super) begins_unit: bool,
}

/// Takes sorted batches and gives row groups.
#[derive(Debug)]
pub(super) struct Groups {
    /// The most rows of a group.
    most: usize,
    unit: usize,
    converter: RowConverter,
    last: Option<OwnedRow>,
    waiting: VecDeque<RecordBatch>,
    rows: usize,
    /// Where units begin in what waits, but for its first row.
    begins: VecDeque<usize>,
    first_begins_unit: bool,
    /// Where the rows without a unit begin in what waits; 0 once they have.
    without_unit: Option<usize>,
}

impl Groups {
    /// Groups of at most `most` rows, of batches whose unit is column `unit`, of type `data_type`.
    pub(super) fn new(most: usize, unit: usize, data_type: &DataType) -> Result<Self, LayoutError> {
        // NULL sorts last.
        let order = arrow::compute::SortOptions { descending: false, nulls_first: false };
        let converter = RowConverter::new(vec![SortField::new_with_options(data_type.clone(), order)])?;
        Ok(Self {
            most: most.max(1),
            unit,
            converter,
            last: None,
            waiting: VecDeque::new(),
            rows: 0,
            begins: VecDeque::new(),
            first_begins_unit: true,
            without_unit: None,
        })
    }

    /// Takes the rows that follow, and gives the groups that are complete.
    ///
    /// # Errors
    /// When the rows are not in order.
    pub(super) fn push(&mut self, batch: RecordBatch) -> Result<Vec<Group>, LayoutError> {
        let units = batch.column(self.unit);
        let rows = self.converter.convert_columns(std::slice::from_ref(units))?;
        for (at, row) in rows.iter().enumerate() {
            let order = match at.checked_sub(1) {
                Some(before) => rows.row(before).cmp(&row),
                None => self.last.as_ref().map_or(Ordering::Less, |last| last.row().cmp(&row)),
            };
            match order {
                Ordering::Equal => {}
                Ordering::Less => {
                    let place = self.rows + at;
                    if place > 0 {
                        self.begins.push_back(place);
                    }
                    if units.is_null(at) {
                        self.without_unit = Some(place);
                    }
                }
                Ordering::Greater => return Err(LayoutError::Unsorted),
            }
        }
        if let Some(last) = rows.num_rows().checked_sub(1) {
            self.last = Some(rows.row(last).owned());
        }
        self.rows += batch.num_rows();
        self.waiting.push_back(batch);
        let mut groups = Vec::new();
        while let Some(cut) = self.next_cut() {
            groups.push(self.cut(cut));
        }
        Ok(groups)
    }

    /// Where the first group ends, if that is known.
    fn next_cut(&self) -> Option<usize> {
        // What is before the rows without a unit is complete, however little it is.
        let end = self.without_unit.filter(|at| *at > 0);
        if let Some(end) = end
            && end <= self.most
        {
            return Some(end);
        }
        if self.rows <= self.most {
            return None;
        }
        // No beginning within reach: one unit fills the group, and more.
        Some(self.begins.iter().copied().take_while(|at| *at <= self.most).last().unwrap_or(self.most))
    }

    fn cut(&mut self, cut: usize) -> Group {
        let begins_unit = self.first_begins_unit;
        self.first_begins_unit = self.begins.contains(&cut);
        while self.begins.front().is_some_and(|at| *at <= cut) {
            self.begins.pop_front();
        }
        for at in &mut self.begins {
            *at -= cut;
        }
        self.without_unit = self.without_unit.map(|at| at.saturating_sub(cut));
        self.rows -= cut;
        let (mut batches, mut left) = (Vec::new(), cut);
        while left > 0 {
            let Some(batch) = self.waiting.pop_front() else { break };
            if batch.num_rows() <= left {
                left -= batch.num_rows();
                batches.push(batch);
            } else {
                self.waiting.push_front(batch.slice(left, batch.num_rows() - left));
                batches.push(batch.slice(0, left));
                left = 0;
            }
        }
        Group { batches, begins_unit }
    }

    /// The last group, when no rows follow.
    pub(super) fn finish(mut self) -> Option<Group> {
        (self.rows > 0).then(|| self.cut(self.rows))
    }
}
