//! Rooms and their members: who hears what, and when.
//!
//! Members come by [`Hub::join`] and go by [`Hub::leave`]; what the journal has ordered comes in through
//! [`Hub::committed`]. Once per turn, [`Hub::commit`] feeds those who are behind, hands each room's news to those who
//! are not, and carries it out on a [`Stage`]. In between nothing is sent to anybody.
//!
//! A member of a room is live or catching up. A live one is offered the turn's batch; when its outbox has no room for
//! it, it is catching up from there. One who is catching up is given pages of the room's tail whenever its outbox has
//! drained, and becomes live in the comparison that finds it level with the room, before the turn's own batch is
//! handed out: so what was missed and what is new meet without gap or repeat.

use std::collections::HashMap;

use bytes::Bytes;
use slab::Slab;
use smallvec::SmallVec;

use crate::limits::Limits;

use super::dialect::{DIALECTS, Dialect, Message};
use super::entry::{Content, Draft, Entry, MemberId, Position, RoomName, Timestamp};
use super::tail::{Batch, Page, Tail};

/// Where the hub's decisions are carried out.
pub trait Stage {
    /// Queues a batch of so many `entries` for a member, whole or not at all.
    ///
    /// `false` means that its outbox is above high water. Its owner then calls [`Hub::drained`] once it has emptied.
    #[must_use]
    fn offer(&mut self, member: MemberId, batch: &Bytes, entries: usize) -> bool;

    /// Appends the frame that carries `message`.
    fn frame(message: Message<'_>, out: &mut Vec<u8>);
}

/// What the hub wants done beyond offering batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// The member needs entries that are no longer kept: it must be told, and start anew.
    FellBehind(MemberId),
}

/// All rooms, all members.
#[derive(Debug)]
pub struct Hub {
    rooms: Slab<Room>,
    by_name: HashMap<RoomName, usize>,
    members: Vec<Option<Member>>,
    present: usize,
    catching_up: usize,
    /// The last entry that was committed.
    position: Position,
    /// The last entry of any room that has been forgotten altogether.
    forgotten: Position,
    /// Rooms with news in this turn.
    talked: Vec<usize>,
    /// Members that may be given a page in this turn.
    hungry: Vec<MemberId>,
    tails_bytes: usize,
    /// Rooms kept for their tail alone.
    empty_rooms: usize,
    commits: u64,
    bounds: Bounds,
}

#[derive(Debug)]
struct Bounds {
    tail_entries: usize,
    tail_bytes: usize,
    tails_total_bytes: usize,
    max_tails: usize,
    page_bytes: usize,
}

#[derive(Debug)]
struct Room {
    name: RoomName,
    live: [Vec<MemberId>; DIALECTS],
    members: usize,
    news: Vec<Entry>,
    tail: Tail,
    /// The commit that last brought news, so that the tail unused for longest can go first.
    used: u64,
}

#[derive(Debug)]
struct Member {
    serial: u32,
    dialect: Dialect,
    is_hungry: bool,
    seats: SmallVec<[Seat; 1]>,
}

/// A member's place in one room.
#[derive(Debug)]
struct Seat {
    room: usize,
    standing: Standing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It is offered each batch. `place` is where it stands in the room's list.
    Live { place: usize },
    /// It has heard everything up to and with `after`.
    CatchingUp { after: Position },
}

impl Hub {
    /// No rooms, nobody there.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Hub {
            rooms: Slab::new(),
            by_name: HashMap::new(),
            members: Vec::new(),
            present: 0,
            catching_up: 0,
            position: Position::START,
            forgotten: Position::START,
            talked: Vec::new(),
            hungry: Vec::new(),
            tails_bytes: 0,
            empty_rooms: 0,
            commits: 0,
            bounds: Bounds {
                tail_entries: limits.tail_entries,
                tail_bytes: limits.tail_bytes,
                tails_total_bytes: limits.tails_total_bytes,
                max_tails: limits.max_tails,
                page_bytes: limits.outbox_high_water_bytes,
            },
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

