use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::{self, File};
use std::path::Path;
use std::sync::OnceLock;

use arrow::array::{Array, AsArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{Date32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tempfile::TempDir;

use super::*;

const SMALL: u64 = 40_000;
const TRIPS: [&str; 3] = ["velo.trips", "hopin.trips", "metrocab.trips"];
const DATASETS: [&str; 5] = ["velo.trips", "hopin.trips", "metrocab.trips", "bazaar.orders", "city.districts"];

fn silent(_: &str, _: u64, _: u64) {}

fn read(dir: &Path, dataset: &str) -> RecordBatch {
    let path = dir.join("data").join(dataset.replace('.', "/")).with_extension("parquet");
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
    let schema = arrow::record_batch::RecordBatchReader::schema(&reader);
    concat_batches(&schema, &reader.map(Result::unwrap).collect::<Vec<_>>()).unwrap()
}

/// The data of seed 7, made once for all tests that only read it.
fn sample() -> &'static BTreeMap<&'static str, RecordBatch> {
    static SAMPLE: OnceLock<BTreeMap<&'static str, RecordBatch>> = OnceLock::new();
    SAMPLE.get_or_init(|| {
        let dir = TempDir::new().unwrap();
        generate(dir.path(), 7, Rows::of_total(SMALL), &silent).unwrap();
        DATASETS.map(|dataset| (dataset, read(dir.path(), dataset))).into()
    })
}

fn i32s<'a>(batch: &'a RecordBatch, column: &str) -> &'a arrow::array::Int32Array {
    batch[column].as_primitive::<Int32Type>()
}

fn i64s<'a>(batch: &'a RecordBatch, column: &str) -> &'a [i64] {
    batch[column].as_primitive::<Int64Type>().values()
}

fn f64s<'a>(batch: &'a RecordBatch, column: &str) -> &'a arrow::array::Float64Array {
    batch[column].as_primitive::<Float64Type>()
}

fn strings(batch: &RecordBatch, column: &str) -> BTreeSet<String> {
    batch[column].as_string::<i32>().iter().flatten().map(str::to_owned).collect()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn correlation(x: &[f64], y: &[f64]) -> f64 {
    let n = x.len() as f64;
    let (mx, my) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    let cov: f64 = x.iter().zip(y).map(|(a, b)| (a - mx) * (b - my)).sum();
    let (vx, vy): (f64, f64) = (x.iter().map(|a| (a - mx).powi(2)).sum(), y.iter().map(|b| (b - my).powi(2)).sum());
    cov / (vx * vy).sqrt()
}

fn policy(file_name: &str) -> toml::Table {
    POLICIES.iter().find(|policy| policy.file_name == file_name).unwrap().text.parse().unwrap()
}

#[test]
fn the_default_is_two_million_rows() {
    assert_eq!(Rows::default().total(), 2_000_000);
    assert_eq!(Rows::of_total(2_000_000), Rows::default());
    assert!((119_000..=121_000).contains(&Rows::default().citizens()));
    for total in [0, 39, 40, 41, 47, 1000, 123_457, 3_000_001] {
        assert_eq!(Rows::of_total(total).total(), total.max(40), "of {total}");
    }
}

#[test]
fn one_seed_is_one_data_set() {
    let dir = TempDir::new().unwrap();
    generate(dir.path(), 7, Rows::of_total(SMALL), &silent).unwrap();
    for dataset in DATASETS {
        assert_eq!(read(dir.path(), dataset), sample()[dataset], "{dataset} differs between two runs of a seed");
    }
    let other = TempDir::new().unwrap();
    generate(other.path(), 8, Rows::of_total(SMALL), &silent).unwrap();
    for dataset in TRIPS.into_iter().chain(["bazaar.orders"]) {
        let (other, ours) = (read(other.path(), dataset), &sample()[dataset]);
        let amount = if dataset == "bazaar.orders" { "amount" } else { "fare" };
        for column in ["citizen_id", amount] {
            assert_ne!(&other[column], &ours[column], "{dataset}.{column} does not depend on the seed");
        }
    }
    assert_eq!(read(other.path(), "city.districts"), sample()["city.districts"]);
}

#[test]
fn the_files_have_the_rows_and_bytes_that_the_manifest_says() {
    let dir = TempDir::new().unwrap();
    let rows = Rows::of_total(SMALL);
    let manifest = generate(dir.path(), 7, rows, &silent).unwrap();
    assert!(manifest.complete && !manifest.kept);
    let names: BTreeSet<&str> = manifest.files.iter().map(|file| file.dataset.as_str()).collect();
    assert_eq!(names, BTreeSet::from(DATASETS));
    for file in &manifest.files {
        assert_eq!(read(dir.path(), &file.dataset).num_rows() as u64, file.rows);
        assert_eq!(fs::metadata(dir.path().join(&file.path)).unwrap().len(), file.bytes);
    }
    assert_eq!(manifest.files.iter().map(|file| file.rows).sum::<u64>(), SMALL);
    assert_eq!(sample()["velo.trips"].num_rows() as u64, rows.velo);
    // Nothing half-written stays behind.
    let left_over = walk(dir.path()).into_iter().filter(|name| name.contains("partial")).collect::<Vec<_>>();
    assert!(left_over.is_empty(), "{left_over:?}");
}

fn walk(dir: &Path) -> Vec<String> {
    fs::read_dir(dir)
        .unwrap()
        .flat_map(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path) } else { vec![path.display().to_string()] }
        })
        .collect()
}

