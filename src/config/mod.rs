//! `tollgate.toml`: what the operator of a gateway sets. Every key has a default, and any can be set by environment
//! (`TOLLGATE_SERVER__HTTP=127.0.0.1:8080`), which wins over the file.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};

use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::policy::{DatasetName, Fault, NameError, ObjectAddress, nearest, overlap};
use crate::stores::StoreSettings;

/// The beginning of every environment variable of ours.
const ENV_PREFIX: &str = "TOLLGATE_";

/// Variables of ours that are no configuration: the client's address and token, and where this file is.
const OTHER_VARIABLES: [&str; 3] = ["TOLLGATE_URL", "TOLLGATE_TOKEN", "TOLLGATE_CONFIG"];

/// The word that turns an interface off.
const OFF: &str = "off";

/// The longest time that something may be kept where it is not kept for ever: a hundred years.
const MOST_DAYS: u64 = 36_500;

/// Why there is no configuration. No message holds a variable's value, which may be a secret.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file that was asked for cannot be read.
    #[error("the configuration file {} cannot be read: {source}; without --config every key has its default", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A section or key that does not exist.
    #[error("{place}: unknown key `{key}`{}", meant(.nearest.as_ref()))]
    UnknownKey {
        /// The file, or the environment variable.
        place: String,
        /// The key, such as `server.htp`.
        key: String,
        /// What was likely meant.
        nearest: Option<String>,
    },
    /// A value of the wrong type, or a file that is no TOML.
    #[error("{place}: {message}")]
    Invalid {
        /// The file, or the environment variable, and the key.
        place: String,
        /// What is wrong.
        message: String,
    },
    /// An address that is none.
    #[error("{key} must be an address with a port, such as \"127.0.0.1:8080\", or \"off\"")]
    Address {
        /// The key.
        key: &'static str,
    },
    /// An owner that is no owner's name.
    #[error("policies.locations: {0}")]
    Owner(NameError),
    /// A folder of an owner that cannot be compared with others.
    #[error("policies.locations.{owner}: {} must not hold `..`: write the folder itself", .folder.display())]
    LocationParent {
        /// The owner.
        owner: String,
        /// The folder.
        folder: PathBuf,
    },
    /// Two owners with folders in one another.
    #[error(
        "policies.locations: a folder of `{owner}` is, or lies in, or holds one of `{other}`: either owner's stewards could register the other's data"
    )]
    SharedLocation {
        /// One owner.
        owner: String,
        /// The other.
        other: String,
    },
    /// An owner's prefix that is no address.
    #[error("policies.locations.{owner}: {fault}")]
    LocationAddress {
        /// The owner.
        owner: String,
        /// What is wrong with it.
        fault: Fault,
    },
    /// A bucket that is reached in two ways.
    #[error("stores.{name}: the bucket `{bucket}` is named by another section too: name it in one")]
    BucketTwice {
        /// The section.
        name: String,
        /// The bucket.
        bucket: String,
    },
    /// An endpoint that is none, or is not encrypted and was not said to be allowed so.
    #[error(
        "stores.{name}.endpoint must begin with `https://`, or with `http://` where `allow_http = true`, and hold no user or password"
    )]
    Endpoint {
        /// The section.
        name: String,
    },
    /// A storage address of a kind that is not known.
    #[error("storage.url must begin with `sqlite://`, such as \"sqlite://tollgate.db\", or with `postgres://`")]
    Storage,
    /// A webhook that cannot be reached.
    #[error(
        "alerts.webhook must be an address that begins with `http://`; for another, run a relay beside the gateway"
    )]
    Webhook,
    /// A mode that needs to know more.
    #[error("engine.mode is \"ballista\", which needs engine.scheduler and engine.cluster_secret")]
    Cluster,
    /// A scheduler's address that is none.
    #[error("engine.scheduler must be a host and a port, such as \"127.0.0.1:50050\"")]
    Scheduler,
    /// A number out of its range.
    #[error("{key} must be from {lo} to {hi}, not {found}")]
    OutOfRange {
        /// The key.
        key: &'static str,
        /// What it is.
        found: u64,
        /// The least that it may be.
        lo: u64,
        /// The most that it may be.
        hi: u64,
    },
}

