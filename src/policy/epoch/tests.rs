use std::path::Path;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use chrono::NaiveDate;
use proptest::prelude::*;

use super::{EpochKind, Epochs, KNOWN_DAYS};
use crate::policy::{DatasetPolicy, PolicyFile, check_against_schema, parse};

fn day(year: i32, month: u32, day: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(year, month, day).unwrap()
}

fn days(date: NaiveDate) -> i64 {
    date.signed_duration_since(day(1970, 1, 1)).num_days()
}

#[test]
fn epochs_are_those_of_the_calendar() {
    for (kind, date, label, first) in [
        (EpochKind::Month, day(2013, 1, 1), "2013-01", day(2013, 1, 1)),
        (EpochKind::Month, day(2012, 2, 29), "2012-02", day(2012, 2, 1)),
        (EpochKind::Month, day(1969, 12, 31), "1969-12", day(1969, 12, 1)),
        (EpochKind::Quarter, day(2013, 3, 31), "2013-Q1", day(2013, 1, 1)),
        (EpochKind::Quarter, day(2013, 4, 1), "2013-Q2", day(2013, 4, 1)),
        (EpochKind::Quarter, day(1900, 12, 31), "1900-Q4", day(1900, 10, 1)),
        (EpochKind::Year, day(2026, 12, 31), "2026", day(2026, 1, 1)),
    ] {
        let number = kind.of_date(date);
        assert_eq!((kind.label(number).as_str(), kind.first_day(number)), (label, Some(first)), "{date}");
        assert_eq!(kind.of_day(days(date)), Some(number), "{date}");
    }
}

#[test]
fn a_day_out_of_the_calendar_has_no_epoch() {
    for days in [i64::MIN, i64::from(i32::MIN), i64::from(i32::MAX), i64::MAX] {
        assert_eq!(EpochKind::Month.of_day(days), None, "{days}");
    }
    assert_eq!(EpochKind::Month.first_day(i32::MAX), None);
    assert_eq!(EpochKind::Year.first_day(i32::MIN), None);
}

#[test]
fn known_days_are_those_of_two_centuries() {
    assert_eq!(days(day(1900, 1, 1))..days(day(2100, 1, 1)), KNOWN_DAYS);
    for kind in EpochKind::ALL {
        let known = kind.of_known_days().iter().map(|number| Some(*number));
        assert!(known.eq(KNOWN_DAYS.map(|day| kind.of_day(day))), "{kind}");
    }
}

#[test]
fn the_last_epoch_is_the_one_of_the_day() {
    let epochs = Epochs { kind: EpochKind::Month, column: "d".to_owned(), from: day(2013, 1, 1) };
    let labels = |today| epochs.until(today).map(|number| epochs.kind.label(number)).collect::<Vec<_>>();
    assert_eq!(labels(day(2013, 3, 1)), ["2013-01", "2013-02", "2013-03"]);
    assert_eq!(labels(day(2013, 1, 31)), ["2013-01"]);
    assert!(labels(day(2012, 12, 31)).is_empty());
}

proptest! {
    /// Days rise, and so do their epochs: each is from its first day to the day before the next one's.
    #[test]
    fn an_epoch_holds_the_days_between_two_first_days(days in -100_000i64..200_000) {
        for kind in EpochKind::ALL {
            let number = kind.of_day(days).unwrap();
            let (first, next) = (kind.first_day(number).unwrap(), kind.first_day(number + 1).unwrap());
            prop_assert!(super::tests::days(first) <= days && days < super::tests::days(next), "{kind} {days}");
        }
    }
}

fn read(keys: &str) -> Result<DatasetPolicy, String> {
    let text = format!(
        "[dataset]\nowner = \"a\"\nname = \"b\"\nlocation = \"x.parquet\"\n[privacy]\nunit = \"id\"\n\
         unit_domain = \"person\"\nmax_groups_per_unit = 2\nmax_rows_per_unit_per_group = 3\n{keys}\n\
         [budget]\nper_consumer = {{ epsilon = 4, delta = 1e-6, per = \"month\" }}\n\
         all_consumers = {{ epsilon = 20, delta = 1e-5, per = \"lifetime\" }}\n\
         default_query = {{ epsilon = 0.2 }}\nmax_query = {{ epsilon = 1 }}\n"
    );
    match parse(Path::new("a.b.toml"), &text) {
        Ok(PolicyFile::Private(policy)) => Ok(policy),
        Ok(other) => panic!("not a private dataset: {other:?}"),
        Err(errors) => Err(errors.to_string()),
    }
}

