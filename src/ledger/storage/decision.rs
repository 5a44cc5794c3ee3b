//! What a batch of charges comes to: a pure function of what the storage holds. No I/O.
//!
//! ```text
//! Known (consumers, keys, earlier charges, accounts, reservations) + charges ──▶ outcomes + what to write
//! ```
//!
//! The charges of one query are decided one after another, each seeing those before it; all of them are made, or none.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::super::{
    AccountCharge, Charge, ChargeId, ChargeOutcome, ConflictReason, LedgerError, ReleaseKey, Scope, Shortfall,
};
use super::columns::kind;
use crate::accounting::{Cost, Spent, fits};

/// A consumer, as far as a charge needs it.
#[derive(Debug, Clone)]
pub(super) struct KnownConsumer {
    pub(super) agency: Option<String>,
    pub(super) frozen: bool,
}

/// A charge that was made before.
#[derive(Debug, Clone)]
pub(super) struct Earlier {
    pub(super) id: ChargeId,
    pub(super) consumer: String,
    pub(super) release: ReleaseKey,
    pub(super) precision: u64,
    pub(super) price: [u8; 32],
    /// Whether its draw is stored.
    pub(super) held: bool,
    /// By dataset, the cost at which it lets its release be drawn. Not read where the draw is stored.
    pub(super) costs: BTreeMap<String, Cost>,
}

/// An account as it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct KnownAccount {
    pub(super) id: i64,
    pub(super) spent: Spent,
}

/// An amount of an account that is set aside for a query that waits for approval.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reserved {
    pub(super) id: Uuid,
    pub(super) cost: Cost,
    pub(super) expires: DateTime<Utc>,
}

/// What the storage holds that bears on a batch of charges.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) consumers: HashMap<String, KnownConsumer>,
    /// By consumer and key: the request's hash, and its charge.
    pub(super) keys: HashMap<(String, String), ([u8; 32], Earlier)>,
    pub(super) charges: HashMap<ReleaseKey, Vec<Earlier>>,
    pub(super) accounts: HashMap<String, KnownAccount>,
    pub(super) reserved: HashMap<String, Vec<Reserved>>,
    pub(super) next_charge: i64,
    pub(super) next_account: i64,
}

/// A charge that is to be written.
#[derive(Debug)]
pub(super) struct NewCharge<'a> {
    pub(super) id: ChargeId,
    pub(super) charge: &'a Charge,
    pub(super) agency: Option<String>,
    pub(super) price: [u8; 32],
    pub(super) shared: bool,
    pub(super) payments: Vec<Payment<'a>>,
}

/// One account's part of a charge that every account can pay.
#[derive(Debug)]
pub(super) struct Payment<'a> {
    pub(super) account: i64,
    pub(super) line: &'a AccountCharge,
    /// What it pays, in the account's own measure.
    pub(super) paid: Cost,
}

/// An idempotency key that is to be written: it stands for a charge from now on.
#[derive(Debug)]
pub(super) struct NewKey<'a> {
    pub(super) charge: &'a Charge,
    pub(super) id: ChargeId,
}

/// What is to be written for the charges that were decided so far.
#[derive(Debug, Default)]
pub(super) struct Writes<'a> {
    pub(super) charges: Vec<NewCharge<'a>>,
    pub(super) keys: Vec<NewKey<'a>>,
}

impl Known {
    /// Decides the charges of one query. What is to be written is added to `writes`, and known from then on.
    pub(super) fn decide<'a>(
        &mut self,
        charges: &'a [Charge],
        writes: &mut Writes<'a>,
    ) -> Result<Vec<ChargeOutcome>, LedgerError> {
        let mut query = Query { known: self, accounts: HashMap::new(), writes: Writes::default(), earlier: Vec::new() };
        let mut outcomes = Vec::with_capacity(charges.len());
        for charge in charges {
            let outcome = query.charge(charge)?;
            if let ChargeOutcome::Refused { .. } = outcome {
                return Ok(vec![outcome]);
            }
            outcomes.push(outcome);
        }
        let Query { accounts, writes: of_query, earlier, .. } = query;
        self.next_charge += i64::try_from(of_query.charges.len()).unwrap_or(i64::MAX);
        self.next_account += accounts.keys().filter(|key| !self.accounts.contains_key(*key)).count() as i64;
        self.accounts.extend(accounts);
        for earlier in earlier {
            self.charges.entry(earlier.release).or_default().push(earlier);
        }
        for NewKey { charge, id } in &of_query.keys {
            if let (Some(idempotency), Some(earlier)) = (&charge.idempotency, self.find(charge.release, *id)) {
                let key = (charge.consumer.clone(), idempotency.key.clone());
                self.keys.insert(key, (idempotency.request_hash, earlier));
            }
        }
        writes.charges.extend(of_query.charges);
        writes.keys.extend(of_query.keys);
        Ok(outcomes)
    }

    fn find(&self, release: ReleaseKey, id: ChargeId) -> Option<Earlier> {
        self.charges.get(&release)?.iter().find(|earlier| earlier.id == id).cloned()
    }
}

