//! chat-app: a chat server in one binary. It serves a page and every WebSocket on one port, from one thread and one
//! mio poll loop, and broadcasts each message to everybody in its room.
//!
//! # The parts
//!
//! ```text
//! main → reactor → { net, journal, site, http, ws, chat, metrics, config }
//! net → { http, ws }     journal → chat::entry     site → http
//! http, ws, chat → limits, close and histogram, else nothing in the crate
//! ```
//!
//! [`http`], [`ws`] and [`chat`] are the core. They are machines: bytes or values and `now` go in, bytes, values and
//! events come out. They have never seen a socket, a file or a clock, so tests drive them at every split of their input,
//! and one seeded simulation drives all of them at once. [`net`] is the I/O shell: sockets, outboxes, timers, and whether
//! peers take what they are sent. [`site`] finds files, with a thread for those that are not in memory and one that
//! compresses. [`journal`] gives what is said its order. [`reactor`] alone knows all the others, and routes between them;
//! nobody imports it. `tests/architecture.rs` checks these rules.
//!
//! # A turn
//!
//! ```text
//! poll → mark → accept → read → expire → commit → flush → reap
//! ```
//!
//! The loop sleeps in *poll* until an edge, a deadline, or not at all if work was carried over. *Mark* notes which sockets
//! are readable or writable. *Accept* and *read* work within budgets: bytes go to the machine of their connection, what
//! members say goes to the journal as drafts. *Expire* acts on due timers. *Commit* takes from the journal what it has
//! put in order, and the hub hands each room's news to its members: encoded once per dialect, one contiguous
//! [`Bytes`](bytes::Bytes), one clone of it per outbox. *Flush* writes every outbox that has something, and is the only
//! step that writes to sockets. *Reap* gives slots back, when no event of the turn can still name their tenants.
//!
//! Both interests of a socket are registered once, edge-triggered; there is no other `epoll_ctl` in its life. What a
//! budget stopped is carried over; what is held back is listed again by what frees it.
//!
//! # What never breaks
//!
//! - One thread owns all sockets and never blocks.
//! - A message is heard because the journal emitted it, never because it arrived; everybody in a room hears the same, in
//!   the same order.
//! - An outbox is bounded. A member whose outbox is full is not pushed to: it is *catching up*, and is fed from the
//!   room's tail when it has drained, without gap or repeat. Slow members cost no memory and delay nobody.
//! - What is read from the store for members is bounded, too: so many reads are under way for those who join, for those who
//!   are behind and for those who ask, and whoever needs another waits for its turn.
//! - A journal that has no room makes the loop stop reading from senders before anything is dropped.
//! - Everything has a limit in [`limits::Limits`], with an option, a default, a metric and a close reason.

pub mod chat;
pub mod close;
pub mod config;
pub mod histogram;
pub mod http;
pub mod journal;
pub mod limits;
pub mod logging;
pub mod metrics;
pub mod net;
pub mod reactor;
pub mod site;
pub mod ws;
