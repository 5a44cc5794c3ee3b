//! A company's data in the layout that is read fastest: sorted by the privacy unit, in row groups of whole units, with
//! dictionaries of strings that have few values.
//!
//! ```text
//! files ── survey ──▶ sums, few values ┐
//!   └───── sort (spills) ── groups ────┴─▶ staging ── survey ──▶ the same sums? ──▶ in place, or removed
//! ```
//!
//! All of it happens on the company's side: no gateway is needed, and no policy but the names of two columns. The original is
//! not touched until the new files are whole, on the disk, and found to hold the same rows.

mod checksum;
mod error;
mod groups;
mod input;
mod inspect;
mod place;
mod staging;
mod survey;
#[cfg(test)]
mod tests;
mod upload;
mod write;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use object_store::path::Path as ObjectPath;

use crate::policy::{OBJECT_SCHEME, ObjectAddress};
use crate::stores::{DataFile, StoreError, Stores};

pub use checksum::{Sum, Sums};
pub use error::LayoutError;
pub use inspect::Distance;

use input::Input;
use staging::Staging;
use write::{Shape, Target};

/// How the bytes of pages are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Codec {
    /// Zstandard at its first level: the default.
    #[default]
    Zstd,
    /// Snappy.
    Snappy,
    /// Not at all.
    None,
}

/// What the new files are like.
#[derive(Debug, Clone)]
pub struct Form {
    /// The most rows of a row group, but where one unit has more.
    pub row_group_rows: usize,
    /// The bytes after which another file begins, where there are several.
    pub file_bytes: u64,
    /// How pages are compressed.
    pub codec: Codec,
    /// Whether rows whose unit is NULL are left out. No query reads them: they are dropped at every scan.
    pub drop_rows_without_unit: bool,
    /// The bytes that the sort holds in memory; beyond, it spills.
    pub memory_bytes: usize,
}

impl Default for Form {
    fn default() -> Self {
        Self {
            row_group_rows: 128 * 1024,
            file_bytes: 1 << 30,
            codec: Codec::default(),
            drop_rows_without_unit: false,
            memory_bytes: 1 << 30,
        }
    }
}

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The rows are read.
    Reading,
    /// They are sorted and written.
    Writing,
    /// What was written is read back.
    Checking,
    /// Files are sent to a store.
    Sending,
}

/// Told of a stage how much is done and how much there is: rows, or files that are sent.
pub type Progress = Arc<dyn Fn(Stage, u64, u64) + Send + Sync>;

/// What is to be rewritten.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Where it lies: a file, a folder, a glob or an address, as a policy has it.
    pub location: String,
    /// Its files now.
    pub files: Vec<DataFile>,
    /// The column of the privacy unit.
    pub unit: String,
    /// The column by which a unit's rows are sorted: that of epochs.
    pub then_by: Option<String>,
}

/// Where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goal {
    /// A file that is not there yet, for a source of one file; a folder that is not there yet, for several.
    New(PathBuf),
    /// An address under which there is nothing: a prefix, or an object for a source of one file.
    Objects(ObjectAddress),
    /// The place of the original, which is kept beside it.
    Replace,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Where the new files are, as a policy's `location` says it.
    pub location: String,
    /// Where the original is kept, if it was replaced.
    pub kept: Option<PathBuf>,
    /// The rows that were read.
    pub read: Sums,
    /// How many were written.
    pub rows_written: u64,
    /// The files before.
    pub files_before: usize,
    /// The files after.
    pub files_after: usize,
    /// The bytes before.
    pub bytes_before: u64,
    /// The bytes after.
    pub bytes_after: u64,
    /// The columns that were given a dictionary.
    pub dictionaries: Vec<String>,
}

/// How far `origin` is from the layout. Blocking I/O: footers are read, and no row.
///
/// # Errors
/// When the files cannot be read, or have no column of the unit's name.
pub fn check(stores: &Stores, origin: &Origin, form: &Form) -> Result<Distance, LayoutError> {
    let input = Input::open(stores, origin.files.clone(), &origin.unit, origin.then_by.as_deref())?;
    Ok(Distance::of(&input, form.row_group_rows))
}

/// Rewrites `origin` as `goal`.
///
/// # Errors
/// When anything fails, or what was written is not what was read: then nothing is at the goal, and the original is whole.
pub async fn optimize(
    stores: &Stores,
    origin: Origin,
    goal: Goal,
    form: Form,
    progress: Progress,
) -> Result<Outcome, LayoutError> {
    // What goes to a store is made on this machine first, where it can be checked before anybody sees it.
    let work = tempfile::tempdir().map_err(LayoutError::io(&std::env::temp_dir()))?;
    let goal_path = match &goal {
        Goal::New(path) => std::path::absolute(path).map_err(LayoutError::io(path))?,
        Goal::Replace => original_place(&origin)?,
        Goal::Objects(_) => work.path().join("objects"),
    };
    if goal != Goal::Replace {
        check_free(stores, &goal, &goal_path, &origin)?;
    }
    let staging = Staging::open(&goal_path)?;
    let done = run(stores, &origin, &form, &goal, &goal_path, &staging, &progress).await;
    let cleared = staging.clear();
    // Where both failed, the failure of the run is the one to tell.
    let outcome = done?;
    cleared?;
    Ok(outcome)
}

