//! Queries to try on the demo's data.

/// A query to paste.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DemoQuery {
    /// What it asks, in a few words.
    pub title: &'static str,
    /// The SQL.
    pub sql: &'static str,
    /// The price that the demo suggests: ε of the whole query.
    pub epsilon: f64,
    /// The purpose to state, where a dataset's policy asks for one.
    pub purpose: Option<&'static str>,
    /// What there is to see in it.
    pub note: &'static str,
}

/// Five queries, each of which shows one thing more than the last.
pub const QUERIES: [DemoQuery; 5] = [
    DemoQuery {
        title: "How people pay for their rides",
        sql: "\
SELECT payment, count(*) AS trips, count(DISTINCT citizen_id) AS riders, avg(fare) AS mean_fare
FROM velo.trips
GROUP BY payment
ORDER BY trips DESC",
        epsilon: 0.2,
        purpose: None,
        note: "One company, and keys that its policy lists: every way to pay is returned. Ask it twice: the second \
               answer is the same and free.",
    },
    DemoQuery {
        title: "The city's day, hour by hour",
        sql: "\
SELECT hour, count(*) AS trips, avg(duration_min) AS minutes
FROM rides.trips
GROUP BY hour
ORDER BY hour",
        epsilon: 0.5,
        purpose: None,
        note: "Three companies as one collection. A citizen who rides with all three is bounded once, not three times, \
               and each company's account is charged.",
    },
    DemoQuery {
        title: "Fares and tips by borough",
        sql: "\
SELECT d.borough, count(*) AS trips, sum(t.fare) / sum(t.distance_km) AS fare_per_km, count(t.tip) AS trips_without_cash
FROM rides.trips t
JOIN city.districts d ON t.pickup_district = d.district
GROUP BY d.borough
ORDER BY fare_per_km DESC",
        epsilon: 1.0,
        purpose: None,
        note: "A join to a public table, which costs nothing in itself; the ratio of two noised sums is arithmetic on \
               the answer and free as well.",
    },
    DemoQuery {
        title: "What is sent back, by sales channel",
        sql: "\
SELECT channel, count(*) AS orders, sum(amount) AS turnover,
       100.0 * count(*) FILTER (WHERE returned) / count(*) AS percent_returned
FROM bazaar.orders
GROUP BY channel
ORDER BY turnover DESC",
        epsilon: 0.8,
        purpose: Some("statistics"),
        note: "A company with pure accounting: its noise is Laplace, its prices add up as they stand, and it wants to \
               be told what for.",
    },
    DemoQuery {
        title: "Where the challenger takes people",
        sql: "\
SELECT dropoff_district, count(DISTINCT citizen_id) AS riders, avg(rating) AS mean_rating
FROM hopin.trips
GROUP BY dropoff_district
HAVING count(DISTINCT citizen_id) > 500
ORDER BY riders DESC
LIMIT 10",
        epsilon: 0.5,
        purpose: None,
        note: "Keys that the policy does not list: a district appears only when enough citizens went there, and that \
               choice costs a little delta.",
    },
];
