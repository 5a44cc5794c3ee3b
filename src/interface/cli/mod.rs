//! The command line (DESIGN 3.1).
//!
//! ```text
//!  query, dataset, approval, budget show, request ─── HTTP ──► a running server
//!  consumer, token, budget, audit ─── with --url ──── HTTP ──► a running server
//!                                 └── without ───── storage ──► the database that the configuration names
//!  ledger ──────────────────────────────────────── storage ──► the same
//!  policy check, policy init, source optimize, audit verify  files, objects ──► nothing else
//!  report ──────────────────────────── HTTP with --url, else storage
//!  serve, demo ──────────────────────────────────────────────► are the server
//!  scheduler, executor ──────────────────────────────────────► are the cluster of a server
//! ```
//!
//! Exit status: 0 done, 1 refused or failed, 2 wrong usage. What a command is asked for goes to standard output; all
//! that is said about it goes to standard error.

mod approval;
mod audit;
mod budget;
mod client;
mod cluster;
mod consumer;
mod dataset;
mod demo;
mod failure;
mod ledger;
mod listing;
mod logging;
mod parquet_files;
mod policy;
mod query;
mod report;
mod serve;
mod source;
mod storage;
mod table;
#[cfg(test)]
mod tests;
mod token;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use failure::Failure;

/// SQL over private data, answered with differential privacy and charged to a ledger.
#[derive(Debug, Parser)]
#[command(name = "tollgate", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "Example:\n  tollgate demo --once")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway.
    Serve(serve::Serve),
    /// Make sample companies and run the gateway on them.
    Demo(demo::Demo),
    /// Run the scheduler of a cluster that reads and bounds rows for a gateway.
    Scheduler(cluster::SchedulerCommand),
    /// Run an executor of such a cluster.
    Executor(cluster::ExecutorCommand),
    /// Ask a question of a running gateway.
    Query(query::Query),
    /// Check and draft policy files.
    #[command(subcommand)]
    Policy(policy::Policy),
    /// Rewrite a company's Parquet so that it is read faster.
    #[command(subcommand)]
    Source(source::Source),
    /// Look at the datasets of a running gateway; register, change, suspend and withdraw one's own.
    #[command(subcommand)]
    Dataset(dataset::Dataset),
    /// Decide about queries that wait for a steward.
    #[command(subcommand)]
    Approval(approval::Approval),
    /// Add, list and freeze consumers.
    #[command(subcommand)]
    Consumer(consumer::Consumer),
    /// Make and revoke tokens.
    #[command(subcommand)]
    Token(token::Token),
    /// Show, grant, ask for and decide about budgets.
    #[command(subcommand)]
    Budget(budget::Budget),
    /// Report what was spent, what is left and what is owed.
    #[command(subcommand)]
    Report(report::Report),
    /// Read, export and verify the log of decisions.
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Check and copy the ledger.
    #[command(subcommand)]
    Ledger(ledger::Ledger),
}

/// Runs the command that `arguments` name, the program's own name first. Prints failures on standard error.
pub fn run<I, T>(arguments: I) -> ExitCode
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too, for standard output; there is nothing to do where that is closed.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match dispatch(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            ExitCode::from(failure.exit_status())
        }
    }
}

fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(command) => block_on(command.run()),
        Command::Demo(command) => command.run(),
        Command::Scheduler(command) => block_on(command.run()),
        Command::Executor(command) => block_on(command.run()),
        Command::Query(command) => command.run(),
        Command::Policy(command) => command.run(),
        Command::Source(command) => block_on(command.run()),
        Command::Dataset(command) => command.run(),
        Command::Consumer(command) => block_on(command.run()),
        Command::Token(command) => block_on(command.run()),
        Command::Budget(command) => block_on(command.run()),
        Command::Approval(command) => command.run(),
        Command::Audit(command) => block_on(command.run()),
        Command::Ledger(command) => block_on(command.run()),
        Command::Report(command) => block_on(command.run()),
    }
}

fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|source| Failure::Io { what: "cannot start the runtime".to_owned(), source })?;
    runtime.block_on(work)
}
