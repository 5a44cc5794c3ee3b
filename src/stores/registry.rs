//! Which store DataFusion finds behind an address: those of this gateway, of which pinned files are read and no more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::common::{DataFusionError, Result};
use datafusion::execution::object_store::ObjectStoreRegistry;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use url::Url;

use super::Stores;
use super::pinned::Pinned;

/// The registry of an engine. Whoever runs plans over our tables on another machine needs one there too: the files of a
/// plan are pinned, and no other store knows what that is.
#[derive(Debug)]
pub(super) struct Registry {
    stores: Stores,
    local: Arc<dyn ObjectStore>,
    /// One client for each bucket, beside those that list: a client's connections live on the runtime that made them.
    buckets: Mutex<HashMap<String, Arc<dyn ObjectStore>>>,
}

impl Registry {
    pub(super) fn new(stores: Stores) -> Self {
        Self { stores, local: Arc::new(Pinned::Local(LocalFileSystem::new())), buckets: Mutex::default() }
    }
}

impl ObjectStoreRegistry for Registry {
    /// Registers nothing: what may be read is decided by the configuration.
    fn register_store(&self, _: &Url, _: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        tracing::warn!("a store was not registered: stores come from the configuration alone");
        None
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        match (url.scheme(), url.host_str()) {
            ("file", None | Some("")) => Ok(Arc::clone(&self.local)),
            ("s3", Some(bucket)) => {
                let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(store) = buckets.get(bucket) {
                    return Ok(Arc::clone(store));
                }
                let client = self.stores.connect(bucket).map_err(|error| {
                    // Told in full where it can be mended: an error of an executor goes to other machines.
                    tracing::error!(%error, "a store cannot be used");
                    DataFusionError::Configuration("tollgate: a store cannot be used".to_owned())
                })?;
                let store: Arc<dyn ObjectStore> = Arc::new(Pinned::Objects(Arc::new(client)));
                buckets.insert(bucket.to_owned(), Arc::clone(&store));
                Ok(store)
            }
            _ => Err(DataFusionError::Plan("no store is behind this address".to_owned())),
        }
    }
}
