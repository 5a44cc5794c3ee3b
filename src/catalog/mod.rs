//! The catalog: which datasets there are, under which policies, over which files.
//!
//! ```text
//! policies/*.toml ─────┐
//! Registered (storage) ┴▶ Catalog ── tables(names) ──▶ Tables (one data version each) ──▶ sql::plan
//! ```
//!
//! A catalog does not change. What a steward changes while the server runs makes a new one, which takes over the footers
//! that the last one has read; a query sees the catalog that it began with.
//!
//! It knows files and policies; it knows neither SQL nor budgets.

mod roots;
mod source;
mod status;
mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::{DataFusionError, TableReference};
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, col, lit};
use thiserror::Error;

use crate::policy::{self, Collection, DatasetName, DatasetPolicy, PolicyErrors, PolicyFile, PublicTable, Warning};
use crate::stores::{Stores, joined};

pub use roots::Roots;
pub use source::{Snapshot, Source, SourceError};
pub use status::{Registered, Status};
pub use table::{DatasetTable, Protection};

/// The one catalog in which SQL resolves names; a query does not need to say it.
pub const SQL_CATALOG: &str = "tollgate";

/// The column that a collection adds to its members' columns: whose row it is.
pub const OWNER_COLUMN: &str = "owner";

/// Why the catalog cannot serve a dataset. Names paths: for owners and operators; see [`CatalogError::dataset`].
#[derive(Debug, Error)]
pub enum CatalogError {
    /// A policy file is wrong.
    #[error("{0}")]
    Policy(#[from] PolicyErrors),
    /// The files of a dataset cannot be used.
    #[error("{name}: {source}")]
    Source {
        /// The dataset.
        name: DatasetName,
        /// What is wrong with its files.
        source: SourceError,
    },
    /// Data lies where another dataset's data has lain.
    #[error("{name}: its location was that of {other}, whose accounts hold what was asked of the data there")]
    LocationTaken {
        /// The dataset.
        name: DatasetName,
        /// The dataset that had the place.
        other: DatasetName,
    },
    /// A dataset that is suspended or withdrawn.
    #[error("{name} is {status}")]
    NotServed {
        /// The dataset.
        name: DatasetName,
        /// `suspended` or `withdrawn`.
        status: &'static str,
    },
    /// The members of a collection differ.
    #[error("collection {collection}: {member} has other columns than {first}; its members have one schema")]
    MembersDiffer {
        /// The collection.
        collection: DatasetName,
        /// The member that differs.
        member: DatasetName,
        /// The member that it differs from.
        first: DatasetName,
    },
    /// A member already has a column named `owner`.
    #[error(
        "collection {collection}: a member has a column `owner`, which is the name of the column that the collection adds"
    )]
    OwnerColumn {
        /// The collection.
        collection: DatasetName,
    },
    /// DataFusion could not make a table of the files.
    #[error("{name}: {source}")]
    Table {
        /// The dataset.
        name: DatasetName,
        /// What DataFusion said.
        source: Box<DataFusionError>,
    },
}

impl CatalogError {
    /// The dataset that it is about: all that an analyst is told.
    #[must_use]
    pub fn dataset(&self) -> Option<&DatasetName> {
        match self {
            Self::Policy(_) => None,
            Self::Source { name, .. }
            | Self::Table { name, .. }
            | Self::LocationTaken { name, .. }
            | Self::NotServed { name, .. } => Some(name),
            Self::MembersDiffer { collection, .. } | Self::OwnerColumn { collection } => Some(collection),
        }
    }
}

/// What stands behind a name of SQL.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A company's dataset.
    Private(Arc<DatasetPolicy>, Arc<Source>),
    /// A public table.
    Public(Arc<PublicTable>, Arc<Source>),
    /// Several datasets of one schema.
    Collection(Arc<Collection>),
}

impl Entry {
    /// Its files; a collection has none of its own.
    #[must_use]
    pub const fn source(&self) -> Option<&Arc<Source>> {
        match self {
            Self::Private(_, source) | Self::Public(_, source) => Some(source),
            Self::Collection(_) => None,
        }
    }
}

/// How new the view of the files must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// As they are now: for an answer.
    Now,
    /// As they were last seen: for a schema or a dry run, which open no file.
    Known,
}

/// The datasets of a gateway.
#[derive(Debug, Default)]
pub struct Catalog {
    listed: BTreeMap<DatasetName, Listed>,
    stores: Stores,
}

/// An entry, and whether it is served.
#[derive(Debug)]
struct Listed {
    entry: Entry,
    status: Status,
    /// Where the data of its earlier versions lay.
    former: Vec<String>,
}

/// The tables that one query names, each at one data version.
#[derive(Debug, Default)]
pub struct Tables {
    providers: BTreeMap<DatasetName, Arc<dyn TableProvider>>,
}

