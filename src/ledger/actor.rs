//! Who changes the ledger, as the log names them.

use std::fmt;

use serde::Serialize;
use uuid::Uuid;

use super::Role;

/// Who does something: a role, and the token that proved it or the consumer that it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    role: Role,
    name: Option<String>,
}

impl Actor {
    /// The operator, at the command line of the machine that holds the storage.
    #[must_use]
    pub const fn command_line() -> Self {
        Self { role: Role::Operator, name: None }
    }

    /// A gateway by itself, as the operator's configuration tells it to.
    #[must_use]
    pub fn settings() -> Self {
        Self { role: Role::Operator, name: Some("settings".to_owned()) }
    }

    /// The bearer of a token.
    #[must_use]
    pub fn token(role: Role, token: Uuid) -> Self {
        Self { role, name: Some(token.to_string()) }
    }

    /// An analyst who asks for this consumer.
    #[must_use]
    pub fn consumer(consumer: &str) -> Self {
        Self { role: Role::Analyst, name: Some(consumer.to_owned()) }
    }
}

impl fmt::Display for Actor {
    /// `operator`, `operator/settings`, `budget-admin/TOKEN` or `analyst/CONSUMER`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.role)?;
        self.name.as_ref().map_or(Ok(()), |name| write!(f, "/{name}"))
    }
}

impl Serialize for Actor {
    /// As [`Display`](fmt::Display).
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
