//! The record of events: its form is kept for good, and says all that a charge's cost says.

use proptest::prelude::*;

use super::*;
use crate::accounting::event::{Event, EventsError, from_json, to_json};

/// One event of each kind, at the ends of what it can hold.
fn one_of_each() -> Vec<Event> {
    vec![
        Event::DiscreteGaussian { squared_sensitivity: u128::MAX, variance: dyadic("13107/65536") },
        Event::DiscreteLaplace { sensitivity: 8, scale: dyadic("40") },
        Event::Exponential { epsilon: dyadic("1/1267650600228229401496703205376"), draws: u64::MAX },
        Event::Selection { delta: Delta::from_steps(1_000_000_000) },
        Event::Zcdp { rho: Rho::MAX },
        Event::Pure { epsilon: Epsilon::from_steps(200_000_000_000) },
    ]
}

#[test]
fn the_first_form_is_as_it_was() {
    // Ledgers hold this: it must be read for good. A change of what is written is a new form, with a new number.
    let first = concat!(
        r#"{"version":1,"events":["#,
        r#"{"mechanism":"discrete_gaussian","squared_sensitivity":"340282366920938463463374607431768211455","variance":"13107/65536"},"#,
        r#"{"mechanism":"discrete_laplace","sensitivity":"8","scale":"40"},"#,
        r#"{"mechanism":"exponential","epsilon":"1/1267650600228229401496703205376","draws":18446744073709551615},"#,
        r#"{"mechanism":"selection","delta":1000000000},"#,
        r#"{"mechanism":"zcdp","rho":9223372036854775807},"#,
        r#"{"mechanism":"pure","epsilon":200000000000}]}"#,
    );
    assert_eq!(from_json(first).unwrap(), one_of_each());
    assert_eq!(to_json(&one_of_each()), first);
    assert_eq!(from_json(r#"{"version":1,"events":[]}"#).unwrap(), []);
}

#[test]
fn what_is_no_record_is_refused() {
    assert!(matches!(from_json(r#"{"version":2,"events":[],"more":1}"#), Err(EventsError::Version(2))));
    let of = |event: &str| format!(r#"{{"version":1,"events":[{event}]}}"#);
    for record in [
        "",
        "[]",
        r#"{"events":[]}"#,
        r#"{"version":0,"events":[]}"#,
        r#"{"version":1}"#,
        r#"{"version":1,"events":[],"more":1}"#,
        &of(r#"{"mechanism":"zcdp","rho":0.5}"#),
        &of(r#"{"mechanism":"zcdp","rho":-1}"#),
        &of(r#"{"mechanism":"zcdp"}"#),
        &of(r#"{"mechanism":"zcdp","rho":1,"more":1}"#),
        &of(r#"{"mechanism":"unheard_of","rho":1}"#),
        &of(r#"{"mechanism":"discrete_laplace","sensitivity":8,"scale":"40"}"#),
        &of(r#"{"mechanism":"discrete_laplace","sensitivity":"-8","scale":"40"}"#),
        &of(r#"{"mechanism":"discrete_laplace","sensitivity":"8","scale":"0"}"#),
        &of(r#"{"mechanism":"discrete_laplace","sensitivity":"8","scale":"2/3"}"#),
        &of(r#"{"mechanism":"discrete_laplace","sensitivity":"8","scale":"2/0"}"#),
        &of(r#"{"mechanism":"discrete_laplace","sensitivity":"8","scale":"1/2535301200456458802993406410752"}"#),
    ] {
        assert!(matches!(from_json(record), Err(EventsError::Malformed(_))), "{record}");
    }
}

#[test]
fn costs_of_single_events() {
    let zcdp = |steps| Some(Cost { loss: Loss::Zcdp(Rho::from_steps(steps)), delta: Delta::ZERO });
    let pure = |value| Some(Cost { loss: Loss::Pure(epsilon(value)), delta: Delta::ZERO });
    // 8/(2·200), and a third of it to the next step.
    let gaussian = |variance| Event::DiscreteGaussian { squared_sensitivity: 8, variance: dyadic(variance) };
    assert_eq!(gaussian("200").cost(Accounting::Zcdp), zcdp(20_000_000_000));
    assert_eq!(gaussian("600").cost(Accounting::Zcdp), zcdp(6_666_666_667));
    assert_eq!(gaussian("200").cost(Accounting::Pure), None);
    let laplace = Event::DiscreteLaplace { sensitivity: 8, scale: dyadic("16") };
    assert_eq!(laplace.cost(Accounting::Pure), pure(0.5));
    assert_eq!(laplace.cost(Accounting::Zcdp), zcdp(125_000_000_000));
    // Four draws of ε = 1/2: ρ = 4·(1/4)/8, ε = 2.
    let exponential = Event::Exponential { epsilon: dyadic("1/2"), draws: 4 };
    assert_eq!(exponential.cost(Accounting::Zcdp), zcdp(125_000_000_000));
    assert_eq!(exponential.cost(Accounting::Pure), pure(2.0));
    for accounting in [Accounting::Zcdp, Accounting::Pure] {
        let selection = Event::Selection { delta: delta(1e-9) };
        assert_eq!(selection.cost(accounting), Some(Cost { loss: Loss::nothing(accounting), delta: delta(1e-9) }));
    }
}

#[test]
fn a_cost_without_events_becomes_events_of_that_cost() {
    let cost = Cost { loss: Loss::Zcdp(rho(0.02)), delta: delta(1e-9) };
    assert_eq!(Event::of_cost(cost), [Event::Zcdp { rho: rho(0.02) }, Event::Selection { delta: delta(1e-9) }]);
    let cost = Cost { loss: Loss::Pure(epsilon(0.2)), delta: Delta::ZERO };
    assert_eq!(Event::of_cost(cost), [Event::Pure { epsilon: epsilon(0.2) }]);
}

fn any_dyadic() -> impl Strategy<Value = Dyadic> {
    (1..=u128::MAX, 0..=Dyadic::MAX_SHIFT).prop_filter_map("zero", |(numerator, shift)| Dyadic::new(numerator, shift))
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (any::<u128>(), any_dyadic())
            .prop_map(|(squared_sensitivity, variance)| Event::DiscreteGaussian { squared_sensitivity, variance }),
        (any::<u128>(), any_dyadic()).prop_map(|(sensitivity, scale)| Event::DiscreteLaplace { sensitivity, scale }),
        (any_dyadic(), any::<u64>()).prop_map(|(epsilon, draws)| Event::Exponential { epsilon, draws }),
        any::<u64>().prop_map(|steps| Event::Selection { delta: Delta::from_steps(steps) }),
        any::<u64>().prop_map(|steps| Event::Zcdp { rho: Rho::from_steps(steps) }),
        any::<u64>().prop_map(|steps| Event::Pure { epsilon: Epsilon::from_steps(steps) }),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read(events in prop::collection::vec(any_event(), 0..8)) {
        prop_assert_eq!(from_json(&to_json(&events)).unwrap(), events);
    }
}
