//! All connections: a slab of them, the lists of those with work, and the sum of what their outboxes hold.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use slab::Slab;

use crate::close::CloseReason;
use crate::http::Http;
use crate::limits::Limits;

use super::connection::{Connection, ConnectionId, HttpExchange, Phase, Protocol};
use super::outbox::Outbox;
use super::transport::{Transport, WriteOutcome};

/// What came of flushing one outbox.
#[derive(Debug)]
pub enum Flushed {
    /// All is written.
    Empty,
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
    /// Bytes in all outboxes.
    outbox_bytes: usize,
    /// Slots with something to flush.
    dirty: Vec<u32>,
    /// Slots that are readable and may be read.
    readable: Vec<u32>,
    /// Whoever was turned away by a full outbox which has drained since.
    drained: Vec<ConnectionId>,
    /// Slots that wait for the end of the turn.
    closed: Vec<u32>,
    high_water_bytes: usize,
    low_water_bytes: usize,
    total_bytes: usize,
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
            readable: Vec::new(),
            drained: Vec::new(),
            closed: Vec::new(),
            high_water_bytes: limits.outbox_high_water_bytes,
            low_water_bytes: limits.outbox_low_water_bytes,
            total_bytes: limits.outboxes_total_bytes,
        }
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

    /// Bytes in all outboxes together.
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
        let exchange = HttpExchange { machine: Http::new(), answering: None, requests: 0, head_began: None };
        entry.insert(Connection {
            id,
            peer,
            transport,
            phase: Phase::Open,
            protocol: Protocol::Http(Box::new(exchange)),
            outbox: Outbox::default(),
            opened: now,
            last_heard: now,
            last_progress: now,
            readable: false,
            // A new socket can be written, and its first edge will say so again.
            writable: true,
            hung_up: false,
            ended: false,
            listed: false,
            dirty: false,
            held: false,
            awaited: false,
            pinged: false,
            surplus: false,
            probed: false,
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
        if connection.readable && !connection.listed && !connection.held {
            connection.listed = true;
            self.readable.push(slot);
        }
    }

    /// Takes the list of connections to be read in this turn.
    pub fn take_readable(&mut self, into: &mut Vec<u32>) {
        into.append(&mut self.readable);
    }

    /// Whether something was left that no edge will announce: the next poll must not sleep.
    #[must_use]
    pub fn has_carried_over(&self) -> bool {
        !self.readable.is_empty() || !self.drained.is_empty() || !self.dirty.is_empty()
    }

    /// Has the flush step try to write to a socket that has not been reported as writable again.
    pub fn probe(&mut self, slot: u32) {
        let connection = &mut self.slab[slot as usize];
        connection.probed = true;
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
        if connection.outbox.len() > high_water {
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
        let is_full = connection.outbox.len() > high_water;
        connection.awaited |= is_full;
        !is_full
    }

    /// Queues `bytes` whatever waits already: responses, control frames and farewells, which are bounded elsewhere.
    pub fn push(&mut self, id: ConnectionId, bytes: Bytes, now: Instant) {
        if self.get(id).is_some() {
            self.queue(id.slot, bytes, now);
        }
    }

    fn queue(&mut self, slot: u32, bytes: Bytes, now: Instant) {
        let connection = &mut self.slab[slot as usize];
        if connection.outbox.is_empty() {
            connection.last_progress = now;
            connection.probed = false;
        }
        self.outbox_bytes += connection.outbox.push(bytes);
        self.list_dirty(slot);
    }

    /// Whether the connection's own outbox forbids reading from it now. If so, what drains the outbox lists it again.
    pub fn hold_back_if_full(&mut self, slot: u32) -> bool {
        let high_water = self.high_water_bytes();
        let connection = &mut self.slab[slot as usize];
        connection.held = connection.outbox.len() > high_water;
        connection.held
    }

    /// Writes the outbox of `slot` until it is empty or the socket takes no more. Adds what was written to `written`.
    pub fn flush(&mut self, slot: u32, now: Instant, written: &mut u64) -> Flushed {
        let connection = &mut self.slab[slot as usize];
        connection.dirty = false;
        let flushed = loop {
            if connection.outbox.is_empty() {
                break Flushed::Empty;
            }
            match connection.transport.write(&connection.outbox) {
                Ok(WriteOutcome::Bytes(taken)) => {
                    let offered = connection.outbox.offered();
                    connection.outbox.advance(taken);
                    connection.last_progress = now;
                    connection.probed = false;
                    self.outbox_bytes -= taken;
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
        connection.writable = !matches!(flushed, Flushed::Blocked);
        if connection.outbox.len() <= self.low_water_bytes {
            if std::mem::take(&mut connection.awaited) {
                self.drained.push(connection.id);
            }
            if std::mem::take(&mut connection.held) {
                // While it was held back its peer was not heard; its silence counts from now.
                connection.last_heard = now;
                self.list_readable(slot);
            }
        }
        flushed
    }

    /// Drops what waits, and gives the slot back at the end of the turn.
    pub fn close(&mut self, slot: u32, reason: CloseReason) {
        let connection = &mut self.slab[slot as usize];
        if !matches!(connection.phase, Phase::Closed { .. }) {
            connection.phase = Phase::Closed { reason };
            self.outbox_bytes -= connection.outbox.clear();
            self.closed.push(slot);
        }
    }

    /// Gives the slot back and returns its last tenant, whose socket closes when it is dropped.
    pub fn remove(&mut self, slot: u32) -> Connection {
        let connection = self.slab.remove(slot as usize);
        if self.slab.is_empty() {
            // A burst that has passed leaves no memory behind.
            self.slab.shrink_to_fit();
        }
        connection
    }
}
