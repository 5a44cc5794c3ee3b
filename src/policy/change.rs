//! What a new version of a policy means: each thing that it says otherwise, and whether that loosens or tightens.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use super::column::{Bounds, ColumnPolicy, PublicGroups, Uses};
use super::epoch::Epochs;
use super::model::{Approval, Budget, Cap, Collection, Consumers, DatasetPolicy, PolicyFile, Privacy, PublicTable};
use super::price::Price;
use super::source::key_path;
use crate::accounting::Accounting;

/// Which way a change goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// More may be learnt, by more people, or at less protection.
    Loosens,
    /// Some of both, or what only a person can judge: to be read as if it loosened.
    Either,
    /// Less may be learnt.
    Tightens,
    /// Nothing that may be learnt depends on it.
    Neutral,
}

impl Effect {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Loosens => "loosens",
            Self::Either => "either",
            Self::Tightens => "tightens",
            Self::Neutral => "neutral",
        }
    }

    /// Of a number: `Loosens` when it grows.
    fn of_growth<T: Ord>(old: &T, new: &T) -> Self {
        if new > old { Self::Loosens } else { Self::Tightens }
    }

    /// Of a set: `Loosens` when all that was in it still is.
    fn of_sets<T: Ord>(old: &BTreeSet<T>, new: &BTreeSet<T>) -> Self {
        match (new.is_superset(old), new.is_subset(old)) {
            (true, false) => Self::Loosens,
            (false, true) => Self::Tightens,
            (false, false) => Self::Either,
            (true, true) => Self::Neutral,
        }
    }

    const fn loosens_if(loosens: bool) -> Self {
        if loosens { Self::Loosens } else { Self::Tightens }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing that a new version of a policy says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The key, such as `budget.per_consumer.epsilon`.
    pub key: String,
    /// Which way it goes.
    pub effect: Effect,
    /// What it said, as a policy writes it; `none` where it said nothing.
    pub was: String,
    /// What it says.
    pub becomes: String,
    /// What that means, in words.
    pub meaning: &'static str,
}

impl fmt::Display for Change {
    /// `loosens: budget.max_query.epsilon: 1 becomes 2: one query may cost more or less`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {} becomes {}: {}", self.effect, self.key, self.was, self.becomes, self.meaning)
    }
}

/// All that `new` says otherwise than `old`, what loosens first. Empty when they say the same.
#[must_use]
pub fn changes(old: &PolicyFile, new: &PolicyFile) -> Vec<Change> {
    let mut changes = Changes(Vec::new());
    match (old, new) {
        (PolicyFile::Private(old), PolicyFile::Private(new)) => of_dataset(&mut changes, old, new),
        (PolicyFile::Public(old), PolicyFile::Public(new)) => of_public(&mut changes, old, new),
        (PolicyFile::Collection(old), PolicyFile::Collection(new)) => of_collection(&mut changes, old, new),
        _ => {
            let effect = match (old, new) {
                (_, PolicyFile::Public(_)) => Effect::Loosens,
                (PolicyFile::Public(_), _) => Effect::Tightens,
                _ => Effect::Either,
            };
            changes.add("dataset.kind", effect, kind(old), kind(new), "what it is, and with it who may read rows");
        }
    }
    let Changes(mut found) = changes;
    // Stable: within one effect, the order of the keys in a policy.
    found.sort_by_key(|change| change.effect);
    found
}

const fn kind(file: &PolicyFile) -> &'static str {
    match file {
        PolicyFile::Private(_) => "private",
        PolicyFile::Public(_) => "public",
        PolicyFile::Collection(_) => "collection",
    }
}

struct Changes(Vec<Change>);

impl Changes {
    fn add(
        &mut self,
        key: impl Into<String>,
        effect: Effect,
        was: impl ToString,
        becomes: impl ToString,
        meaning: &'static str,
    ) {
        let (was, becomes) = (was.to_string(), becomes.to_string());
        self.0.push(Change { key: key.into(), effect, was, becomes, meaning });
    }

    /// A value whose change has `effect`.
    fn value<T: PartialEq + ToString>(
        &mut self,
        key: impl Into<String>,
        (old, new): (&T, &T),
        effect: impl FnOnce(&T, &T) -> Effect,
        meaning: &'static str,
    ) {
        if old != new {
            self.add(key, effect(old, new), old.to_string(), new.to_string(), meaning);
        }
    }

