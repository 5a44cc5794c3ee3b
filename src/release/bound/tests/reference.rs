//! The contributions of the units of one partition, bounded (DESIGN 4.2). Pure computation over Arrow arrays.
//!
//! ```text
//! unit group value          (unit, group) slots            unit: at most L0 groups      group: sums
//!  a    X     3              a X  n=2 Σ=5                   a X  ✓                       X  units 1  n 2  Σ 5
//!  b    Y     1      ──▶     b Y  n=1 Σ=1         ──▶       b Y  ✓                ──▶    Y  units 1  n 1  Σ 1
//!  a    X     2              a Z  n=1 Σ=9                   a Z  ✗ (past L0)
//!  a    Z     9
//! ```
//!
//! With epochs the left column is the pair of a unit and an epoch, and bounds are the pair's; but `units` counts a unit
//! once in a group, in however many epochs it is there.
//!
//! All rows of a unit must be in one partition: the operator above asks for that. Every step is over whole units, so
//! the result does not depend on the order of rows, or on how they were split into batches.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Schema, UInt64Type};
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::EmitTo;
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;
use hashbrown::{HashSet, HashTable};
use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher;

use super::reference_units::CountedUnits;
use crate::release::bound::{GroupSums, SelectionKey, Sums, distinct, emitted, key_schema};
use crate::release::quantile::{WHOLE, Weights, compact};
use crate::release::spec::{ContributionBounds, GroupingSets, MeasureKind, ReleaseSpec};

/// Gathers rows, then bounds what each unit adds.
pub struct Contributions {
    spec: Arc<ReleaseSpec>,
    selection_key: SelectionKey,
    units: Box<dyn GroupValues>,
    groups: Option<Box<dyn GroupValues>>,
    slots: Slots,
    columns: Vec<Column>,
    /// By histogram, the slot and the candidate of each row.
    bins: Vec<Vec<(u32, u32)>>,
    // Buffers that each batch fills anew.
    unit_codes: Vec<usize>,
    group_codes: Vec<usize>,
    row_slots: Vec<u32>,
    steps: Vec<i64>,
}

/// A (unit, group) pair each.
#[derive(Default)]
struct Slots {
    index: HashTable<u32>,
    unit: Vec<u32>,
    group: Vec<u32>,
}

impl Slots {
    fn place(&mut self, unit: u32, group: u32) -> u32 {
        let (units, groups) = (&self.unit, &self.group);
        let found =
            self.index.find(hash(unit, group), |slot| units[*slot as usize] == unit && groups[*slot as usize] == group);
        if let Some(slot) = found {
            return *slot;
        }
        let slot = self.unit.len() as u32;
        self.unit.push(unit);
        self.group.push(group);
        let (units, groups) = (&self.unit, &self.group);
        self.index.insert_unique(hash(unit, group), slot, |slot| hash(units[*slot as usize], groups[*slot as usize]));
        slot
    }
}

