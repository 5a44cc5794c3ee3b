//! How many rows of one unit a join meets: capped, so that one unit's rows cannot make a query run out of time or memory,
//! which would show that the unit is there (DESIGN 4.4: join fan-out per unit is capped).
//!
//! ```text
//! keys (unit, order)   rows            CapNode, at most 2 a key
//!  a 1                 x y z     ──▶   x z          the two of the lowest keyed hash of the row itself
//!  b 7                 x               x
//! ```
//!
//! Which rows are kept is a function of the rows with that key alone, and these are all of one unit: so a unit's rows
//! after the cap do not depend on another's.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchemaRef, Result, internal_err, plan_err};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::aggregates::group_values::new_group_values;
use datafusion::physical_plan::aggregates::order::GroupOrdering;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
};
use futures::{StreamExt, TryStreamExt, stream};
use siphasher::sip128::{Hasher128, SipHasher13};

/// The rows of a relation, at most so many for each value of the keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CapNode {
    input: LogicalPlan,
    keys: Vec<Expr>,
    most: usize,
}

impl CapNode {
    /// At most `most` rows of `input` for each value of `keys`, which are columns, the unit's among them.
    #[must_use]
    pub const fn new(input: LogicalPlan, keys: Vec<Expr>, most: usize) -> Self {
        Self { input, keys, most }
    }

    /// What is capped.
    #[must_use]
    pub const fn input(&self) -> &LogicalPlan {
        &self.input
    }

    /// The columns for each value of which rows are counted.
    #[must_use]
    pub fn keys(&self) -> &[Expr] {
        &self.keys
    }

    /// The most rows for one value.
    #[must_use]
    pub const fn most(&self) -> usize {
        self.most
    }
}

impl PartialOrd for CapNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for CapNode {
    fn name(&self) -> &'static str {
        "Cap"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        self.keys.clone()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cap: {} rows for each value of {:?}", self.most, self.keys)
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        match (inputs.pop(), inputs.is_empty()) {
            (Some(input), true) if exprs.len() == self.keys.len() => Ok(Self::new(input, exprs, self.most)),
            _ => plan_err!("a cap has one input and its keys"),
        }
    }

    /// The keys are needed beside, and are the node's expressions.
    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![output_columns.to_vec()])
    }
}

/// Physical operator of a [`CapNode`]. It holds a partition's rows until it has counted them.
#[derive(Debug)]
pub struct CapExec {
    input: Arc<dyn ExecutionPlan>,
    keys: Vec<Arc<dyn PhysicalExpr>>,
    most: usize,
    properties: Arc<PlanProperties>,
}

impl CapExec {
    /// Caps the rows of `input`.
    #[must_use]
    pub fn new(input: Arc<dyn ExecutionPlan>, keys: Vec<Arc<dyn PhysicalExpr>>, most: usize) -> Self {
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(input.schema()),
            input.output_partitioning().clone(),
            EmissionType::Final,
            Boundedness::Bounded,
        ));
        Self { input, keys, most, properties }
    }

    /// What rows are counted by.
    #[must_use]
    pub fn keys(&self) -> &[Arc<dyn PhysicalExpr>] {
        &self.keys
    }

    /// The most rows for one value of the keys.
    #[must_use]
    pub const fn most(&self) -> usize {
        self.most
    }
}

impl DisplayAs for CapExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CapExec: most={}", self.most)
    }
}

impl ExecutionPlan for CapExec {
    fn name(&self) -> &'static str {
        "CapExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    /// All rows of one key in one partition.
    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![Distribution::KeyPartitioned(self.keys.clone())]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        for key in &self.keys {
            f(key)?;
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self::new(input, self.keys.clone(), self.most))),
            _ => internal_err!("CapExec has one child"),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let mut input = self.input.execute(partition, Arc::clone(&context))?;
        let schema = self.input.schema();
        let mut capped = Capped::new(&self.keys, &schema, self.most)?;
        let keys = self.keys.clone();
        let reservation = MemoryConsumer::new("CapExec").register(context.memory_pool());
        let rows = async move {
            while let Some(batch) = input.next().await {
                capped.add(batch?, &keys)?;
                reservation.try_resize(capped.size())?;
            }
            // The reservation lives as long as the rows that are handed on.
            let rows = capped.finish()?;
            Ok::<_, datafusion::common::DataFusionError>(stream::iter(rows.into_iter().map(move |batch| {
                let _held = &reservation;
                Ok(batch)
            })))
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream::once(rows).try_flatten())))
    }
}

/// The rows of one partition, counted by key.
struct Capped {
    groups: Box<dyn datafusion::physical_plan::aggregates::group_values::GroupValues>,
    counts: Vec<usize>,
    batches: Vec<(RecordBatch, Vec<u32>)>,
    bytes: usize,
    most: usize,
    codes: Vec<usize>,
    /// Made before any row is seen, so that a type that has no hash fails whatever the rows.
    converter: RowConverter,
}

impl Capped {
    fn new(keys: &[Arc<dyn PhysicalExpr>], schema: &SchemaRef, most: usize) -> Result<Self> {
        let fields = keys.iter().map(|key| key.return_field(schema)).collect::<Result<Vec<_>>>()?;
        let groups = new_group_values(Arc::new(Schema::new(fields)), &GroupOrdering::None)?;
        let fields = schema.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
        let converter = RowConverter::new(fields)?;
        Ok(Self { groups, counts: Vec::new(), batches: Vec::new(), bytes: 0, most, codes: Vec::new(), converter })
    }

