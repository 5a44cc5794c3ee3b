//! Policy files: what an owner says may be done with its data.
//!
//! ```text
//! OWNER.NAME.toml ── parse ──► PolicyFile ── check_against_schema ──► (catalog)
//!                      │            │
//!                      └─ PolicyErrors, Warnings: file, line, key, what is wrong, what would be right
//! ```
//!
//! This module reads policy files and looks at schemas; it never opens the data, and it knows nothing of SQL, of the
//! ledger or of the engine.

mod check;
mod column;
mod draft;
mod epoch;
mod error;
mod load;
mod model;
mod name;
mod nearest;
mod parse;
mod reader;
mod source;
#[cfg(test)]
mod tests;
mod types;
mod warning;

pub use check::check_against_schema;
pub use column::{Bounds, BoundsError, ColumnPolicy, Key, KeyKind, MAX_PUBLIC_GROUPS, Number, PublicGroups, Use, Uses};
pub use draft::draft;
pub use epoch::{EpochKind, Epochs};
pub use error::{Fault, PolicyErrors, Problem};
pub use load::{load_dir, load_file};
pub use model::{
    Accounting, Budget, Cap, Collection, Consumers, DatasetPolicy, MAX_CONTRIBUTION, Period, PolicyFile, Privacy,
    PublicTable,
};
pub use name::{DatasetName, MAX_PART_BYTES, NameError};
pub(crate) use nearest::nearest;
pub use parse::parse;
pub use source::Position;
pub use warning::{Advice, Warning, advise};