fn meant(nearest: Option<&String>) -> String {
    nearest.map(|nearest| format!("; did you mean `{nearest}`?")).unwrap_or_default()
}

/// The configuration of a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The interfaces.
    pub server: Server,
    /// The ledger's storage.
    pub storage: Storage,
    /// The policy files.
    pub policies: Policies,
    /// The limits of queries.
    pub engine: Engine,
    /// The log's key, and where its newest checkpoint is kept.
    pub audit: Audit,
    /// What is told when budgets run low.
    pub alerts: Alerts,
    /// How long what may be forgotten is kept.
    pub retention: Retention,
    /// The object stores, by names of your own: see [`StoreSettings::buckets`].
    pub stores: BTreeMap<String, StoreSettings>,
}

/// The interfaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// The address of the HTTP interface, or `off`.
    pub http: String,
}

impl Server {
    /// The address of the HTTP interface; `None` when it is off.
    #[must_use]
    pub fn http_address(&self) -> Option<SocketAddr> {
        // `Config::load` has checked that anything but "off" is an address.
        self.http.parse().ok()
    }
}

impl Default for Server {
    fn default() -> Self {
        Self { http: "127.0.0.1:8080".to_owned() }
    }
}

/// The ledger's storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Storage {
    /// `sqlite://PATH`; a relative path is relative to the configuration file. Or `postgres://USER:PASSWORD@HOST:PORT/DATABASE`,
    /// which several gateways may share.
    pub url: String,
}

impl Default for Storage {
    fn default() -> Self {
        Self { url: "sqlite://tollgate.db".to_owned() }
    }
}

/// The log's key, and where its newest checkpoint is kept. Relative paths are relative to the configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// The private key (Ed25519, PEM) that signs checkpoints; made at the first start. Its public key stands beside it, with
    /// `.pub` appended.
    pub key: PathBuf,
    /// The log's name, which its checkpoints and its key carry. A name of your own, without spaces.
    pub name: String,
    /// The file that always holds the newest signed checkpoint. Keep it on another disk or machine than the storage: a
    /// storage that does not agree with it is not served.
    pub anchor: PathBuf,
}

impl Default for Audit {
    fn default() -> Self {
        Self { key: PathBuf::from("audit.key"), name: "tollgate".to_owned(), anchor: PathBuf::from("audit.checkpoint") }
    }
}

/// What is told when budgets run low.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Alerts {
    /// Shares of an account's budget, in percent, at which an alert is given: in the log, and to `webhook` if there is one.
    pub thresholds_percent: Vec<u64>,
    /// An address (`http://`) that alerts are posted to, as JSON.
    pub webhook: Option<String>,
}

/// How long what may be forgotten is kept, in days. What is not set is kept for ever, as are charges, draws, policies and the
/// log, whatever is set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Idempotency keys, after they were given. A request that is sent again later is decided as a new one is: what was paid
    /// for is free, and everything else is charged.
    pub idempotency_keys_days: Option<u64>,
    /// Budget requests, after they were decided; queries that waited for a steward and were not allowed, and what was reserved
    /// for them, after that is over.
    pub settled_requests_days: Option<u64>,
    /// That an alert was given, once the budget's window is over.
    pub past_alerts_days: Option<u64>,
    /// Tokens, after they were revoked.
    pub revoked_tokens_days: Option<u64>,
}

/// The policy files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policies {
    /// The folder that holds them; a relative one is relative to the configuration file.
    pub dir: PathBuf,
    /// For each owner the folders from which its stewards may register data while the gateway runs; relative ones are
    /// relative to the configuration file. An owner that is not listed can register none. No folder of one owner lies in
    /// another's.
    pub locations: BTreeMap<String, Vec<PathBuf>>,
}

