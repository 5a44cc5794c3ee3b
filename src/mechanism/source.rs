//! Where the randomness of every released number comes from.

use std::convert::Infallible;
use std::fmt;

use rand::rngs::{StdRng, SysRng};
use rand::{SeedableRng, TryCryptoRng, TryRng};
use thiserror::Error;

/// Why no noise can be drawn. Nothing may be released then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NoiseSourceError {
    /// The operating system gave no random bytes.
    #[error("the operating system's random number generator is not available, so no noise can be drawn")]
    NoEntropy,
}

/// A cryptographically secure generator (`ChaCha`), keyed with 256 bits from the operating system.
///
/// It cannot be cloned, serialised, printed or seeded by a caller: the same key twice would draw the same noise twice,
/// and two answers with the same noise give the difference of the data away. Make a fresh one for each release.
pub struct NoiseSource(StdRng);

impl NoiseSource {
    /// A generator with a fresh key.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn from_system() -> Result<Self, NoiseSourceError> {
        StdRng::try_from_rng(&mut SysRng).map(Self).map_err(|_| NoiseSourceError::NoEntropy)
    }
}

impl fmt::Debug for NoiseSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NoiseSource(..)")
    }
}

impl TryRng for NoiseSource {
    type Error = Infallible;

    #[inline]
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.0.try_next_u32()
    }

    #[inline]
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0.try_next_u64()
    }

    #[inline]
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.try_fill_bytes(bytes)
    }
}

impl TryCryptoRng for NoiseSource {}
