//! What may be forgotten, and what stays.

use chrono::Duration;

use super::*;

/// The present; never before the time of the charges of these tests.
fn now() -> DateTime<Utc> {
    Utc::now().max(noon())
}

/// Everything that may be forgotten, and is older than now, or than `noon` for what carries a charge's time.
fn all_of_it() -> Expiry {
    let tomorrow = now() + Duration::days(1);
    Expiry {
        idempotency_keys: Some(noon() + Duration::seconds(1)),
        settled_requests: Some(tomorrow),
        past_alerts: Some(tomorrow),
        revoked_tokens: Some(tomorrow),
        present_windows: vec!["2026-11".into(), "lifetime".into()],
    }
}

fn monthly(consumer: &str, window: &str) -> Account {
    Account { window: window.into(), ..consumer_account(consumer, FLIGHTS) }
}

/// Something old and something young of each kind. Returns the tokens: one that was revoked, and one that was not.
async fn lived(store: &dyn Store) -> [(Uuid, TokenSecret); 2] {
    store.add_consumer("dot", None, &OPERATOR).await.unwrap();
    // A key of noon, and one of the next day.
    let old = with_key(charge("dot", 1, 10), "old", 1);
    let charge_id = charged(store, &old).await;
    store.keep_release(ReleaseKey([1; 32]), 10, charge_id, b"answer", "{}").await.unwrap();
    charged(store, &Charge { at: noon() + Duration::days(1), ..with_key(charge("dot", 2, 10), "young", 1) }).await;
    // Three requests for a budget: granted, denied, and open.
    let grant = Grant { epsilon: Epsilon::from_steps(7), delta: Delta::ZERO, per: "month".into() };
    let mut requests = Vec::new();
    for reason in ["a", "b", "c"] {
        requests.push(store.request_budget("dot", FLIGHTS, &grant, reason, &OPERATOR).await.unwrap());
    }
    for (id, yes) in [(requests[0], true), (requests[1], false)] {
        store.decide_budget_request(id, &Ruling { yes, answer: None }, &OPERATOR).await.unwrap();
    }
    // Queries that waited: allowed, refused, expired, and one that still waits.
    for (shape, verdict, expires) in
        [(1, Some(true), noon()), (2, Some(false), noon()), (3, None, noon()), (4, None, now() + Duration::days(3))]
    {
        let asked = ApprovalAsked {
            consumer: "dot".into(),
            datasets: vec![FLIGHTS.into()],
            shape: [shape; 32],
            sql: "SELECT 1".into(),
            purpose: None,
            dry_run: "{}".into(),
            made: noon() - Duration::days(3),
            expires,
            lines: charge("dot", shape, 1).accounts,
            precision: 1,
        };
        let waiting = store.ask_approval(&asked, &OPERATOR).await.unwrap();
        if let Some(yes) = verdict {
            store.decide_approval(waiting[0].id, FLIGHTS, &Ruling { yes, answer: None }, &OPERATOR).await.unwrap();
        }
    }
    // Alerts of a month that is over, of one that is not, and of a lifetime.
    for (release, window) in [(5, "2026-10"), (6, "2026-11")] {
        let mut charge = charge("dot", release, 1);
        charge.accounts[0].account = monthly("dot", window);
        charged(store, &charge).await;
    }
    let accounts = [monthly("dot", "2026-10"), monthly("dot", "2026-11"), consumer_account("dot", FLIGHTS)];
    let passed = accounts.map(|account| (account, 80));
    assert_eq!(store.note_thresholds(&passed).await.unwrap(), passed);
    let new = NewToken { role: Role::Analyst, consumer: Some("dot".into()), owner: None };
    let tokens =
        [store.create_token(&new, &OPERATOR).await.unwrap(), store.create_token(&new, &OPERATOR).await.unwrap()];
    store.revoke_token(tokens[0].0, &OPERATOR).await.unwrap();
    tokens
}

const ALL: Forgotten =
    Forgotten { idempotency_keys: 1, budget_requests: 2, approvals: 2, reservations: 3, alerts: 1, tokens: 1 };

