//! For programs, with curl: a room as Server-Sent Events, saying something by POST, and history as JSON.
//!
//! ```text
//! GET  /rooms/{room}/events     a stream; `id:` is the position, `Last-Event-ID` or `?after=` resume it
//! GET  /rooms/{room}/messages   ?before= or ?after=, ?limit=
//! POST /rooms/{room}/messages   text/plain or {"text", "name"?}; `Idempotency-Key`, `Authorization: Bearer TOKEN`
//! ```

use std::collections::HashMap;
use std::time::Instant;

use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, ORIGIN};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

use crate::chat::dialect::Dialect;
use crate::chat::entry::{Author, Content, Draft, Entry, MemberId, Nonce, RoomName};
use crate::chat::hub::{Part, Start};
use crate::chat::name::person_name;
use crate::chat::v1::{self, Said};
use crate::close::CloseReason;
use crate::http::{Body, Request, Response};
use crate::journal::{Page, Range, Read};
use crate::metrics::Refusal;
use crate::net::connection::{ConnectionId, Protocol};

use super::Reactor;
use super::member_id;
use super::talk::wall_clock;

/// Tickets of reads that an HTTP request waits for; those of the hub have this bit clear.
const TICKET: u64 = 1 << 63;
const METHODS: &str = "GET, HEAD, POST, OPTIONS";

/// What waits for the journal on behalf of an HTTP request.
#[derive(Debug, Default)]
pub(super) struct Desk {
    /// Who has said something and waits for its position.
    posts: HashMap<MemberId, Asker>,
    /// Whose content is coming.
    receiving: HashMap<ConnectionId, Post>,
    /// Who waits for a page.
    reads: HashMap<u64, Asker>,
    next_read: u64,
}

#[cfg(test)]
impl Desk {
    /// Who waits here.
    pub(super) fn waiting(&self) -> impl Iterator<Item = ConnectionId> {
        let askers = self.posts.values().chain(self.reads.values()).map(|asker| asker.id);
        askers.chain(self.receiving.keys().copied())
    }
}

/// Whose answer comes later.
#[derive(Debug)]
struct Asker {
    id: ConnectionId,
    /// Of the page that asked, which has been let in.
    origin: Option<HeaderValue>,
}

impl Asker {
    fn new(id: ConnectionId, headers: &HeaderMap) -> Self {
        Asker { id, origin: headers.get(ORIGIN).cloned() }
    }
}

/// Something that is being said by POST, while its content comes.
#[derive(Debug)]
struct Post {
    room: RoomName,
    headers: HeaderMap,
}

/// What a room offers to programs.
enum Resource {
    Events,
    Messages,
}

/// What is said by POST in JSON.
#[derive(Debug, Deserialize)]
struct Saying {
    text: String,
    #[serde(default)]
    name: Option<String>,
}

#[derive(Serialize)]
struct Stored<'a> {
    room: &'a str,
    position: u64,
    epoch: String,
    at: u64,
}

#[derive(Serialize)]
struct Messages<'a> {
    room: &'a str,
    epoch: String,
    entries: Vec<Said<'a>>,
    more: bool,
}

impl Reactor {
    /// Answers a request for something of a room; `false` if it is for something else.
    pub(super) fn serve_room(&mut self, id: ConnectionId, request: &Request, now: Instant) -> bool {
        let Some((room, resource)) = room_of(request.target.path(), self.limits.max_room_name_bytes) else {
            return false;
        };
        let answered = match room {
            Err(response) => Some(response),
            Ok(room) => self.answer_room(id, room, &resource, request, now),
        };
        if let Some(response) = answered {
            let response = with_cors(response, request.headers.get(ORIGIN));
            self.respond(id, &response, now);
        }
        true
    }

