//! May this caller ask of these datasets now, for this purpose? Decided on every question, kept answers included.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use crate::catalog::{Catalog, Entry, Status};
use crate::policy::{DatasetName, DatasetPolicy};

use super::{Caller, Code, GatewayError};

/// The datasets that a question names, each of which the caller may ask of.
#[derive(Debug)]
pub(super) struct Authorised {
    names: BTreeSet<DatasetName>,
}

impl Authorised {
    pub(super) const fn names(&self) -> &BTreeSet<DatasetName> {
        &self.names
    }
}

/// Checks every dataset that `names` stands for, the members of collections included.
pub(super) fn authorise(
    catalog: &Catalog,
    caller: &Caller,
    names: &[DatasetName],
    purpose: Option<&str>,
    now: DateTime<Utc>,
) -> Result<Authorised, GatewayError> {
    for name in names {
        if let Some((by, status)) = catalog.unserved(name) {
            let through = if by == name { String::new() } else { format!(", and {name} reads it") };
            let hint = match status {
                Status::Withdrawn => "leave it out; GET /v1/datasets lists what is answered",
                Status::Suspended { .. } | Status::Active => {
                    "ask its owner when it will be answered again, or leave it out"
                }
            };
            let detail = format!("{}{through}", unserved(by, status));
            return Err(GatewayError::new(Code::DatasetSuspended, detail).with_hint(hint));
        }
        match catalog.entry(name) {
            None => {
                return Err(GatewayError::new(Code::SqlInvalid, format!("there is no dataset {name}"))
                    .with_hint("GET /v1/datasets lists the datasets"));
            }
            Some(Entry::Public(..)) => {}
            Some(Entry::Private(policy, _)) => allowed(policy, caller, purpose, now)?,
            Some(Entry::Collection(collection)) => {
                for member in &collection.members {
                    if let Some(Entry::Private(policy, _)) = catalog.entry(member) {
                        allowed(policy, caller, purpose, now)?;
                    }
                }
            }
        }
    }
    Ok(Authorised { names: names.iter().cloned().collect() })
}

/// Why a dataset is not answered, in words.
pub(super) fn unserved(name: &DatasetName, status: &Status) -> String {
    match status {
        Status::Suspended { reason } if reason.trim().is_empty() => format!("{name} is suspended by its owner"),
        Status::Suspended { reason } => format!("{name} is suspended by its owner: {reason}"),
        Status::Withdrawn => format!("{name} was withdrawn by its owner"),
        Status::Active => format!("{name} is answered"),
    }
}

fn allowed(
    policy: &DatasetPolicy,
    caller: &Caller,
    purpose: Option<&str>,
    now: DateTime<Utc>,
) -> Result<(), GatewayError> {
    let name = &policy.name;
    if !policy.consumers.allows(caller.analyst()?, caller.agency.as_deref()) {
        return Err(GatewayError::new(Code::NotAllowed, format!("the owner of {name} does not answer this consumer"))
            .with_hint("ask the owner to add the consumer, or its agency, to `consumers` in the policy"));
    }
    if !policy.is_valid_on(now.date_naive()) {
        return Err(GatewayError::new(
            Code::DatasetSuspended,
            format!("the policy of {name} ended with its valid_until; no query is answered after it"),
        )
        .with_hint("ask the owner to renew the policy"));
    }
    if !policy.allows_purpose(purpose) {
        let purposes: Vec<&str> = policy.purposes.iter().map(String::as_str).collect();
        let detail = match purpose {
            None => format!("{name} is answered for stated purposes only, and the query states none"),
            Some(_) => format!("{name} is not answered for the purpose that the query states"),
        };
        return Err(GatewayError::new(Code::PurposeNotAllowed, detail)
            .with_hint(format!("state one of these as `purpose`: {}", purposes.join(", "))));
    }
    Ok(())
}
