//! The main job: a question becomes a private answer, charged before it is drawn.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int64Type, Schema, SchemaRef};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::accounting::{Accounting, Loss, pure_as_zcdp};
use crate::analysis::{Analysed, AnalysedRelease, Options, analyse};
use crate::catalog::Freshness;
use crate::engine::EngineError;
use crate::ledger::ReleaseKey;
use crate::release::{Groups, MeasureKind, Output, ReleaseNode, ReleaseSpec, SelectionKey};
use crate::sql;

use super::authorise::authorise;
use super::charge::{Charged, accounts, charge, lines};
use super::price::{Priced, PricedRelease, price};
use super::{
    Accuracy, Answer, Caller, ChargeLine, Code, Gateway, GatewayError, GroupFacts, PrivacyFacts, Question, budget,
    run_blocking, translate,
};

impl Gateway {
    /// Answers a question, or says what it would cost.
    ///
    /// # Errors
    /// A refusal or a failure, told without any data value.
    pub async fn ask(&self, caller: &Caller, question: Question) -> Result<Answer, GatewayError> {
        let start = Instant::now();
        let answer = self.answer(caller, &question).await;
        if !question.dry_run {
            self.wait_for_slot(start).await;
        }
        answer
    }

    /// Answers leave at multiples of the response quantum: exact samplers take longer for larger noise (DESIGN 4.4).
    async fn wait_for_slot(&self, start: Instant) {
        let quantum = self.limits.response_quantum.as_nanos();
        if quantum == 0 {
            return;
        }
        let slots = start.elapsed().as_nanos().div_ceil(quantum);
        if let Ok(nanos) = u64::try_from(slots * quantum) {
            tokio::time::sleep_until((start + std::time::Duration::from_nanos(nanos)).into()).await;
        }
    }

    async fn answer(&self, caller: &Caller, question: &Question) -> Result<Answer, GatewayError> {
        let consumer = caller.analyst()?;
        let now = Utc::now();
        let analysed = self.analyse(caller, question, now).await?;
        let priced = price(&analysed, question.epsilon)?;
        let query_id = Uuid::now_v7();
        let (Some(release), Some(priced_release)) = (analysed.releases().first(), priced.release.clone()) else {
            return self.answer_public(&analysed, query_id, question.dry_run).await;
        };
        if question.dry_run {
            let would_pay = accounts(self.store.as_ref(), release, priced_release.cost(), consumer, now).await?;
            let facts = Facts { analysed: &analysed, release, noise: &priced_release, priced: &priced };
            let lines = lines(&would_pay, |_| true);
            let privacy = facts.privacy(false, lines);
            return self.finish(&facts, query_id, privacy, None, consumer, now).await;
        }
        self.check_fan_out(&analysed).await?;
        let (batch, noise, charged) =
            self.released(question, query_id, &priced, &priced_release, release, consumer, now).await?;
        let facts = Facts { analysed: &analysed, release, noise: &noise, priced: &priced };
        let rows = self.in_time(self.engine.run_post(analysed.post(), vec![batch])).await?;
        let privacy = facts.privacy(charged.earlier, charged.lines);
        self.finish(&facts, query_id, privacy, Some(rows), consumer, now).await
    }

    /// Everything up to the price: policy and SQL alone. A dry run uses the schemas that are known, and opens no file.
    async fn analyse(
        &self,
        caller: &Caller,
        question: &Question,
        now: DateTime<Utc>,
    ) -> Result<Analysed, GatewayError> {
        let parsed = sql::parse(&question.sql, self.limits.sql).map_err(translate::parse)?;
        let authorised = authorise(&self.catalog, caller, parsed.tables(), question.purpose.as_deref(), now)?;
        let catalog = Arc::clone(&self.catalog);
        let freshness = if question.dry_run { Freshness::Known } else { Freshness::Now };
        let names = authorised.names().clone();
        let tables = run_blocking(move || catalog.tables(&names, freshness))
            .await?
            .map_err(|error| translate::catalog(&error))?;
        let planned = sql::plan(parsed, &tables, self.engine.state()).await.map_err(|error| translate::plan(&error))?;
        let options = Options {
            bounds: question.bounds.clone().unwrap_or_default(),
            with_error_columns: question.with_error_columns,
            max_cells: self.limits.max_cells,
        };
        analyse(&planned, &options).map_err(translate::refusal)
    }

