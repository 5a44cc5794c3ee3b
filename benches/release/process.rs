//! What the kernel says of a process's memory, and a question asked in a process of its own, so that its peak is its own.
//!
//! The protocol of such a process, which the other tools' workers in `benches/compare` speak too: it opens the data and writes
//! a line `{"ready": true, …}`; for each line that it reads, it asks once and writes `{"seconds": …, "peak_kib": …}`, with
//! the answer's numbers where the line is `answer`; it ends with its input.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use super::layout::Layout;
use super::question::{Question, System};
use super::workload::Workload;

/// A line of `/proc/self/status`, in KiB.
fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap_or(0)
}

/// Serves one question until the input ends.
pub async fn serve(question: Result<Question, String>) {
    let question = match question {
        Ok(question) => question,
        Err(error) => return say(&json!({"error": error})),
    };
    say(&json!({"ready": true, "rss_kib": status("VmRSS")}));
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let start = Instant::now();
        let answer = question.ask().await;
        let seconds = start.elapsed().as_secs_f64();
        let mut said = json!({"seconds": seconds, "peak_kib": status("VmHWM")});
        match answer {
            Ok(batches) if line == "answer" => said["numbers"] = json!(question.numbers(&batches)),
            Ok(_) => {}
            Err(error) => said = json!({"error": error}),
        }
        say(&said);
    }
}

fn say(line: &Value) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).unwrap();
}

/// Peak memory in KiB of a process that asks once: in all, and above what it held before. With it, what went wrong.
pub fn peak(system: System, workload: &Workload, layout: Layout, arguments: &[String]) -> Result<(u64, u64), String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--worker", "--systems", &system.name(), "--workloads", workload.name, "--layouts", &layout.name()])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || -> Result<Value, String> {
        let line = lines.next().ok_or("the process ended")?.map_err(|error| error.to_string())?;
        let said: Value = serde_json::from_str(&line).map_err(|error| error.to_string())?;
        said["error"].as_str().map_or(Ok(said.clone()), |error| Err(error.to_owned()))
    };
    let found = next().and_then(|ready| {
        writeln!(input, "run").map_err(|error| error.to_string())?;
        let peak = next()?["peak_kib"].as_u64().unwrap_or(0);
        Ok((peak, peak.saturating_sub(ready["rss_kib"].as_u64().unwrap_or(0))))
    });
    drop(input);
    child.wait().unwrap();
    found
}
