//! What may be forgotten, in the storage: rows that no later decision, report or check reads.
//!
//! Each rule names its rows by a condition that is the whole argument why they may go. Charges, lines, draws, policies and the
//! log have no rule here, and triggers that refuse it.

use super::super::{Actor, Decision, Entry, Expiry, Forgotten, LedgerError};
use super::columns::{now, steps};
use super::database::{On, Statement, Value};
use super::transaction::{Transaction, Verdict};

/// The most rows of one rule that go in one transaction: charges wait for it.
const MOST: u32 = 2_000;

/// Rows that may go.
struct Rule {
    table: &'static str,
    /// The table's primary key.
    key: &'static str,
    /// Which rows, with `$1`, `$2`, … for `values`.
    condition: String,
    values: Vec<Value>,
    /// Where they are counted.
    count: fn(&mut Forgotten) -> &mut u64,
}

impl Rule {
    fn of(table: &'static str, key: &'static str, condition: &str, count: fn(&mut Forgotten) -> &mut u64) -> Self {
        Self { table, key, condition: condition.to_owned(), values: Vec::new(), count }
    }

    fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// How many rows there are.
    fn counted(self) -> Statement {
        let Self { table, condition, values, .. } = self;
        Statement::composed(format!("SELECT count(*) FROM {table} WHERE {condition}"), values)
    }

    /// Deletes some of them.
    fn deleted(self) -> Statement {
        let Self { table, key, condition, values, .. } = self;
        let some = format!("SELECT {key} FROM {table} WHERE {condition} LIMIT {MOST}");
        Statement::composed(format!("DELETE FROM {table} WHERE ({key}) IN ({some})"), values)
    }
}

/// The rules of what `expiry` lets go.
fn rules(expiry: &Expiry) -> Vec<Rule> {
    let mut rules = Vec::new();
    if let Some(before) = expiry.idempotency_keys {
        // A request that is sent again later is decided as any other: what its consumer has paid for is free.
        let rule = Rule::of("idempotency_keys", "consumer, key", "used_us < $1", |sum| &mut sum.idempotency_keys);
        rules.push(rule.bind(before.timestamp_micros()));
    }
    if let Some(before) = expiry.settled_requests {
        let before = before.timestamp_micros();
        // The grant that an approved one made is a row of its own.
        let decided = "state <> 'open' AND decided_us < $1";
        rules.push(Rule::of("budget_requests", "id", decided, |sum| &mut sum.budget_requests).bind(before));
        // A yes holds until it is taken back, so it stays. Nothing else is looked at once it has expired.
        let over = "state <> 'approved' AND expires_us < $1 AND coalesce(decided_us, 0) < $2";
        rules.push(Rule::of("approvals", "id, dataset", over, |sum| &mut sum.approvals).bind(before).bind(before));
        // Posted, void, or expired: it sets nothing aside.
        rules.push(
            Rule::of("reservations", "id, account_key", "expires_us < $1", |sum| &mut sum.reservations).bind(before),
        );
    }
    if let Some(before) = expiry.past_alerts.filter(|_| !expiry.present_windows.is_empty()) {
        // No charge is made in a window that is over, so no threshold is passed there again.
        let places = (2..2 + expiry.present_windows.len()).map(|at| format!("${at}")).collect::<Vec<_>>().join(", ");
        let condition = format!(
            "at_us < $1 AND account_key IN (SELECT storage_key FROM accounts WHERE budget_window NOT IN ({places}))"
        );
        let rule = Rule::of("alerts", "account_key, threshold_percent", &condition, |sum| &mut sum.alerts);
        let rule = rule.bind(before.timestamp_micros());
        rules.push(expiry.present_windows.iter().fold(rule, |rule, window| rule.bind(window.as_str())));
    }
    if let Some(before) = expiry.revoked_tokens {
        // A token that is not known is refused as one that was revoked is.
        let rule = Rule::of("tokens", "id", "revoked_us IS NOT NULL AND revoked_us < $1", |sum| &mut sum.tokens);
        rules.push(rule.bind(before.timestamp_micros()));
    }
    rules
}

/// How much may be forgotten.
pub(super) async fn forgettable(on: On<'_>, expiry: &Expiry) -> Result<Forgotten, LedgerError> {
    let (mut on, mut found) = (on, Forgotten::default());
    for rule in rules(expiry) {
        let count = rule.count;
        let row = rule.counted().fetch_one(on.again(), "looking for what may be forgotten").await?;
        *count(&mut found) = steps(row.int(0)?)?;
    }
    Ok(found)
}

/// Forgets some of what may be forgotten, and says so in the log.
pub(super) async fn forget(
    transaction: &mut Transaction<'_>,
    expiry: &Expiry,
    by: &Actor,
) -> Result<Verdict<Forgotten>, LedgerError> {
    let (doing, mut forgotten) = (transaction.doing(), Forgotten::default());
    for rule in rules(expiry) {
        let count = rule.count;
        *count(&mut forgotten) = rule.deleted().execute(transaction.on(), doing).await?;
    }
    if forgotten.is_nothing() {
        return Ok(Verdict::Leave(forgotten));
    }
    let decision = Decision::Retention { before: expiry.clone(), forgotten };
    transaction.append(&Entry { at: now(), by: Some(by.clone()), decision })?;
    Ok(Verdict::Commit(forgotten))
}
