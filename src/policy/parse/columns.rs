//! The sections `[columns.NAME]`.

use std::collections::{BTreeMap, BTreeSet};

use super::HOMES;
use crate::policy::column::{
    Bounds, BoundsError, ColumnPolicy, Key, KeyKind, MAX_PUBLIC_GROUPS, PublicGroups, Use, Uses,
};
use crate::policy::error::Fault;
use crate::policy::reader::{Field, Reader, Section};

pub(crate) const COLUMN_KEYS: [&str; 5] = ["access", "bounds", "public_groups", "per_unit_constant", "unit_key"];

/// Reads all of them. `unit` is the privacy unit's column, if it could be read.
pub(super) fn columns(
    reader: &mut Reader<'_>,
    root: &Section<'_>,
    unit: Option<&str>,
) -> Option<BTreeMap<String, ColumnPolicy>> {
    let Some(field) = reader.field(root, "columns") else { return Some(BTreeMap::new()) };
    let section = reader.table(&field, "sections such as [columns.fare]")?;
    let mut columns = BTreeMap::new();
    let mut complete = true;
    for name in section.keys() {
        let read = reader.field(&section, name).and_then(|field| column(reader, &field, unit == Some(name)));
        match read {
            Some(column) => drop(columns.insert(name.to_owned(), column)),
            None => complete = false,
        }
    }
    complete.then_some(columns)
}

fn column(reader: &mut Reader<'_>, field: &Field<'_>, is_unit: bool) -> Option<ColumnPolicy> {
    let section = reader.table(field, "a table such as { bounds = [0, 500] }")?;
    reader.refuse_unknown(&section, &COLUMN_KEYS, &HOMES);
    let uses = reader.optional(&section, "access", Uses::ANY, access);
    let bounds = reader.optional(&section, "bounds", None, |reader, field| bounds(reader, field).map(Some));
    let public_groups = reader.optional(&section, "public_groups", None, |reader, field| {
        if is_unit {
            return reader.refuse(field, Fault::GroupsOfUnit);
        }
        if uses.is_some_and(|uses| !uses.allows(Use::Group)) {
            return reader.refuse(field, Fault::GroupsUnusable);
        }
        public_groups(reader, field).map(Some)
    });
    let per_unit_constant = reader.optional(&section, "per_unit_constant", false, Reader::boolean);
    let unit_key = reader.optional(&section, "unit_key", None, |reader, field| {
        reader.text(field, "a word in quotes", "name what the column numbers, such as \"order\"").map(Some)
    });
    Some(ColumnPolicy {
        uses: uses?,
        bounds: bounds?,
        public_groups: public_groups?,
        per_unit_constant: per_unit_constant?,
        unit_key: unit_key?,
    })
}

/// A word, or a list of uses: see `docs/decisions/0002-column-access.md`.
fn access(reader: &mut Reader<'_>, field: &Field<'_>) -> Option<Uses> {
    if field.is_string() {
        // "aggregate" alone, the default, is any use; the other words are what they say.
        let words = [
            ("aggregate", Uses::ANY),
            ("group", Uses::only(Use::Group)),
            ("filter", Uses::only(Use::Filter)),
            ("deny", Uses::NONE),
        ];
        return reader.word(field, &words);
    }
    let items = reader.items(field, "a word such as \"aggregate\", or a list such as [\"aggregate\", \"filter\"]")?;
    if items.is_empty() {
        return reader.refuse(field, Fault::AccessEmpty);
    }
    let words = [
        ("aggregate", Some(Use::Aggregate)),
        ("group", Some(Use::Group)),
        ("filter", Some(Use::Filter)),
        ("deny", None),
    ];
    let mut uses = Some(Uses::NONE);
    for item in &items {
        let one = match reader.word(item, &words) {
            Some(None) => reader.refuse(item, Fault::AccessDenyInList),
            Some(one) => one,
            None => None,
        };
        uses = uses.zip(one).map(|(uses, one)| uses.with(one));
    }
    uses
}

