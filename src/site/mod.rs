//! The static site: the chat page, or the files of a folder.
//!
//! [`Site::handle`] answers from memory, at once, whatever was looked at within the last second. Everything else goes
//! to one worker thread, because a cold file must not stop the loop, and comes back by [`Site::poll_answer`]. Requests
//! for one path wait for the same look at the disk. A large file is never read whole: its response is a head and a
//! [`FileStream`], from which the caller asks for one piece after the other as fast as the client takes them.
//!
//! A file is served in the coding that its client likes best: those that lie beside it are taken as they are; where there
//! are none, a second thread (`press`) makes copies of what is text, and the first who ask are sent it as it is meanwhile.
//!
//! What a request names is decided in `path`, that it lies below the root in `lookup`, which of its representations is
//! sent in `resource`, and how that answers in `representation`. The site knows requests and responses, and has never seen
//! a connection: it is given a ticket, and gives it back with the answer.

mod cache;
mod embedded;
mod listing;
mod lookup;
mod manner;
mod memory_file;
mod path;
mod press;
mod representation;
mod resource;
mod space;
mod stream;
mod told;
mod worker;

use std::collections::VecDeque;
use std::collections::hash_map::{Entry as MapEntry, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Instant;

use bytes::Bytes;
use http::{Method, StatusCode};

use crate::http::{Body, Request, Response};
use crate::limits::Limits;
use cache::{Cache, FRESH_FOR};
use embedded::{Embedded, Entry};
use path::Refused;
use press::Press;
use representation::Reply;
use resource::{Choice, Copies, Copy, Resource};
use space::Space;
use stream::Piece;
use told::{busy, forbidden, listed, not_acceptable, nothing_there, redirect_to_folder, unavailable};
use worker::{Done, Found, Job, Worker};

pub use manner::Manner;
pub use memory_file::most_memory_descriptors;
pub use stream::{FileStream, OpenFile, Part};

/// What a site answers to.
const ALLOWED: &str = "GET, HEAD, OPTIONS";

/// Pieces of large files are no shorter, however little room there is: everybody gets on.
const LEAST_PIECE_BYTES: usize = 4 * 1024;

/// The page for what is not there.
const MISSING_PAGE: &[u8] = b"404.html";

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
    desk: Desk,
}

#[derive(Debug)]
enum Source {
    Embedded(Embedded),
    Folder(Folder),
}

/// What both sources need to answer.
#[derive(Debug)]
struct Desk {
    manner: Arc<Manner>,
    press: Press,
    answers: VecDeque<(u64, Answer)>,
    /// For parts of files that are copied for one client each: no more than outboxes may hold.
    room: Space,
}

#[derive(Debug)]
struct Folder {
    cache: Cache,
    space: Space,
    /// The paths that the worker is looking at.
    looks: HashMap<Box<[u8]>, Look>,
    /// Requests that wait for those looks.
    waiting: usize,
    max_waiting: usize,
    /// When there was no page for what is not there.
    no_missing_page: Option<Instant>,
    open_files: Arc<AtomicUsize>,
    jobs: Sender<Job>,
    done: Receiver<Done>,
    piece_bytes: usize,
}

/// A look at the disk that is under way, and who waits for it: at most one request per connection.
#[derive(Debug)]
struct Look {
    asked_at: Instant,
    waiting: Vec<Errand>,
}

/// A request that waits.
#[derive(Debug)]
struct Errand {
    ticket: u64,
    request: Request,
    role: Role,
}

/// As what a file is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// What was asked for, or what stands in for it with all its rights.
    Itself,
    /// The page for what is not there: its status is 404.
    MissingPage,
}

impl Site {
    /// Starts the site in the default manner.
    ///
    /// # Errors
    ///
    /// Those of [`start_with`](Site::start_with).
    pub fn start(root: Root, limits: &Limits, wake: impl Fn() + Clone + Send + 'static) -> io::Result<Site> {
        Site::start_with(root, Manner::default(), limits, wake)
    }

