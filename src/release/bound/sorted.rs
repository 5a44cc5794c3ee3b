//! Rows that come unit after unit: each unit is bounded as soon as the next begins, and none is held but the one at hand.
//!
//! ```text
//! partition 0   a a b b b c │ c d d      segments [a c] [c d]      a, c, d are borders: held until all is read
//! partition 1   e e f g g g              segment  [e g]            b, f are bounded at once
//! ```
//!
//! That the order is what was declared is verified here. A *segment* is a run of rows whose units never fall. A unit strictly
//! between the first and the last of its segment is bounded at once; the two at its borders are kept, and are bounded
//! together with the borders of all others at the end. That is right if no two segments overlap but at their borders, which
//! is checked then; if two do, or there are very many, nothing of this counts and the rows are read again in any order.

use arrow::array::{ArrayRef, BinaryViewArray};
use arrow::record_batch::RecordBatch;
use datafusion::common::Result;

use super::bounder::Bounder;
use super::identity::{Ids, as_views};
use super::records::{Recorder, Records};
use super::sums::GroupSums;

/// More segments than this in one partition are no order.
const MOST_SEGMENTS: usize = 256;

/// Where a unit stands in the order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Number(u64),
    Bytes(Vec<u8>),
}

/// A run of rows whose units never fall.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Segment {
    first: Place,
    last: Place,
}

/// Whether no unit strictly inside a segment is in another one.
pub(super) fn are_apart(mut segments: Vec<Segment>) -> bool {
    segments.sort_unstable();
    segments.windows(2).all(|pair| pair[0].last <= pair[1].first)
}

/// The units of one partition, bounded as they pass.
pub(super) struct Sorted {
    recorder: Recorder,
    bounder: Bounder,
    open: Option<Open>,
    segments: Vec<Segment>,
    borders: Records,
}

/// The unit at hand.
struct Open {
    id: u128,
    place: Place,
    records: Records,
    begins: bool,
}

/// What is left of a partition at its end.
pub(super) struct Passed {
    pub(super) sums: GroupSums,
    /// The records of units at the borders of segments, and what their groups are called.
    pub(super) borders: Records,
    pub(super) keys: Vec<ArrayRef>,
    pub(super) segments: Vec<Segment>,
}

impl Sorted {
    pub(super) fn new(recorder: Recorder, bounder: Bounder) -> Self {
        let borders = recorder.none();
        Self { recorder, bounder, open: None, segments: Vec::new(), borders }
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        let open = self.open.as_ref().map_or(0, |open| open.records.size());
        self.recorder.codes.size() + self.bounder.size() + open + self.borders.size()
    }

    /// Takes the next rows. False when they are in no order.
    ///
    /// # Errors
    /// When a column has another type than the specification was made for.
    pub(super) fn add(&mut self, batch: &RecordBatch) -> Result<bool> {
        let (records, unit) = self.recorder.records(batch)?;
        if records.len() == 0 {
            return Ok(true);
        }
        self.bounder.grow(self.recorder.codes.len());
        let order = Order::of(&unit, &records.ids)?;
        let mut starts = starts(&records.ids).into_iter().peekable();
        while let Some(start) = starts.next() {
            let end = starts.peek().copied();
            let range = start..end.unwrap_or(records.len());
            let id = records.ids.get(start);
            let follows = end.is_some_and(|end| order.rises(end));
            if start == 0 {
                match self.open.take() {
                    Some(mut open) if open.id == id => {
                        open.records.append_range(&records, range);
                        match end {
                            None => self.open = Some(open),
                            Some(_) => self.close(open, follows)?,
                        }
                        continue;
                    }
                    Some(open) => {
                        let rises = open.place < order.place(0);
                        self.close(open, rises)?;
                        if !rises {
                            self.begin(order.place(0));
                        }
                        self.next(id, &records, range, end.is_none(), !rises, follows, &order)?;
                        continue;
                    }
                    None => {
                        self.begin(order.place(0));
                        self.next(id, &records, range, end.is_none(), true, follows, &order)?;
                        continue;
                    }
                }
            }
            let begins = !order.rises(start);
            if begins {
                self.begin(order.place(start));
            }
            self.next(id, &records, range, end.is_none(), begins, follows, &order)?;
        }
        Ok(self.segments.len() <= MOST_SEGMENTS)
    }

