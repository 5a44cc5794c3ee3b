//! Which accounts a release is charged to, and the charge itself: durable before anything is drawn.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures::future::try_join_all;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::accounting::{Accounting, Cost, Delta, Epsilon, Limit, Loss, Rho, Spent, epsilon_of, fits, left, rho_for};
use crate::analysis::{Analysed, AnalysedRelease, Summable};
use crate::catalog::{Catalog, Entry};
use crate::ledger::{
    Account, AccountCharge, Charge, ChargeId, ChargeOutcome, Grant, Idempotency, QueryRecord, Scope, Shortfall, Store,
};
use crate::policy::{Cap, DatasetName, DatasetPolicy, Period};

use super::price::Priced;
use super::{ChargeLine, Code, GatewayError, Question, translate};

/// Who asks, when, and of which datasets there are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Payer<'a> {
    pub(super) consumer: &'a str,
    pub(super) agency: Option<&'a str>,
    pub(super) now: DateTime<Utc>,
    pub(super) catalog: &'a Catalog,
}

/// One consumer's account of one dataset, and what it may spend.
#[derive(Debug, Clone)]
pub(super) struct ConsumerAccount {
    pub(super) account: Account,
    pub(super) limit: Limit,
    pub(super) epsilon: Epsilon,
    pub(super) delta: Delta,
    pub(super) per: Period,
}

/// The accounts of `consumer` on a dataset: under the owner's cap, and under an administrator's grant, which has its
/// own window. A grant can only narrow what the owner allows. `None` when the owner waits for a grant.
pub(super) fn consumer_accounts(
    policy: &DatasetPolicy,
    consumer: &str,
    grant: Option<&Grant>,
    now: DateTime<Utc>,
) -> Option<Vec<ConsumerAccount>> {
    let account = |cap: Cap| ConsumerAccount {
        account: Account {
            scope: Scope::Consumer(consumer.to_owned()),
            dataset: policy.name.to_string(),
            window: cap.per.window(now),
            epoch: None,
        },
        limit: Limit::from_budget(policy.privacy.accounting, cap.epsilon, cap.delta),
        epsilon: cap.epsilon,
        delta: cap.delta,
        per: cap.per,
    };
    Some(consumer_caps(policy, grant)?.into_iter().map(account).collect())
}

/// The caps on a consumer's accounts of a dataset, one an account: see [`consumer_accounts`].
pub(super) fn consumer_caps(policy: &DatasetPolicy, grant: Option<&Grant>) -> Option<Vec<Cap>> {
    let cap = policy.budget.per_consumer;
    let Some(grant) = grant else {
        return policy.budget.auto_grant.then(|| vec![cap]);
    };
    let granted = granted_cap(grant);
    let both = Cap { epsilon: granted.epsilon.min(cap.epsilon), delta: granted.delta.min(cap.delta), per: granted.per };
    Some(if both.per == cap.per { vec![both] } else { vec![cap, both] })
}

/// A grant as a cap.
pub(super) fn granted_cap(grant: &Grant) -> Cap {
    Cap { epsilon: grant.epsilon, delta: grant.delta, per: period_of(grant) }
}

/// By dataset, the consumer's grant on it, all looked up beside each other.
pub(super) async fn grants(
    store: &dyn Store,
    consumer: &str,
    datasets: &BTreeMap<DatasetName, Arc<DatasetPolicy>>,
) -> Result<Vec<Option<Grant>>, GatewayError> {
    let grant = |name: &DatasetName| {
        let name = name.to_string();
        async move { store.grant(consumer, &name).await.map_err(translate::ledger) }
    };
    try_join_all(datasets.keys().map(grant)).await
}

