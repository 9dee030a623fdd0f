//! How a member that is behind gets what it has not heard: from the tail of the room, or from the store.

use super::ephemeral::framed;
use super::recall::Recall;
use super::{
    Command, Dialect, Entry, Hub, Looked, MemberId, Pages, Position, Range, RoomName, Seat, Stage, Standing, Start,
    Wanted,
};
use crate::chat::tail::{Page, PageSize};
use crate::chat::v1::{Hit, Members, Person, Reply, Said};

/// Something asked of the store.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) serial: u32,
    pub(super) room: RoomName,
    pub(super) whom: Whom,
}

/// For whom something is read.
#[derive(Debug)]
pub(super) enum Whom {
    /// For those who are behind.
    Behind(Recall),
    /// For one member.
    Member(MemberId, Purpose),
}

/// What is done with a page when it comes.
#[derive(Debug)]
pub(super) enum Purpose {
    /// The member is told what it missed since `after`; everything up to `upto` is in the range that is read.
    Resume { after: Position, upto: Position },
    /// The member is told the newest entries up to `upto`; `start` is what it asked for.
    Newest { upto: Position, start: Start },
    /// The member asked for older entries.
    History,
    /// The member searched.
    Search { query: String },
}

/// A member's outbox has no room for an answer.
#[derive(Debug)]
pub(super) struct OutboxFull;

/// Why a member is given nothing more of a room for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fed {
    /// It is level, or waits for the store.
    Enough,
    /// Its outbox is full.
    Full,
}

/// What a joiner is told.
struct Joined {
    entries: Vec<Entry>,
    /// Everything up to here is in the entries, or was before them.
    upto: Position,
    gap: bool,
    more: bool,
    older: bool,
    missed: Option<u64>,
}

impl Hub {
    /// Gives a member pages until it is level with its rooms, its outbox is full, or the store has to be asked.
    pub(super) fn feed<S: Stage>(&mut self, id: MemberId, stage: &mut S, commands: &mut Vec<Command>) {
        let Some(member) = self.member_mut(id) else { return };
        member.is_hungry = false;
        for place in 0..member.seats.len() {
            let Some(seat) = self.member(id).and_then(|member| member.seats.get(place)) else { return };
            let (room, standing) = (seat.room, seat.standing);
            let welcomed = match standing {
                Standing::Joining(start) => match (self.await_position(id, room, start), self.dialect(id)) {
                    (None, _) => Fed::Enough,
                    (Some(start), Some(Dialect::Events)) => self.resume_stream(id, room, start, stage),
                    (Some(start), _) => self.welcome(id, room, start, stage, commands),
                },
                Standing::CatchingUp { .. }
                | Standing::Reading { .. }
                | Standing::Queued { .. }
                | Standing::Live { .. } => Fed::Enough,
            };
            if welcomed == Fed::Full
                || self.catch_up(id, room, stage, commands) == Fed::Full
                || self.make_up_for_presence(id, room, stage) == Fed::Full
            {
                // The next time begins with another room, so that a busy one does not keep it from the others.
                if let Some(member) = self.member_mut(id) {
                    member.seats.rotate_left(1);
                }
                return;
            }
        }
    }

    fn catch_up<S: Stage>(&mut self, id: MemberId, key: usize, stage: &mut S, commands: &mut Vec<Command>) -> Fed {
        let Some(dialect) = self.dialect(id) else { return Fed::Enough };
        loop {
            let Some(seat) = self.seat_mut(id, key) else { return Fed::Enough };
            let Standing::CatchingUp { after } = seat.standing else { return Fed::Enough };
            let page_bytes = self.bounds.page_bytes.min(stage.page_bytes());
            let (scratch, epoch) = (&mut self.scratch, self.journaled.epoch);
            let mut encode = |dialect: Dialect, entry: &Entry, out: &mut Vec<u8>| {
                dialect.encode(entry, epoch, S::frame, scratch, out);
            };
            let mut page = self.rooms[key].tail.page(after, page_bytes, dialect, &mut encode);
            if matches!(page, Page::Gone) {
                let recalled = self.recalled.page(&self.rooms[key].name, after, page_bytes, dialect, &mut encode);
                page = recalled.unwrap_or(Page::Gone);
            }
            match page {
                // It has heard some of this turn's news elsewhere: it is given the others from the tail.
                Page::Level if self.rooms[key].news.first().is_some_and(|first| first.position <= after) => {
                    self.drained(id);
                    return Fed::Enough;
                }
                Page::Level => {
                    self.go_live(id, key, dialect);
                    return Fed::Enough;
                }
                Page::Bytes { bytes, entries, reaches } => {
                    if entries > 0 && !stage.offer(id, &bytes, entries) {
                        return Fed::Full;
                    }
                    self.stand(id, key, Standing::CatchingUp { after: reaches });
                }
                Page::Gone if self.journaled.keeps_history => {
                    self.recall(id, key, after, commands);
                    return Fed::Enough;
                }
                Page::Gone => {
                    if !self.skip(id, key, dialect, self.rooms[key].tail.known_from(), stage, commands) {
                        return Fed::Enough;
                    }
                }
            }
        }
    }

