//! Those who join a room and are told from the store what was said there, many of them by one read.
//!
//! As with [recalls](super::recall), only so many of these reads are under way at once, and whoever needs another waits for
//! its turn: so when all come back at once, or somebody comes and goes, no more than that is read and held. The two kinds
//! have bounds of their own, so that neither waits for the other. A read counts until the last who waits for it is told.
//!
//! Whoever joins many rooms waits for them in many rounds, and in each of these all others have a turn as well: so the first
//! room of everybody comes before the second of anybody, and one who joins one does not wait for all that others join.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use bytes::Bytes;

use super::feed::{Fed, Whom};
use super::welcome::Joined;
use super::{Command, Hub, MemberId, Pages, Position, Range, Seat, Stage, Standing, Start};

/// Which part of a room a joiner is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// What follows a position.
    After(Position),
    /// The newest page.
    Newest,
}

impl Place {
    fn of(start: Start) -> Place {
        match start {
            Start::After(after) => Place::After(after),
            Start::Present | Start::Newest | Start::Ahead { .. } | Start::Lost => Place::Newest,
        }
    }
}

/// A part of a room that is read for those who join it.
#[derive(Debug)]
pub(super) struct Opening {
    key: usize,
    place: Place,
    /// The present when it was asked for.
    upto: Position,
    /// Who waits for it, and from where each of them wants to hear.
    waiting: VecDeque<(MemberId, Start)>,
}

impl Opening {
    /// How many entries are counted in the range that is read: as many as make a gap, behind any place within a page.
    pub(super) fn count(&self, backfill_entries: usize, page_entries: usize) -> usize {
        match self.place {
            Place::After(_) => backfill_entries.saturating_add(page_entries).saturating_add(1),
            Place::Newest => 0,
        }
    }
}

/// What has been read, and is being told.
#[derive(Debug)]
struct Opened {
    opening: Opening,
    serial: u32,
    pages: Pages,
}

/// What some of those are answered who wait for the same.
enum Answer {
    /// They are in.
    Joined { bytes: Bytes, entries: usize, upto: Position },
    /// They are told what memory has.
    Tail,
    /// This is not what they need: they ask anew.
    Anew(Start),
}

/// The joins that need the store.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    /// Which of the pending reads are theirs, by room and place.
    by_place: BTreeMap<(usize, Place), usize>,
    /// All of them. Those for a room that is no longer there may have lost their place to others.
    under_way: usize,
    /// Those of them that have come.
    opened: VecDeque<Opened>,
    /// Who waits until fewer are under way, and for which room, by the number of their turn.
    queue: BTreeMap<u64, Waiter>,
    /// The same in the order in which it is their turn: by round, and in each in the order in which they came.
    rounds: BTreeSet<(u64, u64)>,
    /// The same by what they need.
    queue_by_place: BTreeMap<(usize, Place, u64), (MemberId, Start)>,
    /// For how many rooms each of them waits.
    waits: BTreeMap<MemberId, u64>,
    /// The round of whoever had a turn last.
    round: u64,
    last_turn: u64,
}

/// Somebody who waits for a turn.
#[derive(Debug)]
struct Waiter {
    id: MemberId,
    key: usize,
    start: Start,
    round: u64,
}

impl Arrivals {
    /// Reads that are under way, or not yet told.
    pub(super) fn len(&self) -> usize {
        self.under_way
    }

    /// Members that wait until fewer are.
    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Places that are noted down for what is under way or waits.
    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.by_place.len() + self.opened.len() + self.queue_by_place.len() + self.rounds.len() + self.waits.len()
    }

    fn push(&mut self, id: MemberId, key: usize, start: Start) -> u64 {
        self.last_turn += 1;
        let waits = self.waits.entry(id).or_default();
        let round = self.round + *waits;
        *waits += 1;
        self.queue.insert(self.last_turn, Waiter { id, key, start, round });
        self.rounds.insert((round, self.last_turn));
        self.queue_by_place.insert((key, Place::of(start), self.last_turn), (id, start));
        self.last_turn
    }

    /// Somebody does not wait any more.
    pub(super) fn remove(&mut self, turn: u64) {
        self.take(turn);
    }

    fn take(&mut self, turn: u64) -> Option<Waiter> {
        let waiter = self.queue.remove(&turn)?;
        self.rounds.remove(&(waiter.round, turn));
        self.queue_by_place.remove(&(waiter.key, Place::of(waiter.start), turn));
        if let Entry::Occupied(mut waits) = self.waits.entry(waiter.id) {
            *waits.get_mut() -= 1;
            if *waits.get() == 0 {
                waits.remove();
            }
        }
        debug_assert_eq!(self.queue.is_empty(), self.waits.is_empty());
        Some(waiter)
    }

    fn pop(&mut self) -> Option<Waiter> {
        let &(round, turn) = self.rounds.first()?;
        self.round = round;
        self.take(turn)
    }

    /// Takes out those whom a read at this place serves.
    fn take_near(&mut self, key: usize, place: Place, page_entries: usize) -> VecDeque<(MemberId, Start)> {
        let last = match place {
            // As many positions as a page has entries hold no more entries than that.
            Place::After(Position(after)) => Place::After(Position(after.saturating_add(page_entries as u64 - 1))),
            Place::Newest => place,
        };
        let near = self.queue_by_place.range((key, place, 0)..=(key, last, u64::MAX));
        let (turns, taken): (Vec<u64>, _) = near.map(|((_, _, turn), waiting)| (*turn, *waiting)).unzip();
        turns.into_iter().for_each(|turn| self.remove(turn));
        taken
    }
}

