//! The main job: a question becomes a private answer, charged before it is drawn.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use arrow::record_batch::RecordBatch;
use chrono::{DateTime, Utc};
use datafusion::common::ScalarValue;
use tracing::{Instrument, debug_span};
use uuid::Uuid;

use crate::analysis::{Analysed, Options, Outcome, PublicRows, analyse};
use crate::catalog::{Catalog, Freshness};
use crate::engine::EngineError;
use crate::sql::{self, Planned};

use super::admission::{NoRoom, Room};
use super::analyses::{self, Earlier};
use super::authorise::authorise;
use super::charge::{Payer, accounts, lines, summed};
use super::computed::{Computed, is_fixed};
use super::draw::Drawn;
use super::evidence::Recorded;
use super::facts::{Facts, answer_schema, decode, under};
use super::price::{Priced, cheapest, price};
use super::{
    Answer, BudgetLine, Caller, ChargeLine, Code, Gateway, GatewayError, GroupFacts, PrivacyFacts, Question,
    ReceiptFacts, budget, explain, run_blocking, translate,
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
        let catalog = self.current_catalog().instrument(debug_span!("catalog")).await?;
        let payer = Payer { consumer: caller.analyst()?, agency: caller.agency.as_deref(), now, catalog: &catalog };
        let analysis = self.analyse(caller, question, &catalog, now);
        let (analysed, explain) = analysis.instrument(debug_span!("analyse")).await?;
        let epsilon = asked_epsilon(question, &analysed)?;
        let priced = debug_span!("price").in_scope(|| price(&analysed, epsilon))?;
        let query_id = Uuid::now_v7();
        if explain {
            return self.explain(&analysed, &priced, query_id, payer).await;
        }
        if analysed.releases().is_empty() {
            return self.answer_public(&analysed, query_id, question.dry_run, payer).await;
        }
        if question.dry_run {
            let would_pay = self.would_pay(&analysed, &priced, payer).await?;
            let facts = Facts { analysed: &analysed, noise: &priced.releases, priced: &priced };
            let privacy = facts.privacy(false, would_pay);
            let budget = budget::lines(self.store.as_ref(), analysed.datasets(), payer).await?;
            let answer = finish(&facts, query_id, privacy, None, budget);
            let free = self.summed_from_earlier(caller, question, &catalog, &analysed, payer).await?;
            return Ok(Answer { free, ..answer });
        }
        let reservation = self.approved(question, query_id, &priced, &analysed, payer).await?;
        let mut drawn = self.released(question, query_id, &priced, &analysed, payer, reservation).await?;
        // All is charged by now: what is left can be read while the answer is logged.
        let (shown, budget) = tokio::join!(
            self.shown(question, query_id, &priced, &analysed, payer, &mut drawn),
            budget::lines(self.store.as_ref(), analysed.datasets(), payer).instrument(debug_span!("budget")),
        );
        let ((rows, receipt), budget) = (shown?, budget?);
        let facts = Facts { analysed: &analysed, noise: &drawn.noise, priced: &priced };
        let diagnostics = facts.diagnostics(&drawn.batches);
        let earlier = drawn.charged.iter().all(|charged| charged.earlier);
        let privacy = facts.privacy(earlier, summed(drawn.charged.into_iter().flat_map(|charged| charged.lines)));
        let answer = finish(&facts, query_id, privacy, Some(rows), budget);
        Ok(Answer { diagnostics, receipt: Some(receipt), ..answer })
    }

    /// The rows of an answer, which are in the log when this returns, and so is the draw that was not kept yet.
    async fn shown(
        &self,
        question: &Question,
        query_id: Uuid,
        priced: &Priced,
        analysed: &Arc<Analysed>,
        payer: Payer<'_>,
        drawn: &mut Drawn,
    ) -> Result<(Vec<RecordBatch>, ReceiptFacts), GatewayError> {
        let unkept = drawn.unkept.take();
        let kept = match (self.compute(analysed, drawn).await, unkept) {
            (Err(error), Some(draw)) => {
                // Whether it fails may depend on what was drawn: the draw is kept before that is told, so that who asks again
                // is told the same of the same draw.
                let kept = self.keep(&draw).await?;
                if kept.charge_id == draw.charge && kept.payload == draw.payload {
                    return Err(error);
                }
                kept
            }
            (rows, unkept) => {
                let rows = rows?;
                let recorded = Recorded { query_id, priced, charged: &drawn.charged, rows: &rows };
                let recorded = self.record_answer(question, analysed, payer, recorded, unkept);
                match recorded.instrument(debug_span!("record")).await? {
                    Ok(receipt) => return Ok((rows, receipt)),
                    Err(kept) => kept,
                }
            }
        };
        // Another gateway has drawn the same, and was first: of this one's draw nothing is told.
        if let (Some(release), Some(charge)) = (analysed.releases().last(), drawn.charged.last()) {
            self.record_shown(release, charge, &kept, payer).await?;
        }
        drawn.batches.pop();
        drawn.batches.push(decode(&kept.payload)?);
        let rows = self.compute(analysed, drawn).await?;
        let recorded = Recorded { query_id, priced, charged: &drawn.charged, rows: &rows };
        match self.record_answer(question, analysed, payer, recorded, None).await? {
            Ok(receipt) => Ok((rows, receipt)),
            Err(_) => Err(translate::internal("an answer was neither recorded nor refused")),
        }
    }

    /// What the SQL makes of the draws.
    async fn compute(&self, analysed: &Arc<Analysed>, drawn: &Drawn) -> Result<Vec<RecordBatch>, GatewayError> {
        if let Some(rows) = self.analyses.rows(analysed, &drawn.batches, &drawn.known) {
            return Ok(rows);
        }
        let (batches, known) = (drawn.batches.clone(), drawn.known.clone());
        let run = async {
            match &drawn.post {
                Some(post) => self.engine.run_prepared(post, batches, known).await,
                None => self.engine.run_post(analysed.post(), batches, known).await,
            }
        };
        let Ok(rows) = tokio::time::timeout(self.limits.timeout, run.instrument(debug_span!("post"))).await else {
            return Err(timed_out());
        };
        let rows = under(&answer_schema(analysed), rows.map_err(|error| translate::post(&error, CHARGED))?)?;
        if is_fixed(analysed.post()) {
            self.analyses.remember_rows(analysed, Computed::new(&drawn.batches, &drawn.known, &rows));
        }
        Ok(rows)
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
    ///
    /// Whether the caller may ask is looked at every time; what was analysed before over the same data is not analysed again.
    pub(super) async fn analyse(
        &self,
        caller: &Caller,
        question: &Question,
        catalog: &Arc<Catalog>,
        now: DateTime<Utc>,
    ) -> Result<(Arc<Analysed>, bool), GatewayError> {
        let today = now.date_naive();
        let asked = analyses::asked(question, caller.analyst()?, today);
        let earlier = asked.as_ref().and_then(|asked| self.analyses.earlier(asked, catalog));
        let read = || sql::parse(&question.sql, self.limits.sql).map_err(translate::parse);
        let parsed = if earlier.is_none() { Some(read()?) } else { None };
        let (names, explain) = match (&earlier, &parsed) {
            (Some(earlier), _) => (earlier.names.clone(), earlier.explain),
            (None, Some(parsed)) => (parsed.tables().to_vec(), parsed.is_explain()),
            (None, None) => (Vec::new(), false),
        };
        let authorised = authorise(catalog, caller, &names, question.purpose.as_deref(), now)?;
        let freshness = if question.dry_run || explain { Freshness::Known } else { Freshness::Now };
        let (names_read, of_catalog) = (authorised.names().clone(), Arc::clone(catalog));
        let same = earlier.clone();
        let (versions, tables) = run_blocking(move || {
            let versions = of_catalog.versions(&names_read, freshness)?;
            if same.is_some_and(|earlier| earlier.versions == versions) {
                return Ok((Some(versions), None));
            }
            let tables = of_catalog.tables(&names_read, freshness)?;
            // What changed in between is answered, and not remembered.
            let unchanged = of_catalog.versions(&names_read, Freshness::Known)? == versions;
            Ok((unchanged.then_some(versions), Some(tables)))
        })
        .await?
        .map_err(|error| translate::catalog(&error))?;
        let tables = match (tables, earlier) {
            (None, Some(earlier)) => return Ok((Arc::clone(&earlier.analysed), explain)),
            (None, None) => return Err(translate::internal("a query has no tables")),
            (Some(tables), _) => tables,
        };
        let parsed = match parsed {
            Some(parsed) => parsed,
            None => read()?,
        };
        let planned = sql::plan(parsed, &tables, self.engine.state()).await.map_err(|error| translate::plan(&error))?;
        let options = Options {
            bounds: question.bounds.clone().unwrap_or_default(),
            with_error_columns: question.with_error_columns,
            max_cells: self.limits.max_cells,
            diagnostics: question.diagnostics,
            today,
        };
        let analysed = Arc::new(self.analyse_planned(&planned, &options, caller.analyst()?).await?);
        if let (Some(asked), Some(versions)) = (asked, versions) {
            let (catalog, analysed) = (Arc::clone(catalog), Arc::clone(&analysed));
            self.analyses
                .remember(asked, Earlier { names, versions, catalog, analysed, explain, computed: Mutex::default() });
        }
        Ok((analysed, explain))
    }

    /// The analysis of a plan. Which groups there are may depend on public tables: their keys are read, and the analysis made
    /// again with them.
    async fn analyse_planned(
        &self,
        planned: &Planned,
        options: &Options,
        consumer: &str,
    ) -> Result<Analysed, GatewayError> {
        let mut public = PublicRows::none();
        for _ in 0..MAX_ANALYSES {
            match analyse(planned, options, &public).map_err(translate::refusal)? {
                Outcome::Done(analysed) => return Ok(*analysed),
                Outcome::Wants(plans) => {
                    let _room = self.room(consumer).await?;
                    for plan in plans {
                        let rows = self.public_in_time(self.engine.run_post(&plan, Vec::new(), Vec::new())).await?;
                        public.insert(&plan, scalars(&rows)?);
                    }
                }
            }
        }
        Err(translate::internal("the analysis asks for public rows again and again"))
    }

    /// Waits in the consumer's line for room to run.
    pub(super) async fn room(&self, consumer: &str) -> Result<Room, GatewayError> {
        self.admission.room(consumer).await.map_err(|none| {
            let (why, hint) = match none {
                NoRoom::Full => ("too many queries wait already", "try again in a moment"),
                NoRoom::FullOfOne => ("too many of your queries wait already", "ask one after another"),
                NoRoom::TimedOut => ("the query waited as long as it may for others to end", "try again in a moment"),
            };
            GatewayError::new(Code::Overloaded, format!("{why}; nothing was charged")).with_hint(hint)
        })
    }

    /// Runs what reads public tables alone within the time limit.
    pub(super) async fn public_in_time<T>(
        &self,
        work: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, GatewayError> {
        match tokio::time::timeout(self.limits.timeout, work).await {
            Ok(done) => done.map_err(translate::engine),
            Err(_) => Err(timed_out_before()),
        }
    }

    /// Runs within the time limit. What takes longer was charged as if it had been answered.
    pub(super) async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, GatewayError> {
        match tokio::time::timeout(self.limits.timeout, work).await {
            Ok(done) => done.map_err(translate::engine),
            Err(_) => Err(timed_out()),
        }
    }

    /// A query of public tables alone: no unit is in it, and it costs nothing.
    async fn answer_public(
        &self,
        analysed: &Analysed,
        query_id: Uuid,
        dry_run: bool,
        payer: Payer<'_>,
    ) -> Result<Answer, GatewayError> {
        let schema = answer_schema(analysed);
        let rows = if dry_run {
            None
        } else {
            let _room = self.room(payer.consumer).await?;
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

fn finish(
    facts: &Facts<'_>,
    query_id: Uuid,
    privacy: PrivacyFacts,
    rows: Option<Vec<RecordBatch>>,
    budget: Vec<BudgetLine>,
) -> Answer {
    Answer {
        query_id,
        accuracy: facts.accuracy(),
        groups: facts.groups(),
        budget,
        privacy,
        schema: answer_schema(facts.analysed),
        rows,
        diagnostics: Vec::new(),
        receipt: None,
        free: None,
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

/// What is said of the charge when something fails after it.
pub(super) const CHARGED: &str =
    "the releases below it were drawn and charged, and are free when they are asked for again";

/// What takes too long before anything is charged.
pub(super) fn timed_out_before() -> GatewayError {
    GatewayError::new(
        Code::TimedOut,
        "reading the query's public tables took longer than the gateway allows; nothing was charged",
    )
    .with_hint("ask for less: fewer public rows, a tighter WHERE on them")
}

/// What takes too long once it is charged.
pub(super) fn timed_out() -> GatewayError {
    GatewayError::new(
        Code::TimedOut,
        "the query took longer than the gateway allows, and was charged as if it had been answered",
    )
    .with_hint("ask for less: fewer groups, a tighter WHERE; the same question again is not charged again")
}

/// How often a query is analysed: once more for each level of public keys that it groups by.
const MAX_ANALYSES: usize = 8;

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
