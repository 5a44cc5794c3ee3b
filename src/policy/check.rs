//! Holds a policy against the schema of the data that it is over.

use arrow::datatypes::{DataType, Schema};

use super::column::{Bounds, ColumnPolicy, Key, Number, PublicGroups, Use};
use super::error::{Fault, PolicyErrors, Problem};
use super::model::DatasetPolicy;
use super::nearest::nearest;
use super::source::key_path;
use super::types;
use super::warning::{Advice, Warning, advise};

/// Checks that `policy` fits data of `schema`, and gives all advice on it: that of [`advise`] and that which needs the
/// types of the columns.
///
/// # Errors
/// When the unit's column is not there or is of a type whose equality is not exact, when the column that cuts epochs is not
/// there or is no time in UTC, when the file mentions a column
/// that is not there, and when bounds or public groups do not fit their column's type. Each points at its line.
pub fn check_against_schema(policy: &DatasetPolicy, schema: &Schema) -> Result<Vec<Warning>, PolicyErrors> {
    let mut problems = Vec::new();
    let mut refuse = |key: &str, fault| {
        let (file, position) = (policy.source.path().to_owned(), policy.source.position(key));
        problems.push(Problem { file, position, key: key.to_owned(), fault });
    };
    match type_of(schema, &policy.privacy.unit) {
        None => refuse("privacy.unit", unknown_column(schema, &policy.privacy.unit)),
        Some(data_type) if !types::is_unit(data_type) => {
            let fault = Fault::UnitType { column: policy.privacy.unit.clone(), found: data_type.to_string() };
            refuse("privacy.unit", fault);
        }
        Some(_) => {}
    }
    if let Some(epochs) = &policy.privacy.epochs {
        match type_of(schema, &epochs.column) {
            None => refuse("privacy.epoch_column", unknown_column(schema, &epochs.column)),
            Some(data_type) if !types::is_moment(data_type) => {
                let fault = Fault::EpochColumnType { column: epochs.column.clone(), found: data_type.to_string() };
                refuse("privacy.epoch_column", fault);
            }
            Some(_) => {}
        }
    }
    for (name, column) in &policy.columns {
        let key = key_path("columns", name);
        match type_of(schema, name) {
            None => refuse(&key, unknown_column(schema, name)),
            Some(data_type) => {
                if let Some(bounds) = &column.bounds
                    && let Some(fault) = misfit_bounds(name, bounds, data_type)
                {
                    refuse(&format!("{key}.bounds"), fault);
                }
                if let Some(groups) = &column.public_groups
                    && let Some(fault) = misfit_groups(name, groups, data_type)
                {
                    refuse(&format!("{key}.public_groups"), fault);
                }
            }
        }
    }
    if !problems.is_empty() {
        return Err(PolicyErrors::new(problems));
    }
    let mut warnings = advise(policy);
    warnings.extend(schema.fields().iter().filter_map(|field| advise_column(policy, field.name(), field.data_type())));
    Ok(warnings)
}

fn type_of<'s>(schema: &'s Schema, column: &str) -> Option<&'s DataType> {
    schema.field_with_name(column).ok().map(arrow::datatypes::Field::data_type)
}

fn unknown_column(schema: &Schema, column: &str) -> Fault {
    let names = schema.fields().iter().map(|field| field.name().as_str());
    Fault::UnknownColumn { column: column.to_owned(), nearest: nearest(column, names).map(str::to_owned) }
}

fn misfit_bounds(column: &str, bounds: &Bounds, data_type: &DataType) -> Option<Fault> {
    let (column, found) = (column.to_owned(), data_type.to_string());
    if !types::is_number(data_type) {
        return Some(Fault::BoundsType { column, found });
    }
    let fraction = |number| matches!(number, Number::Float(_));
    let misfit = types::value_type(data_type).is_integer() && (fraction(bounds.lo()) || fraction(bounds.hi()));
    misfit.then(|| {
        // Outwards, so that the suggestion cuts off nothing that the owner wanted counted.
        let lo = format!("{:.0}", bounds.lo().to_f64().floor());
        let hi = format!("{:.0}", bounds.hi().to_f64().ceil());
        Fault::BoundsNotWhole { column, found, lo, hi }
    })
}

fn misfit_groups(column: &str, groups: &PublicGroups, data_type: &DataType) -> Option<Fault> {
    let (column, found, kind) = (column.to_owned(), data_type.to_string(), groups.kind());
    let Some(wanted) = types::key_kind(data_type) else { return Some(Fault::GroupsColumnType { found }) };
    if wanted != kind {
        return Some(Fault::GroupsType { column, found, kind, wanted });
    }
    let (least, largest) = types::integer_range(data_type)?;
    let beyond = |key: &i64| !(least..=largest).contains(&i128::from(*key));
    let key = match groups {
        PublicGroups::List(keys) => {
            keys.iter().find_map(|key| if let Key::Int(key) = key { Some(*key).filter(beyond) } else { None })
        }
        PublicGroups::Range { from, to } => [*from, *to].into_iter().find(beyond),
        PublicGroups::DateRange { .. } => None,
    }?;
    Some(Fault::GroupsBeyondType { column, found, key })
}

fn advise_column(policy: &DatasetPolicy, name: &str, data_type: &DataType) -> Option<Warning> {
    if name == policy.privacy.unit || !types::is_number(data_type) {
        return None;
    }
    let ColumnPolicy { uses, bounds, public_groups, .. } = policy.column(name);
    let advice = match (bounds, types::integer_range(data_type)) {
        // A number with listed groups is a category, such as a month, and nobody sums those.
        (None, _) if uses.allows(Use::Aggregate) && public_groups.is_none() => Advice::NoBounds,
        (Some(bounds), Some((least, largest))) if reaches_beyond(bounds, least, largest) => {
            Advice::BoundsBeyondType { found: data_type.to_string() }
        }
        _ => return None,
    };
    Some(Warning::new(policy, format!("{}.bounds", key_path("columns", name)), advice))
}

fn reaches_beyond(bounds: &Bounds, least: i128, largest: i128) -> bool {
    let beyond = |number| match number {
        Number::Int(value) => !(least..=largest).contains(&i128::from(value)),
        Number::Float(_) => false,
    };
    beyond(bounds.lo()) || beyond(bounds.hi())
}
