//! How a store is reached: a section `[stores.NAME]` of `tollgate.toml`. It holds no secret, only where one lies.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One store, by the name of its section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreSettings {
    /// The buckets that are reached so; when empty, the bucket of the section's own name.
    pub buckets: Vec<String>,
    /// The address of the service, such as `http://127.0.0.1:9000`; that of the environment
    /// (`AWS_ENDPOINT_URL`) or AWS's own when it is not set.
    pub endpoint: Option<String>,
    /// The region; that of the environment (`AWS_REGION`) or `us-east-1` when it is not set.
    pub region: Option<String>,
    /// Whether `endpoint` may be plain HTTP: then whoever sees the network sees the data.
    pub allow_http: bool,
    /// Whether the bucket is part of the host's name, and `endpoint` already names it.
    pub virtual_hosted_style: bool,
    /// A file of keys as AWS's tools write it (`[default]`, `aws_access_key_id = …`); a relative path is relative to the
    /// configuration file. Read again when it changes. Without one the keys are those of the environment (`AWS_*`).
    pub credentials_file: Option<PathBuf>,
    /// The section of `credentials_file`.
    pub profile: String,
    /// Whether keys may be asked of the machine's metadata service where there are no others.
    pub instance_credentials: bool,
    /// How often a request that failed for a reason that may pass is sent again, with growing pauses.
    pub max_retries: u32,
    /// How long one request is retried, in milliseconds.
    pub retry_timeout_ms: u64,
    /// How long one request may take, in milliseconds.
    pub request_timeout_ms: u64,
    /// How long a connection may take to come about, in milliseconds.
    pub connect_timeout_ms: u64,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            buckets: Vec::new(),
            endpoint: None,
            region: None,
            allow_http: false,
            virtual_hosted_style: false,
            credentials_file: None,
            profile: "default".to_owned(),
            instance_credentials: false,
            max_retries: 5,
            retry_timeout_ms: 20_000,
            request_timeout_ms: 30_000,
            connect_timeout_ms: 3_000,
        }
    }
}

impl StoreSettings {
    /// The buckets that it is about, of the section `name`.
    pub fn buckets_of<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s str> {
        let own = self.buckets.is_empty().then_some(name);
        self.buckets.iter().map(String::as_str).chain(own)
    }
}