    fn add(&mut self, batch: RecordBatch, keys: &[Arc<dyn PhysicalExpr>]) -> Result<()> {
        let columns: Vec<ArrayRef> =
            keys.iter().map(|key| key.evaluate(&batch)?.into_array(batch.num_rows())).collect::<Result<_>>()?;
        self.codes.clear();
        self.groups.intern(&columns, &mut self.codes)?;
        self.counts.resize(self.groups.len(), 0);
        for code in &self.codes {
            self.counts[*code] += 1;
        }
        let codes: Vec<u32> = self.codes.iter().map(|code| *code as u32).collect();
        self.bytes += batch.get_array_memory_size() + codes.capacity() * 4;
        self.batches.push((batch, codes));
        Ok(())
    }

    fn size(&self) -> usize {
        self.bytes + self.groups.size() + self.counts.capacity() * 8
    }

    /// All rows, but of a key that has too many those of the lowest hash alone. Rows that are alike in every column are
    /// one another's equals: of those at the border as many are kept as there is room for.
    fn finish(self) -> Result<Vec<RecordBatch>> {
        let Self { counts, batches, most, converter, .. } = self;
        if counts.iter().all(|count| *count <= most) {
            return Ok(batches.into_iter().map(|(batch, _)| batch).collect());
        }
        let mut hashes: HashMap<u32, Vec<u128>> = HashMap::new();
        let mut of_batch = Vec::with_capacity(batches.len());
        for (batch, codes) in &batches {
            let rows = converter.convert_columns(batch.columns())?;
            let mut row_hashes = HashMap::new();
            for (row, code) in codes.iter().enumerate() {
                if counts[*code as usize] > most {
                    let hash = hash(rows.row(row).as_ref());
                    row_hashes.insert(row, hash);
                    hashes.entry(*code).or_default().push(hash);
                }
            }
            of_batch.push(row_hashes);
        }
        // By key: the highest hash that is kept, and how many rows of that very hash.
        let mut borders: HashMap<u32, (u128, usize)> = HashMap::new();
        for (code, mut hashes) in hashes {
            hashes.sort_unstable();
            let border = hashes[most - 1];
            let room = most - hashes.partition_point(|hash| *hash < border);
            borders.insert(code, (border, room));
        }
        let mut kept = Vec::with_capacity(batches.len());
        for ((batch, codes), row_hashes) in batches.into_iter().zip(of_batch) {
            let mask: BooleanArray = codes
                .iter()
                .enumerate()
                .map(|(row, code)| {
                    let (Some(hash), Some((border, room))) = (row_hashes.get(&row), borders.get_mut(code)) else {
                        return Some(true);
                    };
                    let fits = match hash.cmp(border) {
                        Ordering::Less => true,
                        Ordering::Equal if *room > 0 => {
                            *room -= 1;
                            true
                        }
                        Ordering::Equal | Ordering::Greater => false,
                    };
                    Some(fits)
                })
                .collect();
            kept.push(filter_record_batch(&batch, &mask)?);
        }
        Ok(kept)
    }
}

fn hash(bytes: &[u8]) -> u128 {
    // No secret is needed: which of one unit's rows are kept moves nobody else's.
    let mut hasher = SipHasher13::new_with_key(b"tollgate row cap");
    hasher.write(bytes);
    hasher.finish128().as_u128()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::{DataType, Field, Int64Type};
    use datafusion::physical_expr::expressions::Column;

    fn capped(rows: &[(i64, i64)], batch_rows: usize, most: usize) -> Vec<(i64, i64)> {
        let schema = Arc::new(Schema::new(vec![
            Field::new("unit", DataType::Int64, false),
            Field::new("x", DataType::Int64, false),
        ]));
        let keys: Vec<Arc<dyn PhysicalExpr>> = vec![Arc::new(Column::new("unit", 0))];
        let mut capped = Capped::new(&keys, &schema, most).unwrap();
        for rows in rows.chunks(batch_rows) {
            let (units, values): (Vec<i64>, Vec<i64>) = rows.iter().copied().unzip();
            let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(units)), Arc::new(Int64Array::from(values))];
            capped.add(RecordBatch::try_new(Arc::clone(&schema), columns).unwrap(), &keys).unwrap();
        }
        let mut kept = Vec::new();
        for batch in capped.finish().unwrap() {
            let (units, values) =
                (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_primitive::<Int64Type>());
            kept.extend(units.values().iter().copied().zip(values.values().iter().copied()));
        }
        kept.sort_unstable();
        kept
    }

    #[test]
    fn a_unit_keeps_the_same_rows_whatever_their_order_and_whoever_else_is_there() {
        let own: Vec<(i64, i64)> = (0..20).map(|x| (1, x % 15)).collect();
        let others: Vec<(i64, i64)> = (0..50).map(|x| (2 + x % 3, x)).collect();
        let alone = capped(&own, 3, 8);
        assert_eq!(alone.len(), 8);
        let mut mixed: Vec<_> = own.iter().rev().chain(&others).copied().collect();
        mixed.rotate_left(7);
        for batch_rows in [1, 5, 100] {
            let kept = capped(&mixed, batch_rows, 8);
            assert_eq!(kept.iter().filter(|(unit, _)| *unit == 1).copied().collect::<Vec<_>>(), alone);
            assert!((2..5).all(|unit| kept.iter().filter(|(of, _)| *of == unit).count() == 8));
        }
    }

    #[test]
    fn rows_below_the_cap_pass_as_they_are() {
        let rows: Vec<(i64, i64)> = (0..30).map(|x| (x / 3, x)).collect();
        assert_eq!(capped(&rows, 4, 3), rows);
        // Rows that are alike fill the room that there is.
        assert_eq!(capped(&[(1, 7), (1, 7), (1, 7)], 2, 2), [(1, 7), (1, 7)]);
    }
}
