//! The I/O shell: listening sockets, connections in a slab, their transports, outboxes and timers, and whether peers take
//! what they are sent.
//!
//! Nothing here knows what a room or a file is. The protocol machines that ride on a connection come from `http` and
//! `ws`; what they say is carried out by the reactor.

mod conduit;
pub mod connection;
pub mod connections;
mod inquiry;
pub mod listener;
pub mod outbox;
pub mod pace;
#[cfg(test)]
pub(crate) mod simulated;
pub mod timers;
pub mod transport;
