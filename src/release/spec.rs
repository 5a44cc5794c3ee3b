//! What a release does with its rows: a value of plain data, made by the analysis, read by all that follows.
//!
//! ```text
//! input columns:  unit | epoch? | key 0 .. | argument 0 .. | filter 0 ..
//! ```
//!
//! With epochs, what is bounded is a *pair*: a unit in one epoch. All that is said of a unit here is then said of a pair,
//! but for one thing: units are counted as units, however many epochs they are there in.

use std::collections::{BTreeMap, BTreeSet};

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::ScalarValue;

use crate::policy::{DatasetName, EpochKind};

use super::lattice::Lattice;
use super::quantile::Candidates;

/// The contribution bounds in force, which set the noise (DESIGN 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContributionBounds {
    /// L0: how many groups one unit touches at most.
    pub groups: u64,
    /// r: how many rows of one unit count in one group.
    pub rows: u64,
    /// R: how many rows of one unit count over all groups.
    pub total_rows: Option<u64>,
}

/// One measure: a number that is summed exactly and noised once.
#[derive(Debug, Clone, PartialEq)]
pub struct Measure {
    /// What is summed.
    pub kind: MeasureKind,
    /// Which filter a row must pass to count.
    pub filter: Option<usize>,
}

/// What a measure sums over the rows of a unit in a group.
#[derive(Debug, Clone, PartialEq)]
pub enum MeasureKind {
    /// 1 for each row.
    Rows,
    /// 1 for each row whose argument is a value: neither NULL nor NaN.
    Values {
        /// Which argument.
        argument: usize,
    },
    /// The argument's lattice steps from the lattice's centre.
    Sum {
        /// Which argument.
        argument: usize,
        /// Where its values lie and how they become integers.
        lattice: Lattice,
    },
    /// 1 for each unit that has a row.
    Units,
    /// 1 for each distinct value of the argument in the group; of one unit's values at most r are looked at.
    Distinct {
        /// Which argument.
        argument: usize,
    },
}

impl Measure {
    /// B: what one row adds at most, in the measure's integer steps.
    #[must_use]
    pub fn bound(&self) -> u128 {
        match &self.kind {
            MeasureKind::Rows | MeasureKind::Values { .. } | MeasureKind::Units | MeasureKind::Distinct { .. } => 1,
            MeasureKind::Sum { lattice, .. } => lattice.bound(),
        }
    }

    /// How many rows, or distinct values, of one unit count in a group, and over all groups, where `bounds` are in force.
    #[must_use]
    pub const fn rows(&self, bounds: &ContributionBounds) -> (u64, Option<u64>) {
        match self.kind {
            MeasureKind::Units => (1, None),
            // R is about rows; distinct values are bounded by group alone.
            MeasureKind::Distinct { .. } => (bounds.rows, None),
            MeasureKind::Rows | MeasureKind::Values { .. } | MeasureKind::Sum { .. } => {
                (bounds.rows, bounds.total_rows)
            }
        }
    }
}

/// How an aggregate of the SQL is read off the noised measures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// The number of units.
    Units,
    /// A counting measure.
    Count {
        /// Which measure.
        measure: usize,
    },
    /// A sum, its lattice centred at 0.
    Sum {
        /// Which measure.
        measure: usize,
    },
    /// A quantile, drawn by the exponential mechanism.
    Quantile {
        /// Which quantile.
        quantile: usize,
    },
    /// A function of several measures: its error differs from row to row.
    Computed {
        /// Which function.
        statistic: Statistic,
        /// The measures, in the order that the function says.
        measures: Vec<usize>,
    },
}

