//! Reads typed values out of a TOML document, and keeps every problem with its place instead of stopping at the first.
//!
//! Each reading function returns `None` after it has noted a problem; the caller goes on with the next key and gives
//! up only at the end.

use std::collections::BTreeMap;
use std::path::Path;

use chrono::NaiveDate;
use toml::de::{DeTable, DeValue};

use super::column::{Key, Number};
use super::error::{Fault, Problem};
use super::nearest::nearest;
use super::source::{LineIndex, Position, Source, key_path, nearest_position};

/// How many problems of one file are kept: a steward mends the first few, and a list of 100,000 wrong keys is one.
const MAX_PROBLEMS: usize = 100;

/// The problems found so far, and the place of every key.
#[derive(Debug)]
pub(super) struct Reader<'t> {
    path: &'t Path,
    lines: LineIndex<'t>,
    problems: Vec<Problem>,
    positions: BTreeMap<String, Position>,
}

/// A table of the document.
#[derive(Debug, Clone)]
pub(super) struct Section<'v> {
    /// Its path, such as `budget.per_consumer`; empty for the document itself.
    pub(super) path: String,
    pub(super) position: Option<Position>,
    table: &'v DeTable<'v>,
}

/// A value of the document.
#[derive(Debug, Clone)]
pub(super) struct Field<'v> {
    /// Its path, such as `budget.per_consumer.epsilon`.
    pub(super) key: String,
    /// Where its key stands, for a section of which something is missing.
    key_position: Position,
    /// Where its value stands.
    position: Position,
    value: &'v DeValue<'v>,
}

impl Field<'_> {
    pub(super) fn is_string(&self) -> bool {
        self.value.is_str()
    }

    pub(super) fn is_array(&self) -> bool {
        self.value.is_array()
    }

    pub(super) fn is_date(&self) -> bool {
        self.value.is_datetime()
    }

    /// What it is, in words.
    pub(super) fn found(&self) -> &'static str {
        match self.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        }
    }
}

impl<'v> Section<'v> {
    /// The document itself.
    pub(super) fn root(table: &'v DeTable<'v>) -> Self {
        Self { path: String::new(), position: None, table }
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &'v str> {
        self.table.keys().map(|key| key.get_ref().as_ref())
    }

    pub(super) fn contains(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }
}

impl<'t> Reader<'t> {
    pub(super) fn new(path: &'t Path, text: &'t str) -> Self {
        Self { path, lines: LineIndex::new(text), problems: Vec::new(), positions: BTreeMap::new() }
    }

    /// The problems, or where everything stands if there are none.
    pub(super) fn finish(self) -> Result<Source, Vec<Problem>> {
        if self.problems.is_empty() { Ok(Source::new(self.path, self.positions)) } else { Err(self.problems) }
    }

    /// Notes a problem of the file as a whole, or of a piece of its text.
    pub(super) fn refuse_text(&mut self, offset: Option<usize>, fault: Fault) {
        let position = offset.map(|offset| self.lines.position(offset));
        self.refuse_at(position, "", fault);
    }

