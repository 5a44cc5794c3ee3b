//! What a steward changes while the gateway runs holds from the next question on.

use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::runtime::Runtime;
use tollgate::gateway::administration::Administration;
use tollgate::gateway::{Answer, Caller, Code, Gateway, GatewayError, Question, Standing};
use tollgate::ledger::Role;

use crate::fixture::{CONSUMER, over, united_copied_to};

/// A gateway over `united.flights` and a collection of it.
struct Opened {
    dir: TempDir,
    runtime: Runtime,
    gateway: Arc<Gateway>,
    caller: Caller,
    steward: Caller,
}

impl Opened {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (policies, _) = united_copied_to(dir.path());
        let collection = "[collection]\nname = \"airlines.flights\"\nmembers = [\"united.flights\"]\n";
        std::fs::write(policies.join("airlines.flights.toml"), collection).expect("written");
        let config = over(&policies, dir.path());
        let runtime = Runtime::new().expect("a runtime");
        let (gateway, caller, steward) = runtime.block_on(async {
            let administration = Administration::open(&config).await.expect("the storage");
            administration.add_consumer(CONSUMER, None).await.expect("a consumer");
            let token = administration.create_token(Role::Analyst, Some(CONSUMER), None).await.expect("a token").secret;
            let steward =
                administration.create_token(Role::Steward, None, Some("united")).await.expect("a token").secret;
            let gateway = Gateway::open(&config).await.expect("a gateway");
            let caller = gateway.authenticate(&token).await.expect("a caller");
            let steward = gateway.authenticate(&steward).await.expect("a caller");
            (gateway, caller, steward)
        });
        Self { dir, runtime, gateway, caller, steward }
    }

    /// The steward of `united.flights` suspends, resumes or withdraws it.
    fn set(&self, standing: Standing) {
        let set = self.gateway.set_standing(&self.steward, "united.flights", standing, None);
        self.runtime.block_on(set).expect("its steward may");
    }

    fn ask(&self, sql: &str, dry_run: bool) -> Result<Answer, GatewayError> {
        let question =
            Question { sql: sql.to_owned(), purpose: Some("statistics".to_owned()), dry_run, ..Question::default() };
        self.runtime.block_on(self.gateway.ask(&self.caller, question))
    }
}

const COUNT: &str = "SELECT count(*) AS n FROM united.flights";
const OF_COLLECTION: &str = "SELECT count(*) AS n FROM airlines.flights";

#[test]
fn a_suspension_holds_from_the_next_question_on() {
    let opened = Opened::new();
    let first = opened.ask(COUNT, false).expect("an answer");
    opened.set(Standing::Suspend { reason: "the contract is being renewed".to_owned() });
    // A dry run and an answer that is held are refused too.
    for dry_run in [true, false] {
        let refused = opened.ask(COUNT, dry_run).expect_err("refused");
        assert_eq!(refused.code, Code::DatasetSuspended);
        assert_eq!(refused.detail, "united.flights is suspended by its owner: the contract is being renewed");
        let refused = opened.ask(OF_COLLECTION, dry_run).expect_err("refused");
        assert_eq!(refused.code, Code::DatasetSuspended);
        assert_eq!(
            refused.detail,
            "united.flights is suspended by its owner: the contract is being renewed, and airlines.flights reads it"
        );
    }
    let described = |name| opened.runtime.block_on(opened.gateway.dataset(&opened.caller, name)).expect("described");
    for name in ["united.flights", "airlines.flights"] {
        let told = described(name).suspended.expect("suspended");
        assert!(told.starts_with("united.flights is suspended by its owner"), "{told}");
    }
    opened.set(Standing::Resume);
    assert_eq!(described("united.flights").suspended, None);
    let again = opened.ask(COUNT, false).expect("an answer");
    // The same draw, not a new one.
    assert!(again.privacy.cached);
    assert_eq!(again.rows, first.rows);
}

