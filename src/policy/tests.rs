mod live;
mod price;

use std::fs;
use std::path::Path;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use chrono::{NaiveDate, TimeZone, Utc};

use super::{
    Accounting, Bounds, BoundsError, Consumers, DatasetName, DatasetPolicy, Fault, Key, Number, ObjectAddress, Period,
    PolicyFile, PublicGroups, Use, Uses, advise, check_against_schema, draft, load_dir, nearest, parse,
};
use crate::accounting::Delta;

/// The policy `owner.name` over `location`, with `extra` at its end.
fn text(owner: &str, name: &str, location: &str, extra: &str) -> String {
    format!(
        r#"[dataset]
owner = "{owner}"
name = "{name}"
location = "{location}"
[privacy]
unit = "id"
unit_domain = "person"
max_groups_per_unit = 2
max_rows_per_unit_per_group = 3
[budget]
per_consumer = {{ epsilon = 4, delta = 1e-6, per = "month" }}
all_consumers = {{ epsilon = 20, delta = 1e-5, per = "lifetime" }}
default_query = {{ epsilon = 0.2 }}
max_query = {{ epsilon = 1 }}
{extra}
"#
    )
}

fn private(text: &str) -> DatasetPolicy {
    match parse(Path::new("dir/a.b.toml"), text) {
        Ok(PolicyFile::Private(policy)) => policy,
        other => panic!("not a private dataset: {other:?}"),
    }
}

fn simple(extra: &str) -> DatasetPolicy {
    private(&text("a", "b", "x.parquet", extra))
}

fn schema(fields: &[(&str, DataType)]) -> Schema {
    Schema::new(fields.iter().map(|(name, ty)| Field::new(*name, ty.clone(), true)).collect::<Vec<_>>())
}

#[test]
fn defaults_are_those_of_the_reference() {
    let policy = simple("");
    assert_eq!(policy.location, "dir/x.parquet");
    assert_eq!(policy.privacy.min_group_size, 1);
    assert_eq!(policy.privacy.accounting, Accounting::Zcdp);
    assert_eq!(policy.privacy.max_rows_per_unit, None);
    assert!(!policy.privacy.sorted_by_unit);
    assert_eq!(policy.consumers, Consumers::Any);
    assert_eq!(policy.budget.query_delta, Delta::floor_from(1e-9).unwrap());
    assert!(policy.budget.auto_grant);
    assert!(policy.purposes.is_empty() && policy.allows_purpose(None));
    assert_eq!(policy.column("anything").uses, Uses::ANY);
}

#[test]
fn locations_are_relative_to_the_file_unless_they_are_absolute() {
    for (written, resolved) in
        [("x/", "dir/x/"), ("../x/*.parquet", "dir/../x/*.parquet"), ("/x", "/x"), ("s3://b/x/", "s3://b/x/")]
    {
        assert_eq!(private(&text("a", "b", written, "")).location, resolved);
    }
}

#[test]
fn pure_accounting_may_do_without_delta() {
    let pure = text("a", "b", "x", "")
        .replace("[privacy]", "[privacy]\naccounting = \"pure\"\nmin_group_size = 5")
        .replace(", delta = 1e-6", "")
        .replace("delta = 1e-5", "delta = 0");
    let policy = private(&pure);
    assert_eq!((policy.budget.per_consumer.delta, policy.budget.query_delta), (Delta::ZERO, Delta::ZERO));
    let advice: Vec<_> = advise(&policy).iter().map(ToString::to_string).collect();
    assert_eq!(
        advice,
        [
            "dir/a.b.toml:7:1: privacy.min_group_size: every query will be refused: a min_group_size above 1 costs delta, and per_consumer has none; set min_group_size = 1 or give a delta"
        ]
    );
}

#[test]
fn access_is_a_word_or_a_list() {
    for (written, aggregate, group, filter) in [
        ("\"aggregate\"", true, true, true),
        ("\"group\"", false, true, false),
        ("\"filter\"", false, false, true),
        ("\"deny\"", false, false, false),
        ("[\"aggregate\"]", true, false, false),
        ("[\"filter\", \"aggregate\"]", true, false, true),
    ] {
        let uses = simple(&format!("[columns.c]\naccess = {written}")).column("c").uses;
        let found = (uses.allows(Use::Aggregate), uses.allows(Use::Group), uses.allows(Use::Filter));
        assert_eq!(found, (aggregate, group, filter), "{written}");
    }
}

