//! A uniform integer below a bound, without bias.

#[cfg(test)]
mod tests;

use rand::CryptoRng;

/// The uniform law on {0, …, bound − 1}.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct UniformBelow {
    bound: u128,
    /// 2⁶⁴ mod `bound`, where the bound fits in a word: how many low halves of the product must be refused.
    excess: u64,
}

impl UniformBelow {
    /// The law on {0, …, `bound` − 1}; a bound of zero counts as one.
    pub(super) const fn new(bound: u128) -> Self {
        let bound = if bound == 0 { 1 } else { bound };
        let excess = if bound <= u64::MAX as u128 { ((1u128 << 64) % bound) as u64 } else { 0 };
        Self { bound, excess }
    }

    pub(super) const fn bound(&self) -> u128 {
        self.bound
    }

    /// One draw.
    #[inline]
    pub(super) fn sample<R: CryptoRng + ?Sized>(&self, rng: &mut R) -> u128 {
        if self.bound > u128::from(u64::MAX) {
            return self.sample_wide(rng);
        }
        // Lemire (2019): of the 2⁶⁴ words, the high half of word·bound takes each value equally often once the first
        // 2⁶⁴ mod bound low halves are refused.
        loop {
            let product = u128::from(rng.next_u64()) * self.bound;
            if product as u64 >= self.excess {
                return product >> 64;
            }
        }
    }

    #[cold]
    fn sample_wide<R: CryptoRng + ?Sized>(&self, rng: &mut R) -> u128 {
        let unused = (self.bound - 1).leading_zeros();
        loop {
            let word = u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64());
            let candidate = word >> unused;
            if candidate < self.bound {
                return candidate;
            }
        }
    }
}