#[test]
fn whole_data_of_the_same_seed_and_size_is_kept_and_other_data_replaced() {
    let dir = TempDir::new().unwrap();
    let rows = Rows::of_total(2_000);
    let first = generate(dir.path(), 1, rows, &silent).unwrap();
    let velo = dir.path().join("data/velo/trips.parquet");
    let before = fs::metadata(&velo).unwrap().modified().unwrap();

    let again = generate(dir.path(), 1, rows, &|_, _, _| panic!("nothing should be made")).unwrap();
    assert!(again.kept);
    assert_eq!(Manifest { kept: false, ..again }, first);
    assert_eq!(fs::metadata(&velo).unwrap().modified().unwrap(), before);

    // A file that lost its end, a manifest of a run that was cut short, another seed, another size: made again.
    let whole = fs::read(&velo).unwrap();
    fs::write(&velo, &whole[..whole.len() - 1]).unwrap();
    assert!(!generate(dir.path(), 1, rows, &silent).unwrap().kept);
    assert_eq!(fs::read(&velo).unwrap(), whole);

    Manifest { complete: false, ..first }.write(dir.path()).unwrap();
    assert!(!generate(dir.path(), 1, rows, &silent).unwrap().kept);
    assert!(!generate(dir.path(), 2, rows, &silent).unwrap().kept);
    assert_ne!(fs::read(&velo).unwrap(), whole);
    assert!(!generate(dir.path(), 2, Rows::of_total(2_001), &silent).unwrap().kept);
}

#[test]
fn parquet_that_is_not_ours_is_never_written_over() {
    let dir = TempDir::new().unwrap();
    let theirs = dir.path().join("data/bazaar/orders.parquet");
    fs::create_dir_all(theirs.parent().unwrap()).unwrap();
    fs::write(&theirs, b"somebody's work").unwrap();
    let error = generate(dir.path(), 1, Rows::of_total(2_000), &silent).unwrap_err();
    assert!(matches!(&error, DemoError::Occupied { path } if *path == theirs), "{error}");
    assert_eq!(fs::read(&theirs).unwrap(), b"somebody's work");

    let dir = TempDir::new().unwrap();
    fs::create_dir_all(dir.path().join("data")).unwrap();
    fs::write(dir.path().join("data/demo.json"), b"{").unwrap();
    let error = generate(dir.path(), 1, Rows::of_total(2_000), &silent).unwrap_err();
    assert!(matches!(error, DemoError::Manifest { .. }), "{error}");
}

