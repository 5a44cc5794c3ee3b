//! Bounds what one unit adds, unit after unit, and sums it by group (DESIGN 4.2).
//!
//! ```text
//! records of a unit      slots                     at most L0 groups      sums of the groups
//!  X  3                   X  n=2 Σ=5                X  ✓                   X  units 1  n 2  Σ 5
//!  X  2           ──▶     Z  n=1 Σ=9        ──▶     Z  ✗ (past L0)
//!  Z  9
//! ```
//!
//! What a unit adds depends on its own records and on nobody else's, whatever their order and however they were split: the
//! sensitivity of `super::super::spec` is proven of this step alone (`proof.md`).

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, UInt64Type};
use arrow::row::{RowConverter, SortField};
use datafusion::common::{Result, internal_err};

use super::super::quantile::{Candidates, WHOLE, Weights, compact};
use super::super::spec::{GroupingSets, Measure, MeasureKind, ReleaseSpec};
use super::SelectionKey;
use super::identity::{keyed, unit_of};
use super::records::{Gathered, NO_CANDIDATE, Records, Values};
use super::sums::{GroupSums, Sums, distinct};

/// The keys of the groups that are known, from the one that is named on.
pub(super) type KeysFrom<'a> = &'a dyn Fn(usize) -> Result<Vec<ArrayRef>>;

/// Bounds units and sums what they add.
pub(super) struct Bounder {
    spec: Arc<ReleaseSpec>,
    chooser: Chooser,
    counted_units: Option<CountedUnits>,
    unit: UnitSlots,
    units: Vec<i64>,
    measures: Vec<Sums>,
    histograms: Vec<Vec<Histogram>>,
}

/// What the unit at hand has, by slot: one slot for each of its groups. What is by slot or by record is never shortened, so that
/// nothing is cleared for each unit; `count` says how much of it is this unit's.
#[derive(Default)]
struct UnitSlots {
    /// By group, `base` and its slot on top; less than `base` where the unit has none.
    slot_of: Vec<u32>,
    base: u32,
    /// How many slots there are.
    count: usize,
    /// By slot, its group.
    groups: Vec<u32>,
    /// By record, its slot; of no use where there is one slot for all.
    slots: Vec<u32>,
    /// By slot, the rows of all its records.
    rows: Vec<u64>,
    /// Whether all slots are kept, else which.
    keeps_all: bool,
    kept: Vec<u32>,
    /// By slot, of the measure at hand: the rows that count where not all do, and their sum.
    counted: Vec<u64>,
    sums: Vec<i128>,
    /// Of a measure of distinct values: slots with their values' hashes.
    values: Vec<(u32, u128)>,
    is_kept: Vec<bool>,
    ranked: Vec<((u128, u128), u32)>,
}

impl Bounder {
    pub(super) fn new(spec: &Arc<ReleaseSpec>, key: SelectionKey) -> Self {
        Self {
            chooser: Chooser::new(spec, key),
            counted_units: spec.epochs.as_ref().map(|_| CountedUnits::new(spec.measures.len())),
            unit: UnitSlots::default(),
            units: Vec::new(),
            measures: spec.measures.iter().map(|measure| Sums::nothing(measure, 0)).collect(),
            histograms: vec![Vec::new(); spec.histograms.len()],
            spec: Arc::clone(spec),
        }
    }

    /// Makes room for `groups` groups.
    pub(super) fn grow(&mut self, groups: usize) {
        if groups <= self.units.len() {
            return;
        }
        self.unit.slot_of.resize(groups, 0);
        self.units.resize(groups, 0);
        self.measures.iter_mut().for_each(|sums| sums.resize(groups));
        self.histograms.iter_mut().for_each(|groups_of| groups_of.resize(groups, Histogram::default()));
        if let Some(counted) = &mut self.counted_units {
            counted.grow(groups);
        }
    }

    /// Bytes that the sums of `groups` groups may take in the end, of which there are `records`.
    pub(super) fn bytes_of_sums(spec: &ReleaseSpec, groups: usize, records: usize) -> usize {
        // A histogram becomes a table before its pairs are larger.
        let tables: usize = spec.histograms.iter().map(|histogram| 24 + 8 * histogram.candidates.count as usize).sum();
        let is_distinct = |measure: &&Measure| matches!(measure.kind, MeasureKind::Distinct { .. });
        let values = spec.measures.iter().filter(is_distinct).count() * 16;
        groups.saturating_mul(4 + 8 + 24 * spec.measures.len() + tables) + records * values
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        let measures: usize = self.measures.iter().map(Sums::size).sum();
        let histograms: usize = self.histograms.iter().flatten().map(Histogram::size).sum();
        self.unit.size() + self.units.capacity() * 8 + measures + histograms + self.chooser.size()
    }

