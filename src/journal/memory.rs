//! The journal of a single process that keeps nothing: it orders and emits in the same turn.

use std::collections::VecDeque;

use crate::chat::entry::{Draft, Entry, Position};
use crate::limits::Limits;

/// Orders drafts as they come.
#[derive(Debug)]
pub struct MemoryJournal {
    drafts: VecDeque<Draft>,
    bytes: usize,
    last: Position,
    max_drafts: usize,
    max_bytes: usize,
}

impl MemoryJournal {
    /// An empty journal with the bounds of `limits`.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        MemoryJournal {
            drafts: VecDeque::new(),
            bytes: 0,
            last: Position::START,
            max_drafts: limits.max_drafts_in_flight,
            max_bytes: limits.max_draft_bytes_in_flight,
        }
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

    pub(super) fn poll_entry(&mut self) -> Option<Entry> {
        let Draft { room, origin, content } = self.drafts.pop_front()?;
        self.bytes -= content.bytes().len();
        self.last = self.last.next();
        Some(Entry { position: self.last, room, origin, content })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::chat::entry::{Content, RoomName};

    fn draft(text: &'static str) -> Draft {
        let room = RoomName::new("room", 64).unwrap();
        Draft { room, origin: None, content: Content::Text(Bytes::from_static(text.as_bytes())) }
    }

    #[test]
    fn entries_come_in_the_order_of_the_drafts_and_make_room() {
        let limits = Limits { max_drafts_in_flight: 3, max_draft_bytes_in_flight: 10, ..Limits::default() };
        let mut journal = MemoryJournal::new(&limits);
        journal.append(draft("one"));
        journal.append(draft("two"));
        assert!(journal.has_room());
        journal.append(draft("three"));
        assert!(!journal.has_room(), "three drafts of three");
        let mut seen = Vec::new();
        while let Some(entry) = journal.poll_entry() {
            seen.push((entry.position.0, entry.content.bytes().clone()));
        }
        assert_eq!(seen, [(1, "one".into()), (2, "two".into()), (3, "three".into())]);
        assert!(journal.has_room() && journal.in_flight() == 0);
        journal.append(draft("eleven bytes"));
        assert!(!journal.has_room(), "more bytes than the bound");
    }
}
