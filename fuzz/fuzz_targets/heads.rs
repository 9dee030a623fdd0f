#![no_main]

//! Can any bytes make the request machine panic, disagree with itself when they come in pieces, or give out a request that
//! it must not?

#[path = "../check.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check::heads(bytes));
