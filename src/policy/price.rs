//! What an owner asks for its privacy: money for each ε, as exact decimals.

use std::fmt;

use serde::{Serialize, Serializer};
use thiserror::Error;

/// How many parts of one unit of currency an amount is counted in.
const STEPS_PER_UNIT: u64 = 1_000_000;

/// How many decimal places that is.
const PLACES: usize = 6;

/// The largest amount, in whole units of currency: far above any price, and far below any overflow.
const MAX_UNITS: u64 = 1_000_000_000;

/// The active codes of ISO 4217, without the two that stand for no currency and for tests.
const CURRENCIES: &str = "\
    AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BHD BIF BMD BND BOB BOV \
    BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW CLF CLP CNY COP COU CRC CUP \
    CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF \
    GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR \
    KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT \
    MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN \
    PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE \
    SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX \
    USD USN UYI UYU UYW UZS VED VES VND VUV WST XAD XAF XAG XAU XBA XBB XBC \
    XBD XCD XCG XDR XOF XPD XPF XPT XSU XUA YER ZAR ZMW ZWG";

/// Why a text is no price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PriceError {
    /// The amount is no decimal above 0, has more than six places, or is too large.
    #[error("is no amount")]
    Amount,
    /// The currency is no code of ISO 4217.
    #[error("is no currency")]
    Currency,
}

/// An amount of money for each ε that is spent. Exact: no float is ever made of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    /// In 10⁻⁶ units of the currency; above 0.
    micros: u64,
    currency: &'static str,
}

impl Price {
    /// The price `amount`, a decimal such as `12.50`, in `currency`, a code of ISO 4217 such as `EUR`.
    ///
    /// # Errors
    /// [`PriceError`]: the amount is digits, and perhaps a point and at most six more digits; above 0 and at most 10⁹.
    pub fn new(amount: &str, currency: &str) -> Result<Self, PriceError> {
        let micros = micros(amount).ok_or(PriceError::Amount)?;
        let currency = CURRENCIES.split_whitespace().find(|known| *known == currency).ok_or(PriceError::Currency)?;
        Ok(Self { micros, currency })
    }

    /// The amount for an ε of 1, in 10⁻⁶ units of the currency.
    #[must_use]
    pub const fn micros_per_epsilon(self) -> u64 {
        self.micros
    }

    /// The currency, a code of ISO 4217.
    #[must_use]
    pub const fn currency(self) -> &'static str {
        self.currency
    }

    /// The amount as it is written: two places, and more where it has them.
    fn amount(self) -> String {
        let (units, mut rest, mut places) = (self.micros / STEPS_PER_UNIT, self.micros % STEPS_PER_UNIT, PLACES);
        while places > 2 && rest.is_multiple_of(10) {
            (rest, places) = (rest / 10, places - 1);
        }
        format!("{units}.{rest:0places$}")
    }
}

/// `text` in 10⁻⁶ units.
fn micros(text: &str) -> Option<u64> {
    let (units, places) = text.split_once('.').map_or((text, None), |(units, places)| (units, Some(places)));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(units) || places.is_some_and(|places| !digits(places) || places.len() > PLACES) {
        return None;
    }
    let units: u64 = units.parse().ok()?;
    let places: u64 = format!("{:0<PLACES$}", places.unwrap_or_default()).parse().ok()?;
    let micros = units.checked_mul(STEPS_PER_UNIT)?.checked_add(places)?;
    (1..=MAX_UNITS * STEPS_PER_UNIT).contains(&micros).then_some(micros)
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.amount(), self.currency)
    }
}

impl Serialize for Price {
    /// As a policy writes it, so that no reader makes a float of the amount.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut price = serializer.serialize_struct("Price", 2)?;
        price.serialize_field("amount", &self.amount())?;
        price.serialize_field("currency", self.currency)?;
        price.end()
    }
}
