//! What passes through the journal: drafts go in, entries come out, in one order for everybody.

use std::borrow::Borrow;
use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;

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

/// The name of a room, valid once constructed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomName(Arc<str>);

/// Why a room cannot be named so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RoomNameError {
    /// There is no name.
    #[error("a room needs a name")]
    Empty,
    /// It has more bytes than the limit.
    #[error("a room's name has at most {limit} bytes in UTF-8")]
    TooLong {
        /// The limit.
        limit: usize,
    },
    /// It has characters that cannot be seen, or that turn the order of others around.
    #[error("a room's name has no control or formatting characters")]
    Invisible,
    /// It begins or ends with a space.
    #[error("a room's name does not begin or end with a space")]
    Padded,
}

impl RoomName {
    /// Where people are who did not say where.
    pub const LOBBY: &'static str = "lobby";

    /// Checks a name.
    ///
    /// # Errors
    ///
    /// When it is empty, longer than `max_bytes`, padded with spaces, or has characters that would let it pose as
    /// another name: controls, and the invisible ones that format or reorder text.
    pub fn new(name: &str, max_bytes: usize) -> Result<RoomName, RoomNameError> {
        if name.is_empty() {
            return Err(RoomNameError::Empty);
        }
        if name.len() > max_bytes {
            return Err(RoomNameError::TooLong { limit: max_bytes });
        }
        if name.chars().any(is_invisible) {
            return Err(RoomNameError::Invisible);
        }
        if name.trim() != name {
            return Err(RoomNameError::Padded);
        }
        Ok(RoomName(name.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for RoomName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Controls, line and paragraph separators, and the characters of Unicode's category Cf that hide or reorder others:
/// zero-width ones, bidirectional controls, and tags.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00ad}' | '\u{061c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
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

impl fmt::Display for PersonId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for PersonId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        u64::from_str_radix(text, 16).map(PersonId)
    }
}

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

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Epoch {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        u64::from_str_radix(text, 16).map(Epoch)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_names() {
        let cases: &[(&str, Result<(), RoomNameError>)] = &[
            ("lobby", Ok(())),
            ("Küche 2", Ok(())),
            ("日本語", Ok(())),
            ("a/b?c=d&e", Ok(())),
            ("", Err(RoomNameError::Empty)),
            ("12345678901234567", Err(RoomNameError::TooLong { limit: 16 })),
            ("a\nb", Err(RoomNameError::Invisible)),
            ("a\0", Err(RoomNameError::Invisible)),
            ("\u{202e}evil", Err(RoomNameError::Invisible)),
            ("lob\u{200b}by", Err(RoomNameError::Invisible)),
            (" lobby", Err(RoomNameError::Padded)),
            ("lobby\u{a0}", Err(RoomNameError::Padded)),
        ];
        for (name, expected) in cases {
            assert_eq!(&RoomName::new(name, 16).map(|_| ()), expected, "{name:?}");
        }
    }
}
