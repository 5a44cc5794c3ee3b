//! The release in the logical plan: a node over its input that no optimizer rule reaches through, and the leaf that
//! stands for its drawn values in what is computed from them.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::{DFSchema, DFSchemaRef, Result, plan_err};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

use super::bound::SelectionKey;
use super::price::NoisePlan;
use super::spec::{HALF_WIDTH_TYPE, ReleaseSpec, half_width_column};

/// A release whose price is paid: bounds, noise and selection over its input.
#[derive(Clone)]
pub struct ReleaseNode {
    input: LogicalPlan,
    spec: Arc<ReleaseSpec>,
    noise: Arc<NoisePlan>,
    selection_key: SelectionKey,
    schema: DFSchemaRef,
}

impl ReleaseNode {
    /// The release `spec` of `input` with noise `noise`.
    ///
    /// # Errors
    /// When the input has not the columns that the specification says.
    pub fn new(
        input: LogicalPlan,
        spec: Arc<ReleaseSpec>,
        noise: Arc<NoisePlan>,
        selection_key: SelectionKey,
    ) -> Result<Self> {
        if input.schema().fields().len() != spec.input_width() {
            return plan_err!(
                "a release's input has {} columns, not {}",
                input.schema().fields().len(),
                spec.input_width()
            );
        }
        let fields = output_schema(&spec).fields().iter().map(|field| (None, Arc::clone(field))).collect();
        // Names repeat (`count(*)` twice is two outputs); places are what counts.
        let schema = Arc::new(DFSchema::new_with_metadata(fields, HashMap::new())?);
        Ok(Self { input, spec, noise, selection_key, schema })
    }

    /// What is released.
    #[must_use]
    pub fn spec(&self) -> &Arc<ReleaseSpec> {
        &self.spec
    }

    /// Its noise.
    #[must_use]
    pub fn noise(&self) -> &Arc<NoisePlan> {
        &self.noise
    }

    /// Its input.
    #[must_use]
    pub fn input(&self) -> &LogicalPlan {
        &self.input
    }

    /// The key of the hash that chooses groups.
    #[must_use]
    pub const fn selection_key(&self) -> SelectionKey {
        self.selection_key
    }
}

/// The drawn batch: keys, aggregates, then a half-width for each aggregate. Columns are named by place.
#[must_use]
pub fn output_schema(spec: &ReleaseSpec) -> SchemaRef {
    let keys = spec.keys.iter().enumerate().map(|(at, key)| renamed(key, format!("key{at}")));
    let outputs = spec.outputs.iter().enumerate().map(|(at, (field, _))| renamed(field, format!("output{at}")));
    let half_widths = (0..spec.outputs.len()).map(|at| Field::new(half_width_column(0, at), HALF_WIDTH_TYPE, true));
    Arc::new(Schema::new(keys.chain(outputs).chain(half_widths).collect::<Vec<_>>()))
}

fn renamed(field: &Field, name: String) -> Field {
    Field::new(name, field.data_type().clone(), true)
}

impl fmt::Debug for ReleaseNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_for_explain(f)
    }
}

impl PartialEq for ReleaseNode {
    /// Two nodes are one only if they are the same object: no rule may merge two releases.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.spec, &other.spec) && Arc::ptr_eq(&self.noise, &other.noise) && self.input == other.input
    }
}

impl Eq for ReleaseNode {}

impl Hash for ReleaseNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.input.hash(state);
    }
}

impl PartialOrd for ReleaseNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for ReleaseNode {
    fn name(&self) -> &'static str {
        "Release"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Release: keys={}, measures={}, outputs={}, L0={}, r={}, k={}",
            self.spec.keys.len(),
            self.spec.measures.len(),
            self.spec.outputs.len(),
            self.spec.bounds.groups,
            self.spec.bounds.rows,
            self.spec.min_group_size
        )
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        match (exprs.is_empty(), inputs.pop(), inputs.is_empty()) {
            (true, Some(input), true) => {
                Self::new(input, Arc::clone(&self.spec), Arc::clone(&self.noise), self.selection_key)
            }
            _ => plan_err!("a release has one input and no expressions"),
        }
    }

    /// Every column of the input is needed, whatever is read of the output.
    fn necessary_children_exprs(&self, _output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![(0..self.spec.input_width()).collect()])
    }
}

/// What a [`ReleasedNode`] stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd)]
pub enum Leaf {
    /// The drawn values of a release of the query.
    Release(usize),
    /// A relation that was computed from public tables and from releases that are drawn already.
    Known(usize),
}

/// A leaf of the plan that stands for rows which are known without the private data that the plan reads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ReleasedNode {
    leaf: Leaf,
    schema: DFSchemaRef,
}

impl ReleasedNode {
    /// The rows of `leaf` under the names of `schema`: a prefix of a drawn batch's columns, or all of a relation's.
    #[must_use]
    pub const fn new(leaf: Leaf, schema: DFSchemaRef) -> Self {
        Self { leaf, schema }
    }

    /// What it stands for.
    #[must_use]
    pub const fn leaf(&self) -> Leaf {
        self.leaf
    }
}

impl PartialOrd for ReleasedNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.leaf.partial_cmp(&other.leaf)
    }
}

impl UserDefinedLogicalNodeCore for ReleasedNode {
    fn name(&self) -> &'static str {
        "Released"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        Vec::new()
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Released: {:?}", self.leaf)
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        if exprs.is_empty() && inputs.is_empty() { Ok(self.clone()) } else { plan_err!("released values are a leaf") }
    }
}