/// The charges of one query, over what was known before it.
struct Query<'k, 'a> {
    known: &'k Known,
    /// The accounts that it has charged, as they stand after that.
    accounts: HashMap<String, KnownAccount>,
    writes: Writes<'a>,
    /// Its own charges, as those after them see them.
    earlier: Vec<Earlier>,
}

impl<'a> Query<'_, 'a> {
    fn charge(&mut self, charge: &'a Charge) -> Result<ChargeOutcome, LedgerError> {
        let name = &charge.consumer;
        let unknown = || LedgerError::UnknownConsumer { name: name.clone() };
        let consumer = self.known.consumers.get(name).ok_or_else(unknown)?;
        if consumer.frozen {
            return Err(LedgerError::Frozen { name: name.clone() });
        }
        charge.check_agency(consumer.agency.as_deref())?;
        if let Some(earlier) = self.replayed(charge)? {
            return Ok(ChargeOutcome::AlreadyPaid { charge_id: earlier.id, precision: earlier.precision });
        }
        if let Some((charge_id, precision)) = self.covered(charge) {
            self.remember(charge, charge_id);
            return Ok(ChargeOutcome::AlreadyPaid { charge_id, precision });
        }
        let price = price_of(charge);
        // This consumer has not paid for this very draw: it would have been covered.
        let shared = self.earlier_of(charge).any(|earlier| {
            earlier.precision == charge.precision && earlier.price == price && earlier.consumer != charge.consumer
        });
        let payers = charge.accounts.iter().filter(|line| !(shared && line.account.scope == Scope::AllConsumers));
        let payments = match self.pay(charge, payers.collect())? {
            Ok(payments) => payments,
            Err(short) => return Ok(ChargeOutcome::Refused { short }),
        };
        let id = ChargeId(self.known.next_charge + i64::try_from(self.earlier.len()).unwrap_or(i64::MAX));
        let charged = payments.iter().map(|payment| (payment.line.account.clone(), payment.paid)).collect();
        let costs = charge
            .accounts
            .iter()
            .filter(|line| matches!(line.account.scope, Scope::Consumer(_)))
            .map(|line| (line.account.dataset.clone(), line.cost))
            .collect();
        self.earlier.push(Earlier {
            id,
            consumer: charge.consumer.clone(),
            release: charge.release,
            precision: charge.precision,
            price,
            held: false,
            costs,
        });
        let agency = consumer.agency.clone();
        self.writes.charges.push(NewCharge { id, charge, agency, price, shared, payments });
        self.remember(charge, id);
        Ok(ChargeOutcome::Charged { charge_id: id, charged, shared })
    }

    fn earlier_of(&self, charge: &Charge) -> impl Iterator<Item = &Earlier> {
        let release = charge.release;
        let before = self.known.charges.get(&release).into_iter().flatten();
        before.chain(self.earlier.iter().filter(move |earlier| earlier.release == release))
    }

    /// The charge that this idempotency key was first used for, if it was.
    fn replayed(&self, charge: &Charge) -> Result<Option<Earlier>, LedgerError> {
        let Some(idempotency) = &charge.idempotency else { return Ok(None) };
        let key = (charge.consumer.clone(), idempotency.key.clone());
        let own = self.writes.keys.iter().find_map(|new| {
            let used = new.charge.idempotency.as_ref().filter(|used| used.key == idempotency.key)?;
            let earlier = self.earlier.iter().chain(self.known.charges.values().flatten());
            Some((used.request_hash, earlier.into_iter().find(|earlier| earlier.id == new.id)?.clone()))
        });
        let Some((request_hash, earlier)) = own.or_else(|| self.known.keys.get(&key).cloned()) else { return Ok(None) };
        if request_hash != idempotency.request_hash {
            return Err(LedgerError::IdempotencyConflict { reason: ConflictReason::DifferentRequest });
        }
        // The same request may have become dearer (a grant changed what δ it is priced at): nothing drawn, nothing covered.
        if earlier.release != charge.release || !covers(&earlier, charge) {
            return Err(LedgerError::IdempotencyConflict { reason: ConflictReason::DataOrPolicyChanged });
        }
        Ok(Some(earlier))
    }

    /// What this consumer has paid for at this precision or better: the held first, then the most precise.
    fn covered(&self, charge: &Charge) -> Option<(ChargeId, u64)> {
        let own =
            self.earlier_of(charge).filter(|earlier| earlier.consumer == charge.consumer && covers(earlier, charge));
        let best = own.max_by_key(|earlier| (earlier.held, earlier.precision, std::cmp::Reverse(earlier.id)))?;
        Some((best.id, best.precision))
    }

    fn remember(&mut self, charge: &'a Charge, id: ChargeId) {
        if charge.idempotency.is_some() {
            self.writes.keys.push(NewKey { charge, id });
        }
    }

    /// What each payer's account pays, or all those that cannot pay.
    fn pay(
        &mut self,
        charge: &Charge,
        payers: Vec<&'a AccountCharge>,
    ) -> Result<Result<Vec<Payment<'a>>, Vec<Shortfall>>, LedgerError> {
        let mut payments = Vec::with_capacity(payers.len());
        let mut short = Vec::new();
        let mut sums = Vec::with_capacity(payers.len());
        let mut opened = self.accounts.keys().filter(|key| !self.known.accounts.contains_key(*key)).count();
        for line in payers {
            let AccountCharge { account, limit, cost } = line;
            let asked = limit.accounting();
            let key = account.storage_key();
            let known = self.accounts.get(&key).or_else(|| self.known.accounts.get(&key)).copied();
            let spent = known.map_or_else(|| Spent::nothing(asked), |known| known.spent);
            if spent.loss.accounting() != asked {
                let (recorded, asked) = (kind(spent.loss.accounting()), kind(asked));
                return Err(LedgerError::AccountingChanged { account: account.clone(), recorded, asked });
            }
            let set_aside = self.known.set_aside(&key, charge).try_fold(spent, Spent::after);
            let paid = cost.loss.charged_to(asked).map(|loss| Cost { loss, ..*cost });
            match (paid, spent.after(*cost), set_aside) {
                (Some(paid), Some(sum), Some(set_aside)) if fits(limit, &set_aside, cost) => {
                    let id = known.map_or_else(
                        || {
                            opened += 1;
                            self.known.next_account + i64::try_from(opened - 1).unwrap_or(i64::MAX)
                        },
                        |known| known.id,
                    );
                    payments.push(Payment { account: id, line, paid });
                    sums.push((key, KnownAccount { id, spent: sum }));
                }
                (_, _, set_aside) => {
                    let spent = set_aside.unwrap_or(spent);
                    short.push(Shortfall { account: account.clone(), limit: *limit, spent, cost: *cost });
                }
            }
        }
        if !short.is_empty() {
            return Ok(Err(short));
        }
        self.accounts.extend(sums);
        Ok(Ok(payments))
    }
}

