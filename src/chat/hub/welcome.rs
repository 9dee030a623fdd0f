//! What a member is told when it joins a room, from the tail or from the store.

use bytes::Bytes;

use super::ephemeral::framed;
use super::feed::Fed;
use super::{Command, Entry, Hub, MemberId, Position, Stage, Standing, Start};
use crate::chat::v1::{Members, Person, Reply, Said};

/// What a joiner is told.
pub(super) struct Joined<'a> {
    pub(super) entries: &'a [Entry],
    /// Everything up to here is in the entries, or was before them.
    pub(super) upto: Position,
    pub(super) gap: bool,
    pub(super) more: bool,
    pub(super) older: bool,
    pub(super) missed: Option<u64>,
}

impl Hub {
    /// Finds out what a joiner of chat.v1 has missed, and tells it, at once if the tail reaches back far enough.
    pub(super) fn welcome<S: Stage>(
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
                    entries: &entries,
                    gap: false,
                    more,
                    older: after > Position::START,
                    missed: Some(missed as u64),
                };
                self.told(id, key, start, &joined, stage)
            }
            Start::After(after) if after <= upto && self.journaled.keeps_history => {
                self.open(id, key, start, commands);
                Fed::Enough
            }
            Start::After(_) | Start::Ahead { .. } | Start::Lost => {
                self.welcome_newest(id, key, Start::Lost, stage, commands)
            }
            Start::Newest | Start::Present => self.welcome_newest(id, key, Start::Newest, stage, commands),
        }
    }

    /// A stream that had to wait goes on from where it was, or is told that this cannot be.
    pub(super) fn resume_stream<S: Stage>(&mut self, id: MemberId, key: usize, start: Start, stage: &mut S) -> Fed {
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
        let (entries, is_cut) = self.newest_in_memory(key);
        let is_page = is_cut || entries.len() == self.bounds.page_entries;
        if is_page || self.rooms[key].tail.floor() == Position::START || !self.journaled.keeps_history {
            self.tell_newest(id, key, start, (&entries, is_cut), stage)
        } else {
            self.open(id, key, start, commands);
            Fed::Enough
        }
    }

    /// Tells a joiner of chat.v1 the newest entries of the tail, however few they are.
    pub(super) fn tell_tail<S: Stage>(&mut self, id: MemberId, key: usize, start: Start, stage: &mut S) -> Fed {
        let (entries, is_cut) = self.newest_in_memory(key);
        self.tell_newest(id, key, start, (&entries, is_cut), stage)
    }

    /// The newest entries of the tail, as many as are told at once, and whether it has others before them.
    fn newest_in_memory(&self, key: usize) -> (Vec<Entry>, bool) {
        let tail = &self.rooms[key].tail;
        let entries = tail.before(Position(u64::MAX), self.page_size());
        let is_cut = entries.first().is_some_and(|first| tail.reaches_before(first.position));
        (entries, is_cut)
    }

    fn tell_newest<S: Stage>(
        &mut self,
        id: MemberId,
        key: usize,
        start: Start,
        (entries, is_cut): (&[Entry], bool),
        stage: &mut S,
    ) -> Fed {
        let tail = &self.rooms[key].tail;
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
    fn told<S: Stage>(&mut self, id: MemberId, key: usize, start: Start, joined: &Joined<'_>, stage: &mut S) -> Fed {
        let told = self.joined::<S>(key, joined);
        self.let_in(id, key, start, (&told, joined.entries.len(), joined.upto), stage)
    }

    /// What a joiner of chat.v1 is told.
    pub(super) fn joined<S: Stage>(&mut self, key: usize, joined: &Joined<'_>) -> Bytes {
        let names = self.tell_names(key);
        let room = &self.rooms[key];
        framed::<S>(&Reply::Joined {
            room: room.name.as_str(),
            epoch: self.journaled.epoch.to_string(),
            position: joined.upto.0,
            entries: Said::all_within(joined.entries),
            gap: joined.gap,
            more: joined.more,
            missed: joined.missed,
            older: joined.older,
            members: Members { count: room.presence.count(), names: Person::all(&names) },
        })
    }

    /// Gives a joiner of chat.v1 what it is told: so many entries, with which it knows the room up to a position.
    pub(super) fn let_in<S: Stage>(
        &mut self,
        id: MemberId,
        key: usize,
        start: Start,
        (told, entries, upto): (&Bytes, usize, Position),
        stage: &mut S,
    ) -> Fed {
        if !stage.offer(id, told, entries) {
            self.stand(id, key, Standing::Joining(start));
            return Fed::Full;
        }
        let updates = self.rooms[key].updates;
        if let Some(seat) = self.seat_mut(id, key) {
            seat.standing = Standing::CatchingUp { after: upto };
            (seat.knows_update, seat.missed_presence) = (updates, false);
        }
        Fed::Enough
    }
}
