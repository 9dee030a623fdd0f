//! Rooms and their members: who hears what, and when.
//!
//! A member [enters](Hub::enter) with its dialect, takes seats in rooms, and [exits](Hub::exit). What it asks comes in
//! through [`Hub::draft`] (raw) or [`Hub::request`] (chat.v1), what the journal has ordered through [`Hub::committed`],
//! what was read from the store through [`Hub::page`]. Once per turn, [`Hub::commit`] feeds those who are behind, hands
//! each room's news to those who are not, and carries it out on a [`Stage`]. Before that no entry is sent to anybody.
//!
//! A member of a room is live or catching up. A live one is offered the turn's batch; when its outbox has no room for
//! it, it is catching up from there. One who is catching up is given pages of the room's tail, or of the store when the
//! tail does not reach back that far, whenever its outbox has drained. It becomes live in the comparison that finds it
//! level with the room, before the turn's own batch is handed out: so what was missed and what is new meet without gap
//! or repeat. Joining, resuming and falling behind are this one mechanism. Those who need the same part of the store are
//! served by one read; only so many are under way for those who join, for those who are behind and for those who ask, and
//! the others wait for their turn. Whoever has heard more than this instance waits until it has come so far.

mod ahead;
mod arrivals;
mod asks;
mod converse;
mod ephemeral;
mod exchange;
mod feed;
mod gaps;
#[cfg(test)]
mod inspect;
mod publish;
mod raw;
mod recall;
mod reports;
mod rooms;
mod seats;
#[cfg(test)]
mod tests;
mod welcome;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use slab::Slab;
use smallvec::SmallVec;

use crate::limits::Limits;

use super::bucket::{Bucket, Rate};
use super::dialect::{DIALECTS, Dialect, Message};
use super::entry::{Author, Content, Draft, Entry, Epoch, MemberId, PersonId, Position, Range, RoomName, Timestamp};
use super::identity::{Identities, Session};
use super::presence::Presence;
use super::recalled::Recalled;
use super::tail::{Batch, PageSize, Tail};

pub use converse::Moment;
pub use exchange::{Command, Intake, Journaled, Looked, Pages, Stage, Trouble, Wanted};

