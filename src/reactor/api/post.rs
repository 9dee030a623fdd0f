//! Saying something by POST: its content, who says it, and the answer once it is stored.

use std::net::IpAddr;
use std::time::Instant;

use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, ORIGIN};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use crate::chat::bucket::Rate;
use crate::chat::entry::{Author, Content, Draft, Entry, MemberId, Nonce, RoomName};
use crate::chat::fields::{self, Field};
use crate::chat::name::person_name;
use crate::close::CloseReason;
use crate::http::{Request, Response};
use crate::metrics::Refusal;
use crate::net::connection::{ConnectionId, Protocol};

use super::{Asker, bad_request, json, too_fast, unavailable, with_cors};
use crate::reactor::talk::wall_clock;
use crate::reactor::{Reactor, member_id};

/// Something that is being said by POST, while its content comes.
#[derive(Debug)]
pub(super) struct Post {
    room: RoomName,
    headers: HeaderMap,
}

/// What is said by POST in JSON.
#[derive(Debug, Deserialize)]
struct Saying {
    text: String,
    #[serde(default)]
    name: Option<String>,
}

impl Saying {
    const FIELDS: [Field; 2] = [Field::text("text"), Field::text("name").or_absent()];
}

#[derive(Serialize)]
struct Stored<'a> {
    room: &'a str,
    position: u64,
    epoch: String,
    at: u64,
}

impl Reactor {
    /// Has the content of a POST received.
    pub(super) fn receive_post(
        &mut self,
        id: ConnectionId,
        room: RoomName,
        request: &Request,
        now: Instant,
    ) -> Option<Response> {
        let max_bytes = self.limits.max_message_bytes;
        let connection = self.connections.get_mut(id)?;
        let Protocol::Http(http) = &mut connection.protocol else { return None };
        if let Err(fault) = http.machine.receive_body(request, max_bytes) {
            self.refuse(id, &Response::refusal(&fault), CloseReason::Refused(fault.status), now);
            return None;
        }
        if let Some(recipient) = &mut http.answering {
            let is_last = http.requests >= self.limits.max_requests_per_connection;
            recipient.keep_alive = request.may_keep_alive && !is_last && self.drain_until.is_none();
        }
        http.head_began = Some(now);
        self.desk.receiving.insert(id, Post { room, headers: request.headers.clone() });
        if request.expects_continue() {
            self.connections.push(id, b"HTTP/1.1 100 Continue\r\n\r\n"[..].into(), now);
        }
        self.set_timer(id.slot);
        None
    }

    /// Takes the content of a POST, if one is coming and it is whole.
    pub(in crate::reactor) fn take_post(&mut self, id: ConnectionId, now: Instant) {
        if self.desk.receiving.is_empty() || !self.desk.receiving.contains_key(&id) {
            return;
        }
        let Some(connection) = self.connections.get_mut(id).filter(|connection| connection.is_open()) else { return };
        let Protocol::Http(http) = &mut connection.protocol else { return };
        match http.machine.poll_body() {
            Ok(None) if connection.ended => self.drain(id, CloseReason::PeerVanished, now),
            Ok(None) => {}
            Ok(Some(content)) => {
                http.head_began = None;
                let Some(post) = self.desk.receiving.remove(&id) else { return };
                let said = self.may_post(id, &post, now).and_then(|()| self.say_post(id, &post, content));
                if let Err(response) = said {
                    let response = with_cors(response, post.headers.get(ORIGIN));
                    self.respond(id, &response, now);
                }
            }
            Err(fault) => {
                self.desk.receiving.remove(&id);
                self.refuse(id, &Response::refusal(&fault), CloseReason::Refused(fault.status), now);
            }
        }
    }

    /// Takes what it costs to post, whatever comes of it.
    fn may_post(&mut self, id: ConnectionId, post: &Post, now: Instant) -> Result<(), Response> {
        let Some(address) = self.client_of(id, &post.headers) else { return Ok(()) };
        let rate = Rate { per_second: self.limits.post_rate, burst: self.limits.post_burst };
        self.desk.posters.take(address, rate, now).map_err(|wait| {
            self.metrics.refused(Refusal::TooFast);
            too_fast(wait)
        })
    }

    /// The address that a request comes from, as far as whoever passed it on may be believed.
    fn client_of(&self, id: ConnectionId, headers: &HeaderMap) -> Option<IpAddr> {
        let peer = self.connections.get(id)?.peer;
        Some(self.gate.client(peer, headers).addr)
    }

