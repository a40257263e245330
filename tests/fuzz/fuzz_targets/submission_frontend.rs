#![no_main]
use homing::model::Protocol;

libfuzzer_sys::fuzz_target!(|data: &[u8]| homing_fuzz::frontend::run(Protocol::Submission, data));
