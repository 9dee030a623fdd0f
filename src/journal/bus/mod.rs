//! The journal of many instances: a bus puts in order what all of them say, and each keeps it in its own store.
//!
//! ```text
//! append → bus thread: published in batches → log → followed → what is new (`sequence`) → stored → poll_event
//! ```
//!
//! This file is the side of the loop, which never waits. One thread (`conductor`) runs the client of a broker. It
//! publishes drafts under ids of their own, follows the log from behind what is stored, recognises its own drafts when
//! they come back, and drops what was published or said twice. What is new goes to the store, which tells it when it is
//! kept; without one it is told at once. `driver` is the contract with the client of a broker, `wire` the records as
//! bytes, and `sequence` decides, without doing anything, what each record is.
//!
//! What was handed over is never refused: while the bus is away it waits, within the bounds of what may be in flight.
//! Nothing is handed to the store faster than the loop takes it, so a disk that is full stops the reading of the log.

mod conductor;
mod driver;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;
#[cfg(feature = "redis")]
mod redis;
mod sequence;
mod shared;
mod state;
mod wire;

#[cfg(test)]
#[path = "../../../tests/common/brokers.rs"]
mod brokers;
#[cfg(test)]
mod contract;
#[cfg(test)]
mod local;
#[cfg(test)]
#[allow(unreachable_pub, reason = "the tests of the whole program use it as well")]
#[path = "../../../loadtest/src/port.rs"]
mod port;
#[cfg(test)]
pub(super) mod simulated;
#[cfg(test)]
mod tests;
#[cfg(all(test, any(feature = "nats", feature = "rabbitmq")))]
mod trials;

use std::collections::VecDeque;
use std::fmt::{self, Display};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::chat::entry::{Draft, Epoch, Position};
use crate::limits::Limits;

use super::contract::{Event, Found, Lost, Page, Range, Read, Refused, SearchError, Status, StoreStats};
use super::in_flight::InFlight;
use super::outbound::Outbound;
use super::sqlite::{OpenError, SqliteJournal, SyncMode};
#[cfg(test)]
pub(super) use conductor::StandIn;
use conductor::{Conductor, Keeps, Order};
use driver::Driver;
use shared::Shared;

/// How long the start waits for the bus. After that it goes on without.
const START_PATIENCE: Duration = Duration::from_secs(3);
/// How long the end waits for what is being published.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Which bus, and how it is used.
#[derive(Clone, PartialEq, Eq)]
pub struct BusOptions {
    /// Where it is: `redis://…` and the like.
    pub url: String,
    /// What the names of everything on it begin with.
    pub prefix: String,
    /// The instances have a common key from elsewhere, and need none from the bus.
    pub has_key: bool,
}

impl fmt::Debug for BusOptions {
    /// Leaves out the URL, which may have a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BusOptions").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// Why there is no journal, in a sentence for whoever started the program.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The URL names no bus that this program can reach.
    #[error("--bus: {0}")]
    Url(String),
    /// The store cannot be had.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The system refuses what is needed.
    #[error("cannot start the journal: {0}")]
    System(#[from] std::io::Error),
}

/// Why the instance cannot do its part now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unready {
    /// The bus is not reached.
    Away,
    /// What was missed is being read.
    Behind,
    /// What the bus brings cannot be stored.
    Store,
}

impl Display for Unready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unready::Away => "the bus cannot be reached",
            Unready::Behind => "what was missed is being read from the bus",
            Unready::Store => "messages cannot be stored",
        })
    }
}

/// What is known of the bus, to be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BusGauges {
    /// It is reached, and what is published comes back.
    pub is_up: bool,
    /// Records of the log that have not been read, as far as is known.
    pub lag: u64,
    /// Times that the bus was lost, or not reached.
    pub reconnects: u64,
}

/// What keeps for this instance what the bus has put in order.
enum Kept {
    File(Box<SqliteJournal>),
    #[cfg(test)]
    Simulated(Box<super::simulated::KeptForBus>),
}

/// Does the same with a store of any kind.
macro_rules! of_kept {
    ($kept:expr, $it:ident => $what:expr) => {
        match $kept {
            Kept::File($it) => $what,
            #[cfg(test)]
            Kept::Simulated($it) => $what,
        }
    };
}

/// A journal whose order comes from a bus.
pub struct BusJournal {
    epoch: Epoch,
    key: [u8; 32],
    store: Option<Kept>,
    to_bus: UnboundedSender<Order>,
    /// The turn's drafts.
    drafts: Vec<Draft>,
    /// Drafts that are in flight, each with since when.
    in_flight: InFlight<Instant>,
    /// How long drafts took that have come back and were not asked about.
    returned: Vec<Duration>,
    emitted: Position,
    ready: VecDeque<Event>,
    events: Receiver<Vec<Event>>,
    is_down: bool,
    is_store_failing: bool,
    shared: Arc<Shared>,
    /// Disconnected when the thread has ended.
    running: Receiver<()>,
}

