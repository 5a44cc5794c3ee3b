//! `tollgate ledger`.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::{Value, json};

use super::failure::{Failure, output, say};
use super::listing::{self, ListFormat};
use super::storage::ConfigFile;

/// The ledger in the storage that the configuration names: check it, copy it, let old things go, begin its outside checkpoint
/// anew.
#[derive(Debug, Subcommand)]
pub(super) enum Ledger {
    /// Prove that the ledger agrees with itself, with its log, and with the checkpoint that is kept outside it. A gateway
    /// may run meanwhile.
    #[command(after_help = "Examples:
  tollgate ledger check
  tollgate ledger check --copy /backup/ledger-2026-11-26.db

Exit status: 0 it agrees, 1 it does not (what was found is told).")]
    Check {
        /// Check this copy instead: that it agrees with itself, and is an earlier state of this ledger.
        #[arg(long, value_name = "FILE")]
        copy: Option<PathBuf>,
        /// How the outcome is written.
        #[arg(long, value_enum, default_value_t)]
        format: ListFormat,
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Make a consistent copy, while a gateway runs. PostgreSQL has its own tools for that.
    #[command(after_help = "Example:\n  tollgate ledger backup /backup/ledger-2026-11-26.db")]
    Backup {
        /// The new file; nothing is written over.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Forget what is older than `[retention]` in the configuration says, as a running gateway does once an hour. Without --yes
    /// it is only told how much that is. Charges, answers, policies and the log are never forgotten.
    #[command(after_help = "Examples:
  tollgate ledger forget
  tollgate ledger forget --yes")]
    Forget {
        /// Do it.
        #[arg(long)]
        yes: bool,
        /// How the outcome is written.
        #[arg(long, value_enum, default_value_t)]
        format: ListFormat,
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Begin a new outside checkpoint, where the old file is lost. Stop the gateway first, and be sure that this copy of
    /// the ledger is the newest: nothing can show it any more. It is written into the log.
    #[command(after_help = "Example:\n  tollgate ledger adopt --reason 'the disk with audit.checkpoint has failed'")]
    Adopt {
        /// Why, in one line.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        config: ConfigFile,
    },
}

impl Ledger {
    /// Does it.
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Check { copy, format, config } => check(copy.as_deref(), format, &config).await,
            Self::Backup { file, config } => {
                config.existing().await?.backup(&file).await?;
                say(&format!("copied to {0}; `tollgate ledger check --copy {0}` checks it", file.display()));
                Ok(())
            }
            Self::Forget { yes, format, config } => forget(yes, format, &config).await,
            Self::Adopt { reason, config } => {
                config.existing().await?.adopt(&reason).await?;
                say("a new checkpoint is kept outside the ledger; the gateway may start");
                Ok(())
            }
        }
    }
}

async fn forget(yes: bool, format: ListFormat, config: &ConfigFile) -> Result<(), Failure> {
    let administration = config.existing().await?;
    let found = if yes { administration.forget().await? } else { administration.forgettable().await? };
    if format == ListFormat::Json {
        return listing::output_json(
            &json!({ "done": yes && found.is_some(), "forgotten": found.unwrap_or_default() }),
        );
    }
    let Some(found) = found else {
        return output(b"everything is kept for ever: [retention] in the configuration sets nothing\n");
    };
    let kinds = [
        (found.idempotency_keys, "idempotency keys"),
        (found.budget_requests, "decided budget requests"),
        (found.approvals, "queries that stewards did not allow in time"),
        (found.reservations, "reserved amounts that are over"),
        (found.alerts, "alerts of windows that are over"),
        (found.tokens, "revoked tokens"),
    ];
    let kinds: Vec<String> =
        kinds.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    output(
        match (kinds.is_empty(), yes) {
            (true, _) => "nothing is old enough to be forgotten\n".to_owned(),
            (false, true) => format!("forgotten: {}\n", kinds.join(", ")),
            (false, false) => format!("would be forgotten, with --yes: {}\n", kinds.join(", ")),
        }
        .as_bytes(),
    )
}

async fn check(copy: Option<&Path>, format: ListFormat, config: &ConfigFile) -> Result<(), Failure> {
    let administration = config.existing().await?;
    let (report, missing) = match copy {
        None => (administration.check().await?, Some(0)),
        Some(copy) => {
            let copied = administration.check_copy(copy).await?;
            (copied.report, copied.missing)
        }
    };
    if format == ListFormat::Json {
        let mut document = json!(report);
        if copy.is_some() {
            document["missing"] = missing.map_or(Value::Null, Value::from);
        }
        return listing::output_json(&document);
    }
    let what = copy.map_or_else(|| "the ledger".to_owned(), |copy| copy.display().to_string());
    let standing = match (copy, missing) {
        (None, _) => "it agrees with the checkpoint that is kept outside it".to_owned(),
        (Some(_), Some(0)) => "it has every entry that was signed: it may be restored".to_owned(),
        (Some(_), Some(missing)) => {
            format!(
                "it lacks the last {missing} entries that were signed: an earlier state, which a gateway opens frozen"
            )
        }
        (Some(_), None) => "no checkpoint is kept outside the ledger to compare it with".to_owned(),
    };
    let said = format!(
        "{what} agrees with itself: {} accounts, {} charges with {} lines, {} held releases, {} entries of the log\n{standing}\n",
        report.accounts, report.charges, report.lines, report.held_releases, report.log_entries
    );
    output(said.as_bytes())
}
