//! Keys out of a file, as AWS's own tools write it.
//!
//! ```text
//! [default]
//! aws_access_key_id = …
//! aws_secret_access_key = …
//! aws_session_token = …      (may be absent)
//! ```

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;

use super::error::StoreError;

/// The keys of one section of a file, read again whenever the file changes, so that keys can be rotated.
#[derive(Debug)]
pub(super) struct FileCredentials {
    path: PathBuf,
    profile: String,
    last: Mutex<Option<(SystemTime, Arc<AwsCredential>)>>,
}

impl FileCredentials {
    pub(super) fn new(path: PathBuf, profile: String) -> Self {
        Self { path, profile, last: Mutex::default() }
    }

    /// The keys as they are now. Blocking I/O, of one small file.
    pub(super) fn read(&self) -> Result<Arc<AwsCredential>, StoreError> {
        let wrong = |what| StoreError::Credentials { path: self.path.clone(), what };
        let changed =
            fs::metadata(&self.path).and_then(|facts| facts.modified()).map_err(|_| wrong("cannot be read"))?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, keys)) = last.as_ref()
            && *at == changed
        {
            return Ok(Arc::clone(keys));
        }
        let text = fs::read_to_string(&self.path).map_err(|_| wrong("cannot be read"))?;
        let keys = Arc::new(parse(&text, &self.profile).map_err(wrong)?);
        *last = Some((changed, Arc::clone(&keys)));
        Ok(keys)
    }
}

#[async_trait]
impl CredentialProvider for FileCredentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        self.read().map_err(|error| object_store::Error::Unauthenticated {
            path: self.path.display().to_string(),
            source: Box::new(error),
        })
    }
}

/// The keys of the section `profile`. What is wrong is said without a word of the text.
fn parse(text: &str, profile: &str) -> Result<AwsCredential, &'static str> {
    let (mut here, mut found) = (false, false);
    let (mut key_id, mut secret_key, mut token) = (None, None, None);
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            here = name.trim() == profile;
            found |= here;
            continue;
        }
        let (name, value) = line.split_once('=').ok_or("a line is no section and no `key = value`")?;
        if here {
            let value = Some(value.trim().to_owned()).filter(|value| !value.is_empty());
            match name.trim() {
                "aws_access_key_id" => key_id = value,
                "aws_secret_access_key" => secret_key = value,
                "aws_session_token" => token = value,
                // AWS's tools keep other things there too, such as regions.
                _ => {}
            }
        }
    }
    if !found {
        return Err("has no section of the name that `profile` gives");
    }
    let key_id = key_id.ok_or("its section has no aws_access_key_id")?;
    let secret_key = secret_key.ok_or("its section has no aws_secret_access_key")?;
    Ok(AwsCredential { key_id, secret_key, token })
}

#[cfg(test)]
mod tests;