impl BusJournal {
    /// Begins to follow the bus that `options` name, with a store at `path` or without one. `wake` is called from other
    /// threads whenever there is something for `poll_event`. The bus need not be there.
    ///
    /// # Errors
    ///
    /// When the URL is of no bus that can be used, or the store cannot be had.
    pub fn open(
        options: &BusOptions,
        path: Option<&Path>,
        sync: SyncMode,
        limits: &Limits,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, BusError> {
        let scheme = options.url.split_once(':').map_or("", |(scheme, _)| scheme);
        match scheme {
            #[cfg(feature = "redis")]
            "redis" | "rediss" | "valkey" | "valkeys" | "redis+unix" | "unix" => {
                let driver = redis::Redis::new(&options.url, &options.prefix, limits.bus_keep_entries);
                Self::over(driver.map_err(BusError::Url)?, options.has_key, path, sync, limits, wake)
            }
            #[cfg(feature = "rabbitmq")]
            "amqp" | "amqps" => {
                let driver = rabbitmq::RabbitMq::new(&options.url, &options.prefix, limits.bus_keep_entries);
                Self::over(driver.map_err(BusError::Url)?, options.has_key, path, sync, limits, wake)
            }
            #[cfg(feature = "nats")]
            "nats" | "tls" => {
                let driver = nats::Nats::new(&options.url, &options.prefix, limits.bus_keep_entries);
                Self::over(driver.map_err(BusError::Url)?, options.has_key, path, sync, limits, wake)
            }
            _ => Err(BusError::Url(format!("this program knows no bus of the scheme {scheme:?}"))),
        }
    }

    /// The same over a driver.
    fn over<D: Driver + Send>(
        driver: D,
        has_key: bool,
        path: Option<&Path>,
        sync: SyncMode,
        limits: &Limits,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, BusError> {
        let wake: Arc<dyn Fn() + Send + Sync> = Arc::new(wake);
        let store = path.map(|path| {
            let wake = Arc::clone(&wake);
            SqliteJournal::open_for_bus(path, sync, limits, move || wake())
        });
        let store = store.transpose()?.map(Box::new);
        let random = |error: getrandom::Error| BusError::System(error.into());
        let (mut key, mut epoch) = ([0; 32], Epoch(getrandom::u64().map_err(random)?));
        getrandom::fill(&mut key).map_err(random)?;
        if let Some(store) = &store {
            (key, epoch) = (store.secret(), store.epoch());
        }
        let (events_out, events) = channel();
        let (to_bus, orders) = unbounded_channel();
        let (run, running) = channel();
        let (begin, begun) = channel();
        let shared = Arc::new(Shared::default());
        let opened_at = store.as_ref().map_or(Position::START, |store| store.opened_at());
        let keeps = match &store {
            Some(store) => Keeps::Store { keeper: store.keeper(), mark: store.mark(), last: opened_at },
            None => Keeps::Nothing,
        };
        let outbound = Outbound { events: events_out, wake };
        let fall = Fall { shared: Arc::clone(&shared), outbound: outbound.clone() };
        let key_to_propose = (!has_key).then_some(key);
        let instance = getrandom::u64().map_err(random)?;
        let conductor_shared = Arc::clone(&shared);
        let canary = limits.bus_canary_interval;
        let body = move || {
            let conductor =
                Conductor::new(driver, keeps, outbound, key_to_propose, instance, canary, conductor_shared, begin);
            conductor.run(orders);
            drop((fall, run));
        };
        thread::Builder::new().name("bus".to_owned()).spawn(body)?;
        // Most often the bus is there, and nobody is told of an epoch that is none.
        let _ = begun.recv_timeout(START_PATIENCE);
        Ok(BusJournal {
            epoch,
            key,
            store: store.map(Kept::File),
            to_bus,
            drafts: Vec::new(),
            in_flight: InFlight::new(limits),
            returned: Vec::new(),
            emitted: opened_at,
            ready: VecDeque::new(),
            events,
            is_down: false,
            is_store_failing: false,
            shared,
            running,
        })
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The key until the bus tells another.
    pub(super) fn secret(&self) -> [u8; 32] {
        self.key
    }

    pub(super) fn opened_at(&self) -> Position {
        self.store.as_ref().map_or(Position::START, |store| of_kept!(store, it => it.opened_at()))
    }

    pub(super) fn keeps_history(&self) -> bool {
        self.store.is_some()
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

    /// Whether the instance does its part.
    pub(super) fn readiness(&self) -> Result<(), Unready> {
        if self.is_store_failing { Err(Unready::Store) } else { self.shared.readiness() }
    }

    pub(super) fn gauges(&self) -> BusGauges {
        BusGauges {
            is_up: self.shared.is_up(),
            lag: self.shared.lag.load(Ordering::Relaxed),
            reconnects: self.shared.reconnects.load(Ordering::Relaxed),
        }
    }

    /// How the store fares, if there is one.
    pub(super) fn store_stats(&self) -> Option<StoreStats> {
        match self.store.as_ref()? {
            Kept::File(store) => Some(store.stats()),
            #[cfg(test)]
            Kept::Simulated(_) => None,
        }
    }

    /// How long drafts took to come back since this was last asked.
    pub(super) fn take_returned(&mut self) -> impl Iterator<Item = Duration> {
        self.returned.drain(..)
    }

    /// Only drafts with an origin count as in flight, since it is by that that they are known again.
    pub(super) fn append(&mut self, draft: Draft) {
        if draft.origin.is_some() {
            self.in_flight.push(&draft, Instant::now());
        }
        self.drafts.push(draft);
    }

    pub(super) fn flush(&mut self) {
        if !self.drafts.is_empty() {
            // If the thread is gone, which must not happen, this waits, and so will everybody.
            let _ = self.to_bus.send(Order::Append(std::mem::take(&mut self.drafts)));
        }
    }

    /// Tells all other instances something, if it gets through.
    pub(super) fn whisper(&mut self, message: Bytes) {
        let _ = self.to_bus.send(Order::Whisper(message));
    }

    /// Asks for everything that is on the bus by now.
    pub(super) fn level(&mut self, question: u64) {
        let _ = self.to_bus.send(Order::Level(question));
    }

    pub(super) fn read(&mut self, read: Read) {
        if let Some(store) = &mut self.store {
            return of_kept!(store, it => it.read(read));
        }
        let Read { ticket, room, range, .. } = read;
        let (more, floor) = (false, self.emitted);
        self.ready.push_back(match range {
            Range::Matching { .. } => {
                Event::Found(Found { ticket, room, hits: Err(SearchError::Unavailable), more, floor })
            }
            Range::After { .. } | Range::Before(_) => {
                Event::Page(Page { ticket, room, entries: Err(Refused::Unavailable), more, in_range: 0, floor })
            }
        });
    }

    pub(super) fn poll_event(&mut self) -> Option<Event> {
        loop {
            let (event, is_of_store) = self.next_event()?;
            match &event {
                Event::Entry(entry) => {
                    self.emitted = entry.position;
                    self.land(&event, entry.origin.is_some());
                }
                Event::Repeat(entry) => self.land(&event, entry.origin.is_some()),
                Event::Refused { draft, .. } => self.land(&event, draft.origin.is_some()),
                Event::Lost(Lost { epoch, upto }) => {
                    self.epoch = *epoch;
                    self.emitted = self.emitted.max(*upto);
                    self.land(&event, false);
                }
                Event::Status(status) => {
                    let before = self.status();
                    if is_of_store {
                        self.is_store_failing = *status != Status::Ok;
                    } else {
                        self.is_down = *status != Status::Ok;
                    }
                    if self.status() == before {
                        continue;
                    }
                    return Some(Event::Status(self.status()));
                }
                Event::Level(_) => self.land(&event, false),
                Event::Page(_) | Event::Found(_) | Event::Key(_) | Event::Whisper(_) => {}
            }
            return Some(event);
        }
    }

    /// What happened next, and whether the store tells it.
    fn next_event(&mut self) -> Option<(Event, bool)> {
        if self.ready.is_empty()
            && let Ok(events) = self.events.try_recv()
        {
            self.ready = events.into();
        }
        match self.ready.pop_front() {
            Some(event) => Some((event, false)),
            None => {
                let event = of_kept!(self.store.as_mut()?, it => it.poll_event())?;
                Some((event, true))
            }
        }
    }

    /// The loop has taken something of the log; `is_ours` if it was said here.
    fn land(&mut self, event: &Event, is_ours: bool) {
        self.shared.took(shared::weight(event));
        if is_ours && let Some(since) = self.in_flight.pop() {
            self.returned.push(since.elapsed());
        }
    }

    fn status(&self) -> Status {
        match (self.is_down, self.is_store_failing) {
            (true, _) => Status::BusDown,
            (false, true) => Status::Waiting,
            (false, false) => Status::Ok,
        }
    }
}

/// Goes with the thread. If that has fallen over, which must not happen, nothing of the bus comes any more.
struct Fall {
    shared: Arc<Shared>,
    outbound: Outbound,
}

impl Drop for Fall {
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!("the thread of the bus is gone, and this instance has to be started again");
            self.shared.went_away();
            self.outbound.send(vec![Event::Status(Status::BusDown)]);
        }
    }
}

impl Drop for BusJournal {
    /// Waits until what was said is published, but not for ever, and not for a bus that is away.
    fn drop(&mut self) {
        self.flush();
        let _ = self.to_bus.send(Order::Close);
        if self.running.recv_timeout(CLOSE_TIMEOUT) == Err(RecvTimeoutError::Timeout) {
            tracing::error!("the bus could not be left within {CLOSE_TIMEOUT:?}");
        }
    }
}

impl fmt::Debug for BusJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BusJournal")
            .field("epoch", &self.epoch)
            .field("emitted", &self.emitted)
            .field("in_flight", &self.in_flight.len())
            .finish_non_exhaustive()
    }
}
