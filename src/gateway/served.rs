//! The catalog that is served, as the storage has it: every version of every policy is kept there, and each dataset's state.
//!
//! ```text
//! policies/*.toml ── at start, where changed ─▶ storage ◀── stewards, while the gateway runs
//!                                                  │ a number that grows with every change
//!                       each question compares ────┴──▶ catalog, read anew when it is out of date
//! ```
//!
//! So a suspension holds before the next query starts, on every gateway that shares the storage.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use crate::catalog::{Catalog, Status};
use crate::config::Config;
use crate::ledger::{Actor, DatasetState, NewPolicy, PolicyOrigin, PolicyVersion, StatedPolicy, Store};
use crate::policy::{self, PolicyFile};
use crate::stores::Stores;

use super::standing::{Stored, assemble};
use super::{Code, Gateway, GatewayError, run_blocking, translate};

/// Why a dataset whose policy file went away is not served: it is, once the file is back.
pub(super) const FILE_GONE: &str = "its policy file is gone";

/// A catalog, and the number of changes that led to it.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) catalog: Arc<Catalog>,
    pub(super) changes: i64,
}

impl Served {
    /// What the storage has.
    pub(super) async fn read(
        store: &dyn Store,
        config: &Config,
        previous: Option<Arc<Catalog>>,
    ) -> Result<Self, GatewayError> {
        let (changes, stated) = store.policies().await.map_err(translate::ledger)?;
        Self::of(changes, stated, config, previous).await
    }

    /// What was read from the storage at the number `changes`.
    pub(super) async fn of(
        changes: i64,
        stated: Vec<StatedPolicy>,
        config: &Config,
        previous: Option<Arc<Catalog>>,
    ) -> Result<Self, GatewayError> {
        let stored = stated.into_iter().map(stored).collect();
        let locations = config.policies.locations.clone();
        let stores = previous.as_ref().map(|previous| previous.stores().clone());
        let stores = stores.unwrap_or_else(|| Stores::new(config.stores.clone()));
        let catalog = run_blocking(move || assemble(stores, stored, &locations, previous.as_deref())).await?;
        Ok(Self { catalog: Arc::new(catalog.map_err(translate::operator_catalog)?), changes })
    }

    /// What the storage would have with `new` in force: whether it can be served.
    pub(super) async fn with(
        stated: Vec<StatedPolicy>,
        new: &NewPolicy,
        config: &Config,
    ) -> Result<Self, GatewayError> {
        let mut stored: Vec<Stored> = stated.into_iter().map(stored).collect();
        let one = Stored {
            name: new.dataset.clone(),
            text: new.text.clone(),
            base: new.base.clone().into(),
            held_to_roots: new.held_to_roots,
            status: Status::Active,
            former_locations: Vec::new(),
        };
        match stored.iter_mut().find(|known| known.name == new.dataset) {
            Some(known) => {
                let former_locations = std::mem::take(&mut known.former_locations);
                *known = Stored { status: known.status.clone(), former_locations, ..one };
            }
            None => stored.push(one),
        }
        let locations = config.policies.locations.clone();
        let catalog = run_blocking(move || assemble(Stores::default(), stored, &locations, None)).await?;
        Ok(Self { catalog: Arc::new(catalog.map_err(translate::operator_catalog)?), changes: 0 })
    }
}

fn stored(stated: StatedPolicy) -> Stored {
    let StatedPolicy { policy, state, reason, former_locations } = stated;
    Stored {
        name: policy.dataset,
        text: policy.text,
        base: policy.base.into(),
        held_to_roots: policy.held_to_roots,
        status: match state {
            DatasetState::Active => Status::Active,
            DatasetState::Suspended => Status::Suspended { reason: reason.unwrap_or_default() },
            DatasetState::Withdrawn => Status::Withdrawn,
        },
        former_locations,
    }
}

impl Gateway {
    /// The catalog of now: read anew if another gateway, a steward or the operator has changed it.
    ///
    /// # Errors
    /// When the storage cannot be read, or what it holds cannot be served: then nothing is.
    pub(super) async fn current_catalog(&self) -> Result<Arc<Catalog>, GatewayError> {
        let changes = self.store.policy_changes().await.map_err(translate::ledger)?;
        let served = self.served.load_full();
        if served.changes == changes {
            return Ok(Arc::clone(&served.catalog));
        }
        let read = Served::read(self.store.as_ref(), &self.config, Some(Arc::clone(&served.catalog))).await;
        let read = Arc::new(read.map_err(|error| {
            tracing::error!(%error, "the registered policies cannot be served");
            GatewayError::new(
                Code::SourceUnavailable,
                "the registered policies do not go together; nothing is answered",
            )
            .with_hint("the operator has to act: the gateway's log says which policy is at fault")
        })?);
        // Of two that read at once the later reading wins.
        self.served.rcu(|now| if now.changes < read.changes { Arc::clone(&read) } else { Arc::clone(now) });
        Ok(Arc::clone(&self.served.load().catalog))
    }
}

