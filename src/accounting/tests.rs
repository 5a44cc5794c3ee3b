//! Tests of the accounting: the design's figures, and each bound against another way to compute it.

use statrs::distribution::{ContinuousCDF, Normal};

use super::*;
use crate::mechanism::{DiscreteGaussian, DiscreteLaplace, Dyadic, Noise};

mod event;
mod pld;
mod rdp;
mod restate;
mod search;

fn epsilon(value: f64) -> Epsilon {
    Epsilon::floor_from(value).unwrap()
}

fn delta(value: f64) -> Delta {
    Delta::floor_from(value).unwrap()
}

fn rho(value: f64) -> Rho {
    Rho::floor_from(value).unwrap()
}

fn gaussian(variance: u128) -> Noise {
    Noise::Gaussian(DiscreteGaussian::with_variance(Dyadic::new(variance, 0).unwrap()).unwrap())
}

fn dyadic(text: &str) -> Dyadic {
    text.parse().unwrap()
}

fn laplace(scale: u128) -> Noise {
    Noise::Laplace(DiscreteLaplace::with_scale(Dyadic::new(scale, 0).unwrap()).unwrap())
}

mod amounts {
    use super::*;

    #[test]
    fn a_written_decimal_is_the_step_that_it_names() {
        assert_eq!(epsilon(0.2).steps(), 200_000_000_000);
        assert_eq!(delta(1e-9).steps(), 1_000_000_000);
        assert_eq!(delta(1e-6).steps(), 1_000_000_000_000);
        assert_eq!(Rho::floor_from(0.3).unwrap().to_f64(), 0.3);
    }

    #[test]
    fn budgets_round_down_and_losses_up() {
        assert_eq!(Rho::floor_from(1.9e-12).unwrap().steps(), 1);
        assert_eq!(Rho::ceil_from(1.1e-12).unwrap().steps(), 2);
        assert_eq!(Rho::floor_from(f64::MIN_POSITIVE).unwrap(), Rho::ZERO);
        assert_eq!(Rho::ceil_from(f64::MIN_POSITIVE).unwrap().steps(), 1, "a subnormal loss is not free");
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for value in [f64::NAN, -1.0, -1e-300, f64::NEG_INFINITY] {
            assert_eq!(Epsilon::floor_from(value), Err(AmountError::NotFinite), "{value}");
            assert_eq!(Epsilon::ceil_from(value), Err(AmountError::NotFinite), "{value}");
        }
        for value in [f64::INFINITY, f64::MAX, 1e7] {
            assert_eq!(Epsilon::floor_from(value), Err(AmountError::TooLarge), "{value}");
            assert_eq!(Epsilon::ceil_from(value), Err(AmountError::TooLarge), "{value}");
        }
    }

    #[test]
    fn sums_do_not_wrap() {
        assert_eq!(Rho::MAX.checked_add(Rho::from_steps(1)), None);
        assert_eq!(Rho::MAX.checked_add(Rho::ZERO), Some(Rho::MAX));
        assert_eq!(Rho::from_steps(u64::MAX), Rho::MAX);
        assert_eq!(Rho::from_steps(1).saturating_sub(Rho::from_steps(2)), Rho::ZERO);
    }

    #[test]
    fn amounts_survive_json() {
        let price: Epsilon = serde_json::from_str("0.2").unwrap();
        assert_eq!(price, epsilon(0.2));
        assert_eq!(serde_json::to_string(&price).unwrap(), "0.2");
        assert!(serde_json::from_str::<Epsilon>("-1").is_err());
    }
}

mod zcdp {
    use super::*;

    /// The exact δ(ε) of Gaussian noise with ρ = 1/(2σ²) at sensitivity 1 (Balle and Wang 2018, theorem 8).
    fn gaussian_delta(rho: f64, epsilon: f64) -> f64 {
        let normal = Normal::new(0.0, 1.0).unwrap();
        let sigma = (0.5 / rho).sqrt();
        normal.cdf(0.5 / sigma - epsilon * sigma) - epsilon.exp() * normal.cdf(-0.5 / sigma - epsilon * sigma)
    }

    /// The formula as the paper prints it.
    fn printed(alpha: f64, rho: f64, epsilon: f64) -> f64 {
        ((alpha - 1.0) * (alpha * rho - epsilon)).exp() / (alpha - 1.0) * (1.0 - 1.0 / alpha).powf(alpha)
    }

