//! The journal: it gives every draft its place in one order, keeps it as long as it promises, and emits it as an entry.
//!
//! A client hears a message because the journal emitted it, never because it arrived. `append` may be called at any
//! time of a turn, `flush` once; then `poll_event` gives what is ordered, in order, our own drafts included. What is no
//! longer in memory is read by `read`, and answered by an event.

#[cfg_attr(not(any(feature = "redis", feature = "rabbitmq", feature = "nats")), allow(dead_code, unused_variables))]
mod bus;
pub mod contract;
mod in_flight;
mod memory;
mod ordered;
mod outbound;
#[cfg(test)]
pub(crate) mod simulated;
mod sqlite;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;

use crate::chat::entry::{Draft, Epoch, Position};
use crate::limits::Limits;

pub use bus::{BusError, BusGauges, BusJournal, BusOptions, Unready};
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
    /// A bus orders, for several instances; each keeps in a file, or nothing.
    Bus(Box<BusJournal>),
    /// A journal of the simulation.
    #[cfg(test)]
    #[expect(private_interfaces, reason = "only the tests of this crate make one")]
    Simulated(simulated::SimulatedJournal),
}

/// Does the same with a journal of any kind.
macro_rules! of_any {
    ($journal:expr, $it:ident => $what:expr) => {
        match $journal {
            Journal::Memory($it) => $what,
            Journal::Sqlite($it) => $what,
            Journal::Bus($it) => $what,
            #[cfg(test)]
            Journal::Simulated($it) => $what,
        }
    };
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

    /// A journal that a bus puts in order, with a file at `path` or without one. The bus need not be there yet.
    ///
    /// # Errors
    ///
    /// When the bus is none that can be used, or the file cannot be had, in a sentence for whoever started the program.
    pub fn bus(
        options: &BusOptions,
        path: Option<&Path>,
        sync: SyncMode,
        limits: &Limits,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, BusError> {
        BusJournal::open(options, path, sync, limits, wake).map(|journal| Journal::Bus(Box::new(journal)))
    }

    /// A key that lasts as long as what is kept, and that nobody else knows; `None` if nothing is kept. A bus tells
    /// another by [`Event::Key`] as soon as it is reached.
    #[must_use]
    pub fn secret(&self) -> Option<[u8; 32]> {
        match self {
            Journal::Memory(_) => None,
            Journal::Sqlite(journal) => Some(journal.secret()),
            Journal::Bus(journal) => Some(journal.secret()),
            #[cfg(test)]
            Journal::Simulated(journal) => journal.secret(),
        }
    }

    /// The life of this journal.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        of_any!(self, journal => journal.epoch())
    }

    /// The last entry that was there when the journal was opened: what is older is read, what is newer is emitted.
    #[must_use]
    pub fn opened_at(&self) -> Position {
        match self {
            Journal::Memory(_) => Position::START,
            Journal::Sqlite(journal) => journal.opened_at(),
            Journal::Bus(journal) => journal.opened_at(),
            #[cfg(test)]
            Journal::Simulated(journal) => journal.opened_at(),
        }
    }

    /// Whether there is anything to [`read`](Journal::read) beyond what has been emitted.
    #[must_use]
    pub fn keeps_history(&self) -> bool {
        match self {
            Journal::Memory(_) => false,
            Journal::Sqlite(_) => true,
            Journal::Bus(journal) => journal.keeps_history(),
            #[cfg(test)]
            Journal::Simulated(journal) => journal.keeps_history(),
        }
    }

    /// Whether the instance does its part among those that share a bus.
    ///
    /// # Errors
    ///
    /// Why it does not.
    pub fn readiness(&self) -> Result<(), Unready> {
        match self {
            Journal::Memory(_) | Journal::Sqlite(_) => Ok(()),
            #[cfg(test)]
            Journal::Simulated(journal) => journal.readiness(),
            Journal::Bus(journal) => journal.readiness(),
        }
    }

    /// What is known of the bus, if there is one.
    #[must_use]
    pub fn bus_gauges(&self) -> Option<BusGauges> {
        match self {
            Journal::Memory(_) | Journal::Sqlite(_) => None,
            #[cfg(test)]
            Journal::Simulated(_) => None,
            Journal::Bus(journal) => Some(journal.gauges()),
        }
    }

    /// How long each draft was on the bus, and in the store behind it, that has come back since this was last asked.
    pub fn take_returned(&mut self, mut each: impl FnMut(Duration)) {
        if let Journal::Bus(journal) = self {
            journal.take_returned().for_each(&mut each);
        }
    }

    /// Tells all other instances something that is not kept, and may be lost: they get it as [`Event::Whisper`]. Nobody
    /// hears it where there is no bus.
    pub fn whisper(&mut self, message: Bytes) {
        match self {
            Journal::Bus(journal) => journal.whisper(message),
            #[cfg(test)]
            Journal::Simulated(journal) => journal.whisper(message),
            Journal::Memory(_) | Journal::Sqlite(_) => {}
        }
    }

    /// Asks for [`Event::Level`], which comes behind everything that the bus has put in order by now: so whoever knows of
    /// an entry that has not come before it knows that it is not there. It comes when the bus is reached, and never
    /// where there is none. Of questions that wait only the last is answered.
    pub fn level(&mut self, question: u64) {
        match self {
            Journal::Bus(journal) => journal.level(question),
            #[cfg(test)]
            Journal::Simulated(journal) => journal.level(question),
            Journal::Memory(_) | Journal::Sqlite(_) => {}
        }
    }

    /// How the store fares, if there is one.
    #[must_use]
    pub fn store_stats(&self) -> Option<StoreStats> {
        match self {
            Journal::Memory(_) => None,
            #[cfg(test)]
            Journal::Simulated(_) => None,
            Journal::Sqlite(journal) => Some(journal.stats()),
            Journal::Bus(journal) => journal.store_stats(),
        }
    }

    /// Whether there is room for another draft. While there is none, whoever would bring one is not read.
    #[must_use]
    pub fn has_room(&self) -> bool {
        of_any!(self, journal => journal.has_room())
    }

    /// Drafts that were appended and have not been emitted.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        of_any!(self, journal => journal.in_flight())
    }

    /// Payload bytes of those drafts.
    #[must_use]
    pub fn in_flight_bytes(&self) -> usize {
        of_any!(self, journal => journal.in_flight_bytes())
    }

    /// Takes a draft. It is taken even when there is no room for another: one read may bring several.
    pub fn append(&mut self, draft: Draft) {
        of_any!(self, journal => journal.append(draft));
    }

    /// Asks for something that is kept.
    pub fn read(&mut self, read: Read) {
        of_any!(self, journal => journal.read(read));
    }

    /// Sends the turn's drafts on their way.
    pub fn flush(&mut self) {
        match self {
            Journal::Memory(_) => {}
            Journal::Sqlite(journal) => journal.flush(),
            Journal::Bus(journal) => journal.flush(),
            #[cfg(test)]
            Journal::Simulated(journal) => journal.flush(),
        }
    }

    /// The next event, if one is ready.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<Event> {
        of_any!(self, journal => journal.poll_event())
    }
}
