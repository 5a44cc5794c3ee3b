//! The section `[budget]`.

use super::{BUDGET_KEYS, HOMES};
use crate::accounting::{Accounting, Delta, Epsilon};
use crate::policy::error::Fault;
use crate::policy::model::{Budget, Cap, Period};
use crate::policy::price::{Price, PriceError};
use crate::policy::reader::{Field, Reader, Section};

/// The least and the largest ε that a file may name: one step of the ledger, and far more than promises anything.
const MIN_EPSILON: f64 = 1e-12;
const MAX_EPSILON: f64 = 1e6;

/// A per-consumer δ is divided by this where the file has no `query_delta` (DESIGN 4.3).
const QUERY_DELTA_PART: u64 = 1000;

/// The least δ of a cap under zCDP, in words: [`QUERY_DELTA_PART`] steps, so that its part is at least one.
const MIN_CAP_DELTA: &str = "1e-15";

const CAP_EXAMPLE: &str = "a table such as { epsilon = 4.0, delta = 1e-6, per = \"month\" }";
const PRICE_EXAMPLE: &str = "a table such as { amount = \"12.50\", currency = \"EUR\" }";
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
    let per_agency = reader
        .optional(section, "per_agency", None, |reader, field| cap(reader, field, accounting).map(Some))
        // Where it is not said, an agency is bounded by what bounds everyone.
        .and_then(|own| own.or(all_consumers));
    let in_domain = reader
        .optional(section, "per_consumer_in_domain", None, |reader, field| cap(reader, field, accounting).map(Some));
    let default_query = reader.required(section, "default_query", "default_query = { epsilon = 0.2 }", query_epsilon);
    let query_delta = reader.optional(section, "query_delta", None, |reader, field| delta(reader, field).map(Some));
    let max_query = reader.required(section, "max_query", "max_query = { epsilon = 1.0 }", query_epsilon);
    let auto_grant = reader.optional(section, "auto_grant", true, Reader::boolean);
    let price_per_epsilon =
        reader.optional(section, "price_per_epsilon", None, |reader, field| price(reader, field).map(Some));

    check_caps(reader, per_consumer, all_consumers);
    if section.contains("per_agency") {
        check_reach(reader, ("per_consumer", per_consumer), ("per_agency", per_agency));
        check_reach(reader, ("per_agency", per_agency), ("all_consumers", all_consumers));
    }
    check_reach(reader, ("per_consumer", per_consumer), ("per_consumer_in_domain", in_domain.flatten()));
    check_default_query(reader, default_query, max_query);
    for (key, cap) in [
        ("budget.per_consumer.epsilon", per_consumer),
        ("budget.per_agency.epsilon", per_agency.filter(|_| section.contains("per_agency"))),
        ("budget.per_consumer_in_domain.epsilon", in_domain.flatten()),
    ] {
        check_max_query(reader, max_query, key, cap);
    }
    if let (Some(Some(query_delta)), Some(per_consumer)) = (query_delta, per_consumer) {
        check_query_delta(reader, query_delta, per_consumer.delta, accounting);
    }
    let per_consumer = per_consumer?;
    let default_delta = Delta::from_steps(per_consumer.delta.steps() / QUERY_DELTA_PART);
    Some(Budget {
        per_consumer,
        per_agency: per_agency?,
        all_consumers: all_consumers?,
        per_consumer_in_domain: in_domain?,
        default_query: default_query?,
        query_delta: query_delta?.unwrap_or(default_delta),
        max_query: max_query?,
        auto_grant: auto_grant?,
        price_per_epsilon: price_per_epsilon?,
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

/// A cap that takes in another's spending has at least what that one has: else the inner one promises what cannot be
/// had. An outer cap of a shorter period begins anew before the inner one does, so that nothing can be said of the two.
fn check_reach(
    reader: &mut Reader<'_>,
    (inner_name, inner): (&'static str, Option<Cap>),
    (outer_name, outer): (&'static str, Option<Cap>),
) {
    let (Some(inner), Some(outer)) = (inner, outer) else { return };
    if outer.per < inner.per {
        return;
    }
    let (epsilon_key, delta_key) = match inner_name {
        "per_agency" => ("budget.per_agency.epsilon", "budget.per_agency.delta"),
        _ => ("budget.per_consumer.epsilon", "budget.per_consumer.delta"),
    };
    if outer.epsilon < inner.epsilon {
        let (found, limit) = (outer.epsilon.to_string(), inner.epsilon.to_string());
        let fault = Fault::Below { found, other: epsilon_key, limit };
        reader.refuse_key(&format!("budget.{outer_name}.epsilon"), fault);
    }
    if outer.delta < inner.delta {
        let (found, limit) = (show_delta(outer.delta), show_delta(inner.delta));
        let fault = Fault::Below { found, other: delta_key, limit };
        reader.refuse_key(&format!("budget.{outer_name}.delta"), fault);
    }
}

/// What an agency owes for each ε: an amount and a currency.
fn price(reader: &mut Reader<'_>, field: &Field<'_>) -> Option<Price> {
    let section = reader.table(field, PRICE_EXAMPLE)?;
    reader.refuse_unknown(&section, &["amount", "currency"], &HOMES);
    // Both are looked for before either is read, so that both are named when both are missing.
    let amount = reader.required(&section, "amount", "amount = \"12.50\"", |reader, field| {
        Some((reader.string(field, "an amount in quotes, such as \"12.50\"")?, field.clone()))
    });
    let currency = reader.required(&section, "currency", "currency = \"EUR\"", |reader, field| {
        Some((reader.string(field, "a currency in quotes, such as \"EUR\"")?, field.clone()))
    });
    let ((amount, amount_field), (currency, currency_field)) = (amount?, currency?);
    match Price::new(&amount, &currency) {
        Ok(price) => Some(price),
        Err(PriceError::Amount) => reader.refuse(&amount_field, Fault::Amount { found: amount }),
        Err(PriceError::Currency) => reader.refuse(&currency_field, Fault::Currency { found: currency }),
    }
}

/// `default_query` ≤ `max_query`.
fn check_default_query(reader: &mut Reader<'_>, default_query: Option<Epsilon>, max_query: Option<Epsilon>) {
    if let (Some(default), Some(max)) = (default_query, max_query)
        && default > max
    {
        let (found, limit) = (default.to_string(), max.to_string());
        let fault = Fault::Above { found, other: "budget.max_query.epsilon", limit };
        reader.refuse_key("budget.default_query.epsilon", fault);
    }
}

/// A query that costs more than a whole cap is one that nobody can ask.
fn check_max_query(reader: &mut Reader<'_>, max_query: Option<Epsilon>, key: &'static str, cap: Option<Cap>) {
    if let (Some(max), Some(cap)) = (max_query, cap)
        && max > cap.epsilon
    {
        let (found, limit) = (max.to_string(), cap.epsilon.to_string());
        let fault = Fault::Above { found, other: key, limit };
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
