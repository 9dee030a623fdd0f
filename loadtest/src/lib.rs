//! loadtest: opens thousands of WebSockets against a broadcast server and measures what its members get.
//!
//! One thread and one mio poll loop hold all sockets. The generator has to cost less than the server that it measures, so
//! frames are read into one buffer for all sockets and taken apart where they lie, and what one member has heard the
//! others only compare. A delivery costs some nanoseconds and no allocation.
//!
//! ```text
//! options → Plan → Generator: connect → settle → talk (warm-up, measured interval) → drain → close → Report
//!
//! generator      the loop: opens, feeds and reads all clients
//!   poller       waits for readiness, and not longer than until something is due
//!   client       one socket: its phase, its unsent bytes
//!   ledger       what every delivery means: transcript, stamp, checker, broadcasts, times
//! report         the numbers of a run, and JSON; summary is the same for people
//! ```
//!
//! Most of it is pure and knows neither sockets nor clocks: [`frame`] (RFC 6455), [`handshake`], [`inbound`] (bytes to
//! messages), [`stamp`] (what a message carries), [`transcript`] (what is known already), [`checker`] (loss, duplicates,
//! disorder), [`broadcasts`] (when the last member has it), [`schedule`] and [`times`] (latencies). [`process`] reads
//! `/proc`, [`clock`] the time.
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
pub mod poller;
pub mod process;
pub mod report;
pub mod schedule;
pub mod stamp;
pub mod summary;
pub mod target;
pub mod times;
pub mod transcript;
