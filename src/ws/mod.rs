//! WebSocket as a machine (RFC 6455): the upgrade, the session, and the frames a server sends.
//!
//! ```text
//! request head → is_upgrade → OriginPolicy::check → negotiate → Handshake, or Refusal
//! bytes → Session::receive → Events, and pongs for the peer
//! ```
//!
//! Frames are decoded by tungstenite's `WebSocketContext`, driven over memory. What is ours is `scan`, which finds where
//! frames end, so that a session between two messages holds neither a context nor a buffer: see [`session`].
//!
//! No extension is negotiated: one with state per connection would end "encode once".

pub mod frame;
pub mod origin;
mod scan;
pub mod session;
pub mod upgrade;

pub use origin::{OriginPolicy, OriginRefused};
pub use session::{Event, Session, Workbench};
pub use upgrade::{Handshake, Refusal, is_upgrade, negotiate};
