//! What reports say of the past: never more than zCDP, never less than is true; and conversions are monotone.

use proptest::prelude::*;

use super::*;
use crate::accounting::rdp::Curve;
use crate::accounting::restate::{Accountant, counted, restate};

fn pure(value: f64) -> Event {
    Event::Pure { epsilon: epsilon(value) }
}

#[test]
fn equal_events_are_counted_together() {
    let gaussian = Event::DiscreteGaussian { squared_sensitivity: 8, variance: dyadic("200") };
    assert_eq!(counted([pure(0.1), gaussian, pure(0.1)]), [(gaussian, 1), (pure(0.1), 2)]);
}

#[test]
fn the_smallest_sound_figure_is_reported() {
    let of = |events: &[(Event, u64)], d: f64| restate(events, delta(d));
    // Few pure charges: their sum. Many: the loss distribution, about √(2·n·ln(1/δ))·ε.
    assert_eq!(of(&[(pure(0.1), 2)], 1e-18).accountant, Accountant::Pure);
    let many = of(&[(pure(0.1), 400)], 1e-9);
    assert_eq!(many.accountant, Accountant::LossDistribution);
    assert!(many.epsilon < 14.0 && many.epsilon > 10.0, "{many:?}");
    // Gaussian noise alone: as ever. With quantiles of some size: the Rényi curve of their bounded range.
    let gaussian = Event::DiscreteGaussian { squared_sensitivity: 1, variance: dyadic("50") };
    let quantile = Event::Exponential { epsilon: dyadic("3"), draws: 2 };
    let zcdp = epsilon_of(rho(0.1), delta(1e-9));
    assert!((of(&[(gaussian, 10)], 1e-9).epsilon - zcdp).abs() < zcdp * 1e-7);
    let mixed = of(&[(gaussian, 10), (quantile, 1)], 1e-9);
    assert_eq!(mixed.accountant, Accountant::Renyi);
    assert!(mixed.epsilon < epsilon_of(rho(0.1 + 2.25), delta(1e-9)) * 0.99, "{mixed:?}");
}

#[test]
fn selections_are_paid_first() {
    let selection = Event::Selection { delta: delta(1e-10) };
    let events = [(Event::Zcdp { rho: rho(0.01) }, 1), (selection, 4)];
    let without = epsilon_of_events(&events[..1], delta(6e-10));
    assert_eq!(epsilon_of_events(&events, delta(1e-9)), without);
    assert_eq!(epsilon_of_events(&events, delta(3e-10)), f64::INFINITY);
    // Pure noise needs no δ beside that of its selections.
    let exactly = epsilon_of_events(&[(pure(0.5), 2), (selection, 4)], delta(4e-10));
    assert!((exactly - 1.0).abs() < 1e-12, "{exactly}");
    assert_eq!(epsilon_of_events(&[(selection, 4)], delta(4e-10)), 0.0);
    assert_eq!(epsilon_of_events(&[(selection, u64::MAX)], Delta::MAX), f64::INFINITY);
    assert_eq!(epsilon_of_events(&[], Delta::ZERO), 0.0);
    // What cannot be held is not reported as less.
    assert_eq!(epsilon_of_events(&[(Event::Zcdp { rho: Rho::MAX }, 2)], Delta::ZERO), f64::INFINITY);
}

