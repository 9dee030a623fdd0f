//! Journals of the simulation: one that keeps as the SQLite journal does, without its threads and its disk, and the
//! memory journal with somebody who writes down what it emits.
//!
//! A [`Store`] is what outlives a process. The journals that are opened over it one after the other share it with the
//! simulation, which makes it fail, trims it, and takes the power away. A journal does what the writing and the reading
//! threads would do in [`advance`](SimulatedJournal::advance), whenever the simulation calls that: drafts are stored in
//! batches some time after they were handed over, and told of some time after they were stored. Dropped, it stores what it
//! was given, unless it was [killed](SimulatedJournal::kill).

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use fastrand::Rng;

use crate::chat::entry::{Content, Draft, Entry, Epoch, Nonce, PersonId, Position, RoomName};
use crate::limits::Limits;

use super::contract::{Event, Found, Hit, Page, Range, Read, Refused, SearchError, Status};
use super::memory::MemoryJournal;

/// What outlives a process, and what is known of it from outside.
#[derive(Debug)]
pub(crate) struct Store {
    epoch: Epoch,
    entries: Vec<Entry>,
    last: Position,
    /// What a loss of power cannot take away.
    synced: Position,
    floor: Position,
    floors: HashMap<RoomName, Position>,
    said: HashMap<(PersonId, Nonce), Position>,
    /// Nothing can be written.
    pub(crate) is_failing: bool,
    /// Nothing can be read.
    pub(crate) is_unreadable: bool,
    /// Drafts that were refused.
    pub(crate) refused: u64,
    /// Reads that failed.
    pub(crate) unread: u64,
    /// What has been emitted since this was last taken.
    pub(crate) emitted: Vec<Entry>,
}

impl Store {
    /// Nothing, in its first life.
    pub(crate) fn new(epoch: Epoch) -> Rc<RefCell<Store>> {
        Rc::new(RefCell::new(Store {
            epoch,
            entries: Vec::new(),
            last: Position::START,
            synced: Position::START,
            floor: Position::START,
            floors: HashMap::new(),
            said: HashMap::new(),
            is_failing: false,
            is_unreadable: false,
            refused: 0,
            unread: 0,
            emitted: Vec::new(),
        }))
    }

    /// The life it is in.
    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The last entry that it has had in this life.
    pub(crate) fn last(&self) -> Position {
        self.last
    }

    /// What is kept, in order.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Entries of a room up to here may be missing.
    pub(crate) fn floor(&self, room: &RoomName) -> Position {
        self.floors.get(room).copied().unwrap_or(Position::START)
    }

    /// Forgets the oldest entries, so many of them.
    pub(crate) fn trim(&mut self, count: usize) {
        for entry in self.entries.drain(..count) {
            self.floors.insert(entry.room.clone(), entry.position);
            self.floor = entry.position;
            if let Some(key) = key_of(entry.author.as_ref().map(|author| author.id), entry.nonce.as_ref()) {
                self.said.remove(&key);
            }
        }
    }

    /// Sees to it that nothing of what is there can be lost.
    pub(crate) fn sync(&mut self) {
        self.synced = self.last;
    }

    /// What comes has nothing to do with what was.
    pub(crate) fn begin_anew(&mut self) {
        self.epoch = Epoch(self.epoch.0 + 1);
    }

    /// The machine loses its power: some of what was not synced is gone, and a new life begins.
    pub(crate) fn lose_power(&mut self, rng: &mut Rng) {
        self.begin_anew();
        self.last = Position(rng.u64(self.synced.max(self.floor).0..=self.last.0));
        let last = self.last;
        self.entries.retain(|entry| entry.position <= last);
        self.said.retain(|_, position| *position <= last);
        self.synced = last;
    }

    fn append(&mut self, draft: Draft) -> Event {
        let key = key_of(draft.author.as_ref().map(|author| author.id), draft.nonce.as_ref());
        if let Some(position) = key.as_ref().and_then(|key| self.said.get(key)) {
            let original = self.entries.iter().rfind(|entry| entry.position == *position).expect("it is kept");
            return Event::Repeat(Entry { origin: draft.origin, ..original.clone() });
        }
        self.last = self.last.next();
        let entry = draft.at(self.last);
        if let Some(key) = key {
            self.said.insert(key, self.last);
        }
        // Whoever said it is known to this process alone.
        self.entries.push(Entry { origin: None, ..entry.clone() });
        Event::Entry(entry)
    }

