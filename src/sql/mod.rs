//! From text to DataFusion's unoptimised logical plan, with types coerced and nothing more.
//!
//! ```text
//! text ── parse ──▶ Parsed (one SELECT) ── plan ──▶ Planned (LogicalPlan over the catalog's tables)
//! ```
//!
//! This stage knows syntax and schemas. It does not know policies, privacy or budgets, and it reads no data.

mod names;
mod parse;
mod plan;
#[cfg(test)]
mod tests;

pub use parse::{Limits, ParseError, Parsed, body, parse};
pub use plan::{PlanError, Planned, plan};
