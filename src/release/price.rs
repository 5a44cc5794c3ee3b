//! The price of a release becomes noise: one mechanism a measure, each with its share of the loss (DESIGN 4.2, 4.3).
//!
//! The loss is shared in the parts that [`ReleaseSpec::parts`] says.

use thiserror::Error;

use crate::accounting::{Accounting, Cost, Delta, Epsilon, Event, Loss, Rho, ThresholdError, tau, units_to_appear_95};
use crate::mechanism::{CalibrationError, DiscreteGaussian, DiscreteLaplace, Exponential, Noise};

use super::spec::ReleaseSpec;

/// Why a release cannot be had at a price.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PriceError {
    /// The noise would be too large to draw.
    #[error("the price is too low for these bounds: {0}")]
    Noise(#[from] CalibrationError),
    /// Group selection has no δ.
    #[error("groups cannot be selected: {0}")]
    Selection(#[from] ThresholdError),
    /// The contribution bounds are too large for exact sums.
    #[error("the contribution bounds are too large")]
    Sensitivity,
    /// More mechanisms than the price has steps.
    #[error("the price is too low to be cut into {mechanisms} parts")]
    Shares {
        /// How many there are.
        mechanisms: u64,
    },
}

/// What may be spent on one release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    /// ρ, paid with discrete Gaussian noise; or ε, paid with discrete Laplace noise.
    pub loss: Loss,
    /// δ of group selection, if groups are selected.
    pub delta_selection: Delta,
}

/// The threshold of group selection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Selection {
    /// τ: a group is shown iff it has n ≥ k units and n + Z ≥ k + τ.
    pub tau: u64,
    /// A group of this many units appears with 95 % probability.
    pub units_to_appear_95: u64,
}

/// The noise of a release, and what it really costs.
#[derive(Debug, Clone, PartialEq)]
pub struct NoisePlan {
    units: Option<Noise>,
    selection: Option<Selection>,
    measures: Vec<Noise>,
    quantiles: Vec<Exponential>,
    cost: Cost,
    events: Vec<Event>,
}

impl NoisePlan {
    /// The noise that `price` buys for `spec`. The cost is computed from the noise really used, rounded up, and is
    /// never above the price.
    ///
    /// # Errors
    /// When the price is too low for any noise that can be drawn, or when groups must be selected without δ.
    pub fn new(spec: &ReleaseSpec, price: Price) -> Result<Self, PriceError> {
        let shares = Shares { price, all: spec.all_parts() };
        let (of_measure, of_units) = spec.parts();
        let mut paid = Loss::nothing(price.loss.accounting());
        let mut events = Vec::new();
        let mut quantiles = Vec::with_capacity(spec.quantiles.len());
        for quantile in &spec.quantiles {
            let (law, cost) = shares.exponential(of_measure, spec.bounds.groups, quantile.sensitivity(&spec.bounds))?;
            paid = paid.checked_add(cost).ok_or(PriceError::Sensitivity)?;
            events.push(Event::Exponential { epsilon: law.exact_epsilon(), draws: spec.bounds.groups });
            quantiles.push(law);
        }
        let mut noise = |parts: u64, sensitivity: Sensitivity| -> Result<Noise, PriceError> {
            let (noise, cost) = shares.calibrate(parts, sensitivity)?;
            paid = paid.checked_add(cost).ok_or(PriceError::Sensitivity)?;
            events.push(sensitivity.event(&noise));
            Ok(noise)
        };
        // A unit touches at most L0 groups, and adds 1 to the unit count of each, however many rows it has.
        let units = spec
            .counts_units()
            .then(|| {
                noise(of_units, Sensitivity { squared: spec.bounds.groups.into(), absolute: spec.bounds.groups.into() })
            })
            .transpose()?;
        let measures = spec
            .measures
            .iter()
            .map(|measure| {
                let squared = spec.squared_sensitivity(measure).ok_or(PriceError::Sensitivity)?;
                let absolute = spec.absolute_sensitivity(measure).ok_or(PriceError::Sensitivity)?;
                noise(of_measure, Sensitivity { squared, absolute })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let selection = match &units {
            Some(noise) if spec.selects_groups() => {
                let tau = tau(noise, price.delta_selection, spec.bounds.groups)?;
                let units_to_appear_95 = units_to_appear_95(spec.min_group_size, tau, noise)?;
                Some(Selection { tau, units_to_appear_95 })
            }
            _ => None,
        };
        let delta = if selection.is_some() { price.delta_selection } else { Delta::ZERO };
        if selection.is_some() {
            events.push(Event::Selection { delta });
        }
        Ok(Self { units, selection, measures, quantiles, cost: Cost { loss: paid, delta }, events })
    }

    /// The unit count's noise, if units are counted.
    #[must_use]
    pub const fn units(&self) -> Option<&Noise> {
        self.units.as_ref()
    }

    /// The threshold, if groups are selected.
    #[must_use]
    pub const fn selection(&self) -> Option<&Selection> {
        self.selection.as_ref()
    }

    /// Each measure's noise.
    #[must_use]
    pub fn measures(&self) -> &[Noise] {
        &self.measures
    }

    /// Each quantile's law.
    #[must_use]
    pub fn quantiles(&self) -> &[Exponential] {
        &self.quantiles
    }

    /// What the release costs.
    #[must_use]
    pub const fn cost(&self) -> Cost {
        self.cost
    }

    /// The mechanisms that the release runs, for the ledger to keep beside the cost: one for each measure, each quantile
    /// and the unit count, and the selection. Their own costs add up to [`Self::cost`].
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.events.clone()
    }
}

/// How far one unit moves a measure.
#[derive(Debug, Clone, Copy)]
struct Sensitivity {
    squared: u128,
    absolute: u128,
}

impl Sensitivity {
    /// What the ledger keeps of this noise.
    const fn event(self, noise: &Noise) -> Event {
        match noise {
            Noise::Gaussian(law) => {
                Event::DiscreteGaussian { squared_sensitivity: self.squared, variance: law.exact_variance() }
            }
            Noise::Laplace(law) => Event::DiscreteLaplace { sensitivity: self.absolute, scale: law.scale() },
        }
    }
}

struct Shares {
    price: Price,
    /// How many parts there are in all.
    all: u64,
}

impl Shares {
    /// `parts` of `steps`, rounded down.
    fn share(&self, steps: u64, parts: u64) -> u64 {
        let share = u128::from(steps) * u128::from(parts) / u128::from(self.all.max(1));
        u64::try_from(share).unwrap_or(0)
    }

