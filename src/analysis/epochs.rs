//! Which epochs a scan reads: those in which a row may meet the conditions that the SQL puts on it (block composition,
//! `accounting/proof.md`). The SQL, the policy and the day of the query decide; no data is looked at.
//!
//! ```text
//! WHERE d >= DATE '2013-01-15' AND extract(month FROM d) < 3       epochs 2013-01, 2013-02, 2014-01, ...
//!       └─ the last day of an epoch ≥ it     └─ one value an epoch
//! ```
//!
//! What is found here is not trusted to be implied by the conditions: the scan drops the rows of all other epochs by
//! itself, and an answer would lack rows, not leak them, were a condition misread.

use std::collections::BTreeSet;

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, JoinType, ScalarValue};
use datafusion::logical_expr::expr::{BinaryExpr, ScalarFunction};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, Join, Operator, Projection, Volatility};

use crate::policy::{EpochKind, Epochs};

use super::calendar::Calendar;
use super::expression::folded;
use super::operators::unaliased;

/// The conditions on the rows of a relation, as conditions on those of its input under another schema, column by column.
pub(super) fn through_names(conditions: &[Expr], from: &DFSchema, to: &DFSchema) -> Vec<Expr> {
    through(conditions, from, |at| Some(Expr::Column(Column::from(to.iter().nth(at)?))))
}

/// The same through a projection, whose expressions stand for its columns.
pub(super) fn through_projection(conditions: &[Expr], projection: &Projection) -> Vec<Expr> {
    through(conditions, &projection.schema, |at| projection.expr.get(at).map(|expr| unaliased(expr).clone()))
}

/// Conditions of which a column has no expression are left out: fewer conditions are more epochs.
fn through(conditions: &[Expr], from: &DFSchema, expr: impl Fn(usize) -> Option<Expr>) -> Vec<Expr> {
    let moved = |condition: &Expr| {
        let mut whole = true;
        let moved = condition.clone().transform_down(|part| {
            let Expr::Column(column) = &part else { return Ok(Transformed::no(part)) };
            match from.index_of_column(column).ok().and_then(&expr) {
                Some(expr) => Ok(Transformed::new(expr, true, TreeNodeRecursion::Jump)),
                None => {
                    whole = false;
                    Ok(Transformed::no(part))
                }
            }
        });
        moved.ok().map(|moved| moved.data).filter(|_| whole)
    };
    conditions.iter().filter_map(moved).collect()
}

/// The conditions on the rows of a join, as conditions on those of its left side and of its right side.
pub(super) fn through_join(conditions: &[Expr], join: &Join) -> (Vec<Expr>, Vec<Expr>) {
    use JoinType::{Full, Inner, Left, LeftAnti, LeftMark, LeftSemi, Right, RightAnti, RightMark, RightSemi};
    // Of whose rows alone the result's are made, so that what is dropped there is dropped in it; and whose rows that meet no
    // condition of the join are as good as not there.
    let (above_left, above_right, on_left, on_right) = match join.join_type {
        Inner => (true, true, true, true),
        Left | LeftAnti | LeftMark => (true, false, false, true),
        LeftSemi => (true, false, true, true),
        Right | RightAnti | RightMark => (false, true, true, false),
        RightSemi => (false, true, true, true),
        Full => (false, false, false, false),
    };
    let on = join.filter.as_ref().map(split_conjunction).unwrap_or_default();
    let of_side = |schema: &DFSchema, from_above: bool, from_on: bool| {
        let above = conditions.iter().filter(|_| from_above);
        let own = |condition: &&Expr| {
            let columns = condition.column_refs();
            !columns.is_empty() && columns.iter().all(|column| schema.index_of_column(column).is_ok())
        };
        above.chain(on.iter().copied().filter(|_| from_on)).filter(own).cloned().collect::<Vec<_>>()
    };
    (of_side(join.left.schema(), above_left, on_left), of_side(join.right.schema(), above_right, on_right))
}

