//! Accounts as they stand: the window beside the lifetime, the share of the limit, burn-down and forecast.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};

use arrow::record_batch::RecordBatch;
use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::accounting::restate::{Accountant, Restated, counted, restate};
use crate::accounting::{Accounting, Delta, Epsilon, Event, Limit, Spent, event, fraction_spent, left};
use crate::ledger::{Account, AccountSearch, AccountSum, EventGroup, Grant, LifetimeSum, Scope};
use crate::policy::{Cap, DatasetPolicy, Period};

use super::super::charge::{consumer_caps, domain_key, granted_cap};
use super::super::{Code, GatewayError, run_blocking, translate};
use super::amounts::{delta_text, epsilon, loss_text, stated_at, word};
use super::forecast::{Rate, renews};
use super::tabular::{Columns, Tabular};
use super::{Reporter, Sees};

/// How many accounts are listed where the form does not say, and at most: with days and restated ε, and without.
const USUAL: u64 = 20;
const MAX_DETAILED: u64 = 200;
const MAX: u64 = 20_000;
/// How many accounts are detailed at once: each reads the ledger, which others read too, and computes.
const AT_ONCE: usize = 3;

/// Which accounts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AccountsForm {
    /// Of this dataset (or unit domain) alone.
    pub dataset: Option<String>,
    /// Of this consumer alone: its own accounts.
    pub consumer: Option<String>,
    /// The accounts of earlier windows too, which were renewed since.
    #[serde(default)]
    pub past: bool,
    /// Without the days, the forecast and the restated ε, which are read account by account.
    #[serde(default)]
    pub brief: bool,
    /// How many; 20 where it is not said, and at most 200, or 20,000 with `brief`.
    pub limit: Option<u64>,
}

/// The accounts, those nearest to their limits first.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct AccountsReport {
    /// As of when.
    pub at: DateTime<Utc>,
    /// How many accounts there are, of which the first are listed.
    pub found: u64,
    /// The accounts.
    pub accounts: Vec<AccountRow>,
}

/// One account of one window, and what its scope has spent over all windows.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct AccountRow {
    /// `consumer`, `agency`, `all_consumers`, or `domain` for a consumer in a unit domain.
    pub scope: &'static str,
    /// Which consumer or agency; null for all consumers together.
    pub subject: Option<String>,
    /// The dataset, or the unit domain.
    pub dataset: String,
    /// The epoch whose rows it is for, where the dataset is accounted by epochs.
    pub epoch: Option<String>,
    /// What losses are: `zcdp` for ρ, `pure` for ε.
    pub accounting: &'static str,
    /// How long a window is: `month`, `quarter`, `year` or `lifetime`; null for an earlier window.
    pub per: Option<&'static str>,
    /// The window.
    #[schema(example = "2026-11")]
    pub window: String,
    /// The day on which a new window begins, and this one is kept.
    pub renews: Option<NaiveDate>,
    /// Σ of the window's losses, an exact decimal.
    pub loss: String,
    /// Σ of the window's δ's of group selection.
    pub delta: String,
    /// ε of the window's sum at `epsilon_delta`, rounded up.
    pub epsilon: Option<f64>,
    /// The δ at which ε's of sums are stated: half of the budget's under zCDP; null for pure accounts, whose ε is a sum.
    pub epsilon_delta: Option<String>,
    /// The budget's ε; null where nothing limits the account.
    pub epsilon_limit: Option<f64>,
    /// The most that the losses may add up to.
    pub loss_limit: Option<String>,
    /// The most that the δ's of group selection may add up to.
    pub delta_limit: Option<String>,
    /// The larger of the two shares that are spent, from 0 to 1.
    pub fraction_spent: Option<f64>,
    /// Σ of the losses of all windows.
    pub lifetime_loss: String,
    /// Σ of the δ's of all windows.
    pub lifetime_delta: String,
    /// ε of that sum at `epsilon_delta`.
    pub lifetime_epsilon: Option<f64>,
    /// ε of all windows by the best accountant there is, at `restated_delta`: for reports, and never for budgets.
    pub restated_epsilon: Option<f64>,
    /// The δ of that figure, selections included.
    pub restated_delta: Option<String>,
    /// Whose figure it is: `zcdp`, `pure`, `renyi` or `loss_distribution`.
    pub restated_by: Option<&'static str>,
    /// The day on which the budget is used up if it is spent on at the mean daily rate since the window's first charge or
    /// of the last 30 days, whichever is the shorter time. Null where nothing was spent in it, or a new window begins before.
    pub exhausted: Option<NaiveDate>,
    /// Over how many days that rate was taken.
    pub rate_days: Option<u64>,
    /// Whom the row's ε's protect, in words; null where no policy is known any more.
    pub guarantee: Option<String>,
    /// The burn-down: what was spent on each day of the window.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<DayRow>,
}