pub(super) async fn what_is_old_goes_and_what_is_needed_stays(store: &dyn Store) {
    let [revoked, held] = lived(store).await;
    let before = store.account_sums(&[]).await.unwrap();
    let size = store.log_tree().await.unwrap().size();
    assert_eq!(store.forgettable(&all_of_it()).await.unwrap(), ALL);
    assert_eq!(store.forget(&all_of_it(), &Actor::settings()).await.unwrap(), ALL);
    // Once. What is gone is gone, and nothing more is written about it.
    assert_eq!(store.forget(&all_of_it(), &Actor::settings()).await.unwrap(), Forgotten::default());
    assert_eq!(store.forgettable(&all_of_it()).await.unwrap(), Forgotten::default());
    let entries = store.log_entries(size, 9, &[]).await.unwrap();
    assert_eq!(entries.len(), 1);
    let entry: serde_json::Value = serde_json::from_str(&entries[0].entry).unwrap();
    assert_eq!((&entry["kind"], &entry["by"]), (&"retention".into(), &"operator/settings".into()));
    assert_eq!(entry["forgotten"], serde_json::json!(ALL));
    let told = entry["before"]["idempotency_keys"].as_str().unwrap().parse::<DateTime<Utc>>();
    assert_eq!(told.unwrap(), noon() + Duration::seconds(1));
    let mut kinds: Vec<&String> = entry["before"].as_object().unwrap().keys().collect();
    kinds.sort();
    assert_eq!(kinds, ["idempotency_keys", "past_alerts", "revoked_tokens", "settled_requests"]);

    // What was spent, and what was drawn, is as it was.
    assert_eq!(store.account_sums(&[]).await.unwrap(), before);
    assert_eq!(store.held_for("dot", ReleaseKey([1; 32]), 10).await.unwrap().unwrap().payload, b"answer");
    // A retry under the key that is gone is free, as any repeated question is; another question under it is one of its own. The
    // key that is not old answers for its charge, and conflicts.
    let again = store.charge(&with_key(charge("dot", 1, 10), "old", 1)).await.unwrap();
    assert!(matches!(again, ChargeOutcome::AlreadyPaid { precision: 10, .. }), "{again:?}");
    let young = store.charge(&with_key(charge("dot", 7, 10), "young", 2)).await;
    assert!(matches!(young, Err(LedgerError::IdempotencyConflict { .. })), "{young:?}");
    // The open request can be decided; a yes still lets its query through; what waits still waits.
    let open = store.budget_requests(Some("dot")).await.unwrap();
    assert_eq!(
        open.iter().map(|request| (request.reason.as_str(), request.state)).collect::<Vec<_>>(),
        [("c", RequestState::Open)]
    );
    assert_eq!(store.grant("dot", FLIGHTS).await.unwrap().unwrap().epsilon.steps(), 7);
    let mut states: Vec<_> =
        store.approvals(&[FLIGHTS.to_owned()]).await.unwrap().iter().map(|approval| approval.state.as_str()).collect();
    states.sort_unstable();
    assert_eq!(states, ["approved", "open"]);
    // An alert that could be given again is still noted.
    let noted = [(monthly("dot", "2026-11"), 80), (consumer_account("dot", FLIGHTS), 80)];
    assert_eq!(store.note_thresholds(&noted).await.unwrap(), []);
    // The one token is refused as before, and the other let in.
    assert_eq!(store.token_for(revoked.1.expose()).await.unwrap(), None);
    assert_eq!(store.token(revoked.0).await.unwrap(), None);
    assert_eq!(store.token_for(held.1.expose()).await.unwrap().unwrap().id, held.0);
}

pub(super) async fn what_no_time_is_set_for_is_kept(store: &dyn Store) {
    lived(store).await;
    let size = store.log_tree().await.unwrap().size();
    let nothing = [
        Expiry::default(),
        Expiry { present_windows: vec!["2026-11".into()], ..Expiry::default() },
        // Without a present window nobody knows which alerts could be given again.
        Expiry { past_alerts: Some(now() + Duration::days(1)), ..Expiry::default() },
        Expiry { idempotency_keys: Some(noon()), revoked_tokens: Some(DateTime::UNIX_EPOCH), ..Expiry::default() },
        Expiry {
            settled_requests: Some(DateTime::UNIX_EPOCH),
            past_alerts: Some(DateTime::UNIX_EPOCH),
            idempotency_keys: None,
            revoked_tokens: None,
            ..all_of_it()
        },
    ];
    for expiry in nothing {
        assert_eq!(store.forgettable(&expiry).await.unwrap(), Forgotten::default(), "{expiry:?}");
        assert_eq!(store.forget(&expiry, &OPERATOR).await.unwrap(), Forgotten::default(), "{expiry:?}");
    }
    assert_eq!(store.log_tree().await.unwrap().size(), size);
    // One kind goes without the others.
    let tokens = Expiry { revoked_tokens: all_of_it().revoked_tokens, ..Expiry::default() };
    assert_eq!(store.forget(&tokens, &OPERATOR).await.unwrap(), Forgotten { tokens: 1, ..Forgotten::default() });
    assert_eq!(store.forgettable(&all_of_it()).await.unwrap(), Forgotten { tokens: 0, ..ALL });
}

/// More than one transaction takes goes in several.
pub(super) async fn much_is_forgotten_a_little_at_a_time(store: &dyn Store) {
    store.add_consumer("dot", None, &OPERATOR).await.unwrap();
    let account = |n: usize| monthly("dot", &format!("2020-{n}"));
    let mut release = charge("dot", 1, 1);
    release.accounts = (0..2_500)
        .map(|n| AccountCharge { account: account(n), limit: zcdp_limit(100, 100), cost: zcdp_cost(1, 1) })
        .collect();
    charged(store, &release).await;
    let passed: Vec<_> = (0..2_500).map(|n| (account(n), 80)).collect();
    assert_eq!(store.note_thresholds(&passed).await.unwrap().len(), 2_500);
    let mut calls = Vec::new();
    loop {
        let gone = store.forget(&all_of_it(), &OPERATOR).await.unwrap().alerts;
        if gone == 0 {
            break;
        }
        calls.push(gone);
    }
    assert_eq!(calls, [2_000, 500]);
}
