//! What goes wrong on the command line, and how it is told.

use std::io::{self, Write};
use std::path::PathBuf;

use serde::Deserialize;
use thiserror::Error;

use super::table::printable;
use crate::audit::key::KeyError;
use crate::cluster::{ExecutorError, SchedulerError, SecretError};
use crate::config::ConfigError;
use crate::demo::DemoError;
use crate::gateway::{GatewayError, Role};
use crate::layout::LayoutError;
use crate::policy::{Fault, NameError};
use crate::stores::StoreError;

/// A refusal of the server's, as RFC 9457 has it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Problem {
    /// The stable code.
    pub(super) code: String,
    /// What happened and where.
    pub(super) detail: String,
    /// What to do next.
    pub(super) hint: Option<String>,
}

/// Why a command did not do what it was asked.
#[derive(Debug, Error)]
pub(super) enum Failure {
    /// The gateway, in this process, refused or failed.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// The server refused or failed.
    #[error("{}", .0.detail)]
    Refused(Problem),
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The demo's data could not be made.
    #[error(transparent)]
    Demo(#[from] DemoError),
    /// Policies are wrong; each was told as it was found.
    #[error("{wrong} {} cannot be used", if *.wrong == 1 { "policy" } else { "policies" })]
    Policies {
        /// How many are wrong.
        wrong: usize,
    },
    /// Files or objects cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Data was not rewritten.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A source that is not in the layout; what it lacks was told.
    #[error("{location} is not in the layout")]
    NotInLayout {
        /// Where it is.
        location: String,
    },
    /// A policy without a privacy unit.
    #[error("{name} is no private dataset: there is no unit to sort by")]
    NoUnit {
        /// The dataset.
        name: String,
    },
    /// An address that is none.
    #[error("--output: {fault}")]
    Output {
        /// What is wrong with it.
        fault: Fault,
    },
    /// A source in a store, and no place to write to.
    #[error("the source is in an object store: name a place with --output")]
    NoOutput,
    /// A draft could not be made.
    #[error("cannot draft a policy for {}: {source}", path.display())]
    Draft {
        /// The Parquet file.
        path: PathBuf,
        /// What is wrong with its name.
        source: NameError,
    },
    /// A file, a socket or a stream failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// The address cannot be listened on.
    #[error("{source}")]
    Bind {
        /// Which, and why not.
        source: io::Error,
    },
    /// There is nothing to serve.
    #[error("every interface is off in the configuration")]
    NothingToServe,
    /// No token was given.
    #[error("no token was given")]
    NoToken,
    /// The address is none.
    #[error("`{url}` is not the address of a gateway")]
    BadUrl {
        /// What was given.
        url: String,
    },
    /// Nobody answers.
    #[error("cannot reach the gateway at {url}: {source}")]
    Unreachable {
        /// Where.
        url: String,
        /// Why not.
        source: Box<ureq::Error>,
    },
    /// Somebody else answers.
    #[error("what answers at {url} is not a gateway of this version")]
    NotAGateway {
        /// Where.
        url: String,
    },
    /// The question has no JSON form.
    #[error("the question cannot be sent: {0}")]
    Request(serde_json::Error),
    /// A report has no form to be written in.
    #[error("the report cannot be written")]
    Report,
    /// Binary output would go to a terminal.
    #[error("an Arrow stream is not for a terminal")]
    ArrowToTerminal,
    /// Evidence is wrong; each fault was told as it was found.
    #[error("{} is not verified", path.display())]
    NotVerified {
        /// The file.
        path: PathBuf,
    },
    /// A token that no server makes.
    #[error("through a gateway, tokens of role analyst alone are made, and not of role {role}")]
    RoleOfAnother {
        /// The role.
        role: Role,
    },
    /// A policy that does not say of which dataset it is.
    #[error("{} does not say which dataset it is of", path.display())]
    NoName {
        /// The file.
        path: PathBuf,
    },
    /// The cluster's secret cannot be had.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The scheduler does not run.
    #[error(transparent)]
    Scheduler(#[from] SchedulerError),
    /// The executor does not run.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    /// There is no public key to verify with.
    #[error("--key: {source}")]
    BadKey {
        /// What is wrong with it.
        source: KeyError,
    },
}

impl Failure {
    /// 2 for wrong usage, 1 for all else.
    pub(super) const fn exit_status(&self) -> u8 {
        match self {
            Self::NoToken
            | Self::BadUrl { .. }
            | Self::ArrowToTerminal
            | Self::BadKey { .. }
            | Self::Output { .. }
            | Self::NoOutput
            | Self::RoleOfAnother { .. } => 2,
            _ => 1,
        }
    }

    /// The stable word for it.
    fn code(&self) -> &str {
        match self {
            Self::Gateway(error) => error.code.as_str(),
            Self::Refused(problem) => &problem.code,
            Self::Config(_) | Self::NothingToServe => "config_invalid",
            Self::Demo(_) => "demo_failed",
            Self::Policies { .. } | Self::Draft { .. } | Self::NoName { .. } | Self::NoUnit { .. } => "policy_invalid",
            Self::Store(_) => "source_unavailable",
            Self::Layout(_) => "optimize_failed",
            Self::NotInLayout { .. } => "not_in_layout",
            Self::Io { .. } => "io",
            Self::Bind { .. } => "address_unavailable",
            Self::NoToken => "unauthenticated",
            Self::BadUrl { .. }
            | Self::ArrowToTerminal
            | Self::BadKey { .. }
            | Self::Output { .. }
            | Self::NoOutput
            | Self::RoleOfAnother { .. }
            | Self::Request(_) => "usage",
            Self::NotVerified { .. } => "not_verified",
            Self::Report => "internal",
            Self::Secret(_) => "secret_unusable",
            Self::Scheduler(_) | Self::Executor(_) => "cluster_failed",
            Self::Unreachable { .. } | Self::NotAGateway { .. } => "unreachable",
        }
    }

    /// What to do next.
    fn hint(&self) -> Option<&str> {
        match self {
            Self::Gateway(error) => error.hint.as_deref(),
            Self::Refused(problem) => problem.hint.as_deref(),
            Self::NothingToServe => Some("set `http` in [server], for example to \"127.0.0.1:8080\""),
            Self::Bind { .. } => Some("choose another address, for example 127.0.0.1:0 for any port that is free"),
            Self::NoToken => {
                Some("set TOLLGATE_TOKEN or give --token; an operator makes one with `tollgate token create`")
            }
            Self::BadUrl { .. } => Some("write http:// and a host, for example http://127.0.0.1:8080"),
            Self::Unreachable { .. } => Some("start one with `tollgate serve`, or give its address with --url"),
            Self::NotAGateway { .. } => Some("check --url (or TOLLGATE_URL)"),
            Self::ArrowToTerminal => Some("redirect it, as in `> answer.arrows`, or choose --format table"),
            Self::NotVerified { .. } => Some(
                "keep the file as it is: it may be evidence itself; ask for another copy, and compare checkpoints with others",
            ),
            Self::BadKey { .. } => {
                Some("give the line NAME+ID+BASE64 that the operator published, or a file with that line alone")
            }
            Self::RoleOfAnother { .. } => {
                Some("leave --url out (and TOLLGATE_URL unset) on the machine that holds the storage")
            }
            Self::NoName { .. } => {
                Some("write `owner` and `name` in [dataset]; `tollgate policy check FILE` names every fault")
            }
            Self::Secret(_) => Some("`tollgate scheduler --secret FILE` makes one; copy it with mode 0600"),
            Self::NotInLayout { .. } => Some("run it without --check"),
            Self::Output { .. } | Self::NoOutput => Some("write --output FOLDER, or --output s3://bucket/prefix/"),
            Self::NoUnit { .. } => Some("a collection's members are rewritten one by one; public tables need no order"),
            Self::Report
            | Self::Scheduler(_)
            | Self::Executor(_)
            | Self::Draft { .. }
            | Self::Store(_)
            | Self::Layout(_)
            | Self::Config(_)
            | Self::Demo(_)
            | Self::Policies { .. }
            | Self::Io { .. }
            | Self::Request(_) => None,
        }
    }

    /// `error[code]: detail` and `hint: …`.
    pub(super) fn render(&self) -> String {
        let lines = |text: &str| text.lines().map(|line| printable(line).into_owned()).collect::<Vec<_>>().join("\n");
        let error = format!("error[{}]: {}\n", printable(self.code()), lines(&self.to_string()));
        let hint = self.hint().map(|hint| format!("hint: {}\n", lines(hint)));
        error + hint.as_deref().unwrap_or_default()
    }

    /// Tells it on standard error.
    pub(super) fn print(&self) {
        if let Self::Io { source, .. } = self
            && source.kind() == io::ErrorKind::BrokenPipe
        {
            // Whoever read our output has gone, as `head` does; there is nothing to complain about.
            return;
        }
        // Where standard error is closed nobody is listening, and the exit status says it all.
        let _ = io::stderr().write_all(self.render().as_bytes());
    }
}

/// Writes `text` to standard output.
pub(super) fn output(text: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text)
        .and_then(|()| stdout.flush())
        .map_err(|source| Failure::Io { what: "cannot write to standard output".to_owned(), source })
}

/// Says `text` on standard error, on a line of its own.
pub(super) fn say(text: &str) {
    // What is said beside an answer is not worth failing for.
    let _ = writeln!(io::stderr().lock(), "{text}");
}