/// Every account that a release is charged to, with its limit and its cost: of each dataset (and each of its epochs) the
/// consumer's, its agency's and that of all consumers; and the consumer's in the unit domain, once.
pub(super) async fn accounts(
    store: &dyn Store,
    release: &AnalysedRelease,
    cost: Cost,
    payer: Payer<'_>,
) -> Result<Vec<AccountCharge>, GatewayError> {
    let Payer { consumer, agency, now, .. } = payer;
    let grants = grants(store, consumer, &release.datasets);
    let (grants, of_domain) = tokio::try_join!(grants, domain_accounts(store, release, cost, payer))?;
    let mut accounts = Vec::new();
    for ((name, policy), grant) in release.datasets.iter().zip(grants) {
        let Some(own) = consumer_accounts(policy, consumer, grant.as_ref(), now) else {
            return Err(GatewayError::new(
                Code::BudgetExceeded,
                format!("{consumer} has no budget on {name}: its owner waits for an administrator's grant"),
            )
            .with_hint(
                "ask the budget administrator for one: POST /v1/budget/requests, or `tollgate budget request`",
            ));
        };
        let shared = |scope: Scope, cap: &Cap| AccountCharge {
            account: Account { scope, dataset: name.to_string(), window: cap.per.window(now), epoch: None },
            limit: Limit::from_budget(policy.privacy.accounting, cap.epsilon, cap.delta),
            cost,
        };
        let mut of_dataset: Vec<AccountCharge> =
            own.into_iter().map(|own| AccountCharge { account: own.account, limit: own.limit, cost }).collect();
        if let Some(agency) = agency {
            of_dataset.push(shared(Scope::Agency(agency.to_owned()), &policy.budget.per_agency));
        }
        of_dataset.push(shared(Scope::AllConsumers, &policy.budget.all_consumers));
        match release.epochs.get(name) {
            None => accounts.extend(of_dataset),
            // Block composition: each epoch that is read pays in full.
            Some(epochs) => accounts.extend(epochs.iter().flat_map(|epoch| {
                of_dataset.iter().cloned().map(|mut line| {
                    line.account.epoch = Some(epoch.clone());
                    line
                })
            })),
        }
    }
    accounts.extend(of_domain);
    Ok(accounts)
}

/// The consumer's accounts in the release's unit domain: what bounds one unit that is in several companies' data.
///
/// There is one for each period for which any dataset of the domain has a `per_consumer_in_domain`, and one for life, and
/// every release in the domain is charged to all of them, so that a cap counts what was learnt from everybody's data. It is
/// limited by the caps of the policies that are read, and by an administrator's grant on `domain:NAME`: no owner limits
/// what others answer. Epochs are not told apart here: a domain may have datasets without, whose charges are on every epoch.
/// They add up ρ, also where the datasets' accounts add up ε, since one domain may have both.
async fn domain_accounts(
    store: &dyn Store,
    release: &AnalysedRelease,
    cost: Cost,
    payer: Payer<'_>,
) -> Result<Vec<AccountCharge>, GatewayError> {
    let domain = &release.spec.unit_domain;
    let grant = store.grant(payer.consumer, &domain_key(domain)).await.map_err(translate::ledger)?;
    let granted = grant.as_ref().map(granted_cap);
    let of_domain = payer.catalog.entries().filter_map(|(_, entry)| match entry {
        Entry::Private(policy, _) if policy.privacy.unit_domain == *domain => policy.budget.per_consumer_in_domain,
        Entry::Private(..) | Entry::Public(..) | Entry::Collection(_) => None,
    });
    let limits: Vec<Cap> =
        release.datasets.values().filter_map(|policy| policy.budget.per_consumer_in_domain).chain(granted).collect();
    let periods: BTreeSet<Period> = of_domain.chain(granted).map(|cap| cap.per).chain([Period::Lifetime]).collect();
    let account = |per: Period| {
        let of_period = || limits.iter().filter(|cap| cap.per == per);
        let limit = match (of_period().map(|cap| cap.epsilon).min(), of_period().map(|cap| cap.delta).min()) {
            (Some(epsilon), Some(delta)) => Limit::from_budget(Accounting::Zcdp, epsilon, delta),
            _ => UNLIMITED,
        };
        AccountCharge {
            account: Account {
                scope: Scope::Domain(payer.consumer.to_owned()),
                dataset: domain.clone(),
                window: per.window(payer.now),
                epoch: None,
            },
            limit,
            cost,
        }
    };
    Ok(periods.into_iter().map(account).collect())
}

/// Of an account that is counted and not limited.
pub(super) const UNLIMITED: Limit = Limit { loss: Loss::Zcdp(Rho::MAX), delta: Delta::MAX };

