//! Which draw is kept, and who is shown it.

use super::*;

pub(super) async fn another_delta_is_another_draw(store: &dyn Store) {
    for name in ["dot", "cdc", "fed"] {
        store.add_consumer(name, None, &OPERATOR).await.unwrap();
    }
    let key = ReleaseKey([1; 32]);
    let cheap = charged(store, &with_delta(charge("dot", 1, 10), 3)).await;
    let dear = charged(store, &with_delta(charge("cdc", 1, 10), 5)).await;
    assert_eq!(spent(store, "dot").await[1], Some(zcdp_spent(20, 8)));
    // Both draws are kept: neither consumer is shown what it has not paid for.
    assert_eq!(store.keep_release(key, 10, dear, b"dear", "{}").await.unwrap().payload, b"dear");
    assert_eq!(store.held_for("dot", key, 10).await.unwrap(), None);
    assert_eq!(store.keep_release(key, 10, cheap, b"cheap", "{}").await.unwrap().payload, b"cheap");
    assert_eq!(store.held_for("dot", key, 10).await.unwrap().unwrap().payload, b"cheap");
    assert_eq!(store.held_for("cdc", key, 10).await.unwrap().unwrap().payload, b"dear");
    let ChargeOutcome::Charged { shared, .. } = store.charge(&with_delta(charge("fed", 1, 10), 5)).await.unwrap()
    else {
        panic!("not charged")
    };
    assert!(shared);
    assert_eq!(store.held_for("fed", key, 10).await.unwrap().unwrap().payload, b"dear");
    // Each with its own charge and the δ that it paid, whoever drew.
    let paid = async |consumer: &str| {
        let paid = store.paid_draw(consumer, key, 10).await.unwrap().unwrap();
        (paid.charge, paid.delta.steps(), paid.held.charge_id, paid.held.payload)
    };
    assert_eq!(paid("dot").await, (cheap, 3, cheap, b"cheap".to_vec()));
    assert_eq!(paid("cdc").await, (dear, 5, dear, b"dear".to_vec()));
    let of_fed = paid("fed").await;
    assert!(of_fed.0 > dear, "{of_fed:?}");
    assert_eq!((of_fed.1, of_fed.2, of_fed.3), (5, dear, b"dear".to_vec()));
}

