//! `key IN ('a', 'b')` over texts, by the views of the texts.
//!
//! The engine hashes and compares the text of every row, and the keys that a policy lists are in such a list each: it was a quarter
//! of a release's time. Here the 16 bytes of a text's view stand for it ([`AtHand`]). The outcome is the same, NULL for NULL included.

#[cfg(test)]
mod tests;

use std::any::Any;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, StringViewArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, InListExpr, Literal};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};

use crate::release::AtHand;

/// Puts [`TextList`] into filters.
#[derive(Debug)]
pub(super) struct TextLists;

impl PhysicalOptimizerRule for TextLists {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|plan| {
            let any: &dyn Any = plan.as_ref();
            let Some(filter) = any.downcast_ref::<FilterExec>() else { return Ok(Transformed::no(plan)) };
            let schema = filter.input().schema();
            let predicate = Arc::clone(filter.predicate()).transform_down(|expr| {
                Ok(match TextList::of(&expr, &schema) {
                    Some(list) => {
                        let list: Arc<dyn PhysicalExpr> = Arc::new(list);
                        Transformed::new(list, true, TreeNodeRecursion::Jump)
                    }
                    None => Transformed::no(expr),
                })
            })?;
            if !predicate.transformed {
                return Ok(Transformed::no(plan));
            }
            let filter: Arc<dyn ExecutionPlan> =
                Arc::new(FilterExecBuilder::from(filter).with_predicate(predicate.data).build()?);
            Ok(Transformed::yes(filter))
        })
        .data()
    }

    fn name(&self) -> &'static str {
        "text_lists"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Whether the text of a column is one of several.
#[derive(Debug, Eq)]
struct TextList {
    column: Arc<dyn PhysicalExpr>,
    texts: HashSet<Box<str>, hashbrown::DefaultHashBuilder>,
}

impl PartialEq for TextList {
    fn eq(&self, other: &Self) -> bool {
        self.column.eq(&other.column) && self.texts == other.texts
    }
}

impl Hash for TextList {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.column, self.texts.len()).hash(state);
    }
}

impl TextList {
    /// What `expr` asks, where it is one column of views in a list, or equal to one of several texts.
    fn of(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Option<Self> {
        let mut texts = HashSet::default();
        let column = listed(expr, &mut texts)?;
        let is_one = texts.len() > 1 && schema.field(column.index()).data_type() == &DataType::Utf8View;
        is_one.then(|| Self { column: Arc::new(column.clone()), texts })
    }

    fn holds(&self, values: &StringViewArray) -> BooleanBuffer {
        let mut at_hand = AtHand::new();
        let views = values.views();
        let mut holds = |row: usize| at_hand.of(views[row], || self.texts.contains(values.value(row)));
        match values.nulls().filter(|nulls| nulls.null_count() > 0) {
            None => BooleanBuffer::collect_bool(views.len(), holds),
            Some(nulls) => BooleanBuffer::collect_bool(views.len(), |row| nulls.is_valid(row) && holds(row)),
        }
    }
}

/// The column whose text `expr` compares with texts alone, which are added to `texts`.
fn listed<'a>(
    expr: &'a Arc<dyn PhysicalExpr>,
    texts: &mut HashSet<Box<str>, hashbrown::DefaultHashBuilder>,
) -> Option<&'a Column> {
    let any: &dyn Any = expr.as_ref();
    if let Some(list) = any.downcast_ref::<InListExpr>().filter(|list| !list.negated()) {
        for text in list.list() {
            texts.insert(text_of(text)?.into());
        }
        return column_of(list.expr());
    }
    let binary = any.downcast_ref::<BinaryExpr>()?;
    match binary.op() {
        Operator::Or => {
            let column = listed(binary.left(), texts)?;
            (listed(binary.right(), texts)? == column).then_some(column)
        }
        Operator::Eq => {
            let (column, text) = match column_of(binary.left()) {
                Some(column) => (column, binary.right()),
                None => (column_of(binary.right())?, binary.left()),
            };
            texts.insert(text_of(text)?.into());
            Some(column)
        }
        _ => None,
    }
}

fn column_of(expr: &Arc<dyn PhysicalExpr>) -> Option<&Column> {
    let any: &dyn Any = expr.as_ref();
    any.downcast_ref()
}

fn text_of(expr: &Arc<dyn PhysicalExpr>) -> Option<&str> {
    let any: &dyn Any = expr.as_ref();
    match any.downcast_ref::<Literal>()?.value() {
        ScalarValue::Utf8View(text) | ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) => text.as_deref(),
        _ => None,
    }
}

impl fmt::Display for TextList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} IN ({} texts)", self.column, self.texts.len())
    }
}

impl PhysicalExpr for TextList {
    fn data_type(&self, _schema: &Schema) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.column.nullable(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let values = self.column.evaluate(batch)?.into_array(batch.num_rows())?;
        let Some(values) = values.as_string_view_opt() else { return internal_err!("a list of texts of another type") };
        Ok(ColumnarValue::Array(Arc::new(BooleanArray::new(self.holds(values), values.nulls().cloned()))))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.column]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        match (children.pop(), children.is_empty()) {
            (Some(column), true) => Ok(Arc::new(Self { column, texts: self.texts.clone() })),
            _ => internal_err!("a list of texts is of one column"),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
