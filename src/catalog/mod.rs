//! The catalog: which datasets there are, under which policies, over which files.
//!
//! ```text
//! policies/*.toml ──▶ Catalog ── tables(names) ──▶ Tables (one data version each) ──▶ sql::plan
//! ```
//!
//! It knows files and policies; it knows neither SQL nor budgets.

mod source;
mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::common::{DataFusionError, TableReference};
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, col, lit};
use thiserror::Error;

use crate::policy::{self, Collection, DatasetName, DatasetPolicy, PolicyErrors, PolicyFile, PublicTable, Warning};

pub use source::{Snapshot, Source, SourceError};
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
            Self::Source { name, .. } | Self::Table { name, .. } => Some(name),
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
    entries: BTreeMap<DatasetName, Entry>,
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
        let mut entries = BTreeMap::new();
        for file in policy::load_dir(dir)? {
            let (name, entry) = match file {
                PolicyFile::Private(policy) => {
                    let source = Arc::new(Source::new(&policy.location));
                    (policy.name.clone(), Entry::Private(Arc::new(policy), source))
                }
                PolicyFile::Public(table) => {
                    let source = Arc::new(Source::new(&table.location));
                    (table.name.clone(), Entry::Public(Arc::new(table), source))
                }
                PolicyFile::Collection(collection) => {
                    (collection.name.clone(), Entry::Collection(Arc::new(collection)))
                }
            };
            entries.insert(name, entry);
        }
        Ok(Self { entries })
    }

    /// Each name with what stands behind it, in the order of the names.
    pub fn entries(&self) -> impl Iterator<Item = (&DatasetName, &Entry)> {
        self.entries.iter()
    }

    /// What stands behind `name`.
    #[must_use]
    pub fn entry(&self, name: &DatasetName) -> Option<&Entry> {
        self.entries.get(name)
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
        self.entries
            .iter()
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

    /// The tables behind `names`, those that exist, each at its present data version. Blocking I/O.
    ///
    /// # Errors
    /// When the files of one cannot be used, or do not fit the policy.
    pub fn tables<'a>(
        &self,
        names: impl IntoIterator<Item = &'a DatasetName>,
        freshness: Freshness,
    ) -> Result<Tables, CatalogError> {
        let mut tables = Tables::default();
        for name in names.into_iter().collect::<BTreeSet<_>>() {
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
        let Some(entry) = self.entries.get(name) else { return Ok(None) };
        Ok(Some(match entry {
            Entry::Collection(collection) => Arc::new(self.view(collection, freshness)?),
            Entry::Private(policy, source) => Arc::new(private_table(policy, source, freshness)?),
            Entry::Public(_, source) => Arc::new(table(name, Protection::Public, &snapshot(name, source, freshness)?)?),
        }))
    }

    /// `UNION ALL` of the members, each with its owner's name as a literal column.
    fn view(&self, collection: &Collection, freshness: Freshness) -> Result<ViewTable, CatalogError> {
        let mut plan: Option<LogicalPlanBuilder> = None;
        let mut first: Option<(&DatasetName, SchemaRef)> = None;
        for member in &collection.members {
            // The loader has seen to it that every member exists and is a dataset.
            let Some(Entry::Private(policy, source)) = self.entries.get(member) else { continue };
            let table = private_table(policy, source, freshness)?;
            let schema = table.schema();
            if schema.index_of(OWNER_COLUMN).is_ok() {
                return Err(CatalogError::OwnerColumn { collection: collection.name.clone() });
            }
            match &first {
                None => first = Some((member, Arc::clone(&schema))),
                Some((_, expected)) if *expected == schema => {}
                Some((first, _)) => {
                    return Err(CatalogError::MembersDiffer {
                        collection: collection.name.clone(),
                        member: member.clone(),
                        first: (*first).clone(),
                    });
                }
            }
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

fn private_table(
    policy: &Arc<DatasetPolicy>,
    source: &Source,
    freshness: Freshness,
) -> Result<DatasetTable, CatalogError> {
    let snapshot = snapshot(&policy.name, source, freshness)?;
    policy::check_against_schema(policy, &snapshot.schema)?;
    table(&policy.name, Protection::Private(Arc::clone(policy)), &snapshot)
}

fn table(name: &DatasetName, protection: Protection, snapshot: &Snapshot) -> Result<DatasetTable, CatalogError> {
    DatasetTable::new(name.clone(), protection, snapshot).map_err(|source| table_error(name, source))
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
