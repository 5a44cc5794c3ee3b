//! Joins of private rows: with private rows of the same unit, and with rows that are known without them (DESIGN 4.1).
//!
//! ```text
//! private ⋈ private    on equal units only, so that a row of the result is one unit's; with epochs, on equal epochs too
//! private ⋈ known      the private side is kept: inner, outer, semi, anti
//! known ⟕ private      an inner join; every known row is a group
//! known ⋉ private      refused: which known rows are left would be private, and belong to no unit
//! ```

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Column, DFSchema, DFSchemaRef, JoinType, ScalarValue};
use datafusion::logical_expr::expr::BinaryExpr;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{
    Expr, Extension, Join, LogicalPlan, Operator, Projection, Union, build_join_schema, lit,
};

use crate::catalog::{DatasetTable, Protection};
use crate::policy::Use;
use crate::release::CapNode;

use super::Analysis;
use super::calendar::{Calendar, apart, same_epochs, time_of, written};
use super::epochs;
use super::expression::Scope;
use super::operators::{EPOCH_COLUMN, UNIT_COLUMN, Walked, unit_of};
use super::refusal::Refusal;
use super::relation::{EpochColumn, Facts, Keys, PrivateRelation, Relation, names};

/// How many rows of its own unit one row meets at most, over all joins of a query (DESIGN 4.4).
const MAX_FAN_OUT: f64 = 1_000_000.0;
/// And in one of them.
const MAX_FAN_OUT_OF_ONE: f64 = 10_000.0;

