//! What a policy file says, once it has been checked.
//!
//! These structs come out of [`super::parse`] alone: each of the three holds a private record of where its keys stand
//! in the file, so nothing else can make one, and what is in one has been checked. They are read-only by custom; the
//! gateway shares them behind an `Arc`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use chrono::{DateTime, Datelike, NaiveDate, Utc};
use serde::Serialize;

use super::column::ColumnPolicy;
use super::epoch::Epochs;
use super::name::DatasetName;
use super::price::Price;
use super::source::Source;
pub use crate::accounting::Accounting;
use crate::accounting::{Delta, Epsilon};

/// The most groups or rows a unit may be allowed: `max_groups_per_unit` and `max_rows_per_unit_per_group` lie in
/// `1..=MAX_CONTRIBUTION`.
pub const MAX_CONTRIBUTION: u32 = 65_536;

/// One policy file: a private dataset, a public table, or a collection of datasets.
#[expect(clippy::large_enum_variant, reason = "there are few of them, and each is taken apart as soon as it is read")]
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum PolicyFile {
    /// Private data under its owner's policy.
    Private(DatasetPolicy),
    /// A table that everyone may read.
    Public(PublicTable),
    /// Several owners' datasets behind one name.
    Collection(Collection),
}

impl PolicyFile {
    /// The name under which SQL sees it.
    #[must_use]
    pub fn name(&self) -> &DatasetName {
        match self {
            Self::Private(policy) => &policy.name,
            Self::Public(table) => &table.name,
            Self::Collection(collection) => &collection.name,
        }
    }

    /// The digest of its text: see [`DatasetPolicy::version`].
    #[must_use]
    pub fn version(&self) -> &str {
        match self {
            Self::Private(policy) => &policy.version,
            Self::Public(table) => &table.version,
            Self::Collection(collection) => &collection.version,
        }
    }

    /// Where its data lies; a collection has none of its own.
    #[must_use]
    pub fn location(&self) -> Option<&str> {
        match self {
            Self::Private(policy) => Some(&policy.location),
            Self::Public(table) => Some(&table.location),
            Self::Collection(_) => None,
        }
    }

    /// The same with no line told of any of its keys, for a text that its author has not seen.
    pub(super) fn without_positions(mut self) -> Self {
        let source = match &mut self {
            Self::Private(policy) => &mut policy.source,
            Self::Public(table) => &mut table.source,
            Self::Collection(collection) => &mut collection.source,
        };
        *source = source.without_positions();
        self
    }

    pub(super) fn source(&self) -> &Source {
        match self {
            Self::Private(policy) => &policy.source,
            Self::Public(table) => &table.source,
            Self::Collection(collection) => &collection.source,
        }
    }
}

/// The policy of one private dataset.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DatasetPolicy {
    /// Its name in SQL.
    pub name: DatasetName,
    /// The SHA-256 of the file's canonical TOML text (keys sorted, comments and spacing gone), in lower-case hex. Two
    /// files that say the same have the same version.
    pub version: String,
    /// Where its Parquet lies: a file, folder or glob, made relative to the policy file's folder if it was relative,
    /// or an `s3://` address as written.
    pub location: String,
    /// What it is, for analysts. May be empty.
    pub description: String,
    /// The purposes of which a query must name one; empty means that any will do, or none.
    pub purposes: BTreeSet<String>,
    /// The last day (UTC) on which queries are answered.
    pub valid_until: Option<NaiveDate>,
    /// Who may ask.
    pub consumers: Consumers,
    /// Whether a query of a new shape waits for the owner.
    pub approval: Approval,
    /// What is protected, and how much of the data one unit may be.
    pub privacy: Privacy,
    /// What may be spent.
    pub budget: Budget,
    /// The columns that the file mentions, by their exact names. Use [`Self::column`] to look one up.
    pub columns: BTreeMap<String, ColumnPolicy>,
    #[serde(skip)]
    pub(super) source: Source,
}

impl DatasetPolicy {
    /// What the owner says of the column `name`, which is [`ColumnPolicy::UNMENTIONED`] when the file does not say.
    #[must_use]
    pub fn column(&self, name: &str) -> &ColumnPolicy {
        static UNMENTIONED: ColumnPolicy = ColumnPolicy::UNMENTIONED;
        self.columns.get(name).unwrap_or(&UNMENTIONED)
    }

    /// Whether queries are still answered on `today` (UTC): `valid_until` is the last day on which they are.
    #[must_use]
    pub fn is_valid_on(&self, today: NaiveDate) -> bool {
        self.valid_until.is_none_or(|last| today <= last)
    }

    /// Whether a query for `purpose` is one that the owner answers.
    #[must_use]
    pub fn allows_purpose(&self, purpose: Option<&str>) -> bool {
        self.purposes.is_empty() || purpose.is_some_and(|purpose| self.purposes.contains(purpose))
    }
}

/// Whether a query of a shape that the owner has not seen waits for its yes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Approval {
    /// It is answered at once: the default.
    #[default]
    Auto,
    /// It waits until the owner's steward has allowed its shape.
    Manual,
}

impl Approval {
    /// The word for it in a policy file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Manual => "manual",
        }
    }
}

/// Who may ask of a dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Consumers {
    /// Every consumer: `["*"]`, the default.
    Any,
    /// These consumers, and all of these agencies; not empty.
    Listed(BTreeSet<String>),
}

impl Consumers {
    /// Whether `consumer`, who may belong to `agency`, may ask.
    #[must_use]
    pub fn allows(&self, consumer: &str, agency: Option<&str>) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(names) => names.contains(consumer) || agency.is_some_and(|agency| names.contains(agency)),
        }
    }
}