    /// Bounds the unit `id`, all of whose records are those of `range`, whose groups are among those that there is room
    /// for. Where there are epochs, `id` is a pair, and the pairs of one unit come one after the other.
    ///
    /// # Errors
    /// When keys cannot be hashed.
    pub(super) fn add(&mut self, id: u128, records: &Records, range: Range<usize>, keys: KeysFrom<'_>) -> Result<()> {
        let unit = &mut self.unit;
        unit.place(&records.groups[range.clone()], records.rows.as_ref().map(|rows| &rows[range.clone()]));
        self.chooser.bound(id, unit, keys)?;
        match &mut self.counted_units {
            None => unit.each_kept(|_, group| self.units[group] += 1),
            Some(counted) => {
                unit.each_kept(|_, group| self.units[group] += i64::from(counted.is_first(id, group, 0)));
            }
        }
        for (at, (measure, gathered)) in self.spec.measures.iter().zip(&records.measures).enumerate() {
            match (&mut self.measures[at], &gathered.values) {
                (Sums::Values(groups), Values::Hashes(hashes)) => {
                    let (most, _) = measure.rows(&self.spec.bounds);
                    let counted = gathered.counted.as_ref().map(|counted| &counted[range.clone()]);
                    unit.gather_values(&hashes[range.clone()], counted);
                    for of_slot in unit.values.chunk_by(|a, b| a.0 == b.0) {
                        let slot = of_slot[0].0 as usize;
                        if unit.is_kept[slot] {
                            let group = unit.groups[slot];
                            let out = &mut groups[group as usize];
                            self.chooser.values(id, group, of_slot, most, out, keys)?;
                        }
                    }
                }
                (Sums::Whole(groups), _) => {
                    unit.sum(gathered, range.clone());
                    if let (MeasureKind::Units, Some(counted)) = (&measure.kind, &mut self.counted_units) {
                        let of_slot = unit.counted(gathered);
                        unit.each_kept(|slot, group| {
                            let counts = of_slot[slot] > 0 && counted.is_first(id, group, 1 + at);
                            groups[group] += i128::from(counts);
                        });
                    } else {
                        unit.contribute(measure, gathered, &self.spec, groups);
                    }
                }
                (Sums::Values(_), _) => return internal_err!("distinct values were not gathered"),
            }
        }
        for (at, histogram) in self.spec.histograms.iter().enumerate() {
            unit.weigh(
                &records.candidates[at][range.clone()],
                &self.spec,
                &histogram.candidates,
                &mut self.histograms[at],
            );
        }
        Ok(())
    }

    /// The sums of the groups, whose keys are `keys`.
    pub(super) fn finish(mut self, keys: Vec<ArrayRef>) -> GroupSums {
        for measure in &mut self.measures {
            if let Sums::Values(groups) = measure {
                groups.iter_mut().for_each(distinct);
            }
        }
        let histograms =
            self.histograms.into_iter().map(|groups| groups.into_iter().map(Histogram::finish).collect()).collect();
        GroupSums { keys, units: self.units, measures: self.measures, histograms }
    }
}

impl UnitSlots {
    /// A slot for each group of the records, and how many rows are in it: one a record if nothing else is said.
    fn place(&mut self, groups: &[u32], rows: Option<&[u8]>) {
        // What the last unit left lies below the base of this one.
        self.base = match self.base.checked_add(self.count.max(1) as u32) {
            Some(base) if base.checked_add(groups.len() as u32).is_some() => base,
            _ => {
                self.slot_of.fill(0);
                1
            }
        };
        if let Some(first) = groups.first().filter(|first| groups.iter().all(|group| group == *first)) {
            if self.groups.is_empty() {
                self.groups.push(0);
                self.rows.push(0);
            }
            self.groups[0] = *first;
            self.rows[0] = rows.map_or(groups.len() as u64, |rows| rows.iter().map(|rows| u64::from(*rows)).sum());
            self.count = 1;
            return;
        }
        // One place more than there may be slots: a group is put where the next slot would be.
        if self.slots.len() <= groups.len() {
            self.groups.resize(groups.len() + 1, 0);
            self.rows.resize(groups.len() + 1, 0);
            self.slots.resize(groups.len() + 1, 0);
        }
        match rows {
            Some(rows) => self.place_each(groups.iter().zip(rows.iter().map(|rows| u64::from(*rows)))),
            None => self.place_each(groups.iter().zip(std::iter::repeat(1))),
        }
    }

