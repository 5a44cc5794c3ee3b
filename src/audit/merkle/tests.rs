use std::collections::BTreeMap;

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use ct_merkle::{ConsistencyProof, InclusionProof};
use proptest::prelude::*;

use super::*;

/// A log as its database keeps it, beside another implementation of the same tree.
struct Log {
    tree: Tree,
    nodes: BTreeMap<NodeId, Hash>,
    /// The root after each append, from the empty tree on.
    roots: Vec<Hash>,
    oracle: MemoryBackedTree<Sha256, Vec<u8>>,
}

impl Log {
    fn of(entries: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let tree = Tree::empty();
        let mut log = Self { roots: vec![tree.root()], tree, nodes: BTreeMap::new(), oracle: MemoryBackedTree::new() };
        for entry in entries {
            for node in log.tree.append(leaf_hash(&entry)) {
                assert_eq!(log.nodes.insert(node.id, node.hash), None, "a node is finished once");
            }
            log.roots.push(log.tree.root());
            log.oracle.push(entry);
        }
        log
    }

    fn numbered(size: u64) -> Self {
        Self::of((0..size).map(|index| format!("entry {index}").into_bytes()))
    }

    fn size(&self) -> u64 {
        self.tree.size()
    }

    fn node(&self) -> impl Fn(NodeId) -> Option<Hash> {
        |id| self.nodes.get(&id).copied()
    }

    fn leaf(&self, index: u64) -> Hash {
        self.nodes[&NodeId { level: 0, index }]
    }
}

/// The eight leaves of the Certificate Transparency reference data, and the roots over the first 0 to 8 of them.
const LEAVES: [&str; 8] =
    ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
const ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

