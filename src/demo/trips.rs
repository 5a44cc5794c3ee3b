//! The three ride-hailing companies: one schema, three characters.

use std::sync::Arc;

use arrow::array::TimestampMicrosecondArray;
use arrow::array::{ArrayRef, Date32Array, Float64Array, Int32Array, Int64Array, StringBuilder};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;
use rand_distr::weighted::WeightedAliasIndex;
use rand_distr::{Distribution, LogNormal};

use super::calendar::{Clock, Moment, Rhythm};
use super::citizens::{Citizen, Citizens, Customers, stream};
use super::city::{self, DISTRICTS};
use super::error::DemoError;
use super::sink::BATCH_ROWS;

/// The values of `payment`.
pub(super) const PAYMENTS: [&str; 3] = ["card", "cash", "wallet"];
const CASH: usize = 1;
/// The values of `vehicle`.
pub(super) const VEHICLES: [&str; 4] = ["economy", "comfort", "van", "moto"];
/// What a vehicle's ride costs, as a multiple of an economy ride.
const VEHICLE_PRICE: [f64; 4] = [1.0, 1.45, 1.8, 0.6];
/// How fast a vehicle gets through the city, as a multiple of a car.
const VEHICLE_SPEED: [f64; 4] = [1.0, 1.0, 0.93, 1.25];

/// One company's character.
#[derive(Debug)]
pub(super) struct Company {
    /// The dataset's name in SQL.
    pub(super) dataset: &'static str,
    /// The share of citizens who are customers.
    share_of_citizens: f64,
    /// Fares, as a multiple of the market's.
    price: f64,
    /// Trips a driver makes in the year.
    trips_per_driver: u64,
    /// Shares of [`PAYMENTS`].
    payments: [f64; 3],
    /// Shares of [`VEHICLES`].
    vehicles: [f64; 4],
    /// The share of trips that get a rating, and the shares of 1 to 5 among them.
    rated: f64,
    ratings: [f64; 5],
    rhythm: Rhythm,
}

const WORKING_DAY: [f64; 24] = [
    1.6, 1.0, 0.7, 0.5, 0.6, 1.2, 2.6, 5.0, 6.9, 5.1, 3.8, 3.6, 4.1, 3.9, 3.7, 4.2, 5.3, 6.8, 7.0, 5.7, 4.6, 4.0, 3.5,
    2.5,
];
const WEEKEND: [f64; 24] = [
    5.4, 5.0, 4.3, 3.1, 1.8, 1.1, 1.1, 1.4, 2.0, 2.8, 3.5, 4.0, 4.4, 4.4, 4.3, 4.4, 4.6, 5.0, 5.4, 5.6, 5.7, 6.0, 6.5,
    6.3,
];
const MONTHS: [f64; 12] = [0.97, 0.96, 1.0, 1.0, 1.02, 1.03, 0.94, 0.87, 1.03, 1.05, 1.06, 1.12];

const fn rhythm(weekday: [f64; 7], growth: f64) -> Rhythm {
    Rhythm { working_day: WORKING_DAY, weekend: WEEKEND, weekday, month: MONTHS, growth }
}

/// The largest: an application, mostly cards, growing.
pub(super) const VELO: Company = Company {
    dataset: "velo.trips",
    share_of_citizens: 0.70,
    price: 1.0,
    trips_per_driver: 420,
    payments: [0.58, 0.12, 0.30],
    vehicles: [0.66, 0.18, 0.06, 0.10],
    rated: 0.62,
    ratings: [0.02, 0.02, 0.06, 0.20, 0.70],
    rhythm: rhythm([0.94, 0.96, 0.98, 1.04, 1.18, 1.12, 0.90], 1.30),
};

