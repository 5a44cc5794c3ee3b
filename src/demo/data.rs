//! Making the demo's data: one thread a company, a file each, and a manifest once all are there.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

use serde::{Deserialize, Serialize};

use super::citizens::Citizens;
use super::city;
use super::error::DemoError;
use super::manifest::{Manifest, TableFile};
use super::orders::{self, OrderBatches};
use super::sink;
use super::trips::{self, Company, HOPIN, METROCAB, TripBatches, VELO};

/// The dataset's name of the public table.
const DISTRICTS: &str = "city.districts";
/// Citizens for each row of the companies' data, and never fewer than [`LEAST_CITIZENS`].
const CITIZENS_PER_ROW: f64 = 0.06;
const LEAST_CITIZENS: u64 = 50;

/// How many rows each company has. The public table of districts has 40 besides, at every size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    /// Trips of `velo.trips`.
    pub velo: u64,
    /// Trips of `hopin.trips`.
    pub hopin: u64,
    /// Trips of `metrocab.trips`.
    pub metrocab: u64,
    /// Orders of `bazaar.orders`.
    pub bazaar: u64,
}

impl Default for Rows {
    /// Two million rows, with those of the districts.
    fn default() -> Self {
        Self { velo: 700_000, hopin: 500_000, metrocab: 300_000, bazaar: 499_960 }
    }
}

impl Rows {
    /// `total` rows in all, the districts' 40 among them, in the proportions of the default.
    #[must_use]
    pub fn of_total(total: u64) -> Self {
        let whole = Self::default();
        let ours = total.saturating_sub(city::DISTRICTS.len() as u64);
        let part = |of: u64| (u128::from(ours) * u128::from(of) / u128::from(whole.of_companies())) as u64;
        let (velo, hopin, metrocab) = (part(whole.velo), part(whole.hopin), part(whole.metrocab));
        Self { velo, hopin, metrocab, bazaar: ours - velo - hopin - metrocab }
    }

    /// The rows of all tables, the districts' 40 among them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.of_companies() + city::DISTRICTS.len() as u64
    }

    /// How many citizens the customers are drawn from: about 120,000 for two million rows.
    #[must_use]
    pub fn citizens(&self) -> u64 {
        ((self.of_companies() as f64 * CITIZENS_PER_ROW) as u64).max(LEAST_CITIZENS)
    }

    fn of_companies(&self) -> u64 {
        self.velo + self.hopin + self.metrocab + self.bazaar
    }
}

/// What one thread makes.
#[derive(Debug, Clone, Copy)]
enum Job {
    Trips(&'static Company, u64),
    Orders(u64),
}

impl Job {
    fn all(rows: Rows) -> [Self; 4] {
        [
            Self::Trips(&VELO, rows.velo),
            Self::Trips(&HOPIN, rows.hopin),
            Self::Trips(&METROCAB, rows.metrocab),
            Self::Orders(rows.bazaar),
        ]
    }

    fn dataset(self) -> &'static str {
        match self {
            Self::Trips(company, _) => company.dataset,
            Self::Orders(_) => orders::DATASET,
        }
    }

    fn rows(self) -> u64 {
        match self {
            Self::Trips(_, rows) | Self::Orders(rows) => rows,
        }
    }

    /// Writes the table under `dir`.
    fn run(
        self,
        dir: &Path,
        seed: u64,
        citizens: &Citizens,
        written: impl FnMut(u64) -> Result<(), DemoError>,
    ) -> Result<TableFile, DemoError> {
        let path = path_of(self.dataset());
        let target = dir.join(&path);
        let bytes = match self {
            Self::Trips(company, rows) => {
                let batches = TripBatches::new(company, seed, citizens, rows)?;
                sink::write_parquet(&target, trips::schema(), batches, written)?
            }
            Self::Orders(rows) => {
                let batches = OrderBatches::new(seed, citizens, rows)?;
                sink::write_parquet(&target, orders::schema(), batches, written)?
            }
        };
        Ok(TableFile { dataset: self.dataset().to_owned(), path, rows: self.rows(), bytes })
    }
}

/// Where a dataset's file is, relative to the demo's directory: `data/OWNER/NAME.parquet`.
fn path_of(dataset: &str) -> PathBuf {
    let mut path = PathBuf::from("data");
    path.extend(dataset.split('.'));
    path.set_extension("parquet");
    path
}

