//! What a verifier remembers of a log: checkpoints that it was shown earlier. A log whose key signs two histories is found
//! out by whoever compares.

use super::checkpoint::{Checkpoint, SignedCheckpoint};
use super::consistency::ConsistencyProof;
use super::finding::Finding;
use super::merkle::Hash;

/// Earlier checkpoints that a log must continue, and proofs that it does.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// The checkpoints, in any order.
    pub checkpoints: Vec<SignedCheckpoint>,
    /// Proofs, each between two sizes.
    pub proofs: Vec<ConsistencyProof>,
}

impl History {
    /// The sizes of the checkpoints.
    pub(super) fn sizes(&self) -> impl Iterator<Item = u64> {
        self.checkpoints.iter().map(|earlier| earlier.checkpoint().size)
    }

    /// What speaks against `now` being a continuation of every checkpoint. `root_at` gives the root of the log's first so
    /// many entries where it is known; elsewhere, a proof is needed.
    pub(super) fn check(&self, now: &Checkpoint, root_at: impl Fn(u64) -> Option<Hash>) -> Vec<Finding> {
        self.checkpoints
            .iter()
            .filter_map(|earlier| {
                let earlier = earlier.checkpoint();
                if earlier.size > now.size {
                    return Some(Finding::Shorter { size: now.size, earlier: earlier.size });
                }
                let root = if earlier.size == now.size { Some(now.root) } else { root_at(earlier.size) };
                match root {
                    Some(root) => (root != earlier.root).then_some(Finding::Forked { earlier: earlier.size }),
                    None => self.check_by_proof(earlier, now),
                }
            })
            .collect()
    }

    fn check_by_proof(&self, earlier: &Checkpoint, now: &Checkpoint) -> Option<Finding> {
        let mut fitting =
            self.proofs.iter().filter(|proof| proof.old_size == earlier.size && proof.new_size == now.size).peekable();
        if fitting.peek().is_none() {
            return Some(Finding::NoConsistency { earlier: earlier.size, size: now.size });
        }
        (!fitting.any(|proof| proof.shows(earlier, now))).then_some(Finding::Inconsistent { earlier: earlier.size })
    }
}
