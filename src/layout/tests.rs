//! The layout: what is written, that it is the same rows, and that the original survives whatever happens.
#![allow(clippy::unwrap_used)]

mod placing;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, Float64Array, Int64Array, ListArray, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Int8Type, Int64Type};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::file::properties::WriterProperties;

use super::checksum::Checksum;
use super::groups::Groups;
use super::{Codec, Distance, Form, Goal, LayoutError, Origin, Outcome, Stage, check, optimize};
use crate::stores::Stores;

/// Whole numbers that look drawn, the same in every run.
struct Drawn(u64);

impl Drawn {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// `rows` rows in no order: units of which one in 16 is NULL, a time, strings of few values and of many, a dictionary of 8-bit
/// keys, floats with NaN and a negative zero, and lists.
fn rows(rows: usize, seed: u64) -> RecordBatch {
    let mut drawn = Drawn(seed);
    let mut some = |most: u64| (0..rows).map(|_| drawn.below(most)).collect::<Vec<_>>();
    let unit: Int64Array = some(1600).into_iter().map(|unit| (unit % 16 != 0).then_some(unit as i64 - 800)).collect();
    let time = TimestampMicrosecondArray::from(some(1 << 40).into_iter().map(|at| at as i64).collect::<Vec<_>>());
    let few: StringArray =
        some(5).into_iter().map(|word| ["north", "south", "", "ö"].get(word as usize).copied()).collect();
    let many: StringArray = some(1 << 30).into_iter().map(|word| Some(format!("word {word}"))).collect();
    let small: DictionaryArray<Int8Type> = some(3).into_iter().map(|word| ["a", "b", "c"][word as usize]).collect();
    let floats = [1.5, f64::NAN, -0.0, 0.0, f64::INFINITY];
    let float: Float64Array = some(5).into_iter().map(|at| Some(floats[at as usize])).collect();
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>(
        some(4).into_iter().map(|length| (length < 3).then(|| (0..length as i64).map(Some).collect::<Vec<_>>())),
    );
    let columns: [(&str, ArrayRef); 7] = [
        ("many", Arc::new(many)),
        ("Unit", Arc::new(unit)),
        ("few", Arc::new(few)),
        ("at", Arc::new(time)),
        ("small", Arc::new(small)),
        ("float", Arc::new(float)),
        ("list", Arc::new(list)),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
}

fn write(path: &Path, batch: &RecordBatch) {
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(1000)).build();
    let mut writer = ArrowWriter::try_new(fs::File::create(path).unwrap(), batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

fn read(path: &Path) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(path).unwrap()).unwrap();
    let schema = reader.schema().clone();
    concat_batches(&schema, &reader.build().unwrap().collect::<Result<Vec<_>, _>>().unwrap()).unwrap()
}

fn origin(location: &Path) -> Origin {
    let location = location.display().to_string();
    let files = Stores::default().list(&location).unwrap();
    Origin { location, files, unit: "Unit".to_owned(), then_by: Some("at".to_owned()) }
}

fn small_groups() -> Form {
    Form { row_group_rows: 300, memory_bytes: 64 << 20, ..Form::default() }
}

async fn run(location: &Path, goal: Goal, form: Form) -> Result<Outcome, LayoutError> {
    optimize(&Stores::default(), origin(location), goal, form, Arc::new(|_, _, _| {})).await
}

/// Every row as text, in the order of the texts: what two files of the same rows have in common.
fn texts(batches: &[RecordBatch]) -> Vec<String> {
    let mut texts = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let values = batch.columns().iter().map(|column| {
                // A NaN and a negative zero are told from others by their bits.
                match column.as_primitive_opt::<arrow::datatypes::Float64Type>() {
                    Some(float) => format!("{:x}", float.value(row).to_bits()),
                    None => arrow::util::display::array_value_to_string(column, row).unwrap(),
                }
            });
            texts.push(values.collect::<Vec<_>>().join("|"));
        }
    }
    texts.sort();
    texts
}

