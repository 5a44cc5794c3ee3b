//! Whose figures a caller may see.

use std::sync::Arc;

use crate::catalog::{Catalog, Entry};
use crate::ledger::Role;
use crate::policy::{DatasetName, DatasetPolicy};

use super::super::facts::guarantee;
use super::super::{Caller, Code, GatewayError};
use super::Reporter;

/// Whose figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sees {
    /// Everybody's: budget administrators, auditors, operators.
    All,
    /// Those of these datasets: a steward. Never empty: where there is none, a name that no dataset can have.
    Datasets(Vec<String>),
    /// This consumer's: an analyst.
    Consumer(String),
}

impl Sees {
    pub(super) fn of(caller: &Caller, catalog: &Catalog) -> Result<Self, GatewayError> {
        match caller.role() {
            Role::BudgetAdmin | Role::Auditor | Role::Operator => Ok(Self::All),
            Role::Analyst => Ok(Self::Consumer(caller.analyst()?.to_owned())),
            Role::Steward => {
                let owner = caller.steward()?;
                let own = catalog.names().filter(|name| name.owner() == owner).map(ToString::to_string);
                let mut names: Vec<String> = own.collect();
                if names.is_empty() {
                    names.push(format!("{owner}."));
                }
                Ok(Self::Datasets(names))
            }
        }
    }

    /// The datasets that a report is over, empty for all of them, where `asked` was asked for.
    pub(super) fn datasets(&self, asked: Option<&str>) -> Result<Vec<String>, GatewayError> {
        match (self, asked) {
            (Self::All | Self::Consumer(_), asked) => Ok(asked.map(str::to_owned).into_iter().collect()),
            (Self::Datasets(own), None) => Ok(own.clone()),
            (Self::Datasets(own), Some(asked)) if own.iter().any(|name| name == asked) => Ok(vec![asked.to_owned()]),
            (Self::Datasets(_), Some(_)) => {
                Err(GatewayError::new(Code::NotAllowed, "the dataset is none of this token's owner")
                    .with_hint("leave `dataset` out for a report over all of the owner's datasets"))
            }
        }
    }

    /// The consumer that a report is over, if it is over one, where `asked` was asked for.
    pub(super) fn consumer(&self, asked: Option<&str>) -> Result<Option<String>, GatewayError> {
        match (self, asked) {
            (Self::All | Self::Datasets(_), asked) => Ok(asked.map(str::to_owned)),
            (Self::Consumer(own), Some(asked)) if asked != own => {
                Err(GatewayError::new(Code::NotAllowed, "an analyst's token reports on its own consumer alone")
                    .with_hint("leave `consumer` out, or use a budget administrator's token"))
            }
            (Self::Consumer(own), _) => Ok(Some(own.clone())),
        }
    }
}

impl<'a> Reporter<'a> {
    /// The policy of a dataset as it is now, that of a withdrawn one too.
    pub(super) fn policy(&self, dataset: &str) -> Option<&Arc<DatasetPolicy>> {
        let name: DatasetName = dataset.parse().ok()?;
        match self.catalog.entry(&name)? {
            Entry::Private(policy, _) => Some(policy),
            Entry::Public(..) | Entry::Collection(_) => None,
        }
    }

    /// The policies of the datasets of a unit domain, withdrawn ones too.
    pub(super) fn policies_in(&self, domain: &str) -> impl Iterator<Item = &'a Arc<DatasetPolicy>> {
        self.catalog
            .entries()
            .filter_map(|(_, entry)| match entry {
                Entry::Private(policy, _) => Some(policy),
                Entry::Public(..) | Entry::Collection(_) => None,
            })
            .filter(move |policy| policy.privacy.unit_domain == domain)
    }

    /// Whom an ε of this dataset protects, in the words of its answers.
    pub(super) fn promised(&self, dataset: &str) -> Option<String> {
        self.policy(dataset).map(|policy| guarantee([policy].into_iter()))
    }

    /// Whom an ε of a unit domain protects: what is promised of each of its datasets.
    pub(super) fn promised_in(&self, domain: &str) -> Option<String> {
        Some(guarantee(self.policies_in(domain))).filter(|promised| !promised.is_empty())
    }
}