    /// The drawn values of a release: kept ones if the consumer has paid for them, else paid for and drawn now.
    async fn released(
        &self,
        question: &Question,
        query_id: Uuid,
        priced: &Priced,
        priced_release: &PricedRelease,
        release: &AnalysedRelease,
        consumer: &str,
        now: DateTime<Utc>,
    ) -> Result<(RecordBatch, PricedRelease, Charged), GatewayError> {
        let key = priced_release.key;
        let _turn = self.in_flight.turn(key).await;
        let paid = self.store.has_paid(consumer, key, priced_release.precision()).await.map_err(translate::ledger)?;
        let pay = || charge(self.store.as_ref(), question, query_id, priced, priced_release, release, consumer, now);
        if paid.is_some() {
            // A kept answer needs no room and no plan, but the ledger still says whether the consumer may have it.
            let charged = pay().await?;
            let held =
                self.store.held_for(consumer, key, priced_release.precision()).await.map_err(translate::ledger)?;
            if let Some(held) = held {
                let noise = priced_release.at(release, held.precision, charged.delta)?;
                return Ok((decode(&held.payload)?, noise, charged));
            }
        }
        let _room = self.room().await?;
        // Planned and proven before it is paid for: what fails here cannot depend on the data.
        let planned = |noise: &PricedRelease| {
            ReleaseNode::new(
                release.input.clone(),
                Arc::clone(&release.spec),
                Arc::clone(&noise.noise),
                selection_key(key),
            )
        };
        let node = planned(priced_release).map_err(|error| translate::engine(error.into()))?;
        let mut plan = self.engine.plan_release(node).await.map_err(translate::engine)?;
        let charged = pay().await?;
        let noise = priced_release.at(release, charged.precision, charged.delta)?;
        if noise.precision() != priced_release.precision() {
            // Paid for earlier at another precision, and not drawn then: it is drawn as it was paid for.
            let node = planned(&noise).map_err(|error| translate::engine(error.into()))?;
            plan = self.engine.plan_release(node).await.map_err(translate::engine)?;
        }
        let held = match self.store.held_for(consumer, key, charged.precision).await.map_err(translate::ledger)? {
            // Another consumer's identical release, paid for at the same price: one draw is shown to both.
            Some(held) => held,
            None => {
                let batch = self.in_time(self.engine.run_release(plan)).await?;
                let facts = serde_json::json!({
                    "units": noise.noise.units(),
                    "measures": noise.noise.measures(),
                    "cost": noise.cost(),
                });
                self.store
                    .keep_release(key, charged.precision, charged.id, &encode(&batch)?, &facts.to_string())
                    .await
                    .map_err(translate::ledger)?
            }
        };
        Ok((decode(&held.payload)?, noise, charged))
    }

    /// Refuses a join in which one private row would meet many public ones, before anything is charged: the work, and
    /// whether it is done in time, would tell whether the private row is there (DESIGN 4.4).
    async fn check_fan_out(&self, analysed: &Analysed) -> Result<(), GatewayError> {
        let mut product = 1i64;
        for plan in analysed.fan_outs() {
            let rows = self.in_time(self.engine.run_post(plan, Vec::new())).await?;
            let most = rows
                .first()
                .filter(|batch| batch.num_rows() == 1)
                .and_then(|batch| batch.column(0).as_primitive_opt::<Int64Type>())
                .map_or(0, |most| if most.is_null(0) { 0 } else { most.value(0) });
            product = product.saturating_mul(most.max(1));
        }
        if product <= MAX_FAN_OUT {
            return Ok(());
        }
        Err(GatewayError::new(
            Code::QueryNotPrivate,
            format!("one private row would be joined to {product} public rows, and at most {MAX_FAN_OUT} are answered"),
        )
        .with_hint("join on a column that identifies a row of the public table"))
    }

    /// Waits a while for room to run.
    async fn room(&self) -> Result<tokio::sync::SemaphorePermit<'_>, GatewayError> {
        match tokio::time::timeout(self.limits.timeout, self.admission.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => {
                Err(GatewayError::new(Code::Overloaded, "the gateway has no room for the query; nothing was charged")
                    .with_hint("try again in a moment"))
            }
        }
    }

    /// Runs within the time limit. What takes longer was charged as if it had been answered.
    async fn in_time<T>(&self, work: impl Future<Output = Result<T, EngineError>>) -> Result<T, GatewayError> {
        match tokio::time::timeout(self.limits.timeout, work).await {
            Ok(done) => done.map_err(translate::engine),
            Err(_) => Err(GatewayError::new(
                Code::TimedOut,
                "the query took longer than the gateway allows, and was charged as if it had been answered",
            )
            .with_hint("ask for less: fewer groups, a tighter WHERE; the same question again is not charged again")),
        }
    }

    async fn finish(
        &self,
        facts: &Facts<'_>,
        query_id: Uuid,
        privacy: PrivacyFacts,
        rows: Option<Vec<RecordBatch>>,
        consumer: &str,
        now: DateTime<Utc>,
    ) -> Result<Answer, GatewayError> {
        let schema = answer_schema(facts.analysed);
        let rows = rows.map(|rows| under(&schema, rows)).transpose()?;
        Ok(Answer {
            query_id,
            accuracy: facts.accuracy(),
            groups: facts.groups(),
            budget: budget::lines(self.store.as_ref(), facts.analysed.datasets(), consumer, now).await?,
            privacy,
            schema,
            rows,
        })
    }

    /// A query of public tables alone: no unit is in it, and it costs nothing.
    async fn answer_public(&self, analysed: &Analysed, query_id: Uuid, dry_run: bool) -> Result<Answer, GatewayError> {
        let schema = answer_schema(analysed);
        let rows = if dry_run {
            None
        } else {
            let _room = self.room().await?;
            let rows = self.in_time(self.engine.run_post(analysed.post(), Vec::new())).await?;
            Some(under(&schema, rows)?)
        };
        Ok(Answer {
            query_id,
            accuracy: vec![None; schema.fields().len()],
            privacy: PrivacyFacts {
                epsilon: 0.0,
                delta: 0.0,
                rho: None,
                delta_selection: 0.0,
                cached: false,
                charges: Vec::new(),
            },
            budget: Vec::new(),
            groups: GroupFacts { public: true, min_size: 1, units_to_appear_95: 1 },
            schema,
            rows,
        })
    }
}