    #[test]
    fn the_figures_of_the_design_hold() {
        let limit = rho_for(epsilon(4.0), delta(5e-7));
        assert_eq!(format!("{:.5}", limit.to_f64()), "0.29613");
        let price = rho_for(epsilon(0.2), delta(1e-9));
        assert_eq!(format!("{:.6}", price.to_f64()), "0.000675");
        assert!(price.to_f64() > 0.000_674_56);
        assert_eq!(limit.steps() / price.steps(), 438);
    }

    #[test]
    fn delta_is_the_least_over_alpha_from_above() {
        for (rho, epsilon) in [(0.000_675, 0.2), (0.296_13, 4.0), (0.02, 1.0), (1.0, 2.0), (5.0, 20.0), (1e-6, 0.01)] {
            let least =
                (1..400_000).map(|i| printed(1.0 + 1e-3 * 1.00005_f64.powi(i), rho, epsilon)).fold(1.0, f64::min);
            let delta = delta_of(rho, epsilon);
            assert!(
                delta >= least * (1.0 - 1e-6) && delta <= least * (1.0 + 1e-8),
                "{rho}, {epsilon}: {delta} {least}"
            );
        }
    }

    #[test]
    fn delta_is_above_that_of_the_gaussian_and_not_far_above() {
        for (rho, epsilon) in [(0.000_675, 0.2), (0.296_13, 4.0), (0.02, 1.0), (0.5, 3.0), (0.01, 0.0), (2.0, 0.5)] {
            let (bound, exact) = (delta_of(rho, epsilon), gaussian_delta(rho, epsilon));
            assert!(bound >= exact, "{rho}, {epsilon}: {bound} < {exact}");
            assert!(bound <= exact * 10.0, "{rho}, {epsilon}: {bound} {exact}");
        }
    }

    #[test]
    fn delta_at_the_ends() {
        assert_eq!(delta_of(0.0, 0.1), 0.0);
        assert_eq!(delta_of(1e6, 0.0), 1.0);
        assert_eq!(delta_of(1e-12, 1e3), f64::MIN_POSITIVE, "a loss is never said to be none");
        for (rho, epsilon) in [(1e-12, 0.0), (1e-12, 1e-9), (9e6, 9e6), (1e-300, 1.0), (1.0, 1e-12)] {
            let delta = delta_of(rho, epsilon);
            assert!(delta > 0.0 && delta <= 1.0, "{rho}, {epsilon}: {delta}");
        }
    }

    #[test]
    fn rho_is_the_largest_that_fits() {
        for (e, d) in
            [(0.2, 1e-9), (4.0, 5e-7), (1.0, 1e-6), (20.0, 5e-6), (1e-3, 1e-12), (1e-12, 1e-18), (1_000.0, 0.01)]
        {
            let found = rho_for(epsilon(e), delta(d));
            assert!(found == Rho::ZERO || delta_of(found.to_f64(), e) <= d, "{e}, {d}");
            let next = Rho::from_steps(found.steps() + 1);
            assert!(delta_of(next.to_f64(), e) > d, "{e}, {d}: {found}");
        }
        assert_eq!(rho_for(epsilon(1.0), Delta::ZERO), Rho::ZERO);
        assert_eq!(rho_for(Epsilon::ZERO, delta(1e-9)), Rho::ZERO);
    }

    #[test]
    fn more_budget_is_never_less_rho() {
        let mut last = Rho::ZERO;
        for step in 1..200 {
            let rho = rho_for(epsilon(f64::from(step) * 0.05), delta(1e-9));
            assert!(rho > last);
            last = rho;
        }
    }