/// (index, size, proof), from `transparency-dev/merkle`.
const INCLUSION: [(u64, u64, &[&str]); 7] = [
    (0, 1, &[]),
    (0, 2, &["96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"]),
    (1, 2, &["6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"]),
    (2, 3, &["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    (
        1,
        5,
        &[
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
    (
        0,
        8,
        &[
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        5,
        8,
        &[
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
];

/// (old size, new size, proof), from the same.
const CONSISTENCY: [(u64, u64, &[&str]); 4] = [
    (1, 1, &[]),
    (
        1,
        8,
        &[
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        2,
        5,
        &[
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
    (
        6,
        8,
        &[
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
];

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
}

fn hash(hex: &str) -> Hash {
    bytes(hex).try_into().expect("32 bytes")
}

#[test]
fn the_reference_roots_and_proofs_are_ours() {
    let log = Log::of(LEAVES.map(bytes));
    assert_eq!(log.roots, ROOTS.map(hash));
    for (index, size, proof) in INCLUSION {
        let proof: Vec<_> = proof.iter().copied().map(hash).collect();
        assert_eq!(inclusion_proof(index, size, &log.node()).as_ref(), Some(&proof), "{index} of {size}");
    }
    for (old, new, proof) in CONSISTENCY {
        let proof: Vec<_> = proof.iter().copied().map(hash).collect();
        assert_eq!(consistency_proof(old, new, &log.node()).as_ref(), Some(&proof), "{old} to {new}");
    }
}

/// Everything that holds of the proofs of leaf `index` in the first `size` leaves.
fn check_inclusion(log: &Log, oracle: &MemoryBackedTree<Sha256, Vec<u8>>, index: u64) {
    let size = oracle.len();
    let root = log.roots[size as usize];
    let proof = inclusion_proof(index, size, &log.node()).expect("a proof");
    assert_eq!(proof.concat(), oracle.prove_inclusion(index as usize).as_bytes(), "{index} of {size}");
    assert!(verify_inclusion(&log.leaf(index), index, size, &proof, &root), "{index} of {size}");
    let entry = oracle.get(index as usize).expect("an entry");
    let theirs = InclusionProof::try_from_bytes(proof.concat()).expect("whole hashes");
    oracle.root().verify_inclusion(entry, index, &theirs).expect("they verify ours");
}

fn check_consistency(log: &Log, old: u64, oracle: &MemoryBackedTree<Sha256, Vec<u8>>) {
    let new = oracle.len();
    let (old_root, new_root) = (log.roots[old as usize], log.roots[new as usize]);
    let proof = consistency_proof(old, new, &log.node()).expect("a proof");
    assert_eq!(proof.concat(), oracle.prove_consistency((new - old) as usize).as_bytes(), "{old} to {new}");
    assert!(verify_consistency(old, &old_root, new, &new_root, &proof), "{old} to {new}");
    let theirs = ConsistencyProof::try_from_bytes(proof.concat()).expect("whole hashes");
    let old_root = ct_merkle::RootHash::new(old_root.into(), old);
    oracle.root().verify_consistency(&old_root, &theirs).expect("they verify ours");
}

#[test]
fn all_trees_up_to_300_leaves_are_the_oracles() {
    let log = Log::numbered(300);
    let mut oracle = MemoryBackedTree::<Sha256, Vec<u8>>::new();
    for size in 1..=log.size() {
        oracle.push(format!("entry {}", size - 1).into_bytes());
        let root = log.roots[size as usize];
        assert_eq!(root[..], oracle.root().as_bytes()[..], "{size}");
        assert_eq!(root_at(size, &log.node()), Some(root), "{size}");
        // Every proof of each small tree; of each larger one, those at its edges and of every seventh leaf.
        for index in (0..size).filter(|index| size <= 70 || index % 7 == 0 || *index < 2 || index + 2 >= size) {
            check_inclusion(&log, &oracle, index);
            check_consistency(&log, index + 1, &oracle);
        }
    }
}

#[test]
fn storage_keeps_every_complete_subtree_and_no_other_node() {
    let log = Log::numbered(200);
    let expected: Vec<_> =
        (0..=7u8).flat_map(|level| (0..200u64 >> level).map(move |index| NodeId { level, index })).collect();
    let mut kept: Vec<_> = log.nodes.keys().copied().collect();
    kept.sort();
    assert_eq!(kept, expected);
    let mut tree = Tree::empty();
    let finished =
        |tree: &mut Tree| tree.append([7; 32]).iter().map(|node| (node.id.level, node.id.index)).collect::<Vec<_>>();
    assert_eq!(finished(&mut tree), [(0, 0)]);
    assert_eq!(finished(&mut tree), [(0, 1), (1, 0)]);
    assert_eq!(finished(&mut tree), [(0, 2)]);
    assert_eq!(finished(&mut tree), [(0, 3), (1, 1), (2, 0)]);
}

#[test]
fn a_tree_goes_on_from_its_edge() {
    let log = Log::numbered(100);
    for size in 0..100 {
        let edge: Vec<_> = root_nodes(size).into_iter().map(|id| log.nodes[&id]).collect();
        let mut tree = Tree::from_edge(size, edge.clone()).expect("a tree");
        assert_eq!((tree.size(), tree.edge(), tree.root()), (size, edge.as_slice(), log.roots[size as usize]));
        tree.append(log.leaf(size));
        assert_eq!(tree.root(), log.roots[size as usize + 1]);
        let mut longer = edge.clone();
        longer.push([0; 32]);
        assert_eq!(Tree::from_edge(size, longer), None);
        if size > 0 {
            assert_eq!(Tree::from_edge(size, edge[1..].to_vec()), None);
        }
    }
    assert_eq!(Tree::from_edge(MAX_SIZE + 1, vec![[0; 32]]), None);
    assert!(Tree::from_edge(MAX_SIZE, vec![[0; 32]; 63]).is_some());
}

#[test]
fn what_is_asked_of_the_database_is_what_is_used() {
    use std::cell::RefCell;
    let log = Log::numbered(150);
    let asked = RefCell::new(Vec::new());
    let node = |id: NodeId| {
        asked.borrow_mut().push(id);
        log.nodes.get(&id).copied()
    };
    for size in 0..=150 {
        for index in 0..size {
            inclusion_proof(index, size, &node).expect("a proof");
            assert_eq!(Some(asked.take()), inclusion_nodes(index, size), "{index} of {size}");
        }
        for old in 0..=size {
            consistency_proof(old, size, &node).expect("a proof");
            assert_eq!(Some(asked.take()), consistency_nodes(old, size), "{old} to {size}");
        }
        root_at(size, &node).expect("a root");
        assert_eq!(asked.take(), root_nodes(size), "{size}");
    }
}

#[test]
fn what_cannot_be_proved_has_no_proof() {
    let log = Log::numbered(10);
    assert_eq!(inclusion_proof(10, 10, &log.node()), None);
    assert_eq!(inclusion_nodes(0, 0), None);
    assert_eq!(consistency_proof(7, 6, &log.node()), None);
    assert_eq!(consistency_nodes(1, 0), None);
    // A node that storage has lost.
    assert_eq!(inclusion_proof(3, 10, &|_| None), None);
    assert_eq!(consistency_proof(3, 10, &|_| None), None);
    assert_eq!(root_at(3, &|_| None), None);
    // Leaves that are not there yet.
    assert_eq!(inclusion_proof(3, 20, &log.node()), None);
    // The empty tree is the beginning of all, and of it nothing else is.
    let (empty, root) = (log.roots[0], log.roots[10]);
    assert_eq!(consistency_proof(0, 10, &log.node()), Some(Vec::new()));
    assert!(verify_consistency(0, &empty, 10, &root, &[]));
    assert!(verify_consistency(0, &empty, 0, &empty, &[]));
    assert!(!verify_consistency(0, &root, 10, &root, &[]));
    assert!(!verify_consistency(0, &empty, 0, &root, &[]));
    assert!(!verify_consistency(0, &empty, 10, &root, &[empty]));
    assert!(!verify_consistency(10, &root, 0, &empty, &[]));
    assert!(!verify_inclusion(&empty, 0, 0, &[], &empty));
}

#[test]
fn a_proof_to_an_inner_node_is_no_proof_to_the_root() {
    // A proof that ends too low would let a part of the tree pass for the whole.
    let log = Log::numbered(40);
    let mut lower = 0;
    for (small, large) in (1..40).flat_map(|small| (small + 1..=40).map(move |large| (small, large))) {
        let root = log.roots[small as usize];
        for index in 0..small {
            let proof = inclusion_proof(index, small, &log.node()).expect("a proof");
            let whole = inclusion_proof(index, large, &log.node()).expect("a proof");
            if proof.len() < whole.len() {
                assert!(!verify_inclusion(&log.leaf(index), index, large, &proof, &root), "{index} {small} {large}");
                lower += 1;
            }
        }
        for old in 1..small {
            let proof = consistency_proof(old, small, &log.node()).expect("a proof");
            let whole = consistency_proof(old, large, &log.node()).expect("a proof");
            if proof.len() < whole.len() {
                let old_root = log.roots[old as usize];
                assert!(!verify_consistency(old, &old_root, large, &root, &proof), "{old} {small} {large}");
                lower += 1;
            }
        }
    }
    assert!(lower > 1000, "{lower}");
}

#[test]
fn the_largest_sizes_neither_overflow_nor_hang() {
    for size in [u64::MAX, u64::MAX - 1, 1 << 63, (1 << 63) + 1] {
        for index in [0, 1, size / 2, size - 1] {
            assert!(inclusion_nodes(index, size).is_some());
            assert!(consistency_nodes(index, size).is_some());
            let proof = vec![[1; 32]; 64];
            assert!(!verify_inclusion(&[0; 32], index, size, &proof, &[0; 32]));
            assert!(!verify_consistency(index, &[0; 32], size, &[0; 32], &proof));
        }
    }
}

/// A log and two sizes of it, the first no more than the second.
fn sizes() -> impl Strategy<Value = (u64, u64)> {
    (1u64..3000).prop_flat_map(|new| (1..=new, Just(new)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn larger_trees_are_the_oracles_too((old, new) in sizes()) {
        let log = Log::numbered(new);
        let oracle = log.oracle.root();
        prop_assert_eq!(&log.tree.root()[..], &oracle.as_bytes()[..]);
        check_inclusion(&log, &log.oracle, old - 1);
        check_consistency(&log, old, &log.oracle);
    }

    #[test]
    fn a_proof_that_was_tampered_with_proves_nothing(
        (old, new) in sizes(),
        at in any::<prop::sample::Index>(),
        bit in 0usize..256,
        other in 0u64..4000,
    ) {
        let log = Log::numbered(new);
        let (index, leaf, root) = (old - 1, log.leaf(old - 1), log.tree.root());
        let flip = |hash: &mut Hash| hash[bit / 8] ^= 1 << (bit % 8);
        let flipped = |hash: &Hash| { let mut hash = *hash; flip(&mut hash); hash };

        let proof = inclusion_proof(index, new, &log.node()).expect("a proof");
        let refused = |leaf: &Hash, index, size, proof: &[Hash], root: &Hash| !verify_inclusion(leaf, index, size, proof, root);
        prop_assert!(refused(&flipped(&leaf), index, new, &proof, &root));
        prop_assert!(refused(&leaf, index, new, &proof, &flipped(&root)));
        prop_assert!(other == index || refused(&leaf, other, new, &proof, &root));
        if let Some(shorter) = proof.len().checked_sub(1) {
            prop_assert!(refused(&leaf, index, new, &proof[..shorter], &root));
            prop_assert!(refused(&leaf, index, new, &proof[1..], &root));
            let mut tampered = proof.clone();
            flip(&mut tampered[at.index(proof.len())]);
            prop_assert!(refused(&leaf, index, new, &tampered, &root));
        }
        let mut longer = proof.clone();
        longer.push(root);
        prop_assert!(refused(&leaf, index, new, &longer, &root));

        let proof = consistency_proof(old, new, &log.node()).expect("a proof");
        let old_root = log.roots[old as usize];
        let refused = |old, old_root: &Hash, new, root: &Hash, proof: &[Hash]| !verify_consistency(old, old_root, new, root, proof);
        prop_assert!(refused(old, &flipped(&old_root), new, &root, &proof));
        prop_assert!(refused(old, &old_root, new, &flipped(&root), &proof));
        if let Some(shorter) = proof.len().checked_sub(1) {
            prop_assert!(refused(old, &old_root, new, &root, &proof[..shorter]));
            prop_assert!(refused(old, &old_root, new, &root, &proof[1..]));
            let mut tampered = proof.clone();
            flip(&mut tampered[at.index(proof.len())]);
            prop_assert!(refused(old, &old_root, new, &root, &tampered));
        }
        let mut longer = proof.clone();
        longer.push(root);
        prop_assert!(refused(old, &old_root, new, &root, &longer));
    }
}
