//! Group keys as small codes: 0, 1, 2 … in the order in which they are met.
//!
//! ```text
//! key 0    key 1          column codes     pairs            keys of the groups
//!  AIR     1-URGENT          0  0            0               AIR   1-URGENT
//!  SHIP    1-URGENT          1  0            1               SHIP  1-URGENT
//!  AIR     1-URGENT          0  0            0
//! ```
//!
//! Grouping by several texts is what a plain query spends its time on. Here a text is compared once for a batch and value: a
//! view of 16 bytes stands for it, and a small table of the views that were met last answers for most rows.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, UInt32Array, downcast_dictionary_array, new_empty_array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::{cast, concat, take};
use arrow::datatypes::{ArrowPrimitiveType, DataType, FieldRef, Float16Type, Float32Type, Float64Type};
use arrow::row::{RowConverter, SortField};
use datafusion::common::{Result, internal_err};

use super::super::at_hand::AtHand;
use super::identity::{as_views, integers, is_bytes, is_integer, spread};

/// No code.
const NONE: u32 = u32::MAX;
/// How many numbers have a place of their own.
const NEAR: u64 = 1 << 16;
/// How many of them lie before the number that is met first.
const BEFORE: u64 = 1 << 12;
/// How many of the values that were met last are at hand.
const AT_HAND: usize = 512;

/// The groups of some rows, met one batch after the other.
pub(super) struct Codes {
    columns: Vec<Column>,
    /// From the second column on: the code of what was so far, and of the column, to the code of both.
    pairs: Vec<Pairs>,
    of_column: Vec<u32>,
}

/// Two codes as one number, which no other two have; below 2^16 where both are small, and nowhere else.
#[inline]
const fn paired(a: u32, b: u32) -> u64 {
    if a < 256 && b < 256 { (a << 8 | b) as u64 } else { ((a as u64) << 32 | b as u64) + NEAR }
}

/// Codes of pairs of codes.
#[derive(Default)]
struct Pairs {
    numbers: Numbers,
    parts: Vec<(u32, u32)>,
}

impl Codes {
    /// For keys of these types.
    ///
    /// # Errors
    /// When a type cannot be grouped.
    pub(super) fn new(keys: &[FieldRef]) -> Result<Self> {
        let columns = keys.iter().map(|key| Column::new(key.data_type())).collect::<Result<Vec<_>>>()?;
        let pairs = (1..columns.len().max(1)).map(|_| Pairs::default()).collect();
        Ok(Self { columns, pairs, of_column: Vec::new() })
    }

    /// How many groups were met; one where there are no keys.
    pub(super) fn len(&self) -> usize {
        match (self.pairs.last(), self.columns.last()) {
            (Some(pairs), _) => pairs.parts.len(),
            (None, Some(column)) => column.count as usize,
            (None, None) => 1,
        }
    }

    /// The groups of `rows` rows whose keys are `keys`.
    ///
    /// # Errors
    /// When a key is of another type than was said, or there are 2^32 groups.
    pub(super) fn of(&mut self, keys: &[ArrayRef], rows: usize) -> Result<Vec<u32>> {
        let mut codes = Vec::with_capacity(rows);
        let (Some(column), Some(key)) = (self.columns.first_mut(), keys.first()) else {
            codes.resize(rows, 0);
            return Ok(codes);
        };
        column.codes(key, &mut codes)?;
        for ((column, key), pairs) in self.columns[1..].iter_mut().zip(&keys[1..]).zip(&mut self.pairs) {
            self.of_column.clear();
            column.codes(key, &mut self.of_column)?;
            for (code, of_column) in codes.iter_mut().zip(&self.of_column) {
                let next = pairs.parts.len() as u32;
                let found = pairs.numbers.of(paired(*code, *of_column), next);
                if found == next {
                    pairs.parts.push((*code, *of_column));
                }
                *code = found;
            }
        }
        if self.len() >= NONE as usize { internal_err!("too many groups") } else { Ok(codes) }
    }

