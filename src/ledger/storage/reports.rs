//! Sums for reports. What a consumer pays for one dataset is counted once a charge, however many of its accounts it is
//! written on (a cap and a grant of different windows): `charge_costs` holds it so.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use uuid::Uuid;

use super::super::{ChargeId, Dimension, LedgerError, QueryLine, QueryOrder, QuerySearch, SpendLine, SpendQuery};
use super::columns::{delta, kind, loss, steps, time};
use super::database::{On, Row, Statement};
use super::restriction::Restriction;
use super::transaction::index;
use crate::accounting::Spent;

const READING: &str = "reading what was spent";

/// Sums are read in two halves, so that no database's integers overflow: of the millions, and of what is below a million.
const HALF: u128 = 1_000_000;

/// The halves of both sums of the rows of `p`, as [`halves`] reads them.
pub(super) const SUMS: &str = "CAST(sum(p.loss_steps / 1000000) AS BIGINT), CAST(sum(p.loss_steps % 1000000) AS BIGINT), \
     CAST(sum(p.delta_steps / 1000000) AS BIGINT), CAST(sum(p.delta_steps % 1000000) AS BIGINT)";

/// Microseconds of a day.
const DAY_US: i64 = 86_400_000_000;

/// A dimension as an expression over a row of charges' costs or of reuses.
const fn expression(dimension: Dimension) -> &'static str {
    match dimension {
        Dimension::Consumer => "p.consumer",
        Dimension::Agency => "p.agency",
        Dimension::Dataset => "p.dataset",
        Dimension::Purpose => "p.purpose",
        Dimension::Day => "CAST(p.at_us / 86400000000 AS TEXT)",
    }
}

/// Which rows a query is over.
fn restriction(query: &SpendQuery) -> Restriction {
    let mut only = Restriction::default();
    if let Some(from) = query.from {
        only.and("p.at_us >= ?", from.timestamp_micros());
    }
    if let Some(until) = query.until {
        only.and("p.at_us < ?", until.timestamp_micros());
    }
    if let Some(consumer) = &query.consumer {
        only.and("p.consumer = ?", consumer.as_str());
    }
    only.one_of("p.dataset", &query.datasets);
    only
}

pub(super) async fn spend(on: On<'_>, query: &SpendQuery) -> Result<Vec<SpendLine>, LedgerError> {
    let mut on = on;
    let dimensions: Vec<&str> = query.by.iter().map(|dimension| expression(*dimension)).collect();
    let selected = dimensions.iter().fold(String::new(), |text, dimension| text + dimension + ", ");
    let (restricted, values) = restriction(query).parts();
    let width = dimensions.len();
    let grouped: Vec<String> = (1..=width + 1).map(|at| at.to_string()).collect();
    let grouped = grouped.join(", ");
    let paid = format!(
        "SELECT {selected}p.loss_kind, count(DISTINCT p.charge), count(DISTINCT p.query_id), {SUMS} \
         FROM charge_costs p{restricted} GROUP BY {grouped}"
    );
    let saved = format!(
        "SELECT {selected}p.loss_kind, count(DISTINCT p.log_index), {SUMS} FROM reuses p{restricted} GROUP BY {grouped}"
    );
    let mut lines: BTreeMap<(Vec<Option<String>>, String), SpendLine> = BTreeMap::new();
    for row in Statement::composed(paid, values.clone()).fetch_all(on.again(), READING).await? {
        let line = line_of(&mut lines, &row, &query.by)?;
        line.charges = steps(row.int(width + 1)?)?;
        line.queries = steps(row.int(width + 2)?)?;
        line.loss_steps = halves(&row, width + 3)?;
        line.delta_steps = halves(&row, width + 5)?;
    }
    for row in Statement::composed(saved, values).fetch_all(on.again(), READING).await? {
        let line = line_of(&mut lines, &row, &query.by)?;
        line.reused = steps(row.int(width + 1)?)?;
        line.saved_steps = halves(&row, width + 2)?;
        line.saved_delta_steps = halves(&row, width + 4)?;
    }
    Ok(lines.into_values().collect())
}

