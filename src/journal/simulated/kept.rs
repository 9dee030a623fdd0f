//! The journal of a single process that keeps: the side of the loop, and what its threads do.

use std::collections::VecDeque;

use fastrand::Rng;

use crate::chat::entry::{Draft, Epoch, Position};
use crate::journal::contract::{Event, Range, Read, Refused, Status};
use crate::journal::in_flight::InFlight;
use crate::limits::Limits;

use super::store::Store;

/// A process's side of a store.
#[derive(Debug)]
pub(super) struct Kept {
    rng: Rng,
    pub(super) epoch: Epoch,
    pub(super) opened_at: Position,
    emitted: Position,
    /// The turn's drafts.
    drafts: Vec<Draft>,
    /// Drafts that the writing thread has not looked at.
    waiting: VecDeque<Draft>,
    readers: Readers,
    /// What the threads have told, in pieces, and the loop has not been woken for.
    told: VecDeque<Vec<Event>>,
    ready: VecDeque<Event>,
    in_flight: InFlight,
    has_failed: bool,
    pub(super) is_killed: bool,
}

/// What is to be read.
#[derive(Debug, Default)]
pub(super) struct Readers {
    pages: VecDeque<Read>,
    searches: VecDeque<Read>,
}

impl Readers {
    /// Asks for something, of which only what was emitted is told.
    pub(super) fn ask(&mut self, mut read: Read, emitted: Position) {
        read.end_with(emitted);
        match read.range {
            Range::Matching { .. } => self.searches.push_back(read),
            Range::After { .. } | Range::Before(_) => self.pages.push_back(read),
        }
    }

    /// Reads some of it.
    pub(super) fn advance(&mut self, rng: &mut Rng, store: &mut Store, told: &mut VecDeque<Vec<Event>>) {
        for reads in [&mut self.pages, &mut self.searches] {
            while rng.u8(..) < 150
                && let Some(read) = reads.pop_front()
            {
                told.push_back(vec![store.read(read)]);
            }
        }
    }
}

impl Kept {
    pub(super) fn new(store: &Store, limits: &Limits, rng: Rng) -> Kept {
        Kept {
            rng,
            epoch: store.epoch(),
            opened_at: store.last(),
            emitted: store.last(),
            drafts: Vec::new(),
            waiting: VecDeque::new(),
            readers: Readers::default(),
            told: VecDeque::new(),
            ready: VecDeque::new(),
            in_flight: InFlight::new(limits),
            has_failed: false,
            is_killed: false,
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.in_flight.has_room()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    pub(super) fn in_flight_bytes(&self) -> usize {
        self.in_flight.bytes()
    }

    pub(super) fn append(&mut self, draft: Draft) {
        self.in_flight.push(&draft, ());
        self.drafts.push(draft);
    }

    pub(super) fn flush(&mut self) {
        self.waiting.extend(self.drafts.drain(..));
    }

    pub(super) fn read(&mut self, read: Read) {
        self.readers.ask(read, self.emitted);
    }

    pub(super) fn advance(&mut self, store: &mut Store) -> bool {
        if !self.waiting.is_empty() && self.rng.u8(..) < 150 {
            let count = self.rng.usize(1..=self.waiting.len());
            self.write(count, store);
        } else if self.has_failed && !store.is_failing && self.rng.u8(..) < 30 {
            self.recovered();
        }
        self.readers.advance(&mut self.rng, store, &mut self.told);
        while !self.told.is_empty() && self.rng.u8(..) < 200 {
            self.ready.extend(self.told.pop_front().unwrap_or_default());
        }
        !self.ready.is_empty()
    }

    /// Stores so many drafts in one piece, or refuses them.
    fn write(&mut self, count: usize, store: &mut Store) {
        let batch = self.waiting.drain(..count);
        if store.is_failing {
            store.refused += count as u64;
            let refused = batch.map(|draft| Event::Refused { draft, reason: Refused::Unavailable });
            let status = (!self.has_failed).then_some(Event::Status(Status::Waiting));
            self.has_failed = true;
            self.told.push_back(status.into_iter().chain(refused).collect());
            return;
        }
        let events = batch.map(|draft| store.append(draft)).collect();
        self.recovered();
        self.told.push_back(events);
    }

    fn recovered(&mut self) {
        if std::mem::take(&mut self.has_failed) {
            self.told.push_back(vec![Event::Status(Status::Ok)]);
        }
    }

    /// The process ends in order, unless it was killed.
    pub(super) fn close(&mut self, store: &mut Store) {
        if !self.is_killed {
            self.flush();
            self.write(self.waiting.len(), store);
        }
    }

    pub(super) fn poll_event(&mut self) -> Option<Event> {
        let event = self.ready.pop_front()?;
        if let Event::Entry(entry) = &event {
            self.emitted = entry.position;
        }
        if event.ends_draft() {
            self.in_flight.pop();
        }
        Some(event)
    }
}
