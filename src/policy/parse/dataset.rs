//! The sections `[dataset]`, `[privacy]` and `[collection]`.

use std::collections::BTreeSet;
use std::path::Path;

use chrono::Datelike;

use super::{BUDGET_KEYS, COLLECTION_KEYS, DATASET_KEYS, HOMES, PRIVACY_KEYS, budget, columns};
use crate::accounting::Accounting;
use crate::policy::address::ObjectAddress;
use crate::policy::epoch::{EpochKind, Epochs};
use crate::policy::error::Fault;
use crate::policy::model::{
    Approval, Collection, Consumers, DatasetPolicy, MAX_CONTRIBUTION, PolicyFile, Privacy, PublicTable,
};
use crate::policy::name::{DatasetName, NameError, check_owner, check_part};
use crate::policy::reader::{Field, Reader, Section};
use crate::policy::source::Source;

/// The largest `min_group_size` and `max_rows_per_unit`: far above any use, and far below any overflow.
const MAX_COUNT: u64 = 1_000_000_000;

/// What `[dataset]` says, for private and public ones.
struct Subject {
    name: DatasetName,
    location: String,
    description: String,
    purposes: BTreeSet<String>,
    valid_until: Option<chrono::NaiveDate>,
    consumers: Consumers,
    approval: Approval,
}

/// A file with a `[dataset]` section.
pub(super) fn dataset(reader: &mut Reader<'_>, root: &Section<'_>, base: &Path) -> Option<PolicyFile> {
    let field = reader.field(root, "dataset")?;
    let section = reader.table(&field, "a section: write [dataset]")?;
    // Read first, because what else may be in the file depends on it.
    let is_public = reader
        .optional(&section, "kind", false, |reader, field| reader.word(field, &[("private", false), ("public", true)]));
    let subject = subject(reader, &section, base);
    if is_public == Some(true) {
        return public_table(reader, root, &section, subject);
    }
    let privacy = privacy(reader, root);
    let accounting = privacy.as_ref().map(|privacy| privacy.accounting);
    let budget = budget::budget(reader, root, accounting);
    let unit = privacy.as_ref().map(|privacy| privacy.unit.as_str());
    let columns = columns::columns(reader, root, unit);
    let (subject, privacy, budget, columns, _) = (subject?, privacy?, budget?, columns?, is_public?);
    Some(PolicyFile::Private(DatasetPolicy {
        name: subject.name,
        version: String::new(),
        location: subject.location,
        description: subject.description,
        purposes: subject.purposes,
        valid_until: subject.valid_until,
        consumers: subject.consumers,
        approval: subject.approval,
        privacy,
        budget,
        columns,
        source: Source::default(),
    }))
}

/// A public table has a name and a place, and nothing to protect.
fn public_table(
    reader: &mut Reader<'_>,
    root: &Section<'_>,
    section: &Section<'_>,
    subject: Option<Subject>,
) -> Option<PolicyFile> {
    for key in ["privacy", "budget", "columns"] {
        reader.refuse_key_of(root, key, Fault::NotForPublic);
    }
    for key in ["purposes", "valid_until", "consumers", "approval"] {
        reader.refuse_key_of(section, key, Fault::NotForPublic);
    }
    let subject = subject?;
    Some(PolicyFile::Public(PublicTable {
        name: subject.name,
        version: String::new(),
        location: subject.location,
        description: subject.description,
        source: Source::default(),
    }))
}

fn subject(reader: &mut Reader<'_>, section: &Section<'_>, base: &Path) -> Option<Subject> {
    reader.refuse_unknown(section, &DATASET_KEYS, &HOMES);
    let owner =
        reader.required(section, "owner", "owner = \"united\"", |reader, field| name_part(reader, field, check_owner));
    let name =
        reader.required(section, "name", "name = \"flights\"", |reader, field| name_part(reader, field, check_part));
    let location = reader.required(section, "location", "location = \"data/flights.parquet\"", |reader, field| {
        location(reader, field, base)
    });
    let description = description(reader, section);
    let purposes = reader.optional(section, "purposes", BTreeSet::new(), |reader, field| {
        texts(reader, field, "a list of purposes, such as [\"statistics\"]", "name the purpose, or leave it out")
    });
    let valid_until = reader.optional(section, "valid_until", None, |reader, field| reader.date(field).map(Some));
    let consumers = reader.optional(section, "consumers", Consumers::Any, consumers);
    let approval = reader.optional(section, "approval", Approval::default(), |reader, field| {
        reader.word(field, &[("auto", Approval::Auto), ("manual", Approval::Manual)])
    });
    Some(Subject {
        name: DatasetName::new(&owner?, &name?).ok()?,
        location: location?,
        description: description?,
        purposes: purposes?,
        valid_until: valid_until?,
        consumers: consumers?,
        approval: approval?,
    })
}

