//! Rows in any order: recorded, put in shards by their unit or added up in a dense table, and bounded when all are there (DESIGN 4.2).
//!
//! With epochs a unit is the pair of a unit and an epoch, and bounds are the pair's; but `units` counts a unit once in a
//! group, in however many epochs it is there.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::ArrayRef;
use arrow::datatypes::Schema;
use arrow::record_batch::RecordBatch;
use datafusion::common::{Result, internal_err};
use datafusion::execution::disk_manager::DiskManager;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::physical_plan::aggregates::group_values::new_group_values;
use datafusion::physical_plan::aggregates::order::GroupOrdering;

use super::super::spec::ReleaseSpec;
use super::SelectionKey;
use super::bounder::Bounder;
use super::dense::{self, Dense, Uppers};
use super::identity::Ids;
use super::records::Recorder;
use super::shards::{self, SHARDS, Shards, Units, upper_of};
use super::sums::{GroupSums, emitted, key_schema};

/// Bytes for a record to find its unit by, at most: where it is, and what its unit takes in a table; and where units are pairs
/// with an epoch, what puts them in the order of their units.
const fn bytes_of_record(spec: &ReleaseSpec) -> usize {
    if spec.epochs.is_some() { 4 + 32 + 48 } else { 4 + 32 }
}

/// Gathers rows, then bounds what each unit adds.
pub struct Contributions {
    spec: Arc<ReleaseSpec>,
    selection_key: SelectionKey,
    recorder: Recorder,
    pub(super) shards: Shards,
}

impl Contributions {
    /// Nothing gathered yet, for input of `schema`.
    ///
    /// # Errors
    /// When a type cannot be grouped.
    pub fn new(spec: Arc<ReleaseSpec>, selection_key: SelectionKey, schema: &Schema) -> Result<Self> {
        let recorder = Recorder::new(Arc::clone(&spec), selection_key, schema)?;
        let shards = Shards::new(recorder.none());
        Ok(Self { spec, selection_key, recorder, shards })
    }

    /// Bytes held.
    #[must_use]
    pub fn size(&self) -> usize {
        self.recorder.codes.size() + self.shards.size()
    }

    /// Bytes to have while more is gathered: those held, and what bounding takes beside them. Of as many `workers` as there are
    /// places like this one each then has a shard of all places in hand, as it was read and once more in the order of its units,
    /// and the sums of all groups. For one unit that is most of the rows that is not spared beforehand.
    #[must_use]
    pub(super) fn needs(&self, workers: usize) -> usize {
        let sums = Bounder::bytes_of_sums(&self.spec, self.recorder.codes.len(), self.shards.records());
        let shards = workers * self.shards.to_bound(bytes_of_record(&self.spec));
        self.size() + shards.saturating_add(sums).min(self.size())
    }

    /// Gathers a batch, within the memory of one of so many `workers`: in a dense table from where one pays and has room; what has
    /// none goes to disk. Blocking I/O.
    ///
    /// # Errors
    /// Those of [`Self::add`], and where there is neither memory nor disk.
    pub(super) fn gather(
        &mut self,
        batch: &RecordBatch,
        workers: usize,
        memory: &MemoryReservation,
        disk: &Arc<DiskManager>,
    ) -> Result<()> {
        self.add(batch)?;
        if let Some((extent, bytes)) = self.shards.next_table(self.recorder.codes.len())
            && memory.try_resize(self.needs(workers) + bytes).is_ok()
        {
            self.shards.make_dense(extent)?;
        }
        if memory.try_resize(self.needs(workers)).is_err() {
            self.spill(disk)?;
            memory.try_resize(self.needs(workers))?;
        }
        Ok(())
    }

    /// Gathers a batch whose columns are as the specification says.
    ///
    /// # Errors
    /// When a column has another type than the specification was made for, or a row has no unit.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let (records, _) = self.recorder.records(batch)?;
        self.shards.add(&records);
        Ok(())
    }

    /// Writes what was gathered to disk. Blocking I/O.
    ///
    /// # Errors
    /// When the disk cannot be written.
    pub fn spill(&mut self, disk: &Arc<DiskManager>) -> Result<()> {
        self.shards.spill(disk)
    }

    /// Bounds what each unit adds and sums it by group.
    ///
    /// # Errors
    /// When keys cannot be emitted or hashed, or spilled rows cannot be read.
    pub fn finish(self) -> Result<GroupSums> {
        let (spec, key) = (Arc::clone(&self.spec), self.selection_key);
        let gathered = Gathered::new(&spec, key, vec![self])?;
        let mut bounder = gathered.bounder();
        while gathered.bound_next(&mut bounder, |_| Ok(()))? {}
        Ok(bounder.finish(gathered.keys))
    }
}

/// All that was gathered, in one place or in several, ready to be bounded shard by shard.
pub(super) struct Gathered {
    spec: Arc<ReleaseSpec>,
    selection_key: SelectionKey,
    /// The keys of all groups.
    pub(super) keys: Vec<ArrayRef>,
    groups: usize,
    /// By place, its table.
    tables: Vec<Option<Dense>>,
    /// By place, what its groups are called among all; `None` where there is one place.
    names: Vec<Option<Vec<u32>>>,
    left: Mutex<Left>,
}

