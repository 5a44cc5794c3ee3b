//! Which files of this machine a location names.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::StoreError;

/// The files at `location` as they are now, in the order of their names: the one that it names, those of a folder that end in
/// `.parquet` (not those of its subfolders), or those that a pattern matches. `admit` is asked of the location itself before
/// anything is opened, and of every file, since a folder may hold links; what it gives is what is read. Blocking I/O.
///
/// # Errors
/// When there is none, and whatever `admit` refuses.
pub fn local_files<E: From<StoreError>>(
    location: &str,
    admit: impl Fn(PathBuf) -> Result<PathBuf, E>,
) -> Result<Vec<PathBuf>, E> {
    let missing = || StoreError::Missing(location.to_owned());
    let path = Path::new(location);
    admit(path.to_path_buf())?;
    let mut files = if path.is_dir() {
        let io = |source| StoreError::Io { path: location.to_owned(), source };
        let mut files = Vec::new();
        for entry in fs::read_dir(path).map_err(io)? {
            let file = entry.map_err(io)?.path();
            if file.extension().is_some_and(|extension| extension == "parquet") {
                let file = admit(file)?;
                if file.is_file() {
                    files.push(file);
                }
            }
        }
        files
    } else if location.contains(['*', '?', '[']) {
        glob::glob(location)
            .map_err(|_| StoreError::Pattern(location.to_owned()))?
            .filter_map(Result::ok)
            .map(admit)
            .filter(|file| file.as_ref().map_or(true, |file| file.is_file()))
            .collect::<Result<Vec<_>, _>>()?
    } else {
        vec![admit(path.to_path_buf())?]
    };
    // Such a name would be taken for a pattern where it stands in a policy, and others be read beside or instead of it.
    if let Some(file) = files.iter().find(|file| file.to_string_lossy().contains(['*', '?', '['])) {
        return Err(StoreError::PatternName(file.display().to_string()).into());
    }
    files.sort();
    files.dedup();
    if files.is_empty() { Err(missing().into()) } else { Ok(files) }
}
