//! The thread that writes. It takes all that waits as one batch, stores it in one transaction, and only then tells of it.
//!
//! When that fails, the batch is refused and so is what follows, until a write succeeds again: the next batch that comes
//! after a pause, or a small one of its own if nobody says anything. Between the batches it keeps the file in order.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};

use crate::chat::entry::{Draft, Position};
use crate::journal::contract::{Event, Refused, Status};
use crate::journal::ordered::Ordered;
use crate::journal::outbound::Outbound;

use super::append::{self, Appender, Failed, What};
use super::open::Lock;
use super::queue;
use super::report::{Board, Marks, Reporter};
use super::schema;
use super::upkeep::{Step, Upkeep};

/// Drafts of one transaction. Whoever comes next waits for it to end.
const MAX_BATCH: usize = 1_000;
/// How long nothing is tried after a failure: the first time, and at the most.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// What is written to see whether the disk takes anything: more than what may be left of its last block.
const PROBE_BYTES: i64 = 64 * 1024;
/// How long a search makes appends wait while it brings the index up to date, about: if there are none when it begins,
/// and if there are. Then it does nothing where a step has been taken already, and is told to ask again.
const INDEX_TIME: Duration = Duration::from_millis(20);
const INDEX_TIME_AMONG_APPENDS: Duration = Duration::from_millis(5);
/// Nothing is due so late that this would not wake the thread earlier.
const IDLE: Duration = Duration::from_secs(60);

/// What the thread is asked to do.
pub(super) enum Work {
    /// Store these, in this order.
    Append(Vec<Draft>),
    /// Keep these, which are in order already.
    Keep(Ordered),
    /// Keep this key, which all instances have.
    KeepKey([u8; 32]),
    /// Bring the index closer to what was sent before, and say whether there is nothing left to do.
    Index(Sender<bool>),
    /// Store what was sent before, and end.
    Close,
    /// Do something to the connection.
    #[cfg(test)]
    With(Box<dyn FnOnce(&mut Connection) + Send>),
}

/// The writing side of the file.
pub(super) struct Writer {
    connection: Connection,
    appender: Appender,
    upkeep: Upkeep,
    reporter: Reporter,
    work: Receiver<Work>,
    events: Outbound,
    health: Health,
    waiting: VecDeque<Draft>,
    /// What a bus has put in order.
    ordered: VecDeque<Ordered>,
    searches: Vec<Sender<bool>>,
    /// Set from outside, for a thread that is not reading its work.
    closing: Arc<AtomicBool>,
    is_closing: bool,
    /// Released after everything else.
    _lock: Lock,
}

enum Health {
    Fine,
    /// Nothing could be written. It is tried again at `retry_at`.
    Failing {
        retry_at: Instant,
        pause: Duration,
    },
}

impl Writer {
    pub(super) fn new(
        path: &Path,
        connection: Connection,
        lock: Lock,
        upkeep: Upkeep,
        work: Receiver<Work>,
        events: Outbound,
        closing: Arc<AtomicBool>,
    ) -> rusqlite::Result<Self> {
        let appender = Appender::new(&connection)?;
        let reporter = Reporter::new(path, marks(&appender, &upkeep), Instant::now());
        Ok(Writer {
            appender,
            connection,
            upkeep,
            reporter,
            work,
            events,
            health: Health::Fine,
            waiting: VecDeque::new(),
            ordered: VecDeque::new(),
            searches: Vec::new(),
            closing,
            is_closing: false,
            _lock: lock,
        })
    }

    pub(super) fn last(&self) -> Position {
        self.appender.last()
    }

    pub(super) fn board(&self) -> Board {
        self.reporter.board()
    }

    pub(super) fn run(mut self) {
        loop {
            self.receive();
            if !self.waiting.is_empty() {
                self.append();
            } else if self.may_keep(Instant::now()) {
                self.keep();
            } else if self.is_closing {
                break;
            } else {
                self.probe();
            }
            let step = match self.health {
                Health::Fine => self.upkeep.step(&mut self.connection, &mut self.appender, Instant::now()),
                Health::Failing { .. } => None,
            };
            self.serve_searches(step);
            self.reporter.tell(marks(&self.appender, &self.upkeep), Instant::now());
        }
        self.close();
    }

