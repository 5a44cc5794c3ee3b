//! How the outside reaches the gateway. Interfaces translate and nothing else: authentication, policy, price and audit
//! sit behind [`Gateway`](crate::gateway::Gateway), so that no interface can forget them.
//!
//! ```text
//!  curl, BI tools ── HTTP ──┐
//!                           ├──► gateway ──► …
//!  operator, shell ── CLI ──┘        ▲
//!                      └── storage ──┘  (administration, before any server runs)
//! ```

pub mod cli;
pub mod http;
