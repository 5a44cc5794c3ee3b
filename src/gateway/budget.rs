//! A consumer's own accounts.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::Utc;

use crate::accounting::{Spent, fraction_spent};
use crate::catalog::Entry;
use crate::ledger::Store;
use crate::policy::{DatasetName, DatasetPolicy};

use super::charge::{ConsumerAccount, Payer, consumer_accounts, epsilon_spent, grants};
use super::{BudgetLine, Caller, Gateway, GatewayError, translate};

impl Gateway {
    /// The caller's accounts on every dataset whose owner answers it.
    ///
    /// # Errors
    /// `not_allowed` for a caller that is no analyst.
    pub async fn budget(&self, caller: &Caller) -> Result<Vec<BudgetLine>, GatewayError> {
        let consumer = caller.analyst()?;
        let catalog = self.current_catalog().await?;
        let payer = Payer { consumer, agency: caller.agency.as_deref(), now: Utc::now(), catalog: &catalog };
        let datasets = datasets_of(payer);
        lines(self.store.as_ref(), &datasets, payer).await
    }
}

/// The datasets whose owner answers the payer.
pub(super) fn datasets_of(payer: Payer<'_>) -> BTreeMap<DatasetName, Arc<DatasetPolicy>> {
    payer
        .catalog
        .entries()
        .filter_map(|(name, entry)| match entry {
            Entry::Private(policy, _) if policy.consumers.allows(payer.consumer, payer.agency) => {
                Some((name.clone(), Arc::clone(policy)))
            }
            _ => None,
        })
        .collect()
}

/// The payer's accounts on `datasets`, with what they have spent.
pub(super) async fn lines(
    store: &dyn Store,
    datasets: &BTreeMap<DatasetName, Arc<DatasetPolicy>>,
    payer: Payer<'_>,
) -> Result<Vec<BudgetLine>, GatewayError> {
    let mut own: Vec<(DatasetName, &'static str, ConsumerAccount)> = Vec::new();
    let grants = grants(store, payer.consumer, datasets).await?;
    for ((name, policy), grant) in datasets.iter().zip(grants) {
        let accounting = match policy.privacy.accounting {
            crate::accounting::Accounting::Zcdp => "zcdp",
            crate::accounting::Accounting::Pure => "pure",
        };
        for account in consumer_accounts(policy, payer.consumer, grant.as_ref(), payer.now).unwrap_or_default() {
            own.push((name.clone(), accounting, account));
        }
    }
    let accounts: Vec<_> = own.iter().map(|(_, _, own)| own.account.clone()).collect();
    let spent = store.spent(&accounts).await.map_err(translate::ledger)?;
    Ok(own
        .into_iter()
        .zip(spent)
        .map(|((name, accounting, own), spent)| {
            let spent = spent.unwrap_or_else(|| Spent::nothing(own.limit.accounting()));
            BudgetLine {
                dataset: name.to_string(),
                accounting,
                per: own.per.as_str(),
                window: own.account.window.clone(),
                epsilon_limit: own.epsilon.to_f64(),
                delta_limit: own.delta.to_f64(),
                epsilon_spent: epsilon_spent(&spent, &own.limit),
                fraction_spent: fraction_spent(&own.limit, &spent),
            }
        })
        .collect())
}
