//! Consumers and their tokens, in a budget administrator's hands.

use crate::ledger::{self, Role};

use super::{Caller, Code, ConsumerRow, Gateway, GatewayError, NewToken, translate};

impl Gateway {
    /// All consumers.
    ///
    /// # Errors
    /// `not_allowed` for callers who do not administer budgets.
    pub async fn consumers(&self, caller: &Caller) -> Result<Vec<ConsumerRow>, GatewayError> {
        caller.administrator()?;
        let consumers = self.store.consumers().await.map_err(translate::ledger)?;
        Ok(consumers.into_iter().map(ConsumerRow::from).collect())
    }

    /// Adds a consumer.
    ///
    /// # Errors
    /// `not_allowed`, `conflict` when the name is taken, or `request_invalid` when it is no name.
    pub async fn add_consumer(&self, caller: &Caller, name: &str, agency: Option<&str>) -> Result<(), GatewayError> {
        caller.administrator()?;
        self.evidence.check()?;
        self.store.add_consumer(name, agency, &caller.actor()).await.map_err(translate::ledger)
    }

    /// Freezes a consumer, so that it can neither pay nor be answered from the next query on, or thaws it.
    ///
    /// # Errors
    /// `not_allowed`, or `not_found`.
    pub async fn set_frozen(&self, caller: &Caller, name: &str, frozen: bool) -> Result<(), GatewayError> {
        caller.administrator()?;
        self.evidence.check()?;
        self.store.set_frozen(name, frozen, &caller.actor()).await.map_err(translate::ledger)
    }

    /// Makes an analyst's token for a consumer. Other roles' tokens are the operator's to make.
    ///
    /// # Errors
    /// `not_allowed`, or `not_found`.
    pub async fn create_analyst_token(&self, caller: &Caller, consumer: &str) -> Result<NewToken, GatewayError> {
        caller.administrator()?;
        self.evidence.check()?;
        let new = ledger::NewToken { role: Role::Analyst, consumer: Some(consumer.to_owned()), owner: None };
        let (id, secret) = self.store.create_token(&new, &caller.actor()).await.map_err(translate::ledger)?;
        Ok(NewToken { id: id.to_string(), secret: secret.expose().to_owned() })
    }

    /// Revokes a token of a consumer, from the next request on. Other roles' tokens are the operator's to revoke: who
    /// administers budgets must not be able to shut out a steward or an auditor.
    ///
    /// # Errors
    /// `not_allowed`, or `not_found`.
    pub async fn revoke_token(&self, caller: &Caller, id: &str) -> Result<(), GatewayError> {
        caller.administrator()?;
        self.evidence.check()?;
        let unknown = || {
            GatewayError::new(Code::NotFound, "a token's identifier is the one printed when it was made")
                .with_hint("it is a UUID, and not the secret")
        };
        let id = id.parse().map_err(|_| unknown())?;
        let token = self.store.token(id).await.map_err(translate::ledger)?.ok_or_else(unknown)?;
        if token.role != Role::Analyst && caller.role() != Role::Operator {
            let what = format!("a token of role {} is the operator's to revoke", token.role);
            return Err(
                GatewayError::new(Code::NotAllowed, what).with_hint("`tollgate token revoke ID`, on the storage")
            );
        }
        self.store.revoke_token(id, &caller.actor()).await.map_err(translate::ledger)
    }
}
