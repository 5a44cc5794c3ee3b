//! What was spent over all windows, day by day, and on which noise.

use super::super::{Account, AccountSearch, DaySpend, EventGroup, LedgerError, LifetimeSum, Scope};
use super::accounts::scope_of;
use super::columns::{delta, loss, steps};
use super::database::{On, Row, Statement};
use super::reports::{SUMS, date_of, halves};
use super::restriction::Restriction;
use crate::accounting::Cost;

const READING: &str = "reading what was spent";

/// What each scope has spent over all windows.
///
/// An agency, all consumers together, and a consumer in a unit domain's `lifetime` window have one account that every charge
/// is on, whatever the windows. A consumer may have two on one dataset, so its sums are those of its charges' costs.
pub(super) async fn sums(on: On<'_>, search: &AccountSearch) -> Result<Vec<LifetimeSum>, LedgerError> {
    let mut on = on;
    let restricted = |scopes: &'static str, subject: &'static str| {
        let mut only = Restriction::default();
        only.one_of("p.dataset", &search.datasets);
        if let Some(consumer) = &search.consumer {
            only.and(subject, consumer.as_str());
        }
        let (text, values) = only.parts();
        let joint = match (scopes.is_empty(), text.is_empty()) {
            (true, _) => "",
            (false, true) => " WHERE ",
            (false, false) => " AND ",
        };
        (format!("{text}{joint}{scopes}"), values)
    };
    let (of_consumers, values) = restricted("", "p.consumer = ?");
    let of_consumers = format!(
        "SELECT 'consumer', p.consumer, p.dataset, p.epoch, p.loss_kind, {SUMS} FROM charge_costs p{of_consumers} \
         GROUP BY p.consumer, p.dataset, p.epoch, p.loss_kind ORDER BY p.consumer, p.dataset, p.epoch, p.loss_kind"
    );
    let rows = Statement::composed(of_consumers, values).fetch_all(on.again(), READING).await?;
    let mut found: Vec<LifetimeSum> = rows.iter().map(sum).collect::<Result<_, _>>()?;
    let (of_others, values) = restricted(
        "(p.scope IN ('agency', 'all_consumers') OR p.scope = 'domain' AND p.budget_window = 'lifetime')",
        "p.scope = 'domain' AND p.subject = ?",
    );
    let of_others = format!(
        "SELECT p.scope, p.subject, p.dataset, coalesce(p.epoch, ''), p.loss_kind, {SUMS} FROM accounts p{of_others} \
         GROUP BY p.scope, p.subject, p.dataset, coalesce(p.epoch, ''), p.loss_kind \
         ORDER BY p.scope, p.subject, p.dataset, coalesce(p.epoch, ''), p.loss_kind"
    );
    let rows = Statement::composed(of_others, values).fetch_all(on, READING).await?;
    found.extend(rows.iter().map(sum).collect::<Result<Vec<_>, _>>()?);
    Ok(found)
}

fn sum(row: &Row) -> Result<LifetimeSum, LedgerError> {
    Ok(LifetimeSum {
        scope: scope_of(&row.text(0)?, row.text(1)?)?,
        dataset: row.text(2)?,
        epoch: Some(row.text(3)?).filter(|epoch| !epoch.is_empty()),
        accounting: loss(&row.text(4)?, 0)?.accounting(),
        loss_steps: halves(row, 5)?,
        delta_steps: halves(row, 7)?,
    })
}

/// What one account spent, day by day.
pub(super) async fn days(on: On<'_>, account: &Account) -> Result<Vec<DaySpend>, LedgerError> {
    let select = format!(
        "SELECT c.at_us / 86400000000, count(*), {SUMS} FROM accounts a JOIN charge_lines p ON p.account = a.id \
         JOIN charges c ON c.id = p.charge WHERE a.storage_key = $1 GROUP BY 1 ORDER BY 1"
    );
    let day = |row: &Row| {
        Ok(DaySpend {
            day: date_of(row.int(0)?)?,
            charges: steps(row.int(1)?)?,
            loss_steps: halves(row, 2)?,
            delta_steps: halves(row, 4)?,
        })
    };
    let rows = Statement::composed(select, vec![account.storage_key().into()]).fetch_all(on, READING).await?;
    rows.iter().map(day).collect()
}

/// The noise that one scope has paid for over all windows, each charge once, equal ones together.
pub(super) async fn events(
    on: On<'_>,
    scope: &Scope,
    dataset: &str,
    epoch: Option<&str>,
) -> Result<Vec<EventGroup>, LedgerError> {
    let select = Statement::new(
        "SELECT c.events, p.drawn_kind, p.drawn_steps, p.delta_steps, count(*) FROM ( \
             SELECT DISTINCT l.charge, l.drawn_kind, l.drawn_steps, l.delta_steps FROM accounts a \
             JOIN charge_lines l ON l.account = a.id \
             WHERE a.dataset = $1 AND a.scope = $2 AND a.subject = $3 AND coalesce(a.epoch, '') = $4 \
         ) p JOIN charges c ON c.id = p.charge \
         GROUP BY c.events, p.drawn_kind, p.drawn_steps, p.delta_steps \
         ORDER BY c.events, p.drawn_kind, p.drawn_steps, p.delta_steps",
    )
    .bind(dataset)
    .bind(scope.kind())
    .bind(scope.subject())
    .bind(epoch.unwrap_or_default());
    let group = |row: &Row| {
        Ok(EventGroup {
            events: row.text(0)?,
            drawn: Cost { loss: loss(&row.text(1)?, row.int(2)?)?, delta: delta(row.int(3)?)? },
            charges: steps(row.int(4)?)?,
        })
    };
    select.fetch_all(on, READING).await?.iter().map(group).collect()
}