struct Left {
    next: usize,
    shards: Vec<Shards>,
}

impl Gathered {
    /// Puts together what was gathered in each place.
    ///
    /// # Errors
    /// When keys cannot be grouped.
    pub(super) fn new(
        spec: &Arc<ReleaseSpec>,
        selection_key: SelectionKey,
        places: Vec<Contributions>,
    ) -> Result<Self> {
        let keys = places.iter().map(|place| place.recorder.codes.keys(0)).collect::<Result<Vec<_>>>()?;
        let Common { keys, groups, names } = Common::of(spec, keys)?;
        let mut shards: Vec<_> = places.into_iter().map(|place| place.shards).collect();
        let tables = shards.iter_mut().map(Shards::take_dense).collect();
        let left = Mutex::new(Left { next: 0, shards });
        Ok(Self { spec: Arc::clone(spec), selection_key, keys, groups, tables, names, left })
    }

    /// A bounder with room for all groups.
    pub(super) fn bounder(&self) -> Bounder {
        let mut bounder = Bounder::new(&self.spec, self.selection_key);
        bounder.grow(self.groups);
        bounder
    }

    /// Bounds one shard more. False when none is left. Blocking I/O where rows were spilled. `hold` is told how many bytes are
    /// held beside what was gathered.
    ///
    /// # Errors
    /// When keys cannot be hashed, spilled rows cannot be read, or `hold` fails.
    pub(super) fn bound_next(&self, bounder: &mut Bounder, hold: impl FnOnce(usize) -> Result<()>) -> Result<bool> {
        let mut pieces = Vec::new();
        let shard;
        {
            let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
            shard = left.next;
            if shard == SHARDS {
                return Ok(false);
            }
            left.next += 1;
            for (place, shards) in left.shards.iter_mut().enumerate() {
                pieces.extend(shards.take(shard)?.into_iter().map(|records| (records, place)));
            }
        }
        let keys = |from| Ok(keys_from(&self.keys, from));
        let tables: Vec<_> =
            self.tables.iter().enumerate().filter_map(|(at, table)| Some((table.as_ref()?, at))).collect();
        // All of a unit are bounded together: where it has records its cells become records too.
        let mut elsewhere = Uppers::default();
        if !tables.is_empty() {
            for (records, _) in &pieces {
                let Ids::Narrow(ids) = &records.ids else { return internal_err!("identities of two widths") };
                elsewhere.extend(ids.iter().map(|id| upper_of(*id)));
            }
        }
        // What was read from disk and what was in cells, its rows once more in the order of their units, and of each its unit.
        let of_record = bytes_of_record(&self.spec);
        let bytes: usize = pieces.iter().map(|(records, _)| 2 * records.size() + of_record * records.len()).sum();
        let of_cells = |(table, _): &(&Dense, usize)| table.most_of(elsewhere.len()) * table.bytes_of_record(of_record);
        hold(bounder.size() + bytes + tables.iter().map(of_cells).sum::<usize>())?;
        for (table, place) in &tables {
            if !elsewhere.is_empty() {
                pieces.push((table.records(shard, elsewhere.iter().copied())?, *place));
            }
        }
        let names = |place: usize| self.names[place].as_deref();
        let tables: Vec<_> = tables.into_iter().map(|(table, place)| (table, names(place))).collect();
        dense::bound(&tables, shard, &elsewhere, bounder, &keys)?;
        let pieces: Vec<_> = pieces.iter().map(|(records, place)| (records, names(*place))).collect();
        shards::bound(&pieces, Units::OfOneShard, self.spec.epochs.is_some(), bounder, &keys)?;
        Ok(true)
    }
}

/// The keys of groups from one on.
pub(super) fn keys_from(keys: &[ArrayRef], from: usize) -> Vec<ArrayRef> {
    keys.iter().map(|column| column.slice(from, column.len() - from)).collect()
}

/// The groups of several places under common names.
pub(super) struct Common {
    pub(super) keys: Vec<ArrayRef>,
    pub(super) groups: usize,
    /// By place, what its groups are called; `None` where there is one place.
    pub(super) names: Vec<Option<Vec<u32>>>,
}

impl Common {
    /// # Errors
    /// When keys cannot be grouped.
    pub(super) fn of(spec: &ReleaseSpec, mut places: Vec<Vec<ArrayRef>>) -> Result<Self> {
        if spec.keys.is_empty() {
            return Ok(Self { keys: Vec::new(), groups: 1, names: vec![None; places.len()] });
        }
        if places.len() == 1 {
            let keys = places.pop().unwrap_or_default();
            let groups = keys.first().map_or(0, |column| column.len());
            return Ok(Self { keys, groups, names: vec![None] });
        }
        let mut all = new_group_values(key_schema(spec), &GroupOrdering::None)?;
        let mut names = Vec::with_capacity(places.len());
        let mut codes = Vec::new();
        for keys in &places {
            codes.clear();
            all.intern(keys, &mut codes)?;
            names.push(Some(codes.iter().map(|code| *code as u32).collect()));
        }
        let groups = all.len();
        Ok(Self { keys: emitted(all.as_mut(), spec)?, groups, names })
    }
}
