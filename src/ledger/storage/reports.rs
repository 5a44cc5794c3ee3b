//! Sums for reports. What a consumer pays for one dataset is counted once a charge, however many of its accounts it is
//! written on (a cap and a grant of different windows).

use std::collections::BTreeMap;

use uuid::Uuid;

use super::super::{ChargeId, Dimension, LedgerError, QueryLine, QueryOrder, QuerySearch, SpendLine, SpendQuery};
use super::columns::{delta, loss, steps, time};
use super::database::{On, Row, Statement, Value};
use super::transaction::index;
use crate::accounting::Spent;

const READING: &str = "reading what was spent";

/// Sums are read in two halves, so that no database's integers overflow: of the millions, and of what is below a million.
const HALF: u128 = 1_000_000;

/// Microseconds of a day.
const DAY_US: i64 = 86_400_000_000;

/// A dimension as an expression over a row of charges or of reuses.
const fn expression(dimension: Dimension) -> &'static str {
    match dimension {
        Dimension::Consumer => "c.consumer",
        Dimension::Agency => "c.agency",
        Dimension::Dataset => "p.dataset",
        Dimension::Purpose => "c.purpose",
        Dimension::Day => "CAST(c.at_us / 86400000000 AS TEXT)",
    }
}

/// The `WHERE` of a query, as text after `$n` numbered from 1, and its values.
fn restriction(query: &SpendQuery) -> (String, Vec<Value>) {
    let (mut text, mut values) = (String::new(), Vec::new());
    let mut add = |condition: &str, value: Value| {
        values.push(value);
        text.push_str(if values.len() == 1 { " WHERE " } else { " AND " });
        text.push_str(&condition.replace('?', &format!("${}", values.len())));
    };
    if let Some(from) = query.from {
        add("c.at_us >= ?", from.timestamp_micros().into());
    }
    if let Some(until) = query.until {
        add("c.at_us < ?", until.timestamp_micros().into());
    }
    if let Some(consumer) = &query.consumer {
        add("c.consumer = ?", consumer.as_str().into());
    }
    if !query.datasets.is_empty() {
        // One parameter: the names as a list within a text, since a name holds no line break.
        let first = values.len() + 1;
        let names: Vec<String> = (first..first + query.datasets.len()).map(|at| format!("${at}")).collect();
        text.push_str(if values.is_empty() { " WHERE " } else { " AND " });
        text.push_str(&format!("p.dataset IN ({})", names.join(", ")));
        values.extend(query.datasets.iter().map(|name| Value::from(name.as_str())));
    }
    (text, values)
}

pub(super) async fn spend(on: On<'_>, query: &SpendQuery) -> Result<Vec<SpendLine>, LedgerError> {
    let mut on = on;
    let dimensions: Vec<&str> = query.by.iter().map(|dimension| expression(*dimension)).collect();
    let selected: String = dimensions.iter().map(|dimension| format!("{dimension}, ")).collect();
    let (restricted, values) = restriction(query);
    let grouped: Vec<String> = (1..=dimensions.len() + 1).map(|at| at.to_string()).collect();
    let grouped = grouped.join(", ");
    let sums = "CAST(sum(p.loss_steps / 1000000) AS BIGINT), CAST(sum(p.loss_steps % 1000000) AS BIGINT), \
         CAST(sum(p.delta_steps / 1000000) AS BIGINT), CAST(sum(p.delta_steps % 1000000) AS BIGINT)";
    // The lines of one charge on the accounts of one consumer, dataset and epoch are alike: DISTINCT leaves one of them.
    let paid = format!(
        "SELECT {selected}p.loss_kind, count(DISTINCT p.charge), count(DISTINCT c.query_id), {sums} FROM ( \
             SELECT DISTINCT l.charge, a.dataset, a.epoch, l.loss_kind, l.loss_steps, l.delta_steps \
             FROM charge_lines l JOIN accounts a ON a.id = l.account WHERE a.scope = 'consumer' \
         ) p JOIN charges c ON c.id = p.charge{restricted} GROUP BY {grouped}"
    );
    let saved = format!(
        "SELECT {selected}p.loss_kind, count(DISTINCT c.log_index), {sums} FROM reuses c JOIN reuses p \
         ON p.log_index = c.log_index AND p.dataset = c.dataset{restricted} GROUP BY {grouped}"
    );
    let width = dimensions.len();
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
    }))
}

/// The date of a number of days since 1970.
fn day_of(day: &str) -> Result<String, LedgerError> {
    let us = day.parse::<i64>().ok().and_then(|day| day.checked_mul(DAY_US));
    Ok(time(us.ok_or(LedgerError::Corrupt { what: "day" })?)?.date_naive().to_string())
}

/// A sum in two halves, from column `at` on.
fn halves(row: &Row, at: usize) -> Result<u128, LedgerError> {
    Ok(u128::from(steps(row.int(at)?)?) * HALF + u128::from(steps(row.int(at + 1)?)?))
}

/// Charges by dataset, as `search` says.
pub(super) async fn queries(on: On<'_>, search: &QuerySearch) -> Result<Vec<QueryLine>, LedgerError> {
    let query = SpendQuery {
        from: search.from,
        until: search.until,
        datasets: search.datasets.clone(),
        ..SpendQuery::default()
    };
    let (mut restricted, mut values) = restriction(&query);
    if let Some(before) = search.before {
        values.push(before.0.into());
        let joint = if values.len() == 1 { " WHERE" } else { " AND" };
        restricted.push_str(&format!("{joint} c.id < ${}", values.len()));
    }
    let order = match search.order {
        QueryOrder::Newest => "c.id DESC, p.dataset",
        QueryOrder::Dearest => "sum(p.loss_steps) DESC, c.id, p.dataset",
    };
    values.push(index(search.limit).into());
    let limit = values.len();
    const COLUMNS: &str = "c.id, p.dataset, c.query_id, c.at_us, c.consumer, c.agency, c.sql, c.purpose, c.outcome, c.events, \
         c.log_index, p.loss_kind";
    let select = format!(
        "SELECT {COLUMNS}, CAST(sum(p.loss_steps) AS BIGINT), CAST(sum(p.delta_steps) AS BIGINT) \
         FROM charges c JOIN ( \
             SELECT DISTINCT l.charge, a.dataset, a.epoch, l.loss_kind, l.loss_steps, l.delta_steps \
             FROM charge_lines l JOIN accounts a ON a.id = l.account WHERE a.scope = 'consumer' \
         ) p ON p.charge = c.id{restricted} GROUP BY {COLUMNS} ORDER BY {order} LIMIT ${limit}"
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
