//! The recent entries of one room, kept as the batches in which the turns encoded them.
//!
//! A page for somebody who is behind is a slice of such a batch. Batches go from the front when the bounds are
//! passed; the newest stays, since whoever missed just that one is owed it.

use std::collections::VecDeque;

use bytes::Bytes;

use super::dialect::{DIALECTS, Dialect};
use super::entry::{Entry, Position};

/// What one turn brought to a room.
#[derive(Debug)]
pub(super) struct Batch {
    entries: Vec<Entry>,
    encoded: [Option<Encoded>; DIALECTS],
}

/// A batch in one dialect.
#[derive(Debug)]
struct Encoded {
    bytes: Bytes,
    /// Where each entry's frame ends. Empty for a batch of one entry, whose frame ends with the batch.
    ends: Vec<u32>,
}

/// Appends the frame of an entry in a dialect to a buffer.
pub(super) type Encode<'a> = &'a mut dyn FnMut(Dialect, &Entry, &mut Vec<u8>);

impl Batch {
    /// The entries of one turn, in order, at least one.
    pub(super) fn new(entries: Vec<Entry>) -> Self {
        debug_assert!(entries.is_sorted_by(|one, next| one.position < next.position));
        Batch { entries, encoded: [const { None }; DIALECTS] }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn first(&self) -> Position {
        self.entries.first().expect("a batch has an entry").position
    }

    pub(super) fn last(&self) -> Position {
        self.entries.last().expect("a batch has an entry").position
    }

    /// The whole batch in a dialect, encoded the first time it is asked for.
    pub(super) fn encoded(&mut self, dialect: Dialect, encode: Encode<'_>) -> &Bytes {
        &self.encode(dialect, encode).bytes
    }

    fn encode(&mut self, dialect: Dialect, encode: Encode<'_>) -> &Encoded {
        self.encoded[dialect.index()].get_or_insert_with(|| {
            // What a frame of the raw dialect has beside the content; others grow the buffer.
            const FRAME_HEAD: usize = 10;
            let size = self.entries.iter().map(|entry| entry.content.bytes().len() + FRAME_HEAD).sum();
            let mut buffer = Vec::with_capacity(size);
            let several = self.entries.len() > 1;
            let mut ends = Vec::with_capacity(if several { self.entries.len() } else { 0 });
            for entry in &self.entries {
                encode(dialect, entry, &mut buffer);
                if several {
                    ends.push(u32::try_from(buffer.len()).expect("a turn's batch is bounded far below 4 GiB"));
                }
            }
            Encoded { bytes: buffer.into(), ends }
        })
    }

    /// The part behind `after`, of about `max_bytes`, and the position it reaches.
    pub(super) fn page(&mut self, after: Position, max_bytes: usize, dialect: Dialect, encode: Encode<'_>) -> Page {
        let last = self.last();
        let from = self.entries.partition_point(|entry| entry.position <= after);
        self.encode(dialect, encode);
        let Some(Encoded { bytes, ends }) = &self.encoded[dialect.index()] else {
            unreachable!("encoded in the line before")
        };
        if ends.is_empty() {
            return Page::Bytes { bytes: bytes.clone(), entries: 1, reaches: last };
        }
        let start = from.checked_sub(1).map_or(0, |before| ends[before] as usize);
        // At least one entry, so that a page always gets somebody further.
        let within = ends.partition_point(|end| *end as usize <= start + max_bytes);
        let to = within.max(from + 1);
        let reaches = self.entries[to - 1].position;
        Page::Bytes { bytes: bytes.slice(start..ends[to - 1] as usize), entries: to - from, reaches }
    }

    /// What keeping this batch costs, about: its entries, and one encoding of them.
    pub(super) fn cost(&self) -> usize {
        self.entries.iter().map(|entry| size_of::<Entry>() + 2 * entry.content.bytes().len()).sum()
    }
}

/// How much is told at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct PageSize {
    /// At most so many entries.
    pub(super) entries: usize,
    /// At most so many bytes of content, but always one entry.
    pub(super) bytes: usize,
}

impl PageSize {
    fn of<'a>(self, entries: impl Iterator<Item = &'a Entry>) -> Vec<Entry> {
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            let is_first = bytes == 0;
            bytes += entry.content.bytes().len().max(1);
            is_first || bytes <= self.bytes
        };
        entries.take(self.entries).take_while(fits).cloned().collect()
    }
}