fn bounds(reader: &mut Reader<'_>, field: &Field<'_>) -> Option<Bounds> {
    const EXPECTED: &str = "two numbers, the lower and the upper bound, such as [0, 500]";
    let items = reader.items(field, EXPECTED)?;
    let [lo, hi] = items.as_slice() else { return reader.refuse(field, Fault::BoundsShape) };
    let (lo, hi) = (reader.number(lo, "a number"), reader.number(hi, "a number"));
    let (lo, hi) = (lo?, hi?);
    let fault = match Bounds::new(lo, hi) {
        Ok(bounds) => return Some(bounds),
        Err(BoundsError::NotFinite) => Fault::BoundsNotFinite,
        Err(BoundsError::Reversed) => Fault::BoundsReversed { lo: lo.to_string(), hi: hi.to_string() },
        Err(BoundsError::Single) => Fault::BoundsSingle { value: lo.to_string() },
        Err(BoundsError::TooWide) => Fault::BoundsTooWide,
    };
    reader.refuse(field, fault)
}

fn public_groups(reader: &mut Reader<'_>, field: &Field<'_>) -> Option<PublicGroups> {
    if field.is_array() {
        return listed(reader, field).map(PublicGroups::List);
    }
    let section = reader.table(field, "a list of keys, or a range such as { from = 1, to = 12 }")?;
    reader.refuse_unknown(&section, &["from", "to"], &HOMES);
    let groups = range(reader, field, &section)?;
    let count = groups.key_count();
    if count > MAX_PUBLIC_GROUPS {
        return reader.refuse(field, Fault::GroupsTooMany { count });
    }
    Some(groups)
}

fn listed(reader: &mut Reader<'_>, field: &Field<'_>) -> Option<Vec<Key>> {
    let items = reader.items(field, "a list of keys")?;
    let count = items.len() as u64;
    if count == 0 {
        return reader.refuse(field, Fault::GroupsEmpty);
    }
    if count > MAX_PUBLIC_GROUPS {
        return reader.refuse(field, Fault::GroupsTooMany { count });
    }
    let mut first: Option<KeyKind> = None;
    let mut seen = BTreeSet::new();
    let mut keys = Vec::with_capacity(items.len());
    let mut complete = true;
    for item in &items {
        let Some(key) = reader.key(item) else {
            complete = false;
            continue;
        };
        let first = *first.get_or_insert(key.kind());
        if key.kind() != first {
            reader.refuse::<()>(item, Fault::GroupsMixed { first });
        } else if !seen.insert(key.clone()) {
            reader.refuse::<()>(item, Fault::GroupsDuplicate { key: key.to_string() });
        }
        keys.push(key);
    }
    complete.then_some(keys)
}

fn range(reader: &mut Reader<'_>, field: &Field<'_>, section: &Section<'_>) -> Option<PublicGroups> {
    const EXPECTED: &str = "a whole number or a date";
    // Both ends are looked for before either is read, so that both are named when both are missing.
    let from = reader.required(section, "from", "from = 1", |_, field| Some(field.clone()));
    let to = reader.required(section, "to", "to = 12", |_, field| Some(field.clone()));
    let (from, to) = (from?, to?);
    if from.is_date() != to.is_date() {
        return reader.refuse(field, Fault::GroupsMixedRange);
    }
    if from.is_date() {
        let (from, to) = (reader.date(&from), reader.date(&to));
        let (from, to) = (from?, to?);
        return if from <= to {
            Some(PublicGroups::DateRange { from, to })
        } else {
            reader.refuse(field, Fault::GroupsReversed { from: from.to_string(), to: to.to_string() })
        };
    }
    let (from, to) = (reader.integer(&from, EXPECTED), reader.integer(&to, EXPECTED));
    let (from, to) = (from?, to?);
    if from <= to {
        Some(PublicGroups::Range { from, to })
    } else {
        reader.refuse(field, Fault::GroupsReversed { from: from.to_string(), to: to.to_string() })
    }
}