    #[inline]
    fn place_each<'a>(&mut self, records: impl Iterator<Item = (&'a u32, u64)>) {
        let (slot_of, of_slot, rows_of_slot) = (&mut self.slot_of[..], &mut self.groups[..], &mut self.rows[..]);
        let base = self.base;
        let mut count = 0;
        for ((group, rows), slot) in records.zip(&mut self.slots) {
            let known = &mut slot_of[*group as usize];
            let fresh = *known < base;
            // It counts as a slot if it is one, so that nothing is guessed.
            *slot = if fresh { count } else { *known - base };
            *known = base + *slot;
            of_slot[count as usize] = *group;
            count += u32::from(fresh);
            // Of a slot that is fresh, what an earlier unit left there does not count.
            let rows_so_far = &mut rows_of_slot[*slot as usize];
            *rows_so_far = (*rows_so_far & u64::from(fresh).wrapping_sub(1)) + rows;
        }
        self.count = count as usize;
    }

    /// Bytes held.
    fn size(&self) -> usize {
        let by_group =
            (self.slot_of.capacity() + self.groups.capacity() + self.slots.capacity() + self.kept.capacity()) * 4;
        let by_slot = (self.rows.capacity() + self.counted.capacity()) * 8 + self.sums.capacity() * 16;
        by_group + by_slot + self.values.capacity() * 32 + self.is_kept.capacity() + self.ranked.capacity() * 48
    }

    /// By slot, its group.
    fn groups(&self) -> &[u32] {
        &self.groups[..self.count]
    }

    /// By record, its slot; `None` where there is one slot for all.
    fn slots(&self) -> Option<&[u32]> {
        (self.count > 1).then_some(&self.slots)
    }

    /// Does something with each slot that is kept, and its group.
    #[inline]
    fn each_kept(&self, mut of: impl FnMut(usize, usize)) {
        let groups = self.groups();
        if self.keeps_all {
            groups.iter().enumerate().for_each(|(slot, group)| of(slot, *group as usize));
        } else {
            self.kept.iter().for_each(|slot| of(*slot as usize, groups[*slot as usize] as usize));
        }
    }

    /// What the records of `range` have of a measure, by slot.
    fn sum(&mut self, gathered: &Gathered, range: Range<usize>) {
        let slots = if self.count > 1 { Some(&self.slots) } else { None };
        if let Some(counted) = &gathered.counted {
            let counted = &counted[range.clone()];
            self.counted.clear();
            match slots {
                None => self.counted.push(counted.iter().map(|counted| u64::from(*counted)).sum()),
                Some(slots) => {
                    self.counted.resize(self.count, 0);
                    for (slot, counted) in slots.iter().zip(counted) {
                        self.counted[*slot as usize] += u64::from(*counted);
                    }
                }
            }
        }
        if let Values::Steps(steps) = &gathered.values {
            let steps = &steps[range];
            self.sums.clear();
            match slots {
                None => self.sums.push(steps.iter().map(|steps| i128::from(*steps)).sum()),
                Some(slots) => {
                    self.sums.resize(self.count, 0);
                    for (slot, steps) in slots.iter().zip(steps) {
                        self.sums[*slot as usize] += i128::from(*steps);
                    }
                }
            }
        }
    }

    /// How many rows count of the measure at hand, by slot.
    fn counted(&self, gathered: &Gathered) -> &[u64] {
        if gathered.counted.is_some() { &self.counted } else { &self.rows[..self.count] }
    }

    /// Adds what counts of the measure at hand to the sums of the groups: in each at most r rows' worth, over all at most R.
    fn contribute(&self, measure: &Measure, gathered: &Gathered, spec: &ReleaseSpec, groups: &mut [i128]) {
        let (rows, total_rows) = measure.rows(&spec.bounds);
        let is_sum = matches!(measure.kind, MeasureKind::Sum { .. });
        let of_slot = self.counted(gathered);
        let total = total_rows.and_then(|total| {
            let mut counted = 0u64;
            self.each_kept(|slot, _| counted += of_slot[slot].min(rows));
            (counted > total).then_some((total, counted))
        });
        match total {
            // A count is its own sum of n ones.
            None if !is_sum => self.each_kept(|slot, group| groups[group] += i128::from(of_slot[slot].min(rows))),
            None => self.each_kept(|slot, group| {
                let n = of_slot[slot];
                let counted = n.min(rows);
                groups[group] += if counted == n {
                    self.sums[slot]
                } else {
                    scaled(self.sums[slot], u128::from(counted), u128::from(n))
                };
            }),
            Some((total, all)) => self.each_kept(|slot, group| {
                let n = of_slot[slot];
                let numerator = u128::from(n.min(rows)) * u128::from(total);
                let denominator = u128::from(n) * u128::from(all);
                groups[group] += if is_sum {
                    scaled(self.sums[slot], numerator, denominator)
                } else {
                    (u128::from(n) * numerator / denominator.max(1)) as i128
                };
            }),
        }
    }

    /// The distinct values of each slot, in the order of the slots.
    fn gather_values(&mut self, hashes: &[u128], counted: Option<&[u8]>) {
        self.values.clear();
        for (at, hash) in hashes.iter().enumerate() {
            if counted.is_none_or(|counted| counted[at] > 0) {
                self.values.push((self.slots().map_or(0, |slots| slots[at]), *hash));
            }
        }
        self.values.sort_unstable();
        self.values.dedup();
        self.is_kept.clear();
        self.is_kept.resize(self.count, self.keeps_all);
        if !self.keeps_all {
            self.kept.iter().for_each(|slot| self.is_kept[*slot as usize] = true);
        }
    }

    /// The weights of the rows in the groups that are kept: at most r rows' worth in each, R over all.
    fn weigh(&mut self, of_rows: &[u32], spec: &ReleaseSpec, candidates: &Candidates, groups: &mut [Histogram]) {
        let is_one = self.count == 1;
        self.counted.clear();
        if is_one {
            self.counted.push(of_rows.iter().map(|candidate| u64::from(*candidate != NO_CANDIDATE)).sum());
        } else {
            self.counted.resize(self.count, 0);
            for (slot, candidate) in self.slots.iter().zip(of_rows) {
                self.counted[*slot as usize] += u64::from(*candidate != NO_CANDIDATE);
            }
        }
        let bounds = &spec.bounds;
        let mut all = 0u64;
        self.each_kept(|slot, _| all += self.counted[slot].min(bounds.rows));
        // By slot, the weight of one row: 0 where the group is not kept.
        let mut weights = std::mem::take(&mut self.sums);
        weights.clear();
        weights.resize(self.count, 0);
        self.each_kept(|slot, _| {
            let n = self.counted[slot];
            // w = min(1, r/n), and R/all on top: both fractions at most one, and rounded down.
            let mut weight = u128::from(WHOLE) * u128::from(n.min(bounds.rows)) / u128::from(n.max(1));
            if let Some(total) = bounds.total_rows.filter(|total| all > *total) {
                weight = weight * u128::from(total) / u128::from(all);
            }
            weights[slot] = weight as i128;
        });
        if is_one {
            if weights[0] > 0 {
                groups[self.groups[0] as usize].add(of_rows, weights[0] as u64, candidates);
            }
        } else {
            for (slot, candidate) in self.slots.iter().zip(of_rows) {
                let weight = weights[*slot as usize] as u64;
                if weight > 0 {
                    groups[self.groups[*slot as usize] as usize].add(&[*candidate], weight, candidates);
                }
            }
        }
        self.sums = weights;
    }
}

