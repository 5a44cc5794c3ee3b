//! The small form that CI runs: the release must not cost more, beside the plain query, than it did.
//!
//! A ratio of processor time in one process, so that neither the machine nor what else runs on it decides: median of pairs
//! that take turns, and a workload is given up only when several such medians pass its limit. Instructions would be steadier,
//! but virtual machines count none. What it runs on is the data of `--factor`, which CI makes small.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use super::layout::Layout;
use super::question::{Question, System};
use super::workload::WORKLOADS;

/// What the release may cost at most, times the plain query on the file as delivered: about twice what it costs at 300,000 rows
/// where our own code is not optimised and what it calls is, as in CI (docs/benchmarks.md has what was measured). They are to
/// be lowered with it.
const LIMITS: [(&str, Layout, f64); 9] = [
    ("W1", Layout::Delivered, 13.0),
    ("W1", Layout::Optimised, 7.0),
    ("W2", Layout::Delivered, 6.0),
    ("W3", Layout::Delivered, 14.0),
    ("W3", Layout::Optimised, 7.0),
    ("W4", Layout::Delivered, 8.0),
    ("W5", Layout::Optimised, 28.0),
    ("W6", Layout::Delivered, 11.0),
    ("W6", Layout::Optimised, 9.0),
];

const PAIRS: usize = 7;

/// Medians that must all be past a limit.
const ATTEMPTS: usize = 3;

/// Checks each limit; fails when one is passed. `system` is the release, or bounds by hand, to see the check fail.
pub async fn check(system: System, dir: &Path, factor: f64, memory: usize) -> ExitCode {
    let mut failed = false;
    println!("| workload | layout | processor time to plain | limit |\n| --- | --- | --- | --- |");
    for (name, layout, limit) in LIMITS {
        let ratio = match least(system, name, layout, dir, factor, memory, limit).await {
            Ok(ratio) => ratio,
            Err(error) => {
                println!("| {name} | {} | failed: {error} |", layout.name());
                failed = true;
                continue;
            }
        };
        let verdict = if ratio > limit { " passed |" } else { "" };
        println!("| {name} | {} | {ratio:.2} | {limit} |{verdict}", layout.name());
        failed |= ratio > limit;
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The least median of so many attempts, or the first that is within the limit.
async fn least(
    system: System,
    name: &str,
    layout: Layout,
    dir: &Path,
    factor: f64,
    memory: usize,
    limit: f64,
) -> Result<f64, String> {
    let workload = *WORKLOADS.iter().find(|workload| workload.name == name).ok_or("no such workload")?;
    let plain = Question::open(System::Plain, workload, Layout::Delivered, dir, factor, memory).await?;
    let asked = Question::open(system, workload, layout, dir, factor, memory).await?;
    let mut least = f64::INFINITY;
    for _ in 0..ATTEMPTS {
        let mut ratios = Vec::new();
        for pair in 0..=PAIRS {
            let (without, with) = (cost(&plain).await?, cost(&asked).await?);
            // The first pair warms both.
            if pair > 0 {
                ratios.push(with / without);
            }
        }
        ratios.sort_by(f64::total_cmp);
        least = least.min(ratios[PAIRS / 2]);
        if least <= limit {
            break;
        }
    }
    Ok(least)
}

async fn cost(question: &Question) -> Result<f64, String> {
    let before = processor_nanoseconds()?;
    question.ask().await?;
    let spent = processor_nanoseconds()?.saturating_sub(before);
    // A thread that has ended took its time with it; threads here live longer than a question.
    if spent == 0 { Err("no processor time was counted".to_owned()) } else { Ok(spent as f64) }
}

/// What all threads of this process have spent on a processor.
fn processor_nanoseconds() -> Result<u64, String> {
    let mut sum = 0;
    for task in fs::read_dir("/proc/self/task").map_err(|error| error.to_string())? {
        let path = task.map_err(|error| error.to_string())?.path().join("schedstat");
        // It may have ended since it was listed.
        let Ok(text) = fs::read_to_string(path) else { continue };
        sum += text.split(' ').next().and_then(|first| first.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(sum)
}
