//! For programs, with curl: a room as Server-Sent Events, saying something by POST, and history as JSON.
//!
//! ```text
//! GET  /rooms/{room}/events     a stream; `id:` is epoch and position; `Last-Event-ID` or `?after=` resume it
//! GET  /rooms/{room}/messages   ?before= or ?after= (and ?epoch=), ?limit=
//! POST /rooms/{room}/messages   text/plain or {"text", "name"?}; `Idempotency-Key`, `Authorization: Bearer TOKEN`
//! ```

mod pages;
mod post;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use percent_encoding::percent_decode_str;
use serde::Serialize;

use crate::chat::bucket::Buckets;
use crate::chat::dialect::{Dialect, EventId};
use crate::chat::entry::{Epoch, MemberId, Position, RoomName};
use crate::chat::hub::Start;
use crate::chat::v1;
use crate::http::{Body, Request, Response};
use crate::metrics::Refusal;
use crate::net::connection::ConnectionId;

use super::Reactor;
use super::member_id;
use pages::{Awaiting, Reading};
use post::Post;

const METHODS: &str = "GET, HEAD, POST, OPTIONS";

/// What waits for the journal on behalf of an HTTP request.
#[derive(Debug, Default)]
pub(super) struct Desk {
    /// Who has said something and waits for its position.
    posts: HashMap<MemberId, Asker>,
    /// Whose content is coming.
    receiving: HashMap<ConnectionId, Post>,
    /// Who waits for a page.
    reads: HashMap<u64, Reading>,
    /// Pages that are being read, some of them for those who have gone since.
    under_way: usize,
    next_read: u64,
    /// Who waits until this instance has heard what they have heard elsewhere.
    awaiting: BTreeMap<MemberId, Awaiting>,
    /// What each address may still post.
    posters: Buckets<IpAddr>,
}

/// What a request has heard before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Since {
    /// It does not say, or asks for what is older.
    Unsaid,
    /// Everything up to this position.
    Position(Position),
    /// Everything up to a position to which this instance may come, since another one has been there.
    Ahead(EventId),
    /// Something in another life of the journal, or beyond the end of this one.
    Nowhere,
}

impl Since {
    /// Whether something may be missing, when entries up to `floor` may be kept nowhere.
    fn is_gap(self, floor: Position) -> bool {
        match self {
            Since::Unsaid => false,
            Since::Position(after) => after < floor,
            Since::Ahead(_) | Since::Nowhere => true,
        }
    }
}

impl Desk {
    /// Pages that are being read.
    pub(super) fn reads_under_way(&self) -> usize {
        self.under_way
    }
}