    /// The response, unless it comes later.
    fn answer_room(
        &mut self,
        id: ConnectionId,
        room: RoomName,
        resource: &Resource,
        request: &Request,
        now: Instant,
    ) -> Option<Response> {
        if let Err(response) = self.check_origin(id, request) {
            return Some(response);
        }
        match (resource, &request.method) {
            (_, &Method::OPTIONS) => Some(
                Response::new(StatusCode::NO_CONTENT)
                    .with("Allow", &HeaderValue::from_static(METHODS))
                    .with("Access-Control-Allow-Methods", &HeaderValue::from_static("GET, POST"))
                    .with(
                        "Access-Control-Allow-Headers",
                        &HeaderValue::from_static("authorization, content-type, idempotency-key, last-event-id"),
                    )
                    .with("Access-Control-Max-Age", &HeaderValue::from_static("600")),
            ),
            (Resource::Events, &Method::GET | &Method::HEAD) => self.stream_events(id, room, request, now),
            (Resource::Messages, &Method::GET | &Method::HEAD) => self.tell_messages(id, room, request),
            (Resource::Messages, &Method::POST) => self.receive_post(id, room, request, now),
            (Resource::Events, _) => Some(Response::method_not_allowed("GET, HEAD, OPTIONS")),
            (Resource::Messages, _) => Some(Response::method_not_allowed(METHODS)),
        }
    }

    fn check_origin(&mut self, id: ConnectionId, request: &Request) -> Result<(), Response> {
        let Some(connection) = self.connections.get(id) else { return Ok(()) };
        let client = self.gate.client(connection.peer, &request.headers);
        let host = client.host.as_deref().or_else(|| request.headers.get(HOST)?.to_str().ok());
        self.gate.origins.check(&request.headers, host).map_err(|refused| {
            self.metrics.refused(Refusal::Origin);
            tracing::debug!("refused a request from {}: {refused}", client.addr);
            Response::text(StatusCode::FORBIDDEN, "Pages of this origin may not use this server.")
        })
    }

    /// Turns the connection into a stream of what is said in a room.
    fn stream_events(&mut self, id: ConnectionId, room: RoomName, request: &Request, now: Instant) -> Option<Response> {
        let query = Query::of(request.target.query());
        let resumed = request.headers.get("last-event-id").and_then(|value| value.to_str().ok());
        let after = match resumed.or(query.after).map(str::parse::<u64>) {
            None => None,
            Some(Ok(after)) => Some(v1::position(after)),
            Some(Err(_)) => return Some(bad_request("A position is a whole number.")),
        };
        if self.drain_until.is_some() {
            self.metrics.refused(Refusal::Draining);
            return Some(unavailable("The server is about to stop."));
        }
        let response = Response::new(StatusCode::OK)
            .with("Content-Type", &HeaderValue::from_static("text/event-stream"))
            .with("Cache-Control", &HeaderValue::from_static("no-store"))
            .with("X-Accel-Buffering", &HeaderValue::from_static("no"))
            .with_body(Body::Endless);
        if request.method == Method::HEAD {
            return Some(response);
        }
        let response = with_cors(response, request.headers.get(ORIGIN));
        self.begin_stream(id, &response, now);
        let member = member_id(id);
        self.hub.enter(member, Dialect::Events);
        let is_known = after.is_none_or(|after| after <= self.hub.position());
        if !is_known {
            // Another life of the journal, or none of ours: what was between is not to be had.
            let gap = format!("id: {0}\nevent: gap\ndata: {0}\n\n", self.hub.position());
            self.connections.push(id, gap.into(), now);
        }
        self.hub.sit(member, room, after.filter(|_| is_known).map_or(Start::Present, Start::After));
        self.hub.wind(now);
        None
    }

    /// Answers with messages, at once if they are in memory.
    fn tell_messages(&mut self, id: ConnectionId, room: RoomName, request: &Request) -> Option<Response> {
        let query = Query::of(request.target.query());
        let number = |text: Option<&str>| text.map(str::parse::<u64>).transpose();
        let (Ok(before), Ok(after), Ok(limit)) = (number(query.before), number(query.after), number(query.limit))
        else {
            return Some(bad_request("before, after and limit are whole numbers."));
        };
        let most = self.limits.page_entries;
        let limit = limit.map_or(most, |limit| usize::try_from(limit).unwrap_or(most)).clamp(1, most);
        let part = match (before, after) {
            (Some(_), Some(_)) => return Some(bad_request("before and after exclude each other.")),
            (_, Some(after)) => Part::After { after: v1::position(after), upto: self.hub.position() },
            (before, None) => Part::Before(before.map_or(self.hub.position().next(), v1::position)),
        };
        if let Some((entries, more)) = self.hub.look(&room, &part, limit) {
            return Some(self.messages(&room, &entries, more));
        }
        self.desk.next_read = (self.desk.next_read + 1) % TICKET;
        let ticket = TICKET | self.desk.next_read;
        self.desk.reads.insert(ticket, Asker::new(id, &request.headers));
        let range = match part {
            Part::After { after, upto } => Range::After { after, upto },
            Part::Before(before) => Range::Before(before),
            Part::Matching { before, query } => Range::Matching { before, query },
        };
        let max_bytes = self.limits.outbox_high_water_bytes;
        self.journal.read(Read { ticket, room, range, limit, max_bytes });
        None
    }