/// The units at the ends of each row group, and how many rows it has; `None` for a group of rows without a unit.
fn group_ends(path: &Path) -> Vec<(Option<(i64, i64)>, usize)> {
    let metadata = ArrowReaderMetadata::load(&fs::File::open(path).unwrap(), ArrowReaderOptions::default()).unwrap();
    let mut ends = Vec::new();
    for group in 0..metadata.metadata().num_row_groups() {
        let file = fs::File::open(path).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().with_row_groups(vec![group]);
        let schema = reader.schema().clone();
        let batches = reader.build().unwrap().collect::<Result<Vec<_>, _>>().unwrap();
        let batch = concat_batches(&schema, &batches).unwrap();
        let units = batch.column_by_name("Unit").unwrap().as_primitive::<Int64Type>().clone();
        let nulls = units.null_count();
        assert!(nulls == 0 || nulls == units.len(), "units and none in one group");
        let values: Vec<i64> = units.iter().flatten().collect();
        assert!(values.is_sorted());
        ends.push((values.first().copied().zip(values.last().copied()), units.len()));
    }
    ends
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_becomes_one_sorted_file_of_the_same_rows() {
    let dir = tempfile::tempdir().unwrap();
    let (path, to) = (dir.path().join("t.parquet"), dir.path().join("new.parquet"));
    let before = rows(5000, 1);
    write(&path, &before);
    let original = fs::read(&path).unwrap();
    let done = run(&path, Goal::New(to.clone()), small_groups()).await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), original);
    assert_eq!((done.files_before, done.files_after, done.rows_written), (1, 1, 5000));
    assert_eq!(done.location, to.display().to_string());
    assert_eq!(done.dictionaries, ["few", "small"]);

    let after = read(&to);
    assert_eq!(texts(std::slice::from_ref(&after)), texts(std::slice::from_ref(&before)));
    let without_unit = before.column(1).null_count();
    assert_eq!(done.read.of_none.rows, without_unit as u64);
    let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let types: Vec<DataType> = after.schema().fields().iter().map(|field| field.data_type().clone()).collect();
    let was: Vec<DataType> = before.schema().fields().iter().map(|field| field.data_type().clone()).collect();
    let expected = [&was[0], &was[1], &dictionary, &was[3], &dictionary, &was[5], &was[6]].map(Clone::clone);
    assert_eq!(types, expected);
    // Sorted by the unit and then the time, what has no unit last.
    let order = |column: &str| after.column_by_name(column).unwrap().clone();
    let (unit, at) = (order("Unit"), order("at"));
    let at = at.as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
    let keys: Vec<(i64, i64)> = unit
        .as_primitive::<Int64Type>()
        .iter()
        .zip(at.values())
        .map(|(unit, at)| (unit.unwrap_or(i64::MAX), *at))
        .collect();
    assert!(keys.is_sorted());
    // No unit is in two groups.
    let ends = group_ends(&to);
    assert!(ends.len() > 5000 / 300 && ends.iter().all(|(_, rows)| *rows <= 300), "{ends:?}");
    let units: Vec<(i64, i64)> = ends.iter().filter_map(|(units, _)| *units).collect();
    assert!(units.is_sorted_by(|one, next| one.1 < next.0), "{units:?}");
    let none: usize = ends.iter().filter(|(units, _)| units.is_none()).map(|(_, rows)| rows).sum();
    assert_eq!(none, without_unit);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left behind");

    let distance = |path: &Path| check(&Stores::default(), &origin(path), &small_groups()).unwrap();
    assert!(distance(&to).is_in_layout(), "{:?}", distance(&to));
    let Distance { files_not_sorted, groups_out_of_order, groups_too_large, .. } = distance(&path);
    assert!(files_not_sorted == 1 && groups_out_of_order > 0 && groups_too_large > 0, "{:?}", distance(&path));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_without_a_unit_may_be_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let (path, to) = (dir.path().join("t.parquet"), dir.path().join("new.parquet"));
    let before = rows(2000, 2);
    write(&path, &before);
    let form = Form { drop_rows_without_unit: true, codec: Codec::Snappy, ..small_groups() };
    let done = run(&path, Goal::New(to.clone()), form).await.unwrap();
    let with_unit = 2000 - before.column(1).null_count();
    assert!(with_unit < 2000);
    assert_eq!(done.rows_written, with_unit as u64);
    assert_eq!(read(&to).num_rows(), with_unit);
    assert!(group_ends(&to).iter().all(|(units, _)| units.is_some()));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_files_become_files_of_disjoint_units() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    fs::create_dir(&source).unwrap();
    let batches: Vec<RecordBatch> = (0..3).map(|at| rows(1500, 10 + at)).collect();
    for (at, batch) in batches.iter().enumerate() {
        write(&source.join(format!("{at}.parquet")), batch);
    }
    let to = dir.path().join("new");
    let done = run(&source, Goal::New(to.clone()), Form { file_bytes: 20_000, ..small_groups() }).await.unwrap();
    assert!(done.files_after > 2, "{done:?}");
    let files: Vec<PathBuf> = (0..done.files_after).map(|at| to.join(format!("part-{at:05}.parquet"))).collect();
    assert_eq!(fs::read_dir(&to).unwrap().count(), files.len());
    let after: Vec<RecordBatch> = files.iter().map(|file| read(file)).collect();
    assert_eq!(texts(&after), texts(&batches));
    let units: Vec<(i64, i64)> =
        files.iter().flat_map(|file| group_ends(file)).filter_map(|(units, _)| units).collect();
    assert!(units.is_sorted_by(|one, next| one.1 < next.0), "{units:?}");
    assert!(check(&Stores::default(), &origin(&to), &small_groups()).unwrap().is_in_layout());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sort_that_does_not_fit_in_memory_spills() {
    let dir = tempfile::tempdir().unwrap();
    let (path, to) = (dir.path().join("t.parquet"), dir.path().join("new.parquet"));
    let before = rows(200_000, 3);
    write(&path, &before);
    assert!(before.get_array_memory_size() > 12 << 20);
    let form = Form { row_group_rows: 10_000, memory_bytes: 8 << 20, ..Form::default() };
    let done = run(&path, Goal::New(to.clone()), form).await.unwrap();
    assert_eq!(done.rows_written, 200_000);
    assert_eq!(texts(&[read(&to)]), texts(&[before]));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_unit_stay_in_the_order_in_which_they_came() {
    const ROWS: i64 = 20_000;
    let dir = tempfile::tempdir().unwrap();
    let (source, to) = (dir.path().join("source"), dir.path().join("new"));
    fs::create_dir(&source).unwrap();
    for file in 0..2 {
        let came: Int64Array = (file * ROWS..(file + 1) * ROWS).collect();
        let unit: Int64Array = came.values().iter().map(|at| at * 7919 % 501).collect();
        let columns: [(&str, ArrayRef); 2] = [("Unit", Arc::new(unit)), ("came", Arc::new(came))];
        write(&source.join(format!("{file}.parquet")), &RecordBatch::try_from_iter(columns).unwrap());
    }
    let origin = Origin { then_by: None, ..origin(&source) };
    // So little memory that what is sorted is merged from the disk.
    let form = Form { memory_bytes: 4 << 20, file_bytes: 1 << 30, ..Form::default() };
    optimize(&Stores::default(), origin, Goal::New(to.clone()), form, Arc::new(|_, _, _| {})).await.unwrap();
    let after = read(&to.join("part-00000.parquet"));
    let column = |at: usize| after.column(at).as_primitive::<Int64Type>().values().to_vec();
    let rows: Vec<(i64, i64)> = column(0).into_iter().zip(column(1)).collect();
    assert_eq!((after.num_columns(), rows.len()), (2, 2 * ROWS as usize));
    assert!(rows.is_sorted());
}

#[tokio::test(flavor = "multi_thread")]
async fn data_without_a_row_keeps_its_columns() {
    let dir = tempfile::tempdir().unwrap();
    let (path, to) = (dir.path().join("t.parquet"), dir.path().join("new.parquet"));
    write(&path, &rows(0, 0));
    let done = run(&path, Goal::New(to.clone()), small_groups()).await.unwrap();
    assert_eq!((done.rows_written, done.files_after), (0, 1));
    assert_eq!(read(&to).num_columns(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_reaches_all_rows_in_every_stage() {
    let dir = tempfile::tempdir().unwrap();
    let (path, to) = (dir.path().join("t.parquet"), dir.path().join("new.parquet"));
    write(&path, &rows(3000, 4));
    let told: Arc<std::sync::Mutex<Vec<(Stage, u64, u64)>>> = Arc::default();
    let noted = Arc::clone(&told);
    let progress = Arc::new(move |stage, done, all| noted.lock().unwrap().push((stage, done, all)));
    optimize(&Stores::default(), origin(&path), Goal::New(to), small_groups(), progress).await.unwrap();
    let told = told.lock().unwrap();
    for stage in [Stage::Reading, Stage::Writing, Stage::Checking] {
        let most = told.iter().filter(|(told, ..)| *told == stage).map(|(_, done, _)| *done).max();
        assert_eq!(most, Some(3000), "{stage:?}");
    }
    assert!(told.iter().all(|(_, _, all)| *all == 3000));
}

/// Cuts `units` into groups of at most `most` rows, given in batches of `batch` rows.
fn cut(units: &[Option<i64>], most: usize, batch: usize) -> Vec<(Vec<Option<i64>>, bool)> {
    let mut groups = Groups::new(most, 0, &DataType::Int64).unwrap();
    let batches = units.chunks(batch).map(|units| {
        let column: ArrayRef = Arc::new(Int64Array::from(units.to_vec()));
        RecordBatch::try_from_iter_with_nullable([("u", column, true)]).unwrap()
    });
    let mut found: Vec<_> = batches.flat_map(|batch| groups.push(batch).unwrap()).collect();
    found.extend(groups.finish());
    let units = |group: &super::groups::Group| {
        let columns = group
            .batches
            .iter()
            .flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().iter().collect::<Vec<_>>());
        columns.collect::<Vec<_>>()
    };
    found.iter().map(|group| (units(group), group.begins_unit)).collect()
}

#[test]
fn groups_hold_whole_units() {
    let units = |text: &str| text.chars().map(|c| c.to_digit(10).map(i64::from)).collect::<Vec<_>>();
    for (rows, most, expected) in [
        ("", 3, vec![]),
        ("111", 3, vec!["111"]),
        ("1122", 3, vec!["11", "22"]),
        ("112233", 4, vec!["1122", "33"]),
        ("122233", 4, vec!["1222", "33"]),
        // One that is longer than a group begins in one of its own, and others may follow it in its last.
        ("1222222234", 4, vec!["1", "2222", "2223", "4"]),
        ("12----", 4, vec!["12", "----"]),
        ("12------", 4, vec!["12", "----", "--"]),
        ("11112222--", 4, vec!["1111", "2222", "--"]),
        ("------", 4, vec!["----", "--"]),
    ] {
        let expected: Vec<Vec<Option<i64>>> = expected.into_iter().map(units).collect();
        for batch in 1..=10 {
            let found: Vec<_> = cut(&units(rows), most, batch).into_iter().map(|(units, _)| units).collect();
            assert_eq!(found, expected, "{rows} by {most} in batches of {batch}");
        }
    }
    let begins: Vec<bool> = cut(&units("1222222234--"), 4, 3).into_iter().map(|(_, begins)| begins).collect();
    assert_eq!(begins, [true, true, false, true, true]);
    let mut groups = Groups::new(9, 0, &DataType::Int64).unwrap();
    let column: ArrayRef = Arc::new(Int64Array::from(vec![2, 1]));
    let batch = RecordBatch::try_from_iter([("u", column)]).unwrap();
    assert!(matches!(groups.push(batch), Err(LayoutError::Unsorted)));
}

#[test]
fn the_sum_of_rows_knows_neither_order_nor_encoding_and_all_else() {
    let one = rows(100, 5);
    let sum = |batches: &[RecordBatch]| {
        let mut checksum = Checksum::new(&batches[0].schema(), 1).unwrap();
        for batch in batches {
            checksum.add(batch).unwrap();
        }
        checksum.sums()
    };
    let expected = sum(std::slice::from_ref(&one));
    assert_eq!(sum(&[one.slice(60, 40), one.slice(0, 60)]), expected);
    // Strings by a dictionary, and as views.
    for data_type in [
        DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
        DataType::Utf8View,
        DataType::LargeUtf8,
    ] {
        let mut columns = one.columns().to_vec();
        columns[2] = arrow::compute::cast(&columns[2], &data_type).unwrap();
        let names = one.schema();
        let fields = names.fields().iter().zip(columns).map(|(field, column)| (field.name().clone(), column, true));
        assert_eq!(sum(&[RecordBatch::try_from_iter_with_nullable(fields).unwrap()]), expected, "{data_type}");
    }
    assert_ne!(sum(&[one.slice(0, 99)]), expected);
    assert_ne!(sum(&[one.slice(0, 99), one.slice(0, 1)]), expected);
    let mut columns = one.columns().to_vec();
    columns[5] = Arc::new(Float64Array::from(vec![0.0; 100]));
    assert_ne!(sum(&[RecordBatch::try_new(one.schema(), columns).unwrap()]), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_is_longer_than_a_group_is_in_the_layout_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (path, to) = (dir.path().join("t.parquet"), dir.path().join("new.parquet"));
    let before = rows(2000, 13);
    let mut columns = before.columns().to_vec();
    columns[1] = Arc::new((0..2000).map(|row| Some(if row % 2 == 0 { 7 } else { row % 90 })).collect::<Int64Array>());
    write(&path, &RecordBatch::try_new(before.schema(), columns).unwrap());
    run(&path, Goal::New(to.clone()), small_groups()).await.unwrap();
    let long = group_ends(&to).iter().filter(|(units, _)| units.is_some_and(|(least, _)| least == 7)).count();
    assert!(long >= 4, "{:?}", group_ends(&to));
    let distance = check(&Stores::default(), &origin(&to), &small_groups()).unwrap();
    assert!(distance.is_in_layout(), "{distance:?}");
}
