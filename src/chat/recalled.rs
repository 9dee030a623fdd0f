//! What was read from the store for a member that is behind, kept for a while for others at about the same place.
//!
//! Members fall behind together: a stretch of a room's history that one of them needs is what the next ones need too, and
//! encoding it once serves all of them, as with the tail. It is a cache of what the store has and promises nothing.

use std::collections::VecDeque;

use super::dialect::Dialect;
use super::entry::{Entry, Position, RoomName};
use super::tail::{Batch, Encode, Page};

/// Stretches kept at once.
const MAX_STRETCHES: usize = 32;

/// All that follows a position in a room, up to another.
#[derive(Debug)]
pub(super) struct Stretch {
    room: RoomName,
    after: Position,
    batch: Batch,
}

impl Stretch {
    /// The entries of a room that follow `after`, in order and without a hole; at least one.
    pub(super) fn new(room: RoomName, after: Position, entries: Vec<Entry>) -> Self {
        Stretch { room, after, batch: Batch::new(entries) }
    }

    /// What comes behind `after`, about `max_bytes` of it; `None` if some of that is not in this stretch.
    pub(super) fn page(
        &mut self,
        after: Position,
        max_bytes: usize,
        dialect: Dialect,
        encode: Encode<'_>,
    ) -> Option<Page> {
        self.has(after).then(|| self.batch.page(after, max_bytes, dialect, encode))
    }

    fn has(&self, after: Position) -> bool {
        self.after <= after && after < self.batch.last()
    }
}

/// The stretches that were needed last.
#[derive(Debug, Default)]
pub(super) struct Recalled {
    /// The one used last is at the end.
    stretches: VecDeque<Stretch>,
    bytes: usize,
}

impl Recalled {
    /// Bytes held, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps a stretch, and drops those unused for longest until all take at most `max_bytes`.
    pub(super) fn keep(&mut self, stretch: Stretch, max_bytes: usize) {
        self.bytes += stretch.batch.cost();
        self.stretches.push_back(stretch);
        while self.stretches.len() > MAX_STRETCHES || self.bytes > max_bytes {
            let Some(dropped) = self.stretches.pop_front() else { return };
            self.bytes -= dropped.batch.cost();
        }
    }

    /// What follows `after` in a room, if it is here.
    pub(super) fn page(
        &mut self,
        room: &RoomName,
        after: Position,
        max_bytes: usize,
        dialect: Dialect,
        encode: Encode<'_>,
    ) -> Option<Page> {
        let place = self.stretches.iter().rposition(|stretch| stretch.has(after) && stretch.room == *room)?;
        let stretch = self.stretches.remove(place)?;
        self.stretches.push_back(stretch);
        self.stretches.back_mut()?.page(after, max_bytes, dialect, encode)
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Recalled::default();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::chat::entry::{Content, Timestamp};

    fn room(name: &str) -> RoomName {
        RoomName::new(name, 64).unwrap()
    }

    fn stretch(name: &str, after: u64, positions: &[u64]) -> Stretch {
        let entry = |position: &u64| Entry {
            position: Position(*position),
            room: room(name),
            origin: None,
            author: None,
            nonce: None,
            at: Timestamp(0),
            content: Content::Text(Bytes::from(position.to_string())),
        };
        Stretch::new(room(name), Position(after), positions.iter().map(entry).collect())
    }

    fn heard(recalled: &mut Recalled, name: &str, after: u64) -> Option<String> {
        let mut encode = |_: Dialect, entry: &Entry, out: &mut Vec<u8>| {
            out.extend_from_slice(entry.content.bytes());
            out.push(b'|');
        };
        match recalled.page(&room(name), Position(after), 1_000, Dialect::Raw, &mut encode)? {
            Page::Bytes { bytes, .. } => Some(String::from_utf8(bytes.to_vec()).unwrap()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_stretch_serves_whoever_is_within_it_and_nobody_else() {
        let mut recalled = Recalled::default();
        recalled.keep(stretch("a", 3, &[5, 6, 9]), 100_000);
        recalled.keep(stretch("b", 3, &[4, 8]), 100_000);
        for (name, after, expected) in [
            ("a", 2, None),
            ("a", 3, Some("5|6|9|")),
            ("a", 4, Some("5|6|9|")),
            ("a", 5, Some("6|9|")),
            ("a", 8, Some("9|")),
            ("a", 9, None),
            ("b", 3, Some("4|8|")),
            ("b", 7, Some("8|")),
            ("c", 3, None),
        ] {
            assert_eq!(heard(&mut recalled, name, after).as_deref(), expected, "{name} after {after}");
        }
    }

    #[test]
    fn those_unused_for_longest_go_first() {
        let cost = stretch("a", 1, &[2]).batch.cost();
        let mut recalled = Recalled::default();
        for at in [2, 4, 6] {
            recalled.keep(stretch("a", at, &[at + 1]), 3 * cost);
        }
        assert!(heard(&mut recalled, "a", 2).is_some());
        recalled.keep(stretch("a", 8, &[9]), 3 * cost);
        let has: Vec<bool> = [2, 4, 6, 8].map(|at| heard(&mut recalled, "a", at).is_some()).into();
        assert_eq!((has, recalled.bytes()), (vec![true, false, true, true], 3 * cost));
        recalled.keep(stretch("a", 5, &[6]), 0);
        assert_eq!((recalled.stretches.len(), recalled.bytes()), (0, 0));
        (0..100).for_each(|at| recalled.keep(stretch("a", at, &[at + 1]), usize::MAX));
        assert_eq!(recalled.stretches.len(), MAX_STRETCHES);
    }
}
