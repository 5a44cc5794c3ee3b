//! How the same rows lie on the disk, and under which policy.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StringViewArray, UInt64Array};
use arrow::compute::nullif;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow::record_batch::RecordBatch;
use clap::ValueEnum;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use futures::StreamExt;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use tollgate::layout::{Form, Goal, Origin, Progress, optimize};
use tollgate::stores::{DataFile, Stores};

use super::flat::{self, Flat};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Layout {
    /// As a company delivers it: in the order of its orders, plain strings, nothing declared.
    Delivered,
    /// As `source optimize` leaves it: sorted by unit, row groups aligned to units, dictionaries in the schema.
    Optimised,
    /// In no order at all.
    Shuffled,
    /// As delivered, but a unit is a string of 18 bytes.
    Strings,
    /// The same, as `source optimize` leaves it.
    StringsOptimised,
    /// As delivered, with one in twenty units, quantities, prices and ship modes NULL.
    Nulls,
    /// The file as delivered, where a unit is a customer in one month: two columns.
    Epochs,
    /// The optimised file, likewise.
    EpochsOptimised,
}

impl Layout {
    /// Its name, as the arguments have it.
    pub fn name(self) -> String {
        self.to_possible_value().unwrap().get_name().to_owned()
    }

    /// The column that names the unit.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Strings | Self::StringsOptimised => "c_name",
            _ => "o_custkey",
        }
    }

    /// What makes a unit, in SQL.
    pub const fn unit_key(self) -> &'static [&'static str] {
        match self {
            Self::Strings | Self::StringsOptimised => &["c_name"],
            Self::Epochs | Self::EpochsOptimised => &["o_custkey", "date_trunc('month', o_orderdate)"],
            _ => &["o_custkey"],
        }
    }

    const fn stem(self) -> &'static str {
        match self {
            Self::Delivered | Self::Epochs => "delivered",
            Self::Optimised | Self::EpochsOptimised => "optimised",
            Self::Shuffled => "shuffled",
            Self::Strings => "strings",
            Self::StringsOptimised => "strings-optimised",
            Self::Nulls => "nulls",
        }
    }

    /// The file, made first if it is not there.
    pub async fn file(self, dir: &Path, factor: f64) -> PathBuf {
        let file = dir.join(format!("{}.parquet", self.stem()));
        if file.exists() {
            return file;
        }
        fs::create_dir_all(dir).unwrap();
        eprintln!("making {}", file.display());
        let part = dir.join(format!("{}.{}.part", self.stem(), std::process::id()));
        match self {
            Self::Delivered | Self::Epochs => write(&part, Flat::new(factor)),
            Self::Strings => write(&part, Flat::new(factor).map(|batch| named(&batch))),
            Self::Nulls => write(&part, Flat::new(factor).scan(0, |at, batch| Some(with_nulls(&batch, at)))),
            Self::Optimised | Self::EpochsOptimised => {
                let from = Box::pin(Self::Delivered.file(dir, factor)).await;
                optimise(&from, &part, "o_custkey").await;
            }
            Self::StringsOptimised => {
                let from = Box::pin(Self::Strings.file(dir, factor)).await;
                optimise(&from, &part, "c_name").await;
            }
            Self::Shuffled => {
                let from = dir.join(format!("numbered.{}.part", std::process::id()));
                write(&from, Flat::new(factor).scan(0, |at, batch| Some(numbered(&batch, at))));
                let mut rows = sorted(&from, "place").await;
                let mut writer =
                    ArrowWriter::try_new(File::create(&part).unwrap(), flat::schema(), Some(delivered().build()))
                        .unwrap();
                while let Some(batch) = rows.next().await {
                    let columns: Vec<_> = (0..flat::schema().fields().len()).collect();
                    writer.write(&batch.unwrap().project(&columns).unwrap()).unwrap();
                }
                writer.close().unwrap();
                fs::remove_file(from).unwrap();
            }
        }
        fs::rename(part, &file).unwrap();
        file
    }

    /// The policy over `file`.
    pub fn policy(self, file: &Path) -> String {
        let epoch = match self {
            Self::Epochs | Self::EpochsOptimised => {
                "epoch = \"month\"\nepoch_column = \"o_orderdate\"\nepoch_from = 1992-01-01\n"
            }
            _ => "",
        };
        format!(
            "[dataset]\nowner = \"tpch\"\nname = \"flat\"\nlocation = {:?}\n\
             [privacy]\nunit = \"{}\"\nunit_domain = \"customer\"\nmin_group_size = 10\n\
             max_groups_per_unit = 64\nmax_rows_per_unit_per_group = 128\naccounting = \"zcdp\"\n{epoch}\
             [budget]\nper_consumer = {{ epsilon = 100.0, delta = 1e-5, per = \"month\" }}\n\
             all_consumers = {{ epsilon = 1000.0, delta = 1e-4, per = \"lifetime\" }}\n\
             default_query = {{ epsilon = 1.0 }}\nmax_query = {{ epsilon = 10.0 }}\nquery_delta = 1e-7\n{COLUMNS}",
            file.display().to_string(),
            self.unit(),
        )
    }
}