impl Hub {
    /// Lets a joiner wait for what it is told: for a read that is under way, if it will bring that, or for one of its own, or
    /// until there may be another.
    pub(super) fn open(&mut self, id: MemberId, key: usize, start: Start, commands: &mut Vec<Command>) {
        let (place, limit) = (Place::of(start), self.bounds.page_entries);
        if self.wait_with_others(id, key, start) {
            return;
        }
        if self.arrivals.under_way >= self.bounds.join_reads {
            let turn = self.arrivals.push(id, key, start);
            self.stand(id, key, Standing::Waiting { turn });
            return;
        }
        let upto = self.journaled.position;
        let range = match place {
            Place::After(after) => Range::After { after, upto },
            Place::Newest => Range::Before(upto.next()),
        };
        let mut waiting = self.arrivals.take_near(key, place, limit);
        // Whoever takes others along has waited for longest.
        waiting.push_front((id, start));
        let joiners: Vec<MemberId> = waiting.iter().map(|(id, _)| *id).collect();
        let opening = Opening { key, place, upto, waiting };
        let (serial, pending) = self.read(self.rooms[key].name.clone(), range, limit, Whom::Joining(opening), commands);
        self.arrivals.by_place.insert((key, place), pending);
        self.arrivals.under_way += 1;
        for joiner in joiners {
            self.stand(joiner, key, Standing::Reading { serial });
        }
    }

    /// Lets a joiner wait for a read that is under way, if that has all that was said until now and it needs.
    fn wait_with_others(&mut self, id: MemberId, key: usize, start: Start) -> bool {
        let (place, limit) = (Place::of(start), self.bounds.page_entries);
        let least = match place {
            Place::After(_) => Place::After(Position::START),
            Place::Newest => place,
        };
        let nearest = self.arrivals.by_place.range((key, least)..=(key, place)).next_back();
        let room = &self.rooms[key];
        let tail = room.tail.last().max(room.tail.known_from());
        let present = room.news.last().map_or(tail, |last| last.position);
        if let Some(pending) = nearest.and_then(|(_, pending)| self.reads.get_mut(*pending))
            && pending.room == room.name
            && let Whom::Joining(opening) = &mut pending.whom
            && present <= opening.upto
            && match (opening.place, place) {
                (Place::After(from), Place::After(after)) => after.0 - from.0 < limit as u64 && after <= opening.upto,
                (from, place) => from == place,
            }
        {
            opening.waiting.push_back((id, start));
            let serial = pending.serial;
            self.stand(id, key, Standing::Reading { serial });
            return true;
        }
        false
    }

    /// Whether somebody waits for a read that may be under way now, or for what has been read.
    pub(super) fn may_open(&self) -> bool {
        !self.arrivals.opened.is_empty()
            || !self.arrivals.queue.is_empty() && self.arrivals.under_way < self.bounds.join_reads
    }

    /// Goes on with those who have waited until fewer reads are under way. What they need may be in memory meanwhile.
    pub(super) fn open_next<S: Stage>(&mut self, stage: &mut S, commands: &mut Vec<Command>) {
        for _ in 0..self.bounds.feeds_per_commit {
            if self.arrivals.under_way >= self.bounds.join_reads {
                return;
            }
            let Some(Waiter { id, key, start, .. }) = self.arrivals.pop() else { return };
            self.stand(id, key, Standing::Joining(start));
            self.feed(id, stage, commands);
        }
    }

