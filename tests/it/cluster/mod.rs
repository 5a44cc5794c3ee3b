//! A cluster of several processes on this machine: it sums as the gateway does, and fails cleanly.

mod failures;
mod processes;
mod sums;
