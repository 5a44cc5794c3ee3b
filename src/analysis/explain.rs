//! The relations below a release, as a person reads them.

use datafusion::logical_expr::{Distinct, Expr, Filter, LogicalPlan};

use crate::catalog::{DatasetTable, Protection};
use crate::release::{CapNode, EpochOf, ReleasedNode};

use super::operators::EPOCH_COLUMN;
use super::refusal::shown;

/// The longest condition that is shown whole, in characters.
const LONGEST: usize = 200;
/// The most epochs that are listed by name.
const MOST_LABELS: usize = 12;

/// One line for each operator of a release's input, the last one first, indented by two spaces a level.
#[must_use]
pub fn relations(plan: &LogicalPlan) -> Vec<String> {
    let mut lines = Vec::new();
    walk(plan, 0, &mut lines);
    lines
}

fn walk(plan: &LogicalPlan, depth: usize, lines: &mut Vec<String>) {
    let indent = "  ".repeat(depth);
    let mut say = |line: String| lines.push(format!("{indent}{line}"));
    match plan {
        LogicalPlan::TableScan(scan) => match DatasetTable::of(&scan.source) {
            Some(table) => match table.protection() {
                Protection::Private(policy) => say(format!(
                    "read {}: private, each row belongs to one {} ({}); rows without one are dropped",
                    table.name(),
                    policy.privacy.unit_domain,
                    policy.privacy.unit
                )),
                Protection::Public => say(format!("read {}: public", table.name())),
            },
            None => say(format!("read {}", scan.table_name)),
        },
        // Rows without a unit: said of the scan.
        LogicalPlan::Filter(filter)
            if matches!(filter.input.as_ref(), LogicalPlan::TableScan(_)) && is_has_unit(&filter.predicate) =>
        {
            walk(&filter.input, depth, lines);
            return;
        }
        LogicalPlan::Filter(filter) => {
            say(epochs(filter).unwrap_or_else(|| format!("keep rows where {}", short(&filter.predicate))));
        }
        LogicalPlan::Join(join) => {
            let compared = |(a, b): &(Expr, Expr)| {
                if is_epoch(a) { "the same epoch".to_owned() } else { format!("{} = {}", shown(a), shown(b)) }
            };
            let on: Vec<String> = join.on.iter().map(compared).collect();
            let conditions: Vec<String> = on.into_iter().chain(join.filter.iter().map(short)).collect();
            let conditions =
                if conditions.is_empty() { String::new() } else { format!(" on {}", conditions.join(" and ")) };
            say(format!("{} join{conditions}", join.join_type));
        }
        LogicalPlan::Aggregate(aggregate) => {
            let keys: Vec<String> = aggregate.group_expr.iter().filter(|key| !is_epoch(key)).map(shown).collect();
            say(format!("{}: group by {}", by_itself(plan), keys.join(", ")));
        }
        LogicalPlan::Window(_) => say(format!("{}: window functions", by_itself(plan))),
        LogicalPlan::Distinct(Distinct::All(_)) => say(format!("{}: distinct rows", by_itself(plan))),
        LogicalPlan::Union(_) => say("unite the rows of".to_owned()),
        LogicalPlan::Values(values) => say(format!("{} literal rows", values.values.len())),
        LogicalPlan::Extension(extension) => {
            if let Some(cap) = extension.node.as_any().downcast_ref::<CapNode>() {
                say(format!("of one unit at most {} rows meet one row", cap.most()));
            } else if extension.node.as_any().is::<ReleasedNode>() {
                say("values known before, released or public".to_owned());
            }
        }
        // These change names and columns, and no rows.
        LogicalPlan::Projection(projection) => {
            walk(&projection.input, depth, lines);
            return;
        }
        LogicalPlan::SubqueryAlias(alias) => {
            walk(&alias.input, depth, lines);
            return;
        }
        _ => {}
    }
    for input in plan.inputs() {
        walk(input, depth + 1, lines);
    }
}

/// Of a filter that drops the rows of epochs that are not read, what it keeps.
fn epochs(filter: &Filter) -> Option<String> {
    let LogicalPlan::Projection(projection) = filter.input.as_ref() else { return None };
    let Expr::Alias(last) = projection.expr.last()? else { return None };
    let (function, moment) = EpochOf::of(&last.expr)?;
    let kind = function.kind();
    let labels: Vec<String> = function.epochs().iter().map(|epoch| kind.label(*epoch)).collect();
    let listed = match &labels[..] {
        [first, .., last] if labels.len() > MOST_LABELS => format!("{} {kind}s from {first} to {last}", labels.len()),
        _ => format!("{kind}s {}", labels.join(", ")),
    };
    Some(format!(
        "only the {listed} by {}: each row belongs to one unit in one {kind}, and all others are dropped",
        shown(moment)
    ))
}

/// Whether an expression is a hidden column of epochs.
fn is_epoch(expr: &Expr) -> bool {
    match expr {
        Expr::Alias(alias) => is_epoch(&alias.expr),
        Expr::Column(column) => column.name.starts_with(EPOCH_COLUMN),
        _ => false,
    }
}

/// Of which rows something is computed by itself.
fn by_itself(plan: &LogicalPlan) -> &'static str {
    let inputs = plan.inputs();
    let mut fields = inputs.iter().flat_map(|input| input.schema().fields().iter());
    if fields.any(|field| field.name().starts_with(EPOCH_COLUMN)) {
        "for each unit and epoch by itself"
    } else {
        "for each unit by itself"
    }
}

fn is_has_unit(predicate: &Expr) -> bool {
    matches!(predicate, Expr::IsNotNull(inner) if matches!(inner.as_ref(), Expr::Column(_)))
}

/// As SQL, and not longer than a line of a report.
fn short(expr: &Expr) -> String {
    let text = shown(expr).replace("$subquery", "the value of the subquery");
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{} ...", &text[..at]),
        None => text,
    }
}
