//! Who is let in, and what those are told who are not.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use http::{HeaderValue, StatusCode};
use mio::Token;

use crate::close::CloseReason;
use crate::http::Response;
use crate::metrics::{Budget, Refusal};
use crate::net::connection::ConnectionId;
use crate::net::listener::AcceptOutcome;
use crate::net::transport::Transport;

use super::{REFUSALS_AT_ONCE, Reactor};

/// When nothing of ours frees a descriptor, somebody else may have: accepting is tried again after this long.
const EXHAUSTED_RETRY: Duration = Duration::from_millis(500);

impl Reactor {
    /// Whether another connection can be taken in, if only to be refused.
    pub(super) fn has_slot(&self) -> bool {
        !self.is_full() || self.surplus < REFUSALS_AT_ONCE
    }

    /// Whether as many connections as are allowed are there, not counting those that were refused.
    pub(super) fn is_full(&self) -> bool {
        self.connections.len() - self.surplus >= self.max_connections
    }

    /// Accepts within the turn's budget.
    pub(super) fn accept(&mut self, now: Instant) {
        if self.accept_paused_until.is_some_and(|until| now >= until) {
            self.accept_paused_until = None;
        }
        let mut budget = self.limits.accepts_per_turn;
        // Each turn begins with another listener, so that those who come to the others are not starved by a flood on one.
        let count = self.listeners.len();
        let first = self.first_listener;
        self.first_listener = (first + 1) % count.max(1);
        for place in (first..count).chain(0..first.min(count)) {
            while self.listeners[place].ready && budget > 0 && self.accept_paused_until.is_none() && self.has_slot() {
                budget -= 1;
                match self.listeners[place].accept() {
                    AcceptOutcome::Connection(stream, peer) => self.admit(Transport::Tcp(stream), peer, now),
                    AcceptOutcome::Blocked => {}
                    AcceptOutcome::Gone(err) => {
                        tracing::debug!(%err, "somebody left before being accepted");
                    }
                    AcceptOutcome::Exhausted(err) => {
                        self.metrics.accept_pauses += 1;
                        self.accept_paused_until = Some(now + EXHAUSTED_RETRY);
                        if self.lines.allows(now) {
                            tracing::warn!(%err, "cannot accept: whoever comes waits until a connection ends");
                        }
                    }
                }
            }
        }
        if budget == 0 {
            self.metrics.spent(Budget::Accepts);
        }
    }

    /// Takes in an accepted connection, or tells it that the server is full.
    pub(super) fn admit(&mut self, mut transport: Transport, peer: SocketAddr, now: Instant) {
        let slot = self.connections.next_slot();
        if let Err(err) = transport.register(self.poll.registry(), Token(slot as usize)) {
            tracing::warn!(%err, "cannot watch a new connection, dropping it");
            return;
        }
        self.metrics.opened();
        let is_full = self.is_full();
        let id = self.connections.insert(transport, peer, now);
        if is_full {
            self.metrics.refused(Refusal::Full);
            self.refuse_full(id, now);
        } else if !self.count_address(id, peer.ip()) {
            self.refuse_crowd(id, now);
        } else {
            self.set_timer(id.slot);
        }
    }

    /// Tells a connection that was one too many.
    fn refuse_full(&mut self, id: ConnectionId, now: Instant) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.surplus = true;
        self.surplus += 1;
        let response = Response::text(StatusCode::SERVICE_UNAVAILABLE, "The server is full. Please try again later.")
            .with("Retry-After", &HeaderValue::from_static("5"));
        self.refuse(id, &response, CloseReason::Full, now);
    }

    /// Tells a connection that its address has too many.
    pub(super) fn refuse_crowd(&mut self, id: ConnectionId, now: Instant) {
        self.metrics.refused(Refusal::Full);
        let status = StatusCode::TOO_MANY_REQUESTS;
        let response = Response::text(status, "There are too many connections from this address.")
            .with("Retry-After", &HeaderValue::from_static("5"));
        self.refuse(id, &response, CloseReason::Refused(status), now);
    }

    /// Counts a connection among those of an address, unless it is counted or nobody counts; `false` if they are too many.
    pub(super) fn count_address(&mut self, id: ConnectionId, address: IpAddr) -> bool {
        let most = self.limits.max_connections_per_address;
        let is_proxy = self.gate.trusted_proxies.iter().any(|network| network.contains(&address));
        let Some(connection) = self.connections.get_mut(id) else { return true };
        if most == 0 || is_proxy || connection.counted_as.is_some() {
            return true;
        }
        connection.counted_as = Some(address);
        let count = self.addresses_there.entry(address).or_default();
        *count += 1;
        *count <= most
    }

    /// A connection that may have been counted has gone.
    pub(super) fn discount_address(&mut self, counted_as: Option<IpAddr>) {
        let Some(address) = counted_as else { return };
        if let Some(count) = self.addresses_there.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.addresses_there.remove(&address);
            }
        }
    }
}