    fn messages(&self, room: &RoomName, entries: &[Entry], more: bool) -> Response {
        let entries = Said::all_within(entries);
        json(StatusCode::OK, &Messages { room: room.as_str(), epoch: self.journal.epoch().to_string(), entries, more })
    }

    /// Gives a page to the request that waits for it; `false` if it is for the hub.
    pub(super) fn take_page(&mut self, page: &Page, now: Instant) -> bool {
        if page.ticket & TICKET == 0 {
            return false;
        }
        if let Some(asker) = self.desk.reads.remove(&page.ticket) {
            let response = match &page.entries {
                Ok(entries) => self.messages(&page.room, entries, page.more),
                Err(_) => unavailable("The history cannot be read now."),
            };
            self.answer_later(&asker, response, now);
        }
        true
    }

    /// Has the content of a POST received.
    fn receive_post(&mut self, id: ConnectionId, room: RoomName, request: &Request, now: Instant) -> Option<Response> {
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
    pub(super) fn take_post(&mut self, id: ConnectionId, now: Instant) {
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
                let said = self.say_post(id, &post, content);
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

    /// Gives the journal what was posted. Its answer comes by [`stored`](Reactor::stored).
    fn say_post(&mut self, id: ConnectionId, post: &Post, content: Vec<u8>) -> Result<(), Response> {
        let text = |name: HeaderName| post.headers.get(name).and_then(|value| value.to_str().ok());
        let media_type = text(CONTENT_TYPE).and_then(|value| value.split(';').next()).unwrap_or_default().trim();
        let Saying { text: said, name } = if media_type.eq_ignore_ascii_case("application/json") {
            serde_json::from_slice(&content)
                .map_err(|err| bad_request(&format!("The JSON is not as it should be: {err}.")))?
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
                let peer = self.connections.get(id).map(|connection| connection.peer);
                let client = peer.map(|peer| self.gate.client(peer, headers).addr.to_string());
                identities.guest(&format!("address {}", client.unwrap_or_default()))
            }
        };
        let name = name.or_else(|| self.hub.name_of(person));
        Ok(Author { id: person, name: name.unwrap_or_else(|| format!("guest-{:04x}", person.0 & 0xffff).into()) })
    }

    /// Tells whoever posted it that an entry is stored, and where.
    pub(super) fn stored(&mut self, entry: &Entry, status: StatusCode, now: Instant) {
        let Some(asker) = self.waiting_post(entry.origin) else { return };
        let (position, epoch) = (entry.position.0, self.journal.epoch().to_string());
        let stored = Stored { room: entry.room.as_str(), position, epoch, at: entry.at.0 };
        self.answer_later(&asker, json(status, &stored), now);
    }

    /// Tells whoever posted it that a draft was not taken.
    pub(super) fn not_stored(&mut self, draft: &Draft, now: Instant) {
        let Some(asker) = self.waiting_post(draft.origin) else { return };
        self.answer_later(&asker, unavailable("What is said cannot be stored now."), now);
    }

    /// Gives an answer that has come from the journal. What was asked behind it waits for the next turn: this one's news
    /// are not yet in the rooms' tails, where it may look for them, and what it says would miss this turn's flush.
    fn answer_later(&mut self, asker: &Asker, response: Response, now: Instant) {
        let response = with_cors(response, asker.origin.as_ref());
        self.respond(asker.id, &response, now);
        self.wait_for_turn(asker.id);
    }

    fn waiting_post(&mut self, origin: Option<MemberId>) -> Option<Asker> {
        // Nearly always nobody waits, and this is asked for every entry.
        if self.desk.posts.is_empty() {
            return None;
        }
        self.desk.posts.remove(&origin?)
    }

    /// A connection has gone: nobody waits there any more.
    pub(super) fn forget_requests_of(&mut self, id: ConnectionId) {
        self.desk.receiving.remove(&id);
        if !self.desk.posts.is_empty() {
            self.desk.posts.remove(&member_id(id));
        }
        if !self.desk.reads.is_empty() {
            self.desk.reads.retain(|_, waiting| waiting.id != id);
        }
    }
}

/// The room and resource that a path names: `None` if it names neither.
fn room_of(path: &str, max_bytes: usize) -> Option<(Result<RoomName, Response>, Resource)> {
    let (room, resource) = path.strip_prefix("/rooms/")?.split_once('/')?;
    let resource = match resource {
        "events" => Resource::Events,
        "messages" => Resource::Messages,
        _ => return None,
    };
    let name = percent_decode_str(room).decode_utf8().map_err(|_| bad_request("The room's name is not UTF-8."));
    let room = name.and_then(|name| {
        RoomName::new(&name, max_bytes).map_err(|err| bad_request(&format!("The room's name is not possible: {err}.")))
    });
    Some((room, resource))
}

/// The parts of a query that are known here.
#[derive(Default)]
struct Query<'a> {
    before: Option<&'a str>,
    after: Option<&'a str>,
    limit: Option<&'a str>,
}

