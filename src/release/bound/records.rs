//! Rows of a release's input as integers: what bounding needs of them, and no more.
//!
//! ```text
//! unit   group   rows   measure 0      measure 1        histogram 0
//!  7      0       1      (counted)      Σ steps 512      candidate 40
//!  7      0       3      (counted)      Σ steps -9                            three rows of one unit in one group
//! ```

use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Schema};
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use datafusion::common::{Result, internal_err};

use super::super::spec::{MeasureKind, ReleaseSpec};
use super::SelectionKey;
use super::codes::{Codes, one_form_of_floats};
use super::identity::{Identities, Ids, keyed};

/// The candidate of a row that has no value.
pub(super) const NO_CANDIDATE: u32 = u32::MAX;

/// How many records are looked at for runs before all are.
const LOOK: usize = 512;

/// Some rows, or runs of rows of one unit in one group.
pub(super) struct Records {
    /// Of which unit.
    pub(super) ids: Ids,
    /// In which group.
    pub(super) groups: Vec<u32>,
    /// Of how many rows.
    pub(super) rows: Vec<u8>,
    /// What they have of each measure.
    pub(super) measures: Vec<Gathered>,
    /// By histogram, the candidate of each row.
    pub(super) candidates: Vec<Vec<u32>>,
}

/// What records have of one measure.
pub(super) struct Gathered {
    /// How many rows count; `None` where all do.
    pub(super) counted: Option<Vec<u8>>,
    pub(super) values: Values,
}

/// What is summed or told apart.
pub(super) enum Values {
    /// Rows alone are counted.
    None,
    /// Sums of steps, 0 where no row counts.
    Steps(Vec<i64>),
    /// Keyed hashes of distinct values.
    Hashes(Vec<u128>),
}

impl Values {
    const fn like(&self) -> Self {
        match self {
            Self::None => Self::None,
            Self::Steps(_) => Self::Steps(Vec::new()),
            Self::Hashes(_) => Self::Hashes(Vec::new()),
        }
    }
}

impl Records {
    pub(super) fn len(&self) -> usize {
        self.groups.len()
    }

    /// No records, of the shape of these.
    pub(super) fn like(&self) -> Self {
        Self {
            ids: self.ids.like(),
            groups: Vec::new(),
            rows: Vec::new(),
            measures: self
                .measures
                .iter()
                .map(|gathered| Gathered { counted: None, values: gathered.values.like() })
                .collect(),
            candidates: vec![Vec::new(); self.candidates.len()],
        }
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        let measures: usize = self
            .measures
            .iter()
            .map(|gathered| {
                let values = match &gathered.values {
                    Values::None => 0,
                    Values::Steps(steps) => steps.capacity() * 8,
                    Values::Hashes(hashes) => hashes.capacity() * 16,
                };
                gathered.counted.as_ref().map_or(0, Vec::capacity) + values
            })
            .sum();
        let candidates: usize = self.candidates.iter().map(|candidates| candidates.capacity() * 4).sum();
        self.ids.size() + self.groups.capacity() * 4 + self.rows.capacity() + measures + candidates
    }

    /// Appends those of `from` that `order` names.
    pub(super) fn append(&mut self, from: &Self, order: &[u32]) {
        fn pick<T: Copy>(to: &mut Vec<T>, from: &[T], order: &[u32]) {
            to.extend(order.iter().map(|at| from[*at as usize]));
        }
        match (&mut self.ids, &from.ids) {
            (Ids::Narrow(to), Ids::Narrow(from)) => pick(to, from, order),
            (Ids::Wide(to), Ids::Wide(from)) => pick(to, from, order),
            // Identities of one input have one width.
            (to, from) => (0..order.len()).for_each(|at| {
                let id = from.get(order[at] as usize);
                match to {
                    Ids::Narrow(ids) => ids.push(id as u64),
                    Ids::Wide(ids) => ids.push(id),
                }
            }),
        }
        for (to, from_measure) in self.measures.iter_mut().zip(&from.measures) {
            match (&mut to.counted, &from_measure.counted) {
                (None, None) => {}
                (Some(to), None) => pick(to, &from.rows, order),
                (to, Some(counted)) => pick(to.get_or_insert_with(|| self.rows.clone()), counted, order),
            }
            match (&mut to.values, &from_measure.values) {
                (Values::Steps(to), Values::Steps(from)) => pick(to, from, order),
                (Values::Hashes(to), Values::Hashes(from)) => pick(to, from, order),
                _ => {}
            }
        }
        for (to, from) in self.candidates.iter_mut().zip(&from.candidates) {
            pick(to, from, order);
        }
        pick(&mut self.groups, &from.groups, order);
        pick(&mut self.rows, &from.rows, order);
    }

