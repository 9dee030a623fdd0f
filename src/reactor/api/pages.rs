//! Reading what was said in a room: pages out of memory, or from the journal.

use std::time::Instant;

use http::StatusCode;
use serde::Serialize;

use crate::chat::dialect::EventId;
use crate::chat::entry::{Entry, Epoch, Position, Range, RoomName};
use crate::chat::hub::Looked;
use crate::chat::v1::{self, Said};
use crate::http::{Request, Response};
use crate::journal::{Page, Read};
use crate::net::connection::ConnectionId;
use crate::reactor::serve::MADE_COST;
use crate::reactor::{Reactor, member_id};

use super::{Asker, Query, Since, bad_request, json, stopping, unavailable, with_cors};

/// Tickets of reads that an HTTP request waits for; those of the hub have this bit clear.
const TICKET: u64 = 1 << 63;

/// A page that is being read.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) asker: Asker,
    since: Since,
    /// The life of the journal in which it was asked for: its positions are of that, even if another has begun meanwhile.
    epoch: Epoch,
    /// What was the present when it was asked for, unless something before a place that was named is wanted.
    upto: Option<Position>,
}

/// A request that waits until this instance has heard what whoever asks has.
#[derive(Debug)]
pub(super) struct Awaiting {
    pub(super) asker: Asker,
    wanted: Wanted,
}

/// What somebody wants to read.
#[derive(Debug)]
struct Wanted {
    room: RoomName,
    before: Option<Position>,
    limit: usize,
}

/// Entries as they were found.
#[derive(Clone, Copy)]
struct Part<'a> {
    entries: &'a [Entry],
    /// There are others: older ones, or if it is known since when, newer ones.
    more: bool,
    /// Entries up to here may be kept nowhere.
    floor: Position,
    /// The life of the journal to which the positions belong.
    epoch: Epoch,
    /// It reaches up to here, unless it is cut off before: the present, if that is what was asked for.
    upto: Option<Position>,
}

#[derive(Serialize)]
struct Messages<'a> {
    room: &'a str,
    epoch: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u64>,
    entries: Vec<Said<'a>>,
    gap: bool,
    more: bool,
}

impl Reactor {
    /// Answers with messages, at once if they are in memory.
    pub(super) fn tell_messages(
        &mut self,
        id: ConnectionId,
        room: RoomName,
        request: &Request,
        now: Instant,
    ) -> Option<Response> {
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
        let most = self.limits.page_entries;
        let limit = limit.map_or(most, |limit| usize::try_from(limit).unwrap_or(most)).clamp(1, most);
        let wanted = Wanted { room, before: before.map(v1::position), limit };
        let asker = Asker::new(id, &request.headers);
        let Since::Ahead(EventId { epoch, position }) = since else { return self.tell_since(asker, wanted, since) };
        if self.drain_until.is_some() {
            return Some(stopping());
        }
        let Some(start) = self.hub.await_request(member_id(id), epoch, position) else {
            self.desk.awaiting.insert(member_id(id), Awaiting { asker, wanted });
            self.hub.wind(now);
            return None;
        };
        self.tell_since(asker, wanted, self.since_start(start))
    }

    /// Goes on with those who have waited until this instance had heard what they have, within the turn's budget.
    pub(in crate::reactor) fn answer_awaited(&mut self, now: Instant) {
        while self.budgets.requests > 0
            && let Some((member, start)) = self.hub.poll_awaited()
        {
            let Some(Awaiting { asker, wanted }) = self.desk.awaiting.remove(&member) else { continue };
            self.budgets.requests = self.budgets.requests.saturating_sub(MADE_COST);
            let (id, origin) = (asker.id, asker.origin.clone());
            if let Some(response) = self.tell_since(asker, wanted, self.since_start(start)) {
                self.respond(id, &with_cors(response, origin.as_ref()), now);
                self.serve(id, now);
            }
        }
    }

    /// The server stops: whoever waits for the bus would wait too long.
    pub(in crate::reactor) fn dismiss_awaiting(&mut self, now: Instant) {
        for (member, Awaiting { asker, .. }) in std::mem::take(&mut self.desk.awaiting) {
            self.hub.forget_request(member);
            self.respond(asker.id, &with_cors(stopping(), asker.origin.as_ref()), now);
        }
    }

    /// Tells what is wanted, now that it is known since when, or has it read.
    fn tell_since(&mut self, asker: Asker, wanted: Wanted, since: Since) -> Option<Response> {
        // What is made for this client alone takes memory until it has taken it, and those before may not have begun.
        let max_bytes = self.limits.outbox_high_water_bytes;
        if !self.connections.have_room_for(self.desk.under_way * max_bytes) {
            return Some(unavailable("Too many clients do not take what they have asked for."));
        }
        let Wanted { room, before, limit } = wanted;
        let (upto, epoch) = (self.hub.position(), self.hub.epoch());
        let range = match since {
            Since::Unsaid => Range::Before(before.unwrap_or(upto.next())),
            Since::Position(after) => Range::After { after, upto },
            // Everything that is kept is news to it.
            Since::Ahead(_) | Since::Nowhere => Range::After { after: Position::START, upto },
        };
        let upto = before.is_none().then_some(upto);
        if let Some(Looked { entries, more, floor }) = self.hub.look(&room, &range, limit) {
            return Some(Self::messages(&room, Part { entries: &entries, more, floor, epoch, upto }, since));
        }
        self.desk.next_read = (self.desk.next_read + 1) % TICKET;
        let ticket = TICKET | self.desk.next_read;
        self.desk.reads.insert(ticket, Reading { asker, since, epoch, upto });
        self.desk.under_way += 1;
        self.journal.read(Read { ticket, room, range, limit, max_bytes, count: 0 });
        None
    }

    /// A part of a room as it is told to whoever has heard everything up to `since`.
    fn messages(room: &RoomName, part: Part<'_>, since: Since) -> Response {
        let Part { entries, more, floor, epoch, upto } = part;
        let cut_off_at = entries.last().filter(|_| more && since != Since::Unsaid).map(|last| last.position);
        let messages = Messages {
            room: room.as_str(),
            epoch: epoch.to_string(),
            position: cut_off_at.or(upto).map(|Position(position)| position),
            entries: Said::all_within(entries),
            gap: since.is_gap(floor),
            more,
        };
        json(StatusCode::OK, &messages)
    }

    /// Gives a page to the request that waits for it; `false` if it is for the hub.
    pub(in crate::reactor) fn take_page(&mut self, page: &Page, now: Instant) -> bool {
        if page.ticket & TICKET == 0 {
            return false;
        }
        self.desk.under_way -= 1;
        if let Some(Reading { asker, since, epoch, upto }) = self.desk.reads.remove(&page.ticket) {
            let (more, floor) = (page.more, page.floor);
            let response = match &page.entries {
                Ok(entries) => Self::messages(&page.room, Part { entries, more, floor, epoch, upto }, since),
                Err(_) => unavailable("The history cannot be read now."),
            };
            self.answer_later(&asker, response, now);
        }
        true
    }
}
