//! The thread that waits for the disk, so that the loop never does.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Stat, fstat};
use rustix::io::Errno;

use super::Answer;
use super::listing;
use super::lookup::{self, Resolution};
use super::manner::Manner;
use super::memory_file::MemoryFiles;
use super::representation::{Author, Representation, Source, Traits, content_type, is_compressible};
use super::resource::{LEAST_COMPRESSED_BYTES, Resource};
use super::space::{Share, Space};
use super::stream::{FileStream, OpenFile, Piece};
use crate::http::coding::Coding;
use crate::http::conditional::{Validators, seconds};
use crate::limits::Limits;

/// A file that was changed within this time before it was read may change again without its time stamps telling: those
/// of the kernel tick every few milliseconds, and `Last-Modified` every second.
const SETTLED_AFTER: Duration = Duration::from_secs(1);

/// How often a small file is read anew because it has changed meanwhile.
const MAX_READS: usize = 4;

/// So many files that were open may be remembered, besides as many as are.
const LEAST_REMEMBERED: usize = 32;

/// What the worker is asked to do.
#[derive(Debug)]
pub(super) enum Job {
    /// Look what lies at this path; `known` is what the cache holds of it.
    Look { path: Box<[u8]>, known: Option<Seen> },
    /// Read on, so much at the most.
    Read { ticket: u64, stream: FileStream, max_bytes: usize },
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
    /// A file.
    File(Arc<Resource>, Box<Seen>),
    /// A folder, whose own path ends with a slash.
    Folder,
    /// A folder without an index.html, as a page.
    Listing(Bytes),
    /// Nothing that is served.
    Nothing,
    /// A file that would have to be streamed, of which as many are open as may be; or a listing for which there is no room.
    Busy,
    /// Something that we may not read.
    Forbidden,
    /// It is not known: the disk, or the number of open files, is in the way.
    Failed(io::Error),
}

/// The states of a file and of its siblings when they were looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Seen {
    file: Stamp,
    siblings: [Option<Stamp>; Coding::ALL.len()],
}

impl Seen {
    /// Whether this is sure to be what it was.
    fn is_still(&self, known: &Seen) -> bool {
        let is_same = |now: &Stamp, known: &Stamp| known.is_settled && known.is_same_state(now);
        let siblings = self.siblings.iter().zip(&known.siblings).all(|pair| match pair {
            (Some(now), Some(known)) => is_same(now, known),
            (None, None) => true,
            _ => false,
        });
        siblings && is_same(&self.file, &known.file)
    }
}

