//! The thread that waits for the disk, so that the loop never does.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Stat, fstat};
use rustix::io::Errno;

use super::Answer;
use super::file::{Author, FileStream, OpenFile, Piece, Representation, Whole};
use super::lookup::{self, Resolution};
use crate::http::conditional::{Validators, seconds};
use crate::limits::Limits;

/// A file that was changed within this time before it was read may change again without its time stamps telling: those
/// of the kernel tick every few milliseconds, and `Last-Modified` every second.
const SETTLED_AFTER: Duration = Duration::from_secs(1);

/// How often a small file is read anew because it has changed meanwhile.
const MAX_READS: usize = 4;

/// What the worker is asked to do.
#[derive(Debug)]
pub(super) enum Job {
    /// Look what lies at this path; `known` is what the cache holds of it.
    Look { path: Box<[u8]>, known: Option<Stamp> },
    /// Read on.
    Read { ticket: u64, stream: FileStream },
}

/// What came of a job.
#[derive(Debug)]
pub(super) enum Done {
    Looked { path: Box<[u8]>, found: Found },
    Read { ticket: u64, answer: Answer },
}

/// What lies at a path.
#[derive(Debug)]
pub(super) enum Found {
    /// The file that the cache holds.
    Unchanged,
    /// A small file.
    Whole(Arc<Whole>, Stamp),
    /// A large file, and its length.
    Large(Representation, FileStream),
    /// A folder, whose own path ends with a slash.
    Folder,
    /// Nothing that is served.
    Nothing,
    /// A large file, of which as many are open as may be.
    Busy,
    /// Something that we may not read.
    Forbidden,
    /// It is not known: the disk, or the number of open files, is in the way.
    Failed(io::Error),
}

/// By what the change of a file shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    /// Whether a later change is sure to show.
    is_settled: bool,
}

impl Stamp {
    fn of(stat: &Stat, now: SystemTime) -> Self {
        // The widths of these fields differ between architectures; no value is lost.
        #[allow(clippy::unnecessary_cast, clippy::cast_lossless)]
        let stamp = Stamp {
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            size: stat.st_size as u64,
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as i64),
            is_settled: false,
        };
        let age = now.duration_since(time(stamp.modified).max(time(stamp.changed)));
        Stamp { is_settled: age.is_ok_and(|age| age >= SETTLED_AFTER), ..stamp }
    }

    fn is_same_state(&self, other: &Stamp) -> bool {
        Stamp { is_settled: false, ..*self } == Stamp { is_settled: false, ..*other }
    }

    fn validators(&self, now: SystemTime) -> Validators {
        let (seconds_part, nanos) = self.modified;
        Validators {
            etag: format!("\"{seconds_part:x}.{nanos:x}-{:x}-{:x}\"", self.size, self.inode),
            // RFC 9110, section 8.8.2.1: never later than the response.
            modified: seconds(time(self.modified)).min(seconds(now)),
            is_date_strong: self.is_settled,
        }
    }
}