#[test]
fn a_table_that_fails_leaves_no_complete_manifest_and_names_the_cause() {
    let dir = TempDir::new().unwrap();
    fs::create_dir_all(dir.path().join("data")).unwrap();
    // A file where a company's folder should be.
    fs::write(dir.path().join("data/hopin"), b"").unwrap();
    let error = generate(dir.path(), 1, Rows::of_total(400_000), &silent).unwrap_err();
    assert!(matches!(&error, DemoError::Io { path, .. } if path.ends_with("hopin")), "{error}");
    assert!(!Manifest::read(dir.path()).unwrap().unwrap().complete);
    assert!(walk(dir.path()).iter().all(|name| !name.contains("partial")));
    // Once the obstacle is gone, the files that were finished are ours to replace.
    fs::remove_file(dir.path().join("data/hopin")).unwrap();
    assert!(generate(dir.path(), 1, Rows::of_total(2_000), &silent).unwrap().complete);
}

#[test]
fn progress_ascends_to_all_rows_of_every_table() {
    let dir = TempDir::new().unwrap();
    let seen: RefCell<HashMap<String, (u64, u64)>> = RefCell::default();
    let progress = |dataset: &str, done: u64, rows: u64| {
        let before = seen.borrow_mut().insert(dataset.to_owned(), (done, rows));
        assert!(before.is_none_or(|(earlier, all)| earlier < done && all == rows));
    };
    // Velo's part is more than one batch, and not a whole number of them.
    let manifest = generate(dir.path(), 3, Rows { velo: 140_000, hopin: 9, metrocab: 1, bazaar: 70_000 }, &progress);
    for file in manifest.unwrap().files {
        assert_eq!(seen.borrow()[&file.dataset], (file.rows, file.rows));
        assert_eq!(read(dir.path(), &file.dataset).num_rows() as u64, file.rows);
    }
}

#[test]
fn companies_without_rows_have_empty_files() {
    let dir = TempDir::new().unwrap();
    generate(dir.path(), 3, Rows { velo: 0, hopin: 1, metrocab: 0, bazaar: 0 }, &silent).unwrap();
    let path = dir.path().join("data/velo/trips.parquet");
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    assert_eq!(builder.metadata().file_metadata().num_rows(), 0);
    assert_eq!(builder.schema().fields(), sample()["velo.trips"].schema().fields());
}

#[test]
fn the_companies_of_a_collection_have_one_schema() {
    let schema = sample()["velo.trips"].schema();
    let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let expected = "trip_id citizen_id started_at started_on hour pickup_district dropoff_district distance_km \
                    duration_min fare tip payment vehicle rating driver_id";
    assert_eq!(columns.join(" "), expected);
    for dataset in TRIPS {
        assert_eq!(sample()[dataset].schema().fields(), schema.fields(), "{dataset}");
    }
    let nullable: Vec<&str> =
        schema.fields().iter().filter(|field| field.is_nullable()).map(|field| field.name().as_str()).collect();
    assert_eq!(nullable, ["tip", "rating"]);
}

#[test]
fn activity_is_skewed_and_no_customer_is_absurd() {
    for dataset in TRIPS.into_iter().chain(["bazaar.orders"]) {
        let batch = &sample()[dataset];
        let mut counts: HashMap<i64, usize> = HashMap::new();
        for citizen in i64s(batch, "citizen_id") {
            *counts.entry(*citizen).or_default() += 1;
        }
        let mut counts: Vec<usize> = counts.into_values().collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let top: usize = counts[..counts.len() / 100].iter().sum();
        let share = top as f64 / batch.num_rows() as f64;
        // Were everybody equally active, the top hundredth would have some 2 % of the rows.
        assert!((0.12..0.50).contains(&share), "the top 1 % of {dataset} have {share}");
        assert!(counts[0] < batch.num_rows() / 20, "one customer has {} of {dataset}", counts[0]);
    }
}