/// By what the change of a file shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
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
        self.state() == other.state()
    }

    /// The same for all that were taken of a file in one state.
    fn state(&self) -> Stamp {
        Stamp { is_settled: false, ..*self }
    }

    fn validators(&self, coding: Option<Coding>, now: SystemTime) -> Validators {
        let (seconds_part, nanos) = self.modified;
        let (dash, coding) = coding.map_or(("", ""), |coding| ("-", coding.name()));
        Validators {
            etag: format!("\"{seconds_part:x}.{nanos:x}-{:x}-{:x}{dash}{coding}\"", self.size, self.inode),
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

/// What came of reading an open file.
enum Content {
    Source(Source, Author),
    /// It has changed meanwhile.
    Changed,
    /// It would have to be streamed, and as many files are open for that as may be.
    Busy,
}

/// The worker's side of the site.
pub(super) struct Worker {
    root: PathBuf,
    resolution: Resolution,
    max_whole_bytes: usize,
    max_open_files: usize,
    max_compressed_bytes: usize,
    max_listed: usize,
    manner: Arc<Manner>,
    space: Space,
    /// Large files, and others for which there is no room, that somebody is being sent, at most so many.
    open_files: HashMap<Stamp, Weak<OpenFile>>,
    open_count: Arc<AtomicUsize>,
    memory_files: MemoryFiles,
    /// So that a disk that fails is told of once, not with each request.
    is_failing: bool,
}

impl Worker {
    /// # Errors
    ///
    /// The root is not a folder that can be opened.
    pub(super) fn new(root: PathBuf, limits: &Limits, manner: Arc<Manner>, space: Space) -> io::Result<Self> {
        let resolution = Resolution::probe(&lookup::open_root(&root)?);
        if resolution == Resolution::NoLinks {
            tracing::info!("openat2 does not work here: symbolic links in the public folder are not followed");
        }
        Ok(Worker {
            root,
            resolution,
            max_whole_bytes: limits.cached_file_bytes,
            max_open_files: limits.max_open_files.unwrap_or(usize::MAX),
            max_compressed_bytes: limits.compressed_file_bytes,
            max_listed: limits.listed_entries,
            manner,
            space,
            open_files: HashMap::new(),
            open_count: Arc::default(),
            memory_files: MemoryFiles::new(limits),
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
            Job::Read { ticket, stream, max_bytes } => {
                let answer = match stream.read_waiting(max_bytes) {
                    Piece::Read(bytes, rest) => Answer::Piece { bytes, rest },
                    Piece::Cold(_) | Piece::Lost => Answer::Lost,
                };
                Done::Read { ticket, answer }
            }
        }
    }

    /// Looks at what lies below the root at this path: that of a folder stands for its index.html, and any other for the
    /// page of that name as well (`about` for `about.html`), which goes before a folder.
    pub(super) fn look(&mut self, path: &[u8], known: Option<Seen>) -> Found {
        if path.is_empty() || path.ends_with(b"/") {
            return match self.look_at(&[path, b"index.html"].concat(), known) {
                Found::Folder | Found::Nothing if self.manner.listing => self.list(path),
                Found::Folder => Found::Nothing,
                found => found,
            };
        }
        match self.look_at(path, known) {
            found @ (Found::Folder | Found::Nothing) => match self.look_at(&[path, b".html"].concat(), known) {
                Found::Folder | Found::Nothing => found,
                page => page,
            },
            found => found,
        }
    }

    /// Looks at what lies below the root under this name.
    fn look_at(&mut self, name: &[u8], known: Option<Seen>) -> Found {
        for _ in 0..MAX_READS {
            match self.look_once(name, known) {
                Ok(Some(found)) => return found,
                Ok(None) => {}
                Err(error) => return classify(error),
            }
        }
        Found::Failed(io::Error::other("the file changes faster than it can be read"))
    }

    /// `None` if the file has changed while it was read.
    fn look_once(&mut self, name: &[u8], known: Option<Seen>) -> io::Result<Option<Found>> {
        let root = open_root(&self.root)?;
        let file = lookup::open_below(&root, name, self.resolution)?;
        let now = SystemTime::now();
        let stat = fstat(&file)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {}
            FileType::Directory => return Ok(Some(Found::Folder)),
            _ => return Ok(Some(Found::Nothing)),
        }
        let stamp = Stamp::of(&stat, now);
        let is_smaller_compressed = is_compressible(&content_type(name));
        let siblings = if is_smaller_compressed { self.siblings(&root, name, &stamp, now) } else { Vec::new() };
        let mut seen = Seen { file: stamp, ..Seen::default() };
        for (coding, _, stamp) in &siblings {
            seen.siblings[*coding as usize] = Some(*stamp);
        }
        if known.is_some_and(|known| seen.is_still(&known)) {
            return Ok(Some(Found::Unchanged));
        }
        let (source, author) = match self.source(file.into(), stamp, now)? {
            Content::Source(source, author) => (source, author),
            Content::Changed => return Ok(None),
            Content::Busy => return Ok(Some(Found::Busy)),
        };
        let bounds = LEAST_COMPRESSED_BYTES..=self.max_compressed_bytes as u64;
        let is_compressible = is_smaller_compressed && siblings.is_empty() && bounds.contains(&stamp.size);
        let varies = is_compressible || !siblings.is_empty();
        let traits = Traits { name, validators: stamp.validators(None, now), coding: None, varies, author };
        let identity = Representation::new(traits, source, &self.manner);
        let mut coded = Vec::new();
        for (coding, file, stamp) in siblings {
            let Content::Source(source, _) = self.source(file.into(), stamp, now)? else {
                // It is missed until somebody looks again.
                seen.siblings[coding as usize] = None;
                continue;
            };
            let validators = stamp.validators(Some(coding), now);
            let traits = Traits { name, validators, coding: Some(coding), varies: true, author };
            coded.push(Representation::new(traits, source, &self.manner));
        }
        let resource = Resource { name: name.into(), identity, siblings: coded, is_compressible };
        Ok(Some(Found::File(Arc::new(resource), Box::new(seen))))
    }

    /// The files beside this one that hold the same compressed. One that is older is of a former state.
    fn siblings(&self, root: &OwnedFd, name: &[u8], file: &Stamp, now: SystemTime) -> Vec<(Coding, OwnedFd, Stamp)> {
        let sibling = |coding: Coding| {
            let name = [name, coding.extension().as_bytes()].concat();
            let opened = lookup::open_below(root, &name, self.resolution).ok()?;
            let stat = fstat(&opened).ok()?;
            let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
            let stamp = Stamp::of(&stat, now);
            (is_file && stamp.modified >= file.modified).then_some((coding, opened, stamp))
        };
        Coding::ALL.into_iter().filter_map(sibling).collect()
    }

    /// The content of an open file: in memory if it is small and there is room.
    fn source(&mut self, file: File, stamp: Stamp, now: SystemTime) -> io::Result<Content> {
        if stamp.size > self.max_whole_bytes as u64 {
            return Ok(self.streamed(file, stamp, Author::Operator));
        }
        let Some(share) = self.space.take(stamp.size as usize) else {
            let author = Author::of(&beginning(&file)?);
            return Ok(self.streamed(file, stamp, author));
        };
        let Some(content) = read_whole(&file, stamp.size)? else { return Ok(Content::Changed) };
        if !Stamp::of(&fstat(&file)?, now).is_same_state(&stamp) {
            return Ok(Content::Changed);
        }
        let author = Author::of(&content);
        Ok(Content::Source(self.kept(content, share), author))
    }

    /// The content of an open file that is read as it is sent.
    fn streamed(&mut self, file: File, stamp: Stamp, author: Author) -> Content {
        let shared = self.share(file, stamp);
        shared.map_or(Content::Busy, |file| Content::Source(Source::Open(file, stamp.size), author))
    }

    /// Content in memory: as a file there, if it is worth it and there may be another.
    fn kept(&self, content: Vec<u8>, share: Share) -> Source {
        match self.memory_files.make(&content, share) {
            Ok(file) => Source::Open(Arc::new(OpenFile::copy(file)), content.len() as u64),
            Err(share) => Source::Memory(share.filled(content)),
        }
    }

    /// The folder at this path, which ends with a slash or is the root, as a page.
    fn list(&self, path: &[u8]) -> Found {
        let listed = open_root(&self.root).and_then(|root| {
            let folder = lookup::open_below(&root, path.strip_suffix(b"/").unwrap_or(path), self.resolution)?;
            Ok(listing::page(&root, &folder, path, self.resolution, self.max_listed)?.into_bytes())
        });
        let kept = |page: Vec<u8>| match self.space.take(page.len()) {
            Some(share) => Found::Listing(share.filled(page)),
            None => Found::Busy,
        };
        listed.map_or_else(classify, kept)
    }

    /// The file, or the one in the same state that is open already. `None` if too many are open.
    fn share(&mut self, file: File, stamp: Stamp) -> Option<Arc<OpenFile>> {
        if let Some(open) = self.open_files.get(&stamp.state()).and_then(Weak::upgrade) {
            return Some(open);
        }
        let open = self.open_count.load(Ordering::Relaxed);
        if open >= self.max_open_files {
            return None;
        }
        // Those that are closed are looked for once they are as many as those that are open.
        if self.open_files.len() >= 2 * open.max(LEAST_REMEMBERED) {
            self.open_files.retain(|_, file| file.strong_count() > 0);
        }
        let file = Arc::new(OpenFile::new(file, &self.open_count));
        self.open_files.insert(stamp.state(), Arc::downgrade(&file));
        Some(file)
    }

    fn tell_of_failures(&mut self, found: &Found) {
        match found {
            Found::Failed(error) if !self.is_failing => {
                self.is_failing = true;
                tracing::warn!("files cannot be read: {error}");
            }
            Found::Failed(_) | Found::Forbidden | Found::Nothing | Found::Busy => {}
            Found::Unchanged | Found::File(..) | Found::Folder | Found::Listing(_) => self.is_failing = false,
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

/// As much of it as shows whose page it is.
fn beginning(file: &File) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    file.take(Author::SHOWN_WITHIN as u64).read_to_end(&mut content)?;
    Ok(content)
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
        let mut worker = Worker::new(dir.path().to_owned(), &limits, Arc::default(), Space::new(1000)).unwrap();
        let mut stamp = |known| match worker.look(b"style.css", known) {
            Found::File(_, seen) => Some(*seen),
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
        let unsettled = |known: Seen| Seen { file: Stamp { is_settled: false, ..known.file }, ..known };
        assert!(stamp(known.map(unsettled)).is_some());
        // What appears beside it is seen.
        fs::write(dir.path().join("style.css.br"), "packed").unwrap();
        let with_sibling = stamp(known);
        assert!(with_sibling.is_some_and(|seen| seen.siblings[Coding::Brotli as usize].is_some()));
        fs::write(&path, "CSS").unwrap();
        assert!(stamp(known).is_some());
    }
}
