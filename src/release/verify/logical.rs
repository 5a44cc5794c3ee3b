//! The logical proof: whose each row is, from the scans up to the release.

use std::collections::BTreeSet;

use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::BinaryExpr;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Distinct, Expr, ExprSchemable, Join, JoinType, LogicalPlan, Operator, Volatility};

use crate::catalog::{DatasetTable, Protection};

use super::super::cap::CapNode;
use super::super::epoch::EpochOf;
use super::super::node::ReleasedNode;
use super::super::spec::{EpochsRead, ReleaseSpec};
use super::{Unproven, unproven};

/// What the verifier knows of a logical relation.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "one is made for each operator of a plan")]
enum Rows {
    /// No private row is in it.
    Public,
    /// No row is in it, as the SQL alone proves.
    Nothing,
    /// Private rows.
    Private(Private),
}

/// Rows of which each belongs to one unit, or to one pair of a unit and an epoch.
#[derive(Debug, Clone)]
struct Private {
    /// These columns hold the unit's id. Without one the unit is lost.
    unit: Vec<usize>,
    /// Rows without a unit were dropped.
    has_unit: bool,
    /// There is at most one row of a unit, or of a pair.
    alone: bool,
    /// Where the release has epochs.
    time: Option<Time>,
}

/// What is known of the epoch of a row.
#[derive(Debug, Clone)]
struct Time {
    /// These columns hold the dataset's time, untouched.
    moment: Vec<usize>,
    /// The epochs of that dataset that are charged.
    charged: BTreeSet<i32>,
    /// The function that gives the epoch of a moment: the first one that is met, and no other after it.
    function: Option<EpochOf>,
    /// These columns hold its value.
    epoch: Vec<usize>,
    /// Rows for which it is NULL were dropped: those out of the epochs that are charged.
    has_epoch: bool,
}

impl Time {
    /// Whether `expr` over `input` is the row's epoch.
    fn is_epoch(&self, expr: &Expr, input: &LogicalPlan) -> bool {
        if place(expr, input).is_some_and(|at| self.epoch.contains(&at)) {
            return true;
        }
        EpochOf::of(unaliased(expr)).is_some_and(|(function, moment)| {
            place(moment, input).is_some_and(|at| self.moment.contains(&at))
                && self.function.as_ref().is_none_or(|known| known == function)
                && function.epochs().iter().all(|epoch| self.charged.contains(epoch))
        })
    }

    /// The same once `expr`, which is the row's epoch, has been met.
    fn met(&mut self, expr: &Expr) {
        if let Some((function, _)) = EpochOf::of(unaliased(expr)) {
            self.function = Some(function.clone());
        }
    }
}

impl Private {
    fn is_unit(&self, expr: &Expr, input: &LogicalPlan) -> bool {
        place(expr, input).is_some_and(|at| self.unit.contains(&at))
    }

    /// Whether `exprs` over `input` hold the unit, and its epoch if there are epochs.
    fn are_one_units<'a>(&self, exprs: impl Iterator<Item = &'a Expr> + Clone, input: &LogicalPlan) -> bool {
        exprs.clone().any(|expr| self.is_unit(expr, input))
            && self.time.as_ref().is_none_or(|time| exprs.clone().any(|expr| time.is_epoch(expr, input)))
    }

    /// Whether `exprs` over `input` are the unit, and its epoch if there are epochs, and nothing beside.
    fn name_a_unit(&self, exprs: &[Expr], input: &LogicalPlan) -> bool {
        let is_epoch = |expr| self.time.as_ref().is_some_and(|time| time.is_epoch(expr, input));
        self.are_one_units(exprs.iter(), input) && exprs.iter().all(|expr| self.is_unit(expr, input) || is_epoch(expr))
    }

    /// The same rows behind `by` other columns.
    fn shifted(self, by: usize) -> Self {
        let shifted = |places: Vec<usize>| places.into_iter().map(|at| at + by).collect::<Vec<_>>();
        let time = self.time.map(|time| Time { moment: shifted(time.moment), epoch: shifted(time.epoch), ..time });
        Self { unit: shifted(self.unit), time, ..self }
    }

    /// What the outputs `exprs` over `input` hold of it.
    ///
    /// Rows stay as many as they were.
    fn through(&self, exprs: &[Expr], input: &LogicalPlan) -> Self {
        let where_is = |is: &dyn Fn(&Expr) -> bool| (0..exprs.len()).filter(|at| is(&exprs[*at])).collect::<Vec<_>>();
        let unit = where_is(&|expr| self.is_unit(expr, input));
        let time = self.time.clone().map(|mut time| {
            let moment = where_is(&|expr| place(expr, input).is_some_and(|at| time.moment.contains(&at)));
            let mut epoch = Vec::new();
            for (at, expr) in exprs.iter().enumerate() {
                if time.is_epoch(expr, input) {
                    time.met(expr);
                    epoch.push(at);
                }
            }
            Time { moment, epoch, ..time }
        });
        Self { unit, time, ..self.clone() }
    }

    /// Rows of several datasets: from here on no column is the time of one of them, and a unit may have many rows.
    fn merged(mut self) -> Self {
        self.alone = false;
        if let Some(time) = &mut self.time {
            time.moment.clear();
        }
        self
    }
}

