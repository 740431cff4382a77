#![no_main]

#[path = "../cases/mod.rs"]
#[allow(dead_code, reason = "each target checks one of the cases")]
mod cases;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cases::json::check(bytes));
