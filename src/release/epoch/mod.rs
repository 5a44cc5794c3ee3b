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
use arrow::array::{ArrayRef, AsArray, Int32Array, PrimitiveArray};
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::policy::EpochKind;

const DAY_S: i64 = 86_400;

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

    /// The epochs of moments, of which `steps` fill a day.
    fn cut<T: ArrowPrimitiveType>(&self, moments: &PrimitiveArray<T>, steps: i64) -> ArrayRef
    where
        T::Native: Into<i64>,
    {
        // Rows of one day often follow each other.
        let mut last = (i64::MIN, None);
        let epoch = |moment: Option<T::Native>| {
            let day = moment?.into().div_euclid(steps);
            if day != last.0 {
                let epoch = self.kind.of_day(day).filter(|epoch| self.epochs.binary_search(epoch).is_ok());
                last = (day, epoch);
            }
            last.1
        };
        Arc::new(moments.iter().map(epoch).collect::<Int32Array>())
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
            DataType::Date32 => self.cut(moments.as_primitive::<Date32Type>(), 1),
            DataType::Date64 => self.cut(moments.as_primitive::<Date64Type>(), DAY_S * 1_000),
            DataType::Timestamp(unit, _) => match unit {
                TimeUnit::Second => self.cut(moments.as_primitive::<TimestampSecondType>(), DAY_S),
                TimeUnit::Millisecond => self.cut(moments.as_primitive::<TimestampMillisecondType>(), DAY_S * 1_000),
                TimeUnit::Microsecond => {
                    self.cut(moments.as_primitive::<TimestampMicrosecondType>(), DAY_S * 1_000_000)
                }
                TimeUnit::Nanosecond => {
                    self.cut(moments.as_primitive::<TimestampNanosecondType>(), DAY_S * 1_000_000_000)
                }
            },
            _ => return internal_err!("epochs are cut by a date or a timestamp"),
        };
        Ok(ColumnarValue::Array(epochs))
    }
}
