//! Records in shards by their unit: all of one unit in one shard, so that each shard can be bounded by itself, in a table
//! that fits the processor's caches, or on disk while memory is short.

use std::fs::File;
use std::io::BufReader;
use std::sync::Arc;

use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;
use datafusion::common::{Result, internal_err};
use datafusion::execution::disk_manager::DiskManager;
use datafusion::execution::spill_file::SpillFile;
use hashbrown::HashTable;

use super::bounder::{Bounder, KeysFrom};
use super::dense::{Dense, Extent};
use super::identity::{self, Ids, spread, spread_wide};
use super::on_disk::{from_batch, schema, to_batch};
use super::records::Records;

/// How many shards there are: so many that a shard of a hundred million rows is still small.
pub(super) const SHARDS: usize = 128;
const SHARD_BITS: u32 = SHARDS.trailing_zeros();
/// How many records a piece holds at least, unless it is the last: memory then grows by pieces and not by doubling.
const PIECE: usize = 4_096;

/// How many records there are before a table is thought of.
const ENOUGH: usize = 1 << 16;
/// How many times the bytes of the records so far a table may take: more come.
const TIMES: usize = 4;
/// And how many in any case where rows of a unit do not come beside each other, so that each is added somewhere else: about what the
/// processor's caches hold, beyond which a record is sooner written than a cell is found.
const CACHED: usize = 64 << 20;

/// About how many records are looked at for the units that there are.
const SAMPLE: usize = 1 << 12;

/// Records by shard.
pub(super) struct Shards {
    /// No records, of the shape of all.
    shape: Records,
    held: Vec<Vec<Records>>,
    /// Bytes of the pieces that are full.
    full_bytes: usize,
    /// By shard, how many records it has, those on disk too, but not those in a table.
    records: [usize; SHARDS],
    spilled: Vec<Spilled>,
    /// Where it pays, a table to which all records go that have a cell there.
    pub(super) dense: Option<Dense>,
    /// How many records without a cell there are when a table is thought of next.
    enough: usize,
    /// How many records that were added were of the unit of the record before, and how many there were.
    beside: (usize, usize),
    // Filled anew for each batch.
    shard_of: Vec<u8>,
    order: Vec<u32>,
}

/// What was written at one time: the pieces of each shard, one after the other.
struct Spilled {
    file: Arc<dyn SpillFile>,
    /// By shard, the first of its batches; and at the end how many there are.
    starts: Vec<usize>,
}

impl Shards {
    /// For records of the shape of `shape`.
    pub(super) fn new(shape: Records) -> Self {
        let enough = if Dense::can_hold(&shape) { ENOUGH } else { usize::MAX };
        Self {
            shape,
            held: no_pieces(),
            full_bytes: 0,
            records: [0; SHARDS],
            spilled: Vec::new(),
            dense: None,
            enough,
            beside: (0, 0),
            shard_of: Vec::new(),
            order: Vec::new(),
        }
    }

    /// Adds records to the cells of the table, if there is one, and puts the others where their units belong.
    pub(super) fn add(&mut self, records: &Records) {
        match &mut self.dense {
            None => self.put(records),
            Some(dense) => {
                if let Some(rest) = dense.add(records) {
                    self.put(&rest);
                }
            }
        }
    }

    /// The cells of the table to make next, and its bytes at most, where one pays for records of `groups` groups: of units that are
    /// integers close together, in few groups, and where there is a table already a larger one. It is thought of whenever there are
    /// twice as many records without a cell, and when it was, it is not at once again.
    pub(super) fn next_table(&mut self, groups: usize) -> Option<(Extent, usize)> {
        let records = self.records();
        if records < self.enough || !self.spilled.is_empty() {
            return None;
        }
        self.enough = records.saturating_mul(2);
        let extent = Extent::of(self.sample(), groups)?;
        let (extent, is_new, added) = match &self.dense {
            None => (extent, true, 0),
            Some(dense) => {
                let extent = extent.and(dense.extent())?;
                (extent, extent != *dense.extent(), dense.added())
            }
        };
        let bytes = extent.bytes(&self.shape);
        let comes_together = 4 * self.beside.0 > self.beside.1;
        let most = TIMES * (records + added) * self.shape.record_bytes();
        let pays = is_new && bytes <= most && (comes_together || bytes <= CACHED);
        pays.then_some((extent, bytes))
    }

