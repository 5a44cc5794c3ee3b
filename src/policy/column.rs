//! What an owner says of one column: what it may be used for, its bounds, and its public groups.

use std::fmt;

use chrono::NaiveDate;
use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};

/// The most keys that a column's public groups may have.
pub const MAX_PUBLIC_GROUPS: u64 = 100_000;

/// One thing that a query may do with a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Use {
    /// To be counted, summed, averaged and so on.
    Aggregate,
    /// To be a group key, whose values are shown.
    Group,
    /// To be part of a condition (`WHERE`, `FILTER`, `ON`).
    Filter,
}

impl Use {
    /// Every use, in the order in which they are shown.
    pub const ALL: [Self; 3] = [Self::Aggregate, Self::Group, Self::Filter];

    /// The word for it in a policy file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aggregate => "aggregate",
            Self::Group => "group",
            Self::Filter => "filter",
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::Aggregate => 1,
            Self::Group => 2,
            Self::Filter => 4,
        }
    }
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The set of uses that an owner allows of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Uses(u8);

impl Uses {
    /// Any use at all: what `access = "aggregate"`, the default, says.
    pub const ANY: Self = Self(7);
    /// No use: the column cannot be read (`access = "deny"`).
    pub const NONE: Self = Self(0);

    /// The set that holds `one` alone.
    #[must_use]
    pub const fn only(one: Use) -> Self {
        Self(one.bit())
    }

    /// The set with `one` added.
    #[must_use]
    pub const fn with(self, one: Use) -> Self {
        Self(self.0 | one.bit())
    }

    /// Whether `one` is allowed.
    #[must_use]
    pub const fn allows(self, one: Use) -> bool {
        self.0 & one.bit() != 0
    }

    /// Whether the column cannot be read at all.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// The uses allowed, in the order of [`Use::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Use> {
        Use::ALL.into_iter().filter(move |one| self.allows(*one))
    }
}

impl Serialize for Uses {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        for one in self.iter() {
            list.serialize_element(&one)?;
        }
        list.end()
    }
}

/// A bound as it was written. An integer stays one, so that an integer column's bounds are exact.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Number {
    /// Written without a decimal point.
    Int(i64),
    /// Written with a decimal point or an exponent; finite.
    Float(f64),
}

impl Number {
    /// The nearest float.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "the nearest float is what is asked for; exact users match on Int")]
    pub const fn to_f64(self) -> f64 {
        match self {
            Self::Int(value) => value as f64,
            Self::Float(value) => value,
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value:?}"),
        }
    }
}

/// The interval to which a column's values are clamped before they are summed. `lo < hi`, both finite, and so is
/// `hi - lo`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bounds {
    lo: Number,
    hi: Number,
}

/// Why two numbers are no bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BoundsError {
    /// A bound is NaN or an infinity.
    NotFinite,
    /// `lo > hi`.
    Reversed,
    /// `lo == hi`: every value would be clamped to one constant.
    Single,
    /// `hi - lo` is no finite number.
    TooWide,
}

impl Bounds {
    /// The bounds `[lo, hi]`.
    ///
    /// # Errors
    /// When either is not finite, when `lo >= hi`, or when their difference is not finite.
    pub fn new(lo: Number, hi: Number) -> Result<Self, BoundsError> {
        let (low, high) = (lo.to_f64(), hi.to_f64());
        if !low.is_finite() || !high.is_finite() {
            return Err(BoundsError::NotFinite);
        }
        let order = match (lo, hi) {
            (Number::Int(lo), Number::Int(hi)) => lo.cmp(&hi),
            _ => low.total_cmp(&high),
        };
        // -0.0 and 0.0 are one number although `total_cmp` tells them apart.
        match order {
            std::cmp::Ordering::Greater => Err(BoundsError::Reversed),
            std::cmp::Ordering::Equal => Err(BoundsError::Single),
            std::cmp::Ordering::Less if low == 0.0 && high == 0.0 => Err(BoundsError::Single),
            std::cmp::Ordering::Less if !(high - low).is_finite() => Err(BoundsError::TooWide),
            std::cmp::Ordering::Less => Ok(Self { lo, hi }),
        }
    }

