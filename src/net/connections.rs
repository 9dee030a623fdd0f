//! All connections: a slab of them, the lists of those with work, and the sum of what their outboxes hold.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use slab::Slab;

use crate::close::CloseReason;
use crate::http::Http;
use crate::limits::Limits;

use super::conduit::Conduit;
use super::connection::{Backlog, Connection, ConnectionId, Held, HttpExchange, Phase, Protocol, Sight};
use super::inquiry::Inquiry;
use super::outbox::{FileSlice, Outbox};
use super::pace::{LeastRate, Pace};
use super::transport::{Cut, Transport, WriteOutcome};

/// What came of flushing one outbox.
#[derive(Debug)]
pub enum Flushed {
    /// All is written.
    Empty,
    /// All is written, after the socket had taken no more for a while.
    Relieved,
    /// The socket takes no more now.
    Blocked,
    /// The socket is lost.
    Failed(io::Error),
}

/// The slab of connections. Slots are given back by [`remove`](Connections::remove) alone, at the end of a turn.
#[derive(Debug)]
pub struct Connections {
    slab: Slab<Connection>,
    next_serial: u32,
    /// The load of all outboxes.
    outbox_bytes: usize,
    /// Slots with something to flush.
    dirty: Vec<u32>,
    /// Slots that are readable and may be read, those first that have waited longest.
    readable: VecDeque<u32>,
    /// Connections that are not read because the journal has no room, in the order in which they came upon it.
    parked: Vec<ConnectionId>,
    /// Connections that are held back from being read, for whatever reason.
    held: usize,
    /// Whoever was turned away by a full outbox which has drained since.
    drained: Vec<ConnectionId>,
    /// Slots that wait for the end of the turn.
    closed: Vec<u32>,
    /// For all of them.
    conduit: Conduit,
    inquiry: Option<Inquiry>,
    high_water_bytes: usize,
    low_water_bytes: usize,
    total_bytes: usize,
    least_rate: Option<LeastRate>,
}