impl Tables {
    /// Each name with its table.
    pub fn iter(&self) -> impl Iterator<Item = (&DatasetName, &Arc<dyn TableProvider>)> {
        self.providers.iter()
    }
}

impl Catalog {
    /// Reads every policy of `dir`.
    ///
    /// # Errors
    /// When a policy file is wrong. Files that cannot be read now are found by [`Catalog::check`] and by each query.
    pub fn load(dir: &Path) -> Result<Self, CatalogError> {
        let files = policy::load_dir(dir)?;
        let registered = files.into_iter().map(|file| Registered::new(file, Status::Active, Vec::new()));
        Ok(Self::listing(Stores::default(), registered, None))
    }

    /// [`Self::over`] the stores of `previous`, or those that the environment says.
    ///
    /// # Errors
    /// As [`Self::over`].
    pub fn of(registered: Vec<Registered>, previous: Option<&Self>) -> Result<Self, CatalogError> {
        let stores = previous.map(|previous| previous.stores.clone()).unwrap_or_default();
        Self::over(stores, registered, previous)
    }

    /// The catalog of what is recorded, one of each name, whose objects are reached by `stores`. Footers that `previous` has read are not read again where the
    /// location is the same. No file is opened.
    ///
    /// # Errors
    /// When two have one name or one place, withdrawn ones and former places included, and when a collection's members
    /// are not private datasets of one unit. Whoever gets an error here must serve nothing rather than the catalog that it
    /// has: a suspension may be what it does not know.
    pub fn over(stores: Stores, registered: Vec<Registered>, previous: Option<&Self>) -> Result<Self, CatalogError> {
        policy::check_recorded(&registered.iter().map(|one| &one.policy).collect::<Vec<_>>())?;
        for one in &registered {
            let Some(location) = one.policy.location() else { continue };
            let place = policy::written_place(location);
            let had_it = |other: &&Registered| {
                other.policy.name() != one.policy.name()
                    && other.former.iter().any(|former| policy::overlap(&place, &policy::written_place(former)))
            };
            if let Some(other) = registered.iter().find(had_it) {
                let (name, other) = (one.policy.name().clone(), other.policy.name().clone());
                return Err(CatalogError::LocationTaken { name, other });
            }
        }
        Ok(Self::listing(stores, registered, previous))
    }

    /// How its objects are reached.
    #[must_use]
    pub const fn stores(&self) -> &Stores {
        &self.stores
    }

    fn listing(stores: Stores, registered: impl IntoIterator<Item = Registered>, previous: Option<&Self>) -> Self {
        let known = previous.into_iter().flat_map(Self::sources).collect::<Vec<_>>();
        let source = |location: &str, roots: Option<Roots>| {
            let same = |source: &&&Arc<Source>| source.location() == location && source.roots() == roots.as_ref();
            match (known.iter().find(same), roots) {
                (Some(source), _) => Arc::clone(source),
                (None, Some(roots)) => Arc::new(Source::within(location, roots).reached_by(stores.clone())),
                (None, None) => Arc::new(Source::new(location).reached_by(stores.clone())),
            }
        };
        let listed = registered.into_iter().map(|Registered { policy, status, former, roots }| {
            let name = policy.name().clone();
            let entry = match policy {
                PolicyFile::Private(policy) => {
                    let source = source(&policy.location, roots);
                    Entry::Private(Arc::new(policy), source)
                }
                PolicyFile::Public(table) => {
                    let source = source(&table.location, roots);
                    Entry::Public(Arc::new(table), source)
                }
                PolicyFile::Collection(collection) => Entry::Collection(Arc::new(collection)),
            };
            (name, Listed { entry, status, former })
        });
        Self { listed: listed.collect(), stores }
    }

    fn sources(&self) -> impl Iterator<Item = &Arc<Source>> {
        self.listed.values().filter_map(|listed| listed.entry.source())
    }

    /// Every name that was ever registered, those of withdrawn datasets too.
    pub fn names(&self) -> impl Iterator<Item = &DatasetName> {
        self.listed.keys()
    }

    /// Each name that is not withdrawn with what stands behind it, in the order of the names.
    pub fn entries(&self) -> impl Iterator<Item = (&DatasetName, &Entry)> {
        let there = self.listed.iter().filter(|(_, listed)| listed.status != Status::Withdrawn);
        there.map(|(name, listed)| (name, &listed.entry))
    }

    /// What stands behind `name`, whether it is served or not: see [`Self::unserved`].
    #[must_use]
    pub fn entry(&self, name: &DatasetName) -> Option<&Entry> {
        self.listed.get(name).map(|listed| &listed.entry)
    }

