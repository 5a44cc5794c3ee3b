//! The aggregate that drops the unit becomes a release: a specification, and a plan of its input.
//!
//! ```text
//! Aggregate(keys, aggregates)            Released leaf: the aggregate's own schema
//!   input                        ──▶
//!                                        input ──▶ Projection(unit, keys, arguments, filters)
//!                                                  ──▶ Filter(every public key is one of its listed keys)
//! ```

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, FieldRef};
use datafusion::common::{Column, DFSchema, DFSchemaRef, ScalarValue};
use datafusion::logical_expr::expr::{AggregateFunction, InList};
use datafusion::logical_expr::{Aggregate, Expr, ExprSchemable, Extension, Filter, LogicalPlan, Projection, lit};

use crate::policy::Use;
use crate::release::{
    ContributionBounds, Groups, HALF_WIDTH_TYPE, Lattice, Measure, MeasureKind, Output, ReleaseSpec, ReleasedNode,
    half_width_column,
};

use super::expression::{Scope, Total, allow};
use super::operators::Walked;
use super::refusal::Refusal;
use super::relation::{Origin, PrivateRelation, Relation, ReleasedRelation};
use super::{AnalysedRelease, Analysis, canonical};

impl Analysis<'_> {
    /// The release that `aggregate` over `input` is.
    pub(super) fn release(
        &mut self,
        aggregate: &Aggregate,
        input: LogicalPlan,
        private: &PrivateRelation,
    ) -> Result<Walked, Refusal> {
        if !self.releases.is_empty() {
            return Err(Refusal::not_private(
                "a query with several private aggregations is not answered",
                "ask each in its own query",
            ));
        }
        let mut draft = Draft {
            scope: Scope { schema: input.schema(), columns: &private.columns },
            arguments: Vec::new(),
            filters: Vec::new(),
            measures: Vec::new(),
        };
        let keys = aggregate.group_expr.iter().map(|key| draft.key(key)).collect::<Result<Vec<_>, _>>()?;
        let key_fields: Vec<FieldRef> =
            aggregate.schema.fields().iter().take(keys.len()).map(|field| Arc::new(plain(field))).collect();
        let groups = self.groups(&keys, &key_fields)?;
        let bounds = self.bounds(private, &groups)?;
        let mut outputs = Vec::with_capacity(aggregate.aggr_expr.len());
        for (at, expr) in aggregate.aggr_expr.iter().enumerate() {
            let field = Arc::new(plain(aggregate.schema.field(keys.len() + at)));
            outputs.push((field, draft.output(expr, bounds)?));
        }
        let spec = Arc::new(ReleaseSpec {
            unit_domain: private.unit_domain.clone(),
            keys: key_fields,
            arguments: draft.arguments.len(),
            filters: draft.filters.len(),
            measures: draft.measures,
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
        });
        let (arguments, filters) = (draft.arguments, draft.filters);
        let input = input_plan(input, private.unit, &keys, arguments, filters, &spec)?;
        let canonical = canonical::release(&input, &spec, &self.versions)?;
        let index = self.releases.len();
        let schema = released_schema(aggregate, &spec, index, self.with_error_columns)?;
        self.releases.push(AnalysedRelease {
            input,
            canonical,
            datasets: private.datasets.clone(),
            spec: Arc::clone(&spec),
        });
        let mut origins = vec![None; keys.len()];
        origins.extend((0..spec.outputs.len()).map(|output| Some(Origin { release: index, output })));
        origins.resize(schema.fields().len(), None);
        let leaf = LogicalPlan::Extension(Extension { node: Arc::new(ReleasedNode::new(index, schema)) });
        Ok((leaf, Relation::Released(ReleasedRelation { origins })))
    }

    fn groups(&self, keys: &[Total], fields: &[FieldRef]) -> Result<Groups, Refusal> {
        let mut domains: Vec<Vec<ScalarValue>> = Vec::with_capacity(keys.len());
        for (key, field) in keys.iter().zip(fields) {
            let Some(listed) = &key.facts.keys else { return Ok(Groups::Private) };
            let mut seen = HashSet::new();
            let mut domain = Vec::with_capacity(listed.len());
            for value in listed.iter() {
                let value = value.cast_to(field.data_type())?;
                if seen.insert(value.clone()) {
                    domain.push(value);
                }
            }
            domains.push(domain);
        }
        let cells = domains.iter().try_fold(1usize, |cells, domain| cells.checked_mul(domain.len()));
        let Some(cells) = cells.filter(|cells| *cells <= self.max_cells) else {
            return Err(Refusal::too_large(
                format!("the public group keys span more than {} groups", self.max_cells),
                "group by fewer columns",
            ));
        };
        // The product of the domains, the last key changing fastest.
        let mut columns = Vec::with_capacity(domains.len());
        let mut repeat = cells;
        for domain in &domains {
            let Some(each) = repeat.checked_div(domain.len()) else {
                return Err(Refusal::not_private("a group key has no possible value", "leave it out"));
            };
            let column = (0..cells).map(|cell| domain[cell / each % domain.len()].clone()).collect();
            repeat = each;
            columns.push(column);
        }
        Ok(Groups::Public { keys: columns, cells })
    }

    /// L0_eff, r_eff and R: the least of what the policies, the key domain and the analyst say (DESIGN 4.2).
    fn bounds(&self, private: &PrivateRelation, groups: &Groups) -> Result<ContributionBounds, Refusal> {
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
        if let Groups::Public { cells, .. } = groups {
            l0 = l0.min(*cells as u64);
        }
        let rows = least(
            privacy().map(|privacy| privacy.max_rows_per_unit_per_group).min(),
            self.request.max_rows_per_unit_per_group,
            "max_rows_per_unit_per_group",
        )?;
        let total_rows = privacy().filter_map(|privacy| privacy.max_rows_per_unit).min();
        Ok(ContributionBounds { groups: l0, rows, total_rows })
    }
}

