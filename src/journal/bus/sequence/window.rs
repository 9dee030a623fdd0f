//! What was said lately, by which a repeat is known.
//!
//! A record is a repeat if its draft, or its author and nonce, was in one of the records before it, so many positions back
//! at the most, be it a repeat itself. So what a record is depends on these alone, and whoever has read them knows.

use std::collections::{HashMap, VecDeque};

use crate::chat::entry::{Draft, Entry, Nonce, PersonId, Position};
use crate::journal::bus::wire::Body;
use crate::journal::ordered::DraftId;

use super::What;

/// Bytes of entries that are kept to answer repeats with. Without it a repeat is answered as it was said again.
pub(super) const ORIGINAL_BYTES: usize = 8 << 20;

/// What was said lately.
#[derive(Debug)]
pub(super) struct Window {
    /// Positions for which it is known.
    reach: u64,
    drafts: HashMap<DraftId, Published>,
    said: HashMap<Key, Said>,
    /// What goes, the oldest first.
    order: VecDeque<Remembered>,
    /// Those of `said` whose entry is kept, and where they were then, the oldest first.
    originals: VecDeque<(Key, Position)>,
    original_bytes: usize,
}

/// What an author calls something.
type Key = (PersonId, Nonce);

#[derive(Debug)]
struct Remembered {
    position: Position,
    id: DraftId,
    said: Option<Key>,
}

#[derive(Debug)]
struct Published {
    /// Where it was first, or what that was a repeat of.
    position: Position,
    last: Position,
}

#[derive(Debug)]
struct Said {
    position: Position,
    last: Position,
    original: Option<Entry>,
}

impl Window {
    pub(super) fn new(reach: u64) -> Self {
        let (drafts, said, order, originals) = (HashMap::new(), HashMap::new(), VecDeque::new(), VecDeque::new());
        Window { reach, drafts, said, order, originals, original_bytes: 0 }
    }

    pub(super) fn clear(&mut self) {
        *self = Window::new(self.reach);
    }

    /// What a record at this position is. It is remembered.
    pub(super) fn judge(&mut self, position: Position, id: DraftId, body: Body) -> What {
        self.forget_before(position);
        let draft = match body {
            Body::Mark | Body::Unknown => None,
            Body::Said(draft) => Some(draft),
        };
        let key = draft.as_ref().and_then(key_of);
        let what = if let Some(published) = self.drafts.get_mut(&id) {
            published.last = position;
            let first = published.position;
            if let Some(key) = &key {
                self.say_again(key, position);
            }
            What::Twice(first)
        } else {
            let what = draft.map_or(What::Nothing, |draft| self.say(draft, key.as_ref(), position));
            let first = if let What::Repeat(original) = &what { original.position } else { position };
            self.drafts.insert(id, Published { position: first, last: position });
            what
        };
        self.order.push_back(Remembered { position, id, said: key });
        what
    }

    /// Something is said here under a draft that was not.
    fn say(&mut self, draft: Draft, key: Option<&Key>, position: Position) -> What {
        let Some(key) = key else { return What::Entry(draft.at(position)) };
        if let Some(said) = self.say_again(key, position) {
            return What::Repeat(said.original.clone().unwrap_or_else(|| draft.at(said.position)));
        }
        let entry = draft.at(position);
        self.original_bytes += entry.content.bytes().len();
        self.said.insert(key.clone(), Said { position, last: position, original: Some(entry.clone()) });
        self.originals.push_back((key.clone(), position));
        while self.original_bytes > ORIGINAL_BYTES
            && let Some((key, last)) = self.originals.pop_front()
        {
            if let Some(said) = self.said.get_mut(&key).filter(|said| said.last == last) {
                self.original_bytes -= said.original.take().map_or(0, |entry| entry.content.bytes().len());
            }
        }
        What::Entry(entry)
    }

    /// Something is said that was said before, if it was.
    fn say_again(&mut self, key: &Key, position: Position) -> Option<&Said> {
        let said = self.said.get_mut(key)?;
        said.last = position;
        if said.original.is_some() {
            self.originals.push_back((key.clone(), position));
        }
        Some(said)
    }

    fn forget_before(&mut self, position: Position) {
        while self.order.front().is_some_and(|oldest| oldest.position.0 + self.reach < position.0) {
            let Some(oldest) = self.order.pop_front() else { return };
            if self.drafts.get(&oldest.id).is_some_and(|draft| draft.last == oldest.position) {
                self.drafts.remove(&oldest.id);
            }
            let Some(key) = oldest.said else { continue };
            if self.said.get(&key).is_some_and(|said| said.last == oldest.position) {
                let original = self.said.remove(&key).and_then(|said| said.original);
                self.original_bytes -= original.map_or(0, |entry| entry.content.bytes().len());
            }
            // What was said again since is further behind as well.
            while self.originals.front().is_some_and(|(_, last)| *last <= oldest.position) {
                self.originals.pop_front();
            }
        }
    }

    /// What it holds: drafts, nonces, places, and bytes.
    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize, usize, usize) {
        let places = self.order.len().max(self.originals.len());
        (self.drafts.len(), self.said.len(), places, self.original_bytes)
    }
}

fn key_of(draft: &Draft) -> Option<Key> {
    draft.author.as_ref().map(|author| author.id).zip(draft.nonce.clone())
}
