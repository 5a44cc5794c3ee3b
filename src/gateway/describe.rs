//! Datasets as any caller may see them: schema and policy, never a count or a statistic of the data.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use crate::catalog::{Catalog, Entry, OWNER_COLUMN, Status};
use crate::policy::{DatasetName, DatasetPolicy, Epochs, PublicGroups, value_type};

use super::facts::guarantee;
use super::{Caller, Code, ColumnDescription, DatasetDescription, Gateway, GatewayError, authorise, run_blocking};

impl Gateway {
    /// Every dataset, in the order of the names.
    ///
    /// # Errors
    /// None that depends on the data; a dataset whose files cannot be read is listed without columns.
    pub async fn datasets(&self, _caller: &Caller) -> Result<Vec<DatasetDescription>, GatewayError> {
        let catalog = self.current_catalog().await?;
        run_blocking(move || catalog.entries().map(|(name, entry)| describe(&catalog, name, entry)).collect()).await
    }

    /// One dataset.
    ///
    /// # Errors
    /// `not_found` when there is none of that name.
    pub async fn dataset(&self, _caller: &Caller, name: &str) -> Result<DatasetDescription, GatewayError> {
        let unknown = || {
            GatewayError::new(Code::NotFound, "there is no dataset of that name")
                .with_hint("GET /v1/datasets lists the datasets")
        };
        let name: DatasetName = name.parse().map_err(|_| unknown())?;
        let catalog = self.current_catalog().await?;
        run_blocking(move || {
            let entry = catalog.entry(&name).filter(|_| catalog.status(&name) != Some(&Status::Withdrawn))?;
            Some(describe(&catalog, &name, entry))
        })
        .await?
        .ok_or_else(unknown)
    }
}

fn describe(catalog: &Catalog, name: &DatasetName, entry: &Entry) -> DatasetDescription {
    let schema = catalog.schema(name).unwrap_or_else(|error| {
        tracing::error!(%error, "a source cannot be read");
        None
    });
    let (kind, description, policies, members) = match entry {
        Entry::Private(policy, _) => ("private", policy.description.clone(), vec![Arc::clone(policy)], Vec::new()),
        Entry::Public(table, _) => ("public", table.description.clone(), Vec::new(), Vec::new()),
        Entry::Collection(collection) => {
            let policies = collection
                .members
                .iter()
                .filter_map(|member| match catalog.entry(member) {
                    Some(Entry::Private(policy, _)) => Some(Arc::clone(policy)),
                    _ => None,
                })
                .collect();
            let members = collection.members.iter().map(ToString::to_string).collect();
            ("collection", collection.description.clone(), policies, members)
        }
    };
    DatasetDescription {
        name: name.to_string(),
        kind,
        description,
        columns: schema.map(|schema| columns(&schema, &policies)).unwrap_or_default(),
        guarantee: (!policies.is_empty()).then(|| guarantee(policies.iter())),
        privacy: privacy(&policies),
        members,
        suspended: catalog.unserved(name).map(|(by, status)| authorise::unserved(by, status)),
    }
}

/// A column's facts: of a collection, those that hold in all of its members.
fn columns(schema: &SchemaRef, policies: &[Arc<DatasetPolicy>]) -> Vec<ColumnDescription> {
    schema
        .fields()
        .iter()
        .map(|field| {
            let name = field.name();
            let of_members = || policies.iter().map(|policy| policy.column(name));
            let uses = crate::policy::Use::ALL
                .into_iter()
                .filter(|one| of_members().all(|column| column.uses.allows(*one)))
                .map(crate::policy::Use::as_str)
                .collect();
            let bounds = of_members()
                .map(|column| column.bounds.map(|bounds| [bounds.lo().to_f64(), bounds.hi().to_f64()]))
                .reduce(|all, one| Some([all?[0].min(one?[0]), all?[1].max(one?[1])]))
                .flatten();
            let public_groups = if name == OWNER_COLUMN && policies.len() > 1 {
                Some(serde_json::json!(policies.iter().map(|policy| policy.name.owner()).collect::<Vec<_>>()))
            } else {
                united(of_members().map(|column| column.public_groups.as_ref()).collect())
            };
            ColumnDescription {
                name: name.clone(),
                // How a file encodes its strings is no concern of an analyst.
                data_type: value_type(field.data_type()).to_string(),
                uses,
                bounds,
                public_groups,
                privacy_unit: policies.first().is_some_and(|policy| policy.privacy.unit == *name),
            }
        })
        .collect()
}

fn united(groups: Vec<Option<&PublicGroups>>) -> Option<serde_json::Value> {
    let groups = groups.into_iter().collect::<Option<Vec<_>>>()?;
    let first = *groups.first()?;
    if groups.iter().all(|one| *one == first) {
        return serde_json::to_value(first).ok();
    }
    let keys: std::collections::BTreeSet<_> = groups.iter().flat_map(|one| one.keys()).collect();
    serde_json::to_value(keys).ok()
}

/// The strictest of the policies (DESIGN 4.2).
fn privacy(policies: &[Arc<DatasetPolicy>]) -> Option<serde_json::Value> {
    let first = policies.first()?;
    let all = || policies.iter().map(|policy| &policy.privacy);
    let budgets = || policies.iter().map(|policy| &policy.budget);
    let accounting: std::collections::BTreeSet<String> = all().map(|privacy| privacy.accounting.to_string()).collect();
    let purposes = policies
        .iter()
        .filter(|policy| !policy.purposes.is_empty())
        .map(|policy| policy.purposes.clone())
        .reduce(|all, one| all.intersection(&one).cloned().collect());
    let mut facts = serde_json::json!({
        "unit": first.privacy.unit,
        "unit_domain": first.privacy.unit_domain,
        "min_group_size": all().map(|privacy| privacy.min_group_size).max(),
        "max_groups_per_unit": all().map(|privacy| privacy.max_groups_per_unit).min(),
        "max_rows_per_unit_per_group": all().map(|privacy| privacy.max_rows_per_unit_per_group).min(),
        "accounting": accounting.into_iter().collect::<Vec<_>>().join(" and "),
        "default_epsilon": budgets().map(|budget| budget.default_query).min(),
        "max_epsilon": budgets().map(|budget| budget.max_query).min(),
        "purposes": purposes.unwrap_or_default(),
        "valid_until": policies.iter().filter_map(|policy| policy.valid_until).min().map(|day| day.to_string()),
    });
    let epochs: Vec<&Epochs> = all().filter_map(|privacy| privacy.epochs.as_ref()).collect();
    if let (Some(first), Some(object)) = (epochs.first(), facts.as_object_mut()) {
        object.insert("epoch".to_owned(), first.kind.as_str().into());
        object.insert("epoch_column".to_owned(), first.column.as_str().into());
        // From this day on there are epochs of every member.
        let from = epochs.iter().map(|epochs| epochs.from).max();
        object.insert("epoch_from".to_owned(), from.map(|day| day.to_string()).into());
    }
    Some(facts)
}