/// The name under which grants on a unit domain are kept. No dataset has a colon in its name.
pub(super) fn domain_key(domain: &str) -> String {
    format!("domain:{domain}")
}

/// The period of a grant. The storage holds the words that were checked when it was made; an unknown one is read as the
/// strictest.
fn period_of(grant: &Grant) -> Period {
    Period::ALL.into_iter().find(|per| per.as_str() == grant.per).unwrap_or(Period::Lifetime)
}

/// A proof that a release is paid for: made here alone, needed to draw it.
#[derive(Debug)]
pub(super) struct Charged {
    pub(super) id: ChargeId,
    /// The precision that was paid for, now or earlier.
    pub(super) precision: u64,
    /// The δ that was paid with it.
    pub(super) delta: Delta,
    /// Whether it was paid for before this question.
    pub(super) earlier: bool,
    /// Whether it was charged now, and nobody had paid for the same draw before: then none is kept.
    pub(super) first: bool,
    /// What was charged now.
    pub(super) lines: Vec<ChargeLine>,
    /// The accounts that were charged now.
    pub(super) accounts: Vec<AccountCharge>,
}

impl Charged {
    /// What a charge has paid for before, by its number, precision and δ.
    pub(super) const fn earlier(id: ChargeId, precision: u64, delta: Delta) -> Self {
        Self { id, precision, delta, earlier: true, first: false, lines: Vec::new(), accounts: Vec::new() }
    }
}

/// What every release of a query would be charged, and to which accounts.
pub(super) async fn charges(
    store: &dyn Store,
    question: &Question,
    query_id: Uuid,
    priced: &Priced,
    whole: &Analysed,
    payer: Payer<'_>,
    reservation: Option<Uuid>,
) -> Result<Vec<Charge>, GatewayError> {
    // With bounds of its own it is another release than the SQL alone would be.
    let summable = Summable::of(whole).filter(|_| question.bounds.is_none()).and_then(|summable| {
        let parts = (summable.keys, summable.sums, priced.epsilon.steps());
        Some((summable.base, serde_json::to_string(&parts).ok()?))
    });
    let mut charges = Vec::with_capacity(priced.releases.len());
    for (at, (release, analysed)) in priced.releases.iter().zip(whole.releases()).enumerate() {
        charges.push(Charge {
            consumer: payer.consumer.to_owned(),
            release: release.key,
            precision: release.precision(),
            idempotency: question.idempotency_key.as_ref().map(|key| Idempotency {
                // One key a release: the client's own, and for those after the first its place beside it.
                key: if at == 0 { key.clone() } else { format!("{key}\u{1f}{at}") },
                request_hash: request_hash(question, priced),
            }),
            query: QueryRecord {
                query_id,
                sql: question.sql.clone(),
                purpose: question.purpose.clone(),
                datasets: analysed.datasets.keys().map(ToString::to_string).collect(),
                events: crate::accounting::event::to_json(&release.noise.events()),
                summable: summable.clone(),
            },
            at: payer.now,
            accounts: accounts(store, analysed, release.cost(), payer).await?,
            reservation,
        });
    }
    Ok(charges)
}

