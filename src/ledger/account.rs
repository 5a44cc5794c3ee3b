//! Accounts: whose budget a charge is taken from.

use std::fmt;

use serde::Serialize;

/// Who an account counts for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Scope {
    /// One consumer: what it alone has learnt.
    Consumer(String),
    /// All consumers of one agency together.
    Agency(String),
    /// All consumers together: what anyone has learnt.
    AllConsumers,
    /// One consumer, over all datasets of a unit domain: what it has learnt about one unit, in however many companies' data
    /// that is. The account's `dataset` is the domain.
    Domain(String),
}

impl Scope {
    /// The scope's kind, as it is stored and shown.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Consumer(_) => "consumer",
            Self::Agency(_) => "agency",
            Self::AllConsumers => "all_consumers",
            Self::Domain(_) => "domain",
        }
    }

    /// The one whom the scope names; empty where it names nobody.
    #[must_use]
    pub fn subject(&self) -> &str {
        match self {
            Self::Consumer(name) | Self::Agency(name) | Self::Domain(name) => name,
            Self::AllConsumers => "",
        }
    }
}

/// One account: a scope's budget on one dataset in one window of time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Account {
    /// Who it counts for.
    pub scope: Scope,
    /// The dataset, as SQL names it (`owner.name`); of a [`Scope::Domain`] account, the unit domain.
    pub dataset: String,
    /// The window that the budget is for: `lifetime`, or one month, quarter or year (`2026-11`). A new window is a new
    /// account, so the old one is never lost.
    pub window: String,
    /// Of a dataset that is accounted by epochs: whose rows it is for (`2013-01`). New data is a new epoch, and so a new
    /// account.
    pub epoch: Option<String>,
}

impl Account {
    /// The name under which storage knows the account. Two accounts never share one: a `/` or `%` within a part is
    /// escaped. Stable for ever, since accounts outlive renaming and upgrades.
    #[must_use]
    pub fn storage_key(&self) -> String {
        let mut key = String::with_capacity(48);
        key.push_str(self.scope.kind());
        // An epoch is a part more, so that an account without one never has the key of one with.
        let epoch = self.epoch.as_deref();
        for part in [self.scope.subject(), &self.dataset, &self.window].into_iter().chain(epoch) {
            key.push('/');
            for c in part.chars() {
                match c {
                    '%' => key.push_str("%25"),
                    '/' => key.push_str("%2F"),
                    other => key.push(other),
                }
            }
        }
        key
    }
}

impl fmt::Display for Account {
    /// The short path that an analyst sees: `consumer/united.flights`. The consumer's name is left out, since it is its
    /// own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.scope.kind(), self.dataset)?;
        self.epoch.as_ref().map_or(Ok(()), |epoch| write!(f, "/{epoch}"))
    }
}

impl Serialize for Account {
    /// The short path, as [`Display`](fmt::Display).
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
