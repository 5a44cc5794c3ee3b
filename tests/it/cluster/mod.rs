//! A cluster of several processes on this machine: it sums as the gateway does, and fails cleanly.

mod failures;
mod objects;
mod processes;
mod sums;