/// One day of an account.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct DayRow {
    /// The day (UTC).
    pub day: NaiveDate,
    /// How many charges.
    pub charges: u64,
    /// Σ of the day's losses.
    pub loss: String,
    /// Σ of the day's δ's.
    pub delta: String,
    /// What was left of the limit of losses at its end, where there is a limit.
    pub loss_left: Option<String>,
}

/// Whose sums over which data.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Holder {
    scope: Scope,
    dataset: String,
    epoch: Option<String>,
}

/// A window's account before its ε's are computed.
struct Balance {
    holder: Holder,
    accounting: Accounting,
    window: String,
    /// Of a window that is not over: its length and its limit.
    per: Option<Period>,
    limit: Option<(Epsilon, Limit)>,
    /// The budget's δ.
    delta: Delta,
    spent: Spent,
    lifetime: (u128, u128),
    fraction: Option<f64>,
}

/// The windows of an account that are now, with the caps on them; and the budget's δ at which ε's are stated.
struct Caps {
    now: Vec<(Period, Option<Cap>)>,
    delta: Delta,
}

/// Limits of caps that were met before: there are few caps, and each limit is a search.
#[derive(Default)]
struct Limits(HashMap<(Accounting, Epsilon, Delta), Limit>);

impl Limits {
    fn of(&mut self, accounting: Accounting, cap: Cap) -> Limit {
        let key = (accounting, cap.epsilon, cap.delta);
        *self.0.entry(key).or_insert_with(|| Limit::from_budget(accounting, cap.epsilon, cap.delta))
    }
}

