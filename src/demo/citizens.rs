//! The city's people, and which of them are whose customers.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use rand_distr::weighted::WeightedAliasIndex;
use rand_distr::{Distribution, StandardNormal, Zipf};

use super::city::{self, DISTRICTS};
use super::error::DemoError;

/// The identifier of the first citizen; the others follow.
pub(super) const FIRST_CITIZEN_ID: i64 = 1_000_001;
/// How steeply activity falls with a customer's rank.
const ZIPF_EXPONENT: f64 = 0.9;
/// One rank in this many is cut off the head of the Zipf law (see [`Customers`]).
const CUSTOMERS_PER_CUT: usize = 800;
/// Ranks that are cut besides, so that the busiest of a few hundred customers are plausible too.
const LEAST_CUT: usize = 5;
/// How much of a customer's standing with one company is how active they are in general.
const SHARED_APPETITE: f64 = 0.8;

/// The generator of one named stream of a seed. Streams of different names are independent, so that a table does not
/// change when another one gains a column, nor with the order in which threads run.
///
/// Xoshiro256++ rather than the standard generator, because its output is fixed by its definition. It is not a secure
/// generator and must never draw noise.
pub(super) fn stream(seed: u64, name: &str) -> Xoshiro256PlusPlus {
    let mut hasher = blake3::Hasher::new_derive_key("tollgate demo data, stream of a seed, version 1");
    hasher.update(&seed.to_le_bytes());
    hasher.update(name.as_bytes());
    Xoshiro256PlusPlus::from_seed(*hasher.finalize().as_bytes())
}

/// One citizen: where they live and work, as indices of [`DISTRICTS`], and how much they go about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Citizen {
    /// Index of the home district.
    pub(super) home: u8,
    /// Index of the district of work or study.
    pub(super) work: u8,
    /// A standard normal score: how active the person is as a customer of anybody.
    appetite: f64,
}

/// Everybody that a company may know.
#[derive(Debug)]
pub(super) struct Citizens {
    people: Vec<Citizen>,
}

impl Citizens {
    /// Draws `count` citizens, who live where people live and work where the city draws them.
    ///
    /// # Errors
    /// When the districts' weights are not those of a law.
    pub(super) fn draw(seed: u64, count: usize) -> Result<Self, DemoError> {
        let mut rng = stream(seed, "citizens");
        let homes = WeightedAliasIndex::new(DISTRICTS.iter().map(|d| d.population as f64).collect())?;
        let works = WeightedAliasIndex::new(DISTRICTS.iter().map(city::attraction).collect())?;
        let people = (0..count)
            .map(|_| Citizen {
                home: homes.sample(&mut rng) as u8,
                work: works.sample(&mut rng) as u8,
                appetite: rng.sample(StandardNormal),
            })
            .collect();
        Ok(Self { people })
    }

    /// The citizen of an index that [`Customers::pick`] gave.
    pub(super) fn get(&self, index: u32) -> Citizen {
        self.people[index as usize]
    }

    /// The identifier of the citizen of an index.
    pub(super) fn id(index: u32) -> i64 {
        FIRST_CITIZEN_ID + i64::from(index)
    }

    /// The customers of one company: a `share` of the citizens, ranked by activity.
    ///
    /// # Errors
    /// When the law of activity cannot be made.
    pub(super) fn customers(&self, seed: u64, company: &str, share: f64) -> Result<Customers, DemoError> {
        let mut rng = stream(seed, &format!("customers of {company}"));
        let mut scored: Vec<(f64, u32)> = Vec::with_capacity(self.people.len());
        for (index, person) in (0_u32..).zip(&self.people) {
            let member = rng.random::<f64>() < share;
            let own: f64 = rng.sample(StandardNormal);
            if member {
                let score = SHARED_APPETITE * person.appetite + (1.0 - SHARED_APPETITE * SHARED_APPETITE).sqrt() * own;
                scored.push((score, index));
            }
        }
        if scored.is_empty() && !self.people.is_empty() {
            scored.push((0.0, 0));
        }
        scored.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        Customers::ranked(scored.into_iter().map(|(_, index)| index).collect())
    }
}

/// One company's customers, busiest first, and the law by which they come.
///
/// Activity is Zipf in the rank, without the law's first few ranks (a Zipf–Mandelbrot law). A plain Zipf law would have
/// the busiest person take forty rides a day; cut, it is about two, and still a hundredth of the customers make a
/// quarter of the trips.
#[derive(Debug)]
pub(super) struct Customers {
    by_rank: Vec<u32>,
    cut: usize,
    law: Zipf<f64>,
}

impl Customers {
    fn ranked(by_rank: Vec<u32>) -> Result<Self, DemoError> {
        let cut = LEAST_CUT + by_rank.len() / CUSTOMERS_PER_CUT;
        let law = Zipf::new((by_rank.len() + cut) as f64, ZIPF_EXPONENT)?;
        Ok(Self { by_rank, cut, law })
    }

    /// The index of the citizen who comes next.
    pub(super) fn pick(&self, rng: &mut Xoshiro256PlusPlus) -> u32 {
        loop {
            // Ranks start at 1. Those of the cut head are drawn again, as is a rank that rounding put past the end.
            let rank = self.law.sample(rng) as usize;
            if let Some(index) = rank.checked_sub(self.cut + 1).and_then(|place| self.by_rank.get(place)) {
                return *index;
            }
        }
    }
}
