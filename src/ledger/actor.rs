//! Who changes the ledger, as the log names them.

use std::fmt;

use serde::Serialize;
use uuid::Uuid;

use super::Role;

/// Who does something that is not a query: a role, and the token that proved it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    role: Role,
    token: Option<Uuid>,
}

impl Actor {
    /// The operator, at the command line of the machine that holds the storage.
    #[must_use]
    pub const fn command_line() -> Self {
        Self { role: Role::Operator, token: None }
    }

    /// The bearer of a token.
    #[must_use]
    pub const fn token(role: Role, token: Uuid) -> Self {
        Self { role, token: Some(token) }
    }
}

impl fmt::Display for Actor {
    /// `operator`, or `budget-admin/TOKEN`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.role)?;
        self.token.map_or(Ok(()), |token| write!(f, "/{token}"))
    }
}

impl Serialize for Actor {
    /// As [`Display`](fmt::Display).
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
