//! How many refusals of one consumer are decided and logged in a minute. A refusal is free, and the log is for ever: whoever
//! sends nothing but what is refused must not be able to fill it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};

use super::{Code, GatewayError};

/// The most in one minute of the clock: ten a second, which no person types.
const MOST_A_MINUTE: u32 = 600;

/// The refusals of the present minute, by consumer: as many as there are consumers, and no more.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<HashMap<String, Counted>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counted {
    minute: i64,
    refused: u32,
}

impl Refusals {
    /// That `consumer` may ask: it has not been refused too often within this minute.
    pub(super) fn may_ask(&self, consumer: &str, now: DateTime<Utc>) -> Result<(), GatewayError> {
        let counted = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(consumer).copied();
        let minute = minute_of(now);
        if counted.is_none_or(|counted| counted.minute != minute || counted.refused < MOST_A_MINUTE) {
            return Ok(());
        }
        Err(GatewayError::new(
            Code::RateLimited,
            format!("more than {MOST_A_MINUTE} questions of this consumer were refused within a minute"),
        )
        .with_hint("wait for the next minute; a dry run says what would be refused, and is not counted"))
    }

    /// Counts a refusal. Whether it is to be logged: one that is refused for being one too many is logged once, as the one that
    /// reached the limit.
    pub(super) fn count(&self, consumer: &str, now: DateTime<Utc>) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let minute = minute_of(now);
        let counted = all.entry(consumer.to_owned()).or_insert(Counted { minute, refused: 0 });
        if counted.minute != minute {
            *counted = Counted { minute, refused: 0 };
        }
        counted.refused = counted.refused.saturating_add(1);
        counted.refused <= MOST_A_MINUTE + 1
    }
}

const fn minute_of(now: DateTime<Utc>) -> i64 {
    now.timestamp().div_euclid(60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_that_is_refused_too_often_waits_for_the_next_minute() {
        let at = |second: i64| DateTime::from_timestamp(60 * 100 + second, 0).unwrap();
        let refusals = Refusals::default();
        for n in 0..MOST_A_MINUTE {
            refusals.may_ask("dot", at(i64::from(n) % 60)).unwrap();
            assert!(refusals.count("dot", at(i64::from(n) % 60)));
        }
        // One too many: it is told, logged once, and then no more.
        let refused = refusals.may_ask("dot", at(59)).unwrap_err();
        assert_eq!(refused.code, Code::RateLimited);
        assert!(refusals.count("dot", at(59)));
        for _ in 0..3 {
            assert!(refusals.may_ask("dot", at(59)).is_err());
            assert!(!refusals.count("dot", at(59)));
        }
        // Nobody else is meant, and the next minute is another.
        refusals.may_ask("fed", at(59)).unwrap();
        assert!(refusals.count("fed", at(59)));
        refusals.may_ask("dot", at(60)).unwrap();
        assert!(refusals.count("dot", at(60)));
        refusals.may_ask("dot", at(60)).unwrap();
    }
}
