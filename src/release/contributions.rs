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
//! All rows of a unit must be in one partition: the operator above asks for that. Every step is over whole units, so
//! the result does not depend on the order of rows, or on how they were split into batches.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::EmitTo;
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;
use hashbrown::HashTable;
use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher;

use super::spec::{MeasureKind, ReleaseSpec};

/// The key of the hash that chooses which groups of a unit are kept when it touches more than L0.
pub type SelectionKey = [u8; 16];

/// The bounded sums of one group.
#[derive(Debug)]
pub struct GroupSums {
    /// By key column, the key of each group; empty without GROUP BY.
    pub keys: Vec<ArrayRef>,
    /// How many units each group has, after L0 bounding.
    pub units: Vec<i64>,
    /// By measure, the sum of each group.
    pub measures: Vec<Vec<i128>>,
}

/// Gathers rows, then bounds what each unit adds.
pub struct Contributions {
    spec: Arc<ReleaseSpec>,
    selection_key: SelectionKey,
    units: Box<dyn GroupValues>,
    groups: Option<Box<dyn GroupValues>>,
    slots: Slots,
    columns: Vec<Column>,
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
}

impl Contributions {
    /// Nothing gathered yet, for input of `schema`.
    ///
    /// # Errors
    /// When a type cannot be grouped.
    pub fn new(spec: Arc<ReleaseSpec>, selection_key: SelectionKey, schema: &Schema) -> Result<Self> {
        let unit = Arc::new(Schema::new(vec![schema.field(ReleaseSpec::UNIT).clone()]));
        let groups =
            if spec.keys.is_empty() { None } else { Some(new_group_values(key_schema(&spec), &GroupOrdering::None)?) };
        let columns = spec
            .measures
            .iter()
            .map(|measure| Column {
                rows: Vec::new(),
                sums: matches!(measure.kind, MeasureKind::Sum { .. }).then(Vec::new),
            })
            .collect();
        Ok(Self {
            spec,
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

    /// Bytes held.
    #[must_use]
    pub fn size(&self) -> usize {
        let slots = self.slots.index.allocation_size() + (self.slots.unit.capacity() + self.slots.group.capacity()) * 4;
        let columns: usize = self
            .columns
            .iter()
            .map(|column| column.rows.capacity() * 8 + column.sums.as_ref().map_or(0, |sums| sums.capacity() * 16))
            .sum();
        let groups = self.groups.as_ref().map_or(0, |groups| groups.size());
        self.units.size() + groups + slots + columns
    }

    /// Gathers a batch whose columns are as the specification says.
    ///
    /// # Errors
    /// When a column has another type than the specification was made for.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let unit = batch.column(ReleaseSpec::UNIT);
        if unit.logical_null_count() > 0 {
            // They are dropped at the scan; a fault there must not make one unit of all such rows.
            return internal_err!("a row without a privacy unit reached the bounding of contributions");
        }
        self.unit_codes.clear();
        self.units.intern(std::slice::from_ref(unit), &mut self.unit_codes)?;
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
                MeasureKind::Rows => None,
                MeasureKind::Values { argument } | MeasureKind::Sum { argument, .. } => {
                    Some(batch.column(self.spec.argument_column(*argument)))
                }
            };
            let mask = mask(filter, argument, batch.num_rows());
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
            Some(groups) => groups.emit(EmitTo::All)?,
        };
        let units = unit_keys.first().map_or(0, Array::len);
        let by_unit = ByUnit::new(&self.slots.unit, units);
        let chooser = Chooser::new(&self.spec, self.selection_key, &unit_keys, &keys);
        let mut sums =
            GroupSums { keys, units: vec![0; groups], measures: vec![vec![0; groups]; self.spec.measures.len()] };
        let mut chooser = chooser;
        let mut kept = Vec::new();
        for unit in 0..units {
            kept.clear();
            kept.extend_from_slice(by_unit.slots(unit));
            if kept.len() as u64 > self.spec.bounds.groups {
                chooser.keep(unit, &self.slots.group, &mut kept)?;
            }
            for slot in &kept {
                sums.units[self.slots.group[*slot as usize] as usize] += 1;
            }
            for (column, sums) in self.columns.iter().zip(&mut sums.measures) {
                let scale = Scale::of(&self.spec, column, &kept);
                for slot in &kept {
                    let slot = *slot as usize;
                    sums[self.slots.group[slot] as usize] += scale.contribution(column, slot);
                }
            }
        }
        Ok(sums)
    }
}

/// The schema of the group keys.
pub(super) fn key_schema(spec: &ReleaseSpec) -> SchemaRef {
    Arc::new(Schema::new(spec.keys.iter().map(Arc::clone).collect::<Vec<_>>()))
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

/// Chooses the L0 groups of a unit that touches more: those of the lowest keyed hash of (query key, unit, group).
///
/// The hash is over the unit's and the group's real keys, never over codes, so that neither the order of rows nor the
/// way in which the work was split decides.
struct Chooser<'a> {
    l0: usize,
    key: SelectionKey,
    unit_keys: &'a [ArrayRef],
    group_keys: Vec<ArrayRef>,
    group_hashes: Option<Vec<u128>>,
    unit_rows: Option<arrow::row::Rows>,
}

impl<'a> Chooser<'a> {
    fn new(spec: &ReleaseSpec, key: SelectionKey, unit_keys: &'a [ArrayRef], group_keys: &[ArrayRef]) -> Self {
        Self {
            l0: usize::try_from(spec.bounds.groups).unwrap_or(usize::MAX),
            key,
            unit_keys,
            group_keys: group_keys.to_vec(),
            group_hashes: None,
            unit_rows: None,
        }
    }

    /// Keeps the chosen ones of `slots`, all of `unit`.
    fn keep(&mut self, unit: usize, group_of: &[u32], slots: &mut Vec<u32>) -> Result<()> {
        let key = self.key;
        if self.group_hashes.is_none() {
            let rows = rows(&self.group_keys)?;
            self.group_hashes = Some((0..rows.num_rows()).map(|at| keyed(key, rows.row(at).as_ref())).collect());
        }
        if self.unit_rows.is_none() {
            self.unit_rows = Some(rows(self.unit_keys)?);
        }
        let (Some(groups), Some(units)) = (&self.group_hashes, &self.unit_rows) else { return Ok(()) };
        let unit = keyed(key, units.row(unit).as_ref());
        let rank = |slot: &u32| {
            let group = groups[group_of[*slot as usize] as usize];
            let mut pair = [0; 32];
            pair[..16].copy_from_slice(&unit.to_le_bytes());
            pair[16..].copy_from_slice(&group.to_le_bytes());
            (keyed(key, &pair), group)
        };
        let mut ranked: Vec<((u128, u128), u32)> = slots.iter().map(|slot| (rank(slot), *slot)).collect();
        if self.l0 < ranked.len() {
            ranked.select_nth_unstable(self.l0);
            ranked.truncate(self.l0);
        }
        slots.clear();
        slots.extend(ranked.into_iter().map(|(_, slot)| slot));
        Ok(())
    }
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
    fn of(spec: &ReleaseSpec, column: &Column, kept: &[u32]) -> Self {
        let rows = spec.bounds.rows;
        let total = spec.bounds.total_rows.and_then(|total| {
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
