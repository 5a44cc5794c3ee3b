//! Consumers, tokens and grants.

use super::*;

pub(super) async fn unknown_and_frozen_consumers_are_refused(store: &dyn Store) {
    let error = store.charge(&charge("dot", 1, 1)).await.unwrap_err();
    assert!(matches!(error, LedgerError::UnknownConsumer { .. }), "{error:?}");
    let error = store.set_frozen("dot", true, &OPERATOR).await.unwrap_err();
    assert!(matches!(error, LedgerError::UnknownConsumer { .. }), "{error:?}");

    store.add_consumer("dot", None, &OPERATOR).await.unwrap();
    let key = ReleaseKey([1; 32]);
    let paid = with_key(charge("dot", 1, 1), "k", 1);
    let charge_id = charged(store, &paid).await;
    store.keep_release(key, 1, charge_id, b"answer", "{}").await.unwrap();
    store.set_frozen("dot", true, &OPERATOR).await.unwrap();
    assert!(store.consumer("dot").await.unwrap().unwrap().frozen);
    // Neither a new charge, nor what it has paid for before, by release or by key.
    for asked in [charge("dot", 2, 1), charge("dot", 1, 1), paid] {
        let error = store.charge(&asked).await.unwrap_err();
        assert!(matches!(error, LedgerError::Frozen { .. }), "{error:?}");
    }
    let error = store.held_for("dot", key, 1).await.unwrap_err();
    assert!(matches!(error, LedgerError::Frozen { .. }), "{error:?}");
    let error = store.paid_draw("dot", key, 1).await.unwrap_err();
    assert!(matches!(error, LedgerError::Frozen { .. }), "{error:?}");
    let error = store.paid_draw("nobody", key, 1).await.unwrap_err();
    assert!(matches!(error, LedgerError::UnknownConsumer { .. }), "{error:?}");
    store.set_frozen("dot", false, &OPERATOR).await.unwrap();
    assert!(store.held_for("dot", key, 1).await.unwrap().is_some());
    charged(store, &charge("dot", 2, 1)).await;
}

pub(super) async fn names_cannot_run_into_one_another(store: &dyn Store) {
    let account = |consumer: &str, dataset: &str, window: &str| Account {
        scope: Scope::Consumer(consumer.into()),
        dataset: dataset.into(),
        window: window.into(),
        epoch: None,
    };
    let names = ["a", "a/b", "b", "a%2Fb", "%", ""];
    let mut keys = std::collections::BTreeSet::new();
    for consumer in names {
        for dataset in names {
            for window in names {
                assert!(keys.insert(account(consumer, dataset, window).storage_key()));
            }
        }
    }
    assert_eq!(account("dot", "a.b", "lifetime").storage_key(), "consumer/dot/a.b/lifetime");
    assert_eq!(all_consumers_account("a.b").storage_key(), "all_consumers//a.b/lifetime");
    assert_eq!(account("dot", "a.b", "lifetime").to_string(), "consumer/a.b");
    assert_eq!(all_consumers_account("a.b").to_string(), "all_consumers/a.b");
    for bad in ["", "a b", "a/b", "-a", "*", "naïve", "a\n", &"a".repeat(65)] {
        let added = store.add_consumer(bad, None, &OPERATOR).await;
        assert!(matches!(added, Err(LedgerError::InvalidName { .. })), "{bad:?}: {added:?}");
        let added = store.add_consumer("dot", Some(bad), &OPERATOR).await;
        assert!(matches!(added, Err(LedgerError::InvalidName { .. })), "{bad:?}: {added:?}");
    }
}

pub(super) async fn grants_are_kept_exactly(store: &dyn Store) {
    let grant = |epsilon: f64, per: &str| Grant {
        epsilon: Epsilon::floor_from(epsilon).unwrap(),
        delta: Delta::floor_from(1e-6).unwrap(),
        per: per.into(),
    };
    let unknown = store.set_grant("dot", FLIGHTS, &grant(1.0, "month"), &OPERATOR).await;
    assert!(matches!(unknown, Err(LedgerError::UnknownConsumer { .. })), "{unknown:?}");
    store.add_consumer("dot", None, &OPERATOR).await.unwrap();
    assert_eq!(store.grant("dot", FLIGHTS).await.unwrap(), None);
    for granted in [grant(1.0, "month"), grant(0.25, "lifetime")] {
        store.set_grant("dot", FLIGHTS, &granted, &OPERATOR).await.unwrap();
        assert_eq!(store.grant("dot", FLIGHTS).await.unwrap(), Some(granted));
    }
    assert_eq!(store.grant("dot", "delta.flights").await.unwrap(), None);
}

