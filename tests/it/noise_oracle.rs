//! Our samplers and conversions against `OpenDP`'s, an independent implementation of the same papers.
//!
//! `OpenDP` draws from the operating system's entropy, so these draws cannot be seeded. A right sampler fails here with
//! probability below 10⁻⁷ a run: five comparisons, each refused at p < 10⁻⁸.

use opendp::combinators::make_zCDP_to_approxDP;
use opendp::domains::AtomDomain;
use opendp::measurements::{make_gaussian, make_laplace};
use opendp::measures::{MaxDivergence, ZeroConcentratedDivergence};
use opendp::metrics::AbsoluteDistance;
use rand::SeedableRng;
use rand::rngs::StdRng;
use statrs::distribution::{ChiSquared, ContinuousCDF};
use tollgate::accounting::{Delta, Epsilon, Rho, delta_of, epsilon_of, pure_as_zcdp, rho_for};
use tollgate::mechanism::{DiscreteGaussian, DiscreteLaplace, Dyadic};

const DRAWS: usize = 10_000;

/// The p-value of the χ² test that two samples of [`DRAWS`] have one law, over cells of equal counts of both together.
fn same_law_p(ours: &[i64], theirs: &[i64]) -> f64 {
    let mut pooled: Vec<i64> = ours.iter().chain(theirs).copied().collect();
    pooled.sort_unstable();
    let mut cuts: Vec<i64> = (1..20).map(|i| pooled[i * pooled.len() / 20]).collect();
    cuts.dedup();
    let count = |sample: &[i64]| {
        let mut counts = vec![0_u32; cuts.len() + 1];
        for x in sample {
            counts[cuts.partition_point(|cut| cut <= x)] += 1;
        }
        counts
    };
    let pairs: Vec<(f64, f64)> = count(ours)
        .into_iter()
        .zip(count(theirs))
        .filter(|(a, b)| a + b > 0)
        .map(|(a, b)| (f64::from(a), f64::from(b)))
        .collect();
    let statistic: f64 = pairs.iter().map(|(a, b)| (a - b).powi(2) / (a + b)).sum();
    ChiSquared::new(pairs.len() as f64 - 1.0).unwrap().sf(statistic)
}

#[test]
fn gaussian_draws_have_opendp_s_law() {
    // Whole and broken σ², whose root a float holds.
    for (variance, shift, sigma) in [(25, 0, 5.0), (9, 2, 1.5), (1 << 60, 0, 2f64.powi(30))] {
        let law = DiscreteGaussian::with_variance(Dyadic::new(variance, shift).unwrap()).unwrap();
        let mut rng = StdRng::seed_from_u64(21);
        let ours: Vec<i64> = (0..DRAWS).map(|_| i64::try_from(law.sample(&mut rng)).unwrap()).collect();
        let oracle = make_gaussian::<_, _, ZeroConcentratedDivergence>(
            AtomDomain::<i64>::default(),
            AbsoluteDistance::<i64>::default(),
            sigma,
            None,
        )
        .unwrap();
        let theirs: Vec<i64> = (0..DRAWS).map(|_| oracle.invoke(&0).unwrap()).collect();
        let p = same_law_p(&ours, &theirs);
        assert!(p > 1e-8, "sigma {sigma}: p = {p}");
    }
}

#[test]
fn laplace_draws_have_opendp_s_law() {
    for (numerator, shift, scale) in [(10, 0, 10.0), (5, 1, 2.5)] {
        let law = DiscreteLaplace::with_scale(Dyadic::new(numerator, shift).unwrap()).unwrap();
        let mut rng = StdRng::seed_from_u64(22);
        let ours: Vec<i64> = (0..DRAWS).map(|_| i64::try_from(law.sample(&mut rng)).unwrap()).collect();
        let oracle = make_laplace::<_, _, MaxDivergence>(
            AtomDomain::<i64>::default(),
            AbsoluteDistance::<i64>::default(),
            scale,
            None,
        )
        .unwrap();
        let theirs: Vec<i64> = (0..DRAWS).map(|_| oracle.invoke(&0).unwrap()).collect();
        let p = same_law_p(&ours, &theirs);
        assert!(p > 1e-8, "scale {scale}: p = {p}");
    }
}