    fn begin(&mut self, place: Place) {
        self.segments.push(Segment { first: place.clone(), last: place });
    }

    /// A unit that begins in this batch: it stays open if the batch ends with it.
    fn next(
        &mut self,
        id: u128,
        records: &Records,
        range: std::ops::Range<usize>,
        stays_open: bool,
        begins: bool,
        follows: bool,
        order: &Order<'_>,
    ) -> Result<()> {
        if stays_open {
            let place = order.place(range.start);
            let mut held = records.like();
            held.append_range(records, range);
            self.open = Some(Open { id, place, records: held, begins });
            return Ok(());
        }
        if !follows {
            self.end(order.place(range.start));
        }
        if begins || !follows {
            self.borders.append_range(records, range);
            return Ok(());
        }
        let codes = &self.recorder.codes;
        self.bounder.add(id, records, range, &|from| codes.keys(from))
    }

    /// The unit at hand has ended; in its segment another follows, or none.
    fn close(&mut self, open: Open, follows: bool) -> Result<()> {
        let Open { id, place, records, begins } = open;
        if !follows {
            self.end(place);
        }
        let all = 0..records.len();
        if begins || !follows {
            self.borders.append_range(&records, all);
            return Ok(());
        }
        let codes = &self.recorder.codes;
        self.bounder.add(id, &records, all, &|from| codes.keys(from))
    }

    fn end(&mut self, place: Place) {
        if let Some(segment) = self.segments.last_mut() {
            segment.last = place;
        }
    }

    /// All rows have passed.
    ///
    /// # Errors
    /// When keys cannot be put together.
    pub(super) fn finish(mut self) -> Result<Passed> {
        if let Some(open) = self.open.take() {
            self.close(open, false)?;
        }
        let Self { recorder, bounder, borders, segments, .. } = self;
        let keys = recorder.codes.keys(0)?;
        let mut bounder = bounder;
        bounder.grow(recorder.codes.len());
        Ok(Passed { sums: bounder.finish(keys.clone()), borders, keys, segments })
    }
}

/// Where runs of one unit begin.
fn starts(ids: &Ids) -> Vec<usize> {
    fn of<T: PartialEq>(ids: &[T]) -> Vec<usize> {
        (0..ids.len()).filter(|at| *at == 0 || ids[*at] != ids[*at - 1]).collect()
    }
    match ids {
        Ids::Narrow(ids) => of(ids),
        Ids::Wide(ids) => of(ids),
    }
}

/// The order of the units of a batch.
enum Order<'a> {
    Numbers(&'a [u64]),
    Bytes(BinaryViewArray),
}

impl<'a> Order<'a> {
    fn of(unit: &ArrayRef, ids: &'a Ids) -> Result<Self> {
        Ok(match ids {
            // Identities of integers are in the order of the values.
            Ids::Narrow(ids) => Self::Numbers(ids),
            Ids::Wide(_) => Self::Bytes(as_views(unit)?),
        })
    }

    /// Whether the unit of a row stands after that of the row before.
    fn rises(&self, at: usize) -> bool {
        match self {
            Self::Numbers(ids) => ids[at - 1] < ids[at],
            Self::Bytes(values) => values.value(at - 1) < values.value(at),
        }
    }

    fn place(&self, at: usize) -> Place {
        match self {
            Self::Numbers(ids) => Place::Number(ids[at]),
            Self::Bytes(values) => Place::Bytes(values.value(at).to_vec()),
        }
    }
}