/// A function of moments. `n` counts the rows in which every argument is a value; `x`, `y` are sums of distances from the
/// centres of their lattices, `xx`, `yy`, `xy` sums of products of such distances, each from the centre of its own lattice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statistic {
    /// `n, x`: the sum, c·n + x.
    Total,
    /// `n, x`
    Mean,
    /// `n, x, xx`
    Variance {
        /// Divided by n − 1 instead of n.
        sample: bool,
        /// Its square root: the standard deviation.
        root: bool,
    },
    /// `n, x, y, xy`
    Covariance {
        /// Divided by n − 1 instead of n.
        sample: bool,
    },
    /// `n, x, y, xx, yy, xy`
    Correlation,
    /// `n, x, y, xx, xy`: of the line y = a + b·x, b.
    Slope,
    /// `n, x, y, xx, xy`: of the line y = a + b·x, a.
    Intercept,
}

/// The weights of an argument's values, of which quantiles are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Histogram {
    /// Which argument, a float.
    pub argument: usize,
    /// Which filter a row must pass to count.
    pub filter: Option<usize>,
    /// The values that a quantile may have.
    pub candidates: Candidates,
}

/// One quantile of a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantile {
    /// Of which histogram.
    pub histogram: usize,
    /// p, in millionths.
    pub millionths: u32,
}

/// Which groups may appear.
#[derive(Debug, Clone, PartialEq)]
pub enum Groups {
    /// Every key is known without the data: one vector of values a key column, all of one length. Without GROUP BY
    /// there is one cell and no key column.
    Public {
        /// By key column, the key of each cell.
        keys: Vec<Vec<ScalarValue>>,
        /// How many cells.
        cells: usize,
    },
    /// Keys come from the data, so groups are selected.
    Private,
}

/// A release.
#[derive(Debug, Clone, PartialEq)]
pub struct ReleaseSpec {
    /// The identifier space of the unit.
    pub unit_domain: String,
    /// The group keys, as the result names and types them.
    pub keys: Vec<FieldRef>,
    /// How many arguments the input has.
    pub arguments: usize,
    /// How many filters the input has.
    pub filters: usize,
    /// What is summed and noised.
    pub measures: Vec<Measure>,
    /// Of what quantiles are drawn.
    pub histograms: Vec<Histogram>,
    /// The quantiles, each drawn by a mechanism of its own.
    pub quantiles: Vec<Quantile>,
    /// The aggregates, as the result names and types them.
    pub outputs: Vec<(FieldRef, Output)>,
    /// The bounds in force.
    pub bounds: ContributionBounds,
    /// k: no group with fewer units is ever released.
    pub min_group_size: u64,
    /// Which groups may appear.
    pub groups: Groups,
    /// `GROUPING SETS`: which key names the set, and how many groups of each one unit touches.
    pub sets: Option<GroupingSets>,
    /// The epochs that it reads, if its datasets have epochs.
    pub epochs: Option<EpochsRead>,
}

/// The epochs that a release reads: each is charged in full, and no other epoch's rows reach the release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochsRead {
    /// How long they are, in all datasets of the release.
    pub kind: EpochKind,
    /// By dataset, the numbers of its epochs.
    pub by_dataset: BTreeMap<DatasetName, BTreeSet<i32>>,
}

/// Several groupings of one release; the set is part of the group key (DESIGN 4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupingSets {
    /// The key that holds a set's number.
    pub key: usize,
    /// The number of each set, and L0 within it. The release's L0 is their sum.
    pub groups: Vec<(u64, u64)>,
}

/// The most by which a measure's part of a price is larger than that of the units that are counted for selection.
const MAX_PARTS: u64 = 4;

impl ReleaseSpec {
    /// Where the unit's id is in the input.
    pub const UNIT: usize = 0;

    /// Where the row's epoch is in the input, if it has one.
    #[must_use]
    pub const fn epoch_column(&self) -> Option<usize> {
        if self.epochs.is_some() { Some(Self::UNIT + 1) } else { None }
    }

    /// How many columns name the unit, or the pair of a unit and an epoch: the first ones of the input.
    #[must_use]
    pub const fn unit_width(&self) -> usize {
        if self.epochs.is_some() { 2 } else { 1 }
    }

    /// Where key `at` is in the input.
    #[must_use]
    pub const fn key_column(&self, at: usize) -> usize {
        self.unit_width() + at
    }

