//! `tollgate demo`.

mod paste;
mod progress;
#[cfg(test)]
mod tests;

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use paste::{program, what_to_try};
use progress::Bars;

use super::client::{AnswerView, Client, Form};
use super::failure::{Failure, output, say};
use super::logging::{self, LogFormat};
use super::{block_on, query, serve};
use crate::config::Config;
use crate::demo::{self, DemoQuery, Manifest, PolicyState, QUERIES, Rows};
use crate::gateway::Role;
use crate::gateway::administration::Administration;
use crate::gateway::{Gateway, Question};
use crate::interface::http::{self, Limits};

/// The seed of the demo's data, where no other is asked for.
const SEED: u64 = 2013;
/// The consumer in whose name the demo asks.
const CONSUMER: &str = "planning-office";
/// The owner whose steward gets a token.
const OWNER: &str = "velo";
/// The agency that the consumer belongs to.
const AGENCY: &str = "city-hall";
/// Where the demo listens, if it stays.
const ADDRESS: &str = "127.0.0.1:8080";
/// Where it listens to ask itself one question: anywhere.
const ANY_ADDRESS: &str = "127.0.0.1:0";
/// The configuration's name in the demo's directory.
const CONFIG_FILE: &str = "tollgate.toml";
/// The configuration that the demo writes.
const CONFIG: &str = "\
# Written by `tollgate demo`. `tollgate serve --config` with this file serves the same companies.

[server]
http = \"127.0.0.1:8080\"

[storage]
url = \"sqlite://tollgate.db\"

[policies]
dir = \"policies\"

# From here the stewards of Velo may register more data while the gateway runs.
[policies.locations]
velo = [\"data/velo\"]

# The log of decisions: the key that signs it, and the file that always has its newest checkpoint. Keep that file on
# another disk than the storage: a storage that does not agree with it is not served.
[audit]
key = \"audit.key\"
name = \"tollgate-demo\"
anchor = \"audit.checkpoint\"
";

/// Makes sample companies' Parquet, policies, a consumer and a token, runs the gateway on them, and says what to try.
///
/// A directory that a demo made before is taken up again: its data, policies, consumers and budgets stay, and there is
/// a new token.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tollgate demo --once                      # make the data, ask one question, print the answer
  tollgate demo --dir /tmp/demo --rows 100000 --http 127.0.0.1:0")]
pub(super) struct Demo {
    /// Where everything is put.
    #[arg(long, value_name = "DIR", default_value = "tollgate-demo")]
    dir: PathBuf,
    /// How many rows there are in all: two million, or as many as the directory has.
    #[arg(long, value_name = "N")]
    rows: Option<u64>,
    /// What the data is made from: the same seed makes the same data.
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Where to listen; 127.0.0.1:8080, or with --once any port that is free.
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// Ask the first query, print the answer and stop.
    #[arg(long)]
    once: bool,
}

impl Demo {
    /// Makes what is missing, and serves it.
    pub(super) fn run(self) -> Result<(), Failure> {
        logging::start(LogFormat::Text, true);
        self.make()?;
        block_on(self.serve())
    }

    /// The data, the policies and the configuration.
    fn make(&self) -> Result<(), Failure> {
        let found = Manifest::read(&self.dir)?;
        let seed = self.seed.or(found.as_ref().map(|found| found.seed)).unwrap_or(SEED);
        let rows = self.rows.map(Rows::of_total).or(found.map(|found| found.rows)).unwrap_or_default();
        let bars = Bars::default();
        let made = demo::generate(&self.dir, seed, rows, &|table, done, all| bars.tell(table, done, all));
        bars.clear();
        let made = made?;
        let total: u64 = made.files.iter().map(|file| file.rows).sum();
        let verb = if made.kept { "kept" } else { "made" };
        say(&format!("{verb} {} tables of {total} rows in {}", made.files.len(), self.dir.display()));
        for policy in demo::write_policies(&self.dir)? {
            if policy.state == PolicyState::KeptChanged {
                say(&format!("kept {} as you changed it", policy.path.display()));
            }
        }
        write_config(&self.dir.join(CONFIG_FILE))
    }

    /// The consumer, the token and the server.
    async fn serve(self) -> Result<(), Failure> {
        let config = Config::load(Some(&self.dir.join(CONFIG_FILE)))?;
        let address = match (self.http.clone(), self.once) {
            (Some(address), _) => address,
            (None, true) => ANY_ADDRESS.to_owned(),
            (None, false) => {
                config.server.http_address().map_or_else(|| ADDRESS.to_owned(), |address| address.to_string())
            }
        };
        let listener = serve::bind(&address).await?;
        let tokens = enrol(&config).await?;
        let gateway = Gateway::open(&config).await?;
        let limits = Limits::for_sql(config.engine.max_sql_bytes);
        let url = serve::announce(&listener)?;
        if self.once {
            return ask_once(gateway, listener, limits, url, tokens.analyst).await;
        }
        output(what_to_try(&url, &tokens, &self.dir, &program()).as_bytes())?;
        let served = http::serve(Arc::clone(&gateway), listener, limits, http::shutdown_signal()).await;
        serve::end(&gateway, served).await
    }
}

fn stopped(source: io::Error) -> Failure {
    Failure::Io { what: "the HTTP server stopped".to_owned(), source }
}

fn write_config(path: &Path) -> Result<(), Failure> {
    let file = fs::File::create_new(path);
    match file.and_then(|mut file| io::Write::write_all(&mut file, CONFIG.as_bytes())) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(Failure::Io { what: format!("cannot write {}", path.display()), source }),
    }
}