#[test]
fn what_is_withdrawn_is_refused_and_no_longer_listed() {
    let opened = Opened::new();
    assert!(opened.ask(COUNT, false).is_ok());
    opened.set(Standing::Withdraw);
    let refused = opened.ask(COUNT, false).expect_err("refused");
    assert_eq!(refused.code, Code::DatasetSuspended);
    assert_eq!(refused.detail, "united.flights was withdrawn by its owner");
    assert_eq!(opened.ask(OF_COLLECTION, true).expect_err("refused").code, Code::DatasetSuspended);
    let listed = opened.runtime.block_on(opened.gateway.datasets(&opened.caller)).expect("a list");
    assert_eq!(listed.iter().map(|dataset| dataset.name.as_str()).collect::<Vec<_>>(), ["airlines.flights"]);
    let one = opened.runtime.block_on(opened.gateway.dataset(&opened.caller, "united.flights"));
    assert_eq!(one.expect_err("not there").code, Code::NotFound);
    assert!(Path::new(opened.dir.path()).join("UA.parquet").exists(), "nothing of the owner's is touched");
}

/// Two gateways share one PostgreSQL, its key and its anchor: what one charges the other knows, a suspension through one holds
/// at the other, and the checkpoint outside follows both.
#[test]
fn two_gateways_on_one_postgres_are_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let (policies, _) = united_copied_to(dir.path());
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mut config = over(&policies, dir.path());
        config.storage.url = crate::postgres::schema("two gateways").await;
        let administration = Administration::open(&config).await.expect("the storage");
        administration.add_consumer(CONSUMER, None).await.expect("a consumer");
        let token = administration.create_token(Role::Analyst, Some(CONSUMER), None).await.expect("a token").secret;
        let steward = administration.create_token(Role::Steward, None, Some("united")).await.expect("a token").secret;
        let (a, b) =
            (Gateway::open(&config).await.expect("a gateway"), Gateway::open(&config).await.expect("a gateway"));
        let ask = async |gateway: &Gateway, dry_run| {
            let caller = gateway.authenticate(&token).await.expect("a caller");
            let purpose = Some("statistics".to_owned());
            gateway.ask(&caller, Question { sql: COUNT.to_owned(), purpose, dry_run, ..Question::default() }).await
        };
        let first = ask(&a, false).await.expect("an answer");
        let second = ask(&b, false).await.expect("an answer");
        assert!(!first.privacy.cached && second.privacy.cached);
        assert_eq!(first.rows, second.rows);
        for _ in 0..3 {
            a.anchor().await.expect("anchored");
            ask(&b, false).await.expect("an answer");
            b.anchor().await.expect("anchored");
        }
        let speaks = a.authenticate(&steward).await.expect("a caller");
        let suspend = Standing::Suspend { reason: "renewal".to_owned() };
        a.set_standing(&speaks, "united.flights", suspend, None).await.expect("its steward may");
        assert_eq!(ask(&b, true).await.expect_err("refused").code, Code::DatasetSuspended);
        administration.check().await.expect("it agrees with itself and with what was signed");
    });
}

/// A storage that is replaced by an older copy of itself under a running gateway is found out: nothing is answered, and the
/// checkpoint that shows it is not written over.
#[test]
fn a_rollback_under_a_running_gateway_freezes_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let (policies, _) = united_copied_to(dir.path());
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mut config = over(&policies, dir.path());
        config.storage.url = crate::postgres::schema("rolled back").await;
        let administration = Administration::open(&config).await.expect("the storage");
        administration.add_consumer(CONSUMER, None).await.expect("a consumer");
        let token = administration.create_token(Role::Analyst, Some(CONSUMER), None).await.expect("a token").secret;
        let gateway = Gateway::open(&config).await.expect("a gateway");
        let caller = gateway.authenticate(&token).await.expect("a caller");
        let ask = async |sql: &str| {
            let purpose = Some("statistics".to_owned());
            gateway.ask(&caller, Question { sql: sql.to_owned(), purpose, ..Question::default() }).await
        };
        ask(COUNT).await.expect("an answer");
        gateway.anchor().await.expect("anchored");
        let signed = std::fs::read_to_string(&config.audit.anchor).expect("the anchor");
        // The end of the log is cut off, as a copy that lags behind would have it.
        crate::postgres::execute(
            &config.storage.url,
            "ALTER TABLE state DISABLE TRIGGER ALL; UPDATE state SET log_size = 1, log_edge = \
             (SELECT leaf_hash FROM log_entries WHERE idx = 0)",
        )
        .await;
        assert_eq!(gateway.anchor().await.expect_err("refused").code, Code::LedgerFrozen);
        let refused = ask("SELECT count(*) AS n FROM united.flights WHERE month = 1").await.expect_err("refused");
        assert_eq!(refused.code, Code::LedgerFrozen);
        assert_eq!(std::fs::read_to_string(&config.audit.anchor).expect("the anchor"), signed);
    });
}
