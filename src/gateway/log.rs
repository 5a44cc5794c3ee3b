//! The log of decisions, as auditors and stewards read it: entries, proofs, signed checkpoints, exports (DESIGN 4.5).

use serde::Serialize;
use utoipa::ToSchema;

use crate::audit::checkpoint::SignedCheckpoint;
use crate::audit::consistency::ConsistencyProof;
use crate::audit::export::{ExportError, ExportWriter, Scope};
use crate::audit::merkle::{
    Hash, NodeId, Tree, consistency_nodes, consistency_proof, inclusion_nodes, inclusion_proof,
};
use crate::audit::receipt::Receipt;
use crate::ledger::{LogEntry, Role, Store};

use super::anchoring::Evidence;
use super::evidence::hex;
use super::{Caller, Code, Gateway, GatewayError, translate};

/// The most entries of one answer.
const MAX_ENTRIES: u64 = 1000;
/// How many entries an export reads at a time.
const PAGE: u64 = 1000;

/// An entry of the log.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LogRow {
    /// Its place, from 0.
    pub index: u64,
    /// The hash of its leaf (RFC 6962), in hex.
    pub leaf_hash: String,
    /// Its exact text: a JSON object. The leaf is the hash of these bytes.
    pub entry: String,
}

/// A page of the log.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LogPage {
    /// How many entries the log has.
    pub size: u64,
    /// The entries.
    pub entries: Vec<LogRow>,
    /// Where to go on; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// The log as its keeper has it: the entries in the storage, and the key that signs them.
#[derive(Clone, Copy)]
pub(super) struct Log<'k> {
    store: &'k dyn Store,
    evidence: &'k Evidence,
}

impl<'k> Log<'k> {
    pub(super) const fn new(store: &'k dyn Store, evidence: &'k Evidence) -> Self {
        Self { store, evidence }
    }

    /// Entries from the place `from` on, those about one of `datasets` where any are named.
    pub(super) async fn page(self, from: u64, limit: u64, datasets: &[String]) -> Result<LogPage, GatewayError> {
        let limit = limit.clamp(1, MAX_ENTRIES);
        let size = self.tree().await?.size();
        let entries = self.store.log_entries(from, limit, datasets).await.map_err(translate::ledger)?;
        let next = entries.last().filter(|_| entries.len() as u64 == limit).map(|last| last.index + 1);
        Ok(LogPage { size, entries: entries.into_iter().map(LogRow::from).collect(), next })
    }

    /// The signed checkpoint of now.
    pub(super) async fn checkpoint(self) -> Result<SignedCheckpoint, GatewayError> {
        self.evidence.check()?;
        self.evidence.sign(&self.tree().await?)
    }

    /// The receipt of an entry that `may_read` lets the caller have.
    pub(super) async fn receipt(
        self,
        index: u64,
        datasets: &[String],
        may_read: impl Fn(&LogEntry) -> bool,
    ) -> Result<Receipt, GatewayError> {
        self.evidence.check()?;
        let unknown = || {
            GatewayError::new(Code::NotFound, "there is no such entry that this token may read")
                .with_hint("an answer has its entry's place as `receipt.log_index`; an auditor may read every entry")
        };
        let tree = self.tree().await?;
        let ids = inclusion_nodes(index, tree.size()).ok_or_else(unknown)?;
        let entry = self.store.log_entries(index, 1, datasets).await.map_err(translate::ledger)?;
        let entry = entry.into_iter().find(|entry| entry.index == index && may_read(entry)).ok_or_else(unknown)?;
        let nodes = self.store.log_nodes(&ids).await.map_err(translate::ledger)?;
        let node = |id: NodeId| nodes.get(&id).copied();
        let proof = inclusion_proof(index, tree.size(), &node)
            .ok_or_else(|| translate::internal("the log lacks parts of its tree"))?;
        let checkpoint = self.evidence.sign(&tree)?.text().to_owned();
        Ok(Receipt { index, leaf: entry.leaf_hash, entry: Some(entry.entry), proof, checkpoint })
    }