    #[test]
    fn epsilon_is_the_way_back() {
        for (e, d) in [(0.2, 1e-9), (4.0, 5e-7), (1.0, 1e-6), (20.0, 5e-6)] {
            let back = epsilon_of(rho_for(epsilon(e), delta(d)), delta(d));
            assert!(back <= e * (1.0 + 1e-9) && back > e * (1.0 - 1e-5), "{e}, {d}: {back}");
        }
        // The report's ε is sound: at it, δ is no more than stated.
        for r in [1e-12, 1e-6, 0.001, 0.3, 5.0] {
            let e = epsilon_of(rho(r), delta(1e-9));
            assert!(delta_of(r, e) <= 1e-9, "{r}: {e}");
        }
        assert_eq!(epsilon_of(Rho::ZERO, Delta::ZERO), 0.0);
        assert_eq!(epsilon_of(rho(0.1), Delta::ZERO), f64::INFINITY);
        assert_eq!(epsilon_of(rho(0.1), delta(1.0)), 0.0);
    }
}

mod pure {
    use super::*;

    #[test]
    fn pure_loss_costs_half_its_square() {
        assert_eq!(pure_as_zcdp(epsilon(0.5)), rho(0.125));
        assert_eq!(pure_as_zcdp(epsilon(2.0)), rho(2.0));
        assert_eq!(pure_as_zcdp(Epsilon::ZERO), Rho::ZERO);
        assert_eq!(pure_as_zcdp(Epsilon::from_steps(1)).steps(), 1, "the least loss is not free");
        // 1.000001² / 2 = 0.5000010000005, exactly half a step above a whole one.
        assert_eq!(pure_as_zcdp(epsilon(1.000_001)).steps(), 500_001_000_001);
        assert_eq!(pure_as_zcdp(Epsilon::MAX), Rho::MAX);
    }
}

mod filter {
    use super::*;

    fn zcdp(rho_steps: u64, delta_steps: u64) -> Cost {
        Cost { loss: Loss::Zcdp(Rho::from_steps(rho_steps)), delta: Delta::from_steps(delta_steps) }
    }

    fn pure(epsilon_steps: u64, delta_steps: u64) -> Cost {
        Cost { loss: Loss::Pure(Epsilon::from_steps(epsilon_steps)), delta: Delta::from_steps(delta_steps) }
    }

    #[test]
    fn exactly_438_queries_of_the_design_fit() {
        let limit = Limit::from_budget(Accounting::Zcdp, epsilon(4.0), delta(1e-6));
        assert_eq!(limit.delta, delta(5e-7));
        let query = Cost { loss: Loss::Zcdp(rho_for(epsilon(0.2), delta(1e-9))), delta: Delta::ZERO };
        let mut spent = Spent::nothing(Accounting::Zcdp);
        let mut answered = 0;
        while fits(&limit, &spent, &query) {
            spent = spent.after(query).unwrap();
            answered += 1;
        }
        assert_eq!(answered, 438);
        // ε(Σρ, δ_limit/2) stays within what was granted.
        let Loss::Zcdp(total) = spent.loss else { panic!("a zCDP account") };
        assert!(epsilon_of(total, limit.delta) <= 4.0);
        assert!(fraction_spent(&limit, &spent) > 0.997 && fraction_spent(&limit, &spent) <= 1.0);
    }

    #[test]
    fn pure_limits_are_the_budget_itself() {
        let limit = Limit::from_budget(Accounting::Pure, epsilon(1.0), delta(1e-6));
        assert_eq!(limit, Limit { loss: Loss::Pure(epsilon(1.0)), delta: delta(1e-6) });
    }

    #[test]
    fn the_last_step_fits_and_one_more_does_not() {
        let limit = Limit { loss: Loss::Zcdp(Rho::from_steps(10)), delta: Delta::from_steps(5) };
        let spent = Spent { loss: Loss::Zcdp(Rho::from_steps(7)), delta: Delta::from_steps(3) };
        assert!(fits(&limit, &spent, &zcdp(3, 2)));
        assert!(!fits(&limit, &spent, &zcdp(4, 2)), "too much rho");
        assert!(!fits(&limit, &spent, &zcdp(3, 3)), "too much delta");
        assert!(fits(&limit, &spent, &zcdp(0, 0)));
        assert_eq!(left(&limit, &spent), zcdp(3, 2));
        assert!(fits(&limit, &spent, &left(&limit, &spent)));
    }

    #[test]
    fn a_lowered_limit_leaves_nothing() {
        let limit = Limit { loss: Loss::Pure(Epsilon::from_steps(5)), delta: Delta::ZERO };
        let spent = Spent { loss: Loss::Pure(Epsilon::from_steps(7)), delta: Delta::ZERO };
        assert!(!fits(&limit, &spent, &pure(0, 0)), "an overdrawn account answers nothing at all");
        assert_eq!(left(&limit, &spent), pure(0, 0));
        assert!((fraction_spent(&limit, &spent) - 1.4).abs() < 1e-12);
    }