/// One part of a dataset's name.
fn name_part(
    reader: &mut Reader<'_>,
    field: &Field<'_>,
    check: impl FnOnce(&str) -> Result<(), NameError>,
) -> Option<String> {
    let part = reader.string(field, "a name in quotes")?;
    match check(&part) {
        Ok(()) => Some(part),
        Err(mistake) => reader.refuse(field, mistake.into()),
    }
}

/// Where the data lies: relative to the policy file's folder unless it is absolute or an object store's address.
fn location(reader: &mut Reader<'_>, field: &Field<'_>, base: &Path) -> Option<String> {
    let text = reader.text(
        field,
        "a path in quotes",
        "name the file, folder, glob or `s3://bucket/prefix/` address where the Parquet lies",
    )?;
    match text.split_once("://") {
        Some(("s3", _)) => match ObjectAddress::parse(&text) {
            Ok(_) => Some(text),
            Err(fault) => reader.refuse(field, fault),
        },
        Some((scheme, _)) => reader.refuse(field, Fault::Scheme { scheme: scheme.to_owned() }),
        None => Some(base.join(&text).to_string_lossy().into_owned()),
    }
}

fn description(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<String> {
    reader.optional(section, "description", String::new(), |reader, field| reader.string(field, "a text in quotes"))
}

/// A list of texts, none of them blank.
fn texts(
    reader: &mut Reader<'_>,
    field: &Field<'_>,
    expected: &'static str,
    hint: &'static str,
) -> Option<BTreeSet<String>> {
    let items = reader.items(field, expected)?;
    let read: Vec<_> = items.iter().map(|item| reader.text(item, "a text in quotes", hint)).collect();
    read.into_iter().collect()
}

fn consumers(reader: &mut Reader<'_>, field: &Field<'_>) -> Option<Consumers> {
    let names = texts(
        reader,
        field,
        "a list of consumers or agencies, or [\"*\"] for everyone",
        "name the consumer or agency, or leave it out",
    )?;
    if names.is_empty() {
        let hint = "nobody could ask; list who may, or write [\"*\"] for everyone";
        return reader.refuse(field, Fault::Empty { hint });
    }
    match (names.contains("*"), names.len()) {
        (false, _) => Some(Consumers::Listed(names)),
        (true, 1) => Some(Consumers::Any),
        (true, _) => reader.refuse(field, Fault::EveryoneAndSome),
    }
}

fn privacy(reader: &mut Reader<'_>, root: &Section<'_>) -> Option<Privacy> {
    const EXPECTED: &str = "a section: write [privacy]";
    let section = reader.required(root, "privacy", "[privacy]", |reader, field| reader.table(field, EXPECTED))?;
    let section = &section;
    reader.refuse_unknown(section, &PRIVACY_KEYS, &HOMES);
    let unit = reader.required(section, "unit", "unit = \"customer_id\"", |reader, field| {
        reader.text(field, "a column's name in quotes", "name the column that identifies who is protected")
    });
    let unit_domain = reader.required(section, "unit_domain", "unit_domain = \"customer\"", |reader, field| {
        reader.text(field, "a word in quotes", "name the identifier space of the unit's column, such as \"customer\"")
    });
    let min_group_size =
        reader.optional(section, "min_group_size", 1, |reader, field| reader.whole(field, 1, MAX_COUNT));
    let max_groups_per_unit = reader.required(section, "max_groups_per_unit", "max_groups_per_unit = 8", contribution);
    let rows_per_group =
        reader.required(section, "max_rows_per_unit_per_group", "max_rows_per_unit_per_group = 50", contribution);
    let max_rows_per_unit = reader
        .optional(section, "max_rows_per_unit", None, |reader, field| reader.whole(field, 1, MAX_COUNT).map(Some));
    let accounting = reader.optional(section, "accounting", Accounting::default(), |reader, field| {
        reader.word(field, &[("zcdp", Accounting::Zcdp), ("pure", Accounting::Pure)])
    });
    let sorted_by_unit = reader.optional(section, "sorted_by_unit", false, Reader::boolean);
    let epochs = epochs(reader, section);
    if let (Some(in_group), Some(Some(in_all))) = (rows_per_group, max_rows_per_unit)
        && in_all < u64::from(in_group)
    {
        let other = "privacy.max_rows_per_unit_per_group";
        let fault = Fault::Below { found: in_all.to_string(), other, limit: in_group.to_string() };
        reader.refuse_key("privacy.max_rows_per_unit", fault);
    }
    Some(Privacy {
        unit: unit?,
        unit_domain: unit_domain?,
        min_group_size: min_group_size?,
        max_groups_per_unit: max_groups_per_unit?,
        max_rows_per_unit_per_group: rows_per_group?,
        max_rows_per_unit: max_rows_per_unit?,
        accounting: accounting?,
        sorted_by_unit: sorted_by_unit?,
        epochs: epochs?,
    })
}

/// The first and the last year in which `epoch_from` may lie: a bound on how many epochs a query can read.
const EPOCH_YEARS: std::ops::RangeInclusive<i32> = 1900..=2199;

/// The three keys that cut a dataset's time into epochs: all of them, or none.
#[expect(clippy::option_option, reason = "nothing was read, or it was read that there are none")]
fn epochs(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Option<Epochs>> {
    let words = EpochKind::ALL.map(|kind| (kind.as_str(), kind));
    let kind = reader.optional(section, "epoch", None, |reader, field| reader.word(field, &words).map(Some))?;
    let Some(kind) = kind else {
        let strays: Vec<_> = ["epoch_column", "epoch_from"].into_iter().filter(|key| section.contains(key)).collect();
        for key in &strays {
            reader.refuse_key_of(section, key, Fault::WithoutEpoch);
        }
        return strays.is_empty().then_some(None);
    };
    let column = reader.required(section, "epoch_column", "epoch_column = \"order_date\"", |reader, field| {
        reader.text(field, "a column's name in quotes", "name the column that says when a row happened")
    });
    let from = reader.required(section, "epoch_from", "epoch_from = 2024-01-01", |reader, field| {
        let date = reader.date(field)?;
        let first = kind.first_day(kind.of_date(date)).filter(|first| EPOCH_YEARS.contains(&first.year()));
        match first {
            Some(first) if first == date => Some(date),
            Some(first) => reader.refuse(field, Fault::EpochFrom { kind, found: date, first }),
            None => reader.refuse(field, Fault::EpochYear { found: date }),
        }
    });
    Some(Some(Epochs { kind, column: column?, from: from? }))
}

fn contribution(reader: &mut Reader<'_>, field: &Field<'_>) -> Option<u32> {
    reader.whole(field, 1, u64::from(MAX_CONTRIBUTION)).and_then(|value| u32::try_from(value).ok())
}

/// A file with a `[collection]` section.
pub(super) fn collection(reader: &mut Reader<'_>, root: &Section<'_>) -> Option<PolicyFile> {
    for key in ["privacy", "budget", "columns"] {
        reader.refuse_key_of(root, key, Fault::NotForCollection);
    }
    let field = reader.field(root, "collection")?;
    let section = reader.table(&field, "a section: write [collection]")?;
    reader.refuse_unknown(&section, &COLLECTION_KEYS, &[("privacy", &PRIVACY_KEYS), ("budget", &BUDGET_KEYS)]);
    let name = reader.required(&section, "name", "name = \"airlines.flights\"", dataset_name);
    let members = reader.required(&section, "members", "members = [\"united.flights\", \"delta.flights\"]", members);
    let description = description(reader, &section);
    Some(PolicyFile::Collection(Collection {
        name: name?,
        version: String::new(),
        members: members?,
        description: description?,
        source: Source::default(),
    }))
}

fn dataset_name(reader: &mut Reader<'_>, field: &Field<'_>) -> Option<DatasetName> {
    match reader.string(field, "a dataset's name in quotes")?.parse() {
        Ok(name) => Some(name),
        Err(mistake) => reader.refuse(field, Fault::Name(mistake)),
    }
}

fn members(reader: &mut Reader<'_>, field: &Field<'_>) -> Option<Vec<DatasetName>> {
    let items = reader.items(field, "a list of datasets, such as [\"united.flights\", \"delta.flights\"]")?;
    if items.is_empty() {
        return reader.refuse(field, Fault::Empty { hint: "list the datasets that it brings together" });
    }
    let mut names = Vec::with_capacity(items.len());
    let mut complete = true;
    for item in &items {
        match dataset_name(reader, item) {
            Some(name) if names.contains(&name) => {
                reader.refuse::<()>(item, Fault::MemberRepeated { member: name.to_string() });
            }
            Some(name) => names.push(name),
            None => complete = false,
        }
    }
    complete.then_some(names)
}
