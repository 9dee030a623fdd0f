//! Reading what was said in a room: pages out of memory, or from the journal.

use std::time::Instant;

use http::StatusCode;
use serde::Serialize;

use crate::chat::entry::{Entry, Position, Range, RoomName};
use crate::chat::hub::Looked;
use crate::chat::v1::{self, Said};
use crate::http::{Request, Response};
use crate::journal::{Page, Read};
use crate::net::connection::ConnectionId;
use crate::reactor::Reactor;

use super::{Asker, Query, Since, bad_request, json, unavailable};

/// Tickets of reads that an HTTP request waits for; those of the hub have this bit clear.
const TICKET: u64 = 1 << 63;

/// A page that is being read.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) asker: Asker,
    since: Since,
}

#[derive(Serialize)]
struct Messages<'a> {
    room: &'a str,
    epoch: String,
    entries: Vec<Said<'a>>,
    gap: bool,
    more: bool,
}

impl Reactor {
    /// Answers with messages, at once if they are in memory.
    pub(super) fn tell_messages(&mut self, id: ConnectionId, room: RoomName, request: &Request) -> Option<Response> {
        let query = Query::of(request.target.query());
        let number = |text: Option<&str>| text.map(str::parse::<u64>).transpose();
        let (Ok(before), Ok(limit)) = (number(query.before), number(query.limit)) else {
            return Some(bad_request("before and limit are whole numbers."));
        };
        if query.before.and(query.after).is_some() {
            return Some(bad_request("before and after exclude each other."));
        }
        let since = match self.since_of(&query) {
            Ok(since) => since,
            Err(response) => return Some(response),
        };
        if let Since::Ahead(id) = since
            && (id.epoch == self.hub.epoch() || self.journal.readiness().is_err())
        {
            return Some(unavailable("This server has not read yet what you have heard elsewhere."));
        }
        // What is made for this client alone takes memory until it has taken it, and those before may not have begun.
        let max_bytes = self.limits.outbox_high_water_bytes;
        if !self.connections.have_room_for(self.desk.reads.len() * max_bytes) {
            return Some(unavailable("Too many clients do not take what they have asked for."));
        }
        let most = self.limits.page_entries;
        let limit = limit.map_or(most, |limit| usize::try_from(limit).unwrap_or(most)).clamp(1, most);
        let upto = self.hub.position();
        let range = match since {
            Since::Unsaid => Range::Before(before.map_or(upto.next(), v1::position)),
            Since::Position(after) => Range::After { after, upto },
            // Everything that is kept is news to it.
            Since::Ahead(_) | Since::Nowhere => Range::After { after: Position::START, upto },
        };
        if let Some(Looked { entries, more, floor }) = self.hub.look(&room, &range, limit) {
            return Some(self.messages(&room, &entries, since.is_gap(floor), more));
        }
        self.desk.next_read = (self.desk.next_read + 1) % TICKET;
        let ticket = TICKET | self.desk.next_read;
        self.desk.reads.insert(ticket, Reading { asker: Asker::new(id, &request.headers), since });
        self.journal.read(Read { ticket, room, range, limit, max_bytes, count: 0 });
        None
    }

    fn messages(&self, room: &RoomName, entries: &[Entry], gap: bool, more: bool) -> Response {
        let (room, epoch, entries) = (room.as_str(), self.hub.epoch().to_string(), Said::all_within(entries));
        json(StatusCode::OK, &Messages { room, epoch, entries, gap, more })
    }

    /// Gives a page to the request that waits for it; `false` if it is for the hub.
    pub(in crate::reactor) fn take_page(&mut self, page: &Page, now: Instant) -> bool {
        if page.ticket & TICKET == 0 {
            return false;
        }
        if let Some(Reading { asker, since }) = self.desk.reads.remove(&page.ticket) {
            let response = match &page.entries {
                Ok(entries) => self.messages(&page.room, entries, since.is_gap(page.floor), page.more),
                Err(_) => unavailable("The history cannot be read now."),
            };
            self.answer_later(&asker, response, now);
        }
        true
    }
}
