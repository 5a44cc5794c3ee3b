//! Which thresholds of which accounts were told of.

use super::super::{Account, LedgerError};
use super::columns::{column, now};
use super::database::Statement;
use super::transaction::{Transaction, Verdict};

/// Notes those that are not noted yet, and gives them back.
pub(super) async fn note(
    transaction: &mut Transaction<'_>,
    passed: &[(Account, u64)],
) -> Result<Verdict<Vec<(Account, u64)>>, LedgerError> {
    let (doing, at) = (transaction.doing(), now().timestamp_micros());
    let mut new = Vec::new();
    for (account, percent) in passed {
        let noted = Statement::new(
            "INSERT INTO alerts (account_key, threshold_percent, at_us) VALUES ($1, $2, $3) \
             ON CONFLICT (account_key, threshold_percent) DO NOTHING",
        )
        .bind(account.storage_key())
        .bind(column(*percent))
        .bind(at)
        .execute(transaction.on(), doing)
        .await?;
        if noted > 0 {
            new.push((account.clone(), *percent));
        }
    }
    Ok(if new.is_empty() { Verdict::Leave(new) } else { Verdict::Commit(new) })
}
