//! One client socket: its transport, the protocol machine that rides on it, its outbox, and where it is in its life.
//!
//! A connection decides nothing about chat or files. It knows what it may do now (be read, be written) and what is
//! due next, from its own state and the limits alone.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::close::CloseReason;
use crate::http::{Http, Recipient};
use crate::limits::Limits;
use crate::ws::session::Session;

use super::outbox::Outbox;
use super::pace::{LeastRate, Pace};
use super::transport::{Cut, Transport};

/// The least rate at which a peer that is to end takes what is left for it. Slower ones would hold their slot for hours.
const FAREWELL_BYTES_PER_SECOND: usize = 1024;

/// The share of the stall timeout, or of the ping interval, after which it is looked at what the kernel holds. Most sockets
/// take something, and most peers answer, sooner.
const LOOK_SHARE: u32 = 8;

/// Names a connection for as long as it lives: a slot of the slab, and a serial that no later tenant of it shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    /// The place in the slab, which is also the token of the poll and the place of the timer.
    pub slot: u32,
    /// Counts connections since the start, and wraps after four billion.
    pub serial: u32,
}

impl ConnectionId {
    /// The id as one number, for whoever carries it through another thread or layer.
    #[must_use]
    pub fn ticket(self) -> u64 {
        u64::from(self.serial) << 32 | u64::from(self.slot)
    }

    /// The id that [`ticket`](Self::ticket) made.
    #[must_use]
    pub fn from_ticket(ticket: u64) -> Self {
        ConnectionId { slot: ticket as u32, serial: (ticket >> 32) as u32 }
    }
}

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Reads and writes flow.
    Open,
    /// The farewell is queued: the outbox empties, and a WebSocket's peer is heard out for its own close frame.
    Draining {
        /// When we stop waiting for the peer to take what is left, even if it takes a byte now and then.
        until: Instant,
        /// Why it ends.
        reason: CloseReason,
    },
    /// Writing is shut down; what the peer still sends is read and dropped, so that no reset destroys the farewell.
    Lingering {
        /// When we stop waiting for the peer's end of stream.
        until: Instant,
        /// Bytes dropped so far.
        dropped: usize,
        /// Why it ends.
        reason: CloseReason,
    },
    /// Waiting for the end of the turn to give the slot back.
    Closed {
        /// Why it ended.
        reason: CloseReason,
    },
}

/// The machine that rides on the connection.
#[derive(Debug)]
pub enum Protocol {
    /// Requests and responses.
    Http(Box<HttpExchange>),
    /// A response without end: what is said in a room, as events. Its member of the hub has the same id.
    Events,
    /// A WebSocket; its member of the hub has the same id.
    WebSocket(Session),
}

/// An HTTP connection between its requests and within one.
#[derive(Debug)]
pub struct HttpExchange {
    /// The request machine.
    pub machine: Http,
    /// To whom the response goes that is being made, as long as it is.
    pub answering: Option<Recipient>,
    /// Requests that came so far.
    pub requests: u32,
    /// When the first byte of the head came that is not whole yet; for the first head, when the connection was accepted.
    pub head_began: Option<Instant>,
    /// What its work waits for.
    pub backlog: Backlog,
    /// Whether it takes its responses fast enough.
    pub pace: Pace,
}

/// Why a connection is not read although there is something. Whatever frees it lists it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// It is read.
    No,
    /// Its own outbox is above high water, until that has drained.
    OwnOutbox,
    /// The journal has no room for what it says, until it has.
    Journal,
    /// It says more than its rate allows, until then.
    Rate(Instant),
}

/// What work that could be done waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backlog {
    /// There is none.
    None,
    /// Its outbox is full; what drains it goes on.
    Outbox,
    /// Another turn: the budget of this one is spent, and the connection stands in the queue for the next.
    Turn,
}

/// What is known of the bytes that the kernel has taken and the peer perhaps has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// Nobody has looked.
    None,
    /// The kernel does not tell.
    Dim,
    /// So many had not been acknowledged.
    Unacknowledged {
        /// Of what was written before somebody first looked, when somebody last did.
        bytes: u32,
        /// What was written since.
        written: u32,
    },
}

impl Sight {
    /// So much more was written.
    pub(super) fn grow(&mut self, by: usize) {
        if let Sight::Unacknowledged { written, .. } = self {
            *written = written.saturating_add(by as u32);
        }
    }

