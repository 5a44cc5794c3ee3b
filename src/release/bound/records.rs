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
use super::runs::Runs;

/// The candidate of a row that has no value.
pub(super) const NO_CANDIDATE: u32 = u32::MAX;

/// Some rows, or runs of rows of one unit in one group.
pub(super) struct Records {
    /// Of which unit.
    pub(super) ids: Ids,
    /// In which group.
    pub(super) groups: Vec<u32>,
    /// Of how many rows; `None` where each is of one.
    pub(super) rows: Option<Vec<u8>>,
    /// What they have of each measure.
    pub(super) measures: Vec<Gathered>,
    /// By histogram, the candidate of each row.
    pub(super) candidates: Vec<Vec<u32>>,
}

/// What records have of one measure.
pub(super) struct Gathered {
    /// How many rows count; `None` where all of each record do.
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
    fn like(&self, room: usize) -> Self {
        match self {
            Self::None => Self::None,
            Self::Steps(_) => Self::Steps(Vec::with_capacity(room)),
            Self::Hashes(_) => Self::Hashes(Vec::with_capacity(room)),
        }
    }
}

impl Records {
    pub(super) fn len(&self) -> usize {
        self.groups.len()
    }

    /// No records, of the shape of these.
    pub(super) fn like(&self) -> Self {
        self.with_room(0)
    }

    /// No records, of the shape of these, and room for so many.
    pub(super) fn with_room(&self, room: usize) -> Self {
        let measure = |gathered: &Gathered| Gathered { counted: None, values: gathered.values.like(room) };
        Self {
            ids: self.ids.like(room),
            groups: Vec::with_capacity(room),
            rows: None,
            measures: self.measures.iter().map(measure).collect(),
            candidates: self.candidates.iter().map(|_| Vec::with_capacity(room)).collect(),
        }
    }

    /// Bytes that a record takes, at most.
    pub(super) fn record_bytes(&self) -> usize {
        let id = match self.ids {
            Ids::Narrow(_) => 8,
            Ids::Wide(_) => 16,
        };
        id + 4 + self.cell_bytes()
    }

