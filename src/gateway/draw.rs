//! The draws of a question: kept ones where they are paid for, else room, plans, the charge, and then the noise.
//!
//! ```text
//! named ─▶ kept? ─▶ answer
//!            └▶ room, turn ─▶ plans, proven ─▶ charge (durable) ─▶ draw, keep (durable)     release after release
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::TreeNode;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_plan::ExecutionPlan;
use tracing::{Instrument, debug_span};
use uuid::Uuid;

use crate::accounting::Delta;
use crate::analysis::{Analysed, AnalysedRelease, known_of, with_values};
use crate::engine::{EngineError, PostPlan};
use crate::ledger::{Charge, Decision, Entry, HeldRelease, NewDraw, ReleaseKey};
use crate::release::{ReleaseNode, ReleasedNode, SelectionKey};

use super::admission::Room;
use super::ask::{CHARGED, timed_out, timed_out_before};
use super::charge::{Charged, Payer, affordable, charge, charges};
use super::facts::{decode, encode};
use super::in_flight::Turns;
use super::price::{Draw, Priced, PricedRelease, key};
use super::{Code, Gateway, GatewayError, Question, translate};

/// The drawn releases of a query, and what was computed from them on the way.
#[derive(Default)]
pub(super) struct Drawn {
    pub(super) batches: Vec<RecordBatch>,
    pub(super) noise: Vec<PricedRelease>,
    pub(super) known: Vec<Vec<RecordBatch>>,
    pub(super) charged: Vec<Charged>,
    /// What is computed from them, where it was prepared before they were charged.
    pub(super) post: Option<PostPlan>,
    /// The last draw, where it is not kept yet. Nothing that depends on it may be told before it is.
    pub(super) unkept: Option<NewDraw>,
    /// So that nobody else draws the same before it is kept.
    turns: Option<Turns>,
}

/// A query that may run: it has room, and nobody else draws its releases.
struct Begun {
    named: Priced,
    /// Whether it waited for others that drew one of its releases.
    waited: bool,
    room: Room,
    turns: Turns,
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

/// How often the draws that a release reads may change while it waits for its turn.
const MAX_TURNS: usize = 8;

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

/// Whether a plan over drawn values takes as long whatever they are. Where it does not, a draw is kept before it runs: were it
/// lost with a process that such a plan has ended, another would be drawn for the same charge.
fn is_light(plan: &LogicalPlan) -> bool {
    let has_subquery = |expr: &Expr| {
        let is_one = |expr: &Expr| {
            Ok(matches!(expr, Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_)))
        };
        expr.exists(is_one).unwrap_or(true)
    };
    if plan.expressions().iter().any(has_subquery) {
        return false;
    }
    match plan {
        LogicalPlan::Projection(projection) => is_light(&projection.input),
        LogicalPlan::Filter(filter) => is_light(&filter.input),
        LogicalPlan::Sort(sort) => is_light(&sort.input),
        LogicalPlan::Limit(limit) => is_light(&limit.input),
        LogicalPlan::SubqueryAlias(alias) => is_light(&alias.input),
        LogicalPlan::Extension(extension) => extension.node.as_any().is::<ReleasedNode>(),
        _ => false,
    }
}