#[test]
fn public_groups_are_lists_and_ranges() {
    let groups = |written: &str| {
        simple(&format!("[columns.c]\npublic_groups = {written}")).column("c").public_groups.clone().unwrap()
    };
    let day = |day| NaiveDate::from_ymd_opt(2024, 2, day).unwrap();
    assert_eq!(groups("[3, 1]").keys().collect::<Vec<_>>(), [Key::Int(3), Key::Int(1)]);
    assert_eq!(groups("[true, false]").keys().collect::<Vec<_>>(), [Key::Bool(true), Key::Bool(false)]);
    assert_eq!(groups("[2024-02-01]").keys().collect::<Vec<_>>(), [Key::Date(day(1))]);
    assert_eq!(groups("{ from = -1, to = 1 }").keys().collect::<Vec<_>>(), [Key::Int(-1), Key::Int(0), Key::Int(1)]);
    let february = groups("{ from = 2024-02-01, to = 2024-02-29 }");
    assert_eq!(february, PublicGroups::DateRange { from: day(1), to: day(29) });
    assert_eq!((february.key_count(), february.keys().count()), (29, 29));
}

#[test]
fn bounds_hold_what_they_promise() {
    use Number::{Float, Int};
    assert_eq!(Bounds::new(Int(i64::MAX - 1), Int(i64::MAX)).map(|bounds| bounds.lo()), Ok(Int(i64::MAX - 1)));
    assert_eq!(Bounds::new(Float(-0.0), Float(0.0)), Err(BoundsError::Single));
    assert_eq!(Bounds::new(Int(0), Float(-0.5)), Err(BoundsError::Reversed));
    assert_eq!(Bounds::new(Float(f64::NAN), Int(1)), Err(BoundsError::NotFinite));
    assert_eq!(Bounds::new(Float(f64::MIN), Float(f64::MAX)), Err(BoundsError::TooWide));
}

#[test]
fn a_version_is_of_what_is_said_and_not_of_how() {
    let plain = simple("[columns.c]\nbounds = [0, 1]\naccess = \"group\"");
    let typed_otherwise = simple("# why\n[columns]\nc = { access = 'group',   bounds = [0, 1] }");
    assert_eq!(plain.version, typed_otherwise.version);
    assert_eq!(plain.version.len(), 64);
    assert_ne!(plain.version, simple("[columns.c]\nbounds = [0, 2]\naccess = \"group\"").version);
}

#[test]
fn periods_are_those_of_the_calendar() {
    let window =
        |period: Period, month, day| period.window(Utc.with_ymd_and_hms(2026, month, day, 23, 59, 59).unwrap());
    assert_eq!(window(Period::Month, 11, 30), "2026-11");
    assert_eq!(window(Period::Quarter, 12, 31), "2026-Q4");
    assert_eq!(window(Period::Quarter, 3, 31), "2026-Q1");
    assert_eq!(window(Period::Quarter, 4, 1), "2026-Q2");
    assert_eq!(window(Period::Year, 1, 1), "2026");
    assert_eq!(window(Period::Lifetime, 1, 1), "lifetime");
}

#[test]
fn who_may_ask_why_and_until_when() {
    let policy = private(&text("a", "b", "x", "").replace(
        "[privacy]",
        "purposes = [\"planning\"]\nconsumers = [\"ann\", \"agency-b\"]\nvalid_until = 2027-12-31\n[privacy]",
    ));
    assert!(policy.consumers.allows("ann", None) && policy.consumers.allows("bob", Some("agency-b")));
    assert!(!policy.consumers.allows("bob", Some("agency-c")) && !policy.consumers.allows("bob", None));
    assert!(policy.allows_purpose(Some("planning")));
    assert!(!policy.allows_purpose(Some("marketing")) && !policy.allows_purpose(None));
    let last = NaiveDate::from_ymd_opt(2027, 12, 31).unwrap();
    assert!(policy.is_valid_on(last) && !policy.is_valid_on(last.succ_opt().unwrap()));
}

#[test]
fn names_are_lower_case_identifiers() {
    for good in ["united.flights", "_a.b_2"] {
        assert_eq!(good.parse::<DatasetName>().unwrap().to_string(), good);
    }
    let long = format!("{}.b", "a".repeat(64));
    for bad in ["flights", "a.b.c", "A.b", "a.1b", "a.", ".b", "a.b;", "pg_catalog.x", "tollgate.x", "é.b", &long] {
        assert!(bad.parse::<DatasetName>().is_err(), "{bad}");
    }
}

#[test]
fn a_suggestion_is_made_only_when_it_is_near() {
    assert_eq!(nearest("min_group_sise", ["unit", "min_group_size"]), Some("min_group_size"));
    assert_eq!(nearest("Fare", ["fares", "fare"]), Some("fare"));
    assert_eq!(nearest("colour", ["unit", "min_group_size"]), None);
}

