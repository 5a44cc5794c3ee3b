//! Relations that are known before a release runs: public ones, and what is computed from releases drawn earlier.
//!
//! ```text
//! WHERE fare > (SELECT avg(fare) FROM trips)          Known 0: the plan over release 0, run once it is drawn
//!                                                     release 1 reads a placeholder, which becomes its value
//! FROM trips JOIN (SELECT zone, avg(fare) ...) z      Known 1: a leaf of release 2's input, which becomes its rows
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher;
use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan};

use crate::release::{Leaf, ReleasedNode};

use super::Analysis;
use super::refusal::Refusal;
use super::relation::{Facts, Relation};

/// SQL cannot write it: the parser takes no placeholders.
const SCALAR_PREFIX: &str = "$__tollgate_known_";

/// A relation that is computed before the releases that read it.
#[derive(Debug, Clone)]
pub struct Known {
    /// What is computed: reads public tables, and releases drawn earlier.
    pub plan: LogicalPlan,
    /// How many releases must be drawn first.
    pub after: usize,
}

impl Analysis<'_> {
    /// Registers `plan`, which reads no private row but through releases.
    fn know(&mut self, plan: LogicalPlan) -> usize {
        let after = releases_of(&plan).last().map_or(0, |last| last + 1);
        if let Some(known) = self.known.iter().position(|known| known.plan == plan) {
            return known;
        }
        self.known.push(Known { plan, after });
        self.known.len() - 1
    }

    /// A leaf that stands for `plan`.
    pub(super) fn known_leaf(&mut self, plan: LogicalPlan) -> (LogicalPlan, Vec<Facts>) {
        let schema = Arc::clone(plan.schema());
        let columns = vec![Facts { texts: 1, ..Facts::default() }; schema.fields().len()];
        let index = self.know(plan);
        let node = ReleasedNode::new(Leaf::Known(index), schema);
        (LogicalPlan::Extension(Extension { node: Arc::new(node) }), columns)
    }

    /// Replaces the uncorrelated scalar subqueries of an expression over private rows by their values to be.
    pub(super) fn with_scalars(&mut self, expr: &Expr) -> Result<Expr, Refusal> {
        let mut refusal = None;
        let replaced = expr
            .clone()
            .transform_down(|part| {
                let Expr::ScalarSubquery(subquery) = &part else { return Ok(Transformed::no(part)) };
                match self.scalar(&subquery.subquery) {
                    Ok(value) => Ok(Transformed::new(value, true, TreeNodeRecursion::Jump)),
                    Err(refused) => {
                        refusal.get_or_insert(refused);
                        Ok(Transformed::new(part, false, TreeNodeRecursion::Stop))
                    }
                }
            })?
            .data;
        refusal.map_or(Ok(replaced), Err)
    }

    fn scalar(&mut self, subquery: &LogicalPlan) -> Result<Expr, Refusal> {
        if !subquery.all_out_ref_exprs().is_empty() {
            return Err(Refusal::not_private(
                "a subquery in an expression over private rows is correlated in a way that is not answered",
                "join a derived table that groups by the column instead",
            ));
        }
        let (plan, relation) = self.walk(subquery)?;
        if let Relation::Private(private) = relation {
            return Err(Refusal::not_private(
                format!("a scalar subquery would take a row of {}", super::relation::names(&private.datasets)),
                "aggregate in the subquery: (SELECT avg(x) FROM ...)",
            ));
        }
        if !has_one_row(subquery) {
            return Err(Refusal::not_private(
                "a scalar subquery that may have several rows",
                "aggregate without GROUP BY in it, or add LIMIT 1",
            ));
        }
        let field = Arc::clone(&plan.schema().fields()[0]);
        let index = self.know(plan);
        Ok(Expr::Placeholder(Placeholder::new_with_field(format!("{SCALAR_PREFIX}{index}"), Some(field))))
    }
}

