//! What waits to be written to one socket: a queue of shared byte slices, and of slices of files that the kernel sends by
//! itself.
//!
//! Everybody pushes, only the flush step takes. The queue keeps its first slice inline, since a member that keeps up
//! never has a second one, and owns no heap memory while it is empty.

use std::collections::VecDeque;
use std::fmt;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use bytes::{Buf, Bytes};

/// How many slices one `writev` takes at the most; the kernel's own bound (`IOV_MAX`) is 1024.
pub const MAX_SLICES: usize = 64;

/// What a slice costs beside its bytes: its place in the queue, which may be twice as long as what is in it. The first is
/// in the outbox itself.
const SLICE_BYTES: usize = 2 * size_of::<Slice>();

/// Bytes of a file that neither changes nor has to be waited for, such as one in memory. They go to the socket without
/// being copied (`sendfile(2)`).
#[derive(Debug, Clone)]
pub struct FileSlice {
    file: Arc<dyn SharedFile>,
    start: u32,
    end: u32,
}

/// A file that is open as long as anybody holds it.
pub trait SharedFile: AsFd + fmt::Debug + Send + Sync {
    /// A pipe that holds all of it, and how much that is, if there is one. It is copied from and never read.
    fn pipe(&self) -> Option<(BorrowedFd<'_>, usize)>;
}

impl FileSlice {
    /// The bytes from `start` to `end`.
    #[must_use]
    pub fn new(file: Arc<dyn SharedFile>, start: u32, end: u32) -> Self {
        FileSlice { file, start, end }
    }

    /// The file, where the slice begins in it, and how long it is.
    #[must_use]
    pub fn place(&self) -> (BorrowedFd<'_>, u64, usize) {
        (self.file.as_fd(), self.start.into(), self.len())
    }

    /// A pipe that holds just what the slice is, if that is the whole file.
    #[must_use]
    pub fn pipe(&self) -> Option<BorrowedFd<'_>> {
        if self.start != 0 {
            return None;
        }
        self.file.pipe().filter(|(_, length)| *length == self.len()).map(|(pipe, _)| pipe)
    }

    fn len(&self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }
}