    /// Gives the journal what was posted. Its answer comes by [`stored`](Reactor::stored).
    fn say_post(&mut self, id: ConnectionId, post: &Post, content: Vec<u8>) -> Result<(), Response> {
        let text = |name: HeaderName| post.headers.get(name).and_then(|value| value.to_str().ok());
        let media_type = text(CONTENT_TYPE).and_then(|value| value.split(';').next()).unwrap_or_default().trim();
        let Saying { text: said, name } = if media_type.eq_ignore_ascii_case("application/json") {
            fields::read(&content).map_err(|err| {
                let why = fields::fault(&content, &Saying::FIELDS).unwrap_or_else(|| err.to_string());
                bad_request(&format!("The JSON is not as it should be: {why}."))
            })?
        } else if media_type.eq_ignore_ascii_case("text/plain") {
            let text = String::from_utf8(content).map_err(|_| bad_request("The text is not UTF-8."))?;
            Saying { text, name: None }
        } else {
            let message = "Send text/plain or application/json; with curl: -H 'Content-Type: text/plain'.";
            return Err(Response::text(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        };
        if said.trim().is_empty() {
            return Err(bad_request("The text is empty."));
        }
        if said.len() > self.limits.max_text_bytes {
            let message = format!("A text has at most {} bytes in UTF-8.", self.limits.max_text_bytes);
            return Err(Response::text(StatusCode::PAYLOAD_TOO_LARGE, &message));
        }
        let nonce = text(HeaderName::from_static("idempotency-key")).filter(|nonce| !nonce.is_empty());
        if nonce.is_some_and(|nonce| nonce.len() > self.limits.max_nonce_bytes) {
            let message = format!("An Idempotency-Key has at most {} bytes.", self.limits.max_nonce_bytes);
            return Err(bad_request(&message));
        }
        if !self.journal.has_room() {
            return Err(unavailable("The server has too much to do."));
        }
        let token = text(AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
        let author = self.author_of_post(id, &post.headers, token, name.as_deref())?;
        let origin = member_id(id);
        self.desk.posts.insert(origin, Asker::new(id, &post.headers));
        self.metrics.messages_in += 1;
        self.journal.append(Draft {
            room: post.room.clone(),
            origin: Some(origin),
            author: Some(author),
            nonce: nonce.map(|nonce| Nonce(nonce.into())),
            at: wall_clock(),
            content: Content::Text(said.into()),
        });
        Ok(())
    }

    /// Who posts: the person of a token; else whoever uses this name, or this address, without one.
    fn author_of_post(
        &self,
        id: ConnectionId,
        headers: &HeaderMap,
        token: Option<&str>,
        name: Option<&str>,
    ) -> Result<Author, Response> {
        let identities = self.hub.identities();
        let name = name
            .map(|name| person_name(name, self.limits.max_person_name_bytes))
            .transpose()
            .map_err(|err| bad_request(&format!("The name is not possible: {err}.")))?;
        let person = match (token, &name) {
            (Some(token), _) => identities
                .recognise(token)
                .ok_or_else(|| Response::text(StatusCode::UNAUTHORIZED, "The token is not one of this server."))?,
            (None, Some(name)) => identities.guest(&format!("name {name}")),
            (None, None) => {
                let client = self.client_of(id, headers).map(|address| address.to_string());
                identities.guest(&format!("address {}", client.unwrap_or_default()))
            }
        };
        let name = name.or_else(|| self.hub.name_of(person));
        Ok(Author { id: person, name: name.unwrap_or_else(|| format!("guest-{:04x}", person.0 & 0xffff).into()) })
    }

    /// Tells whoever posted it that an entry is stored, and where.
    pub(in crate::reactor) fn stored(&mut self, entry: &Entry, status: StatusCode, now: Instant) {
        let Some(asker) = self.waiting_post(entry.origin) else { return };
        let (position, epoch) = (entry.position.0, self.journal.epoch().to_string());
        let stored = Stored { room: entry.room.as_str(), position, epoch, at: entry.at.0 };
        self.answer_later(&asker, json(status, &stored), now);
    }

    /// Tells whoever posted it that a draft was not taken.
    pub(in crate::reactor) fn not_stored(&mut self, draft: &Draft, now: Instant) {
        let Some(asker) = self.waiting_post(draft.origin) else { return };
        self.answer_later(&asker, unavailable("What is said cannot be stored now."), now);
    }

    fn waiting_post(&mut self, origin: Option<MemberId>) -> Option<Asker> {
        // Nearly always nobody waits, and this is asked for every entry.
        if self.desk.posts.is_empty() {
            return None;
        }
        self.desk.posts.remove(&origin?)
    }
}