impl Default for Policies {
    fn default() -> Self {
        Self { dir: PathBuf::from("policies"), locations: BTreeMap::new() }
    }
}

/// The limits of queries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Engine {
    /// The memory that all queries together may hold, in mebibytes.
    pub memory_limit_mb: u64,
    /// How long one query may run, in milliseconds.
    pub timeout_ms: u64,
    /// How many queries run at once. Others wait, and consumers take turns.
    pub max_concurrent_queries: usize,
    /// How many queries of one consumer run at once; half of `max_concurrent_queries` when it is not set.
    pub max_queries_per_consumer: Option<usize>,
    /// How many queries wait for others to end; one more is refused.
    pub max_queued_queries: usize,
    /// How many queries of one consumer wait.
    pub max_queued_per_consumer: usize,
    /// How long a query waits before it is refused, in milliseconds.
    pub queue_timeout_ms: u64,
    /// How many threads read and compute for queries, beside those that answer requests; one for each core when it is not
    /// set.
    pub threads: Option<usize>,
    /// Into how many partitions a query is split, two at least; one for each core when it is not set.
    pub target_partitions: Option<usize>,
    /// The most cells (groups of a product of public keys) that one query may ask for.
    pub max_cells: u64,
    /// The longest SQL text, in bytes.
    pub max_sql_bytes: usize,
    /// Answers leave at multiples of this, in milliseconds; 0 turns it off.
    pub response_quantum_ms: u64,
    /// Where the rows of a release are read and bounded.
    pub mode: EngineMode,
    /// `HOST:PORT` of the scheduler, in the mode `ballista`.
    pub scheduler: Option<String>,
    /// The file with the secret that gateway, scheduler and executors share, in the mode `ballista`.
    pub cluster_secret: Option<PathBuf>,
}

/// Where the rows of a release are read and bounded. Its noise is drawn by the gateway, wherever that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineMode {
    /// In the gateway's own process.
    #[default]
    Local,
    /// On the executors of an Apache Ballista cluster.
    Ballista,
}

impl Engine {
    /// The scheduler and the file of the secret, in the mode `ballista`.
    #[must_use]
    pub fn cluster(&self) -> Option<(&str, &Path)> {
        // `Config::load` has checked that both are there where they are needed.
        match self.mode {
            EngineMode::Local => None,
            EngineMode::Ballista => Some((self.scheduler.as_deref()?, self.cluster_secret.as_deref()?)),
        }
    }
}

impl Engine {
    /// How many queries of one consumer run at once.
    #[must_use]
    pub fn queries_per_consumer(&self) -> usize {
        self.max_queries_per_consumer.unwrap_or_else(|| self.max_concurrent_queries.div_ceil(2)).max(1)
    }
}

impl Default for Engine {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            memory_limit_mb: 2048,
            timeout_ms: 60_000,
            max_concurrent_queries: cores * 2,
            max_queries_per_consumer: None,
            max_queued_queries: 256,
            max_queued_per_consumer: 64,
            queue_timeout_ms: 30_000,
            threads: None,
            target_partitions: None,
            max_cells: 100_000,
            max_sql_bytes: 65_536,
            response_quantum_ms: 10,
            mode: EngineMode::Local,
            scheduler: None,
            cluster_secret: None,
        }
    }
}