    fn exponential(&self, parts: u64, groups: u64, sensitivity: u128) -> Result<(Exponential, Loss), PriceError> {
        match self.price.loss {
            Loss::Zcdp(rho) => {
                let share = Rho::from_steps(self.share(rho.steps(), parts));
                let law = Exponential::calibrated_zcdp(groups, sensitivity, share)?;
                Ok((law, Loss::Zcdp(law.cost_zcdp(groups))))
            }
            Loss::Pure(epsilon) => {
                let share = Epsilon::from_steps(self.share(epsilon.steps(), parts));
                let law = Exponential::calibrated_pure(groups, sensitivity, share)?;
                Ok((law, Loss::Pure(law.cost_pure(groups))))
            }
        }
    }

    fn calibrate(&self, parts: u64, sensitivity: Sensitivity) -> Result<(Noise, Loss), PriceError> {
        let none = PriceError::Shares { mechanisms: self.all };
        match self.price.loss {
            Loss::Zcdp(rho) => {
                let share = Rho::from_steps(self.share(rho.steps(), parts));
                if share == Rho::ZERO {
                    return Err(none);
                }
                let noise = DiscreteGaussian::calibrated(sensitivity.squared, share)?;
                Ok((Noise::Gaussian(noise), Loss::Zcdp(noise.cost(sensitivity.squared))))
            }
            Loss::Pure(epsilon) => {
                let share = Epsilon::from_steps(self.share(epsilon.steps(), parts));
                if share == Epsilon::ZERO {
                    return Err(none);
                }
                let noise = DiscreteLaplace::calibrated(sensitivity.absolute, share)?;
                Ok((Noise::Laplace(noise), Loss::Pure(noise.cost(sensitivity.absolute))))
            }
        }
    }
}

/// Which noise a query over datasets of these kinds has: Gaussian only if every account counts ρ.
#[must_use]
pub fn noise_for(accounts: impl IntoIterator<Item = Accounting>) -> Accounting {
    if accounts.into_iter().all(|accounting| accounting == Accounting::Zcdp) {
        Accounting::Zcdp
    } else {
        Accounting::Pure
    }
}