/// All rooms, all members.
#[derive(Debug)]
pub struct Hub {
    rooms: Slab<Room>,
    by_name: HashMap<RoomName, usize>,
    members: Vec<Option<Member>>,
    present: usize,
    catching_up: usize,
    journaled: Journaled,
    /// The life of the journal before that one, if it has begun another since the start.
    former_epoch: Option<Epoch>,
    /// The last entry of any room that has been forgotten altogether.
    forgotten: Position,
    /// Rooms with news in this turn.
    talked: Vec<usize>,
    /// Members that may be given a page.
    hungry: VecDeque<MemberId>,
    /// Those who are to be told of more than is known here.
    ahead: ahead::Ahead,
    /// What has been asked of the store.
    reads: Slab<feed::Pending>,
    recalls: recall::Recalls,
    recalled: Recalled,
    recall_queue: recall::Queue,
    arrivals: arrivals::Arrivals,
    /// Pages of history, and searches.
    asks: [asks::Asks; 2],
    next_read: u32,
    identities: Identities,
    /// The connections of each person.
    people: HashMap<PersonId, SmallVec<[MemberId; 1]>>,
    /// Rooms where somebody comes, goes or writes, until it has been told.
    restless: Vec<usize>,
    /// What is told to other instances, and heard from them, if there may be any.
    reports: Option<Box<reports::Reports>>,
    /// What members are told of the journal when they come, unless all is well.
    trouble: Option<Trouble>,
    next_tick: Option<Instant>,
    tails_bytes: usize,
    /// Rooms kept for their tail alone.
    empty_rooms: usize,
    commits: u64,
    bounds: Bounds,
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct Bounds {
    tail_entries: usize,
    tail_bytes: usize,
    tails_total_bytes: usize,
    max_tails: usize,
    page_bytes: usize,
    page_entries: usize,
    backfill_entries: usize,
    feed_entries: usize,
    feed_reads: usize,
    join_reads: usize,
    ask_reads: usize,
    recalled_bytes: usize,
    max_ahead: usize,
    ahead_timeout: Duration,
    feeds_per_commit: usize,
    max_message_bytes: usize,
    max_text_bytes: usize,
    max_room_name_bytes: usize,
    max_person_name_bytes: usize,
    max_nonce_bytes: usize,
    max_rooms_per_member: usize,
    presence_names: usize,
    max_instances: usize,
    max_elsewhere: usize,
    say: Rate,
    raw: Rate,
    ask: Rate,
}

#[derive(Debug)]
struct Room {
    name: RoomName,
    live: [Vec<MemberId>; DIALECTS],
    members: usize,
    news: Vec<Entry>,
    tail: Tail,
    presence: Presence,
    /// Updates of who is there that were told so far.
    updates: u32,
    typing: ephemeral::Typing,
    is_restless: bool,
    /// The commit that last brought news, so that the tail unused for longest can go first.
    used: u64,
}

#[derive(Debug)]
struct Member {
    serial: u32,
    dialect: Dialect,
    is_hungry: bool,
    /// Drafts that have not come back.
    in_flight: u32,
    /// What it may still say in the raw dialect.
    raw: Option<Bucket>,
    seats: SmallVec<[Seat; 1]>,
    /// Set by hello.
    speaker: Option<Box<Speaker>>,
}

/// A member of chat.v1 who has said hello.
#[derive(Debug)]
struct Speaker {
    author: Author,
    /// How often the person was given another name, so that several instances agree on the newest.
    name_version: u32,
    session: Session,
    says: Bucket,
    asks: Bucket,
    /// Reads that were asked for and have not come, or wait for their turn.
    reads: u32,
}

/// A member's place in one room.
#[derive(Debug)]
struct Seat {
    room: usize,
    standing: Standing,
    /// It was not told of somebody who came or went, because its outbox was full.
    missed_presence: bool,
    /// Which update of who is there it knew when it was last told of them or live.
    knows_update: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It has asked to join, and is told what it missed in the next commit.
    Joining(Start),
    /// It is offered each batch. `place` is where it stands in the room's list.
    Live { place: usize },
    /// It has heard everything up to and with `after`.
    CatchingUp { after: Position },
    /// As before, and what comes next is to be read from the store when others have been served: `turn` is its place among
    /// those who wait.
    Queued { after: Position, turn: u64 },
    /// It has asked to join, and what it missed is to be read from the store when others have been served: `turn` is its
    /// place among those who wait for that.
    Waiting { turn: u64 },
    /// What it missed, or comes next, is being read from the store: `serial` names the read, since the answer to an
    /// earlier one may still come when a member has left and come back.
    Reading { serial: u32 },
}

/// From where a member wants to hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The present, without anything that was before.
    Present,
    /// The newest page, and what comes then.
    Newest,
    /// Everything after a position.
    After(Position),
    /// Everything after a position that this instance may come to, since another one has been there.
    Ahead {
        /// The life of the journal to which it belongs.
        epoch: Epoch,
        /// The position.
        after: Position,
    },
    /// Everything after a position of which nothing is known any more.
    Lost,
}

/// Reads of the store that are for the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reads {
    /// What they are for, as the metrics call it.
    pub purpose: &'static str,
    /// How many are under way.
    pub under_way: usize,
    /// How many members, or requests of theirs, wait until fewer are.
    pub waiting: usize,
}

