//! What is sent of a release: what bounding needs, as plain numbers.
//!
//! ```text
//! ReleaseSpec                          Bounding (sent)
//!  names of keys and outputs            –   (places instead)
//!  keys' types, measures, lattices      ✓
//!  L0, r, R, grouping sets              ✓
//!  whether a unit is a pair with an epoch ✓
//!  outputs, quantiles' p, listed keys   –
//!  minimum size, epochs that are paid   –
//! ```

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use datafusion::common::{Result, internal_datafusion_err, internal_err};
use serde::{Deserialize, Serialize};

use crate::policy::EpochKind;
use crate::release::{
    Candidates, ContributionBounds, EpochsRead, GroupingSets, Groups, Histogram, Lattice, Measure, MeasureKind,
    ReleaseSpec,
};

/// The specification that is sent and that a worker has: everything that bounding does not need is left out or blank.
#[must_use]
pub(super) fn bounding_of(spec: &ReleaseSpec) -> ReleaseSpec {
    let key = |(at, key): (usize, &Arc<Field>)| {
        Arc::new(Field::new(format!("key{at}"), key.data_type().clone(), key.is_nullable()))
    };
    ReleaseSpec {
        unit_domain: String::new(),
        keys: spec.keys.iter().enumerate().map(key).collect(),
        arguments: spec.arguments,
        filters: spec.filters,
        measures: spec.measures.clone(),
        histograms: spec.histograms.clone(),
        quantiles: Vec::new(),
        outputs: Vec::new(),
        bounds: spec.bounds,
        min_group_size: 1,
        groups: Groups::Private,
        sets: spec.sets.clone(),
        epochs: spec.epochs.as_ref().map(|epochs| EpochsRead { kind: epochs.kind, by_dataset: BTreeMap::new() }),
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bounding {
    /// The keys' types, as an Arrow stream without a batch.
    keys: Vec<u8>,
    arguments: usize,
    filters: usize,
    measures: Vec<SentMeasure>,
    histograms: Vec<SentHistogram>,
    groups: u64,
    rows: u64,
    total_rows: Option<u64>,
    sets: Option<SentSets>,
    epochs: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SentMeasure {
    kind: SentKind,
    filter: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum SentKind {
    Rows,
    Values(usize),
    Sum(usize, SentLattice),
    Units,
    Distinct(usize),
}

/// Floats are sent as their bits: what comes out is what went in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum SentLattice {
    Float { lo: u64, hi: u64, centre: u64, step: u64 },
    Integer { lo: i64, hi: i64, centre: i64, shift: u32, scale: i8 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct SentHistogram {
    argument: usize,
    filter: Option<usize>,
    lo: u64,
    step: u64,
    count: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SentSets {
    key: usize,
    groups: Vec<(u64, u64)>,
}

impl Bounding {
    /// What is sent of `spec`.
    ///
    /// # Errors
    /// When a bound does not fit what is sent, which no lattice's does.
    pub(super) fn new(spec: &ReleaseSpec) -> Result<Self> {
        let spec = bounding_of(spec);
        let schema = Schema::new(spec.keys.clone());
        let mut keys = Vec::new();
        let mut writer = StreamWriter::try_new(&mut keys, &schema)?;
        writer.finish()?;
        drop(writer);
        Ok(Self {
            keys,
            arguments: spec.arguments,
            filters: spec.filters,
            measures: spec.measures.iter().map(SentMeasure::new).collect::<Result<_>>()?,
            histograms: spec.histograms.iter().map(SentHistogram::new).collect(),
            groups: spec.bounds.groups,
            rows: spec.bounds.rows,
            total_rows: spec.bounds.total_rows,
            sets: spec.sets.map(|GroupingSets { key, groups }| SentSets { key, groups }),
            epochs: spec.epochs.map(|epochs| epochs.kind.as_str().to_owned()),
        })
    }

    /// The specification that bounding follows.
    ///
    /// # Errors
    /// When it names what is not there.
    pub(super) fn spec(self) -> Result<ReleaseSpec> {
        let schema = StreamReader::try_new(Cursor::new(self.keys), None)?.schema();
        let epochs = match self.epochs {
            None => None,
            Some(kind) => Some(EpochsRead { kind: epoch_kind(&kind)?, by_dataset: BTreeMap::new() }),
        };
        let measures: Vec<Measure> = self.measures.into_iter().map(SentMeasure::measure).collect();
        let histograms: Vec<Histogram> = self.histograms.into_iter().map(SentHistogram::histogram).collect();
        let arguments = measures.iter().filter_map(argument_of).chain(histograms.iter().map(|of| of.argument));
        let filters = measures.iter().filter_map(|of| of.filter).chain(histograms.iter().filter_map(|of| of.filter));
        if arguments.max().is_some_and(|most| most >= self.arguments)
            || filters.max().is_some_and(|most| most >= self.filters)
            || self.sets.as_ref().is_some_and(|sets| sets.key >= schema.fields().len())
        {
            return internal_err!("a release that names columns which it has not");
        }
        Ok(ReleaseSpec {
            unit_domain: String::new(),
            keys: schema.fields().iter().map(Arc::clone).collect(),
            arguments: self.arguments,
            filters: self.filters,
            measures,
            histograms,
            quantiles: Vec::new(),
            outputs: Vec::new(),
            bounds: ContributionBounds { groups: self.groups, rows: self.rows, total_rows: self.total_rows },
            min_group_size: 1,
            groups: Groups::Private,
            sets: self.sets.map(|SentSets { key, groups }| GroupingSets { key, groups }),
            epochs,
        })
    }
}

fn argument_of(measure: &Measure) -> Option<usize> {
    match measure.kind {
        MeasureKind::Rows | MeasureKind::Units => None,
        MeasureKind::Values { argument } | MeasureKind::Sum { argument, .. } | MeasureKind::Distinct { argument } => {
            Some(argument)
        }
    }
}

/// The kind of epochs that `word` names.
///
/// # Errors
/// When it names none.
pub(super) fn epoch_kind(word: &str) -> Result<EpochKind> {
    EpochKind::ALL
        .into_iter()
        .find(|kind| kind.as_str() == word)
        .ok_or_else(|| internal_datafusion_err!("epochs of a kind that is not known"))
}

impl SentMeasure {
    fn new(measure: &Measure) -> Result<Self> {
        let kind = match &measure.kind {
            MeasureKind::Rows => SentKind::Rows,
            MeasureKind::Values { argument } => SentKind::Values(*argument),
            MeasureKind::Sum { argument, lattice } => SentKind::Sum(*argument, SentLattice::new(lattice)?),
            MeasureKind::Units => SentKind::Units,
            MeasureKind::Distinct { argument } => SentKind::Distinct(*argument),
        };
        Ok(Self { kind, filter: measure.filter })
    }

    fn measure(self) -> Measure {
        let kind = match self.kind {
            SentKind::Rows => MeasureKind::Rows,
            SentKind::Values(argument) => MeasureKind::Values { argument },
            SentKind::Sum(argument, lattice) => MeasureKind::Sum { argument, lattice: lattice.lattice() },
            SentKind::Units => MeasureKind::Units,
            SentKind::Distinct(argument) => MeasureKind::Distinct { argument },
        };
        Measure { kind, filter: self.filter }
    }
}

impl SentLattice {
    fn new(lattice: &Lattice) -> Result<Self> {
        Ok(match *lattice {
            Lattice::Float { lo, hi, centre, step } => {
                Self::Float { lo: lo.to_bits(), hi: hi.to_bits(), centre: centre.to_bits(), step: step.to_bits() }
            }
            Lattice::Integer { lo, hi, centre, shift, scale } => {
                let fits = |value: i128| {
                    i64::try_from(value).map_err(|_| internal_datafusion_err!("bounds past 64 bits are not sent"))
                };
                Self::Integer { lo: fits(lo)?, hi: fits(hi)?, centre: fits(centre)?, shift, scale }
            }
        })
    }

    fn lattice(self) -> Lattice {
        match self {
            Self::Float { lo, hi, centre, step } => Lattice::Float {
                lo: f64::from_bits(lo),
                hi: f64::from_bits(hi),
                centre: f64::from_bits(centre),
                step: f64::from_bits(step),
            },
            Self::Integer { lo, hi, centre, shift, scale } => {
                Lattice::Integer { lo: lo.into(), hi: hi.into(), centre: centre.into(), shift, scale }
            }
        }
    }
}

impl SentHistogram {
    fn new(histogram: &Histogram) -> Self {
        let Candidates { lo, step, count } = histogram.candidates;
        Self { argument: histogram.argument, filter: histogram.filter, lo: lo.to_bits(), step: step.to_bits(), count }
    }

    fn histogram(self) -> Histogram {
        let candidates = Candidates { lo: f64::from_bits(self.lo), step: f64::from_bits(self.step), count: self.count };
        Histogram { argument: self.argument, filter: self.filter, candidates }
    }
}
