//! Tests of whole statements: what is answered against the plain engine, what is refused word for word.

mod accuracy;
mod dictionaries;
mod epochs;
mod exact;
mod neighbours;
mod registry;
mod slt;
mod standing;
mod tpch;
mod types;