impl Gateway {
    /// The drawn values of every release: kept ones where the consumer has paid for them, else paid for and drawn now, in
    /// order, so that a release finds the values that it reads.
    pub(super) async fn released(
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
        let to_charge =
            async |priced: &Priced| charges(store, question, query_id, priced, analysed, payer, reservation).await;
        let pay = async |charges: &[Charge], priced: &Priced| {
            let paid = charge(store, charges, priced).instrument(debug_span!("charge")).await?;
            self.alerts.charged(paid.iter().flat_map(|paid| &paid.accounts).cloned().collect());
            Ok::<_, GatewayError>(paid)
        };
        // A kept answer needs no room and no plan. A key of the client's must be remembered, or stands for another question.
        let kept = async |named: &Priced| {
            let kept = self.kept(named, analysed, consumer).instrument(debug_span!("kept"));
            let Some(kept) = kept.await? else { return Ok(None) };
            if question.idempotency_key.is_some() {
                pay(&to_charge(named).await?, named).await?;
            }
            // The charges of the very draws, which may be others than that of the key.
            Ok::<_, GatewayError>(Some(kept))
        };
        let named = self.named(priced, analysed, consumer).await?;
        if let Some(drawn) = kept(&named).await? {
            return Ok(drawn);
        }
        let Begun { named, waited, room: _room, turns } =
            self.begin(named, analysed, payer).instrument(debug_span!("queue")).await?;
        if waited && let Some(drawn) = kept(&named).await? {
            return Ok(drawn);
        }
        let priced = &named;
        let known = vec![Vec::new(); analysed.known().len()];
        let mut drawn = Drawn { known, ..Drawn::default() };
        let (mut computed, mut fan_outs) = (0, FanOuts::default());
        // What is public is computed, and what can be planned and proven is, before anything is paid for: what fails here
        // cannot depend on the data.
        self.compute_known(analysed, 0, &mut computed, &mut drawn).await?;
        self.check_fan_outs(analysed, &drawn.known, computed, &mut fan_outs, false).await?;
        // That nobody is there to read the data cannot depend on it, so that is found out before it is paid for.
        if self.must_draw(&priced.releases, consumer).await? {
            self.engine.check_workers().await.map_err(|error| translate::workers(&error))?;
        }
        // The accounts are looked up while it is planned. Of two errors the plan's is told.
        let planned = self.plan_all(analysed, priced, &drawn.known).instrument(debug_span!("physical"));
        let (charges, planned) = tokio::join!(to_charge(priced), planned);
        let (plans, post) = planned?;
        let charges = charges?;
        // They are good for the draw as well, unless it reads what is computed only then.
        let plans_hold = analysed.known().iter().all(|known| known.after == 0);
        drawn.post = Some(post);
        let charged = pay(&charges, priced).await?;
        for ((at, (release, charge)), plan) in analysed.releases().iter().zip(&charged).enumerate().zip(plans) {
            self.compute_known(analysed, at, &mut computed, &mut drawn).await?;
            self.check_fan_outs(analysed, &drawn.known, computed, &mut fan_outs, true).await?;
            // Paid for earlier at another precision, and not drawn then: it is drawn as it was paid for.
            let noise = priced.releases[at].at(release, charge.precision, charge.delta)?;
            let held = if charge.first {
                None
            } else {
                store.held_for(consumer, noise.key, charge.precision).await.map_err(translate::ledger)?
            };
            let held = match held {
                // Another consumer's identical release, paid for at the same price: one draw is shown to both.
                Some(held) => held,
                None => {
                    let as_planned = plans_hold && Arc::ptr_eq(&noise.noise, &priced.releases[at].noise);
                    let plan = if as_planned {
                        plan
                    } else {
                        let plan = self.plan_release(release, &noise, &drawn.known).await;
                        plan.map_err(translate::charged_engine)?
                    };
                    let draw = self.draw(plan, &noise, charge).await?;
                    if plans_hold && at + 1 == charged.len() && is_light(analysed.post()) {
                        // Nothing but the answer is computed from it: it is kept together with the answer's entry of the log.
                        drawn.batches.push(decode(&draw.payload)?);
                        drawn.noise.push(noise);
                        drawn.unkept = Some(draw);
                        continue;
                    }
                    self.keep(&draw).await?
                }
            };
            self.record_shown(release, charge, &held, payer).await?;
            drawn.batches.push(decode(&held.payload)?);
            drawn.noise.push(noise);
        }
        self.compute_known(analysed, analysed.releases().len(), &mut computed, &mut drawn).await?;
        drawn.charged = charged;
        drawn.turns = Some(turns);
        Ok(drawn)
    }

    /// Whether some release has no draw yet that the consumer could be shown.
    async fn must_draw(&self, releases: &[PricedRelease], consumer: &str) -> Result<bool, GatewayError> {
        for release in releases {
            let held = self.store.held_for(consumer, release.key, release.precision()).await;
            if held.map_err(translate::ledger)?.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Computes the relations that need no more than the first `releases` draws, and are not computed yet.
    pub(super) async fn compute_known(
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
                Err(_) if known.after == 0 => return Err(timed_out_before()),
                Err(_) => return Err(timed_out()),
            };
            *computed += 1;
        }
        Ok(())
    }

