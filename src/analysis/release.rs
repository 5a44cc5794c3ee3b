//! The aggregate that drops the unit becomes a release: a specification, and a plan of its input.
//!
//! ```text
//! Aggregate(keys, aggregates)            Released leaf: the aggregate's own schema
//!   input                        ──▶
//!                                        input ──▶ Projection(unit, keys, arguments, filters)
//!                                                  ──▶ Filter(every public key is one of its listed keys)
//! ```

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Column, DFSchema, DFSchemaRef, ScalarValue};
use datafusion::logical_expr::expr::{Case, InList};
use datafusion::logical_expr::utils::{enumerate_grouping_sets, grouping_set_to_exprlist};
use datafusion::logical_expr::{
    Aggregate, Expr, ExprSchemable, Extension, Filter, LogicalPlan, LogicalPlanBuilder, Projection, lit,
};

use crate::policy::DatasetName;
use crate::release::{
    ContributionBounds, EpochsRead, GroupingSets, Groups, HALF_WIDTH_TYPE, Leaf, ReleaseSpec, ReleasedNode,
    half_width_column,
};

use super::draft::Draft;
use super::expression::Total;
use super::known::{known_of, releases_of};
use super::operators::{Walked, unaliased, unit_of};
use super::refusal::Refusal;
use super::relation::{EpochColumn, Keys, Origin, PrivateRelation, Relation, ReleasedRelation};
use super::{AnalysedRelease, Analysis, canonical};