pub(super) async fn consumers_are_listed_by_name(store: &dyn Store) {
    store.add_consumer("fed", None, &OPERATOR).await.unwrap();
    store.add_consumer("dot", Some("transport"), &OPERATOR).await.unwrap();
    let again = store.add_consumer("dot", None, &OPERATOR).await;
    assert!(matches!(again, Err(LedgerError::ConsumerExists { .. })), "{again:?}");
    let consumers = store.consumers().await.unwrap();
    let listed: Vec<_> = consumers.iter().map(|c| (c.name.as_str(), c.agency.as_deref(), c.frozen)).collect();
    assert_eq!(listed, [("dot", Some("transport"), false), ("fed", None, false)]);
    assert!((Utc::now() - consumers[0].created).num_seconds() < 60);
    assert_eq!(store.consumer("fed").await.unwrap().as_ref(), Some(&consumers[1]));
    assert_eq!(store.consumer("nobody").await.unwrap(), None);
}

pub(super) async fn tokens_prove_their_role_until_revoked(store: &dyn Store) {
    store.add_consumer("dot", None, &OPERATOR).await.unwrap();
    let analyst = NewToken { role: Role::Analyst, consumer: Some("dot".into()), owner: None };
    let (id, secret) = store.create_token(&analyst, &OPERATOR).await.unwrap();
    let (_, other) = store.create_token(&analyst, &OPERATOR).await.unwrap();
    assert_ne!(secret, other);
    assert!(secret.expose().starts_with("tg_") && secret.expose().len() == 67);
    assert!(!format!("{secret:?}").contains(secret.expose()));
    let token = store.token_for(secret.expose()).await.unwrap().unwrap();
    assert_eq!((token.id, token.role, token.consumer.as_deref()), (id, Role::Analyst, Some("dot")));
    for wrong in ["", "tg_", &secret.expose()[..66], &secret.expose().to_uppercase()] {
        assert_eq!(store.token_for(wrong).await.unwrap(), None);
    }
    store.revoke_token(id, &OPERATOR).await.unwrap();
    store.revoke_token(id, &OPERATOR).await.unwrap();
    assert_eq!(store.token_for(secret.expose()).await.unwrap(), None);
    assert!(store.token_for(other.expose()).await.unwrap().is_some());
    let unknown = store.revoke_token(Uuid::nil(), &OPERATOR).await;
    assert!(matches!(unknown, Err(LedgerError::UnknownToken { .. })), "{unknown:?}");
}

pub(super) async fn tokens_must_fit_their_role(store: &dyn Store) {
    store.add_consumer("dot", None, &OPERATOR).await.unwrap();
    for role in Role::ALL {
        assert_eq!(role.as_str().parse(), Ok(role));
        assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
        for consumer in [None, Some("dot".to_owned())] {
            for owner in [None, Some("united".to_owned())] {
                let fits = consumer.is_some() == (role == Role::Analyst) && owner.is_some() == (role == Role::Steward);
                let new = NewToken { role, consumer: consumer.clone(), owner };
                match store.create_token(&new, &OPERATOR).await {
                    Ok((_, secret)) => {
                        assert!(fits, "{new:?}");
                        let token = store.token_for(secret.expose()).await.unwrap().unwrap();
                        assert_eq!((token.role, token.consumer, token.owner), (role, new.consumer, new.owner));
                    }
                    Err(LedgerError::BadToken(_)) => assert!(!fits, "{new:?}"),
                    Err(other) => panic!("{other:?}"),
                }
            }
        }
    }
    assert_eq!("root".parse::<Role>(), Err(UnknownRole));
    let stranger = NewToken { role: Role::Analyst, consumer: Some("nobody".into()), owner: None };
    let unknown = store.create_token(&stranger, &OPERATOR).await;
    assert!(matches!(unknown, Err(LedgerError::UnknownConsumer { .. })), "{unknown:?}");
}
