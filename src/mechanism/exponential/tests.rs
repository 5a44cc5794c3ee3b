use num_bigint::BigUint;
use rand::Rng;
use rand::rngs::StdRng;
use statrs::distribution::{ChiSquared, ContinuousCDF};

use super::super::bernoulli_exp::exact::bounds;
use super::weight::{COARSE, FINE, LN_2, MARGIN, power_of_half};
use super::*;
use crate::mechanism::tests::{DRAWS, Script, seeded};

/// χ² fails below this. The seeds are fixed, so that a run cannot fail by chance; a change that makes the sampler take
/// its words in another order fails one of the few tests by chance with probability below 10⁻⁶.
const LEAST_P: f64 = 1e-7;

fn integer(value: u128) -> BigUint {
    BigUint::from(value)
}

fn law(numerator: u128, shift: u32, sensitivity: u128) -> Exponential {
    Exponential::with_epsilon(Dyadic::new(numerator, shift).unwrap(), sensitivity).unwrap()
}

/// With Δ = 1 and ε_m = 2, a deficit d has the weight e^(−d).
fn natural() -> Exponential {
    law(2, 0, 1)
}

fn runs(pairs: impl IntoIterator<Item = (u64, u128)>) -> Vec<Run> {
    pairs.into_iter().map(|(candidates, deficit)| Run { candidates, deficit }).collect()
}

/// A uniform number of `bits` bits, 1 to 128.
fn bits(rng: &mut StdRng, bits: u32) -> u128 {
    (u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64())) >> (128 - bits)
}

/// A positive number of 1 to `most` bits, each length as likely.
fn any_length(rng: &mut StdRng, most: u32) -> u128 {
    let length = 1 + bits(rng, 32) as u32 % most;
    bits(rng, length).max(1)
}

/// The law of the run's index, from floats whose error is far below what the draws can show.
fn stated(law: &Exponential, runs: &[Run]) -> Vec<f64> {
    let least = runs.iter().filter(|run| run.candidates > 0).map(|run| run.deficit).min().unwrap();
    let weight = |run: &Run| run.candidates as f64 * (-(run.deficit.saturating_sub(least) as f64) / law.scale()).exp();
    let total: f64 = runs.iter().map(weight).sum();
    runs.iter().map(|run| weight(run) / total).collect()
}

/// The p-value of Pearson's χ² test. Neighbouring cells that expect fewer than 20 draws are counted together.
fn chi_square_p(counts: &[u64], law: &[f64]) -> f64 {
    let draws = counts.iter().sum::<u64>() as f64;
    let (mut statistic, mut cells) = (0.0, 0);
    let (mut count, mut expected, mut left) = (0.0, 0.0, draws);
    for (observed, probability) in counts.iter().zip(law) {
        count += *observed as f64;
        expected += probability * draws;
        if expected >= 20.0 && left - expected >= 20.0 {
            statistic += (count - expected).powi(2) / expected;
            cells += 1;
            left -= expected;
            (count, expected) = (0.0, 0.0);
        }
    }
    // The last cell is what is left, which is 20 or more.
    statistic += (count - left).powi(2) / left;
    assert!(cells >= 1, "the law must be cut into at least two cells");
    ChiSquared::new(f64::from(cells)).unwrap().sf(statistic)
}

fn run_counts(law: &Exponential, runs: &[Run], rng: &mut StdRng) -> Vec<u64> {
    let mut counts = vec![0; runs.len()];
    for _ in 0..DRAWS {
        let (run, candidate) = law.sample(runs, rng).unwrap();
        assert!(candidate < runs[run].candidates);
        counts[run] += 1;
    }
    counts
}