    /// The lower bound.
    #[must_use]
    pub const fn lo(&self) -> Number {
        self.lo
    }

    /// The upper bound.
    #[must_use]
    pub const fn hi(&self) -> Number {
        self.hi
    }
}

/// One group key that is known without the data.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(untagged)]
pub enum Key {
    /// An integer.
    Int(i64),
    /// A text.
    Text(String),
    /// A truth value.
    Bool(bool),
    /// A calendar date.
    Date(NaiveDate),
}

/// What kind of value a key is; all keys of a column are of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyKind {
    /// Integers.
    Int,
    /// Texts.
    Text,
    /// Truth values.
    Bool,
    /// Calendar dates.
    Date,
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Int => "integers",
            Self::Text => "strings",
            Self::Bool => "true and false",
            Self::Date => "dates",
        })
    }
}

impl Key {
    /// What kind of value it is.
    #[must_use]
    pub const fn kind(&self) -> KeyKind {
        match self {
            Self::Int(_) => KeyKind::Int,
            Self::Text(_) => KeyKind::Text,
            Self::Bool(_) => KeyKind::Bool,
            Self::Date(_) => KeyKind::Date,
        }
    }
}

impl fmt::Display for Key {
    /// As a policy file would write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(value) => write!(f, "{value}"),
            Self::Text(value) => write!(f, "{value:?}"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Date(value) => write!(f, "{value}"),
        }
    }
}

/// The group keys of a column that are known without the data: at least one, at most [`MAX_PUBLIC_GROUPS`], no two
/// alike, all of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum PublicGroups {
    /// Keys listed one by one, in the order of the file.
    List(Vec<Key>),
    /// Every integer of a range, both ends included.
    Range {
        /// The first.
        from: i64,
        /// The last; not before `from`.
        to: i64,
    },
    /// Every day of a range, both ends included.
    DateRange {
        /// The first.
        from: NaiveDate,
        /// The last; not before `from`.
        to: NaiveDate,
    },
}

impl PublicGroups {
    /// How many keys there are.
    #[must_use]
    pub fn key_count(&self) -> u64 {
        match self {
            Self::List(keys) => keys.len() as u64,
            Self::Range { from, to } => to.abs_diff(*from).saturating_add(1),
            Self::DateRange { from, to } => (*to - *from).num_days().unsigned_abs() + 1,
        }
    }

    /// Every key, in order.
    #[must_use]
    pub fn keys(&self) -> Box<dyn Iterator<Item = Key> + '_> {
        match self {
            Self::List(keys) => Box::new(keys.iter().cloned()),
            Self::Range { from, to } => Box::new((*from..=*to).map(Key::Int)),
            Self::DateRange { from, to } => {
                let last = *to;
                Box::new(from.iter_days().take_while(move |day| *day <= last).map(Key::Date))
            }
        }
    }

    /// What kind of value the keys are.
    #[must_use]
    pub fn kind(&self) -> KeyKind {
        match self {
            Self::List(keys) => keys.first().map_or(KeyKind::Text, Key::kind),
            Self::Range { .. } => KeyKind::Int,
            Self::DateRange { .. } => KeyKind::Date,
        }
    }
}

/// What an owner says of one column.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ColumnPolicy {
    /// What the column may be used for.
    pub uses: Uses,
    /// The interval to which its values are clamped; without it nothing is summed.
    pub bounds: Option<Bounds>,
    /// Its group keys, if they are known without the data; without it groups are selected.
    pub public_groups: Option<PublicGroups>,
    /// Every row of a unit has one value of it. Enforced where it is used: a unit that breaks it counts once.
    pub per_unit_constant: bool,
    /// The identifier space in which a value of it names one unit, such as the orders of customers: two such columns of
    /// one space may be joined without naming the units. Enforced: rows of two units never meet.
    pub unit_key: Option<String>,
}

impl ColumnPolicy {
    /// What holds for a column of which the file says nothing.
    pub const UNMENTIONED: Self =
        Self { uses: Uses::ANY, bounds: None, public_groups: None, per_unit_constant: false, unit_key: None };
}