    /// So many are not acknowledged now. Tells how many are that were not when somebody last looked.
    pub(super) fn update(&mut self, held: Option<u32>) -> usize {
        let (before, written) = match *self {
            Sight::Unacknowledged { bytes, written } => (bytes, written),
            Sight::None | Sight::Dim => (0, 0),
        };
        let left = held.map(|held| held.saturating_sub(written));
        *self = left.map_or(Sight::Dim, |bytes| Sight::Unacknowledged { bytes, written });
        before.saturating_sub(left.unwrap_or(before)) as usize
    }
}

/// What a connection's timer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// The peer was silent for a ping interval: ask whether it is there.
    Ping,
    /// The head of a request took too long: answer 408.
    SlowHead,
    /// It has waited long enough for its rate, and may be read again.
    Resume,
    /// Nothing more is expected of this connection: close it for this reason, with a farewell if there is one.
    Close(CloseReason),
    /// It has not answered a ping: close it, unless it is seen to take what was written before that.
    Doubt,
    /// The kernel has taken nothing for a while: note how much it holds, so that it shows whether the peer takes any of that.
    Look,
    /// The peer has not been seen to take anything for the stall timeout: try to write before believing it, and look again.
    ///
    /// The kernel reports a socket as writable when half of the room for it is free. A peer that reads slowly may take
    /// longer than the timeout to get there.
    Probe,
    /// The peer takes nothing, or will not finish the close: drop it without a word.
    Drop(CloseReason),
}

/// One client socket and all that belongs to it.
#[derive(Debug)]
pub struct Connection {
    /// Its name.
    pub id: ConnectionId,
    /// The other end.
    pub peer: SocketAddr,
    /// What carries its bytes.
    pub transport: Transport,
    /// Where it is in its life.
    pub phase: Phase,
    /// The machine that rides on it.
    pub protocol: Protocol,
    /// What waits to be written.
    pub outbox: Outbox,
    /// When it was accepted.
    pub opened: Instant,
    /// When the last byte came from the peer, when we began to listen to it again, or when an outbox that it had not taken
    /// at once was empty; for HTTP also when the last response was queued. Later by a ping interval each time that the peer
    /// is seen to be on its way to a ping.
    pub last_heard: Instant,
    /// When the first byte of a WebSocket message, or of a control frame, came that is not whole yet.
    pub message_began: Option<Instant>,
    /// When the peer last took a byte, or when the outbox last went from empty to waiting.
    pub last_progress: Instant,
    /// An edge was seen and the socket has not answered `Blocked` since.
    ///
    /// It must survive the end of a turn: with edge triggering nobody will tell us again.
    pub readable: bool,
    /// The socket has not answered `Blocked` to a write since the last edge.
    pub writable: bool,
    /// The peer's end of stream, or an error, has been announced: a short read does not mean `Blocked`.
    pub hung_up: bool,
    /// The peer's end of stream has been read: nothing more will come.
    pub ended: bool,
    /// The socket has answered `Blocked` since the outbox was last empty.
    pub backed_up: bool,
    /// How what is written lies in segments, as it was found out when the socket last began to answer `Blocked`.
    pub cut: Cut,
    /// It stands in the list of those to be read.
    pub listed: bool,
    /// It stands in the list of those to be flushed.
    pub dirty: bool,
    /// Whether it may be read.
    pub held: Held,
    /// Somebody was turned away by its full outbox and wants to know when it has drained.
    pub awaited: bool,
    /// A ping was queued since `last_heard`.
    pub pinged: bool,
    /// It was one too many, and is here to be told so: it takes no place among those that are allowed.
    pub surplus: bool,
    /// The address among whose connections it is counted, if they are.
    pub counted_as: Option<IpAddr>,
    /// A write was tried since the peer last took a byte, without an edge that called for it.
    pub probed: bool,
    /// What is known of the bytes that the kernel has taken: since it last took some of those that it had no room for, or
    /// since the ping that is not answered.
    pub sight: Sight,
}

impl Connection {
    /// Whether what it sends still means something.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// What is due next on this connection, and when; `None` when nothing ever will be without an event.
    #[must_use]
    pub fn due(&self, limits: &Limits) -> Option<(Instant, Due)> {
        let stalled = || match self.sight {
            Sight::None if !self.probed => (self.last_progress + limits.stall_timeout / LOOK_SHARE, Due::Look),
            _ => (self.last_progress + limits.stall_timeout, self.tried(CloseReason::Stalled)),
        };
        match self.phase {
            Phase::Open => {
                let too_slow = self.pace_ends().map(|at| (at, self.tried(CloseReason::TooSlow)));
                earlier(earlier(self.backed_up.then(stalled), too_slow), self.due_of_peer(limits))
            }
            // As long as the peer takes bytes it may have its farewell; then it has a while to answer it.
            Phase::Draining { until, .. } if !self.outbox.is_empty() => {
                earlier(Some(stalled()), Some((until, Due::Drop(CloseReason::Stalled))))
            }
            Phase::Draining { reason, .. } => Some((self.last_progress + limits.linger_timeout, Due::Drop(reason))),
            Phase::Lingering { until, reason, .. } => Some((until, Due::Drop(reason))),
            Phase::Closed { .. } => None,
        }
    }

