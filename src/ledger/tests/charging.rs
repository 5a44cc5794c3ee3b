//! What a charge comes to.

use super::*;

pub(super) async fn a_charge_is_paid_by_all_its_accounts(store: &dyn Store) {
    store.add_consumer("dot", None, &OPERATOR).await.unwrap();
    assert_eq!(spent(store, "dot").await, [None, None]);
    let ChargeOutcome::Charged { charge_id, charged, shared } = store.charge(&charge("dot", 1, 7)).await.unwrap()
    else {
        panic!("not charged")
    };
    assert!(!shared);
    let cost = zcdp_cost(7, 1);
    assert_eq!(charged, [(consumer_account("dot", FLIGHTS), cost), (all_consumers_account(FLIGHTS), cost)]);
    assert_eq!(spent(store, "dot").await, [Some(zcdp_spent(7, 1)), Some(zcdp_spent(7, 1))]);
    assert_eq!(store.costs_of(charge_id).await.unwrap(), [(FLIGHTS.to_owned(), cost)]);
    let report = store.check().await.unwrap();
    assert_eq!(report, CheckReport { accounts: 2, charges: 1, lines: 2, held_releases: 0, log_entries: 2 });
    let unknown = store.costs_of(ChargeId(charge_id.0 + 1)).await;
    assert!(matches!(unknown, Err(LedgerError::UnknownCharge { .. })), "{unknown:?}");
}

pub(super) async fn a_charge_that_one_account_cannot_pay_charges_none(store: &dyn Store) {
    store.add_consumer("dot", None, &OPERATOR).await.unwrap();
    // A join of two datasets: the second is over its limit.
    let mut join = charge("dot", 1, 60);
    join.accounts.extend(charge_on("delta.flights", "dot", 1, 60).accounts);
    charged(store, &charge_on("delta.flights", "dot", 2, 50)).await;
    let ChargeOutcome::Refused { short } = store.charge(&join).await.unwrap() else { panic!("not refused") };
    let expected = Shortfall {
        account: consumer_account("dot", "delta.flights"),
        limit: zcdp_limit(100, 100),
        spent: zcdp_spent(50, 1),
        cost: zcdp_cost(60, 1),
    };
    assert_eq!(short, [expected]);
    assert_eq!(spent(store, "dot").await, [None, None]);
    assert_eq!(store.check().await.unwrap().charges, 1);
    assert_eq!(store.has_paid("dot", join.release, 1).await.unwrap(), None);
}

pub(super) async fn the_last_step_of_a_budget_can_be_spent_and_no_more(store: &dyn Store) {
    store.add_consumer("dot", None, &OPERATOR).await.unwrap();
    charged(store, &charge("dot", 1, 99)).await;
    assert!(matches!(store.charge(&charge("dot", 2, 2)).await.unwrap(), ChargeOutcome::Refused { .. }));
    charged(store, &charge("dot", 3, 1)).await;
    assert!(matches!(store.charge(&charge("dot", 4, 1)).await.unwrap(), ChargeOutcome::Refused { .. }));
    assert_eq!(spent(store, "dot").await[0], Some(zcdp_spent(100, 2)));
    // The largest amount there is neither wraps nor fits.
    let mut huge = charge("dot", 5, 1);
    for line in &mut huge.accounts {
        line.cost = zcdp_cost(u64::MAX, u64::MAX);
        line.limit = zcdp_limit(u64::MAX, u64::MAX);
    }
    let ChargeOutcome::Refused { short } = store.charge(&huge).await.unwrap() else { panic!("not refused") };
    assert_eq!(short.len(), 2);
}

pub(super) async fn delta_runs_out_as_loss_does(store: &dyn Store) {
    store.add_consumer("dot", None, &OPERATOR).await.unwrap();
    charged(store, &with_delta(charge("dot", 1, 1), 99)).await;
    assert!(matches!(store.charge(&with_delta(charge("dot", 2, 1), 2)).await.unwrap(), ChargeOutcome::Refused { .. }));
    charged(store, &with_delta(charge("dot", 2, 1), 1)).await;
    charged(store, &with_delta(charge("dot", 3, 1), 0)).await;
}