/// A multiplicative hash is enough: codes are dense small integers that no caller chooses.
fn hash(unit: u32, group: u32) -> u64 {
    let mixed = (u64::from(unit) << 32 | u64::from(group)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ (mixed >> 32)
}

/// What a measure gathers for each slot.
struct Column {
    rows: Vec<u64>,
    sums: Option<Vec<i128>>,
    /// Slots with the keyed hashes of their distinct values.
    values: Option<HashSet<(u32, u128)>>,
}

impl Contributions {
    /// Nothing gathered yet, for input of `schema`.
    ///
    /// # Errors
    /// When a type cannot be grouped.
    pub fn new(spec: Arc<ReleaseSpec>, selection_key: SelectionKey, schema: &Schema) -> Result<Self> {
        let unit = Arc::new(Schema::new(schema.fields()[..spec.unit_width()].to_vec()));
        let groups =
            if spec.keys.is_empty() { None } else { Some(new_group_values(key_schema(&spec), &GroupOrdering::None)?) };
        let columns = spec
            .measures
            .iter()
            .map(|measure| Column {
                rows: Vec::new(),
                sums: matches!(measure.kind, MeasureKind::Sum { .. }).then(Vec::new),
                values: matches!(measure.kind, MeasureKind::Distinct { .. }).then(HashSet::new),
            })
            .collect();
        let bins = vec![Vec::new(); spec.histograms.len()];
        Ok(Self {
            spec,
            bins,
            selection_key,
            units: new_group_values(unit, &GroupOrdering::None)?,
            groups,
            slots: Slots::default(),
            columns,
            unit_codes: Vec::new(),
            group_codes: Vec::new(),
            row_slots: Vec::new(),
            steps: Vec::new(),
        })
    }

    /// Gathers a batch whose columns are as the specification says.
    ///
    /// # Errors
    /// When a column has another type than the specification was made for.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let unit = &batch.columns()[..self.spec.unit_width()];
        if unit.iter().any(|part| part.logical_null_count() > 0) {
            // They are dropped at the scan; a fault there must not make one unit of all such rows.
            return internal_err!("a row without a privacy unit or epoch reached the bounding of contributions");
        }
        self.unit_codes.clear();
        self.units.intern(unit, &mut self.unit_codes)?;
        self.group_codes.clear();
        match &mut self.groups {
            None => self.group_codes.resize(batch.num_rows(), 0),
            Some(groups) => {
                let keys = &batch.columns()[self.spec.key_column(0)..self.spec.key_column(self.spec.keys.len())];
                let keys: Vec<ArrayRef> = keys.iter().map(one_form_of_floats).collect();
                groups.intern(&keys, &mut self.group_codes)?;
            }
        }
        self.row_slots.clear();
        let mut last = (u32::MAX, u32::MAX, 0);
        for (unit, group) in self.unit_codes.iter().zip(&self.group_codes) {
            let (unit, group) = (*unit as u32, *group as u32);
            if (last.0, last.1) != (unit, group) {
                last = (unit, group, self.slots.place(unit, group));
            }
            self.row_slots.push(last.2);
        }
        for (measure, column) in self.spec.measures.iter().zip(&mut self.columns) {
            let slots = self.slots.unit.len();
            column.rows.resize(slots, 0);
            let filter = measure.filter.map(|filter| batch.column(self.spec.filter_column(filter)).as_boolean());
            let argument = match &measure.kind {
                MeasureKind::Rows | MeasureKind::Units => None,
                MeasureKind::Values { argument }
                | MeasureKind::Sum { argument, .. }
                | MeasureKind::Distinct { argument } => Some(batch.column(self.spec.argument_column(*argument))),
            };
            let mask = mask(filter, argument, batch.num_rows());
            if let (Some(values), Some(argument)) = (&mut column.values, argument) {
                let rows = rows(&[one_form_of_floats(argument)])?;
                each(mask.as_ref(), batch.num_rows(), |row| {
                    values.insert((self.row_slots[row], keyed(self.selection_key, rows.row(row).as_ref())));
                });
                continue;
            }
            if let (MeasureKind::Sum { lattice, .. }, Some(values), Some(sums)) =
                (&measure.kind, argument, &mut column.sums)
            {
                sums.resize(slots, 0);
                lattice.steps(values, &mut self.steps)?;
                each(mask.as_ref(), batch.num_rows(), |row| {
                    let slot = self.row_slots[row] as usize;
                    column.rows[slot] += 1;
                    sums[slot] += i128::from(self.steps[row]);
                });
            } else {
                each(mask.as_ref(), batch.num_rows(), |row| column.rows[self.row_slots[row] as usize] += 1);
            }
        }
        for (histogram, bins) in self.spec.histograms.iter().zip(&mut self.bins) {
            let filter = histogram.filter.map(|filter| batch.column(self.spec.filter_column(filter)).as_boolean());
            let argument = batch.column(self.spec.argument_column(histogram.argument));
            let Some(values) = argument.as_primitive_opt::<Float64Type>() else {
                return internal_err!("a quantile is of floats");
            };
            let mask = mask(filter, Some(argument), batch.num_rows());
            each(mask.as_ref(), batch.num_rows(), |row| {
                bins.push((self.row_slots[row], histogram.candidates.of(values.value(row))));
            });
        }
        Ok(())
    }

    /// Bounds what each unit adds and sums it by group.
    ///
    /// # Errors
    /// When keys cannot be emitted or hashed.
    pub fn finish(mut self) -> Result<GroupSums> {
        let groups = self.groups.as_ref().map_or(1, |groups| groups.len());
        let unit_keys = self.units.emit(EmitTo::All)?;
        let keys = match &mut self.groups {
            None => Vec::new(),
            Some(groups) => emitted(groups.as_mut(), &self.spec)?,
        };
        let units = unit_keys.first().map_or(0, Array::len);
        let by_unit = ByUnit::new(&self.slots.unit, units);
        let mut chooser = Chooser::new(&self.spec, self.selection_key, &unit_keys, &keys)?;
        let measures = self.spec.measures.iter().map(|measure| Sums::nothing(measure, groups)).collect();
        let histograms = vec![vec![Weights::new(); groups]; self.spec.histograms.len()];
        let mut sums = GroupSums { keys, units: vec![0; groups], measures, histograms };
        let bins: Vec<Bins> =
            std::mem::take(&mut self.bins).into_iter().map(|bins| Bins::new(&bins, self.slots.unit.len())).collect();
        // By measure of distinct values, these by slot.
        let values: Vec<Option<BySlot>> =
            self.columns.iter_mut().map(|column| column.values.take().map(BySlot::new)).collect();
        let mut counted = match self.spec.epochs {
            None => None,
            Some(_) => Some(CountedUnits::new(&unit_keys, groups, self.spec.measures.len())?),
        };
        let order: Vec<usize> = counted.as_ref().map_or_else(|| (0..units).collect(), CountedUnits::order);
        let mut kept = Vec::new();
        for unit in order {
            kept.clear();
            kept.extend_from_slice(by_unit.slots(unit));
            chooser.bound(unit, &self.slots.group, &mut kept)?;
            for slot in &kept {
                let group = self.slots.group[*slot as usize];
                let first = counted.as_mut().is_none_or(|counted| counted.is_first(unit, group, 0));
                sums.units[group as usize] += i64::from(first);
            }
            for (at, (measure, column)) in self.spec.measures.iter().zip(&self.columns).enumerate() {
                let (rows, total_rows) = measure.rows(&self.spec.bounds);
                match (&mut sums.measures[at], &values[at]) {
                    (Sums::Values(groups), Some(values)) => {
                        for slot in &kept {
                            let group = self.slots.group[*slot as usize];
                            chooser.values(unit, group, values.of(*slot), rows, &mut groups[group as usize])?;
                        }
                    }
                    (Sums::Whole(groups), _) if counted.is_some() && measure.kind == MeasureKind::Units => {
                        for slot in kept.iter().filter(|slot| column.rows[**slot as usize] > 0) {
                            let group = self.slots.group[*slot as usize];
                            let first = counted.as_mut().is_none_or(|counted| counted.is_first(unit, group, 1 + at));
                            groups[group as usize] += i128::from(first);
                        }
                    }
                    (Sums::Whole(groups), _) => {
                        let scale = Scale::of(rows, total_rows, column, &kept);
                        for slot in &kept {
                            let slot = *slot as usize;
                            groups[self.slots.group[slot] as usize] += scale.contribution(column, slot);
                        }
                    }
                    (Sums::Values(_), None) => return internal_err!("distinct values were not gathered"),
                }
            }
            for (at, groups) in sums.histograms.iter_mut().enumerate() {
                bins[at].weigh(&kept, &self.slots.group, &self.spec.bounds, groups);
            }
        }
        for measure in &mut sums.measures {
            if let Sums::Values(groups) = measure {
                groups.iter_mut().for_each(distinct);
            }
        }
        sums.histograms.iter_mut().flatten().for_each(compact);
        Ok(sums)
    }
}

