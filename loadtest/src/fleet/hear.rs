//! The half of the loop that hears: readiness becomes bytes, bytes become messages, and the end of a client is noticed.

use std::io;

use mio::event::Event as Readiness;

use super::{Fleet, WEB_TOKENS, count};
use crate::chat;
use crate::client::{Phase, Reading};
use crate::clock;
use crate::conversation::Talker;
use crate::frame::{self, Fault, Opcode};
use crate::handshake::Response;
use crate::inbound::Event;
use crate::ledger::Role;
use crate::plan::Dialect;

/// What a server may wrap around a message, beyond its size; a page of history is one message as well.
const MAX_WRAPPING_BYTES: usize = 16 * 1024 * 1024;

/// Why nothing more is heard from a server.
enum End {
    Closed(u16),
    Fault(Fault),
    Refused(String),
}

impl Fleet {
    pub(super) fn on_ready(&mut self, event: &Readiness) {
        let place = event.token().0;
        if place >= WEB_TOKENS {
            if let Some(web) = &mut self.web {
                web.on_ready(place - WEB_TOKENS, event, &mut self.buffer);
            }
            return;
        }
        match self.clients[place].phase {
            Phase::Gone => return,
            Phase::Connecting { since } => {
                // A connection that failed says why when it is written to.
                self.clients[place].phase = Phase::Asked { since };
                let request = &self.requests[place % self.requests.len()];
                self.clients[place].push_bytes(&request.bytes);
                self.flush(place);
                return;
            }
            _ => {}
        }
        if event.is_writable() {
            self.flush(place);
        }
        if event.is_error() && self.clients[place].reading != Reading::Eager {
            return self.lose(place, "cut off by the server");
        }
        let hung_up = event.is_read_closed() || event.is_error();
        if (event.is_readable() || hung_up) && self.clients[place].reading == Reading::Eager {
            self.read(place, hung_up);
        }
    }

    /// Those that read slowly take what they take with each tick.
    pub(super) fn read_a_little(&mut self) {
        for at in 0..self.unhurried.len() {
            let place = self.unhurried[at];
            if let Reading::Throttled(bytes) = self.clients[place].reading {
                self.read_once(place, bytes);
            }
        }
        let clients = &self.clients;
        self.unhurried.retain(|&place| clients[place].reading != Reading::Eager);
    }

    /// Reads what there is. A read that leaves room has emptied the socket, unless its end is still to be read.
    pub(super) fn read(&mut self, place: usize, hung_up: bool) {
        while let Some(is_empty) = self.read_once(place, usize::MAX) {
            if is_empty && !hung_up {
                return;
            }
        }
    }

    /// Reads once, `most` bytes or what fits into the buffer; tells whether the socket is empty now, or nothing if there is
    /// nothing more to come.
    fn read_once(&mut self, place: usize, most: usize) -> Option<bool> {
        let client = &mut self.clients[place];
        if client.phase == Phase::Gone {
            return None;
        }
        let kept = client.inbound.begin(&mut self.buffer);
        let room = self.buffer.len().min(kept.saturating_add(most));
        match client.read(&mut self.buffer[kept..room]) {
            Ok(0) => {
                self.lose(place, "end of stream without a close frame");
                None
            }
            Ok(count) => {
                self.tally.bytes_received += count as u64;
                self.receive(place, kept + count);
                Some(kept + count < room)
            }
            Err(err) => {
                client.inbound.keep(&self.buffer[..kept]);
                match err.kind() {
                    io::ErrorKind::WouldBlock => None,
                    io::ErrorKind::Interrupted => Some(false),
                    _ => {
                        self.lose(place, &err.to_string());
                        None
                    }
                }
            }
        }
    }

