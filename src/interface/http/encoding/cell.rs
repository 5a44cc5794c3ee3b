//! One value of an answer as text formats see it. JSON and CSV are both written from it, so that they cannot differ.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int64Type, TimeUnit, UInt64Type};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    /// NULL, and what JSON has no number for: NaN and the infinities.
    Null,
    /// A truth value.
    Bool(bool),
    /// An integer.
    Signed(i64),
    /// An integer of an unsigned type.
    Unsigned(u64),
    /// A single-precision number, kept apart so that it is written with its own digits. Finite.
    Single(f32),
    /// A double-precision number. Finite.
    Double(f64),
    /// A string, or what is written as one: decimals, dates and times (ISO 8601), binary (hexadecimal).
    Text(String),
    /// A list.
    List(Vec<Cell>),
    /// A struct, by field.
    Record(Vec<(String, Cell)>),
}

impl Serialize for Cell {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Signed(value) => serializer.serialize_i64(*value),
            Self::Unsigned(value) => serializer.serialize_u64(*value),
            Self::Single(value) => serializer.serialize_f32(*value),
            Self::Double(value) => serializer.serialize_f64(*value),
            Self::Text(value) => serializer.serialize_str(value),
            Self::List(cells) => serializer.collect_seq(cells),
            Self::Record(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (name, cell) in fields {
                    map.serialize_entry(name, cell)?;
                }
                map.end()
            }
        }
    }
}

/// The rows of an answer, each an array of cells.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rows {
    /// By batch, by column, by row.
    batches: Vec<Vec<Vec<Cell>>>,
}

impl Rows {
    /// Reads `batches`.
    ///
    /// # Errors
    /// When Arrow cannot cast a column to the type that it is written in.
    pub(super) fn read(batches: &[RecordBatch]) -> Result<Self, ArrowError> {
        let columns = |batch: &RecordBatch| batch.columns().iter().map(cells).collect();
        Ok(Self { batches: batches.iter().map(columns).collect::<Result<_, _>>()? })
    }

    /// The rows, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Row<'_>> {
        self.batches.iter().flat_map(|columns| {
            let count = columns.first().map_or(0, Vec::len);
            (0..count).map(move |index| Row { columns, index })
        })
    }
}

impl Serialize for Rows {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut rows = serializer.serialize_seq(None)?;
        for row in self.iter() {
            rows.serialize_element(&row)?;
        }
        rows.end()
    }
}

/// One row.
pub(super) struct Row<'a> {
    columns: &'a [Vec<Cell>],
    index: usize,
}

impl Row<'_> {
    /// Its cells, in the order of the columns.
    pub(super) fn cells(&self) -> impl Iterator<Item = &Cell> {
        self.columns.iter().filter_map(|column| column.get(self.index))
    }
}

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.cells())
    }
}

/// The cells of one column. Narrow types are widened first, so that only a handful of types is read.
fn cells(array: &ArrayRef) -> Result<Vec<Cell>, ArrowError> {
    use DataType as T;
    match array.data_type() {
        T::Dictionary(_, values) => cells(&cast(array, values)?),
        T::RunEndEncoded(_, values) => cells(&cast(array, values.data_type())?),
        T::Null => Ok(vec![Cell::Null; array.len()]),
        T::Boolean => Ok(optional(array.as_boolean().iter(), Cell::Bool)),
        T::Int8 | T::Int16 | T::Int32 | T::Int64 => {
            let wide = cast(array, &T::Int64)?;
            Ok(optional(wide.as_primitive::<Int64Type>().iter(), Cell::Signed))
        }
        T::UInt8 | T::UInt16 | T::UInt32 | T::UInt64 => {
            let wide = cast(array, &T::UInt64)?;
            Ok(optional(wide.as_primitive::<UInt64Type>().iter(), Cell::Unsigned))
        }
        T::Float16 | T::Float32 => {
            let wide = cast(array, &T::Float32)?;
            let finite = wide.as_primitive::<Float32Type>().iter().map(|value| value.filter(|value| value.is_finite()));
            Ok(optional(finite, Cell::Single))
        }
        T::Float64 => {
            let values = array.as_primitive::<Float64Type>();
            Ok(optional(values.iter().map(|value| value.filter(|value| value.is_finite())), Cell::Double))
        }
        T::List(_) => lists(array.as_list::<i32>().iter()),
        T::LargeList(_) => lists(array.as_list::<i64>().iter()),
        T::FixedSizeList(..) => lists(array.as_fixed_size_list().iter()),
        T::Struct(_) => records(array),
        T::Timestamp(unit, Some(_)) => instants(array, *unit),
        _ => texts(array),
    }
}

fn optional<T>(values: impl Iterator<Item = Option<T>>, cell: impl Fn(T) -> Cell) -> Vec<Cell> {
    values.map(|value| value.map_or(Cell::Null, &cell)).collect()
}

fn lists(values: impl Iterator<Item = Option<ArrayRef>>) -> Result<Vec<Cell>, ArrowError> {
    values.map(|list| list.map_or(Ok(Cell::Null), |list| cells(&list).map(Cell::List))).collect()
}

fn records(array: &ArrayRef) -> Result<Vec<Cell>, ArrowError> {
    let records = array.as_struct();
    let columns: Vec<Vec<Cell>> = records.columns().iter().map(cells).collect::<Result<_, _>>()?;
    let record = |row: usize| {
        let fields = records.column_names().into_iter().map(str::to_owned);
        let values = columns.iter().map(|column| column.get(row).cloned().unwrap_or(Cell::Null));
        Cell::Record(fields.zip(values).collect())
    };
    Ok((0..array.len()).map(|row| if array.is_null(row) { Cell::Null } else { record(row) }).collect())
}

/// Instants, which are written in UTC whatever zone their column names: a zone is a company's word, and its rules would
/// have to be known to write the local time.
fn instants(array: &ArrayRef, unit: TimeUnit) -> Result<Vec<Cell>, ArrowError> {
    let counts = cast(array, &DataType::Int64)?;
    let local = cast(&counts, &DataType::Timestamp(unit, None))?;
    let zoned = |cell| if let Cell::Text(text) = cell { Cell::Text(text + "Z") } else { cell };
    Ok(texts(&local)?.into_iter().map(zoned).collect())
}

/// Strings, decimals, dates, times and all the rest, as Arrow writes them (ISO 8601 where that applies). A value that
/// has no text, such as a timestamp beyond the calendar, is NULL.
fn texts(array: &ArrayRef) -> Result<Vec<Cell>, ArrowError> {
    let options = FormatOptions::new().with_display_error(false);
    let formatter = ArrayFormatter::try_new(array.as_ref(), &options)?;
    let text = |row: usize| formatter.value(row).try_to_string().map_or(Cell::Null, Cell::Text);
    Ok((0..array.len()).map(|row| if array.is_null(row) { Cell::Null } else { text(row) }).collect())
}
