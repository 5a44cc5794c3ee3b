//! The section `[budget]`.

use super::{BUDGET_KEYS, HOMES};
use crate::accounting::{Accounting, Delta, Epsilon};
use crate::policy::error::Fault;
use crate::policy::model::{Budget, Cap, Period};
use crate::policy::reader::{Field, Reader, Section};

/// The least and the largest ε that a file may name: one step of the ledger, and far more than promises anything.
const MIN_EPSILON: f64 = 1e-12;
const MAX_EPSILON: f64 = 1e6;

/// A per-consumer δ is divided by this where the file has no `query_delta` (DESIGN 4.3).
const QUERY_DELTA_PART: u64 = 1000;

/// The least δ of a cap under zCDP, in words: [`QUERY_DELTA_PART`] steps, so that its part is at least one.
const MIN_CAP_DELTA: &str = "1e-15";

const CAP_EXAMPLE: &str = "a table such as { epsilon = 4.0, delta = 1e-6, per = \"month\" }";
const QUERY_EXAMPLE: &str = "a table such as { epsilon = 0.2 }";

/// Reads the section. `accounting` is `None` when it could not be read, and then no δ is held against it.
pub(super) fn budget(reader: &mut Reader<'_>, root: &Section<'_>, accounting: Option<Accounting>) -> Option<Budget> {
    const EXPECTED: &str = "a section: write [budget]";
    let section = reader.required(root, "budget", "[budget]", |reader, field| reader.table(field, EXPECTED))?;
    let section = &section;
    reader.refuse_unknown(section, &BUDGET_KEYS, &HOMES);
    let per_consumer = reader.required(
        section,
        "per_consumer",
        "per_consumer = { epsilon = 4.0, delta = 1e-6, per = \"month\" }",
        |reader, field| cap(reader, field, accounting),
    );
    let all_consumers = reader.required(
        section,
        "all_consumers",
        "all_consumers = { epsilon = 20.0, delta = 1e-5, per = \"lifetime\" }",
        |reader, field| cap(reader, field, accounting),
    );
    let default_query = reader.required(section, "default_query", "default_query = { epsilon = 0.2 }", query_epsilon);
    let query_delta = reader.optional(section, "query_delta", None, |reader, field| delta(reader, field).map(Some));
    let max_query = reader.required(section, "max_query", "max_query = { epsilon = 1.0 }", query_epsilon);
    let auto_grant = reader.optional(section, "auto_grant", true, Reader::boolean);

    check_caps(reader, per_consumer, all_consumers);
    check_epsilons(reader, default_query, max_query, per_consumer);
    if let (Some(Some(query_delta)), Some(per_consumer)) = (query_delta, per_consumer) {
        check_query_delta(reader, query_delta, per_consumer.delta, accounting);
    }
    let per_consumer = per_consumer?;
    let default_delta = Delta::from_steps(per_consumer.delta.steps() / QUERY_DELTA_PART);
    Some(Budget {
        per_consumer,
        all_consumers: all_consumers?,
        default_query: default_query?,
        query_delta: query_delta?.unwrap_or(default_delta),
        max_query: max_query?,
        auto_grant: auto_grant?,
    })
}

fn cap(reader: &mut Reader<'_>, field: &Field<'_>, accounting: Option<Accounting>) -> Option<Cap> {
    let section = reader.table(field, CAP_EXAMPLE)?;
    reader.refuse_unknown(&section, &["epsilon", "delta", "per"], &HOMES);
    let epsilon = reader.required(&section, "epsilon", "epsilon = 4.0", epsilon);
    let delta = if accounting == Some(Accounting::Pure) {
        reader.optional(&section, "delta", Delta::ZERO, delta)
    } else {
        reader.required(&section, "delta", "delta = 1e-6", delta)
    };
    if accounting == Some(Accounting::Zcdp)
        && let Some(delta) = delta
        && delta.steps() < QUERY_DELTA_PART
    {
        let fault = Fault::DeltaTooSmall { least: MIN_CAP_DELTA, example: "1e-6" };
        reader.refuse_key(&format!("{}.delta", section.path), fault);
    }
    let periods = Period::ALL.map(|period| (period.as_str(), period));
    let per = reader.required(&section, "per", "per = \"month\"", |reader, field| reader.word(field, &periods));
    Some(Cap { epsilon: epsilon?, delta: delta?, per: per? })
}

