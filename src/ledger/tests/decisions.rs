//! What is decided beside charges: agencies and unit domains as payers, approvals and their reservations, requests, policies,
//! and the log of it all.

use chrono::Duration;

use super::*;
use crate::audit::merkle::{Tree, inclusion_nodes, inclusion_proof, leaf_hash, verify_inclusion};

fn line(scope: Scope, dataset: &str, limit: u64, rho: u64) -> AccountCharge {
    AccountCharge {
        account: Account { scope, dataset: dataset.into(), window: "lifetime".into(), epoch: None },
        limit: zcdp_limit(limit, limit),
        cost: zcdp_cost(rho, 1),
    }
}

/// A charge that an agency of `agency_limit` and the consumer's domain account of `domain_limit` pay as well.
fn of_agency(consumer: &str, release: u8, rho: u64, agency_limit: u64, domain_limit: u64) -> Charge {
    let mut charge = charge(consumer, release, rho);
    charge.accounts.push(line(Scope::Agency("transport".into()), FLIGHTS, agency_limit, rho));
    charge.accounts.push(line(Scope::Domain(consumer.into()), "aircraft", domain_limit, rho));
    charge
}

async fn spent_of(store: &dyn Store, scope: Scope, dataset: &str) -> u64 {
    let account = line(scope, dataset, 0, 1).account;
    store.spent(&[account]).await.unwrap()[0].map_or(0, |spent| spent.loss.steps())
}

pub(super) async fn an_agency_pays_for_its_consumers_and_no_other(store: &dyn Store) {
    store.add_consumer("dot", Some("transport"), &OPERATOR).await.unwrap();
    store.add_consumer("rail", Some("transport"), &OPERATOR).await.unwrap();
    store.add_consumer("cdc", Some("health"), &OPERATOR).await.unwrap();
    // The agency cannot be left out, and another's is not charged.
    let left_out = store.charge(&charge("dot", 1, 1)).await;
    assert!(matches!(left_out, Err(LedgerError::BadCharge(BadCharge::AgencyPaysNothing { .. }))), "{left_out:?}");
    let stranger = store.charge(&of_agency("cdc", 1, 1, 100, 100)).await;
    assert!(matches!(stranger, Err(LedgerError::BadCharge(BadCharge::AccountOfAnother { .. }))), "{stranger:?}");
    charged(store, &of_agency("dot", 1, 30, 50, 100)).await;
    // The same draw for a second consumer of the agency: both learn it, and all consumers pay once.
    let ChargeOutcome::Charged { shared, .. } = store.charge(&of_agency("rail", 1, 30, 60, 100)).await.unwrap() else {
        panic!("not charged")
    };
    assert!(shared);
    assert_eq!(spent_of(store, Scope::Agency("transport".into()), FLIGHTS).await, 60);
    assert_eq!(spent_of(store, Scope::AllConsumers, FLIGHTS).await, 30);
    // Its limit stops what the consumer's own would bear, and nobody pays.
    let ChargeOutcome::Refused { short } = store.charge(&of_agency("rail", 2, 1, 60, 100)).await.unwrap() else {
        panic!("not refused")
    };
    assert_eq!(short.len(), 1);
    assert_eq!(short[0].account.scope, Scope::Agency("transport".into()));
    assert_eq!(spent_of(store, Scope::Consumer("rail".into()), FLIGHTS).await, 30);
}

pub(super) async fn a_unit_domain_bounds_what_is_learnt_of_all_its_datasets(store: &dyn Store) {
    store.add_consumer("dot", None, &OPERATOR).await.unwrap();
    let on = |dataset: &str, release: u8| {
        let mut charge = charge_on(dataset, "dot", release, 40);
        charge.accounts.push(line(Scope::Domain("dot".into()), "aircraft", 100, 40));
        charge
    };
    charged(store, &on("united.flights", 1)).await;
    charged(store, &on("delta.flights", 2)).await;
    // The third company's own accounts are untouched, and still the unit is bounded.
    let ChargeOutcome::Refused { short } = store.charge(&on("american.flights", 3)).await.unwrap() else {
        panic!("not refused")
    };
    assert_eq!(short[0].account.to_string(), "domain/aircraft");
    // A join of two companies' data is one release, and charges the domain once.
    let mut join = on("united.flights", 4);
    join.accounts.iter_mut().for_each(|line| line.cost = zcdp_cost(20, 1));
    join.accounts.extend(charge_on("delta.flights", "dot", 4, 20).accounts);
    join.precision = 20;
    charged(store, &join).await;
    assert_eq!(spent_of(store, Scope::Domain("dot".into()), "aircraft").await, 100);
}