    #[test]
    fn pure_losses_can_be_charged_to_zcdp_but_not_the_other_way() {
        let limit = Limit { loss: Loss::Zcdp(rho(0.125)), delta: Delta::ZERO };
        let nothing = Spent::nothing(Accounting::Zcdp);
        let half = Cost { loss: Loss::Pure(epsilon(0.5)), delta: Delta::ZERO };
        assert!(fits(&limit, &nothing, &half));
        assert_eq!(nothing.after(half).unwrap().loss, Loss::Zcdp(rho(0.125)));
        assert!(!fits(&limit, &nothing.after(half).unwrap(), &pure(1, 0)));

        let limit = Limit { loss: Loss::Pure(epsilon(100.0)), delta: delta(0.1) };
        assert!(!fits(&limit, &Spent::nothing(Accounting::Pure), &zcdp(1, 0)));
        assert_eq!(Spent::nothing(Accounting::Pure).after(zcdp(1, 0)), None);
    }

    #[test]
    fn an_account_of_another_measure_admits_nothing() {
        let limit = Limit { loss: Loss::Zcdp(rho(1.0)), delta: delta(0.1) };
        assert!(!fits(&limit, &Spent::nothing(Accounting::Pure), &pure(0, 0)));
        assert_eq!(left(&limit, &Spent::nothing(Accounting::Pure)), zcdp(0, 0));
    }

    #[test]
    fn sums_beyond_the_ledger_do_not_fit() {
        let limit = Limit { loss: Loss::Zcdp(Rho::MAX), delta: Delta::MAX };
        let spent = Spent { loss: Loss::Zcdp(Rho::MAX), delta: Delta::ZERO };
        assert!(!fits(&limit, &spent, &zcdp(1, 0)));
        let spent = Spent { loss: Loss::Zcdp(Rho::ZERO), delta: Delta::MAX };
        assert!(!fits(&limit, &spent, &zcdp(0, 1)));
        // A loss capped at the largest amount is admitted by no budget that can be granted.
        let largest = Limit { loss: Loss::Pure(Epsilon::floor_from(4.6e6).unwrap()), delta: Delta::ZERO };
        let capped = Cost { loss: Loss::Pure(Epsilon::MAX), delta: Delta::ZERO };
        assert!(!fits(&largest, &Spent::nothing(Accounting::Pure), &capped));
    }

    #[test]
    fn the_fraction_is_the_larger_of_the_two() {
        let limit = Limit { loss: Loss::Zcdp(Rho::from_steps(10)), delta: Delta::from_steps(4) };
        let spent = |rho, delta| Spent { loss: Loss::Zcdp(Rho::from_steps(rho)), delta: Delta::from_steps(delta) };
        assert_eq!(fraction_spent(&limit, &spent(5, 1)), 0.5);
        assert_eq!(fraction_spent(&limit, &spent(1, 3)), 0.75);
        let pure_only = Limit { loss: Loss::Pure(Epsilon::from_steps(10)), delta: Delta::ZERO };
        assert_eq!(fraction_spent(&pure_only, &Spent::nothing(Accounting::Pure)), 0.0);
        let nothing = Limit { loss: Loss::Zcdp(Rho::ZERO), delta: Delta::ZERO };
        assert_eq!(fraction_spent(&nothing, &Spent::nothing(Accounting::Zcdp)), 1.0);
    }
}

mod threshold {
    use super::*;

    /// P[Z ≥ t] of the discrete Gaussian, by summing from the far end.
    fn gaussian_tail(variance: f64, t: u64) -> f64 {
        let weight = |x: u64| (-((x * x) as f64) / (2.0 * variance)).exp();
        let reach = (40.0 * variance.sqrt()) as u64 + 40;
        let total = 2.0 * (1..=reach).rev().map(weight).sum::<f64>() + 1.0;
        (t..=reach).rev().map(weight).sum::<f64>() / total
    }

