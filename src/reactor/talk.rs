//! WebSockets: the upgrade, what members say, and where the hub's decisions are carried out.

use std::net::SocketAddr;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, HeaderValue, StatusCode};
use ipnet::IpNet;
use percent_encoding::percent_decode_str;

use crate::chat::dialect::{Dialect, Message};
use crate::chat::entry::{MemberId, RoomName, SearchError, Timestamp};
use crate::chat::hub::{Command, Intake, Moment, Pages, Stage, Start, Trouble, Wanted};
use crate::chat::v1;
use crate::close::CloseReason;
use crate::http::forwarded::{self, Client};
use crate::http::{Request, Response};
use crate::journal;
use crate::limits::Limits;
use crate::metrics::{Budget, Metrics, Refusal};
use crate::net::connection::{ConnectionId, Phase, Protocol, Sight};
use crate::net::connections::Connections;
use crate::ws::frame::{self, Opcode};
use crate::ws::origin::OriginPolicy;
use crate::ws::session::{Event, Session};
use crate::ws::upgrade;

use super::{Reactor, connection_id, member_id};

/// Who may come in, and whose word about where they come from is taken.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) origins: OriginPolicy,
    pub(super) trusted_proxies: Vec<IpNet>,
    /// Only chat.v1 is spoken.
    pub(super) refuses_raw: bool,
}

impl Gate {
    /// Where a request comes from, and for which host, as far as whoever sent it may be believed.
    pub(super) fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> Client {
        forwarded::client(peer.ip(), headers, &self.trusted_proxies)
    }
}

