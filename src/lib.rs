//! Tollgate: a gateway that answers SQL over companies' private Parquet with differential privacy.
//!
//! # The pipeline
//!
//! Folders are its stages. A stage imports only stages below it; nothing points back (`tests/it/tidy.rs` holds it).
//!
//! ```text
//! interface   HTTP, command line: translate, and decide nothing
//!     │
//! gateway     one function per action: authorise, price, charge, release, answer
//!     ├──────────────┬───────────────┐
//! sql             ledger          catalog      text → plan      accounts, held draws      datasets, files
//!     │              │               │
//! analysis           │            stores       is it private, and what does it release?    files, objects
//!     │              │               │
//!     │              │            policy                                              what an owner allows
//!     │              │
//! release ─── engine │                         bounds, noise, selection; DataFusion
//!     │          │   │
//!     ├─────── cluster                           below the noise: Apache Ballista, bounded partial sums
//!     │              │
//! mechanism ── accounting                      exact samplers; ρ, ε, δ in integers. Pure functions, no I/O
//!
//! layout                                        above stores, for `source optimize`: sorts and rewrites a company's files
//! audit                                         below ledger, gateway and interface: Merkle tree, signed checkpoints, proofs
//! ```
//!
//! # What always holds
//!
//! * No row, count or statistic leaves but through a release, and no release without its durable charge.
//! * What is not known is refused: a plan node, an expression, a function, a key of a policy, a role.
//! * Privacy loss is held and compared in integers, and rounded towards more loss.
//! * An error says what to do next, and holds no data value.
//! * `cluster` does not know noise, prices, consumers or tokens: what it sends holds none of them.
//! * `analysis` does not know prices, `release` does not know accounts, `ledger` does not know SQL, `audit` does not
//!   know what an entry says, and `interface` knows the gateway, and policies and evidence as files.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::float_cmp,
        clippy::print_stdout,
        clippy::print_stderr,
        reason = "a test that meets a surprise should stop"
    )
)]

pub mod accounting;
pub mod analysis;
pub mod audit;
pub mod catalog;
pub mod cluster;
pub mod config;
pub mod demo;
pub mod engine;
pub mod gateway;
pub mod interface;
pub mod layout;
pub mod ledger;
pub mod mechanism;
pub mod policy;
pub mod release;
pub mod sql;
pub mod stores;
