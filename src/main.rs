//! The `homing` binary: hands over to `homing::cli`.

use std::process::ExitCode;

/// glibc's allocator keeps twice as much for a session that was busy once; mimalloc gives it back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    homing::cli::main()
}
