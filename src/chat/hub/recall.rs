//! Members that are further behind than the tail of a room reaches are fed from the store, many of them by one read.
//!
//! Only so many of these reads are under way at once, and whoever needs another waits for its turn: so what has been read
//! and not been taken has a bound, however many are behind at however many places, and whoever asks the store for something
//! else does not wait behind all of them.

use std::collections::BTreeMap;

use smallvec::SmallVec;

use super::feed::{Fed, Whom};
use super::{Command, Dialect, Entry, Hub, MemberId, Pages, Position, Range, RoomName, Stage, Standing};
use crate::chat::recalled::Stretch;
use crate::chat::tail::Page;

/// A part of a room that is being read for those who are behind.
#[derive(Debug)]
pub(super) struct Recall {
    key: usize,
    after: Position,
    upto: Position,
    /// Who waits for it, and where each of them is.
    waiting: SmallVec<[(MemberId, Position); 1]>,
}

/// Who waits until fewer recalls are under way, and for which room, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: BTreeMap<u64, (MemberId, usize)>,
    last_turn: u64,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Somebody comes last, and is given the number of its turn.
    fn push(&mut self, id: MemberId, key: usize) -> u64 {
        self.last_turn += 1;
        self.waiting.insert(self.last_turn, (id, key));
        self.last_turn
    }

    /// Somebody does not wait any more.
    pub(super) fn remove(&mut self, turn: u64) {
        self.waiting.remove(&turn);
    }
}

/// Which of the pending reads are recalls.
#[derive(Debug, Default)]
pub(super) struct Recalls {
    /// By room, and the position from which they read.
    by_place: BTreeMap<(usize, Position), usize>,
    /// All of them. Those for a room that is no longer there may have lost their place to others.
    under_way: usize,
}

impl Recalls {
    /// How many are under way.
    pub(super) fn len(&self) -> usize {
        self.under_way
    }

    /// Places that are noted down for them.
    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.by_place.len()
    }
}

impl Hub {
    /// Lets a member wait for what follows `after`: for a read that is under way, if it will bring that, or for one of its
    /// own, or until there may be another.
    pub(super) fn recall(&mut self, id: MemberId, key: usize, after: Position, commands: &mut Vec<Command>) {
        let limit = self.bounds.feed_entries;
        let nearest = self.recalls.by_place.range((key, Position::START)..=(key, after)).next_back();
        if let Some(pending) = nearest.and_then(|(_, place)| self.reads.get_mut(*place))
            && pending.room == self.rooms[key].name
            && let Whom::Behind(recall) = &mut pending.whom
            // As many positions as it brings entries hold no more entries than that.
            && after.0 - recall.after.0 < limit as u64
            && after < recall.upto
        {
            recall.waiting.push((id, after));
            let serial = pending.serial;
            self.stand(id, key, Standing::Reading { serial });
            return;
        }
        if self.recalls.under_way >= self.bounds.feed_reads {
            let turn = self.recall_queue.push(id, key);
            self.stand(id, key, Standing::Queued { after, turn });
            return;
        }
        let upto = self.journaled.position;
        let recall = Recall { key, after, upto, waiting: SmallVec::from_buf([(id, after)]) };
        let (room, range) = (self.rooms[key].name.clone(), Range::After { after, upto });
        let (serial, place) = self.read(room, range, limit, Whom::Behind(recall), commands);
        self.recalls.by_place.insert((key, after), place);
        self.recalls.under_way += 1;
        self.stand(id, key, Standing::Reading { serial });
    }

    /// Whether somebody waits for a read that may be under way now.
    pub(super) fn may_recall(&self) -> bool {
        !self.recall_queue.is_empty() && self.recalls.under_way < self.bounds.feed_reads
    }

    /// Goes on with those who have waited until fewer recalls are under way. What they need may have been read meanwhile.
    pub(super) fn recall_next<S: Stage>(&mut self, stage: &mut S, commands: &mut Vec<Command>) {
        for _ in 0..self.bounds.feeds_per_commit {
            if !self.may_recall() {
                return;
            }
            let Some((turn, (id, key))) = self.recall_queue.waiting.pop_first() else { return };
            let Some(seat) = self.seat_mut(id, key) else { continue };
            if let Standing::Queued { after, turn: its_turn } = seat.standing
                && its_turn == turn
            {
                seat.standing = Standing::CatchingUp { after };
                self.feed(id, stage, commands);
            }
        }
    }

    /// Gives those who wait for it what was read, and keeps it for others.
    pub(super) fn take_recall<S: Stage>(
        &mut self,
        recall: &Recall,
        (place, serial): (usize, u32),
        room: RoomName,
        pages: Pages,
        stage: &mut S,
        commands: &mut Vec<Command>,
    ) {
        self.recalls.under_way -= 1;
        if self.recalls.by_place.get(&(recall.key, recall.after)) == Some(&place) {
            self.recalls.by_place.remove(&(recall.key, recall.after));
        }
        let Some(&key) = self.by_name.get(&room) else { return };
        let floor = pages.floor.min(recall.upto);
        let mut stretch = pages.entries.map(|entries| {
            let upto = entries.last().filter(|_| pages.more).map_or(recall.upto, |last| last.position);
            // Up to the floor entries may be missing: it is for nobody who has not heard those.
            Stretch::new(room, recall.after.max(floor), upto, entries)
        });
        // Of somebody who has left the room and come back while this was read, only the last place counts.
        for &(id, after) in recall.waiting.iter().rev() {
            let waits = self.seat_mut(id, key).is_some_and(|seat| seat.standing == Standing::Reading { serial });
            let Some(dialect) = self.dialect(id).filter(|_| waits) else { continue };
            self.stand(id, key, Standing::CatchingUp { after });
            let fed = match &mut stretch {
                Ok(stretch) if floor <= after => self.give(id, key, dialect, after, stretch, stage),
                unread => {
                    let gone_upto = if unread.is_ok() { floor } else { self.rooms[key].tail.known_from() };
                    self.skip(id, key, dialect, gone_upto, stage, commands);
                    Fed::Enough
                }
            };
            if fed == Fed::Enough {
                self.drained(id);
            }
        }
        if let Ok(stretch) = stretch {
            self.recalled.keep(stretch, self.bounds.recalled_bytes);
        }
    }

    /// Gives a member that is behind a page of what was read.
    fn give<S: Stage>(
        &mut self,
        id: MemberId,
        key: usize,
        dialect: Dialect,
        after: Position,
        stretch: &mut Stretch,
        stage: &mut S,
    ) -> Fed {
        let (scratch, epoch) = (&mut self.scratch, self.journaled.epoch);
        let mut encode = |dialect: Dialect, entry: &Entry, out: &mut Vec<u8>| {
            dialect.encode(entry, epoch, S::frame, scratch, out);
        };
        match stretch.page(after, self.bounds.page_bytes.min(stage.page_bytes()), dialect, &mut encode) {
            Some(Page::Bytes { bytes, entries, reaches }) if entries == 0 || stage.offer(id, &bytes, entries) => {
                self.stand(id, key, Standing::CatchingUp { after: reaches });
                Fed::Enough
            }
            // It goes on from here when there is room for it, and not before.
            Some(Page::Bytes { .. }) => Fed::Full,
            // The page ended before the place where it is: it needs another.
            Some(Page::Level | Page::Gone) | None => Fed::Enough,
        }
    }
}
