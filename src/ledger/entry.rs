//! Entries of the log: every decision, as an auditor and a steward read it (DESIGN 4.5). SQL, prices and hashes; never an answer.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::{Actor, ChargeId, Expiry, Forgotten, Role};
use crate::accounting::{Accounting, Cost};

/// The form of entries that this build writes. Readers of older forms stay.
pub const ENTRY_VERSION: u32 = 1;

/// One account's part of a charge, as the log has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LoggedLine {
    /// The account's storage key: scope, subject, dataset, window and epoch.
    pub account: String,
    /// What it adds up.
    pub accounting: Accounting,
    /// The loss, in steps of 10⁻¹² of ρ or ε.
    pub loss_steps: u64,
    /// δ, in steps of 10⁻¹⁸.
    pub delta_steps: u64,
}

impl LoggedLine {
    pub(super) fn new(account: String, paid: &Cost) -> Self {
        let (accounting, loss_steps) = (paid.loss.accounting(), paid.loss.steps());
        Self { account, accounting, loss_steps, delta_steps: paid.delta.steps() }
    }
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Decision {
    /// A release was paid for, before it was drawn.
    Charge {
        /// The charge's number.
        charge: ChargeId,
        /// The query, which may have several releases.
        query_id: Uuid,
        /// Who pays.
        consumer: String,
        /// Its agency.
        agency: Option<String>,
        /// The SQL text.
        sql: String,
        /// The stated purpose.
        purpose: Option<String>,
        /// The datasets that the release reads.
        datasets: Vec<String>,
        /// The release key, in hex: a hash over the canonical plan, the bounds, and the versions of data and policies.
        release: String,
        /// How exactly: ρ or ε steps of the whole release.
        precision: u64,
        /// Whether the same draw had been paid for by another consumer, so that `all_consumers` did not pay again.
        shared: bool,
        /// Who paid what.
        lines: Vec<LoggedLine>,
        /// The noise that was paid for.
        events: Value,
    },
    /// A release was drawn and kept.
    Draw {
        /// The charge that paid for it.
        charge: ChargeId,
        /// The release key, in hex.
        release: String,
        /// How exactly.
        precision: u64,
        /// SHA-256 of the kept values, in hex.
        payload_sha256: String,
        /// The datasets that it reads.
        datasets: Vec<String>,
    },
    /// A draw that another consumer's charge had paid for is shown to this one, which has paid as well. There is one such
    /// entry for each shared charge, as there is a draw for each other, so that the number of entries tells nobody which it was.
    Shown {
        /// The charge.
        charge: ChargeId,
        /// The datasets that it reads.
        datasets: Vec<String>,
    },
    /// A query was answered.
    Answer {
        /// The query.
        query_id: Uuid,
        /// Who asked.
        consumer: String,
        /// The SQL text.
        sql: String,
        /// The stated purpose.
        purpose: Option<String>,
        /// The datasets that it reads.
        datasets: Vec<String>,
        /// The charges that paid for its releases, now or earlier.
        charges: Vec<ChargeId>,
        /// Whether all of it had been paid for before.
        cached: bool,
        /// SHA-256 of the answer's rows as an Arrow IPC stream, in hex.
        answer_sha256: String,
    },
    /// A query was refused, for a reason that depends on policies, SQL and budgets alone.
    Refusal {
        /// Who asked.
        consumer: String,
        /// The SQL text.
        sql: String,
        /// The stated purpose.
        purpose: Option<String>,
        /// The datasets that it names, where it could be read.
        datasets: Vec<String>,
        /// The stable code of the refusal.
        code: String,
    },
    /// A policy came into force.
    Policy {
        /// The dataset.
        dataset: String,
        /// The version: SHA-256 of the canonical text, in hex.
        version: String,
        /// SHA-256 of the text as it was sent, in hex.
        text_sha256: String,
        /// Where it came from: `file`, `steward` or `operator`.
        origin: String,
        /// What changed, in words.
        changes: Value,
        /// Why, in the steward's words.
        reason: Option<String>,
    },
    /// A dataset was suspended, resumed or withdrawn.
    Dataset {
        /// The dataset.
        dataset: String,
        /// `active`, `suspended` or `withdrawn`.
        state: String,
        /// Why, in the steward's words.
        reason: Option<String>,
    },
    /// A consumer was added, frozen or thawed.
    Consumer {
        /// Its name.
        consumer: String,
        /// Its agency.
        agency: Option<String>,
        /// `added`, `frozen` or `unfrozen`.
        change: String,
    },
    /// A token was made or revoked.
    Token {
        /// Its identifier, which is no secret.
        token: Uuid,
        /// `created` or `revoked`.
        change: String,
        /// Its role, when it was made.
        role: Option<Role>,
        /// The consumer that it asks for.
        consumer: Option<String>,
        /// The owner that it speaks for.
        owner: Option<String>,
    },
    /// An administrator granted a budget.
    Grant {
        /// The consumer.
        consumer: String,
        /// The dataset, or `domain:` and a unit domain.
        dataset: String,
        /// ε of a window, in steps.
        epsilon_steps: u64,
        /// δ of a window, in steps.
        delta_steps: u64,
        /// The window's length.
        per: String,
    },
    /// A consumer asked for a larger budget.
    BudgetRequest {
        /// The request.
        request: Uuid,
        /// Who asked.
        consumer: String,
        /// The dataset.
        dataset: String,
        /// ε of a window, in steps.
        epsilon_steps: u64,
        /// δ of a window, in steps.
        delta_steps: u64,
        /// The window's length.
        per: String,
        /// Why.
        reason: String,
    },
    /// An administrator decided a request; an approval is followed by its grant.
    BudgetDecision {
        /// The request.
        request: Uuid,
        /// The dataset.
        dataset: String,
        /// `approved` or `denied`.
        decision: String,
        /// Why.
        answer: Option<String>,
    },
    /// A query of a new shape waits for stewards.
    ApprovalRequest {
        /// The approval.
        approval: Uuid,
        /// Who asked.
        consumer: String,
        /// The datasets whose stewards must agree.
        datasets: Vec<String>,
        /// The SQL text.
        sql: String,
        /// The stated purpose.
        purpose: Option<String>,
    },
    /// The operator began a new checkpoint outside the storage, where the old one was lost.
    Adoption {
        /// Why.
        reason: String,
    },
    /// What is no longer needed was forgotten: neither charges nor draws, policies or entries of this log, ever.
    Retention {
        /// Before when each kind went.
        before: Expiry,
        /// How much of each.
        forgotten: Forgotten,
    },
    /// A steward decided about a query.
    ApprovalDecision {
        /// The approval.
        approval: Uuid,
        /// The dataset.
        dataset: String,
        /// `approved` or `denied`.
        decision: String,
        /// Why.
        answer: Option<String>,
    },
}

impl Decision {
    /// The word for it in the log.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Charge { .. } => "charge",
            Self::Draw { .. } => "draw",
            Self::Shown { .. } => "shown",
            Self::Answer { .. } => "answer",
            Self::Refusal { .. } => "refusal",
            Self::Policy { .. } => "policy",
            Self::Dataset { .. } => "dataset",
            Self::Consumer { .. } => "consumer",
            Self::Token { .. } => "token",
            Self::Grant { .. } => "grant",
            Self::BudgetRequest { .. } => "budget_request",
            Self::BudgetDecision { .. } => "budget_decision",
            Self::ApprovalRequest { .. } => "approval_request",
            Self::Adoption { .. } => "adoption",
            Self::Retention { .. } => "retention",
            Self::ApprovalDecision { .. } => "approval_decision",
        }
    }

    /// The datasets that it is about: their stewards may read it.
    #[must_use]
    pub fn datasets(&self) -> Vec<&str> {
        match self {
            Self::Charge { datasets, .. }
            | Self::Draw { datasets, .. }
            | Self::Shown { datasets, .. }
            | Self::Answer { datasets, .. }
            | Self::Refusal { datasets, .. }
            | Self::ApprovalRequest { datasets, .. } => datasets.iter().map(String::as_str).collect(),
            Self::Policy { dataset, .. }
            | Self::Dataset { dataset, .. }
            | Self::Grant { dataset, .. }
            | Self::BudgetRequest { dataset, .. }
            | Self::BudgetDecision { dataset, .. }
            | Self::ApprovalDecision { dataset, .. } => vec![dataset],
            Self::Consumer { .. } | Self::Token { .. } | Self::Adoption { .. } | Self::Retention { .. } => Vec::new(),
        }
    }
}

