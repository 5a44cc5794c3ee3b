//! What a question costs beside its scan: 64 clients ask different questions of a tiny dataset, then each its own again, first with
//! a second's thought after each answer, then without; then one client alone. Percentiles of each step, as the gateway's own spans tell
//! them, and of the whole.
//!
//! `cargo bench --bench overhead`. The storage lies in the system's temporary folder (`TMPDIR`): put it on the disk that
//! matters, or in memory (`/dev/shm`) to see what is left without syncs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arrow::array::{Float64Array, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use tollgate::config::{self, Config};
use tollgate::gateway::administration::Administration;
use tollgate::gateway::{Caller, Gateway, Question};
use tollgate::ledger::Role;
use tracing::span::{Attributes, Id};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// That of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CLIENTS: usize = 64;
const LASTS: Duration = Duration::from_secs(10);

/// How long each span was open, by its name.
#[derive(Clone, Default)]
struct Times(Arc<Mutex<BTreeMap<&'static str, Vec<Duration>>>>);

struct Began(Instant);

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Times {
    fn on_new_span(&self, _: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        context.span(id).unwrap().extensions_mut().insert(Began(Instant::now()));
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let span = context.span(&id).unwrap();
        let took = span.extensions().get::<Began>().unwrap().0.elapsed();
        self.0.lock().unwrap().entry(span.name()).or_default().push(took);
    }
}

const POLICY: &str = r#"
[dataset]
owner = "tiny"
name = "visits"
location = "../visits.parquet"
[privacy]
unit = "person"
unit_domain = "person"
max_groups_per_unit = 2
max_rows_per_unit_per_group = 4
[budget]
per_consumer = { epsilon = 10000.0, delta = 1e-3, per = "lifetime" }
all_consumers = { epsilon = 100000.0, delta = 1e-2, per = "lifetime" }
default_query = { epsilon = 0.01 }
query_delta = 1e-9
max_query = { epsilon = 1.0 }
[columns.town]
public_groups = ["a", "b", "c"]
[columns.amount]
bounds = [0, 100]
"#;

fn configuration(folder: &Path) -> Config {
    let column = |name: &str| name.to_owned();
    let batch = RecordBatch::try_from_iter([
        (column("person"), Arc::new(Int64Array::from_iter_values(0..100)) as _),
        (column("town"), Arc::new(StringArray::from_iter_values((0..100).map(|at| ["a", "b", "c"][at % 3]))) as _),
        (column("amount"), Arc::new(Float64Array::from_iter_values((0..100).map(f64::from))) as _),
    ])
    .unwrap();
    let mut writer =
        ArrowWriter::try_new(File::create(folder.join("visits.parquet")).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    std::fs::create_dir(folder.join("policies")).unwrap();
    std::fs::write(folder.join("policies/tiny.visits.toml"), POLICY).unwrap();
    Config {
        storage: config::Storage { url: format!("sqlite://{}", folder.join("tollgate.db").display()) },
        policies: config::Policies { dir: folder.join("policies"), ..config::Policies::default() },
        engine: config::Engine {
            response_quantum_ms: 0,
            max_queued_queries: 10 * CLIENTS,
            max_queued_per_consumer: 10 * CLIENTS,
            ..config::Engine::default()
        },
        audit: config::Audit {
            key: folder.join("audit.key"),
            anchor: folder.join("audit.checkpoint"),
            ..config::Audit::default()
        },
        ..Config::default()
    }
}

fn question(client: usize, at: usize) -> Question {
    let amount = 1.0 + (client * 100_000 + at) as f64 * 1e-6;
    Question {
        sql: format!(
            "SELECT town, count(*) AS n, avg(amount) AS mean FROM tiny.visits WHERE amount > {amount} GROUP BY town ORDER BY n"
        ),
        ..Question::default()
    }
}

/// `clients` ask for a while, each so long after it has its last answer as `thought` says: the one after the other that `next` names by
/// client and count. Prints the rate and the percentiles.
async fn run(
    name: &str,
    gateway: &Arc<Gateway>,
    callers: &[Caller],
    times: &Times,
    thought: Duration,
    next: impl Fn(usize, usize) -> Question + Clone + Send + 'static,
) {
    times.0.lock().unwrap().clear();
    let (begin, share) = (Instant::now(), thought / callers.len() as u32);
    let clients: Vec<_> = callers
        .iter()
        .cloned()
        .enumerate()
        .map(|(client, caller)| {
            let (gateway, next) = (Arc::clone(gateway), next.clone());
            tokio::spawn(async move {
                let mut took = Vec::new();
                tokio::time::sleep(share * client as u32).await;
                while begin.elapsed() < LASTS {
                    let asked = Instant::now();
                    let answer = gateway.ask(&caller, next(client, took.len())).await;
                    let answer = answer.unwrap_or_else(|error| panic!("{:?} {error}", error.code));
                    assert_eq!(answer.rows.unwrap().iter().map(RecordBatch::num_rows).sum::<usize>(), 3);
                    took.push(asked.elapsed());
                    tokio::time::sleep(thought).await;
                }
                took
            })
        })
        .collect();
    let mut whole = Vec::new();
    for client in clients {
        whole.extend(client.await.unwrap());
    }
    let rate = whole.len() as f64 / begin.elapsed().as_secs_f64();
    println!("{name}: {rate:.0} answers/s");
    print("whole", &mut whole);
    for (span, times) in &mut *times.0.lock().unwrap() {
        print(span, times);
    }
}

fn print(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "  {what:14} p50 {:8.3} ms   p90 {:8.3} ms   p99 {:8.3} ms   n {}",
        at(0.5),
        at(0.9),
        at(0.99),
        times.len()
    );
}

fn main() {
    let times = Times::default();
    let of_gateway =
        tracing_subscriber::filter::filter_fn(|of| of.is_span() && of.target().starts_with("tollgate::gateway"));
    let subscriber = tracing_subscriber::registry().with(times.clone().with_filter(of_gateway));
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    runtime.block_on(async {
        let config = configuration(folder.path());
        let administration = Administration::open(&config).await.unwrap();
        let gateway = Gateway::open(&config).await.unwrap();
        let mut callers = Vec::new();
        for client in 0..CLIENTS {
            let name = format!("c{client}");
            administration.add_consumer(&name, None).await.unwrap();
            let token = administration.create_token(Role::Analyst, Some(&name), None).await.unwrap();
            callers.push(gateway.authenticate(&token.secret).await.unwrap());
        }
        let (at_once, second) = (Duration::ZERO, Duration::from_secs(1));
        run("64 clients with thought, new questions", &gateway, &callers, &times, second, question).await;
        let again = |client, _| question(client, 0);
        run("64 clients with thought, each its own again", &gateway, &callers, &times, second, again).await;
        let new = |client, at| question(client, 1_000 + at);
        run("64 clients without, new questions", &gateway, &callers, &times, at_once, new).await;
        run("64 clients without, each its own again", &gateway, &callers, &times, at_once, again).await;
        run("one client, new questions", &gateway, &callers[..1], &times, at_once, |_, at| question(70, at)).await;
        run("one client, its own again", &gateway, &callers[..1], &times, at_once, again).await;
        let dry = |client, _| Question { dry_run: true, ..question(client, 0) };
        let asked = Instant::now();
        for at in 0..200 {
            gateway.ask(&callers[0], dry(0, at)).await.unwrap();
        }
        println!("one client, dry runs: {:.3} ms each", asked.elapsed().as_secs_f64() * 1e3 / 200.0);
    });
}
