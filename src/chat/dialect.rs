//! How a member hears: what an entry is in each dialect, as bytes.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use super::entry::{Content, Entry, Epoch, Position};
use super::v1::{self, Said};

/// How a member speaks and hears, chosen at the upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// A message is what its sender sent, byte for byte, in a frame of the same kind.
    Raw,
    /// JSON objects in text frames, both ways.
    V1,
    /// Server-Sent Events over HTTP (WHATWG HTML, section 9.2): it only hears.
    Events,
}

/// How many dialects there are.
pub const DIALECTS: usize = 3;

/// One message, before it becomes a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// UTF-8.
    Text(&'a [u8]),
    /// Any bytes.
    Binary(&'a [u8]),
}

impl Dialect {
    /// Every dialect, at its [`index`](Dialect::index).
    pub const ALL: [Dialect; DIALECTS] = [Dialect::Raw, Dialect::V1, Dialect::Events];

    /// The place of what belongs to this dialect in an array of [`DIALECTS`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Dialect::Raw => 0,
            Dialect::V1 => 1,
            Dialect::Events => 2,
        }
    }

    /// Appends what a member of this dialect hears of an entry of an epoch. `frame` makes a WebSocket frame of a message; `scratch` is
    /// a buffer that is used again and again.
    pub fn encode(
        self,
        entry: &Entry,
        epoch: Epoch,
        frame: impl Fn(Message<'_>, &mut Vec<u8>),
        scratch: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) {
        scratch.clear();
        match self {
            Dialect::Raw => match (&entry.author, &entry.content) {
                (None, Content::Text(text)) => frame(Message::Text(text), out),
                (None, Content::Binary(bytes)) | (Some(_), Content::Binary(bytes)) => {
                    frame(Message::Binary(bytes), out);
                }
                (Some(author), Content::Text(text)) => {
                    for part in [author.name.as_bytes(), b": ", text] {
                        scratch.extend_from_slice(part);
                    }
                    frame(Message::Text(scratch), out);
                }
            },
            Dialect::V1 => {
                v1::write(&Said::event(entry), scratch);
                frame(Message::Text(scratch), out);
            }
            Dialect::Events => {
                let id = EventId { epoch, position: entry.position };
                out.extend_from_slice(format!("id: {id}\ndata: ").as_bytes());
                v1::write(&Said::event(entry), out);
                out.extend_from_slice(b"\n\n");
            }
        }
    }
}

/// The `id:` of an event: up to where whoever has it has heard, and in which life of the journal. A position of another
/// life means nothing, so it never stands alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventId {
    /// Which life of the journal.
    pub epoch: Epoch,
    /// The last position heard.
    pub position: Position,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.position)
    }
}

impl FromStr for EventId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        // Without a hyphen there is no position, which is an error as well.
        let (epoch, position) = text.split_once('-').unwrap_or((text, ""));
        Ok(EventId { epoch: epoch.parse()?, position: v1::position(position.parse()?) })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::chat::entry::{Author, PersonId, Position, RoomName, Timestamp};

    #[test]
    fn an_entry_in_every_dialect() {
        let ann = || Some(Author { id: PersonId(1), name: "Ann".into() });
        let text = || Content::Text(Bytes::from_static(b"hi"));
        let binary = || Content::Binary(Bytes::from_static(b"hi"));
        let cases = [
            (Dialect::Raw, None, text(), "T<hi>"),
            (Dialect::Raw, None, binary(), "B<hi>"),
            (Dialect::Raw, ann(), text(), "T<Ann: hi>"),
            (
                Dialect::V1,
                None,
                text(),
                r#"T<{"type":"said","room":"r","position":9,"from":{"id":null,"name":null},"text":"hi","at":3}>"#,
            ),
            (
                Dialect::Events,
                ann(),
                binary(),
                "id: 00000000000000e5-9\ndata: {\"type\":\"said\",\"room\":\"r\",\"position\":9,\
                 \"from\":{\"id\":\"0000000000000001\",\"name\":\"Ann\"},\"data\":\"aGk=\",\"at\":3}\n\n",
            ),
        ];
        for (dialect, author, content, expected) in cases {
            let room = RoomName::new("r", 64).unwrap();
            let (position, at) = (Position(9), Timestamp(3));
            let entry = Entry { position, room, origin: None, author, nonce: None, at, content };
            let frame = |message: Message<'_>, out: &mut Vec<u8>| {
                let (kind, bytes) = match message {
                    Message::Text(bytes) => ("T<", bytes),
                    Message::Binary(bytes) => ("B<", bytes),
                };
                for part in [kind.as_bytes(), bytes, b">"] {
                    out.extend_from_slice(part);
                }
            };
            let mut out = Vec::new();
            dialect.encode(&entry, Epoch(0xe5), frame, &mut b"rubbish".to_vec(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn ids_of_events() {
        let id = EventId { epoch: Epoch(0xe5), position: Position(17) };
        assert_eq!(id.to_string(), "00000000000000e5-17");
        assert_eq!("00000000000000e5-17".parse(), Ok(id));
        for not in ["", "17", "-17", "e5-", "e5", "e5-x", "e5-17-1", "x-17", "e5 -17", "0x1-2", "12345678901234567-1"] {
            assert!(not.parse::<EventId>().is_err(), "{not}");
        }
    }
}
