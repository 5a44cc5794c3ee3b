//! The ledger: what privacy budget there is, who has spent it, and which drawn answers it paid for. Durable.
//!
//! ```text
//! gateway ── charge ──▶ accounts + charges + charge lines     one transaction, all or none, fsynced before any draw
//!         ── keep_release ──▶ held releases                    the first stored draw wins, all answer from it
//!         ── token_for, grant, spent ──▶ readers               never wait for a writer
//! ```
//!
//! What holds, whatever happens to the process (DESIGN 4.3):
//!
//! * The ledger never says less than was released: a charge is on disk before [`Store::charge`] returns.
//! * An account never passes its limit, however many charges come at once. The rule that decides is
//!   [`crate::accounting::fits`], over integers; no SQL decides.
//! * One draw is shown for one price: releases are held by key, precision and the cost that they were drawn at.
//! * What was spent is never taken back: charges and their lines cannot be changed or deleted, not even by this code.
//!
//! The ledger does not know SQL, plans, policies or noise. It knows identities, since who pays decides what is paid.

mod account;
mod actor;
mod charge;
mod entry;
mod error;
mod grant;
mod identity;
mod registered;
mod release;
mod request;
mod retention;
mod spend;
mod storage;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;

use crate::accounting::{Cost, Spent};
use crate::audit::merkle::{Hash, NodeId, Tree};

pub use account::{Account, Scope};
pub use actor::Actor;
pub use charge::{AccountCharge, Charge, ChargeId, ChargeOutcome, Idempotency, QueryRecord, Shortfall};
pub use entry::{Decision, ENTRY_VERSION, Entry, LogEntry, LoggedLine, Receipt, Reuse};
pub use error::{BadCharge, BadToken, ConflictReason, LedgerError};
pub use grant::Grant;
pub use identity::{Consumer, NewToken, Role, Token, TokenSecret, UnknownRole};
pub use registered::{DatasetState, NewPolicy, PolicyOrigin, PolicyVersion, StatedPolicy};
pub use release::{HeldRelease, NewDraw, PaidDraw, ReleaseKey};
pub use request::{Approval, ApprovalAsked, BudgetRequest, RequestState, Ruling};
pub use retention::{Expiry, Forgotten};
pub use spend::{
    AccountSearch, AccountSum, DaySpend, Dimension, EventGroup, LifetimeSum, QueryLine, QueryOrder, QuerySearch,
    SpendLine, SpendQuery,
};

/// The storage of the ledger. Object-safe, so that every interface and test takes `&dyn Store`.
///
/// A future that is dropped before it is done leaves either all of its change or none, never a part.
#[async_trait]
pub trait Store: Send + Sync {
    /// Decides and writes one charge, in one transaction: all accounts pay, or none does.
    ///
    /// Who is asking comes first, since a frozen consumer must not even be given an answer that it has paid for. Then:
    ///
    /// 1. A known idempotency key answers for the charge that it was given for, or conflicts with it.
    /// 2. What this consumer has paid for at this precision or a better one is not paid again.
    /// 3. What another consumer has paid for, at exactly this precision and cost, is the same draw: the `all_consumers`
    ///    accounts do not pay again ([`ChargeOutcome::Charged`] with `shared`).
    /// 4. Otherwise every account pays, if [`crate::accounting::fits`] says so for every one of them.
    ///
    /// The charge is durable when this returns [`ChargeOutcome::Charged`]. After an error nothing may be drawn.
    ///
    /// # Errors
    /// [`LedgerError::UnknownConsumer`], [`LedgerError::Frozen`], [`LedgerError::IdempotencyConflict`],
    /// [`LedgerError::BadCharge`] (the caller's mistake), [`LedgerError::AccountingChanged`], and storage errors.
    /// [`LedgerError::CommitUnknown`] means that the charge may have been made.
    async fn charge(&self, charge: &Charge) -> Result<ChargeOutcome, LedgerError> {
        match self.charge_all(std::slice::from_ref(charge)).await?.pop() {
            Some(outcome) => Ok(outcome),
            None => Err(LedgerError::BadCharge(BadCharge::NoAccounts)),
        }
    }