pub(super) async fn epochs_are_accounts_of_their_own(store: &dyn Store) {
    store.add_consumer("dot", None, &OPERATOR).await.unwrap();
    let months = |release: u8, months: &[&str]| {
        let mut charge = charge("dot", release, 60);
        charge.accounts = months
            .iter()
            .flat_map(|month| {
                charge.accounts.iter().cloned().map(|mut line| {
                    line.account.epoch = Some((*month).to_owned());
                    line
                })
            })
            .collect();
        charge
    };
    charged(store, &months(1, &["2013-01", "2013-02"])).await;
    // February is spent; March is new, and pays by itself.
    assert!(matches!(store.charge(&months(2, &["2013-02", "2013-03"])).await.unwrap(), ChargeOutcome::Refused { .. }));
    charged(store, &months(3, &["2013-03"])).await;
    let sums = store.account_sums(&[FLIGHTS.to_owned()]).await.unwrap();
    let epochs: std::collections::BTreeSet<_> = sums.iter().filter_map(|sum| sum.account.epoch.clone()).collect();
    assert_eq!(epochs.into_iter().collect::<Vec<_>>(), ["2013-01", "2013-02", "2013-03"]);
    assert!(sums.iter().all(|sum| sum.spent.loss.steps() == 60));
}

fn asked(shape: u8, rho: u64, datasets: &[&str]) -> ApprovalAsked {
    ApprovalAsked {
        consumer: "dot".into(),
        datasets: datasets.iter().map(|name| (*name).to_owned()).collect(),
        shape: [shape; 32],
        sql: "SELECT count(*) FROM united.flights".into(),
        purpose: None,
        dry_run: "{}".into(),
        made: noon(),
        expires: noon() + Duration::days(3),
        lines: charge("dot", shape, rho).accounts,
        precision: rho,
    }
}

