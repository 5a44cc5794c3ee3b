//! The price of a question: from ε, by the policies of all that it reads, to the noise of its releases (DESIGN 4.3).
//! Policy and SQL alone decide; no data is touched.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::accounting::{Accounting, Cost, Delta, Epsilon, Limit, Loss, rho_for};
use crate::analysis::{Analysed, AnalysedRelease};
use crate::ledger::ReleaseKey;
use crate::policy::{DatasetName, DatasetPolicy};
use crate::release::{NoisePlan, Price, noise_for};

use super::{Code, GatewayError, translate};

/// A question with its price.
#[derive(Debug, Clone)]
pub(super) struct Priced {
    pub(super) epsilon: Epsilon,
    pub(super) query_delta: Delta,
    /// One for each release of the query, in its order.
    pub(super) releases: Vec<PricedRelease>,
}

/// The release of a question, with its noise and its name in the ledger.
#[derive(Debug, Clone)]
pub(super) struct PricedRelease {
    pub(super) noise: Arc<NoisePlan>,
    pub(super) key: ReleaseKey,
    pub(super) accounting: Accounting,
}

impl PricedRelease {
    pub(super) fn cost(&self) -> Cost {
        self.noise.cost()
    }

    /// How exact it is, as the ledger ranks it.
    pub(super) fn precision(&self) -> u64 {
        self.noise.cost().loss.steps()
    }

    /// The same release at the precision that was paid for earlier, with the δ that was paid then.
    pub(super) fn at(&self, release: &AnalysedRelease, precision: u64, delta: Delta) -> Result<Self, GatewayError> {
        if precision == self.precision() {
            return Ok(self.clone());
        }
        let price = Price { loss: Loss::from_steps(self.accounting, precision), delta_selection: delta };
        let noise = NoisePlan::new(&release.spec, price).map_err(|error| translate::price(&error))?;
        Ok(Self { noise: Arc::new(noise), ..self.clone() })
    }
}

/// The smallest ε at which every output of every release has a relative error of at most `error` in groups of `units`
/// units, rounded up to three digits.
///
/// # Errors
/// When no price that one query may cost is enough.
pub(super) fn cheapest(analysed: &Analysed, error: f64, units: f64) -> Result<f64, GatewayError> {
    let most =
        analysed.datasets().values().map(|policy| policy.budget.max_query).min().unwrap_or(Epsilon::ZERO).to_f64();
    let meets = |epsilon: f64| {
        price(analysed, Some(epsilon)).is_ok_and(|priced| {
            let mut releases = analysed.releases().iter().zip(&priced.releases);
            releases.all(|(release, noise)| noise.noise.largest_relative_error(&release.spec, units) <= error)
        })
    };
    if !meets(most) {
        return Err(GatewayError::new(
            Code::RequestInvalid,
            format!(
                "an error of {} % in groups of {units} units needs more than the epsilon {most} that one query may cost",
                error * 100.0
            ),
        )
        .with_hint("ask for a larger error or larger groups, for fewer aggregates and groups, or with smaller `bounds`: the noise grows with max_rows_per_unit_per_group"));
    }
    let (mut low, mut high) = (most * 1e-9, most);
    while high / low > 1.001 {
        let middle = (low * high).sqrt();
        if meets(middle) { high = middle } else { low = middle }
    }
    // Three digits are enough, and rounding up keeps the promise.
    let digit = 10f64.powf(high.log10().floor() - 2.0);
    Ok(((high / digit).ceil() * digit).min(most))
}

