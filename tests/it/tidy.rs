//! The shape of the source: which stage imports which, and what no file may hold.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::fixture::repository;

/// What each stage may import: the diagram of `src/lib.rs`, as a table. `mechanism` and `accounting` are one floor, as are
/// `release` and `engine`. The verifier in `release` knows the catalog's tables, since it must tell whose rows it
/// sees, and the policies' calendar of epochs.
const LAYERS: [(&str, &[&str]); 17] = [
    ("accounting", &["mechanism"]),
    ("mechanism", &["accounting"]),
    ("policy", &["accounting"]),
    ("stores", &["policy"]),
    ("release", &["mechanism", "accounting", "catalog", "policy"]),
    ("catalog", &["policy", "stores"]),
    ("sql", &["catalog", "policy"]),
    ("cluster", &["release", "policy", "stores"]),
    ("engine", &["release", "catalog", "cluster", "stores"]),
    ("analysis", &["sql", "catalog", "policy", "release", "accounting"]),
    ("audit", &[]),
    ("ledger", &["accounting", "audit"]),
    ("config", &["policy", "stores"]),
    ("demo", &[]),
    (
        "gateway",
        &[
            "accounting",
            "analysis",
            "audit",
            "catalog",
            "cluster",
            "config",
            "engine",
            "ledger",
            "policy",
            "release",
            "sql",
            "stores",
        ],
    ),
    ("layout", &["policy", "stores"]),
    ("interface", &["gateway", "audit", "cluster", "config", "demo", "layout", "policy", "stores"]),
];

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The files of `src` by their path within it.
fn sources() -> Vec<(PathBuf, String)> {
    let src = repository().join("src");
    let mut sources: Vec<_> = files(&src)
        .into_iter()
        .map(|path| (path.strip_prefix(&src).expect("within").to_owned(), fs::read_to_string(&path).expect("text")))
        .collect();
    sources.sort();
    sources
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| ["tests", "tests.rs"].contains(&part.as_os_str().to_str().unwrap_or_default()))
}

/// What a file's code says, without its comments and without what follows `#[cfg(test)] mod … {`.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The top-level modules named after `crate::`.
fn imports(code: &str) -> BTreeSet<String> {
    let name = |rest: &str| rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect::<String>();
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        if let Some(list) = rest.strip_prefix('{') {
            // The names at the first depth of `crate::{a::{b, c}, d}`.
            let (mut depth, mut word) = (0, true);
            for (at, c) in list.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => word = true,
                    c if word && c.is_ascii_lowercase() => {
                        found.insert(name(&list[at..]));
                        word = false;
                    }
                    _ => {}
                }
            }
        } else {
            found.insert(name(rest));
        }
    }
    found.remove("");
    found
}

#[test]
fn stages_import_only_what_is_below_them() {
    let mut wrong = Vec::new();
    for (path, text) in sources().iter().filter(|(path, _)| !is_test(path)) {
        let stage = path.components().next().expect("a part").as_os_str().to_string_lossy().into_owned();
        if ["lib.rs", "main.rs"].contains(&stage.as_str()) {
            continue;
        }
        let (_, allowed) = LAYERS.iter().find(|(name, _)| *name == stage).unwrap_or_else(|| panic!("no layer {stage}"));
        for import in imports(&code(text)) {
            let known = LAYERS.iter().any(|(name, _)| *name == import);
            if known && import != stage && !allowed.contains(&import.as_str()) {
                wrong.push(format!("{}: {stage} imports {import}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_reader_of_imports_reads_lists() {
    let read = imports("use crate::{policy::{Name, Other}, sql}; use crate::gateway::Code; crate::ledger::open()");
    assert_eq!(read.iter().map(String::as_str).collect::<Vec<_>>(), ["gateway", "ledger", "policy", "sql"]);
}

#[test]
fn nothing_prints_or_unwraps_where_it_should_not() {
    let mut wrong = Vec::new();
    for (path, text) in sources().iter().filter(|(path, _)| !is_test(path) && !path.starts_with("interface/cli")) {
        let code = code(text);
        for word in ["println!", "eprintln!", "dbg!(", ".unwrap()"] {
            if code.contains(word) {
                wrong.push(format!("{}: {word}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_file_is_too_long() {
    let long: Vec<_> = sources()
        .into_iter()
        .filter(|(_, text)| text.lines().count() > 700)
        .map(|(path, text)| format!("{}: {} lines", path.display(), text.lines().count()))
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn every_file_is_part_of_the_program() {
    let sources = sources();
    for (path, _) in &sources {
        if ["lib.rs", "main.rs"].iter().any(|root| path == Path::new(root)) {
            continue;
        }
        let (parent, name) = match path.file_stem().and_then(|stem| stem.to_str()) {
            Some("mod") => (path.parent().and_then(Path::parent), path.parent().and_then(Path::file_name)),
            _ => (path.parent(), path.file_stem()),
        };
        let (parent, name) = (parent.expect("a folder"), name.expect("a name").to_string_lossy());
        let declares = |file: &Path| {
            sources.iter().any(|(path, text)| {
                path == file && text.lines().any(|line| line.trim().ends_with(&format!("mod {name};")))
            })
        };
        let by = [parent.join("mod.rs"), parent.with_extension("rs"), parent.join("lib.rs")];
        assert!(by.iter().any(|file| declares(file)), "{} is declared nowhere", path.display());
    }
}
