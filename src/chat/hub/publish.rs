//! What the journal has emitted is handed to those who are live, and kept in the rooms' tails for the others.

use super::{Batch, Command, Dialect, Entry, Hub, Stage, Standing};

impl Hub {
    /// Takes an entry that the journal has emitted. It is handed out by the next [`commit`](Hub::commit).
    pub fn committed(&mut self, entry: Entry) {
        debug_assert!(entry.position > self.journaled.position, "the journal emits in order");
        self.journaled.position = entry.position;
        self.landed(entry.origin);
        let room = match self.by_name.get(&entry.room) {
            Some(room) => *room,
            None => self.room(entry.room.clone()),
        };
        if let Some(author) = entry.author.as_ref().filter(|_| entry.origin.is_none()) {
            // Who has written at another instance is not writing any more.
            self.wrote(room, author.id);
        }
        let news = &mut self.rooms[room].news;
        if news.is_empty() {
            self.talked.push(room);
        }
        news.push(entry);
    }

    /// Feeds those who are behind, then hands out the news, each room's in one batch per dialect.
    pub fn commit<S: Stage>(&mut self, stage: &mut S, commands: &mut Vec<Command>) {
        self.commits += 1;
        if !self.ahead.is_empty() {
            self.welcome_awaited();
        }
        if self.may_open() {
            self.tell_opened(stage);
            self.open_next(stage, commands);
        }
        self.recall_next(stage, commands);
        for _ in 0..self.hungry.len().min(self.bounds.feeds_per_commit) {
            let Some(member) = self.hungry.pop_front() else { break };
            self.feed(member, stage, commands);
        }
        for room in std::mem::take(&mut self.talked) {
            self.publish(room, stage);
        }
        if self.catching_up == 0 {
            self.recalled.clear();
        }
        if self.tails_bytes() > self.bounds.tails_total_bytes {
            self.trim_tails();
        }
        if self.empty_rooms > self.bounds.max_tails {
            self.forget_rooms();
        }
    }

    /// Hands a room's news to its live members, and keeps it in the tail for the others.
    fn publish<S: Stage>(&mut self, key: usize, stage: &mut S) {
        let room = &mut self.rooms[key];
        let mut batch = Batch::new(std::mem::take(&mut room.news));
        // Not the last entry of the tail: a member may have been told that it knows the room up to a later position.
        let before = batch.first().before();
        for dialect in Dialect::ALL {
            if self.rooms[key].live[dialect.index()].is_empty() {
                continue;
            }
            let (scratch, epoch) = (&mut self.scratch, self.journaled.epoch);
            let mut encode = |dialect: Dialect, entry: &Entry, out: &mut Vec<u8>| {
                dialect.encode(entry, epoch, S::frame, scratch, out);
            };
            let bytes = batch.encoded(dialect, &mut encode).clone();
            let mut place = 0;
            while let Some(&member) = self.rooms[key].live[dialect.index()].get(place) {
                if stage.offer(member, &bytes, batch.len()) {
                    place += 1;
                } else {
                    self.unseat(key, dialect, place);
                    let updates = self.rooms[key].updates;
                    let seat = self.seat_mut(member, key).expect("whoever is live has a seat");
                    seat.standing = Standing::CatchingUp { after: before };
                    seat.knows_update = updates;
                    self.catching_up += 1;
                }
            }
        }
        let room = &mut self.rooms[key];
        room.used = self.commits;
        self.tails_bytes -= room.tail.bytes();
        room.tail.append(batch, self.bounds.tail_entries, self.bounds.tail_bytes);
        self.tails_bytes += room.tail.bytes();
    }

    /// Takes whoever stands at `place` out of a room's live list; the last in the list takes the place.
    pub(super) fn unseat(&mut self, room: usize, dialect: Dialect, place: usize) {
        let live = &mut self.rooms[room].live[dialect.index()];
        live.swap_remove(place);
        if let Some(&moved) = live.get(place) {
            let seat = self.seat_mut(moved, room).expect("whoever is live has a seat");
            seat.standing = Standing::Live { place };
        }
    }
}