impl Hub {
    /// No rooms, nobody there.
    #[must_use]
    pub fn new(limits: &Limits, journaled: Journaled, identities: Identities) -> Self {
        Hub {
            rooms: Slab::new(),
            by_name: HashMap::new(),
            members: Vec::new(),
            present: 0,
            catching_up: 0,
            journaled,
            former_epoch: None,
            // What was there before us is in the store, if anywhere.
            forgotten: journaled.position,
            talked: Vec::new(),
            hungry: VecDeque::new(),
            ahead: ahead::Ahead::default(),
            reads: Slab::new(),
            recalls: recall::Recalls::default(),
            recalled: Recalled::default(),
            recall_queue: recall::Queue::default(),
            arrivals: arrivals::Arrivals::default(),
            asks: Default::default(),
            next_read: 0,
            identities,
            people: HashMap::new(),
            restless: Vec::new(),
            trouble: None,
            reports: None,
            next_tick: None,
            tails_bytes: 0,
            empty_rooms: 0,
            commits: 0,
            bounds: Bounds {
                tail_entries: limits.tail_entries,
                tail_bytes: limits.tail_bytes,
                tails_total_bytes: limits.tails_total_bytes,
                max_tails: limits.max_tails,
                page_bytes: limits.outbox_high_water_bytes,
                page_entries: limits.page_entries,
                backfill_entries: limits.backfill_entries,
                feed_entries: limits.feed_entries,
                feed_reads: limits.feed_reads,
                join_reads: limits.join_reads,
                ask_reads: limits.ask_reads,
                // Of a bound that is there for both, so that what is read for those who are behind leaves the tails most.
                recalled_bytes: limits.tails_total_bytes / 4,
                max_ahead: limits.max_ahead,
                ahead_timeout: limits.ahead_timeout,
                feeds_per_commit: limits.feeds_per_turn,
                max_message_bytes: limits.max_message_bytes,
                max_text_bytes: limits.max_text_bytes.min(limits.max_message_bytes),
                max_room_name_bytes: limits.max_room_name_bytes,
                max_person_name_bytes: limits.max_person_name_bytes,
                max_nonce_bytes: limits.max_nonce_bytes,
                max_rooms_per_member: limits.max_rooms_per_member,
                presence_names: limits.presence_names,
                max_instances: limits.max_instances,
                max_elsewhere: limits.max_elsewhere,
                say: Rate { per_second: limits.say_rate, burst: limits.say_burst },
                raw: Rate { per_second: limits.raw_rate, burst: limits.raw_burst },
                ask: Rate { per_second: limits.ask_rate, burst: limits.ask_burst },
            },
            scratch: Vec::new(),
        }
    }

