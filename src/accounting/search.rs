//! Where the root of a monotone question lies, so that a bisection need not ask it far from there.

/// A narrow interval in which a question turns from no to yes; everywhere, where none was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bracket {
    below: f64,
    above: f64,
}

impl Bracket {
    const EVERYWHERE: Self = Self { below: f64::NEG_INFINITY, above: f64::INFINITY };

    /// The interval of that part of `root` to both sides of it, if the question is seen to be a no at its lower end and a yes at
    /// its upper end. Else, and so also for a root that is no number, everywhere: what a bracket says is never a guess.
    pub(super) fn around(root: f64, part: f64, question: impl Fn(f64) -> bool) -> Self {
        let bracket = Self { below: root * (1.0 - part), above: root * (1.0 + part) };
        let holds = bracket.below > 0.0 && bracket.above.is_finite();
        if holds && !question(bracket.below) && question(bracket.above) { bracket } else { Self::EVERYWHERE }
    }

    /// The answer to the question at `at`, which is asked only within.
    pub(super) fn is_past(self, at: f64, question: impl Fn(f64) -> bool) -> bool {
        if at <= self.below {
            false
        } else if at >= self.above {
            true
        } else {
            question(at)
        }
    }
}