pub(super) async fn what_waits_for_approval_is_reserved_until_it_expires(store: &dyn Store) {
    store.add_consumer("dot", None, &OPERATOR).await.unwrap();
    let waiting = store.ask_approval(&asked(1, 70, &[FLIGHTS]), &OPERATOR).await.unwrap();
    assert_eq!((waiting.len(), waiting[0].state), (1, RequestState::Open));
    // Asked again it is the same, and reserved once.
    assert_eq!(store.ask_approval(&asked(1, 70, &[FLIGHTS]), &OPERATOR).await.unwrap(), waiting);
    let ChargeOutcome::Refused { short } = store.charge(&charge("dot", 2, 31)).await.unwrap() else {
        panic!("not refused")
    };
    assert_eq!(short[0].spent, zcdp_spent(70, 1));
    charged(store, &charge("dot", 3, 20)).await;
    // A reservation is nothing spent.
    assert_eq!(spent(store, "dot").await[0], Some(zcdp_spent(20, 1)));
    // Approved, it does not stand in its own way, and is posted.
    let yes = Ruling { yes: true, answer: None };
    let decided = store.decide_approval(waiting[0].id, FLIGHTS, &yes, &OPERATOR).await.unwrap();
    assert_eq!(decided.state, RequestState::Approved);
    let again = store.decide_approval(waiting[0].id, FLIGHTS, &yes, &OPERATOR).await;
    assert!(matches!(again, Err(LedgerError::DecidedBefore { .. })), "{again:?}");
    let mut approved = charge("dot", 1, 70);
    approved.reservation = Some(waiting[0].id);
    charged(store, &approved).await;
    charged(store, &charge("dot", 4, 10)).await;
    // Dearer than what was agreed to, it is asked anew.
    let dearer = store.ask_approval(&asked(1, 71, &[FLIGHTS]), &OPERATOR).await.unwrap();
    assert_eq!(dearer[0].state, RequestState::Open);
    let cheaper = store.ask_approval(&asked(1, 60, &[FLIGHTS]), &OPERATOR).await.unwrap();
    assert!(cheaper.iter().any(|approval| approval.state != RequestState::Denied));
    // Asked for and forgotten, it stands in the asker's way for three days and no longer, and never in anybody else's.
    store.add_consumer("fed", None, &OPERATOR).await.unwrap();
    let mut late = ApprovalAsked { consumer: "fed".into(), ..asked(5, 70, &[FLIGHTS]) };
    late.lines = charge("fed", 5, 70).accounts;
    store.ask_approval(&late, &OPERATOR).await.unwrap();
    let at = |days| Charge { at: noon() + Duration::days(days), ..charge("fed", 6, 40) };
    assert!(matches!(store.charge(&at(0)).await.unwrap(), ChargeOutcome::Refused { .. }));
    let mut everybody = charge("fed", 7, 1);
    everybody.accounts[1].limit = zcdp_limit(102, 1000);
    assert!(matches!(store.charge(&everybody).await.unwrap(), ChargeOutcome::Charged { .. }));
    charged(store, &at(3)).await;
    // Twenty wait at most.
    for shape in 10..29 {
        store
            .ask_approval(&ApprovalAsked { consumer: "fed".into(), ..asked(shape, 1, &[FLIGHTS]) }, &OPERATOR)
            .await
            .unwrap();
    }
    let more = ApprovalAsked { consumer: "fed".into(), ..asked(30, 1, &[FLIGHTS]) };
    let refused = store.ask_approval(&more, &OPERATOR).await;
    assert!(matches!(refused, Err(LedgerError::TooManyOpen { .. })), "{refused:?}");
}

