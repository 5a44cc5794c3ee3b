//! Alerts: an account has passed a threshold of its budget.
//!
//! ```text
//! charge ─▶ is some account's share past a threshold? ─▶ note it in the ledger, once ─▶ log line, webhook
//!              (integers, in a task of its own: an answer waits for none of it)
//! ```
//!
//! Each account, window and threshold is told of once, across restarts and gateways: the ledger notes it before it is told,
//! so that a crash between the two loses an alert and never doubles one. What is told follows from charges and policies
//! alone.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::accounting::{Limit, Spent};
use crate::config;
use crate::ledger::{Account, AccountCharge, Store};

use super::charge::UNLIMITED;

/// How long a webhook is waited for.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long it is waited before each further attempt.
const PAUSES: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(5), Duration::from_secs(30)];

/// What watches the accounts.
#[derive(Clone)]
pub(super) struct Alerts(Arc<Watch>);

struct Watch {
    /// In percent, ascending.
    thresholds: Vec<u64>,
    webhook: Option<String>,
    agent: ureq::Agent,
    store: Arc<dyn Store>,
    /// What is known to be noted, so that the ledger is not asked again at every charge.
    noted: Mutex<HashSet<(String, u64)>>,
}

/// What is posted to the webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Alert {
    /// `budget_threshold`.
    kind: &'static str,
    /// When it was seen.
    at: DateTime<Utc>,
    /// `consumer`, `agency`, `all_consumers` or `domain`.
    scope: &'static str,
    /// Which consumer or agency; empty for all consumers.
    subject: String,
    /// The dataset, or the unit domain.
    dataset: String,
    /// The window of the budget.
    window: String,
    /// The epoch, where the dataset is accounted by epochs.
    epoch: Option<String>,
    /// The threshold that was passed, in percent.
    threshold_percent: u64,
}

impl Alerts {
    pub(super) fn new(config: &config::Alerts, store: Arc<dyn Store>) -> Self {
        let mut thresholds = config.thresholds_percent.clone();
        thresholds.sort_unstable();
        thresholds.dedup();
        // The operator names the address: no proxy of the environment stands between.
        let agent = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).proxy(None).max_redirects(0).build();
        let (webhook, noted) = (config.webhook.clone(), Mutex::default());
        Self(Arc::new(Watch { thresholds, webhook, agent: agent.into(), store, noted }))
    }

    /// Looks at the accounts that were charged, beside the answer.
    pub(super) fn charged(&self, accounts: Vec<AccountCharge>) {
        if self.0.thresholds.is_empty() || accounts.is_empty() {
            return;
        }
        let watch = Arc::clone(&self.0);
        tokio::spawn(async move { watch.look(accounts).await });
    }
}

impl Watch {
    async fn look(self: Arc<Self>, accounts: Vec<AccountCharge>) {
        let names: Vec<Account> = accounts.iter().map(|charge| charge.account.clone()).collect();
        let new = match self.store.spent(&names).await {
            Ok(spent) => {
                let passed = self.passed(&accounts, &spent);
                if passed.is_empty() {
                    return;
                }
                self.store.note_thresholds(&passed).await.map(|new| (passed, new))
            }
            Err(error) => Err(error),
        };
        let (passed, new) = match new {
            Ok(new) => new,
            Err(error) => {
                // It is looked at again when the account is charged next.
                tracing::error!(%error, "it could not be seen whether budgets have passed their thresholds");
                return;
            }
        };
        let keys = passed.iter().map(|(account, percent)| (account.storage_key(), *percent));
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).extend(keys);
        for (account, percent) in new {
            let name = account.storage_key();
            tracing::warn!(account = %name, percent, "an account has passed a threshold of its budget");
            self.post(&account, percent).await;
        }
    }

    /// The thresholds that accounts have passed and that are not known to be noted.
    fn passed(&self, accounts: &[AccountCharge], spent: &[Option<Spent>]) -> Vec<(Account, u64)> {
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let mut passed = Vec::new();
        for (charge, spent) in accounts.iter().zip(spent) {
            let Some(spent) = spent.filter(|_| charge.limit != UNLIMITED) else { continue };
            let key = charge.account.storage_key();
            for percent in self.thresholds.iter().filter(|percent| reaches(&charge.limit, &spent, **percent)) {
                if !noted.contains(&(key.clone(), *percent)) {
                    passed.push((charge.account.clone(), *percent));
                }
            }
        }
        passed
    }

    /// Posts an alert to the webhook, and tries again a few times.
    async fn post(&self, account: &Account, threshold_percent: u64) {
        let Some(address) = self.webhook.clone() else { return };
        let alert = Alert {
            kind: "budget_threshold",
            at: Utc::now(),
            scope: account.scope.kind(),
            subject: account.scope.subject().to_owned(),
            dataset: account.dataset.clone(),
            window: account.window.clone(),
            epoch: account.epoch.clone(),
            threshold_percent,
        };
        for pause in [None].into_iter().chain(PAUSES.map(Some)) {
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
            let (agent, address, alert) = (self.agent.clone(), address.clone(), alert.clone());
            let sent = tokio::task::spawn_blocking(move || agent.post(address).send_json(&alert).map(|_| ())).await;
            if matches!(sent, Ok(Ok(()))) {
                return;
            }
        }
        // Not the error, which may hold the address, and with it what is secret in it.
        tracing::error!("the webhook of [alerts] did not take an alert; it is in this log alone");
    }
}

/// Whether so many percent of one of the two limits are spent. A limit of zero has no share.
fn reaches(limit: &Limit, spent: &Spent, percent: u64) -> bool {
    let past = |spent: u64, limit: u64| limit > 0 && u128::from(spent) * 100 >= u128::from(limit) * u128::from(percent);
    past(spent.loss.steps(), limit.loss.steps()) || past(spent.delta.steps(), limit.delta.steps())
}