#[test]
fn draws_follow_the_law() {
    let spiked = |reach: u128| runs((0..=2 * reach).map(move |i| (1 + i as u64 % 3, i.abs_diff(reach))));
    for (law, runs) in [
        (natural(), runs([(1, 0), (1, 1)])),
        (natural(), runs([(3, 2), (0, 0), (1, 0), (5, 1), (0, 7), (20, 3)])),
        // The least deficit is not zero.
        (natural(), runs([(1, 1 << 100), (2, (1 << 100) + 1), (0, 5), (7, (1 << 100) + 2)])),
        // ε_m = 3/8, Δ = 5, scale 80/3.
        (law(3, 3, 5), spiked(100)),
        (law(12_345, 20, 1), spiked(70)),
        // Deficits of a hundred bits, and a scale to match.
        (law(1, 0, 1 << 99), runs((0..40).map(|i| (1, i << 96)))),
        // Far candidates are so many that they matter.
        (natural(), runs([(1, 0), (1 << 32, 22), (u64::MAX, 45), (1 << 20, 12)])),
        // More than 2⁶⁴ candidates.
        (natural(), runs([(u64::MAX, 1), (u64::MAX, 0), (u64::MAX, 2), (1, 0)])),
        (natural(), runs([(u64::MAX, 0); 8])),
    ] {
        let p = chi_square_p(&run_counts(&law, &runs, &mut seeded(11)), &stated(&law, &runs));
        assert!(p > LEAST_P, "{law:?} on {} runs: p = {p}", runs.len());
    }
}

#[test]
fn a_slightly_wrong_law_is_found_out() {
    let runs = runs((0..60).map(|i| (1, i)));
    let counts = run_counts(&law(3, 3, 2), &runs, &mut seeded(12));
    assert!(chi_square_p(&counts, &stated(&law(3, 3, 2), &runs)) > LEAST_P);
    // 3 % more of ε_m.
    assert!(chi_square_p(&counts, &stated(&law(309, 3, 200), &runs)) < LEAST_P);
}

#[test]
fn the_candidates_of_a_run_are_equally_likely() {
    let runs = runs([(4, 1), (10, 0), (3, 0)]);
    let mut rng = seeded(13);
    let mut counts = vec![0; 17];
    for _ in 0..DRAWS {
        let (run, candidate) = natural().sample(&runs, &mut rng).unwrap();
        counts[[0, 4, 14][run] + candidate as usize] += 1;
    }
    let single: Vec<Run> =
        runs.iter().flat_map(|run| vec![Run { candidates: 1, ..*run }; run.candidates as usize]).collect();
    assert!(chi_square_p(&counts, &stated(&natural(), &single)) > LEAST_P);
}

#[test]
fn equal_scores_are_uniform_over_a_wide_lattice() {
    // Eight runs that make 2³²: the leading 6 bits of the candidate's place among all are uniform.
    let runs = runs([1, 1, 2, 4, 8, 16, 32, 64].map(|part| (part << 25, 77)));
    let mut rng = seeded(14);
    let mut counts = [0; 64];
    for _ in 0..DRAWS {
        let (run, candidate) = law(1, 10, 3).sample(&runs, &mut rng).unwrap();
        let before: u64 = runs[..run].iter().map(|run| run.candidates).sum();
        counts[((before + candidate) >> 26) as usize] += 1;
    }
    assert!(chi_square_p(&counts, &[1.0 / 64.0; 64]) > LEAST_P);
}

#[test]
fn without_candidates_there_is_no_draw() {
    assert_eq!(natural().sample(&[], &mut Script::new([])), None);
    assert_eq!(natural().sample(&runs([(0, 0), (0, 9)]), &mut Script::new([])), None);
}

#[test]
fn one_candidate_is_certain() {
    let mut rng = seeded(15);
    for deficit in [0, 1, u128::MAX] {
        let runs = runs([(0, 0), (1, deficit), (0, u128::MAX)]);
        assert!((0..100).all(|_| natural().sample(&runs, &mut rng) == Some((1, 0))));
    }
}

