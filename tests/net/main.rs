//! The room `net` from outside: sockets, PROXY headers, TLS and driven dialogues, over real connections where it matters.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod drive;
#[path = "../fuzz/proxy_header.rs"]
mod fuzz_proxy_header;
mod listener;
mod proxy_header;
mod target;
mod tls_client;
mod tls_reload;
mod tls_server;
mod wire;