    /// Some of the units that have records in memory.
    fn sample(&self) -> Vec<u64> {
        let step = self.records() / SAMPLE + 1;
        let ids = self.held.iter().flatten().map(|piece| match &piece.ids {
            Ids::Narrow(ids) => ids.as_slice(),
            Ids::Wide(_) => &[],
        });
        ids.flatten().step_by(step).copied().collect()
    }

    /// From now on adds records to a table, and those that are there.
    ///
    /// # Errors
    /// When cells cannot be read.
    pub(super) fn make_dense(&mut self, extent: Extent) -> Result<()> {
        let before = self.dense.replace(Dense::new(extent, &self.shape));
        self.full_bytes = 0;
        self.records = [0; SHARDS];
        for piece in std::mem::replace(&mut self.held, no_pieces()).into_iter().flatten() {
            self.add(&piece);
        }
        if let Some(before) = before {
            for shard in 0..SHARDS {
                self.add(&before.records(shard, before.uppers())?);
            }
        }
        Ok(())
    }

    /// The table, if there is one.
    pub(super) fn take_dense(&mut self) -> Option<Dense> {
        self.dense.take()
    }

    /// Puts records where their units belong: a counting sort, then one copy a shard and column.
    fn put(&mut self, records: &Records) {
        self.shard_of.clear();
        match &records.ids {
            Ids::Narrow(ids) => {
                self.shard_of.extend(ids.iter().map(|id| shard_of(*id)));
                if self.dense.is_none() {
                    let beside = ids.windows(2).map(|ids| usize::from(ids[0] == ids[1])).sum::<usize>();
                    self.beside = (self.beside.0 + beside, self.beside.1 + ids.len());
                }
            }
            Ids::Wide(ids) => {
                self.shard_of.extend(ids.iter().map(|id| (spread_wide(*id) >> (u64::BITS - SHARD_BITS)) as u8));
            }
        }
        let mut starts = [0u32; SHARDS + 1];
        for shard in &self.shard_of {
            starts[*shard as usize + 1] += 1;
        }
        for shard in 0..SHARDS {
            starts[shard + 1] += starts[shard];
        }
        let mut next = starts;
        self.order.resize(records.len(), 0);
        for (at, shard) in self.shard_of.iter().enumerate() {
            let place = &mut next[*shard as usize];
            self.order[*place as usize] = at as u32;
            *place += 1;
        }
        for (shard, pieces) in self.held.iter_mut().enumerate() {
            let order = &self.order[starts[shard] as usize..starts[shard + 1] as usize];
            if order.is_empty() {
                continue;
            }
            self.records[shard] += order.len();
            match pieces.last_mut() {
                Some(piece) if piece.len() < PIECE => piece.append(records, order),
                last => {
                    // Where one was filled another will be; the first grows as it must.
                    let room = if last.is_some() { PIECE + order.len() } else { 0 };
                    self.full_bytes += last.map_or(0, |full| full.size());
                    let mut piece = records.with_room(room);
                    piece.append(records, order);
                    pieces.push(piece);
                }
            }
        }
    }

    /// How many records there are, those on disk too, but not those in a table.
    pub(super) fn records(&self) -> usize {
        self.records.iter().sum()
    }

    /// Bytes that bounding the largest shard takes, what is on disk too: its records as they were gathered and once more in the
    /// order of their units, and `of_record` for each.
    pub(super) fn to_bound(&self, of_record: usize) -> usize {
        let cells = self.dense.as_ref().map_or(0, |dense| dense.most_of(usize::MAX));
        (self.records.iter().max().unwrap_or(&0) + cells) * (2 * self.shape.record_bytes() + of_record)
    }

    /// Bytes held in memory.
    pub(super) fn size(&self) -> usize {
        let open: usize = self.held.iter().filter_map(|pieces| pieces.last()).map(Records::size).sum();
        self.full_bytes + open + self.dense.as_ref().map_or(0, Dense::size)
    }

