//! What reports are made of.

use super::*;

/// A charge of `rho` by `consumer` on `day` days after noon, with a second account of its own of another window.
fn charge_of_two(consumer: &str, release: u8, rho: u64, day: i64) -> Charge {
    let mut charge = charge_on(FLIGHTS, consumer, release, rho);
    let mut month = charge.accounts[0].clone();
    month.account.window = "2026-09".into();
    charge.accounts.push(month);
    charge.at = noon() + chrono::Duration::days(day);
    charge.query.events = format!("release {}", release % 2);
    charge
}

async fn spend(store: &dyn Store, by: &[Dimension]) -> Vec<SpendLine> {
    store.spend(&SpendQuery { by: by.to_vec(), ..SpendQuery::default() }).await.unwrap()
}

pub(super) async fn what_a_consumer_pays_is_counted_once(store: &dyn Store) {
    store.add_consumer("dot", None, &OPERATOR).await.unwrap();
    store.add_consumer("tim", None, &OPERATOR).await.unwrap();
    charged(store, &charge_of_two("dot", 1, 7, 0)).await;
    charged(store, &charge_of_two("dot", 2, 5, 1)).await;
    charged(store, &charge_of_two("tim", 2, 5, 40)).await;
    let line = |values: &[&str], charges: u64, loss_steps: u128| SpendLine {
        values: values.iter().map(|value| Some((*value).to_owned())).collect(),
        accounting: Accounting::Zcdp,
        charges,
        queries: charges,
        loss_steps,
        delta_steps: charges.into(),
        reused: 0,
        saved_steps: 0,
        saved_delta_steps: 0,
    };
    let by = spend(store, &[Dimension::Consumer, Dimension::Purpose]).await;
    assert_eq!(by, [line(&["dot", "statistics"], 2, 12), line(&["tim", "statistics"], 1, 5)]);
    // Two releases of one query identifier are one query.
    let all = spend(store, &[]).await;
    assert_eq!(all, [SpendLine { queries: 2, ..line(&[], 3, 17) }]);
    let by = spend(store, &[Dimension::Day, Dimension::Dataset]).await;
    let days: Vec<&str> = by.iter().filter_map(|line| line.values[0].as_deref()).collect();
    assert_eq!(days, ["2026-09-21", "2026-09-22", "2026-10-31"]);
    let from_second = SpendQuery { from: Some(noon() + chrono::Duration::days(1)), ..SpendQuery::default() };
    assert_eq!(store.spend(&from_second).await.unwrap()[0].loss_steps, 10);
    let until_second = SpendQuery { until: Some(noon() + chrono::Duration::days(1)), ..SpendQuery::default() };
    assert_eq!(store.spend(&until_second).await.unwrap()[0].loss_steps, 7);
    let elsewhere = SpendQuery { datasets: vec!["delta.flights".into()], ..SpendQuery::default() };
    assert_eq!(store.spend(&elsewhere).await.unwrap(), []);
}

