//! Stores that read pinned files alone, and do nothing else.
//!
//! What the engine is given cannot write, delete, list, or read anything that was not listed and versioned before: not by a
//! function, an operator or a bug of a library. A file that has changed since is an error, before its first byte is used.

use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    Attributes, CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload,
    OBJECT_STORE_COALESCE_DEFAULT, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result, coalesce_ranges,
};

use super::file::{identity, unpin};

/// A store of which only pinned files are read.
#[derive(Debug)]
pub(super) enum Pinned {
    /// Files of this machine.
    Local(LocalFileSystem),
    /// Objects of one bucket.
    Objects(Arc<dyn ObjectStore>),
}

impl fmt::Display for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local(_) => "pinned files",
            Self::Objects(_) => "pinned objects",
        })
    }
}

fn refused(operation: &str) -> Error {
    Error::NotImplemented { operation: operation.to_owned(), implementer: "a store of pinned files".to_owned() }
}

fn changed(path: &Path) -> Error {
    Error::Precondition { path: path.to_string(), source: "the file is not the one that was listed".into() }
}

fn generic(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Generic { store: "pinned files", source: source.into() }
}

/// The key and the version that are to be read.
fn wanted(location: &Path) -> Result<(Path, String)> {
    unpin(location).ok_or_else(|| refused("read a file that is not pinned"))
}

/// Bytes of a file that is at the version `tag` before they are read and after.
fn read(file: &std::path::Path, key: &Path, tag: &str, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
    let io = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::NotFound => Error::NotFound { path: key.to_string(), source: Box::new(source) },
        _ => generic(source),
    };
    let mut open = File::open(file).map_err(io)?;
    let check = |open: &File| {
        let facts = open.metadata().map_err(io)?;
        if identity(&facts) == tag { Ok(facts.len()) } else { Err(changed(key)) }
    };
    let size = check(&open)?;
    let mut parts = Vec::with_capacity(ranges.len());
    for range in ranges {
        if range.start > range.end || range.end > size {
            return Err(generic("a range beyond the end of a file"));
        }
        let mut bytes = vec![0; usize::try_from(range.end - range.start).map_err(generic)?];
        open.seek(SeekFrom::Start(range.start)).map_err(io)?;
        open.read_exact(&mut bytes).map_err(io)?;
        parts.push(Bytes::from(bytes));
    }
    check(&open)?;
    Ok(parts)
}

/// The same on a thread where it may wait.
async fn read_local(files: &LocalFileSystem, key: Path, tag: String, ranges: Vec<Range<u64>>) -> Result<Vec<Bytes>> {
    let file = files.path_to_filesystem(&key)?;
    tokio::task::spawn_blocking(move || read(&file, &key, &tag, &ranges)).await?
}

#[async_trait]
impl ObjectStore for Pinned {
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let (key, tag) = wanted(location)?;
        match self {
            Self::Objects(store) => {
                let mut result = store.get_opts(&key, GetOptions { if_match: Some(tag), ..options }).await?;
                result.meta.location = location.clone();
                Ok(result)
            }
            Self::Local(files) => {
                let file = files.path_to_filesystem(&key)?;
                let facts = tokio::task::spawn_blocking(move || file.metadata()).await?.map_err(generic)?;
                if identity(&facts) != tag {
                    return Err(changed(&key));
                }
                let size = facts.len();
                let range = match options.range {
                    None => 0..size,
                    Some(GetRange::Bounded(range)) => range.start..range.end.min(size),
                    Some(GetRange::Offset(from)) => from..size,
                    Some(GetRange::Suffix(last)) => size.saturating_sub(last)..size,
                };
                let last_modified = facts.modified().map_err(generic)?.into();
                let meta = ObjectMeta {
                    location: location.clone(),
                    last_modified,
                    size,
                    e_tag: Some(tag.clone()),
                    version: None,
                };
                let ranges = if options.head { Vec::new() } else { vec![range.clone()] };
                let parts = read_local(files, key, tag, ranges).await?;
                let payload = GetResultPayload::Stream(stream::iter(parts.into_iter().map(Ok)).boxed());
                Ok(GetResult { payload, meta, range, attributes: Attributes::default() })
            }
        }
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        match self {
            Self::Local(files) => {
                let (key, tag) = wanted(location)?;
                read_local(files, key, tag, ranges.to_vec()).await
            }
            Self::Objects(_) => {
                let fetch = |range: Range<u64>| {
                    async move {
                        let options = GetOptions { range: Some(range.into()), ..GetOptions::default() };
                        self.get_opts(location, options).await?.bytes().await
                    }
                    .boxed()
                };
                coalesce_ranges(ranges, fetch, OBJECT_STORE_COALESCE_DEFAULT).await
            }
        }
    }

    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        Err(refused("write"))
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(refused("write"))
    }

    fn delete_stream(&self, _: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        stream::iter([Err(refused("delete"))]).boxed()
    }

    fn list(&self, _: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        stream::iter([Err(refused("list"))]).boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(refused("list"))
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(refused("copy"))
    }
}