/// Prices `analysed` at `asked`, or at the policies' default.
pub(super) fn price(analysed: &Analysed, asked: Option<f64>) -> Result<Priced, GatewayError> {
    let datasets = analysed.datasets();
    let budgets = || datasets.values().map(|policy| &policy.budget);
    let asked = asked.map(checked).transpose()?;
    let most = budgets().map(|budget| budget.max_query).min();
    let default = budgets().map(|budget| budget.default_query).min();
    let epsilon = asked.or(default).unwrap_or(Epsilon::ZERO);
    if let Some(most) = most.filter(|most| epsilon > *most) {
        return Err(GatewayError::new(
            Code::RequestInvalid,
            format!("epsilon {epsilon} is more than the {most} that one query may cost on these datasets"),
        )
        .with_hint(format!("ask with epsilon {most} or less")));
    }
    let query_delta = budgets().map(|budget| budget.query_delta).min().unwrap_or(Delta::ZERO);
    // With one pure account in the query all of its noise is Laplace (DESIGN 4.2).
    let accounting = noise_for(datasets.values().map(|policy| policy.privacy.accounting));
    let whole = match accounting {
        Accounting::Zcdp => Loss::Zcdp(rho_for(epsilon, query_delta)),
        Accounting::Pure => Loss::Pure(epsilon),
    };
    // Shared by the parts of all releases alike.
    let parts: u64 = analysed.releases().iter().map(|release| release.spec.all_parts()).sum();
    let mut releases: Vec<PricedRelease> = Vec::with_capacity(analysed.releases().len());
    for release in analysed.releases() {
        let steps = u128::from(whole.steps()) * u128::from(release.spec.all_parts()) / u128::from(parts.max(1));
        let loss = Loss::from_steps(accounting, u64::try_from(steps).unwrap_or(u64::MAX));
        let inner: Vec<Draw> = release.reads.iter().filter_map(|read| releases.get(*read)).map(Draw::of).collect();
        let priced = priced(release, loss, &inner)?;
        releases.push(priced);
    }
    Ok(Priced { epsilon, query_delta, releases })
}

fn checked(epsilon: f64) -> Result<Epsilon, GatewayError> {
    let hint = "epsilon is a number above 0, such as 0.2";
    if !epsilon.is_finite() || epsilon <= 0.0 {
        return Err(GatewayError::new(Code::RequestInvalid, "epsilon must be a finite number above 0").with_hint(hint));
    }
    match Epsilon::floor_from(epsilon) {
        Ok(Epsilon::ZERO) => {
            Err(GatewayError::new(Code::RequestInvalid, "epsilon is too small to be charged").with_hint(hint))
        }
        Ok(epsilon) => Ok(epsilon),
        Err(error) => Err(GatewayError::new(Code::RequestInvalid, format!("epsilon {error}")).with_hint(hint)),
    }
}

fn priced(release: &AnalysedRelease, loss: Loss, inner: &[Draw]) -> Result<PricedRelease, GatewayError> {
    let accounting = loss.accounting();
    let delta_selection = delta_selection(&release.datasets, loss);
    let noise =
        NoisePlan::new(&release.spec, Price { loss, delta_selection }).map_err(|error| translate::price(&error))?;
    if noise.cost().loss.steps() == 0 {
        return Err(GatewayError::new(
            Code::QueryNotPrivate,
            "the query releases nothing but group keys that are public already",
        )
        .with_hint("add an aggregate, such as count(*)"));
    }
    Ok(PricedRelease { noise: Arc::new(noise), key: key(release, accounting, inner), accounting })
}

/// δ_sel = δ_limit·loss/loss_limit, so that both run out together; the least that any dataset's budget gives.
fn delta_selection(datasets: &BTreeMap<DatasetName, Arc<DatasetPolicy>>, loss: Loss) -> Delta {
    datasets
        .values()
        .map(|policy| {
            let cap = &policy.budget.per_consumer;
            let limit = Limit::from_budget(policy.privacy.accounting, cap.epsilon, cap.delta);
            let share = loss.charged_to(policy.privacy.accounting).map_or(0, Loss::steps).min(limit.loss.steps());
            let steps = u128::from(limit.delta.steps()) * u128::from(share) / u128::from(limit.loss.steps().max(1));
            Delta::from_steps(u64::try_from(steps).unwrap_or(0))
        })
        .min()
        .unwrap_or(Delta::ZERO)
}

/// Which draw of a release it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draw {
    pub(super) key: ReleaseKey,
    /// How exact it is.
    pub(super) precision: u64,
    /// The δ of its selection.
    pub(super) delta: Delta,
}

impl Draw {
    /// The one that the price buys.
    pub(super) fn of(priced: &PricedRelease) -> Self {
        Self { key: priced.key, precision: priced.precision(), delta: priced.cost().delta }
    }
}

/// The release's name: its canonical text, the kind of its noise, and which draws it reads. Its own price is not part of it.
pub(super) fn key(release: &AnalysedRelease, accounting: Accounting, inner: &[Draw]) -> ReleaseKey {
    let mut hasher = blake3::Hasher::new();
    hasher.update(accounting.to_string().as_bytes());
    hasher.update(&[0]);
    hasher.update(&(release.canonical.len() as u64).to_le_bytes());
    hasher.update(release.canonical.as_bytes());
    for inner in inner {
        hasher.update(&inner.key.0);
        hasher.update(&inner.precision.to_le_bytes());
        hasher.update(&inner.delta.steps().to_le_bytes());
    }
    ReleaseKey(*hasher.finalize().as_bytes())
}