/// Charges every release of a query, or finds that the consumer has paid for it already: all, or none.
pub(super) async fn charge(
    store: &dyn Store,
    charges: &[Charge],
    priced: &Priced,
) -> Result<Vec<Charged>, GatewayError> {
    let outcomes = store.charge_all(charges).await.map_err(translate::ledger)?;
    let mut charged_all = Vec::with_capacity(outcomes.len());
    for (outcome, (charge, release)) in outcomes.into_iter().zip(charges.iter().zip(&priced.releases)) {
        charged_all.push(match outcome {
            ChargeOutcome::Charged { charge_id, charged, shared } => Charged {
                id: charge_id,
                precision: release.precision(),
                delta: release.cost().delta,
                earlier: false,
                first: !shared,
                lines: lines(&charge.accounts, |account| charged.iter().any(|(paid, _)| paid == account)),
                accounts: charge
                    .accounts
                    .iter()
                    .filter(|line| charged.iter().any(|(paid, _)| *paid == line.account))
                    .cloned()
                    .collect(),
            },
            ChargeOutcome::AlreadyPaid { charge_id, precision } => {
                let costs = store.costs_of(charge_id).await.map_err(translate::ledger)?;
                let delta = costs.iter().map(|(_, cost)| cost.delta).min().unwrap_or(Delta::ZERO);
                Charged::earlier(charge_id, precision, delta)
            }
            ChargeOutcome::Refused { mut short } => {
                // As they stand without the query's other releases, which were taken back with it.
                let names: Vec<Account> = short.iter().map(|short| short.account.clone()).collect();
                let spent = store.spent(&names).await.map_err(translate::ledger)?;
                for (short, spent) in short.iter_mut().zip(spent) {
                    short.spent = spent.unwrap_or_else(|| Spent::nothing(short.limit.accounting()));
                }
                return Err(exceeded(priced, release.accounting, &short));
            }
        });
    }
    if charged_all.len() == charges.len() {
        Ok(charged_all)
    } else {
        Err(translate::internal("a charge has no outcome"))
    }
}

/// Refuses what the payer's own accounts cannot bear. Nothing is charged, and nothing is promised: the charge decides. The
/// account of all consumers is left out, since what another pays for at this moment may be paid for there already.
pub(super) async fn affordable(
    store: &dyn Store,
    priced: &Priced,
    whole: &Analysed,
    payer: Payer<'_>,
) -> Result<(), GatewayError> {
    let mut sums: Vec<(Account, Spent)> = Vec::new();
    for (release, analysed) in priced.releases.iter().zip(whole.releases()) {
        let paid = store.has_paid(payer.consumer, release.key, release.precision()).await;
        if paid.map_err(translate::ledger)?.is_some() {
            continue;
        }
        let mut own = accounts(store, analysed, release.cost(), payer).await?;
        own.retain(|line| line.account.scope != Scope::AllConsumers);
        let names: Vec<Account> = own.iter().map(|line| line.account.clone()).collect();
        let spent = store.spent(&names).await.map_err(translate::ledger)?;
        let mut short = Vec::new();
        for (line, spent) in own.into_iter().zip(spent) {
            let at = sums.iter().position(|(account, _)| *account == line.account).unwrap_or(sums.len());
            if at == sums.len() {
                sums.push((line.account.clone(), spent.unwrap_or_else(|| Spent::nothing(line.limit.accounting()))));
            }
            let spent = &mut sums[at].1;
            match spent.after(line.cost).filter(|_| fits(&line.limit, spent, &line.cost)) {
                Some(after) => *spent = after,
                None => {
                    short.push(Shortfall { account: line.account, limit: line.limit, spent: *spent, cost: line.cost });
                }
            }
        }
        if !short.is_empty() {
            return Err(exceeded(priced, release.accounting, &short));
        }
    }
    Ok(())
}

/// The lines of several charges, one for each account.
pub(super) fn summed(lines: impl IntoIterator<Item = ChargeLine>) -> Vec<ChargeLine> {
    let mut sums: Vec<ChargeLine> = Vec::new();
    for line in lines {
        let add = |sum: &mut Option<f64>, more: Option<f64>| {
            *sum = match (*sum, more) {
                (Some(a), Some(b)) => Some(a + b),
                (a, b) => a.or(b),
            };
        };
        match sums.iter_mut().find(|sum| sum.account == line.account) {
            Some(sum) => {
                add(&mut sum.rho, line.rho);
                add(&mut sum.epsilon, line.epsilon);
                sum.delta += line.delta;
            }
            None => sums.push(line),
        }
    }
    sums
}