    fn read(&mut self, read: Read) -> Event {
        let Read { ticket, room, range, limit, max_bytes, count } = read;
        let floor = self.floor(&room);
        if self.is_unreadable {
            self.unread += 1;
            return unread(ticket, room, &range);
        }
        let (mut chosen, is_backwards): (Vec<&Entry>, bool) = match &range {
            Range::After { after, upto } => {
                (self.entries.iter().filter(|it| it.position > *after && it.position <= *upto).collect(), false)
            }
            Range::Before(before) => (self.entries.iter().rev().filter(|it| it.position < *before).collect(), true),
            Range::Matching { before, query } => {
                let is_hit = |entry: &&Entry| entry.position < *before && has(entry, query);
                (self.entries.iter().rev().filter(is_hit).collect(), true)
            }
        };
        chosen.retain(|entry| entry.room == room);
        let mut bytes = 0;
        let fits = |entry: &&&Entry| {
            let is_first = bytes == 0;
            bytes += entry.content.bytes().len().max(1);
            is_first || bytes <= max_bytes
        };
        let mut entries: Vec<Entry> = chosen.iter().take(limit.max(1)).take_while(fits).copied().cloned().collect();
        let more = entries.len() < chosen.len();
        let in_range = chosen.len().min(count).max(entries.len()) as u64;
        if is_backwards {
            entries.reverse();
        }
        if let Range::Matching { .. } = range {
            let hits = entries.into_iter().map(|entry| Hit { entry, matches: Vec::new() }).collect();
            return Event::Found(Found { ticket, room, hits: Ok(hits), more, floor });
        }
        Event::Page(Page { ticket, room, entries: Ok(entries), more, in_range, floor })
    }
}

fn key_of(author: Option<PersonId>, nonce: Option<&Nonce>) -> Option<(PersonId, Nonce)> {
    author.zip(nonce.cloned())
}

/// Whether a text has a word; more of a search is not simulated.
fn has(entry: &Entry, word: &str) -> bool {
    match &entry.content {
        Content::Text(text) => String::from_utf8_lossy(text).split([' ', '.']).any(|it| it == word),
        Content::Binary(_) => false,
    }
}

fn unread(ticket: u64, room: RoomName, range: &Range) -> Event {
    let (more, floor) = (false, Position::START);
    match range {
        Range::Matching { .. } => {
            Event::Found(Found { ticket, room, hits: Err(SearchError::Unavailable), more, floor })
        }
        Range::After { .. } | Range::Before(_) => {
            Event::Page(Page { ticket, room, entries: Err(Refused::Unavailable), more, in_range: 0, floor })
        }
    }
}

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
}

/// A process's side of a store.
#[derive(Debug)]
struct Kept {
    rng: Rng,
    epoch: Epoch,
    opened_at: Position,
    emitted: Position,
    /// The turn's drafts.
    drafts: Vec<Draft>,
    /// Drafts that the writing thread has not looked at.
    waiting: VecDeque<Draft>,
    pages: VecDeque<Read>,
    searches: VecDeque<Read>,
    /// What the threads have told, in pieces, and the loop has not been woken for.
    told: VecDeque<Vec<Event>>,
    ready: VecDeque<Event>,
    in_flight: VecDeque<usize>,
    in_flight_bytes: usize,
    max_in_flight: usize,
    max_in_flight_bytes: usize,
    has_failed: bool,
    is_killed: bool,
}

impl SimulatedJournal {
    /// A memory journal; what it emits is written down in `store`, which keeps nothing.
    pub(crate) fn memory(store: Rc<RefCell<Store>>, limits: &Limits) -> Self {
        let journal = MemoryJournal::new(limits, store.borrow().epoch);
        SimulatedJournal { store, kind: Kind::Memory(journal) }
    }

    /// A journal that keeps all in `store`.
    pub(crate) fn kept(store: Rc<RefCell<Store>>, limits: &Limits, rng: Rng) -> Self {
        let (epoch, last) = (store.borrow().epoch, store.borrow().last);
        let kept = Kept {
            rng,
            epoch,
            opened_at: last,
            emitted: last,
            drafts: Vec::new(),
            waiting: VecDeque::new(),
            pages: VecDeque::new(),
            searches: VecDeque::new(),
            told: VecDeque::new(),
            ready: VecDeque::new(),
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            max_in_flight: limits.max_drafts_in_flight,
            max_in_flight_bytes: limits.max_draft_bytes_in_flight,
            has_failed: false,
            is_killed: false,
        };
        SimulatedJournal { store, kind: Kind::Kept(Box::new(kept)) }
    }

