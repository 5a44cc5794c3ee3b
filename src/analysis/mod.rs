//! Analysis: is this plan private, and what does it release?
//!
//! ```text
//! Planned ── walk, bottom up ──▶ Analysed { releases: [input plan + spec], post: plan over the released values }
//! ```
//!
//! Default deny: a plan node, an expression, a function or an aggregate that is not named here is refused, with a
//! rewrite that works. The analysis reads plans and policies; it never reads data, and knows neither prices nor
//! accounts.

mod calendar;
mod canonical;
mod coarser;
mod diagnostics;
mod domain;
mod draft;
mod epochs;
mod explain;
mod expression;
mod functions;
mod interval;
mod join;
mod join_known;
mod known;
mod operators;
mod per_unit;
mod post;
mod refusal;
mod relation;
mod release;
mod request;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use chrono::NaiveDate;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, LogicalPlan};

use crate::catalog::{DatasetTable, Protection};
use crate::policy::{DatasetName, DatasetPolicy};
use crate::release::ReleaseSpec;
use crate::sql::Planned;

pub use coarser::{Part, Summable};
pub use diagnostics::DIAGNOSTICS;
pub use explain::relations;
pub use known::{Known, known_of, releases_of, with_values};
pub use refusal::{Refusal, RefusalKind};
pub use relation::Origin;
pub use request::BoundsRequest;

/// How the analysis is bounded, and what the analyst asks for beside the SQL.
#[derive(Debug, Clone)]
pub struct Options {
    /// Smaller bounds than the policies'.
    pub bounds: BoundsRequest,
    /// Add the half-widths of the intervals as columns.
    pub with_error_columns: bool,
    /// The most cells that public group keys may span.
    pub max_cells: usize,
    /// Release, for each release of the SQL, what bounding takes away from it.
    pub diagnostics: bool,
    /// The day of the query (UTC), which says which epochs there are: the last is the one that holds it.
    pub today: NaiveDate,
}

/// One release of a query: what it reads, and what it makes of it.
#[derive(Debug, Clone)]
pub struct AnalysedRelease {
    /// Its rows: the unit's id, the group keys, the arguments and the filters, in the order that `spec` gives them.
    pub input: LogicalPlan,
    /// What is released of them.
    pub spec: Arc<ReleaseSpec>,
    /// The release as text, in which names of tables and columns in the query do not matter: what "the same question"
    /// means (DESIGN 4.3). Data and policy versions are in it.
    pub canonical: String,
    /// The private datasets that it reads, each charged in full.
    pub datasets: BTreeMap<DatasetName, Arc<DatasetPolicy>>,
    /// Of each of these that has epochs, those that it reads (`2013-01`, `2013-Q1` or `2013`), in their order and at least
    /// one: each is charged in full, and the others are not (block composition, `accounting/proof.md`).
    pub epochs: BTreeMap<DatasetName, Vec<String>>,
    /// The earlier releases of the query whose drawn values it reads.
    pub reads: BTreeSet<usize>,
    /// The contribution bounds in force in words, each with where it comes from.
    pub reasons: Vec<String>,
    /// The value bounds in force in words, each with where it comes from.
    pub notes: Vec<String>,
}

/// Rows of plans over public tables that an analysis has asked for.
#[derive(Debug, Clone, Default)]
pub struct PublicRows {
    rows: HashMap<[u8; 32], Arc<Vec<Vec<ScalarValue>>>>,
}

/// What an analysis comes to.
#[derive(Debug)]
pub enum Outcome {
    /// The query can be answered.
    Done(Box<Analysed>),
    /// The rows of these plans over public tables decide which groups there are: analyse again with them.
    Wants(Vec<LogicalPlan>),
}

/// A query that can be answered privately.
#[derive(Debug)]
pub struct Analysed {
    releases: Vec<AnalysedRelease>,
    /// How many of the releases are the SQL's; those after them are their diagnostics.
    of_sql: usize,
    known: Vec<Known>,
    post: LogicalPlan,
    origins: Vec<Option<Origin>>,
    fan_outs: Vec<LogicalPlan>,
    datasets: BTreeMap<DatasetName, Arc<DatasetPolicy>>,
}

impl Analysed {
    /// Relations that are computed before the releases that read them, in the order in which they can be.
    #[must_use]
    pub fn known(&self) -> &[Known] {
        &self.known
    }

    /// The releases, in the order in which they are drawn.
    #[must_use]
    pub fn releases(&self) -> &[AnalysedRelease] {
        &self.releases
    }

    /// How many of the releases are the SQL's. Those after them, if any, are their diagnostics, in the same order.
    #[must_use]
    pub const fn of_sql(&self) -> usize {
        self.of_sql
    }

    /// What is computed from the released values.
    #[must_use]
    pub fn post(&self) -> &LogicalPlan {
        &self.post
    }

    /// By column of the result: which output of which release it is, unchanged.
    #[must_use]
    pub fn origins(&self) -> &[Option<Origin>] {
        &self.origins
    }

    /// For each join of private rows to a public table, a plan over public rows that says how many of them one private
    /// row may meet.
    #[must_use]
    pub fn fan_outs(&self) -> &[LogicalPlan] {
        &self.fan_outs
    }

