//! `tollgate policy`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::failure::{Failure, output, say};
use super::parquet_files;
use super::storage::ConfigFile;
use crate::policy::{
    DatasetName, DatasetPolicy, ObjectAddress, PolicyErrors, PolicyFile, check_against_schema, draft, load_dir,
    load_file,
};

/// The longest owner or name, in bytes, that is made from a file's name.
const MAX_GUESS_BYTES: usize = 63;

/// Policy files.
#[derive(Debug, Subcommand)]
pub(super) enum Policy {
    /// Check policy files against the grammar, and against the schemas of the Parquet that they name.
    #[command(after_help = "Examples:
  tollgate policy check policies/united.flights.toml
  tollgate policy check policies            # a folder: what must hold between its files, too")]
    Check {
        /// Policy files, or folders of them.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Draft a policy from the schema of Parquet alone. The draft goes to standard output.
    #[command(after_help = "Examples:
  tollgate policy init data/flights.parquet --owner united --name flights > policies/united.flights.toml
  tollgate policy init s3://bucket/flights/ --owner united --name flights > policies/united.flights.toml")]
    Init {
        /// The Parquet: a file, a folder, a glob or an `s3://` address.
        #[arg(value_name = "DATA.parquet")]
        data: String,
        /// Whose data it is; `company` until you say.
        #[arg(long, value_name = "OWNER", default_value = "company")]
        owner: String,
        /// What SQL calls it; by default, made from the file's name.
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        #[command(flatten)]
        config: ConfigFile,
    },
}

impl Policy {
    /// Does it.
    pub(super) fn run(self) -> Result<(), Failure> {
        match self {
            Self::Check { files, config } => check(&files, &config),
            Self::Init { data, owner, name, config } => init(&data, &owner, name, &config),
        }
    }
}

/// Looks at every file, whatever is wrong with the others, and tells all of it.
fn check(paths: &[PathBuf], config: &ConfigFile) -> Result<(), Failure> {
    let mut wrong = BTreeSet::new();
    for path in paths {
        let loaded = if path.is_dir() { load_dir(path) } else { load_file(path).map(|file| vec![file]) };
        match loaded {
            Ok(files) => {
                if files.is_empty() {
                    say(&format!("warning: {} holds no policy", path.display()));
                }
                for file in &files {
                    match check_data(file, config) {
                        Ok(verdict) => {
                            output(format!("{}: {verdict}\n", file.name()).as_bytes())?;
                            if let Some(guarantee) = guarantee_by_epoch(file) {
                                output(format!("{}: {guarantee}\n", file.name()).as_bytes())?;
                            }
                        }
                        Err(CheckFailure::Policy(errors)) => tell(&errors, &mut wrong),
                        Err(CheckFailure::Data(failure)) => {
                            wrong.insert(file.name().to_string());
                            say(&format!("error: {}: {failure}", file.name()));
                        }
                    }
                }
            }
            Err(errors) => tell(&errors, &mut wrong),
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(Failure::Policies { wrong: wrong.len() }) }
}

/// What is promised, in words, where that is per unit and epoch: less than an owner may think of first.
fn guarantee_by_epoch(file: &PolicyFile) -> Option<String> {
    match file {
        PolicyFile::Private(policy) => policy.privacy.epochs.as_ref().map(|_| policy.privacy.guarantee()),
        PolicyFile::Public(_) | PolicyFile::Collection(_) => None,
    }
}

fn tell(errors: &PolicyErrors, wrong: &mut BTreeSet<String>) {
    for problem in errors.problems() {
        wrong.insert(problem.file.display().to_string());
        say(&format!("error: {problem}"));
    }
}

/// Why a file that reads well is wrong all the same.
enum CheckFailure {
    /// It does not fit its data.
    Policy(PolicyErrors),
    /// Its data cannot be read.
    Data(Failure),
}

/// Holds a policy against its data, tells the warnings, and says in a word how it stands.
fn check_data(file: &PolicyFile, config: &ConfigFile) -> Result<&'static str, CheckFailure> {
    let location = match file {
        PolicyFile::Collection(_) => return Ok("reads well; members are checked with the folder that they are in"),
        PolicyFile::Private(policy) => &policy.location,
        PolicyFile::Public(table) => &table.location,
    };
    let schemas = config.stores(location).and_then(|stores| parquet_files::schemas(&stores, location));
    let mut warnings = BTreeSet::new();
    for schema in schemas.map_err(CheckFailure::Data)? {
        if let PolicyFile::Private(policy) = file {
            warnings.extend(fits(policy, &schema)?);
        }
    }
    for warning in warnings {
        say(&format!("warning: {warning}"));
    }
    Ok("fine")
}

fn fits(policy: &DatasetPolicy, schema: &arrow::datatypes::Schema) -> Result<Vec<String>, CheckFailure> {
    let warnings = check_against_schema(policy, schema).map_err(CheckFailure::Policy)?;
    Ok(warnings.iter().map(ToString::to_string).collect())
}

fn init(data: &str, owner: &str, name: Option<String>, config: &ConfigFile) -> Result<(), Failure> {
    let path = Path::new(data);
    let name = name.unwrap_or_else(|| guess(path));
    let name = DatasetName::new(owner, &name).map_err(|source| Failure::Draft { path: path.to_owned(), source })?;
    let schema = parquet_files::schema(&config.stores(data)?, data)?;
    let location = if ObjectAddress::is_one(data) {
        data.to_owned()
    } else {
        // A relative location would be relative to the policy's folder, which is not known yet.
        let absolute = std::path::absolute(path)
            .map_err(|source| Failure::Io { what: format!("cannot find {}", path.display()), source })?;
        absolute.display().to_string()
    };
    output(draft(&location, &schema, name.owner(), name.name()).as_bytes())
}

/// A name for SQL out of a file's name.
fn guess(data: &Path) -> String {
    let stem = data.file_stem().map(|stem| stem.to_string_lossy().to_lowercase()).unwrap_or_default();
    let mut name: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        name.insert_str(0, "data_");
    }
    name.truncate(MAX_GUESS_BYTES);
    name
}
