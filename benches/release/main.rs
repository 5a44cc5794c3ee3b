//! The release against the same query without privacy, and against its bounds written by hand in SQL: ratios, since machines differ.
//!
//! ```text
//! cargo bench --bench release -- --layouts delivered,optimised --workloads W1,W3 --runs 7
//! ```
//!
//! TPC-H's lineitem with its order, customer (the unit) and nation: `TOLLGATE_BENCH_SF` times six million rows (1 by default), made
//! once into `TOLLGATE_BENCH_DIR` (`/tmp/tpch` by default). Times are medians of runs that take turns in one process; the
//! peak of memory is that of a process of its own which asks once, above what it held when the data was open.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

mod check;
mod flat;
mod layout;
mod process;
mod question;
mod workload;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use serde_json::{Value, json};

use layout::Layout;
use question::{Numbers, Question, System, differences};
use workload::{WORKLOADS, Workload};

/// The server's allocator, for all of them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
#[expect(clippy::struct_excessive_bools, reason = "switches of the command line")]
#[command(about = "Measures the release against plain DataFusion and against bounds by hand")]
struct Arguments {
    /// Which workloads, of W1 to W6, filter and join; all by default
    #[arg(long, value_delimiter = ',')]
    workloads: Vec<String>,
    /// Which layouts of the data; all by default
    #[arg(long, value_delimiter = ',', value_enum)]
    layouts: Vec<Layout>,
    /// Who is asked; all by default. Bounds by hand are timed on the first layout only
    #[arg(long, value_delimiter = ',', value_enum)]
    systems: Vec<System>,
    /// Timed runs of each, after one that is not
    #[arg(long, default_value_t = 7)]
    runs: usize,
    /// Memory that an engine may hold, in MiB
    #[arg(long, default_value_t = 2048)]
    memory_mib: usize,
    /// Six million rows times this
    #[arg(long, env = "TOLLGATE_BENCH_SF", default_value_t = 1.0)]
    factor: f64,
    /// Where the data is kept
    #[arg(long, env = "TOLLGATE_BENCH_DIR", default_value = "/tmp/tpch")]
    dir: PathBuf,
    /// Lines of JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Only makes the data
    #[arg(long)]
    generate: bool,
    /// Leaves the memory out
    #[arg(long)]
    no_memory: bool,
    /// Fails where the release costs more beside the plain query than CI allows
    #[arg(long)]
    check: bool,
    /// Only says the SQL of each workload, for other systems, on the first layout
    #[arg(long)]
    sql: bool,
    /// Serves one question on standard input: see `process.rs`
    #[arg(long)]
    worker: bool,
    /// What cargo passes
    #[arg(long, hide = true)]
    bench: bool,
}

impl Arguments {
    fn workloads(&self) -> Vec<Workload> {
        let known = |name: &String| {
            let found = WORKLOADS.iter().find(|workload| workload.name.eq_ignore_ascii_case(name));
            *found.unwrap_or_else(|| panic!("no workload {name}"))
        };
        if self.workloads.is_empty() { WORKLOADS.to_vec() } else { self.workloads.iter().map(known).collect() }
    }

    fn data(&self) -> PathBuf {
        self.dir.join(format!("sf{}", self.factor))
    }

    /// What a process of its own needs beside the question.
    fn passed_on(&self) -> Vec<String> {
        let value = |name: &str, value: String| [name.to_owned(), value];
        [
            value("--factor", self.factor.to_string()),
            value("--dir", self.dir.display().to_string()),
            value("--memory-mib", self.memory_mib.to_string()),
        ]
        .concat()
    }
}

fn main() -> ExitCode {
    let mut arguments = Arguments::parse();
    if arguments.layouts.is_empty() {
        arguments.layouts = Layout::value_variants().to_vec();
    }
    if arguments.systems.is_empty() {
        arguments.systems = System::value_variants().to_vec();
    }
    tokio::runtime::Runtime::new().unwrap().block_on(run(&arguments))
}