/// What is said of `extra` (from line 15 on) against a schema of one column of each kind.
fn against_schema(extra: &str) -> String {
    let all = schema(&[
        ("id", DataType::Int64),
        ("n", DataType::Int32),
        ("tiny", DataType::Int8),
        ("x", DataType::Float64),
        ("money", DataType::Decimal128(10, 2)),
        ("s", DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))),
        ("flag", DataType::Boolean),
        ("day", DataType::Date32),
        ("at", DataType::Timestamp(TimeUnit::Microsecond, None)),
    ]);
    match check_against_schema(&simple(extra), &all) {
        Ok(warnings) => warnings.iter().map(|warning| warning.to_string() + "\n").collect(),
        Err(errors) => errors.to_string(),
    }
}

#[test]
fn what_does_not_fit_the_schema_is_refused_at_its_line() {
    for (extra, expected) in [
        ("[columns.moeny]", "15:10: columns.moeny: the data has no column `moeny`; did you mean `money`?"),
        (
            "[columns.s]\nbounds = [0, 1]",
            "16:1: columns.s.bounds: bounds are for numbers, and `s` is of type Dictionary(Int32, Utf8): remove them",
        ),
        (
            "[columns.n]\nbounds = [0.5, 9.5]",
            "16:1: columns.n.bounds: `n` holds integers (Int32): write whole numbers, such as [0, 10]",
        ),
        (
            "[columns.x]\npublic_groups = [1]",
            "16:1: columns.x.public_groups: a column of type Float64 cannot have public groups: only integers, strings, booleans and dates (Date32) can",
        ),
        (
            "[columns.at]\npublic_groups = [2024-01-01]",
            "16:1: columns.at.public_groups: a column of type Timestamp(µs) cannot have public groups: only integers, strings, booleans and dates (Date32) can",
        ),
        (
            "[columns.n]\npublic_groups = [\"1\"]",
            "16:1: columns.n.public_groups: the keys are strings, and `n` is of type Int32: list integers",
        ),
        (
            "[columns.s]\npublic_groups = [1]",
            "16:1: columns.s.public_groups: the keys are integers, and `s` is of type Dictionary(Int32, Utf8): list strings",
        ),
        (
            "[columns.tiny]\npublic_groups = { from = 0, to = 128 }",
            "16:1: columns.tiny.public_groups: 128 does not fit in `tiny`, which is of type Int8: remove it",
        ),
    ] {
        assert_eq!(against_schema(extra), format!("dir/a.b.toml:{expected}"));
    }
}

#[test]
fn what_fits_the_schema_is_accepted_with_advice() {
    let said = against_schema(
        "[columns]\nn.bounds = [0, 10]\nx.bounds = [0, 0.5]\nmoney.bounds = [0, 9]\ntiny = { bounds = [0, 200] }\n\
         s.public_groups = [\"a\"]\nflag.public_groups = [true]\nday.public_groups = [2024-01-01]",
    );
    assert_eq!(
        said,
        "dir/a.b.toml:19:10: columns.tiny.bounds: reaches beyond what Int8 can hold, and the noise follows the bounds: narrow them\n"
    );
    let unbounded = against_schema("[columns.n]\nbounds = [0, 1]\n[columns.tiny]\npublic_groups = [1]\n[columns.x]");
    assert_eq!(
        unbounded,
        "dir/a.b.toml:19:10: columns.x.bounds: has no bounds: it can be counted, but not summed or averaged unless a query clamps it\n\
         dir/a.b.toml:15:2: columns.money.bounds: has no bounds: it can be counted, but not summed or averaged unless a query clamps it\n"
    );
}

#[test]
fn a_unit_must_be_there_and_of_exact_equality() {
    for (ty, fits) in [
        (DataType::Int32, true),
        (DataType::UInt64, true),
        (DataType::Utf8View, true),
        (DataType::FixedSizeBinary(16), true),
        (DataType::Float64, false),
        (DataType::Decimal128(10, 0), false),
        (DataType::Boolean, false),
        (DataType::Date32, false),
    ] {
        assert_eq!(check_against_schema(&simple(""), &schema(&[("id", ty.clone())])).is_ok(), fits, "{ty}");
    }
    let missing = check_against_schema(&simple(""), &schema(&[("Id", DataType::Int32)])).unwrap_err().to_string();
    assert_eq!(missing, "dir/a.b.toml:6:1: privacy.unit: the data has no column `id`; did you mean `Id`?");
}

