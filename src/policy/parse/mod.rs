//! From the text of a policy file to a checked [`PolicyFile`].

mod budget;
mod canonical;
mod columns;
mod dataset;

use std::path::Path;

use toml::de::DeTable;

use super::error::{Fault, PolicyErrors};
use super::model::PolicyFile;
use super::reader::{Reader, Section};
use super::source::Source;
pub use canonical::canonical;
#[cfg(test)]
pub(super) use columns::COLUMN_KEYS;

/// The sections of a policy file.
const SECTIONS: [&str; 5] = ["dataset", "privacy", "budget", "columns", "collection"];
pub(super) const DATASET_KEYS: [&str; 9] =
    ["owner", "name", "kind", "location", "description", "purposes", "valid_until", "consumers", "approval"];
pub(super) const PRIVACY_KEYS: [&str; 11] = [
    "unit",
    "unit_domain",
    "min_group_size",
    "max_groups_per_unit",
    "max_rows_per_unit_per_group",
    "max_rows_per_unit",
    "accounting",
    "sorted_by_unit",
    "epoch",
    "epoch_column",
    "epoch_from",
];
pub(super) const BUDGET_KEYS: [&str; 9] = [
    "per_consumer",
    "per_agency",
    "all_consumers",
    "per_consumer_in_domain",
    "default_query",
    "query_delta",
    "max_query",
    "auto_grant",
    "price_per_epsilon",
];
pub(super) const COLLECTION_KEYS: [&str; 3] = ["name", "members", "description"];

/// Where a key belongs that was written in another section.
const HOMES: [(&str, &[&str]); 3] = [("dataset", &DATASET_KEYS), ("privacy", &PRIVACY_KEYS), ("budget", &BUDGET_KEYS)];

/// Reads the policy file `path`, whose text is `text`. Nothing is opened: `path` stands in errors, and a relative
/// `location` is made relative to its folder.
///
/// # Errors
/// All that is wrong with the file, each with its line, its key, and what would be right. A text that is no TOML is
/// looked at no further.
pub fn parse(path: &Path, text: &str) -> Result<PolicyFile, PolicyErrors> {
    parse_under(path, path.parent().unwrap_or_else(|| Path::new("")), text)
}

/// The same of a text that is no file: errors name `place`, and a relative `location` is relative to the folder `base`.
pub(super) fn parse_under(place: &Path, base: &Path, text: &str) -> Result<PolicyFile, PolicyErrors> {
    let mut reader = Reader::new(place, text);
    let (document, mistakes) = DeTable::parse_recoverable(text);
    for mistake in &mistakes {
        let message = mistake.message().to_owned();
        reader.refuse_text(mistake.span().map(|span| span.start), Fault::Syntax { message });
    }
    let parsed = if mistakes.is_empty() {
        let root = Section::root(document.get_ref());
        let version = canonical::version(&mut reader, text);
        policy_file(&mut reader, &root, base).zip(version)
    } else {
        None
    };
    match (reader.finish(), parsed) {
        (Ok(source), Some((mut file, version))) => {
            finish(&mut file, source, version);
            Ok(file)
        }
        (Err(problems), _) => Err(PolicyErrors::new(problems)),
        // Every reader notes a problem before it gives nothing, so this cannot be; if it ever is, the file is refused.
        (Ok(_), None) => Err(PolicyErrors::one(place, Fault::NoSubject)),
    }
}

/// Reads the document by what it is about.
fn policy_file(reader: &mut Reader<'_>, root: &Section<'_>, base: &Path) -> Option<PolicyFile> {
    reader.refuse_unknown(root, &SECTIONS, &HOMES);
    match (root.contains("dataset"), root.contains("collection")) {
        (true, false) => dataset::dataset(reader, root, base),
        (false, true) => dataset::collection(reader, root),
        (true, true) => {
            reader.refuse_text(None, Fault::TwoSubjects);
            None
        }
        (false, false) => {
            reader.refuse_text(None, Fault::NoSubject);
            None
        }
    }
}

/// Adds what is known only when the whole file has been read.
fn finish(file: &mut PolicyFile, of_source: Source, of_version: String) {
    let (version, source) = match file {
        PolicyFile::Private(policy) => (&mut policy.version, &mut policy.source),
        PolicyFile::Public(table) => (&mut table.version, &mut table.source),
        PolicyFile::Collection(collection) => (&mut collection.version, &mut collection.source),
    };
    *version = of_version;
    *source = of_source;
}