pub(super) async fn paying_twice_for_one_release_is_free(store: &dyn Store) {
    store.add_consumer("dot", None, &OPERATOR).await.unwrap();
    let first = charged(store, &charge("dot", 1, 60)).await;
    for wanted in [60, 59, 1] {
        let outcome = store.charge(&charge("dot", 1, wanted)).await.unwrap();
        assert_eq!(outcome, ChargeOutcome::AlreadyPaid { charge_id: first, precision: 60 });
    }
    assert_eq!(spent(store, "dot").await[0], Some(zcdp_spent(60, 1)));
    assert_eq!(store.has_paid("dot", ReleaseKey([1; 32]), 60).await.unwrap(), Some(60));
    assert_eq!(store.has_paid("dot", ReleaseKey([1; 32]), 61).await.unwrap(), None);
}

pub(super) async fn a_finer_release_is_paid_for(store: &dyn Store) {
    store.add_consumer("dot", None, &OPERATOR).await.unwrap();
    charged(store, &charge("dot", 1, 10)).await;
    charged(store, &charge("dot", 1, 20)).await;
    assert_eq!(spent(store, "dot").await[0], Some(zcdp_spent(30, 2)));
    assert_eq!(store.has_paid("dot", ReleaseKey([1; 32]), 1).await.unwrap(), Some(20));
}

pub(super) async fn what_was_paid_but_never_drawn_covers_what_costs_no_more(store: &dyn Store) {
    store.add_consumer("dot", None, &OPERATOR).await.unwrap();
    let coarse = charged(store, &charge("dot", 1, 10)).await;
    let fine = charged(store, &charge("dot", 1, 20)).await;
    let precision_for = async |wanted| store.charge(&charge("dot", 1, wanted)).await.unwrap();
    // Neither is drawn: the better one answers. Once the coarse one is, it answers for what it can.
    assert_eq!(precision_for(5).await, ChargeOutcome::AlreadyPaid { charge_id: fine, precision: 20 });
    store.keep_release(ReleaseKey([1; 32]), 10, coarse, b"coarse", "{}").await.unwrap();
    assert_eq!(precision_for(5).await, ChargeOutcome::AlreadyPaid { charge_id: coarse, precision: 10 });
    assert_eq!(precision_for(11).await, ChargeOutcome::AlreadyPaid { charge_id: fine, precision: 20 });
}

pub(super) async fn a_dearer_delta_is_not_covered_by_a_cheaper_one(store: &dyn Store) {
    store.add_consumer("dot", None, &OPERATOR).await.unwrap();
    let first = charged(store, &with_delta(charge("dot", 1, 10), 3)).await;
    // Nothing is drawn: the run that comes now may draw at δ = 4, so that is what must be paid for.
    let second = charged(store, &with_delta(charge("dot", 1, 10), 4)).await;
    assert_ne!(first, second);
    assert_eq!(spent(store, "dot").await[0], Some(zcdp_spent(20, 7)));
    // Once it is drawn, showing it again costs nothing, whatever it would cost today.
    store.keep_release(ReleaseKey([1; 32]), 10, first, b"first", "{}").await.unwrap();
    let outcome = store.charge(&with_delta(charge("dot", 1, 10), 9)).await.unwrap();
    assert_eq!(outcome, ChargeOutcome::AlreadyPaid { charge_id: first, precision: 10 });
}

