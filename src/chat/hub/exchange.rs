//! What the hub is told, what it wants, and where it puts what it has to say.

use bytes::Bytes;

use crate::chat::dialect::Message;
use crate::chat::entry::{Draft, Entry, Epoch, MemberId, Position, Range, RoomName, SearchError};

/// Where the hub's decisions are carried out.
pub trait Stage {
    /// Queues a batch of so many `entries` for a member, whole or not at all.
    ///
    /// `false` means that its outbox is above high water. Its owner then calls [`Hub::drained`](super::Hub::drained) once it
    /// has emptied.
    #[must_use]
    fn offer(&mut self, member: MemberId, batch: &Bytes, entries: usize) -> bool;

    /// Bytes that a page for whoever is behind may have as full as all outboxes are now.
    fn page_bytes(&self) -> usize {
        usize::MAX
    }

    /// Queues an answer for one member whatever waits already. These are bounded by what a member may ask, since it is
    /// not read while its outbox is full.
    fn send(&mut self, member: MemberId, answer: Bytes);

    /// Appends the WebSocket frame that carries `message`.
    fn frame(message: Message<'_>, out: &mut Vec<u8>);
}

/// What the hub wants done beyond what it puts on the stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Give this to the journal.
    Append(Draft),
    /// Read this from the journal, and bring it to [`Hub::page`](super::Hub::page).
    Read(Wanted),
    /// The member needs entries that are no longer kept, and cannot be told in its dialect: it must start anew.
    FellBehind(MemberId),
    /// Another connection of the same page has taken its place.
    TakenOver(MemberId),
    /// It was refused, and cannot be told so in its dialect.
    Unheard(MemberId),
}

/// Something that the hub wants to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Comes back with the page.
    pub ticket: u64,
    /// Of which room.
    pub room: RoomName,
    /// Which part.
    pub range: Range,
    /// At most so many entries.
    pub limit: usize,
    /// How far the range is counted beyond them.
    pub count: usize,
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pages {
    /// From the [`Wanted`].
    pub ticket: u64,
    /// The entries, the oldest first, or why there are none. Only a search has other reasons than that nothing can be read.
    pub entries: Result<Vec<Entry>, SearchError>,
    /// Where a search matched, for each entry.
    pub matches: Vec<Vec<(u32, u32)>>,
    /// There is more in the range than this.
    pub more: bool,
    /// How many entries the range has, as far as it was to be counted.
    pub in_range: u64,
    /// Entries up to here are no longer kept.
    pub floor: Position,
}

/// A part of a room's history that was in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// The entries, the oldest first.
    pub entries: Vec<Entry>,
    /// There is more in the range than this.
    pub more: bool,
    /// Entries of the room up to here may be kept nowhere.
    pub floor: Position,
}

/// Whether something that is said now can be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intake {
    /// It can.
    Open,
    /// The journal has no room for it now.
    Full,
}

/// Why what is said does not get through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It cannot be stored.
    Store,
    /// The bus cannot be reached.
    Bus,
}

/// What is known of the journal when the hub begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Journaled {
    /// Its life.
    pub epoch: Epoch,
    /// Its last entry.
    pub position: Position,
    /// Whether what is no longer in a tail can be read.
    pub keeps_history: bool,
}