    /// A value that may be absent. `loosens_when_absent` says that nothing said is the looser of the two.
    fn optional<T: PartialEq + ToString>(
        &mut self,
        key: impl Into<String>,
        (old, new): (Option<&T>, Option<&T>),
        loosens_when_absent: bool,
        effect: impl FnOnce(&T, &T) -> Effect,
        meaning: &'static str,
    ) {
        let effect = match (old, new) {
            (None, None) => return,
            (Some(old), Some(new)) if old == new => return,
            (Some(old), Some(new)) => effect(old, new),
            (Some(_), None) => Effect::loosens_if(loosens_when_absent),
            (None, Some(_)) => Effect::loosens_if(!loosens_when_absent),
        };
        let text = |value: Option<&T>| value.map_or_else(|| "none".to_owned(), ToString::to_string);
        self.add(key, effect, text(old), text(new), meaning);
    }
}

const LOCATION: &str = "it is over other data, under the same accounts";
const DESCRIPTION: &str = "what analysts are told of it";

fn of_public(changes: &mut Changes, old: &PublicTable, new: &PublicTable) {
    let PublicTable { name: _, version: _, source: _, location, description } = old;
    changes.value("dataset.location", (location, &new.location), |_, _| Effect::Either, "everyone may read other data");
    changes.value("dataset.description", (description, &new.description), |_, _| Effect::Neutral, DESCRIPTION);
}

fn of_collection(changes: &mut Changes, old: &Collection, new: &Collection) {
    let Collection { name: _, version: _, source: _, members, description } = old;
    if *members != new.members {
        let list = |members: &[super::DatasetName]| listed(members.iter());
        let (was, becomes) = (list(members), list(&new.members));
        changes.add("collection.members", Effect::Either, was, becomes, "which datasets it brings together");
    }
    changes.value("collection.description", (description, &new.description), |_, _| Effect::Neutral, DESCRIPTION);
}

// Every key is named below, so that a new one cannot be passed over: a loosening that is not shown is worse than none
// shown at all.

fn of_dataset(changes: &mut Changes, old: &DatasetPolicy, new: &DatasetPolicy) {
    let DatasetPolicy {
        name: _,
        version: _,
        source: _,
        location,
        description,
        purposes,
        valid_until,
        consumers,
        approval,
        privacy,
        budget,
        columns,
    } = old;
    changes.value("dataset.location", (location, &new.location), |_, _| Effect::Either, LOCATION);
    changes.value("dataset.description", (description, &new.description), |_, _| Effect::Neutral, DESCRIPTION);
    if *purposes != new.purposes {
        // An empty list is every purpose.
        let effect = match (purposes.is_empty(), new.purposes.is_empty()) {
            (false, true) => Effect::Loosens,
            (true, false) => Effect::Tightens,
            _ => Effect::of_sets(purposes, &new.purposes),
        };
        let list = |purposes: &BTreeSet<String>| if purposes.is_empty() { "any".to_owned() } else { listed(purposes) };
        changes.add("dataset.purposes", effect, list(purposes), list(&new.purposes), "for what it is answered");
    }
    changes.optional(
        "dataset.valid_until",
        (valid_until.as_ref(), new.valid_until.as_ref()),
        true,
        Effect::of_growth,
        "until when it is answered",
    );
    if *consumers != new.consumers {
        let effect = match (consumers, &new.consumers) {
            (Consumers::Listed(old), Consumers::Listed(new)) => Effect::of_sets(old, new),
            (_, new) => Effect::loosens_if(*new == Consumers::Any),
        };
        let list = |consumers: &Consumers| match consumers {
            Consumers::Any => "everyone".to_owned(),
            Consumers::Listed(names) => listed(names),
        };
        changes.add("dataset.consumers", effect, list(consumers), list(&new.consumers), "who may ask");
    }
    if *approval != new.approval {
        let effect = Effect::loosens_if(new.approval == Approval::Auto);
        let (was, becomes) = (approval.as_str(), new.approval.as_str());
        changes.add("dataset.approval", effect, was, becomes, "whether queries of a new shape wait for the steward");
    }
    of_privacy(changes, privacy, &new.privacy);
    of_budget(changes, budget, &new.budget);
    let names: BTreeSet<&String> = columns.keys().chain(new.columns.keys()).collect();
    for name in names {
        of_column(changes, &key_path("columns", name), old.column(name), new.column(name));
    }
}