/// Events of the sizes that queries have, and some far from them.
fn any_event() -> impl Strategy<Value = (Event, u64)> {
    let dyadic = |from: u128, to: u128| (from..=to, 0_u32..=10).prop_map(|(n, shift)| Dyadic::new(n, shift).unwrap());
    let event = prop_oneof![
        4 => (1_u128..1_000, dyadic(1, 1 << 24))
            .prop_map(|(squared_sensitivity, variance)| Event::DiscreteGaussian { squared_sensitivity, variance }),
        2 => (1_u128..1_000, dyadic(1, 1 << 20))
            .prop_map(|(sensitivity, scale)| Event::DiscreteLaplace { sensitivity, scale }),
        2 => (dyadic(1, 1_000), 1_u64..20).prop_map(|(epsilon, draws)| Event::Exponential { epsilon, draws }),
        1 => (0_u64..1_000_000_000).prop_map(|steps| Event::Selection { delta: Delta::from_steps(steps) }),
        1 => (0_u64..1 << 40).prop_map(|steps| Event::Zcdp { rho: Rho::from_steps(steps) }),
        1 => (0_u64..1 << 41).prop_map(|steps| Event::Pure { epsilon: Epsilon::from_steps(steps) }),
    ];
    (event, 1_u64..50)
}

/// What the ledger would have charged: the sums of whole steps.
fn charged(events: &[(Event, u64)], accounting: Accounting) -> Option<Spent> {
    events.iter().try_fold(Spent::nothing(accounting), |spent, (event, count)| {
        let cost = event.cost(accounting)?;
        (0..*count).try_fold(spent, |spent, _| spent.after(cost))
    })
}

#[derive(Debug, Clone, Copy)]
enum Request {
    /// As much as is left, in this part of 16.
    PartOfRest(u64),
    /// Noise of that variance, for a D² of 8, with a selection.
    Gaussian(u128, u64),
    /// A draw in each of 8 groups.
    Exponential(u128),
    /// Laplace noise of that scale, for a D₁ of 8.
    Laplace(u128),
}

