//! Journals of the simulation: one that keeps nothing, one whose store outlives a process, fails, and loses what was not
//! synced, and one that a bus puts in order.
//!
//! A [`Store`] outlives a process. The journals that are opened over it one after the other share it with the
//! simulation, which makes it fail, trims it, and takes the power away. A journal does what the writing and the reading
//! threads would do in [`advance`](SimulatedJournal::advance), whenever the simulation calls that: drafts are stored in
//! batches some time after they were handed over, and told of some time after they were stored. Dropped, it stores what it
//! was given, unless it was [killed](SimulatedJournal::kill).
//!
//! On a bus it is the real journal of the bus with its real decisions, over a [`Broker`] that several share.

mod kept;
mod on_bus;
mod store;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use fastrand::Rng;

use crate::chat::entry::{Draft, Epoch, Position};
use crate::limits::Limits;

use super::bus::Unready;
use super::contract::{Event, Found, Page, Read, SearchError};
use super::memory::MemoryJournal;
use kept::Kept;
use on_bus::OnBus;

pub(crate) use super::bus::simulated::{Broker, News};
pub(crate) use on_bus::KeptForBus;
pub(crate) use store::{Emitted, Store};

/// A journal of the simulation.
#[derive(Debug)]
pub(crate) struct SimulatedJournal {
    store: Rc<RefCell<Store>>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Memory(MemoryJournal),
    Kept(Box<Kept>),
    OnBus(Box<OnBus>),
}

/// What an instance on a bus keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeps {
    All,
    Nothing,
}

impl SimulatedJournal {
    /// A memory journal; what it emits is written down in `store`, which keeps nothing.
    pub(crate) fn memory(store: Rc<RefCell<Store>>, limits: &Limits) -> Self {
        let journal = MemoryJournal::new(limits, store.borrow().epoch());
        SimulatedJournal { store, kind: Kind::Memory(journal) }
    }

    /// A journal that keeps all in `store`.
    pub(crate) fn kept(store: Rc<RefCell<Store>>, limits: &Limits, rng: Rng) -> Self {
        let kept = Kept::new(&store.borrow(), limits, rng);
        SimulatedJournal { store, kind: Kind::Kept(Box::new(kept)) }
    }

    /// The journal of an instance on a bus, at a place of its own. What it emits is written down in `store`, where it is
    /// kept as well, or not.
    pub(crate) fn on_bus(
        broker: Rc<RefCell<Broker>>,
        place: usize,
        store: Rc<RefCell<Store>>,
        keeps: Keeps,
        limits: &Limits,
        rng: Rng,
        now: Instant,
    ) -> Self {
        let on_bus = OnBus::new(broker, place, Rc::clone(&store), keeps, limits, rng, now);
        SimulatedJournal { store, kind: Kind::OnBus(Box::new(on_bus)) }
    }

    /// The threads get on with their work. Whether the loop is to be woken for what they have to say.
    pub(crate) fn advance(&mut self, now: Instant) -> bool {
        match &mut self.kind {
            Kind::Memory(_) => false,
            Kind::Kept(kept) => kept.advance(&mut self.store.borrow_mut()),
            Kind::OnBus(on_bus) => on_bus.advance(now),
        }
    }

    /// The process is about to be killed: what is not stored now never will be.
    pub(crate) fn kill(&mut self) {
        match &mut self.kind {
            Kind::Memory(_) => {}
            Kind::Kept(kept) => kept.is_killed = true,
            Kind::OnBus(on_bus) => on_bus.is_killed = true,
        }
    }

    pub(super) fn secret(&self) -> Option<[u8; 32]> {
        match &self.kind {
            Kind::Memory(_) | Kind::Kept(_) => None,
            Kind::OnBus(on_bus) => Some(on_bus.journal.secret()),
        }
    }

    pub(super) fn readiness(&self) -> Result<(), Unready> {
        match &self.kind {
            Kind::Memory(_) | Kind::Kept(_) => Ok(()),
            Kind::OnBus(on_bus) => on_bus.journal.readiness(),
        }
    }