    /// Room for `len` records of the shape of these, all zero.
    pub(super) fn zeroed(&self, len: usize, counted: &[bool]) -> Self {
        let mut zeroed = self.like();
        zeroed.groups = vec![0; len];
        zeroed.rows = vec![0; len];
        for ((gathered, like), counted) in zeroed.measures.iter_mut().zip(&self.measures).zip(counted) {
            gathered.counted = counted.then(|| vec![0; len]);
            gathered.values = match like.values {
                Values::None => Values::None,
                Values::Steps(_) => Values::Steps(vec![0; len]),
                Values::Hashes(_) => Values::Hashes(vec![0; len]),
            };
        }
        zeroed.candidates.iter_mut().for_each(|candidates| *candidates = vec![0; len]);
        zeroed
    }

    /// Puts the records of `from`, but for their identities, where `places` says, their groups renamed by `names`.
    pub(super) fn place(&mut self, from: &Self, places: &[u32], names: Option<&[u32]>) {
        fn put<T: Copy>(to: &mut [T], from: &[T], places: &[u32]) {
            for (value, place) in from.iter().zip(places) {
                to[*place as usize] = *value;
            }
        }
        match names {
            None => put(&mut self.groups, &from.groups, places),
            Some(names) => {
                for (group, place) in from.groups.iter().zip(places) {
                    self.groups[*place as usize] = names[*group as usize];
                }
            }
        }
        put(&mut self.rows, &from.rows, places);
        for (to, from_measure) in self.measures.iter_mut().zip(&from.measures) {
            if let Some(to) = &mut to.counted {
                put(to, from_measure.counted.as_ref().unwrap_or(&from.rows), places);
            }
            match (&mut to.values, &from_measure.values) {
                (Values::Steps(to), Values::Steps(from)) => put(to, from, places),
                (Values::Hashes(to), Values::Hashes(from)) => put(to, from, places),
                _ => {}
            }
        }
        for (to, from) in self.candidates.iter_mut().zip(&from.candidates) {
            put(to, from, places);
        }
    }

    /// Rows beside each other of one unit in one group as one record, where that leaves at most half as many. Distinct
    /// values and candidates are of single rows, so that records with them stay as they are.
    pub(super) fn merged(self) -> Self {
        if !self.candidates.is_empty()
            || self.measures.iter().any(|gathered| matches!(gathered.values, Values::Hashes(_)))
        {
            return self;
        }
        // A look at the first of them tells most batches without runs.
        let look = self.len().min(LOOK);
        if self.starts_of_runs(look).len() * 4 > look * 3 {
            return self;
        }
        let starts = self.starts_of_runs(self.len());
        if starts.len() * 2 > self.len() {
            return self;
        }
        let mut merged = self.like();
        merged.append(&self, &starts);
        merged.rows = sums_of_runs(&starts, &self.rows);
        for (to, from) in merged.measures.iter_mut().zip(&self.measures) {
            to.counted = from.counted.as_ref().map(|counted| sums_of_runs(&starts, counted));
            if let (Values::Steps(to), Values::Steps(from)) = (&mut to.values, &from.values) {
                *to = sums_of_runs(&starts, from);
            }
        }
        merged
    }

