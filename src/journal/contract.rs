//! What every journal promises, as values: what it is asked, and what it answers.

use bytes::Bytes;

use crate::chat::entry::{Draft, Entry, Epoch, Position, RoomName};
use crate::histogram::Histogram;

pub use crate::chat::entry::{Range, SearchError};

/// What a journal has to say, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The next entry, ordered and as durable as the journal promises.
    Entry(Entry),
    /// A draft had the author and nonce of an entry that is known: nothing was added. The original carries the origin of
    /// the draft, so that it can be given to whoever repeated it.
    Repeat(Entry),
    /// A draft was not taken and never will be.
    Refused {
        /// The draft.
        draft: Draft,
        /// Why not.
        reason: Refused,
    },
    /// What was read.
    Page(Page),
    /// What was found.
    Found(Found),
    /// Whether what is appended gets through has changed.
    Status(Status),
    /// What would have come up to a position, and has not, never will: the bus has lost it, or no longer has it. What
    /// comes next is behind that position, in this life of the journal, which may be another than before.
    Lost(Lost),
    /// The key that signs the tokens of people is this one, for all instances.
    Key([u8; 32]),
    /// Another instance has whispered this.
    Whisper(Bytes),
    /// Everything has been told that was ordered when this question was asked.
    Level(u64),
}

impl Event {
    /// How many entries it brings.
    pub(crate) fn entries(&self) -> usize {
        match self {
            Event::Entry(_) | Event::Repeat(_) => 1,
            Event::Page(page) => page.entries.as_ref().map_or(0, Vec::len),
            Event::Found(found) => found.hits.as_ref().map_or(0, Vec::len),
            Event::Refused { .. }
            | Event::Status(_)
            | Event::Lost(_)
            | Event::Key(_)
            | Event::Whisper(_)
            | Event::Level(_) => 0,
        }
    }

    /// Whether it says what became of a draft.
    pub(super) fn ends_draft(&self) -> bool {
        match self {
            Event::Entry(_) | Event::Repeat(_) | Event::Refused { .. } => true,
            Event::Page(_)
            | Event::Found(_)
            | Event::Status(_)
            | Event::Lost(_)
            | Event::Key(_)
            | Event::Whisper(_)
            | Event::Level(_) => false,
        }
    }
}

/// The end of something that is not to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// The life of the journal from here on.
    pub epoch: Epoch,
    /// Nothing up to here comes any more.
    pub upto: Position,
}

/// How a store fares, as its thread last told. The loop asks no disk.
#[derive(Debug, Clone, PartialEq)]
pub struct StoreStats {
    /// Entries that are kept.
    pub entries: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Bytes of the write-ahead log beside it.
    pub log_bytes: u64,
    /// Entries that a search does not know yet.
    pub unindexed: u64,
    /// Entries that were removed since the store was opened, because they were more than is kept.
    pub trimmed: u64,
    /// Entries of each batch that was stored.
    pub batches: Histogram,
    /// Seconds that storing each batch took.
    pub commits: Histogram,
}

/// Why a draft was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Nothing can be kept now: the disk is full, or fails.
    Unavailable,
}

/// Whether what is appended gets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It does.
    Ok,
    /// It waits, or is refused.
    Waiting,
    /// It waits, because the bus cannot be reached.
    BusDown,
}

/// Something to be read from what is kept. It is answered by one [`Event::Page`], or for [`Range::Matching`] by one
/// [`Event::Found`], sooner or later, and with nothing that the journal has not emitted before it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// Whatever the reader needs to recognise the answer.
    pub ticket: u64,
    /// Of which room.
    pub room: RoomName,
    /// Which part.
    pub range: Range,
    /// At most so many entries, at least one.
    pub limit: usize,
    /// About so many payload bytes at the most, but always one entry.
    pub max_bytes: usize,
    /// How far a [`Range::After`] is counted beyond the page; 0 where nobody wants to know.
    pub count: usize,
}

impl Read {
    /// Reads nothing behind `emitted`. More may be kept already, and whoever read it now would hear it again when it is
    /// emitted.
    pub(super) fn end_with(&mut self, emitted: Position) {
        match &mut self.range {
            Range::After { upto, .. } => *upto = emitted.min(*upto),
            Range::Before(before) | Range::Matching { before, .. } => *before = emitted.next().min(*before),
        }
    }
}

/// What was read, the oldest entry first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The ticket of the [`Read`].
    pub ticket: u64,
    /// Of which room.
    pub room: RoomName,
    /// The entries, or that the store cannot be read.
    pub entries: Result<Vec<Entry>, Refused>,
    /// There is more in the range than the page has.
    pub more: bool,
    /// Entries of the page, or, if that was asked for, those of the [`Range::After`] up to [`Read::count`].
    pub in_range: u64,
    /// Entries of this room may be missing up to here, because they are no longer kept.
    pub floor: Position,
}

/// What was found, the oldest entry first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The ticket of the [`Read`].
    pub ticket: u64,
    /// Of which room.
    pub room: RoomName,
    /// The entries, or why nothing was looked for.
    pub hits: Result<Vec<Hit>, SearchError>,
    /// There are more before the oldest of these.
    pub more: bool,
    /// Entries of this room may be missing up to here, because they are no longer kept.
    pub floor: Position,
}

/// An entry that matches a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// The entry.
    pub entry: Entry,
    /// Where its text has what was looked for: first unit and the one behind the last, in order, apart from each other.
    ///
    /// They count UTF-16 units, as strings in a browser do: `text.slice(start, end)`. A long text has the first few.
    /// There are none if only the author was looked for.
    pub matches: Vec<(u32, u32)>,
}
