//! The journal that keeps: it orders in this process, and an entry is emitted after the transaction that stores it.
//!
//! This file is the side of the loop, which never waits: drafts go to a thread in one piece per turn, and what came
//! of them comes back in one piece per batch. One thread writes (`writer`; `queue` is the way to it): it gives
//! positions (`append`), and between the batches keeps the search index, trims, and has the write-ahead log brought
//! into the file (`upkeep`). Two threads read (`history`), each on its own connection: one gives pages, the other
//! searches (`query`). `open` gets the file, and `schema` knows what is in it.
//!
//! What is promised: an entry that was emitted is in the file, whatever happens to this process. What happens when the
//! machine loses its power is said at [`SyncMode`]. Under one epoch no position is given twice.
//!
//! A search knows what was emitted before it was asked for, unless the index is more than a moment behind, as it is for
//! a while after it was made anew.

mod append;
mod counts;
mod history;
mod open;
mod query;
mod queue;
mod report;
mod rows;
mod schema;
#[cfg(test)]
mod tests;
mod upkeep;
mod writer;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};
use std::{fmt, fs, thread};

use crate::chat::entry::{Draft, Epoch, Position};
use crate::limits::Limits;

use super::contract::{Event, Range, Read, Refused, Status, StoreStats};
use super::in_flight::InFlight;
use super::ordered::{Mark, Ordered};
use super::outbound::Outbound;
use history::Reader;
use queue::WorkQueue;
use report::Board;
use upkeep::Upkeep;
use writer::{Work, Writer};

pub use open::OpenError;

/// How long the loop waits for what is being written when it ends.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// What the machine's loss of power may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SyncMode {
    /// The last moments, of which the system had not written everything. The file begins a new epoch then.
    #[default]
    Normal,
    /// Nothing: every batch is on the disk before it is emitted.
    Full,
}

impl SyncMode {
    fn name(self) -> &'static str {
        match self {
            SyncMode::Normal => "NORMAL",
            SyncMode::Full => "FULL",
        }
    }
}

/// A journal in a file.
pub struct SqliteJournal {
    epoch: Epoch,
    secret: [u8; 32],
    opened_at: Position,
    mark: Option<Mark>,
    /// The last entry given to the loop. Nothing behind it is read.
    emitted: Position,
    /// The turn's drafts.
    drafts: Vec<Draft>,
    in_flight: InFlight,
    ready: VecDeque<Event>,
    events: Receiver<Vec<Event>>,
    board: Board,
    /// `None` while closing.
    queues: Option<Queues>,
    closing: Arc<AtomicBool>,
    /// Disconnected when all threads have ended.
    running: Receiver<()>,
}

struct Queues {
    work: WorkQueue,
    pages: Sender<Read>,
    searches: Sender<Read>,
}

/// Where what a bus has put in order is handed over to be kept, from another thread.
#[derive(Clone)]
pub(super) struct Keeper {
    work: WorkQueue,
}

impl Keeper {
    /// Has these kept, and then told. They wait as long as they cannot be.
    pub(super) fn keep(&self, ordered: Ordered) {
        // If nobody keeps any more, the loop has ended.
        let _ = self.work.send(Work::Keep(ordered));
    }

    /// Has the key kept that all instances have.
    pub(super) fn keep_key(&self, key: [u8; 32]) {
        let _ = self.work.send(Work::KeepKey(key));
    }

    /// One behind which the simulation keeps what is handed over.
    #[cfg(test)]
    pub(super) fn simulated() -> (Keeper, Handed) {
        let (work, handed) = WorkQueue::simulated();
        (Keeper { work }, Handed(handed))
    }
}

/// What is handed over in the simulation.
#[cfg(test)]
#[derive(Debug)]
pub(super) struct Handed(Receiver<Work>);

#[cfg(test)]
impl Handed {
    /// The next that is in order, or the key.
    pub(super) fn poll(&mut self) -> Option<Result<Ordered, [u8; 32]>> {
        match self.0.try_recv().ok()? {
            Work::Keep(ordered) => Some(Ok(ordered)),
            Work::KeepKey(key) => Some(Err(key)),
            _ => panic!("a bus asks for nothing else"),
        }
    }
}

/// Who puts in order what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// This process.
    Here,
    /// A bus.
    Bus,
}

