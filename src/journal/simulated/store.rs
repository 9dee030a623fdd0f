//! What a simulated process keeps: it outlives the process, fails when it is told to, and loses what was not synced.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use fastrand::Rng;

use crate::chat::entry::{Content, Draft, Entry, Epoch, Nonce, PersonId, Position, RoomName};
use crate::journal::contract::{Event, Found, Hit, Lost, Page, Range, Read, Refused, SearchError};
use crate::journal::ordered::{Mark, Ordered};

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
    /// Reads whose failure was told.
    pub(crate) unread: u64,
    /// What has been emitted since this was last taken.
    pub(crate) emitted: Vec<Emitted>,
    /// What signs the tokens of people.
    secret: [u8; 32],
    /// Where the log of the bus stood behind the last entry, if a bus puts in order what is kept.
    mark: Option<Mark>,
    /// Up to here something may be missing that a bus has lost.
    lost: Position,
    /// How it was behind each batch since it was last synced, which is the first.
    behind_batches: Vec<(Position, Option<Mark>, Position)>,
}

/// What a process has told of the log.
#[derive(Debug, Clone)]
pub(crate) enum Emitted {
    Entry(Entry),
    Lost(Lost),
    Key([u8; 32]),
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
            secret: [1; 32],
            mark: None,
            lost: Position::START,
            behind_batches: vec![(Position::START, None, Position::START)],
        }))
    }

    /// What signs the tokens of people.
    pub(crate) fn secret(&self) -> [u8; 32] {
        self.secret
    }

    /// Signs by another key from now on.
    pub(crate) fn keep_key(&mut self, key: [u8; 32]) {
        self.secret = key;
    }

    /// Where the log of the bus stands. What was kept behind that has another order.
    pub(in crate::journal) fn mark(&self) -> Option<Mark> {
        self.mark.filter(|mark| mark.position() >= self.last)
    }

    /// The life that a process begins in which keeps here what a bus puts in order.
    pub(crate) fn epoch_on_bus(&self) -> Epoch {
        self.mark().map_or(self.epoch, |mark| mark.stamp.epoch)
    }

    /// The life it is in.
    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The last entry that it has had in this life, or the end of what was lost behind that.
    pub(crate) fn last(&self) -> Position {
        self.last
    }

    /// What is kept, in order.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Entries of a room up to here may be missing.
    pub(crate) fn floor(&self, room: &RoomName) -> Position {
        self.floors.get(room).copied().unwrap_or(Position::START).max(self.lost)
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
        self.behind_batches = vec![(self.last, self.mark, self.lost)];
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

    /// The machine loses its power: the last batches are gone, whole ones, and come again from the bus.
    pub(crate) fn lose_batches(&mut self, rng: &mut Rng) {
        self.behind_batches.retain(|(last, ..)| *last >= self.floor);
        if let Some(state) = rng.choice(&self.behind_batches) {
            (self.last, self.mark, self.lost) = *state;
        }
        let last = self.last;
        self.entries.retain(|entry| entry.position <= last);
        self.sync();
    }

    /// Keeps what a bus has put in order, in one piece.
    pub(in crate::journal) fn keep(&mut self, batch: &[Ordered]) {
        for event in batch.iter().flat_map(|ordered| &ordered.events) {
            match event {
                Event::Entry(entry) => {
                    // What was said so long ago that it is something new is known by this nonce from now on.
                    let is_same = |kept: &Entry| {
                        let author = |entry: &Entry| entry.author.as_ref().map(|author| author.id);
                        kept.nonce.is_some() && kept.nonce == entry.nonce && author(kept) == author(entry)
                    };
                    if let Some(former) = self.entries.iter_mut().find(|kept| is_same(kept)) {
                        former.nonce = None;
                    }
                    assert!(entry.position > self.last, "{entry:?} is kept behind {:?}", self.last);
                    self.last = entry.position;
                    self.entries.push(Entry { origin: None, ..entry.clone() });
                }
                Event::Lost(lost) if lost.upto > Position::START => {
                    (self.lost, self.last) = (lost.upto, self.last.max(lost.upto));
                }
                _ => {}
            }
        }
        if let Some(ordered) = batch.last() {
            self.mark = Some(ordered.mark);
        }
        self.behind_batches.push((self.last, self.mark, self.lost));
    }

    pub(super) fn append(&mut self, draft: Draft) -> Event {
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

    pub(super) fn read(&mut self, read: Read) -> Event {
        let Read { ticket, room, range, limit, max_bytes, count } = read;
        let floor = self.floor(&room);
        if self.is_unreadable {
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