/// New tokens, one for each of the people of the demo.
struct Tokens {
    analyst: String,
    steward: String,
    administrator: String,
    auditor: String,
}

/// The consumer, if it is not there yet, and new tokens.
async fn enrol(config: &Config) -> Result<Tokens, Failure> {
    let administration = Administration::open(config).await?;
    if !administration.consumers().await?.iter().any(|consumer| consumer.name == CONSUMER) {
        administration.add_consumer(CONSUMER, Some(AGENCY)).await?;
    }
    Ok(Tokens {
        analyst: administration.create_token(Role::Analyst, Some(CONSUMER), None).await?.secret,
        steward: administration.create_token(Role::Steward, None, Some(OWNER)).await?.secret,
        administrator: administration.create_token(Role::BudgetAdmin, None, None).await?.secret,
        auditor: administration.create_token(Role::Auditor, None, None).await?.secret,
    })
}

/// Asks the first of the queries as anybody would, through HTTP, and prints the answer.
async fn ask_once(
    gateway: Arc<Gateway>,
    listener: TcpListener,
    limits: Limits,
    url: String,
    token: String,
) -> Result<(), Failure> {
    let (stop, asked) = oneshot::channel::<()>();
    let shutdown = async move {
        // Sent or dropped, it means the same: nothing more will be asked.
        let _ = asked.await;
    };
    let server = tokio::spawn(http::serve(Arc::clone(&gateway), listener, limits, shutdown));
    let client = move || ask(&url, &token, &QUERIES[0]);
    let answer = tokio::task::spawn_blocking(client).await.unwrap_or_else(|lost| Err(stopped(io::Error::other(lost))));
    drop(stop);
    serve::end(&gateway, server.await.unwrap_or_else(|lost| Err(io::Error::other(lost)))).await?;
    query::print(&answer?)
}

fn ask(url: &str, token: &str, query: &DemoQuery) -> Result<AnswerView, Failure> {
    say(&format!("\n{}, at ε = {}:\n\n{}\n", query.title, query.epsilon, query.sql));
    let question = Question {
        sql: query.sql.to_owned(),
        epsilon: Some(query.epsilon),
        purpose: query.purpose.map(str::to_owned),
        with_error_columns: true,
        ..Question::default()
    };
    let reply = Client::new(url, token)?.ask(&question, Form::Json)?;
    serde_json::from_slice(&reply.body).map_err(|_| Failure::NotAGateway { url: url.to_owned() })
}