    /// Notes a problem of `key`, at `position`.
    pub(super) fn refuse_at(&mut self, position: Option<Position>, key: &str, fault: Fault) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(Problem { file: self.path.to_owned(), position, key: key.to_owned(), fault });
        }
    }

    /// Notes a problem of a value, and gives the `None` that its reader returns.
    pub(super) fn refuse<T>(&mut self, field: &Field<'_>, fault: Fault) -> Option<T> {
        self.refuse_at(Some(field.position), &field.key, fault);
        None
    }

    /// Notes a problem between several keys at `key`, which has been read before, or else at the section that it
    /// would stand in.
    pub(super) fn refuse_key(&mut self, key: &str, fault: Fault) {
        self.refuse_at(nearest_position(&self.positions, key), key, fault);
    }

    /// The value of `key`, if it is there.
    pub(super) fn field<'v>(&mut self, section: &Section<'v>, key: &str) -> Option<Field<'v>> {
        let (name, value) = section.table.get_key_value(key)?;
        let key = key_path(&section.path, key);
        let key_position = self.lines.position(name.span().start);
        self.positions.insert(key.clone(), key_position);
        Some(Field { key, key_position, position: self.lines.position(value.span().start), value: value.get_ref() })
    }

    /// The value of `key` as `read` reads it. Its absence is a problem, which `example` would mend.
    pub(super) fn required<'v, T>(
        &mut self,
        section: &Section<'v>,
        key: &str,
        example: &'static str,
        read: impl FnOnce(&mut Self, &Field<'v>) -> Option<T>,
    ) -> Option<T> {
        if let Some(field) = self.field(section, key) {
            return read(self, &field);
        }
        self.refuse_at(section.position, &key_path(&section.path, key), Fault::Missing { example });
        None
    }

    /// The value of `key` as `read` reads it, or `default` if it is not there.
    pub(super) fn optional<'v, T>(
        &mut self,
        section: &Section<'v>,
        key: &str,
        default: T,
        read: impl FnOnce(&mut Self, &Field<'v>) -> Option<T>,
    ) -> Option<T> {
        match self.field(section, key) {
            Some(field) => read(self, &field),
            None => Some(default),
        }
    }

    /// Refuses the keys of `section` that are not `known`. `elsewhere` lists the keys of other sections, for a key
    /// that has merely strayed.
    pub(super) fn refuse_unknown(
        &mut self,
        section: &Section<'_>,
        known: &[&'static str],
        elsewhere: &[(&'static str, &'static [&'static str])],
    ) {
        for key in section.keys().filter(|key| !known.contains(key)) {
            let home = elsewhere.iter().find(|(name, keys)| *name != section.path && keys.contains(&key));
            let fault = match (home, nearest(key, known.iter().copied())) {
                (Some((section, _)), _) => Fault::MisplacedKey { section },
                (None, Some(nearest)) => Fault::MisspeltKey { nearest: nearest.to_owned() },
                (None, None) => Fault::UnknownKey { known: known.to_vec() },
            };
            self.refuse_key_of(section, key, fault);
        }
    }

    /// Notes a problem of the key itself, not of its value.
    pub(super) fn refuse_key_of(&mut self, section: &Section<'_>, key: &str, fault: Fault) {
        if let Some(field) = self.field(section, key) {
            self.refuse_at(Some(field.key_position), &field.key, fault);
        }
    }

    fn wrong_type<T>(&mut self, field: &Field<'_>, expected: &'static str) -> Option<T> {
        let found = field.found();
        self.refuse(field, Fault::WrongType { expected, found })
    }

    /// A table.
    pub(super) fn table<'v>(&mut self, field: &Field<'v>, expected: &'static str) -> Option<Section<'v>> {
        match field.value {
            DeValue::Table(table) => {
                Some(Section { path: field.key.clone(), position: Some(field.key_position), table })
            }
            _ => self.wrong_type(field, expected),
        }
    }

    /// The items of a list.
    pub(super) fn items<'v>(&mut self, field: &Field<'v>, expected: &'static str) -> Option<Vec<Field<'v>>> {
        let DeValue::Array(items) = field.value else { return self.wrong_type(field, expected) };
        let item = |(at, item): (usize, &'v toml::Spanned<DeValue<'v>>)| {
            let position = self.lines.position(item.span().start);
            Field { key: format!("{}[{at}]", field.key), key_position: position, position, value: item.get_ref() }
        };
        Some(items.iter().enumerate().map(item).collect())
    }

    /// A text, as it stands.
    pub(super) fn string(&mut self, field: &Field<'_>, expected: &'static str) -> Option<String> {
        match field.value {
            DeValue::String(text) => Some(text.to_string()),
            _ => self.wrong_type(field, expected),
        }
    }

    /// A text that is not blank.
    pub(super) fn text(&mut self, field: &Field<'_>, expected: &'static str, hint: &'static str) -> Option<String> {
        let text = self.string(field, expected)?;
        if text.trim().is_empty() { self.refuse(field, Fault::Empty { hint }) } else { Some(text) }
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&mut self, field: &Field<'_>, words: &[(&'static str, T)]) -> Option<T> {
        let found = self.string(field, "a word in quotes")?;
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == found) {
            return Some(*meaning);
        }
        let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        let nearest = nearest(&found, known.iter().copied());
        self.refuse(field, Fault::UnknownWord { found, known, nearest })
    }

    /// True or false.
    pub(super) fn boolean(&mut self, field: &Field<'_>) -> Option<bool> {
        match field.value {
            DeValue::Boolean(value) => Some(*value),
            _ => self.wrong_type(field, "true or false"),
        }
    }

    /// A whole number in `lo..=hi`.
    pub(super) fn whole(&mut self, field: &Field<'_>, lo: u64, hi: u64) -> Option<u64> {
        let DeValue::Integer(integer) = field.value else { return self.wrong_type(field, "a whole number") };
        match u64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(value) if (lo..=hi).contains(&value) => Some(value),
            _ => self.refuse(field, Fault::OutOfRange { found: integer.to_string(), lo, hi }),
        }
    }

    /// A whole number that 64 bits hold.
    pub(super) fn integer(&mut self, field: &Field<'_>, expected: &'static str) -> Option<i64> {
        match field.value {
            DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
                Ok(value) => Some(value),
                Err(_) => self.refuse(
                    field,
                    Fault::WrongType { expected: "a whole number of at most 64 bits", found: "one that needs more" },
                ),
            },
            _ => self.wrong_type(field, expected),
        }
    }

    /// A number, with or without a fraction. It may be NaN or infinite, which TOML can write.
    pub(super) fn number(&mut self, field: &Field<'_>, expected: &'static str) -> Option<Number> {
        match field.value {
            DeValue::Float(float) => match float.as_str().parse() {
                Ok(value) => Some(Number::Float(value)),
                Err(_) => self.wrong_type(field, expected),
            },
            _ => self.integer(field, expected).map(Number::Int),
        }
    }

    /// A calendar date, without a time.
    pub(super) fn date(&mut self, field: &Field<'_>) -> Option<NaiveDate> {
        const EXPECTED: &str = "a date without quotes, such as 2027-12-31";
        match field.value {
            DeValue::Datetime(stamp) if stamp.time.is_none() && stamp.offset.is_none() => {
                let date = stamp.date.and_then(|date| {
                    NaiveDate::from_ymd_opt(i32::from(date.year), u32::from(date.month), u32::from(date.day))
                });
                if date.is_some() { date } else { self.wrong_type(field, EXPECTED) }
            }
            _ => self.wrong_type(field, EXPECTED),
        }
    }

    /// A group key, by its TOML type.
    pub(super) fn key(&mut self, field: &Field<'_>) -> Option<Key> {
        const EXPECTED: &str = "a whole number, a string, true, false or a date";
        match field.value {
            DeValue::String(text) => Some(Key::Text(text.to_string())),
            DeValue::Boolean(value) => Some(Key::Bool(*value)),
            DeValue::Datetime(_) => self.date(field).map(Key::Date),
            _ => self.integer(field, EXPECTED).map(Key::Int),
        }
    }
}
