//! The static site: the chat page, or the files of a folder.
//!
//! [`Site::handle`] answers from memory, at once, whatever was looked at within the last second. Everything else goes
//! to one worker thread, because a cold file must not stop the loop, and comes back by [`Site::poll_answer`]. Requests
//! for one path wait for the same look at the disk. A large file is never read whole: its response is a head and a
//! [`FileStream`], from which the caller asks for one piece after the other as fast as the client takes them.
//!
//! What a request names is decided in `path`, that it lies below the root in `lookup`. The site knows requests and
//! responses, and has never seen a connection: it is given a ticket, and gives it back with the answer.

mod cache;
mod embedded;
mod file;
mod lookup;
mod path;
mod worker;

use std::collections::VecDeque;
use std::collections::hash_map::{Entry as MapEntry, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_encode, utf8_percent_encode};

use crate::http::{Body, Request, Response};
use crate::limits::Limits;
use cache::Cache;
use embedded::{Embedded, Entry};
use file::{Piece, Representation};
use path::Refused;
use worker::{Done, Found, Job, Worker};

pub use file::FileStream;

/// What is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// The files of a folder. It may change, or be replaced, while it is served.
    Folder(PathBuf),
    /// The copy of `public/` in the program.
    Embedded,
}

/// What the worker thread has done for a ticket.
#[derive(Debug)]
pub enum Answer {
    /// The whole response.
    Response(Response),
    /// A response whose content follows piece by piece, by [`Site::read_on`].
    Streamed(Response, FileStream),
    /// The next piece of the content, and where the one after it comes from: `None` if it was the last.
    Piece {
        /// At least one byte.
        bytes: Bytes,
        /// For the next [`Site::read_on`].
        rest: Option<FileStream>,
    },
    /// The file was truncated or cannot be read. What was promised cannot be sent: the connection must be cut
    /// ([`CloseReason::ContentLost`](crate::close::CloseReason::ContentLost)).
    Lost,
}

/// The static site.
#[derive(Debug)]
pub struct Site {
    source: Source,
}

#[derive(Debug)]
enum Source {
    Embedded(Embedded),
    Folder(Folder),
}

#[derive(Debug)]
struct Folder {
    cache: Cache,
    /// The paths that the worker is looking at.
    looks: HashMap<Box<[u8]>, Look>,
    /// Requests that wait for those looks.
    waiting: usize,
    max_waiting: usize,
    open_files: Arc<AtomicUsize>,
    jobs: Sender<Job>,
    done: Receiver<Done>,
    answers: VecDeque<(u64, Answer)>,
    piece_bytes: usize,
}

/// A look at the disk that is under way, and who waits for it: at most one request per connection.
#[derive(Debug)]
struct Look {
    asked_at: Instant,
    waiting: Vec<(u64, Request)>,
}

impl Site {
    /// Starts the site, and its worker thread if it needs one. `wake` is called from that thread whenever there is
    /// something for [`poll_answer`](Site::poll_answer). The thread ends when the site is dropped.
    ///
    /// # Errors
    ///
    /// The folder does not exist, is no folder, or may not be opened.
    pub fn start(root: Root, limits: &Limits, wake: impl Fn() + Send + 'static) -> io::Result<Site> {
        let root = match root {
            Root::Folder(root) => root,
            Root::Embedded => return Ok(Site { source: Source::Embedded(Embedded::new()) }),
        };
        let worker = Worker::new(root, limits)?;
        let open_files = worker.open_count();
        let (jobs, jobs_of_worker) = channel();
        let (done_by_worker, done) = channel();
        thread::Builder::new()
            .name("files".to_owned())
            .spawn(move || worker.run(&jobs_of_worker, &done_by_worker, wake))?;
        Ok(Site {
            source: Source::Folder(Folder {
                cache: Cache::new(limits.cache_bytes),
                looks: HashMap::new(),
                waiting: 0,
                max_waiting: limits.max_lookups,
                open_files,
                jobs,
                done,
                answers: VecDeque::new(),
                piece_bytes: limits.file_piece_bytes,
            }),
        })
    }

    /// Answers from memory, or lets the worker look and returns `None`: then the answer comes by
    /// [`poll_answer`](Site::poll_answer) with the same ticket. Of one ticket only one thing may be asked at a time;
    /// an answer that nobody waits for any more is dropped by the caller.
    pub fn handle(&mut self, ticket: u64, request: &Request, now: Instant) -> Option<Response> {
        if !matches!(request.method, Method::GET | Method::HEAD) {
            return Some(Response::method_not_allowed("GET, HEAD"));
        }
        let path = match path::below_root(request.target.path()) {
            Ok(path) => path,
            Err(Refused::Malformed) => {
                return Some(Response::text(StatusCode::BAD_REQUEST, "The path of the request is not valid."));
            }
            Err(Refused::Hidden) => return Some(nothing_there()),
        };
        match &mut self.source {
            Source::Embedded(embedded) => Some(match embedded.look(&path) {
                Some(Entry::File(file)) => file.respond(request),
                Some(Entry::Folder) => redirect_to_folder(&path, request),
                None => nothing_there(),
            }),
            Source::Folder(folder) => folder.handle(ticket, &path, request, now),
        }
    }

    /// The next answer of the worker, with its ticket.
    #[must_use = "somebody waits for the answer"]
    pub fn poll_answer(&mut self) -> Option<(u64, Answer)> {
        let Source::Folder(folder) = &mut self.source else { return None };
        loop {
            if let Some(answer) = folder.answers.pop_front() {
                return Some(answer);
            }
            match folder.done.try_recv().ok()? {
                Done::Looked { path, found } => folder.looked(&path, &found),
                Done::Read { ticket, answer } => return Some((ticket, answer)),
            }
        }
    }

