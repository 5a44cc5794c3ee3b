//! How far files are from the layout, by their footers alone.

use arrow::datatypes::DataType;
use parquet::basic::SortOrder;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::statistics::Statistics;

use super::input::Input;

/// What a source lacks. Nothing of it is a value of the data.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Distance {
    /// The files.
    pub files: usize,
    /// The rows, as the footers say.
    pub rows: u64,
    /// The bytes.
    pub bytes: u64,
    /// The row groups.
    pub row_groups: usize,
    /// Files that do not say that they are sorted by the unit.
    pub files_not_sorted: usize,
    /// Row groups that do not begin above the units of the group before, over all files in the order of their names.
    pub groups_out_of_order: usize,
    /// Row groups without exact least and largest units, of which that cannot be told.
    pub groups_unknown: usize,
    /// Row groups with more rows than is sensible.
    pub groups_too_large: usize,
    /// String columns, but for the unit, that are not handed out as dictionaries. Those of many values never are.
    pub plain_strings: usize,
}

impl Distance {
    /// Whether the source is in the layout, as far as its footers tell. Strings without a dictionary do not count, since only a
    /// reading of all rows tells whether they have few values; nor do groups of units too long for a footer.
    #[must_use]
    pub const fn is_in_layout(&self) -> bool {
        self.files_not_sorted == 0 && self.groups_out_of_order == 0 && self.groups_too_large == 0
    }

    pub(super) fn of(input: &Input, most_rows: usize) -> Self {
        let mut distance =
            Self { files: input.files.len(), rows: input.rows(), bytes: input.bytes(), ..Self::default() };
        // The largest unit of the last group that had any, and whether it was the only one.
        let mut last: Option<(Vec<u8>, bool)> = None;
        for footer in &input.footers {
            let metadata = footer.metadata.metadata();
            let Some(leaf) = leaf(metadata, input.unit_name()) else { continue };
            distance.files_not_sorted += usize::from(!is_sorted(metadata, leaf));
            for group in metadata.row_groups() {
                distance.row_groups += 1;
                // One unit alone may be longer than a group, and then its groups are as long as groups are.
                distance.groups_too_large +=
                    usize::from(usize::try_from(group.num_rows()).is_ok_and(|rows| rows > most_rows));
                match ends(group, leaf) {
                    Ends::None => {}
                    Ends::Unknown => distance.groups_unknown += 1,
                    Ends::Units { least, largest } => {
                        // A unit that filled a group alone may go on in the next; nothing else may.
                        let follows = |(last, alone): &(Vec<u8>, bool)| *last < least || (*alone && *last == least);
                        distance.groups_out_of_order += usize::from(!last.as_ref().is_none_or(follows));
                        let alone = least == largest;
                        last = Some((largest, alone));
                    }
                }
            }
        }
        let texts = input.schema.fields().iter().enumerate().filter(|(at, field)| {
            *at != input.unit && matches!(field.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
        });
        distance.plain_strings = texts.count();
        distance
    }
}

fn leaf(metadata: &ParquetMetaData, column: &str) -> Option<usize> {
    let columns = metadata.file_metadata().schema_descr().columns();
    columns.iter().position(|leaf| leaf.path().parts() == [column.to_owned()])
}

fn is_sorted(metadata: &ParquetMetaData, leaf: usize) -> bool {
    metadata.row_groups().iter().all(|group| {
        let first = group.sorting_columns().and_then(|columns| columns.first());
        first.is_some_and(|first| !first.descending && usize::try_from(first.column_idx) == Ok(leaf))
    })
}

/// The units at the ends of a row group, in bytes that compare as the units do.
enum Ends {
    /// It has none: its rows belong to no unit.
    None,
    Unknown,
    Units {
        least: Vec<u8>,
        largest: Vec<u8>,
    },
}

fn ends(group: &RowGroupMetaData, leaf: usize) -> Ends {
    let Some(statistics) = group.columns().get(leaf).and_then(|column| column.statistics()) else {
        return Ends::Unknown;
    };
    if statistics.null_count_opt().is_some_and(|nulls| i64::try_from(nulls) == Ok(group.num_rows())) {
        return Ends::None;
    }
    let is_unsigned = group.columns()[leaf].column_descr().sort_order() == SortOrder::UNSIGNED;
    let ordered = |value: i64| (value as u64 ^ if is_unsigned { 0 } else { 1 << 63 }).to_be_bytes().to_vec();
    let wide = |value: i32| if is_unsigned { i64::from(value as u32) } else { i64::from(value) };
    let pair = match statistics {
        Statistics::Int32(found) => found
            .min_opt()
            .zip(found.max_opt())
            .map(|(least, largest)| (ordered(wide(*least)), ordered(wide(*largest)))),
        Statistics::Int64(found) => {
            found.min_opt().zip(found.max_opt()).map(|(least, largest)| (ordered(*least), ordered(*largest)))
        }
        Statistics::ByteArray(found) if found.min_is_exact() && found.max_is_exact() => found
            .min_opt()
            .zip(found.max_opt())
            .map(|(least, largest)| (least.data().to_vec(), largest.data().to_vec())),
        Statistics::FixedLenByteArray(found) if found.min_is_exact() && found.max_is_exact() => found
            .min_opt()
            .zip(found.max_opt())
            .map(|(least, largest)| (least.data().to_vec(), largest.data().to_vec())),
        _ => None,
    };
    pair.map_or(Ends::Unknown, |(least, largest)| Ends::Units { least, largest })
}