/// What an answer says of itself; from policy, SQL and price alone.
struct Facts<'a> {
    analysed: &'a Analysed,
    release: &'a AnalysedRelease,
    noise: &'a PricedRelease,
    priced: &'a Priced,
}

impl Facts<'_> {
    fn privacy(&self, cached: bool, charges: Vec<ChargeLine>) -> PrivacyFacts {
        let cost = self.noise.cost();
        let zcdp = self.analysed.datasets().values().any(|policy| policy.privacy.accounting == Accounting::Zcdp);
        let rho = match cost.loss {
            Loss::Zcdp(rho) => Some(rho),
            Loss::Pure(epsilon) => zcdp.then(|| pure_as_zcdp(epsilon)),
        };
        PrivacyFacts {
            epsilon: self.priced.epsilon.to_f64(),
            delta: match cost.loss {
                Loss::Zcdp(_) => self.priced.query_delta.to_f64(),
                Loss::Pure(_) => 0.0,
            },
            rho: rho.map(crate::accounting::Rho::to_f64),
            delta_selection: cost.delta.to_f64(),
            cached,
            charges,
        }
    }

    fn groups(&self) -> GroupFacts {
        let spec = &self.release.spec;
        GroupFacts {
            public: matches!(spec.groups, Groups::Public { .. }),
            min_size: spec.min_group_size,
            units_to_appear_95: self.noise.noise.selection().map_or(1, |selection| selection.units_to_appear_95),
        }
    }

    fn accuracy(&self) -> Vec<Option<Accuracy>> {
        self.analysed
            .origins()
            .iter()
            .map(|origin| origin.and_then(|origin| self.output_accuracy(origin.output)))
            .collect()
    }

    fn output_accuracy(&self, output: usize) -> Option<Accuracy> {
        let spec: &ReleaseSpec = &self.release.spec;
        let noise = &self.noise.noise;
        let (law, step) = match &spec.outputs.get(output)?.1 {
            Output::Units => (noise.units()?, 1.0),
            Output::Count { measure } => (noise.measures().get(*measure)?, 1.0),
            Output::Sum { measure } => {
                let MeasureKind::Sum { lattice, .. } = &spec.measures.get(*measure)?.kind else { return None };
                (noise.measures().get(*measure)?, lattice.describe().step)
            }
            Output::Average { sum, .. } => {
                let mechanism = noise.measures().get(*sum)?.mechanism();
                return Some(Accuracy { mechanism, std_dev: None, half_width_95: None, per_row: true });
            }
        };
        Some(Accuracy {
            mechanism: law.mechanism(),
            std_dev: Some(law.std_dev() * step),
            half_width_95: Some(law.half_width_95() * step),
            per_row: false,
        })
    }
}

/// How many public rows one private row may be joined to, over all joins of a query.
const MAX_FAN_OUT: i64 = 64;

/// The key of the hash by which a unit's groups are chosen: fixed by the release, so that drawing it again (another
/// price, a restart) keeps the same groups.
fn selection_key(key: ReleaseKey) -> SelectionKey {
    let derived = blake3::derive_key("tollgate 2026 group selection", &key.0);
    let mut half = SelectionKey::default();
    half.copy_from_slice(&derived[..16]);
    half
}

/// The result's columns as the SQL names them, without qualifiers.
fn answer_schema(analysed: &Analysed) -> SchemaRef {
    let fields: Vec<_> = analysed
        .post()
        .schema()
        .fields()
        .iter()
        .map(|field| arrow::datatypes::Field::new(field.name(), field.data_type().clone(), true))
        .collect();
    Arc::new(Schema::new(fields))
}

fn under(schema: &SchemaRef, rows: Vec<RecordBatch>) -> Result<Vec<RecordBatch>, GatewayError> {
    rows.into_iter()
        .map(|batch| {
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            RecordBatch::try_new_with_options(Arc::clone(schema), batch.columns().to_vec(), &options)
                .map_err(|_| translate::internal("the result has other columns than its plan"))
        })
        .collect()
}

fn encode(batch: &RecordBatch) -> Result<Vec<u8>, GatewayError> {
    let mut bytes = Vec::new();
    StreamWriter::try_new(&mut bytes, &batch.schema())
        .and_then(|mut writer| {
            writer.write(batch)?;
            writer.finish()
        })
        .map_err(|_| translate::internal("a drawn release could not be encoded"))?;
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Result<RecordBatch, GatewayError> {
    StreamReader::try_new(bytes, None)
        .and_then(|mut reader| reader.next().transpose())
        .ok()
        .flatten()
        .ok_or_else(|| translate::internal("a kept release could not be decoded"))
}