fn time((seconds, nanos): (i64, i64)) -> SystemTime {
    let since = Duration::new(seconds.try_into().unwrap_or(0), nanos.try_into().unwrap_or(0));
    SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// The worker's side of the site.
pub(super) struct Worker {
    root: PathBuf,
    resolution: Resolution,
    max_whole_bytes: usize,
    piece_bytes: usize,
    max_open_files: usize,
    /// Large files that somebody is being sent, at most so many.
    open_files: Vec<(Stamp, Weak<OpenFile>)>,
    open_count: Arc<AtomicUsize>,
    /// So that a disk that fails is told of once, not with each request.
    is_failing: bool,
}

impl Worker {
    /// # Errors
    ///
    /// The root is not a folder that can be opened.
    pub(super) fn new(root: PathBuf, limits: &Limits) -> io::Result<Self> {
        let resolution = Resolution::probe(&lookup::open_root(&root)?);
        if resolution == Resolution::NoLinks {
            tracing::info!("openat2 does not work here: symbolic links in the public folder are not followed");
        }
        Ok(Worker {
            root,
            resolution,
            max_whole_bytes: limits.cached_file_bytes,
            piece_bytes: limits.file_piece_bytes,
            max_open_files: limits.max_open_files,
            open_files: Vec::new(),
            open_count: Arc::default(),
            is_failing: false,
        })
    }

    /// How many large files are open, now and later.
    pub(super) fn open_count(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.open_count)
    }

    /// Works until the site is dropped.
    pub(super) fn run(mut self, jobs: &Receiver<Job>, done: &Sender<Done>, wake: impl Fn()) {
        for job in jobs {
            if done.send(self.work(job)).is_err() {
                return;
            }
            wake();
        }
    }

    fn work(&mut self, job: Job) -> Done {
        match job {
            Job::Look { path, known } => {
                let found = self.look(&path, known);
                self.tell_of_failures(&found);
                Done::Looked { path, found }
            }
            Job::Read { ticket, stream } => {
                let answer = match stream.read_waiting(self.piece_bytes) {
                    Piece::Read(bytes, rest) => Answer::Piece { bytes, rest },
                    Piece::Cold(_) | Piece::Lost => Answer::Lost,
                };
                Done::Read { ticket, answer }
            }
        }
    }

    /// Looks at what lies below the root at this path; that of a folder stands for its index.html.
    pub(super) fn look(&mut self, path: &[u8], known: Option<Stamp>) -> Found {
        let is_folder = path.is_empty() || path.ends_with(b"/");
        let name = if is_folder { [path, b"index.html"].concat() } else { path.to_vec() };
        for _ in 0..MAX_READS {
            match self.look_once(&name, known) {
                Ok(Some(Found::Folder)) if is_folder => return Found::Nothing,
                Ok(Some(found)) => return found,
                Ok(None) => {}
                Err(error) => return classify(error),
            }
        }
        Found::Failed(io::Error::other("the file changes faster than it can be read"))
    }

    /// `None` if the file has changed while it was read.
    fn look_once(&mut self, name: &[u8], known: Option<Stamp>) -> io::Result<Option<Found>> {
        let file = self.open(name)?;
        let now = SystemTime::now();
        let stat = fstat(&file)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {}
            FileType::Directory => return Ok(Some(Found::Folder)),
            _ => return Ok(Some(Found::Nothing)),
        }
        let stamp = Stamp::of(&stat, now);
        if known.is_some_and(|known| known.is_settled && known.is_same_state(&stamp)) {
            return Ok(Some(Found::Unchanged));
        }
        let representation = Representation::new(name, stamp.validators(now), Author::Operator);
        let file = File::from(file);
        if stamp.size > self.max_whole_bytes as u64 {
            let shared = self.share(file, stamp);
            let large = shared.map(|file| Found::Large(representation, FileStream::new(file, stamp.size)));
            return Ok(Some(large.unwrap_or(Found::Busy)));
        }
        let Some(content) = read_whole(&file, stamp.size)? else { return Ok(None) };
        if !Stamp::of(&fstat(&file)?, now).is_same_state(&stamp) {
            return Ok(None);
        }
        Ok(Some(Found::Whole(Arc::new(Whole { representation, content: content.into() }), stamp)))
    }

    /// The file, or the one in the same state that is open already. `None` if too many are open.
    fn share(&mut self, file: File, stamp: Stamp) -> Option<Arc<OpenFile>> {
        self.open_files.retain(|(_, file)| file.strong_count() > 0);
        let same = self.open_files.iter().filter(|(known, _)| known.is_same_state(&stamp));
        if let Some(open) = same.filter_map(|(_, file)| file.upgrade()).next() {
            return Some(open);
        }
        if self.open_files.len() >= self.max_open_files {
            return None;
        }
        let file = Arc::new(OpenFile::new(file, &self.open_count));
        self.open_files.push((stamp, Arc::downgrade(&file)));
        Some(file)
    }

    fn open(&self, name: &[u8]) -> io::Result<OwnedFd> {
        let root = open_root(&self.root)?;
        Ok(lookup::open_below(&root, name, self.resolution)?)
    }

    fn tell_of_failures(&mut self, found: &Found) {
        match found {
            Found::Failed(error) if !self.is_failing => {
                self.is_failing = true;
                tracing::warn!("files cannot be read: {error}");
            }
            Found::Failed(_) | Found::Forbidden | Found::Nothing | Found::Busy => {}
            Found::Unchanged | Found::Whole(..) | Found::Large(..) | Found::Folder => self.is_failing = false,
        }
    }
}

/// A root that is gone for a moment, while it is replaced, is a failure and not an empty site.
fn open_root(root: &Path) -> io::Result<OwnedFd> {
    lookup::open_root(root).map_err(|error| io::Error::other(format!("{}: {}", root.display(), io::Error::from(error))))
}

/// The whole content, if it has the length it should have.
fn read_whole(mut file: &File, size: u64) -> io::Result<Option<Vec<u8>>> {
    let mut content = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    file.by_ref().take(size + 1).read_to_end(&mut content)?;
    Ok((content.len() as u64 == size).then_some(content))
}

fn classify(error: io::Error) -> Found {
    match Errno::from_io_error(&error) {
        Some(
            // Not there; not a folder on the way; a loop, or a way out of the root; a name that cannot be; a socket.
            Errno::NOENT
            | Errno::NOTDIR
            | Errno::LOOP
            | Errno::XDEV
            | Errno::NAMETOOLONG
            | Errno::INVAL
            | Errno::NXIO
            | Errno::NODEV,
        ) => Found::Nothing,
        Some(Errno::ACCESS | Errno::PERM) => Found::Forbidden,
        _ => Found::Failed(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;
    use std::{fs, thread};

    #[test]
    fn a_file_that_has_not_changed_is_not_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("style.css");
        fs::write(&path, "css").unwrap();
        let an_hour_ago = SystemTime::now() - Duration::from_secs(3600);
        File::options().write(true).open(&path).unwrap().set_modified(an_hour_ago).unwrap();
        let limits = Limits { cached_file_bytes: 1000, ..Limits::default() };
        let mut worker = Worker::new(dir.path().to_owned(), &limits).unwrap();
        let mut stamp = |known| match worker.look(b"style.css", known) {
            Found::Whole(_, stamp) => Some(stamp),
            Found::Unchanged => None,
            other => panic!("{other:?}"),
        };
        // The time of the last change cannot be set back: it takes a moment until it is old enough.
        let deadline = Instant::now() + Duration::from_secs(20);
        while let Some(known) = stamp(None) {
            if stamp(Some(known)).is_none() {
                break;
            }
            assert!(Instant::now() < deadline, "never settled");
            thread::yield_now();
        }
        let known = stamp(None);
        assert_eq!(stamp(known), None);
        // One that was read too soon after its last change proves nothing.
        assert!(stamp(known.map(|known| Stamp { is_settled: false, ..known })).is_some());
        fs::write(&path, "CSS").unwrap();
        assert!(stamp(known).is_some());
    }
}