/// The line of a row's dimensions and measure.
fn line_of<'l>(
    lines: &'l mut BTreeMap<(Vec<Option<String>>, String), SpendLine>,
    row: &Row,
    by: &[Dimension],
) -> Result<&'l mut SpendLine, LedgerError> {
    let mut values = Vec::with_capacity(by.len());
    for (at, dimension) in by.iter().enumerate() {
        let value = row.maybe_text(at)?;
        values.push(match (dimension, value) {
            (Dimension::Day, Some(day)) => Some(day_of(&day)?),
            (_, value) => value,
        });
    }
    let measure = row.text(by.len())?;
    let accounting = loss(&measure, 0)?.accounting();
    Ok(lines.entry((values.clone(), measure)).or_insert(SpendLine {
        values,
        accounting,
        charges: 0,
        queries: 0,
        loss_steps: 0,
        delta_steps: 0,
        reused: 0,
        saved_steps: 0,
        saved_delta_steps: 0,
    }))
}

/// The date of a number of days since 1970, in digits.
fn day_of(day: &str) -> Result<String, LedgerError> {
    let days = day.parse::<i64>().map_err(|_| LedgerError::Corrupt { what: "day" })?;
    Ok(date_of(days)?.to_string())
}

/// The date of a number of days since 1970.
pub(super) fn date_of(days: i64) -> Result<NaiveDate, LedgerError> {
    let us = days.checked_mul(DAY_US).ok_or(LedgerError::Corrupt { what: "day" })?;
    Ok(time(us)?.date_naive())
}

/// A sum in two halves, from column `at` on.
pub(super) fn halves(row: &Row, at: usize) -> Result<u128, LedgerError> {
    Ok(u128::from(steps(row.int(at)?)?) * HALF + u128::from(steps(row.int(at + 1)?)?))
}

/// Charges by dataset, as `search` says: the few that are listed are found among the costs, and then read.
pub(super) async fn queries(on: On<'_>, search: &QuerySearch) -> Result<Vec<QueryLine>, LedgerError> {
    let query = SpendQuery {
        by: Vec::new(),
        from: search.from,
        until: search.until,
        consumer: search.consumer.clone(),
        datasets: search.datasets.clone(),
    };
    let mut only = restriction(&query);
    if let Some(before) = search.before {
        only.and("p.charge < ?", before.0);
    }
    if let Some(accounting) = search.accounting {
        only.and("p.loss_kind = ?", kind(accounting));
    }
    let (restricted, mut values) = only.parts();
    let order = match search.order {
        QueryOrder::Newest => "p.charge DESC, p.dataset",
        QueryOrder::Dearest => "p.loss DESC, p.charge, p.dataset",
    };
    values.push(index(search.limit).into());
    let limit = values.len();
    let select = format!(
        "SELECT c.id, p.dataset, c.query_id, c.at_us, c.consumer, c.agency, c.sql, c.purpose, c.outcome, c.events, \
         c.log_index, p.loss_kind, p.loss, p.delta FROM ( \
             SELECT * FROM ( \
                 SELECT p.charge AS charge, p.dataset AS dataset, p.loss_kind AS loss_kind, \
                 CAST(sum(p.loss_steps) AS BIGINT) AS loss, CAST(sum(p.delta_steps) AS BIGINT) AS delta \
                 FROM charge_costs p{restricted} GROUP BY p.charge, p.dataset, p.loss_kind \
             ) p ORDER BY {order} LIMIT ${limit} \
         ) p JOIN charges c ON c.id = p.charge ORDER BY {order}"
    );
    Statement::composed(select, values).fetch_all(on, READING).await?.iter().map(query_line).collect()
}

fn query_line(row: &Row) -> Result<QueryLine, LedgerError> {
    Ok(QueryLine {
        charge: ChargeId(row.int(0)?),
        dataset: row.text(1)?,
        query_id: row.text(2)?.parse::<Uuid>().map_err(|_| LedgerError::Corrupt { what: "identifier" })?,
        at: time(row.int(3)?)?,
        consumer: row.text(4)?,
        agency: row.maybe_text(5)?,
        sql: row.text(6)?,
        purpose: row.maybe_text(7)?,
        shared: row.text(8)? == "shared",
        events: row.text(9)?,
        log_index: row.maybe_int(10)?.map(steps).transpose()?,
        cost: Spent { loss: loss(&row.text(11)?, row.int(12)?)?, delta: delta(row.int(13)?)? },
    })
}