#[test]
fn hopeless_candidates_are_never_drawn() {
    // e^(−200) is below 10⁻⁸⁶, and u128::MAX is beyond all measure: such a draw would be a fault, not chance.
    let mut runs = runs((0..5_000).map(|i| (u64::MAX, if i % 2 == 0 { 300 } else { u128::MAX })));
    runs.push(Run { candidates: 1, deficit: 0 });
    let mut rng = seeded(16);
    for law in [natural(), law(u128::MAX, 0, 1), law(1 << 100, 0, 3)] {
        assert!((0..50).all(|_| law.sample(&runs, &mut rng) == Some((5_000, 0))));
    }
    // And with a scale beyond all deficits, all candidates are alike.
    let flat = law(1, 100, u128::MAX);
    let counts = run_counts(&flat, &self::runs([(1, 0), (1, u128::MAX >> 1), (2, 1)]), &mut rng);
    assert!(chi_square_p(&counts, &[0.25, 0.25, 0.5]) > LEAST_P);
}

/// The word that makes the proposal `point` where the sum of all weights is `total`, below 2⁶⁴.
fn word_for(point: u128, total: u128) -> u64 {
    // The words whose product's low half is below 2⁶⁴ mod `total` are refused.
    u64::try_from(((point << 64) + (1 << 64) % total).div_ceil(total)).unwrap()
}

/// ⌊candidates·e^(−deficit)·2^bits⌋, certified.
fn floor(candidates: u64, deficit: u128, bits: u64) -> BigUint {
    let (low, high) = bounds(&integer(deficit), &integer(1), bits + 200);
    let low: BigUint = (low * candidates) >> 200u32;
    assert_eq!(low, (high * candidates) >> 200u32, "the interval holds an integer, so it certifies no floor");
    low
}

#[test]
fn points_in_the_sliver_are_decided_exactly() {
    // Two runs whose weights at 63 bits are 2⁶³·(e⁻³ and 1): the sum of their bounds is below 2⁶⁴.
    for (candidates, deficit) in [(1, 1), (1, 3), (11, 3), (1, 43), (1, 44), (1, 60)] {
        let runs = runs([(candidates, deficit), (1, 0)]);
        let [first, second] = [0, 1].map(|i| natural().rate.bounds(runs[i].deficit, runs[i].candidates, 63));
        let total = first.upper + second.upper;
        let toss = |point: u128, words: &[u64]| {
            // After a refusal the top of the second run's sure part is proposed. A last word picks the candidate.
            let kept = word_for(first.upper + 1, total);
            let script = [word_for(point, total)].into_iter().chain(words.iter().copied()).chain([kept, 0]);
            let mut rng = Script::new(script);
            let (run, _) = natural().sample(&runs, &mut rng).unwrap();
            // A draw of the first run leaves the word of the second proposal, used as the candidate's, and one more.
            assert_eq!(rng.left(), usize::from(run == 0), "{words:x?}");
            run == 0
        };
        let boundary = u128::try_from(floor(candidates, deficit, 63)).unwrap();
        let [next, third] =
            [127, 191].map(|bits| u64::try_from(floor(candidates, deficit, bits) & integer(u64::MAX.into())).unwrap());
        assert!(first.lower <= boundary && boundary < first.upper, "the boundary is in the sliver");
        assert!(boundary == 0 || toss(boundary - 1, &[]));
        assert!(boundary + 1 == first.upper || !toss(boundary + 1, &[]));
        // The boundary itself: one more word decides, or, when that is on the boundary too, a third.
        assert!(toss(boundary, &[next - 1]));
        assert!(!toss(boundary, &[next + 1]));
        assert!(toss(boundary, &[next, third - 1]));
        assert!(!toss(boundary, &[next, third + 1]));
    }
}

#[test]
fn a_whole_weight_is_a_sharp_boundary() {
    // Of one run alone the weight is 2⁶³ exactly: the last point below it is kept, the next is not, and no digit is
    // drawn for either.
    let runs = runs([(1, 5)]);
    let total = natural().rate.bounds(0, 1, 63).upper;
    assert_eq!(total, (1 << 63) + u128::from(MARGIN));
    let mut rng = Script::new([word_for((1 << 63) - 1, total), 0]);
    assert_eq!(natural().sample(&runs, &mut rng), Some((0, 0)));
    assert_eq!(rng.left(), 0);
    let mut rng = Script::new([word_for(1 << 63, total), word_for(total - 1, total), word_for(7, total), 0]);
    assert_eq!(natural().sample(&runs, &mut rng), Some((0, 0)));
    assert_eq!(rng.left(), 0);
}

