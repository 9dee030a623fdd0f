//! The poll loop: the turn in its fixed order, and the routing between the parts.
//!
//! ```text
//! poll → mark → accept → read → expire → commit → flush → reap
//! ```
//!
//! Readiness only marks; reading and broadcasting only queue; *flush* alone writes to sockets; a slot is reused after
//! *reap* at the earliest, when no event of the turn can still name its former tenant. What a budget stopped is carried
//! over, and the next poll does not sleep; what is held back (own outbox full, journal full, no descriptor free) is
//! listed again by what frees it.

mod admit;
mod api;
mod descriptors;
mod end;
mod serve;
mod start;
mod talk;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use signal_hook_mio::v1_0::Signals;

use crate::chat::entry::MemberId;
use crate::chat::hub::{Command, Hub};
use crate::close::CloseReason;
use crate::http::DateCache;
use crate::journal::Journal;
use crate::limits::Limits;
use crate::logging::Chatter;
use crate::metrics::{Budget, Kind, Metrics};
use crate::net::connection::{Backlog, Connection, ConnectionId, Due, Phase, Protocol};
use crate::net::connections::{Connections, Flushed};
use crate::net::listener::Listener;
use crate::net::timers::Timers;
use crate::net::transport::ReadOutcome;
use crate::site::{FileStream, Site};
use crate::ws::session::{Event as SessionEvent, Workbench};

use end::{Farewell, Goodbyes};
pub use start::StartError;

/// Events taken from one poll; the others come with the next.
const EVENTS: usize = 1024;
/// Tokens above this are ours; those below are slots of connections.
const FIRST_LISTENER: usize = 1 << 40;
const WAKER: Token = Token(FIRST_LISTENER - 1);
const SIGNALS: Token = Token(FIRST_LISTENER - 2);
/// Connections beyond the limit that may be on their way out with a 503 at once; further ones wait in the backlog.
const REFUSALS_AT_ONCE: usize = 32;

/// The server: everything that one thread owns.
pub struct Reactor {
    poll: Poll,
    signals: Option<Signals>,
    listeners: Vec<Listener>,
    addresses: Vec<SocketAddr>,
    /// Which of them is asked first in the next turn.
    first_listener: usize,
    limits: Limits,
    max_connections: usize,
    /// No descriptor was free; accepting rests until one of ours is, or until then.
    accept_paused_until: Option<Instant>,
    connections: Connections,
    /// Connections beyond the limit that are on their way out.
    surplus: usize,
    /// How many connections each address has, where that is limited.
    addresses_there: HashMap<IpAddr, usize>,
    timers: Timers,
    hub: Hub,
    journal: Journal,
    site: Site,
    /// What is still to be sent of large files. `None` while the worker of the site reads on.
    streams: HashMap<ConnectionId, Option<FileStream>>,
    /// HTTP connections whose work goes on in the next turn, in the order in which it was interrupted.
    waiting: VecDeque<ConnectionId>,
    budgets: Budgets,
    /// HTTP requests that wait for the journal.
    desk: api::Desk,
    gate: talk::Gate,
    workbench: Workbench,
    dates: DateCache,
    metrics: Metrics,
    lines: Chatter,
    started: Instant,
    /// When the present turn began.
    now: Instant,
    /// Set by the first signal: when the server ends, whoever is left.
    drain_until: Option<Instant>,
    /// Who is told goodbye until then, one after another.
    goodbyes: Goodbyes,
    /// Who ends in this turn, after what was said before has been handed out.
    farewells: Vec<Farewell>,
    scratch: Scratch,
}

/// What is left of the bounds on one turn's work for HTTP.
#[derive(Debug, Default)]
struct Budgets {
    requests: usize,
    /// Bytes of streamed files.
    stream_bytes: usize,
    /// Something was left for the next turn that is in none of the lists.
    is_exceeded: bool,
}

impl Budgets {
    fn new(limits: &Limits) -> Self {
        Budgets { requests: limits.requests_per_turn, stream_bytes: limits.stream_bytes_per_turn, is_exceeded: false }
    }

    fn is_spent(&self) -> bool {
        self.requests == 0 || self.stream_bytes == 0
    }
}

/// Buffers that live as long as the loop, so that no turn allocates them.
#[derive(Debug, Default)]
struct Scratch {
    input: Box<[u8]>,
    output: Vec<u8>,
    events: Vec<SessionEvent>,
    slots: Vec<u32>,
    ids: Vec<ConnectionId>,
    commands: Vec<Command>,
}

