//! A release as text, such that two queries with one text ask the same question (DESIGN 4.3).
//!
//! Columns are written by their place, so that names of tables and columns in the SQL do not matter; literals are
//! written with their type and escaped, so that no literal can pass for another part of the text. Only the nodes that
//! the analysis lets through are known here: anything else is a fault, not an answer.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, JoinType, ScalarValue};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    BinaryExpr, Distinct, Expr, Extension, LogicalPlan, Operator, Projection, binary_expr, build_join_schema,
};

use crate::catalog::DatasetTable;
use crate::policy::DatasetName;
use crate::release::{CapNode, Groups, Leaf, ReleaseSpec, ReleasedNode};

use super::AnalysedRelease;
use super::known::{Known, digest, known_of, releases_of, renumbered_scalars};
use super::refusal::{Refusal, RefusalKind};

/// The canonical text of a release.
pub(super) fn release(
    input: &LogicalPlan,
    spec: &ReleaseSpec,
    versions: &BTreeMap<DatasetName, String>,
    known: &[Known],
    releases: &[AnalysedRelease],
) -> Result<String, Refusal> {
    let mut text = String::from("tollgate-release-3\n");
    let known = Identities::of(input, known, releases)?;
    let mut tables = tables_of(input);
    tables.extend(known.tables.iter().cloned());
    for (name, version) in versions.iter().filter(|(name, _)| tables.contains(*name)) {
        let _ = writeln!(text, "table {name} {version}");
    }
    let _ = writeln!(text, "domain {:?} k {} bounds {:?}", spec.unit_domain, spec.min_group_size, spec.bounds);
    let _ = writeln!(text, "sets {:?}", spec.sets);
    if let Some(epochs) = &spec.epochs {
        for (name, numbers) in &epochs.by_dataset {
            let labels: Vec<String> = numbers.iter().map(|number| epochs.kind.label(*number)).collect();
            let _ = writeln!(text, "epochs {name} {}", labels.join(" "));
        }
    }
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
    for digest in &known.digests {
        let _ = writeln!(text, "known {digest}");
    }
    plan(&known.written_into(input)?, &mut text)?;
    Ok(text)
}

/// An expression over `schema` as canonical text.
pub(super) fn expression(expr: &Expr, schema: &DFSchema) -> Option<String> {
    let mut text = String::new();
    write_expr(expr, schema, &mut text).ok()?;
    Some(text)
}

/// A hash over which rows a release counts, whatever it groups them by: tables in their versions, unit domain, minimum
/// group size, and the plan below its keys. `None` where it reads relations that are computed before it.
pub(super) fn base(release: &AnalysedRelease, input: &LogicalPlan) -> Option<[u8; 32]> {
    let mut text = String::from("tollgate-base-1\n");
    for line in release.canonical.lines() {
        if line.starts_with("known ") {
            return None;
        }
        if line.starts_with("table ") || line.starts_with("epochs ") {
            text.push_str(line);
            text.push('\n');
        }
    }
    let _ = writeln!(text, "{:?} {}", release.spec.unit_domain, release.spec.min_group_size);
    plan(input, &mut text).ok()?;
    Some(*blake3::hash(text.as_bytes()).as_bytes())
}

/// The known relations that a release reads, each as what it is and not as which one of the query's.
struct Identities {
    /// By index in the query, its place in this release.
    places: BTreeMap<usize, usize>,
    /// The tables that they are computed from.
    tables: BTreeSet<DatasetName>,
    /// In the order of their places, what each is.
    digests: Vec<String>,
}

impl Identities {
    fn of(input: &LogicalPlan, known: &[Known], releases: &[AnalysedRelease]) -> Result<Self, Refusal> {
        let mut found = Self { places: BTreeMap::new(), tables: BTreeSet::new(), digests: Vec::new() };
        for index in known_of(input) {
            let plan = &known.get(index).ok_or_else(unexpected)?.plan;
            // The releases that it reads are named by what they are, and numbered among themselves.
            let read: Vec<usize> = releases_of(plan).into_iter().collect();
            let place = |leaf: Leaf| match leaf {
                Leaf::Release(release) => read.iter().position(|known| *known == release).map(Leaf::Release),
                Leaf::Known(_) => None,
            };
            let mut digest = digest(&renumbered(plan, &place)?).to_hex().to_string();
            for release in read {
                let release = &releases.get(release).ok_or_else(unexpected)?.canonical;
                let _ = write!(digest, " of {}", blake3::hash(release.as_bytes()).to_hex());
            }
            found.tables.extend(tables_of(plan));
            found.places.insert(index, found.digests.len());
            found.digests.push(digest);
        }
        Ok(found)
    }

    /// `input` with the known relations numbered by their places, and what they are beside it.
    fn written_into(&self, input: &LogicalPlan) -> Result<LogicalPlan, Refusal> {
        let place = |leaf: Leaf| match leaf {
            Leaf::Known(index) => self.places.get(&index).copied().map(Leaf::Known),
            Leaf::Release(_) => None,
        };
        renumbered_scalars(&renumbered(input, &place)?, &self.places)
    }
}

