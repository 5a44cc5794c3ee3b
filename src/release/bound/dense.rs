//! A dense table of units times groups: rows are added up in the cell of their unit and group, and no record of them is kept.
//!
//! ```text
//!                group  0  1  2  3
//! shard 0   unit 128    3  .  1  .      by cell: rows, and of each measure how many count and their sum
//!           unit 257    .  .  .  2
//! shard 1   unit 129    .  1  .  .
//! ```
//!
//! A cell is a record of all rows of a unit in a group, as a run is one of rows beside each other (`runs.rs`): what a unit adds is
//! the same however its rows are put together. What has no cell (a unit or a group that was not foreseen, more rows than a record
//! holds) stays a record, and where a shard has such records its cells become records too: all of a unit are bounded together.

use std::num::Wrapping;
use std::ops::{Add, Range};

use datafusion::common::Result;

use super::bounder::{Bounder, KeysFrom};
use super::identity::Ids;
use super::records::{Gathered, Records, Values};
use super::shards::{SHARDS, id_of, shard_of, upper_of};

/// Units and groups, integers both, that a table has cells for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// Upper parts of units, each of one unit in every shard: the first, and how many.
    first: u64,
    uppers: usize,
    /// The groups below it have a cell of each unit.
    groups: usize,
}

impl Extent {
    /// For units between two, and for so many groups; and for some more, as these are what was met so far. `None` if there would be
    /// too many cells to count.
    pub(super) fn of(least: u64, most: u64, groups: usize) -> Option<Self> {
        let met = upper_of(most).checked_sub(upper_of(least))? + 1;
        let first = upper_of(least).saturating_sub(met / 16);
        let uppers = usize::try_from(upper_of(most) - first + 1 + met / 16).ok()?;
        let groups = (groups + groups / 16 + 3).next_multiple_of(8);
        let cells = uppers.checked_mul(groups)?.checked_mul(SHARDS)?;
        // Cells are named by 32 bits, and there is one more that none is in.
        (cells < u32::MAX as usize).then_some(Self { first, uppers, groups })
    }

    /// How many cells one shard has.
    pub(super) const fn of_shard(&self) -> usize {
        self.uppers * self.groups
    }

    /// Bytes of a table for records of the shape of `shape`.
    pub(super) fn bytes(&self, shape: &Records) -> usize {
        let of_measure = |gathered: &Gathered| match gathered.values {
            Values::Steps(_) => 8,
            Values::None | Values::Hashes(_) => 0,
        };
        SHARDS * self.of_shard() * (1 + shape.measures.iter().map(of_measure).sum::<usize>())
    }
}

/// See the module.
pub(super) struct Dense {
    extent: Extent,
    /// By cell, its rows: shard after shard, in it unit after unit, in it group after group. And one more, of no meaning.
    rows: Vec<u8>,
    measures: Vec<Gathered>,
    /// How many records were added.
    added: usize,
    /// No records, of the shape of all.
    shape: Records,
    /// By record of the batch at hand, its cell.
    cells: Vec<u32>,
}

impl Dense {
    /// Whether cells can hold what such records have: integers as units, and sums alone.
    pub(super) fn can_hold(shape: &Records) -> bool {
        matches!(shape.ids, Ids::Narrow(_))
            && shape.candidates.is_empty()
            && shape.measures.iter().all(|gathered| !matches!(gathered.values, Values::Hashes(_)))
    }

    /// Cells without rows, for records of the shape of `shape`, which they can hold.
    pub(super) fn new(extent: Extent, shape: &Records) -> Self {
        let cells = SHARDS * extent.of_shard() + 1;
        let measure = |gathered: &Gathered| Gathered {
            counted: None,
            values: match gathered.values {
                Values::Steps(_) => Values::Steps(vec![0; cells]),
                Values::None | Values::Hashes(_) => Values::None,
            },
        };
        Self {
            extent,
            rows: vec![0; cells],
            measures: shape.measures.iter().map(measure).collect(),
            added: 0,
            shape: shape.like(),
            cells: Vec::new(),
        }
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        let of_measure = |gathered: &Gathered| {
            let sums = if let Values::Steps(sums) = &gathered.values { sums.len() * 8 } else { 0 };
            gathered.counted.as_ref().map_or(0, Vec::len) + sums
        };
        self.rows.len() + self.measures.iter().map(of_measure).sum::<usize>() + self.cells.capacity() * 4
    }

    /// The upper parts of units that have cells.
    fn uppers(&self) -> Range<u64> {
        self.extent.first..self.extent.first + self.extent.uppers as u64
    }

