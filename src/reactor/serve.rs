//! HTTP: which part answers a request, and how its response gets out.

use std::os::fd::BorrowedFd;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};

use crate::close::CloseReason;
use crate::http::{Body, Encoded, Recipient, Request, Response};
use crate::journal::{BusGauges, StoreStats};
use crate::metrics::{Bus, Gauges, Store};
use crate::net::connection::{Backlog, ConnectionId, Protocol};
use crate::net::outbox::{FileSlice, SharedFile};
use crate::site::{Answer, FileStream, OpenFile, Part};
use crate::ws::upgrade;

use super::{Reactor, api};

/// Requests that one connection has answered in one turn before others have theirs.
const REQUESTS_AT_ONCE: usize = 16;
/// Metrics and histories are text that is made anew each time: as much work as so many other requests.
pub(super) const MADE_COST: usize = 16;
/// Methods of what is made here.
const ALLOWED: &str = "GET, HEAD, OPTIONS";

impl SharedFile for OpenFile {
    fn pipe(&self) -> Option<(BorrowedFd<'_>, usize)> {
        OpenFile::pipe(self)
    }
}

impl Reactor {
    /// Answers the requests that a connection has brought, in order, as far as they and their responses are there, and
    /// no more of them than its share of the turn.
    pub(super) fn serve(&mut self, id: ConnectionId, now: Instant) {
        let mut share = REQUESTS_AT_ONCE;
        loop {
            let has_room = self.connections.has_room(id);
            let Some(connection) = self.connections.get_mut(id).filter(|connection| connection.is_open()) else {
                return;
            };
            let Protocol::Http(http) = &mut connection.protocol else { return };
            if http.backlog == Backlog::Turn || http.answering.is_some() {
                self.take_post(id, now);
                if self.may_serve_next(id) {
                    // What was posted was refused at once, and more may have come behind it.
                    continue;
                }
                return;
            }
            if http.machine.is_mid_head() && (!has_room || share == 0 || self.budgets.requests == 0) {
                // Whether the head is whole is not looked at now: its time does not run meanwhile.
                http.head_began = None;
                if !has_room {
                    http.backlog = Backlog::Outbox;
                    return;
                }
                return self.wait_for_turn(id);
            }
            http.backlog = Backlog::None;
            let head_began = http.head_began.take();
            match http.machine.poll_request(&self.limits) {
                Ok(Some(request)) => {
                    let cost = cost(&request);
                    share = share.saturating_sub(cost);
                    self.budgets.requests = self.budgets.requests.saturating_sub(cost);
                    http.requests += 1;
                    http.head_began = None;
                    let is_last = http.requests >= self.limits.max_requests_per_connection;
                    let mut recipient = request.recipient();
                    recipient.keep_alive &= !is_last;
                    http.answering = Some(recipient);
                    self.answer(id, &request, now);
                }
                Ok(None) => {
                    if connection.ended {
                        let reason = match http.machine.is_mid_head() {
                            true => CloseReason::PeerVanished,
                            false => CloseReason::PeerClosed,
                        };
                        self.drain(id, reason, now);
                    } else {
                        if http.machine.is_mid_head() {
                            let began = if http.requests == 0 { connection.opened } else { now };
                            http.head_began = head_began.or(Some(began));
                        }
                        // It was not read while it had more to ask than we had answered.
                        self.connections.list_readable(id.slot);
                        self.set_timer(id.slot);
                    }
                    return;
                }
                Err(fault) => {
                    return self.refuse(id, &Response::refusal(&fault), CloseReason::Refused(fault.status), now);
                }
            }
        }
    }

    /// Whether nothing is being answered on a connection, and it need not wait for the next turn.
    fn may_serve_next(&self, id: ConnectionId) -> bool {
        match self.connections.get(id).map(|connection| &connection.protocol) {
            Some(Protocol::Http(http)) => http.answering.is_none() && http.backlog != Backlog::Turn,
            Some(Protocol::WebSocket(_) | Protocol::Events) | None => false,
        }
    }

