//! What waits to be written to one socket: a queue of shared byte slices.
//!
//! Everybody pushes, only the flush step takes. The queue keeps its first slice inline, since a member that keeps up
//! never has a second one, and owns no heap memory while it is empty.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// How many slices one `writev` takes at the most; the kernel's own bound (`IOV_MAX`) is 1024.
pub const MAX_SLICES: usize = 64;

/// What a slice costs beside its bytes: its place in the queue, which may be twice as long as what is in it. The first is
/// in the outbox itself.
const SLICE_BYTES: usize = 2 * size_of::<Bytes>();

/// Bytes queued for one socket, in order.
#[derive(Debug, Default)]
pub struct Outbox {
    front: Bytes,
    #[expect(
        clippy::box_collection,
        reason = "every connection has one, and hardly any has a second slice: 24 bytes each"
    )]
    rest: Option<Box<VecDeque<Bytes>>>,
    len: usize,
    /// The farewell is queued: nothing may follow it.
    sealed: bool,
}

impl Outbox {
    /// Bytes that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Memory that is taken by what waits, about: many small slices cost more than their bytes. This is what bounds are
    /// about.
    #[must_use]
    pub fn load(&self) -> usize {
        self.len + self.rest.as_ref().map_or(0, |rest| rest.len() * SLICE_BYTES)
    }

    /// Nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Queues `bytes` behind all that waits. Once sealed, nothing more is taken.
    ///
    /// Returns by how much the [`load`](Self::load) has grown.
    pub fn push(&mut self, bytes: Bytes) -> usize {
        let added = bytes.len();
        if added == 0 || self.sealed {
            return 0;
        }
        let is_first = self.len == 0;
        self.len += added;
        if is_first {
            self.front = bytes;
            return added;
        }
        self.rest.get_or_insert_default().push_back(bytes);
        added + SLICE_BYTES
    }

    /// Lets nothing follow what is queued by now: it ends with a close frame, or with the last response.
    pub fn seal(&mut self) {
        self.sealed = true;
    }

    /// The first slice, empty if nothing waits.
    #[must_use]
    pub fn front(&self) -> &[u8] {
        &self.front
    }

    /// Whether more than one slice waits, so that `writev` is worth its price.
    #[must_use]
    pub fn has_several(&self) -> bool {
        self.rest.is_some()
    }

    /// Fills `slices` from the front and returns how many were filled.
    pub fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>; MAX_SLICES]) -> usize {
        let waiting = std::iter::once(&self.front).chain(self.rest.iter().flat_map(|rest| rest.iter()));
        let mut filled = 0;
        for (slice, bytes) in slices.iter_mut().zip(waiting) {
            *slice = IoSlice::new(bytes);
            filled += 1;
        }
        filled
    }

    /// Bytes that one write offers to the socket: the first slice, or as many slices as one `writev` takes.
    #[must_use]
    pub fn offered(&self) -> usize {
        match &self.rest {
            Some(rest) if rest.len() >= MAX_SLICES => {
                self.front.len() + rest.iter().take(MAX_SLICES - 1).map(Bytes::len).sum::<usize>()
            }
            _ => self.len,
        }
    }

    /// Forgets the first `written` bytes.
    ///
    /// # Panics
    ///
    /// When more bytes were written than waited, which no socket does.
    pub fn advance(&mut self, mut written: usize) {
        assert!(written <= self.len, "a socket took {written} bytes of {}", self.len);
        self.len -= written;
        while written >= self.front.len() {
            written -= self.front.len();
            let next = self.rest.as_mut().and_then(|rest| rest.pop_front());
            let Some(next) = next else {
                self.front = Bytes::new();
                self.rest = None;
                return;
            };
            self.front = next;
            if self.rest.as_ref().is_some_and(|rest| rest.is_empty()) {
                self.rest = None;
            }
        }
        self.front.advance(written);
    }

    /// Drops all that waits and returns the load that it was.
    pub fn clear(&mut self) -> usize {
        let load = self.load();
        self.front = Bytes::new();
        self.rest = None;
        self.len = 0;
        load
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox(slices: &[&'static str]) -> Outbox {
        let mut outbox = Outbox::default();
        for slice in slices {
            outbox.push(Bytes::from_static(slice.as_bytes()));
        }
        outbox
    }

    fn content(outbox: &Outbox) -> String {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let filled = outbox.fill(&mut slices);
        slices[..filled].iter().map(|slice| std::str::from_utf8(slice).unwrap()).collect()
    }

    #[test]
    fn any_two_writes_leave_the_rest_in_order() {
        let text = "onetwothreefour";
        for first in 0..=text.len() {
            for second in 0..=text.len() - first {
                let mut outbox = outbox(&["one", "two", "three", "four"]);
                outbox.advance(first);
                outbox.advance(second);
                assert_eq!(content(&outbox), &text[first + second..], "after {first} and {second}");
                assert_eq!(outbox.len(), text.len() - first - second);
                assert_eq!(outbox.is_empty(), first + second == text.len());
            }
        }
    }

    #[test]
    fn the_load_grows_and_shrinks_with_the_slices() {
        let mut outbox = Outbox::default();
        let (mut load, bytes) = (0, 100);
        for count in 0..bytes {
            assert_eq!((outbox.len(), outbox.load()), (count, load));
            load += outbox.push(Bytes::from_static(b"x"));
        }
        assert_eq!(load, bytes + (bytes - 1) * SLICE_BYTES, "the first has its place in the outbox");
        for left in (0..bytes).rev() {
            outbox.advance(1);
            assert_eq!(outbox.load(), left + left.saturating_sub(1) * SLICE_BYTES);
        }
        let mut outbox = self::outbox(&["a", "b", "c"]);
        assert_eq!((outbox.load(), outbox.clear(), outbox.load()), (3 + 2 * SLICE_BYTES, 3 + 2 * SLICE_BYTES, 0));
    }

    #[test]
    fn an_empty_outbox_owns_no_queue_and_is_small() {
        let mut outbox = outbox(&["a", "b", "c"]);
        assert!(outbox.has_several());
        outbox.advance(2);
        assert!(!outbox.has_several(), "one slice is written by write, not by writev");
        outbox.advance(1);
        assert!(outbox.rest.is_none() && outbox.front().is_empty());
        assert!(size_of::<Outbox>() <= 56, "{}", size_of::<Outbox>());
    }

    #[test]
    fn nothing_follows_the_farewell() {
        let mut outbox = outbox(&["bye"]);
        outbox.seal();
        assert_eq!(outbox.push(Bytes::from_static(b"late")), 0);
        assert_eq!(content(&outbox), "bye");
    }

    #[test]
    fn more_slices_than_one_writev_takes_go_in_order() {
        let mut outbox = Outbox::default();
        let expected: Vec<u8> = (0..=255).collect();
        for byte in &expected {
            outbox.push(Bytes::copy_from_slice(&[*byte]));
        }
        let mut seen = Vec::new();
        while !outbox.is_empty() {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let filled = outbox.fill(&mut slices);
            assert!(filled <= MAX_SLICES);
            seen.extend(slices[..filled].iter().flat_map(|slice| slice.iter().copied()));
            outbox.advance(filled);
        }
        assert_eq!(seen, expected);
    }
}