pub(super) async fn the_same_draw_is_charged_to_all_consumers_once(store: &dyn Store) {
    for name in ["dot", "cdc", "fed"] {
        store.add_consumer(name, None, &OPERATOR).await.unwrap();
    }
    charged(store, &charge("dot", 1, 10)).await;
    for name in ["cdc", "fed"] {
        let ChargeOutcome::Charged { charged, shared, charge_id } = store.charge(&charge(name, 1, 10)).await.unwrap()
        else {
            panic!("not charged")
        };
        assert!(shared);
        assert_eq!(charged, [(consumer_account(name, FLIGHTS), zcdp_cost(10, 1))]);
        assert_eq!(store.costs_of(charge_id).await.unwrap(), [(FLIGHTS.to_owned(), zcdp_cost(10, 1))]);
        assert_eq!(spent(store, name).await, [Some(zcdp_spent(10, 1)), Some(zcdp_spent(10, 1))]);
    }
    // A shared charge is still refused when the consumer cannot pay, and then neither account pays.
    charged(store, &charge("cdc", 2, 85)).await;
    let mut poor = charge("dot", 2, 85);
    poor.accounts[0].limit = zcdp_limit(94, 100);
    assert!(matches!(store.charge(&poor).await.unwrap(), ChargeOutcome::Refused { short } if short.len() == 1));
    assert_eq!(spent(store, "dot").await, [Some(zcdp_spent(10, 1)), Some(zcdp_spent(95, 2))]);
}

pub(super) async fn another_precision_is_another_draw(store: &dyn Store) {
    for name in ["dot", "cdc"] {
        store.add_consumer(name, None, &OPERATOR).await.unwrap();
    }
    charged(store, &charge("dot", 1, 10)).await;
    for (precision, total) in [(11, 21), (9, 30)] {
        let outcome = store.charge(&charge("cdc", 1, precision)).await.unwrap();
        match outcome {
            // Once cdc holds 11, 9 is covered by it.
            ChargeOutcome::AlreadyPaid { precision: paid, .. } => assert_eq!((precision, paid), (9, 11)),
            ChargeOutcome::Charged { shared, .. } => {
                assert!(!shared);
                assert_eq!(spent(store, "dot").await[1], Some(zcdp_spent(total, 2)));
            }
            ChargeOutcome::Refused { .. } => panic!("refused"),
        }
    }
}

pub(super) async fn laplace_noise_on_a_zcdp_account_pays_its_converted_loss(store: &dyn Store) {
    store.add_consumer("dot", None, &OPERATOR).await.unwrap();
    let epsilon = Loss::Pure(Epsilon::floor_from(0.2).unwrap());
    let cost = Cost { loss: epsilon, delta: Delta::ZERO };
    let mut mixed = charge("dot", 1, 1);
    for line in &mut mixed.accounts {
        line.limit = Limit { loss: Loss::Zcdp(Rho::floor_from(0.03).unwrap()), delta: Delta::ZERO };
        line.cost = cost;
    }
    let ChargeOutcome::Charged { charge_id, charged, .. } = store.charge(&mixed).await.unwrap() else {
        panic!("not charged")
    };
    let paid = Loss::Zcdp(Rho::floor_from(0.02).unwrap());
    assert_eq!(charged[0].1.loss, paid);
    assert_eq!(spent(store, "dot").await[0], Some(Spent { loss: paid, delta: Delta::ZERO }));
    assert_eq!(store.costs_of(charge_id).await.unwrap(), [(FLIGHTS.to_owned(), cost)]);
    mixed.release = ReleaseKey([2; 32]);
    assert!(matches!(store.charge(&mixed).await.unwrap(), ChargeOutcome::Refused { .. }));
}