#[test]
fn customers_overlap_and_the_busy_ones_are_busy_with_several() {
    let customers =
        |dataset: &str| -> HashSet<i64> { i64s(&sample()[dataset], "citizen_id").iter().copied().collect() };
    let (velo, hopin) = (customers("velo.trips"), customers("hopin.trips"));
    let both = velo.intersection(&hopin).count() as f64;
    assert!(both > 0.3 * hopin.len() as f64, "{both} of {} customers of hopin ride with velo too", hopin.len());
    assert!(both < 0.95 * hopin.len() as f64, "nearly all customers of hopin ride with velo too");

    // Velo's top tenth takes 0.17 to 0.24 of hopin's trips over a dozen seeds, and 0.04 to 0.10 when the rankings of the
    // two companies are made independent of each other.
    let mut counts: HashMap<i64, usize> = HashMap::new();
    for citizen in i64s(&sample()["velo.trips"], "citizen_id") {
        *counts.entry(*citizen).or_default() += 1;
    }
    let mut ranked: Vec<(usize, i64)> = counts.into_iter().map(|(citizen, count)| (count, citizen)).collect();
    ranked.sort_unstable_by(|a, b| b.cmp(a));
    let top: HashSet<i64> = ranked[..ranked.len() / 10].iter().map(|(_, citizen)| *citizen).collect();
    let hopin = i64s(&sample()["hopin.trips"], "citizen_id");
    let share = hopin.iter().filter(|citizen| top.contains(citizen)).count() as f64 / hopin.len() as f64;
    assert!(share > 0.13, "velo's top tenth takes {share} of hopin's trips");
}

#[test]
fn trips_are_plausible() {
    for dataset in TRIPS {
        let batch = &sample()[dataset];
        let (fare, distance) = (f64s(batch, "fare").values(), f64s(batch, "distance_km").values());
        let duration = f64s(batch, "duration_min").values();
        assert!(fare.iter().all(|fare| (3.0..400.0).contains(fare)));
        assert!(distance.iter().all(|km| (0.3..70.0).contains(km)));
        assert!(duration.iter().all(|minutes| (2.0..400.0).contains(minutes)));
        assert!((5.0..25.0).contains(&median(fare)), "{dataset}: median fare {}", median(fare));
        assert!((3.0..12.0).contains(&median(distance)), "{dataset}: median distance {}", median(distance));
        assert!((8.0..35.0).contains(&median(duration)), "{dataset}: median duration {}", median(duration));
        // The logarithm of a log-normal amount is symmetric, so the mean lies above the median.
        assert!(fare.iter().sum::<f64>() / fare.len() as f64 > 1.08 * median(fare));
        assert!(correlation(distance, fare) > 0.6, "{dataset}: fares do not follow distances");
        let beyond = fare.iter().filter(|fare| **fare > 120.0).count() as f64 / fare.len() as f64;
        assert!(beyond < 0.005, "{dataset}: {beyond} of the fares are beyond the policy's bound");
        for column in ["pickup_district", "dropoff_district"] {
            let seen: BTreeSet<i32> = i32s(batch, column).values().iter().copied().collect();
            assert_eq!(seen, (1..=40).collect(), "{dataset}.{column}");
        }
        let ids = i64s(batch, "trip_id").iter().copied();
        assert!(ids.eq(1..=batch.num_rows() as i64));
        assert!(i64s(batch, "driver_id").iter().all(|driver| *driver >= 1));
    }
}

#[test]
fn a_cash_tip_is_null_and_ratings_are_one_to_five() {
    for dataset in TRIPS {
        let batch = &sample()[dataset];
        let (tip, payment) = (f64s(batch, "tip"), batch["payment"].as_string::<i32>());
        for row in 0..batch.num_rows() {
            assert_eq!(tip.is_null(row), payment.value(row) == "cash");
        }
        assert!(tip.null_count() > 0);
        assert!(tip.iter().flatten().all(|tip| (0.0..150.0).contains(&tip)));
        assert!(tip.iter().flatten().any(|tip| tip > 0.0));
        let rating = i32s(batch, "rating");
        assert!(rating.null_count() > 0);
        assert_eq!(rating.iter().flatten().collect::<BTreeSet<_>>(), (1..=5).collect());
    }
}