pub(super) async fn the_first_stored_draw_wins(store: &dyn Store) {
    store.add_consumer("dot", None, &OPERATOR).await.unwrap();
    store.add_consumer("cdc", None, &OPERATOR).await.unwrap();
    let key = ReleaseKey([1; 32]);
    let first = charged(store, &charge("dot", 1, 10)).await;
    let second = charged(store, &charge("cdc", 1, 10)).await;
    // The one that shares may well be the one that draws first.
    let kept = store.keep_release(key, 10, second, b"theirs", r#"{"scale":1}"#).await.unwrap();
    let expected =
        HeldRelease { precision: 10, charge_id: second, payload: b"theirs".into(), facts: r#"{"scale":1}"#.into() };
    assert_eq!(kept, expected);
    assert_eq!(store.keep_release(key, 10, first, b"ours", "{}").await.unwrap(), expected);
    assert_eq!(store.keep_release(key, 10, second, b"theirs again", "{}").await.unwrap(), expected);
    for consumer in ["dot", "cdc"] {
        assert_eq!(store.held_for(consumer, key, 1).await.unwrap(), Some(expected.clone()));
    }
    // What would be said of a draw that is not kept is not said.
    let said =
        |at| Entry { at, by: None, decision: Decision::Shown { charge: first, datasets: vec![FLIGHTS.to_owned()] } };
    let draw = |release| NewDraw {
        key: ReleaseKey([release; 32]),
        precision: 10,
        charge: first,
        payload: b"ours".into(),
        facts: "{}".into(),
    };
    let size = store.log_tree().await.unwrap().size();
    let kept = store.keep_and_record(draw(1), said(Utc::now()), Vec::new()).await.unwrap();
    assert_eq!(kept, (expected.clone(), None));
    assert_eq!(store.log_tree().await.unwrap().size(), size);
    let unpaid = store.keep_and_record(draw(2), said(Utc::now()), Vec::new()).await;
    assert!(matches!(unpaid, Err(LedgerError::NotPaidFor { .. })), "{unpaid:?}");
    let other = charged(store, &charge("dot", 3, 10)).await;
    let size = store.log_tree().await.unwrap().size();
    let draw = NewDraw { charge: other, ..draw(3) };
    let (held, receipt) = store.keep_and_record(draw, said(Utc::now()), Vec::new()).await.unwrap();
    assert_eq!((held.payload, held.charge_id), (b"ours".to_vec(), other));
    // Behind the entry of the draw itself.
    assert_eq!(receipt.unwrap().log_index, size + 1);
    assert_eq!(store.log_tree().await.unwrap().size(), size + 2);
    assert_eq!(store.held_release(key, 10).await.unwrap(), Some(expected));
    assert_eq!(store.held_release(key, 11).await.unwrap(), None);
    assert_eq!(store.check().await.unwrap().held_releases, 2);
}

pub(super) async fn a_draw_must_have_been_paid_for(store: &dyn Store) {
    store.add_consumer("dot", None, &OPERATOR).await.unwrap();
    let paid = charged(store, &charge("dot", 1, 10)).await;
    for (key, precision, charge) in [(1, 11, paid), (1, 9, paid), (2, 10, paid), (1, 10, ChargeId(paid.0 + 1))] {
        let kept = store.keep_release(ReleaseKey([key; 32]), precision, charge, b"answer", "{}").await;
        assert!(matches!(kept, Err(LedgerError::NotPaidFor { .. })), "{kept:?}");
    }
    assert_eq!(store.check().await.unwrap().held_releases, 0);
}

/// Precision and cost come from the caller apart: a draw is one's own only if both agree, however one is worked out from
/// the other.
pub(super) async fn the_same_cost_at_another_precision_is_another_draw(store: &dyn Store) {
    for name in ["dot", "cdc", "fed"] {
        store.add_consumer(name, None, &OPERATOR).await.unwrap();
    }
    let key = ReleaseKey([1; 32]);
    let at = |consumer, precision| Charge { precision, ..charge(consumer, 1, 10) };
    let coarse = charged(store, &at("dot", 10)).await;
    store.keep_release(key, 10, coarse, b"coarse", "{}").await.unwrap();
    // Neither a finer draw nor a coarser one has been paid for by another.
    for (consumer, precision) in [("cdc", 20), ("fed", 5)] {
        let outcome = store.charge(&at(consumer, precision)).await.unwrap();
        assert!(matches!(outcome, ChargeOutcome::Charged { shared: false, .. }), "{consumer}: {outcome:?}");
        assert_eq!(store.held_for(consumer, key, 1).await.unwrap(), None, "{consumer}");
    }
}

pub(super) async fn a_consumer_is_shown_only_what_it_paid_for(store: &dyn Store) {
    for name in ["dot", "cdc", "fed"] {
        store.add_consumer(name, None, &OPERATOR).await.unwrap();
    }
    let key = ReleaseKey([1; 32]);
    let coarse = charged(store, &charge("dot", 1, 10)).await;
    let fine = charged(store, &charge("cdc", 1, 20)).await;
    store.keep_release(key, 20, fine, b"fine", "{}").await.unwrap();
    // dot paid for 10 and is not given the 20; nor is fed, which paid for nothing, given anything.
    assert_eq!(store.held_for("dot", key, 1).await.unwrap(), None);
    assert_eq!(store.held_for("fed", key, 1).await.unwrap(), None);
    store.keep_release(key, 10, coarse, b"coarse", "{}").await.unwrap();
    assert_eq!(store.held_for("dot", key, 1).await.unwrap().unwrap().payload, b"coarse");
    // cdc paid for 20 and is not given the 10 on top, which with the 20 would tell more than either.
    assert_eq!(store.held_for("cdc", key, 1).await.unwrap().unwrap().payload, b"fine");
    assert_eq!(store.held_for("cdc", key, 21).await.unwrap(), None);
    let paid = async |consumer: &str, least| {
        store.paid_draw(consumer, key, least).await.unwrap().map(|paid| (paid.charge, paid.held.payload))
    };
    assert_eq!(paid("dot", 1).await, Some((coarse, b"coarse".to_vec())));
    assert_eq!(paid("dot", 11).await, None);
    assert_eq!(paid("cdc", 1).await, Some((fine, b"fine".to_vec())));
    assert_eq!(paid("fed", 1).await, None);
    assert_eq!(store.held_release(key, 1).await.unwrap().unwrap().payload, b"fine");
}