impl Known {
    /// What is set aside of an account for others than `charge`, and has not expired.
    fn set_aside(&self, key: &str, charge: &Charge) -> impl Iterator<Item = Cost> {
        let (own, now) = (charge.reservation, charge.at);
        let all = self.reserved.get(key).into_iter().flatten();
        all.filter(move |reserved| Some(reserved.id) != own && reserved.expires > now).map(|reserved| reserved.cost)
    }
}

/// Whether an earlier charge of the same consumer and release pays for what is asked now.
///
/// A stored draw can be shown again for nothing. Where none is stored, one must still be drawn, and it may be drawn at
/// the cost that is asked for now: so that must not be more than was paid, on any dataset.
fn covers(earlier: &Earlier, charge: &Charge) -> bool {
    if earlier.precision < charge.precision {
        return false;
    }
    if earlier.held {
        return true;
    }
    let of_consumer = |line: &&AccountCharge| matches!(line.account.scope, Scope::Consumer(_));
    charge.accounts.iter().filter(of_consumer).all(|line| {
        earlier.costs.get(&line.account.dataset).is_some_and(|paid| {
            paid.loss.accounting() == line.cost.loss.accounting()
                && paid.loss.steps() >= line.cost.loss.steps()
                && paid.delta >= line.cost.delta
        })
    })
}

/// A hash over what each scope pays on each dataset, whoever asks and in whichever window: charges of one release and
/// precision with one price pay for one draw. Agencies and unit domains pay the same, where there are any.
fn price_of(charge: &Charge) -> [u8; 32] {
    let mut terms: Vec<_> = charge
        .accounts
        .iter()
        .filter(|line| matches!(line.account.scope, Scope::Consumer(_) | Scope::AllConsumers))
        .map(|AccountCharge { account, cost, .. }| {
            let measure = kind(cost.loss.accounting());
            (account.dataset.as_str(), account.scope.kind(), measure, cost.loss.steps(), cost.delta.steps())
        })
        .collect();
    terms.sort_unstable();
    terms.dedup();
    let mut hash = Sha256::new_with_prefix(b"tollgate price 1");
    for (dataset, scope, measure, loss_steps, delta_steps) in terms {
        for text in [dataset, scope, measure] {
            hash.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_le_bytes());
            hash.update(text);
        }
        hash.update(loss_steps.to_le_bytes());
        hash.update(delta_steps.to_le_bytes());
    }
    hash.finalize().into()
}