    /// Finds who answers a request.
    fn answer(&mut self, id: ConnectionId, request: &Request, now: Instant) {
        if upgrade::is_upgrade(&request.headers) {
            return self.upgrade(id, request, now);
        }
        if self.serve_room(id, request, now) {
            return;
        }
        let response = match request.target.path() {
            "/healthz" => only_read(request, || self.health()),
            "/readyz" => only_read(request, || self.readiness()),
            "/metrics" => only_read(request, || self.metrics_page(now)),
            _ => {
                if let Some(answer) = self.site.handle(id.ticket(), request, now) {
                    self.take_answer(id, answer, now);
                }
                return;
            }
        };
        self.respond(id, &response, now);
    }

    /// Goes on with what the site has found.
    fn take_answer(&mut self, id: ConnectionId, answer: Answer, now: Instant) {
        match answer {
            Answer::Response(response) => self.respond(id, &response, now),
            Answer::Streamed(response, file) => self.respond_with_stream(id, &response, file, now),
            Answer::Piece { bytes, rest } => {
                self.take_piece(id, bytes, rest, now);
                self.stream(id, now);
            }
            Answer::Lost => self.content_lost(id),
        }
    }

    fn health(&self) -> Response {
        match self.drain_until {
            None => Response::text(StatusCode::OK, "ok"),
            Some(_) => Response::text(StatusCode::SERVICE_UNAVAILABLE, "draining"),
        }
    }

    /// Whether clients should be sent here. It is not when whoever is here hears nothing of what is said elsewhere.
    fn readiness(&self) -> Response {
        match self.journal.readiness() {
            Ok(()) => self.health(),
            Err(_) if self.drain_until.is_some() => self.health(),
            Err(unready) => Response::text(StatusCode::SERVICE_UNAVAILABLE, &unready.to_string()),
        }
    }