impl Config {
    /// Reads the configuration: the defaults, over them `path` if one is given, over that the environment. Relative
    /// paths are resolved against the folder of `path`, or against the working directory.
    ///
    /// # Errors
    /// When `path` is given and cannot be read, or when a key is not known or a value is not one.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        // A variable that is not Unicode cannot be one of ours, whose names are plain.
        let variables = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        let ours = variables.filter(|(name, _)| name.starts_with(ENV_PREFIX));
        Self::load_with(path, ours.map(|(name, value)| (name, value.to_string_lossy().into_owned())))
    }

    /// The same, with the environment's variables as an argument.
    fn load_with(
        path: Option<&Path>,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut figment = Figment::new();
        if let Some(path) = path {
            let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
            let text = std::fs::read_to_string(path).map_err(unreadable)?;
            figment = figment.merge(Named { name: path.display().to_string(), inner: Toml::string(&text) });
        }
        for (name, value) in variables {
            if let Some(variable) = Variable::new(name, &value)? {
                figment = figment.merge(variable);
            }
        }
        let config: Self = figment.extract().map_err(|error| refusal(&error))?;
        config.check()?;
        let config = config.resolved(path.and_then(Path::parent).unwrap_or_else(|| Path::new("")));
        config.check_locations()?;
        Ok(config)
    }

    /// Checks what types alone do not.
    fn check(&self) -> Result<(), ConfigError> {
        if self.server.http != OFF && self.server.http.parse::<SocketAddr>().is_err() {
            return Err(ConfigError::Address { key: "server.http" });
        }
        let known = ["sqlite://", "postgres://", "postgresql://"];
        if !known.iter().any(|scheme| self.storage.url.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty())) {
            return Err(ConfigError::Storage);
        }
        if let Some(percent) = self.alerts.thresholds_percent.iter().find(|percent| !(1..=100).contains(*percent)) {
            return Err(ConfigError::OutOfRange { key: "alerts.thresholds_percent", found: *percent, lo: 1, hi: 100 });
        }
        // The client has no TLS: the address is one on this machine or in its network.
        if self.alerts.webhook.as_ref().is_some_and(|webhook| webhook.strip_prefix("http://").is_none_or(str::is_empty))
        {
            return Err(ConfigError::Webhook);
        }
        self.check_stores()?;
        let (engine, retention) = (&self.engine, &self.retention);
        let wide = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        for (key, found, lo, hi) in [
            ("engine.memory_limit_mb", engine.memory_limit_mb, 64, 16 * 1024 * 1024),
            ("engine.timeout_ms", engine.timeout_ms, 1, 24 * 60 * 60 * 1000),
            ("engine.max_concurrent_queries", wide(engine.max_concurrent_queries), 1, 100_000),
            ("engine.max_queries_per_consumer", engine.max_queries_per_consumer.map_or(1, wide), 1, 100_000),
            ("engine.max_queued_queries", wide(engine.max_queued_queries), 0, 1_000_000),
            ("engine.max_queued_per_consumer", wide(engine.max_queued_per_consumer), 0, 1_000_000),
            ("engine.queue_timeout_ms", engine.queue_timeout_ms, 0, 24 * 60 * 60 * 1000),
            ("engine.threads", engine.threads.map_or(1, wide), 1, 4096),
            ("engine.target_partitions", engine.target_partitions.map_or(1, wide), 1, 4096),
            ("engine.max_cells", engine.max_cells, 1, 10_000_000),
            ("engine.max_sql_bytes", wide(engine.max_sql_bytes), 1, 16 * 1024 * 1024),
            ("engine.response_quantum_ms", engine.response_quantum_ms, 0, 60_000),
            ("retention.idempotency_keys_days", retention.idempotency_keys_days.unwrap_or(1), 1, MOST_DAYS),
            ("retention.settled_requests_days", retention.settled_requests_days.unwrap_or(1), 1, MOST_DAYS),
            ("retention.past_alerts_days", retention.past_alerts_days.unwrap_or(1), 1, MOST_DAYS),
            ("retention.revoked_tokens_days", retention.revoked_tokens_days.unwrap_or(1), 1, MOST_DAYS),
        ] {
            if !(lo..=hi).contains(&found) {
                return Err(ConfigError::OutOfRange { key, found, lo, hi });
            }
        }
        if engine.mode == EngineMode::Ballista && engine.cluster().is_none() {
            return Err(ConfigError::Cluster);
        }
        // As executors name it: a host, perhaps by name, and a port.
        let is_address = |address: &String| {
            address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        };
        if engine.scheduler.as_ref().is_some_and(|address| !is_address(address)) {
            return Err(ConfigError::Scheduler);
        }
        Ok(())
    }

    /// Checks that each bucket is reached in one way, and over the network in the clear only where the operator says so.
    fn check_stores(&self) -> Result<(), ConfigError> {
        let mut buckets = std::collections::BTreeSet::new();
        for (name, store) in &self.stores {
            for bucket in store.buckets_of(name) {
                if !buckets.insert(bucket) {
                    return Err(ConfigError::BucketTwice { name: name.clone(), bucket: bucket.to_owned() });
                }
            }
            let fits = |endpoint: &String| {
                let plain = store.allow_http.then(|| endpoint.strip_prefix("http://")).flatten();
                let rest = endpoint.strip_prefix("https://").or(plain);
                rest.is_some_and(|rest| !rest.is_empty() && !rest.contains('@'))
            };
            if !store.endpoint.as_ref().is_none_or(fits) {
                return Err(ConfigError::Endpoint { name: name.clone() });
            }
        }
        Ok(())
    }

    /// Checks that what one owner's stewards may register is never another's.
    fn check_locations(&self) -> Result<(), ConfigError> {
        let locations = &self.policies.locations;
        for (owner, folders) in locations {
            DatasetName::new(owner, "any").map_err(ConfigError::Owner)?;
            for folder in folders {
                if let Some(address) = folder.to_str().filter(|folder| ObjectAddress::is_one(folder)) {
                    let address = ObjectAddress::parse(address).and_then(|address| {
                        let is_pattern = address.key().contains(['*', '[']);
                        if is_pattern { Err(Fault::AddressParts) } else { Ok(address) }
                    });
                    address.map_err(|fault| ConfigError::LocationAddress { owner: owner.clone(), fault })?;
                }
                if folder.components().any(|part| part == Component::ParentDir) {
                    return Err(ConfigError::LocationParent { owner: owner.clone(), folder: folder.clone() });
                }
                let shares = |others: &Vec<PathBuf>| others.iter().any(|other| overlap(folder, other));
                if let Some((other, _)) = locations.range(..owner.clone()).find(|(_, others)| shares(others)) {
                    return Err(ConfigError::SharedLocation { owner: owner.clone(), other: other.clone() });
                }
            }
        }
        Ok(())
    }

    /// With relative paths resolved against `folder`.
    fn resolved(mut self, folder: &Path) -> Self {
        self.policies.dir = folder.join(&self.policies.dir);
        self.audit.key = folder.join(&self.audit.key);
        self.audit.anchor = folder.join(&self.audit.anchor);
        self.engine.cluster_secret = self.engine.cluster_secret.map(|file| folder.join(file));
        for location in self.policies.locations.values_mut().flatten() {
            if location.to_str().is_some_and(ObjectAddress::is_one) {
                continue;
            }
            let place = folder.join(&location);
            // Links are resolved whenever a file is read; here a folder need not exist yet.
            *location = std::path::absolute(&place).unwrap_or(place);
        }
        for keys in self.stores.values_mut().filter_map(|store| store.credentials_file.as_mut()) {
            *keys = folder.join(&keys);
        }
        // `sqlite::memory:` is no file, and `check` lets nothing else through that does not begin so.
        if let Some(file) = self.storage.url.strip_prefix("sqlite://")
            && !file.starts_with(':')
        {
            self.storage.url = format!("sqlite://{}", folder.join(file).display());
        }
        self
    }
}