    /// Where argument `at` is in the input.
    #[must_use]
    pub fn argument_column(&self, at: usize) -> usize {
        self.unit_width() + self.keys.len() + at
    }

    /// Where filter `at` is in the input.
    #[must_use]
    pub fn filter_column(&self, at: usize) -> usize {
        self.unit_width() + self.keys.len() + self.arguments + at
    }

    /// How many columns the input has.
    #[must_use]
    pub fn input_width(&self) -> usize {
        self.unit_width() + self.keys.len() + self.arguments + self.filters
    }

    /// Whether which groups appear depends on the data: always with private keys, and with public ones when k > 1.
    #[must_use]
    pub fn selects_groups(&self) -> bool {
        matches!(self.groups, Groups::Private) || self.min_group_size > 1
    }

    /// Whether the number of units is noised and used.
    #[must_use]
    pub fn counts_units(&self) -> bool {
        self.selects_groups() || self.outputs.iter().any(|(_, output)| *output == Output::Units)
    }

    /// How many parts of the price each measure or quantile gets, and how many the number of units.
    ///
    /// The parts even out relative errors as far as policy and SQL can tell. Measures are alike: with equal parts their noise
    /// is in one proportion to the most that a unit can add. A unit adds that much, 1, to the number of units, but to a
    /// measure it may add anything up to r rows: where the number of units serves selection alone, it gets the smaller part,
    /// as if a unit had √r rows.
    #[must_use]
    pub fn parts(&self) -> (u64, u64) {
        let is_output = self.outputs.iter().any(|(_, output)| *output == Output::Units);
        let measure = self.bounds.rows.clamp(1, MAX_PARTS);
        (measure, if is_output { measure } else { 1 })
    }

    /// How many parts of a price the release has in all.
    #[must_use]
    pub fn all_parts(&self) -> u64 {
        let (measure, units) = self.parts();
        (self.measures.len() + self.quantiles.len()) as u64 * measure + u64::from(self.counts_units()) * units
    }

    /// D²: how far one unit can move `measure` over all groups, in squared Euclidean distance.
    ///
    /// `B²·L0·r²`, or with R the most that `L0` groups of at most r rows, R in all, can make. `None` when it does not
    /// fit 128 bits.
    #[must_use]
    pub fn squared_sensitivity(&self, measure: &Measure) -> Option<u128> {
        let (rows, total_rows) = measure.rows(&self.bounds);
        let (groups, rows) = (u128::from(self.bounds.groups), u128::from(rows));
        let bound = measure.bound();
        let full = groups.checked_mul(rows)?.checked_mul(rows)?;
        let rows_squared = match total_rows {
            None => full,
            Some(total) => {
                let total = u128::from(total);
                let rest = total % rows;
                full.min((total / rows).checked_mul(rows)?.checked_mul(rows)?.checked_add(rest.checked_mul(rest)?)?)
            }
        };
        rows_squared.checked_mul(bound.checked_mul(bound)?)
    }

    /// D₁: how far one unit can move `measure` over all groups, in absolute distance.
    #[must_use]
    pub fn absolute_sensitivity(&self, measure: &Measure) -> Option<u128> {
        let (rows, total_rows) = measure.rows(&self.bounds);
        let full = u128::from(self.bounds.groups).checked_mul(u128::from(rows))?;
        total_rows.map_or(full, |total| full.min(u128::from(total))).checked_mul(measure.bound())
    }
}

/// The hidden column that holds the half-width of output `output` of release `release`.
#[must_use]
pub fn half_width_column(release: usize, output: usize) -> String {
    format!("{HALF_WIDTH_PREFIX}{release}_{output}")
}

/// Whether a column is a hidden half-width.
#[must_use]
pub fn is_half_width_column(name: &str) -> bool {
    name.starts_with(HALF_WIDTH_PREFIX)
}

const HALF_WIDTH_PREFIX: &str = "__tollgate_half_width_";

/// The type of a half-width column.
pub const HALF_WIDTH_TYPE: DataType = DataType::Float64;