fn has_one_row(plan: &LogicalPlan) -> bool {
    plan.max_rows().is_some_and(|rows| rows <= 1)
}

/// Whether a placeholder stands for the value of a known relation.
pub(super) fn is_scalar_value(value: &Placeholder) -> bool {
    known_index(value).is_some()
}

fn known_index(value: &Placeholder) -> Option<usize> {
    value.id.strip_prefix(SCALAR_PREFIX)?.parse().ok()
}

/// `plan` with the values of known relations written into it; `value` gives them by index, and 1 (or NULL) stands for
/// those that are not known yet.
///
/// # Errors
/// When the plan cannot be rebuilt.
pub fn with_values(
    plan: &LogicalPlan,
    value: impl Fn(usize) -> Option<ScalarValue>,
) -> datafusion::common::Result<LogicalPlan> {
    plan.clone()
        .transform_up(|node| {
            node.map_expressions(|expr| {
                expr.transform_up(|part| {
                    let Expr::Placeholder(placeholder) = &part else { return Ok(Transformed::no(part)) };
                    let (Some(index), Some(field)) = (known_index(placeholder), &placeholder.field) else {
                        return Ok(Transformed::no(part));
                    };
                    let value = match value(index) {
                        Some(value) => value.cast_to(field.data_type())?,
                        // Nothing that the optimizer could take for no row at all.
                        None => ScalarValue::new_one(field.data_type())
                            .or_else(|_| ScalarValue::try_from(field.data_type()))?,
                    };
                    Ok(Transformed::yes(Expr::Literal(value, None)))
                })
            })
        })
        .map(|transformed| transformed.data)
}

/// `plan` with the placeholders of known relations numbered by `places`.
pub(super) fn renumbered_scalars(plan: &LogicalPlan, places: &BTreeMap<usize, usize>) -> Result<LogicalPlan, Refusal> {
    let renumbered = plan.clone().transform_up(|node| {
        node.map_expressions(|expr| {
            expr.transform_up(|part| {
                let Expr::Placeholder(placeholder) = &part else { return Ok(Transformed::no(part)) };
                let Some(place) = known_index(placeholder).and_then(|index| places.get(&index)) else {
                    return Ok(Transformed::no(part));
                };
                let id = format!("{SCALAR_PREFIX}{place}");
                Ok(Transformed::yes(Expr::Placeholder(Placeholder::new_with_field(id, placeholder.field.clone()))))
            })
        })
    })?;
    Ok(renumbered.data)
}

/// The known relations that `plan` reads.
#[must_use]
pub fn known_of(plan: &LogicalPlan) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let _ = plan.apply_with_subqueries(|node| {
        if let Some(Leaf::Known(index)) = leaf(node) {
            found.insert(index);
        }
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                if let Expr::Placeholder(placeholder) = part {
                    found.extend(known_index(placeholder));
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    found
}

/// The releases that `plan` reads.
#[must_use]
pub fn releases_of(plan: &LogicalPlan) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let _ = plan.apply_with_subqueries(|node| {
        if let Some(Leaf::Release(index)) = leaf(node) {
            found.insert(index);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    found
}

fn leaf(node: &LogicalPlan) -> Option<Leaf> {
    let LogicalPlan::Extension(extension) = node else { return None };
    extension.node.as_any().downcast_ref::<ReleasedNode>().map(ReleasedNode::leaf)
}

/// A digest of a plan's structure: literals, names and shape, as the plan's own `Hash` walks them.
pub(super) fn digest(plan: &LogicalPlan) -> blake3::Hash {
    struct Digest(blake3::Hasher);
    impl Hasher for Digest {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(&(bytes.len() as u64).to_le_bytes());
            self.0.update(bytes);
        }

        fn finish(&self) -> u64 {
            0
        }
    }
    let mut digest = Digest(blake3::Hasher::new());
    std::hash::Hash::hash(plan, &mut digest);
    digest.0.finalize()
}
