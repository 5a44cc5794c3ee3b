//! What a caller asks, before anything is believed of it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::analysis::BoundsRequest;

/// The body of `POST /v1/query` (DESIGN 3.3).
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// One SELECT statement.
    pub sql: String,
    /// The price of the whole query; the policy's `default_query` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epsilon: Option<f64>,
    /// Smaller contribution bounds than the policies', for this query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bounds: Option<BoundsRequest>,
    /// What the answer is for; a policy may list the purposes that it allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// Price and expected error only: touches no data, costs nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Add `NAME_half_width_95` beside each released column.
    #[serde(default)]
    pub with_error_columns: bool,
    /// A retry under the same key is never charged twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}
