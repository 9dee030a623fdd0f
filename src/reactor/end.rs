//! How connections end: farewells, draining, lingering, and the signals that end them all.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::chat::bucket::{Bucket, Rate};
use crate::chat::v1::Reply;
use crate::close::CloseReason;
use crate::limits::Limits;
use crate::net::connection::{ConnectionId, Phase, Protocol};

use super::talk::Outboxes;
use super::{Reactor, member_id};

/// Goodbyes are said in groups at least so far apart.
const GOODBYE_TICK: Duration = Duration::from_millis(10);
/// Those who are told goodbye at the same time are told to come back within so many milliseconds of each other.
const RECONNECT_SPREAD_MS: u64 = 1_000;

/// Somebody who ends in this turn, once all that was said before has been handed out.
#[derive(Debug)]
pub(super) struct Farewell {
    id: ConnectionId,
    reason: CloseReason,
    /// What is said to a peer that closed first; to others it follows from the reason.
    reply: Option<Bytes>,
}

/// Who is still to be told goodbye by a server that stops. Whoever is told comes back, here or elsewhere, and they are
/// not all to come at once.
#[derive(Debug, Default)]
pub(super) struct Goodbyes {
    waiting: VecDeque<ConnectionId>,
    pace: Option<Pace>,
    told: u64,
}

#[derive(Debug)]
struct Pace {
    rate: Rate,
    bucket: Bucket,
    next: Instant,
}

impl Goodbyes {
    fn begin(waiting: VecDeque<ConnectionId>, limits: &Limits, now: Instant) -> Self {
        // The last fifth of the time is for those who were told last.
        let millis = limits.drain_timeout.as_millis().max(1);
        let needed = u32::try_from(waiting.len() as u128 * 1250 / millis).unwrap_or(u32::MAX);
        let pace = (limits.drain_rate > 0).then(|| {
            let per_second = limits.drain_rate.max(needed.saturating_add(1));
            Pace { rate: Rate { per_second, burst: (per_second / 10).max(1) }, bucket: Bucket::full(now), next: now }
        });
        Goodbyes { waiting, pace, told: 0 }
    }

    /// Who is told now, if it is anybody's turn.
    fn poll(&mut self, now: Instant) -> Option<ConnectionId> {
        if let Some(pace) = self.pace.as_mut().filter(|_| !self.waiting.is_empty())
            && let Err(wait) = pace.bucket.take(pace.rate, now)
        {
            pace.next = now + wait.max(GOODBYE_TICK);
            return None;
        }
        self.told += 1;
        self.waiting.pop_front()
    }

    /// When it is somebody's turn.
    pub(super) fn next(&self) -> Option<Instant> {
        self.pace.as_ref().filter(|_| !self.waiting.is_empty()).map(|pace| pace.next)
    }
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
        let mut farewells = VecDeque::from(std::mem::take(&mut self.farewells));
        while let Some(Farewell { id, reason, reply }) = farewells.pop_front() {
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
            // Perhaps it has asked, and this turn had no time to read that.
            if connection.listed && matches!(connection.protocol, Protocol::Http(_)) {
                self.farewells.push(Farewell { id, reason, reply });
                continue;
            }
            let words = match (&mut connection.protocol, reason.close_code()) {
                (Protocol::WebSocket(session), Some((code, text))) => {
                    let mut frame = Vec::new();
                    session.close(code, text, &mut frame);
                    // Whoever has closed in this turn as well is answered, and hears no other reason.
                    let mut its_own = || farewells.iter_mut().filter(|it| it.id == id).find_map(|it| it.reply.take());
                    if frame.is_empty() { its_own().unwrap_or_default() } else { frame.into() }
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
        self.hub.report_goodbye(now);
        self.dismiss_awaiting(now);
        let mut resting = std::mem::take(&mut self.scratch.ids);
        let mut talking = VecDeque::new();
        for connection in self.connections.iter() {
            match connection.protocol {
                Protocol::WebSocket(_) | Protocol::Events => talking.push_back(connection.id),
                Protocol::Http(_) if is_busy(&connection.protocol) => {}
                Protocol::Http(_) => resting.push(connection.id),
            }
        }
        for id in resting.drain(..) {
            self.farewell(id, CloseReason::Draining);
        }
        self.scratch.ids = resting;
        self.goodbyes = Goodbyes::begin(talking, &self.limits, now);
        self.say_goodbyes(now);
    }

    /// Tells those whose turn it is that the server stops, and when to come back. Until then they talk on.
    pub(super) fn say_goodbyes(&mut self, now: Instant) {
        while let Some(id) = self.goodbyes.poll(now) {
            if self.connections.get(id).is_none_or(|connection| !connection.is_open()) {
                continue;
            }
            let reconnect_ms = 200 + self.goodbyes.told * 37 % RECONNECT_SPREAD_MS;
            let mut stage = Outboxes { connections: &mut self.connections, metrics: &mut self.metrics, now };
            self.hub.inform(member_id(id), &Reply::Draining { reconnect_ms }, &mut stage);
            self.farewell(id, CloseReason::Draining);
        }
    }
}

/// Whether a response is being made or a request has begun to come, which is finished before the connection ends.
fn is_busy(protocol: &Protocol) -> bool {
    match protocol {
        Protocol::WebSocket(_) | Protocol::Events => false,
        Protocol::Http(http) => http.answering.is_some() || http.machine.is_mid_head(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goodbyes_are_spread_but_are_all_said_in_time() {
        // name, members, rate, drain timeout in seconds; said at once, and seconds until all are said
        let table = [
            ("few at once", 50, 1_000, 10, 50, 0.0),
            ("many at the rate", 3_000, 1_000, 10, 100, 2.9),
            ("faster if time is short", 9_000, 1_000, 5, 225, 3.9),
            ("no rate", 9_000, 0, 10, 9_000, 0.0),
        ];
        for (name, members, drain_rate, seconds, at_once, until) in table {
            let limits = Limits { drain_rate, drain_timeout: Duration::from_secs(seconds), ..Limits::default() };
            let start = Instant::now();
            let waiting = (0..members).map(|slot| ConnectionId { slot, serial: 1 }).collect();
            let mut goodbyes = Goodbyes::begin(waiting, &limits, start);
            let said = std::iter::from_fn(|| goodbyes.poll(start)).count();
            assert_eq!(said, at_once, "{name}: at once");
            let (mut said, mut now) = (said, start);
            while let Some(next) = goodbyes.next() {
                assert!(next > now, "{name}: no spin");
                now = next;
                said += std::iter::from_fn(|| goodbyes.poll(now)).count();
            }
            assert_eq!(said, members as usize, "{name}: all");
            let took = (now - start).as_secs_f64();
            assert!((took - until).abs() < 0.1, "{name}: all within {took} s");
        }
    }
}
