//! The relations below a release, as a person reads them.

use datafusion::logical_expr::{Distinct, Expr, LogicalPlan};

use crate::catalog::{DatasetTable, Protection};
use crate::release::{CapNode, ReleasedNode};

use super::refusal::shown;

/// The longest condition that is shown whole, in characters.
const LONGEST: usize = 200;

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
        LogicalPlan::Filter(filter) => say(format!("keep rows where {}", short(&filter.predicate))),
        LogicalPlan::Join(join) => {
            let on: Vec<String> = join.on.iter().map(|(a, b)| format!("{} = {}", shown(a), shown(b))).collect();
            let conditions: Vec<String> = on.into_iter().chain(join.filter.iter().map(short)).collect();
            let conditions =
                if conditions.is_empty() { String::new() } else { format!(" on {}", conditions.join(" and ")) };
            say(format!("{} join{conditions}", join.join_type));
        }
        LogicalPlan::Aggregate(aggregate) => {
            let keys: Vec<String> = aggregate.group_expr.iter().map(shown).collect();
            say(format!("for each unit by itself: group by {}", keys.join(", ")));
        }
        LogicalPlan::Window(_) => say("for each unit by itself: window functions".to_owned()),
        LogicalPlan::Distinct(Distinct::All(_)) => say("for each unit by itself: distinct rows".to_owned()),
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
