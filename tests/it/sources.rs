//! `tollgate source optimize` as a company's operator runs it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use serde_json::json;

use crate::fixture::{Ran, Server, over, tollgate, united_copied_to};

fn optimize(dir: &Path, arguments: &[&str]) -> Ran {
    let policy = "policies/united.flights.toml";
    Ran::of(tollgate(dir).args(["source", "optimize", policy]).args(arguments))
}

fn footer(path: &Path) -> ArrowReaderMetadata {
    ArrowReaderMetadata::load(&fs::File::open(path).expect("a file"), ArrowReaderOptions::default()).expect("Parquet")
}

#[test]
fn a_company_rewrites_its_data_and_changes_one_line_of_its_policy() {
    let dir = tempfile::tempdir().expect("a folder");
    let (policies, data) = united_copied_to(dir.path());
    let original = fs::read(&data).expect("bytes");
    let far = optimize(dir.path(), &["--check"]);
    assert_eq!(far.status, 1);
    assert!(
        far.text().ends_with("not in the layout\n") && far.stderr.contains("error[not_in_layout]"),
        "{}",
        far.stderr
    );

    let done = optimize(dir.path(), &["--row-group-rows", "5000"]);
    let line = done.done();
    let new = dir.path().join("UA.optimized.parquet");
    assert!(line.starts_with("location = ") && line.contains("UA.optimized.parquet"), "{line}");
    assert!(done.stderr.contains("rows read") && done.stderr.contains("the original is as it was"), "{}", done.stderr);
    assert_eq!(fs::read(&data).expect("bytes"), original);
    let (before, after) = (footer(&data), footer(&new));
    let rows = |of: &ArrowReaderMetadata| of.metadata().file_metadata().num_rows();
    assert_eq!(rows(&after), rows(&before));
    assert!(after.metadata().num_row_groups() > 10);
    // Not over what is there.
    let again = optimize(dir.path(), &[]);
    assert_eq!(again.status, 1);
    assert!(
        again.stderr.contains("error[optimize_failed]") && again.stderr.contains("is there already"),
        "{}",
        again.stderr
    );

    // The policy with its new line is answered; the count is that of the same rows, within its noise.
    let policy = policies.join("united.flights.toml");
    let text = fs::read_to_string(&policy).expect("a policy");
    fs::write(&policy, text.replace("location = \"../UA.parquet\"", line.trim())).expect("written");
    assert_eq!(optimize(dir.path(), &["--check"]).status, 0);
    let server = Server::start(over(&policies, dir.path()));
    let told = server.send("GET", "/v1/datasets/united.flights", &[], "").json();
    let types: Vec<_> =
        told["columns"].as_array().expect("columns").iter().map(|column| column["type"].clone()).collect();
    assert!(types.contains(&json!("Utf8")) && !told.to_string().contains("Dictionary"), "{told}");
    let sql = "SELECT origin, count(*) AS n FROM united.flights GROUP BY origin ORDER BY origin";
    let answer = server.ask(&json!({ "sql": sql, "epsilon": 1.0 })).json();
    let origins: Vec<_> = answer["rows"].as_array().expect("rows").iter().map(|row| row[0].clone()).collect();
    assert_eq!(origins, [json!("EWR"), json!("JFK"), json!("LGA")]);
    assert_eq!(answer["columns"][0]["type"], json!("Utf8"));
}

#[test]
fn the_original_is_replaced_and_later_removed() {
    let dir = tempfile::tempdir().expect("a folder");
    let (_, data) = united_copied_to(dir.path());
    let kept = dir.path().join("UA.parquet.before-optimize");
    let original = fs::read(&data).expect("bytes");
    assert_eq!(optimize(dir.path(), &["--discard-original"]).status, 1);
    assert_eq!(optimize(dir.path(), &["--replace"]).done(), "");
    assert_eq!(fs::read(&kept).expect("bytes"), original);
    assert_ne!(fs::read(&data).expect("bytes"), original);
    optimize(dir.path(), &["--check"]).done();
    optimize(dir.path(), &["--discard-original"]).done();
    assert!(!kept.exists());
    assert_eq!(optimize(dir.path(), &["--check", "--replace"]).status, 2);
}

/// Killed at any moment, the original is there, and the next run is not in the way of what is left.
#[test]
fn a_run_that_is_killed_leaves_the_original_whole() {
    let dir = tempfile::tempdir().expect("a folder");
    let (_, data) = united_copied_to(dir.path());
    let original = fs::read(&data).expect("bytes");
    let mut killed = 0;
    for wait_ms in [30, 80, 150, 300, 500, 800, 1200] {
        let mut run = tollgate(dir.path());
        run.args(["source", "optimize", "policies/united.flights.toml"]);
        let mut run =
            run.stderr(std::process::Stdio::null()).stdout(std::process::Stdio::null()).spawn().expect("the program");
        std::thread::sleep(Duration::from_millis(wait_ms));
        if run.try_wait().expect("a status").is_some() {
            break;
        }
        run.kill().expect("killed");
        run.wait().expect("ended");
        killed += 1;
        assert_eq!(fs::read(&data).expect("bytes"), original, "{wait_ms}");
        // What has its name is whole.
        let new = dir.path().join("UA.optimized.parquet");
        if new.exists() {
            assert_eq!(
                footer(&new).metadata().file_metadata().num_rows(),
                footer(&data).metadata().file_metadata().num_rows()
            );
            fs::remove_file(new).expect("removed");
        }
    }
    assert!(killed > 0, "no run was killed");
    let _ = fs::remove_file(dir.path().join("UA.optimized.parquet"));
    optimize(dir.path(), &[]).done();
    assert!(!dir.path().join(".UA.optimized.parquet.optimizing").exists());
}