    /// The charges of one query, decided in order in one transaction, each seeing those before it: all of them are made,
    /// or none. Either one outcome for each, or a single [`ChargeOutcome::Refused`], whose `spent` counts the charges
    /// before it in the list, which were taken back.
    ///
    /// # Errors
    /// As [`Store::charge`].
    async fn charge_all(&self, charges: &[Charge]) -> Result<Vec<ChargeOutcome>, LedgerError>;

    /// What the release of `charge` was priced at, by dataset: the cost at which its noise must be drawn.
    ///
    /// After [`ChargeOutcome::AlreadyPaid`] with nothing held yet (a crash came between charge and draw), this and the
    /// outcome's precision say what may be drawn.
    ///
    /// # Errors
    /// [`LedgerError::UnknownCharge`], and storage errors.
    async fn costs_of(&self, charge: ChargeId) -> Result<Vec<(String, Cost)>, LedgerError>;

    /// Keeps the drawn answer of a paid release, and returns the one to show: the first that was kept.
    ///
    /// Two runs of one paid release may both have drawn; only what this returns may leave the gateway. `precision` must
    /// be the one that `charge` paid for. `facts` is JSON about the draw (mechanism, scale), never a data value.
    ///
    /// # Errors
    /// [`LedgerError::NotPaidFor`] when `charge` is not a charge for this key and precision, and storage errors.
    async fn keep_release(
        &self,
        key: ReleaseKey,
        precision: u64,
        charge: ChargeId,
        payload: &[u8],
        facts: &str,
    ) -> Result<HeldRelease, LedgerError>;

    /// The same as [`Store::keep_release`], and if the draw is the one that is kept, `entry` is appended to the log in the same
    /// transaction, as [`Store::record`] does. No receipt comes back where another draw is kept: then that is the one to show,
    /// and nothing was recorded.
    ///
    /// # Errors
    /// As [`Store::keep_release`].
    async fn keep_and_record(
        &self,
        draw: NewDraw,
        entry: Entry,
        reuses: Vec<Reuse>,
    ) -> Result<(HeldRelease, Option<Receipt>), LedgerError>;

    /// The most precise held release of `key` at or above `min_precision`, *whoever* paid for it.
    ///
    /// For the gateway's own bookkeeping. To answer a consumer use [`Store::held_for`]: what this returns may be more
    /// exact than the consumer has paid for.
    ///
    /// # Errors
    /// Storage errors.
    async fn held_release(&self, key: ReleaseKey, min_precision: u64) -> Result<Option<HeldRelease>, LedgerError>;

    /// The most precise held release of `key` at or above `min_precision` among those that `consumer` has paid for.
    ///
    /// # Errors
    /// Storage errors.
    async fn held_for(
        &self,
        consumer: &str,
        key: ReleaseKey,
        min_precision: u64,
    ) -> Result<Option<HeldRelease>, LedgerError>;

    /// The same as [`Store::held_for`], with the consumer's own charge for it.
    ///
    /// # Errors
    /// [`LedgerError::UnknownConsumer`], [`LedgerError::Frozen`], and storage errors.
    async fn paid_draw(
        &self,
        consumer: &str,
        key: ReleaseKey,
        min_precision: u64,
    ) -> Result<Option<PaidDraw>, LedgerError>;

    /// The best precision of `key` that `consumer` has paid for, at or above `min_precision`; held or not.
    ///
    /// # Errors
    /// Storage errors.
    async fn has_paid(&self, consumer: &str, key: ReleaseKey, min_precision: u64) -> Result<Option<u64>, LedgerError>;

    /// The statements of `consumer`'s answers about `base` (see [`QueryRecord::summable`]), each with its keys and sums as
    /// JSON: the newest twenty that are held.
    ///
    /// # Errors
    /// Storage errors.
    async fn summable(&self, consumer: &str, base: [u8; 32]) -> Result<Vec<(String, String)>, LedgerError>;

    /// What each account has spent, in the order asked. `None`: nothing was ever charged to it.
    ///
    /// # Errors
    /// Storage errors.
    async fn spent(&self, accounts: &[Account]) -> Result<Vec<Option<Spent>>, LedgerError>;

    /// Every account of these datasets (or unit domains) that was ever charged, of all windows; of every dataset if none is
    /// named.
    ///
    /// # Errors
    /// Storage errors.
    async fn account_sums(&self, datasets: &[String]) -> Result<Vec<AccountSum>, LedgerError>;

