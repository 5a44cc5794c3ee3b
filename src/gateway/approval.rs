//! Datasets whose steward says yes to each new shape of query before it is answered (`approval = "manual"`).

use chrono::Duration;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::analysis::Analysed;
use crate::ledger::{ApprovalAsked, RequestState};
use crate::policy::Approval;

use super::charge::{Payer, accounts, lines, summed};
use super::facts::Facts;
use super::price::Priced;
use super::{Code, Gateway, GatewayError, Question, translate};

/// How long a query waits for its steward, with its price reserved on the asker's own accounts. A yes holds until it is
/// taken back, for that purpose and up to that price; an answer in time posts the reservation.
const PATIENCE: Duration = Duration::days(3);

impl Gateway {
    /// That every steward who wants to see queries of a new shape has said yes to this one. Returns the reservation that
    /// was made for it, which its charge ends.
    ///
    /// A query that was not seen before is put before them, with its dry run, and its price is reserved.
    pub(super) async fn approved(
        &self,
        question: &Question,
        query_id: Uuid,
        priced: &Priced,
        analysed: &Analysed,
        payer: Payer<'_>,
    ) -> Result<Option<Uuid>, GatewayError> {
        let manual = analysed.datasets().values().filter(|policy| policy.approval == Approval::Manual);
        let datasets: Vec<String> = manual.map(|policy| policy.name.to_string()).collect();
        if datasets.is_empty() {
            return Ok(None);
        }
        let mut accounts_of_all = Vec::new();
        for (release, priced) in analysed.releases().iter().zip(&priced.releases) {
            accounts_of_all.extend(accounts(self.store.as_ref(), release, priced.cost(), payer).await?);
        }
        let facts = Facts { analysed, noise: &priced.releases, priced };
        let dry_run = serde_json::json!({
            "query_id": query_id,
            "accuracy": facts.accuracy(),
            "groups": facts.groups(),
            "privacy": facts.privacy(false, summed(lines(&accounts_of_all, |_| true))),
        });
        let asked = ApprovalAsked {
            consumer: payer.consumer.to_owned(),
            datasets,
            shape: shape(analysed, question.purpose.as_deref()),
            sql: question.sql.clone(),
            purpose: question.purpose.clone(),
            dry_run: dry_run.to_string(),
            made: payer.now,
            expires: payer.now + PATIENCE,
            lines: accounts_of_all,
            precision: priced.releases.iter().fold(0, |sum, release| sum.saturating_add(release.precision())),
        };
        let actor = crate::ledger::Actor::consumer(payer.consumer);
        let standing = self.store.ask_approval(&asked, &actor).await.map_err(translate::ledger)?;
        if let Some(denied) = standing.iter().find(|approval| approval.state == RequestState::Denied) {
            let why = denied.answer.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
            return Err(GatewayError::new(
                Code::NotAllowed,
                format!("the steward of {} has said no to this query{why}", denied.dataset),
            )
            .with_hint("ask the steward, or ask for something else; nothing was charged"));
        }
        let open: Vec<&str> = standing
            .iter()
            .filter(|approval| approval.state == RequestState::Open)
            .map(|approval| approval.dataset.as_str())
            .collect();
        if let Some(id) = standing.first().filter(|_| !open.is_empty()).map(|approval| approval.id) {
            return Err(GatewayError::new(
                Code::ApprovalPending,
                format!(
                    "the query is of a new shape, and waits for the steward of {} (approval {id})",
                    open.join(", ")
                ),
            )
            .with_hint("send the same query again once it is approved; its price is reserved for three days"));
        }
        Ok(standing.first().map(|approval| approval.id))
    }
}

/// What is asked and for what, whatever the versions of data and policies.
fn shape(analysed: &Analysed, purpose: Option<&str>) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix(b"tollgate shape 1");
    hash.update(purpose.unwrap_or_default());
    hash.update([0]);
    for release in analysed.releases() {
        for line in release.canonical.lines().filter(|line| !line.starts_with("table ")) {
            hash.update(line.as_bytes());
            hash.update([b'\n']);
        }
    }
    hash.finalize().into()
}