/// The tables that a plan reads.
fn tables_of(plan: &LogicalPlan) -> BTreeSet<DatasetName> {
    let mut tables = BTreeSet::new();
    let _ = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            tables.extend(DatasetTable::of(&scan.source).map(|table| table.name().clone()));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    tables
}

fn renumbered(plan: &LogicalPlan, place: &dyn Fn(Leaf) -> Option<Leaf>) -> Result<LogicalPlan, Refusal> {
    let renumbered = plan.clone().transform_up_with_subqueries(|node| {
        let LogicalPlan::Extension(extension) = &node else { return Ok(Transformed::no(node)) };
        let Some(released) = extension.node.as_any().downcast_ref::<ReleasedNode>() else {
            return Ok(Transformed::no(node));
        };
        let leaf = place(released.leaf()).unwrap_or(released.leaf());
        let renumbered = ReleasedNode::new(leaf, Arc::clone(extension.node.schema()));
        Ok(Transformed::yes(LogicalPlan::Extension(Extension { node: Arc::new(renumbered) })))
    })?;
    Ok(renumbered.data)
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
        LogicalPlan::Filter(_) => {
            // Conditions on conditions, however they are nested and in whichever order they are written, are one set.
            let (mut conditions, mut rest) = (BTreeSet::new(), node);
            loop {
                match rest {
                    LogicalPlan::Filter(filter) => {
                        for condition in split_conjunction(&filter.predicate) {
                            let mut text = String::new();
                            write_expr(condition, filter.input.schema(), &mut text)?;
                            conditions.insert(text);
                        }
                        rest = &filter.input;
                    }
                    LogicalPlan::SubqueryAlias(alias) => rest = &alias.input,
                    LogicalPlan::Projection(projection) if keeps_all(projection) => rest = &projection.input,
                    _ => break,
                }
            }
            text.push_str("filter");
            for condition in conditions {
                text.push(' ');
                text.push_str(&condition);
            }
            plan(rest, text)?;
        }
        LogicalPlan::Projection(projection) if keeps_all(projection) => {
            // `SELECT *`, under whichever names, changes nothing.
            text.pop();
            return plan(&projection.input, text);
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

/// Whether a projection is every column of its input in its place, and no more.
fn keeps_all(projection: &Projection) -> bool {
    let schema = projection.input.schema();
    projection.expr.len() == schema.fields().len()
        && projection.expr.iter().enumerate().all(|(at, expr)| {
            let mut inner = expr;
            while let Expr::Alias(alias) = inner {
                inner = &alias.expr;
            }
            matches!(inner, Expr::Column(column) if schema.index_of_column(column).is_ok_and(|place| place == at))
        })
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
                Expr::BinaryExpr(binary) => Transformed::yes(ordered(binary)),
                other => Transformed::no(other),
            })
        })?
        .data;
    let _ = write!(text, "{placed:?}");
    Ok(())
}

/// The same with operands in one order where their order has no meaning: none of them can fail below a release, so that
/// `a AND b` is `b AND a`.
fn ordered(binary: BinaryExpr) -> Expr {
    let (op, whole) = (binary.op, Expr::BinaryExpr(binary.clone()));
    let operands = match op {
        Operator::And | Operator::Or => {
            let mut operands = Vec::new();
            flatten(&whole, op, &mut operands);
            if operands.len() > MAX_ORDERED {
                return whole;
            }
            operands
        }
        Operator::Eq | Operator::NotEq => vec![*binary.left, *binary.right],
        _ => return whole,
    };
    let mut operands: Vec<(String, Expr)> =
        operands.into_iter().map(|operand| (format!("{operand:?}"), operand)).collect();
    operands.sort_by(|(a, _), (b, _)| a.cmp(b));
    operands.into_iter().map(|(_, operand)| operand).reduce(|all, one| binary_expr(all, op, one)).unwrap_or(whole)
}

fn flatten(expr: &Expr, op: Operator, operands: &mut Vec<Expr>) {
    match expr {
        Expr::BinaryExpr(binary) if binary.op == op && operands.len() <= MAX_ORDERED => {
            flatten(&binary.left, op, operands);
            flatten(&binary.right, op, operands);
        }
        _ if operands.len() > MAX_ORDERED => {}
        other => operands.push(other.clone()),
    }
}

/// The most operands that are put in order: the order is found anew at each level of a long chain.
const MAX_ORDERED: usize = 64;

/// A text literal with its quotes escaped: DataFusion writes it between quotes as it is.
fn escaped(value: &ScalarValue) -> ScalarValue {
    match value {
        ScalarValue::Utf8(Some(text)) => ScalarValue::Utf8(Some(format!("{text:?}"))),
        ScalarValue::Utf8View(Some(text)) => ScalarValue::Utf8View(Some(format!("{text:?}"))),
        // What a literal becomes beside a column that a file hands out as a dictionary.
        ScalarValue::Dictionary(keys, value) => ScalarValue::Dictionary(keys.clone(), Box::new(escaped(value))),
        ScalarValue::LargeUtf8(Some(text)) => ScalarValue::LargeUtf8(Some(format!("{text:?}"))),
        other => other.clone(),
    }
}

fn unexpected() -> Refusal {
    Refusal {
        kind: RefusalKind::Internal,
        detail: "a plan that the analysis let through is not known".into(),
        hint: None,
        position: None,
    }
}