pub(super) async fn accounting_that_changed_is_refused(store: &dyn Store) {
    store.add_consumer("dot", None, &OPERATOR).await.unwrap();
    charged(store, &charge("dot", 1, 1)).await;
    let mut pure = charge("dot", 2, 1);
    for line in &mut pure.accounts {
        line.limit = Limit::from_budget(Accounting::Pure, Epsilon::floor_from(1.0).unwrap(), Delta::ZERO);
        line.cost = Cost { loss: Loss::Pure(Epsilon::from_steps(1)), delta: Delta::ZERO };
    }
    let error = store.charge(&pure).await.unwrap_err();
    assert!(
        matches!(&error, LedgerError::AccountingChanged { recorded: "zcdp", asked: "pure", account }
            if *account == consumer_account("dot", FLIGHTS)),
        "{error:?}"
    );
    assert_eq!(store.check().await.unwrap().charges, 1);
    // Gaussian noise has no pure loss at all.
    let mut gaussian = pure;
    for line in &mut gaussian.accounts {
        line.cost = zcdp_cost(1, 0);
    }
    let error = store.charge(&gaussian).await.unwrap_err();
    assert!(matches!(error, LedgerError::BadCharge(BadCharge::WrongMeasure { .. })), "{error:?}");
}

pub(super) async fn an_idempotency_key_answers_for_its_charge(store: &dyn Store) {
    for name in ["dot", "cdc"] {
        store.add_consumer(name, None, &OPERATOR).await.unwrap();
    }
    let first = charged(store, &with_key(charge("dot", 1, 10), "k", 1)).await;
    let again = store.charge(&with_key(charge("dot", 1, 10), "k", 1)).await.unwrap();
    assert_eq!(again, ChargeOutcome::AlreadyPaid { charge_id: first, precision: 10 });
    // A key belongs to its consumer.
    charged(store, &with_key(charge("cdc", 2, 10), "k", 9)).await;
    // A new key for what is paid already stands for the charge that paid.
    let other = store.charge(&with_key(charge("dot", 1, 5), "l", 2)).await.unwrap();
    assert_eq!(other, ChargeOutcome::AlreadyPaid { charge_id: first, precision: 10 });
    let conflict = store.charge(&with_key(charge("dot", 3, 5), "l", 3)).await;
    assert!(matches!(conflict, Err(LedgerError::IdempotencyConflict { .. })), "{conflict:?}");
    // A refusal uses no key up.
    assert!(matches!(
        store.charge(&with_key(charge("dot", 4, 95), "m", 1)).await.unwrap(),
        ChargeOutcome::Refused { .. }
    ));
    charged(store, &with_key(charge("dot", 5, 5), "m", 2)).await;
}

