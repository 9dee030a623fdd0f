//! The dialect chat.v1: one JSON object per text frame. What it means is documented for client authors in
//! `docs/PROTOCOL.md`, whose examples a test plays against the server.

mod request;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Serialize, Serializer};

use super::entry::{Author, Content, Entry, Epoch, PersonId, Position};
use super::presence::Update;

pub use request::{BadFrame, Request, Subject, parse};

/// The subprotocol's name in `Sec-WebSocket-Protocol`.
pub const PROTOCOL: &str = "chat.v1";
/// The largest position that every JSON reader knows exactly.
const MAX_POSITION: u64 = (1 << 53) - 1;

/// What was wrong with a request; the `code` of an `error`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The frame is not a JSON object, or lacks a field, or a field has the wrong type.
    BadFrame,
    /// The object's type is none that is known.
    UnknownType,
    /// Something else was said before hello, or hello twice.
    BadOrder,
    /// Nobody can be called so.
    BadName,
    /// No room can be called so.
    BadRoom,
    /// The text is empty or too long.
    BadText,
    /// The nonce is empty or too long.
    BadNonce,
    /// The query has no word to search for, or too many.
    BadQuery,
    /// It is not in that room.
    NotJoined,
    /// It is in that room already.
    AlreadyJoined,
    /// It is in as many rooms as it may be.
    TooManyRooms,
    /// It does too much in too little time.
    TooFast,
    /// The server has too much to do; the message was not taken.
    Busy,
    /// The message cannot be stored now, or the history cannot be read.
    Unavailable,
}

/// What the server tells.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Reply<'a> {
    /// The answer to hello.
    Welcome {
        /// Who the client is.
        you: Person<'a>,
        /// To be brought back.
        token: &'a str,
        /// To take over this very connection.
        session: &'a str,
        /// What is allowed.
        limits: Limits,
        /// Who it talks to.
        server: Server,
    },
    /// The answer to join.
    Joined {
        /// Where.
        room: &'a str,
        /// Which life of the journal.
        epoch: String,
        /// Everything up to here is in `entries` or is no longer to be had.
        position: u64,
        /// What was said, the oldest first.
        entries: Vec<Said<'a>>,
        /// Something between `after` and the first entry is missing.
        gap: bool,
        /// `said` events follow until the present is reached.
        more: bool,
        /// Entries since `after`.
        #[serde(skip_serializing_if = "Option::is_none")]
        missed: Option<u64>,
        /// Older entries can be asked for.
        older: bool,
        /// Who is there.
        members: Members<'a>,
    },
    /// Somebody came, went, or is called otherwise.
    Presence {
        /// Where.
        room: &'a str,
        /// Who came.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        joined: Vec<Person<'a>>,
        /// Who went.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        left: Vec<Id>,
        /// Who is called otherwise.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        renamed: Vec<Person<'a>>,
        /// How many are there.
        count: usize,
        /// Everybody who is there: forget what was told before.
        #[serde(skip_serializing_if = "Option::is_none")]
        names: Option<Vec<Person<'a>>>,
    },
    /// Who is writing.
    Typing {
        /// Where.
        room: &'a str,
        /// Who.
        names: Vec<Person<'a>>,
    },
    /// The answer to history.
    History {
        /// Where.
        room: &'a str,
        /// What was said, the oldest first.
        entries: Vec<Said<'a>>,
        /// There is something older.
        more: bool,
    },
    /// The answer to search.
    Found {
        /// Where.
        room: &'a str,
        /// What was searched for.
        query: &'a str,
        /// What was found, the oldest first.
        entries: Vec<Hit<'a>>,
        /// There is something older.
        more: bool,
    },
    /// The answer to leave.
    Left {
        /// Of which room.
        room: &'a str,
    },
    /// Something between what was heard and what comes next is missing.
    Gap {
        /// Where.
        room: &'a str,
        /// Everything up to here.
        position: u64,
        /// The life of the journal to which positions belong from now on.
        epoch: String,
    },
    /// The client is called so from now on.
    Renamed {
        /// Who it is.
        you: Person<'a>,
    },
    /// The server has not heard yet what the client has: its join waits for that.
    Behind {
        /// The room that it joins.
        room: &'a str,
        /// How far the server is.
        position: u64,
    },
    /// Whether what is said gets through.
    Status {
        /// `ok` or `waiting`.
        journal: &'static str,
        /// `down` while it waits for the bus.
        #[serde(skip_serializing_if = "Option::is_none")]
        bus: Option<&'static str>,
    },
    /// A request was not carried out.
    Error {
        /// What kind of fault.
        code: Code,
        /// What was wrong, for people.
        message: &'a str,
        /// Which request.
        #[serde(flatten)]
        about: Subject<'a>,
        /// When to try again.
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_ms: Option<u64>,
    },
    /// The server is about to close: come back, a little later.
    Draining {
        /// How much later.
        reconnect_ms: u64,
    },
}

/// Limits that a client should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Bytes of a frame.
    pub message_bytes: usize,
    /// Bytes of a text.
    pub text_bytes: usize,
    /// Bytes of a person's name.
    pub name_bytes: usize,
    /// Bytes of a room's name.
    pub room_bytes: usize,
    /// Bytes of a nonce.
    pub nonce_bytes: usize,
    /// Rooms at once.
    pub rooms: usize,
    /// Entries of one page.
    pub page_entries: usize,
    /// Entries that a resume replays.
    pub backfill_entries: usize,
    /// Texts per second.
    pub say_per_second: u32,
    /// Texts at once.
    pub say_burst: u32,
}

