//! `tollgate source`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use clap::{Args, Subcommand, ValueEnum};
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};

use super::failure::{Failure, output, say};
use super::storage::ConfigFile;
use crate::layout::{self, Codec, Distance, Form, Goal, Origin, Outcome, Progress, Stage};
use crate::policy::{DatasetPolicy, ObjectAddress, PolicyFile, check_against_schema, load_file};
use crate::stores::Stores;

/// A company's own data, on the company's side: no gateway is needed.
#[derive(Debug, Subcommand)]
pub(super) enum Source {
    /// Rewrite a dataset's Parquet sorted by its privacy unit, in row groups of whole units. The original is not touched until
    /// the new files are whole and found to hold the same rows, and it is kept.
    #[command(after_help = "Examples:
  tollgate source optimize policies/united.flights.toml --check
  tollgate source optimize policies/united.flights.toml                  # beside the original
  tollgate source optimize policies/united.flights.toml --output s3://bucket/flights/
  tollgate source optimize policies/united.flights.toml --replace        # the original is kept beside it
  tollgate source optimize policies/united.flights.toml --discard-original")]
    Optimize(Optimize),
}

/// What is done with a source.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
#[derive(Debug, Args)]
pub(super) struct Optimize {
    /// The policy of the dataset, which says where the data is and what its unit is.
    #[arg(value_name = "POLICY.toml")]
    policy: PathBuf,
    /// Where the new files go: a file or folder that is not there yet, or an `s3://` address under which there is nothing.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["replace", "check"])]
    output: Option<String>,
    /// Put the new files in the place of the original, in one step. The original is kept under `.before-optimize`.
    #[arg(long, conflicts_with = "check")]
    replace: bool,
    /// Remove the original that was kept: after this `--replace`, or after an earlier one.
    #[arg(long, conflicts_with_all = ["output", "check"])]
    discard_original: bool,
    /// Say how far the source is from the layout, and write nothing. Exit status 1 where it is not in it.
    #[arg(long)]
    check: bool,
    /// Leave out rows whose unit is NULL. No query reads them; without this they are kept, at the end.
    #[arg(long)]
    drop_null_units: bool,
    /// How pages are compressed.
    #[arg(long, value_enum, default_value_t)]
    compression: Compression,
    /// The memory that the sort holds, in mebibytes; beyond, it spills beside the new files.
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(64..=1_048_576))]
    memory_limit_mb: u64,
    /// The most rows of a row group.
    #[arg(long, value_name = "ROWS", default_value_t = 131_072, value_parser = clap::value_parser!(u64).range(1..=16_777_216))]
    row_group_rows: u64,
    /// The size after which another file begins, in mebibytes, where the source has several.
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    file_size_mb: u64,
    #[command(flatten)]
    config: ConfigFile,
}

/// How pages are compressed.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Compression {
    /// Zstandard: the smallest.
    #[default]
    Zstd,
    /// Snappy.
    Snappy,
    /// None.
    None,
}

impl Source {
    /// Does it.
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Optimize(optimize) => optimize.run().await,
        }
    }
}

impl Optimize {
    async fn run(self) -> Result<(), Failure> {
        let policy = private(&self.policy)?;
        let addresses = std::iter::once(policy.location.as_str()).chain(self.output.as_deref());
        let remote = addresses.into_iter().find(|location| ObjectAddress::is_one(location));
        let stores = self.config.stores(remote.unwrap_or_default())?;
        let origin = tokio::task::block_in_place(|| origin(&stores, &policy))?;
        let form = self.form();
        if self.check {
            let distance = tokio::task::block_in_place(|| layout::check(&stores, &origin, &form))?;
            tell(&distance)?;
            return if distance.is_in_layout() {
                Ok(())
            } else {
                Err(Failure::NotInLayout { location: origin.location })
            };
        }
        if self.discard_original && !self.replace {
            return discard(&stores, &origin, &form);
        }
        let goal = match (self.replace, self.output) {
            (true, _) => Goal::Replace,
            (false, Some(place)) if ObjectAddress::is_one(&place) => {
                Goal::Objects(ObjectAddress::parse(&place).map_err(|fault| Failure::Output { fault })?)
            }
            (false, Some(place)) => Goal::New(place.into()),
            (false, None) => Goal::New(layout::usual_goal(&origin).ok_or(Failure::NoOutput)?),
        };
        let replaces = goal == Goal::Replace;
        let bars = Bars::new();
        let done = layout::optimize(&stores, origin.clone(), goal, form.clone(), bars.progress()).await;
        bars.clear();
        tell_outcome(&done?, replaces)?;
        if self.discard_original {
            let origin = tokio::task::block_in_place(|| self::origin(&stores, &policy))?;
            discard(&stores, &origin, &form)?;
        }
        Ok(())
    }

    fn form(&self) -> Form {
        Form {
            row_group_rows: usize::try_from(self.row_group_rows).unwrap_or(usize::MAX),
            file_bytes: self.file_size_mb << 20,
            codec: match self.compression {
                Compression::Zstd => Codec::Zstd,
                Compression::Snappy => Codec::Snappy,
                Compression::None => Codec::None,
            },
            drop_rows_without_unit: self.drop_null_units,
            memory_bytes: usize::try_from(self.memory_limit_mb << 20).unwrap_or(usize::MAX),
        }
    }
}

