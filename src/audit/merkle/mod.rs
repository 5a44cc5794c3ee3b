//! The Merkle tree of RFC 6962, section 2.1 (the same in RFC 9162), over a log that lives in a database.
//!
//! ```text
//!  level 2            2:0                      stored: every complete subtree, once, when its last leaf comes
//!                 ┌────┴────┐
//!  level 1       1:0       1:1       1:2       size 7, edge [2:0, 1:2, 0:6]
//!                ┌┴┐       ┌┴┐       ┌┴┐
//!  level 0      0   1     2   3     4   5   6  root = H(2:0, H(1:2, 0:6)), computed, not stored
//! ```
//!
//! A stored node never changes, so that appending writes a leaf's own nodes and reads nothing but the edge. Nodes over a
//! number of leaves that is no power of two change as the tree grows; they are computed from stored ones.

mod proof;
#[cfg(test)]
mod tests;

use sha2::{Digest, Sha256};

pub use proof::{
    consistency_nodes, consistency_proof, inclusion_nodes, inclusion_proof, root_at, root_nodes, verify_consistency,
    verify_inclusion,
};

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// The largest size of a tree that storage can count: its integers have 63 bits.
pub const MAX_SIZE: u64 = i64::MAX.unsigned_abs();

/// The hash of the leaf that holds `entry`: SHA-256 of a zero byte and the entry (RFC 6962, 2.1). The zero byte keeps an
/// entry from passing for an inner node.
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(entry).finalize().into()
}

/// The hash of an inner node: SHA-256 of a one byte, the left child's hash and the right child's (RFC 6962, 2.1).
fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The root of a tree without leaves: SHA-256 of nothing.
fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// The root over complete subtrees that stand side by side, largest first.
fn fold(subtrees: &[Hash]) -> Hash {
    let mut from_the_right = subtrees.iter().rev();
    let Some(last) = from_the_right.next() else { return empty_root() };
    from_the_right.fold(*last, |right, left| node_hash(left, &right))
}

/// Which complete subtree: that of the 2^`level` leaves from `index`·2^`level` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId {
    /// The height over the leaves; 0 is a leaf.
    pub level: u8,
    /// Its place among the nodes of this level, from 0.
    pub index: u64,
}

/// A complete subtree, as storage keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// Which.
    pub id: NodeId,
    /// Its hash.
    pub hash: Hash,
}

/// What must be known of a tree to append to it and to know its root: its size, and the hashes on its right edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    size: u64,
    /// The complete subtrees of which the tree consists, largest first: one for each bit that is set in `size`.
    edge: Vec<Hash>,
}

impl Tree {
    /// The tree without leaves.
    #[must_use]
    pub const fn empty() -> Self {
        Self { size: 0, edge: Vec::new() }
    }

    /// A tree of `size` leaves over the complete subtrees `edge`, largest first: those that [`root_nodes`] names. `None`
    /// if there is not exactly one for each bit that is set in `size`, or if `size` is over [`MAX_SIZE`].
    #[must_use]
    pub fn from_edge(size: u64, edge: Vec<Hash>) -> Option<Self> {
        (size <= MAX_SIZE && edge.len() == size.count_ones() as usize).then_some(Self { size, edge })
    }

    /// How many leaves it has.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The complete subtrees of which it consists, largest first.
    #[must_use]
    pub fn edge(&self) -> &[Hash] {
        &self.edge
    }

    /// The Merkle tree hash of all leaves.
    #[must_use]
    pub fn root(&self) -> Hash {
        fold(&self.edge)
    }

    /// Appends the leaf with the hash `leaf`. Returns every complete subtree that it finishes, itself first: what storage
    /// has to keep.
    pub fn append(&mut self, leaf: Hash) -> Vec<Node> {
        let mut node = Node { id: NodeId { level: 0, index: self.size }, hash: leaf };
        let mut finished = vec![node];
        // A right child meets its left sibling at the end of the edge, as a binary counter carries.
        while node.id.index & 1 == 1 {
            let Some(left) = self.edge.pop() else { break };
            let id = NodeId { level: node.id.level + 1, index: node.id.index >> 1 };
            node = Node { id, hash: node_hash(&left, &node.hash) };
            finished.push(node);
        }
        self.edge.push(node.hash);
        self.size += 1;
        finished
    }
}
