//! New files into an object store: each object appears when all of it is there, and not before.

use std::path::PathBuf;

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, WriteMultipart};
use tokio::io::AsyncReadExt;

use super::error::LayoutError;
use super::{Progress, Stage};
use crate::policy::ObjectAddress;
use crate::stores::Stores;

/// What is sent in one part: S3 takes at most 10,000 of them.
const PART_BYTES: usize = 16 << 20;

/// How many parts are on their way at once.
const PARTS_AT_ONCE: usize = 4;

/// Sends `files` to `address`: under their own names if it is a prefix, or the one file as the one object.
pub(super) async fn upload(
    stores: &Stores,
    files: &[PathBuf],
    address: &ObjectAddress,
    progress: &Progress,
) -> Result<(), LayoutError> {
    let store = stores.writer(address.bucket())?;
    let all = files.len() as u64;
    for (done, file) in files.iter().enumerate() {
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let key = if address.is_prefix() { format!("{}{name}", address.key()) } else { address.key().to_owned() };
        let failed = |place: &str| LayoutError::Upload { place: place.to_owned() };
        let place = format!("{}{}/{key}", crate::policy::OBJECT_SCHEME, address.bucket());
        let path = Path::parse(&key).map_err(|_| failed(&place))?;
        let mut source = tokio::fs::File::open(file).await.map_err(LayoutError::io(file))?;
        let upload = store.put_multipart(&path).await.map_err(|_| failed(&place))?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        let mut buffer = vec![0; PART_BYTES];
        loop {
            let read = source.read(&mut buffer).await.map_err(LayoutError::io(file))?;
            if read == 0 {
                break;
            }
            let ready = upload.wait_for_capacity(PARTS_AT_ONCE).await;
            if ready.is_err() {
                // Parts of an upload that is not ended are kept, and billed, until it is.
                let _ = upload.abort().await;
                return Err(failed(&place));
            }
            upload.write(&buffer[..read]);
        }
        upload.finish().await.map_err(|_| failed(&place))?;
        progress(Stage::Sending, done as u64 + 1, all);
    }
    Ok(())
}

/// Removes what was sent, after it was found not to be right.
pub(super) async fn withdraw(store: &dyn ObjectStore, keys: &[Path]) {
    for key in keys {
        // What cannot be removed is told of by the failure that led here, which names the place.
        let _ = store.delete(key).await;
    }
}