    /// Whether `name` is served by itself; of a collection, without regard to its members.
    #[must_use]
    pub fn status(&self, name: &DatasetName) -> Option<&Status> {
        self.listed.get(name).map(|listed| &listed.status)
    }

    /// Which of `name` and, if it is a collection, its members is not served, and why; `None` when all are.
    #[must_use]
    pub fn unserved(&self, name: &DatasetName) -> Option<(&DatasetName, &Status)> {
        let (name, listed) = self.listed.get_key_value(name)?;
        let members: &[DatasetName] = match &listed.entry {
            Entry::Collection(collection) => &collection.members,
            Entry::Private(..) | Entry::Public(..) => &[],
        };
        let members = members.iter().filter_map(|member| self.listed.get_key_value(member));
        std::iter::once((name, listed))
            .chain(members)
            .map(|(name, listed)| (name, &listed.status))
            .find(|(_, status)| **status != Status::Active)
    }

    /// Where data lies or has lain, with whose it is, withdrawn datasets included.
    pub fn places(&self) -> impl Iterator<Item = (&DatasetName, &str)> {
        self.listed.iter().flat_map(|(name, listed)| {
            let present = listed.entry.source().map(|source| source.location());
            present.into_iter().chain(listed.former.iter().map(String::as_str)).map(move |place| (name, place))
        })
    }

    /// The schema of an entry as SQL sees it. Blocking I/O.
    ///
    /// # Errors
    /// When its files cannot be used, or do not fit the policy.
    pub fn schema(&self, name: &DatasetName) -> Result<Option<SchemaRef>, CatalogError> {
        self.provider(name, Freshness::Known).map(|provider| provider.map(|provider| provider.schema()))
    }

    /// Holds every entry against its files: what a steward should know before serving. Blocking I/O.
    #[must_use]
    pub fn check(&self) -> Vec<(DatasetName, Result<Vec<Warning>, CatalogError>)> {
        self.entries()
            .map(|(name, entry)| {
                let found = match entry {
                    Entry::Private(policy, source) => snapshot(name, source, Freshness::Now)
                        .and_then(|snapshot| Ok(policy::check_against_schema(policy, &snapshot.schema)?)),
                    Entry::Public(..) | Entry::Collection(_) => self.provider(name, Freshness::Now).map(|_| Vec::new()),
                };
                (name.clone(), found)
            })
            .collect()
    }

