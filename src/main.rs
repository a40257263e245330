//! The `homing` binary: hands over to `homing::cli`.

use std::process::ExitCode;

use mimalloc::MiMalloc;
use zeroizing_alloc::ZeroAlloc;

/// glibc's allocator keeps twice as much for a session that was busy once; mimalloc gives it back. All that is freed is wiped
/// first: passwords also go through buffers of libraries (TLS, HTTP, Redis, TOML), which do not wipe them.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

fn main() -> ExitCode {
    homing::cli::main()
}