    /// Starts the site and its threads. `wake` is called from those whenever there is something for
    /// [`poll_answer`](Site::poll_answer). They end when the site is dropped.
    ///
    /// # Errors
    ///
    /// The folder does not exist, is no folder, or may not be opened.
    pub fn start_with(
        root: Root,
        manner: Manner,
        limits: &Limits,
        wake: impl Fn() + Clone + Send + 'static,
    ) -> io::Result<Site> {
        let manner = Arc::new(manner);
        let space = match root {
            Root::Folder(_) => Space::beside_cache(limits),
            // There is one copy of each file at the most, and it is kept.
            Root::Embedded => Space::new(usize::MAX),
        };
        let press = Press::start(Arc::clone(&manner), space.clone(), wake.clone())?;
        let desk = Desk {
            manner: Arc::clone(&manner),
            press,
            answers: VecDeque::new(),
            room: Space::new(limits.outboxes_total_bytes),
        };
        let root = match root {
            Root::Folder(root) => root,
            Root::Embedded => return Ok(Site { source: Source::Embedded(Embedded::new(&manner)), desk }),
        };
        let worker = Worker::new(root, limits, manner, space.clone())?;
        let open_files = worker.open_count();
        let (jobs, jobs_of_worker) = channel();
        let (done_by_worker, done) = channel();
        thread::Builder::new()
            .name("files".to_owned())
            .spawn(move || worker.run(&jobs_of_worker, &done_by_worker, wake))?;
        let folder = Folder {
            cache: Cache::new(limits.cache_bytes),
            space,
            looks: HashMap::new(),
            waiting: 0,
            max_waiting: limits.max_lookups,
            no_missing_page: None,
            open_files,
            jobs,
            done,
            piece_bytes: limits.file_piece_bytes,
        };
        Ok(Site { source: Source::Folder(folder), desk })
    }

    /// Answers from memory, or lets a thread work and returns `None`: then the answer comes by
    /// [`poll_answer`](Site::poll_answer) with the same ticket. Of one ticket only one thing may be asked at a time;
    /// an answer that nobody waits for any more is dropped by the caller.
    pub fn handle(&mut self, ticket: u64, request: &Request, now: Instant) -> Option<Answer> {
        match request.method {
            Method::GET | Method::HEAD => {}
            Method::OPTIONS => return Some(Answer::Response(Response::options(ALLOWED))),
            _ => return Some(Answer::Response(Response::method_not_allowed(ALLOWED))),
        }
        let path = match path::below_root(request.target.path()) {
            Ok(path) => path,
            Err(Refused::Malformed) => {
                let response = Response::text(StatusCode::BAD_REQUEST, "The path of the request is not valid.");
                return Some(Answer::Response(response));
            }
            Err(Refused::Hidden) => return Some(Answer::Response(self.desk.told(nothing_there()))),
        };
        let asked = Asked { ticket, request, role: Role::Itself };
        match &mut self.source {
            Source::Embedded(embedded) => embedded.answer(&mut self.desk, &path, asked),
            Source::Folder(folder) => folder.answer(&mut self.desk, &path, asked, now),
        }
    }

    /// The next answer of a thread, with its ticket.
    #[must_use = "somebody waits for the answer"]
    pub fn poll_answer(&mut self) -> Option<(u64, Answer)> {
        loop {
            if let Some(answer) = self.desk.answers.pop_front() {
                return Some(answer);
            }
            if let Some((made, waiting)) = self.desk.press.finish() {
                for errand in waiting {
                    let reply = match &made.copy {
                        Copy::Ready(copy) => reply(copy, errand.asked(), &self.desk.room),
                        Copy::Useless => not_acceptable().into(),
                        Copy::Untried => busy().into(),
                    };
                    self.desk.answers.push_back((errand.ticket, reply.into()));
                }
                match &mut self.source {
                    Source::Embedded(embedded) => embedded.put_copy(made),
                    Source::Folder(folder) => {
                        folder.cache.put_copy(&made.path, &made.resource, made.coding, made.copy);
                    }
                }
                continue;
            }
            let Source::Folder(folder) = &mut self.source else { return None };
            match folder.done.try_recv().ok()? {
                Done::Looked { path, found } => folder.looked(&mut self.desk, &path, &found),
                Done::Read { ticket, answer } => return Some((ticket, answer)),
            }
        }
    }