    fn metrics_page(&self, now: Instant) -> Response {
        Response::new(StatusCode::OK)
            .with("Content-Type", &HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"))
            .with("Cache-Control", &HeaderValue::from_static("no-store"))
            .with_body(Body::Bytes(self.metrics_text(now).into_boxed_str().into_boxed_bytes().into()))
    }

    pub(super) fn metrics_text(&self, now: Instant) -> String {
        let reads = self.hub.reads();
        let [feeds, joins, histories, searches] = reads.map(|it| (it.purpose, it.under_way));
        let gauges = Gauges {
            uptime: now - self.started,
            resident_bytes: resident_bytes(),
            max_connections: self.max_connections,
            rooms: self.hub.rooms(),
            held: self.connections.held(),
            streams: self.streams.len(),
            open_files: self.site.open_files(),
            max_open_files: self.limits.max_open_files.unwrap_or(usize::MAX),
            cache_bytes: self.site.cached_bytes(),
            content_bytes: self.site.content_bytes(),
            outbox_bytes: self.connections.outbox_bytes(),
            catching_up: self.hub.catching_up(),
            reads: [feeds, joins, histories, searches, ("http", self.desk.reads_under_way())],
            waiting_reads: reads.map(|it| (it.purpose, it.waiting)),
            drafts_in_flight: self.journal.in_flight(),
            draft_bytes_in_flight: self.journal.in_flight_bytes(),
            tail_bytes: self.hub.tails_bytes(),
            store: self.journal.store_stats().map(store_metrics),
            bus: self.journal.bus_gauges().map(|bus| {
                let BusGauges { is_up, lag, reconnects } = bus;
                let (instances, elsewhere) = (self.hub.instances_elsewhere(), self.hub.remembered_elsewhere());
                let (ahead, ahead_lost) = (self.hub.waiting_ahead(), self.hub.lost_ahead());
                Bus { is_up, lag, reconnects, instances, elsewhere, ahead, ahead_lost }
            }),
        };
        let mut text = String::new();
        self.metrics.render(&gauges, &mut text);
        text
    }

    /// Queues the response to the request that is being answered.
    pub(super) fn respond(&mut self, id: ConnectionId, response: &Response, now: Instant) {
        if self.begin_response(id, response, now) {
            self.responded(id, now);
        }
    }

    /// Queues the head of a response whose content follows in pieces.
    fn respond_with_stream(&mut self, id: ConnectionId, response: &Response, file: FileStream, now: Instant) {
        if !self.begin_response(id, response, now) {
            return;
        }
        if !file.is_copy() {
            self.streams.insert(id, Some(file));
            return self.stream(id, now);
        }
        // It is in memory and no longer than what is kept there: the kernel is given all of it.
        let open = file.file();
        let mut rest = Some(file);
        while let Some((Part { before, range }, next)) = rest.and_then(FileStream::next_of_copy) {
            let slice = FileSlice::new(open.clone(), range.start as u32, range.end as u32);
            self.connections.push(id, before, now);
            self.connections.push_file(id, slice, now);
            rest = next;
        }
        self.responded(id, now);
    }

    /// Queues a response as far as it is there. False if nobody waits for it any more.
    fn begin_response(&mut self, id: ConnectionId, response: &Response, now: Instant) -> bool {
        let Some(connection) = self.connections.get_mut(id).filter(|connection| connection.is_open()) else {
            return false;
        };
        let Protocol::Http(http) = &mut connection.protocol else { return false };
        let Some(recipient) = &mut http.answering else { return false };
        recipient.keep_alive &= self.drain_until.is_none();
        let encoded = response.encode(recipient, self.dates.at(SystemTime::now()));
        self.metrics.responded(response.status);
        self.push_response(id, encoded, now);
        true
    }

    /// Queues the head of a response that has no end, and makes the connection a stream.
    pub(super) fn begin_stream(&mut self, id: ConnectionId, response: &Response, now: Instant) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Protocol::Http(http) = &mut connection.protocol else { return };
        let Some(mut recipient) = http.answering.take() else { return };
        recipient.keep_alive = false;
        connection.protocol = Protocol::Events;
        connection.last_heard = now;
        let encoded = response.encode(&recipient, self.dates.at(SystemTime::now()));
        self.metrics.responded(response.status);
        self.push_response(id, encoded, now);
        // What else it sends means nothing, but its end does.
        self.connections.list_readable(id.slot);
        self.set_timer(id.slot);
    }

    fn push_response(&mut self, id: ConnectionId, encoded: Encoded, now: Instant) {
        self.connections.push(id, encoded.head, now);
        if let Some(body) = encoded.body {
            self.connections.push(id, body, now);
        }
    }

