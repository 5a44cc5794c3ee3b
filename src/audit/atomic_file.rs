//! Files that are whole or not there, whenever the process or the machine stops: written beside their place under another
//! name, synced, and moved. All are readable by their owner alone.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use tempfile::{Builder, NamedTempFile};

/// The folder that holds `path`.
fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn beside(path: &Path, content: &[u8]) -> io::Result<NamedTempFile> {
    // A temporary file has mode 0600 from its first moment.
    let mut file = Builder::new().prefix(".tollgate-").suffix(".new").tempfile_in(folder(path))?;
    file.write_all(content)?;
    Ok(file)
}

/// Makes the move itself durable.
fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder(path))?.sync_all() } else { Ok(()) }
}

/// Makes a new file, durably. `false` if there is a file of this name, which is left as it is.
pub(super) fn create(path: &Path, content: &[u8]) -> io::Result<bool> {
    if path.try_exists()? {
        return Ok(false);
    }
    let file = beside(path, content)?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => sync_folder(path).map(|()| true),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error.error),
    }
}

/// Makes a file, or puts a new one in its place. With `sync`, it is on the disk when this returns; without, a power cut may
/// leave the old one.
pub(super) fn replace(path: &Path, content: &[u8], sync: bool) -> io::Result<()> {
    let file = beside(path, content)?;
    if sync {
        file.as_file().sync_all()?;
    }
    file.persist(path)?;
    if sync { sync_folder(path) } else { Ok(()) }
}
