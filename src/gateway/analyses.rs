//! Analyses that were made before. An analysis follows from the statement, what is asked for beside it, the catalog, the
//! day and the versions of the data, and from nothing else: while all of these are the same it need not be made again.
//!
//! What depends on who asks, for what and when is never remembered: status, consumers, purposes and `valid_until` are
//! checked on every question, against the catalog of then, before this is looked at; column access and group sizes are
//! those of the very catalog that the analysis was made with.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::record_batch::RecordBatch;
use chrono::NaiveDate;

use crate::analysis::Analysed;
use crate::catalog::Catalog;
use crate::policy::DatasetName;
use crate::release::Groups;

use super::Question;
use super::computed::Computed;

/// How many analyses are remembered: those that were made last.
const MOST: usize = 256;

/// The most cells of public groups of an analysis that is remembered: larger ones hold much memory.
const MOST_CELLS: usize = 4096;

/// The hash of what is asked, and of who asks: how fast an answer is must not tell one that another has asked the same. (That
/// others ask much it may tell: what is remembered longest goes first, whosever it is.)
type Asked = [u8; 32];

/// An analysis with what it was made of.
#[derive(Debug)]
pub(super) struct Earlier {
    /// The datasets that the statement names.
    pub(super) names: Vec<DatasetName>,
    /// The versions of their data, and which files have them.
    pub(super) versions: Vec<[u8; 32]>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) analysed: Arc<Analysed>,
    /// Whether the statement asks for an explanation.
    pub(super) explain: bool,
    /// What was computed last from its draws.
    pub(super) computed: Mutex<Option<Computed>>,
}

/// The analyses that were made last.
#[derive(Debug, Default)]
pub(super) struct Analyses(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    by: HashMap<Asked, Arc<Earlier>>,
    /// From the oldest.
    order: VecDeque<Asked>,
}

impl Analyses {
    /// What was made of the same words and the same catalog. Its data versions are still to be compared.
    pub(super) fn earlier(&self, asked: &Asked, catalog: &Arc<Catalog>) -> Option<Arc<Earlier>> {
        let remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.by.get(asked).filter(|earlier| Arc::ptr_eq(&earlier.catalog, catalog)).cloned()
    }

    /// Remembers an analysis, and forgets the oldest where there are too many.
    pub(super) fn remember(&self, asked: Asked, earlier: Earlier) {
        let large = earlier.analysed.releases().iter().any(|release| match &release.spec.groups {
            Groups::Public { cells, .. } => *cells > MOST_CELLS,
            Groups::Private => false,
        });
        if large {
            return;
        }
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.by.insert(asked, Arc::new(earlier)).is_none() {
            remembered.order.push_back(asked);
        }
        while remembered.order.len() > MOST
            && let Some(oldest) = remembered.order.pop_front()
        {
            remembered.by.remove(&oldest);
        }
    }
}

impl Analyses {
    /// The rows that were computed from the same draws and public rows, where the analysis is remembered.
    pub(super) fn rows(
        &self,
        analysed: &Arc<Analysed>,
        drawn: &[RecordBatch],
        known: &[Vec<RecordBatch>],
    ) -> Option<Vec<RecordBatch>> {
        let earlier = self.of(analysed)?;
        let computed = earlier.computed.lock().unwrap_or_else(PoisonError::into_inner);
        computed.as_ref()?.of(drawn, known)
    }

    /// Remembers what was computed, where the analysis is remembered.
    pub(super) fn remember_rows(&self, analysed: &Arc<Analysed>, computed: Option<Computed>) {
        if let Some(earlier) = self.of(analysed) {
            *earlier.computed.lock().unwrap_or_else(PoisonError::into_inner) = computed;
        }
    }

    fn of(&self, analysed: &Arc<Analysed>) -> Option<Arc<Earlier>> {
        let remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.by.values().find(|earlier| Arc::ptr_eq(&earlier.analysed, analysed)).cloned()
    }
}

/// The hash of all in `question` that an analysis depends on, on the day `today`, for one consumer. `None` where it cannot be
/// written down.
pub(super) fn asked(question: &Question, consumer: &str, today: NaiveDate) -> Option<Asked> {
    let bounds = serde_json::to_vec(&question.bounds).ok()?;
    let mut hasher = blake3::Hasher::new_derive_key("tollgate 2026 analysis");
    for text in [question.sql.as_bytes(), consumer.as_bytes(), &bounds, today.to_string().as_bytes()] {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text);
    }
    hasher.update(&[u8::from(question.with_error_columns), u8::from(question.diagnostics)]);
    Some(*hasher.finalize().as_bytes())
}