/// What a release is made of, as its expressions are met.
struct Draft<'a> {
    scope: Scope<'a>,
    arguments: Vec<Expr>,
    filters: Vec<Expr>,
    measures: Vec<Measure>,
}

impl Draft<'_> {
    fn key(&self, expr: &Expr) -> Result<Total, Refusal> {
        let total = self.scope.used(expr, Use::Group)?;
        if total.facts.is_unit {
            return Err(Refusal::not_private(
                format!("GROUP BY `{expr}` makes one group of each privacy unit, which is never released"),
                "leave it out of GROUP BY",
            ));
        }
        if total.expr.get_type(self.scope.schema)?.is_nested() {
            return Err(Refusal::not_private(format!("`{expr}` is no plain value"), "group by plain columns"));
        }
        Ok(total)
    }

    fn output(&mut self, expr: &Expr, bounds: ContributionBounds) -> Result<Output, Refusal> {
        let inner = match expr {
            Expr::Alias(alias) => alias.expr.as_ref(),
            other => other,
        };
        let Expr::AggregateFunction(call) = inner else {
            return Err(Refusal::not_private(format!("`{expr}` is not an aggregate that is answered"), ANSWERED));
        };
        let params = &call.params;
        if !params.order_by.is_empty() || params.null_treatment.is_some() {
            return Err(Refusal::not_private(
                format!("`{expr}`: an aggregate with ORDER BY or IGNORE NULLS is not answered"),
                ANSWERED,
            ));
        }
        let filter = match &params.filter {
            None => None,
            Some(filter) => {
                let total = self.scope.used(filter, Use::Filter)?;
                Some(place(&mut self.filters, total.expr))
            }
        };
        match (call.func.name(), &params.args[..], params.distinct) {
            ("count", [Expr::Literal(value, _)], false) if !value.is_null() => {
                // With one row a unit and group, rows are units (DESIGN 4.2).
                if bounds.rows == 1 && filter.is_none() && bounds.total_rows.is_none() {
                    return Ok(Output::Units);
                }
                Ok(Output::Count { measure: place(&mut self.measures, Measure { kind: MeasureKind::Rows, filter }) })
            }
            ("count", [argument], false) => {
                let measure = self.values(argument, filter)?;
                Ok(Output::Count { measure })
            }
            ("count", [argument], true) => self.count_distinct(expr, argument, filter),
            ("sum", [argument], false) => {
                let (argument, lattice) = self.argument(call, argument, false)?;
                let kind = MeasureKind::Sum { argument, lattice };
                Ok(Output::Sum { measure: place(&mut self.measures, Measure { kind, filter }) })
            }
            ("avg", [value], false) => {
                let (argument, lattice) = self.argument(call, value, true)?;
                let kind = MeasureKind::Sum { argument, lattice };
                let sum = place(&mut self.measures, Measure { kind, filter });
                let count = self.values(value, filter)?;
                Ok(Output::Average { sum, count })
            }
            ("sum" | "avg", _, true) => Err(Refusal::not_private(
                format!("`{expr}`: DISTINCT inside sum or avg is not answered"),
                "leave DISTINCT out",
            )),
            (name, ..) => {
                Err(Refusal::not_private(format!("the aggregate `{name}` in `{expr}` is not answered"), ANSWERED))
            }
        }
    }

    fn count_distinct(&mut self, expr: &Expr, argument: &Expr, filter: Option<usize>) -> Result<Output, Refusal> {
        let total = self.scope.used(argument, Use::Aggregate)?;
        if total.facts.is_unit && filter.is_none() {
            return Ok(Output::Units);
        }
        Err(Refusal::not_private(
            format!("`{expr}`: only the privacy units themselves can be counted with DISTINCT, without FILTER"),
            "use count(DISTINCT unit column), with the condition in WHERE",
        ))
    }

    /// The measure that counts the values of `argument`. A column that cannot be NULL has a value in every row.
    fn values(&mut self, argument: &Expr, filter: Option<usize>) -> Result<usize, Refusal> {
        // The engine casts integers to floats for avg; what is counted is the same.
        let total = self.scope.used(argument, Use::Aggregate)?;
        let always = !total.expr.nullable(self.scope.schema)? && !total.expr.get_type(self.scope.schema)?.is_floating();
        let kind = if always {
            MeasureKind::Rows
        } else {
            MeasureKind::Values { argument: place(&mut self.arguments, uncast(total.expr, self.scope.schema)) }
        };
        Ok(place(&mut self.measures, Measure { kind, filter }))
    }

    fn argument(
        &mut self,
        call: &AggregateFunction,
        argument: &Expr,
        centred: bool,
    ) -> Result<(usize, Lattice), Refusal> {
        let total = self.scope.used(argument, Use::Aggregate)?;
        let name = call.func.name();
        let Some((lo, hi)) = total.facts.interval.and_then(super::interval::Interval::finite) else {
            return Err(Refusal::not_private(
                format!("{name} of `{argument}` has no bounds, so one unit could move it without limit"),
                format!("clamp it: {name}(least(greatest({}, LO), HI)) with numbers for LO and HI", shown(argument)),
            ));
        };
        let kind = total.expr.get_type(self.scope.schema)?;
        let lattice = Lattice::new(&kind, lo, hi, centred).ok_or_else(|| {
            Refusal::not_private(
                format!("{name} of `{argument}` ({kind}, in [{lo}, {hi}]) cannot be summed exactly"),
                format!("cast it: {name}(CAST({} AS DOUBLE)), or clamp it more tightly", shown(argument)),
            )
        })?;
        allow(&total.facts, Use::Aggregate, argument)?;
        Ok((place(&mut self.arguments, total.expr), lattice))
    }
}