impl Analysis<'_> {
    /// The release that `aggregate` over `input` is.
    pub(super) fn release(
        &mut self,
        aggregate: &Aggregate,
        input: LogicalPlan,
        private: &PrivateRelation,
    ) -> Result<Walked, Refusal> {
        let sets = grouping_sets(aggregate)?;
        let key_exprs: Vec<Expr> = match &sets {
            None => aggregate.group_expr.clone(),
            Some(_) => grouping_set_to_exprlist(&aggregate.group_expr)?.into_iter().cloned().collect(),
        };
        let mut private = private.clone();
        self.bound_public(&aggregate.aggr_expr, input.schema(), &mut private)?;
        let private = &private;
        let mut draft = Draft::new(private.scope(input.schema()));
        let keys = key_exprs.iter().map(|key| draft.key(key)).collect::<Result<Vec<_>, _>>()?;
        check_preserved(private, &keys)?;
        let key_fields: Vec<FieldRef> = aggregate
            .schema
            .fields()
            .iter()
            .take(keys.len() + usize::from(sets.is_some()))
            .map(|field| Arc::new(plain(field)))
            .collect();
        let each = sets.clone().unwrap_or_else(|| vec![GroupingSet { number: 0, keys: (0..keys.len()).collect() }]);
        let mut of_set = Vec::with_capacity(each.len());
        let mut reasons = Vec::new();
        for set in &each {
            let of: Vec<Total> = set.keys.iter().map(|at| keys[*at].clone()).collect();
            let fields: Vec<FieldRef> = set.keys.iter().map(|at| Arc::clone(&key_fields[*at])).collect();
            let cells = self.cells(&of, &fields)?;
            let bounds = self.bounds(private, &of, cells.as_ref().map(Vec::len), &input, &mut reasons)?;
            of_set.push((cells, bounds));
        }
        let groups = self.united(&each, &of_set, &key_fields)?;
        let bounds = of_set
            .iter()
            .map(|(_, bounds)| *bounds)
            .reduce(|sum, set| ContributionBounds {
                groups: sum.groups.saturating_add(set.groups),
                rows: sum.rows.max(set.rows),
                // A row counts once in each set.
                total_rows: sum.total_rows.zip(set.total_rows).map(|(sum, set)| sum.saturating_add(set)),
            })
            .ok_or_else(|| Refusal::not_private("GROUPING SETS of no set", "write GROUP BY"))?;
        draft.find_centred(aggregate);
        let mut outputs = Vec::with_capacity(aggregate.aggr_expr.len());
        for (at, expr) in aggregate.aggr_expr.iter().enumerate() {
            let field = Arc::new(plain(aggregate.schema.field(key_fields.len() + at)));
            outputs.push((field, draft.output(expr, bounds, private.epoch.is_some())?));
        }
        let numbers = sets.as_ref().map(|sets| GroupingSets {
            key: keys.len(),
            groups: sets.iter().zip(&of_set).map(|(set, (_, bounds))| (set.number, bounds.groups)).collect(),
        });
        let spec = Arc::new(ReleaseSpec {
            unit_domain: private.unit_domain.clone(),
            keys: key_fields,
            arguments: draft.arguments.len(),
            filters: draft.filters.len(),
            measures: draft.measures,
            histograms: draft.histograms,
            quantiles: draft.quantiles,
            outputs,
            bounds,
            min_group_size: private
                .datasets
                .values()
                .map(|policy| policy.privacy.min_group_size)
                .max()
                .unwrap_or(1)
                .max(1),
            groups,
            sets: numbers,
            epochs: private.epoch.as_ref().map(|epoch| EpochsRead { kind: epoch.kind, by_dataset: epoch.read.clone() }),
        });
        let (arguments, filters, notes) = (draft.arguments, draft.filters, draft.notes);
        let epoch = private.epoch.as_ref().map(|epoch| epoch.column);
        let input = input_plan(input, (private.unit, epoch), &keys, sets.as_deref(), arguments, filters, &spec)?;
        let canonical = canonical::release(&input, &spec, &self.versions, &self.known, &self.releases)?;
        // The same release twice in one query is one: drawn once, paid for once.
        let index = match self.releases.iter().position(|known| known.canonical == canonical) {
            Some(index) => index,
            None => {
                let reads =
                    known_of(&input).into_iter().flat_map(|known| releases_of(&self.known[known].plan)).collect();
                self.releases.push(AnalysedRelease {
                    input,
                    canonical,
                    datasets: private.datasets.clone(),
                    epochs: labels(private.epoch.as_ref()),
                    spec: Arc::clone(&spec),
                    reads,
                    reasons,
                    notes,
                });
                self.releases.len() - 1
            }
        };
        let schema = released_schema(aggregate, &spec, index, self.with_error_columns)?;
        let mut origins = vec![None; spec.keys.len()];
        origins.extend((0..spec.outputs.len()).map(|output| Some(Origin { release: index, output })));
        origins.resize(schema.fields().len(), None);
        let leaf =
            LogicalPlan::Extension(Extension { node: Arc::new(ReleasedNode::new(Leaf::Release(index), schema)) });
        Ok((leaf, Relation::Released(ReleasedRelation { origins })))
    }

    /// The groups of all grouping sets: public if those of each are.
    fn united(
        &self,
        each: &[GroupingSet],
        of_set: &[(Option<Vec<Vec<ScalarValue>>>, ContributionBounds)],
        fields: &[FieldRef],
    ) -> Result<Groups, Refusal> {
        let with_number = fields.len() > each.iter().flat_map(|set| &set.keys).max().map_or(0, |last| last + 1);
        let mut columns: Vec<Vec<ScalarValue>> = vec![Vec::new(); fields.len()];
        let mut cells = 0;
        for (set, (of_set, _)) in each.iter().zip(of_set) {
            let Some(of_set) = of_set else { return Ok(Groups::Private) };
            cells += of_set.len();
            for cell in of_set {
                for (at, column) in columns.iter_mut().enumerate() {
                    let value = match set.keys.iter().position(|key| *key == at) {
                        Some(place) => cell[place].clone(),
                        None if with_number && at + 1 == fields.len() => {
                            ScalarValue::UInt64(Some(set.number)).cast_to(fields[at].data_type())?
                        }
                        None => ScalarValue::try_from(fields[at].data_type())?,
                    };
                    column.push(value);
                }
            }
        }
        if cells > self.max_cells {
            return Err(Refusal::too_large(
                format!("the public group keys span more than {} groups", self.max_cells),
                "group by fewer columns",
            ));
        }
        Ok(Groups::Public { keys: columns, cells })
    }

    /// L0_eff, r_eff and R: the least of what the policies, the key domain and the analyst say (DESIGN 4.2).
    fn bounds(
        &self,
        private: &PrivateRelation,
        keys: &[Total],
        cells: Option<usize>,
        input: &LogicalPlan,
        reasons: &mut Vec<String>,
    ) -> Result<ContributionBounds, Refusal> {
        let privacy = || private.datasets.values().map(|policy| &policy.privacy);
        let least = |owners: Option<u32>, asked: Option<u32>, name: &str| -> Result<u64, Refusal> {
            // A private relation has a dataset, so there is an owner's bound; without one nothing is allowed.
            let owners = owners.ok_or_else(|| Refusal::not_private("no dataset bounds its units", "tell its owner"))?;
            match asked {
                Some(asked) if asked > owners => Err(Refusal::request(
                    format!("`bounds.{name}` is {asked}, and the owner allows at most {owners}"),
                    format!("ask for at most {owners}"),
                )),
                asked => Ok(u64::from(asked.unwrap_or(owners))),
            }
        };
        let mut l0 = least(
            privacy().map(|privacy| privacy.max_groups_per_unit).min(),
            self.request.max_groups_per_unit,
            "max_groups_per_unit",
        )?;
        let mut of_groups = if self.request.max_groups_per_unit.is_some() { "as asked" } else { "the policy's bound" };
        if let Some(cells) = cells
            && cells as u64 <= l0
        {
            l0 = (cells as u64).max(1);
            of_groups = "there are no more groups, so that a unit's groups need not be bounded";
        }
        // A unit has one value of such keys, says the owner; one that has more counts in the group of one of them.
        if !keys.is_empty() && keys.iter().all(|key| key.facts.per_unit) && l0 > 1 {
            l0 = 1;
            of_groups = match &private.epoch {
                None => "a unit has one value of these keys, says the owner; it is held to that",
                Some(_) => "a unit has one value of these keys in an epoch; it is held to that",
            };
        }
        let mut rows = least(
            privacy().map(|privacy| privacy.max_rows_per_unit_per_group).min(),
            self.request.max_rows_per_unit_per_group,
            "max_rows_per_unit_per_group",
        )?;
        let mut of_rows =
            if self.request.max_rows_per_unit_per_group.is_some() { "as asked" } else { "the policy's bound" };
        let mut total_rows = privacy().filter_map(|privacy| privacy.max_rows_per_unit).min();
        match (self.request.max_rows_per_unit, total_rows) {
            (Some(asked), Some(owners)) if asked > owners => {
                return Err(Refusal::request(
                    format!("`bounds.max_rows_per_unit` is {asked}, and the owner allows at most {owners}"),
                    format!("ask for at most {owners}"),
                ));
            }
            (Some(asked), _) => total_rows = Some(asked),
            (None, _) => {}
        }
        if let Some(proven) = private.rows {
            let proven = proven.max(1);
            if proven < l0 {
                l0 = proven;
                of_groups = "a unit has no more rows here";
            }
            if proven < rows {
                rows = proven;
                of_rows = "a unit has no more rows here";
            }
            total_rows = total_rows.map(|total| total.min(proven));
        }
        // Each unit has each combination of these columns once, and the keys hold them all.
        let held = |at: &usize| {
            let column = Expr::Column(Column::from(input.schema().qualified_field(*at)));
            keys.iter().any(|key| unaliased(&key.expr) == &column)
        };
        if private.unique.as_ref().is_some_and(|unique| unique.iter().all(held)) {
            if rows > 1 {
                of_rows = "a unit has each combination of the keys once";
            }
            rows = 1;
        }
        if let Some(total) = total_rows
            && total >= l0.saturating_mul(rows)
        {
            total_rows = None;
        }
        reasons.push(format!("at most {l0} group{} ({of_groups})", if l0 == 1 { "" } else { "s" }));
        reasons.push(format!("at most {rows} row{} in each ({of_rows})", if rows == 1 { "" } else { "s" }));
        if let Some(total) = total_rows {
            let whence = if self.request.max_rows_per_unit.is_some() { "as asked" } else { "the policy's bound" };
            reasons.push(format!("at most {total} rows in all ({whence})"));
        }
        Ok(ContributionBounds { groups: l0, rows, total_rows })
    }
}