/// Writes `files` to a folder and loads it: the names declared, or what is said, with the folder as DIR.
fn folder(files: &[(&str, String)]) -> Result<Vec<String>, String> {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    match load_dir(dir.path()) {
        Ok(files) => Ok(files.iter().map(|file| file.name().to_string()).collect()),
        Err(errors) => Err(errors.to_string().replace(dir.path().to_str().unwrap(), "DIR")),
    }
}

fn collection(members: &str) -> String {
    format!("[collection]\nname = \"all.t\"\nmembers = [{members}]\n")
}

#[test]
fn a_folder_is_read_in_the_order_of_its_names() {
    let files = [
        ("b.t.toml", text("b", "t", "b.parquet", "")),
        ("a.t.toml", text("a", "t", "a.parquet", "")),
        ("all.t.toml", collection("\"a.t\", \"b.t\"")),
        ("notes.txt", "not a policy".to_owned()),
        (".#a.t.toml", "an editor's lock".to_owned()),
    ];
    assert_eq!(folder(&files).unwrap(), ["a.t", "all.t", "b.t"]);
    assert_eq!(folder(&[]).unwrap(), Vec::<String>::new());
}

#[test]
fn what_must_hold_between_files_is_checked() {
    let a = || ("a.t.toml", text("a", "t", "a.parquet", ""));
    let other_domain = text("b", "t", "b.parquet", "").replace("person", "firm");
    let public = "[dataset]\nowner = \"p\"\nname = \"t\"\nkind = \"public\"\nlocation = \"a.parquet\"\n".to_owned();
    for (files, expected) in [
        (
            vec![("a.toml", a().1)],
            "DIR/a.toml:3:1: dataset.name: the file must be called `a.t.toml`, after the name that it declares",
        ),
        (
            vec![a(), ("z.toml", text("a", "t", "z.parquet", ""))],
            "DIR/z.toml:3:1: dataset.name: the file must be called `a.t.toml`, after the name that it declares\n\
             DIR/z.toml:3:1: dataset.name: `a.t` is also declared in DIR/a.t.toml: rename one",
        ),
        (
            vec![a(), ("b.t.toml", text("b", "t", "./sub/../a.parquet", ""))],
            "DIR/b.t.toml:4:1: dataset.location: is also the location of `a.t`: data lies under one policy, or its budget would be two",
        ),
        // A public table over private data would be the whole of it, free.
        (
            vec![a(), ("p.t.toml", public.clone())],
            "DIR/p.t.toml:5:1: dataset.location: is also the location of `a.t`: data lies under one policy, or its budget would be two",
        ),
        (
            vec![a(), ("b.t.toml", text("b", "t", ".", ""))],
            "DIR/a.t.toml:4:1: dataset.location: lies within the location of `b.t`: data lies under one policy, or its budget would be two",
        ),
        (
            vec![a(), ("all.t.toml", collection("\"a.t\", \"a.tt\""))],
            "DIR/all.t.toml:3:1: collection.members: no policy here declares `a.tt`; did you mean `a.t`?",
        ),
        (
            vec![("p.t.toml", public), ("all.t.toml", collection("\"p.t\", \"all.t\""))],
            "DIR/all.t.toml:3:1: collection.members: `p.t` is no private dataset: a collection's members are datasets with a policy of their own\n\
             DIR/all.t.toml:3:1: collection.members: `all.t` is no private dataset: a collection's members are datasets with a policy of their own",
        ),
        (
            vec![a(), ("b.t.toml", other_domain), ("all.t.toml", collection("\"a.t\", \"b.t\""))],
            "DIR/all.t.toml:3:1: collection.members: the unit of `b.t` is `id` of domain `firm`, but that of `a.t` is `id` of domain `person`: members of a collection share both",
        ),
        // What is wrong in one file does not make another's members unknown.
        (
            vec![("b.t.toml", "[dataset".to_owned()), ("all.t.toml", collection("\"b.t\""))],
            "DIR/b.t.toml:1:9: not TOML: unclosed table, expected `]`",
        ),
    ] {
        assert_eq!(folder(&files).unwrap_err(), expected);
    }
}

#[test]
fn a_folder_that_is_not_there_is_said_to_be() {
    assert_eq!(load_dir(Path::new("/nowhere")).unwrap_err().to_string(), "/nowhere: cannot be read: entity not found");
}