/// How many joins of a plan have private tables on both sides.
pub(super) fn private_joins(plan: &LogicalPlan) -> usize {
    let mut joins = 0;
    let _ = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Join(join) = node {
            joins += usize::from(reads_private(&join.left) && reads_private(&join.right));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    joins
}

fn reads_private(plan: &LogicalPlan) -> bool {
    let mut private = false;
    let _ = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            private |=
                DatasetTable::of(&scan.source).is_none_or(|table| matches!(table.protection(), Protection::Private(_)));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    private
}

impl Analysis<'_> {
    pub(super) fn join(&mut self, join: &Join, conditions: &[Expr]) -> Result<Walked, Refusal> {
        let (of_left, of_right) = epochs::through_join(conditions, join);
        self.conditions = of_left;
        let (left, left_relation) = self.walk(&join.left)?;
        self.conditions = of_right;
        let (right, right_relation) = self.walk(&join.right)?;
        match (left_relation, right_relation) {
            (Relation::Private(l), Relation::Private(r)) => self.join_private(join, (left, l), (right, r)),
            (Relation::Private(private), known) => {
                let (known, columns) = self.known_side(right, &known)?;
                self.join_known(join, (left, private), (known, columns), true)
            }
            (known, Relation::Private(private)) => {
                let (known, columns) = self.known_side(left, &known)?;
                self.join_known(join, (right, private), (known, columns), false)
            }
            (l, r) => self.after(&LogicalPlan::Join(join.clone()), vec![(left, l), (right, r)]),
        }
    }

    fn join_private(
        &mut self,
        join: &Join,
        (left, l): (LogicalPlan, PrivateRelation),
        (right, r): (LogicalPlan, PrivateRelation),
    ) -> Result<Walked, Refusal> {
        if l.unit_domain != r.unit_domain {
            return Err(Refusal::not_private(
                format!("a join of units of two domains ({} and {}) is not answered", l.unit_domain, r.unit_domain),
                "join datasets whose units are of one domain; ask of each of the others in its own query",
            ));
        }
        if !l.preserved.is_empty() || !r.preserved.is_empty() {
            return Err(Refusal::not_private(
                "a join above an outer join that keeps public rows is not answered",
                "join the private datasets first, in a derived table, and the public table to the result",
            ));
        }
        let epoch = same_epochs(&l, &r, "a join")?;
        let (left_unit, right_unit) = (unit_of(&left, l.unit), unit_of(&right, r.unit));
        let types = [left.schema().field(l.unit).data_type(), right.schema().field(r.unit).data_type()];
        if types[0] != types[1] || !is_identifier(types[0]) {
            return Err(Refusal::not_private(
                format!("units of the types {} and {} cannot be compared as they are", types[0], types[1]),
                "ask the owners to store the unit's id as one type: an integer, text or bytes",
            ));
        }
        let width = left.schema().fields().len();
        let schema: DFSchemaRef = Arc::new(build_join_schema(left.schema(), right.schema(), &JoinType::Inner)?);
        let both: Vec<Facts> = l.columns.iter().chain(&r.columns).cloned().collect();
        let mut compares_units = false;
        let mut same_unit = false;
        for (a, b) in equalities(join) {
            let place = |expr: &Expr| schema.index_of_column(expr.try_as_col()?).ok();
            let (Some(a), Some(b)) = (place(&a), place(&b)) else { continue };
            if (a < width) == (b < width) {
                continue;
            }
            compares_units |= both[a].is_unit && both[b].is_unit;
            same_unit |= both[a].unit_key.is_some() && both[a].unit_key == both[b].unit_key;
        }
        if !compares_units && !same_unit {
            return Err(not_on_units(join, &left, &l, &right, &r));
        }
        let scope = Scope { schema: &schema, columns: &both, narrowed: &[] };
        let mut on = Vec::new();
        let mut parts = Vec::new();
        for (a, b) in &join.on {
            on.push((scope.used(a, Use::Filter)?.expr, scope.used(b, Use::Filter)?.expr));
        }
        if let Some(epoch) = &epoch {
            compare_epochs(join, &scope, width, epoch, (&l, &r))?;
        }
        if let Some(filter) = &join.filter {
            let filter = self.with_scalars(filter)?;
            parts.push(scope.used(&filter, Use::Filter)?.expr);
        }
        if !compares_units {
            // The owners say that equal keys are of one unit. Comparing the units holds them to it.
            on.push((left_unit.clone(), right_unit.clone()));
        }
        let filter = conjunction(parts);
        let conditions = on.len() + filter.as_ref().map(split_conjunction).unwrap_or_default().len();
        if join.null_aware && !(conditions == 1 && compares_units) {
            return Err(Refusal::not_private(
                "NOT IN on a column of private rows that may be NULL is not answered",
                "write NOT EXISTS (SELECT 1 ... WHERE the columns are equal)",
            ));
        }
        let epochs_of = |l: &EpochColumn, r: &EpochColumn| (unit_of(&left, l.column), unit_of(&right, r.column));
        let compared_epochs = l.epoch.as_ref().zip(r.epoch.as_ref()).map(|(l, r)| epochs_of(l, r));
        // The conditions keep the epochs apart already; on the finished plan it is their numbers that must be compared.
        on.extend(compared_epochs.clone());
        let made = |left: LogicalPlan, right: LogicalPlan, kind: JoinType| {
            let (left, right) = (Arc::new(left), Arc::new(right));
            // A unit is never NULL, so that NOT IN is a plain anti join.
            let (on, filter) = (on.clone(), filter.clone());
            Join::try_new(left, right, on, filter, kind, join.join_constraint, join.null_equality, false)
                .map(LogicalPlan::Join)
        };
        let right = self.capped(right, &schema, width, &on, filter.as_ref(), &right_unit);
        let mut datasets = l.datasets.clone();
        datasets.extend(r.datasets.clone());
        let rows = l.rows.zip(r.rows).and_then(|(l, r)| l.checked_mul(r.max(1)));
        let epoch_at =
            |column: Option<usize>| epoch.clone().zip(column).map(|(epoch, column)| EpochColumn { column, ..epoch });
        let left_epoch = l.epoch.as_ref().map(|epoch| epoch.column);
        let right_epoch = r.epoch.as_ref().map(|epoch| epoch.column);
        let inner = |unit: usize, epoch: Option<usize>, mut columns: Vec<Facts>, rows: Option<u64>| {
            // A row may be there several times now.
            for facts in &mut columns {
                facts.numbers_rows = false;
            }
            Relation::Private(PrivateRelation {
                rows,
                epoch: epoch_at(epoch),
                datasets: datasets.clone(),
                ..l.clone().with_columns(unit, epoch, columns)
            })
        };
        let kept = |kept: &PrivateRelation| {
            let epoch = epoch_at(kept.epoch.as_ref().map(|epoch| epoch.column));
            Relation::Private(PrivateRelation { datasets: datasets.clone(), epoch, ..kept.clone() })
        };
        let or_null = |facts: &[Facts]| facts.iter().cloned().map(Facts::or_null).collect::<Vec<_>>();
        Ok(match join.join_type {
            JoinType::Inner => (made(left, right, JoinType::Inner)?, inner(l.unit, left_epoch, both, rows)),
            JoinType::Left => {
                let columns = l.columns.iter().cloned().chain(or_null(&r.columns)).collect();
                (made(left, right, JoinType::Left)?, inner(l.unit, left_epoch, columns, rows))
            }
            JoinType::Right => {
                let columns = or_null(&l.columns).into_iter().chain(r.columns.iter().cloned()).collect();
                let rows = l.rows.zip(r.rows).and_then(|(l, r)| r.checked_mul(l.max(1)));
                let epoch = right_epoch.map(|column| width + column);
                (made(left, right, JoinType::Right)?, inner(width + r.unit, epoch, columns, rows))
            }
            JoinType::LeftSemi | JoinType::LeftAnti => (made(left, right, join.join_type)?, kept(&l)),
            JoinType::RightSemi | JoinType::RightAnti => (made(left, right, join.join_type)?, kept(&r)),
            JoinType::LeftMark => {
                let columns = l.columns.iter().cloned().chain([mark(join, &schema, &both)]).collect();
                (made(left, right, JoinType::LeftMark)?, inner(l.unit, left_epoch, columns, l.rows))
            }
            JoinType::Full => {
                // The rows of either side that meet none of the other, NULLs beside them, are united with those that do:
                // so that the unit of each row is one column, as it is in the scan.
                let matched = made(left.clone(), right.clone(), JoinType::Left)?;
                let alone = made(left, right.clone(), JoinType::RightAnti)?;
                let fields: Vec<_> = (0..schema.fields().len()).map(|at| schema.qualified_field(at)).collect();
                // A union's columns have no qualifiers: each has a name of its own until it is above.
                let name = |at: usize| format!("__tollgate_full_{at}");
                let column = |at: usize| Expr::Column(Column::from(fields[at]));
                let mut above: Vec<Expr> = (0..fields.len()).map(|at| column(at).alias(name(at))).collect();
                above.push(left_unit.alias(name(fields.len())));
                let (epoch_above, epoch_below) = compared_epochs.unzip();
                above.extend(epoch_above.map(|epoch| epoch.alias(name(fields.len() + 1))));
                let mut below: Vec<Expr> = Vec::with_capacity(above.len());
                for (at, (_, field)) in fields.iter().enumerate() {
                    below.push(if at < width {
                        lit(ScalarValue::try_from(field.data_type())?).alias(name(at))
                    } else {
                        column(at).alias(name(at))
                    });
                }
                below.push(right_unit.alias(name(fields.len())));
                below.extend(epoch_below.map(|epoch| epoch.alias(name(fields.len() + 1))));
                let inputs = [(matched, above), (alone, below)]
                    .into_iter()
                    .map(|(input, exprs)| {
                        Ok(Arc::new(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input))?)))
                    })
                    .collect::<Result<Vec<_>, Refusal>>()?;
                let union = LogicalPlan::Union(Union::try_new(inputs)?);
                let named = |at: usize| Expr::Column(Column::new_unqualified(name(at)));
                let mut outputs: Vec<Expr> = fields
                    .iter()
                    .enumerate()
                    .map(|(at, (relation, field))| named(at).alias_qualified(relation.cloned(), field.name()))
                    .collect();
                self.hidden_units += 1;
                outputs.push(named(fields.len()).alias(format!("{UNIT_COLUMN}{}", self.hidden_units)));
                if epoch.is_some() {
                    outputs.push(named(fields.len() + 1).alias(format!("{EPOCH_COLUMN}{}", self.hidden_units)));
                }
                let plan = LogicalPlan::Projection(Projection::try_new(outputs, Arc::new(union))?);
                let mut columns = or_null(&both);
                columns.push(Facts {
                    is_unit: true,
                    per_unit: true,
                    ..Facts::computed_from([&l.columns[l.unit], &r.columns[r.unit]])
                });
                let (unit, hidden) = (columns.len() - 1, epoch.as_ref().map(|_| columns.len()));
                if hidden.is_some() {
                    columns.push(Facts { per_unit: true, not_null: true, ..Facts::default() });
                }
                let rows = rows.zip(r.rows).map(|(both, alone)| both.saturating_add(alone));
                (plan, inner(unit, hidden, columns, rows))
            }
            JoinType::RightMark => {
                return Err(Refusal::not_private("this join is not answered", "write it with JOIN or EXISTS"));
            }
        })
    }

    /// The right side of a join of private rows, with at most so many rows for each value of the columns that are compared
    /// that over all such joins one row meets at most [`MAX_FAN_OUT`].
    fn capped(
        &self,
        right: LogicalPlan,
        schema: &DFSchema,
        width: usize,
        on: &[(Expr, Expr)],
        filter: Option<&Expr>,
        unit: &Expr,
    ) -> LogicalPlan {
        let mut keys = vec![unit.clone()];
        let compared = filter.map(split_conjunction).unwrap_or_default().into_iter().filter_map(|part| match part {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => Some((left.as_ref(), right.as_ref())),
            _ => None,
        });
        for (a, b) in on.iter().map(|(a, b)| (a, b)).chain(compared) {
            let place = |expr: &Expr| schema.index_of_column(expr.try_as_col()?).ok();
            let (Some(a_place), Some(b_place)) = (place(a), place(b)) else { continue };
            let key = match (a_place >= width, b_place >= width) {
                (true, false) => a,
                (false, true) => b,
                _ => continue,
            };
            if !keys.contains(key) {
                keys.push(key.clone());
            }
        }
        let joins = self.private_joins.max(1) as f64;
        let most = (MAX_FAN_OUT.powf(joins.recip()) + 1e-9).min(MAX_FAN_OUT_OF_ONE).floor().max(1.0) as usize;
        LogicalPlan::Extension(Extension { node: Arc::new(CapNode::new(right, keys, most)) })
    }
}