    /// Takes all the work there is. If there is none, and nothing else is due, it waits for some.
    fn receive(&mut self) {
        let now = Instant::now();
        let due = match self.health {
            Health::Fine => self.upkeep.due(self.appender.last(), now),
            Health::Failing { retry_at, .. } => Some(retry_at),
        };
        let due = due.into_iter().chain(self.reporter.due()).min();
        let patience = due.map_or(IDLE, |due| due.saturating_duration_since(now).min(IDLE));
        let mut work = if self.waiting.is_empty() && !self.may_keep(now) && !patience.is_zero() {
            queue::receive(&self.work, patience)
        } else {
            self.work.try_recv().map_err(|_| RecvTimeoutError::Timeout)
        };
        loop {
            match work {
                Ok(Work::Append(drafts)) => self.waiting.extend(drafts),
                Ok(Work::Keep(ordered)) => self.ordered.push_back(ordered),
                Ok(Work::KeepKey(key)) => self.keep_key(key),
                Ok(Work::Index(done)) => self.searches.push(done),
                Ok(Work::Close) | Err(RecvTimeoutError::Disconnected) => self.is_closing = true,
                #[cfg(test)]
                Ok(Work::With(act)) => act(&mut self.connection),
                Err(RecvTimeoutError::Timeout) => return,
            }
            if self.is_closing {
                return;
            }
            work = self.work.try_recv().map_err(|_| RecvTimeoutError::Timeout);
        }
    }

    /// Stores the next batch and tells what came of it.
    fn append(&mut self) {
        let now = Instant::now();
        let count = self.waiting.len().min(MAX_BATCH);
        let drafts: Vec<Draft> = self.waiting.drain(..count).collect();
        if let Health::Failing { retry_at, .. } = self.health
            && now < retry_at
        {
            self.refuse(drafts);
            return;
        }
        let outcome = self.appender.append(&self.connection, drafts).or_else(|failed| self.resolve(*failed));
        match outcome {
            Ok(events) => {
                self.reporter.stored(count, now.elapsed());
                self.recovered();
                let new = events.iter().filter(|event| matches!(event, Event::Entry(_))).count();
                self.events.send(events);
                self.upkeep.appended(&self.connection, new as u64, now);
            }
            Err(failed) => {
                self.failed(&failed.error);
                self.refuse(failed.batch.into_drafts());
            }
        }
    }

    /// Whether there is something in order to be kept, and it may be tried.
    fn may_keep(&self, now: Instant) -> bool {
        let may_try = match self.health {
            Health::Fine => true,
            Health::Failing { retry_at, .. } => retry_at <= now,
        };
        may_try && !self.ordered.is_empty()
    }

    /// Keeps the next of what is in order, and tells it. It cannot be refused, so it waits until it can be kept.
    fn keep(&mut self) {
        let (mut count, mut batches) = (0, 0);
        for ordered in &self.ordered {
            count += ordered.events.len();
            batches += 1;
            if count >= MAX_BATCH {
                break;
            }
        }
        match self.appender.keep(&self.connection, &self.ordered.make_contiguous()[..batches]) {
            Ok(new) => {
                self.recovered();
                self.events.send(self.ordered.drain(..batches).flat_map(|ordered| ordered.events).collect());
                self.upkeep.appended(&self.connection, new, Instant::now());
            }
            Err(error) => {
                // What has gone into the file makes space in the log.
                super::upkeep::checkpoint(&self.connection);
                self.upkeep.doubt_count();
                self.failed(&error);
            }
        }
    }

    fn keep_key(&self, key: [u8; 32]) {
        if let Err(error) = schema::keep_secret(&self.connection, key) {
            tracing::warn!("the key of all instances is not kept, and is asked for again next time: {error}");
        }
    }

