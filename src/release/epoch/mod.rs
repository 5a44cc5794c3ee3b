//! The function that says in which epoch a row is: whole, exact, and NULL outside of the epochs that are read.
//!
//! ```text
//! flight_date    EpochOf(month, {2013-01, 2013-02})
//! 2013-01-31     24156
//! 2013-02-01     24157
//! 2013-03-01     NULL       dropped at the scan, like a row without a unit
//! NULL           NULL
//! ```
//!
//! The epochs that a dataset is charged for are in the function itself, so that the verifier sees on the finished plan
//! that no other epoch's rows are read. SQL cannot name it: it is registered nowhere.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::hash::Hash;
use std::sync::Arc;

use arrow::array::types::{
    ArrowPrimitiveType, Date32Type, Date64Type, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use arrow::array::{Array, ArrayRef, AsArray, Int32Array, PrimitiveArray};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::policy::{EpochKind, KNOWN_DAYS};

const DAY_S: i64 = 86_400;

/// Of a day out of the calendar: no epoch has this number.
const NO_EPOCH: i32 = i32::MIN;

/// See the module. Two are equal if they cut time alike and read the same epochs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EpochOf {
    kind: EpochKind,
    /// Sorted, without repeats.
    epochs: Vec<i32>,
    name: String,
    signature: Signature,
}

impl EpochOf {
    /// The function of `kind` that reads `epochs`, by their numbers.
    #[must_use]
    pub fn new(kind: EpochKind, epochs: &BTreeSet<i32>) -> Self {
        let epochs: Vec<i32> = epochs.iter().copied().collect();
        let mut name = format!("__tollgate_{kind}");
        for run in epochs.chunk_by(|a, b| a + 1 == *b) {
            // Writing to a String cannot fail.
            let _ = match run {
                [first, .., last] => write!(name, "_{}_to_{}", kind.label(*first), kind.label(*last)),
                _ => run.iter().try_for_each(|only| write!(name, "_{}", kind.label(*only))),
            };
        }
        Self { kind, epochs, name, signature: Signature::any(1, Volatility::Immutable) }
    }

    /// The epoch of `moment`, a date or a timestamp in UTC.
    #[must_use]
    pub fn call(self, moment: Expr) -> Expr {
        let func = Arc::new(ScalarUDF::new_from_impl(self));
        Expr::ScalarFunction(ScalarFunction { func, args: vec![moment] })
    }

    /// The function and its argument, if `expr` is such a call.
    #[must_use]
    pub fn of(expr: &Expr) -> Option<(&Self, &Expr)> {
        let Expr::ScalarFunction(call) = expr else { return None };
        let any: &dyn std::any::Any = call.func.inner().as_ref();
        match &call.args[..] {
            [moment] => Some((any.downcast_ref::<Self>()?, moment)),
            _ => None,
        }
    }

    /// How long its epochs are.
    #[must_use]
    pub const fn kind(&self) -> EpochKind {
        self.kind
    }

    /// The numbers of the epochs that it reads.
    #[must_use]
    pub fn epochs(&self) -> &[i32] {
        &self.epochs
    }

    /// The epochs of moments, of which `STEPS` fill a day.
    fn cut<T: ArrowPrimitiveType, const STEPS: i64>(&self, moments: &PrimitiveArray<T>) -> ArrayRef
    where
        T::Native: Into<i64>,
    {
        let known = self.kind.of_known_days();
        let of_day = |day: i64| {
            let at = usize::try_from(day.wrapping_sub(KNOWN_DAYS.start)).ok();
            at.and_then(|at| known.get(at)).copied().or_else(|| self.kind.of_day(day)).unwrap_or(NO_EPOCH)
        };
        let values: Vec<i32> =
            moments.values().iter().map(|moment| of_day((*moment).into().div_euclid(STEPS))).collect();
        let is_read = match self.epochs[..] {
            // Side by side, as most are.
            [first, .., last] if i64::from(last) - i64::from(first) + 1 == self.epochs.len() as i64 => {
                BooleanBuffer::collect_bool(values.len(), |row| (first..=last).contains(&values[row]))
            }
            _ => BooleanBuffer::collect_bool(values.len(), |row| self.epochs.binary_search(&values[row]).is_ok()),
        };
        let nulls = NullBuffer::new(is_read);
        let nulls = NullBuffer::union(moments.nulls(), Some(&nulls)).filter(|nulls| nulls.null_count() > 0);
        Arc::new(Int32Array::new(values.into(), nulls))
    }
}

impl ScalarUDFImpl for EpochOf {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match arg_types {
            [DataType::Date32 | DataType::Date64 | DataType::Timestamp(..)] => Ok(DataType::Int32),
            _ => internal_err!("epochs are cut by a date or a timestamp"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [moments] = &args.args[..] else { return internal_err!("epochs are cut by one column") };
        let moments = moments.to_array(args.number_rows)?;
        let epochs = match moments.data_type() {
            DataType::Date32 => self.cut::<_, 1>(moments.as_primitive::<Date32Type>()),
            DataType::Date64 => self.cut::<_, { DAY_S * 1_000 }>(moments.as_primitive::<Date64Type>()),
            DataType::Timestamp(unit, _) => match unit {
                TimeUnit::Second => self.cut::<_, DAY_S>(moments.as_primitive::<TimestampSecondType>()),
                TimeUnit::Millisecond => {
                    self.cut::<_, { DAY_S * 1_000 }>(moments.as_primitive::<TimestampMillisecondType>())
                }
                TimeUnit::Microsecond => {
                    self.cut::<_, { DAY_S * 1_000_000 }>(moments.as_primitive::<TimestampMicrosecondType>())
                }
                TimeUnit::Nanosecond => {
                    self.cut::<_, { DAY_S * 1_000_000_000 }>(moments.as_primitive::<TimestampNanosecondType>())
                }
            },
            _ => return internal_err!("epochs are cut by a date or a timestamp"),
        };
        Ok(ColumnarValue::Array(epochs))
    }
}
