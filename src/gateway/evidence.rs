//! What is written into the log beside the charges: which queries were answered, and which were refused (DESIGN 4.5).

use std::collections::BTreeMap;

use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::accounting::{Cost, Loss};
use crate::analysis::Analysed;
use crate::catalog::Entry as CatalogEntry;
use crate::ledger::{Decision, Entry, HeldRelease, NewDraw, Reuse};
use crate::sql;

use super::charge::{Charged, Payer};
use super::facts::answer_schema;
use super::price::Priced;
use super::{Caller, Code, Gateway, GatewayError, Question, ReceiptFacts, translate};

/// The longest SQL text that a refusal is logged with, in bytes: a refusal is free, and the log is for ever.
const MAX_REFUSED_SQL: usize = 4096;

/// An answer that is to be logged.
pub(super) struct Recorded<'a> {
    pub(super) query_id: Uuid,
    pub(super) priced: &'a Priced,
    pub(super) charged: &'a [Charged],
    pub(super) rows: &'a [RecordBatch],
}

impl Gateway {
    /// Logs an answer, durably, before it leaves. A draw that is not kept yet is kept in the same commit; nothing is logged, and
    /// the draw to show comes back, where another one is kept already.
    pub(super) async fn record_answer(
        &self,
        question: &Question,
        analysed: &Analysed,
        payer: Payer<'_>,
        recorded: Recorded<'_>,
        unkept: Option<NewDraw>,
    ) -> Result<Result<ReceiptFacts, HeldRelease>, GatewayError> {
        let Recorded { query_id, priced, charged, rows } = recorded;
        // Without it, whoever reads the log could try answers until one has the hash.
        let nonce = [Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes()].concat();
        let entry = Entry {
            at: payer.now,
            by: None,
            decision: Decision::Answer {
                query_id,
                consumer: payer.consumer.to_owned(),
                sql: question.sql.clone(),
                purpose: question.purpose.clone(),
                datasets: analysed.datasets().keys().map(ToString::to_string).collect(),
                charges: charged.iter().map(|charged| charged.id).collect(),
                cached: charged.iter().all(|charged| charged.earlier),
                answer_sha256: answer_hash(analysed, rows, &nonce)?,
            },
        };
        let reuses = reuses(question, analysed, payer, priced, charged);
        let receipt = match unkept {
            None => self.store.record(entry, reuses).await.map_err(translate::ledger)?,
            Some(draw) => match self.store.keep_and_record(draw, entry, reuses).await.map_err(translate::ledger)? {
                (_, Some(receipt)) => receipt,
                (kept, None) => return Ok(Err(kept)),
            },
        };
        let (log_index, leaf_hash) = (receipt.log_index, hex(&receipt.leaf_hash));
        Ok(Ok(ReceiptFacts { log_index, leaf_hash, answer_nonce: hex(&nonce) }))
    }

    /// Logs a refusal. That it could not be logged is told to the operator, not to the caller: nothing was released.
    pub(super) async fn record_refusal(&self, caller: &Caller, question: &Question, error: &GatewayError) {
        let Some(consumer) = caller.consumer() else { return };
        if !is_decision(error.code) || !self.refusals.count(consumer, chrono::Utc::now()) {
            return;
        }
        let catalog = self.catalog();
        let mut datasets = Vec::new();
        if let Ok(parsed) = sql::parse(&question.sql, self.limits.sql) {
            for name in parsed.tables() {
                match catalog.entry(name) {
                    Some(CatalogEntry::Private(..)) => datasets.push(name.to_string()),
                    Some(CatalogEntry::Collection(collection)) => {
                        datasets.extend(collection.members.iter().map(ToString::to_string));
                    }
                    Some(CatalogEntry::Public(..)) | None => {}
                }
            }
        }
        let entry = Entry {
            at: chrono::Utc::now(),
            by: None,
            decision: Decision::Refusal {
                consumer: consumer.to_owned(),
                sql: shortened(&question.sql),
                purpose: question.purpose.as_deref().map(shortened),
                datasets,
                code: error.code.as_str().to_owned(),
            },
        };
        if let Err(error) = self.store.record(entry, Vec::new()).await {
            tracing::error!(%error, "a refusal could not be logged");
        }
    }
}

/// Whether a refusal with this code was decided by policies, SQL and budgets. Others are faults, or the lack of room.
const fn is_decision(code: Code) -> bool {
    match code {
        Code::SqlInvalid
        | Code::RequestInvalid
        | Code::NotAllowed
        | Code::PurposeNotAllowed
        | Code::DatasetSuspended
        | Code::ApprovalPending
        | Code::BudgetExceeded
        | Code::IdempotencyConflict
        | Code::TooLarge
        | Code::QueryNotPrivate => true,
        Code::Unauthenticated
        | Code::NotFound
        | Code::PolicyInvalid
        | Code::Conflict
        | Code::LedgerFrozen
        | Code::RateLimited
        | Code::Overloaded
        | Code::TimedOut
        | Code::SourceUnavailable
        | Code::Internal => false,
    }
}

/// The beginning of a text, whole characters, with a mark where something was left out.
fn shortened(sql: &str) -> String {
    if sql.len() <= MAX_REFUSED_SQL {
        return sql.to_owned();
    }
    let end = (0..=MAX_REFUSED_SQL).rev().find(|end| sql.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", &sql[..end])
}

/// What was answered without a charge, and what it would have cost, by dataset.
fn reuses(
    question: &Question,
    analysed: &Analysed,
    payer: Payer<'_>,
    priced: &Priced,
    charged: &[Charged],
) -> Vec<Reuse> {
    let mut saved: BTreeMap<String, Cost> = BTreeMap::new();
    for ((release, priced), charged) in analysed.releases().iter().zip(&priced.releases).zip(charged) {
        if !charged.earlier {
            continue;
        }
        for (name, policy) in &release.datasets {
            let Some(loss) = priced.cost().loss.charged_to(policy.privacy.accounting) else { continue };
            let cost = Cost { loss, delta: priced.cost().delta };
            let sum = saved
                .entry(name.to_string())
                .or_insert(Cost { loss: Loss::nothing(loss.accounting()), delta: crate::accounting::Delta::ZERO });
            sum.loss = sum.loss.checked_add(cost.loss).unwrap_or(sum.loss);
            sum.delta = sum.delta.checked_add(cost.delta).unwrap_or(sum.delta);
        }
    }
    let reuse = |(dataset, cost)| Reuse {
        dataset,
        consumer: payer.consumer.to_owned(),
        agency: payer.agency.map(str::to_owned),
        purpose: question.purpose.clone(),
        cost,
    };
    saved.into_iter().map(reuse).collect()
}

/// SHA-256 of the nonce and the answer as the Arrow IPC stream that HTTP sends it in, in hex: `sha256sum` of the nonce's
/// bytes and that file gives the same.
fn answer_hash(analysed: &Analysed, rows: &[RecordBatch], nonce: &[u8]) -> Result<String, GatewayError> {
    let stream = StreamWriter::try_new(Hashing(Sha256::new_with_prefix(nonce)), &answer_schema(analysed))
        .and_then(|mut writer| {
            rows.iter().try_for_each(|batch| writer.write(batch))?;
            writer.into_inner()
        })
        .map_err(|_| translate::internal("an answer could not be hashed"))?;
    Ok(hex(&stream.0.finalize()))
}

/// A sink that keeps the hash of what is written to it.
struct Hashing(Sha256);

impl std::io::Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Bytes in hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}
