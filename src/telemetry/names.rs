//! x
pub const PHASE: &str = "phase";
