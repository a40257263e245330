#![no_main]
//! Any bytes as a PROXY header.

#[path = "../proxy_header.rs"]
mod proxy_header;

libfuzzer_sys::fuzz_target!(|data: &[u8]| proxy_header::proxy_header(data));
