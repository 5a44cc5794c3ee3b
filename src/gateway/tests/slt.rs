//! The statements of `tests/slt`: those of `answered/*.slt` give, without noise, what plain DataFusion gives; those of
//! `refused/*.slt` are refused in exactly the words that stand there, and the rewrite that the hint asks for is answered.
//!
//! ```text
//! # a comment                                 # a comment
//! answered                                    refused query_not_private
//! SELECT origin, count(*)                     SELECT * FROM united.flights
//! FROM united.flights GROUP BY origin         ----
//!                                             the query would return rows of united.flights
//!                                             hint: aggregate them: SELECT key, count(*) ... GROUP BY key
//!                                             rewritten: SELECT origin, count(*) FROM united.flights GROUP BY origin
//! ```
//!
//! `TOLLGATE_SLT` names another folder of statements, `TOLLGATE_SLT_POLICIES` one of policies; `TOLLGATE_SLT_WRITE=1`
//! writes the refusals that were met.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use datafusion::common::ScalarValue;

use super::exact::{Exact, values};
use crate::analysis::RefusalKind;

fn folder() -> PathBuf {
    std::env::var_os("TOLLGATE_SLT")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slt"), PathBuf::from)
}

fn policies() -> PathBuf {
    std::env::var_os("TOLLGATE_SLT_POLICIES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slt/policies"), PathBuf::from)
}

/// A statement of a file, with what stands below its `----`.
struct Statement {
    place: String,
    head: String,
    sql: String,
    below: Vec<String>,
}

fn statements(kind: &str) -> Vec<(PathBuf, Vec<Statement>)> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder().join(kind))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "slt"))
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let mut found = Vec::new();
            let mut line = 1;
            for block in text.split("\n\n") {
                let start = line;
                line += block.matches('\n').count() + 2;
                let mut lines = block.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
                let Some(head) = lines.next() else { continue };
                let lines: Vec<&str> = lines.collect();
                let split = lines.iter().position(|line| *line == "----").unwrap_or(lines.len());
                found.push(Statement {
                    place: format!("{}:{start}", path.file_name().unwrap().to_string_lossy()),
                    head: head.to_owned(),
                    sql: lines[..split].join("\n"),
                    below: lines.iter().skip(split + 1).map(|line| (*line).to_owned()).collect(),
                });
            }
            (path, found)
        })
        .collect()
}

/// A row as one text to sort by, with numbers cut to few digits.
fn text(row: &[ScalarValue]) -> String {
    row.iter()
        .map(|value| match number(value) {
            Some(number) => format!("{number:.6e}"),
            None => value.to_string(),
        })
        .collect::<Vec<_>>()
        .join("|")
}

fn number(value: &ScalarValue) -> Option<f64> {
    match value.cast_to(&datafusion::arrow::datatypes::DataType::Float64) {
        Ok(ScalarValue::Float64(number)) if value.data_type().is_numeric() => number,
        _ => None,
    }
}

/// Public groups that no row has: every number is 0 or absent.
fn is_empty(row: &[ScalarValue], keys: usize) -> bool {
    row.len() > keys
        && row[keys..].iter().all(|value| value.is_null() || number(value).is_some_and(|number| number == 0.0))
}

fn agree(a: &ScalarValue, b: &ScalarValue) -> bool {
    match (number(a), number(b)) {
        (Some(a), Some(b)) => (a - b).abs() <= 1e-4 * a.abs().max(b.abs()).max(1e-2),
        _ => a.is_null() && b.is_null() || a.to_string() == b.to_string(),
    }
}

