//! Amounts of money: exact, or refused.

use crate::policy::{Price, PriceError};

#[test]
fn an_amount_is_held_to_a_millionth() {
    for (written, micros, shown) in [
        ("12.50", 12_500_000, "12.50 EUR"),
        ("12.5", 12_500_000, "12.50 EUR"),
        ("012", 12_000_000, "12.00 EUR"),
        ("0.000001", 1, "0.000001 EUR"),
        ("0.1230", 123_000, "0.123 EUR"),
        ("1000000000", 1_000_000_000_000_000, "1000000000.00 EUR"),
        // A float would make 0.30000000000000004 of the sum of its parts.
        ("0.3", 300_000, "0.30 EUR"),
    ] {
        let price = Price::new(written, "EUR").unwrap();
        assert_eq!((price.micros_per_epsilon(), price.to_string().as_str()), (micros, shown), "{written}");
        let again = Price::new(price.to_string().split(' ').next().unwrap(), "EUR").unwrap();
        assert_eq!(again, price, "{written}");
    }
    let json = serde_json::to_string(&Price::new("12.5", "CHF").unwrap()).unwrap();
    assert_eq!(json, r#"{"amount":"12.50","currency":"CHF"}"#);
}

#[test]
fn what_is_no_amount_is_refused() {
    for written in [
        "",
        ".",
        "1.",
        ".5",
        "-1",
        "+1",
        "1e3",
        "0",
        "0.000000",
        "1.0000001",
        "1_000",
        "1 000",
        "1,5",
        "1.5.0",
        "NaN",
        "inf",
        "١",
        "1000000000.000001",
        "99999999999999999999",
    ] {
        assert_eq!(Price::new(written, "EUR"), Err(PriceError::Amount), "{written}");
    }
    for currency in ["", "eur", "EURO", "XXX", "XTS", "EU", "AED AFN", "ABC"] {
        assert_eq!(Price::new("1", currency), Err(PriceError::Currency), "{currency}");
    }
}