const COLUMNS: &str = r#"
[columns.l_quantity]
bounds = [0, 50]
[columns.l_extendedprice]
bounds = [0, 110000]
[columns.l_discount]
bounds = [0, 0.1]
[columns.l_returnflag]
public_groups = ["A", "N", "R"]
[columns.l_linestatus]
public_groups = ["F", "O"]
[columns.l_shipmode]
public_groups = ["AIR", "FOB", "MAIL", "RAIL", "REG AIR", "SHIP", "TRUCK"]
[columns.o_orderpriority]
public_groups = ["1-URGENT", "2-HIGH", "3-MEDIUM", "4-NOT SPECIFIED", "5-LOW"]
[columns.n_name]
public_groups = [
  "ALGERIA", "ARGENTINA", "BRAZIL", "CANADA", "CHINA", "EGYPT", "ETHIOPIA", "FRANCE", "GERMANY", "INDIA", "INDONESIA",
  "IRAN", "IRAQ", "JAPAN", "JORDAN", "KENYA", "MOROCCO", "MOZAMBIQUE", "PERU", "ROMANIA", "RUSSIA", "SAUDI ARABIA",
  "UNITED KINGDOM", "UNITED STATES", "VIETNAM",
]
"#;

/// The public table of nations, made first if it is not there.
pub fn nations(dir: &Path) -> PathBuf {
    let file = dir.join("nations.parquet");
    if !file.exists() {
        fs::create_dir_all(dir).unwrap();
        let part = dir.join(format!("nations.{}.part", std::process::id()));
        write(&part, std::iter::once(flat::nations()));
        fs::rename(part, &file).unwrap();
    }
    file
}

/// What DataFusion's COPY writes by default: zstd at level 3, row groups of 2²⁰ rows.
fn delivered() -> WriterPropertiesBuilder {
    let zstd = Compression::ZSTD(ZstdLevel::try_new(3).unwrap());
    WriterProperties::builder().set_compression(zstd).set_max_row_group_row_count(Some(1 << 20))
}

fn write(path: &Path, batches: impl Iterator<Item = RecordBatch>) {
    let mut batches = batches.peekable();
    let schema = batches.peek().unwrap().schema();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), schema, Some(delivered().build())).unwrap();
    for batch in batches {
        writer.write(&batch).unwrap();
    }
    writer.close().unwrap();
}

/// The rows of a file in the order of a column, sorted on the disk where they do not fit into 2 GiB.
async fn sorted(file: &Path, by: &str) -> datafusion::execution::SendableRecordBatchStream {
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::new(FairSpillPool::new(2 << 30))).build_arc().unwrap();
    let context = SessionContext::new_with_config_rt(SessionConfig::new(), runtime);
    let options = ParquetReadOptions::default().file_extension("");
    context.register_parquet("rows", file.to_string_lossy(), options).await.unwrap();
    context.sql(&format!("SELECT * FROM rows ORDER BY {by}")).await.unwrap().execute_stream().await.unwrap()
}

/// The layout of `source optimize`, by it.
async fn optimise(from: &Path, to: &Path, unit: &str) {
    let location = from.display().to_string();
    let (stores, files) = (Stores::default(), vec![DataFile::local(from.to_owned()).unwrap()]);
    let origin = Origin { location, files, unit: unit.to_owned(), then_by: None };
    let progress: Progress = Arc::new(|_, _, _| {});
    optimize(&stores, origin, Goal::New(to.to_owned()), Form::default(), progress).await.unwrap();
}

/// A number that looks random, of each number: the finaliser of SplitMix64.
const fn scattered(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// With a last column by which to shuffle. `at` counts the rows.
fn numbered(batch: &RecordBatch, at: &mut u64) -> RecordBatch {
    let places = (0..batch.num_rows() as u64).map(|row| scattered(*at + row + 1));
    let places: ArrayRef = Arc::new(UInt64Array::from_iter_values(places));
    *at += batch.num_rows() as u64;
    let fields = batch.schema().fields().iter().map(|field| field.as_ref().clone()).collect::<Vec<_>>();
    let schema = Schema::new([fields, vec![Field::new("place", DataType::UInt64, false)]].concat());
    RecordBatch::try_new(Arc::new(schema), [batch.columns(), &[places]].concat()).unwrap()
}

/// With the customer's name where its key was.
fn named(batch: &RecordBatch) -> RecordBatch {
    let keys = batch.column(0).as_primitive::<Int64Type>();
    let names = keys.values().iter().map(|key| format!("Customer#{key:09}"));
    let names: ArrayRef = Arc::new(StringViewArray::from_iter_values(names));
    let mut fields = batch.schema().fields().iter().map(|field| field.as_ref().clone()).collect::<Vec<_>>();
    fields[0] = Field::new("c_name", DataType::Utf8View, true);
    RecordBatch::try_new(Arc::new(Schema::new(fields)), [&[names], &batch.columns()[1..]].concat()).unwrap()
}

/// With one in twenty values gone, of the unit, the ship mode, the quantity and the price, each on its own.
fn with_nulls(batch: &RecordBatch, at: &mut u64) -> RecordBatch {
    let columns = batch.columns().iter().enumerate().map(|(place, column)| {
        if ![0, 3, 7, 8].contains(&place) {
            return Arc::clone(column);
        }
        let gone = |row| scattered((*at + row) * 16 + place as u64 + 1).is_multiple_of(20);
        let gone: BooleanArray = (0..column.len() as u64).map(|row| Some(gone(row))).collect();
        nullif(column, &gone).unwrap()
    });
    let columns = columns.collect();
    *at += batch.num_rows() as u64;
    RecordBatch::try_new(batch.schema(), columns).unwrap()
}