    /// The next piece of a large file, no longer than there is room for as far as that makes sense, if the disk need not be
    /// waited for; else `None`, and it comes by [`poll_answer`](Site::poll_answer).
    pub fn read_on(&mut self, ticket: u64, stream: FileStream, room: usize) -> Option<Answer> {
        let Source::Folder(folder) = &mut self.source else { return Some(Answer::Lost) };
        let max_bytes = folder.piece_bytes.min(room.max(LEAST_PIECE_BYTES));
        match stream.read_warm(max_bytes) {
            Piece::Read(bytes, rest) => Some(Answer::Piece { bytes, rest }),
            Piece::Cold(stream) => {
                folder.jobs.send(Job::Read { ticket, stream, max_bytes }).is_err().then_some(Answer::Lost)
            }
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

    /// Bytes of the content of files in memory: of those that are held, and of others that clients are being sent.
    #[must_use]
    pub fn content_bytes(&self) -> usize {
        match &self.source {
            Source::Embedded(_) => 0,
            Source::Folder(folder) => folder.space.taken(),
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

/// A request that has not had to wait yet.
#[derive(Debug, Clone, Copy)]
struct Asked<'a> {
    ticket: u64,
    request: &'a Request,
    role: Role,
}

impl Asked<'_> {
    fn waiting(self) -> Errand {
        Errand { ticket: self.ticket, request: self.request.clone(), role: self.role }
    }
}

impl Errand {
    fn asked(&self) -> Asked<'_> {
        Asked { ticket: self.ticket, request: &self.request, role: self.role }
    }
}

impl From<Reply> for Answer {
    fn from(Reply { response, stream }: Reply) -> Answer {
        match (stream, &response.body) {
            (Some(stream), Body::Streamed(1..)) => Answer::Streamed(response, stream),
            _ => Answer::Response(response),
        }
    }
}

impl Desk {
    /// The answer out of a file that was found; `None` if a copy of it has to be waited for.
    fn serve(&mut self, path: &[u8], file: &Arc<Resource>, copies: &Copies, asked: Asked<'_>) -> Option<Answer> {
        let chosen = match file.choose(copies, asked.request) {
            Choice::Send(chosen) => chosen,
            Choice::SendAndMake(chosen, better) => {
                // If too many are being made, somebody else will ask for it again.
                let _ = self.press.make(path, file, better, None);
                chosen
            }
            Choice::WaitFor(coding) => {
                let is_begun = self.press.make(path, file, coding, Some(asked.waiting()));
                return (!is_begun).then(|| Answer::Response(busy()));
            }
            Choice::NotAcceptable => return Some(Answer::Response(self.told(not_acceptable()))),
        };
        let mut reply = reply(chosen, asked, &self.room);
        if asked.request.method == Method::HEAD {
            reply.stream = None;
        }
        Some(reply.into())
    }

    /// A response of ours with the fields that the operator wants everywhere.
    fn told(&self, response: Response) -> Response {
        response.with_all(&self.manner.headers)
    }

    /// What is sent in place of what is not at this path, if that is there: a path, and as what.
    fn stand_in(&self, path: &[u8], role: Role) -> Option<(&'static [u8], Role)> {
        let has_extension = || path.rsplit(|byte| *byte == b'/').next().is_some_and(|name| name.contains(&b'.'));
        match path {
            _ if role == Role::MissingPage => None,
            // Browsers ask for it without being told to. They take either.
            b"favicon.ico" => Some((b"favicon.svg", Role::Itself)),
            // Those who ask for these are no people who would read a page.
            b"favicon.svg" | b"robots.txt" => None,
            b"" => Some((MISSING_PAGE, Role::MissingPage)),
            _ if self.manner.spa && !has_extension() => Some((b"", Role::Itself)),
            _ => Some((MISSING_PAGE, Role::MissingPage)),
        }
    }
}

impl Embedded {
    fn answer(&mut self, desk: &mut Desk, path: &[u8], asked: Asked<'_>) -> Option<Answer> {
        match self.look(path) {
            Some(Entry::File(file, copies)) => desk.serve(path, file, copies, asked),
            Some(Entry::Folder) => Some(Answer::Response(desk.told(redirect_to_folder(path, asked.request)))),
            None => match desk.stand_in(path, asked.role) {
                Some((other, role)) => self.answer(desk, other, Asked { role, ..asked }),
                None => Some(Answer::Response(desk.told(nothing_there()))),
            },
        }
    }
}

impl Folder {
    fn answer(&mut self, desk: &mut Desk, path: &[u8], asked: Asked<'_>, now: Instant) -> Option<Answer> {
        if let Some((file, copies)) = self.cache.fresh(path, now) {
            return desk.serve(path, file, copies, asked);
        }
        if path == MISSING_PAGE && self.no_missing_page.is_some_and(|then| now.duration_since(then) < FRESH_FOR) {
            return Some(Answer::Response(desk.told(nothing_there())));
        }
        if self.waiting >= self.max_waiting {
            return Some(Answer::Response(busy()));
        }
        match self.looks.entry(path.into()) {
            MapEntry::Occupied(mut look) => look.get_mut().waiting.push(asked.waiting()),
            MapEntry::Vacant(place) => {
                let job = Job::Look { path: path.into(), known: self.cache.seen(path) };
                if self.jobs.send(job).is_err() {
                    return Some(Answer::Response(unavailable()));
                }
                place.insert(Look { asked_at: now, waiting: vec![asked.waiting()] });
            }
        }
        self.waiting += 1;
        None
    }

    /// Takes over what the worker has found, and answers everybody who waits for it.
    fn looked(&mut self, desk: &mut Desk, path: &[u8], found: &Found) {
        let Some(Look { asked_at, waiting }) = self.looks.remove(path) else { return };
        self.waiting -= waiting.len();
        match found {
            Found::File(file, seen) => self.cache.insert(path, file, **seen, asked_at),
            // What cannot be looked at is better served as it was than not at all.
            Found::Unchanged | Found::Failed(_) => self.cache.renew(path, asked_at),
            Found::Busy | Found::Folder | Found::Listing(_) | Found::Nothing | Found::Forbidden => {
                self.cache.forget(path);
            }
        }
        if path == MISSING_PAGE {
            self.no_missing_page = matches!(found, Found::Nothing).then_some(asked_at);
        }
        let last_known = self.cache.last_known(path);
        for errand in waiting {
            let asked = errand.asked();
            let answer = match (found, &last_known) {
                (Found::File(file, _), _) | (Found::Unchanged | Found::Failed(_), Some(file)) => {
                    let none = Copies::default();
                    desk.serve(path, file, self.cache.copies(path).unwrap_or(&none), asked)
                }
                (Found::Nothing, _) => match desk.stand_in(path, asked.role) {
                    Some((other, role)) => self.answer(desk, other, Asked { role, ..asked }, asked_at),
                    None => Some(Answer::Response(desk.told(nothing_there()))),
                },
                (Found::Folder, _) => Some(Answer::Response(desk.told(redirect_to_folder(path, asked.request)))),
                (Found::Listing(page), _) => Some(Answer::Response(listed(page, desk))),
                (Found::Busy, _) => Some(Answer::Response(busy())),
                (Found::Forbidden, _) => Some(Answer::Response(desk.told(forbidden()))),
                (Found::Failed(_), None) => Some(Answer::Response(unavailable())),
                // It was pushed out of the cache while the worker looked: look again.
                (Found::Unchanged, None) => self.answer(desk, path, asked, asked_at),
            };
            desk.answers.extend(answer.map(|answer| (errand.ticket, answer)));
        }
    }
}

fn reply(chosen: &representation::Representation, asked: Asked<'_>, room: &Space) -> Reply {
    match asked.role {
        Role::Itself => chosen.respond(asked.request, boundary, room),
        Role::MissingPage => chosen.stand_in(StatusCode::NOT_FOUND),
    }
}

/// What parts the parts of a response: random, so that nobody can put it into a file.
fn boundary() -> String {
    let random = || RandomState::new().hash_one(0_u8);
    format!("{:016x}{:016x}", random(), random())
}

#[cfg(test)]
mod tests;
