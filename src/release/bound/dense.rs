//! A dense table of units times groups: rows are added up in the cell of their unit and group, and no record of them is kept.
//!
//! ```text
//!             group  0  1  2  3
//! shard 0   a unit   3  .  1  .      by cell: rows, and of each measure how many count and their sum
//!           a unit   .  .  .  2
//! shard 1   a unit   .  1  .  .
//! ```
//!
//! A cell is a record of all rows of a unit in a group, as a run is one of rows beside each other (`runs.rs`): what a unit adds is
//! the same however its rows are put together. What has no cell, a unit or a group that was not foreseen, stays a record; a cell that
//! would have more rows than a record holds becomes one, and begins anew. The cells of a unit that has records become records too: all
//! of a unit are bounded together.

use std::collections::HashSet;
use std::num::Wrapping;
use std::ops::{Add, Range};

use datafusion::common::{Result, internal_err};

use super::bounder::{Bounder, KeysFrom};
use super::identity::Ids;
use super::records::{Gathered, Records, Values};
use super::shards::{Named, SHARDS, id_of, shard_of, upper_of};

/// The units of a shard that have records, by their upper parts.
pub(super) type Uppers = HashSet<u64, hashbrown::DefaultHashBuilder>;

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
    /// For most of the units of which `sample` has some, and for so many groups; and for some more, as these are what was met so far.
    /// It follows from the middle of all units in the sample, each taken once: a few that lie far away, or that have many rows, do not
    /// decide whether others have cells. `None` without a sample, or if there would be too many cells to count.
    pub(super) fn of(mut sample: Vec<u64>, groups: usize) -> Option<Self> {
        sample.sort_unstable();
        sample.dedup();
        let beside = sample.len() / 64 + usize::from(sample.len() > 16);
        let (least, most) = (upper_of(*sample.get(beside)?), upper_of(*sample.iter().rev().nth(beside)?));
        let met = most - least + 1;
        let first = least.saturating_sub(met / 8);
        let uppers = usize::try_from(most - first + 1 + met / 8).ok()?;
        Self::with(first, uppers, groups)
    }

    fn with(first: u64, uppers: usize, groups: usize) -> Option<Self> {
        let groups = (groups + groups / 16 + 3).next_multiple_of(8);
        Self { first, uppers, groups }.if_it_can_be()
    }

    /// Cells are named by 32 bits, and there is one more that none is in.
    fn if_it_can_be(self) -> Option<Self> {
        let cells = self.uppers.checked_mul(self.groups)?.checked_mul(SHARDS)?;
        (cells < u32::MAX as usize).then_some(self)
    }

    /// For the units of this one too.
    pub(super) fn and(&self, before: &Self) -> Option<Self> {
        let end = |extent: &Self| extent.first + extent.uppers as u64;
        let first = self.first.min(before.first);
        let uppers = usize::try_from(end(self).max(end(before)) - first).ok()?;
        Self { first, uppers, groups: self.groups.max(before.groups) }.if_it_can_be()
    }

    /// How many cells one shard has.
    pub(super) const fn of_shard(&self) -> usize {
        self.uppers * self.groups
    }

    /// Bytes of a table for records of the shape of `shape`, at most.
    pub(super) fn bytes(&self, shape: &Records) -> usize {
        SHARDS * self.of_shard() * shape.cell_bytes()
    }
}

/// Records that were not added, by their places.
#[derive(Default)]
struct Left {
    /// Those without a cell.
    without: Vec<u32>,
    /// Cells, each with a record with which it would have more rows than a record holds.
    over: Vec<(u32, u32)>,
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
    pub(super) fn uppers(&self) -> Range<u64> {
        self.extent.first..self.extent.first + self.extent.uppers as u64
    }

    /// How many records the cells of so many units of one shard can become, at most.
    pub(super) fn most_of(&self, units: usize) -> usize {
        self.extent.of_shard().min(self.added).min(units.saturating_mul(self.extent.groups))
    }

    /// Which units and groups have cells.
    pub(super) const fn extent(&self) -> &Extent {
        &self.extent
    }

    /// How many records were added.
    pub(super) const fn added(&self) -> usize {
        self.added
    }

    /// Bytes that a record of a cell takes to be bounded: as it was made and once more in the order of the units, and `of_record`.
    pub(super) fn bytes_of_record(&self, of_record: usize) -> usize {
        2 * self.shape.record_bytes() + of_record
    }

    /// Adds records to their cells; what has to be a record: those without a cell, and what was in cells that became too full.
    pub(super) fn add(&mut self, records: &Records) -> Option<Records> {
        let mut rest: Option<Records> = None;
        let mut again: Option<Records> = None;
        // Every cell that is emptied takes one record at least, so that this ends.
        loop {
            let records = again.as_ref().unwrap_or(records);
            let Ids::Narrow(ids) = &records.ids else { return Some(records.all()) };
            let Left { without, over } = self.add_once(ids, records);
            if without.is_empty() && over.is_empty() {
                return rest;
            }
            let rest = rest.get_or_insert_with(|| records.like());
            rest.append(records, &without);
            self.empty(&over, ids, &records.groups, rest);
            let over: Vec<u32> = over.into_iter().map(|(_, record)| record).collect();
            let mut next = records.like();
            next.append(records, &over);
            again = Some(next);
        }
    }

