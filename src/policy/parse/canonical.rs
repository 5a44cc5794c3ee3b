//! The version of a policy: a digest of what it says, not of how it was typed.

use std::fmt::Write;
use std::ops::Range;

use sha2::{Digest, Sha256};

use crate::policy::error::Fault;
use crate::policy::reader::Reader;

/// The SHA-256 of the canonical TOML text, in hex: keys sorted at every level, comments and spacing gone.
pub(super) fn version(reader: &mut Reader<'_>, text: &str) -> Option<String> {
    let canonical = match canonical_text(text) {
        Ok(canonical) => canonical,
        Err((span, message)) => return refuse(reader, span, &message),
    };
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(canonical.as_bytes()) {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    Some(hex)
}

/// The text that a version is the digest of: keys sorted at every level, comments and spacing gone. `None` when `text`
/// is no TOML; the text of a policy that was parsed always is.
#[must_use]
pub fn canonical(text: &str) -> Option<String> {
    canonical_text(text).ok()
}

fn canonical_text(text: &str) -> Result<String, (Option<Range<usize>>, String)> {
    // Such as an integer of more than 64 bits, which a syntax check lets through.
    let table: toml::Table =
        text.parse().map_err(|mistake: toml::de::Error| (mistake.span(), mistake.message().to_owned()))?;
    toml::to_string(&sorted(table)).map_err(|mistake| (None, mistake.to_string()))
}

fn refuse(reader: &mut Reader<'_>, span: Option<Range<usize>>, message: &str) -> Option<String> {
    let message = message.to_owned();
    reader.refuse_text(span.map(|span| span.start), Fault::Syntax { message });
    None
}

/// The table with its keys in order at every level, whichever map the `toml` crate was built with.
fn sorted(table: toml::Table) -> toml::Table {
    let mut entries: Vec<_> = table.into_iter().map(|(key, value)| (key, sorted_value(value))).collect();
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    entries.into_iter().collect()
}

fn sorted_value(value: toml::Value) -> toml::Value {
    match value {
        toml::Value::Table(table) => toml::Value::Table(sorted(table)),
        toml::Value::Array(items) => toml::Value::Array(items.into_iter().map(sorted_value).collect()),
        other => other,
    }
}
