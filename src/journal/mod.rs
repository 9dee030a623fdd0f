//! The journal: it gives every draft its place in one order, keeps it as long as it promises, and emits it as an entry.
//!
//! A client hears a message because the journal emitted it, never because it arrived. `append` may be called at any
//! time of a turn, `flush` once; then `poll_event` gives what is ordered, in order, our own drafts included. What is no
//! longer in memory is read by `read`, and answered by an event.

#[cfg_attr(not(any(feature = "redis", feature = "rabbitmq", feature = "nats")), allow(dead_code))]
mod bus;
pub mod contract;
mod memory;
mod ordered;
mod sqlite;
#[cfg(test)]
mod tests;

use std::path::Path;

use crate::chat::entry::{Draft, Epoch, Position};
use crate::limits::Limits;

pub use contract::{Event, Found, Hit, Lost, Page, Range, Read, Refused, SearchError, Status, StoreStats};
pub use memory::MemoryJournal;
pub use sqlite::{OpenError, SqliteJournal, SyncMode};

/// A journal of one of the kinds there are.
#[derive(Debug)]
pub enum Journal {
    /// Orders in this process and keeps nothing.
    Memory(MemoryJournal),
    /// Orders in this process and keeps in a file.
    Sqlite(Box<SqliteJournal>),
}

impl Journal {
    /// A journal that orders in this process and keeps nothing: what is gone from the rooms' tails is gone.
    #[must_use]
    pub fn memory(limits: &Limits, epoch: Epoch) -> Self {
        Journal::Memory(MemoryJournal::new(limits, epoch))
    }

    /// A journal in the file at `path`, which is made if it is not there. `wake` is called from other threads whenever
    /// there is something for [`poll_event`](Journal::poll_event).
    ///
    /// # Errors
    ///
    /// When the file cannot be had, in a sentence for whoever started the program.
    pub fn sqlite(
        path: &Path,
        sync: SyncMode,
        limits: &Limits,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, OpenError> {
        SqliteJournal::open(path, sync, limits, wake).map(|journal| Journal::Sqlite(Box::new(journal)))
    }

    /// A key that lasts as long as what is kept, and that nobody else knows; `None` if nothing is kept.
    #[must_use]
    pub fn secret(&self) -> Option<[u8; 32]> {
        match self {
            Journal::Memory(_) => None,
            Journal::Sqlite(journal) => Some(journal.secret()),
        }
    }

    /// The life of this journal.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        match self {
            Journal::Memory(journal) => journal.epoch(),
            Journal::Sqlite(journal) => journal.epoch(),
        }
    }

    /// The last entry that was there when the journal was opened: what is older is read, what is newer is emitted.
    #[must_use]
    pub fn opened_at(&self) -> Position {
        match self {
            Journal::Memory(_) => Position::START,
            Journal::Sqlite(journal) => journal.opened_at(),
        }
    }

    /// Whether there is anything to [`read`](Journal::read) beyond what has been emitted.
    #[must_use]
    pub fn keeps_history(&self) -> bool {
        match self {
            Journal::Memory(_) => false,
            Journal::Sqlite(_) => true,
        }
    }

    /// How the store fares, if there is one.
    #[must_use]
    pub fn store_stats(&self) -> Option<StoreStats> {
        match self {
            Journal::Memory(_) => None,
            Journal::Sqlite(journal) => Some(journal.stats()),
        }
    }

    /// Whether there is room for another draft. While there is none, whoever would bring one is not read.
    #[must_use]
    pub fn has_room(&self) -> bool {
        match self {
            Journal::Memory(journal) => journal.has_room(),
            Journal::Sqlite(journal) => journal.has_room(),
        }
    }

    /// Drafts that were appended and have not been emitted.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        match self {
            Journal::Memory(journal) => journal.in_flight(),
            Journal::Sqlite(journal) => journal.in_flight(),
        }
    }

    /// Payload bytes of those drafts.
    #[must_use]
    pub fn in_flight_bytes(&self) -> usize {
        match self {
            Journal::Memory(journal) => journal.in_flight_bytes(),
            Journal::Sqlite(journal) => journal.in_flight_bytes(),
        }
    }

    /// Takes a draft. It is taken even when there is no room for another: one read may bring several.
    pub fn append(&mut self, draft: Draft) {
        match self {
            Journal::Memory(journal) => journal.append(draft),
            Journal::Sqlite(journal) => journal.append(draft),
        }
    }

    /// Asks for something that is kept.
    pub fn read(&mut self, read: Read) {
        match self {
            Journal::Memory(journal) => journal.read(read),
            Journal::Sqlite(journal) => journal.read(read),
        }
    }

    /// Sends the turn's drafts on their way.
    pub fn flush(&mut self) {
        match self {
            Journal::Memory(_) => {}
            Journal::Sqlite(journal) => journal.flush(),
        }
    }

    /// The next event, if one is ready.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<Event> {
        match self {
            Journal::Memory(journal) => journal.poll_event(),
            Journal::Sqlite(journal) => journal.poll_event(),
        }
    }
}
