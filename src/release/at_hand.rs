//! What is known of texts, by their views: for most rows without a look at the text.
//!
//! A text column of a batch has few values that many rows share, and equal views of one array are equal texts (Arrow columnar
//! format, variable-size binary views). A small table has the views that were met last; where two share a place the later stays.

/// A power of two: views and what is known of them fit the nearest cache.
const PLACES: usize = 512;
/// No text is that long.
const NO_VIEW: u128 = u128::MAX;

/// The views that were met last in one batch, and what is known of their texts.
pub(crate) struct AtHand<T> {
    views: [u128; PLACES],
    known: [T; PLACES],
}

impl<T: Copy + Default> AtHand<T> {
    /// Nothing known yet.
    pub(crate) fn new() -> Self {
        Self { views: [NO_VIEW; PLACES], known: [T::default(); PLACES] }
    }

    /// Forgets all: views of another batch may stand for other texts.
    pub(crate) fn forget(&mut self) {
        self.views.fill(NO_VIEW);
    }

    /// What is known of a view's text, or is found now.
    #[inline]
    pub(crate) fn of(&mut self, view: u128, find: impl FnOnce() -> T) -> T {
        let mixed = ((view >> 64) as u64 ^ (view as u64).rotate_left(23)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let place = (mixed >> (u64::BITS - PLACES.trailing_zeros())) as usize % PLACES;
        if self.views[place] != view {
            self.known[place] = find();
            self.views[place] = view;
        }
        self.known[place]
    }

    /// Bytes held.
    pub(crate) const fn size() -> usize {
        size_of::<Self>()
    }
}
