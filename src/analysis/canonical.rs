//! A release as text, such that two queries with one text ask the same question (DESIGN 4.3).
//!
//! Columns are written by their place, so that names of tables and columns in the SQL do not matter; literals are
//! written with their type and escaped, so that no literal can pass for another part of the text. Only the nodes that
//! the analysis lets through are known here: anything else is a fault, not an answer.

use std::collections::BTreeMap;
use std::fmt::Write;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, JoinType, ScalarValue};
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan, build_join_schema};

use crate::catalog::DatasetTable;
use crate::policy::DatasetName;
use crate::release::{CapNode, Groups, ReleaseSpec, ReleasedNode};

use super::AnalysedRelease;
use super::known::{Known, digest, known_of, releases_of};
use super::refusal::{Refusal, RefusalKind};

/// The canonical text of a release.
pub(super) fn release(
    input: &LogicalPlan,
    spec: &ReleaseSpec,
    versions: &BTreeMap<DatasetName, String>,
    known: &[Known],
    releases: &[AnalysedRelease],
) -> Result<String, Refusal> {
    let mut text = String::from("tollgate-release-2\n");
    // What it reads of values drawn earlier: the plan over them, and which releases they are of.
    for index in known_of(input) {
        let plan = &known.get(index).ok_or_else(unexpected)?.plan;
        let _ = writeln!(text, "known {index} {}", digest(plan).to_hex());
        for release in releases_of(plan) {
            let release = &releases.get(release).ok_or_else(unexpected)?.canonical;
            let _ = writeln!(text, "of {}", blake3::hash(release.as_bytes()).to_hex());
        }
    }
    for (name, version) in versions {
        let _ = writeln!(text, "table {name} {version}");
    }
    let _ = writeln!(text, "domain {:?} k {} bounds {:?}", spec.unit_domain, spec.min_group_size, spec.bounds);
    let _ = writeln!(text, "sets {:?}", spec.sets);
    let _ = writeln!(text, "measures {:?}", spec.measures);
    let _ = writeln!(text, "histograms {:?} quantiles {:?}", spec.histograms, spec.quantiles);
    for (field, output) in &spec.outputs {
        let _ = writeln!(text, "output {} {output:?}", field.data_type());
    }
    match &spec.groups {
        Groups::Private => text.push_str("groups private\n"),
        Groups::Public { keys, cells } => {
            let _ = writeln!(text, "groups public {cells}");
            for column in keys {
                let _ = writeln!(text, "keys {:?}", column.iter().map(escaped).collect::<Vec<_>>());
            }
        }
    }
    for key in &spec.keys {
        let _ = writeln!(text, "key {}", key.data_type());
    }
    plan(input, &mut text)?;
    Ok(text)
}

fn plan(node: &LogicalPlan, text: &mut String) -> Result<(), Refusal> {
    text.push('(');
    match node {
        LogicalPlan::TableScan(scan) => {
            let table = DatasetTable::of(&scan.source).ok_or_else(unexpected)?;
            let _ = write!(text, "scan {}", table.name());
        }
        LogicalPlan::SubqueryAlias(alias) => {
            // An alias changes names only.
            text.pop();
            return plan(&alias.input, text);
        }
        LogicalPlan::Filter(filter) => {
            text.push_str("filter ");
            write_expr(&filter.predicate, filter.input.schema(), text)?;
            plan(&filter.input, text)?;
        }
        LogicalPlan::Projection(projection) => {
            text.push_str("project");
            for expr in &projection.expr {
                text.push(' ');
                write_expr(expr, projection.input.schema(), text)?;
            }
            plan(&projection.input, text)?;
        }
        LogicalPlan::Join(join) => {
            let _ = write!(text, "join {:?} {:?} {}", join.join_type, join.null_equality, join.null_aware);
            // Conditions see both sides, also where the result has the columns of one.
            let schema = build_join_schema(join.left.schema(), join.right.schema(), &JoinType::Inner)?;
            for (left, right) in &join.on {
                text.push_str(" on ");
                write_expr(left, &schema, text)?;
                text.push_str(" = ");
                write_expr(right, &schema, text)?;
            }
            if let Some(filter) = &join.filter {
                text.push_str(" where ");
                write_expr(filter, &schema, text)?;
            }
            plan(&join.left, text)?;
            plan(&join.right, text)?;
        }
        LogicalPlan::Union(union) => {
            text.push_str("union");
            for input in &union.inputs {
                plan(input, text)?;
            }
        }
        LogicalPlan::Aggregate(aggregate) => {
            text.push_str("aggregate");
            for expr in &aggregate.group_expr {
                text.push(' ');
                write_expr(expr, aggregate.input.schema(), text)?;
            }
            text.push_str(" of");
            for expr in &aggregate.aggr_expr {
                text.push(' ');
                write_expr(expr, aggregate.input.schema(), text)?;
            }
            plan(&aggregate.input, text)?;
        }
        LogicalPlan::Window(window) => {
            text.push_str("window");
            for expr in &window.window_expr {
                text.push(' ');
                write_expr(expr, window.input.schema(), text)?;
            }
            plan(&window.input, text)?;
        }
        LogicalPlan::Distinct(Distinct::All(input)) => {
            text.push_str("distinct");
            plan(input, text)?;
        }
        LogicalPlan::Values(values) => {
            let _ = write!(text, "values {}", digest(&LogicalPlan::Values(values.clone())).to_hex());
        }
        LogicalPlan::Extension(extension) if extension.node.as_any().is::<CapNode>() => {
            let cap = extension.node.as_any().downcast_ref::<CapNode>().ok_or_else(unexpected)?;
            let _ = write!(text, "cap {}", cap.most());
            for key in cap.keys() {
                text.push(' ');
                write_expr(key, cap.input().schema(), text)?;
            }
            plan(cap.input(), text)?;
        }
        LogicalPlan::Extension(extension) => {
            let leaf = extension.node.as_any().downcast_ref::<ReleasedNode>().ok_or_else(unexpected)?.leaf();
            let _ = write!(text, "{leaf:?}");
        }
        // The analysis lets nothing else through below a release.
        _ => return Err(unexpected()),
    }
    text.push(')');
    Ok(())
}

/// The expression with its columns by place. Names of aliases do not matter.
fn write_expr(expr: &Expr, schema: &DFSchema, text: &mut String) -> Result<(), Refusal> {
    let placed = expr
        .clone()
        .transform_up(|part| {
            Ok(match part {
                Expr::Column(column) => {
                    let place = schema.index_of_column(&column)?;
                    Transformed::yes(datafusion::logical_expr::ident(format!("#{place}")))
                }
                Expr::Alias(alias) => Transformed::yes(*alias.expr),
                Expr::Literal(value, _) => Transformed::yes(Expr::Literal(escaped(&value), None)),
                other => Transformed::no(other),
            })
        })?
        .data;
    let _ = write!(text, "{placed:?}");
    Ok(())
}

/// A text literal with its quotes escaped: DataFusion writes it between quotes as it is.
fn escaped(value: &ScalarValue) -> ScalarValue {
    match value {
        ScalarValue::Utf8(Some(text)) => ScalarValue::Utf8(Some(format!("{text:?}"))),
        ScalarValue::Utf8View(Some(text)) => ScalarValue::Utf8View(Some(format!("{text:?}"))),
        ScalarValue::LargeUtf8(Some(text)) => ScalarValue::LargeUtf8(Some(format!("{text:?}"))),
        other => other.clone(),
    }
}

fn unexpected() -> Refusal {
    Refusal {
        kind: RefusalKind::Internal,
        detail: "a plan that the analysis let through is not known".into(),
        hint: None,
    }
}