    /// The response has been queued whole: the next request may follow, or the connection ends.
    fn responded(&mut self, id: ConnectionId, now: Instant) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Protocol::Http(http) = &mut connection.protocol else { return };
        let Some(recipient) = http.answering.take() else { return };
        http.machine.responded();
        connection.last_heard = now;
        if !recipient.keep_alive {
            self.drain(id, CloseReason::Finished, now);
        } else if self.drain_until.is_some() {
            // It was told otherwise when its response began.
            self.drain(id, CloseReason::Draining, now);
        }
    }

    /// Answers whoever cannot be served, and ends the connection.
    pub(super) fn refuse(&mut self, id: ConnectionId, response: &Response, reason: CloseReason, now: Instant) {
        let encoded = response.encode(&Recipient::STRANGER, self.dates.at(SystemTime::now()));
        self.metrics.responded(response.status);
        self.push_response(id, encoded, now);
        self.drain(id, reason, now);
    }

    /// Tells a client that its request took too long to come.
    pub(super) fn refuse_slow_head(&mut self, id: ConnectionId, now: Instant) {
        let status = StatusCode::REQUEST_TIMEOUT;
        let response = Response::text(status, "The request did not arrive in time.");
        self.refuse(id, &response, CloseReason::Refused(status), now);
    }

    /// Takes what the site's worker has found, as many answers as a turn has time for requests.
    pub(super) fn take_site_answers(&mut self, now: Instant) {
        for _ in 0..self.limits.requests_per_turn {
            let Some((ticket, answer)) = self.site.poll_answer() else { return };
            let id = ConnectionId::from_ticket(ticket);
            self.take_answer(id, answer, now);
            self.serve(id, now);
        }
        // There may be more, and the worker has woken us for it already.
        self.budgets.is_exceeded = true;
    }

    /// Queues a file piece by piece, as long as there is more of it, the outbox has room, the turn's budget lasts and the
    /// pieces are in memory. With a full outbox or in another turn [`serve_on`](Self::serve_on) goes on, with a cold piece
    /// [`take_site_answers`](Self::take_site_answers).
    fn stream(&mut self, id: ConnectionId, now: Instant) {
        while let Some(Some(_)) = self.streams.get(&id) {
            if !self.connections.has_room(id) {
                return;
            }
            if self.budgets.stream_bytes == 0 {
                return self.wait_for_turn(id);
            }
            let Some(file) = self.streams.get_mut(&id).and_then(Option::take) else { return };
            match self.site.read_on(id.ticket(), file, self.connections.high_water_bytes()) {
                Some(Answer::Piece { bytes, rest }) => self.take_piece(id, bytes, rest, now),
                Some(_) => self.content_lost(id),
                None => {}
            }
        }
    }

    /// Queues a piece of a file, unless nobody waits for it any more.
    fn take_piece(&mut self, id: ConnectionId, bytes: Bytes, rest: Option<FileStream>, now: Instant) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        self.budgets.stream_bytes = self.budgets.stream_bytes.saturating_sub(bytes.len());
        self.connections.push(id, bytes, now);
        if rest.is_some() {
            *stream = rest;
        } else {
            self.streams.remove(&id);
            self.responded(id, now);
        }
    }

    fn content_lost(&mut self, id: ConnectionId) {
        if self.connections.get(id).is_some() {
            self.close(id.slot, CloseReason::ContentLost);
        }
    }

    /// Lets the next turn go on with a connection.
    pub(super) fn wait_for_turn(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Protocol::Http(http) = &mut connection.protocol else { return };
        if http.backlog != Backlog::Turn {
            http.backlog = Backlog::Turn;
            self.waiting.push_back(id);
        }
    }

    /// Goes on with a connection whose outbox has drained, or whose turn it is.
    pub(super) fn serve_on(&mut self, id: ConnectionId, now: Instant) {
        self.stream(id, now);
        self.serve(id, now);
    }
}

/// What a request takes of the budgets for requests.
fn cost(request: &Request) -> usize {
    let path = request.target.path();
    let is_made = path == "/metrics" || request.method == Method::GET && api::is_history(path);
    if is_made { MADE_COST } else { 1 }
}

/// Answers GET and HEAD, and tells others that these are what is answered.
fn only_read(request: &Request, answer: impl FnOnce() -> Response) -> Response {
    match request.method {
        Method::GET | Method::HEAD => answer(),
        Method::OPTIONS => Response::options(ALLOWED),
        _ => Response::method_not_allowed(ALLOWED),
    }
}

/// What the journal knows of its store, as it is told.
fn store_metrics(stats: StoreStats) -> Store {
    let StoreStats { entries, file_bytes, log_bytes, unindexed, trimmed, batches, commits } = stats;
    Store { entries, file_bytes, log_bytes, unindexed, trimmed, batches, commits }
}

/// Resident memory of this process. The file is made by the kernel out of its own memory: reading it does not block.
fn resident_bytes() -> Option<u64> {
    let pages: u64 = std::fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}