/// The candidates of rows in the order of their slots: a counting sort.
struct Bins {
    starts: Vec<u32>,
    bins: Vec<u32>,
}

impl Bins {
    fn new(rows: &[(u32, u32)], slots: usize) -> Self {
        let mut starts = vec![0u32; slots + 1];
        for (slot, _) in rows {
            starts[*slot as usize + 1] += 1;
        }
        for slot in 0..slots {
            starts[slot + 1] += starts[slot];
        }
        let mut next = starts.clone();
        let mut bins = vec![0; rows.len()];
        for (slot, bin) in rows {
            let place = &mut next[*slot as usize];
            bins[*place as usize] = *bin;
            *place += 1;
        }
        Self { starts, bins }
    }

    fn of(&self, slot: u32) -> &[u32] {
        &self.bins[self.starts[slot as usize] as usize..self.starts[slot as usize + 1] as usize]
    }

    /// The weights of a unit's rows in the groups that it keeps: at most r rows' worth in each, R over all.
    fn weigh(&self, kept: &[u32], group_of: &[u32], bounds: &ContributionBounds, groups: &mut [Weights]) {
        let counted = |slot: u32| (self.of(slot).len() as u64).min(bounds.rows);
        let all: u64 = kept.iter().map(|slot| counted(*slot)).sum();
        for slot in kept {
            let rows = self.of(*slot);
            if rows.is_empty() {
                continue;
            }
            // w = min(1, r/n), and R/all on top: both fractions at most one, and rounded down.
            let mut weight = u128::from(WHOLE) * u128::from(counted(*slot)) / rows.len() as u128;
            if let Some(total) = bounds.total_rows.filter(|total| all > *total) {
                weight = weight * u128::from(total) / u128::from(all);
            }
            let group = &mut groups[group_of[*slot as usize] as usize];
            group.extend(rows.iter().map(|bin| (*bin, weight as u64)));
        }
    }
}

