//! Smaller contribution bounds, as an analyst may ask for them beside the SQL.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Contribution bounds that an analyst asks for: each may only be smaller than the policy's (DESIGN 4.2).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BoundsRequest {
    /// How many groups one unit may touch (L0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_groups_per_unit: Option<u32>,
    /// How many rows of one unit count in one group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_rows_per_unit_per_group: Option<u32>,
    /// How many rows of one unit count over all groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_rows_per_unit: Option<u64>,
    /// Value bounds by column name, within the policy's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, [f64; 2]>,
}