    /// Adds records, whose units are `ids`, to the cells that have room for them.
    fn add_once(&mut self, ids: &[u64], records: &Records) -> Left {
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
        let left = match &records.rows {
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
        self.added += records.len() - left.without.len() - left.over.len();
        left
    }

    /// Makes records of cells, each beside which is a record of its unit and group, and appends them to `rest`.
    fn empty(&mut self, over: &[(u32, u32)], ids: &[u64], groups: &[u32], rest: &mut Records) {
        let counted: Vec<bool> = self.measures.iter().map(|cells| cells.counted.is_some()).collect();
        let mut emptied = self.shape.zeroed(over.len(), true, &counted);
        let mut of_units = Vec::with_capacity(over.len());
        for (cell, record) in over {
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

    /// Adds the rows of records to their cells. Those that are left are nowhere from now on.
    fn add_rows(&mut self, rows: impl Iterator<Item = u8>) -> Left {
        let nowhere = (self.rows.len() - 1) as u32;
        let mut left = Left::default();
        for (at, (cell, rows)) in self.cells.iter_mut().zip(rows).enumerate() {
            let of_cell = &mut self.rows[*cell as usize];
            match of_cell.checked_add(rows) {
                Some(sum) if *cell != nowhere => *of_cell = sum,
                _ => {
                    if *cell == nowhere {
                        left.without.push(at as u32);
                    } else {
                        left.over.push((*cell, at as u32));
                    }
                    *cell = nowhere;
                }
            }
        }
        left
    }

    /// Puts the cells of a unit that have rows into `into` from `start` on, their groups renamed by `names`; where they end. `into`
    /// has room for one record more than there are cells.
    fn put_unit(
        &self,
        shard: usize,
        upper: u64,
        names: Option<&[u32]>,
        into: &mut Records,
        start: usize,
    ) -> Result<usize> {
        let Extent { first, uppers, groups } = self.extent;
        let upper = upper.wrapping_sub(first);
        if upper >= uppers as u64 {
            return Ok(start);
        }
        let cells = (shard * uppers + upper as usize) * groups;
        let cells = cells..cells + groups;
        let rows = &self.rows[cells.clone()];
        // Groups that were not met have no name, and no rows.
        let name = |group: u32| names.map_or(group, |names| names.get(group as usize).copied().unwrap_or_default());
        compact(rows, (0..groups as u32).map(name), &mut into.groups[start..]);
        let Some(into_rows) = &mut into.rows else { return internal_err!("records of cells have no rows") };
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
        Ok(end)
    }

    /// Room for all cells of one unit in tables like this one, and for one record more.
    fn room(&self, tables: &[Named<'_, Dense>]) -> Records {
        let counted: Vec<bool> = (0..self.measures.len())
            .map(|at| tables.iter().any(|(table, _)| table.measures[at].counted.is_some()))
            .collect();
        self.shape.zeroed(tables.iter().map(|(table, _)| table.extent.groups).sum::<usize>() + 1, true, &counted)
    }

    /// What the cells of some units of a shard have, as records.
    pub(super) fn records(&self, shard: usize, uppers: impl Iterator<Item = u64>) -> Result<Records> {
        let mut unit = self.room(&[(self, None)]);
        let mut records = self.shape.like();
        for upper in uppers {
            let count = self.put_unit(shard, upper, None, &mut unit, 0)?;
            if let Ids::Narrow(ids) = &mut unit.ids {
                ids.clear();
                ids.resize(count, id_of(shard, upper));
            }
            records.append_range(&unit, 0..count);
        }
        Ok(records)
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

/// Bounds the units of a shard that are in `tables`, but for those in `elsewhere`, which have records too.
///
/// # Errors
/// When keys cannot be hashed.
pub(super) fn bound(
    tables: &[Named<'_, Dense>],
    shard: usize,
    elsewhere: &Uppers,
    bounder: &mut Bounder,
    keys: KeysFrom<'_>,
) -> Result<()> {
    let Some((one, _)) = tables.first() else { return Ok(()) };
    let mut unit = one.room(tables);
    // There may be much between the units of two tables.
    let next = |from: u64| {
        let uppers = tables.iter().map(|(table, _)| table.uppers()).filter(|uppers| uppers.end > from);
        uppers.map(|uppers| uppers.start.max(from)).min()
    };
    let mut from = 0;
    while let Some(upper) = next(from) {
        from = upper + 1;
        if elsewhere.contains(&upper) {
            continue;
        }
        let mut count = 0;
        for (table, names) in tables {
            count = table.put_unit(shard, upper, *names, &mut unit, count)?;
        }
        if count > 0 {
            bounder.add(u128::from(id_of(shard, upper)), &unit, 0..count, keys)?;
        }
    }
    Ok(())
}
