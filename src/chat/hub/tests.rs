//! The hub without a socket in sight.

mod ahead;
mod arriving;
mod asking;
mod joining;
mod people;
mod recalling;
mod refusals;
mod reports;
mod talk;
mod telling;
mod walk;

use std::collections::BTreeMap;

use bytes::Bytes;

use super::*;
use crate::chat::dialect::Message;
use crate::chat::entry::SearchError;

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

    fn send(&mut self, member: MemberId, answer: Bytes) {
        self.heard.entry(member.slot).or_default().push_str(std::str::from_utf8(&answer).unwrap());
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
        let journaled = Journaled { epoch: Epoch(1), position: Position::START, keeps_history: false };
        let hub = Hub::new(limits, journaled, Identities::new([1; 32], [2; 32]));
        Chat { hub, stage, commands: Vec::new(), position: Position::START }
    }

    fn join(&mut self, slot: u32, room: &str) {
        self.hub.enter(member(slot), Dialect::Raw);
        self.hub.sit(member(slot), name(room), Start::Present);
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
    chat.hub.exit(former, Instant::now());
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
            chat.hub.exit(member(slot), Instant::now());
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
    chat.hub.exit(member(0), Instant::now());
    assert_eq!(chat.hub.rooms.len(), 0);
    assert_eq!(chat.hub.by_name.len(), 0);
}