/// Makes the demo's Parquet under `dir/data`, a pure function of `seed` and `rows`.
///
/// Data that is there already, whole and of the same seed and size, is kept ([`Manifest::kept`]). Data of another
/// demo, or of one that was cut short, is replaced. A file is put in its place when it is whole, and the manifest last.
/// `progress` is told the dataset, its rows so far and its rows in all, on the caller's thread.
///
/// # Errors
/// When a file that the demo did not make is in the way, or the file system refuses.
pub fn generate(dir: &Path, seed: u64, rows: Rows, progress: &dyn Fn(&str, u64, u64)) -> Result<Manifest, DemoError> {
    let mut manifest = Manifest::planned(seed, rows);
    match Manifest::read(dir)? {
        Some(found) if found.fulfils(&manifest, dir) => return Ok(Manifest { kept: true, ..found }),
        Some(_) => {}
        None => refuse_occupied(dir, rows)?,
    }
    // From here on the files are marked as the demo's own, and as not yet whole.
    manifest.write(dir)?;

    let citizens = Citizens::draw(seed, usize::try_from(manifest.citizens).unwrap_or(usize::MAX))?;
    manifest.files = write_companies(dir, seed, &Job::all(rows), &citizens, progress)?;
    manifest.files.push(write_districts(dir, progress)?);
    manifest.complete = true;
    manifest.write(dir)?;
    Ok(manifest)
}

/// A first run must not write over Parquet that somebody else put at the same paths.
fn refuse_occupied(dir: &Path, rows: Rows) -> Result<(), DemoError> {
    let datasets = Job::all(rows).map(Job::dataset).into_iter().chain([DISTRICTS]);
    match datasets.map(|dataset| dir.join(path_of(dataset))).find(|path| path.exists()) {
        Some(path) => Err(DemoError::Occupied { path }),
        None => Ok(()),
    }
}

fn write_districts(dir: &Path, progress: &dyn Fn(&str, u64, u64)) -> Result<TableFile, DemoError> {
    let path = path_of(DISTRICTS);
    let rows = city::DISTRICTS.len() as u64;
    let bytes = sink::write_parquet(&dir.join(&path), city::schema(), [city::table()].into_iter(), |done| {
        progress(DISTRICTS, done, rows);
        Ok(())
    })?;
    Ok(TableFile { dataset: DISTRICTS.to_owned(), path, rows, bytes })
}

/// Runs the jobs, one thread each, and hands their progress on. When one fails the others stop at their next batch.
fn write_companies(
    dir: &Path,
    seed: u64,
    jobs: &[Job],
    citizens: &Citizens,
    progress: &dyn Fn(&str, u64, u64),
) -> Result<Vec<TableFile>, DemoError> {
    let stop = &AtomicBool::new(false);
    let (sender, receiver) = mpsc::channel();
    let results: Vec<Result<TableFile, DemoError>> = thread::scope(|scope| {
        let threads: Vec<_> = jobs
            .iter()
            .map(|&job| {
                let sender = sender.clone();
                let work = move || {
                    let result = job.run(dir, seed, citizens, |done| {
                        if stop.load(Ordering::Relaxed) {
                            return Err(DemoError::Stopped(job.dataset()));
                        }
                        // The receiver lives until every sender is gone, so this cannot fail while it matters.
                        let _ = sender.send((job.dataset(), done, job.rows()));
                        Ok(())
                    });
                    if result.is_err() {
                        stop.store(true, Ordering::Relaxed);
                    }
                    result
                };
                (job, scope.spawn(work))
            })
            .collect();
        drop(sender);
        for (dataset, done, rows) in receiver {
            progress(dataset, done, rows);
        }
        let join = |(job, thread): (Job, thread::ScopedJoinHandle<'_, _>)| {
            thread.join().unwrap_or(Err(DemoError::ThreadLost(job.dataset())))
        };
        threads.into_iter().map(join).collect()
    });
    first_cause(results)
}

/// All files, or the error that made the others stop.
fn first_cause(results: Vec<Result<TableFile, DemoError>>) -> Result<Vec<TableFile>, DemoError> {
    let mut files = Vec::with_capacity(results.len());
    let mut stopped = None;
    for result in results {
        match result {
            Ok(file) => files.push(file),
            Err(error @ DemoError::Stopped(_)) => stopped = Some(error),
            Err(cause) => return Err(cause),
        }
    }
    stopped.map_or(Ok(files), Err)
}