/// `sum · numerator / denominator`, towards zero, without overflow: numerator ≤ denominator.
fn scaled(sum: i128, numerator: u128, denominator: u128) -> i128 {
    if denominator == 0 {
        return 0;
    }
    let size = sum.unsigned_abs();
    let (whole, rest) = (size / denominator, size % denominator);
    // `rest < denominator`, which is at most n·T: the product stays within 128 bits for counts below 2^42.
    let scaled = match rest.checked_mul(numerator) {
        Some(product) => whole * numerator + product / denominator,
        // Rounding further towards zero keeps the bound.
        None => whole * numerator,
    };
    if sum < 0 { -(scaled as i128) } else { scaled as i128 }
}

/// The weights of one group's candidates: in pairs while they are few, then by candidate.
#[derive(Debug, Clone)]
enum Histogram {
    Few(Weights),
    All(Vec<u64>),
}

impl Default for Histogram {
    fn default() -> Self {
        Self::Few(Weights::new())
    }
}

impl Histogram {
    /// Adds a weight to the candidate of each row that has one.
    #[inline]
    fn add(&mut self, of_rows: &[u32], weight: u64, candidates: &Candidates) {
        if let Self::Few(few) = self
            // A pair is as large as two weights.
            && (few.len() + of_rows.len()) * 2 > candidates.count as usize
        {
            let mut weights = vec![0u64; candidates.count as usize];
            for (candidate, weight) in few.iter() {
                let sum = &mut weights[*candidate as usize];
                *sum = sum.saturating_add(*weight);
            }
            *self = Self::All(weights);
        }
        match self {
            Self::All(weights) => {
                for candidate in of_rows {
                    // No table reaches to `NO_CANDIDATE`.
                    if let Some(sum) = weights.get_mut(*candidate as usize) {
                        *sum = sum.saturating_add(weight);
                    }
                }
            }
            Self::Few(few) => {
                few.extend(
                    of_rows.iter().filter(|candidate| **candidate != NO_CANDIDATE).map(|of_row| (*of_row, weight)),
                );
            }
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::Few(few) => few.capacity() * 16,
            Self::All(weights) => weights.capacity() * 8,
        }
    }