fn private(path: &Path) -> Result<DatasetPolicy, Failure> {
    match load_file(path) {
        Ok(PolicyFile::Private(policy)) => Ok(policy),
        Ok(other) => Err(Failure::NoUnit { name: other.name().to_string() }),
        Err(errors) => Err(refused(&errors)),
    }
}

fn refused(errors: &crate::policy::PolicyErrors) -> Failure {
    for problem in errors.problems() {
        say(&format!("error: {problem}"));
    }
    Failure::Policies { wrong: 1 }
}

/// The files as they are now, held against the policy. Blocking I/O.
fn origin(stores: &Stores, policy: &DatasetPolicy) -> Result<Origin, Failure> {
    let files = stores.list(&policy.location)?;
    for footer in stores.footers(&files)? {
        check_against_schema(policy, footer.metadata.schema()).map_err(|errors| refused(&errors))?;
    }
    Ok(Origin {
        location: policy.location.clone(),
        files,
        unit: policy.privacy.unit.clone(),
        then_by: policy.privacy.epochs.as_ref().map(|epochs| epochs.column.clone()),
    })
}

fn discard(stores: &Stores, origin: &Origin, form: &Form) -> Result<(), Failure> {
    let removed = tokio::task::block_in_place(|| layout::discard_original(stores, origin, form))?;
    say(&format!("the original at {} was removed", removed.display()));
    Ok(())
}

fn tell(distance: &Distance) -> Result<(), Failure> {
    let Distance { files, rows, bytes, row_groups, .. } = distance;
    let mut told =
        format!("{} rows in {files} files of {row_groups} row groups, {}\n", HumanCount(*rows), HumanBytes(*bytes));
    for (count, what) in [
        (distance.files_not_sorted, "files do not say that they are sorted by the unit"),
        (distance.groups_out_of_order, "row groups begin among the units of the group before"),
        (distance.groups_unknown, "row groups do not say which units they hold"),
        (distance.groups_too_large, "row groups have more rows than --row-group-rows"),
        (distance.plain_strings, "string columns are read without a dictionary (those of many values always are)"),
    ] {
        if count > 0 {
            told.extend([count.to_string().as_str(), " ", what, "\n"]);
        }
    }
    told.push_str(if distance.is_in_layout() { "in the layout\n" } else { "not in the layout\n" });
    output(told.as_bytes())
}

fn tell_outcome(outcome: &Outcome, replaces: bool) -> Result<(), Failure> {
    let without_unit = outcome.read.of_none.rows;
    say(&format!(
        "{} rows read, {} written; {} files became {}; {} became {}",
        HumanCount(outcome.read.of_units.rows + without_unit),
        HumanCount(outcome.rows_written),
        outcome.files_before,
        outcome.files_after,
        HumanBytes(outcome.bytes_before),
        HumanBytes(outcome.bytes_after),
    ));
    if without_unit > 0 {
        say(&format!("{} rows have no unit: no query reads them", HumanCount(without_unit)));
    }
    if !outcome.dictionaries.is_empty() {
        say(&format!("with a dictionary: {}", outcome.dictionaries.join(", ")));
    }
    if let Some(kept) = &outcome.kept {
        say(&format!("the original is kept at {}; --discard-original removes it", kept.display()));
    }
    if replaces {
        return Ok(());
    }
    say("the original is as it was; in the policy, under [dataset], write");
    output(format!("location = {}\n", toml::Value::String(outcome.location.clone())).as_bytes())
}

/// One bar, of what is being done. Draws on a terminal alone.
struct Bars {
    current: Arc<Mutex<Option<(Stage, ProgressBar)>>>,
}

impl Bars {
    fn new() -> Self {
        Self { current: Arc::default() }
    }

    /// What the work tells how far it is.
    fn progress(&self) -> Progress {
        let current = Arc::clone(&self.current);
        Arc::new(move |stage, done, all| {
            let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
            if current.as_ref().is_none_or(|(shown, _)| *shown != stage) {
                if let Some((_, finished)) = current.take() {
                    finished.finish_and_clear();
                }
                let word = match stage {
                    Stage::Reading => "reading",
                    Stage::Writing => "sorting, writing",
                    Stage::Checking => "reading back",
                    Stage::Sending => "sending files",
                };
                let style = ProgressStyle::with_template("{msg:16} {wide_bar} {human_pos}/{human_len}")
                    .unwrap_or_else(|_| ProgressStyle::default_bar());
                *current = Some((stage, ProgressBar::new(all).with_style(style).with_message(word)));
            }
            if let Some((_, bar)) = current.as_ref() {
                bar.set_position(done);
            }
        })
    }

    /// Takes the bar away.
    fn clear(&self) {
        if let Some((_, bar)) = self.current.lock().unwrap_or_else(PoisonError::into_inner).take() {
            bar.finish_and_clear();
        }
    }
}