    /// Where runs of one unit in one group begin among the first `len` records of one row each. A run has at most 255 rows, as many
    /// as a record holds; steps are below 2^54 ([`super::super::Lattice`]), so that their sum fits.
    fn starts_of_runs(&self, len: usize) -> Vec<u32> {
        #[allow(clippy::needless_bitwise_bool, reason = "a branch would be guessed wrong at most starts")]
        fn of<T: PartialEq>(ids: &[T], groups: &[u32]) -> Vec<u32> {
            let mut starts = vec![0; groups.len()];
            let mut count = 0;
            for (block, groups) in groups.chunks(usize::from(u8::MAX)).enumerate() {
                let begin = block * usize::from(u8::MAX);
                let ids = &ids[begin..begin + groups.len()];
                starts[count] = begin as u32;
                count += 1;
                for (at, (ids, groups)) in ids.windows(2).zip(groups.windows(2)).enumerate() {
                    starts[count] = (begin + at + 1) as u32;
                    count += usize::from((ids[0] != ids[1]) | (groups[0] != groups[1]));
                }
            }
            starts.truncate(count);
            starts
        }
        match &self.ids {
            Ids::Narrow(ids) => of(&ids[..len], &self.groups[..len]),
            Ids::Wide(ids) => of(&ids[..len], &self.groups[..len]),
        }
    }

    /// Appends a range of `from`.
    pub(super) fn append_range(&mut self, from: &Self, range: Range<usize>) {
        let order: Vec<u32> = (range.start as u32..range.end as u32).collect();
        self.append(from, &order);
    }
}

/// The sums of the values of each run.
fn sums_of_runs<T: Copy + Default + std::ops::AddAssign>(starts: &[u32], values: &[T]) -> Vec<T> {
    let ends = starts.iter().skip(1).map(|start| *start as usize).chain(std::iter::once(values.len()));
    let sum = |(start, end): (&u32, usize)| {
        let mut sum = T::default();
        for value in &values[*start as usize..end] {
            sum += *value;
        }
        sum
    };
    starts.iter().zip(ends).map(sum).collect()
}

/// Makes records of batches.
pub(super) struct Recorder {
    spec: std::sync::Arc<ReleaseSpec>,
    key: SelectionKey,
    identities: Identities,
    /// The groups that were met.
    pub(super) codes: Codes,
    /// Filled anew for each batch.
    converters: Vec<Option<RowConverter>>,
}

impl Recorder {
    /// For batches of `schema`, whose columns are as `spec` says.
    ///
    /// # Errors
    /// When a type cannot be grouped.
    pub(super) fn new(spec: std::sync::Arc<ReleaseSpec>, key: SelectionKey, schema: &Schema) -> Result<Self> {
        let identities = Identities::new(schema, spec.epochs.is_some(), key)?;
        let codes = Codes::new(&spec.keys)?;
        let converters = spec
            .measures
            .iter()
            .map(|measure| match measure.kind {
                MeasureKind::Distinct { argument } => {
                    let kind = schema.field(spec.argument_column(argument)).data_type().clone();
                    Ok(Some(RowConverter::new(vec![SortField::new(kind)])?))
                }
                _ => Ok(None),
            })
            .collect::<Result<_>>()?;
        Ok(Self { spec, key, identities, codes, converters })
    }

    /// Whether rows of units beside each other can be told to be in order.
    pub(super) const fn has_order(&self) -> bool {
        self.identities.has_order()
    }

    /// No records yet.
    pub(super) fn none(&self) -> Records {
        let measures = self.spec.measures.iter().map(|measure| {
            let values = match measure.kind {
                MeasureKind::Sum { .. } => Values::Steps(Vec::new()),
                MeasureKind::Distinct { .. } => Values::Hashes(Vec::new()),
                MeasureKind::Rows | MeasureKind::Values { .. } | MeasureKind::Units => Values::None,
            };
            Gathered { counted: None, values }
        });
        Records {
            ids: self.identities.none(),
            groups: Vec::new(),
            rows: Vec::new(),
            measures: measures.collect(),
            candidates: vec![Vec::new(); self.spec.histograms.len()],
        }
    }