#[test]
fn costs_are_opendp_s() {
    for (sigma, sensitivity) in [(5_u32, 1_i64), (5, 3), (100, 7), (3, 1)] {
        let oracle = make_gaussian::<_, _, ZeroConcentratedDivergence>(
            AtomDomain::<i64>::default(),
            AbsoluteDistance::<i64>::default(),
            f64::from(sigma),
            None,
        )
        .unwrap();
        let theirs = oracle.map(&sensitivity).unwrap();
        let d_squared = u128::from(sensitivity.unsigned_abs()).pow(2);
        let law = DiscreteGaussian::with_variance(Dyadic::new(u128::from(sigma).pow(2), 0).unwrap()).unwrap();
        let ours = law.cost(d_squared).to_f64();
        assert!(ours >= theirs - 1e-15 && ours - theirs <= 1.001e-12, "sigma {sigma}: {ours} {theirs}");
    }
    for (scale, sensitivity) in [(10_u32, 1_i64), (3, 2), (7, 1)] {
        let oracle = make_laplace::<_, _, MaxDivergence>(
            AtomDomain::<i64>::default(),
            AbsoluteDistance::<i64>::default(),
            f64::from(scale),
            None,
        )
        .unwrap();
        let theirs = oracle.map(&sensitivity).unwrap();
        let law = DiscreteLaplace::with_scale(Dyadic::new(u128::from(scale), 0).unwrap()).unwrap();
        let ours = law.cost(u128::from(sensitivity.unsigned_abs())).to_f64();
        assert!(ours >= theirs - 1e-15 && ours - theirs <= 1.001e-12, "scale {scale}: {ours} {theirs}");
    }
}

#[test]
fn conversions_are_opendp_s() {
    for sigma in [1.0, 2.0, 5.0, 27.0, 100.0] {
        let noise = make_gaussian::<_, _, ZeroConcentratedDivergence>(
            AtomDomain::<i64>::default(),
            AbsoluteDistance::<i64>::default(),
            sigma,
            None,
        )
        .unwrap();
        let rho = noise.map(&1).unwrap();
        let profile = make_zCDP_to_approxDP(noise).unwrap().map(&1).unwrap();
        for epsilon in [0.05, 0.2, 1.0, 4.0] {
            let (ours, theirs) = (delta_of(rho, epsilon), profile.delta(epsilon).unwrap());
            // Theirs rounds each operation up and stops its search earlier; where δ is near 1 or vanishes, both are blunt.
            if (1e-30..0.5).contains(&theirs) {
                assert!((ours / theirs - 1.0).abs() < 1e-6, "sigma {sigma}, epsilon {epsilon}: {ours} {theirs}");
            }
        }
        for delta in [1e-9, 5e-7] {
            let theirs = profile.epsilon(delta).unwrap();
            let ours = epsilon_of(Rho::ceil_from(rho).unwrap(), Delta::floor_from(delta).unwrap());
            assert!((ours / theirs - 1.0).abs() < 1e-6, "sigma {sigma}, delta {delta}: {ours} {theirs}");
            // And back: what ε buys is that ρ.
            let bought = rho_for(Epsilon::floor_from(theirs).unwrap(), Delta::floor_from(delta).unwrap()).to_f64();
            assert!((bought / rho - 1.0).abs() < 1e-5, "sigma {sigma}, delta {delta}: {bought} {rho}");
        }
    }
    assert_eq!(pure_as_zcdp(Epsilon::floor_from(0.5).unwrap()), Rho::floor_from(0.125).unwrap());
}