pub(super) async fn a_lifetime_is_every_charge_once(store: &dyn Store) {
    store.add_consumer("dot", None, &OPERATOR).await.unwrap();
    store.add_consumer("tim", None, &OPERATOR).await.unwrap();
    charged(store, &charge_of_two("dot", 1, 7, 0)).await;
    charged(store, &charge_of_two("dot", 2, 5, 40)).await;
    charged(store, &charge_of_two("tim", 2, 5, 40)).await;
    let sum = |scope: Scope, loss_steps, delta_steps| LifetimeSum {
        scope,
        dataset: FLIGHTS.into(),
        epoch: None,
        accounting: Accounting::Zcdp,
        loss_steps,
        delta_steps,
    };
    let consumer = |name: &str| Scope::Consumer(name.into());
    // All consumers have paid for the second draw once.
    let all = store.lifetimes(&AccountSearch::default()).await.unwrap();
    let expected = [sum(consumer("dot"), 12, 2), sum(consumer("tim"), 5, 1), sum(Scope::AllConsumers, 12, 2)];
    assert_eq!(all, expected);
    let own = AccountSearch { consumer: Some("tim".into()), ..AccountSearch::default() };
    assert_eq!(store.lifetimes(&own).await.unwrap(), [sum(consumer("tim"), 5, 1)]);
    let of_month = AccountSearch { windows: vec!["2026-09".into()], ..own };
    let accounts = store.accounts(&of_month).await.unwrap();
    assert_eq!(accounts.len(), 1);
    assert_eq!((accounts[0].account.window.as_str(), accounts[0].spent), ("2026-09", zcdp_spent(5, 1)));
    let days = store.days(&consumer_account("dot", FLIGHTS)).await.unwrap();
    let days: Vec<(String, u64, u128, u128)> =
        days.iter().map(|day| (day.day.to_string(), day.charges, day.loss_steps, day.delta_steps)).collect();
    assert_eq!(days, [("2026-09-21".to_owned(), 1, 7, 1), ("2026-10-31".to_owned(), 1, 5, 1)]);
}

pub(super) async fn noise_is_grouped_by_what_was_drawn(store: &dyn Store) {
    store.add_consumer("dot", None, &OPERATOR).await.unwrap();
    for (release, rho) in [(1, 7), (3, 7), (2, 7), (5, 4)] {
        charged(store, &charge_of_two("dot", release, rho, 0)).await;
    }
    let groups = store.events(&Scope::Consumer("dot".into()), FLIGHTS, None).await.unwrap();
    let group = |events: &str, rho, charges| EventGroup { events: events.into(), drawn: zcdp_cost(rho, 1), charges };
    assert_eq!(groups, [group("release 0", 7, 1), group("release 1", 4, 1), group("release 1", 7, 2)]);
    assert_eq!(store.events(&Scope::AllConsumers, FLIGHTS, None).await.unwrap(), groups);
    assert_eq!(store.events(&Scope::AllConsumers, FLIGHTS, Some("2026")).await.unwrap(), []);
}

pub(super) async fn the_dearest_queries_come_first(store: &dyn Store) {
    store.add_consumer("dot", None, &OPERATOR).await.unwrap();
    for (release, rho) in [(1, 7), (2, 30), (3, 9)] {
        charged(store, &charge_of_two("dot", release, rho, 0)).await;
    }
    let search = |order, limit| QuerySearch { order, limit, ..QuerySearch::default() };
    let losses = |lines: Vec<QueryLine>| lines.iter().map(|line| line.cost.loss.steps()).collect::<Vec<_>>();
    assert_eq!(losses(store.queries(&search(QueryOrder::Dearest, 2)).await.unwrap()), [30, 9]);
    assert_eq!(losses(store.queries(&search(QueryOrder::Newest, 9)).await.unwrap()), [9, 30, 7]);
    let pure = QuerySearch { accounting: Some(Accounting::Pure), ..search(QueryOrder::Dearest, 9) };
    assert_eq!(store.queries(&pure).await.unwrap(), []);
    let others = QuerySearch { consumer: Some("tim".into()), ..search(QueryOrder::Dearest, 9) };
    assert_eq!(store.queries(&others).await.unwrap(), []);
}

pub(super) async fn a_threshold_is_noted_once(store: &dyn Store) {
    let account = consumer_account("dot", FLIGHTS);
    let passed = |percents: &[u64]| percents.iter().map(|percent| (account.clone(), *percent)).collect::<Vec<_>>();
    assert_eq!(store.note_thresholds(&passed(&[50, 80])).await.unwrap(), passed(&[50, 80]));
    assert_eq!(store.note_thresholds(&passed(&[50, 80, 100])).await.unwrap(), passed(&[100]));
    assert_eq!(store.note_thresholds(&passed(&[50])).await.unwrap(), []);
}