    /// The accounts that `search` names, of those that were ever charged.
    ///
    /// # Errors
    /// Storage errors.
    async fn accounts(&self, search: &AccountSearch) -> Result<Vec<AccountSum>, LedgerError>;

    /// What was spent over all windows by the scopes that `search` names; its windows are not looked at.
    ///
    /// A consumer with two accounts of a dataset (a cap and a grant of different windows) is counted once.
    ///
    /// # Errors
    /// Storage errors.
    async fn lifetimes(&self, search: &AccountSearch) -> Result<Vec<LifetimeSum>, LedgerError>;

    /// What an account spent, day by day, from the first.
    ///
    /// # Errors
    /// Storage errors.
    async fn days(&self, account: &Account) -> Result<Vec<DaySpend>, LedgerError>;

    /// The noise that one scope has paid for on a dataset (or unit domain) and epoch over all windows, equal charges together.
    ///
    /// # Errors
    /// Storage errors.
    async fn events(&self, scope: &Scope, dataset: &str, epoch: Option<&str>) -> Result<Vec<EventGroup>, LedgerError>;

    /// Notes that accounts have passed thresholds of so many percent, and gives back those of which it was not noted before:
    /// each once, whoever asks.
    ///
    /// # Errors
    /// Storage errors.
    async fn note_thresholds(&self, passed: &[(Account, u64)]) -> Result<Vec<(Account, u64)>, LedgerError>;

    /// Sets what an administrator grants a consumer on a dataset. The owner's cap still holds above it.
    ///
    /// # Errors
    /// [`LedgerError::UnknownConsumer`], and storage errors.
    async fn set_grant(&self, consumer: &str, dataset: &str, grant: &Grant, by: &Actor) -> Result<(), LedgerError>;

    /// The administrator's grant, where there is one.
    ///
    /// # Errors
    /// Storage errors.
    async fn grant(&self, consumer: &str, dataset: &str) -> Result<Option<Grant>, LedgerError>;

    /// Every grant, with its consumer and its dataset (or `domain:NAME`).
    ///
    /// # Errors
    /// Storage errors.
    async fn grants(&self) -> Result<Vec<(String, String, Grant)>, LedgerError>;

    /// Adds a consumer.
    ///
    /// # Errors
    /// [`LedgerError::ConsumerExists`], [`LedgerError::InvalidName`], and storage errors.
    async fn add_consumer(&self, name: &str, agency: Option<&str>, by: &Actor) -> Result<(), LedgerError>;

    /// The consumer of this name.
    ///
    /// # Errors
    /// Storage errors.
    async fn consumer(&self, name: &str) -> Result<Option<Consumer>, LedgerError>;

    /// All consumers, by name.
    ///
    /// # Errors
    /// Storage errors.
    async fn consumers(&self) -> Result<Vec<Consumer>, LedgerError>;

    /// Freezes a consumer (it can neither pay nor be given what it paid for), or thaws it.
    ///
    /// # Errors
    /// [`LedgerError::UnknownConsumer`], and storage errors.
    async fn set_frozen(&self, name: &str, frozen: bool, by: &Actor) -> Result<(), LedgerError>;

    /// Makes a token. The secret is returned here and never again: the ledger stores its SHA-256 alone.
    ///
    /// # Errors
    /// [`LedgerError::BadToken`], [`LedgerError::UnknownConsumer`], [`LedgerError::NoRandomness`], and storage errors.
    async fn create_token(&self, new: &NewToken, by: &Actor) -> Result<(Uuid, TokenSecret), LedgerError>;

    /// Revokes a token, from now on. Revoking twice keeps the first time.
    ///
    /// # Errors
    /// [`LedgerError::UnknownToken`], and storage errors.
    async fn revoke_token(&self, id: Uuid, by: &Actor) -> Result<(), LedgerError>;

    /// The token whose secret this is, unless it is unknown or revoked.
    ///
    /// # Errors
    /// Storage errors.
    async fn token_for(&self, secret: &str) -> Result<Option<Token>, LedgerError>;

    /// The token of this identifier, revoked or not.
    ///
    /// # Errors
    /// Storage errors.
    async fn token(&self, id: Uuid) -> Result<Option<Token>, LedgerError>;