    /// How many records the cells of one shard can become, at most.
    pub(super) fn most_of_shard(&self) -> usize {
        self.extent.of_shard().min(self.added)
    }

    /// Which units and groups have cells.
    pub(super) const fn extent(&self) -> Extent {
        self.extent
    }

    /// How many records were added.
    pub(super) const fn added(&self) -> usize {
        self.added
    }

    /// Adds records to their cells; what stays records: those that have none, and what was in cells that they would have overfilled,
    /// and those with these.
    pub(super) fn add(&mut self, records: &Records) -> Option<Records> {
        let mut rest = records.like();
        let Ids::Narrow(ids) = &records.ids else {
            rest.append_range(records, 0..records.len());
            return Some(rest);
        };
        let Extent { first, uppers, groups } = self.extent;
        let nowhere = (self.rows.len() - 1) as u32;
        self.cells.clear();
        self.cells.extend(ids.iter().zip(&records.groups).map(|(id, group)| {
            let (upper, group) = (upper_of(*id).wrapping_sub(first), *group as usize);
            // Outside of the table this has no meaning.
            let unit = (usize::from(shard_of(*id)) * uppers).wrapping_add(upper as usize);
            let cell = unit.wrapping_mul(groups).wrapping_add(group) as u32;
            if upper < uppers as u64 && group < groups { cell } else { nowhere }
        }));
        for (cells, gathered) in self.measures.iter_mut().zip(&records.measures) {
            if gathered.counted.is_some() && cells.counted.is_none() {
                // So far all rows counted.
                cells.counted = Some(self.rows.clone());
            }
        }
        let (left, full) = match &records.rows {
            Some(rows) => self.add_rows(rows.iter().copied()),
            None => self.add_rows(std::iter::repeat(1)),
        };
        for (cells, gathered) in self.measures.iter_mut().zip(&records.measures) {
            if let Some(counted) = &mut cells.counted {
                match gathered.counted.as_ref().or(records.rows.as_ref()) {
                    Some(more) => add(counted, &self.cells, more.iter().map(|more| Wrapping(*more))),
                    None => add(counted, &self.cells, std::iter::repeat(Wrapping(1))),
                }
            }
            if let (Values::Steps(sums), Values::Steps(steps)) = (&mut cells.values, &gathered.values) {
                // 255 rows of less than 2^54 steps ([`super::super::Lattice`]) fit.
                add(sums, &self.cells, steps.iter().map(|more| Wrapping(*more)));
            }
        }
        self.added += records.len() - left.len();
        if left.is_empty() {
            return None;
        }
        rest.append(records, &left);
        self.empty(&full, ids, &records.groups, &mut rest);
        Some(rest)
    }

    /// Makes records of cells, each beside which is a record of its unit and group, and appends them to `rest`.
    fn empty(&mut self, full: &[(u32, u32)], ids: &[u64], groups: &[u32], rest: &mut Records) {
        let counted: Vec<bool> = self.measures.iter().map(|cells| cells.counted.is_some()).collect();
        let mut emptied = self.shape.zeroed(full.len(), true, &counted);
        let mut of_units = Vec::with_capacity(full.len());
        for (cell, record) in full {
            let (cell, at) = (*cell as usize, of_units.len());
            // It may be there twice.
            let rows = std::mem::take(&mut self.rows[cell]);
            if rows == 0 {
                continue;
            }
            of_units.push(ids[*record as usize]);
            emptied.groups[at] = groups[*record as usize];
            if let Some(of_records) = &mut emptied.rows {
                of_records[at] = rows;
            }
            for (cells, emptied) in self.measures.iter_mut().zip(&mut emptied.measures) {
                if let (Some(counted), Some(of_records)) = (&mut cells.counted, &mut emptied.counted) {
                    of_records[at] = std::mem::take(&mut counted[cell]);
                }
                if let (Values::Steps(sums), Values::Steps(of_records)) = (&mut cells.values, &mut emptied.values) {
                    of_records[at] = std::mem::take(&mut sums[cell]);
                }
            }
        }
        let count = of_units.len();
        emptied.ids = Ids::Narrow(of_units);
        rest.append_range(&emptied, 0..count);
    }

    /// Adds the rows of records to their cells. Those that have none, or whose cell would have more rows than a record may, are
    /// nowhere from now on: which these are, and the cells that are full, each with such a record.
    fn add_rows(&mut self, rows: impl Iterator<Item = u8>) -> (Vec<u32>, Vec<(u32, u32)>) {
        let nowhere = (self.rows.len() - 1) as u32;
        let (mut left, mut full) = (Vec::new(), Vec::new());
        for (at, (cell, rows)) in self.cells.iter_mut().zip(rows).enumerate() {
            let of_cell = &mut self.rows[*cell as usize];
            match of_cell.checked_add(rows) {
                Some(sum) if *cell != nowhere => *of_cell = sum,
                _ => {
                    left.push(at as u32);
                    if *cell != nowhere {
                        full.push((*cell, at as u32));
                    }
                    *cell = nowhere;
                }
            }
        }
        (left, full)
    }

