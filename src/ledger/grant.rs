//! What a budget administrator grants.

use serde::{Deserialize, Serialize};

use crate::accounting::{Delta, Epsilon};

/// An administrator's grant to one consumer on one dataset. The gateway takes the smaller of it and the owner's cap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// ε for each window.
    pub epsilon: Epsilon,
    /// δ for each window.
    pub delta: Delta,
    /// The window's length: `month`, `quarter`, `year` or `lifetime`.
    pub per: String,
}
