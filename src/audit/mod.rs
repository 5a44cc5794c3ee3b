//! Placeholder for the merge.
pub mod merkle;
