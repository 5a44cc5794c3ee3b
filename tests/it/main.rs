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
mod administrators_http;
mod auditors;
mod cli;
mod cluster;
mod cookbook;
mod evidence;
mod faults;
mod fixture;
mod free_sums;
mod gateway;
mod http;
mod ledger_races;
mod live_policies;
mod noise_oracle;
mod object_store_server;
mod object_stores;
mod policy_files;
mod postgres;
mod releases;
mod reports;
mod retention;
mod simulated_year;
mod sources;
mod stewards_http;
mod tidy;