    /// Appends a decision that charges nothing to the log, and keeps what it saved for reports. It is durable when this
    /// returns.
    ///
    /// # Errors
    /// Storage errors; [`LedgerError::CommitUnknown`] means that it may have been appended.
    async fn record(&self, entry: Entry, reuses: Vec<Reuse>) -> Result<Receipt, LedgerError>;

    /// The log's tree as it stands: its size and its right edge.
    ///
    /// # Errors
    /// Storage errors.
    async fn log_tree(&self) -> Result<Tree, LedgerError>;

    /// At most `limit` entries from the place `from` on; those about one of `datasets`, where any are named.
    ///
    /// # Errors
    /// Storage errors.
    async fn log_entries(&self, from: u64, limit: u64, datasets: &[String]) -> Result<Vec<LogEntry>, LedgerError>;

    /// The hashes of these complete subtrees of the log, those that are there.
    ///
    /// # Errors
    /// Storage errors.
    async fn log_nodes(&self, ids: &[NodeId]) -> Result<HashMap<NodeId, Hash>, LedgerError>;

    /// Whether a checkpoint of this ledger was ever kept outside it: then one must be there.
    ///
    /// # Errors
    /// Storage errors.
    async fn anchored(&self) -> Result<bool, LedgerError>;

    /// Writes down that a checkpoint is kept outside.
    ///
    /// # Errors
    /// Storage errors.
    async fn set_anchored(&self) -> Result<(), LedgerError>;

    /// Puts a version of a policy in force. Nothing happens if it is in force already.
    ///
    /// # Errors
    /// [`LedgerError::Withdrawn`], and storage errors.
    async fn put_policy(&self, new: &NewPolicy, by: &Actor) -> Result<(), LedgerError>;

    /// Suspends, resumes or withdraws a dataset.
    ///
    /// # Errors
    /// [`LedgerError::UnknownDataset`], [`LedgerError::Withdrawn`], and storage errors.
    async fn set_dataset_state(
        &self,
        dataset: &str,
        state: DatasetState,
        reason: Option<&str>,
        by: &Actor,
    ) -> Result<(), LedgerError>;

    /// How often policies and states of datasets have changed: a catalog that was made at another number is out of date.
    ///
    /// # Errors
    /// Storage errors.
    async fn policy_changes(&self) -> Result<i64, LedgerError>;

    /// Every dataset as it stands, with the number of [`Store::policy_changes`] that led there.
    ///
    /// # Errors
    /// Storage errors.
    async fn policies(&self) -> Result<(i64, Vec<StatedPolicy>), LedgerError>;

    /// The newest version of each policy that came from a file.
    ///
    /// # Errors
    /// Storage errors.
    async fn policies_from_files(&self) -> Result<Vec<PolicyVersion>, LedgerError>;

    /// Every version of a dataset's policy, from the first.
    ///
    /// # Errors
    /// Storage errors.
    async fn policy_history(&self, dataset: &str) -> Result<Vec<PolicyVersion>, LedgerError>;

    /// Writes down that a consumer asks for a larger budget.
    ///
    /// # Errors
    /// [`LedgerError::UnknownConsumer`], [`LedgerError::Frozen`], and storage errors.
    async fn request_budget(
        &self,
        consumer: &str,
        dataset: &str,
        grant: &Grant,
        reason: &str,
        by: &Actor,
    ) -> Result<Uuid, LedgerError>;

    /// A request for a larger budget.
    ///
    /// # Errors
    /// Storage errors.
    async fn budget_request(&self, id: Uuid) -> Result<Option<BudgetRequest>, LedgerError>;

    /// The newest thousand requests, or those of one consumer.
    ///
    /// # Errors
    /// Storage errors.
    async fn budget_requests(&self, consumer: Option<&str>) -> Result<Vec<BudgetRequest>, LedgerError>;

    /// Decides a request. A yes sets the grant, in the same transaction.
    ///
    /// # Errors
    /// [`LedgerError::UnknownRequest`], [`LedgerError::DecidedBefore`], and storage errors.
    async fn decide_budget_request(&self, id: Uuid, ruling: &Ruling, by: &Actor) -> Result<BudgetRequest, LedgerError>;