impl fmt::Debug for Reactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reactor").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl Reactor {
    /// Where the server listens; the first is the one to tell people.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Serves until a signal ends it and all connections have been drained, or their time is up.
    ///
    /// # Errors
    ///
    /// When the poll itself fails, which leaves nothing to go on with.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let mut now = Instant::now();
        while !self.is_finished(now) {
            let sleep = self.sleep(now);
            match self.poll.poll(&mut events, sleep) {
                Ok(()) => {}
                Err(err) if err.kind() == io::ErrorKind::Interrupted => events.clear(),
                Err(err) => return Err(err),
            }
            let woken = Instant::now();
            for event in &events {
                match event.token() {
                    Token(slot) if slot < SIGNALS.0 => self.connections.mark(
                        slot as u32,
                        event.is_readable(),
                        event.is_writable(),
                        event.is_read_closed() || event.is_error(),
                    ),
                    SIGNALS => self.heed_signals(woken),
                    WAKER => {}
                    Token(listener) => {
                        if let Some(listener) = self.listeners.get_mut(listener - FIRST_LISTENER) {
                            listener.ready = true;
                        }
                    }
                }
            }
            self.turn(woken);
            now = Instant::now();
            self.metrics.turned(now - woken);
        }
        Ok(())
    }

    /// One turn, but for the poll before it and the marks that came of it.
    fn turn(&mut self, now: Instant) {
        self.now = now;
        self.budgets = Budgets::new(&self.limits);
        self.accept(now);
        self.answer_awaited(now);
        self.serve_waiting(now);
        self.read(now);
        self.expire(now);
        self.commit(now);
        self.flush(now);
        self.reap(now);
        if self.budgets.requests == 0 {
            self.metrics.spent(Budget::Requests);
        }
        if self.budgets.stream_bytes == 0 {
            self.metrics.spent(Budget::Streams);
        }
    }

    /// How long the poll may sleep: not at all if work was carried over.
    fn sleep(&mut self, now: Instant) -> Option<Duration> {
        if self.is_carried_over() {
            return Some(Duration::ZERO);
        }
        let deadlines = [
            self.timers.next_deadline(),
            self.accept_paused_until,
            self.drain_until,
            self.goodbyes.next(),
            self.lines.deadline(),
            self.hub.next_tick(),
            self.hub.next_report(),
        ];
        let next = deadlines.into_iter().flatten().min()?;
        Some(next.saturating_duration_since(now))
    }

    /// Whether something was left that no edge and no deadline will announce.
    fn is_carried_over(&self) -> bool {
        let may_accept = self.accept_paused_until.is_none() && self.has_slot();
        may_accept && self.listeners.iter().any(|listener| listener.ready)
            || self.connections.has_carried_over()
            || self.hub.has_carried_over()
            || self.hub.has_awaited()
            || !self.waiting.is_empty()
            || self.budgets.is_exceeded
    }

    /// Goes on with those whom the last turns had no time for, whoever has waited longest first.
    fn serve_waiting(&mut self, now: Instant) {
        for _ in 0..self.waiting.len() {
            if self.budgets.is_spent() {
                break;
            }
            let Some(id) = self.waiting.pop_front() else { break };
            let Some(connection) = self.connections.get_mut(id) else { continue };
            if let Protocol::Http(http) = &mut connection.protocol {
                http.backlog = Backlog::None;
                self.serve_on(id, now);
            }
        }
    }

    /// Reads from those who are listed, within the turn's budget.
    fn read(&mut self, now: Instant) {
        let mut budget = self.limits.read_bytes_per_turn;
        // Those who are listed again while we read come in the next turn.
        for _ in 0..self.connections.readable() {
            if budget == 0 {
                self.metrics.spent(Budget::Reads);
                break;
            }
            let Some(slot) = self.connections.poll_readable() else { break };
            budget -= self.read_from(slot, budget, now);
        }
    }

    /// Reads once from a connection, gives what came to its machine, and returns how much that was.
    fn read_from(&mut self, slot: u32, budget: usize, now: Instant) -> usize {
        let Some(connection) = self.connections.at_mut(slot) else { return 0 };
        if connection.is_open() {
            match &connection.protocol {
                Protocol::WebSocket(_) if !self.journal.has_room() => {
                    self.connections.park(slot);
                    return 0;
                }
                // What it has sent already is answered first, which lists it again.
                Protocol::Http(http) if http.backlog != Backlog::None || !http.machine.wants_input() => return 0,
                Protocol::WebSocket(_) | Protocol::Http(_) | Protocol::Events => {}
            }
            if self.connections.hold_back_if_full(slot) {
                return 0;
            }
        }
        let Some(connection) = self.connections.at_mut(slot) else { return 0 };
        let room = budget.min(self.limits.read_bytes_per_connection);
        match connection.transport.read(&mut self.scratch.input[..room]) {
            Ok(ReadOutcome::Bytes(read)) => {
                // A short read means that the socket is empty, unless an end that was announced is still to be read.
                connection.readable = read == room || connection.hung_up;
                connection.last_heard = now;
                connection.pinged = false;
                self.metrics.bytes_read += read as u64;
                let input = std::mem::take(&mut self.scratch.input);
                self.receive(slot, &input[..read], now);
                self.scratch.input = input;
                self.connections.list_readable(slot);
                read
            }
            Ok(ReadOutcome::Blocked) => {
                connection.readable = false;
                0
            }
            Ok(ReadOutcome::Eof) => {
                connection.readable = false;
                self.peer_ended(slot, now);
                0
            }
            Err(_) => {
                self.lost(slot);
                0
            }
        }
    }

    /// Gives input to whatever rides on the connection.
    fn receive(&mut self, slot: u32, input: &[u8], now: Instant) {
        let Some(connection) = self.connections.at_mut(slot) else { return };
        match (&mut connection.phase, &mut connection.protocol) {
            (Phase::Open, Protocol::Http(http)) => {
                http.machine.receive(input);
                let id = connection.id;
                self.serve(id, now);
            }
            (Phase::Open | Phase::Draining { .. }, Protocol::WebSocket(_)) => {
                let id = connection.id;
                self.listen_to(id, input, now);
            }
            (Phase::Lingering { dropped, reason, .. }, _) => {
                *dropped += input.len();
                if *dropped > self.limits.linger_bytes {
                    let reason = *reason;
                    self.close(slot, reason);
                }
            }
            (_, Protocol::Events) | (Phase::Draining { .. }, Protocol::Http(_)) | (Phase::Closed { .. }, _) => {}
        }
    }

    /// Acts on the timers that are due.
    fn expire(&mut self, now: Instant) {
        let mut due = std::mem::take(&mut self.scratch.slots);
        self.timers.expire(now, &mut due);
        for slot in due.drain(..) {
            self.expire_connection(slot, now);
            self.set_timer(slot);
        }
        self.scratch.slots = due;
        self.say_goodbyes(now);
    }

    fn expire_connection(&mut self, slot: u32, now: Instant) {
        let Some(connection) = self.connections.at_mut(slot) else { return };
        let id = connection.id;
        match connection.due(&self.limits) {
            // What has come, and this turn had no time to read, may be what it was given time for: it is looked at first. But
            // whoever sends without end is not waited for without end.
            Some((at, Due::Ping | Due::SlowHead | Due::Doubt | Due::Close(_)))
                if connection.listed && now < at + self.limits.handshake_timeout => {}
            Some((at, due)) if at <= now => match due {
                Due::Resume => self.connections.release(slot, now),
                Due::Ping => self.ping(id, now),
                Due::SlowHead => self.refuse_slow_head(id, now),
                Due::Close(reason) => self.farewell(id, reason),
                Due::Doubt => {
                    if !self.connections.is_on_its_way(slot, &self.limits, now) {
                        self.farewell(id, CloseReason::PingTimeout);
                    }
                }
                Due::Look => _ = self.connections.look(slot, now),
                Due::Probe => self.connections.probe(slot, now),
                Due::Drop(reason) => {
                    if matches!(reason, CloseReason::Stalled | CloseReason::TooSlow) {
                        connection.transport.reset_on_close();
                    }
                    self.close(slot, reason);
                }
            },
            _ => {}
        }
    }

    /// Sets the timer of a connection to what is due next on it.
    fn set_timer(&mut self, slot: u32) {
        let Some(connection) = self.connections.at_mut(slot) else { return };
        match connection.due(&self.limits) {
            Some((deadline, _)) => self.timers.set(slot, deadline),
            None => self.timers.cancel(slot),
        }
    }

    /// Hands the turn's drafts to the journal, and what it has emitted to those who are to hear it.
    fn commit(&mut self, now: Instant) {
        self.take_site_answers(now);
        self.resume_drained(now);
        self.journal.flush();
        self.take_journal_events(now);
        self.measure_returns();
        let mut stage = talk::Outboxes { connections: &mut self.connections, metrics: &mut self.metrics, now };
        self.hub.tick(&mut stage, now);
        self.hand_out(now);
        self.report(now);
        self.carry_out_farewells(now);
        if self.journal.has_room() {
            let mut released = std::mem::take(&mut self.scratch.ids);
            self.connections.release_parked(now, &mut released);
            for id in released.drain(..) {
                self.set_timer(id.slot);
            }
            self.scratch.ids = released;
        }
    }

    /// Goes on with those whose outbox had turned somebody away and has drained.
    fn resume_drained(&mut self, now: Instant) {
        let mut drained = std::mem::take(&mut self.scratch.ids);
        self.connections.take_drained(&mut drained);
        for id in drained.drain(..) {
            match self.connections.get(id).map(|connection| &connection.protocol) {
                Some(Protocol::WebSocket(_) | Protocol::Events) => self.hub.drained(member_id(id)),
                Some(Protocol::Http(_)) => self.serve_on(id, now),
                None => {}
            }
        }
        self.scratch.ids = drained;
    }

    /// Writes every dirty outbox: the one place where sockets are written.
    fn flush(&mut self, now: Instant) {
        let mut dirty = std::mem::take(&mut self.scratch.slots);
        self.connections.take_dirty(&mut dirty);
        for slot in dirty.drain(..) {
            match self.connections.flush(slot, now, &mut self.metrics.bytes_written) {
                Flushed::Empty => self.settle(slot, now),
                Flushed::Relieved => {
                    self.settle(slot, now);
                    self.set_timer(slot);
                }
                Flushed::Blocked => {
                    let due = self.connections.at_mut(slot).and_then(|connection| connection.due(&self.limits));
                    if let Some((deadline, _)) = due {
                        self.timers.hasten(slot, deadline);
                    }
                }
                Flushed::Failed(_) => self.lost(slot),
            }
        }
        self.scratch.slots = dirty;
    }

    /// Gives back the slots of closed connections.
    fn reap(&mut self, now: Instant) {
        let mut closed = std::mem::take(&mut self.scratch.slots);
        self.connections.take_closed(&mut closed);
        for slot in closed.drain(..) {
            self.timers.cancel(slot);
            // Dropping the socket takes it out of the poll as well.
            let connection = self.connections.remove(slot);
            self.surplus -= usize::from(connection.surplus);
            self.discount_address(connection.counted_as);
            self.part_with(&connection, now);
            // A descriptor is free again.
            self.accept_paused_until = None;
        }
        self.scratch.slots = closed;
        if let Some(left_out) = self.lines.poll_left_out(now) {
            tracing::info!("{left_out}");
        }
    }

    /// Counts and logs a connection that has ended.
    fn part_with(&mut self, connection: &Connection, now: Instant) {
        let Phase::Closed { reason } = connection.phase else { return };
        let (id, peer, age) = (connection.id.serial, connection.peer, connection.age(now));
        match &connection.protocol {
            Protocol::WebSocket(_) => {
                self.metrics.closed(Kind::WebSocket, reason);
                if self.lines.left(now) {
                    tracing::info!("client {id} from {peer} left after {age:.1?}: {reason}");
                }
            }
            Protocol::Events => {
                self.metrics.closed(Kind::Http, reason);
                tracing::debug!("stream {id} to {peer} ended after {age:.1?}: {reason}");
            }
            Protocol::Http(http) => {
                self.metrics.closed(Kind::Http, reason);
                tracing::debug!(
                    "connection {id} from {peer} ended after {age:.1?} and {} requests: {reason}",
                    http.requests
                );
            }
        }
    }

    fn is_finished(&self, now: Instant) -> bool {
        self.drain_until.is_some_and(|until| self.connections.is_empty() || now >= until)
    }
}

/// The member of the hub that a connection is.
fn member_id(id: ConnectionId) -> MemberId {
    MemberId { slot: id.slot, serial: id.serial }
}

/// The connection that a member of the hub is.
fn connection_id(member: MemberId) -> ConnectionId {
    ConnectionId { slot: member.slot, serial: member.serial }
}
