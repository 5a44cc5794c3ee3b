//! The one integration binary: a module for each interface or property.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::float_cmp,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod accounting_oracle;
mod cli;
mod cookbook;
mod evidence;
mod fixture;
mod gateway;
mod http;
mod ledger_races;
mod live_policies;
mod noise_oracle;
mod policy_files;
mod releases;
mod reports;
mod simulated_year;
mod tidy;
