//! A large file on its way to a client: read piece by piece, never whole.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use super::memory_file::MemoryFile;

/// A file that is open for all who are being sent it. Reads name their offset, so they share it.
#[derive(Debug)]
pub struct OpenFile(Place);

#[derive(Debug)]
enum Place {
    /// A large one. How many of them there are is counted: the worker makes them, everybody ends them.
    Disk { file: File, count: Arc<AtomicUsize> },
    /// A copy of ours.
    Memory(MemoryFile),
}

impl OpenFile {
    /// A large file on the disk.
    pub(super) fn new(file: File, count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        OpenFile(Place::Disk { file, count: Arc::clone(count) })
    }

    /// A copy in memory.
    pub(super) fn copy(file: MemoryFile) -> Self {
        OpenFile(Place::Memory(file))
    }

    pub(super) fn is_copy(&self) -> bool {
        matches!(self.0, Place::Memory(_))
    }

    /// A pipe that holds all of it, and how much that is, if there is one. It must not be read from, only copied (`tee(2)`).
    #[must_use]
    pub fn pipe(&self) -> Option<(BorrowedFd<'_>, usize)> {
        match &self.0 {
            Place::Disk { .. } => None,
            Place::Memory(file) => file.pipe(),
        }
    }

    fn file(&self) -> &File {
        match &self.0 {
            Place::Disk { file, .. } => file,
            Place::Memory(copy) => &copy.file,
        }
    }

    /// Appends these bytes of it, all of which it has. It waits for the disk, if it is there.
    pub(super) fn read_part(&self, range: &Range<u64>, out: &mut Vec<u8>) -> io::Result<()> {
        let begin = out.len();
        out.resize(begin + usize::try_from(range.end - range.start).map_err(io::Error::other)?, 0);
        self.file().read_exact_at(&mut out[begin..], range.start)
    }

    /// Everything, if it has this length. It waits for the disk.
    pub(super) fn read_whole(&self, length: u64) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        self.read_part(&(0..length), &mut content)?;
        Ok(content)
    }
}

