//! The secret that the processes of one cluster share: without it nobody is served a plan, a task or a row.
//!
//! It is held in a file that its owner alone can read, and travels as a header of every request. It keeps strangers who can
//! reach a port out; it does not hide anything from who can read the network, which Ballista 55 leaves in the clear here
//! (`docs/cluster.md`).

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use ballista_core::extension::EndpointOverrideFn;
use rand::TryRng;
use rand::rngs::SysRng;
use thiserror::Error;

/// The least that a secret's file may hold, in bytes.
const MIN_BYTES: usize = 32;

/// Why there is no secret.
#[derive(Debug, Error)]
pub enum SecretError {
    /// The file cannot be read or made.
    #[error("the cluster's secret {}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may read it.
    #[error("the cluster's secret {} can be read by others; make it 0600", .0.display())]
    Readable(PathBuf),
    /// It can be guessed.
    #[error("the cluster's secret {} holds fewer than {MIN_BYTES} bytes", .0.display())]
    Short(PathBuf),
    /// The operating system has no randomness.
    #[error("there is no randomness to make a secret of")]
    NoEntropy,
}

/// What proves that a request comes from a process of the cluster.
#[derive(Clone)]
pub struct ClusterSecret {
    /// What is sent: derived from the file's bytes, which are never sent themselves.
    proof: Arc<str>,
}

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecret(…)")
    }
}

impl ClusterSecret {
    /// The secret in the file at `path`.
    ///
    /// # Errors
    /// When it cannot be read, others could read it, or it is too short.
    pub fn load(path: &Path) -> Result<Self, SecretError> {
        let io = |source| SecretError::Io { path: path.to_owned(), source };
        let facts = fs::metadata(path).map_err(io)?;
        if facts.permissions().mode() & 0o077 != 0 {
            return Err(SecretError::Readable(path.to_owned()));
        }
        let text = fs::read(path).map_err(io)?;
        let bytes = text.trim_ascii();
        if bytes.len() < MIN_BYTES {
            return Err(SecretError::Short(path.to_owned()));
        }
        Ok(Self::of(bytes))
    }

    /// The secret in the file at `path`; where there is none it is made, with mode 0600.
    ///
    /// # Errors
    /// As [`Self::load`], and when it cannot be made.
    pub fn load_or_create(path: &Path) -> Result<Self, SecretError> {
        let io = |source| SecretError::Io { path: path.to_owned(), source };
        let mut file: File = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Self::load(path),
            Err(error) => return Err(io(error)),
        };
        let mut seed = [0; MIN_BYTES];
        SysRng.try_fill_bytes(&mut seed).map_err(|_| SecretError::NoEntropy)?;
        // Written as text, so that it can be copied to the other machines by any means.
        let text = blake3::derive_key("tollgate 2026 cluster secret file", &seed);
        writeln!(file, "{}", blake3::Hash::from_bytes(text).to_hex()).map_err(io)?;
        file.sync_all().map_err(io)?;
        Self::load(path)
    }

    fn of(bytes: &[u8]) -> Self {
        let proof = blake3::Hash::from_bytes(blake3::derive_key("tollgate 2026 cluster request", bytes));
        Self { proof: proof.to_hex().as_str().into() }
    }

    /// The value of the header `User-Agent`: Ballista's own clients, between executors too, leave us this one header of a
    /// request to set.
    pub(super) fn user_agent(&self) -> String {
        format!("{AGENT}{}", self.proof)
    }

    /// How a client of Ballista's has to connect.
    pub(super) fn endpoint(&self) -> EndpointOverrideFn {
        let agent = self.user_agent();
        Arc::new(move |endpoint| Ok(endpoint.user_agent(agent.clone())?))
    }

    fn admits(&self, headers: &HeaderMap) -> bool {
        let sent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
        // The client's library writes its own name behind ours.
        let sent = sent.strip_prefix(AGENT).and_then(|rest| rest.split(' ').next()).unwrap_or_default();
        // Hashes are compared in constant time.
        blake3::hash(sent.as_bytes()) == blake3::hash(self.proof.as_bytes())
    }

    /// `routes`, of which nothing is served without the secret.
    pub(super) fn guard(&self, routes: axum::Router) -> axum::Router {
        routes.layer(middleware::from_fn_with_state(self.clone(), admit))
    }
}

const AGENT: &str = "tollgate-cluster/";

async fn admit(State(secret): State<ClusterSecret>, request: Request, next: Next) -> Response {
    if secret.admits(request.headers()) {
        return next.run(request).await;
    }
    let mut refusal = Response::new(axum::body::Body::empty());
    *refusal.status_mut() = StatusCode::UNAUTHORIZED;
    refusal
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(agent: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::USER_AGENT, agent.parse().unwrap())])
    }

    #[test]
    fn who_has_the_file_is_admitted_and_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cluster.secret");
        let secret = ClusterSecret::load_or_create(&path).unwrap();
        let again = ClusterSecret::load_or_create(&path).unwrap();
        let other = ClusterSecret::load_or_create(&dir.path().join("other")).unwrap();
        assert!(secret.admits(&headers(&again.user_agent())));
        assert!(secret.admits(&headers(&format!("{} tonic/0.14", again.user_agent()))));
        assert!(!secret.admits(&headers(&other.user_agent())));
        assert!(!secret.admits(&headers(AGENT)));
        assert!(!secret.admits(&HeaderMap::new()));
        // What is sent is not what the file holds, and neither is shown.
        let file = fs::read_to_string(&path).unwrap();
        assert!(!secret.user_agent().contains(file.trim()));
        assert!(!format!("{secret:?}").contains(&*secret.proof));
    }

    #[test]
    fn a_file_that_others_can_read_or_that_is_short_is_no_secret() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cluster.secret");
        ClusterSecret::load_or_create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(ClusterSecret::load(&path), Err(SecretError::Readable(_))));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "short\n").unwrap();
        assert!(matches!(ClusterSecret::load(&path), Err(SecretError::Short(_))));
        assert!(matches!(ClusterSecret::load(&dir.path().join("none")), Err(SecretError::Io { .. })));
    }
}