#[test]
fn each_run_is_proposed_at_its_own_points() {
    let runs = runs([(0, 0), (1, 7), (0, 9), (0, 1), (1, 8), (0, 7)]);
    let [first, second] = [0, 1].map(|deficit| natural().rate.bounds(deficit, 1, 63));
    let total = first.upper + second.upper;
    // The first and the last point that is sure of each.
    for (point, run) in
        [(0, 1), (first.lower - 1, 1), (first.upper, 4), (first.upper + 1, 4), (first.upper + second.lower - 1, 4)]
    {
        let mut rng = Script::new([word_for(point, total), 0]);
        assert_eq!(natural().sample(&runs, &mut rng), Some((run, 0)), "{point}");
        assert_eq!(rng.left(), 0);
    }
}

#[test]
fn ln_2_is_the_exact_floor() {
    let half = integer(1) << 299u32;
    let (low, _) = bounds(&integer(LN_2), &(integer(1) << 128u32), 300);
    assert!(low >= half);
    let (_, high) = bounds(&integer(LN_2 + 1), &(integer(1) << 128u32), 300);
    assert!(high < half);
}

/// Integers around 2^(−`halvings`/2^`shift`)·2⁶³, at most a few apart.
fn around_power_of_half(halvings: u64, shift: u32) -> (u64, u64) {
    // ln 2 rounded down makes the power larger, but by less than 2⁻¹²⁸ of it.
    let (low, high) = bounds(&(integer(LN_2) * halvings), &(integer(1) << (128 + shift)), 63);
    (u64::try_from(low).unwrap(), u64::try_from(high).unwrap())
}

#[test]
fn the_tables_hold_the_powers_of_a_half() {
    for (table, shift) in [(&COARSE, 8), (&FINE, 16)] {
        for (a, entry) in table.iter().enumerate() {
            let (low, high) = around_power_of_half(a as u64, shift);
            assert!(entry.abs_diff(low).max(entry.abs_diff(high)) <= 24, "{a}/2^{shift}");
        }
    }
}

#[test]
fn the_power_of_half_is_within_its_certified_error() {
    let mut rng = seeded(17);
    let edges = [0, 1, (1 << 48) - 1, 1 << 48, (1 << 56) - 1, 1 << 56, u64::MAX];
    let mut worst = 0;
    for f in edges.into_iter().chain((0..3_000).map(|_| rng.next_u64())) {
        let (low, high) = around_power_of_half(f, 64);
        worst = worst.max(power_of_half(f).abs_diff(low)).max(power_of_half(f).abs_diff(high));
    }
    assert!(worst <= 60, "off by {worst} units");
}

#[test]
fn weights_lie_between_their_bounds() {
    let mut rng = seeded(18);
    for _ in 0..3_000 {
        let epsilon = Dyadic::new(bits(&mut rng, 40) + 1, bits(&mut rng, 6) as u32).unwrap();
        let sensitivity = any_length(&mut rng, 64);
        let law = Exponential::with_epsilon(epsilon, sensitivity).unwrap();
        // Up to about 160 scales: from weights near one to those below the last unit.
        let deficit = ((integer(sensitivity) << (epsilon.shift() + 1)) * bits(&mut rng, 28) * 160u32)
            / (integer(epsilon.numerator()) << 28u32);
        let deficit = u128::try_from(deficit).unwrap();
        let candidates = bits(&mut rng, 64) as u64 >> bits(&mut rng, 6);
        let fineness = 63 - bits(&mut rng, 5) as u32;

        let approximate = law.rate.bounds(deficit, candidates, fineness);
        let (numerator, denominator) = coefficient(epsilon, sensitivity);
        let (low, high) = bounds(&(numerator * deficit), &denominator, u64::from(fineness) + 128);
        let (low, high) = (low * candidates, high * candidates);
        assert!((integer(approximate.lower) << 128u32) <= low, "{law:?}, {deficit}, {candidates}");
        assert!(high <= (integer(approximate.upper) << 128u32), "{law:?}, {deficit}, {candidates}");
        // And the gap is as small as the proof says: two units, and 2·MARGIN parts in 2⁶² of the weight.
        let gap = approximate.upper - approximate.lower;
        let allowed = integer(2) + (((high * MARGIN) >> 61u32) >> 128u32);
        assert!(integer(gap) <= allowed, "{law:?}, {deficit}, {candidates}: {gap}");
        assert_eq!(approximate.upper == 0, candidates == 0);
    }
}