    /// Rooms with members.
    #[must_use]
    pub fn rooms(&self) -> usize {
        self.rooms.len() - self.empty_rooms
    }

    /// Bytes that all tails hold, about.
    #[must_use]
    pub fn tails_bytes(&self) -> usize {
        self.tails_bytes
    }

    /// Takes a member into a room, from the present on: it hears what is committed from now.
    ///
    /// # Panics
    ///
    /// When another member with the same slot has not left.
    pub fn join(&mut self, member: MemberId, dialect: Dialect, room: RoomName) {
        let room = self.room(room);
        if self.rooms[room].members == 0 {
            self.empty_rooms -= 1;
        }
        self.rooms[room].members += 1;
        let slot = member.slot as usize;
        if slot >= self.members.len() {
            self.members.resize_with(slot + 1, || None);
        }
        assert!(self.members[slot].is_none(), "the former member of slot {slot} has not left");
        let standing = Standing::CatchingUp { after: self.position };
        let seats = SmallVec::from_buf([Seat { room, standing }]);
        self.members[slot] = Some(Member { serial: member.serial, dialect, is_hungry: false, seats });
        self.present += 1;
        self.catching_up += 1;
        self.drained(member);
    }

    /// Takes a member out of all its rooms.
    pub fn leave(&mut self, member: MemberId) {
        if self.member(member).is_none() {
            return;
        }
        let gone = self.members[member.slot as usize].take().expect("found in the line before");
        self.present -= 1;
        if self.present == 0 {
            self.members = Vec::new();
        }
        for seat in &gone.seats {
            match seat.standing {
                Standing::Live { place } => self.unseat(seat.room, gone.dialect, place),
                Standing::CatchingUp { .. } => self.catching_up -= 1,
            }
            let room = &mut self.rooms[seat.room];
            room.members -= 1;
            if room.members == 0 {
                room.live = [const { Vec::new() }; DIALECTS];
                self.empty_rooms += 1;
                self.forget_if_useless(seat.room);
            }
        }
    }

    /// What a member says, as a draft for its room; `None` if it is not there. The content is copied here, so that
    /// what is kept never keeps a read buffer alive.
    #[must_use]
    pub fn draft(&self, member: MemberId, message: Message<'_>, at: Timestamp) -> Option<Draft> {
        let seat = self.member(member)?.seats.first()?;
        let content = match message {
            Message::Text(text) => Content::Text(Bytes::copy_from_slice(text)),
            Message::Binary(bytes) => Content::Binary(Bytes::copy_from_slice(bytes)),
        };
        let room = self.rooms[seat.room].name.clone();
        Some(Draft { room, origin: Some(member), author: None, nonce: None, at, content })
    }

    /// The outbox of a member that was turned away has drained: it may be given a page in the next commit.
    pub fn drained(&mut self, member: MemberId) {
        let Some(found) = self.member_mut(member) else { return };
        let is_behind = found.seats.iter().any(|seat| matches!(seat.standing, Standing::CatchingUp { .. }));
        if is_behind && !found.is_hungry {
            found.is_hungry = true;
            self.hungry.push(member);
        }
    }

    /// Takes an entry that the journal has emitted. It is handed out by the next [`commit`](Hub::commit).
    pub fn committed(&mut self, entry: Entry) {
        debug_assert!(entry.position > self.position, "the journal emits in order");
        self.position = entry.position;
        let room = match self.by_name.get(&entry.room) {
            Some(room) => *room,
            None => self.room(entry.room.clone()),
        };
        let news = &mut self.rooms[room].news;
        if news.is_empty() {
            self.talked.push(room);
        }
        news.push(entry);
    }

    /// Feeds those who are behind, then hands out the news, each room's in one batch per dialect.
    pub fn commit<S: Stage>(&mut self, stage: &mut S, commands: &mut Vec<Command>) {
        self.commits += 1;
        for member in std::mem::take(&mut self.hungry) {
            self.feed(member, stage, commands);
        }
        for room in std::mem::take(&mut self.talked) {
            self.publish(room, stage);
        }
        if self.tails_bytes > self.bounds.tails_total_bytes {
            self.trim_tails();
        }
        if self.empty_rooms > self.bounds.max_tails {
            self.forget_rooms();
        }
    }