/// By dataset, the names of the epochs that are read.
fn labels(epoch: Option<&EpochColumn>) -> BTreeMap<DatasetName, Vec<String>> {
    let Some(epoch) = epoch else { return BTreeMap::new() };
    let named = |numbers: &BTreeSet<i32>| numbers.iter().map(|number| epoch.kind.label(*number)).collect();
    epoch.read.iter().map(|(name, numbers)| (name.clone(), named(numbers))).collect()
}

/// A field without metadata, for the result.
fn plain(field: &Field) -> Field {
    Field::new(field.name(), field.data_type().clone(), true)
}

fn input_plan(
    input: LogicalPlan,
    (unit, epoch): (usize, Option<usize>),
    keys: &[Total],
    sets: Option<&[GroupingSet]>,
    arguments: Vec<Expr>,
    filters: Vec<Expr>,
    spec: &ReleaseSpec,
) -> Result<LogicalPlan, Refusal> {
    let (unit, epoch) = (unit_of(&input, unit), epoch.map(|epoch| unit_of(&input, epoch)));
    let input = match sets {
        None => input,
        Some(sets) => for_each_set(input, sets, spec)?,
    };
    let number = || Expr::Column(Column::new_unqualified(SET_COLUMN));
    let mut exprs = vec![unit.alias("unit")];
    exprs.extend(epoch.map(|epoch| epoch.alias("epoch")));
    for (at, key) in keys.iter().enumerate() {
        // The result's type: under a union or a cast the two agree already.
        let to = spec.keys[at].data_type();
        let key = match key.expr.get_type(input.schema())? {
            kind if kind == *to => unaliased(&key.expr).clone(),
            _ => datafusion::logical_expr::try_cast(unaliased(&key.expr).clone(), to.clone()),
        };
        let without = numbers_without(sets, at);
        let key = if without.is_empty() {
            key
        } else {
            Expr::Case(Case {
                expr: None,
                when_then_expr: vec![(
                    Box::new(Expr::InList(InList { expr: Box::new(number()), list: without, negated: false })),
                    Box::new(lit(ScalarValue::try_from(to)?)),
                )],
                else_expr: Some(Box::new(key)),
            })
        };
        exprs.push(key.alias(format!("key{at}")));
    }
    if sets.is_some() {
        let to = spec.keys[keys.len()].data_type().clone();
        exprs.push(datafusion::logical_expr::cast(number(), to).alias(format!("key{}", keys.len())));
    }
    exprs.extend(arguments.into_iter().enumerate().map(|(at, expr)| expr.alias(format!("argument{at}"))));
    exprs.extend(filters.into_iter().enumerate().map(|(at, expr)| expr.alias(format!("filter{at}"))));
    let mut plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input))?);
    if let Groups::Public { keys: domains, .. } = &spec.groups {
        let numbers = sets.and_then(|_| domains.get(keys.len()));
        for (at, domain) in domains.iter().enumerate().take(keys.len()) {
            // NULL stands for every value where a set has not the key; where it has, NULL is a value like another.
            let without = numbers_without(sets, at);
            let listed: Vec<&ScalarValue> = domain
                .iter()
                .enumerate()
                .filter(|(cell, _)| {
                    let number = numbers.map(|numbers| lit(numbers[*cell].clone()));
                    number.is_none_or(|number| !without.iter().any(|set| same_number(set, &number)))
                })
                .map(|(_, value)| value)
                .collect();
            let mut condition = is_listed(at, &listed);
            if !without.is_empty() {
                let number = Expr::Column(Column::new_unqualified(format!("key{}", keys.len())));
                let number = datafusion::logical_expr::cast(number, DataType::UInt64);
                condition =
                    condition.or(Expr::InList(InList { expr: Box::new(number), list: without, negated: false }));
            }
            plan = LogicalPlan::Filter(Filter::try_new(condition, Arc::new(plan))?);
        }
    }
    Ok(plan)
}