/// A provider under the name that its errors should give.
struct Named<P> {
    name: String,
    inner: P,
}

impl<P: Provider> Provider for Named<P> {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        self.inner.data()
    }
}

/// One environment variable that sets one key.
struct Variable {
    name: String,
    section: String,
    key: String,
    value: Value,
}

impl Variable {
    /// `None` when the variable is not for us.
    fn new(name: String, value: &str) -> Result<Option<Self>, ConfigError> {
        let Some(path) = name.strip_prefix(ENV_PREFIX) else { return Ok(None) };
        if OTHER_VARIABLES.contains(&name.as_str()) {
            return Ok(None);
        }
        let path = path.to_lowercase();
        let Some((section, key)) = path.split_once("__") else {
            // A key without its section would be passed over in silence: a limit that somebody believes to be set.
            let nearest = nearest(&name, variable_names().iter().map(String::as_str)).map(str::to_owned);
            return Err(ConfigError::UnknownKey { place: "environment".to_owned(), key: name, nearest });
        };
        let (section, key) = (section.to_owned(), key.to_owned());
        // Figment's reading of a variable: numbers and truth values are such, and everything else is text.
        let value = value.parse().unwrap_or_else(|never| match never {});
        Ok(Some(Self { name, section, key, value }))
    }
}