/// Refuses a join that may pair rows of two epochs of a unit: an equality of what keeps the epochs apart is missing. Without it
/// a row of one epoch would depend on those of another.
fn compare_epochs(
    join: &Join,
    scope: &Scope<'_>,
    width: usize,
    epoch: &EpochColumn,
    (l, r): (&PrivateRelation, &PrivateRelation),
) -> Result<(), Refusal> {
    let mut said: Vec<Calendar> = Vec::new();
    for (a, b) in equalities(join) {
        let is_left = |expr: &Expr| {
            let columns = expr.column_refs();
            let places: Option<Vec<usize>> =
                columns.iter().map(|column| scope.schema.index_of_column(column).ok()).collect();
            let places = places.unwrap_or_default();
            let left = places.iter().filter(|at| **at < width).count();
            // Of one side alone.
            (!places.is_empty() && (left == 0 || left == places.len())).then_some(left > 0)
        };
        if is_left(&a).zip(is_left(&b)).is_none_or(|(a, b)| a == b) {
            continue;
        }
        // The same of both sides: two that say different things of their rows keep nothing apart.
        let of = |expr: &Expr| scope.total(expr).ok().and_then(|total| total.facts.calendar);
        if let (Some(a), Some(b)) = (of(&a), of(&b))
            && a == b
        {
            said.push(a);
        }
    }
    if apart(said, epoch.kind, &epoch.numbers()) {
        return Ok(());
    }
    let kind = epoch.kind;
    let of = |private: &PrivateRelation, side: &str| written(kind, &format!("{side}.{}", time_of(private)));
    Err(Refusal::not_private(
        format!("the join may pair rows of two {kind}s of a unit, and each {kind} is protected by itself"),
        format!("add `{} = {}` to the condition; or ask of one {kind} alone", of(l, "a"), of(r, "b")),
    ))
}