    /// Takes what was read for those who join. They are told in the next commits, so many in each.
    pub(super) fn take_opening(&mut self, mut opening: Opening, (pending, serial): (usize, u32), pages: Pages) {
        if self.arrivals.by_place.get(&(opening.key, opening.place)) == Some(&pending) {
            self.arrivals.by_place.remove(&(opening.key, opening.place));
        }
        // Of somebody who has left the room and come back while this was read, only the last place counts.
        let mut seen = HashSet::with_capacity(opening.waiting.len());
        opening.waiting = opening.waiting.into_iter().rev().filter(|(id, _)| seen.insert(*id)).collect();
        let waiting = opening.waiting.make_contiguous();
        waiting.reverse();
        // Those who are told the same come one after another, so that it is made once.
        waiting.sort_by_key(|(_, start)| (Place::of(*start), *start == Start::Lost));
        self.arrivals.opened.push_back(Opened { opening, serial, pages });
    }

    /// Tells those who join what was read for them.
    pub(super) fn tell_opened<S: Stage>(&mut self, stage: &mut S) {
        let mut left = self.bounds.feeds_per_commit;
        while let Some(mut opened) = self.arrivals.opened.pop_front() {
            self.tell_some(&mut opened, &mut left, stage);
            if !opened.opening.waiting.is_empty() {
                self.arrivals.opened.push_front(opened);
                return;
            }
            self.arrivals.under_way -= 1;
        }
    }

    /// Tells as many as are `left` to be told in this commit.
    fn tell_some<S: Stage>(&mut self, opened: &mut Opened, left: &mut usize, stage: &mut S) {
        let key = opened.opening.key;
        let mut latest: Option<(Start, Answer)> = None;
        while let Some(&(id, start)) = opened.opening.waiting.front() {
            // It may have left the room, and come back, in the meantime: then this is not what it waits for.
            let waits = |seat: &mut Seat| seat.standing == Standing::Reading { serial: opened.serial };
            if !self.seat_mut(id, key).is_some_and(waits) {
                opened.opening.waiting.pop_front();
                continue;
            }
            if *left == 0 {
                return;
            }
            *left -= 1;
            opened.opening.waiting.pop_front();
            let answer = match &mut latest {
                Some((of, answer)) if *of == start => answer,
                latest => &latest.insert((start, self.answer::<S>(key, start, opened))).1,
            };
            let fed = match answer {
                Answer::Joined { bytes, entries, upto } => self.let_in(id, key, start, (bytes, *entries, *upto), stage),
                Answer::Tail => self.tell_tail(id, key, start, stage),
                Answer::Anew(start) => {
                    self.stand(id, key, Standing::Joining(*start));
                    Fed::Enough
                }
            };
            if fed == Fed::Enough {
                self.drained(id);
            }
        }
    }

    /// What whoever joins from here is answered, now that this was read.
    fn answer<S: Stage>(&mut self, key: usize, start: Start, opened: &Opened) -> Answer {
        let Opened { opening, pages, .. } = opened;
        let (Start::After(after), Ok(entries)) = (start, &pages.entries) else {
            return match (start, &pages.entries) {
                (Start::After(_), _) => Answer::Anew(Start::Lost),
                (_, Ok(entries)) => {
                    let (gap, older) = (start == Start::Lost, pages.more);
                    let joined = Joined { entries, upto: opening.upto, gap, more: false, older, missed: None };
                    self.answer_of::<S>(key, &joined)
                }
                // Better what there is than nothing: the rest can be asked for when it can be read again.
                (_, Err(_)) => Answer::Tail,
            };
        };
        if pages.floor > after {
            return Answer::Anew(Start::Lost);
        }
        let heard = entries.partition_point(|entry| entry.position <= after);
        if pages.more && heard == entries.len() {
            // The page ended before the place where it is, and more of what it has heard may come behind.
            return Answer::Anew(start);
        }
        let missed = pages.in_range.saturating_sub(heard as u64);
        if missed > self.bounds.backfill_entries as u64 {
            return Answer::Anew(Start::Lost);
        }
        let entries = &entries[heard..];
        let upto = entries.last().filter(|_| pages.more).map_or(opening.upto, |last| last.position);
        let (more, older) = (pages.more, after > Position::START);
        self.answer_of::<S>(key, &Joined { entries, upto, gap: false, more, older, missed: Some(missed) })
    }

    fn answer_of<S: Stage>(&mut self, key: usize, joined: &Joined<'_>) -> Answer {
        Answer::Joined { bytes: self.joined::<S>(key, joined), entries: joined.entries.len(), upto: joined.upto }
    }

    /// What was read before something was lost is told to nobody: they ask anew.
    pub(super) fn close_opened(&mut self) {
        for Opened { opening, serial, .. } in std::mem::take(&mut self.arrivals.opened) {
            self.arrivals.under_way -= 1;
            for (id, start) in opening.waiting {
                let waits = |seat: &&mut Seat| seat.standing == Standing::Reading { serial };
                if let Some(seat) = self.seat_mut(id, opening.key).filter(waits) {
                    seat.standing = Standing::Joining(start);
                    self.drained(id);
                }
            }
        }
    }
}