    fn go_live(&mut self, id: MemberId, key: usize, dialect: Dialect) {
        let room = &mut self.rooms[key];
        let (updates, live) = (room.updates, &mut room.live[dialect.index()]);
        let place = live.len();
        live.push(id);
        self.catching_up -= 1;
        if let Some(seat) = self.seat_mut(id, key) {
            seat.standing = Standing::Live { place };
            seat.missed_presence |= dialect == Dialect::V1 && seat.knows_update != updates;
        }
    }

    /// Tells a live member who is there, if it has missed any of it.
    fn make_up_for_presence<S: Stage>(&mut self, id: MemberId, key: usize, stage: &mut S) -> Fed {
        let missed = |seat: &&mut Seat| matches!(seat.standing, Standing::Live { .. }) && seat.missed_presence;
        if self.seat_mut(id, key).filter(missed).is_none() {
            return Fed::Enough;
        }
        if !stage.offer(id, &self.snapshot::<S>(key), 0) {
            return Fed::Full;
        }
        if let Some(seat) = self.seat_mut(id, key) {
            seat.missed_presence = false;
        }
        Fed::Enough
    }

    pub(super) fn stand(&mut self, id: MemberId, key: usize, standing: Standing) {
        if let Some(seat) = self.seat_mut(id, key) {
            seat.standing = standing;
        }
    }

    /// Finds out what a joiner of chat.v1 has missed, and tells it, at once if the tail reaches back far enough.
    fn welcome<S: Stage>(
        &mut self,
        id: MemberId,
        key: usize,
        start: Start,
        stage: &mut S,
        commands: &mut Vec<Command>,
    ) -> Fed {
        let upto = self.journaled.position;
        let tail = &self.rooms[key].tail;
        match start {
            Start::After(after) if after <= upto && after >= tail.known_from() => {
                let missed = tail.count_after(after);
                if missed > self.bounds.backfill_entries {
                    return self.welcome_newest(id, key, Start::Lost, stage, commands);
                }
                let entries = tail.after(after, self.page_size());
                let more = missed > entries.len();
                let joined = Joined {
                    // What is in the tail is all that was published; this turn's news come after it.
                    upto: entries.last().filter(|_| more).map_or(tail.last().max(after), |entry| entry.position),
                    entries,
                    gap: false,
                    more,
                    older: after > Position::START,
                    missed: Some(missed as u64),
                };
                self.told(id, key, start, &joined, stage)
            }
            Start::After(after) if after <= upto && self.journaled.keeps_history => {
                self.read_for(id, key, Range::After { after, upto }, Purpose::Resume { after, upto }, commands);
                Fed::Enough
            }
            Start::After(_) | Start::Ahead { .. } | Start::Lost => {
                self.welcome_newest(id, key, Start::Lost, stage, commands)
            }
            Start::Newest | Start::Present => self.welcome_newest(id, key, Start::Newest, stage, commands),
        }
    }

    /// A stream that had to wait goes on from where it was, or is told that this cannot be.
    fn resume_stream<S: Stage>(&mut self, id: MemberId, key: usize, start: Start, stage: &mut S) -> Fed {
        let after = match start {
            Start::After(after) => after,
            Start::Present | Start::Newest | Start::Ahead { .. } | Start::Lost => {
                let name = &self.rooms[key].name;
                let after = self.before_newest_page(name);
                if !stage.offer(id, &self.gap_event(name, after), 0) {
                    return Fed::Full;
                }
                after
            }
        };
        self.stand(id, key, Standing::CatchingUp { after });
        Fed::Enough
    }

