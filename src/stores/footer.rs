//! The footer of a Parquet file: what it says of itself.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path as FilePath;
use std::sync::Arc;

use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::file::metadata::ParquetMetaDataReader;
use sha2::{Digest, Sha256};

use super::error::StoreError;
use super::file::{DataFile, Place, identity, io};

/// The last bytes of a Parquet file: the footer's length and the magic.
const TRAILER_BYTES: u64 = 8;

/// What is asked for at first of the end of an object: most footers are shorter, and come in one request.
const GUESS_BYTES: u64 = 64 * 1024;

/// The longest footer that is read. Its length is a claim of whoever wrote the file, and is allocated.
const MAX_FOOTER_BYTES: u64 = 256 * 1024 * 1024;

/// The footer of one file.
#[derive(Debug, Clone)]
pub struct Footer {
    /// What it says, with the Arrow schema that its columns are read as.
    pub metadata: ArrowReaderMetadata,
    /// The SHA-256 of its bytes.
    pub hash: [u8; 32],
}

/// Reads the footer of `file`, which must still be what it was when it was listed. Blocking I/O.
pub(super) fn read_local(file: &DataFile, path: &FilePath) -> Result<Footer, StoreError> {
    let damaged = || StoreError::NotParquet(path.display().to_string());
    let failed = |source| io(path, source);
    let mut open = File::open(path).map_err(failed)?;
    if identity(&open.metadata().map_err(failed)?) != file.tag {
        return Err(StoreError::Changed(path.display().to_string()));
    }
    if file.size < TRAILER_BYTES {
        return Err(damaged());
    }
    let mut trailer = [0; TRAILER_BYTES as usize];
    open.seek(SeekFrom::Start(file.size - TRAILER_BYTES)).map_err(failed)?;
    open.read_exact(&mut trailer).map_err(failed)?;
    let length = length(&trailer, file.size).ok_or_else(damaged)?;
    let mut bytes = vec![0; usize::try_from(length).map_err(|_| damaged())?];
    open.seek(SeekFrom::Start(file.size - TRAILER_BYTES - length)).map_err(failed)?;
    open.read_exact(&mut bytes).map_err(failed)?;
    decode(&bytes).ok_or_else(damaged)
}

/// The same of an object.
pub(super) async fn read_object(store: &dyn ObjectStore, file: &DataFile) -> Result<Footer, StoreError> {
    let name = file.name();
    let damaged = || StoreError::NotParquet(name.clone());
    let Place::Object { key, .. } = &file.place else { return Err(damaged()) };
    if file.size < TRAILER_BYTES {
        return Err(damaged());
    }
    let tail = last_bytes(store, file, key, GUESS_BYTES.min(file.size)).await?;
    let (before, trailer) =
        tail.split_at_checked(tail.len().saturating_sub(TRAILER_BYTES as usize)).ok_or_else(damaged)?;
    let length = length(trailer, file.size).ok_or_else(damaged)?;
    let wanted = usize::try_from(length).map_err(|_| damaged())?;
    if let Some(from) = before.len().checked_sub(wanted) {
        return decode(&before[from..]).ok_or_else(damaged);
    }
    let tail = last_bytes(store, file, key, length + TRAILER_BYTES).await?;
    decode(tail.get(..wanted).ok_or_else(damaged)?).ok_or_else(damaged)
}

async fn last_bytes(
    store: &dyn ObjectStore,
    file: &DataFile,
    key: &Path,
    bytes: u64,
) -> Result<bytes::Bytes, StoreError> {
    let failed = |error| StoreError::of(&file.name(), &error);
    let range = Some(GetRange::Bounded(file.size - bytes..file.size));
    let options = GetOptions { if_match: Some(file.tag.clone()), range, ..GetOptions::default() };
    store.get_opts(key, options).await.map_err(failed)?.bytes().await.map_err(failed)
}

/// The length of the footer, as the trailer of a file of `size` bytes gives it.
fn length(trailer: &[u8], size: u64) -> Option<u64> {
    let (length, magic) = trailer.split_at_checked(4)?;
    let length = u64::from(u32::from_le_bytes(length.try_into().ok()?));
    (magic == b"PAR1" && length + TRAILER_BYTES <= size && length <= MAX_FOOTER_BYTES).then_some(length)
}

fn decode(bytes: &[u8]) -> Option<Footer> {
    let metadata = ParquetMetaDataReader::decode_metadata(bytes).ok()?;
    let metadata = ArrowReaderMetadata::try_new(Arc::new(metadata), ArrowReaderOptions::new()).ok()?;
    Some(Footer { metadata, hash: Sha256::digest(bytes).into() })
}