    /// Puts a query before the stewards of its datasets and reserves its price until it expires, unless that was done and
    /// has not expired. Returns how it stands, one for each dataset.
    ///
    /// # Errors
    /// [`LedgerError::UnknownConsumer`], [`LedgerError::Frozen`], and storage errors.
    async fn ask_approval(&self, asked: &ApprovalAsked, by: &Actor) -> Result<Vec<Approval>, LedgerError>;

    /// The newest thousand queries that were put before the stewards of `datasets`.
    ///
    /// # Errors
    /// Storage errors.
    async fn approvals(&self, datasets: &[String]) -> Result<Vec<Approval>, LedgerError>;

    /// A steward's decision about a query. A no gives back what was reserved for it. A no to what was approved takes back
    /// every yes of that dataset to the same consumer's query, at whatever price it was given.
    ///
    /// # Errors
    /// [`LedgerError::UnknownRequest`], [`LedgerError::DecidedBefore`], and storage errors.
    async fn decide_approval(
        &self,
        id: Uuid,
        dataset: &str,
        ruling: &Ruling,
        by: &Actor,
    ) -> Result<Approval, LedgerError>;

    /// What was spent, summed.
    ///
    /// # Errors
    /// Storage errors.
    async fn spend(&self, query: &SpendQuery) -> Result<Vec<SpendLine>, LedgerError>;

    /// Charges, by dataset.
    ///
    /// # Errors
    /// Storage errors.
    async fn queries(&self, search: &QuerySearch) -> Result<Vec<QueryLine>, LedgerError>;

    /// How much of what may be forgotten is old enough.
    ///
    /// # Errors
    /// Storage errors.
    async fn forgettable(&self, expiry: &Expiry) -> Result<Forgotten, LedgerError>;

    /// Forgets some of what may be forgotten and is old enough, and says so in the log. All of it is gone once this gives back
    /// nothing: a call takes a little, so that charges need not wait long for it.
    ///
    /// # Errors
    /// Storage errors.
    async fn forget(&self, expiry: &Expiry, by: &Actor) -> Result<Forgotten, LedgerError>;

    /// Makes a consistent copy of the storage at `to`, while it is used.
    ///
    /// # Errors
    /// [`LedgerError::BackupElsewhere`] of a PostgreSQL database, [`LedgerError::BackupExists`], and storage errors.
    async fn backup(&self, to: &Path) -> Result<(), LedgerError>;

    /// Proves that the ledger agrees with itself: every account's sum is the sum of its lines, every held release was
    /// paid for, every shared charge has a full one before it, charges, draws and policies are what the log says of them,
    /// the log is what its tree says, and the storage itself is sound. Reads everything.
    ///
    /// # Errors
    /// [`LedgerError::Inconsistent`] with what was found, and storage errors.
    async fn check(&self) -> Result<CheckReport, LedgerError>;
}

/// What a successful [`Store::check`] went through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct CheckReport {
    /// Accounts whose sums were compared with their lines.
    pub accounts: u64,
    /// Charges.
    pub charges: u64,
    /// Lines of those charges.
    pub lines: u64,
    /// Held releases.
    pub held_releases: u64,
    /// Entries of the log.
    pub log_entries: u64,
}

/// Opens the ledger at `url` as [`open`] does, but makes none: to look at a ledger must not make an empty one that agrees with
/// itself.
///
/// # Errors
/// [`LedgerError::NoLedger`] where there is no file, or an empty one; as [`open`].
pub async fn open_existing(url: &str) -> Result<Arc<dyn Store>, LedgerError> {
    storage::Storage::require(url).await?;
    open(url).await
}

/// Opens the ledger at `url` (`sqlite://PATH`; `sqlite:///ABSOLUTE/PATH`; `postgres://USER:PASSWORD@HOST/DATABASE`), making it
/// if there is none, and brings its schema up to date.
///
/// # Errors
/// [`LedgerError::UnsupportedUrl`], [`LedgerError::BadPostgresUrl`], [`LedgerError::SchemaTooNew`] when a newer Tollgate has
/// written it, and storage errors.
pub async fn open(url: &str) -> Result<Arc<dyn Store>, LedgerError> {
    Ok(Arc::new(storage::Storage::open(url).await?))
}