    /// The threads get on with their work. Whether the loop is to be woken for what they have to say.
    pub(crate) fn advance(&mut self) -> bool {
        match &mut self.kind {
            Kind::Memory(_) => false,
            Kind::Kept(kept) => kept.advance(&mut self.store.borrow_mut()),
        }
    }

    /// The process is about to be killed: what is not stored now never will be.
    pub(crate) fn kill(&mut self) {
        if let Kind::Kept(kept) = &mut self.kind {
            kept.is_killed = true;
        }
    }

    pub(super) fn epoch(&self) -> Epoch {
        match &self.kind {
            Kind::Memory(journal) => journal.epoch(),
            Kind::Kept(kept) => kept.epoch,
        }
    }

    pub(super) fn opened_at(&self) -> Position {
        match &self.kind {
            Kind::Memory(_) => Position::START,
            Kind::Kept(kept) => kept.opened_at,
        }
    }

    pub(super) fn keeps_history(&self) -> bool {
        matches!(self.kind, Kind::Kept(_))
    }

    pub(super) fn has_room(&self) -> bool {
        match &self.kind {
            Kind::Memory(journal) => journal.has_room(),
            Kind::Kept(kept) => {
                kept.in_flight.len() < kept.max_in_flight && kept.in_flight_bytes < kept.max_in_flight_bytes
            }
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        match &self.kind {
            Kind::Memory(journal) => journal.in_flight(),
            Kind::Kept(kept) => kept.in_flight.len(),
        }
    }

    pub(super) fn in_flight_bytes(&self) -> usize {
        match &self.kind {
            Kind::Memory(journal) => journal.in_flight_bytes(),
            Kind::Kept(kept) => kept.in_flight_bytes,
        }
    }

    pub(super) fn append(&mut self, draft: Draft) {
        match &mut self.kind {
            Kind::Memory(journal) => journal.append(draft),
            Kind::Kept(kept) => {
                let bytes = draft.content.bytes().len();
                kept.in_flight.push_back(bytes);
                kept.in_flight_bytes += bytes;
                kept.drafts.push(draft);
            }
        }
    }

    pub(super) fn read(&mut self, read: Read) {
        match &mut self.kind {
            Kind::Memory(journal) => journal.read(read),
            Kind::Kept(kept) => kept.read(read),
        }
    }

    pub(super) fn flush(&mut self) {
        if let Kind::Kept(kept) = &mut self.kind {
            kept.waiting.extend(kept.drafts.drain(..));
        }
    }

    pub(super) fn poll_event(&mut self) -> Option<Event> {
        let event = match &mut self.kind {
            Kind::Memory(journal) => journal.poll_event()?,
            Kind::Kept(kept) => kept.poll_event()?,
        };
        if let Event::Entry(entry) = &event {
            self.store.borrow_mut().emitted.push(entry.clone());
        }
        Some(event)
    }
}

impl Drop for SimulatedJournal {
    fn drop(&mut self) {
        if let Kind::Kept(kept) = &mut self.kind
            && !kept.is_killed
        {
            kept.waiting.extend(kept.drafts.drain(..));
            let count = kept.waiting.len();
            kept.write(count, &mut self.store.borrow_mut());
        }
    }
}

impl Kept {
    fn advance(&mut self, store: &mut Store) -> bool {
        if !self.waiting.is_empty() && self.rng.u8(..) < 150 {
            let count = self.rng.usize(1..=self.waiting.len());
            self.write(count, store);
        } else if self.has_failed && !store.is_failing && self.rng.u8(..) < 30 {
            self.recovered();
        }
        for reads in [&mut self.pages, &mut self.searches] {
            while self.rng.u8(..) < 150
                && let Some(read) = reads.pop_front()
            {
                self.told.push_back(vec![store.read(read)]);
            }
        }
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

    fn read(&mut self, mut read: Read) {
        let end = self.emitted.next();
        match &mut read.range {
            Range::After { upto, .. } => *upto = self.emitted.min(*upto),
            Range::Before(before) | Range::Matching { before, .. } => *before = end.min(*before),
        }
        match read.range {
            Range::Matching { .. } => self.searches.push_back(read),
            Range::After { .. } | Range::Before(_) => self.pages.push_back(read),
        }
    }

    fn poll_event(&mut self) -> Option<Event> {
        let event = self.ready.pop_front()?;
        if let Event::Entry(entry) = &event {
            self.emitted = entry.position;
        }
        if event.ends_draft() {
            self.in_flight_bytes -= self.in_flight.pop_front().unwrap_or(0);
        }
        Some(event)
    }
}