/// Makes the new files, and gives them their place.
async fn run(
    stores: &Stores,
    origin: &Origin,
    form: &Form,
    goal: &Goal,
    goal_path: &Path,
    staging: &Staging,
    progress: &Progress,
) -> Result<Outcome, LayoutError> {
    let (mut outcome, files) = make(stores, origin, form, goal, staging, progress).await?;
    match goal {
        Goal::New(_) => {
            staging.place()?;
            outcome.location = goal_path.display().to_string();
        }
        Goal::Replace => {
            outcome.kept = Some(staging.replace()?);
            outcome.location.clone_from(&origin.location);
        }
        Goal::Objects(address) => {
            send(stores, origin, form, &files, address, staging, progress, &outcome).await?;
            outcome.location = format!("{OBJECT_SCHEME}{}/{}", address.bucket(), address.key());
        }
    }
    Ok(outcome)
}

/// Writes the new files in the staging folder, and holds them against the original.
async fn make(
    stores: &Stores,
    origin: &Origin,
    form: &Form,
    goal: &Goal,
    staging: &Staging,
    progress: &Progress,
) -> Result<(Outcome, Vec<PathBuf>), LayoutError> {
    let input = Input::open(stores, origin.files.clone(), &origin.unit, origin.then_by.as_deref())?;
    let context = input::context(stores, form.memory_bytes, &staging.spill())?;
    let found = survey::survey(&context, &input, Stage::Reading, progress).await?;
    let shape = Shape::new(&input, &found.few_values, form.codec)?;
    let place = staging.new_place();
    let one = match goal {
        Goal::Objects(address) => !address.is_prefix(),
        Goal::New(_) | Goal::Replace => is_one_file(origin),
    };
    let target = if one {
        Target::File(place)
    } else {
        fs::create_dir(&place).map_err(LayoutError::io(&place))?;
        Target::Folder(place)
    };
    let files = write::write(&context, &input, &shape, form, &target, progress).await?;
    let written = files.iter().map(|file| DataFile::local(file.clone())).collect::<Result<Vec<_>, _>>()?;
    let bytes_after = written.iter().map(DataFile::size).sum();
    let sums = read_back(stores, written, &shape, origin, form, &staging.spill(), progress).await?;
    let expected = expected(found.sums, form);
    if sums != expected {
        return Err(LayoutError::NotTheSame { what: "their rows" });
    }
    give_modes(origin, &target, &files)?;
    let dictionaries = input.schema.fields().iter().zip(&found.few_values).filter(|(_, few)| **few);
    let outcome = Outcome {
        location: String::new(),
        kept: None,
        read: found.sums,
        rows_written: expected.of_units.rows + expected.of_none.rows,
        files_before: input.files.len(),
        files_after: files.len(),
        bytes_before: input.bytes(),
        bytes_after,
        dictionaries: dictionaries.map(|(field, _)| field.name().clone()).collect(),
    };
    Ok((outcome, files))
}

/// What there should be of rows whose sums are `read`.
fn expected(read: Sums, form: &Form) -> Sums {
    if form.drop_rows_without_unit { Sums { of_none: Sum::default(), ..read } } else { read }
}

/// The sums of files that were written, whose schema must be the one that was meant.
async fn read_back(
    stores: &Stores,
    files: Vec<DataFile>,
    shape: &Shape,
    origin: &Origin,
    form: &Form,
    spill: &Path,
    progress: &Progress,
) -> Result<Sums, LayoutError> {
    let input = Input::open(stores, files, &origin.unit, origin.then_by.as_deref())?;
    if input.schema != shape.schema {
        return Err(LayoutError::NotTheSame { what: "their columns" });
    }
    let context = input::context(stores, form.memory_bytes, spill)?;
    Ok(survey::survey(&context, &input, Stage::Checking, progress).await?.sums)
}

/// Sends the files, and reads them back from the store.
async fn send(
    stores: &Stores,
    origin: &Origin,
    form: &Form,
    files: &[PathBuf],
    address: &ObjectAddress,
    staging: &Staging,
    progress: &Progress,
    outcome: &Outcome,
) -> Result<(), LayoutError> {
    upload::upload(stores, files, address, progress).await?;
    let location = format!("{OBJECT_SCHEME}{}/{}", address.bucket(), address.key());
    let sent = stores.list(&location)?;
    let local = files.iter().map(|file| DataFile::local(file.clone())).collect::<Result<Vec<_>, _>>()?;
    let local = Input::open(stores, local, &origin.unit, origin.then_by.as_deref())?;
    let remote = Input::open(stores, sent, &origin.unit, origin.then_by.as_deref())?;
    let context = input::context(stores, form.memory_bytes, &staging.spill())?;
    let sums = survey::survey(&context, &remote, Stage::Checking, progress).await?.sums;
    if remote.schema == local.schema && sums == expected(outcome.read, form) {
        return Ok(());
    }
    let keys: Vec<ObjectPath> = remote
        .files
        .iter()
        .filter_map(|file| file.name().split_once("://")?.1.split_once('/').map(|(_, key)| ObjectPath::from(key)))
        .collect();
    upload::withdraw(stores.writer(address.bucket())?.as_ref(), &keys).await;
    Err(LayoutError::NotTheSame { what: "the objects in the store" })
}

