//! The e-commerce company.

use std::sync::Arc;

use arrow::array::TimestampMicrosecondArray;
use arrow::array::{ArrayRef, BooleanArray, Date32Array, Float64Array, Int32Array, Int64Array, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;
use rand_distr::weighted::WeightedAliasIndex;
use rand_distr::{Distribution, LogNormal};

use super::calendar::{Clock, Rhythm};
use super::citizens::{Citizens, Customers, stream};
use super::city;
use super::error::DemoError;
use super::sink::BATCH_ROWS;

/// The dataset's name in SQL.
pub(super) const DATASET: &str = "bazaar.orders";
/// The values of `channel`.
pub(super) const CHANNELS: [&str; 3] = ["web", "app", "store"];
const CHANNEL_SHARES: [f64; 3] = [0.37, 0.49, 0.14];
/// The share of citizens who are customers.
const SHARE_OF_CITIZENS: f64 = 0.80;
/// Shares of orders of 1 to 6 items.
const ITEM_SHARES: [f64; 6] = [0.52, 0.22, 0.11, 0.07, 0.05, 0.03];

/// A category of goods.
pub(super) struct Category {
    pub(super) name: &'static str,
    /// Its share of all orders.
    share: f64,
    /// The median list price of one item, in the city's currency.
    median_price: f64,
    /// The share of its orders that are sent back.
    returned: f64,
}

const fn category(name: &'static str, share: f64, median_price: f64, returned: f64) -> Category {
    Category { name, share, median_price, returned }
}

/// The values of `category`.
pub(super) const CATEGORIES: [Category; 14] = [
    category("groceries", 0.200, 16.0, 0.01),
    category("fashion", 0.155, 31.0, 0.24),
    category("household", 0.110, 19.0, 0.04),
    category("beauty", 0.090, 17.0, 0.05),
    category("books", 0.080, 13.0, 0.02),
    category("electronics", 0.075, 92.0, 0.09),
    category("toys", 0.060, 21.0, 0.05),
    category("sports", 0.050, 36.0, 0.11),
    category("pets", 0.045, 22.0, 0.02),
    category("shoes", 0.040, 54.0, 0.28),
    category("garden", 0.035, 33.0, 0.05),
    category("pharmacy", 0.025, 14.0, 0.01),
    category("furniture", 0.020, 148.0, 0.12),
    category("jewellery", 0.015, 84.0, 0.15),
];

const RHYTHM: Rhythm = Rhythm {
    working_day: [
        1.5, 0.8, 0.5, 0.3, 0.3, 0.5, 1.1, 2.2, 3.3, 4.2, 4.8, 5.0, 5.6, 5.2, 4.7, 4.5, 4.6, 4.9, 5.4, 6.3, 7.3, 7.6,
        5.9, 3.4,
    ],
    weekend: [
        2.0, 1.2, 0.7, 0.4, 0.3, 0.4, 0.7, 1.5, 2.8, 4.2, 5.4, 5.9, 5.7, 5.4, 5.4, 5.5, 5.6, 5.6, 5.8, 6.2, 6.6, 6.5,
        5.0, 3.1,
    ],
    weekday: [1.08, 1.02, 0.99, 0.98, 0.95, 0.93, 1.05],
    month: [0.92, 0.87, 0.93, 0.94, 0.97, 0.95, 0.93, 0.90, 0.97, 1.02, 1.34, 1.42],
    growth: 1.10,
};

/// The columns of the orders.
pub(super) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("order_id", DataType::Int64, false),
        Field::new("citizen_id", DataType::Int64, false),
        Field::new("ordered_at", DataType::Timestamp(TimeUnit::Microsecond, None), false),
        Field::new("ordered_on", DataType::Date32, false),
        Field::new("category", DataType::Utf8, false),
        Field::new("items", DataType::Int32, false),
        Field::new("amount", DataType::Float64, false),
        Field::new("discount", DataType::Float64, false),
        Field::new("district", DataType::Int32, false),
        Field::new("channel", DataType::Utf8, false),
        Field::new("returned", DataType::Boolean, false),
    ]))
}

/// The orders, in batches, by time.
pub(super) struct OrderBatches<'a> {
    citizens: &'a Citizens,
    customers: Customers,
    clock: Clock,
    rng: Xoshiro256PlusPlus,
    categories: WeightedAliasIndex<f64>,
    items: WeightedAliasIndex<f64>,
    channels: WeightedAliasIndex<f64>,
    /// The spread of an item's price about its category's median.
    price: LogNormal<f64>,
    row: u64,
    rows: u64,
}