    /// Nobody is dropped for what it does not take before a write has been tried.
    fn tried(&self, reason: CloseReason) -> Due {
        if self.probed { Due::Drop(reason) } else { Due::Probe }
    }

    /// Its peer has taken so many bytes, or the kernel has for it.
    pub(super) fn took(&mut self, bytes: usize, rate: Option<LeastRate>, now: Instant) {
        self.last_progress = now;
        self.probed = false;
        if self.backed_up
            && let (Protocol::Http(http), Some(rate)) = (&mut self.protocol, rate)
        {
            http.pace.take(bytes, rate, now);
        }
    }

    /// When it will have taken its responses too slowly, if it is behind with them.
    #[must_use]
    pub fn pace_ends(&self) -> Option<Instant> {
        match &self.protocol {
            Protocol::Http(http) => http.pace.ends(),
            Protocol::WebSocket(_) | Protocol::Events => None,
        }
    }

    /// What the peer's silence leads to.
    fn due_of_peer(&self, limits: &Limits) -> Option<(Instant, Due)> {
        match &self.protocol {
            // While we do not read, we cannot know whether it is silent or slow.
            _ if self.held != Held::No => match self.held {
                Held::Rate(until) => Some((until, Due::Resume)),
                _ => None,
            },
            Protocol::WebSocket(_) => {
                let late = |began| (began + limits.message_timeout, Due::Close(CloseReason::Policy));
                earlier(self.message_began.map(late), self.due_of_silence(limits))
            }
            // Nothing is expected of it, but proxies forget who is silent.
            Protocol::Events => (!self.backed_up).then(|| (self.last_heard + limits.ping_interval, Due::Ping)),
            // It waits for us, or for its own reading of what it has been answered.
            Protocol::Http(http) if http.backlog != Backlog::None => None,
            // Counted from its beginning, since another byte now and then is no progress.
            Protocol::Http(http) => match http.head_began {
                Some(began) => Some((began + limits.handshake_timeout, Due::SlowHead)),
                None if http.answering.is_some() => None,
                // It is still busy with what it has been answered.
                None if self.backed_up => None,
                None if http.requests == 0 => {
                    Some((self.opened + limits.handshake_timeout, Due::Close(CloseReason::KeepAliveTimeout)))
                }
                None => Some((self.last_heard + limits.keep_alive_timeout, Due::Close(CloseReason::KeepAliveTimeout))),
            },
        }
    }

    /// Whatever its peer is given time for begins anew, as we have not listened to it for a while.
    pub(super) fn restart_clocks(&mut self, now: Instant) {
        self.last_heard = now;
        self.pinged = false;
        self.message_began = self.message_began.map(|_| now);
        if let Protocol::Http(http) = &mut self.protocol {
            http.head_began = http.head_began.map(|_| now);
        }
    }

    /// What it leads to that nothing comes from the peer of a WebSocket.
    fn due_of_silence(&self, limits: &Limits) -> Option<(Instant, Due)> {
        if self.backed_up {
            // A ping behind bytes that it has not taken would tell nothing, and nor does its silence.
            None
        } else if self.pinged && self.sight == Sight::None {
            // Whoever answers has done so by then.
            Some((self.last_heard + limits.ping_interval + limits.ping_interval / LOOK_SHARE, Due::Look))
        } else if self.pinged {
            Some((self.last_heard + limits.ping_interval * 2, Due::Doubt))
        } else {
            Some((self.last_heard + limits.ping_interval, Due::Ping))
        }
    }

    /// Nothing follows what is queued, and the connection ends when that has been taken: at the least rate, or not at all.
    pub fn begin_draining(&mut self, reason: CloseReason, limits: &Limits, now: Instant) {
        let time = Duration::from_secs((self.outbox.len() / FAREWELL_BYTES_PER_SECOND) as u64);
        self.phase = Phase::Draining { until: now + 2 * limits.stall_timeout + time, reason };
        self.outbox.seal();
    }

    /// How long it has been there.
    #[must_use]
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.opened)
    }
}

fn earlier(one: Option<(Instant, Due)>, other: Option<(Instant, Due)>) -> Option<(Instant, Due)> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if other.0 < one.0 { other } else { one }),
        (one, other) => one.or(other),
    }
}