    /// A record for each row.
    ///
    /// # Errors
    /// When a column has another type than the specification was made for, or a row has no unit.
    pub(super) fn records(&mut self, batch: &RecordBatch) -> Result<Records> {
        let spec = std::sync::Arc::clone(&self.spec);
        let rows = batch.num_rows();
        let ids = self.identities.of(&batch.columns()[..spec.unit_width()])?;
        let keys = &batch.columns()[spec.key_column(0)..spec.key_column(spec.keys.len())];
        let groups = self.codes.of(keys, rows)?;
        let mut measures = Vec::with_capacity(spec.measures.len());
        for (measure, converter) in spec.measures.iter().zip(&self.converters) {
            let filter = measure.filter.map(|filter| batch.column(spec.filter_column(filter)).as_boolean());
            let argument = match &measure.kind {
                MeasureKind::Rows | MeasureKind::Units => None,
                MeasureKind::Values { argument }
                | MeasureKind::Sum { argument, .. }
                | MeasureKind::Distinct { argument } => Some(batch.column(spec.argument_column(*argument))),
            };
            let mask = mask(filter, argument, rows);
            let values = match (&measure.kind, argument, converter) {
                (MeasureKind::Sum { lattice, .. }, Some(argument), _) => {
                    let mut steps = Vec::with_capacity(rows);
                    lattice.steps(argument, &mut steps)?;
                    if let Some(mask) = &mask {
                        for (step, counts) in steps.iter_mut().zip(mask.values()) {
                            *step *= i64::from(counts);
                        }
                    }
                    Values::Steps(steps)
                }
                (MeasureKind::Distinct { .. }, Some(argument), Some(converter)) => {
                    let values = converter.convert_columns(&[one_form_of_floats(argument)])?;
                    Values::Hashes(values.iter().map(|value| keyed(self.key, value.as_ref())).collect())
                }
                _ => Values::None,
            };
            let counted = mask.map(|mask| mask.values().iter().map(u8::from).collect());
            measures.push(Gathered { counted, values });
        }
        let mut candidates = Vec::with_capacity(spec.histograms.len());
        for histogram in &spec.histograms {
            let filter = histogram.filter.map(|filter| batch.column(spec.filter_column(filter)).as_boolean());
            let argument = batch.column(spec.argument_column(histogram.argument));
            let Some(values) = argument.as_primitive_opt::<Float64Type>() else {
                return internal_err!("a quantile is of floats");
            };
            let mut of_rows: Vec<u32> = values.values().iter().map(|value| histogram.candidates.of(*value)).collect();
            if let Some(mask) = mask(filter, Some(argument), rows) {
                for (candidate, counts) in of_rows.iter_mut().zip(mask.values()) {
                    if !counts {
                        *candidate = NO_CANDIDATE;
                    }
                }
            }
            candidates.push(of_rows);
        }
        Ok(Records { ids, groups, rows: vec![1; rows], measures, candidates })
    }
}

/// Which rows count: the filter is true, and the argument is neither NULL nor NaN. `None` when all do.
fn mask(filter: Option<&BooleanArray>, argument: Option<&ArrayRef>, rows: usize) -> Option<BooleanArray> {
    let filter = filter.map(|filter| match filter.nulls() {
        None => filter.values().clone(),
        Some(nulls) => filter.values() & nulls.inner(),
    });
    let mut mask = filter;
    let mut and = |part: arrow::buffer::BooleanBuffer| {
        mask = Some(match mask.take() {
            None => part,
            Some(mask) => &mask & &part,
        });
    };
    if let Some(argument) = argument {
        if let Some(nulls) = argument.logical_nulls().filter(|nulls| nulls.null_count() > 0) {
            and(nulls.inner().clone());
        }
        match argument.data_type() {
            DataType::Float64 => {
                let values = argument.as_primitive::<Float64Type>().values();
                if values.iter().any(|value| value.is_nan()) {
                    and(arrow::buffer::BooleanBuffer::collect_bool(rows, |row| !values[row].is_nan()));
                }
            }
            DataType::Float32 => {
                let values = argument.as_primitive::<Float32Type>().values();
                if values.iter().any(|value| value.is_nan()) {
                    and(arrow::buffer::BooleanBuffer::collect_bool(rows, |row| !values[row].is_nan()));
                }
            }
            _ => {}
        }
    }
    mask.map(|mask| BooleanArray::new(mask, None))
}
