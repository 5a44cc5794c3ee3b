//! Which form an answer takes: the negotiation of RFC 9110, section 12.5.1, over the three forms that are spoken.

use axum::http::{HeaderMap, StatusCode, header};

use super::problem::Problem;
use crate::gateway::Code;

/// A form that an answer can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// The answer whole, with its accuracy, price and accounts.
    Json,
    /// Rows under a header row; the facts of privacy are in the response's headers.
    Csv,
    /// An Arrow IPC stream; the facts of privacy are in the response's headers.
    ArrowStream,
}

impl Format {
    /// Every form, the preferred one first.
    const ALL: [Self; 3] = [Self::Json, Self::Csv, Self::ArrowStream];

    /// Its media type.
    pub(super) const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv",
            Self::ArrowStream => "application/vnd.apache.arrow.stream",
        }
    }

    /// The form that the Accept header likes best; JSON where it does not say.
    ///
    /// # Errors
    /// 406 when it likes none of the three.
    pub(super) fn negotiate(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut accept = String::new();
        for value in headers.get_all(header::ACCEPT) {
            accept.push_str(value.to_str().map_err(|_| not_acceptable())?);
            accept.push(',');
        }
        let ranges: Vec<MediaRange<'_>> = accept.split(',').filter_map(MediaRange::parse).collect();
        if ranges.is_empty() {
            return Ok(Self::Json);
        }
        // `max_by_key` keeps the last of equals, so the forms are tried from the least preferred.
        Self::ALL
            .into_iter()
            .rev()
            .filter_map(|format| Some((format, preference(&ranges, format)?)))
            .max_by_key(|(_, preference)| *preference)
            .map(|(format, _)| format)
            .ok_or_else(not_acceptable)
    }
}

fn not_acceptable() -> Problem {
    Problem::new(Code::RequestInvalid, "the Accept header asks for a form that answers do not take")
        .with_status(StatusCode::NOT_ACCEPTABLE)
        .with_hint("accept application/json, text/csv or application/vnd.apache.arrow.stream")
}

/// How much `format` is liked, as (thousandths of quality, how exactly it was named); `None` where it is not wanted.
/// The most exact range that fits decides, as the RFC has it; of forms equally liked, one named outright wins over one
/// that a wildcard admits.
fn preference(ranges: &[MediaRange<'_>], format: Format) -> Option<(u16, u8)> {
    let best =
        ranges.iter().filter_map(|range| Some((range.exactness(format)?, range.quality))).max_by_key(|fit| fit.0)?;
    (best.1 > 0).then_some((best.1, best.0))
}

/// One range of an Accept header, such as `text/*;q=0.5`.
struct MediaRange<'a> {
    kind: &'a str,
    subtype: &'a str,
    /// In thousandths.
    quality: u16,
}

impl<'a> MediaRange<'a> {
    /// Reads one range; `None` for an empty one. A range that makes no sense fits nothing.
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let range = parts.next().filter(|range| !range.is_empty())?;
        let (kind, subtype) = range.split_once('/').unwrap_or((range, ""));
        let quality = parts
            .filter_map(|parameter| parameter.split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("q"))
            .map_or(1000, |(_, value)| thousandths(value.trim()));
        Some(Self { kind, subtype, quality })
    }

    /// How exactly this range names `format`; `None` where it does not fit at all.
    fn exactness(&self, format: Format) -> Option<u8> {
        let (kind, subtype) = format.media_type().split_once('/')?;
        match (self.kind, self.subtype) {
            ("*", "*") => Some(0),
            (range, "*") if range.eq_ignore_ascii_case(kind) => Some(1),
            (range, rest) if range.eq_ignore_ascii_case(kind) && rest.eq_ignore_ascii_case(subtype) => Some(2),
            _ => None,
        }
    }
}

/// A quality value in thousandths; 0, "not wanted", where it is none.
fn thousandths(text: &str) -> u16 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let well_formed = fraction.len() <= 3 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    match whole {
        "1" if well_formed => 1000,
        "0" if well_formed => format!("{fraction:0<3}").parse().unwrap_or(0),
        _ => 0,
    }
}