/// What runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Server {
    /// The program.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
}

impl Server {
    /// This program.
    pub const THIS: Server = Server { name: "chat-app", version: env!("CARGO_PKG_VERSION") };
}

/// A person's id as JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id(pub PersonId);

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Person<'a> {
    id: Option<Id>,
    name: Option<&'a str>,
}

impl<'a> Person<'a> {
    /// Somebody who is known.
    #[must_use]
    pub fn known(author: &'a Author) -> Self {
        Person { id: Some(Id(author.id)), name: Some(&author.name) }
    }

    /// Many who are known.
    #[must_use]
    pub fn all(authors: &'a [Author]) -> Vec<Self> {
        authors.iter().map(Person::known).collect()
    }
}

/// Who is in a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Members<'a> {
    /// How many.
    pub count: usize,
    /// Who, unless they are too many.
    pub names: Vec<Person<'a>>,
}

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Said<'a> {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<&'a str>,
    position: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<&'a str>,
    from: Person<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<String>,
    at: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    repeat: Option<bool>,
}

impl<'a> Said<'a> {
    /// An entry within an answer that names its room.
    #[must_use]
    pub fn within(entry: &'a Entry) -> Self {
        let (text, data) = match &entry.content {
            Content::Text(text) => (Some(std::str::from_utf8(text).unwrap_or("\u{fffd}")), None),
            Content::Binary(bytes) => (None, Some(STANDARD.encode(bytes))),
        };
        Said {
            kind: None,
            room: None,
            position: entry.position.0,
            nonce: entry.nonce.as_ref().map(|nonce| &*nonce.0),
            from: entry.author.as_ref().map_or(Person { id: None, name: None }, Person::known),
            text,
            data,
            at: entry.at.0,
            repeat: None,
        }
    }

    /// An entry as an event of its own.
    #[must_use]
    pub fn event(entry: &'a Entry) -> Self {
        Said { kind: Some("said"), room: Some(entry.room.as_str()), ..Said::within(entry) }
    }

    /// An entry for whoever has said it again. It comes out of turn, and is told from the entry that everybody hears, so
    /// that nobody takes its position for how far they have heard.
    #[must_use]
    pub fn again(entry: &'a Entry) -> Self {
        Said { repeat: Some(true), ..Said::event(entry) }
    }

    /// An entry of a stream that has one room and one kind of event.
    #[must_use]
    pub fn all_within(entries: &'a [Entry]) -> Vec<Self> {
        entries.iter().map(Said::within).collect()
    }
}

/// An entry that was searched for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hit<'a> {
    #[serde(flatten)]
    said: Said<'a>,
    /// Where the matches begin and end in the text, in UTF-16 code units, as JavaScript counts.
    matches: &'a [(u32, u32)],
}

impl<'a> Hit<'a> {
    /// An entry and the matches in it.
    #[must_use]
    pub fn new(entry: &'a Entry, matches: &'a [(u32, u32)]) -> Self {
        Hit { said: Said::within(entry), matches }
    }
}

impl<'a> Reply<'a> {
    /// An update of who is there, with `all` who are if they have to be named anew.
    #[must_use]
    pub fn presence(room: &'a str, update: &'a Update, all: Option<&'a [Author]>) -> Self {
        Reply::Presence {
            room,
            joined: Person::all(&update.joined),
            left: update.left.iter().copied().map(Id).collect(),
            renamed: Person::all(&update.renamed),
            count: update.count,
            names: all.map(Person::all),
        }
    }
}

/// Appends a value as JSON.
///
/// # Panics
///
/// Never: these values have string keys, and a buffer in memory takes all.
pub fn write(value: &impl Serialize, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("plain values become JSON");
}

/// A position that a client gave, if it is one that JSON can carry.
#[must_use]
pub fn position(number: u64) -> Position {
    Position(number.min(MAX_POSITION))
}

/// The epoch that a client gave; `None` if no journal ever had it.
#[must_use]
pub fn epoch(text: &str) -> Option<Epoch> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::chat::entry::{Nonce, RoomName, Timestamp};

    #[test]
    fn entries_as_json() {
        let entry = |author: Option<Author>, content| Entry {
            position: Position(7),
            room: RoomName::new("a", 64).unwrap(),
            origin: None,
            nonce: author.as_ref().map(|_| Nonce("n1".into())),
            author,
            at: Timestamp(5),
            content,
        };
        let ann = Author { id: PersonId(0x2a), name: "Ann".into() };
        let text = |entry: &Entry| {
            let mut out = Vec::new();
            write(&Said::event(entry), &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            text(&entry(Some(ann), Content::Text(Bytes::from_static("„ü\"".as_bytes())))),
            r#"{"type":"said","room":"a","position":7,"nonce":"n1","from":{"id":"000000000000002a","name":"Ann"},"text":"„ü\"","at":5}"#
        );
        assert_eq!(
            text(&entry(None, Content::Binary(Bytes::from_static(&[0, 255])))),
            r#"{"type":"said","room":"a","position":7,"from":{"id":null,"name":null},"data":"AP8=","at":5}"#
        );
    }
}