/// Distinct values in the order of their slots.
struct BySlot(Vec<(u32, u128)>);

impl BySlot {
    fn new(values: HashSet<(u32, u128)>) -> Self {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_unstable();
        Self(values)
    }

    fn of(&self, slot: u32) -> &[(u32, u128)] {
        let from = self.0.partition_point(|(at, _)| *at < slot);
        let len = self.0[from..].partition_point(|(at, _)| *at == slot);
        &self.0[from..from + len]
    }
}

/// Float keys with one form of zero and one of NaN. Several forms that group together would leave the group's bytes, and
/// with them the choice of other units' groups, to whichever row came first.
fn one_form_of_floats(key: &ArrayRef) -> ArrayRef {
    match key.data_type() {
        DataType::Float64 => {
            let one_form = |value: f64| if value.is_nan() { f64::NAN } else { value + 0.0 };
            Arc::new(key.as_primitive::<Float64Type>().unary::<_, Float64Type>(one_form))
        }
        DataType::Float32 => {
            let one_form = |value: f32| if value.is_nan() { f32::NAN } else { value + 0.0 };
            Arc::new(key.as_primitive::<Float32Type>().unary::<_, Float32Type>(one_form))
        }
        _ => Arc::clone(key),
    }
}

/// Which rows count: the filter is true, and the argument is neither NULL nor NaN. `None` when all do.
fn mask(filter: Option<&BooleanArray>, argument: Option<&ArrayRef>, rows: usize) -> Option<BooleanArray> {
    let filter = filter.map(|filter| match filter.nulls() {
        None => filter.clone(),
        Some(nulls) => BooleanArray::new(filter.values() & nulls.inner(), None),
    });
    let Some(argument) = argument else { return filter };
    let mut mask = filter.map(|filter| filter.values().clone());
    let mut and = |part: arrow::buffer::BooleanBuffer| {
        mask = Some(match mask.take() {
            None => part,
            Some(mask) => &mask & &part,
        });
    };
    if let Some(nulls) = argument.logical_nulls() {
        and(nulls.inner().clone());
    }
    match argument.data_type() {
        DataType::Float64 => {
            let values = argument.as_primitive::<Float64Type>().values();
            and(arrow::buffer::BooleanBuffer::collect_bool(rows, |row| !values[row].is_nan()));
        }
        DataType::Float32 => {
            let values = argument.as_primitive::<Float32Type>().values();
            and(arrow::buffer::BooleanBuffer::collect_bool(rows, |row| !values[row].is_nan()));
        }
        _ => {}
    }
    mask.map(|mask| BooleanArray::new(mask, None))
}