impl SqliteJournal {
    /// Opens the journal in the file at `path`; makes it, and its folder, if they are not there. `wake` is called from
    /// other threads whenever there is something for `poll_event`. The threads end when the journal is dropped, after
    /// they have stored what they were given.
    ///
    /// # Errors
    ///
    /// When the file cannot be had, in a sentence for whoever started the program.
    pub fn open(
        path: &Path,
        sync: SyncMode,
        limits: &Limits,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, OpenError> {
        // Where this cannot be read, each start counts as one of the machine.
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self::open_after(boot.trim(), path, sync, limits, Order::Here, wake)
    }

    /// The same for what a bus puts in order: it comes by the [`keeper`](Self::keeper), and nothing is appended.
    pub(super) fn open_for_bus(
        path: &Path,
        sync: SyncMode,
        limits: &Limits,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, OpenError> {
        Self::open_after("", path, sync, limits, Order::Bus, wake)
    }

    /// Where the log of the bus stood behind the last entry, if a bus has put it in order.
    pub(super) fn mark(&self) -> Option<Mark> {
        self.mark
    }

    pub(super) fn keeper(&self) -> Keeper {
        Keeper { work: self.queues.as_ref().expect("the journal is open").work.clone() }
    }

    /// `boot` names the start of the machine in which this happens.
    fn open_after(
        boot: &str,
        path: &Path,
        sync: SyncMode,
        limits: &Limits,
        order: Order,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, OpenError> {
        let failed = |error: rusqlite::Error| OpenError::new(path, &error);
        let opened = open::open(path, sync, boot, order)?;
        let (events_out, events) = channel();
        let outbound = Outbound { events: events_out, wake: Arc::new(wake) };
        let (work, work_of_writer) = channel();
        let (pages, pages_of_reader) = channel();
        let (searches, searches_of_reader) = channel();
        let (run, running) = channel();
        let closing = Arc::new(AtomicBool::new(false));

        let open::Opened { mut connection, life, lock } = opened;
        let (upkeep, checkpointer) = Upkeep::new(&mut connection, limits).map_err(failed)?;
        let writer =
            Writer::new(path, connection, lock, upkeep, work_of_writer, outbound.clone(), Arc::clone(&closing));
        let writer = writer.map_err(failed)?;
        let (opened_at, board) = (writer.last(), writer.board());
        let to_read = || open::open_to_read(path);
        let (to_page, to_search, to_checkpoint) = (to_read()?, to_read()?, open::open_to_checkpoint(path)?);
        let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
            let run = run.clone();
            let body = move || {
                body();
                drop(run);
            };
            thread::Builder::new().name(name.to_owned()).spawn(body).map_err(|error| OpenError::io(path, &error))
        };
        let thread = spawn("journal", Box::new(move || writer.run()))?.thread().clone();
        let work = WorkQueue::new(work, thread);
        let reader = |connection| Reader { connection, events: outbound.clone(), writer: work.clone() };
        let (pager, searcher) = (reader(to_page), reader(to_search));
        spawn("history", Box::new(move || pager.run(&pages_of_reader)))?;
        spawn("search", Box::new(move || searcher.run(&searches_of_reader)))?;
        spawn("checkpoint", Box::new(move || checkpointer.run(&to_checkpoint)))?;
        Ok(SqliteJournal {
            epoch: life.epoch,
            secret: life.secret,
            opened_at,
            mark: life.mark,
            emitted: opened_at,
            drafts: Vec::new(),
            in_flight: InFlight::new(limits),
            ready: VecDeque::new(),
            events,
            board,
            queues: Some(Queues { work, pages, searches }),
            closing,
            running,
        })
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(super) fn secret(&self) -> [u8; 32] {
        self.secret
    }

    pub(super) fn opened_at(&self) -> Position {
        self.opened_at
    }

    pub(super) fn stats(&self) -> StoreStats {
        self.board.read()
    }

    pub(super) fn has_room(&self) -> bool {
        self.in_flight.has_room()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    pub(super) fn in_flight_bytes(&self) -> usize {
        self.in_flight.bytes()
    }

    pub(super) fn append(&mut self, draft: Draft) {
        self.in_flight.push(&draft, ());
        self.drafts.push(draft);
    }

    pub(super) fn read(&mut self, mut read: Read) {
        read.end_with(self.emitted);
        let queues = self.queues.as_ref().expect("the journal is open");
        let queue = match read.range {
            Range::After { .. } | Range::Before(_) => &queues.pages,
            Range::Matching { .. } => &queues.searches,
        };
        if let Err(unread) = queue.send(read) {
            self.ready.push_back(history::unavailable(unread.0));
        }
    }

    pub(super) fn flush(&mut self) {
        if self.drafts.is_empty() {
            return;
        }
        let drafts = std::mem::take(&mut self.drafts);
        let queues = self.queues.as_ref().expect("the journal is open");
        if let Err(unsent) = queues.work.send(Work::Append(drafts)) {
            // The thread is gone, which must not happen. Nobody may believe that it stores anything.
            let Work::Append(drafts) = unsent.0 else { return };
            self.ready.push_back(Event::Status(Status::Waiting));
            let refused = drafts.into_iter().map(|draft| Event::Refused { draft, reason: Refused::Unavailable });
            self.ready.extend(refused);
        }
    }

    pub(super) fn poll_event(&mut self) -> Option<Event> {
        if self.ready.is_empty() {
            self.ready = self.events.try_recv().ok()?.into();
        }
        let event = self.ready.pop_front()?;
        if let Event::Entry(entry) = &event {
            self.emitted = entry.position;
        }
        if event.ends_draft() {
            self.in_flight.pop();
        }
        Some(event)
    }

    #[cfg(test)]
    fn with_connection(&self, act: impl FnOnce(&mut rusqlite::Connection) + Send + 'static) {
        let queues = self.queues.as_ref().expect("the journal is open");
        queues.work.send(Work::With(Box::new(act))).expect("the thread runs");
    }
}

impl Drop for SqliteJournal {
    /// Waits until everything is stored, but not for ever.
    fn drop(&mut self) {
        self.flush();
        self.closing.store(true, Ordering::Relaxed);
        if let Some(queues) = self.queues.take() {
            let _ = queues.work.send(Work::Close);
        }
        let deadline = Instant::now() + CLOSE_TIMEOUT;
        let wait = self.running.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        if wait == Err(RecvTimeoutError::Timeout) {
            tracing::error!("the store could not be closed within {CLOSE_TIMEOUT:?}");
        }
    }
}

impl fmt::Debug for SqliteJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteJournal")
            .field("epoch", &self.epoch)
            .field("emitted", &self.emitted)
            .field("in_flight", &self.in_flight.len())
            .finish_non_exhaustive()
    }
}