    fn welcome_newest<S: Stage>(
        &mut self,
        id: MemberId,
        key: usize,
        start: Start,
        stage: &mut S,
        commands: &mut Vec<Command>,
    ) -> Fed {
        let tail = &self.rooms[key].tail;
        let entries = tail.before(Position(u64::MAX), self.page_size());
        let is_cut = entries.first().is_some_and(|first| tail.reaches_before(first.position));
        let is_page = is_cut || entries.len() == self.bounds.page_entries;
        if is_page || tail.floor() == Position::START || !self.journaled.keeps_history {
            self.tell_tail(id, key, start, stage)
        } else {
            let upto = self.journaled.position;
            self.read_for(id, key, Range::Before(upto.next()), Purpose::Newest { upto, start }, commands);
            Fed::Enough
        }
    }

    /// Tells a joiner of chat.v1 the newest entries of the tail.
    fn tell_tail<S: Stage>(&mut self, id: MemberId, key: usize, start: Start, stage: &mut S) -> Fed {
        let tail = &self.rooms[key].tail;
        let entries = tail.before(Position(u64::MAX), self.page_size());
        let is_cut = entries.first().is_some_and(|first| tail.reaches_before(first.position));
        let joined = Joined {
            upto: tail.last(),
            older: is_cut || (self.journaled.keeps_history && tail.floor() > Position::START),
            entries,
            gap: start == Start::Lost,
            more: false,
            missed: None,
        };
        self.told(id, key, start, &joined, stage)
    }

    /// Tells a joiner of chat.v1 that it is in, and what was said; later, if its outbox has no room for that.
    fn told<S: Stage>(&mut self, id: MemberId, key: usize, start: Start, joined: &Joined, stage: &mut S) -> Fed {
        let names = self.tell_names(key);
        let room = &self.rooms[key];
        let reply = Reply::Joined {
            room: room.name.as_str(),
            epoch: self.journaled.epoch.to_string(),
            position: joined.upto.0,
            entries: Said::all_within(&joined.entries),
            gap: joined.gap,
            more: joined.more,
            missed: joined.missed,
            older: joined.older,
            members: Members { count: room.presence.count(), names: Person::all(&names) },
        };
        if stage.offer(id, &framed::<S>(&reply), joined.entries.len()) {
            let updates = room.updates;
            if let Some(seat) = self.seat_mut(id, key) {
                seat.standing = Standing::CatchingUp { after: joined.upto };
                (seat.knows_update, seat.missed_presence) = (updates, false);
            }
            Fed::Enough
        } else {
            self.stand(id, key, Standing::Joining(start));
            Fed::Full
        }
    }

    pub(super) fn page_size(&self) -> PageSize {
        PageSize { entries: self.bounds.page_entries, bytes: self.bounds.page_bytes }
    }

    /// A member of chat.v1 asked for older entries.
    ///
    /// # Errors
    ///
    /// When its outbox has no room for them.
    pub(super) fn history<S: Stage>(
        &mut self,
        id: MemberId,
        key: usize,
        before: Position,
        limit: usize,
        stage: &mut S,
        commands: &mut Vec<Command>,
    ) -> Result<(), OutboxFull> {
        let (name, range) = (self.rooms[key].name.clone(), Range::Before(before));
        let Some(Looked { entries, more, .. }) = self.look(&name, &range, limit) else {
            self.read(key, range, limit, Whom::Member(id, Purpose::History), commands);
            return Ok(());
        };
        let reply = Reply::History { room: name.as_str(), entries: Said::all_within(&entries), more };
        if !stage.offer(id, &framed::<S>(&reply), entries.len()) {
            return Err(OutboxFull);
        }
        Ok(())
    }

    /// A member of chat.v1 searches.
    pub(super) fn search(
        &mut self,
        id: MemberId,
        key: usize,
        query: String,
        before: Position,
        limit: usize,
        commands: &mut Vec<Command>,
    ) {
        let range = Range::Matching { before, query: query.clone() };
        self.read(key, range, limit, Whom::Member(id, Purpose::Search { query }), commands);
    }

    /// Reads a page that a seat waits for.
    fn read_for(&mut self, id: MemberId, key: usize, range: Range, purpose: Purpose, commands: &mut Vec<Command>) {
        let (serial, _) = self.read(key, range, self.bounds.page_entries, Whom::Member(id, purpose), commands);
        self.stand(id, key, Standing::Reading { serial });
    }