impl Reactor {
    /// Turns a connection into a WebSocket, or answers why not.
    pub(super) fn upgrade(&mut self, id: ConnectionId, request: &Request, now: Instant) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let client = self.gate.client(connection.peer, &request.headers);
        let (handshake, room) = match self.admission(&client, request, now) {
            Ok(admitted) => admitted,
            Err(response) => return self.respond(id, &response, now),
        };
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.peer.set_ip(client.addr);
        let peer = connection.peer;
        if !self.count_address(id, client.addr) {
            return self.refuse_crowd(id, now);
        }
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Protocol::Http(exchange) = std::mem::replace(&mut connection.protocol, Protocol::WebSocket(Session::new()))
        else {
            unreachable!("only HTTP is upgraded")
        };
        let has_ended = connection.ended;
        let rest = exchange.machine.into_rest();
        self.metrics.responded(StatusCode::SWITCHING_PROTOCOLS);
        self.metrics.upgraded();
        if self.lines.connected(now) {
            tracing::info!("client {} connected from {peer} to {room}", id.serial);
        }
        self.connections.push(id, handshake.response().into(), now);
        let dialect = if handshake.protocol == Some(v1::PROTOCOL) { Dialect::V1 } else { Dialect::Raw };
        self.hub.enter(member_id(id), dialect);
        if dialect == Dialect::Raw {
            self.hub.sit(member_id(id), room, Start::Present);
        }
        self.connections.list_readable(id.slot);
        self.set_timer(id.slot);
        // What came in the same packet as the request.
        if !rest.is_empty() {
            self.listen_to(id, &rest, now);
        }
        if has_ended {
            // It had asked for something else before, and its end was read while that was answered.
            self.farewell(id, CloseReason::PeerVanished);
        }
    }

    /// Whether and where a client comes in: the answer to its handshake and its room, or the response that refuses it.
    fn admission(
        &mut self,
        client: &Client,
        request: &Request,
        now: Instant,
    ) -> Result<(upgrade::Handshake, RoomName), Response> {
        if self.drain_until.is_some() {
            self.metrics.refused(Refusal::Draining);
            return Err(Response::text(
                StatusCode::SERVICE_UNAVAILABLE,
                "The server is stopping. Please try again later.",
            )
            .with("Retry-After", &HeaderValue::from_static("5")));
        }
        let handshake = upgrade::negotiate(&request.method, request.version, &request.headers, &[v1::PROTOCOL])
            .map_err(|refusal| {
                self.metrics.refused(Refusal::Upgrade);
                refused_upgrade(&refusal)
            })?;
        if handshake.protocol.is_none() && self.gate.refuses_raw {
            self.metrics.refused(Refusal::Upgrade);
            let message = "This server speaks chat.v1 only: offer it in Sec-WebSocket-Protocol.";
            return Err(Response::text(StatusCode::FORBIDDEN, message));
        }
        let host = client.host.as_deref().or_else(|| request.headers.get(HOST)?.to_str().ok());
        if let Err(refused) = self.gate.origins.check(&request.headers, host) {
            self.metrics.refused(Refusal::Origin);
            if self.lines.allows(now) {
                tracing::warn!("refused a WebSocket from {}: {refused}", client.addr);
            }
            return Err(refused_upgrade(&refused.into()));
        }
        let room = room_of(request.target.query(), self.limits.max_room_name_bytes).map_err(|message| {
            self.metrics.refused(Refusal::Upgrade);
            Response::text(StatusCode::BAD_REQUEST, &message)
        })?;
        Ok((handshake, room))
    }

    /// Takes what a WebSocket's peer has sent.
    pub(super) fn listen_to(&mut self, id: ConnectionId, input: &[u8], now: Instant) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Protocol::WebSocket(session) = &mut connection.protocol else { return };
        let is_open = connection.phase == Phase::Open;
        let is_empty = connection.outbox.is_empty();
        let (events, output) = (&mut self.scratch.events, &mut self.scratch.output);
        session.receive(input, &mut self.workbench, events, output);
        let began_before = connection.message_began.filter(|_| events.is_empty());
        connection.message_began = session.is_midway().then(|| began_before.unwrap_or(now));
        if connection.message_began.is_some() && began_before.is_none() {
            self.timers.hasten(id.slot, now + self.limits.message_timeout);
        }
        if !output.is_empty() {
            let output = Bytes::copy_from_slice(output);
            self.scratch.output.clear();
            self.connections.push(id, output, now);
        }
        let mut events = std::mem::take(&mut self.scratch.events);
        for event in events.drain(..) {
            match event {
                Event::Text(text) if is_open => self.hear(id, Message::Text(&text), now),
                Event::Binary(bytes) if is_open => self.hear(id, Message::Binary(&bytes), now),
                Event::Closed { reply, .. } if is_open => self.farewell_in_reply(id, reply),
                Event::Fault(reason) if is_open => self.farewell(id, reason),
                // The answer to our own close frame, or something that is as good as one.
                Event::Closed { .. } | Event::Fault(_) if is_empty => self.settle(id.slot, now),
                Event::Text(_) | Event::Binary(_) | Event::Closed { .. } | Event::Fault(_) => {}
            }
        }
        self.scratch.events = events;
    }

    /// Takes one message of a member, in its dialect.
    fn hear(&mut self, id: ConnectionId, message: Message<'_>, now: Instant) {
        self.metrics.messages_in += 1;
        let member = member_id(id);
        if self.hub.dialect(member) == Some(Dialect::Raw) {
            if let Some(draft) = self.hub.draft(member, message, wall_clock()) {
                self.journal.append(draft);
            }
            if let Some(until) = self.hub.pace(member, now) {
                self.connections.slow_down(id.slot, until);
                self.set_timer(id.slot);
            }
            return;
        }
        let intake = if self.journal.has_room() { Intake::Open } else { Intake::Full };
        let moment = Moment { now, at: wall_clock(), intake };
        let mut stage = Outboxes { connections: &mut self.connections, metrics: &mut self.metrics, now };
        match message {
            Message::Text(text) => self.hub.request(member, text, moment, &mut stage, &mut self.scratch.commands),
            Message::Binary(_) => self.hub.refuse_binary(member, &mut stage),
        }
        self.obey(now);
    }

    /// Does what the hub wants beyond what it has put on the stage.
    pub(super) fn obey(&mut self, now: Instant) {
        let mut commands = std::mem::take(&mut self.scratch.commands);
        for command in commands.drain(..) {
            match command {
                Command::Append(draft) => self.journal.append(draft),
                Command::Read(wanted) => self.journal.read(read_of(wanted, &self.limits)),
                Command::FellBehind(member) => self.farewell(connection_id(member), CloseReason::FellBehind),
                Command::TakenOver(member) => self.farewell(connection_id(member), CloseReason::TakenOver),
                Command::Unheard(member) => self.farewell(connection_id(member), CloseReason::Unheard),
            }
        }
        self.scratch.commands = commands;
        self.hub.wind(now);
    }

    /// Takes what the journal has to say.
    pub(super) fn take_journal_events(&mut self, now: Instant) {
        let mut taken = 0;
        loop {
            if taken >= self.limits.entries_per_turn {
                self.metrics.spent(Budget::Entries);
                self.budgets.is_exceeded = true;
                break;
            }
            let Some(event) = self.journal.poll_event() else { break };
            taken += event.entries().max(1);
            // Whoever has posted is answered, and waits in no room.
            match &event {
                journal::Event::Entry(entry) => self.stored(entry, StatusCode::CREATED, now),
                journal::Event::Repeat(original) => self.stored(original, StatusCode::OK, now),
                journal::Event::Refused { draft, .. } => self.not_stored(draft, now),
                journal::Event::Page(page) if self.take_page(page, now) => continue,
                // What came before it is heard before it is told.
                journal::Event::Lost(_) => self.hand_out(now),
                journal::Event::Page(_)
                | journal::Event::Found(_)
                | journal::Event::Status(_)
                | journal::Event::Key(_)
                | journal::Event::Whisper(_)
                | journal::Event::Level(_) => {}
            }
            let commands = &mut self.scratch.commands;
            let mut stage = Outboxes { connections: &mut self.connections, metrics: &mut self.metrics, now };
            match event {
                journal::Event::Entry(entry) => self.hub.committed(entry),
                journal::Event::Repeat(original) => self.hub.repeated(&original, &mut stage),
                journal::Event::Refused { draft, .. } => self.hub.refused(&draft, &mut stage, commands),
                journal::Event::Page(page) => self.hub.page(pages_of(page), &mut stage, commands),
                journal::Event::Found(found) => self.hub.page(pages_found(found), &mut stage, commands),
                journal::Event::Status(status) => {
                    let trouble = match status {
                        journal::Status::Ok => None,
                        journal::Status::Waiting => Some(Trouble::Store),
                        journal::Status::BusDown => Some(Trouble::Bus),
                    };
                    self.hub.journal_status(trouble, &mut stage);
                }
                journal::Event::Lost(journal::Lost { epoch, upto }) => self.hub.lost(epoch, upto, &mut stage),
                journal::Event::Key(key) => self.hub.rekey(key),
                journal::Event::Level(question) => self.hub.level(question),
                journal::Event::Whisper(report) => self.hub.hear_report(&report, &mut stage, now),
            }
        }
    }

    /// Tells the other instances who is here, if it is time for it, and asks the bus for what they may have heard.
    pub(super) fn report(&mut self, now: Instant) {
        while let Some(report) = self.hub.poll_report(now) {
            self.journal.whisper(report);
        }
        if let Some(question) = self.hub.poll_level() {
            self.journal.level(question);
        }
    }

    /// Notes how long it took what has come back from a bus.
    pub(super) fn measure_returns(&mut self) {
        self.journal.take_returned(|after| self.metrics.returned(after));
    }

    /// Hands out what the hub has been given.
    pub(super) fn hand_out(&mut self, now: Instant) {
        let mut stage = Outboxes { connections: &mut self.connections, metrics: &mut self.metrics, now };
        self.hub.commit(&mut stage, &mut self.scratch.commands);
        self.obey(now);
    }

    /// Asks a silent peer whether it is there.
    pub(super) fn ping(&mut self, id: ConnectionId, now: Instant) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if let Protocol::WebSocket(session) = &connection.protocol {
            let mut frame = Vec::new();
            session.ping(&mut frame);
            (connection.pinged, connection.sight) = (true, Sight::None);
            self.connections.push(id, frame.into(), now);
        } else if let Protocol::Events = &connection.protocol {
            // A comment, which keeps proxies from taking the stream for dead. It needs no answer.
            connection.last_heard = now;
            self.connections.push(id, Bytes::from_static(b":\n\n"), now);
        }
    }
}