fn of_privacy(changes: &mut Changes, old: &Privacy, new: &Privacy) {
    const BOUNDS: &str =
        "how much of one unit counts; the noise follows it, so that the promise at one epsilon is the same";
    let Privacy {
        unit,
        unit_domain,
        min_group_size,
        max_groups_per_unit,
        max_rows_per_unit_per_group,
        max_rows_per_unit,
        accounting,
        sorted_by_unit,
        epochs,
    } = old;
    let begins = |epochs: &Option<Epochs>| epochs.as_ref().map(|epochs| epochs.from);
    changes.optional(
        "privacy.epoch_from",
        (begins(epochs).as_ref(), begins(&new.epochs).as_ref()),
        false,
        |_, _| Effect::Either,
        "from when on rows are read; each epoch that begins has a budget of its own",
    );
    changes.value("privacy.unit", (unit, &new.unit), |_, _| Effect::Either, "whom the promise protects");
    changes.value(
        "privacy.unit_domain",
        (unit_domain, &new.unit_domain),
        |_, _| Effect::Either,
        "with what it may be joined, and over what one unit is protected",
    );
    changes.value(
        "privacy.min_group_size",
        (min_group_size, &new.min_group_size),
        |old, new| Effect::of_growth(new, old),
        "how many units a group that is shown has at least",
    );
    changes.value(
        "privacy.max_groups_per_unit",
        (max_groups_per_unit, &new.max_groups_per_unit),
        Effect::of_growth,
        BOUNDS,
    );
    changes.value(
        "privacy.max_rows_per_unit_per_group",
        (max_rows_per_unit_per_group, &new.max_rows_per_unit_per_group),
        Effect::of_growth,
        BOUNDS,
    );
    changes.optional(
        "privacy.max_rows_per_unit",
        (max_rows_per_unit.as_ref(), new.max_rows_per_unit.as_ref()),
        true,
        Effect::of_growth,
        BOUNDS,
    );
    changes.value(
        "privacy.accounting",
        (accounting, &new.accounting),
        |_, new| Effect::loosens_if(*new == Accounting::Zcdp),
        "which promise the accounts add up",
    );
    changes.value(
        "privacy.sorted_by_unit",
        (sorted_by_unit, &new.sorted_by_unit),
        |_, _| Effect::Neutral,
        "how fast it may be read; the order is verified, so that the answers are the same",
    );
}

fn of_budget(changes: &mut Changes, old: &Budget, new: &Budget) {
    let Budget {
        per_consumer,
        per_agency,
        all_consumers,
        per_consumer_in_domain,
        default_query,
        query_delta,
        max_query,
        auto_grant,
        price_per_epsilon,
    } = old;
    of_cap(changes, "per_consumer", per_consumer, &new.per_consumer, "what one consumer may learn");
    // Where a policy does not say what an agency may learn, the change is that of `all_consumers`.
    if (per_agency, &new.per_agency) != (all_consumers, &new.all_consumers) {
        of_cap(changes, "per_agency", per_agency, &new.per_agency, "what one agency may learn");
    }
    of_cap(changes, "all_consumers", all_consumers, &new.all_consumers, "what all consumers together may learn");
    match (per_consumer_in_domain, &new.per_consumer_in_domain) {
        (Some(old), Some(new)) => of_cap(changes, "per_consumer_in_domain", old, new, IN_DOMAIN),
        (old, new) if old == new => {}
        (old, new) => {
            let show = |cap: &Option<Cap>| cap.map_or_else(|| "none".to_owned(), shown);
            let effect = Effect::loosens_if(new.is_none());
            changes.add("budget.per_consumer_in_domain", effect, show(old), show(new), IN_DOMAIN);
        }
    }
    changes.value(
        "budget.default_query.epsilon",
        (default_query, &new.default_query),
        |_, _| Effect::Neutral,
        "the price of a query that names none",
    );
    changes.value(
        "budget.max_query.epsilon",
        (max_query, &new.max_query),
        Effect::of_growth,
        "how much one query may cost, and so how exact it may be",
    );
    changes.value(
        "budget.query_delta",
        (query_delta, &new.query_delta),
        Effect::of_growth,
        "the delta at which a query's epsilon is stated: a larger one buys more for the same epsilon",
    );
    changes.value(
        "budget.auto_grant",
        (auto_grant, &new.auto_grant),
        |_, new| Effect::loosens_if(*new),
        "whether a consumer has its cap without an administrator's grant",
    );
    if *price_per_epsilon != new.price_per_epsilon {
        let show = |price: &Option<Price>| price.map_or_else(|| "none".to_owned(), |price| price.to_string());
        let (was, becomes) = (show(price_per_epsilon), show(&new.price_per_epsilon));
        let meaning = "what an agency owes for what it spends";
        changes.add("budget.price_per_epsilon", Effect::Neutral, was, becomes, meaning);
    }
}