/// What is wrong with an answer, if anything.
pub(super) fn difference(exact: &[Vec<ScalarValue>], plain: &[Vec<ScalarValue>], keys: usize) -> Option<String> {
    let sorted = |rows: &[Vec<ScalarValue>]| {
        let mut rows: Vec<_> = rows.iter().filter(|row| !is_empty(row, keys)).cloned().collect();
        rows.sort_by_key(|row| text(row));
        rows
    };
    let (exact, plain) = (sorted(exact), sorted(plain));
    if exact.len() != plain.len() {
        return Some(format!("{} rows, not {}", exact.len(), plain.len()));
    }
    // Numbers that agree within the lattice may sort apart: every row must find a partner near its place.
    let mut used = vec![false; plain.len()];
    for (at, row) in exact.iter().enumerate() {
        let near = (at.saturating_sub(40)..plain.len().min(at + 40))
            .find(|other| !used[*other] && row.iter().zip(&plain[*other]).all(|(a, b)| agree(a, b)));
        match near {
            Some(other) => used[other] = true,
            None => {
                return Some(format!("{} and not {}", text(row), plain.get(at).map_or(String::new(), |row| text(row))));
            }
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answered_statements_agree_with_plain_datafusion() {
    let exact = Exact::over(&policies());
    let mut faults = Vec::new();
    let mut count = 0;
    for (_, statements) in statements("answered") {
        for Statement { place, head, sql, .. } in statements {
            count += 1;
            // `answered 2`: how many columns of the result are keys, for groups without rows; all but the last by default.
            let keys = head.split_whitespace().nth(1).and_then(|keys| keys.parse().ok());
            let result = async {
                let analysed =
                    exact.analyse(&sql).await?.map_err(|refusal| format!("refused: {refusal} ({:?})", refusal.hint))?;
                assert!(!analysed.releases().is_empty(), "{place}: nothing private in {sql}");
                let answer = values(&exact.answer(&analysed).await?);
                let plain = values(&exact.plain(&sql).await?);
                let width = answer.first().or(plain.first()).map_or(0, Vec::len);
                difference(&answer, &plain, keys.unwrap_or(width.saturating_sub(1))).map_or(Ok(()), Err)
            };
            if let Err(fault) = result.await {
                faults.push(format!("{place}: {sql}\n    {fault}"));
            }
        }
    }
    assert!(faults.is_empty(), "{} of {count}:\n{}", faults.len(), faults.join("\n"));
    assert!(std::env::var_os("TOLLGATE_SLT").is_some() || count >= 250, "{count} statements");
}

const fn code(kind: RefusalKind) -> &'static str {
    match kind {
        RefusalKind::NotPrivate => "query_not_private",
        RefusalKind::NotAllowed => "not_allowed",
        RefusalKind::TooLarge => "too_large",
        RefusalKind::Request => "request_invalid",
        RefusalKind::Internal => "internal",
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_statements_say_why_and_their_rewrites_are_answered() {
    let exact = Exact::over(&policies());
    let write = std::env::var_os("TOLLGATE_SLT_WRITE").is_some();
    let mut faults = Vec::new();
    let mut count = 0;
    for (path, statements) in statements("refused") {
        let mut written = String::new();
        for Statement { place, head, sql, below } in statements {
            count += 1;
            let rewritten =
                below.iter().find_map(|line| line.strip_prefix("rewritten: ")).unwrap_or_default().to_owned();
            let found = match exact.analyse(&sql).await {
                Err(error) => format!("refused sql_invalid\n{sql}\n----\n{error}"),
                Ok(Ok(_)) => format!("answered\n{sql}\n----"),
                Ok(Err(refusal)) => {
                    let hint = refusal.hint.clone().unwrap_or_default();
                    format!("refused {}\n{sql}\n----\n{}\nhint: {hint}", code(refusal.kind), refusal.detail)
                }
            };
            let found = format!("{found}\nrewritten: {rewritten}");
            let expected = format!("{head}\n{sql}\n----\n{}", below.join("\n"));
            if found != expected {
                faults.push(format!("{place}:\n{found}"));
            }
            let _ = write!(written, "{found}\n\n");
            let fine = match exact.analyse(&rewritten).await {
                Ok(Ok(analysed)) => exact.answer(&analysed).await.map(|_| ()),
                Ok(Err(refusal)) => Err(format!("refused: {refusal} ({:?})", refusal.hint)),
                Err(error) => Err(error),
            };
            if let Err(fault) = fine {
                faults.push(format!("{place}: the rewrite is not answered: {rewritten}\n    {fault}"));
            }
        }
        if write {
            std::fs::write(&path, written).unwrap();
        }
    }
    assert!(faults.is_empty(), "{} of {count}:\n{}", faults.len(), faults.join("\n"));
    assert!(std::env::var_os("TOLLGATE_SLT").is_some() || count >= 150, "{count} statements");
}