    /// The same without unit and group.
    pub(super) fn cell_bytes(&self) -> usize {
        let of_measure = |gathered: &Gathered| match gathered.values {
            Values::None => 1,
            Values::Steps(_) => 1 + 8,
            Values::Hashes(_) => 1 + 16,
        };
        1 + self.measures.iter().map(of_measure).sum::<usize>() + 4 * self.candidates.len()
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
        self.ids.size()
            + self.groups.capacity() * 4
            + self.rows.as_ref().map_or(0, Vec::capacity)
            + measures
            + candidates
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
        // Numbers of rows that are not all one, in `to` or from now on.
        let numbers = |to: &mut Vec<u8>, from: Option<&Vec<u8>>| match from {
            Some(from) => pick(to, from, order),
            None => to.resize(to.len() + order.len(), 1),
        };
        let before = self.groups.len();
        let ones = || vec![1; before];
        for (to, from_measure) in self.measures.iter_mut().zip(&from.measures) {
            match (&mut to.counted, &from_measure.counted) {
                (None, None) => {}
                (Some(to), counted) => numbers(to, counted.as_ref().or(from.rows.as_ref())),
                (to, Some(counted)) => {
                    pick(to.insert(self.rows.clone().unwrap_or_else(ones)), counted, order);
                }
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
        if self.rows.is_some() || from.rows.is_some() {
            numbers(self.rows.get_or_insert_with(ones), from.rows.as_ref());
        }
        pick(&mut self.groups, &from.groups, order);
    }

    /// Room for `len` records of the shape of these, all zero: with numbers of `rows`, and of measures with how many are `counted`.
    pub(super) fn zeroed(&self, len: usize, rows: bool, counted: &[bool]) -> Self {
        let mut zeroed = self.like();
        zeroed.groups = vec![0; len];
        zeroed.rows = rows.then(|| vec![0; len]);
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
        let numbers = |to: &mut [u8], from: Option<&Vec<u8>>| match from {
            Some(from) => put(to, from, places),
            None => places.iter().for_each(|place| to[*place as usize] = 1),
        };
        if let Some(to) = &mut self.rows {
            numbers(to, from.rows.as_ref());
        }
        for (to, from_measure) in self.measures.iter_mut().zip(&from.measures) {
            if let Some(to) = &mut to.counted {
                numbers(to, from_measure.counted.as_ref().or(from.rows.as_ref()));
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

    /// All of them once more.
    pub(super) fn all(&self) -> Self {
        let mut all = self.like();
        all.append_range(self, 0..self.len());
        all
    }

    /// Appends a range of `from`.
    pub(super) fn append_range(&mut self, from: &Self, range: Range<usize>) {
        let order: Vec<u32> = (range.start as u32..range.end as u32).collect();
        self.append(from, &order);
    }
}

/// Makes records of batches.
pub(super) struct Recorder {
    spec: std::sync::Arc<ReleaseSpec>,
    key: SelectionKey,
    identities: Identities,
    /// The groups that were met.
    pub(super) codes: Codes,
    /// Whether something is of single rows: distinct values, or the candidates of a quantile.
    of_single_rows: bool,
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
        let of_single_rows = !spec.histograms.is_empty()
            || spec.measures.iter().any(|measure| matches!(measure.kind, MeasureKind::Distinct { .. }));
        Ok(Self { spec, key, identities, codes, of_single_rows, converters })
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
            rows: None,
            measures: measures.collect(),
            candidates: vec![Vec::new(); self.spec.histograms.len()],
        }
    }

    /// A record for each row, or for each run of rows where that leaves at most half as many; and the unit of each.
    ///
    /// # Errors
    /// When a column has another type than the specification was made for, or a row has no unit.
    pub(super) fn records(&mut self, batch: &RecordBatch) -> Result<(Records, ArrayRef)> {
        let spec = std::sync::Arc::clone(&self.spec);
        let rows = batch.num_rows();
        let named = &batch.columns()[..spec.key_column(spec.keys.len())];
        let runs = if self.of_single_rows { None } else { Runs::of(named, rows)? };
        let firsts = runs.as_ref().map(|runs| runs.firsts(named)).transpose()?;
        let named = firsts.as_deref().unwrap_or(named);
        let count = runs.as_ref().map_or(rows, Runs::len);
        let ids = self.identities.of(&named[..spec.unit_width()])?;
        let groups = self.codes.of(&named[spec.unit_width()..], count)?;
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
                    // Steps are below 2^54 ([`super::super::Lattice`]), so that the sum of a run fits.
                    Values::Steps(match &runs {
                        Some(runs) => runs.sums(&steps),
                        None => steps,
                    })
                }
                (MeasureKind::Distinct { .. }, Some(argument), Some(converter)) => {
                    let values = converter.convert_columns(&[one_form_of_floats(argument)])?;
                    Values::Hashes(values.iter().map(|value| keyed(self.key, value.as_ref())).collect())
                }
                _ => Values::None,
            };
            let counted = mask.map(|mask| mask.values().iter().map(u8::from).collect::<Vec<u8>>());
            let counted = match (counted, &runs) {
                (Some(counted), Some(runs)) => Some(runs.sums(&counted)),
                (counted, _) => counted,
            };
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
        let rows = runs.map(|runs| runs.lengths());
        Ok((Records { ids, groups, rows, measures, candidates }, ArrayRef::clone(&named[0])))
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
                if values.iter().fold(false, |any, value| any | value.is_nan()) {
                    and(arrow::buffer::BooleanBuffer::collect_bool(rows, |row| !values[row].is_nan()));
                }
            }
            DataType::Float32 => {
                let values = argument.as_primitive::<Float32Type>().values();
                if values.iter().fold(false, |any, value| any | value.is_nan()) {
                    and(arrow::buffer::BooleanBuffer::collect_bool(rows, |row| !values[row].is_nan()));
                }
            }
            _ => {}
        }
    }
    mask.map(|mask| BooleanArray::new(mask, None))
}
