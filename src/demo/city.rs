//! The invented city: forty districts in five boroughs, and the public table of them.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;

use super::error::DemoError;

/// One district. Its number is its place in [`DISTRICTS`], counted from 1.
#[derive(Debug)]
pub(super) struct District {
    pub(super) name: &'static str,
    pub(super) borough: &'static str,
    /// Residents.
    pub(super) population: i64,
    pub(super) area_km2: f64,
    /// Median income of a household, a year, in the city's currency.
    pub(super) median_income: f64,
    /// Kilometres east of the city's centre.
    east_km: f64,
    /// Kilometres north of the city's centre.
    north_km: f64,
}

const fn district(
    name: &'static str,
    borough: &'static str,
    population: i64,
    area_km2: f64,
    median_income: f64,
    (east_km, north_km): (f64, f64),
) -> District {
    District { name, borough, population, area_km2, median_income, east_km, north_km }
}

/// All districts, in the order of their numbers.
pub(super) const DISTRICTS: [District; 40] = [
    district("Exchange", "Old Town", 31_200, 2.1, 64_800.0, (0.2, 0.1)),
    district("Cathedral", "Old Town", 28_900, 1.8, 58_300.0, (-0.6, 0.5)),
    district("Lanternmarket", "Old Town", 36_400, 2.0, 49_700.0, (0.7, -0.5)),
    district("Tanners' Row", "Old Town", 42_700, 2.4, 41_200.0, (-0.9, -0.8)),
    district("University", "Old Town", 47_500, 3.3, 36_900.0, (0.1, 1.6)),
    district("Parliament Hill", "Old Town", 22_300, 2.9, 88_400.0, (1.3, 0.9)),
    district("Central Station", "Old Town", 33_800, 2.6, 43_100.0, (-1.5, 0.2)),
    district("Millbridge", "Old Town", 39_100, 2.7, 52_600.0, (0.4, -1.7)),
    district("Fishgate", "Harbourside", 44_900, 3.8, 39_400.0, (3.0, -1.9)),
    district("Ropewalk", "Harbourside", 51_300, 3.5, 44_800.0, (3.9, -0.8)),
    district("Old Docks", "Harbourside", 38_600, 5.2, 57_900.0, (4.6, -2.8)),
    district("Lighthouse Point", "Harbourside", 19_700, 4.4, 79_200.0, (7.1, -3.9)),
    district("Saltmarsh", "Harbourside", 27_400, 9.6, 35_600.0, (6.2, -6.0)),
    district("Container Quay", "Harbourside", 12_800, 11.3, 33_900.0, (8.4, -5.1)),
    district("Gullhaven", "Harbourside", 46_200, 5.9, 46_700.0, (5.4, 0.7)),
    district("Customs House", "Harbourside", 24_500, 2.8, 61_500.0, (2.6, -0.3)),
    district("Birchfield", "Northfield", 63_700, 6.8, 47_900.0, (-0.8, 4.3)),
    district("Observatory", "Northfield", 41_800, 5.1, 71_300.0, (1.5, 5.0)),
    district("Kilnhurst", "Northfield", 58_200, 6.2, 38_800.0, (-2.9, 5.4)),
    district("Thornlea", "Northfield", 49_600, 7.7, 54_200.0, (0.3, 7.2)),
    district("Highgrove", "Northfield", 35_900, 8.5, 92_700.0, (3.2, 7.0)),
    district("Wintergate", "Northfield", 54_400, 7.1, 43_600.0, (-1.9, 8.1)),
    district("Airfield North", "Northfield", 16_300, 18.2, 40_500.0, (2.4, 12.6)),
    district("Quarry Bank", "Northfield", 45_100, 9.3, 37_700.0, (-4.6, 8.8)),
    district("Willow Reach", "Riverlands", 57_800, 6.4, 50_300.0, (-3.7, 1.2)),
    district("Three Weirs", "Riverlands", 48_300, 7.0, 46_100.0, (-5.2, 0.0)),
    district("Abbotsford", "Riverlands", 61_900, 6.6, 42_400.0, (-4.4, -1.9)),
    district("Watermeadow", "Riverlands", 37_200, 10.4, 67_600.0, (-7.3, 1.7)),
    district("Sluice End", "Riverlands", 29_800, 8.9, 36_200.0, (-8.1, -0.9)),
    district("Ferrybridge", "Riverlands", 52_700, 7.3, 45_500.0, (-6.5, -3.1)),
    district("Orchard Vale", "Riverlands", 33_400, 12.8, 74_900.0, (-9.8, 2.6)),
    district("Marlpit", "Riverlands", 44_000, 9.9, 40_900.0, (-9.2, -3.4)),
    district("Southmoor Cross", "Southmoor", 66_500, 6.1, 39_900.0, (-0.4, -4.6)),
    district("Heathside", "Southmoor", 55_600, 7.4, 48_700.0, (1.9, -5.3)),
    district("Brickfields", "Southmoor", 62_100, 6.9, 34_800.0, (-2.6, -5.8)),
    district("Cinder Hill", "Southmoor", 47_900, 8.0, 37_100.0, (0.6, -7.4)),
    district("Stadium", "Southmoor", 26_700, 5.7, 42_900.0, (3.4, -7.9)),
    district("Larkrise", "Southmoor", 50_800, 8.8, 56_400.0, (-3.3, -8.3)),
    district("Greenmantle", "Southmoor", 31_600, 13.5, 83_100.0, (-0.9, -10.9)),
    district("Furnace Lane", "Southmoor", 53_300, 9.1, 35_300.0, (2.2, -10.2)),
];

/// How strongly a district draws visits: its people, more so towards the centre.
pub(super) fn attraction(district: &District) -> f64 {
    let from_centre_squared = district.east_km.powi(2) + district.north_km.powi(2);
    district.population as f64 * (1.0 + 4.0 * (-from_centre_squared / 12.0).exp())
}

/// The median length in km of a ride between two districts, given as indices of [`DISTRICTS`]. Streets are longer than
/// the straight line, and a ride within a district has a length too.
pub(super) fn median_ride_km(from: u8, to: u8) -> f64 {
    let (from, to) = (&DISTRICTS[usize::from(from)], &DISTRICTS[usize::from(to)]);
    1.4 + 1.25 * (from.east_km - to.east_km).hypot(from.north_km - to.north_km)
}

/// The number of the district of an index, as the tables write it.
pub(super) fn number(index: u8) -> i32 {
    i32::from(index) + 1
}

/// The columns of `city.districts`.
pub(super) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("district", DataType::Int32, false),
        Field::new("name", DataType::Utf8, false),
        Field::new("borough", DataType::Utf8, false),
        Field::new("population", DataType::Int64, false),
        Field::new("area_km2", DataType::Float64, false),
        Field::new("median_income", DataType::Float64, false),
    ]))
}

/// The rows of `city.districts`.
///
/// # Errors
/// When the columns do not fit the schema.
pub(super) fn table() -> Result<RecordBatch, DemoError> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from_iter_values(1..=DISTRICTS.len() as i32)),
        Arc::new(StringArray::from_iter_values(DISTRICTS.iter().map(|d| d.name))),
        Arc::new(StringArray::from_iter_values(DISTRICTS.iter().map(|d| d.borough))),
        Arc::new(Int64Array::from_iter_values(DISTRICTS.iter().map(|d| d.population))),
        Arc::new(Float64Array::from_iter_values(DISTRICTS.iter().map(|d| d.area_km2))),
        Arc::new(Float64Array::from_iter_values(DISTRICTS.iter().map(|d| d.median_income))),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}