#[cfg(test)]
impl Desk {
    /// Who waits here.
    pub(super) fn waiting(&self) -> impl Iterator<Item = ConnectionId> {
        let reads = self.reads.values().map(|reading| &reading.asker);
        let awaiting = self.awaiting.values().map(|awaiting| &awaiting.asker);
        let askers = self.posts.values().chain(reads).chain(awaiting).map(|asker| asker.id);
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

/// What a room offers to programs.
enum Resource {
    Events,
    Messages,
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
            (Resource::Messages, &Method::GET | &Method::HEAD) => self.tell_messages(id, room, request, now),
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
        let since = match request.headers.get("last-event-id") {
            // Whatever it is, if it is none of ours, the stream goes on from where it has not been.
            Some(id) => {
                let id = id.to_str().ok().and_then(|id| id.parse().ok());
                id.map_or(Since::Nowhere, |EventId { epoch, position }| self.since(Some(epoch), position))
            }
            None => match self.since_of(&query) {
                Ok(since) => since,
                Err(response) => return Some(response),
            },
        };
        if self.drain_until.is_some() {
            self.metrics.refused(Refusal::Draining);
            return Some(stopping());
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
        // Whoever is cut off before anything is said can come back to here.
        let here = |id: EventId| format!("id: {id}\n\n").into();
        let (first, start) = match since {
            Since::Unsaid => (here(self.hub.event_id(self.hub.position())), Start::After(self.hub.position())),
            Since::Position(after) => (here(self.hub.event_id(after)), Start::After(after)),
            Since::Ahead(id) => (here(id), Start::Ahead { epoch: id.epoch, after: id.position }),
            Since::Nowhere => {
                let after = self.hub.before_newest_page(&room);
                (self.hub.gap_event(&room, after), Start::After(after))
            }
        };
        self.connections.push(id, first, now);
        self.hub.sit(member, room, start);
        self.hub.wind(now);
        None
    }

    /// Up to where whoever asks has heard, by `?after=` and `?epoch=`: an id of an event, or a position, which is of this
    /// life of the journal unless it is said to be of another.
    fn since_of(&self, query: &Query<'_>) -> Result<Since, Response> {
        let Some(after) = query.after else { return Ok(Since::Unsaid) };
        if let Ok(EventId { epoch, position }) = after.parse() {
            return Ok(self.since(Some(epoch), position));
        }
        let position = after.parse().map_err(|_| bad_request("after is a position or the id of an event."))?;
        let epoch = query.epoch.map(str::parse).transpose();
        let epoch = epoch.map_err(|_| bad_request("An epoch has 16 hexadecimal digits."))?;
        Ok(self.since(epoch, v1::position(position)))
    }

    fn since(&self, epoch: Option<Epoch>, position: Position) -> Since {
        self.since_start(self.hub.start_after(Some(epoch.unwrap_or_else(|| self.hub.epoch())), position))
    }

    fn since_start(&self, start: Start) -> Since {
        match start {
            Start::After(after) if after <= self.hub.position() => Since::Position(after),
            Start::Ahead { epoch, after } => Since::Ahead(EventId { epoch, position: after }),
            Start::After(_) | Start::Present | Start::Newest | Start::Lost => Since::Nowhere,
        }
    }

    /// Gives an answer that has come from the journal. What was asked behind it waits for the next turn: this one's news
    /// are not yet in the rooms' tails, where it may look for them, and what it says would miss this turn's flush.
    fn answer_later(&mut self, asker: &Asker, response: Response, now: Instant) {
        let response = with_cors(response, asker.origin.as_ref());
        self.respond(asker.id, &response, now);
        self.wait_for_turn(asker.id);
    }

    /// A connection has gone: nobody waits there any more.
    pub(super) fn forget_requests_of(&mut self, id: ConnectionId) {
        self.desk.receiving.remove(&id);
        if !self.desk.posts.is_empty() {
            self.desk.posts.remove(&member_id(id));
        }
        if !self.desk.reads.is_empty() {
            self.desk.reads.retain(|_, reading| reading.asker.id != id);
        }
        if self.desk.awaiting.remove(&member_id(id)).is_some() {
            self.hub.forget_request(member_id(id));
        }
    }
}

/// Whether what was said in a room is to be had at this path.
pub(super) fn is_history(path: &str) -> bool {
    path.starts_with("/rooms/") && path.ends_with("/messages")
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
    epoch: Option<&'a str>,
    limit: Option<&'a str>,
}

impl<'a> Query<'a> {
    fn of(query: Option<&'a str>) -> Self {
        let mut found = Query::default();
        for (name, value) in query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('=')) {
            match name {
                "before" => found.before = Some(value),
                "after" => found.after = Some(value),
                "epoch" => found.epoch = Some(value),
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
        // It may wait for long, and should not hold more than it is.
        .with_body(Body::Bytes(body.into_boxed_slice().into()))
}

fn bad_request(message: &str) -> Response {
    Response::text(StatusCode::BAD_REQUEST, message)
}

fn too_fast(wait: Duration) -> Response {
    let seconds = u64::try_from(wait.as_millis().div_ceil(1_000)).unwrap_or(u64::MAX);
    Response::text(StatusCode::TOO_MANY_REQUESTS, "Too much was posted from this address in too little time.")
        .with("Retry-After", &HeaderValue::from(seconds))
}

/// The answer to whoever would be here for longer than the server.
fn stopping() -> Response {
    unavailable("The server is about to stop.")
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