    /// The keys of the groups from `start` on, a column each.
    ///
    /// # Errors
    /// When values cannot be put together.
    pub(super) fn keys(&self, start: usize) -> Result<Vec<ArrayRef>> {
        let mut codes: Vec<u32> = (start as u32..self.len() as u32).collect();
        let mut columns = Vec::with_capacity(self.columns.len());
        for (at, column) in self.columns.iter().enumerate().rev() {
            let of_column: Vec<u32> = match at.checked_sub(1) {
                None => std::mem::take(&mut codes),
                Some(pairs) => {
                    let parts = &self.pairs[pairs].parts;
                    let of_column = codes.iter().map(|code| parts[*code as usize].1).collect();
                    for code in &mut codes {
                        *code = parts[*code as usize].0;
                    }
                    of_column
                }
            };
            columns.push(column.values(of_column)?);
        }
        columns.reverse();
        Ok(columns)
    }

    /// Bytes held, about.
    pub(super) fn size(&self) -> usize {
        let pairs: usize = self.pairs.iter().map(|pairs| pairs.numbers.size() + pairs.parts.capacity() * 8).sum();
        let columns: usize = self.columns.iter().map(Column::size).sum();
        pairs + columns
    }
}

/// The values of one key column.
struct Column {
    kind: DataType,
    count: u32,
    /// The values by code, in the pieces in which they were met.
    pieces: Vec<ArrayRef>,
    null: u32,
    finder: Finder,
    /// The dictionary whose values were looked at last, and their codes. It is held, so that no other can come to lie at
    /// its address.
    dictionary: Option<(ArrayRef, Vec<u32>)>,
}

enum Finder {
    Numbers(Numbers),
    Bytes(Bytes),
    Rows(RowConverter, KnownBytes),
}

impl Column {
    fn new(kind: &DataType) -> Result<Self> {
        let mut values = kind;
        while let DataType::Dictionary(_, inner) = values {
            values = inner;
        }
        let finder = if is_integer(values) || matches!(values, DataType::Float64 | DataType::Float32) {
            Finder::Numbers(Numbers::default())
        } else if is_bytes(values) {
            Finder::Bytes(Bytes::new())
        } else {
            Finder::Rows(RowConverter::new(vec![SortField::new(values.clone())])?, KnownBytes::default())
        };
        Ok(Self { kind: kind.clone(), count: 0, pieces: Vec::new(), null: NONE, finder, dictionary: None })
    }

    /// Appends the codes of `keys`.
    fn codes(&mut self, keys: &ArrayRef, out: &mut Vec<u32>) -> Result<()> {
        if let DataType::Dictionary(..) = keys.data_type() {
            return self.by_dictionary(keys, out);
        }
        let keys = &one_form_of_floats(keys);
        let mut met = Met { count: self.count, null: self.null, fresh: Vec::new() };
        match &mut self.finder {
            Finder::Numbers(numbers) => numbers.codes(&bits(keys)?, keys.nulls(), &mut met, out),
            Finder::Bytes(bytes) => bytes.codes(&as_views(keys)?, &mut met, out),
            Finder::Rows(converter, known) => {
                let rows = converter.convert_columns(std::slice::from_ref(keys))?;
                for (row, value) in rows.iter().enumerate() {
                    out.push(known.of(value.as_ref(), row, &mut met));
                }
            }
        }
        (self.count, self.null) = (met.count, met.null);
        if !met.fresh.is_empty() {
            let fresh = take(keys, &UInt32Array::from(met.fresh), None)?;
            // Views hold on to all the bytes of their batch.
            self.pieces.push(match fresh.data_type() {
                DataType::Utf8View => Arc::new(fresh.as_string_view().gc()),
                DataType::BinaryView => Arc::new(fresh.as_binary_view().gc()),
                _ => fresh,
            });
        }
        Ok(())
    }