impl Provider for Variable {
    fn metadata(&self) -> Metadata {
        Metadata::named(format!("environment variable {}", self.name))
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let section = Dict::from([(self.key.clone(), self.value.clone())]);
        let root = Dict::from([(self.section.clone(), Value::from(section))]);
        Ok(Map::from([(Profile::Default, root)]))
    }
}

/// The environment variable of every key.
fn variable_names() -> Vec<String> {
    known_keys("").iter().map(|key| format!("{ENV_PREFIX}{}", key.to_uppercase().replace('.', "__"))).collect()
}

/// The keys that the section `section` may have; of the document itself (`""`), every `section.key`.
fn known_keys(section: &str) -> Vec<String> {
    let Ok(serde_json::Value::Object(document)) = serde_json::to_value(Config::default()) else { return Vec::new() };
    let keys = |(name, keys): (&String, &serde_json::Value)| {
        let keys = keys.as_object().map(|keys| keys.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
        keys.into_iter().map(|key| format!("{name}.{key}")).collect::<Vec<_>>()
    };
    document.iter().filter(|(name, _)| section.is_empty() || section == name.as_str()).flat_map(keys).collect()
}

/// Figment's error in our words.
fn refusal(error: &figment::Error) -> ConfigError {
    use figment::error::Kind;

    let place = error.metadata.as_ref().map_or_else(|| "configuration".to_owned(), |from| from.name.to_string());
    let path = error.path.join(".");
    match &error.kind {
        Kind::UnknownField(field, known) => {
            // Figment's path ends with the unknown key itself.
            let section = path.strip_suffix(field.as_str()).unwrap_or(&path).trim_end_matches('.');
            let nearest = nearest(field, known.iter().copied());
            let full = |key: &str| if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
            // A key that has strayed into the wrong section is likelier than one that is misspelt.
            let strayed = known_keys("").into_iter().find(|key| key.rsplit('.').next() == Some(field.as_str()));
            ConfigError::UnknownKey { place, key: full(field), nearest: strayed.or_else(|| nearest.map(full)) }
        }
        Kind::InvalidType(found, expected) => {
            let message = format!("{path} must be {}, not {}", in_words(expected), kind_of(found));
            ConfigError::Invalid { place, message }
        }
        // Of a value out of range, figment would print the value, which for a variable may be a secret.
        Kind::InvalidValue(_, expected) => {
            ConfigError::Invalid { place, message: format!("{path} must be {}", in_words(expected)) }
        }
        other => ConfigError::Invalid { place, message: other.to_string() },
    }
}

/// The type that was expected, as one who does not write Rust says it.
fn in_words(expected: &str) -> &str {
    match expected {
        "u64" | "usize" => "a whole number",
        "a string" | "path string" => "a text in quotes",
        other => other,
    }
}

/// What a value is, without saying which.
fn kind_of(found: &figment::error::Actual) -> &'static str {
    use figment::error::Actual;
    match found {
        Actual::Bool(_) => "true or false",
        Actual::Unsigned(_) | Actual::Signed(_) => "a whole number",
        Actual::Float(_) => "a number with a fraction",
        Actual::Char(_) | Actual::Str(_) => "a text",
        Actual::Seq => "a list",
        Actual::Map => "a table",
        _ => "something else",
    }
}

#[cfg(test)]
mod tests;
