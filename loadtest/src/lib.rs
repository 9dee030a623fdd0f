//! loadtest: opens thousands of WebSockets against a broadcast server and measures what its members get.
//!
//! The parts here are pure and know neither sockets nor clocks.

pub mod broadcasts;
pub mod checker;
pub mod clock;
pub mod frame;
pub mod handshake;
pub mod inbound;
pub mod schedule;
pub mod stamp;
