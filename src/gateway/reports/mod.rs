//! Reports: what was spent, what is left of each account, which queries cost most, and what is owed for it.
//!
//! ```text
//! caller ─▶ Sees (whose figures) ─▶ ledger (integer sums) ─▶ rows: exact decimals, ε of the sum ─▶ JSON, CSV, Arrow
//! ```
//!
//! ρ's, pure ε's and δ's are summed by the ledger in whole steps. The ε of several charges is always that of their sum,
//! never a sum of ε's (DESIGN 4.3). Nothing here decides what may be spent.

mod accounts;
mod amounts;
mod forecast;
mod settlement;
mod sight;
mod span;
mod spend;
mod tabular;
#[cfg(test)]
mod tests;
mod top;

use chrono::Utc;

use crate::catalog::Catalog;
use crate::ledger::Store;

use super::administration::Administration;
use super::{Caller, Gateway, GatewayError};

pub use accounts::{AccountRow, AccountsForm, AccountsReport, DayRow};
pub use settlement::{SettlementForm, SettlementLine, SettlementReport, SettlementTotal};
pub use spend::{SpendForm, SpendReport, SpendRow};
pub use tabular::Tabular;
pub use top::{TopForm, TopReport, TopRow};

use sight::Sees;

/// One who makes reports: over a ledger and a catalog, of what a caller may see.
struct Reporter<'a> {
    store: &'a dyn Store,
    catalog: &'a Catalog,
    sees: Sees,
}

impl Gateway {
    /// What was spent, summed by the dimensions that the form names.
    ///
    /// Budget administrators, auditors and operators see all, a steward its own datasets, an analyst its own consumer.
    ///
    /// # Errors
    /// `not_allowed` for what is not the caller's to see, `request_invalid`, and `too_large` for very many lines.
    pub async fn spend_report(&self, caller: &Caller, form: &SpendForm) -> Result<SpendReport, GatewayError> {
        let catalog = self.current_catalog().await?;
        let sees = Sees::of(caller, &catalog)?;
        Reporter { store: self.store.as_ref(), catalog: &catalog, sees }.spend(form).await
    }

    /// Each account as it stands: its window beside its lifetime, the share of its limit, its burn-down and a forecast. The
    /// accounts that are nearest to their limits come first.
    ///
    /// Who sees what is as in [`Self::spend_report`]; an analyst does not see the accounts that it shares with others.
    ///
    /// # Errors
    /// As [`Self::spend_report`].
    pub async fn accounts_report(&self, caller: &Caller, form: &AccountsForm) -> Result<AccountsReport, GatewayError> {
        let catalog = self.current_catalog().await?;
        let sees = Sees::of(caller, &catalog)?;
        Reporter { store: self.store.as_ref(), catalog: &catalog, sees }.accounts(form, Utc::now()).await
    }

    /// The queries that cost most, with their SQL, which is no data.
    ///
    /// # Errors
    /// As [`Self::spend_report`].
    pub async fn top_report(&self, caller: &Caller, form: &TopForm) -> Result<TopReport, GatewayError> {
        let catalog = self.current_catalog().await?;
        let sees = Sees::of(caller, &catalog)?;
        Reporter { store: self.store.as_ref(), catalog: &catalog, sees }.top(form).await
    }

    /// What each agency owes each company for a period, where policies have a `price_per_epsilon`.
    ///
    /// # Errors
    /// As [`Self::spend_report`]; `not_allowed` for analysts, since a statement is of a whole agency.
    pub async fn settlement_report(
        &self,
        caller: &Caller,
        form: &SettlementForm,
    ) -> Result<SettlementReport, GatewayError> {
        let catalog = self.current_catalog().await?;
        let sees = Sees::of(caller, &catalog)?;
        Reporter { store: self.store.as_ref(), catalog: &catalog, sees }.settlement(form, Utc::now()).await
    }
}

impl Administration {
    /// As [`Gateway::spend_report`], for the operator.
    ///
    /// # Errors
    /// When the form is wrong, or the storage fails.
    pub async fn spend_report(&self, form: &SpendForm) -> Result<SpendReport, GatewayError> {
        let catalog = self.catalog().await?;
        Reporter { store: self.store(), catalog: &catalog, sees: Sees::All }.spend(form).await
    }

    /// As [`Gateway::accounts_report`], for the operator.
    ///
    /// # Errors
    /// When the form is wrong, or the storage fails.
    pub async fn accounts_report(&self, form: &AccountsForm) -> Result<AccountsReport, GatewayError> {
        let catalog = self.catalog().await?;
        Reporter { store: self.store(), catalog: &catalog, sees: Sees::All }.accounts(form, Utc::now()).await
    }

    /// As [`Gateway::top_report`], for the operator.
    ///
    /// # Errors
    /// When the form is wrong, or the storage fails.
    pub async fn top_report(&self, form: &TopForm) -> Result<TopReport, GatewayError> {
        let catalog = self.catalog().await?;
        Reporter { store: self.store(), catalog: &catalog, sees: Sees::All }.top(form).await
    }

    /// As [`Gateway::settlement_report`], for the operator.
    ///
    /// # Errors
    /// When the form is wrong, or the storage fails.
    pub async fn settlement_report(&self, form: &SettlementForm) -> Result<SettlementReport, GatewayError> {
        let catalog = self.catalog().await?;
        Reporter { store: self.store(), catalog: &catalog, sees: Sees::All }.settlement(form, Utc::now()).await
    }
}
