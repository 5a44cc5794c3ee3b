//! Answers that cost nothing: what sums over a finer answer say that the caller has bought.

use std::sync::Arc;

use crate::accounting::Epsilon;
use crate::analysis::{Analysed, Summable};
use crate::catalog::Catalog;
use crate::sql;

use super::ask::asked_epsilon;
use super::charge::Payer;
use super::price::price;
use super::{Caller, FreeAlternative, Gateway, GatewayError, Question, translate};

impl Gateway {
    /// SQL that sums the answer from a finer one that the caller has bought, if there is one.
    ///
    /// What is offered was held against the ledger: the statement was analysed and priced as if it were asked, and the caller has
    /// paid for every release in it.
    pub(super) async fn summed_from_earlier(
        &self,
        caller: &Caller,
        question: &Question,
        catalog: &Arc<Catalog>,
        analysed: &Analysed,
        payer: Payer<'_>,
    ) -> Result<Option<FreeAlternative>, GatewayError> {
        // With bounds of its own it is another question than its SQL alone, of which the sums are kept.
        if question.bounds.is_some() {
            return Ok(None);
        }
        let Some(asked) = Summable::of(analysed) else { return Ok(None) };
        let bought = self.store.summable(payer.consumer, asked.base).await.map_err(translate::ledger)?;
        for (sql, parts) in bought {
            let Ok((keys, sums, steps)) = serde_json::from_str(&parts) else { continue };
            let finer = Summable { base: asked.base, keys, sums };
            let Some(sql) = sql::body(&sql).filter(|_| asked.is_answered_by(&finer)) else { continue };
            let (sql, epsilon) = (asked.from_finer(&finer, sql), Epsilon::from_steps(steps).to_f64());
            let offered = Question {
                sql: sql.clone(),
                epsilon: Some(epsilon),
                purpose: question.purpose.clone(),
                dry_run: true,
                ..Question::default()
            };
            if self.costs_nothing(caller, &offered, catalog, payer).await? {
                return Ok(Some(FreeAlternative { sql, epsilon, note: FreeAlternative::NOTE }));
            }
        }
        Ok(None)
    }

    /// Whether the caller has paid for all of `offered`.
    async fn costs_nothing(
        &self,
        caller: &Caller,
        offered: &Question,
        catalog: &Arc<Catalog>,
        payer: Payer<'_>,
    ) -> Result<bool, GatewayError> {
        let Ok((analysed, _)) = self.analyse(caller, offered, catalog, payer.now).await else { return Ok(false) };
        let Ok(priced) = asked_epsilon(offered, &analysed).and_then(|epsilon| price(&analysed, epsilon)) else {
            return Ok(false);
        };
        for release in &priced.releases {
            let paid = self.store.has_paid(payer.consumer, release.key, release.precision()).await;
            if paid.map_err(translate::ledger)?.is_none() {
                return Ok(false);
            }
        }
        Ok(!priced.releases.is_empty())
    }
}
