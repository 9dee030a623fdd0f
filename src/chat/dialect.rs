//! How a member hears: what an entry is in each dialect.

use super::entry::{Content, Entry};

/// How a member speaks and hears, chosen at the upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// A message is what its sender sent, byte for byte, in a frame of the same kind.
    Raw,
}

/// How many dialects there are.
pub const DIALECTS: usize = 1;

/// One message of a dialect, before it becomes a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// UTF-8.
    Text(&'a [u8]),
    /// Any bytes.
    Binary(&'a [u8]),
}

impl Dialect {
    /// Every dialect, at its [`index`](Dialect::index).
    pub const ALL: [Dialect; DIALECTS] = [Dialect::Raw];

    /// The place of what belongs to this dialect in an array of [`DIALECTS`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Dialect::Raw => 0,
        }
    }

    /// What a member of this dialect hears of an entry.
    #[must_use]
    pub fn message(self, entry: &Entry) -> Message<'_> {
        match (self, &entry.content) {
            (Dialect::Raw, Content::Text(bytes)) => Message::Text(bytes),
            (Dialect::Raw, Content::Binary(bytes)) => Message::Binary(bytes),
        }
    }
}