const IN_DOMAIN: &str = "what one consumer may learn of one unit over all datasets of the unit domain";

fn of_cap(changes: &mut Changes, name: &str, old: &Cap, new: &Cap, meaning: &'static str) {
    let Cap { epsilon, delta, per } = old;
    changes.value(format!("budget.{name}.epsilon"), (epsilon, &new.epsilon), Effect::of_growth, meaning);
    changes.value(format!("budget.{name}.delta"), (delta, &new.delta), Effect::of_growth, meaning);
    // A shorter period begins anew more often.
    changes.value(format!("budget.{name}.per"), (per, &new.per), |old, new| Effect::of_growth(new, old), meaning);
}

fn shown(cap: Cap) -> String {
    format!("{{ epsilon = {}, delta = {}, per = \"{}\" }}", cap.epsilon, cap.delta, cap.per)
}

fn of_column(changes: &mut Changes, key: &str, old: &ColumnPolicy, new: &ColumnPolicy) {
    let ColumnPolicy { uses, bounds, public_groups, per_unit_constant, unit_key } = old;
    if *uses != new.uses {
        let set = |uses: &Uses| uses.iter().collect::<BTreeSet<_>>();
        let effect = Effect::of_sets(&set(uses), &set(&new.uses));
        let list = |uses: &Uses| if uses.is_none() { "deny".to_owned() } else { listed(uses.iter()) };
        changes.add(format!("{key}.access"), effect, list(uses), list(&new.uses), "what the column may be used for");
    }
    if *bounds != new.bounds {
        let effect = match (bounds, &new.bounds) {
            (Some(old), Some(new)) => of_bounds(old, new),
            (_, new) => Effect::loosens_if(new.is_some()),
        };
        let show = |bounds: &Option<Bounds>| {
            bounds.map_or_else(|| "none".to_owned(), |bounds| format!("[{}, {}]", bounds.lo(), bounds.hi()))
        };
        changes.add(
            format!("{key}.bounds"),
            effect,
            show(bounds),
            show(&new.bounds),
            "which values count as they are; the noise follows them, so that the promise at one epsilon is the same",
        );
    }
    if *public_groups != new.public_groups {
        let keys = |groups: &Option<PublicGroups>| groups.as_ref().map(|groups| groups.keys().collect::<BTreeSet<_>>());
        let effect = match (keys(public_groups), keys(&new.public_groups)) {
            (Some(old), Some(new)) => Effect::of_sets(&old, &new),
            (_, new) => Effect::loosens_if(new.is_some()),
        };
        let show = |groups: &Option<PublicGroups>| {
            groups.as_ref().map_or_else(|| "none".to_owned(), |groups| format!("{} keys", groups.key_count()))
        };
        changes.add(
            format!("{key}.public_groups"),
            effect,
            show(public_groups),
            show(&new.public_groups),
            "which keys count as known to everyone, and need no selection",
        );
    }
    changes.value(
        format!("{key}.per_unit_constant"),
        (per_unit_constant, &new.per_unit_constant),
        |_, _| Effect::Neutral,
        "with how little noise groups of it are counted; it is enforced, so that the promise is the same",
    );
    changes.optional(
        format!("{key}.unit_key"),
        (unit_key.as_ref(), new.unit_key.as_ref()),
        false,
        |_, _| Effect::Either,
        "with what it may be joined without naming the unit",
    );
}

/// Wider bounds loosen, narrower ones tighten, and shifted ones are both.
fn of_bounds(old: &Bounds, new: &Bounds) -> Effect {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let lower = new.lo().to_f64().total_cmp(&old.lo().to_f64());
    let upper = new.hi().to_f64().total_cmp(&old.hi().to_f64());
    match (lower, upper) {
        (Less | Equal, Greater | Equal) if (lower, upper) != (Equal, Equal) => Effect::Loosens,
        (Greater | Equal, Less | Equal) if (lower, upper) != (Equal, Equal) => Effect::Tightens,
        _ => Effect::Either,
    }
}

fn listed(items: impl IntoIterator<Item = impl fmt::Display>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}