    fn finish(self) -> Weights {
        match self {
            Self::Few(mut few) => {
                compact(&mut few);
                few
            }
            Self::All(weights) => weights
                .into_iter()
                .zip(0..)
                .filter(|(weight, _)| *weight > 0)
                .map(|(weight, at)| (at, weight))
                .collect(),
        }
    }
}

/// Counts each unit once in a group, in however many epochs it is there. Without one of its pairs a count of units is less
/// by at most 1 in each group of that pair: so little moves, and a group of one unit in ten epochs is a group of one.
struct CountedUnits {
    /// By count and by group, the unit that was counted last: pairs of one unit come one after the other.
    last: Vec<Vec<u128>>,
}

impl CountedUnits {
    /// None counted yet: of units that have a row, and one count more for each measure.
    fn new(measures: usize) -> Self {
        Self { last: vec![Vec::new(); 1 + measures] }
    }

    fn grow(&mut self, groups: usize) {
        // No unit of a pair has that many bits.
        self.last.iter_mut().for_each(|last| last.resize(groups, u128::MAX));
    }

    /// Whether the unit of `pair` is not counted in `group` yet; from now on it is.
    fn is_first(&mut self, pair: u128, group: usize, count: usize) -> bool {
        let unit = unit_of(pair);
        std::mem::replace(&mut self.last[count][group], unit) != unit
    }
}

/// Chooses the L0 groups of a unit that touches more: those of the lowest keyed hash of (query key, unit, group). Each
/// grouping set has its own L0.
///
/// The hash is over the unit's and the group's real keys, never over codes, so that neither the order of rows nor the
/// way in which the work was split decides.
struct Chooser {
    groups: u64,
    sets: Option<GroupingSets>,
    key: SelectionKey,
    /// By group that was asked for so far.
    group_hashes: Vec<u128>,
    /// By group the place of its grouping set.
    set_of: Vec<usize>,
}

impl Chooser {
    fn new(spec: &ReleaseSpec, key: SelectionKey) -> Self {
        Self { groups: spec.bounds.groups, sets: spec.sets.clone(), key, group_hashes: Vec::new(), set_of: Vec::new() }
    }

    fn size(&self) -> usize {
        self.group_hashes.capacity() * 16 + self.set_of.capacity() * 8
    }

    /// Makes `kept` of the unit's slots.
    fn bound(&mut self, id: u128, unit: &mut UnitSlots, keys: KeysFrom<'_>) -> Result<()> {
        unit.kept.clear();
        let Some(sets) = self.sets.take() else {
            unit.keeps_all = usize::try_from(self.groups).is_ok_and(|groups| unit.count <= groups);
            if unit.keeps_all {
                return Ok(());
            }
            unit.kept.extend(0..unit.count as u32);
            return self.keep(id, unit, 0, self.groups, keys);
        };
        unit.keeps_all = false;
        if let Some(most) = unit.groups().iter().max().filter(|most| **most as usize >= self.set_of.len()) {
            sets_of(&sets, &keys(self.set_of.len())?, &mut self.set_of)?;
            if *most as usize >= self.set_of.len() {
                return internal_err!("a group without a key");
            }
        }
        for (set, (_, groups)) in sets.groups.iter().enumerate() {
            let start = unit.kept.len();
            let of_set = |slot: &u32| self.set_of[unit.groups[*slot as usize] as usize] == set;
            unit.kept.extend((0..unit.count as u32).filter(of_set));
            self.keep(id, unit, start, *groups, keys)?;
        }
        self.sets = Some(sets);
        Ok(())
    }