    /// The proof that the log of `new` entries, or of now, continues that of `old`.
    pub(super) async fn consistency(self, old: u64, new: Option<u64>) -> Result<ConsistencyProof, GatewayError> {
        self.evidence.check()?;
        let tree = self.tree().await?;
        let new = new.unwrap_or(tree.size());
        let ids = consistency_nodes(old, new).filter(|_| new <= tree.size()).ok_or_else(|| {
            GatewayError::new(Code::RequestInvalid, format!("the log has {} entries", tree.size()))
                .with_hint("ask for old <= new <= the log's size")
        })?;
        let nodes = self.store.log_nodes(&ids).await.map_err(translate::ledger)?;
        let proof = consistency_proof(old, new, &|id| nodes.get(&id).copied())
            .ok_or_else(|| translate::internal("the log lacks parts of its tree"))?;
        Ok(ConsistencyProof { old_size: old, new_size: new, proof })
    }

    /// The whole log, or what it says of one dataset, as a file that is verified offline.
    pub(super) async fn export(self, dataset: Option<&str>) -> Result<Vec<u8>, GatewayError> {
        self.evidence.check()?;
        let (scope, datasets) = match dataset {
            None => (Scope::Log, Vec::new()),
            Some(name) => (Scope::Dataset(name.to_owned()), vec![name.to_owned()]),
        };
        let tree = self.tree().await?;
        let failed = |error: ExportError| {
            tracing::error!(%error, "the log could not be exported");
            translate::internal("the log could not be exported")
        };
        let mut writer = ExportWriter::new(Vec::new(), scope, &self.evidence.sign(&tree)?).map_err(failed)?;
        let mut from = 0;
        loop {
            let page = self.store.log_entries(from, PAGE, &datasets).await.map_err(translate::ledger)?;
            // Entries that came after the checkpoint are not under it.
            let page: Vec<LogEntry> = page.into_iter().filter(|entry| entry.index < tree.size()).collect();
            let Some(last) = page.last().map(|entry| entry.index) else { break };
            let proofs = if datasets.is_empty() { None } else { Some(self.proofs(&page, &tree).await?) };
            for (at, entry) in page.iter().enumerate() {
                let proof = proofs.as_ref().and_then(|proofs| proofs.get(at)).map(Vec::as_slice);
                writer.entry(entry.index, &entry.entry, proof).map_err(failed)?;
            }
            from = last + 1;
        }
        writer.finish(self.evidence.signing_key()).map_err(failed)
    }

    async fn tree(self) -> Result<Tree, GatewayError> {
        self.store.log_tree().await.map_err(translate::ledger)
    }

    /// The inclusion proofs of entries.
    async fn proofs(self, entries: &[LogEntry], tree: &Tree) -> Result<Vec<Vec<Hash>>, GatewayError> {
        let lacks = || translate::internal("the log lacks parts of its tree");
        let mut ids = Vec::new();
        for entry in entries {
            ids.extend(inclusion_nodes(entry.index, tree.size()).ok_or_else(lacks)?);
        }
        ids.sort_unstable();
        ids.dedup();
        let nodes = self.store.log_nodes(&ids).await.map_err(translate::ledger)?;
        let node = |id: NodeId| nodes.get(&id).copied();
        entries.iter().map(|entry| inclusion_proof(entry.index, tree.size(), &node).ok_or_else(lacks)).collect()
    }
}

