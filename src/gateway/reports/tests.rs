//! What reports compute from sums.

use chrono::NaiveDate;

use super::amounts::{decimal, epsilon, loss_text};
use super::forecast::{Rate, renews};
use super::settlement::{amount_micros, epsilon_steps};
use super::span::Span;
use crate::accounting::{Accounting, Delta, Epsilon, epsilon_of, rho_for};
use crate::ledger::DaySpend;
use crate::policy::{Period, Price};

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn spent(on: &str, loss_steps: u128, delta_steps: u128) -> DaySpend {
    DaySpend { day: day(on), charges: 1, loss_steps, delta_steps }
}

#[test]
fn decimals_are_exact() {
    for (steps, places, text) in [
        (0, 12, "0"),
        (1, 12, "0.000000000001"),
        (675_000_000, 12, "0.000675"),
        (12_000_000_000_000, 12, "12"),
        (12_500_000, 6, "12.5"),
        // Beyond any float, and beyond 64 bits.
        (123_456_789_012_345_678_901_234_567, 12, "123456789012345.678901234567"),
    ] {
        assert_eq!(decimal(steps, places), text);
    }
    assert_eq!(loss_text(u64::MAX.into()), "18446744.073709551615");
}

#[test]
fn the_epsilon_of_a_sum_is_stated_at_half_of_the_delta() {
    let delta = Delta::floor_from(1e-6).unwrap();
    let half = Delta::floor_from(5e-7).unwrap();
    let rho = rho_for(Epsilon::floor_from(4.0).unwrap(), half);
    let stated = epsilon(Accounting::Zcdp, rho.steps().into(), delta).unwrap();
    assert_eq!(stated, epsilon_of(rho, half));
    assert!((3.999_999..=4.0).contains(&stated), "{stated}");
    assert_eq!(epsilon(Accounting::Zcdp, 0, delta), Some(0.0));
    assert_eq!(epsilon(Accounting::Pure, 1_500_000_000_000, delta), Some(1.5));
    // No figure rather than one that is too small.
    assert_eq!(epsilon(Accounting::Zcdp, u128::from(u64::MAX) * 2, delta), None);
    assert_eq!(epsilon(Accounting::Zcdp, 1, Delta::ZERO), None);
}

#[test]
fn a_rate_is_taken_since_the_first_charge_or_over_thirty_days() {
    let today = day("2026-11-26");
    assert_eq!(Rate::of(&[], today), None);
    // Five days, today among them; 100 of loss and 10 of δ.
    let young = Rate::of(&[spent("2026-11-22", 60, 10), spent("2026-11-26", 40, 0)], today).unwrap();
    assert_eq!((young.days, young.loss_steps, young.delta_steps), (5, 100, 10));
    // 20 a day: 199 lasts nine days and a part of the tenth.
    assert_eq!(young.exhausts(199, 1_000, today), Some(day("2026-12-05")));
    assert_eq!(young.exhausts(200, 1_000, today), Some(day("2026-12-06")));
    // δ runs out first: 2 a day.
    assert_eq!(young.exhausts(199, 3, today), Some(day("2026-11-27")));
    assert_eq!(young.exhausts(0, 1_000, today), Some(today));
    // What is older than thirty days does not count, and thirty days do.
    let old = [spent("2026-01-01", 1_000, 0), spent("2026-10-27", 500, 0), spent("2026-10-28", 30, 0)];
    let old = Rate::of(&old, today).unwrap();
    assert_eq!((old.days, old.loss_steps), (30, 30));
    assert_eq!(old.exhausts(10, 0, today), Some(day("2026-12-06")));
    assert_eq!(Rate::of(&[spent("2026-01-01", 1_000, 0)], today), None, "nothing of late");
    // No year that the calendar has.
    assert_eq!(old.exhausts(u128::MAX / 30, 0, today), None);
}

#[test]
fn windows_renew_on_their_first_day() {
    for (per, today, renewal) in [
        (Period::Month, "2026-11-26", Some("2026-12-01")),
        (Period::Month, "2026-12-31", Some("2027-01-01")),
        (Period::Quarter, "2026-11-26", Some("2027-01-01")),
        (Period::Quarter, "2026-01-01", Some("2026-04-01")),
        (Period::Year, "2028-02-29", Some("2029-01-01")),
        (Period::Lifetime, "2026-11-26", None),
    ] {
        assert_eq!(renews(per, day(today)), renewal.map(day), "{per} {today}");
    }
}

#[test]
fn amounts_are_rounded_once_and_half_up() {
    let amount = |epsilon_steps: u64, price: &str| {
        amount_micros(Epsilon::from_steps(epsilon_steps), Price::new(price, "EUR").unwrap())
    };
    // 0.3 at 12.50 is 3.75.
    assert_eq!(amount(300_000_000_000, "12.50"), 3_750_000);
    // 0.1234565 at 1 is half of a millionth above 0.123456, and a step less is below.
    assert_eq!(amount(123_456_500_000, "1"), 123_457);
    assert_eq!(amount(123_456_499_999, "1"), 123_456);
    assert_eq!(amount(0, "12.50"), 0);
    assert_eq!(amount(1, "0.000001"), 0);
    // The largest of both, exactly: 9223372036854775807 · 10¹⁵ / 10¹², and the rest rounds up.
    assert_eq!(amount(i64::MAX as u64, "1000000000"), 9_223_372_036_854_775_807_000);
}

#[test]
fn an_epsilon_that_is_paid_for_is_rounded_up_to_a_step() {
    let delta = Delta::floor_from(1e-6).unwrap();
    assert_eq!(epsilon_steps(Accounting::Pure, 7, delta).unwrap().steps(), 7);
    let half = Delta::from_steps(delta.steps() / 2);
    let rho = rho_for(Epsilon::floor_from(0.5).unwrap(), half);
    let steps = epsilon_steps(Accounting::Zcdp, rho.steps().into(), delta).unwrap();
    let stated = epsilon_of(rho, half);
    assert!(steps.to_f64() >= stated && steps.to_f64() < stated + 2e-12, "{} {stated}", steps.to_f64());
    assert!(epsilon_steps(Accounting::Pure, u128::MAX, delta).is_err());
}

#[test]
fn dates_are_whole_days_and_times_are_moments() {
    let read = |from, to| {
        let span = Span::read(from, to).unwrap();
        (span.from.map(|at| at.to_rfc3339()), span.until.map(|at| at.to_rfc3339()))
    };
    let at = |text: &str| Some(text.to_owned());
    assert_eq!(
        read(Some("2026-11-01"), Some("2026-11-30")),
        (at("2026-11-01T00:00:00+00:00"), at("2026-12-01T00:00:00+00:00"))
    );
    assert_eq!(read(Some("2026-11-01T10:00:00+02:00"), None), (at("2026-11-01T08:00:00+00:00"), None));
    assert_eq!(read(None, Some("2026-11-01T00:00:00Z")), (None, at("2026-11-01T00:00:00+00:00")));
    for (from, to) in [(Some("yesterday"), None), (None, Some("2026-13-01")), (Some("2026-11-02"), Some("2026-11-01"))]
    {
        assert!(Span::read(from, to).is_err(), "{from:?} {to:?}");
    }
}