/// The challenger: cheap, many motorcycles and wallets, growing fast.
pub(super) const HOPIN: Company = Company {
    dataset: "hopin.trips",
    share_of_citizens: 0.55,
    price: 0.88,
    trips_per_driver: 360,
    payments: [0.36, 0.20, 0.44],
    vehicles: [0.55, 0.08, 0.04, 0.33],
    rated: 0.55,
    ratings: [0.04, 0.04, 0.09, 0.24, 0.59],
    rhythm: rhythm([0.92, 0.94, 0.97, 1.05, 1.22, 1.20, 0.92], 1.75),
};

/// The old cab firm: cash, vans and office days, shrinking.
pub(super) const METROCAB: Company = Company {
    dataset: "metrocab.trips",
    share_of_citizens: 0.40,
    price: 1.12,
    trips_per_driver: 300,
    payments: [0.41, 0.52, 0.07],
    vehicles: [0.52, 0.29, 0.19, 0.0],
    rated: 0.18,
    ratings: [0.05, 0.05, 0.12, 0.31, 0.47],
    rhythm: rhythm([1.04, 1.06, 1.06, 1.08, 1.12, 0.88, 0.72], 0.80),
};

/// The columns of each company's trips.
pub(super) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("trip_id", DataType::Int64, false),
        Field::new("citizen_id", DataType::Int64, false),
        Field::new("started_at", DataType::Timestamp(TimeUnit::Microsecond, None), false),
        Field::new("started_on", DataType::Date32, false),
        Field::new("hour", DataType::Int32, false),
        Field::new("pickup_district", DataType::Int32, false),
        Field::new("dropoff_district", DataType::Int32, false),
        Field::new("distance_km", DataType::Float64, false),
        Field::new("duration_min", DataType::Float64, false),
        Field::new("fare", DataType::Float64, false),
        Field::new("tip", DataType::Float64, true),
        Field::new("payment", DataType::Utf8, false),
        Field::new("vehicle", DataType::Utf8, false),
        Field::new("rating", DataType::Int32, true),
        Field::new("driver_id", DataType::Int64, false),
    ]))
}

/// The trips of one company, in batches, by time of departure.
pub(super) struct TripBatches<'a> {
    company: &'static Company,
    citizens: &'a Citizens,
    customers: Customers,
    clock: Clock,
    rng: Xoshiro256PlusPlus,
    visits: WeightedAliasIndex<f64>,
    payments: WeightedAliasIndex<f64>,
    vehicles: WeightedAliasIndex<f64>,
    ratings: WeightedAliasIndex<f64>,
    /// The spread of a ride's length about the median of its districts.
    detour: LogNormal<f64>,
    /// The spread of a ride's speed about the hour's.
    traffic: LogNormal<f64>,
    /// The spread of a fare about its tariff: promotions, tolls, waiting.
    tariff: LogNormal<f64>,
    /// The surge when there is one, as a multiple.
    surge: LogNormal<f64>,
    /// A tip when there is one, as a share of the fare.
    tip: LogNormal<f64>,
    drivers: u64,
    row: u64,
    rows: u64,
}

impl<'a> TripBatches<'a> {
    /// The `rows` trips of a company.
    ///
    /// # Errors
    /// When a law of the company has impossible parameters.
    pub(super) fn new(
        company: &'static Company,
        seed: u64,
        citizens: &'a Citizens,
        rows: u64,
    ) -> Result<Self, DemoError> {
        Ok(Self {
            company,
            citizens,
            customers: citizens.customers(seed, company.dataset, company.share_of_citizens)?,
            clock: Clock::new(&company.rhythm, rows),
            rng: stream(seed, company.dataset),
            visits: WeightedAliasIndex::new(DISTRICTS.iter().map(city::attraction).collect())?,
            payments: WeightedAliasIndex::new(company.payments.to_vec())?,
            vehicles: WeightedAliasIndex::new(company.vehicles.to_vec())?,
            ratings: WeightedAliasIndex::new(company.ratings.to_vec())?,
            detour: LogNormal::new(0.0, 0.28)?,
            traffic: LogNormal::new(0.0, 0.18)?,
            tariff: LogNormal::new(0.0, 0.12)?,
            surge: LogNormal::new(0.38, 0.22)?,
            tip: LogNormal::new(-2.1, 0.55)?,
            drivers: (rows / company.trips_per_driver).max(1),
            row: 0,
            rows,
        })
    }

