//! What differs between two versions of a policy, as text.

use similar::TextDiff;

use super::parse::canonical;

/// How many lines that are the same are shown about each change.
const CONTEXT_LINES: usize = 3;

/// A unified diff of what two policies say: of their canonical texts, so that comments, spacing and the order of keys do
/// not show. Empty when they say the same. A text that is no TOML is compared as it stands.
#[must_use]
pub fn diff(old: &str, new: &str) -> String {
    let canonical = |text: &str| canonical(text).unwrap_or_else(|| text.to_owned());
    let (old, new) = (canonical(old), canonical(new));
    TextDiff::from_lines(&old, &new).unified_diff().context_radius(CONTEXT_LINES).header("before", "after").to_string()
}