    /// Asks for a page. Gives the serial and the place of what is pending then.
    pub(super) fn read(
        &mut self,
        key: usize,
        range: Range,
        limit: usize,
        whom: Whom,
        commands: &mut Vec<Command>,
    ) -> (u32, usize) {
        let room = self.rooms[key].name.clone();
        let count = match whom {
            // More than that is a gap, however many they are.
            Whom::Member(_, Purpose::Resume { .. }) => self.bounds.backfill_entries.saturating_add(1),
            Whom::Member(..) | Whom::Behind(_) => 0,
        };
        // The highest bit of a ticket is left to others who read.
        self.next_read = self.next_read.wrapping_add(1) & (u32::MAX >> 1);
        let serial = self.next_read;
        if let Whom::Member(member, Purpose::History | Purpose::Search { .. }) = whom
            && let Some(speaker) = self.speaker_mut(member)
        {
            speaker.reads += 1;
        }
        let place = self.reads.insert(Pending { serial, room: room.clone(), whom });
        let ticket = u64::from(serial) << 32 | place as u64;
        commands.push(Command::Read(Wanted { ticket, room, range, limit, count }));
        (serial, place)
    }

    /// Takes what was read. Comes before [`commit`](Hub::commit), in which whoever it is for goes on.
    pub fn page<S: Stage>(&mut self, pages: Pages, stage: &mut S, commands: &mut Vec<Command>) {
        let (place, serial) = ((pages.ticket & u64::from(u32::MAX)) as usize, (pages.ticket >> 32) as u32);
        if self.reads.get(place).is_none_or(|pending| pending.serial != serial) {
            return;
        }
        let Pending { room, whom, .. } = self.reads.remove(place);
        let (id, purpose) = match whom {
            Whom::Member(id, purpose) => (id, purpose),
            Whom::Behind(recall) => return self.take_recall(&recall, (place, serial), room, pages, stage, commands),
        };
        if let (Purpose::History | Purpose::Search { .. }, Some(speaker)) = (&purpose, self.speaker_mut(id)) {
            speaker.reads -= 1;
        }
        let (Some(_), Some(key)) = (self.dialect(id), self.by_name.get(&room).copied()) else { return };
        match purpose {
            Purpose::History => match pages.entries {
                Ok(entries) => {
                    let entries = Said::all_within(&entries);
                    stage.send(id, framed::<S>(&Reply::History { room: room.as_str(), entries, more: pages.more }));
                }
                Err(error) => Self::refuse_read(id, "history", &room, error, stage),
            },
            Purpose::Search { query } => match pages.entries {
                Ok(entries) => {
                    let none = Vec::new();
                    let matches = pages.matches.iter().chain(std::iter::repeat(&none));
                    let hits = entries.iter().zip(matches).map(|(entry, matches)| Hit::new(entry, matches)).collect();
                    let reply = Reply::Found { room: room.as_str(), query: &query, entries: hits, more: pages.more };
                    stage.send(id, framed::<S>(&reply));
                }
                Err(error) => Self::refuse_read(id, "search", &room, error, stage),
            },
            // It may have left the room, and come back, in the meantime: then this is not what it waits for.
            _ if self.seat_mut(id, key).is_none_or(|seat| seat.standing != Standing::Reading { serial }) => {}
            Purpose::Resume { after, upto } => {
                let is_told = pages.entries.is_ok()
                    && pages.floor <= after
                    && pages.in_range <= self.bounds.backfill_entries as u64;
                match pages.entries {
                    Ok(entries) if is_told => {
                        let upto = entries.last().filter(|_| pages.more).map_or(upto, |entry| entry.position);
                        let (more, missed) = (pages.more, Some(pages.in_range));
                        let older = after > Position::START;
                        let joined = Joined { entries, upto, gap: false, more, older, missed };
                        if self.told(id, key, Start::After(after), &joined, stage) == Fed::Enough {
                            self.drained(id);
                        }
                    }
                    _ => {
                        self.stand(id, key, Standing::Joining(Start::Lost));
                        self.drained(id);
                    }
                }
            }
            Purpose::Newest { upto, start } => {
                let fed = match pages.entries {
                    Ok(entries) => {
                        let gap = start == Start::Lost;
                        let joined = Joined { entries, upto, gap, more: false, older: pages.more, missed: None };
                        self.told(id, key, start, &joined, stage)
                    }
                    // Better what there is than nothing: the rest can be asked for when it can be read again.
                    Err(_) => self.tell_tail(id, key, start, stage),
                };
                if fed == Fed::Enough {
                    self.drained(id);
                }
            }
        }
    }
}
