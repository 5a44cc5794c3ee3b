//! What can go wrong in the ledger. Messages say what to do next, and hold no data value and no secret.
//!
//! Storage errors keep their source for the log. The messages of `SchemaTooNew`, `Open` and `Migration` name the ledger's
//! file, and those of `Inconsistent` name consumers: they are for the operator and are not to be sent to an analyst.

use std::sync::Arc;

use thiserror::Error;
use uuid::Uuid;

use super::{Account, ChargeId, Role};

/// Why the ledger did not do what it was asked.
///
/// Its sources are shared, since a batch that fails fails for all who are in it.
#[derive(Debug, Clone, Error)]
pub enum LedgerError {
    /// No consumer of this name.
    #[error("consumer {name:?} is not known; an administrator adds it with `tollgate consumer add`")]
    UnknownConsumer {
        /// The name that was asked for.
        name: String,
    },
    /// A consumer of this name is there already.
    #[error("consumer {name:?} exists already; choose another name")]
    ConsumerExists {
        /// The name.
        name: String,
    },
    /// The consumer is frozen.
    #[error("consumer {name:?} is frozen; ask the budget administrator to lift it")]
    Frozen {
        /// The consumer.
        name: String,
    },
    /// A name that storage, logs or headers could misread.
    #[error(
        "a name has at most {max_bytes} characters, starts with a letter or digit, and holds only letters, digits and `._@-`"
    )]
    InvalidName {
        /// The longest name, in bytes.
        max_bytes: usize,
    },
    /// The idempotency key was used before, for something else.
    #[error("the idempotency key was used before: {reason}; send the request again with a new key")]
    IdempotencyConflict {
        /// For what.
        reason: ConflictReason,
    },
    /// The charge itself is wrong: the caller's mistake, never the analyst's.
    #[error("the charge cannot be written: {0}; this is a fault in the gateway, please report it")]
    BadCharge(#[from] BadCharge),
    /// The account was opened under another kind of accounting.
    #[error(
        "account {account} is kept in {recorded} accounting and the policy now asks for {asked}; amounts of different \
         kinds cannot be summed, so the owner must restore `accounting` or register the dataset under a new name"
    )]
    AccountingChanged {
        /// The account.
        account: Account,
        /// The kind in which it was opened: `zcdp` or `pure`.
        recorded: &'static str,
        /// The kind that is asked for now.
        asked: &'static str,
    },
    /// No charge of this number.
    #[error(
        "charge {charge} is not in the ledger; check that the gateway uses the storage that the charge was made in"
    )]
    UnknownCharge {
        /// The number.
        charge: ChargeId,
    },
    /// A release was to be kept under a charge that did not pay for it.
    #[error("charge {charge} did not pay for this release at this precision, so its answer cannot be kept or shown")]
    NotPaidFor {
        /// The charge.
        charge: ChargeId,
    },
    /// The token asked for cannot be.
    #[error(transparent)]
    BadToken(#[from] BadToken),
    /// No token of this identifier.
    #[error("token {id} is not known; the identifier is the one printed beside the secret when it was made")]
    UnknownToken {
        /// The identifier.
        id: Uuid,
    },
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes for a secret; no token was made, try again")]
    NoRandomness(#[source] Arc<rand::rngs::SysError>),
    /// The storage URL is of no kind that is known.
    #[error(
        "storage of kind {scheme:?} is not supported; write `sqlite://PATH`, a file on a local disk (a ledger in memory \
         would not outlive a crash), or `postgres://USER@HOST/DATABASE`"
    )]
    UnsupportedUrl {
        /// What stands before the first `:`. The rest may hold a password.
        scheme: String,
    },
    /// The storage URL is no PostgreSQL address.
    #[error("the storage's PostgreSQL address cannot be read; write `postgres://USER:PASSWORD@HOST:PORT/DATABASE`")]
    BadPostgresUrl,
    /// There is no ledger where one was to be looked at.
    #[error("there is no ledger at {path}; check `storage.url`, and the folder that a relative path is relative to")]
    NoLedger {
        /// Where none is.
        path: String,
    },
    /// A newer Tollgate has written this ledger.
    #[error(
        "the ledger at {path} has schema {found} and this build knows {known}; run the newer Tollgate that wrote it, \
         since an older one could misread what was spent"
    )]
    SchemaTooNew {
        /// Where the ledger is.
        path: String,
        /// The schema found.
        found: i64,
        /// The newest schema known.
        known: i64,
    },
    /// The storage could not be opened.
    #[error("the ledger at {path} cannot be opened; check that the folder exists and that this user may write there")]
    Open {
        /// Where.
        path: String,
        /// Why.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// The schema could not be brought up to date.
    #[error("the schema of the ledger at {path} cannot be brought up to date; nothing was changed")]
    Migration {
        /// Where.
        path: String,
        /// Why.
        #[source]
        source: Arc<sqlx::migrate::MigrateError>,
    },
    /// Others were writing for too long. Nothing was written.
    #[error("the ledger has been busy for too long; nothing was written, try again in a moment")]
    Busy,
    /// The storage failed. Nothing was written.
    #[error("the ledger's storage failed while {doing}; nothing was written, try again")]
    Storage {
        /// What it was doing.
        doing: &'static str,
        /// Why.
        #[source]
        source: Arc<sqlx::Error>,
    },
    /// The task that writes is gone: it may or may not have written this.
    #[error("the ledger's writer ended while {doing}; restart the gateway, then send the request again")]
    WriterGone {
        /// What it was doing.
        doing: &'static str,
    },
    /// The storage failed while committing: what was written may be there or not.
    #[error(
        "the ledger's storage failed while {doing}, at the commit; it may have been written, so send the same request again \
         with the same idempotency key"
    )]
    CommitUnknown {
        /// What it was doing.
        doing: &'static str,
        /// Why.
        #[source]
        source: Arc<sqlx::Error>,
    },
    /// A stored value is not one that this code writes.
    #[error("the ledger holds a {what} that cannot be right; stop the gateway and run a check, or restore a backup")]
    Corrupt {
        /// Which value.
        what: &'static str,
    },
    /// No dataset of this name has a policy in the storage.
    #[error("dataset {dataset:?} is not registered; `tollgate dataset list` shows those that are")]
    UnknownDataset {
        /// The name.
        dataset: String,
    },
    /// The dataset was withdrawn, for good.
    #[error("dataset {dataset:?} was withdrawn, and its accounts outlive it: register the data under another name")]
    Withdrawn {
        /// The dataset.
        dataset: String,
    },
    /// The storage holds fewer entries of the log than were seen in it before.
    #[error(
        "the ledger lacks entries that were in it before: it was rolled back, or is an older copy; restore the newest"
    )]
    RolledBack,
    /// Another policy came into force since the catalog was read.
    #[error("another policy came into force in between; nothing was changed, send the request again")]
    PoliciesChanged,
    /// No request or approval of this identifier.
    #[error("there is no {what} {id}")]
    UnknownRequest {
        /// A budget request, or an approval.
        what: &'static str,
        /// The identifier.
        id: Uuid,
    },
    /// Too many queries of the consumer wait for approval.
    #[error("{most} queries of yours wait for a steward; wait for an answer, or until they expire")]
    TooManyOpen {
        /// The most.
        most: i64,
    },
    /// It was decided before.
    #[error("{what} {id} was decided before")]
    DecidedBefore {
        /// A budget request, or an approval.
        what: &'static str,
        /// The identifier.
        id: Uuid,
    },
    /// Storage of this kind is not backed up from here.
    #[error(
        "PostgreSQL is backed up with its own tools (`pg_dump`, or a base backup); then run `tollgate ledger check`"
    )]
    BackupElsewhere,
    /// The place of a backup is taken.
    #[error("{path} is there already; a backup is never written over another file")]
    BackupExists {
        /// Where.
        path: String,
    },
    /// A check found that the ledger does not agree with itself.
    #[error("the ledger does not agree with itself: {}; stop the gateway and restore a backup", findings.join("; "))]
    Inconsistent {
        /// What was found, one sentence each.
        findings: Vec<String>,
    },
}

