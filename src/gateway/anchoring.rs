//! The key that signs the log, and the checkpoint that is kept outside the storage: what a restored backup is found out by.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use crate::audit::anchor::{Agreement, Anchor, AnchorError, Durability, compare};
use crate::audit::checkpoint::{Checkpoint, SignedCheckpoint};
use crate::audit::key::{SigningKey, VerifierKey};
use crate::audit::merkle::{Tree, root_at, root_nodes};
use crate::config::Config;
use crate::ledger::{Actor, Decision, Entry, Store};

use super::{Code, Gateway, GatewayError, run_blocking, translate};

/// How often the outside checkpoint follows the log. What is lost in a power cut is at most this much of the anchor, never
/// of the log.
const FOLLOW: Duration = Duration::from_millis(250);

/// The signing key and the outside checkpoint of a gateway.
#[derive(Debug)]
pub(super) struct Evidence {
    key: SigningKey,
    anchor: Arc<Mutex<Anchor>>,
    /// Why nothing is answered, if the storage does not agree with the outside checkpoint: found at the start, or later.
    frozen: OnceLock<String>,
}

impl Evidence {
    /// Reads the key and the outside checkpoint, and holds the storage against it.
    ///
    /// # Errors
    /// When the key or the checkpoint cannot be read, or the storage fails. A storage that does not agree is opened, and
    /// answers nothing.
    pub(super) async fn open(store: &dyn Store, config: &Config) -> Result<Self, GatewayError> {
        let (key, anchor) = Self::read(config).await?;
        let anchored = anchor.newest().map(SignedCheckpoint::checkpoint).cloned();
        let agreement = agreement(store, anchored.as_ref()).await?;
        let was_anchored = store.anchored().await.map_err(translate::ledger)?;
        let frozen = disagreement(agreement, was_anchored);
        if let Some(why) = &frozen {
            tracing::error!(
                why,
                "the ledger does not agree with the checkpoint that is kept outside it: nothing is answered"
            );
        }
        let frozen = frozen.map_or_else(OnceLock::new, OnceLock::from);
        Ok(Self { key, anchor: Arc::new(Mutex::new(anchor)), frozen })
    }

    /// How a copy of the storage stands to the outside checkpoint.
    ///
    /// # Errors
    /// When the key or the checkpoint cannot be read, or the storage fails.
    pub(super) async fn stands(store: &dyn Store, config: &Config) -> Result<Agreement, GatewayError> {
        let (_, anchor) = Self::read(config).await?;
        agreement(store, anchor.newest().map(SignedCheckpoint::checkpoint)).await
    }

    async fn read(config: &Config) -> Result<(SigningKey, Anchor), GatewayError> {
        let audit = config.audit.clone();
        run_blocking(move || {
            let key = SigningKey::load_or_create(&audit.key, &audit.name).map_err(|error| error.to_string())?;
            let anchor = Anchor::open(&audit.anchor, key.verifier().clone()).map_err(|error| error.to_string())?;
            Ok::<_, String>((key, anchor))
        })
        .await?
        .map_err(|what| {
            GatewayError::new(Code::Internal, what).with_hint("see [audit] in the configuration, and docs/evidence.md")
        })
    }

    /// Begins a new outside checkpoint for a storage whose old one is lost, and writes that into the log.
    pub(super) async fn adopt(store: &dyn Store, config: &Config, reason: &str) -> Result<(), GatewayError> {
        let Self { key, anchor, .. } = Self::open(store, config).await?;
        let there = anchor.lock().unwrap_or_else(PoisonError::into_inner).newest().is_some();
        if there {
            return Err(GatewayError::new(Code::Conflict, "there is a checkpoint outside the ledger").with_hint(
                "start the gateway; where the ledger does not agree with the checkpoint, restore the ledger's newest copy",
            ));
        }
        let (at, reason) = (chrono::Utc::now(), reason.to_owned());
        let entry = Entry { at, by: Some(Actor::command_line()), decision: Decision::Adoption { reason } };
        store.record(entry, Vec::new()).await.map_err(translate::ledger)?;
        let tree = store.log_tree().await.map_err(translate::ledger)?;
        let signed = Self { key, anchor: Arc::clone(&anchor), frozen: OnceLock::new() }.sign(&tree)?;
        let written = run_blocking(move || {
            anchor.lock().unwrap_or_else(PoisonError::into_inner).write(&signed, Durability::Disk)
        });
        written.await?.map_err(|error| GatewayError::new(Code::Internal, error.to_string()))
    }

    /// Why nothing is answered, if so.
    pub(super) fn frozen(&self) -> Option<&str> {
        self.frozen.get().map(String::as_str)
    }

    /// That the storage agrees with the outside checkpoint.
    pub(super) fn check(&self) -> Result<(), GatewayError> {
        self.frozen.get().map_or(Ok(()), |why| {
            Err(GatewayError::new(
                Code::LedgerFrozen,
                format!(
                    "the ledger does not agree with the checkpoint that is kept outside it: {why}; nothing is answered"
                ),
            )
            .with_hint("the operator restores the newest copy of the ledger, and starts the gateway again"))
        })
    }

