//! Which unit a row is of, as a number that two rows share exactly when they are of one unit.
//!
//! ```text
//! integer, date, time      ──▶ its bits, in the order of the values                     64 bits, exact
//! text, bytes, composites  ──▶ keyed hash of the value                                 128 bits
//! with epochs              ──▶ 96 bits of either │ 32 bits of the epoch                 128 bits
//! ```
//!
//! Two units of one hash would be bounded as one, and removing one of them could then move more than it should. The key is
//! the release's: it follows from the files' versions, among other things, and so is not there before the ids are. Whoever
//! chooses an id cannot aim at another's hash, and among 2^32 units two meet with probability below 2^-64 (2^-33 with
//! epochs, whose 96 bits are of the same hash). An owner could, who writes the files; from its data's truth nothing
//! protects (DESIGN 4.4).

use std::hash::Hasher;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryViewArray, PrimitiveArray, downcast_dictionary_array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, Schema};
use arrow::row::{RowConverter, SortField};
use datafusion::common::{Result, internal_err};
use siphasher::sip128::{Hasher128, SipHasher13};

use super::SelectionKey;

/// The identities of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ids {
    /// Of integers without epochs.
    Narrow(Vec<u64>),
    /// Of all else.
    Wide(Vec<u128>),
}

impl Ids {
    /// None yet, as narrow as these are, and room for so many.
    pub(super) fn like(&self, room: usize) -> Self {
        match self {
            Self::Narrow(_) => Self::Narrow(Vec::with_capacity(room)),
            Self::Wide(_) => Self::Wide(Vec::with_capacity(room)),
        }
    }

    /// One of them.
    pub(super) fn get(&self, at: usize) -> u128 {
        match self {
            Self::Narrow(ids) => u128::from(ids[at]),
            Self::Wide(ids) => ids[at],
        }
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Narrow(ids) => ids.capacity() * 8,
            Self::Wide(ids) => ids.capacity() * 16,
        }
    }
}

