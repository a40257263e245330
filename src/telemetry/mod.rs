//! Logging set-up; `names.rs` lists every log field once.
pub mod names;