/// Whether two literals are one whole number, whatever their types.
fn same_number(a: &Expr, b: &Expr) -> bool {
    let number = |expr: &Expr| match expr {
        Expr::Literal(value, _) => value.cast_to(&DataType::UInt64).ok(),
        _ => None,
    };
    number(a).is_some_and(|a| Some(a) == number(b))
}

/// Rows with unlisted keys drop before contributions are bounded (DESIGN 4.2).
fn is_listed(at: usize, domain: &[&ScalarValue]) -> Expr {
    let key = Expr::Column(Column::new_unqualified(format!("key{at}")));
    let mut seen = HashSet::new();
    let values: Vec<Expr> = domain
        .iter()
        .filter(|value| !value.is_null() && seen.insert(*value))
        .map(|value| lit((*value).clone()))
        .collect();
    let listed = if values.is_empty() {
        lit(false)
    } else {
        Expr::InList(InList { expr: Box::new(key.clone()), list: values, negated: false })
    };
    if domain.iter().any(|value| value.is_null()) { listed.or(key.is_null()) } else { listed }
}

/// One grouping of `GROUPING SETS`.
#[derive(Debug, Clone)]
struct GroupingSet {
    /// The engine's number: a bit for each key that the set has not, the last key's being the lowest.
    number: u64,
    /// The keys that it has.
    keys: Vec<usize>,
}

/// The most grouping sets: each row is there once for each.
const MAX_SETS: usize = 64;

/// The column that numbers the sets.
const SET_COLUMN: &str = "__tollgate_set";

