//! The sample companies of `tollgate demo`: their Parquet, their policies and queries to try on them.
//!
//! Everything here is invented, and is a pure function of a seed. No person, company or place in it exists, so the
//! demo can be shown to anybody, and two people who run it with one seed on one build look at the same figures.
//!
//! ```text
//!  seed ── citizens (who lives, works and rides where) ──┬── velo.trips      ┐
//!                                                        ├── hopin.trips     ├ rides.trips (a collection)
//!                                                        ├── metrocab.trips  ┘
//!                                                        └── bazaar.orders
//!  constants ─────────────────────────────────────────────── city.districts (public)
//! ```
//!
//! The companies share one domain of citizens, and their customers overlap: that is what makes joins between
//! companies, and one budget for a person who is in several of them, worth showing.

mod calendar;
mod citizens;
mod city;
mod data;
mod error;
mod manifest;
mod orders;
mod policies;
mod queries;
mod sink;
mod trips;

#[cfg(test)]
mod tests;

pub use data::{Rows, generate};
pub use error::DemoError;
pub use manifest::{Manifest, TableFile};
pub use policies::{POLICIES, PolicyFile, PolicyState, PolicyText, write_policies};
pub use queries::{DemoQuery, QUERIES};