    /// The public key.
    pub(super) fn verifier(&self) -> &VerifierKey {
        self.key.verifier()
    }

    /// The private key, for what is signed beside checkpoints.
    pub(super) const fn signing_key(&self) -> &SigningKey {
        &self.key
    }

    /// The signed checkpoint of `tree`.
    pub(super) fn sign(&self, tree: &Tree) -> Result<SignedCheckpoint, GatewayError> {
        let checkpoint = Checkpoint { origin: self.key.name().to_owned(), size: tree.size(), root: tree.root() };
        checkpoint.sign(&self.key).map_err(|_| translate::internal("a checkpoint could not be signed"))
    }
}

/// How the storage stands to the outside checkpoint.
async fn agreement(store: &dyn Store, anchor: Option<&Checkpoint>) -> Result<Agreement, GatewayError> {
    let tree = store.log_tree().await.map_err(translate::ledger)?;
    let nodes = match anchor {
        Some(anchor) if anchor.size < tree.size() => {
            store.log_nodes(&root_nodes(anchor.size)).await.map_err(translate::ledger)?
        }
        _ => std::collections::HashMap::new(),
    };
    Ok(compare(anchor, &tree, |size| root_at(size, &|id| nodes.get(&id).copied())))
}

/// Why the gateway must answer nothing, in words.
fn disagreement(agreement: Agreement, was_anchored: bool) -> Option<String> {
    match agreement {
        Agreement::Agrees => None,
        // A new ledger, to which an operator may have added consumers before the first start.
        Agreement::Unanchored { .. } if !was_anchored => None,
        Agreement::Unanchored { .. } => Some(
            "the file with the checkpoint is gone. Put it back, or let `tollgate ledger adopt` begin a new one if this copy of \
             the ledger is known to be the newest"
                .to_owned(),
        ),
        Agreement::Behind { missing } => Some(format!(
            "the ledger lacks the last {missing} entries that were signed. It is an older copy, and does not know all that was \
             spent: restore the newest"
        )),
        Agreement::Forked { size } => Some(format!(
            "the ledger's first {size} entries are not those that were signed. It was changed, or went on from an older copy: \
             restore the newest copy that was not"
        )),
        Agreement::Incomplete { size } => Some(format!(
            "the ledger lacks parts of the log of its first {size} entries: run `tollgate ledger check`, or restore a copy"
        )),
    }
}

/// Lets the outside checkpoint follow the log, as long as the gateway lives.
pub(super) async fn keep_anchored(gateway: &Arc<Gateway>) -> Result<(), GatewayError> {
    if gateway.evidence.frozen().is_some() {
        return Ok(());
    }
    gateway.anchor().await?;
    gateway.store.set_anchored().await.map_err(translate::ledger)?;
    let gateway: Weak<Gateway> = Arc::downgrade(gateway);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(FOLLOW).await;
            let Some(gateway) = gateway.upgrade() else { return };
            if let Err(error) = gateway.anchor().await {
                tracing::error!(%error, "the checkpoint outside the ledger could not be written");
            }
        }
    });
    Ok(())
}

impl Gateway {
    /// Writes the checkpoint of now outside the storage, unless it is there already.
    ///
    /// # Errors
    /// When the storage or the file fails.
    pub async fn anchor(&self) -> Result<(), GatewayError> {
        if self.evidence.frozen().is_some() {
            return Ok(());
        }
        let tree = self.store.log_tree().await.map_err(translate::ledger)?;
        let anchor = Arc::clone(&self.evidence.anchor);
        let newest = |anchor: &Mutex<Anchor>| {
            let anchor = anchor.lock().unwrap_or_else(PoisonError::into_inner);
            anchor.newest().map(SignedCheckpoint::checkpoint).cloned()
        };
        let before = newest(&anchor);
        if before.as_ref().is_some_and(|before| before.size == tree.size() && before.root == tree.root()) {
            return Ok(());
        }
        // A storage that was rolled back, or failed over to an older copy, while the gateway runs: it must not be signed over
        // what shows it.
        self.agrees_with(before.as_ref()).await?;
        let signed = self.evidence.sign(&tree)?;
        let (shared, writing) = (Arc::clone(&anchor), anchor);
        let written = run_blocking(move || {
            writing.lock().unwrap_or_else(PoisonError::into_inner).write(&signed, Durability::Disk)
        });
        match written.await? {
            // Another gateway that shares the file has written a later one: it must be of the same history.
            Err(AnchorError::Backwards { .. }) => self.agrees_with(newest(&shared).as_ref()).await,
            written => written.map_err(|error| {
                GatewayError::new(Code::Internal, error.to_string()).with_hint("see [audit] in the configuration")
            }),
        }
    }

    /// Holds the storage against a checkpoint that was signed. If it does not agree, nothing is answered from now on.
    async fn agrees_with(&self, signed: Option<&Checkpoint>) -> Result<(), GatewayError> {
        if let Some(why) = disagreement(agreement(self.store.as_ref(), signed).await?, signed.is_some()) {
            tracing::error!(why, "the ledger no longer agrees with what was signed: nothing is answered from now on");
            // Whoever found it first has said why.
            let _ = self.evidence.frozen.set(why);
        }
        self.evidence.check()
    }
}
