//! Time per draw of each sampler, over scales from fractions to the largest that sums need.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tollgate::mechanism::{DiscreteGaussian, DiscreteLaplace, Dyadic, NoiseSource};

fn source() -> StdRng {
    StdRng::seed_from_u64(1)
}

fn laplace(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("discrete_laplace");
    let scales =
        [("1/8", 1, 3), ("1", 1, 0), ("5", 5, 0), ("2^10", 1 << 10, 0), ("2^40", 1 << 40, 0), ("2^90", 1 << 90, 0)];
    for (name, numerator, shift) in scales {
        let Some(law) = Dyadic::new(numerator, shift).and_then(|scale| DiscreteLaplace::with_scale(scale).ok()) else {
            continue;
        };
        let mut rng = source();
        group.bench_function(name, |bencher| bencher.iter(|| black_box(&law).sample(&mut rng)));
    }
    group.finish();
}

fn gaussian(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("discrete_gaussian_variance");
    let variances = [
        ("1/64", 1, 6),
        ("1", 1, 0),
        ("25", 25, 0),
        ("200", 200, 0),
        ("2^20", 1 << 20, 0),
        ("2^80", 1 << 80, 0),
        ("2^120", 1 << 120, 0),
    ];
    for (name, numerator, shift) in variances {
        let Some(law) =
            Dyadic::new(numerator, shift).and_then(|variance| DiscreteGaussian::with_variance(variance).ok())
        else {
            continue;
        };
        let mut rng = source();
        group.bench_function(name, |bencher| bencher.iter(|| black_box(&law).sample(&mut rng)));
    }
    group.finish();
}

fn entropy(criterion: &mut Criterion) {
    if let Ok(mut noise) = NoiseSource::from_system() {
        criterion.bench_function("noise_source_word", |bencher| bencher.iter(|| noise.next_u64()));
    }
}

criterion_group!(benches, laplace, gaussian, entropy);
criterion_main!(benches);