pub(super) async fn an_idempotency_key_conflicts_with_anything_else(store: &dyn Store) {
    store.add_consumer("dot", None, &OPERATOR).await.unwrap();
    charged(store, &with_key(charge("dot", 1, 10), "k", 1)).await;
    let reason = async |charge: Charge| match store.charge(&charge).await {
        Err(LedgerError::IdempotencyConflict { reason }) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(reason(with_key(charge("dot", 1, 10), "k", 2)).await, ConflictReason::DifferentRequest);
    assert_eq!(reason(with_key(charge("dot", 2, 10), "k", 2)).await, ConflictReason::DifferentRequest);
    assert_eq!(reason(with_key(charge("dot", 2, 10), "k", 1)).await, ConflictReason::DataOrPolicyChanged);
    // The same request, at a δ that its charge did not pay for.
    let dearer = with_delta(with_key(charge("dot", 1, 10), "k", 1), 2);
    assert_eq!(reason(dearer).await, ConflictReason::DataOrPolicyChanged);
    assert_eq!(spent(store, "dot").await[0], Some(zcdp_spent(10, 1)));
}

pub(super) async fn charges_that_could_spend_for_nothing_are_refused(store: &dyn Store) {
    store.add_consumer("dot", None, &OPERATOR).await.unwrap();
    store.add_consumer("cdc", None, &OPERATOR).await.unwrap();
    let good = charge("dot", 1, 1);
    let check = async |change: &dyn Fn(&mut Charge), fits: &dyn Fn(&BadCharge) -> bool| {
        let mut bad = good.clone();
        change(&mut bad);
        match store.charge(&bad).await {
            Err(LedgerError::BadCharge(reason)) if fits(&reason) => {}
            other => panic!("{other:?}"),
        }
    };
    check(&|c| c.accounts.clear(), &|e| matches!(e, BadCharge::NoAccounts)).await;
    check(&|c| c.precision = 0, &|e| matches!(e, BadCharge::Precision { .. })).await;
    check(&|c| c.precision = u64::MAX, &|e| matches!(e, BadCharge::Precision { .. })).await;
    check(&|c| c.accounts[1].cost = zcdp_cost(0, 1), &|e| matches!(e, BadCharge::Free { .. })).await;
    check(&|c| c.accounts[1].cost = zcdp_cost(2, 1), &|e| matches!(e, BadCharge::CostsDiffer { .. })).await;
    check(&|c| c.accounts.push(c.accounts[1].clone()), &|e| matches!(e, BadCharge::AccountTwice { .. })).await;
    check(&|c| c.consumer = "cdc".into(), &|e| matches!(e, BadCharge::AccountOfAnother { .. })).await;
    check(&|c| drop(c.accounts.remove(0)), &|e| matches!(e, BadCharge::ConsumerPaysNothing { .. })).await;
    let named = |c: &mut Charge, key: String| c.idempotency = Some(Idempotency { key, request_hash: [0; 32] });
    check(&|c| named(c, String::new()), &|e| matches!(e, BadCharge::IdempotencyKeyLength { .. })).await;
    check(&|c| named(c, "k".repeat(256)), &|e| matches!(e, BadCharge::IdempotencyKeyLength { .. })).await;
    assert_eq!(store.check().await.unwrap().charges, 0);
}

pub(super) async fn windows_are_accounts_of_their_own(store: &dyn Store) {
    store.add_consumer("dot", None, &OPERATOR).await.unwrap();
    let in_window = |release, window: &str| {
        let mut charge = charge("dot", release, 60);
        charge.accounts[0].account.window = window.into();
        charge
    };
    charged(store, &in_window(1, "2026-11")).await;
    assert!(matches!(store.charge(&in_window(2, "2026-11")).await.unwrap(), ChargeOutcome::Refused { .. }));
    charged(store, &in_window(2, "2026-12")).await;
    // What was paid for in the old window is not paid for again in the new one.
    assert!(matches!(store.charge(&in_window(1, "2026-12")).await.unwrap(), ChargeOutcome::AlreadyPaid { .. }));
    assert_eq!(store.check().await.unwrap().accounts, 3);
}

pub(super) async fn the_releases_of_a_query_are_paid_together_or_not_at_all(store: &dyn Store) {
    store.add_consumer("dot", None, &OPERATOR).await.unwrap();
    // Each fits alone; the second does not after the first.
    let outcomes = store.charge_all(&[charge("dot", 1, 60), charge("dot", 2, 60)]).await.unwrap();
    assert!(matches!(&outcomes[..], [ChargeOutcome::Refused { .. }]), "{outcomes:?}");
    assert_eq!(spent(store, "dot").await, [None, None]);
    assert_eq!(store.has_paid("dot", ReleaseKey([1; 32]), 1).await.unwrap(), None);
    let outcomes = store.charge_all(&[charge("dot", 1, 60), charge("dot", 2, 40)]).await.unwrap();
    assert!(outcomes.iter().all(|outcome| matches!(outcome, ChargeOutcome::Charged { .. })), "{outcomes:?}");
    assert_eq!(spent(store, "dot").await[0], Some(zcdp_spent(100, 2)));
    // What was paid for is free beside what is not there.
    let outcomes = store.charge_all(&[charge("dot", 1, 60), charge("dot", 3, 1)]).await.unwrap();
    assert!(matches!(&outcomes[..], [ChargeOutcome::Refused { .. }]), "{outcomes:?}");
    let outcomes = store.charge_all(&[charge("dot", 1, 60), charge("dot", 2, 40)]).await.unwrap();
    assert!(outcomes.iter().all(|outcome| matches!(outcome, ChargeOutcome::AlreadyPaid { .. })), "{outcomes:?}");
    assert_eq!(spent(store, "dot").await[0], Some(zcdp_spent(100, 2)));
}