    /// Finds out what became of a batch whose commit failed: such a failure may come after the deed. Until that is known
    /// nothing else is written, and nobody is told anything.
    fn resolve(&mut self, failed: Failed) -> Result<Vec<Event>, Box<Failed>> {
        let What::Unclear(position) = failed.what else { return Err(Box::new(failed)) };
        loop {
            append::roll_back(&self.connection);
            let found = self.connection.query_row(
                "SELECT EXISTS (SELECT 1 FROM entries WHERE position = ?)",
                params![schema::number(position)],
                |row| row.get(0),
            );
            match found {
                Ok(true) if self.connection.is_autocommit() => return Ok(self.appender.committed(failed.batch)),
                Ok(false) => return Err(Box::new(failed)),
                _ if self.closing.load(Ordering::Relaxed) => return Err(Box::new(failed)),
                Ok(true) | Err(_) => {
                    self.failed(&failed.error);
                    thread::sleep(FIRST_PAUSE);
                }
            }
        }
    }

    fn refuse(&self, drafts: Vec<Draft>) {
        let refused = |draft| Event::Refused { draft, reason: Refused::Unavailable };
        self.events.send(drafts.into_iter().map(refused).collect());
    }

    fn failed(&mut self, error: &rusqlite::Error) {
        let pause = match self.health {
            Health::Fine => {
                tracing::error!("messages cannot be stored, and wait or are refused until they can be: {error}");
                self.events.send(vec![Event::Status(Status::Waiting)]);
                FIRST_PAUSE
            }
            Health::Failing { pause, .. } => (pause * 2).min(LONGEST_PAUSE),
        };
        self.health = Health::Failing { retry_at: Instant::now() + pause, pause };
    }

    fn recovered(&mut self) {
        if matches!(self.health, Health::Failing { .. }) {
            tracing::info!("messages can be stored again");
            self.health = Health::Fine;
            self.events.send(vec![Event::Status(Status::Ok)]);
        }
    }

    /// Tries whether anything can be written, while nobody says anything.
    fn probe(&mut self) {
        match self.health {
            Health::Failing { retry_at, .. } if retry_at <= Instant::now() => {}
            Health::Fine | Health::Failing { .. } => return,
        }
        // What has gone into the file makes space in the log.
        super::upkeep::checkpoint(&self.connection);
        append::roll_back(&self.connection);
        let probe = self
            .connection
            .execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('probe', zeroblob(?))", [PROBE_BYTES])
            .and_then(|_| self.connection.execute("DELETE FROM meta WHERE key = 'probe'", []));
        match probe {
            Ok(_) => self.recovered(),
            Err(error) => self.failed(&error),
        }
    }

    /// Brings the index up to date for those who search, in a pass in which this `step` was taken.
    fn serve_searches(&mut self, step: Option<Step>) {
        if self.searches.is_empty() {
            return;
        }
        let last = self.appender.last();
        let is_idle = self.waiting.is_empty() && !self.may_keep(Instant::now());
        let time = match step {
            _ if is_idle => INDEX_TIME,
            None => INDEX_TIME_AMONG_APPENDS,
            Some(Step::Index | Step::Trim) => Duration::ZERO,
        };
        let is_complete = self.upkeep.index_now(&mut self.connection, last, time);
        for search in self.searches.drain(..) {
            // Whoever does not wait any more has given up.
            let _ = search.send(is_complete);
        }
    }

    /// Notes that everything was written, and leaves one file.
    fn close(self) {
        append::roll_back(&self.connection);
        let end = self
            .connection
            .pragma_update(None, "synchronous", "FULL")
            .and_then(|()| schema::end_life(&self.connection));
        if let Err(error) = end {
            tracing::warn!("the store was not closed in order: {error}");
        }
        if let Err(error) = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
            tracing::debug!("no last checkpoint: {error}");
        }
    }
}

fn marks(appender: &Appender, upkeep: &Upkeep) -> Marks {
    Marks { last: appender.last(), counts: upkeep.counts() }
}