    /// Nobody is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.present == 0
    }

    /// Members present.
    #[must_use]
    pub fn members(&self) -> usize {
        self.present
    }

    /// Seats whose member is catching up.
    #[must_use]
    pub fn catching_up(&self) -> usize {
        self.catching_up
    }

    /// Reads of the store, by what they are for.
    #[must_use]
    pub fn reads(&self) -> [Reads; 4] {
        let [histories, searches] = &self.asks;
        [
            ("feed", self.recalls.len(), self.recall_queue.len()),
            ("join", self.arrivals.len(), self.arrivals.queued()),
            ("history", histories.len(), histories.queued()),
            ("search", searches.len(), searches.queued()),
        ]
        .map(|(purpose, under_way, waiting)| Reads { purpose, under_way, waiting })
    }

    /// Rooms with members.
    #[must_use]
    pub fn rooms(&self) -> usize {
        self.rooms.len() - self.empty_rooms
    }

    /// Bytes that all tails hold, about, and what was read from the store for those who are behind.
    #[must_use]
    pub fn tails_bytes(&self) -> usize {
        self.tails_bytes + self.recalled.bytes()
    }

    /// Whether [`commit`](Hub::commit) has work that nothing will announce.
    #[must_use]
    pub fn has_carried_over(&self) -> bool {
        !self.hungry.is_empty() || self.may_recall() || self.may_open()
    }

    /// The last entry that was committed.
    #[must_use]
    pub fn position(&self) -> Position {
        self.journaled.position
    }

    /// The life of the journal that it belongs to.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.journaled.epoch
    }

    /// What a person is called who is here now.
    #[must_use]
    pub fn name_of(&self, person: PersonId) -> Option<Arc<str>> {
        let connection = self.people.get(&person)?.first()?;
        Some(self.member(*connection)?.speaker.as_ref()?.author.name.clone())
    }

    /// A part of a room's history, as far as memory has it; `None` means that the journal has to be asked.
    #[must_use]
    pub fn look(&self, room: &RoomName, range: &Range, limit: usize) -> Option<Looked> {
        let keeps_history = self.journaled.keeps_history;
        let Some(room) = self.by_name.get(room).map(|key| &self.rooms[*key]) else {
            return (!keeps_history).then(|| Looked { entries: Vec::new(), more: false, floor: self.forgotten });
        };
        let (tail, size) = (&room.tail, PageSize { entries: limit, bytes: self.bounds.page_bytes });
        let floor = tail.known_from();
        match range {
            Range::After { after, .. } if *after >= floor || !keeps_history => {
                let entries = tail.after(*after, size);
                let more = entries.last().is_some_and(|entry| entry.position < tail.last());
                Some(Looked { entries, more, floor })
            }
            Range::Before(before) => {
                let entries = tail.before(*before, size);
                let more = entries.first().is_some_and(|entry| tail.reaches_before(entry.position));
                let is_whole = more || tail.floor() == Position::START || !keeps_history;
                is_whole.then_some(Looked { entries, more, floor })
            }
            Range::After { .. } | Range::Matching { .. } => None,
        }
    }

    /// People are recognised by another key from now on, and still by the one before.
    pub fn rekey(&mut self, key: [u8; 32]) {
        self.identities.rekey(key);
    }

    /// The identities of this hub, for whoever speaks without being a member.
    #[must_use]
    pub fn identities(&self) -> &Identities {
        &self.identities
    }

    /// How many drafts of a member have not come back from the journal.
    #[must_use]
    pub fn in_flight(&self, member: MemberId) -> u32 {
        self.member(member).map_or(0, |member| member.in_flight)
    }

    /// The dialect of a member, if it is there.
    #[must_use]
    pub fn dialect(&self, member: MemberId) -> Option<Dialect> {
        self.member(member).map(|member| member.dialect)
    }

    fn landed(&mut self, origin: Option<MemberId>) {
        if let Some(member) = origin.and_then(|origin| self.member_mut(origin)) {
            member.in_flight = member.in_flight.saturating_sub(1);
        }
    }

    /// The outbox of a member that was turned away has drained: it may be given a page in the next commit.
    pub fn drained(&mut self, member: MemberId) {
        let Some(found) = self.member_mut(member) else { return };
        let waits = |seat: &Seat| match seat.standing {
            Standing::CatchingUp { .. } | Standing::Joining(_) => true,
            Standing::Live { .. } => seat.missed_presence,
            Standing::Reading { .. } | Standing::Queued { .. } | Standing::Waiting { .. } => false,
        };
        if found.seats.iter().any(waits) && !found.is_hungry {
            found.is_hungry = true;
            self.hungry.push_back(member);
        }
    }

    fn member(&self, id: MemberId) -> Option<&Member> {
        self.members.get(id.slot as usize)?.as_ref().filter(|member| member.serial == id.serial)
    }

    fn member_mut(&mut self, id: MemberId) -> Option<&mut Member> {
        self.members.get_mut(id.slot as usize)?.as_mut().filter(|member| member.serial == id.serial)
    }

    fn speaker_mut(&mut self, id: MemberId) -> Option<&mut Speaker> {
        self.member_mut(id)?.speaker.as_deref_mut()
    }

    fn seat_mut(&mut self, id: MemberId, room: usize) -> Option<&mut Seat> {
        self.member_mut(id)?.seats.iter_mut().find(|seat| seat.room == room)
    }
}

/// A name that is shared by all that a person says.
fn shared(name: &str) -> Arc<str> {
    name.into()
}
