//! The main job: a question becomes a private answer, charged before it is drawn.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use chrono::{DateTime, Utc};
use datafusion::common::ScalarValue;
use datafusion::physical_plan::ExecutionPlan;
use uuid::Uuid;

use crate::accounting::Delta;
use crate::analysis::{Analysed, AnalysedRelease, Options, Outcome, PublicRows, analyse, known_of, with_values};
use crate::catalog::{Catalog, Freshness};
use crate::engine::EngineError;
use crate::ledger::{Decision, Entry, HeldRelease, ReleaseKey};
use crate::release::{ReleaseNode, SelectionKey};
use crate::sql;

use super::authorise::authorise;
use super::charge::{Charged, Payer, accounts, charge, lines, summed};
use super::evidence::Recorded;
use super::facts::{Facts, answer_schema, decode, encode, under};
use super::price::{Draw, Priced, PricedRelease, cheapest, key, price};
use super::{
    Answer, Caller, ChargeLine, Code, Gateway, GatewayError, GroupFacts, PrivacyFacts, Question, budget, explain,
    run_blocking, translate,
};

impl Gateway {
    /// Answers a question, or says what it would cost.
    ///
    /// # Errors
    /// A refusal or a failure, told without any data value.
    pub async fn ask(&self, caller: &Caller, question: Question) -> Result<Answer, GatewayError> {
        let start = Instant::now();
        let answer = match caller.consumer().filter(|_| !question.dry_run) {
            Some(consumer) => self.refusals.may_ask(consumer, Utc::now()),
            None => Ok(()),
        };
        let answer = match answer {
            Ok(()) => self.answer(caller, &question).await,
            Err(too_often) => Err(too_often),
        };
        if !question.dry_run {
            if let Err(error) = &answer {
                self.record_refusal(caller, &question, error).await;
            }
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
        self.evidence.check()?;
        check_texts(question)?;
        let now = Utc::now();
        let catalog = self.current_catalog().await?;
        let payer = Payer { consumer: caller.analyst()?, agency: caller.agency.as_deref(), now, catalog: &catalog };
        let (analysed, explain) = self.analyse(caller, question, &catalog, now).await?;
        let epsilon = asked_epsilon(question, &analysed)?;
        let priced = price(&analysed, epsilon)?;
        let query_id = Uuid::now_v7();
        if explain {
            return self.explain(&analysed, &priced, query_id, payer).await;
        }
        if analysed.releases().is_empty() {
            return self.answer_public(&analysed, query_id, question.dry_run).await;
        }
        if question.dry_run {
            let would_pay = self.would_pay(&analysed, &priced, payer).await?;
            let facts = Facts { analysed: &analysed, noise: &priced.releases, priced: &priced };
            let privacy = facts.privacy(false, would_pay);
            let answer = self.finish(&facts, query_id, privacy, None, payer).await?;
            let free = self.summed_from_earlier(caller, question, &catalog, &analysed, payer).await?;
            return Ok(Answer { free, ..answer });
        }
        let reservation = self.approved(question, query_id, &priced, &analysed, payer).await?;
        let drawn = self.released(question, query_id, &priced, &analysed, payer, reservation).await?;
        let facts = Facts { analysed: &analysed, noise: &drawn.noise, priced: &priced };
        let diagnostics = facts.diagnostics(&drawn.batches);
        let run = self.engine.run_post(analysed.post(), drawn.batches, drawn.known);
        let rows = match tokio::time::timeout(self.limits.timeout, run).await {
            Ok(rows) => rows.map_err(|error| translate::post(&error, CHARGED))?,
            Err(_) => return Err(timed_out()),
        };
        let earlier = drawn.charged.iter().all(|charged| charged.earlier);
        let rows = under(&answer_schema(&analysed), rows)?;
        let recorded = Recorded { query_id, priced: &priced, charged: &drawn.charged, rows: &rows };
        let receipt = self.record_answer(question, &analysed, payer, recorded).await?;
        let privacy = facts.privacy(earlier, summed(drawn.charged.into_iter().flat_map(|charged| charged.lines)));
        let answer = self.finish(&facts, query_id, privacy, Some(rows), payer).await?;
        Ok(Answer { diagnostics, receipt: Some(receipt), ..answer })
    }

    /// What each of the caller's accounts would pay.
    async fn would_pay(
        &self,
        analysed: &Analysed,
        priced: &Priced,
        payer: Payer<'_>,
    ) -> Result<Vec<ChargeLine>, GatewayError> {
        let mut would_pay = Vec::new();
        for (release, priced) in analysed.releases().iter().zip(&priced.releases) {
            let accounts = accounts(self.store.as_ref(), release, priced.cost(), payer).await?;
            would_pay.extend(lines(&accounts, |_| true));
        }
        Ok(summed(would_pay))
    }

    /// `EXPLAIN PRIVACY`: a table of one text column, free of charge.
    async fn explain(
        &self,
        analysed: &Analysed,
        priced: &Priced,
        query_id: Uuid,
        payer: Payer<'_>,
    ) -> Result<Answer, GatewayError> {
        let would_pay = self.would_pay(analysed, priced, payer).await?;
        let lines = explain::lines(analysed, priced, &would_pay);
        let facts = Facts { analysed, noise: &priced.releases, priced };
        let privacy = facts.privacy(false, would_pay);
        let budget = budget::lines(self.store.as_ref(), analysed.datasets(), payer).await?;
        Ok(Answer {
            query_id,
            schema: explain::schema(),
            rows: Some(vec![explain::rows(lines)?]),
            accuracy: vec![None],
            privacy,
            budget,
            groups: facts.groups(),
            diagnostics: Vec::new(),
            receipt: None,
            free: None,
        })
    }

    /// Everything up to the price: policy and SQL alone. A dry run uses the schemas that are known, and opens no file.
    pub(super) async fn analyse(
        &self,
        caller: &Caller,
        question: &Question,
        catalog: &Arc<Catalog>,
        now: DateTime<Utc>,
    ) -> Result<(Analysed, bool), GatewayError> {
        let parsed = sql::parse(&question.sql, self.limits.sql).map_err(translate::parse)?;
        let explain = parsed.is_explain();
        let authorised = authorise(catalog, caller, parsed.tables(), question.purpose.as_deref(), now)?;
        let freshness = if question.dry_run || explain { Freshness::Known } else { Freshness::Now };
        let (names, catalog) = (authorised.names().clone(), Arc::clone(catalog));
        let tables = run_blocking(move || catalog.tables(&names, freshness))
            .await?
            .map_err(|error| translate::catalog(&error))?;
        let planned = sql::plan(parsed, &tables, self.engine.state()).await.map_err(|error| translate::plan(&error))?;
        let options = Options {
            bounds: question.bounds.clone().unwrap_or_default(),
            with_error_columns: question.with_error_columns,
            max_cells: self.limits.max_cells,
            diagnostics: question.diagnostics,
            today: now.date_naive(),
        };
        // Which groups there are may depend on public tables: their keys are read, and the analysis made again with them.
        let mut public = PublicRows::none();
        for _ in 0..MAX_ANALYSES {
            match analyse(&planned, &options, &public).map_err(translate::refusal)? {
                Outcome::Done(analysed) => return Ok((*analysed, explain)),
                Outcome::Wants(plans) => {
                    let _room = self.room().await?;
                    for plan in plans {
                        let rows = self.public_in_time(self.engine.run_post(&plan, Vec::new(), Vec::new())).await?;
                        public.insert(&plan, scalars(&rows)?);
                    }
                }
            }
        }
        Err(translate::internal("the analysis asks for public rows again and again"))
    }

    /// The drawn values of every release: kept ones where the consumer has paid for them, else paid for and drawn now, in
    /// order, so that a release finds the values that it reads.
    async fn released(
        &self,
        question: &Question,
        query_id: Uuid,
        priced: &Priced,
        analysed: &Analysed,
        payer: Payer<'_>,
        reservation: Option<Uuid>,
    ) -> Result<Drawn, GatewayError> {
        let store = self.store.as_ref();
        let consumer = payer.consumer;
        let (priced, turns) = self.turns(priced, analysed, consumer).await?;
        let priced = &priced;
        let pay = async || {
            let paid = charge(store, question, query_id, priced, analysed, payer, reservation).await?;
            self.alerts.charged(paid.iter().flat_map(|paid| &paid.accounts).cloned().collect());
            Ok::<_, GatewayError>(paid)
        };
        let mut all_paid = true;
        for release in &priced.releases {
            let paid = store.has_paid(consumer, release.key, release.precision()).await.map_err(translate::ledger)?;
            all_paid &= paid.is_some();
        }
        let mut charged = None;
        if all_paid {
            // Kept answers need no room and no plan, but the ledger still says whether the consumer may have them.
            let paid = pay().await?;
            if let Some(drawn) = self.held(priced, analysed, consumer, &paid).await? {
                return Ok(Drawn { charged: paid, ..drawn });
            }
            charged = Some(paid);
        }
        let _room = self.room().await?;
        let known = vec![Vec::new(); analysed.known().len()];
        let mut drawn = Drawn { batches: Vec::new(), noise: Vec::new(), known, charged: Vec::new() };
        let (mut computed, mut fan_outs) = (0, FanOuts::default());
        // What is public is computed, and what can be planned and proven is, before anything is paid for: what fails here
        // cannot depend on the data.
        self.compute_known(analysed, 0, &mut computed, &mut drawn).await?;
        self.check_fan_outs(analysed, &drawn.known, computed, &mut fan_outs).await?;
        for (release, noise) in analysed.releases().iter().zip(&priced.releases) {
            self.plan_release(release, noise, &drawn.known).await.map_err(translate::engine)?;
        }
        let empty: Vec<RecordBatch> = analysed
            .releases()
            .iter()
            .map(|release| RecordBatch::new_empty(crate::release::output_schema(&release.spec)))
            .collect();
        for plan in analysed.known().iter().map(|known| &known.plan).chain([analysed.post()]) {
            let planned = self.engine.plan_post(plan, empty.clone(), drawn.known.clone()).await;
            planned.map_err(|error| translate::post(&error, "nothing was charged"))?;
        }
        let charged = match charged {
            Some(charged) => charged,
            None => pay().await?,
        };
        for (at, (release, charge)) in analysed.releases().iter().zip(&charged).enumerate() {
            self.compute_known(analysed, at, &mut computed, &mut drawn).await?;
            self.check_fan_outs(analysed, &drawn.known, computed, &mut fan_outs).await?;
            // Paid for earlier at another precision, and not drawn then: it is drawn as it was paid for.
            let noise = priced.releases[at].at(release, charge.precision, charge.delta)?;
            let held = store.held_for(consumer, noise.key, charge.precision).await.map_err(translate::ledger)?;
            let held = match held {
                // Another consumer's identical release, paid for at the same price: one draw is shown to both.
                Some(held) => {
                    if !charge.earlier {
                        let datasets = release.datasets.keys().map(ToString::to_string).collect();
                        let decision = Decision::Shown { charge: charge.id, datasets };
                        let entry = Entry { at: payer.now, by: None, decision };
                        store.record(entry, Vec::new()).await.map_err(translate::ledger)?;
                    }
                    held
                }
                None => self.draw(release, &noise, charge, &drawn.known).await?,
            };
            drawn.batches.push(decode(&held.payload)?);
            drawn.noise.push(noise);
        }
        self.compute_known(analysed, analysed.releases().len(), &mut computed, &mut drawn).await?;
        drawn.charged = charged;
        drop(turns);
        Ok(drawn)
    }

    /// The kept draws of all releases, if there is one of each.
    async fn held(
        &self,
        priced: &Priced,
        analysed: &Analysed,
        consumer: &str,
        charged: &[Charged],
    ) -> Result<Option<Drawn>, GatewayError> {
        let mut drawn = Drawn::default();
        for ((release, noise), charged) in analysed.releases().iter().zip(&priced.releases).zip(charged) {
            let held = self.store.held_for(consumer, noise.key, noise.precision()).await.map_err(translate::ledger)?;
            let Some(held) = held else { return Ok(None) };
            drawn.noise.push(noise.at(release, held.precision, charged.delta)?);
            drawn.batches.push(decode(&held.payload)?);
        }
        drawn.known = vec![Vec::new(); analysed.known().len()];
        let mut computed = 0;
        self.compute_known(analysed, analysed.releases().len(), &mut computed, &mut drawn).await?;
        Ok(Some(drawn))
    }

    /// Computes the relations that need no more than the first `releases` draws, and are not computed yet.
    async fn compute_known(
        &self,
        analysed: &Analysed,
        releases: usize,
        computed: &mut usize,
        drawn: &mut Drawn,
    ) -> Result<(), GatewayError> {
        while let Some(known) = analysed.known().get(*computed).filter(|known| known.after <= releases) {
            let run = self.engine.run_post(&known.plan, drawn.batches.clone(), drawn.known.clone());
            let told = if known.after == 0 { "nothing was charged" } else { CHARGED };
            drawn.known[*computed] = match tokio::time::timeout(self.limits.timeout, run).await {
                Ok(rows) => rows.map_err(|error| translate::post(&error, told))?,
                Err(_) => return Err(timed_out()),
            };
            *computed += 1;
        }
        Ok(())
    }

    async fn plan_release(
        &self,
        release: &AnalysedRelease,
        noise: &PricedRelease,
        known: &[Vec<RecordBatch>],
    ) -> Result<Arc<dyn ExecutionPlan>, EngineError> {
        let value = |index: usize| scalar_of(known.get(index)?);
        let node = with_values(&release.input, value).and_then(|input| {
            let (spec, plan) = (Arc::clone(&release.spec), Arc::clone(&noise.noise));
            ReleaseNode::new(input, spec, plan, selection_key(noise.key))
        })?;
        self.engine.plan_release(node, known.to_vec()).await
    }

    /// Draws a release that is paid for, and keeps it.
    async fn draw(
        &self,
        release: &AnalysedRelease,
        noise: &PricedRelease,
        charged: &Charged,
        known: &[Vec<RecordBatch>],
    ) -> Result<HeldRelease, GatewayError> {
        let plan = self.plan_release(release, noise, known).await.map_err(translate::charged_engine)?;
        let batch = self.in_time(self.engine.run_release(plan)).await?;
        let facts = serde_json::json!({
            "units": noise.noise.units(),
            "measures": noise.noise.measures(),
            "quantiles": noise.noise.quantiles(),
            "cost": noise.cost(),
        });
        self.store
            .keep_release(noise.key, charged.precision, charged.id, &encode(&batch)?, &facts.to_string())
            .await
            .map_err(translate::ledger)
    }

    /// Refuses a join in which one private row would meet many known ones: the work, and whether it is done in time, would
    /// tell whether the private row is there (DESIGN 4.4). For public ones that is before anything is charged; for
    /// released ones it is decided by released values.
    async fn check_fan_outs(
        &self,
        analysed: &Analysed,
        known: &[Vec<RecordBatch>],
        computed: usize,
        fan_outs: &mut FanOuts,
    ) -> Result<(), GatewayError> {
        fan_outs.checked.resize(analysed.fan_outs().len(), false);
        for (at, plan) in analysed.fan_outs().iter().enumerate() {
            if fan_outs.checked[at] || known_of(plan).iter().any(|index| *index >= computed) {
                continue;
            }
            let rows = self.in_time(self.engine.run_post(plan, Vec::new(), known.to_vec())).await?;
            let most = rows
                .first()
                .filter(|batch| batch.num_rows() == 1)
                .and_then(|batch| batch.column(0).as_primitive_opt::<Int64Type>())
                .map_or(0, |most| if most.is_null(0) { 0 } else { most.value(0) });
            fan_outs.checked[at] = true;
            fan_outs.product = fan_outs.product.saturating_mul(most.max(1));
        }
        if fan_outs.product <= MAX_FAN_OUT {
            return Ok(());
        }
        Err(GatewayError::new(
            Code::QueryNotPrivate,
            format!(
                "one private row would be joined to {} public or released rows, and at most {MAX_FAN_OUT} are answered",
                fan_outs.product
            ),
        )
        .with_hint("join on a column that identifies a row of the other table"))
    }

    /// Waits for the turn to draw each release, and names each by the draws that it will read: where the consumer has paid for
    /// a more exact draw of an inner release, that is the one.
    async fn turns(
        &self,
        priced: &Priced,
        analysed: &Analysed,
        consumer: &str,
    ) -> Result<(Priced, Vec<tokio::sync::OwnedMutexGuard<()>>), GatewayError> {
        let mut named = self.named(priced, analysed, consumer).await?;
        for _ in 0..MAX_TURNS {
            // In the order of their keys, so that two queries never wait for each other.
            let keys: BTreeSet<ReleaseKey> = named.releases.iter().map(|release| release.key).collect();
            let mut turns = Vec::with_capacity(keys.len());
            for key in &keys {
                turns.push(self.in_flight.turn(*key).await);
            }
            let again = self.named(&named, analysed, consumer).await?;
            if again.releases.iter().all(|release| keys.contains(&release.key)) {
                return Ok((again, turns));
            }
            named = again;
        }
        Err(GatewayError::new(
            Code::Overloaded,
            "the same question is being answered again and again; nothing was charged",
        )
        .with_hint("try again in a moment"))
    }

    async fn named(&self, priced: &Priced, analysed: &Analysed, consumer: &str) -> Result<Priced, GatewayError> {
        let mut named = priced.clone();
        let mut draws: Vec<Draw> = Vec::with_capacity(named.releases.len());
        for (release, priced) in analysed.releases().iter().zip(&mut named.releases) {
            let inner: Vec<Draw> = release.reads.iter().filter_map(|read| draws.get(*read)).copied().collect();
            priced.key = key(release, priced.accounting, &inner);
            let mut draw = Draw::of(priced);
            let held = self.store.held_for(consumer, draw.key, draw.precision).await.map_err(translate::ledger)?;
            if let Some(held) = held {
                let costs = self.store.costs_of(held.charge_id).await.map_err(translate::ledger)?;
                draw.precision = held.precision;
                draw.delta = costs.iter().map(|(_, cost)| cost.delta).min().unwrap_or(Delta::ZERO);
            } else if let Some(paid) =
                self.store.has_paid(consumer, draw.key, draw.precision).await.map_err(translate::ledger)?
            {
                draw.precision = paid;
            }
            draws.push(draw);
        }
        Ok(named)
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

    /// Runs what reads public tables alone within the time limit.
    async fn public_in_time<T>(&self, work: impl Future<Output = Result<T, EngineError>>) -> Result<T, GatewayError> {
        match tokio::time::timeout(self.limits.timeout, work).await {
            Ok(done) => done.map_err(translate::engine),
            Err(_) => Err(GatewayError::new(
                Code::TimedOut,
                "reading the query's public tables took longer than the gateway allows; nothing was charged",
            )
            .with_hint("ask for less: fewer public rows, a tighter WHERE on them")),
        }
    }

    /// Runs within the time limit. What takes longer was charged as if it had been answered.
    async fn in_time<T>(&self, work: impl Future<Output = Result<T, EngineError>>) -> Result<T, GatewayError> {
        match tokio::time::timeout(self.limits.timeout, work).await {
            Ok(done) => done.map_err(translate::engine),
            Err(_) => Err(timed_out()),
        }
    }

    async fn finish(
        &self,
        facts: &Facts<'_>,
        query_id: Uuid,
        privacy: PrivacyFacts,
        rows: Option<Vec<RecordBatch>>,
        payer: Payer<'_>,
    ) -> Result<Answer, GatewayError> {
        Ok(Answer {
            query_id,
            accuracy: facts.accuracy(),
            groups: facts.groups(),
            budget: budget::lines(self.store.as_ref(), facts.analysed.datasets(), payer).await?,
            privacy,
            schema: answer_schema(facts.analysed),
            rows,
            diagnostics: Vec::new(),
            receipt: None,
            free: None,
        })
    }

    /// A query of public tables alone: no unit is in it, and it costs nothing.
    async fn answer_public(&self, analysed: &Analysed, query_id: Uuid, dry_run: bool) -> Result<Answer, GatewayError> {
        let schema = answer_schema(analysed);
        let rows = if dry_run {
            None
        } else {
            let _room = self.room().await?;
            let rows = self.public_in_time(self.engine.run_post(analysed.post(), Vec::new(), Vec::new())).await?;
            Some(under(&schema, rows)?)
        };
        Ok(Answer {
            query_id,
            accuracy: vec![None; schema.fields().len()],
            privacy: PrivacyFacts {
                guarantee: "no private data is read".to_owned(),
                epochs: BTreeMap::new(),
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
            diagnostics: Vec::new(),
            receipt: None,
            free: None,
        })
    }
}

/// The longest purpose, in bytes: it is written down with every charge and every refusal.
const MAX_PURPOSE_BYTES: usize = 200;

/// That the texts of a question can be written down: a storage may not hold NUL, and a log keeps what it is given for ever.
fn check_texts(question: &Question) -> Result<(), GatewayError> {
    let purpose = question.purpose.as_deref().unwrap_or_default();
    let key = question.idempotency_key.as_deref().unwrap_or_default();
    let what = if question.sql.contains('\0') {
        "the SQL holds a NUL character"
    } else if purpose.len() > MAX_PURPOSE_BYTES || purpose.chars().any(char::is_control) {
        "the purpose is not one line of at most 200 bytes"
    } else if key.chars().any(char::is_control) {
        "the idempotency key holds control characters"
    } else {
        return Ok(());
    };
    Err(GatewayError::new(Code::RequestInvalid, what).with_hint("leave them out"))
}

/// The price that is asked for: as a number, or as the error that it must meet.
pub(super) fn asked_epsilon(question: &Question, analysed: &Analysed) -> Result<Option<f64>, GatewayError> {
    let Some(target) = question.target_error else { return Ok(question.epsilon) };
    let invalid = |detail: &str, hint: &str| Err(GatewayError::new(Code::RequestInvalid, detail).with_hint(hint));
    if question.epsilon.is_some() {
        return invalid("`epsilon` and `target_error` both say what to pay", "send one of the two");
    }
    if !(target.relative.is_finite() && target.relative > 0.0) || target.group_size == 0 {
        return invalid(
            "`target_error` is no error: both of its numbers must be above 0",
            "send for example {\"relative\": 0.1, \"group_size\": 1000}",
        );
    }
    if analysed.releases().is_empty() {
        return Ok(None);
    }
    cheapest(analysed, target.relative, target.group_size as f64).map(Some)
}

/// The drawn releases of a query, and what was computed from them on the way.
#[derive(Default)]
struct Drawn {
    batches: Vec<RecordBatch>,
    noise: Vec<PricedRelease>,
    known: Vec<Vec<RecordBatch>>,
    charged: Vec<Charged>,
}

/// Which joins to known relations have been looked at, and how many rows one private row meets over these.
struct FanOuts {
    checked: Vec<bool>,
    product: i64,
}

impl Default for FanOuts {
    fn default() -> Self {
        Self { checked: Vec::new(), product: 1 }
    }
}

/// What is said of the charge when something fails after it.
const CHARGED: &str = "the releases below it were drawn and charged, and are free when they are asked for again";

fn timed_out() -> GatewayError {
    GatewayError::new(
        Code::TimedOut,
        "the query took longer than the gateway allows, and was charged as if it had been answered",
    )
    .with_hint("ask for less: fewer groups, a tighter WHERE; the same question again is not charged again")
}

/// How often the draws that a release reads may change while it waits for its turn.
const MAX_TURNS: usize = 8;
/// How often a query is analysed: once more for each level of public keys that it groups by.
const MAX_ANALYSES: usize = 8;

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

/// Rows of a small result as values.
fn scalars(rows: &[RecordBatch]) -> Result<Vec<Vec<ScalarValue>>, GatewayError> {
    let mut values = Vec::new();
    for batch in rows {
        for row in 0..batch.num_rows() {
            let of_row = batch.columns().iter().map(|column| ScalarValue::try_from_array(column, row));
            let of_row: Result<Vec<_>, _> = of_row.collect();
            values.push(of_row.map_err(|_| translate::internal("public keys could not be read"))?);
        }
    }
    Ok(values)
}

/// The value of a scalar subquery: that of its one row, NULL where it has none. `None` while it is not computed.
fn scalar_of(rows: &[RecordBatch]) -> Option<ScalarValue> {
    let batch = rows.iter().find(|batch| batch.num_rows() > 0)?;
    ScalarValue::try_from_array(batch.column(0), 0).ok()
}
