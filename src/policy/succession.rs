//! What a new version of a policy may not change, because the accounts of the dataset are kept by it.
//!
//! An account is named by its dataset, its unit domain and the window of its period, and adds up one kind of loss. A policy
//! that changed one of these would find accounts with nothing spent in them, and the ledger would say less than was
//! released (docs/decisions/0009-live-policies.md).

use super::between::problem;
use super::epoch::Epochs;
use super::error::{Fault, PolicyErrors};
use super::model::{Budget, Cap, DatasetPolicy, PolicyFile, Privacy};

/// Checks that `new` may follow `old` under the same name.
///
/// # Errors
/// All that it changes and may not: what kind of thing it is; of a private dataset the unit, its domain, the accounting,
/// and the periods of caps that both have.
pub fn check_successor(old: &PolicyFile, new: &PolicyFile) -> Result<(), PolicyErrors> {
    let mut problems = Vec::new();
    let mut hold = |key: &str, was: &str, found: &str| {
        if was != found {
            let fault = Fault::Fixed { found: format!("{found:?}"), was: format!("{was:?}") };
            problems.push(problem(new, key, fault));
        }
    };
    match (old, new) {
        (PolicyFile::Private(old), PolicyFile::Private(new)) => hold_accounts(old, new, &mut hold),
        _ => hold("dataset.kind", kind(old), kind(new)),
    }
    if problems.is_empty() { Ok(()) } else { Err(PolicyErrors::new(problems)) }
}

const fn kind(file: &PolicyFile) -> &'static str {
    match file {
        PolicyFile::Private(_) => "private",
        PolicyFile::Public(_) => "public",
        PolicyFile::Collection(_) => "collection",
    }
}

fn hold_accounts(old: &DatasetPolicy, new: &DatasetPolicy, hold: &mut impl FnMut(&str, &str, &str)) {
    // Every key is named, so that a new one is not passed over here.
    let Privacy {
        unit,
        unit_domain,
        accounting,
        min_group_size: _,
        max_groups_per_unit: _,
        max_rows_per_unit_per_group: _,
        max_rows_per_unit: _,
        sorted_by_unit: _,
        epochs,
    } = &old.privacy;
    let cut = |epochs: &Option<Epochs>| {
        let cut = epochs.as_ref().map(|epochs| format!("{} of {}", epochs.kind.as_str(), epochs.column));
        cut.unwrap_or_else(|| "none".to_owned())
    };
    hold("privacy.epoch", &cut(epochs), &cut(&new.privacy.epochs));
    hold("privacy.unit", unit, &new.privacy.unit);
    hold("privacy.unit_domain", unit_domain, &new.privacy.unit_domain);
    hold("privacy.accounting", &accounting.to_string(), &new.privacy.accounting.to_string());
    let Budget {
        per_consumer,
        per_agency,
        all_consumers,
        per_consumer_in_domain,
        default_query: _,
        query_delta: _,
        max_query: _,
        auto_grant: _,
        price_per_epsilon: _,
    } = &old.budget;
    let mut period = |key: &str, old: Option<Cap>, new: Option<Cap>| {
        if let (Some(old), Some(new)) = (old, new) {
            hold(&format!("budget.{key}.per"), old.per.as_str(), new.per.as_str());
        }
    };
    period("per_consumer", Some(*per_consumer), Some(new.budget.per_consumer));
    period("per_agency", Some(*per_agency), Some(new.budget.per_agency));
    period("all_consumers", Some(*all_consumers), Some(new.budget.all_consumers));
    period("per_consumer_in_domain", *per_consumer_in_domain, new.budget.per_consumer_in_domain);
}