    /// From where to where: mostly out of home in the morning and back to it at night.
    fn districts(&mut self, citizen: Citizen, moment: Moment) -> (u8, u8) {
        let rng = &mut self.rng;
        let outbound = rng.random::<f64>() < if (5..14).contains(&moment.hour) { 0.75 } else { 0.35 };
        let commute = !moment.weekend && matches!(moment.hour, 6..=9 | 16..=19) && rng.random::<f64>() < 0.5;
        // Other errands lean to what is near: of two places that would do, people go to the closer one.
        let (one, two) = (self.visits.sample(rng) as u8, self.visits.sample(rng) as u8);
        let from_home = |place| city::median_ride_km(citizen.home, place);
        let errand = if from_home(one) <= from_home(two) { one } else { two };
        let away = if commute { citizen.work } else { errand };
        // One ride in five touches home at neither end.
        let near = if rng.random::<f64>() < 0.8 { citizen.home } else { self.visits.sample(rng) as u8 };
        if outbound { (near, away) } else { (away, near) }
    }

    /// Draws one trip into `columns`.
    fn draw(&mut self, columns: &mut Columns) {
        let moment = self.clock.tick(self.rng.random());
        let index = self.customers.pick(&mut self.rng);
        let (pickup, dropoff) = self.districts(self.citizens.get(index), moment);
        let payment = self.payments.sample(&mut self.rng);
        let vehicle = self.vehicles.sample(&mut self.rng);

        let distance_km = city::median_ride_km(pickup, dropoff) * self.detour.sample(&mut self.rng);
        let km_per_hour = speed(moment) * VEHICLE_SPEED[vehicle] * self.traffic.sample(&mut self.rng);
        let duration_min = 2.0 + 60.0 * distance_km / km_per_hour;
        let tariff = (2.0 + 0.85 * distance_km + 0.18 * duration_min) * VEHICLE_PRICE[vehicle] * self.company.price;
        let surging = self.rng.random::<f64>() < surge_chance(moment);
        // Both are drawn for every trip, so that the stream's position does not hang on a comparison.
        let (surge, spread) = (self.surge.sample(&mut self.rng).max(1.1), self.tariff.sample(&mut self.rng));
        let fare = (tariff * spread * if surging { surge } else { 1.0 }).max(3.0);
        let (tips, tip_share) = (self.rng.random::<f64>() < 0.38, self.tip.sample(&mut self.rng));
        let rated = self.rng.random::<f64>() < self.company.rated;
        let rating = self.ratings.sample(&mut self.rng) as i32 + 1;
        // Some drivers work far more than others: the square of a uniform draw leans to the low numbers.
        let driver = (self.rng.random::<f64>().powi(2) * self.drivers as f64) as i64;

        self.row += 1;
        columns.trip_id.push(self.row as i64);
        columns.citizen_id.push(Citizens::id(index));
        columns.started_at.push(moment.micros);
        columns.started_on.push(moment.day);
        columns.hour.push(moment.hour);
        columns.pickup_district.push(city::number(pickup));
        columns.dropoff_district.push(city::number(dropoff));
        columns.distance_km.push(cents(distance_km));
        columns.duration_min.push((duration_min * 10.0).round() / 10.0);
        columns.fare.push(cents(fare));
        // A driver does not report what was given in cash: that is NULL, and not nothing.
        columns.tip.push(if tips && payment != CASH { cents(fare * tip_share) } else { 0.0 });
        columns.tip_known.push(payment != CASH);
        columns.payment.append_value(PAYMENTS[payment]);
        columns.vehicle.append_value(VEHICLES[vehicle]);
        columns.rating.push(if rated { rating } else { 0 });
        columns.rated.push(rated);
        columns.driver_id.push(driver + 1);
    }
}

