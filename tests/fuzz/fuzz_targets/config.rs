#![no_main]
//! Any text as a configuration file: faults are reported, never a panic.

libfuzzer_sys::fuzz_target!(|text: &str| {
    match homing::config::Config::parse(text, "fuzz.toml") {
        Ok(config) => drop(homing::config::Config::parse(&config.show(), "shown.toml")),
        Err(faults) => assert!(!faults.report(false).is_empty()),
    }
});