    /// Every private dataset that the query reads.
    #[must_use]
    pub fn datasets(&self) -> &BTreeMap<DatasetName, Arc<DatasetPolicy>> {
        &self.datasets
    }
}

/// Analyses a plan.
///
/// # Errors
/// A [`Refusal`] when it cannot be answered privately; its text depends on the SQL and on policies alone.
pub fn analyse(planned: &Planned, options: &Options, public: &PublicRows) -> Result<Outcome, Refusal> {
    analysed(planned, options, public).map_err(|refusal| refusal.located(planned.plan()))
}

fn analysed(planned: &Planned, options: &Options, public: &PublicRows) -> Result<Outcome, Refusal> {
    check_request(&options.bounds)?;
    let mut analysis = Analysis {
        request: &options.bounds,
        with_error_columns: options.with_error_columns,
        max_cells: options.max_cells,
        public,
        releases: Vec::new(),
        known: Vec::new(),
        tables: Vec::new(),
        wanted: Vec::new(),
        datasets: BTreeMap::new(),
        versions: BTreeMap::new(),
        columns: BTreeSet::new(),
        fan_outs: Vec::new(),
        conditions: Vec::new(),
        today: options.today,
        hidden_units: 0,
        private_joins: join::private_joins(planned.plan()),
    };
    let (post, relation) = analysis.walk(planned.plan())?;
    if !analysis.wanted.is_empty() {
        return Ok(Outcome::Wants(analysis.wanted));
    }
    let (post, origins) = analysis.finish(post, relation, planned.plan().schema())?;
    if let Some(column) = options.bounds.columns.keys().find(|column| !analysis.columns.contains(*column)) {
        return Err(Refusal::request(
            format!("`bounds` names the column `{column}`, which no dataset of the query has"),
            "name a column of a private dataset",
        ));
    }
    let of_sql = analysis.releases.len();
    if options.diagnostics {
        for at in 0..of_sql {
            let (input, spec) = diagnostics::of(&analysis.releases[at])?;
            let spec = Arc::new(spec);
            let canonical = canonical::release(&input, &spec, &analysis.versions, &analysis.known, &analysis.releases)?;
            let AnalysedRelease { datasets, epochs, reads, .. } = analysis.releases[at].clone();
            let (reasons, notes) = (vec!["at most 1 row (a unit is one)".to_owned()], Vec::new());
            analysis.releases.push(AnalysedRelease { input, spec, canonical, datasets, epochs, reads, reasons, notes });
        }
    }
    Ok(Outcome::Done(Box::new(Analysed {
        releases: analysis.releases,
        of_sql,
        known: analysis.known,
        post,
        origins,
        fan_outs: analysis.fan_outs,
        datasets: analysis.datasets,
    })))
}

struct Analysis<'a> {
    request: &'a BoundsRequest,
    with_error_columns: bool,
    max_cells: usize,
    public: &'a PublicRows,
    releases: Vec<AnalysedRelease>,
    known: Vec<Known>,
    /// Public relations that private rows are joined to.
    tables: Vec<LogicalPlan>,
    /// Plans over public tables whose rows are not known yet.
    wanted: Vec<LogicalPlan>,
    datasets: BTreeMap<DatasetName, Arc<DatasetPolicy>>,
    /// What the release key holds of each table that is read: its data version and its policy's.
    versions: BTreeMap<DatasetName, String>,
    /// Every column of a private dataset that the query reads.
    columns: BTreeSet<String>,
    fan_outs: Vec<LogicalPlan>,
    /// What every row of the relation that is walked next must meet to be in the result: says which epochs are read.
    conditions: Vec<Expr>,
    /// The day of the query (UTC).
    today: NaiveDate,
    /// How many hidden columns of units have been named.
    hidden_units: usize,
    /// How many joins of the query have private rows on both sides.
    private_joins: usize,
}

impl Analysis<'_> {
    fn read(&mut self, table: &DatasetTable) {
        let data = blake3::Hash::from_bytes(*table.version()).to_hex();
        let policy = match table.protection() {
            Protection::Private(policy) => {
                self.datasets.insert(table.name().clone(), Arc::clone(policy));
                for field in datafusion::catalog::TableProvider::schema(table).fields() {
                    self.columns.insert(field.name().clone());
                }
                policy.version.clone()
            }
            Protection::Public => "public".to_owned(),
        };
        self.versions.insert(table.name().clone(), format!("{data}/{policy}"));
    }
}

fn check_request(bounds: &BoundsRequest) -> Result<(), Refusal> {
    for (name, value) in [
        ("max_groups_per_unit", bounds.max_groups_per_unit.map(u64::from)),
        ("max_rows_per_unit_per_group", bounds.max_rows_per_unit_per_group.map(u64::from)),
        ("max_rows_per_unit", bounds.max_rows_per_unit),
    ] {
        if value == Some(0) {
            return Err(Refusal::request(format!("`bounds.{name}` is 0"), "it must be at least 1"));
        }
    }
    for (column, [lo, hi]) in &bounds.columns {
        if !(lo.is_finite() && hi.is_finite() && lo < hi) {
            return Err(Refusal::request(
                format!("`bounds.columns.{column}` is no interval"),
                "write [lo, hi] with lo < hi, both finite",
            ));
        }
    }
    Ok(())
}