impl<'a> Query<'a> {
    fn of(query: Option<&'a str>) -> Self {
        let mut found = Query::default();
        for (name, value) in query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('=')) {
            match name {
                "before" => found.before = Some(value),
                "after" => found.after = Some(value),
                "limit" => found.limit = Some(value),
                _ => {}
            }
        }
        found
    }
}

/// Lets the page of an allowed origin read the response (Fetch standard, section 3.3).
fn with_cors(response: Response, origin: Option<&HeaderValue>) -> Response {
    match origin {
        Some(origin) if response.status != StatusCode::FORBIDDEN => {
            response.with("Access-Control-Allow-Origin", origin).with("Vary", &HeaderValue::from_static("Origin"))
        }
        _ => response,
    }
}

fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let mut body = Vec::new();
    v1::write(value, &mut body);
    body.push(b'\n');
    Response::new(status)
        .with("Content-Type", &HeaderValue::from_static("application/json"))
        .with("Cache-Control", &HeaderValue::from_static("no-store"))
        .with("X-Content-Type-Options", &HeaderValue::from_static("nosniff"))
        .with_body(Body::Bytes(body.into()))
}

fn bad_request(message: &str) -> Response {
    Response::text(StatusCode::BAD_REQUEST, message)
}

fn unavailable(message: &str) -> Response {
    Response::text(StatusCode::SERVICE_UNAVAILABLE, message).with("Retry-After", &HeaderValue::from_static("2"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_rooms() {
        let cases: &[(&str, Option<Result<&str, u16>>)] = &[
            ("/rooms/lobby/events", Some(Ok("lobby"))),
            ("/rooms/a%2Fb%20c/messages", Some(Ok("a/b c"))),
            ("/rooms/K%C3%BCche/messages", Some(Ok("Küche"))),
            ("/rooms/%ff/messages", Some(Err(400))),
            ("/rooms/%00/messages", Some(Err(400))),
            ("/rooms//messages", Some(Err(400))),
            ("/rooms/lobby", None),
            ("/rooms/lobby/", None),
            ("/rooms/lobby/other", None),
            ("/rooms/a/b/messages", None),
            ("/room/lobby/messages", None),
        ];
        for (path, expected) in cases {
            let found = room_of(path, 64).map(|(room, _)| room);
            let found = found.as_ref().map(|room| room.as_ref().map(RoomName::as_str).map_err(|it| it.status.as_u16()));
            assert_eq!(found, *expected, "{path}");
        }
    }
}
