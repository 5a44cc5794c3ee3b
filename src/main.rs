//! The program `tollgate`: see `tollgate --help`.

use std::process::ExitCode;

/// Queries allocate and free many small buffers on many threads, which this allocator is made for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tollgate::interface::cli::run(std::env::args_os())
}