impl Reporter<'_> {
    pub(super) async fn accounts(
        &self,
        form: &AccountsForm,
        now: DateTime<Utc>,
    ) -> Result<AccountsReport, GatewayError> {
        let most = if form.brief { MAX } else { MAX_DETAILED };
        let limit = form.limit.unwrap_or(USUAL).max(1);
        if limit > most {
            return Err(GatewayError::new(Code::RequestInvalid, format!("at most {most} accounts are listed so"))
                .with_hint("narrow it with dataset or consumer, or ask for `brief`"));
        }
        let mut balances = self.balances(form, now).await?;
        let found = balances.len() as u64;
        balances.sort_by(nearest);
        balances.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let mut rows: Vec<AccountRow> = balances.iter().map(|balance| self.row_of(balance, now.date_naive())).collect();
        if !form.brief {
            for (balances, rows) in balances.chunks(AT_ONCE).zip(rows.chunks_mut(AT_ONCE)) {
                let details =
                    balances.iter().zip(rows).map(|(balance, row)| self.detail(balance, row, now.date_naive()));
                futures::future::try_join_all(details).await?;
            }
        }
        Ok(AccountsReport { at: now, found, accounts: rows })
    }

    /// Every account that the form names.
    async fn balances(&self, form: &AccountsForm, now: DateTime<Utc>) -> Result<Vec<Balance>, GatewayError> {
        let present: Vec<String> = Period::ALL.into_iter().map(|per| per.window(now)).collect();
        let search = AccountSearch {
            datasets: self.sees.datasets(form.dataset.as_deref())?,
            consumer: self.sees.consumer(form.consumer.as_deref())?,
            windows: if form.past { Vec::new() } else { present.clone() },
        };
        let grants = self.store.grants().await.map_err(translate::ledger)?;
        let grants: HashMap<(String, String), Grant> =
            grants.into_iter().map(|(consumer, dataset, grant)| ((consumer, dataset), grant)).collect();
        let charged = self.store.accounts(&search).await.map_err(translate::ledger)?;
        let mut charged: HashMap<(Holder, String), Spent> = charged
            .into_iter()
            .map(|AccountSum { account: Account { scope, dataset, window, epoch }, spent }| {
                ((Holder { scope, dataset, epoch }, window), spent)
            })
            .collect();
        let mut limits = Limits::default();
        let mut balances = Vec::new();
        let mut lifetimes = HashMap::new();
        for sum in self.store.lifetimes(&search).await.map_err(translate::ledger)? {
            let LifetimeSum { scope, dataset, epoch, accounting, loss_steps, delta_steps } = sum;
            let holder = Holder { scope, dataset, epoch };
            if matches!((&self.sees, &holder.scope), (Sees::Datasets(_), Scope::Domain(_))) {
                continue;
            }
            let Caps { now: caps, delta } = self.caps(&holder, &grants);
            let lifetime = (loss_steps, delta_steps);
            lifetimes.insert(holder.clone(), (accounting, delta, lifetime));
            for (per, cap) in caps {
                let window = per.window(now);
                let spent = charged.remove(&(holder.clone(), window.clone()));
                let spent = spent.unwrap_or_else(|| Spent::nothing(accounting));
                let limit = cap.map(|cap| (cap.epsilon, limits.of(accounting, cap)));
                let fraction = limit.map(|(_, limit)| fraction_spent(&limit, &spent));
                let delta = cap.map_or(delta, |cap| cap.delta);
                let (holder, per) = (holder.clone(), Some(per));
                balances.push(Balance { holder, accounting, window, per, limit, delta, spent, lifetime, fraction });
            }
        }
        // What is left are windows that are over, and those of a period that the owner or a grant no longer names.
        for ((holder, window), spent) in charged {
            if let Some((accounting, delta, lifetime)) = lifetimes.get(&holder)
                && form.past
            {
                balances.push(Balance {
                    accounting: *accounting,
                    window,
                    per: None,
                    limit: None,
                    delta: *delta,
                    spent,
                    lifetime: *lifetime,
                    fraction: None,
                    holder,
                });
            }
        }
        Ok(balances)
    }

    /// The caps that hold for one now. A dataset whose owner waits for a grant has a window without a limit.
    fn caps(&self, holder: &Holder, grants: &HashMap<(String, String), Grant>) -> Caps {
        let grant = |consumer: &str, dataset: String| grants.get(&(consumer.to_owned(), dataset));
        let of_dataset = |cap: fn(&DatasetPolicy) -> Cap| match self.policy(&holder.dataset) {
            Some(policy) => {
                let cap = cap(policy);
                Caps { now: vec![(cap.per, Some(cap))], delta: cap.delta }
            }
            None => Caps { now: vec![(Period::Lifetime, None)], delta: Delta::ZERO },
        };
        match &holder.scope {
            Scope::Agency(_) => of_dataset(|policy| policy.budget.per_agency),
            Scope::AllConsumers => of_dataset(|policy| policy.budget.all_consumers),
            Scope::Consumer(consumer) => match self.policy(&holder.dataset) {
                Some(policy) => {
                    let own = policy.budget.per_consumer;
                    let now = match consumer_caps(policy, grant(consumer, holder.dataset.clone())) {
                        Some(caps) => caps.into_iter().map(|cap| (cap.per, Some(cap))).collect(),
                        None => vec![(own.per, None)],
                    };
                    Caps { now, delta: own.delta }
                }
                None => of_dataset(|policy| policy.budget.per_consumer),
            },
            Scope::Domain(consumer) => {
                let granted = grant(consumer, domain_key(&holder.dataset)).map(granted_cap);
                let policies: Vec<&DatasetPolicy> = self.policies_in(&holder.dataset).map(AsRef::as_ref).collect();
                let caps: Vec<Cap> =
                    policies.iter().filter_map(|policy| policy.budget.per_consumer_in_domain).chain(granted).collect();
                let periods: BTreeSet<Period> = caps.iter().map(|cap| cap.per).chain([Period::Lifetime]).collect();
                // Which caps hold depends on what is read: the account is shown under the strictest.
                let strictest = |per: Period| {
                    let of_period = || caps.iter().filter(|cap| cap.per == per);
                    let (epsilon, delta) =
                        (of_period().map(|cap| cap.epsilon).min()?, of_period().map(|cap| cap.delta).min()?);
                    Some(Cap { epsilon, delta, per })
                };
                let delta = policies.iter().map(|policy| policy.budget.per_consumer.delta).min();
                Caps {
                    now: periods.into_iter().map(|per| (per, strictest(per))).collect(),
                    delta: delta.unwrap_or(Delta::ZERO),
                }
            }
        }
    }

    /// An account's row, without what is read account by account.
    fn row_of(&self, balance: &Balance, today: NaiveDate) -> AccountRow {
        let Holder { scope, dataset, .. } = &balance.holder;
        let guarantee = match scope {
            Scope::Domain(_) => self.promised_in(dataset),
            Scope::Consumer(_) | Scope::Agency(_) | Scope::AllConsumers => self.promised(dataset),
        };
        AccountRow { guarantee, ..row_of(balance, today) }
    }

    /// Adds what is read account by account.
    async fn detail(&self, balance: &Balance, row: &mut AccountRow, today: NaiveDate) -> Result<(), GatewayError> {
        let Holder { scope, dataset, epoch } = &balance.holder;
        let account = Account {
            scope: scope.clone(),
            dataset: dataset.clone(),
            window: balance.window.clone(),
            epoch: epoch.clone(),
        };
        let days = self.store.days(&account).await.map_err(translate::ledger)?;
        if let (Some((_, limit)), Some(rate)) = (balance.limit, Rate::of(&days, today)) {
            let left = left(&limit, &balance.spent);
            let day = rate.exhausts(left.loss.steps().into(), left.delta.steps().into(), today);
            row.exhausted = day.filter(|day| row.renews.is_none_or(|renews| *day < renews));
            row.rate_days = Some(rate.days);
        }
        let mut loss_spent = 0_u128;
        row.days = days
            .into_iter()
            .map(|day| {
                loss_spent = loss_spent.saturating_add(day.loss_steps);
                DayRow {
                    day: day.day,
                    charges: day.charges,
                    loss: loss_text(day.loss_steps),
                    delta: delta_text(day.delta_steps),
                    loss_left: balance
                        .limit
                        .map(|(_, limit)| loss_text(u128::from(limit.loss.steps()).saturating_sub(loss_spent))),
                }
            })
            .collect();
        let groups = self.store.events(scope, dataset, epoch.as_deref()).await.map_err(translate::ledger)?;
        let at = restated_at(balance);
        let restated = run_blocking(move || restated(groups, at)).await??;
        if restated.epsilon.is_finite() {
            row.restated_epsilon = Some(restated.epsilon);
            row.restated_delta = Some(delta_text(at.steps().into()));
            row.restated_by = Some(match restated.accountant {
                Accountant::Zcdp => "zcdp",
                Accountant::Pure => "pure",
                Accountant::Renyi => "renyi",
                Accountant::LossDistribution => "loss_distribution",
            });
        }
        Ok(())
    }
}

