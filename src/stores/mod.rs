//! Where Parquet lies: files of this machine and objects of S3-compatible stores, listed, versioned and read alike.
//!
//! ```text
//! location ── list ──▶ DataFile (size, time, tag) ── footer ──▶ schema, hash
//!                          │
//!                      FilesTable ── scan ──▶ path/pinned-TAG ── Registry ──▶ Pinned store: that version or an error
//! ```
//!
//! It knows neither policies' rules nor what is asked of the data. Keys of stores come from the environment or a file that
//! the configuration names, never from an address.

mod bridge;
mod columns;
mod credentials;
mod error;
mod file;
mod footer;
mod listing;
mod local;
mod pinned;
mod registry;
mod settings;
mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use datafusion::execution::object_store::ObjectStoreRegistry;
use futures::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use crate::policy::{OBJECT_SCHEME, ObjectAddress};

pub use columns::joined;
pub use error::StoreError;
pub use file::DataFile;
pub use footer::Footer;
pub use local::local_files;
pub use settings::StoreSettings;
pub use table::FilesTable;

use bridge::Bridge;
use credentials::FileCredentials;
use file::Place;

/// How many footers of objects are asked for at once.
const FOOTERS_AT_ONCE: usize = 16;

/// The stores that a gateway reaches, by the sections of its configuration. Clones share their connections.
#[derive(Debug, Clone, Default)]
pub struct Stores(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    settings: BTreeMap<String, StoreSettings>,
    /// The clients that list and read footers, on the bridge's runtime.
    clients: Mutex<HashMap<String, Arc<AmazonS3>>>,
    bridge: OnceLock<Bridge>,
}

impl Stores {
    /// The stores of the sections `[stores.NAME]`; a bucket of no section is reached as the environment (`AWS_*`) says.
    #[must_use]
    pub fn new(settings: BTreeMap<String, StoreSettings>) -> Self {
        Self(Arc::new(Inner { settings, ..Inner::default() }))
    }

    /// What an engine that reads [`FilesTable`]s finds stores by. It reads pinned files and does nothing else.
    #[must_use]
    pub fn registry(&self) -> Arc<dyn ObjectStoreRegistry> {
        Arc::new(registry::Registry::new(self.clone()))
    }

    /// The files or objects at `location` as they are now, in the order of their names. Blocking I/O.
    ///
    /// # Errors
    /// When there are none, or the store cannot be asked.
    pub fn list(&self, location: &str) -> Result<Vec<DataFile>, StoreError> {
        if !ObjectAddress::is_one(location) {
            return local_files(location, Ok)?.into_iter().map(DataFile::local).collect();
        }
        let address = ObjectAddress::parse(location).map_err(|fault| {
            // What may hold a secret is not repeated.
            StoreError::Address { address: OBJECT_SCHEME.to_owned(), fault }
        })?;
        let client = self.client(address.bucket())?;
        self.bridge().wait(async move { listing::list(client.as_ref(), &address).await })
    }

    /// The footers of `files`, in their order. Each file must still be what it was when it was listed. Blocking I/O.
    ///
    /// # Errors
    /// When one has changed, cannot be read or is no Parquet.
    pub fn footers(&self, files: &[DataFile]) -> Result<Vec<Footer>, StoreError> {
        let mut remote = Vec::new();
        let mut footers: Vec<Option<Footer>> = vec![None; files.len()];
        for (at, file) in files.iter().enumerate() {
            match &file.place {
                Place::Local { real, .. } => footers[at] = Some(footer::read_local(file, real)?),
                Place::Object { bucket, .. } => remote.push((at, self.client(bucket)?, file.clone())),
            }
        }
        if !remote.is_empty() {
            let read = futures::stream::iter(remote)
                .map(|(at, client, file)| async move {
                    footer::read_object(client.as_ref(), &file).await.map(|footer| (at, footer))
                })
                .buffer_unordered(FOOTERS_AT_ONCE);
            for (at, footer) in self.bridge().wait(read.try_collect::<Vec<_>>())? {
                footers[at] = Some(footer);
            }
        }
        Ok(footers.into_iter().flatten().collect())
    }