    /// Puts the cells of a unit that have rows into `into` from `start` on, their groups renamed by `names`; where they end. `into`
    /// has room for one record more than there are cells.
    fn unit(&self, shard: usize, upper: u64, names: Option<&[u32]>, into: &mut Records, start: usize) -> usize {
        let Extent { first, uppers, groups } = self.extent;
        let upper = upper.wrapping_sub(first);
        if upper >= uppers as u64 {
            return start;
        }
        let cells = (shard * uppers + upper as usize) * groups;
        let cells = cells..cells + groups;
        let rows = &self.rows[cells.clone()];
        // Groups that were not met have no name, and no rows.
        let name = |group: u32| names.map_or(group, |names| names.get(group as usize).copied().unwrap_or_default());
        compact(rows, (0..groups as u32).map(name), &mut into.groups[start..]);
        let Some(into_rows) = &mut into.rows else { return start };
        let end = start + compact(rows, rows.iter().copied(), &mut into_rows[start..]);
        for (gathered, into) in self.measures.iter().zip(&mut into.measures) {
            if let Some(into) = &mut into.counted {
                let counted = gathered.counted.as_ref().map_or(rows, |counted| &counted[cells.clone()]);
                compact(rows, counted.iter().copied(), &mut into[start..]);
            }
            if let (Values::Steps(sums), Values::Steps(into)) = (&gathered.values, &mut into.values) {
                compact(rows, sums[cells.clone()].iter().copied(), &mut into[start..]);
            }
        }
        end
    }

    /// Room for all cells of one unit in tables like this one, and for one record more.
    fn room(&self, tables: &[Named<'_>]) -> Records {
        let counted: Vec<bool> = (0..self.measures.len())
            .map(|at| tables.iter().any(|(table, _)| table.measures[at].counted.is_some()))
            .collect();
        self.shape.zeroed(tables.iter().map(|(table, _)| table.extent.groups).sum::<usize>() + 1, true, &counted)
    }

    /// What the cells of a shard have, as records.
    pub(super) fn records(&self, shard: usize) -> Records {
        let mut unit = self.room(&[(self, None)]);
        let mut records = self.shape.like();
        for upper in self.uppers() {
            let count = self.unit(shard, upper, None, &mut unit, 0);
            unit.ids = Ids::Narrow(vec![id_of(shard, upper); count]);
            records.append_range(&unit, 0..count);
        }
        records
    }
}

/// The values of cells with rows, one after the other; how many. Each is put where the next would be, and counts if it is one, so
/// that nothing is guessed.
fn compact<T>(rows: &[u8], values: impl Iterator<Item = T>, into: &mut [T]) -> usize {
    let mut end = 0;
    for (rows, value) in rows.iter().zip(values) {
        into[end] = value;
        end += usize::from(*rows > 0);
    }
    end
}

/// Adds what records have to their cells; nowhere it need not fit.
fn add<T: Copy>(to: &mut [T], cells: &[u32], more: impl Iterator<Item = Wrapping<T>>)
where
    Wrapping<T>: Add<Output = Wrapping<T>>,
{
    for (cell, more) in cells.iter().zip(more) {
        let of_cell = &mut to[*cell as usize];
        *of_cell = (Wrapping(*of_cell) + more).0;
    }
}

/// A table, and what its groups are called among all.
pub(super) type Named<'a> = (&'a Dense, Option<&'a [u32]>);

/// Bounds the units of a shard, all of whose records are in cells.
///
/// # Errors
/// When keys cannot be hashed.
pub(super) fn bound(tables: &[Named<'_>], shard: usize, bounder: &mut Bounder, keys: KeysFrom<'_>) -> Result<()> {
    let Some((one, _)) = tables.first() else { return Ok(()) };
    let mut unit = one.room(tables);
    let all = tables.iter().map(|(table, _)| table.uppers());
    let all = all.fold(one.uppers(), |all, more| all.start.min(more.start)..all.end.max(more.end));
    for upper in all {
        let mut count = 0;
        for (table, names) in tables {
            count = table.unit(shard, upper, *names, &mut unit, count);
        }
        if count > 0 {
            bounder.add(u128::from(id_of(shard, upper)), &unit, 0..count, keys)?;
        }
    }
    Ok(())
}