#[test]
fn time_is_ordered_consistent_and_has_a_rhythm() {
    for dataset in TRIPS {
        let batch = &sample()[dataset];
        let started = batch["started_at"].as_primitive::<TimestampMicrosecondType>();
        let on = batch["started_on"].as_primitive::<Date32Type>();
        let hour = i32s(batch, "hour");
        assert!(started.values().is_sorted());
        let mut weekday_hours = [0_u32; 24];
        for row in 0..batch.num_rows() {
            let time = started.value_as_datetime(row).unwrap();
            let day = time.format("%Y").to_string();
            assert_eq!(day, "2025");
            assert_eq!(Some(time.date()), on.value_as_date(row));
            assert_eq!(time.format("%-H").to_string(), hour.value(row).to_string());
            if !matches!(time.format("%a").to_string().as_str(), "Sat" | "Sun") {
                weekday_hours[hour.value(row) as usize] += 1;
            }
        }
        assert!(weekday_hours[8] > 5 * weekday_hours[3], "{dataset} has no morning: {weekday_hours:?}");
        assert!(weekday_hours[18] > weekday_hours[13], "{dataset} has no evening: {weekday_hours:?}");
    }
    let half = |dataset: &str| {
        let on = sample()[dataset]["started_on"].as_primitive::<Date32Type>().values().to_vec();
        on.iter().filter(|day| **day >= calendar::FIRST_DAY + 181).count() as f64 / on.len() as f64
    };
    assert!(half("hopin.trips") > half("metrocab.trips") + 0.05, "the challenger does not grow");
}

#[test]
fn orders_are_plausible() {
    let batch = &sample()["bazaar.orders"];
    let (amount, discount) = (f64s(batch, "amount").values(), f64s(batch, "discount").values());
    assert!(amount.iter().all(|amount| (0.2..20_000.0).contains(amount)));
    assert!(discount.iter().all(|discount| *discount >= 0.0));
    assert!((15.0..60.0).contains(&median(amount)), "median amount {}", median(amount));
    assert!(amount.iter().sum::<f64>() / amount.len() as f64 > 1.3 * median(amount));
    assert!(amount.iter().filter(|amount| **amount > 1500.0).count() < amount.len() / 200);
    assert_eq!(i32s(batch, "items").values().iter().copied().collect::<BTreeSet<_>>(), (1..=6).collect());
    let returned = batch["returned"].as_boolean().true_count() as f64 / batch.num_rows() as f64;
    assert!((0.03..0.20).contains(&returned), "{returned} are sent back");
}

#[test]
fn districts_are_forty_in_five_boroughs() {
    let batch = &sample()["city.districts"];
    assert!(i32s(batch, "district").values().iter().copied().eq(1..=40));
    assert_eq!(strings(batch, "name").len(), 40);
    assert_eq!(strings(batch, "borough").len(), 5);
    assert!(f64s(batch, "median_income").values().iter().all(|income| (20_000.0..120_000.0).contains(income)));
    // More people live in the city than the companies' citizens.
    assert!(i64s(batch, "population").iter().sum::<i64>() > 1_000_000);
}

/// The keys that a policy lists for a column, as text.
fn listed(column: &toml::Value) -> Option<BTreeSet<String>> {
    let text = |value: &toml::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match column.get("public_groups")? {
        toml::Value::Array(keys) => Some(keys.iter().map(text).collect()),
        range => {
            let end = |name: &str| range[name].as_integer().unwrap();
            Some((end("from")..=end("to")).map(|key| key.to_string()).collect())
        }
    }
}