    /// Handles the first `filled` bytes of the buffer, which are those of the client at `place`.
    fn receive(&mut self, place: usize, filled: usize) {
        let head_bytes = match self.clients[place].phase {
            Phase::Asked { since } => match self.requests[place % self.requests.len()].judge(&self.buffer[..filled]) {
                Response::NotYet => return self.clients[place].inbound.keep(&self.buffer[..filled]),
                Response::Refused(reason) => return self.lose(place, &reason),
                Response::Upgraded { head_bytes } => {
                    self.upgraded(place, since);
                    head_bytes
                }
            },
            _ => 0,
        };

        let now = clock::now();
        let Fleet { clients, buffer, ledger, masks, tally, plan, people, returns, room, members, .. } = self;
        let client = &mut clients[place];
        let phase_before = client.phase.clone();
        let role = if place < *members { Role::Prompt } else { Role::Visitor };
        let bytes = &buffer[head_bytes..filled];
        let mut replies: Vec<u8> = Vec::new();
        let mut at = 0;
        let end = loop {
            if client.phase == Phase::Open && client.inbound.is_between_messages() {
                at += ledger.hear_again(place, &bytes[at..], now);
            }
            let start = at;
            match client.inbound.next(bytes, &mut at, plan.size + MAX_WRAPPING_BYTES) {
                Ok(Some(Event::Message(payload))) => {
                    if plan.dialect == Dialect::Raw {
                        if client.phase == Phase::Open {
                            ledger.hear(place, payload, Some(&bytes[start..at]), 0, now);
                        }
                        continue;
                    }
                    let mut talker = Talker {
                        place,
                        role,
                        phase: &mut client.phase,
                        person: &mut people[place],
                        room,
                        ledger,
                        tally,
                    };
                    match talker.hear(payload, &bytes[start..at], now) {
                        Ok(None) => {}
                        Ok(Some(reply)) => {
                            let mask = masks.next().to_ne_bytes();
                            frame::push_masked(&mut replies, Opcode::Text, reply.as_bytes(), mask);
                        }
                        Err(reason) => break Some(End::Refused(reason)),
                    }
                }
                Ok(Some(Event::Ping(payload))) => {
                    tally.pings += 1;
                    frame::push_masked(&mut replies, Opcode::Pong, payload, masks.next().to_ne_bytes());
                }
                Ok(Some(Event::Close { code })) => break Some(End::Closed(code)),
                Ok(None) => break None,
                Err(fault) => break Some(End::Fault(fault)),
            }
        };
        client.inbound.keep(&bytes[at..]);
        returns.look(place, &client.phase, ledger.position(place), now);
        let has_joined = phase_before != Phase::Open && client.phase == Phase::Open;
        if !replies.is_empty() && client.phase != Phase::Leaving {
            client.push_bytes(&replies);
            self.flush(place);
        }
        if has_joined {
            self.handshake_done(now);
        }
        match end {
            Some(End::Closed(code)) => self.on_close(place, code),
            Some(End::Fault(fault)) => self.lose(place, &format!("protocol error: {fault}")),
            Some(End::Refused(reason)) => self.lose(place, &reason),
            None => {}
        }
    }

    /// The server has upgraded. A raw client takes part at once; one of chat.v1 says who it is.
    fn upgraded(&mut self, place: usize, since: u64) {
        let now = clock::now();
        self.tally.handshake_times.record(now - since);
        match self.plan.dialect {
            Dialect::Raw => {
                self.clients[place].phase = Phase::Open;
                let role = if place < self.members { Role::Prompt } else { Role::Visitor };
                self.ledger.join(place, role);
                self.handshake_done(now);
            }
            Dialect::V1 => {
                self.clients[place].phase = Phase::Greeting;
                let hello = chat::hello(self.index_of(place), &self.people[place]);
                self.clients[place].push(Opcode::Text, hello.as_bytes(), self.masks.next());
                self.flush(place);
            }
        }
    }

    pub(super) fn handshake_done(&mut self, now: u64) {
        self.last_handshake = now;
        self.handshakes -= 1;
    }

    pub(crate) fn flush(&mut self, place: usize) {
        if self.clients[place].unsent_bytes() > 0
            && let Err(err) = self.clients[place].flush()
        {
            self.lose(place, &err.to_string());
        }
    }

    /// The server closes; if it began, its frame is answered before the socket goes (RFC 6455, section 5.5.1).
    fn on_close(&mut self, place: usize, code: u16) {
        let client = &mut self.clients[place];
        if client.phase != Phase::Leaving {
            let payload = if code == 1005 { Vec::new() } else { code.to_be_bytes().to_vec() };
            client.push(Opcode::Close, &payload, self.masks.next());
            // That the answer cannot be sent any more changes nothing.
            let _ = client.flush();
        }
        self.lose(place, &format!("closed with {code}"));
    }

    /// The end of a client, for `reason` unless we wanted it.
    pub(super) fn lose(&mut self, place: usize, reason: &str) {
        match self.clients[place].phase {
            Phase::Gone => return,
            Phase::Leaving => {}
            Phase::Open if self.comes_back.contains(&place) => self.ledger.stay_away(place),
            Phase::Open => {
                count(&mut self.tally.closes, reason.to_owned());
                self.ledger.leave(place);
            }
            _ => {
                self.handshake_done(clock::now());
                count(&mut self.tally.refusals, reason.to_owned());
                self.ledger.leave(place);
            }
        }
        self.clients[place].drop_socket();
    }
}