#[test]
fn a_policy_declares_epochs_with_all_three_keys_or_with_none() {
    assert_eq!(read("").unwrap().privacy.epochs, None);
    let declared = read("epoch = \"quarter\"\nepoch_column = \"day\"\nepoch_from = 2013-04-01").unwrap().privacy;
    let expected = Epochs { kind: EpochKind::Quarter, column: "day".to_owned(), from: day(2013, 4, 1) };
    assert_eq!(declared.epochs, Some(expected));
    for (keys, expected) in [
        (
            "epoch_column = \"day\"",
            "10:1: privacy.epoch_column: means nothing without epochs: add `epoch = \"month\"` (or \"quarter\", \"year\"), or remove it",
        ),
        (
            "epoch = \"month\"\nepoch_from = 2013-01-01",
            "5:2: privacy.epoch_column: missing: add `epoch_column = \"order_date\"`",
        ),
        (
            "epoch = \"month\"\nepoch_column = \"day\"",
            "5:2: privacy.epoch_from: missing: add `epoch_from = 2024-01-01`",
        ),
        (
            "epoch = \"week\"\nepoch_column = \"day\"\nepoch_from = 2013-01-01",
            "10:9: privacy.epoch: must be \"month\", \"quarter\" or \"year\", not \"week\"",
        ),
        (
            "epoch = \"quarter\"\nepoch_column = \"day\"\nepoch_from = 2013-02-01",
            "12:14: privacy.epoch_from: must be the first day of a quarter, not 2013-02-01: write 2013-01-01",
        ),
        (
            "epoch = \"month\"\nepoch_column = \"day\"\nepoch_from = 1899-12-01",
            "12:14: privacy.epoch_from: must lie from 1900 to 2199, not 1899-12-01",
        ),
    ] {
        assert_eq!(read(keys).unwrap_err(), format!("a.b.toml:{expected}"));
    }
}

#[test]
fn epochs_are_cut_by_a_time_in_utc() {
    let of_type = |data_type: DataType| {
        let policy = read("epoch = \"month\"\nepoch_column = \"day\"\nepoch_from = 2013-01-01").unwrap();
        let fields = vec![Field::new("id", DataType::Int64, false), Field::new("day", data_type, true)];
        check_against_schema(&policy, &Schema::new(fields)).map(|_| ()).map_err(|errors| errors.to_string())
    };
    for fine in [
        DataType::Date32,
        DataType::Date64,
        DataType::Timestamp(TimeUnit::Second, None),
        DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
    ] {
        assert_eq!(of_type(fine.clone()), Ok(()), "{fine}");
    }
    for (wrong, shown) in [
        (DataType::Utf8, "Utf8"),
        (DataType::Int64, "Int64"),
        (DataType::Timestamp(TimeUnit::Second, Some("Europe/Zurich".into())), "Timestamp(s, \"Europe/Zurich\")"),
    ] {
        let expected = format!(
            "a.b.toml:11:1: privacy.epoch_column: `day` is of type {shown}; epochs are cut by a date, or by a timestamp without zone or in \"UTC\""
        );
        assert_eq!(of_type(wrong), Err(expected));
    }
}

#[test]
fn the_guarantee_is_said_in_words() {
    let words = |keys: &str| read(keys).unwrap().privacy.guarantee();
    assert_eq!(words(""), "user-level differential privacy, per person: all rows of one person together are protected");
    assert_eq!(
        words("epoch = \"month\"\nepoch_column = \"day\"\nepoch_from = 2013-01-01"),
        "user-level differential privacy, per person and month: all rows of one person in one month together are protected; \
         over several months of one person the promise is weaker"
    );
}
