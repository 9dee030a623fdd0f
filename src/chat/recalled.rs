//! What was read from the store for a member that is behind, kept for a while for others at about the same place.
//!
//! Members fall behind together: a stretch of a room's history that one of them needs is what the next ones need too, and
//! encoding it once serves all of them, as with the tail. It is a cache of what the store has and promises nothing.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::dialect::Dialect;
use super::entry::{Entry, Position, RoomName};
use super::tail::{Batch, Encode, Page};

/// About how much is encoded in one piece. Whoever holds a page, of a single entry perhaps, holds all of its piece.
const PIECE_BYTES: usize = 32 * 1024;
/// What a dialect adds to the content of an entry, about.
const FRAME_BYTES: usize = 128;

/// All that follows a position in a room, up to another.
#[derive(Debug)]
pub(super) struct Stretch {
    room: RoomName,
    after: Position,
    upto: Position,
    /// None if nothing was said there between the two.
    pieces: Vec<Batch>,
}

impl Stretch {
    /// The entries of a room that follow `after`, up to and with `upto`, in order and without a hole.
    pub(super) fn new(room: RoomName, after: Position, upto: Position, entries: Vec<Entry>) -> Self {
        let mut pieces = Vec::new();
        let (mut piece, mut bytes) = (Vec::new(), 0);
        for entry in entries {
            bytes += entry.content.bytes().len() + FRAME_BYTES;
            piece.push(entry);
            if bytes >= PIECE_BYTES {
                pieces.push(Batch::new(std::mem::take(&mut piece)));
                bytes = 0;
            }
        }
        if !piece.is_empty() {
            pieces.push(Batch::new(piece));
        }
        Stretch { room, after, upto, pieces }
    }

    /// What comes behind `after`, at most about `max_bytes` of it, perhaps nothing; `None` if some of that is not in this
    /// stretch.
    pub(super) fn page(
        &mut self,
        after: Position,
        max_bytes: usize,
        dialect: Dialect,
        encode: Encode<'_>,
    ) -> Option<Page> {
        if !self.has(after) {
            return None;
        }
        let place = self.pieces.partition_point(|piece| piece.last() <= after);
        let Some(piece) = self.pieces.get_mut(place) else {
            return Some(Page::Bytes { bytes: Bytes::new(), entries: 0, reaches: self.upto });
        };
        let page = piece.page(after, max_bytes, dialect, encode);
        match page {
            Page::Bytes { bytes, entries, reaches }
                if self.pieces.last().is_some_and(|last| reaches == last.last()) =>
            {
                Some(Page::Bytes { bytes, entries, reaches: self.upto })
            }
            page => Some(page),
        }
    }

    fn has(&self, after: Position) -> bool {
        self.after <= after && after < self.upto
    }

    fn cost(&self) -> usize {
        size_of::<Stretch>() + self.pieces.iter().map(Batch::cost).sum::<usize>()
    }
}

/// Where a stretch begins.
type Place = (RoomName, Position);

/// The stretches that were needed last.
#[derive(Debug, Default)]
pub(super) struct Recalled {
    stretches: BTreeMap<Place, (Stretch, Use)>,
    by_use: BTreeMap<Use, Place>,
    last_use: Use,
    bytes: usize,
}

/// Counts how often any stretch was used.
type Use = u64;

