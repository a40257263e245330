#![no_main]
//! Any bytes as a passwd-file: complaints name lines, never a panic.

libfuzzer_sys::fuzz_target!(|data: &[u8]| drop(homing::auth::sources::check_passwd_file(data.to_vec(), "CRYPT")));