    /// Of the slots of `kept` from `start` on keeps at most `groups`.
    fn keep(&mut self, id: u128, unit: &mut UnitSlots, start: usize, groups: u64, keys: KeysFrom<'_>) -> Result<()> {
        let groups = usize::try_from(groups).unwrap_or(usize::MAX);
        if unit.kept.len() - start <= groups {
            return Ok(());
        }
        let of_unit = keyed(self.key, &id.to_le_bytes());
        unit.ranked.clear();
        for slot in &unit.kept[start..] {
            let (pair, group) = self.pair(of_unit, unit.groups[*slot as usize], keys)?;
            unit.ranked.push(((keyed(self.key, &pair), group), *slot));
        }
        unit.kept.truncate(start);
        if groups > 0 {
            unit.ranked.select_nth_unstable(groups);
        }
        unit.kept.extend(unit.ranked[..groups].iter().map(|(_, slot)| *slot));
        Ok(())
    }

    /// Adds the values of a unit in a group to the group's: all of them, or the `most` of the lowest keyed hash.
    fn values(
        &mut self,
        id: u128,
        group: u32,
        values: &[(u32, u128)],
        most: u64,
        out: &mut Vec<u128>,
        keys: KeysFrom<'_>,
    ) -> Result<()> {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let full = out.len() == out.capacity() && out.len() > 1_024;
        if full {
            // So that many units of few values hold these values, and not each unit's.
            distinct(out);
        }
        if values.len() <= most {
            out.extend(values.iter().map(|(_, value)| *value));
            return Ok(());
        }
        let (pair, _) = self.pair(keyed(self.key, &id.to_le_bytes()), group, keys)?;
        let rank = |value: u128| {
            let mut bytes = [0; 48];
            bytes[..32].copy_from_slice(&pair);
            bytes[32..].copy_from_slice(&value.to_le_bytes());
            keyed(self.key, &bytes)
        };
        let mut ranked: Vec<(u128, u128)> = values.iter().map(|(_, value)| (rank(*value), *value)).collect();
        ranked.select_nth_unstable(most);
        out.extend(ranked[..most].iter().map(|(_, value)| *value));
        Ok(())
    }

    /// The hashes of a unit and of a group, one after the other; and that of the group.
    fn pair(&mut self, of_unit: u128, group: u32, keys: KeysFrom<'_>) -> Result<([u8; 32], u128)> {
        if group as usize >= self.group_hashes.len() {
            let keys = keys(self.group_hashes.len())?;
            if keys.is_empty() {
                self.group_hashes.push(0);
            } else {
                let fields = keys.iter().map(|column| SortField::new(column.data_type().clone())).collect();
                let rows = RowConverter::new(fields)?.convert_columns(&keys)?;
                self.group_hashes.extend(rows.iter().map(|row| keyed(self.key, row.as_ref())));
            }
        }
        let Some(group) = self.group_hashes.get(group as usize) else {
            return internal_err!("a group without a key");
        };
        let mut pair = [0; 32];
        pair[..16].copy_from_slice(&of_unit.to_le_bytes());
        pair[16..].copy_from_slice(&group.to_le_bytes());
        Ok((pair, *group))
    }
}

/// By group the place of its grouping set. A number that no set has is an error: its groups would be bounded by none.
fn sets_of(sets: &GroupingSets, keys: &[ArrayRef], set_of: &mut Vec<usize>) -> Result<()> {
    let Some(numbers) = keys.get(sets.key) else { return internal_err!("grouping sets without a key") };
    let numbers = arrow::compute::cast(numbers, &DataType::UInt64)?;
    let numbers = numbers.as_primitive::<UInt64Type>();
    for at in 0..numbers.len() {
        let set = sets.groups.iter().position(|(number, _)| !numbers.is_null(at) && *number == numbers.value(at));
        let Some(set) = set else { return internal_err!("a row of no grouping set") };
        set_of.push(set);
    }
    Ok(())
}
