//! What passes through the journal: drafts go in, entries come out, in one order for everybody.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;

pub use super::name::RoomName;

/// A place in the journal. Positions increase over the whole journal, and are not dense within a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

impl Position {
    /// Before the first entry.
    pub const START: Position = Position(0);

    /// The place behind this one.
    #[must_use]
    pub const fn next(self) -> Position {
        Position(self.0 + 1)
    }

    /// The place before this one.
    #[must_use]
    pub const fn before(self) -> Position {
        Position(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a member of the hub: a connection as the chat sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberId {
    /// A small number that no other present member has.
    pub slot: u32,
    /// Tells apart the members that had the slot one after another.
    pub serial: u32,
}

/// What was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// UTF-8.
    Text(Bytes),
    /// Any bytes.
    Binary(Bytes),
}

impl Content {
    /// The bytes, whatever they are.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        match self {
            Content::Text(bytes) | Content::Binary(bytes) => bytes,
        }
    }
}

/// Names a person, for as long as they keep their token. Two people with equal names differ in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PersonId(pub u64);

/// Who said something, under the name they had then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// Which person.
    pub id: PersonId,
    /// Their name, valid and normalised.
    pub name: Arc<str>,
}

/// What a client calls one thing it says, so that it can say it again without saying it twice.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Nonce(pub Arc<str>);

/// A time of day: milliseconds since the beginning of 1970 (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Timestamp(pub u64);

/// Names one life of a journal. Positions of two lives have nothing to do with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(pub u64);

/// A part of a room's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Range {
    /// The oldest entries behind `after`, up to and with `upto`.
    After {
        /// Not this one.
        after: Position,
        /// This one still.
        upto: Position,
    },
    /// The newest entries before a position.
    Before(Position),
    /// The newest entries before a position that match a search.
    Matching {
        /// Not this one.
        before: Position,
        /// Words, "phrases" and from:name, as people write them; all of them must match.
        query: String,
    },
}

/// Why nothing was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SearchError {
    /// What is kept cannot be read now, or nothing is.
    #[error("nothing can be searched now")]
    Unavailable,
    /// The query has neither letters nor digits.
    #[error("a search needs a word")]
    NoWords,
    /// The query has more words than are looked for at once.
    #[error("a search has at most {limit} words")]
    TooManyWords {
        /// The limit.
        limit: usize,
    },
}

/// Something said that has no place in the order yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Where it is said.
    pub room: RoomName,
    /// Which member of this instance said it.
    pub origin: Option<MemberId>,
    /// Who said it; nobody that is known in the raw dialect.
    pub author: Option<Author>,
    /// What the author calls it. A draft with the author and nonce of an entry is that entry, said again.
    pub nonce: Option<Nonce>,
    /// When it came.
    pub at: Timestamp,
    /// What is said. It owns its bytes: a slice of a read buffer would keep all of the buffer alive.
    pub content: Content,
}

impl Draft {
    /// The entry that this becomes at a position.
    #[must_use]
    pub fn at(self, position: Position) -> Entry {
        let Draft { room, origin, author, nonce, at, content } = self;
        Entry { position, room, origin, author, nonce, at, content }
    }
}

/// Something said, in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place.
    pub position: Position,
    /// Where it was said.
    pub room: RoomName,
    /// Which member of this instance said it, if one did.
    pub origin: Option<MemberId>,
    /// Who said it, if that is known.
    pub author: Option<Author>,
    /// What its author calls it.
    pub nonce: Option<Nonce>,
    /// When it came.
    pub at: Timestamp,
    /// What was said.
    pub content: Content,
}

/// Lets a number be written, and read again, as sixteen hexadecimal digits.
macro_rules! hexadecimal {
    ($($name:ident),+) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseIntError;

            fn from_str(text: &str) -> Result<Self, ParseIntError> {
                u64::from_str_radix(text, 16).map($name)
            }
        }
    )+};
}

hexadecimal!(PersonId, Epoch);