/// The δ of a restated figure: what the stated ε and the selections have together.
fn restated_at(balance: &Balance) -> Delta {
    let selections = Delta::from_steps(u64::try_from(balance.lifetime.1).unwrap_or(u64::MAX));
    match stated_at(balance.accounting, balance.delta) {
        Some(half) => half.checked_add(selections).unwrap_or(Delta::MAX),
        None => balance.delta.max(selections),
    }
}

/// What all of that noise comes to. Of charges whose noise was not kept the cost is.
fn restated(groups: Vec<EventGroup>, at: Delta) -> Result<Restated, GatewayError> {
    let mut counts: HashMap<Event, u64> = HashMap::new();
    for EventGroup { events, drawn, charges } in groups {
        let drawn_events = if events == "[]" {
            Event::of_cost(drawn)
        } else {
            event::from_json(&events).map_err(|_| translate::internal("a charge's noise cannot be read"))?
        };
        for (event, times) in counted(drawn_events) {
            let count = counts.entry(event).or_insert(0);
            *count = count.saturating_add(times.saturating_mul(charges));
        }
    }
    let mut counts: Vec<(Event, u64)> = counts.into_iter().collect();
    counts.sort_unstable();
    Ok(restate(&counts, at))
}

/// Those nearest to their limits first; then by name.
fn nearest(a: &Balance, b: &Balance) -> Ordering {
    let fraction = |balance: &Balance| balance.fraction.unwrap_or(-1.0);
    fraction(b).total_cmp(&fraction(a)).then_with(|| (&a.holder, &a.window).cmp(&(&b.holder, &b.window)))
}

