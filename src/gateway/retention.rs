//! What may be forgotten goes once it is as old as `[retention]` says (docs/decisions/0014-retention.md).

use std::sync::{Arc, Weak};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::config::Retention;
use crate::ledger::{Actor, Expiry, Forgotten, LedgerError, Store};
use crate::policy::Period;

use super::Gateway;

/// How often a gateway looks for what may be forgotten. Times are days, so that nothing is kept much longer than it says.
const EVERY: Duration = Duration::from_hours(1);

/// Before when each kind of what may be forgotten goes, as the configuration says, at this moment.
pub(super) fn expiry(retention: &Retention, now: DateTime<Utc>) -> Expiry {
    // A number of days that the calendar does not have keeps all there is.
    let before = |days: Option<u64>| {
        let days = TimeDelta::try_days(i64::try_from(days?).ok()?)?;
        now.checked_sub_signed(days)
    };
    Expiry {
        idempotency_keys: before(retention.idempotency_keys_days),
        settled_requests: before(retention.settled_requests_days),
        past_alerts: before(retention.past_alerts_days),
        revoked_tokens: before(retention.revoked_tokens_days),
        present_windows: Period::ALL.into_iter().map(|per| per.window(now)).collect(),
    }
}

/// Forgets all that may be forgotten, a little at a time, so that charges need not wait long between.
pub(super) async fn forget(store: &dyn Store, expiry: &Expiry, by: &Actor) -> Result<Forgotten, LedgerError> {
    let mut all = Forgotten::default();
    loop {
        let some = store.forget(expiry, by).await?;
        if some.is_nothing() {
            return Ok(all);
        }
        all = all.and(some);
    }
}

/// Lets what is old go, as long as the gateway lives.
pub(super) fn keep_forgetting(gateway: &Arc<Gateway>) {
    if expiry(&gateway.config.retention, Utc::now()).keeps_all() {
        return;
    }
    let gateway: Weak<Gateway> = Arc::downgrade(gateway);
    tokio::spawn(async move {
        loop {
            let Some(gateway) = gateway.upgrade() else { return };
            // A ledger that is not the newest is changed by nothing.
            if gateway.evidence.frozen().is_none() {
                let expiry = expiry(&gateway.config.retention, Utc::now());
                match forget(gateway.store.as_ref(), &expiry, &Actor::settings()).await {
                    Ok(forgotten) if forgotten.is_nothing() => {}
                    Ok(forgotten) => tracing::info!(?forgotten, "what is older than [retention] says was forgotten"),
                    Err(error) => tracing::error!(%error, "what is older than [retention] says could not be forgotten"),
                }
            }
            drop(gateway);
            tokio::time::sleep(EVERY).await;
        }
    });
}