/// The epochs of a dataset, of those that there are, in which a row may meet all `conditions` on the columns of `schema`.
pub(super) fn read(epochs: &Epochs, today: chrono::NaiveDate, conditions: &[Expr], schema: &DFSchema) -> BTreeSet<i32> {
    let place = (0..schema.fields().len()).find(|at| *schema.field(*at).name() == epochs.column);
    let may_be_read = |number: &i32| {
        let period = place.and_then(|at| Period::of(epochs.kind, *number, schema.field(at).data_type()));
        let Some((place, period)) = place.zip(period) else { return true };
        let within = Within { kind: epochs.kind, schema, place, period };
        conditions.iter().all(|condition| within.may_hold(condition))
    };
    epochs.until(today).filter(may_be_read).collect()
}

/// The first and the last moment of an epoch, in the type of the dataset's time.
struct Period {
    first: ScalarValue,
    last: ScalarValue,
}

impl Period {
    fn of(kind: EpochKind, number: i32, data_type: &DataType) -> Option<Self> {
        let day = |number: i32| {
            let first = kind.first_day(number)?;
            Some(first.signed_duration_since(chrono::DateTime::UNIX_EPOCH.date_naive()).num_days())
        };
        let (first, next) = (day(number)?, day(number.checked_add(1)?)?);
        let value = |moment: i64| match data_type {
            DataType::Date32 => Some(ScalarValue::Date32(Some(i32::try_from(moment).ok()?))),
            DataType::Date64 => Some(ScalarValue::Date64(Some(moment))),
            DataType::Timestamp(TimeUnit::Second, zone) => {
                Some(ScalarValue::TimestampSecond(Some(moment), zone.clone()))
            }
            DataType::Timestamp(TimeUnit::Millisecond, zone) => {
                Some(ScalarValue::TimestampMillisecond(Some(moment), zone.clone()))
            }
            DataType::Timestamp(TimeUnit::Microsecond, zone) => {
                Some(ScalarValue::TimestampMicrosecond(Some(moment), zone.clone()))
            }
            DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
                Some(ScalarValue::TimestampNanosecond(Some(moment), zone.clone()))
            }
            _ => None,
        };
        let steps_a_day = match data_type {
            DataType::Date32 => 1,
            DataType::Date64 | DataType::Timestamp(TimeUnit::Millisecond, _) => 86_400_000,
            DataType::Timestamp(TimeUnit::Second, _) => 86_400,
            DataType::Timestamp(TimeUnit::Microsecond, _) => 86_400_000_000,
            DataType::Timestamp(TimeUnit::Nanosecond, _) => 86_400_000_000_000,
            _ => return None,
        };
        let (first, last) = (first.checked_mul(steps_a_day)?, next.checked_mul(steps_a_day)?.checked_sub(1)?);
        Some(Self { first: value(first)?, last: value(last)? })
    }
}

/// Whether an expression of literals is true, or has no value that could be computed here.
fn is_true(expr: &Expr) -> bool {
    folded(expr).is_none_or(|value| value == ScalarValue::Boolean(Some(true)))
}

/// How an expression depends on a row's time, among rows of one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// It has one value.
    Constant,
    /// It never falls where the time rises. With what it says of the epoch, if it is a time itself.
    Rising(Option<Calendar>),
    /// In a way that is not known, or on more than the time.
    Unknown,
}

/// Rows of one epoch.
struct Within<'a> {
    kind: EpochKind,
    schema: &'a DFSchema,
    /// The column that is the time.
    place: usize,
    period: Period,
}