    fn by_dictionary(&mut self, keys: &ArrayRef, out: &mut Vec<u32>) -> Result<()> {
        let values = keys.as_any_dictionary().values();
        let known = self.dictionary.take().filter(|(held, _)| Arc::ptr_eq(held, values));
        let of_values = match known {
            Some((_, of_values)) => of_values,
            None => {
                let mut of_values = Vec::with_capacity(values.len());
                self.codes(values, &mut of_values)?;
                of_values
            }
        };
        let array = keys.as_ref();
        downcast_dictionary_array!(
            array => {
                match array.keys().nulls() {
                    None => out.extend(array.keys().values().iter().map(|code| of_values[*code as usize])),
                    Some(nulls) => {
                        let mut missing = None;
                        for (row, code) in array.keys().values().iter().enumerate() {
                            if nulls.is_valid(row) {
                                out.push(of_values[*code as usize]);
                                continue;
                            }
                            let code = match missing {
                                Some(code) => code,
                                None => {
                                    let null = arrow::array::new_null_array(values.data_type(), 1);
                                    let mut one = Vec::with_capacity(1);
                                    self.codes(&null, &mut one)?;
                                    one.first().copied().unwrap_or(NONE)
                                }
                            };
                            missing = Some(code);
                            out.push(code);
                        }
                    }
                }
            },
            _ => return internal_err!("a dictionary that is none"),
        );
        self.dictionary = Some((Arc::clone(values), of_values));
        Ok(())
    }

    /// The values of codes.
    fn values(&self, codes: Vec<u32>) -> Result<ArrayRef> {
        let pieces: Vec<&dyn Array> = self.pieces.iter().map(AsRef::as_ref).collect();
        let values = if pieces.is_empty() { new_empty_array(&self.kind) } else { concat(&pieces)? };
        let values = take(&values, &UInt32Array::from(codes), None)?;
        if *values.data_type() == self.kind { Ok(values) } else { Ok(cast(&values, &self.kind)?) }
    }

    fn size(&self) -> usize {
        let pieces: usize = self.pieces.iter().map(Array::get_array_memory_size).sum();
        let finder = match &self.finder {
            Finder::Numbers(numbers) => numbers.size(),
            Finder::Bytes(bytes) => AtHand::<u32>::size() + bytes.known.size(),
            Finder::Rows(_, known) => known.size(),
        };
        pieces + finder
    }
}

/// What is met in a batch: the rows of values that had no code yet.
struct Met {
    count: u32,
    null: u32,
    fresh: Vec<u32>,
}

impl Met {
    fn fresh(&mut self, row: usize) -> u32 {
        self.fresh.push(row as u32);
        self.count += 1;
        self.count - 1
    }

    fn null(&mut self, row: usize) -> u32 {
        if self.null == NONE {
            self.null = self.fresh(row);
        }
        self.null
    }
}

/// Codes of numbers of 64 bits.
struct Numbers {
    /// Codes of the numbers from `first` on, side by side: dates, years and codes lie close together.
    near: Vec<u32>,
    first: Option<u64>,
    at_hand: Vec<(u64, u32)>,
    all: HashMap<u64, u32, hashbrown::DefaultHashBuilder>,
}

impl Default for Numbers {
    fn default() -> Self {
        Self { near: Vec::new(), first: None, at_hand: vec![(0, NONE); AT_HAND], all: HashMap::default() }
    }
}

impl Numbers {
    /// The code of a number: `next`, from now on, if it was not met before.
    #[inline]
    fn of(&mut self, number: u64, next: u32) -> u32 {
        let place = number.wrapping_sub(self.first.unwrap_or(0));
        match self.near.get(place as usize) {
            Some(code) if *code != NONE => *code,
            _ => self.unusual(number, next),
        }
    }

    #[inline(never)]
    fn unusual(&mut self, number: u64, next: u32) -> u32 {
        let first = *self.first.get_or_insert(number.saturating_sub(BEFORE));
        let place = number.wrapping_sub(first);
        if place < NEAR {
            if place as usize >= self.near.len() {
                self.near.resize((place as usize + 1).next_power_of_two(), NONE);
            }
            let code = &mut self.near[place as usize];
            if *code == NONE {
                *code = next;
            }
            return *code;
        }
        self.far(number, next)
    }

