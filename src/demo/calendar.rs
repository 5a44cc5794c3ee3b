//! When things happen in 2025: an hourly intensity over the year, and moments drawn from it in order.

/// Days from 1970-01-01 to 2025-01-01.
pub(super) const FIRST_DAY: i32 = 20_089;
/// Days in 2025.
pub(super) const DAYS: i32 = 365;
/// Which day of the week 2025-01-01 was, Monday being 0.
const FIRST_WEEKDAY: usize = 2;
/// Days in each month of 2025.
const MONTH_DAYS: [usize; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
const MICROS_PER_HOUR: i64 = 3_600_000_000;

/// How busy a business is: relative weights, of which only the proportions matter.
#[derive(Debug)]
pub(super) struct Rhythm {
    /// By hour of a Monday to Friday.
    pub(super) working_day: [f64; 24],
    /// By hour of a Saturday or Sunday.
    pub(super) weekend: [f64; 24],
    /// By day of the week, Monday first.
    pub(super) weekday: [f64; 7],
    /// By month, January first.
    pub(super) month: [f64; 12],
    /// The business at the end of the year as a multiple of that at its start.
    pub(super) growth: f64,
}

/// One moment of 2025.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    /// Microseconds since 1970-01-01T00:00.
    pub(super) micros: i64,
    /// Days since 1970-01-01.
    pub(super) day: i32,
    /// Hour of the day, 0 to 23.
    pub(super) hour: i32,
    /// Whether it is a Saturday or a Sunday.
    pub(super) weekend: bool,
}

/// Moments of a rhythm in ascending order, as a company's own log would hold them.
///
/// Row i of n falls at the quantile (i + u)/n of the year, with u uniform: a stratified draw. It follows the rhythm
/// more closely than independent draws would, and needs no sort, so that a table of any size streams.
#[derive(Debug)]
pub(super) struct Clock {
    /// The share of the year's business up to the end of each hour; the last is 1.
    cumulative: Vec<f64>,
    hour_of_year: usize,
    row: u64,
    rows: u64,
}

impl Clock {
    /// A clock that spreads `rows` moments over the year.
    pub(super) fn new(rhythm: &Rhythm, rows: u64) -> Self {
        let mut cumulative = Vec::with_capacity(DAYS as usize * 24);
        let mut total = 0.0;
        let days = MONTH_DAYS.iter().enumerate().flat_map(|(month, &days)| std::iter::repeat_n(month, days));
        for (day, month) in days.enumerate() {
            let weekday = (FIRST_WEEKDAY + day) % 7;
            let profile = if weekday < 5 { &rhythm.working_day } else { &rhythm.weekend };
            let trend = 1.0 + (rhythm.growth - 1.0) * day as f64 / f64::from(DAYS);
            for weight in profile {
                total += weight * rhythm.weekday[weekday] * rhythm.month[month] * trend;
                cumulative.push(total);
            }
        }
        for share in &mut cumulative {
            *share /= total;
        }
        Self { cumulative, hour_of_year: 0, row: 0, rows }
    }

    /// The next moment, placed within its stratum by `u` in [0, 1).
    pub(super) fn tick(&mut self, u: f64) -> Moment {
        let quantile = (self.row as f64 + u) / self.rows.max(1) as f64;
        self.row += 1;
        while self.hour_of_year + 1 < self.cumulative.len() && self.cumulative[self.hour_of_year] <= quantile {
            self.hour_of_year += 1;
        }
        let end = self.cumulative[self.hour_of_year];
        let start = self.hour_of_year.checked_sub(1).map_or(0.0, |before| self.cumulative[before]);
        // An hour without business has no width; nothing falls in it, but a division by it must not make a NaN.
        let within = if end > start { ((quantile - start) / (end - start)).clamp(0.0, 1.0) } else { 0.0 };
        let into_hour = ((within * MICROS_PER_HOUR as f64) as i64).min(MICROS_PER_HOUR - 1);
        let day_of_year = self.hour_of_year / 24;
        Moment {
            micros: (i64::from(FIRST_DAY) * 24 + self.hour_of_year as i64) * MICROS_PER_HOUR + into_hour,
            day: FIRST_DAY + day_of_year as i32,
            hour: (self.hour_of_year % 24) as i32,
            weekend: (FIRST_WEEKDAY + day_of_year) % 7 >= 5,
        }
    }
}