/// Brings the policy files of the folder into the storage: those that say something else than when they were last brought
/// in. What a steward changed since stays in force until the file changes.
///
/// # Errors
/// When a file is wrong, or changes what accounts are kept by.
pub(super) async fn import_files(store: &dyn Store, dir: &Path) -> Result<(), GatewayError> {
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let folder = dir.clone();
    let files = run_blocking(move || read_folder(&folder)).await??;
    let brought = store.policies_from_files().await.map_err(translate::ledger)?;
    let brought: BTreeMap<&str, &PolicyVersion> =
        brought.iter().map(|version| (version.dataset.as_str(), version)).collect();
    let (_, stated) = store.policies().await.map_err(translate::ledger)?;
    let stated: BTreeMap<&str, &StatedPolicy> =
        stated.iter().map(|stated| (stated.policy.dataset.as_str(), stated)).collect();
    let (by, base) = (Actor::command_line(), dir.display().to_string());
    // Members before the collections that name them.
    for (file, text) in &files {
        let name = file.name().to_string();
        let last = brought.get(name.as_str());
        if let Some(stated) = stated.get(name.as_str()) {
            match stated.state {
                DatasetState::Withdrawn => {
                    tracing::warn!(dataset = %name, "the dataset was withdrawn for good; its policy file is passed over");
                    continue;
                }
                DatasetState::Suspended if stated.reason.as_deref() == Some(FILE_GONE) => {
                    set_state(store, &name, DatasetState::Active, None).await?;
                }
                DatasetState::Active | DatasetState::Suspended => {}
            }
        }
        if last.is_some_and(|last| last.version == file.version() && last.base == base) {
            continue;
        }
        let changes = match stated.get(name.as_str()) {
            None => "[]".to_owned(),
            Some(stated) => successor(stated, file)?,
        };
        let new = NewPolicy {
            dataset: name,
            version: file.version().to_owned(),
            text: text.clone(),
            base: base.clone(),
            held_to_roots: false,
            location: file.location().map(str::to_owned),
            origin: PolicyOrigin::File,
            reason: None,
            changes,
            at_changes: None,
        };
        store.put_policy(&new, &by).await.map_err(translate::ledger)?;
    }
    let present: BTreeSet<String> = files.iter().map(|(file, _)| file.name().to_string()).collect();
    for (name, stated) in stated {
        let from_file = stated.policy.origin == PolicyOrigin::File && stated.policy.base == base;
        if from_file && stated.state == DatasetState::Active && !present.contains(name) {
            tracing::warn!(dataset = name, "its policy file is gone: it is not answered any more");
            set_state(store, name, DatasetState::Suspended, Some(FILE_GONE)).await?;
        }
    }
    Ok(())
}

async fn set_state(
    store: &dyn Store,
    name: &str,
    state: DatasetState,
    reason: Option<&str>,
) -> Result<(), GatewayError> {
    store.set_dataset_state(name, state, reason, &Actor::command_line()).await.map_err(translate::ledger)
}

/// The files of a folder with their texts, datasets before collections. A folder that is not there has none.
fn read_folder(dir: &Path) -> Result<Vec<(PolicyFile, String)>, GatewayError> {
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let files = policy::load_dir(dir).map_err(|errors| translate::operator_catalog(errors.into()))?;
    let mut read = Vec::with_capacity(files.len());
    for file in files {
        let path = dir.join(format!("{}.toml", file.name()));
        let text = std::fs::read_to_string(&path)
            .map_err(|error| GatewayError::new(Code::SourceUnavailable, format!("{}: {error}", path.display())))?;
        let again =
            policy::parse_text(&path, dir, &text).map_err(|errors| translate::operator_catalog(errors.into()))?;
        if again.version() != file.version() {
            return Err(GatewayError::new(
                Code::SourceUnavailable,
                format!("{} changed while it was read", path.display()),
            )
            .with_hint("start again"));
        }
        read.push((file, text));
    }
    read.sort_by_key(|(file, _)| matches!(file, PolicyFile::Collection(_)));
    Ok(read)
}

/// What `new` changes, as JSON, if it may come after what is in force.
fn successor(stated: &StatedPolicy, new: &PolicyFile) -> Result<String, GatewayError> {
    let policy = &stated.policy;
    let old = policy::parse_text(Path::new(&policy.dataset), Path::new(&policy.base), &policy.text)
        .map_err(|errors| translate::operator_catalog(errors.into()))?;
    policy::check_successor(&old, new).map_err(|errors| translate::operator_catalog(errors.into()))?;
    serde_json::to_string(&policy::changes(&old, new)).map_err(|_| translate::internal("changes have no JSON form"))
}
