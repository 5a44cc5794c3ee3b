//! Units that are counted once in a group, in however many epochs they are there.
//!
//! ```text
//! pair (unit, epoch)   group        units of X
//!  a  2013-01           X            a        counted
//!  a  2013-02           X            a        counted already
//!  b  2013-01           X            b        counted              n = 2
//! ```

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{Field, Schema};
use datafusion::common::{Result, internal_err};
use datafusion::physical_plan::aggregates::group_values::new_group_values;
use datafusion::physical_plan::aggregates::order::GroupOrdering;

/// Counts each unit once in a group, in however many epochs it is there. Without one of its pairs a count of units is less
/// by at most 1 in each group of that pair: so little moves, and a group of one unit in ten epochs is a group of one.
pub(super) struct CountedUnits {
    /// By pair of a unit and an epoch, the unit's code.
    unit_of: Vec<usize>,
    /// By count and by group, the unit that was counted last: pairs of one unit come one after the other.
    last: Vec<Vec<usize>>,
}

impl CountedUnits {
    /// None counted yet, of pairs whose columns are `pairs`, in `groups`: units that have a row, and one count more for
    /// each measure.
    pub(super) fn new(pairs: &[ArrayRef], groups: usize, measures: usize) -> Result<Self> {
        let Some(unit) = pairs.first() else { return internal_err!("pairs without a unit") };
        let schema = Schema::new(vec![Field::new("unit", unit.data_type().clone(), false)]);
        let mut units = new_group_values(Arc::new(schema), &GroupOrdering::None)?;
        let mut unit_of = Vec::new();
        units.intern(std::slice::from_ref(unit), &mut unit_of)?;
        Ok(Self { unit_of, last: vec![vec![usize::MAX; groups]; 1 + measures] })
    }

    /// The pairs, those of one unit beside each other.
    pub(super) fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.unit_of.len()).collect();
        order.sort_unstable_by_key(|pair| self.unit_of[*pair]);
        order
    }

    /// Whether the unit of `pair` is not counted in `group` yet; from now on it is.
    pub(super) fn is_first(&mut self, pair: usize, group: u32, count: usize) -> bool {
        let unit = self.unit_of[pair];
        std::mem::replace(&mut self.last[count][group as usize], unit) != unit
    }
}