    /// Writes all that is held to a file, what is in cells too, and holds nothing. There is no table from then on. Blocking I/O.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn spill(&mut self, disk: &Arc<DiskManager>) -> Result<()> {
        let dense = self.dense.take();
        if dense.is_none() && self.held.iter().all(Vec::is_empty) {
            return Ok(());
        }
        let file = disk.create_tmp_file("the bounding of contributions")?;
        let mut inner = file.open_writer()?;
        let mut starts = vec![0];
        {
            let mut writer = FileWriter::try_new_buffered(&mut inner, &schema(&self.shape))?;
            let mut batches = 0;
            for (shard, pieces) in self.held.iter_mut().enumerate() {
                let cells = dense.as_ref().map(|dense| dense.records(shard, dense.uppers())).transpose()?;
                self.records[shard] += cells.as_ref().map_or(0, Records::len);
                for piece in pieces.drain(..).chain(cells) {
                    writer.write(&to_batch(piece)?)?;
                    batches += 1;
                }
                starts.push(batches);
            }
            writer.finish()?;
        }
        inner.finish()?;
        self.full_bytes = 0;
        self.spilled.push(Spilled { file, starts });
        Ok(())
    }

    /// The pieces of a shard, those on disk too. Blocking I/O.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(super) fn take(&mut self, shard: usize) -> Result<Vec<Records>> {
        let mut pieces = std::mem::take(&mut self.held[shard]);
        for spilled in &self.spilled {
            let range = spilled.starts[shard]..spilled.starts[shard + 1];
            if range.is_empty() {
                continue;
            }
            let Some(path) = spilled.file.path() else { return internal_err!("spilled records are in no file") };
            let mut reader = FileReader::try_new(BufReader::new(File::open(path)?), None)?;
            reader.set_index(range.start)?;
            for batch in reader.take(range.len()) {
                pieces.push(from_batch(&batch?, &self.shape)?);
            }
        }
        Ok(pieces)
    }
}

fn no_pieces() -> Vec<Vec<Records>> {
    (0..SHARDS).map(|_| Vec::new()).collect()
}

/// The shard of an integer. Of the integers of one shard no two have the same upper part, so that it names the unit there; and
/// integers that are far apart, all even say, are spread over all shards even so.
#[inline]
pub(super) const fn shard_of(id: u64) -> u8 {
    ((id ^ (spread(upper_of(id)) >> 32)) % SHARDS as u64) as u8
}

/// The upper part of an integer.
#[inline]
pub(super) const fn upper_of(id: u64) -> u64 {
    id >> SHARD_BITS
}

/// The integer of a shard that has an upper part.
pub(super) const fn id_of(shard: usize, upper: u64) -> u64 {
    (upper << SHARD_BITS) | ((shard as u64 ^ (spread(upper) >> 32)) % SHARDS as u64)
}

/// Records or cells, and how their groups are called among all.
pub(super) type Named<'a, T> = (&'a T, Option<&'a [u32]>);

/// Which units some pieces are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Units {
    /// Those of one shard.
    OfOneShard,
    /// Any.
    Any,
}