async fn run(arguments: &Arguments) -> ExitCode {
    let (dir, memory) = (arguments.data(), arguments.memory_mib << 20);
    if arguments.generate {
        for layout in &arguments.layouts {
            println!("{}", layout.file(&dir, arguments.factor).await.display());
        }
        println!("{}", layout::nations(&dir).display());
        return ExitCode::SUCCESS;
    }
    if arguments.check {
        let system = if arguments.systems == [System::ByHand] { System::ByHand } else { System::Tollgate };
        return check::check(system, &dir, arguments.factor, memory).await;
    }
    let workloads = arguments.workloads();
    if arguments.sql {
        let layout = arguments.layouts[0];
        for workload in workloads {
            let (sql, by_hand) = (workload.sql(layout), workload.by_hand(layout));
            println!("{}", json!({"workload": workload.name, "sql": sql, "by_hand": by_hand}));
        }
        return ExitCode::SUCCESS;
    }
    if arguments.worker {
        let (system, layout) = (arguments.systems[0], arguments.layouts[0]);
        let question = Question::open(system, workloads[0], layout, &dir, arguments.factor, memory).await;
        process::serve(question).await;
        return ExitCode::SUCCESS;
    }
    if !arguments.json {
        println!(
            "`TOLLGATE_BENCH_SF={}`, medians of {} runs, engines of {} MiB",
            arguments.factor, arguments.runs, arguments.memory_mib
        );
    }
    let mut wrong = false;
    for workload in workloads {
        let measured = measure(arguments, workload).await;
        wrong |= measured.iter().any(Measured::is_wrong);
        report(arguments, &workload, &measured);
    }
    // Where an answer is far from what it bounds, its time means nothing.
    if wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// One system on one layout.
struct Measured {
    system: System,
    layout: Layout,
    question: Result<Question, String>,
    seconds: Vec<f64>,
    error: Option<String>,
    numbers: Numbers,
    memory: Option<(u64, u64)>,
    difference: Option<(f64, f64)>,
    /// How far an answer may be in the median: where there are few rows, noise may be all of it.
    tolerance: Option<f64>,
}

impl Measured {
    fn median(&self) -> f64 {
        let mut seconds = self.seconds.clone();
        seconds.sort_by(f64::total_cmp);
        seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN)
    }

    fn is_wrong(&self) -> bool {
        let far = self.tolerance.is_some_and(|tolerance| self.difference.is_none_or(|(median, _)| median > tolerance));
        self.error.is_some() || (self.system == System::Tollgate && far)
    }

    fn fail(&mut self, error: String) {
        eprintln!("{} on {}: {error}", self.system.name(), self.layout.name());
        self.error = Some(error);
    }
}

async fn measure(arguments: &Arguments, workload: Workload) -> Vec<Measured> {
    let (dir, memory) = (arguments.data(), arguments.memory_mib << 20);
    let mut measured = Vec::new();
    for &layout in &arguments.layouts {
        for &system in &arguments.systems {
            if system == System::ByHand && layout != arguments.layouts[0] {
                continue;
            }
            let question = Question::open(system, workload, layout, &dir, arguments.factor, memory).await;
            measured.push(Measured {
                system,
                layout,
                question,
                seconds: Vec::new(),
                error: None,
                numbers: Numbers::new(),
                memory: None,
                difference: None,
                // The noise of W6, whose groups are small, is 7 % in the median at six million rows.
                tolerance: (arguments.factor >= 1.0).then_some(0.25),
            });
        }
    }
    for run in 0..=arguments.runs {
        for one in &mut measured {
            if one.error.is_some() {
                continue;
            }
            let start = Instant::now();
            let answer = match &one.question {
                Ok(question) => question.ask().await.map(|batches| (start.elapsed(), question.numbers(&batches))),
                Err(error) => Err(error.clone()),
            };
            match answer {
                // The first run of each warms the file's pages.
                Ok((_, numbers)) if run == 0 => one.numbers = numbers,
                Ok((took, _)) => one.seconds.push(took.as_secs_f64()),
                Err(error) => one.fail(error),
            }
        }
    }
    compare(arguments, workload, &mut measured).await;
    if !arguments.no_memory {
        for one in measured.iter_mut().filter(|one| one.error.is_none()) {
            match process::peak(one.system, &workload, one.layout, &arguments.passed_on()) {
                Ok(memory) => one.memory = Some(memory),
                Err(error) => one.fail(error),
            }
        }
    }
    measured
}

