//! Charges: what a release costs, and what became of asking for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::{Account, BadCharge, ReleaseKey, Scope};
use crate::accounting::{Cost, Limit, Spent};

/// The longest idempotency key, in bytes.
const MAX_IDEMPOTENCY_KEY_BYTES: usize = 255;

/// The most accounts of one charge, so that those of a whole query fit into one statement of the storage.
const MAX_ACCOUNTS: usize = 5000;

/// The number of a charge: its place in the order in which the ledger accepted charges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ChargeId(pub i64);

impl fmt::Display for ChargeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What one account is asked to pay, and how far it may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountCharge {
    /// The account.
    pub account: Account,
    /// Its limit, as policy and grant set it now.
    pub limit: Limit,
    /// The loss of the noise and δ of the selection. An account of the other measure pays the loss converted
    /// ([`Loss::charged_to`](crate::accounting::Loss::charged_to)).
    pub cost: Cost,
}

/// A client's promise that a request with this key is one request, however often it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// The client's key; known for each consumer apart.
    pub key: String,
    /// A hash over the request, so that the key cannot be used for another.
    pub request_hash: [u8; 32],
}

/// What is written down about the query beside its price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryRecord {
    /// The query's identifier, as the analyst is told.
    pub query_id: Uuid,
    /// The SQL text.
    pub sql: String,
    /// The stated purpose.
    pub purpose: Option<String>,
    /// Every dataset that the query reads, private or public.
    pub datasets: Vec<String>,
    /// The noise that the release draws, as JSON: what a better accountant restates the past from.
    pub events: String,
    /// What it counts, and by which keys, where coarser questions can be summed from its answer: a hash, and JSON.
    pub summable: Option<([u8; 32], String)>,
}

/// One request to pay for one release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// Who asks.
    pub consumer: String,
    /// What is asked.
    pub release: ReleaseKey,
    /// How exactly: ρ or ε steps of the whole release. Larger is more exact.
    pub precision: u64,
    /// Who pays. Each dataset has an account of this consumer's, each account comes once, and all accounts of one dataset
    /// pay one cost, since they pay for one draw.
    pub accounts: Vec<AccountCharge>,
    /// The client's idempotency key.
    pub idempotency: Option<Idempotency>,
    /// What to write down.
    pub query: QueryRecord,
    /// When.
    pub at: DateTime<Utc>,
    /// The reservation that was made for it while it waited for approval: it does not stand in its own way, and ends here.
    pub reservation: Option<Uuid>,
}

impl Charge {
    /// Refuses what could spend for nothing or from somebody else's account, before storage is touched.
    pub(super) fn validate(&self) -> Result<(), BadCharge> {
        if self.accounts.is_empty() {
            return Err(BadCharge::NoAccounts);
        }
        if self.accounts.len() > MAX_ACCOUNTS {
            return Err(BadCharge::TooManyAccounts { most: MAX_ACCOUNTS });
        }
        if self.precision == 0 || i64::try_from(self.precision).is_err() {
            return Err(BadCharge::Precision { precision: self.precision });
        }
        if let Some(idempotency) = &self.idempotency
            && !(1..=MAX_IDEMPOTENCY_KEY_BYTES).contains(&idempotency.key.len())
        {
            return Err(BadCharge::IdempotencyKeyLength { max_bytes: MAX_IDEMPOTENCY_KEY_BYTES });
        }
        let mut seen = BTreeSet::new();
        let mut paid_by_consumer = BTreeSet::new();
        let mut costs = BTreeMap::new();
        for AccountCharge { account, limit, cost } in &self.accounts {
            match cost.loss.charged_to(limit.accounting()) {
                None => return Err(BadCharge::WrongMeasure { account: account.clone() }),
                Some(loss) if loss.steps() == 0 => return Err(BadCharge::Free { account: account.clone() }),
                Some(_) => {}
            }
            if *costs.entry((account.dataset.as_str(), account.epoch.as_deref())).or_insert(*cost) != *cost {
                return Err(BadCharge::CostsDiffer { dataset: account.dataset.clone() });
            }
            if !seen.insert(account) {
                return Err(BadCharge::AccountTwice { account: account.clone() });
            }
            match &account.scope {
                Scope::Consumer(name) | Scope::Domain(name) if *name == self.consumer => {
                    paid_by_consumer.insert((account.dataset.as_str(), account.epoch.as_deref()));
                }
                Scope::Consumer(_) | Scope::Domain(_) => {
                    return Err(BadCharge::AccountOfAnother { account: account.clone() });
                }
                // Whose agency it is, storage knows.
                Scope::Agency(_) | Scope::AllConsumers => {}
            }
        }
        // Every dataset that anyone pays for is paid for by the one who is answered.
        match costs.keys().find(|dataset| !paid_by_consumer.contains(*dataset)) {
            Some((dataset, _)) => Err(BadCharge::ConsumerPaysNothing { dataset: (*dataset).to_owned() }),
            None => Ok(()),
        }
    }

    /// That the agency of the consumer, if it has one, pays wherever the consumer does, and no other agency anywhere.
    pub(super) fn check_agency(&self, agency: Option<&str>) -> Result<(), BadCharge> {
        let of = |scope: fn(&Scope) -> bool| {
            let accounts = self.accounts.iter().map(|line| &line.account).filter(move |account| scope(&account.scope));
            accounts.map(|account| (account.dataset.as_str(), account.epoch.as_deref())).collect::<BTreeSet<_>>()
        };
        let wrong = |account: &&AccountCharge| match &account.account.scope {
            Scope::Agency(name) => agency != Some(name.as_str()),
            Scope::Consumer(_) | Scope::AllConsumers | Scope::Domain(_) => false,
        };
        if let Some(line) = self.accounts.iter().find(wrong) {
            return Err(BadCharge::AccountOfAnother { account: line.account.clone() });
        }
        let by_consumer = of(|scope| matches!(scope, Scope::Consumer(_)));
        let by_agency = of(|scope| matches!(scope, Scope::Agency(_)));
        match by_consumer.difference(&by_agency).next() {
            Some((dataset, _)) if agency.is_some() => {
                Err(BadCharge::AgencyPaysNothing { dataset: (*dataset).to_owned() })
            }
            _ => Ok(()),
        }
    }
}

/// An account that cannot pay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortfall {
    /// The account.
    pub account: Account,
    /// How far it may go.
    pub limit: Limit,
    /// What it has spent.
    pub spent: Spent,
    /// What it was asked to pay.
    pub cost: Cost,
}

/// What became of a [`Charge`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChargeOutcome {
    /// The charge is on disk: the release may be drawn.
    Charged {
        /// Its number.
        charge_id: ChargeId,
        /// Which accounts paid what, each in its own measure.
        charged: Vec<(Account, Cost)>,
        /// Whether the `all_consumers` accounts had paid for the same draw before, and did not pay again.
        shared: bool,
    },
    /// This consumer has paid for this release before. Nothing was charged.
    ///
    /// Answer from [`Store::held_for`](super::Store::held_for). Where nothing is held yet, the release may be drawn at
    /// this precision and the cost of [`Store::costs_of`](super::Store::costs_of), and kept under this charge.
    AlreadyPaid {
        /// The charge that paid.
        charge_id: ChargeId,
        /// The precision that it paid for: at least the one asked for.
        precision: u64,
    },
    /// Some account cannot pay. Nothing was written.
    Refused {
        /// Every account that cannot pay.
        short: Vec<Shortfall>,
    },
}
