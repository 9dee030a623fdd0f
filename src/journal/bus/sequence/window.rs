//! What was said lately, by which a repeat is known.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::chat::entry::{Entry, Nonce, PersonId, Position};
use crate::journal::ordered::DraftId;
use crate::limits::LEAST_BUS_KEEP;

use super::What;
use crate::journal::bus::wire::Body;

/// Positions behind an entry in which a repeat of it is recognised: half a minute at 1,600 messages per second, which is
/// long for somebody who says again what was lost with a connection, and about 10 MB. It is no option, since all instances
/// must decide alike for as long as the log lasts, those of other versions included.
pub(super) const WINDOW: u64 = 50_000;
const _: () = assert!(WINDOW < LEAST_BUS_KEEP as u64, "whoever starts reads the window from the log");
/// Bytes of entries that are kept to answer repeats with. Without it a repeat is answered as it was said again.
pub(super) const ORIGINAL_BYTES: usize = 8 << 20;

/// What was said lately.
#[derive(Debug, Default)]
pub(super) struct Window {
    pub(super) drafts: HashSet<DraftId>,
    pub(super) said: HashMap<(PersonId, Nonce), Said>,
    /// What goes, the oldest first.
    order: VecDeque<Remembered>,
    /// Those of `said` whose entry is kept, the oldest first.
    pub(super) originals: VecDeque<(PersonId, Nonce)>,
    pub(super) original_bytes: usize,
}

#[derive(Debug)]
struct Remembered {
    position: Position,
    id: DraftId,
    said: Option<(PersonId, Nonce)>,
}

#[derive(Debug)]
pub(super) struct Said {
    position: Position,
    original: Option<Entry>,
}

impl Window {
    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub(super) fn clear(&mut self) {
        *self = Window::default();
    }

    /// Whether a record at this position is new. If it is, it is remembered.
    pub(super) fn judge(&mut self, position: Position, id: DraftId, body: Body) -> What {
        self.forget_before(position);
        if !self.drafts.insert(id) {
            return What::Nothing;
        }
        let (key, what) = match body {
            Body::Mark | Body::Unknown => (None, What::Nothing),
            Body::Said(draft) => {
                let key = draft.author.as_ref().map(|author| author.id).zip(draft.nonce.clone());
                if let Some(said) = key.as_ref().and_then(|key| self.said.get(key)) {
                    let original = said.original.clone().unwrap_or_else(|| draft.at(said.position));
                    // The draft is remembered as well: it may itself be published twice.
                    self.order.push_back(Remembered { position, id, said: None });
                    return What::Repeat(original);
                }
                (key, What::Entry(draft.at(position)))
            }
        };
        if let (Some(key), What::Entry(entry)) = (&key, &what) {
            self.original_bytes += entry.content.bytes().len();
            self.said.insert(key.clone(), Said { position, original: Some(entry.clone()) });
            self.originals.push_back(key.clone());
            while self.original_bytes > ORIGINAL_BYTES {
                let Some(oldest) = self.originals.pop_front() else { break };
                if let Some(said) = self.said.get_mut(&oldest) {
                    self.original_bytes -= said.original.take().map_or(0, |entry| entry.content.bytes().len());
                }
            }
        }
        self.order.push_back(Remembered { position, id, said: key });
        what
    }

    pub(super) fn forget_before(&mut self, position: Position) {
        while self.order.front().is_some_and(|oldest| oldest.position.0 + WINDOW < position.0) {
            let Some(oldest) = self.order.pop_front() else { return };
            self.drafts.remove(&oldest.id);
            let Some(key) = oldest.said else { continue };
            if let Some(Said { original: Some(entry), .. }) = self.said.remove(&key) {
                self.original_bytes -= entry.content.bytes().len();
            }
            if self.originals.front() == Some(&key) {
                self.originals.pop_front();
            }
        }
    }
}
