//! Rooms come into being when somebody enters or is heard in them, and are forgotten when nothing of them is worth
//! keeping: bounds on tails and on rooms that have nothing but a tail.

use super::{DIALECTS, Hub, Presence, Room, RoomName, Tail, ephemeral};

impl Hub {
    /// The room of that name, which is made if need be.
    pub(super) fn room(&mut self, name: RoomName) -> usize {
        let (rooms, forgotten, commits) = (&mut self.rooms, self.forgotten, self.commits);
        *self.by_name.entry(name).or_insert_with_key(|name| {
            self.empty_rooms += 1;
            rooms.insert(Room {
                name: name.clone(),
                live: [const { Vec::new() }; DIALECTS],
                members: 0,
                news: Vec::new(),
                tail: Tail::new(forgotten),
                presence: Presence::default(),
                updates: 0,
                typing: ephemeral::Typing::default(),
                is_restless: false,
                used: commits,
            })
        })
    }

    /// Drops the tails unused for longest until a tenth of the bound is free, so that this is not done every turn. What was
    /// recalled has a part of the bound.
    pub(super) fn trim_tails(&mut self) {
        let mut by_use: Vec<(u64, usize)> = self.rooms.iter().map(|(key, room)| (room.used, key)).collect();
        by_use.sort_unstable();
        let enough = (self.bounds.tails_total_bytes / 10 * 9).saturating_sub(self.recalled.bytes());
        for (_, key) in by_use {
            let room = &mut self.rooms[key];
            while self.tails_bytes > enough && !room.tail.is_empty() {
                self.tails_bytes -= room.tail.bytes();
                room.tail.drop_front();
                self.tails_bytes += room.tail.bytes();
            }
            self.forget_if_useless(key);
            if self.tails_bytes <= enough {
                return;
            }
        }
    }

    /// Forgets the empty rooms unused for longest until a tenth of the bound is free.
    pub(super) fn forget_rooms(&mut self) {
        let empty = self.rooms.iter().filter(|(_, room)| room.members == 0 && room.news.is_empty());
        let mut by_use: Vec<(u64, usize)> = empty.map(|(key, room)| (room.used, key)).collect();
        by_use.sort_unstable();
        let too_many = self.empty_rooms.saturating_sub(self.bounds.max_tails / 10 * 9);
        for (_, key) in by_use.into_iter().take(too_many) {
            self.forget(key);
        }
    }

    /// Forgets a room in which there is nobody and of which nothing is kept.
    pub(super) fn forget_if_useless(&mut self, key: usize) {
        let room = &self.rooms[key];
        if room.members == 0 && room.tail.is_empty() && room.news.is_empty() {
            self.forget(key);
        }
    }

    fn forget(&mut self, key: usize) {
        let room = self.rooms.remove(key);
        self.by_name.remove(&room.name);
        if room.is_restless {
            self.restless.retain(|restless| *restless != key);
        }
        self.empty_rooms -= 1;
        self.tails_bytes -= room.tail.bytes();
        self.forgotten = self.forgotten.max(room.tail.last());
    }
}