fn row_of(balance: &Balance, today: NaiveDate) -> AccountRow {
    let Balance { holder, accounting, delta, .. } = balance;
    let subject = holder.scope.subject();
    AccountRow {
        scope: holder.scope.kind(),
        subject: (!subject.is_empty()).then(|| subject.to_owned()),
        dataset: holder.dataset.clone(),
        epoch: holder.epoch.clone(),
        accounting: word(*accounting),
        per: balance.per.map(Period::as_str),
        window: balance.window.clone(),
        renews: balance.per.and_then(|per| renews(per, today)),
        loss: loss_text(balance.spent.loss.steps().into()),
        delta: delta_text(balance.spent.delta.steps().into()),
        epsilon: epsilon(*accounting, balance.spent.loss.steps().into(), *delta),
        epsilon_delta: stated_at(*accounting, *delta).map(|delta| delta_text(delta.steps().into())),
        epsilon_limit: balance.limit.map(|(epsilon, _)| epsilon.to_f64()),
        loss_limit: balance.limit.map(|(_, limit)| loss_text(limit.loss.steps().into())),
        delta_limit: balance.limit.map(|(_, limit)| delta_text(limit.delta.steps().into())),
        fraction_spent: balance.fraction,
        lifetime_loss: loss_text(balance.lifetime.0),
        lifetime_delta: delta_text(balance.lifetime.1),
        lifetime_epsilon: epsilon(*accounting, balance.lifetime.0, *delta),
        restated_epsilon: None,
        restated_delta: None,
        restated_by: None,
        exhausted: None,
        rate_days: None,
        guarantee: None,
        days: Vec::new(),
    }
}

impl Tabular for AccountsReport {
    /// Without the days, which are a table each.
    fn batch(&self) -> Result<RecordBatch, GatewayError> {
        let rows = || self.accounts.iter();
        let day = |day: Option<NaiveDate>| day.map(|day| day.to_string());
        Columns::default()
            .text("scope", rows().map(|row| Some(row.scope.to_owned())))
            .text("subject", rows().map(|row| row.subject.clone()))
            .text("dataset", rows().map(|row| Some(row.dataset.clone())))
            .text("epoch", rows().map(|row| row.epoch.clone()))
            .text("accounting", rows().map(|row| Some(row.accounting.to_owned())))
            .text("per", rows().map(|row| row.per.map(str::to_owned)))
            .text("window", rows().map(|row| Some(row.window.clone())))
            .text("renews", rows().map(|row| day(row.renews)))
            .text("loss", rows().map(|row| Some(row.loss.clone())))
            .text("delta", rows().map(|row| Some(row.delta.clone())))
            .number("epsilon", rows().map(|row| row.epsilon))
            .text("epsilon_delta", rows().map(|row| row.epsilon_delta.clone()))
            .number("epsilon_limit", rows().map(|row| row.epsilon_limit))
            .text("loss_limit", rows().map(|row| row.loss_limit.clone()))
            .text("delta_limit", rows().map(|row| row.delta_limit.clone()))
            .number("fraction_spent", rows().map(|row| row.fraction_spent))
            .text("lifetime_loss", rows().map(|row| Some(row.lifetime_loss.clone())))
            .text("lifetime_delta", rows().map(|row| Some(row.lifetime_delta.clone())))
            .number("lifetime_epsilon", rows().map(|row| row.lifetime_epsilon))
            .number("restated_epsilon", rows().map(|row| row.restated_epsilon))
            .text("restated_delta", rows().map(|row| row.restated_delta.clone()))
            .text("restated_by", rows().map(|row| row.restated_by.map(str::to_owned)))
            .text("exhausted", rows().map(|row| day(row.exhausted)))
            .count("rate_days", rows().map(|row| row.rate_days))
            .text("guarantee", rows().map(|row| row.guarantee.clone()))
            .batch()
    }
}
