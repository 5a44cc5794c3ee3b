//! Interval arithmetic: within which bounds the values of an expression lie, given its columns' bounds (DESIGN 4.1).
//!
//! The interval is what the expression's *value* is clamped to before it is summed. It need not be tight for the
//! guarantee to hold, and a float rounding in it does no harm, since the clamp uses the very numbers found here.

/// Where a number lies; an end may be infinite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    lo: f64,
    hi: f64,
}

impl Interval {
    /// Any number.
    pub const UNBOUNDED: Self = Self { lo: f64::NEG_INFINITY, hi: f64::INFINITY };

    /// From `lo` to `hi`; any number if the two are no interval.
    #[must_use]
    pub fn new(lo: f64, hi: f64) -> Self {
        if lo <= hi { Self { lo, hi } } else { Self::UNBOUNDED }
    }

    /// One number.
    #[must_use]
    pub fn point(value: f64) -> Self {
        Self::new(value, value)
    }

    /// Both ends, if both are finite.
    #[must_use]
    pub fn finite(self) -> Option<(f64, f64)> {
        (self.lo.is_finite() && self.hi.is_finite()).then_some((self.lo, self.hi))
    }

    /// The least interval that holds both.
    #[must_use]
    pub fn hull(self, other: Self) -> Self {
        Self::new(self.lo.min(other.lo), self.hi.max(other.hi))
    }

    /// What lies in both; `self` if nothing does.
    #[must_use]
    pub fn within(self, other: Self) -> Self {
        let (lo, hi) = (self.lo.max(other.lo), self.hi.min(other.hi));
        if lo <= hi { Self { lo, hi } } else { self }
    }

    /// Values of `x + y`.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self::new(self.lo + other.lo, self.hi + other.hi)
    }

    /// Values of `x - y`.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self::new(self.lo - other.hi, self.hi - other.lo)
    }

    /// Values of `x * y`.
    #[must_use]
    pub fn times(self, other: Self) -> Self {
        self.corners(other, |x, y| x * y)
    }

    /// Values of `x / y`, where y = 0 gives no value; unbounded where y may come near 0.
    #[must_use]
    pub fn divided_by(self, other: Self) -> Self {
        if other.lo > 0.0 || other.hi < 0.0 { self.corners(other, |x, y| x / y) } else { Self::UNBOUNDED }
    }

    /// Values of `-x`.
    #[must_use]
    pub fn negated(self) -> Self {
        Self::new(-self.hi, -self.lo)
    }

    /// Values of `|x|`.
    #[must_use]
    pub fn absolute(self) -> Self {
        if self.lo >= 0.0 {
            self
        } else if self.hi <= 0.0 {
            self.negated()
        } else {
            Self::new(0.0, self.hi.max(-self.lo))
        }
    }

    /// Values of a function that never falls.
    #[must_use]
    pub fn rising(self, function: fn(f64) -> f64) -> Self {
        Self::new(function(self.lo), function(self.hi))
    }

    /// Values of `least(x, y)`, which is the other argument where one is NULL.
    #[must_use]
    pub fn least(self, other: Self) -> Self {
        let either = self.hull(other);
        Self::new(either.lo, self.hi.min(other.hi))
    }

    /// Values of `greatest(x, y)`, which is the other argument where one is NULL.
    #[must_use]
    pub fn greatest(self, other: Self) -> Self {
        let either = self.hull(other);
        Self::new(self.lo.max(other.lo), either.hi)
    }

    fn corners(self, other: Self, f: fn(f64, f64) -> f64) -> Self {
        let corners = [f(self.lo, other.lo), f(self.lo, other.hi), f(self.hi, other.lo), f(self.hi, other.hi)];
        // 0 · ∞ and ∞ / ∞ are NaN: nothing is known then.
        if corners.iter().any(|corner| corner.is_nan()) {
            return Self::UNBOUNDED;
        }
        Self::new(
            corners.iter().copied().fold(f64::INFINITY, f64::min),
            corners.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        )
    }
}
