//! loadtest: opens thousands of WebSockets against a broadcast server and measures what its members get.
//!
//! One thread and one mio poll loop hold all sockets, so the generator costs less than the server that it measures.
//! Frames are parsed where they were read, in one buffer for all sockets; a delivered message costs a few nanoseconds
//! of parsing, one counter and one histogram step, and no allocation.
//!
//! ```text
//! options → Plan → Generator: connect → settle → run (warm-up, measured interval) → drain → close → Report
//!
//! generator  the loop: sockets, sends on schedule or in a closed loop
//!   client   one socket: its phase, its unsent bytes
//!   ledger   what every delivery means: checker, broadcasts, histograms
//! ```
//!
//! Everything else is pure and knows neither sockets nor clocks: [`frame`] (RFC 6455), [`handshake`], [`inbound`] (bytes
//! to messages), [`stamp`] (what a message carries), [`checker`] (loss, duplicates, disorder), [`broadcasts`] (when the
//! last member has it), [`schedule`]. [`process`] reads `/proc`, [`clock`] the time.
//!
//! The binary `yardstick` is the least a single-threaded epoll server can do. `compare` sets a server beside it.

pub mod broadcasts;
pub mod checker;
pub mod client;
pub mod clock;
pub mod frame;
pub mod generator;
pub mod handshake;
pub mod inbound;
pub mod ledger;
pub mod options;
pub mod process;
pub mod report;
pub mod schedule;
pub mod stamp;
pub mod target;