impl Within<'_> {
    /// Whether `condition` may be true of a row: yes, unless it is proven that it is not.
    fn may_hold(&self, condition: &Expr) -> bool {
        if self.shape(condition) == Shape::Constant {
            return is_true(&self.at(condition, &self.period.first));
        }
        match condition {
            Expr::Alias(alias) => self.may_hold(&alias.expr),
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
                self.may_hold(left) && self.may_hold(right)
            }
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
                self.may_hold(left) || self.may_hold(right)
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => self.compares(left, *op, right),
            Expr::Between(between) if !between.negated => {
                self.compares(&between.expr, Operator::GtEq, &between.low)
                    && self.compares(&between.expr, Operator::LtEq, &between.high)
            }
            Expr::InList(list) if !list.negated => {
                list.list.iter().any(|item| self.compares(&list.expr, Operator::Eq, item))
            }
            _ => true,
        }
    }

    fn compares(&self, left: &Expr, op: Operator, right: &Expr) -> bool {
        let (rising, op, constant) = match (self.shape(left), self.shape(right)) {
            (Shape::Rising(_), Shape::Constant) => (left, op, right),
            (Shape::Constant, Shape::Rising(_)) => match op.swap() {
                Some(op) => (right, op, left),
                None => return true,
            },
            _ => return true,
        };
        let holds = |moment: &ScalarValue, op: Operator| {
            is_true(&Expr::BinaryExpr(BinaryExpr {
                left: Box::new(self.at(rising, moment)),
                op,
                right: Box::new(self.at(constant, &self.period.first)),
            }))
        };
        match op {
            Operator::Lt | Operator::LtEq => holds(&self.period.first, op),
            Operator::Gt | Operator::GtEq => holds(&self.period.last, op),
            Operator::Eq => holds(&self.period.first, Operator::LtEq) && holds(&self.period.last, Operator::GtEq),
            _ => true,
        }
    }

    fn is_moment(&self, column: &Column) -> bool {
        self.schema.index_of_column(column).is_ok_and(|at| at == self.place)
    }

    /// The expression at one moment.
    fn at(&self, expr: &Expr, moment: &ScalarValue) -> Expr {
        let replaced = expr.clone().transform_up(|part| {
            Ok(match &part {
                Expr::Column(column) if self.is_moment(column) => Transformed::yes(Expr::Literal(moment.clone(), None)),
                _ => Transformed::no(part),
            })
        });
        replaced.map_or_else(|_| expr.clone(), |replaced| replaced.data)
    }

    fn shape(&self, expr: &Expr) -> Shape {
        match expr {
            Expr::Literal(..) => Shape::Constant,
            Expr::Column(column) if self.is_moment(column) => Shape::Rising(Some(Calendar::moment(self.kind))),
            Expr::Alias(alias) => self.shape(&alias.expr),
            Expr::Cast(datafusion::logical_expr::expr::Cast { expr: inner, field })
            | Expr::TryCast(datafusion::logical_expr::expr::TryCast { expr: inner, field }) => {
                match self.shape(inner) {
                    Shape::Rising(Some(calendar)) => match calendar.cast(field.data_type()) {
                        Some(calendar) => Shape::Rising(Some(calendar)),
                        None => Shape::Unknown,
                    },
                    Shape::Rising(None) => Shape::Unknown,
                    other => other,
                }
            }
            Expr::ScalarFunction(call) => self.shape_of_call(call),
            Expr::BinaryExpr(_)
            | Expr::Not(_)
            | Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::IsTrue(_)
            | Expr::IsFalse(_)
            | Expr::IsNotTrue(_)
            | Expr::IsNotFalse(_)
            | Expr::Between(_)
            | Expr::InList(_)
            | Expr::Like(_)
            | Expr::Negative(_)
            | Expr::Case(_) => {
                let mut constant = true;
                let looked = expr.apply_children(|child| {
                    constant &= self.shape(child) == Shape::Constant;
                    Ok(if constant { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
                });
                if constant && looked.is_ok() { Shape::Constant } else { Shape::Unknown }
            }
            _ => Shape::Unknown,
        }
    }

    fn shape_of_call(&self, call: &ScalarFunction) -> Shape {
        if call.func.signature().volatility != Volatility::Immutable {
            return Shape::Unknown;
        }
        if call.args.iter().all(|arg| self.shape(arg) == Shape::Constant) {
            return Shape::Constant;
        }
        let (name, [part, moment]) = (call.func.name(), &call.args[..]) else { return Shape::Unknown };
        let (Shape::Rising(calendar), Some(part)) = (self.shape(moment), super::functions::part(part)) else {
            return Shape::Unknown;
        };
        match calendar.and_then(|calendar| calendar.called(name, part)) {
            Some(said) if said.is_constant() => Shape::Constant,
            said if name == "date_trunc" => Shape::Rising(said),
            _ => Shape::Unknown,
        }
    }
}