impl<'a> OrderBatches<'a> {
    /// The `rows` orders.
    ///
    /// # Errors
    /// When a law of the company has impossible parameters.
    pub(super) fn new(seed: u64, citizens: &'a Citizens, rows: u64) -> Result<Self, DemoError> {
        Ok(Self {
            citizens,
            customers: citizens.customers(seed, DATASET, SHARE_OF_CITIZENS)?,
            clock: Clock::new(&RHYTHM, rows),
            rng: stream(seed, DATASET),
            categories: WeightedAliasIndex::new(CATEGORIES.iter().map(|c| c.share).collect())?,
            items: WeightedAliasIndex::new(ITEM_SHARES.to_vec())?,
            channels: WeightedAliasIndex::new(CHANNEL_SHARES.to_vec())?,
            price: LogNormal::new(0.0, 0.75)?,
            row: 0,
            rows,
        })
    }

    /// Draws one order into `columns`.
    fn draw(&mut self, columns: &mut Columns) {
        let rng = &mut self.rng;
        let moment = self.clock.tick(rng.random());
        let index = self.customers.pick(rng);
        let citizen = self.citizens.get(index);
        let category = &CATEGORIES[self.categories.sample(rng)];
        let items = self.items.sample(rng) + 1;
        let channel = self.channels.sample(rng);
        // Goods go home, or now and then to where the customer works.
        let district = if rng.random::<f64>() < 0.88 { citizen.home } else { citizen.work };
        // Each further item is a cheaper one: a basket grows more slowly than its number of items.
        let list_price = (category.median_price * self.price.sample(rng) * (items as f64).powf(0.8)).max(0.5);
        // November and December are the months of sales: days 304 and after, counted from 0.
        let sale = if moment.day - super::calendar::FIRST_DAY >= 304 { 0.45 } else { 0.18 };
        let (on_sale, rate) = (rng.random::<f64>() < sale, 0.05 + 0.30 * rng.random::<f64>());
        let discount = if on_sale { (list_price * rate * 100.0).round() / 100.0 } else { 0.0 };
        let amount = ((list_price - discount) * 100.0).round() / 100.0;
        // What is bought in the store has been tried on there.
        let returned = rng.random::<f64>() < category.returned * if CHANNELS[channel] == "store" { 0.4 } else { 1.0 };

        self.row += 1;
        columns.order_id.push(self.row as i64);
        columns.citizen_id.push(Citizens::id(index));
        columns.ordered_at.push(moment.micros);
        columns.ordered_on.push(moment.day);
        columns.category.append_value(category.name);
        columns.items.push(items as i32);
        columns.amount.push(amount);
        columns.discount.push(discount);
        columns.district.push(city::number(district));
        columns.channel.append_value(CHANNELS[channel]);
        columns.returned.push(returned);
    }
}

impl Iterator for OrderBatches<'_> {
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

/// One batch under construction: a vector a column, that becomes an Arrow array without a copy.
struct Columns {
    order_id: Vec<i64>,
    citizen_id: Vec<i64>,
    ordered_at: Vec<i64>,
    ordered_on: Vec<i32>,
    category: StringBuilder,
    items: Vec<i32>,
    amount: Vec<f64>,
    discount: Vec<f64>,
    district: Vec<i32>,
    channel: StringBuilder,
    returned: Vec<bool>,
}

impl Columns {
    fn with_capacity(rows: usize) -> Self {
        Self {
            order_id: Vec::with_capacity(rows),
            citizen_id: Vec::with_capacity(rows),
            ordered_at: Vec::with_capacity(rows),
            ordered_on: Vec::with_capacity(rows),
            category: StringBuilder::with_capacity(rows, rows * 9),
            items: Vec::with_capacity(rows),
            amount: Vec::with_capacity(rows),
            discount: Vec::with_capacity(rows),
            district: Vec::with_capacity(rows),
            channel: StringBuilder::with_capacity(rows, rows * 4),
            returned: Vec::with_capacity(rows),
        }
    }

    fn into_batch(mut self) -> Result<RecordBatch, DemoError> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(self.order_id)),
            Arc::new(Int64Array::from(self.citizen_id)),
            Arc::new(TimestampMicrosecondArray::from(self.ordered_at)),
            Arc::new(Date32Array::from(self.ordered_on)),
            Arc::new(self.category.finish()),
            Arc::new(Int32Array::from(self.items)),
            Arc::new(Float64Array::from(self.amount)),
            Arc::new(Float64Array::from(self.discount)),
            Arc::new(Int32Array::from(self.district)),
            Arc::new(self.channel.finish()),
            Arc::new(BooleanArray::from(self.returned)),
        ];
        Ok(RecordBatch::try_new(schema(), columns)?)
    }
}
