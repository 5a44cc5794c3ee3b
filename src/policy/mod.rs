//! Policy files: what an owner says may be done with its data.
//!
//! ```text
//! OWNER.NAME.toml ── parse ──► PolicyFile ── check_against_schema ──► (catalog)
//! text, JSON ───────────┤            ├─ check_between: with all others · check_successor, changes, diff: with the last
//!                      └─ PolicyErrors, Warnings: file, line, key, what is wrong, what would be right
//! ```
//!
//! This module reads policy files and looks at schemas; it never opens the data, and it knows nothing of SQL, of the
//! ledger or of the engine.

mod address;
mod between;
mod change;
mod check;
mod column;
mod diff;
mod draft;
mod epoch;
mod error;
mod load;
mod model;
mod name;
mod nearest;
mod parse;
mod price;
mod reader;
mod source;
mod submitted;
mod succession;
#[cfg(test)]
mod tests;
mod types;
mod warning;

pub use address::{OBJECT_SCHEME, ObjectAddress};
pub use between::{check_between, check_collection, check_recorded, overlap, real_place, written_place};
pub use change::{Change, Effect, changes};
pub use check::check_against_schema;
pub use column::{Bounds, BoundsError, ColumnPolicy, Key, KeyKind, MAX_PUBLIC_GROUPS, Number, PublicGroups, Use, Uses};
pub use diff::diff;
pub use draft::draft;
pub use epoch::{EpochKind, Epochs, KNOWN_DAYS};
pub use error::{Fault, PolicyErrors, Problem};
pub use load::{load_dir, load_file};
pub use model::{
    Accounting, Approval, Budget, Cap, Collection, Consumers, DatasetPolicy, MAX_CONTRIBUTION, Period, PolicyFile,
    Privacy, PublicTable,
};
pub use name::{DatasetName, MAX_PART_BYTES, NameError};
pub(crate) use nearest::nearest;
pub use parse::{canonical, parse};
pub use price::{Price, PriceError};
pub use source::Position;
pub use submitted::{parse_json, parse_text};
pub use succession::check_successor;
pub use types::value_type;
pub use warning::{Advice, Warning, advise};
