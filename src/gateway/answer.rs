//! What a caller is told: released values with their price and their error.

use std::collections::BTreeMap;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// The answer to a [`Question`](super::Question). Interfaces translate it; nothing in it needs further protection.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Names this answer in the ledger and in the log.
    pub query_id: Uuid,
    /// The columns of the result.
    pub schema: SchemaRef,
    /// The rows; `None` for a dry run.
    pub rows: Option<Vec<RecordBatch>>,
    /// By column of `schema`: how exact it is; `None` for group keys and for columns computed from several others.
    pub accuracy: Vec<Option<Accuracy>>,
    /// What it costs.
    pub privacy: PrivacyFacts,
    /// The caller's accounts after the charge (before it, in a dry run).
    pub budget: Vec<BudgetLine>,
    /// Which groups may appear.
    pub groups: GroupFacts,
    /// What bounding took away, by release, if it was asked for.
    pub diagnostics: Vec<Diagnostics>,
    /// Where the answer stands in the log; `None` for a dry run, and where nothing private is read.
    pub receipt: Option<ReceiptFacts>,
    /// In a dry run: how the question is answered from what the caller has bought, for nothing.
    pub free: Option<FreeAlternative>,
}

/// How a question is answered for nothing: by sums over a finer answer that the caller has bought.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct FreeAlternative {
    /// The SQL to ask.
    pub sql: String,
    /// The ε to ask it with: that at which the finer answer was bought. With a larger one it would be bought anew.
    pub epsilon: f64,
    /// What to know of it.
    pub note: &'static str,
}

impl FreeAlternative {
    /// What holds of every such sum.
    pub const NOTE: &'static str = "the noise of the groups that are summed adds up, and rows whose summed-over keys are not listed in the policy are not in it";
}

/// The answer's entry in the log. With `GET /v1/audit/proof/{log_index}` it is checked later, without trusting the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ReceiptFacts {
    /// Its place, from 0.
    #[schema(example = 17)]
    pub log_index: u64,
    /// The hash of its leaf (RFC 6962), in hex.
    pub leaf_hash: String,
    /// 32 random bytes, in hex. The log has the SHA-256 of these and the answer as an Arrow IPC stream: who keeps the nonce
    /// can show what was answered, and nobody else can find out.
    pub answer_nonce: String,
}

/// What bounding took away from one release. The numbers are noised; shares are held within 0 and 1, and absent where too few
/// units are there to tell.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Diagnostics {
    /// The share of units that are in more groups than count.
    pub units_in_more_groups: Option<f64>,
    /// The share of units that have more rows in some group than count.
    pub units_with_more_rows: Option<f64>,
    /// The share of units that have a value outside the bounds.
    pub units_with_clamped_values: Option<f64>,
    /// The share of a unit's rows that is scaled away, in the mean over units.
    pub share_of_rows_left_out: Option<f64>,
    /// The share of a unit's rows of which a value is outside the bounds, in the mean over units.
    pub share_of_rows_clamped: Option<f64>,
    /// Standard deviation of each share's noise.
    pub std_dev: Option<f64>,
}

/// How far a released column may lie from the bounded statistic.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Accuracy {
    /// `discrete_gaussian`, `discrete_laplace` or `exponential`.
    pub mechanism: &'static str,
    /// Standard deviation of the noise in the column's unit; absent where it differs from row to row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub std_dev: Option<f64>,
    /// Half the width of the 95 % interval; absent where it differs from row to row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub half_width_95: Option<f64>,
    /// The error differs from row to row (ratios): ask with `with_error_columns`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub per_row: bool,
    /// Which quantile the column is: `min` is 0.01 and `max` 0.99, since the very least and largest value are one unit's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantile: Option<f64>,
}

/// What the query costs, whole.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PrivacyFacts {
    /// What is promised, in words: whose rows together are protected. With epochs that is one unit in one epoch.
    pub guarantee: String,
    /// The price as asked or defaulted.
    pub epsilon: f64,
    /// The δ at which that ε is stated.
    pub delta: f64,
    /// zCDP loss ρ of the query; absent where every account is pure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rho: Option<f64>,
    /// The δ paid for choosing which groups appear.
    pub delta_selection: f64,
    /// Whether the caller had paid for this very release before.
    pub cached: bool,
    /// What each account paid (would pay, in a dry run); empty when `cached`.
    pub charges: Vec<ChargeLine>,
    /// By dataset that has epochs, those that are read: each is charged, and no other.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub epochs: BTreeMap<String, Vec<String>>,
}

/// One account's part of a charge.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ChargeLine {
    /// For example `consumer/united.flights`.
    pub account: String,
    /// Set for zCDP accounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rho: Option<f64>,
    /// Set for pure accounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epsilon: Option<f64>,
    /// The δ of group selection.
    pub delta: f64,
}

/// A consumer's own account of one dataset.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct BudgetLine {
    /// `owner.name`.
    pub dataset: String,
    /// `zcdp` or `pure`.
    pub accounting: &'static str,
    /// `month`, `quarter`, `year` or `lifetime`.
    pub per: &'static str,
    /// The window that the figures are of, for example `2026-11`.
    pub window: String,
    /// The budget's ε.
    pub epsilon_limit: f64,
    /// The budget's δ.
    pub delta_limit: f64,
    /// ε of all that was spent, stated at half of `delta_limit` (zCDP) or summed (pure).
    pub epsilon_spent: f64,
    /// The larger of the spent fractions of loss and of δ, 0 to 1.
    pub fraction_spent: f64,
}

/// Which groups an answer shows, so that an empty answer is never a riddle.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct GroupFacts {
    /// Whether the keys are known without the data.
    pub public: bool,
    /// No group with fewer units is ever released.
    pub min_size: u64,
    /// A group with this many units appears with 95 % probability at this price.
    pub units_to_appear_95: u64,
}

/// A column of a dataset, as its policy describes it: no count or statistic of the data.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ColumnDescription {
    /// Its name in SQL.
    pub name: String,
    /// Its Arrow type.
    #[serde(rename = "type")]
    pub data_type: String,
    /// What it may be used for: `aggregate`, `group`, `filter`; empty when it is denied.
    pub uses: Vec<&'static str>,
    /// The policy's value bounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bounds: Option<[f64; 2]>,
    /// The keys, where the policy lists them: a list, or `{from, to}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_groups: Option<serde_json::Value>,
    /// Whether this column names the privacy unit.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub privacy_unit: bool,
}

/// A dataset, a collection or a public table as any caller may see it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct DatasetDescription {
    /// `owner.name`.
    pub name: String,
    /// `private`, `public` or `collection`.
    pub kind: &'static str,
    /// The owner's words.
    pub description: String,
    /// Its columns.
    pub columns: Vec<ColumnDescription>,
    /// What is protected and how, as stated by the policy (`null` for public tables): `unit`, `unit_domain`,
    /// `min_group_size`, `max_groups_per_unit`, `max_rows_per_unit_per_group`, `accounting`, `default_epsilon`,
    /// `max_epsilon`, `purposes`, `valid_until`, and with epochs `epoch`, `epoch_column` and `epoch_from`.
    pub privacy: Option<serde_json::Value>,
    /// What is promised, in words; `null` for public tables.
    pub guarantee: Option<String>,
    /// For a collection: its members.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<String>,
    /// Why it is not answered at present, where it, or a member of the collection, is suspended or withdrawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspended: Option<String>,
}