    /// Plans and proves all that a query runs, before anything is charged.
    async fn plan_all(
        &self,
        analysed: &Analysed,
        priced: &Priced,
        known: &[Vec<RecordBatch>],
    ) -> Result<(Vec<Arc<dyn ExecutionPlan>>, PostPlan), GatewayError> {
        let mut plans = Vec::with_capacity(priced.releases.len());
        for (release, noise) in analysed.releases().iter().zip(&priced.releases) {
            plans.push(self.plan_release(release, noise, known).await.map_err(translate::engine)?);
        }
        let empty: Vec<RecordBatch> = analysed
            .releases()
            .iter()
            .map(|release| RecordBatch::new_empty(crate::release::output_schema(&release.spec)))
            .collect();
        let uncharged = |error: EngineError| translate::post(&error, "nothing was charged");
        for relation in analysed.known() {
            let plan = self.engine.prepare_post(&relation.plan).map_err(uncharged)?;
            self.engine.check_post(&plan, empty.clone(), known.to_vec()).await.map_err(uncharged)?;
        }
        let post = self.engine.prepare_post(analysed.post()).map_err(uncharged)?;
        self.engine.check_post(&post, empty, known.to_vec()).await.map_err(uncharged)?;
        Ok((plans, post))
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

    /// Draws a release that is paid for.
    async fn draw(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        noise: &PricedRelease,
        charged: &Charged,
    ) -> Result<NewDraw, GatewayError> {
        let batch = self.in_time(self.engine.run_release(plan)).instrument(debug_span!("scan")).await?;
        let facts = serde_json::json!({
            "units": noise.noise.units(),
            "measures": noise.noise.measures(),
            "quantiles": noise.noise.quantiles(),
            "cost": noise.cost(),
        });
        Ok(NewDraw {
            key: noise.key,
            precision: charged.precision,
            charge: charged.id,
            payload: encode(&batch)?,
            facts: facts.to_string(),
        })
    }

    /// Keeps a draw, and gives the one that is kept.
    pub(super) async fn keep(&self, draw: &NewDraw) -> Result<HeldRelease, GatewayError> {
        let NewDraw { key, precision, charge, payload, facts } = draw;
        let kept = self.store.keep_release(*key, *precision, *charge, payload, facts);
        kept.instrument(debug_span!("keep")).await.map_err(translate::ledger)
    }

    /// Logs that what was charged now shows a draw that another charge has paid for too.
    pub(super) async fn record_shown(
        &self,
        release: &AnalysedRelease,
        charge: &Charged,
        held: &HeldRelease,
        payer: Payer<'_>,
    ) -> Result<(), GatewayError> {
        if charge.earlier || held.charge_id == charge.id {
            return Ok(());
        }
        let datasets = release.datasets.keys().map(ToString::to_string).collect();
        let entry = Entry { at: payer.now, by: None, decision: Decision::Shown { charge: charge.id, datasets } };
        self.store.record(entry, Vec::new()).await.map_err(translate::ledger)?;
        Ok(())
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
        is_charged: bool,
    ) -> Result<(), GatewayError> {
        fan_outs.checked.resize(analysed.fan_outs().len(), false);
        for (at, plan) in analysed.fan_outs().iter().enumerate() {
            if fan_outs.checked[at] || known_of(plan).iter().any(|index| *index >= computed) {
                continue;
            }
            let run = self.engine.run_post(plan, Vec::new(), known.to_vec());
            let rows = if is_charged { self.in_time(run).await? } else { self.public_in_time(run).await? };
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

    /// Waits for room to run, and for the turn to draw each release, and names each by the draws that it will read: where the
    /// consumer has paid for a more exact draw of an inner release, that is the one.
    ///
    /// Whoever waits for room holds no turn, so that a question in a long line is not in the way of others that ask the same;
    /// and whoever waits for a turn holds no room, but for the last moment.
    ///
    /// Whoever cannot pay waits for nobody's draw: that it has to would tell it for nothing that another asks the same.
    async fn begin(&self, named: Priced, analysed: &Analysed, payer: Payer<'_>) -> Result<Begun, GatewayError> {
        let consumer = payer.consumer;
        let mut named = named;
        let mut waited = false;
        for attempt in 0..MAX_TURNS {
            let keys: BTreeSet<ReleaseKey> = named.releases.iter().map(|release| release.key).collect();
            if self.in_flight.is_busy(&keys) {
                affordable(self.store.as_ref(), &named, analysed, payer).await?;
            }
            waited |= self.in_flight.settled(&keys).await;
            let room = self.room(consumer).await?;
            let turns = match self.in_flight.try_turns(&keys) {
                Some(turns) => turns,
                None if attempt == 0 => {
                    waited = true;
                    continue;
                }
                None => {
                    affordable(self.store.as_ref(), &named, analysed, payer).await?;
                    waited = true;
                    self.in_flight.turns(&keys).await
                }
            };
            let again = self.named(&named, analysed, consumer).await?;
            if again.releases.iter().all(|release| keys.contains(&release.key)) {
                return Ok(Begun { named: again, waited, room, turns });
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
        for (at, (release, priced)) in analysed.releases().iter().zip(&mut named.releases).enumerate() {
            let inner: Vec<Draw> = release.reads.iter().filter_map(|read| draws.get(*read)).copied().collect();
            priced.key = key(release, priced.accounting, &inner);
            let mut draw = Draw::of(priced);
            if !analysed.releases().iter().any(|outer| outer.reads.contains(&at)) {
                draws.push(draw);
                continue;
            }
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
}

/// The value of a scalar subquery: that of its one row, NULL where it has none. `None` while it is not computed.
fn scalar_of(rows: &[RecordBatch]) -> Option<ScalarValue> {
    let batch = rows.iter().find(|batch| batch.num_rows() > 0)?;
    ScalarValue::try_from_array(batch.column(0), 0).ok()
}