/// Spreads an identity over 64 bits. Not secret: it only decides which rows are worked on together.
#[inline]
pub(super) const fn spread(id: u64) -> u64 {
    let mixed = (id ^ (id >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ (mixed >> 29)
}

/// The same of a wide one: of its unit alone, so that the epochs of a unit stay together.
#[inline]
pub(super) const fn spread_wide(id: u128) -> u64 {
    spread((id >> 64) as u64 ^ ((id >> 32) as u64).rotate_left(17))
}

/// The unit of an identity with an epoch.
pub(super) const fn unit_of(pair: u128) -> u128 {
    pair >> EPOCH_BITS
}

const EPOCH_BITS: u32 = 32;

/// Makes identities.
pub(super) struct Identities {
    kind: Kind,
    epochs: bool,
    has_order: bool,
    key: SelectionKey,
    /// The dictionary whose values were looked at last, and their identities. It is held, so that no other can come to
    /// lie at its address.
    dictionary: Option<(ArrayRef, Vec<u128>)>,
}

enum Kind {
    Integer,
    Bytes,
    Rows(RowConverter),
}

impl Identities {
    /// For units of the first column of `schema`, with the epoch in the second if there are epochs.
    ///
    /// # Errors
    /// When the unit's type cannot be compared.
    pub(super) fn new(schema: &Schema, epochs: bool, key: SelectionKey) -> Result<Self> {
        let unit = schema.field(0).data_type();
        let kind = match values_of(unit) {
            kind if is_integer(kind) => Kind::Integer,
            kind if is_bytes(kind) => Kind::Bytes,
            kind => Kind::Rows(RowConverter::new(vec![SortField::new(kind.clone())])?),
        };
        if epochs && *schema.field(1).data_type() != DataType::Int32 {
            return internal_err!("an epoch is a number of 32 bits");
        }
        // Of a dictionary's codes beside each other nothing can be told.
        let has_order = !epochs && (is_integer(unit) || is_bytes(unit));
        Ok(Self { kind, epochs, has_order, key, dictionary: None })
    }

    /// No identities yet, of the width that these have.
    pub(super) const fn none(&self) -> Ids {
        if matches!(self.kind, Kind::Integer) && !self.epochs { Ids::Narrow(Vec::new()) } else { Ids::Wide(Vec::new()) }
    }

    /// Whether rows beside each other can be told to be in the order of their units.
    pub(super) const fn has_order(&self) -> bool {
        self.has_order
    }

    /// The identities of rows: of the unit, and of the epoch if there are epochs.
    ///
    /// # Errors
    /// When a value is NULL, or of another type than was said.
    pub(super) fn of(&mut self, columns: &[ArrayRef]) -> Result<Ids> {
        if columns.iter().any(|part| part.logical_null_count() > 0) {
            // They are dropped at the scan; a fault there must not make one unit of all such rows.
            return internal_err!("a row without a privacy unit or epoch reached the bounding of contributions");
        }
        let Some(unit) = columns.first() else { return internal_err!("no privacy unit") };
        if let (Kind::Integer, false, true) = (&self.kind, self.epochs, is_integer(unit.data_type())) {
            return Ok(Ids::Narrow(integers(unit)?));
        }
        let mut ids = self.wide(unit)?;
        if !self.epochs {
            return Ok(match self.kind {
                Kind::Integer => Ids::Narrow(ids.into_iter().map(|id| id as u64).collect()),
                _ => Ids::Wide(ids),
            });
        }
        let Some(epochs) = columns.get(1).and_then(|epochs| epochs.as_primitive_opt::<Int32Type>()) else {
            return internal_err!("no epoch");
        };
        for (id, epoch) in ids.iter_mut().zip(epochs.values()) {
            *id = (*id << EPOCH_BITS) | u128::from(epoch.cast_unsigned());
        }
        Ok(Ids::Wide(ids))
    }

    fn wide(&mut self, unit: &ArrayRef) -> Result<Vec<u128>> {
        if let DataType::Dictionary(..) = unit.data_type() {
            return self.by_dictionary(unit);
        }
        Ok(match &self.kind {
            Kind::Integer => integers(unit)?.into_iter().map(u128::from).collect(),
            Kind::Bytes => self.bytes(unit)?,
            Kind::Rows(converter) => {
                let rows = converter.convert_columns(std::slice::from_ref(unit))?;
                rows.iter().map(|row| keyed(self.key, row.as_ref())).collect()
            }
        })
    }

    /// Rows of one unit beside each other are hashed once.
    fn bytes(&self, unit: &ArrayRef) -> Result<Vec<u128>> {
        let unit = as_views(unit)?;
        let mut ids = Vec::with_capacity(unit.len());
        let mut last = None;
        for row in 0..unit.len() {
            let id = match last {
                Some(id) if follows_its_like(&unit, row) => id,
                _ => keyed(self.key, unit.value(row)),
            };
            last = Some(id);
            ids.push(id);
        }
        Ok(ids)
    }

    fn by_dictionary(&mut self, unit: &ArrayRef) -> Result<Vec<u128>> {
        let values = unit.as_any_dictionary().values();
        let known = self.dictionary.take().filter(|(held, _)| Arc::ptr_eq(held, values));
        let of_values = match known {
            Some((_, of_values)) => of_values,
            None => self.wide(values)?,
        };
        let array = unit.as_ref();
        let ids = downcast_dictionary_array!(
            array => {
                let codes = array.keys().values();
                codes.iter().map(|code| of_values[*code as usize]).collect()
            },
            _ => return internal_err!("a dictionary that is none"),
        );
        self.dictionary = Some((Arc::clone(values), of_values));
        Ok(ids)
    }
}

/// A keyed hash of bytes.
pub(super) fn keyed(key: SelectionKey, bytes: &[u8]) -> u128 {
    let mut hasher = SipHasher13::new_with_key(&key);
    hasher.write(bytes);
    hasher.finish128().as_u128()
}

/// The type of a dictionary's values, or the type itself.
fn values_of(kind: &DataType) -> &DataType {
    match kind {
        DataType::Dictionary(_, values) => values_of(values),
        kind => kind,
    }
}

pub(super) fn is_integer(kind: &DataType) -> bool {
    kind.is_integer()
        || matches!(
            kind,
            DataType::Date32
                | DataType::Date64
                | DataType::Time32(_)
                | DataType::Time64(_)
                | DataType::Timestamp(..)
                | DataType::Duration(_)
        )
}

pub(super) const fn is_bytes(kind: &DataType) -> bool {
    matches!(
        kind,
        DataType::Utf8
            | DataType::LargeUtf8
            | DataType::Utf8View
            | DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
    )
}

/// Whether a row from the second on has the same bytes as the row before, both of them valid.
#[inline]
pub(super) fn follows_its_like(values: &BinaryViewArray, row: usize) -> bool {
    let (before, view) = (values.views()[row - 1], values.views()[row]);
    // Equal views of one array are equal bytes. Else only those may be that are too long for a view and begin alike.
    before == view
        || (before as u64 == view as u64 && view as u32 > INLINE && are_equal(values.value(row - 1), values.value(row)))
}

/// The length up to which a view holds all of its bytes (Arrow columnar format, views of binary data).
const INLINE: u32 = 12;

/// Whether bytes are equal: those of an id are so few that a call would take longer than to compare them.
#[inline]
pub(super) fn are_equal(a: &[u8], b: &[u8]) -> bool {
    const WORD: usize = size_of::<u64>();
    let len = a.len();
    if len != b.len() || !(WORD..=3 * WORD).contains(&len) {
        return a == b;
    }
    // Three words, which may overlap, have all of up to 24 bytes.
    let differ = |at: usize| match (a[at..].first_chunk::<WORD>(), b[at..].first_chunk::<WORD>()) {
        (Some(a), Some(b)) => u64::from_ne_bytes(*a) ^ u64::from_ne_bytes(*b),
        _ => u64::MAX,
    };
    let last = len - WORD;
    differ(0) | differ(last.min(WORD)) | differ(last) == 0
}

/// Text and bytes as views of bytes.
pub(super) fn as_views(array: &ArrayRef) -> Result<BinaryViewArray> {
    let views = match array.data_type() {
        // Text of 64-bit offsets has no direct cast to views of bytes.
        DataType::LargeUtf8 | DataType::Utf8 => cast(&cast(array, &DataType::Utf8View)?, &DataType::BinaryView)?,
        _ => cast(array, &DataType::BinaryView)?,
    };
    Ok(views.as_binary_view().clone())
}

/// The bits of integers, such that their order is that of the values.
pub(super) fn integers(array: &ArrayRef) -> Result<Vec<u64>> {
    fn of<T: ArrowPrimitiveType>(array: &ArrayRef, bits: impl Fn(T::Native) -> u64) -> Result<Vec<u64>> {
        let Some(array) = array.as_primitive_opt::<T>() else { return internal_err!("integers of another type") };
        let array: &PrimitiveArray<T> = array;
        Ok(array.values().iter().map(|value| bits(*value)).collect())
    }
    use arrow::datatypes as t;
    use arrow::datatypes::TimeUnit::{Microsecond, Millisecond, Nanosecond, Second};
    let signed = |value: i64| value.cast_unsigned() ^ (1 << 63);
    match array.data_type() {
        DataType::Int8 => of::<t::Int8Type>(array, |value| signed(i64::from(value))),
        DataType::Int16 => of::<t::Int16Type>(array, |value| signed(i64::from(value))),
        DataType::Int32 => of::<t::Int32Type>(array, |value| signed(i64::from(value))),
        DataType::Int64 => of::<t::Int64Type>(array, signed),
        DataType::UInt8 => of::<t::UInt8Type>(array, |value| signed(i64::from(value))),
        DataType::UInt16 => of::<t::UInt16Type>(array, |value| signed(i64::from(value))),
        DataType::UInt32 => of::<t::UInt32Type>(array, |value| signed(i64::from(value))),
        DataType::UInt64 => of::<t::UInt64Type>(array, |value| value),
        DataType::Date32 => of::<t::Date32Type>(array, |value| signed(i64::from(value))),
        DataType::Date64 => of::<t::Date64Type>(array, signed),
        DataType::Time32(Second) => of::<t::Time32SecondType>(array, |value| signed(i64::from(value))),
        DataType::Time32(_) => of::<t::Time32MillisecondType>(array, |value| signed(i64::from(value))),
        DataType::Time64(Microsecond) => of::<t::Time64MicrosecondType>(array, signed),
        DataType::Time64(_) => of::<t::Time64NanosecondType>(array, signed),
        DataType::Timestamp(Second, _) => of::<t::TimestampSecondType>(array, signed),
        DataType::Timestamp(Millisecond, _) => of::<t::TimestampMillisecondType>(array, signed),
        DataType::Timestamp(Microsecond, _) => of::<t::TimestampMicrosecondType>(array, signed),
        DataType::Timestamp(Nanosecond, _) => of::<t::TimestampNanosecondType>(array, signed),
        DataType::Duration(Second) => of::<t::DurationSecondType>(array, signed),
        DataType::Duration(Millisecond) => of::<t::DurationMillisecondType>(array, signed),
        DataType::Duration(Microsecond) => of::<t::DurationMicrosecondType>(array, signed),
        DataType::Duration(Nanosecond) => of::<t::DurationNanosecondType>(array, signed),
        other => internal_err!("{other} is no integer"),
    }
}