pub(super) async fn a_yes_that_is_taken_back_takes_every_yes_with_it(store: &dyn Store) {
    for name in ["dot", "fed"] {
        store.add_consumer(name, None, &OPERATOR).await.unwrap();
    }
    let ruling = |yes| Ruling { yes, answer: Some("so be it".into()) };
    let both = [FLIGHTS, "delta.flights"];
    let mut of_dot = Vec::new();
    for (consumer, shape, rho) in [("dot", 1, 50), ("dot", 1, 60), ("dot", 1, 70), ("dot", 2, 1), ("fed", 1, 50)] {
        let query = ApprovalAsked { consumer: consumer.into(), ..asked(shape, rho, &both) };
        let waiting = store.ask_approval(&query, &OPERATOR).await.unwrap();
        assert!(waiting.iter().all(|approval| approval.state == RequestState::Open), "{waiting:?}");
        for dataset in both {
            store.decide_approval(waiting[0].id, dataset, &ruling(true), &OPERATOR).await.unwrap();
        }
        of_dot.push(waiting[0].id);
    }
    let states = async |dataset: &str| {
        let approvals = store.approvals(&[dataset.to_owned()]).await.unwrap();
        let of = |id| approvals.iter().find(|approval| approval.id == id).unwrap().state;
        of_dot.iter().map(|id| of(*id)).collect::<Vec<_>>()
    };
    let (yes, no) = (RequestState::Approved, RequestState::Denied);
    assert_eq!(states(FLIGHTS).await, [yes; 5]);
    // Of the three that are reserved for one query, more than the budget is: nothing else can be asked.
    assert!(matches!(store.charge(&charge("dot", 9, 40)).await.unwrap(), ChargeOutcome::Refused { .. }));
    // The one in the middle is taken back: the cheaper one before it and the dearer one after it go with it, for this
    // dataset, and nobody else's.
    let size = store.log_tree().await.unwrap().size();
    let decided = store.decide_approval(of_dot[1], FLIGHTS, &ruling(false), &OPERATOR).await.unwrap();
    assert_eq!((decided.id, decided.state), (of_dot[1], no));
    assert_eq!(states(FLIGHTS).await, [no, no, no, yes, yes]);
    assert_eq!(states("delta.flights").await, [yes; 5]);
    charged(store, &charge("dot", 9, 40)).await;
    // Each is in the log.
    let told: Vec<String> = store
        .log_entries(size, 3, &[])
        .await
        .unwrap()
        .iter()
        .map(|entry| {
            let entry: serde_json::Value = serde_json::from_str(&entry.entry).unwrap();
            assert_eq!((&entry["kind"], &entry["decision"]), (&"approval_decision".into(), &"denied".into()));
            entry["approval"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(told, [of_dot[1], of_dot[0], of_dot[2]].map(|id| id.to_string()));
    // The cheapest question is refused, and once the no has expired it is asked anew.
    let refused = store.ask_approval(&asked(1, 10, &[FLIGHTS]), &OPERATOR).await.unwrap();
    assert_eq!(refused.iter().find(|approval| approval.dataset == FLIGHTS).unwrap().state, no);
    let later = noon() + Duration::days(4);
    let later = ApprovalAsked { made: later, expires: later + Duration::days(3), ..asked(1, 10, &[FLIGHTS]) };
    let anew = store.ask_approval(&later, &OPERATOR).await.unwrap();
    assert_eq!(anew.iter().find(|approval| approval.dataset == FLIGHTS).unwrap().state, RequestState::Open);
    // A no to what was never approved takes nothing with it.
    let dearer = store.ask_approval(&asked(2, 5, &both), &OPERATOR).await.unwrap();
    let open = dearer.iter().find(|approval| approval.dataset == FLIGHTS).unwrap();
    assert_eq!(open.state, RequestState::Open);
    store.decide_approval(open.id, FLIGHTS, &ruling(false), &OPERATOR).await.unwrap();
    assert_eq!(states(FLIGHTS).await, [no, no, no, yes, yes]);
}

pub(super) async fn a_no_gives_back_what_was_reserved(store: &dyn Store) {
    store.add_consumer("dot", None, &OPERATOR).await.unwrap();
    let waiting = store.ask_approval(&asked(1, 70, &[FLIGHTS, "delta.flights"]), &OPERATOR).await.unwrap();
    let datasets: Vec<String> = waiting.iter().map(|approval| approval.dataset.clone()).collect();
    assert_eq!(datasets.len(), 2);
    assert_eq!(store.approvals(&["delta.flights".to_owned()]).await.unwrap().len(), 1);
    let no = Ruling { yes: false, answer: Some("too fine".into()) };
    store.decide_approval(waiting[0].id, "delta.flights", &no, &OPERATOR).await.unwrap();
    charged(store, &charge("dot", 2, 100)).await;
    let standing = store.ask_approval(&asked(1, 70, &[FLIGHTS, "delta.flights"]), &OPERATOR).await.unwrap();
    let denied = standing.iter().find(|approval| approval.dataset == "delta.flights").unwrap();
    assert_eq!((denied.state, denied.answer.as_deref()), (RequestState::Denied, Some("too fine")));
    let unknown = store.decide_approval(Uuid::nil(), FLIGHTS, &no, &OPERATOR).await;
    assert!(matches!(unknown, Err(LedgerError::UnknownRequest { .. })), "{unknown:?}");
}

pub(super) async fn an_approved_request_makes_its_grant(store: &dyn Store) {
    store.add_consumer("dot", None, &OPERATOR).await.unwrap();
    let grant = Grant {
        epsilon: Epsilon::floor_from(2.0).unwrap(),
        delta: Delta::floor_from(1e-6).unwrap(),
        per: "month".into(),
    };
    let first = store.request_budget("dot", FLIGHTS, &grant, "the winter study", &OPERATOR).await.unwrap();
    let second = store.request_budget("dot", "delta.flights", &grant, "the winter study", &OPERATOR).await.unwrap();
    assert_eq!(store.budget_requests(Some("dot")).await.unwrap().len(), 2);
    let yes = Ruling { yes: true, answer: None };
    store.decide_budget_request(first, &yes, &OPERATOR).await.unwrap();
    let no = Ruling { yes: false, answer: Some("ask again in spring".into()) };
    let denied = store.decide_budget_request(second, &no, &OPERATOR).await.unwrap();
    assert_eq!(denied.answer.as_deref(), Some("ask again in spring"));
    assert_eq!(store.grant("dot", FLIGHTS).await.unwrap(), Some(grant));
    assert_eq!(store.grant("dot", "delta.flights").await.unwrap(), None);
    let again = store.decide_budget_request(first, &no, &OPERATOR).await;
    assert!(matches!(again, Err(LedgerError::DecidedBefore { .. })), "{again:?}");
}

fn policy(version: &str) -> NewPolicy {
    NewPolicy {
        dataset: FLIGHTS.into(),
        version: version.repeat(64),
        text: format!("# {version}"),
        base: "/policies".into(),
        held_to_roots: false,
        location: Some(format!("/data/{version}.parquet")),
        origin: PolicyOrigin::Steward,
        reason: None,
        changes: "[]".into(),
        at_changes: None,
    }
}

pub(super) async fn policies_are_kept_in_every_version(store: &dyn Store) {
    let unknown = store.set_dataset_state(FLIGHTS, DatasetState::Suspended, None, &OPERATOR).await;
    assert!(matches!(unknown, Err(LedgerError::UnknownDataset { .. })), "{unknown:?}");
    store.put_policy(&policy("a"), &OPERATOR).await.unwrap();
    store.put_policy(&policy("a"), &OPERATOR).await.unwrap();
    assert_eq!(store.policy_changes().await.unwrap(), 1);
    store.put_policy(&policy("b"), &OPERATOR).await.unwrap();
    store.set_dataset_state(FLIGHTS, DatasetState::Suspended, Some("renewal"), &OPERATOR).await.unwrap();
    let (changes, stated) = store.policies().await.unwrap();
    assert_eq!((changes, stated.len()), (3, 1));
    assert_eq!((stated[0].state, stated[0].reason.as_deref()), (DatasetState::Suspended, Some("renewal")));
    assert_eq!(stated[0].policy.text, "# b");
    assert_eq!(stated[0].former_locations, ["/data/a.parquet"]);
    assert_eq!(store.policy_history(FLIGHTS).await.unwrap().len(), 2);
    assert_eq!(store.policies_from_files().await.unwrap(), []);
    // Held against an older catalog, it does not come into force.
    let late = NewPolicy { at_changes: Some(2), ..policy("c") };
    assert!(matches!(store.put_policy(&late, &OPERATOR).await, Err(LedgerError::PoliciesChanged)));
    let in_time = NewPolicy { at_changes: Some(3), ..policy("c") };
    store.put_policy(&in_time, &OPERATOR).await.unwrap();
    store.set_dataset_state(FLIGHTS, DatasetState::Withdrawn, None, &OPERATOR).await.unwrap();
    for state in [DatasetState::Active, DatasetState::Suspended] {
        let back = store.set_dataset_state(FLIGHTS, state, None, &OPERATOR).await;
        assert!(matches!(back, Err(LedgerError::Withdrawn { .. })), "{back:?}");
    }
    assert!(matches!(store.put_policy(&policy("d"), &OPERATOR).await, Err(LedgerError::Withdrawn { .. })));
}

pub(super) async fn every_decision_is_in_the_log(store: &dyn Store) {
    store.add_consumer("dot", None, &OPERATOR).await.unwrap();
    let charge_id = charged(store, &charge("dot", 1, 7)).await;
    store.keep_release(ReleaseKey([1; 32]), 7, charge_id, b"answer", "{}").await.unwrap();
    store.put_policy(&policy("a"), &OPERATOR).await.unwrap();
    let answer = Decision::Answer {
        query_id: Uuid::from_u128(1),
        consumer: "dot".into(),
        sql: "SELECT 'a\n\"b\"'".into(),
        purpose: None,
        datasets: vec![FLIGHTS.into()],
        charges: vec![charge_id],
        cached: true,
        answer_sha256: "00".repeat(32),
    };
    let reuse =
        Reuse { dataset: FLIGHTS.into(), consumer: "dot".into(), agency: None, purpose: None, cost: zcdp_cost(7, 1) };
    let receipt = store.record(Entry { at: noon(), by: None, decision: answer }, vec![reuse]).await.unwrap();
    let entries = store.log_entries(0, 100, &[]).await.unwrap();
    let kinds: Vec<String> = entries
        .iter()
        .map(|entry| {
            serde_json::from_str::<serde_json::Value>(&entry.entry).unwrap()["kind"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(kinds, ["consumer", "charge", "draw", "policy", "answer"]);
    assert_eq!((receipt.log_index, receipt.leaf_hash), (4, leaf_hash(entries[4].entry.as_bytes())));
    // A steward's part of it, a page at a time.
    let own = store.log_entries(0, 2, &[FLIGHTS.to_owned()]).await.unwrap();
    assert_eq!(own.iter().map(|entry| entry.index).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(store.log_entries(3, 9, &[FLIGHTS.to_owned(), "delta.flights".into()]).await.unwrap().len(), 2);
    assert_eq!(store.log_entries(0, 9, &["delta.flights".to_owned()]).await.unwrap(), []);
    // Each is proven by the stored nodes.
    let tree: Tree = store.log_tree().await.unwrap();
    assert_eq!(tree.size(), 5);
    for entry in &entries {
        let ids = inclusion_nodes(entry.index, tree.size()).unwrap();
        let nodes = store.log_nodes(&ids).await.unwrap();
        let proof = inclusion_proof(entry.index, tree.size(), &|id| nodes.get(&id).copied()).unwrap();
        assert!(verify_inclusion(&entry.leaf_hash, entry.index, tree.size(), &proof, &tree.root()));
    }
    // What was not paid again is told by reports.
    let by_day = SpendQuery { by: vec![Dimension::Consumer, Dimension::Day], ..SpendQuery::default() };
    let lines = store.spend(&by_day).await.unwrap();
    assert_eq!(lines.len(), 1);
    assert_eq!((lines[0].loss_steps, lines[0].reused, lines[0].saved_steps), (7, 1, 7));
    assert_eq!(lines[0].values, [Some("dot".to_owned()), Some(noon().date_naive().to_string())]);
}

/// The writes of a batch do not mix: each query is decided by itself, and what fails takes only itself down.
pub(super) async fn those_who_wait_together_are_decided_one_by_one(store: &dyn Store) {
    store.add_consumer("dot", None, &OPERATOR).await.unwrap();
    store.add_consumer("fed", None, &OPERATOR).await.unwrap();
    store.set_frozen("fed", true, &OPERATOR).await.unwrap();
    let [a, b, frozen, nobody, dear, keyed, conflict] = [
        charge("dot", 1, 60),
        charge("dot", 1, 60),
        charge("fed", 1, 1),
        charge("nobody", 1, 1),
        charge("dot", 2, 60),
        with_key(charge("dot", 3, 1), "k", 1),
        with_key(charge("dot", 3, 1), "k", 2),
    ];
    let (a, b, frozen, nobody, dear, keyed, conflict) = tokio::join!(
        store.charge(&a),
        store.charge(&b),
        store.charge(&frozen),
        store.charge(&nobody),
        store.charge(&dear),
        store.charge(&keyed),
        store.charge(&conflict),
    );
    assert!(matches!(a.unwrap(), ChargeOutcome::Charged { .. }));
    assert!(matches!(b.unwrap(), ChargeOutcome::AlreadyPaid { precision: 60, .. }));
    assert!(matches!(frozen, Err(LedgerError::Frozen { .. })));
    assert!(matches!(nobody, Err(LedgerError::UnknownConsumer { .. })));
    assert!(matches!(dear.unwrap(), ChargeOutcome::Refused { .. }));
    assert!(matches!(keyed.unwrap(), ChargeOutcome::Charged { .. }));
    assert!(matches!(conflict, Err(LedgerError::IdempotencyConflict { .. })));
    assert_eq!(spent(store, "dot").await[0], Some(zcdp_spent(61, 2)));
}