/// What is protected, and how much of the data one unit may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Privacy {
    /// The column that names the privacy unit.
    pub unit: String,
    /// The identifier space of that column; datasets of one domain may be joined on it.
    pub unit_domain: String,
    /// k: no released group has fewer units than this. At least 1.
    pub min_group_size: u64,
    /// L0: to how many groups one unit counts. In `1..=`[`MAX_CONTRIBUTION`].
    pub max_groups_per_unit: u32,
    /// r: how many rows of one unit count in a group. In `1..=`[`MAX_CONTRIBUTION`].
    pub max_rows_per_unit_per_group: u32,
    /// R: how many rows of one unit count over all groups, if the owner says. Not less than
    /// `max_rows_per_unit_per_group`.
    pub max_rows_per_unit: Option<u64>,
    /// What the dataset's accounts add up.
    pub accounting: Accounting,
    /// Whether the owner says that its files are sorted by the unit, ascending, as `source optimize` writes them. A hint: it
    /// may save time, and never changes an answer, since the order is verified as it is read.
    pub sorted_by_unit: bool,
    /// The epochs into which its time is cut. With them the protected unit is, throughout, a unit in one epoch.
    pub epochs: Option<Epochs>,
}

impl Privacy {
    /// What is promised, in words: as every answer, report and description of the dataset says it.
    #[must_use]
    pub fn guarantee(&self) -> String {
        let unit = &self.unit_domain;
        match &self.epochs {
            None => {
                format!("user-level differential privacy, per {unit}: all rows of one {unit} together are protected")
            }
            Some(Epochs { kind, .. }) => format!(
                "user-level differential privacy, per {unit} and {kind}: all rows of one {unit} in one {kind} together are \
                 protected; over several {kind}s of one {unit} the promise is weaker"
            ),
        }
    }
}

/// What may be spent of a dataset's privacy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Budget {
    /// The owner's cap for each consumer.
    pub per_consumer: Cap,
    /// The owner's cap for all consumers of one agency together; `all_consumers` where the file does not say. Where its
    /// period is not the shorter one, its ε and δ are not less than those of `per_consumer`.
    pub per_agency: Cap,
    /// The owner's cap for all consumers together; its ε and δ are not less than those of `per_consumer`, nor, where its
    /// period is not the shorter one, than those of `per_agency`.
    pub all_consumers: Cap,
    /// What one consumer may learn of one unit over all datasets of the unit domain, if the owner says. Of the policies
    /// that a query reads the smallest holds. Not less than `per_consumer`, unless its period is shorter.
    pub per_consumer_in_domain: Option<Cap>,
    /// The ε of a query that names none. Not more than `max_query`.
    pub default_query: Epsilon,
    /// `δ_conv`: the δ at which a query's ε is stated. Where the file does not say, a thousandth of the per-consumer δ.
    /// Above zero under zCDP; zero when the per-consumer δ is.
    pub query_delta: Delta,
    /// The largest ε of one query. Not more than the ε of `per_consumer`.
    pub max_query: Epsilon,
    /// Whether a consumer has `per_consumer` without an administrator's grant.
    pub auto_grant: bool,
    /// What an agency owes the owner for each ε that it spends, if anything.
    pub price_per_epsilon: Option<Price>,
}

/// A cap on what is spent in a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Cap {
    /// The ε of the cap, above zero.
    pub epsilon: Epsilon,
    /// The δ of the cap, below 1; above zero under zCDP.
    pub delta: Delta,
    /// After which the cap begins anew.
    pub per: Period,
}

/// How long a cap lasts. Periods are those of the calendar, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Period {
    /// A calendar month.
    Month,
    /// A quarter of a calendar year.
    Quarter,
    /// A calendar year.
    Year,
    /// For ever.
    Lifetime,
}

impl Period {
    /// Every period, from the shortest.
    pub const ALL: [Self; 4] = [Self::Month, Self::Quarter, Self::Year, Self::Lifetime];

    /// The word for it in a policy file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Month => "month",
            Self::Quarter => "quarter",
            Self::Year => "year",
            Self::Lifetime => "lifetime",
        }
    }

    /// The window of this period that holds `now`: `2026-11`, `2026-Q4`, `2026` or `lifetime`.
    #[must_use]
    pub fn window(self, now: DateTime<Utc>) -> String {
        match self {
            Self::Month => format!("{:04}-{:02}", now.year(), now.month()),
            Self::Quarter => format!("{:04}-Q{}", now.year(), now.month0() / 3 + 1),
            Self::Year => format!("{:04}", now.year()),
            Self::Lifetime => "lifetime".to_owned(),
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A table that everyone may read, and that may be joined to private ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PublicTable {
    /// Its name in SQL.
    pub name: DatasetName,
    /// The digest of its file: see [`DatasetPolicy::version`].
    pub version: String,
    /// Where its Parquet lies: see [`DatasetPolicy::location`].
    pub location: String,
    /// What it is, for analysts. May be empty.
    pub description: String,
    #[serde(skip)]
    pub(super) source: Source,
}

/// Several owners' datasets of one schema behind one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Collection {
    /// Its name in SQL.
    pub name: DatasetName,
    /// The digest of its file: see [`DatasetPolicy::version`].
    pub version: String,
    /// The datasets, in the order of the file: at least one, no two alike.
    pub members: Vec<DatasetName>,
    /// What it is, for analysts. May be empty.
    pub description: String,
    #[serde(skip)]
    pub(super) source: Source,
}