impl Iterator for TripBatches<'_> {
    type Item = Result<RecordBatch, DemoError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rows = usize::try_from(self.rows - self.row).unwrap_or(BATCH_ROWS).min(BATCH_ROWS);
        if rows == 0 {
            return None;
        }
        let mut columns = Columns::with_capacity(rows);
        for _ in 0..rows {
            self.draw(&mut columns);
        }
        Some(columns.into_batch())
    }
}

/// Median speed in km an hour: slow in the rush hours of a working day, quick at night.
fn speed(moment: Moment) -> f64 {
    match moment.hour {
        7..=9 | 16..=19 if !moment.weekend => 17.0,
        0..=5 | 23 => 33.0,
        _ => 24.0,
    }
}

/// The chance that a trip is taken while prices surge.
fn surge_chance(moment: Moment) -> f64 {
    match (moment.weekend, moment.hour) {
        (false, 7..=9 | 17..=19) => 0.35,
        (true, 0..=3 | 21..=23) => 0.40,
        _ => 0.05,
    }
}

/// To two decimals: money in cents, and distances in tens of metres.
fn cents(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// One batch under construction: a vector a column, that becomes an Arrow array without a copy.
struct Columns {
    trip_id: Vec<i64>,
    citizen_id: Vec<i64>,
    started_at: Vec<i64>,
    started_on: Vec<i32>,
    hour: Vec<i32>,
    pickup_district: Vec<i32>,
    dropoff_district: Vec<i32>,
    distance_km: Vec<f64>,
    duration_min: Vec<f64>,
    fare: Vec<f64>,
    tip: Vec<f64>,
    tip_known: Vec<bool>,
    payment: StringBuilder,
    vehicle: StringBuilder,
    rating: Vec<i32>,
    rated: Vec<bool>,
    driver_id: Vec<i64>,
}

impl Columns {
    fn with_capacity(rows: usize) -> Self {
        Self {
            trip_id: Vec::with_capacity(rows),
            citizen_id: Vec::with_capacity(rows),
            started_at: Vec::with_capacity(rows),
            started_on: Vec::with_capacity(rows),
            hour: Vec::with_capacity(rows),
            pickup_district: Vec::with_capacity(rows),
            dropoff_district: Vec::with_capacity(rows),
            distance_km: Vec::with_capacity(rows),
            duration_min: Vec::with_capacity(rows),
            fare: Vec::with_capacity(rows),
            tip: Vec::with_capacity(rows),
            tip_known: Vec::with_capacity(rows),
            payment: StringBuilder::with_capacity(rows, rows * 6),
            vehicle: StringBuilder::with_capacity(rows, rows * 7),
            rating: Vec::with_capacity(rows),
            rated: Vec::with_capacity(rows),
            driver_id: Vec::with_capacity(rows),
        }
    }

    fn into_batch(mut self) -> Result<RecordBatch, DemoError> {
        let tip = Float64Array::try_new(self.tip.into(), Some(NullBuffer::from(self.tip_known)))?;
        let rating = Int32Array::try_new(self.rating.into(), Some(NullBuffer::from(self.rated)))?;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(self.trip_id)),
            Arc::new(Int64Array::from(self.citizen_id)),
            Arc::new(TimestampMicrosecondArray::from(self.started_at)),
            Arc::new(Date32Array::from(self.started_on)),
            Arc::new(Int32Array::from(self.hour)),
            Arc::new(Int32Array::from(self.pickup_district)),
            Arc::new(Int32Array::from(self.dropoff_district)),
            Arc::new(Float64Array::from(self.distance_km)),
            Arc::new(Float64Array::from(self.duration_min)),
            Arc::new(Float64Array::from(self.fare)),
            Arc::new(tip),
            Arc::new(self.payment.finish()),
            Arc::new(self.vehicle.finish()),
            Arc::new(rating),
            Arc::new(Int64Array::from(self.driver_id)),
        ];
        Ok(RecordBatch::try_new(schema(), columns)?)
    }
}
