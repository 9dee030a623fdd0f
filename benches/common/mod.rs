//! The steps that are measured, ready to be taken again and again: by the benches against the clock, by `counts` in
//! instructions.
//!
//! What a step needs is made beforehand and kept. Nothing in it asks the clock or waits for a socket, but for the store,
//! which works on threads of its own.

#![allow(dead_code, reason = "each bench takes its own part of this module")]
#![allow(unreachable_pub, reason = "the module is private in every crate that includes it")]

pub mod connection;
pub mod hall;
pub mod store;
pub mod web;
pub mod websocket;