/// How a request differs from the one that its idempotency key was used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ConflictReason {
    /// The request is another one.
    #[error("for a different request")]
    DifferentRequest,
    /// The request is the same, but its answer would not be: data, policy or grant changed in between.
    #[error("for the same request, but the data, a policy or a grant has changed since")]
    DataOrPolicyChanged,
}

/// What makes a charge one that must not be written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadCharge {
    /// Nobody pays.
    #[error("it names no account")]
    NoAccounts,
    /// The precision is zero or more than storage holds.
    #[error("its precision is {precision}, not between 1 and 2^63 - 1")]
    Precision {
        /// The precision.
        precision: u64,
    },
    /// An account would pay no loss at all.
    #[error("account {account} would pay nothing")]
    Free {
        /// The account.
        account: Account,
    },
    /// The noise's loss has no equivalent in the account's measure.
    #[error("account {account} adds up pure losses, which Gaussian noise has none of")]
    WrongMeasure {
        /// The account.
        account: Account,
    },
    /// Accounts of one dataset would pay differently for one draw.
    #[error("accounts of {dataset} pay different costs for one draw")]
    CostsDiffer {
        /// The dataset.
        dataset: String,
    },
    /// An account comes twice, so its sum would be checked wrongly.
    #[error("account {account} is named twice")]
    AccountTwice {
        /// The account.
        account: Account,
    },
    /// The account is another consumer's.
    #[error("account {account} belongs to another consumer")]
    AccountOfAnother {
        /// The account.
        account: Account,
    },
    /// A dataset is read for which the consumer does not pay.
    #[error("the consumer pays nothing for {dataset}")]
    ConsumerPaysNothing {
        /// The dataset.
        dataset: String,
    },
    /// A dataset is read for which the consumer's agency does not pay.
    #[error("the consumer's agency pays nothing for {dataset}")]
    AgencyPaysNothing {
        /// The dataset.
        dataset: String,
    },
    /// It charges more accounts than are written at once.
    #[error("it charges more than {most} accounts: ask for fewer epochs or datasets at once")]
    TooManyAccounts {
        /// The most.
        most: usize,
    },
    /// The idempotency key is empty or too long.
    #[error("an idempotency key has between 1 and {max_bytes} bytes")]
    IdempotencyKeyLength {
        /// The longest key.
        max_bytes: usize,
    },
}

/// What makes a token one that must not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadToken {
    /// An analyst asks for somebody.
    #[error("an analyst's token needs the consumer that it asks for: add `--consumer NAME`")]
    AnalystNeedsConsumer,
    /// A steward speaks for somebody.
    #[error("a steward's token needs the owner that it speaks for: add `--owner OWNER`")]
    StewardNeedsOwner,
    /// Only an analyst asks for a consumer.
    #[error("a token of role {role} belongs to no consumer: leave `--consumer` out")]
    NoConsumerFor {
        /// The role.
        role: Role,
    },
    /// Only a steward speaks for an owner.
    #[error("a token of role {role} belongs to no owner: leave `--owner` out")]
    NoOwnerFor {
        /// The role.
        role: Role,
    },
}
