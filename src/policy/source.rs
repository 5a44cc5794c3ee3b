//! Where the keys of a policy stand in its file, so that an error found later still points at its line.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// A place in a file, counted from 1 as editors do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A policy's file and the place of each key in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Source {
    path: PathBuf,
    positions: BTreeMap<String, Position>,
}

impl Source {
    pub(super) fn new(path: &Path, positions: BTreeMap<String, Position>) -> Self {
        Self { path: path.to_owned(), positions }
    }

    /// The same without places, for a text that its author has not seen.
    pub(super) fn without_positions(&self) -> Self {
        Self { path: self.path.clone(), positions: BTreeMap::new() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where `key` stands, or else the section that it would stand in.
    pub(super) fn position(&self, key: &str) -> Option<Position> {
        nearest_position(&self.positions, key)
    }
}

/// Where `key` stands, or else the section that it would stand in.
pub(super) fn nearest_position(positions: &BTreeMap<String, Position>, key: &str) -> Option<Position> {
    let mut key = key;
    loop {
        if let Some(position) = positions.get(key) {
            return Some(*position);
        }
        key = key.rsplit_once('.')?.0;
    }
}

/// Turns byte offsets of a text into lines and columns.
#[derive(Debug)]
pub(super) struct LineIndex<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> LineIndex<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    /// The place of the byte at `offset`; past the end is the end.
    pub(super) fn position(&self, offset: usize) -> Position {
        let offset = (0..=offset.min(self.text.len())).rev().find(|at| self.text.is_char_boundary(*at)).unwrap_or(0);
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = line.checked_sub(1).and_then(|at| self.starts.get(at)).copied().unwrap_or(0);
        Position { line: line.max(1), column: self.text[start..offset].chars().count() + 1 }
    }
}

/// A key's path with one more part, quoted where TOML would need it.
pub(super) fn key_path(parent: &str, part: &str) -> String {
    let bare = !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    // A JSON string is a TOML basic string, and always stays on its line.
    let part = if bare { part.to_owned() } else { serde_json::Value::from(part).to_string() };
    if parent.is_empty() { part } else { format!("{parent}.{part}") }
}
