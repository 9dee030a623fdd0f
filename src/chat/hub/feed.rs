//! How a member that is behind gets what it has not heard: from the tail of the room, or from the store.

use super::arrivals::Opening;
use super::asks::Purpose;
use super::recall::Recall;
use super::{Command, Dialect, Entry, Hub, MemberId, Pages, Range, RoomName, Seat, Stage, Standing, Wanted};
use crate::chat::tail::{Page, PageSize};

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
    /// For those who join.
    Joining(Opening),
    /// For one member.
    Member(MemberId, Purpose),
}

/// Why a member is given nothing more of a room for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fed {
    /// It is level, or waits for the store.
    Enough,
    /// Its outbox is full.
    Full,
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
                | Standing::Waiting { .. }
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

    pub(super) fn page_size(&self) -> PageSize {
        PageSize { entries: self.bounds.page_entries, bytes: self.bounds.page_bytes }
    }

    /// Asks for a page. Gives the serial and the place of what is pending then.
    pub(super) fn read(
        &mut self,
        room: RoomName,
        range: Range,
        limit: usize,
        whom: Whom,
        commands: &mut Vec<Command>,
    ) -> (u32, usize) {
        let count = match whom {
            Whom::Joining(ref opening) => opening.count(self.bounds.backfill_entries, self.bounds.page_entries),
            Whom::Member(..) | Whom::Behind(_) => 0,
        };
        // The highest bit of a ticket is left to others who read.
        self.next_read = self.next_read.wrapping_add(1) & (u32::MAX >> 1);
        let serial = self.next_read;
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
        match whom {
            Whom::Member(id, purpose) => self.take_asked((id, purpose), &room, &pages, stage, commands),
            Whom::Joining(opening) => self.take_opening(opening, (place, serial), pages),
            Whom::Behind(recall) => self.take_recall(&recall, (place, serial), room, pages, stage, commands),
        }
    }
}