/// The time of day.
pub(super) fn wall_clock() -> Timestamp {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX))
}

/// What the hub wants, as the journal is asked for it.
fn read_of(wanted: Wanted, limits: &Limits) -> journal::Read {
    let Wanted { ticket, room, range, limit, count } = wanted;
    journal::Read { ticket, room, range, limit, max_bytes: limits.outbox_high_water_bytes, count }
}

/// What the journal has read, as the hub takes it.
fn pages_of(page: journal::Page) -> Pages {
    let journal::Page { ticket, entries, more, in_range, floor, .. } = page;
    let entries = entries.map_err(|journal::Refused::Unavailable| SearchError::Unavailable);
    Pages { ticket, entries, matches: Vec::new(), more, in_range, floor }
}

/// What the journal has found, as the hub takes it.
fn pages_found(found: journal::Found) -> Pages {
    let journal::Found { ticket, hits, more, floor, .. } = found;
    let hits = hits.map(|hits| hits.into_iter().map(|journal::Hit { entry, matches }| (entry, matches)).unzip());
    let (entries, matches) =
        hits.map_or_else(|error| (Err(error), Vec::new()), |(entries, found)| (Ok(entries), found));
    let in_range = entries.as_ref().map_or(0, Vec::len) as u64;
    Pages { ticket, entries, matches, more, in_range, floor }
}