/// Bounds all units of some pieces, which hold all records of these.
///
/// # Errors
/// When keys cannot be hashed.
pub(super) fn bound(
    pieces: &[Named<'_, Records>],
    of: Units,
    epochs: bool,
    bounder: &mut Bounder,
    keys: KeysFrom<'_>,
) -> Result<()> {
    let Some((first, _)) = pieces.first() else { return Ok(()) };
    let (units, unit_of) = units(pieces, of, epochs)?;
    // By unit where its records begin: a counting sort.
    let mut starts = vec![0u32; units.len() + 1];
    for unit in unit_of.iter().flatten() {
        starts[*unit as usize + 1] += 1;
    }
    for unit in 0..units.len() {
        starts[unit + 1] += starts[unit];
    }
    let counted: Vec<bool> = (0..first.measures.len())
        .map(|at| pieces.iter().any(|(records, _)| records.measures[at].counted.is_some()))
        .collect();
    let has_rows = pieces.iter().any(|(records, _)| records.rows.is_some());
    let mut sorted = first.zeroed(unit_of.iter().map(Vec::len).sum(), has_rows, &counted);
    let mut next = starts.clone();
    for ((records, names), mut unit_of) in pieces.iter().zip(unit_of) {
        for unit in &mut unit_of {
            let place = &mut next[*unit as usize];
            *unit = *place;
            *place += 1;
        }
        sorted.place(records, &unit_of, *names);
    }
    let mut add =
        |unit: usize| bounder.add(units[unit], &sorted, starts[unit] as usize..starts[unit + 1] as usize, keys);
    if epochs {
        by_unit(&units).into_iter().try_for_each(|pair| add(pair as usize))
    } else {
        (0..units.len()).try_for_each(add)
    }
}

/// The places of pairs of a unit and an epoch, those of one unit one after the other: a counting sort.
fn by_unit(pairs: &[u128]) -> Vec<u32> {
    let of_pairs: Vec<u128> = pairs.iter().map(|pair| identity::unit_of(*pair)).collect();
    let (mut units, mut table) = (Vec::new(), HashTable::with_capacity(pairs.len() / 4));
    let unit_of = find(&of_pairs, &mut units, &mut table, |id| spread((id >> 64) as u64 ^ id as u64));
    let mut next = vec![0u32; units.len() + 1];
    for unit in &unit_of {
        next[*unit as usize + 1] += 1;
    }
    for unit in 0..units.len() {
        next[unit + 1] += next[unit];
    }
    let mut order = vec![0; pairs.len()];
    for (pair, unit) in unit_of.iter().enumerate() {
        let place = &mut next[*unit as usize];
        order[*place as usize] = pair as u32;
        *place += 1;
    }
    order
}

/// The units of all pieces, each once, and by piece the unit of each record.
fn units(pieces: &[Named<'_, Records>], of: Units, epochs: bool) -> Result<(Vec<u128>, Vec<Vec<u32>>)> {
    // Many units have few records, or few have many: to begin with, a place for one in four. Of pairs most have few.
    let records: usize = pieces.iter().map(|(records, _)| records.len()).sum();
    let table = || HashTable::with_capacity(if epochs { records } else { records / 4 });
    let mut unit_of = Vec::with_capacity(pieces.len());
    match &pieces.first().map(|(records, _)| &records.ids) {
        Some(Ids::Narrow(_)) => {
            let mut all = Vec::with_capacity(pieces.len());
            for (records, _) in pieces {
                let Ids::Narrow(ids) = &records.ids else { return internal_err!("identities of two widths") };
                all.push(ids);
            }
            let mut units: Vec<u64> = Vec::new();
            let shift = if of == Units::OfOneShard { SHARD_BITS } else { 0 };
            let upper = || all.iter().flat_map(|ids| ids.iter()).map(|id| id >> shift);
            let (least, most) = upper().fold((u64::MAX, 0), |(least, most), part| (least.min(part), most.max(part)));
            if most.saturating_sub(least) < 2 * records as u64 + 1_024 {
                // Integers that lie close together: a place for each, and nothing to search.
                let mut places = vec![u32::MAX; (most.saturating_sub(least) + 1) as usize];
                for ids in all {
                    let place = |id: &u64| {
                        let unit = &mut places[((id >> shift) - least) as usize];
                        if *unit == u32::MAX {
                            *unit = units.len() as u32;
                            units.push(*id);
                        }
                        *unit
                    };
                    unit_of.push(ids.iter().map(place).collect());
                }
            } else {
                let mut table = table();
                for ids in all {
                    unit_of.push(find(ids, &mut units, &mut table, spread));
                }
            }
            Ok((units.into_iter().map(u128::from).collect(), unit_of))
        }
        _ => {
            let (mut units, mut table): (Vec<u128>, _) = (Vec::new(), table());
            for (records, _) in pieces {
                let Ids::Wide(ids) = &records.ids else { return internal_err!("identities of two widths") };
                // A pair's epoch must be in the hash, or all epochs of a unit would lie in one place of the table.
                let hash = |id: u128| spread((id >> 64) as u64 ^ (id as u64).rotate_left(31));
                unit_of.push(find(ids, &mut units, &mut table, hash));
            }
            Ok((units, unit_of))
        }
    }
}

fn find<T: Copy + PartialEq>(
    ids: &[T],
    units: &mut Vec<T>,
    table: &mut HashTable<u32>,
    hash: impl Fn(T) -> u64,
) -> Vec<u32> {
    // Bits that chose the shard are alike.
    let hash = |id: T| hash(id).rotate_left(SHARD_BITS + 9);
    let mut found: Vec<u32> = Vec::with_capacity(ids.len());
    for (at, id) in ids.iter().enumerate() {
        if at > 0 && ids[at - 1] == *id {
            found.push(found[at - 1]);
            continue;
        }
        let of = hash(*id);
        let known = table.find(of, |unit| units[*unit as usize] == *id);
        let unit = if let Some(unit) = known {
            *unit
        } else {
            let unit = units.len() as u32;
            units.push(*id);
            table.insert_unique(of, unit, |unit| hash(units[*unit as usize]));
            unit
        };
        found.push(unit);
    }
    found
}