fn each(mask: Option<&BooleanArray>, rows: usize, mut act: impl FnMut(usize)) {
    match mask {
        None => (0..rows).for_each(act),
        Some(mask) => mask.values().set_indices().for_each(&mut act),
    }
}

/// Slots in the order of their units: a counting sort.
struct ByUnit {
    starts: Vec<u32>,
    slots: Vec<u32>,
}

impl ByUnit {
    fn new(unit_of: &[u32], units: usize) -> Self {
        let mut starts = vec![0u32; units + 1];
        for unit in unit_of {
            starts[*unit as usize + 1] += 1;
        }
        for unit in 0..units {
            starts[unit + 1] += starts[unit];
        }
        let mut next = starts.clone();
        let mut slots = vec![0; unit_of.len()];
        for (slot, unit) in unit_of.iter().enumerate() {
            let place = &mut next[*unit as usize];
            slots[*place as usize] = slot as u32;
            *place += 1;
        }
        Self { starts, slots }
    }

    fn slots(&self, unit: usize) -> &[u32] {
        &self.slots[self.starts[unit] as usize..self.starts[unit + 1] as usize]
    }
}

/// Chooses the L0 groups of a unit that touches more: those of the lowest keyed hash of (query key, unit, group). Each
/// grouping set has its own L0.
///
/// The hash is over the unit's and the group's real keys, never over codes, so that neither the order of rows nor the
/// way in which the work was split decides.
struct Chooser<'a> {
    groups: u64,
    /// By group the place of its grouping set, and by set its L0.
    sets: Option<(Vec<usize>, Vec<u64>)>,
    key: SelectionKey,
    unit_keys: &'a [ArrayRef],
    group_keys: Vec<ArrayRef>,
    group_hashes: Option<Vec<u128>>,
    unit_rows: Option<arrow::row::Rows>,
}

impl<'a> Chooser<'a> {
    fn new(spec: &ReleaseSpec, key: SelectionKey, unit_keys: &'a [ArrayRef], group_keys: &[ArrayRef]) -> Result<Self> {
        let sets = spec.sets.as_ref().map(|sets| sets_of(sets, group_keys)).transpose()?;
        Ok(Self {
            groups: spec.bounds.groups,
            sets,
            key,
            unit_keys,
            group_keys: group_keys.to_vec(),
            group_hashes: None,
            unit_rows: None,
        })
    }

    /// Keeps the chosen ones of `slots`, all of `unit`.
    fn bound(&mut self, unit: usize, group_of: &[u32], slots: &mut Vec<u32>) -> Result<()> {
        let Some((set_of, groups)) = self.sets.take() else {
            return self.keep(unit, group_of, slots, self.groups);
        };
        let mut kept = Vec::with_capacity(slots.len());
        for (set, groups) in groups.iter().enumerate() {
            let mut of_set: Vec<u32> =
                slots.iter().copied().filter(|slot| set_of[group_of[*slot as usize] as usize] == set).collect();
            self.keep(unit, group_of, &mut of_set, *groups)?;
            kept.extend(of_set);
        }
        self.sets = Some((set_of, groups));
        *slots = kept;
        Ok(())
    }

    fn keep(&mut self, unit: usize, group_of: &[u32], slots: &mut Vec<u32>, groups: u64) -> Result<()> {
        let groups = usize::try_from(groups).unwrap_or(usize::MAX);
        if slots.len() <= groups {
            return Ok(());
        }
        let mut ranked = Vec::with_capacity(slots.len());
        for slot in slots.iter() {
            let (pair, group) = self.pair(unit, group_of[*slot as usize])?;
            ranked.push(((keyed(self.key, &pair), group), *slot));
        }
        ranked.select_nth_unstable(groups);
        ranked.truncate(groups);
        slots.clear();
        slots.extend(ranked.into_iter().map(|(_, slot)| slot));
        Ok(())
    }

