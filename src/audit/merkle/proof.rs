//! Proofs that a leaf is in a tree, and that one tree is the beginning of another: which stored nodes they need, how they
//! are made, and how they are verified.
//!
//! Making follows the recursive definitions of RFC 6962 (2.1.1 and 2.1.2). Verifying follows the algorithms of RFC 9162
//! (2.1.3.2 and 2.1.4.2), which are another reading of the same thing, so that a fault in one is seen by the other.

use super::{Hash, NodeId, empty_root, fold, node_hash};

/// The leaves from `start` to before `end` under one node of RFC 6962's recursion.
#[derive(Debug, Clone, Copy)]
struct Range {
    start: u64,
    end: u64,
}

impl Range {
    /// How many leaves the left child has: the largest power of two below the number of leaves, which is 2 or more.
    const fn left_size(self) -> u64 {
        1 << (self.end - self.start - 1).ilog2()
    }

    /// The complete subtrees that make it up, largest first. In that recursion a range starts at a multiple of its largest
    /// power of two, so they are the bits of its length.
    fn nodes(self) -> impl Iterator<Item = NodeId> {
        let length = self.end - self.start;
        (0..u64::BITS as u8).rev().filter(move |level| length >> level & 1 == 1).map(move |level| {
            // What lies before it are the larger bits of the length; its own bit is dropped from the index by one.
            NodeId { level, index: (self.start >> level) + (length >> level) - 1 }
        })
    }

    /// Its Merkle tree hash. `None` if a node is missing.
    fn hash(self, node: &impl Fn(NodeId) -> Option<Hash>) -> Option<Hash> {
        self.nodes().map(node).collect::<Option<Vec<_>>>().map(|subtrees| fold(&subtrees))
    }
}

/// `PATH(index, D[size])` of RFC 6962, 2.1.1, as ranges, the leaf's sibling first.
fn inclusion_ranges(index: u64, size: u64) -> Option<Vec<Range>> {
    if index >= size {
        return None;
    }
    let mut node = Range { start: 0, end: size };
    let mut path = Vec::new();
    while node.end - node.start > 1 {
        let middle = node.start + node.left_size();
        let (left, right) = (Range { end: middle, ..node }, Range { start: middle, ..node });
        let sibling;
        (node, sibling) = if index < middle { (left, right) } else { (right, left) };
        path.push(sibling);
    }
    path.reverse();
    Some(path)
}

/// `PROOF(old, D[new])` of RFC 6962, 2.1.2, as ranges. Of the empty tree, and of the tree itself, there is nothing to prove.
fn consistency_ranges(old: u64, new: u64) -> Option<Vec<Range>> {
    if old > new {
        return None;
    }
    if old == 0 || old == new {
        return Some(Vec::new());
    }
    let mut node = Range { start: 0, end: new };
    let mut path = Vec::new();
    while node.end != old {
        let middle = node.start + node.left_size();
        let (left, right) = (Range { end: middle, ..node }, Range { start: middle, ..node });
        let sibling;
        (node, sibling) = if old <= middle { (left, right) } else { (right, left) };
        path.push(sibling);
    }
    // Where the old tree is itself a node of the new one, its verifier has that node: it is the old root.
    if node.start != 0 {
        path.push(node);
    }
    path.reverse();
    Some(path)
}

/// The stored nodes of which [`inclusion_proof`] will ask, each once. `None` if `index` is not below `size`.
#[must_use]
pub fn inclusion_nodes(index: u64, size: u64) -> Option<Vec<NodeId>> {
    Some(inclusion_ranges(index, size)?.into_iter().flat_map(Range::nodes).collect())
}

/// The proof that leaf `index` is in the tree of the first `size` leaves: RFC 6962's audit path, lowest hash first. `node`
/// looks a stored node up. `None` if `index` is not below `size`, or if a node is missing.
#[must_use]
pub fn inclusion_proof(index: u64, size: u64, node: &impl Fn(NodeId) -> Option<Hash>) -> Option<Vec<Hash>> {
    inclusion_ranges(index, size)?.into_iter().map(|range| range.hash(node)).collect()
}

/// The stored nodes of which [`consistency_proof`] will ask, each once. `None` if `old` is over `new`.
#[must_use]
pub fn consistency_nodes(old: u64, new: u64) -> Option<Vec<NodeId>> {
    Some(consistency_ranges(old, new)?.into_iter().flat_map(Range::nodes).collect())
}

/// The proof that the tree of the first `old` leaves is the beginning of that of the first `new`. It is empty for `old` = 0
/// and for `old` = `new`. `None` if `old` is over `new`, or if a node is missing.
#[must_use]
pub fn consistency_proof(old: u64, new: u64, node: &impl Fn(NodeId) -> Option<Hash>) -> Option<Vec<Hash>> {
    consistency_ranges(old, new)?.into_iter().map(|range| range.hash(node)).collect()
}

/// The stored nodes that make up the tree of the first `size` leaves, largest first: its edge.
#[must_use]
pub fn root_nodes(size: u64) -> Vec<NodeId> {
    Range { start: 0, end: size }.nodes().collect()
}

/// The root of the tree of the first `size` leaves. `None` if a node is missing.
#[must_use]
pub fn root_at(size: u64, node: &impl Fn(NodeId) -> Option<Hash>) -> Option<Hash> {
    Range { start: 0, end: size }.hash(node)
}

/// Whether `proof` shows that the leaf with the hash `leaf` is number `index` of the tree with `size` leaves and this
/// `root` (RFC 9162, 2.1.3.2).
#[must_use]
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = node_hash(sibling, &hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// Whether `proof` shows that the tree with `old` leaves and the root `old_root` is the beginning of that with `new` leaves
/// and the root `new_root` (RFC 9162, 2.1.4.2; the empty tree is the beginning of each).
#[must_use]
pub fn verify_consistency(old: u64, old_root: &Hash, new: u64, new_root: &Hash, proof: &[Hash]) -> bool {
    if old == 0 {
        return proof.is_empty() && *old_root == empty_root() && (new != 0 || new_root == old_root);
    }
    if old >= new {
        return old == new && proof.is_empty() && old_root == new_root;
    }
    let (mut at, mut last) = (old - 1, new - 1);
    // Up to where the old tree stops being the left child of a whole node.
    let shift = at.trailing_ones();
    at >>= shift;
    last >>= shift;
    let mut proof = proof.iter();
    let first = if old.is_power_of_two() { Some(old_root) } else { proof.next() };
    let Some(first) = first else { return false };
    let (mut old_hash, mut new_hash) = (*first, *first);
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && old_hash == *old_root && new_hash == *new_root
}
