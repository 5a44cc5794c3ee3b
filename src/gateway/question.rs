//! What a caller asks, before anything is believed of it.

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::analysis::BoundsRequest;

/// The body of `POST /v1/query` (DESIGN 3.3).
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// One SELECT statement.
    pub sql: String,
    /// The price of the whole query; the policy's `default_query` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "written_number")]
    pub epsilon: Option<f64>,
    /// The price is the smallest with which every column is as exact as this; instead of `epsilon`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_error: Option<TargetError>,
    /// Smaller contribution bounds than the policies', for this query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bounds: Option<BoundsRequest>,
    /// What the answer is for; a policy may list the purposes that it allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// Price and expected error only: touches no data, costs nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Say what share of units and rows was bounded or clamped: noised, and paid for out of the same price.
    #[serde(default)]
    pub diagnostics: bool,
    /// Add `NAME_half_width_95` beside each released column.
    #[serde(default)]
    pub with_error_columns: bool,
    /// A retry under the same key is never charged twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

/// How exact an answer must be: the half-width of each 95 % interval, relative to its column's size, in groups of a stated
/// size. Counts are measured against the number of units, sums against as many rows at the largest bound, averages and
/// other ratios against the width of their bounds, quantiles by rank.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetError {
    /// For example 0.1 for 10 %.
    pub relative: f64,
    /// How many units, of one row each, the group has.
    pub group_size: u64,
}

/// A number that is there. JSON has no NaN and no infinity, and many writers send `null` for them: read as absent, that
/// would spend the default price on a mistake.
fn written_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    f64::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::Question;

    #[test]
    fn a_price_that_is_no_number_is_not_the_default_price() {
        let read = |text: &str| serde_json::from_str::<Question>(text);
        assert_eq!(read(r#"{"sql": "SELECT 1"}"#).unwrap().epsilon, None);
        assert_eq!(read(r#"{"sql": "SELECT 1", "epsilon": 0.5}"#).unwrap().epsilon, Some(0.5));
        assert!(read(r#"{"sql": "SELECT 1", "epsilon": null}"#).is_err());
        // What the command line sends for `--epsilon nan`.
        let sent = serde_json::to_string(&Question { epsilon: Some(f64::NAN), ..Question::default() }).unwrap();
        assert!(read(&sent).is_err(), "{sent}");
    }
}