fn any_request() -> impl Strategy<Value = Request> {
    prop_oneof![
        (0_u64..=16).prop_map(Request::PartOfRest),
        (100_u128..1_000_000, 0_u64..1_000_000_000_000)
            .prop_map(|(variance, delta)| Request::Gaussian(variance, delta)),
        (1_u128..2_000).prop_map(Request::Exponential),
        (10_u128..10_000).prop_map(Request::Laplace),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn conversions_are_monotone(
        rho in 1_u64..1 << 44,
        more in 0_u64..1 << 40,
        d in 1_u64..1_000_000_000_000_000,
        e in 0_u64..1 << 44,
    ) {
        let (less_rho, more_rho) = (Rho::from_steps(rho), Rho::from_steps(rho + more));
        let (less_delta, more_delta) = (Delta::from_steps(d), Delta::from_steps(d + more));
        let (less_epsilon, more_epsilon) = (Epsilon::from_steps(e), Epsilon::from_steps(e + more));
        // δ and ε are floats above the truth by no more than 10⁻⁸ of it, and may move against each other within that.
        let above = 1.0 + 1e-7;
        prop_assert!(delta_of(less_rho.to_f64(), e as f64 * 1e-12) <= delta_of(more_rho.to_f64(), e as f64 * 1e-12) * above);
        prop_assert!(delta_of(rho as f64 * 1e-12, more_epsilon.to_f64()) <= delta_of(rho as f64 * 1e-12, less_epsilon.to_f64()) * above);
        prop_assert!(epsilon_of(less_rho, less_delta) <= epsilon_of(more_rho, less_delta) * above + 1e-12);
        prop_assert!(epsilon_of(less_rho, more_delta) <= epsilon_of(less_rho, less_delta) * above + 1e-12);
        // Prices and limits are whole steps: one or two may go the same way.
        prop_assert!(rho_for(less_epsilon, less_delta).steps() <= rho_for(more_epsilon, less_delta).steps() + 2);
        prop_assert!(rho_for(less_epsilon, less_delta).steps() <= rho_for(less_epsilon, more_delta).steps() + 2);
        let curve = |rho| Curve::of(&[(Event::Zcdp { rho }, 1), (Event::Pure { epsilon: less_epsilon }, 1)]);
        prop_assert!(curve(less_rho).epsilon(less_delta.to_f64()).0 <= curve(more_rho).epsilon(less_delta.to_f64()).0 * above);
        prop_assert!(curve(less_rho).epsilon(more_delta.to_f64()).0 <= curve(less_rho).epsilon(less_delta.to_f64()).0 * above);
    }

    #[test]
    fn restating_never_says_more_than_what_was_charged(
        events in prop::collection::vec(any_event(), 0..12),
        d in 1_000_000_u64..1_000_000_000_000_000,
    ) {
        let restated = epsilon_of_events(&events, Delta::from_steps(d));
        if let Some(Spent { loss: Loss::Zcdp(rho), delta: selections }) = charged(&events, Accounting::Zcdp) {
            if let Some(left) = d.checked_sub(selections.steps()) {
                prop_assert!(restated <= epsilon_of(rho, Delta::from_steps(left)), "{restated}");
            } else {
                prop_assert_eq!(restated, f64::INFINITY);
            }
        }
        if let Some(Spent { loss: Loss::Pure(epsilon), delta: selections }) = charged(&events, Accounting::Pure)
            && selections.steps() <= d
        {
            prop_assert!(restated <= epsilon.to_f64() * (1.0 + 1e-14), "{restated} {epsilon}");
        }
        // More events are never less, but for the coarseness of a grid that all of them share.
        let fewer = epsilon_of_events(&events[..events.len() / 2], Delta::from_steps(d));
        prop_assert!(fewer <= restated * 1.003 + 1e-9, "{fewer} {restated}");
    }

    /// Whoever asks looks at what is left before each request: the filter's sums keep the whole within the budget, as the
    /// Rényi accountant sees it.
    #[test]
    fn what_the_filter_admits_stays_within_the_budget(
        e in 1_u64..400,
        d in 1_u64..1_000,
        requests in prop::collection::vec(any_request(), 1..60),
    ) {
        let budget = (Epsilon::from_steps(e * 10_000_000_000), Delta::from_steps(d * 10_000_000_000));
        let limit = Limit::from_budget(Accounting::Zcdp, budget.0, budget.1);
        let mut spent = Spent::nothing(Accounting::Zcdp);
        let mut admitted = Vec::new();
        for request in requests {
            let events = match request {
                Request::PartOfRest(part) => {
                    let rest = left(&limit, &spent);
                    let loss = Loss::from_steps(Accounting::Zcdp, rest.loss.steps() / 16 * part);
                    Event::of_cost(Cost { loss, delta: Delta::from_steps(rest.delta.steps() / 16 * part) })
                }
                Request::Gaussian(variance, delta) => vec![
                    Event::DiscreteGaussian { squared_sensitivity: 8, variance: Dyadic::new(variance, 0).unwrap() },
                    Event::Selection { delta: Delta::from_steps(delta) },
                ],
                Request::Exponential(n) => vec![Event::Exponential { epsilon: Dyadic::new(n, 10).unwrap(), draws: 8 }],
                Request::Laplace(scale) => {
                    vec![Event::DiscreteLaplace { sensitivity: 8, scale: Dyadic::new(scale, 0).unwrap() }]
                }
            };
            let costs = events.iter().map(|event| event.cost(Accounting::Zcdp).unwrap());
            let mut total = Spent::nothing(Accounting::Zcdp);
            for cost in costs {
                total = total.after(cost).unwrap();
            }
            let cost = Cost { loss: total.loss, delta: total.delta };
            if fits(&limit, &spent, &cost) {
                spent = spent.after(cost).unwrap();
                admitted.extend(events);
            }
        }
        let admitted = counted(admitted);
        let rest = budget.1.steps() - spent.delta.steps();
        let (renyi, _) = Curve::of(&admitted).epsilon(Delta::from_steps(rest).to_f64());
        prop_assert!(renyi <= budget.0.to_f64() * (1.0 + 1e-7), "{renyi} of {}", budget.0);
        prop_assert!(epsilon_of_events(&admitted, budget.1) <= budget.0.to_f64() * (1.0 + 1e-9));
    }
}
