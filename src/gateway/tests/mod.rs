//! Tests of whole statements: what is answered against the plain engine, what is refused word for word.

mod accuracy;
mod admission;
mod dictionaries;
mod epochs;
mod exact;
mod kept;
mod meeting;
mod neighbours;
mod overload;
mod registry;
mod slt;
mod standing;
mod tpch;
mod types;