    fn far(&mut self, number: u64, next: u32) -> u32 {
        let at = spread(number) as usize % AT_HAND;
        let (known, code) = self.at_hand[at];
        if known == number && code != NONE {
            return code;
        }
        let code = *self.all.entry(number).or_insert(next);
        self.at_hand[at] = (number, code);
        code
    }

    fn codes(&mut self, numbers: &[u64], nulls: Option<&NullBuffer>, met: &mut Met, out: &mut Vec<u32>) {
        let nulls = nulls.filter(|nulls| nulls.null_count() > 0);
        out.extend(numbers.iter().enumerate().map(|(row, number)| {
            if nulls.is_some_and(|nulls| nulls.is_null(row)) {
                return met.null(row);
            }
            let code = self.of(*number, met.count);
            if code == met.count {
                met.fresh(row);
            }
            code
        }));
    }

    fn size(&self) -> usize {
        self.near.capacity() * 4 + AT_HAND * 16 + self.all.capacity() * 24
    }
}

/// Codes of texts and bytes.
struct Bytes {
    at_hand: Box<AtHand<u32>>,
    known: KnownBytes,
}

/// The code of each value that was met.
#[derive(Default)]
struct KnownBytes {
    codes: HashMap<Box<[u8]>, u32, hashbrown::DefaultHashBuilder>,
    held: usize,
}

impl KnownBytes {
    fn of(&mut self, bytes: &[u8], row: usize, met: &mut Met) -> u32 {
        if let Some(code) = self.codes.get(bytes) {
            return *code;
        }
        let code = met.fresh(row);
        self.held += bytes.len();
        self.codes.insert(bytes.into(), code);
        code
    }

    fn size(&self) -> usize {
        self.codes.capacity() * 32 + self.held
    }
}

impl Bytes {
    fn new() -> Self {
        Self { at_hand: Box::new(AtHand::new()), known: KnownBytes::default() }
    }

    fn codes(&mut self, values: &BinaryViewArray, met: &mut Met, out: &mut Vec<u32>) {
        let Self { at_hand, known } = self;
        at_hand.forget();
        let views = values.views().iter().enumerate();
        match values.nulls() {
            None => {
                out.extend(views.map(|(row, view)| at_hand.of(*view, || known.of(values.value(row), row, met))));
            }
            Some(nulls) => out.extend(views.map(|(row, view)| {
                if nulls.is_null(row) {
                    return met.null(row);
                }
                at_hand.of(*view, || known.of(values.value(row), row, met))
            })),
        }
    }
}

/// Numbers as 64 bits, equal where the numbers are one group.
fn bits(keys: &ArrayRef) -> Result<Vec<u64>> {
    match keys.data_type() {
        DataType::Float64 => Ok(keys.as_primitive::<Float64Type>().values().iter().map(|key| key.to_bits()).collect()),
        DataType::Float32 => {
            Ok(keys.as_primitive::<Float32Type>().values().iter().map(|key| u64::from(key.to_bits())).collect())
        }
        _ => integers(keys),
    }
}

/// Float keys with one form of zero and one of NaN. Several forms that group together would leave the group's bytes, and
/// with them the choice of other units' groups, to whichever row came first.
pub(super) fn one_form_of_floats(key: &ArrayRef) -> ArrayRef {
    match key.data_type() {
        DataType::Float64 => {
            let one_form = |value: f64| if value.is_nan() { f64::NAN } else { value + 0.0 };
            Arc::new(key.as_primitive::<Float64Type>().unary::<_, Float64Type>(one_form))
        }
        DataType::Float32 => {
            let one_form = |value: f32| if value.is_nan() { f32::NAN } else { value + 0.0 };
            Arc::new(key.as_primitive::<Float32Type>().unary::<_, Float32Type>(one_form))
        }
        DataType::Float16 => {
            type Half = <Float16Type as ArrowPrimitiveType>::Native;
            let one_form = |value: Half| match value {
                nan if nan.is_nan() => Half::NAN,
                zero if zero == Half::NEG_ZERO => Half::ZERO,
                value => value,
            };
            Arc::new(key.as_primitive::<Float16Type>().unary::<_, Float16Type>(one_form))
        }
        _ => Arc::clone(key),
    }
}
