//! What the log says of consumers, tokens and grants, told again from the first entry, and held against the tables.

use std::collections::HashMap;

use serde_json::Value as Json;

use super::super::LedgerError;
use super::database::{Reader, Statement};

const DOING: &str = "checking the ledger";

/// Consumers, tokens and grants as the log leaves them.
#[derive(Default)]
pub(super) struct Replay {
    /// When the log begins, in microseconds: what is older is not in it.
    begins: Option<i64>,
    /// By name: agency, frozen.
    consumers: HashMap<String, (Option<String>, bool)>,
    /// By identifier: role, consumer, owner, revoked.
    tokens: HashMap<String, (String, Option<String>, Option<String>, bool)>,
    /// By consumer and dataset: ε steps, δ steps, period.
    grants: HashMap<(String, String), (i64, i64, String)>,
}

impl Replay {
    /// Takes in an entry that was appended at `at_us`.
    pub(super) fn hear(&mut self, entry: &Json, at_us: i64) {
        self.begins.get_or_insert(at_us);
        let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        let maybe = |key: &str| entry[key].as_str().map(str::to_owned);
        match entry["kind"].as_str() {
            Some("consumer") => match entry["change"].as_str() {
                Some("added") => {
                    self.consumers.insert(text("consumer"), (maybe("agency"), false));
                }
                change => {
                    if let Some((_, frozen)) = self.consumers.get_mut(&text("consumer")) {
                        *frozen = change == Some("frozen");
                    }
                }
            },
            Some("token") => match entry["change"].as_str() {
                Some("created") => {
                    self.tokens.insert(text("token"), (text("role"), maybe("consumer"), maybe("owner"), false));
                }
                _ => {
                    if let Some((.., revoked)) = self.tokens.get_mut(&text("token")) {
                        *revoked = true;
                    }
                }
            },
            Some("grant") => {
                let steps = |key: &str| entry[key].as_i64().unwrap_or_default();
                let grant = (steps("epsilon_steps"), steps("delta_steps"), text("per"));
                self.grants.insert((text("consumer"), text("dataset")), grant);
            }
            _ => {}
        }
    }

    /// Holds the tables against it. What was made before the log began is not in it, and passes.
    pub(super) async fn compare(mut self, reader: &mut Reader, findings: &mut Vec<String>) -> Result<(), LedgerError> {
        let begins = self.begins.unwrap_or(i64::MAX);
        let consumers = Statement::new("SELECT name, agency, frozen, created_us FROM consumers");
        for row in consumers.fetch_all(reader.on(), DOING).await? {
            let name = row.text(0)?;
            let agrees = match self.consumers.remove(&name) {
                Some(told) => told == (row.maybe_text(1)?, row.int(2)? != 0),
                None => row.int(3)? < begins,
            };
            if !agrees {
                findings.push(format!("consumer {name} is not what the log says of it"));
            }
        }
        let tokens = Statement::new("SELECT id, role, consumer, owner, revoked_us, created_us FROM tokens");
        for row in tokens.fetch_all(reader.on(), DOING).await? {
            let id = row.text(0)?;
            let found = (row.text(1)?, row.maybe_text(2)?, row.maybe_text(3)?, row.maybe_int(4)?.is_some());
            let agrees = match self.tokens.remove(&id) {
                Some(told) => told == found,
                None => row.int(5)? < begins,
            };
            if !agrees {
                findings.push(format!("token {id} is not what the log says of it"));
            }
        }
        let grants = Statement::new("SELECT consumer, dataset, epsilon_steps, delta_steps, per, set_us FROM grants");
        for row in grants.fetch_all(reader.on(), DOING).await? {
            let key = (row.text(0)?, row.text(1)?);
            let agrees = match self.grants.remove(&key) {
                Some(told) => told == (row.int(2)?, row.int(3)?, row.text(4)?),
                None => row.int(5)? < begins,
            };
            if !agrees {
                findings.push(format!("the grant of {} on {} is not what the log says of it", key.0, key.1));
            }
        }
        let gone = self.consumers.into_keys().map(|name| format!("consumer {name}"));
        // One that was revoked may be forgotten: its holder is refused as anybody is whose token is not known.
        let held = self.tokens.into_iter().filter(|(_, (.., revoked))| !revoked);
        let gone = gone.chain(held.map(|(id, _)| format!("token {id}")));
        let gone =
            gone.chain(self.grants.into_keys().map(|(name, dataset)| format!("the grant of {name} on {dataset}")));
        findings.extend(gone.map(|what| format!("{what} is in the log and not in the ledger")));
        Ok(())
    }
}