#[test]
fn policies_fit_the_data_that_they_are_for() {
    for dataset in DATASETS {
        let policy = policy(&format!("{dataset}.toml"));
        let section = &policy["dataset"];
        let name = format!("{}.{}", section["owner"].as_str().unwrap(), section["name"].as_str().unwrap());
        assert_eq!(name, dataset);
        assert_eq!(section["location"].as_str().unwrap(), format!("../data/{}.parquet", dataset.replace('.', "/")));
        let batch = &sample()[dataset];
        if dataset == "city.districts" {
            assert_eq!(section["kind"].as_str(), Some("public"));
            assert!(!policy.contains_key("privacy") && !policy.contains_key("budget"));
            continue;
        }
        assert!(batch.column_by_name(policy["privacy"]["unit"].as_str().unwrap()).is_some());
        assert_eq!(policy["privacy"]["unit_domain"].as_str(), Some("citizen"));
        for (name, column) in policy["columns"].as_table().unwrap() {
            let values = batch.column_by_name(name).unwrap_or_else(|| panic!("{dataset} has no column {name}"));
            if let Some(listed) = listed(column) {
                let rendered = arrow::compute::cast(values, &arrow::datatypes::DataType::Utf8).unwrap();
                let seen: BTreeSet<String> = rendered.as_string::<i32>().iter().flatten().map(str::to_owned).collect();
                assert!(seen.is_subset(&listed), "{dataset}.{name} has {seen:?}, its policy lists {listed:?}");
            }
            if let Some(bounds) = column.get("bounds") {
                assert!(values.data_type().is_numeric());
                assert!(bounds[0].as_integer().unwrap() < bounds[1].as_integer().unwrap());
            }
        }
        let denied = if dataset == "bazaar.orders" { vec!["order_id"] } else { vec!["trip_id", "driver_id"] };
        for column in denied {
            assert_eq!(policy["columns"][column]["access"].as_str(), Some("deny"), "{dataset}.{column}");
        }
    }
    assert_eq!(policy("bazaar.orders.toml")["privacy"]["accounting"].as_str(), Some("pure"));
    let members = policy("rides.trips.toml")["collection"]["members"].as_array().unwrap().clone();
    assert_eq!(members.iter().map(|member| member.as_str().unwrap()).collect::<Vec<_>>(), TRIPS);
}

#[test]
fn policies_that_somebody_changed_are_kept() {
    let dir = TempDir::new().unwrap();
    let states = |files: Vec<PolicyFile>| files.into_iter().map(|file| file.state).collect::<Vec<_>>();
    assert_eq!(states(write_policies(dir.path()).unwrap()), [PolicyState::Written; 6]);
    assert_eq!(states(write_policies(dir.path()).unwrap()), [PolicyState::Unchanged; 6]);

    let hopin = dir.path().join("policies/hopin.trips.toml");
    fs::write(&hopin, "# mine now\n").unwrap();
    fs::remove_file(dir.path().join("policies/velo.trips.toml")).unwrap();
    let files = write_policies(dir.path()).unwrap();
    for file in &files {
        let expected = match file.path.file_name().unwrap().to_str().unwrap() {
            "hopin.trips.toml" => PolicyState::KeptChanged,
            "velo.trips.toml" => PolicyState::Written,
            _ => PolicyState::Unchanged,
        };
        assert_eq!(file.state, expected, "{}", file.path.display());
    }
    assert_eq!(fs::read_to_string(&hopin).unwrap(), "# mine now\n");
}

#[test]
fn queries_keep_to_the_policies_of_what_they_read() {
    for query in QUERIES {
        let read: Vec<&str> = DATASETS.into_iter().filter(|dataset| query.sql.contains(dataset)).collect();
        assert!(!read.is_empty() || query.sql.contains("rides.trips"), "{} reads nothing", query.title);
        let members = if query.sql.contains("rides.trips") { TRIPS.to_vec() } else { Vec::new() };
        for dataset in read.into_iter().chain(members).filter(|dataset| *dataset != "city.districts") {
            let policy = policy(&format!("{dataset}.toml"));
            let most = policy["budget"]["max_query"]["epsilon"].as_float().unwrap();
            assert!(query.epsilon > 0.0 && query.epsilon <= most, "{}", query.title);
            let purposes = policy["dataset"]["purposes"].as_array().unwrap();
            let named = purposes.iter().any(|purpose| purpose.as_str() == query.purpose);
            assert!(purposes.is_empty() || named, "{} must name a purpose of {dataset}", query.title);
            for (column, rule) in policy["columns"].as_table().unwrap() {
                let denied = rule.get("access").and_then(toml::Value::as_str) == Some("deny");
                assert!(!(denied && query.sql.contains(column.as_str())), "{} reads {column}", query.title);
            }
        }
    }
}
