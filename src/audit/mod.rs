//! Evidence (DESIGN 4.5): what lets anybody check the log of decisions without trusting who keeps it.
//!
//! ```text
//!  entries ──► merkle ──► checkpoint ──────────► anchor        a file outside the storage: the newest checkpoint
//!   (the        a root     size, root, signed      │
//!  ledger's)      │        by key, as a note       └─ compare  has the storage lost or changed what was signed?
//!                 │            │
//!                 └── proofs ──┴──► export, receipt ──► verify  offline, with the public key alone
//! ```
//!
//! Nothing here knows what an entry says: it is a text, whose bytes are hashed. Nothing here knows the ledger either; stored
//! nodes come in as a function. Formats are described byte by byte in `docs/evidence.md`, so that an auditor can write a
//! verifier of their own.

pub mod anchor;
mod atomic_file;
pub mod checkpoint;
pub mod consistency;
pub mod encoding;
pub mod export;
pub mod finding;
pub mod history;
pub mod key;
pub mod merkle;
pub mod note;
pub mod receipt;
#[cfg(test)]
mod tests;
pub mod verify;
