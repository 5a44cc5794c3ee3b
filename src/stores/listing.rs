//! Which objects an address names.

use futures::TryStreamExt;
use glob::{MatchOptions, Pattern};
use object_store::path::Path;
use object_store::{Error, ObjectMeta, ObjectStore, ObjectStoreExt};

use super::error::StoreError;
use super::file::DataFile;
use crate::policy::{Fault, OBJECT_SCHEME, ObjectAddress};

/// The most objects of one dataset: a listing is held in memory, and every footer is read.
const MAX_OBJECTS: usize = 100_000;

/// How the names of the objects of a prefix end.
const SUFFIX: &str = ".parquet";

/// The objects of `address` as they are now, in the order of their names: the one that it names, those of a prefix that end in
/// `.parquet` (as of a folder: not those below it), or those that a pattern matches.
pub(super) async fn list(store: &dyn ObjectStore, address: &ObjectAddress) -> Result<Vec<DataFile>, StoreError> {
    let place = format!("{OBJECT_SCHEME}{}/{}", address.bucket(), address.key());
    let failed = |error: Error| StoreError::of(&place, &error);
    let key = address.key();
    let path = |key: &str| {
        Path::parse(key).map_err(|_| StoreError::Address { address: place.clone(), fault: Fault::AddressParts })
    };
    let mut found: Vec<ObjectMeta> = if key.contains(['*', '[']) {
        let pattern = Pattern::new(key).map_err(|_| StoreError::Pattern(place.clone()))?;
        let options = MatchOptions { require_literal_separator: true, ..MatchOptions::new() };
        let fixed: Vec<&str> = key.split('/').take_while(|part| !part.contains(['*', '['])).collect();
        let prefix = path(&fixed.join("/"))?;
        let mut listed = store.list(Some(&prefix));
        let mut found = Vec::new();
        while let Some(object) = listed.try_next().await.map_err(failed)? {
            if pattern.matches_with(object.location.as_ref(), options) {
                found.push(object);
            }
            if found.len() > MAX_OBJECTS {
                break;
            }
        }
        found
    } else if key.is_empty() || key.ends_with('/') {
        children(store, &path(key.trim_end_matches('/'))?).await.map_err(failed)?
    } else {
        let one = path(key)?;
        match store.head(&one).await {
            Ok(object) => vec![object],
            // As a folder without its last `/`.
            Err(Error::NotFound { .. }) => children(store, &one).await.map_err(failed)?,
            Err(error) => return Err(failed(error)),
        }
    };
    if found.is_empty() {
        return Err(StoreError::Missing(place));
    }
    if found.len() > MAX_OBJECTS {
        return Err(StoreError::TooMany { place, most: MAX_OBJECTS });
    }
    found.sort_by(|one, other| one.location.cmp(&other.location));
    found.into_iter().map(|object| DataFile::object(address.bucket(), object)).collect()
}

async fn children(store: &dyn ObjectStore, prefix: &Path) -> Result<Vec<ObjectMeta>, Error> {
    let mut objects = store.list_with_delimiter(Some(prefix)).await?.objects;
    objects.retain(|object| object.location.as_ref().ends_with(SUFFIX));
    Ok(objects)
}
