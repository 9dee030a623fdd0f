//! The journal of an instance on a bus: the real one, with a stand-in for its thread and for its store.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use fastrand::Rng;

use crate::chat::entry::{Epoch, Position};
use crate::journal::bus::{BusJournal, StandIn};
use crate::journal::contract::{Event, Read, Status};
use crate::journal::ordered::{Mark, Ordered};
use crate::journal::sqlite::Handed;
use crate::limits::Limits;

use super::kept::Readers;
use super::store::Store;
use super::{Broker, Keeps};

/// A process's side of a bus.
#[derive(Debug)]
pub(super) struct OnBus {
    pub(super) journal: BusJournal,
    stand_in: StandIn,
    now: Instant,
    pub(super) is_killed: bool,
}

impl OnBus {
    pub(super) fn new(
        broker: Rc<RefCell<Broker>>,
        place: usize,
        store: Rc<RefCell<Store>>,
        keeps: Keeps,
        limits: &Limits,
        mut rng: Rng,
        now: Instant,
    ) -> OnBus {
        let kept = (keeps == Keeps::All).then(|| Box::new(KeptForBus::new(store, rng.fork())));
        let (journal, stand_in) = BusJournal::simulated(broker, place, kept, limits, rng, now);
        OnBus { journal, stand_in, now, is_killed: false }
    }

    pub(super) fn advance(&mut self, now: Instant) -> bool {
        self.now = now;
        self.journal.advance(&mut self.stand_in, now)
    }
}

impl Drop for OnBus {
    fn drop(&mut self) {
        if self.is_killed {
            self.stand_in.kill();
        } else {
            self.journal.flush();
            self.stand_in.close(self.now);
        }
    }
}

/// What keeps for an instance on a bus what this has put in order.
#[derive(Debug)]
pub(crate) struct KeptForBus {
    store: Rc<RefCell<Store>>,
    rng: Rng,
    opened_at: Position,
    emitted: Position,
    handed: Option<Handed>,
    /// What is in order and not kept.
    waiting: VecDeque<Ordered>,
    readers: Readers,
    told: VecDeque<Vec<Event>>,
    ready: VecDeque<Event>,
    has_failed: bool,
}

impl KeptForBus {
    fn new(store: Rc<RefCell<Store>>, rng: Rng) -> KeptForBus {
        let opened_at = store.borrow().last();
        KeptForBus {
            store,
            rng,
            opened_at,
            emitted: opened_at,
            handed: None,
            waiting: VecDeque::new(),
            readers: Readers::default(),
            told: VecDeque::new(),
            ready: VecDeque::new(),
            has_failed: false,
        }
    }

    /// From here on it comes from there.
    pub(in crate::journal) fn take_over(&mut self, handed: Handed) {
        self.handed = Some(handed);
    }

    pub(in crate::journal) fn secret(&self) -> [u8; 32] {
        self.store.borrow().secret()
    }

    pub(in crate::journal) fn epoch(&self) -> Epoch {
        self.store.borrow().epoch_on_bus()
    }

    pub(in crate::journal) fn mark(&self) -> Option<Mark> {
        self.store.borrow().mark()
    }

    pub(in crate::journal) fn opened_at(&self) -> Position {
        self.opened_at
    }

    pub(in crate::journal) fn read(&mut self, read: Read) {
        self.readers.ask(read, self.emitted);
    }

    pub(in crate::journal) fn poll_event(&mut self) -> Option<Event> {
        let event = self.ready.pop_front()?;
        if let Event::Entry(entry) = &event {
            self.emitted = entry.position;
        }
        Some(event)
    }

    /// The threads of the store get on with their work. Whether the loop is to be woken.
    pub(in crate::journal) fn advance(&mut self) -> bool {
        let store = &mut *self.store.borrow_mut();
        while let Some(handed) = self.handed.as_mut().and_then(Handed::poll) {
            match handed {
                Ok(ordered) => self.waiting.push_back(ordered),
                Err(key) => store.keep_key(key),
            }
        }
        if store.is_failing {
            if !self.waiting.is_empty() && !std::mem::replace(&mut self.has_failed, true) {
                self.told.push_back(vec![Event::Status(Status::Waiting)]);
            }
        } else {
            if self.has_failed && (!self.waiting.is_empty() || self.rng.u8(..) < 30) {
                self.has_failed = false;
                self.told.push_back(vec![Event::Status(Status::Ok)]);
            }
            if !self.waiting.is_empty() && self.rng.u8(..) < 170 {
                let count = self.rng.usize(1..=self.waiting.len());
                store.keep(&self.waiting.make_contiguous()[..count]);
                self.told.push_back(self.waiting.drain(..count).flat_map(|ordered| ordered.events).collect());
            }
        }
        self.readers.advance(&mut self.rng, store, &mut self.told);
        while !self.told.is_empty() && self.rng.u8(..) < 200 {
            self.ready.extend(self.told.pop_front().unwrap_or_default());
        }
        !self.ready.is_empty()
    }
}
