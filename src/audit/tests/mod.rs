//! A small log with its key, and what its parts must do with it.

mod anchor;
mod checkpoint;
mod export;
mod key;
mod note;
mod receipt;

use std::collections::BTreeMap;

use super::checkpoint::{Checkpoint, SignedCheckpoint};
use super::consistency::ConsistencyProof;
use super::export::{ExportWriter, Scope};
use super::key::SigningKey;
use super::merkle::{Hash, NodeId, Tree, consistency_proof, inclusion_proof, leaf_hash, root_at};
use super::receipt::Receipt;

/// The name of the log.
const ORIGIN: &str = "gateway.example/log";

/// The log's key. Tests need the same one in each run, so that a failure can be repeated.
fn key() -> SigningKey {
    SigningKey::from_seed(&[7; 32], ORIGIN).expect("a key")
}

/// A log, as its database keeps it.
struct Log {
    entries: Vec<String>,
    tree: Tree,
    nodes: BTreeMap<NodeId, Hash>,
}

impl Log {
    /// A log whose entries hold what JSON must escape, too.
    fn of(size: u64) -> Self {
        Self::with((0..size).map(|index| format!("{{\"n\":{index},\"sql\":\"SELECT 'ü' \\\"x\\\"\\n\"}}")).collect())
    }

    fn with(entries: Vec<String>) -> Self {
        let (mut tree, mut nodes) = (Tree::empty(), BTreeMap::new());
        for entry in &entries {
            nodes.extend(tree.append(leaf_hash(entry.as_bytes())).into_iter().map(|node| (node.id, node.hash)));
        }
        Self { entries, tree, nodes }
    }

    fn node(&self) -> impl Fn(NodeId) -> Option<Hash> {
        |id| self.nodes.get(&id).copied()
    }

    fn size(&self) -> u64 {
        self.tree.size()
    }

    fn checkpoint_at(&self, size: u64) -> SignedCheckpoint {
        let root = root_at(size, &self.node()).expect("the nodes");
        Checkpoint { origin: ORIGIN.to_owned(), size, root }.sign(&key()).expect("the log's own key")
    }

    fn checkpoint(&self) -> SignedCheckpoint {
        self.checkpoint_at(self.size())
    }

    fn inclusion(&self, index: u64) -> Vec<Hash> {
        inclusion_proof(index, self.size(), &self.node()).expect("an entry")
    }

    fn consistency(&self, old_size: u64) -> ConsistencyProof {
        let proof = consistency_proof(old_size, self.size(), &self.node()).expect("a size");
        ConsistencyProof { old_size, new_size: self.size(), proof }
    }

    /// The export of the whole log.
    fn export(&self) -> String {
        let mut writer = ExportWriter::new(Vec::new(), Scope::Log, &self.checkpoint()).expect("written");
        for (index, entry) in (0..).zip(&self.entries) {
            writer.entry(index, entry, None).expect("written");
        }
        String::from_utf8(writer.finish(&key()).expect("written")).expect("text")
    }

    /// The export of the entries of `united.flights`, which `indices` are.
    fn excerpt(&self, indices: &[u64]) -> String {
        let of = Scope::Dataset("united.flights".to_owned());
        let mut writer = ExportWriter::new(Vec::new(), of, &self.checkpoint()).expect("written");
        for &index in indices {
            let entry = &self.entries[index as usize];
            writer.entry(index, entry, Some(&self.inclusion(index))).expect("written");
        }
        String::from_utf8(writer.finish(&key()).expect("written")).expect("text")
    }

    fn receipt(&self, index: u64) -> Receipt {
        let entry = self.entries[index as usize].clone();
        Receipt {
            index,
            leaf: leaf_hash(entry.as_bytes()),
            entry: Some(entry),
            proof: self.inclusion(index),
            checkpoint: self.checkpoint().text().to_owned(),
        }
    }
}