fn query_epsilon(reader: &mut Reader<'_>, field: &Field<'_>) -> Option<Epsilon> {
    let section = reader.table(field, QUERY_EXAMPLE)?;
    reader.refuse_unknown(&section, &["epsilon"], &HOMES);
    reader.required(&section, "epsilon", "epsilon = 0.2", epsilon)
}

fn epsilon(reader: &mut Reader<'_>, field: &Field<'_>) -> Option<Epsilon> {
    let number = reader.number(field, "a number, such as 0.2")?;
    let value = number.to_f64();
    match Epsilon::floor_from(value) {
        Ok(epsilon) if (MIN_EPSILON..=MAX_EPSILON).contains(&value) && epsilon > Epsilon::ZERO => Some(epsilon),
        _ => reader.refuse(field, Fault::Epsilon { found: number.to_string() }),
    }
}

fn delta(reader: &mut Reader<'_>, field: &Field<'_>) -> Option<Delta> {
    let number = reader.number(field, "a number, such as 1e-6")?;
    let value = number.to_f64();
    match Delta::floor_from(value) {
        Ok(delta) if (0.0..1.0).contains(&value) => Some(delta),
        _ => reader.refuse(field, Fault::Delta { found: number.to_string() }),
    }
}

/// All consumers together have at least what one has, or the owner has promised what cannot be had.
fn check_caps(reader: &mut Reader<'_>, per_consumer: Option<Cap>, all_consumers: Option<Cap>) {
    let (Some(each), Some(all)) = (per_consumer, all_consumers) else { return };
    if all.epsilon < each.epsilon {
        let (found, limit) = (all.epsilon.to_string(), each.epsilon.to_string());
        let fault = Fault::Below { found, other: "budget.per_consumer.epsilon", limit };
        reader.refuse_key("budget.all_consumers.epsilon", fault);
    }
    if all.delta < each.delta {
        let (found, limit) = (show_delta(all.delta), show_delta(each.delta));
        let fault = Fault::Below { found, other: "budget.per_consumer.delta", limit };
        reader.refuse_key("budget.all_consumers.delta", fault);
    }
}

/// `default_query` ≤ `max_query` ≤ `per_consumer`.
fn check_epsilons(
    reader: &mut Reader<'_>,
    default_query: Option<Epsilon>,
    max_query: Option<Epsilon>,
    per_consumer: Option<Cap>,
) {
    if let (Some(default), Some(max)) = (default_query, max_query)
        && default > max
    {
        let (found, limit) = (default.to_string(), max.to_string());
        let fault = Fault::Above { found, other: "budget.max_query.epsilon", limit };
        reader.refuse_key("budget.default_query.epsilon", fault);
    }
    if let (Some(max), Some(cap)) = (max_query, per_consumer)
        && max > cap.epsilon
    {
        let (found, limit) = (max.to_string(), cap.epsilon.to_string());
        let fault = Fault::Above { found, other: "budget.per_consumer.epsilon", limit };
        reader.refuse_key("budget.max_query.epsilon", fault);
    }
}

/// A query's ε is stated at a δ that is a small part of the whole, and under zCDP it cannot be stated at none.
fn check_query_delta(reader: &mut Reader<'_>, query: Delta, cap: Delta, accounting: Option<Accounting>) {
    let fault = if query == Delta::ZERO && accounting == Some(Accounting::Zcdp) {
        Fault::DeltaTooSmall { least: "1e-18", example: "1e-9" }
    } else if query > Delta::ZERO && query >= cap {
        Fault::NotLess { found: show_delta(query), other: "budget.per_consumer.delta", limit: show_delta(cap) }
    } else {
        return;
    };
    reader.refuse_key("budget.query_delta", fault);
}

/// As a person writes it: `1e-6`, not `0.000001`.
fn show_delta(delta: Delta) -> String {
    if delta == Delta::ZERO { "0".to_owned() } else { format!("{:e}", delta.to_f64()) }
}