    /// A store that objects of `bucket` can be written to. For what a company's own operator does with its own keys: no engine
    /// has one.
    ///
    /// # Errors
    /// When it cannot be reached as it is configured.
    pub fn writer(&self, bucket: &str) -> Result<Arc<dyn ObjectStore>, StoreError> {
        Ok(Arc::new(self.connect(bucket)?))
    }

    fn bridge(&self) -> &Bridge {
        self.0.bridge.get_or_init(Bridge::new)
    }

    fn client(&self, bucket: &str) -> Result<Arc<AmazonS3>, StoreError> {
        let mut clients = self.0.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(bucket) {
            return Ok(Arc::clone(client));
        }
        let client = Arc::new(self.connect(bucket)?);
        clients.insert(bucket.to_owned(), Arc::clone(&client));
        Ok(client)
    }

    /// A client for `bucket`. Sends no request.
    fn connect(&self, bucket: &str) -> Result<AmazonS3, StoreError> {
        let sections = &self.0.settings;
        let named = sections.iter().find(|(name, settings)| settings.buckets_of(name).any(|one| one == bucket));
        let unlisted = StoreSettings::default();
        let (name, settings) = named.map_or((bucket, &unlisted), |(name, settings)| (name.as_str(), settings));
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: settings.max_retries as usize,
            retry_timeout: Duration::from_millis(settings.retry_timeout_ms),
        });
        // A section that names a store is the whole of how it is reached; the environment then gives keys at most.
        let allow_http = match named {
            Some(_) => settings.allow_http,
            None => builder.get_config_value(&ALLOW_HTTP).is_some_and(|value| value == "true"),
        };
        builder = builder.with_client_options(
            ClientOptions::new()
                .with_allow_http(allow_http)
                .with_timeout(Duration::from_millis(settings.request_timeout_ms))
                .with_connect_timeout(Duration::from_millis(settings.connect_timeout_ms)),
        );
        if named.is_some() {
            builder = builder.with_virtual_hosted_style_request(settings.virtual_hosted_style);
        }
        if let Some(endpoint) = &settings.endpoint {
            builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, endpoint);
        }
        if let Some(region) = &settings.region {
            builder = builder.with_region(region);
        }
        if let Some(path) = &settings.credentials_file {
            let keys = FileCredentials::new(path.clone(), settings.profile.clone());
            keys.read()?;
            builder = builder.with_credentials(Arc::new(keys));
        } else if !settings.instance_credentials && !has_keys(&builder) {
            // Else the library would ask an address of the machine's network for keys, and wait.
            return Err(StoreError::NoCredentials(format!("{OBJECT_SCHEME}{bucket}/")));
        }
        builder.build().map_err(|_| StoreError::Settings { name: name.to_owned(), what: "cannot be used as it is" })
    }
}

/// Where the library keeps `AWS_ALLOW_HTTP`.
const ALLOW_HTTP: AmazonS3ConfigKey = AmazonS3ConfigKey::Client(object_store::ClientConfigKey::AllowHttp);

/// Whether the environment says where keys come from, or that none are needed.
fn has_keys(builder: &AmazonS3Builder) -> bool {
    KEYS.iter().any(|key| builder.get_config_value(key).is_some())
        || builder.get_config_value(&AmazonS3ConfigKey::SkipSignature).is_some_and(|skip| skip == "true")
}

const KEYS: [AmazonS3ConfigKey; 5] = [
    AmazonS3ConfigKey::AccessKeyId,
    AmazonS3ConfigKey::WebIdentityTokenFile,
    AmazonS3ConfigKey::ContainerCredentialsRelativeUri,
    AmazonS3ConfigKey::ContainerCredentialsFullUri,
    AmazonS3ConfigKey::MetadataEndpoint,
];