    /// The next piece of a large file if the disk need not be waited for; else `None`, and it comes by
    /// [`poll_answer`](Site::poll_answer).
    pub fn read_on(&mut self, ticket: u64, stream: FileStream) -> Option<Answer> {
        let Source::Folder(folder) = &mut self.source else { return Some(Answer::Lost) };
        match stream.read_warm(folder.piece_bytes) {
            Piece::Read(bytes, rest) => Some(Answer::Piece { bytes, rest }),
            Piece::Cold(stream) => folder.jobs.send(Job::Read { ticket, stream }).is_err().then_some(Answer::Lost),
            Piece::Lost => Some(Answer::Lost),
        }
    }

    /// Bytes of files that are held in memory, for the metrics.
    #[must_use]
    pub fn cached_bytes(&self) -> usize {
        match &self.source {
            Source::Embedded(_) => 0,
            Source::Folder(folder) => folder.cache.bytes(),
        }
    }

    /// Large files that are open in order to be sent, for the metrics.
    #[must_use]
    pub fn open_files(&self) -> usize {
        match &self.source {
            Source::Embedded(_) => 0,
            Source::Folder(folder) => folder.open_files.load(Ordering::Relaxed),
        }
    }
}

impl Folder {
    fn handle(&mut self, ticket: u64, path: &[u8], request: &Request, now: Instant) -> Option<Response> {
        if let Some(file) = self.cache.fresh(path, now) {
            return Some(file.respond(request));
        }
        if self.waiting >= self.max_waiting {
            return Some(busy());
        }
        let waiting = (ticket, request.clone());
        match self.looks.entry(path.into()) {
            MapEntry::Occupied(mut look) => look.get_mut().waiting.push(waiting),
            MapEntry::Vacant(place) => {
                let job = Job::Look { path: path.into(), known: self.cache.stamp(path) };
                if self.jobs.send(job).is_err() {
                    return Some(unavailable());
                }
                place.insert(Look { asked_at: now, waiting: vec![waiting] });
            }
        }
        self.waiting += 1;
        None
    }

    /// Takes over what the worker has found, and answers everybody who waits for it.
    fn looked(&mut self, path: &[u8], found: &Found) {
        let Some(Look { asked_at, waiting }) = self.looks.remove(path) else { return };
        self.waiting -= waiting.len();
        match found {
            Found::Whole(file, stamp) => self.cache.insert(path, Arc::clone(file), *stamp, asked_at),
            // What cannot be looked at is better served as it was than not at all.
            Found::Unchanged | Found::Failed(_) => self.cache.renew(path, asked_at),
            Found::Large(..) | Found::Busy | Found::Folder | Found::Nothing | Found::Forbidden => {
                self.cache.remove(path);
            }
        }
        let last_known = self.cache.last_known(path);
        for (ticket, request) in waiting {
            let answer = match (found, &last_known) {
                (Found::Whole(file, _), _) | (Found::Unchanged | Found::Failed(_), Some(file)) => {
                    Some(Answer::Response(file.respond(&request)))
                }
                (Found::Large(representation, stream), _) => Some(large(representation, stream, &request)),
                (Found::Busy, _) => Some(Answer::Response(busy())),
                (Found::Folder, _) => Some(Answer::Response(redirect_to_folder(path, &request))),
                (Found::Nothing, _) => Some(Answer::Response(nothing_there())),
                (Found::Forbidden, _) => Some(Answer::Response(forbidden())),
                (Found::Failed(_), None) => Some(Answer::Response(unavailable())),
                // It was pushed out of the cache while the worker looked: look again.
                (Found::Unchanged, None) => self.handle(ticket, path, &request, asked_at).map(Answer::Response),
            };
            self.answers.extend(answer.map(|answer| (ticket, answer)));
        }
    }
}

/// The answer to a request for a large file: its content follows, unless there is none.
fn large(representation: &Representation, stream: &FileStream, request: &Request) -> Answer {
    let response = representation.respond(request, Body::Streamed(stream.remaining_bytes()));
    match response.body {
        Body::Streamed(_) if request.method == Method::GET => Answer::Streamed(response, stream.clone()),
        _ => Answer::Response(response),
    }
}

fn nothing_there() -> Response {
    Response::text(StatusCode::NOT_FOUND, "There is nothing at this address.")
}

fn forbidden() -> Response {
    Response::text(StatusCode::FORBIDDEN, "This file may not be read.")
}

fn unavailable() -> Response {
    Response::text(StatusCode::SERVICE_UNAVAILABLE, "The file cannot be read at the moment. Try again later.")
        .with("Retry-After", &HeaderValue::from_static("1"))
}

fn busy() -> Response {
    Response::text(StatusCode::SERVICE_UNAVAILABLE, "Too many files are asked for at the moment. Try again later.")
        .with("Retry-After", &HeaderValue::from_static("5"))
}

/// Redirects to the path of a folder with a slash at its end, without which relative links would lead astray.
///
/// The location is made from the path that was looked at, which begins with a segment: it cannot begin with two
/// slashes and so cannot lead to another host.
fn redirect_to_folder(path: &[u8], request: &Request) -> Response {
    const IN_PATH: AsciiSet = NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    let path = percent_encode(path, &IN_PATH);
    let location = match request.target.query() {
        Some(query) => format!("/{path}/?{}", utf8_percent_encode(query, CONTROLS)),
        None => format!("/{path}/"),
    };
    let location = HeaderValue::from_str(&location).expect("a location is percent-encoded");
    Response::text(StatusCode::MOVED_PERMANENTLY, "This is a folder: its address ends with a slash.")
        .with("Location", &location)
}

#[cfg(test)]
mod tests;