/// The lines of a charge as the caller reads them: each account in its own measure.
pub(super) fn lines(accounts: &[AccountCharge], paid: impl Fn(&Account) -> bool) -> Vec<ChargeLine> {
    accounts
        .iter()
        // The accounts of all consumers together are not an analyst's to see: whether they paid again would tell
        // whether another consumer has asked the same. Those that are not limited bear nothing.
        .filter(|charge| {
            charge.account.scope != Scope::AllConsumers && charge.limit != UNLIMITED && paid(&charge.account)
        })
        .filter_map(|charge| {
            let loss = charge.cost.loss.charged_to(charge.limit.accounting())?;
            let (rho, epsilon) = match loss {
                Loss::Zcdp(rho) => (Some(rho.to_f64()), None),
                Loss::Pure(epsilon) => (None, Some(epsilon.to_f64())),
            };
            Some(ChargeLine { account: charge.account.to_string(), rho, epsilon, delta: charge.cost.delta.to_f64() })
        })
        .collect()
}

fn exceeded(priced: &Priced, accounting: Accounting, short: &[Shortfall]) -> GatewayError {
    let names: Vec<String> = short.iter().map(|short| short.account.to_string()).collect();
    // What others have spent is not the caller's to see: their accounts are named, and no more.
    let is_own = |short: &&Shortfall| matches!(short.account.scope, Scope::Consumer(_) | Scope::Domain(_));
    let fits = if short.iter().all(|short| is_own(&short)) {
        short.iter().map(|short| largest_epsilon(priced, accounting, short)).fold(f64::INFINITY, f64::min)
    } else {
        0.0
    };
    // Rounded down to three digits, and a little below, so that it does fit.
    let fits = if fits > 0.0 && fits.is_finite() {
        let digit = 10f64.powf(fits.log10().floor() - 2.0);
        (fits * (1.0 - 1e-6) / digit).floor() * digit
    } else {
        0.0
    };
    let what_is_left: Vec<String> = short
        .iter()
        .filter(is_own)
        .map(|short| {
            let left = left(&short.limit, &short.spent);
            match left.loss {
                Loss::Zcdp(rho) => format!("{}: rho {rho} and delta {} are left", short.account, left.delta),
                Loss::Pure(epsilon) => {
                    format!("{}: epsilon {epsilon} and delta {} are left", short.account, left.delta)
                }
            }
        })
        .collect();
    let error = GatewayError::new(
        Code::BudgetExceeded,
        format!(
            "epsilon {} is more than is left in {}{}; nothing was charged",
            priced.epsilon,
            names.join(", "),
            if what_is_left.is_empty() { String::new() } else { format!(" ({})", what_is_left.join("; ")) }
        ),
    );
    if fits > 0.0 {
        error.with_hint(format!("the largest epsilon that fits is about {fits:.3e}; a repeated question is free"))
    } else {
        error.with_hint(
            "ask for less, or wait for the budget's next window or a larger grant; a repeated question is free",
        )
    }
}

/// The largest ε whose loss fits one account. δ of selection runs out together with the loss, and so needs no look.
fn largest_epsilon(priced: &Priced, accounting: Accounting, short: &Shortfall) -> f64 {
    let left = left(&short.limit, &short.spent);
    match (accounting, left.loss) {
        (Accounting::Zcdp, Loss::Zcdp(rho)) => {
            if rho_for(Epsilon::from_steps(1), priced.query_delta) >= rho {
                return 0.0;
            }
            epsilon_of(rho, priced.query_delta)
        }
        // Laplace noise of ε costs a zCDP account ε²/2.
        (Accounting::Pure, Loss::Zcdp(rho)) => (2.0 * rho.to_f64()).sqrt(),
        (_, Loss::Pure(epsilon)) => epsilon.to_f64(),
    }
}

/// What an idempotency key is bound to: all of the request that its answer depends on.
fn request_hash(question: &Question, priced: &Priced) -> [u8; 32] {
    let bound = (&question.sql, priced.epsilon.steps(), &question.bounds, &question.purpose, question.diagnostics);
    let text = serde_json::to_vec(&bound).unwrap_or_default();
    Sha256::digest(&text).into()
}

/// ε of what an account has spent, as reports state it: at half of its δ for zCDP, summed for pure accounts.
pub(super) fn epsilon_spent(spent: &Spent, limit: &Limit) -> f64 {
    match spent.loss {
        Loss::Zcdp(rho) if rho.steps() == 0 => 0.0,
        Loss::Zcdp(rho) => epsilon_of(rho, limit.delta),
        Loss::Pure(epsilon) => epsilon.to_f64(),
    }
}
