//! What was spent, summed for reports.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::{Account, ChargeId, Scope};
use crate::accounting::{Accounting, Cost, Spent};

/// By what spending is summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Dimension {
    /// Who asked.
    Consumer,
    /// Its agency.
    Agency,
    /// Of what.
    Dataset,
    /// For what.
    Purpose,
    /// On which day (UTC).
    Day,
}

impl Dimension {
    /// Every dimension, in the order of their columns.
    pub const ALL: [Self; 5] = [Self::Consumer, Self::Agency, Self::Dataset, Self::Purpose, Self::Day];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Consumer => "consumer",
            Self::Agency => "agency",
            Self::Dataset => "dataset",
            Self::Purpose => "purpose",
            Self::Day => "day",
        }
    }
}

/// Which spending, and how it is summed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SpendQuery {
    /// The dimensions, each at most once. None: one sum a measure.
    pub by: Vec<Dimension>,
    /// From when, this moment included.
    pub from: Option<DateTime<Utc>>,
    /// Until when, this moment excluded.
    pub until: Option<DateTime<Utc>>,
    /// Of this consumer alone.
    pub consumer: Option<String>,
    /// Of these datasets alone, where it is not empty.
    pub datasets: Vec<String>,
}

/// One sum: what consumers paid, each charge on each dataset (and epoch) once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpendLine {
    /// The value of each dimension that was asked for, in its order; an agency or a purpose may be missing.
    pub values: Vec<Option<String>>,
    /// What the sums are of.
    pub accounting: Accounting,
    /// Charges.
    pub charges: u64,
    /// Queries that were charged.
    pub queries: u64,
    /// Σ of losses, in steps, which may be more than one account could hold.
    pub loss_steps: u128,
    /// Σ of δ's, in steps.
    pub delta_steps: u128,
    /// Answers that were given again for nothing.
    pub reused: u64,
    /// Σ of the losses that these would have cost.
    pub saved_steps: u128,
    /// Σ of the δ's that these would have cost.
    pub saved_delta_steps: u128,
}

/// An account with what it has spent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountSum {
    /// The account.
    pub account: Account,
    /// Its sums.
    pub spent: Spent,
}

/// Which accounts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccountSearch {
    /// Of these datasets (or unit domains) alone, where any are named.
    pub datasets: Vec<String>,
    /// This consumer's own accounts alone, of datasets and of unit domains.
    pub consumer: Option<String>,
    /// Of these windows alone, where any are named.
    pub windows: Vec<String>,
}

/// What one scope has spent of a dataset (or unit domain) and epoch over all windows, each charge once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LifetimeSum {
    /// Whose.
    pub scope: Scope,
    /// The dataset, or the unit domain of a [`Scope::Domain`].
    pub dataset: String,
    /// The epoch, where the dataset is accounted by epochs.
    pub epoch: Option<String>,
    /// What the sums are of.
    pub accounting: Accounting,
    /// Σ of losses, in steps, which may be more than one account could hold.
    pub loss_steps: u128,
    /// Σ of δ's, in steps.
    pub delta_steps: u128,
}

/// Charges that drew the same noise at the same cost, for restating.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventGroup {
    /// The noise, as JSON ([`crate::accounting::event`]); `[]` of charges from before it was kept.
    pub events: String,
    /// What one of them cost, in the measure of its noise.
    pub drawn: Cost,
    /// How many there are.
    pub charges: u64,
}

/// What an account spent on one day (UTC).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaySpend {
    /// The day.
    pub day: NaiveDate,
    /// How many charges.
    pub charges: u64,
    /// Σ of losses, in steps.
    pub loss_steps: u128,
    /// Σ of δ's, in steps.
    pub delta_steps: u128,
}

/// In which order queries are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum QueryOrder {
    /// The newest first.
    #[default]
    Newest,
    /// The largest loss first.
    Dearest,
}

/// Which charges are listed, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QuerySearch {
    /// On these datasets, or on all if none is named.
    pub datasets: Vec<String>,
    /// By this consumer alone.
    pub consumer: Option<String>,
    /// On datasets of this accounting alone: losses of different measures are not to be compared.
    pub accounting: Option<Accounting>,
    /// Before this charge: what comes next after a list from the newest.
    pub before: Option<ChargeId>,
    /// From when, this moment included.
    pub from: Option<DateTime<Utc>>,
    /// Until when, this moment excluded.
    pub until: Option<DateTime<Utc>>,
    /// The order.
    pub order: QueryOrder,
    /// The most lines.
    pub limit: u64,
}

/// One charge on one dataset, as its steward reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryLine {
    /// The charge.
    pub charge: ChargeId,
    /// The dataset.
    pub dataset: String,
    /// The query.
    pub query_id: Uuid,
    /// When.
    pub at: DateTime<Utc>,
    /// Who asked.
    pub consumer: String,
    /// Its agency.
    pub agency: Option<String>,
    /// The SQL text.
    pub sql: String,
    /// The stated purpose.
    pub purpose: Option<String>,
    /// What the consumer paid, summed over epochs.
    pub cost: Spent,
    /// Whether `all_consumers` had paid for the same draw before.
    pub shared: bool,
    /// The noise, as JSON.
    pub events: String,
    /// The charge's entry in the log.
    pub log_index: Option<u64>,
}