/// What a room can tell somebody who has heard everything up to some position.
#[derive(Debug)]
pub(super) enum Page {
    /// There is nothing newer: whoever asks has met the present.
    Level,
    /// What comes next.
    Bytes {
        /// Whole frames.
        bytes: Bytes,
        /// How many entries they are.
        entries: usize,
        /// The position of the last.
        reaches: Position,
    },
    /// Some of what comes next is no longer kept.
    Gone,
}

/// The kept batches of one room.
#[derive(Debug)]
pub(super) struct Tail {
    batches: VecDeque<Batch>,
    entries: usize,
    bytes: usize,
    /// Entries of this room up to here are no longer kept.
    floor: Position,
    /// Up to here some entries may be missing between those that are kept: nobody can go on from before.
    lost_upto: Position,
    /// The last entry of this room.
    last: Position,
}

impl Tail {
    /// An empty tail of a room; what it had up to `floor`, if anything, is no longer known.
    pub(super) fn new(floor: Position) -> Self {
        Tail { batches: VecDeque::new(), entries: 0, bytes: 0, floor, lost_upto: floor, last: floor }
    }

    /// Bytes held, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Entries of this room up to here are not in the tail.
    pub(super) fn floor(&self) -> Position {
        self.floor
    }

    /// Whoever has heard everything up to here, or up to a later position, can be told all that follows.
    pub(super) fn known_from(&self) -> Position {
        self.floor.max(self.lost_upto)
    }

    /// Some of what came up to a position may not be here.
    pub(super) fn lose(&mut self, upto: Position) {
        self.lost_upto = self.lost_upto.max(upto);
        self.last = self.last.max(upto);
    }

    /// How many entries of the tail come after `after`.
    pub(super) fn count_after(&self, after: Position) -> usize {
        let behind =
            |batch: &Batch| batch.entries.len() - batch.entries.partition_point(|entry| entry.position <= after);
        self.batches.iter().rev().map(behind).take_while(|count| *count > 0).sum()
    }

    /// The oldest entries of the tail that come after `after`.
    pub(super) fn after(&self, after: Position, size: PageSize) -> Vec<Entry> {
        let first = self.batches.partition_point(|batch| batch.last() <= after);
        let entries = self.batches.range(first..).flat_map(|batch| &batch.entries);
        size.of(entries.skip_while(|entry| entry.position <= after))
    }

    /// The newest entries of the tail that come before `before`, the oldest of them first.
    pub(super) fn before(&self, before: Position, size: PageSize) -> Vec<Entry> {
        let entries = self.batches.iter().rev().flat_map(|batch| batch.entries.iter().rev());
        let mut newest = size.of(entries.skip_while(|entry| entry.position >= before));
        newest.reverse();
        newest
    }

