//! A room and everybody in it: the hub and the outboxes, without sockets.

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use chat_app::chat::dialect::{Dialect, Message};
use chat_app::chat::entry::{Author, Content, Draft, Epoch, MemberId, Nonce, PersonId, Position, RoomName, Timestamp};
use chat_app::chat::hub::{Command, Hub, Intake, Journaled, Moment, Stage, Start};
use chat_app::chat::identity::Identities;
use chat_app::limits::Limits;
use chat_app::net::outbox::Outbox;
use chat_app::ws::frame::{self, Opcode};

/// What a client of chat.v1 sends when somebody says something.
pub const SAY: &[u8] = br#"{"type":"say","room":"lobby","text":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx","nonce":"3f9c2a71b04d-17"}"#;

const TEXT: &[u8] = &[b'x'; 64];
const LOBBY: &str = "lobby";
const LIFE: Epoch = Epoch(1);

/// Outboxes without sockets: flushing takes everything at once.
struct Outboxes(Vec<Outbox>);

impl Outboxes {
    fn flush(&mut self) -> usize {
        let mut flushed = 0;
        for outbox in &mut self.0 {
            let waiting = black_box(outbox.len());
            outbox.advance(waiting);
            flushed += waiting;
        }
        flushed
    }
}

impl Stage for Outboxes {
    fn offer(&mut self, member: MemberId, batch: &Bytes, _entries: usize) -> bool {
        self.0[member.slot as usize].push(batch.clone());
        true
    }

    fn send(&mut self, member: MemberId, answer: Bytes) {
        self.0[member.slot as usize].push(answer);
    }

    fn frame(message: Message<'_>, out: &mut Vec<u8>) {
        match message {
            Message::Text(text) => frame::encode(Opcode::Text, text, out),
            Message::Binary(bytes) => frame::encode(Opcode::Binary, bytes, out),
        }
    }
}

/// The lobby, full of members of one dialect who keep up.
pub struct Hall {
    dialect: Dialect,
    hub: Hub,
    outboxes: Outboxes,
    commands: Vec<Command>,
    room: RoomName,
    author: Author,
    position: Position,
    now: Instant,
}

impl Hall {
    /// So many members. In chat.v1 the first of them has said hello, and may speak as fast as it likes.
    pub fn of(dialect: Dialect, members: u32) -> Self {
        let limits = Limits { say_rate: 0, ..Limits::default() };
        let journaled = Journaled { epoch: LIFE, position: Position::START, keeps_history: false };
        let mut hall = Hall {
            dialect,
            hub: Hub::new(&limits, journaled, Identities::new([1; 32], [2; 32])),
            // One place is left for somebody who comes later.
            outboxes: Outboxes((0..=members).map(|_| Outbox::default()).collect()),
            commands: Vec::new(),
            room: RoomName::new(LOBBY, limits.max_room_name_bytes).expect("a name"),
            author: Author { id: PersonId(7), name: "Somebody".into() },
            position: Position::START,
            now: Instant::now(),
        };
        for slot in 0..members {
            hall.hub.enter(member(slot), dialect);
            if slot == 0 && dialect == Dialect::V1 {
                hall.ask(br#"{"type":"hello","name":"Somebody"}"#);
            }
            hall.hub.sit(member(slot), hall.room.clone(), Start::Present);
        }
        while hall.hub.has_carried_over() {
            hall.commit();
        }
        assert_eq!(hall.hub.catching_up(), 0, "all are live");
        hall
    }

    /// A turn in which somebody has said so many texts of 64 bytes: the room's news, encoded and handed to everybody.
    pub fn turn(&mut self, messages: u64) {
        for _ in 0..messages {
            let draft = match self.dialect {
                Dialect::Raw => self.hub.draft(member(0), Message::Text(TEXT), Timestamp(0)).expect("it is there"),
                Dialect::V1 | Dialect::Events => Draft {
                    room: self.room.clone(),
                    origin: Some(member(0)),
                    author: Some(self.author.clone()),
                    nonce: Some(Nonce("3f9c2a71b04d-17".into())),
                    at: Timestamp(1_700_000_000_000),
                    content: Content::Text(Bytes::copy_from_slice(TEXT)),
                },
            };
            self.position = self.position.next();
            self.hub.committed(draft.at(self.position));
        }
        assert!(self.commit() > 0, "it was heard");
    }

    /// The first member says something in chat.v1, up to the draft. Nothing comes of it.
    pub fn say(&mut self) {
        self.ask(SAY);
        assert!(matches!(self.commands.pop(), Some(Command::Append(_))), "it may speak");
    }

    /// Somebody comes who has missed the newest `missed` entries, is told all of them out of the tail, and leaves.
    pub fn catch_up(&mut self, missed: u64) {
        let late = member(u32::try_from(self.outboxes.0.len() - 1).expect("few members"));
        self.hub.enter(late, self.dialect);
        self.hub.sit(late, self.room.clone(), Start::After(Position(self.position.0 - missed)));
        let mut told = 0;
        while self.hub.has_carried_over() {
            told += self.commit();
        }
        assert!(self.hub.catching_up() == 0 && told > TEXT.len() * missed as usize, "it has met the present");
        self.hub.exit(late, self.now);
    }

    fn ask(&mut self, frame: &[u8]) {
        let moment = Moment { now: self.now, at: Timestamp(0), intake: Intake::Open };
        self.hub.request(member(0), black_box(frame), moment, &mut self.outboxes, &mut self.commands);
    }

    /// Gives how many bytes went out.
    fn commit(&mut self) -> usize {
        self.hub.commit(&mut self.outboxes, &mut self.commands);
        assert!(self.commands.is_empty(), "everything is in memory");
        self.outboxes.flush()
    }
}

fn member(slot: u32) -> MemberId {
    MemberId { slot, serial: 0 }
}