    /// The versions of the data behind `names`, those that exist, each once and in their order: of a collection, those of its
    /// members. Each says which files have it, too. No footer that is known is read again. Blocking I/O.
    ///
    /// # Errors
    /// When the files of one cannot be used.
    pub fn versions<'a>(
        &self,
        names: impl IntoIterator<Item = &'a DatasetName>,
        freshness: Freshness,
    ) -> Result<Vec<[u8; 32]>, CatalogError> {
        let mut read = BTreeSet::new();
        for name in names {
            match self.entry(name) {
                Some(Entry::Collection(collection)) => read.extend(&collection.members),
                Some(Entry::Private(..) | Entry::Public(..)) => drop(read.insert(name)),
                None => {}
            }
        }
        let sources = read.into_iter().filter_map(|name| Some((name, self.entry(name)?.source()?)));
        let version = |(name, source): (&DatasetName, &Arc<Source>)| -> Result<[u8; 32], CatalogError> {
            let snapshot = snapshot(name, source, freshness)?;
            // Files that were put in the place of equal ones have the version of these, but a plan would still look for the old.
            let mut hasher = blake3::Hasher::new();
            hasher.update(&snapshot.version);
            for file in &snapshot.files {
                hasher.update(&(file.tag().len() as u64).to_le_bytes());
                hasher.update(file.tag().as_bytes());
            }
            Ok(*hasher.finalize().as_bytes())
        };
        sources.map(version).collect()
    }

    /// The tables behind `names`, those that exist, each at its present data version. Blocking I/O.
    ///
    /// # Errors
    /// When one is not served, which whoever asks should have found out by itself, and when the files of one cannot be
    /// used, or do not fit the policy.
    pub fn tables<'a>(
        &self,
        names: impl IntoIterator<Item = &'a DatasetName>,
        freshness: Freshness,
    ) -> Result<Tables, CatalogError> {
        let mut tables = Tables::default();
        for name in names.into_iter().collect::<BTreeSet<_>>() {
            if let Some((name, status)) = self.unserved(name) {
                return Err(CatalogError::NotServed { name: name.clone(), status: status.as_str() });
            }
            if let Some(provider) = self.provider(name, freshness)? {
                tables.providers.insert(name.clone(), provider);
            }
        }
        Ok(tables)
    }

    fn provider(
        &self,
        name: &DatasetName,
        freshness: Freshness,
    ) -> Result<Option<Arc<dyn TableProvider>>, CatalogError> {
        let Some(entry) = self.entry(name) else { return Ok(None) };
        Ok(Some(match entry {
            Entry::Collection(collection) => Arc::new(self.view(collection, freshness)?),
            Entry::Private(policy, source) => Arc::new(private_table(policy, source, freshness)?),
            Entry::Public(_, source) => {
                let snapshot = snapshot(name, source, freshness)?;
                Arc::new(DatasetTable::new(name.clone(), Protection::Public, &snapshot))
            }
        }))
    }

    /// The members of `collection` as they are now, and the columns that they have in common.
    fn members<'a>(
        &'a self,
        collection: &'a Collection,
        freshness: Freshness,
    ) -> Result<(Vec<Member<'a>>, SchemaRef), CatalogError> {
        let mut members: Vec<Member<'_>> = Vec::new();
        let mut common: Option<SchemaRef> = None;
        for name in &collection.members {
            // The loader has seen to it that every member exists and is a dataset.
            let Some(Entry::Private(policy, source)) = self.entry(name) else { continue };
            let snapshot = checked_snapshot(policy, source, freshness)?;
            if snapshot.schema.index_of(OWNER_COLUMN).is_ok() {
                return Err(CatalogError::OwnerColumn { collection: collection.name.clone() });
            }
            common = Some(match &common {
                None => Arc::clone(&snapshot.schema),
                Some(so_far) => joined(so_far, &snapshot.schema).ok_or_else(|| CatalogError::MembersDiffer {
                    collection: collection.name.clone(),
                    member: name.clone(),
                    first: members.first().map_or(name, |first| first.name).clone(),
                })?,
            });
            members.push(Member { name, policy, snapshot });
        }
        Ok((members, common.unwrap_or_else(|| Arc::new(Schema::empty()))))
    }

    /// `UNION ALL` of the members, each with its owner's name as a literal column.
    fn view(&self, collection: &Collection, freshness: Freshness) -> Result<ViewTable, CatalogError> {
        let (members, schema) = self.members(collection, freshness)?;
        let mut plan: Option<LogicalPlanBuilder> = None;
        for Member { name: member, policy, snapshot } in members {
            let snapshot = Snapshot { schema: Arc::clone(&schema), ..snapshot };
            let table = DatasetTable::new(member.clone(), Protection::Private(Arc::clone(policy)), &snapshot);
            let reference = TableReference::partial(member.owner(), member.name());
            let columns: Vec<Expr> = std::iter::once(lit(member.owner()).alias(OWNER_COLUMN))
                .chain(schema.fields().iter().map(|field| {
                    // Quoted: a column keeps the case that its file gives it.
                    col(datafusion::common::Column::new(Some(reference.clone()), field.name()))
                }))
                .collect();
            let scan = LogicalPlanBuilder::scan(reference, provider_as_source(Arc::new(table)), None)
                .and_then(|scan| scan.project(columns))
                .map_err(|source| table_error(member, source))?;
            plan = Some(match plan {
                None => scan,
                Some(so_far) => scan
                    .build()
                    .and_then(|scan| so_far.union(scan))
                    .map_err(|source| table_error(&collection.name, source))?,
            });
        }
        let plan: LogicalPlan = plan
            .unwrap_or_else(|| LogicalPlanBuilder::empty(false))
            .build()
            .map_err(|source| table_error(&collection.name, source))?;
        Ok(ViewTable::new(plan, None))
    }
}

/// A member of a collection.
struct Member<'a> {
    name: &'a DatasetName,
    policy: &'a Arc<DatasetPolicy>,
    snapshot: Snapshot,
}

fn checked_snapshot(
    policy: &Arc<DatasetPolicy>,
    source: &Source,
    freshness: Freshness,
) -> Result<Snapshot, CatalogError> {
    let snapshot = snapshot(&policy.name, source, freshness)?;
    policy::check_against_schema(policy, &snapshot.schema)?;
    Ok(snapshot)
}

fn private_table(
    policy: &Arc<DatasetPolicy>,
    source: &Source,
    freshness: Freshness,
) -> Result<DatasetTable, CatalogError> {
    let snapshot = checked_snapshot(policy, source, freshness)?;
    Ok(DatasetTable::new(policy.name.clone(), Protection::Private(Arc::clone(policy)), &snapshot))
}

fn snapshot(name: &DatasetName, source: &Source, freshness: Freshness) -> Result<Snapshot, CatalogError> {
    let snapshot = match freshness {
        Freshness::Now => source.snapshot(),
        Freshness::Known => source.known(),
    };
    snapshot.map_err(|source| CatalogError::Source { name: name.clone(), source })
}

fn table_error(name: &DatasetName, source: DataFusionError) -> CatalogError {
    CatalogError::Table { name: name.clone(), source: Box::new(source) }
}