/// Proves that every row of a release's input belongs to one unit, or pair, of a dataset, which its first columns name. True
/// where it proves that there is at most one row of each, too.
pub(super) fn release_input(input: &LogicalPlan, spec: &ReleaseSpec) -> Result<bool, Unproven> {
    match rows(input, spec.epochs.as_ref())? {
        Rows::Public => unproven("a release of public rows"),
        Rows::Nothing => Ok(false),
        Rows::Private(Private { unit, has_unit, alone, time }) => {
            if !unit.contains(&ReleaseSpec::UNIT) {
                return unproven("the unit column of the release is not the datasets' unit");
            }
            if !has_unit {
                return unproven("rows without a unit are not dropped");
            }
            match (time, spec.epoch_column()) {
                (None, None) => Ok(alone),
                (Some(time), Some(column)) => {
                    if !time.epoch.contains(&column) {
                        return unproven("the epoch column of the release is not the datasets' epoch");
                    }
                    if !time.has_epoch {
                        return unproven("rows of epochs that are not charged are not dropped");
                    }
                    Ok(alone)
                }
                _ => unproven("epochs in the rows or in the release, and not in both"),
            }
        }
    }
}

fn rows(plan: &LogicalPlan, read: Option<&EpochsRead>) -> Result<Rows, Unproven> {
    for expr in plan.expressions() {
        total(&expr)?;
    }
    match plan {
        LogicalPlan::TableScan(scan) => {
            let Some(table) = DatasetTable::of(&scan.source) else { return unproven("a scan of an unknown table") };
            if scan.fetch.is_some() {
                return unproven("a scan with a limit");
            }
            let Protection::Private(policy) = table.protection() else { return Ok(Rows::Public) };
            let schema = &scan.projected_schema;
            let named = |name: &str| (0..schema.fields().len()).filter(|at| schema.field(*at).name() == name).collect();
            let unit: Vec<usize> = named(&policy.privacy.unit);
            let nullable = unit.first().is_none_or(|at| schema.field(*at).is_nullable());
            let time = match (&policy.privacy.epochs, read) {
                (None, None) => None,
                (Some(epochs), Some(read)) if epochs.kind == read.kind => {
                    let Some(charged) = read.by_dataset.get(table.name()) else {
                        return unproven("a dataset of which no epoch is charged");
                    };
                    let (moment, charged) = (named(&epochs.column), charged.clone());
                    Some(Time { moment, charged, function: None, epoch: Vec::new(), has_epoch: false })
                }
                _ => return unproven("a dataset with other epochs than the release's"),
            };
            Ok(Rows::Private(Private { unit, has_unit: !nullable, alone: false, time }))
        }
        LogicalPlan::Filter(filter) => {
            let mut private = match rows(&filter.input, read)? {
                Rows::Private(private) => private,
                other => return Ok(other),
            };
            for part in split_conjunction(&filter.predicate) {
                let Expr::IsNotNull(inner) = part else { continue };
                private.has_unit |= private.is_unit(inner, &filter.input);
                if let Some(time) = private.time.as_mut().filter(|time| time.is_epoch(inner, &filter.input)) {
                    time.met(inner);
                    time.has_epoch = true;
                }
            }
            Ok(Rows::Private(private))
        }
        LogicalPlan::Projection(projection) => Ok(match rows(&projection.input, read)? {
            Rows::Private(private) => Rows::Private(private.through(&projection.expr, &projection.input)),
            other => other,
        }),
        LogicalPlan::SubqueryAlias(alias) => rows(&alias.input, read),
        LogicalPlan::Union(union) => united(union.inputs.iter().map(|input| rows(input, read))),
        LogicalPlan::Join(join) => joined(join, read),
        LogicalPlan::Aggregate(aggregate) if !is_public(plan) => match rows(&aggregate.input, read)? {
            Rows::Private(private) => {
                if !private.are_one_units(aggregate.group_expr.iter(), &aggregate.input) {
                    return unproven("an aggregate over several units");
                }
                aggregate.aggr_expr.iter().try_for_each(|expr| order_free(expr, aggregate.input.schema()))?;
                let alone = private.name_a_unit(&aggregate.group_expr, &aggregate.input);
                Ok(Rows::Private(Private { alone, ..private.through(&aggregate.group_expr, &aggregate.input) }))
            }
            other => Ok(other),
        },
        LogicalPlan::Distinct(Distinct::All(input)) if !is_public(plan) => match rows(input, read)? {
            Rows::Private(Private { unit, time, .. })
                if unit.is_empty() || time.as_ref().is_some_and(|time| time.epoch.is_empty()) =>
            {
                unproven("DISTINCT over several units")
            }
            other => Ok(other),
        },
        LogicalPlan::Window(window) if !is_public(plan) => match rows(&window.input, read)? {
            Rows::Private(private) => {
                for expr in &window.window_expr {
                    let Expr::WindowFunction(call) = unaliased(expr) else { return unproven("an unknown window") };
                    if !private.are_one_units(call.params.partition_by.iter(), &window.input) {
                        return unproven("a window over several units");
                    }
                }
                Ok(Rows::Private(private))
            }
            other => Ok(other),
        },
        // The optimizer proved that a part of the plan has no rows, from the SQL alone: no unit is in it.
        LogicalPlan::EmptyRelation(empty) if !empty.produce_one_row => Ok(Rows::Nothing),
        LogicalPlan::Extension(extension) if extension.node.as_any().is::<ReleasedNode>() => Ok(Rows::Public),
        LogicalPlan::Extension(extension) => match extension.node.as_any().downcast_ref::<CapNode>() {
            Some(cap) => match rows(cap.input(), read)? {
                Rows::Private(private) if !private.are_one_units(cap.keys().iter(), cap.input()) => {
                    unproven("a cap over several units")
                }
                below => Ok(below),
            },
            None => unproven(format!("the node {} below a release", plan.display())),
        },
        public @ (LogicalPlan::Values(_)
        | LogicalPlan::EmptyRelation(_)
        | LogicalPlan::Aggregate(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::Distinct(_)
        | LogicalPlan::Window(_)) => {
            only_public(public)?;
            Ok(Rows::Public)
        }
        other => unproven(format!("the node {} below a release", other.display())),
    }
}

/// `UNION ALL`: the unit, and the epoch, where all inputs have them.
fn united(inputs: impl Iterator<Item = Result<Rows, Unproven>>) -> Result<Rows, Unproven> {
    let mut united: Option<Private> = None;
    for input in inputs {
        let next = match input? {
            Rows::Private(private) => private.merged(),
            Rows::Nothing => continue,
            Rows::Public => return unproven("a union with public rows"),
        };
        let both = |a: Vec<usize>, b: &[usize]| a.into_iter().filter(|at| b.contains(at)).collect::<Vec<_>>();
        united = Some(match united {
            None => next,
            Some(so_far) => Private {
                unit: both(so_far.unit, &next.unit),
                has_unit: so_far.has_unit && next.has_unit,
                alone: false,
                time: so_far.time.zip(next.time).map(|(so_far, next)| Time {
                    epoch: both(so_far.epoch, &next.epoch),
                    has_epoch: so_far.has_epoch && next.has_epoch,
                    ..so_far
                }),
            },
        });
    }
    Ok(united.map_or(Rows::Nothing, Rows::Private))
}

fn joined(join: &Join, read: Option<&EpochsRead>) -> Result<Rows, Unproven> {
    use JoinType::{Inner, Left, LeftAnti, LeftMark, LeftSemi, Right, RightAnti, RightMark, RightSemi};
    let width = join.left.schema().fields().len();
    let (left, right) = (rows(&join.left, read)?, rows(&join.right, read)?);
    match (left, right, join.join_type) {
        (Rows::Private(l), Rows::Private(r), kind) => {
            if join.null_aware || !on_units(join, &l, &r) {
                return unproven("a join of private rows that does not compare their units");
            }
            let (l, r) = (l.merged(), r.merged());
            Ok(Rows::Private(match kind {
                Inner => {
                    let r = r.shifted(width);
                    Private {
                        unit: l.unit.into_iter().chain(r.unit).collect(),
                        has_unit: l.has_unit && r.has_unit,
                        alone: false,
                        time: l.time.zip(r.time).map(|(l, r)| Time {
                            epoch: l.epoch.iter().copied().chain(r.epoch).collect(),
                            has_epoch: l.has_epoch && r.has_epoch,
                            ..l
                        }),
                    }
                }
                Left | LeftSemi | LeftAnti | LeftMark => l,
                Right => r.shifted(width),
                RightSemi | RightAnti | RightMark => r,
                JoinType::Full => return unproven("a full join of private rows"),
            }))
        }
        (Rows::Nothing, _, Inner | Left | LeftSemi | LeftAnti | LeftMark | RightSemi)
        | (_, Rows::Nothing, Inner | Right | RightSemi | RightAnti | RightMark | LeftSemi) => Ok(Rows::Nothing),
        // A row may meet many public ones.
        (Rows::Private(private), _, Inner | Left | LeftSemi | LeftAnti | LeftMark) => {
            Ok(Rows::Private(Private { alone: false, ..private }))
        }
        (_, Rows::Private(private), Inner | Right) => {
            Ok(Rows::Private(Private { alone: false, ..private.shifted(width) }))
        }
        (_, Rows::Private(private), RightSemi | RightAnti | RightMark) => {
            Ok(Rows::Private(Private { alone: false, ..private }))
        }
        (Rows::Public | Rows::Nothing, Rows::Public | Rows::Nothing, _) => Ok(Rows::Public),
        (_, _, kind) => unproven(format!("a {kind} join of these relations")),
    }
}

/// Whether every pair of joined rows is of one unit: an equality, without casts, of the two sides' unit columns; and of their
/// epochs, where there are epochs.
fn on_units(join: &Join, left: &Private, right: &Private) -> bool {
    let compares = |of_left: &dyn Fn(&Expr) -> bool, of_right: &dyn Fn(&Expr) -> bool| {
        join.on.iter().any(|(a, b)| of_left(a) && of_right(b))
            || join.filter.as_ref().map(split_conjunction).unwrap_or_default().into_iter().any(|part| {
                matches!(part, Expr::BinaryExpr(BinaryExpr { left: a, op: Operator::Eq, right: b })
                    if (of_left(a) && of_right(b)) || (of_right(a) && of_left(b)))
            })
    };
    compares(&|expr| left.is_unit(expr, &join.left), &|expr| right.is_unit(expr, &join.right))
        && match (&left.time, &right.time) {
            (None, None) => true,
            (Some(l), Some(r)) => compares(&|expr| l.is_epoch(expr, &join.left), &|expr| r.is_epoch(expr, &join.right)),
            _ => false,
        }
}

/// Whether a plan reads no private table.
fn is_public(plan: &LogicalPlan) -> bool {
    only_public(plan).is_ok()
}

/// An aggregate whose value does not depend on the order of rows.
fn order_free(expr: &Expr, schema: &DFSchema) -> Result<(), Unproven> {
    let Expr::AggregateFunction(call) = unaliased(expr) else { return unproven("an unknown aggregate") };
    let floats = |expr: &Expr| expr.get_type(schema).is_ok_and(|kind| kind.is_floating());
    match call.func.name() {
        "count" | "min" | "max" | "median" | "bool_and" | "bool_or" => Ok(()),
        "sum" if !call.params.args.iter().any(floats) => Ok(()),
        other => unproven(format!("the aggregate {other} for each unit")),
    }
}

fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}

