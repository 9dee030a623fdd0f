//! How connections end: farewells, draining, lingering, and the signals that end them all.

use std::time::Instant;

use bytes::Bytes;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::chat::v1::Reply;
use crate::close::CloseReason;
use crate::net::connection::{ConnectionId, Phase, Protocol};

use super::talk::Outboxes;
use super::{Reactor, member_id};

/// Somebody who ends in this turn, once all that was said before has been handed out.
#[derive(Debug)]
pub(super) struct Farewell {
    id: ConnectionId,
    reason: CloseReason,
    /// What is said to a peer that closed first; to others it follows from the reason.
    reply: Option<Bytes>,
}

impl Reactor {
    /// Ends a connection at the end of the turn's commit, with the words that belong to the reason.
    pub(super) fn farewell(&mut self, id: ConnectionId, reason: CloseReason) {
        self.farewells.push(Farewell { id, reason, reply: None });
    }

    /// Ends a WebSocket whose peer has sent its close frame, with `reply` as ours.
    pub(super) fn farewell_in_reply(&mut self, id: ConnectionId, reply: Option<Bytes>) {
        self.farewells.push(Farewell { id, reason: CloseReason::PeerClosed, reply });
    }

    /// Queues the last words of all who end in this turn.
    pub(super) fn carry_out_farewells(&mut self, now: Instant) {
        for Farewell { id, reason, reply } in std::mem::take(&mut self.farewells) {
            let Some(connection) = self.connections.get_mut(id) else { continue };
            // Nor has anything to be said to whoever has asked meanwhile: it ends when it has its response.
            if !connection.is_open() || is_busy(&connection.protocol) {
                continue;
            }
            // What it said before it closed is told to all before it is told goodbye, itself included.
            let is_leaving = matches!(reason, CloseReason::PeerClosed | CloseReason::PeerVanished);
            if is_leaving && self.hub.in_flight(member_id(id)) > 0 {
                self.farewells.push(Farewell { id, reason, reply });
                continue;
            }
            let words = match (&mut connection.protocol, reason.close_code()) {
                (Protocol::WebSocket(session), Some((code, text))) => {
                    let mut frame = Vec::new();
                    session.close(code, text, &mut frame);
                    frame.into()
                }
                _ => reply.unwrap_or_default(),
            };
            self.connections.push(id, words, now);
            self.drain(id, reason, now);
        }
    }

    /// Lets the outbox empty, and the connection end after that.
    pub(super) fn drain(&mut self, id: ConnectionId, reason: CloseReason, now: Instant) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if !connection.is_open() {
            return;
        }
        connection.begin_draining(reason, &self.limits, now);
        self.hub.exit(member_id(id), now);
        // Nothing it sends means anything now, but it has to be read so that its end is seen.
        self.connections.release(id.slot, now);
        self.connections.list_dirty(id.slot);
        self.set_timer(id.slot);
    }

    /// An outbox is empty. If it was the last that this peer is owed, writing is shut down.
    pub(super) fn settle(&mut self, slot: u32, now: Instant) {
        let Some(connection) = self.connections.at_mut(slot) else { return };
        let Phase::Draining { reason, .. } = connection.phase else { return };
        if connection.ended {
            self.close(slot, reason);
            return;
        }
        if let Protocol::WebSocket(session) = &connection.protocol
            && !session.is_deaf()
        {
            // RFC 6455, section 7.1.1: the server closes the stream when both close frames have been seen.
            self.set_timer(slot);
            return;
        }
        connection.transport.shut_down_writing();
        connection.phase = Phase::Lingering { until: now + self.limits.linger_timeout, dropped: 0, reason };
        self.connections.list_readable(slot);
        self.set_timer(slot);
    }

    /// The peer's stream has ended. What we owe it is still written; it may have shut down one direction only.
    pub(super) fn peer_ended(&mut self, slot: u32, now: Instant) {
        let Some(connection) = self.connections.at_mut(slot) else { return };
        connection.ended = true;
        let id = connection.id;
        match (connection.phase, &connection.protocol) {
            (Phase::Open, Protocol::WebSocket(_) | Protocol::Events) => self.farewell(id, CloseReason::PeerVanished),
            (Phase::Open, Protocol::Http(_)) => self.serve(id, now),
            (Phase::Draining { reason, .. }, _) if connection.outbox.is_empty() => self.close(slot, reason),
            (Phase::Draining { .. }, _) => {}
            (Phase::Lingering { reason, .. }, _) => self.close(slot, reason),
            (Phase::Closed { .. }, _) => {}
        }
    }

    /// The socket has failed.
    pub(super) fn lost(&mut self, slot: u32) {
        let Some(connection) = self.connections.at_mut(slot) else { return };
        let reason = match connection.phase {
            Phase::Open => CloseReason::PeerReset,
            Phase::Draining { reason, .. } | Phase::Lingering { reason, .. } | Phase::Closed { reason } => reason,
        };
        self.close(slot, reason);
    }

    /// Ends a connection here and now: all that closes comes through here. Nobody hears of it any more, and nothing more
    /// is made for it; the slot is given back at the end of the turn.
    pub(super) fn close(&mut self, slot: u32, reason: CloseReason) {
        let Some(connection) = self.connections.at_mut(slot) else { return };
        let id = connection.id;
        self.connections.close(slot, reason);
        self.hub.exit(member_id(id), self.now);
        self.streams.remove(&id);
        self.forget_requests_of(id);
    }

    /// The first signal drains the server; the second ends it at once.
    pub(super) fn heed_signals(&mut self, now: Instant) {
        let Some(signals) = &mut self.signals else { return };
        let mut stops = signals.pending().filter(|signal| matches!(*signal, SIGTERM | SIGINT)).count();
        if stops > 0 && self.drain_until.is_none() {
            stops -= 1;
            self.begin_draining(now);
        }
        if stops > 0 {
            tracing::info!("stopping at once, as a second signal asks");
            self.drain_until = Some(now);
        }
    }

    /// Accepts nobody any more, says farewell to every WebSocket, and lets responses finish.
    pub(super) fn begin_draining(&mut self, now: Instant) {
        tracing::info!(
            "stopping: {} connections have {:?} to finish",
            self.connections.len(),
            self.limits.drain_timeout
        );
        self.drain_until = Some(now + self.limits.drain_timeout);
        self.listeners.clear();
        // People are told when to come back, so that they do not all come at once.
        let spread = u64::try_from(self.limits.drain_timeout.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut stage = Outboxes { connections: &mut self.connections, metrics: &mut self.metrics, now };
        self.hub.announce(&mut stage, |number| Reply::Draining { reconnect_ms: 200 + number as u64 * 37 % spread });
        let mut ending = std::mem::take(&mut self.scratch.ids);
        ending.extend(self.connections.iter().filter(|it| !is_busy(&it.protocol)).map(|it| it.id));
        for id in ending.drain(..) {
            self.farewell(id, CloseReason::Draining);
        }
        self.scratch.ids = ending;
    }
}

/// Whether a response is being made or a request has begun to come, which is finished before the connection ends.
fn is_busy(protocol: &Protocol) -> bool {
    match protocol {
        Protocol::WebSocket(_) | Protocol::Events => false,
        Protocol::Http(http) => http.answering.is_some() || http.machine.is_mid_head(),
    }
}
