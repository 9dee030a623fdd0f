//! The journal of a single process that keeps nothing: it orders and emits in the same turn.

use std::collections::{HashMap, VecDeque};

use crate::chat::entry::{Draft, Entry, Epoch, Nonce, PersonId, Position};
use crate::limits::Limits;

use super::contract::{Event, Found, Page, Range, Read, Refused, SearchError};

/// Orders drafts as they come.
#[derive(Debug)]
pub struct MemoryJournal {
    epoch: Epoch,
    drafts: VecDeque<Draft>,
    bytes: usize,
    last: Position,
    /// Entries with a nonce, for as long as a repeat is recognised.
    said: HashMap<(PersonId, Nonce), Entry>,
    /// The keys of `said`, the oldest first.
    order: VecDeque<(PersonId, Nonce)>,
    said_bytes: usize,
    answers: VecDeque<Event>,
    max_drafts: usize,
    max_bytes: usize,
    max_said: usize,
    max_said_bytes: usize,
}

impl MemoryJournal {
    /// An empty journal with the bounds of `limits`.
    #[must_use]
    pub fn new(limits: &Limits, epoch: Epoch) -> Self {
        MemoryJournal {
            epoch,
            drafts: VecDeque::new(),
            bytes: 0,
            last: Position::START,
            said: HashMap::new(),
            order: VecDeque::new(),
            said_bytes: 0,
            answers: VecDeque::new(),
            max_drafts: limits.max_drafts_in_flight,
            max_bytes: limits.max_draft_bytes_in_flight,
            max_said: limits.repeat_window,
            max_said_bytes: limits.max_draft_bytes_in_flight,
        }
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(super) fn has_room(&self) -> bool {
        self.drafts.len() < self.max_drafts && self.bytes < self.max_bytes
    }

    pub(super) fn in_flight(&self) -> usize {
        self.drafts.len()
    }

    pub(super) fn in_flight_bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn append(&mut self, draft: Draft) {
        self.bytes += draft.content.bytes().len();
        self.drafts.push_back(draft);
    }

    /// There is nothing to be read: what the rooms' tails do not have is gone.
    pub(super) fn read(&mut self, read: Read) {
        let Read { ticket, room, range, .. } = read;
        let (more, floor) = (false, self.last);
        self.answers.push_back(match range {
            Range::Matching { .. } => {
                Event::Found(Found { ticket, room, hits: Err(SearchError::Unavailable), more, floor })
            }
            Range::After { .. } | Range::Before(_) => {
                Event::Page(Page { ticket, room, entries: Err(Refused::Unavailable), more, in_range: 0, floor })
            }
        });
    }

    pub(super) fn poll_event(&mut self) -> Option<Event> {
        if let Some(answer) = self.answers.pop_front() {
            return Some(answer);
        }
        let draft = self.drafts.pop_front()?;
        self.bytes -= draft.content.bytes().len();
        let key = draft.author.as_ref().map(|author| author.id).zip(draft.nonce.clone());
        if let Some(original) = key.as_ref().and_then(|key| self.said.get(key)) {
            return Some(Event::Repeat(Entry { origin: draft.origin, ..original.clone() }));
        }
        self.last = self.last.next();
        let entry = draft.at(self.last);
        if let Some(key) = key {
            self.remember(key, entry.clone());
        }
        Some(Event::Entry(entry))
    }

    fn remember(&mut self, key: (PersonId, Nonce), entry: Entry) {
        self.said_bytes += entry.content.bytes().len();
        self.order.push_back(key.clone());
        self.said.insert(key, entry);
        while self.said.len() > self.max_said || self.said_bytes > self.max_said_bytes {
            let Some(oldest) = self.order.pop_front() else { break };
            if let Some(entry) = self.said.remove(&oldest) {
                self.said_bytes -= entry.content.bytes().len();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::chat::entry::{Author, Content, RoomName, Timestamp};

    fn draft(text: &'static str) -> Draft {
        Draft {
            room: RoomName::new("room", 64).unwrap(),
            origin: None,
            author: None,
            nonce: None,
            at: Timestamp(0),
            content: Content::Text(Bytes::from_static(text.as_bytes())),
        }
    }

    fn said(by: u64, nonce: &str, text: &'static str) -> Draft {
        let author = Some(Author { id: PersonId(by), name: "Ann".into() });
        Draft { author, nonce: Some(Nonce(nonce.into())), ..draft(text) }
    }

    #[test]
    fn entries_come_in_the_order_of_the_drafts_and_make_room() {
        let limits = Limits { max_drafts_in_flight: 3, max_draft_bytes_in_flight: 10, ..Limits::default() };
        let mut journal = MemoryJournal::new(&limits, Epoch(1));
        journal.append(draft("one"));
        journal.append(draft("two"));
        assert!(journal.has_room());
        journal.append(draft("three"));
        assert!(!journal.has_room(), "three drafts of three");
        let mut seen = Vec::new();
        while let Some(event) = journal.poll_event() {
            let Event::Entry(entry) = event else { panic!("{event:?}") };
            seen.push((entry.position.0, entry.content.bytes().clone()));
        }
        assert_eq!(seen, [(1, "one".into()), (2, "two".into()), (3, "three".into())]);
        assert!(journal.has_room() && journal.in_flight() == 0);
        journal.append(draft("eleven bytes"));
        assert!(!journal.has_room(), "more bytes than the bound");
    }

    #[test]
    fn what_is_said_again_within_the_window_is_the_original() {
        let mut journal = MemoryJournal::new(&Limits { repeat_window: 2, ..Limits::default() }, Epoch(1));
        let mut say = |draft: Draft| {
            journal.append(draft);
            match journal.poll_event() {
                Some(Event::Entry(entry)) => ("entry", entry.position.0, entry.content.bytes().clone()),
                Some(Event::Repeat(entry)) => ("repeat", entry.position.0, entry.content.bytes().clone()),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(say(said(1, "a", "first")), ("entry", 1, "first".into()));
        assert_eq!(say(said(1, "a", "again")), ("repeat", 1, "first".into()));
        assert_eq!(say(said(2, "a", "another's")), ("entry", 2, "another's".into()));
        assert_eq!(say(said(1, "b", "second")), ("entry", 3, "second".into()));
        assert_eq!(say(said(1, "a", "out of the window")), ("entry", 4, "out of the window".into()));
    }
}
