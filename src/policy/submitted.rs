//! Policies that are no files: what a steward sends, and what the storage keeps.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::error::{Fault, PolicyErrors, Problem};
use super::load::MAX_FILE_BYTES;
use super::model::PolicyFile;
use super::parse::parse_under;
use super::source::Position;

/// Reads a policy from `text`, which is no file. Nothing is opened: errors name `place`, such as `united.flights`, and a
/// relative `location` is relative to the folder `base`.
///
/// # Errors
/// As [`super::parse`], and when the text is larger than a policy file may be.
pub fn parse_text(place: &Path, base: &Path, text: &str) -> Result<PolicyFile, PolicyErrors> {
    check_size(place, text)?;
    parse_under(place, base, text)
}

/// Reads a policy from a JSON object of the same shape as the TOML, and gives it with its TOML text, which is what is
/// kept. JSON has no dates: `valid_until`, and the ends of a range of days, are strings such as `"2027-12-31"`. A list of
/// single days cannot be said in JSON.
///
/// # Errors
/// As [`parse_text`]. What is no JSON, a key that stands twice and a `null` are told with their line; all else is told
/// with its key alone, since the lines of the TOML are not those that were sent.
pub fn parse_json(place: &Path, base: &Path, json: &str) -> Result<(PolicyFile, String), PolicyErrors> {
    check_size(place, json)?;
    let at = |position, message| {
        let fault = Fault::Json { message };
        PolicyErrors::new(vec![Problem { file: place.to_owned(), position, key: String::new(), fault }])
    };
    let value = match serde_json::from_str::<Said>(json) {
        Ok(Said(toml::Value::Table(table))) => with_dates(table),
        Ok(Said(_)) => return Err(at(None, "a policy is an object, such as {\"dataset\": {…}, …}".to_owned())),
        Err(mistake) => {
            let position = Position { line: mistake.line(), column: mistake.column() };
            let said = mistake.to_string();
            let message = said.rsplit_once(" at line ").map_or(said.as_str(), |(message, _)| message);
            return Err(at(Some(position), message.to_owned()));
        }
    };
    let text = toml::to_string(&value).map_err(|mistake| at(None, mistake.to_string()))?;
    let without_lines = |errors: PolicyErrors| {
        let problems = errors.into_problems().into_iter();
        PolicyErrors::new(problems.map(|problem| Problem { position: None, ..problem }).collect())
    };
    let file = parse_text(place, base, &text).map_err(without_lines)?;
    Ok((file.without_positions(), text))
}

fn check_size(place: &Path, text: &str) -> Result<(), PolicyErrors> {
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(PolicyErrors::one(place, Fault::TooLarge { max: MAX_FILE_BYTES }));
    }
    Ok(())
}

/// A JSON value that TOML can say. A key that stands twice is refused as TOML refuses it: the later of two limits would
/// else hold in silence.
struct Said(toml::Value);

impl<'de> Deserialize<'de> for Said {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Sayable).map(Self)
    }
}

struct Sayable;

impl<'de> Visitor<'de> for Sayable {
    type Value = toml::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a number, true, false, a list or an object")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(toml::Value::Boolean(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok(toml::Value::Integer(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        i64::try_from(value).map(toml::Value::Integer).map_err(|_| E::custom("a whole number needs more than 64 bits"))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        Ok(toml::Value::Float(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        Ok(toml::Value::String(value.to_owned()))
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Err(E::custom("null says nothing: leave the key out"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Said(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(toml::Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let (mut table, mut seen) = (toml::Table::new(), BTreeSet::new());
        while let Some(key) = entries.next_key::<String>()? {
            if !seen.insert(key.clone()) {
                return Err(A::Error::custom(format!("the key {key:?} stands twice")));
            }
            let Said(value) = entries.next_value()?;
            table.insert(key, value);
        }
        Ok(toml::Value::Table(table))
    }
}

/// With the texts that stand where a policy has days made into days.
fn with_dates(mut policy: toml::Table) -> toml::Table {
    if let Some(toml::Value::Table(dataset)) = policy.get_mut("dataset") {
        date_at(dataset, "valid_until");
    }
    if let Some(toml::Value::Table(columns)) = policy.get_mut("columns") {
        for (_, column) in columns.iter_mut() {
            if let Some(toml::Value::Table(range)) = column.get_mut("public_groups") {
                date_at(range, "from");
                date_at(range, "to");
            }
        }
    }
    policy
}

fn date_at(table: &mut toml::Table, key: &str) {
    if let Some(value) = table.get_mut(key)
        && let toml::Value::String(text) = value
        && let Ok(date) = text.parse::<toml::value::Datetime>()
    {
        *value = toml::Value::Datetime(date);
    }
}