fn not_on_units(
    join: &Join,
    left: &LogicalPlan,
    l: &PrivateRelation,
    right: &LogicalPlan,
    r: &PrivateRelation,
) -> Refusal {
    let shown = |plan: &LogicalPlan, private: &PrivateRelation| {
        let schema = plan.schema();
        (0..schema.fields().len())
            .find(|at| private.columns[*at].is_unit && !schema.field(*at).name().starts_with("__"))
            .map(|at| Column::from(schema.qualified_field(at)).flat_name())
    };
    let why = if equalities(join).iter().any(|(a, b)| is_cast(a) || is_cast(b)) {
        "; an equality through a cast may make two units one"
    } else {
        ""
    };
    let hint = match (shown(left, l), shown(right, r)) {
        (Some(a), Some(b)) => format!("add `{a} = {b}` to the condition"),
        _ => "keep the unit's column in the derived tables, and compare it".to_owned(),
    };
    let mut datasets = l.datasets.clone();
    datasets.extend(r.datasets.clone());
    let detail = if datasets.len() == 1 {
        format!("{} is joined to itself without comparing its units{why}", names(&datasets))
    } else {
        format!("{} are joined without comparing their units{why}", names(&datasets))
    };
    Refusal::not_private(detail, hint)
}

fn is_cast(expr: &Expr) -> bool {
    matches!(expr, Expr::Cast(_) | Expr::TryCast(_))
}