    /// Adds the values of a unit in a group to the group's: all of them, or the `most` of the lowest keyed hash.
    fn values(
        &mut self,
        unit: usize,
        group: u32,
        values: &[(u32, u128)],
        most: u64,
        out: &mut Vec<u128>,
    ) -> Result<()> {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        if values.len() <= most {
            out.extend(values.iter().map(|(_, value)| *value));
            return Ok(());
        }
        let (pair, _) = self.pair(unit, group)?;
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
    fn pair(&mut self, unit: usize, group: u32) -> Result<([u8; 32], u128)> {
        let key = self.key;
        if self.group_hashes.is_none() {
            let groups = if self.group_keys.is_empty() {
                vec![0]
            } else {
                let rows = rows(&self.group_keys)?;
                (0..rows.num_rows()).map(|at| keyed(key, rows.row(at).as_ref())).collect()
            };
            self.group_hashes = Some(groups);
        }
        if self.unit_rows.is_none() {
            self.unit_rows = Some(rows(self.unit_keys)?);
        }
        let (Some(groups), Some(units)) = (&self.group_hashes, &self.unit_rows) else {
            return internal_err!("hashes of groups and units were not made");
        };
        let (unit, group) = (keyed(key, units.row(unit).as_ref()), groups[group as usize]);
        let mut pair = [0; 32];
        pair[..16].copy_from_slice(&unit.to_le_bytes());
        pair[16..].copy_from_slice(&group.to_le_bytes());
        Ok((pair, group))
    }
}

/// By group the place of its grouping set, and by set its L0. A number that no set has is an error: its groups would be
/// bounded by none.
fn sets_of(sets: &GroupingSets, group_keys: &[ArrayRef]) -> Result<(Vec<usize>, Vec<u64>)> {
    let numbers = arrow::compute::cast(&group_keys[sets.key], &DataType::UInt64)?;
    let numbers = numbers.as_primitive::<UInt64Type>();
    let mut set_of = Vec::with_capacity(numbers.len());
    for at in 0..numbers.len() {
        let set = sets.groups.iter().position(|(number, _)| !numbers.is_null(at) && *number == numbers.value(at));
        let Some(set) = set else { return internal_err!("a row of no grouping set") };
        set_of.push(set);
    }
    Ok((set_of, sets.groups.iter().map(|(_, groups)| *groups).collect()))
}

fn rows(columns: &[ArrayRef]) -> Result<arrow::row::Rows> {
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    Ok(RowConverter::new(fields)?.convert_columns(columns)?)
}

fn keyed(key: SelectionKey, bytes: &[u8]) -> u128 {
    let mut hasher = SipHasher13::new_with_key(&key);
    hasher.write(bytes);
    hasher.finish128().as_u128()
}

/// How much of what a unit has in a measure counts: in each group at most r rows' worth, over all groups at most R.
#[derive(Debug, Clone, Copy)]
struct Scale {
    rows: u64,
    /// R and the rows that would count without it, if that is more than R.
    total: Option<(u64, u64)>,
}

impl Scale {
    fn of(rows: u64, total_rows: Option<u64>, column: &Column, kept: &[u32]) -> Self {
        let total = total_rows.and_then(|total| {
            let counted: u64 = kept.iter().map(|slot| column.rows[*slot as usize].min(rows)).sum();
            (counted > total).then_some((total, counted))
        });
        Self { rows, total }
    }

    /// `w·Σ` with w = min(1, r/n), and R/counted on top; rounded towards zero, so that the bound holds exactly.
    fn contribution(self, column: &Column, slot: usize) -> i128 {
        let n = column.rows[slot];
        let counted = n.min(self.rows);
        let (numerator, denominator) = match self.total {
            None => (u128::from(counted), u128::from(n)),
            Some((total, all)) => (u128::from(counted) * u128::from(total), u128::from(n) * u128::from(all)),
        };
        match &column.sums {
            // A count is its own sum of n ones.
            None if self.total.is_none() => i128::from(counted),
            None => (u128::from(n) * numerator / denominator.max(1)) as i128,
            Some(sums) if numerator == denominator => sums[slot],
            Some(sums) => scaled(sums[slot], numerator, denominator),
        }
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
