//! What an answer says of itself, and the forms in which its rows are kept and told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};

use crate::accounting::{Accounting, Loss, pure_as_zcdp};
use crate::analysis::{Analysed, Origin};
use crate::policy::DatasetPolicy;
use crate::release::{Groups, MeasureKind, Output, ReleaseSpec};

use super::price::{Priced, PricedRelease};
use super::{Accuracy, ChargeLine, Diagnostics, GatewayError, GroupFacts, PrivacyFacts, translate};

/// What an answer says of itself; from policy, SQL and price alone.
pub(super) struct Facts<'a> {
    pub(super) analysed: &'a Analysed,
    /// By release.
    pub(super) noise: &'a [PricedRelease],
    pub(super) priced: &'a Priced,
}

impl Facts<'_> {
    pub(super) fn privacy(&self, cached: bool, charges: Vec<ChargeLine>) -> PrivacyFacts {
        let steps = self.noise.iter().fold(0u64, |sum, release| sum.saturating_add(release.precision()));
        let delta = self.noise.iter().map(|release| release.cost().delta.to_f64()).sum();
        let accounting = self.noise.first().map_or(Accounting::Zcdp, |release| release.accounting);
        let zcdp = self.analysed.datasets().values().any(|policy| policy.privacy.accounting == Accounting::Zcdp);
        let rho = match Loss::from_steps(accounting, steps) {
            Loss::Zcdp(rho) => Some(rho),
            Loss::Pure(epsilon) => zcdp.then(|| pure_as_zcdp(epsilon)),
        };
        let mut epochs: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, read) in self.analysed.releases().iter().flat_map(|release| &release.epochs) {
            let all = epochs.entry(name.to_string()).or_default();
            all.extend(read.iter().cloned());
            all.sort();
            all.dedup();
        }
        PrivacyFacts {
            guarantee: guarantee(self.analysed.datasets().values()),
            epochs,
            epsilon: self.priced.epsilon.to_f64(),
            delta: match accounting {
                Accounting::Zcdp => self.priced.query_delta.to_f64(),
                Accounting::Pure => 0.0,
            },
            rho: rho.map(crate::accounting::Rho::to_f64),
            delta_selection: delta,
            cached,
            charges,
        }
    }

    /// The groups of all releases together: public if those of each are, as small as the largest minimum.
    pub(super) fn groups(&self) -> GroupFacts {
        let releases = self.analysed.releases();
        GroupFacts {
            public: releases.iter().all(|release| matches!(release.spec.groups, Groups::Public { .. })),
            min_size: releases.iter().map(|release| release.spec.min_group_size).max().unwrap_or(1),
            units_to_appear_95: self
                .noise
                .iter()
                .map(|release| release.noise.selection().map_or(1, |selection| selection.units_to_appear_95))
                .max()
                .unwrap_or(1),
        }
    }

    /// The diagnostics that were drawn behind the SQL's releases.
    pub(super) fn diagnostics(&self, drawn: &[RecordBatch]) -> Vec<Diagnostics> {
        let of_release = |(batch, noise): (&RecordBatch, &PricedRelease)| {
            let number = |column: usize| {
                let column =
                    arrow::compute::cast(batch.columns().get(column)?, &arrow::datatypes::DataType::Float64).ok()?;
                let column = column.as_primitive_opt::<arrow::datatypes::Float64Type>()?;
                (column.len() == 1 && !column.is_null(0)).then(|| column.value(0))
            };
            let units = number(0).filter(|units| *units > 0.0);
            let share = |column: usize| Some((number(column)? / units?).clamp(0.0, 1.0));
            Diagnostics {
                units_in_more_groups: share(1),
                units_with_more_rows: share(2),
                units_with_clamped_values: share(3),
                share_of_rows_left_out: share(4),
                share_of_rows_clamped: share(5),
                std_dev: units.and_then(|units| Some(noise.noise.measures().first()?.std_dev() / units)),
            }
        };
        drawn.iter().zip(self.noise).skip(self.analysed.of_sql()).map(of_release).collect()
    }

    pub(super) fn accuracy(&self) -> Vec<Option<Accuracy>> {
        self.analysed.origins().iter().map(|origin| origin.and_then(|origin| self.output_accuracy(origin))).collect()
    }

    fn output_accuracy(&self, origin: Origin) -> Option<Accuracy> {
        let spec: &ReleaseSpec = &self.analysed.releases().get(origin.release)?.spec;
        let noise = &self.noise.get(origin.release)?.noise;
        let (law, step) = match &spec.outputs.get(origin.output)?.1 {
            Output::Units => (noise.units()?, 1.0),
            Output::Count { measure } => (noise.measures().get(*measure)?, 1.0),
            Output::Sum { measure } => {
                let MeasureKind::Sum { lattice, .. } = &spec.measures.get(*measure)?.kind else { return None };
                (noise.measures().get(*measure)?, lattice.describe().step)
            }
            Output::Quantile { quantile } => {
                return Some(Accuracy {
                    mechanism: "exponential",
                    std_dev: None,
                    half_width_95: None,
                    per_row: false,
                    quantile: Some(f64::from(spec.quantiles.get(*quantile)?.millionths) / 1e6),
                });
            }
            Output::Computed { measures, .. } => {
                let mechanism = noise.measures().get(*measures.first()?)?.mechanism();
                return Some(Accuracy { mechanism, std_dev: None, half_width_95: None, per_row: true, quantile: None });
            }
        };
        Some(Accuracy {
            mechanism: law.mechanism(),
            std_dev: Some(law.std_dev() * step),
            half_width_95: Some(law.half_width_95() * step),
            per_row: false,
            quantile: None,
        })
    }
}

/// What is promised of several datasets, in words: what is promised of each, once.
pub(super) fn guarantee<'a>(policies: impl Iterator<Item = &'a Arc<DatasetPolicy>>) -> String {
    let promised: BTreeSet<String> = policies.map(|policy| policy.privacy.guarantee()).collect();
    promised.into_iter().collect::<Vec<_>>().join("; and ")
}

/// The result's columns as the SQL names them, without qualifiers.
pub(super) fn answer_schema(analysed: &Analysed) -> SchemaRef {
    let fields: Vec<_> = analysed
        .post()
        .schema()
        .fields()
        .iter()
        .map(|field| arrow::datatypes::Field::new(field.name(), field.data_type().clone(), true))
        .collect();
    Arc::new(Schema::new(fields))
}

/// The rows of an answer under its columns' names.
pub(super) fn under(schema: &SchemaRef, rows: Vec<RecordBatch>) -> Result<Vec<RecordBatch>, GatewayError> {
    rows.into_iter()
        .map(|batch| {
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            RecordBatch::try_new_with_options(Arc::clone(schema), batch.columns().to_vec(), &options)
                .map_err(|_| translate::internal("the result has other columns than its plan"))
        })
        .collect()
}

/// A drawn release as the ledger keeps it.
pub(super) fn encode(batch: &RecordBatch) -> Result<Vec<u8>, GatewayError> {
    let mut bytes = Vec::new();
    StreamWriter::try_new(&mut bytes, &batch.schema())
        .and_then(|mut writer| {
            writer.write(batch)?;
            writer.finish()
        })
        .map_err(|_| translate::internal("a drawn release could not be encoded"))?;
    Ok(bytes)
}

/// The same read back.
pub(super) fn decode(bytes: &[u8]) -> Result<RecordBatch, GatewayError> {
    StreamReader::try_new(bytes, None)
        .and_then(|mut reader| reader.next().transpose())
        .ok()
        .flatten()
        .ok_or_else(|| translate::internal("a kept release could not be decoded"))
}
