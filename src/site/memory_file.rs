//! Content as a file in memory, which the kernel sends without copying it.
//!
//! The kernel looks up the pages of such a file one by one each time it is sent. So a pipe holds them once more, all of
//! them in order, and sending begins with a copy of what is in that pipe (`tee(2)`), which takes no page and no byte.
//!
//! The pipes of one user share a bound of 16,384 pages (`pipe(7)`, pipe-user-pages-soft), beyond which those of every
//! program get hardly any. So only [`Limits::piped_files`] have one: by default a process takes a quarter of it at the most.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use rustix::process::{self, getrlimit};

use super::space::Share;
use crate::limits::{Limits, MOST_PIPED_BYTES};

/// Content of at least this length is kept as a file: below it a copy costs less than another system call.
const LEAST_BYTES: usize = 32 * 1024;

/// Descriptors that files in memory and their pipes take, beside those of [`Limits::max_open_files`].
#[must_use]
pub fn most_memory_descriptors(limits: &Limits) -> usize {
    let files = most_files();
    files + files.min(limits.piped_files)
}

/// A small share of the descriptors that this process may have. What comes later is kept as bytes.
fn most_files() -> usize {
    const MOST: u64 = 256;
    const SHARE: u64 = 64;
    let descriptors = getrlimit(process::Resource::Nofile).current;
    descriptors.map_or(MOST, |descriptors| MOST.min(descriptors / SHARE)) as usize
}

/// Makes files in memory, and no more than there may be.
#[derive(Debug)]
pub(super) struct MemoryFiles {
    files: Arc<AtomicUsize>,
    pipes: Arc<AtomicUsize>,
    max_files: usize,
    max_pipes: usize,
}

impl MemoryFiles {
    pub(super) fn new(limits: &Limits) -> Self {
        let (max_files, max_pipes) = (most_files(), limits.piped_files);
        MemoryFiles { files: Arc::default(), pipes: Arc::default(), max_files, max_pipes }
    }

    /// Content as a file, if it is worth a descriptor and there is one; else the room that it takes.
    pub(super) fn make(&self, content: &[u8], share: Share) -> Result<MemoryFile, Share> {
        let is_worth_it = content.len() >= LEAST_BYTES;
        let Some(counted) = Counted::one_of(&self.files, self.max_files).filter(|_| is_worth_it) else {
            return Err(share);
        };
        let Ok(file) = written(content) else { return Err(share) };
        // Without a pipe it is only slower.
        let pipe = Counted::one_of(&self.pipes, self.max_pipes)
            .and_then(|counted| Pipe::of(&file, content.len(), counted).ok());
        Ok(MemoryFile { file, pipe, _share: share, _counted: counted })
    }
}

fn written(content: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create("chat-app", MemfdFlags::CLOEXEC)?);
    file.write_all(content)?;
    Ok(file)
}

/// A file in memory, that neither changes nor has to be waited for.
#[derive(Debug)]
pub(super) struct MemoryFile {
    pub(super) file: File,
    pipe: Option<Pipe>,
    /// The room that its content takes.
    _share: Share,
    _counted: Counted,
}

impl MemoryFile {
    /// A pipe that holds all of it, and how much that is. Nobody reads from it.
    pub(super) fn pipe(&self) -> Option<(BorrowedFd<'_>, usize)> {
        self.pipe.as_ref().map(|pipe| (pipe.reading.as_fd(), pipe.length))
    }
}

#[derive(Debug)]
struct Pipe {
    reading: OwnedFd,
    length: usize,
    _counted: Counted,
}

impl Pipe {
    /// A pipe with the pages of a file of this length.
    fn of(file: &File, length: usize, counted: Counted) -> io::Result<Self> {
        if length > MOST_PIPED_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let (reading, writing) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // The kernel rounds it up to whole pages, each of which has a place of its own.
        fcntl_setpipe_size(&writing, length)?;
        let mut held = 0;
        while held < length {
            let mut start = held as u64;
            match splice(file, Some(&mut start), &writing, None, length - held, SpliceFlags::NONBLOCK)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => held += more,
            }
        }
        Ok(Pipe { reading, length, _counted: counted })
    }
}

/// One of something of which there may be only so many, for as long as it lives.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn one_of(count: &Arc<AtomicUsize>, max: usize) -> Option<Counted> {
        let more = |count| (count < max).then_some(count + 1);
        count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Counted(Arc::clone(count)))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::space::Space;

    #[test]
    fn there_are_only_so_many_and_their_room_is_given_back() {
        let space = Space::new(usize::MAX);
        let (limits, max_pipes) = (Limits::default(), 5);
        let files = MemoryFiles { max_files: max_pipes + 2, max_pipes, ..MemoryFiles::new(&limits) };
        let make = |length: usize| files.make(&vec![b'x'; length], space.take(length).unwrap());
        assert!(make(LEAST_BYTES - 1).is_err(), "not worth a descriptor");
        let too_long = make(MOST_PIPED_BYTES + 1).unwrap();
        assert!(too_long.pipe().is_none());
        let mut made: Vec<MemoryFile> = (0..=max_pipes).map(|_| make(LEAST_BYTES + 1).unwrap()).collect();
        let piped = |made: &[MemoryFile]| made.iter().filter(|file| file.pipe().is_some()).count();
        assert_eq!((piped(&made), space.taken()), (max_pipes, MOST_PIPED_BYTES + 1 + made.len() * (LEAST_BYTES + 1)));
        assert!(make(LEAST_BYTES).is_err(), "there are as many as there may be");
        made.clear();
        drop(too_long);
        assert_eq!(space.taken(), 0);
        assert!(make(LEAST_BYTES).unwrap().pipe().is_some());
    }

    #[test]
    fn a_pipe_holds_all_of_it_again_and_again() {
        let files = MemoryFiles::new(&Limits::default());
        let space = Space::new(usize::MAX);
        for length in [LEAST_BYTES, 100_001, MOST_PIPED_BYTES] {
            let content: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            let file = files.make(&content, space.take(length).unwrap()).unwrap();
            let (pipe, held) = file.pipe().unwrap();
            assert_eq!(held, length);
            let (reading, writing) = pipe_with(PipeFlags::NONBLOCK).unwrap();
            fcntl_setpipe_size(&writing, MOST_PIPED_BYTES).unwrap();
            for _ in 0..2 {
                assert_eq!(rustix::pipe::tee(pipe, &writing, length, SpliceFlags::NONBLOCK), Ok(length));
                let mut found = vec![0; length];
                let mut filled = 0;
                while filled < length {
                    filled += rustix::io::read(&reading, &mut found[filled..]).unwrap();
                }
                assert_eq!(found, content);
            }
        }
    }
}