    /// Whether the tail has an entry before `before`.
    pub(super) fn reaches_before(&self, before: Position) -> bool {
        self.batches.front().is_some_and(|batch| batch.first() < before)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// The last entry that the room ever had, as far as is known.
    pub(super) fn last(&self) -> Position {
        self.last
    }

    /// Keeps a batch, and drops from the front what passes the bounds.
    pub(super) fn append(&mut self, batch: Batch, max_entries: usize, max_bytes: usize) {
        self.last = batch.last();
        self.entries += batch.len();
        self.bytes += batch.cost();
        self.batches.push_back(batch);
        while self.batches.len() > 1 && (self.entries > max_entries || self.bytes > max_bytes) {
            self.drop_front();
        }
    }

    /// Drops the oldest batch, if there is one.
    pub(super) fn drop_front(&mut self) {
        let Some(batch) = self.batches.pop_front() else { return };
        self.floor = batch.last();
        self.entries -= batch.len();
        self.bytes -= batch.cost();
        if self.batches.is_empty() {
            self.batches.shrink_to_fit();
        }
    }

    /// What comes after `after`, about `max_bytes` of it.
    pub(super) fn page(&mut self, after: Position, max_bytes: usize, dialect: Dialect, encode: Encode<'_>) -> Page {
        if after >= self.last {
            return Page::Level;
        }
        if after < self.known_from() {
            return Page::Gone;
        }
        let place = self.batches.partition_point(|batch| batch.last() <= after);
        self.batches[place].page(after, max_bytes, dialect, encode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::entry::{Content, RoomName, Timestamp};

    /// Frames of the tests are the text and a bar.
    fn encode(_: Dialect, entry: &Entry, out: &mut Vec<u8>) {
        out.extend_from_slice(entry.content.bytes());
        out.push(b'|');
    }

    fn batch(positions: &[u64]) -> Batch {
        let room = RoomName::new("room", 64).unwrap();
        let entry = |position: &u64| Entry {
            position: Position(*position),
            room: room.clone(),
            origin: None,
            author: None,
            nonce: None,
            at: Timestamp(0),
            content: Content::Text(Bytes::from(position.to_string())),
        };
        Batch::new(positions.iter().map(entry).collect())
    }

    fn tail() -> Tail {
        let mut tail = Tail::new(Position::START);
        for positions in [&[2_u64, 3, 5][..], &[8], &[9, 12]] {
            tail.append(batch(positions), 100, 100_000);
        }
        tail
    }

    /// All that somebody hears who starts behind `after` and asks for pages of `max_bytes`.
    fn heard(tail: &mut Tail, mut after: Position, max_bytes: usize) -> String {
        let mut heard = String::new();
        loop {
            match tail.page(after, max_bytes, Dialect::Raw, &mut encode) {
                Page::Level => return heard,
                Page::Gone => return heard + "gone",
                Page::Bytes { bytes, entries, reaches } => {
                    let page = std::str::from_utf8(&bytes).unwrap();
                    assert_eq!(page.matches('|').count(), entries);
                    assert!(reaches > after, "a page gets somebody further");
                    heard.push_str(page);
                    after = reaches;
                }
            }
        }
    }

    #[test]
    fn pages_of_any_size_from_any_position_are_complete() {
        for max_bytes in [0, 1, 2, 3, 4, 5, 1000] {
            for after in 0..=13_u64 {
                let expected: String =
                    [2, 3, 5, 8, 9, 12].iter().filter(|p| **p > after).map(|p| format!("{p}|")).collect();
                assert_eq!(
                    heard(&mut tail(), Position(after), max_bytes),
                    expected,
                    "after {after}, {max_bytes} bytes"
                );
            }
        }
    }

    #[test]
    fn entries_before_and_after_any_position() {
        let tail = tail();
        let all = [2_u64, 3, 5, 8, 9, 12];
        let positions = |entries: Vec<Entry>| entries.iter().map(|entry| entry.position.0).collect::<Vec<_>>();
        for at in 0..=13 {
            let later: Vec<u64> = all.into_iter().filter(|p| *p > at).collect();
            let earlier: Vec<u64> = all.into_iter().filter(|p| *p < at).collect();
            assert_eq!(tail.count_after(Position(at)), later.len());
            assert_eq!(tail.reaches_before(Position(at)), !earlier.is_empty());
            for limit in 0..8 {
                let size = PageSize { entries: limit, bytes: 1000 };
                assert_eq!(positions(tail.after(Position(at), size)), later[..limit.min(later.len())]);
                let from = earlier.len().saturating_sub(limit);
                assert_eq!(positions(tail.before(Position(at), size)), earlier[from..]);
            }
        }
        // The content is 9 and 12, or 2 and 3 and 5.
        for (bytes, newest, oldest) in
            [(0, &[12_u64][..], &[2_u64][..]), (2, &[12], &[2, 3]), (3, &[9, 12], &[2, 3, 5])]
        {
            let size = PageSize { entries: 3, bytes };
            assert_eq!(positions(tail.before(Position(99), size)), newest, "{bytes} bytes");
            assert_eq!(positions(tail.after(Position(0), size)), oldest, "{bytes} bytes");
        }
    }

    #[test]
    fn what_is_dropped_is_gone_for_whoever_needs_it_and_only_for_them() {
        let mut tail = tail();
        tail.drop_front();
        assert_eq!(heard(&mut tail, Position(4), 1000), "gone");
        assert_eq!(heard(&mut tail, Position(5), 1000), "8|9|12|");
        tail.drop_front();
        tail.drop_front();
        tail.drop_front();
        assert_eq!((tail.bytes(), tail.is_empty()), (0, true));
        assert_eq!(heard(&mut tail, Position(9), 1000), "gone");
        assert_eq!(heard(&mut tail, Position(12), 1000), "");
    }

    #[test]
    fn the_bounds_hold_but_the_newest_batch_stays() {
        let mut tail = Tail::new(Position::START);
        for position in 1..=10 {
            tail.append(batch(&[position]), 3, 100_000);
        }
        assert_eq!(heard(&mut tail, Position(7), 1000), "8|9|10|");
        assert_eq!(heard(&mut tail, Position(6), 1000), "gone");
        tail.append(batch(&[11, 12, 13, 14, 15]), 3, 100_000);
        assert_eq!(heard(&mut tail, Position(10), 1000), "11|12|13|14|15|");
        tail.append(batch(&[16]), 100, 1);
        assert_eq!(heard(&mut tail, Position(15), 1000), "16|");
    }
}