#[test]
fn halvings_are_a_close_lower_bound() {
    let mut rng = seeded(19);
    for _ in 0..3_000 {
        let epsilon = Dyadic::new(any_length(&mut rng, 32), bits(&mut rng, 6) as u32).unwrap();
        let sensitivity = any_length(&mut rng, 64);
        let deficit = any_length(&mut rng, 128);
        let law = Exponential::with_epsilon(epsilon, sensitivity).unwrap();
        // y·2⁶⁴ = deficit·ε_m/(2Δ)/ln 2·2⁶⁴, rounded up by less than one.
        let (numerator, denominator) = coefficient(epsilon, sensitivity);
        let truth: BigUint = ((numerator * deficit) << 192u32) / (denominator * LN_2) + 1u32;
        let halvings = integer(law.rate.halvings(deficit));
        if halvings == integer(u128::MAX) {
            assert!(truth >= integer(1 << 127));
        } else {
            assert!(halvings <= truth, "{law:?}, {deficit}");
            assert!(&truth - halvings <= integer(2) + (truth >> 61u32), "{law:?}, {deficit}");
        }
    }
}

#[test]
fn the_cost_is_never_above_what_was_paid() {
    let mut rng = seeded(20);
    for _ in 0..5_000 {
        let steps = any_length(&mut rng, 61) as u64;
        let groups = any_length(&mut rng, 27) as u64;
        let sensitivity = any_length(&mut rng, 128);

        let rho = Rho::from_steps(steps);
        let law = Exponential::calibrated_zcdp(groups, sensitivity, rho).unwrap();
        // Before rounding to steps, in integers: groups·ε_m² ≤ 8ρ.
        let [numerator, denominator] = [law.epsilon.numerator(), law.epsilon.denominator()].map(integer);
        let (loss, price) = (numerator.pow(2) * groups * Rho::STEPS_PER_UNIT, denominator.pow(2) * 8u32 * steps);
        assert!(loss <= price, "{groups}, {rho}");
        assert!(law.cost_zcdp(groups) <= rho, "{groups}, {rho}");
        assert!(law.cost_zcdp(groups) > Rho::ZERO);
        // And no more than a little is left unspent.
        assert!((&price - loss) << 31u32 <= price, "{groups}, {rho}");
        assert!(law.cost_zcdp(2 * groups).steps() >= 2 * law.cost_zcdp(groups).steps() - 1);

        let epsilon = Epsilon::from_steps(steps);
        let law = Exponential::calibrated_pure(groups, sensitivity, epsilon).unwrap();
        let [numerator, denominator] = [law.epsilon.numerator(), law.epsilon.denominator()].map(integer);
        let (loss, price) = (numerator * groups * Epsilon::STEPS_PER_UNIT, denominator * steps);
        assert!(loss <= price && law.cost_pure(groups) <= epsilon, "{groups}, {epsilon}");
        assert!((&price - loss) << 32u32 <= price, "{groups}, {epsilon}");
        assert_eq!(law.sensitivity(), sensitivity);
    }
}