/// Proves that a plan reads no private table.
fn only_public(plan: &LogicalPlan) -> Result<(), Unproven> {
    let mut proven = Ok(());
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let public =
                DatasetTable::of(&scan.source).is_some_and(|table| matches!(table.protection(), Protection::Public));
            if !public {
                proven = unproven("a private table where only public ones may be");
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .map_err(|error| Unproven(error.strip_backtrace()))?;
    proven
}

/// A column of a plan that an expression passes on untouched.
fn place(expr: &Expr, input: &LogicalPlan) -> Option<usize> {
    match expr {
        Expr::Alias(alias) => place(&alias.expr, input),
        Expr::Column(column) => input.schema().index_of_column(column).ok(),
        _ => None,
    }
}

/// No subquery, no volatile function, no plain cast that could fail, below a release.
fn total(expr: &Expr) -> Result<(), Unproven> {
    let mut proven = Ok(());
    expr.apply(|part| {
        let fine = match part {
            Expr::Exists(_)
            | Expr::InSubquery(_)
            | Expr::SetComparison(_)
            | Expr::ScalarSubquery(_)
            | Expr::OuterReferenceColumn(..)
            | Expr::Placeholder(_)
            | Expr::Unnest(_) => false,
            Expr::ScalarFunction(call) => call.func.signature().volatility != Volatility::Volatile,
            _ => true,
        };
        if fine {
            return Ok(TreeNodeRecursion::Continue);
        }
        proven = unproven(format!("the expression `{part}`"));
        Ok(TreeNodeRecursion::Stop)
    })
    .map_err(|error| Unproven(error.strip_backtrace()))?;
    proven
}