/// One decision with when and by whom.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// When.
    pub at: DateTime<Utc>,
    /// Who, if it was not a query.
    pub by: Option<Actor>,
    /// What.
    pub decision: Decision,
}

impl Entry {
    /// The bytes of its leaf: one JSON object without a line break.
    ///
    /// # Errors
    /// Never for what this crate makes: every field has a JSON form.
    pub fn text(&self) -> Result<String, serde_json::Error> {
        #[derive(Serialize)]
        struct Form<'a> {
            v: u32,
            at: String,
            /// So that nobody who has a leaf's hash can guess what the leaf says.
            salt: Uuid,
            #[serde(skip_serializing_if = "Option::is_none")]
            by: Option<&'a Actor>,
            #[serde(flatten)]
            decision: &'a Decision,
        }
        let at = self.at.to_rfc3339_opts(SecondsFormat::Micros, true);
        serde_json::to_string(&Form {
            v: ENTRY_VERSION,
            at,
            salt: Uuid::new_v4(),
            by: self.by.as_ref(),
            decision: &self.decision,
        })
    }
}

/// An entry as the log holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogEntry {
    /// Its place, from 0.
    pub index: u64,
    /// When.
    pub at: DateTime<Utc>,
    /// Its bytes.
    pub entry: String,
    /// The hash of its leaf.
    #[serde(skip)]
    pub leaf_hash: [u8; 32],
}

/// Where an entry stands in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Its place, from 0.
    pub log_index: u64,
    /// The hash of its leaf.
    pub leaf_hash: [u8; 32],
}

/// What a query that was answered from earlier draws would have cost on one dataset: for reports alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reuse {
    /// The dataset.
    pub dataset: String,
    /// Who asked.
    pub consumer: String,
    /// Its agency.
    pub agency: Option<String>,
    /// The stated purpose.
    pub purpose: Option<String>,
    /// The price that was not paid again.
    pub cost: Cost,
}
