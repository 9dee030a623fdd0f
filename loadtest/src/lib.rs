//! loadtest: opens thousands of WebSockets against a broadcast server and measures what its members get.
//!
//! One thread and one mio poll loop hold all sockets. The generator has to cost less than the server that it measures, so
//! frames are read into one buffer for all sockets and taken apart where they lie, and what one member has heard the
//! others only compare. A delivery costs some nanoseconds and no allocation.
//!
//! ```text
//! options → Plan → Fleet: open → settle → intervals of talking → drain → close → Facts → Report
//!
//! scenario       what a run goes through: steady, steps and search, slow, storm, churn, http
//!   talk         an interval: what is due is sent, what is on its way is waited for
//!   fleet        the loop: opens, feeds and reads all clients
//!     poller     waits for readiness, and not longer than until something is due
//!     client     one socket: its phase, its unsent bytes
//!     transport  TCP alone, or TLS over it; trust tells whose certificates are believed
//!     conversation   what a client of chat.v1 makes of what it is told
//!     ledger     what every delivery means: transcript, stamp, checker, order, broadcasts, times
//!     web        requests to the site beside the chat
//!     monitor    points in time, and progress
//! report         the numbers of a run, and JSON; summary is the same for people, page for browsers
//! ```
//!
//! Most of it is pure and knows neither sockets nor clocks: [`frame`] (RFC 6455), [`handshake`], [`inbound`] (bytes to
//! messages), [`chat`] (chat.v1), [`stamp`] (what a message carries), [`transcript`] (what is known already), [`checker`]
//! (loss, duplicates, disorder), [`order`] (positions), [`broadcasts`] (when the last member has it), [`schedule`],
//! [`times`] (latencies), [`assertion`]. [`process`] reads `/proc`, [`clock`] the time.
//!
//! The binary `yardstick` is the least a single-threaded epoll server can do. `compare` sets a server beside it.

pub mod assertion;
pub mod broadcasts;
pub mod chat;
pub mod checker;
pub mod client;
pub mod clock;
pub mod conversation;
pub mod cost;
pub mod diff;
pub mod facts;
pub mod figures;
pub mod fleet;
pub mod frame;
pub mod handshake;
pub mod inbound;
pub mod ledger;
pub mod monitor;
pub mod options;
pub mod order;
pub mod page;
pub mod plan;
pub mod plot;
pub mod poller;
pub mod port;
pub mod process;
pub mod report;
pub mod returns;
pub mod scenario;
pub mod schedule;
pub mod server;
pub mod stamp;
pub mod summary;
pub mod talk;
pub mod target;
pub mod text;
pub mod times;
pub mod transcript;
pub mod transport;
pub mod trust;
pub mod web;
pub mod workers;