#[test]
fn a_draft_is_a_policy() {
    let data = schema(&[
        ("trip_id", DataType::Int64),
        ("Customer_ID", DataType::Utf8),
        ("home_address", DataType::Utf8),
        ("odd \"name\"\n", DataType::Utf8),
        ("fare", DataType::Float64),
        ("seats", DataType::Int16),
        ("day", DataType::Date32),
        ("at", DataType::Timestamp(TimeUnit::Microsecond, None)),
        ("paid", DataType::Boolean),
        ("blob", DataType::Binary),
    ]);
    let drafted = draft("data/it's \"here\".parquet", &data, "a", "b");
    let policy = private(&drafted);
    assert_eq!(policy.location, "dir/data/it's \"here\".parquet");
    assert_eq!((policy.privacy.unit.as_str(), policy.privacy.unit_domain.as_str()), ("Customer_ID", "customer"));
    assert!(policy.column("home_address").uses.is_none());
    assert!(check_against_schema(&policy, &data).is_ok());

    // Every proposal is one that may be taken: with its `#` gone and its blanks filled in, the draft is still a policy.
    let filled: String = drafted
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.starts_with("[columns.") || rest.starts_with("bounds = ") => rest.to_owned(),
            Some(rest) if rest.starts_with("access = [") => rest.to_owned(),
            Some(rest) if rest.starts_with("public_groups = ") && !rest.contains("FIRST, ") => rest.to_owned(),
            _ => line.to_owned(),
        } + "\n")
        .collect::<String>()
        .replace("LO, HI", "0, 9")
        .replace("\"KEY\", \"KEY\"", "\"x\", \"y\"")
        .replace("FIRST_DAY", "2024-01-01")
        .replace("LAST_DAY", "2024-12-31");
    let filled = private(&filled);
    // Every column but the unit and the one denied has become a section of its own.
    assert_eq!(filled.columns.len(), data.fields().len());
    assert!(filled.column("fare").bounds.is_some() && filled.column("seats").bounds.is_some());
    check_against_schema(&filled, &data).unwrap_or_else(|errors| panic!("{errors}"));
}

#[test]
fn a_draft_does_not_guess_a_unit_from_a_row_number() {
    let drafted = draft("x", &schema(&[("trip_id", DataType::Int64), ("fare", DataType::Float64)]), "a", "b");
    let said = parse(Path::new("a.b.toml"), &drafted).unwrap_err().to_string();
    assert!(said.contains("privacy.unit: is empty: name the column that identifies who is protected"), "{said}");
}

#[test]
fn the_reference_names_every_key() {
    use super::parse::{BUDGET_KEYS, COLLECTION_KEYS, COLUMN_KEYS, DATASET_KEYS, PRIVACY_KEYS};
    let reference = include_str!("../../docs/policies.md");
    let keys = [&DATASET_KEYS[..], &PRIVACY_KEYS, &BUDGET_KEYS, &COLLECTION_KEYS, &COLUMN_KEYS].concat();
    let missing: Vec<_> = keys.iter().filter(|key| !reference.contains(&format!("| `{key}` |"))).collect();
    assert!(missing.is_empty(), "docs/policies.md says nothing of {missing:?}");
}

#[test]
fn an_address_of_a_store_has_one_spelling_and_holds_no_secret() {
    for (address, bucket, key) in [
        ("s3://b", "b", ""),
        ("s3://b/", "b", ""),
        ("s3://my-bucket.x/a/b/", "my-bucket.x", "a/b/"),
        ("s3://b/a b/c*.parquet", "b", "a b/c*.parquet"),
    ] {
        let read = ObjectAddress::parse(address).unwrap();
        assert_eq!((read.bucket(), read.key()), (bucket, key));
    }
    for address in ["s3://", "s3:///x"] {
        assert_eq!(ObjectAddress::parse(address), Err(Fault::NoBucket), "{address}");
    }
    for address in ["s3://B/x", "s3://-b/x", "s3://a..b/x", "s3://b b/x", "s3://*/x"] {
        assert_eq!(ObjectAddress::parse(address), Err(Fault::BucketName), "{address}");
    }
    for address in
        ["s3://k:secret@b/x", "s3://k@b/x", "s3://b:9000/x", "s3://b/x?secret", "s3://b/x#secret", "s3://%41/x"]
    {
        assert_eq!(ObjectAddress::parse(address), Err(Fault::AddressSecret), "{address}");
        assert!(!Fault::AddressSecret.to_string().contains("secret@"));
    }
    for address in [
        "s3://b//x",
        "s3://b/x//",
        "s3://b/./x",
        "s3://b/../x",
        "s3://b/x/..",
        "s3://b/a\\b",
        "s3://b/%2e%2e/x",
        "s3://b/a\nb",
    ] {
        assert_eq!(ObjectAddress::parse(address), Err(Fault::AddressParts), "{address}");
    }
}