    pub(super) fn whisper(&mut self, message: Bytes) {
        if let Kind::OnBus(on_bus) = &mut self.kind {
            on_bus.journal.whisper(message);
        }
    }

    pub(super) fn level(&mut self, question: u64) {
        if let Kind::OnBus(on_bus) = &mut self.kind {
            on_bus.journal.level(question);
        }
    }

    pub(super) fn epoch(&self) -> Epoch {
        match &self.kind {
            Kind::Memory(journal) => journal.epoch(),
            Kind::Kept(kept) => kept.epoch,
            Kind::OnBus(on_bus) => on_bus.journal.epoch(),
        }
    }

    pub(super) fn opened_at(&self) -> Position {
        match &self.kind {
            Kind::Memory(_) => Position::START,
            Kind::Kept(kept) => kept.opened_at,
            Kind::OnBus(on_bus) => on_bus.journal.opened_at(),
        }
    }

    pub(super) fn keeps_history(&self) -> bool {
        match &self.kind {
            Kind::Memory(_) => false,
            Kind::Kept(_) => true,
            Kind::OnBus(on_bus) => on_bus.journal.keeps_history(),
        }
    }

    pub(super) fn has_room(&self) -> bool {
        match &self.kind {
            Kind::Memory(journal) => journal.has_room(),
            Kind::Kept(kept) => kept.has_room(),
            Kind::OnBus(on_bus) => on_bus.journal.has_room(),
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        match &self.kind {
            Kind::Memory(journal) => journal.in_flight(),
            Kind::Kept(kept) => kept.in_flight(),
            Kind::OnBus(on_bus) => on_bus.journal.in_flight(),
        }
    }

    pub(super) fn in_flight_bytes(&self) -> usize {
        match &self.kind {
            Kind::Memory(journal) => journal.in_flight_bytes(),
            Kind::Kept(kept) => kept.in_flight_bytes(),
            Kind::OnBus(on_bus) => on_bus.journal.in_flight_bytes(),
        }
    }

    pub(super) fn append(&mut self, draft: Draft) {
        match &mut self.kind {
            Kind::Memory(journal) => journal.append(draft),
            Kind::Kept(kept) => kept.append(draft),
            Kind::OnBus(on_bus) => on_bus.journal.append(draft),
        }
    }

    pub(super) fn read(&mut self, read: Read) {
        match &mut self.kind {
            Kind::Memory(journal) => journal.read(read),
            Kind::Kept(kept) => kept.read(read),
            Kind::OnBus(on_bus) => on_bus.journal.read(read),
        }
    }

    pub(super) fn flush(&mut self) {
        match &mut self.kind {
            Kind::Memory(_) => {}
            Kind::Kept(kept) => kept.flush(),
            Kind::OnBus(on_bus) => on_bus.journal.flush(),
        }
    }

    pub(super) fn poll_event(&mut self) -> Option<Event> {
        let event = match &mut self.kind {
            Kind::Memory(journal) => journal.poll_event()?,
            Kind::Kept(kept) => kept.poll_event()?,
            Kind::OnBus(on_bus) => on_bus.journal.poll_event()?,
        };
        let emitted = match &event {
            Event::Entry(entry) => Some(Emitted::Entry(entry.clone())),
            Event::Lost(lost) => Some(Emitted::Lost(*lost)),
            Event::Key(key) => Some(Emitted::Key(*key)),
            _ => None,
        };
        let store = &mut *self.store.borrow_mut();
        store.emitted.extend(emitted);
        if let Event::Page(Page { entries: Err(_), .. })
        | Event::Found(Found { hits: Err(SearchError::Unavailable), .. }) = &event
        {
            store.unread += 1;
        }
        Some(event)
    }
}

impl Drop for SimulatedJournal {
    fn drop(&mut self) {
        if let Kind::Kept(kept) = &mut self.kind {
            kept.close(&mut self.store.borrow_mut());
        }
    }
}
