//! Which stretch of time a report is over.

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};

use super::super::{Code, GatewayError};

/// From a moment on, until another, which is no longer in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Span {
    pub(super) from: Option<DateTime<Utc>>,
    pub(super) until: Option<DateTime<Utc>>,
}

impl Span {
    /// Reads two moments. A date is a whole day in UTC: as `from` from its beginning on, as `to` to its end, the day
    /// included. A time (RFC 3339) is the moment itself, which as `to` is not in the span.
    pub(super) fn read(from: Option<&str>, to: Option<&str>) -> Result<Self, GatewayError> {
        let span = Self {
            from: from.map(|text| moment("from", text, false)).transpose()?,
            until: to.map(|text| moment("to", text, true)).transpose()?,
        };
        match span {
            Self { from: Some(from), until: Some(until) } if from >= until => {
                Err(GatewayError::new(Code::RequestInvalid, "`from` is not before `to`"))
            }
            span => Ok(span),
        }
    }
}

fn moment(name: &str, text: &str, end: bool) -> Result<DateTime<Utc>, GatewayError> {
    let day = |date: NaiveDate| {
        let date = if end { date.succ_opt()? } else { date };
        Some(date.and_time(NaiveTime::MIN).and_utc())
    };
    let read = match text.parse::<NaiveDate>() {
        Ok(date) => day(date),
        Err(_) => DateTime::parse_from_rfc3339(text).ok().map(|time| time.with_timezone(&Utc)),
    };
    read.ok_or_else(|| {
        GatewayError::new(Code::RequestInvalid, format!("`{name}` is no date and no time"))
            .with_hint("write 2026-11-01, or 2026-11-01T00:00:00Z")
    })
}