#[test]
fn calibration_is_exact_where_it_can_be() {
    let zcdp = |groups, rho| Exponential::calibrated_zcdp(groups, 1, Rho::floor_from(rho).unwrap()).unwrap().epsilon;
    assert_eq!(Some(zcdp(1, 0.5)), Dyadic::new(2, 0));
    assert_eq!(Some(zcdp(4, 0.125)), Dyadic::new(1, 1));
    let pure = |groups, e| Exponential::calibrated_pure(groups, 1, Epsilon::floor_from(e).unwrap()).unwrap().epsilon;
    assert_eq!(Some(pure(1, 0.5)), Dyadic::new(1, 1));
    assert_eq!(Some(pure(3, 6.0)), Dyadic::new(2, 0));
    // A loss beyond the ledger is one that no budget admits.
    assert_eq!(law(u128::MAX, 0, 1).cost_zcdp(u64::MAX), Rho::MAX);
    assert_eq!(law(u128::MAX, 0, 1).cost_pure(1), Epsilon::MAX);
    // One that is less than a step is a step.
    assert_eq!(law(1, 100, 1).cost_zcdp(1).steps(), 1);
    assert_eq!(law(1, 100, 1).cost_pure(1).steps(), 1);
}

#[test]
fn what_cannot_be_calibrated_is_refused() {
    let (rho, epsilon) = (Rho::from_steps(1), Epsilon::from_steps(1));
    for (groups, sensitivity) in [(0, 1), (1, 0)] {
        let refusal = Err(CalibrationError::NoSensitivity);
        assert_eq!(Exponential::calibrated_zcdp(groups, sensitivity, rho), refusal);
        assert_eq!(Exponential::calibrated_pure(groups, sensitivity, epsilon), refusal);
    }
    assert_eq!(Exponential::calibrated_zcdp(1, 1, Rho::ZERO), Err(CalibrationError::NoLoss));
    assert_eq!(Exponential::calibrated_pure(1, 1, Epsilon::ZERO), Err(CalibrationError::NoLoss));
    assert_eq!(Exponential::calibrated_pure(u64::MAX, 1, epsilon), Err(CalibrationError::TooMuchNoise));
    assert!(Exponential::calibrated_zcdp(u64::MAX, u128::MAX, rho).is_ok());
    assert!(Exponential::calibrated_zcdp(1, 1, Rho::MAX).is_ok());
    assert!(Exponential::calibrated_pure(1, 1, Epsilon::MAX).is_ok());
}

#[test]
fn neighbouring_scores_lose_no_more_than_stated() {
    let mut rng = seeded(21);
    for _ in 0..300 {
        let law = law(u128::from(rng.next_u64() % 100) + 1, 4, 10);
        let deficits: Vec<u128> = (0..20).map(|_| u128::from(rng.next_u64() % 60)).collect();
        // Each score changes by up to Δ = 10 either way; half of the time by all of it.
        let moved: Vec<u128> = deficits
            .iter()
            .map(|d| d + [0, 20, u128::from(rng.next_u64() % 21), 10][(rng.next_u64() % 4) as usize])
            .collect();
        let of = |deficits: &[u128]| stated(&law, &runs(deficits.iter().map(|d| (1, *d))));
        let (p, q) = (of(&deficits), of(&moved));
        let losses = p.iter().zip(&q).map(|(p, q)| (p / q).ln());
        assert!(losses.clone().all(|loss| loss.abs() <= law.epsilon() * (1.0 + 1e-9)), "{law:?}");
        // The range of the losses is what the zCDP rests on, and the Rényi divergence of some orders what it says.
        let range = losses.clone().fold(f64::MIN, f64::max) - losses.fold(f64::MAX, f64::min);
        assert!(range <= law.epsilon() * (1.0 + 1e-9), "{law:?}");
        for order in [1.1_f64, 2.0, 5.0] {
            let sum: f64 = p.iter().zip(&q).map(|(p, q)| q * (p / q).powf(order)).sum();
            let divergence = sum.ln() / (order - 1.0);
            assert!(divergence <= order * law.cost_zcdp(1).to_f64() + 1e-12, "{law:?}, order {order}");
        }
    }
}

#[test]
fn it_is_reported_with_its_exact_parameters() {
    let law = law(3, 3, u128::MAX);
    let json = r#"{"epsilon":"3/8","sensitivity":"340282366920938463463374607431768211455"}"#;
    assert_eq!(serde_json::to_string(&law).unwrap(), json);
    assert_eq!(self::law(3, 3, 6).epsilon(), 0.375);
    assert_eq!(self::law(3, 3, 6).scale(), 32.0);
}