    /// Gives a member pages until it is level with its rooms or its outbox is full again.
    fn feed<S: Stage>(&mut self, id: MemberId, stage: &mut S, commands: &mut Vec<Command>) {
        let Some(member) = self.members.get_mut(id.slot as usize).and_then(Option::as_mut) else { return };
        if member.serial != id.serial {
            return;
        }
        member.is_hungry = false;
        for seat in &mut member.seats {
            let Standing::CatchingUp { mut after } = seat.standing else { continue };
            let room = &mut self.rooms[seat.room];
            loop {
                let mut encode =
                    |dialect: Dialect, entry: &Entry, out: &mut Vec<u8>| S::frame(dialect.message(entry), out);
                match room.tail.page(after, self.bounds.page_bytes, member.dialect, &mut encode) {
                    Page::Level => {
                        let live = &mut room.live[member.dialect.index()];
                        seat.standing = Standing::Live { place: live.len() };
                        live.push(id);
                        self.catching_up -= 1;
                        break;
                    }
                    Page::Bytes { bytes, entries, reaches } => {
                        if !stage.offer(id, &bytes, entries) {
                            break;
                        }
                        after = reaches;
                        seat.standing = Standing::CatchingUp { after };
                    }
                    Page::Gone => {
                        commands.push(Command::FellBehind(id));
                        break;
                    }
                }
            }
        }
    }