impl AsFd for OpenFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file().as_fd()
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        if let Place::Disk { count, .. } = &self.0 {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The rest of a large file, or of parts of it, that is being sent. It holds the file open.
#[derive(Debug, Clone)]
pub struct FileStream {
    file: Arc<OpenFile>,
    /// What is sent before the bytes of `range`.
    before: Bytes,
    range: Range<u64>,
    /// What follows, where several parts were asked for.
    rest: VecDeque<Part>,
}

/// Bytes of a file, and what is sent before them.
#[derive(Debug, Clone)]
pub struct Part {
    /// What is sent before them.
    pub before: Bytes,
    /// Which bytes of the file.
    pub range: Range<u64>,
}

/// What came of reading on.
#[derive(Debug)]
pub(super) enum Piece {
    /// The next bytes, at least one, and what is still to come.
    Read(Bytes, Option<FileStream>),
    /// The disk would have to be waited for.
    Cold(FileStream),
    /// The file ends before it should, or cannot be read.
    Lost,
}

impl FileStream {
    /// These bytes of a file.
    pub(super) fn new(file: Arc<OpenFile>, range: Range<u64>) -> Self {
        FileStream { file, before: Bytes::new(), range, rest: VecDeque::new() }
    }

    /// These parts of a file, one after the other; the last may be only what stands behind all of them.
    pub(super) fn of_parts(file: Arc<OpenFile>, mut parts: VecDeque<Part>) -> Option<Self> {
        let Part { before, range } = parts.pop_front()?;
        Some(FileStream { file, before, range, rest: parts })
    }

    /// The bytes that are still to come.
    #[must_use]
    pub fn remaining_bytes(&self) -> u64 {
        let of = |before: &Bytes, range: &Range<u64>| before.len() as u64 + (range.end - range.start);
        let rest = self.rest.iter().map(|part| of(&part.before, &part.range));
        of(&self.before, &self.range) + rest.sum::<u64>()
    }

    /// Whether it is a copy in memory, which need not be read.
    #[must_use]
    pub fn is_copy(&self) -> bool {
        self.file.is_copy()
    }

    /// What comes next of a copy in memory, and what follows. `None` for a file on the disk.
    #[must_use]
    pub fn next_of_copy(mut self) -> Option<(Part, Option<FileStream>)> {
        if !self.file.is_copy() {
            return None;
        }
        let before = std::mem::take(&mut self.before);
        let range = std::mem::replace(&mut self.range, 0..0);
        Some((Part { before, range }, self.or_next()))
    }

    /// The file itself.
    #[must_use]
    pub fn file(&self) -> Arc<OpenFile> {
        Arc::clone(&self.file)
    }

    /// Reads up to so many bytes if they are in the page cache. It never waits.
    pub(super) fn read_warm(self, max_bytes: usize) -> Piece {
        if !self.before.is_empty() {
            return self.take_before();
        }
        let mut buffer = self.buffer(max_bytes);
        let at = self.range.start;
        match preadv2(self.file.file(), &mut [IoSliceMut::new(&mut buffer)], at, ReadWriteFlags::NOWAIT) {
            Ok(length) => self.advance(buffer, length),
            // Cold, or a file system that cannot tell.
            Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS | Errno::INTR) => Piece::Cold(self),
            Err(_) => Piece::Lost,
        }
    }

    /// Reads up to so many bytes, and waits for the disk if it must.
    pub(super) fn read_waiting(self, max_bytes: usize) -> Piece {
        if !self.before.is_empty() {
            return self.take_before();
        }
        let mut buffer = self.buffer(max_bytes);
        loop {
            match self.file.file().read_at(&mut buffer, self.range.start) {
                Ok(length) => return self.advance(buffer, length),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Piece::Lost,
            }
        }
    }

    /// What comes next without a look at the file.
    fn take_before(mut self) -> Piece {
        let before = std::mem::take(&mut self.before);
        Piece::Read(before, self.or_next())
    }

    fn buffer(&self, max_bytes: usize) -> Vec<u8> {
        let length = (self.range.end - self.range.start).min(max_bytes.max(1) as u64);
        vec![0; usize::try_from(length).unwrap_or(max_bytes)]
    }

    fn advance(mut self, mut buffer: Vec<u8>, length: usize) -> Piece {
        if length == 0 {
            return Piece::Lost;
        }
        buffer.truncate(length);
        self.range.start += length as u64;
        Piece::Read(buffer.into(), self.or_next())
    }

    /// Itself, if there is more of this part, else the next part.
    fn or_next(mut self) -> Option<Self> {
        while self.before.is_empty() && self.range.is_empty() {
            let Part { before, range } = self.rest.pop_front()?;
            (self.before, self.range) = (before, range);
        }
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(content: &[u8]) -> Arc<OpenFile> {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, content).unwrap();
        Arc::new(OpenFile::new(file, &Arc::default()))
    }

    /// Reads all that is to come, with this much at once; the lengths of the pieces.
    fn drained(mut stream: FileStream, max_bytes: usize) -> (Vec<u8>, Vec<usize>) {
        let (mut content, mut lengths) = (Vec::new(), Vec::new());
        loop {
            let expected = stream.remaining_bytes();
            let Piece::Read(bytes, rest) = stream.read_waiting(max_bytes) else { panic!("lost") };
            content.extend_from_slice(&bytes);
            lengths.push(bytes.len());
            match rest {
                Some(rest) => stream = rest,
                None => return (content, lengths),
            }
            assert_eq!(stream.remaining_bytes(), expected - *lengths.last().unwrap() as u64);
        }
    }

    #[test]
    fn what_is_cold_is_waited_for() {
        let file = opened(&[b'x'; 700]);
        assert_eq!(drained(FileStream::new(Arc::clone(&file), 0..700), 300).1, [300, 300, 100]);
        assert_eq!(drained(FileStream::new(Arc::clone(&file), 350..700), 300).1, [300, 50]);
        let beyond = FileStream::new(file, 0..701);
        let Piece::Read(_, Some(rest)) = beyond.read_waiting(700) else { panic!("the first piece is there") };
        assert!(matches!(rest.read_waiting(700), Piece::Lost));
    }

    #[test]
    fn parts_come_with_what_stands_before_them() {
        let part = |before: &'static str, range| Part { before: before.into(), range };
        let parts = [part("<", 0..3), part("|", 8..10), part("", 2..3), part(">", 0..0)];
        for max_bytes in 1..5 {
            let stream = FileStream::of_parts(opened(b"0123456789"), parts.clone().into()).unwrap();
            assert_eq!(stream.remaining_bytes(), 9);
            assert_eq!(drained(stream, max_bytes).0, b"<012|892>", "{max_bytes} at once");
        }
    }
}