const ANSWERED: &str = "use count, count(DISTINCT unit), sum or avg, each with FILTER if need be";

/// The index of `item` in `items`, where it is put if it is not there yet: equal parts are shared, and paid for once.
fn place<T: PartialEq>(items: &mut Vec<T>, item: T) -> usize {
    items.iter().position(|known| *known == item).unwrap_or_else(|| {
        items.push(item);
        items.len() - 1
    })
}

/// The expression under a widening that keeps NULLs and NaNs as they are.
fn uncast(expr: Expr, schema: &DFSchema) -> Expr {
    match &expr {
        Expr::Cast(cast) if cast.expr.get_type(schema).is_ok_and(|kind| kind.is_numeric()) => {
            uncast(cast.expr.as_ref().clone(), schema)
        }
        _ => expr,
    }
}

/// The expression as a person wrote it: without the cast that the engine adds.
fn shown(expr: &Expr) -> String {
    match expr {
        Expr::Cast(cast) => shown(&cast.expr),
        other => other.to_string(),
    }
}

/// A field without metadata, for the result.
fn plain(field: &Field) -> Field {
    Field::new(field.name(), field.data_type().clone(), true)
}

fn input_plan(
    input: LogicalPlan,
    unit: usize,
    keys: &[Total],
    arguments: Vec<Expr>,
    filters: Vec<Expr>,
    spec: &ReleaseSpec,
) -> Result<LogicalPlan, Refusal> {
    let unit = Expr::Column(Column::from(input.schema().qualified_field(unit)));
    let mut exprs = vec![unit.alias("unit")];
    for (at, key) in keys.iter().enumerate() {
        // The result's type: under a union or a cast the two agree already.
        let to = spec.keys[at].data_type();
        let key = match key.expr.get_type(input.schema())? {
            kind if kind == *to => unaliased(&key.expr),
            _ => datafusion::logical_expr::try_cast(unaliased(&key.expr), to.clone()),
        };
        exprs.push(key.alias(format!("key{at}")));
    }
    exprs.extend(arguments.into_iter().enumerate().map(|(at, expr)| expr.alias(format!("argument{at}"))));
    exprs.extend(filters.into_iter().enumerate().map(|(at, expr)| expr.alias(format!("filter{at}"))));
    let mut plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input))?);
    if let Groups::Public { keys: domains, .. } = &spec.groups {
        for (at, domain) in domains.iter().enumerate() {
            plan = LogicalPlan::Filter(Filter::try_new(is_listed(at, domain), Arc::new(plan))?);
        }
    }
    Ok(plan)
}

/// Rows with unlisted keys drop before contributions are bounded (DESIGN 4.2).
fn is_listed(at: usize, domain: &[ScalarValue]) -> Expr {
    let key = Expr::Column(Column::new_unqualified(format!("key{at}")));
    let mut seen = HashSet::new();
    let values: Vec<Expr> =
        domain.iter().filter(|value| !value.is_null() && seen.insert(*value)).map(|value| lit(value.clone())).collect();
    let listed = if values.is_empty() {
        lit(false)
    } else {
        Expr::InList(InList { expr: Box::new(key.clone()), list: values, negated: false })
    };
    if domain.iter().any(ScalarValue::is_null) { listed.or(key.is_null()) } else { listed }
}

fn unaliased(expr: &Expr) -> Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other.clone(),
    }
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