    /// Hands a room's news to its live members, and keeps it in the tail for the others.
    fn publish<S: Stage>(&mut self, key: usize, stage: &mut S) {
        let room = &mut self.rooms[key];
        let mut batch = Batch::new(std::mem::take(&mut room.news));
        let before = room.tail.last();
        for dialect in Dialect::ALL {
            if self.rooms[key].live[dialect.index()].is_empty() {
                continue;
            }
            let mut encode = |dialect: Dialect, entry: &Entry, out: &mut Vec<u8>| S::frame(dialect.message(entry), out);
            let bytes = batch.encoded(dialect, &mut encode).clone();
            let mut place = 0;
            while let Some(&member) = self.rooms[key].live[dialect.index()].get(place) {
                if stage.offer(member, &bytes, batch.len()) {
                    place += 1;
                } else {
                    self.unseat(key, dialect, place);
                    let seat = self.seat_mut(member, key).expect("whoever is live has a seat");
                    seat.standing = Standing::CatchingUp { after: before };
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
    fn unseat(&mut self, room: usize, dialect: Dialect, place: usize) {
        let live = &mut self.rooms[room].live[dialect.index()];
        live.swap_remove(place);
        if let Some(&moved) = live.get(place) {
            let seat = self.seat_mut(moved, room).expect("whoever is live has a seat");
            seat.standing = Standing::Live { place };
        }
    }

    /// Drops the tails unused for longest until a tenth of the bound is free, so that this is not done every turn.
    fn trim_tails(&mut self) {
        let mut by_use: Vec<(u64, usize)> = self.rooms.iter().map(|(key, room)| (room.used, key)).collect();
        by_use.sort_unstable();
        let enough = self.bounds.tails_total_bytes / 10 * 9;
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
    fn forget_rooms(&mut self) {
        let empty = self.rooms.iter().filter(|(_, room)| room.members == 0 && room.news.is_empty());
        let mut by_use: Vec<(u64, usize)> = empty.map(|(key, room)| (room.used, key)).collect();
        by_use.sort_unstable();
        let too_many = self.empty_rooms.saturating_sub(self.bounds.max_tails / 10 * 9);
        for (_, key) in by_use.into_iter().take(too_many) {
            self.forget(key);
        }
    }

    /// Forgets a room in which there is nobody and of which nothing is kept.
    fn forget_if_useless(&mut self, key: usize) {
        let room = &self.rooms[key];
        if room.members == 0 && room.tail.is_empty() && room.news.is_empty() {
            self.forget(key);
        }
    }

    fn forget(&mut self, key: usize) {
        let room = self.rooms.remove(key);
        self.by_name.remove(&room.name);
        self.empty_rooms -= 1;
        self.tails_bytes -= room.tail.bytes();
        self.forgotten = self.forgotten.max(room.tail.last());
    }

    /// The room of that name, which is made if need be.
    fn room(&mut self, name: RoomName) -> usize {
        let (rooms, forgotten, commits) = (&mut self.rooms, self.forgotten, self.commits);
        *self.by_name.entry(name).or_insert_with_key(|name| {
            self.empty_rooms += 1;
            rooms.insert(Room {
                name: name.clone(),
                live: [const { Vec::new() }; DIALECTS],
                members: 0,
                news: Vec::new(),
                tail: Tail::new(forgotten),
                used: commits,
            })
        })
    }

    fn member(&self, id: MemberId) -> Option<&Member> {
        self.members.get(id.slot as usize)?.as_ref().filter(|member| member.serial == id.serial)
    }

    fn member_mut(&mut self, id: MemberId) -> Option<&mut Member> {
        self.members.get_mut(id.slot as usize)?.as_mut().filter(|member| member.serial == id.serial)
    }

    fn seat_mut(&mut self, id: MemberId, room: usize) -> Option<&mut Seat> {
        self.member_mut(id)?.seats.iter_mut().find(|seat| seat.room == room)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Outboxes of text: each takes batches until it holds `room` bytes.
    #[derive(Default)]
    struct Outboxes {
        heard: BTreeMap<u32, String>,
        waiting: BTreeMap<u32, usize>,
        room: usize,
    }

    impl Stage for Outboxes {
        fn offer(&mut self, member: MemberId, batch: &Bytes, entries: usize) -> bool {
            let waiting = self.waiting.entry(member.slot).or_default();
            if *waiting > self.room {
                return false;
            }
            *waiting += batch.len();
            let text = std::str::from_utf8(batch).unwrap();
            assert_eq!(text.matches('|').count(), entries);
            self.heard.entry(member.slot).or_default().push_str(text);
            true
        }

        fn frame(message: Message<'_>, out: &mut Vec<u8>) {
            let (Message::Text(bytes) | Message::Binary(bytes)) = message;
            out.extend_from_slice(bytes);
            out.push(b'|');
        }
    }

    struct Chat {
        hub: Hub,
        stage: Outboxes,
        commands: Vec<Command>,
        position: Position,
    }

    impl Chat {
        fn new(limits: &Limits, room: usize) -> Self {
            let stage = Outboxes { room, ..Outboxes::default() };
            Chat { hub: Hub::new(limits), stage, commands: Vec::new(), position: Position::START }
        }

        fn join(&mut self, slot: u32, room: &str) {
            self.hub.join(member(slot), Dialect::Raw, name(room));
        }

        fn say(&mut self, slot: u32, text: &str) {
            let draft = self.hub.draft(member(slot), Message::Text(text.as_bytes()), Timestamp(0)).unwrap();
            self.position = self.position.next();
            self.hub.committed(draft.at(self.position));
        }

        fn commit(&mut self) {
            self.hub.commit(&mut self.stage, &mut self.commands);
        }

        fn drain(&mut self, slot: u32) {
            self.stage.waiting.remove(&slot);
            self.hub.drained(member(slot));
        }

        fn heard(&self, slot: u32) -> &str {
            self.stage.heard.get(&slot).map_or("", String::as_str)
        }
    }

    fn member(slot: u32) -> MemberId {
        MemberId { slot, serial: 7 }
    }

    fn name(room: &str) -> RoomName {
        RoomName::new(room, 64).unwrap()
    }

    #[test]
    fn everyone_in_a_room_hears_everything_in_order_and_nobody_else_does() {
        let mut chat = Chat::new(&Limits::default(), 1000);
        chat.join(0, "a");
        chat.join(1, "a");
        chat.join(2, "b");
        chat.say(0, "1");
        chat.say(1, "2");
        chat.say(2, "3");
        chat.commit();
        chat.say(0, "4");
        chat.commit();
        assert_eq!((chat.heard(0), chat.heard(1), chat.heard(2)), ("1|2|4|", "1|2|4|", "3|"));
    }

    #[test]
    fn who_joins_hears_from_now_on() {
        let mut chat = Chat::new(&Limits::default(), 1000);
        chat.join(0, "a");
        chat.say(0, "before");
        chat.commit();
        chat.join(1, "a");
        chat.say(0, "after");
        chat.commit();
        assert_eq!(chat.heard(1), "after|");
    }

    #[test]
    fn a_slow_member_catches_up_without_gap_or_repeat_and_meets_the_present() {
        let mut chat = Chat::new(&Limits::default(), 4);
        chat.join(0, "a");
        chat.join(1, "a");
        let mut expected = String::new();
        for number in 100..140 {
            chat.say(0, &number.to_string());
            expected += &format!("{number}|");
            if number % 3 == 0 {
                chat.commit();
                chat.drain(0);
            }
            if number == 120 {
                assert!(chat.hub.catching_up() > 0);
                chat.drain(1);
            }
        }
        chat.commit();
        while chat.hub.catching_up() > 0 {
            chat.drain(0);
            chat.drain(1);
            chat.commit();
        }
        assert_eq!(chat.heard(0), expected);
        assert_eq!(chat.heard(1), expected);
        assert_eq!(chat.commands, []);
    }

    #[test]
    fn who_fell_behind_what_is_kept_is_told_so() {
        let limits = Limits { tail_entries: 3, ..Limits::default() };
        let mut chat = Chat::new(&limits, 0);
        chat.join(0, "a");
        chat.join(1, "a");
        for number in 0..10 {
            chat.say(0, &number.to_string());
            chat.commit();
            chat.drain(0);
        }
        assert_eq!(chat.commands, []);
        chat.drain(1);
        chat.commit();
        assert_eq!(chat.commands, [Command::FellBehind(member(1))]);
        assert_eq!(chat.heard(1), "0|", "nothing is skipped silently");
    }

    #[test]
    fn a_former_tenant_of_a_slot_is_nobody() {
        let mut chat = Chat::new(&Limits::default(), 1000);
        chat.join(0, "a");
        let former = MemberId { slot: 0, serial: 6 };
        chat.hub.leave(former);
        chat.hub.drained(former);
        assert!(chat.hub.draft(former, Message::Text(b"x"), Timestamp(0)).is_none());
        assert_eq!(chat.hub.members(), 1);
    }

    #[test]
    fn when_all_have_left_nothing_but_bounded_tails_remains() {
        let limits = Limits { max_tails: 10, tails_total_bytes: 100_000, ..Limits::default() };
        let mut chat = Chat::new(&limits, 10);
        for round in 0..30 {
            for slot in 0..20 {
                chat.join(slot, &format!("room {round} {}", slot % 5));
            }
            for slot in 0..20 {
                chat.say(slot, &"x".repeat(300));
            }
            chat.commit();
            assert!(chat.hub.tails_bytes() <= 100_000);
            for slot in (0..20).rev() {
                chat.hub.leave(member(slot));
            }
            chat.commit();
            assert!(chat.hub.is_empty());
            assert_eq!((chat.hub.rooms(), chat.hub.catching_up()), (0, 0));
            assert!(chat.hub.rooms.len() <= 10, "{} rooms are kept for their tails", chat.hub.rooms.len());
        }
        assert!(chat.hub.hungry.is_empty() && chat.hub.talked.is_empty());
        assert_eq!(chat.hub.by_name.len(), chat.hub.rooms.len());
    }

    #[test]
    fn a_room_that_was_only_visited_is_forgotten_at_once() {
        let mut chat = Chat::new(&Limits::default(), 10);
        chat.join(0, "a");
        chat.commit();
        chat.hub.leave(member(0));
        assert_eq!(chat.hub.rooms.len(), 0);
        assert_eq!(chat.hub.by_name.len(), 0);
    }
}