impl Connections {
    /// No connections, and the water marks of `limits`.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Connections {
            slab: Slab::new(),
            next_serial: 0,
            outbox_bytes: 0,
            dirty: Vec::new(),
            readable: VecDeque::new(),
            parked: Vec::new(),
            held: 0,
            drained: Vec::new(),
            closed: Vec::new(),
            conduit: Conduit::default(),
            inquiry: None,
            high_water_bytes: limits.outbox_high_water_bytes,
            low_water_bytes: limits.outbox_low_water_bytes,
            total_bytes: limits.outboxes_total_bytes,
            least_rate: LeastRate::of(limits),
        }
    }

    /// From now on the kernel is asked what slow peers take. False if it does not even tell of the listening socket at
    /// this address: then only what it takes itself is seen.
    pub fn inquire(&mut self, listener: SocketAddr) -> bool {
        self.inquiry = Inquiry::open(listener);
        self.inquiry.is_some()
    }

    /// Connections that hold a slot.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// No connection holds a slot.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// The [load](Outbox::load) of all outboxes together.
    #[must_use]
    pub fn outbox_bytes(&self) -> usize {
        self.outbox_bytes
    }

    /// The slot that the next connection gets.
    #[must_use]
    pub fn next_slot(&self) -> u32 {
        self.slab.vacant_key() as u32
    }

    /// Takes in a connection that was accepted at `now`.
    pub fn insert(&mut self, transport: Transport, peer: SocketAddr, now: Instant) -> ConnectionId {
        let entry = self.slab.vacant_entry();
        let id = ConnectionId { slot: entry.key() as u32, serial: self.next_serial };
        self.next_serial = self.next_serial.wrapping_add(1);
        let exchange = HttpExchange {
            machine: Http::new(),
            answering: None,
            requests: 0,
            head_began: None,
            backlog: Backlog::None,
            pace: Pace::New,
        };
        entry.insert(Connection {
            id,
            peer,
            transport,
            phase: Phase::Open,
            protocol: Protocol::Http(Box::new(exchange)),
            outbox: Outbox::default(),
            opened: now,
            last_heard: now,
            message_began: None,
            last_progress: now,
            readable: false,
            // A new socket can be written, and its first edge will say so again.
            writable: true,
            hung_up: false,
            ended: false,
            backed_up: false,
            cut: Cut::Free,
            listed: false,
            dirty: false,
            held: Held::No,
            awaited: false,
            pinged: false,
            surplus: false,
            counted_as: None,
            probed: false,
            sight: Sight::None,
        });
        id
    }

    /// The connection of that name, if it still has its slot.
    #[must_use]
    pub fn get(&self, id: ConnectionId) -> Option<&Connection> {
        self.slab.get(id.slot as usize).filter(|connection| connection.id == id)
    }

    /// The connection of that name, if it still has its slot.
    pub fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.slab.get_mut(id.slot as usize).filter(|connection| connection.id == id)
    }

    /// The present tenant of a slot.
    pub fn at_mut(&mut self, slot: u32) -> Option<&mut Connection> {
        self.slab.get_mut(slot as usize)
    }

    /// Every connection.
    pub fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.slab.iter().map(|(_, connection)| connection)
    }

    /// Notes what an edge told about the tenant of `slot`, and lists it for the work that follows.
    pub fn mark(&mut self, slot: u32, readable: bool, writable: bool, hung_up: bool) {
        let Some(connection) = self.slab.get_mut(slot as usize) else { return };
        connection.hung_up |= hung_up;
        if readable || hung_up {
            connection.readable = true;
            self.list_readable(slot);
        }
        let Some(connection) = self.slab.get_mut(slot as usize) else { return };
        if writable && !connection.writable {
            connection.writable = true;
            if !connection.outbox.is_empty() {
                self.list_dirty(slot);
            }
        }
    }

    /// Lists a connection for reading, unless it is listed already, held back, or has nothing to be read.
    pub fn list_readable(&mut self, slot: u32) {
        let Some(connection) = self.slab.get_mut(slot as usize) else { return };
        if connection.readable && !connection.listed && connection.held == Held::No {
            connection.listed = true;
            self.readable.push_back(slot);
        }
    }

    /// Connections that are listed for reading.
    #[must_use]
    pub fn readable(&self) -> usize {
        self.readable.len()
    }

    /// Takes whoever has been listed for reading longest. Those who are left when a turn's budget ends stay in front of
    /// those who are listed again.
    pub fn poll_readable(&mut self) -> Option<u32> {
        while let Some(slot) = self.readable.pop_front() {
            // It may have been listed by a former tenant of the slot.
            if let Some(connection) = self.slab.get_mut(slot as usize)
                && std::mem::take(&mut connection.listed)
            {
                return Some(slot);
            }
        }
        None
    }

    /// Connections that are held back from being read.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    /// Does not let a connection be read until [`release_parked`](Connections::release_parked), as the journal has no
    /// room.
    pub fn park(&mut self, slot: u32) {
        let id = self.slab[slot as usize].id;
        self.hold(slot, Held::Journal);
        self.parked.push(id);
    }

    /// Lets all who are parked be read again, before others, and appends them to `released`.
    pub fn release_parked(&mut self, now: Instant, released: &mut Vec<ConnectionId>) {
        // Each is put in front of those behind it.
        for id in std::mem::take(&mut self.parked).into_iter().rev() {
            let Some(connection) = self.get_mut(id).filter(|connection| connection.held == Held::Journal) else {
                continue;
            };
            connection.restart_clocks(now);
            connection.listed = true;
            self.hold(id.slot, Held::No);
            self.readable.push_front(id.slot);
            released.push(id);
        }
    }

    /// Does not let a connection be read before `until`.
    pub fn slow_down(&mut self, slot: u32, until: Instant) {
        self.hold(slot, Held::Rate(until));
    }

    /// Lets a connection be read that was held back for whatever reason, if it was.
    pub fn release(&mut self, slot: u32, now: Instant) {
        let connection = &mut self.slab[slot as usize];
        if connection.held != Held::No {
            connection.restart_clocks(now);
            self.hold(slot, Held::No);
        }
        self.list_readable(slot);
    }

    fn hold(&mut self, slot: u32, held: Held) {
        let connection = &mut self.slab[slot as usize];
        self.held -= usize::from(connection.held != Held::No);
        connection.held = held;
        self.held += usize::from(connection.held != Held::No);
    }

    /// Whether something was left that no edge will announce: the next poll must not sleep.
    #[must_use]
    pub fn has_carried_over(&self) -> bool {
        !self.readable.is_empty() || !self.drained.is_empty() || !self.dirty.is_empty()
    }

    /// Looks at what the kernel holds for a peer. If that is less than it was, it has taken some. Tells whether it has.
    pub fn look(&mut self, slot: u32, now: Instant) -> bool {
        let connection = &mut self.slab[slot as usize];
        let held = connection.transport.unacknowledged(self.inquiry.as_mut());
        let taken = connection.sight.update(held);
        if taken > 0 {
            connection.took(taken, self.least_rate, now);
        }
        taken > 0
    }

    /// Whether a peer that has not answered a ping has taken some of what was written until then. If so, it has another
    /// interval for the rest, or if there is none, for its answer.
    pub fn is_on_its_way(&mut self, slot: u32, limits: &Limits, now: Instant) -> bool {
        let has_taken = self.look(slot, now);
        if has_taken {
            self.slab[slot as usize].last_heard += limits.ping_interval;
        }
        has_taken
    }

    /// Has the flush step try to write to a socket that has not been reported as writable again.
    pub fn probe(&mut self, slot: u32, now: Instant) {
        self.slab[slot as usize].probed = true;
        self.look(slot, now);
        let connection = &mut self.slab[slot as usize];
        connection.writable = true;
        self.list_dirty(slot);
    }

    /// Lists a connection for the flush step, which also finds out that there is nothing left to write.
    pub fn list_dirty(&mut self, slot: u32) {
        let connection = &mut self.slab[slot as usize];
        if connection.writable && !connection.dirty {
            connection.dirty = true;
            self.dirty.push(slot);
        }
    }

    /// Takes the list of connections to be flushed in this turn.
    pub fn take_dirty(&mut self, into: &mut Vec<u32>) {
        into.append(&mut self.dirty);
    }

    /// Takes the list of those who were turned away and can be offered to again.
    pub fn take_drained(&mut self, into: &mut Vec<ConnectionId>) {
        into.append(&mut self.drained);
    }

    /// Takes the list of closed connections, whose slots can be given back.
    pub fn take_closed(&mut self, into: &mut Vec<u32>) {
        into.append(&mut self.closed);
    }

    /// The high-water mark in force: it sinks from its full height to nothing while the sum of all outboxes rises
    /// from half of its bound to the whole, so that the fullest fall behind first.
    #[must_use]
    pub fn high_water_bytes(&self) -> usize {
        let half = self.total_bytes / 2;
        if self.outbox_bytes <= half {
            return self.high_water_bytes;
        }
        let left = self.total_bytes.saturating_sub(self.outbox_bytes);
        (self.high_water_bytes as u128 * left as u128 / half.max(1) as u128) as usize
    }

    /// Queues a clone of `batch` unless the outbox is above high water, and returns whether it did. The mark is checked
    /// before the push, so that a batch is taken whole or not at all. Whoever was turned away is reported by
    /// [`take_drained`](Connections::take_drained) once its outbox has emptied.
    #[must_use]
    pub fn offer(&mut self, id: ConnectionId, batch: &Bytes, now: Instant) -> bool {
        let high_water = self.high_water_bytes();
        let Some(connection) = self.get_mut(id).filter(|connection| connection.is_open()) else { return false };
        if connection.outbox.load() > high_water {
            connection.awaited = true;
            return false;
        }
        self.queue(id.slot, batch.clone(), now);
        true
    }

    /// Whether more may be made for this connection now. If not, [`take_drained`](Connections::take_drained) reports it
    /// once it may.
    pub fn has_room(&mut self, id: ConnectionId) -> bool {
        let high_water = self.high_water_bytes();
        let Some(connection) = self.get_mut(id) else { return false };
        let is_full = connection.outbox.load() > high_water;
        connection.awaited |= is_full;
        !is_full
    }

    /// Whether all outboxes together have room for so much more that nobody else has a share in.
    #[must_use]
    pub fn have_room_for(&self, bytes: usize) -> bool {
        self.outbox_bytes.saturating_add(bytes) < self.total_bytes
    }

    /// Queues `bytes` whatever waits already: responses, control frames and farewells, which are bounded elsewhere.
    pub fn push(&mut self, id: ConnectionId, bytes: Bytes, now: Instant) {
        if self.get(id).is_some() {
            self.queue(id.slot, bytes, now);
        }
    }

    /// Queues bytes of a file, as [`push`](Self::push) does.
    pub fn push_file(&mut self, id: ConnectionId, file: FileSlice, now: Instant) {
        if self.get(id).is_some() {
            self.outbox_bytes += self.outbox_at(id.slot, now).push_file(file);
            self.list_dirty(id.slot);
        }
    }

    fn queue(&mut self, slot: u32, bytes: Bytes, now: Instant) {
        self.outbox_bytes += self.outbox_at(slot, now).push(bytes);
        self.list_dirty(slot);
    }

    /// An outbox that is about to be pushed to.
    fn outbox_at(&mut self, slot: u32, now: Instant) -> &mut Outbox {
        let connection = &mut self.slab[slot as usize];
        if connection.outbox.is_empty() {
            connection.last_progress = now;
            connection.probed = false;
        }
        &mut connection.outbox
    }

    /// Whether the connection's own outbox forbids reading from it now. If so, what drains the outbox lists it again.
    pub fn hold_back_if_full(&mut self, slot: u32) -> bool {
        let is_full = self.slab[slot as usize].outbox.load() > self.high_water_bytes();
        if is_full {
            self.hold(slot, Held::OwnOutbox);
        }
        is_full
    }

    /// Writes the outbox of `slot` until it is empty or the socket takes no more. Adds what was written to `written`.
    pub fn flush(&mut self, slot: u32, now: Instant, written: &mut u64) -> Flushed {
        let connection = &mut self.slab[slot as usize];
        connection.dirty = false;
        let load_before = connection.outbox.load();
        let flushed = loop {
            if connection.outbox.is_empty() {
                break Flushed::Empty;
            }
            match connection.transport.write(&connection.outbox, connection.cut, &mut self.conduit) {
                Ok(WriteOutcome::Bytes(taken)) => {
                    let offered = connection.outbox.offered();
                    connection.outbox.advance(taken);
                    connection.took(taken, self.least_rate, now);
                    if connection.backed_up {
                        connection.sight = Sight::None;
                    } else {
                        connection.sight.grow(taken);
                    }
                    *written += taken as u64;
                    // The kernel took less than it was offered: its buffer is full, and an edge will follow.
                    if taken < offered {
                        break Flushed::Blocked;
                    }
                }
                Ok(WriteOutcome::Blocked) => break Flushed::Blocked,
                Err(err) => break Flushed::Failed(err),
            }
        };
        let load = connection.outbox.load();
        self.outbox_bytes -= load_before - load;
        connection.writable = !matches!(flushed, Flushed::Blocked);
        if !connection.writable && !connection.backed_up {
            connection.backed_up = true;
            connection.sight = Sight::None;
            connection.cut = connection.transport.cut();
            if let (Protocol::Http(http), Some(rate)) = (&mut connection.protocol, self.least_rate) {
                http.pace.fall_behind(rate, now);
            }
        }
        let is_relieved = connection.backed_up && matches!(flushed, Flushed::Empty);
        if is_relieved {
            connection.backed_up = false;
            // It has read all the time, however slowly: its silence counts from now.
            connection.last_heard = now;
            connection.pinged = false;
            if let Protocol::Http(http) = &mut connection.protocol {
                http.pace.catch_up(now);
            }
        }
        if load <= self.low_water_bytes {
            if std::mem::take(&mut connection.awaited) {
                self.drained.push(connection.id);
            }
            if connection.held == Held::OwnOutbox {
                self.release(slot, now);
            }
        }
        if is_relieved { Flushed::Relieved } else { flushed }
    }

    /// Drops what waits, takes nothing more, and gives the slot back at the end of the turn.
    pub fn close(&mut self, slot: u32, reason: CloseReason) {
        let connection = &mut self.slab[slot as usize];
        if !matches!(connection.phase, Phase::Closed { .. }) {
            connection.phase = Phase::Closed { reason };
            // An answer may still be on its way to it: what it brought would never be subtracted from the sum.
            connection.outbox.seal();
            self.outbox_bytes -= connection.outbox.clear();
            self.hold(slot, Held::No);
            self.closed.push(slot);
        }
    }

    /// Gives the slot back and returns its last tenant, whose socket closes when it is dropped.
    pub fn remove(&mut self, slot: u32) -> Connection {
        let connection = self.slab.remove(slot as usize);
        debug_assert!(connection.outbox.is_empty(), "a closed outbox takes nothing");
        if self.slab.is_empty() {
            // A burst that has passed leaves no memory behind.
            self.slab.shrink_to_fit();
        }
        connection
    }
}
