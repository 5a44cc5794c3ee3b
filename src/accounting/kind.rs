//! Which notion of loss an account adds up.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The accounting that a dataset's owner chose: what its accounts add up, and so which noise they pay for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accounting {
    /// Zero-concentrated loss: ρ's add up, and the noise is discrete Gaussian.
    #[default]
    Zcdp,
    /// Pure loss: ε's add up, and the noise is discrete Laplace.
    Pure,
}

impl fmt::Display for Accounting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Zcdp => "zcdp",
            Self::Pure => "pure",
        })
    }
}