/// Removes the original that was kept when it was replaced, once what stands in its place is in the layout. Gives its place.
///
/// # Errors
/// When there is none, or what stands in its place is not sorted by the unit: then nothing is removed.
pub fn discard_original(stores: &Stores, origin: &Origin, form: &Form) -> Result<PathBuf, LayoutError> {
    let kept = staging::kept(&original_place(origin)?);
    if !kept.exists() {
        return Err(LayoutError::NothingKept(kept));
    }
    if !check(stores, origin, form)?.is_in_layout() {
        return Err(LayoutError::NotOptimized(origin.location.clone()));
    }
    staging::remove(&kept)?;
    Ok(kept)
}

/// A goal that is not named: beside the source, under a name made of its own. `None` for a source in a store.
#[must_use]
pub fn usual_goal(origin: &Origin) -> Option<PathBuf> {
    if ObjectAddress::is_one(&origin.location) {
        return None;
    }
    let place = fixed_part(Path::new(&origin.location));
    let stem = place.file_stem()?.to_string_lossy().into_owned();
    let name = match place.extension().filter(|_| is_one_file(origin)) {
        Some(extension) => format!("{stem}.optimized.{}", extension.to_string_lossy()),
        None => format!("{}.optimized", place.file_name()?.to_string_lossy()),
    };
    Some(place.with_file_name(name))
}

/// Whether the source is one file by name, and not a folder or pattern of one.
fn is_one_file(origin: &Origin) -> bool {
    match origin.files.as_slice() {
        [one] => one.name() == origin.location,
        _ => false,
    }
}

/// The parts of a location before the first that is a pattern.
fn fixed_part(location: &Path) -> PathBuf {
    let plain = |part: &std::path::Component<'_>| !part.as_os_str().to_string_lossy().contains(['*', '?', '[']);
    location.components().take_while(plain).collect()
}

/// The file or folder that is to be replaced, with its links resolved.
fn original_place(origin: &Origin) -> Result<PathBuf, LayoutError> {
    let refuse = |why| LayoutError::NotReplaceable { place: origin.location.clone(), why };
    if ObjectAddress::is_one(&origin.location) {
        return Err(refuse("objects are not exchanged in one step"));
    }
    let path = Path::new(&origin.location);
    let place = fs::canonicalize(path)
        .map_err(|_| refuse("it is a pattern, and other files may lie beside what it matches"))?;
    if place.is_dir() {
        for entry in fs::read_dir(&place).map_err(LayoutError::io(&place))? {
            let found = entry.map_err(LayoutError::io(&place))?.path();
            if !origin.files.iter().any(|file| Path::new(&file.name()).file_name() == found.file_name()) {
                return Err(refuse("the folder holds other things than the dataset's Parquet files"));
            }
        }
    }
    Ok(place)
}

/// Nothing may be at the goal, and the goal not among the input.
fn check_free(stores: &Stores, goal: &Goal, path: &Path, origin: &Origin) -> Result<(), LayoutError> {
    let (place, name) = match goal {
        Goal::Objects(address) => {
            let location = format!("{OBJECT_SCHEME}{}/{}", address.bucket(), address.key());
            match stores.list(&location) {
                Err(StoreError::Missing(_)) => {}
                Ok(_) => return Err(LayoutError::Exists(location)),
                Err(error) => return Err(error.into()),
            }
            (PathBuf::from(&location), location)
        }
        Goal::New(_) | Goal::Replace => {
            let name = path.display().to_string();
            if path.exists() {
                return Err(LayoutError::Exists(name));
            }
            (crate::policy::real_place(&name), name)
        }
    };
    let source = fixed_part(&crate::policy::real_place(&origin.location));
    if crate::policy::overlap(&place, &source) {
        return Err(LayoutError::Within(name));
    }
    Ok(())
}

/// The new files may be read by those who may read the original, and nobody else.
fn give_modes(origin: &Origin, target: &Target, files: &[PathBuf]) -> Result<(), LayoutError> {
    let mode = |path: &Path| fs::metadata(path).map(|facts| facts.permissions().mode() & 0o777);
    let first = origin.files.first().map(DataFile::as_place).unwrap_or_default();
    let Ok(of_file) = mode(&first) else { return Ok(()) };
    for file in files {
        fs::set_permissions(file, fs::Permissions::from_mode(of_file)).map_err(LayoutError::io(file))?;
    }
    if let (Target::Folder(folder), Some(Ok(of_folder))) = (target, first.parent().map(mode)) {
        fs::set_permissions(folder, fs::Permissions::from_mode(of_folder)).map_err(LayoutError::io(folder))?;
    }
    Ok(())
}
