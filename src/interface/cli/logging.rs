//! The process's own log, on standard error.

use std::io::{self, IsTerminal};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// What is logged where `RUST_LOG` does not say: ourselves, and what others find worth a warning. Libraries at lower
/// levels write statements and plans, which have no place in a log. The scheduler of a cluster misses, at every stage, the
/// counts of rows that our executors do not tell; and an executor says at every poll that there is no scheduler.
const DEFAULT_FILTER: &str =
    "warn,tollgate=info,ballista_scheduler::state::execution_stage=error,ballista_executor::execution_loop=error";

/// How a line of the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// For eyes.
    Text,
    /// One object a line, for collectors.
    Json,
}

/// Starts the log. `quiet` keeps it to warnings.
pub(super) fn start(format: LogFormat, quiet: bool) {
    let default = if quiet { "warn" } else { DEFAULT_FILTER };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    // A second start, as when tests run several commands in one process, keeps the first log.
    let _ = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    // The usual hook prints the panic's message, which may quote the value that it fell over.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "panicked");
    }));
}
