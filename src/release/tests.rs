//! Tests of the release: sensitivities and prices.

use super::*;
use crate::accounting::{Delta, Loss, Rho};
use crate::mechanism::Noise;

fn spec(groups: u64, rows: u64, total_rows: Option<u64>, k: u64) -> ReleaseSpec {
    ReleaseSpec {
        unit_domain: "person".into(),
        keys: Vec::new(),
        arguments: 0,
        filters: 0,
        measures: Vec::new(),
        outputs: Vec::new(),
        bounds: ContributionBounds { groups, rows, total_rows },
        min_group_size: k,
        groups: Groups::Private,
    }
}

fn price(delta: f64) -> Price {
    let rho = Rho::floor_from(0.02).unwrap();
    Price { loss: Loss::Zcdp(rho), delta_selection: Delta::floor_from(delta).unwrap() }
}

#[test]
fn sensitivities_with_and_without_a_total_of_rows() {
    assert_eq!(spec(8, 5, None, 1).squared_sensitivity(3), Some(9 * 8 * 25));
    assert_eq!(spec(8, 5, None, 1).absolute_sensitivity(3), Some(3 * 40));
    assert_eq!(spec(8, 5, Some(12), 1).squared_sensitivity(3), Some(9 * (2 * 25 + 4)));
    assert_eq!(spec(8, 5, Some(12), 1).absolute_sensitivity(3), Some(3 * 12));
    assert_eq!(spec(2, 5, Some(99), 1).squared_sensitivity(1), Some(50));
}

#[test]
fn the_noise_of_a_selection_is_as_designed() {
    for (l0, variance, tau) in [(8, 200, 90), (1, 25, 31)] {
        let plan = NoisePlan::new(&spec(l0, 1, None, 10), price(1e-9)).unwrap();
        let Some(Noise::Gaussian(noise)) = plan.units() else { panic!("Gaussian noise") };
        let (numerator, denominator) = noise.variance();
        assert_eq!(numerator, variance * denominator);
        assert_eq!(plan.selection().unwrap().tau, tau);
        assert!(plan.cost().loss.steps() <= price(1e-9).loss.steps());
    }
    assert!(matches!(NoisePlan::new(&spec(8, 1, None, 10), price(0.0)), Err(PriceError::Selection(_))));
}