impl Gateway {
    fn log_kept(&self) -> Log<'_> {
        Log::new(self.store.as_ref(), &self.evidence)
    }

    /// The datasets whose entries the caller may read; empty for one who may read all of them.
    async fn readable(&self, caller: &Caller) -> Result<Vec<String>, GatewayError> {
        match (caller.role(), caller.owner()) {
            (Role::Auditor | Role::Operator, _) => Ok(Vec::new()),
            (Role::Steward, Some(owner)) => self.datasets_of_owner(owner).await,
            _ => caller
                .is_one_of(&[], "does not read the log", "use an auditor's or a steward's token")
                .map(|()| Vec::new()),
        }
    }

    /// The names of an owner's datasets, those that are withdrawn too. Never empty: where there is none, a name that no
    /// dataset can have.
    pub(super) async fn datasets_of_owner(&self, owner: &str) -> Result<Vec<String>, GatewayError> {
        let catalog = self.current_catalog().await?;
        let mut names: Vec<String> =
            catalog.names().filter(|name| name.owner() == owner).map(ToString::to_string).collect();
        if names.is_empty() {
            names.push(format!("{owner}."));
        }
        Ok(names)
    }

    /// Entries of the log from the place `from` on: all of them for an auditor, those about its datasets for a steward.
    ///
    /// # Errors
    /// `not_allowed` for other callers.
    pub async fn log(&self, caller: &Caller, from: u64, limit: u64) -> Result<LogPage, GatewayError> {
        let datasets = self.readable(caller).await?;
        self.log_kept().page(from, limit, &datasets).await
    }

    /// The signed checkpoint of the log as it stands (C2SP text form), for auditors and stewards: how many decisions there
    /// are is theirs to know.
    ///
    /// # Errors
    /// `ledger_frozen` when the log does not agree with what was signed before: a second history is never signed.
    pub async fn checkpoint(&self, caller: &Caller) -> Result<SignedCheckpoint, GatewayError> {
        self.readable(caller).await?;
        self.log_kept().checkpoint().await
    }

    /// The public key that checkpoints are verified with.
    #[must_use]
    pub fn verifier_key(&self) -> String {
        self.evidence.verifier().to_string()
    }

    /// The proof that an entry is in the log, with a signed checkpoint: a receipt that is verified offline.
    ///
    /// An auditor may have that of any entry, a steward of those about its datasets, and an analyst of its own
    /// answers. The entry itself is in it.
    ///
    /// # Errors
    /// `not_found` where there is no such entry, or it is not the caller's to read; `ledger_frozen`.
    pub async fn proof(&self, caller: &Caller, index: u64) -> Result<Receipt, GatewayError> {
        if caller.role() == Role::Analyst {
            let consumer = caller.analyst()?;
            return self.log_kept().receipt(index, &[], |entry| is_of(entry, consumer)).await;
        }
        let datasets = self.readable(caller).await?;
        self.log_kept().receipt(index, &datasets, |_| true).await
    }

    /// The proof that the log of `new` entries continues that of `old` entries (the present log where `new` is none).
    ///
    /// # Errors
    /// `request_invalid` for sizes that the log does not have; `ledger_frozen`.
    pub async fn consistency(
        &self,
        caller: &Caller,
        old: u64,
        new: Option<u64>,
    ) -> Result<ConsistencyProof, GatewayError> {
        self.readable(caller).await?;
        self.log_kept().consistency(old, new).await
    }

    /// The log as a file that is verified offline: the whole of it for an auditor, one dataset's entries for its steward.
    ///
    /// # Errors
    /// `not_allowed` for other callers, `ledger_frozen`, and when the storage fails.
    pub async fn export(&self, caller: &Caller, dataset: Option<&str>) -> Result<Vec<u8>, GatewayError> {
        let readable = self.readable(caller).await?;
        let all = readable.is_empty();
        match dataset {
            None if !all => Err(GatewayError::new(Code::RequestInvalid, "a steward exports one dataset's entries")
                .with_hint("name it: `dataset=OWNER.NAME`")),
            Some(name) if !all && !readable.iter().any(|own| own == name) => {
                Err(GatewayError::new(Code::NotAllowed, "that is no dataset of this token's owner")
                    .with_hint("use a token of the dataset's owner, or an auditor's"))
            }
            Some(name) if !self.current_catalog().await?.names().any(|known| known.to_string() == name) => {
                Err(GatewayError::new(Code::NotFound, "there is no dataset of that name")
                    .with_hint("GET /v1/datasets lists the datasets"))
            }
            dataset => self.log_kept().export(dataset).await,
        }
    }
}

impl From<LogEntry> for LogRow {
    fn from(entry: LogEntry) -> Self {
        Self { index: entry.index, leaf_hash: hex(&entry.leaf_hash), entry: entry.entry }
    }
}

/// Whether an entry is about a consumer's own query.
fn is_of(entry: &LogEntry, consumer: &str) -> bool {
    serde_json::from_str::<serde_json::Value>(&entry.entry).is_ok_and(|entry| {
        entry["consumer"] == consumer
            // Not its charges: whether `all_consumers` paid tells whether another has asked the same.
            && ["answer", "refusal", "approval_request", "budget_request"]
                .iter()
                .any(|kind| entry["kind"] == *kind)
    })
}