/// What one write takes from the front of an outbox.
#[derive(Debug)]
pub enum Front<'a> {
    /// One slice of bytes, empty if nothing waits.
    One(&'a [u8]),
    /// Several, see [`Outbox::fill`].
    Several,
    /// Bytes of a file.
    File(&'a FileSlice),
}

#[derive(Debug)]
enum Slice {
    Bytes(Bytes),
    File(FileSlice),
}

impl Slice {
    fn len(&self) -> usize {
        match self {
            Slice::Bytes(bytes) => bytes.len(),
            Slice::File(file) => file.len(),
        }
    }

    fn advance(&mut self, written: usize) {
        match self {
            Slice::Bytes(bytes) => bytes.advance(written),
            // No more than is left of it, which a u32 holds.
            Slice::File(file) => file.start += written as u32,
        }
    }
}

impl Default for Slice {
    fn default() -> Self {
        Slice::Bytes(Bytes::new())
    }
}

/// Bytes queued for one socket, in order.
#[derive(Debug, Default)]
pub struct Outbox {
    front: Slice,
    #[expect(
        clippy::box_collection,
        reason = "every connection has one, and hardly any has a second slice: 24 bytes each"
    )]
    rest: Option<Box<VecDeque<Slice>>>,
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
        self.push_slice(Slice::Bytes(bytes))
    }

    /// Queues bytes of a file, as [`push`](Self::push) does.
    pub fn push_file(&mut self, file: FileSlice) -> usize {
        self.push_slice(Slice::File(file))
    }

    fn push_slice(&mut self, slice: Slice) -> usize {
        let added = slice.len();
        if added == 0 || self.sealed {
            return 0;
        }
        let is_first = self.len == 0;
        self.len += added;
        if is_first {
            self.front = slice;
            return added;
        }
        self.rest.get_or_insert_default().push_back(slice);
        added + SLICE_BYTES
    }

    /// Lets nothing follow what is queued by now: it ends with a close frame, or with the last response.
    pub fn seal(&mut self) {
        self.sealed = true;
    }

    /// What one write takes.
    #[must_use]
    pub fn front(&self) -> Front<'_> {
        match (&self.front, self.rest.as_ref().and_then(|rest| rest.front())) {
            (Slice::File(file), _) => Front::File(file),
            (Slice::Bytes(_), Some(Slice::Bytes(_))) => Front::Several,
            (Slice::Bytes(bytes), _) => Front::One(bytes),
        }
    }

    /// Fills `slices` with bytes from the front, up to the first file, and returns how many were filled.
    pub fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>; MAX_SLICES]) -> usize {
        let mut filled = 0;
        for (slice, waiting) in slices.iter_mut().zip(self.slices()) {
            let Slice::Bytes(bytes) = waiting else { break };
            *slice = IoSlice::new(bytes);
            filled += 1;
        }
        filled
    }

    /// Bytes that one write offers to the socket: a file, or as many slices as one `writev` takes.
    #[must_use]
    pub fn offered(&self) -> usize {
        match (&self.front, &self.rest) {
            (front, None) | (front @ Slice::File(_), _) => front.len(),
            (Slice::Bytes(_), Some(_)) => {
                self.slices().take_while(|it| matches!(it, Slice::Bytes(_))).take(MAX_SLICES).map(Slice::len).sum()
            }
        }
    }

    fn slices(&self) -> impl Iterator<Item = &Slice> {
        std::iter::once(&self.front).chain(self.rest.iter().flat_map(|rest| rest.iter()))
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
                self.front = Slice::default();
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
        self.front = Slice::default();
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
        assert!(matches!(outbox.front(), Front::Several));
        outbox.advance(2);
        assert!(matches!(outbox.front(), Front::One(b"c")), "one slice is written by write, not by writev");
        outbox.advance(1);
        assert!(outbox.rest.is_none() && matches!(outbox.front(), Front::One(b"")));
        assert!(size_of::<Outbox>() <= 56, "{}", size_of::<Outbox>());
    }

    /// A file of 250 bytes that a pipe holds, as far as the outbox knows.
    #[derive(Debug)]
    struct Piped(std::fs::File);

    impl AsFd for Piped {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }

    impl SharedFile for Piped {
        fn pipe(&self) -> Option<(BorrowedFd<'_>, usize)> {
            Some((self.0.as_fd(), 250))
        }
    }

    #[test]
    fn only_a_whole_file_is_what_its_pipe_holds() {
        let file = Arc::new(Piped(tempfile::tempfile().unwrap()));
        for (start, end, expected) in [(0, 250, true), (0, 249, false), (1, 250, false), (100, 350, false)] {
            assert_eq!(FileSlice::new(file.clone(), start, end).pipe().is_some(), expected, "{start} to {end}");
        }
        let mut outbox = Outbox::default();
        outbox.push_file(FileSlice::new(file, 0, 250));
        outbox.advance(1);
        assert!(matches!(outbox.front(), Front::File(rest) if rest.pipe().is_none()));
    }

    #[test]
    fn a_file_is_taken_by_itself() {
        let file = Arc::new(Piped(tempfile::tempfile().unwrap()));
        let mut outbox = outbox(&["head", "er"]);
        outbox.push_file(FileSlice::new(file, 100, 350));
        outbox.push(Bytes::from_static(b"next"));
        assert_eq!((outbox.len(), outbox.offered(), content(&outbox)), (260, 6, "header".to_owned()));
        assert!(matches!(outbox.front(), Front::Several));
        outbox.advance(5);
        assert!(matches!(outbox.front(), Front::One(b"r")));
        outbox.advance(1);
        for (taken, start, left) in [(0, 100, 250), (50, 150, 200), (199, 349, 1)] {
            outbox.advance(taken);
            let Front::File(slice) = outbox.front() else { panic!("{outbox:?}") };
            let (_, at, length) = slice.place();
            assert_eq!((at, length, outbox.offered(), outbox.len()), (start, left, left, left + 4));
        }
        outbox.advance(3);
        assert!(matches!(outbox.front(), Front::One(b"xt")));
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