impl Recalled {
    /// Bytes held, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps a stretch, and drops those unused for longest until all take at most `max_bytes`.
    pub(super) fn keep(&mut self, stretch: Stretch, max_bytes: usize) {
        if stretch.after >= stretch.upto {
            return;
        }
        let place = (stretch.room.clone(), stretch.after);
        self.drop(&place);
        self.bytes += stretch.cost();
        self.last_use += 1;
        self.by_use.insert(self.last_use, place.clone());
        self.stretches.insert(place, (stretch, self.last_use));
        while self.bytes > max_bytes
            && let Some((_, place)) = self.by_use.first_key_value()
        {
            self.drop(&place.clone());
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
        // Where stretches overlap, the one that begins last is most often the one that ends last.
        let nearest = self.stretches.range_mut(..=(room.clone(), after)).next_back();
        let (place, (stretch, used)) =
            nearest.filter(|(_, (stretch, _))| stretch.room == *room && stretch.has(after))?;
        self.last_use += 1;
        self.by_use.remove(used);
        self.by_use.insert(self.last_use, place.clone());
        *used = self.last_use;
        stretch.page(after, max_bytes, dialect, encode)
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Recalled::default();
    }

    fn drop(&mut self, place: &Place) {
        if let Some((stretch, used)) = self.stretches.remove(place) {
            self.by_use.remove(&used);
            self.bytes -= stretch.cost();
        }
    }
}

#[cfg(test)]
mod tests {
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
        let upto = positions.last().map_or(after + 1, |last| last + 1);
        Stretch::new(room(name), Position(after), Position(upto), positions.iter().map(entry).collect())
    }

    fn heard(recalled: &mut Recalled, name: &str, after: u64) -> Option<String> {
        let mut encode = |_: Dialect, entry: &Entry, out: &mut Vec<u8>| {
            out.extend_from_slice(entry.content.bytes());
            out.push(b'|');
        };
        match recalled.page(&room(name), Position(after), 1_000, Dialect::Raw, &mut encode)? {
            Page::Bytes { bytes, reaches, .. } => {
                assert!(reaches > Position(after), "a page gets somebody further");
                Some(String::from_utf8(bytes.to_vec()).unwrap())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_stretch_serves_whoever_is_within_it_and_nobody_else() {
        let mut recalled = Recalled::default();
        recalled.keep(stretch("a", 3, &[5, 6, 9]), 100_000);
        recalled.keep(stretch("b", 3, &[4, 8]), 100_000);
        recalled.keep(stretch("d", 7, &[]), 100_000);
        for (name, after, expected) in [
            ("a", 2, None),
            ("a", 3, Some("5|6|9|")),
            ("a", 4, Some("5|6|9|")),
            ("a", 5, Some("6|9|")),
            ("a", 8, Some("9|")),
            ("a", 9, Some("")),
            ("a", 10, None),
            ("b", 3, Some("4|8|")),
            ("b", 7, Some("8|")),
            ("c", 3, None),
            ("d", 6, None),
            ("d", 7, Some("")),
            ("d", 8, None),
        ] {
            assert_eq!(heard(&mut recalled, name, after).as_deref(), expected, "{name} after {after}");
        }
    }

    #[test]
    fn those_unused_for_longest_go_first() {
        let cost = stretch("a", 1, &[2]).cost();
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
        for _ in 0..2 {
            (0..100).for_each(|at| recalled.keep(stretch("a", at, &[at + 1]), usize::MAX));
            assert_eq!((recalled.stretches.len(), recalled.by_use.len()), (100, 100));
            assert_eq!(recalled.bytes(), (0..100).map(|at| stretch("a", at, &[at + 1]).cost()).sum::<usize>());
        }
    }

    #[test]
    fn a_page_holds_no_more_than_its_piece_and_pages_go_on_without_a_hole() {
        let positions: Vec<u64> = (10..2_000).collect();
        let mut recalled = Recalled::default();
        recalled.keep(stretch("a", 3, &positions), usize::MAX);
        let most = PIECE_BYTES / FRAME_BYTES;
        let (mut after, mut told) = (3, Vec::new());
        let mut encode = |_: Dialect, entry: &Entry, out: &mut Vec<u8>| out.extend_from_slice(entry.content.bytes());
        while let Some(page) = recalled.page(&room("a"), Position(after), usize::MAX, Dialect::Raw, &mut encode) {
            let Page::Bytes { bytes, entries, reaches } = page else { panic!("{page:?}") };
            assert!(entries <= most && (entries > 0 || bytes.is_empty()), "{entries} entries");
            told.extend(positions.iter().filter(|at| (after + 1..=reaches.0).contains(at)));
            after = reaches.0;
        }
        assert_eq!((told, after), (positions, 2_000));
    }
}