/// The response to an upgrade that cannot be.
fn refused_upgrade(refusal: &upgrade::Refusal) -> Response {
    Response::text(refusal.status, &refusal.message).with_all(&refusal.headers.iter().cloned().collect())
}

/// The room that the query of a target names, or the lobby.
fn room_of(query: Option<&str>, max_bytes: usize) -> Result<RoomName, String> {
    let pairs = query.unwrap_or_default().split('&');
    let named = pairs.filter_map(|pair| pair.strip_prefix("room=")).find(|name| !name.is_empty());
    let spaced = named.unwrap_or(RoomName::LOBBY).replace('+', " ");
    let name = percent_decode_str(&spaced).decode_utf8().map_err(|_| "the room's name is not UTF-8".to_owned())?;
    RoomName::new(&name, max_bytes).map_err(|err| err.to_string())
}

/// Carries out what the hub decides, on the outboxes of the connections.
pub(super) struct Outboxes<'a> {
    pub(super) connections: &'a mut Connections,
    pub(super) metrics: &'a mut Metrics,
    pub(super) now: Instant,
}

impl Stage for Outboxes<'_> {
    fn offer(&mut self, member: MemberId, batch: &Bytes, entries: usize) -> bool {
        let taken = self.connections.offer(connection_id(member), batch, self.now);
        if taken {
            self.metrics.messages_out += entries as u64;
        }
        taken
    }

    fn page_bytes(&self) -> usize {
        self.connections.high_water_bytes()
    }

    fn send(&mut self, member: MemberId, answer: Bytes) {
        self.connections.push(connection_id(member), answer, self.now);
    }

    fn frame(message: Message<'_>, out: &mut Vec<u8>) {
        match message {
            Message::Text(text) => frame::encode(Opcode::Text, text, out),
            Message::Binary(bytes) => frame::encode(Opcode::Binary, bytes, out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_of_a_target() {
        let cases: &[(Option<&str>, Result<&str, &str>)] = &[
            (None, Ok("lobby")),
            (Some(""), Ok("lobby")),
            (Some("room="), Ok("lobby")),
            (Some("room=rust"), Ok("rust")),
            (Some("a=b&room=rust&room=other"), Ok("rust")),
            (Some("broom=x"), Ok("lobby")),
            (Some("room=K%C3%BCche+2"), Ok("Küche 2")),
            (Some("room=a%26b"), Ok("a&b")),
            (Some("room=a%2Bb"), Ok("a+b")),
            (Some("room=%ff"), Err("the room's name is not UTF-8")),
            (Some("room=%00"), Err("a name has no control or formatting characters")),
            (Some("room=12345678901234567"), Err("a name has at most 16 bytes in UTF-8")),
        ];
        for (query, expected) in cases {
            let found = room_of(*query, 16);
            assert_eq!(found.as_ref().map(RoomName::as_str).map_err(String::as_str), *expected, "{query:?}");
        }
    }
}