fn grouping_sets(aggregate: &Aggregate) -> Result<Option<Vec<GroupingSet>>, Refusal> {
    let [Expr::GroupingSet(_)] = &aggregate.group_expr[..] else { return Ok(None) };
    let keys: Vec<Expr> = grouping_set_to_exprlist(&aggregate.group_expr)?.into_iter().cloned().collect();
    if keys.len() > 16 {
        return Err(Refusal::too_large("GROUPING SETS over more than 16 keys", "group by fewer columns"));
    }
    let expanded = enumerate_grouping_sets(aggregate.group_expr.clone())?;
    let [Expr::GroupingSet(set)] = &expanded[..] else {
        return Err(Refusal::not_private("these GROUPING SETS are not answered", "write them out"));
    };
    let listed: Vec<Vec<Expr>> = match set {
        datafusion::logical_expr::GroupingSet::GroupingSets(sets) => sets.clone(),
        datafusion::logical_expr::GroupingSet::Rollup(exprs) => {
            (0..=exprs.len()).rev().map(|len| exprs[..len].to_vec()).collect()
        }
        datafusion::logical_expr::GroupingSet::Cube(exprs) => (0..1u32 << exprs.len().min(16))
            .rev()
            .map(|chosen| {
                let has = |at: usize| chosen >> (exprs.len() - 1 - at) & 1 == 1;
                exprs.iter().enumerate().filter(|(at, _)| has(*at)).map(|(_, expr)| expr.clone()).collect()
            })
            .collect(),
    };
    if listed.len() > MAX_SETS {
        return Err(Refusal::too_large(
            format!("GROUPING SETS of {} groupings; at most {MAX_SETS} are answered", listed.len()),
            "group by fewer columns, or write out the groupings that you need",
        ));
    }
    let mut sets: Vec<GroupingSet> = Vec::with_capacity(listed.len());
    for exprs in &listed {
        let has: Vec<usize> = (0..keys.len()).filter(|at| exprs.contains(&keys[*at])).collect();
        let number = (0..keys.len()).filter(|at| !has.contains(at)).map(|at| 1u64 << (keys.len() - 1 - at)).sum();
        if sets.iter().any(|set| set.number == number) {
            return Err(Refusal::not_private("one grouping set is there twice", "leave one of the two out"));
        }
        sets.push(GroupingSet { number, keys: has });
    }
    Ok(Some(sets))
}

/// The numbers of the sets that have not key `at`.
fn numbers_without(sets: Option<&[GroupingSet]>, at: usize) -> Vec<Expr> {
    sets.unwrap_or_default().iter().filter(|set| !set.keys.contains(&at)).map(|set| lit(set.number)).collect()
}

/// Each row once for each grouping set.
fn for_each_set(input: LogicalPlan, sets: &[GroupingSet], spec: &ReleaseSpec) -> Result<LogicalPlan, Refusal> {
    debug_assert!(spec.sets.is_some(), "sets are in the specification");
    let values = sets.iter().map(|set| vec![lit(set.number)]).collect();
    let values = LogicalPlanBuilder::values(values)?
        .project([Expr::Column(Column::new_unqualified("column1")).alias(SET_COLUMN)])?;
    Ok(values.cross_join(input)?.build()?)
}

/// Above an outer join that keeps public rows, these are the groups: so some key must be a column of each such table.
fn check_preserved(private: &PrivateRelation, keys: &[Total]) -> Result<(), Refusal> {
    let grouped = |table: &usize| {
        keys.iter().any(|key| matches!(&key.facts.keys, Some(Keys::Table { table: known, .. }) if known == table))
    };
    if private.preserved.iter().all(grouped) {
        return Ok(());
    }
    Err(Refusal::not_private(
        "an outer join that keeps every public row has a row for each of them only when they are the groups",
        "group by a column of the public table; or use JOIN",
    ))
}

/// The aggregate's own schema, then the half-widths if they are asked for. They are drawn, or rather computed, in any
/// case, so that asking for them later is the same release.
fn released_schema(
    aggregate: &Aggregate,
    spec: &ReleaseSpec,
    index: usize,
    with_half_widths: bool,
) -> Result<DFSchemaRef, Refusal> {
    let mut fields: Vec<_> =
        aggregate.schema.iter().map(|(relation, field)| (relation.cloned(), Arc::new(plain(field)))).collect();
    if with_half_widths {
        for output in 0..spec.outputs.len() {
            fields.push((None, Arc::new(Field::new(half_width_column(index, output), HALF_WIDTH_TYPE, true))));
        }
    }
    Ok(Arc::new(DFSchema::new_with_metadata(fields, std::collections::HashMap::new())?))
}