    #[test]
    fn the_figures_of_the_design_hold() {
        assert_eq!(tau(&gaussian(200), delta(1e-9), 8), Ok(90));
        assert_eq!(tau(&gaussian(25), delta(1e-9), 1), Ok(31));
    }

    #[test]
    fn tau_is_the_least() {
        for variance in [1, 2, 25, 200, 5_000, 1_000_000] {
            for (d, l0) in [(1e-6, 1), (1e-9, 1), (1e-9, 8), (1e-15, 1_000)] {
                let t = tau(&gaussian(variance), delta(d), l0).unwrap();
                let wanted = d / l0 as f64;
                assert!(gaussian_tail(variance as f64, t) <= wanted, "{variance}, {d}, {l0}: {t}");
                assert!(gaussian_tail(variance as f64, t - 1) > wanted, "{variance}, {d}, {l0}: {t}");
            }
        }
    }

    #[test]
    fn laplace_thresholds_follow_the_closed_form() {
        for (scale, d, l0) in [(1_u128, 1e-9, 1_u64), (10, 1e-9, 8), (16, 1e-6, 1), (1_000, 1e-12, 3)] {
            let t = tau(&laplace(scale), delta(d), l0).unwrap();
            let q = (-1.0 / scale as f64).exp();
            let tail = |t: u64| q.powf(t as f64) / (1.0 + q);
            assert!(tail(t) <= d / l0 as f64 && tail(t - 1) > d / l0 as f64, "{scale}: {t}");
        }
    }

    #[test]
    fn wide_noise_has_the_closed_form_at_once() {
        let normal = Normal::new(0.0, 1.0).unwrap();
        for sigma in [10_000_u128, 1_000_000_000] {
            let t = tau(&gaussian(sigma * sigma), delta(1e-9), 8).unwrap();
            let closed = 1.0 + (sigma as f64 * -normal.inverse_cdf(1.25e-10)).ceil();
            assert!((t as f64 - closed).abs() <= 1.0 + closed * 1e-9, "{t} {closed}");
            assert!(tail(&gaussian(sigma * sigma), t) <= 1.25e-10 * (1.0 + 1e-8));
        }
    }

    #[test]
    fn more_groups_need_a_higher_threshold() {
        let of = |l0| tau(&gaussian(200), delta(1e-9), l0).unwrap();
        assert_eq!(of(0), of(1));
        assert!(of(1) < of(100) && of(100) < of(u64::MAX));
        assert!(tau(&gaussian(200), Delta::from_steps(1), 1).unwrap() > of(1));
    }

    #[test]
    fn without_delta_nothing_is_shown() {
        assert_eq!(tau(&gaussian(200), Delta::ZERO, 1), Err(ThresholdError::NoDelta));
        assert_eq!(tau(&laplace(1 << 70), delta(1e-9), 1), Err(ThresholdError::TooHigh));
        assert_eq!(units_to_appear_95(1, u64::MAX, &gaussian(25)), Err(ThresholdError::TooHigh));
        // The widest Gaussian is still within what a count can be.
        assert!(tau(&gaussian(1 << 118), delta(1e-9), 8).is_ok());
    }

    #[test]
    fn groups_appear_when_they_are_said_to() {
        // k + τ + ⌈1.645·14.142⌉ = 10 + 90 + 24.
        assert_eq!(units_to_appear_95(10, 90, &gaussian(200)), Ok(124));
        assert_eq!(units_to_appear_95(1, 31, &gaussian(25)), Ok(1 + 31 + 9));
        for (noise, k) in [(gaussian(200), 10), (gaussian(2), 1), (laplace(10), 5), (laplace(1_000), 1)] {
            let t = tau(&noise, delta(1e-9), 8).unwrap();
            let n = units_to_appear_95(k, t, &noise).unwrap();
            // The group fails to appear when Z ≤ k + τ − 1 − n, whose probability is that of Z ≥ n − k − τ + 1.
            assert!(tail(&noise, n - k - t + 1) <= 0.05 * (1.0 + 1e-8), "{noise:?}");
        }
        let t = tau(&laplace(10), delta(1e-9), 8).unwrap();
        let n = units_to_appear_95(5, t, &laplace(10)).unwrap();
        assert!(tail(&laplace(10), n - 1 - 5 - t + 1) > 0.05, "one unit fewer does not do");
    }
}