/// Types whose equality is the equality of what is stored.
fn is_identifier(kind: &DataType) -> bool {
    kind.is_integer()
        || matches!(
            kind,
            DataType::Utf8
                | DataType::LargeUtf8
                | DataType::Utf8View
                | DataType::Binary
                | DataType::LargeBinary
                | DataType::BinaryView
                | DataType::FixedSizeBinary(_)
        )
}

/// The equalities that every pair of joined rows meets. Before the optimizer has run, `ON a = b` stands in the filter.
pub(super) fn equalities(join: &Join) -> Vec<(Expr, Expr)> {
    let in_filter =
        join.filter.as_ref().map(split_conjunction).unwrap_or_default().into_iter().filter_map(|part| match part {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
                Some((left.as_ref().clone(), right.as_ref().clone()))
            }
            _ => None,
        });
    join.on.iter().cloned().chain(in_filter).collect()
}

/// The column of a mark join that says whether a row has a partner: computed from the columns that are compared.
pub(super) fn mark(join: &Join, schema: &DFSchema, both: &[Facts]) -> Facts {
    let conditions = join.on.iter().flat_map(|(a, b)| [a, b]).chain(&join.filter);
    let compared = conditions.flat_map(Expr::column_refs).filter_map(|column| schema.index_of_column(column).ok());
    let truths = vec![ScalarValue::Boolean(Some(false)), ScalarValue::Boolean(Some(true))];
    let facts = Facts::computed_from(compared.map(|at| &both[at]));
    Facts { keys: Some(Keys::Listed(truths.into())), per_unit: false, ..facts }
}
