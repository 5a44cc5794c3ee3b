//! The command line (DESIGN 3.1).
//!
//! ```text
//!  query, dataset list, budget show ───────────────── HTTP ──► a running server
//!  consumer, token, budget set ─────────────────── storage ──► the database that the configuration names
//!  policy check, policy init, audit verify ───────── files ──► nothing else
//!  report ──────────────────────────── HTTP with --url, else storage
//!  serve, demo ──────────────────────────────────────────────► are the server
//! ```
//!
//! Exit status: 0 done, 1 refused or failed, 2 wrong usage. What a command is asked for goes to standard output; all
//! that is said about it goes to standard error.

mod audit;
mod budget;
mod client;
mod consumer;
mod dataset;
mod demo;
mod failure;
mod logging;
mod parquet_files;
mod policy;
mod query;
mod report;
mod serve;
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
    /// Ask a question of a running gateway.
    Query(query::Query),
    /// Check and draft policy files.
    #[command(subcommand)]
    Policy(policy::Policy),
    /// Look at the datasets of a running gateway.
    #[command(subcommand)]
    Dataset(dataset::Dataset),
    /// Add, list and freeze consumers in the storage.
    #[command(subcommand)]
    Consumer(consumer::Consumer),
    /// Make and revoke tokens in the storage.
    #[command(subcommand)]
    Token(token::Token),
    /// Show and grant budgets.
    #[command(subcommand)]
    Budget(budget::Budget),
    /// Report what was spent, what is left and what is owed.
    #[command(subcommand)]
    Report(report::Report),
    /// Check the log of decisions.
    #[command(subcommand)]
    Audit(audit::Audit),
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
        Command::Query(command) => command.run(),
        Command::Policy(command) => command.run(),
        Command::Dataset(command) => command.run(),
        Command::Consumer(command) => block_on(command.run()),
        Command::Token(command) => block_on(command.run()),
        Command::Budget(command) => block_on(command.run()),
        Command::Report(command) => block_on(command.run()),
        Command::Audit(command) => command.run(),
    }
}

fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|source| Failure::Io { what: "cannot start the runtime".to_owned(), source })?;
    runtime.block_on(work)
}