/// How far each answer is from what it bounds: bounds by hand on the same layout, without noise.
async fn compare(arguments: &Arguments, workload: Workload, measured: &mut [Measured]) {
    let mut bounded: BTreeMap<Layout, Numbers> = BTreeMap::new();
    for one in measured.iter_mut() {
        if let std::collections::btree_map::Entry::Vacant(place) = bounded.entry(one.layout) {
            let by_hand = System::ByHand;
            let (dir, memory) = (arguments.data(), arguments.memory_mib << 20);
            let question = Question::open(by_hand, workload, one.layout, &dir, arguments.factor, memory).await;
            let numbers = match question {
                Ok(question) => question.ask().await.map(|batches| question.numbers(&batches)),
                Err(error) => Err(error),
            };
            place.insert(numbers.unwrap_or_else(|error| {
                eprintln!("by-hand on {}: {error}", one.layout.name());
                Numbers::new()
            }));
        }
        one.difference = differences(&one.numbers, &bounded[&one.layout]);
    }
}

fn report(arguments: &Arguments, workload: &Workload, measured: &[Measured]) {
    let plain = |layout: Option<Layout>| {
        let same = |one: &&Measured| one.system == System::Plain && layout.is_none_or(|layout| one.layout == layout);
        measured.iter().find(same).map_or(f64::NAN, Measured::median)
    };
    if !arguments.json {
        println!("\n{} {}\n", workload.name, workload.title);
        println!(
            "| system | layout | ms | ratio | ratio to plain on the same | MB above baseline | MB in all | median difference | largest |"
        );
        println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    }
    for one in measured {
        let median = one.median();
        let (ratio, ratio_same) = (median / plain(None), median / plain(Some(one.layout)));
        let megabytes = |kib: u64| kib as f64 * 1.024 / 1000.0;
        let memory = one.memory.map(|(all, above)| (megabytes(above), megabytes(all)));
        if arguments.json {
            let number = |number: f64| if number.is_nan() { Value::Null } else { json!(number) };
            let line = json!({
                "workload": workload.name, "title": workload.title, "system": one.system.name(), "layout": one.layout.name(),
                "factor": arguments.factor, "memory_mib": arguments.memory_mib, "median_seconds": number(median),
                "seconds": one.seconds, "ratio": number(ratio), "ratio_same_layout": number(ratio_same),
                "peak_above_mb": memory.map(|memory| memory.0), "peak_mb": memory.map(|memory| memory.1),
                "median_difference": one.difference.map(|found| found.0), "largest_difference": one.difference.map(|found| found.1),
                "groups": one.numbers.len(), "error": one.error,
            });
            println!("{line}");
            continue;
        }
        if let Some(error) = &one.error {
            println!(
                "| {} | {} | failed: {} |",
                one.system.name(),
                one.layout.name(),
                error.lines().next().unwrap_or_default()
            );
            continue;
        }
        let (above, all) = memory.unwrap_or((f64::NAN, f64::NAN));
        let (middle, largest) = one.difference.unwrap_or((f64::NAN, f64::NAN));
        println!(
            "| {} | {} | {:.1} | {ratio:.2} | {ratio_same:.2} | {above:.0} | {all:.0} | {middle:.5} | {largest:.4} |",
            one.system.name(),
            one.layout.name(),
            median * 1000.0,
        );
    }
}
